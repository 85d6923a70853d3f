"""Finds out whether an implementation agrees with the mathematics, and if not, which mistake it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from refdiff.oracle.report import Diagnosis, Report, Result
from refdiff.oracle.target import Dialect, Target

__all__ = ["Diagnosis", "Dialect", "Report", "Result", "Target", "check", "parametrize_with_checks"]


def check(
    target: Any,
    only: str | Iterable[str] | None = None,
    xfails: Mapping[str, str] | Iterable[str] | None = None,
) -> Report:
    """Run every check that a target offers ports for; see ``refdiff.oracle.runner.check``."""
    from refdiff.oracle import runner

    return runner.check(target, only, xfails)


def parametrize_with_checks(targets: Iterable[Any], xfails: Mapping[str, str] | None = None) -> Any:
    """A pytest decorator: the test is called with each (target, check id); see ``refdiff.oracle.testing``."""
    from refdiff.oracle import testing

    return testing.parametrize_with_checks(targets, xfails)
