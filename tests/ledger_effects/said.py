"""What a row of the ledger says in numbers, to be held against a computation of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from functools import cache

from derivations import ledger
from derivations.ledger.checks import Approximation
from derivations.ledger.row import Row

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_POWER = re.compile(r"(?:([−-]?\d+(?:\.\d+)?)\s*(?:·|×)\s*)?10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)")
_NUMBER = re.compile(r"(?<![\w.])[−-]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


@cache
def row(id: str) -> Row:
    """The row of this id."""
    return ledger.rows()[id]


def words(id: str) -> str:
    """All that the row says in words, and the size that its check computes; nothing is proved here."""
    told = row(id)
    size = told.check.size() if isinstance(told.check, Approximation) else ""
    return "\n".join((told.effect, told.conditions, told.statement, told.latex, told.notation, size))


def numbers(text: str) -> list[Fraction]:
    """The numbers of a text, as they are written; a ⁻ⁿ after 10 is an exponent."""
    written = _POWER.sub(lambda m: f" {m[1] or 1}e{m[2].translate(_SUPERSCRIPTS)} ", text)
    found = _NUMBER.findall(re.sub(r"(?<=\d),(?=\d{3}\b)|(?<=\d)[ \u202f](?=\d{3}\b)", "", written))
    return [Fraction(Decimal(number.replace("−", "-"))) for number in found]


def rounded(value: float | Fraction, digits: int) -> Fraction:
    """To so many significant digits."""
    return Fraction(Decimal(f"{float(value):.{digits - 1}e}"))


def says(id: str, value: float | Fraction, digits: int) -> None:
    """Fail unless the row says this value, rounded to so many significant digits."""
    wanted = rounded(value, digits)
    said = numbers(words(id))
    assert wanted in said, f"{id} must say {float(wanted)!r}, computed {float(value)!r}: {words(id)!r}"


def says_all(id: str, values: Sequence[float | Fraction], digits: int) -> None:
    """Each of the values is said."""
    for value in values:
        says(id, value, digits)
