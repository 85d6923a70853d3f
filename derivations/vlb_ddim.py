"""DDIM's objective: the weight of each term for any σ > 0, and which of DDPM's weights they reproduce."""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations.ddim import DIRECTION, KERNEL_MEAN, SIGMA_FITS
from derivations.ddpm import BETA_TILDE_S, LOSS_WEIGHT_EPS, RATIO, X_0_FROM_EPS
from derivations.kit import Decoy, Expectation, Identity, Inequality, Step, formula, normal
from derivations.kit.zero import close
from derivations.symbols import (
    abar_prev,
    abar_s,
    abar_t,
    beta_t,
    eps,
    eps_hat,
    loss_weight,
    sigma_t,
    x_0,
    x_0_hat,
    x_s,
)

GAIN_S = sp.sqrt(abar_s) - DIRECTION * sp.sqrt(abar_t) / sp.sqrt(1 - abar_t)
"""Coefficient of x_0 in the mean of the family's kernel."""

NOISE_SLOPE = sp.sqrt(1 - abar_t) * sp.sqrt(abar_s) / sp.sqrt(abar_t)
DDIM_WEIGHT_X_0 = GAIN_S**2 / (2 * sigma_t**2)
DDIM_WEIGHT_EPS = (NOISE_SLOPE - DIRECTION) ** 2 / (2 * sigma_t**2)
LEAST = (1 - RATIO) / (2 * RATIO * (1 - abar_s))


@formula(
    "vlb.ddim_weight_x_0",
    title="weight of the squared error of the data in DDIM's objective, for any σ_t > 0",
    lhs=sp.Symbol("c_t"),
    rhs=DDIM_WEIGHT_X_0,
    citations=("Song2021ddim:11", "S004:5.7", "S004:5.8"),
    reference="refdiff.vlb:ddim_weight",
    uses=("ddim.kernel_mean", "gaussian.kl"),
    assumptions=(SIGMA_FITS,),
    decoys=(
        Decoy(
            "gain-one", 1 / (2 * sigma_t**2), "loss-weight",
            "x_0 enters the mean with coefficient 1 at s = 0 only", "Song2021ddim:app.B",
        ),
        Decoy(
            "signal-only", abar_s / (2 * sigma_t**2), "loss-weight",
            "the data in the direction √(1−ᾱ_s−σ²)·ε̂ forgotten",
        ),
        Decoy("gain-without-square", GAIN_S / (2 * sigma_t**2), "loss-weight", "c where c² belongs"),
    ),
)  # fmt: skip
def _ddim_weight_x_0(claim: sp.Expr) -> Iterator[Step]:
    """The reverse kernel is the family's own at the predicted x̂_0: two Gaussians of one variance, so the
    divergence is a multiple of (x_0 − x̂_0)². For σ_t = 0 both are point masses and there is none."""
    here, model = KERNEL_MEAN, KERNEL_MEAN.subs(x_0, x_0_hat)
    ratio = normal(x_s, here, sigma_t**2).exponent - normal(x_s, model, sigma_t**2).exponent
    divergence = claim * (x_0 - x_0_hat) ** 2
    yield Expectation("mean of the log-ratio", ratio, {x_s: (here, sigma_t**2)}, divergence)


@formula(
    "vlb.ddim_weight_eps",
    title="weight of the squared error of the noise in DDIM's objective, for any σ_t > 0",
    lhs=sp.Symbol("gamma_t"),
    rhs=DDIM_WEIGHT_EPS,
    citations=("Song2021ddim:thm1", "S004:5.8"),
    reference="refdiff.vlb:ddim_weight",
    uses=("vlb.ddim_weight_x_0",),
    assumptions=(SIGMA_FITS,),
    decoys=(
        Decoy(
            "printed", 1 / (2 * sigma_t**2 * abar_t), "loss-weight",
            "1/(2dσ_t²ᾱ_t), here with d = 1: the gain of the mean and 1 − ᾱ_t are missing",
            "Song2021ddim:app.B",
        ),
        Decoy(
            "printed-repaired", (1 - abar_t) / (2 * sigma_t**2 * abar_t), "loss-weight",
            "with 1 − ᾱ_t, but still without the gain: right at s = 0 only",
        ),
        Decoy(
            "sign-of-direction", (NOISE_SLOPE + DIRECTION) ** 2 / (2 * sigma_t**2), "sign",
            "the root of the other sign",
        ),
    ),
)  # fmt: skip
def _ddim_weight_eps(claim: sp.Expr) -> Iterator[Step]:
    """Data and prediction through the noises; the slope of the mean in ε̂ is that of a step."""
    error = (X_0_FROM_EPS - X_0_FROM_EPS.subs(eps, eps_hat)) ** 2
    yield Identity("x_0 through ε", DDIM_WEIGHT_X_0 * error, claim * (eps - eps_hat) ** 2)
    step_slope = sp.diff(KERNEL_MEAN.subs(x_0, X_0_FROM_EPS), eps)
    yield Identity("half the squared slope over the variance", claim, step_slope**2 / (2 * sigma_t**2))


GUESS = x_0 + sp.sqrt((1 - abar_t) / abar_t) * (eps - eps_hat)
NOISE_RATIO = (1 - abar_t) / sigma_t**2
AS_PRINTED = (NOISE_RATIO - 1 - sp.log(NOISE_RATIO) + (sp.sqrt(abar_t) * x_0 - GUESS) ** 2 / sigma_t**2) / 2


@formula(
    "vlb.ddim_direct_term",
    title="the terms of DDIM's objective that reach the data directly: t = 1, and every level left out",
    lhs=sp.Symbol("L"),
    rhs=(1 - abar_t) / (2 * sigma_t**2 * abar_t) * (eps - eps_hat) ** 2 + sp.log(2 * sp.pi * sigma_t**2) / 2,
    citations=("Song2021ddim:10", "Song2021ddim:app.C", "S004:5.9", "S004:4.9", "S004:5.12"),
    reference="refdiff.vlb:ddim_direct_term",
    uses=("ddpm.marginal", "gaussian.log_density"),
    decoys=(
        Decoy(
            "printed", 1 / (2 * sigma_t**2 * abar_t) * (eps - eps_hat) ** 2
            + sp.log(2 * sp.pi * sigma_t**2) / 2, "loss-weight", "1 − ᾱ_t is missing", "Song2021ddim:app.B",
        ),
        Decoy(
            "constant-missing", (1 - abar_t) / (2 * sigma_t**2 * abar_t) * (eps - eps_hat) ** 2, "likelihood",
            "without the normaliser, which depends on σ_t", "S004:5.9",
        ),
        Decoy(
            "divergence-as-printed", AS_PRINTED, "likelihood",
            "KL(q(x_t | x_0) ‖ p(x_0 | x_t)) taken at its word: laws of different variables", "S004:5.14",
        ),
    ),
)  # fmt: skip
def _ddim_direct_term(claim: sp.Expr) -> Iterator[Step]:
    """−log N(x_0; x̂_0(x_t), σ_t²). It is a log-likelihood, and no divergence of q(x_t | x_0) from
    p(x_0 | x_t), which are laws of different variables. At t = 1 the weight is β_1/(2σ_1²α_1)."""
    predicted = X_0_FROM_EPS.subs(eps, eps_hat)
    minus_log = (x_0 - predicted) ** 2 / (2 * sigma_t**2) + sp.log(2 * sp.pi * sigma_t**2) / 2
    at_x_t = minus_log.subs(x_0, X_0_FROM_EPS)
    yield Identity("minus the log-density", at_x_t, claim)
    first = beta_t / (2 * sigma_t**2 * (1 - beta_t))
    weight = claim.subs(eps_hat, eps + 1) - claim.subs(eps_hat, eps)
    yield Identity("the weight at t = 1", weight.subs(abar_prev, 1), close(first).subs(abar_prev, 1))


@formula(
    "vlb.ddim_least_weight",
    title="the least weight of the family, at η = 1 and nowhere else",
    lhs=sp.Symbol("gamma_min"),
    rhs=LEAST,
    citations=("Song2021ddim:thm1",),
    reference="refdiff.vlb:ddim_weight",
    uses=("vlb.ddim_weight_eps", "ddpm.loss_weight_eps", "ddim.sigma"),
    assumptions=(SIGMA_FITS,),
    decoys=(
        Decoy(
            "fixed-large", (1 - RATIO) / (2 * RATIO * (1 - abar_t)), "loss-weight",
            "DDPM's weight for σ_t² = β_t, which no member of the family has",
        ),
    ),
)  # fmt: skip
def _ddim_least_weight(claim: sp.Expr) -> Iterator[Step]:
    """Complete the square in the direction: every weight is DDPM's weight for σ_t² = β̃_t plus a square
    that vanishes for that σ_t alone. So DDIM's objective is DDPM's for η = 1, and weighs every step more
    for any other η."""
    noise = 1 - abar_s
    square = (noise - NOISE_SLOPE * DIRECTION) ** 2 / (2 * noise * sigma_t**2)
    yield Identity("square completed", DDIM_WEIGHT_EPS, claim + square)
    posterior_direction = sp.sqrt(RATIO) * noise / sp.sqrt(1 - abar_t)
    yield Identity("which vanishes at this direction", NOISE_SLOPE * posterior_direction, noise)
    yield Identity("that of η = 1", noise - posterior_direction**2, BETA_TILDE_S)
    ddpm = close(LOSS_WEIGHT_EPS).subs(sigma_t, sp.sqrt(close(BETA_TILDE_S).subs(abar_s, abar_prev)))
    yield Identity("DDPM's weight for β̃_t", close(claim).subs(abar_s, abar_prev), ddpm)


@formula(
    "vlb.ddim_fixed_large",
    title="DDPM's weight for σ_t² = β_t is below every weight of the family",
    lhs=sp.Symbol("w_beta") / sp.Symbol("gamma_min"),
    rhs=(1 - abar_prev) / (1 - abar_t),
    citations=("Song2021ddim:thm1", "Ho2020:12"),
    reference="refdiff.ddpm:loss_weight",
    uses=("vlb.ddim_least_weight", "ddpm.loss_weight_eps"),
)
def _ddim_fixed_large(claim: sp.Expr) -> Iterator[Step]:
    """The ratio of DDPM's weight for σ_t² = β_t to the least weight of the family is below 1, so at no
    level does a member of the family reproduce it."""
    large = LOSS_WEIGHT_EPS.subs(sigma_t, sp.sqrt(beta_t))
    yield Identity("ratio", large, claim * close(LEAST).subs(abar_s, abar_prev))
    yield Inequality("below 1", sp.Integer(1), ">", claim)


SPARE = 2 * loss_weight * ((1 + 2 * loss_weight) * (1 - abar_s) - NOISE_SLOPE**2)
DIRECTION_FOR_WEIGHT = (NOISE_SLOPE + sp.sqrt(SPARE)) / (1 + 2 * loss_weight)


@formula(
    "vlb.ddim_sigma_for_weight",
    title="the member of the family that has a given weight",
    lhs=sigma_t**2,
    rhs=1 - abar_s - DIRECTION_FOR_WEIGHT**2,
    citations=("Song2021ddim:thm1",),
    reference="refdiff.vlb:ddim_sigma",
    uses=("vlb.ddim_least_weight",),
    assumptions=(sp.Lt(LEAST, loss_weight),),
    decoys=(
        Decoy(
            "printed", 1 / (2 * loss_weight * abar_t), "loss-weight",
            "what the printed constant would give", "Song2021ddim:app.B",
        ),
    ),
)  # fmt: skip
def _ddim_sigma_for_weight(claim: sp.Expr) -> Iterator[Step]:
    """A quadratic equation in the direction A = √(1−ᾱ_s−σ²): (k − A)² = 2w(1−ᾱ_s − A²) with k the slope
    of ε̂ in √ᾱ_s·x̂_0. Its discriminant is positive exactly for weights above the least one; of the two
    roots this has the smaller σ, with η < 1. With w = 1 it is the simple loss."""
    direction = DIRECTION_FOR_WEIGHT
    yield Identity("the direction", 1 - abar_s - claim, direction**2)
    yield Identity("has the weight", (NOISE_SLOPE - direction) ** 2, 2 * loss_weight * claim)
    margin = 4 * loss_weight * (1 - abar_s) * (loss_weight - LEAST)
    yield Identity("the discriminant", SPARE, margin)
