"""S003: the numbers of its rows, from what is printed, run as a program."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from effects_linear import ABAR, ALPHA, BETA, BETA_TILDE, T, ancestral_mean, chain, deterministic
from said import says, says_all


def test_laws_with_the_data_or_the_bar_lost() -> None:
    says("S003:§1/2", 1 - ALPHA[499], 2)
    says("S003:§1/2", 1 - ABAR[499], 2)


def test_another_meaning_of_a_letter() -> None:
    """ᾱ_t and α_t are what the notes define, β̄_t² is 1 − ᾱ_t."""
    says("S003:/8", ABAR[500], 2)
    says("S003:/8", np.sqrt(ABAR[500]), 3)
    says("S003:/9", ABAR[500] ** 2 + 1 - ABAR[500], 3)
    # what (x_t − β̄ε)/ᾱ makes of x_t = √ᾱ·1 + β̄ε
    says_all("S003:/10", [np.sqrt(ABAR[t]) / ABAR[t] for t in (500, 1000)], 3)
    bars = [np.sqrt(1 - ABAR[t]) for t in (499, 500)]
    says("S003:§1/4", bars[0] * BETA[500] / bars[1], 3)
    says("S003:§1/4", np.sqrt(BETA_TILDE[500]), 4)


def test_a_step_that_divides_by_alpha() -> None:
    """The printed mean with σ_t = 0 and the true noise, from x_T = √ᾱ_T·1: what comes of the data."""
    signal = np.sqrt(ABAR[T])
    for t in range(T, 0, -1):
        signal = signal / ALPHA[t]
    says("S003:/12", float(signal), 3)


def test_ddpm_without_its_noise_is_not_ddim() -> None:
    says("S003:§1.2/2", chain(ancestral_mean, lambda t: 0.0), 1)


def kernel(s: int, t: int) -> tuple[float, float]:
    """Slope and variance of the printed skip-step posterior at x_0 = √ᾱ_t x_t, by its precisions."""
    kept = ABAR[t] / ABAR[s]
    if s == 0:
        return float(np.sqrt(ABAR[t])), 0.0
    variance = 1 / (kept / (1 - kept) + 1 / (1 - ABAR[s]))
    slope = np.sqrt(kept) / (1 - kept) + np.sqrt(ABAR[s] * ABAR[t]) / (1 - ABAR[s])
    return float(slope * variance), float(variance)


def test_one_estimate_of_the_data() -> None:
    """Unit data: x_{t−1} given x_t has the variance 1 − α_t, the step β̃_t."""
    missing = {t: 1 - BETA_TILDE[t] / (1 - ALPHA[t]) for t in (1, 2, 10, 100, 500)}
    assert missing.pop(1) == 1
    says_all("S003:§1.2/3", list(missing.values()), 3)


def test_a_skip_with_one_estimate() -> None:
    found = []
    for n in (1, 10, 50, 100):
        slope, variance = kernel(500 - n, 500)
        kept = ABAR[500] / ABAR[500 - n]
        # the mean of x_s given x_t is √r·x_t for unit data, and its variance 1 − r
        assert slope == pytest.approx(np.sqrt(kept), rel=1e-10)
        found.append(1 - variance / (1 - kept))
    says_all("S003:§2.1/5", found, 3)


def test_the_whole_chain_of_skips() -> None:
    noisy, silent = [], []
    for n in (1, 10, 50, 100, 500, 1000):
        spread = 1.0
        levels = range(T, -1, -n)
        for t, s in pairwise(levels):
            slope, variance = kernel(s, t)
            spread = slope**2 * spread + variance
        noisy.append(spread)
        silent.append(deterministic(levels))
    says_all("S003:§2.1/6", noisy, 3)
    says_all("S003:§2.1/8", silent[:4], 3)


def test_a_quarter_of_the_loss_without_noise() -> None:
    """Lost in one short skip in the middle, of unit variance."""
    s, t = 700, 701
    slope, variance = kernel(s, t)
    lost = 1 - slope**2 - variance
    angle = np.arccos(np.sqrt(ABAR[t])) - np.arccos(np.sqrt(ABAR[s]))
    assert np.sin(angle) ** 2 / lost == pytest.approx(1 / 4, rel=0.02)


def test_the_shape_that_one_estimate_misses() -> None:
    """x_0 given x_t is 0 or 1, with chances 4/5 and 1/5: the third central moment of x_s given x_t."""
    kept, level = Fraction(1, 4), Fraction(16, 25)
    gain = Fraction(4, 5) * (1 - kept) / (1 - kept * level)
    chance = Fraction(1, 5)
    ends = {Fraction(0): 1 - chance, gain: chance}
    centre = sum(w * x for x, w in ends.items())
    skew = sum(w * (x - centre) ** 3 for x, w in ends.items())
    of_data = chance * (1 - chance) * (1 - 2 * chance)
    assert skew == gain**3 * of_data != gain**2 * of_data
