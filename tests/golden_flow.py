"""How the reference answers the golden cases of flow matching."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from refdiff import flow
from refdiff.data import GaussianLaw
from refdiff.process import VE, VP, SubVP, Time

Ask = Callable[[Any], Tensor]


def number(q: Any, name: str) -> float:
    return float(Fraction(q.case.input[name])) if name in q.case.input else 0.0


def wide(q: Any, name: str) -> Tensor:
    return torch.tensor(number(q, name), dtype=torch.float64)


def state(q: Any, name: str) -> Tensor:
    """An input of one sample; what does not count in the case is not given."""
    return getattr(q, name) if name in q.case.input else q.like  # type: ignore[no-any-return]


class Numbers(flow.Path):
    """The path with the numbers of the case: its own at time 0, those of the other level at time 1."""

    def __init__(self, q: Any) -> None:
        self.now = [wide(q, f"path_{name}") for name in ("scale", "std", "scale_slope", "std_slope")]
        self.then = [wide(q, f"path_{name}_s") for name in ("scale", "std")]

    def _at(self, k: int, t: Time) -> Tensor:
        return torch.where(self.time(t) == 1, self.then[min(k, 1)], self.now[k])

    def scale(self, t: Time) -> Tensor:
        return self._at(0, t)

    def std(self, t: Time) -> Tensor:
        return self._at(1, t)

    def scale_slope(self, t: Time) -> Tensor:
        return self._at(2, t)

    def std_slope(self, t: Time) -> Tensor:
        return self._at(3, t)

    def determinant(self, t: Time) -> Tensor:
        return self.scale(t) * self.std_slope(t) - self.scale_slope(t) * self.std(t)


def law(q: Any) -> GaussianLaw:
    return GaussianLaw(wide(q, "data_mean").reshape(1), wide(q, "data_variance").reshape(1, 1))


def from_velocity(what: str) -> Ask:
    function = getattr(flow, f"{what}_from_velocity")
    return lambda q: function(Numbers(q), q.x_t, 0.0, q.velocity)  # type: ignore[no-any-return]


def to_velocity(what: str) -> Ask:
    return lambda q: flow.velocity(Numbers(q), q.x_t, 0.0, **{what: getattr(q, what)})


def weight(of: flow.Form) -> Ask:
    return lambda q: flow.loss_weight(Numbers(q), 0.0, of).to(q.dtype)


def loss(q: Any) -> Tensor:
    return flow.loss(Numbers(q), lambda x, t: q.velocity_hat, q.x_0, 0.0, q.eps)


def log_snr_weight(q: Any) -> Tensor:
    at = Numbers(q)
    # per unit of lambda: the weight per unit of time over the speed of lambda
    speed = at.determinant(0.0) / (at.scale(0.0) * at.std(0.0))
    return (number(q, "time_density") * flow.loss_weight(at, 0.0, "eps") / speed).to(q.dtype)


def flow_map(q: Any) -> Tensor:
    return flow.gaussian_flow_map(Numbers(q), law(q).mean, law(q).cov, q.x_t, 0.0, 1.0)


def ddim(q: Any) -> Tensor:
    """The step from the velocity that x_t and the prediction make."""
    given = {name: getattr(q, name) for name in ("eps", "x_0") if name in q.case.input}
    at = Numbers(q)
    # any slopes do: the step does not depend on them, given the prediction
    at.now[2:] = [torch.tensor(-0.75, dtype=torch.float64), torch.tensor(1.25, dtype=torch.float64)]
    velocity = flow.velocity(at, q.x_t.double(), 0.0, **{k: v.double() for k, v in given.items()})
    return flow.ddim_step(at, q.x_t.double(), 0.0, 1.0, velocity).to(q.dtype)


def noise_left(q: Any) -> Tensor:
    """On the path of scale 1 and slope 1 the constant is that of the noise, in units of its deviation."""
    level = float(q.exact("N")[0, 0])
    left = flow.loss_constant(flow.path("edm"), q.exact("S_0"), math.sqrt(level))
    return (level * left).to(q.dtype)


def t(q: Any) -> float:
    return number(q, "flow_t")


def transport(q: Any) -> flow.Path:
    return flow.Transport(number(q, "residual_std"))


def rates(q: Any) -> tuple[float, float]:
    return number(q, "beta_min"), number(q, "beta_min") + number(q, "rate_gap")


def diffusion(process: Callable[[Any], Any], of: str) -> Ask:
    def ask(q: Any) -> Tensor:
        # in float64, since beta_max, a sum, need not be a number of float32
        given = {of: getattr(q, of).double()}
        return flow.velocity(flow.Diffusion(process(q)), q.x_t.double(), t(q), **given).to(q.dtype)

    return ask


def vp(q: Any) -> VP:
    return VP(*rates(q))


def ve(q: Any) -> VE:
    return VE(number(q, "sigma_L"), number(q, "sigma_1"))


def ve_from_score(q: Any) -> Tensor:
    return flow.velocity(flow.Diffusion(ve(q)), q.like, t(q), score=q.score)


def first_step(q: Any) -> Tensor:
    u = flow.marginal_velocity(flow.Rectified(), GaussianLaw(law(q).mean, torch.eye(1).double()), q.x_t, 1.0)
    return flow.euler_step(q.x_t, 1.0, number(q, "flow_s"), u)


def reflow(q: Any) -> Tensor:
    return flow.reflow_velocity(law(q).mean, law(q).cov, q.x_t, t(q))


def losses_of_two(q: Any) -> Tensor:
    """Two pairs without data, whose noise is their velocity."""
    eps = torch.cat([q.component_velocity_0, q.component_velocity_1])
    hat = q.velocity_hat.expand(2, 1)
    each = flow.loss(flow.Rectified(), lambda x, at: hat, torch.zeros_like(eps), 0.5, eps)
    share = q.weight[0]
    return share * each[0] + (1 - share) * each[1]


def loss_gradient(q: Any) -> Tensor:
    theta = torch.zeros((), dtype=q.dtype, requires_grad=True)
    model = lambda x, at: q.velocity_hat + theta * q.velocity_hat_slope  # noqa: E731
    value = flow.loss(flow.Rectified(), model, q.like, 0.5, q.velocity)
    return torch.autograd.grad(value.sum(), theta)[0]


def grid(q: Any) -> Tensor:
    times = flow.times(int(q.case.input["intervals"]), number(q, "time_shift"))
    return times[int(q.case.input["visited_time"])].to(q.dtype)


def logit_normal(q: Any) -> Tensor:
    return flow.logit_normal_density(t(q), number(q, "logit_mean"), number(q, "logit_std")).to(q.dtype)


def swap(q: Any) -> Tensor:
    zero = torch.zeros_like(q.data_gap)
    data, noise = torch.cat([q.data_gap, zero]), torch.cat([q.noise_gap, zero])
    return flow.coupling_cost(data, noise) - flow.coupling_cost(data, noise.flip(0))


def distance(q: Any) -> Tensor:
    return flow.interpolate(flow.Rectified(), q.data_gap, t(q), q.noise_gap) ** 2


def bridge_score(q: Any) -> Tensor:
    """Minus the noise over its deviation, for the noise that makes x_t of the ends."""
    deviation = flow.bridge_score_weight(t(q), number(q, "sigma")).to(q.dtype)
    line = flow.bridge(q.end_0, q.end_1, t(q), q.like, number(q, "sigma"))
    return (line - q.x_t) / deviation / deviation


def drift(backward: bool) -> Ask:
    return lambda q: flow.sde_drift(q.velocity, q.score, number(q, "noise_rate"), backward)


FLOW: dict[str, Ask] = {
    "flow.conditional_velocity": lambda q: flow.conditional_velocity(Numbers(q), q.x_0, 0.0, q.eps),
    "flow.reversed_velocity": lambda q: flow.conditional_velocity(
        flow.Reversed(Numbers(q)), q.x_0, 1.0, q.eps
    ),
    "flow.loss": loss,
    "flow.loss_constant": lambda q: flow.loss_constant(Numbers(q), law(q).cov, 0.0).to(q.dtype),
    "flow.loss_constant_nd": noise_left,
    "flow.log_snr_weight": log_snr_weight,
    **{f"flow.{what}_from_velocity": from_velocity(what) for what in ("x_0", "eps", "score")},
    **{f"flow.velocity_from_{what}": to_velocity(what) for what in ("x_0", "eps", "score")},
    "flow.loss_weight_eps": weight("eps"),
    "flow.loss_weight_x_0": weight("x_0"),
    "flow.loss_weight_v": weight("v"),
    "flow.loss_weight_score": weight("score"),
    "flow.gaussian_velocity": lambda q: flow.marginal_velocity(Numbers(q), law(q), q.x_t, 0.0),
    "flow.ddim_step": lambda q: flow.ddim_step(Numbers(q), q.x_t, 0.0, 1.0, q.velocity),
    "flow.ddim_in_sigma": ddim,
    "flow.ddim_in_snr": ddim,
    "flow.gaussian_flow_map": flow_map,
    "flow.rectified_x_0": lambda q: flow.x_0_from_velocity(flow.Rectified(), q.x_t, t(q), q.velocity),
    "flow.rectified_eps": lambda q: flow.eps_from_velocity(flow.Rectified(), q.x_t, t(q), q.velocity),
    "flow.rectified_score": lambda q: flow.score_from_velocity(flow.Rectified(), q.x_t, t(q), q.velocity),
    "flow.rectified_velocity": lambda q: flow.conditional_velocity(flow.Rectified(), q.x_0, 0.5, q.eps),
    "flow.transport_velocity": lambda q: flow.conditional_velocity(transport(q), q.x_0, 0.5, q.eps),
    "flow.transport_velocity_from_x_0": lambda q: flow.velocity(transport(q), q.x_t, t(q), x_0=q.x_0),
    "flow.transport_x_0": lambda q: flow.x_0_from_velocity(transport(q), q.x_t, t(q), q.velocity),
    "flow.trigonometric_velocity": lambda q: flow.conditional_velocity(
        flow.Trigonometric(), q.x_0, t(q), q.eps
    ),
    "flow.vp_velocity": diffusion(vp, "x_0"),
    "flow.vp_velocity_from_score": diffusion(vp, "score"),
    "flow.subvp_velocity": diffusion(lambda q: SubVP(*rates(q)), "x_0"),
    "flow.ve_velocity": diffusion(ve, "x_0"),
    "flow.ve_velocity_from_score": ve_from_score,
    "flow.euler_step": lambda q: flow.euler_step(q.x_t, t(q), number(q, "flow_s"), q.velocity),
    "flow.first_step": first_step,
    "flow.reflow_velocity": reflow,
    "flow.straightness": lambda q: flow.rectified_straightness(law(q).cov).to(q.dtype),
    "flow.loss_split": losses_of_two,
    "flow.loss_gradient": loss_gradient,
    "flow.shift": lambda q: flow.shift_time(t(q), number(q, "time_shift")).to(q.dtype),
    "flow.shift_log_snr": lambda q: (
        flow.Rectified().log_snr(flow.shift_time(t(q), number(q, "time_shift"))).to(q.dtype)
    ),
    "flow.shift_inverse": lambda q: flow.unshift_time(t(q), number(q, "time_shift")).to(q.dtype),
    "flow.shift_composition": lambda q: flow.shift_time(
        flow.shift_time(t(q), number(q, "time_shift")), number(q, "other_shift")
    ).to(q.dtype),
    "flow.shift_slope": lambda q: flow.shift_slope(t(q), number(q, "time_shift")).to(q.dtype),
    "flow.shift_exponential": lambda q: flow.shift_time_exponential(
        t(q), number(q, "log_shift"), number(q, "shift_power")
    ).to(q.dtype),
    "flow.resolution_shift": lambda q: torch.tensor(
        flow.resolution_shift(number(q, "pixels"), number(q, "base_pixels")), dtype=q.dtype
    ),
    "flow.shifted_grid": grid,
    "flow.logit_normal": logit_normal,
    "flow.rectified_log_snr_weight": lambda q: flow.eps_loss_weight(t(q), number(q, "time_density")).to(
        q.dtype
    ),
    "flow.coupling_swap": swap,
    "flow.coupling_distance": distance,
    "flow.bridge_velocity": lambda q: flow.bridge_velocity(q.end_0, q.end_1, t(q), q.x_t),
    "flow.bridge_score": bridge_score,
    "flow.bridge_score_weight": lambda q: flow.bridge_score_weight(t(q), number(q, "sigma")).to(q.dtype),
    "flow.sde_drift": drift(False),
    "flow.sde_drift_backward": drift(True),
}
