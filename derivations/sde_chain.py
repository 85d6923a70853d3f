"""The discrete chains behind VE and VP: which grid, how many steps, how far product and exponential differ.

Axioms: a step of a chain has independent noise, and time runs from 0 to 1. The chain of SMLD has N levels at
the times (i−1)/(N−1); the steps of DDPM have β_i = β(t_i)/N at the same N times, or β(t_i)/(N−1) where a step
is as long as the distance of its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

import sympy as sp

from derivations.kit import Decoy, Identity, Induction, Inequality, Series, Step, formula
from derivations.sde_named import GEOMETRIC
from derivations.sde_operators import HALF, ONE, ZERO
from derivations.symbols import (
    beta,
    beta_min,
    chain_length,
    count,
    i,
    level_t,
    rate,
    rate_gap,
    rate_integral,
    rate_integral_s,
    rate_slope,
    sigma_max,
    sigma_min,
    tau,
    time_step,
)

N = chain_length
SEVERAL = (sp.Lt(1, N),)
PLACE = (i - 1) / (N - 1)
LEVEL = sp.Function("sigma", positive=True)
Names = Mapping[sp.Basic, sp.Expr]


@formula(
    "sde.ve_level",
    title="geometric levels of the chain, ascending",
    lhs=level_t,
    rhs=sigma_min * (sigma_max / sigma_min) ** PLACE,
    citations=("Song2021:30", "S004:§8.3/1"),
    reference="refdiff.sde:ve_sigmas",
    uses=("sde.ve_variance",),
    assumptions=(*SEVERAL, sp.Lt(sigma_min, sigma_max)),
    decoys=(
        Decoy("count-for-intervals", sigma_min * (sigma_max / sigma_min) ** ((i - 1) / N), "discretization",
              "N levels counted as N intervals: the largest is not reached"),
        Decoy("from-zero", sigma_min * (sigma_max / sigma_min) ** (i / (N - 1)), "index",
              "levels counted from 0 in a formula that counts from 1"),
        Decoy("descending", sigma_max * (sigma_min / sigma_max) ** PLACE, "index",
              "the order of annealed Langevin sampling", "Song2019:§3.1"),
        Decoy("literal-two", sigma_min * (sigma_max / sigma_min) ** (i - 1), "index",
              "2 − 1 left over where N − 1 belongs"),
    ),
)  # fmt: skip
def _ve_level(claim: sp.Expr) -> Iterator[Step]:
    """The level of the process at the time (i−1)/(N−1): N levels, N−1 intervals, both ends reached."""
    yield Identity("the process at these times", claim, GEOMETRIC.subs(tau, PLACE))
    yield Identity("the first", claim.subs(i, 1), sigma_min)
    yield Identity("the last", claim.subs(i, N), sigma_max)


@formula(
    "sde.ve_chain_variance",
    title="variance of the chain that adds the difference of neighbouring squared levels",
    lhs=sp.Symbol("variance_i"),
    rhs=LEVEL(i) ** 2 - LEVEL(0) ** 2,
    citations=("Song2021:20", "S004:8.4"),
    reference="refdiff.process:from_ladder",
    uses=("sde.ve_kernel_variance",),
    decoys=(
        Decoy("deviations-add", (LEVEL(i) - LEVEL(0)) ** 2, "sqrt", "deviations added where variances add"),
        Decoy("one-level-late", LEVEL(i - 1) ** 2 - LEVEL(0) ** 2, "index", "the level before"),
    ),
)  # fmt: skip
def _ve_chain_variance(claim: sp.Expr) -> Iterator[Step]:
    """Induction over the levels, whatever they are. From clean data with σ_0 = 0 it is σ_i². The process has
    the same variance between any two of these times, so for VE the chain is the process on its grid, and
    nothing is approximated by letting N grow."""
    known = sp.Symbol("v", positive=True)
    step = (known + LEVEL(i + 1) ** 2 - LEVEL(i) ** 2, claim.subs(i, i + 1))
    yield Induction("variances add", (ZERO, claim.subs(i, 0)), step, {known: claim})
    yield Identity("from clean data", claim.subs(LEVEL(0), 0), LEVEL(i) ** 2)


@formula(
    "sde.ve_gap",
    title="variance of the chain from clean data minus that of the process from clean data",
    lhs=sp.Symbol("gap", positive=True),
    rhs=sigma_min**2,
    citations=("S004:8.4", "S004:8.10"),
    reference="refdiff.process:VE",
    uses=("sde.ve_chain_variance", "sde.ve_level", "sde.ve_variance"),
    assumptions=(sp.Lt(sigma_min, sigma_max),),
    decoys=(
        Decoy("none", ZERO, "schedule", "the kernel of the process taken for that of the chain",
              "S004:§8.2/11"),
        Decoy("deviation", sigma_min, "sqrt", "the level where its square belongs"),
    ),
)  # fmt: skip
def _ve_gap(claim: sp.Expr) -> Iterator[Step]:
    """The chain noises clean data with σ_1 = σ_min in its first step, from σ_0 = 0; the process is at time 0
    when the chain is at σ_1. So N levels are N steps from clean data but N−1 steps of the process, at all
    levels the chain has σ_min² more, and the score of the one is not that of the other near the data."""
    chain = GEOMETRIC**2
    process = GEOMETRIC**2 - sigma_min**2
    yield Identity("at every time", chain - process, claim)


NARROW = (beta_min + PLACE * rate_gap) / N
WIDE = (beta_min + PLACE * rate_gap) / (N - 1)
RATE_AT = beta_min + tau * rate_gap


@formula(
    "sde.vp_beta",
    title="step variances of the chain with N steps, rate over N",
    lhs=beta,
    rhs=NARROW,
    citations=("Song2021:32", "conventions:score_sde"),
    reference="refdiff.sde:vp_betas",
    uses=("sde.vp_integral",),
    assumptions=SEVERAL,
    decoys=(
        Decoy("wide", WIDE, "discretization", "divided by the number of intervals", "S004:8.11"),
        Decoy("times-i-over-N", (beta_min + i / N * rate_gap) / N, "index",
              "the rate at the end of the step"),
        Decoy("not-divided", beta_min + PLACE * rate_gap, "discretization", "the rate for its step"),
        Decoy("twice-divided", beta_min / N + (i - 1) / (N - 1) ** 2 * rate_gap, "discretization",
              "the two conventions mixed"),
    ),
)  # fmt: skip
def _vp_beta(claim: sp.Expr) -> Iterator[Step]:
    """The rate at (i−1)/(N−1), so that both end rates occur, over the N steps."""
    yield Identity("the rate at these times", claim, RATE_AT.subs(tau, PLACE) / N)
    yield Identity("the first", claim.subs(i, 1), beta_min / N)
    yield Identity("the last", claim.subs(i, N), (beta_min + rate_gap) / N)


@formula(
    "sde.vp_beta_wide",
    title="step variances of the chain with N levels, rate over N−1",
    lhs=beta,
    rhs=WIDE,
    citations=("S004:§8.3/2", "S004:8.7"),
    reference="refdiff.sde:vp_betas",
    uses=("sde.vp_integral",),
    assumptions=SEVERAL,
    decoys=(
        Decoy("narrow", NARROW, "discretization", "divided by the number of steps", "Song2021:32"),
        Decoy("not-divided", beta_min + PLACE * rate_gap, "discretization", "the rate for its step"),
        Decoy("twice-divided", beta_min / (N - 1) + PLACE * rate_gap / N, "discretization",
              "the two conventions mixed"),
    ),
)  # fmt: skip
def _vp_beta_wide(claim: sp.Expr) -> Iterator[Step]:
    """The rate at the time of a level, times the distance of neighbouring levels."""
    yield Identity("rate times interval", claim, RATE_AT.subs(tau, PLACE) * (PLACE.subs(i, i + 1) - PLACE))
    yield Identity("the first", claim.subs(i, 1), beta_min / (N - 1))


@formula(
    "sde.chain_ratio",
    title="step variance of the one grid over that of the other",
    lhs=sp.Symbol("ratio"),
    rhs=N / (N - 1),
    citations=("S004:§8.3/3", "Song2021:32"),
    reference="refdiff.sde:vp_betas",
    uses=("sde.vp_beta", "sde.vp_beta_wide"),
    assumptions=SEVERAL,
    decoys=(
        Decoy("equivalent", ONE, "discretization",
              "with N = 1000, 0.1 and 20 the source calls its chain the one of DDPM", "S004:§8.3/3"),
        Decoy("other-way", (N - 1) / N, "discretization", "the ratio turned round"),
    ),
)  # fmt: skip
def _chain_ratio(claim: sp.Expr) -> Iterator[Step]:
    """The same for every step: with N = 1000 every β of the source is larger by 1000/999 than that of DDPM,
    exactly and at both ends."""
    yield Identity("at every step", WIDE, claim * NARROW)
    yield Identity("a thousand steps", claim.subs(N, 1000), sp.Rational(1000, 999))


DDPM = {N: 1000, beta_min: sp.Rational(1, 10), rate_gap: sp.Rational(199, 10)}
HO = sp.Rational(1, 10000) + (i - 1) / 999 * (sp.Rational(1, 50) - sp.Rational(1, 10000))


@formula(
    "sde.ddpm_chain",
    title="the chain with N = 1000, 0.1 and 20, rate over N: the schedule of DDPM",
    lhs=beta,
    rhs=HO,
    citations=("Ho2020:§4", "Song2021:32", "S004:§8.3/3"),
    reference="refdiff.sde:vp_betas",
    uses=("sde.vp_beta", "schedule.linear"),
    decoys=(
        Decoy("rate-over-intervals", WIDE.subs(DDPM), "discretization",
              "the formula of the source with its numbers: from 1.001e-4 to 0.02002", "S004:§8.3/3"),
        Decoy("rates", NARROW.subs(DDPM) * 1000, "discretization", "the rates for the steps"),
    ),
)  # fmt: skip
def _ddpm_chain(claim: sp.Expr) -> Iterator[Step]:
    """Linear from 1e-4 to 0.02 in a thousand steps, to the last digit."""
    yield Identity("every step", claim, NARROW.subs(DDPM))
    yield Identity("the first", claim.subs(i, 1), sp.Rational(1, 10000))
    yield Identity("the last", claim.subs(i, 1000), sp.Rational(1, 50))


INTEGRAL_AT = beta_min * tau + rate_gap * tau**2 / 2
SUM_GAP = -rate_gap * count * (N - count) / (2 * N**2 * (N - 1))


@formula(
    "sde.sum_gap",
    title="sum of the first n step variances minus the integral to n/N, rate over N",
    lhs=sp.Symbol("gap"),
    rhs=SUM_GAP,
    citations=("Song2021:32",),
    reference="refdiff.sde:vp_betas",
    uses=("sde.vp_beta",),
    assumptions=SEVERAL,
    decoys=(
        Decoy("none", ZERO, "discretization", "the sum taken for the integral at every level"),
        Decoy("left-sum", -rate_gap * count / (2 * N**2), "discretization",
              "the error of a left sum: the rates reach the last one", "S004:8.8"),
    ),
)  # fmt: skip
def _sum_gap(claim: sp.Expr) -> Iterator[Step]:
    """Induction over the steps. Of first order in 1/N in the middle, and zero at the end: the sum over all
    steps is the integral to the last digit, since the rates are spread over both ends."""
    known = sp.Symbol("gap_n", real=True)
    integral = INTEGRAL_AT.subs(tau, (count + 1) / N) - INTEGRAL_AT.subs(tau, count / N)
    step = (known + NARROW.subs(i, count + 1) - integral, claim.subs(count, count + 1))
    yield Induction("one step more", (claim.subs(count, 0), ZERO), step, {known: claim})
    yield Identity("nothing at the end", claim.subs(count, N), ZERO)
    size = sp.Symbol("time", positive=True)
    middle = claim.subs(count, size / time_step).subs(N, 1 / time_step)
    leading = -rate_gap * size * (1 - size) * time_step / 2
    yield Series("first order in 1/N", sp.cancel(middle), time_step, 2, leading)


SUM_GAP_WIDE = (beta_min + rate_gap * (count - 1) / (2 * (N - 1))) / (N - 1)


@formula(
    "sde.sum_gap_wide",
    title="sum of the first n step variances minus the integral to (n−1)/(N−1), rate over N−1",
    lhs=sp.Symbol("gap"),
    rhs=SUM_GAP_WIDE,
    citations=("S004:§8.2/13", "S004:8.8"),
    reference="refdiff.sde:vp_betas",
    uses=("sde.vp_beta_wide",),
    assumptions=SEVERAL,
    decoys=(
        Decoy("none", ZERO, "discretization", "the sum taken for the integral", "S004:8.8"),
        Decoy("first-step", beta_min / (N - 1), "discretization", "only the first step too many"),
        Decoy("last-rate", (beta_min + rate_gap * (count - 1) / (N - 1)) / (N - 1), "discretization",
              "a whole step with the last rate too many"),
    ),
)  # fmt: skip
def _sum_gap_wide(claim: sp.Expr) -> Iterator[Step]:
    """Induction over the levels: level n is at the time (n−1)/(N−1), so the first step is taken before time
    0. Its loss stays, and each further step has the rate of its end, a right sum. At the end the sum exceeds
    the integral by B/(N−1), B the whole integral: of first order, where the other grid is exact."""
    known = sp.Symbol("gap_n", real=True)
    here, there = ((count + k - 1) / (N - 1) for k in (0, 1))
    integral = INTEGRAL_AT.subs(tau, there) - INTEGRAL_AT.subs(tau, here)
    step = (known + WIDE.subs(i, count + 1) - integral, claim.subs(count, count + 1))
    yield Induction("one step more", (claim.subs(count, 1), beta_min / (N - 1)), step, {known: claim})
    yield Identity("at the end", claim.subs(count, N), INTEGRAL_AT.subs(tau, 1) / (N - 1))


SQUARES = (
    count * beta_min**2
    + count * (count - 1) / (N - 1) * beta_min * rate_gap
    + count * (count - 1) * (2 * count - 1) / (6 * (N - 1) ** 2) * rate_gap**2
) / N**2
MEAN_SQUARE = beta_min**2 + beta_min * rate_gap + rate_gap**2 / 3


@formula(
    "sde.square_sum",
    title="sum of the squares of the first n step variances, rate over N",
    lhs=sp.Symbol("squares"),
    rhs=SQUARES,
    citations=("Song2021:32",),
    reference="refdiff.sde:vp_betas",
    uses=("sde.vp_beta",),
    assumptions=SEVERAL,
    decoys=(
        Decoy("mean-square", MEAN_SQUARE * count / N**2, "discretization",
              "the integral in place of the sum"),
        Decoy("square-of-mean", (beta_min + rate_gap / 2) ** 2 * count / N**2, "variance",
              "the square of the mean rate"),
    ),
    mutate=False,  # a polynomial of three terms whose coefficients the decoys and the induction pin
)  # fmt: skip
def _square_sum(claim: sp.Expr) -> Iterator[Step]:
    """Induction over the steps. For all of them it is ∫β² over N, to first order: half of that is what the
    log of the product misses (``sde.log_kept``)."""
    known = sp.Symbol("sum_n", real=True)
    step = (known + NARROW.subs(i, count + 1) ** 2, claim.subs(count, count + 1))
    yield Induction("one step more", (claim.subs(count, 0), ZERO), step, {known: claim})
    whole = sp.cancel(claim.subs(count, N).subs(N, 1 / time_step))
    yield Series("all steps, to first order in 1/N", whole, time_step, 2, MEAN_SQUARE * time_step)
    yield Identity("the integral of the squared rate", sp.integrate(RATE_AT**2, (tau, 0, 1)), MEAN_SQUARE)


@formula(
    "sde.log_kept",
    title="log of the signal power that a step keeps plus its variance, to third order",
    lhs=sp.log(1 - beta) + beta,
    rhs=-(beta**2) / 2 - beta**3 / 3,
    citations=("S004:8.8",),
    reference="refdiff.schedule:from_beta",
    decoys=(
        Decoy("none", ZERO, "discretization", "1 − β taken for e^{−β}", "S004:8.8"),
        Decoy("too-much-kept", beta**2 / 2 - beta**3 / 3, "sign",
              "the exponential below the product: it is above"),
        Decoy("second-order", -(beta**2) / 2 - beta**3 / 6, "discretization",
              "the series of the exponential for that of the logarithm"),
    ),
)  # fmt: skip
def _log_kept(claim: sp.Expr) -> Iterator[Step]:
    """The product ∏(1−β_i) is below e^{−Σβ_i}, in the logarithm by ½Σβ_i² and more. It is squeezed: the
    differences from β²/2 and from β²/(2(1−β)) begin at 0 and have slopes of one sign. So with S = Σβ_i² the
    logs differ by at least S/2 and at most S/(2(1−max β))."""
    lost = -sp.log(1 - beta) - beta
    yield Series("the series", -lost, beta, 4, claim)
    low, high = beta**2 / 2, beta**2 / (2 * (1 - beta))
    rise = beta**2 / (1 - beta)
    yield Identity("slope above the lower bound", sp.diff(lost - low, beta), rise)
    yield Inequality("which rises", rise, ">", ZERO)
    yield Identity("slope below the upper bound", sp.diff(high - lost, beta), rise / (2 * (1 - beta)))
    yield Inequality("which rises too", rise / (2 * (1 - beta)), ">", ZERO)
    yield Identity("both begin at 0", (lost - low).subs(beta, 0) + (high - lost).subs(beta, 0), ZERO)


ELAPSED = sp.Function("B", real=True)(time_step)


def at_the_beginning(function: sp.Expr, order: int) -> sp.Expr:
    """A derivative of a function of the length of the step, where the step begins."""
    return sp.diff(function, time_step, order).subs(time_step, 0)


def taylor(title: str, expr: sp.Expr, order: int, claim: sp.Expr, names: Names) -> Iterator[Step]:
    """The Taylor coefficients below an order, with names for the values of undefined functions at 0, which
    are arbitrary numbers."""
    for k in range(order):
        found = _coefficient(expr, k, tuple(names.items()))
        claimed = sp.diff(claim, time_step, k).subs(time_step, 0) / sp.factorial(k)
        yield Identity(f"{title}, order {k} of the step", found, claimed)


@cache
def _coefficient(expr: sp.Expr, k: int, names: tuple[tuple[sp.Basic, sp.Expr], ...]) -> sp.Expr:
    return sp.diff(expr, time_step, k).subs(time_step, 0).xreplace(dict(names)) / sp.factorial(k)


START = {at_the_beginning(ELAPSED, 1): rate, at_the_beginning(ELAPSED, 2): rate_slope}


def _local(beta_i: sp.Expr, claim: sp.Expr) -> Iterator[Step]:
    """log(1 − β_i) plus the integral of the rate over the step, for any rate, as a series in the step."""
    gap = sp.log(1 - beta_i) + ELAPSED - ELAPSED.subs(time_step, 0)
    yield from taylor("any rate", gap, 3, claim * time_step**2, START)


@formula(
    "sde.chain_gap_right",
    title="log of what a step with the rate of its end keeps over the exponential, by the squared step",
    lhs=sp.Symbol("gap_per_square"),
    rhs=-rate_slope / 2 - rate**2 / 2,
    citations=("Song2021:23", "S004:8.7", "S004:8.8"),
    reference="refdiff.process:from_schedule",
    uses=("sde.log_kept",),
    decoys=(
        Decoy("none", ZERO, "discretization", "the chain taken for the process", "S004:8.8"),
        Decoy("left", rate_slope / 2 - rate**2 / 2, "index",
              "the rate at the beginning of the step: the source's second line has it there, against its own "
              "definitions", "S004:8.7"),
        Decoy("product-only", -(rate**2) / 2, "discretization",
              "the sum taken for the integral"),
        Decoy("sum-only", -rate_slope / 2, "discretization",
              "the product taken for the exponential"),
    ),
)  # fmt: skip
def _chain_gap_right(claim: sp.Expr) -> Iterator[Step]:
    """For any smooth rate with integral B. As level i is at the time of β_i, its step ends there. Second
    order in a step and so first order in the whole: over the unit of time the logs differ by −½h·(β(1) − β(0)
    + ∫β²)."""
    yield from _local(time_step * sp.diff(ELAPSED, time_step), claim)


@formula(
    "sde.chain_gap_left",
    title="log of what a step with the rate of its beginning keeps over the exponential, by the squared step",
    lhs=sp.Symbol("gap_per_square"),
    rhs=rate_slope / 2 - rate**2 / 2,
    citations=("S004:8.7",),
    reference="refdiff.process:from_schedule",
    uses=("sde.log_kept",),
    decoys=(
        Decoy("none", ZERO, "discretization", "the chain taken for the process", "S004:8.8"),
        Decoy("right", -rate_slope / 2 - rate**2 / 2, "index", "the rate at the end"),
    ),
)  # fmt: skip
def _chain_gap_left(claim: sp.Expr) -> Iterator[Step]:
    """For any smooth rate. A rising rate hides part of what the product loses."""
    yield from _local(time_step * at_the_beginning(ELAPSED, 1), claim)


EXACT_BETA = 1 - sp.exp(rate_integral_s - rate_integral)


@formula(
    "sde.beta_from_integral",
    title="step variance of the chain that is the process on its grid",
    lhs=beta,
    rhs=EXACT_BETA,
    citations=("Kingma2021:app.A", "Lu2022:app.D"),
    reference="refdiff.process:to_schedule",
    uses=("sde.vp_kernel_variance", "sde.transition_variance"),
    assumptions=(sp.Lt(rate_integral_s, rate_integral),),
    decoys=(
        Decoy("first-order", rate_integral - rate_integral_s, "discretization",
              "the integral of the rate over the step"),
        Decoy("root", 1 - sp.exp((rate_integral_s - rate_integral) / 2), "sqrt", "the factor, not the power"),
        Decoy("exchanged", 1 - sp.exp(rate_integral - rate_integral_s), "index", "the times exchanged"),
    ),
)  # fmt: skip
def _beta_from_integral(claim: sp.Expr) -> Iterator[Step]:
    """What is left of the power, and so the variance that keeps the sum at 1: the product of 1 − β over any
    grid is the exponential. The chains of the source have the integral itself, to first order."""
    yield Identity("the power kept", 1 - claim, sp.exp(-rate_integral) / sp.exp(-rate_integral_s))
    middle = sp.Symbol("B_r", positive=True)
    first, second = claim.subs(rate_integral, middle), claim.subs(rate_integral_s, middle)
    yield Identity("two steps are one", (1 - first) * (1 - second), 1 - claim)
    small = claim.subs(rate_integral, rate_integral_s + time_step)
    yield Series("to second order", small, time_step, 3, time_step - time_step**2 * HALF)


@formula(
    "sde.rate_from_beta",
    title="constant rate of a process that has the step β in the time Δt",
    lhs=rate,
    rhs=-sp.log(1 - beta) / time_step,
    citations=("Song2021:app.B", "S004:8.7"),
    reference="refdiff.process:from_schedule",
    uses=("sde.beta_from_integral",),
    decoys=(
        Decoy("first-order", beta / time_step, "discretization", "the source's rate: β over the step",
              "S004:8.7"),
        Decoy("sign-lost", sp.log(1 - beta) / time_step, "sign", "a negative rate"),
        Decoy("doubled", -2 * sp.log(1 - beta) / time_step, "sqrt", "the rate of the power counted twice"),
    ),
)  # fmt: skip
def _rate_from_beta(claim: sp.Expr) -> Iterator[Step]:
    """The exact step variance with the integral rate·Δt is β again. The rate β/Δt of the source is its limit
    for small β: too low by β²/(2Δt) to leading order."""
    at = {rate_integral: time_step * claim, rate_integral_s: 0}
    yield Identity("the step variance", EXACT_BETA.subs(at), beta)
    short = beta / time_step + beta**2 / (2 * time_step)
    yield Series("for small steps", claim, beta, 3, short)
