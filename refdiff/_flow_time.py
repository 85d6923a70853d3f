r"""Times of a flow: grids, shifts, and the logit-normal law of training times; data at time 0, noise at 1.

Public names are those of ``refdiff.flow``. Half of the log signal-to-noise ratio of the rectified
path is :math:`\lambda=\log\frac{1-t}{t}`, so what is done to a time is read in its log-odds :math:`-\lambda`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from refdiff import _check
from refdiff._flow_paths import Rectified
from refdiff.process import Time

_TIMES = Rectified()


def shift_time(t: Time, shift: float) -> Tensor:
    r"""The time shift of SD3 and Flux; s > 1 spends more of the steps at high noise.

    .. math:: t'=\frac{s\,t}{1+(s-1)\,t},\qquad\lambda(t')=\lambda(t)-\log s

    Args:
        t: time, 0..1, a float or float64 of shape () or (B,).
        shift: s, above 0; 1 changes nothing, and 1/s undoes s.

    Returns:
        t', float64, the shape of t. 0 and 1 stay where they are.

    Raises:
        ValueError: t out of range, or a shift that is not above 0 and finite.

    Reference: Esser et al. 2024, eq. 23 (formula ``flow.shift``, ``flow.shift_composition``).
    """
    at = _TIMES.time(t)
    _positive("shift", shift)
    # both terms are positive: 1 + (s-1)t would subtract for s < 1
    return shift * at / ((1 - at) + shift * at)


def unshift_time(t: Time, shift: float) -> Tensor:
    r"""The inverse of ``shift_time``.

    .. math:: t=\frac{t'}{s-(s-1)\,t'}

    Args:
        t: the shifted time t', 0..1, a float or float64 of shape () or (B,).
        shift: s, above 0.

    Returns:
        The time before the shift, float64, the shape of t.

    Raises:
        ValueError: t out of range, or a shift that is not above 0 and finite.

    Reference: formula ``flow.shift_inverse``.
    """
    at = _TIMES.time(t)
    _positive("shift", shift)
    return at / (shift * (1 - at) + at)


def shift_slope(t: Time, shift: float) -> Tensor:
    r"""The derivative of the shifted time by the time; one over it is the density that uniform times get.

    .. math:: \frac{\mathrm dt'}{\mathrm dt}=\frac{s}{(1+(s-1)t)^2}

    Args:
        t: time, 0..1, a float or float64 of shape () or (B,).
        shift: s, above 0.

    Returns:
        float64, the shape of t.

    Raises:
        ValueError: t out of range, or a shift that is not above 0 and finite.

    Reference: formula ``flow.shift_slope``.
    """
    at = _TIMES.time(t)
    _positive("shift", shift)
    return shift / ((1 - at) + shift * at) ** 2


def shift_time_exponential(t: Time, mu: float, power: float = 1.0) -> Tensor:
    r"""Flux's dynamic shift, which acts on the log-odds of time: times p, plus μ.

    .. math:: t'=\frac{e^\mu}{e^\mu+(1/t-1)^p},\qquad\lambda(t')=p\,\lambda(t)-\mu

    Args:
        t: time, 0..1, a float or float64 of shape () or (B,).
        mu: μ, the log of the shift.
        power: p, above 0; 1 is ``shift_time`` with s = exp(μ).

    Returns:
        t', float64, the shape of t.

    Raises:
        ValueError: t out of range, μ not finite, or a power that is not above 0 and finite.

    Reference: formula ``flow.shift_exponential``.
    """
    at = _TIMES.time(t)
    _check.finite("mu", mu)
    _positive("power", power)
    # powers of both, so that time 0 needs no division, and an exponential that cannot overflow
    noise, data = math.exp(min(mu, 0.0)) * at**power, math.exp(min(-mu, 0.0)) * (1 - at) ** power
    return noise / (noise + data)


def resolution_shift(pixels: float, base: float) -> float:
    r"""The shift under which an image of n pixels is as uncertain as one of n_0 pixels is without it.

    .. math:: s=\sqrt{n/n_0}

    Args:
        pixels, base: n and n_0, above 0.

    Returns:
        The shift s.

    Raises:
        ValueError: a number that is not above 0 and finite.

    Reference: Esser et al. 2024, section 5.3.2 (formula ``flow.resolution_shift``).
    """
    _positive("pixels", pixels)
    _positive("base", base)
    return math.sqrt(pixels / base)


def times(steps: int, shift: float = 1.0) -> Tensor:
    r"""The times that a sampler visits, from noise to data, both ends included.

    .. math:: t_i=\frac{s(1-i/N)}{1+(s-1)(1-i/N)},\qquad i=0,\dots,N

    The network is asked at these times and the integrator steps between these times.

    Args:
        steps: N, at least 1: N steps are N intervals and N + 1 times.
        shift: s, above 0.

    Returns:
        float64, shape (N + 1,), from 1 to 0.

    Raises:
        ValueError: steps below 1, or a shift that is not above 0 and finite.

    Reference: formula ``flow.shifted_grid``.
    """
    _check.count("steps", steps)
    left = torch.arange(steps, -1, -1, dtype=torch.float64)
    return shift_time(left / steps, shift)


def logit_normal_time(noise: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    r"""Training times with a logit-normal law.

    .. math:: t=\frac1{1+e^{-(m+s z)}}

    Args:
        noise: standard normal z, float64, shape (B,).
        mean, std: m and s of the log-odds of time, s above 0.

    Returns:
        Times in 0..1, float64, shape (B,).

    Raises:
        ValueError: a noise of another dtype, m not finite, or s not above 0 and finite.

    Reference: Esser et al. 2024, eq. 19 (formula ``flow.logit_normal``).
    """
    if noise.dtype != torch.float64:
        raise ValueError(f"noise must be float64, got {noise.dtype}")
    _check.finite("mean", mean)
    _positive("std", std)
    return torch.sigmoid(mean + std * noise)


def logit_normal_density(t: Time, mean: float = 0.0, std: float = 1.0) -> Tensor:
    r"""The density of logit-normal times.

    .. math:: \pi(t)=\frac1{s\sqrt{2\pi}}\frac1{t(1-t)}
        \exp\left(-\frac{(\operatorname{logit}t-m)^2}{2s^2}\right)

    Args:
        t: time, strictly between 0 and 1, a float or float64 of shape () or (B,).
        mean, std: m and s of the log-odds of time, s above 0.

    Returns:
        float64, the shape of t.

    Raises:
        ValueError: t at 0 or 1 or out of range, m not finite, or s not above 0 and finite.

    Reference: Esser et al. 2024, eq. 19 (formula ``flow.logit_normal``, ``flow.logit_normal_shift``).
    """
    at = _inside(t)
    _check.finite("mean", mean)
    _positive("std", std)
    away = (at.log() - torch.log1p(-at) - mean) / std
    return torch.exp(-0.5 * away**2) / (std * math.sqrt(2 * math.pi) * at * (1 - at))


def eps_loss_weight(t: Time, density: float | Tensor = 1.0) -> Tensor:
    r"""The weight that training a rectified velocity at times of this density gives the squared error of the
    noise, per unit of half-log-SNR λ.

    .. math:: w(\lambda)=\frac{t}{1-t}\,\pi(t)

    Args:
        t: time, 0..1 and below 1, a float or float64 of shape () or (B,).
        density: π(t), a float or float64 of the shape of t; 1 for uniform times.

    Returns:
        float64, the shape of t.

    Raises:
        ValueError: t at 1, where noise says nothing about the velocity, or out of range; a density of another
            dtype.

    Reference: Esser et al. 2024, eq. 6 and 18; Kingma and Gao 2023 (formula ``flow.log_snr_weight``).
    """
    at = _TIMES.time(t)
    if isinstance(density, Tensor) and density.dtype != torch.float64:
        raise ValueError(f"density must be a float or float64, got {density.dtype}")
    if _check.readable(at) and bool((at == 1).any()):
        raise ValueError("t must be below 1, where eps no longer determines the velocity, got 1.0")
    return at / (1 - at) * density


def _inside(t: Time) -> Tensor:
    at = _TIMES.time(t)
    if _check.readable(at) and bool(((at == 0) | (at == 1)).any()):
        raise ValueError(f"t must lie strictly between 0 and 1, got {at}")
    return at


def _positive(name: str, value: float) -> None:
    _check.finite(name, value)
    if not value > 0:
        raise ValueError(f"{name} must be above 0, got {value}")
