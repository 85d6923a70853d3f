"""What the tests of SDEs share: samplers read exactly, and their laws on Gaussian data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from refdiff import sde
from refdiff.data import GaussianLaw
from refdiff.process import EDM, VE, VP, Process, SubVP

MEAN = torch.tensor([0.5, -1.25], dtype=torch.float64)
COV = torch.tensor([[1.0, 0.3], [0.3, 0.4]], dtype=torch.float64)
LAW = GaussianLaw(MEAN, COV)
START = torch.tensor([0.25, 0.75], dtype=torch.float64)
START_COV = torch.tensor([[2.0, 0.25], [0.25, 1.5]], dtype=torch.float64)
PROCESSES: dict[str, Process] = {
    "vp": VP(0.2, 6.0),
    "sub-vp": SubVP(0.2, 6.0),
    "ve": VE(0.1, 4.0),
    "edm": EDM(4.0),
}
PREDICTORS = (*sde.PREDICTORS, "heun")
Sampler = Callable[..., Tensor]


def score_of(process: Process, law: GaussianLaw = LAW) -> sde.ScoreFn:
    """The perfect score of Gaussian data."""
    return lambda x, t: law.at(process.scale(t), process.std(t)).score(x)


def marginal(process: Process, t: Tensor | float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the noised data."""
    scale, identity = process.scale(t), torch.eye(2, dtype=torch.float64)
    return scale * MEAN, scale**2 * COV + process.variance(t) * identity


def down(process: Process, steps: int, first: float = 1.0, last: float = 0.1) -> Tensor:
    """Equally spaced times, as shares of the end."""
    return torch.linspace(first, last, steps + 1, dtype=torch.float64) * process.end


def probed(
    sampler: Callable[[Tensor, list[Tensor]], Tensor],
    draws: int,
    start: tuple[Tensor, Tensor] = (START, START_COV),
) -> tuple[Tensor, Tensor]:
    """Mean and covariance of an affine sampler in the plane: one run on a basis, and no sampling."""
    count = 2 * draws + 3
    basis = torch.zeros(count, count - 1, dtype=torch.float64)
    basis[1:] = torch.eye(count - 1, dtype=torch.float64)
    ends = sampler(basis[:, :2], [basis[:, 2 + 2 * k : 4 + 2 * k] for k in range(draws)])
    offset, slopes = ends[0], ends[1:] - ends[0]
    spread = slopes[:2].mT @ start[1] @ slopes[:2] + slopes[2:].mT @ slopes[2:]
    return offset + slopes[:2].mT @ start[0], spread


def law_of(process: Process, times: Tensor, **how: Any) -> tuple[Tensor, Tensor]:
    """The exact law that starts in that of the first time."""
    return sde.gaussian_law(process, MEAN, COV, times, *marginal(process, times[0]), **how)


def missed(process: Process, times: Tensor, **how: Any) -> float:
    """How far the law of a sampler is from that of its last time, in the largest entry."""
    pairs = zip(law_of(process, times, **how), marginal(process, times[-1]), strict=True)
    return max(float((got - want).abs().max()) for got, want in pairs)
