"""The commands that train a network and sample it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from refdiff.train import Row

Pairs = list[str] | None
JsonFile = Annotated[
    str, typer.Option("--json", metavar="FILE", help="Also write the result as JSON ('-': stdout).")
]
Device = Annotated[str, typer.Option(help="cpu, or cuda where there is one.")]
MODELS = (
    "ddpm, ddpm_x0, ddpm_v, hybrid, dsm, smld, sliced, energy, contrastive, flow, consistency, vdm or "
    "classifier."
)
DATA = "digits, iris, wine, breast_cancer, diabetes, mixture, moons, swiss_roll or checkerboard."


def train(
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint, the loss curve and the settings.")],
    model: Annotated[str, typer.Option(help=MODELS)] = "ddpm",
    data: Annotated[str, typer.Option(help=DATA)] = "digits",
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 5000,
    batch: Annotated[int, typer.Option(help="Samples of a step, on all processes together.")] = 64,
    accumulate: Annotated[int, typer.Option(help="Parts in which a batch is computed.")] = 1,
    rate: Annotated[float, typer.Option(help="Of AdamW.")] = 1e-3,
    warm_up: Annotated[int, typer.Option(help="Steps in which the rate rises.")] = 0,
    decay: Annotated[str, typer.Option(help="Of the rate: constant or cosine.")] = "constant",
    ema: Annotated[float, typer.Option(help="Decay of the moving average.")] = 0.999,
    seed: Annotated[int, typer.Option(help="Of weights, batches, levels and noises.")] = 0,
    conditional: Annotated[bool, typer.Option("--conditional", help="Tell the network the labels.")] = False,
    part: Annotated[str, typer.Option(help="Of the data: all, train or test.")] = "all",
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    autocast: Annotated[bool, typer.Option("--autocast", help="The network in bfloat16.")] = False,
    device: Device = "cpu",
    objective: Annotated[
        Pairs, typer.Option("--set", metavar="K=V", help="Of the model: T=200, schedule=cosine, ...")
    ] = None,
    net: Annotated[
        Pairs, typer.Option("--net", metavar="K=V", help="Of the network: base=64, multipliers=[1,2,2], ...")
    ] = None,
    more: Annotated[
        Pairs, typer.Option("--option", metavar="K=V", help="Any other setting: clip=0, label_drop=0.2, ...")
    ] = None,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints; 0: at the end.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the folder's checkpoint.")] = False,
    json_file: JsonFile = "",
) -> None:
    """Train a network; torchrun ... -m refdiff.train with these options trains on several processes."""
    from refdiff import train as topic
    from refdiff.cli import finish

    settings = topic.Settings.from_dict(
        {
            "model": model,
            "objective": values(objective),
            "data": data,
            "net_settings": values(net),
            "steps": steps,
            "batch": batch,
            "accumulate": accumulate,
            "rate": rate,
            "warm_up": warm_up,
            "decay": decay,
            "ema": ema,
            "seed": seed,
            "conditional": conditional,
            "part": part,
            "dtype": dtype,
            "autocast": autocast,
            "save_every": save_every,
            **values(more),
        }
    )
    with topic.launched(device) as world:
        with _shown(settings.steps, world.rank == 0) as progress:
            run = topic.train(settings, out, world=world, resume=resume, progress=progress)
        if world.rank != 0:
            return
    rows = topic.read_curve(out / topic.CURVE)
    last = rows[-min(len(rows), 100) :]
    result = {
        "checkpoint": str(out / topic.FILE),
        "steps": run.step,
        "parameters": sum(value.numel() for value in run.net.parameters()),
        "loss": sum(row.loss for row in last) / len(last),
    }
    text = "{checkpoint}: {steps} steps, {parameters} parameters, mean loss of the last steps {loss:.6g}"
    finish(text.format(**result), result, json_file)


def sample(
    checkpoint: Annotated[
        Path | None, typer.Option(help="Of 'refdiff train', or shipped: digits or mixture.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Picture of the samples.")] = None,
    sampler: Annotated[
        str, typer.Option(help="ddpm, ddim, dpmpp_2m, unipc_3, heun, edm_churn, flow, ... ('list': all).")
    ] = "",
    steps: Annotated[int, typer.Option(help="Steps of the sampler.")] = 50,
    eta: Annotated[float, typer.Option(help="η of ddim.")] = 0.0,
    count: Annotated[int, typer.Option(help="Number of samples.")] = 64,
    label: Annotated[list[int] | None, typer.Option(help="Class; once, or once for each sample.")] = None,
    scale: Annotated[float, typer.Option(help="Of guidance; 1 is the conditional law.")] = 1.0,
    classifier: Annotated[
        Path | None, typer.Option(help="Checkpoint of a classifier that guides the samples.")
    ] = None,
    spacing: Annotated[str, typer.Option(help="Of the levels: own, karras or geometric.")] = "own",
    seed: Annotated[int, typer.Option(help="Of the noises.")] = 0,
    weights: Annotated[str, typer.Option(help="average, or last for those of the last step.")] = "average",
    trajectory: Annotated[Path | None, typer.Option(help="Picture of how samples came about.")] = None,
    tensor: Annotated[Path | None, typer.Option(help="The samples as a safetensors file.")] = None,
    device: Device = "cpu",
    more: Annotated[
        Pairs, typer.Option("--option", metavar="K=V", help="variance=beta, inner=10, snr=0.1, churn=10, ...")
    ] = None,
    json_file: JsonFile = "",
) -> None:
    """Sample a trained network with any sampler of the library."""
    from refdiff import generate as topic
    from refdiff.cli import finish

    if sampler == "list":
        finish("\n".join(topic.SAMPLERS), list(topic.SAMPLERS), json_file)
        return
    from refdiff.checkpoint import load
    from refdiff.shipped import find

    if checkpoint is None:
        raise ValueError("checkpoint must be given, got none")
    if weights not in ("average", "last"):
        raise ValueError(f"weights must be average or last, got {weights!r}")
    if out is None and tensor is None and trajectory is None:
        raise ValueError("out must be given, or --tensor or --trajectory: nothing would be written")
    found = topic.generate(
        load(find(checkpoint)),
        sampler or None,
        _options({"steps": steps, "eta": eta, "spacing": spacing, **values(more)}),
        count=count,
        label=_label(label),
        scale=scale,
        classifier=None if classifier is None else load(classifier),
        seed=seed,
        average=weights == "average",
        trajectory=trajectory is not None,
        device=device,
    )
    written = []
    for path, moving in ((out, False), (trajectory, True)):
        if path is not None:
            topic.picture(found, path, trajectory=moving)
            written.append(str(path))
    if tensor is not None:
        import safetensors.torch

        parts = {"x": found.x.contiguous(), **({} if found.label is None else {"label": found.label})}
        safetensors.torch.save_file(parts, tensor)
        written.append(str(tensor))
    result = {"files": written, "samples": len(found.x), "evaluations": found.evaluations}
    text = f"{', '.join(written)}: {len(found.x)} samples, {found.evaluations} evaluations"
    finish(text, result, json_file)


def values(pairs: Sequence[str] | None) -> dict[str, Any]:
    """``NAME=VALUE`` pairs by name; a value that is JSON is read as it, another one is text."""
    found: dict[str, Any] = {}
    for pair in pairs or []:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise ValueError(f"{pair!r} is not of the form NAME=VALUE")
        try:
            found[name.strip()] = json.loads(text)
        except ValueError:
            found[name.strip()] = text.strip()
    return found


def _options(given: dict[str, Any]) -> Any:
    from refdiff.generate import Options

    known = Options.__dataclass_fields__
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"option must be among {', '.join(known)}, got {name!r}")
        wanted = str if isinstance(known[name].default, str) else int | float
        if not isinstance(value, wanted) or isinstance(value, bool):
            kind = "name" if wanted is str else "number"
            raise ValueError(f"option {name} must be a {kind}, got {value!r}")
    return Options(**given)


def _label(label: Sequence[int] | None) -> int | Sequence[int] | None:
    if not label:
        return None
    return label[0] if len(label) == 1 else label


@contextmanager
def _shown(steps: int, first: bool) -> Iterator[Callable[[Row], None]]:
    """A progress bar on the first process."""
    if not first:
        yield lambda row: None
        return
    from refdiff.cli import bar

    with bar("training", steps) as advance:
        yield lambda row: advance()


def main() -> None:
    """``refdiff train`` alone, as ``python -m refdiff.train`` and torchrun start it."""
    import sys

    from refdiff.cli import HELP, PlainErrors

    app = typer.Typer(
        cls=PlainErrors, add_completion=False, pretty_exceptions_enable=False, context_settings=HELP
    )
    app.callback()(lambda: None)
    app.command()(train)
    app(["train", *sys.argv[1:]])
