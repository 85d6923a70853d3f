"""The checks, by permanent id."""

from __future__ import annotations

from refdiff.oracle.checks import affine, conduct, cross, losses, more, samplers, tables, timesteps
from refdiff.oracle.checks.registry import CHECKS, Check

__all__ = [
    "CHECKS",
    "Check",
    "affine",
    "conduct",
    "cross",
    "losses",
    "more",
    "samplers",
    "tables",
    "timesteps",
]
