"""What the tests of the reference share: schedules, levels, tensors and derived tolerances."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Iterator
from typing import Any

import mpmath
import torch
from hypothesis import strategies as st
from torch import Tensor

from refdiff import schedule as schedules
from refdiff.schedule import Schedule

BUILDERS: dict[str, Callable[[], Schedule]] = {
    "linear-1": lambda: schedules.linear(1, 0.3, 0.3),
    "linear-2": lambda: schedules.linear(2, 0.1, 0.4),
    "linear-1000": schedules.linear,
    "scaled-linear-1000": schedules.scaled_linear,
    "cosine-1000": schedules.cosine,
    "cosine-10": lambda: schedules.cosine(10),
    "sigmoid-100": lambda: schedules.sigmoid_alpha_bar(100),
    "constant-20": lambda: schedules.constant(20, 0.3),
    "jsd-10": lambda: schedules.jsd(10),
    "zero-snr-100": lambda: schedules.zero_terminal_snr(schedules.linear(100, 1e-3, 0.2)),
    "linear-100000": lambda: schedules.linear(100_000, 1e-8, 1e-4),
}


@functools.cache
def named(name: str) -> Schedule:
    """A schedule of the list, built once."""
    return BUILDERS[name]()


@st.composite
def levels(
    draw: st.DrawFn, count: int = 2, lowest: int = 0, signal: bool = False
) -> tuple[Schedule, tuple[int, ...]]:
    """A schedule and so many of its levels, descending; with ``signal`` none is without signal."""
    fitting = [
        name
        for name in BUILDERS
        if named(name).T - (signal and has_zero_snr(named(name))) - lowest + 1 >= count
    ]
    schedule = named(draw(st.sampled_from(fitting)))
    top = schedule.T - (1 if signal and has_zero_snr(schedule) else 0)
    # neighbours and the ends are where things break, so they are drawn more often than chance would
    level = st.one_of(st.integers(lowest, top), st.sampled_from(sorted({lowest, lowest + 1, top - 1, top})))
    chosen = draw(
        st.lists(level.filter(lambda t: lowest <= t <= top), min_size=count, max_size=count, unique=True)
    )
    if draw(st.booleans()):
        start = min(chosen[0], top - count + 1)
        chosen = list(range(start, start + count))
    return schedule, tuple(sorted(chosen, reverse=True))


def has_zero_snr(schedule: Schedule) -> bool:
    """Whether the last level has no signal."""
    return bool(schedule.alpha_bar[-1] == 0)


def tensors(
    count: int, shape: tuple[int, ...] = (3, 2), dtype: torch.dtype = torch.float64, seed: int = 0
) -> Any:
    """Reproducible standard normal tensors."""
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(count))
    return tuple(drawn) if count > 1 else next(drawn)


def misfit(actual: Tensor, expected: Tensor | float, condition: Tensor | float, roundings: float) -> float:
    """The largest error in units of its tolerance: so many roundings of the terms that were added."""
    eps = torch.finfo(actual.dtype).eps
    error = (actual.double() - torch.as_tensor(expected, dtype=torch.float64)).abs()
    allowed = roundings * eps * torch.as_tensor(condition, dtype=torch.float64).abs()
    assert not bool(error.isnan().any())
    return float(torch.where(error == 0, torch.zeros_like(error), error / allowed).max())


def depth(schedule: Schedule, t: int, s: int) -> float:
    """Roundings of exp(log ratio): its relative error is the absolute one of its argument."""
    return float((schedule.log_alpha_bar[s] - schedule.log_alpha_bar[t]).clamp(max=1e4))


@functools.cache
def exact_alpha_bar(schedule: Schedule) -> list[mpmath.mpf]:
    """The products of 1 - beta, taken as exact numbers, in 60 digits."""
    with mpmath.workdps(60):
        return list(itertools.accumulate((1 - mpmath.mpf(b) for b in schedule.beta.tolist()), operator.mul))


class Exact:
    """The levels s < t of a schedule from its beta as exact numbers, to more than 50 digits."""

    def __init__(self, schedule: Schedule, t: int, s: int) -> None:
        with mpmath.workdps(60):
            self.abar_s, self.abar_t = (exact_alpha_bar(schedule)[n] for n in (s, t))
            self.alpha = self.abar_t / self.abar_s
            self.beta = 1 - self.alpha
            self.beta_tilde = self.beta * (1 - self.abar_s) / (1 - self.abar_t)


def basis_batch(steps: int) -> tuple[Tensor, list[Tensor]]:
    """Rows that read an affine sampler of one dimension: zero, x_T, and each of its noises."""
    unit = torch.eye(steps + 2, dtype=torch.float64)
    return unit[:, 1:2], [unit[:, i : i + 1] for i in range(2, steps + 2)]


def moments(rows: Tensor, mean_T: float, variance_T: float) -> tuple[float, float]:
    """Mean and variance of the output of a sampler that was run on ``basis_batch``."""
    offset, on_x_T, *on_noises = (rows - rows[0] * (torch.arange(len(rows)) > 0)[:, None]).flatten().tolist()
    return offset + on_x_T * mean_T, on_x_T**2 * variance_T + sum(c**2 for c in on_noises)


def last(pairs: Iterator[tuple[int, Tensor]]) -> Tensor:
    """The final state of a sampler."""
    *_, (_, x) = pairs
    return x
