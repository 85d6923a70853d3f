"""Targets made of other libraries' own objects."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from refdiff.oracle.target import Target

LIBRARIES = ("diffusers", "torchebm", "azula", "score_models", "k_diffusion", "torchcfm", "flow_matching")
# classes with a module of their own
MODULES = {
    "diffusers:ScoreSdeVeScheduler": "diffusers_sde",
    "diffusers:ScoreSdeVpScheduler": "diffusers_sde",
    "diffusers:FlowMatchEulerDiscreteScheduler": "diffusers_flow",
    "diffusers:Timesteps": "diffusers_embedding",
    "diffusers:get_timestep_embedding": "diffusers_embedding",
    "azula:ItoSampler": "azula_sde",
    "azula:PCSampler": "azula_sde",
}


def load(name: str, options: Mapping[str, Any] | None = None) -> Target:
    """The target for ``library:Class``, built with constructor options.

    Args:
        name: the library and its class, such as ``diffusers:DDIMScheduler``, ``torchebm:ScoreMatching`` or
            ``azula:DDPMSampler``.
        options: constructor options; a string is read as bool, int, float, list or none where it is one.

    Raises:
        ValueError: an unknown library, class or option, or a library that is not installed.
    """
    library, colon, cls = name.partition(":")
    if not colon or library not in LIBRARIES:
        known = ", ".join(f"{known}:Class" for known in LIBRARIES)
        raise ValueError(f"name must be one of {known}, got {name!r}")
    module = MODULES.get(name, library)
    target: Target = import_module(f"{__name__}.{module}").load(cls, parsed(options or {}))
    return target


def parsed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options whose strings are read as the values that they spell."""
    return {key: value_of(value) if isinstance(value, str) else value for key, value in options.items()}


def value_of(text: str) -> Any:
    """A bool, none, int, float or comma-separated list where the text spells one; else the text."""
    words: dict[str, Any] = {"true": True, "false": False, "none": None}
    text = text.strip()
    if text.lower() in words:
        return words[text.lower()]
    if text.startswith("[") and text.endswith("]"):
        return [value_of(part) for part in text[1:-1].split(",") if part.strip()]
    if "," in text:
        return [value_of(part) for part in text.split(",")]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
