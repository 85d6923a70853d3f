"""Learned against exact: what a trained network has above the least loss, and whether its samples are right.

``least_loss`` is the part of the loss that no network can learn, and ``excess_by_level`` the rest.
``permutation_test`` compares the samples of a learned network with those that the same sampler makes with the
perfect one, at a declared rate of errors; ``sample_size`` says how many of them see a given mistake.
"""

from __future__ import annotations

from refdiff._evaluate_loss import (
    Estimate,
    LevelError,
    Prediction,
    draw,
    excess_by_level,
    law_of,
    least,
    least_loss,
    levels_of,
    loss_factor,
    mean_of,
    sampled_least_loss,
)
from refdiff._evaluate_mmd import Comparison, holm, mmd_squared, permutation_test, sample_size
from refdiff._evaluate_samples import (
    Judge,
    Perfect,
    bound_in_bits,
    observed_order,
    perfect_samples,
    round_trip,
)

__all__ = [
    "Comparison",
    "Estimate",
    "Judge",
    "LevelError",
    "Perfect",
    "Prediction",
    "bound_in_bits",
    "draw",
    "excess_by_level",
    "holm",
    "law_of",
    "least",
    "least_loss",
    "levels_of",
    "loss_factor",
    "mean_of",
    "mmd_squared",
    "observed_order",
    "perfect_samples",
    "permutation_test",
    "round_trip",
    "sample_size",
    "sampled_least_loss",
]
