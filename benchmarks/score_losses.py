"""The exact trace of explicit score matching against the sliced and the denoising loss, by dimension.

    python benchmarks/score_losses.py

One network of the same width for every dimension, each loss with its gradient along the parameters. The
exact trace takes a backward pass for each dimension and the sliced one takes one, so their ratio is at most
the dimension; the denoising loss differentiates no score.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from timing import interleaved, ratio_line
from torch import Tensor

from refdiff import score_matching

DIMENSIONS = (2, 8, 32, 128)
BATCH, WIDTH = 64, 128
SLICED_OVER_DENOISING = 4.0


def losses(dimension: int) -> dict[str, Callable[[], object]]:
    """Each loss and its gradient, on fixed data, directions and noise."""
    generator = torch.Generator().manual_seed(dimension)

    drawn = partial(torch.randn, generator=generator)
    first, second = drawn(WIDTH, dimension) / math.sqrt(dimension), drawn(dimension, WIDTH) / math.sqrt(WIDTH)
    parameters = [first.requires_grad_(), second.requires_grad_()]
    x, v = drawn(BATCH, dimension), drawn(BATCH, dimension)

    def score(y: Tensor) -> Tensor:
        hidden: Tensor = torch.tanh(y @ first.mT)
        return hidden @ second.mT

    def trained(loss: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(loss().mean(), parameters)

    return {
        "exact": trained(lambda: score_matching.explicit_loss(score, x)),
        "sliced": trained(lambda: score_matching.sliced_loss(score, x, v)),
        "denoising": trained(lambda: score_matching.denoising_loss(score, x, 0.5, v)),
    }


def main() -> None:
    torch.set_num_threads(1)
    for dimension in DIMENSIONS:
        median = interleaved(losses(dimension), repeats=15)
        exact, sliced = median["exact"] / median["sliced"], median["sliced"] / median["denoising"]
        print(ratio_line(f"exact trace / sliced, {dimension} dimensions", exact, dimension))
        print(ratio_line(f"sliced / denoising, {dimension} dimensions", sliced, SLICED_OVER_DENOISING))


if __name__ == "__main__":
    main()
