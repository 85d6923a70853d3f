"""The deterministic samplers of the ``azula`` package as solvers over given levels.

A sampler walks from time 1 to 0 in even steps and reads signal and noise off a schedule. Here the schedule
holds the levels that are given, at those times; the denoiser answers with data.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from refdiff.oracle.adapters.common import known_options
from refdiff.oracle.target import Dialect, Target

# order as it is documented, or None where it is asked for; order of the first step; name here
SAMPLERS: dict[str, tuple[int | None, int | None, str | None]] = {
    "HeunSampler": (2, 2, None),
    "zABSampler": (None, 1, None),
    "vABSampler": (None, 1, None),
    "zEABSampler": (None, 1, None),
    "xEABSampler": (None, 1, None),
    "REABSampler": (None, 1, None),
}


def solves(name: str, options: Mapping[str, Any]) -> bool:
    """Whether a sampler is judged as a solver: with one step of memory or more, or two questions a step."""
    if name not in SAMPLERS:
        return False
    return SAMPLERS[name][0] is not None or name == "REABSampler" or int(options.get("order", 1)) > 1


class Given(nn.Module):
    """A schedule of the package that holds the levels at even times."""

    def __init__(self, scales: Tensor, stds: Tensor) -> None:
        super().__init__()
        self.scales, self.stds = scales, stds

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and noise at times that are levels."""
        at = ((1 - t.double()) * (len(self.scales) - 1)).round().long()
        return self.scales[at], self.stds[at]


class SolverTarget(Target):
    """A sampler over given levels."""

    def __init__(self, cls: Any, options: Mapping[str, Any]) -> None:
        known_options(cls.__name__, options, ["order"])
        order, start, name = SAMPLERS[cls.__name__]
        self.cls, self.options = cls, dict(options)
        if order is None:
            order = int(self.options.setdefault("order", 2))
        self.name = f"azula {metadata.version('azula')} {cls.__name__}"
        self.dialect = Dialect(
            parameterization="x_0",
            order=order,
            start_order=None if order == 1 else start,
            solver=name,
            solver_noise=False,
            # logarithms of the last level are taken, or the noise at it is asked for
            solver_end="data" if "zAB" in cls.__name__ or "vAB" in cls.__name__ else "level",
            # the state's own part of the increment is integrated, and not that of a point
            straight="REAB" not in cls.__name__,
        )

    def solve(self, model: Any, x: Tensor, scales: Tensor, stds: Tensor, noises: Tensor) -> Any:
        """The sampler's loop from time 1 to 0."""
        from azula import denoise

        levels = Given(scales, stds)

        class Denoiser(denoise.Denoiser):  # type: ignore[misc]
            schedule = levels

            def forward(self, x_t: Tensor, t: Tensor, **given: Any) -> Any:
                alpha, sigma = levels(t)
                return denoise.DiracPosterior(mean=model(x_t, alpha, sigma))

        steps = len(scales) - 1
        sampler = self.cls(Denoiser(), steps=steps, silent=True, dtype=torch.float64, **self.options)
        return sampler(x)
