"""The discrete chains that the named processes come from."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from refdiff import _check
from refdiff.process import VE, VP

Grid = Literal["N", "N-1"]


def vp_betas(process: VP, N: int, grid: Grid = "N") -> Tensor:
    r"""The variances of the chain of N steps that an affine rate stands for.

    .. math:: \beta_i=\frac1N\left(\beta_{\min}+\tfrac{i-1}{N-1}(\beta_{\max}-\beta_{\min})\right)
        \quad\text{or the same divided by }N-1

    With N = 1000 and the rates 0.1 and 20, the grid "N" is the linear schedule of Ho et al.; "N-1", in which
    a step is as long as the distance of its neighbours, has every β larger by N/(N−1).

    Args:
        process: VP, with the rates at its two ends.
        N: number of steps, at least 2.
        grid: what the rate is divided by.

    Returns:
        β_1..β_N, float64, shape (N,).

    Raises:
        ValueError: fewer than two steps, an unknown grid, or a β that reaches 1.

    Reference: Song et al. 2021 (score SDE), appendix C (formulas ``sde.vp_beta``, ``sde.vp_beta_wide``).
    """
    _check.count("N", N, minimum=2)
    if grid not in get_args(Grid):
        raise ValueError(f"grid must be one of {', '.join(get_args(Grid))}, got {grid!r}")
    steps = N if grid == "N" else N - 1
    ends = process.beta_min / steps, process.beta_max / steps
    if not max(ends) < 1:
        raise ValueError(f"N must keep every beta below 1, got beta = {max(ends)} for N = {N}")
    return torch.linspace(*ends, N, dtype=torch.float64, device="cpu")


def ve_sigmas(process: VE, N: int) -> Tensor:
    r"""The levels of the chain that geometric levels stand for, ascending.

    .. math:: \sigma_i=\sigma_{\min}\left(\frac{\sigma_{\max}}{\sigma_{\min}}\right)^{\frac{i-1}{N-1}}

    They are those of the process at the times (i−1)/(N−1), and read backwards a ladder
    (``smld.geometric_sigmas``).

    Args:
        process: VE, with the levels at its two ends.
        N: number of levels, at least 2.

    Returns:
        σ_1..σ_N, float64, shape (N,); its ends are those of the process exactly.

    Raises:
        ValueError: fewer than two levels.

    Reference: Song et al. 2021 (score SDE), appendix C (formula ``sde.ve_level``).
    """
    _check.count("N", N, minimum=2)
    ratio = torch.tensor(process.sigma_max / process.sigma_min, dtype=torch.float64)
    inner = process.sigma_min * ratio ** (torch.arange(1, N - 1, dtype=torch.float64) / (N - 1))
    ends = torch.tensor([process.sigma_min, process.sigma_max], dtype=torch.float64)
    return torch.cat([ends[:1], inner, ends[1:]])
