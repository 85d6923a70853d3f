"""Annealed Langevin sampling on Gaussian data: mean and variance of the whole chain, exactly.

At noise level σ the score of Gaussian data with mean m and variance c is −(x − m)/(c + σ²), so a step is
affine and the law stays Gaussian. Written along one axis of the covariance of the data; the axes do not mix.
The level of index i is that of the geometric ladder, σ_i² = σ_1²·(σ_L/σ_1)^(2(i−1)/(L−1)).
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations.hyvarinen import UNIT
from derivations.kit import Decoy, Expectation, Identity, Induction, Inequality, Step, formula
from derivations.kit.generators import unrolled
from derivations.symbols import (
    base_step,
    data_mean,
    data_variance,
    i,
    rungs,
    sigma,
    sigma_1,
    sigma_L,
    start_mean,
    start_variance,
    step_size,
    steps,
    visited,
    z,
)

TOTAL = data_variance + sigma**2
"""Variance of the noised data."""
RHO = 1 - step_size / (2 * TOTAL)
"""What a step leaves of the distance to the mean."""
STABLE = sp.Lt(step_size, 4 * TOTAL)
STATIONARY = 4 * TOTAL**2 / (4 * TOTAL - step_size)


@formula(
    "smld.level_mean",
    title="mean after the steps of one noise level, Gaussian data",
    lhs=sp.Symbol("mu_T", real=True),
    rhs=data_mean + (start_mean - data_mean) * RHO**steps,
    citations=("S004:alg2.1",),
    reference="refdiff.smld:chain_moments",
    uses=("smld.step",),
    decoys=(
        Decoy("practice", data_mean + (start_mean - data_mean) * (1 - step_size / TOTAL) ** steps,
              "variance", "the step of later code: drift α"),
        Decoy("data-score", data_mean
              + (start_mean - data_mean) * (1 - step_size / (2 * data_variance)) ** steps, "variance",
              "the score of the data without noise"),
        Decoy("one-step-short", data_mean + (start_mean - data_mean) * RHO ** (steps - 1), "index",
              "T states counted as T steps"),
    ),
)  # fmt: skip
def _level_mean(claim: sp.Expr) -> Iterator[Step]:
    """A step multiplies the distance to the mean of the data by ρ = 1 − α/2(c + σ²); by induction over the
    steps, T of them by ρ^T."""
    known, state = sp.Symbol("mu", real=True), sp.Symbol("x", real=True)
    step = state + step_size / 2 * (-(state - data_mean) / TOTAL) + sp.sqrt(step_size) * z
    after = data_mean + RHO * (known - data_mean)
    law = {state: (known, start_variance), z: UNIT}
    yield Expectation("one step", step, law, after)
    yield Induction("T steps", (claim.subs(steps, 0), start_mean), (after, _next(claim)), {known: claim})


def _next(claim: sp.Expr) -> sp.Expr:
    return claim.subs(steps, steps + 1)


LEVEL_VARIANCE = STATIONARY + (start_variance - STATIONARY) * RHO ** (2 * steps)


@formula(
    "smld.level_variance",
    title="variance after the steps of one noise level, Gaussian data",
    lhs=sp.Symbol("v_T", nonnegative=True),
    rhs=LEVEL_VARIANCE,
    citations=("S004:alg2.1",),
    reference="refdiff.smld:chain_moments",
    uses=("smld.step", "smld.level_mean"),
    decoys=(
        Decoy("no-bias", TOTAL + (start_variance - TOTAL) * RHO ** (2 * steps), "discretization",
              "the limit of small steps: the chain's own variance taken for that of the data"),
        Decoy("contracted-once", STATIONARY + (start_variance - STATIONARY) * RHO**steps, "variance",
              "the variance contracted like the mean"),
        Decoy("data-variance", LEVEL_VARIANCE.subs(STATIONARY, data_variance), "variance",
              "the variance of the data without noise"),
    ),
)  # fmt: skip
def _level_variance(claim: sp.Expr) -> Iterator[Step]:
    """A step takes the variance v to ρ²v + α; by induction over the steps the distance to the fixed point is
    multiplied by ρ^(2T)."""
    known, state = sp.Symbol("v", nonnegative=True), sp.Symbol("x", real=True)
    step = RHO * state + sp.sqrt(step_size) * z
    after = RHO**2 * known + step_size
    yield Expectation("one step", step**2, {state: (sp.Integer(0), known), z: UNIT}, after)
    yield Induction("T steps", (claim.subs(steps, 0), start_variance), (after, _next(claim)), {known: claim})


@formula(
    "smld.stationary_variance",
    title="variance that a chain at one noise level settles at, Gaussian data",
    lhs=sp.Symbol("v_oo", positive=True),
    rhs=STATIONARY,
    citations=("S004:1.6", "S004:alg2.1"),
    reference="refdiff.smld:chain_moments",
    uses=("smld.level_variance",),
    assumptions=(STABLE,),
    decoys=(
        Decoy("target", TOTAL, "discretization", "no bias for finite steps"),
        Decoy("practice", 2 * TOTAL**2 / (2 * TOTAL - step_size), "variance", "the step of later code"),
        Decoy("data-variance", data_variance, "variance", "the noise of the level is forgotten"),
    ),
)  # fmt: skip
def _stationary_variance(claim: sp.Expr) -> Iterator[Step]:
    """The fixed point of v → ρ²v + α, which is one. It exceeds c + σ² by a term of first order in α: the
    chain is never exact, and the noise of the level stays in the sample."""
    yield Identity("fixed point", RHO**2 * claim + step_size, claim)
    pull = step_size * (4 * TOTAL - step_size) / (4 * TOTAL**2)
    yield Inequality("it attracts", 1 - RHO**2, ">", sp.Integer(0), pull)
    bias = step_size * TOTAL / (4 * TOTAL - step_size)
    yield Inequality("never exact", claim, ">", TOTAL, bias)


CONTRACTION = 1 - base_step * sigma**2 / (2 * sigma_L**2 * TOTAL)


@formula(
    "smld.contraction",
    title="what a step leaves of the distance to the mean, with the step rule of the ladder",
    lhs=sp.Symbol("rho", real=True),
    rhs=CONTRACTION,
    citations=("Song2020:prop1", "S004:alg2.1"),
    reference="refdiff.smld:chain_moments",
    uses=("smld.step_size", "smld.level_mean"),
    decoys=(
        Decoy("not-squared", 1 - base_step * sigma / (2 * sigma_L * TOTAL), "sqrt",
              "the ratio of the levels for the step size"),
        Decoy("practice", 1 - base_step * sigma**2 / (sigma_L**2 * TOTAL), "variance",
              "the step of later code: drift α"),
        Decoy("point-mass", 1 - base_step / (2 * sigma_L**2), "variance", "data without variance"),
    ),
)  # fmt: skip
def _contraction(claim: sp.Expr) -> Iterator[Step]:
    """The step size put in. Data can only slow the contraction: it lies above that of a point mass,
    1 − ε/2σ_L², and below 1. So ε < 4σ_L² is stable at every level, whatever the data."""
    step = base_step * sigma**2 / sigma_L**2
    yield Identity("the step size put in", claim, RHO.subs(step_size, step))
    point_mass = 1 - base_step / (2 * sigma_L**2)
    slower = base_step * data_variance / (2 * sigma_L**2 * TOTAL)
    yield Inequality("above that of a point mass", claim, ">", point_mass, slower)
    yield Inequality("below 1", 1, ">", claim)


SQUARE_OF_LEVEL = sigma_1**2 * (sigma_L / sigma_1) ** (2 * (i - 1) / (rungs - 1))
STEP_OF_LEVEL = base_step * SQUARE_OF_LEVEL / sigma_L**2


def at_level(expr: sp.Expr) -> sp.Expr:
    """An expression in the step size and σ at the level of index i."""
    return expr.subs(step_size, STEP_OF_LEVEL).subs(sigma, sp.sqrt(SQUARE_OF_LEVEL))


KEPT = sp.Product(at_level(RHO**steps), (i, 1, visited))
CHAIN_MEAN = data_mean + (start_mean - data_mean) * KEPT


@formula(
    "smld.chain_mean",
    title="mean of annealed Langevin sampling after any number of levels, Gaussian data",
    lhs=sp.Symbol("mu_n", real=True),
    rhs=CHAIN_MEAN,
    citations=("S004:alg2.1",),
    reference="refdiff.smld:chain_moments",
    uses=("smld.level_mean", "smld.ladder", "smld.step_size"),
    assumptions=(sp.Gt(rungs, 1),),
    decoys=(
        Decoy("one-step-a-level", CHAIN_MEAN.subs(steps, 1), "discretization", "one step at each level"),
        Decoy("restarted", CHAIN_MEAN.subs(KEPT, at_level(RHO**steps).subs(i, visited)), "index",
              "each level starts anew: only the last one counts"),
    ),
)  # fmt: skip
def _chain_mean(claim: sp.Expr) -> Iterator[Step]:
    """Each level starts where the one before it ended; by induction over the levels the factors
    multiply."""
    known = sp.Symbol("mu", real=True)
    factor = at_level(RHO**steps).subs(i, visited + 1)
    first = data_mean + (start_mean - data_mean) * at_level(RHO**steps).subs(i, 1)
    more = (data_mean + (known - data_mean) * factor, claim.subs(visited, visited + 1))
    yield Induction("n levels", (first, claim.subs(visited, 1)), more, {known: claim})


r, v = sp.Function("r", positive=True), sp.Function("v", positive=True)
"""What a level leaves of the variance, ρ^2T, and the variance it settles at, by the index of the level."""
j = sp.Symbol("j", integer=True, positive=True)
LEFT, SETTLED = at_level(RHO ** (2 * steps)), at_level(TOTAL + step_size * TOTAL / (4 * TOTAL - step_size))
BY_INDEX = {LEFT: r(i), LEFT.subs(i, j): r(j), SETTLED: v(i)}
VARIANCE_KEPT = sp.Product(LEFT.subs(i, j), (j, 1, visited))
KEPT_UNTIL = sp.Product(LEFT.subs(i, j), (j, 1, i))
ADDED = sp.Sum(SETTLED * (1 - LEFT) / KEPT_UNTIL, (i, 1, visited))
CHAIN_VARIANCE = VARIANCE_KEPT * (start_variance + ADDED)


@formula(
    "smld.chain_variance",
    title="variance of annealed Langevin sampling after any number of levels, Gaussian data",
    lhs=sp.Symbol("v_n", nonnegative=True),
    rhs=CHAIN_VARIANCE,
    citations=("S004:alg2.1",),
    reference="refdiff.smld:chain_moments",
    uses=("smld.level_variance", "smld.ladder", "smld.step_size"),
    assumptions=(sp.Gt(rungs, 1),),
    decoys=(
        Decoy("start-forgotten", VARIANCE_KEPT * ADDED, "variance", "the first state is taken for a point"),
        Decoy("noise-forgotten", VARIANCE_KEPT * start_variance, "variance", "the noise of the steps"),
        Decoy("no-bias", CHAIN_VARIANCE.xreplace({SETTLED: at_level(TOTAL)}),
              "discretization", "each level settles at the variance of the noised data"),
        Decoy("one-step-a-level", CHAIN_VARIANCE.subs(steps, 1), "discretization", "one step at each level"),
    ),
)  # fmt: skip
def _chain_variance(claim: sp.Expr) -> Iterator[Step]:
    """Induction over the levels: v → v_∞ + ρ^(2T)·(v − v_∞) with ρ and v_∞ of the next level. What a level
    adds is divided by the product up to it and multiplied by the whole product, which leaves the factors of
    the levels after it."""
    claim, known = claim.xreplace(BY_INDEX), sp.Symbol("v", real=True)
    base = v(1) + (start_variance - v(1)) * r(1), claim.subs(visited, 1)
    following = v(visited + 1) + (known - v(visited + 1)) * r(visited + 1)
    # the sum first, so that the product in its last term is seen
    yield Induction("n levels", base, (following, unrolled(claim.subs(visited, visited + 1))), {known: claim})
    one_level = SETTLED + (start_variance - SETTLED) * LEFT
    yield Identity("with r and v of the ladder, each is a level", at_level(LEVEL_VARIANCE), one_level)


@formula(
    "smld.denoised_variance",
    title="variance after the last denoising, Gaussian data",
    lhs=sp.Symbol("v", nonnegative=True),
    rhs=(data_variance / TOTAL) ** 2 * start_variance,
    citations=("JolicoeurMartineau2021:§3",),
    reference="refdiff.smld:chain_moments",
    uses=("smld.level_variance",),
    decoys=(
        Decoy("not-squared", data_variance / TOTAL * start_variance, "sqrt", "the slope, not its square"),
        Decoy("noise-subtracted", start_variance - sigma**2, "variance",
              "the noise's variance subtracted: that is the data's, not the mean's"),
        Decoy("untouched", start_variance, "variance", "no denoising"),
    ),
)  # fmt: skip
def _denoised_variance(claim: sp.Expr) -> Iterator[Step]:
    """x + σ²s is affine with slope c/(c + σ²). From the exact law of the level it leaves c²/(c + σ²): below
    c by the variance of the data given x, so a denoised sample is too narrow by as much as one that keeps its
    noise is too wide, to first order in σ²."""
    state = sp.Symbol("x", real=True)
    denoised = state + sigma**2 * (-(state - data_mean) / TOTAL)
    law = {state: (data_mean, start_variance)}
    yield Expectation("variance", (denoised - data_mean) ** 2, law, claim)
    exact = claim.subs(start_variance, TOTAL)
    yield Identity("from the exact law", exact, data_variance - data_variance * sigma**2 / TOTAL)
    second = sigma**4 / TOTAL
    yield Identity("too narrow as one is too wide", data_variance - exact, sigma**2 - second)
