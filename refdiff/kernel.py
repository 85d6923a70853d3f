r"""The numbers of a transition between two levels, and the affine step that they make.

Every step of a sampler is :math:`x_s=a\,x_t+b\,\hat\epsilon+c\,z`. Its coefficients are computed in float64
from :math:`\log\bar\alpha` without cancellation and cast once to the tensors they multiply.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from refdiff import _check
from refdiff import schedule as _schedule
from refdiff._check import Level
from refdiff.schedule import Schedule

Number: TypeAlias = float | Tensor
Reduction = Literal["sum", "mean"]


@dataclass(frozen=True, eq=False)
class Coefficients:
    r"""An affine step between two levels.

    .. math:: x_s=a\,x_t+b\,\hat\epsilon+c\,z

    Args:
        x_t, eps, noise: a, b and c, each of shape () or broadcastable over x_t.
    """

    x_t: Tensor
    eps: Tensor
    noise: Tensor

    def apply(self, x_t: Tensor, eps: Tensor, noise: Tensor | None = None) -> Tensor:
        r"""The step itself; without noise, its mean.

        .. math:: a\,x_t+b\,\hat\epsilon+c\,z

        Args:
            x_t: noised data, shape (B, *).
            eps: predicted noise, shaped like x_t.
            noise: standard normal, shaped like x_t, or None for the mean.

        Returns:
            x_s, shaped like x_t.

        Raises:
            ValueError: tensors of different shape, dtype or device.
        """
        _check.same(x_t=x_t, eps=eps, **({} if noise is None else {"noise": noise}))
        # not in place, so that vmap over eps or noise alone works
        mean = torch.addcmul(self.x_t * x_t, self.eps, eps)
        return mean if noise is None else torch.addcmul(mean, self.noise, noise)


@dataclass(frozen=True, eq=False)
class Pair:
    r"""Two levels s < t, with :math:`\alpha_{t\mid s}=\bar\alpha_t/\bar\alpha_s=1-\beta_{t\mid s}`.

    Numbers are floats for two ints and float64 tensors of shape () or (B,) otherwise.
    """

    sqrt_alpha: Number
    alpha: Number
    beta: Number
    sqrt_alpha_bar_s: Number
    one_minus_s: Number
    one_minus_t: Number

    @property
    def beta_tilde(self) -> Number:
        r""":math:`\tilde\beta_{t\mid s}=\beta_{t\mid s}(1-\bar\alpha_s)/(1-\bar\alpha_t)`."""
        return self.beta * self.one_minus_s / self.one_minus_t


def pair(schedule: Schedule, t: Level, s: Level | None = None, like: Tensor | None = None) -> Pair:
    r"""The numbers of the levels s < t.

    .. math:: \alpha_{t\mid s}=\bar\alpha_t/\bar\alpha_s,\quad\beta_{t\mid s}=1-\alpha_{t\mid s}

    Args:
        schedule: noise schedule with T steps.
        t: level, 1 ≤ t ≤ T, an int or shape (B,).
        s: level, 0 ≤ s < t, an int or shape (B,); t − 1 if not given.
        like: a tensor of shape (B, *) that the levels belong to.

    Returns:
        Pair of floats or of tensors.

    Raises:
        ValueError: t or s out of range, s not below t, a batch of levels that is not that of ``like``.

    Reference: formula ``ddpm.transition``.
    """
    _check.level("t", t, schedule.T, minimum=1)
    s = t - 1 if s is None else s
    _check.level("s", s, schedule.T)
    _check.below("s", s, "t", t)
    if like is not None:
        _check.batch("t", t, like)
        _check.batch("s", s, like)
    log_ratio, log_s, log_t = _logs(schedule, t, s)
    return Pair(
        sqrt_alpha=exp(log_ratio / 2),
        alpha=exp(log_ratio),
        beta=-expm1(log_ratio),
        sqrt_alpha_bar_s=exp(log_s / 2),
        one_minus_s=-expm1(log_s),
        one_minus_t=-expm1(log_t),
    )


def require_signal(levels: Pair, name: str = "t") -> None:
    """A ValueError where level t has no signal left, so that noise determines nothing about data."""
    if any_true(levels.sqrt_alpha == 0):
        raise ValueError(f"{name} must have a signal-to-noise ratio above 0 to step by eps, got 0")


def any_true(condition: bool | Tensor) -> bool:
    """Whether a condition holds somewhere, as far as its values can be read."""
    if isinstance(condition, Tensor):
        return _check.readable(condition) and bool(condition.any())
    return condition


def cast(value: Number, like: Tensor | None) -> Tensor:
    """A number in the dtype and on the device of the tensor that it multiplies; float64 for None."""
    if isinstance(value, Tensor):
        return value if like is None else _schedule.cast(value, like)
    if like is None:
        return torch.tensor(value, dtype=torch.float64)
    return torch.tensor(value, dtype=like.dtype, device=like.device)


def exp(x: Number) -> Number:
    """The exponential of a float or a tensor."""
    return x.exp() if isinstance(x, Tensor) else math.exp(x)


def expm1(x: Number) -> Number:
    """exp(x) − 1 of a float or a tensor."""
    return x.expm1() if isinstance(x, Tensor) else math.expm1(x)


def log1p(x: Number) -> Number:
    """log(1 + x) of a float or a tensor."""
    return x.log1p() if isinstance(x, Tensor) else math.log1p(x)


def sqrt(x: Number) -> Number:
    """The square root of a float or a tensor."""
    return x.sqrt() if isinstance(x, Tensor) else math.sqrt(x)


def quotient(x: Number, y: Number) -> Number:
    """x / y of floats or tensors, and 0 where x is 0, whatever y is."""
    if isinstance(x, Tensor) or isinstance(y, Tensor):
        x, y = torch.as_tensor(x), torch.as_tensor(y)
        return torch.where(x == 0, torch.zeros_like(x), x / y)
    return x / y if x != 0 else 0.0


def steps(levels: Sequence[int], T: int) -> Iterator[tuple[int, int]]:
    """The pairs (t, s) of a descending sequence of levels of 0..T that ends at 0."""
    _check.count("len(levels)", len(levels), minimum=2)
    _check.level("levels[0]", levels[0], T)
    if levels[-1] != 0:
        raise ValueError(f"levels must end at 0, got {levels[-1]}")
    for t, s in pairwise(levels):
        _check.below("levels", s, "the level before it", t)
    return pairwise(levels)


def take_noise(noises: Iterator[Tensor], t: int) -> Tensor:
    """The next noise, or a ValueError that says which step has none."""
    noise = next(noises, None)
    if noise is None:
        raise ValueError(f"noises must hold one tensor for each step that draws, got none for t = {t}")
    return noise


def on_x_0(levels: Pair) -> Number:
    """What the posterior mean takes of the data."""
    return levels.sqrt_alpha_bar_s * levels.beta / levels.one_minus_t


def reduced(values: Tensor, reduction: Reduction) -> Tensor:
    """One number a sample: the sum or the mean of its elements."""
    if reduction == "sum":
        return values.flatten(1).sum(1)
    if reduction == "mean":
        return values.flatten(1).mean(1)
    raise ValueError(f"reduction must be one of {', '.join(get_args(Reduction))}, got {reduction!r}")


def expm1_minus(x: Tensor) -> Tensor:
    """exp(x) − 1 − x without cancellation, for x ≤ 0."""
    # the series to x^13 is exact to rounding below 1/4: the next term is x^12 2/14! < 1e-17 of the first
    series = torch.zeros_like(x)
    for n in range(13, 1, -1):
        series = (series * x + 1) / n
    return torch.where(x.abs() < 0.25, series * x * x, torch.expm1(x) - x)


def _logs(schedule: Schedule, t: Level, s: Level) -> tuple[Number, Number, Number]:
    if isinstance(t, int) and isinstance(s, int) and not torch.compiler.is_compiling():
        # One step at one level takes longer to look up in tensors than to apply to an image.
        high, low = _floats(schedule)
        return (high[t] - high[s]) + (low[t] - low[s]), high[s], high[t]
    log_s, log_t = _schedule.take(schedule.log_alpha_bar, s), _schedule.take(schedule.log_alpha_bar, t)
    return _schedule.log_ratio(schedule, t, s), log_s, log_t


@lru_cache(maxsize=64)
def _floats(schedule: Schedule) -> tuple[list[float], list[float]]:
    assert schedule.log_alpha_bar_low is not None
    return schedule.log_alpha_bar.tolist(), schedule.log_alpha_bar_low.tolist()
