"""The formulas by id."""

from __future__ import annotations

from functools import cache

import sympy as sp

from derivations import registry
from derivations.kit.formula import Formula


@cache
def node(id: str) -> Formula:
    """The formula of this id.

    Raises:
        ValueError: no such formula.
    """
    formulas = registry()
    if id not in formulas:
        raise ValueError(f"formula {id!r} does not exist")
    return formulas[id]


@cache
def symbols_of(expr: sp.Basic) -> tuple[sp.Symbol, ...]:
    """The free symbols by name; looked up once for each expression."""
    return tuple(sorted(expr.free_symbols, key=str))


@cache
def slope(expr: sp.Expr, symbol: sp.Symbol) -> sp.Expr:
    """The derivative; worked out once."""
    return expr.diff(symbol)
