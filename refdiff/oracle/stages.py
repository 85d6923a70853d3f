"""What the states and the steps of a solver are: their level, the weights of two stages, a known formula."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from refdiff.oracle import convergence as cv
from refdiff.oracle import histories
from refdiff.oracle.calls import Caller, TargetError
from refdiff.oracle.histories import Influence
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session
from refdiff.oracle.target import Dialect

Array = NDArray[Any]
CLOSE = 1e-9
# steps of a lower order at the end
LAST = 3


def implied(x: Array) -> tuple[float, float, float]:
    """Scale and std of a state where data are one point, and what they leave unexplained.

    Args:
        x: one deviation off, then the mean, then the mean with one draw each, (2 + M, D).
    """
    mean, moved, noises = x[1], x[0] - x[1], x[2:] - x[1]
    scale = float(mean @ cv.MEAN / (cv.MEAN @ cv.MEAN))
    stds = np.sqrt(moved**2 + (noises**2).sum(0))
    std = float(np.median(stds))
    size = max(abs(scale), abs(std), 1e-300)
    rest = max(float(np.abs(mean - scale * cv.MEAN).max()), float(np.ptp(stds))) / size
    return scale, std, rest if np.isfinite(rest) else float("inf")


def misplaced(run: cv.Run, number: int, scale: float, std: float) -> tuple[str, str]:
    """The family of a question whose state has another level than it is asked with, and why."""
    asked, first = run.visits[number], run.visits[0].x
    level = _given(run, std / scale)
    noisy = np.abs(asked.x[2:] - asked.x[1]).max(initial=0.0) > 0
    before = np.abs(first[2:] - first[1]).max(initial=0.0) > 0
    if number == 0 and before:
        return "discretization", "noise is added before the question: both must belong to the new level"
    multiple = number == 0 and abs(scale / run.scale[0] - std / run.std[0]) <= 1e-6 * std / run.std[0]
    if multiple and abs(scale / asked.scale - 1) > 1e-6:
        return "data-scaling", "the first state is scaled"
    if level is not None:
        shown = f"the state is at level {level} of 0..{len(run.scale) - 1}"
        if _given(run, asked.std / asked.scale) is None:
            return "schedule", f"{shown}, and the model is asked at none of them"
        return "index", shown
    if noisy:
        family = "discretization" if before else "variance"
        return family, "the noises so far do not add up to the level"
    return "schedule", "the state is at none of the levels given"


def _given(run: cv.Run, sigma: float) -> int | None:
    """Which of the given levels has this std / scale."""
    with np.errstate(all="ignore"):
        gap = np.abs(run.std / run.scale / sigma - 1)
    gap = np.where(np.isfinite(gap), gap, np.inf)
    return int(np.argmin(gap)) if gap.min() <= 1e-5 else None


def ending(run: cv.Run) -> Diagnosis | None:
    """What is wrong with a last state that is at another one of the levels, or a number of low precision."""
    scale, std, rest = implied(run.out)
    level = _given(run, std / scale) if rest <= 1e-6 else None
    if level is not None:
        return Diagnosis("index", f"the last state is at level {level} of 0..{len(run.scale) - 1}")
    for name, kind in (("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        value = torch.as_tensor(run.out)
        if bool((value.to(kind).double() == value).all()):
            return Diagnosis("precision", f"every entry is a {name} number")
    return None


def formula(found: Influence, tolerance: float) -> tuple[str, str]:
    """The name of the formula of each step, and the family where it is a mistake; or nothing."""
    if not _ordered(found):
        return "", ""
    candidate = histories.recognised(found, max(tolerance, CLOSE))
    return ("", "") if candidate is None else (candidate.name, candidate.family)


def _ordered(found: Influence) -> bool:
    """Whether each question belongs to a level of its own, from noisy to clean."""
    return bool((np.diff(found.log_snr) > 0).all())


def explained(session: Session, found: Influence, steps: int) -> Diagnosis:
    """Which mistake the steps of a solver are, by their coefficients."""
    if found.offset > 1e-6:
        return Diagnosis("data-scaling", f"zeros give {found.offset:.3g}: something is added to the state")
    name, family = formula(found, 1e-5)
    if name:
        declared = session.dialect.order
        known = f"every step is the one of {name}" if not family else name
        if not family and declared is not None and declared > 1 and name == "DDIM":
            known = "every step is of first order: the history is not used"
        return Diagnosis(family or "discretization", known)
    if found.states.shape[1] > 1 + found.answers:
        message = "no known solver fits: its predictions have the weights of another order"
        return Diagnosis("discretization", message)
    if 1.5 * steps < found.answers <= 2 * steps:
        return weights_of_stages(found)
    return by_sums(found)


def weights_of_stages(found: Influence) -> Diagnosis:
    """The weights of two predictions of noise in a step in sigma, and where the second one is made."""
    sigma = found.std / found.scale
    y = found.states / found.scale[:, None]
    p = found.predictions("eps")
    best: tuple[float, Array] | None = None
    rows = []
    for start in range(2, found.answers - 2, 2):
        step = sigma[start + 2] - sigma[start]
        if step == 0 or sigma[start + 1] == sigma[start]:
            continue
        basis = np.stack([y[start], step * p[start], step * p[start + 1]], 1)
        solution, *_ = np.linalg.lstsq(basis, y[start + 2], rcond=None)
        rest = float(np.abs(basis @ solution - y[start + 2]).max())
        place = (sigma[start + 1] - sigma[start]) / step
        rows.append([*solution, place, rest])
        best = rest, solution
    if best is None or not rows:
        return by_sums(found)
    A, first, second, place, rest = np.median(np.array(rows), 0)
    if rest > 1e-6:
        return Diagnosis("discretization", "a step is no combination of its state and its two predictions")
    if abs(A - 1) > 1e-6:
        return Diagnosis("parameterization", f"a step keeps {A:.6g} of x / scale, wanted 1")
    if abs(first + second - 1) > 1e-6:
        message = f"the weights of the two predictions, {first:.6g} and {second:.6g}, do not add up to 1"
        return Diagnosis("discretization", message, also=("variance",))
    message = (
        f"the second prediction, made at {place:.3g} of the step in sigma, has the weight {second:.3g}; "
        f"second order needs {0.5 / place:.3g}"
    )
    return Diagnosis("discretization", message)


def by_sums(found: Influence) -> Diagnosis:
    """No known formula fits: what a step does to one point, with the same prediction at each question."""
    sigma = found.std / found.scale
    y, p = found.states / found.scale[:, None], found.predictions("eps")
    gaps = []
    for i in range(min(found.answers, 6)):
        step = sigma[i + 1] - sigma[i]
        if step == 0 or not np.isfinite(y[i + 1]).all():
            continue
        # x and the answers so far span the states, so the combination is unique
        solution, *_ = np.linalg.lstsq(np.stack([y[i], *p[: i + 1]], 1), y[i + 1], rcond=None)
        gaps.append([solution[0], solution[1:].sum() / step])
    if not gaps:
        return Diagnosis("discretization", "no known solver fits")
    kept, total = np.median(np.array(gaps), 0)
    if abs(kept - 1) > 1e-5:
        message = f"no known solver fits: a step keeps {kept:.6g} of x / scale, wanted 1"
        return Diagnosis("parameterization", message)
    if abs(total - 1) > 1e-5:
        message = f"no known solver fits: the weights of the predictions add up to {total:.6g}, wanted 1"
        return Diagnosis("sign" if total < 0 else "discretization", message)
    return Diagnosis("discretization", "no known solver fits: the weights add up, but not their moments")


class Reference:
    """A solver of refdiff as a target."""

    def __init__(self, solver: Any, dialect: Dialect) -> None:
        self.solver, self.dialect = solver, dialect

    def solve(self, model: Any, x: Any, scales: Any, stds: Any, noises: Any) -> Any:
        """The solver's sample; the model's answer is turned into noise."""
        from refdiff.solver import Levels

        def eps(x: Any, scale: Any, std: Any) -> Any:
            answer, kind = model(x, scale, std), self.dialect.parameterization
            if kind == "x_0":
                return (x - scale * answer) / std
            if kind == "v":
                return (std * x + scale * answer) / (scale**2 + std**2)
            return -std * answer if kind == "score" else answer

        space: Any = self.dialect.solver_space
        return self.solver.sample(eps, x, Levels(scales, stds, space), iter(noises))


@lru_cache(maxsize=256)
def of_reference(name: str, kind: str, space: str, grid: str, steps: int, asked: int, draws: int) -> Any:
    """The states of a solver of refdiff as combinations; None where it does not go there."""
    from refdiff.solver import SOLVERS

    dialect = Dialect(parameterization=kind, solver_space=space)
    caller = Caller(Reference(SOLVERS[name], dialect), dialect)
    try:
        return histories.influence(caller, cv.levels(cv.log_snrs(grid, steps), space), asked, draws)
    except TargetError:
        return None


def reference(session: Session, found: Influence, grid: str, steps: int, tolerance: float) -> str:
    """The name of the solver of refdiff whose states are the same combinations; empty where there is none."""
    draws = found.states.shape[1] - 1 - found.answers
    for name in likely(session.dialect.solver, found.answers / steps, draws > 0):
        of = found.parameterization, session.dialect.solver_space, grid, steps, found.answers, draws
        other = of_reference(name, *of)
        if other is not None and same(found, other, tolerance):
            return name
        if other is not None and same(found, other, tolerance, last=LAST):
            return f"{name}, but for the last steps"
    return ""


def likely(declared: str | None, questions: float, noisy: bool) -> list[str]:
    """The declared solver; else those with as many questions a step, and noise or none."""
    from refdiff.solver import SOLVERS

    if declared is not None:
        if declared not in SOLVERS:
            known = ", ".join(SOLVERS)
            raise ValueError(f"Dialect's solver must be one of {known}, got {declared!r}")
        return [declared]
    return [
        name
        for name, solver in SOLVERS.items()
        if abs(solver.evaluations - questions) < 1 and solver.stochastic == noisy
    ]


def same(found: Influence, other: Influence, tolerance: float, last: int = 0) -> bool:
    """Whether two solvers are the same: equal states but for the sign and the order of the draws."""
    if found.states.shape != other.states.shape:
        return False
    known, kept = 1 + found.answers, len(found.states) - last
    gap = np.abs(found.states[:kept, :known] - other.states[:kept, :known]).max()
    size = [np.linalg.norm(value.states[:kept, known:], axis=1) for value in (found, other)]
    return bool(max(gap, np.abs(size[0] - size[1]).max(initial=0.0)) <= tolerance)
