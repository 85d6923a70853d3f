"""What follows from any schedule: ᾱ, its neighbours, SNR and σ, and what a change of levels does.

These formulas belong to the topic ``schedule``; its module imports them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import sympy as sp
from sympy import Product, Sum, exp, floor, log, sqrt

from derivations.kit import (
    Decoy,
    DensityEqual,
    Enumeration,
    Identity,
    Induction,
    Inequality,
    Integral,
    Step,
    formula,
    normal,
)
from derivations.symbols import (
    T,
    abar_1,
    abar_prev,
    abar_s,
    abar_T,
    abar_t,
    after,
    beta,
    beta_t,
    i,
    n,
    sigma,
    t,
    x_0,
    x_s,
    x_t,
)

KEPT = sp.Function("A", positive=True)(t)
FIRST, LAST = {t: sp.Integer(1)}, {t: T}
NEXT = {t: t + 1}

STEP = sp.Function("beta", positive=True)


@formula(
    "schedule.alpha_bar_product",
    title="signal power kept up to a level",
    lhs=abar_t,
    rhs=Product(1 - STEP(i), (i, 1, t)),
    citations=("S000:§3/1", "S002:§4/1", "S003:§1/1", "S004:§4.1/7", "Ho2020:4"),
    reference="refdiff.schedule:from_beta",
    decoys=(
        Decoy(
            "last-missing",
            Product(1 - STEP(i), (i, 1, t - 1)),
            "index",
            "the product stops at t−1",
            "MONAI PR#8427",
        ),
        Decoy("first-missing", Product(1 - STEP(i), (i, 2, t)), "index", "the product starts at 2"),
        Decoy("betas", Product(STEP(i), (i, 1, t)), "variance", "β where α belongs"),
        Decoy("sum", 1 - Sum(STEP(i), (i, 1, t)), "discretization", "the product to first order only"),
        Decoy("exponential", exp(-Sum(STEP(i), (i, 1, t))), "discretization", "1−β ≈ e^{−β}", "S004:§8.2/1"),
    ),
    mutate=False,
)
def alpha_bar_product(claim: sp.Expr) -> Iterator[Step]:
    """One step keeps the share 1 − β_1, and each further step its own share: induction on t."""
    yield Induction(
        "product of shares",
        (claim.subs(FIRST), 1 - STEP(1)),
        (claim.subs(NEXT), KEPT * (1 - STEP(t + 1))),
        {KEPT: claim},
    )


@formula(
    "schedule.log_alpha_bar",
    title="log of the signal power kept up to a level",
    lhs=log(abar_t),
    rhs=Sum(log(1 - STEP(i)), (i, 1, t)),
    citations=("Ho2020:4",),
    reference="refdiff.schedule:from_beta",
    decoys=(
        Decoy(
            "last-missing",
            Sum(log(1 - STEP(i)), (i, 1, t - 1)),
            "index",
            "the sum stops at t−1",
            "MONAI PR#8427",
        ),
        Decoy("first-order", -Sum(STEP(i), (i, 1, t)), "discretization", "log(1−β) ≈ −β", "S004:§8.2/1"),
        Decoy("halved", Sum(log(1 - STEP(i)), (i, 1, t)) / 2, "sqrt", "the log of the amplitude"),
    ),
    uses=("schedule.alpha_bar_product",),
    mutate=False,
)
def log_alpha_bar(claim: sp.Expr) -> Iterator[Step]:
    """Its exponential follows the recursion of the product: the log of a product is the sum of the logs."""
    yield Induction(
        "exponential of the sum",
        (exp(claim.subs(FIRST)), 1 - STEP(1)),
        (exp(claim.subs(NEXT)), KEPT * (1 - STEP(t + 1))),
        {KEPT: exp(claim)},
    )


@formula(
    "schedule.beta_from_alpha_bar",
    title="step variance from two neighbouring levels",
    lhs=beta_t,
    rhs=(abar_prev - abar_t) / abar_prev,
    citations=("Nichol2021:§3.2",),
    reference="refdiff.schedule:from_alpha_bar",
    decoys=(
        Decoy("level", 1 - abar_t, "index", "1−ᾱ_t where 1−ᾱ_t/ᾱ_{t−1} belongs", "S001:/1"),
        Decoy("difference", abar_prev - abar_t, "schedule", "not divided by ᾱ_{t−1}"),
        Decoy("over-t", (abar_prev - abar_t) / abar_t, "index", "divided by the later level"),
    ),
)
def beta_from_alpha_bar(claim: sp.Expr) -> Iterator[Step]:
    """The share 1 − β_t of the power at t−1 is the power at t; both bounds follow from ᾱ_t < ᾱ_{t−1}."""
    yield Identity("one step", (1 - claim) * abar_prev, abar_t)
    yield Inequality("positive", claim, ">", sp.Integer(0))
    yield Inequality("below 1", sp.Integer(1), ">", claim)


@formula(
    "schedule.alpha_bar_decreasing",
    title="signal power lost in one step",
    lhs=abar_prev - abar_t,
    rhs=abar_prev * beta,
    citations=("S004:§4.1/9",),
    reference="refdiff.schedule:Schedule",
    decoys=(
        Decoy("all", beta, "schedule", "the share taken for the amount"),
        Decoy("kept", abar_prev * (1 - beta), "variance", "what is kept, not what is lost"),
        Decoy("root", abar_prev * (1 - sqrt(1 - beta)), "sqrt", "amplitude lost, not power"),
    ),
    uses=("schedule.alpha_bar_product",),
)
def alpha_bar_decreasing(claim: sp.Expr) -> Iterator[Step]:
    """ᾱ_{t−1} − ᾱ_{t−1}(1−β) is positive, so ᾱ is strictly decreasing; it stays positive too."""
    yield Identity("loss", claim, abar_prev - abar_prev * (1 - beta))
    yield Inequality("strictly decreasing", claim, ">", sp.Integer(0))
    yield Inequality("stays positive", abar_prev, ">", claim)


@formula(
    "schedule.one_minus_alpha_bar",
    title="noise power from that of the level before",
    lhs=1 - abar_t,
    rhs=(1 - beta) * (1 - abar_prev) + beta,
    citations=("S003:/2", "S004:§4.1/6", "S002:/4"),
    reference="refdiff.schedule:Schedule",
    decoys=(
        Decoy("not-damped", 1 - abar_prev + beta, "variance", "old noise not damped by the step"),
        Decoy(
            "amplitude", sqrt(1 - beta) * (1 - abar_prev) + beta, "sqrt", "variance damped by an amplitude"
        ),
        Decoy(
            "deviations",
            ((1 - beta) * sqrt(1 - abar_prev) + sqrt(beta)) ** 2,
            "sqrt",
            "deviations added where variances add",
        ),
    ),
    uses=("schedule.alpha_bar_product",),
)
def one_minus_alpha_bar(claim: sp.Expr) -> Iterator[Step]:
    """Two independent noises add in variance; no subtraction is left."""
    yield Identity("noise power", claim, 1 - abar_prev * (1 - beta))
    kernel = normal(x_t, sqrt(1 - beta) * x_s, beta) * normal(x_s, sqrt(abar_prev) * x_0, 1 - abar_prev)
    after_step = normal(x_t, sqrt(abar_prev * (1 - beta)) * x_0, claim)
    yield Integral("one step of the chain", kernel, x_s, after_step)
    yield Inequality("below 1", sp.Integer(1), ">", claim)


@formula(
    "schedule.respaced_beta",
    title="step variance between two levels of a sub-sequence",
    lhs=sp.Symbol("beta_ts", positive=True),
    rhs=1 - abar_t / abar_s,
    citations=("Nichol2021:§4", "S003:§2.1/1", "S004:5.13"),
    reference="refdiff.schedule:respace",
    decoys=(
        Decoy("one-step", beta_t, "index", "β_t of the full schedule", "diffusers PR#2076"),
        Decoy(
            "ported",
            1 - abar_t / abar_prev,
            "index",
            "the neighbour t−1 instead of the level before",
            "diffusers-rs PR#47",
        ),
        Decoy("upside-down", 1 - abar_s / abar_t, "index", "the ratio the wrong way round"),
        Decoy("difference", abar_s - abar_t, "schedule", "not divided by ᾱ_s"),
        Decoy("level", 1 - abar_t, "index", "ᾱ_s forgotten"),
        Decoy(
            "one-factor-more",
            1 - abar_t / abar_s * (1 - beta),
            "index",
            "the product starts one index too early",
            "S003:§2.1/1",
        ),
    ),
    uses=("schedule.alpha_bar_product",),
)
def respaced_beta(claim: sp.Expr) -> Iterator[Step]:
    """A step of this variance carries the marginal at s into the marginal at t: the same marginals remain."""
    step = normal(x_t, sqrt(1 - claim) * x_s, claim)
    at_s, at_t = (normal(at, sqrt(power) * x_0, 1 - power) for at, power in ((x_s, abar_s), (x_t, abar_t)))
    yield Identity("signal power at t", abar_s * (1 - claim), abar_t)
    yield Integral("marginal at t", step * at_s, x_s, at_t)
    yield Inequality("positive", claim, ">", sp.Integer(0))
    yield Inequality("below 1", sp.Integer(1), ">", claim)


@formula(
    "schedule.snr",
    title="signal-to-noise ratio",
    lhs=sp.Symbol("snr_t", positive=True),
    rhs=abar_t / (1 - abar_t),
    citations=("Kingma2021:1",),
    reference="refdiff.schedule:Schedule",
    decoys=(
        Decoy("inverse", (1 - abar_t) / abar_t, "parameterization", "noise over signal: that is σ²"),
        Decoy("amplitudes", sqrt(abar_t) / sqrt(1 - abar_t), "sqrt", "ratio of amplitudes, not of powers"),
        Decoy("one-step", (1 - beta_t) / beta_t, "index", "the ratio of one step"),
    ),
)
def snr(claim: sp.Expr) -> Iterator[Step]:
    """Squared mean over variance for data of power 1; it falls from level to level."""
    law = normal(x_t, sqrt(abar_t) * x_0, 1 - abar_t)
    precision = -sp.diff(law.exponent, x_t, 2)
    mean = sp.diff(law.exponent, x_t).subs(x_t, 0) / precision
    yield Identity("squared mean over variance", claim * x_0**2, mean**2 * precision)
    yield Inequality("falls with the level", claim.subs(abar_t, abar_s), ">", claim)


@formula(
    "schedule.log_snr",
    title="log of the signal-to-noise ratio",
    lhs=log(abar_t / (1 - abar_t)),
    rhs=log(abar_t) - log(1 - abar_t),
    citations=("Kingma2021:§3.2",),
    reference="refdiff.schedule:Schedule",
    decoys=(
        Decoy(
            "half",
            (log(abar_t) - log(1 - abar_t)) / 2,
            "sqrt",
            "half of it: DPM-Solver's λ",
            "conventions:DPM-Solver",
        ),
        Decoy("gamma", log(1 - abar_t) - log(abar_t), "sign", "VDM's γ", "vdm #7"),
        Decoy(
            "half-missing",
            log(abar_t) / 2 - log(1 - abar_t),
            "sqrt",
            "½ missing before log(1−ᾱ_t)",
            "jcwang-gh/classifier-free-diffusion-guidance-Pytorch #12",
        ),
    ),
    uses=("schedule.snr",),
)
def log_snr(claim: sp.Expr) -> Iterator[Step]:
    """Its exponential is the ratio."""
    yield Identity("exponential", exp(claim), abar_t / (1 - abar_t))


@formula(
    "schedule.sigma",
    title="noise level of x_t/√ᾱ_t",
    lhs=sigma,
    rhs=sqrt((1 - abar_t) / abar_t),
    citations=("S004:8.23", "Song2021ddim:14", "Karras2022:tab.1"),
    reference="refdiff.schedule:Schedule",
    decoys=(
        Decoy("not-divided", sqrt(1 - abar_t), "variance", "not in units of the data", "azula 297b0a0"),
        Decoy("squared", (1 - abar_t) / abar_t, "sqrt", "σ² where σ belongs"),
        Decoy("inverse", sqrt(abar_t / (1 - abar_t)), "parameterization", "signal over noise"),
        Decoy(
            "half-missing",
            (1 - abar_t) / sqrt(abar_t),
            "sqrt",
            "½ missing in log σ",
            "jcwang-gh/classifier-free-diffusion-guidance-Pytorch #12",
        ),
    ),
    uses=("schedule.snr",),
)
def sigma_of_level(claim: sp.Expr) -> Iterator[Step]:
    """x_t/√ᾱ_t has mean x_0 and this deviation; σ² is one over the SNR, and σ grows with the level."""
    y = sp.Symbol("y", real=True)
    scaled = normal(sqrt(abar_t) * y, sqrt(abar_t) * x_0, 1 - abar_t)
    claimed = normal(y, x_0, claim**2)
    change = DensityEqual(
        "law of x_t/√ᾱ_t", type(scaled)(scaled.exponent, scaled.factor * sqrt(abar_t)), claimed
    )
    yield change
    yield Identity("one over the SNR, and positive", claim, 1 / sqrt(abar_t / (1 - abar_t)))
    yield Inequality("grows with the level", claim**2, ">", claim.subs(abar_t, abar_s) ** 2)


ROOT_T = sqrt(abar_T)
SHIFTED = (sqrt(abar_t) - ROOT_T) / (sqrt(abar_1) - ROOT_T)


@formula(
    "schedule.zero_terminal_snr",
    title="signal power shifted and scaled to vanish at T and stay at 1",
    lhs=sp.Symbol("abar_zero_t", nonnegative=True),
    rhs=abar_1 * SHIFTED**2,
    citations=("Lin2024:alg.1", "conventions:diffusers"),
    reference="refdiff.schedule:zero_terminal_snr",
    decoys=(
        Decoy(
            "powers", abar_1 * (abar_t - abar_T) / (abar_1 - abar_T), "sqrt", "powers shifted, not amplitudes"
        ),
        Decoy("not-scaled", (sqrt(abar_t) - ROOT_T) ** 2, "schedule", "shifted but not scaled back"),
        Decoy(
            "from-data",
            ((sqrt(abar_t) - ROOT_T) / (1 - ROOT_T)) ** 2,
            "schedule",
            "level 0 kept at 1 instead of level 1 at its value",
        ),
        Decoy("not-squared", sqrt(abar_1) * SHIFTED, "sqrt", "the amplitude where the power belongs"),
        Decoy("replaced", abar_t, "schedule", "only the last entry would be replaced"),
    ),
    assumptions=(sp.Lt(abar_T, abar_t), sp.Lt(abar_t, abar_1)),
)
def zero_terminal_snr(claim: sp.Expr) -> Iterator[Step]:
    """Of degree 2 in the old amplitude, with a double root at √ᾱ_T and the value ᾱ_1 at √ᾱ_1."""
    root = sp.Symbol("root", positive=True)
    in_root = claim.subs(abar_t, root**2)
    yield Identity("degree 2 in the amplitude", sp.diff(in_root, root, 3), sp.Integer(0))
    yield Identity("exactly 0 at T", claim.subs(abar_t, abar_T), sp.Integer(0))
    yield Identity("a double root", sp.diff(in_root, root).subs(root, ROOT_T), sp.Integer(0))
    yield Identity("level 1 unchanged", claim.subs(abar_t, abar_1), abar_1)
    slope = sp.diff(in_root, root, 2)
    yield Inequality("order kept: the second derivative is positive", slope.subs(ORDERED), ">", sp.Integer(0))


ORDERED = {abar_1: (ROOT_T + after) ** 2}


def _spacing_cases(
    claim: sp.Expr, rule: Callable[[int, int, int], sp.Expr]
) -> Callable[[], Iterator[tuple[str, sp.Rational, sp.Rational]]]:
    def cases() -> Iterator[tuple[str, sp.Rational, sp.Rational]]:
        for steps, count in ((10, 1), (10, 3), (10, 10), (7, 2), (12, 5), (1000, 7), (1000, 53), (3, 2)):
            for k in range(count):
                got = claim.subs({T: steps, n: count, i: k})
                yield f"T={steps}, n={count}, i={k}", got, rule(steps, count, k)

    return cases


@formula(
    "schedule.spacing_leading",
    title="i-th level of a sub-sequence of n, leading",
    lhs=sp.Symbol("t_i", positive=True),
    rhs=i * floor(T / n) + 1,
    citations=("Lin2024:tab.2", "conventions:diffusers"),
    reference="refdiff.schedule:subsequence",
    decoys=(
        Decoy(
            "not-floored",
            floor(i * T / n) + 1,
            "index",
            "rounded after multiplying: another list",
            "diffusers PR#1912",
        ),
        Decoy(
            "shifted",
            i * floor(T / n) + 2,
            "index",
            "one level too high: can leave the table",
            "CompVis/latent-diffusion #136",
        ),
        Decoy("by-count", i * floor(T / (n - 1)) + 1, "index", "stride of n−1 steps", "diffusers #11347"),
    ),
    mutate=False,
)
def spacing_leading(claim: sp.Expr) -> Iterator[Step]:
    """i = 0…n−1 gives exactly n levels, the first is 1, each ⌊T/n⌋ above the one before, none beyond T."""
    yield Identity("starts at 1", claim.subs(i, 0), sp.Integer(1))
    yield Identity("one stride", claim.subs(i, i + 1) - claim, floor(T / n))
    yield Enumeration(
        "levels", _spacing_cases(claim, lambda steps, count, k: sp.Integer(k * (steps // count) + 1))
    )


@formula(
    "schedule.spacing_linspace",
    title="i-th level of a sub-sequence of n, both ends visited, before rounding",
    lhs=sp.Symbol("t_i", positive=True),
    rhs=i * (T - 1) / (n - 1) + 1,
    citations=("Lin2024:tab.2", "conventions:diffusers"),
    reference="refdiff.schedule:subsequence",
    decoys=(
        Decoy(
            "stride",
            i * T / n + 1,
            "index",
            "the stride T/n of another spacing: the end is missed",
            "diffusers #12633",
        ),
        Decoy("whole", i * T / (n - 1) + 1, "index", "runs past T", "CompVis/latent-diffusion #136"),
    ),
    assumptions=(sp.Le(2, n),),
)
def spacing_linspace(claim: sp.Expr) -> Iterator[Step]:
    """1 for i = 0, T for i = n−1, equally spaced."""
    yield Identity("starts at 1", claim.subs(i, 0), sp.Integer(1))
    yield Identity("ends at T", claim.subs(i, n - 1), T)
    yield Identity("equally spaced", claim.subs(i, i + 1) - claim, (T - 1) / (n - 1))


@formula(
    "schedule.spacing_trailing",
    title="i-th level of a sub-sequence of n from the top, before rounding",
    lhs=sp.Symbol("t_i", positive=True),
    rhs=T - i * T / n,
    citations=("Lin2024:tab.2", "conventions:diffusers"),
    reference="refdiff.schedule:subsequence",
    decoys=(
        Decoy("zero-based", T - 1 - i * T / n, "index", "0-based timesteps taken for levels"),
        Decoy("leading", 1 + i * T / n, "index", "never visits T", "CompVis/stable-diffusion #686"),
        Decoy("by-count", T - i * T / (n - 1), "index", "ends at 0, which is data"),
    ),
)
def spacing_trailing(claim: sp.Expr) -> Iterator[Step]:
    """T for i = 0; the next one, i = n, would be data: n equal strides from T to 0."""
    yield Identity("starts at T", claim.subs(i, 0), T)
    yield Identity("n strides to data", claim.subs(i, n), sp.Integer(0))
    yield Identity("equally spaced", claim - claim.subs(i, i + 1), T / n)
