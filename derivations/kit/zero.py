"""The zero test: proved by normal form, refuted by a witness, otherwise undecided.

``proved`` means that the numerator over ℚ in the generators reduces to the zero polynomial modulo the
relations of the roots. ``refuted`` means that ball arithmetic excludes zero at an exact rational point of
the domain. Nothing else decides.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

import sympy as sp
from sympy.core.function import AppliedUndef
from sympy.polys.fields import sfield

from derivations.kit.ball import BallError, enclosure
from derivations.kit.generators import (
    Generators,
    NotRepresentableError,
    rational_image,
    reject_floats,
    unrolled,
)
from derivations.kit.positive import facts
from derivations.kit.verdict import Verdict
from derivations.symbols import MEANINGS, WHERE

Point = dict[sp.Symbol, Fraction]
WITNESS_TRIES = 12


def close(expr: sp.Expr) -> sp.Expr:
    """Dependent symbols written through the independent levels."""
    return sp.sympify(expr).xreplace(WHERE)


def decide_zero(expr: sp.Expr, assumptions: Sequence[sp.Basic] = ()) -> Verdict:
    """Whether ``expr`` is zero on its whole domain."""
    expr = close(expr)
    reject_floats(expr)
    reason = f"neither zero in normal form nor refuted: {expr}"
    try:
        if normal_form(expr) == 0:
            return Verdict("proved", "zero in normal form")
    except NotRepresentableError as error:
        reason = str(error)
    return refute(expr, assumptions) or Verdict("undecided", reason)


def normal_form(expr: sp.Expr) -> sp.Expr:
    """The numerator as a polynomial in the generators, reduced by the relations of the roots."""
    generators = Generators()
    image = rational_image(expr, generators)
    if not image.free_symbols:
        return sp.expand(image)
    _, element = sfield(image)
    return reduce_roots(element.numer.as_expr(), generators)


def reduce_roots(numerator: sp.Expr, generators: Generators) -> sp.Expr:
    """Replace the powers of each root above its order, latest root first."""
    for root, order, radicand in reversed(generators.relations):
        numerator = sp.Poly(numerator, root).rem(sp.Poly(root**order - radicand, root)).as_expr()
    return sp.expand(numerator)


def refute(expr: sp.Expr, assumptions: Sequence[sp.Basic] = ()) -> Verdict | None:
    """A point of the domain where ball arithmetic excludes zero, or nothing."""
    plain = without_functions(close(expr))
    for point in points(plain.free_symbols, assumptions, WITNESS_TRIES):
        try:
            ball = enclosure(plain, point)
        except BallError:
            continue
        if not ball.contains(0):
            return Verdict("refuted", f"differs by {ball.str(12, radius=False)}", exact(point))
    return None


def exact(point: Point) -> dict[sp.Basic, sp.Expr]:
    """The point with SymPy rationals."""
    return {symbol: sp.Rational(value.numerator, value.denominator) for symbol, value in point.items()}


def without_functions(expr: sp.Expr) -> sp.Expr:
    """Values of undefined functions and derivatives become free symbols: at one point they are arbitrary."""
    expr = unrolled(expr)
    ranges = {part for part in expr.atoms(sp.Sum, sp.Product) if part.function.atoms(AppliedUndef)}
    kinds = (sp.Subs, sp.Derivative, sp.Indexed, AppliedUndef)
    for group in (ranges, *kinds):
        atoms = sorted(group if group is ranges else expr.atoms(group), key=str)
        fresh = {atom: sp.Symbol(f"value_of[{atom}]", real=True, positive=atom.is_positive) for atom in atoms}
        expr = expr.xreplace(fresh)
    return expr


def points(
    names: Iterable[sp.Basic],
    assumptions: Sequence[sp.Basic] = (),
    count: int = WITNESS_TRIES,
    seed: int = 20200619,
) -> Iterator[Point]:
    """Random exact points of the domain that satisfy the assumptions; the same ones in every run."""
    symbols = sorted(set(names) | _names(assumptions), key=lambda symbol: symbol.name)
    relations = [(close(r.rhs) - close(r.lhs), isinstance(r, sp.Lt)) for r in facts(symbols, assumptions)]
    generator, found = random.Random(seed), 0
    for _ in range(400 * count):
        point = {symbol: draw(symbol, generator) for symbol in symbols}
        if all(_holds(difference, strict, point) for difference, strict in relations):
            yield point
            found += 1
        if found == count:
            return


def _names(assumptions: Sequence[sp.Basic]) -> set[sp.Symbol]:
    return {symbol for assumption in assumptions for symbol in close(assumption).free_symbols}


def _holds(difference: sp.Expr, strict: bool, point: Point) -> bool:
    ball = enclosure(difference, point)
    return bool(ball > 0 or (ball.is_zero() and not strict))


def draw(symbol: sp.Symbol, generator: random.Random) -> Fraction:
    """A rational in the interior of the symbol's domain."""
    domain = MEANINGS[symbol].domain if symbol in MEANINGS else ("positive" if symbol.is_positive else "real")
    if domain in ("unit", "closed_unit"):
        return Fraction(generator.randint(1, 996), 997)
    if domain == "natural" or symbol.is_integer:
        return Fraction(generator.randint(1, 9))
    value = Fraction(generator.randint(1, 400), 101)
    return value if domain in ("positive", "nonnegative") or generator.getrandbits(1) else -value
