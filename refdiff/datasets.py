r"""Named data to train on, as tensors: scikit-learn's bundled sets and laws in the plane, nothing downloaded.

A set is an affine image of what was measured, :math:`x=(\text{raw}-\text{centre})/\text{spread}`, and brings
both numbers. Laws in the plane are drawn from a seed; that of ``mixture`` is known exactly.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from refdiff import _check
from refdiff.data import MixtureLaw

Part = Literal["all", "train", "test"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Data in memory, and what is known of them.

    Args:
        name: one of ``DATASETS``.
        x: shape (N, *).
        centre, spread: x = (raw − centre) / spread, broadcastable to a sample.
        labels: int64, shape (N,), in 0..classes − 1; None for data without classes.
        classes: number of classes, 0 without labels.
        low, high: the range of x that is declared; None where there is no bound.
        bins: number of equally spaced values from low to high that an element may take; None for continuous
            data.
        law: the exact law, where it is known.
    """

    name: str
    x: Tensor
    centre: Tensor
    spread: Tensor
    labels: Tensor | None = None
    classes: int = 0
    low: float | None = None
    high: float | None = None
    bins: int | None = None
    law: MixtureLaw | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a sample."""
        return tuple(self.x.shape[1:])

    def __len__(self) -> int:
        return self.x.shape[0]

    def raw(self, x: Tensor) -> Tensor:
        """Samples in the unit of what was measured, shaped like x."""
        return x * self.spread.to(x) + self.centre.to(x)


def load(
    name: str, *, count: int = 65536, seed: int = 0, part: Part = "all", dtype: torch.dtype = torch.float32
) -> Dataset:
    """A data set by name.

    Args:
        name: one of ``DATASETS``.
        count: samples of a law in the plane; the other sets have their own number.
        seed: of the samples of a law in the plane.
        part: "test" is every fifth sample, "train" the others.
        dtype: of x; everything is computed in float64 and cast once.

    Returns:
        Dataset.

    Raises:
        ValueError: an unknown name or part, a count below 1, or a dtype that is not floating.
        ImportError: scikit-learn is not installed, for its sets.
    """
    if name not in DATASETS:
        raise ValueError(f"name must be one of {', '.join(DATASETS)}, got {name!r}")
    if part not in get_args(Part):
        raise ValueError(f"part must be one of {', '.join(get_args(Part))}, got {part!r}")
    _check.count("count", count)
    _check.floating("dtype", torch.empty(0, dtype=dtype))
    found = DATASETS[name](count, torch.Generator().manual_seed(seed))
    if part != "all":
        kept = (torch.arange(len(found)) % 5 == 4) == (part == "test")
        labels = None if found.labels is None else found.labels[kept]
        found = replace(found, x=found.x[kept], labels=labels)
    return replace(found, x=found.x.to(dtype))


def mixture_law() -> MixtureLaw:
    """The law of ``mixture``: three Gaussians in the plane of unequal weights, two of them slanted."""
    return MixtureLaw(
        weights=torch.tensor([0.5, 0.3125, 0.1875], dtype=torch.float64),
        means=torch.tensor([[-1.0, -0.5], [1.0, -0.25], [0.25, 1.25]], dtype=torch.float64),
        covs=torch.tensor(
            [
                [[0.125, 0.0625], [0.0625, 0.0625]],
                [[0.0625, -0.03125], [-0.03125, 0.09375]],
                [[0.03125, 0.0], [0.0, 0.03125]],
            ],
            dtype=torch.float64,
        ),
    )


def _mixture(count: int, generator: torch.Generator) -> Dataset:
    law = mixture_law()
    uniform = torch.rand(count, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    labels = torch.searchsorted(law.weights.cumsum(0)[:-1], uniform, right=True)
    zero, one = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    return Dataset("mixture", law.sample(noise, uniform), zero, one, labels, classes=3, law=law)


def _moons(count: int, generator: torch.Generator, noise: float = 0.1) -> Dataset:
    r"""Two half circles: (cos θ, sin θ) and (1 − cos θ, ½ − sin θ), θ uniform in [0, π], and noise."""
    labels = torch.randint(2, (count,), generator=generator)
    angle = math.pi * torch.rand(count, generator=generator, dtype=torch.float64)
    upper = torch.stack([angle.cos(), angle.sin()], 1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], 1)
    raw = torch.where((labels == 0)[:, None], upper, lower)
    return _standardised("moons", raw + noise * _normal(count, generator), labels, 2)


def _swiss_roll(count: int, generator: torch.Generator, noise: float = 0.5) -> Dataset:
    r"""A spiral: θ(cos θ, sin θ), θ uniform in [3π/2, 9π/2], and noise."""
    angle = 1.5 * math.pi * (1 + 2 * torch.rand(count, generator=generator, dtype=torch.float64))
    raw = torch.stack([angle * angle.cos(), angle * angle.sin()], 1)
    return _standardised("swiss_roll", raw + noise * _normal(count, generator))


def _checkerboard(count: int, generator: torch.Generator) -> Dataset:
    """Uniform on the eight cells of a board of four by four, over [−2, 2]², whose row and column add up to an
    even number."""
    cell = torch.randint(8, (count,), generator=generator)
    row, place = cell // 2, torch.rand(count, 2, generator=generator, dtype=torch.float64)
    column = 2 * (cell % 2) + row % 2
    x = torch.stack([column, row], 1) + place - 2
    zero, one = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    return Dataset("checkerboard", x, zero, one, low=-2.0, high=2.0)


def _digits(count: int, generator: torch.Generator) -> Dataset:
    """1797 handwritten digits of 8 by 8 pixels, each pixel one of 17 values, in [−1, 1]."""
    raw, labels = _bundled("digits")
    x = (raw / 8 - 1).reshape(-1, 1, 8, 8)
    eight = torch.tensor(8.0, dtype=torch.float64)
    return Dataset("digits", x, eight, eight, labels, classes=10, low=-1.0, high=1.0, bins=17)


def _table(name: str, classes: int) -> Callable[[int, torch.Generator], Dataset]:
    def load(count: int, generator: torch.Generator) -> Dataset:
        raw, labels = _bundled(name)
        return _standardised(name, raw, labels if classes else None, classes)

    return load


DATASETS: dict[str, Callable[[int, torch.Generator], Dataset]] = {
    "digits": _digits,
    "iris": _table("iris", 3),
    "wine": _table("wine", 3),
    "breast_cancer": _table("breast_cancer", 2),
    "diabetes": _table("diabetes", 0),
    "mixture": _mixture,
    "moons": _moons,
    "swiss_roll": _swiss_roll,
    "checkerboard": _checkerboard,
}
"""The sets by name."""


def _bundled(name: str) -> tuple[Tensor, Tensor]:
    """A set that comes with scikit-learn: measurements, float64, shape (N, D), and its target."""
    try:
        module: Any = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise ImportError(f"data {name!r} come with scikit-learn: pip install refdiff[train]") from error
    found = getattr(module, f"load_{name}")()
    return torch.tensor(found.data, dtype=torch.float64), torch.tensor(found.target).long()


def _standardised(name: str, raw: Tensor, labels: Tensor | None = None, classes: int = 0) -> Dataset:
    """Mean 0 and variance 1 of each column, by the statistics of the set itself, which are kept."""
    centre, spread = raw.mean(0), raw.std(0, correction=0)
    return Dataset(name, (raw - centre) / spread, centre, spread, labels, classes)


def _normal(count: int, generator: torch.Generator) -> Tensor:
    return torch.randn(count, 2, generator=generator, dtype=torch.float64)
