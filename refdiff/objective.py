r"""What networks are trained for, by name: every loss of the library with its levels and noises.

An objective says which network it needs, draws the levels and noises of a batch from a generator, and gives
the loss of each sample. What its network predicts is brought to one form, the noise at any level,
:math:`\hat\epsilon(x,\text{scale},\text{std})`, which every sampler of ``refdiff.generate`` asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from refdiff._objective_base import Draws, Kind, Network, Objective, Spacing
from refdiff._objective_chain import (
    DDPM,
    Classification,
    DDPMData,
    DDPMVelocity,
    Hybrid,
    OnSchedule,
    Prediction,
    Weight,
)
from refdiff._objective_energy import Contrastive, Directions, Form, Sliced, Start
from refdiff._objective_flow import VDM, Consistency, Coupling, Flow, TimeLaw
from refdiff._objective_score import DSM, PROCESSES, SMLD, Energy

__all__ = [
    "DDPM",
    "DSM",
    "OBJECTIVES",
    "PROCESSES",
    "SMLD",
    "VDM",
    "Classification",
    "Consistency",
    "Contrastive",
    "Coupling",
    "DDPMData",
    "DDPMVelocity",
    "Directions",
    "Draws",
    "Energy",
    "Flow",
    "Form",
    "Hybrid",
    "Kind",
    "Network",
    "Objective",
    "OnSchedule",
    "Prediction",
    "Sliced",
    "Spacing",
    "Start",
    "TimeLaw",
    "Weight",
    "make",
]

OBJECTIVES: Mapping[str, type[Objective]] = MappingProxyType(
    {
        "ddpm": DDPM,
        "ddpm_x0": DDPMData,
        "ddpm_v": DDPMVelocity,
        "hybrid": Hybrid,
        "dsm": DSM,
        "smld": SMLD,
        "sliced": Sliced,
        "energy": Energy,
        "contrastive": Contrastive,
        "flow": Flow,
        "consistency": Consistency,
        "vdm": VDM,
        "classifier": Classification,
    }
)
"""The objectives by name; their fields are their settings."""


def make(name: str, settings: Mapping[str, Any] | None = None) -> Objective:
    """An objective by name.

    Args:
        name: one of ``OBJECTIVES``.
        settings: its fields; those that are left out have their defaults.

    Returns:
        Objective.

    Raises:
        ValueError: an unknown name or setting, a value of another type, or what the objective raises.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"model must be one of {', '.join(OBJECTIVES)}, got {name!r}")
    cls, given = OBJECTIVES[name], dict(settings or {})
    known = {field.name: str(field.type) for field in fields(cls)}  # type: ignore[arg-type]
    for key, value in given.items():
        if key not in known:
            raise ValueError(f"settings of {name} must be among {', '.join(known)}, got {key!r}")
        given[key] = _typed(key, value, known[key])
    return cls(**given)


def _typed(name: str, value: Any, kind: str) -> Any:
    """A value of the type of its field; a whole number may stand for a float."""
    types = {"int": int, "float": float, "dict[str, Any]": dict}
    wanted = types.get(kind, str)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise ValueError(f"{name} must be {wanted.__name__}, got {value!r}")
    return value
