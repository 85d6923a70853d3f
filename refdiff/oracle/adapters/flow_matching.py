"""The schedulers of paths and the solver of the ``flow_matching`` package as targets.

Noise is at time 0 and data at 1 there. A scheduler is asked by the package's own path, for state and
velocity, and by itself for its levels; the solver follows a velocity, and takes the likelihood along it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any

import torch
from torch import Tensor

from refdiff import flow
from refdiff import process as processes
from refdiff.oracle.adapters.common import chosen, known_options
from refdiff.oracle.target import Dialect, Target

try:
    paths: Any = import_module("flow_matching.path")
    schedulers: Any = import_module("flow_matching.path.scheduler")
    solvers: Any = import_module("flow_matching.solver")
except ImportError as missing:
    raise ValueError(
        "flow_matching is not installed; pip install --no-deps flow_matching, and torchdiffeq"
    ) from missing

METHODS = {name: name for name in ("euler", "midpoint", "heun3", "rk4")}


@dataclass(frozen=True)
class Power(flow.Path):
    """The straight line, walked in another time: a = (1 - t)^n and b = 1 - a."""

    n: float = 2.0

    def scale(self, t: Any) -> Tensor:
        return (1 - self.time(t)) ** self.n

    def std(self, t: Any) -> Tensor:
        return 1 - self.scale(t)

    def scale_slope(self, t: Any) -> Tensor:
        return -self.n * (1 - self.time(t)) ** (self.n - 1)

    def std_slope(self, t: Any) -> Tensor:
        return -self.scale_slope(t)

    def determinant(self, t: Any) -> Tensor:
        return self.std_slope(t)


@dataclass(frozen=True)
class Circle(flow.Path):
    """The circle over a signal that is linear in time: a = 1 - t and b = sqrt(1 - a²)."""

    def scale(self, t: Any) -> Tensor:
        return 1 - self.time(t)

    def std(self, t: Any) -> Tensor:
        at = self.time(t)
        return (at * (2 - at)).sqrt()

    def scale_slope(self, t: Any) -> Tensor:
        return torch.full_like(self.time(t), -1)

    def std_slope(self, t: Any) -> Tensor:
        return self.scale(t) / self.std(t)

    def determinant(self, t: Any) -> Tensor:
        return 1 / self.std(t)


class SchedulerTarget(Target):
    """A scheduler: its levels, the time of a level, and what a path makes of it.

    Args:
        cls: a class of the package.
        options: of the class.
    """

    def __init__(self, cls: Any, options: Mapping[str, Any]) -> None:
        known_options(
            cls.__name__, options, [key for key in inspect.signature(cls).parameters if key != "self"]
        )
        if cls.__name__ == "PolynomialConvexScheduler":
            options = {"n": 2.0, **options}
        self.scheduler = cls(**options)
        self.path = paths.AffineProbPath(self.scheduler)
        self.name = f"flow_matching {metadata.version('flow_matching')} {cls.__name__}"
        self.dialect = Dialect(process=PATHS[cls.__name__](options), time_direction="data")

    def marginal(self, t: Tensor) -> Any:
        """alpha and sigma."""
        found = self.scheduler(t)
        return found.alpha_t, found.sigma_t

    def model_time(self, sigma: Tensor) -> Any:
        """``snr_inverse``."""
        return self.scheduler.snr_inverse(1 / sigma)

    def flow_path(self, x0: Tensor, noise: Tensor, t: Tensor) -> Any:
        """The state of ``AffineProbPath``."""
        return self.path.sample(noise, x0, t).x_t

    def flow_velocity(self, x0: Tensor, noise: Tensor, t: Tensor) -> Any:
        """Its velocity."""
        return self.path.sample(noise, x0, t).dx_t


class SolverTarget(Target):
    """``ODESolver``: a sampler of a given method, and a likelihood."""

    def __init__(self, cls: Any, options: Mapping[str, Any]) -> None:
        known_options(cls.__name__, options, ["method"])
        self.method = chosen("method", options.get("method", "euler"), METHODS)
        self.cls = cls
        self.name = f"flow_matching {metadata.version('flow_matching')} {cls.__name__}"
        self.dialect = Dialect(time_direction="data", first_time=0.0)
        self.notes = ["the likelihood is taken by dopri5 with the exact divergence, which is not the default"]
        self.process = processes.VP()

    def flow_sample(self, velocity_fn: Any, x: Tensor, steps: int) -> Any:
        """``sample`` with steps of one length."""
        solver = self.cls(lambda x, t: velocity_fn(x, t))
        return solver.sample(x, step_size=1 / steps, method=self.method)

    def ode_log_likelihood(self, score_fn: Any, x: Tensor) -> Any:
        """``compute_likelihood`` of the variance-preserving process, whose velocity is made of the score."""

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            noise = min(max(1 - float(t), 0.0), 1.0)
            f, g2 = float(self.process.drift(noise)), float(self.process.diffusion_squared(noise))
            answer: Tensor = -(f * x - g2 / 2 * score_fn(x, t.expand(len(x))))
            return answer

        def prior(x: Tensor) -> Tensor:
            return -(x.square() + math.log(2 * math.pi)).flatten(1).sum(1) / 2

        ends = torch.tensor([1.0, 0.0], dtype=x.dtype)
        return self.cls(velocity).compute_likelihood(
            x, prior, step_size=None, method="dopri5", time_grid=ends, exact_divergence=True
        )[1]


PATHS: dict[str, Any] = {
    "CondOTScheduler": lambda options: flow.Rectified(),
    "PolynomialConvexScheduler": lambda options: Power(float(options["n"])),
    "VPScheduler": lambda options: processes.VP(
        float(options.get("beta_min", 0.1)), float(options.get("beta_max", 20.0))
    ),
    "LinearVPScheduler": lambda options: Circle(),
    "CosineScheduler": lambda options: flow.Trigonometric(),
}


def load(name: str, options: Mapping[str, Any]) -> Target:
    """The target for a class of flow_matching.

    Raises:
        ValueError: an unknown class or option.
    """
    kinds: dict[str, Any] = {**dict.fromkeys(PATHS, SchedulerTarget), "ODESolver": SolverTarget}
    kind = chosen("flow_matching class", name, kinds)
    target: Target = kind(getattr(solvers if name == "ODESolver" else schedulers, name), options)
    return target
