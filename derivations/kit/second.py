"""The second prover: FLINT polynomials for identities, z3 for signs, and 50-digit balls at random points.

It shares with the first prover the rewriting into generators and nothing after it: fractions of FLINT
polynomials are never cancelled, and a sign is decided by z3's real arithmetic on the constraints
themselves. The numeric cross-check shares nothing: it evaluates both sides as they were written.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flint
import sympy as sp

from derivations.kit.ball import BallError, enclosure
from derivations.kit.generators import Generators, NotRepresentableError, rational_image
from derivations.kit.positive import facts
from derivations.kit.steps import NotCovered, Obligation, Positive, Zero
from derivations.kit.verdict import Verdict
from derivations.kit.zero import close, exact, points, without_functions
from derivations.symbols import MEANINGS

Z3_MILLISECONDS = 4000
CROSS_CHECK_POINTS = 5
DIGITS = 50
BITS = 320


@dataclass(frozen=True)
class SecondOpinion:
    """What a prover other than the first says of one obligation."""

    prover: str
    verdict: Verdict


def second_opinions(obligation: Obligation, assumptions: Sequence[sp.Basic] = ()) -> list[SecondOpinion]:
    """Every other prover that covers the obligation."""
    if isinstance(obligation, NotCovered):
        return []
    if isinstance(obligation, Positive):
        return [SecondOpinion("z3", z3_positive(obligation, assumptions))] if has_z3() else []
    opinions = [SecondOpinion("balls", cross_check(obligation, assumptions))]
    flint_verdict = flint_zero(obligation)
    return [SecondOpinion("flint", flint_verdict), *opinions] if flint_verdict else opinions


def has_z3() -> bool:
    return importlib.util.find_spec("z3") is not None


def flint_zero(obligation: Zero) -> Verdict | None:
    """The identity cross-multiplied in FLINT polynomials, nothing cancelled."""
    generators = Generators()
    try:
        image = rational_image(close(obligation.lhs) - close(obligation.rhs), generators)
    except NotRepresentableError:
        return None
    names = sorted(image.free_symbols | _relation_symbols(generators), key=lambda symbol: symbol.name)
    context = flint.fmpq_mpoly_ctx.get([f"v{k}" for k in range(max(1, len(names)))], "lex")
    table = dict(zip(names, context.gens(), strict=False))
    numerator, _ = _fraction(image, table, context)
    for root, order, radicand in reversed(generators.relations):
        above, below = _fraction(radicand, table, context)
        numerator = _reduce(numerator, context, names.index(root), order, above, below)
    if numerator == 0:
        return Verdict("proved", "zero as a FLINT polynomial")
    return Verdict("undecided", "non-zero FLINT polynomial modulo the relations")


def _relation_symbols(generators: Generators) -> set[sp.Symbol]:
    return {symbol for root, _, radicand in generators.relations for symbol in {root, *radicand.free_symbols}}


def _fraction(expr: sp.Expr, table: dict[sp.Symbol, Any], context: Any) -> tuple[Any, Any]:
    """Numerator and denominator as polynomials, by walking the expression."""
    one = context.constant(1)
    if expr.is_Rational:
        return context.constant(flint.fmpq(int(expr.p), int(expr.q))), one
    if expr.is_Symbol:
        return table[expr], one
    parts = [_fraction(arg, table, context) for arg in expr.args]
    if isinstance(expr, sp.Pow):
        exponent, (above, below) = int(expr.args[1]), parts[0]
        return (above**exponent, below**exponent) if exponent >= 0 else (below**-exponent, above**-exponent)
    above, below = parts[0]
    for next_above, next_below in parts[1:]:
        if isinstance(expr, sp.Mul):
            above, below = above * next_above, below * next_below
        else:
            above, below = above * next_below + next_above * below, below * next_below
    return above, below


def _reduce(poly: Any, context: Any, index: int, order: int, above: Any, below: Any) -> Any:
    """Replace root**order by above/below, clearing the denominator with one common power."""
    terms = [(exponents, coefficient) for exponents, coefficient in poly.to_dict().items()]
    highest = max((exponents[index] // order for exponents, _ in terms), default=0)
    total = context.constant(0)
    for exponents, coefficient in terms:
        whole, rest = divmod(exponents[index], order)
        lowered = tuple(rest if k == index else power for k, power in enumerate(exponents))
        total += context.from_dict({lowered: coefficient}) * above**whole * below ** (highest - whole)
    return total


def cross_check(obligation: Zero, assumptions: Sequence[sp.Basic] = ()) -> Verdict:
    """Both sides at random rational points, to 50 digits, in ball arithmetic."""
    lhs, rhs = (without_functions(close(side)) for side in (obligation.lhs, obligation.rhs))
    checked = 0
    for point in points(lhs.free_symbols | rhs.free_symbols, assumptions, CROSS_CHECK_POINTS):
        try:
            left, right = enclosure(lhs, point, BITS), enclosure(rhs, point, BITS)
        except BallError as error:
            return Verdict("undecided", f"not evaluable: {error}")
        if not left.overlaps(right):
            return Verdict("refuted", f"{left.str(12)} is not {right.str(12)}", exact(point))
        if (left - right).abs_upper() > (1 + abs(left)) / 10**DIGITS:
            return Verdict("undecided", f"the balls are wider than {DIGITS} digits")
        checked += 1
    return (
        Verdict("proved", f"{checked} points to {DIGITS} digits")
        if checked
        else Verdict("undecided", "no point")
    )


def z3_positive(obligation: Positive, assumptions: Sequence[sp.Basic] = ()) -> Verdict:
    """Ask z3 for a point of the domain where the sign is wrong; none exists means proved."""
    import z3

    generators = Generators()
    expr = close(obligation.expr)
    relations = [close(relation) for relation in facts(expr.free_symbols, assumptions)]
    image = rational_image(expr, generators)
    numerator, denominator = sp.fraction(sp.together(image))
    sides = [
        (type(r), sp.fraction(sp.together(rational_image(r.rhs - r.lhs, generators)))) for r in relations
    ]
    solver = z3.Solver()
    solver.set("timeout", Z3_MILLISECONDS)
    names: dict[sp.Symbol, Any] = {}
    wrong = _z3(numerator * denominator, names)
    for relation, (above, below) in sides:
        side = _z3(above * below, names)
        solver.add(side > 0 if relation in (sp.Lt, sp.StrictLessThan) else side >= 0)
    for root, order, radicand in generators.relations:
        solver.add(_z3(root**order, names) == _z3(radicand, names))
        solver.add(*[_z3(root, names) > 0] * bool(root.is_positive))
    solver.add(_z3(denominator, names) != 0, wrong <= 0 if obligation.strict else wrong < 0)
    solver.add(*[constraint for symbol, name in names.items() for constraint in _z3_domain(symbol, name)])
    answer = solver.check()
    if answer == z3.unsat:
        return Verdict("proved", "z3: no counterexample exists")
    return (
        Verdict("refuted", f"z3: {solver.model()}")
        if answer == z3.sat
        else Verdict("undecided", "z3 gave up")
    )


def _z3(expr: sp.Expr, names: dict[sp.Symbol, Any]) -> Any:
    import z3

    if expr.is_Rational:
        return z3.Q(int(expr.p), int(expr.q))
    if expr.is_Symbol:
        return names.setdefault(expr, z3.Real(expr.name))
    parts = [_z3(arg, names) for arg in expr.args if not (isinstance(expr, sp.Pow) and arg is expr.args[1])]
    if isinstance(expr, sp.Pow):
        power = z3.Q(1, 1)
        for _ in range(int(expr.args[1])):
            power = power * parts[0]
        return power
    total = parts[0]
    for part in parts[1:]:
        total = total * part if isinstance(expr, sp.Mul) else total + part
    return total


def _z3_domain(symbol: sp.Symbol, name: Any) -> list[Any]:
    domain = MEANINGS[symbol].domain if symbol in MEANINGS else ("positive" if symbol.is_positive else "real")
    return {
        "unit": [name > 0, name < 1],
        "closed_unit": [name >= 0, name <= 1],
        "positive": [name > 0],
        "nonnegative": [name >= 0],
        "natural": [name >= 1],
        "nonzero": [name != 0],
        "real": [],
    }[domain]
