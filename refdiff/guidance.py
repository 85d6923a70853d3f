r"""Guidance: conditional samples from an unconditional network, by a classifier, a loss or a second network.

A classifier enters through the gradient of :math:`\log p(y\mid x_t)`, a function of x_t and of the level t
like the network itself; a similarity or minus a loss takes its place. Two forms of guidance are different
approximations and are kept apart: the shift of the noise by the gradient of level t at x_t, and the shift of
a Gaussian step's mean by its variance times the gradient of the level below at that mean. With the scale 1
the first has the exact conditional mean; no other scale samples the power of a classifier in general.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from refdiff import _check, ddpm, parameterization
from refdiff._check import Level
from refdiff.ddpm import Variance
from refdiff.kernel import any_true, cast, steps, take_noise
from refdiff.schedule import Schedule

Model: TypeAlias = Callable[[Tensor, Level], Tensor]
Gradient: TypeAlias = Callable[[Tensor, Level], Tensor]
Convention = Literal["imagen", "ho"]
Point = Literal["mean", "x_t"]


def classifier_gradient(log_probability: Callable[[Tensor, Level], Tensor], x_t: Tensor, t: Level) -> Tensor:
    r"""The gradient of a classifier's log-probability, or of any similarity, of each sample on its own.

    .. math:: \nabla_{x_t}\log p(y\mid x_t)

    Args:
        log_probability: log p(y | x_t) from x_t and t, shape (B,), one number per sample; samples must not
            see each other.
        x_t: noised data, shape (B, *).
        t: level, passed on as it is.

    Returns:
        The gradient, shaped like x_t.

    Raises:
        ValueError: log_probability does not return shape (B,).

    Reference: Dhariwal and Nichol 2021, eq. 10 (formula ``guidance.guided_score``).
    """
    _check.floating("x_t", x_t)

    def total(x: Tensor) -> Tensor:
        # the gradient of a sum of separate terms is each term's own
        return _one_per_sample("log_probability", log_probability(x, t), x).sum()

    gradient: Tensor = torch.func.grad(total)(x_t)
    return gradient


def guided_score(score: Tensor, gradient: Tensor, scale: float = 1.0) -> Tensor:
    r"""The score of the noised data times a power of the classifier.

    .. math:: \nabla_{x_t}\log q(x_t)\,p(y\mid x_t)^\kappa=\nabla_{x_t}\log q(x_t)
        +\kappa\nabla_{x_t}\log p(y\mid x_t)

    Args:
        score: score of x_t, shape (B, *).
        gradient: gradient of log p(y | x_t), shaped like it.
        scale: κ, finite; 1 is Bayes' rule.

    Returns:
        The score, shaped like it.

    Raises:
        ValueError: a scale that is not finite, or tensors of different shape, dtype or device.

    Reference: Dhariwal and Nichol 2021, eq. 11 (formula ``guidance.guided_score``).
    """
    _check.finite("scale", scale)
    _check.same(score=score, gradient=gradient)
    return score + scale * gradient


def guided_eps(eps: Tensor, gradient: Tensor, alpha_bar: float | Tensor, scale: float = 1.0) -> Tensor:
    r"""The noise under which a step of DDIM, or of any sampler, is guided.

    .. math:: \hat\epsilon=\epsilon_\theta(x_t,t)-\kappa\sqrt{1-\bar\alpha_t}\,\nabla_{x_t}\log p(y\mid x_t)

    Args:
        eps: predicted noise, shape (B, *).
        gradient: gradient of log p(y | x_t) at x_t and level t, shaped like eps.
        alpha_bar: ᾱ_t, in [0, 1], a float or a tensor of shape () or (B,).
        scale: κ, finite; 1 is Bayes' rule.

    Returns:
        The guided noise, shaped like eps.

    Raises:
        ValueError: alpha_bar outside [0, 1] or of another shape, a scale that is not finite, or tensors of
            different shape, dtype or device.

    Reference: Dhariwal and Nichol 2021, algorithm 2 (formula ``guidance.guided_eps``).
    """
    _check.finite("scale", scale)
    _check.same(eps=eps, gradient=gradient)
    return eps - scale * _noise_std(alpha_bar, eps) * gradient


def guided_model(model: Model, gradient: Gradient, schedule: Schedule, scale: float = 1.0) -> Model:
    r"""A network whose noise is guided: with it ``ddim.sample``, for any η, and ``ddpm.sample`` are guided.

    .. math:: \hat\epsilon(x_t,t)=\epsilon_\theta(x_t,t)
        -\kappa\sqrt{1-\bar\alpha_t}\,\nabla_{x_t}\log p(y\mid x_t)

    Args:
        model: eps predicted from x_t and the level t.
        gradient: gradient of log p(y | x_t) from x_t and the level t.
        schedule: noise schedule with T steps.
        scale: κ, finite; 1 is Bayes' rule.

    Returns:
        A function of x_t, shape (B, *), and of the level t, an int or shape (B,).

    Raises:
        ValueError: a scale that is not finite.

    Reference: Dhariwal and Nichol 2021, algorithm 2 (formula ``guidance.ddim_step``).
    """
    _check.finite("scale", scale)

    def guided(x_t: Tensor, t: Level) -> Tensor:
        eps, shift = model(x_t, t), gradient(x_t, t)
        _check.same(x_t=x_t, eps=eps, gradient=shift)
        return eps - scale * schedule.at("sqrt_one_minus_alpha_bar", t, x_t) * shift

    return guided


def classifier_guided_mean(mean: Tensor, variance: Tensor, gradient: Tensor, scale: float = 1.0) -> Tensor:
    r"""The mean of a Gaussian reverse step under a classifier, linearised.

    .. math:: \mu_y=\mu+\kappa\,\sigma^2g,\qquad g=\nabla_x\log p(y\mid x)\big|_{x=\mu}

    It is exact for a log-linear classifier. Otherwise it misses :math:`\sigma^4(gg'+g''/2)` for κ = 1, and
    the step's variance, which a curved classifier changes.

    Args:
        mean: μ, mean of x_{t-1} given x_t, shape (B, *).
        variance: σ², not its root, at least 0, broadcastable to the mean.
        gradient: gradient of the classifier of level t − 1 at the mean, shaped like it.
        scale: κ, finite; 1 is Bayes' rule.

    Returns:
        The mean, shaped like it.

    Raises:
        ValueError: a negative variance or one that does not broadcast to the mean, a scale that is not
            finite, or tensors of different shape, dtype or device.

    Reference: Dhariwal and Nichol 2021, algorithm 1 (formula ``guidance.mean_shift``,
    ``guidance.linearisation_error``).
    """
    _check.finite("scale", scale)
    _check.floating("mean", mean)
    _check.broadcastable("variance", variance, "mean", mean)
    _check.same(mean=mean, gradient=gradient, variance=variance.expand_as(mean))
    if _check.readable(variance) and not bool((variance >= 0).all()):
        raise ValueError(f"variance must be at least 0, got {variance.min().item()}")
    return mean + scale * variance * gradient


def ddpm_step(
    schedule: Schedule,
    x_t: Tensor,
    t: Level,
    eps: Tensor,
    gradient: Gradient,
    noise: Tensor | None,
    s: Level | None = None,
    scale: float = 1.0,
    variance: Variance = "beta_tilde",
    learned: Tensor | None = None,
    point: Point = "mean",
) -> Tensor:
    r"""One guided step of ancestral sampling.

    .. math:: x_{t-1}=\mu+\kappa\,\sigma_t^2\,\nabla_x\log p(y\mid x)\big|_{x=\mu}+\sigma_tz,\qquad
        \mu=\frac1{\sqrt{\alpha_t}}\left(x_t-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\hat\epsilon\right)

    Args:
        schedule: noise schedule with T steps.
        x_t: noised data, shape (B, *).
        t: level, 1 ≤ t ≤ T, an int or shape (B,).
        eps: predicted noise, shaped like x_t.
        gradient: gradient of log p(y | x) from x and its level; asked at (μ, s), or at (x_t, t).
        noise: standard normal, shaped like x_t; None only for the step to data (s = 0), which then is the
            mean.
        s: level, 0 ≤ s < t, t − 1 if not given.
        scale: κ, finite; 1 is Bayes' rule.
        variance: the choice of σ_t².
        learned: f in [0, 1], shape (B, *), for the two learned kinds.
        point: "mean" takes the gradient of level s at μ, "x_t" that of level t at x_t, as many codes do.

    Returns:
        x_s, shaped like x_t.

    Raises:
        ValueError: what ``ddpm.step`` raises, an unknown point, a scale that is not finite, or a gradient
            that is not shaped like x_t.

    Reference: Dhariwal and Nichol 2021, algorithm 1 (formula ``guidance.ddpm_step``).
    """
    if point not in get_args(Point):
        raise ValueError(f"point must be one of {', '.join(get_args(Point))}, got {point!r}")
    below = t - 1 if s is None else s
    if noise is None and any_true(below != 0):
        raise ValueError(f"noise must be given unless the step goes to level 0, got None for level {below}")
    step = ddpm.step_coefficients(schedule, t, s, variance, learned, x_t)
    mean = step.apply(x_t, eps)
    shift = gradient(mean, below) if point == "mean" else gradient(x_t, t)
    spread = ddpm.variance(schedule, t, s, variance, learned)
    guided = classifier_guided_mean(mean, cast(spread, x_t), shift, scale)
    if noise is None:
        return guided
    _check.same(x_t=x_t, noise=noise)
    return torch.addcmul(guided, step.noise, noise)


def ddpm_sample(
    model: Model,
    gradient: Gradient,
    schedule: Schedule,
    x_T: Tensor,
    noises: Iterable[Tensor],
    levels: Sequence[int] | None = None,
    scale: float = 1.0,
    variance: Variance = "beta_tilde",
    point: Point = "mean",
) -> Iterator[tuple[int, Tensor]]:
    r"""Ancestral sampling with a classifier; the last step adds no noise.

    .. math:: x_{t-1}=\mu+\kappa\,\sigma_t^2\,\nabla_x\log p(y\mid x)\big|_{x=\mu}+\sigma_tz_t

    Args:
        model: eps predicted from x_t and the level t, an int.
        gradient: gradient of log p(y | x) from x and its level, an int that may be 0.
        schedule: noise schedule with T steps.
        x_T: the first level's state, shape (B, *).
        noises: standard normal, shaped like x_T, one for each step but the last.
        levels: levels to visit, descending to 0; T, …, 1, 0 if not given.
        scale: κ, finite; 1 is Bayes' rule.
        variance: the choice of σ_t², none of the learned ones.
        point: where the gradient is taken, as in ``ddpm_step``.

    Yields:
        (t, x_t) from the first level to (0, x_0).

    Raises:
        ValueError: levels not descending within T..0, too few noises, or what ``ddpm_step`` raises.

    Reference: Dhariwal and Nichol 2021, algorithm 1 (formula ``guidance.ddpm_step``).
    """
    draws = iter(noises)
    levels = range(schedule.T, -1, -1) if levels is None else levels
    pairs = steps(levels, schedule.T)
    x = x_T
    yield levels[0], x
    for t, s in pairs:
        noise = take_noise(draws, t) if s > 0 else None
        x = ddpm_step(schedule, x, t, model(x, t), gradient, noise, s, scale, variance, None, point)
        yield s, x


def loss_gradient(
    model: Model, loss: Callable[[Tensor], Tensor], schedule: Schedule, x_t: Tensor, t: Level
) -> tuple[Tensor, Tensor]:
    r"""The predicted noise, and minus the gradient of a loss of the predicted data, through the network.

    .. math:: -\nabla_{x_t}L(\hat x_0(x_t)),\qquad
        \hat x_0=\frac{x_t-\sqrt{1-\bar\alpha_t}\,\epsilon_\theta(x_t,t)}{\sqrt{\bar\alpha_t}}

    A network trained on noised data needs none of this: ``classifier_gradient`` takes its own gradient.

    Args:
        model: eps predicted from x_t and the level t.
        loss: loss of clean data, shape (B,) from (B, *), one number per sample; minus a similarity.
        schedule: noise schedule with T steps.
        x_t: noised data, shape (B, *).
        t: level with signal, 0 ≤ t ≤ T, an int or shape (B,).

    Returns:
        eps and the gradient, both shaped like x_t.

    Raises:
        ValueError: a level out of range or without signal, a loss not of shape (B,), or a prediction not
            shaped like x_t.

    Reference: Chung et al. 2023 (DPS), algorithm 1 (formula ``guidance.x_0_slope``,
    ``guidance.loss_gradient_plane``).
    """
    _check.floating("x_t", x_t)

    def total(x: Tensor) -> tuple[Tensor, Tensor]:
        eps = model(x, t)
        x_0 = parameterization.x_0_from_eps(schedule, x, t, eps)
        return -_one_per_sample("loss", loss(x_0), x).sum(), eps

    gradient, eps = torch.func.grad(total, has_aux=True)(x_t)
    return eps, gradient


def loss_guided_eps(
    model: Model,
    loss: Callable[[Tensor], Tensor],
    schedule: Schedule,
    x_t: Tensor,
    t: Level,
    scale: float = 1.0,
) -> Tensor:
    r"""The noise guided by a loss of the predicted data.

    .. math:: \hat\epsilon=\epsilon_\theta(x_t,t)+\kappa\sqrt{1-\bar\alpha_t}\,\nabla_{x_t}L(\hat x_0(x_t))

    With L = −log p(y | x_0) this takes the predicted data for the data: a gradient too steep wherever x_t
    leaves the data uncertain.

    Args:
        model: eps predicted from x_t and the level t.
        loss: loss of clean data, shape (B,) from (B, *), one number per sample; minus a similarity.
        schedule: noise schedule with T steps.
        x_t: noised data, shape (B, *).
        t: level with signal, 0 ≤ t ≤ T, an int or shape (B,).
        scale: κ, finite.

    Returns:
        The guided noise, shaped like x_t.

    Raises:
        ValueError: a level out of range or without signal, a loss not of shape (B,), a prediction not
            shaped like x_t, or a scale that is not finite.

    Reference: Chung et al. 2023 (DPS), algorithm 1 (formula ``guidance.loss_guided_eps``,
    ``guidance.point_estimate``).
    """
    _check.finite("scale", scale)
    eps, gradient = loss_gradient(model, loss, schedule, x_t, t)
    return eps - scale * schedule.at("sqrt_one_minus_alpha_bar", t, x_t) * gradient


def implied_gradient(eps_uncond: Tensor, eps_cond: Tensor, alpha_bar: float | Tensor) -> Tensor:
    r"""The classifier that an unconditional and a conditional prediction imply.

    .. math:: \nabla_{x_t}\log p(y\mid x_t)=\frac{\epsilon_\theta(x_t,t)-\epsilon_\theta(x_t,t,y)}
        {\sqrt{1-\bar\alpha_t}}

    Args:
        eps_uncond, eps_cond: the predictions without and with the condition, shape (B, *).
        alpha_bar: ᾱ_t, in [0, 1), a float or a tensor of shape () or (B,).

    Returns:
        The gradient, shaped like the predictions.

    Raises:
        ValueError: alpha_bar outside [0, 1) or of another shape, or tensors of different shape, dtype or
            device.

    Reference: Ho and Salimans 2022, section 3.2 (formula ``guidance.implied_gradient``).
    """
    _check.same(eps_uncond=eps_uncond, eps_cond=eps_cond)
    std = _noise_std(alpha_bar, eps_uncond)
    if _check.readable(std) and bool((std == 0).any()):
        raise ValueError("alpha_bar must be below 1 where noise is divided by its size, got 1")
    return (eps_uncond - eps_cond) / std


def classifier_free(
    eps_uncond: Tensor, eps_cond: Tensor, scale: float, convention: Convention = "imagen"
) -> Tensor:
    r"""Guidance without a classifier, from an unconditional and a conditional prediction.

    .. math:: \epsilon+\kappa\,(\epsilon_y-\epsilon)\quad\text{("imagen")},\qquad
        (1+w)\,\epsilon_y-w\,\epsilon\quad\text{("ho")}

    Args:
        eps_uncond, eps_cond: the predictions without and with the condition, shape (B, *); noise, velocity,
            data or score alike, since the combination is affine.
        scale: κ or w, finite; the conditional prediction has κ = 1 and w = 0.
        convention: which of the two the scale is.

    Returns:
        The guided prediction, shaped like them.

    Raises:
        ValueError: an unknown convention, a scale that is not finite, or tensors of different shape, dtype or
            device.

    Reference: Ho and Salimans 2022, eq. 6; Saharia et al. 2022, eq. 2 (formula ``guidance.classifier_free``,
    ``guidance.classifier_free_ho``).
    """
    _check.same(eps_uncond=eps_uncond, eps_cond=eps_cond)
    kappa = convert_scale(scale, convention, "imagen")
    return eps_uncond + kappa * (eps_cond - eps_uncond)


def convert_scale(scale: float, source: Convention, target: Convention) -> float:
    r"""A guidance scale in the other convention.

    .. math:: \kappa=1+w

    Args:
        scale: the scale, finite.
        source, target: conventions, "imagen" (κ) or "ho" (w).

    Returns:
        The scale that means the same.

    Raises:
        ValueError: an unknown convention, or a scale that is not finite.

    Reference: formula ``guidance.scale_from_ho``.
    """
    _check.finite("scale", scale)
    for name, value in (("source", source), ("target", target)):
        if value not in get_args(Convention):
            raise ValueError(f"{name} convention must be one of imagen, ho, got {value!r}")
    return scale + (source == "ho") - (target == "ho")


def _one_per_sample(name: str, values: Tensor, x: Tensor) -> Tensor:
    if values.shape != x.shape[:1]:
        raise ValueError(f"{name} must return shape {tuple(x.shape[:1])}, got {tuple(values.shape)}")
    return values


def _noise_std(alpha_bar: float | Tensor, like: Tensor) -> Tensor:
    """√(1−ᾱ_t), taken in float64, as it multiplies a tensor of shape (B, *)."""
    value = torch.as_tensor(alpha_bar, dtype=torch.float64, device=like.device)
    if value.dim() > 1 or (value.dim() == 1 and value.shape != like.shape[:1]):
        raise ValueError(f"alpha_bar must have shape () or {tuple(like.shape[:1])}, got {tuple(value.shape)}")
    if _check.readable(value) and not bool(((value >= 0) & (value <= 1)).all()):
        raise ValueError(f"alpha_bar must lie in [0, 1], got {value.min().item()}..{value.max().item()}")
    return cast((1 - value).sqrt(), like)
