"""Levels of consistency models, and one step of the ODE they follow: part of ``consistency``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from refdiff import _check
from refdiff.score_matching import require_positive

Level: TypeAlias = float | Tensor
"""A noise level: a float, or a float64 tensor of shape () or (B,)."""
Function: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""A function of x, shape (B, *), and of σ in float64, shape () or (B,), such as a denoiser."""
Method = Literal["euler", "heun"]


def level(name: str, sigma: Level, least: float) -> Tensor:
    """A noise level as a float64 tensor that is finite and not below the least one."""
    value = sigma if isinstance(sigma, Tensor) else torch.tensor(float(sigma), dtype=torch.float64)
    if value.dtype != torch.float64 or value.dim() > 1:
        shape = tuple(value.shape)
        raise ValueError(f"{name} must be a float or float64 of shape () or (B,), got {value.dtype}, {shape}")
    right = (value >= least) & value.isfinite()
    if _check.readable(value) and not bool(right.all()):
        wrong = value[~right].flatten()[0].item()
        raise ValueError(f"{name} must be at least {least} and finite, got {wrong}")
    return value


def positive(**numbers: float) -> None:
    """Finite Python numbers above 0."""
    for name, value in numbers.items():
        require_positive(name, value)


def at_level(value: Tensor, x: Tensor) -> Tensor:
    """A number of a level, in the dtype of what it multiplies: shape (), or (B, 1, ..., 1) for a batch."""
    if value.dim() == 1 and (x.dim() == 0 or value.shape[0] != x.shape[0]):
        shape = f"() or (B,) with B of {tuple(x.shape)}"
        raise ValueError(f"sigma must have shape {shape}, got {tuple(value.shape)}")
    cast = value.to(x)
    return cast.reshape(-1, *[1] * (x.dim() - 1)) if cast.dim() == 1 else cast


def velocity(x: Tensor, sigma: Level, x_0: Tensor) -> Tensor:
    r"""The probability-flow ODE of data plus noise, with the noise level as its time.

    .. math:: \frac{\mathrm{d}x}{\mathrm{d}\sigma}=\frac{x-\mathbb E[x_0\mid x]}{\sigma}

    Args:
        x: noised data, shape (B, *).
        sigma: noise level, above 0, a float or float64 of shape () or (B,).
        x_0: mean of the data given x; with a sample of the data, the one-sample estimate.

    Returns:
        Shaped like x.

    Raises:
        ValueError: a level that is not above 0, or tensors of different shape, dtype or device.

    Reference: Karras et al. 2022, eq. 1 and 3 (formulas ``consistency.velocity``,
    ``consistency.velocity_from_data``).
    """
    _check.same(x=x, x_0=x_0)
    at = level("sigma", sigma, 0.0)
    if _check.readable(at) and bool((at == 0).any()):
        raise ValueError("sigma must be above 0, got 0")
    return (x - x_0) / at_level(at, x)


def ode_step(
    denoiser: Function, x: Tensor, sigma: Level, lower: Level, method: Method = "heun"
) -> Tensor:
    r"""One step down the ODE: Euler's, or Heun's, which corrects it with the velocity at its end.

    .. math:: \hat x=x+(\sigma'-\sigma)\,v(x,\sigma),\qquad
        x+\frac{\sigma'-\sigma}2\left(v(x,\sigma)+v(\hat x,\sigma')\right)

    Args:
        denoiser: the mean of the data given x, of x and of σ in float64.
        x: noised data, shape (B, *).
        sigma: the level of x, a float or float64 of shape () or (B,).
        lower: the level to reach, above 0 and below sigma.
        method: "euler" or "heun".

    Returns:
        The state at the lower level, shaped like x.

    Raises:
        ValueError: levels that do not fall, an unknown method, or tensors that do not match.

    Reference: Song et al. 2023, eq. 6 (formulas ``consistency.velocity_from_data``,
    ``consistency.training_pair``).
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
    high, low = falling(sigma, lower)
    first = velocity(x, high, denoiser(x, high))
    step = at_level(low - high, x)
    end = x + step * first
    if method == "euler":
        return end
    return x + step / 2 * (first + velocity(end, low, denoiser(end, low)))


def falling(sigma: Level, lower: Level) -> tuple[Tensor, Tensor]:
    """Two levels above 0, the second below the first."""
    high, low = level("sigma", sigma, 0.0), level("lower", lower, 0.0)
    if high.shape != low.shape:
        raise ValueError(f"lower must have the shape of sigma, {tuple(high.shape)}, got {tuple(low.shape)}")
    if _check.readable(high, low) and not bool(((low > 0) & (low < high)).all()):
        raise ValueError(f"lower must be above 0 and below sigma = {high.tolist()}, got {low.tolist()}")
    return high, low
