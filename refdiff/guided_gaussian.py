r"""Exact test beds of guidance: Gaussian data that are observed, or classified by a log-linear classifier.

Every conditional density is Gaussian at every level, so a guided sampler can be compared with what it should
sample. Parameters are float64 and so is the arithmetic; a result is cast once to the dtype of ``x_t``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from refdiff import _check, gaussian
from refdiff._check import Level
from refdiff.data import LOG_2_PI, GaussianLaw
from refdiff.kernel import any_true, cast, pair
from refdiff.schedule import Schedule


def gaussian_reverse(
    law: GaussianLaw, schedule: Schedule, x_t: Tensor, t: Level, s: Level
) -> tuple[Tensor, Tensor]:
    r"""The exact reverse kernel of Gaussian data between two levels.

    .. math:: q(x_s\mid x_t)=\mathcal N\!\left(\sqrt{\bar\alpha_s}m+\sqrt{\alpha_{t\mid s}}D_sD_t^{-1}
        (x_t-\sqrt{\bar\alpha_t}m),\;\beta_{t\mid s}D_sD_t^{-1}\right),
        \qquad D_t=\bar\alpha_tC+(1-\bar\alpha_t)I

    Args:
        law: N(m, C), the law of the data.
        schedule: noise schedule with T steps.
        x_t: noised data, shape (B, D).
        t, s: levels, 0 ≤ s < t ≤ T, ints or shape (B,).

    Returns:
        Mean (B, D), and covariance (D, D), or (B, D, D) for a batch of levels.

    Raises:
        ValueError: a level out of range, s not below t, or x_t not of shape (B, D).

    Reference: Bishop 2006, eq. 2.116-2.117 (formula ``guidance.gaussian_reverse_mean``,
    ``guidance.gaussian_reverse_variance``).
    """
    x = _rows(x_t, law)
    levels = pair(schedule, t, s, x)
    one = torch.eye(law.dimension, dtype=torch.float64, device=x.device)
    signal, kept = (cast(value, x) for value in (levels.sqrt_alpha_bar_s, levels.sqrt_alpha))
    below = _matrix(signal) ** 2 * law.cov + _matrix(cast(levels.one_minus_s, x)) * one
    added = _matrix(cast(levels.beta, x)) * one
    mean, cov = gaussian.condition(signal * law.mean, below, _matrix(kept) * one, 0 * law.mean, added, x)
    return mean.to(x_t.dtype), cov.to(x_t.dtype)


@dataclass(frozen=True, eq=False)
class LinearObservation:
    r"""Gaussian data of which a linear map is observed with Gaussian noise.

    .. math:: x_0\sim\mathcal N(m,C),\qquad y\mid x_0\sim\mathcal N(Ax_0,R)

    Args:
        data: N(m, C), D dimensions.
        A: shape (E, D), float64.
        R: covariance of the noise, positive definite, shape (E, E), float64.
        y: the observation, shape (E,), float64.

    Raises:
        ValueError: a shape or dtype is outside what is said here.
    """

    data: GaussianLaw
    A: Tensor
    R: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        E = self.y.shape[0] if self.y.dim() == 1 else 0
        shapes = {"A": (E, self.data.dimension), "R": (E, E), "y": (E,)}
        for name, shape in shapes.items():
            value: Tensor = getattr(self, name)
            if tuple(value.shape) != shape or E == 0:
                raise ValueError(f"{name} must have shape {shape} with E ≥ 1, got {tuple(value.shape)}")
            if value.dtype != torch.float64:
                raise ValueError(f"{name} must be float64, got {value.dtype}")
        if _check.readable(self.R) and not _positive(self.R):
            raise ValueError(f"R must be symmetric and positive definite, got {self.R.tolist()}")

    def law(self) -> GaussianLaw:
        r"""The law of the data given the observation.

        .. math:: x_0\mid y\sim\mathcal N\left(\Sigma(A^\top R^{-1}y+C^{-1}m),\Sigma\right),\quad
            \Sigma=(C^{-1}+A^\top R^{-1}A)^{-1}

        Reference: formula ``guidance.observed_mean``, ``guidance.observed_variance``.
        """
        zero = torch.zeros_like(self.y)
        return GaussianLaw(*gaussian.condition(self.data.mean, self.data.cov, self.A, zero, self.R, self.y))

    def log_likelihood(self, schedule: Schedule, x_t: Tensor, t: Level) -> Tensor:
        r"""The log-density of the observation given x_t: the classifier of level t.

        .. math:: \log q(y\mid x_t)=\log\mathcal N\!\left(y;A\,\mathbb E[x_0\mid x_t],\,
            A\operatorname{Cov}[x_0\mid x_t]A^\top+R\right)

        Args:
            schedule: noise schedule with T steps.
            x_t: noised data, shape (B, D).
            t: level, 0 ≤ t ≤ T, an int or shape (B,).

        Returns:
            Nats, shape (B,).

        Reference: formula ``guidance.observation_likelihood``.
        """
        predicted, seen, _ = self._given(schedule, x_t, t)
        y = self.y.expand_as(predicted)
        return gaussian.log_density(y, predicted, seen).to(x_t.dtype)

    def gradient(self, schedule: Schedule, x_t: Tensor, t: Level) -> Tensor:
        r"""The gradient of ``log_likelihood`` in x_t.

        .. math:: J^\top A^\top\left(A\operatorname{Cov}[x_0\mid x_t]A^\top+R\right)^{-1}
            (y-A\,\mathbb E[x_0\mid x_t]),\qquad J=\partial\,\mathbb E[x_0\mid x_t]/\partial x_t

        Args:
            schedule: noise schedule with T steps.
            x_t: noised data, shape (B, D).
            t: level, 0 ≤ t ≤ T, an int or shape (B,).

        Returns:
            The gradient, shape (B, D).

        Reference: formula ``guidance.observation_gradient``.
        """
        predicted, seen, slope = self._given(schedule, x_t, t)
        weighed: Tensor = torch.linalg.solve(seen, (self.y - predicted).unsqueeze(-1))
        return (slope.mT @ self.A.mT @ weighed).squeeze(-1).to(x_t.dtype)

    def kernel(self, schedule: Schedule, x_t: Tensor, t: Level, s: Level) -> tuple[Tensor, Tensor]:
        r"""The exact reverse kernel given the observation, q(x_s | x_t, y): that of its law.

        Args:
            schedule: noise schedule with T steps.
            x_t: noised data, shape (B, D).
            t, s: levels, 0 ≤ s < t ≤ T, ints or shape (B,).

        Returns:
            Mean (B, D), and covariance (D, D), or (B, D, D) for a batch of levels.

        Reference: formula ``guidance.observed_kernel_mean``, ``guidance.observed_kernel_variance``.
        """
        return gaussian_reverse(self.law(), schedule, x_t, t, s)

    def _given(self, schedule: Schedule, x_t: Tensor, t: Level) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and covariance of y given x_t, and the slope of E[x_0 | x_t]."""
        mean, cov, slope = _denoised(self.data, schedule, x_t, t)
        return mean @ self.A.mT, self.A @ cov @ self.A.mT + self.R, slope


@dataclass(frozen=True, eq=False)
class LogLinearClassifier:
    r"""Gaussian data and the classifier exp(b·x_0) over its normaliser: every scale is sampled exactly.

    Args:
        data: N(m, C), D dimensions.
        b: shape (D,), float64.

    Raises:
        ValueError: b is not of shape (D,) and float64.
    """

    data: GaussianLaw
    b: Tensor

    def __post_init__(self) -> None:
        if tuple(self.b.shape) != (self.data.dimension,) or self.b.dtype != torch.float64:
            expected = f"shape ({self.data.dimension},) and float64"
            raise ValueError(f"b must have {expected}, got {tuple(self.b.shape)} and {self.b.dtype}")

    def law(self, scale: float = 1.0) -> GaussianLaw:
        r"""The law of the data times the power κ of the classifier, :math:`\mathcal N(m+\kappa Cb,C)`.

        Reference: formula ``guidance.log_linear_target``.
        """
        _check.finite("scale", scale)
        return GaussianLaw(self.data.mean + scale * self.data.cov @ self.b, self.data.cov)

    def gradient(self, schedule: Schedule, x_t: Tensor, t: Level) -> Tensor:
        r"""The gradient of the classifier of level t, the same for every x_t.

        .. math:: \nabla_{x_t}\log\mathbb E[e^{b\cdot x_0}\mid x_t]=J^\top b,\qquad
            J=\partial\,\mathbb E[x_0\mid x_t]/\partial x_t

        Args:
            schedule: noise schedule with T steps.
            x_t: noised data, shape (B, D).
            t: level, 0 ≤ t ≤ T, an int or shape (B,).

        Returns:
            The gradient, shape (B, D).

        Reference: formula ``guidance.log_linear_gradient``.
        """
        mean, _, slope = _denoised(self.data, schedule, x_t, t)
        return (slope.mT @ self.b).expand_as(mean).to(x_t.dtype)


@dataclass(frozen=True, eq=False)
class ProbitClassifier:
    r"""Gaussian data and a label on one side of a line: :math:`p(y\mid x_0)=\Phi(b\cdot x_0+b_0)`.

    Args:
        data: N(m, C), D dimensions.
        b: shape (D,), float64.
        offset: b_0, finite.

    Raises:
        ValueError: b is not of shape (D,) and float64, or an offset that is not finite.
    """

    data: GaussianLaw
    b: Tensor
    offset: float

    def __post_init__(self) -> None:
        LogLinearClassifier(self.data, self.b)
        _check.finite("offset", self.offset)

    def mean(self) -> Tensor:
        r"""The mean of the data given the label, shape (D,), float64.

        .. math:: m+\frac{Cb}{\sqrt{1+b^\top Cb}}\,\frac{\varphi(u)}{\Phi(u)},\qquad
            u=\frac{b\cdot m+b_0}{\sqrt{1+b^\top Cb}}

        Reference: Azzalini 1985 (formula ``guidance.probit_mean``).
        """
        spread = self.data.cov @ self.b
        root = (1 + self.b @ spread).sqrt()
        return self.data.mean + spread / root * _hazard((self.b @ self.data.mean + self.offset) / root)

    def log_probability(self, schedule: Schedule, x_t: Tensor, t: Level) -> Tensor:
        r"""The log-probability of the label given x_t: the classifier of level t.

        .. math:: \log\Phi\!\left(\frac{b\cdot\mathbb E[x_0\mid x_t]+b_0}
            {\sqrt{1+b^\top\operatorname{Cov}[x_0\mid x_t]b}}\right)

        Args:
            schedule: noise schedule with T steps.
            x_t: noised data, shape (B, D).
            t: level, 0 ≤ t ≤ T, an int or shape (B,).

        Returns:
            Nats, shape (B,).

        Reference: Bishop 2006, eq. 4.152 (formula ``guidance.probit_label``).
        """
        margin, _ = self._margin(schedule, x_t, t)
        logs: Tensor = torch.special.log_ndtr(margin)
        return logs.to(x_t.dtype)

    def gradient(self, schedule: Schedule, x_t: Tensor, t: Level) -> Tensor:
        r"""The gradient of ``log_probability`` in x_t.

        .. math:: \frac{J^\top b}{\sqrt{1+b^\top\operatorname{Cov}[x_0\mid x_t]b}}\,\frac{\varphi(u)}{\Phi(u)}

        Args:
            schedule: noise schedule with T steps.
            x_t: noised data, shape (B, D).
            t: level, 0 ≤ t ≤ T, an int or shape (B,).

        Returns:
            The gradient, shape (B, D).

        Reference: formula ``guidance.probit_gradient``.
        """
        margin, slope = self._margin(schedule, x_t, t)
        return (slope * _hazard(margin).unsqueeze(-1)).to(x_t.dtype)

    def _margin(self, schedule: Schedule, x_t: Tensor, t: Level) -> tuple[Tensor, Tensor]:
        """u, shape (B,), and its gradient."""
        mean, cov, slope = _denoised(self.data, schedule, x_t, t)
        root = (1 + cov @ self.b @ self.b).sqrt()
        along = (slope.mT @ self.b) / (root.unsqueeze(-1) if root.dim() else root)
        return (mean @ self.b + self.offset) / root, along.expand_as(mean)


def _hazard(u: Tensor) -> Tensor:
    """φ(u)/Φ(u), from their logarithms, so that neither underflows."""
    logs: Tensor = torch.special.log_ndtr(u)
    return torch.exp(-(u**2 + LOG_2_PI) / 2 - logs)


def _denoised(law: GaussianLaw, schedule: Schedule, x_t: Tensor, t: Level) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and covariance of x_0 given x_t, and the slope of the mean, in float64."""
    x = _rows(x_t, law)
    if law.is_singular and any_true(t == 0):
        raise ValueError("t must be at least 1 where the law has no density, got 0")
    signal, noise = (schedule.at(name, t, x) for name in ("sqrt_alpha_bar", "one_minus_alpha_bar"))
    one = torch.eye(law.dimension, dtype=torch.float64, device=x.device)
    total = _matrix(signal) ** 2 * law.cov + _matrix(noise) * one
    # C and the covariance of x_t commute, so the order of the factors is free
    slope = _matrix(signal) * torch.linalg.solve(total, law.cov.expand_as(total))
    cov = _matrix(noise) * torch.linalg.solve(total, law.cov.expand_as(total))
    mean = law.mean + (slope @ (x - signal * law.mean).unsqueeze(-1)).squeeze(-1)
    return mean, (cov + cov.mT) / 2, (slope + slope.mT) / 2


def _positive(cov: Tensor) -> bool:
    info: Tensor = torch.linalg.cholesky_ex(cov).info
    return torch.equal(cov, cov.mT) and not bool(info.any())


def _rows(x_t: Tensor, law: GaussianLaw) -> Tensor:
    _check.floating("x_t", x_t)
    if x_t.dim() != 2 or x_t.shape[1] != law.dimension:
        raise ValueError(f"x_t must have shape (B, {law.dimension}), got {tuple(x_t.shape)}")
    return x_t.double()


def _matrix(value: Tensor) -> Tensor:
    """A number, () or (B, 1), as it multiplies matrices."""
    return value.unsqueeze(-1) if value.dim() else value
