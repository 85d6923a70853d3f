r"""DDIM's objective: the weight of each of its terms. Public names are those of ``refdiff.vlb``."""

from __future__ import annotations

import math
from typing import get_args

import torch
from torch import Tensor

from refdiff import _check
from refdiff._check import Level
from refdiff.ddpm import Form
from refdiff.kernel import Pair, any_true, cast, pair, require_signal, sqrt
from refdiff.schedule import Schedule


def ddim_weight(
    schedule: Schedule, t: Level, sigma: float | Tensor, s: Level | None = None, form: Form = "eps"
) -> Tensor:
    r"""The weight of the squared error in a step of DDIM's objective, for a given σ > 0.

    .. math:: w_{x_0}=\frac1{2\sigma^2}\left(\sqrt{\bar\alpha_s}
        -\sqrt{1-\bar\alpha_s-\sigma^2}\sqrt{\tfrac{\bar\alpha_t}{1-\bar\alpha_t}}\right)^2,\qquad
        w_\epsilon=\frac{1-\bar\alpha_t}{\bar\alpha_t}w_{x_0},\qquad w_\mu=\frac1{2\sigma^2}

    It is DDPM's weight for σ² = β̃, and larger for every other σ.

    Args:
        schedule: noise schedule with T steps.
        t: level, 2 ≤ t ≤ T, an int or shape (B,).
        sigma: σ, a float or float64 of shape () or (B,), 0 < σ² ≤ 1 − ᾱ_s.
        s: level, 1 ≤ s < t, t − 1 if not given.
        form: what is predicted.

    Returns:
        float64 of shape () or (B,).

    Raises:
        ValueError: a level out of range, s not below t, σ out of bounds, for eps a level without signal, or
            an unknown form.

    Reference: Song et al. 2021 (DDIM), theorem 1, whose printed constant 1/(2dσ²ᾱ_t) is wrong (formula
    ``vlb.ddim_weight_x_0``, ``vlb.ddim_weight_eps``, ``vlb.ddim_least_weight``).
    """
    levels = _inner(schedule, t, s)
    if any_true(sigma <= 0) or any_true(sigma > sqrt(levels.one_minus_s)):
        raise ValueError(f"sigma must lie in (0, sqrt(1 - alpha_bar_s)], got {sigma}")
    direction = sqrt((sqrt(levels.one_minus_s) - sigma) * (sqrt(levels.one_minus_s) + sigma))
    if form == "mu":
        return cast(1 / (2 * sigma * sigma), None)
    if form not in get_args(Form):
        raise ValueError(f"form must be one of {', '.join(get_args(Form))}, got {form!r}")
    # k − A as a quotient of squares, which cancels nothing; times √α, so that no signal is no obstacle
    root = sqrt(levels.one_minus_t)
    slope = (levels.beta + levels.alpha * sigma * sigma) / (root + levels.sqrt_alpha * direction)
    if form == "x_0":
        factor = levels.sqrt_alpha_bar_s * slope / root
    else:
        require_signal(levels)
        factor = slope / levels.sqrt_alpha
    return cast(factor * factor / (2 * sigma * sigma), None)


def ddim_sigma(schedule: Schedule, t: Level, weight: float, s: Level | None = None) -> Tensor:
    r"""The standard deviation σ, with η ≤ 1, for which a step of DDIM's objective has a given weight of eps.

    .. math:: \sigma^2=1-\bar\alpha_s-A^2,\qquad
        A=\frac{k+\sqrt{2w((1+2w)(1-\bar\alpha_s)-k^2)}}{1+2w},\qquad
        k=\sqrt{\frac{\bar\alpha_s(1-\bar\alpha_t)}{\bar\alpha_t}}

    With weight 1 it is the simple loss.

    Args:
        schedule: noise schedule with T steps.
        t: level, 2 ≤ t ≤ T, an int or shape (B,).
        weight: w, at least DDPM's weight for σ² = β̃ (no member of the family has less).
        s: level, 1 ≤ s < t, t − 1 if not given.

    Returns:
        float64 of shape () or (B,).

    Raises:
        ValueError: a level out of range or without signal, s not below t, or a weight below the least one.

    Reference: Song et al. 2021 (DDIM), theorem 1 (formula ``vlb.ddim_sigma_for_weight``).
    """
    levels = _inner(schedule, t, s)
    require_signal(levels)
    least = levels.beta / (2 * levels.alpha * levels.one_minus_s)
    if any_true(weight < least):
        raise ValueError(f"weight must be at least {least}, the weight for eta = 1, got {weight}")
    spare = 4 * weight * levels.one_minus_s * (weight - least)
    k = sqrt(levels.one_minus_t) / levels.sqrt_alpha
    # the smaller root k − A of its quadratic equation, by the product of both
    return cast(math.sqrt(2 * weight) * levels.beta / (levels.alpha * (2 * weight * k + sqrt(spare))), None)


def ddim_direct_term(
    schedule: Schedule, noise: Tensor, eps: Tensor, t: Level, sigma: float | Tensor
) -> Tensor:
    r"""A term of DDIM's objective that reaches the data directly: t = 1, and every level left out.

    .. math:: -\log\mathcal N(x_0;\hat x_0(x_t),\sigma^2)=\frac{1-\bar\alpha_t}{2\sigma^2\bar\alpha_t}
        (\epsilon-\hat\epsilon)^2+\tfrac12\log(2\pi\sigma^2)

    Args:
        schedule: noise schedule with T steps.
        noise, eps: the noise that makes x_t, and its prediction, shape (B, *).
        t: level with signal, 1 ≤ t ≤ T, an int or shape (B,).
        sigma: σ > 0, a float or float64 of shape () or (B,).

    Returns:
        Nats of each element, shaped like noise.

    Raises:
        ValueError: t out of range or without signal, σ not positive, or tensors that do not match.

    Reference: Song et al. 2021 (DDIM), eq. 10 and appendix C (formula ``vlb.ddim_direct_term``).
    """
    _check.same(noise=noise, eps=eps)
    if not isinstance(sigma, Tensor):
        _check.between("sigma", sigma, 0, math.inf)
    elif any_true(sigma <= 0):
        raise ValueError(f"sigma must be positive, got {sigma}")
    levels = pair(schedule, t, 0 if isinstance(t, int) else torch.zeros_like(t), noise)
    require_signal(levels)
    error = cast(sqrt(levels.one_minus_t) / (levels.sqrt_alpha * sigma), noise) * (noise - eps)
    log_sigma = sigma.log() if isinstance(sigma, Tensor) else math.log(sigma)
    return error * error / 2 + cast(log_sigma, noise) + math.log(2 * math.pi) / 2


def _inner(schedule: Schedule, t: Level, s: Level | None) -> Pair:
    _check.level("t", t, schedule.T, minimum=2)
    s = t - 1 if s is None else s
    _check.level("s", s, schedule.T, minimum=1)
    return pair(schedule, t, s)
