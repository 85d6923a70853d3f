"""Denoising diffusion probabilistic models: forward kernels, posterior, reverse step, losses.

Axioms: the one-step kernel q(x_t | x_{t-1}) = N(√(1−β_t)·x_{t-1}, β_t) with fresh noise in every step (a
Markov chain), Bayes' rule, and the laws of total expectation and variance. Dimensions are independent, so
every formula is written for one of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations.kit import (
    Decoy,
    DensityEqual,
    Expectation,
    Identity,
    Induction,
    Inequality,
    Integral,
    LogDensity,
    Step,
    formula,
    normal,
)
from derivations.kit.zero import close
from derivations.symbols import (
    abar_prev,
    abar_s,
    abar_t,
    alpha_t,
    beta_t,
    beta_tilde_t,
    eps,
    mu,
    x_0,
    x_prev,
    x_s,
    x_t,
    z,
)

KERNEL = normal(x_t, sp.sqrt(1 - beta_t) * x_prev, beta_t)
"""The axiom."""


def moments(claim: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """Mean and variance of an affine function of the standard normal ε."""
    return claim.subs(eps, 0), sp.diff(claim, eps) ** 2


def at_level(expr: sp.Expr, level: sp.Expr) -> sp.Expr:
    """An expression of level t at another level."""
    return close(expr).subs(abar_t, level)


@formula(
    "ddpm.one_step",
    title="one step of the forward process",
    lhs=x_t,
    rhs=sp.sqrt(alpha_t) * x_prev + sp.sqrt(beta_t) * eps,
    citations=("Ho2020:2", "S000:2", "S000:3", "S003:/2", "S004:4.1"),
    reference="refdiff.ddpm:q_step",
    decoys=(
        Decoy(
            "bar-in-kernel", sp.sqrt(abar_t) * x_prev + sp.sqrt(beta_t) * eps, "index",
            "√ᾱ_t where √α_t belongs", "S004:4.3",
        ),
        Decoy(
            "variance-for-std", sp.sqrt(alpha_t) * x_prev + beta_t * eps, "sqrt", "β_t where √β_t belongs"
        ),
        Decoy(
            "no-root-on-signal", alpha_t * x_prev + sp.sqrt(beta_t) * eps, "sqrt", "α_t where √α_t belongs"
        ),
    ),
)  # fmt: skip
def _one_step(claim: sp.Expr) -> Iterator[Step]:
    """The kernel is an axiom; a sample of it is its mean plus its standard deviation times a standard
    normal ε. Solve for ε, change variables, and the density of ε becomes the kernel. Unit variance is
    kept."""
    mean, std = claim.subs(eps, 0), sp.diff(claim, eps)
    pushed = LogDensity(-(((x_t - mean) / std) ** 2) / 2, 1 / (sp.sqrt(2 * sp.pi) * std))
    yield DensityEqual("change of variables from ε to x_t", pushed, KERNEL)
    yield Inequality("the root of β_t is the positive one", std, ">", sp.Integer(0))
    yield Expectation("unit variance is preserved", claim**2, {x_prev: (0, 1), eps: (0, 1)}, sp.Integer(1))


@formula(
    "ddpm.marginal",
    title="t steps of the forward process at once",
    lhs=x_t,
    rhs=sp.sqrt(abar_t) * x_0 + sp.sqrt(1 - abar_t) * eps,
    citations=("Ho2020:4", "Song2021ddim:4", "S000:4", "S000:8", "S003:/2", "S004:§4.1"),
    reference="refdiff.ddpm:q_sample",
    uses=("ddpm.one_step",),
    decoys=(
        Decoy(
            "bars-missing", sp.sqrt(alpha_t) * x_0 + sp.sqrt(1 - alpha_t) * eps, "index",
            "α_t where ᾱ_t belongs, beside a one-step kernel written with the same α_t", "S001:/1",
        ),
        Decoy(
            "signal-without-root", abar_t * x_0 + sp.sqrt(1 - abar_t) * eps, "sqrt",
            "Su's ᾱ_t, which is √ᾱ_t, in a text that defines ᾱ_t = ∏α_i with α_i = 1 − β_i", "S003:/9",
        ),
        Decoy(
            "noise-without-root", sp.sqrt(abar_t) * x_0 + (1 - abar_t) * eps, "sqrt",
            "the variance multiplies the noise", "How-Diffusion-Models-Work #1",
        ),
        Decoy(
            "variance-under-two-roots", sp.sqrt(abar_t) * x_0 + sp.sqrt(sp.sqrt(1 - abar_t)) * eps, "sqrt",
            "the standard deviation in the place of the variance", "S001:/10",
        ),
        Decoy(
            "variance-from-roots", sp.sqrt(abar_t) * x_0 + sp.sqrt(1 - sp.sqrt(abar_t)) * eps, "sqrt",
            "variance 1 − √ᾱ_t", "jcwang-gh/classifier-free-diffusion-guidance-Pytorch #12",
        ),
    ),
)  # fmt: skip
def _marginal(claim: sp.Expr) -> Iterator[Step]:
    """Induction on t. At t = 0 there is no noise: ᾱ_0 = 1. A step multiplies the mean by √α_t and the
    variance by α_t and adds β_t; integrating x_{t-1} out shows that the law stays normal."""
    mean, variance = moments(claim)
    mean_prev, variance_prev = at_level(mean, abar_prev), at_level(variance, abar_prev)
    m, v = sp.Symbol("m", real=True), sp.Symbol("v", nonnegative=True)
    yield Induction(
        "mean", (at_level(mean, sp.Integer(1)), x_0), (sp.sqrt(alpha_t) * m, mean), {m: mean_prev}
    )
    yield Induction(
        "variance", (at_level(variance, sp.Integer(1)), sp.Integer(0)), (alpha_t * v + beta_t, variance),
        {v: variance_prev},
    )  # fmt: skip
    yield Inequality("the root of 1 − ᾱ_t is the positive one", sp.diff(claim, eps), ">", sp.Integer(0))
    joint = KERNEL * normal(x_prev, mean_prev, variance_prev)
    yield Integral("x_{t-1} integrated out", joint, x_prev, normal(x_t, mean, variance))


@formula(
    "ddpm.transition",
    title="the forward process between any two levels",
    lhs=x_t,
    rhs=sp.sqrt(abar_t / abar_s) * x_s + sp.sqrt(1 - abar_t / abar_s) * eps,
    citations=("S003:/15", "Kingma2021vdm:20"),
    reference="refdiff.ddpm:transition",
    uses=("ddpm.one_step", "ddpm.marginal"),
    assumptions=(sp.Lt(abar_prev, abar_s),),
    decoys=(
        Decoy(
            "difference-for-ratio", sp.sqrt(abar_t / abar_s) * x_s + sp.sqrt(abar_s - abar_t) * eps,
            "variance", "variance ᾱ_s − ᾱ_t, the noise as it is seen from x_0",
        ),
        Decoy(
            "marginal-variance", sp.sqrt(abar_t / abar_s) * x_s + sp.sqrt(1 - abar_t) * eps, "variance",
            "all the noise of level t, though x_s brings its own",
        ),
    ),
)  # fmt: skip
def _transition(claim: sp.Expr) -> Iterator[Step]:
    """Induction on t from t = s, where nothing happens. Then the semigroup: stopping at any level
    between changes nothing, and starting from the marginal of s ends in the marginal of t."""
    mean, variance = moments(claim)
    mean_prev, variance_prev = at_level(mean, abar_prev), at_level(variance, abar_prev)
    m, v = sp.Symbol("m", real=True), sp.Symbol("v", nonnegative=True)
    yield Induction("mean", (at_level(mean, abar_s), x_s), (sp.sqrt(alpha_t) * m, mean), {m: mean_prev})
    yield Induction(
        "variance", (at_level(variance, abar_s), sp.Integer(0)), (alpha_t * v + beta_t, variance),
        {v: variance_prev},
    )  # fmt: skip
    yield Inequality("the root of the variance is the positive one", sp.diff(claim, eps), ">", sp.Integer(0))
    steps = KERNEL * normal(x_prev, mean_prev, variance_prev)
    yield Integral("Chapman–Kolmogorov", steps, x_prev, normal(x_t, mean, variance))
    marginal = normal(x_s, sp.sqrt(abar_s) * x_0, 1 - abar_s)
    yield Integral(
        "from marginal to marginal", normal(x_t, mean, variance) * marginal, x_s,
        normal(x_t, sp.sqrt(abar_t) * x_0, 1 - abar_t),
    )  # fmt: skip


MARGINAL_T = normal(x_t, sp.sqrt(abar_t) * x_0, 1 - abar_t)
MARGINAL_PREV = normal(x_prev, sp.sqrt(abar_prev) * x_0, 1 - abar_prev)
MARGINAL_S = normal(x_s, sp.sqrt(abar_s) * x_0, 1 - abar_s)
BETA_TILDE = beta_t * (1 - abar_prev) / (1 - abar_t)
POSTERIOR_MEAN = (
    sp.sqrt(abar_prev) * beta_t / (1 - abar_t) * x_0 + sp.sqrt(alpha_t) * (1 - abar_prev) / (1 - abar_t) * x_t
)


@formula(
    "ddpm.posterior_variance",
    title="variance of the forward posterior",
    lhs=beta_tilde_t,
    rhs=BETA_TILDE,
    citations=("Ho2020:7", "S000:7", "S001:/7", "S003:/7", "S004:4.5"),
    reference="refdiff.ddpm:posterior",
    uses=("ddpm.marginal",),
    decoys=(
        Decoy(
            "bar-missing-below", beta_t * (1 - abar_prev) / (1 - alpha_t), "variance",
            "1 − α_t below the line: β̃_t collapses to 1 − ᾱ_{t−1}", "varun-ml/diffusion-models-tutorial PR#1",
        ),
        Decoy(
            "subscript-fallen", -abar_t * beta_t / (1 - abar_t), "index",
            "1 − ᾱ_t − 1 where 1 − ᾱ_{t−1} belongs: the −1 left the index", "S004:§4.2",
        ),
        Decoy("beta", beta_t, "variance", "the forward variance, not the posterior's", "S000:§reverse/2"),
        Decoy(
            "precision", (1 - abar_t) / (beta_t * (1 - abar_prev)), "variance", "the precision in its place"
        ),
        Decoy(
            "levels-swapped", beta_t * (1 - abar_t) / (1 - abar_prev), "index",
            "1 − ᾱ_t above and 1 − ᾱ_{t−1} below the line",
        ),
    ),
)  # fmt: skip
def _posterior_variance(claim: sp.Expr) -> Iterator[Step]:
    """Bayes: q(x_{t-1} | x_t, x_0) = q(x_t | x_{t-1}) q(x_{t-1} | x_0) / q(x_t | x_0). The quotient is
    compared with a normal density, exponent and normaliser apart; and the precisions of the two factors
    add."""
    yield Identity("precisions add", 1 / claim, alpha_t / beta_t + 1 / (1 - abar_prev))
    bayes = KERNEL * MARGINAL_PREV / MARGINAL_T
    yield DensityEqual("Bayes", bayes, normal(x_prev, POSTERIOR_MEAN, claim))


@formula(
    "ddpm.posterior_mean",
    title="mean of the forward posterior",
    lhs=mu,
    rhs=POSTERIOR_MEAN,
    citations=("Ho2020:7", "S000:7", "S001:/6", "S003:/7"),
    reference="refdiff.ddpm:posterior",
    uses=("ddpm.marginal", "ddpm.posterior_variance"),
    decoys=(
        Decoy(
            "bar-on-x_t", sp.sqrt(abar_prev) * beta_t / (1 - abar_t) * x_0
            + sp.sqrt(abar_t) * (1 - abar_prev) / (1 - abar_t) * x_t, "index",
            "√ᾱ_t where √α_t belongs", "S004:4.5",
        ),
        Decoy(
            "root-over-both", sp.sqrt(abar_prev) * beta_t / (1 - abar_t) * x_0
            + sp.sqrt(abar_t * (1 - abar_prev)) / (1 - abar_t) * x_t, "sqrt",
            "the root reaches over 1 − ᾱ_{t−1}, and a bar too many", "S004:§4.2",
        ),
        Decoy(
            "coefficients-swapped", sp.sqrt(abar_prev) * beta_t / (1 - abar_t) * x_t
            + sp.sqrt(alpha_t) * (1 - abar_prev) / (1 - abar_t) * x_0, "parameterization",
            "the coefficients of x_t and x_0 exchanged",
        ),
        Decoy(
            "bar-missing-on-x_0", sp.sqrt(alpha_t) * beta_t / (1 - abar_t) * x_0
            + sp.sqrt(alpha_t) * (1 - abar_prev) / (1 - abar_t) * x_t, "index",
            "√α_t where √ᾱ_{t−1} belongs",
        ),
    ),
)  # fmt: skip
def _posterior_mean(claim: sp.Expr) -> Iterator[Step]:
    """Bayes again; a mean of independent guesses is weighted with their precisions, and averaging the
    posterior over x_t brings back the marginal of x_{t-1}."""
    bayes = KERNEL * MARGINAL_PREV / MARGINAL_T
    yield DensityEqual("Bayes", bayes, normal(x_prev, claim, BETA_TILDE))
    weighted = sp.sqrt(alpha_t) / beta_t * x_t + sp.sqrt(abar_prev) / (1 - abar_prev) * x_0
    yield Identity("weighted with precisions", claim, weighted * BETA_TILDE)
    at_x_t = claim.subs(x_t, sp.sqrt(abar_t) * x_0 + sp.sqrt(1 - abar_t) * eps) + sp.sqrt(BETA_TILDE) * z
    standard = {eps: (sp.Integer(0), sp.Integer(1)), z: (sp.Integer(0), sp.Integer(1))}
    yield Expectation("mean of the marginal again", at_x_t, standard, sp.sqrt(abar_prev) * x_0)


@formula(
    "ddpm.posterior_variance_bounds",
    title="0 < β̃_t < β_t: the ratio lies between 0 and 1",
    lhs=beta_tilde_t / beta_t,
    rhs=(1 - abar_prev) / (1 - abar_t),
    citations=("Ho2020:§3.2", "S000:§reverse/2"),
    uses=("ddpm.posterior_variance",),
)
def _posterior_variance_bounds(claim: sp.Expr) -> Iterator[Step]:
    """Noise only grows, so 1 − ᾱ_{t−1} < 1 − ᾱ_t. The gap is ᾱ_{t−1}β_t²/(1 − ᾱ_t), second order in
    β_t: both variances agree for small steps."""
    yield Identity("the ratio", BETA_TILDE / beta_t, claim)
    yield Inequality("positive", claim, ">", sp.Integer(0))
    yield Inequality("below one", sp.Integer(1), ">", claim)
    yield Identity("the gap", beta_t * (1 - claim), abar_prev * beta_t**2 / (1 - abar_t))


def weights_of_law(claim: sp.Expr, variable: sp.Symbol) -> tuple[sp.Expr, sp.Expr]:
    """A claim at the mean of a two-point law, and the mean of the claims: equal when the claim is
    affine."""
    a, b, w = (sp.Symbol(name, real=True) for name in ("a", "b", "w"))
    parts = w * claim.subs(variable, a) + (1 - w) * claim.subs(variable, b)
    return parts, claim.subs(variable, w * a + (1 - w) * b)
