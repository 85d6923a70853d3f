"""Levels of consistency models: where they are, how many, and how often each; part of ``consistency``."""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import sqrt

from derivations.kit import Decoy, Enumeration, Identity, Induction, Inequality, Step, formula
from derivations.symbols import (
    average_rate,
    average_rate_first,
    count,
    count_first,
    count_last,
    dim,
    distance_squared,
    doublings,
    i,
    iteration,
    iterations,
    log_sigma_mean,
    log_sigma_std,
    rho,
    rungs,
    sig_s,
    sig_t,
    sigma_1,
    sigma_min,
    theta,
    theta_average,
)

Case = tuple[str, sp.Expr, sp.Expr]
RISES = sp.Lt(sig_s, sig_t)


def root(level: sp.Expr) -> sp.Expr:
    """The ρ-th root of a level."""
    return level ** (1 / rho)


LEVEL = (root(sigma_min) + (i - 1) / (rungs - 1) * (root(sigma_1) - root(sigma_min))) ** rho


@formula(
    "consistency.level",
    title="the levels of training, from the smallest to the largest",
    lhs=sp.Symbol("sigma_i", positive=True),
    rhs=LEVEL,
    citations=("Song2023:§2", "Karras2022:5"),
    reference="refdiff.consistency:levels",
    assumptions=(sp.Gt(rungs, 1), sp.Lt(sigma_min, sigma_1)),
    decoys=(
        Decoy("descending", (root(sigma_1) + (i - 1) / (rungs - 1) * (root(sigma_min) - root(sigma_1)))
              ** rho, "index", "from the largest to the smallest, as samplers have it"),
        Decoy("count-for-intervals", (root(sigma_min) + (i - 1) / rungs * (root(sigma_1)
              - root(sigma_min))) ** rho, "discretization", "N levels counted as N intervals"),
        Decoy("from-zero", (root(sigma_min) + i / (rungs - 1) * (root(sigma_1) - root(sigma_min))) ** rho,
              "index", "levels counted from 0 in a formula that counts from 1"),
        Decoy("geometric", sigma_min * (sigma_1 / sigma_min) ** ((i - 1) / (rungs - 1)), "schedule",
              "equal ratios: the limit of large ρ"),
    ),
)  # fmt: skip
def _level(claim: sp.Expr) -> Iterator[Step]:
    """The ρ-th roots have equal differences and the right ends: by induction on i."""
    yield Identity("the first level", claim.subs(i, 1), sigma_min)
    yield Identity("the last level", claim.subs(i, rungs), sigma_1)
    known = sp.Symbol("root_i", positive=True)
    step = (root(sigma_1) - root(sigma_min)) / (rungs - 1)
    roots = sp.powdenest(claim ** (1 / rho), force=True)
    yield Induction(
        "equal differences of the roots",
        (roots.subs(i, 1), root(sigma_min)), (known + step, roots.subs(i, i + 1)), {known: roots},
    )  # fmt: skip


SQUARES = iteration * ((count_last + 1) ** 2 - count_first**2) / iterations + count_first**2
STEPS = sp.ceiling(sqrt(SQUARES) - 1) + 1


def step_cases(claim: sp.Expr) -> Iterator[Case]:
    """The smallest whole number whose square is not below the straight line, by counting up."""
    for first, last, total in ((2, 150, 97), (2, 7, 12), (3, 20, 50)):
        for k in range(0, total + 1, total // 6):
            wanted = first
            while wanted**2 * total < k * ((last + 1) ** 2 - first**2) + total * first**2:
                wanted += 1
            numbers = {count_first: first, count_last: last, iterations: total, iteration: k}
            yield f"s_0={first}, s_1={last}, K={total}, k={k}", claim.subs(numbers), sp.Integer(wanted)


@formula(
    "consistency.steps",
    title="the number of levels at an iteration: its square grows in proportion",
    lhs=sp.Symbol("N_k", integer=True, positive=True),
    rhs=STEPS,
    citations=("Song2023:appC",),
    reference="refdiff.consistency:steps",
    assumptions=(sp.Le(iteration, iterations), sp.Le(count_first, count_last)),
    decoys=(
        Decoy("rounded-down", sp.floor(sqrt(SQUARES) - 1) + 1, "schedule", "the floor for the ceiling"),
        Decoy("linear", sp.ceiling(count_first + iteration * (count_last + 1 - count_first) / iterations),
              "schedule", "the number itself grows in proportion"),
        Decoy("last-not-raised", sp.ceiling(sqrt(iteration * (count_last**2 - count_first**2) / iterations
              + count_first**2) - 1) + 1, "index", "s_1 levels at the end, not s_1 + 1"),
        Decoy("one-too-many", STEPS + 1, "index", "1 added twice"),
    ),
)  # fmt: skip
def _steps(claim: sp.Expr) -> Iterator[Step]:
    """s_0 levels at first and s_1 + 1 at last. In between it is the smallest N with N² not below the line
    from s_0² to (s_1 + 1)², since subtracting 1 before rounding up and adding it after cancel."""
    yield Identity("at first", claim.subs(iteration, 0), count_first)
    yield Identity("at last", claim.subs(iteration, iterations), count_last + 1)
    yield Enumeration("the smallest number whose square suffices", lambda: step_cases(claim))


IMPROVED = (
    count_first * 2 ** sp.Min(sp.floor(iteration / sp.floor(iterations / (doublings + 1))), doublings) + 1
)


def doubling_cases(claim: sp.Expr) -> Iterator[Case]:
    """Training run iteration by iteration: a phase ends after K' of them, the last phase never."""
    for first, times, total in ((10, 7, 83), (2, 3, 17), (3, 1, 9)):
        levels, left = first, total // (times + 1)
        for k in range(total + 1):
            if left == 0:
                left, levels = total // (times + 1), min(2 * levels, first * 2**times)
            left -= 1
            numbers = {count_first: first, doublings: times, iterations: total, iteration: k}
            if k % 7 == 0 or k == total or left == 0:
                yield f"s_0={first}, m={times}, K={total}, k={k}", claim.subs(numbers), sp.Integer(levels + 1)


@formula(
    "consistency.improved_steps",
    title="the number of levels of improved training: doubled after equal times",
    lhs=sp.Symbol("N_k", integer=True, positive=True),
    rhs=IMPROVED,
    citations=("Song2024:§3.4",),
    reference="refdiff.consistency:improved_steps",
    assumptions=(sp.Le(iteration, iterations), sp.Lt(doublings, iterations)),
    decoys=(
        Decoy("one-phase-less", count_first * 2 ** sp.Min(sp.floor(iteration * doublings / iterations),
              doublings) + 1, "index", "as many phases as doublings: the last number is never trained at"),
        Decoy("grown-evenly", sp.floor(count_first * 2 ** sp.Min(iteration * (doublings + 1) / iterations,
              doublings)) + 1, "schedule", "grown at every iteration"),
        Decoy("levels-for-steps", IMPROVED - 1, "index", "the number of steps for that of the levels"),
        Decoy("linear", count_first * (1 + sp.Min(sp.floor(iteration / sp.floor(iterations
              / (doublings + 1))), doublings)) + 1, "schedule", "one more s_0 in each phase"),
    ),
    mutate=False,  # whole numbers: a root or a sign inside a floor is no plausible mistake
)  # fmt: skip
def _improved_steps(claim: sp.Expr) -> Iterator[Step]:
    """With s_1 = s_0·2^m there are m + 1 numbers of levels, each for K' = ⌊K/(m + 1)⌋ iterations; what is
    left of K goes to the last one. Checked against a training that counts its iterations."""
    yield Enumeration("counted iteration by iteration", lambda: doubling_cases(claim))


EMA_RATE = sp.exp(count_first * sp.log(average_rate_first) / rungs)


@formula(
    "consistency.ema_rate",
    title="the rate of the moving average for a number of levels",
    lhs=average_rate,
    rhs=EMA_RATE,
    citations=("Song2023:appC",),
    reference="refdiff.consistency:ema_rate",
    decoys=(
        Decoy("inverse", sp.exp(rungs * sp.log(average_rate_first) / count_first), "schedule",
              "less memory with more levels"),
        Decoy("constant", average_rate_first, "schedule", "one rate for all"),
        Decoy("linear", count_first * average_rate_first / rungs, "schedule", "the rate in proportion"),
    ),
)  # fmt: skip
def _ema_rate(claim: sp.Expr) -> Iterator[Step]:
    """N updates forget as much as s_0 updates do at first, at every N: the memory grows with the number of
    levels, so that information passes through as many of them."""
    yield Identity("at first", claim.subs(rungs, count_first), average_rate_first)
    yield Identity("its logarithm", rungs * sp.log(claim), count_first * sp.log(average_rate_first))


@formula(
    "consistency.ema",
    title="the moving average after any number of updates towards one value",
    lhs=sp.Symbol("theta_n", real=True),
    rhs=theta + average_rate**count * (theta_average - theta),
    citations=("Song2023:8",),
    reference="refdiff.consistency:ema",
    decoys=(
        Decoy("weights-exchanged", theta + (1 - average_rate) ** count * (theta_average - theta), "sign",
              "μ on the new value"),
        Decoy("once", theta + average_rate * (theta_average - theta), "index", "one update"),
        Decoy("start-forgotten", theta * (1 - average_rate**count), "likelihood", "started at 0"),
    ),
)  # fmt: skip
def _ema(claim: sp.Expr) -> Iterator[Step]:
    """Each update is μ times the average plus 1 − μ times the value; by induction each multiplies the
    distance by μ."""
    known = sp.Symbol("average", real=True)

    def update(average: sp.Expr) -> sp.Expr:
        return average_rate * average + (1 - average_rate) * theta

    base = (update(theta_average), claim.subs(count, 1))
    yield Induction("n updates", base, (update(known), claim.subs(count, count + 1)), {known: claim})


UNIT_HUBER = sp.Rational(54, 100000)
HUBER = sqrt(distance_squared + UNIT_HUBER**2 * dim) - UNIT_HUBER * sqrt(dim)


@formula(
    "consistency.pseudo_huber",
    title="the pseudo-Huber distance of improved training, c = 0.00054·√d",
    lhs=sp.Symbol("d", nonnegative=True),
    rhs=HUBER,
    citations=("Song2024:7", "Song2024:§3.3"),
    reference="refdiff.consistency:pseudo_huber",
    decoys=(
        Decoy("squared", distance_squared, "loss-weight", "the squared distance"),
        Decoy("distance", sqrt(distance_squared), "loss-weight", "the distance, with a kink at 0"),
        Decoy("not-shifted", sqrt(distance_squared + UNIT_HUBER**2 * dim), "loss-weight", "c at distance 0"),
        Decoy("in-dimensions", sqrt(distance_squared + UNIT_HUBER**2 * dim**2) - UNIT_HUBER * dim,
              "loss-weight", "c in proportion to d, not to its root"),
        Decoy("without-dimensions", sqrt(distance_squared + UNIT_HUBER**2) - UNIT_HUBER, "loss-weight",
              "one c for all dimensions"),
        Decoy("mean-square", sqrt(distance_squared / dim + UNIT_HUBER**2 * dim) - UNIT_HUBER * sqrt(dim),
              "loss-weight", "the mean over the dimensions under the root"),
    ),
)  # fmt: skip
def _pseudo_huber(claim: sp.Expr) -> Iterator[Step]:
    """Zero at 0, and with c added its square is the squared distance plus c²: so it is half of it over c near
    0 and the distance less c far out. With c in proportion to √d, copies of a vector are as far apart as √
    of their number times the vector: the distance of an image does not depend on its resolution."""
    c = UNIT_HUBER * sqrt(dim)
    yield Identity("zero at 0", claim.subs(distance_squared, 0), sp.Integer(0))
    yield Identity("a hyperbola", (claim + c) ** 2, distance_squared + c**2)
    yield Inequality("the positive branch", claim + c, ">", sp.Integer(0))
    near = 1 / (2 * c)
    yield Identity("near 0", sp.diff(claim, distance_squared).subs(distance_squared, 0), near)
    copies = sp.Symbol("copies", positive=True)
    many = claim.subs({distance_squared: copies * distance_squared, dim: copies * dim}, simultaneous=True)
    yield Identity("copies of a vector", many, sqrt(copies) * claim)


def quantile(level: sp.Expr) -> sp.Expr:
    """erf of a level on the scale of the normal law of log σ."""
    return sp.erf((sp.log(level) - log_sigma_mean) / (sqrt(2) * log_sigma_std))


PROBABILITY = (quantile(sig_t) - quantile(sig_s)) / (quantile(sigma_1) - quantile(sigma_min))


@formula(
    "consistency.level_probability",
    title="how often a pair of neighbouring levels is taken: log σ is normal, cut at the ends",
    lhs=sp.Symbol("p_i", positive=True),
    rhs=PROBABILITY,
    citations=("Song2024:§3.5",),
    reference="refdiff.consistency:level_probabilities",
    assumptions=(RISES, sp.Lt(sigma_min, sigma_1)),
    decoys=(
        Decoy("not-normalised", (quantile(sig_t) - quantile(sig_s)) / 2, "loss-weight",
              "the whole line counts: the probabilities do not sum to 1"),
        Decoy("uniform", (sp.log(sig_t) - sp.log(sig_s)) / (sp.log(sigma_1) - sp.log(sigma_min)),
              "loss-weight", "log σ uniform between the ends"),
        Decoy("root-two", PROBABILITY.subs(log_sigma_std, log_sigma_std / sqrt(2)), "sqrt",
              "√2 missing: erf is not the normal distribution"),
        Decoy("level-for-log", PROBABILITY.replace(sp.log, lambda level: level), "schedule",
              "σ normal where log σ belongs"),
    ),
    mutate=False,  # a ratio of four error functions: a root or a sign inside one is no plausible mistake
)  # fmt: skip
def _level_probability(claim: sp.Expr) -> Iterator[Step]:
    """It is the mass of the normal density of log σ between the two levels, over that between the ends: as
    the upper level rises it grows by the density, it vanishes for equal levels, and for the ends it is 1."""
    whole = quantile(sigma_1) - quantile(sigma_min)
    away = (sp.log(sig_t) - log_sigma_mean) ** 2 / (2 * log_sigma_std**2)
    density = sp.exp(-away) / (sqrt(2 * sp.pi) * log_sigma_std * sig_t)
    yield Identity("the density of the upper level", sp.diff(claim, sig_t) * whole, 2 * density)
    yield Identity("nothing between equal levels", claim.subs(sig_s, sig_t), sp.Integer(0))
    ends = {sig_s: sigma_min, sig_t: sigma_1}
    yield Identity("all of it between the ends", claim.subs(ends, simultaneous=True), sp.Integer(1))
