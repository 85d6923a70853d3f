"""The checks, by permanent id."""

from __future__ import annotations

from refdiff.oracle.checks import (
    affine,
    bound,
    conduct,
    cross,
    decoder,
    likelihood,
    losses,
    more,
    samplers,
    scores,
    tables,
    timesteps,
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
    "likelihood",
    "losses",
    "more",
    "samplers",
    "scores",
    "tables",
    "timesteps",
]
