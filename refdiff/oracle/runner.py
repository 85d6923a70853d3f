"""check(target) -> Report: every check that applies, each in its own try."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

import numpy as np
import torch

from refdiff.oracle.calls import Declined, TargetError
from refdiff.oracle.checks import CHECKS, Check
from refdiff.oracle.checks.registry import NotApplicable
from refdiff.oracle.report import Diagnosis, Report, Result
from refdiff.oracle.session import Session
from refdiff.oracle.settle import settle
from refdiff.oracle.target import Dialect


def check(
    target: Any,
    only: str | Iterable[str] | None = None,
    xfails: Mapping[str, str] | Iterable[str] | None = None,
) -> Report:
    """Find out whether an implementation agrees with the mathematics, and if not, which mistake it is.

    Args:
        target: a ``Target``, or its class.
        only: ids of checks, names of ports, or patterns of them; None: all.
        xfails: ids (or patterns) of checks that are expected to fail, with reasons where it is a mapping.

    Returns:
        Report; what the target does not offer is ``skip``.

    Raises:
        ValueError: a name in ``only`` or ``xfails`` that is no check.
    """
    target = target() if isinstance(target, type) else target
    chosen = select(only)
    reasons = (
        dict(xfails)
        if isinstance(xfails, Mapping)
        else dict.fromkeys(_listed(xfails) or (), "expected to fail")
    )
    for pattern in reasons:
        select((pattern,))
    dialect = getattr(target, "dialect", None) or Dialect()
    session = Session(target, dialect)
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        found = settle(dialect, [run(session, CHECKS[id]) for id in chosen])
    results = tuple(_expected(result, reasons) for result in found)
    name = str(getattr(target, "name", "") or type(target).__name__)
    notes = (*getattr(target, "notes", ()), *session.notes)
    return Report(name, dialect, results, notes, time.perf_counter() - started)


def select(only: str | Iterable[str] | None) -> tuple[str, ...]:
    """The ids of checks that names and patterns stand for."""
    patterns = _listed(only)
    if patterns is None:
        return tuple(CHECKS)
    found: set[str] = set()
    for pattern in patterns:
        matches = {
            id for id in CHECKS if id == pattern or id.partition(".")[0] == pattern or fnmatch(id, pattern)
        }
        if not matches:
            raise ValueError(f"only and xfails must name checks, got {pattern!r}")
        found |= matches
    return tuple(id for id in CHECKS if id in found)


def _listed(names: str | Iterable[str] | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    return (names,) if isinstance(names, str) else tuple(names)


def run(session: Session, check: Check) -> Result:
    """One check; whatever happens in it is its result."""
    missing = [port for port in check.needs if port not in session.offered]
    if missing:
        return Result(check.id, "skip", f"not offered: {', '.join(missing)}")
    started = time.perf_counter()
    try:
        # what is not finite is judged, not warned of
        with np.errstate(all="ignore"):
            finding = check.run(session)
        session.cache["finding", check.id] = finding
    except (NotApplicable, Declined) as reason:
        return Result(check.id, "skip", str(reason), seconds=time.perf_counter() - started)
    except TargetError as error:
        diagnosis = Diagnosis(error.family, str(error))
        return Result(
            check.id, "error", str(error), diagnosis=diagnosis, seconds=time.perf_counter() - started
        )
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        return Result(check.id, "error", message, seconds=time.perf_counter() - started)
    fields = {name: value for name, value in vars(finding).items() if name != "ok"}
    status = "pass" if finding.ok else "fail"
    return Result(check.id, status, seconds=time.perf_counter() - started, **fields)


def _expected(result: Result, reasons: Mapping[str, str]) -> Result:
    reason = next((text for pattern, text in reasons.items() if fnmatch(result.id, pattern)), None)
    if reason is None or result.status == "skip":
        return result
    status = "xfail" if result.status in ("fail", "error") else "xpass"
    return replace(result, status=status, message="; ".join(filter(None, (reason, result.message))))
