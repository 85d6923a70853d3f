"""LaTeX of an expression with the notation of ``derivations.symbols``."""

from __future__ import annotations

import sympy as sp

from derivations.symbols import MEANINGS


def tex(expr: sp.Basic) -> str:
    """LaTeX with every symbol spelled as declared."""
    names = {symbol: MEANINGS[symbol].latex for symbol in expr.free_symbols if symbol in MEANINGS}
    return str(sp.latex(expr, symbol_names=names))
