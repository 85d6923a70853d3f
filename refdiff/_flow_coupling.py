r"""Couplings, bridges between coupled points, noisy flows. Public names are those of ``refdiff.flow``."""

from __future__ import annotations

import torch
from torch import Tensor

from refdiff import _check
from refdiff._flow_paths import Rectified
from refdiff.process import Time
from refdiff.schedule import cast

_TIMES = Rectified()


def coupling_cost(x_0: Tensor, x_1: Tensor) -> Tensor:
    r"""The cost of a coupling: the squared distances of its pairs, summed.

    .. math:: \sum_i\lVert x_0^{(i)}-x_1^{(i)}\rVert^2

    Args:
        x_0, x_1: coupled points, shape (B, *).

    Returns:
        Shape ().

    Raises:
        ValueError: tensors of different shape, dtype or device.

    Reference: formula ``flow.coupling_swap``.
    """
    _check.same(x_0=x_0, x_1=x_1)
    return ((x_0 - x_1) ** 2).sum()


def assignment(x_0: Tensor, x_1: Tensor) -> Tensor:
    r"""The permutation of the second batch that makes the coupling cheapest.

    .. math:: \pi=\arg\min_\pi\sum_i\lVert x_0^{(i)}-x_1^{(\pi(i))}\rVert^2

    The pairs are ``x_0, x_1[permutation]``; the permutation belongs to x_1, and its inverse to x_0. It is
    found by scipy, from distances in float64.

    Args:
        x_0, x_1: two batches, shape (B, *).

    Returns:
        The permutation, int64, shape (B,).

    Raises:
        ValueError: tensors of different shape, dtype or device.

    Reference: Tong et al. 2024, section 3.3 (formula ``flow.coupling_swap``, ``flow.coupling_distance``).
    """
    from scipy.optimize import linear_sum_assignment

    _check.same(x_0=x_0, x_1=x_1)
    left, right = (x.detach().flatten(1).double().cpu() for x in (x_0, x_1))
    # each squared distance from its difference: |x|² - 2 x·y + |y|² would subtract
    cost = ((left[:, None] - right[None]) ** 2).sum(2)
    _, columns = linear_sum_assignment(cost.numpy())
    return torch.as_tensor(columns, dtype=torch.int64, device=x_0.device)


def bridge(x_0: Tensor, x_1: Tensor, t: Time, eps: Tensor, sigma: float) -> Tensor:
    r"""A point of the Brownian bridge between two coupled points.

    .. math:: x_t=(1-t)x_0+t\,x_1+\sigma\sqrt{t(1-t)}\,\varepsilon

    Args:
        x_0, x_1: the ends at times 0 and 1, shape (B, *).
        t: time, 0..1, a float or float64 of shape () or (B,).
        eps: standard normal noise, shaped like x_0.
        sigma: diffusion of the bridge, at least 0.

    Returns:
        x_t, shaped like x_0.

    Raises:
        ValueError: t out of range, a negative sigma, or tensors of different shape, dtype or device.

    Reference: Tong et al. 2024, section 3.4 (formula ``flow.bridge_velocity``).
    """
    _check.same(x_0=x_0, x_1=x_1, eps=eps)
    at = _time(t, x_0)
    spread = _sigma(sigma) * (at * (1 - at)).sqrt()
    line = torch.addcmul(cast(1 - at, x_0) * x_0, cast(at, x_0), x_1)
    return torch.addcmul(line, cast(spread, x_0), eps)


def bridge_velocity(x_0: Tensor, x_1: Tensor, t: Time, x: Tensor) -> Tensor:
    r"""The velocity of the bridge's marginals given its ends; the diffusion does not enter.

    .. math:: u(x\mid x_0,x_1)=\frac{1-2t}{2t(1-t)}\bigl(x-(1-t)x_0-t\,x_1\bigr)+x_1-x_0

    Args:
        x_0, x_1: the ends at times 0 and 1, shape (B, *).
        t: time, strictly between 0 and 1, a float or float64 of shape () or (B,).
        x: state at time t, shaped like x_0.

    Returns:
        The velocity, shaped like x_0.

    Raises:
        ValueError: t at an end or out of range, or tensors of different shape, dtype or device.

    Reference: Tong et al. 2024, eq. 10 (formula ``flow.bridge_velocity``).
    """
    _check.same(x_0=x_0, x_1=x_1, x=x)
    at = _time(t, x_0)
    if _check.readable(at) and bool(((at == 0) | (at == 1)).any()):
        raise ValueError(f"t must lie strictly between 0 and 1, got {t}")
    line = torch.addcmul(cast(1 - at, x_0) * x_0, cast(at, x_0), x_1)
    return torch.addcmul(x_1 - x_0, cast((1 - 2 * at) / (2 * at * (1 - at)), x_0), x - line)


def bridge_score_weight(t: Time, sigma: float) -> Tensor:
    r"""The factor that makes the bridge's conditional score a target of unit size.

    .. math:: \lambda(t)=\sigma\sqrt{t(1-t)},\qquad\lambda\,\nabla\log p_t(x\mid x_0,x_1)=-\varepsilon

    Args:
        t: time, 0..1, a float or float64 of shape () or (B,).
        sigma: diffusion of the bridge, at least 0.

    Returns:
        float64, the shape of t.

    Raises:
        ValueError: t out of range, or a negative sigma.

    Reference: Tong et al. 2024, section 3.4 (formula ``flow.bridge_score``).
    """
    at = _TIMES.time(t)
    return _sigma(sigma) * (at * (1 - at)).sqrt()


def sde_drift(velocity: Tensor, score: Tensor, diffusion: Time, backward: bool = False) -> Tensor:
    r"""The drift of a process with noise that has the marginals of a flow.

    .. math:: \mathrm dx=\left(u+\tfrac12g^2\nabla\log p_t\right)\mathrm dt+g\,\mathrm dw,\qquad
        \mathrm dx=\left(-u+\tfrac12g^2\nabla\log p_t\right)\mathrm d\tau+g\,\mathrm dw

    The second runs backward, in the time τ that grows as t falls. The score points the same way in both; only
    the velocity turns.

    Args:
        velocity: the marginal velocity in t, shape (B, *).
        score: the score of the marginal, shaped like velocity.
        diffusion: g, of any size, a float or float64 of shape () or (B,).
        backward: whether the drift is that by τ.

    Returns:
        The drift, shaped like velocity.

    Raises:
        ValueError: a diffusion of another dtype or shape, or tensors of different shape, dtype or device.

    Reference: Tong et al. 2024, section 3.4 (formula ``flow.sde_drift``, ``flow.sde_drift_backward``).
    """
    _check.same(velocity=velocity, score=score)
    g = diffusion if isinstance(diffusion, Tensor) else torch.tensor(float(diffusion), dtype=torch.float64)
    if g.dtype != torch.float64 or g.dim() > 1:
        raise ValueError(f"diffusion must be a float or float64 of shape () or (B,), got {g.dtype}")
    _check.batch("diffusion", g, velocity)
    return torch.addcmul(-velocity if backward else velocity, cast(0.5 * g**2, velocity), score)


def _time(t: Time, like: Tensor) -> Tensor:
    at = _TIMES.time(t)
    _check.batch("t", at, like)
    return at


def _sigma(sigma: float) -> float:
    _check.finite("sigma", sigma)
    if sigma < 0:
        raise ValueError(f"sigma must be at least 0, got {sigma}")
    return sigma
