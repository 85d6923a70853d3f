r"""Variational diffusion models: the noise as γ, minus the log signal-to-noise ratio, in continuous time.

.. math:: z_t=\alpha_tx+\sigma_t\varepsilon,\qquad\alpha_t^2=\mathrm{sigmoid}(-\gamma(t)),\quad
    \sigma_t^2=\mathrm{sigmoid}(\gamma(t)),\qquad t\in[0,1]

The bound is a prior term at t = 1, a reconstruction term at t = 0 and the diffusion loss between them, of T
steps or of none too few. Everything is in nats, and of each sample. γ and times are float64; a result is cast
once to the dtype of the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from refdiff import _check
from refdiff._vdm_gamma import (
    LinearGamma,
    MonotoneGamma,
    OptimalGamma,
    Schedule,
    gamma_of,
    slope,
    softplus,
    stratified_times,
    time,
)
from refdiff._vdm_gaussian import (
    gaussian_bound,
    gaussian_loss_continuous,
    gaussian_loss_discrete,
    gaussian_prior_term,
    gaussian_rate,
    gaussian_reconstruction_term,
)
from refdiff._vlb_decoder import bits_per_dim
from refdiff.process import Time

__all__ = [
    "Level",
    "LinearGamma",
    "Model",
    "MonotoneGamma",
    "OptimalGamma",
    "Schedule",
    "Time",
    "bits_per_dim",
    "gamma_of",
    "gaussian_bound",
    "gaussian_loss_continuous",
    "gaussian_loss_discrete",
    "gaussian_prior_term",
    "gaussian_rate",
    "gaussian_reconstruction_term",
    "level",
    "loss_continuous",
    "loss_discrete",
    "prior_term",
    "q_sample",
    "rate",
    "reconstruction_term",
    "slope",
    "step",
    "stratified_times",
    "term",
    "transition_variance",
]

Model: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""The predicted noise, of z of shape (B, *) and of γ in float64 of shape (B,)."""


class Level(NamedTuple):
    """The factors of data and noise, float64, shaped like γ."""

    alpha: Tensor
    sigma: Tensor


def level(gamma: Tensor) -> Level:
    r"""The factors of data and noise at a level.

    .. math:: \alpha=\sqrt{\mathrm{sigmoid}(-\gamma)},\qquad\sigma=\sqrt{\mathrm{sigmoid}(\gamma)}

    Args:
        gamma: minus the log signal-to-noise ratio, float64, shape () or (B,).

    Returns:
        alpha and sigma, shaped like gamma.

    Raises:
        ValueError: γ that is not float64, or NaN.

    Reference: Kingma et al. 2021, eq. 1 and section 3.1 (formula ``vdm.marginal``).
    """
    _require_gamma("gamma", gamma)
    # through the logarithm, which keeps the digits of either factor far out
    return Level((logsigmoid(-gamma) / 2).exp(), (logsigmoid(gamma) / 2).exp())


def q_sample(x: Tensor, gamma: Tensor, noise: Tensor) -> Tensor:
    r"""Noised data.

    .. math:: z=\alpha\,x+\sigma\,\varepsilon

    Args:
        x: data, shape (B, *).
        gamma: the level, float64, shape () or (B,).
        noise: standard normal, shaped like x.

    Returns:
        Shaped like x.

    Raises:
        ValueError: γ that is not float64 or not of the batch, or tensors that do not match.

    Reference: Kingma et al. 2021, eq. 1 (formula ``vdm.marginal``).
    """
    _check.same(x=x, noise=noise)
    alpha, sigma = (_at(factor, x) for factor in level(gamma))
    return alpha * x + sigma * noise


def transition_variance(gamma_t: Tensor, gamma_s: Tensor) -> Tensor:
    r"""The variance of z_t given z_s, for a lower level s.

    .. math:: \sigma_{t|s}^2=-\operatorname{expm1}\left(\operatorname{softplus}(\gamma_s)
        -\operatorname{softplus}(\gamma_t)\right)

    Args:
        gamma_t, gamma_s: the levels, float64, one shape () or (B,), gamma_s not above gamma_t.

    Returns:
        Shaped like gamma_t.

    Raises:
        ValueError: levels that are not float64 and of one shape, or that fall with time.

    Reference: Kingma et al. 2021, eq. 6 (formula ``vdm.transition_variance``).
    """
    _require_rising(gamma_t, gamma_s)
    return -torch.expm1(softplus(gamma_s) - softplus(gamma_t))


def step(z: Tensor, gamma_t: Tensor, gamma_s: Tensor, eps: Tensor, noise: Tensor) -> Tensor:
    r"""A step of ancestral sampling from level t to a lower level s.

    .. math:: z_s=\frac{\alpha_s}{\alpha_t}\left(z_t-\sigma_tc\,\hat\varepsilon\right)
        +\sigma_s\sqrt c\,\omega,\qquad c=-\operatorname{expm1}(\gamma_s-\gamma_t)

    Args:
        z: z_t, shape (B, *).
        gamma_t, gamma_s: the levels, float64, one shape () or (B,), gamma_s not above gamma_t.
        eps: the predicted noise, shaped like z.
        noise: ω, standard normal, shaped like z.

    Returns:
        z_s, shaped like z.

    Raises:
        ValueError: levels that are not float64 and of one shape, or that fall, or tensors that do not match.

    Reference: Kingma et al. 2021, eq. 34 (formula ``vdm.step``).
    """
    _check.same(z=z, eps=eps, noise=noise)
    _require_rising(gamma_t, gamma_s)
    c = -torch.expm1(gamma_s - gamma_t)
    sigma_t, sigma_s = level(gamma_t).sigma, level(gamma_s).sigma
    kept = ((logsigmoid(-gamma_s) - logsigmoid(-gamma_t)) / 2).exp()
    return _at(kept, z) * (z - _at(sigma_t * c, z) * eps) + _at(sigma_s * c.sqrt(), z) * noise


def term(eps: Tensor, eps_hat: Tensor, gamma_t: Tensor, gamma_s: Tensor) -> Tensor:
    r"""One term of the diffusion loss: the divergence of a step, from the error of the noise.

    .. math:: D_{\mathrm{KL}}\left(q(z_s\mid z_t,x)\,\|\,p(z_s\mid z_t)\right)
        =\tfrac12\operatorname{expm1}(\gamma_t-\gamma_s)\,\|\varepsilon-\hat\varepsilon\|^2

    Args:
        eps, eps_hat: the noise in z_t and its prediction, shape (B, *).
        gamma_t, gamma_s: the levels, float64, one shape () or (B,), gamma_s not above gamma_t.

    Returns:
        Nats of each sample, shape (B,).

    Raises:
        ValueError: levels that are not float64 and of one shape, or that fall, or tensors that do not match.

    Reference: Kingma et al. 2021, eq. 14 (formula ``vdm.term``).
    """
    _require_rising(gamma_t, gamma_s)
    return _squared_error(eps, eps_hat, torch.expm1(gamma_t - gamma_s) / 2)


def rate(eps: Tensor, eps_hat: Tensor, slope: Tensor) -> Tensor:
    r"""The diffusion loss of continuous time, at one time: its rate.

    .. math:: \tfrac12\gamma'(t)\,\|\varepsilon-\hat\varepsilon\|^2

    Args:
        eps, eps_hat: the noise in z_t and its prediction, shape (B, *).
        slope: γ'(t), float64, shape () or (B,).

    Returns:
        Nats of each sample per unit of time, shape (B,).

    Raises:
        ValueError: a slope that is not float64, or tensors that do not match.

    Reference: Kingma et al. 2021, eq. 17 (formula ``vdm.rate``).
    """
    _require_gamma("slope", slope)
    return _squared_error(eps, eps_hat, slope / 2)


def loss_discrete(
    model: Model, gamma: Schedule, x: Tensor, index: _check.Level, T: int, noise: Tensor
) -> Tensor:
    r"""The diffusion loss of T steps, estimated from one of them.

    .. math:: \frac T2\operatorname{expm1}\left(\gamma(t)-\gamma(s)\right)
        \|\varepsilon-\hat\varepsilon(z_t,\gamma(t))\|^2,\qquad s=\frac{i-1}T,\;t=\frac iT

    The loss is its mean over i = 1, …, T and over the noise.

    Args:
        model: the predicted noise, of z of shape (B, *) and of γ in float64 of shape (B,).
        gamma: γ(t), rising.
        x: data, shape (B, *).
        index: i, 1 ≤ i ≤ T, an int or shape (B,).
        T: number of steps, at least 1.
        noise: standard normal, shaped like x.

    Returns:
        Nats of each sample, shape (B,).

    Raises:
        ValueError: an index outside 1..T or not of the batch, or tensors that do not match.

    Reference: Kingma et al. 2021, eq. 14 (formulas ``vdm.term``, ``vdm.limit``).
    """
    _check.count("T", T)
    _check.level("index", index, T, minimum=1)
    _check.batch("index", index, x)
    i = torch.as_tensor(index, device=x.device).double().expand(x.shape[0])
    gamma_t, gamma_s = gamma(i / T), gamma((i - 1) / T)
    return T * term(noise, model(q_sample(x, gamma_t, noise), gamma_t), gamma_t, gamma_s).to(x.dtype)


def loss_continuous(model: Model, gamma: Schedule, x: Tensor, t: Time, noise: Tensor) -> Tensor:
    r"""The diffusion loss of continuous time, estimated at one time.

    .. math:: \tfrac12\gamma'(t)\,\|\varepsilon-\hat\varepsilon(z_t,\gamma(t))\|^2

    The loss is its mean over t in [0, 1] and over the noise; it does not depend on γ between its ends.

    Args:
        model: the predicted noise, of z of shape (B, *) and of γ in float64 of shape (B,).
        gamma: γ(t), rising and differentiable by torch.
        x: data, shape (B, *).
        t: time, 0 ≤ t ≤ 1, a float or float64 of shape () or (B,).
        noise: standard normal, shaped like x.

    Returns:
        Nats of each sample, shape (B,).

    Raises:
        ValueError: a time outside 0..1 or not of the batch, or tensors that do not match.

    Reference: Kingma et al. 2021, eq. 17 (formulas ``vdm.rate``, ``vdm.invariance``).
    """
    at = time(t).to(x.device)
    _check.batch("t", at, x)
    gamma_t, gamma_slope = slope(gamma, at.expand(x.shape[0]))
    return rate(noise, model(q_sample(x, gamma_t, noise), gamma_t), gamma_slope)


def prior_term(x: Tensor, gamma_1: Tensor) -> Tensor:
    r"""The prior term: the divergence of the noisiest level from a standard normal law.

    .. math:: \tfrac12\sum\left(\mathrm{sigmoid}(-\gamma_1)(x^2-1)+\operatorname{softplus}(-\gamma_1)\right)

    Args:
        x: data, shape (B, *).
        gamma_1: γ(1), float64, shape () or (B,).

    Returns:
        Nats of each sample, shape (B,).

    Raises:
        ValueError: γ that is not float64 or not of the batch.

    Reference: Kingma et al. 2021, eq. 11 (formula ``vdm.prior_term``).
    """
    _check.floating("x", x)
    _require_gamma("gamma_1", gamma_1)
    signal, excess = _at(torch.sigmoid(-gamma_1), x.double()), _at(_softplus_rest(-gamma_1), x.double())
    return ((signal * x.double() ** 2 + excess) / 2).flatten(1).sum(1).to(x.dtype)


def reconstruction_term(x: Tensor, values: Tensor, gamma_0: Tensor, noise: Tensor) -> Tensor:
    r"""The reconstruction term of data that take finitely many values, from the least noised level.

    .. math:: -\sum\log\frac{\exp\left(-\tfrac12e^{-\gamma_0}(z-x)^2\right)}
        {\sum_v\exp\left(-\tfrac12e^{-\gamma_0}(z-v)^2\right)},\qquad z=x+e^{\gamma_0/2}\varepsilon

    Args:
        x: data, each element one of the values, shape (B, *).
        values: what an element may be, shape (V,), of the dtype of x.
        gamma_0: γ(0), float64, shape () or (B,).
        noise: standard normal, shaped like x.

    Returns:
        Nats of each sample, shape (B,).

    Raises:
        ValueError: an element that is none of the values, γ that is not float64, or tensors that
            do not match.

    Reference: Kingma et al. 2021, section 3.3 and appendix D (formula ``vdm.reconstruction``).
    """
    _check.same(x=x, noise=noise)
    _require_gamma("gamma_0", gamma_0)
    _require_values(x, values)
    shaped = _at(gamma_0, x.double()).unsqueeze(-1)
    # in units of the noise: what differs is (x - v)·e^(-γ/2), and nothing large is subtracted
    gap = (x.double().unsqueeze(-1) - values.double()) * (-shaped / 2).exp()
    own = noise.double().unsqueeze(-1)
    others = torch.where(gap == 0, -torch.inf, -(gap * (gap + 2 * own)) / 2)
    # log(1 + sum of the others), which is small where the value is all but certain
    return softplus(torch.logsumexp(others, -1)).flatten(1).sum(1).to(x.dtype)


def _softplus_rest(gamma: Tensor) -> Tensor:
    """softplus(γ) − sigmoid(γ), which is sigmoid(γ)²/2 where that is small."""
    signal = torch.sigmoid(gamma)
    small = signal**2 * (0.5 + signal * (1 / 3 + signal * (1 / 4 + signal * (1 / 5 + signal / 6))))
    return torch.where(signal < 1e-3, small, softplus(gamma) - signal)


def _squared_error(eps: Tensor, eps_hat: Tensor, weight: Tensor) -> Tensor:
    _check.same(eps=eps, eps_hat=eps_hat)
    _require_batch(weight, eps)
    return weight.to(eps) * (eps - eps_hat).square().flatten(1).sum(1)


def _at(factor: Tensor, x: Tensor) -> Tensor:
    """A factor of a level in the dtype of what it multiplies: shape (), or (B, 1, ..., 1) for a batch."""
    _require_batch(factor, x)
    cast = factor.to(x)
    return cast.reshape(-1, *[1] * (x.dim() - 1)) if cast.dim() == 1 else cast


def _require_batch(gamma: Tensor, x: Tensor) -> None:
    if gamma.dim() == 1 and (x.dim() == 0 or gamma.shape[0] != x.shape[0]):
        shape = f"() or (B,) with B of {tuple(x.shape)}"
        raise ValueError(f"gamma must have shape {shape}, got {tuple(gamma.shape)}")


def _require_gamma(name: str, gamma: Tensor) -> None:
    if not isinstance(gamma, Tensor) or gamma.dtype != torch.float64 or gamma.dim() > 1:
        what = (gamma.dtype, tuple(gamma.shape)) if isinstance(gamma, Tensor) else gamma
        raise ValueError(f"{name} must be float64 of shape () or (B,), got {what}")
    if _check.readable(gamma) and bool(gamma.isnan().any()):
        raise ValueError(f"{name} must be a number, got nan")


def _require_rising(gamma_t: Tensor, gamma_s: Tensor) -> None:
    _require_gamma("gamma_t", gamma_t)
    _require_gamma("gamma_s", gamma_s)
    if gamma_t.shape != gamma_s.shape:
        raise ValueError(f"gamma_s must have shape {tuple(gamma_t.shape)}, got {tuple(gamma_s.shape)}")
    if _check.readable(gamma_t, gamma_s) and bool((gamma_s > gamma_t).any()):
        raise ValueError(f"gamma_s must not be above gamma_t = {gamma_t.tolist()}, got {gamma_s.tolist()}")


def _require_values(x: Tensor, values: Tensor) -> None:
    if values.dim() != 1 or values.dtype != x.dtype or len(values) < 2:
        shape = tuple(values.shape)
        raise ValueError(f"values must be {x.dtype} of shape (V,), V > 1, got {values.dtype}, {shape}")
    if not _check.readable(x, values):
        return
    if bool((values.sort().values.diff() == 0).any()):
        raise ValueError(f"values must differ from each other, got {values.tolist()}")
    if not bool(torch.isin(x, values).all()):
        raise ValueError(f"x must hold values only, got {x[~torch.isin(x, values)][0].item()}")
