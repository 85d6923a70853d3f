"""How the reference answers the golden cases of the probability-flow ODE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from refdiff import ode
from refdiff.process import EDM, VE, VP, Process, SubVP, Time

Ask = Callable[[Any], Tensor]


@dataclass(frozen=True)
class Path(Process):
    """Scale and deviation at two times, 0 and 1, and their derivatives at time 0."""

    scales: tuple[float, float]
    stds: tuple[float, float]
    scale_slope: float = 0.0
    std_slope: float = 0.0

    def log_scale(self, t: Time) -> Tensor:
        return self._at(self.scales, t).log()

    def variance(self, t: Time) -> Tensor:
        return self._at(self.stds, t) ** 2

    def drift(self, t: Time) -> Tensor:
        return self._at((self.scale_slope, 0.0), t) / self._at(self.scales, t)

    def diffusion_squared(self, t: Time) -> Tensor:
        return 2 * self._at((self.std_slope, 0.0), t) * self._at(self.stds, t) - 2 * self.drift(
            t
        ) * self.variance(t)

    def _at(self, pair: tuple[float, float], t: Time) -> Tensor:
        return torch.tensor(pair, dtype=torch.float64)[self.time(t).long()]


def number(q: Any, name: str) -> float:
    return float(Fraction(q.case.input[name]))


def path(q: Any) -> Path:
    given = q.case.input
    first, second = (
        tuple(number(q, name) if name in given else 1.0 for name in (f"path_{kind}", f"path_{kind}_s"))
        for kind in ("scale", "std")
    )
    slopes = [
        number(q, f"path_{kind}_slope") if f"path_{kind}_slope" in given else 0.0 for kind in ("scale", "std")
    ]
    return Path(first, second, *slopes)  # type: ignore[arg-type]


def drift(process: Ask) -> Ask:
    return lambda q: ode.drift(process(q), q.x_t, number(q, "tau"), q.score)


def vp(q: Any) -> VP:
    return VP(number(q, "beta_min"), number(q, "beta_min") + number(q, "rate_gap"))


def sub_vp(q: Any) -> SubVP:
    return SubVP(number(q, "beta_min"), number(q, "beta_min") + number(q, "rate_gap"))


def ve(q: Any) -> VE:
    return VE(number(q, "sigma_L"), number(q, "sigma_1"))


def from_eps(q: Any) -> Tensor:
    return ode.drift(path(q), q.x_t, 0.0, -q.eps / number(q, "path_std"))


def trace(q: Any) -> Tensor:
    """With f = 0 and g² = 2 the divergence of the velocity is minus that of the score."""
    # what stands beside the diagonal does not count
    beside = torch.tensor([[0.0, 0.25], [-0.625, 0.0]], dtype=q.dtype)
    slope = torch.diag(torch.cat([q.flow_11, q.flow_22])[:, 0]) + beside
    x = torch.ones(1, 2, dtype=q.dtype)
    return ode.divergence(EDM(2.0), lambda x, t: -(x @ slope.mT), x, 1.0)


def moments(q: Any) -> tuple[Tensor, Tensor]:
    mean = number(q, "data_mean") if "data_mean" in q.case.input else 0.0
    one = torch.ones(1, dtype=torch.float64)
    return mean * one, number(q, "data_variance") * one[None]


def flow(q: Any) -> Tensor:
    slope, shift = ode.gaussian_flow_map(path(q), *moments(q), 0.0, 1.0)
    return q.x_t * slope.to(q.dtype) + (shift.to(q.dtype) if q.unit == "value" else 0)  # type: ignore[no-any-return]


def log_det(q: Any) -> Tensor:
    slope, _ = ode.gaussian_flow_map(path(q), *moments(q), 0.0, 1.0)
    return slope.log().to(q.dtype)


def likelihood(q: Any, x: Tensor | None = None) -> Tensor:
    at = q.x_t.double() if x is None else x
    return ode.gaussian_log_likelihood(path(q), *moments(q), at, number(q, "prior_variance"))


def prior_gap(q: Any) -> Tensor:
    """The mean over the law of a quadratic, by two points at one deviation from the mean."""
    process, (mean, cov) = path(q), moments(q)
    centre, spread = process.scale(0.0) * mean, process.scale(0.0) ** 2 * cov[0] + process.variance(0.0)
    x = torch.stack([centre - spread.sqrt(), centre + spread.sqrt()])
    density = -((x - centre) ** 2 / spread + (2 * torch.pi * spread).log())[:, 0] / 2
    return (density - likelihood(q, x)).mean().to(q.dtype)


def bits(q: Any) -> Tensor:
    of_sample = torch.tensor(number(q, "log_likelihood"), dtype=q.dtype)
    span = number(q, "data_span")
    sizes = (int(q.case.input["dim"]), int(q.case.input["bins"]))
    return ode.bits_per_dim(of_sample, *sizes, (-span / 3, span - span / 3))


def coefficient(name: str) -> Ask:
    return lambda q: getattr(ode.ddim_coefficient_gap(q.schedule), name)[q.t - 1].to(q.dtype)


def ve_gap(q: Any) -> Tensor:
    """Euler's step in σ minus the step in σ², from a state at 0."""
    zero = torch.zeros_like(q.score_ve)
    levels = (number(q, "sig_t"), number(q, "sig_s"))
    by_noise = (levels[1] - levels[0]) * (-levels[0] * q.score_ve)
    return by_noise - ode.ve_step(zero, *levels, q.score_ve)


ODE: dict[str, Ask] = {
    "ode.vp_drift": drift(vp),
    "ode.ve_drift": drift(ve),
    "ode.sub_vp_drift": drift(sub_vp),
    "ode.from_eps": from_eps,
    "ode.hutchinson": trace,
    "ode.ve_step": lambda q: ode.ve_step(q.x_ve, number(q, "sig_t"), number(q, "sig_s"), q.score_ve),
    "ode.ve_ddim_gap": ve_gap,
    "ode.vp_step": lambda q: ode.vp_step(q.schedule, q.x_t, q.t, q.s, q.score),
    "ode.ddim_coefficient": coefficient("ddim"),
    "ode.ddim_coefficient_ratio": coefficient("ratio"),
    "ode.ddim_coefficient_gap": coefficient("gap"),
    "ode.ddim_state_gap": coefficient("state_gap"),
    "ode.ddim_step_gap": lambda q: ode.ddim_step_gap(q.schedule, q.x_t, q.t, q.s, q.score),
    "ode.gaussian_flow": flow,
    "ode.gaussian_log_det": log_det,
    "ode.gaussian_likelihood": lambda q: likelihood(q).to(q.dtype),
    "ode.prior_gap": prior_gap,
    "ode.bits_per_dim": bits,
}
