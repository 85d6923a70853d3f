"""Gaussian data with observations and classifiers, and their conditional laws by quadrature."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from reference_laws import named
from torch import Tensor

from refdiff import guidance
from refdiff.data import GaussianLaw
from refdiff.guided_gaussian import (
    LinearObservation,
    LogLinearClassifier,
    ProbitClassifier,
    gaussian_reverse,
)

LINEAR, COSINE = named("linear-1000"), named("cosine-1000")


def double(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


PLANE = GaussianLaw(double([0.5, -1.0]), double([[0.6, 0.2], [0.2, 0.3]]))
LINE = GaussianLaw(double([0.7]), double([[0.4]]))
OBSERVED_PLANE = LinearObservation(PLANE, double([[1.0, 0.5]]), double([[0.2]]), double([1.3]))
TILTED = LogLinearClassifier(LINE, double([-1.25]))


def observed(variance: float = 0.3) -> LinearObservation:
    return LinearObservation(LINE, double([[-1.5]]), double([[variance]]), double([0.9]))


OBSERVED = observed()
PROBIT = ProbitClassifier(LINE, double([-2.5]), 0.4)
PROBIT_PLANE = ProbitClassifier(PLANE, double([1.0, -2.0]), 0.3)


BROKEN_EPS: dict[str, Callable[..., Tensor]] = {
    "away from the label": lambda e, g, a: guidance.guided_eps(e, -g, a),
    "variance": lambda e, g, a: e - (1 - a) * g,
    "root missing": lambda e, g, a: e - g,
    "signal": lambda e, g, a: e - math.sqrt(a) * g,
    "scale as one more": lambda e, g, a: guidance.guided_eps(e, g, a, 1 + 1.0),
    "unguided": lambda e, g, a: e,
    "gradients of the batch summed": lambda e, g, a: guidance.guided_eps(e, g.sum(0).expand_as(g), a),
}


GRID = torch.linspace(-9, 9, 1801, dtype=torch.float64)
"""Twenty points and more in each standard deviation below, so the trapezoid rule is exact to rounding."""


LABELS = {
    "observed": -((0.9 + 1.5 * GRID) ** 2) / 0.6,
    "probit": torch.special.log_ndtr(0.4 - 2.5 * GRID),
    "none": 0 * GRID,
}
"""The log-probability of each label given the data."""


@functools.cache
def log_joint(s: int, label: str) -> Tensor:
    """The log-density of x_s and the label, from the law of the data and the two kernels alone."""
    at_data: Tensor = LABELS[label] - (GRID - 0.7) ** 2 / 0.8
    if s == 0:
        return at_data
    signal, noise = LINEAR.sqrt_alpha_bar[s], LINEAR.one_minus_alpha_bar[s]
    seen: Tensor = torch.logsumexp(at_data - (GRID[:, None] - signal * GRID) ** 2 / (2 * noise), 1)
    return seen


def kernel_by_quadrature(t: int, s: int, x_t: float, label: str = "observed") -> tuple[float, float]:
    """Mean and variance of x_s given x_t and the label, from the densities of each step alone."""
    alpha = LINEAR.alpha_bar[t] / LINEAR.alpha_bar[s]
    weight = (log_joint(s, label) - (x_t - alpha.sqrt() * GRID) ** 2 / (2 * (1 - alpha))).softmax(0)
    mean = (weight * GRID).sum()
    return float(mean), float((weight * (GRID - mean) ** 2).sum())


def linearised(level_of: Callable[[int, int], int], at_mean: bool = True) -> Callable[..., Any]:
    """The kernel without the observation, shifted by its variance times a gradient."""

    def kernel(x: Tensor, t: int, s: int) -> tuple[Tensor, Tensor]:
        mean, variance = gaussian_reverse(LINE, LINEAR, x, t, s)
        gradient = OBSERVED.gradient(LINEAR, mean if at_mean else x, level_of(t, s))
        return guidance.classifier_guided_mean(mean, variance.reshape(1), gradient), variance

    return kernel


def quadratic(level_of: Callable[[int, int], int], at_mean: bool = True) -> Callable[..., Any]:
    """The same with the variance that the observation leaves: exact at level s and the mean."""

    def kernel(x: Tensor, t: int, s: int) -> tuple[Tensor, Tensor]:
        mean, _ = gaussian_reverse(LINE, LINEAR, x, t, s)
        variance = OBSERVED.kernel(LINEAR, x, t, s)[1]
        gradient = OBSERVED.gradient(LINEAR, mean if at_mean else x, level_of(t, s))
        return guidance.classifier_guided_mean(mean, variance.reshape(1), gradient), variance

    return kernel


KERNELS: dict[str, Callable[..., Any]] = {
    "the law's": lambda x, t, s: OBSERVED.kernel(LINEAR, x, t, s),
    "gradient at the mean": quadratic(lambda t, s: s),
}


def bed_gradient(x: Tensor, t: Any) -> Tensor:
    return OBSERVED_PLANE.gradient(LINEAR, x, t)
