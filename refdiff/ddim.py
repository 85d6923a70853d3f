r"""Denoising diffusion implicit models: the family of processes that share the marginals of DDPM.

A member is chosen by the standard deviation σ of its reverse step, or by η in
:math:`\sigma=\eta\sqrt{\tilde\beta}`; η = 1 is DDPM on the same sub-sequence, η = 0 is deterministic. Levels
s < t as in ``refdiff.ddpm``; Song et al.'s α is :math:`\bar\alpha` here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from refdiff import _check
from refdiff import schedule as _schedule
from refdiff._check import Level
from refdiff.gaussian import Gaussian
from refdiff.kernel import (
    Coefficients,
    Number,
    Pair,
    any_true,
    cast,
    pair,
    quotient,
    require_signal,
    sqrt,
    steps,
    take_noise,
)
from refdiff.schedule import Schedule

Model = Callable[[Tensor, int], Tensor]


def sigma(schedule: Schedule, t: Level, s: Level, eta: float = 1.0) -> Tensor:
    r"""The standard deviation of the reverse step.

    .. math:: \sigma=\eta\sqrt{\frac{1-\bar\alpha_s}{1-\bar\alpha_t}}
        \sqrt{1-\frac{\bar\alpha_t}{\bar\alpha_s}}

    Args:
        schedule: noise schedule with T steps.
        t, s: levels, 0 ≤ s < t ≤ T, ints or shape (B,).
        eta: η, at least 0 and so small that σ² ≤ 1 − ᾱ_s.

    Returns:
        float64 of shape () or (B,).

    Raises:
        ValueError: a level out of range, s not below t, or η out of bounds.

    Reference: Song et al. 2021 (DDIM), eq. 16 (formula ``ddim.sigma``, ``ddim.sigma_bound``).
    """
    levels = pair(schedule, t, s)
    _direction(levels, eta)
    return cast(_sigma(levels, eta), None)


def step_coefficients(
    schedule: Schedule, t: Level, s: Level, eta: float = 0.0, like: Tensor | None = None
) -> Coefficients:
    r"""The coefficients of the reverse step.

    .. math:: x_s=\sqrt{\bar\alpha_s}\,\frac{x_t-\sqrt{1-\bar\alpha_t}\,\hat\epsilon}{\sqrt{\bar\alpha_t}}
        +\sqrt{1-\bar\alpha_s-\sigma^2}\,\hat\epsilon+\sigma z

    Args:
        schedule: noise schedule with T steps.
        t, s: levels, 0 ≤ s < t ≤ T, ints or shape (B,).
        eta: η, at least 0 and so small that σ² ≤ 1 − ᾱ_s.
        like: tensor of shape (B, *) that the coefficients will multiply; float64 without it.

    Returns:
        Coefficients of shape () or (B,), broadcastable over ``like`` where it is given.

    Raises:
        ValueError: a level out of range or without signal, s not below t, or η out of bounds.

    Reference: Song et al. 2021 (DDIM), eq. 12 (formula ``ddim.step``).
    """
    levels = pair(schedule, t, s, like)
    return _coefficients(levels, _sigma(levels, eta), _direction(levels, eta), like)


def step_coefficients_with_sigma(
    schedule: Schedule, t: Level, s: Level, sigma: float | Tensor, like: Tensor | None = None
) -> Coefficients:
    r"""The coefficients of the reverse step with a given standard deviation.

    .. math:: x_s=\sqrt{\bar\alpha_s}\,\hat x_0+\sqrt{1-\bar\alpha_s-\sigma^2}\,\hat\epsilon+\sigma z

    Args:
        schedule: noise schedule with T steps.
        t, s: levels, 0 ≤ s < t ≤ T, ints or shape (B,).
        sigma: σ, a float or float64 of shape () or (B,), 0 ≤ σ² ≤ 1 − ᾱ_s.
        like: tensor of shape (B, *) that the coefficients will multiply; float64 without it.

    Returns:
        Coefficients of shape () or (B,), broadcastable over ``like`` where it is given.

    Raises:
        ValueError: a level out of range or without signal, s not below t, or σ out of bounds.

    Reference: Song et al. 2021 (DDIM), eq. 12 (formula ``ddim.step``, ``ddim.sigma_bound``).
    """
    levels = pair(schedule, t, s, like)
    bound = sqrt(levels.one_minus_s)
    _within("sigma", sigma, bound)
    # the difference of squares as a product, so that σ at its bound gives 0 and not a rounding error
    return _coefficients(levels, sigma, sqrt((bound - sigma) * (bound + sigma)), like)


def step(
    schedule: Schedule,
    x_t: Tensor,
    t: Level,
    s: Level,
    eps: Tensor,
    eta: float = 0.0,
    noise: Tensor | None = None,
) -> Tensor:
    r"""One step of the family.

    .. math:: x_s=\sqrt{\bar\alpha_s}\,\hat x_0+\sqrt{1-\bar\alpha_s-\sigma^2}\,\hat\epsilon+\sigma z

    Args:
        schedule: noise schedule with T steps.
        x_t: noised data, shape (B, *).
        t, s: levels, 0 ≤ s < t ≤ T, ints or shape (B,).
        eps: predicted noise, shaped like x_t.
        eta: η, at least 0 and so small that σ² ≤ 1 − ᾱ_s.
        noise: standard normal, shaped like x_t, unused for η = 0; None only where σ = 0 (η = 0 or s = 0).

    Returns:
        x_s, shaped like x_t.

    Raises:
        ValueError: a level out of range or without signal, s not below t, η out of bounds, noise missing, or
            tensors of different shape, dtype or device.

    Reference: Song et al. 2021 (DDIM), eq. 12 (formula ``ddim.step``).
    """
    if noise is None and eta != 0:
        _require_data(s)
    return step_coefficients(schedule, t, s, eta, x_t).apply(x_t, eps, noise if eta != 0 else None)


def step_with_sigma(
    schedule: Schedule, x_t: Tensor, t: Level, s: Level, eps: Tensor, sigma: float | Tensor, noise: Tensor
) -> Tensor:
    r"""One step with a given standard deviation.

    .. math:: x_s=\sqrt{\bar\alpha_s}\,\hat x_0+\sqrt{1-\bar\alpha_s-\sigma^2}\,\hat\epsilon+\sigma z

    Args:
        schedule: noise schedule with T steps.
        x_t: noised data, shape (B, *).
        t, s: levels, 0 ≤ s < t ≤ T, ints or shape (B,).
        eps: predicted noise, shaped like x_t.
        sigma: σ, a float or float64 of shape () or (B,), 0 ≤ σ² ≤ 1 − ᾱ_s.
        noise: standard normal, shaped like x_t.

    Returns:
        x_s, shaped like x_t.

    Raises:
        ValueError: a level out of range or without signal, s not below t, σ out of bounds, or tensors of
            different shape, dtype or device.

    Reference: Song et al. 2021 (DDIM), eq. 12 (formula ``ddim.step``, ``ddim.sigma_bound``).
    """
    return step_coefficients_with_sigma(schedule, t, s, sigma, x_t).apply(x_t, eps, noise)


def posterior(schedule: Schedule, x_0: Tensor, x_t: Tensor, t: Level, s: Level, eta: float = 0.0) -> Gaussian:
    r"""The reverse kernel of the family given data; it needs no signal in x_t.

    .. math:: q_\sigma(x_s\mid x_t,x_0)=\mathcal N\!\left(x_s;\sqrt{\bar\alpha_s}\,x_0
        +\sqrt{1-\bar\alpha_s-\sigma^2}\,\frac{x_t-\sqrt{\bar\alpha_t}\,x_0}{\sqrt{1-\bar\alpha_t}},\sigma^2I\right)

    Args:
        schedule: noise schedule with T steps.
        x_0, x_t: data and noised data, shape (B, *).
        t, s: levels, 0 ≤ s < t ≤ T, ints or shape (B,).
        eta: η, at least 0 and so small that σ² ≤ 1 − ᾱ_s.

    Returns:
        Gaussian with mean (B, *) and variance broadcastable to it.

    Raises:
        ValueError: a level out of range, s not below t, η out of bounds, or tensors of different shape, dtype
            or device.

    Reference: Song et al. 2021 (DDIM), eq. 7 (formula ``ddim.marginals``).
    """
    _check.same(x_t=x_t, x_0=x_0)
    levels = pair(schedule, t, s, x_t)
    on_x_t = _direction(levels, eta) / sqrt(levels.one_minus_t)
    variance = eta * eta * levels.beta_tilde
    # √ᾱ_s (1 − √α A/√(1−ᾱ_t)) as a quotient of squares, which cancels nothing
    rest = (levels.beta + levels.alpha * variance) / levels.one_minus_t
    on_x_0 = levels.sqrt_alpha_bar_s * rest / (1 + levels.sqrt_alpha * on_x_t)
    mean = torch.addcmul(cast(on_x_t, x_t) * x_t, cast(on_x_0, x_t), x_0)
    return Gaussian(mean, cast(variance, x_t))


def forward_kernel(
    schedule: Schedule, x_0: Tensor, x_s: Tensor, t: Level, s: Level, eta: float = 0.0
) -> Gaussian:
    r"""The forward kernel of the family, by Bayes' rule; it forgets x_0, and is Markov, only for η = 1.

    .. math:: q_\sigma(x_t\mid x_s,x_0)=\mathcal N\!\left(x_t;\sqrt{\bar\alpha_t}\,x_0
        +\kappa\,(x_s-\sqrt{\bar\alpha_s}\,x_0),\eta^2\beta_{t\mid s}I\right),\qquad
        \kappa^2=\alpha_{t\mid s}+(1-\eta^2)\frac{\beta_{t\mid s}}{1-\bar\alpha_s}

    Args:
        schedule: noise schedule with T steps.
        x_0, x_s: data and noised data, shape (B, *).
        t, s: levels, 1 ≤ s < t ≤ T, ints or shape (B,) (at s = 0 it is the marginal).
        eta: η, at least 0 and so small that σ² ≤ 1 − ᾱ_s.

    Returns:
        Gaussian with mean (B, *) and variance broadcastable to it.

    Raises:
        ValueError: a level out of range, s not below t, η out of bounds, or tensors of different shape, dtype
            or device.

    Reference: Song et al. 2021 (DDIM), eq. 8 (formula ``ddim.markov_iff``).
    """
    _check.same(x_s=x_s, x_0=x_0)
    _check.level("s", s, schedule.T, minimum=1)
    levels = pair(schedule, t, s, x_s)
    slope = _direction(levels, eta) * sqrt(levels.one_minus_t) / levels.one_minus_s
    excess = (1 - eta) * (1 + eta) * levels.beta / levels.one_minus_s
    on_x_0 = -levels.sqrt_alpha_bar_s * quotient(excess, levels.sqrt_alpha + slope)
    mean = torch.addcmul(cast(slope, x_s) * x_s, cast(on_x_0, x_s), x_0)
    return Gaussian(mean, cast(eta * eta * levels.beta, x_s))


def invert_coefficients(schedule: Schedule, s: Level, t: Level, like: Tensor | None = None) -> Coefficients:
    r"""The coefficients of the deterministic step upwards.

    .. math:: x_t=\sqrt{\frac{\bar\alpha_t}{\bar\alpha_s}}\,x_s+\left(\sqrt{1-\bar\alpha_t}
        -\sqrt{\frac{\bar\alpha_t}{\bar\alpha_s}}\sqrt{1-\bar\alpha_s}\right)\hat\epsilon

    Args:
        schedule: noise schedule with T steps.
        s, t: levels, 0 ≤ s < t ≤ T, ints or shape (B,).
        like: tensor of shape (B, *) that the coefficients will multiply; float64 without it.

    Returns:
        Coefficients, of which ``x_t`` multiplies x_s and ``noise`` is 0.

    Raises:
        ValueError: a level out of range, or s not below t.

    Reference: Song et al. 2021 (DDIM), section 4.3 (formula ``ddim.inversion``).
    """
    levels = pair(schedule, t, s, like)
    on_eps = levels.beta / (sqrt(levels.one_minus_t) + levels.sqrt_alpha * sqrt(levels.one_minus_s))
    return Coefficients(cast(levels.sqrt_alpha, like), cast(on_eps, like), cast(0 * on_eps, like))


def invert(schedule: Schedule, x_s: Tensor, s: Level, t: Level, eps: Tensor) -> Tensor:
    r"""The deterministic step upwards; it undoes ``step`` with η = 0 exactly where both see the same eps.

    .. math:: \frac{x_t}{\sqrt{\bar\alpha_t}}=\frac{x_s}{\sqrt{\bar\alpha_s}}
        +\left(\sqrt{\tfrac{1-\bar\alpha_t}{\bar\alpha_t}}-\sqrt{\tfrac{1-\bar\alpha_s}{\bar\alpha_s}}\right)\hat\epsilon

    Args:
        schedule: noise schedule with T steps.
        x_s: noised data, shape (B, *).
        s, t: levels, 0 ≤ s < t ≤ T, ints or shape (B,).
        eps: predicted noise, shaped like x_s.

    Returns:
        x_t, shaped like x_s.

    Raises:
        ValueError: a level out of range, s not below t, or tensors of different shape, dtype or device.

    Reference: Song et al. 2021 (DDIM), section 4.3 (formula ``ddim.inversion``).
    """
    return invert_coefficients(schedule, s, t, x_s).apply(x_s, eps)


def inversion_error(schedule: Schedule, t: Level, s: Level, eps_s: Tensor, eps_t: Tensor) -> Tensor:
    r"""How far a step upwards and a step down again miss their start, when the prediction changes on the way.

    .. math:: x_s'-x_s=\sqrt{\bar\alpha_s}\,(\sigma_s-\sigma_t)\,(\hat\epsilon_t-\hat\epsilon_s),
        \qquad\sigma=\sqrt{(1-\bar\alpha)/\bar\alpha}

    Args:
        schedule: noise schedule with T steps.
        t, s: levels, 0 ≤ s < t ≤ T, ints or shape (B,).
        eps_s, eps_t: the predictions that the steps up and down used, shape (B, *).

    Returns:
        The error, shaped like eps_s.

    Raises:
        ValueError: a level out of range or without signal, s not below t, or tensors that differ in shape,
            dtype or device.

    Reference: formula ``ddim.inversion``.
    """
    _check.same(eps_s=eps_s, eps_t=eps_t)
    return step_coefficients(schedule, t, s, 0.0, eps_s).eps * (eps_t - eps_s)


def euler_step(schedule: Schedule, x_t: Tensor, t: Level, s: Level, eps: Tensor) -> Tensor:
    r"""The deterministic step as an exact Euler step in σ of the scaled state.

    .. math:: \frac{x_s}{\sqrt{\bar\alpha_s}}=\frac{x_t}{\sqrt{\bar\alpha_t}}+(\sigma_s-\sigma_t)\hat\epsilon,
        \qquad\sigma=\sqrt{(1-\bar\alpha)/\bar\alpha}

    Args:
        schedule: noise schedule with T steps.
        x_t: noised data, shape (B, *).
        t, s: levels, 0 ≤ s < t ≤ T, ints or shape (B,).
        eps: predicted noise, shaped like x_t.

    Returns:
        x_s, shaped like x_t.

    Raises:
        ValueError: a level out of range or without signal, s not below t, or tensors of different shape,
            dtype or device.

    Reference: Song et al. 2021 (DDIM), eq. 13 (formula ``ddim.euler_in_sigma``).
    """
    _check.same(x_t=x_t, eps=eps)
    require_signal(pair(schedule, t, s, x_t))
    descent = _schedule.cast(_schedule.sigma_difference(schedule, t, s), x_t)
    x_bar = x_t / schedule.at("sqrt_alpha_bar", t, x_t) - descent * eps
    return schedule.at("sqrt_alpha_bar", s, x_t) * x_bar


def sample(
    model: Model,
    schedule: Schedule,
    x_T: Tensor,
    levels: Sequence[int],
    eta: float = 0.0,
    noises: Iterable[Tensor] = (),
) -> Iterator[tuple[int, Tensor]]:
    r"""Sampling with the family on a sub-sequence of levels.

    .. math:: x_s=\sqrt{\bar\alpha_s}\,\hat x_0+\sqrt{1-\bar\alpha_s-\sigma^2}\,\hat\epsilon+\sigma z,
        \qquad(t,s)=(\tau_i,\tau_{i-1})

    Args:
        model: eps predicted from x_t and the level t, an int.
        schedule: noise schedule with T steps.
        x_T: the first level's state, shape (B, *).
        levels: levels to visit, descending to 0.
        eta: η, at least 0 and so small that σ² ≤ 1 − ᾱ_s.
        noises: standard normal, shaped like x_T, one for each step but the last; none is taken for η = 0.

    Yields:
        (t, x_t) from the first level to (0, x_0).

    Raises:
        ValueError: levels not descending within T..0, too few noises, or what ``step`` raises.

    Reference: Song et al. 2021 (DDIM), section 4 (formula ``ddim.step``).
    """
    draws = iter(noises)
    pairs = steps(levels, schedule.T)
    x = x_T
    yield levels[0], x
    for t, s in pairs:
        noise = take_noise(draws, t) if eta != 0 and s > 0 else None
        x = step(schedule, x, t, s, model(x, t), eta, noise)
        yield s, x


def encode(
    model: Model, schedule: Schedule, x_0: Tensor, levels: Sequence[int]
) -> Iterator[tuple[int, Tensor]]:
    r"""Inversion from data to the highest level, eps being predicted at the lower end of each step.

    .. math:: \frac{x_t}{\sqrt{\bar\alpha_t}}=\frac{x_s}{\sqrt{\bar\alpha_s}}
        +(\sigma_t-\sigma_s)\,\epsilon_\theta(x_s,s)

    Args:
        model: eps predicted from x_s and the level s, an int; it is asked at level 0 too.
        schedule: noise schedule with T steps.
        x_0: data, shape (B, *).
        levels: the levels that ``sample`` visits, descending to 0; they are visited upwards.

    Yields:
        (t, x_t) from (0, x_0) to the first of the levels.

    Raises:
        ValueError: levels not descending within T..0, or what ``invert`` raises.

    Reference: Song et al. 2021 (DDIM), section 4.3 (formula ``ddim.inversion``).
    """
    pairs = list(steps(levels, schedule.T))
    x = x_0
    yield 0, x
    for t, s in reversed(pairs):
        x = invert(schedule, x, s, t, model(x, s))
        yield t, x


def _sigma(levels: Pair, eta: float) -> Number:
    return eta * sqrt(levels.beta_tilde)


def _direction(levels: Pair, eta: float) -> Number:
    """√(1 − ᾱ_s − σ²) as √((1−ᾱ_s)((1−η²)β + α(1−ᾱ_s))/(1−ᾱ_t)), a sum of positive terms for η ≤ 1."""
    if not (math.isfinite(eta) and eta >= 0):
        raise ValueError(f"eta must be at least 0 and finite, got {eta}")
    rest = (1 - eta) * (1 + eta) * levels.beta + levels.alpha * levels.one_minus_s
    squared = levels.one_minus_s / levels.one_minus_t * rest
    if any_true(squared < 0):
        raise ValueError(f"eta must keep sigma² at most 1 - alpha_bar_s, got {eta}")
    return sqrt(squared)


def _coefficients(levels: Pair, sigma: Number, direction: Number, like: Tensor | None) -> Coefficients:
    require_signal(levels)
    # √(1−ᾱ_s−σ²) − √((1−ᾱ_t)/α) = −(β + ασ²)/(√α (√α √(1−ᾱ_s−σ²) + √(1−ᾱ_t))), without the difference
    total = levels.sqrt_alpha * (levels.sqrt_alpha * direction + sqrt(levels.one_minus_t))
    on_eps = -(levels.beta + levels.alpha * sigma * sigma) / total
    return Coefficients(cast(1 / levels.sqrt_alpha, like), cast(on_eps, like), cast(sigma, like))


def _within(name: str, sigma: float | Tensor, bound: Number) -> None:
    if any_true(sigma < 0) or any_true(sigma > bound) or any_true(sigma != sigma):
        raise ValueError(f"{name} must lie in 0..sqrt(1 - alpha_bar_s) = {bound}, got {sigma}")


def _require_data(s: Level) -> None:
    if any_true(s != 0):
        raise ValueError(f"noise must be given where sigma is not 0, got None for level {s}")
