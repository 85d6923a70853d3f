r"""Flows of Gaussian data, where everything is exact. Public names are those of ``refdiff.flow``.

Along an axis of the covariance on which the data have mean m and variance c, x_t has mean a m and variance
:math:`V=a^2c+b^2`, and the flow keeps :math:`(x_t-a\,m)/\sqrt V`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from refdiff import _check
from refdiff._flow_paths import Path, Rectified
from refdiff.data import GaussianLaw
from refdiff.process import Time

_RECTIFIED = Rectified()


def gaussian_flow_map(path: Path, mean: Tensor, cov: Tensor, x: Tensor, t: Time, s: Time) -> Tensor:
    r"""The exact flow of the marginal velocity from time t to time s, for Gaussian data.

    .. math:: x_s=a_sm+V_s^{1/2}V_t^{-1/2}(x_t-a_tm),\qquad V=a^2C+b^2I

    Args:
        path: a path.
        mean, cov: of the data, float64, shapes (D,) and (D, D).
        x: state at time t, shape (B, *) with D elements per sample.
        t, s: times of the path, floats or float64 of shape () or (B,).

    Returns:
        The state at time s, shaped like x.

    Raises:
        ValueError: a time out of range, or t where x_t has no variance along some axis; parameters that are
            not those of a Gaussian, or an x of another dimension.

    Reference: formula ``flow.gaussian_flow_map``.
    """
    law = GaussianLaw(mean, cov)
    law._require_elements(x)
    t, s = path.time(t), path.time(s)
    _check.batch("t", t, x)
    _check.batch("s", s, x)
    part = law.components
    before, after = (_variance(path, time, part.variance[0]) for time in (t, s))
    if _check.readable(before) and bool((before == 0).any()):
        raise ValueError(f"t must be where x has a variance along every axis, got {t}")
    centred = x.flatten(1).double() - path.scale(t).reshape(-1, 1) * mean
    along = part.rotate(centred.unsqueeze(1)) * (after / before).sqrt().unsqueeze(1)
    moved = path.scale(s).reshape(-1, 1) * mean + part.rotate_back(along).squeeze(1)
    return moved.reshape(x.shape).to(x.dtype)


def loss_constant(path: Path, cov: Tensor, t: Time) -> Tensor:
    r"""What the loss of conditional flow matching has above that of flow matching, on Gaussian data.

    .. math:: \mathbb E\lVert u(x_t\mid x_0)-u(x_t,t)\rVert^2
        =W^2\operatorname{tr}\left(C\,(a^2C+b^2I)^{-1}\right)

    Args:
        path: a path.
        cov: covariance of the data, float64, shape (D, D).
        t: time of the path, a float or float64 of shape () or (B,).

    Returns:
        float64, the shape of t: the loss of the perfect network, summed over the dimensions.

    Raises:
        ValueError: t out of range, or cov that is no covariance.

    Reference: formula ``flow.loss_constant``.
    """
    law = GaussianLaw(torch.zeros_like(cov[0]), cov)
    at = path.time(t)
    spread = law.components.variance[0]
    share = spread / _variance(path, at, spread)
    return path.determinant(at) ** 2 * share.sum(-1).reshape(at.shape)


def rectified_straightness(cov: Tensor) -> Tensor:
    r"""How far the rectified flow of Gaussian data is from straight, which its mean does not change.

    .. math:: S=\int_0^1\mathbb E\lVert x_1-x_0-u(x_t,t)\rVert^2\,\mathrm dt
        =\left(2-\tfrac\pi2\right)\operatorname{tr}C^{1/2}

    Here x_0 and x_1 are the ends of one trajectory of the flow. It is 0 exactly for a point mass.

    Args:
        cov: covariance of the data, float64, shape (D, D).

    Returns:
        float64, shape ().

    Raises:
        ValueError: cov that is no covariance.

    Reference: Liu et al. 2022, section 3.2 (formula ``flow.straightness``).
    """
    law = GaussianLaw(torch.zeros_like(cov[0]), cov)
    return (2 - math.pi / 2) * law.components.variance[0].sqrt().sum()


def reflow_velocity(mean: Tensor, cov: Tensor, x: Tensor, t: Time) -> Tensor:
    r"""The velocity of the rectified flow after one reflow, for Gaussian data.

    .. math:: u(x,t)=(I-R)\,\bigl((1-t)R+tI\bigr)^{-1}(x-(1-t)m)-m,\qquad R=C^{1/2}

    Reflow couples each noise with the end of its own trajectory, :math:`x_0=m+R\,\varepsilon`. The paths
    between them do not cross, so the new flow follows them: it is straight, and one Euler step is exact.

    Args:
        mean, cov: of the data, float64, shapes (D,) and (D, D).
        x: state at time t, shape (B, *) with D elements per sample.
        t: time, 0 for data, a float or float64 of shape () or (B,).

    Returns:
        The velocity, shaped like x.

    Raises:
        ValueError: t out of range, or t = 0 where the data have no variance along some axis; parameters that
            are not those of a Gaussian, or an x of another dimension.

    Reference: Liu et al. 2022, theorem 3.6 (formula ``flow.reflow_velocity``).
    """
    law = GaussianLaw(mean, cov)
    law._require_elements(x)
    at = _RECTIFIED.time(t)
    _check.batch("t", at, x)
    part, time = law.components, at.reshape(-1, 1, 1)
    root = part.variance.sqrt()
    width = (1 - time) * root + time
    if _check.readable(width) and bool((width == 0).any()):
        raise ValueError(f"t must be above 0 where the data have no variance along some axis, got {t}")
    centred = x.flatten(1).double().unsqueeze(1) - (1 - time) * mean
    slope = part.rotate_back((1 - root) / width * part.rotate(centred))
    return (slope.squeeze(1) - mean).reshape(x.shape).to(x.dtype)


def _variance(path: Path, t: Tensor, spread: Tensor) -> Tensor:
    """Variances of x_t along the axes, shape (1, D) or (B, D)."""
    scale, std = path.scale(t).reshape(-1, 1), path.std(t).reshape(-1, 1)
    return scale**2 * spread + std**2
