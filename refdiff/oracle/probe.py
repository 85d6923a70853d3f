"""Coefficient probing: basis vectors in, coefficients out, in one batched call where the target takes it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refdiff.oracle import formulas
from refdiff.oracle.calls import Call, Caller, Declined, TargetError, numbers
from refdiff.oracle.points import Points

Array = NDArray[Any]
# one sample's shape; powers of two, so that a quotient by them is exact
LAYOUTS: tuple[tuple[int, ...], ...] = ((3,), (2, 3, 5))
SMALL = 2.0**-12
LARGE = 4.0
_VALUES = (1.0, -2.0, 0.5, 4.0, -0.25, -1.0, 2.0, -0.5)
MODES = ("batch", "one level as (B,)", "one level as int")


@cache
def pattern(shape: tuple[int, ...], turn: int = 0) -> Tensor:
    """Values that differ along a sample, all signed powers of two."""
    count = int(np.prod(shape))
    cycle = [_VALUES[(index + turn) % len(_VALUES)] for index in range(count)]
    return torch.tensor(cycle, dtype=torch.float64).reshape(shape)


@cache
def generic(shape: tuple[int, ...], turn: int) -> Tensor:
    """A pattern whose values need all digits, so that rounding a state to few of them shows."""
    values = pattern(shape, turn)
    return values * torch.linspace(2 / 3, 1, values.numel(), dtype=torch.float64).reshape(shape)


@dataclass
class Probe:
    """What was measured at the points.

    Args:
        points: where.
        states: names of the rows of ``values`` (the noise argument's row is the total of argument and draws).
        values: coefficients (states, P), NaN where there was no answer.
        spread: the largest difference of a coefficient between the dimensions of a sample, (states, P).
        offset: the answer to zeros, (P,).
        drawn: coefficients of the Gaussian draws, (draws, P).
        argued: coefficient of the noise argument, (P,).
        curvature: error of additivity at large values, relative to the size of the terms, (P,).
        generic: the answers to two rows of large values, (P, 2, sample).
        errors: point -> why there was no answer.
        mode: how t was given.
        dtype: dtype of the answers.
        draws, others: number of Gaussian draws and names of others in one call.
        mutated: arguments that a call changed.
    """

    points: Points
    states: tuple[str, ...]
    values: Array
    spread: Array
    offset: Array
    drawn: Array
    argued: Array
    curvature: Array
    generic: Array
    mode: str
    layout: tuple[int, ...]
    dtype: str = ""
    draws: int = 0
    others: tuple[str, ...] = ()
    mutated: tuple[str, ...] = ()
    odd_draws: tuple[tuple[int, ...], ...] = ()
    errors: dict[int, TargetError] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def answered(self) -> Array:
        """Which points have an answer."""
        return np.array([index not in self.errors for index in range(len(self.points))])


DRAWS = 3


@dataclass(frozen=True)
class Rows:
    """The rows of one point: zeros, one basis row a state, one a draw, and two generic ones."""

    port: formulas.Port
    layout: tuple[int, ...]

    @property
    def arguments(self) -> tuple[str, ...]:
        """The tensors that are probed."""
        return tuple(name for name in self.port.arguments if name in self.port.states)

    @property
    def count(self) -> int:
        """The number of rows."""
        return 1 + len(self.arguments) + DRAWS + 2

    def block(self, name: str) -> Tensor:
        """The rows of one argument, (rows, *layout)."""
        rows = torch.zeros(self.count, *self.layout, dtype=torch.float64)
        index = self.arguments.index(name)
        rows[1 + index] = SMALL * pattern(self.layout, index)
        rows[-2] = LARGE * generic(self.layout, 3 * index + 1)
        rows[-1] = -LARGE * generic(self.layout, 3 * index + 2)
        return rows

    def draw(self, number: int) -> Tensor:
        """The rows of one Gaussian draw."""
        rows = torch.zeros(self.count, *self.layout, dtype=torch.float64)
        if number < DRAWS:
            rows[1 + len(self.arguments) + number] = SMALL * pattern(self.layout, number)
        return rows


def probe(caller: Caller, port: formulas.Port, points: Points, **how: Any) -> Probe:
    """Measure a port's coefficients: batched over points; else a point at a time, t as (B,) or as an int."""
    batched = how.pop("batched", caller.dialect.batched_t)
    modes = MODES if batched else MODES[2:] + MODES[1:2]
    best: Probe | None = None
    for layout in LAYOUTS:
        for mode in modes:
            found = _measure(caller, port, points, layout, mode, **how)
            if not found.errors:
                return found
            best = found if best is None or len(found.errors) < len(best.errors) else best
            if any(error.kind == "timeout" for error in found.errors.values()):
                return offered_only(best)
        assert best is not None
        if len(best.errors) < len(points):
            return offered_only(best)
    assert best is not None
    return offered_only(best)


def offered_only(found: Probe) -> Probe:
    """The same without the points that the target does not offer."""
    declined = {index: error for index, error in found.errors.items() if isinstance(error, Declined)}
    if not declined:
        return found
    kept = np.array([index for index in range(len(found.points)) if index not in declined], dtype=np.int64)
    if not len(kept):
        raise next(iter(declined.values()))
    columns = ("values", "spread", "offset", "drawn", "argued", "curvature")
    picked = {name: getattr(found, name)[..., kept] for name in columns} | {"generic": found.generic[kept]}
    errors = {new: found.errors[old] for new, old in enumerate(kept.tolist()) if old in found.errors}
    return replace(found, points=found.points.pick(kept), errors=errors, **picked)


def _measure(
    caller: Caller, port: formulas.Port, points: Points, layout: tuple[int, ...], mode: str, **how: Any
) -> Probe:
    rows = Rows(port, layout)
    result = _empty(port, points, mode, layout)
    for group in _groups(points, port, mode):
        try:
            _measure_group(caller, rows, points, group, mode, result, **how)
        except TargetError as error:
            result.errors.update(dict.fromkeys(group.tolist(), error))
    return result


def _empty(port: formulas.Port, points: Points, mode: str, layout: tuple[int, ...]) -> Probe:
    states = tuple(port.states[name][0] for name in Rows(port, layout).arguments)

    def blank(rows: int | None = None) -> Array:
        shape = (len(points),) if rows is None else (rows, len(points))
        return np.full(shape, np.nan)

    n = len(states)
    generic = np.full((len(points), 2, int(np.prod(layout))), np.nan)
    return Probe(
        points, states, blank(n), blank(n), blank(), blank(DRAWS), blank(), blank(), generic, mode, layout
    )


def _groups(points: Points, port: formulas.Port, mode: str) -> list[Array]:
    """Points that go into one call: all with equal scalars, or each alone."""
    everything = np.arange(len(points))
    if mode != MODES[0]:
        return [everything[i : i + 1] for i in everything]
    keys = list(zip(*points.scalars.values(), strict=True)) or [()] * len(points)
    return [np.array([i for i in everything if keys[i] == key]) for key in dict.fromkeys(keys)]


def _measure_group(
    caller: Caller, rows: Rows, points: Points, group: Array, mode: str, result: Probe, **how: Any
) -> None:
    port, count = rows.port, rows.count
    # a fixed shuffle, so that rows of one level do not stand together
    order = np.random.Generator(np.random.PCG64(7)).permutation(len(group) * count)
    t = np.repeat(points.t[group], count)[order]
    s = np.repeat(points.s[group], count)[order]
    given: dict[str, Any] = {}
    for name in port.arguments:
        if name in ("t", "s"):
            given[name] = level(caller.dialect.index_origin, t if name == "t" else s, mode)
        elif name in port.states:
            given[name] = rows.block(name).repeat(len(group), *[1] * len(rows.layout))[order]
        else:
            given[name] = float(points.scalars[name][group[0]])

    def answer(number: int, shape: tuple[int, ...]) -> Tensor:
        return rows.draw(number).repeat(len(group), *[1] * len(rows.layout))[order]

    call = caller(port.name, widened(given, port, points, group, caller), answer)
    out = _rows_of(call, (len(order), *rows.layout), result, how.get("part"))
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    _read(rows, group, out[back].reshape(len(group), count, *rows.layout), result)
    wanted = (len(order), *rows.layout)
    result.draws = max(result.draws, len(call.tape.shapes))
    result.odd_draws += tuple(shape for shape in call.tape.shapes if shape != wanted)
    result.others += tuple(name for name in call.tape.others if name not in result.others)
    result.mutated += tuple(name for name in call.mutated if name not in result.mutated)


def widened(
    given: dict[str, Any], port: formulas.Port, points: Points, group: Array, caller: Caller
) -> dict[str, Any]:
    """A learned variance: the model output has a second half of channels."""
    if port.name != "ddpm_step" or not caller.dialect.variance.startswith("learned"):
        return given
    f = float(points.scalars["f"][group[0]])
    channel = 2 * f - 1 if caller.dialect.variance == "learned_range" else f
    eps = given["eps"]
    return given | {"eps": torch.cat([eps, torch.full_like(eps, channel)], 1)}


def level(origin: int, values: Array, mode: str) -> Any:
    """Levels as a target takes them."""
    translated = values + (origin - 1)
    if mode == MODES[2]:
        return int(translated[0])
    return torch.as_tensor(translated.copy())


def _rows_of(call: Call, shape: tuple[int, ...], result: Probe, part: int | None) -> Tensor:
    value = call.value
    if part is not None:
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise TargetError("type", f"answered with {type(value).__name__}, wanted a pair (mean, variance)")
        value = value[part]
    found = numbers(value)
    result.dtype = found.dtype
    if tuple(found.values.shape) != shape:
        got = tuple(found.values.shape)
        raise TargetError("shape", f"answer has shape {got}, wanted {shape}", "state-broadcast")
    return found.values


def _read(rows: Rows, group: Array, out: Tensor, result: Probe) -> None:
    """From answers (P, rows, *layout) to coefficients."""
    flat = out.flatten(2).numpy()
    zero = flat[:, 0]
    names = rows.arguments
    result.offset[group] = np.abs(zero).max(1)
    linear = zero[:, None, :].repeat(2, 1)
    with np.errstate(all="ignore"):
        for index, name in enumerate(names):
            unit = SMALL * pattern(rows.layout, index).flatten().numpy()
            _store(result, index, group, (flat[:, 1 + index] - zero) / unit)
            large = rows.block(name)[-2:].flatten(1).numpy()
            linear = linear + result.values[index, group][:, None, None] * large
        for number in range(DRAWS):
            unit = SMALL * pattern(rows.layout, number).flatten().numpy()
            quotient = (flat[:, 1 + len(names) + number] - zero) / unit
            result.drawn[number, group] = _middle(quotient)
        _total_noise(rows, group, result)
        generic = flat[:, -2:]
        sizes = sum(np.abs(result.values[index, group])[:, None] * LARGE * 4 for index in range(len(names)))
        result.curvature[group] = np.abs(generic - linear).max((1, 2)) / np.maximum(sizes, 1e-300)[:, 0]
        result.generic[group] = generic


def _middle(quotient: Array) -> Array:
    """One coefficient for a sample: the value with the median size, so that equal values stay exact."""
    middle: Array = np.take_along_axis(np.sort(quotient, axis=1), np.array([[quotient.shape[1] // 2]]), 1)[
        :, 0
    ]
    return middle


def _store(result: Probe, row: int, group: Array, quotient: Array) -> None:
    result.values[row, group] = _middle(quotient)
    result.spread[row, group] = quotient.max(1) - quotient.min(1)


def _total_noise(rows: Rows, group: Array, result: Probe) -> None:
    """The noise argument and the draws are independent: their variances add up."""
    if rows.port.noise is None:
        return
    row = rows.arguments.index(rows.port.noise)
    argued = result.values[row, group]
    result.argued[group] = argued
    drawn = result.drawn[:, group]
    if np.all(drawn == 0):
        return
    alone = [*drawn, argued]
    used = [value for value in alone if np.any(value != 0)]
    result.values[row, group] = used[0] if len(used) == 1 else np.sqrt(sum(value**2 for value in alone))
