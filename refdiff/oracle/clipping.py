"""Whether an answer that is not affine is the one of a step whose x_0 is clipped."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdiff.oracle import formulas
from refdiff.oracle import points as where
from refdiff.oracle.probe import Probe, Rows
from refdiff.oracle.session import Session

Array = NDArray[Any]
BOUNDS = (1.0, 0.5, 2.0, 3.0, 4.0, 5.0, 10.0)
CLIPPED = {
    "predict_x0": ("out = x0",),
    "ddpm_step": (
        "mean = sqrt(abar_s)*beta_t/(1 - abar_t)*x0 + sqrt(alpha_t)*(1 - abar_s)/(1 - abar_t)*x\n{variance}\n"
        "out = mean + last*sqrt(variance)*z",
    ),
    "guided_mean": (
        "mean = sqrt(abar_s)*beta_t/(1 - abar_t)*x0 + sqrt(alpha_t)*(1 - abar_s)/(1 - abar_t)*x\n{variance}\n"
        "out = mean + scale*variance*g",
    ),
    "ddim_step": tuple(
        "sigma = eta*sqrt((1 - abar_s)/(1 - abar_t)*(1 - abar_t/abar_s))\n"
        f"{again}out = sqrt(abar_s)*x0 + sqrt(1 - abar_s - sigma**2)*e + sigma*z"
        for again in ("", "e = (x - sqrt(abar_t)*x0)/sqrt(1 - abar_t)\n")
    ),
}
FROM_OUTPUT = {
    "eps": "x0 = (x - sqrt(1 - abar_t)*e)/sqrt(abar_t)",
    "x_0": "x0 = e\ne = (x - sqrt(abar_t)*x0)/sqrt(1 - abar_t)",
    "v": "x0 = sqrt(abar_t)*x - sqrt(1 - abar_t)*e\ne = sqrt(1 - abar_t)*x + sqrt(abar_t)*e",
    "score": "x0 = (x + (1 - abar_t)*e)/sqrt(abar_t)\ne = -sqrt(1 - abar_t)*e",
}


def predictions(session: Session, name: str, found: Probe, bound: float) -> list[Array]:
    """The answers to the two generic rows of every point, (P, 2, sample), with x_0 clipped."""
    port = formulas.PORTS[name]
    rows = Rows(port, found.layout)
    kind = "eps" if name == "predict_x0" else session.dialect.parameterization
    made = where.scalars(session.declared, found.points, first=session.dialect.alpha_bar_0 == "first")
    scalars = {key: value.astype(float)[:, None, None] for key, value in made.items()}
    states = {}
    for argument in rows.arguments:
        value = rows.block(argument)[-2:].flatten(1).numpy()[None]
        if argument == port.noise and not np.any(np.nan_to_num(found.argued) != 0):
            value = np.zeros_like(value)
        states[port.states[argument][0]] = value
    variance = formulas.VARIANCE[session.dialect.variance]
    results = []
    for template in CLIPPED[name]:
        clip = "x0 = minimum(maximum(x0, -bound), bound)"
        program = f"{FROM_OUTPUT[kind]}\n{clip}\n{template.replace('{variance}', variance)}"
        scope: dict[str, Any] = {
            "__builtins__": {},
            **formulas.FUNCTIONS,
            **scalars,
            **states,
            "bound": bound,
        }
        with np.errstate(all="ignore"):
            exec(formulas.compiled(program), scope)
        shape = (len(found.points), 2, int(np.prod(found.layout)))
        results.append(np.broadcast_to(scope["out"], shape))
    return results


def fits(session: Session, name: str, found: Probe, bound: float) -> bool:
    """Whether clipping x_0 to a bound explains the generic answers."""
    if name not in CLIPPED or session.dialect.space != "vp":
        return False
    ok = found.answered & np.isfinite(found.generic).all((1, 2))
    for want in predictions(session, name, found, bound):
        with np.errstate(all="ignore"):
            gap = np.abs(found.generic - want) / (1 + np.abs(want))
        if float(np.max(np.where(np.isfinite(gap), gap, 0.0)[ok], initial=0.0)) < 1e-3:
            return True
    return False
