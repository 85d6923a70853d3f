r"""What is left of the squared loss for the perfect network, and what a network has above it.

.. math:: \mathbb E\|\epsilon-\hat\epsilon(x)\|^2=\mathbb E\|\epsilon-\epsilon^*(x)\|^2
    +\mathbb E\|\hat\epsilon(x)-\epsilon^*(x)\|^2,\qquad x=\text{scale}\cdot x_0+\text{std}\cdot\epsilon

The first part is the least loss and the second the excess; the cross term vanishes because
:math:`\epsilon^*` is the mean of the noise given x (formula ``flow.loss_split``). A number that was sampled
brings its standard error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from scipy.special import roots_hermitenorm
from torch import Tensor

from refdiff import _check
from refdiff.data import Empirical, GaussianLaw, Law, MixtureLaw, PointMass
from refdiff.datasets import Dataset
from refdiff.kernel import Reduction
from refdiff.schedule import Schedule, take
from refdiff.solver import Model

Prediction = Literal["eps", "x_0", "v"]
MOST_NODES, MOST_WORK = 512, 2**26
"""Nodes on an axis, and all nodes times the square of the number of components."""
MOST_ELEMENTS = 2**22
"""Of a law's view of a batch, (B, K, D), at once: 32 MiB."""


@dataclass(frozen=True)
class Estimate:
    """A number and how far it may be off.

    Args:
        value: the number.
        error: its standard error where it was sampled; the last change of a quadrature; 0 in closed form.
    """

    value: float
    error: float = 0.0

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.error:.1g}"

    def __mul__(self, factor: float) -> Estimate:
        return Estimate(self.value * factor, self.error * abs(factor))


@dataclass(frozen=True)
class LevelError:
    """How a network does at one level.

    Args:
        scale, std: the level.
        loss: E‖ε − ε̂‖².
        excess: E‖ε̂ − ε*‖², from the same samples.
    """

    scale: float
    std: float
    loss: Estimate
    excess: Estimate

    @property
    def log_snr(self) -> float:
        """log(scale / std)."""
        return math.log(self.scale / self.std)


def least_loss(
    law: Law,
    scale: float,
    std: float,
    prediction: Prediction = "eps",
    reduction: Reduction = "mean",
    tolerance: float = 1e-6,
) -> Estimate:
    r"""The loss of the perfect network: what no network can learn.

    .. math:: \mathbb E\operatorname{tr}\operatorname{Cov}[x_0\mid x]=\sum_kw_k\Big(
        \text{std}^2\operatorname{tr}C_kV_k^{-1}
        +\mathbb E_{x\mid k}\|m_{k\mid x}-\mathbb E[x_0\mid x]\|^2\Big),\qquad
        V_k=\text{scale}^2C_k+\text{std}^2I

    and the factors of ``loss_factor`` for the noise and the velocity. The first part is closed; the second is
    0 for a Gaussian, and else a tensor Gauss–Hermite quadrature whose nodes are doubled from 16 on each axis
    until the result changes by less than the tolerance.

    Args:
        law: law of the data; of more than two dimensions only with one component.
        scale: factor of the data, above 0.
        std: deviation of the noise, above 0.
        prediction: what the network predicts.
        reduction: "sum" or "mean" over the dimensions.
        tolerance: of the quadrature, relative to the loss.

    Returns:
        Estimate, whose error is the last change.

    Raises:
        ValueError: several components in more than two dimensions, more than 512 nodes on an axis needed
            (fewer for many components), or a number out of bounds.

    Reference: formula ``ddpm.loss_simple_minimum`` for one Gaussian coordinate; ``sampled_least_loss`` where
    this has no answer.
    """
    factor = loss_factor(scale, std, prediction) * _share(law, reduction)
    _check.between("tolerance", tolerance, 0, 1)
    part = law.components
    weight = part.log_weight.exp()
    closed = float((weight[:, None] * part.variance * (std**2 / (scale**2 * part.variance + std**2))).sum())
    if len(weight) == 1:
        return Estimate(closed * factor)
    if law.dimension > 2:
        message = "law must have one component or at most 2 dimensions for a quadrature, got"
        raise ValueError(f"{message} {len(weight)} components in {law.dimension}: sample it")
    nodes, last, change = 16, math.inf, math.inf
    most = min(MOST_NODES, int((MOST_WORK / len(weight) ** 2) ** (1 / law.dimension)))
    while nodes <= most:
        found = _between(law, scale, std, nodes)
        change = abs(found - last)
        if change <= tolerance * (closed + found):
            return Estimate((closed + found) * factor, change * factor)
        nodes, last = 2 * nodes, found
    message = f"tolerance must be reached with {most} nodes on an axis, got a last change of {change:.2g}"
    raise ValueError(f"{message} in {closed + last:.2g} at std / scale = {std / scale:g}: sample it")


def sampled_least_loss(
    law: Law,
    scale: float,
    std: float,
    count: int,
    generator: torch.Generator,
    prediction: Prediction = "eps",
    reduction: Reduction = "mean",
) -> Estimate:
    r"""The loss of the perfect network as a mean over samples, for a law of any dimension.

    .. math:: \frac1n\sum_i\|x_0^{(i)}-\mathbb E[x_0\mid x^{(i)}]\|^2

    Args:
        law, scale, std, prediction, reduction: as in ``least_loss``.
        count: number of samples n, at least 2.
        generator: makes data, then noise, batch by batch.

    Returns:
        Estimate with its standard error.

    Raises:
        ValueError: a number out of bounds.
    """
    factor = loss_factor(scale, std, prediction) * _share(law, reduction)
    squares = []
    for x_0, noise in _batches(law, count, generator):
        mean = law.at(scale, std).x_0(scale * x_0 + std * noise)
        squares.append((x_0 - mean).square().sum(1))
    return mean_of(torch.cat(squares)) * factor


def loss_factor(scale: float, std: float, prediction: Prediction) -> float:
    r"""The squared error of a prediction from that of the data.

    .. math:: \left(\frac{\text{scale}}{\text{std}}\right)^2,\quad1,\quad
        \left(\frac{\text{scale}^2+\text{std}^2}{\text{std}}\right)^2

    for ε, x_0 and v = scale·ε − std·x_0: at a fixed x each is affine in x_0.

    Args:
        scale, std: the level, above 0.
        prediction: what is predicted.

    Returns:
        The factor.

    Raises:
        ValueError: a number out of bounds, or an unknown prediction.

    Reference: formula ``parameterization.eps_from_x_0``, ``parameterization.v_from_x_0``.
    """
    _check.between("scale", scale, 0, math.inf)
    _check.between("std", std, 0, math.inf)
    if prediction not in get_args(Prediction):
        raise ValueError(f"prediction must be one of {', '.join(get_args(Prediction))}, got {prediction!r}")
    roots = {"eps": scale / std, "x_0": 1.0, "v": (scale**2 + std**2) / std}
    return roots[prediction] ** 2


def excess_by_level(
    model: Model,
    law: Law,
    levels: Sequence[tuple[float, float]],
    count: int,
    generator: torch.Generator,
    reduction: Reduction = "mean",
    shape: tuple[int, ...] | None = None,
    dtype: torch.dtype = torch.float32,
) -> list[LevelError]:
    r"""The squared distance of a predicted noise from the perfect one, level by level.

    .. math:: \mathbb E\|\hat\epsilon(x)-\epsilon^*(x)\|^2=\mathbb E\|\epsilon-\hat\epsilon(x)\|^2
        -\mathbb E\|\epsilon-\epsilon^*(x)\|^2

    Args:
        model: eps predicted from x, scale and std.
        law: law of the data.
        levels: scale and std of each level, above 0; ``levels_of`` makes them from a schedule.
        count: samples of a level, at least 2.
        generator: makes data, then noise, batch by batch and level by level.
        reduction: "sum" or "mean" over the dimensions.
        shape: of a sample as the model wants it; (D,) if not given.
        dtype: in which the model is asked.

    Returns:
        A ``LevelError`` for each level.

    Raises:
        ValueError: a number out of bounds, or a prediction that is not shaped like x.

    Reference: formula ``flow.loss_split``.
    """
    share, found = _share(law, reduction), []
    for scale, std in levels:
        loss_factor(scale, std, "eps")
        told = torch.tensor([scale, std], dtype=torch.float64).unbind()
        losses, excesses = [], []
        for x_0, noise in _batches(law, count, generator):
            x = (scale * x_0 + std * noise).to(dtype)
            asked = x if shape is None else x.reshape(-1, *shape)
            with torch.no_grad():
                eps = model(asked, *told)
            _check.same(x=asked, eps=eps)
            eps = eps.flatten(1).double()
            losses.append((noise - eps).square().sum(1))
            excesses.append((eps - law.at(scale, std).eps(x.double())).square().sum(1))
        loss, excess = (mean_of(torch.cat(part)) * share for part in (losses, excesses))
        found.append(LevelError(scale, std, loss, excess))
    return found


def levels_of(schedule: Schedule, steps: Sequence[int]) -> list[tuple[float, float]]:
    """Scale and std of some levels t ≥ 1 of a schedule."""
    for t in steps:
        _check.level("t", t, schedule.T, minimum=1)
    chosen = torch.tensor(list(steps))
    tables = schedule.sqrt_alpha_bar, schedule.sqrt_one_minus_alpha_bar
    scale, std = (take(table, chosen).tolist() for table in tables)
    return list(zip(scale, std, strict=True))


def law_of(data: Dataset) -> Law:
    """The law of a data set: the exact one where it is known, else that of its points."""
    return data.law if data.law is not None else Empirical(data.x.flatten(1).double())


def least(law: Law, scale: float, std: float, count: int, generator: torch.Generator) -> Estimate:
    """``least_loss`` where the law has one, else ``sampled_least_loss``; a mean over the dimensions."""
    if len(law.components.log_weight) == 1 or (isinstance(law, MixtureLaw) and law.dimension <= 2):
        return least_loss(law, scale, std)
    return sampled_least_loss(law, scale, std, count, generator)


def draw(law: Law, count: int, generator: torch.Generator) -> Tensor:
    """Samples of a law of data, float64, shape (count, D)."""
    _check.count("count", count)

    def normal() -> Tensor:
        return torch.randn(count, law.dimension, generator=generator, dtype=torch.float64)

    def uniform() -> Tensor:
        return torch.rand(count, generator=generator, dtype=torch.float64)

    if isinstance(law, MixtureLaw):
        return law.sample(normal(), uniform())
    if isinstance(law, GaussianLaw):
        return law.sample(normal())
    if isinstance(law, Empirical):
        return law.sample(uniform())
    if isinstance(law, PointMass):
        return law.sample(count)
    raise ValueError(f"law must be one of refdiff.data, got {type(law).__name__}")


def mean_of(values: Tensor) -> Estimate:
    """The mean of independent numbers and its standard error."""
    if values.numel() < 2:
        raise ValueError(f"count must be at least 2 for a standard error, got {values.numel()}")
    values = values.double()
    return Estimate(float(values.mean()), float(values.std() / math.sqrt(values.numel())))


def _batches(law: Law, count: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Data and noise, float64, in batches of which the view by all components fits in memory."""
    _check.count("count", count, minimum=2)
    most = max(1, MOST_ELEMENTS // law.components.mean.numel())
    for start in range(0, count, most):
        x_0 = draw(law, min(most, count - start), generator)
        yield x_0, torch.randn(x_0.shape, generator=generator, dtype=torch.float64)


def _between(law: Law, scale: float, std: float, nodes: int) -> float:
    """Σ w_k E‖m_(k|x) − E[x_0|x]‖² over x of component k, by a quadrature along the axes of its law."""
    part, at = law.components, law.at(scale, std)
    place, weight = _grid(nodes, law.dimension)
    total = 0.0
    for k, share in enumerate(part.log_weight.exp().tolist()):
        spread = (scale**2 * part.variance[k] + std**2).sqrt()
        along = place * spread
        offset = along if part.axes is None else torch.einsum("ij,bi->bj", part.axes[k], along)
        gain = scale * part.variance[k] / spread**2
        own = gain * along
        mean = part.mean[k] + (own if part.axes is None else torch.einsum("ij,bi->bj", part.axes[k], own))
        x = scale * part.mean[k] + offset
        total += share * float(weight @ (mean - _in_chunks(at.x_0, x, part.mean.numel())).square().sum(1))
    return total


def _grid(nodes: int, dimensions: int) -> tuple[Tensor, Tensor]:
    """Nodes (n^D, D) and weights (n^D,) for means over a standard normal law."""
    root, mass = (torch.from_numpy(values) for values in roots_hermitenorm(nodes))
    mass = mass / mass.sum()
    if dimensions == 1:
        return root[:, None], mass
    return torch.cartesian_prod(root, root), (mass[:, None] * mass).flatten()


def _in_chunks(function: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    most = max(1, MOST_ELEMENTS // size)
    return torch.cat([function(x[start : start + most]) for start in range(0, len(x), most)])


def _share(law: Law, reduction: Reduction) -> float:
    if reduction not in get_args(Reduction):
        raise ValueError(f"reduction must be one of {', '.join(get_args(Reduction))}, got {reduction!r}")
    return 1 / law.dimension if reduction == "mean" else 1.0
