"""S001: the numbers of its rows, from what is printed, run as a program."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from effects_linear import (
    ABAR,
    ALL,
    ALPHA,
    BETA,
    BETA_TILDE,
    TEN,
    ancestral_mean,
    chain,
    data,
    deterministic,
    unit_noise,
)
from said import says, says_all


def barless(x: float, t: int) -> float:
    """The predicted data with the α of one step in both places."""
    return data(x, unit_noise(x, t), t, ALPHA)


def posterior_mean(x: float, x_0: float, t: int) -> float:
    own = np.sqrt(ALPHA[t]) * (1 - ABAR[t - 1]) / (1 - ABAR[t])
    of_data = np.sqrt(ABAR[t - 1]) * BETA[t] / (1 - ABAR[t])
    return float(own * x + of_data * x_0)


def drawn_anew() -> float:
    """All the noise of each step is drawn anew: √ᾱ x̂_0 + √(1−ᾱ) z."""
    return chain(
        lambda x, t: float(np.sqrt(ABAR[t - 1])) * data(x, unit_noise(x, t), t), lambda t: 1 - ABAR[t - 1]
    )


def point(levels: tuple[int, ...], kept: np.ndarray) -> tuple[float, float]:
    """Mean and variance of x_s = √α_s x̂_0 + √(1−α_s) ε_θ with the exact network for data at 1."""
    starts = np.array([0.0, 1.0])
    for k, s in pairwise(levels):
        noise = (starts - np.sqrt(ABAR[k])) / np.sqrt(1 - ABAR[k])
        x_0 = (starts - np.sqrt(1 - kept[k]) * noise) / np.sqrt(kept[k])
        starts = np.sqrt(kept[s]) * x_0 + np.sqrt(1 - kept[s]) * noise
    at_zero, at_one = starts
    return float(at_zero), float(at_one - at_zero) ** 2


def test_marginals_without_bars() -> None:
    says("S001:/2", ALPHA[1000], 2)
    says("S001:/2", ABAR[1000], 1)
    says("S001:/30", ALPHA.min(), 2)


def test_data_without_bars() -> None:
    says("S001:/5", 1 / np.sqrt(ALPHA[500]), 4)
    says("S001:/5", 1 / np.sqrt(ABAR[500]), 4)
    grown = chain(lambda x, t: posterior_mean(x, barless(x, t), t), lambda t: BETA_TILDE[t])
    says("S001:/5", grown, 3)
    says("S001:/13", np.sqrt(ALPHA[500] / ABAR[500]), 2)


def test_fresh_noise_or_the_predicted_one() -> None:
    says_all("S001:/8", [drawn_anew(), deterministic(ALL)], 3)
    says_all("S001:/34", [drawn_anew(), chain(ancestral_mean, lambda t: BETA_TILDE[t])], 3)


def test_any_two_levels_without_bars() -> None:
    assert np.allclose(point(TEN, ABAR), (1, 0))
    says_all("S001:/9", [*point(TEN, ALPHA), deterministic(TEN, barless), deterministic(TEN)], 3)
    says_all("S001:/20", [deterministic(TEN), deterministic(ALL)], 3)


def test_a_root_too_many() -> None:
    says("S001:/12", np.sqrt(1 - ALPHA[1]), 3)
    says("S001:/12", 1 - ABAR[1], 3)


def test_no_division_of_the_predicted_data() -> None:
    shrunk = deterministic(ALL, lambda x, t: x - float(np.sqrt(1 - ABAR[t])) * unit_noise(x, t))
    assert 1e-48 < shrunk < 1e-47
    says("S001:/28", 1e-47, 1)
