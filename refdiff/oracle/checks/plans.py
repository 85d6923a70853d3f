"""Samplers of a reverse equation, simulated: a plan says which noise, time and coefficients each step has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refdiff.oracle.checks.continuous import sde_step
from refdiff.oracle.checks.questions import generic
from refdiff.oracle.continuum import At, at, incoming, process_of
from refdiff.oracle.session import Session
from refdiff.oracle.tape import aside
from refdiff.oracle.target import Dialect
from refdiff.process import Process

Array = NDArray[Any]
D = 3
MEAN = np.array([0.4, -0.3, 0.2])
COV = np.array([[0.7, 0.2, -0.1], [0.2, 0.5, 0.1], [-0.1, 0.1, 0.9]])
# times of unequal distance, as parts of the end
GRID = np.array([15371, 14861, 14477, 13829, 13317, 12803, 12421]) / 2**14
ROWS = 5
SNR = 0.17


@dataclass
class Gaussian:
    """The score of noised Gaussian data in the declared prediction; it notes what it is asked."""

    session: Session
    times: list[float] = field(default_factory=list)
    states: list[Array] = field(default_factory=list)

    def __call__(self, x: Any, t: Any, *args: Any, **kwargs: Any) -> Any:
        with aside():
            state = x.detach().double() if isinstance(x, Tensor) else torch.as_tensor(np.array(x, float))
            label = t.detach().double().numpy() if isinstance(t, Tensor) else np.asarray(t, dtype=float)
            rows = state.reshape(len(state), -1).numpy()
            if rows.shape[1] != D:
                raise ValueError(f"the score was given {tuple(state.shape)}, wanted (B, {D})")
            dialect = self.session.dialect
            process = process_of(dialect)
            times = incoming(dialect, process, np.asarray(label, dtype=float).reshape(-1))
            self.times.append(float(times[0]) if len(times) and np.ptp(times) == 0 else float("nan"))
            self.states.append(rows)
            value = torch.as_tensor(predicted(dialect, process, rows, self.times[-1])).reshape(state.shape)
            if isinstance(x, Tensor):
                return value.to(x.dtype)
            return self.session.caller.outgoing(value)


@lru_cache(maxsize=1024)
def noised(process: Process, t: float) -> tuple[float, float, Array]:
    """Scale and variance of a time, and the precision of the data there."""
    scale, var = float(process.scale(t)), float(process.variance(t))
    return scale, var, np.linalg.inv(scale**2 * COV + var * np.eye(D))


def predicted(dialect: Dialect, process: Process, x: Array, t: float) -> Array:
    """The perfect score, eps or x_0 of Gaussian data at the nearest time that the process has."""
    scale, var, matrix = noised(process, min(max(t, 0.0), process.end) if np.isfinite(t) else process.end / 2)
    score = -(x - scale * MEAN) @ matrix
    if dialect.prediction == "eps":
        return np.asarray(-(var**0.5) * score)
    return np.asarray((x + var * score) / scale if dialect.prediction == "x_0" else score)


@dataclass(frozen=True)
class Plan:
    """How a simulated sampler differs from the plain one.

    Args:
        rows: the coefficients of each step, (3, N).
        noise: which noise each step takes; -1 for none.
        asked: the time at which step i asks.
        correct: the corrector's step for a score and a noise; None: no corrector.
        first: the corrector comes before the predictor.
        corrected_at: the time at which corrector i asks.
    """

    rows: Array
    noise: tuple[int, ...]
    asked: Array
    correct: Callable[[Array, Array, Array], Array] | None = None
    first: bool = True
    corrected_at: Array | None = None
    corrector_noise: tuple[int, ...] = ()
    predicts: bool = True


@dataclass(frozen=True)
class Setting:
    """One run: the process, its times, the first state, and the noises (N, B, D)."""

    dialect: Dialect
    process: Process
    times: Array
    x: Array
    noises: Array
    corrector_noises: Array

    def here(self) -> At:
        """The symbols at each step."""
        return at(self.process, self.times[:-1], self.times[1:])


def simulated(setting: Setting, plan: Plan) -> Array:
    """Run a plan."""
    x, pool = setting.x, np.concatenate([setting.noises, setting.corrector_noises])
    for i in range(plan.rows.shape[1]):
        for part in ("correct", "predict") if plan.first else ("predict", "correct"):
            if part == "predict" and plan.predicts:
                a, b, c = plan.rows[:, i]
                out = predicted(setting.dialect, setting.process, x, plan.asked[i])
                z = pool[plan.noise[i]] if plan.noise[i] >= 0 else 0.0
                x = a * x + b * out + c * z
            elif part == "correct" and plan.correct is not None and plan.corrected_at is not None:
                plain = setting.dialect.but(prediction="score")
                score = predicted(plain, setting.process, x, plan.corrected_at[i])
                x = plan.correct(x, score, pool[plan.corrector_noise[i]])
    return np.asarray(x)


def coefficients(here: At, dialect: Dialect) -> Array:
    """The coefficients of each step, (3, N); the last one has no noise where it is the mean."""
    with np.errstate(all="ignore"):
        rows = np.stack([np.broadcast_to(row, here.t.shape) for row in sde_step(here, dialect)]).astype(float)
    if dialect.last_step == "mean":
        rows[2, -1] = 0.0
    return rows


def corrector(
    norm: str, power: float = 2.0, factor: float = 2.0, noisy: float = 2.0, sign: float = 1.0
) -> Any:
    """The corrector's step: epsilon = factor (snr |z| / |s|)^power."""

    def step(x: Array, score: Array, noise: Array) -> Array:
        epsilon = factor * (SNR * _length(noise, norm) / _length(score, norm)) ** power
        return np.asarray(x + sign * epsilon * score + np.sqrt(noisy * epsilon) * noise)

    return step


def _length(x: Array, norm: str) -> Array:
    sizes = np.sqrt((x.reshape(len(x), -1) ** 2).sum(1))
    sizes = np.full_like(sizes, sizes.mean()) if norm == "batch" else sizes
    return np.asarray(sizes.reshape(-1, *[1] * (x.ndim - 1)))


def plain(setting: Setting, dialect: Dialect, here: At, corrected: bool) -> Plan:
    """The declared sampler."""
    count = len(setting.times) - 1
    rows, order = coefficients(here, dialect), tuple(range(count))
    if not corrected:
        return Plan(rows, order, setting.times[:-1])
    first = dialect.corrector == "before"
    asked = setting.times[:-1] if first else setting.times[1:]
    spare = tuple(count + i for i in order)
    return Plan(rows, order, setting.times[:-1], corrector(dialect.corrector_norm), first, asked, spare)


def setting_of(session: Session) -> Setting:
    """The run that is asked for."""
    dialect, process = session.dialect, process_of(session.dialect)
    times, every = GRID * process.end, np.arange(ROWS)
    if dialect.time_steps is not None:
        first = round(GRID[0] * dialect.time_steps)
        times = (first - np.arange(len(GRID))) * process.end / dialect.time_steps
    count = len(GRID) - 1
    x = generic(session, 41, (D,), every).numpy() * float(process.std(float(times[0])))
    pool = np.stack([generic(session, 42 + i, (D,), every).numpy() for i in range(2 * count)])
    if dialect.dtype == "float32":
        x = x.astype(np.float32).astype(float)
    return Setting(dialect, process, times, x, pool[:count], pool[count:])
