"""LaTeX of an expression with the notation of ``derivations.symbols``."""

from __future__ import annotations

import re
import unicodedata

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


_ACCENTS = {"\u0304": r"\bar", "\u0303": r"\tilde", "\u0302": r"\hat"}
_GLYPHS = {
    "−": "-", "·": r"\cdot ", "≤": r"\le ", "≥": r"\ge ", "∫": r"\int ", "Σ": r"\Sigma ", "Λ": r"\Lambda ",
    "²": "^2", "½": r"\tfrac12 ", "⁻¹": "^{-1}", "ᵀ": r"^{\top}", "‖": r"\Vert ", "⌊": r"\lfloor ",
    "⌋": r"\rfloor ", "…": r"\ldots ", "√": r"\surd ", "ε": r"\epsilon ",
    "∇": r"\nabla ", "∂": r"\partial ", "∞": r"\infty ", "→": r"\to ", "³": "^3", "⁴": "^4",
    "ℓ": r"\ell ", "∏": r"\prod ", "∑": r"\sum ", "≠": r"\ne ",
    "∈": r"\in ", "∝": r"\propto ", "⇒": r"\Rightarrow ",
}  # fmt: skip
_ESCAPED = str.maketrans({"%": r"\%", "&": r"\&", "#": r"\#", "–": "--"})
_GREEK = re.compile("[α-ωΑ-Ω]")
_ROOT = re.compile(r"√(?:\(([^()]*(?:\([^()]*\)[^()]*)*)\)|([^\s()+·/,;:.√]+))")
_POWER = re.compile(r"\^\(([^()]*)\)")


def in_text(prose: str) -> str:
    """Prose for LaTeX: a word with an index, a power or a mathematical sign goes between dollars."""
    return " ".join(map(_word, prose.split()))


def _word(word: str) -> str:
    plain = unicodedata.normalize("NFD", word)
    if (
        not re.search(r"[_^]", plain)
        and not _GREEK.search(plain)
        and not any(glyph in plain for glyph in _GLYPHS)
    ):
        return word.translate(_ESCAPED)
    body = plain.rstrip(",.;:")
    return f"${_math(body)}${plain[len(body) :]}"


def _math(text: str) -> str:
    """A formula in Unicode as LaTeX."""
    text = _ROOT.sub(lambda match: rf"\sqrt{{{match[1] or match[2]}}}", text)
    text = _POWER.sub(r"^{\1}", text)
    for accent, command in _ACCENTS.items():
        text = re.sub(f"(.){accent}", lambda match, command=command: f"{command}{{{match[1]}}}", text)  # type: ignore[misc]
    for glyph, command in _GLYPHS.items():
        text = text.replace(glyph, command)
    return _GREEK.sub(lambda match: _greek(match[0]), text)


def _greek(letter: str) -> str:
    name = unicodedata.name(letter).removeprefix("GREEK ").replace(" FINAL", "")
    small = name.removeprefix("SMALL LETTER ").lower()
    return "\\" + {"lamda": "lambda"}.get(small, small) + " "
