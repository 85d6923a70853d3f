"""Words and symbols for people who read a terminal."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from difflib import get_close_matches

ACCENTS = {
    "bar": "\N{COMBINING MACRON}",
    "tilde": "\N{COMBINING TILDE}",
    "hat": "\N{COMBINING CIRCUMFLEX ACCENT}",
}
LOWERED = str.maketrans("01t s-", "₀₁ₜ ₛ₋")
LATEX = re.compile(
    r"(?:\\(?P<accent>bar|tilde|hat)\s*)?(?:\\(?P<greek>[a-z]+)|(?P<plain>[A-Za-z]))(?P<low>_[01ts]|_\{t-1\})?"
)


def nearest(word: str, known: Sequence[str]) -> str:
    """``; did you mean a or b?`` with the nearest known words, or nothing."""
    close = get_close_matches(word, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def unicode_of(latex: str) -> str | None:
    r"""A simple LaTeX symbol in Unicode, as ``\bar\alpha_{t-1}`` in ᾱₜ₋₁; None for anything else."""
    match = LATEX.fullmatch(latex)
    letter = match and (match["plain"] or _greek(match["greek"]))
    if not match or not letter:
        return None
    accented = unicodedata.normalize("NFC", letter + ACCENTS.get(match["accent"], ""))
    return accented + (match["low"] or "").strip("_{}").translate(LOWERED)


def _greek(name: str) -> str:
    try:
        return unicodedata.lookup(f"GREEK SMALL LETTER {name}")
    except KeyError:
        return ""
