r"""DDPM's full variational bound, its discretised decoder, the hybrid loss, and DDIM's objective.

.. math:: L=L_T+\sum_{t=2}^TL_{t-1}+L_0\ge-\log p_\theta(x_0)

Everything is in nats and summed over nothing unless it says so; ``bits_per_dim`` converts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from refdiff import _check, ddpm
from refdiff._check import Level
from refdiff._vlb_ddim import ddim_direct_term, ddim_sigma, ddim_weight
from refdiff._vlb_decoder import (
    bits_per_dim,
    density_bits_per_dim,
    density_log_likelihood,
    discretized_gaussian_log_likelihood,
)
from refdiff.ddpm import Form, Variance
from refdiff.kernel import (
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
    take_noise,
)
from refdiff.schedule import Schedule

__all__ = [
    "Bound",
    "bits_per_dim",
    "bound_terms",
    "ddim_direct_term",
    "ddim_sigma",
    "ddim_weight",
    "decoder_term",
    "density_bits_per_dim",
    "density_log_likelihood",
    "discretized_gaussian_log_likelihood",
    "gaussian_terms",
    "hybrid_loss",
    "prior_term",
    "step_term",
]

Decoder = Literal["discretized", "density"]
Unit = Literal["nats", "bits"]
Model = Callable[[Tensor, Level], Tensor | tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Bound:
    r"""The terms of a bound, in nats, summed over the dimensions of a sample.

    .. math:: L=L_T+(L_1+\dots+L_{T-1})+L_0

    Args:
        prior: L_T, shape (B,).
        steps: L_1 … L_{T−1}, shape (B, T − 1): column t − 2 is the term of step t.
        decoder: L_0, shape (B,).
    """

    prior: Tensor
    steps: Tensor
    decoder: Tensor

    @property
    def total(self) -> Tensor:
        """The bound, shape (B,)."""
        return self.prior + self.steps.sum(1) + self.decoder


def prior_term(schedule: Schedule, x_0: Tensor) -> Tensor:
    r"""The term L_T, the divergence of the last level from a standard normal prior.

    .. math:: L_T=D_{\mathrm{KL}}\left(q(x_T\mid x_0)\,\|\,\mathcal N(0,I)\right)
        =\tfrac12\sum_i\left(\bar\alpha_Tx_{0,i}^2-\bar\alpha_T-\log(1-\bar\alpha_T)\right)

    Args:
        schedule: noise schedule with T steps.
        x_0: data, shape (B, *).

    Returns:
        Nats of each element, shaped like x_0.

    Raises:
        ValueError: x_0 not of a floating dtype.

    Reference: Ho et al. 2020, eq. 5 (formula ``vlb.prior_term``).
    """
    _check.floating("x_0", x_0)
    spread = expm1_minus(schedule.one_minus_alpha_bar[-1].log())
    signal = schedule.at("sqrt_alpha_bar", schedule.T, x_0) * x_0
    return (signal * signal + cast(spread, x_0)) / 2


def step_term(
    schedule: Schedule,
    target: Tensor,
    prediction: Tensor,
    t: Level,
    form: Form = "eps",
    variance: Variance = "beta_tilde",
    learned: Tensor | None = None,
) -> Tensor:
    r"""The term L_{t-1} at one x_t, from what the model predicts and what it should have predicted.

    .. math:: D_{\mathrm{KL}}\left(q(x_{t-1}\mid x_t,x_0)\,\|\,p_\theta(x_{t-1}\mid x_t)\right)
        =\tfrac12\sum_i\left(\frac{\tilde\beta_t}{\sigma_t^2}-1-\log\frac{\tilde\beta_t}{\sigma_t^2}\right)
        +\sum_iw\,(\text{target}-\text{prediction})_i^2

    Args:
        schedule: noise schedule with T steps.
        target, prediction: the noise, the data or the posterior mean, and its prediction, shape (B, *).
        t: step, 2 ≤ t ≤ T, an int or shape (B,).
        form: which of the three they are.
        variance: the choice of σ_t².
        learned: f in [0, 1], shape (B, *), for the two learned kinds.

    Returns:
        Nats of each element, shaped like target.

    Raises:
        ValueError: t outside 2..T, for eps a level without signal, an unknown form, a bad choice of variance,
            or tensors of different shape, dtype or device.

    Reference: Ho et al. 2020, eq. 5 and 8; Nichol and Dhariwal 2021, eq. 15 (formula ``vlb.term_mu``,
    ``vlb.term_x_0``, ``vlb.term_learned``, ``ddpm.kl_term``).
    """
    _check.same(target=target, prediction=prediction)
    _check.level("t", t, schedule.T, minimum=2)
    levels = pair(schedule, t, None, target)
    std = ddpm.variance(schedule, t, None, variance, learned).sqrt()
    error = cast(_slope(levels, form), target) * (target - prediction) / cast(std, target)
    # log of beta_tilde / beta, a step or an interpolation away from that of beta_tilde / sigma²
    log_tilde = log1p(-levels.sqrt_alpha_bar_s * levels.sqrt_alpha_bar_s * levels.beta / levels.one_minus_t)
    share = learned if learned is not None else 0.0 if variance == "beta_tilde" else 1.0
    return (expm1_minus(share * cast(log_tilde, target)) + error * error) / 2


def bound_terms(
    model: Model,
    schedule: Schedule,
    x_0: Tensor,
    noises: Iterable[Tensor],
    variance: Variance = "beta",
    decoder: Decoder = "discretized",
    bins: int = 256,
) -> Bound:
    r"""Every term of the bound, each at one x_t.

    .. math:: L=L_T+\sum_{t=2}^T
        D_{\mathrm{KL}}\left(q(x_{t-1}\mid x_t,x_0)\,\|\,p_\theta(x_{t-1}\mid x_t)\right)
        -\log p_\theta(x_0\mid x_1)

    Its mean over the noises is an upper bound of −log p(x_0).

    Args:
        model: eps predicted from x_t and the level t, an int; for the learned variances the pair (eps, f).
        schedule: noise schedule with T steps.
        x_0: data, shape (B, *); on the grid of bins for the discretised decoder.
        noises: T standard normal tensors shaped like x_0; the first makes x_1, the last x_T.
        variance: the choice of σ_t²; σ_1² must not be 0.
        decoder: "discretized", or "density" for data without bins.
        bins: number of bins of the discretised decoder.

    Returns:
        Bound with T + 1 terms in nats, summed over dimensions.

    Raises:
        ValueError: too few noises, a level without signal, σ_1 = 0, or what the terms raise.

    Reference: Ho et al. 2020, eq. 5 (formula ``vlb.term_mu``, ``vlb.prior_term``, ``vlb.decoder_interior``).
    """
    draws = iter(noises)
    steps = []
    for t in range(1, schedule.T + 1):
        noise = take_noise(draws, t)
        eps, learned = _asked(model, ddpm.q_sample(schedule, x_0, t, noise), t)
        if t == 1:
            first = decoder_term(schedule, x_0, noise, eps, variance, learned, decoder, bins)
        else:
            steps.append(step_term(schedule, noise, eps, t, "eps", variance, learned).flatten(1).sum(1))
    columns = torch.stack(steps, 1) if steps else x_0.new_zeros(x_0.shape[0], 0)
    return Bound(prior_term(schedule, x_0).flatten(1).sum(1), columns, first.flatten(1).sum(1))


def decoder_term(
    schedule: Schedule,
    x_0: Tensor,
    noise: Tensor,
    eps: Tensor,
    variance: Variance = "beta",
    learned: Tensor | None = None,
    decoder: Decoder = "discretized",
    bins: int = 256,
) -> Tensor:
    r"""The term L_0 at one x_1.

    .. math:: L_0=-\log p_\theta(x_0\mid x_1),\qquad
        p_\theta(x_0\mid x_1)=\mathcal N(x_0;\mu_\theta(x_1,1),\sigma_1^2I)\text{ or its bins}

    Args:
        schedule: noise schedule with T steps.
        x_0: data, shape (B, *).
        noise, eps: the noise that makes x_1, and its prediction, shaped like x_0.
        variance, learned: the choice of σ_1², which must not be 0.
        decoder: "discretized", or "density" for data without bins.
        bins: number of bins of the discretised decoder.

    Returns:
        Nats of each element, shaped like x_0.

    Raises:
        ValueError: σ_1 = 0, an unknown decoder, or what the decoder raises.

    Reference: Ho et al. 2020, eq. 13 (formula ``vlb.decoder_interior``, ``vlb.ddim_direct_term``).
    """
    mean = ddpm.mean_from_eps(schedule, ddpm.q_sample(schedule, x_0, 1, noise), 1, eps)
    scale = ddpm.variance(schedule, 1, 0, variance, learned)
    if any_true(scale == 0):
        raise ValueError(f"variance must be positive at t = 1, got 0 for {variance!r}")
    log_scale = cast(scale.log() / 2, x_0)
    if decoder == "discretized":
        return -discretized_gaussian_log_likelihood(x_0, mean, log_scale, bins)
    if decoder == "density":
        error = (x_0 - mean) * torch.exp(-log_scale)
        return error * error / 2 + log_scale + math.log(2 * math.pi) / 2
    raise ValueError(f"decoder must be one of {', '.join(get_args(Decoder))}, got {decoder!r}")


def hybrid_loss(
    model: Callable[[Tensor, Level], tuple[Tensor, Tensor]],
    schedule: Schedule,
    x_0: Tensor,
    t: Level,
    noise: Tensor,
    weight: float = 0.001,
    variance: Variance = "learned_first_tilde",
    decoder: Decoder = "discretized",
    bins: int = 256,
    reduction: Reduction = "mean",
    unit: Unit = "nats",
) -> Tensor:
    r"""The hybrid loss of each sample: the mean learns from the simple loss, the variance from the bound.

    .. math:: L_{\text{hybrid}}=\|\epsilon-\epsilon_\theta\|^2
        +\lambda\,T\,L_{t-1}(\operatorname{sg}[\epsilon_\theta],f_\theta)

    T times the term of a uniform t estimates the bound without L_T.

    Args:
        model: the pair (eps, f) predicted from x_t and t.
        schedule: noise schedule with T ≥ 2 steps.
        x_0: data, shape (B, *).
        t: level, drawn uniformly from 1..T, an int or shape (B,).
        noise: standard normal, shaped like x_0.
        weight: λ, at least 0.
        variance: a learned kind; "learned" has σ_1 = 0 unless f is 1 there.
        decoder, bins: the term of t = 1.
        reduction: "sum" or "mean" over the dimensions of a sample, for both losses.
        unit: of the bound; the authors' code has bits.

    Returns:
        Losses, shape (B,).

    Raises:
        ValueError: t outside 1..T, a model without f, a negative weight, an unknown unit or reduction, or
            what the terms raise.

    Reference: Nichol and Dhariwal 2021, eq. 16 (formula ``vlb.hybrid_gradient``, ``vlb.term_learned``).
    """
    _check.level("t", t, schedule.T, minimum=1)
    if not weight >= 0:
        raise ValueError(f"weight must be at least 0, got {weight}")
    if unit not in get_args(Unit):
        raise ValueError(f"unit must be one of {', '.join(get_args(Unit))}, got {unit!r}")
    eps, learned = _asked(model, ddpm.q_sample(schedule, x_0, t, noise), t)
    _check.same(x_0=x_0, eps=eps, noise=noise)
    term = _term(schedule, x_0, t, noise, eps.detach(), variance, learned, decoder, bins)
    scale = weight * schedule.T / (math.log(2) if unit == "bits" else 1.0)
    return reduced((noise - eps) ** 2, reduction) + scale * reduced(term, reduction)


def gaussian_terms(schedule: Schedule, x_0: Tensor, mean: Tensor, variance: Tensor) -> Bound:
    r"""The terms of the exact reverse chain on Gaussian data; they sum to −log p(x_0) for every T.

    .. math:: L_T=G_T,\quad L_{t-1}=G_{t-1}-G_t,\quad L_0=-\log\mathcal N(x_0;m,c)-G_1,\qquad
        G_t=D_{\mathrm{KL}}\left(q(x_t\mid x_0)\,\|\,q(x_t)\right)

    The means over the noises are taken exactly, and the prior is the exact marginal q(x_T).

    Args:
        schedule: noise schedule with T steps.
        x_0: data, shape (B, *).
        mean: m of each element, of the dtype of x_0 and broadcastable to it.
        variance: c of each element, positive, likewise.

    Returns:
        Bound with T + 1 terms in nats, summed over dimensions.

    Raises:
        ValueError: a variance that is not positive, or tensors that do not match.

    Reference: formula ``vlb.gaussian_prior_term``, ``vlb.gaussian_step_term``,
    ``vlb.gaussian_decoder_term``, ``vlb.gaussian_bound``.
    """
    _check_moments(x_0, mean, variance)
    c, square = variance.double(), ((x_0 - mean) ** 2).double()
    power, noise = schedule.alpha_bar, schedule.one_minus_alpha_bar
    total = [a * c + n for a, n in zip(power, noise, strict=True)]
    prior = expm1_minus(_log_ratio(power[-1] * c / total[-1], noise[-1] / total[-1]))
    terms = [(prior + power[-1] * square / total[-1]) / 2]
    for t in range(2, schedule.T + 1):
        levels = pair(schedule, t)
        lost = c * power[t - 1] * levels.beta / (noise[t] * total[t - 1])
        left = noise[t - 1] * total[t] / (noise[t] * total[t - 1])
        gap = power[t - 1] * levels.beta / (total[t - 1] * total[t]) * (square + power[t] * c * c / noise[t])
        terms.append((expm1_minus(_log_ratio(lost, left)) + gap) / 2)
    spread = c * noise[1] / total[1]
    first = noise[1] * square / (c * total[1]) + power[1] * c / total[1] + (2 * math.pi * spread).log()
    sums = [term.expand_as(x_0).flatten(1).sum(1).to(x_0.dtype) for term in (*terms, first / 2)]
    steps = torch.stack(sums[1:-1], 1) if schedule.T > 1 else x_0.new_zeros(x_0.shape[0], 0)
    return Bound(sums[0], steps, sums[-1])


def _slope(levels: Pair, form: Form) -> Number:
    """The slope of the posterior mean in what is predicted, up to its sign."""
    if form == "mu":
        return 1.0
    if form == "x_0":
        return on_x_0(levels)
    if form == "eps":
        require_signal(levels)
        return levels.beta / (levels.sqrt_alpha * sqrt(levels.one_minus_t))
    raise ValueError(f"form must be one of {', '.join(get_args(Form))}, got {form!r}")


def _asked(model: Model, x_t: Tensor, t: Level) -> tuple[Tensor, Tensor | None]:
    output = model(x_t, t)
    return output if isinstance(output, tuple) else (output, None)


def _term(
    schedule: Schedule,
    x_0: Tensor,
    t: Level,
    noise: Tensor,
    eps: Tensor,
    variance: Variance,
    learned: Tensor | None,
    decoder: Decoder,
    bins: int,
) -> Tensor:
    """L_{t−1} for t above 1, L_0 for t = 1."""
    if isinstance(t, int):
        if t == 1:
            return decoder_term(schedule, x_0, noise, eps, variance, learned, decoder, bins)
        return step_term(schedule, noise, eps, t, "eps", variance, learned)
    # both forms are computed for a batch of levels; the one that is not used sees a level where it is finite
    later = step_term(schedule, noise, eps, t.clamp(min=2), "eps", variance, learned)
    first = decoder_term(schedule, x_0, noise, eps, variance, learned, decoder, bins)
    return torch.where((t == 1).reshape(-1, *(1,) * (x_0.dim() - 1)), first, later)


def _log_ratio(lost: Tensor, left: Tensor) -> Tensor:
    """The log of left = 1 − lost, from whichever of the two is smaller."""
    return torch.where(lost < 0.5, torch.log1p(-lost), left.log())


def _check_moments(x_0: Tensor, mean: Tensor, variance: Tensor) -> None:
    _check.floating("x_0", x_0)
    for name, values in (("mean", mean), ("variance", variance)):
        _check.floating(name, values)
        if values.dtype != x_0.dtype:
            raise ValueError(f"{name} must have the dtype of x_0, {x_0.dtype}, got {values.dtype}")
        _check.broadcastable(name, values, "x_0", x_0)
    if _check.readable(variance) and not bool((variance > 0).all()):
        raise ValueError(f"variance must be positive, got {variance.min().item()}")
