"""The terms of a bound, and the divergence that they are made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from refdiff.gaussian import ratio_minus_1_minus_log


@dataclass(frozen=True, eq=False)
class Terms:
    """The terms of the bound of −log p(x_0), in nats.

    Args:
        reconstruction: L_0, shape ().
        denoising: L_1, ..., L_{T-1}, shape (T-1,).
        prior: L_T, shape ().
    """

    reconstruction: Tensor
    denoising: Tensor
    prior: Tensor

    @property
    def total(self) -> Tensor:
        """−K, the sum of all terms, at least the mean of −log p(x_0)."""
        return self.reconstruction + self.denoising.sum() + self.prior


def divergence(q: Tensor, p: Tensor, dim: int | None = None) -> Tensor:
    r"""The divergence of one finite law from another, in nats, as a sum of terms that are never negative.

    .. math:: \sum q\log\frac qp=\sum q\left(\frac pq-1-\log\frac pq\right)

    Args:
        q, p: probabilities of one shape, each with sum 1 (over ``dim`` where it is given).
        dim: dimension to sum over; all without it.

    Returns:
        Infinite where p excludes what q does.

    Reference: formula ``elbo.jensen``.
    """
    likely = q > 0
    safe = torch.where(likely, q, 1)
    excess = torch.where(likely, q * ratio_minus_1_minus_log(p, safe), p)
    return excess.sum() if dim is None else excess.sum(dim)
