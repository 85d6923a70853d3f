r"""Training: one plain loop for every objective, on one device or on many processes.

.. code-block:: text

    for each step: draw a batch, its levels and noises, from two generators
        for each part of the batch: loss of its rows / size of the batch, backward
        clip the gradient, set the rate, a step of AdamW, the moving average

A batch is drawn whole, wherever it is computed: neither the parts of gradient accumulation nor the number of
processes changes what is drawn. No global generator is used. A run that was stopped and goes on from its
checkpoint is the run that was not stopped, to the bit, on the same machine.

Several processes: ``torchrun --nproc_per_node 2 -m refdiff.train …`` with the arguments of ``refdiff train``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from refdiff import checkpoint, nets
from refdiff._train_settings import DTYPES, Settings, network_of
from refdiff._train_world import World, launched
from refdiff.checkpoint import Checkpoint, Header
from refdiff.datasets import Dataset
from refdiff.ema import EMA
from refdiff.objective import Draws, Objective

__all__ = ["Row", "Run", "Settings", "World", "launched", "network_of", "train"]

FILE, CURVE, PICTURE, SETTINGS = "model.safetensors", "losses.jsonl", "losses.png", "settings.json"
Batch = tuple[Tensor, Tensor | None, Draws]


@dataclass(frozen=True)
class Row:
    """A step of the loss curve: its number from 1, the mean loss of its batch, the norm of the gradient
    before it was clipped, and the rate."""

    step: int
    loss: float
    gradient: float
    rate: float


class Model(nn.Module):
    """A network and its objective as one module, which returns the loss of each sample, so that it can be
    wrapped for several processes. Under autocast only the network is computed in the short dtype."""

    def __init__(self, net: nn.Module, goal: Objective, autocast: bool) -> None:
        super().__init__()
        self.net, self.goal, self.autocast = net, goal, autocast

    def forward(self, x_0: Tensor, label: Tensor | None, draws: Draws) -> Tensor:
        return self.goal.loss(self.asked, x_0, label, draws)

    def asked(self, x: Tensor, *rest: Tensor | None) -> Tensor:
        """The network's output in the dtype of x."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            output: Tensor = self.net(x, *rest)
        return output.to(x.dtype)


class Run:
    """All that changes in training: a fresh run of some settings, or one that goes on.

    Args:
        settings: of the training.
        world: the processes.

    Raises:
        ValueError: settings that do not fit each other or the data.
    """

    def __init__(self, settings: Settings, world: World | None = None) -> None:
        self.settings, self.world = settings, world or World()
        self.data: Dataset = settings.load_data()
        self.goal: Objective = settings.goal(self.data)
        self.labelled = settings.labelled(self.goal, self.data)
        if settings.autocast and self.goal.differentiated:
            # torch has no second derivative of some layers whose dtypes autocast mixes
            what = "whose network is differentiated by its input"
            raise ValueError(f"autocast must be off for {settings.model}, {what}")
        self.net_name, arguments = network_of(self.data, self.goal, settings)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(4 * settings.seed)
            net = nets.build(self.net_name, arguments)
        self.net: Any = net.to(self.world.device, DTYPES[settings.dtype])
        self.model = self.world.wrapped(Model(self.net, self.goal, settings.autocast))
        self.ema = EMA(self.net.named_parameters(), settings.ema, settings.ema_warm_up)
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(),
            settings.rate,
            (settings.beta_1, settings.beta_2),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.batches = torch.Generator().manual_seed(4 * settings.seed + 1)
        self.noises = torch.Generator().manual_seed(4 * settings.seed + 2)
        self.step = 0

    def draw(self) -> Batch:
        """The next batch: data, labels for the network, levels and noises, on the CPU."""
        s = self.settings
        index = torch.randint(len(self.data), (s.batch,), generator=self.batches)
        dropped = torch.rand(s.batch, dtype=torch.float64, generator=self.batches) < s.label_drop
        x_0, label = self.data.x[index], None
        if self.labelled:
            assert self.data.labels is not None
            label = self.data.labels[index]
            if self.goal.kind != "classifier":
                label = torch.where(dropped, self.data.classes, label)
        return x_0, label, self.goal.draw(x_0, self.noises, self.step, s.steps)

    def backward(self, batch: Batch) -> float:
        """The mean loss of a batch; its gradient is left on the parameters, on every process the same."""
        x_0, label, draws = batch
        own, device = self.world.rows(len(x_0)), self.world.device
        parts = torch.arange(own.start, own.stop).chunk(self.settings.accumulate)
        self.optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), dtype=torch.float64, device=device)
        for k, rows in enumerate(parts):
            here = {name: value[rows].to(device) for name, value in draws.items()}
            labels = None if label is None else label[rows].to(device)
            with self.world.apart(self.model, k < len(parts) - 1), self._masks(k):
                losses = self.model(x_0[rows].to(device), labels, here)
                # the mean over the processes is taken by the wrapped model: the share of one divides here
                (losses.sum() / len(own)).backward()
            total += losses.detach().double().sum()
        return self.world.sum(total) / len(x_0)

    def advance(self) -> Row:
        """One step of training.

        Raises:
            ValueError: a gradient that is not finite.
        """
        s = self.settings
        loss = self.backward(self.draw())
        norm = float(clip_grad_norm_(self.net.parameters(), s.clip or float("inf")))
        if not norm < float("inf"):
            raise ValueError(f"gradient must be finite, got norm {norm} at step {self.step + 1}, loss {loss}")
        for group in self.optimiser.param_groups:
            group["lr"] = s.rate_at(self.step)
        self.optimiser.step()
        self.ema.update(self.net.named_parameters())
        self.step += 1
        return Row(self.step, loss, norm, s.rate_at(self.step - 1))

    @contextmanager
    def _masks(self, part: int) -> Iterator[None]:
        """Dropout takes masks from torch's own generators: they are seeded for it here, and put back."""
        if not any(isinstance(module, nn.Dropout) and module.p for module in self.net.modules()):
            yield
            return
        device = self.world.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            place = (self.step * self.settings.accumulate + part) * self.world.size + self.world.rank
            # the generator of the CPU takes 32 bits; an odd factor sends places to different ones
            seed = (4 * self.settings.seed + 3 + 2654435761 * place) % 2**32
            torch.default_generator.manual_seed(seed)
            if device.type == "cuda":
                torch.cuda.manual_seed(seed)
            yield

    def checkpoint(self) -> Checkpoint:
        """All that the run needs to go on."""
        names = [name for name, _ in self.net.named_parameters()]
        states = self.optimiser.state_dict()["state"]
        slots = {f"{kind}.{names[i]}": value for i, state in states.items() for kind, value in state.items()}
        header = Header(
            net=self.net_name,
            net_settings=self.net.settings,
            objective=self.settings.model,
            objective_settings=self.goal.settings,
            shape=self.data.shape,
            classes=self.data.classes if self.labelled else 0,
            step=self.step,
            updates=self.ema.updates,
            settings=asdict(self.settings),
        )
        generators = {"batches": self.batches.get_state(), "noises": self.noises.get_state()}
        return Checkpoint(header, self.net.state_dict(), self.ema.average, slots, generators)

    def restore(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint.

        Args:
            saved: of a run with these settings, but for the number of steps, the parts of a batch and how
                often it is saved.

        Raises:
            ValueError: a checkpoint of another run, or one without the state of a training.
        """
        free = {"steps": 0, "accumulate": 0, "save_every": 0}
        given, own = {**saved.header.settings, **free}, {**asdict(self.settings), **free}
        for name, value in own.items():
            if given.get(name) != value:
                raise ValueError(f"settings must have {name} = {given.get(name)!r} to go on, got {value!r}")
        header, expected = saved.header, self.checkpoint().header
        for name in ("net", "net_settings", "objective", "objective_settings", "shape", "classes"):
            if getattr(header, name) != getattr(expected, name):
                values = f"{getattr(expected, name)!r}, got {getattr(header, name)!r}"
                raise ValueError(f"checkpoint must have {name} = {values}")
        self.net.load_state_dict(saved.net(average=False).state_dict())
        self.ema.load(saved.average, header.updates)
        self._restore_optimiser(saved)
        for name, generator in (("batches", self.batches), ("noises", self.noises)):
            if name not in saved.generators:
                raise ValueError(f"checkpoint must have the generator {name!r} to go on")
            try:
                generator.set_state(saved.generators[name])
            except RuntimeError as error:
                raise ValueError(f"checkpoint must have a state of the generator {name!r}: {error}") from None
        self.step = header.step

    def _restore_optimiser(self, saved: Checkpoint) -> None:
        states: dict[int, dict[str, Tensor]] = {}
        for i, (name, value) in enumerate(self.net.named_parameters()):
            states[i] = {}
            shapes = {"step": (), "exp_avg": tuple(value.shape), "exp_avg_sq": tuple(value.shape)}
            for kind, shape in shapes.items():
                slot = saved.optimiser.get(f"{kind}.{name}")
                if slot is None or tuple(slot.shape) != shape or not slot.is_floating_point():
                    raise ValueError(f"checkpoint must have the optimiser's {kind} of {name!r} to go on")
                states[i][kind] = slot
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": states, "param_groups": groups})


def train(
    settings: Settings,
    out: Path | None = None,
    *,
    world: World | None = None,
    resume: bool = False,
    until: int | None = None,
    progress: Callable[[Row], None] | None = None,
) -> Run:
    """Train to the last step.

    Args:
        settings: of the training.
        out: folder that gets the checkpoint, the loss curve as JSON lines and as a picture, and the settings;
            it is made. Only the process of rank 0 writes.
        world: the processes; this one alone on the CPU if not given.
        resume: go on from the checkpoint in the folder.
        until: the step to stop at, if not the last.
        progress: called with each row of the loss curve, on the process of rank 0.

    Returns:
        The run: its network, average and step.

    Raises:
        ValueError: settings that do not fit, a folder without a checkpoint to go on from or with one that
            would be overwritten, or a gradient that is not finite.
    """
    run = Run(settings, world)
    last = settings.steps if until is None else min(until, settings.steps)
    if resume:
        if out is None:
            raise ValueError("out must be given to resume, got None")
        run.restore(checkpoint.load(out / FILE))
    elif out is not None and (out / FILE).exists() and run.world.rank == 0:
        raise ValueError(f"out must have no {FILE} unless it is resumed, got {out}")
    folder = out if run.world.rank == 0 else None
    with _curve(run, folder) as write:
        while run.step < last:
            row = run.advance()
            write(row)
            if progress is not None and run.world.rank == 0:
                progress(row)
            if folder and settings.save_every and run.step % settings.save_every == 0 and run.step < last:
                checkpoint.save(folder / FILE, run.checkpoint())
    if folder:
        from refdiff import pictures

        checkpoint.save(folder / FILE, run.checkpoint())
        pictures.loss_curve(read_curve(folder / CURVE), folder / PICTURE)
    return run


def averaged(run: Run) -> nn.Module:
    """The network with the moving average of its weights, to be asked."""
    return run.checkpoint().net()


@contextmanager
def _curve(run: Run, folder: Path | None) -> Iterator[Callable[[Row], None]]:
    """The loss curve of a folder from the run's step on: rows of later steps, of a run that broke off after
    its checkpoint, are left out."""
    if folder is None:
        yield lambda row: None
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CURVE
    kept = [row for row in read_curve(path) if row.step <= run.step] if path.exists() and run.step else []
    about = {
        "settings": asdict(run.settings),
        "objective": run.goal.settings,
        "net": {"name": run.net_name, "settings": run.net.settings},
        "parameters": sum(value.numel() for value in run.net.parameters()),
        "samples": len(run.data),
        "torch": str(torch.__version__),
    }
    (folder / SETTINGS).write_text(json.dumps(about, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    with path.open("w", encoding="utf-8", buffering=1) as file:

        def write(row: Row) -> None:
            file.write(json.dumps(asdict(row)) + "\n")

        for row in kept:
            write(row)
        yield write


def read_curve(path: Path) -> list[Row]:
    """A loss curve; a last line that was not written to its end is left out.

    Raises:
        ValueError: another line that is no row.
    """
    lines = path.read_text(encoding="utf-8").split("\n")
    try:
        return [Row(**json.loads(line)) for line in lines[:-1]]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} must hold a row of JSON in each line: {error}") from None


if __name__ == "__main__":
    from refdiff.cli_train import main

    main()
