"""One step of a solver with a history: its coefficients, its noise, its law on one point, and its order."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdiff.oracle import convergence as cv
from refdiff.oracle import stages, steps
from refdiff.oracle.calls import TargetError
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session
from refdiff.oracle.steps import KINDS, Inexpressible, Step

Array = NDArray[Any]
# so many steps to a span of λ; one of them is taken
COUNTS, SPAN = (2, 4, 8, 16, 32, 64, 128), 0.8
# by how much an order must be higher than declared to be another one
MORE = 0.5
ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24}
# roundings of a coefficient, and by how much a quotient of differences of λ or a ratio of levels grows them
OPERATIONS, CONDITION = 16, 32.0
# a mistake is named where it fits by far better than the right form
CLOSE = 1e-9


def grid(session: Session) -> str:
    """The levels for which the step is declared."""
    return session.dialect.solver_grid


def history(session: Session) -> int:
    """How many answers a full step uses: as many as the declared solver, else as its order needs."""
    from refdiff.solver import SOLVERS

    declared = session.dialect.solver
    if declared is not None and stages.likely(declared, 0, False):
        return min(SOLVERS[declared].history + 1, steps.MOST)
    return min(session.dialect.order or 2, steps.MOST)


def full(session: Session) -> list[Step]:
    """The step with its whole history, at two places."""
    return session.once("solver_step", lambda: _measured(session, history(session)))  # type: ignore[no-any-return]


def _measured(session: Session, length: int, clean: bool = False) -> list[Step]:
    found = []
    for number, (start, size) in enumerate(steps.PLACES):
        values = steps.log_snrs(grid(session), start, size, length, number)
        scale, std = cv.levels(values, session.dialect.solver_space)
        if clean:
            scale[-1], std[-1] = 1.0, 0.0
        found.append(steps.measured(session.caller, (scale, std)))
    return found


def precision(session: Session) -> str:
    """The precision that every coefficient has, as far as the dialect allows it for tables."""
    single = all(step.single for step in full(session))
    return "float32" if single or (session.dialect.tables != "float64" and rounded(session)) else "float64"


def allowed(kind: str) -> float:
    """The error of a coefficient that rounding explains, in units of it or of 1."""
    return OPERATIONS * CONDITION * ROUNDOFF[kind]


def tolerance(session: Session) -> float:
    """The same in the target's precision."""
    return allowed(precision(session))


def rounded(session: Session) -> bool:
    """Whether levels are rounded to single precision inside: their law on one point is right so far alone."""
    gaps = [_gap(step, noisy(full(session))) for step in full(session)]
    return session.dialect.straight and allowed("float64") < max(gaps) <= allowed("float32")


def _gap(step: Step, stochastic: bool) -> float:
    """How far scale and std of the end are from the level's where data are one point."""
    scale, std = step.of_points(stochastic)
    want = float(step.scale[-1]), float(step.std[-1])
    gap = max(abs(scale - want[0]) / max(want), abs(std / want[1] - 1))
    return gap if np.isfinite(gap) else float("inf")


def noisy(found: list[Step]) -> bool:
    """Whether noises move the state."""
    return any(step.noise > 0 for step in found)


@check("solver_step.affine", "solver_step")
def affine(session: Session) -> Finding:
    """The step is a combination of its arguments, the same for each coordinate and each row."""
    limit, worst = tolerance(session), full(session)[0]
    for step in full(session):
        if not np.isfinite(step.coefficients).all():
            return fail("noise-at-t0", "the state is not finite at levels with noise")
        if step.mutated:
            return fail("state-broadcast", f"changes its argument in place: {', '.join(step.mutated)}")
        for value, family, words in (
            (step.offset, "data-scaling", "zeros do not give zero: something is added to the state"),
            (step.apart, "state-broadcast", "a row depends on the rows beside it"),
            (step.bent, "data-scaling", "the step is not affine in its arguments: large values are changed"),
            (step.spread, "state-broadcast", "coordinates are treated differently, or mixed"),
        ):
            if not value <= limit * 100:
                if value == step.bent and value <= 2.0**-8 * np.abs(step.coefficients).max():
                    family, words = "precision", "values are rounded to few digits"
                return fail(family, words, also=("convention",), error=value, tolerance=limit * 100)
    error = max(worst.offset, worst.spread, worst.bent, worst.apart)
    return Finding(True, error=error, tolerance=limit * 100, precision=precision(session))


@check("solver_step.noise", "solver_step")
def noise(session: Session) -> Finding:
    """Noise is the argument or a Gaussian draw for every row, not both, and there where it is declared."""
    found = full(session)
    for step in found:
        argument, draws = np.split(step.coefficients[1 + step.history :], [1])
        if step.odd:
            return fail("state-broadcast", f"draws noise of shape {step.odd[0]}, shared by rows")
        if step.others:
            names = ", ".join(sorted(set(step.others)))
            return fail("state-broadcast", f"draws that are not Gaussian noise: {names}")
        if argument[0] and draws.any():
            return fail("state-broadcast", "uses the noise argument and still draws from the random state")
    declared = session.dialect.solver_noise
    if declared is not None and declared != noisy(found):
        words = "noise is declared, and not used" if declared else "noise is used, and none is declared"
        return fail("noise-at-t0", words, also=("variance", "convention"))
    return Finding(True, f"noise times {found[0].noise:.6g}" if noisy(found) else "none")


@check("solver_step.point", "solver_step")
def point(session: Session) -> Finding:
    """Where data are one point, a step from the exact law ends at the exact law."""
    if not session.dialect.straight:
        raise NotApplicable("declared to be inexact where data are one point")
    found, limit = full(session), tolerance(session)
    for step in found:
        gap = _gap(step, noisy(found))
        if not gap <= limit:
            scale, std = step.of_points(noisy(found))
            fields: dict[str, Any] = {"got": [scale, std], "wanted": [step.scale[-1], step.std[-1]]}
            words = f"ends with scale {scale:.6g} and std {std:.6g}"
            reason = _rounding(session) or _nearest(session) or _of_law(step)
            return Finding(False, words, reason, error=gap, tolerance=limit, **fields)
    return Finding(True, tolerance=limit, precision=precision(session))


def _of_law(step: Step) -> Diagnosis:
    """What is wrong with a step whose law is wrong, by the noise that would make it right."""
    scale, std = step.of_points(step.noise > 0)
    want = float(step.std[-1])
    rest = std**2 - step.noise**2
    if step.noise and 0 < rest < want**2:
        right = float(np.sqrt(want**2 - rest))
        for value, family, words in (
            (right**2, "sqrt", "the square"),
            (right**0.5, "sqrt", "the square root"),
            (right / want, "variance", "the multiple in units of the deviation"),
        ):
            if abs(step.noise / value - 1) < 1e-6:
                return Diagnosis(family, f"noise is multiplied by {words} of {right:.6g}")
        if abs(scale - step.scale[-1]) <= 1e-6:
            return Diagnosis("variance", f"noise is multiplied by {step.noise:.6g}, wanted {right:.6g}")
    answers = ", ".join(f"{value:.6g}" for value in step.known[1:])
    message = f"x is multiplied by {step.known[0]:.6g}, the answers by {answers}"
    return Diagnosis("discretization", message)


@check("solver_step.coefficients", "solver_step")
def coefficients(session: Session) -> Finding:
    """The step is that of the declared solver, with any history; or else no known mistake."""
    found, limit, declared = full(session), tolerance(session), session.dialect.solver
    if declared is None:
        wrong = _nearest(session)
        if wrong is not None:
            return Finding(False, "", wrong)
        names = list(steps.solvers(found, session.dialect.solver_space, limit))
        likely = steps.candidate(found, max(limit, CLOSE))
        names += [] if likely is None else [likely.name]
        known = " = ".join(names) if names else "of no solver that is known here"
        return Finding(True, f"the step is {known}", precision=precision(session))
    lengths = []
    for length in range(history(session), 0, -1):
        try:
            shorter = found if length == history(session) else _measured(session, length)
        except TargetError:
            # a step that is only offered with its whole history
            continue
        failure = _compared(session, shorter, declared, limit)
        if failure is not None:
            return failure
        lengths.append(length)
    told = " or ".join(map(str, sorted(lengths)))
    return Finding(
        True, f"the step of {declared}, with {told} answers", tolerance=limit, precision=precision(session)
    )


def _compared(session: Session, found: list[Step], declared: str, limit: float) -> Finding | None:
    """The failure of a step that is not the declared solver's."""
    for step in found:
        try:
            want = steps.of_solver(declared, step, session.dialect.solver_space)
        except Inexpressible as reason:
            raise NotApplicable(str(reason)) from None
        off = np.abs(step.compared - want) / np.maximum(1.0, np.abs(want))
        if not (off <= limit).all():
            worst = int(np.argmax(np.where(np.isfinite(off), off, np.inf)))
            name = _names(step)[worst]
            words = (
                f"not {declared}: with {step.history} answers, {name} is multiplied by "
                f"{step.compared[worst]:.6g}, wanted {want[worst]:.6g}"
            )
            fields: dict[str, Any] = {
                "got": step.compared.tolist(),
                "wanted": want.tolist(),
                "error": float(off[worst]),
                "tolerance": limit,
                "worst": {"coefficient": name, "answers": step.history},
            }
            return Finding(False, words, _explained(session, found, declared, limit), **fields)
    return None


def _names(step: Step) -> list[str]:
    ago = [f"the answer {k} levels ago" for k in range(step.history - 1, 0, -1)]
    return ["x", *ago, "the last answer", "noise"]


def _rounding(session: Session) -> Diagnosis | None:
    """Where single precision explains it."""
    words = "the step is right to single precision alone, and tables of float64 are declared"
    return Diagnosis("precision", words) if rounded(session) else None


def _nearest(session: Session) -> Diagnosis | None:
    """The known mistake that the full step is, where it is no solver's."""
    found, limit = full(session), max(tolerance(session), CLOSE)
    likely = steps.candidate(found, limit)
    if likely is not None and likely.family:
        return Diagnosis(likely.family, likely.name)
    return None


def _explained(session: Session, found: list[Step], declared: str, limit: float) -> Diagnosis:
    """Which mistake of the declared step it is: of its noise, history or answers, or another solver's."""
    space, near = session.dialect.solver_space, max(limit, CLOSE)
    rounding = _rounding(session)
    if rounding is not None:
        return rounding
    others = list(steps.solvers(found, space, near))
    if others:
        message = f"the step is that of {' = '.join(others)}"
        if found[0].history > 1 and steps.SOLVERS_OF_ONE & set(others):
            message = f"{message}: the history is not used"
        return Diagnosis("discretization", message, dialect=session.dialect.but(solver=others[0]))
    pairs = [(step.compared, steps.of_solver(declared, step, space)) for step in found]
    for family, words, change in CHANGES:
        if all(steps.same(got, change(want), near) for got, want in pairs):
            return Diagnosis(family, words)
    for kind in KINDS:
        if kind != found[0].parameterization and declared in steps.solvers(found, space, near, kind):
            message = f"the answers are read as {kind}"
            return Diagnosis("parameterization", message, dialect=session.dialect.but(parameterization=kind))
    likely = steps.candidate(found, near)
    alike = all(steps.same(got[:-1], want[:-1], near) for got, want in pairs)
    if likely is not None and (likely.family or not alike):
        message = likely.name if likely.family else f"but for its noise the step is that of {likely.name}"
        return Diagnosis(likely.family or "discretization", message)
    return _differences(found, pairs, near)


def _differences(found: list[Step], pairs: list[tuple[Array, Array]], near: float) -> Diagnosis:
    """No known mistake: which coefficients are wrong."""
    names = _names(found[0])
    off = [
        i for i in range(len(names)) if any(abs(a[i] - b[i]) > near * max(1.0, abs(b[i])) for a, b in pairs)
    ]
    got, want = pairs[0]
    shown = ", ".join(f"{names[i]} ({got[i]:.6g} for {want[i]:.6g})" for i in off)
    family = "variance" if off == [len(names) - 1] else "discretization"
    return Diagnosis(family, f"no known mistake; what is wrong is multiplied: {shown}")


def _with(change: Any, *where: Any) -> Any:
    """A change of some coefficients: x is the first, noise the last, the answers are between."""

    def changed(want: Array) -> Array:
        value = want.copy()
        for at in where:
            value[at] = change(want[at])
        return value

    return changed


def _exchanged(answers: Array) -> Array:
    """The last two in the other order."""
    return np.append(answers[:-2], answers[-2:][::-1])


ANSWERS, NOISE = slice(1, -1), -1
CHANGES: tuple[tuple[str, str, Any], ...] = (
    ("index", "the history is read from its other end", _with(lambda c: c[::-1], ANSWERS)),
    ("index", "the last two answers are exchanged", _with(_exchanged, ANSWERS)),
    ("sign", "the answers have the wrong sign", _with(np.negative, ANSWERS)),
    ("sqrt", "noise is multiplied by the square of its deviation", _with(np.square, NOISE)),
    ("sqrt", "noise is multiplied by the root of its deviation", _with(np.sqrt, NOISE)),
    ("variance", "the noise is left out", _with(np.zeros_like, NOISE)),
    ("variance", "the noise is halved in power", _with(partial(np.multiply, 0.5**0.5), NOISE)),
    ("variance", "the noise is doubled in power", _with(partial(np.multiply, 2**0.5), NOISE)),
    ("discretization", "x is left as it is", _with(np.ones_like, 0)),
)  # fmt: skip


@check("solver_step.data", "solver_step")
def data(session: Session) -> Finding:
    """A step to a level without noise is finite, takes no noise, and ends at the point where data are one."""
    if session.dialect.solver_end == "level":
        raise NotApplicable("declared to end at a level with noise")
    try:
        found = _measured(session, history(session), clean=True)
    except TargetError as error:
        raise TargetError(error.kind, str(error), "noise-at-t0") from error
    limit = tolerance(session)
    for step in found:
        if not np.isfinite(step.coefficients).all():
            return fail("noise-at-t0", "the state is not finite where the last level has no noise")
        if step.noise:
            return fail("noise-at-t0", f"adds noise times {step.noise:.3g} to data", also=("variance",))
        if not session.dialect.straight:
            continue
        scale, std = step.of_points(noisy(full(session)))
        gap = max(abs(scale - 1), std)
        if not gap <= limit:
            message = f"data that are one point are missed by {gap:.3g}"
            return fail("noise-at-t0", message, also=("discretization",), error=gap, tolerance=limit)
    return Finding(True, tolerance=limit)


@check("solver_step.order", "solver_step")
def order(session: Session) -> Finding:
    """The error of a step falls with one power of the step more than the declared order."""
    declared, count = session.dialect.order, history(session)
    unit = ROUNDOFF[precision(session)]
    error = _error_of_law if noisy(full(session)) else _error
    found = cv.measured(
        lambda number: error(session, SPAN / number, count),
        COUNTS,
        lambda number: 8 * unit,
        None if declared is None else declared + 1,
    )
    if found is None:
        raise NotApplicable("a step is as exact as rounding allows, or is not finite")
    value = found.value - 1
    wanted = float(declared if declared is not None else round(value))
    off, sure = value - wanted, found.settled
    fields: dict[str, Any] = {
        "got": value,
        "wanted": wanted,
        "error": abs(off),
        "tolerance": cv.WITHIN,
        "asked": f"order of a step with {count} outputs, all of them exact",
    }
    message = f"a step with {count} exact outputs is of order {value:.2f}, not {wanted:.0f}"
    if off > MORE and sure:
        dialect = session.dialect.but(order=round(value))
        return fail("convention", message, dialect=dialect, also=("discretization",), **fields)
    # where rounding stopped it before it had settled, only a gross difference is one
    if off >= -(MORE if found.rounded and not sure else cv.WITHIN):
        return Finding(True, f"order {value:.2f}", **fields)
    return Finding(False, message, _nearest(session) or Diagnosis("discretization", message), **fields)


def _at(session: Session, size: float, count: int) -> tuple[Step, Array]:
    """The step of a size, and λ of its levels as the target was given them."""
    values = steps.log_snrs(grid(session), 0.0, size, count)
    step = steps.measured(session.caller, cv.levels(values, session.dialect.solver_space))
    return step, np.log(step.scale) - np.log(step.std)


def _responses(session: Session, step: Step) -> tuple[Array, Array]:
    """What perfect answers take of the states at the levels before the end: slope and offset, (K, D)."""
    model = cv.Asked(cv.Gaussian(), session.dialect.parameterization, None, lambda: 0)
    levels = list(zip(step.scale[:-1].tolist(), step.std[:-1].tolist(), strict=True))
    offset = np.stack([model.answer(np.zeros((1, cv.D)), *at)[0] for at in levels])
    slope = np.stack([model.answer(np.ones((1, cv.D)), *at)[0] for at in levels]) - offset
    return slope, offset


def _error(session: Session, size: float, count: int) -> float:
    """The error of one step from the exact state, with exact outputs before it, in deviations."""
    step, at = _at(session, size, count)
    growth = np.stack([np.exp(cv.Gaussian().growth(float(at[-2]), float(value))) for value in at])
    x = step.scale[:, None] * cv.MEAN + step.std[:, None] * growth
    slope, offset = _responses(session, step)
    outputs = slope * x[:-1] + offset
    got = step.known[0] * x[-2] + step.known[1:] @ outputs
    return float(np.linalg.norm((got - x[-1]) / step.std[-1]))


def _error_of_law(session: Session, size: float, count: int) -> float:
    """The error of mean and variance after one step from states with the law of the process, in deviations.

    x / scale has independent increments upwards, so two states have the variance of the less noisy one in
    common.
    """
    step, _ = _at(session, size, count)
    slope, offset = _responses(session, step)
    shares = step.known[1:, None] * slope
    shares[-1] += step.known[0]
    sigma = step.std / step.scale
    shares = shares * step.scale[:-1, None]
    mean = (shares * cv.MEAN).sum(0) + step.known[1:] @ offset - step.scale[-1] * cv.MEAN
    common = np.minimum.outer(sigma[:-1], sigma[:-1]) ** 2
    shared = cv.Gaussian.variance + common[:, :, None]
    variance = np.einsum("id,ijd,jd->d", shares, shared, shares) + step.noise**2
    wanted = step.scale[-1] ** 2 * (cv.Gaussian.variance + sigma[-1] ** 2)
    return float(np.linalg.norm([*mean / step.std[-1], *(variance - wanted) / step.std[-1] ** 2]))
