"""Processes given by functions or by tables: marginals to coefficients and back, chains to processes and
back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from refdiff import _check
from refdiff._process_base import Process, Time, positive
from refdiff.schedule import Schedule, from_log_alpha_bar

Curve = Callable[[Tensor], Tensor]
"""A function of time, float64 to float64, elementwise."""

# of Gauss and Legendre on (0, 1); made here, because a traced graph makes no numpy arrays
_NODES, _WEIGHTS = (torch.from_numpy(values) / 2 for values in np.polynomial.legendre.leggauss(8))
_NODES = _NODES + 0.5


@dataclass(frozen=True, eq=False)
class FromMarginals(Process):
    r"""A process from the scale and the variance of its marginals.

    .. math:: f=\frac{\mathrm d}{\mathrm dt}\log\mathrm{scale},\qquad
        g^2=\frac{\mathrm d\,\mathrm{std}^2}{\mathrm dt}-2f\,\mathrm{std}^2

    Args:
        log_scale_of, variance_of: differentiable functions of time, elementwise, float64.
        end: the last time, above 0.

    Reference: Karras et al. 2022, appendix B.1 (formulas ``sde.drift_from_scale``,
        ``sde.diffusion_from_std``).
    """

    log_scale_of: Curve
    variance_of: Curve
    end: float = 1.0

    def __post_init__(self) -> None:
        positive(end=self.end)

    def log_scale(self, t: Time) -> Tensor:
        return self.log_scale_of(self.time(t))

    def variance(self, t: Time) -> Tensor:
        return self.variance_of(self.time(t))

    def drift(self, t: Time) -> Tensor:
        return _slope(self.log_scale_of, self.time(t))

    def diffusion_squared(self, t: Time) -> Tensor:
        return _slope(self.variance_of, self.time(t)) - 2 * self.drift(t) * self.variance(t)


@dataclass(frozen=True, eq=False)
class FromCoefficients(Process):
    r"""A process from its drift and diffusion, clean at time 0.

    .. math:: \log\mathrm{scale}(t)=\int_0^tf,\qquad
        \mathrm{std}(t)^2=\int_0^te^{2\int_u^tf}g(u)^2\,\mathrm du

    The integrals are sums over panels with eight nodes of Gauss and Legendre, exact for polynomials of degree
    15 in each panel.

    Args:
        drift_of, diffusion_squared_of: f and g², functions of time, elementwise, float64.
        end: the last time, above 0.
        panels: equal panels of the interval from 0 to t, at least 1.

    Reference: Särkkä and Solin 2019, section 6.1 (formulas ``sde.scale``, ``sde.variance``).
    """

    drift_of: Curve
    diffusion_squared_of: Curve
    end: float = 1.0
    panels: int = 8

    def __post_init__(self) -> None:
        positive(end=self.end)
        _check.count("panels", self.panels)

    def log_scale(self, t: Time) -> Tensor:
        return _integral(self._drift, torch.zeros_like(self.time(t)), self.time(t), self.panels)

    def variance(self, t: Time) -> Tensor:
        return self._added(self.time(t), torch.zeros_like(self.time(t)))

    def drift(self, t: Time) -> Tensor:
        return self.drift_of(self.time(t))

    def diffusion_squared(self, t: Time) -> Tensor:
        return self.diffusion_squared_of(self.time(t))

    def _drift(self, u: Tensor) -> Tensor:
        return _flat(self.drift_of, u)

    def _factor(self, t: Tensor, s: Tensor) -> Tensor:
        return _integral(self._drift, s, t, self.panels).exp()

    def _added(self, t: Tensor, s: Tensor) -> Tensor:
        def rate(u: Tensor) -> Tensor:
            left = _integral(self._drift, u, t.unsqueeze(-1).expand_as(u), self.panels)
            return (2 * left).exp() * _flat(self.diffusion_squared_of, u)

        return _integral(rate, s, t, self.panels)


@dataclass(frozen=True, eq=False)
class SteppedVP(Process):
    r"""The process with a rate that is constant between neighbours of a schedule, which is its chain there.

    .. math:: \beta(t)=-T\log(1-\beta_i),\qquad\tfrac{i-1}T<t\le\tfrac iT,\qquad
        x_{i/T}\mid x_{(i-1)/T}\sim\mathcal N(\sqrt{1-\beta_i}\,x,\beta_iI)

    Made by ``from_schedule``.

    Args:
        schedule: noise schedule with T steps, of which the last keeps some signal.

    Reference: formula ``sde.rate_from_beta``.
    """

    schedule: Schedule

    def __post_init__(self) -> None:
        logs = self.schedule.log_alpha_bar
        if _check.readable(logs) and not bool(logs.isfinite().all()):
            raise ValueError("schedule must keep a signal at every level, got alpha_bar_T = 0")

    def rate(self, t: Time) -> Tensor:
        """The rate beta(t), at a level that of the step which ends there."""
        T, i = self.schedule.T, _segment(self.time(t), self.schedule.T)
        return T * -torch.log1p(-self.schedule.beta.to(i.device)[i + 1])

    def log_scale(self, t: Time) -> Tensor:
        high, low = self._logs(self.time(t))
        return 0.5 * (high + low)

    def variance(self, t: Time) -> Tensor:
        return -torch.expm1(2 * self.log_scale(t))

    def drift(self, t: Time) -> Tensor:
        return -0.5 * self.rate(t)

    def diffusion_squared(self, t: Time) -> Tensor:
        return self.rate(t)

    def _logs(self, t: Tensor) -> tuple[Tensor, Tensor]:
        tables = (self.schedule.log_alpha_bar, self.schedule.log_alpha_bar_low)
        high, low = (_between_knots(table, t) for table in tables)
        return high, low

    def _log_ratio(self, t: Tensor, s: Tensor) -> Tensor:
        (high, low), (high_s, low_s) = self._logs(t), self._logs(s)
        return (high - high_s) + (low - low_s)

    def _factor(self, t: Tensor, s: Tensor) -> Tensor:
        return (0.5 * self._log_ratio(t, s)).exp()

    def _added(self, t: Tensor, s: Tensor) -> Tensor:
        return -torch.expm1(self._log_ratio(t, s))


@dataclass(frozen=True, eq=False)
class SteppedVE(Process):
    r"""The process whose variance is linear between the levels of a ladder, from clean data at time 0.

    .. math:: \mathrm{std}(t)^2=\sigma_{i-1}^2+(tL-i+1)(\sigma_i^2-\sigma_{i-1}^2),\qquad
        \tfrac{i-1}L\le t\le\tfrac iL,\qquad\sigma_0=0

    Made by ``from_ladder``.

    Args:
        sigmas: levels, descending, above 0, float64, shape (L,).
    """

    sigmas: Tensor
    knots: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sigmas = self.sigmas
        if sigmas.dtype != torch.float64 or sigmas.dim() != 1 or len(sigmas) == 0:
            raise ValueError(
                f"sigmas must be float64 of shape (L,), got {sigmas.dtype}, {tuple(sigmas.shape)}"
            )
        wrong = (sigmas <= 0) | ~sigmas.isfinite()
        if _check.readable(sigmas) and bool(wrong.any() | (sigmas.diff() >= 0).any()):
            raise ValueError(f"sigmas must be above 0, finite and descending, got {sigmas.tolist()}")
        object.__setattr__(self, "knots", torch.cat([sigmas.new_zeros(1), sigmas.flip(0)]))

    def log_scale(self, t: Time) -> Tensor:
        return torch.zeros_like(self.time(t))

    def variance(self, t: Time) -> Tensor:
        return _between_knots(self.knots**2, self.time(t))

    def drift(self, t: Time) -> Tensor:
        return torch.zeros_like(self.time(t))

    def diffusion_squared(self, t: Time) -> Tensor:
        i = _segment(self.time(t), len(self.sigmas))
        return len(self.sigmas) * _differences(self.knots.to(i.device))[i]

    def _added(self, t: Tensor, s: Tensor) -> Tensor:
        """Whole segments as products of sums and differences, so that near levels do not cancel."""
        L, i, j = len(self.sigmas), _segment(t, len(self.sigmas)), _segment(s, len(self.sigmas))
        rises = _differences(self.knots.to(t.device))
        total = torch.cat([rises.new_zeros(1), rises.cumsum(0)])
        inside = (t * L - i) * rises[i] - (s * L - j) * rises[j]
        return torch.where(i == j, (t - s) * L * rises[i], inside + (total[i] - total[j]))


def from_schedule(schedule: Schedule) -> SteppedVP:
    """The process that has the chain of a schedule at the times i/T.

    Args:
        schedule: noise schedule with T steps, of which the last keeps some signal.

    Returns:
        A variance-preserving process with a piecewise constant rate.

    Raises:
        ValueError: a schedule with zero terminal SNR.

    Reference: formula ``sde.rate_from_beta``.
    """
    return SteppedVP(schedule)


def from_ladder(sigmas: Tensor) -> SteppedVE:
    """The process that has the levels of a ladder at the times i/L, and clean data at time 0.

    Args:
        sigmas: levels, descending, above 0, float64, shape (L,).

    Returns:
        A variance-exploding process with a piecewise linear variance.

    Raises:
        ValueError: levels that are not float64, above 0, finite and descending.

    Reference: Song et al. 2021 (score SDE), appendix B (formula ``sde.ve_chain_variance``).
    """
    return SteppedVE(sigmas)


def to_schedule(process: Process, times: Tensor, name: str = "custom") -> Schedule:
    r"""The chain of a variance-preserving process at given times, without error.

    .. math:: \beta_i=1-\left(\frac{\mathrm{scale}(t_i)}{\mathrm{scale}(t_{i-1})}\right)^2

    Args:
        process: a process with scale² + std² = 1 at every time.
        times: ascending from 0, float64, shape (T + 1,).
        name: name of the schedule.

    Returns:
        Schedule with T steps.

    Raises:
        ValueError: times that do not ascend from 0, or a process that does not preserve variance.

    Reference: formula ``sde.beta_from_integral``.
    """
    _require_times(times)
    log_alpha_bar = 2 * process.log_scale(times)
    # three roundings of numbers up to 1
    apart = (log_alpha_bar.exp() + process.variance(times) - 1).abs().max()
    if apart > 4 * torch.finfo(torch.float64).eps:
        raise ValueError(f"process must keep scale² + std² = 1, got a sum off by {apart.item()}")
    return from_log_alpha_bar(log_alpha_bar, name)


def to_ladder(process: Process, times: Tensor) -> Tensor:
    r"""The levels of a process at given times, in units of the data, descending.

    .. math:: \sigma=\mathrm{std}/\mathrm{scale}

    Args:
        process: any process.
        times: ascending, float64, shape (L,).

    Returns:
        float64, shape (L,): the level of the last time first.

    Raises:
        ValueError: times that do not ascend.
    """
    _require_ascending(times)
    return (-process.log_snr(times)).exp().flip(0)


def _require_ascending(times: Tensor) -> None:
    if times.dtype != torch.float64 or times.dim() != 1 or len(times) < 2:
        raise ValueError(
            f"times must be float64 of shape (N,), N > 1, got {times.dtype}, {tuple(times.shape)}"
        )
    if _check.readable(times) and bool((times[1:] <= times[:-1]).any()):
        raise ValueError(f"times must ascend strictly, got {times.tolist()}")


def _require_times(times: Tensor) -> None:
    _require_ascending(times)
    if times[0] != 0:
        raise ValueError(f"times must begin at 0, got {times[0].item()}")


def _slope(curve: Curve, t: Tensor) -> Tensor:
    """The derivative of an elementwise function, of which one that is constant is no special case."""
    slope: Tensor = torch.func.grad(lambda at: (curve(at) + 0 * at).sum())(t.detach())
    return slope


def _flat(curve: Curve, u: Tensor) -> Tensor:
    """A function of times of shape () or (B,) at times of any shape."""
    return curve(u.flatten()).reshape(u.shape)


def _integral(curve: Curve, low: Tensor, high: Tensor, panels: int) -> Tensor:
    """The integral of an elementwise function between two times of one shape."""
    nodes, weights = (part.to(high.device) for part in (_NODES, _WEIGHTS))
    places = ((torch.arange(panels, device=high.device)[:, None] + nodes) / panels).flatten()
    width = (high - low).unsqueeze(-1)
    values = curve(low.unsqueeze(-1) + width * places)
    return (values * weights.repeat(panels)).sum(-1) * (high - low) / panels


def _segment(t: Tensor, count: int) -> Tensor:
    """The index of the segment of (0, 1/n], (1/n, 2/n], ... that holds t; 0 belongs to the first."""
    return ((t * count).ceil().long() - 1).clamp(0, count - 1)


def _between_knots(values: Tensor, t: Tensor) -> Tensor:
    """Linear interpolation of values at 0, 1/n, ..., 1."""
    count, table = len(values) - 1, values.to(t.device)
    i = _segment(t, count)
    share = t * count - i
    return torch.where(share == 1, table[i + 1], table[i] + share * (table[i + 1] - table[i]))


def _differences(knots: Tensor) -> Tensor:
    """Differences of neighbouring squares."""
    return (knots[1:] - knots[:-1]) * (knots[1:] + knots[:-1])
