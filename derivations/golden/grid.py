"""Where the formulas are evaluated: levels that hunt index bugs, values that no symmetry hides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

from derivations.golden.formulas import Point
from derivations.golden.inputs import Levels, exact, named
from derivations.golden.schedules import Named
from derivations.kit.ball import Value

VALUES: Mapping[str, Fraction] = {
    "x_0": Fraction(3, 8),
    "x_t": Fraction(-5, 4),
    "x_s": Fraction(-11, 16),
    "x_prev": Fraction(-9, 16),
    "eps": Fraction(7, 16),
    "z": Fraction(9, 8),
    "v": Fraction(-3, 4),
    "score": Fraction(5, 8),
    "mu": Fraction(-7, 8),
    "eps_hat": Fraction(-5, 16),
    "eps_s": Fraction(13, 16),
    "step_noise_hat": Fraction(3, 16),
    "data_mean": Fraction(3, 4),
    "data_variance": Fraction(9, 16),
    "x_0_variance": Fraction(5, 32),
}
"""Float32 holds each; they differ in size and sign, and none is 0 or 1."""

LINEAR, COSINE = Named("linear", 1000), Named("cosine", 100)
SCALED, SIGMOID = Named("scaled_linear", 1000), Named("sigmoid_beta", 1000)

ONE_STEP: tuple[Levels, ...] = (
    exact("middle", "3/8", "1/2", "interior"),
    exact("upper", "5/8", "3/4", "interior"),
    exact("lower", "1/64", "3/128", "interior"),
    exact("first", "7/8", "1", "first-step"),
    exact("first-small", "8191/8192", "1", "first-step", "cancellation"),
    exact("second-small", "8189/8192", "8191/8192", "cancellation"),
    exact("near-levels", "524287/1048576", "1/2", "cancellation"),
    exact("noisiest", "3/65536", "5/65536", "last-step"),
    named(LINEAR, 1, 0, "first-step", "cancellation"),
    named(LINEAR, 2, 1, "cancellation"),
    named(LINEAR, 500, 499, "interior"),
    named(LINEAR, 1000, 999, "last-step"),
    named(COSINE, 1, 0, "first-step", "cancellation"),
    named(COSINE, 37, 36, "interior"),
    named(COSINE, 100, 99, "last-step", "clipped"),
    named(SCALED, 250, 249, "interior"),
    named(SIGMOID, 700, 699, "interior"),
)
STRIDED: tuple[Levels, ...] = (
    exact("middle", "3/8", "1/2", "interior"),
    exact("wide", "1/4", "7/8", "strided"),
    exact("to-data", "5/8", "1", "first-step", "strided"),
    exact("low", "1/1024", "1/8", "strided"),
    exact("near-levels", "524287/1048576", "1/2", "cancellation"),
    named(LINEAR, 20, 0, "first-step", "strided"),
    named(LINEAR, 21, 1, "strided", "cancellation"),
    named(LINEAR, 501, 451, "strided"),
    named(LINEAR, 1000, 857, "last-step", "strided"),
    named(LINEAR, 1000, 999, "last-step"),
    named(COSINE, 100, 75, "last-step", "strided", "clipped"),
    named(COSINE, 50, 25, "strided"),
    named(SCALED, 981, 961, "strided"),
    named(SCALED, 1, 0, "first-step", "cancellation"),
    named(SIGMOID, 700, 300, "strided"),
)
INNER = tuple(pair for pair in ONE_STEP if "first-step" not in pair.flags)
SKIPS = tuple(pair for pair in STRIDED if "first-step" not in pair.flags)
SIGNALLESS = (exact("no-signal", "0", "1/4096", "zero-snr", "last-step"),)
ETAS = {"0": "eta-zero", "1/5": "eta-between", "1/2": "eta-between", "1": "eta-one"}


def without(pairs: Sequence[Levels], *ids: str) -> tuple[Levels, ...]:
    """The pairs but those at which some decoy comes too near: there the case is moved, not loosened."""
    return tuple(pair for pair in pairs if pair.id not in ids)


def level_values(levels: Levels) -> dict[str, Value]:
    """The signal powers of a pair of levels, and of t - 1, which only decoys ask for when s is lower."""
    return {"abar_t": levels.value("t"), "abar_s": levels.value("s"), "abar_prev": previous(levels)}


def level_weights(levels: Levels) -> dict[str, Fraction]:
    """How many roundings each of these signal powers holds."""
    return {"abar_t": levels.weight("t"), "abar_s": levels.weight("s"), "abar_prev": levels.weight("s")}


def previous(levels: Levels) -> Value:
    """The signal power of level t - 1; for exact levels with a stride, a number between the two."""
    if levels.schedule is not None:
        return named(levels.schedule, levels.t - 1, 0).value("t")
    if "strided" in levels.flags:
        return (3 * levels.abar_t + levels.abar_s) / 4
    return levels.abar_s


def points(
    pairs: Sequence[Levels],
    extra: Mapping[str, Value] | None = None,
    suffix: str = "",
    flags: Sequence[str] = (),
    given: Mapping[str, str] | None = None,
) -> tuple[Point, ...]:
    """A point for each pair of levels, with the common values of data and noise and with extra ones."""
    known: dict[str, Value] = {**VALUES, **(extra or {})}
    return tuple(
        Point(
            pair.id + suffix,
            (*pair.flags, *flags),
            {**known, **level_values(pair)},
            partial(_merged, pair, given or {}),
            partial(level_weights, pair),
        )
        for pair in pairs
    )


def _merged(pair: Levels, given: Mapping[str, str]) -> dict[str, Any]:
    return {**pair.given(), **given}


def eta_points(pairs: Sequence[Levels] = STRIDED) -> Iterator[Point]:
    """The pairs of levels at each eta."""
    for eta, flag in ETAS.items():
        yield from points(pairs, {"eta": Fraction(eta)}, f"-eta{eta.replace('/', '_')}", (flag,))
