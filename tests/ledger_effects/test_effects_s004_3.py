"""What the rows of chapter 3 of S004 say in numbers, from exact normal chains on the linear schedule."""

from __future__ import annotations

import math

import numpy as np
from said import says, says_all

BETA = [float(beta) for beta in np.linspace(1e-4, 0.02, 1000)]
KEPT = [1.0, *(float(level) for level in np.cumprod(1 - np.array(BETA)))]


def surprise(variance: float, error: float) -> float:
    """The mean of −log of a normal density of this variance, the error having this mean square."""
    return (math.log(2 * math.pi * variance) + error / variance) / 2


def test_the_noised_data_tell_less_and_less_of_a_datum() -> None:
    for t in (1000, 500, 100):
        level = KEPT[t]
        told = (level + (1 - level) - 1 - math.log1p(-level)) / 2
        says("S004:§3.1/2", told, 3)
        says("S004:§3.1/3", told, 3)


def test_the_reverse_chain_started_in_the_simple_law_loses_a_share_of_the_mean() -> None:
    """Data of mean 1 and variance 1: both the exact kernel and its noise keep the variance at 1."""
    mean = 0.0
    for t in range(1000, 0, -1):
        mean = math.sqrt(KEPT[t - 1]) + math.sqrt(1 - BETA[t - 1]) * (mean - math.sqrt(KEPT[t]))
    says("S004:§3.1/4", 1 - mean, 3)


def test_the_reverse_kernel_of_two_points_is_nearly_normal() -> None:
    for t in (100, 200, 500):
        slope = math.sqrt(KEPT[t - 1]) / (1 - KEPT[t - 1])
        place = np.linspace(0, 8, 200_001) / slope
        third = -2 * slope**3 * np.tanh(slope * place) / np.cosh(slope * place) ** 2
        says("S004:§3.3/1", BETA[t - 1] ** 3 * float(np.max(third**2)) / 12, 3)


def test_more_steps_cost_less_by_the_square_of_their_number() -> None:
    lost = [float(np.sum(np.linspace(0.1 / n, 20 / n, n) ** 3)) / 12 for n in (1000, 500, 250)]
    says_all("S004:§3.3/2", lost, 3)
    assert abs(lost[1] / lost[0] / 4 - 1) < 0.01


def test_the_posterior_variance_falls_short_of_the_rate() -> None:
    for t in (2, 10, 100, 500):
        says("S004:§3.4/3", 1 - (1 - KEPT[t - 1]) / (1 - KEPT[t]), 3)


def test_the_last_term_is_a_mean_over_x_1_too() -> None:
    """Unit normal data: the exact kernel has the mean √α_1·x_1 and the variance β_1."""
    alpha, beta = 1 - BETA[0], BETA[0]
    together = surprise(beta, 1 - 2 * alpha + alpha)
    at_zero, apart = surprise(beta, 1), surprise(beta, 1 + alpha)
    says("S004:3.11", together, 3)
    says_all("S004:3.11", [at_zero, apart], 4)
    says("S004:3.13", apart - together, 4)


def test_with_the_forward_kernel_the_terms_exceed_the_likelihood() -> None:
    """Unit normal data and the exact model N(√α_t·x_t, β_t), which is its own reversal."""
    printed, right = 0.0, 0.0
    for t in range(2, 1001):
        beta = BETA[t - 1]
        step = math.sqrt(1 - beta)
        before = KEPT[t - 1] + (1 - KEPT[t - 1])
        now, shared = step**2 * before + beta, step * before
        reverse = surprise(beta, before - 2 * step * shared + step**2 * now)
        forward = surprise(beta, now - 2 * step * shared + step**2 * before)
        within = (1 - KEPT[t - 1]) / (1 - KEPT[t]) * beta
        printed += forward - reverse
        right += surprise(within, within) - reverse
    level = KEPT[1000]
    ends = -surprise(1, 1) + surprise(1 - level, 1 - level) - surprise(BETA[0], BETA[0])
    says_all("S004:3.12", [right, printed + ends, -surprise(1, 1)], 3)
    assert abs(printed) < 1e-6 and math.isclose(right + ends, -surprise(1, 1)), "the bound is tight"
