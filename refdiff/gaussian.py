r"""Gaussians: diagonal ones with elementwise laws, and linear Gaussian models with full covariance.

A full covariance is factored in float64 and the result is cast once to the caller's dtype. Covariances are
symmetric up to rounding. Where a density is asked for they are positive definite, elsewhere they may be
singular.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from refdiff import _check

LOG_2_PI = math.log(2 * math.pi)
NEAR = 0.2


@dataclass(frozen=True, eq=False)
class Gaussian:
    r"""A Gaussian with independent elements.

    .. math:: \mathcal N(x;\mu,v)=\frac{1}{\sqrt{2\pi v}}\exp\left(-\frac{(x-\mu)^2}{2v}\right)

    Args:
        mean: shape (B, *).
        variance: at least 0, broadcastable to the mean; 0 is a point mass.

    Raises:
        ValueError: a variance that is negative, NaN, or not broadcastable to the mean.

    Reference: Bishop 2006, eq. 2.42.
    """

    mean: Tensor = field()
    variance: Tensor = field()

    def __post_init__(self) -> None:
        _check.floating("mean", self.mean)
        _check.floating("variance", self.variance)
        if self.variance.dtype != self.mean.dtype:
            dtype = self.mean.dtype
            raise ValueError(f"variance must have the dtype of mean, {dtype}, got {self.variance.dtype}")
        _check.broadcastable("variance", self.variance, "mean", self.mean)
        if _check.readable(self.variance) and not bool((self.variance >= 0).all()):
            raise ValueError(f"variance must be at least 0, got {self.variance.min().item()}")

    @property
    def std(self) -> Tensor:
        """The square root of the variance, broadcastable to the mean."""
        return self.variance.sqrt()

    def sample(self, noise: Tensor) -> Tensor:
        r"""The sample of a standard normal noise, :math:`\mu+\sqrt v\,z`, with noise of the mean's shape."""
        _check.same(mean=self.mean, noise=noise)
        return self.mean + self.std * noise

    def log_prob(self, x: Tensor) -> Tensor:
        r"""The log-density of each element, in nats, not summed; the variance is positive.

        .. math:: -\frac{(x-\mu)^2}{2v}-\tfrac12\log(2\pi v)

        Reference: formula ``gaussian.log_density``.
        """
        _check.same(mean=self.mean, x=x)
        self._check_density("variance")
        return -((x - self.mean) ** 2) / (2 * self.variance) - (self.variance.log() + LOG_2_PI) / 2

    def entropy(self) -> Tensor:
        r"""The differential entropy of each element, in nats, of the mean's shape; -inf for a point mass.

        .. math:: \tfrac12\log(2\pi e v)

        Reference: formula ``gaussian.entropy``.
        """
        return ((self.variance.log() + LOG_2_PI + 1) / 2).expand_as(self.mean)

    def kl(self, other: Gaussian) -> Tensor:
        r"""The divergence of this law from another, of each element, in nats, not summed.

        .. math:: \tfrac12\left(\frac{v_0}{v_1}-1-\log\frac{v_0}{v_1}+\frac{(\mu_0-\mu_1)^2}{v_1}\right)

        Reference: formula ``gaussian.kl``.
        """
        _check.same(mean=self.mean, other=other.mean)
        self._check_density("variance")
        other._check_density("variance of other")
        spread = ratio_minus_1_minus_log(self.variance, other.variance)
        return (spread + (self.mean - other.mean) ** 2 / other.variance) / 2

    def _check_density(self, name: str) -> None:
        if _check.readable(self.variance) and not bool((self.variance > 0).all()):
            raise ValueError(f"{name} must be positive where a density is asked for, got 0")


def ratio_minus_1_minus_log(v_0: Tensor, v_1: Tensor) -> Tensor:
    r""":math:`v_0/v_1-1-\log(v_0/v_1)` of positive numbers, without cancellation where they are near."""
    x = (v_0 - v_1) / v_1
    return torch.where(x.abs() < NEAR, _minus_log1p(x), x - (v_0 / v_1).log())


def _minus_log1p(x: Tensor) -> Tensor:
    """x - log(1 + x) for abs(x) < NEAR."""
    # log(1+x) = 2 artanh(r) with r = x/(2+x), and x - 2r = x r; r^2 < 1/81, so 9 terms are exact
    r = x / (2 + x)
    series = torch.zeros_like(x)
    for k in reversed(range(9)):
        series = series * r**2 + 1 / (2 * k + 3)
    return x * r - 2 * r**3 * series


def affine_push_forward(
    mean: Tensor, cov: Tensor, A: Tensor, b: Tensor, Q: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""The law of y = A x + b + noise of covariance Q, for x from N(mean, cov).

    .. math:: y\sim\mathcal N(A\mu+b,\;A\Sigma A^\top+Q)

    Args:
        mean, cov: shapes (*, D) and (*, D, D).
        A, b: shapes (*, E, D) and (*, E).
        Q: covariance of the independent noise, shape (*, E, E); None is no noise.

    Returns:
        Mean (*, E) and covariance (*, E, E).

    Raises:
        ValueError: a wrong shape, or a covariance that is not symmetric.

    Reference: Bishop 2006, eq. 2.115 (formula ``gaussian.push_forward_mean``,
    ``gaussian.push_forward_variance``).
    """
    _check_law("mean", mean, "cov", cov)
    _check_map(mean, A, b, Q)
    m, S, F, shift = _double(mean, cov, A, b)
    pushed = _symmetric(F @ S @ F.mT)
    if Q is not None:
        pushed = pushed + Q.double()
    return _apply(F, m).add(shift).to(mean.dtype), pushed.to(mean.dtype)


def marginal(mu: Tensor, Lambda_inv: Tensor, A: Tensor, b: Tensor, L_inv: Tensor) -> tuple[Tensor, Tensor]:
    r"""The marginal p(y) of the linear Gaussian model p(x) p(y | x).

    .. math:: p(x)=\mathcal N(\mu,\Lambda^{-1}),\;p(y\mid x)=\mathcal N(Ax+b,L^{-1})\;\Rightarrow\;
        p(y)=\mathcal N(A\mu+b,\;L^{-1}+A\Lambda^{-1}A^\top)

    Args:
        mu, Lambda_inv: mean and covariance of x, shapes (*, D) and (*, D, D).
        A, b: shapes (*, E, D) and (*, E).
        L_inv: covariance of y given x, shape (*, E, E).

    Returns:
        Mean (*, E) and covariance (*, E, E).

    Reference: Bishop 2006, eq. 2.115.
    """
    return affine_push_forward(mu, Lambda_inv, A, b, L_inv)


def joint(mu: Tensor, Lambda_inv: Tensor, A: Tensor, b: Tensor, L_inv: Tensor) -> tuple[Tensor, Tensor]:
    r"""The joint law of (x, y) of the linear Gaussian model p(x) p(y | x).

    .. math:: \begin{pmatrix}x\\y\end{pmatrix}\sim\mathcal N\left(\begin{pmatrix}\mu\\A\mu+b\end{pmatrix},
        \begin{pmatrix}\Lambda^{-1}&\Lambda^{-1}A^\top\\A\Lambda^{-1}&L^{-1}+A\Lambda^{-1}A^\top\end{pmatrix}\right)

    Args:
        mu, Lambda_inv: mean and covariance of x, shapes (*, D) and (*, D, D).
        A, b: shapes (*, E, D) and (*, E).
        L_inv: covariance of y given x, shape (*, E, E).

    Returns:
        Mean (*, D + E) and covariance (*, D + E, D + E).

    Reference: Bishop 2006, eq. 2.105, 2.108.
    """
    mean_y, cov_y = marginal(mu, Lambda_inv, A, b, L_inv)
    cross = (A.double() @ Lambda_inv.double()).to(mu.dtype)
    top = torch.cat([Lambda_inv, cross.mT], dim=-1)
    bottom = torch.cat([cross, cov_y], dim=-1)
    return torch.cat([mu, mean_y], dim=-1), torch.cat([top, bottom], dim=-2)


def condition(
    mu: Tensor, Lambda_inv: Tensor, A: Tensor, b: Tensor, L_inv: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    r"""The conditional p(x | y) of the linear Gaussian model p(x) p(y | x).

    .. math:: p(x\mid y)=\mathcal N\left(\Sigma\{A^\top L(y-b)+\Lambda\mu\},\;\Sigma\right),
        \quad\Sigma=(\Lambda+A^\top LA)^{-1}

    computed in the gain form, which needs no inverse of either covariance, only of the marginal one.

    Args:
        mu, Lambda_inv: mean and covariance of x, shapes (*, D) and (*, D, D).
        A, b: shapes (*, E, D) and (*, E).
        L_inv: covariance of y given x, shape (*, E, E).
        y: observation, shape (*, E).

    Returns:
        Mean (*, D) and covariance (*, D, D).

    Raises:
        ValueError: a wrong shape, or a marginal covariance of y that is not positive definite.

    Reference: Bishop 2006, eq. 2.116-2.117 (formula ``gaussian.condition_mean``,
    ``gaussian.condition_variance``).
    """
    mean_y, cov_y = marginal(mu.double(), Lambda_inv.double(), A.double(), b.double(), L_inv.double())
    m, S, F, Q, seen = _double(mu, Lambda_inv, A, L_inv, y)
    if y.shape[-1:] != b.shape[-1:]:
        raise ValueError(f"y must have shape (*, {b.shape[-1]}), got {tuple(y.shape)}")
    gain = torch.cholesky_solve(F @ S, _cholesky("L_inv + A Lambda_inv A^T", cov_y)).mT
    # the sum of two squares (Joseph) keeps the covariance positive where the plain difference would cancel
    rest = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device) - gain @ F
    cov = _symmetric(rest @ S @ rest.mT + gain @ Q @ gain.mT)
    return (m + _apply(gain, seen - mean_y)).to(mu.dtype), cov.to(mu.dtype)


def product(mean_1: Tensor, cov_1: Tensor, mean_2: Tensor, cov_2: Tensor) -> tuple[Tensor, Tensor]:
    r"""The law proportional to the product of two Gaussian densities of the same variable.

    .. math:: \Sigma=\Sigma_1(\Sigma_1+\Sigma_2)^{-1}\Sigma_2,\quad
        \mu=\Sigma_2(\Sigma_1+\Sigma_2)^{-1}\mu_1+\Sigma_1(\Sigma_1+\Sigma_2)^{-1}\mu_2

    The integral of the product is ``log_density(mean_1, mean_2, cov_1 + cov_2).exp()``.

    Args:
        mean_1, cov_1, mean_2, cov_2: shapes (*, D) and (*, D, D).

    Returns:
        Mean (*, D) and covariance (*, D, D).

    Raises:
        ValueError: a wrong shape, or a sum of covariances that is not positive definite.

    Reference: formula ``gaussian.product_mean``, ``gaussian.product_variance``.
    """
    identity = torch.eye(mean_1.shape[-1], dtype=mean_1.dtype, device=mean_1.device)
    zero = torch.zeros(mean_1.shape[-1], dtype=mean_1.dtype, device=mean_1.device)
    _check_law("mean_2", mean_2, "cov_2", cov_2)
    return condition(mean_1, cov_1, identity, zero, cov_2, mean_2)


def log_density(x: Tensor, mean: Tensor, cov: Tensor) -> Tensor:
    r"""The log-density of a Gaussian, in nats.

    .. math:: -\tfrac12(x-\mu)^\top\Sigma^{-1}(x-\mu)-\tfrac12\log\det\Sigma-\tfrac D2\log 2\pi

    Args:
        x, mean: shape (*, D).
        cov: positive definite, shape (*, D, D).

    Returns:
        Shape (*).

    Raises:
        ValueError: a wrong shape, or cov not positive definite.

    Reference: Bishop 2006, eq. 2.43 (formula ``gaussian.log_density``).
    """
    _check_law("mean", mean, "cov", cov)
    if x.shape[-1:] != mean.shape[-1:]:
        raise ValueError(f"x must have shape (*, {mean.shape[-1]}), got {tuple(x.shape)}")
    at, m, S = _double(x, mean, cov)
    factor = _cholesky("cov", S)
    whitened = _solve(factor, (at - m).unsqueeze(-1)).squeeze(-1)
    return (-(whitened.square().sum(-1) + _log_det(factor) + x.shape[-1] * LOG_2_PI) / 2).to(x.dtype)


def entropy(cov: Tensor) -> Tensor:
    r"""The differential entropy of a Gaussian, in nats.

    .. math:: \tfrac12\log\det(2\pi e\,\Sigma)

    Args:
        cov: positive definite, shape (*, D, D).

    Returns:
        Shape (*).

    Raises:
        ValueError: a wrong shape, or cov not positive definite.

    Reference: Bishop 2006, exercise 2.15 (formula ``gaussian.entropy``).
    """
    _check_cov("cov", cov)
    log_det = _log_det(_cholesky("cov", cov.double()))
    return ((log_det + cov.shape[-1] * (LOG_2_PI + 1)) / 2).to(cov.dtype)


def kl(mean_0: Tensor, cov_0: Tensor, mean_1: Tensor, cov_1: Tensor) -> Tensor:
    r"""The divergence of the first Gaussian from the second, in nats.

    .. math:: \tfrac12\left(\mathrm{tr}(\Sigma_1^{-1}\Sigma_0)-D-\log\det(\Sigma_1^{-1}\Sigma_0)
        +(\mu_1-\mu_0)^\top\Sigma_1^{-1}(\mu_1-\mu_0)\right)

    summed over the eigenvalues of the whitened difference where they are small, so that near laws do not
    cancel.

    Args:
        mean_0, cov_0, mean_1, cov_1: shapes (*, D) and (*, D, D), both positive definite.

    Returns:
        Shape (*), at least 0.

    Raises:
        ValueError: a wrong shape, or a covariance that is not positive definite.

    Reference: formula ``gaussian.kl``.
    """
    m_0, S_0, m_1, S_1 = _pair(mean_0, cov_0, mean_1, cov_1)
    factor_0, factor_1 = _cholesky("cov_0", S_0), _cholesky("cov_1", S_1)
    excess = torch.linalg.eigvalsh(_symmetric(_solve(factor_1, _solve(factor_1, S_0 - S_1).mT)))
    far = excess.sum(-1) - (_log_det(factor_0) - _log_det(factor_1))
    spread = torch.where(excess.abs().amax(-1) < NEAR, _minus_log1p(excess).sum(-1), far)
    whitened = _solve(factor_1, (m_0 - m_1).unsqueeze(-1)).squeeze(-1)
    return ((spread + whitened.square().sum(-1)) / 2).to(mean_0.dtype)


def wasserstein_2_squared(mean_0: Tensor, cov_0: Tensor, mean_1: Tensor, cov_1: Tensor) -> Tensor:
    r"""The squared 2-Wasserstein distance of two Gaussians.

    .. math:: \|\mu_0-\mu_1\|^2+\mathrm{tr}\left(\Sigma_0+\Sigma_1
        -2(\Sigma_1^{1/2}\Sigma_0\Sigma_1^{1/2})^{1/2}\right)

    computed as the squared distance of the roots after the best rotation, a sum of squares.

    Args:
        mean_0, cov_0, mean_1, cov_1: shapes (*, D) and (*, D, D); covariances may be singular.

    Returns:
        Shape (*), at least 0.

    Raises:
        ValueError: a wrong shape, or a covariance with a negative eigenvalue beyond rounding.

    Reference: Dowson and Landau 1982 (formula ``gaussian.w2``).
    """
    m_0, S_0, m_1, S_1 = _pair(mean_0, cov_0, mean_1, cov_1)
    root_0, root_1 = _root("cov_0", S_0), _root("cov_1", S_1)
    left, _, right = torch.linalg.svd(root_1 @ root_0)
    apart: Tensor = (root_0 - root_1 @ left @ right).square().sum((-2, -1))
    return ((m_0 - m_1).square().sum(-1) + apart).to(mean_0.dtype)


def _apply(A: Tensor, x: Tensor) -> Tensor:
    return (A @ x.unsqueeze(-1)).squeeze(-1)


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    solution: Tensor = torch.linalg.solve_triangular(factor, right, upper=False)
    return solution


def _log_det(factor: Tensor) -> Tensor:
    """The log-determinant of a matrix from its Cholesky factor."""
    diagonal: Tensor = factor.diagonal(dim1=-2, dim2=-1)
    return 2 * diagonal.log().sum(-1)


def _symmetric(cov: Tensor) -> Tensor:
    return (cov + cov.mT) / 2


def _double(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.double() for tensor in tensors)


def _pair(mean_0: Tensor, cov_0: Tensor, mean_1: Tensor, cov_1: Tensor) -> tuple[Tensor, ...]:
    _check_law("mean_0", mean_0, "cov_0", cov_0)
    _check_law("mean_1", mean_1, "cov_1", cov_1)
    if mean_0.shape[-1] != mean_1.shape[-1]:
        raise ValueError(f"mean_1 must have shape (*, {mean_0.shape[-1]}), got {tuple(mean_1.shape)}")
    return _double(mean_0, cov_0, mean_1, cov_1)


def _cholesky(name: str, cov: Tensor) -> Tensor:
    factor: Tensor
    factor, info = torch.linalg.cholesky_ex(cov)
    if _check.readable(info) and bool((info != 0).any()):
        least = torch.linalg.eigvalsh(cov).min().item()
        raise ValueError(f"{name} must be positive definite, got the eigenvalue {least}")
    return factor


def _root(name: str, cov: Tensor) -> Tensor:
    values: Tensor
    axes: Tensor
    values, axes = torch.linalg.eigh(cov)
    # an eigenvalue that is zero comes out of eigh as a rounding of either sign; only that is set to zero
    rounding = -_rounding(cov)
    if _check.readable(cov) and bool((values < rounding).any()):
        raise ValueError(f"{name} must have no eigenvalue below 0, got {values.min().item()}")
    return axes @ torch.diag_embed(values.clamp(min=0).sqrt()) @ axes.mT


def _rounding(cov: Tensor) -> Tensor:
    """How far an eigenvalue or an asymmetry can be off by rounding in the dtype of the covariance."""
    ulp: float = torch.finfo(cov.dtype).eps
    return cov.shape[-1] * ulp * cov.abs().amax((-2, -1)).unsqueeze(-1)


def _check_cov(name: str, cov: Tensor) -> None:
    _check.floating(name, cov)
    if cov.dim() < 2 or cov.shape[-1] != cov.shape[-2]:
        raise ValueError(f"{name} must have shape (*, D, D), got {tuple(cov.shape)}")
    if _check.readable(cov):
        skew = (cov - cov.mT).abs().amax((-2, -1)).unsqueeze(-1)
        if not bool((skew <= _rounding(cov)).all()):
            raise ValueError(f"{name} must be symmetric, got entries that differ by {skew.max().item()}")


def _check_law(name: str, mean: Tensor, cov_name: str, cov: Tensor) -> None:
    _check.floating(name, mean)
    _check_cov(cov_name, cov)
    if mean.dim() == 0 or mean.shape[-1] != cov.shape[-1]:
        raise ValueError(f"{name} must have shape (*, {cov.shape[-1]}), got {tuple(mean.shape)}")
    if mean.dtype != cov.dtype:
        raise ValueError(f"{cov_name} must have the dtype of {name}, {mean.dtype}, got {cov.dtype}")


def _check_map(mean: Tensor, A: Tensor, b: Tensor, Q: Tensor | None) -> None:
    if A.dim() < 2 or A.shape[-1] != mean.shape[-1]:
        raise ValueError(f"A must have shape (*, E, {mean.shape[-1]}), got {tuple(A.shape)}")
    if b.dim() == 0 or b.shape[-1] != A.shape[-2]:
        raise ValueError(f"b must have shape (*, {A.shape[-2]}), got {tuple(b.shape)}")
    if Q is not None:
        _check_cov("Q", Q)
        if Q.shape[-1] != A.shape[-2]:
            raise ValueError(f"Q must have shape (*, {A.shape[-2]}, {A.shape[-2]}), got {tuple(Q.shape)}")
