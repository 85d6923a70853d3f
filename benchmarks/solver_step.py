"""A step of each solver against its bare arithmetic and against diffusers, in one run; one thread.

A sampler of ten steps runs with a model that returns a fixed tensor, so that what is timed is the solver. The
bare arithmetic of a step is one multiple of the state plus one of each prediction, and of the noise, that the
step uses.

python benchmarks/solver_step.py
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from diffusers.utils import logging
from timing import interleaved, ratio_line
from torch import Tensor

from refdiff.solver import SOLVERS, karras_levels

SHAPE = (16, 3, 32, 32)
STEPS = 10
PEERS: Mapping[str, Callable[[], object]] = {
    "euler": EulerDiscreteScheduler,
    "heun": HeunDiscreteScheduler,
    "lms_4": LMSDiscreteScheduler,
    "plms": lambda: PNDMScheduler(skip_prk_steps=False),
    "euler_ancestral": EulerAncestralDiscreteScheduler,
    "dpmpp_2m": lambda: DPMSolverMultistepScheduler(solver_order=2, algorithm_type="dpmsolver++"),
    "unipc_2": lambda: UniPCMultistepScheduler(solver_order=2),
}
TERMS: Mapping[str, int] = {
    "euler": 1, "heun": 3, "midpoint": 2, "rk4": 7, "lms_4": 4, "plms": 4, "euler_ancestral": 2,
    "edm_churn": 4, "dpmpp_2m": 2, "unipc_2": 5,
}  # fmt: skip
"""Tensors that are added to a multiple of the state in one step, all stages together."""
# the bare arithmetic predicts no data from noise, makes no levels between, and has the cache for two tensors
BARE_BOUND, PEER_BOUND = 5.0, 0.5


def tensors() -> tuple[Tensor, Tensor, Tensor]:
    """x, ε and z as fixed float32 tensors."""
    grid = torch.linspace(-2, 2, 16 * 3 * 32 * 32, dtype=torch.float32).reshape(SHAPE)
    return grid, torch.sin(7 * grid), torch.cos(5 * grid)


def ours(name: str) -> Callable[[], object]:
    """Ten steps, with noise given."""
    x, eps, z = tensors()
    levels = karras_levels(0.03, 14.0, STEPS + 1, to_data=False)
    return lambda: SOLVERS[name].sample(lambda x, scale, std: eps, x, levels, [z] * STEPS)


def bare(terms: int) -> Callable[[], object]:
    """Ten times a multiple of the state plus so many multiples of other tensors."""
    x, eps, _ = tensors()

    def run() -> Tensor:
        state = x
        for _ in range(STEPS):
            state = 1.01 * state
            for _ in range(terms):
                state = torch.add(state, eps, alpha=-0.02)
        return state

    return run


def theirs(name: str) -> Callable[[], object]:
    """All steps of the scheduler of diffusers, whose levels are set anew, as a second sample needs it."""
    x, eps, _ = tensors()
    scheduler = PEERS[name]()

    def run() -> Tensor:
        scheduler.set_timesteps(STEPS)  # type: ignore[attr-defined]
        state = x
        for t in scheduler.timesteps:  # type: ignore[attr-defined]
            state = scheduler.step(eps, t, state).prev_sample  # type: ignore[attr-defined]
        return state

    return run


def draws() -> Callable[[], object]:
    """The noise that an ancestral scheduler draws by itself."""
    return lambda: [torch.randn(SHAPE) for _ in range(STEPS)]


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    functions = {f"refdiff {name}": ours(name) for name in TERMS}
    functions |= {f"bare {terms}": bare(terms) for terms in sorted(set(TERMS.values()))}
    functions |= {f"diffusers {name}": theirs(name) for name in PEERS}
    median = interleaved({**functions, "randn": draws()}, repeats=20, number=2)
    for name, terms in TERMS.items():
        ratio = median[f"refdiff {name}"] / median[f"bare {terms}"]
        print(ratio_line(f"{name} / bare a·x + {terms} terms", ratio, BARE_BOUND))
    for name in PEERS:
        peer = median[f"diffusers {name}"] - (median["randn"] if name == "euler_ancestral" else 0)
        print(ratio_line(f"{name} / diffusers'", median[f"refdiff {name}"] / peer, PEER_BOUND))


if __name__ == "__main__":
    main()
