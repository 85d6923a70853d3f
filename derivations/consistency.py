"""Consistency models: the function that is constant along the probability-flow ODE, and sampling with it.

Axioms: data are not scaled and a level adds independent noise of variance σ², so the density of the noised
data solves the heat equation ∂p/∂σ = σ·p''; E is linear. The time of the ODE is the noise level. A
consistency function is constant along its solutions and the identity at σ_min: it is where a solution ends.

The function is in ``consistency_function``, losses in ``consistency_training``, levels and their weights in
``consistency_levels``; all belong to this topic. Here is sampling.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import sqrt

import derivations.consistency_levels
import derivations.consistency_training  # noqa: F401, part of the topic
from derivations.consistency_function import ABOVE, END, GAUSSIAN, SLOPE, TOTAL
from derivations.kit import (
    Decoy,
    Expectation,
    Identity,
    Induction,
    Inequality,
    Integral,
    Step,
    formula,
    normal,
)
from derivations.symbols import (
    data_mean,
    data_variance,
    i,
    sig_s,
    sig_t,
    sigma,
    sigma_min,
    start_mean,
    start_variance,
    visited,
    x_0,
    x_ve,
    z,
)

RENOISED = x_ve + sqrt(sigma**2 - sigma_min**2) * z


@formula(
    "consistency.renoise",
    title="from the smallest level up to another: only the missing noise is added",
    lhs=x_ve,
    rhs=RENOISED,
    citations=("Song2023:alg1", "openai/consistency_models #7"),
    reference="refdiff.consistency:renoise",
    assumptions=(ABOVE,),
    decoys=(
        Decoy("whole-level", x_ve + sigma * z, "variance",
              "the noise of the whole level on top of that at σ_min: its variance is σ² + σ_min²"),
        Decoy("difference", x_ve + (sigma - sigma_min) * z, "variance", "deviations subtracted"),
        Decoy("variance-for-std", x_ve + (sigma**2 - sigma_min**2) * z, "sqrt", "the root is missing"),
        Decoy("sum", x_ve + sqrt(sigma**2 + sigma_min**2) * z, "sign", "the sum of the squares"),
    ),
)  # fmt: skip
def _renoise(claim: sp.Expr) -> Iterator[Step]:
    """At σ_min a sample is data with noise of σ_min; independent noise of the missing variance makes it data
    with noise of σ, whatever the data: the kernels from x_0 are equal, and so are all their means."""
    low = sp.Symbol("x_low", real=True)
    added = sp.diff(claim, z)
    yield Inequality("noise with its own sign", added, ">", sp.Integer(0))
    yield Identity("the state is kept", sp.diff(claim, x_ve), sp.Integer(1))
    yield Identity("and noise is added to it", claim, x_ve + added * z)
    joint = normal(low, x_0, sigma_min**2) * normal(x_ve, low, added**2)
    yield Integral("the law of the level, for each x_0", joint, low, normal(x_ve, x_0, sigma**2))


STEP_MEAN = data_mean + SLOPE * (start_mean - data_mean)
STEP_VARIANCE = END / TOTAL * start_variance


@formula(
    "consistency.one_step_mean",
    title="mean of one-step sampling with the exact function, Gaussian data and any start",
    lhs=sp.Symbol("mu_1", real=True),
    rhs=STEP_MEAN,
    citations=("Song2023:alg1",),
    reference="refdiff.consistency:multistep_moments",
    uses=("consistency.gaussian_function",),
    decoys=(
        Decoy("exact-start", data_mean, "likelihood", "the start is taken for the noised data"),
        Decoy("squared", data_mean + END / TOTAL * (start_mean - data_mean), "sqrt", "the slope squared"),
    ),
)
def _one_step_mean(claim: sp.Expr) -> Iterator[Step]:
    """The function is affine: the mean goes through it."""
    law = {x_ve: (start_mean, start_variance)}
    yield Expectation("mean of the function", GAUSSIAN, law, claim)


@formula(
    "consistency.one_step_variance",
    title="variance of one-step sampling with the exact function, Gaussian data and any start",
    lhs=sp.Symbol("v_1", positive=True),
    rhs=STEP_VARIANCE,
    citations=("Song2023:alg1",),
    reference="refdiff.consistency:multistep_moments",
    uses=("consistency.one_step_mean",),
    decoys=(
        Decoy("exact-start", END, "likelihood", "the start N(0, σ²) is taken for the noised data"),
        Decoy("not-squared", SLOPE * start_variance, "sqrt", "the slope, not its square"),
        Decoy("clean", data_variance / TOTAL * start_variance, "noise-at-t0",
              "as if the noise of σ_min were gone too"),
    ),
)  # fmt: skip
def _one_step_variance(claim: sp.Expr) -> Iterator[Step]:
    """The variance is multiplied by the square of the slope. From N(0, σ²) it falls short of that of the data
    by the share c/(c + σ²)."""
    law = {x_ve: (start_mean, start_variance)}
    yield Expectation("square of the deviation", (GAUSSIAN - STEP_MEAN) ** 2, law, claim)
    short = END * data_variance / TOTAL
    yield Identity("from pure noise", claim.subs(start_variance, sigma**2), END - short)


def renoised(variance: sp.Expr, level: sp.Expr) -> sp.Expr:
    """The variance after noise up to a level and one evaluation there."""
    up = variance + level**2 - sigma_min**2
    return STEP_VARIANCE.subs({start_variance: up, sigma: level}, simultaneous=True)


KEPT_2 = END**2 / ((data_variance + sig_t**2) * (data_variance + sig_s**2))
TWO_STEP_VARIANCE = END + (start_variance - data_variance - sig_t**2) * KEPT_2


@formula(
    "consistency.two_step_variance",
    title="variance of two-step sampling, Gaussian data",
    lhs=sp.Symbol("v_2", positive=True),
    rhs=TWO_STEP_VARIANCE,
    citations=("Song2023:alg1", "openai/consistency_models #7"),
    reference="refdiff.consistency:multistep_moments",
    uses=("consistency.one_step_variance", "consistency.renoise"),
    decoys=(
        Decoy("whole-level", END * (END / (data_variance + sig_t**2) * start_variance + sig_s**2)
              / (data_variance + sig_s**2), "variance", "noise of the whole level added on the way up"),
        Decoy("noise-left", END / (data_variance + sig_t**2) * start_variance + sig_s**2 - sigma_min**2,
              "noise-at-t0", "the sampler ends by going up to the second level: its noise is left",
              "openai/consistency_models #7"),
        Decoy("no-noise", END**2 * start_variance / ((data_variance + sig_t**2)
              * (data_variance + sig_s**2)), "variance", "the function applied twice, without noise"),
        Decoy("exact", END, "likelihood", "the error of the start is forgotten"),
    ),
)  # fmt: skip
def _two_step_variance(claim: sp.Expr) -> Iterator[Step]:
    """One evaluation, noise up to the second level, and one evaluation more."""
    first = STEP_VARIANCE.subs(sigma, sig_t)
    yield Identity("up and down once", renoised(first, sig_s), claim)
    yield Identity("from the law of the level", claim.subs(start_variance, data_variance + sig_t**2), END)


level = sp.Function("sigma", positive=True)
AT_I = data_variance + level(i) ** 2
MEAN_KEPT = sp.Product(sqrt(END / AT_I), (i, 1, visited))
MULTISTEP_MEAN = data_mean + (start_mean - data_mean) * MEAN_KEPT


@formula(
    "consistency.multistep_mean",
    title="mean of multistep sampling after any number of levels, Gaussian data",
    lhs=sp.Symbol("mu_N", real=True),
    rhs=MULTISTEP_MEAN,
    citations=("Song2023:alg1",),
    reference="refdiff.consistency:multistep_moments",
    uses=("consistency.one_step_mean", "consistency.renoise"),
    decoys=(
        Decoy("last-only", data_mean + (start_mean - data_mean) * sqrt(END / AT_I.subs(i, visited)), "index",
              "each evaluation forgets where it came from"),
        Decoy("all-but-first", data_mean + (start_mean - data_mean)
              * sp.Product(sqrt(END / AT_I), (i, 2, visited)), "index", "the first evaluation not counted"),
    ),
    mutate=False,  # a product: the mutations of its factor are refuted under consistency.one_step_mean
)  # fmt: skip
def _multistep_mean(claim: sp.Expr) -> Iterator[Step]:
    """Noise on the way up has mean 0, and each evaluation multiplies the distance from the mean of the data;
    induction over the levels, which may be any."""
    known = sp.Symbol("mu", real=True)
    first = STEP_MEAN.subs(sigma, level(1)), claim.subs(visited, 1).doit()
    more = STEP_MEAN.subs({sigma: level(visited + 1), start_mean: known}, simultaneous=True)
    yield Induction("N levels", first, (more, claim.subs(visited, visited + 1)), {known: claim})


VARIANCE_KEPT = sp.Product(END / AT_I, (i, 1, visited))
MULTISTEP_VARIANCE = END + (start_variance - data_variance - level(1) ** 2) * VARIANCE_KEPT


@formula(
    "consistency.multistep_variance",
    title="variance of multistep sampling after any number of levels, Gaussian data",
    lhs=sp.Symbol("v_N", positive=True),
    rhs=MULTISTEP_VARIANCE,
    citations=("Song2023:alg1",),
    reference="refdiff.consistency:multistep_moments",
    uses=("consistency.two_step_variance",),
    assumptions=(ABOVE,),
    decoys=(
        Decoy("roots", END + (start_variance - data_variance - level(1) ** 2) * MEAN_KEPT, "sqrt",
              "the slopes, not their squares"),
        Decoy("from-end", END + (start_variance - END) * VARIANCE_KEPT, "noise-at-t0",
              "the start compared with the law at σ_min"),
        Decoy("no-noise", start_variance * VARIANCE_KEPT, "variance", "no noise between the evaluations"),
    ),
    mutate=False,  # a product: the mutations of its factor are refuted under consistency.two_step_variance
)  # fmt: skip
def _multistep_variance(claim: sp.Expr) -> Iterator[Step]:
    """Each level multiplies the distance from the exact variance by a number below 1: the only error is that
    of the start, and it falls with every level. With noise of the whole level it would not: each level would
    then add the share END/(c + σ²) of σ_min²."""
    known = sp.Symbol("v", real=True)
    base = STEP_VARIANCE.subs(sigma, level(1)), claim.subs(visited, 1).doit()
    more = renoised(known, level(visited + 1)), claim.subs(visited, visited + 1)
    yield Induction("N levels", base, more, {known: claim})
    yield Inequality("each level helps", TOTAL, ">", END, (sigma - sigma_min) * (sigma + sigma_min))
