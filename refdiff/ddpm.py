r"""Denoising diffusion probabilistic models: forward kernels, posterior, reverse step and losses.

Ho et al.'s notation; every function of one step is a function of two levels s < t, with
:math:`\alpha_{t\mid s}=\bar\alpha_t/\bar\alpha_s` and :math:`\beta_{t\mid s}=1-\alpha_{t\mid s}` in the place
of :math:`\alpha_t` and :math:`\beta_t`, and s = t − 1 where it is not given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from refdiff import _check
from refdiff._check import Level
from refdiff.gaussian import Gaussian
from refdiff.kernel import (
    Coefficients,
    Number,
    Pair,
    Reduction,
    any_true,
    cast,
    expm1_minus,
    log1p,
    on_x_0,
    pair,
    reduced,
    require_signal,
    sqrt,
    steps,
    take_noise,
)
from refdiff.schedule import Schedule

Variance = Literal["beta_tilde", "beta", "beta_first_tilde", "learned", "learned_first_tilde"]
Form = Literal["mu", "x_0", "eps"]
Model = Callable[[Tensor, Level], Tensor]


def q_step(schedule: Schedule, x_prev: Tensor, t: Level) -> Gaussian:
    r"""The forward kernel of one step.

    .. math:: q(x_t\mid x_{t-1})=\mathcal N(x_t;\sqrt{\alpha_t}\,x_{t-1},\beta_tI)

    Args:
        schedule: noise schedule with T steps.
        x_prev: x_{t-1}, shape (B, *).
        t: step, 1 ≤ t ≤ T, an int or shape (B,).

    Returns:
        Gaussian with mean (B, *) and variance broadcastable to it.

    Raises:
        ValueError: t outside 1..T.

    Reference: Ho et al. 2020, eq. 2 (formula ``ddpm.one_step``).
    """
    return transition(schedule, x_prev, t, t - 1)


def q_marginal(schedule: Schedule, x_0: Tensor, t: Level) -> Gaussian:
    r"""The forward kernel of t steps.

    .. math:: q(x_t\mid x_0)=\mathcal N(x_t;\sqrt{\bar\alpha_t}\,x_0,(1-\bar\alpha_t)I)

    Args:
        schedule: noise schedule with T steps.
        x_0: data, shape (B, *).
        t: level, 0 ≤ t ≤ T, an int or shape (B,).

    Returns:
        Gaussian with mean (B, *) and variance broadcastable to it.

    Raises:
        ValueError: t outside 0..T.

    Reference: Ho et al. 2020, eq. 4 (formula ``ddpm.marginal``).
    """
    mean = schedule.at("sqrt_alpha_bar", t, x_0) * x_0
    return Gaussian(mean, schedule.at("one_minus_alpha_bar", t, x_0))


def transition(schedule: Schedule, x_s: Tensor, t: Level, s: Level) -> Gaussian:
    r"""The forward kernel between two levels.

    .. math:: q(x_t\mid x_s)=\mathcal N(x_t;\sqrt{\alpha_{t\mid s}}\,x_s,\beta_{t\mid s}I)

    Args:
        schedule: noise schedule with T steps.
        x_s: noised data, shape (B, *).
        t, s: levels, 0 ≤ s < t ≤ T, ints or shape (B,).

    Returns:
        Gaussian with mean (B, *) and variance broadcastable to it.

    Raises:
        ValueError: a level out of range, or s not below t.

    Reference: formula ``ddpm.transition``.
    """
    levels = pair(schedule, t, s, x_s)
    return Gaussian(cast(levels.sqrt_alpha, x_s) * x_s, cast(levels.beta, x_s))


def q_sample(schedule: Schedule, x_0: Tensor, t: Level, noise: Tensor) -> Tensor:
    r"""A sample of the marginal by reparameterization.

    .. math:: x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\epsilon

    Args:
        schedule: noise schedule with T steps.
        x_0: data, shape (B, *).
        t: level, 0 ≤ t ≤ T, an int or shape (B,).
        noise: standard normal, shaped like x_0.

    Returns:
        x_t, shaped like x_0.

    Raises:
        ValueError: t outside 0..T, or noise of another shape, dtype or device.

    Reference: Ho et al. 2020, eq. 4 (formula ``ddpm.marginal``).
    """
    _check.same(x_0=x_0, noise=noise)
    signal = schedule.at("sqrt_alpha_bar", t, x_0) * x_0
    return torch.addcmul(signal, schedule.at("sqrt_one_minus_alpha_bar", t, x_0), noise)


def posterior(schedule: Schedule, x_0: Tensor, x_t: Tensor, t: Level) -> Gaussian:
    r"""The forward posterior of one step.

    .. math:: q(x_{t-1}\mid x_t,x_0)=\mathcal N\!\left(x_{t-1};\tilde\mu_t(x_t,x_0),\tilde\beta_tI\right)

    Args:
        schedule: noise schedule with T steps.
        x_0, x_t: data and noised data, shape (B, *).
        t: step, 1 ≤ t ≤ T, an int or shape (B,).

    Returns:
        Gaussian with mean (B, *) and variance broadcastable to it.

    Raises:
        ValueError: t outside 1..T.

    Reference: Ho et al. 2020, eq. 6–7 (formula ``ddpm.posterior_mean``, ``ddpm.posterior_variance``).
    """
    return skip_posterior(schedule, x_0, x_t, t, t - 1)


def skip_posterior(schedule: Schedule, x_0: Tensor, x_t: Tensor, t: Level, s: Level) -> Gaussian:
    r"""The forward posterior of any lower level; at s = 0 it is x_0 with variance zero.

    .. math:: q(x_s\mid x_t,x_0)=\mathcal N\!\left(x_s;
        \frac{\sqrt{\alpha_{t\mid s}}(1-\bar\alpha_s)x_t
        +\sqrt{\bar\alpha_s}\beta_{t\mid s}x_0}{1-\bar\alpha_t},
        \frac{\beta_{t\mid s}(1-\bar\alpha_s)}{1-\bar\alpha_t}I\right)

    Args:
        schedule: noise schedule with T steps.
        x_0, x_t: data and noised data, shape (B, *).
        t, s: levels, 0 ≤ s < t ≤ T, ints or shape (B,).

    Returns:
        Gaussian with mean (B, *) and variance broadcastable to it.

    Raises:
        ValueError: a level out of range, s not below t, or tensors of different shape, dtype or device.

    Reference: S003 (formula ``ddpm.skip_posterior_mean``, ``ddpm.skip_posterior_variance``).
    """
    _check.same(x_t=x_t, x_0=x_0)
    levels = pair(schedule, t, s, x_t)
    on_x_t = levels.sqrt_alpha * levels.one_minus_s / levels.one_minus_t
    mean = torch.addcmul(cast(on_x_t, x_t) * x_t, cast(on_x_0(levels), x_t), x_0)
    return Gaussian(mean, cast(levels.beta_tilde, x_t))


def mean_from_x_0(schedule: Schedule, x_t: Tensor, t: Level, x_0: Tensor, s: Level | None = None) -> Tensor:
    r"""The mean of the reverse step from a prediction of x_0.

    .. math:: \mu=\frac{\sqrt{\alpha_t}(1-\bar\alpha_{t-1})x_t
        +\sqrt{\bar\alpha_{t-1}}\beta_t\hat x_0}{1-\bar\alpha_t}

    Args:
        schedule: noise schedule with T steps.
        x_t: noised data, shape (B, *).
        t: level, 1 ≤ t ≤ T, an int or shape (B,).
        x_0: predicted data, shaped like x_t.
        s: level, 0 ≤ s < t, t − 1 if not given.

    Returns:
        The mean, shaped like x_t.

    Raises:
        ValueError: a level out of range, s not below t, or tensors of different shape, dtype or device.

    Reference: Ho et al. 2020, eq. 7 (formula ``ddpm.mean_from_x_0``).
    """
    return skip_posterior(schedule, x_0, x_t, t, t - 1 if s is None else s).mean


def mean_from_eps(schedule: Schedule, x_t: Tensor, t: Level, eps: Tensor, s: Level | None = None) -> Tensor:
    r"""The mean of the reverse step from a prediction of the noise.

    .. math:: \mu=\frac1{\sqrt{\alpha_t}}\left(x_t-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\hat\epsilon\right)

    Args:
        schedule: noise schedule with T steps.
        x_t: noised data, shape (B, *).
        t: level, 1 ≤ t ≤ T, an int or shape (B,).
        eps: predicted noise, shaped like x_t.
        s: level, 0 ≤ s < t, t − 1 if not given.

    Returns:
        The mean, shaped like x_t.

    Raises:
        ValueError: a level out of range or without signal, s not below t, or tensors that differ in shape,
            dtype or device.

    Reference: Ho et al. 2020, eq. 11 (formula ``ddpm.mean_from_eps``).
    """
    return step_coefficients(schedule, t, s, like=x_t).apply(x_t, eps)


def mean_from_score(
    schedule: Schedule, x_t: Tensor, t: Level, score: Tensor, s: Level | None = None
) -> Tensor:
    r"""The mean of the reverse step from a prediction of the score; with the true one it is E[x_{t-1} | x_t].

    .. math:: \mu=\frac1{\sqrt{\alpha_t}}\left(x_t+\beta_t\nabla\log p_t(x_t)\right)

    Args:
        schedule: noise schedule with T steps.
        x_t: noised data, shape (B, *).
        t: level, 1 ≤ t ≤ T, an int or shape (B,).
        score: predicted score, shaped like x_t.
        s: level, 0 ≤ s < t, t − 1 if not given.

    Returns:
        The mean, shaped like x_t.

    Raises:
        ValueError: a level out of range or without signal, s not below t, or tensors that differ in shape,
            dtype or device.

    Reference: formula ``ddpm.mean_from_score``, ``ddpm.tweedie``.
    """
    _check.same(x_t=x_t, score=score)
    levels = pair(schedule, t, s, x_t)
    require_signal(levels)
    on_score = levels.beta / levels.sqrt_alpha
    return torch.addcmul(cast(1 / levels.sqrt_alpha, x_t) * x_t, cast(on_score, x_t), score)


def tweedie(schedule: Schedule, x_t: Tensor, t: Level, score: Tensor) -> Tensor:
    r"""Tweedie's formula: the mean of the data behind x_t, whatever their law.

    .. math:: \mathbb E[x_0\mid x_t]=\frac{x_t+(1-\bar\alpha_t)\nabla\log p_t(x_t)}{\sqrt{\bar\alpha_t}}

    Args:
        schedule: noise schedule with T steps.
        x_t: noised data, shape (B, *).
        t: level, 1 ≤ t ≤ T, an int or shape (B,).
        score: the score of p_t at x_t, shaped like x_t.

    Returns:
        The mean of x_0, shaped like x_t.

    Raises:
        ValueError: t out of range or without signal, or tensors of different shape, dtype or device.

    Reference: Efron 2011; Ho et al. 2020, eq. 15 (formula ``ddpm.tweedie``).
    """
    return mean_from_score(schedule, x_t, t, score, t * 0)


def variance(
    schedule: Schedule,
    t: Level,
    s: Level | None = None,
    kind: Variance = "beta_tilde",
    learned: Tensor | None = None,
) -> Tensor:
    r"""The variance of the reverse step.

    .. math::
        \beta_t,\qquad\tilde\beta_t=\frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\beta_t,\qquad
        \exp\left(f\log\beta_t+(1-f)\log\tilde\beta_t\right)

    "beta" and "beta_tilde" are the two limits; "learned" lies between them in log space; "beta_first_tilde"
    (Ho's fixed-large) and "learned_first_tilde" put the second step's beta_tilde in place of the first step's
    beta, or of its beta_tilde, which is 0.

    Args:
        schedule: noise schedule with T steps.
        t: level, 1 ≤ t ≤ T, an int or shape (B,).
        s: level, 0 ≤ s < t, t − 1 if not given (the only choice for the kinds with the first tilde).
        kind: the choice.
        learned: f in [0, 1], shape (B, *), for the two learned kinds.

    Returns:
        float64 of shape () or (B,); for the learned kinds the shape and dtype of ``learned``.

    Raises:
        ValueError: a level out of range, s not below t, an unknown kind, ``learned`` missing, superfluous or
            outside [0, 1].

    Reference: Ho et al. 2020, section 3.2; Nichol and Dhariwal 2021, eq. 15 (formula
    ``ddpm.posterior_variance``, ``ddpm.learned_variance``).
    """
    return cast(_variance(schedule, t, s, pair(schedule, t, s, learned), kind, learned), learned)


def optimal_variance(schedule: Schedule, t: Level, x_0_variance: Tensor, s: Level | None = None) -> Tensor:
    r"""The variance of the best Gaussian reverse step for data with Var[x_0 | x_t] per dimension.

    .. math:: \sigma_t^2=\tilde\beta_t+\left(\frac{\sqrt{\bar\alpha_{t-1}}\beta_t}{1-\bar\alpha_t}\right)^2
        \operatorname{Var}[x_0\mid x_t]

    It is beta_tilde for a point mass and beta for standard normal data.

    Args:
        schedule: noise schedule with T steps.
        t: level, 1 ≤ t ≤ T, an int or shape (B,).
        x_0_variance: Var[x_0 | x_t], at least 0, shape () or (B, *).
        s: level, 0 ≤ s < t, t − 1 if not given.

    Returns:
        The variance, shaped like x_0_variance, or (B,) for a batch of levels and one variance.

    Raises:
        ValueError: a level out of range, s not below t, or a negative variance.

    Reference: Bao et al. 2022, theorem 1; Ho et al. 2020, section 3.2 (formula ``ddpm.optimal_variance``).
    """
    if _check.readable(x_0_variance) and bool((x_0_variance < 0).any()):
        raise ValueError(f"x_0_variance must be at least 0, got {x_0_variance.min().item()}")
    like = x_0_variance if x_0_variance.dim() > 0 else None
    levels = pair(schedule, t, s, like)
    gain = on_x_0(levels)
    return cast(levels.beta_tilde, like) + cast(gain * gain, like) * x_0_variance


def step_coefficients(
    schedule: Schedule,
    t: Level,
    s: Level | None = None,
    variance: Variance = "beta_tilde",
    learned: Tensor | None = None,
    like: Tensor | None = None,
) -> Coefficients:
    r"""The coefficients of the reverse step.

    .. math:: x_{t-1}=\frac1{\sqrt{\alpha_t}}x_t
        -\frac{\beta_t}{\sqrt{\alpha_t(1-\bar\alpha_t)}}\hat\epsilon+\sigma_tz

    Args:
        schedule: noise schedule with T steps.
        t: level, 1 ≤ t ≤ T, an int or shape (B,).
        s: level, 0 ≤ s < t, t − 1 if not given.
        variance: the choice of σ_t².
        learned: f in [0, 1], shape (B, *), for the two learned kinds.
        like: tensor of shape (B, *) that the coefficients will multiply; float64 without it.

    Returns:
        Coefficients of shape () or (B,), broadcastable over ``like`` where it is given.

    Raises:
        ValueError: a level out of range or without signal, s not below t, or a bad choice of variance.

    Reference: Ho et al. 2020, algorithm 2 (formula ``ddpm.step``).
    """
    like = learned if like is None else like
    levels = pair(schedule, t, s, like)
    require_signal(levels)
    on_eps = -levels.beta / (levels.sqrt_alpha * sqrt(levels.one_minus_t))
    std = sqrt(_variance(schedule, t, s, levels, variance, learned))
    return Coefficients(cast(1 / levels.sqrt_alpha, like), cast(on_eps, like), cast(std, like))


def step(
    schedule: Schedule,
    x_t: Tensor,
    t: Level,
    eps: Tensor,
    noise: Tensor | None,
    s: Level | None = None,
    variance: Variance = "beta_tilde",
    learned: Tensor | None = None,
) -> Tensor:
    r"""One step of ancestral sampling.

    .. math:: x_{t-1}=\frac1{\sqrt{\alpha_t}}
        \left(x_t-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\hat\epsilon\right)+\sigma_tz

    Args:
        schedule: noise schedule with T steps.
        x_t: noised data, shape (B, *).
        t: level, 1 ≤ t ≤ T, an int or shape (B,).
        eps: predicted noise, shaped like x_t.
        noise: standard normal, shaped like x_t; None only for the step to data (s = 0), which then is the
            mean.
        s: level, 0 ≤ s < t, t − 1 if not given.
        variance: the choice of σ_t².
        learned: f in [0, 1], shape (B, *), for the two learned kinds.

    Returns:
        x_s, shaped like x_t.

    Raises:
        ValueError: a level out of range or without signal, s not below t, noise missing, a bad choice of
            variance, or tensors of different shape, dtype or device.

    Reference: Ho et al. 2020, algorithm 2 (formula ``ddpm.step``).
    """
    if noise is None:
        _require_data_level(t, s)
    return step_coefficients(schedule, t, s, variance, learned, x_t).apply(x_t, eps, noise)


def sample(
    model: Callable[[Tensor, int], Tensor | tuple[Tensor, Tensor]],
    schedule: Schedule,
    x_T: Tensor,
    noises: Iterable[Tensor],
    levels: Sequence[int] | None = None,
    variance: Variance = "beta_tilde",
) -> Iterator[tuple[int, Tensor]]:
    r"""Ancestral sampling; the last step adds no noise.

    .. math:: x_{t-1}=\mu_\theta(x_t,t)+\sigma_tz_t\quad(t>1),\qquad x_0=\mu_\theta(x_1,1)

    Args:
        model: eps predicted from x_t and the level t, an int; for the learned variances the pair (eps, f).
        schedule: noise schedule with T steps.
        x_T: the first level's state, shape (B, *).
        noises: standard normal, shaped like x_T, one for each step but the last.
        levels: levels to visit, descending to 0; T, …, 1, 0 if not given.
        variance: the choice of σ_t².

    Yields:
        (t, x_t) from the first level to (0, x_0).

    Raises:
        ValueError: levels not descending within T..0, too few noises, or what ``step`` raises.

    Reference: Ho et al. 2020, algorithm 2 (formula ``ddpm.step``).
    """
    draws = iter(noises)
    levels = range(schedule.T, -1, -1) if levels is None else levels
    pairs = steps(levels, schedule.T)
    x = x_T
    yield levels[0], x
    for t, s in pairs:
        output = model(x, t)
        eps, learned = output if isinstance(output, tuple) else (output, None)
        x = step(schedule, x, t, eps, take_noise(draws, t) if s > 0 else None, s, variance, learned)
        yield s, x


def loss_simple(
    model: Model, schedule: Schedule, x_0: Tensor, t: Level, noise: Tensor, reduction: Reduction = "mean"
) -> Tensor:
    r"""The unweighted loss of each sample.

    .. math:: L_{\text{simple}}=\left\|\epsilon
        -\epsilon_\theta(\sqrt{\bar\alpha_t}x_0+\sqrt{1-\bar\alpha_t}\epsilon,t)\right\|^2

    Args:
        model: eps predicted from x_t and t.
        schedule: noise schedule with T steps.
        x_0: data, shape (B, *).
        t: level, 1 ≤ t ≤ T, an int or shape (B,).
        noise: standard normal, shaped like x_0.
        reduction: "sum" or "mean" over the dimensions of a sample.

    Returns:
        Losses, shape (B,).

    Raises:
        ValueError: t outside 1..T, an unknown reduction, or tensors of different shape, dtype or device.

    Reference: Ho et al. 2020, eq. 14 (formula ``ddpm.loss_simple``).
    """
    _check.level("t", t, schedule.T, minimum=1)
    return _squares(noise, model(q_sample(schedule, x_0, t, noise), t), reduction)


def loss_weight(
    schedule: Schedule, t: Level, form: Form = "eps", variance: Variance = "beta_tilde"
) -> Tensor:
    r"""The weight of the squared error in L_{t-1}.

    .. math:: w_\mu=\frac1{2\sigma_t^2},\qquad
        w_{x_0}=\frac{\bar\alpha_{t-1}\beta_t^2}{2\sigma_t^2(1-\bar\alpha_t)^2},\qquad
        w_\epsilon=\frac{\beta_t^2}{2\sigma_t^2\alpha_t(1-\bar\alpha_t)}

    Args:
        schedule: noise schedule with T steps.
        t: step, 2 ≤ t ≤ T, an int or shape (B,) (L_0 is not a divergence of Gaussians).
        form: what is predicted.
        variance: the choice of σ_t², not learned.

    Returns:
        float64 of shape () or (B,).

    Raises:
        ValueError: t outside 2..T, for eps a level without signal, an unknown form or choice of variance.

    Reference: Ho et al. 2020, eq. 8–12 (formula ``ddpm.loss_weight_mu``, ``ddpm.loss_weight_x_0``,
    ``ddpm.loss_weight_eps``).
    """
    _check.level("t", t, schedule.T, minimum=2)
    levels = pair(schedule, t)
    twice = 2 * _variance(schedule, t, None, levels, variance, None)
    if form == "mu":
        return cast(1 / twice, None)
    if form == "x_0":
        return cast(on_x_0(levels) * on_x_0(levels) / twice, None)
    if form == "eps":
        require_signal(levels)
        return cast(levels.beta * levels.beta / (twice * levels.alpha * levels.one_minus_t), None)
    raise ValueError(f"form must be one of {', '.join(get_args(Form))}, got {form!r}")


def kl_term(
    model: Callable[[Tensor, Level], Tensor | tuple[Tensor, Tensor]],
    schedule: Schedule,
    x_0: Tensor,
    t: Level,
    noise: Tensor,
    variance: Variance = "beta_tilde",
) -> Tensor:
    r"""The term L_{t-1} of the variational bound, at one x_t.

    .. math:: D_{\mathrm{KL}}\left(q(x_{t-1}\mid x_t,x_0)\,\|\,p_\theta(x_{t-1}\mid x_t)\right)
        =\tfrac12\sum_i\left(\frac{\tilde\beta_t}{\sigma_t^2}-1-\log\frac{\tilde\beta_t}{\sigma_t^2}
        +\frac{(\tilde\mu_t-\mu_\theta)_i^2}{\sigma_t^2}\right)

    Args:
        model: eps predicted from x_t and t; for the learned variances the pair (eps, f).
        schedule: noise schedule with T steps.
        x_0: data, shape (B, *).
        t: step, 2 ≤ t ≤ T, an int or shape (B,).
        noise: standard normal, shaped like x_0, that makes x_t.
        variance: the choice of σ_t².

    Returns:
        Nats, shape (B,), summed over the dimensions of a sample.

    Raises:
        ValueError: t outside 2..T or without signal, a bad choice of variance, or tensors of different shape,
            dtype or device.

    Reference: Ho et al. 2020, eq. 5 and 8 (formula ``ddpm.kl_term``).
    """
    _check.level("t", t, schedule.T, minimum=2)
    output = model(q_sample(schedule, x_0, t, noise), t)
    eps, learned = output if isinstance(output, tuple) else (output, None)
    _check.same(x_0=x_0, eps=eps)
    levels = pair(schedule, t, None, x_0)
    coefficients = step_coefficients(schedule, t, None, variance, learned, x_0)
    # log of beta_tilde / beta, a step or an interpolation away from that of beta_tilde / sigma²
    log_tilde = log1p(-levels.sqrt_alpha_bar_s * levels.sqrt_alpha_bar_s * levels.beta / levels.one_minus_t)
    share = learned if learned is not None else 0.0 if variance == "beta_tilde" else 1.0
    spread = expm1_minus(share * cast(log_tilde, x_0))
    error = coefficients.eps / coefficients.noise * (eps - noise)
    return 0.5 * (spread + error * error).flatten(1).sum(1)


def training_step(
    model: Model,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    x_0: Tensor,
    t: Level,
    noise: Tensor,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""One step of training.

    .. math:: \theta\leftarrow\theta-\text{rate}\cdot\nabla_\theta
        \frac1B\sum_bL_{\text{simple}}(x_0^{(b)},t^{(b)},\epsilon^{(b)})

    Args:
        model: eps predicted from x_t and t, with the optimizer's parameters.
        optimizer: holds the parameters.
        schedule: noise schedule with T steps.
        x_0: data, shape (B, *).
        t: level, drawn uniformly from 1..T, an int or shape (B,).
        noise: standard normal, shaped like x_0.
        reduction: "sum" or "mean" over the dimensions of a sample.

    Returns:
        The loss before the step, shape ().

    Raises:
        ValueError: what ``loss_simple`` raises.

    Reference: Ho et al. 2020, algorithm 1 (formula ``ddpm.loss_simple``).
    """
    optimizer.zero_grad()
    loss = loss_simple(model, schedule, x_0, t, noise, reduction).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


def four_variable_loss(
    model: Model,
    schedule: Schedule,
    x_0: Tensor,
    t: Level,
    noise_prev: Tensor,
    noise: Tensor,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""The loss that predicts the noise of the last step alone, from two noises.

    .. math:: \left\|\epsilon_t-\epsilon_\theta\!\left(\sqrt{\bar\alpha_t}x_0
        +\sqrt{\alpha_t(1-\bar\alpha_{t-1})}\,\bar\epsilon_{t-1}+\sqrt{\beta_t}\,\epsilon_t,\;t\right)\right\|^2

    Args:
        model: the last step's noise predicted from x_t and t.
        schedule: noise schedule with T steps.
        x_0: data, shape (B, *).
        t: step, 1 ≤ t ≤ T, an int or shape (B,).
        noise_prev, noise: independent standard normals, shaped like x_0, that make x_{t-1} and then x_t.
        reduction: "sum" or "mean" over the dimensions of a sample.

    Returns:
        Losses, shape (B,).

    Raises:
        ValueError: t outside 1..T, an unknown reduction, or tensors of different shape, dtype or device.

    Reference: S000, variance reduction; Su 2022 (formula ``ddpm.four_variable_loss``).
    """
    _check.same(x_0=x_0, noise_prev=noise_prev, noise=noise)
    x_t = q_step(schedule, q_sample(schedule, x_0, t - 1, noise_prev), t).sample(noise)
    return _squares(noise, model(x_t, t), reduction)


def merge_noises(schedule: Schedule, t: Level, noise_prev: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    r"""The two noises of the four-variable loss turned into the one that makes x_t and one independent of it.

    .. math:: \epsilon=k\,\bar\epsilon_{t-1}+\sqrt{1-k^2}\,\epsilon_t,\qquad
        \omega=\sqrt{1-k^2}\,\bar\epsilon_{t-1}-k\,\epsilon_t,\qquad
        k^2=\frac{\alpha_t(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}=1-\frac{\beta_t}{1-\bar\alpha_t}

    Args:
        schedule: noise schedule with T steps.
        t: step, 1 ≤ t ≤ T, an int or shape (B,).
        noise_prev, noise: independent standard normals, shape (B, *).

    Returns:
        (ε, ω), independent standard normals again: the map is a rotation.

    Raises:
        ValueError: t outside 1..T, or tensors of different shape, dtype or device.

    Reference: S000, variance reduction; Su 2022 (formula ``ddpm.four_variable_loss``).
    """
    _check.same(noise_prev=noise_prev, noise=noise)
    levels = pair(schedule, t, None, noise)
    cosine, sine = (cast(value, noise) for value in _rotation(levels))
    return cosine * noise_prev + sine * noise, sine * noise_prev - cosine * noise


def merged_loss(
    model: Model, schedule: Schedule, x_0: Tensor, t: Level, noise: Tensor, reduction: Reduction = "mean"
) -> Tensor:
    r"""The mean of the four-variable loss over ω: one noise, the same gradient on average, less variance.

    .. math:: \left\|\sqrt{\tfrac{\beta_t}{1-\bar\alpha_t}}\,\epsilon-\epsilon_\theta(x_t,t)\right\|^2
        +\frac{\alpha_t(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}D

    Args:
        model: the last step's noise predicted from x_t and t.
        schedule: noise schedule with T steps.
        x_0: data, shape (B, *).
        t: step, 1 ≤ t ≤ T, an int or shape (B,).
        noise: standard normal, shaped like x_0, that makes x_t.
        reduction: "sum" or "mean" over the D dimensions of a sample.

    Returns:
        Losses, shape (B,).

    Raises:
        ValueError: t outside 1..T, an unknown reduction, or tensors of different shape, dtype or device.

    Reference: S000, variance reduction; Su 2022 (formula ``ddpm.four_variable_loss``).
    """
    cosine, sine = (cast(value, x_0) for value in _rotation(pair(schedule, t, None, x_0)))
    error = _squares(sine * noise, model(q_sample(schedule, x_0, t, noise), t), reduction)
    return error + reduced((cosine * cosine).expand(x_0.shape), reduction)


def four_variable_variance(
    model: Model, schedule: Schedule, x_0: Tensor, t: Level, noise: Tensor, reduction: Reduction = "mean"
) -> Tensor:
    r"""The variance over ω of the four-variable loss: what the merged loss saves.

    .. math:: 4k^2\left\|\sqrt{\tfrac{\beta_t}{1-\bar\alpha_t}}\,\epsilon-\epsilon_\theta(x_t,t)\right\|^2
        +2k^4D,\qquad k^2=\frac{\alpha_t(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}

    Args:
        model: the last step's noise predicted from x_t and t.
        schedule: noise schedule with T steps.
        x_0: data, shape (B, *).
        t: step, 1 ≤ t ≤ T, an int or shape (B,).
        noise: standard normal, shaped like x_0, that makes x_t.
        reduction: "sum" or "mean" over the D dimensions, of the loss whose variance this is.

    Returns:
        Variances, shape (B,).

    Raises:
        ValueError: t outside 1..T, an unknown reduction, or tensors of different shape, dtype or device.

    Reference: S000, variance reduction; Su 2022 (formula ``ddpm.four_variable_loss``).
    """
    cosine, sine = (cast(value, x_0) for value in _rotation(pair(schedule, t, None, x_0)))
    error = sine * noise - model(q_sample(schedule, x_0, t, noise), t)
    total = (4 * cosine**2 * error**2 + 2 * cosine**4).flatten(1)
    return reduced(total, reduction) / (total.shape[1] if reduction == "mean" else 1)


def four_variable_minimiser(schedule: Schedule, t: Level, eps: Tensor) -> Tensor:
    r"""What the four-variable loss learns, from what the simple loss learns.

    .. math:: \mathbb E[\epsilon_t\mid x_t]=\sqrt{\frac{\beta_t}{1-\bar\alpha_t}}\;\mathbb E[\epsilon\mid x_t]

    Args:
        schedule: noise schedule with T steps.
        t: step, 1 ≤ t ≤ T, an int or shape (B,).
        eps: minimiser of the simple loss, shape (B, *).

    Returns:
        Minimiser of the four-variable loss, shaped like eps.

    Raises:
        ValueError: t outside 1..T.

    Reference: S000, variance reduction; Su 2022 (formula ``ddpm.four_variable_loss``).
    """
    return cast(_rotation(pair(schedule, t, None, eps))[1], eps) * eps


def _rotation(levels: Pair) -> tuple[Number, Number]:
    cosine = sqrt(levels.alpha * levels.one_minus_s / levels.one_minus_t)
    return cosine, sqrt(levels.beta / levels.one_minus_t)


def _variance(
    schedule: Schedule, t: Level, s: Level | None, levels: Pair, kind: Variance, learned: Tensor | None
) -> Number:
    if kind not in get_args(Variance):
        raise ValueError(f"variance must be one of {', '.join(get_args(Variance))}, got {kind!r}")
    if (learned is not None) != kind.startswith("learned"):
        raise ValueError(f"learned must be given for the learned variances only, got {learned} for {kind!r}")
    if kind == "beta_tilde":
        return levels.beta_tilde
    if kind == "beta":
        return levels.beta
    if kind == "beta_first_tilde":
        return _first_tilde(schedule, t, s, levels.beta)
    low = levels.beta_tilde if kind == "learned" else _first_tilde(schedule, t, s, levels.beta_tilde)
    return _interpolation(low, levels.beta, learned)


def _first_tilde(schedule: Schedule, t: Level, s: Level | None, other: Number) -> Number:
    if s is not None and any_true(s != t - 1):
        raise ValueError(f"s must be t - 1 for a variance with the first tilde (else respace), got {s}")
    second = pair(schedule, 2).beta_tilde
    if isinstance(t, int):
        return second if t == 1 else other
    return torch.where(t == 1, second, other)


def _interpolation(low: Number, high: Number, learned: Tensor | None) -> Tensor:
    assert learned is not None
    if _check.readable(learned) and not bool(((learned >= 0) & (learned <= 1)).all()):
        raise ValueError(f"learned must lie in [0, 1], got {learned.min().item()}..{learned.max().item()}")
    # powers, because the log of beta_tilde at the first step is -inf and its share may be 0
    return torch.pow(cast(high, learned), learned) * torch.pow(cast(low, learned), 1 - learned)


def _require_data_level(t: Level, s: Level | None) -> None:
    level = t - 1 if s is None else s
    if any_true(level != 0):
        raise ValueError(f"noise must be given unless the step goes to level 0, got None for level {level}")


def _squares(target: Tensor, prediction: Tensor, reduction: Reduction) -> Tensor:
    _check.same(target=target, prediction=prediction)
    return reduced((target - prediction) ** 2, reduction)
