"""Samplers of the reverse equation as black boxes: what they ask, which noise a step takes, their law."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refdiff.oracle.calls import TargetError, numbers
from refdiff.oracle.checks.forms import alternatives, finite, told
from refdiff.oracle.checks.plans import (
    COV,
    MEAN,
    SNR,
    D,
    Gaussian,
    Plan,
    Setting,
    coefficients,
    corrector,
    plain,
    setting_of,
    simulated,
)
from refdiff.oracle.checks.questions import Answer, Guess, Question, decide
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.continuum import At, outgoing, process_of, sensitivity
from refdiff.oracle.expected import NUDGE
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session
from refdiff.oracle.slips import FACTORS, edits
from refdiff.process import Process

Array = NDArray[Any]
LAYOUTS: tuple[tuple[int, ...], ...] = ((3,), (1, 1, 3))


@dataclass
class Ran:
    """A run of the target."""

    setting: Setting
    model: Gaussian
    out: Array
    draws: int
    dtype: str
    mutated: tuple[str, ...]
    others: tuple[str, ...]
    odd: tuple[tuple[int, ...], ...]


def ran(session: Session, port: str) -> Ran:
    """The run, in the first layout that the target takes."""
    return session.once(("sde", port), lambda: _ran(session, port, setting_of(session)))  # type: ignore[no-any-return]


def _ran(session: Session, port: str, setting: Setting) -> Ran:
    failure: TargetError | None = None
    for layout in LAYOUTS:
        try:
            return called(session, port, setting, layout)
        except TargetError as error:
            failure = failure or error
            if error.kind == "timeout":
                break
    assert failure is not None
    raise failure


def called(session: Session, port: str, setting: Setting, layout: tuple[int, ...]) -> Ran:
    """One call."""
    dialect, model = session.dialect, Gaussian(session)
    shape = (len(setting.x), *layout)
    noises, spare = (
        torch.as_tensor(one).reshape(-1, *shape) for one in (setting.noises, setting.corrector_noises)
    )
    given: dict[str, Any] = {
        "score_fn": model, "x": torch.as_tensor(setting.x).reshape(shape),
        "times": torch.as_tensor(outgoing(dialect, setting.process, setting.times)),
    }  # fmt: skip
    order: list[Tensor] = list(noises)
    if port == "predictor_corrector":
        given["snr"] = SNR
        pairs = zip(spare, noises, strict=True)
        order = [one for a, b in pairs for one in ((a, b) if dialect.corrector == "before" else (b, a))]
    given["noises"] = noises
    if port == "predictor_corrector":
        given["corrector_noises"] = spare
    drawn: list[tuple[int, ...]] = []

    def draw(number: int, wanted: tuple[int, ...]) -> Tensor:
        drawn.append(wanted)
        fits = wanted == shape and number < len(order)
        return order[number] if fits else torch.zeros(wanted, dtype=torch.float64)

    call = session.caller(port, given, draw)
    found = numbers(call.value)
    if tuple(found.values.shape) != shape:
        words = f"answer has shape {tuple(found.values.shape)}, wanted {shape}"
        raise TargetError("shape", words, "state-broadcast")
    out = found.values.reshape(len(setting.x), -1).numpy()
    odd = tuple(one for one in drawn if one != shape)
    return Ran(setting, model, out, len(drawn), found.dtype, call.mutated, tuple(call.tape.others), odd)


def value(session: Session, port: str) -> Finding:
    """The last state is the one of the declared steps with these noises."""
    found = ran(session, port)
    setting, corrected = found.setting, port == "predictor_corrector"
    here = setting.here()
    plan = plain(setting, session.dialect, here, corrected)
    want = simulated(setting, plan)
    asked = Question(
        {},
        want,
        _size(setting, plan, here, want),
        "discretization",
        lambda: finite(_guesses(setting, here, corrected)),
    )
    return decide(session, port, Answer(asked, found.out, found.dtype, found.mutated, found.others))


def _size(setting: Setting, plan: Plan, here: At, want: Array) -> Array:
    """By how much the last state moves when each coefficient is off by what it may be off."""
    units = sensitivity(setting.process, lambda one: coefficients(one, setting.dialect), here)
    size = 4 * np.abs(want)
    for row, i in np.ndindex(*plan.rows.shape):
        rows = plan.rows.copy()
        rows[row, i] += NUDGE * units[row, i]
        size = size + np.abs(simulated(setting, replace(plan, rows=rows)) - want) / NUDGE
    return np.asarray(size * (4.0 if plan.correct is not None else 1.0))


def _guesses(setting: Setting, here: At, corrected: bool) -> Iterator[Guess]:
    dialect, process = setting.dialect, setting.process
    plan = plain(setting, dialect, here, corrected)

    def run(changed: Plan) -> Array:
        with np.errstate(all="ignore"):
            return simulated(setting, changed)

    names = ("predictor", "step_beta", "variance", "prediction", "last_step")
    for name in (*names, *(("corrector_norm", "corrector") if corrected else ())):
        for other in alternatives(dialect, name):
            yield told(dialect, other, name), run(plain(setting, other, here, corrected))
    if corrected:
        # one that draws its own noises draws them in its own order
        for other in alternatives(dialect, "corrector"):
            own = plain(setting, other, here, corrected)
            own = replace(own, noise=own.corrector_noise, corrector_noise=own.noise)
            yield told(dialect, other, "corrector"), run(own)
    for family, words, changed in (*_noise_mistakes(plan), *_time_mistakes(setting, plan, here)):
        yield Diagnosis(family, words), run(changed)
    if corrected:
        for family, words, changed in _corrector_mistakes(setting, plan):
            yield Diagnosis(family, words), run(changed)
    for row, what in enumerate(("state", "score", "noise")):
        for factor, words in FACTORS:
            rows = plan.rows.copy()
            rows[row] = rows[row] * factor
            kind = "sign" if factor == -1 else ("schedule", "variance", "variance")[row]
            yield Diagnosis(kind, f"the coefficient of the {what} {words}"), run(replace(plan, rows=rows))
    for first, second in itertools.combinations(names, 2):
        for one in alternatives(dialect, first):
            for other in alternatives(one, second):
                yield told(dialect, other, first), run(plain(setting, other, here, corrected))
    for family, words, edited in edits(here, process):
        rows = coefficients(edited, dialect)
        yield Diagnosis(family, words), run(replace(plan, rows=rows))


Mistake = tuple[str, str, Plan]


def _noise_mistakes(plan: Plan) -> Iterator[Mistake]:
    n = len(plan.noise)
    for words, order in (
        ("every step takes the first noise", (0,) * n),
        ("every step takes the last noise", (n - 1,) * n),
        (
            "the noises are taken in the reverse order: not those of their own intervals",
            tuple(range(n))[::-1],
        ),
        ("step i takes the noise of step i + 1", (*range(1, n), n - 1)),
        ("step i takes the noise of step i + 1, and the last one none", (*range(1, n), -1)),
        ("step i takes the noise of step i + 1, and the last one the first", (*range(1, n), 0)),
        ("step i takes the noise of step i - 1", (0, *range(n - 1))),
    ):
        yield "state-broadcast", words, replace(plan, noise=order)
    yield "noise-at-t0", "no step adds noise", replace(plan, noise=(-1,) * n)


def _time_mistakes(setting: Setting, plan: Plan, here: At) -> Iterator[Mistake]:
    process, dialect, n = setting.process, setting.dialect, len(plan.noise)
    yield "index", "the score is asked at the next time", replace(plan, asked=setting.times[1:])
    yield (
        "index",
        "the score is asked at the first time only",
        replace(plan, asked=setting.times[:1].repeat(n)),
    )
    yield (
        "schedule",
        "the score is asked at times that run the other way",
        replace(plan, asked=process.end - setting.times[:-1]),
    )
    yield (
        "precision",
        "the score is asked at times cut to whole numbers",
        replace(plan, asked=np.floor(setting.times[:-1])),
    )
    yield "noise-at-t0", "the last step is left out", replace(plan, rows=plan.rows[:, :-1])
    yield (
        "index",
        "the first step is left out",
        replace(plan, rows=plan.rows[:, 1:], noise=plan.noise[1:], asked=plan.asked[1:]),
    )
    for words, h in (
        ("every step has the length end / N, whatever the times are", process.end / n),
        ("every step has the mean length, whatever the times are", float(here.h.mean())),
        ("every step has the length of the first", float(here.h[0])),
    ):
        other = here.but(h=np.full(n, h), root_h=np.full(n, h**0.5))
        yield "discretization", words, replace(plan, rows=coefficients(other, dialect))


def _corrector_mistakes(setting: Setting, plan: Plan) -> Iterator[Mistake]:
    norm, n = setting.dialect.corrector_norm, len(plan.noise)
    forms: tuple[tuple[str, str, dict[str, float]], ...] = (
        ("variance", "the factor 2 of the corrector's step is missing", {"factor": 1.0}),
        ("sqrt", "the corrector's step is not squared", {"power": 1.0}),
        ("sqrt", "the ratio in the corrector's step is upside down", {"power": -2.0}),
        ("variance", "the corrector's noise has the root of its step, not of twice that", {"noisy": 1.0}),
        ("noise-at-t0", "the corrector adds no noise", {"noisy": 0.0}),
        ("sign", "the corrector climbs down the density", {"sign": -1.0}),
        ("variance", "the corrector's step has half the score", {"sign": 0.5}),
    )
    for family, words, change in forms:
        yield family, words, replace(plan, correct=corrector(norm, **change))
    yield "discretization", "there is no corrector", replace(plan, correct=None)
    yield "discretization", "there is no predictor", replace(plan, predicts=False)
    yield (
        "state-broadcast",
        "corrector and predictor share their noise",
        replace(plan, corrector_noise=plan.noise),
    )
    yield (
        "state-broadcast",
        "predictor and corrector take each other's noise",
        replace(plan, corrector_noise=plan.noise, noise=plan.corrector_noise),
    )
    side = setting.times[1:] if plan.first else setting.times[:-1]
    yield "index", "the corrector asks at the other end of its step", replace(plan, corrected_at=side)
    first = setting.times[:1].repeat(n)
    yield "index", "the corrector asks at the first time", replace(plan, corrected_at=first)


def times(session: Session, port: str) -> Finding:
    """The score is asked at the times at which steps begin, and the corrector's where it works."""
    if session.dialect.predictor is None:
        raise NotApplicable("no predictor is declared: samplers are judged by their law")
    found = ran(session, port)
    got, grid = np.array(found.model.times), found.setting.times
    want = grid[:-1]
    if port == "predictor_corrector":
        orders = {
            "before": np.stack([grid[:-1], grid[:-1]], 1).flatten(),
            "after": np.stack([grid[:-1], grid[1:]], 1).flatten(),
        }
        want = orders.pop(session.dialect.corrector)
        ((other, theirs),) = orders.items()
        if got.shape == theirs.shape and np.abs(got - theirs).max() <= 1e-6 * found.setting.process.end:
            dialect = session.dialect.but(corrector=other)
            words = f"the score is asked as by a corrector {other} the predictor"
            return fail("convention", words, dialect=dialect, also=("index", "discretization"))
    fields: dict[str, Any] = {
        "asked": "times at which the score is asked",
        "got": got.tolist(),
        "wanted": want.tolist(),
    }
    if not len(got):
        return fail("state-broadcast", "the score is never asked", **fields)
    if np.isnan(got).any():
        return fail("state-broadcast", "one call of the score has different times for its rows", **fields)
    if got.shape == want.shape and np.abs(got - want).max() <= 1e-6 * found.setting.process.end:
        return Finding(True)
    if got.shape != want.shape:
        words = f"the score is asked {len(got)} times, wanted {len(want)}"
        return fail("discretization", words, also=("index",), **fields)
    if (np.abs(got - np.floor(want)) <= 1e-9).all():
        return fail("precision", "the times are cut to whole numbers", **fields)
    for scale in (999.0, 1000.0, 0.001):
        if np.abs(got / scale - want).max() <= 1e-6 * found.setting.process.end:
            dialect = session.dialect.but(time_scale=session.dialect.time_scale * scale)
            words = f"the score is asked with {scale:g} t"
            return fail("convention", words, dialect=dialect, also=("time-embedding", "schedule"), **fields)
    if np.abs(found.setting.process.end - got - want).max() <= 1e-6 * found.setting.process.end:
        return fail("schedule", "the score is asked at times that run the other way", **fields)
    return fail("index", "the score is asked at other times", **fields)


def noise_count(session: Session, port: str) -> Finding:
    """The noises that are drawn are the steps', each for every row."""
    found = ran(session, port)
    count = len(found.setting.times) - 1
    most = count * (2 if port == "predictor_corrector" else 1)
    if found.odd:
        return fail("state-broadcast", f"draws noise of shape {found.odd[0]}: rows share it")
    if found.others:
        return fail("state-broadcast", f"draws that are not Gaussian: {', '.join(found.others)}")
    if found.draws > most:
        return fail("variance", f"{found.draws} noises for {count} steps, {most} are wanted")
    return Finding(True)


def inputs_unchanged(session: Session, port: str) -> Finding:
    """A call does not change its arguments."""
    found = ran(session, port)
    if found.mutated:
        return fail("state-broadcast", f"changes its argument {', '.join(found.mutated)} in place")
    return Finding(True)


for _port in ("sde_sample", "predictor_corrector"):
    for _law in (value, times, noise_count, inputs_unchanged):
        check(f"{_port}.{_law.__name__}", _port)(partial(_law, port=_port))

# steps of these two runs; the error of the law must fall with the step
COARSE, FINE = 12, 48
FALLS = 0.6


@check("sde_sample.law")
def law(session: Session) -> Finding:
    """Started in the exact law of Gaussian data, the sampler ends in it but for an error of its steps.

    Nothing but the process is declared here: for affine scores the last state is affine in the first one and
    in every noise, so that one run with unit vectors has the law exactly.
    """
    if session.dialect.time_steps is not None:
        raise NotApplicable("a sampler over tables has one number of steps")
    gaps = []
    for count in (COARSE, FINE):
        got, want, bent = _moments(session, count)
        if bent > 1e-3:
            return fail(
                "data-scaling", "the last state is not affine in the first: it is clipped", error=bent
            )
        off = max(float(np.abs(a - b).max()) for a, b in zip(got, want, strict=True))
        gaps.append(off / float(want[1].max()))
    fields: dict[str, Any] = {
        "error": gaps[1], "tolerance": FALLS * gaps[0], "got": gaps[1],
        "wanted": f"below {FALLS * gaps[0]:.4g}",
        "asked": f"sde_sample: error of the law with {COARSE} and {FINE} steps",
    }  # fmt: skip
    if gaps[1] <= max(FALLS * gaps[0], 1e-6):
        return Finding(True, f"errors of the law {gaps[0]:.3g} and {gaps[1]:.3g}", **fields)
    words = f"the error of the law is {gaps[0]:.3g} with {COARSE} steps, {gaps[1]:.3g} with {FINE}"
    return fail("discretization", f"{words}: it goes elsewhere", also=("variance", "sign"), **fields)


def _moments(session: Session, count: int) -> tuple[tuple[Array, Array], tuple[Array, Array], float]:
    dialect, process = session.dialect, process_of(session.dialect)
    ends = process.end * np.array([0.75, 0.0625])
    grid = np.linspace(ends[0], ends[1], count + 1)
    exact = [_law_at(process, t) for t in ends]
    total = 1 + D + D * count + 1
    root = np.linalg.cholesky(exact[0][1])
    x = np.tile(exact[0][0], (total, 1))
    x[1 : 1 + D] += root.T
    x[-1] += 3 * root.sum(1)
    noises = np.zeros((count, total, D))
    for i in range(count):
        noises[i, 1 + D + D * i : 1 + 2 * D + D * i] = np.eye(D)
    found = _ran(session, "sde_sample", Setting(dialect, process, grid, x, noises, noises[:0]))
    out = found.out
    columns = out[1:-1] - out[0]
    affine = out[0] + 3 * columns[:D].sum(0)
    bent = float(np.abs(out[-1] - affine).max() / (1 + np.abs(affine).max()))
    return (out[0], columns.T @ columns), exact[1], bent


def _law_at(process: Process, t: float) -> tuple[Array, Array]:
    scale, var = float(process.scale(float(t))), float(process.variance(float(t)))
    return scale * MEAN, scale**2 * COV + var * np.eye(D)
