r"""Flow matching: paths from data to noise, their velocities, losses and steps.

.. math:: x_t=a(t)\,x_0+b(t)\,\varepsilon,\qquad u(x_t\mid x_0)=a'x_0+b'\varepsilon,\qquad
    u(x,t)=\mathbb E[u(x_t\mid x_0)\mid x_t=x]

Data are at time 0 and noise is at the end, unless the path is ``Reversed``; a velocity is a derivative by the
path's own time, so it changes its sign with the direction. The velocity of the rectified path is ε − x_0.

Given x_t, velocity, noise, data and score say the same where the path lets them: to tell the velocity, noise
needs signal (a > 0) and data need noise (b > 0). At the ends that lack it the functions raise ValueError; the
velocity tells noise and data at both ends of the rectified path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from refdiff import _check
from refdiff import kernel as _kernel
from refdiff._flow_conversions import (
    above_zero,
    combine,
    conditional_velocity,
    determinant,
    eps_from_velocity,
    finite_slope,
    interpolate,
    plain_time,
    score_from_velocity,
    time_of,
    velocity,
    x_0_from_velocity,
)
from refdiff._flow_coupling import (
    assignment,
    bridge,
    bridge_score_weight,
    bridge_velocity,
    coupling_cost,
    sde_drift,
)
from refdiff._flow_gaussian import (
    gaussian_flow_map,
    loss_constant,
    rectified_straightness,
    reflow_velocity,
)
from refdiff._flow_paths import (
    PATHS,
    Diffusion,
    Path,
    Rectified,
    Reversed,
    Transport,
    Trigonometric,
    path,
)
from refdiff._flow_time import (
    eps_loss_weight,
    logit_normal_density,
    logit_normal_time,
    resolution_shift,
    shift_slope,
    shift_time,
    shift_time_exponential,
    times,
    unshift_time,
)
from refdiff.data import Law, NoisedLaw
from refdiff.kernel import Reduction
from refdiff.process import Time
from refdiff.schedule import cast

Model = Callable[[Tensor, Tensor], Tensor]
"""A network: (x of shape (B, *), float64 time of shape () or (B,)) to a velocity shaped like x."""
Form = Literal["eps", "x_0", "v", "score"]

__all__ = [
    "PATHS", "Diffusion", "Form", "Model", "Path", "Rectified", "Reversed", "Transport", "Trigonometric",
    "assignment", "bridge", "bridge_score_weight", "bridge_velocity", "conditional_velocity", "coupling_cost",
    "ddim_step", "eps_from_velocity", "eps_loss_weight", "euler_step", "gaussian_flow_map", "interpolate",
    "logit_normal_density", "logit_normal_time", "loss", "loss_constant", "loss_weight", "marginal_velocity",
    "path", "rectified_straightness", "reflow_velocity", "resolution_shift", "sample", "score_from_velocity",
    "sde_drift", "shift_slope", "shift_time", "shift_time_exponential", "times", "unshift_time", "velocity",
    "x_0_from_velocity",
]  # fmt: skip


def marginal_velocity(path: Path, law: Law, x: Tensor, t: Time) -> Tensor:
    r"""The velocity that generates the marginals: the perfect network.

    .. math:: u(x,t)=a'\,\mathbb E[x_0\mid x_t=x]+b'\,\mathbb E[\varepsilon\mid x_t=x]

    Args:
        path: a path.
        law: the law of the data.
        x: noised data, shape (B, *).
        t: time of the path, a float or float64 of shape () or (B,).

    Returns:
        The velocity, shaped like x.

    Raises:
        ValueError: t out of range, or at an end where the slope of the deviation is infinite; x does not fit
            the law.

    Reference: Lipman et al. 2023, eq. 8 (formula ``flow.marginal_velocity``).
    """
    at = time_of(path, t, x)
    # the law itself knows the end without data, which `law.at` refuses
    noised, wide = NoisedLaw(law, path.scale(at), path.std(at)), x.double()
    slopes = path.scale_slope(at), finite_slope(path, at)
    return combine(noised.x_0(wide), slopes[0], noised.eps(wide), slopes[1]).to(x.dtype)


def loss(
    path: Path,
    model: Model,
    x_0: Tensor,
    t: Time,
    eps: Tensor,
    weight: Time = 1.0,
    reduction: Reduction = "sum",
) -> Tensor:
    r"""The loss of conditional flow matching, per sample.

    .. math:: w\,\lVert u_\theta(x_t,t)-a'x_0-b'\varepsilon\rVert^2

    Its mean exceeds that of the loss with the marginal velocity by ``loss_constant``, which no model changes.

    Args:
        path: a path.
        model: predicts the velocity from (x_t, t).
        x_0: data, shape (B, *).
        t: time of the path, a float or float64 of shape () or (B,).
        eps: standard normal noise, shaped like x_0.
        weight: w, a float or float64 of shape () or (B,).
        reduction: "sum" or "mean" over the dimensions.

    Returns:
        Shape (B,).

    Raises:
        ValueError: t out of range, or at an end where the slope of the deviation is infinite; a weight of
            another dtype or shape; tensors of different shape, dtype or device.

    Reference: Lipman et al. 2023, eq. 9 (formula ``flow.loss``, ``flow.loss_gradient``).
    """
    at = time_of(path, t, x_0)
    target = conditional_velocity(path, x_0, at, eps)
    predicted = model(interpolate(path, x_0, at, eps), at)
    _check.same(x_0=x_0, predicted=predicted)
    weights = plain_time("weight", weight, x_0).to(x_0.dtype)
    return weights * _kernel.reduced((predicted - target) ** 2, reduction)


def loss_weight(path: Path, t: Time, of: Form = "eps") -> Tensor:
    r"""The weight of another squared error in the squared error of the velocity.

    .. math:: \lVert\hat u-u\rVert^2=\frac{W^2}{a^2}\lVert\hat\varepsilon-\varepsilon\rVert^2
        =\frac{W^2}{b^2}\lVert\hat x_0-x_0\rVert^2=\frac{W^2}{a^2+b^2}\lVert\hat v-v\rVert^2
        =\frac{W^2b^2}{a^2}\lVert\hat s-s\rVert^2

    with the velocity :math:`v=(a\,\varepsilon-b\,x_0)/\sqrt{a^2+b^2}` of the angular parameterization of
    :math:`x_t/\sqrt{a^2+b^2}`.

    Args:
        path: a path.
        t: time of the path, a float or float64 of shape () or (B,).
        of: what is predicted.

    Returns:
        float64, the shape of t.

    Raises:
        ValueError: no such form; t out of range, or at an end without signal (eps, score) or noise (x_0).

    Reference: formula ``flow.loss_weight_eps``, ``flow.loss_weight_x_0``, ``flow.loss_weight_v``,
    ``flow.loss_weight_score``.
    """
    at = path.time(t)
    if of == "score":
        above_zero(path.scale(at), at, "signal", of)
        return path.half_diffusion(at) ** 2
    W = determinant(path, at)
    if of == "eps":
        return (W / above_zero(path.scale(at), at, "signal", of)) ** 2
    if of == "x_0":
        return (W / above_zero(path.std(at), at, "noise", of)) ** 2
    if of == "v":
        return W**2 / (path.scale(at) ** 2 + path.std(at) ** 2)
    raise ValueError(f"of must be one of {', '.join(get_args(Form))}, got {of!r}")


def euler_step(x: Tensor, t: Time, s: Time, velocity: Tensor) -> Tensor:
    r"""A step of Euler's method from time t to time s.

    .. math:: x_s=x_t+(s-t)\,u

    With data at time 0 a sampler steps down, s < t, so the factor of the velocity is negative. On the
    rectified path, and on every path whose scale and deviation are straight lines, this is ``ddim_step``.

    Args:
        x: state at time t, shape (B, *).
        t, s: times of the path, floats or float64 of shape () or (B,).
        velocity: at x and t, shaped like x.

    Returns:
        x_s, shaped like x.

    Raises:
        ValueError: a time of another dtype or shape, or tensors of different shape, dtype or device.

    Reference: formula ``flow.euler_step``, ``flow.euler_gap``.
    """
    _check.same(x=x, velocity=velocity)
    if not isinstance(t, Tensor) and not isinstance(s, Tensor):
        return torch.add(x, velocity, alpha=s - t)
    gap = plain_time("s", s, x) - plain_time("t", t, x)
    return torch.addcmul(x, cast(gap, x), velocity)


def ddim_step(path: Path, x: Tensor, t: Time, s: Time, velocity: Tensor) -> Tensor:
    r"""A step of DDIM from time t to time s: the data and noise that the velocity tells, at the new level.

    .. math:: x_s=a_s\hat x_0+b_s\hat\varepsilon=\frac{a_sb'_t-b_sa'_t}{W_t}x_t+\frac{a_tb_s-a_sb_t}{W_t}u

    It is Euler's method for x/a in b/a, and for x/b in a/b, on every path.

    Args:
        path: a path.
        x: state at time t, shape (B, *).
        t, s: times of the path, floats or float64 of shape () or (B,).
        velocity: at x and t, shaped like x.

    Returns:
        x_s, shaped like x.

    Raises:
        ValueError: a time out of range, or t at an end where W is 0 or infinite; tensors of different shape,
            dtype or device.

    Reference: formula ``flow.ddim_step``, ``flow.ddim_in_sigma``.
    """
    _check.same(x=x, velocity=velocity)
    t, s = time_of(path, t, x), time_of(path, s, x, "s")
    W, a_s, b_s = determinant(path, t), path.scale(s), path.std(s)
    on_x = (a_s * path.std_slope(t) - b_s * path.scale_slope(t)) / W
    on_velocity = (path.scale(t) * b_s - a_s * path.std(t)) / W
    return combine(x, on_x, velocity, on_velocity)


def sample(model: Model, x: Tensor, times: Tensor | Sequence[float]) -> Iterator[tuple[float, Tensor]]:
    r"""Euler's method along a list of times.

    .. math:: x_{t_{i+1}}=x_{t_i}+(t_{i+1}-t_i)\,u_\theta(x_{t_i},t_i)

    Args:
        model: the velocity at (x, t).
        x: state at the first time, shape (B, *): noise, for times that descend to data at 0.
        times: at least two times of the path, in the order of the integration.

    Yields:
        (t, x_t) from the first time to the last; a network is asked at each but the last.

    Raises:
        ValueError: fewer than two times, or a tensor of times of another dtype or shape.

    Reference: formula ``flow.euler_step``.
    """
    visited = times if isinstance(times, Tensor) else torch.tensor(times, dtype=torch.float64)
    if visited.dtype != torch.float64 or visited.dim() != 1:
        raise ValueError(f"times must be float64 of shape (N + 1,), got {visited.dtype}, {visited.shape}")
    _check.count("len(times)", visited.numel(), minimum=2)
    yield float(visited[0]), x
    for t, s in pairwise(visited):
        x = euler_step(x, t, s, model(x, t))
        yield float(s), x
