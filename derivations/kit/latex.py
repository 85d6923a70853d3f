"""LaTeX of an expression with the notation of ``derivations.symbols``."""

from __future__ import annotations

import sympy as sp
from sympy.printing.latex import LatexPrinter

from derivations.symbols import MEANINGS


class _Printer(LatexPrinter):  # type: ignore[misc]
    """A sum starts with a term that carries no minus sign, if it has one."""

    def _as_ordered_terms(self, expr: sp.Expr, order: str | None = None) -> list[sp.Expr]:
        terms = super()._as_ordered_terms(expr, order)
        return sorted(terms, key=lambda term: bool(term.could_extract_minus_sign()))


def tex(expr: sp.Basic) -> str:
    """LaTeX with every symbol spelled as declared."""
    names = {symbol: MEANINGS[symbol].latex for symbol in expr.free_symbols if symbol in MEANINGS}
    return str(_Printer({"symbol_names": names}).doprint(expr))
