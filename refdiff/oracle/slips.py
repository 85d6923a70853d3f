"""Mistakes in one symbol of a continuous process, by which wrong coefficients are explained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from refdiff.oracle.continuum import At, at
from refdiff.process import Process

Array = NDArray[Any]
FACTORS = (
    (-1.0, "has the wrong sign"),
    (2.0, "is doubled"),
    (0.5, "is halved"),
    (-0.5, "is halved and has the wrong sign"),
    (0.0, "is missing"),
    (2**0.5, "is too large by the root of two"),
    (0.5**0.5, "is too small by the root of two"),
    (np.pi / 2, "is too large by pi/2"),
    (2 / np.pi, "is too small by 2/pi"),
    (np.log(10), "is too large by log 10"),
    (1 / np.log(10), "is too small by log 10"),
)


Edit = tuple[str, str, At]


def edits(here: At, process: Process) -> Iterator[Edit]:
    """Mistakes in one symbol: family, words, the symbols with it."""
    with np.errstate(all="ignore"):
        yield "sqrt", "g stands where g² is wanted", here.but(g2=np.sqrt(here.g2))
        yield "sqrt", "g² stands where g is wanted", here.but(g2=here.g2**2)
        yield "variance", "g² is doubled", here.but(g2=2 * here.g2)
        yield "variance", "g² is halved", here.but(g2=here.g2 / 2)
        yield "schedule", "f is doubled: the half of beta is missing", here.but(f=2 * here.f)
        yield "schedule", "f is halved", here.but(f=here.f / 2)
        yield "schedule", "the drift is -x/2: its rate is missing", here.but(f=np.full_like(here.f, -0.5))
        yield "sign", "f has the wrong sign", here.but(f=-here.f)
        yield "sqrt", "the variance stands for the deviation", here.but(std=here.var)
        yield "sqrt", "the deviation stands for the variance", here.but(var=here.std)
        yield "sqrt", "the scale is squared", here.but(scale=here.scale**2, scale_s=here.scale_s**2)
        yield "sqrt", "the root of the scale", here.but(scale=here.scale**0.5, scale_s=here.scale_s**0.5)
        yield (
            "sqrt",
            "1 - scale stands for the variance",
            here.but(var=1 - here.scale, std=(1 - here.scale) ** 0.5),
        )
        yield "sqrt", "the noise of a step has its length, not its root", here.but(root_h=here.h)
        yield "sqrt", "the noise of a step is not scaled by its root", here.but(root_h=np.ones_like(here.h))
        yield (
            "discretization",
            "the length of the step is missing",
            here.but(h=0 * here.h + 1, root_h=0 * here.h + 1),
        )
        yield "sign", "the step has the wrong sign", here.but(h=-here.h)
        yield "index", "t and s are in each other's place", here.swapped()
        yield "index", "the rates are those of s", here.but(f=here.f_s, g2=here.g2_s)
        yield from _in_time(here, process)
    if not here.f.any():
        yield from _exploding(here, process)
    if hasattr(process, "rate"):
        yield from _of_rate(here, process)


def _in_time(here: At, process: Process) -> Iterator[Edit]:
    end = process.end
    yield "schedule", "time runs the other way", at(process, end - here.t, end - here.s)
    for n in (1000, 999, 100):
        for name, whole in (("floor", np.floor), ("round", np.round)):
            grid = [whole(one * n / end) * end / n for one in (here.t, here.s)]
            yield "index", f"the times are read from a grid of {n} steps ({name})", at(process, *grid)
    yield "index", "the time is truncated to a whole number", at(process, np.floor(here.t), np.floor(here.s))
    yield "precision", "the times are rounded to bfloat16", at(process, *map(_bfloat16, (here.t, here.s)))


def _bfloat16(values: Array) -> Array:
    return np.asarray(torch.as_tensor(values).to(torch.bfloat16).double().numpy())


def _exploding(here: At, process: Any) -> Iterator[Edit]:
    """Mistakes of processes whose scale is one."""
    first = np.full_like(here.std, float(process.std(0.0)))
    none = np.zeros_like(first)
    lowest = here.but(std=first, var=first**2, std_s=none, var_s=none)
    yield "index", "every time reads the first level", lowest
    if not hasattr(process, "sigma_max"):
        return
    ratio = np.log(process.sigma_max / process.sigma_min)
    for words, factor in (
        ("the logarithm of the ratio of the levels is missing", ratio),
        ("twice the logarithm of the ratio of the levels is missing", 2 * ratio),
        ("the logarithm is to the base ten", np.log(10)),
    ):
        yield "schedule", words, here.but(g2=here.g2 / factor)
    low, high = process.sigma_min, process.sigma_max
    for words, std, std_s in (
        (
            "the levels fall: min and max are exchanged",
            *(high * (low / high) ** one for one in (here.t, here.s)),
        ),
        ("the levels are linear in time", *(low + (high - low) * one for one in (here.t, here.s))),
    ):
        yield "schedule", words, here.but(std=std, var=std**2, std_s=std_s, var_s=std_s**2)


def _of_rate(here: At, process: Any) -> Iterator[Edit]:
    """Mistakes of processes with a linear rate."""
    low, high = process.beta_min, process.beta_max
    kind = type(process)
    yield "schedule", "min and max of the rate are exchanged", at(kind(high, low), here.t, here.s)
    for words, total in (
        (
            "the integral of the rate is t beta(t): the half of t² is missing",
            here.t * (low + here.t * (high - low)),
        ),
        ("the integral of the rate is the rate", low + here.t * (high - low)),
        ("the integral of the rate is halved once more", here.t * (low + here.t * (high - low) / 2) / 2),
        ("the integral of the rate is doubled", here.t * (low + here.t * (high - low) / 2) * 2),
    ):
        var = -np.expm1(-total) if kind.__name__ == "VP" else np.expm1(-total) ** 2
        yield "schedule", words, here.but(scale=np.exp(-total / 2), std=var**0.5, var=var)
