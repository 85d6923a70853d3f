r"""One step of a solver by the answers of its model at the levels before it: its coefficients.

.. math:: x_s=A\,x_t+\sum_kB_k\,p_k+c\,z

One call with a row for each of x_t, the answers p_k and the noises reads them. The same step of a solver of
refdiff has its coefficients by the same rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refdiff.oracle import convergence as cv
from refdiff.oracle import histories
from refdiff.oracle.calls import Caller, TargetError, numbers

Array = NDArray[Any]
# the levels before a step and its end, in steps of λ: no two of the same size
PATTERNS = ((-4.4, -2.6, -1.7, 0.0, 1.0), (-3.7, -2.9, -1.2, 0.0, 1.0))
MOST = len(PATTERNS[0]) - 1
# λ where a step begins, and its size
PLACES = ((-0.7, 0.3), (0.6, 0.45))
# powers of two, so that dividing by them is exact
DIRECTION = np.array([1.0, -2.0, 0.5, 4.0])
# rows that mix all arguments, large ones too
MIXED = np.array([-1.0, 3.0, 30.0])
DRAWS = 2
KINDS = ("eps", "x_0", "v", "score")
SOLVERS_OF_ONE = {"ddim", "dpmpp_1", "sde_dpm_1", "sde_dpmpp_1", "euler", "euler_ancestral"}


def log_snrs(grid: str, start: float, size: float, history: int, pattern: int = 0) -> Array:
    """λ of so many levels up to the one where the step begins, and of its end: rising, (K+1,)."""
    if grid == "any":
        return np.asarray(start + size * np.array(PATTERNS[pattern][MOST - history :]))
    number = np.arange(1 - history, 2)
    if grid == "log_snr":
        return np.asarray(start + size * number)
    sigma, share = np.exp(-start), 1 - size / 2 * number
    if grid == "sigma":
        return np.asarray(-np.log(sigma * share))
    time = sigma / (1 + sigma) * share
    return np.asarray(np.log1p(-time) - np.log(time))


@dataclass(frozen=True)
class Step:
    """A step as it was measured.

    Args:
        coefficients: of x, the answers (the earliest first), the noise argument and own draws, (1+K+1+M,).
        scale, std: the levels as the target was given them, (K+1,).
        parameterization: of the answers.
        offset: what is there without anything.
        spread: the largest difference between coordinates.
        bent: by how much large and mixed rows are not the combination of the others.
        apart: by how much a row changes without the rows beside it.
        drawn: how many draws it took; ``odd`` are shapes of those that are not shaped like x.
        others: draws that are not Gaussian.
        mutated: arguments that were changed.
        single: whether every number is one of float32.
    """

    coefficients: Array
    scale: Array
    std: Array
    parameterization: str
    offset: float
    spread: float
    bent: float
    apart: float
    drawn: int
    odd: tuple[tuple[int, ...], ...]
    others: tuple[str, ...]
    mutated: tuple[str, ...]
    single: bool

    @property
    def history(self) -> int:
        """The number K of answers."""
        return len(self.scale) - 1

    @property
    def known(self) -> Array:
        """The coefficients of x and of the answers."""
        return self.coefficients[: 1 + self.history]

    @property
    def noise(self) -> float:
        """What all noises together are multiplied by."""
        return float(np.linalg.norm(self.coefficients[1 + self.history :]))

    @property
    def compared(self) -> Array:
        """x, the answers, and the size of the noise."""
        return np.append(self.known, self.noise)

    def of_points(self, stochastic: bool) -> tuple[float, float]:
        """Scale and std of the end where data are one point, from states with the law of the process.

        Without noise all states are one path. With it x / scale has independent increments upwards.
        """
        a, s = self.scale[:-1], self.std[:-1]
        of_mean, of_noise = {
            "eps": (0 * a, 1 + 0 * a),
            "x_0": (1 + 0 * a, 0 * a),
            "v": (-s, a),
            "score": (0 * a, -1 / s),
        }[self.parameterization]
        B = self.known[1:]
        own = np.append(np.zeros(self.history - 1), self.known[0] * s[-1])
        shares = B * of_noise + own
        sigma = s / a
        common = np.minimum.outer(sigma, sigma) / np.maximum.outer(sigma, sigma)
        variance = shares @ (common if stochastic else np.ones_like(common)) @ shares + self.noise**2
        return float(self.known[0] * a[-1] + B @ of_mean), float(np.sqrt(variance))

    def influence(self) -> histories.Influence:
        """The same for the candidates, which know states as combinations; those before x are not known."""
        states = np.full((self.history + 1, 2 + self.history), np.nan)
        states[-2], states[-1] = np.eye(2 + self.history)[0], self.compared
        return histories.Influence(
            states, self.scale, self.std, self.offset, self.spread, self.parameterization
        )


def measured(caller: Caller, at: tuple[Tensor, Tensor]) -> Step:
    """The step of a target, in the first layout that it takes."""
    failure: TargetError | None = None
    for layout in cv.LAYOUTS:
        try:
            return _measured(caller, at, layout)
        except TargetError as error:
            failure = failure or error
            if error.kind in ("timeout", "declined"):
                raise
    assert failure is not None
    raise failure


def _measured(caller: Caller, at: tuple[Tensor, Tensor], layout: tuple[int, ...]) -> Step:
    columns = len(at[0]) + 1 + DRAWS
    signs = np.where(np.arange(columns) % 2, -1.0, 1.0)
    rows = np.concatenate([np.zeros((1, columns)), np.eye(columns), MIXED[:, None] * signs])
    out, call, drawn, odd = _called(caller, at, rows, layout)
    alone, *_ = _called(caller, at, rows[-2:-1], layout)
    linear = out - out[0]
    found = linear[1 : columns + 1]
    with np.errstate(all="ignore"):
        mixed = np.abs(linear[columns + 1 :] - MIXED[:, None] * (signs @ found)) / np.abs(MIXED[:, None])
    kind = getattr(torch, caller.dialect.dtype)
    scale, std = (value.to(kind).double().numpy() for value in at)
    return Step(
        found[:, 0], scale, std, caller.dialect.parameterization,
        float(np.abs(out[0]).max()), float(np.ptp(found, axis=1).max()), float(mixed.max()),
        float(np.abs(alone[0] - out[-2]).max()), drawn, tuple(odd), tuple(call.tape.others), call.mutated,
        bool((out.astype(np.float32) == out).all()),
    )  # fmt: skip


def _called(caller: Caller, at: tuple[Tensor, Tensor], rows: Array, layout: tuple[int, ...]) -> Any:
    """The answer to rows of combinations, (B, D) in units of the direction, the call, and its draws."""
    history, shape = len(at[0]) - 1, (len(rows), *layout)
    columns = [torch.as_tensor(value[:, None] * DIRECTION).reshape(shape) for value in rows.T]
    drawn: list[tuple[int, ...]] = []

    def answer(number: int, wanted: tuple[int, ...]) -> Tensor:
        drawn.append(wanted)
        fits = wanted == shape and number < DRAWS
        return columns[2 + history + number] if fits else torch.zeros(wanted, dtype=torch.float64)

    scale, std = at
    given = {"x": columns[0], "scales": scale, "stds": std, "outputs": torch.stack(columns[1 : 1 + history])}
    call = caller("solver_step", {**given, "noise": columns[1 + history]}, answer)
    found = numbers(call.value)
    if tuple(found.values.shape) != shape:
        message = f"answer has shape {tuple(found.values.shape)}, wanted {shape}"
        raise TargetError("shape", message, "state-broadcast")
    odd = [wanted for wanted in drawn if wanted != shape]
    return found.values.reshape(len(rows), -1).numpy() / DIRECTION, call, len(drawn), odd


class Inexpressible(Exception):  # noqa: N818  (it is no error)
    """A step of a solver is not one by answers at the levels before it, for the reason given."""


def of_solver(name: str, step: Step, space: str, kind: str | None = None) -> Array:
    """The coefficients of the same step of a solver of refdiff: x, the answers, the size of the noise.

    Args:
        name: of the solver.
        step: what was measured, for its levels.
        space: where levels between two of them lie.
        kind: what the answers are; by default what the target declares.

    Raises:
        Inexpressible: it asks its model elsewhere, or needs states that are not given.
    """
    found = _of_solver(name, tuple(step.scale), tuple(step.std), space, kind or step.parameterization)
    if isinstance(found, str):
        raise Inexpressible(found)
    return found


@lru_cache(maxsize=4096)
def _of_solver(
    name: str, scales: tuple[float, ...], stds: tuple[float, ...], space: str, kind: str
) -> Array | str:
    from refdiff.solver import SOLVERS, Levels

    solver: Any = SOLVERS[name]
    if getattr(solver, "corrector", False):
        return f"{name} corrects a step with an answer at its end"
    scale, std = torch.tensor(scales, dtype=torch.float64), torch.tensor(stds, dtype=torch.float64)
    history = len(scales) - 1
    rows = torch.cat([torch.zeros(1, 2 * history + 1), torch.eye(2 * history + 1)]).double()
    x, noise = rows[:, :1], rows[:, 1 + history : 2 + history]
    every = Levels(scale, std, space)  # type: ignore[arg-type]
    past = [(every[i], rows[:, 2 + history + i : 3 + history + i]) for i in range(history - 1)]

    def model(x: Tensor, a: Tensor, s: Tensor) -> Tensor:
        for i in range(history):
            if a == scale[i] and s == std[i]:
                return _eps(kind, x, rows[:, 1 + i : 2 + i], a, s)
        raise Inexpressible(f"{name} asks its model inside of a step or at its end")

    levels = Levels(scale[-2:], std[-2:], space)  # type: ignore[arg-type]
    try:
        out = solver.sample(model, x, levels, itertools.repeat(noise), past)[:, 0].numpy()
    except Inexpressible as error:
        return str(error)
    found = out[1:] - out[0]
    if np.abs(found[2 + history :]).max(initial=0.0) > 1e-12:
        return f"{name} with answers that are {kind} needs the states at the levels before"
    return np.append(found[: 1 + history], abs(found[1 + history]))


def _eps(kind: str, x: Tensor, answer: Tensor, scale: Tensor, std: Tensor) -> Tensor:
    if kind == "x_0":
        return (x - scale * answer) / std
    if kind == "v":
        return (std * x + scale * answer) / (scale**2 + std**2)
    return -std * answer if kind == "score" else answer


def same(found: Array, wanted: Array, tolerance: float) -> bool:
    """Whether two steps are the same."""
    gap = np.abs(found - wanted) / np.maximum(1.0, np.abs(wanted))
    return bool((gap <= tolerance).all())


def solvers(steps: list[Step], space: str, tolerance: float, kind: str | None = None) -> Iterator[str]:
    """The names of the solvers of refdiff whose steps these are."""
    from refdiff.solver import SOLVERS

    for name, solver in SOLVERS.items():
        if any(solver.history >= step.history for step in steps):
            continue
        try:
            if all(same(step.compared, of_solver(name, step, space, kind), tolerance) for step in steps):
                yield name
        except Inexpressible:
            continue


def candidate(steps: list[Step], tolerance: float) -> histories.Candidate | None:
    """The simplest solver or known mistake that these steps are, but for their noise."""
    at = [(step.influence(), step.history) for step in steps]
    for one in histories.candidates():
        fits = [one.points <= history and _off(found, one) <= tolerance for found, history in at]
        if all(fits):
            return one
    return None


def _off(found: histories.Influence, one: histories.Candidate) -> float:
    """How far the step is from a candidate, in the coefficients of x and the answers."""
    with np.errstate(all="ignore"):
        known = 1 + found.answers
        want = one.step(found, found.answers - 1)[:known]
        got = found.states[-1, :known]
        value = float((np.abs(got - want) / np.maximum(1.0, np.abs(want))).max())
    return value if np.isfinite(value) else float("inf")
