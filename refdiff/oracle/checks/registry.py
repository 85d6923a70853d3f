"""A check: a permanent id, the ports that it needs, and a function of a session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session


@dataclass(frozen=True)
class Finding:
    """What a check found: ok, or not, and the fields of a result."""

    ok: bool
    message: str = ""
    diagnosis: Diagnosis | None = None
    error: float | None = None
    tolerance: float | None = None
    worst: dict[str, Any] | None = None
    asked: str = ""
    got: Any = None
    wanted: Any = None
    digits: float | None = None
    ulps: float | None = None
    precision: str | None = None


class NotApplicable(Exception):  # noqa: N818  (it is no error)
    """A check does not apply to this target, for the reason given."""


Function = Callable[[Session], Finding]


@dataclass(frozen=True)
class Check:
    """One line of every report."""

    id: str
    needs: tuple[str, ...]
    run: Function


CHECKS: dict[str, Check] = {}


def check(id: str, *needs: str) -> Callable[[Function], Function]:
    """Register a check; it needs the port of its id unless others are named."""

    def add(function: Function) -> Function:
        if id in CHECKS:
            raise ValueError(f"check {id} exists twice")
        CHECKS[id] = Check(id, needs or (id.partition(".")[0],), function)
        return function

    return add


def fail(family: str, message: str, **fields: Any) -> Finding:
    """A failure whose diagnosis is known where it is found."""
    given = {name: fields.pop(name) for name in ("formula", "dialect", "also") if name in fields}
    return Finding(False, fields.pop("line", ""), Diagnosis(family, message, **given), **fields)
