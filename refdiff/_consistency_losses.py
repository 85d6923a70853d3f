"""The losses of consistency models, with a teacher and without: part of ``consistency``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from refdiff import _check
from refdiff._consistency_ode import Function, Level, Method, at_level, falling, ode_step, positive

Metric: TypeAlias = Callable[[Tensor], Tensor]
"""The distance of each sample, shape (B,), as a function of the difference, shape (B, *)."""


def squared(difference: Tensor) -> Tensor:
    """The squared Euclidean distance of each sample, shape (B,)."""
    return difference.square().flatten(1).sum(1)


def absolute(difference: Tensor) -> Tensor:
    """The sum of the absolute differences of each sample, shape (B,)."""
    return difference.abs().flatten(1).sum(1)


def huber_constant(dim: int) -> float:
    r"""The constant of the pseudo-Huber distance: a fixed size for each dimension.

    .. math:: c=0.00054\sqrt d

    Args:
        dim: d, the number of dimensions, at least 1.

    Returns:
        c.

    Raises:
        ValueError: dim is not a whole number of at least 1.

    Reference: Song & Dhariwal 2024, section 3.3 (formula ``consistency.pseudo_huber``).
    """
    _check.count("dim", dim)
    return 0.00054 * math.sqrt(dim)


def pseudo_huber(difference: Tensor, c: float | None = None) -> Tensor:
    r"""A distance that is quadratic well below c and linear well above it.

    .. math:: \sqrt{\|u\|^2+c^2}-c=\frac{\|u\|^2}{\sqrt{\|u\|^2+c^2}+c}

    Args:
        difference: u, shape (B, *).
        c: above 0; ``huber_constant`` of the elements of a sample when left out.

    Returns:
        The distance of each sample, shape (B,).

    Raises:
        ValueError: c not above 0 and finite.

    Reference: Song & Dhariwal 2024, eq. 7 (formula ``consistency.pseudo_huber``).
    """
    size = huber_constant(difference[0].numel()) if c is None else c
    positive(c=size)
    square = squared(difference)
    # the difference of the roots without cancellation
    return square / ((square + size**2).sqrt() + size)


def distillation_loss(
    student: Function,
    teacher: Function,
    denoiser: Function,
    x_0: Tensor,
    sigma: Level,
    lower: Level,
    noise: Tensor,
    metric: Metric = squared,
    method: Method = "heun",
) -> Tensor:
    r"""Consistency distillation: a level must agree with the one below, one step down the ODE.

    .. math:: d\!\left(f_\theta(x_0+\sigma z,\sigma),\;
        \operatorname{sg}f_{\theta^-}(\hat x_{\sigma'},\sigma')\right)

    Args:
        student: f_θ(x, σ), of x of shape (B, *) and of σ in float64.
        teacher: f_θ⁻(x, σ); nothing flows back through it, also where it is the student itself.
        denoiser: the mean of the data given x, which drives the ODE; nothing flows back through it.
        x_0: data, shape (B, *).
        sigma: the higher level, a float or float64 of shape () or (B,).
        lower: the lower level, above 0 and below sigma.
        noise: z, standard normal, shaped like x_0.
        metric: the distance of each sample from the difference.
        method: the step of the ODE, "euler" or "heun".

    Returns:
        The loss of each sample, shape (B,), without the weight of the level.

    Raises:
        ValueError: levels that do not fall, an unknown method, or tensors that do not match.

    Reference: Song et al. 2023, eq. 7 and algorithm 2 (formula ``consistency.loss_gap``).
    """
    _check.same(x_0=x_0, noise=noise)
    high, low = falling(sigma, lower)
    x = x_0 + at_level(high, x_0) * noise
    with torch.no_grad():
        below = ode_step(denoiser, x, high, low, method)
    return _distance(student, teacher, x, high, below, low, metric)


def training_loss(
    student: Function,
    teacher: Function,
    x_0: Tensor,
    sigma: Level,
    lower: Level,
    noise: Tensor,
    metric: Metric = squared,
) -> Tensor:
    r"""Consistency training: the same data with the same noise at two neighbouring levels.

    .. math:: d\!\left(f_\theta(x_0+\sigma z,\sigma),\;
        \operatorname{sg}f_{\theta^-}(x_0+\sigma'z,\sigma')\right)

    Args:
        student: f_θ(x, σ), of x of shape (B, *) and of σ in float64.
        teacher: f_θ⁻(x, σ); nothing flows back through it, also where it is the student itself.
        x_0: data, shape (B, *).
        sigma: the higher level, a float or float64 of shape () or (B,).
        lower: the lower level, above 0 and below sigma.
        noise: z, standard normal, shaped like x_0; one noise serves both levels.
        metric: the distance of each sample from the difference.

    Returns:
        The loss of each sample, shape (B,), without the weight of the level.

    Raises:
        ValueError: levels that do not fall, or tensors of different shape, dtype or device.

    Reference: Song et al. 2023, eq. 10 and algorithm 3 (formulas ``consistency.training_pair``,
    ``consistency.gradient_gap``).
    """
    _check.same(x_0=x_0, noise=noise)
    high, low = falling(sigma, lower)
    x, below = (x_0 + at_level(sigma, x_0) * noise for sigma in (high, low))
    return _distance(student, teacher, x, high, below, low, metric)


def _distance(
    student: Function, teacher: Function, x: Tensor, high: Tensor, below: Tensor, low: Tensor, metric: Metric
) -> Tensor:
    with torch.no_grad():
        target = teacher(below, low)
    made = student(x, high)
    _check.same(x=x, student=made, teacher=target)
    return metric(made - target)
