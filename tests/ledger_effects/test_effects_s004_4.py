"""What the rows of chapter 4 of S004 say in numbers: its printed forms run on unit normal data, whose perfect
network is ε_θ(x_t, t) = √(1 − ᾱ_t)·x_t, with the linear schedule."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from said import says, says_all, words

BETA = [float(beta) for beta in np.linspace(1e-4, 0.02, 1000)]
KEPT = [1.0, *(float(level) for level in np.cumprod(1 - np.array(BETA)))]


def beta_tilde(t: int) -> float:
    return (1 - KEPT[t - 1]) / (1 - KEPT[t]) * BETA[t - 1]


def sampled(mean: Callable[[int], float]) -> float:
    """log₁₀ of the variance after all steps; mean is what stands before x_t."""
    at = 0.0
    for t in range(1000, 0, -1):
        at += 2 * math.log10(mean(t))
        at += math.log10(1 + beta_tilde(t) * 10 ** min(-at, 300))
    return at


def algorithm(t: int) -> float:
    """Algorithm 4.2."""
    network = math.sqrt(1 - KEPT[t])
    return (1 - BETA[t - 1] / math.sqrt(1 - KEPT[t]) * network) / math.sqrt(1 - BETA[t - 1])


def posterior(t: int, of_x_t: float) -> float:
    """The mean of 4.5 with the data that the network predicts."""
    data = (1 - math.sqrt(1 - KEPT[t]) * math.sqrt(1 - KEPT[t])) / math.sqrt(KEPT[t])
    return math.sqrt(KEPT[t - 1]) * BETA[t - 1] / (1 - KEPT[t]) * data + of_x_t


def bar(t: int) -> float:
    """The factor of x_t as 4.5 prints it."""
    return math.sqrt(KEPT[t]) * (1 - KEPT[t - 1]) / (1 - KEPT[t])


def far_root(t: int) -> float:
    """The same as it stands a page further on, with −1 back in the indices."""
    return math.sqrt(KEPT[t] * (1 - KEPT[t - 1])) / (1 - KEPT[t])


def test_the_levels_of_the_schedule() -> None:
    says("S004:fig4.2", KEPT[1], 4)
    says_all("S004:fig4.2", [KEPT[t] for t in (250, 500, 1000)], 3)
    says("S004:§4.1/9", sum(BETA), 4)
    says("S004:§4.1/9", float(np.prod(1 - np.linspace(1e-4, 0.02, 100))), 3)


@pytest.mark.parametrize("id", ["S004:§4.1/10", "S004:§4.2/6"])
def test_the_last_level_is_close_to_the_prior(id: str) -> None:
    level = KEPT[1000]
    nats = (level + (1 - level) - 1 - math.log1p(-level)) / 2
    says_all(id, [level, nats, nats * 3 * 256**2], 3)


def test_the_sampler_as_printed_and_with_the_printed_means() -> None:
    right = 10 ** sampled(algorithm)
    for id in ("S004:alg4.2", "S004:4.5", "S004:§4.2/8"):
        says(id, right, 3)
    says("S004:4.5", 10 ** sampled(lambda t: posterior(t, bar(t))), 2)
    assert 229 < sampled(lambda t: posterior(t, far_root(t))) < 230
    says("S004:§4.2/12", 1e229, 1)
    says("S004:§4.2/12", far_root(2), 2)


def test_the_bar_in_the_kernel_shrinks_the_state_at_once() -> None:
    says_all("S004:4.3", [math.sqrt(KEPT[500]), math.sqrt(1 - BETA[499])], 3)


def test_the_posterior_variance_is_not_the_best_one() -> None:
    """x_{t−1} and x_t of unit data have the variance 1 and the covariance √α_t."""
    best = 1 - (1 - BETA[1])
    says("S004:§4.2/8", beta_tilde(2) / best, 3)


def test_a_fallen_subscript_makes_the_variance_negative() -> None:
    printed = [(1 - KEPT[t] - 1) / (1 - KEPT[t]) * BETA[t - 1] for t in range(1, 1001)]
    assert max(printed) < 0
    says("S004:§4.2/9", printed[499], 2)


def test_the_rectangle_and_the_bin() -> None:
    half = 1 / 255 / 0.01

    def above(z: float) -> float:
        return math.erfc(z / math.sqrt(2)) / 2

    for place in (0, 3):
        rectangle = 2 * half * math.exp(-(place**2) / 2) / math.sqrt(2 * math.pi)
        exceeds = math.log(rectangle / (above(place - half) - above(place + half)))
        says("S004:4.8", exceeds, 3)
        assert -(half**2) / 6 < -exceeds < max(place**2 * half**2 / 6, 1e-9)
    says("S004:4.8", math.log(above(-half) / (2 * half / math.sqrt(2 * math.pi))), 3)


def test_a_network_of_single_pixels_loses_twice_as_much() -> None:
    """Least squares of the noise of two equal pixels: from one of them, and from both."""
    signal, noise = KEPT[1], 1 - KEPT[1]
    states = np.array([[signal + noise, signal], [signal, signal + noise]])
    with_noise = math.sqrt(noise) * np.eye(2)
    both = 2 - float(np.trace(with_noise @ np.linalg.solve(states, with_noise)))
    alone = 2 * (1 - noise / (signal + noise))
    assert abs(alone / both - 2) < 1e-3
    assert "twice as large" in words("S004:4.9")


def test_the_weights_that_are_left_out_fall_and_rise_again() -> None:
    weights = {
        t: BETA[t - 1] ** 2 / (2 * beta_tilde(t) * (1 - BETA[t - 1]) * (1 - KEPT[t])) for t in range(2, 1001)
    }
    least = min(weights, key=lambda t: weights[t])
    says("S004:§4.2/22", least, 3)
    says_all("S004:§4.2/22", [weights[t] for t in (2, least, 1000)], 3)
    assert 1.9 < weights[1000] / weights[least] < 2.1


def test_little_noise_is_hard_to_predict() -> None:
    """Least squares of ε on x_t = √ᾱ_t·x_0 + √(1−ᾱ_t)·ε, and of x_0."""
    left = {t: 1 - (1 - KEPT[t]) / (KEPT[t] + 1 - KEPT[t]) for t in (1, 1000)}
    says("S004:§4.2/23", left[1], 4)
    says("S004:§4.2/23", left[1000], 1)
    data = {t: 1 - KEPT[t] / (KEPT[t] + 1 - KEPT[t]) for t in (1, 1000)}
    for t in (1, 1000):
        assert math.isclose(data[t], (1 - KEPT[t]) / KEPT[t] * left[t], rel_tol=1e-9)
    assert data[1] < data[1000]


def test_noise_and_score_differ_by_a_factor_of_the_step() -> None:
    noise = math.sqrt(1 - KEPT[1])
    says("S004:§4.3/2", 1 / noise, 3)
    says("S004:§4.3/2", 1 / noise**2, 3)


def test_a_side_of_100_does_not_come_back() -> None:
    sides = [100]
    while sides[-1] % 2 == 0:
        sides.append(sides[-1] // 2)
    up = math.ceil(sides[-1] / 2)
    says_all("S004:§4.4/4", [up, 2 * up, sides[-1]], 2)


def test_parameters_norms_and_blocks_of_the_network() -> None:
    """The library's UNet with the sizes of Ho et al., which is built without the counts of the ledger."""
    torch = pytest.importorskip("torch")
    from refdiff.nets.blocks import ResidualBlock
    from refdiff.nets.unet import UNet

    def built(skips: str) -> UNet:
        with torch.device("meta"):
            return UNet(
                in_channels=3, base=128, multipliers=(1, 2, 2, 2), attention=(1,), groups=32, skips=skips
            )

    joined, added = built("concatenate"), built("add")
    for network in (joined, added):
        says("S004:§4.4/2", sum(weights.numel() for weights in network.parameters()) / 1e6, 3)
    short = [conv for up in added.up for conv in up.skips if isinstance(conv, torch.nn.Conv2d)]
    assert {(conv.in_channels, conv.out_channels) for conv in short} == {(128, 256)}
    says_all("S004:§4.4/2", [128, 256], 3)
    modules = list(joined.modules())
    says("S004:§4.4/6", sum(isinstance(module, ResidualBlock) for module in modules), 2)
    says("S004:§4.4/6", sum(isinstance(module, torch.nn.GroupNorm) for module in modules), 2)
