"""How the reference answers the golden cases of the solvers in sigma."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from refdiff import solver
from refdiff.solver import Levels, NoiseLevel

Ask = Callable[[Any], Tensor]


def number(q: Any, name: str) -> float:
    return float(Fraction(q.case.input[name]))


def exact(q: Any, name: str) -> Tensor:
    return torch.tensor(number(q, name), dtype=torch.float64)


def plain(*sigma: float) -> Levels:
    at = torch.tensor(sigma, dtype=torch.float64)
    return Levels(torch.ones_like(at), at, "ve")


def from_denoiser(method: str) -> Ask:
    """A step of a solver whose model predicts the data given at each level."""

    def ask(q: Any) -> Tensor:
        levels = plain(number(q, "sig_t"), number(q, "sig_s"))
        predicted = iter([q.x_0_hat, q.x_0_hat_s] if "x_0_hat_s" in q.case.input else [q.x_0_hat])
        model = solver.eps_from_denoiser(lambda y, sigma: next(predicted))
        return solver.SOLVERS[method].sample(model, q.x_ve, levels)

    return ask


def pf_ode(q: Any) -> Tensor:
    model = solver.eps_from_denoiser(lambda y, sigma: q.x_0_hat)
    return model(q.x_ve, torch.ones((), dtype=torch.float64), exact(q, "sigma"))


def condition(name: str) -> Ask:
    return lambda q: getattr(_condition(q), name).to(q.dtype)


def _condition(q: Any) -> solver.Preconditioning:
    # the label of a level does not depend on the data
    known = "sigma_data" in q.case.input
    return solver.precondition(number(q, "sigma"), number(q, "sigma_data") if known else 0.5)


def denoiser(q: Any) -> Tensor:
    network = lambda y, label: q.net  # noqa: E731
    return solver.edm_denoiser(network, q.x_ve, number(q, "sigma"), number(q, "sigma_data"))


def karras(q: Any) -> Tensor:
    ends = number(q, "sigma_L"), number(q, "sigma_1")
    found = solver.karras_levels(*ends, int(q.case.input["rungs"]), number(q, "rho"), to_data=False)
    return found.sigma[int(q.case.input["i"]) - 1].to(q.dtype)


def churn_factor(q: Any) -> Tensor:
    one = torch.ones((), dtype=torch.float64)
    return solver.churn_factor(one, int(q.case.input["rungs"]), number(q, "s_churn")).to(q.dtype)


def churn_step(q: Any) -> Tensor:
    return solver.churned(q.x_ve, exact(q, "sigma"), exact(q, "churn"), q.z, number(q, "s_noise"))


def churn_excess(q: Any) -> Tensor:
    at = exact(q, "sigma"), exact(q, "churn")
    return solver.churned_deviation(*at, number(q, "s_noise")).to(q.dtype)


def pair(q: Any) -> tuple[NoiseLevel, NoiseLevel]:
    levels = plain(number(q, "sig_t"), number(q, "sig_s"))
    return levels[0], levels[1]


def ancestral_part(which: int) -> Ask:
    return lambda q: solver.ancestral_deviations(*pair(q), number(q, "eta"))[which].to(q.dtype)


def ancestral(q: Any) -> Tensor:
    method = solver.AncestralEuler(eta=number(q, "eta"))
    levels = plain(number(q, "sig_t"), number(q, "sig_s"))
    return method.sample(lambda x, scale, std: q.eps, q.x_ve, levels, [q.z])


def rk2(q: Any) -> Tensor:
    tableau = solver.second_order(Fraction(q.case.input["node_2"]))
    slopes = iter((q.slope_1, q.slope_2))
    # the level where the step begins does not enter
    levels = plain(2 + number(q, "gap"), 2)
    return solver.RungeKutta("rk2", 2, tableau).sample(lambda x, scale, std: next(slopes), q.x_ve, levels)


def adams_bashforth(count: int) -> Ask:
    def ask(q: Any) -> Tensor:
        predictions = _predictions(q, count)
        above = [0.0, *(sum(number(q, f"gap_{k}") for k in range(1, n + 1)) for n in range(1, count))]
        bottom = 0.25 + number(q, "gap")
        levels = plain(*(bottom + place for place in above[::-1]))
        # the past is asked for first, the latest state before the earlier ones
        asked = iter([*predictions[1:], predictions[0]])
        past = [(levels[index], q.x_ve) for index in range(count - 1)]
        method = solver.AdamsBashforth("ab", count)
        step = plain(bottom, 0.25)
        return method.sample(lambda x, scale, std: next(asked), q.x_ve, step, past=past)

    return ask


def _predictions(q: Any, count: int) -> list[Tensor]:
    return [q.eps, *(getattr(q, f"eps_{k}") for k in range(1, count))]


SOLVER_SIGMA: dict[str, Ask] = {
    "solver.pf_ode_sigma": pf_ode,
    "solver.euler_sigma": from_denoiser("euler"),
    "solver.edm_heun": from_denoiser("heun"),
    "solver.edm_c_in": condition("c_in"),
    "solver.edm_c_skip": condition("c_skip"),
    "solver.edm_c_out": condition("c_out"),
    "solver.edm_c_noise": condition("c_noise"),
    "solver.edm_loss_weight": lambda q: solver.edm_loss_weight(
        number(q, "sigma"), number(q, "sigma_data")
    ).to(q.dtype),
    "solver.edm_target": lambda q: solver.edm_target(
        q.x_0, q.eps, number(q, "sigma"), number(q, "sigma_data")
    ),
    "solver.edm_denoiser": denoiser,
    "solver.karras_levels": karras,
    "solver.churn_factor": churn_factor,
    "solver.churn_step": churn_step,
    "solver.churn_excess": churn_excess,
    "solver.ancestral_down": ancestral_part(0),
    "solver.ancestral_up": ancestral_part(1),
    "solver.ancestral_step": ancestral,
    "solver.rk2": rk2,
    "solver.ab2": adams_bashforth(2),
    "solver.ab3": adams_bashforth(3),
    "solver.ab4": adams_bashforth(4),
    "solver.plms": lambda q: solver.plms_combination(_predictions(q, 4)),
}
