"""The ladder of noise levels of annealed Langevin dynamics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdiff.oracle.calls import numbers
from refdiff.oracle.checks.registry import Finding, check, fail
from refdiff.oracle.expected import UNIT
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session

Array = NDArray[Any]
FIRST, LAST, COUNT = 2.0, 0.01, 7


def _ladder(session: Session) -> Array:
    given = {"first": FIRST, "last": LAST, "count": COUNT}
    call = session.once("noise_scales", lambda: numbers(session.caller("noise_scales", given).value))
    return np.asarray(call.values.numpy(), dtype=float)


@check("noise_scales.count")
def scales_count(session: Session) -> Finding:
    """As many levels as are asked for, in one dimension."""
    got = _ladder(session)
    if got.shape == (COUNT,):
        return Finding(True)
    also = ("index", "state-broadcast")
    return fail(
        "schedule", f"shape {got.shape}, wanted ({COUNT},)", also=also, got=list(got.shape), wanted=[COUNT]
    )


@check("noise_scales.values")
def scales_values(session: Session) -> Finding:
    """Levels in geometric progression from the first to the last, or the same from the last to the first."""
    got = _ladder(session)
    if got.ndim != 1 or not np.isfinite(got).all():
        return fail("schedule", "not a list of finite numbers")
    u = np.arange(COUNT) / (COUNT - 1)
    want = FIRST * (LAST / FIRST) ** u
    rising = len(got) > 1 and got[0] < got[-1]
    ordered = got[::-1] if rising else got
    note = "ascending" if rising else "descending"
    if ordered.shape == want.shape:
        gap = np.abs(ordered / want - 1)
        fields: dict[str, Any] = {"error": float(gap.max()), "tolerance": 16 * UNIT["float32"]}
        if gap.max() <= 64 * UNIT["float64"]:
            return Finding(True, note, precision="float64", **fields)
        if gap.max() <= 16 * UNIT["float32"]:
            return Finding(True, note, precision="float32 tables", **fields)
    return Finding(False, "", _other_ladder(ordered), got=ordered[:4].tolist(), wanted=want[:4].tolist())


def _other_ladder(got: Array) -> Diagnosis:
    n = len(got)
    u, ratio = np.arange(n) / max(n - 1, 1), LAST / FIRST
    guesses = (
        ("schedule", "linear, not geometric", FIRST + (LAST - FIRST) * u),
        (
            "schedule",
            "the last level is missing: the exponent is i / L, not i / (L - 1)",
            FIRST * ratio ** (np.arange(n) / n),
        ),
        (
            "schedule",
            "the first level is missing: the exponent is (i + 1) / L",
            FIRST * ratio ** ((np.arange(n) + 1) / n),
        ),
        (
            "schedule",
            "one level too many: the ladder goes beyond its end",
            FIRST * ratio ** (np.arange(n) / (n - 2)),
        ),
        (
            "schedule",
            "the levels are given by their roots in equal steps",
            (FIRST**0.5 + (LAST**0.5 - FIRST**0.5) * u) ** 2,
        ),
        (
            "schedule",
            "the inverses of the levels are in equal steps",
            1 / (1 / FIRST + (1 / LAST - 1 / FIRST) * u),
        ),
        ("sqrt", "the variances, not the standard deviations", (FIRST * ratio**u) ** 2),
        ("sqrt", "the roots of the levels", np.sqrt(FIRST * ratio**u)),
        ("schedule", "the logarithms of the levels", np.log(FIRST * ratio**u)),
        (
            "schedule",
            "Karras' levels with rho = 7",
            (FIRST ** (1 / 7) + (LAST ** (1 / 7) - FIRST ** (1 / 7)) * u) ** 7,
        ),
        ("schedule", "a cosine between the ends", LAST + (FIRST - LAST) * (1 + np.cos(np.pi * u)) / 2),
        ("schedule", "powers of two from the first level", FIRST * 0.5 ** np.arange(n)),
        ("schedule", "powers of ten from the first level", FIRST * 0.1 ** np.arange(n)),
    )
    for family, words, table in guesses:
        for one in (table, table[::-1]):
            if np.abs(got - one).max() <= 1e-6 * np.abs(one).max():
                return Diagnosis(family, words, also=("schedule",))
    steps = got[1:] / got[:-1]
    if len(steps) > 1 and np.ptp(steps) <= 1e-6 * steps.max():
        return Diagnosis("schedule", f"geometric, from {got[0]:.6g} to {got[-1]:.6g}: not the asked ends")
    return Diagnosis("schedule", "not in geometric progression: no known mistake fits")
