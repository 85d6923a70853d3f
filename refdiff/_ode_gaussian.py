"""Gaussian data: the probability-flow ODE has a solution in closed form, and with it the likelihood."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from refdiff import _check
from refdiff.data import GaussianLaw
from refdiff.process import Process


def gaussian_flow_map(
    process: Process, mean: Tensor, cov: Tensor, t: float, s: float
) -> tuple[Tensor, Tensor]:
    r"""The solution of the ODE for Gaussian data, which is affine.

    .. math:: x_s=A\,x_t+b,\qquad A=V_s^{1/2}V_t^{-1/2},\quad b=a_s\mu-A\,a_t\mu,\qquad
        V_u=a_u^2\Sigma+\sigma_u^2I

    with the scale a and the deviation σ of the process. V_s and V_t commute, so A is symmetric.

    Args:
        process: the continuous process.
        mean, cov: of the data, shapes (D,) and (D, D), float64, symmetric and positive semi-definite.
        t, s: times, in either order.

    Returns:
        A of shape (D, D) and b of shape (D,), float64.

    Raises:
        ValueError: a time outside the process, a t at which the law has no density, or moments that are not
            those of a law.

    Reference: formulas ``ode.gaussian_flow``, ``ode.gaussian_flow_nd``.
    """
    law = GaussianLaw(mean, cov)
    ratio = (_variances(process, law, s) / _variances(process, law, t, "t")).sqrt()
    axes = law.components.axes
    assert axes is not None
    slope = (axes[0] * ratio) @ axes[0].mT
    scale_t, scale_s = (process.scale(at).to(mean.device) for at in (t, s))
    return slope, scale_s * mean - slope @ (scale_t * mean)


def gaussian_log_likelihood(
    process: Process,
    mean: Tensor,
    cov: Tensor,
    x: Tensor,
    prior_variance: float | None = None,
    start: float = 0.0,
    end: float | None = None,
) -> Tensor:
    r"""The likelihood under the exact ODE of Gaussian data, started from a normal prior.

    .. math:: \log p(x)=\log\mathcal N(x_T;0,vI)+\tfrac12\log\frac{\det V_T}{\det V_0}

    Args:
        process: the continuous process.
        mean, cov: of the data, shapes (D,) and (D, D), float64.
        x: data at time ``start``, shape (B, D), float64.
        prior_variance: v, above 0; the variance of the process at the end if not given.
        start, end: the times between which the ODE runs; the end of the process if not given.

    Returns:
        Nats, shape (B,), float64.

    Raises:
        ValueError: as in ``gaussian_flow_map``; an x of another shape or dtype; a variance not above 0.

    Reference: formula ``ode.gaussian_likelihood``.
    """
    end = process.end if end is None else end
    slope, shift = gaussian_flow_map(process, mean, cov, start, end)
    if x.dim() != 2 or x.shape[1] != len(mean) or x.dtype != torch.float64:
        raise ValueError(f"x must be float64 of shape (B, {len(mean)}), got {x.dtype}, {tuple(x.shape)}")
    variance = float(process.variance(end)) if prior_variance is None else prior_variance
    _check.between("prior_variance", variance, 0, math.inf)
    law = GaussianLaw(mean, cov)
    growth = _variances(process, law, end).log().sum() - _variances(process, law, start).log().sum()
    x_T = x @ slope.mT + shift
    of_prior = x_T.square().sum(1) / variance + len(mean) * math.log(2 * math.pi * variance)
    return (growth - of_prior) / 2


def _variances(process: Process, law: GaussianLaw, t: float, name: str = "") -> Tensor:
    """The variances of the noised law along the axes of the data, shape (D,)."""
    variance: Tensor = law.components.variance[0]
    found = process.scale(t).to(variance.device) ** 2 * variance + process.variance(t).to(variance.device)
    if name and _check.readable(found) and not bool((found > 0).all()):
        raise ValueError(f"{name} must be a time at which the law has a density, got {t}")
    return found
