"""The checks as pytest parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch
from typing import Any

from refdiff.oracle.report import Result
from refdiff.oracle.runner import check, select
from refdiff.oracle.target import offered


class Line:
    """One check of one target: call it to run it; it raises AssertionError with the report's line."""

    def __init__(self, target: Any, id: str) -> None:
        self.target, self.id = target, id

    def __call__(self) -> Result:
        result = check(self.target, only=self.id).results[0]
        if result.status in ("fail", "error"):
            raise AssertionError(str(result))
        return result

    def __repr__(self) -> str:
        return f"{name_of(self.target)}-{self.id}"


def name_of(target: Any) -> str:
    """What a target is called."""
    return str(getattr(target, "name", "") or getattr(target, "__name__", type(target).__name__))


def lines(targets: Iterable[Any]) -> Iterator[Line]:
    """Every check whose ports each target offers."""
    from refdiff.oracle.checks import CHECKS

    for target in targets:
        target = target() if isinstance(target, type) else target
        has = set(offered(target))
        for id in select(None):
            if set(CHECKS[id].needs) <= has:
                yield Line(target, id)


def parametrize_with_checks(targets: Iterable[Any], xfails: Mapping[str, str] | None = None) -> Any:
    """A pytest decorator that calls a test with each line: ``def test(line): line()``.

    Args:
        targets: targets or their classes.
        xfails: ids (or patterns) of checks that are expected to fail, with reasons; strict: a pass is a
            failure.
    """
    import pytest

    marked = []
    for line in lines(targets):
        reason = next((text for pattern, text in (xfails or {}).items() if fnmatch(line.id, pattern)), None)
        marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True)]
        marked.append(pytest.param(line, id=repr(line), marks=marks))
    return pytest.mark.parametrize("line", marked)
