"""DPM-Solver++(3S), and the two-step method by the predicted noise.

They are the rules of ``solver_exponential`` with the other prediction.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import exp

from derivations.kit import Decoy, Identity, Step, formula
from derivations.solver_exponential import BEND_DOWN, BEND_UP, DOWN, UP, step_of
from derivations.solver_orders import DATA, NOISE, exact_moments, half_moments, phi, quadrature
from derivations.symbols import (
    inner_1,
    inner_2,
    past_1,
    scale_s,
    scale_t,
    std_s,
    std_t,
    value_1,
    value_2,
    value_t,
    x_s,
    x_t,
)
from derivations.symbols import lambda_step as h

SHORT = 1 - exp(-inner_2 * h)
KEPT = std_s / std_t * x_t


def data_stage(fraction: sp.Expr) -> sp.Expr:
    """The second stage with this function of the first difference."""
    return KEPT + scale_s * (SHORT * value_t + inner_2 / inner_1 * fraction * (value_1 - value_t))


@formula(
    "solver.dpmpp_3s_stage",
    title="the second stage of DPM-Solver++(3S); a_s and b_s belong to its level",
    lhs=x_s,
    rhs=data_stage(1 - SHORT / (inner_2 * h)),
    citations=("Lu2022pp:§4.1",),
    reference="refdiff.solver:Singlestep",
    uses=("solver.dpmpp_1", "solver.weights_two", "solver.phi_2"),
    decoys=(
        Decoy("whole-step", data_stage(BEND_DOWN), "index", "φ_2 of the whole step"),
        Decoy("phi-not-divided", data_stage(1 - SHORT / h), "discretization", "h where r_2h belongs in φ_2"),
        Decoy("sign", data_stage(SHORT / (inner_2 * h) - 1), "sign", "the sign of the other prediction"),
        Decoy("other-prediction", KEPT + scale_s * ((exp(inner_2 * h) - 1) * value_t + inner_2 / inner_1
              * ((exp(inner_2 * h) - 1) / (inner_2 * h) - 1) * (value_1 - value_t)), "sign", "h for −h"),
    ),
)  # fmt: skip
def _dpmpp_3s_stage(claim: sp.Expr) -> Iterator[Step]:
    """A step of its own, r_2·h long, with a value at r_1/r_2 of it; both moments are exact."""
    places, moments = [0, inner_1 / inner_2], exact_moments(2, -inner_2 * h, phi)
    rule = quadrature(places, [value_t, value_1], moments, inner_2 * h)
    yield Identity("the exact part and two values", claim, step_of(DATA, rule))


DPMPP_3S = KEPT + scale_s * (DOWN * value_t + BEND_DOWN / inner_2 * (value_2 - value_t))


@formula(
    "solver.dpmpp_3s",
    title="DPM-Solver++(3S): the values where the step begins and at its second inner level",
    lhs=x_s,
    rhs=DPMPP_3S,
    citations=("Lu2022pp:§4.1",),
    reference="refdiff.solver:Singlestep",
    uses=("solver.dpmpp_3s_stage",),
    decoys=(
        Decoy("first-inner", DPMPP_3S.subs(value_2, value_1), "index", "the value of the first inner level"),
        Decoy("sign", KEPT + scale_s * (DOWN * value_t - BEND_DOWN / inner_2 * (value_2 - value_t)), "sign",
              "the second term negated"),
        Decoy("other-prediction", KEPT + scale_s * (UP * value_t + BEND_UP / inner_2 * (value_2 - value_t)),
              "sign", "h for −h"),
        Decoy("order-two", KEPT + scale_s * DOWN * (value_t + (value_2 - value_t) / (2 * inner_2)),
              "discretization", "the rule of order 2"),
    ),
)  # fmt: skip
def _dpmpp_3s(claim: sp.Expr) -> Iterator[Step]:
    """Two values with both moments exact; the place of the second makes it a method of order 3."""
    rule = quadrature([0, inner_2], [value_t, value_2], exact_moments(2, -h, phi))
    yield Identity("the exact part and two values", claim, step_of(DATA, rule))


DPM_2M = scale_s / scale_t * x_t - std_s * UP * ((1 + 1 / (2 * past_1)) * value_t - value_1 / (2 * past_1))


@formula(
    "solver.dpm_2m",
    title="the two-step method by the predicted noise",
    lhs=x_s,
    rhs=DPM_2M,
    citations=("Lu2022pp:§4.3",),
    reference="refdiff.solver:Multistep",
    uses=("solver.dpm_1", "solver.weights_two"),
    decoys=(
        Decoy("ratio-inverted", scale_s / scale_t * x_t - std_s * UP
              * ((1 + past_1 / 2) * value_t - past_1 * value_1 / 2), "discretization",
              "the ratio of the steps upside down"),
        Decoy("values-exchanged", DPM_2M.subs({value_t: value_1, value_1: value_t}, simultaneous=True),
              "index", "the older value taken for the newer"),
        Decoy("step-negated", scale_s / scale_t * x_t - std_s * (exp(-h) - 1)
              * ((1 + 1 / (2 * past_1)) * value_t - value_1 / (2 * past_1)), "sign", "−h for h"),
        Decoy("uniform", DPM_2M.subs(past_1, 1), "discretization", "steps taken for equally long"),
    ),
)  # fmt: skip
def _dpm_2m(claim: sp.Expr) -> Iterator[Step]:
    """The rule of DPM-Solver++(2M) with h for −h."""
    rule = quadrature([0, -past_1], [value_t, value_1], half_moments(h, phi))
    yield Identity("the exact part and two values", claim, step_of(NOISE, rule))
