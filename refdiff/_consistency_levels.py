"""Levels, their number, their weights and the moving average in training: part of ``consistency``."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import torch
from torch import Tensor

from refdiff import _check
from refdiff._consistency_ode import positive

_ROOT_2 = math.sqrt(2.0)


def levels(sigma_min: float, sigma_max: float, N: int, rho: float = 7.0) -> Tensor:
    r"""The levels of training, ascending: equal differences of the ρ-th roots.

    .. math:: \sigma_i=\left(\sigma_{\min}^{1/\rho}
        +\frac{i-1}{N-1}\left(\sigma_{\max}^{1/\rho}-\sigma_{\min}^{1/\rho}\right)\right)^\rho,
        \qquad i=1,\dots,N

    Args:
        sigma_min: the smallest level, above 0.
        sigma_max: the largest level, above sigma_min.
        N: number of levels, at least 2.
        rho: ρ, above 0.

    Returns:
        float64, shape (N,); its ends are the given numbers exactly.

    Raises:
        ValueError: fewer than two levels, or numbers that are not 0 < sigma_min < sigma_max and ρ > 0.

    Reference: Song et al. 2023, section 2; Karras et al. 2022, eq. 5 (formula ``consistency.level``).
    """
    _check.count("N", N, minimum=2)
    positive(sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    if not sigma_min < sigma_max:
        raise ValueError(f"sigma_max must be above sigma_min = {sigma_min}, got {sigma_max}")
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    inner = torch.arange(1, N - 1, dtype=torch.float64) / (N - 1)
    ends = torch.tensor([sigma_min, sigma_max], dtype=torch.float64)
    return torch.cat([ends[:1], (low + inner * (high - low)) ** rho, ends[1:]])


def steps(k: int, K: int, s_0: int = 2, s_1: int = 150) -> int:
    r"""The number of levels at an iteration, as consistency models were first trained.

    .. math:: N(k)=\left\lceil\sqrt{\tfrac kK\left((s_1+1)^2-s_0^2\right)+s_0^2}-1\right\rceil+1

    The root is rounded up in whole numbers, so no rounding of a float moves the result.

    Args:
        k: iteration, 0 ≤ k ≤ K.
        K: number of iterations, at least 1.
        s_0: N(0), at least 2.
        s_1: N(K) is s_1 + 1; at least s_0.

    Returns:
        N(k).

    Raises:
        ValueError: numbers outside these bounds.

    Reference: Song et al. 2023, appendix C (formula ``consistency.steps``).
    """
    _require_iteration(k, K, s_0, s_1)
    square = -(-(k * ((s_1 + 1) ** 2 - s_0**2) + K * s_0**2) // K)
    return math.isqrt(square - 1) + 1


def improved_steps(k: int, K: int, s_0: int = 10, s_1: int = 1280) -> int:
    r"""The number of levels at an iteration, as improved training has it: doubled after equal times.

    .. math:: N(k)=\min\left(s_0\,2^{\lfloor k/K'\rfloor},\,s_1\right)+1,\qquad
        K'=\left\lfloor\frac K{\log_2\lfloor s_1/s_0\rfloor+1}\right\rfloor

    K' is the largest whole number n with (2⌊s_1/s_0⌋)ⁿ ≤ 2^K, and is found in whole numbers.

    Args:
        k: iteration, 0 ≤ k ≤ K.
        K: number of iterations, at least log2⌊s_1/s_0⌋ + 1.
        s_0: N(0) − 1, at least 2.
        s_1: N(K) − 1, at least s_0.

    Returns:
        N(k).

    Raises:
        ValueError: numbers outside these bounds.

    Reference: Song & Dhariwal 2024, section 3.4 (formula ``consistency.improved_steps``).
    """
    _require_iteration(k, K, s_0, s_1)
    return int(min(s_0 * 2 ** (k // _phase(K, s_1 // s_0)), s_1) + 1)


@lru_cache(maxsize=64)
def _phase(K: int, ratio: int) -> int:
    """The iterations with one number of levels: the floor of K / (log2(ratio) + 1)."""
    n = int(K / (math.log2(ratio) + 1))
    # the quotient of floats can be off by one, the powers of whole numbers cannot
    while (2 * ratio) ** (n + 1) <= 2**K:
        n += 1
    while (2 * ratio) ** n > 2**K:
        n -= 1
    if n == 0:
        raise ValueError(f"K must be at least {math.ceil(math.log2(ratio) + 1)} for s_1 / s_0, got {K}")
    return n


def ema_rate(N: int, s_0: int = 2, mu_0: float = 0.9) -> float:
    r"""The rate of the moving average for a number of levels.

    .. math:: \mu=\exp\left(\frac{s_0\log\mu_0}N\right)=\mu_0^{s_0/N}

    Args:
        N: number of levels, at least 2.
        s_0: the first number of levels, at least 2.
        mu_0: the rate there, strictly between 0 and 1.

    Returns:
        μ; improved training takes 0 instead, so that the teacher is the student.

    Raises:
        ValueError: numbers outside these bounds.

    Reference: Song et al. 2023, appendix C (formula ``consistency.ema_rate``).
    """
    _check.count("N", N, minimum=2)
    _check.count("s_0", s_0, minimum=2)
    _check.between("mu_0", mu_0, 0.0, 1.0)
    return math.exp(s_0 * math.log(mu_0) / N)


def ema(average: Iterable[Tensor], parameters: Iterable[Tensor], rate: float) -> list[Tensor]:
    r"""One update of the teacher: a moving average of the student's parameters, cut off from the graph.

    .. math:: \theta^-\leftarrow\operatorname{sg}\left(\mu\,\theta^-+(1-\mu)\,\theta\right)

    Args:
        average: θ⁻, the parameters of the teacher.
        parameters: θ, those of the student, shaped likewise.
        rate: μ, 0 ≤ μ < 1.

    Returns:
        The new θ⁻; the arguments are left as they are.

    Raises:
        ValueError: a rate outside these bounds, or parameters that do not match.

    Reference: Song et al. 2023, eq. 8 (formula ``consistency.ema``).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate must be at least 0 and below 1, got {rate}")
    old, new = list(average), list(parameters)
    if len(old) != len(new):
        raise ValueError(f"parameters must hold {len(old)} tensors, got {len(new)}")
    for before, after in zip(old, new, strict=True):
        _check.same(average=before, parameters=after)
    return [(rate * b + (1 - rate) * a).detach() for b, a in zip(old, new, strict=True)]


def level_weights(levels: Tensor) -> Tensor:
    r"""The weight of each pair of neighbouring levels in improved training.

    .. math:: \lambda(\sigma_i)=\frac1{\sigma_{i+1}-\sigma_i}

    Args:
        levels: ascending, above 0, float64, shape (N,).

    Returns:
        float64, shape (N − 1,).

    Raises:
        ValueError: levels that are not positive and ascending.

    Reference: Song & Dhariwal 2024, section 3.2 (formula ``consistency.weight``).
    """
    _require_ascending(levels)
    return 1 / levels.diff()


def level_probabilities(levels: Tensor, mean: float = -1.1, std: float = 2.0) -> Tensor:
    r"""How often improved training takes each pair of neighbouring levels: log σ is normal, cut at the ends.

    .. math:: p(\sigma_i)\propto\operatorname{erf}\left(\frac{\log\sigma_{i+1}-P}{\sqrt2\,S}\right)
        -\operatorname{erf}\left(\frac{\log\sigma_i-P}{\sqrt2\,S}\right)

    Args:
        levels: ascending, above 0, float64, shape (N,).
        mean: P, the mean of log σ.
        std: S, its deviation, above 0.

    Returns:
        float64, shape (N − 1,), summing to 1.

    Raises:
        ValueError: levels that are not positive and ascending, or a deviation not above 0 and finite.

    Reference: Song & Dhariwal 2024, section 3.5 (formula ``consistency.level_probability``).
    """
    _require_ascending(levels)
    _check.finite("mean", mean)
    positive(std=std)
    place = (levels.log() - mean) / (_ROOT_2 * std)
    # on each side of the mean the tail that is small is subtracted, so that no 1 cancels
    below, above = torch.special.erfc(-place), torch.special.erfc(place)
    share = torch.where(place[1:] <= 0, below.diff(), -above.diff())
    share = torch.where((place[1:] > 0) & (place[:-1] <= 0), torch.special.erf(place).diff(), share)
    return share / share.sum()


def _require_iteration(k: int, K: int, s_0: int, s_1: int) -> None:
    _check.count("K", K)
    _check.count("k", k, minimum=0)
    _check.count("s_0", s_0, minimum=2)
    _check.count("s_1", s_1, minimum=s_0)
    if k > K:
        raise ValueError(f"k must be at most K = {K}, got {k}")


def _require_ascending(levels: Tensor) -> None:
    if levels.dtype != torch.float64 or levels.dim() != 1 or len(levels) < 2:
        shape = tuple(levels.shape)
        raise ValueError(f"levels must be float64 of shape (N,), N > 1, got {levels.dtype}, {shape}")
    if _check.readable(levels) and not bool(((levels[:-1] > 0) & (levels.diff() > 0)).all()):
        raise ValueError(f"levels must be above 0 and ascend strictly, got {levels.tolist()}")
