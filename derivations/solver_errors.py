"""The local errors of DPM-Solver and DPM-Solver++, with their exact leading coefficients.

See ``solver_orders`` for the setting: the model is any smooth function of the state and of λ, of any
dimension; errors are in units of the gain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import sympy as sp
from sympy import Rational

from derivations.kit import Decoy, Identity, Step, formula
from derivations.solver_orders import (
    DATA,
    NOISE,
    Jet,
    exact,
    exact_moments,
    half_moments,
    halved_moments,
    leading,
    model,
    off,
    phi_jet,
    rule,
)
from derivations.symbols import (
    inner_1,
    inner_2,
    past_1,
    past_2,
    path_1,
    path_2,
    path_3,
    state_slope,
    value_t,
)

TWO_THIRDS = Rational(2, 3)


@cache
def first(sign: int, share: sp.Expr = sp.S.One) -> Jet:
    """The error of a step of order 1 over a share of the step."""
    return rule([0], [value_t], [phi_jet(1, sign * share) * share]) - exact(sign, share)


@cache
def singlestep_2(sign: int) -> Jet:
    """The error with one inner level, reached by a step of order 1."""
    values = [value_t, off(inner_1, first(sign, inner_1))]
    return rule([0, inner_1], values, half_moments(sign, phi_jet)) - exact(sign)


@cache
def stage_2(sign: int, place: sp.Expr) -> Jet:
    """The error at a second inner level."""
    values = [value_t, off(inner_1, first(sign, inner_1))]
    moments = [m * place for m in exact_moments(2, sign * place, phi_jet)]
    return rule([0, inner_1 / place], values, moments) - exact(sign, place)


@cache
def singlestep_3(sign: int, place: sp.Expr) -> Jet:
    """The error with two inner levels, of which the last stage uses the second."""
    values = [value_t, off(place, stage_2(sign, place))]
    return rule([0, place], values, exact_moments(2, sign, phi_jet)) - exact(sign)


def multistep(sign: int, places: Sequence[sp.Expr], moments: Sequence[Jet]) -> Jet:
    """The error with exact values of the model at these places."""
    return rule(places, [model(place) for place in places], moments) - exact(sign)


ONE_BEFORE = (sp.S.Zero, -past_1)
TWO_BEFORE = (sp.S.Zero, -past_1, -past_1 - past_2)


def declare(
    name: str,
    title: str,
    error: Callable[[], Jet],
    order: int,
    rhs: sp.Expr,
    decoys: Sequence[Decoy] = (),
    reference: str = "refdiff.solver:Multistep",
    of: str = "",
) -> None:
    """The formula of a local error: rhs·h^(order+1) leads it."""
    found = cache(error)

    def proof(claim: sp.Expr) -> Iterator[Step]:
        yield from leading(found(), order, claim)

    proof.__doc__ = f"""All terms up to h^{order} vanish, so that the method has order {order} where a step
    begins at exact values; the next term is the claim, for any smooth model."""
    formula(
        f"solver.{name}_error",
        title=title,
        lhs=sp.Symbol(f"E_{order + 1}", real=True),
        rhs=rhs,
        citations=("Lu2022:thm3.2", "Hochbruck2010:2.3"),
        reference=reference,
        uses=(f"solver.{of or name}",),
        decoys=decoys,
    )(proof)


SINGLE = "refdiff.solver:Singlestep"
NO_SLOPE = "the model taken for a function of λ alone"
declare("dpm_1", "local error of order 1, for both predictions", lambda: first(NOISE), 1, -path_1 / 2)
declare(
    "dpm_2", "local error of DPM-Solver-2", lambda: singlestep_2(NOISE), 2,
    path_1 / 12 - path_2 / 6 + inner_1 * (path_2 - state_slope * path_1) / 4,
    (Decoy("state-forgotten", path_1 / 12 - path_2 / 6 + inner_1 * path_2 / 4, "discretization", NO_SLOPE),),
    SINGLE,
)  # fmt: skip
declare(
    "dpmpp_2s", "local error of DPM-Solver++(2S)", lambda: singlestep_2(DATA), 2,
    -path_1 / 12 - path_2 / 6 + inner_1 * (path_2 - state_slope * path_1) / 4,
    (Decoy("other-prediction", path_1 / 12 - path_2 / 6 + inner_1 * (path_2 - state_slope * path_1) / 4,
           "sign", "that of the other prediction"),),
    SINGLE,
)  # fmt: skip
declare(
    "dpmpp_2m", "local error of DPM-Solver++(2M)",
    lambda: multistep(DATA, ONE_BEFORE, half_moments(DATA, phi_jet)), 2,
    -path_1 / 12 - path_2 / 6 - past_1 * path_2 / 4,
)  # fmt: skip
declare(
    "dpmpp_2m_heun", "local error of the other type of DPM-Solver++(2M)",
    lambda: multistep(DATA, ONE_BEFORE, exact_moments(2, DATA, phi_jet)), 2,
    -path_2 / 6 - past_1 * path_2 / 4,
)  # fmt: skip
declare(
    "dpm_3", "local error of DPM-Solver-3 with its second inner level at 2/3",
    lambda: singlestep_3(NOISE, TWO_THIRDS), 3,
    (3 * path_2 - path_3 - 8 * state_slope * path_2) / 216
    + inner_1 * (state_slope * path_2 - state_slope**2 * path_1) / 12,
    (Decoy("state-forgotten", (3 * path_2 - path_3) / 216, "discretization", NO_SLOPE),),
    SINGLE,
)  # fmt: skip
declare(
    "dpmpp_3s", "local error of DPM-Solver++(3S) with its second inner level at 2/3",
    lambda: singlestep_3(DATA, TWO_THIRDS), 3,
    -(3 * path_2 + path_3 + 8 * state_slope * path_2) / 216
    + inner_1 * (state_slope * path_2 - state_slope**2 * path_1) / 12,
    (Decoy("other-prediction", (3 * path_2 - path_3 - 8 * state_slope * path_2) / 216
           + inner_1 * (state_slope * path_2 - state_slope**2 * path_1) / 12, "sign",
           "that of the other prediction"),),
    SINGLE,
)  # fmt: skip
declare(
    "dpm_2m", "local error of the two-step method by the predicted noise",
    lambda: multistep(NOISE, ONE_BEFORE, half_moments(NOISE, phi_jet)), 2,
    path_1 / 12 - path_2 / 6 - past_1 * path_2 / 4,
)  # fmt: skip
declare(
    "dpmpp_3m", "local error of DPM-Solver++(3M)",
    lambda: multistep(DATA, TWO_BEFORE, exact_moments(3, DATA, phi_jet)), 3,
    -path_3 * (6 * past_1**2 + 6 * past_1 * past_2 + 8 * past_1 + 4 * past_2 + 3) / 72,
)  # fmt: skip


@formula(
    "solver.halved_3m_error",
    title="the third-order multistep step of common code has order 2",
    lhs=sp.Symbol("E_3", real=True),
    rhs=-path_2 / 12,
    citations=("huggingface/diffusers PR#1132",),
    reference="refdiff.solver:moments",
    uses=("solver.dpmpp_3m_error",),
    decoys=(
        Decoy("none", sp.S.Zero, "discretization", "no error of this order, as for a method of order 3"),
    ),
)  # fmt: skip
def _halved_3m_error(claim: sp.Expr) -> Iterator[Step]:
    """With the second difference where the second derivative belongs, which is twice as large, a term of h³
    remains for either prediction, whatever the steps before."""
    for words, sign in (("noise", NOISE), ("data", DATA)):
        error = multistep(sign, TWO_BEFORE, halved_moments(sign, phi_jet))
        yield from leading(error, 2, claim, f", predicted {words}")


@formula(
    "solver.dpm_3_inner",
    title="order 3 needs the second inner level at two thirds of the step",
    lhs=inner_2,
    rhs=TWO_THIRDS,
    citations=("Lu2022:alg5", "Lu2022:B.4"),
    reference=SINGLE,
    uses=("solver.dpm_3",),
    decoys=(
        Decoy("half", Rational(1, 2), "discretization", "the middle of the step"),
        Decoy("thirds", Rational(1, 3), "index", "the place of the first inner level"),
        Decoy("end", sp.S.One, "discretization", "the end of the step"),
    ),
    mutate=False,  # a number: the decoys are the places that are used
)  # fmt: skip
def _dpm_3_inner(claim: sp.Expr) -> Iterator[Step]:
    """The term of h³ that two exact moments leave is m''·(3r_2 − 2)/12, for both predictions and any first
    inner level: it vanishes at 2/3 alone. A third value, at the first inner level, does not help: that
    level's own error then leaves J·m' with the same factor."""
    factor = 3 * inner_2 - 2
    yield Identity("the place where the factor vanishes", factor.subs(inner_2, claim), sp.Integer(0))
    for words, sign in (("noise", NOISE), ("data", DATA)):
        error = singlestep_3(sign, inner_2)
        yield from leading(error, 2, path_2 * factor / 12, f", predicted {words}")
    values = [value_t, off(inner_1, first(NOISE, inner_1)), off(inner_2, stage_2(NOISE, inner_2))]
    all_three = rule([0, inner_1, inner_2], values, exact_moments(3, NOISE, phi_jet)) - exact(NOISE)
    left = inner_1 * path_1 * state_slope * factor / (12 * (inner_1 - inner_2))
    yield from leading(all_three, 2, left, ", all three values")
