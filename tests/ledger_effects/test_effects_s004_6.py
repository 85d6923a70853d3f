"""The numbers in the rows of chapter 6, by the moments of neighbouring states of the forward chain."""

from __future__ import annotations

import math

import numpy as np
from said import says

BETAS = np.concatenate([[0.0], np.linspace(1e-4, 0.02, 1000)])
LEVELS = np.cumprod(1 - BETAS)


def test_the_printed_bound_is_too_large_by_twice_the_entropy() -> None:
    x, width = np.linspace(-12, 12, 200_001, retstep=True)
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    mean_log = float((density * np.log(density)).sum() * width)
    says("S004:6.1", -mean_log - mean_log, 3)


def test_how_much_more_the_target_varies_without_the_data() -> None:
    """Both targets of t = 500 for unit data, as rows over x_0, the noise of x_{t−1} and that of the step."""
    t = 500
    before = np.array([math.sqrt(LEVELS[t - 1]), math.sqrt(1 - LEVELS[t - 1]), 0.0])
    here = math.sqrt(1 - BETAS[t]) * before + np.array([0.0, 0.0, math.sqrt(BETAS[t])])
    data = np.array([1.0, 0.0, 0.0])

    given = np.array([data, here]).T
    posterior_mean = given @ np.linalg.lstsq(given, before, rcond=None)[0]

    def around_mean(target: np.ndarray) -> float:
        rest = target - (target @ here) / (here @ here) * here
        return float(rest @ rest)

    says("S004:§6/1", around_mean(before) / around_mean(posterior_mean), 4)


def test_one_step_from_noise_to_two_points() -> None:
    """x_1 tells nothing of x_0: the best normal kernel has the moments of the data for every x_1."""
    data = np.array([1.0, -1.0])
    says("S004:§6/2", float(data.mean()), 1)
    says("S004:§6/2", float(data.var()), 1)


def test_the_variance_of_the_forward_and_of_the_reverse_kernel() -> None:
    """S004:§6/5: equal for unit data alone."""
    share = 0.3
    for data in (0.5, 1.0, 2.0):
        total = share * data + 1 - share
        reverse = data - (math.sqrt(share) * data) ** 2 / total
        assert math.isclose(reverse, 1 - share) == (data == 1)


def test_training_without_the_data_ends_at_the_same_slope() -> None:
    """S004:§6/13: least squares over pairs of neighbours, and over the means given the data."""
    below, share = 0.64, 0.49
    level = below * share
    pairs = math.sqrt(share)
    weight_data = math.sqrt(below) * (1 - share) / (1 - level)
    weight_here = math.sqrt(share) * (1 - below) / (1 - level)
    assert math.isclose(weight_data * math.sqrt(level) + weight_here, pairs)
