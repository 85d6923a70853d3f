"""The drift of the probability-flow ODE, its fixed steps, and the discretisations of discrete chains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from refdiff import _check
from refdiff._check import Level
from refdiff.kernel import cast as cast_number
from refdiff.kernel import pair
from refdiff.process import Process, Time
from refdiff.schedule import Schedule, cast

ScoreFn: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""s(x, t) for x of shape (B, *) and a float64 time of shape () or (B,); no sample sees another."""
Rule = Literal["euler", "heun", "rk4"]


def drift(process: Process, x: Tensor, t: Time, score: Tensor) -> Tensor:
    r"""The velocity of the probability-flow ODE, whose solutions have the marginals of the process.

    .. math:: \frac{\mathrm dx}{\mathrm dt}=f(t)\,x-\tfrac12g(t)^2\,\nabla_x\log p_t(x)

    Args:
        process: the continuous process.
        x: state, shape (B, *).
        t: time, a float or float64 of shape () or (B,).
        score: score at x and t, shaped like x.

    Returns:
        The velocity per unit of time, shaped like x.

    Raises:
        ValueError: a time outside the process, or tensors of different shape, dtype or device.

    Reference: Song et al. 2021 (score SDE), eq. 13 (formulas ``ode.drift``, ``ode.vp_drift``,
        ``ode.ve_drift``, ``ode.sub_vp_drift``).
    """
    _check.same(x=x, score=score)
    at = process.time(t)
    _check.batch("t", at, x)
    on_score = -process.diffusion_squared(at) / 2
    return torch.addcmul(cast(process.drift(at), x) * x, cast(on_score, x), score)


def euler_step(process: Process, score_fn: ScoreFn, x: Tensor, t: Time, s: Time) -> Tensor:
    r"""Euler's step in time, of order 1.

    .. math:: x_s=x_t+h\,v(x_t,t),\qquad h=s-t

    Args:
        process: the continuous process.
        score_fn: score of x and the time.
        x: state at time t, shape (B, *).
        t, s: times, floats or float64 of shape () or (B,); s below t samples, s above t encodes.

    Returns:
        The state at time s, shaped like x.

    Raises:
        ValueError: a time outside the process, or a score that differs from x in shape, dtype or device.

    Reference: formula ``ode.euler_error``.
    """
    at_t, _, h = _interval(process, x, t, s)
    return torch.addcmul(x, h, drift(process, x, at_t, score_fn(x, at_t)))


def heun_step(process: Process, score_fn: ScoreFn, x: Tensor, t: Time, s: Time) -> Tensor:
    r"""Heun's step in time, of order 2: the mean of the velocities at both ends of Euler's step.

    .. math:: x_s=x_t+\tfrac h2\left(v(x_t,t)+v(x_t+h\,v(x_t,t),s)\right),\qquad h=s-t

    Args:
        process: the continuous process.
        score_fn: score of x and the time; it is asked at s too.
        x: state at time t, shape (B, *).
        t, s: times, floats or float64 of shape () or (B,).

    Returns:
        The state at time s, shaped like x.

    Raises:
        ValueError: a time outside the process, or a score that differs from x in shape, dtype or device.

    Reference: formula ``ode.heun_error``.
    """
    at_t, at_s, h = _interval(process, x, t, s)
    first = drift(process, x, at_t, score_fn(x, at_t))
    euler = torch.addcmul(x, h, first)
    second = drift(process, euler, at_s, score_fn(euler, at_s))
    return torch.addcmul(torch.addcmul(x, h / 2, first), h / 2, second)


def rk4_step(process: Process, score_fn: ScoreFn, x: Tensor, t: Time, s: Time) -> Tensor:
    r"""The classical Runge–Kutta step in time, of order 4.

    .. math:: x_s=x_t+\tfrac h6(k_1+2k_2+2k_3+k_4),\quad k_1=v(x_t,t),\;
        k_2=v(x_t+\tfrac h2k_1,m),\;k_3=v(x_t+\tfrac h2k_2,m),\;k_4=v(x_t+hk_3,s)

    Args:
        process: the continuous process.
        score_fn: score of x and the time; it is asked at s and half way too.
        x: state at time t, shape (B, *).
        t, s: times, floats or float64 of shape () or (B,); m is half way between them and h = s − t.

    Returns:
        The state at time s, shaped like x.

    Raises:
        ValueError: a time outside the process, or a score that differs from x in shape, dtype or device.

    Reference: formula ``ode.rk4_error``.
    """
    at_t, at_s, h = _interval(process, x, t, s)
    middle = (at_t + at_s) / 2
    k = drift(process, x, at_t, score_fn(x, at_t))
    # the sum grows with each slope, as all four of them together would not stay in the cache
    x_s = torch.addcmul(x, h / 6, k)
    for reach, weight, at in ((h / 2, h / 3, middle), (h / 2, h / 3, middle), (h, h / 6, at_s)):
        stage = torch.addcmul(x, reach, k)
        k = drift(process, stage, at, score_fn(stage, at))
        x_s = torch.addcmul(x_s, weight, k)
    return x_s


STEPS: dict[str, Callable[[Process, ScoreFn, Tensor, Time, Time], Tensor]] = {
    "euler": euler_step,
    "heun": heun_step,
    "rk4": rk4_step,
}


def trajectory(
    process: Process, score_fn: ScoreFn, x: Tensor, times: Sequence[float] | Tensor, rule: Rule = "heun"
) -> Iterator[tuple[float, Tensor]]:
    r"""Fixed steps over given times, in either direction.

    .. math:: x_{t_{i+1}}=\mathrm{step}(x_{t_i},t_i,t_{i+1})

    Args:
        process: the continuous process.
        score_fn: score of x and the time.
        x: state at the first time, shape (B, *).
        times: at least two times, all falling (sampling) or all rising (encoding).
        rule: "euler", "heun" or "rk4".

    Yields:
        (t, x_t) from the first time to the last.

    Raises:
        ValueError: an unknown rule, times that do not go one way, or what a step raises.

    Reference: formulas ``ode.euler_error``, ``ode.heun_error``, ``ode.rk4_error``.
    """
    if rule not in STEPS:
        raise ValueError(f"rule must be one of {', '.join(get_args(Rule))}, got {rule!r}")
    visited = [float(t) for t in times]
    gaps = [s - t for t, s in pairwise(visited)]
    if not gaps or not (all(gap < 0 for gap in gaps) or all(gap > 0 for gap in gaps)):
        raise ValueError(f"times must be at least two, all falling or all rising, got {visited}")
    yield visited[0], x
    for t, s in pairwise(visited):
        x = STEPS[rule](process, score_fn, x, t, s)
        yield s, x


def ve_step(x: Tensor, sigma_t: float | Tensor, sigma_s: float | Tensor, score: Tensor) -> Tensor:
    r"""The discretisation of the variance-exploding ODE: Euler's step in the variance.

    .. math:: x_s=x_t+\tfrac12(\sigma_t^2-\sigma_s^2)\,s(x_t,\sigma_t)

    Args:
        x: data plus noise of deviation sigma_t, shape (B, *).
        sigma_t, sigma_s: noise levels, at least 0, floats or float64 of shape () or (B,).
        score: score at x and sigma_t, shaped like x.

    Returns:
        The state at the level sigma_s, shaped like x.

    Raises:
        ValueError: a negative level, or tensors of different shape, dtype or device.

    Reference: Song et al. 2021 (score SDE), appendix D.3 (formula ``ode.ve_step``).
    """
    _check.same(x=x, score=score)
    high, low = _sigma("sigma_t", sigma_t, x), _sigma("sigma_s", sigma_s, x)
    # a difference of squares as a product, in float64
    return x + cast((high - low) * (high + low) / 2, x) * score


def vp_step(schedule: Schedule, x_t: Tensor, t: Level, s: Level, score: Tensor) -> Tensor:
    r"""The discretisation of the variance-preserving ODE that mirrors the forward chain.

    .. math:: x_s=(2-\sqrt{1-\beta})\,x_t+\tfrac12\beta\,s(x_t,t),\qquad\beta=1-\bar\alpha_t/\bar\alpha_s

    Args:
        schedule: noise schedule with T steps.
        x_t: noised data, shape (B, *).
        t, s: levels, 0 ≤ s < t ≤ T, ints or shape (B,).
        score: score at x_t and t, shaped like x_t.

    Returns:
        x_s, shaped like x_t.

    Raises:
        ValueError: a level out of range, s not below t, or tensors of different shape, dtype or device.

    Reference: Song et al. 2021 (score SDE), appendix D.3 (formula ``ode.vp_step``).
    """
    _check.same(x_t=x_t, score=score)
    levels = pair(schedule, t, s, x_t)
    # 1 - sqrt(alpha) = beta/(1 + sqrt(alpha)), without the difference
    grown = 1 + levels.beta / (1 + levels.sqrt_alpha)
    return cast_number(grown, x_t) * x_t + cast_number(levels.beta / 2, x_t) * score


def _interval(process: Process, x: Tensor, t: Time, s: Time) -> tuple[Tensor, Tensor, Tensor]:
    """Both times, and their difference shaped to multiply x."""
    at_t, at_s = process.time(t), process.time(s)
    _check.batch("t", at_t, x)
    _check.batch("s", at_s, x)
    return at_t, at_s, cast(at_s - at_t, x)


def _sigma(name: str, sigma: float | Tensor, x: Tensor) -> Tensor:
    level = sigma if isinstance(sigma, Tensor) else torch.tensor(float(sigma), dtype=torch.float64)
    if level.dtype != torch.float64 or level.dim() > 1:
        raise ValueError(f"{name} must be float64 of shape () or (B,), got {level.dtype}, {level.shape}")
    if _check.readable(level) and not bool(((level >= 0) & level.isfinite()).all()):
        raise ValueError(f"{name} must be at least 0 and finite, got {level.tolist()}")
    _check.batch(name, level, x)
    return level
