"""The numbers in the rows of chapter 5, from its formulas run as programs on data whose network is known."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from said import says

BETAS = np.concatenate([[0.0], np.linspace(1e-4, 0.02, 1000)])
LEVELS = np.cumprod(1 - BETAS)


def divergence(mean_1: float, var_1: float, mean_2: float, var_2: float) -> float:
    """4.6 in one dimension."""
    return 0.5 * (math.log(var_2 / var_1) + var_1 / var_2 + (mean_2 - mean_1) ** 2 / var_2 - 1)


def kernel(x_0: float, x_t: float, below: float, level: float, sigma: float) -> tuple[float, float]:
    """Mean and variance of 5.3."""
    direction = math.sqrt(1 - below - sigma**2)
    noise = (x_t - math.sqrt(level) * x_0) / math.sqrt(1 - level)
    return math.sqrt(below) * x_0 + direction * noise, sigma**2


def sampled(steps: int, data: float, stale: bool = False) -> float:
    """Variance of what Algorithm 5.1 returns for centred data, σ = 0; ``stale`` reads x_t as x_T."""
    tau = np.linspace(0, 1000, steps + 1).astype(int)
    x = start = 1.0
    for i in range(steps, 0, -1):
        above, below = LEVELS[tau[i]], LEVELS[tau[i - 1]]
        eps = math.sqrt(1 - above) / (above * data + 1 - above) * x
        held = start if stale else x
        x = math.sqrt(below / above) * (held - math.sqrt(1 - above) * eps) + math.sqrt(1 - below) * eps
    return x**2


def there_and_back(steps: int) -> float:
    """Unit data, the perfect network: x_0 up to x_T by 5.15 and down again."""
    tau = np.linspace(0, 1000, steps + 1).astype(int)
    x = 1.0
    for one, other in [*pairwise(tau), *pairwise(tau[::-1])]:
        eps = math.sqrt(1 - LEVELS[one]) * x
        known = (x - math.sqrt(1 - LEVELS[one]) * eps) / math.sqrt(LEVELS[one])
        x = math.sqrt(LEVELS[other]) * known + math.sqrt(1 - LEVELS[other]) * eps
    return x


@pytest.mark.parametrize("sigma", [9 / 25, 12 / 25])
def test_a_term_of_the_bound_depends_on_the_joint_law(sigma: float) -> None:
    x_0, eps, guess = 0.7, 0.3, 1.3
    level, below = 25 / 169, 16 / 25
    x_t = math.sqrt(level) * x_0 + math.sqrt(1 - level) * eps
    data = (x_t - math.sqrt(1 - level) * guess) / math.sqrt(level)
    true, model = (kernel(x, x_t, below, level, sigma) for x in (x_0, data))
    says("S004:§5.1/1", divergence(*true, *model), 3)


def test_the_usual_variance_has_no_root_in_two_steps() -> None:
    radicands = 1 - LEVELS[:-1] - BETAS[1:]
    bad = [t for t, radicand in enumerate(radicands, 1) if radicand < 0]
    assert bad == [1, 2]
    for t in bad:
        says("S004:§5.1/8", t, 1)
    shares = (1 - LEVELS[:-1]) / (1 - LEVELS[1:]) * (1 - LEVELS[1:] / LEVELS[:-1])
    assert (1 - LEVELS[:-1] - shares >= 0).all()


@pytest.mark.parametrize("t", [1, 100, 500, 1000])
def test_the_noise_that_the_network_misses(t: int) -> None:
    matrix = np.array([[1.0, math.sqrt(1 - LEVELS[t])], [math.sqrt(1 - LEVELS[t]), 1.0]])
    says("S004:§5.1/13", matrix[0, 0] - matrix[0, 1] ** 2 / matrix[1, 1], 3)


def test_the_missing_term_of_the_prior() -> None:
    pixels = 256 * 256 * 3
    says("S004:5.7", pixels * divergence(math.sqrt(LEVELS[1000]), 1 - LEVELS[1000], 0, 1), 2)


def test_the_missing_constant() -> None:
    says("S004:5.9", -math.log(math.exp(0) / math.sqrt(2 * math.pi * 0.01**2)), 3)


def test_the_range_asks_for_a_kernel_that_divides_by_zero() -> None:
    with pytest.raises(ZeroDivisionError):
        kernel(1.0, 1.0, 1.0, float(LEVELS[0]), 0.0)


def test_what_the_printed_divergence_teaches() -> None:
    level = LEVELS[500]
    guesses = np.linspace(0, 1, 10_001)
    cost = [divergence(math.sqrt(level), 1 - level, guess, 0.01) for guess in guesses]
    says("S004:5.14", guesses[int(np.argmin(cost))], 3)


def test_the_loop_that_reads_the_start() -> None:
    says("S004:alg5.1", sampled(10, 0.0, stale=True), 3)
    says("S004:alg5.1", sampled(10, 0.25, stale=True), 3)
    says("S004:alg5.1", sampled(10, 0.25), 3)
    assert sampled(10, 0.0) < 1e-20


@pytest.mark.parametrize("steps", [1000, 100, 50, 10])
def test_the_cost_of_fewer_steps(steps: int) -> None:
    for id in ("S004:§5.3/6", "S004:§5.4/3"):
        says(id, sampled(steps, 1.0), 3)
    says("S004:§5.4/4", there_and_back(steps), 3)
