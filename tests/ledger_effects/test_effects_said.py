"""The helper that holds a row to its numbers finds them as they are written, and no others."""

from __future__ import annotations

from fractions import Fraction

import pytest
from said import numbers, says


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("the variance 0.494; it gives 0.996.", [Fraction(494, 1000), Fraction(996, 1000)]),
        ("below 10⁻⁴⁷", [Fraction(1, 10**47)]),
        ("4.04·10⁻⁵ of it, −1.5", [Fraction(404, 10**7), Fraction(-3, 2)]),
        ("10,000 steps, x_0 and ᾱ_500", [Fraction(10_000)]),
    ],
)
def test_numbers_are_read_as_they_are_written(text: str, found: list[Fraction]) -> None:
    assert numbers(text) == found


def test_a_value_that_the_row_does_not_say_fails() -> None:
    says("S001:/8", 0.4941, 3)
    with pytest.raises(AssertionError, match=r"S001:/8 must say 0\.495"):
        says("S001:/8", 0.4949, 3)
