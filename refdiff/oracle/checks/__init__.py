"""The checks, by permanent id."""

from __future__ import annotations

from refdiff.oracle.checks import (
    affine,
    bound,
    conduct,
    cross,
    decoder,
    energy,
    guidance,
    ladder,
    langevin,
    likelihood,
    losses,
    more,
    posterior,
    samplers,
    scaling,
    scores,
    tables,
    timesteps,
    transitions,
    weights,
)
from refdiff.oracle.checks.registry import CHECKS, Check

__all__ = [
    "CHECKS",
    "Check",
    "affine",
    "bound",
    "conduct",
    "cross",
    "decoder",
    "energy",
    "guidance",
    "ladder",
    "langevin",
    "likelihood",
    "losses",
    "more",
    "posterior",
    "samplers",
    "scaling",
    "scores",
    "tables",
    "timesteps",
    "transitions",
    "weights",
]
