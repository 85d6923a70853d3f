"""Samples from a checkpoint: any sampler of the library, for a label, with guidance, and how they came about.

What the network predicts is brought to one form, the noise at any level, so every sampler serves every
objective, but for consistency models, whose function of the whole path is no prediction of noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from refdiff import _check, pictures
from refdiff._generate_ask import Ask, State
from refdiff._generate_samplers import SAMPLERS, Noises, Options
from refdiff.checkpoint import Checkpoint
from refdiff.objective import Classification, Consistency, Objective, make

__all__ = ["SAMPLERS", "Ask", "Options", "Samples", "default_sampler", "generate", "picture"]


@dataclass(frozen=True, eq=False)
class Samples:
    """What was sampled.

    Args:
        x: samples, shape (B, *), on the CPU.
        label: that were asked for, int64, shape (B,), or None.
        states: (scale, std, state) whenever the noise had fallen, where they were asked for.
        evaluations: how often the network was asked.
    """

    x: Tensor
    label: Tensor | None
    states: tuple[State, ...]
    evaluations: int


def default_sampler(goal: Objective) -> str:
    """The sampler that an objective is sampled with unless another one is named."""
    return "consistency" if isinstance(goal, Consistency) else "ddim"


def generate(
    saved: Checkpoint,
    sampler: str | None = None,
    options: Options | None = None,
    *,
    count: int = 64,
    label: int | Sequence[int] | None = None,
    scale: float = 1.0,
    classifier: Checkpoint | None = None,
    seed: int = 0,
    average: bool = True,
    trajectory: bool = False,
    device: torch.device | str = "cpu",
) -> Samples:
    r"""Samples of a trained network.

    Args:
        saved: its checkpoint.
        sampler: one of ``SAMPLERS``; that of ``default_sampler`` if not given.
        options: of the sampler.
        count: number of samples.
        label: class of all samples, or of each, for a network with labels or a classifier; a network with
            labels that is not told one samples all classes.
        scale: κ of guidance: :math:`\epsilon+\kappa\,(\epsilon_y-\epsilon)`, or κ times the gradient of a
            classifier.
        classifier: checkpoint of a classifier of the same data, noised.
        seed: of the noises.
        average: whether the moving average of the weights is used.
        trajectory: whether states are kept.
        device: where it is computed; the noises are the same on all.

    Returns:
        Samples.

    Raises:
        ValueError: an unknown sampler, a label that the network or the classifier does not know, a scale
            without a label, a checkpoint that is none of a sampler's, or what the sampler raises.
    """
    _check.count("count", count)
    _check.count("seed", seed, minimum=0)
    _check.finite("scale", scale)
    goal = make(saved.header.objective, saved.header.objective_settings)
    name = default_sampler(goal) if sampler is None else sampler
    if name not in SAMPLERS:
        raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, got {name!r}")
    if goal.kind == "classifier":
        raise ValueError("checkpoint must be of a network that is sampled, got a classifier")
    judge = None if classifier is None else _classifier(classifier, saved, device)
    known = saved.header.classes if classifier is None else classifier.header.classes
    wanted = _labels(label, count, known, scale, classifier is not None)
    net = saved.net(average=average).to(device)
    ask = Ask(
        net,
        goal,
        saved.header.classes,
        None if wanted is None else wanted.to(device),
        scale,
        judge,
        [] if trajectory else None,
    )
    like = torch.empty((count, *saved.header.shape), dtype=next(net.parameters()).dtype, device=device)
    noises = Noises(like, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        x = SAMPLERS[name](ask, noises, options or Options()).cpu()
    states = () if ask.states is None else (*ask.states, (1.0, 0.0, x))
    return Samples(x, wanted, states, ask.evaluations)


def picture(
    samples: Samples, path: Path | str, *, trajectory: bool = False, rows: int = 8, columns: int = 10
) -> None:
    r"""Samples as a picture, or how they came about.

    A state is shown as :math:`x/\sqrt{\mathrm{scale}^2+\mathrm{std}^2}`, in which noise and data are equally
    bright.

    Args:
        samples: of ``generate``.
        path: of the picture; its suffix says which format.
        trajectory: states from noise to data, for which ``generate`` must have kept them.
        rows, columns: of a trajectory: samples and states at most, which are equally far apart.

    Raises:
        ValueError: a trajectory that was not kept, or samples that cannot be shown.
        ImportError: matplotlib is not installed.
    """
    if not trajectory:
        pictures.grid(samples.x, Path(path))
        return
    if not samples.states:
        raise ValueError("samples must have kept their states for a trajectory, got none")
    last = len(samples.states) - 1
    shown = sorted({round(k * last / max(columns - 1, 1)) for k in range(columns)})
    kept = [samples.states[k] for k in shown]
    states = [state[: rows if state.dim() == 4 else None] / (a * a + b * b) ** 0.5 for a, b, state in kept]
    pictures.trajectory(states, [f"σ = {b / a:.3g}" if a else "σ = ∞" for a, b, _ in kept], Path(path))


def _classifier(
    judge: Checkpoint, saved: Checkpoint, device: torch.device | str
) -> tuple[torch.nn.Module, Classification]:
    goal = make(judge.header.objective, judge.header.objective_settings)
    if not isinstance(goal, Classification):
        raise ValueError(f"classifier must be a checkpoint of a classifier, got {judge.header.objective!r}")
    if judge.header.shape != saved.header.shape:
        shapes = f"{saved.header.shape}, got {judge.header.shape}"
        raise ValueError(f"classifier must take samples of shape {shapes}")
    dtype = next(iter(saved.weights.values())).dtype
    return judge.net().to(device, dtype), goal


def _labels(
    label: int | Sequence[int] | None, count: int, classes: int, scale: float, judged: bool
) -> Tensor | None:
    if label is None:
        if judged or scale != 1:
            raise ValueError("label must be given for guidance, got None")
        return None
    if not classes:
        raise ValueError(f"label must be None for a network without labels, got {label}")
    values = [label] * count if isinstance(label, int) else list(label)
    if len(values) != count:
        raise ValueError(f"label must be one class or one for each of {count} samples, got {len(values)}")
    for value in values:
        if value not in range(classes):
            raise ValueError(f"label must lie in 0..{classes - 1}, got {value}")
    return torch.tensor(values, dtype=torch.int64)
