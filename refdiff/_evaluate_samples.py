"""What a trained network is worth beyond its loss: bits, round trips, and what a judge sees in samples."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from refdiff import _check, ddim, vlb
from refdiff._evaluate_loss import Estimate, mean_of
from refdiff._generate_samplers import Noises
from refdiff.data import Law
from refdiff.datasets import Dataset
from refdiff.ddpm import Variance
from refdiff.generate import SAMPLERS, Ask, Options
from refdiff.objective import Draws, Network, Objective, Spacing
from refdiff.process import Process
from refdiff.schedule import Schedule
from refdiff.solver import Levels


class Perfect(Objective):
    r"""An objective whose network is the perfect one: a sampler takes it in the place of what was learned.

    .. math:: \hat\epsilon(x)=\mathbb E[\epsilon\mid x],\qquad
        x=\mathrm{scale}\cdot x_0+\mathrm{std}\cdot\epsilon

    Args:
        goal: the objective whose levels, process and chain it has.
        law: law of the data.
    """

    def __init__(self, goal: Objective, law: Law) -> None:
        self.goal, self.law = goal, law

    def eps(self, net: Network, x: Tensor, scale: Tensor, std: Tensor, label: Tensor | None = None) -> Tensor:
        """The perfect prediction; network and label are not used."""
        return self.law.at(scale.double(), std.double()).eps(x)

    def draw(self, x_0: Tensor, generator: torch.Generator, step: int = 0, steps: int = 1) -> Draws:
        """Those of the objective."""
        return self.goal.draw(x_0, generator, step, steps)

    def loss(self, net: Network, x_0: Tensor, label: Tensor | None, draws: Draws) -> Tensor:
        """There is none to learn."""
        raise ValueError("net must be trained for another objective: this one has its perfect network")

    def process(self) -> Process:
        """The process of the objective."""
        return self.goal.process()

    @property
    def span(self) -> tuple[float, float]:
        """The times of the objective."""
        return self.goal.span

    def levels(self, n: int, spacing: Spacing = "own") -> Levels:
        """The levels of the objective."""
        return self.goal.levels(n, spacing)

    def chain(self, n: int, spacing: Spacing = "own") -> tuple[Schedule, list[int]]:
        """The chain of the objective."""
        return self.goal.chain(n, spacing)


def perfect_samples(
    goal: Objective, law: Law, sampler: str, options: Options, shape: Sequence[int], count: int, seed: int
) -> Tensor:
    """What a sampler makes of the perfect network.

    Args:
        goal: the objective whose levels are visited.
        law: law of the data.
        sampler: one of ``generate.SAMPLERS``.
        options: of the sampler.
        shape: of a sample.
        count: number of samples.
        seed: of the noises.

    Returns:
        Samples, float32, shape (count, *shape).

    Raises:
        ValueError: an unknown sampler, or what it raises.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, got {sampler!r}")

    def none(*arguments: Tensor | None) -> Tensor:
        raise ValueError("net must not be asked: the perfect prediction takes its place")

    noises = Noises(torch.empty(count, *shape), torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return SAMPLERS[sampler](Ask(none, Perfect(goal, law)), noises, options)


def bound_in_bits(
    model: Callable[[Tensor, int], Any],
    schedule: Schedule,
    x_0: Tensor,
    generator: torch.Generator,
    bins: int,
    variance: Variance = "beta",
) -> tuple[Estimate, vlb.Bound]:
    r"""The variational bound in bits per dimension, for data of finitely many values in [−1, 1].

    .. math:: \frac{L_T+\sum_{t=2}^TL_{t-1}+L_0}{D\log2}\ge-\frac{\mathbb E\log_2P_\theta(x_0)}D

    Args:
        model: eps predicted from x_t and the level t, an int; for the learned variances the pair (eps, f).
        schedule: noise schedule with T steps.
        x_0: data, shape (B, *), on the grid of bins.
        generator: makes the noises, one of each level for each sample.
        bins: number of values from −1 to 1.
        variance: the choice of σ_t².

    Returns:
        The mean over the samples with its standard error, and the terms of each sample in nats.

    Raises:
        ValueError: fewer than two samples, data off the grid, or what ``vlb.bound_terms`` raises.

    Reference: Ho et al. 2020, eq. 5 and 13 (formula ``vlb.bits_per_dim``, ``vlb.decoder_interior``).
    """
    steps = (x_0 + 1) * (bins - 1) / 2
    if not bool(((steps - steps.round()).abs() <= 1e-3).all()):
        raise ValueError(f"x_0 must lie on the grid of {bins} values in [-1, 1]")

    def noises() -> Iterator[Tensor]:
        while True:
            yield torch.randn(x_0.shape, generator=generator, dtype=x_0.dtype)

    asked: Any = model  # it is asked at whole levels alone
    with torch.no_grad():
        terms = vlb.bound_terms(asked, schedule, x_0, noises(), variance, "discretized", bins)
    return mean_of(vlb.bits_per_dim(terms.total / x_0[0].numel())), terms


def round_trip(model: ddim.Model, schedule: Schedule, x_0: Tensor, levels: Sequence[int]) -> Tensor:
    r"""How far DDIM inversion and DDIM sampling with the same levels miss their start.

    .. math:: \sqrt{\tfrac1D\|x_0'-x_0\|^2},\qquad x_0'=\text{sample}(\text{encode}(x_0))

    Both are Euler steps of one ODE, each with the prediction at its own start: the error has order one in the
    step.

    Args:
        model: eps predicted from x_t and the level t, an int; it is asked at level 0 too.
        schedule: noise schedule with T steps.
        x_0: data, shape (B, *).
        levels: levels to visit, descending to 0.

    Returns:
        Root mean squares, shape (B,), in the unit of the data.

    Raises:
        ValueError: what ``ddim.encode`` and ``ddim.sample`` raise.

    Reference: Song et al. 2021 (DDIM), section 5.4 (formula ``ddim.inversion``).
    """
    with torch.no_grad():
        *_, (_, x_T) = ddim.encode(model, schedule, x_0, levels)
        *_, (_, back) = ddim.sample(model, schedule, x_T, levels)
    return (back - x_0).flatten(1).square().mean(1).sqrt()


def observed_order(counts: Sequence[int], errors: Sequence[float]) -> list[float]:
    r"""The order that two numbers of steps show, :math:`\log(e_i/e_{i+1})/\log(n_{i+1}/n_i)`."""
    _check.count("counts", len(counts), minimum=2)
    if len(counts) != len(errors):
        raise ValueError(f"errors must be as many as counts, {len(counts)}, got {len(errors)}")
    found = zip(counts, counts[1:], errors, errors[1:], strict=False)
    return [math.log(e / f) / math.log(m / n) for n, m, e, f in found]


class Judge:
    """A support vector classifier of clean samples, which shares nothing with the network that it judges.

    Args:
        data: labelled data that it is trained on.

    Raises:
        ValueError: data without labels.
        ImportError: scikit-learn is not installed.
    """

    def __init__(self, data: Dataset) -> None:
        if data.labels is None:
            raise ValueError(f"data must have labels to train a judge, got {data.name}")
        try:
            module: Any = importlib.import_module("sklearn.svm")
        except ImportError as error:
            raise ImportError("a judge comes with scikit-learn: pip install refdiff[train]") from error
        self.model = module.SVC(C=10.0, gamma="scale")
        self.model.fit(data.x.flatten(1).numpy(), data.labels.numpy())

    def __call__(self, x: Tensor) -> Tensor:
        """The class of each sample, int64, shape (B,)."""
        return torch.from_numpy(self.model.predict(x.flatten(1).numpy())).long()

    def agreement(self, x: Tensor, label: Tensor) -> Estimate:
        """The share of samples that are of the class that was asked for, with its standard error."""
        return mean_of((self(x) == label).double())
