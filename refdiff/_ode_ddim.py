"""DDIM beside the discretised probability-flow ODE: the coefficients of the score, step by step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from refdiff import _check
from refdiff._check import Level
from refdiff.kernel import Pair, cast, pair, require_signal, sqrt
from refdiff.schedule import Schedule


@dataclass(frozen=True, eq=False)
class CoefficientGap:
    r"""Two discretisations of one ODE at each step t = 1 … T; every tensor has shape (T,), float64.

    .. math:: x_{t-1}=a_t\,x_t+c_t\,s(x_t,t)

    Args:
        half_beta: ½β_t, the coefficient of the score in the discretised probability flow.
        ddim: c_t, the coefficient of the score in DDIM.
        gap: ddim − half_beta, which is positive.
        ratio: ddim / half_beta, from 2/√α_1 at the first step towards 1.
        state_gap: 1/√α_t − (2 − √α_t), the difference of the coefficients of x_t, which is positive.
    """

    half_beta: Tensor
    ddim: Tensor
    gap: Tensor
    ratio: Tensor
    state_gap: Tensor


def ddim_coefficient_gap(schedule: Schedule) -> CoefficientGap:
    r"""The coefficients of the score in DDIM and in the discretised probability flow, for every step.

    .. math:: c_t=\frac{1-\bar\alpha_t}{\sqrt{\alpha_t}}-\sqrt{1-\bar\alpha_{t-1}}\sqrt{1-\bar\alpha_t}
        =\frac{\beta_t}{\sqrt{\alpha_t}+\alpha_t\sqrt{(1-\bar\alpha_{t-1})/(1-\bar\alpha_t)}}

    Args:
        schedule: noise schedule with T steps, all of them with signal.

    Returns:
        CoefficientGap, without cancellation.

    Raises:
        ValueError: a schedule whose last level has no signal.

    Reference: formulas ``ode.ddim_coefficient``, ``ode.ddim_coefficient_gap``,
        ``ode.ddim_coefficient_ratio``.
    """
    levels = pair(schedule, torch.arange(1, schedule.T + 1, device=schedule.beta.device))
    require_signal(levels, "schedule")
    half_beta, gap, state_gap = _half_beta(levels), _gap(levels), _state_gap(levels)
    ratio = 2 / (levels.sqrt_alpha * (1 + _kept(levels)))
    tensors = (torch.as_tensor(value) for value in (half_beta, half_beta * ratio, gap, ratio, state_gap))
    return CoefficientGap(*tensors)


def ddim_step_gap(schedule: Schedule, x_t: Tensor, t: Level, s: Level, score: Tensor) -> Tensor:
    r"""The step of DDIM minus that of the discretised probability flow, ``vp_step``.

    .. math:: \left(\frac1{\sqrt\alpha}+\sqrt\alpha-2\right)x_t+\left(c-\tfrac12\beta\right)s(x_t,t)

    Args:
        schedule: noise schedule with T steps.
        x_t: noised data, shape (B, *).
        t, s: levels, 0 ≤ s < t ≤ T, ints or shape (B,).
        score: score at x_t and t, shaped like x_t.

    Returns:
        The difference, shaped like x_t, without cancellation.

    Raises:
        ValueError: a level out of range or without signal, s not below t, or tensors of different shape,
            dtype or device.

    Reference: formula ``ode.ddim_step_gap``.
    """
    _check.same(x_t=x_t, score=score)
    levels = pair(schedule, t, s, x_t)
    require_signal(levels)
    return cast(_state_gap(levels), x_t) * x_t + cast(_gap(levels), x_t) * score


def _half_beta(levels: Pair) -> Tensor | float:
    return levels.beta / 2


def _kept(levels: Pair) -> Tensor | float:
    """√(α(1−ᾱ_s)/(1−ᾱ_t)), the deviation of the noise at s over that at t, times √α."""
    return sqrt(levels.alpha * levels.one_minus_s / levels.one_minus_t)


def _state_gap(levels: Pair) -> Tensor | float:
    """(1−√α)²/√α with 1 − √α = β/(1 + √α)."""
    lost = levels.beta / (1 + levels.sqrt_alpha)
    return lost * lost / levels.sqrt_alpha


def _gap(levels: Pair) -> Tensor | float:
    """½β·(2 − √α(1+q))/(√α(1+q)), the numerator as a sum of positive terms times β."""
    root, kept = levels.sqrt_alpha, _kept(levels)
    left = (1 + levels.alpha * levels.one_minus_s) / (levels.one_minus_t * (1 + root * kept))
    return levels.beta * levels.beta / 2 * (1 / (1 + root) + left) / (root * (1 + kept))
