"""Langevin chains and annealed ones: what they ask, their steps, their noises, their exact law."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refdiff.oracle import chains, diagnose, formulas, law
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.compare import Comparison, compare
from refdiff.oracle.expected import ROUNDOFF, UNIT, Expected, expected
from refdiff.oracle.hypotheses import Case
from refdiff.oracle.points import Points
from refdiff.oracle.report import Diagnosis, agreement
from refdiff.oracle.session import Session

Array = NDArray[Any]
AFFINE = {"float64": 1e-6, "float32": 1e-3}
# two runs: what is one number in both is not told from another
STEPS = ((0.05, 8), (0.02, 5))
LADDERS = (((2.0, 0.8, 0.4, 0.2), 0.01, 3), ((1.5, 0.6, 0.25), 0.02, 2))


@dataclass(frozen=True)
class Chain:
    """One way to run a chain, and what it is made of.

    Args:
        sigmas: levels (one of 0 for plain Langevin dynamics).
        give: the arguments for a score and a first state.
        scalars: the scalars of a step at each level.
        plan: the level of each step.
    """

    sigmas: tuple[float, ...]
    give: Callable[[chains.Score, Tensor], dict[str, Any]]
    scalars: Callable[[Array], dict[str, Array]]
    plan: tuple[int, ...]


def _plain(h: float, n: int) -> Chain:
    def give(score: chains.Score, x: Tensor) -> dict[str, Any]:
        return {"score_fn": score, "x": x, "step_size": h, "steps": n}

    return Chain((0.0,), give, lambda level: {"step_size": np.full(len(level), h)}, (0,) * n)


def _annealed(sigmas: tuple[float, ...], epsilon: float, n: int) -> Chain:
    ladder = np.array(sigmas)

    def give(score: chains.Score, x: Tensor) -> dict[str, Any]:
        table = torch.tensor(sigmas, dtype=torch.float64)
        return {"score_fn": score, "sigmas": table, "x": x, "epsilon": epsilon, "steps": n}

    def scalars(level: Array) -> dict[str, Array]:
        last, same = np.full(len(level), sigmas[-1]), np.full(len(level), epsilon)
        return {"sigma": ladder[level], "sigma_last": last, "epsilon": same}

    return Chain(sigmas, give, scalars, tuple(i for i in range(len(sigmas)) for _ in range(n)))


STEP_OF = {"langevin_sample": "langevin_step", "annealed_langevin": "annealed_langevin_step"}


def ways(session: Session, port: str) -> tuple[Chain, ...]:
    """The runs of a port."""
    if port == "langevin_sample":
        # a step of the size h goes h along the score, whatever its name
        roots = {"eta": 1.0, "half": 2.0}
        rule = session.dialect.langevin
        sizes = [(roots[rule] * h if rule in roots else (2 * h) ** 0.5, n) for h, n in STEPS]
        return tuple(_plain(h, n) for h, n in sizes)
    return tuple(_annealed(*ladder) for ladder in LADDERS)


def runs(session: Session, port: str) -> tuple[chains.Ran, ...]:
    """The runs with generic numbers."""
    return session.once(  # type: ignore[no-any-return]
        ("chains", port),
        lambda: tuple(chains.sampled(session, port, way.give, way.sigmas) for way in ways(session, port)),
    )


def plan(session: Session, way: Chain) -> tuple[int, ...]:
    """The level of each call of the score, the final denoising included."""
    last = (len(way.sigmas) - 1,) if session.dialect.denoise and len(way.sigmas) > 1 else ()
    return way.plan + last


@check("langevin_sample.step_count")
def step_count(session: Session) -> Finding:
    """The score is asked once a step."""
    for way, ran in zip(ways(session, "langevin_sample"), runs(session, "langevin_sample"), strict=True):
        got, want = len(ran.labels), len(way.plan)
        fields: dict[str, Any] = {"got": got, "wanted": want, "asked": f"calls of the score in {want} steps"}
        if got == 0:
            return fail("state-broadcast", "the score is never asked", **fields)
        if got != want:
            return fail("index", f"the score is asked {got} times in {want} steps", **fields)
    return Finding(True)


@check("annealed_langevin.levels")
def levels(session: Session) -> Finding:
    """The levels descend from the largest, each for the asked number of steps."""
    for way, ran in zip(ways(session, "annealed_langevin"), runs(session, "annealed_langevin"), strict=True):
        wrong = _levels(session, way, ran)
        if wrong is not None:
            return wrong
    return Finding(True)


def _levels(session: Session, way: Chain, ran: chains.Ran) -> Finding | None:
    want, labels = plan(session, way), ran.labels
    if not labels:
        return fail("state-broadcast", "the score is never asked")
    if any(label is None for label in labels):
        return fail("index", "the score is asked without the label of a level")
    got = np.array(labels, dtype=float)
    if not np.isfinite(got).all():
        return fail("state-broadcast", "one call of the score has different labels for its rows")
    names = {"index": np.array(want, float), "sigma": np.array(way.sigmas)[list(want)]}
    declared = session.dialect.noise_label

    def is_(values: Array) -> bool:
        return bool(got.shape == values.shape and np.allclose(got, values, rtol=1e-5))

    if is_(names[declared]):
        return None
    fields: dict[str, Any] = {
        "asked": "labels of the score",
        "got": got[:6].tolist(),
        "wanted": names[declared][:6].tolist(),
    }
    other = "sigma" if declared == "index" else "index"
    if is_(names[other]):
        dialect = session.dialect.but(noise_label=other)
        return fail(
            "convention", f"the score is asked with {other}", dialect=dialect, also=("index",), **fields
        )
    own = names[declared][: len(way.plan)]
    denoised = np.append(own, own[-1])
    if is_(denoised) or is_(own):
        dialect = session.dialect.but(denoise=not session.dialect.denoise)
        words = (
            "one more call at the last level: a final denoising" if is_(denoised) else "no final denoising"
        )
        return fail("convention", words, dialect=dialect, also=("noise-at-t0", "index"), **fields)
    steps = len(way.plan) // len(way.sigmas)
    for words, values in (
        ("the levels ascend: from little noise to much", own[::-1]),
        ("the levels are labelled from 1", own + 1),
        ("the labels are reversed", len(way.sigmas) - 1 - own),
        ("the last level is never visited", own[:-steps]),
        ("the first level is never visited", own[steps:]),
        ("the loops are exchanged: each sweep visits every level", own.reshape(-1, steps).T.reshape(-1)),
        ("every level is visited once", own[::steps]),
        ("one step too few at each level", own.reshape(-1, steps)[:, 1:].reshape(-1)),
        ("one step too many at each level", np.repeat(own[::steps], steps + 1)),
    ):
        if is_(values):
            return fail("index", words, also=("schedule",), **fields)
    return fail("index", "the score is not asked level by level", also=("schedule",), **fields)


@dataclass(frozen=True)
class Read:
    """The steps of all runs: measured coefficients with the right ones."""

    found: tuple[law.Steps, ...]
    points: Points
    got: Array
    want: Expected
    decided: Comparison
    sigma: Array
    counts: tuple[int, ...]


def read(session: Session, port: str) -> Read:
    """The coefficients of every step, and the comparison with the declared rule."""
    return session.once(("read", port), lambda: _read(session, port))  # type: ignore[no-any-return]


def _read(session: Session, port: str) -> Read:
    rans = runs(session, port)
    found = tuple(law.steps(ran.run) for ran in rans if ran.run.visits)
    if len(found) != len(rans):
        raise NotApplicable("the score is never asked")
    for steps in found:
        if not (steps.residual <= AFFINE[session.dialect.dtype]).all():
            raise NotApplicable("a step is no combination of its state, one score and its noise")
    level = [steps.t for steps in found]
    scalars = [way.scalars(t) for way, t in zip(ways(session, port), level, strict=True)]
    joined = {name: np.concatenate([one[name] for one in scalars]) for name in scalars[0]}
    same = np.ones(sum(map(len, level)), np.int64)
    points = Points(same, same, joined)
    want = expected(formulas.PORTS[STEP_OF[port]], session.dialect, session.declared, points)
    sigma = joined.get("sigma", np.zeros(len(same)))
    got = np.concatenate([steps.values for steps in found], 1)
    # the sign of a noise does not change a law
    got = np.concatenate([got[:2], np.abs(got[2:])])
    counts = tuple(map(len, level))
    want = _denoised(session, port, want, sigma, counts)
    blur = np.concatenate([steps.blur for steps in found], 1)
    want = Expected(want.states, want.values, want.local + blur, want.grown, want.tables)
    decided = compare(got, want, np.ones(len(same), bool), session.dialect, None)
    return Read(found, points, got, want, decided, sigma, counts)


def _denoised(session: Session, port: str, want: Expected, sigma: Array, counts: tuple[int, ...]) -> Expected:
    """The last step of each run is x + sigma_L² s where that is declared."""
    if port != "annealed_langevin" or not session.dialect.denoise:
        return want
    values, local = want.values.copy(), want.local.copy()
    for end in np.cumsum(counts) - 1:
        values[:, end] = (1.0, sigma[end] ** 2, 0.0)
        local[:, end] = (1.0, sigma[end] ** 2, 0.0)
    return Expected(want.states, values, local, want.grown, want.tables)


def affine(session: Session, port: str) -> Finding:
    """Every step is a combination of its state, one score and its noise."""
    for ran in runs(session, port):
        if not ran.run.visits:
            return fail("state-broadcast", "the score is never asked")
        steps = law.steps(ran.run)
        limit = AFFINE[session.dialect.dtype]
        if not (steps.residual <= limit).all():
            index = int(np.argmax(steps.residual))
            if 0 < ran.run.draws.count < len(ran.run.visits) - 1:
                words = f"{ran.run.draws.count} noises for {len(ran.run.visits)} steps: a noise is used again"
                return fail("state-broadcast", words, also=("variance",))
            fields: dict[str, Any] = {"error": float(steps.residual[index]), "tolerance": limit}
            words = (
                f"step {index + 1} of {len(steps.t)} is no combination of its state, one score and its noise"
            )
            if index == len(steps.t) - 1 and (steps.residual[:-1] <= limit).all():
                words += ": something is done to the last state"
            return fail("data-scaling", words, also=("convention",), worst={"step": index + 1}, **fields)
    return Finding(True)


def start(session: Session, port: str) -> Finding:
    """The first state that the score sees is x."""
    for ran in runs(session, port):
        if not ran.run.visits:
            return fail("state-broadcast", "the score is never asked")
        factor, rest = law.steps(ran.run).start
        if rest > 1e-4:
            if ran.run.visits[0].draws:
                return fail("state-broadcast", "does not start from x but from noise of its own")
            return fail("data-scaling", "the first state is not a multiple of x")
        if abs(factor - 1) > 1e-5:
            words = f"the first state is {factor:.6g} x"
            sigma = ways(session, port)[0].sigmas[0]
            if abs(factor - sigma) <= 1e-5 * sigma:
                words += ": x, which is of the first level already, is multiplied by its sigma"
            return fail("data-scaling", words, got=factor, wanted=1.0)
    return Finding(True)


def coefficients(session: Session, port: str) -> Finding:
    """Every step is the declared one."""
    found = read(session, port)
    row, point = found.decided.row, found.decided.point
    got, wanted = float(found.got[row, point]), float(found.want.values[row, point])
    digits, ulps = agreement(got, wanted, ROUNDOFF)
    fields: dict[str, Any] = {
        "error": found.decided.error,
        "tolerance": found.decided.tolerance,
        "got": got,
        "wanted": wanted,
        "worst": found.points.describe(point) | {"step": point},
        "digits": digits,
        "ulps": ulps,
        "asked": f"{port}: coefficient of {('the state', 'the score', 'the noise')[row]} in a step",
    }
    if found.decided.ok:
        return Finding(True, precision=found.decided.precision, **fields)
    return Finding(False, "", explained(session, port, found), **fields)


def explained(session: Session, port: str, found: Read) -> Diagnosis:
    """Which mistake the steps are."""
    return session.once(("explained", port), lambda: _explained(session, port, found))  # type: ignore[no-any-return]


def _explained(session: Session, port: str, found: Read) -> Diagnosis:
    ends = np.cumsum(found.counts) - 1
    wrong = np.flatnonzero(found.decided.failing)
    if set(wrong) <= set(ends.tolist()):
        last = _last(session, found, ends)
        if last is not None:
            return last
    moved = _neighbours(session, port, found)
    if moved is not None:
        return moved
    step = formulas.PORTS[STEP_OF[port]]
    keep = np.ones(found.got.shape[1], bool)
    if session.dialect.denoise and port == "annealed_langevin":
        keep[ends] = False
    case = Case(
        step.name,
        session.dialect,
        session.declared,
        found.points,
        found.got,
        found.want,
        keep,
        formulas.programs(step, session.dialect),
    )
    return diagnose.budgeted(session, case)


def _last(session: Session, found: Read, ends: Array) -> Diagnosis | None:
    """What is wrong where only the last step of each run is."""
    got, want = found.got[:, ends[0]], found.want.values[:, ends[0]].astype(float)
    sigma = float(found.sigma[ends[0]])
    if not session.dialect.denoise and sigma and np.abs(got - (1.0, sigma**2, 0.0)).max() <= 1e-6:
        dialect = session.dialect.but(denoise=True)
        words = "the last step is a final denoising, x + sigma_L² s"
        return Diagnosis("convention", words, dialect=dialect, also=("noise-at-t0",))
    if got[2] == 0 and want[2] != 0:
        return Diagnosis("noise-at-t0", "the last step adds no noise: the law is not the declared chain's")
    if not session.dialect.denoise or not sigma:
        return None
    if got[2] != 0 and want[2] == 0:
        return Diagnosis("noise-at-t0", "the final denoising adds noise")
    ratio = float(got[1] / want[1]) if want[1] else float("nan")
    words = "the final denoising is not x + sigma_L² s"
    for what, value in (
        ("sigma_L s", 1 / sigma),
        ("s", 1 / sigma**2),
        ("sigma_L² s / 2", 0.5),
        ("-sigma_L² s", -1.0),
    ):
        if abs(ratio - value) <= 1e-6 * abs(value):
            family = "sign" if value < 0 else "sqrt" if what == "sigma_L s" else "noise-at-t0"
            return Diagnosis(family, f"{words}, but x + {what}", also=("noise-at-t0",))
    return Diagnosis("noise-at-t0", f"{words}: its score has the factor of it times {ratio:.6g}")


def _neighbours(session: Session, port: str, found: Read) -> Diagnosis | None:
    """The steps are right, but for the level beside the one that the score is asked at."""
    if port != "annealed_langevin":
        return None
    for shift in (1, -1):
        parts = []
        for way, steps in zip(ways(session, port), found.found, strict=True):
            level = steps.t + shift
            inside = (level >= 0) & (level < len(way.sigmas))
            one = way.scalars(np.clip(level, 0, len(way.sigmas) - 1))
            parts.append((one, inside))
        joined = {name: np.concatenate([one[name] for one, _ in parts]) for name in parts[0][0]}
        points = Points(found.points.t, found.points.s, joined)
        want = expected(formulas.PORTS[STEP_OF[port]], session.dialect, session.declared, points)
        inside = np.concatenate([part for _, part in parts])
        gap = np.abs(found.got - want.values.astype(float)) / np.abs(want.values.astype(float))
        if inside.sum() > 2 and bool((gap[:, inside] <= 1e-6).all()):
            side = "next" if shift > 0 else "previous"
            return Diagnosis(
                "index", f"the step has the size of the {side} level, not of the one that is asked"
            )
    return None


def noise_count(session: Session, port: str) -> Finding:
    """One noise a step, drawn for every row."""
    for ran in runs(session, port):
        if ran.run.draws.odd:
            return fail("state-broadcast", f"draws noise of shape {ran.run.draws.odd[0]}, shared by rows")
        if ran.run.others:
            names = ", ".join(sorted(set(ran.run.others)))
            return fail("state-broadcast", f"draws that are not Gaussian noise: {names}")
        if ran.run.draws.count > len(ran.run.visits):
            words = f"{ran.run.draws.count} noises in {len(ran.run.visits)} steps, one a step is wanted"
            return fail("variance", words)
    if session.dialect.dtype == "float32":
        return Finding(True, "counted: single precision does not tell a small coefficient from none")
    for steps in read(session, port).found:
        if (steps.noises > 1).any():
            index = int(np.argmax(steps.noises))
            words = f"step {index + 1} uses {steps.noises[index]} independent noises, one is wanted"
            return fail("variance", words)
    return Finding(True)


def inputs_unchanged(session: Session, port: str) -> Finding:
    """The arguments are not changed in place."""
    for ran in runs(session, port):
        if ran.run.mutated:
            return fail("state-broadcast", f"changes its argument {', '.join(ran.run.mutated)} in place")
    return Finding(True)


def exact_law(session: Session, port: str) -> Finding:
    """Mean and covariance of the last state, exactly, are those of the declared chain."""
    way, ran, found = ways(session, port)[0], runs(session, port)[0], read(session, port)
    got, bent = chains.exact(session, port, way.give, way.sigmas, ran.run.draws.count)
    if not bent <= AFFINE[session.dialect.dtype]:
        words = "the last state is not affine in the first: it is clipped or normalised"
        return fail("data-scaling", words, error=bent)
    count = found.counts[0]
    values = found.want.values[:, :count].astype(float)
    unit = UNIT[session.dialect.dtype]
    plain = Expected(found.want.states, values, np.abs(values), found.want.grown[:, :count])
    want, error = chains.propagated(found.sigma[:count], values, plain.tolerance(unit).astype(float))
    gap = got.distance(want)
    fields: dict[str, Any] = {
        "error": gap,
        "tolerance": error,
        "got": float(np.trace(got.cov)),
        "wanted": float(np.trace(want.cov)),
        "asked": f"{port}: law of the last state for Gaussian data",
    }
    if gap <= max(error, 1e-12):
        return Finding(True, f"mean and covariance to {gap:.2g}", **fields)
    if not found.decided.ok:
        return Finding(False, "", explained(session, port, found), **fields)
    if np.abs(got.mean - want.mean).max() > np.abs(got.cov - want.cov).max():
        return fail(
            "data-scaling", "the steps are right, but not the mean: something is added at an end", **fields
        )
    words = "the steps are right, but not the covariance: rows or draws are not independent"
    return fail("state-broadcast", words, **fields)


for _port in STEP_OF:
    for _property in (start, affine, coefficients, noise_count, inputs_unchanged, exact_law):
        check(f"{_port}.{_property.__name__}", _port)(partial(_property, port=_port))
