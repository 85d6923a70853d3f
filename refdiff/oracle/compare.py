"""Measured against expected: which class of precision explains the difference, if any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdiff.oracle.expected import UNIT, Expected
from refdiff.oracle.target import Dialect

Array = NDArray[Any]
# the median size of the second difference of independent normal errors: 0.6745 times its deviation, sqrt(6)
SECOND_DIFFERENCE = 0.6745 * 6.0**0.5
# rounding to float32 of a well-conditioned number errs by about a quarter of the unit roundoff's bound
ROUGH = 2.0**-6


@dataclass(frozen=True)
class Comparison:
    """The outcome for one set of coefficients.

    Args:
        ok: whether a precision that is accepted explains every difference.
        precision: the class that does: float64, float32 tables, float32; None if none does.
        row, point: indices of the worst coefficient.
        error, tolerance: of the worst coefficient.
        failing: which points fail, (P,).
        rows: which rows fail, (states,).
        systematic: small enough for float32, but not random.
    """

    ok: bool
    precision: str | None
    row: int
    point: int
    error: float
    tolerance: float
    failing: Array
    rows: Array
    systematic: bool = False


def compare(
    got: Array,
    want: Expected,
    usable: Array,
    dialect: Dialect,
    scan: Callable[[], tuple[Array, Expected]] | None,
) -> Comparison:
    """Decide in which class a set of coefficients agrees.

    Args:
        got: measured coefficients, (states, P).
        want: expected ones.
        usable: points with an answer, (P,).
        dialect: its dtype is the one in which the target works; its tables, what precision they must have.
        scan: measures consecutive levels, asked when only float32 can explain the difference.
    """
    finite = np.isfinite(want.values)
    error = np.where(finite & usable, np.abs(got - want.values).astype(float), 0.0)
    error = np.where(np.isnan(error), np.inf, error)
    coarse = np.nan_to_num(want.tolerance(UNIT["float32"]).astype(float), nan=np.inf)
    fine = np.nan_to_num(want.tolerance(UNIT["float64"]).astype(float), nan=np.inf)
    dtype = dialect.dtype
    native = coarse if dtype == "float32" else fine
    if _within(error, native):
        return _outcome(True, "float32" if dtype == "float32" else "float64", error, native)
    if dtype == "float32" or not _within(error, coarse):
        return _outcome(False, None, error, _explaining(error, fine, coarse))
    if scan is not None and dialect.tables != "float64" and is_rough(*scan()):
        return _outcome(True, "float32 tables", error, coarse)
    return _outcome(False, None, error, fine, systematic=True)


def _within(error: Array, tolerance: Array) -> bool:
    return bool((error <= tolerance).all())


def _explaining(error: Array, fine: Array, coarse: Array) -> Array:
    """Blame float32 only where something else is in float32."""
    return fine if float(np.median(error / np.maximum(fine, 1e-300))) <= 1 else coarse


def _outcome(
    ok: bool, precision: str | None, error: Array, tolerance: Array, systematic: bool = False
) -> Comparison:
    ratio = error / np.maximum(tolerance, np.finfo(float).tiny)
    row, point = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    wrong = ratio > 1
    return Comparison(
        ok,
        precision,
        int(row),
        int(point),
        float(error[row, point]),
        float(tolerance[row, point]),
        np.asarray(wrong.any(0)),
        np.asarray(wrong.any(1)),
        systematic,
    )


def is_rough(got: Array, want: Expected, unit: float = UNIT["float32"]) -> bool:
    """Whether errors on consecutive levels look like rounding: at most levels they jump to the next."""
    with np.errstate(all="ignore"):
        scale = want.local if want.tables is None else np.where(want.tables > 0, want.tables, want.local)
        units = (got - want.values).astype(float) / (unit * scale.astype(float))
    return rough_rows(units)


def rough_rows(units: Array) -> bool:
    """Whether errors on neighbouring levels, in units of float32's roundoff, jump in some row."""
    for row in units:
        if len(row) < 8:
            # too few levels to tell rounding from a formula
            return True
        jumps = np.diff(row, 2)
        jumps = jumps[np.isfinite(jumps)]
        if len(jumps) and np.median(np.abs(jumps)) / SECOND_DIFFERENCE > ROUGH:
            return True
    return False
