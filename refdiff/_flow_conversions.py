r"""What velocity, noise, data and score say of each other. Public names are those of ``refdiff.flow``."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from refdiff import _check
from refdiff._flow_paths import Path
from refdiff.process import Time
from refdiff.schedule import cast


def interpolate(path: Path, x_0: Tensor, t: Time, eps: Tensor) -> Tensor:
    r"""The point of the path between data and noise.

    .. math:: x_t=a(t)\,x_0+b(t)\,\varepsilon

    Args:
        path: a path.
        x_0: data, shape (B, *).
        t: time of the path, a float or float64 of shape () or (B,).
        eps: standard normal noise, shaped like x_0.

    Returns:
        x_t, shaped like x_0.

    Raises:
        ValueError: t out of range, or tensors of different shape, dtype or device.

    Reference: Lipman et al. 2023, eq. 10-11 (formula ``flow.conditional_velocity``).
    """
    _check.same(x_0=x_0, eps=eps)
    at = time_of(path, t, x_0)
    return combine(x_0, path.scale(at), eps, path.std(at))


def conditional_velocity(path: Path, x_0: Tensor, t: Time, eps: Tensor) -> Tensor:
    r"""The velocity along the path of one pair of data and noise: the target of training.

    .. math:: u(x_t\mid x_0)=a'(t)\,x_0+b'(t)\,\varepsilon

    Given x_t and the data it is ``velocity(path, x_t, t, x_0=x_0)``.

    Args:
        path: a path.
        x_0: data, shape (B, *).
        t: time of the path, a float or float64 of shape () or (B,).
        eps: the noise of x_t, shaped like x_0.

    Returns:
        The velocity, shaped like x_0.

    Raises:
        ValueError: t out of range, or at an end where the slope of the deviation is infinite, as VP's at the
            data; tensors of different shape, dtype or device.

    Reference: Lipman et al. 2023, eq. 15 (formula ``flow.conditional_velocity``).
    """
    _check.same(x_0=x_0, eps=eps)
    at = time_of(path, t, x_0)
    return combine(x_0, path.scale_slope(at), eps, finite_slope(path, at))


def velocity(
    path: Path,
    x: Tensor,
    t: Time,
    *,
    eps: Tensor | None = None,
    x_0: Tensor | None = None,
    score: Tensor | None = None,
) -> Tensor:
    r"""The velocity from what else a network predicts; give one of the three.

    .. math:: u=\frac{a'}{a}x+\frac Wa\varepsilon=\frac{b'}{b}x-\frac Wb x_0
        =\frac{a'}{a}x-\frac{Wb}{a}\nabla\log p_t(x),\qquad W=a\,b'-a'b

    Given a mean of ε, of x_0 or the score of the marginal, it is the marginal velocity.

    Args:
        path: a path.
        x: noised data, shape (B, *).
        t: time of the path, a float or float64 of shape () or (B,).
        eps, x_0, score: the prediction, shaped like x.

    Returns:
        The velocity, shaped like x.

    Raises:
        ValueError: not one prediction; t out of range, or at an end that has no signal (for eps and score) or
            no noise (for x_0, and for eps where the slope of the deviation is infinite); tensors of different
            shape, dtype or device.

    Reference: Lipman et al. 2023, eq. 15; Albergo et al. 2023 (formula ``flow.velocity_from_eps``,
    ``flow.velocity_from_x_0``, ``flow.velocity_from_score``).
    """
    given = {"eps": eps, "x_0": x_0, "score": score}
    named = [(name, value) for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise ValueError(f"one of eps, x_0 and score must be given, got {[name for name, _ in named]}")
    name, prediction = named[0]
    _check.same(x=x, **{name: prediction})
    on_x, on_prediction = _coefficients(path, time_of(path, t, x), name)
    return combine(x, on_x, prediction, on_prediction)


def x_0_from_velocity(path: Path, x: Tensor, t: Time, velocity: Tensor) -> Tensor:
    r"""The data that a velocity points from.

    .. math:: x_0=\frac{b'x-b\,u}{W}

    Args:
        path: a path.
        x: noised data, shape (B, *).
        t: time of the path, a float or float64 of shape () or (B,).
        velocity: u, shaped like x.

    Returns:
        The mean of x_0 given x, for the marginal velocity, shaped like x.

    Raises:
        ValueError: t out of range, or at an end where W is 0 or infinite; tensors of different shape, dtype
            or device.

    Reference: formula ``flow.x_0_from_velocity``; for the rectified path x - t u.
    """
    _check.same(x=x, velocity=velocity)
    at = time_of(path, t, x)
    W = determinant(path, at)
    return combine(x, path.std_slope(at) / W, velocity, -path.std(at) / W)


def eps_from_velocity(path: Path, x: Tensor, t: Time, velocity: Tensor) -> Tensor:
    r"""The noise that a velocity points to.

    .. math:: \varepsilon=\frac{a\,u-a'x}{W}

    Args:
        path: a path.
        x: noised data, shape (B, *).
        t: time of the path, a float or float64 of shape () or (B,).
        velocity: u, shaped like x.

    Returns:
        The mean of ε given x, for the marginal velocity, shaped like x.

    Raises:
        ValueError: t out of range, or at an end where W is 0 or infinite; tensors of different shape, dtype
            or device.

    Reference: formula ``flow.eps_from_velocity``; for the rectified path x + (1 - t) u.
    """
    _check.same(x=x, velocity=velocity)
    at = time_of(path, t, x)
    W = determinant(path, at)
    return combine(x, -path.scale_slope(at) / W, velocity, path.scale(at) / W)


def score_from_velocity(path: Path, x: Tensor, t: Time, velocity: Tensor) -> Tensor:
    r"""The score of the marginal from its velocity.

    .. math:: \nabla\log p_t(x)=-\frac{a\,u-a'x}{W\,b}

    Args:
        path: a path.
        x: noised data, shape (B, *).
        t: time of the path, a float or float64 of shape () or (B,).
        velocity: the marginal velocity, shaped like x.

    Returns:
        The score, shaped like x.

    Raises:
        ValueError: t out of range, or at an end without noise; tensors of different shape, dtype or device.

    Reference: formula ``flow.score_from_velocity``; for the rectified path -(x + (1 - t) u)/t.
    """
    _check.same(x=x, velocity=velocity)
    at = time_of(path, t, x)
    std = above_zero(path.std(at), at, "noise", "score")
    W = determinant(path, at)
    return combine(x, path.scale_slope(at) / (W * std), velocity, -path.scale(at) / (W * std))


def _coefficients(path: Path, t: Tensor, name: str) -> tuple[Tensor, Tensor]:
    if name == "x_0":
        std = above_zero(path.std(t), t, "noise", name)
        return path.std_slope(t) / std, -path.determinant(t) / std
    scale = above_zero(path.scale(t), t, "signal", name)
    if name == "eps":
        return path.scale_slope(t) / scale, determinant(path, t) / scale
    return path.scale_slope(t) / scale, -path.half_diffusion(t)


def combine(x: Tensor, on_x: Tensor, y: Tensor, on_y: Tensor) -> Tensor:
    """An affine map of two states with float64 coefficients."""
    return torch.addcmul(cast(on_x, x) * x, cast(on_y, x), y)


def plain_time(name: str, t: Time, like: Tensor) -> Tensor:
    """A time that belongs to a batch, of any path."""
    value = t if isinstance(t, Tensor) else torch.tensor(float(t), dtype=torch.float64)
    if value.dtype != torch.float64 or value.dim() > 1:
        raise ValueError(f"{name} must be a float or float64 of shape () or (B,), got {value.dtype}")
    _check.batch(name, value, like)
    return value.to(like.device)


def time_of(path: Path, t: Time, like: Tensor, name: str = "t") -> Tensor:
    """A time of a path that belongs to a batch."""
    return path.time(plain_time(name, t, like))


def finite_slope(path: Path, t: Tensor) -> Tensor:
    """b', where it is finite."""
    slope = path.std_slope(t)
    if _check.readable(slope) and not bool(torch.isfinite(slope).all()):
        raise ValueError(f"t must be where the slope of std is finite, got {_first(t, ~slope.isfinite())}")
    return slope


def determinant(path: Path, t: Tensor) -> Tensor:
    """W, where it can be divided by."""
    W = path.determinant(t)
    # one number is judged as a float
    if _check.readable(W) and not (W.dim() == 0 and math.isfinite(W.item()) and W.item() != 0):
        right = torch.isfinite(W) & (W != 0)
        if not bool(right.all()):
            raise ValueError(f"t must be where a b' - a' b is finite and not 0, got {_first(t, ~right)}")
    return W


def above_zero(level: Tensor, t: Tensor, what: str, name: str) -> Tensor:
    """A level that is divided by."""
    if _check.readable(level) and not bool((level > 0).all()):
        raise ValueError(f"t must be where there is {what} to convert {name}, got {_first(t, level <= 0)}")
    return level


def _first(t: Tensor, where: Tensor) -> float:
    return float(t.expand(where.shape)[where].flatten()[0])
