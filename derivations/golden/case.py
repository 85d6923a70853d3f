"""A golden case: certified outputs, and a tolerance that is derived and cannot reach a decoy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from flint import arb

from derivations.golden.nodes import node
from derivations.kit.ball import Certified

DIGITS = 50
TABLE_DIGITS = 40
PRECISION = {"float64": 53, "float32": 24}
SMALLEST = {"float64": Fraction(1, 2**1022), "float32": Fraction(1, 2**126)}
LARGEST = {"float64": Fraction(2**1023), "float32": Fraction(2**127)}
LEAST_ROUNDINGS = 4

FLAGS = {
    "first-step": "the step that ends at data, where the level before it is 1 exactly",
    "last-step": "the step that starts at the noisiest level",
    "interior": "a step between two inner levels",
    "cancellation": "two nearly equal numbers are subtracted: 1 - alpha_bar near data, or two near levels",
    "strided": "a step that skips levels",
    "eta-zero": "deterministic DDIM",
    "eta-between": "0 < eta < 1, where eta and eta^2 differ",
    "eta-one": "DDIM that must be DDPM",
    "zero-snr": "a level without signal",
    "few-steps": "a schedule with one or two steps",
    "table": "a whole schedule, every level",
    "clipped": "beta reaches its bound",
    "nonzero-mean": "data whose mean is not 0 and whose variance is not 1",
    "several-dimensions": "more than one dimension, with correlation",
    "several-modes": "a mixture: the perfect model is not affine",
    "whole-trajectory": "every state of a sampler from x_T to x_0",
    "small-variance": "a variance near 0",
    "tempered": "a temperature other than 1, in the energy and in the noise",
    "coarse-step": "a step so large that the chain is not the diffusion",
    "many-steps": "a chain of many steps",
    "exchanged-samples": "data and samples of the model, which a wrong sign exchanges",
    "noise-samples": "several samples of noise for one of data",
    "tail": "tens of standard deviations from the mean, where a probability underflows",
    "open-edge": "the first or the last bin, which is open",
    "wide-bin": "a bin wider than the scale of the decoder",
    "data-range": "the unit of the data enters the value",
    "several-levels": "a ladder of noise levels, or a chain that passes several of them",
    "ladder-end": "the first or the last level of a ladder",
    "little-overlap": "two laws that hardly overlap, so that the score hardly sees their weights",
    "uneven-steps": "steps of different lengths, whose ratio enters",
    "guided": "a scale of guidance that is not 1",
    "whole-network": "all layers of a network together, and their gradient",
    "attention-heads": "several heads, whose channels lie side by side",
    "labelled": "several labels, and the one that means none",
    "float64-only": "float32 cannot hold the value, or cannot tell the nearest decoy apart",
}


BOUND_BITS = 32
FAR = Fraction(2**60)  # the distance of a decoy that has no value where the formula has one


class GoldenError(ValueError):
    """A case cannot hold its promises: it must be moved, not loosened."""


@dataclass(frozen=True)
class Margin:
    """What limits the tolerance of an output: condition number, roundings, and the distance of each decoy.

    A distance of None is a decoy that agrees with the formula at this point.
    """

    condition: Fraction
    roundings: int
    decoys: Mapping[str, Fraction | None]

    def tolerance(self, dtype: str) -> Fraction:
        """k ulp times condition number, relative to the value, as it is stored: two digits, rounded up."""
        ulp = Fraction(2, 2 ** PRECISION[dtype])
        condition = round_up(max(self.condition, Fraction(1)))
        return round_up(max(self.roundings, LEAST_ROUNDINGS) * ulp * condition)

    @cached_property
    def nearest(self) -> tuple[str, Fraction] | None:
        """The decoy with the smallest distance, among those that differ, as it is stored: rounded down."""
        apart = [(distance, name) for name, distance in self.decoys.items() if distance is not None]
        if not apart:
            return None
        distance, name = min(apart)
        return name, Fraction(scientific(distance, up=False))

    def separates(self, dtype: str) -> bool:
        """Whether the tolerance stays under half the distance to the nearest decoy."""
        return self.nearest is None or self.tolerance(dtype) < self.nearest[1] / 2


def round_up(number: Fraction, digits: int = 2) -> Fraction:
    """The number with `digits` significant digits, rounded up."""
    integer, power = _significant(number, digits, up=True)
    return Fraction(integer * 10**power) if power >= 0 else Fraction(integer, 10**-power)


def scientific(number: Fraction, digits: int = 2, up: bool = True) -> str:
    """A non-negative number in scientific notation, rounded up (a bound from above) or down."""
    if number == 0:
        return "0"
    integer, power = _significant(number, digits, up)
    text = str(integer)
    return f"{text[0]}.{text[1:]}e{power + digits - 1}"


def _significant(number: Fraction, digits: int, up: bool) -> tuple[int, int]:
    """An integer of `digits` digits and a power of ten: their product bounds the number."""
    if number == 0:
        return 0, 0
    bits = number.numerator.bit_length() - number.denominator.bit_length()
    power = bits * 30103 // 100000 - digits + 1
    while True:
        top, bottom = number.numerator * 10 ** max(-power, 0), number.denominator * 10 ** max(power, 0)
        integer, rest = divmod(top, bottom)
        if 10 ** (digits - 1) <= integer < 10**digits:
            break
        power += 1 if integer >= 10**digits else -1
    integer += 1 if up and rest else 0
    return (integer // 10, power + 1) if integer == 10**digits else (integer, power)


def output(
    name: str, values: Sequence[Certified], margin: Margin, shape: Sequence[int] = ()
) -> dict[str, Any]:
    """One output of a case: values, radius, nearest floats, tolerance and the decoy that bounds it.

    Raises:
        GoldenError: the float64 tolerance reaches half the distance to a decoy.
    """
    if not margin.separates("float64"):
        assert margin.nearest is not None
        decoy, distance = margin.nearest
        raise GoldenError(
            f"output {name!r}: tolerance {scientific(margin.tolerance('float64'))} reaches half the distance "
            f"{scientific(distance)} to decoy {decoy!r}: move the case"
        )
    zero = all(value.value == "0" for value in values)
    return {
        "name": name,
        "shape": list(shape),
        "value": [value.value for value in values],
        "relative_radius": _relative_radius(values),
        "float64": [value.float64 for value in values],
        "condition": scientific(max(margin.condition, Fraction(1))),
        "roundings": max(margin.roundings, LEAST_ROUNDINGS),
        "tolerance": {"float64": "0", "float32": "0"} if zero else _tolerances(margin, values),
        "decoy": _nearest(margin),
    }


def _relative_radius(values: Sequence[Certified]) -> str:
    """A bound of |true - printed| / |printed| that holds for each value."""
    mantissas = [value.value.partition("e")[0].strip("-") for value in values if value.value != "0"]
    return f"5e-{min(len(mantissa) - 1 for mantissa in mantissas)}" if mantissas else "0"


def _tolerances(margin: Margin, values: Sequence[Certified]) -> dict[str, str]:
    """The tolerance of each precision that can hold the values and tell the nearest decoy apart."""
    sizes = [abs(Fraction(value.value)) for value in values if value.value != "0"]
    kept = [
        dtype
        for dtype in PRECISION
        if margin.separates(dtype) and SMALLEST[dtype] <= min(sizes) and max(sizes) <= LARGEST[dtype]
    ]
    if "float64" not in kept:
        raise GoldenError("a value is outside the normal range of float64: move the case")
    return {dtype: scientific(margin.tolerance(dtype)) for dtype in kept}


def _nearest(margin: Margin) -> dict[str, str] | None:
    if margin.nearest is None:
        return None
    name, distance = margin.nearest
    return {"id": name, "distance": scientific(distance, up=False)}


def case(
    id: str,
    formula: str,
    flags: Sequence[str],
    given: Mapping[str, Any],
    outputs: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """One case; its flags are checked, and completed where float32 cannot hold it.

    Raises:
        GoldenError: no flag, an unknown flag, or no output.
    """
    unknown = set(flags) - set(FLAGS)
    if unknown or not flags or not outputs:
        raise GoldenError(f"case {id!r}: flags {list(flags)} and {len(outputs)} outputs: one known of each")
    only = [] if any("float32" in output["tolerance"] for output in outputs) else ["float64-only"]
    return {
        "id": id,
        "formula": formula,
        "flags": [*flags, *only],
        "input": dict(given),
        "output": list(outputs),
    }


class Coverage:
    """Which decoys of which formula at least one case tells apart."""

    def __init__(self) -> None:
        self.separated: dict[str, set[str]] = {}
        self.wanted: dict[str, set[str]] = {}

    def add(self, formula: str, margins: Sequence[Margin]) -> None:
        apart = self.separated.setdefault(formula, set())
        self.wanted.setdefault(formula, {decoy.id for decoy in node(formula).decoys})
        for limits in margins:
            apart.update(name for name, far in limits.decoys.items() if far is not None)

    def missing(self, formula: str) -> list[str]:
        """Decoys of a formula that agree with it in every case."""
        return sorted(self.wanted.get(formula, set()) - self.separated.get(formula, set()))

    def merge(self, other: Coverage) -> None:
        """Take over what another coverage, of other files, has seen."""
        for formula, names in other.wanted.items():
            self.wanted[formula] = names
            self.separated.setdefault(formula, set()).update(other.separated[formula])


def upper(ball: arb) -> Fraction:
    """A bound from above of the absolute value of a ball, with few bits."""
    return _short(ball.abs_upper(), up=True)


def lower(ball: arb) -> Fraction:
    """A bound from below of the absolute value of a ball, with few bits."""
    return _short(ball.abs_lower(), up=False)


def _short(number: arb, up: bool) -> Fraction:
    mantissa, exponent = (int(part) for part in number.man_exp())
    surplus = max(mantissa.bit_length() - BOUND_BITS, 0)
    short = -(-mantissa >> surplus) if up else mantissa >> surplus
    return Fraction(short) * Fraction(2) ** (exponent + surplus)


def relative_distance(value: arb, other: arb) -> Fraction | None:
    """A bound from below of |other - value| / |value|; None when the two may be equal."""
    if (other - value).contains(0):
        return None
    if value.is_zero():
        return FAR
    return lower(other - value) / upper(value)
