r"""Score matching: Fisher divergence, and the explicit, sliced and denoising losses of a score.

A score is a function of a batch, :math:`s(x)` shaped like x, in which no sample sees another. The losses are
per sample and sum over its dimensions; their mean over data is the Fisher divergence

.. math:: D_F=\mathbb E_{p}\left[\tfrac12\|\nabla\log p(x)-s(x)\|^2\right]

up to a constant of the data, which ``denoising_constant`` gives for Gaussian data.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from refdiff import _check, ddpm, gaussian
from refdiff._check import Level
from refdiff.schedule import Schedule

Score = Callable[[Tensor], Tensor]
"""s(x) for x of shape (B, *); no sample sees another."""


def fisher_divergence(score_p: Score, score_q: Score, x: Tensor) -> Tensor:
    r"""Half the squared distance of two scores at data; its mean over x ~ p is the Fisher divergence.

    .. math:: D_F(p\,\|\,q)=\mathbb E_{x\sim p}\left[\tfrac12\|\nabla\log p(x)-\nabla\log q(x)\|^2\right]

    Args:
        score_p: score of the data.
        score_q: score of the model.
        x: data, shape (B, *).

    Returns:
        The term of each sample, shape (B,).

    Raises:
        ValueError: x without a batch, or scores that differ from x in shape, dtype or device.

    Reference: Hyvärinen 2005, eq. 2 (formula ``score_matching.fisher_divergence``).
    """
    _require_batch(x)
    first, second = score_p(x), score_q(x)
    _check.same(x=x, score_p=first, score_q=second)
    return _half_square(first - second)


def gaussian_fisher_divergence(mean: Tensor, cov: Tensor, centre: Tensor, hessian: Tensor) -> Tensor:
    r"""The Fisher divergence of the affine score −H(x − c) from a Gaussian.

    .. math:: D_F=\tfrac12\operatorname{tr}\!\left((H-\Sigma^{-1})\Sigma(H-\Sigma^{-1})^\top\right)
        +\tfrac12\|H(\mu-c)\|^2

    Args:
        mean, cov: of the data, shapes (D,) and (D, D), positive definite.
        centre, hessian: c and H of the energy, shapes (D,) and (D, D); H need not be symmetric.

    Returns:
        The divergence, shape ().

    Raises:
        ValueError: shapes or dtypes that do not fit; a covariance that is not positive definite.

    Reference: formula ``score_matching.fisher_divergence_nd``.
    """
    gaussian._check_law("mean", mean, "cov", cov)
    _check.same(mean=mean, centre=centre)
    _check.same(cov=cov, hessian=hessian)
    root = gaussian._cholesky("cov", cov.double())
    # (H − Σ⁻¹)Σ(H − Σ⁻¹)ᵀ = MMᵀ with M = HR − R⁻ᵀ and Σ = RRᵀ
    misfit = hessian.double() @ root - torch.linalg.inv(root).mT
    shift = hessian.double() @ (mean - centre).double()
    total: Tensor = (misfit**2).sum() / 2 + (shift**2).sum() / 2
    return total.to(mean.dtype)


def explicit_loss(score_fn: Score, x: Tensor) -> Tensor:
    r"""Explicit (Hyvärinen) score matching with the exact trace: one backward pass for each dimension.

    .. math:: J(x)=\tfrac12\|s(x)\|^2+\operatorname{tr}\nabla s(x)

    Args:
        score_fn: score of the model; for an energy E it is −∇E.
        x: data, shape (B, *).

    Returns:
        The loss of each sample, shape (B,).

    Raises:
        ValueError: x without a batch, or a score that differs from x in shape, dtype or device.

    Reference: Hyvärinen 2005, theorem 1 (formulas ``score_matching.explicit``,
        ``score_matching.explicit_nd``).
    """
    score, pull_back = _with_pull_back(score_fn, x)
    trace = torch.zeros_like(score.flatten(1)[:, 0])
    for k, axis in enumerate(torch.eye(x[0].numel(), dtype=x.dtype, device=x.device)):
        (row,) = pull_back(axis.reshape(x.shape[1:]).expand_as(x))
        trace = trace + row.flatten(1)[:, k]
    return _half_square(score) + trace


def sliced_loss(score_fn: Score, x: Tensor, v: Tensor, reduced: bool = False) -> Tensor:
    r"""Sliced score matching along one direction a sample: one backward pass in any dimension.

    .. math:: J(x,v)=\tfrac12(v^\top s(x))^2+v^\top\nabla s(x)\,v,\qquad
        J_{\text{reduced}}(x,v)=\tfrac12\|s(x)\|^2+v^\top\nabla s(x)\,v

    Its mean over directions with :math:`\mathbb E[vv^\top]=I` is ``explicit_loss``.

    Args:
        score_fn: score of the model.
        x: data, shape (B, *).
        v: directions, standard normal or random signs, shaped like x.
        reduced: the square in full, not along the direction.

    Returns:
        The loss of each sample, shape (B,).

    Raises:
        ValueError: x without a batch, or tensors of different shape, dtype or device.

    Reference: Song et al. 2019 (sliced score matching), eq. 7 and 8 (formula ``score_matching.sliced``).
    """
    _check.same(x=x, v=v)
    score, pull_back = _with_pull_back(score_fn, x)
    (along,) = pull_back(v)
    curvature = (along * v).flatten(1).sum(1)
    if reduced:
        return _half_square(score) + curvature
    return (score * v).flatten(1).sum(1) ** 2 / 2 + curvature


def denoising_loss(score_fn: Score, x: Tensor, sigma: float | Tensor, noise: Tensor) -> Tensor:
    r"""Denoising score matching with Gaussian noise.

    .. math:: J(x,z)=\tfrac12\left\|s(x+\sigma z)+\frac z\sigma\right\|^2

    Args:
        score_fn: score of the model, for data with noise of this level.
        x: data, shape (B, *).
        sigma: noise level, above 0, a float or shape () or (B,).
        noise: z, standard normal, shaped like x.

    Returns:
        The loss of each sample, shape (B,).

    Raises:
        ValueError: sigma not above 0 and finite or not of the batch; tensors of different shape, dtype or
            device.

    Reference: Vincent 2011, eq. 11 (formula ``score_matching.denoising``).
    """
    _require_batch(x)
    _check.same(x=x, noise=noise)
    level = noise_level("sigma", sigma, x)
    score = score_fn(x + level * noise)
    _check.same(x=x, score=score)
    return _half_square(score + noise / level)


def denoising_constant(cov: Tensor, sigma: float) -> Tensor:
    r"""By how much the denoising loss exceeds the Fisher divergence of the noised data, for Gaussian data.

    .. math:: C=\tfrac12\mathbb E\|\nabla\log q(\tilde x\mid x)\|^2
        -\tfrac12\mathbb E\|\nabla\log q(\tilde x)\|^2
        =\tfrac12\operatorname{tr}\!\left(\sigma^{-2}I-(\Sigma+\sigma^2I)^{-1}\right)

    Args:
        cov: covariance of the data, shape (D, D).
        sigma: noise level, above 0.

    Returns:
        The constant, shape ().

    Raises:
        ValueError: sigma not above 0 and finite; a covariance that is not square or not symmetric.

    Reference: Vincent 2011, section 4 (formula ``score_matching.denoising_constant_nd``).
    """
    gaussian._check_cov("cov", cov)
    require_positive("sigma", sigma)
    spread: Tensor = torch.linalg.eigvalsh(cov.double())
    return (spread / (2 * sigma**2 * (spread + sigma**2))).sum().to(cov.dtype)


def eps_loss(
    score_fn: Callable[[Tensor, Level], Tensor], schedule: Schedule, x_0: Tensor, t: Level, eps: Tensor
) -> Tensor:
    r"""The squared error of the noise, from a score: 2(1 − ᾱ_t) times the denoising loss at level t.

    .. math:: \|\epsilon-\epsilon_\theta\|^2
        =(1-\bar\alpha_t)\left\|s(x_t,t)+\frac{\epsilon}{\sqrt{1-\bar\alpha_t}}\right\|^2

    Args:
        score_fn: score of x_t at level t.
        schedule: noise schedule with T steps.
        x_0: data, shape (B, *).
        t: level, 1 ≤ t ≤ T, an int or shape (B,).
        eps: standard normal, shaped like x_0.

    Returns:
        The loss of each sample, shape (B,), summed over its dimensions.

    Raises:
        ValueError: t outside 1..T, or tensors of different shape, dtype or device.

    Reference: Song & Ermon 2019, eq. 6 (formula ``score_matching.eps_loss``).
    """
    _require_batch(x_0)
    _check.level("t", t, schedule.T, minimum=1)
    score = score_fn(ddpm.q_sample(schedule, x_0, t, eps), t)
    _check.same(x_0=x_0, eps=eps, score=score)
    std = schedule.at("sqrt_one_minus_alpha_bar", t, x_0)
    return 2 * _half_square(std * score + eps)


def marginal_score(log_joint: Tensor, scores: Tensor) -> Tensor:
    r"""The score of a mixture: the mean of the conditional scores under the posterior.

    .. math:: \nabla\log q(x)=\sum_k\frac{w_kq_k(x)}{\sum_jw_jq_j(x)}\,\nabla\log q_k(x)

    Args:
        log_joint: log w_k + log q_k(x), shape (B, K); a constant in k may be left out.
        scores: ∇ log q_k(x), shape (B, K, *).

    Returns:
        The score of the mixture, shape (B, *).

    Raises:
        ValueError: shapes that do not fit, or tensors of different dtype or device.

    Reference: Vincent 2011, eq. 12 (formulas ``score_matching.marginal_score``,
        ``score_matching.mixture_score``).
    """
    if log_joint.dim() != 2 or scores.shape[:2] != log_joint.shape:
        shape = f"(B, K, *) for log_joint of shape (B, K), {tuple(log_joint.shape)}"
        raise ValueError(f"scores must have shape {shape}, got {tuple(scores.shape)}")
    _check.same(log_joint=log_joint, scores=scores.flatten(2).sum(2) if scores.dim() > 2 else scores)
    share = torch.softmax(log_joint, dim=1)
    return (share.reshape(*share.shape, *[1] * (scores.dim() - 2)) * scores).sum(1)


def weight_sensitivity(log_ratio: Tensor, score_0: Tensor, score_1: Tensor, weight: float) -> Tensor:
    r"""How the score of π·p_0 + (1 − π)·p_1 changes with π: nothing where the two do not overlap.

    .. math:: \frac{\partial}{\partial\pi}\nabla\log p=\frac{p_0p_1}{p^2}(s_0-s_1)
        =\frac{s_0-s_1}{\left(\pi e^{r/2}+(1-\pi)e^{-r/2}\right)^2},\qquad r=\log\frac{p_0}{p_1}

    Args:
        log_ratio: r at each sample, shape (B,).
        score_0, score_1: scores of the two laws, shape (B, *).
        weight: π, strictly between 0 and 1.

    Returns:
        The derivative, shape (B, *).

    Raises:
        ValueError: a weight outside (0, 1), or shapes, dtypes or devices that do not fit.

    Reference: Song & Ermon 2019, section 3.2.1 (formula ``score_matching.weight_sensitivity``).
    """
    _require_batch(score_0)
    _check.same(score_0=score_0, score_1=score_1)
    _check.between("weight", weight, 0, 1)
    if log_ratio.shape != score_0.shape[:1]:
        raise ValueError(f"log_ratio must have shape ({len(score_0)},), got {tuple(log_ratio.shape)}")
    half = log_ratio.reshape(-1, *[1] * (score_0.dim() - 1)) / 2
    _check.same(score_0=score_0, log_ratio=half.expand_as(score_0))
    return (score_0 - score_1) / (weight * half.exp() + (1 - weight) * (-half).exp()) ** 2


def noise_level(name: str, sigma: float | Tensor, like: Tensor) -> Tensor:
    """A noise level in the dtype of what it multiplies: shape (), or (B, 1, ..., 1) for a batch."""
    if not isinstance(sigma, Tensor):
        require_positive(name, sigma)
        return torch.tensor(sigma, dtype=like.dtype, device=like.device)
    _check.floating(name, sigma)
    if sigma.dim() > 1 or (sigma.dim() == 1 and sigma.shape[0] != like.shape[0]):
        raise ValueError(f"{name} must have shape () or ({like.shape[0]},), got {tuple(sigma.shape)}")
    if _check.readable(sigma) and not bool(((sigma > 0) & sigma.isfinite()).all()):
        raise ValueError(f"{name} must be above 0 and finite, got {sigma.tolist()}")
    level = sigma.to(like)
    return level.reshape(-1, *[1] * (like.dim() - 1)) if level.dim() == 1 else level


def require_positive(name: str, value: float) -> None:
    """A finite Python number above 0."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be above 0 and finite, got {value}")


def _with_pull_back(score_fn: Score, x: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor]]]:
    """The score at x, and the map from u to ∇(u·s), which is the row u of the Jacobian of each sample."""
    _require_batch(x)
    score, pull_back, *_ = torch.func.vjp(score_fn, x)
    _check.same(x=x, score=score)
    return score, pull_back


def _half_square(values: Tensor) -> Tensor:
    return (values**2).flatten(1).sum(1) / 2


def _require_batch(x: Tensor) -> None:
    _check.floating("x", x)
    if x.dim() < 2:
        raise ValueError(f"x must have shape (B, *) with one dimension of data or more, got {tuple(x.shape)}")
