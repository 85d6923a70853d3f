r"""Solvers of the probability-flow ODE and of the reverse SDE, with declared orders.

A solver goes through ``Levels``, the noisiest first, and asks a model that predicts the noise. ``SOLVERS``
holds all of them by name.
"""

from __future__ import annotations

from refdiff._solver_base import Levels, Model, NoiseLevel, Past, Solver, Space, level
from refdiff._solver_exponential import (
    Exponential,
    Frame,
    Multistep,
    Singlestep,
    ddim_coefficients,
    frame,
    moments,
    phi,
    weights,
)
from refdiff._solver_unipc import UniPC

__all__ = [
    "SOLVERS",
    "Exponential",
    "Frame",
    "Levels",
    "Model",
    "Multistep",
    "NoiseLevel",
    "Past",
    "Singlestep",
    "Solver",
    "Space",
    "UniPC",
    "ddim_coefficients",
    "frame",
    "level",
    "moments",
    "phi",
    "weights",
]


def _by_name(*solvers: Solver) -> dict[str, Solver]:
    found = {solver.name: solver for solver in solvers}
    assert len(found) == len(solvers), "two solvers have one name"
    return found


SOLVERS: dict[str, Solver] = _by_name(
    Multistep("ddim", 1, "eps"),
    Multistep("dpmpp_1", 1, "x_0"),
    Singlestep("dpm_2", 2, "eps", "bh2"),
    Singlestep("dpm_3", 3, "eps", inner=(1 / 3, 2 / 3)),
    Singlestep("dpm_3_taylor", 3, "eps", inner=(1 / 3, 2 / 3), every=True),
    Singlestep("dpmpp_2s", 2, "x_0", "bh2"),
    Singlestep("dpmpp_3s", 3, "x_0", inner=(1 / 3, 2 / 3)),
    Multistep("dpm_2m", 2, "eps", "bh2", nodes=2),
    Multistep("dpm_3m", 3, "eps", nodes=3),
    Multistep("dpmpp_2m", 2, "x_0", "bh2", nodes=2),
    Multistep("dpmpp_2m_heun", 2, "x_0", nodes=2),
    Multistep("dpmpp_3m", 3, "x_0", nodes=3),
    Multistep("dpmpp_3m_code", 2, "x_0", "halved", nodes=3),
    UniPC("unip_2", 2, "x_0", "bh2", nodes=2, corrector=False),
    UniPC("unip_3", 3, "x_0", "bh2", nodes=3, corrector=False),
    UniPC("unipc_1", 2, "x_0", "bh2", nodes=1),
    UniPC("unipc_2", 3, "x_0", "bh2", nodes=2),
    UniPC("unipc_3", 4, "x_0", "bh2", nodes=3),
    UniPC("unipc_1_bh1", 2, "x_0", "bh1", nodes=1),
    UniPC("unipc_2_bh1", 3, "x_0", "bh1", nodes=2),
    UniPC("unipc_2_eps", 3, "eps", "bh2", nodes=2),
    Multistep("sde_dpm_1", 1, "eps", eta=1.0, strong_order=1.0),
    Multistep("sde_dpm_2m", 2, "eps", "bh2", eta=1.0, strong_order=1.0, nodes=2),
    Multistep("sde_dpmpp_1", 1, "x_0", eta=1.0, strong_order=1.0),
    Multistep("sde_dpmpp_2m", 2, "x_0", "bh2", eta=1.0, strong_order=1.0, nodes=2),
    Multistep("sde_dpmpp_2m_heun", 2, "x_0", eta=1.0, strong_order=1.0, nodes=2),
    Multistep("sde_dpmpp_3m", 2, "x_0", eta=1.0, strong_order=1.0, nodes=3),
)
