"""S002: the numbers of its rows, from what is printed, run as a program."""

from __future__ import annotations

import numpy as np
from effects_linear import ABAR, ALPHA, BETA, BETA_TILDE, T, unit_noise
from said import says, says_all


def test_what_a_level_tells_of_the_data() -> None:
    """Mean divergence of q(x_t | x_0) from N(0, 1) for unit data, by its two parts."""
    nats = [(ABAR[t] + 1 - ABAR[t] - 1 - np.log(1 - ABAR[t])) / 2 for t in (1000, 500, 100)]
    says_all("S002:§1/2", nats, 3)
    says_all("S002:§2/8", nats, 3)
    says("S002:§2/8", np.sqrt(ABAR[500]), 2)


def test_the_predicted_noise_taken_away_whole() -> None:
    says("S002:§1/3", 1.0 - unit_noise(1.0, 1000), 1)


def test_another_range_of_the_schedule() -> None:
    says("S002:§3/1", np.sqrt(0.002), 2)
    slow = np.prod(1 - np.linspace(1e-4, 0.002, T))
    says_all("S002:§3/1", [slow, np.sqrt(slow)], 2)
    says("S002:§3/1", ABAR[T], 1)


def test_a_product_from_zero() -> None:
    """The table's first entry as α_0: the printed ᾱ_1 has two factors."""
    table = 1 - np.linspace(1e-4, 0.02, T)
    says("S002:§4/1", 1 - np.prod(table[:2]), 2)
    says("S002:§4/1", 1 - ABAR[1], 1)
    assert 1 - table[0] > 0


def test_the_factor_of_the_step_before() -> None:
    """x_t = √α_t x + √(1−α_{t−1}) ε; the first step has no α_0, so adds nothing or what step 1 adds."""
    for first in (1.0, float(ALPHA[1])):
        before = np.concatenate([[first], ALPHA[1:]])
        variance = 1.0
        for t in range(1, T + 1):
            variance = ALPHA[t] * variance + 1 - before[t - 1]
        says("S002:/3", float(variance), 4)


def test_the_spread_of_the_prediction() -> None:
    """ᾱ_t = 16/25 and unit data: the regression of the noise on x_t."""
    covariance, spread = np.sqrt(1 - 0.64), 0.64 * 1 + (1 - 0.64)
    says("S002:§5/2", (covariance / spread) ** 2 * spread, 2)


def test_a_kernel_with_bars() -> None:
    says("S002:/11", float(np.prod(ABAR[1:101])), 2)
    says("S002:/11", ABAR[100], 3)


def test_a_precision_in_the_place_of_a_deviation() -> None:
    printed = ALPHA[500] ** 2 / BETA[500] + 1 / (1 - ABAR[499])
    says("S002:/14", printed, 3)
    says("S002:/14", np.sqrt(printed), 2)
    says("S002:/14", np.sqrt(BETA_TILDE[500]), 3)


def test_the_noise_of_one_step_for_that_of_all() -> None:
    """Covariances with x_t on unit data: √β_t for the noise of step t, √(1−ᾱ_t) for all of it."""
    says("S002:§5/11", np.sqrt(BETA[500]) / np.sqrt(1 - ABAR[500]), 3)


def test_variances_do_not_add_in_a_product() -> None:
    """The text's rule for S002:/12, and what the row says that it gives."""
    t = 500
    rule = BETA[t] + (1 - ABAR[t - 1]) - (1 - ABAR[t])
    assert np.isclose(rule, BETA[t] * (1 - ABAR[t - 1]))
    assert np.isclose(rule / (1 - ABAR[t]), BETA_TILDE[t])
