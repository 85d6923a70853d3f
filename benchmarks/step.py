"""A reference step with the noise given, against the bare expression and against diffusers; one thread.

python benchmarks/step.py
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from timing import interleaved, ratio_line
from torch import Tensor

from refdiff import ddim, ddpm, schedule

SHAPE = (16, 3, 32, 32)
T, t, s = 1000, 500, 480


def tensors() -> tuple[Tensor, Tensor, Tensor]:
    """x_t, ε and z as fixed float32 tensors."""
    grid = torch.linspace(-2, 2, 16 * 3 * 32 * 32, dtype=torch.float32).reshape(SHAPE)
    return grid, torch.sin(7 * grid), torch.cos(5 * grid)


def functions() -> dict[str, Callable[[], object]]:
    x_t, eps, z = tensors()
    linear = schedule.linear(T)
    a, b, c = (float(k) for k in (1.01, -0.02, 0.1))
    theirs_ddpm = DDPMScheduler(clip_sample=False)
    theirs_ddim = DDIMScheduler(clip_sample=False, set_alpha_to_one=True)
    theirs_ddim.set_timesteps(T // (t - s))
    return {
        "bare": lambda: a * x_t + b * eps + c * z,
        "ddpm": lambda: ddpm.step(linear, x_t, t, eps, z),
        "ddim": lambda: ddim.step(linear, x_t, t, s, eps, eta=0.5, noise=z),
        "randn": lambda: torch.randn(SHAPE),
        "diffusers ddpm": lambda: theirs_ddpm.step(eps, t - 1, x_t),
        "diffusers ddim": lambda: theirs_ddim.step(eps, t - 1, x_t, eta=0.5, variance_noise=z),
    }


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    median = interleaved(functions(), repeats=60, number=20)
    print(ratio_line("refdiff ddpm step / bare a·x + b·ε + c·z", median["ddpm"] / median["bare"], 1.5))
    print(ratio_line("refdiff ddim step / bare a·x + b·ε + c·z", median["ddim"] / median["bare"], 1.5))
    drawn = median["diffusers ddpm"] - median["randn"]
    print(
        ratio_line("refdiff ddpm step / diffusers' (its noise draw subtracted)", median["ddpm"] / drawn, 1.0)
    )
    print(
        ratio_line(
            "refdiff ddim step / diffusers' (noise given)", median["ddim"] / median["diffusers ddim"], 1.0
        )
    )


if __name__ == "__main__":
    main()
