r"""Solvers of the probability-flow ODE and of the reverse SDE, with declared orders.

A solver goes through ``Levels``, the noisiest first, and asks a model that predicts the noise. ``SOLVERS``
holds all of them by name.
"""

from __future__ import annotations

from refdiff._solver_base import Levels, Model, NoiseLevel, Past, Solver, Space, level
from refdiff._solver_exponential import DDIM, ddim_coefficients

__all__ = [
    "DDIM",
    "SOLVERS",
    "Levels",
    "Model",
    "NoiseLevel",
    "Past",
    "Solver",
    "Space",
    "ddim_coefficients",
    "level",
]


def _by_name(*solvers: Solver) -> dict[str, Solver]:
    found = {solver.name: solver for solver in solvers}
    assert len(found) == len(solvers), "two solvers have one name"
    return found


SOLVERS: dict[str, Solver] = _by_name(
    DDIM(),
)
