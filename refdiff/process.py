r"""Continuous processes: the scale of the data and the deviation of the noise as functions of time.

.. math:: x_t=\mathrm{scale}(t)\,x_0+\mathrm{std}(t)\,\varepsilon

A process with these marginals has the linear drift f(t) x and the diffusion g(t) of

.. math:: f=\frac{\mathrm{d}}{\mathrm{d}t}\log\mathrm{scale},\qquad
    g^2=\frac{\mathrm{d}\,\mathrm{std}^2}{\mathrm{d}t}-2f\,\mathrm{std}^2

What is between two times s < t is a Gaussian step of the same kind (``transition``):

.. math:: x_t=a\,x_s+\sqrt v\,z,\qquad a=\frac{\mathrm{scale}(t)}{\mathrm{scale}(s)},\qquad
    v=\mathrm{std}(t)^2-a^2\,\mathrm{std}(s)^2

A process is named (VP, SubVP, VE, EDM), given by its marginals or by its coefficients (``FromMarginals``,
``FromCoefficients``), or made of a chain (``from_schedule``, ``from_ladder``); ``to_schedule`` and
``to_ladder`` go the other way. Times and results are float64; nothing is cast here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from refdiff._process_base import Process as Process
from refdiff._process_base import Time as Time
from refdiff._process_base import Transition as Transition
from refdiff._process_base import positive
from refdiff._process_tables import FromCoefficients as FromCoefficients
from refdiff._process_tables import FromMarginals as FromMarginals
from refdiff._process_tables import SteppedVE as SteppedVE
from refdiff._process_tables import SteppedVP as SteppedVP
from refdiff._process_tables import from_ladder as from_ladder
from refdiff._process_tables import from_schedule as from_schedule
from refdiff._process_tables import to_ladder as to_ladder
from refdiff._process_tables import to_schedule as to_schedule


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
        positive(beta_min=self.beta_min, beta_max=self.beta_max)

    def rate(self, t: Time) -> Tensor:
        """The rate beta(t), per unit of time."""
        return self.beta_min + self.time(t) * (self.beta_max - self.beta_min)

    def integral(self, t: Time) -> Tensor:
        """The integral B(t) of the rate from 0."""
        at = self.time(t)
        return at * (self.beta_min + at * (0.5 * (self.beta_max - self.beta_min)))

    def between(self, t: Time, s: Time) -> Tensor:
        """The integral of the rate from s to t, without the difference of two integrals."""
        later, earlier = self.time(t), self.time(s)
        middle = 0.5 * (later + earlier)
        return (later - earlier) * (self.beta_min + middle * (self.beta_max - self.beta_min))

    def log_scale(self, t: Time) -> Tensor:
        return -0.5 * self.integral(t)

    def variance(self, t: Time) -> Tensor:
        return -torch.expm1(-self.integral(t))

    def _factor(self, t: Tensor, s: Tensor) -> Tensor:
        return (-0.5 * self.between(t, s)).exp()

    def _added(self, t: Tensor, s: Tensor) -> Tensor:
        return -torch.expm1(-self.between(t, s))

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

    def _added(self, t: Tensor, s: Tensor) -> Tensor:
        return torch.expm1(-self.between(t, s)) * torch.expm1(-self.integral(t) - self.integral(s))

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
        positive(sigma_min=self.sigma_min, sigma_max=self.sigma_max)
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

    def _added(self, t: Tensor, s: Tensor) -> Tensor:
        rate = 2 * self._log_ratio.to(t.device)
        return self.sigma_min**2 * (s * rate).exp() * torch.expm1((t - s) * rate)

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
        positive(end=self.end)

    def log_scale(self, t: Time) -> Tensor:
        return torch.zeros_like(self.time(t))

    def variance(self, t: Time) -> Tensor:
        return self.time(t) ** 2

    def _added(self, t: Tensor, s: Tensor) -> Tensor:
        return (t - s) * (t + s)

    def drift(self, t: Time) -> Tensor:
        return torch.zeros_like(self.time(t))

    def diffusion_squared(self, t: Time) -> Tensor:
        return 2 * self.time(t)
