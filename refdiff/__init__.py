"""Proved formulas, a plain reference and an oracle for diffusion models.

Importing refdiff loads no torch: a topic loads when it is first touched, as in ``refdiff.ddim``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refdiff import (
        checkpoint,
        consistency,
        data,
        datasets,
        ddim,
        ddpm,
        elbo,
        ema,
        energy,
        evaluate,
        flow,
        gaussian,
        generate,
        golden,
        guidance,
        guided_gaussian,
        kernel,
        langevin,
        nets,
        objective,
        ode,
        oracle,
        parameterization,
        pictures,
        process,
        schedule,
        score_matching,
        sde,
        smld,
        train,
        vae,
        vdm,
        vlb,
    )
    from refdiff.oracle import Dialect, Report, Target, check

__version__ = "0.1.0"

__all__ = [
    "Dialect",
    "Report",
    "Target",
    "check",
    "checkpoint",
    "consistency",
    "data",
    "datasets",
    "ddim",
    "ddpm",
    "elbo",
    "ema",
    "energy",
    "evaluate",
    "flow",
    "gaussian",
    "generate",
    "golden",
    "guidance",
    "guided_gaussian",
    "kernel",
    "langevin",
    "nets",
    "objective",
    "ode",
    "oracle",
    "parameterization",
    "pictures",
    "process",
    "schedule",
    "score_matching",
    "sde",
    "smld",
    "train",
    "vae",
    "vdm",
    "vlb",
]

_ORACLE = ("Dialect", "Report", "Target", "check")


def __getattr__(name: str) -> Any:
    if name in _ORACLE:
        return getattr(importlib.import_module("refdiff.oracle"), name)
    if name in __all__:
        return importlib.import_module(f"refdiff.{name}")
    raise AttributeError(f"module 'refdiff' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
