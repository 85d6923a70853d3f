"""The levels that an n-step sampler visits: how many, in which order, in range, down to data, by which
rule."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from refdiff.oracle.calls import TargetError, numbers
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session
from refdiff.schedule import Spacing, subsequence

Array = NDArray[np.int64]
# 53: arange by T // n has more entries; 61: arange by -T / n in floats has one more, below data
COUNTS = (1, 2, 3, 5, 7, 10, 20, 30, 50, 53, 61, 100, 250, 333, 999)
SPACINGS = ("leading", "linspace", "trailing", "quadratic")


def counts(session: Session) -> tuple[int, ...]:
    """Numbers of steps to ask for: divisors of T and others, one step, and all."""
    T = session.T
    found = {n for n in COUNTS if n <= T} | {T}
    spacing, offset = session.dialect.spacing, session.dialect.offset
    return tuple(sorted(n for n in found if spacing is None or _in_domain(T, n, spacing, offset)))


def _in_domain(T: int, n: int, spacing: str, offset: int) -> bool:
    try:
        subsequence(T, n, spacing, offset)  # type: ignore[arg-type]
    except ValueError:
        # a rule with an offset leaves the table for the largest n: there the end may be clamped
        return n == T
    return True


def leaves(session: Session, n: int) -> bool:
    """Whether the declared rule leaves the table for n, so that its end may be clamped."""
    declared = session.dialect.spacing
    try:
        return declared is not None and not subsequence(session.T, n, declared, session.dialect.offset)  # type: ignore[arg-type]
    except ValueError:
        return True


def lists(session: Session) -> dict[int, Array | None]:
    """The levels for each number of steps, in our time, None where it is refused; another failure raises."""
    return session.once("timesteps", lambda: {n: _levels(session, n) for n in counts(session)})  # type: ignore[no-any-return]


def _levels(session: Session, n: int) -> Array | None:
    try:
        found = numbers(session.caller("timesteps", {"n": n}).value).values
    except TargetError as error:
        if error.kind == "raised" and str(error).startswith("ValueError"):
            return None
        raise TargetError(error.kind, f"n = {n}: {error}", error.family) from error
    if found.dim() != 1:
        raise TargetError(
            "shape", f"n = {n}: shape {tuple(found.shape)}, wanted ({n + 1},)", "state-broadcast"
        )
    values = found.numpy()
    if not np.isfinite(values).all() or (values != np.round(values)).any():
        raise TargetError("type", f"n = {n}: levels are not whole numbers", "precision")
    return values.astype(np.int64) + (1 - session.dialect.index_origin)


def taken(session: Session) -> dict[int, Array]:
    """The lists that were not refused and hold something."""
    return {n: levels for n, levels in lists(session).items() if levels is not None and len(levels)}


@check("timesteps.count")
def count(session: Session) -> Finding:
    """n + 1 levels for every n."""
    found = taken(session)
    empty = [n for n, levels in lists(session).items() if levels is not None and not len(levels)]
    if empty:
        return fail(
            "schedule", f"no levels for {empty[0]} steps", got=0, wanted=empty[0] + 1, worst={"n": empty[0]}
        )
    if not found:
        raise NotApplicable("every number of steps was refused")
    for n, levels in found.items():
        if len(levels) == n + 1:
            continue
        worst = {"n": n}
        fields = {"got": len(levels), "wanted": n + 1, "worst": worst, "asked": f"timesteps({n})"}
        if len(levels) == n and levels[-1] > 0 and all(len(other) == m for m, other in found.items()):
            return fail("index", f"{n} levels for {n} steps: the last step, to data, is missing", **fields)
        stride = session.T // n
        if len(levels) - 1 == len(range(0, session.T, stride)):
            message = f"{len(levels) - 1} steps where {n} were asked: a range by the stride T // n = {stride}"
            return fail("schedule", message, also=("index",), **fields)
        return fail(
            "schedule", f"{len(levels)} levels for {n} steps, wanted {n + 1}", also=("index",), **fields
        )
    return Finding(True, f"for n in {', '.join(map(str, found))}")


@check("timesteps.monotone")
def monotone(session: Session) -> Finding:
    """Levels descend strictly."""
    quadratic = session.dialect.spacing == "quadratic"
    for n, levels in taken(session).items():
        steps = np.diff(levels)
        if (steps < 0).all() or ((quadratic or leaves(session, n)) and (steps <= 0).all()):
            continue
        worst = {"n": n}
        if (steps > 0).all():
            return fail(
                "index",
                f"timesteps({n}) ascends from {levels[0]} to {levels[-1]}: wanted noisy to clean",
                worst=worst,
            )
        index = int(np.flatnonzero(steps >= 0)[0])
        pair = f"{levels[index]} then {levels[index + 1]}"
        if steps[index] == 0 and index == len(steps) - 1:
            return fail(
                "schedule",
                f"timesteps({n}) ends with a repeated level ({pair}), not at data",
                also=("index", "noise-at-t0"),
                worst=worst,
            )
        kind = "repeats a level" if steps[index] == 0 else "does not descend"
        return fail("index", f"timesteps({n}) {kind}: {pair}", also=("schedule",), worst=worst)
    return Finding(True)


@check("timesteps.range")
def in_range(session: Session) -> Finding:
    """Levels lie in 0..T, and the first is one that the schedule has."""
    for n, levels in taken(session).items():
        high, low = int(levels.max()), int(levels.min())
        if high > session.T:
            message = f"timesteps({n}) asks for level {high} of a table that ends at T = {session.T}"
            return fail("index", message, worst={"n": n}, got=high, wanted=session.T)
        if low < 0:
            other = 1 - session.dialect.index_origin
            return fail(
                "index",
                f"timesteps({n}) has the negative level {low}",
                worst={"n": n},
                dialect=session.dialect.but(index_origin=other),
            )
    return Finding(True)


@check("timesteps.first")
def first(session: Session) -> Finding:
    """The sampler starts where the declared rule starts: a model that never sees the noisiest level starts
    from noise
    that is not the data's."""
    declared = session.dialect.spacing
    if declared is None:
        raise NotApplicable("no spacing is declared")
    for n, levels in taken(session).items():
        want = int(expected(session.T, n, declared, session.dialect.offset)[0])
        if int(levels[0]) != want and want <= session.T:
            message = f"timesteps({n}) starts at level {levels[0]}; {declared} starts at {want}"
            return fail("index", message, also=("schedule",), worst={"n": n}, got=int(levels[0]), wanted=want)
    return Finding(True)


@check("timesteps.last")
def last(session: Session) -> Finding:
    """The last level is data."""
    for n, levels in taken(session).items():
        if levels[-1] != 0:
            message = f"timesteps({n}) ends at level {levels[-1]}, not at data: its noise stays"
            return fail(
                "schedule",
                message,
                also=("noise-at-t0", "index"),
                worst={"n": n},
                got=int(levels[-1]),
                wanted=0,
            )
    return Finding(True)


@check("timesteps.spacing")
def spacing(session: Session) -> Finding:
    """The levels follow the declared rule, or one of the known ones."""
    found = {n: levels for n, levels in taken(session).items() if len(levels) == n + 1}
    if not found:
        raise NotApplicable("no list has the right length")
    declared = session.dialect.spacing
    if declared is not None:
        wrong = _differing(session.T, found, declared, session.dialect.offset)
        if wrong is None:
            return Finding(True, declared)
        other = recognised(session.T, found)
        fields: dict[str, Any] = {
            "asked": f"timesteps({wrong})",
            "worst": {"n": wrong},
            "got": _short(found[wrong]),
        }
        fields["wanted"] = _short(expected(session.T, wrong, declared, session.dialect.offset))
        if other is None:
            message = f"not the rule {declared} with offset {session.dialect.offset}"
            return Finding(False, "", _off_by(session, found, wrong, message), **fields)
        dialect = session.dialect.but(spacing=other[0], offset=other[1])
        message = (
            f"the rule is {other[0]}, offset {other[1]}, not {declared}, offset {session.dialect.offset}"
        )
        return fail("convention", message, dialect=dialect, also=("schedule", "index"), **fields)
    other = recognised(session.T, found)
    if other is not None:
        return Finding(True, f"{other[0]}, offset {other[1]}")
    for n, levels in found.items():
        if n == session.T and not np.array_equal(levels, np.arange(session.T, -1, -1)):
            return fail(
                "index",
                f"timesteps(T) does not visit every level: {_short(levels)}",
                worst={"n": n},
                also=("schedule",),
            )
        if levels[0] < session.T * 0.4 and n > 1:
            message = (
                f"timesteps({n}) starts at level {levels[0]} of {session.T}: the noisiest are never visited"
            )
            return fail("schedule", message, worst={"n": n}, also=("index",))
    return Finding(True, "by none of the known rules; the levels descend to data")


def expected(T: int, n: int, rule: str, offset: int) -> Array:
    """The levels of a rule, the end clamped to the table."""
    spacing = cast(Spacing, rule)
    try:
        return np.array(subsequence(T, n, spacing, offset), dtype=np.int64)
    except ValueError:
        base = np.array(subsequence(T, n, spacing), dtype=np.int64)
        return np.append(np.clip(base[:-1] + offset, 1, T), 0)


def _differing(T: int, found: dict[int, Array], rule: str, offset: int) -> int | None:
    for n, levels in found.items():
        want = expected(T, n, rule, offset)
        if len(levels) != len(want) or bool((np.abs(levels - want) > ties(T, n, rule)).any()):
            return n
    return None


def ties(T: int, n: int, rule: str) -> Array:
    """1 where a level is a half before rounding, which libraries round either way (or truncate: then by
    0)."""
    if rule not in ("linspace", "trailing"):
        return np.zeros(n + 1, dtype=np.int64)
    i = np.arange(n)
    over = max(n - 1, 1) if rule == "linspace" else n
    twice = 2 * i * (T - 1 if rule == "linspace" else T)
    half = (twice % (2 * over)) == over
    if rule == "linspace":
        half = half[::-1]
    return np.append(half, False).astype(np.int64)


def recognised(T: int, found: dict[int, Array]) -> tuple[str, int] | None:
    """The rule and the offset that all lists follow."""
    for offset in (0, 1, -1):
        for rule in SPACINGS:
            if _differing(T, found, rule, offset) is None:
                return rule, offset
    return None


def _off_by(session: Session, found: dict[int, Array], n: int, message: str) -> Diagnosis:
    want = expected(session.T, n, str(session.dialect.spacing), session.dialect.offset)
    gap = np.unique(found[n][:-1] - want[:-1])
    if len(gap) == 1:
        return Diagnosis("index", f"{message}: every level is off by {gap[0]}", also=("schedule",))
    return Diagnosis("schedule", message, also=("index",))


def _short(levels: Array) -> str:
    text = [str(level) for level in levels]
    return ", ".join(text if len(text) <= 8 else [*text[:4], "...", *text[-3:]])
