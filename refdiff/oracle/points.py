"""Where a port is probed, and the scalars of its formulas there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdiff.schedule import Schedule

Array = NDArray[Any]
ETAS = (0.0, 0.2, 0.5, 1.0)
SCALES = (0.0, 1.0, 2.7)
FRACTIONS = (0.0, 0.25, 0.5, 1.0)
# the scalars of steps that have no level: unequal ratios, and none of them one
GRIDS = {
    "eta": ETAS,
    "scale": SCALES,
    "step_size": (0.05, 0.3, 1.7),
    "sigma": (2.0, 0.7),
    "sigma_last": (0.1, 0.3),
    "epsilon": (0.002, 0.05),
}


@dataclass(frozen=True)
class Points:
    """Levels t > s and the scalars of a call, elementwise, shape (P,)."""

    t: Array
    s: Array
    scalars: dict[str, Array]

    def __len__(self) -> int:
        return len(self.t)

    def pick(self, index: Any) -> Points:
        """Some of the points."""
        return Points(
            self.t[index], self.s[index], {name: value[index] for name, value in self.scalars.items()}
        )

    def describe(self, index: int) -> dict[str, Any]:
        """One point as plain data."""
        point: dict[str, Any] = {"t": int(self.t[index]), "s": int(self.s[index])}
        if self.t[index] == self.s[index]:
            # a step that has no level
            point = {}
        return point | {name: float(value[index]) for name, value in self.scalars.items()}


def levels(T: int) -> tuple[int, ...]:
    """The ends, the middle and neighbours, where mistakes are large or hide."""
    wanted = (1, 2, 3, 10, T // 20, T // 4, T // 3, T // 2, T // 2 + 1, 3 * T // 4 + 1, T - 2, T - 1, T)
    return tuple(sorted({t for t in wanted if 1 <= t <= T}))


def neighbours(T: int, ts: Iterable[int] | None = None) -> Points:
    """Pairs (t, t - 1)."""
    t = np.array(levels(T) if ts is None else tuple(ts), dtype=np.int64)
    return Points(t, t - 1, {})


def pairs(T: int) -> Points:
    """Pairs of neighbours, strides that do not divide, and steps that end at data."""
    found = {(t, t - 1) for t in levels(T)}
    strides = (
        (2, 0), (3, 1), (10, 0), (T // 20, 0), (T // 4, T // 4 - 7), (T // 2, T // 3), (T // 2 + 1, T // 4),
        (3 * T // 4 + 1, 1), (T - 1, T - 1 - T // 9), (T, T - T // 9), (T, T // 2), (T, 1), (T, 0),
    )  # fmt: skip
    found |= {(t, s) for t, s in strides if 0 <= s < t <= T}
    t, s = (np.array(column, dtype=np.int64) for column in zip(*sorted(found), strict=True))
    return Points(t, s, {})


def consecutive(T: int, count: int = 48) -> Points:
    """Neighbouring levels, on which rounding looks random and a formula does not."""
    first = max(1, T // 8)
    return neighbours(T, range(first, min(T, first + count - 1) + 1))


def timeless() -> Points:
    """Points of a step that has no level: the same one several times, so that batches differ in size."""
    return Points(np.ones(3, np.int64), np.ones(3, np.int64), {})


def stretched(names: Sequence[str], count: int = 48) -> Points:
    """Scalars that grow slowly together, on which rounding looks random and a formula does not."""
    grow = np.arange(count)
    scalars = {name: GRIDS[name][0] * (1.01 + 0.01 * i) ** grow for i, name in enumerate(names)}
    return Points(np.ones(count, np.int64), np.ones(count, np.int64), scalars)


def crossed(points: Points, name: str, values: Sequence[float]) -> Points:
    """Every point with every value of a scalar, the scalar varying slowest."""
    repeat = len(values)
    scalars = {key: np.tile(value, repeat) for key, value in points.scalars.items()}
    scalars[name] = np.repeat(np.array(values), len(points))
    return Points(np.tile(points.t, repeat), np.tile(points.s, repeat), scalars)


@dataclass(frozen=True)
class Tables:
    """The logarithms of a schedule's tables in extended precision, with which scalars are made."""

    log_abar: Array
    beta: Array

    def mixed(self, beta: Array) -> Tables:
        """The same products beside betas that they were not made from."""
        return Tables(self.log_abar, beta)

    @property
    def T(self) -> int:
        """The number of steps."""
        return len(self.beta) - 1


def tables(schedule: Schedule) -> Tables:
    """The tables of a schedule."""
    log_abar = schedule.log_alpha_bar.numpy().astype(np.longdouble)
    if schedule.log_alpha_bar_low is not None:
        log_abar = log_abar + schedule.log_alpha_bar_low.numpy()
    return Tables(log_abar, schedule.beta.numpy().astype(np.longdouble))


def scalars(
    table: Tables, points: Points, *, first: bool = False, nudge_s: float = 0.0, nudge_step: float = 0.0
) -> dict[str, Array]:
    """The symbols of the formulas at the points.

    Args:
        table: the schedule.
        points: where.
        first: alpha_bar_1 stands in for alpha_bar_0 where a step ends at data.
        nudge_s, nudge_step: relative changes of alpha_bar_s and of alpha_bar_t / alpha_bar_s (for
            condition numbers).
    """
    t, s = points.t, points.s
    log_s = _take(table.log_abar, np.where(s == 0, 1, s) if first else s)
    with np.errstate(all="ignore"):
        log_step = _take(table.log_abar, t) - log_s
        log_s = np.where(s > 0, log_s + nudge_s, log_s)
        log_step = log_step + nudge_step
        log_t = log_s + log_step
        beta_of_t = _take(table.beta, t) - (np.expm1(log_step) - np.expm1(log_step - nudge_step))
        low = _beta_tilde(table, np.maximum(t, 2))
        made = {
            "abar_t": np.exp(log_t),
            "abar_s": np.exp(log_s),
            "alpha_t": 1 - beta_of_t,
            "beta_t": beta_of_t,
            "last": np.where(s > 0, 1.0, 0.0),
            "alpha_step": np.exp(log_step),
            "beta_step": -np.expm1(log_step),
            "beta_low": np.where(s == 0, low, _tilde(log_s, log_step)),
            "one": np.ones(len(t)),
        }
    return made | dict(points.scalars)


def extras(table: Tables, points: Points) -> dict[str, Array]:
    """Symbols that do not belong into the formulas but that mistakes put there."""
    t, s = points.t, points.s
    with np.errstate(all="ignore"):
        return {
            "abar_prev": np.exp(_take(table.log_abar, t - 1)),
            "abar_next": np.exp(_take(table.log_abar, t + 1)),
            "abar_s_prev": np.exp(_take(table.log_abar, s - 1)),
            "abar_s_next": np.exp(_take(table.log_abar, s + 1)),
            "abar_T": np.broadcast_to(np.exp(table.log_abar[-1]), t.shape),
            "alpha_s": 1 - _take(table.beta, s),
            "beta_s": _take(table.beta, s),
            "beta_next": _take(table.beta, t + 1),
            "beta_prev": _take(table.beta, t - 1),
            "beta_tilde": _beta_tilde(table, t),
            "time": t / table.T,
        }


def _tilde(log_s: Array, log_step: Array) -> Array:
    return np.asarray(np.expm1(log_step) * np.expm1(log_s) / -np.expm1(log_s + log_step))


def _beta_tilde(table: Tables, t: Array) -> Array:
    log_s = _take(table.log_abar, t - 1)
    return _tilde(log_s, _take(table.log_abar, t) - log_s)


def _take(table: Array, index: Array) -> Array:
    """Entries of a table; NaN outside it."""
    inside = (index >= 0) & (index < len(table))
    return np.where(inside, table[np.where(inside, index, 0)], np.nan)
