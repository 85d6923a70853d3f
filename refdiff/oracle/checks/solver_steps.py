"""One step of a solver with a history: its local truncation error where the history is exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from refdiff.oracle import convergence as cv
from refdiff.oracle.calls import shaped
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.session import Session

Array = NDArray[Any]
SIZES = (0.4, 0.2, 0.1, 0.05)
# the levels before a step and its end, in steps: no two of the same size
PLACES = (-4.4, -2.6, -1.7, 0.0, 1.0)
ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24}


def error(session: Session, size: float, history: int) -> float:
    """The error of one step from the exact state, with exact outputs before it, in deviations."""
    law, dialect = cv.Gaussian(), session.dialect
    at = np.array(PLACES[len(PLACES) - history - 1 :]) * size
    scale, std = cv.levels(at, dialect.solver_space)
    growth = np.stack([np.exp(law.growth(0.0, value)) for value in at])
    x = scale.numpy()[:, None] * cv.MEAN + std.numpy()[:, None] * growth
    model = cv.Asked(law, dialect.parameterization, None, lambda: 0)
    levels = list(zip(scale.tolist(), std.tolist(), strict=True))
    outputs = np.stack([model.answer(x[i : i + 1], *levels[i]) for i in range(history)])
    state = torch.as_tensor(x[-2:-1])
    given = {"x": state, "scales": scale, "stds": std, "outputs": torch.as_tensor(outputs)}
    call = session.caller("solver_step", {**given, "noise": torch.zeros_like(state)})
    got = shaped(call.value, state.shape).values.numpy()
    return float(np.linalg.norm((got[0] - x[-1]) / float(std[-1])))


@check("solver_step.order", "solver_step")
def order(session: Session) -> Finding:
    """The error of a step falls with one power of the step more than the declared order."""
    declared = session.dialect.order
    history = min(declared or 2, len(PLACES) - 1)
    unit = ROUNDOFF[session.dialect.dtype]
    errors = [error(session, size, history) for size in SIZES]
    kept = [value for value in errors if value > cv.ABOVE * 4 * unit]
    if len(kept) < 3 or not np.isfinite(kept).all():
        raise NotApplicable("a step is as exact as rounding allows, or is not finite")
    found = cv.Order(tuple(round(1 / size) for size in SIZES[: len(kept)]), tuple(kept))
    value, wanted = found.value - 1, float(declared if declared is not None else round(found.value) - 1)
    fields: dict[str, Any] = {
        "got": value,
        "wanted": wanted,
        "error": abs(value - wanted),
        "tolerance": cv.WITHIN,
        "asked": f"order of a step with {history} outputs, all of them exact",
    }
    if abs(value - wanted) <= cv.WITHIN:
        return Finding(True, f"order {value:.2f}", **fields)
    message = f"a step with {history} exact outputs is of order {value:.2f}, not {wanted:.0f}"
    if value > wanted:
        dialect = session.dialect.but(order=round(value))
        return fail("convention", message, dialect=dialect, also=("discretization",), **fields)
    return fail("discretization", message, **fields)
