"""The paths, velocities and couplings of the ``torchcfm`` package as targets.

Noise is at time 0 and data at 1 there. The solver of optimal transport that the package asks for, POT, is
not needed: where it is missing its exact plan is the best assignment, found by SciPy; the costs, the draw of
pairs from the plan and what is done with them are the package's own.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from refdiff import flow
from refdiff.oracle.adapters.common import chosen, known_options
from refdiff.oracle.target import Dialect, Target


def _uniform(count: int) -> Any:
    return np.full(count, 1 / count)


def _best(first: Any, second: Any, cost: Any, **options: Any) -> Any:
    """The exact plan between two uniform samples of one size, which is an assignment."""
    plan = np.zeros_like(cost, dtype=float)
    plan[linear_sum_assignment(cost)] = 1 / len(cost)
    return plan


def _transport() -> ModuleType:
    """What the package uses of POT where it is not installed."""
    made: Any = ModuleType("ot")
    made.unif, made.emd = _uniform, _best
    return made  # type: ignore[no-any-return]


@cache
def package() -> Any:
    """The package.

    Raises:
        ValueError: it is not installed.
    """
    if find_spec("torchcfm") is None:
        raise ValueError("torchcfm is not installed; pip install --no-deps torchcfm")
    missing = find_spec("ot") is None
    if missing:
        sys.modules["ot"] = _transport()
    try:
        return import_module("torchcfm.conditional_flow_matching")
    finally:
        if missing:
            del sys.modules["ot"]


class PathTarget(Target):
    """A matcher: where a pair of noise and data is at a time, and its velocity.

    Args:
        cls: a class of the package.
        options: of the class.
    """

    path: flow.Path = flow.Rectified()

    def __init__(self, cls: Any, options: Mapping[str, Any]) -> None:
        self.matcher = cls(**options)
        self.name = f"torchcfm {metadata.version('torchcfm')} {cls.__name__}"
        self.dialect = self.spoken(Dialect(process=self.path, time_direction="data"))
        self.notes: list[str] = []
        self.refuse(float(self.matcher.sigma))

    def spoken(self, dialect: Dialect) -> Dialect:
        """The conventions of the class."""
        return dialect

    def refuse(self, sigma: float) -> None:
        """ValueError where the state is not a path between noise and data alone."""
        if sigma:
            raise ValueError(f"sigma must be 0: above it a third tensor is in the state, got {sigma}")

    def at(self, x0: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """State and velocity; what the class draws is the noise."""
        _, state, velocity = self.matcher.sample_location_and_conditional_flow(noise, x0, t)
        return state, velocity

    def flow_path(self, x0: Tensor, noise: Tensor, t: Tensor) -> Any:
        """The state."""
        return self.at(x0, noise, t)[0]

    def flow_velocity(self, x0: Tensor, noise: Tensor, t: Tensor) -> Any:
        """Its derivative."""
        return self.at(x0, noise, t)[1]


class Variance(PathTarget):
    """``VariancePreservingConditionalFlowMatcher``: cosine and sine."""

    path = flow.Trigonometric()


class ToTarget(PathTarget):
    """``TargetConditionalFlowMatcher``: the path of Lipman et al.; it draws the noise itself."""

    def spoken(self, dialect: Dialect) -> Dialect:
        """Noise of standard deviation sigma is left on data."""
        sigma = float(self.matcher.sigma)
        return dialect.but(process=flow.Transport(sigma) if sigma else flow.Rectified())

    def refuse(self, sigma: float) -> None:
        """Any sigma is part of the path."""


class Coupled(PathTarget):
    """``ExactOptimalTransportConditionalFlowMatcher``: the pairs of its plan."""

    def __init__(self, cls: Any, options: Mapping[str, Any]) -> None:
        self.replace = bool(options.get("replace", False))
        super().__init__(cls, {key: value for key, value in options.items() if key != "replace"})
        if "replace" not in options:
            self.notes.append("replace=False was set here, the package draws pairs with replacement")

    def flow_coupling(self, x0: Tensor, noise: Tensor) -> Any:
        """``sample_plan``."""
        paired, data = self.matcher.ot_sampler.sample_plan(noise, x0, replace=self.replace)
        return data, paired

    def at(self, x0: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The state and velocity of given pairs."""
        state = self.matcher.sample_xt(noise, x0, t, torch.zeros_like(x0))
        return state, self.matcher.compute_conditional_flow(noise, x0, t, state)


KINDS: dict[str, type[PathTarget]] = {
    "ConditionalFlowMatcher": PathTarget,
    "ExactOptimalTransportConditionalFlowMatcher": Coupled,
    "TargetConditionalFlowMatcher": ToTarget,
    "VariancePreservingConditionalFlowMatcher": Variance,
}


def load(name: str, options: Mapping[str, Any]) -> Target:
    """The target for a class of torchcfm.

    Raises:
        ValueError: an unknown class or option, or the package is not installed.
    """
    module, kind = package(), chosen("torchcfm class", name, KINDS)
    cls = getattr(module, name)
    own = ["replace"] if kind is Coupled else []
    known_options(name, options, [key for key in inspect.signature(cls).parameters if key != "self"] + own)
    target: Target = kind(cls, options)
    return target
