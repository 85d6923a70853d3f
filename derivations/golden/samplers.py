"""The runs of samplers: which step, which levels, which law, which noises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, TypeAlias

from derivations.golden.case import Coverage
from derivations.golden.formulas import Variant, chosen
from derivations.golden.grid import ETAS
from derivations.golden.laws import GAUSSIAN, LINE, PLANE, Mixture
from derivations.golden.schedules import Named
from derivations.golden.trajectories import Run, trajectory_case

Recipe: TypeAlias = tuple[str, Named, tuple[int, ...], Mixture, tuple[str, ...]]

UNEVEN = (1000, 870, 700, 540, 370, 210, 60, 1, 0)
"""Levels with unequal strides: a stride is not the level before."""
EVERY = tuple(range(10, -1, -1))
LINEAR, COSINE, SCALED = Named("linear", 1000), Named("cosine", 10), Named("scaled_linear", 1000)


def noises(count: int, dimension: int) -> tuple[tuple[Fraction, ...], ...]:
    """Sixteenths in (-2, 2), none of them 0, by a multiplicative generator."""
    found, state = [], 7
    for _ in range(count):
        row = []
        for _ in range(dimension):
            state = state * 45 % 127
            row.append(Fraction(state % 63 - 31 or 17, 16))
        found.append(tuple(row))
    return tuple(found)


def _run(id: str, step: Variant, flags: tuple[str, ...], recipe: Recipe, **options: str) -> Run:
    _, schedule, levels, law, more = recipe
    *rest, first = noises(len(levels), law.dimension)
    start = tuple(entry / 2 + Fraction(1, 8) for entry in first)
    return Run(
        id, step, ("whole-trajectory", *flags, *more), schedule, levels, law, options, start, tuple(rest)
    )


RECIPES: tuple[Recipe, ...] = (
    ("line-uneven", LINEAR, UNEVEN, LINE, ("strided", "several-modes")),
    ("plane-uneven", LINEAR, UNEVEN, PLANE, ("strided", "several-modes", "several-dimensions")),
    ("plane-every", COSINE, EVERY, PLANE, ("several-modes", "several-dimensions", "clipped")),
    ("gaussian-scaled", SCALED, UNEVEN, GAUSSIAN, ("strided", "several-dimensions")),
)


def ddim_runs() -> Iterator[Run]:
    """Each recipe at each eta."""
    for recipe in RECIPES:
        for eta, flag in ETAS.items():
            name = f"{recipe[0]}-eta{eta.replace('/', '_')}"
            yield _run(name, Variant("ddim.step"), (flag,), recipe, eta=eta)


def ddpm_runs() -> Iterator[Run]:
    """Each recipe with each variance."""
    for recipe in RECIPES:
        for kind in ("beta_tilde", "beta"):
            step = chosen("ddpm.skip_step", kind)
            yield _run(f"{recipe[0]}-{kind}", step, (), recipe, variance_kind=kind)


def sampled(runs: Callable[[], Iterator[Run]]) -> Callable[[Coverage], Iterator[dict[str, Any]]]:
    """The cases of several runs."""

    def build(coverage: Coverage) -> Iterator[dict[str, Any]]:
        for run in runs():
            yield trajectory_case(run, coverage)

    return build
