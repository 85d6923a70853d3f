"""The linear schedule of 1000 steps in float64, and samplers run on moments of normal data.

Written from the documents and the paper alone: nothing of the ledger or of the registry is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

T = 1000
BETA = np.concatenate([[0.0], np.linspace(1e-4, 0.02, T)])
ALPHA = 1 - BETA
ABAR = np.cumprod(ALPHA)
BETA_TILDE = np.concatenate([[0.0], (1 - ABAR[:-1]) / (1 - ABAR[1:]) * BETA[1:]])
ALL = tuple(range(T, -1, -1))
TEN = tuple(range(T, -1, -100))
Level = Callable[[int], float]
Map = Callable[[float, int], float]
"""Of a state and the level it is at."""


def unit_noise(x: float, t: int) -> float:
    """The exact network's noise on standard normal data."""
    return float(np.sqrt(1 - ABAR[t])) * x


def data(x: float, noise: float, t: int, level: Sequence[float] = ABAR) -> float:
    """The predicted data, with the levels as named."""
    return float((x - np.sqrt(1 - level[t]) * noise) / np.sqrt(level[t]))


def unit_data(x: float, t: int) -> float:
    """The data that the exact network predicts on standard normal ones."""
    return data(x, unit_noise(x, t), t)


def ancestral_mean(x: float, t: int) -> float:
    """The mean of a step of ancestral sampling, the exact network on standard normal data."""
    return float((x - BETA[t] / np.sqrt(1 - ABAR[t]) * unit_noise(x, t)) / np.sqrt(ALPHA[t]))


def chain(step: Map, noise: Level, start: float = 1.0) -> float:
    """Variance after all steps of linear maps of the state plus noise of a variance."""
    variance = start
    for t in range(T, 0, -1):
        variance = step(1.0, t) ** 2 * variance + noise(t)
    return variance


def deterministic(levels: Sequence[int], predicted: Map = unit_data) -> float:
    """Variance after steps that keep the predicted noise, on standard normal data."""
    variance = 1.0
    for t, s in pairwise(levels):
        slope = np.sqrt(ABAR[s]) * predicted(1.0, t) + np.sqrt(1 - ABAR[s]) * unit_noise(1.0, t)
        variance = float(slope) ** 2 * variance
    return variance
