"""Ports whose answer is affine in their arguments: coefficients, noise, independence of the batch, inputs,
dtype."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from refdiff.oracle import diagnose, formulas
from refdiff.oracle.checks.registry import Finding, check
from refdiff.oracle.compare import Comparison, compare
from refdiff.oracle.expected import ROUNDOFF, UNIT, Expected, expected
from refdiff.oracle.points import Points, Tables
from refdiff.oracle.probe import MODES, Probe
from refdiff.oracle.report import agreement
from refdiff.oracle.session import Session

PART = {"q_posterior": 0}


def measured(session: Session, name: str, points: Points | None = None, key: str = "main") -> Probe:
    """A port's coefficients (of the mean, where it answers a pair)."""
    how = {"part": PART[name]} if name in PART else {}
    return session.probe(name, points, key, **how)


def outcome(session: Session, name: str) -> tuple[str, Probe, Expected, Comparison]:
    """The comparison with the declared tables, or with the target's own where only those agree."""
    return session.once(("outcome", name), lambda: _outcome(session, name))  # type: ignore[no-any-return]


def _outcome(session: Session, name: str) -> tuple[str, Probe, Expected, Comparison]:
    found = measured(session, name)
    first = None
    for source, table in session.candidates.items():
        want = expected(formulas.PORTS[name], session.dialect, table, found.points)
        decided = _compared(session, name, found, want, table)
        first = first or (source, found, want, decided)
        if decided.ok:
            return source, found, want, decided
    assert first is not None
    return first


def _compared(session: Session, name: str, found: Probe, want: Expected, table: Tables) -> Comparison:
    def scan() -> tuple[Any, Expected]:
        line = measured(session, name, session.scan(name), "scan")
        there = expected(formulas.PORTS[name], session.dialect, table, line.points)
        # without levels it is the scalars that may be rounded
        return line.values, replace(there, tables=None) if name in formulas.TIMELESS else there

    return compare(found.values, want, found.answered, session.dialect, scan)


def coefficients(session: Session, name: str) -> Finding:
    """The coefficients agree with the closed form at every point."""
    source, found, want, decided = outcome(session, name)
    if len(found.errors) == len(found.points):
        raise next(iter(found.errors.values()))
    line = said(session, source, found)
    fields = figures(found, want, decided)
    asked = asking(name, found, decided)
    if found.errors:
        index, error = next(iter(found.errors.items()))
        diagnosis = diagnose.raised(session, name, found, want, error)
        where = f"{error} at {found.points.describe(index)}"
        return Finding(False, f"{line}; {where}" if line else where, diagnosis, asked=asked)
    if decided.ok:
        return Finding(True, line, precision=decided.precision, **fields)
    diagnosis = diagnose.coefficients(session, name, found, want, decided)
    return Finding(False, line, diagnosis, asked=asked, **fields)


def said(session: Session, source: str, found: Probe) -> str:
    """What the line says about how it was measured."""
    notes = []
    if source != "declared":
        notes.append(f"evaluated with the target's own {source}, which are not the declared ones")
    if found.mode != MODES[0] and session.dialect.batched_t:
        notes.append(f"a batch of different levels was not taken; asked with {found.mode}")
    return "; ".join(notes)


def asking(name: str, found: Probe, decided: Comparison) -> str:
    """The question behind the worst figure."""
    point = ", ".join(f"{key}={value:g}" for key, value in found.points.describe(decided.point).items())
    return f"{name}: coefficient of {argument(name, decided.row)} at {point}"


def argument(name: str, row: int) -> str:
    """The argument whose coefficient a row holds."""
    port = formulas.PORTS[name]
    return [arg for arg in port.arguments if arg in port.states][row]


def figures(found: Probe, want: Expected, decided: Comparison) -> dict[str, Any]:
    """Error, tolerance and agreement at the worst point."""
    got = float(found.values[decided.row, decided.point])
    wanted = float(want.values[decided.row, decided.point])
    unit = UNIT["float32"] if decided.precision == "float32" else ROUNDOFF
    digits, ulps = agreement(got, wanted, unit)
    return {
        "error": decided.error,
        "tolerance": decided.tolerance,
        "worst": found.points.describe(decided.point) | {"coefficient": want.states[decided.row]},
        "got": got,
        "wanted": wanted,
        "digits": digits,
        "ulps": ulps,
    }


for _name in formulas.PORTS:
    check(f"{_name}.coefficients", _name)(partial(coefficients, name=_name))
