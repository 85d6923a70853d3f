"""Continuous processes as a target speaks of them: which one, in which time, and what its symbols are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refdiff import flow
from refdiff.oracle.expected import NUDGE
from refdiff.oracle.target import Dialect
from refdiff.process import EDM, VE, VP, Process, SubVP, Time

Array = NDArray[Any]
# where the ports are asked, as parts of the end: exact in float32 and not in less, none of them an end
TIMES = np.array([517, 3081, 7177, 11273, 15371]) / 2**14
# next to data, at unequal steps, so short that a rate times a step is below one
NEXT = np.array([131, 2853, 6877, 10973, 14987]) / 2**14


@dataclass(frozen=True)
class OfPath(Process):
    """The process that has the marginals of a path of ``refdiff.flow``."""

    path: flow.Path

    @property
    def end(self) -> float:  # type: ignore[override]  # the end of the path
        """The last time."""
        return self.path.end

    def log_scale(self, t: Time) -> Tensor:
        return self.scale(t).log()

    def scale(self, t: Time) -> Tensor:
        return self.path.scale(t)

    def std(self, t: Time) -> Tensor:
        return self.path.std(t)

    def variance(self, t: Time) -> Tensor:
        return self.path.std(t) ** 2

    def drift(self, t: Time) -> Tensor:
        return self.path.scale_slope(t) / self.path.scale(t)

    def diffusion_squared(self, t: Time) -> Tensor:
        return 2 * self.path.half_diffusion(t)


NAMES: dict[str, Process] = {
    "vp": VP(),
    "subvp": SubVP(),
    "ve": VE(),
    "edm": EDM(),
    "straight": OfPath(flow.Rectified()),
    "cosine": OfPath(flow.Trigonometric()),
}


def process_of(dialect: Dialect, otherwise: str = "vp") -> Process:
    """The declared process.

    Raises:
        ValueError: what is declared is neither a known name nor a process or path.
    """
    declared = dialect.process or otherwise
    if isinstance(declared, flow.Path):
        return OfPath(declared)
    if isinstance(declared, Process):
        return declared
    if declared not in NAMES:
        known = ", ".join(NAMES)
        raise ValueError(f"Dialect's process must be a Process, a Path or one of {known}, got {declared!r}")
    return NAMES[declared]


def outgoing(dialect: Dialect, process: Process, t: Array) -> Array:
    """Times of the process as the target names them."""
    return np.asarray(dialect.time_scale * (t if dialect.time_direction == "noise" else process.end - t))


def asked(dialect: Dialect, process: Process) -> tuple[Array, Array]:
    """Times t and, next to data, s at which ports are asked: neighbours where there are tables."""
    if dialect.time_steps is None:
        return TIMES * process.end, NEXT * process.end
    index = np.maximum(np.round(TIMES * dialect.time_steps), 2)
    return index * process.end / dialect.time_steps, (index - 1) * process.end / dialect.time_steps


def incoming(dialect: Dialect, process: Process, u: Array) -> Array:
    """Times of the target as the process names them."""
    t = u / dialect.time_scale
    return np.asarray(t if dialect.time_direction == "noise" else process.end - t)


def rate(dialect: Dialect) -> float:
    """How much time of the process passes in a unit of the target's time."""
    return (1.0 if dialect.time_direction == "noise" else -1.0) / dialect.time_scale


@dataclass(frozen=True)
class At:
    """The symbols of a process at times t and, next to data, s: each an array (P,).

    ``std`` and ``var`` are told apart, so that a mistake may change one of them; so are the length ``h`` of a
    step and its root.
    """

    t: Array
    s: Array
    scale: Array
    std: Array
    var: Array
    f: Array
    g2: Array
    scale_s: Array
    std_s: Array
    var_s: Array
    f_s: Array
    g2_s: Array
    h: Array
    root_h: Array

    @property
    def dscale(self) -> Array:
        """The derivative of the scale."""
        return self.f * self.scale

    @property
    def dstd(self) -> Array:
        """The derivative of the deviation."""
        return np.asarray((self.g2 + 2 * self.f * self.var) / (2 * self.std))

    def but(self, **changes: Any) -> At:
        """The same with some symbols changed."""
        return replace(self, **changes)

    def swapped(self) -> At:
        """The two times in each other's place; the step keeps its length."""
        ends = {name: getattr(self, f"{name}_s") for name in ENDS}
        return self.but(t=self.s, s=self.t, **ends, **{f"{name}_s": getattr(self, name) for name in ENDS})

    def within(self, inside: Array) -> At:
        """NaN where a time is none of the process's."""
        return At(*(np.where(inside, getattr(self, field.name), np.nan) for field in fields(self)))


ENDS = ("scale", "std", "var", "f", "g2")


def at(process: Process, t: Array, s: Array | None = None) -> At:
    """The symbols at times of the process; NaN where they are outside of it."""
    s = t if s is None else s
    inside = (t >= 0) & (t <= process.end) & (s >= 0) & (s <= process.end)
    where = [np.where(inside, one, process.end / 2) for one in (t, s)]
    first, second = (_symbols(process, one) for one in where)
    h = where[0] - where[1]
    with np.errstate(all="ignore"):
        made = At(*(*where, *first, *second, h, np.sqrt(np.abs(h))))
    return made.within(inside)


def _symbols(process: Process, t: Array) -> tuple[Array, ...]:
    return _read(process, tuple(t.tolist()))


@lru_cache(maxsize=4096)
def _read(process: Process, t: tuple[float, ...]) -> tuple[Array, ...]:
    """The symbols at times; the same ones are asked for again and again."""
    time = torch.tensor(t, dtype=torch.float64)
    read = (process.scale, process.std, process.variance, process.drift, process.diffusion_squared)
    return tuple(np.asarray(one(time).expand(time.shape).numpy()) for one in read)


Want = Callable[[At], Array]


def sensitivity(process: Process, want: Want, here: At) -> Array:
    """By how many units an answer moves when times, symbols and arithmetic are off by one unit each."""
    value = want(here)
    with np.errstate(all="ignore"):
        # where scale² + var is about one, var may be made from scale and lose what it does not have
        lost = {"std": np.where(here.f != 0, 1 + here.scale**2 / here.var, 1.0), "h": 1 + here.t / here.h}
        lost |= {"std_s": np.where(here.f_s != 0, 1 + here.scale_s**2 / here.var_s, 1.0)}
        size = np.abs(value)
        for name in (*ENDS, *(f"{name}_s" for name in ENDS), "h"):
            moved = here.but(**{name: getattr(here, name) * (1 + NUDGE)})
            if name.startswith("var"):
                continue
            if name.startswith("std"):
                twin = "var" + name[3:]
                moved = moved.but(**{twin: getattr(here, twin) * (1 + 2 * NUDGE)})
            if name == "h":
                moved = moved.but(root_h=here.root_h * (1 + NUDGE / 2))
            change = np.abs(want(moved) - value) / NUDGE
            size = size + np.nan_to_num(change * np.where(np.isfinite(w := lost.get(name, 1.0)), w, 1.0))
        # both times are rounded, and none of them leaves the process
        for t, s in ((here.t * (1 - NUDGE), here.s), (here.t, here.s * (1 - NUDGE))):
            size = size + np.nan_to_num(np.abs(want(at(process, t, s)) - value) / NUDGE)
    return np.asarray(size)
