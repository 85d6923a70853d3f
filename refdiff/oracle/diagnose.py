"""Which mistake measured coefficients are."""

from __future__ import annotations

from refdiff.oracle.calls import TargetError
from refdiff.oracle.checks.registry import Finding, fail
from refdiff.oracle.compare import Comparison
from refdiff.oracle.expected import Expected
from refdiff.oracle.probe import Probe
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session


def coefficients(session: Session, name: str, found: Probe, want: Expected, decided: Comparison) -> Diagnosis:
    return Diagnosis("unknown", "no known mistake fits")


def raised(session: Session, name: str, found: Probe, want: Expected, error: TargetError) -> Diagnosis:
    return Diagnosis(error.family, str(error))


def not_affine(session: Session, name: str, found: Probe, index: int, tolerance: float) -> Finding:
    return fail("convention", "not affine")
