"""Prove that an expression is positive on its domain.

Every symbol is written through parameters that run over all positive numbers (0 < a < 1 is 1/(1+u), a < b
is b/(1+u), end points and signs of reals are cases of their own). A rational function whose numerator and
denominator have only non-negative coefficients in those parameters is positive; multiplying by (1+Σu)ᵏ
(Pólya) makes more of them visible. The certificate is the list of coefficients. What is not proved this way
is not proved.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import sympy as sp

from derivations.symbols import MEANINGS, ORDER

Case = dict[sp.Symbol, sp.Expr]
_POLYA_DEGREE = 4


def facts(symbols: Iterable[sp.Basic], assumptions: Sequence[sp.Basic] = ()) -> tuple[sp.Basic, ...]:
    """The stated assumptions and the order of the levels that occur."""
    present = set(symbols)
    order = tuple(sp.Lt(low, high) for low, high in ORDER if low in present and high in present)
    stated = tuple(a.reversed if isinstance(a, sp.Gt | sp.Ge) else a for a in assumptions)
    return order + tuple(assumption for assumption in stated if assumption not in order)


def _parameter(symbol: sp.Symbol) -> sp.Symbol:
    return sp.Symbol(f"_u_{symbol.name}", positive=True)


def _ranges(symbol: sp.Symbol, bounds: Sequence[sp.Basic]) -> list[sp.Expr]:
    """The ways to write one symbol through a positive parameter, end points apart."""
    u = _parameter(symbol)
    domain = MEANINGS[symbol].domain if symbol in MEANINGS else ("positive" if symbol.is_positive else "real")
    for relation in bounds:
        if domain not in ("unit", "positive", "nonnegative", "closed_unit"):
            break
        upper = relation.rhs if relation.lhs == symbol else sp.sqrt(relation.rhs)
        inside = upper / (1 + u) if relation.lhs == symbol else sp.sqrt(relation.rhs / (1 + u))
        ends = [upper] if isinstance(relation, sp.Le) else []
        return [inside, *ends, *([sp.Integer(0)] if domain in ("nonnegative", "closed_unit") else [])]
    return {
        "unit": [1 / (1 + u)],
        "closed_unit": [1 / (1 + u), sp.Integer(0), sp.Integer(1)],
        "positive": [u],
        "nonnegative": [u, sp.Integer(0)],
        "natural": [1 + u, sp.Integer(1)],
        "nonzero": [u, -u],
        "real": [u, -u, sp.Integer(0)],
    }[domain]


def cases(expr: sp.Expr, assumptions: Sequence[sp.Basic] = ()) -> Iterator[Case]:
    """Every combination of ranges; an upper bound's own symbols are substituted after the bounded one."""
    symbols = sorted(expr.free_symbols, key=lambda symbol: symbol.name)
    relations = facts(symbols, assumptions)
    bounds = {symbol: [r for r in relations if _bounds(r, symbol)] for symbol in symbols}
    names = set(symbols) | {name for group in bounds.values() for r in group for name in r.rhs.free_symbols}
    ordered = _innermost_last(names, bounds)
    choices = [_ranges(symbol, bounds.get(symbol, [])) for symbol in ordered]
    for values in itertools.product(*choices):
        yield dict(zip(ordered, values, strict=True))


def _bounds(relation: sp.Basic, symbol: sp.Symbol) -> bool:
    """Whether the relation reads symbol < b or symbol² < b with b free of the symbol."""
    return (
        isinstance(relation, sp.Lt | sp.Le)
        and relation.lhs in (symbol, symbol**2)
        and symbol not in relation.rhs.free_symbols
    )


def _innermost_last(names: set[sp.Basic], bounds: dict[sp.Symbol, list[sp.Basic]]) -> list[sp.Symbol]:
    ordered: list[sp.Symbol] = []
    pending = sorted(names, key=lambda symbol: str(symbol))
    while pending:
        blocked = {
            name for symbol in pending for r in bounds.get(symbol, [])[:1] for name in r.rhs.free_symbols
        }
        free = [symbol for symbol in pending if symbol not in blocked] or pending[:1]
        ordered += free
        pending = [symbol for symbol in pending if symbol not in free]
    return ordered


def apply(expr: sp.Expr, case: Case) -> sp.Expr:
    """Substitute a case, bounded symbols before the symbols of their bounds."""
    for symbol, value in case.items():
        expr = expr.subs(symbol, value)
    return expr


def prove_positive(expr: sp.Expr, assumptions: Sequence[sp.Basic] = (), strict: bool = True) -> bool:
    """Whether the coefficient test shows expr > 0 (or ≥ 0) on the whole domain. False decides nothing."""
    expr = _without_roots(expr, assumptions)
    if len(expr.free_symbols) > 9:
        return False
    return all(_positive_case(apply(expr, case), strict) for case in cases(expr, assumptions))


def _without_roots(expr: sp.Expr, assumptions: Sequence[sp.Basic]) -> sp.Expr:
    """Roots of provably positive radicands as positive symbols; what they are roots of is forgotten."""
    table: dict[sp.Basic, sp.Expr] = {}
    for power in sorted(expr.atoms(sp.Pow), key=sp.default_sort_key):
        if power.exp.is_Rational and not power.exp.is_Integer and not power.base.is_Rational:
            if not prove_positive(power.base, assumptions):
                return expr
            root = sp.Symbol(f"_root_{power.exp.q}[{power.base}]", positive=True)
            table[power] = root**power.exp.p
    return expr.xreplace(table)


def _positive_case(expr: sp.Expr, strict: bool) -> bool:
    numerator, denominator = sp.fraction(sp.cancel(sp.together(expr)))
    if denominator.is_number and denominator.is_negative:
        numerator, denominator = -numerator, -denominator
    if not _coefficients_positive(denominator, strict=True):
        numerator, denominator = -numerator, -denominator
    return _coefficients_positive(denominator, strict=True) and _coefficients_positive(numerator, strict)


def _coefficients_positive(expr: sp.Expr, strict: bool) -> bool:
    expr = sp.expand(expr)
    if expr == 0:
        return not strict
    parameters = sorted(expr.free_symbols, key=lambda symbol: symbol.name)
    if not parameters:
        return bool(expr.is_positive)
    if not expr.is_polynomial(*parameters):
        return False
    poly = sp.Poly(expr, *parameters)
    ladder = sp.Poly(1 + sum(parameters), *parameters)
    for _ in range(_POLYA_DEGREE + 1):
        coefficients = poly.coeffs()
        if all(c.is_nonnegative for c in coefficients):
            return True
        if all(c.is_nonpositive for c in coefficients):
            return False
        poly *= ladder
    return False


@lru_cache(maxsize=4096)
def known_sign(expr: sp.Expr) -> int:
    """+1 or -1 when the sign is provable on the whole domain of the symbols, else 0."""
    if any(
        symbol.is_positive is not True and symbol.is_nonnegative is not True for symbol in expr.free_symbols
    ):
        return 0
    if prove_positive(expr):
        return 1
    return -1 if prove_positive(-expr) else 0
