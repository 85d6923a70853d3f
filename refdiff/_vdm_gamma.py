"""Schedules γ(t) of variational diffusion models: fixed, optimal and learned; part of ``vdm``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from refdiff import _check
from refdiff.process import Process, Time

Schedule: TypeAlias = Callable[[Tensor], Tensor]
"""γ(t) in float64, for t in [0, 1] in float64 of any shape; it rises."""


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x); torch's own is x itself above 20, which is off by 2e-9 there."""
    return torch.logaddexp(x, torch.zeros_like(x))


def time(t: Time) -> Tensor:
    """A time in [0, 1] as a float64 tensor of shape () or (B,)."""
    return Process().time(t)


def gamma_of(process: Process, t: Time) -> Tensor:
    r"""γ of a continuous process.

    .. math:: \gamma=-\log\frac{\mathrm{scale}^2}{\mathrm{std}^2}=-2\lambda

    Args:
        process: a process with scale and std.
        t: time, a float or float64 of shape () or (B,).

    Returns:
        float64, shaped like t.

    Raises:
        ValueError: a time outside that of the process.

    Reference: Kingma et al. 2021, eq. 3 (formula ``parameterization.notation_vdm_gamma``).
    """
    return -2 * process.log_snr(t)


@dataclass(frozen=True)
class LinearGamma:
    r"""The straight line between two levels.

    .. math:: \gamma(t)=\gamma_0+(\gamma_1-\gamma_0)\,t

    Args:
        gamma_0, gamma_1: γ at times 0 and 1, finite, gamma_0 below gamma_1.

    Raises:
        ValueError: levels that do not rise or are not finite.

    Reference: Kingma et al. 2021, appendix D.
    """

    gamma_0: float = -13.3
    gamma_1: float = 5.0

    def __post_init__(self) -> None:
        _require_ends(self.gamma_0, self.gamma_1)

    def __call__(self, t: Tensor) -> Tensor:
        """γ(t), shaped like t."""
        _require_time(t)
        return self.gamma_0 + (self.gamma_1 - self.gamma_0) * t


@dataclass(frozen=True)
class OptimalGamma:
    r"""The schedule at which the rate of the loss of Gaussian data is the same at all times.

    .. math:: \log\left(1+c\,e^{-\gamma(t)}\right)=(1-t)\log\left(1+c\,e^{-\gamma_0}\right)
        +t\log\left(1+c\,e^{-\gamma_1}\right)

    The estimator of the loss then has no variance over t, which is what VDM learns γ for.

    Args:
        gamma_0, gamma_1: γ at times 0 and 1, finite, gamma_0 below gamma_1.
        variance: c, the variance of the data, above 0.

    Raises:
        ValueError: levels that do not rise or are not finite, or a variance that is not positive.

    Reference: Kingma et al. 2021, appendix I (formula ``vdm.optimal_gamma``).
    """

    gamma_0: float
    gamma_1: float
    variance: float

    def __post_init__(self) -> None:
        _require_ends(self.gamma_0, self.gamma_1)
        if not (math.isfinite(self.variance) and self.variance > 0):
            raise ValueError(f"variance must be above 0 and finite, got {self.variance}")

    def __call__(self, t: Tensor) -> Tensor:
        """γ(t), shaped like t."""
        _require_time(t)
        ends = torch.tensor([self.gamma_0, self.gamma_1], dtype=t.dtype, device=t.device)
        first, last = softplus(math.log(self.variance) - ends)
        content = first + (last - first) * t
        return math.log(self.variance) - torch.log(torch.expm1(content))


class MonotoneGamma(nn.Module):
    r"""A learned schedule that rises and keeps its ends.

    .. math:: \tilde\gamma(t)=l_1(t)+l_3\left(\mathrm{sigmoid}(l_2(l_1(t)))\right),\qquad
        \gamma(t)=\gamma_0+(\gamma_1-\gamma_0)\frac{\tilde\gamma(t)-\tilde\gamma(0)}
        {\tilde\gamma(1)-\tilde\gamma(0)}

    The weights of the linear maps l are softplus of the parameters, so they are positive whatever the
    parameters; the ends are put in after the network, so learning cannot move them. They are parameters
    themselves only where ``learn_ends`` says so.

    Args:
        noises: standard normal, float64, shape (3, H): the first weights and offsets of the H units.
        gamma_0, gamma_1: γ at times 0 and 1, finite, gamma_0 below gamma_1.
        learn_ends: whether the ends are learned too: γ_0, and the logarithm of γ_1 − γ_0.

    Raises:
        ValueError: noises of another shape or dtype, or levels that do not rise or are not finite.

    Reference: Kingma et al. 2021, appendix D (formulas ``vdm.learned_gamma``, ``vdm.learned_slope``).
    """

    def __init__(
        self, noises: Tensor, gamma_0: float = -13.3, gamma_1: float = 5.0, learn_ends: bool = False
    ) -> None:
        super().__init__()
        _require_ends(gamma_0, gamma_1)
        if noises.dtype != torch.float64 or noises.dim() != 2 or noises.shape[0] != 3 or not noises.numel():
            raise ValueError(f"noises must be float64 of shape (3, H), got {noises.dtype}, {noises.shape}")
        zero = noises.new_zeros(())
        self.w_1, self.b_1 = nn.Parameter(zero.clone()), nn.Parameter(zero.clone())
        self.w_2, self.b_2, self.w_3 = (nn.Parameter(row.clone()) for row in noises)
        ends = torch.tensor([gamma_0, math.log(gamma_1 - gamma_0)], dtype=torch.float64)
        self.ends = nn.Parameter(ends.to(noises.device), requires_grad=learn_ends)

    def free(self, t: Tensor) -> Tensor:
        """The rising network without its ends, shaped like t."""
        line = self.b_1 + softplus(self.w_1) * t
        units = torch.sigmoid(self.b_2 + softplus(self.w_2) * line.unsqueeze(-1))
        return line + (softplus(self.w_3) * units).mean(-1)

    def forward(self, t: Tensor) -> Tensor:
        """γ(t), shaped like t."""
        _require_time(t)
        at, first, last = self.free(t), self.free(torch.zeros_like(t)), self.free(torch.ones_like(t))
        return self.ends[0] + self.ends[1].exp() * ((at - first) / (last - first))


def slope(gamma: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """γ(t) and γ'(t), by forward differentiation; γ acts on each time by itself."""
    # a time that is repeated by strides has no tangent of its own
    at = t.clone(memory_format=torch.contiguous_format)
    value, rate, *_ = torch.func.jvp(gamma, (at,), (torch.ones_like(at),))
    return value, rate


def stratified_times(uniform: Tensor, count: int) -> Tensor:
    r"""Times that cover [0, 1) evenly, from one uniform number.

    .. math:: t_i=\left(u+\frac ik\right)\bmod1,\qquad i=0,\dots,k-1

    Each is uniform by itself, and the mean of a function over them varies less than over independent times.

    Args:
        uniform: u, in [0, 1), float64, shape ().
        count: k, the number of times, at least 1.

    Returns:
        float64, shape (count,).

    Raises:
        ValueError: a number outside [0, 1) or not float64 of shape (), or a count below 1.

    Reference: Kingma et al. 2021, appendix I.1.
    """
    _check.count("count", count)
    if uniform.dtype != torch.float64 or uniform.dim() != 0:
        raise ValueError(f"uniform must be float64 of shape (), got {uniform.dtype}, {tuple(uniform.shape)}")
    if _check.readable(uniform) and not 0 <= float(uniform) < 1:
        raise ValueError(f"uniform must lie in [0, 1), got {float(uniform)}")
    places = torch.arange(count, dtype=torch.float64, device=uniform.device) / count
    return (uniform + places) % 1


def _require_time(t: Tensor) -> None:
    if not isinstance(t, Tensor) or t.dtype != torch.float64:
        raise ValueError(f"t must be a float64 tensor, got {getattr(t, 'dtype', t)}")


def _require_ends(gamma_0: float, gamma_1: float) -> None:
    _check.finite("gamma_0", gamma_0)
    _check.finite("gamma_1", gamma_1)
    if not gamma_0 < gamma_1:
        raise ValueError(f"gamma_1 must be above gamma_0 = {gamma_0}, got {gamma_1}")
