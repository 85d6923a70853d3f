"""Whole runs of a sampler on a law whose perfect noise prediction is known, with given noises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import Any

import sympy as sp
from flint import arb, ctx

from derivations.golden.case import (
    DIGITS,
    FAR,
    Coverage,
    GoldenError,
    Margin,
    case,
    output,
    relative_distance,
    upper,
)
from derivations.golden.formulas import AFFINE, BITS, Variant, condition, parts, values_of
from derivations.golden.grid import level_values, level_weights
from derivations.golden.inputs import named
from derivations.golden.laws import ABAR, Mixture, eps
from derivations.golden.nodes import slope
from derivations.golden.schedules import Named
from derivations.kit.ball import BallError, UndecidedError, Value, certified, enclosure

State = list[arb]


@dataclass(frozen=True)
class Run:
    """A sampler's run: the step with its options, the levels, the law, the start and the noises."""

    id: str
    step: Variant
    flags: tuple[str, ...]
    schedule: Named
    levels: tuple[int, ...]
    law: Mixture
    options: Mapping[str, str]
    start: tuple[Fraction, ...]
    noises: tuple[tuple[Fraction, ...], ...]

    def given(self) -> dict[str, Any]:
        """The JSON of the run; the noise of the last step is there to be left out."""
        return {
            "schedule": self.schedule.given(),
            "levels": list(self.levels),
            "law": self.law.given(),
            "x_T": [str(entry) for entry in self.start],
            "noises": [[str(entry) for entry in noise] for noise in self.noises],
            **self.options,
        }


@dataclass(frozen=True)
class Affine:
    """A step as it is written: an expression that is linear in x_t, eps and z, read at unit vectors."""

    x_t: sp.Expr
    eps: sp.Expr
    z: sp.Expr
    noise_at_the_end: bool = False


@cache
def _steps(variant: Variant) -> dict[str, Affine]:
    """The step and its decoys, by id; the right one has the id ""."""
    found = {"": _affine(variant.closed)}
    found |= {name: _affine(decoy) for name, decoy in variant.decoys.items()}
    return found | {"noise-at-the-end": replace(found[""], noise_at_the_end=True)}


def _affine(expr: sp.Expr) -> Affine:
    states = [symbol for symbol in expr.free_symbols if symbol.name in AFFINE]
    units = ({symbol: sp.Integer(symbol.name == name) for symbol in states} for name in ("x_t", "eps", "z"))
    return Affine(*(expr.xreplace(unit) for unit in units))


def _known(run: Run, t: int, s: int) -> dict[str, Value]:
    options: dict[str, Value] = {key: Fraction(value) for key, value in run.options.items() if key == "eta"}
    return {**level_values(named(run.schedule, t, s)), **options}


def states(run: Run, step: Affine, bits: int) -> list[State]:
    """The states after each step, in balls."""
    found = []
    x = [exact(entry, bits) for entry in run.start]
    for (t, s), noise in zip(pairwise(run.levels), run.noises, strict=True):
        known = _known(run, t, s)
        a, b, c = (enclosure(expr, values_of(expr, known), bits) for expr in (step.x_t, step.eps, step.z))
        e = predict(run, t, x, bits)
        z = [arb(0) if s == 0 and not step.noise_at_the_end else exact(entry, bits) for entry in noise]
        with ctx.workprec(bits):
            x = [a * x_i + b * e_i + c * z_i for x_i, e_i, z_i in zip(x, e, z, strict=True)]
        found.append(x)
    return found


def exact(number: Fraction, bits: int) -> arb:
    """The ball of a fraction."""
    return enclosure(sp.Rational(number.numerator, number.denominator), {}, bits)


def _at(run: Run, t: int, x: State) -> dict[sp.Basic, Value]:
    coordinates: dict[sp.Basic, Value] = {s: _constant(x_i) for s, x_i in zip(run.law.x, x, strict=True)}
    return {ABAR: named(run.schedule, t, 0).value("t"), **coordinates}


def _constant(ball: arb) -> Value:
    return lambda bits: ball


def predict(run: Run, t: int, x: State, bits: int) -> State:
    """The perfect noise prediction at a state."""
    values = _at(run, t, x)
    return [enclosure(expr, values, bits) for expr in eps(run.law)]


def amplification(run: Run, step: Affine) -> Fraction:
    """How many relative roundings an element of a state may hold, by running error analysis.

    Each step passes on the error that it is given through its Jacobian, and adds that of its coefficients
    (through their condition numbers), of the prediction (through its derivatives), and of its three terms.
    """
    with ctx.workprec(BITS):
        xs = [[exact(entry, BITS) for entry in run.start], *states(run, step, BITS)]
        error, worst = [abs(entry) for entry in xs[0]], Fraction(1)
        for k, (t, s) in enumerate(pairwise(run.levels)):
            error = _pass_on(run, step, (t, s), xs[k], run.noises[k], error)
            relative = [upper(e / x) for e, x in zip(error, xs[k + 1], strict=True)]
            worst = max(worst, *relative)
    return worst


def _pass_on(
    run: Run, step: Affine, pair: tuple[int, int], x: State, noise: Sequence[Fraction], error: State
) -> State:
    known, values = _known(run, *pair), _at(run, pair[0], x)
    weights = level_weights(named(run.schedule, *pair))
    terms = (step.x_t, step.eps, step.z)
    (a, da), (b, db), (c, dc) = (_with_condition(expr, known, weights) for expr in terms)
    passed = []
    for i, e_i in enumerate(eps(run.law)):
        slopes = [enclosure(slope(e_i, symbol), values, BITS) for symbol in run.law.x]
        inner = abs(enclosure(ABAR * slope(e_i, ABAR), values, BITS)) * exact(weights["abar_t"], BITS)
        inner += sum((abs(slope * x_j) for slope, x_j in zip(slopes, x, strict=True)), arb(0))
        carried = sum((abs((a if i == j else 0) + b * slopes[j]) * error[j] for j in range(len(x))), arb(0))
        z_i = arb(0) if pair[1] == 0 else exact(noise[i], BITS)
        own = abs(a * x[i]) * da + abs(b * enclosure(e_i, values, BITS)) * db + abs(c * z_i) * dc
        passed.append(carried + own + abs(b) * inner)
    return passed


def _with_condition(
    expr: sp.Expr, known: Mapping[str, Value], weights: Mapping[str, Fraction]
) -> tuple[arb, arb]:
    """A coefficient, and one more than its condition number."""
    value = enclosure(expr, values_of(expr, known), BITS)
    bound = Fraction(0) if value.is_zero() else condition(expr, known, weights) + 1
    return value, arb(bound.numerator) / bound.denominator


def trajectory_case(run: Run, coverage: Coverage) -> dict[str, Any]:
    """The case of a run: every state after x_T."""
    written = _steps(run.step)
    limit = Margin(amplification(run, written[""]), parts(run.step)[0].roundings, _distances(run, written))
    coverage.add(run.step.formula, [limit])
    shape = (len(run.levels) - 1, run.law.dimension)
    try:
        values = [certified(ball, DIGITS) for state in _certain(run, written[""]) for ball in state]
        outputs = [output("x", values, limit, shape)]
    except GoldenError as error:
        raise GoldenError(f"case {run.step.formula}/{run.id}: {error}") from None
    return case(f"{run.step.formula}/{run.id}", run.step.formula, run.flags, run.given(), outputs)


def _distances(run: Run, written: Mapping[str, Affine]) -> dict[str, Fraction | None]:
    right = states(run, written[""], BITS)
    return {name: _distance(run, step, right) for name, step in written.items() if name}


def _distance(run: Run, step: Affine, right: Sequence[State]) -> Fraction | None:
    """The largest relative distance over the states: one state that is off rejects the decoy."""
    try:
        wrong = states(run, step, BITS)
    except BallError:
        return FAR
    with ctx.workprec(BITS):
        pairs = [(a, b) for x, y in zip(right, wrong, strict=True) for a, b in zip(x, y, strict=True)]
        apart = [far for a, b in pairs if (far := relative_distance(a, b)) is not None]
    return max(apart) if apart else None


def _certain(run: Run, step: Affine) -> list[State]:
    """The states at a precision that decides every digit."""
    for bits in (BITS, 2 * BITS, 4 * BITS):
        try:
            found = states(run, step, bits)
            for state in found:
                for ball in state:
                    certified(ball, DIGITS)
            return found
        except UndecidedError:
            continue
    raise GoldenError(f"run {run.id}: {4 * BITS} bits do not decide {DIGITS} digits")
