r"""Laws of data under which the perfect network has a closed form.

Noising a Gaussian mixture gives a Gaussian mixture, so its density, score, noise predictor and posterior
moments are exact at every level. A Gaussian is the mixture of one component; a point mass and an empirical
measure are mixtures of components without covariance. All of them share one implementation, in the eigenbasis
of each covariance, where nothing is inverted but sums of non-negative numbers:

.. math::
    x_t\mid k\sim\mathcal N\!\left(\sqrt{\bar\alpha_t}\,m_k,\;\bar\alpha_t C_k+(1-\bar\alpha_t)I\right)

The parameters are float64 and so is the arithmetic; a result is cast once to the dtype of ``x_t``.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from refdiff import _check
from refdiff._check import Level
from refdiff.kernel import any_true
from refdiff.schedule import Schedule

LOG_2_PI = math.log(2 * math.pi)


@dataclass(frozen=True, eq=False)
class Components:
    """A mixture in eigenbases: weights (K,), means (K, D), variances along the axes (K, D) and axes (K, D,
    D).

    ``axes`` is None when every axis is a coordinate.
    """

    log_weight: Tensor
    mean: Tensor
    variance: Tensor
    axes: Tensor | None

    def rotate(self, x: Tensor) -> Tensor:
        """Coordinates of x, shape (B, K, D), along the axes of each component."""
        return x if self.axes is None else torch.einsum("kij,bki->bkj", self.axes, x)

    def rotate_back(self, y: Tensor) -> Tensor:
        """The inverse of ``rotate``."""
        return y if self.axes is None else torch.einsum("kij,bkj->bki", self.axes, y)

    def covariance(self, variance: Tensor) -> Tensor:
        """The matrices (B, K, D, D) that have these variances, shape (B, K, D), along the axes."""
        if self.axes is None:
            return torch.diag_embed(variance)
        return torch.einsum("kij,bkj,klj->bkil", self.axes, variance, self.axes)


@dataclass(frozen=True, eq=False)
class Noised:
    """The mixture at one level: the scale and variance of the noising and each component's view of x_t."""

    scale: Tensor
    noise_variance: Tensor
    variance: Tensor
    deviation: Tensor
    log_joint: Tensor

    @property
    def responsibility(self) -> Tensor:
        """The probability of each component given x_t, shape (B, K)."""
        return torch.softmax(self.log_joint, dim=1)


class Law:
    """A law of x_0 with D dimensions. Every x_t is (B, *) with D elements per sample."""

    components: Components
    is_singular: bool

    def _keep(self, components: Components) -> None:
        object.__setattr__(self, "components", components)
        # a component without density at t = 0; unknown, and taken as false, where there are no values
        singular = _check.readable(components.variance) and bool((components.variance == 0).any())
        object.__setattr__(self, "is_singular", singular)

    @property
    def dimension(self) -> int:
        """The number of dimensions D."""
        return self.components.mean.shape[1]

    def log_prob(self, schedule: Schedule, x_t: Tensor, t: Level) -> Tensor:
        r"""The log-density of the noised law.

        .. math:: \log p_t(x_t)=\log\sum_k w_k\,
            \mathcal N(x_t;\sqrt{\bar\alpha_t}m_k,\bar\alpha_tC_k+(1-\bar\alpha_t)I)

        Args:
            schedule: noise schedule with T steps.
            x_t: noised data, shape (B, *).
            t: level, 0 ≤ t ≤ T, an int or shape (B,).

        Returns:
            Nats, shape (B,).

        Raises:
            ValueError: x_t does not have D elements per sample; t = 0 where a component has no density.
        """
        self._require_density(t)
        return torch.logsumexp(self._noised(schedule, x_t, t).log_joint, dim=1).to(x_t.dtype)

    def score(self, schedule: Schedule, x_t: Tensor, t: Level) -> Tensor:
        r"""The score of the noised law.

        .. math:: \nabla_{x_t}\log p_t(x_t)=-\sum_k r_k(x_t)\,V_k^{-1}(x_t-\sqrt{\bar\alpha_t}m_k),
            \qquad V_k=\bar\alpha_tC_k+(1-\bar\alpha_t)I

        Args:
            schedule: noise schedule with T steps.
            x_t: noised data, shape (B, *).
            t: level, 0 ≤ t ≤ T, an int or shape (B,).

        Returns:
            The gradient, shaped like x_t.

        Raises:
            ValueError: x_t does not have D elements per sample; t = 0 where a component has no density.
        """
        self._require_density(t)
        at_t = self._noised(schedule, x_t, t)
        return -self._average(at_t, at_t.deviation / at_t.variance).reshape(x_t.shape).to(x_t.dtype)

    def eps(self, schedule: Schedule, x_t: Tensor, t: Level) -> Tensor:
        r"""The perfect noise predictor; at t = 0 the noise is independent of the data and its mean is zero.

        .. math:: \epsilon^*(x_t,t)=\mathbb E[\epsilon\mid x_t]=-\sqrt{1-\bar\alpha_t}\,\nabla\log p_t(x_t)

        Args:
            schedule: noise schedule with T steps.
            x_t: noised data, shape (B, *); at t = 0 a point of the support.
            t: level, 0 ≤ t ≤ T, an int or shape (B,).

        Returns:
            The mean of the noise, shaped like x_t.

        Raises:
            ValueError: x_t does not have D elements per sample.

        Reference: formula ``parameterization.eps_from_score``.
        """
        at_t = self._noised(schedule, x_t, t)
        noise_std = at_t.noise_variance.sqrt()
        value = self._average(at_t, noise_std * at_t.deviation / at_t.variance)
        return self._unless_clean(at_t, value, torch.zeros_like(value)).reshape(x_t.shape).to(x_t.dtype)

    def posterior_mean(self, schedule: Schedule, x_t: Tensor, t: Level) -> Tensor:
        r"""The perfect denoiser.

        .. math:: \mathbb E[x_0\mid x_t]=\sum_k r_k(x_t)\,m_{k\mid x_t},\qquad
            m_{k\mid x_t}=m_k+\sqrt{\bar\alpha_t}C_kV_k^{-1}(x_t-\sqrt{\bar\alpha_t}m_k)

        Args:
            schedule: noise schedule with T steps.
            x_t: noised data, shape (B, *); at t = 0 a point of the support.
            t: level, 0 ≤ t ≤ T, an int or shape (B,).

        Returns:
            The mean of x_0, shaped like x_t.

        Raises:
            ValueError: x_t does not have D elements per sample.

        Reference: formula ``gaussian.condition_mean``.
        """
        at_t = self._noised(schedule, x_t, t)
        mean = torch.einsum("bk,bki->bi", at_t.responsibility, self._component_means(at_t))
        return self._unless_clean(at_t, mean, x_t.flatten(1).double()).reshape(x_t.shape).to(x_t.dtype)

    def posterior_covariance(self, schedule: Schedule, x_t: Tensor, t: Level) -> Tensor:
        r"""The covariance that x_t leaves to x_0: within the components and between them.

        .. math:: \operatorname{Cov}[x_0\mid x_t]=\sum_k r_k
            \left((1-\bar\alpha_t)C_kV_k^{-1}+(m_{k\mid x_t}-\bar m)(m_{k\mid x_t}-\bar m)^\top\right)

        Args:
            schedule: noise schedule with T steps.
            x_t: noised data, shape (B, *); at t = 0 a point of the support.
            t: level, 0 ≤ t ≤ T, an int or shape (B,).

        Returns:
            Covariances, shape (B, D, D).

        Raises:
            ValueError: x_t does not have D elements per sample.

        Reference: formula ``gaussian.condition_variance``.
        """
        at_t = self._noised(schedule, x_t, t)
        means, weight = self._component_means(at_t), at_t.responsibility
        offset = means - torch.einsum("bk,bki->bi", weight, means).unsqueeze(1)
        kept = at_t.noise_variance / at_t.variance * self.components.variance
        within = torch.einsum("bk,bkij->bij", weight, self.components.covariance(kept.expand_as(offset)))
        between = torch.einsum("bk,bki,bkj->bij", weight, offset, offset)
        covariance = within + between
        clean = at_t.noise_variance == 0
        return torch.where(clean, torch.zeros_like(covariance), covariance).to(x_t.dtype)

    def at(self, scale: float | Tensor, std: float | Tensor) -> "NoisedLaw":
        r"""The law of noised data, for a process that is given by its scale and deviation.

        .. math:: x=\mathrm{scale}\cdot x_0+\mathrm{std}\cdot\varepsilon

        Args:
            scale: factor of the data, above 0, a float or a float64 tensor of shape () or (B,).
            std: deviation of the noise, at least 0, a float or a float64 tensor of shape () or (B,).

        Returns:
            NoisedLaw, with the density, the score, the perfect noise predictor and the perfect denoiser.

        Raises:
            ValueError: a scale not above 0, a negative std, or tensors of another dtype or shape.
        """
        return NoisedLaw(self, _level_number("scale", scale, strict=True), _level_number("std", std))

    def _noised(self, schedule: Schedule, x_t: Tensor, t: Level) -> Noised:
        self._require_elements(x_t)
        x = x_t.flatten(1).double().unsqueeze(1)
        scale = schedule.at("sqrt_alpha_bar", t, x)
        return self._view(x, scale, schedule.at("one_minus_alpha_bar", t, x))

    def _require_elements(self, x_t: Tensor) -> None:
        if x_t.dim() < 2 or x_t.shape[1:].numel() != self.dimension:
            raise ValueError(f"x_t must have {self.dimension} elements per sample, got {tuple(x_t.shape)}")

    def _view(self, x: Tensor, scale: Tensor, noise_variance: Tensor) -> Noised:
        part = self.components
        # Where x_t is x_0 the moments are overwritten by their limits; 1 keeps 0/0 out of the way until then.
        blur = torch.where(noise_variance == 0, torch.ones_like(noise_variance), noise_variance)
        blur = blur if self.is_singular else noise_variance
        variance = (scale**2 * part.variance + blur).expand(x.shape[0], *part.mean.shape)
        deviation = part.rotate(x - scale * part.mean)
        log_density = -0.5 * (deviation**2 / variance + variance.log() + LOG_2_PI).sum(dim=2)
        return Noised(scale, noise_variance, variance, deviation, part.log_weight + log_density)

    def _component_means(self, at_t: Noised) -> Tensor:
        part = self.components
        gain = at_t.scale * part.variance / at_t.variance
        return part.mean + part.rotate_back(gain * at_t.deviation)

    def _average(self, at_t: Noised, along_axes: Tensor) -> Tensor:
        return torch.einsum("bk,bki->bi", at_t.responsibility, self.components.rotate_back(along_axes))

    def _unless_clean(self, at_t: Noised, value: Tensor, limit: Tensor) -> Tensor:
        return torch.where(at_t.noise_variance.reshape(-1, 1) == 0, limit, value)

    def _require_density(self, t: Level) -> None:
        if self.is_singular and any_true(t == 0):
            raise ValueError("t must be at least 1 where the law has no density, got 0")


@dataclass(frozen=True, eq=False)
class NoisedLaw:
    r"""A law of data at one level of noise, :math:`x=\mathrm{scale}\cdot x_0+\mathrm{std}\cdot\varepsilon`.

    Made by ``Law.at``. Every x is (B, *) with D elements per sample; a level of shape (B,) is one per sample.

    Args:
        law: the law of x_0.
        scale: factor of the data, float64, shape () or (B,).
        std: deviation of the noise, float64, shape () or (B,).
    """

    law: Law
    scale: Tensor
    std: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density, in nats, shape (B,); std must be above 0 where the law of data has no density."""
        self._require_density()
        return torch.logsumexp(self._view(x).log_joint, dim=1).to(x.dtype)

    def score(self, x: Tensor) -> Tensor:
        """The gradient of the log-density, shaped like x; std as in ``log_prob``."""
        self._require_density()
        view = self._view(x)
        return -self.law._average(view, view.deviation / view.variance).reshape(x.shape).to(x.dtype)

    def eps(self, x: Tensor) -> Tensor:
        """The mean of the noise given x, which is -std times the score, shaped like x."""
        view = self._view(x)
        value = self.law._average(view, view.noise_variance.sqrt() * view.deviation / view.variance)
        value = self.law._unless_clean(view, value, torch.zeros_like(value))
        return value.reshape(x.shape).to(x.dtype)

    def x_0(self, x: Tensor) -> Tensor:
        """The mean of the data given x, shaped like x; without noise, x / scale."""
        view = self._view(x)
        mean = torch.einsum("bk,bki->bi", view.responsibility, self.law._component_means(view))
        clean = x.flatten(1).double() / view.scale.reshape(-1, 1)
        return self.law._unless_clean(view, mean, clean).reshape(x.shape).to(x.dtype)

    def _view(self, x: Tensor) -> Noised:
        self.law._require_elements(x)
        _check.batch("scale", self.scale, x)
        _check.batch("std", self.std, x)
        shaped = [n.to(x.device).reshape(-1, 1, 1) for n in (self.scale, self.std)]
        return self.law._view(x.flatten(1).double().unsqueeze(1), shaped[0], shaped[1] ** 2)

    def _require_density(self) -> None:
        if self.law.is_singular and any_true(self.std == 0):
            raise ValueError("std must be above 0 where the law has no density, got 0")


def _level_number(name: str, value: float | Tensor, strict: bool = False) -> Tensor:
    number = value if isinstance(value, Tensor) else torch.tensor(float(value), dtype=torch.float64)
    if number.dtype != torch.float64 or number.dim() > 1:
        raise ValueError(f"{name} must be float64 of shape () or (B,), got {number.dtype}, {number.shape}")
    bound = "above 0" if strict else "at least 0"
    right = (number > 0 if strict else number >= 0) & torch.isfinite(number)
    if _check.readable(number) and not bool(right.all()):
        raise ValueError(f"{name} must be finite and {bound}, got {number[~right].flatten()[0].item()}")
    return number


@dataclass(frozen=True, eq=False)
class MixtureLaw(Law):
    """A mixture of Gaussians.

    Args:
        weights: probabilities of the components, shape (K,), float64.
        means: shape (K, D), float64.
        covs: symmetric positive semi-definite, shape (K, D, D), float64.

    Raises:
        ValueError: a shape, dtype or value is outside what is said here.
    """

    weights: Tensor
    means: Tensor
    covs: Tensor

    def __post_init__(self) -> None:
        _require_float64(weights=self.weights, means=self.means, covs=self.covs)
        _require_dimensions("means", self.means, 2)
        K, D = self.means.shape
        _require_shape("weights", self.weights, (K,))
        _require_shape("covs", self.covs, (K, D, D))
        _require_probabilities(self.weights)
        variance, axes = _eigenbasis("covs", self.covs)
        self._keep(Components(self.weights.log(), self.means, variance, axes))

    def sample(self, noise: Tensor, uniform: Tensor) -> Tensor:
        r"""Samples of x_0: the component by inversion of the weights' distribution, then an affine map of the
        noise.

        .. math:: x_0=m_k+C_k^{1/2}z,\qquad k=\min\{j:u<w_1+\dots+w_j\}

        Args:
            noise: standard normal, shape (B, D).
            uniform: in [0, 1), shape (B,).

        Returns:
            Samples, shape (B, D).

        Raises:
            ValueError: uniform outside [0, 1), or shapes that differ.
        """
        _require_shape("noise", noise, (uniform.shape[0], self.dimension))
        k = _invert(self.weights, uniform)
        return _affine(self.components, k, noise)


@dataclass(frozen=True, eq=False)
class GaussianLaw(Law):
    """A Gaussian with full covariance.

    Args:
        mean: shape (D,), float64.
        cov: symmetric positive semi-definite, shape (D, D), float64.

    Raises:
        ValueError: a shape, dtype or value is outside what is said here.
    """

    mean: Tensor
    cov: Tensor

    def __post_init__(self) -> None:
        _require_float64(mean=self.mean, cov=self.cov)
        _require_dimensions("mean", self.mean, 1)
        _require_shape("cov", self.cov, (self.mean.shape[0], self.mean.shape[0]))
        variance, axes = _eigenbasis("cov", self.cov.unsqueeze(0))
        self._keep(Components(self.mean.new_zeros(1), self.mean.unsqueeze(0), variance, axes))

    def sample(self, noise: Tensor) -> Tensor:
        r"""Samples of x_0.

        .. math:: x_0=m+C^{1/2}z

        Args:
            noise: standard normal, shape (B, D).

        Returns:
            Samples, shape (B, D).

        Raises:
            ValueError: noise does not have D columns.
        """
        _require_shape("noise", noise, (noise.shape[0], self.dimension))
        first = torch.zeros(noise.shape[0], dtype=torch.int64, device=noise.device)
        return _affine(self.components, first, noise)


@dataclass(frozen=True, eq=False)
class Empirical(Law):
    """The empirical measure of a data set: each point with weight 1/N.

    Args:
        points: shape (N, D), float64.

    Raises:
        ValueError: a shape, dtype or value is outside what is said here.
    """

    points: Tensor

    def __post_init__(self) -> None:
        _require_float64(points=self.points)
        _require_dimensions("points", self.points, 2)
        self._keep(_atoms(self.points))

    def sample(self, uniform: Tensor) -> Tensor:
        r"""Samples of x_0.

        .. math:: x_0=p_{\lfloor Nu\rfloor}

        Args:
            uniform: in [0, 1), shape (B,).

        Returns:
            Samples, shape (B, D).

        Raises:
            ValueError: uniform outside [0, 1).
        """
        N = self.points.shape[0]
        return self.points[_invert(self.points.new_full((N,), 1 / N), uniform)]


@dataclass(frozen=True, eq=False)
class PointMass(Law):
    """All data at one point.

    Args:
        x: the point, shape (D,), float64.

    Raises:
        ValueError: a shape, dtype or value is outside what is said here.
    """

    x: Tensor

    def __post_init__(self) -> None:
        _require_float64(x=self.x)
        _require_dimensions("x", self.x, 1)
        self._keep(_atoms(self.x.unsqueeze(0)))

    def sample(self, count: int) -> Tensor:
        r"""Samples of x_0.

        .. math:: x_0=x

        Args:
            count: the number of samples B.

        Returns:
            Samples, shape (B, D).
        """
        return self.x.expand(count, -1)


def _atoms(points: Tensor) -> Components:
    log_weight = torch.full_like(points[:, 0], -math.log(points.shape[0]))
    return Components(log_weight, points, torch.zeros_like(points), None)


def _affine(part: Components, k: Tensor, noise: Tensor) -> Tensor:
    assert part.axes is not None
    axes = part.axes[k]
    # the symmetric root, which does not depend on the signs that the eigenvectors happen to have
    stretched = part.variance[k].sqrt() * torch.einsum("bij,bi->bj", axes, noise.to(axes))
    return part.mean[k] + torch.einsum("bij,bj->bi", axes, stretched)


def _require_float64(**tensors: Tensor) -> None:
    for name, value in tensors.items():
        if value.dtype != torch.float64:
            raise ValueError(f"{name} must be float64, got {value.dtype}")
        if _check.readable(value) and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} must be finite, got {value[~torch.isfinite(value)][0].item()}")


def _require_shape(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(value.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(value.shape)}")


def _require_dimensions(name: str, value: Tensor, dimensions: int) -> None:
    if value.dim() != dimensions or value.numel() == 0:
        raise ValueError(f"{name} must have {dimensions} axes and not be empty, got {tuple(value.shape)}")


def _require_probabilities(weights: Tensor) -> None:
    if not _check.readable(weights):
        return
    if not bool((weights > 0).all()):
        raise ValueError(f"weights must be positive, got {weights.min().item()}")
    # K weights that were rounded to float64 and summed are off by at most K roundings of numbers up to 1
    if abs(weights.sum().item() - 1) > weights.numel() * torch.finfo(torch.float64).eps:
        raise ValueError(f"weights must sum to 1, got {weights.sum().item()}")


def _eigenbasis(name: str, covs: Tensor) -> tuple[Tensor, Tensor]:
    """Variances (K, D) and axes (K, D, D), with what rounding alone can make of zero set to zero."""
    if _check.readable(covs) and not torch.equal(covs, covs.mT):
        raise ValueError(
            f"{name} must be symmetric, got {(covs - covs.mT).abs().max().item()} as a difference"
        )
    variance, axes = torch.linalg.eigh(covs)
    rounding = covs.shape[-1] * torch.finfo(covs.dtype).eps * variance.abs().amax(-1, keepdim=True)
    if _check.readable(covs) and bool((variance < -rounding).any()):
        raise ValueError(f"{name} must be positive semi-definite, got the eigenvalue {variance.min().item()}")
    return torch.where(variance.abs() <= rounding, torch.zeros_like(variance), variance), axes


def _invert(weights: Tensor, uniform: Tensor) -> Tensor:
    _require_dimensions("uniform", uniform, 1)
    if _check.readable(uniform) and not bool(((uniform >= 0) & (uniform < 1)).all()):
        raise ValueError(f"uniform must lie in [0, 1), got {uniform.min().item()}..{uniform.max().item()}")
    # the last edge is 1 by definition; its rounded sum could fall short of a uniform just below 1
    return torch.searchsorted(weights.cumsum(0)[:-1], uniform.to(weights), right=True)
