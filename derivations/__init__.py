"""The mathematics: every formula of refdiff, derived and machine-checked. Imports nothing of ``refdiff``."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from derivations.kit.formula import Registry

TOPICS = (
    *("gaussian", "schedule", "parameterization", "ddpm", "ddim", "data"),
    *("energy", "score_matching", "smld", "elbo", "vae", "vlb", "guidance", "flow"),
    *("sde", "ode", "solver", "consistency", "vdm"),
)


def registry() -> Registry:
    """All formulas, with the graph of their dependencies checked."""
    from derivations.kit.formula import REGISTRY

    for topic in TOPICS:
        importlib.import_module(f"derivations.{topic}")
    REGISTRY.check_graph()
    return REGISTRY
