r"""Score matching with Langevin dynamics: a ladder of noise levels, its loss, and annealed sampling.

Data are not scaled: a level σ adds noise, :math:`\tilde x=x+\sigma z`, and :math:`s(\tilde x,\sigma)` is the
score of the noised data. Step sizes follow two rules, of which neither is wrong:

- ``"half"``: drift α/2 and noise √α, as Song & Ermon (2019) write it;
- ``"eta"``: drift α and noise √(2α), as NCSNv2 and most code do; the same step with twice the ε.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, get_args

import torch
from torch import Tensor

from refdiff import _check, gaussian
from refdiff._check import Level
from refdiff.schedule import take
from refdiff.score_matching import noise_level, require_positive

Rule = Literal["half", "eta"]
Score = Callable[[Tensor, Tensor], Tensor]
"""s(x, σ) for x of shape (B, *) and σ of shape (B,)."""


def geometric_sigmas(sigma_1: float, sigma_L: float, L: int) -> Tensor:
    r"""The geometric ladder of noise levels, descending.

    .. math:: \sigma_i=\sigma_1\left(\frac{\sigma_L}{\sigma_1}\right)^{\frac{i-1}{L-1}},\qquad i=1,\dots,L

    Args:
        sigma_1: the largest level.
        sigma_L: the smallest level, above 0 and below sigma_1.
        L: number of levels, at least 2.

    Returns:
        float64, shape (L,); its ends are the given numbers exactly.

    Raises:
        ValueError: fewer than two levels, or levels that are not 0 < sigma_L < sigma_1.

    Reference: Song & Ermon 2019, section 3.1 (formula ``smld.ladder``).
    """
    _check.count("L", L, minimum=2)
    require_positive("sigma_L", sigma_L)
    require_positive("sigma_1", sigma_1)
    if not sigma_L < sigma_1:
        raise ValueError(f"sigma_L must be below sigma_1 = {sigma_1}, got {sigma_L}")
    inner = torch.arange(1, L - 1, dtype=torch.float64) / (L - 1)
    ends = torch.tensor([sigma_1, sigma_L], dtype=torch.float64)
    return torch.cat([ends[:1], sigma_1 * (sigma_L / sigma_1) ** inner, ends[1:]])


def step_sizes(sigmas: Tensor, epsilon: float) -> Tensor:
    r"""The step size at each level.

    .. math:: \alpha_i=\varepsilon\,\sigma_i^2/\sigma_L^2

    Args:
        sigmas: levels, descending, shape (L,).
        epsilon: ε, the step size at the last level, above 0.

    Returns:
        Shaped like sigmas.

    Raises:
        ValueError: levels that are not positive and descending, or ε not above 0 and finite.

    Reference: Song & Ermon 2019, algorithm 1 (formula ``smld.step_size``).
    """
    _require_ladder(sigmas)
    require_positive("epsilon", epsilon)
    return epsilon * (sigmas / sigmas[-1]) ** 2


def step(x: Tensor, score: Tensor, alpha: float | Tensor, noise: Tensor, rule: Rule = "half") -> Tensor:
    r"""A Langevin step.

    .. math:: x+\tfrac\alpha2\,s+\sqrt\alpha\,z\quad(\text{half}),\qquad x+\alpha\,s+\sqrt{2\alpha}\,z
        \quad(\text{eta})

    Args:
        x: state, shape (B, *).
        score: score at x, shaped like x.
        alpha: step size, above 0, a float or shape () or (B,).
        noise: standard normal, shaped like x.
        rule: "half" or "eta".

    Returns:
        The next state, shaped like x.

    Raises:
        ValueError: α not above 0 and finite, an unknown rule, or tensors of different shape, dtype or device.

    Reference: Song & Ermon 2019, algorithm 1 (formulas ``smld.step``, ``smld.step_practice``).
    """
    _check.same(x=x, score=score, noise=noise)
    drift = noise_level("alpha", alpha, x) / _divisor(rule)
    return x + drift * score + (2 * drift).sqrt() * noise


def loss(score_fn: Score, sigmas: Tensor, x: Tensor, index: Level, noise: Tensor) -> Tensor:
    r"""The denoising loss at a level, with the weight λ(σ) = σ² that makes levels comparable.

    .. math:: \sigma_i^2\cdot\tfrac12\left\|s(x+\sigma_iz,\sigma_i)+\frac z{\sigma_i}\right\|^2
        =\tfrac12\|\sigma_i\,s(x+\sigma_iz,\sigma_i)+z\|^2

    Args:
        score_fn: score of the noised data, of x of shape (B, *) and σ of shape (B,).
        sigmas: levels, descending, shape (L,).
        x: data, shape (B, *).
        index: place in ``sigmas``, 0 ≤ index < L, an int or shape (B,).
        noise: z, standard normal, shaped like x.

    Returns:
        The loss of each sample, shape (B,); its mean over levels is the objective.

    Raises:
        ValueError: levels that are not positive and descending, an index out of range or not of the batch,
            or tensors of different shape, dtype or device.

    Reference: Song & Ermon 2019, eq. 5 and 6 (formula ``smld.loss``).
    """
    _require_ladder(sigmas)
    _check.same(x=x, noise=noise)
    _check.level("index", index, len(sigmas) - 1)
    _check.batch("index", index, x)
    sigma = _labels(take(sigmas, index), x)
    level = noise_level("sigma", sigma, x)
    score = score_fn(x + level * noise, sigma)
    _check.same(x=x, score=score)
    return ((level * score + noise) ** 2).flatten(1).sum(1) / 2


def denoise(x: Tensor, sigma: float | Tensor, score: Tensor) -> Tensor:
    r"""The last denoising: the mean of the data given data plus noise.

    .. math:: \mathbb E[x_0\mid x]=x+\sigma^2\,s(x,\sigma)

    Args:
        x: data plus noise, shape (B, *).
        sigma: noise level, above 0, a float or shape () or (B,).
        score: score at x, shaped like x.

    Returns:
        The denoised data, shaped like x.

    Raises:
        ValueError: σ not above 0 and finite, or tensors of different shape, dtype or device.

    Reference: Jolicoeur-Martineau et al. 2021, section 3 (formula ``smld.denoise``).
    """
    _check.same(x=x, score=score)
    return x + noise_level("sigma", sigma, x) ** 2 * score


def annealed_langevin(
    score_fn: Score,
    sigmas: Tensor,
    x: Tensor,
    epsilon: float,
    steps: int,
    noises: Iterable[Tensor],
    denoise: bool = False,
    rule: Rule = "half",
) -> Tensor:
    r"""Annealed Langevin sampling: so many steps at each level, from the largest to the smallest.

    .. math:: x\leftarrow x+\tfrac{\alpha_i}2\,s(x,\sigma_i)+\sqrt{\alpha_i}\,z,\qquad
        \alpha_i=\varepsilon\,\sigma_i^2/\sigma_L^2

    Args:
        score_fn: score of the noised data, of x of shape (B, *) and σ of shape (B,).
        sigmas: levels, descending, shape (L,).
        x: first state, shape (B, *).
        epsilon: ε, the step size at the last level; below 4 σ_L² ("half") every level contracts.
        steps: Langevin steps at each level, at least 1.
        noises: standard normal, shaped like x, one for each step: L·steps of them.
        denoise: whether x + σ_L² s(x, σ_L) follows the last step; without it the noise of σ_L stays.
        rule: "half" (drift α/2, noise √α) or "eta" (drift α, noise √(2α)).

    Returns:
        The last state, shaped like x.

    Raises:
        ValueError: levels that are not positive and descending, ε not above 0, fewer than one step, too few
            noises, an unknown rule, or tensors of different shape, dtype or device.

    Reference: Song & Ermon 2019, algorithm 1 (formulas ``smld.step``, ``smld.step_size``, ``smld.denoise``).
    """
    _check.count("steps", steps)
    alphas, draws = step_sizes(sigmas, epsilon), iter(noises)
    for sigma, alpha in zip(sigmas, alphas, strict=True):
        label = _labels(sigma, x)
        for _ in range(steps):
            x = step(x, score_fn(x, label), alpha, _take(draws, len(sigmas) * steps), rule)
    return x + sigmas[-1].to(x) ** 2 * score_fn(x, label) if denoise else x


def chain_moments(
    sigmas: Tensor,
    mean: Tensor,
    cov: Tensor,
    epsilon: float,
    steps: int,
    start_mean: Tensor,
    start_cov: Tensor,
    denoise: bool = False,
    rule: Rule = "half",
) -> tuple[Tensor, Tensor]:
    r"""Mean and covariance of ``annealed_langevin`` with the exact score of Gaussian data.

    Along each axis of the covariance of the data, with variance c, a level multiplies the distance to the
    mean by :math:`\rho^T` and takes a variance v to

    .. math:: \rho^{2T}v+\alpha\sum_{k<T}\rho^{2k},\qquad\rho=1-\frac{\alpha}{2(c+\sigma^2)}

    Args:
        sigmas: levels, descending, shape (L,).
        mean, cov: of the data, shapes (D,) and (D, D).
        epsilon: ε, the step size at the last level.
        steps: Langevin steps at each level, at least 1.
        start_mean, start_cov: of the first state, shapes (D,) and (D, D).
        denoise: whether x + σ_L² s(x, σ_L) follows the last step.
        rule: "half" or "eta".

    Returns:
        Mean (D,) and covariance (D, D).

    Raises:
        ValueError: levels that are not positive and descending, ε not above 0, fewer than one step, an
            unknown rule, or moments whose shapes or dtypes do not fit.

    Reference: formulas ``smld.level_mean``, ``smld.level_variance``, ``smld.chain_mean``,
        ``smld.chain_variance``, ``smld.denoised_variance``.
    """
    _check.count("steps", steps)
    gaussian._check_law("mean", mean, "cov", cov)
    gaussian._check_law("start_mean", start_mean, "start_cov", start_cov)
    _check.same(mean=mean, start_mean=start_mean)
    alphas = step_sizes(sigmas.double(), epsilon) * (2 / _divisor(rule))
    spread, axes = torch.linalg.eigh(cov.double())
    away = axes.mT @ (start_mean - mean).double()
    left = axes.mT @ start_cov.double() @ axes
    for sigma, alpha in zip(sigmas.double(), alphas, strict=True):
        lost = alpha / (2 * (spread + sigma**2))
        kept, total = _power(lost, steps), _geometric_sum(lost, steps)
        away, left = kept * away, kept[:, None] * left * kept + torch.diag(alpha * total)
    if denoise:
        slope = spread / (spread + sigmas[-1].double() ** 2)
        away, left = slope * away, slope[:, None] * left * slope
    return mean + (axes @ away).to(mean.dtype), (axes @ left @ axes.mT).to(cov.dtype)


def _power(lost: Tensor, steps: int) -> Tensor:
    """ρ^T for ρ = 1 − lost, which is exact from ½ to 2 and is not formed below."""
    logarithm = torch.log1p(-torch.where(lost < 0.5, lost, 0.0))
    return torch.where(lost < 0.5, (steps * logarithm).exp(), (1 - lost) ** steps)


def _geometric_sum(lost: Tensor, steps: int) -> Tensor:
    """1 + ρ² + … + ρ^2(T−1) for ρ = 1 − lost, with 1 − ρ² as lost·(2 − lost) where ρ is near 1."""
    logarithm = torch.log1p(-torch.where(lost < 0.5, lost, 0.0))
    near_one = -torch.expm1(2 * steps * logarithm) / (lost * (2 - torch.where(lost < 0.5, lost, 0.0)))
    return torch.where(lost < 0.5, near_one, _by_doubling((1 - lost) ** 2, steps))


def _by_doubling(q: Tensor, count: int) -> Tensor:
    """1 + q + … + q^(count−1) for q ≥ 0: positive terms, whatever q, and no difference."""
    total, weight = torch.zeros_like(q), torch.ones_like(q)
    chunk, power = torch.ones_like(q), q
    while count:
        if count % 2:
            total, weight = total + weight * chunk, weight * power
        chunk, power, count = chunk * (1 + power), power**2, count // 2
    return total


def _take(draws: Iterator[Tensor], count: int) -> Tensor:
    noise = next(draws, None)
    if noise is None:
        raise ValueError(f"noises must hold one tensor for each of the {count} steps, got fewer")
    return noise


def _divisor(rule: Rule) -> int:
    """By what the step size is divided in the drift."""
    if rule not in get_args(Rule):
        raise ValueError(f"rule must be one of {', '.join(get_args(Rule))}, got {rule!r}")
    return 2 if rule == "half" else 1


def _labels(sigma: Tensor, x: Tensor) -> Tensor:
    """One noise level for each sample, in the dtype and on the device of x."""
    return sigma.to(x).expand(x.shape[0])


def _require_ladder(sigmas: Tensor) -> None:
    _check.floating("sigmas", sigmas)
    if sigmas.dim() != 1 or len(sigmas) == 0:
        raise ValueError(f"sigmas must have shape (L,), got {tuple(sigmas.shape)}")
    if not _check.readable(sigmas):
        return
    if not bool(((sigmas > 0) & sigmas.isfinite()).all()):
        raise ValueError(f"sigmas must be above 0 and finite, got {sigmas.tolist()}")
    if bool((sigmas[1:] >= sigmas[:-1]).any()):
        raise ValueError(f"sigmas must descend strictly, got {sigmas.tolist()}")
