"""What the rows of chapter 1 of S004 say in numbers, from its printed forms run on exact data."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from said import says, says_all, words


def lowest(loss: Callable[[Fraction], Fraction]) -> Fraction:
    """Where a parabola given by three of its values is least."""
    low, middle, high = (loss(Fraction(k)) for k in (-1, 0, 1))
    assert low + high > 2 * middle
    return (low - high) / (2 * (low + high - 2 * middle))


def test_a_langevin_chain_is_too_wide_and_forgets_its_start_slowly() -> None:
    def width(epsilon: Fraction) -> Fraction:
        kept = (1 - epsilon**2 / 2) ** 2
        return epsilon**2 / (1 - kept) - 1

    says_all("S004:§1.2/7", [width(Fraction(1, k)) for k in (2, 10, 100)], 3)
    left = {}
    for count in (100, 10_000):
        mean = 1.0
        for _ in range(count):
            mean -= mean / count / 2
        left[count] = mean
        says("S004:§1.2/7", mean, 3)
    assert abs(left[10_000] - math.exp(-0.5)) < 1e-4
    assert "e^{−1/2}" in words("S004:§1.2/7")


def test_chains_in_training_learn_a_variance_half_a_step_too_small_and_a_part_of_the_gradient() -> None:
    eta, low, high = 1e-3, 0.5, 1.0
    for _ in range(60):
        v = (low + high) / 2
        stationary = 2 * eta / (1 - (1 - eta / v) ** 2)
        low, high = (v, high) if stationary < 1 else (low, v)
    assert abs((1 - v) / (eta / 2) - 1) < 1e-3
    assert "too small, by η/2 to first order" in words("S004:§1.2/1")

    data, model, variance, step = (Fraction(k, 7) for k in (9, 2, 10, 3))
    mean = data
    for _ in range(5):
        mean += step * (model - mean) / variance
    assert (data - mean) / (data - model) == 1 - (1 - step / variance) ** 5
    assert "1 − (1 − η/v)^n" in words("S004:§1.2/1")


def test_likelihood_and_scores_learn_different_energies_where_the_model_is_wrong() -> None:
    """Standard normal data: the slope of E = h(x_1² + 2x_2²)/2 has the mean square 5h², its Laplacian is 3h;
    the mean of E is 3h/2, and log Z is −log h and a constant."""
    by_scores = lowest(lambda h: 5 * h**2 / 2 - 3 * h)
    by_likelihood = min((Fraction(k, 300) for k in range(1, 900)), key=lambda h: 3 * h / 2 - math.log(h))
    assert (by_likelihood, by_scores) == (Fraction(2, 3), Fraction(3, 5))
    assert f"h = {by_likelihood} by likelihood and h = {by_scores} by scores" in words("S004:§1.3/1")


def test_explicit_score_matching_as_printed_has_its_minimum_at_no_law() -> None:
    v = Fraction(7, 3)
    assert lowest(lambda k: k**2 * v / 2 - k) == 1 / v
    assert lowest(lambda k: k**2 * v / 2 + k) == -1 / v
    assert lowest(lambda k: (k**2 * v + k) / 2) == -1 / (2 * v)
    for part in ("k²v/2 + k", "k = −1/v", "at −1/(2v)"):
        assert part in words("S004:1.9")


def test_on_uniform_data_the_explicit_loss_has_a_best_variance_and_the_divergence_none() -> None:
    square = Fraction(1, 3)
    best = 1 / lowest(lambda k: k**2 * square / 2 - k)
    assert best == square, "precision 3"
    assert "variance 1/3" in words("S004:§1.3/2")
    divergence = [square / Fraction(wide) ** 2 / 2 for wide in (1, 10, 100)]
    assert sorted(divergence, reverse=True) == divergence


def test_the_noised_data_diverge_little_from_the_data() -> None:
    sizes = []
    for sigma in (1.0, 0.1, 0.01):
        wide = sigma**2
        sizes.append((math.log1p(wide) - wide / (1 + wide)) / 2)
    says_all("S004:§1.3/6", sizes, 3)
    assert abs(sizes[1] / (0.1**4 / 4) - 1) < 0.02


def test_the_denoising_loss_of_the_perfect_energy_is_not_zero() -> None:
    """The perfect energy of x̃ = x + z is x̃²/(2(1 + σ²)); the loss is a quadratic form in x and z."""
    sigma = Fraction(1, 100)
    of_noise, of_data = 1 / sigma**2 - 1 / (1 + sigma**2), -1 / (1 + sigma**2)
    loss = (of_noise**2 * sigma**2 + of_data**2) / 2
    says("S004:1.13", loss, 5)
    says("S004:1.13", sigma, 1)
    assert abs(loss * 2 * sigma**2 - 1) < 1e-3, "as 1/(2σ²), S004:§1.3/6"
