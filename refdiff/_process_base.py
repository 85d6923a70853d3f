"""What every process has: its marginals, its coefficients, and its step between two times."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from refdiff import _check

Time: TypeAlias = float | Tensor
"""A time: a float, or a float64 tensor of shape () or (B,)."""


class Transition(NamedTuple):
    """A Gaussian step between two times: the factor of the earlier state and the variance added."""

    factor: Tensor
    variance: Tensor


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

    def transition(self, t: Time, s: Time) -> Transition:
        r"""What the process does between two times.

        .. math:: x_t\mid x_s\sim\mathcal N(a\,x_s,v I),\qquad a=\frac{\mathrm{scale}(t)}{\mathrm{scale}(s)},
            \qquad v=\mathrm{std}(t)^2-a^2\,\mathrm{std}(s)^2

        Args:
            t, s: times with s < t.

        Returns:
            Factor and variance, of the shape of the times.

        Raises:
            ValueError: a time outside 0..end, or s not below t.

        Reference: formulas ``sde.transition_factor``, ``sde.transition_variance``.
        """
        later, earlier = self.time(t), self.time(s)
        require_earlier(later, earlier)
        return Transition(self._factor(later, earlier), self._added(later, earlier))

    def _factor(self, t: Tensor, s: Tensor) -> Tensor:
        return (self.log_scale(t) - self.log_scale(s)).exp()

    def _added(self, t: Tensor, s: Tensor) -> Tensor:
        return self.variance(t) - self._factor(t, s) ** 2 * self.variance(s)

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
        if _check.readable(value):
            self._require_inside(value)
        return value

    def _require_inside(self, t: Tensor) -> None:
        # one time is compared as a float: three operations on a tensor of one element take longer than a step
        times = t if t.dim() else t.item()
        inside = (times >= 0) & (times <= self.end)
        if not (inside.all() if isinstance(inside, Tensor) else inside):
            outside = t if t.dim() == 0 else t[~inside][0]
            raise ValueError(f"t must lie in 0..{self.end}, got {outside.item()}")


def require_earlier(t: Tensor, s: Tensor) -> None:
    """Times with s < t, elementwise."""
    if t.dim() == s.dim() == 1 and t.shape != s.shape:
        raise ValueError(f"s must have the shape of t, {tuple(t.shape)}, got {tuple(s.shape)}")
    if not _check.readable(t, s):
        return
    late = s.item() >= t.item() if t.dim() == s.dim() == 0 else bool((s >= t).any())
    if late:
        low, high = ((value + 0 * (s + t))[s >= t].flatten()[0].item() for value in (s, t))
        raise ValueError(f"s must be below t = {high}, got {low}")


def positive(**numbers: float) -> None:
    """Numbers above 0 and finite."""
    for name, value in numbers.items():
        _check.finite(name, value)
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")
