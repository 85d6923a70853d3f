"""The coefficients that a port must have, and how well a precision allows to know them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdiff.oracle import formulas
from refdiff.oracle.points import Points, Tables, scalars
from refdiff.oracle.target import Dialect

Array = NDArray[Any]
# double precision, with the eight bits that tables lose when they are made by cancelling formulas (1 -
# f(t) / f(t-1))
UNIT = {"float64": 2.0**-45, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
ROUNDOFF = 2.0**-53
ROUNDINGS = 16.0
NUDGE = 1e-6


@dataclass(frozen=True)
class Expected:
    """Coefficients (states, points) with their sensitivities.

    Args:
        states: names of the rows.
        values: the coefficients.
        local: sum of the terms' sizes and of the changes with relative changes of the tables: one unit
            roundoff in the
            tables and in the arithmetic changes a coefficient by this many units.
        grown: the same where the error of a running product has grown with its length.
        tables: the part of ``local`` that comes from the tables.
    """

    states: tuple[str, ...]
    values: Array
    local: Array
    grown: Array
    tables: Array | None = None

    def tolerance(self, unit: float) -> Array:
        """The error that arithmetic and tables of a unit roundoff explain."""
        return ROUNDINGS * unit * (self.local + self.grown)

    def pick(self, index: Any) -> Expected:
        """Some of the points."""
        tables = None if self.tables is None else self.tables[:, index]
        return Expected(
            self.states, self.values[:, index], self.local[:, index], self.grown[:, index], tables
        )


def expected(port: formulas.Port, dialect: Dialect, table: Tables, points: Points) -> Expected:
    """What a port must answer in a dialect at the points."""
    return evaluated(formulas.programs(port, dialect), state_names(port), dialect, table, points)


def expected_variance(dialect: Dialect, table: Tables, points: Points) -> Expected:
    """The variance that ``q_posterior`` must answer."""
    return evaluated(formulas.variance_programs(dialect), ("one",), dialect, table, points)


def state_names(port: formulas.Port) -> tuple[str, ...]:
    """The names of a port's states in programs, in the order of its arguments."""
    return tuple(port.states[argument][0] for argument in port.arguments if argument in port.states)


def evaluated(
    programs: tuple[str, ...], states: tuple[str, ...], dialect: Dialect, table: Tables, points: Points
) -> Expected:
    """The first program's coefficients, and the largest sensitivities of any of them."""
    codes = [formulas.compiled(program) for program in programs]

    def at(code: Any, **nudges: float) -> Array:
        first = dialect.alpha_bar_0 == "first"
        return formulas.run(code, scalars(table, points, first=first, **nudges), states)

    values = at(codes[0])
    by_step = _change(at, codes[0], "nudge_step")
    by_s = _change(at, codes[0], "nudge_s")
    by_tables = [_table_changes(code, states, dialect, table, points) for code in codes]
    size = np.max(
        [
            _term_sizes(code, states, dialect, table, points) + part
            for code, part in zip(codes, by_tables, strict=True)
        ],
        axis=0,
    )
    length = _length(table)
    before, step = length[points.s], length[points.t] - length[points.s]
    return Expected(states, values, size, 2 * (by_step * step + by_s * before), by_tables[0])


def _length(table: Tables) -> Array:
    """By how many roundings a running product is off: one a step, and beta / alpha more for 1 - beta."""
    with np.errstate(all="ignore"):
        each = 1 + np.abs(table.beta / (1 - table.beta)).astype(float)
    each = np.where(np.isfinite(each), each, 1.0)
    each[0] = 0.0
    return np.cumsum(each)


def _change(at: Any, code: Any, name: str) -> Array:
    with np.errstate(all="ignore"):
        change = (at(code, **{name: NUDGE}) - at(code, **{name: -NUDGE})) / (2 * NUDGE)
    finite: Array = np.where(np.isfinite(change), np.abs(change), 0.0)
    return finite


def _change_of(name: str, code: Any, given: dict[str, Array], states: tuple[str, ...], where: Array) -> Array:
    """How a coefficient changes with one table alone; nothing where that table's entry is exact."""

    def at(factor: float) -> Array:
        return formulas.run(code, given | {name: given[name] * np.where(where, factor, 1.0)}, states)

    with np.errstate(all="ignore"):
        change = (at(1 + NUDGE) - at(1 - NUDGE)) / (2 * NUDGE)
    finite: Array = np.where(np.isfinite(change), np.abs(change), 0.0)
    return finite


def _table_changes(
    code: Any, states: tuple[str, ...], dialect: Dialect, table: Tables, points: Points
) -> Array:
    """What rounding of each table changes: relative condition, times the value."""
    first = dialect.alpha_bar_0 == "first"
    given = scalars(table, points, first=first)
    total = np.zeros((len(states), len(points)))
    for name in ("abar_t", "abar_s", "alpha_t", "beta_t", "beta_low", "alpha_step", "beta_step"):
        rounded = (points.s > 0) | (name != "abar_s") | first
        total = total + _change_of(name, code, given, states, rounded).astype(float)
    return total


def _term_sizes(code: Any, states: tuple[str, ...], dialect: Dialect, table: Tables, points: Points) -> Array:
    """The size of a coefficient and of the terms that may cancel in it: x_0's part of a step."""
    given = scalars(table, points, first=dialect.alpha_bar_0 == "first")
    value = np.abs(formulas.run(code, given, states))
    outputs = [row for row, name in enumerate(states) if name in ("e", "u", "c")]
    if "x" not in states or not outputs:
        return value
    # two outputs are combined with weights of the size of the scale
    weight = 1.0 if "e" in states else 1 + np.abs(given["scale"])
    with np.errstate(all="ignore"):
        through_x0 = np.sqrt(given["abar_s"] / given["abar_t"])
        value = value.copy()
        for row in outputs:
            value[row] += weight * (through_x0 * np.sqrt(1 - given["abar_t"]) + np.sqrt(1 - given["abar_s"]))
        value[states.index("x")] += through_x0
    return value
