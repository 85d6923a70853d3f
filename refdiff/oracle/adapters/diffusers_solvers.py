"""The solvers among the schedulers of the ``diffusers`` package, over levels of our choice.

A scheduler of a chain is given the levels as its own ``alphas_cumprod``, one entry a level, so that its
timesteps are the entries and ``set_timesteps`` makes its sigmas from them. Where the model is asked is read
off the timestep that the scheduler hands out, as every pipeline of the package does. Levels are kept in
float32 there, and most steps are taken in it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refdiff.oracle.adapters.common import Increments, known_options
from refdiff.oracle.target import Dialect, Target

KINDS = {"epsilon": "eps", "sample": "x_0", "v_prediction": "v", "flow_prediction": "flow"}


@dataclass(frozen=True)
class Solver:
    """How a scheduler is used.

    Args:
        order: constructor options -> the order that they ask for.
        spare: whether ``set_timesteps`` leaves out the cleanest entry of the table.
        twice: how often the model is asked in a step.
        start: order of the first step.
        noisy: whether noise is added, or the options that say so.
        grid: levels for which the order is declared.
        divided: whether its states are divided by the scale.
        name: options -> the name in ``refdiff.solver.SOLVERS``, where there is one.
    """

    order: Callable[[Mapping[str, Any]], int]
    spare: bool = False
    twice: int = 1
    start: int | None = 1
    noisy: Callable[[Mapping[str, Any]], bool] = lambda options: False
    grid: str = "any"
    divided: bool = False
    name: Callable[[Mapping[str, Any]], str | None] = lambda options: None


def solver_order(options: Mapping[str, Any]) -> int:
    """The option of that name."""
    return int(options.get("solver_order", 2))


def of_sde(options: Mapping[str, Any]) -> bool:
    """Whether the algorithm is the one of the reverse SDE."""
    return "sde" in options.get("algorithm_type", "")


SOLVERS: dict[str, Solver] = {
    "EulerDiscreteScheduler": Solver(lambda o: 1, name=lambda o: "ddim", divided=True),
    "EulerAncestralDiscreteScheduler": Solver(lambda o: 1, noisy=lambda o: True, divided=True),
    "HeunDiscreteScheduler": Solver(lambda o: 2, twice=2, start=2, divided=True),
    "KDPM2DiscreteScheduler": Solver(lambda o: 2, twice=2, start=2, name=lambda o: "dpm_2", divided=True),
    "KDPM2AncestralDiscreteScheduler": Solver(
        lambda o: 2, twice=2, start=2, noisy=lambda o: True, divided=True
    ),
    "LMSDiscreteScheduler": Solver(lambda o: 4, divided=True),
    "PNDMScheduler": Solver(lambda o: 4, grid="sigma", start=2),
    "DPMSolverMultistepScheduler": Solver(solver_order, spare=True, noisy=of_sde),
    "DPMSolverSinglestepScheduler": Solver(solver_order, spare=True, noisy=of_sde),
    "DPMSolverSDEScheduler": Solver(lambda o: 2, twice=2, start=2, noisy=lambda o: True, divided=True),
    "UniPCMultistepScheduler": Solver(lambda o: solver_order(o) + 1, spare=True),
    "DEISMultistepScheduler": Solver(solver_order, spare=True),
}
# their steps are taken in the dtype of their arguments, if the sigmas are kept in it too
DOUBLE = ("DPMSolverSinglestepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler")
FLOWS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
EDMS = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
NAMES = (*SOLVERS, *FLOWS, *EDMS)


def load(cls: Any, options: Mapping[str, Any]) -> Target:
    """The target for a scheduler class, built with constructor options."""
    known = [key for key in inspect.signature(cls.__init__).parameters if key not in ("self", "kwargs")]
    known_options(cls.__name__, options, [*known, "order"])
    if cls.__name__ in FLOWS:
        return FlowTarget(cls, options)
    if cls.__name__ in EDMS:
        return PreconditionedTarget(cls, options)
    return SolverTarget(cls, options)


class SolverTarget(Target):
    """A scheduler of a chain as a solver over levels."""

    def __init__(self, cls: Any, options: Mapping[str, Any]) -> None:
        import diffusers

        self.cls, self.how = cls, SOLVERS[cls.__name__]
        self.asked = options.get("order")
        self.options = {key: value for key, value in options.items() if key != "order"}
        self.name = f"diffusers {diffusers.__version__} {cls.__name__}"
        self.dialect = self.spoken()
        self.notes = ["levels are the entries of alphas_cumprod, which holds no others"]
        if self.dialect.dtype == "float64":
            self.notes.append("sigmas are kept in float64 here, the package rounds them to float32")

    def spoken(self) -> Dialect:
        """The conventions of the class and its options."""
        options, how = self.options, self.how
        order = self.asked or how.order(options)
        noisy = how.noisy(options)
        return Dialect(
            dtype="float64" if self.cls.__name__ in DOUBLE else "float32",
            parameterization=KINDS[options.get("prediction_type", "epsilon")],
            order=order,
            start_order=None if order == 1 else how.start,
            solver=how.name(options),
            solver_grid="log_snr" if self.thirds() else how.grid,
            solver_end="level" if self.ends_above() else "data",
            solver_noise=noisy,
            # noise is frozen in a step, while the one of a point changes with what is added
            straight=options.get("algorithm_type") != "sde-dpmsolver",
        )

    def thirds(self) -> bool:
        """Whether it is of third order only where its stages are at a third and two thirds of a step."""
        return "Singlestep" in self.cls.__name__ and solver_order(self.options) == 3

    def ends_above(self) -> bool:
        """Whether it refuses to end at data, or ends at the first level of the chain instead."""
        return "DEIS" in self.cls.__name__ or self.options.get("algorithm_type", "").endswith("dpmsolver")

    def scheduler(self, scales: Tensor, stds: Tensor) -> tuple[Any, int]:
        """The scheduler on those levels, and how many of its timesteps are run."""
        clean = float(stds[-1]) == 0
        sigmas = (stds.double() / scales.double())[: -1 if clean else None]
        squares = (1 / (1 + sigmas**2)).flip(0)
        if self.how.spare and clean:
            # the entry that is left out: never a level
            squares = torch.cat([(1 + squares[:1]) / 2, squares])
        count = len(squares) - self.how.spare
        given = dict(self.options)
        if self.how.spare:
            given["final_sigmas_type"] = "zero" if clean else "sigma_min"
            given = {key: value for key, value in given.items() if key in self.parameters()}
        if "PNDM" in self.cls.__name__:
            given |= {"skip_prk_steps": True, "set_alpha_to_one": True}
        made = self.cls(num_train_timesteps=len(squares), **given)
        made.alphas_cumprod = squares
        for name, value in (("alpha_t", squares.sqrt()), ("sigma_t", (1 - squares).sqrt())):
            setattr(made, name, value)
        made.lambda_t = made.alpha_t.log() - made.sigma_t.log()
        made.set_timesteps(count)
        if self.dialect.dtype == "float64":
            last = torch.zeros(1) if clean else stds[-1:] / scales[-1:]
            made.sigmas = torch.cat([(stds / scales)[:-1], last.double()])
        return made, len(made.timesteps) - (0 if clean or self.how.spare else 1)

    def parameters(self) -> Mapping[str, Any]:
        """The constructor's parameters."""
        return inspect.signature(self.cls.__init__).parameters

    def solve(self, model: Any, x: Tensor, scales: Tensor, stds: Tensor, noises: Tensor) -> Tensor:
        """The loop that every pipeline of the package runs."""
        scheduler, run = self.scheduler(scales, stds)
        state = x / scales[0] if self.how.divided else x
        table = np.log(1 / scheduler.alphas_cumprod.numpy() - 1) / 2
        if hasattr(scheduler, "noise_sampler"):
            # the package draws the same increments from a tree
            scheduler.noise_sampler = Increments(noises)
        for t in scheduler.timesteps[:run]:
            seen = scheduler.scale_model_input(state, t)
            sigma = float(np.exp(np.interp(float(t), np.arange(len(table)), table)))
            scale = (1 + sigma**2) ** -0.5
            output = model(seen, scale, scale * sigma)
            state = self.step(scheduler, output, t, state)
        return state * scales[-1] if self.how.divided else state

    def step(self, scheduler: Any, output: Tensor, t: Any, x: Tensor) -> Tensor:
        """One step of the scheduler."""
        given = {"order": self.asked} if self.asked and "LMS" in self.cls.__name__ else {}
        value: Tensor = scheduler.step(output, t, x, **given).prev_sample
        return value


class FlowTarget(Target):
    """A scheduler of the straight path as a solver over its levels, sigma = std."""

    def __init__(self, cls: Any, options: Mapping[str, Any]) -> None:
        import diffusers

        self.cls, self.options = cls, dict(options)
        self.heun = "Heun" in cls.__name__
        self.name = f"diffusers {diffusers.__version__} {cls.__name__}"
        self.dialect = Dialect(
            dtype="float32",
            parameterization="x_0",
            order=2 if self.heun else 1,
            start_order=2 if self.heun else None,
            solver=None if self.heun or options.get("stochastic_sampling") else "ddim",
            solver_space="flow",
            solver_noise=bool(options.get("stochastic_sampling", False)),
        )
        if self.heun:
            # its levels are even in time, and their number is all that can be said
            self.dialect = self.dialect.but(solver_grid="time")

    def solve(self, model: Any, x: Tensor, scales: Tensor, stds: Tensor, noises: Tensor) -> Tensor:
        """The loop that every pipeline of the package runs; the velocity is made of the data."""
        scheduler, clean = self.cls(**self.options), float(stds[-1]) == 0
        sigmas = stds.double().numpy()[: -1 if clean else None]
        T = scheduler.config.num_train_timesteps
        if self.heun:
            scheduler.sigma_max, scheduler.sigma_min = float(sigmas[0]), float(sigmas[-1])
            scheduler.set_timesteps(len(sigmas))
        else:
            scheduler.set_timesteps(sigmas=sigmas.tolist())
        run = len(scheduler.timesteps) - (0 if clean else 1)
        for t in scheduler.timesteps[:run]:
            sigma = float(t) / T
            velocity = (x - model(x, 1 - sigma, sigma)) / sigma
            x = scheduler.step(velocity, t, x).prev_sample
        return x


class PreconditionedTarget(Target):
    """A scheduler of Karras et al., whose network answers F in x_0 = c_skip x + c_out F."""

    def __init__(self, cls: Any, options: Mapping[str, Any]) -> None:
        import diffusers

        self.cls, self.options = cls, dict(options)
        order = 1 if cls.__name__ == "EDMEulerScheduler" else solver_order(options)
        self.name = f"diffusers {diffusers.__version__} {cls.__name__}"
        self.notes = ["the network's output is made of x_0 by Karras et al.'s scalings"]
        noisy = of_sde(options)
        self.dialect = Dialect(
            dtype="float32",
            parameterization="x_0",
            order=order,
            start_order=None if order == 1 else 1,
            solver="ddim" if order == 1 and not noisy else None,
            solver_space="ve",
            solver_noise=noisy,
        )

    def solve(self, model: Any, x: Tensor, scales: Tensor, stds: Tensor, noises: Tensor) -> Tensor:
        """The loop that every pipeline of the package runs, on sigmas in place of the ones it makes."""
        scheduler = self.cls(**self.options)
        scheduler.set_timesteps(len(stds) - 1)
        scheduler.sigmas = stds.float()
        scheduler.timesteps = scheduler.precondition_noise(scheduler.sigmas[:-1])
        data = scheduler.config.sigma_data
        for t in scheduler.timesteps:
            sigma = float((4 * t.double()).exp())
            scheduler.scale_model_input(x, t)
            total = sigma**2 + data**2
            x_0 = model(x, 1.0, sigma)
            output = (x_0 - data**2 / total * x) / (sigma * data / total**0.5)
            x = scheduler.step(output, t, x).prev_sample
        return x
