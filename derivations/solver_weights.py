"""The functions of exponential integrators, and the weights that solve the order conditions.

A power τⁿ/n! of the time since the step began adds ∫₀ʰ exp(z(1 − τ/h))·τⁿ/n! dτ = hⁿ⁺¹·φ_{n+1}(z) to a step.
Weights of values at places c_j·h must therefore have the moments Σ w_j·c_jⁿ = n!·φ_{n+1}(z). These are p
linear equations for p weights, with one solution where the places differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sympy as sp

from derivations.kit import Decoy, Identity, Series, Step, Substitution, formula
from derivations.solver_orders import TERMS, phi, phi_series, solved_weights
from derivations.symbols import (
    exponent,
    moment_0,
    moment_1,
    moment_2,
    place_1,
    place_2,
    value_1,
    value_2,
    value_t,
)

F = sp.Function("F", real=True)
ALL = (value_t, value_1, value_2)
Z = exponent


def _phi_steps(k: int, claim: sp.Expr) -> Iterator[Step]:
    """Up to the power z^k it is the integral of exp(z − u)·u^(k−1)/(k−1)! over u from 0 to z: it solves
    F' = F + z^(k−1)/(k−1)! and vanishes at 0. The Taylor polynomial follows, and with it the value at 0."""
    whole = sp.expand(claim * Z**k)
    equation = sp.diff(F(Z), Z) - F(Z) - Z ** (k - 1) / sp.factorial(k - 1)
    yield Substitution("the integral solves its equation", equation, {F(Z): whole})
    yield Identity("and vanishes at 0", whole.subs(Z, 0), sp.Integer(0))
    polynomial = sp.expand(Z**k * phi_series(k, Z))
    yield Series("its Taylor polynomial", whole, Z, TERMS + k, polynomial)


def _phi_decoys(k: int) -> tuple[Decoy, ...]:
    found = [
        Decoy("argument-negated", phi(k, -Z), "sign", "−z: the function of the other prediction"),
        Decoy("next", phi(k + 1, Z), "discretization", "the next of the functions"),
        Decoy("not-divided", phi(k, Z) * Z, "discretization", "one division by z is missing"),
    ]
    if k > 1:
        wrong = (phi(k - 1, Z) - 1 / sp.factorial(k)) / Z
        found.append(Decoy("factorial", wrong, "index", "the recurrence with k! for (k−1)!"))
    return tuple(found)


def _declare_phi(k: int) -> None:
    def proof(claim: sp.Expr) -> Iterator[Step]:
        return _phi_steps(k, claim)

    proof.__doc__ = _phi_steps.__doc__
    formula(
        f"solver.phi_{k}",
        title=f"function {k} of exponential integrators",
        lhs=sp.Function(f"varphi_{k}")(Z),
        rhs=phi(k, Z),
        citations=("Hochbruck2010:2.10", "Lu2022:B.1"),
        reference="refdiff.solver:phi",
        uses=(f"solver.phi_{k - 1}",) if k > 1 else (),
        decoys=_phi_decoys(k),
    )(proof)


for _k in (1, 2, 3, 4):
    _declare_phi(_k)

SLOPE_1 = (value_1 - value_t) / place_1
SLOPE_2 = (value_2 - value_t) / place_2
BEND = (SLOPE_2 - SLOPE_1) / (place_2 - place_1)
TWO = moment_0 * value_t + moment_1 * SLOPE_1
THREE = TWO + (moment_2 - place_1 * moment_1) * BEND


def moment_steps(claim: sp.Expr, places: Sequence[sp.Expr], moments: Sequence[sp.Expr]) -> Iterator[Step]:
    """The claim is linear in the values, has the moments, and is what solving for the weights gives."""
    values = ALL[: len(places)]
    for n, moment in enumerate(moments):
        powers = {v: sp.S.One if n == 0 else p**n for v, p in zip(values, places, strict=True)}
        yield Identity(f"the moment of degree {n}", claim.subs(powers, simultaneous=True), moment)
    solved = solved_weights(places, moments)
    rule = sum(w * v for w, v in zip(solved, values, strict=True))
    yield Identity("the solution of the conditions", claim, rule)


@formula(
    "solver.weights_two",
    title="the rule with two values of the model",
    lhs=sp.Symbol("Q", real=True),
    rhs=TWO,
    citations=("Zhao2023:thm3.1",),
    reference="refdiff.solver:weights",
    uses=("solver.phi_1", "solver.phi_2"),
    decoys=(
        Decoy("difference-not-divided", moment_0 * value_t + moment_1 * (value_1 - value_t), "discretization",
              "the difference not divided by the place: the ratio of steps is forgotten"),
        Decoy("ratio-inverted", moment_0 * value_t + moment_1 * (value_1 - value_t) * place_1,
              "discretization", "the ratio of the steps upside down"),
        Decoy("difference-negated", moment_0 * value_t - moment_1 * SLOPE_1, "sign",
              "the older value minus the newer, with the sign of the newer minus the older"),
        Decoy("values-swapped", moment_0 * value_1 + moment_1 * (value_t - value_1) / place_1, "index",
              "the two values exchanged"),
    ),
)  # fmt: skip
def _weights_two(claim: sp.Expr) -> Iterator[Step]:
    """The line through two values, integrated. The first value is where the step begins, so c_0 = 0."""
    yield from moment_steps(claim, (sp.S.Zero, place_1), (moment_0, moment_1))


@formula(
    "solver.weights_three",
    title="the rule with three values of the model",
    lhs=sp.Symbol("Q", real=True),
    rhs=THREE,
    citations=("Zhao2023:thm3.1",),
    reference="refdiff.solver:weights",
    uses=("solver.weights_two", "solver.phi_3"),
    decoys=(
        Decoy("slope-not-at-begin", TWO + moment_2 * BEND, "discretization",
              "the slope between the two last values taken for that where the step begins"),
        Decoy("second-difference-halved", TWO + (moment_2 / 2 - place_1 * moment_1) * BEND, "discretization",
              "the factorial of the second moment is missing"),
        Decoy("differences-swapped", moment_0 * value_t + moment_1 * SLOPE_2
              + (moment_2 - place_1 * moment_1) * BEND, "index", "the first differences exchanged"),
        Decoy("bend-over-sum", TWO + (moment_2 - place_1 * moment_1) * (SLOPE_2 - SLOPE_1)
              / (place_2 + place_1), "sign", "the sum of the places where their difference belongs"),
    ),
)  # fmt: skip
def _weights_three(claim: sp.Expr) -> Iterator[Step]:
    """The parabola through three values, integrated."""
    yield from moment_steps(claim, (sp.S.Zero, place_1, place_2), (moment_0, moment_1, moment_2))
