"""S000: the numbers of its rows, from what is printed, run as a program."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from effects_linear import ABAR, ALPHA, BETA, BETA_TILDE, T, ancestral_mean, chain
from said import says, says_all

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
Loss = tuple[float, float, float, float]


def two_noises(t: int) -> Loss:
    """Mean and variance of (ε_t − ε_θ)² and of its derivative: x_0, ε_{t−1} and ε_t drawn by the text."""
    drawn = []
    for picked in product(range(5), repeat=3):
        data, before, last = NODES[list(picked)]
        previous = np.sqrt(ABAR[t - 1]) * data + np.sqrt(1 - ABAR[t - 1]) * before
        x = np.sqrt(ALPHA[t]) * previous + np.sqrt(BETA[t]) * last
        # given x_t, the noise of the last step has the mean √β_t·x_t where the data are standard normal
        error = last - np.sqrt(BETA[t]) * x
        drawn.append((WEIGHTS[list(picked)].prod(), error))
    return _moments(drawn, 0.0)


def one_noise(t: int) -> Loss:
    """The same after merging: (Sε − ε_θ)² + C² with S² = β_t/(1−ᾱ_t), drawn by x_0 and ε."""
    share = np.sqrt(BETA[t] / (1 - ABAR[t]))
    drawn = []
    for picked in product(range(5), repeat=2):
        data, noise = NODES[list(picked)]
        x = np.sqrt(ABAR[t]) * data + np.sqrt(1 - ABAR[t]) * noise
        drawn.append((WEIGHTS[list(picked)].prod(), share * noise - np.sqrt(BETA[t]) * x))
    return _moments(drawn, float(1 - share**2))


def _moments(drawn: list[tuple[float, float]], constant: float) -> Loss:
    weights, errors = np.array(drawn).T
    loss, slope = errors**2 + constant, -2 * errors
    mean, mean_slope = weights @ loss, weights @ slope
    return mean, weights @ (loss - mean) ** 2, mean_slope, weights @ (slope - mean_slope) ** 2


def test_the_last_level() -> None:
    says("S000:1", ABAR[T], 3)
    says("S000:1", -np.log(1 - ABAR[T]) / 2, 3)
    says("S000:§2/2", chain(ancestral_mean, lambda t: 0.0), 1)


def test_small_steps() -> None:
    """β³/12, where the third derivative of the log-density is 1."""
    for row in ("S000:§3/4", "S000:§4/4"):
        says_all(row, [BETA[T] ** 3 / 12, (BETA**3).sum() / 12], 3)


def test_variances_of_a_sampler() -> None:
    says("S000:§4/5", chain(ancestral_mean, lambda t: BETA_TILDE[t]), 3)
    says("S000:§7.2/2", chain(ancestral_mean, lambda t: BETA[t] ** 2), 2)
    assert chain(ancestral_mean, lambda t: BETA[t]) == pytest.approx(1, abs=1e-9)
    assert chain(ancestral_mean, lambda t: BETA[t] if t > 1 else 0.0) == pytest.approx(1, abs=1.1e-4)


def test_two_variances() -> None:
    says_all("S000:§4/14", [BETA_TILDE[t] / BETA[t] for t in (1, 2, 100, 1000)], 3)


def test_a_weight_without_its_divisor() -> None:
    printed, true = BETA**2 / ALPHA, BETA**2 / (ALPHA * np.append(1.0, 1 - ABAR[1:]))
    says("S000:§6/5", true[1] / printed[1], 3)
    assert true[T] / printed[T] == pytest.approx(1, abs=1e-4)


def test_merged_noises() -> None:
    two, one = two_noises(500), one_noise(500)
    assert two[0] == pytest.approx(one[0], rel=1e-10)
    assert two[1] / one[1] == pytest.approx(1e6, rel=0.5)
    says("S000:§7.1/5", two[3] / one[3], 4)


@pytest.mark.parametrize("t", [2, 30, 500])
def test_what_merging_takes_away(t: int) -> None:
    """As S000:§7.1/4 and S000:§7.1/5 say it, with C² = 1 − S²."""
    two, one = two_noises(t), one_noise(t)
    square = BETA[t] / (1 - ABAR[t])
    rest = 1 - square
    assert two[1] - one[1] == pytest.approx(4 * rest * square * ABAR[t] + 2 * rest**2, rel=1e-9)
    assert two[3] - one[3] == pytest.approx(4 * rest, rel=1e-9)
    assert two[2] == pytest.approx(0, abs=1e-12) and one[2] == pytest.approx(0, abs=1e-12)


def test_the_fading_signal() -> None:
    """β_t = 1/t² from t = 2 keeps more than half; a schedule that shrinks with 1/T, a fixed share."""
    steps = np.arange(2, 100_000, dtype=float)
    assert 0.5 < np.prod(1 - 1 / steps**2) < 0.50001
    kept = [np.prod(1 - 1000 / many * np.linspace(1e-4, 0.02, many)) for many in (10_000, 100_000)]
    assert kept[0] == pytest.approx(kept[1], rel=0.01)
