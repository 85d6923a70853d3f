"""How the reference answers the golden cases of variational diffusion."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from refdiff import vdm

Ask = Callable[[Any], Tensor]


def number(q: Any, name: str) -> float:
    return float(Fraction(q.case.input[name]))


def wide(q: Any, name: str) -> Tensor:
    return torch.tensor(number(q, name), dtype=torch.float64)


def row(q: Any, *names: str) -> Tensor:
    """Numbers of the case in float64."""
    return torch.stack([wide(q, name) for name in names])


def step(q: Any) -> Tensor:
    return vdm.step(q.x_t, wide(q, "gamma_t"), wide(q, "gamma_s"), q.eps, q.z)


def term(q: Any) -> Tensor:
    return vdm.term(q.eps, q.eps_hat, wide(q, "gamma_t"), wide(q, "gamma_s"))


def term_x_0(q: Any) -> Tensor:
    """The error of the data as that of the noise in the same z_t."""
    error = (q.x_0 - q.x_0_hat) * torch.exp(-wide(q, "gamma_t") / 2).to(q.dtype)
    return vdm.term(torch.zeros_like(error), error, wide(q, "gamma_t"), wide(q, "gamma_s"))


def loss(q: Any, *levels: str) -> Tensor:
    return vdm.gaussian_loss_discrete(row(q, "data_variance"), row(q, *levels))


def refinement(q: Any) -> Tensor:
    return loss(q, "gamma_s", "gamma_t") - loss(q, "gamma_s", "gamma_m", "gamma_t")


def reconstruction(q: Any) -> Tensor:
    values = row(q, "point_1", "point_2").to(q.dtype)
    return vdm.reconstruction_term(values[:1, None], values, wide(q, "gamma_0"), q.z)


def optimal(q: Any) -> Tensor:
    ends = number(q, "gamma_0"), number(q, "gamma_1")
    return vdm.OptimalGamma(*ends, number(q, "data_variance"))(wide(q, "tau"))


class Known(vdm.MonotoneGamma):
    """A schedule whose network has the given outputs: at 0, at 1 and between."""

    def __init__(self, q: Any) -> None:
        super().__init__(torch.zeros(3, 1, dtype=torch.float64), number(q, "gamma_0"), number(q, "gamma_1"))
        self.outputs = row(q, "raw_0", "raw_t", "raw_1")

    def free(self, t: Tensor) -> Tensor:
        return self.outputs[torch.where(t == 0, 0, torch.where(t == 1, 2, 1))]


def learned_slope(q: Any) -> Tensor:
    """The slope of the network of one unit with these weights."""
    gamma = vdm.MonotoneGamma(torch.zeros(3, 1, dtype=torch.float64))
    with torch.no_grad():
        for name, gain in (("w_1", "gain_1"), ("w_2", "gain_2"), ("w_3", "gain_3")):
            getattr(gamma, name).fill_(torch.log(torch.expm1(wide(q, gain))))
        gamma.b_2.fill_(number(q, "unit_offset"))
    return vdm.slope(gamma.free, row(q, "tau"))[1].detach()


VDM: dict[str, Ask] = {
    "marginal": lambda q: vdm.q_sample(q.x_0, wide(q, "gamma"), q.eps),
    "gaussian_error": lambda q: vdm.gaussian_rate(row(q, "data_variance"), row(q, "gamma")),
    "rate": lambda q: vdm.rate(q.eps, q.eps_hat, wide(q, "gamma_slope")),
    "transition_variance": lambda q: vdm.transition_variance(wide(q, "gamma_t"), wide(q, "gamma_s")),
    "step": step,
    "term": term,
    "term_x_0": term_x_0,
    "prior_term": lambda q: vdm.prior_term(q.x_0, wide(q, "gamma_1")),
    "reconstruction": reconstruction,
    "gaussian_term": lambda q: loss(q, "gamma_s", "gamma_t"),
    "refinement": refinement,
    "gaussian_loss": lambda q: vdm.gaussian_loss_continuous(
        row(q, "data_variance"), wide(q, "gamma_0"), wide(q, "gamma_1")
    ),
    "gaussian_reconstruction": lambda q: vdm.gaussian_reconstruction_term(
        row(q, "data_variance"), wide(q, "gamma_0")
    ),
    "optimal_gamma": optimal,
    "learned_gamma": lambda q: Known(q)(torch.full((), 0.5, dtype=torch.float64)).detach(),
    "learned_slope": learned_slope,
}
