"""Log-likelihood along the probability-flow ODE, by the instantaneous change of variables."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias, TypeVar

import torch
from torch import Tensor

from refdiff import _check
from refdiff._ode_solve import solve
from refdiff._ode_steps import ScoreFn, drift
from refdiff.process import Process, Time
from refdiff.schedule import cast

Divergence: TypeAlias = Literal["exact"] | Tensor
"""The exact trace, or probes of shape (n, B, *) over which Hutchinson's estimate is averaged."""
Nats = TypeVar("Nats", float, Tensor)


def divergence(
    process: Process, score_fn: ScoreFn, x: Tensor, t: Time, probes: Tensor | None = None
) -> Tensor:
    r"""The divergence of the velocity, exactly or by Hutchinson's estimate.

    .. math:: \nabla\cdot v=D\,f(t)-\tfrac12g(t)^2\operatorname{tr}\nabla s(x,t),\qquad
        \operatorname{tr}J\approx\frac1n\sum_{i=1}^nz_i^\top J\,z_i

    Args:
        process: the continuous process.
        score_fn: score of x and the time, differentiable in the forward direction.
        x: state, shape (B, *), with D elements per sample.
        t: time, a float or float64 of shape () or (B,).
        probes: z, shape (n, B, *), standard normal or random signs: any law with I for the mean of z zᵀ; None
            for the exact trace, which costs D products with the Jacobian.

    Returns:
        Shape (B,), per unit of time.

    Raises:
        ValueError: a time outside the process, probes of another shape, dtype or device, or an x without a
            batch.

    Reference: Song et al. 2021 (score SDE), appendix D.2 (formulas ``ode.log_density_rate``,
        ``ode.hutchinson``, ``ode.hutchinson_variance``).
    """
    at = process.time(t)
    _check.batch("t", at, x)
    trace = _trace(lambda y: score_fn(y, at), x, probes)
    growth = cast(process.drift(at), trace) * x[0].numel()
    return growth - cast(process.diffusion_squared(at) / 2, trace) * trace


def log_likelihood(
    process: Process,
    score_fn: ScoreFn,
    x: Tensor,
    divergence: Divergence = "exact",
    prior: Callable[[Tensor], Tensor] | None = None,
    start: float = 0.0,
    end: float | None = None,
    method: str = "scipy:RK45",
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Tensor:
    r"""The log-likelihood of data under the ODE, started from a prior at the end of the process.

    .. math:: \log p_0(x_0)=\log\pi(x_T)+\int_0^T\nabla\cdot v(x_u,u)\,\mathrm du

    It is the density of what the ODE generates from the prior, which is the density of the data only as far
    as the prior is the law of the noised data (formula ``ode.ratio_kept``).

    Args:
        process: the continuous process.
        score_fn: score of x and the time, differentiable in the forward direction; it is asked at ``start``.
        x: data at time ``start``, shape (B, *).
        divergence: "exact", or probes of shape (n, B, *), the same along the whole path.
        prior: log-density of x_T, of (B, *) to (B,); if not given, the normal law without mean and with the
            variance of the process at the end.
        start, end: the times between which the ODE is solved; the end of the process if not given.
        method, rtol, atol: as in ``integrate``.

    Returns:
        Nats, shape (B,).

    Raises:
        ValueError, ImportError, RuntimeError: as in ``integrate`` and ``divergence``; a prior that does not
            return shape (B,).

    Reference: Song et al. 2021 (score SDE), eq. 39 (formulas ``ode.log_density_rate``,
        ``ode.gaussian_likelihood``).
    """
    _check.floating("x", x)
    end = process.end if end is None else end
    count, probes = x.numel(), _probes(divergence)

    def field(state: Tensor, at: Tensor) -> Tensor:
        here = state[:count].to(x.dtype).reshape(x.shape)
        velocity = drift(process, here, at, score_fn(here, at)).flatten()
        growth = _growth(process, score_fn, here, at, probes)
        return torch.cat([velocity, growth]).double()

    nothing = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    state = solve(process, field, torch.cat([x.double().flatten(), nothing]), start, end, method, rtol, atol)
    x_T = state[:count].to(x.dtype).reshape(x.shape)
    of_prior = _standard(x_T, process.variance(end)) if prior is None else prior(x_T)
    if of_prior.shape != x.shape[:1]:
        raise ValueError(f"prior must return shape ({len(x)},), got {tuple(of_prior.shape)}")
    return (of_prior.double() + state[count:]).to(x.dtype)


_growth = divergence  # ``log_likelihood`` has an argument of that name


def bits_per_dim(
    log_likelihood: Nats, dim: int, bins: int = 256, data_range: tuple[float, float] = (0.0, 1.0)
) -> Nats:
    r"""Bits per dimension of data in bins, from the log-density of data with uniform noise in their bins.

    .. math:: -\frac{\log p(x)}{D\log2}+\log_2\frac{\text{bins}}{\text{high}-\text{low}}

    The offset is 8 for 256 bins in [0, 1] and 7 in [−1, 1].

    Args:
        log_likelihood: log-density of a sample, summed over its dimensions, in nats.
        dim: D, the number of dimensions.
        bins: number of bins that tile the range.
        data_range: the lower and the upper end of the range that the bins tile, in the unit of the data.

    Returns:
        Bits per dimension, of the same type and shape.

    Raises:
        ValueError: a dim or bins below 1, or a range that is not finite and ascending.

    Reference: Song et al. 2021 (score SDE), appendix D.2 (formula ``ode.bits_per_dim``).
    """
    _check.count("dim", dim)
    _check.count("bins", bins)
    low, high = data_range
    if not (math.isfinite(high - low) and low < high):
        raise ValueError(f"data_range must be finite and ascending, got {data_range}")
    return -log_likelihood / (dim * math.log(2)) + math.log2(bins / (high - low))


def _probes(divergence: Divergence) -> Tensor | None:
    if isinstance(divergence, Tensor):
        return divergence
    if divergence != "exact":
        raise ValueError(f"divergence must be 'exact' or a tensor of probes, got {divergence!r}")
    return None


def _trace(score: Callable[[Tensor], Tensor], x: Tensor, probes: Tensor | None) -> Tensor:
    """The trace of the Jacobian of each sample, which sees only itself."""
    _check.floating("x", x)
    if x.dim() < 2:
        raise ValueError(f"x must have shape (B, *) with a batch, got {tuple(x.shape)}")

    def along(z: Tensor) -> Tensor:
        value, slope, *_ = torch.func.jvp(score, (x,), (z,))
        _check.same(x=x, score=value)
        product: Tensor = z * slope
        return product.flatten(1).sum(1)

    if probes is None:
        basis = torch.eye(x[0].numel(), dtype=x.dtype, device=x.device).reshape(-1, 1, *x.shape[1:])
        return torch.func.vmap(lambda axis: along(axis.expand_as(x)))(basis).sum(0)
    if probes.dim() != x.dim() + 1 or len(probes) == 0:
        raise ValueError(f"probes must have shape (n, *{tuple(x.shape)}), got {tuple(probes.shape)}")
    _check.same(x=x, probes=probes[0])
    return torch.func.vmap(along)(probes).mean(0)


def _standard(x: Tensor, variance: Tensor) -> Tensor:
    """The log-density of the normal law without mean and with this variance."""
    square = x.double().flatten(1).square().sum(1)
    v = variance.to(x.device)
    return -(square / v + x[0].numel() * (v.log() + math.log(2 * math.pi))) / 2
