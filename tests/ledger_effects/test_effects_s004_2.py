"""What the rows of chapter 2 of S004 say in numbers, from its printed forms run on normal data."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
from said import says, says_all, words


def moments(
    levels: list[float], base: float, count: int, mean: float, variance: float
) -> tuple[float, float]:
    """Algorithm 2.1 as printed, with the exact score of normal data: mean and variance of what it returns."""
    at, spread = 0.0, levels[0] ** 2
    for sigma in levels:
        epsilon = math.sqrt(base) * sigma / levels[-1]
        for _ in range(count):
            total = variance + sigma**2
            at += epsilon**2 / 2 * (mean - at) / total
            spread = (1 - epsilon**2 / 2 / total) ** 2 * spread + epsilon**2
    return at, spread


def test_the_score_between_two_laws_is_that_of_neither() -> None:
    def log_density(x: float) -> float:
        return math.log(3 / 4 * math.exp(-((x + 2) ** 2) / 2) + 1 / 4 * math.exp(-((x - 2) ** 2) / 2))

    score = (log_density(1e-5) - log_density(-1e-5)) / 2e-5
    says("S004:2.1", score, 6)
    says_all("S004:2.1", [-2, 2], 1)
    assert "the two cases say −2 and 2" in words("S004:2.1")


def test_the_error_of_the_two_cases_is_at_most_the_odds_times_the_difference() -> None:
    for x in np.linspace(-4, 4, 41):
        scores = -(x + 2), -(x - 2)
        odds = (1 / 4 * math.exp(-((x - 2) ** 2) / 2)) / (3 / 4 * math.exp(-((x + 2) ** 2) / 2))
        true = (scores[0] + odds * scores[1]) / (1 + odds)
        assert abs(true - scores[0]) <= odds * abs(scores[1] - scores[0])
    assert "times the difference of both scores" in words("S004:2.1")


def test_noise_of_one_size_for_all_levels_scales_one_score() -> None:
    """Least squares of the printed target −z/σ_i² on x̃ = x + z, over all signs of x and z."""
    size, deviation = Fraction(3, 2), Fraction(1, 3)
    draws = [(size * x, deviation * z) for x, z in product((-1, 1), repeat=2)]
    for level in (Fraction(1, 10), deviation, Fraction(4)):
        shared = sum((-z / level**2 * (x + z) for x, z in draws), Fraction(0))
        slope = shared / sum(((x + z) ** 2 for x, z in draws), Fraction(0))
        assert slope == -1 / (size**2 + deviation**2) * (deviation / level) ** 2
        assert (slope == -1 / (size**2 + level**2)) is (deviation == level)
    assert "times σ²/σ_i²" in words("S004:2.2")


def test_the_weighted_losses_of_all_levels_are_below_one_half() -> None:
    """σ² times half the mean square of z/σ² − x̃/(v + σ²), which is x̃'s best answer taken off the target."""
    for v in (Fraction(1, 10), Fraction(1), Fraction(10)):
        for square in (Fraction(1, 10_000), Fraction(1), Fraction(100)):
            of_noise, of_data = 1 / square - 1 / (v + square), -1 / (v + square)
            assert square * (of_noise**2 * square + of_data**2 * v) / 2 < Fraction(1, 2)
    assert "at most ½ a coordinate" in words("S004:§2.2/5")


def test_annealed_sampling_keeps_noise_and_a_bias() -> None:
    levels = [float(level) for level in np.geomspace(1, 0.01, 10)]
    says("S004:alg2.1", moments(levels, 2e-5, 100, 3.0, 1.0)[1], 4)
    says("S004:alg2.1", moments(levels, 2e-5, 100, 3.0, 0.0)[1], 3)
    says_all("S004:alg2.1", [2e-5, 1e-2, 1e-4], 1)


def test_annealed_sampling_runs_away_beyond_four_times_the_last_square() -> None:
    levels = [float(level) for level in np.geomspace(1, 0.1, 3)]
    at_rest, away = (moments(levels, share * 0.1**2, 200, 0.0, 0.0)[1] for share in (3.9, 4.1))
    assert at_rest < 1 < 1e6 < away
    assert "s < 4σ_L²" in words("S004:alg2.1")
