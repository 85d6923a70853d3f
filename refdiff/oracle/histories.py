r"""The steps of a solver as combinations of what its model answered, and the formulas that they may be.

With answers that do not depend on the state, every state is a combination of the first state, the answers
and the noises. A step that asks the model once, with a history, is

.. math:: x_s=A\,x_t+\sum_k B_k\,p_k+c\,z,

where the p are predictions of noise or of data at the levels before. The candidates integrate an interpolant
of the predictions exactly, in one variable or another, or make a known mistake of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from refdiff.oracle import convergence as cv
from refdiff.oracle.calls import Caller

Array = NDArray[np.float64]
NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)
# coefficients for equal steps: of the last prediction, the one before, ...
EQUAL_STEPS = ((1.0,), (1.5, -0.5), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
CURVATURES = ((0.5, "halved"), (2.0, "doubled"), (-1.0, "subtracted"), (0.0, "left out"))


@dataclass(frozen=True)
class Influence:
    """Every state as a combination, rows (1 + K + M): of x, the K answers and the M draws.

    Args:
        states: what the model was asked with, and the final state, (K + 1, 1 + K + M).
        scale, std: the levels that it was asked at, and the last one, (K + 1,).
        offset: what is there without x, answers and noise; 0 for a solver.
        spread: the largest difference between coordinates.
        parameterization: of the answers.
    """

    states: Array
    scale: Array
    std: Array
    offset: float
    spread: float
    parameterization: str

    @property
    def answers(self) -> int:
        """How often the model was asked."""
        return len(self.states) - 1

    @property
    def log_snr(self) -> Array:
        """λ of the states."""
        with np.errstate(all="ignore"):
            return np.asarray(np.log(self.scale) - np.log(self.std))

    def predictions(self, kind: str) -> Array:
        """The predictions of noise (eps) or of data (x_0) as combinations, (K, 1 + K + M)."""
        own = np.zeros_like(self.states[:-1])
        own[np.arange(len(own)), 1 + np.arange(len(own))] = 1.0
        x, a, s = self.states[:-1], self.scale[:-1, None], self.std[:-1, None]
        if self.parameterization == "x_0":
            eps, x_0 = (x - a * own) / s, own
        elif self.parameterization == "v":
            eps, x_0 = (s * x + a * own) / (a**2 + s**2), (a * x - s * own) / (a**2 + s**2)
        else:
            eps = -s * own if self.parameterization == "score" else own
            x_0 = (x - s * eps) / a
        return np.asarray(eps if kind == "eps" else x_0)


def influence(caller: Caller, at: tuple[Tensor, Tensor], asked: int, draws: int) -> Influence:
    """Run a solver with answers, draws and x that are 1 in a row each."""
    count = 2 + asked + draws
    noises = cv.unit_rows(draws, 3 * asked, 2 + asked)
    x = np.zeros((count, cv.D))
    x[1] = 1.0

    def given(number: int, rows: int) -> Array:
        answer = np.zeros((rows, cv.D))
        if number < asked:
            answer[2 + number] = 1.0
        return answer

    run = cv.solve(caller, cv.Point(), at, x, noises, given)
    states = np.stack([visit.x for visit in run.visits] + [run.out])
    rows = states[:, 1:] - states[:, :1]
    scale = np.array([visit.scale for visit in run.visits] + [run.scale[-1]])
    std = np.array([visit.std for visit in run.visits] + [run.std[-1]])
    spread = float(np.ptp(rows, axis=2).max())
    offset = float(np.abs(states[:, 0]).max())
    return Influence(rows[:, :, 0], scale, std, offset, spread, caller.dialect.parameterization)


@dataclass(frozen=True)
class Candidate:
    """What a step may be.

    Args:
        name: in words.
        family: of the mistake, where it is one.
        kind: what is combined: eps or x_0.
        points: how many predictions are combined.
        weights: (λ of the predictions, the last one first; λ of the end) -> A and B of
            x_s / unit = A x_t / unit + sum B p; the unit is scale for eps and std for x_0.
        noise: whether it is a step of the reverse SDE.
        right: whether it is a solver, and no mistake.
    """

    name: str
    family: str
    kind: str
    points: int
    weights: Callable[[Array, float], Array]
    noise: bool = False
    right: bool = False

    def step(self, found: Influence, i: int) -> Array:
        """The state after step i, without its own noise, as a combination."""
        nodes = found.log_snr[i::-1][: self.points]
        end = float(found.log_snr[i + 1])
        p = found.predictions(self.kind)[i::-1][: self.points]
        unit = found.scale if self.kind == "eps" else found.std
        decay = np.exp(-(end - nodes[0])) if self.noise else 1.0
        kept = decay * unit[i + 1] / unit[i] * found.states[i]
        return np.asarray(kept + unit[i + 1] * (self.weights(nodes, end) @ p))


def interpolating(kind: str, variable: str, noise: bool = False) -> Callable[[Array, float], Array]:
    """The exact integral of the polynomial through the predictions in λ or in sigma."""

    def weights(nodes: Array, end: float) -> Array:
        at = (nodes[0] + end) / 2 + NODES * (end - nodes[0]) / 2
        measure = WEIGHTS * (end - nodes[0]) / 2 * kernel(kind, at, end, noise)
        where, given = (at, nodes) if variable == "log_snr" else (np.exp(-at), np.exp(-nodes))
        return np.array([np.sum(measure * _basis(where, given, k)) for k in range(len(nodes))])

    return weights


def kernel(kind: str, at: Array, end: float, noise: bool) -> Array:
    """By what a prediction at λ is weighed in x / scale (eps) or x / std (x_0)."""
    if kind == "eps":
        return np.asarray(-np.exp(-at))
    return np.asarray(2 * np.exp(2 * at - end) if noise else np.exp(at))


def _basis(at: Array, nodes: Array, k: int) -> Array:
    value = np.ones_like(at)
    for j in range(len(nodes)):
        if j != k:
            value = value * (at - nodes[j]) / (nodes[k] - nodes[j])
    return value


def two_points(
    kind: str, ratio: Callable[[float], float], factor: float, middle: bool, noise: bool = False
) -> Callable[[Array, float], Array]:
    """The last prediction, and a slope by the one before it.

    Args:
        ratio: of the earlier step to this one -> by what the difference is divided.
        factor: of the slope.
        middle: whether the slope is taken at the middle of the step, else integrated.
    """

    def weights(nodes: Array, end: float) -> Array:
        total = interpolating(kind, "log_snr", noise)(nodes[:1], end)[0]
        if len(nodes) == 1:
            return np.array([total])
        h, before = end - nodes[0], nodes[0] - nodes[1]
        at = nodes[0] + h / 2 + NODES * h / 2
        slope = total / 2
        if not middle:
            slope = np.sum(WEIGHTS * h / 2 * kernel(kind, at, end, noise) * (at - nodes[0]) / h)
        part = factor * slope / ratio(before / h)
        return np.array([total + part, -part])

    return weights


def in_sigma(ratio: Callable[[float], float], factor: float) -> Callable[[Array, float], Array]:
    """Noise at two points, its slope in sigma; the arguments as in ``two_points``."""

    def weights(nodes: Array, end: float) -> Array:
        sigma, last = np.exp(-nodes), np.exp(-end)
        h = last - sigma[0]
        if len(nodes) == 1:
            return np.array([h])
        part = factor * h / 2 / ratio((sigma[0] - sigma[1]) / h)
        return np.array([h + part, -part])

    return weights


def three_points(curvature: float, noise: bool = False, kind: str = "x_0") -> Callable[[Array, float], Array]:
    """Predictions through three points, with a factor of the second difference."""

    def weights(nodes: Array, end: float) -> Array:
        exact = interpolating(kind, "log_snr", noise)(nodes, end)
        if len(nodes) < 3:
            return exact
        h = end - nodes[0]
        at = nodes[0] + h / 2 + NODES * h / 2
        square = np.sum(WEIGHTS * h / 2 * kernel(kind, at, end, noise) * (at - nodes[0]) ** 2)
        differences = np.array(
            [1 / np.prod([nodes[k] - nodes[j] for j in range(3) if j != k]) for k in range(3)]
        )
        return np.asarray(exact + (curvature - 1) * square * differences)

    return weights


def half_against(nodes: Array, end: float) -> Array:
    """Half of the second difference of a step with noise, less the whole of it."""
    weights = three_points(0.5, True)(nodes, end)
    if len(nodes) < 3:
        return weights
    h = end - nodes[0]
    whole = [h**2 / np.prod([nodes[k] - nodes[j] for j in range(3) if j != k]) for k in range(3)]
    return np.asarray(weights - np.exp(end) * np.array(whole))


def equal_steps(points: int) -> Callable[[Array, float], Array]:
    """Adams and Bashforth's coefficients for equal steps, on noise in sigma."""

    def weights(nodes: Array, end: float) -> Array:
        used = EQUAL_STEPS[len(nodes) - 1]
        return np.asarray((np.exp(-end) - np.exp(-nodes[0])) * np.array(used))

    return weights


def candidates() -> Iterator[Candidate]:
    """Solvers and mistakes, the simplest first."""
    for noise in (False, True):
        yield from _right(noise)
    for noise in (False, True):
        yield from _wrong(noise)


def _right(noise: bool) -> Iterator[Candidate]:
    of = "SDE-DPM-Solver++" if noise else "DPM-Solver++"
    if noise:
        yield Candidate(f"{of} 1", "", "x_0", 1, interpolating("x_0", "log_snr", True), True, True)
    else:
        yield Candidate("DDIM", "", "eps", 1, interpolating("eps", "log_snr"), right=True)
    for middle in (True, False):
        how = "slope at the middle" if middle else "slope integrated"
        weights = two_points("x_0", float, 1.0, middle, noise)
        yield Candidate(f"{of} with two points, {how}", "", "x_0", 2, weights, noise, True)
    yield Candidate(
        f"{of} with three points", "", "x_0", 3, interpolating("x_0", "log_snr", noise), noise, True
    )
    if noise:
        return
    weights = two_points("eps", float, 1.0, True)
    yield Candidate("DPM-Solver with two points, slope at the middle", "", "eps", 2, weights, right=True)
    for points in (2, 3, 4):
        names = {"log_snr": f"DPM-Solver with {points} points", "sigma": f"Adams-Bashforth {points} in sigma"}
        for variable, name in names.items():
            yield Candidate(name, "", "eps", points, interpolating("eps", variable), right=True)
        name = f"Adams-Bashforth {points} for equal steps of sigma"
        yield Candidate(name, "", "eps", points, equal_steps(points), right=True)


MISTAKES: tuple[tuple[str, str, Callable[[float], float], float], ...] = (
    ("the ratio of the steps is upside down", "discretization", lambda r: 1 / r, 1.0),
    ("the ratio of the steps is missing", "discretization", lambda r: 1.0, 1.0),
    ("the difference of the predictions has the wrong sign", "sign", float, -1.0),
    ("the half of the slope is missing", "discretization", float, 2.0),
    ("the slope is halved once more", "discretization", float, 0.5),
    ("the ratio is the whole of both steps", "discretization", lambda r: 1 + r, 1.0),
)


def _wrong(noise: bool) -> Iterator[Candidate]:
    for words, family, ratio, factor in MISTAKES:
        for kind in ("x_0",) if noise else ("x_0", "eps"):
            for middle in (True, False):
                weights = two_points(kind, ratio, factor, middle, noise)
                yield Candidate(
                    f"{words}, of {_named(kind)} at two points in λ", family, kind, 2, weights, noise
                )
        if not noise:
            message = f"{words}, of noise at two points in sigma"
            yield Candidate(message, family, "eps", 2, in_sigma(ratio, factor))
    for curvature, words in CURVATURES:
        for kind in ("x_0",) if noise else ("x_0", "eps"):
            message = f"the second difference of {_named(kind)} at three points is {words}"
            weights = three_points(curvature, noise, kind)
            yield Candidate(message, "discretization", kind, 3, weights, noise)
    if noise:
        message = "the second difference of data has -1/2 in its weight, where +1/2 belongs"
        yield Candidate(message, "sign", "x_0", 3, half_against, True)
    else:
        for points in (2, 3, 4):
            message = f"x_0 at {points} points is interpolated in sigma, not in λ"
            yield Candidate(message, "discretization", "x_0", points, interpolating("x_0", "sigma"))


def _named(kind: str) -> str:
    return "data" if kind == "x_0" else "noise"


def recognised(found: Influence, tolerance: float) -> Candidate | None:
    """The simplest candidate that every full step is."""
    for candidate in candidates():
        which = range(candidate.points - 1, found.answers - 1)
        if len(which) >= 2 and all(difference(found, candidate, i) <= tolerance for i in which):
            return candidate
    return None


def difference(found: Influence, candidate: Candidate, i: int) -> float:
    """How far step i is from a candidate, in the coefficients of x and the answers."""
    known = 1 + found.answers
    gap = found.states[i + 1][:known] - candidate.step(found, i)[:known]
    size = 1 + float(np.abs(found.states[i : i + 2, :known]).max())
    value = float(np.abs(gap).max()) / size
    return value if np.isfinite(value) else float("inf")
