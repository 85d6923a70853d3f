"""The bound of a chain of affine Gaussian steps on Gaussian data: a part of ``refdiff.elbo``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from refdiff import _check
from refdiff._check import Level
from refdiff._elbo_terms import Terms
from refdiff.gaussian import Gaussian
from refdiff.schedule import Schedule, log_ratio, take


@dataclass(frozen=True, eq=False)
class GaussianChain:
    r"""A forward chain of affine Gaussian steps from Gaussian data, one element of them.

    .. math:: x_0\sim\mathcal N(m,c),\qquad q(x_t\mid x_{t-1})=\mathcal N(x_t;a_tx_{t-1},v_t)

    Args:
        mean, variance: m and c of the data, shape (), float64; the variance is positive.
        slopes, variances: a_t and v_t, entry t-1 for step t, shape (T,), float64; the variances are positive.

    Raises:
        ValueError: a tensor of another shape or dtype, or a variance that is not positive.

    Reference: formula ``elbo.forward_chain``.
    """

    mean: Tensor
    variance: Tensor
    slopes: Tensor
    variances: Tensor

    def __post_init__(self) -> None:
        _shapes(self.slopes, mean=self.mean, variance=self.variance, variances=self.variances)
        _positive(variance=self.variance, variances=self.variances)

    @property
    def T(self) -> int:
        """The number of steps."""
        return self.slopes.shape[0]

    def scale(self) -> Tensor:
        """The product of the slopes up to each level, shape (T+1,); x_t is scale·x_0 plus noise."""
        return torch.cat([self.slopes.new_ones(1), self.slopes.cumprod(0)])

    def noise(self) -> Tensor:
        """The variance of x_t given x_0 at each level, shape (T+1,); 0 at data."""
        levels = [self.variances.new_zeros(())]
        for slope, variance in zip(self.slopes, self.variances, strict=True):
            levels.append(slope**2 * levels[-1] + variance)
        return torch.stack(levels)

    def marginal(self) -> Gaussian:
        """The law of x_t at each level, shape (T+1,)."""
        return Gaussian(self.scale() * self.mean, self.scale() ** 2 * self.variance + self.noise())


@dataclass(frozen=True, eq=False)
class GaussianModel:
    r"""A reverse chain of affine Gaussian steps.

    .. math:: x_T\sim\mathcal N(m_T,c_T),\qquad p(x_{t-1}\mid x_t)=\mathcal N(x_{t-1};g_tx_t+h_t,s_t)

    Args:
        mean, variance: of the prior, shape (), float64; the variance is positive.
        slopes, shifts, variances: g_t, h_t and s_t, entry t-1 for step t, shape (T,), float64; the variances
            are positive.

    Raises:
        ValueError: a tensor of another shape or dtype, or a variance that is not positive.

    Reference: formula ``elbo.reverse_chain``.
    """

    mean: Tensor
    variance: Tensor
    slopes: Tensor
    shifts: Tensor
    variances: Tensor

    def __post_init__(self) -> None:
        tables = {"shifts": self.shifts, "variances": self.variances}
        _shapes(self.slopes, mean=self.mean, variance=self.variance, **tables)
        _positive(variance=self.variance, variances=self.variances)


def _shapes(slopes: Tensor, mean: Tensor, variance: Tensor, **tables: Tensor) -> None:
    if slopes.dim() != 1 or slopes.shape[0] == 0:
        raise ValueError(f"slopes must have shape (T,) with T at least 1, got {tuple(slopes.shape)}")
    _check.same(slopes=slopes, **tables)
    _check.same(mean=mean, variance=variance)
    for name, value in {"mean": mean, "slopes": slopes}.items():
        if value.dtype != torch.float64:
            raise ValueError(f"{name} must be float64, got {value.dtype}")
    if mean.dim() != 0:
        raise ValueError(f"mean must have shape (), got {tuple(mean.shape)}")


def _positive(**variances: Tensor) -> None:
    for name, value in variances.items():
        if _check.readable(value) and not bool((value > 0).all()):
            raise ValueError(f"{name} must be positive, got {value.min().item()}")


def gaussian_chain(schedule: Schedule, mean: float, variance: float) -> GaussianChain:
    r"""DDPM's forward chain on Gaussian data: slopes √α_t and variances β_t.

    Args:
        schedule: noise schedule with T steps.
        mean, variance: of the data; the variance is positive.

    Raises:
        ValueError: a number that is not finite, or a variance that is not positive.

    Reference: formula ``ddpm.one_step``.
    """
    _check.finite("mean", mean)
    _check.between("variance", variance, 0, math.inf)
    m, c = (schedule.beta.new_tensor(value) for value in (mean, variance))
    return GaussianChain(m, c, schedule.alpha[1:].sqrt(), schedule.beta[1:])


def gaussian_reversal(chain: GaussianChain) -> GaussianModel:
    r"""The chain read backwards: the model whose bound is exact.

    .. math:: q(x_{t-1}\mid x_t)=\mathcal N\!\left(x_{t-1};\,m_{t-1}+g_t(x_t-m_t),\,
        \frac{c_{t-1}v_t}{c_t}\right),\qquad g_t=\frac{a_tc_{t-1}}{c_t}

    with m_t and c_t the moments of x_t.

    Reference: formula ``elbo.reversed_kernel``, ``gaussian.condition_mean``.
    """
    law = chain.marginal()
    before, after = law.variance[:-1], law.variance[1:]
    slopes = chain.slopes * before / after
    shifts = law.mean[:-1] - slopes * law.mean[1:]
    return GaussianModel(law.mean[-1], law.variance[-1], slopes, shifts, before * chain.variances / after)


def gaussian_terms(chain: GaussianChain, model: GaussianModel) -> Terms:
    r"""The three terms of the bound on Gaussian data, in nats, each exact.

    .. math:: L_{t-1}=\tfrac12\left[\log\frac{s_t}{\tilde v_t}+\frac{\tilde v_t
        +\mathbb E(\tilde\mu_t-g_tx_t-h_t)^2}{s_t}-1\right]

    with :math:`\tilde\mu_t` and :math:`\tilde v_t` the moments of q(x_{t-1} | x_t, x_0).

    Args:
        chain, model: with the same number of steps.

    Returns:
        Terms; L_0 is a mean of minus the log of a density, so it may be negative.

    Raises:
        ValueError: chains of different length.

    Reference: formula ``elbo.gaussian_denoising_term``, ``elbo.three_terms``.
    """
    if model.slopes.shape != chain.slopes.shape:
        raise ValueError(f"model must have the {chain.T} steps of chain, got {model.slopes.shape[0]}")
    scale, noise = chain.scale(), chain.noise()
    kept = chain.variances * noise[:-1] / noise[1:]
    by_noise = chain.slopes * noise[:-1] / noise[1:].sqrt()
    missed = (
        ((scale[:-1] - model.slopes * scale[1:]) * chain.mean - model.shifts) ** 2
        + (scale[:-1] - model.slopes * scale[1:]) ** 2 * chain.variance
        + (by_noise - model.slopes * noise[1:].sqrt()) ** 2
    )
    reconstruction = ((2 * math.pi * model.variances[0]).log() + missed[0] / model.variances[0]) / 2
    reach = missed[1:].sqrt()
    law, other = Gaussian(torch.zeros_like(reach), kept[1:]), Gaussian(reach, model.variances[1:])
    last = Gaussian((scale[-1] * chain.mean)[None], noise[-1:])
    prior = last.kl(Gaussian(model.mean[None], model.variance[None]))[0]
    spread = scale[-1] ** 2 * chain.variance / (2 * model.variance)
    return Terms(reconstruction, law.kl(other), prior + spread)


def gaussian_information(schedule: Schedule, t: Level, data_variance: float) -> Tensor:
    r"""What x_{t-1} adds to what x_t knows of Gaussian data, in nats, float64 of shape () or (B,).

    .. math:: \mathrm I(x_0;x_{t-1}\mid x_t)=\tfrac12\log\frac{1+c\,\mathrm{SNR}_{t-1}}{1+c\,\mathrm{SNR}_t}

    Args:
        schedule: noise schedule with T steps.
        t: step, 2 ≤ t ≤ T, an int or shape (B,); at t = 1 it is infinite.
        data_variance: variance c of the data, positive.

    Raises:
        ValueError: t outside 2..T, or a variance that is not positive.

    Reference: formula ``elbo.gaussian_information``.
    """
    _check.level("t", t, schedule.T, 2)
    _check.between("data_variance", data_variance, 0, math.inf)
    later = take(schedule.snr, t)
    gained = _snr_difference(schedule, t, t - 1)
    return torch.log1p(data_variance * gained / (1 + data_variance * later)) / 2


def gaussian_error_drop(schedule: Schedule, t: Level, s: Level, data_variance: float) -> Tensor:
    r"""How much less the best prediction of Gaussian data errs at level s than at t > s.

    .. math:: \frac{c^2(\bar\alpha_s-\bar\alpha_t)}
        {(\bar\alpha_tc+1-\bar\alpha_t)(\bar\alpha_sc+1-\bar\alpha_s)}

    Args:
        schedule: noise schedule with T steps.
        t, s: levels, 0 ≤ s < t ≤ T, ints or shape (B,).
        data_variance: variance c of the data, positive.

    Returns:
        The drop of the mean squared error, float64 of shape () or (B,).

    Raises:
        ValueError: a level out of range, s not below t, or a variance that is not positive.

    Reference: formula ``elbo.refinement_gaussian``.
    """
    _levels(schedule, t, s)
    _check.between("data_variance", data_variance, 0, math.inf)
    total_t, total_s = (
        take(schedule.alpha_bar, level) * data_variance + take(schedule.one_minus_alpha_bar, level)
        for level in (t, s)
    )
    return data_variance**2 * _fall(schedule, t, s) / (total_t * total_s)


def refinement_gain(
    schedule: Schedule, t: Level, u: Level, s: Level, error_t: Tensor, error_u: Tensor
) -> Tensor:
    r"""What the bound gains from a level u between s and t, for a model that predicts the data.

    .. math:: \tfrac12(\mathrm{SNR}_s-\mathrm{SNR}_u)\,(e_t-e_u)

    Args:
        schedule: noise schedule with T steps.
        t, u, s: levels, 1 ≤ s < u < t ≤ T, ints or shape (B,).
        error_t, error_u: squared error of the data as predicted at t and at u, shape (B,), of the mean or of
            each sample.

    Returns:
        Nats, of the errors' shape and dtype; negative where the prediction at u is worse.

    Raises:
        ValueError: a level out of range or out of order, or errors of different shape, dtype or device.

    Reference: Kingma et al. 2021 (formula ``elbo.refinement``).
    """
    _check.same(error_t=error_t, error_u=error_u)
    _check.level("s", s, schedule.T, 1)
    _levels(schedule, t, u)
    _levels(schedule, u, s)
    weight = _snr_difference(schedule, u, s) / 2
    return weight.to(error_t) * (error_t - error_u)


def _levels(schedule: Schedule, t: Level, s: Level) -> None:
    _check.level("t", t, schedule.T)
    _check.level("s", s, schedule.T)
    _check.below("s", s, "t", t)


def _fall(schedule: Schedule, t: Level, s: Level) -> Tensor:
    """ᾱ_s − ᾱ_t without cancellation."""
    return take(schedule.alpha_bar, s) * -torch.expm1(log_ratio(schedule, t, s))


def _snr_difference(schedule: Schedule, t: Level, s: Level) -> Tensor:
    """The signal-to-noise ratio at s minus that at t, without cancellation."""
    noise = schedule.one_minus_alpha_bar
    return _fall(schedule, t, s) / (take(noise, t) * take(noise, s))
