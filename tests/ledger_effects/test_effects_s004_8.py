"""The numbers in the rows of chapter 8, from its chains, samplers and algorithms run on Gaussian data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from said import says

BETAS = np.concatenate([[0.0], np.linspace(1e-4, 0.02, 1000)])
LEVELS = np.cumprod(1 - BETAS)
N, LOW, HIGH = 1000, 0.1, 20.0
STEPS = np.array([LOW / (N - 1) + (i - 1) / (N - 1) ** 2 * (HIGH - LOW) for i in range(N + 1)])
"""β_0 to β_N by the formula of §8.3; there is no step 0."""
EXPLODING = np.array([0.0, 3.0, 5.0, 13.0])
PRESERVING = np.array([0.0, 81 / 1681, 49 / 625, 25 / 169])


def algorithm(steps: np.ndarray, sizes: list[float], corrections: int, *, own: bool, ve: bool) -> float:
    """Variance of what Algorithm 8.1 (levels) or 8.2 (β) returns for unit data; ``own`` mends the corrector.

    A state is its factors of the start and of all noises.
    """
    spreads = 1 + steps**2 if ve else np.ones(len(steps))
    x = np.zeros(1 + (len(steps) - 1) * (1 + corrections))
    x[0] = steps[-1] if ve else 1.0
    noise = 0
    for i in range(len(steps) - 2, -1, -1):
        above = x.copy()
        score = -above / spreads[i + 1]
        move = steps[i + 1] ** 2 - steps[i] ** 2 if ve else steps[i + 1]
        x = (1.0 if ve else 2 - math.sqrt(1 - steps[i + 1])) * above + move * score
        noise += 1
        x[noise] += math.sqrt(move)
        for _ in range(corrections):
            x = x + sizes[i] ** 2 / 2 * (-x / spreads[i] if own else score)
            noise += 1
            x[noise] += sizes[i]
    return float(x @ x)


def coefficient(level: float, below: float, alpha: float) -> float:
    """That of the score in 8.22, with the α that stands under the root."""
    return (1 - level) / math.sqrt(alpha) - math.sqrt(1 - below) * math.sqrt(1 - level)


def cosine(steps: int = 1000) -> np.ndarray:
    """β of the cosine schedule, cut to 0.999."""
    power = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.concatenate([[0.0], np.minimum(1 - power[1:] / power[:-1], 0.999)])


def test_what_the_last_state_tells() -> None:
    says("S004:§8.1/1", -0.5 * math.log1p(-math.exp(-(LOW + HIGH) / 2)), 3)
    says("S004:§8.1/1", 0.5 * math.log1p(1 / 50**2), 3)


def test_the_product_and_the_exponential() -> None:
    says("S004:§8.2/1", LEVELS[1000], 3)
    says("S004:§8.2/1", math.exp(-BETAS.sum()), 3)
    says("S004:§8.2/1", 100 * (math.exp(-BETAS.sum()) / LEVELS[1000] - 1), 3)


def test_the_chain_that_lags() -> None:
    """From level 1 to level N the step into level i + 1 has β_{i+1}; as printed it has β_i."""
    printed, true = np.prod(1 - STEPS[1:N]), np.prod(1 - STEPS[2:])
    says("S004:8.7", 100 * (printed / true - 1), 2)


def test_the_power_left_of_the_chain_and_of_the_process() -> None:
    says("S004:§8.2/11", float(np.prod(1 - STEPS[1:])), 3)
    time = np.linspace(0, 1, 100_001)
    rate = LOW + time * (HIGH - LOW)
    says("S004:§8.2/11", math.exp(-float(((rate[1:] + rate[:-1]) / 2).sum() * (time[1] - time[0]))), 3)


def test_the_gap_of_the_exploding_chain_stays() -> None:
    low, high = 0.01, 50.0
    for count in (100, 10_000):
        sigma = low * (high / low) ** (np.arange(count) / (count - 1))
        chain = np.cumsum(np.diff(np.concatenate([[0.0], sigma]) ** 2))
        process = low**2 * (high / low) ** (2 * np.arange(count) / (count - 1)) - low**2
        assert np.allclose(chain - process, low**2)


def test_the_factor_of_a_step_that_is_none() -> None:
    says("S004:§8.2/12", STEPS[0], 2)
    says("S004:§8.2/12", (1 - (1 - STEPS[0]) * (1 - STEPS[1])) / STEPS[1], 2)


def test_the_schedule_is_not_that_of_chapter_4() -> None:
    says("S004:§8.3/3", STEPS[1], 4)
    says("S004:§8.3/3", STEPS[N], 4)
    kept = np.cumprod(1 - STEPS[1:])
    says("S004:§8.3/3", kept[-1], 4)
    says("S004:§8.3/3", LEVELS[1000], 4)
    says("S004:§8.3/3", 100 * float(np.abs(kept / LEVELS[1:] - 1).max()), 1)


def test_the_noise_of_the_step_past_the_end() -> None:
    """Data at 0: before the last step the law is exact, of variance σ_1², or β_1."""
    sigma, beta = 0.01, 1e-4
    exploding = (1 + sigma**2 * (-1 / sigma**2)) ** 2 * sigma**2 + sigma**2
    preserving = (2 - math.sqrt(1 - beta) + beta * (-1 / beta)) ** 2 * beta + beta
    says("S004:§8.4/4", math.sqrt(exploding), 1)
    says("S004:§8.4/4", math.sqrt(preserving), 1)


def test_the_variance_with_the_level_for_the_level_before() -> None:
    assert ((1 - LEVELS[1:] - 1) / (1 - LEVELS[1:]) * BETAS[1:] < 0).all()


@pytest.mark.parametrize("t", [1, 2, 3, 10, 100])
def test_the_variance_that_is_taken_for_beta(t: int) -> None:
    says("S004:§8.4/9", (1 - LEVELS[t - 1]) / (1 - LEVELS[t]), 3)


@pytest.mark.parametrize("data", [0.25, 1.0, 4.0])
def test_the_samplers_on_gaussian_data(data: float) -> None:
    reverse = large = small = 1.0
    for t in range(1000, 0, -1):
        beta, score = BETAS[t], -1 / (1 + (data - 1) * LEVELS[t])
        reverse = (2 - math.sqrt(1 - beta) + beta * score) ** 2 * reverse + beta
        mean = (1 + beta * score) / math.sqrt(1 - beta)
        large = mean**2 * large + (beta if t > 1 else 0)
        small = mean**2 * small + (1 - LEVELS[t - 1]) / (1 - LEVELS[t]) * beta
    for variance in (reverse, large, small):
        says("S004:§8.4/7", variance, 5)


def test_no_rounds_return_the_start() -> None:
    """S004:§8.5/6: with N = 0 the levels are σ_0 alone, and x_N is drawn with it."""
    assert algorithm(EXPLODING[:1], [], 10, own=False, ve=True) == 0
    assert algorithm(PRESERVING[:1], [], 10, own=False, ve=False) == 1


@pytest.mark.parametrize("own", [False, True])
def test_the_corrector_that_never_looks(own: bool) -> None:
    exploding = algorithm(EXPLODING, [0.5, 1.5, 2.5], 50, own=own, ve=True)
    says("S004:alg8.1", exploding, 3)
    preserving = algorithm(PRESERVING, [0.5, 0.5, 0.5], 50, own=own, ve=False)
    says("S004:alg8.2", preserving, 3 if own else 5)


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_the_variance_grows_like_the_square_in_each_round(rounds: int) -> None:
    levels, sizes = EXPLODING[: rounds + 1], [0.5, 1.5, 2.5][:rounds]
    few, many = (algorithm(levels, sizes, m, own=False, ve=True) for m in (1000, 2000))
    assert round(math.log2(many / few)) == 2 * rounds


def test_the_score_without_its_bar() -> None:
    says("S004:§8.7/1", math.sqrt((1 - LEVELS[500]) / BETAS[500]), 2)


def test_the_root_of_the_step_before() -> None:
    t = 500
    printed, true = (coefficient(LEVELS[t], LEVELS[t - 1], 1 - beta) for beta in (BETAS[t - 1], BETAS[t]))
    says("S004:8.22", 100 * (1 - printed / true), 1)
    betas = cosine()
    kept = np.cumprod(1 - betas)
    last, below = float(kept[-1]), float(kept[-2])
    says("S004:8.22", coefficient(last, below, 1 - betas[-2]), 2)
    says("S004:8.22", coefficient(last, below, 1 - betas[-1]), 3)
    says("S004:§8.7/3", coefficient(last, below, 1 - betas[-1]) / (betas[-1] / 2), 3)


def test_the_curves_of_the_figure() -> None:
    says("S004:fig8.1", BETAS[999] / 2, 3)
    says("S004:fig8.1", BETAS[1000] / 2, 3)
    says("S004:fig8.1", coefficient(LEVELS[1000], LEVELS[999], 1 - BETAS[1000]), 4)


@pytest.mark.parametrize("t", [1, 2, 3, 10, 100, 1000])
def test_the_coefficients_side_by_side(t: int) -> None:
    says("S004:§8.7/3", coefficient(LEVELS[t], LEVELS[t - 1], 1 - BETAS[t]) / (BETAS[t] / 2), 3)


def test_the_rate_and_the_fall_of_the_level() -> None:
    rate = (N - 1) * BETAS[1:]
    says("S004:§8.7/4", math.log(LEVELS[1] / LEVELS[1000]), 5)
    says("S004:§8.7/4", float(((rate[1:] + rate[:-1]) / 2).sum() / (N - 1)), 5)


def test_a_step_without_its_time() -> None:
    """S004:8.26 at σ(t) = t = 1, where the score is −1: the same change for every dt."""
    slope = -0.5 * (2 * 1.0) * -1.0
    assert slope != slope * -0.1


@pytest.mark.parametrize("data", [0.0, 1.0])
def test_one_state_has_one_score(data: float) -> None:
    """y = 1 at σ = 1; the density of y by a sum over unit data."""
    grid = np.linspace(-9, 9, 20_001)

    def log_density(y: float) -> float:
        return math.log(float(np.exp(-(grid**2) / 2 - (y - grid) ** 2 / 2).sum()))

    says("S004:§8.7/8", (log_density(1 + 1e-4) - log_density(1 - 1e-4)) / 2e-4, 3)
    says("S004:§8.7/8", -(1 - data), 1)
