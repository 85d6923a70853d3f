"""A whole sampler: what it asks of its model, its steps, its noises, and the exact law of its output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdiff.oracle import diagnose, formulas, law
from refdiff.oracle.calls import TargetError
from refdiff.oracle.checks import timesteps
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.compare import Comparison, compare
from refdiff.oracle.expected import ROUNDOFF, UNIT, Expected, expected
from refdiff.oracle.hypotheses import Case
from refdiff.oracle.points import Points, Tables
from refdiff.oracle.report import Diagnosis, agreement
from refdiff.oracle.session import Session
from refdiff.oracle.target import Dialect

Array = NDArray[Any]
COUNTS = (10, 7)
AFFINE = 1e-6
BENT = 1e-6


@dataclass(frozen=True)
class Known:
    """The sampler that a run is compared with.

    Args:
        kind: ddim or ddpm.
        eta: of ddim.
        points: the levels of its steps.
        want: coefficients of (state, output, noise).
        decided: the comparison.
        source: whose tables.
        table: the tables.
        dialect: of the comparison.
    """

    kind: str
    eta: float
    points: Points
    want: Expected
    decided: Comparison
    source: str
    table: Tables
    dialect: Dialect

    @property
    def name(self) -> str:
        """In words."""
        if self.kind == "ddpm":
            return f"ancestral DDPM with variance {self.dialect.variance}"
        return f"DDIM with eta = {self.eta:.6g}"


def perfect(session: Session) -> law.PerfectModel:
    """The perfect model for the declared schedule."""
    kind = session.dialect.parameterization
    return session.once("perfect", lambda: law.PerfectModel(session.declared, kind))  # type: ignore[no-any-return]


def plan(session: Session) -> tuple[int, ...]:
    """Numbers of steps: few, one that does not divide T, all."""
    T = session.T
    return tuple(
        n for n in dict.fromkeys([*(n for n in COUNTS if n < T), T]) if not timesteps.leaves(session, n)
    )


def runs(session: Session) -> dict[int, law.Run]:
    """A run with generic numbers for each number of steps that the sampler takes."""
    return session.once("runs", lambda: _runs(session))  # type: ignore[no-any-return]


def _runs(session: Session) -> dict[int, law.Run]:
    found: dict[int, law.Run] = {}
    failure: TargetError | None = None
    for n in plan(session):
        try:
            found[n] = _run(session, n, found)
        except TargetError as error:
            failure = failure or error
            if error.kind == "timeout":
                raise
    if not found and failure is not None:
        raise failure
    if session.T not in found and failure is not None and failure.kind != "raised":
        raise failure
    refused = [n for n in plan(session) if n not in found]
    if refused and failure is not None and not str(failure).startswith(("ValueError", "NotImplementedError")):
        raise TargetError(failure.kind, f"steps = {refused[0]}: {failure}", failure.family)
    return found


def _run(session: Session, n: int, before: dict[int, law.Run]) -> law.Run:
    """A run; the long one takes the law with it, once the number of draws is known from a short one."""
    if n != session.T or not before:
        return law.sampled(session.caller, perfect(session), n)
    short = next(iter(before.values()))
    draws = -(-short.draws.count // max(len(short.levels), 1)) * n
    run, moments, bent = law.sampled_and_exact(session.caller, perfect(session), n, draws)
    if run.draws.count <= draws:
        session.cache["law", n] = moments, bent
    return run


def exactly(session: Session, n: int) -> tuple[law.Moments, float]:
    """The exact law of a sampler's output, and how far it is from affine in x_T."""
    count = runs(session)[n].draws.count
    return session.once(("law", n), lambda: law.exact(session.caller, perfect(session), n, count))  # type: ignore[no-any-return]


def steps(session: Session, n: int) -> law.Steps:
    """The coefficients of the steps of a run."""
    return session.once(("steps", n), lambda: law.steps(runs(session)[n]))  # type: ignore[no-any-return]


def main(session: Session) -> int:
    """The number of steps that most checks look at."""
    return next(iter(runs(session)))


def whole_chain(session: Session, run: law.Run) -> bool:
    """Whether a sampler visits all T levels whatever it is asked."""
    return run.n != session.T and len(run.levels) == session.T


@check("sample.step_count")
def step_count(session: Session) -> Finding:
    """The model is asked once a step."""
    for n, run in runs(session).items():
        got = len(run.levels)
        if got == n or whole_chain(session, run):
            continue
        twice = len(run.levels) != len(set(run.levels))
        fields = {"got": got, "wanted": n, "asked": f"sample(model, x_T, {n})", "worst": {"steps": n}}
        if got == 0:
            return fail("state-broadcast", "the model is never asked", **fields)
        if got < n:
            message = f"{got} calls of the model for {n} steps: the loop ends {n - got} step(s) early"
            return fail("index", message, also=("noise-at-t0", "schedule"), **fields)
        message = f"{got} calls of the model for {n} steps" + (": a level is visited twice" if twice else "")
        return fail("index", message, also=("schedule",), **fields)
    ignored = [n for n, run in runs(session).items() if whole_chain(session, run)]
    return Finding(True, "visits every level whatever number of steps is asked" if ignored else "")


@check("sample.levels")
def levels(session: Session) -> Finding:
    """The model is asked at whole levels of 1..T that descend strictly, by the declared rule."""
    for n, run in runs(session).items():
        asked = np.array(run.levels)
        worst = {"steps": n}
        if not np.isfinite(asked).all():
            return fail(
                "state-broadcast", "one call of the model has different levels for its rows", worst=worst
            )
        if (asked != np.round(asked)).any():
            message = f"the model is asked at {asked[asked != np.round(asked)][0]:g}, which is no level"
            return fail("index", message, also=("schedule", "time-embedding"), worst=worst)
        if len(asked) > 1 and (np.diff(asked) > 0).all():
            message = f"the levels ascend from {asked[0]:g} to {asked[-1]:g}: from clean to noisy"
            return fail("index", message, worst=worst)
        if (np.diff(asked) >= 0).any():
            index = int(np.flatnonzero(np.diff(asked) >= 0)[0])
            message = f"the levels do not descend: {asked[index]:g} then {asked[index + 1]:g}"
            return fail("index", message, also=("schedule",), worst=worst)
        if asked.min() < 1 or asked.max() > session.T:
            return _out_of_range(session, asked, worst)
        wrong = _against_rule(session, n, asked.astype(np.int64))
        if wrong is not None:
            return wrong
    return Finding(True)


def _out_of_range(session: Session, asked: Array, worst: dict[str, Any]) -> Finding:
    origin = session.dialect.index_origin
    low, high = int(asked.min()), int(asked.max())
    message = f"the model is asked at levels {low}..{high} of 1..{session.T}"
    if origin == 1 and low == 0:
        dialect = session.dialect.but(index_origin=0)
        return fail(
            "index", f"{message}: labels start at 0", dialect=dialect, also=("convention",), worst=worst
        )
    return fail("index", message, worst=worst)


def _against_rule(session: Session, n: int, asked: Array) -> Finding | None:
    if len(asked) != n:
        return None
    got = np.append(asked, 0)
    if "timesteps" in session.offered:
        try:
            own = timesteps.taken(session).get(n)
        except TargetError:
            own = None
        if own is not None and len(own) == len(got) and not np.array_equal(own, got):
            message = f"asks at {_short(got)}, but timesteps({n}) is {_short(own)}"
            return fail("index", message, also=("schedule",), worst={"steps": n})
        return None
    declared, offset = session.dialect.spacing, session.dialect.offset
    if declared is not None:
        want = timesteps.expected(session.T, n, declared, offset)
        if np.abs(got - want).max() > (1 if declared in ("linspace", "trailing") else 0):
            other = timesteps.recognised(session.T, {n: got})
            if other is not None:
                dialect = session.dialect.but(spacing=other[0], offset=other[1])
                return fail(
                    "convention",
                    f"the levels are {other[0]}, offset {other[1]}",
                    dialect=dialect,
                    also=("schedule", "index"),
                )
            return fail(
                "index",
                f"levels {_short(got)}, wanted {_short(want)}",
                also=("schedule",),
                worst={"steps": n},
            )
    elif asked[0] < 0.4 * session.T and n > 1:
        message = f"starts at level {asked[0]} of {session.T}: the noisiest levels are never visited"
        return fail("schedule", message, also=("index",), worst={"steps": n})
    elif n == session.T and asked[0] != session.T:
        return fail("index", f"starts at level {asked[0]}, not at T", worst={"steps": n})
    return None


_short = timesteps._short


@check("sample.start")
def start(session: Session) -> Finding:
    """The first state that the model sees is x_T."""
    n = main(session)
    found = steps(session, n)
    factor, rest = found.start
    first = int(np.clip(found.t[0], 1, session.T))
    abar = float(np.exp(session.declared.log_abar[first]))
    low = float(np.exp(session.declared.log_abar[1]))
    if rest > 1e-4 * (1 + abs(factor)):
        if runs(session)[n].visits[0].draws:
            return fail("state-broadcast", "does not start from x_T but from noise of its own")
        return fail("data-scaling", "the first state is not a multiple of x_T")
    known = [1.0]
    if session.dialect.space == "ve":
        known += [np.sqrt(1 - abar), np.sqrt(1 - float(np.exp(session.declared.log_abar[-1])))]
    if any(abs(factor - value) <= 1e-5 * value for value in known):
        return Finding(True, got=factor, wanted=1.0)
    sigma = np.sqrt(1 / abar - 1)
    guesses = (
        (
            1 / np.sqrt(abar),
            "data-scaling",
            "the model input is not divided by sqrt(sigma² + 1)",
            ("parameterization",),
        ),
        (
            sigma,
            "data-scaling",
            "the state starts at sigma_max and is not scaled for the model",
            ("parameterization",),
        ),
        (
            abar,
            "parameterization",
            "the start is divided by sqrt(sigma² + 1), where it is to be multiplied",
            ("data-scaling",),
        ),
        (
            np.sqrt(abar),
            "parameterization",
            "the start is scaled by sqrt(alpha_bar): into another space",
            ("data-scaling",),
        ),
        (
            np.sqrt(abar * (1 - abar)),
            "parameterization",
            "the start is scaled by sigma in another space",
            ("data-scaling",),
        ),
        (
            np.sqrt(1 - abar),
            "data-scaling",
            "the start is scaled by sqrt(1 - alpha_bar_T)",
            ("parameterization",),
        ),
        (
            np.sqrt(abar / low),
            "noise-at-t0",
            "the start has the standard deviation of the last level, not of the first",
            ("index",),
        ),
        (
            np.sqrt(1 / low - 1) * np.sqrt(abar),
            "noise-at-t0",
            "the start has sigma of the last level, not of the first",
            ("index",),
        ),
    )
    value, family, words, also = min(guesses, key=lambda guess: abs(factor - guess[0]) / guess[0])
    if abs(factor - value) <= 1e-4 * value:
        return fail(family, words, also=also, got=factor, wanted=1.0)
    return fail(
        "data-scaling", f"the first state is {factor:.6g} x_T", also=("noise-at-t0",), got=factor, wanted=1.0
    )


@check("sample.noise_count")
def noise_count(session: Session) -> Finding:
    """At most one noise a step, drawn for every row."""
    for n, run in runs(session).items():
        if run.draws.odd:
            return fail("state-broadcast", f"draws noise of shape {run.draws.odd[0]}, shared by rows")
        if run.others:
            return fail(
                "state-broadcast", f"draws that are not Gaussian noise: {', '.join(sorted(set(run.others)))}"
            )
        used = steps(session, n).noises
        if (used > 1).any():
            index = int(np.argmax(used))
            return fail(
                "variance",
                f"step {index + 1} of {n} uses {used[index]} independent noises",
                worst={"steps": n},
            )
    return Finding(True)


@check("sample.inputs_unchanged")
def inputs_unchanged(session: Session) -> Finding:
    """x_T is not changed in place."""
    for run in runs(session).values():
        if run.mutated:
            return fail("state-broadcast", f"changes its argument {', '.join(run.mutated)} in place")
    return Finding(True)


def usable(session: Session, n: int) -> law.Steps:
    """Steps that are one affine map each."""
    found = steps(session, n)
    if len(found.t) == 0:
        raise NotApplicable("the model is never asked")
    if not (found.residual <= _affine(session)).all():
        raise NotApplicable("a step is not a combination of its state, one model output and its noise")
    return found


def _affine(session: Session) -> float:
    return 1e-3 if session.dialect.dtype == "float32" else AFFINE


@check("sample.affine")
def affine(session: Session) -> Finding:
    """Every step is a combination of its state, the model's output and its noise."""
    for n in runs(session):
        found = steps(session, n)
        if len(found.t) == 0 or (found.residual <= _affine(session)).all():
            continue
        index = int(np.argmax(found.residual))
        if not np.isfinite(found.values[:, index]).all():
            family = _family_of_the_step(session) or "parameterization"
            return fail(
                family,
                f"step {index + 1} of {n} is not finite",
                also=("noise-at-t0",),
                worst=_step(found, index),
            )
        if session.dialect.clip is not None:
            return Finding(True, "clipped, as declared")
        message = f"step {index + 1} of {n} is no combination of its state, one model output and its noise"
        error = float(found.residual[index])
        return fail("convention", f"{message}: x_0 is clipped, or the method has several stages or a memory",
                    dialect=session.dialect.but(clip=1.0), also=("state-broadcast", "discretization"),
                    worst=_step(found, index), error=error, tolerance=_affine(session))  # fmt: skip
    return Finding(True)


def _family_of_the_step(session: Session) -> str | None:
    """What the single step is diagnosed with, where it was asked before and fails."""
    for port in ("ddpm_step", "ddim_step"):
        found = session.cache.get(("finding", f"{port}.coefficients"))
        if found is not None and found.diagnosis is not None:
            return str(found.diagnosis.family)
    return None


def _step(found: law.Steps, index: int) -> dict[str, Any]:
    return {"step": index + 1, "t": int(found.t[index]), "s": int(found.s[index])}


def known(session: Session, n: int) -> Known:
    """The sampler nearest to what was measured: the first that agrees, else the one with the fewest wrong
    steps."""
    return session.once(("known", n), lambda: _known(session, n))  # type: ignore[no-any-return]


def _known(session: Session, n: int) -> Known:
    found = usable(session, n)
    tried = [_compared(session, found, *candidate) for candidate in _candidates(session, found)]
    for one in tried:
        if one.decided.ok:
            return one
    return min(tried, key=lambda one: int(one.decided.failing.sum()))


def _candidates(session: Session, found: law.Steps) -> list[tuple[str, float, str, Tables, Dialect]]:
    plain = session.dialect.but(space="vp", eta="eta")
    kinds: list[tuple[str, float, Dialect]] = []
    noisy = bool((np.abs(found.values[2]) > 0).any())
    learned = session.dialect.variance in law.LEARNED
    if session.dialect.sampler != "ddim" and (noisy or session.dialect.sampler == "ddpm" or learned):
        kinds.append(("ddpm", 1.0, plain))
    if session.dialect.sampler != "ddpm":
        etas = [0.0, 1.0, *fitted_eta(session, found)] if noisy else [0.0]
        kinds += [("ddim", eta, plain) for eta in etas]
    return [
        (kind, eta, source, table, dialect)
        for source, table in session.candidates.items()
        for kind, eta, dialect in kinds
    ]


def fitted_eta(session: Session, found: law.Steps) -> list[float]:
    """The eta that most steps agree on."""
    table = session.declared
    points = Points(
        np.clip(found.t, 1, table.T), np.clip(found.s, 0, table.T), {"eta": np.ones(len(found.t))}
    )
    want = (
        expected(formulas.PORTS["ddim_step"], session.dialect.but(space="vp"), table, points)
        .values[2]
        .astype(float)
    )
    with np.errstate(all="ignore"):
        ratio = np.abs(found.values[2]) / want
    ratio = ratio[np.isfinite(ratio)]
    if len(ratio) == 0:
        return []
    # the number that the caller gives is short: eta, or its square
    power = 2 if session.dialect.eta == "eta_squared" else 1
    return [round(float(np.median(ratio)) ** power, 9) ** (1 / power)]


def _compared(
    session: Session,
    found: law.Steps,
    kind: str,
    eta: float,
    source: str,
    table: Tables,
    dialect: Dialect,
) -> Known:
    points, want = _wanted(found, kind, eta, table, dialect)

    def scan() -> tuple[Array, Expected]:
        # rounding is told from a formula on the run with the most levels
        longest = steps(session, max(runs(session)))
        levels, there = _wanted(longest, kind, eta, table, dialect)
        order = np.argsort(levels.t)
        return (np.abs(longest.values) * _signs(longest))[:, order], there.pick(order)

    everything = np.ones(len(found.t), dtype=bool)
    got = np.abs(found.values) * _signs(found)
    decided = compare(got, want, everything, session.dialect, scan)
    return Known(kind, eta, points, want, decided, source, table, dialect)


def _wanted(
    found: law.Steps, kind: str, eta: float, table: Tables, dialect: Dialect
) -> tuple[Points, Expected]:
    """What a known sampler does between the levels of a run."""
    scalars = {"eta": np.full(len(found.t), eta)} if kind == "ddim" else {}
    if kind == "ddpm" and dialect.variance in law.LEARNED:
        value = law.LEARNED[dialect.variance]
        fraction = (value + 1) / 2 if dialect.variance == "learned_range" else value
        scalars["f"] = np.full(len(found.t), fraction)
    points = Points(np.clip(found.t, 1, table.T), np.clip(found.s, 0, table.T), scalars)
    return points, _conditioned(found, expected(formulas.SAMPLERS[kind], dialect, table, points))


def _signs(found: law.Steps) -> Array:
    """The sign of a noise does not change a law."""
    signs = np.sign(found.values)
    signs[2] = np.abs(signs[2])
    return signs


def _conditioned(found: law.Steps, want: Expected) -> Expected:
    """Coefficients that are read by regression are blurred by the rounding of the states."""
    return Expected(want.states, want.values, want.local + found.blur, want.grown, want.tables)


@check("sample.coefficients")
def coefficients(session: Session) -> Finding:
    """Every step is the one of a known sampler between the levels that the model is asked at."""
    worst: Known | None = None
    for n in runs(session):
        found = usable(session, n)
        best = known(session, n)
        if not best.decided.ok:
            return _wrong(session, n, found, best)
        if worst is None or best.decided.error > worst.decided.error:
            worst = best
    if worst is None:
        raise NotApplicable("no number of steps was taken")
    own = "" if worst.source == "declared" else f", with the target's own {worst.source}"
    figures: dict[str, Any] = {"error": worst.decided.error, "tolerance": worst.decided.tolerance}
    return Finding(True, worst.name + own, precision=worst.decided.precision, **figures)


def _wrong(session: Session, n: int, found: law.Steps, best: Known) -> Finding:
    row, point = best.decided.row, best.decided.point
    got, wanted = float(found.values[row, point]), float(best.want.values[row, point])
    digits, ulps = agreement(got, wanted, ROUNDOFF)
    name = ("the state", "the model's output", "the noise")[row]
    return Finding(
        False,
        f"nearest: {best.name}",
        explained(session, n, found, best),
        error=best.decided.error,
        tolerance=best.decided.tolerance,
        worst=_step(found, point),
        asked=f"sample, {n} steps: coefficient of {name} in the step {found.t[point]} -> {found.s[point]}",
        got=got,
        wanted=wanted,
        digits=digits,
        ulps=ulps,
    )


def explained(session: Session, n: int, found: law.Steps, best: Known) -> Diagnosis:
    """Which mistake the steps of a sampler are."""
    return session.once(("explained", n), lambda: _explained(session, n, found, best))  # type: ignore[no-any-return]


def _explained(session: Session, n: int, found: law.Steps, best: Known) -> Diagnosis:
    chain = chained(session, found, best)
    if chain is not None:
        return chain
    few = np.linspace(0, len(found.t) - 1, min(len(found.t), 24)).round().astype(int)
    few = np.unique(few)
    port = formulas.SAMPLERS[best.kind]
    case = Case(
        port.name,
        best.dialect,
        best.table,
        best.points.pick(few),
        (np.abs(found.values) * _signs(found))[:, few],
        best.want.pick(few),
        np.ones(len(few), dtype=bool),
        formulas.programs(port, best.dialect),
        steps=n,
    )
    return diagnose.budgeted(session, case)


def chained(session: Session, found: law.Steps, best: Known) -> Diagnosis | None:
    """The steps are right, but for other levels than those that the model is asked at next."""
    wrong = np.flatnonzero(best.decided.failing)
    ends = implied_ends(session, found, best, wrong[:12])
    if not ends or any(end is None for end in ends.values()):
        return None
    index, end = next(iter(ends.items()))
    t, s = int(found.t[index]), int(found.s[index])
    stride = session.T // max(len(found.t), 1)
    if end is not None and t - end == stride and t - s != stride:
        wrong_end = f"{t} - {stride} = {end}"
        message = (
            f"the previous level is taken by stride, not from the list: the step from {t} ends at {wrong_end}"
        )
        message = f"{message}, but the next begins at {s}"
    elif end is not None and all(e == found.t[i] - 1 for i, e in ends.items()):
        message = (
            f"the step from {t} ends at {end} = t - 1, the next begins at {s}: coefficients of neighbours"
        )
    else:
        message = f"the step from {t} ends at level {end}, but the next begins at {s}"
    also = ("noise-at-t0",) if s == 0 and len(wrong) == 1 else ("schedule",)
    if s == 0 and len(wrong) == 1:
        message = f"the last step ends at level {end}, not at data: its noise stays"
        if end == 1 or end is not None:
            return Diagnosis("noise-at-t0", message, also=("index", "schedule", "convention"))
    return Diagnosis("index", message, also=also)


def implied_ends(session: Session, found: law.Steps, best: Known, which: Array) -> dict[int, int | None]:
    """For some steps: the level at which each really ends, whatever is asked next; None where no level
    fits."""
    ends: dict[int, int | None] = {}
    port = formulas.SAMPLERS[best.kind]
    for i in which:
        t = int(np.clip(found.t[i], 1, session.T))
        s = np.arange(t)
        scalars = {name: np.full(len(s), value[i]) for name, value in best.points.scalars.items()}
        points = Points(np.full(len(s), t), s, scalars)
        want = expected(port, best.dialect, best.table, points)
        value = (np.abs(found.values) * _signs(found))[:, i : i + 1]
        unit = UNIT["float32"]
        slack = want.tolerance(unit).astype(float) + 16 * unit * best.want.local[:, i : i + 1].astype(float)
        # where the noise was masked at the last step, state and output decide
        rows = slice(0, 2) if found.s[i] == 0 else slice(0, 3)
        ratio = (np.abs(value - want.values.astype(float)) / np.maximum(slack, 1e-300))[rows].max(0)
        nearest = int(np.nanargmin(np.where(np.isfinite(ratio), ratio, np.inf)))
        ends[int(i)] = int(s[nearest]) if ratio[nearest] <= 1 else None
    return ends


@check("sample.level_continuity")
def level_continuity(session: Session) -> Finding:
    """The level at which a step ends is the level at which the model is asked next."""
    for n in runs(session):
        found = usable(session, n)
        best = known(session, n)
        if best.decided.ok:
            continue
        chain = chained(session, found, best)
        if chain is not None:
            return Finding(False, "", chain, worst={"steps": n})
    return Finding(True)


@check("sample.last_step_noise")
def last_step_noise(session: Session) -> Finding:
    """The last step adds no noise."""
    for n in runs(session):
        found = usable(session, n)
        size = abs(float(found.values[2, -1]))
        if size > 1e-9:
            message = f"the last step adds noise (coefficient {size:.3g})"
            return fail("noise-at-t0", message, got=size, wanted=0.0, worst=_step(found, len(found.t) - 1))
    return Finding(True)


@check("sample.exact_law")
def exact_law(session: Session) -> Finding:
    """Mean and covariance of the output, exactly, are those of the known sampler on the same levels."""
    finding = Finding(True)
    counts = [n for n in runs(session) if n in (main(session), session.T)]
    for n in counts:
        finding = _exact_law(session, n)
        if not finding.ok:
            return finding
    return finding


def _exact_law(session: Session, n: int) -> Finding:
    got, bent = exactly(session, n)
    if not np.isfinite(got.mean).all():
        raise NotApplicable("the output is not finite")
    if not np.isfinite(session.declared.log_abar[-1]):
        raise NotApplicable("the law in terms of eps is not defined without signal at T")
    if session.dialect.clip is None and not bent <= max(BENT, _affine(session)):
        dialect = session.dialect.but(clip=1.0)
        return fail(
            "convention",
            "the output is not affine in x_T: x_0 is clipped",
            dialect=dialect,
            also=("data-scaling",),
            error=bent,
        )
    found = usable(session, n)
    best = known(session, n)
    values = expected(formulas.SAMPLERS[best.kind], best.dialect, best.table, best.points)
    # where a level has no signal the formula is a limit: what was measured there is taken
    exact = np.where(np.isfinite(values.values), values.values, found.values).astype(float)
    unit = UNIT["float32" if best.decided.precision in ("float32", "float32 tables") else "float64"]
    plain = law.Steps(found.t, found.s, found.values, found.residual, (1.0, 0.0), found.noises, found.blur)
    if session.dialect.space == "ve":
        plain = found
    tolerance = np.nan_to_num(values.tolerance(unit).astype(float), nan=1e-12, posinf=1e-12)
    want, error = law.propagated(perfect(session), plain, exact, tolerance, best.dialect)
    gap = got.distance(want)
    fields: dict[str, Any] = {
        "error": gap,
        "tolerance": error,
        "asked": f"law of the output of {n} steps for Gaussian data",
        "got": _trace(got),
        "wanted": _trace(want),
        "worst": {"steps": n},
    }
    digits, ulps = agreement(_trace(got), _trace(want), ROUNDOFF)
    fields |= {"digits": digits, "ulps": ulps}
    if gap <= max(error, 1e-12):
        return Finding(
            True,
            f"{n} steps of {best.name}; mean and covariance to {gap:.2g}",
            precision=best.decided.precision,
            **fields,
        )
    if not best.decided.ok:
        return Finding(False, f"nearest: {best.name}", explained(session, n, found, best), **fields)
    return Finding(False, best.name, _law_only(got, want), **fields)


def _trace(moments: law.Moments) -> float:
    return float(np.trace(moments.cov))


def _law_only(got: law.Moments, want: law.Moments) -> Diagnosis:
    if np.abs(got.mean - want.mean).max() > np.abs(got.cov - want.cov).max():
        return Diagnosis(
            "data-scaling",
            "the steps are right, but the mean of the output is not: something is added before or after",
        )
    return Diagnosis(
        "state-broadcast",
        "the steps are right, but the covariance of the output is not: rows or draws are not independent",
    )
