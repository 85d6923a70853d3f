"""Cases of one formula node: value and coefficients at a point, condition number, distance of each decoy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any, TypeAlias

import sympy as sp
from flint import arb, ctx

from derivations.golden.case import (
    DIGITS,
    FAR,
    Coverage,
    GoldenError,
    Margin,
    case,
    lower,
    output,
    relative_distance,
    round_up,
    upper,
)
from derivations.golden.nodes import node, slope, symbols_of
from derivations.kit.ball import BallError, Value, certify, enclosure, evaluate

BITS = 384
ONCE: Mapping[str, Fraction] = {}
AFFINE = ("x_0", "x_t", "x_s", "x_prev", "eps", "z", "v", "score", "mu")


@dataclass(frozen=True)
class Part:
    """The value of a formula, or the coefficient of one of the symbols in which it is linear.

    A coefficient is the value with 1 for its symbol and 0 for the others; decoys are read in the same way.
    """

    name: str
    expr: sp.Expr
    decoys: Mapping[str, sp.Expr]
    fixed: Mapping[str, Value]

    @property
    def roundings(self) -> int:
        return int(sp.count_ops(self.expr, visual=False))


@dataclass(frozen=True)
class Point:
    """Where a formula is evaluated: values of its symbols by name, and the JSON that describes them."""

    id: str
    flags: tuple[str, ...]
    known: Mapping[str, Value]
    given: Callable[[], Mapping[str, Any]] = dict
    weights: Callable[[], Mapping[str, Fraction]] = dict


Put: TypeAlias = tuple[tuple[str, sp.Expr], ...]


@dataclass(frozen=True)
class Variant:
    """A formula with a choice made (of the variance, for instance), and the wrong choices as decoys."""

    formula: str
    put: Put = ()
    wrong: tuple[tuple[str, Put], ...] = ()

    @property
    def closed(self) -> sp.Expr:
        """The right side with the choice made."""
        return written_out(node(self.formula).closed, self.put)

    @property
    def decoys(self) -> dict[str, sp.Expr]:
        """The decoys of the formula with the same choice, and the formula with each wrong choice."""
        formula = node(self.formula)
        found = {decoy.id: written_out(decoy.closed, self.put) for decoy in formula.decoys}
        return found | {name: written_out(formula.closed, put) for name, put in self.wrong}


def written_out(expr: sp.Expr, put: Put) -> sp.Expr:
    """The expression with symbols replaced by name."""
    table = dict(put)
    return expr.xreplace({symbol: table[symbol.name] for symbol in expr.free_symbols if symbol.name in table})


def chosen(id: str, kind: str) -> Variant:
    """A formula in sigma_t with its square chosen, "beta" or "beta_tilde"; the other choice is a decoy."""
    other = "beta" if kind == "beta_tilde" else "beta_tilde"
    skip = id.startswith("ddpm.skip")
    return Variant(id, _deviation(kind, skip), ((f"variance-{other}", _deviation(other, skip)),))


def _deviation(kind: str, skip: bool) -> Put:
    """The standard deviation of the step, for one step or between two levels."""
    tilde = node("ddpm.skip_posterior_variance" if skip else "ddpm.posterior_variance").closed
    beta = node("schedule.respaced_beta" if skip else "ddpm.fixed_large_variance").closed
    return (("sigma_t", sp.sqrt(tilde if kind == "beta_tilde" else beta)),)


@cache
def parts(variant: Variant) -> tuple[Part, ...]:
    """The value of a formula and, where it is linear in data, noise and so on, each coefficient."""
    closed, decoys = variant.closed, variant.decoys
    linear = [symbol for symbol in symbols_of(closed) if symbol.name in AFFINE]
    found = [Part("value", closed, decoys, {})]
    if linear and _is_linear(closed, linear):
        found += [_coefficient(closed, symbol, linear, decoys) for symbol in linear]
    return tuple(found)


def _is_linear(expr: sp.Expr, symbols: Sequence[sp.Symbol]) -> bool:
    slopes = [expr.diff(symbol) for symbol in symbols]
    at_zero = expr.xreplace(dict.fromkeys(symbols, sp.S.Zero))
    return at_zero == 0 and not any(slope.free_symbols & set(symbols) for slope in slopes)


def _coefficient(
    expr: sp.Expr, symbol: sp.Symbol, linear: Sequence[sp.Symbol], decoys: Mapping[str, sp.Expr]
) -> Part:
    unit = {other: sp.S.One if other == symbol else sp.S.Zero for other in linear}
    fixed: dict[str, Value] = {name: int(name == symbol.name) for name in AFFINE}
    return Part(symbol.name, expr.xreplace(unit), decoys, fixed)


def values_of(expr: sp.Expr, known: Mapping[str, Value]) -> dict[sp.Basic, Value]:
    """A value for each symbol of an expression, by name."""
    free = symbols_of(expr)
    missing = [symbol.name for symbol in free if symbol.name not in known]
    if missing:
        raise GoldenError(f"no value for {', '.join(missing)} in {expr}")
    return {symbol: known[symbol.name] for symbol in free}


def condition(expr: sp.Expr, known: Mapping[str, Value], weights: Mapping[str, Fraction] = ONCE) -> Fraction:
    r"""Bound from above of the sum of \|d log f / d log v\| over the inputs that rounding can touch.

    An input holds one rounding, or as many as its weight says. One that is exactly 0 or 1 (no noise, the data
    level) or an integer holds none.
    """
    values = values_of(expr, known)
    constant = {s: sp.Integer(v) for s, v in values.items() if isinstance(v, int | Fraction) and v in (0, 1)}
    expr = expr.xreplace(constant)
    perturbed = [s for s in symbols_of(expr) if not isinstance(values[s], int)]
    with ctx.workprec(BITS):
        size = lower(evaluate(expr, values))
        total = Fraction(0)
        for symbol in perturbed:
            weighed = enclosure(symbol * slope(expr, symbol), values, BITS)
            total += upper(weighed) * weights.get(symbol.name, Fraction(1))
        return round_up(total / size, 6)


def distance(expr: sp.Expr, value: arb, known: Mapping[str, Value]) -> Fraction | None:
    """Relative distance of a decoy's value from the formula's; None where they agree."""
    try:
        return relative_distance(value, enclosure(expr, values_of(expr, known), BITS))
    except BallError:
        return FAR


def margin(part: Part, known: Mapping[str, Value], weights: Mapping[str, Fraction] = ONCE) -> Margin:
    """What limits the tolerance of a part of a formula at a point."""
    with ctx.workprec(BITS):
        value = evaluate(part.expr, values_of(part.expr, known))
        there = {**known, **part.fixed}
        far = {name: distance(decoy, value, there) for name, decoy in part.decoys.items()}
        bound = Fraction(1) if value.is_zero() else condition(part.expr, known, weights)
    return Margin(bound, part.roundings, far)


def formula_case(variant: Variant, point: Point, coverage: Coverage) -> dict[str, Any]:
    """The case of a formula at a point, with one output for each part."""
    name = f"{variant.formula}/{point.id}"
    try:
        limits = [margin(part, point.known, point.weights()) for part in parts(variant)]
        outputs = [_output(part, limit, point) for part, limit in zip(parts(variant), limits, strict=True)]
    except (BallError, GoldenError) as error:
        raise GoldenError(f"case {name}: {error}") from None
    coverage.add(variant.formula, limits)
    return case(name, variant.formula, point.flags, _given(variant, point), outputs)


def _output(part: Part, limit: Margin, point: Point) -> dict[str, Any]:
    return output(part.name, [certify(part.expr, values_of(part.expr, point.known), DIGITS)], limit)


def _given(variant: Variant, point: Point) -> dict[str, Any]:
    """The JSON of the point, with every exact value that the formula takes."""
    names = {symbol.name for symbol in symbols_of(variant.closed)}
    exact = {k: str(v) for k, v in point.known.items() if k in names and isinstance(v, int | Fraction)}
    return {**exact, **point.given()}


def formula_cases(variant: Variant, points: Sequence[Point], coverage: Coverage) -> Iterator[dict[str, Any]]:
    """The cases of a formula over a grid."""
    for point in points:
        yield formula_case(variant, point, coverage)
