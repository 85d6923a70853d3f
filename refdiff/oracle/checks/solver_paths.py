r"""A solver with noise along one Brownian motion: how its paths approach each other.

On Gaussian data the last state is affine in the first state and in the noises. The noise of a step of N is
made of those of its two halves,

.. math:: z_i=\frac{\sqrt{v_{2i}-v_{2i+1}}\,z'_{2i}+\sqrt{v_{2i+1}-v_{2i+2}}\,z'_{2i+1}}
    {\sqrt{v_{2i}-v_{2i+2}}},\qquad v=\sigma^2,

so that both are increments of one Brownian motion, and the root mean square distance of the last states of N
and 2N steps is a number: nothing is sampled. Which integral of the motion over a step its noise is makes a
difference of first order alone, and with one noise a step no order is higher than 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdiff.oracle import convergence as cv
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.checks.solvers import (
    CONDITION,
    FEW_COUNTS,
    MORE,
    ROUNDOFF,
    draws_a_step,
    on_gaussian,
    precision,
    stochastic,
)
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session

Array = NDArray[Any]


@check("solve.strong_order", "solve")
def strong_order(session: Session) -> Finding:
    """Paths along one Brownian motion approach each other with the declared order of the step."""
    declared = session.dialect.strong_order
    if declared is None:
        raise NotApplicable("no strong_order is declared")
    if not stochastic(session):
        raise NotApplicable("no noise is used")
    if draws_a_step(session) > 1:
        raise NotApplicable(
            f"{draws_a_step(session)} noises a step: the port does not say which integrals of one Brownian "
            "motion they are"
        )
    found = _order(session, declared, np.asarray)
    if found is None:
        raise NotApplicable("paths are as close as rounding allows, or are not finite")
    value, off = found.value, found.value - declared
    fields: dict[str, Any] = {
        "got": value,
        "wanted": float(declared),
        "error": abs(off),
        "tolerance": cv.WITHIN,
        "asked": "order of the distance of paths of N and 2N steps along one Brownian motion",
        "worst": {"steps": found.steps[-1]},
    }
    message = f"the strong order is {found}, not the declared {declared:g}"
    if found.settled and off > MORE / 2:
        right = session.dialect.but(strong_order=round(2 * value) / 2)
        return fail("convention", message, dialect=right, also=("discretization",), **fields)
    slack = MORE if found.rounded and not found.settled else cv.WITHIN
    if off >= -slack:
        return Finding(True, f"strong order {found}", precision=precision(session), **fields)
    return Finding(False, message, _reason(session, declared, message), **fields)


def _reason(session: Session, declared: float, message: str) -> Diagnosis:
    """Why paths do not approach each other as they should."""
    unsigned = _order(session, declared, np.abs)
    if unsigned is not None and abs(unsigned.value - declared) <= cv.WITHIN:
        words = "noises have changing signs: they are no increments of one Brownian motion"
        return Diagnosis("sign", words)
    return Diagnosis("discretization", message)


def _order(session: Session, declared: float, seen: Callable[[Array], Array]) -> cv.Order | None:
    """The order of the distances.

    Args:
        seen: what is compared of the weights of the noises.
    """
    unit = ROUNDOFF[precision(session)]

    def floor(steps: int) -> float:
        return float(2 * unit * np.sqrt(2 * steps * CONDITION))

    return cv.measured(lambda steps: _distance(session, steps, seen), FEW_COUNTS, floor, declared)


def _distance(session: Session, steps: int, seen: Callable[[Array], Array]) -> float:
    """The root mean square distance of the last states of N and 2N steps, in deviations of the last level."""
    coarse, fine = on_gaussian(session, steps), on_gaussian(session, 2 * steps)
    last = float(coarse.std[-1])
    mean = coarse.out[1] - fine.out[1]
    slope = (coarse.out[0] - coarse.out[1]) - (fine.out[0] - fine.out[1])
    spread = (coarse.scale[0] ** 2 * cv.Gaussian.variance + coarse.std[0] ** 2) / coarse.std[0] ** 2
    whole, halves = (seen(run.out[2:] - run.out[1]) for run in (coarse, fine))
    v = (fine.std / fine.scale) ** 2
    share = np.sqrt((v[:-1] - v[1:]) / np.repeat(v[:-2:2] - v[2::2], 2))
    off = halves - np.repeat(whole, 2, axis=0) * share[:, None]
    return float(np.sqrt((mean**2 + slope**2 * spread + (off**2).sum(0)).sum())) / last
