"""Exact inputs of the cases: rationals that float32 holds, or a level of a named schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy as sp
from flint import arb

from derivations.golden.case import upper
from derivations.golden.schedules import Named, level
from derivations.kit.ball import Value, certify, evaluate

DATA = Fraction(1)


def fits_float32(number: Fraction) -> bool:
    """Whether float32 holds the number exactly (as a normal number)."""
    size, power = abs(number.numerator), number.denominator
    if power & (power - 1):
        return False
    while size and size % 2 == 0:
        size //= 2
    return size < 2**24 and number.denominator <= 2**126


@dataclass(frozen=True)
class Levels:
    """A pair of levels s < t: two exact signal powers, or two times of a named schedule."""

    id: str
    flags: tuple[str, ...]
    t: int
    s: int
    schedule: Named | None = None
    abar_t: Fraction = DATA
    abar_s: Fraction = DATA

    def value(self, which: str) -> Value:
        """The signal power of "t" or "s"."""
        if self.schedule is None:
            return self.abar_t if which == "t" else self.abar_s
        time = self.t if which == "t" else self.s
        return ball_level(self.schedule, time) if time > 0 else DATA

    def weight(self, which: str) -> Fraction:
        """Roundings in the signal power of "t" or "s".

        Given as a number it has one; of a schedule it is the exponential of a sum and has |log abar| of them.
        """
        value = self.value(which)
        if self.schedule is None or value == DATA:
            return Fraction(1)
        return max(Fraction(1), upper(evaluate(sp.log(LEVEL), {LEVEL: value}, 10)))

    def given(self) -> dict[str, Any]:
        """The JSON of the inputs; the signal powers of a named schedule are given too, to 50 digits."""
        if self.schedule is None:
            return {"abar_t": str(self.abar_t), "abar_s": str(self.abar_s)}
        return {
            "schedule": self.schedule.given(),
            "t": self.t,
            "s": self.s,
            "abar_t": self._decimal("t"),
            "abar_s": self._decimal("s"),
        }

    def _decimal(self, which: str) -> str:
        value = self.value(which)
        return "1" if value == DATA else certify(LEVEL, {LEVEL: value}).value


LEVEL = sp.Symbol("level")


def ball_level(schedule: Named, time: int) -> Callable[[int], arb]:
    """The signal power of one level as a function of the precision."""
    return lambda bits: level(schedule, time, bits)


def exact(id: str, abar_t: str, abar_s: str, *flags: str) -> Levels:
    """A pair of rational levels, which float32 must hold."""
    t, s = Fraction(abar_t), Fraction(abar_s)
    for number in (t, s):
        if not fits_float32(number):
            raise ValueError(f"levels {id!r}: {number} is not a float32")
    return Levels(id, flags, 2 if s != DATA else 1, 1 if s != DATA else 0, None, t, s)


def named(schedule: Named, t: int, s: int, *flags: str) -> Levels:
    """A pair of levels of a named schedule."""
    return Levels(f"{schedule.id}-t{t}-s{s}", flags, t, s, schedule)


def bind(symbols: Sequence[sp.Symbol], known: Mapping[str, Value]) -> dict[sp.Basic, Value]:
    """Values for the symbols, by name."""
    missing = [symbol.name for symbol in symbols if symbol.name not in known]
    if missing:
        raise ValueError(f"no value for {', '.join(missing)}")
    return {symbol: known[symbol.name] for symbol in symbols}
