"""The mathematics: every formula of refdiff, derived and machine-checked. Imports nothing of ``refdiff``."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from derivations.kit.formula import Formula, Registry

TOPICS = (
    *("gaussian", "schedule", "parameterization", "ddpm", "ddim", "data"),
    *("energy", "score_matching", "smld", "elbo", "vae", "vlb", "guidance", "flow"),
    *("sde", "ode", "solver", "consistency", "vdm", "embedding"),
)


@functools.cache
def registry() -> Registry:
    """All formulas, with the graph of their dependencies checked."""
    from derivations.kit.formula import REGISTRY

    for topic in TOPICS:
        importlib.import_module(f"derivations.{topic}")
    REGISTRY.check_graph()
    return REGISTRY


def topic(name: str) -> dict[str, Formula]:
    """The formulas of one topic by id; no other topic is loaded for them.

    Raises:
        KeyError: no topic of this name.
    """
    from derivations.kit.formula import REGISTRY

    if name not in TOPICS:
        raise KeyError(f"no topic {name!r}")
    importlib.import_module(f"derivations.{name}")
    return {id: node for id, node in REGISTRY.items() if node.topic == name}


def node(id: str) -> Formula:
    """One formula; only its topic is loaded.

    Raises:
        KeyError: no formula of this name.
    """
    return topic(id.partition(".")[0])[id]
