"""What a check found, as data, JSON and text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from refdiff.oracle.target import Dialect

STATUSES = ("pass", "fail", "skip", "error", "xfail", "xpass")
# ports that are named one by one when they are not offered
MOST = 12


@dataclass(frozen=True)
class Diagnosis:
    """Which mistake it is.

    Args:
        family: schedule, index, variance, sqrt, sign, parameterization, noise-at-t0, precision, loss-weight,
            likelihood, guidance, data-scaling, state-broadcast, discretization, convention, or unknown.
        message: in words, with the wrong form and the right one.
        formula: the formula that fits what was measured.
        dialect: the dialect that would make the check pass.
        digits: how many digits of the measurements the formula explains.
        also: other families that the same mistake may be counted under.
        decoy: the wrong form among the derivations' that it is, as ``formula id/decoy id``.
        citation: where that form is known from.
    """

    family: str
    message: str
    formula: str | None = None
    dialect: Dialect | None = None
    digits: float | None = None
    also: tuple[str, ...] = ()
    decoy: str | None = None
    citation: str = ""

    @property
    def families(self) -> tuple[str, ...]:
        """The family; for a convention also the families of its topic."""
        return (self.family, *self.also) if self.family == "convention" else (self.family,)

    def __str__(self) -> str:
        fits = "" if self.digits is None else f" (fits to {self.digits:.0f} digits)"
        passes = "" if self.dialect is None else f"; {self.dialect!r} would make it pass"
        known = "" if self.decoy is None else f"; decoy {self.decoy}"
        seen = f", seen in {self.citation}" if self.citation else ""
        return f"[{self.family}] {self.message}{fits}{passes}{known}{seen}"

    def to_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "family": self.family,
            "message": self.message,
            "formula": self.formula,
            "dialect": None if self.dialect is None else repr(self.dialect),
            "digits": self.digits,
            "also": list(self.also),
            "decoy": self.decoy,
            "citation": self.citation,
        }


@dataclass(frozen=True)
class Result:
    """One line of a report.

    Args:
        id: permanent id of the check, ``port.property``.
        status: one of pass, fail, skip, error, xfail, xpass.
        message: what was found, in words.
        error, tolerance: of the worst point, in the same unit.
        worst: the point where it is worst.
        diagnosis: which mistake it is, where one is found.
        asked, got, wanted: of the worst point.
        digits, ulps: agreement of got with wanted.
        precision: the class of precision that the measurements have.
        seconds: time taken.
    """

    id: str
    status: str
    message: str = ""
    error: float | None = None
    tolerance: float | None = None
    worst: dict[str, Any] | None = None
    diagnosis: Diagnosis | None = None
    asked: str = ""
    got: Any = None
    wanted: Any = None
    digits: float | None = None
    ulps: float | None = None
    precision: str | None = None
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The same as plain data; what is not finite is a string."""
        data = {name: _plain(value) for name, value in vars(self).items()}
        data["diagnosis"] = None if self.diagnosis is None else self.diagnosis.to_json()
        return data

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        """The line, and below it the figures and the diagnosis where there is something to say."""
        precision = f" [{self.precision}]" if self.precision else ""
        yield f"{self.status.upper():5}  {self.id}{precision}" + (f": {self.message}" if self.message else "")
        if self.status in ("fail", "xfail") and self.asked:
            yield f"         asked {self.asked}"
        if self.status in ("fail", "xfail") and self.wanted is not None:
            yield f"         got {_show(self.got)}, wanted {_show(self.wanted)}{self._agreement()}"
        if self.diagnosis is not None:
            yield f"         {self.diagnosis}"

    def _agreement(self) -> str:
        parts = []
        if self.digits is not None:
            parts.append(f"{self.digits:.1f} digits")
        if self.ulps is not None:
            parts.append(f"{self.ulps:.3g} ulps")
        if self.error is not None and self.tolerance is not None:
            parts.append(f"error {self.error:.3g}, tolerance {self.tolerance:.3g}")
        return f" ({'; '.join(parts)})" if parts else ""


@dataclass(frozen=True)
class Report:
    """Everything that was found about one target."""

    target: str
    dialect: Dialect
    results: tuple[Result, ...]
    notes: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    @property
    def ok(self) -> bool:
        """Whether something was checked, nothing failed and nothing errored."""
        statuses = {result.status for result in self.results}
        return bool(statuses - {"skip"}) and not statuses & {"fail", "error"}

    @property
    def summary(self) -> dict[str, int]:
        """How many results have each status."""
        return {status: sum(result.status == status for result in self.results) for status in STATUSES}

    def __getitem__(self, id: str) -> Result:
        for result in self.results:
            if result.id == id:
                return result
        raise KeyError(id)

    @property
    def failures(self) -> tuple[Result, ...]:
        """The results that failed or errored."""
        return tuple(result for result in self.results if result.status in ("fail", "error"))

    @property
    def families(self) -> tuple[str, ...]:
        """The families of mistakes that were diagnosed, each once; a convention counts under its topic
        too."""
        named = [result.diagnosis for result in self.failures if result.diagnosis is not None]
        found = [family for one in named for family in one.families]
        return tuple(dict.fromkeys(found))

    @property
    def suggested(self) -> tuple[str, int] | None:
        """The dialect that several failures name, as text, and how many do; None where no two agree."""
        named = Counter(
            repr(result.diagnosis.dialect)
            for result in self.failures
            if result.diagnosis is not None and result.diagnosis.dialect is not None
        )
        best = named.most_common(1)
        return best[0] if best and best[0][1] > 1 else None

    def to_json(self) -> dict[str, Any]:
        """The report as plain data, with a ``summary`` of counts."""
        summary: dict[str, Any] = {"ok": self.ok, "checks": len(self.results), **self.summary}
        return {
            "target": self.target,
            "dialect": repr(self.dialect),
            "ok": self.ok,
            "suggested": None if self.suggested is None else self.suggested[0],
            "summary": summary,
            "notes": list(self.notes),
            "results": [result.to_json() for result in self.results],
            "seconds": self.seconds,
        }

    def __str__(self) -> str:
        lines = [f"{self.target or 'target'}, {self.dialect!r}", *(f"note: {note}" for note in self.notes)]
        order = ("pass", "xfail", "xpass", "skip", "error", "fail")
        for result in sorted(self.results, key=lambda result: order.index(result.status)):
            if result.status != "skip":
                lines.extend(result.lines())
        lines.extend(self._skipped())
        if self.suggested is not None:
            dialect, named = self.suggested
            lines.append(f"try first: {dialect}, which {named} of {len(self.failures)} failures name")
        counts = ", ".join(f"{count} {status}" for status, count in self.summary.items() if count)
        if all(result.status == "skip" for result in self.results):
            counts = "nothing was checked"
        lines.append(f"{'ok' if self.ok else 'NOT ok'}: {counts}")
        return "\n".join(lines)

    def _skipped(self) -> Iterator[str]:
        """The ports that are missing, then the checks that do not apply for another reason."""
        prefix = "not offered: "
        skipped = [result for result in self.results if result.status == "skip"]
        missing = [
            result.message.removeprefix(prefix) for result in skipped if result.message.startswith(prefix)
        ]
        if ports := dict.fromkeys(port for names in missing for port in names.split(", ")):
            yield f"not offered, so not checked: {_listed(list(ports))}"
        for result in skipped:
            if not result.message.startswith(prefix):
                yield f"not checked: {result.id}: {result.message}"


def _listed(names: list[str]) -> str:
    """A list in words, cut where it would be longer than the report."""
    rest = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + rest


def agreement(got: float, wanted: float, unit: float) -> tuple[float | None, float | None]:
    """Digits and ulps in which two numbers agree, for a unit roundoff; None where they cannot be said."""
    if not (math.isfinite(got) and math.isfinite(wanted)):
        return None, None
    if got == wanted:
        return 16.0, 0.0
    if wanted == 0:
        return 0.0, None
    relative = abs(got - wanted) / abs(wanted)
    return max(0.0, -math.log10(relative)), relative / (2 * unit)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


def _show(value: Any) -> str:
    return f"{value:.17g}" if isinstance(value, float) else str(value)
