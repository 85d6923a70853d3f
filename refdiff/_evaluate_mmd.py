r"""Whether two samples have one law: the unbiased squared MMD and an exact permutation test of it.

.. math:: \widehat{\text{MMD}}{}^2=\frac1{n(n-1)}\sum_{i\ne j}k(x_i,x_j)+\frac1{m(m-1)}\sum_{i\ne j}k(y_i,y_j)
    -\frac2{nm}\sum_{i,j}k(x_i,y_j),\qquad k(x,y)=\frac1H\sum_h e^{-\|x-y\|^2/2h^2}

Its mean is :math:`\text{MMD}^2`, which is 0 only for equal laws; a value of a sample may be negative. Under
equal laws the test rejects with probability at most α, whatever the law and however small the sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from refdiff import _check
from refdiff._evaluate_loss import Estimate


@dataclass(frozen=True)
class Comparison:
    """Two samples compared.

    Args:
        mmd_squared: the unbiased squared MMD.
        p_value: share of the permutations, the one that was found included, with at least this value.
        threshold: the value above which the test rejects at level α.
        alpha: α.
    """

    mmd_squared: float
    p_value: float
    threshold: float
    alpha: float

    @property
    def rejected(self) -> bool:
        """Whether equal laws are rejected at level α."""
        return self.p_value <= self.alpha


def mmd_squared(x: Tensor, y: Tensor, bandwidths: Sequence[float]) -> Estimate:
    r"""The unbiased squared MMD of two samples.

    Args:
        x, y: independent samples, shape (n, *) and (m, *), at least 2 each.
        bandwidths: h of the Gaussian kernels, of which the mean is taken.

    Returns:
        Estimate, whose error is the standard error by the jackknife to leading order, with
        :math:`4\zeta_1/n` as in ``sample_size``; it is not to be used under equal laws, where
        :math:`\zeta_1=0`.

    Raises:
        ValueError: samples that do not fit, or a bandwidth not above 0.

    Reference: Gretton et al. 2012, lemma 6 (eq. 3).
    """
    kernel, n, m = _pooled(x, y, bandwidths)
    within_x, within_y = kernel[:n, :n].sum(1) / (n - 1), kernel[n:, n:].sum(1) / (m - 1)
    across = kernel[:n, n:]
    of_x, of_y = within_x - across.mean(1), within_y - across.mean(0)
    value = float(of_x.mean() + of_y.mean())
    return Estimate(value, math.sqrt(4 * float(of_x.var() / n + of_y.var() / m)))


def permutation_test(
    x: Tensor,
    y: Tensor,
    bandwidths: Sequence[float],
    generator: torch.Generator,
    alpha: float = 0.01,
    permutations: int = 999,
) -> Comparison:
    r"""Test whether two samples have one law, at an exact level.

    .. math:: p=\frac{1+\#\{\pi:T_\pi\ge T\}}{1+P},\qquad \Pr(p\le\alpha)\le\alpha\text{ under equal laws}

    Args:
        x, y: independent samples, shape (n, *) and (m, *), at least 2 each.
        bandwidths: h of the Gaussian kernels.
        generator: draws the permutations.
        alpha: level α, at least 1 / (1 + permutations).
        permutations: P.

    Returns:
        Comparison.

    Raises:
        ValueError: samples that do not fit, a bandwidth not above 0, or so few permutations that the test
            could never reject.

    Reference: Gretton et al. 2012; exactness by exchangeability: Hemerik and Goeman 2018, theorem 1.
    """
    _check.between("alpha", alpha, 0, 1)
    _check.count("permutations", permutations)
    if alpha * (1 + permutations) < 1:
        raise ValueError(f"alpha must be at least 1/{1 + permutations}, got {alpha}")
    kernel, n, m = _pooled(x, y, bandwidths)
    orders = torch.stack([torch.randperm(n + m, generator=generator) for _ in range(permutations)])
    orders = torch.cat([torch.arange(n + m)[None], orders])
    chosen = torch.zeros(n + m, permutations + 1, dtype=torch.float64)
    chosen.scatter_(0, orders[:, :n].T, 1.0)
    chosen = chosen.to(kernel.device)
    # sums of the kernel over pairs within x, from one product; the rest follows from the sums of its rows
    within_x = (chosen * (kernel @ chosen)).sum(0)
    rows = kernel.sum(1) @ chosen
    across, within_y = rows - within_x, kernel.sum() - 2 * rows + within_x
    values = within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * across / (n * m)
    # equal splits must count as equal: sums over n + m terms are off by so many roundings
    slack = 16 * (n + m) * torch.finfo(torch.float64).eps
    above = int((values[1:] >= values[0] - slack).sum())
    least = values.sort(descending=True).values[math.floor(alpha * (1 + permutations)) - 1]
    return Comparison(float(values[0]), (1 + above) / (1 + permutations), float(least), alpha)


def holm(p_values: Mapping[str, float], alpha: float = 0.01) -> dict[str, bool]:
    """Which of several tests reject, so that the probability of any false rejection is at most α.

    Args:
        p_values: of each test, by name; they may depend on each other in any way.
        alpha: α for the family.

    Returns:
        Whether equal laws are rejected, by name: the k-th smallest p-value is held against α / (K + 1 − k)
        as long as all before it were rejected.

    Raises:
        ValueError: a p-value outside [0, 1], or α out of bounds.

    Reference: Holm 1979.
    """
    _check.between("alpha", alpha, 0, 1)
    found, still = {}, True
    for k, name in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        p = p_values[name]
        if not 0 <= p <= 1:
            raise ValueError(f"p_values must lie in [0, 1], got {p} for {name}")
        still = still and p <= alpha / (len(p_values) - k)
        found[name] = still
    return {name: found[name] for name in p_values}


def sample_size(
    x: Tensor,
    y: Tensor,
    bandwidths: Sequence[float],
    generator: torch.Generator,
    alpha: float = 0.01,
    power: float = 0.999,
    permutations: int = 999,
) -> int:
    r"""How many samples of each law the test needs to see a difference, from a pilot of the two laws.

    .. math:: \widehat{\text{MMD}}{}^2-\frac{q\,n_0}{n}\ge z\sqrt{\frac{4\zeta_1}{n}}

    Under equal laws the threshold falls as 1/n, from q for the pilot of n_0; under these laws the statistic
    is normal to leading order with the variance 4ζ_1/n, ζ_1 being the variance of its projections.

    Args:
        x, y: the pilot: samples of the same number n_0 of both laws, of which the test itself must use none.
        bandwidths: h of the Gaussian kernels.
        generator: draws the permutations.
        alpha: level of the test.
        power: wanted probability of rejection, in [1/2, 1).
        permutations: of the pilot's test.

    Returns:
        n, the size of each sample.

    Raises:
        ValueError: a pilot that does not show a difference itself, samples of different numbers, or what
            ``permutation_test`` raises.
    """
    if not 0.5 <= power < 1:
        raise ValueError(f"power must be at least 0.5 and below 1, got {power}")
    if x.shape[0] != y.shape[0]:
        raise ValueError(f"y must have as many samples as x, {x.shape[0]}, got {y.shape[0]}")
    seen = mmd_squared(x, y, bandwidths)
    test = permutation_test(x, y, bandwidths, generator, alpha, permutations)
    if seen.value <= 3 * seen.error or not test.rejected:
        raise ValueError(f"x must differ from y by more than 3 standard errors in the pilot, got {seen}")
    count = x.shape[0]
    # a root r = 1/√n of  q n_0 r² + z √(4 ζ_1) r − MMD² = 0
    curve, slope = test.threshold * count, NormalDist().inv_cdf(power) * seen.error * math.sqrt(count)
    root = (math.sqrt(slope**2 + 4 * curve * seen.value) - slope) / (2 * curve)
    return math.ceil(1 / root**2)


def _pooled(x: Tensor, y: Tensor, bandwidths: Sequence[float]) -> tuple[Tensor, int, int]:
    """The kernel between all samples of both, float64, with zeros on the diagonal, and their numbers."""
    _check.floating("x", x)
    _check.floating("y", y)
    if x.dim() < 2 or x.shape[1:] != y.shape[1:] or x.device != y.device:
        shapes = f"{tuple(x.shape)} and {tuple(y.shape)}"
        raise ValueError(f"x and y must be samples of one shape on one device, got {shapes}")
    for name, value in (("x", x), ("y", y)):
        _check.count(f"samples of {name}", value.shape[0], minimum=2)
        if not bool(value.isfinite().all()):
            raise ValueError(f"{name} must be finite, got {value[~value.isfinite()][0].item()}")
    if not bandwidths or not all(0 < h < math.inf for h in bandwidths):
        raise ValueError(f"bandwidths must be finite and above 0, got {list(bandwidths)}")
    z = torch.cat([x, y]).flatten(1).double()
    distance = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist").square_()
    kernel = torch.zeros_like(distance)
    for h in bandwidths:
        kernel += torch.exp(distance / (-2 * h * h))
    return (kernel / len(bandwidths)).fill_diagonal_(0), x.shape[0], y.shape[0]
