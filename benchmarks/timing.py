"""Medians of interleaved repeats: what runs in turn is slowed down by the same neighbours."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

Function = Callable[[], object]
Clock = Callable[[], float]


def seconds(function: Function, number: int = 1, clock: Clock = time.perf_counter) -> float:
    """Time of one call, from ``number`` calls in a row."""
    start = clock()
    for _ in range(number):
        function()
    return (clock() - start) / number


def interleaved(
    functions: Mapping[str, Function], repeats: int, number: int = 1, clock: Clock = time.process_time
) -> dict[str, float]:
    """Median seconds a call of each function; every repeat times each of them once, in turn.

    The default clock counts the processor's time of this process, so that other processes do not count.
    """
    for function in functions.values():
        function()
    samples = [
        {name: seconds(function, number, clock) for name, function in functions.items()}
        for _ in range(repeats)
    ]
    return {name: statistics.median(sample[name] for sample in samples) for name in functions}


def ratio_line(name: str, value: float, bound: float, unit: str = "times") -> str:
    """One figure with the bound it must keep."""
    verdict = "holds" if value <= bound else "DOES NOT HOLD"
    return f"{name:<58} {value:9.3g} {unit:<6} bound {bound:g}: {verdict}"
