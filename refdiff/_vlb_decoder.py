r"""The decoder of the bound: bins under a normal law, their density approximation, and bits per dimension.

In standard deviations let the centre of a bin be at z and its edges at z ± h. Where bins are narrow the
probability is the density times the Hermite series

.. math:: \int_{z-h}^{z+h}\varphi(s)\,ds=2h\,\varphi(z)\sum_{j\ge0}\frac{\mathrm{He}_{2j}(z)h^{2j}}{(2j+1)!}

and elsewhere it is a difference of distribution functions, taken in the logarithm. Public names are those of
``refdiff.vlb``.
"""

from __future__ import annotations

import math
from typing import Literal, TypeVar

import torch
from torch import Tensor

from refdiff import _check

Nats = TypeVar("Nats", float, Tensor)
NEAR = 0.25
"""Bounds of h and of z·h below which the series is used; its term j = 9 is then below 1e-20."""

TERMS = 8


def discretized_gaussian_log_likelihood(
    x: Tensor, mean: Tensor, log_scale: Tensor, bins: int = 256
) -> Tensor:
    r"""The log-probability of the bin of x under a Gaussian, the first and last bin being open.

    .. math:: \log\int_{\delta_-(x)}^{\delta_+(x)}\mathcal N(u;\mu,\sigma^2)\,du,\qquad
        \delta_\pm(x)=x\pm\tfrac1{255},\quad\delta_-(-1)=-\infty,\quad\delta_+(1)=\infty

    Exact in the tails and for bins of any width against σ; the probabilities of all bins sum to one.

    Args:
        x: data on the grid of bin centres, −1 + 2k/(bins − 1) up to rounding, float32 or float64.
        mean: μ, shaped like x.
        log_scale: log σ, finite, of the dtype of x, broadcastable to it.
        bins: number of bins, at least 2.

    Returns:
        Nats of each element, at most 0, shaped like x.

    Raises:
        ValueError: x outside [−1, 1], NaN or not on the grid (data without bins have a density, not a
            probability), a dtype without log_ndtr, log_scale not finite, or tensors that do not match.

    Reference: Ho et al. 2020, eq. 13 (formula ``vlb.decoder_interior``, ``vlb.decoder_first``,
    ``vlb.decoder_last``, ``vlb.decoder_bins``).
    """
    k = _bin(x, mean, log_scale, bins)
    gaps = bins - 1
    inverse = torch.exp(-log_scale)
    z, h = ((2 * k - gaps) / gaps - mean) * inverse, inverse / gaps
    inner = _log_probability(z, h.expand_as(z), math.log(2 / gaps) - log_scale)
    first, last = torch.special.log_ndtr(z + h), torch.special.log_ndtr(h - z)
    return torch.where(k == 0, first, torch.where(k == gaps, last, inner))


def density_log_likelihood(
    x: Tensor, mean: Tensor, log_scale: Tensor, bins: int = 256, order: Literal[2, 4, 6] = 2
) -> Tensor:
    r"""The log-probability of the bin of x through the density at its centre.

    .. math:: \log P=\log\Delta+\log\mathcal N(x;\mu,\sigma^2)+\frac{(z^2-1)h^2}6
        -\frac{(z^4+4z^2-2)h^4}{180}+O(h^6),\qquad z=\frac{x-\mu}\sigma,\quad h=\frac\Delta{2\sigma}

    Args:
        x, mean: data and mean, of one shape; x need not lie on the grid, and the edge bins are not open.
        log_scale: log σ, finite, of the dtype of x, broadcastable to it.
        bins: number of bins from −1 to 1, of width Δ = 2/(bins − 1).
        order: order of the error in h: 2 is density times width, 4 and 6 add one and two corrections.

    Returns:
        Nats of each element, shaped like x.

    Raises:
        ValueError: an unknown order, fewer than 2 bins, log_scale not finite, or tensors that do not match.

    Reference: S004, eq. 4.8 (formula ``vlb.decoder_density``).
    """
    _check_law(x, mean, log_scale)
    _check.count("bins", bins, minimum=2)
    if order not in (2, 4, 6):
        raise ValueError(f"order must be 2, 4 or 6, got {order!r}")
    inverse = torch.exp(-log_scale)
    z, h = (x - mean) * inverse, inverse / (bins - 1)
    z2, h2 = z * z, h * h
    value = math.log(2 / (bins - 1)) - log_scale - z2 / 2 - math.log(2 * math.pi) / 2
    if order >= 4:
        value = value + (z2 - 1) * h2 / 6
    return value - (z2 * z2 + 4 * z2 - 2) * h2 * h2 / 180 if order == 6 else value


def bits_per_dim(nats_per_dim: Nats) -> Nats:
    r"""Nats per dimension in bits per dimension, for probabilities of bins.

    .. math:: \text{bits}=\text{nats}/\log2

    Args:
        nats_per_dim: minus the log-probability of a sample divided by its number of dimensions.

    Returns:
        Bits per dimension, of the same type and shape.

    Reference: formula ``vlb.bits_per_dim``.
    """
    return nats_per_dim / math.log(2)


def density_bits_per_dim(nats_per_dim: Nats, bin_width: float) -> Nats:
    r"""Nats per dimension of a density in bits per dimension of data in bins.

    .. math:: \text{bits}=\frac{\text{nats}-\log\Delta}{\log2}

    Args:
        nats_per_dim: minus the log-density of a sample divided by its number of dimensions.
        bin_width: Δ, the width of a bin in the unit of the data: 1/128 for bytes with uniform noise in
            [−1, 1] (7 bits), 1/256 for [0, 1] (8 bits), 2/255 for bytes from −1 to 1.

    Returns:
        Bits per dimension, of the same type and shape.

    Raises:
        ValueError: a width that is not positive and finite.

    Reference: Theis et al. 2016, eq. 2 (formula ``vlb.bits_per_dim``).
    """
    _check.between("bin_width", bin_width, 0, math.inf)
    return (nats_per_dim - math.log(bin_width)) / math.log(2)


def _log_probability(z: Tensor, h: Tensor, log_width: Tensor) -> Tensor:
    """The logarithm of the probability of [z − h, z + h], h > 0, with log(2h) given apart."""
    z = z.abs()
    near = (h < NEAR) & (z * h < NEAR)
    # arguments are replaced where the other form is used, so that no gradient there is 0 times infinity
    here = _log_series(torch.where(near, z, 0.0), torch.where(near, h, 0.0))
    rectangle = log_width - z * z / 2 - math.log(2 * math.pi) / 2
    return torch.where(near, rectangle + here, _log_difference(z, torch.where(near, 1.0, h)))


def _log_series(z: Tensor, h: Tensor) -> Tensor:
    """The logarithm of the series, for h and z·h below NEAR."""
    u, v = z * h, h * h
    previous, power, total = torch.ones_like(u), u, torch.zeros_like(u)
    for k in range(1, 2 * TERMS):
        # He_{k+1}(z) h^{k+1} = (zh) He_k(z) h^k − k h² He_{k−1}(z) h^{k−1}
        previous, power = power, u * power - k * v * previous
        if k % 2 == 1:
            total = total + power / math.factorial(k + 2)
    return torch.log1p(total)


def _log_difference(z: Tensor, h: Tensor) -> Tensor:
    """log(Φ(h − z) − Φ(−h − z)) for z ≥ 0: both in the lower tail, where Φ keeps its digits."""
    high, low = torch.special.log_ndtr(h - z), torch.special.log_ndtr(-h - z)
    gap = torch.where(high.isinf(), -1.0, low - high)
    total: Tensor = high + _log1mexp(gap)
    return total


def _log1mexp(x: Tensor) -> Tensor:
    """log(1 − exp(x)) for x < 0."""
    return torch.where(x > -math.log(2), torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x)))


def _bin(x: Tensor, mean: Tensor, log_scale: Tensor, bins: int) -> Tensor:
    """The number of the bin of each element, as a float."""
    _check_law(x, mean, log_scale)
    _check.count("bins", bins, minimum=2)
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"x must have dtype float32 or float64, got {x.dtype}")
    k = torch.round((x.detach() + 1) * ((bins - 1) / 2))
    if _check.readable(x) and x.numel() > 0:
        low, high = (float(end) for end in torch.aminmax(x.detach()))
        if not (low >= -1 and high <= 1):
            raise ValueError(f"x must lie in [-1, 1], got {low}..{high}")
        # 2(k/255) − 1 is off by less than 2 ulp of 1
        off = float(((2 * k - (bins - 1)) / (bins - 1) - x.detach()).abs().max())
        if off > 2 * torch.finfo(x.dtype).eps:
            raise ValueError(f"x must lie on the {bins} centres from -1 to 1, got one that is off by {off}")
    return k


def _check_law(x: Tensor, mean: Tensor, log_scale: Tensor) -> None:
    _check.same(x=x, mean=mean)
    _check.floating("log_scale", log_scale)
    if log_scale.dtype != x.dtype:
        raise ValueError(f"log_scale must have the dtype of x, {x.dtype}, got {log_scale.dtype}")
    _check.broadcastable("log_scale", log_scale, "x", x)
    for name, values in (("mean", mean), ("log_scale", log_scale)):
        if _check.readable(values) and not bool(values.isfinite().all()):
            raise ValueError(f"{name} must be finite, got {values[~values.isfinite()][0].item()}")
