"""A small energy network: a perceptron in a bowl, so that its law can be normalised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from refdiff import _check


def shapes(dimension: int, width: int = 32, depth: int = 2) -> list[tuple[int, int]]:
    """The shapes of the weights of an ``BowlEnergy``, from the input to its one output.

    Args:
        dimension: elements of a sample.
        width: units in each hidden layer.
        depth: hidden layers.

    Returns:
        Rows and columns of each matrix.

    Raises:
        ValueError: a count below 1.
    """
    for name, value in (("dimension", dimension), ("width", width), ("depth", depth)):
        _check.count(name, value)
    return [(rows, columns) for columns, rows in pairwise([dimension, *[width] * depth, 1])]


class BowlEnergy(nn.Module):
    r"""A perceptron with one output, plus a quadratic bowl that holds the law together.

    .. math:: E_\theta(x)=f_\theta(x)+\frac{\Vert x\Vert^2}{2b^2}

    f is smooth (SiLU) and grows at most linearly, so :math:`e^{-E}` can be integrated whatever the
    parameters. The biases start at 0.

    Args:
        noises: standard normal matrices of the ``shapes``; divided by the root of their columns they are the
            first weights, under which a unit sees inputs of variance one.
        bowl: b, the width of the bowl.

    Raises:
        ValueError: matrices that do not fit together, or a bowl that is not positive.
    """

    def __init__(self, noises: Sequence[Tensor], bowl: float = 4.0) -> None:
        super().__init__()
        if not (math.isfinite(bowl) and bowl > 0):
            raise ValueError(f"bowl must be positive and finite, got {bowl}")
        _require_fit(noises)
        self.bowl = bowl
        self.weights = nn.ParameterList(noise / math.sqrt(noise.shape[1]) for noise in noises)
        self.biases = nn.ParameterList(torch.zeros_like(noise[:, 0]) for noise in noises)

    def forward(self, x: Tensor) -> Tensor:
        r"""The energy of each sample.

        .. math:: E_\theta(x)

        Args:
            x: points of the dimension of the first weights, shape (B, *), of their dtype.

        Returns:
            Energies, shape (B,).

        Raises:
            ValueError: samples of another size.
        """
        flat, expected = x.flatten(1), self.weights[0].shape[1]
        if flat.shape[1] != expected:
            raise ValueError(f"x must have {expected} elements per sample, got {tuple(x.shape)}")
        hidden = flat
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = (silu(hidden) if k else hidden) @ weight.mT + bias
        return hidden.squeeze(1) + flat.square().sum(dim=1) / (2 * self.bowl**2)


def _require_fit(noises: Sequence[Tensor]) -> None:
    sizes = [tuple(noise.shape) for noise in noises]
    fit = bool(sizes) and all(len(size) == 2 and 0 not in size for size in sizes) and sizes[-1][0] == 1
    if not fit or any(low[0] != high[1] for low, high in pairwise(sizes)):
        raise ValueError(f"noises must be matrices that lead to one output, got shapes {sizes}")
