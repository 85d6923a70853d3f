"""The exact law of annealed Langevin sampling on Gaussian data against Monte Carlo at equal resolution.

    python benchmarks/chain_law.py

Monte Carlo with N chains knows a variance to a share √(2/N); for one per mille that is two million chains.
So many are timed as a multiple of a smaller batch, which has the same cost a chain.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from timing import interleaved, ratio_line
from torch import Tensor

from refdiff import smld

LEVELS, STEPS, EPSILON = 10, 10, 2e-5
RESOLUTION, BATCH = 1e-3, 4096
SIGMAS = smld.geometric_sigmas(1.0, 0.01, LEVELS)
MEAN = torch.tensor([0.75, -1.5], dtype=torch.float64)
COV = torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=torch.float64)


def perfect(x: Tensor, sigma: Tensor) -> Tensor:
    """The score of the noised data; every sample of a batch has one level."""
    precision: Tensor = torch.linalg.inv(COV + sigma[0] ** 2 * torch.eye(2, dtype=torch.float64))
    return (MEAN - x) @ precision


def functions() -> dict[str, Callable[[], object]]:
    """All moments at once, and one batch of chains."""
    start = torch.eye(2, dtype=torch.float64)

    def chains() -> Tensor:
        noises = (torch.randn(BATCH, 2, dtype=torch.float64) for _ in range(LEVELS * STEPS))
        first = torch.randn(BATCH, 2, dtype=torch.float64)
        return smld.annealed_langevin(perfect, SIGMAS, first, EPSILON, STEPS, noises)

    return {
        "exact": lambda: smld.chain_moments(SIGMAS, MEAN, COV, EPSILON, STEPS, 0 * MEAN, start),
        "chains": chains,
    }


def main() -> None:
    torch.set_num_threads(1)
    median = interleaved(functions(), repeats=15)
    needed = 2 / RESOLUTION**2
    sampled = median["chains"] * needed / BATCH
    print(f"exact moments {1e3 * median['exact']:.2f} ms; {needed:.0f} chains {sampled:.1f} s")
    print(ratio_line("exact law / Monte Carlo at one per mille", median["exact"] / sampled, 1e-2))


if __name__ == "__main__":
    main()
