r"""Continuous processes: the scale of the data and the deviation of the noise as functions of time.

.. math:: x_t=\mathrm{scale}(t)\,x_0+\mathrm{std}(t)\,\varepsilon

A process with these marginals has the linear drift f(t) x and the diffusion g(t) of

.. math:: f=\frac{\mathrm{d}}{\mathrm{d}t}\log\mathrm{scale},\qquad
    g^2=\frac{\mathrm{d}\,\mathrm{std}^2}{\mathrm{d}t}-2f\,\mathrm{std}^2

Times and results are float64; nothing is cast here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from refdiff import _check

Time: TypeAlias = float | Tensor
"""A time: a float, or a float64 tensor of shape () or (B,)."""


class Process:
    """What every process has. Times run from 0 (data) to 1, unless ``end`` says otherwise."""

    end: float = 1.0

    def log_scale(self, t: Time) -> Tensor:
        """The logarithm of the factor of the data."""
        raise NotImplementedError

    def variance(self, t: Time) -> Tensor:
        """The variance of the noise, std(t)², without cancellation."""
        raise NotImplementedError

    def drift(self, t: Time) -> Tensor:
        """The factor f(t) of x in the drift."""
        raise NotImplementedError

    def diffusion_squared(self, t: Time) -> Tensor:
        """The square g(t)² of the diffusion."""
        raise NotImplementedError

    def scale(self, t: Time) -> Tensor:
        """The factor of the data at time t."""
        return self.log_scale(t).exp()

    def std(self, t: Time) -> Tensor:
        """The deviation of the noise at time t."""
        return self.variance(t).sqrt()

    def log_snr(self, t: Time) -> Tensor:
        r"""Half of the log signal-to-noise ratio, :math:`\lambda=\log(\mathrm{scale}/\mathrm{std})`."""
        return self.log_scale(t) - 0.5 * self.variance(t).log()

    def diffusion(self, t: Time) -> Tensor:
        """The factor g(t) of the Brownian motion."""
        return self.diffusion_squared(t).sqrt()

    def time(self, t: Time) -> Tensor:
        """A time as a float64 tensor.

        Raises:
            ValueError: a time outside 0..end, of another dtype, or of more than one dimension.
        """
        value = t if isinstance(t, Tensor) else torch.tensor(float(t), dtype=torch.float64)
        if value.dtype != torch.float64 or value.dim() > 1:
            shape = tuple(value.shape)
            raise ValueError(f"t must be a float or float64 of shape () or (B,), got {value.dtype}, {shape}")
        inside = (value >= 0) & (value <= self.end)
        if _check.readable(value) and not bool(inside.all()):
            raise ValueError(f"t must lie in 0..{self.end}, got {value[~inside].flatten()[0].item()}")
        return value


@dataclass(frozen=True)
class VP(Process):
    r"""The variance-preserving process of an affine rate.

    .. math:: \mathrm{d}x=-\tfrac12\beta(t)x\,\mathrm{d}t+\sqrt{\beta(t)}\,\mathrm{d}w,\quad
        \beta(t)=\beta_{\min}+t(\beta_{\max}-\beta_{\min})

    .. math:: \log\mathrm{scale}=-\tfrac12B(t),\quad\mathrm{std}^2=1-e^{-B(t)},\quad
        B(t)=\beta_{\min}t+\tfrac12(\beta_{\max}-\beta_{\min})t^2

    Args:
        beta_min, beta_max: the rate at times 0 and 1, above 0.

    Reference: Song et al. 2021 (score SDE), appendix B.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        _positive(beta_min=self.beta_min, beta_max=self.beta_max)

    def rate(self, t: Time) -> Tensor:
        """The rate beta(t), per unit of time."""
        return self.beta_min + self.time(t) * (self.beta_max - self.beta_min)

    def integral(self, t: Time) -> Tensor:
        """The integral B(t) of the rate from 0."""
        at = self.time(t)
        return at * (self.beta_min + 0.5 * at * (self.beta_max - self.beta_min))

    def log_scale(self, t: Time) -> Tensor:
        return -0.5 * self.integral(t)

    def variance(self, t: Time) -> Tensor:
        return -torch.expm1(-self.integral(t))

    def drift(self, t: Time) -> Tensor:
        return -0.5 * self.rate(t)

    def diffusion_squared(self, t: Time) -> Tensor:
        return self.rate(t)


class SubVP(VP):
    r"""The sub-variance-preserving process: the drift of VP and less noise.

    .. math:: g^2=\beta(t)\left(1-e^{-2B(t)}\right),\qquad\mathrm{std}=1-e^{-B(t)}

    Reference: Song et al. 2021 (score SDE), appendix B.
    """

    def variance(self, t: Time) -> Tensor:
        return torch.expm1(-self.integral(t)) ** 2

    def diffusion_squared(self, t: Time) -> Tensor:
        return self.rate(t) * -torch.expm1(-2 * self.integral(t))


@dataclass(frozen=True)
class VE(Process):
    r"""The variance-exploding process with geometric noise levels.

    .. math:: \mathrm{d}x=\sigma(t)\sqrt{2\log(\sigma_{\max}/\sigma_{\min})}\,\mathrm{d}w,\quad
        \sigma(t)=\sigma_{\min}\left(\frac{\sigma_{\max}}{\sigma_{\min}}\right)^t

    ``std`` is σ(t), so that data at time 0 are noised with σ_min. The kernel of the process from clean data
    has σ(t)² − σ_min² instead (``from_clean``).

    Args:
        sigma_min, sigma_max: noise levels at times 0 and 1, 0 < sigma_min < sigma_max.
        from_clean: the data at time 0 are clean.

    Reference: Song et al. 2021 (score SDE), appendix B.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    from_clean: bool = False

    def __post_init__(self) -> None:
        _positive(sigma_min=self.sigma_min, sigma_max=self.sigma_max)
        if not self.sigma_min < self.sigma_max:
            raise ValueError(f"sigma_max must be above sigma_min = {self.sigma_min}, got {self.sigma_max}")

    @property
    def _log_ratio(self) -> Tensor:
        ends = torch.tensor([self.sigma_min, self.sigma_max], dtype=torch.float64).log()
        return ends[1] - ends[0]

    def log_scale(self, t: Time) -> Tensor:
        return torch.zeros_like(self.time(t))

    def variance(self, t: Time) -> Tensor:
        growth = 2 * self.time(t) * self._log_ratio.to(self.time(t).device)
        return self.sigma_min**2 * (torch.expm1(growth) if self.from_clean else growth.exp())

    def drift(self, t: Time) -> Tensor:
        return torch.zeros_like(self.time(t))

    def diffusion_squared(self, t: Time) -> Tensor:
        log_ratio = self._log_ratio.to(self.time(t).device)
        return 2 * log_ratio * self.sigma_min**2 * (2 * self.time(t) * log_ratio).exp()


@dataclass(frozen=True)
class EDM(Process):
    r"""The process whose time is the noise level: scale 1, std(t) = t.

    .. math:: \mathrm{d}x=\sqrt{2t}\,\mathrm{d}w

    Args:
        end: the largest noise level, above 0.

    Reference: Karras et al. 2022, section 3.
    """

    end: float = 80.0

    def __post_init__(self) -> None:
        _positive(end=self.end)

    def log_scale(self, t: Time) -> Tensor:
        return torch.zeros_like(self.time(t))

    def variance(self, t: Time) -> Tensor:
        return self.time(t) ** 2

    def drift(self, t: Time) -> Tensor:
        return torch.zeros_like(self.time(t))

    def diffusion_squared(self, t: Time) -> Tensor:
        return 2 * self.time(t)


def _positive(**numbers: float) -> None:
    for name, value in numbers.items():
        _check.finite(name, value)
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")
