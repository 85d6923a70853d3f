r"""Consistency models: the end point of the probability-flow ODE as a function of where it starts.

Data are not scaled, :math:`x=x_0+\sigma z`, and the ODE is that of EDM,

.. math:: \frac{\mathrm{d}x}{\mathrm{d}\sigma}=\frac{x-\mathbb E[x_0\mid x]}{\sigma}

A consistency function f(x, σ) is constant along its solutions and is x itself at σ_min. Levels are float64 (a
float, or a tensor of shape () or (B,)); a result is cast once to the dtype of x.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from refdiff import _check, gaussian
from refdiff._consistency_levels import (
    ema,
    ema_rate,
    improved_steps,
    level_probabilities,
    level_weights,
    levels,
    steps,
)
from refdiff._consistency_losses import (
    absolute,
    distillation_loss,
    huber_constant,
    pseudo_huber,
    squared,
    training_loss,
)
from refdiff._consistency_ode import Function, Level, at_level, level, ode_step, positive, velocity
from refdiff.data import GaussianLaw

__all__ = [
    "Boundary",
    "Function",
    "Level",
    "absolute",
    "boundary",
    "distillation_loss",
    "ema",
    "ema_rate",
    "function",
    "gaussian_function",
    "gaussian_slope",
    "huber_constant",
    "improved_steps",
    "input_scale",
    "level_probabilities",
    "level_weights",
    "levels",
    "multistep",
    "multistep_moments",
    "ode_step",
    "pseudo_huber",
    "renoise",
    "squared",
    "steps",
    "trained_slope",
    "training_loss",
    "velocity",
]

Network: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""F(c_in x, σ) for an input of shape (B, *) and σ in float64 of shape () or (B,)."""


class Boundary(NamedTuple):
    """The factors of the input and of the network, float64, shape () or (B,)."""

    c_skip: Tensor
    c_out: Tensor


def boundary(sigma: Level, sigma_data: float = 0.5, sigma_min: float = 0.002) -> Boundary:
    r"""The scalings of skip connection and network: 1 and 0 at the smallest level, whatever the network.

    .. math:: c_{\text{skip}}=\frac{\sigma_d^2}{(\sigma-\sigma_{\min})^2+\sigma_d^2},\qquad
        c_{\text{out}}=\frac{\sigma_d\,(\sigma-\sigma_{\min})}{\sqrt{\sigma^2+\sigma_d^2}}

    Args:
        sigma: noise level, at least sigma_min, a float or float64 of shape () or (B,).
        sigma_data: deviation of the data, above 0.
        sigma_min: the level at which the function is the identity, above 0.

    Returns:
        c_skip and c_out in float64, shaped like sigma.

    Raises:
        ValueError: a level below sigma_min, or sigma_data or sigma_min not above 0 and finite.

    Reference: Song et al. 2023, appendix C (formulas ``consistency.c_skip``, ``consistency.c_out``).
    """
    positive(sigma_data=sigma_data, sigma_min=sigma_min)
    at = level("sigma", sigma, sigma_min)
    above = at - sigma_min
    # in this form it is 1 exactly where the level is the smallest
    c_skip = 1 / (1 + (above / sigma_data) ** 2)
    return Boundary(c_skip, sigma_data * above / (at**2 + sigma_data**2).sqrt())


def input_scale(sigma: Level, sigma_data: float = 0.5) -> Tensor:
    r"""The factor that gives the input of the network variance one.

    .. math:: c_{\text{in}}=\frac1{\sqrt{\sigma^2+\sigma_d^2}}

    Args:
        sigma: noise level, at least 0, a float or float64 of shape () or (B,).
        sigma_data: deviation of the data, above 0.

    Returns:
        float64, shaped like sigma.

    Raises:
        ValueError: a level below 0, or sigma_data not above 0 and finite.

    Reference: Karras et al. 2022, table 1 (formula ``solver.edm_c_in``).
    """
    positive(sigma_data=sigma_data)
    return (level("sigma", sigma, 0.0) ** 2 + sigma_data**2).rsqrt()


def function(
    network: Network, x: Tensor, sigma: Level, sigma_data: float = 0.5, sigma_min: float = 0.002
) -> Tensor:
    r"""A network as a consistency function that meets the boundary condition.

    .. math:: f(x,\sigma)=c_{\text{skip}}(\sigma)\,x
        +c_{\text{out}}(\sigma)\,F(c_{\text{in}}(\sigma)\,x,\sigma)

    Args:
        network: F, of an input of shape (B, *) and of σ in float64.
        x: noised data, shape (B, *).
        sigma: noise level, at least sigma_min, a float or float64 of shape () or (B,).
        sigma_data: deviation of the data, above 0.
        sigma_min: the level at which the function is the identity, above 0.

    Returns:
        Shaped like x.

    Raises:
        ValueError: a level below sigma_min, or a network whose output is not shaped like x.

    Reference: Song et al. 2023, eq. 5 (formulas ``consistency.c_skip``, ``consistency.c_out``).
    """
    skip, out = (at_level(c, x) for c in boundary(sigma, sigma_data, sigma_min))
    made = network(at_level(input_scale(sigma, sigma_data), x) * x, level("sigma", sigma, sigma_min))
    _check.same(x=x, network=made)
    return skip * x + out * made


def gaussian_slope(variance: Tensor, sigma: Level, sigma_min: float = 0.002) -> Tensor:
    r"""The slope of the exact consistency function along an axis of Gaussian data.

    .. math:: \sqrt{\frac{c+\sigma_{\min}^2}{c+\sigma^2}}

    Args:
        variance: c, the variance along each axis, at least 0, float64, shape (D,).
        sigma: noise level, at least sigma_min, a float or float64 of shape () or (B,).
        sigma_min: the level at which the function is the identity, above 0.

    Returns:
        float64, shape (D,) or (B, D).

    Raises:
        ValueError: a level below sigma_min, or sigma_min not above 0 and finite.

    Reference: formula ``consistency.gaussian_function``.
    """
    positive(sigma_min=sigma_min)
    at = level("sigma", sigma, sigma_min).to(variance.device)
    return ((variance + sigma_min**2) / (variance + at.unsqueeze(-1) ** 2)).sqrt()


def gaussian_function(law: GaussianLaw, x: Tensor, sigma: Level, sigma_min: float = 0.002) -> Tensor:
    r"""The exact consistency function of Gaussian data.

    .. math:: f(x,\sigma)=m+(C+\sigma_{\min}^2I)^{1/2}(C+\sigma^2I)^{-1/2}(x-m)

    Args:
        law: the law N(m, C) of the data.
        x: noised data, shape (B, *) with D elements per sample.
        sigma: noise level, at least sigma_min, a float or float64 of shape () or (B,).
        sigma_min: the level at which the function is the identity, above 0.

    Returns:
        The end point at sigma_min of the ODE from x, shaped like x.

    Raises:
        ValueError: a level below sigma_min, or x that does not have D elements per sample.

    Reference: formulas ``consistency.gaussian_function``, ``consistency.gaussian_function_plane``.
    """
    law._require_elements(x)
    part = law.components
    at_level(level("sigma", sigma, sigma_min), x)
    away = part.rotate(x.flatten(1).double().unsqueeze(1) - part.mean)
    slope = gaussian_slope(part.variance[0], sigma, sigma_min).reshape(-1, 1, law.dimension)
    end = part.mean + part.rotate_back(slope * away)
    return end.reshape(x.shape).to(x.dtype)


def renoise(x: Tensor, sigma: Level, noise: Tensor, sigma_min: float = 0.002) -> Tensor:
    r"""From the smallest level up to another one: only the missing noise is added.

    .. math:: x+\sqrt{\sigma^2-\sigma_{\min}^2}\,z

    Args:
        x: a sample at sigma_min, shape (B, *).
        sigma: the level to reach, at least sigma_min, a float or float64 of shape () or (B,).
        noise: z, standard normal, shaped like x.
        sigma_min: the level of x, above 0.

    Returns:
        A sample at sigma, shaped like x.

    Raises:
        ValueError: a level below sigma_min, or tensors of different shape, dtype or device.

    Reference: Song et al. 2023, algorithm 1 (formula ``consistency.renoise``).
    """
    _check.same(x=x, noise=noise)
    positive(sigma_min=sigma_min)
    at = level("sigma", sigma, sigma_min)
    return x + at_level(((at - sigma_min) * (at + sigma_min)).sqrt(), x) * noise


def multistep(
    consistency: Function, x: Tensor, sigmas: Tensor, noises: Iterable[Tensor], sigma_min: float = 0.002
) -> Tensor:
    r"""Multistep sampling: denoise to the smallest level, go up to the next level, denoise again.

    .. math:: x\leftarrow f(x,\sigma_1),\qquad
        x\leftarrow f\!\left(x+\sqrt{\sigma_n^2-\sigma_{\min}^2}\,z,\;\sigma_n\right),\quad n=2,\dots,N

    The last thing done is an evaluation of f: no noise is added after it.

    Args:
        consistency: f(x, σ), of x of shape (B, *) and of σ in float64 of shape ().
        x: noised data at the first level, shape (B, *).
        sigmas: the levels at which f is evaluated, descending, all above sigma_min, float64, shape (N,).
        noises: standard normal, shaped like x, one for each level after the first.
        sigma_min: the level of the result, above 0.

    Returns:
        A sample at sigma_min, shaped like x.

    Raises:
        ValueError: levels that do not descend to above sigma_min, a number of noises that is not N − 1, or
            tensors of different shape, dtype or device.

    Reference: Song et al. 2023, algorithm 1 (formulas ``consistency.renoise``,
    ``consistency.multistep_variance``).
    """
    _require_descending(sigmas, sigma_min)
    draws = list(noises)
    if len(draws) != len(sigmas) - 1:
        wanted = len(sigmas) - 1
        raise ValueError(f"noises must hold {wanted} tensors, one less than sigmas, got {len(draws)}")
    x = consistency(x, sigmas[0])
    for sigma, noise in zip(sigmas[1:], draws, strict=True):
        x = consistency(renoise(x, sigma, noise, sigma_min), sigma)
    return x


def multistep_moments(
    law: GaussianLaw, sigmas: Tensor, start_mean: Tensor, start_cov: Tensor, sigma_min: float = 0.002
) -> tuple[Tensor, Tensor]:
    r"""Mean and covariance of ``multistep`` with the exact function of Gaussian data, from any start.

    In the eigenbasis of the data each level multiplies the distance of the mean by its slope, and the
    covariance by the slopes of its two axes; the levels after the first put back what they take,

    .. math:: \mu_N-m=\prod_n s_n\,(\mu-m),\quad
        V_N=\prod_n s_n\,V\prod_n s_n+(C+\sigma_{\min}^2I)\Big(1-\prod_{n>1}s_n^2\Big),\quad
        s_n=\sqrt{\frac{c+\sigma_{\min}^2}{c+\sigma_n^2}}

    Args:
        law: the law N(m, C) of the data.
        sigmas: levels, descending, all above sigma_min, float64, shape (N,).
        start_mean, start_cov: of the first state, float64, shapes (D,) and (D, D).
        sigma_min: the level of the result, above 0.

    Returns:
        Mean (D,) and covariance (D, D).

    Raises:
        ValueError: levels that do not descend to above sigma_min, or moments that do not fit the law.

    Reference: formulas ``consistency.multistep_mean``, ``consistency.multistep_variance``.
    """
    _require_descending(sigmas, sigma_min)
    gaussian._check_law("start_mean", start_mean, "start_cov", start_cov)
    _check.same(mean=law.mean, start_mean=start_mean)
    variance, axes = torch.linalg.eigh(law.cov)
    kept = gaussian_slope(variance, sigmas, sigma_min).prod(0)
    away = kept * (axes.mT @ (start_mean - law.mean))
    above = (sigmas[1:, None] - sigma_min) * (sigmas[1:, None] + sigma_min)
    # 1 minus a product of numbers below 1, through the logarithm: all terms are positive
    renewed = -torch.expm1(-torch.log1p(above / (variance + sigma_min**2)).sum(0))
    end = kept[:, None] * (axes.mT @ start_cov @ axes) * kept
    end = end + torch.diag((variance + sigma_min**2) * renewed)
    return law.mean + axes @ away, axes @ end @ axes.mT


def trained_slope(variance: Tensor, levels: Tensor) -> Tensor:
    r"""The slope that distillation by Euler steps, or training without a teacher, converges to.

    Both fix each level to the mean of the level below after one Euler step; along an axis of Gaussian data

    .. math:: \prod_{i=1}^{N-1}\frac{c+\sigma_i\sigma_{i+1}}{c+\sigma_{i+1}^2}
        <\sqrt{\frac{c+\sigma_1^2}{c+\sigma_N^2}}

    Args:
        variance: c, the variance along each axis, at least 0, float64, shape (D,).
        levels: ascending, the first is σ_min, float64, shape (N,).

    Returns:
        The slope at the last level, float64, shape (D,).

    Raises:
        ValueError: levels that are not positive and ascending.

    Reference: formulas ``consistency.trained_step``, ``consistency.trained_deficit``.
    """
    _require_descending(levels.flip(0), 0.0)
    low, high = levels[:-1, None], levels[1:, None]
    return ((variance + low * high) / (variance + high**2)).prod(0)


def _require_descending(sigmas: Tensor, sigma_min: float) -> None:
    if sigmas.dtype != torch.float64 or sigmas.dim() != 1 or len(sigmas) == 0:
        raise ValueError(f"sigmas must be float64 of shape (N,), got {sigmas.dtype}, {tuple(sigmas.shape)}")
    if not _check.readable(sigmas):
        return
    if not bool(((sigmas > sigma_min) & sigmas.isfinite()).all()):
        raise ValueError(f"sigmas must be above {sigma_min} and finite, got {sigmas.tolist()}")
    if bool((sigmas[1:] >= sigmas[:-1]).any()):
        raise ValueError(f"sigmas must descend strictly, got {sigmas.tolist()}")
