"""The zero test: proved by normal form, refuted by a witness, otherwise undecided.

``proved`` means that the numerator over ℚ in the generators reduces to the zero polynomial modulo the
relations of the roots. ``refuted`` means that ball arithmetic excludes zero at an exact rational point of
the domain. Nothing else decides.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from math import prod

import sympy as sp
from sympy.core.function import AppliedUndef
from sympy.polys.domains import QQ
from sympy.polys.orderings import lex
from sympy.polys.rings import PolyElement, PolyRing

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
    names = image.free_symbols.union(*({r, *of.free_symbols} for r, _, of in generators.relations))
    if not names:
        return sp.expand(image)
    ring = PolyRing(sorted(names, key=lambda symbol: symbol.name), QQ, lex)
    numerator, _ = _fraction(image, ring)
    for root, order, radicand in reversed(generators.relations):
        numerator = _reduced(numerator, ring.symbols.index(root), order, _fraction(radicand, ring))
    return numerator.as_expr()


def _fraction(image: sp.Expr, ring: PolyRing) -> tuple[PolyElement, PolyElement]:
    """Numerator and denominator as polynomials, by walking the expression; nothing is expanded before."""
    if image.is_Rational:
        return ring.ground_new(QQ(int(image.p), int(image.q))), ring.one
    if image.is_Symbol:
        return ring.gens[ring.symbols.index(image)], ring.one
    if isinstance(image, sp.Pow):
        (above, below), power = _fraction(image.base, ring), int(image.exp)
        return (above**power, below**power) if power >= 0 else (below**-power, above**-power)
    parts = [_fraction(part, ring) for part in image.args]
    if isinstance(image, sp.Mul):
        return prod((a for a, _ in parts), start=ring.one), prod((b for _, b in parts), start=ring.one)
    return _added(parts)


def _added(parts: Iterable[tuple[PolyElement, PolyElement]]) -> tuple[PolyElement, PolyElement]:
    """A sum of fractions; those of one denominator are added first."""
    by_denominator: dict[PolyElement, PolyElement] = {}
    for above, below in parts:
        by_denominator[below] = by_denominator[below] + above if below in by_denominator else above
    (denominator, numerator), *rest = by_denominator.items()
    for below, above in rest:
        numerator, denominator = numerator * below + above * denominator, denominator * below
    return numerator, denominator


def _reduced(
    poly: PolyElement, root: int, order: int, radicand: tuple[PolyElement, PolyElement]
) -> PolyElement:
    """The powers of a root above its order replaced, with one common power of the radicand's denominator."""
    parts: dict[int, PolyElement] = {}
    for powers, coefficient in poly.terms():
        whole, left = divmod(powers[root], order)
        part = parts.setdefault(whole, poly.ring.zero)
        part[(*powers[:root], left, *powers[root + 1 :])] = coefficient
    above, below = radicand
    highest = max(parts, default=0)
    return sum((part * above**k * below ** (highest - k) for k, part in parts.items()), poly.ring.zero)


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
