"""The stochastic samplers of the ``azula`` package, over given levels: ``ItoSampler`` and ``PCSampler``.

The levels are given as for the deterministic ones; the samplers draw their noises.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from refdiff.oracle.adapters.azula_solvers import Given
from refdiff.oracle.adapters.common import chosen, known_options
from refdiff.oracle.target import Dialect, Target

OWN = {"ItoSampler": ("eta", "temperature"), "PCSampler": ("corrections", "delta")}


class StochasticTarget(Target):
    """A sampler over given levels, of first order in the step.

    Args:
        cls: a class of the package.
        options: its own arguments.
    """

    def __init__(self, cls: Any, options: Mapping[str, Any]) -> None:
        known_options(cls.__name__, options, OWN[cls.__name__])
        self.cls, self.options = cls, dict(options)
        self.name = f"azula {metadata.version('azula')} {cls.__name__}"
        ito = cls.__name__ == "ItoSampler"
        noisy = self.options.get("eta", 1.0) > 0 if ito else self.options.get("corrections", 1) > 0
        self.dialect = Dialect(
            parameterization="x_0",
            order=1,
            solver_noise=noisy,
            # the last step of the Ito sampler adds the noise of its whole length
            solver_end="level" if ito and noisy else "data",
            straight=not (ito and noisy),
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

        sampler = self.cls(
            Denoiser(), steps=len(scales) - 1, silent=True, dtype=torch.float64, **self.options
        )
        return sampler(x)


def load(name: str, options: Mapping[str, Any]) -> Target:
    """The target for one of the two samplers.

    Raises:
        ValueError: an unknown class or option, or the package is not installed.
    """
    chosen("azula class", name, OWN)
    try:
        from azula import sample
    except ImportError as missing:
        raise ValueError("azula is not installed; pip install --no-deps azula einops") from missing
    return StochasticTarget(getattr(sample, name), options)
