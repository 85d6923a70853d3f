"""A whole solver over given levels: where it asks its model, what it does to one point, and its order."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdiff.oracle import convergence as cv
from refdiff.oracle import histories, stages
from refdiff.oracle.calls import TargetError
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session

Array = NDArray[Any]
# more than the number below which some solvers end with steps of lower order
STEPS = 18
COUNTS = (12, 24, 48, 96, 192, 384)
# noise of the law takes a row a draw, and an order that is bounded from below is seen early
FEW_COUNTS = (12, 24, 48, 96)
DRAWS = 3
ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24}
# roundings of a step, and the quotient of the largest state and the smallest deviation
OPERATIONS, CONDITION = 8, float(np.exp(cv.HIGH - cv.LOW))
# by how much an order must be higher than declared to be another one
MORE = 0.5


def grids(session: Session) -> tuple[str, ...]:
    """On which levels the order is declared."""
    return cv.GRIDS[session.dialect.solver_grid]


def levels(session: Session, grid: str, steps: int) -> tuple[Any, Any]:
    """Scales and stds in the target's space."""
    return cv.levels(cv.log_snrs(grid, steps), session.dialect.solver_space)


def straight(session: Session) -> cv.Run:
    """A run where data are one point: the first row is one deviation off, the others are at the mean with
    one draw each."""
    return session.once("solve", lambda: _straight(session))  # type: ignore[no-any-return]


def _straight(session: Session) -> cv.Run:
    scale, std = levels(session, grids(session)[-1], STEPS)
    return _run(session, cv.Point(), (scale, std), DRAWS * STEPS)


def _run(session: Session, law: cv.Law, at: tuple[Any, Any], draws: int) -> cv.Run:
    scale, std = float(at[0][0]), float(at[1][0])
    x = np.concatenate([cv.starts(scale, std), np.repeat([scale * cv.MEAN], draws, 0)])
    try:
        return cv.solve(session.caller, law, at, x, cv.unit_rows(draws, DRAWS * len(at[0])))
    except TargetError as error:
        if str(error).startswith(("UnboundLocalError", "AttributeError")):
            # what is kept from step to step is not set
            raise TargetError(error.kind, str(error), "state-broadcast") from error
        raise


def precision(session: Session) -> str:
    """The precision that every state has."""
    run = straight(session)
    states = [visit.x for visit in run.visits[1:]] + [run.out]
    single = all((value.astype(np.float32) == value).all() for value in states)
    return "float32" if single else "float64"


def tolerance(session: Session, steps: int = STEPS) -> float:
    """The error of a state, in deviations, that rounding explains."""
    return OPERATIONS * ROUNDOFF[precision(session)] * (steps + 4) * CONDITION


def draws_a_step(session: Session) -> int:
    """How many draws a step takes at most, rounded up."""
    used = int(np.flatnonzero(moving(session))[-1]) + 1 if stochastic(session) else 0
    return -(-used // STEPS)


def moving(session: Session) -> Array:
    """Which draws move some state."""
    return session.once("solve moving", lambda: _moving(straight(session)))  # type: ignore[no-any-return]


def _moving(run: cv.Run) -> Array:
    moved: Array = np.abs(run.out[2:] - run.out[1]).max(1) > 0
    for visit in run.visits:
        moved = moved | (np.abs(visit.x[2:] - visit.x[1]).max(1) > 0)
    return moved


def stochastic(session: Session) -> bool:
    """Whether noises move the states."""
    return bool(moving(session).any())


@check("solve.evaluations", "solve")
def evaluations(session: Session) -> Finding:
    """The model is asked at levels with noise, inside of those that were given."""
    run = straight(session)
    if not run.visits:
        return fail("state-broadcast", "the model is never asked")
    for number, visit in enumerate(run.visits):
        where: dict[str, Any] = {"worst": {"question": number + 1}, "got": [visit.scale, visit.std]}
        if not (np.isfinite(visit.scale) and np.isfinite(visit.std)) or visit.std <= 0:
            return fail("noise-at-t0", f"the model is asked at std = {visit.std:g}", **where)
        slack = 1e-5 * (cv.HIGH - cv.LOW)
        # noise may be added before a question
        low = -np.inf if stochastic(session) else run.log_snr[0] - slack
        if not low <= visit.log_snr <= run.log_snr[-1] + slack:
            message = f"the model is asked at λ = {visit.log_snr:.6g}, outside of the levels"
            return fail("schedule", f"{message} {run.log_snr[0]:.6g}..{run.log_snr[-1]:.6g}", **where)
    asked, kind = len(run.visits), "stochastic" if stochastic(session) else "deterministic"
    return Finding(True, f"{asked} questions for {STEPS} steps, {kind}")


@check("solve.levels", "solve")
def continuity(session: Session) -> Finding:
    """The state that the model is asked at has the level that it is asked with."""
    _exact_on_points(session)
    run = straight(session)
    limit = tolerance(session)
    for number, visit in enumerate(run.visits):
        scale, std, rest = stages.implied(visit.x)
        gap = max(abs(scale - visit.scale) / max(visit.scale, visit.std), abs(std / visit.std - 1), rest)
        if gap <= limit:
            continue
        family, reason = stages.misplaced(run, number, scale, std)
        return fail(
            family,
            f"{reason}: question {number + 1} is asked with scale {visit.scale:.6g} and std "
            f"{visit.std:.6g}, but its state has scale {scale:.6g} and std {std:.6g}",
            error=gap,
            tolerance=limit,
            worst={"question": number + 1},
            got=[scale, std],
            wanted=[visit.scale, visit.std],
            asked=f"solve, {STEPS} steps, data that are one point",
        )
    return Finding(True)


def _exact_on_points(session: Session) -> None:
    if not session.dialect.straight:
        raise NotApplicable("declared to be inexact where data are one point")


@check("solve.point", "solve")
def point(session: Session) -> Finding:
    """Where data are one point the path is straight, and a solver ends at the exact law."""
    _exact_on_points(session)
    run = straight(session)
    scale, std, rest = stages.implied(run.out)
    want = float(run.scale[-1]), float(run.std[-1])
    limit = tolerance(session)
    gap = max(abs(scale - want[0]) / max(want), abs(std / want[1] - 1), rest)
    fields: dict[str, Any] = {
        "error": gap,
        "tolerance": limit,
        "got": [scale, std],
        "wanted": list(want),
        "asked": f"law of the last state, {STEPS} steps, data that are one point",
    }
    if gap <= limit:
        return Finding(True, precision=precision(session), **fields)
    return Finding(False, "", stages.ending(run) or explained(session), **fields)


@check("solve.noise", "solve")
def noise(session: Session) -> Finding:
    """Noises are Gaussian, drawn for every row, and used in the end where they are used at all."""
    run = straight(session)
    if run.odd:
        return fail("state-broadcast", f"draws noise of shape {run.odd[0]}, shared by rows")
    if run.others:
        return fail(
            "state-broadcast", f"draws that are not Gaussian noise: {', '.join(sorted(set(run.others)))}"
        )
    moved = np.abs(run.out[2:] - run.out[1]).max(1) > 0
    for visit in run.visits:
        seen = np.abs(visit.x[2:] - visit.x[1]).max(1) > 0
        if (seen & ~moved).any() and moved.sum() == 1:
            message = "each step starts from new noise and keeps nothing of its state: of consistency models"
            return fail("discretization", message, also=("variance",))
        if (seen & ~moved).any():
            draw = int(np.flatnonzero(seen & ~moved)[0]) + 1
            message = f"draw {draw} moves a state that is seen, but not the end: each stage has its own noise"
            return fail("discretization", message, also=("variance", "state-broadcast"))
    declared = session.dialect.solver_noise
    if declared is not None and declared != bool(moved.any()):
        words = "noises are declared, and none is used" if declared else "noise is used, and none is declared"
        return fail("noise-at-t0", words, also=("variance", "convention"))
    if run.drawn and moved[run.drawn :].any():
        return fail("state-broadcast", "uses the noise argument and still draws from the random state")
    return Finding(True, f"{int(moved.sum())} noises in {STEPS} steps" if moved.any() else "none")


@check("solve.order", "solve")
def order(session: Session) -> Finding:
    """The error falls with the declared power of the step, apart from the first and the last steps."""
    if stochastic(session):
        raise NotApplicable("noise: the order of the law is measured on Gaussian data")
    return _orders(session, "order", _quiet(session), session.dialect.order, exact=True)


def _quiet(session: Session) -> cv.Law:
    declared = session.dialect.order or 3
    # the first step of lower order must not be seen: it errs by h² times the derivative there
    return cv.Quiet(max(declared - 1, 1) if declared < 4 else declared)


@check("solve.gaussian", "solve")
def gaussian(session: Session) -> Finding:
    """On Gaussian data the law of the last state converges to the exact one, with the order of the start
    too."""
    declared, first = session.dialect.order, session.dialect.start_order
    wanted = None
    if declared is not None:
        # one step of a lower order costs one power less than the rest
        wanted = min(declared, 2 if first is None else first + 1)
    return _orders(session, "gaussian", cv.Gaussian(), wanted, exact=False)


def _orders(session: Session, key: str, law: cv.Law, wanted: int | None, exact: bool) -> Finding:
    worst: tuple[float, str, cv.Order] | None = None
    # what has its order on uneven levels has it on even ones, but not the other way round
    for grid in grids(session)[-1:] if exact else grids(session)[:1]:
        found = session.once((key, grid), partial(_order, session, law, grid, wanted, exact))
        if found is None:
            continue
        lacking = float("inf") if not np.isfinite(found.value) else -found.value
        if worst is None or lacking > worst[0]:
            worst = lacking, grid, found
    if worst is None:
        return Finding(True, f"as exact as {precision(session)} allows", precision=precision(session))
    _, grid, found = worst
    aim = wanted if wanted is not None else max(round(found.value), 1)
    off = found.value - aim
    fields: dict[str, Any] = {
        "got": found.value,
        "wanted": float(aim),
        "error": abs(off),
        "tolerance": cv.WITHIN,
        "asked": f"order of convergence on levels {_words(grid)}",
        "worst": {"steps": found.steps[-1]},
    }
    more = exact and found.settled and off > MORE
    # where rounding stopped it before it had settled, only a gross difference is one
    slack = MORE if found.rounded and not found.settled else cv.WITHIN
    if off >= -slack and not more:
        return Finding(True, f"order {found}, {_words(grid)}", precision=precision(session), **fields)
    if more:
        dialect = session.dialect.but(order=round(found.value))
        message = f"the order is {found}, more than the declared {wanted}"
        return fail("convention", message, dialect=dialect, also=("discretization",), **fields)
    reason = explained(session)
    return Finding(False, f"order {found} on levels {_words(grid)}", reason, **fields)


def _words(grid: str) -> str:
    return {
        "log_snr": "even in λ",
        "uneven": "with uneven steps of λ",
        "karras": "of Karras et al.",
        "sigma": "even in sigma",
        "time": "even in time",
    }[grid]


def _order(session: Session, law: cv.Law, grid: str, wanted: int | None, exact: bool) -> cv.Order | None:
    noisy = stochastic(session)
    unit = ROUNDOFF[precision(session)]

    def error(steps: int) -> float:
        if isinstance(law, cv.Gaussian):
            return _law_error(law, on_gaussian(session, steps))
        return _law_error(law, _run(session, law, levels(session, grid, steps), 0))

    def floor(steps: int) -> float:
        return float(2 * unit * np.sqrt(steps * CONDITION))

    counts = COUNTS if exact and not noisy else FEW_COUNTS
    found = cv.measured(error, counts, floor, wanted, exact)
    if found is None:
        run = _run(session, law, levels(session, grid, STEPS), draws_a_step(session) * STEPS)
        if not np.isfinite(run.out).all():
            raise TargetError("raised", "the last state is not finite", "noise-at-t0")
    return found


def on_gaussian(session: Session, steps: int) -> cv.Run:
    """The run on Gaussian data, whose last state is affine in the first and in the noises."""

    def make() -> cv.Run:
        at = levels(session, grids(session)[0], steps)
        return _run(session, cv.Gaussian(), at, draws_a_step(session) * steps)

    return session.once(("on Gaussian", steps), make)  # type: ignore[no-any-return]


def _law_error(law: cv.Law, run: cv.Run) -> float:
    """The error of mean and deviation, in deviations of the last level, over the coordinates."""
    mean, moved = run.out[1], run.out[0] - run.out[1]
    noises = run.out[2:] - run.out[1]
    exact = cv.solution(law, run)
    want = exact[0] - exact[1]
    error = mean - exact[1]
    if len(noises) and isinstance(law, cv.Gaussian):
        first = (run.scale[0] ** 2 * law.variance + run.std[0] ** 2) / run.std[0] ** 2
        got = np.sqrt(moved**2 * first + (noises**2).sum(0))
        spread = got - np.abs(want) * np.sqrt(first)
    else:
        spread = moved - want
    return float(np.linalg.norm([*(error / run.std[-1]), *(spread / run.std[-1])]))


@check("solve.first_step", "solve")
def first_step(session: Session) -> Finding:
    """The error of one step alone falls with a power more than the order of the first step."""
    if stochastic(session):
        raise NotApplicable("noise: the order of the law is measured on Gaussian data")
    law, sizes = cv.Gaussian(), (0.4, 0.2, 0.1, 0.05)
    unit = ROUNDOFF[precision(session)]
    errors = []
    for size in sizes:
        at = cv.levels(cv.log_snrs("log_snr", 1, -0.2, -0.2 + size), session.dialect.solver_space)
        errors.append(_law_error(law, _run(session, law, at, 1)))
    kept = [error for error in errors if error > cv.ABOVE * 4 * unit]
    if len(kept) < 3 or not np.isfinite(kept).all():
        raise NotApplicable("one step is as exact as rounding allows, or is not taken alone")
    found = cv.Order(tuple(round(1 / size) for size in sizes[: len(kept)]), tuple(kept))
    declared = session.dialect.start_order
    aim = declared + 1 if declared is not None else max(round(found.value), 2)
    fields: dict[str, Any] = {
        "got": found.value,
        "wanted": float(aim),
        "error": abs(found.value - aim),
        "tolerance": cv.WITHIN,
        "asked": "power of the step in the error of one step",
    }
    if abs(found.value - aim) <= cv.WITHIN:
        return Finding(True, f"the first step is of order {found.value - 1:.2f}", **fields)
    if found.value > aim:
        dialect = session.dialect.but(start_order=round(found.value) - 1)
        message = f"the first step is of order {found.value - 1:.2f}, more than the declared {declared}"
        return fail("convention", message, dialect=dialect, also=("discretization",), **fields)
    return Finding(False, f"the first step is of order {found.value - 1:.2f}", explained(session), **fields)


@check("solve.data", "solve")
def data(session: Session) -> Finding:
    """A last level without noise is reached without a logarithm or quotient of it."""
    if session.dialect.solver_end == "level":
        raise NotApplicable("declared to end at a level with noise")
    values = cv.log_snrs(grids(session)[0], STEPS)
    scale, std = cv.levels(values, session.dialect.solver_space)
    std[-1] = 0.0
    scale[-1] = 1.0
    run = _run(session, cv.Gaussian(), (scale, std), DRAWS * STEPS)
    between = [visit for visit in run.visits if not (np.isfinite(visit.std) and visit.std > 0)]
    if between and len(run.visits) > STEPS and not np.isfinite(run.out).all():
        message = "the middle of a step to a level without noise has none either: that step is of first order"
        return fail("discretization", message, also=("noise-at-t0",))
    if between:
        return fail("noise-at-t0", "the model is asked at a level without noise")
    if not np.isfinite(run.out).all():
        return fail("noise-at-t0", "the last state is not finite where the last level has no noise")
    if not session.dialect.straight:
        return Finding(True, "finite")
    run = _run(session, cv.Point(), (scale, std), DRAWS * STEPS)
    gap = float(np.abs(run.out - cv.MEAN).max())
    limit = tolerance(session)
    fields: dict[str, Any] = {"error": gap, "tolerance": limit}
    if gap <= limit:
        return Finding(True, **fields)
    message = f"data that are one point are missed by {gap:.3g} in the step to the level without noise"
    return fail("noise-at-t0", message, also=("discretization",), **fields)


@check("solve.affine", "solve")
def affine(session: Session) -> Finding:
    """The last state is affine in the first, and a row does not depend on the rows beside it."""
    scale, std = levels(session, grids(session)[0], STEPS)
    first, last = float(scale[0]), float(std[0])
    unit = np.array([1.0, 0.0, -1.0, 3.0, 30.0])
    x = first * cv.MEAN + last * unit[:, None] * np.array([1.0, -2.0, 0.5, 4.0])
    zeros = np.zeros((DRAWS * STEPS, len(x), cv.D))
    out = cv.solve(session.caller, cv.Gaussian(), (scale, std), x, zeros).out
    moved = out[0] - out[1]
    limit = tolerance(session) * 100 * 30
    gap = float(np.abs(out - out[1] - unit[:, None] * moved).max())
    if not gap <= limit:
        kept = float(np.abs(out[2] - out[1] + moved).max()) <= limit
        if gap <= 2.0**-8 * float(np.abs(out).max()):
            return fail("precision", "states are rounded to few digits", error=gap, tolerance=limit)
        words = "large states are clipped or scaled" if kept else "the last state is not affine in the first"
        return fail("data-scaling", words, also=("convention",), error=gap, tolerance=limit)
    alone = cv.solve(session.caller, cv.Gaussian(), (scale, std), x[3:4], zeros[:, 3:4]).out
    apart = float(np.abs(alone[0] - out[3]).max())
    if apart > limit:
        return fail("state-broadcast", "a row depends on the rows beside it", error=apart, tolerance=limit)
    return Finding(True, error=max(gap, apart), tolerance=limit)


@check("solve.inputs_unchanged", "solve")
def inputs_unchanged(session: Session) -> Finding:
    """The arguments stay as they are."""
    changed = straight(session).mutated
    if changed:
        return fail("state-broadcast", f"changes its argument in place: {', '.join(changed)}")
    return Finding(True)


@check("solve.coefficients", "solve")
def coefficients(session: Session) -> Finding:
    """The steps are those of the declared solver, or else of no known mistake."""
    found, limit = influence(session), tolerance(session)
    name, family = stages.formula(found, limit)
    known = ""
    if not name or session.dialect.solver is not None:
        known = stages.reference(session, found, _uneven(session), STEPS, limit)
    named = " = ".join(dict.fromkeys(filter(None, (known, name))))
    words = f"the steps are those of {named}" if named else "the steps are of no solver that is known here"
    declared = session.dialect.solver
    if declared is not None and known != declared:
        message = f"not {declared}: {name if family else words}"
        return fail(family or "discretization", message, also=("convention",))
    return fail(family, name) if family and declared is None else Finding(True, words)


def _uneven(session: Session) -> str:
    """Levels on which a wrong ratio of steps shows, where they are offered."""
    return "uneven" if "uneven" in grids(session) else grids(session)[0]


def influence(session: Session) -> histories.Influence:
    """Every state as a combination of first state, answers and draws."""

    def make() -> histories.Influence:
        at = levels(session, _uneven(session), STEPS)
        asked = len(straight(session).visits)
        return histories.influence(session.caller, at, asked, draws_a_step(session) * STEPS)

    return session.once("influence", make)  # type: ignore[no-any-return]


def explained(session: Session) -> Diagnosis:
    """Which mistake the steps of a solver are."""
    return session.once("solve explained", lambda: stages.explained(session, influence(session), STEPS))  # type: ignore[no-any-return]
