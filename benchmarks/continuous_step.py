"""A step of the SDE, of its flow and of a path against the passes over tensors that it takes; one thread.

The score or velocity is a fixed tensor. A pass multiplies a tensor by a number or adds such a multiple.

python benchmarks/continuous_step.py
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from timing import interleaved, ratio_line
from torch import Tensor

from refdiff import flow, ode, sde
from refdiff.process import VP

SHAPE = (16, 3, 32, 32)
T, S = 0.5, 0.4
PROCESS, RECTIFIED, OF_VP = VP(), flow.path("rectified"), flow.path("vp")
# the numbers of a step are float64 tensors of one element, and a pass takes as long as half a dozen of their
# operations; those of VP's path take most of them, and flow.euler_step has none
BOUND, VP_PATH_BOUND, EULER_BOUND = 8.0, 16.0, 2.0


def tensors() -> tuple[Tensor, Tensor, Tensor]:
    """x, a score or velocity, and z as fixed float32 tensors."""
    grid = torch.linspace(-2, 2, 16 * 3 * 32 * 32, dtype=torch.float32).reshape(SHAPE)
    return grid, torch.sin(7 * grid), torch.cos(5 * grid)


def bare(passes: int) -> Callable[[], object]:
    """So many passes."""
    x, eps, _ = tensors()

    def run() -> Tensor:
        state = 1.01 * x
        for _ in range(passes - 1):
            state = torch.add(state, eps, alpha=-0.02)
        return state

    return run


def steps() -> Mapping[str, tuple[int, Callable[[], object]]]:
    """By name: how many passes a step takes, and the step."""
    x, u, z = tensors()
    score: ode.ScoreFn = lambda x, t: u  # noqa: E731
    return {
        "ode.euler_step": (3, lambda: ode.euler_step(PROCESS, score, x, T, S)),
        "ode.heun_step": (7, lambda: ode.heun_step(PROCESS, score, x, T, S)),
        "ode.rk4_step": (15, lambda: ode.rk4_step(PROCESS, score, x, T, S)),
        "flow.euler_step": (1, lambda: flow.euler_step(x, T, S, u)),
        "flow.ddim_step, rectified": (2, lambda: flow.ddim_step(RECTIFIED, x, T, S, u)),
        "flow.ddim_step, vp": (2, lambda: flow.ddim_step(OF_VP, x, T, S, u)),
        "sde.euler_maruyama_step": (3, lambda: sde.euler_maruyama_step(PROCESS, x, T, S, u, z)),
        "sde.reverse_diffusion_step": (3, lambda: sde.reverse_diffusion_step(PROCESS, x, T, S, u, z)),
        "sde.ancestral_step": (3, lambda: sde.ancestral_step(PROCESS, x, T, S, u, z)),
        "sde.heun_step": (9, lambda: sde.heun_step(PROCESS, score, x, T, S, z)),
    }


def main() -> None:
    torch.set_num_threads(1)
    found = steps()
    functions = {name: step for name, (_, step) in found.items()}
    functions |= {
        f"bare {passes}": bare(passes) for passes in sorted({passes for passes, _ in found.values()})
    }
    median = interleaved(functions, repeats=30, number=5)
    for name, (passes, _) in found.items():
        bound = {"flow.euler_step": EULER_BOUND, "flow.ddim_step, vp": VP_PATH_BOUND}.get(name, BOUND)
        print(ratio_line(f"{name} / {passes} passes", median[name] / median[f"bare {passes}"], bound))


if __name__ == "__main__":
    main()
