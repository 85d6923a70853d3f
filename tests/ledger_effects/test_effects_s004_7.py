"""The numbers in the rows of chapter 7, from its algorithms run as printed on unit normal data.

A state is its mean and variance; the perfect network of unit data predicts √(1−ᾱ_t)·x_t. A classifier is the
gradient of its log-probability, intercept and slope, by the level.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from said import says

BETAS = np.concatenate([[0.0], np.linspace(1e-4, 0.02, 1000)])
LEVELS = np.cumprod(1 - BETAS)
NOISE = 0.1
Classifier = Callable[[float], tuple[float, float]]


def log_linear(level: float) -> tuple[float, float]:
    """log p(y | x_0) = x_0: given x_t its mean of exponentials has the slope √ᾱ_t."""
    return math.sqrt(level), 0.0


def observed(level: float) -> tuple[float, float]:
    """x_0 seen as 1 with noise: given x_t the observation has the mean √ᾱ_t·x_t."""
    return math.sqrt(level) / (1 - level + NOISE), -level / (1 - level + NOISE)


def levels(steps: int) -> np.ndarray:
    kept: np.ndarray = LEVELS[np.linspace(0, 1000, steps + 1).astype(int)]
    return kept


def algorithm_7_1(
    steps: int, classifier: Classifier, *, deviation: bool = False, bar: bool = True, above: bool = False
) -> tuple[float, float]:
    """Its lines, with σ_t·g, √(1−α_t) or the classifier of level t where the flags say so."""
    kept = levels(steps)
    mean, variance = 0.0, 1.0
    for t in range(steps, 0, -1):
        alpha = kept[t] / kept[t - 1]
        sigma = math.sqrt((1 - kept[t - 1]) / (1 - kept[t]) * (1 - alpha))
        below = 1 - kept[t] if bar else 1 - alpha
        slope = (1 - (1 - alpha) / math.sqrt(below) * math.sqrt(1 - kept[t])) / math.sqrt(alpha)
        intercept, turn = classifier(kept[t] if above else kept[t - 1])
        weight = sigma if deviation else sigma**2
        factor = slope * (1 + weight * turn)
        mean, variance = factor * mean + weight * intercept, factor**2 * variance + sigma**2
    return mean, variance


def exact_kernels(steps: int, classifier: Classifier) -> tuple[float, float]:
    """7.10 with the reverse kernel of unit data itself."""
    kept = levels(steps)
    mean, variance = 0.0, 1.0
    for t in range(steps, 0, -1):
        alpha = kept[t] / kept[t - 1]
        intercept, turn = classifier(kept[t - 1])
        factor = math.sqrt(alpha) * (1 + (1 - alpha) * turn)
        mean = factor * mean + (1 - alpha) * intercept
        variance = factor**2 * variance + 1 - alpha
    return mean, variance


def algorithm_7_2(steps: int, eta: float, sign: int, *, stale: bool = False) -> float:
    """Variance of what it returns without guidance; a factor for the start and one for each noise."""
    kept = levels(steps)
    x = np.zeros(steps + 1)
    x[0] = 1.0
    start = x
    for i in range(steps, 0, -1):
        above, below = kept[i], kept[i - 1]
        sigma = eta * math.sqrt((1 - below) / (1 - above)) * math.sqrt(1 - above / below)
        eps = math.sqrt(1 - above) * x
        data = ((start if stale else x) - math.sqrt(1 - above) * eps) / math.sqrt(above)
        x = math.sqrt(below) * data + math.sqrt(max(1 - below + sign * sigma**2, 0.0)) * eps
        x[i] += sigma
    return float(x @ x)


def test_the_widths_of_the_kernels() -> None:
    shares = (1 - LEVELS[:-1]) / (1 - LEVELS[1:]) * BETAS[1:]
    for t in (2, 100, 500, 1000):
        says("S004:§7.2/6", math.sqrt(shares[t - 1]), 3)
        says("S004:7.9", shares[t - 1] / 8, 3)
    below, above = LEVELS[900], LEVELS[1000]
    says("S004:§7.2/6", math.sqrt((1 - below) / (1 - above) * (1 - above / below)), 3)
    says("S004:alg7.1", 1 / math.sqrt(shares[1]), 3)
    says("S004:alg7.1", 1 / math.sqrt(shares[999]), 1)
    assert (np.diff(shares[1:]) > 0).all()


@pytest.mark.parametrize(("id", "steps"), [
    ("S004:7.10", 10), ("S004:7.10", 100), ("S004:7.10", 1000),
    ("S004:§7.2/9", 5), ("S004:§7.2/9", 20), ("S004:§7.2/9", 1000),
])  # fmt: skip
def test_the_shift_alone(id: str, steps: int) -> None:
    mean, variance = exact_kernels(steps, observed)
    says(id, mean, 3)
    says(id, variance, 3)
    says(id, 1 / (1 + NOISE), 3)
    says(id, 1 - 1 / (1 + NOISE), 3)


def test_the_power_over_its_sum() -> None:
    chance, scale = 0.88, 10
    says("S004:§7.2/12", scale * (1 - chance), 2)
    powered = chance**scale / (chance**scale + (1 - chance) ** scale)
    says("S004:§7.2/12", scale * (1 - powered), 1)


def test_the_gradient_with_the_deviation() -> None:
    says("S004:alg7.1", algorithm_7_1(1000, log_linear, deviation=True)[0], 3)
    says("S004:alg7.1", algorithm_7_1(1000, log_linear)[0], 2)
    says("S004:alg7.1", algorithm_7_1(1000, observed, deviation=True)[1], 1)
    says("S004:alg7.1", NOISE / (1 + NOISE), 2)


def test_the_mean_without_its_bar() -> None:
    mean, variance = algorithm_7_1(1000, log_linear, bar=False)
    says("S004:§7.2/17", mean, 2)
    says("S004:§7.2/17", variance, 2)
    says("S004:§7.2/17", float(np.sqrt((1 - LEVELS[1:]) / BETAS[1:]).max()), 3)


def test_the_classifier_of_the_level_above() -> None:
    for above in (True, False):
        says("S004:§7.2/18", algorithm_7_1(1000, observed, above=above)[1], 3)
        says("S004:§7.2/18", algorithm_7_1(20, observed, above=above)[0], 2)
    says("S004:§7.2/18", NOISE / (1 + NOISE), 3)
    says("S004:§7.2/18", 1 / (1 + NOISE), 2)


def test_the_plus_under_the_root() -> None:
    says("S004:alg7.2", algorithm_7_2(1000, 0.5, 1), 2)
    says("S004:alg7.2", algorithm_7_2(1000, 1.0, 1), 2)
    says("S004:alg7.2", algorithm_7_2(10, 1.0, 1), 2)
    assert abs(algorithm_7_2(1000, 1.0, -1) - 1) < 0.01
    assert algorithm_7_2(10, 0.0, 1) == algorithm_7_2(10, 0.0, -1)


def test_the_loop_that_reads_the_start() -> None:
    says("S004:§7.3/5", algorithm_7_2(10, 0.0, -1, stale=True), 3)
    says("S004:§7.3/5", algorithm_7_2(10, 0.0, -1), 3)


def test_any_similarity_at_every_level() -> None:
    def pull(level: float) -> tuple[float, float]:
        return 0.0, -1 / NOISE

    says("S004:§7.4/3", exact_kernels(1000, pull)[1], 3)
    says("S004:§7.4/3", exact_kernels(10, pull)[1], 2)
    says("S004:§7.4/3", 1 / (1 + 1 / NOISE), 3)


def test_the_predicted_data_without_their_bars() -> None:
    eps = math.sqrt(1 - LEVELS[500])
    says("S004:§7.4/8", (1 - math.sqrt(BETAS[500]) * eps) / math.sqrt(1 - BETAS[500]), 3)
    says("S004:§7.4/8", (1 - math.sqrt(1 - LEVELS[500]) * eps) / math.sqrt(LEVELS[500]), 3)


@pytest.mark.parametrize("t", [10, 100, 500, 1000])
def test_a_model_of_data_asked_about_the_predicted_data(t: int) -> None:
    """Slope in x_t of the log-likelihood of y at x̂_0, over that of q(y | x_t)."""
    point = math.sqrt(LEVELS[t]) / NOISE
    true = math.sqrt(LEVELS[t]) / (NOISE + 1 - LEVELS[t])
    says("S004:§7.4/9", point / true, 3)


def test_the_prediction_varies_less_than_the_data() -> None:
    """S004:§7.4/13, at ᾱ_t = 1/100: x̂_0 by 5.4 for a state of unit variance."""
    level = 0.01
    predicted = (1 - math.sqrt(1 - level) * math.sqrt(1 - level)) / math.sqrt(level)
    assert math.isclose(predicted**2, level)
