"""The exact law of samplers on Gaussian data: what a step does to mean and variance, and what it misses.

Axioms: the score of Gaussian data noised to the variance V is −(x − mean)/V, so that every step is an affine
map with independent noise. A step that starts in the law of time t should end in that of time s; what it
misses is exact in r and v, and a series in Δt for any process. Nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations.kit import Decoy, Expectation, Identity, Inequality, Step, formula
from derivations.sde_chain import taylor
from derivations.sde_operators import UNIT, ZERO
from derivations.sde_samplers import ANCESTRAL, ANY_STEP, EULER, NAMES, REVERSE_DIFFUSION, STD_T_SQUARED
from derivations.symbols import (
    data_mean,
    data_variance,
    diffusion,
    drift_factor,
    drift_factor_slope,
    kernel_factor,
    kernel_variance,
    marginal_t,
    mean_t,
    on_noise,
    on_score,
    on_state,
    scale_s,
    scale_t,
    score,
    std_s,
    std_t,
    time_step,
    variance_rate_slope,
    variance_t,
    x_t,
    z,
)

r, v, V = kernel_factor, kernel_variance, marginal_t
BELOW = (V - v) / r**2
"""The variance of the law at s."""
KEPT = on_state - on_score / V
AFFINE_MEAN = KEPT * mean_t + on_score / V * scale_t * data_mean
AFFINE_VARIANCE = KEPT**2 * variance_t + on_noise**2
INSIDE = (sp.Lt(v, V),)


def on_gaussian(step: sp.Expr, mean: sp.Expr = ZERO) -> sp.Expr:
    """A step with the score of Gaussian data whose noised law has this mean and the variance V."""
    return step.subs(score, -(x_t - mean) / V)


def variance_after(step: sp.Expr, spread: sp.Expr = V) -> sp.Expr:
    """The variance after a step on centred data that started with this variance."""
    moved = on_gaussian(step)
    return sp.diff(moved, x_t) ** 2 * spread + sp.diff(moved, z) ** 2


@formula(
    "sde.affine_mean",
    title="mean after an affine step A·x + b·s + C·z on Gaussian data",
    lhs=sp.Symbol("mean_s"),
    rhs=AFFINE_MEAN,
    reference="refdiff.sde:gaussian_law",
    uses=("data.gaussian_score",),
    decoys=(
        Decoy("centred", KEPT * mean_t, "data-scaling", "the mean of the data forgotten"),
        Decoy("not-scaled", KEPT * mean_t + on_score / V * data_mean, "data-scaling",
              "the mean of the data where that of the noised data belongs"),
        Decoy("score-added", (on_state + on_score / V) * mean_t - on_score / V * scale_t * data_mean, "sign",
              "the score of the wrong sign"),
    ),
)  # fmt: skip
def _affine_mean(claim: sp.Expr) -> Iterator[Step]:
    """The map is affine, so the mean takes it as the state does. By induction over the steps the mean of a
    whole sampler follows, corrector steps included: they are affine too."""
    step = on_gaussian(on_state * x_t + on_score * score + on_noise * z, scale_t * data_mean)
    yield Expectation("the mean of the map", step, {x_t: (mean_t, variance_t), z: UNIT}, claim)


@formula(
    "sde.affine_variance",
    title="variance after an affine step A·x + b·s + C·z on Gaussian data",
    lhs=sp.Symbol("variance_s"),
    rhs=AFFINE_VARIANCE,
    reference="refdiff.sde:gaussian_law",
    uses=("data.gaussian_score",),
    decoys=(
        Decoy("not-squared", KEPT * variance_t + on_noise**2, "sqrt", "the variance scaled like a mean"),
        Decoy("noise-not-squared", KEPT**2 * variance_t + on_noise, "sqrt",
              "the deviation of the noise added"),
        Decoy("noiseless", KEPT**2 * variance_t, "variance", "the noise forgotten"),
        Decoy("score-forgotten", on_state**2 * variance_t + on_noise**2, "discretization",
              "the score taken for noise that the state does not know"),
    ),
)  # fmt: skip
def _affine_variance(claim: sp.Expr) -> Iterator[Step]:
    """State and noise are independent; a Gaussian stays one. Along each axis of the covariance the same map
    acts with its own V."""
    step = on_gaussian(on_state * x_t + on_score * score + on_noise * z, scale_t * data_mean)
    away = sp.expand(step - AFFINE_MEAN)
    yield Expectation("the spread of the map", away**2, {x_t: (mean_t, variance_t), z: UNIT}, claim)


@formula(
    "sde.reverse_diffusion_error",
    title="variance that a step of reverse diffusion has too much on Gaussian data",
    lhs=sp.Symbol("error"),
    rhs=(2 - r - v / V) ** 2 * V + v - BELOW,
    citations=("Song2021:46", "S004:8.13", "S004:8.14"),
    reference="refdiff.sde:gaussian_law",
    uses=("sde.reverse_diffusion", "sde.affine_variance"),
    assumptions=INSIDE,
    decoys=(
        Decoy("none", ZERO, "discretization", "an exact sampler"),
        Decoy("not-scaled", v**2 / V, "data-scaling", "right where the data are not scaled"),
        Decoy("level-above", (2 - r - v / V) ** 2 * V + v - V, "index", "against the law it started in"),
    ),
)  # fmt: skip
def _reverse_diffusion_error(claim: sp.Expr) -> Iterator[Step]:
    """A step from the law of variance V at t; that at s has (V − v)/r². Without drift it is v²/V: always too
    wide, by σ_1² in the last step to clean data of one point. The mean is off by −(1−r)²/r of that at t."""
    yield Identity("variance after minus variance wanted", variance_after(REVERSE_DIFFUSION) - BELOW, claim)
    yield Identity("without drift", claim.subs(r, 1), v**2 / V)
    mean = on_gaussian(REVERSE_DIFFUSION, mean_t).subs({x_t: mean_t, z: 0})
    yield Identity("the mean", mean - mean_t / r, -((1 - r) ** 2) / r * mean_t)


SIGNAL = scale_s**2 * data_variance
ANCESTRAL_ERROR = -(v**2) * SIGNAL / (STD_T_SQUARED * (STD_T_SQUARED + r**2 * SIGNAL))


@formula(
    "sde.ancestral_error",
    title="variance that a step of ancestral sampling has too much on Gaussian data",
    lhs=sp.Symbol("error"),
    rhs=ANCESTRAL_ERROR,
    citations=("Song2021:47", "Ho2020:§3.2"),
    reference="refdiff.sde:gaussian_law",
    uses=("sde.ancestral", "sde.affine_variance"),
    decoys=(
        Decoy("none", ZERO, "discretization", "an exact sampler: it is one for a point mass only"),
        Decoy("too-wide", -ANCESTRAL_ERROR, "sign", "too much where it is too little"),
        Decoy("first-order", -v * SIGNAL / (STD_T_SQUARED + r**2 * SIGNAL), "discretization",
              "first order in the step"),
    ),
)  # fmt: skip
def _ancestral_error(claim: sp.Expr) -> Iterator[Step]:
    """Always too narrow, of second order in the step; exact for a point mass, and exact in the mean for any
    data. The state below varies for two reasons given that above, the noise and the data; the sampler has
    only the first."""
    whole = STD_T_SQUARED + r**2 * SIGNAL
    after = variance_after(ANCESTRAL).subs(V, whole)
    yield Identity("variance after minus variance wanted", after - (SIGNAL + std_s**2), claim)
    yield Identity("a point mass", claim.subs(data_variance, 0), ZERO)
    yield Inequality("too narrow", -claim, ">", ZERO)
    mean = on_gaussian(ANCESTRAL, mean_t).subs({x_t: mean_t, z: 0})
    yield Identity("the mean is exact", mean, mean_t / r)


@formula(
    "sde.ancestral_forward_error",
    title="variance that ancestral sampling with the forward noise has too much on Gaussian data",
    lhs=sp.Symbol("error"),
    rhs=v * (V - BELOW) / V,
    citations=("Ho2020:§3.2", "conventions:score_sde", "S004:8.15"),
    reference="refdiff.sde:ancestral",
    uses=("sde.ancestral", "sde.affine_variance"),
    assumptions=INSIDE,
    decoys=(
        Decoy("none", ZERO, "variance", "an exact sampler: it is one where the variance is preserved"),
        Decoy("other-way", v * (BELOW - V) / V, "sign", "too little where it is too much"),
        Decoy("over-the-lower", v * (V - BELOW) / BELOW, "index", "over the variance below"),
    ),
)  # fmt: skip
def _ancestral_forward_error(claim: sp.Expr) -> Iterator[Step]:
    """With the noise √v of the forward step. It is exact when the variance is the same at both times, as for
    VP and data of variance 1, and too wide where the variance falls towards the data."""
    step = ANCESTRAL.subs(z, 0) + sp.sqrt(v) * z
    yield Identity("variance after minus variance wanted", variance_after(step) - BELOW, claim)
    preserved = claim.subs(v, V * (1 - r**2))
    yield Identity("variance preserved", preserved, ZERO)


EULER_ERROR = (
    diffusion**4 / V
    + drift_factor * diffusion**2
    - drift_factor**2 * V
    - drift_factor_slope * V
    - variance_rate_slope / 2
)


def _local_error(title: str, step: sp.Expr, claim: sp.Expr) -> Iterator[Step]:
    """The Taylor coefficients of the error of the variance, below third order."""
    error = (variance_after(step) - BELOW).subs(ANY_STEP)
    yield from taylor(title, error, 3, claim * time_step**2, NAMES)


@formula(
    "sde.local_error_euler_maruyama",
    title="error of the variance in a step of Euler–Maruyama, by the squared time step",
    lhs=sp.Symbol("error_per_square"),
    rhs=EULER_ERROR,
    citations=("Kloeden1992:§14.1",),
    reference="refdiff.sde:gaussian_law",
    uses=("sde.euler_maruyama", "sde.affine_variance", "sde.scale", "sde.variance"),
    decoys=(
        Decoy("frozen", diffusion**4 / V + drift_factor * diffusion**2 - drift_factor**2 * V,
              "discretization", "coefficients that do not change"),
        Decoy("none", ZERO, "discretization", "weak order 2"),
    ),
)  # fmt: skip
def _local_error_euler_maruyama(claim: sp.Expr) -> Iterator[Step]:
    """For any smooth f and g, from the law at t. Second order in a step, so weak order 1. The mean is off by
    −½(f² + f') of it."""
    yield from _local_error("any process", EULER, claim)
    mean = on_gaussian(EULER, mean_t).subs({x_t: mean_t, z: 0}) - mean_t / ANY_STEP[r]
    missed = -(drift_factor**2 + drift_factor_slope) / 2 * mean_t
    yield from taylor("the mean", mean, 3, missed * time_step**2, NAMES)


@formula(
    "sde.local_error_reverse_diffusion",
    title="error of the variance in a step of reverse diffusion, by the squared time step",
    lhs=sp.Symbol("error_per_square"),
    rhs=diffusion**4 / V - 2 * drift_factor**2 * V,
    citations=("Song2021:46", "S004:§8.4"),
    reference="refdiff.sde:gaussian_law",
    uses=("sde.reverse_diffusion_error", "sde.scale", "sde.variance"),
    decoys=(
        Decoy("euler", EULER_ERROR, "discretization", "that of Euler and Maruyama"),
        Decoy("no-drift", diffusion**4 / V, "data-scaling", "right where the data are not scaled"),
    ),
)  # fmt: skip
def _local_error_reverse_diffusion(claim: sp.Expr) -> Iterator[Step]:
    """For any smooth f and g. No slope of a coefficient is left: the chain's discretisation takes care of
    schedules that change. The order is that of Euler and Maruyama all the same."""
    yield from _local_error("any process", REVERSE_DIFFUSION, claim)


@formula(
    "sde.local_error_ancestral",
    title="error of the variance in a step of ancestral sampling, by the squared time step",
    lhs=sp.Symbol("error_per_square"),
    rhs=diffusion**4 * (1 / V - 1 / std_t**2),
    citations=("Song2021:47",),
    reference="refdiff.sde:gaussian_law",
    uses=("sde.ancestral_error", "sde.scale", "sde.variance"),
    decoys=(
        Decoy("reverse-diffusion", diffusion**4 / V - 2 * drift_factor**2 * V, "discretization",
              "that of reverse diffusion"),
        Decoy("too-wide", diffusion**4 * (1 / std_t**2 - 1 / V), "sign", "too much where it is too little"),
        Decoy("noise-alone", -(diffusion**4) / std_t**2, "discretization", "the noise alone"),
    ),
)  # fmt: skip
def _local_error_ancestral(claim: sp.Expr) -> Iterator[Step]:
    """For any smooth f and g, with std_s² = (std_t² − v)/r². Nothing for a point mass, where V is the
    variance of the noise."""
    below = {std_s: sp.sqrt((std_t**2 - v) / r**2)}
    error = sp.expand(variance_after(ANCESTRAL).subs(below)) - BELOW
    yield from taylor("any process", error.subs(ANY_STEP), 3, claim * time_step**2, NAMES)
