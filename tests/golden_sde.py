"""How the reference answers the golden cases of stochastic differential equations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from refdiff import sde
from refdiff.process import (
    VE,
    VP,
    FromMarginals,
    Process,
    SteppedVE,
    SteppedVP,
    SubVP,
    Time,
    Transition,
    to_schedule,
)
from refdiff.schedule import from_beta

Ask = Callable[[Any], Tensor]
HALF = torch.tensor([0.5, 1.0], dtype=torch.float64)


@dataclass(frozen=True)
class Given(Process):
    """A process of which some numbers are given: scale and deviation at its end and before, f and g."""

    scales: tuple[float, float] = (1.0, 1.0)
    stds: tuple[float, float] = (1.0, 1.0)
    f: float = 0.0
    g: float = 1.0
    step: tuple[float, float] | None = None
    end: float = 100.0

    def log_scale(self, t: Time) -> Tensor:
        return self.pick(self.scales, t).log()

    def variance(self, t: Time) -> Tensor:
        return self.pick(self.stds, t) ** 2

    def drift(self, t: Time) -> Tensor:
        return torch.full_like(self.time(t), self.f)

    def diffusion_squared(self, t: Time) -> Tensor:
        return torch.full_like(self.time(t), self.g**2)

    def transition(self, t: Time, s: Time) -> Transition:
        if self.step is None:
            return super().transition(t, s)
        return Transition(*torch.tensor(self.step, dtype=torch.float64))

    def pick(self, pair: tuple[float, float], t: Time) -> Tensor:
        return torch.where(self.time(t) == self.end, *torch.tensor(pair, dtype=torch.float64))


def number(q: Any, name: str) -> float:
    return float(Fraction(q.case.input[name]))


def count(q: Any, name: str) -> int:
    return int(q.case.input[name])


def cast(value: Tensor | float, q: Any) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64).to(q.dtype)


def path(q: Any) -> Given:
    given = q.case.input
    pairs = [
        tuple(number(q, f"{kind}_{at}") if f"{kind}_{at}" in given else 1.0 for at in "ts")
        for kind in ("scale", "std")
    ]
    return Given(*pairs)  # type: ignore[arg-type]


def lines(q: Any) -> FromMarginals:
    """Scale and deviation as straight lines through their values at time ½."""

    def line(kind: str) -> Callable[[Tensor], Tensor]:
        names = (f"{kind}_t", f"{kind}_slope")
        at, slope = (number(q, name) if name in q.case.input else 1.0 for name in names)
        return lambda t: at + (t - 0.5) * slope

    scale, std = line("scale"), line("std")
    return FromMarginals(lambda t: scale(t).log(), lambda t: std(t) ** 2)


def affine_vp(q: Any) -> VP:
    return VP(number(q, "beta_min"), number(q, "beta_min") + number(q, "rate_gap"))


def ve(q: Any, from_clean: bool = False) -> VE:
    return VE(number(q, "sigma_min"), number(q, "sigma_max"), from_clean)


def constant(q: Any, kind: type[VP] = VP) -> VP:
    """The process with a constant rate whose integral over the unit of time is that of the case."""
    return kind(number(q, "rate_integral"), number(q, "rate_integral"))


def between(q: Any) -> tuple[float, float]:
    return 1.0, number(q, "rate_integral_s") / number(q, "rate_integral")


def sub_vp_noise(q: Any) -> Tensor:
    first = 2 * number(q, "rate_integral") - number(q, "rate")
    return SubVP(first, number(q, "rate")).diffusion_squared(1.0)


def level_diffusion(q: Any) -> Tensor:
    """The marginals a and aσ with σ a line through b/a."""
    scale, level, slope = number(q, "scale_t"), number(q, "std_t") / number(q, "scale_t"), "ratio_slope"
    sigma = lambda t: level + (t - 0.5) * number(q, slope)  # noqa: E731
    of = FromMarginals(lambda t: 0 * t + torch.tensor(scale).log(), lambda t: (scale * sigma(t)) ** 2)
    return of.diffusion(0.5)


def ladder(q: Any) -> SteppedVE:
    return SteppedVE(torch.tensor([number(q, "level_t"), number(q, "level_s")], dtype=torch.float64))


def added(q: Any, ends: tuple[float, float], of: Process) -> Tensor:
    return cast(of.transition(*ends).variance, q)


def chain(grid: sde.Grid) -> Ask:
    return lambda q: cast(sde.vp_betas(affine_vp(q), count(q, "chain_length"), grid)[count(q, "i") - 1], q)


def ddpm_chain(q: Any) -> Tensor:
    return cast(sde.vp_betas(VP(0.1, 20.0), 1000)[count(q, "i") - 1], q)


def exact_beta(q: Any) -> Tensor:
    times = torch.tensor([0.0, between(q)[1], 1.0], dtype=torch.float64)
    return cast(to_schedule(constant(q), times).beta[2], q)


def exact_rate(q: Any) -> Tensor:
    """A chain of one step in the unit of time, so that its rate over Δt is that of the case."""
    return cast(SteppedVP(from_beta([number(q, "beta")])).rate(1.0) / number(q, "time_step"), q)


def reverse_drift(q: Any) -> Tensor:
    of = Given(f=number(q, "drift_x"), g=number(q, "diffusion"))
    return sde.reverse_drift(of, torch.ones_like(q.like), 0.5, q.score)


def euler(q: Any) -> Tensor:
    of = Given(f=number(q, "drift_factor"), g=number(q, "diffusion"))
    return sde.euler_maruyama_step(of, q.x_t, number(q, "time_step"), 0.0, q.score, q.z)


def step_of(q: Any) -> tuple[float, float]:
    return number(q, "kernel_factor"), number(q, "kernel_variance")


def reverse_diffusion(factor: Tensor | float, variance: Tensor | float, q: Any) -> Tensor:
    step = Transition(*(torch.as_tensor(value, dtype=torch.float64) for value in (factor, variance)))
    return sde.reverse_diffusion_of(step).apply(q.x_t, q.score, q.z)


def reverse_diffusion_vp(q: Any) -> Tensor:
    factor, variance = SteppedVP(from_beta([number(q, "beta")])).transition(1.0, 0.0)
    return reverse_diffusion(factor, variance, q)


def ancestral(q: Any) -> Tensor:
    factor, variance = step_of(q)
    below = number(q, "std_s")
    above = (factor**2 * below**2 + variance) ** 0.5
    of = Given(stds=(above, below), step=(factor, variance), end=1.0)
    return sde.ancestral_step(of, q.x_t, 1.0, 0.5, q.score, q.z)


def kernel_score_loss(q: Any) -> Tensor:
    of = Given(stds=(number(q, "std_t"), 1.0), end=1.0)
    weight = torch.tensor(number(q, "loss_weight"), dtype=torch.float64)
    return sde.dsm_loss(of, lambda x, t: q.score_hat, q.like, 1.0, q.eps, weight)


def dsm_minimum(q: Any) -> Tensor:
    """The mean of a square over points with the variances of data and noise, which is exact."""
    of, spread = path(q), number(q, "data_variance")
    total = number(q, "scale_t") ** 2 * spread + number(q, "std_t") ** 2
    root = (2 * torch.tensor([spread, 1.0], dtype=torch.float64)).sqrt()
    data = torch.tensor([[1.0], [-1.0], [0.0], [0.0]], dtype=torch.float64) * root[0]
    noise = torch.tensor([[0.0], [0.0], [1.0], [-1.0]], dtype=torch.float64) * root[1]
    weight = torch.tensor(number(q, "loss_weight"), dtype=torch.float64)
    score = lambda x, t: -x / total  # noqa: E731
    return sde.dsm_loss(of, score, data.to(q.dtype), of.end, noise.to(q.dtype), weight).mean()


def corrector(q: Any) -> Tensor:
    return sde.corrector_step(q.x, q.score_x, q.z, number(q, "eta_step"))


def step_size(q: Any) -> Tensor:
    score, noise = (q.like + number(q, name) for name in ("score_norm", "noise_norm"))
    return cast(sde.corrector_step_size(score, noise, number(q, "snr_ratio"), number(q, "step_damping")), q)


def corrected_mean(q: Any) -> Tensor:
    """Data of one point, so that the variance of the level is that of its noise."""
    scale, std = number(q, "scale_s"), number(q, "marginal_s") ** 0.5
    of = Given((scale, scale), (std, std), end=1.0)
    mean, start = (torch.tensor([number(q, name)], dtype=torch.float64) for name in ("data_mean", "mean_t"))
    nothing = torch.zeros(1, 1, dtype=torch.float64)
    law = (mean, nothing, HALF.flip(0), start, nothing)
    steps = torch.full((2,), number(q, "eta_step"), dtype=torch.float64)
    how = {"predictor": "none", "corrector_steps": count(q, "count"), "steps": steps}
    return cast(sde.gaussian_law(of, *law, **how)[0], q)  # type: ignore[arg-type]


SDE: dict[str, Ask] = {
    "sde.reverse_drift": reverse_drift,
    "sde.drift_from_scale": lambda q: cast(lines(q).drift(0.5), q),
    "sde.diffusion_from_std": lambda q: cast(lines(q).diffusion_squared(0.5), q),
    "sde.diffusion_from_sigma": lambda q: cast(level_diffusion(q), q),
    "sde.transition_factor": lambda q: cast(path(q).transition(100.0, 0.5).factor, q),
    "sde.transition_variance": lambda q: added(q, (100.0, 0.5), path(q)),
    "sde.vp_kernel_factor": lambda q: cast(constant(q).scale(1.0), q),
    "sde.vp_kernel_variance": lambda q: cast(constant(q).variance(1.0), q),
    "sde.ve_kernel_variance": lambda q: added(q, (1.0, 0.5), ladder(q)),
    "sde.ve_diffusion": lambda q: cast(ve(q).diffusion(number(q, "tau")), q),
    "sde.ve_variance": lambda q: cast(ve(q, from_clean=True).variance(number(q, "tau")), q),
    "sde.vp_integral": lambda q: cast(affine_vp(q).integral(number(q, "tau")), q),
    "sde.vp_factor": lambda q: cast(affine_vp(q).scale(number(q, "tau")), q),
    "sde.vp_variance": lambda q: cast(affine_vp(q).variance(number(q, "tau")), q),
    "sde.sub_vp_diffusion": lambda q: cast(sub_vp_noise(q), q),
    "sde.sub_vp_std": lambda q: cast(constant(q, SubVP).std(1.0), q),
    "sde.sub_vp_transition": lambda q: added(q, between(q), constant(q, SubVP)),
    "sde.ve_level": lambda q: cast(sde.ve_sigmas(ve(q), count(q, "chain_length"))[count(q, "i") - 1], q),
    "sde.vp_beta": chain("N"),
    "sde.vp_beta_wide": chain("N-1"),
    "sde.ddpm_chain": ddpm_chain,
    "sde.beta_from_integral": exact_beta,
    "sde.rate_from_beta": exact_rate,
    "sde.euler_maruyama": euler,
    "sde.reverse_diffusion": lambda q: reverse_diffusion(*step_of(q), q),
    "sde.reverse_diffusion_vp": reverse_diffusion_vp,
    "sde.reverse_diffusion_ve": lambda q: sde.reverse_diffusion_step(
        ladder(q), q.x_t, 1.0, 0.5, q.score, q.z
    ),
    "sde.ancestral": ancestral,
    "sde.ancestral_ve": lambda q: sde.ancestral_step(ladder(q), q.x_t, 1.0, 0.5, q.score, q.z),
    "sde.dsm_loss": kernel_score_loss,
    "sde.dsm_minimum": dsm_minimum,
    "sde.corrector": corrector,
    "sde.corrector_step_size": step_size,
    "sde.corrected_mean": corrected_mean,
}
