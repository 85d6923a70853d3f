"""UniPC: predictor and corrector on the same nodes.

UniPC scales differences of the model by a function B(h) and solves for their weights. With three nodes and
more the weights meet the order conditions exactly, and B drops out. With two nodes a weight of one half is
kept, and the method is one of a family: B(z) = z·(1 + β·z + …), where β = 0 is B_1 = z and β = ½ is
B_2 = exp(z) − 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sympy as sp
from sympy import Rational

from derivations.kit import Decoy, Identity, Step, formula
from derivations.solver_errors import ONE_BEFORE, TWO_BEFORE, declare, first, multistep
from derivations.solver_exponential import (
    BEND_DOWN,
    BEND_UP,
    DOWN,
    DPMPP_2M,
    DPMPP_3M,
    UP,
    step_of,
)
from derivations.solver_orders import (
    DATA,
    Jet,
    exact,
    exact_moments,
    half_moments,
    model,
    off,
    phi,
    phi_jet,
    quadrature,
    rule,
    unit_moments,
)
from derivations.symbols import (
    bh_slope,
    past_1,
    past_2,
    path_1,
    path_2,
    path_3,
    path_4,
    scale_s,
    state_slope,
    std_s,
    std_t,
    value_1,
    value_2,
    value_s,
    value_t,
    x_s,
    x_t,
)
from derivations.symbols import lambda_step as h

UNIPC = "refdiff.solver:UniPC"
LINEAR = std_s / std_t * x_t
SLOPE = (value_t - value_1) / past_1
B_1, B_2 = h, DOWN
"""−B(−h), which is positive."""
UNIP_2 = LINEAR + scale_s * (DOWN * value_t + B_1 / 2 * SLOPE)


@formula(
    "solver.unip_2",
    title="UniP-2 with B_1, by the predicted data",
    lhs=x_s,
    rhs=UNIP_2,
    citations=("Zhao2023:8", "Zhao2023:thm3.1"),
    reference=UNIPC,
    uses=("solver.dpmpp_1", "solver.weights_two"),
    decoys=(
        Decoy("half-missing", LINEAR + scale_s * (DOWN * value_t + B_1 * SLOPE), "discretization",
              "the weight ½ is missing"),
        Decoy("ratio-inverted", LINEAR + scale_s * (DOWN * value_t + B_1 / 2 * SLOPE * past_1**2),
              "discretization", "the ratio of the steps upside down"),
        Decoy("sign-of-h", LINEAR + scale_s * (DOWN * value_t - B_1 / 2 * SLOPE), "sign",
              "B taken at h where the predicted data need −h"),
        Decoy("other-b", DPMPP_2M, "parameterization", "B_2 for B_1"),
        Decoy("other-prediction", LINEAR + scale_s * (UP * value_t + B_1 / 2 * SLOPE), "sign",
              "exp(h) − 1 where 1 − exp(−h) belongs"),
    ),
)  # fmt: skip
def _unip_2(claim: sp.Expr) -> Iterator[Step]:
    """Exact for constants; the place gets the moment B/(2z), here ½."""
    found = quadrature([0, -past_1], [value_t, value_1], unit_moments(-h, phi))
    yield Identity("the exact part and two values", claim, step_of(DATA, found))


@formula(
    "solver.unip_2_is_dpmpp_2m",
    title="UniP-2 with B_2 is DPM-Solver++(2M)",
    lhs=x_s,
    rhs=LINEAR + scale_s * (DOWN * value_t + B_2 / 2 * SLOPE),
    citations=("Zhao2023:§3.4",),
    reference=UNIPC,
    uses=("solver.unip_2", "solver.dpmpp_2m"),
    decoys=(
        Decoy("other-b", UNIP_2, "parameterization", "B_1 for B_2"),
        Decoy("exact-moment", LINEAR + scale_s * (DOWN * value_t + BEND_DOWN * SLOPE), "discretization",
              "the other type of DPM-Solver++(2M)"),
    ),
)  # fmt: skip
def _unip_2_is_dpmpp_2m(claim: sp.Expr) -> Iterator[Step]:
    """The moment of the place is half that of constants in both."""
    found = quadrature([0, -past_1], [value_t, value_1], half_moments(-h, phi))
    yield Identity("the exact part and two values", claim, step_of(DATA, found))
    yield Identity("DPM-Solver++(2M)", claim, DPMPP_2M)


PLACES = (-past_1, -past_1 - past_2)
DIFFERENCES = [(v - value_t) / c for v, c in zip((value_1, value_2), PLACES, strict=True)]


def scaled_weights(b: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """UniPC's weights of two differences: R·a = φ/B solved by hand."""
    first_, second = BEND_DOWN / b, (1 - 2 * BEND_DOWN / h) / b
    low, high = PLACES
    return (first_ * high - second) / (high - low), (second - first_ * low) / (high - low)


UNIP_3 = LINEAR + scale_s * (
    DOWN * value_t + B_2 * sum(w * d for w, d in zip(scaled_weights(B_2), DIFFERENCES, strict=True))
)


@formula(
    "solver.unip_3_is_dpmpp_3m",
    title="UniP-3 is DPM-Solver++(3M), whatever B",
    lhs=x_s,
    rhs=UNIP_3,
    citations=("Zhao2023:thm3.1",),
    reference=UNIPC,
    uses=("solver.dpmpp_3m", "solver.weights_three"),
    decoys=(
        Decoy("factorial-missing", LINEAR + scale_s * (DOWN * value_t + sum(
              w * d for w, d in zip((
                  (BEND_DOWN * PLACES[1] - (1 - 2 * BEND_DOWN / h) / 2) / (PLACES[1] - PLACES[0]),
                  ((1 - 2 * BEND_DOWN / h) / 2 - BEND_DOWN * PLACES[0]) / (PLACES[1] - PLACES[0]),
              ), DIFFERENCES, strict=True))), "discretization", "φ_3 without its factorial"),
        Decoy("mixed-b", LINEAR + scale_s * (DOWN * value_t + B_2 * sum(
              w * d for w, d in zip(scaled_weights(B_1), DIFFERENCES, strict=True))), "parameterization",
              "solved with B_1 and scaled with B_2", "wl-zhao/UniPC #10"),
        Decoy("weights-exchanged", LINEAR + scale_s * (DOWN * value_t + B_2 * sum(
              w * d for w, d in zip(scaled_weights(B_2)[::-1], DIFFERENCES, strict=True))), "index",
              "the weights of the two differences exchanged"),
    ),
)  # fmt: skip
def _unip_3_is_dpmpp_3m(claim: sp.Expr) -> Iterator[Step]:
    """Dividing by B and multiplying with it again leaves the exact moments, which have one solution."""
    values = [value_t, value_1, value_2]
    found = quadrature([0, *PLACES], values, exact_moments(3, -h, phi))
    yield Identity("the exact part and three values", claim, step_of(DATA, found))
    yield Identity("DPM-Solver++(3M)", claim, DPMPP_3M)
    scaled = sum(w * d for w, d in zip(scaled_weights(B_1), DIFFERENCES, strict=True))
    yield Identity("with B_1", claim, LINEAR + scale_s * (DOWN * value_t + B_1 * scaled))


UNIC_1 = LINEAR + scale_s * DOWN * (value_t + value_s) / 2


@formula(
    "solver.unic_1",
    title="UniC-1 with B_2: the corrector after a step of order 1",
    lhs=x_s,
    rhs=UNIC_1,
    citations=("Zhao2023:9", "Zhao2023:alg1"),
    reference=UNIPC,
    uses=("solver.dpmpp_1", "solver.weights_two"),
    decoys=(
        Decoy("predictor", LINEAR + scale_s * DOWN * value_t, "discretization", "no corrector"),
        Decoy("end-only", LINEAR + scale_s * DOWN * value_s, "discretization",
              "only the value where the step ends"),
        Decoy("exact-moment", LINEAR + scale_s * (DOWN * value_t + BEND_DOWN * (value_s - value_t)),
              "discretization", "the exact moment, which serves as well but is another method"),
        Decoy("difference-negated", LINEAR + scale_s * DOWN * (value_t - (value_s - value_t) / 2), "sign",
              "the difference negated"),
    ),
)  # fmt: skip
def _unic_1(claim: sp.Expr) -> Iterator[Step]:
    """The rule with the place 1, where the step ends: the trapezium."""
    found = quadrature([0, 1], [value_t, value_s], half_moments(-h, phi))
    yield Identity("the exact part and two values", claim, step_of(DATA, found))


UNIC_2 = LINEAR + scale_s * (
    DOWN * value_t
    + (past_1 * BEND_DOWN + 1 - 2 * BEND_DOWN / h) / (1 + past_1) * (value_s - value_t)
    + (BEND_DOWN - 1 + 2 * BEND_DOWN / h) / (1 + past_1) * SLOPE
)


@formula(
    "solver.unic_2",
    title="UniC-2: the corrector with one value before the step and one at its end",
    lhs=x_s,
    rhs=UNIC_2,
    citations=("Zhao2023:9", "Zhao2023:thm3.1"),
    reference=UNIPC,
    uses=("solver.unic_1", "solver.weights_three"),
    decoys=(
        Decoy("past-forgotten", LINEAR + scale_s * DOWN * (value_t + value_s) / 2, "discretization",
              "UniC-1"),
        Decoy("past-sign", UNIC_2 - 2 * scale_s * (BEND_DOWN - 1 + 2 * BEND_DOWN / h) / (1 + past_1) * SLOPE,
              "sign", "the place of the past value with the wrong sign"),
        Decoy("factorial-missing", LINEAR + scale_s * (
              DOWN * value_t
              + (past_1 * BEND_DOWN + Rational(1, 2) - BEND_DOWN / h) / (1 + past_1) * (value_s - value_t)
              + (BEND_DOWN - Rational(1, 2) + BEND_DOWN / h) / (1 + past_1) * SLOPE), "discretization",
              "φ_3 without its factorial"),
        Decoy("other-prediction", LINEAR + scale_s * (
              UP * value_t + (past_1 * BEND_UP - 1 + 2 * BEND_UP / h) / (1 + past_1) * (value_s - value_t)
              + (BEND_UP + 1 - 2 * BEND_UP / h) / (1 + past_1) * SLOPE), "sign", "h for −h"),
    ),
)  # fmt: skip
def _unic_2(claim: sp.Expr) -> Iterator[Step]:
    """The parabola through the value before, the value at the beginning and the value at the predicted
    state."""
    values = [value_t, value_1, value_s]
    found = quadrature([0, -past_1, 1], values, exact_moments(3, -h, phi))
    yield Identity("the exact part and three values", claim, step_of(DATA, found))


def b_moments(sign: int) -> list[Jet]:
    """Exact for constants; B(z)/(2z) = (1 + β·z + …)/2 for the place."""
    return [phi_jet(1, sp.Integer(sign)), Jet.of(Rational(1, 2), bh_slope * sign / 2)]


def corrected(places: Sequence[sp.Expr], moments: Sequence[Jet], predictor: Jet) -> Jet:
    """The error of the corrector, whose last value is at the predicted state."""
    values = [*map(model, places), off(sp.S.One, predictor)]
    return rule([*places, sp.S.One], values, moments) - exact(DATA)


ANY_B = "with any B"
UNIP_2_ERROR = path_1 / 6 - bh_slope * path_1 / 2 - path_2 / 6 - past_1 * path_2 / 4
UNIP_3_PART = 6 * past_1**2 + 6 * past_1 * past_2 + 8 * past_1 + 4 * past_2 + 3


def unip_2_error() -> Jet:
    """The error of UniP-2."""
    return multistep(DATA, ONE_BEFORE, b_moments(DATA))


def unip_3_error() -> Jet:
    """The error of UniP-3."""
    return multistep(DATA, TWO_BEFORE, exact_moments(3, DATA, phi_jet))


declare("unip_2", f"local error of UniP-2 {ANY_B}", unip_2_error, 2, UNIP_2_ERROR, reference=UNIPC)
declare(
    "unic_1", f"local error of UniC-1 after a step of order 1, {ANY_B}",
    lambda: corrected([sp.S.Zero], b_moments(DATA), first(DATA)), 2,
    path_1 / 6 - bh_slope * path_1 / 2 + path_2 / 12 - state_slope * path_1 / 4,
    reference=UNIPC,
)  # fmt: skip
declare(
    "unic_2", f"local error of UniC-2 after UniP-2 {ANY_B}",
    lambda: corrected(ONE_BEFORE, exact_moments(3, DATA, phi_jet), unip_2_error()), 3,
    (2 * past_1 + 1) * path_3 / 72 + state_slope * (3 * past_1 + 2) / (6 * (1 + past_1)) * UNIP_2_ERROR,
    (Decoy("no-predictor", (2 * past_1 + 1) * path_3 / 72, "discretization",
           "the value at the predicted state taken for exact"),),
    UNIPC,
)  # fmt: skip
declare(
    "unic_3", "local error of UniC-3 after UniP-3: order 4",
    lambda: corrected(TWO_BEFORE, exact_moments(4, DATA, phi_jet), unip_3_error()), 4,
    (3 + 5 * (2 * past_1 + past_2) + 10 * past_1 * (past_1 + past_2)) * path_4 / 1440
    - state_slope * path_3 * UNIP_3_PART**2 / (864 * (1 + past_1) * (1 + past_1 + past_2)),
    (Decoy("no-predictor", (3 + 5 * (2 * past_1 + past_2) + 10 * past_1 * (past_1 + past_2)) * path_4 / 1440,
           "discretization", "the value at the predicted state taken for exact"),),
    UNIPC,
    "unic_2",
)  # fmt: skip
