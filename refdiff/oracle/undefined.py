"""Coefficients that are not numbers: which root or logarithm of which quantity is undefined exactly there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdiff.oracle.hypotheses import Case, environment
from refdiff.oracle.report import Diagnosis

Array = NDArray[Any]


def undefined(case: Case) -> Diagnosis | None:
    """The diagnosis where some points have NaN and the others are right; None where there is none."""
    nan = np.isnan(case.got).any(0) & np.isfinite(case.want.values).all(0) & case.usable
    if not nan.any():
        return None
    for family, words, pattern in reasons(case):
        if (pattern[case.usable] == nan[case.usable]).all():
            where = f"answers NaN at {int(nan.sum())} of {int(case.usable.sum())} points"
            return Diagnosis(family, f"{words}: {where}")
    return None


def reasons(case: Case) -> Iterator[tuple[str, str, Array]]:
    """Undefined quantities, each with the points at which it is undefined."""
    env = environment(case)
    if "z" in case.want.states:
        std = case.want.values[case.want.states.index("z")].astype(float)
        yield from of_the_noise(case, std)
    at_zero = env["abar_t"] == 0
    yield "parameterization", "the quotient by sqrt(alpha_bar_t) = 0, where the level has no signal", at_zero
    yield "index", "the quotient by 1 - alpha_bar = 0 in a step that ends at data", case.points.s == 0


def of_the_noise(case: Case, std: Array) -> Iterator[tuple[str, str, Array]]:
    """What is wrong with the standard deviation of the step's noise where there is any."""
    noisy = std != 0
    with np.errstate(all="ignore"):
        negative = noisy & (np.log(std**2) < 0)
    channel = case.points.scalars.get("f")
    if case.dialect.variance == "learned" and channel is not None:
        words = "the square root of the log-variance channel itself: sqrt(f) instead of exp(f / 2)"
        yield "variance", words, noisy & (channel < 0)
    yield "variance", "the square root of a log-variance: sqrt(log v) instead of exp(log(v) / 2)", negative
    yield "variance", "the logarithm or quotient of a variance that is 0 in the last step", ~noisy
