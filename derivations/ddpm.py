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
    Substitution,
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
    data_mean,
    data_variance,
    eps,
    eps_hat,
    fraction,
    gain,
    intercept,
    mu,
    mu_hat,
    omega,
    score,
    sigma_t,
    step_noise_hat,
    x_0,
    x_0_hat,
    x_0_variance,
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


def one_more_step() -> Step:
    """A normal law of x_{t-1} becomes a normal law of x_t: Chapman–Kolmogorov with any mean and
    variance."""
    m, v = sp.Symbol("m", real=True), sp.Symbol("v", positive=True)
    joint = KERNEL * normal(x_prev, m, v)
    image = normal(x_t, sp.sqrt(alpha_t) * m, alpha_t * v + beta_t)
    return Integral("x_{t-1} integrated out", joint, x_prev, image)


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
            "α_t where ᾱ_t belongs, beside a one-step kernel written with the same α_t",
            "S001:/1, S001:/2, S003:§1/2",
        ),
        Decoy(
            "data-missing", sp.sqrt(abar_t) + sp.sqrt(1 - abar_t) * eps, "data-scaling",
            "the factor of the data without the data", "S003:/5",
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
            "the standard deviation in the place of the variance", "S001:/12",
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
    yield one_more_step()


@formula(
    "ddpm.transition",
    title="the forward process between any two levels",
    lhs=x_t,
    rhs=sp.sqrt(abar_t / abar_s) * x_s + sp.sqrt(1 - abar_t / abar_s) * eps,
    citations=("S003:/13", "S003:/15", "Kingma2021vdm"),
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
    """Induction on t from t = s, where nothing happens; every step keeps the law normal. Starting from
    the marginal of s it ends in the marginal of t."""
    mean, variance = moments(claim)
    mean_prev, variance_prev = at_level(mean, abar_prev), at_level(variance, abar_prev)
    m, v = sp.Symbol("m", real=True), sp.Symbol("v", nonnegative=True)
    yield Induction("mean", (at_level(mean, abar_s), x_s), (sp.sqrt(alpha_t) * m, mean), {m: mean_prev})
    yield Induction(
        "variance", (at_level(variance, abar_s), sp.Integer(0)), (alpha_t * v + beta_t, variance),
        {v: variance_prev},
    )  # fmt: skip
    yield Inequality("the root of the variance is the positive one", sp.diff(claim, eps), ">", sp.Integer(0))
    yield one_more_step()
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
            "1 − ᾱ_t − 1 where 1 − ᾱ_{t−1} belongs: the −1 left the index", "S004:§4.2/9, S004:§8.4/8",
        ),
        Decoy("beta", beta_t, "variance", "the forward variance, not the posterior's", "S000:§4/13"),
        Decoy(
            "precision", (1 - abar_t) / (beta_t * (1 - abar_prev)), "variance", "the precision in its place"
        ),
        Decoy(
            "precision-and-square", alpha_t**2 / beta_t + 1 / (1 - abar_prev), "variance",
            "the precision in its place, and α_t² where α_t belongs", "S002:/14",
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
            "√ᾱ_t where √α_t belongs", "S004:4.4, S004:4.5",
        ),
        Decoy(
            "root-over-both", sp.sqrt(abar_prev) * beta_t / (1 - abar_t) * x_0
            + sp.sqrt(abar_t * (1 - abar_prev)) / (1 - abar_t) * x_t, "sqrt",
            "the root reaches over 1 − ᾱ_{t−1}, and a bar too many", "S004:§4.2/12",
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
    citations=("Ho2020:§3.2", "S000:§4/14"),
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


def two_point(claim: sp.Expr, variable: sp.Symbol) -> tuple[sp.Expr, sp.Expr]:
    """The mean of a claim over two values, and the claim at their mean: equal when it is affine."""
    a, b, w = (sp.Symbol(name, real=True) for name in ("a", "b", "w"))
    parts = w * claim.subs(variable, a) + (1 - w) * claim.subs(variable, b)
    return parts, claim.subs(variable, w * a + (1 - w) * b)


@formula(
    "ddpm.mean_from_x_0",
    title="mean of the reverse step from the mean of the data",
    lhs=mu,
    rhs=POSTERIOR_MEAN,
    citations=("Ho2020:7", "S001:/6"),
    reference="refdiff.ddpm:mean_from_x_0",
    uses=("ddpm.posterior_mean",),
)
def _mean_from_x_0(claim: sp.Expr) -> Iterator[Step]:
    """Law of total expectation: E[x_{t-1} | x_t] is the mean of the posterior means over x_0 given x_t.
    The posterior mean is affine in x_0, so this is the posterior mean at E[x_0 | x_t], for any law of
    the data. The affine function is shown by its values on two-point laws; linearity does the rest."""
    yield Identity("for a point mass it is the posterior mean", claim, POSTERIOR_MEAN)
    yield Identity("affine in x_0", *two_point(claim, x_0))


X_0_FROM_EPS = (x_t - sp.sqrt(1 - abar_t) * eps) / sp.sqrt(abar_t)
MEAN_FROM_EPS = (x_t - beta_t / sp.sqrt(1 - abar_t) * eps) / sp.sqrt(alpha_t)
TWEEDIE = (x_t + (1 - abar_t) * score) / sp.sqrt(abar_t)


@formula(
    "ddpm.mean_from_eps",
    title="mean of the reverse step from the noise",
    lhs=mu,
    rhs=MEAN_FROM_EPS,
    citations=("Ho2020:11", "S000:9", "S004:§4.2/16"),
    reference="refdiff.ddpm:mean_from_eps",
    uses=("ddpm.mean_from_x_0", "ddpm.marginal"),
    decoys=(
        Decoy(
            "bar-outside", (x_t - beta_t / sp.sqrt(1 - abar_t) * eps) / sp.sqrt(abar_t), "index",
            "1/√ᾱ_t where 1/√α_t belongs",
        ),
        Decoy(
            "root-missing-below", (x_t - beta_t / (1 - abar_t) * eps) / sp.sqrt(alpha_t), "sqrt",
            "1 − ᾱ_t where its root belongs",
        ),
        Decoy(
            "root-of-beta", (x_t - sp.sqrt(beta_t) * eps) / sp.sqrt(alpha_t), "parameterization",
            "one step's noise taken for the noise of all t steps",
        ),
    ),
)  # fmt: skip
def _mean_from_eps(claim: sp.Expr) -> Iterator[Step]:
    """Solve the marginal for x_0 and put it into the posterior mean."""
    yield Identity("x_0 through ε", claim, POSTERIOR_MEAN.subs(x_0, X_0_FROM_EPS))
    yield Identity("affine in ε, so E[ε | x_t] gives E[x_{t-1} | x_t]", *two_point(claim, eps))


def tweedie_steps(
    claim: sp.Expr, kernel: LogDensity, source: sp.Symbol, scale: sp.Expr, variance: sp.Expr
) -> Iterator[Step]:
    """``claim`` is the mean of ``source`` given x_t for every law of ``source``.

    Axiom: derivative and integral may be exchanged. Then q' = −(x_t·q − scale·m)/variance with q the
    density of x_t and m the integral of source times the joint density, whatever the law; for two-point
    laws there is no axiom.
    """
    q = sp.Function("q", positive=True)(x_t)
    m = sp.Function("m", real=True)(x_t)
    exchanged = (variance * sp.diff(q, x_t) + x_t * q) / scale
    yield Substitution("any law", m - q * claim.subs(score, sp.diff(q, x_t) / q), {m: exchanged})
    density = kernel.factor * sp.exp(kernel.exponent)
    pointwise = -(x_t - scale * source) / variance * density
    yield Identity("the derivative of the kernel", sp.diff(density, x_t), pointwise)
    a, b, w = (sp.Symbol(name, **kind) for name, kind in (("a", REAL), ("b", REAL), ("w", POSITIVE)))
    first, second = w * density.subs(source, a), density.subs(source, b)
    total = first + second
    mean = (a * first + b * second) / total
    yield Identity("any two-point law", claim.subs(score, sp.diff(total, x_t) / total), mean)


REAL = {"real": True}
POSITIVE = {"positive": True}


@formula(
    "ddpm.tweedie",
    title="mean of the data given x_t, for any law of the data",
    lhs=x_0,
    rhs=TWEEDIE,
    citations=("Efron2011", "S004:4.11"),
    reference="refdiff.ddpm:tweedie",
    uses=("ddpm.marginal",),
    decoys=(
        Decoy(
            "score-with-minus", (x_t - (1 - abar_t) * score) / sp.sqrt(abar_t), "sign",
            "the score of the opposite sign", "Speech-Backbones (Grad-TTS) #25",
        ),
        Decoy(
            "no-scale", x_t + (1 - abar_t) * score, "parameterization", "the denoised √ᾱ_t·x_0 taken for x_0"
        ),
    ),
)  # fmt: skip
def _tweedie(claim: sp.Expr) -> Iterator[Step]:
    """Differentiate q(x_t) = ∫ p(x_0) N(x_t; √ᾱ_t·x_0, 1−ᾱ_t) dx_0 under the integral."""
    yield from tweedie_steps(claim, MARGINAL_T, x_0, sp.sqrt(abar_t), 1 - abar_t)


@formula(
    "ddpm.mean_from_score",
    title="one-step Tweedie: mean of x_{t-1} given x_t, for any law of the data",
    lhs=mu,
    rhs=(x_t + beta_t * score) / sp.sqrt(alpha_t),
    citations=("Efron2011", "Song2021sde:4"),
    reference="refdiff.ddpm:mean_from_score",
    uses=("ddpm.one_step", "ddpm.tweedie", "ddpm.mean_from_x_0"),
    decoys=(
        Decoy(
            "score-with-minus", (x_t - beta_t * score) / sp.sqrt(alpha_t), "sign",
            "the score of the opposite sign", "Speech-Backbones (Grad-TTS) #25",
        ),
        Decoy(
            "half-score", (x_t + beta_t / 2 * score) / sp.sqrt(alpha_t), "discretization",
            "the coefficient of the probability-flow ODE in a stochastic step",
        ),
        Decoy(
            "linearised", (2 - sp.sqrt(alpha_t)) * x_t + beta_t * score, "discretization",
            "equal to first order in β_t only", "S004:8.15",
        ),
    ),
)  # fmt: skip
def _mean_from_score(claim: sp.Expr) -> Iterator[Step]:
    """The same argument for the kernel of one step and the law of x_{t-1}; and the posterior mean at
    Tweedie's mean of the data is the same thing."""
    yield from tweedie_steps(claim, KERNEL, x_prev, sp.sqrt(alpha_t), beta_t)
    yield Identity("the posterior mean at E[x_0 | x_t]", claim, POSTERIOR_MEAN.subs(x_0, TWEEDIE))


@formula(
    "ddpm.step",
    title="one step of ancestral sampling",
    lhs=x_prev,
    rhs=MEAN_FROM_EPS + sigma_t * z,
    citations=("Ho2020:alg2", "S000:10", "S004:alg4.2"),
    reference="refdiff.ddpm:step",
    uses=("ddpm.mean_from_eps",),
    decoys=(
        Decoy("variance-for-std", MEAN_FROM_EPS + sigma_t**2 * z, "variance", "σ_t² multiplies the noise"),
        Decoy(
            "noise-not-scaled-back",
            (x_t - beta_t / sp.sqrt(1 - abar_t) * eps + sigma_t * z) / sp.sqrt(alpha_t),
            "variance", "the fresh noise inside the bracket",
        ),
        Decoy(
            "fresh-noise-missing", MEAN_FROM_EPS, "variance", "the mean alone, at every step"
        ),
    ),
)  # fmt: skip
def _step(claim: sp.Expr) -> Iterator[Step]:
    """The reverse kernel is N(μ_θ, σ_t²): mean from ε, plus the positive root of the variance times
    fresh noise."""
    yield Identity("mean", claim.subs(z, 0), POSTERIOR_MEAN.subs(x_0, X_0_FROM_EPS))
    yield Identity("standard deviation", sp.diff(claim, z), sigma_t)
    centred = claim - claim.subs(z, 0)
    yield Expectation("variance", centred**2, {z: (sp.Integer(0), sp.Integer(1))}, sigma_t**2)


@formula(
    "ddpm.final_step",
    title="the step to data adds no noise",
    lhs=x_0,
    rhs=X_0_FROM_EPS,
    citations=("Ho2020:15", "Ho2020:alg2", "S004:§4.2/19", "S004:alg4.2"),
    reference="refdiff.ddpm:step",
    uses=("ddpm.step", "ddpm.posterior_variance"),
    decoys=(
        Decoy(
            "noise-at-the-end", X_0_FROM_EPS + sp.sqrt(1 - abar_t) * z, "noise-at-t0",
            "noise of variance β_1 is added in the last step", "lucidrains commits 1345a8a, 532178a",
        ),
        Decoy(
            "first-level-for-data", sp.sqrt(abar_prev) * X_0_FROM_EPS, "noise-at-t0",
            "the loop ends at the first level and not at data", "diffusers #6068",
        ),
    ),
)  # fmt: skip
def _final_step(claim: sp.Expr) -> Iterator[Step]:
    """ᾱ_0 = 1, so β̃_1 = 0: the standard deviation vanishes and the mean is the prediction of the
    data."""
    last = MEAN_FROM_EPS + sp.sqrt(BETA_TILDE) * z
    yield Identity("t = 1", close(last).subs(abar_prev, 1), claim)


LEARNED = beta_t**fraction * BETA_TILDE ** (1 - fraction)


def log_linear_steps(claim: sp.Expr, low: sp.Expr, high: sp.Expr) -> Iterator[Step]:
    """The claim runs from ``low`` to ``high`` with a logarithm that is linear in the fraction."""
    first, second = sp.diff(claim, fraction), sp.diff(claim, fraction, 2)
    yield Identity("fraction 0", claim.subs(fraction, 0), low)
    yield Identity("fraction 1", claim.subs(fraction, 1), high)
    yield Identity("the logarithm is linear", first**2, claim * second)


@formula(
    "ddpm.learned_variance",
    title="learned variance between β̃_t and β_t, in log space",
    lhs=sigma_t**2,
    rhs=LEARNED,
    citations=("Nichol2021:15",),
    reference="refdiff.ddpm:variance",
    uses=("ddpm.posterior_variance_bounds",),
    decoys=(
        Decoy(
            "raw-space", fraction * beta_t + (1 - fraction) * BETA_TILDE, "variance",
            "interpolated as it is and not in log space", "huggingface/diffusers PR#2090",
        ),
        Decoy(
            "ends-swapped", beta_t ** (1 - fraction) * BETA_TILDE**fraction, "variance", "0 gives β_t"
        ),
        Decoy(
            "channel-unshifted", beta_t ** (2 * fraction - 1) * BETA_TILDE ** (2 - 2 * fraction), "variance",
            "a channel in [−1, 1] used as if it lay in [0, 1]",
        ),
    ),
)  # fmt: skip
def _learned_variance(claim: sp.Expr) -> Iterator[Step]:
    """exp(f·log β_t + (1−f)·log β̃_t): the ends, and (log v)'' = 0, that is v'² = v·v''. Nothing else
    has these."""
    yield from log_linear_steps(claim, BETA_TILDE, beta_t)


GAIN = sp.sqrt(abar_prev) * beta_t / (1 - abar_t)
"""Coefficient of x_0 in the posterior mean."""


@formula(
    "ddpm.optimal_variance",
    title="variance of x_{t-1} given x_t, for any law of the data",
    lhs=sigma_t**2,
    rhs=BETA_TILDE + GAIN**2 * x_0_variance,
    citations=("Bao2022:thm1", "Ho2020:§3.2"),
    reference="refdiff.ddpm:optimal_variance",
    uses=("ddpm.posterior_mean", "ddpm.posterior_variance"),
    decoys=(
        Decoy("gain-without-square", BETA_TILDE + GAIN * x_0_variance, "variance", "c where c² belongs"),
        Decoy(
            "gain-of-x_t",
            BETA_TILDE + (sp.sqrt(alpha_t) * (1 - abar_prev) / (1 - abar_t)) ** 2 * x_0_variance,
            "variance", "the coefficient of x_t",
        ),
    ),
)  # fmt: skip
def _optimal_variance(claim: sp.Expr) -> Iterator[Step]:
    """Law of total variance: β̃_t for each x_0, plus the variance of the posterior mean, which is
    c²·Var(x_0 | x_t). Only two moments of x_0 enter, so the normal moments stand for any law. No other
    variance of a normal reverse step has less cross-entropy. Two limits: a point mass has variance 0
    and gives β̃_t; standard normal data have variance 1 − ᾱ_t and give β_t."""
    m, v = sp.Symbol("m", real=True), sp.Symbol("v", positive=True)
    deviation = POSTERIOR_MEAN + sp.sqrt(BETA_TILDE) * z - POSTERIOR_MEAN.subs(x_0, m)
    data = {x_0: (m, x_0_variance), z: (sp.Integer(0), sp.Integer(1))}
    yield Expectation("law of total variance", deviation**2, data, claim)
    yield Identity("a point mass", claim.subs(x_0_variance, 0), BETA_TILDE)
    yield Identity("standard normal data", claim.subs(x_0_variance, 1 - abar_t), beta_t)
    second_moment = BETA_TILDE + GAIN**2 * x_0_variance
    cross_entropy = sp.log(v) / 2 + second_moment / (2 * v)
    yield Identity("the one minimum", sp.diff(cross_entropy, v), (v - claim) / (2 * v**2))


@formula(
    "ddpm.fixed_large_variance",
    title="the variance β_t is optimal for standard normal data",
    lhs=sigma_t**2,
    rhs=beta_t,
    citations=("Ho2020:§3.2", "S000:§4/14"),
    reference="refdiff.ddpm:variance",
    uses=("ddpm.optimal_variance",),
    decoys=(
        Decoy("sigma-is-beta", beta_t**2, "variance", "σ_t = β_t where σ_t² = β_t belongs", "S000:§7.2/2"),
    ),
)
def _fixed_large_variance(claim: sp.Expr) -> Iterator[Step]:
    """Of standard normal data x_t keeps x_0 uncertain by 1 − ᾱ_t; and then x_{t-1} given x_t is the
    forward kernel itself: the chain is reversible."""
    yield Identity("optimal variance", claim, BETA_TILDE + GAIN**2 * (1 - abar_t))
    standard = normal(x_prev, sp.Integer(0), sp.Integer(1))
    reverse = KERNEL * standard / normal(x_t, sp.Integer(0), sp.Integer(1))
    yield DensityEqual("Bayes", reverse, normal(x_prev, sp.sqrt(alpha_t) * x_t, claim))


@formula(
    "ddpm.optimal_variance_bounds",
    title="what x_t leaves unknown of data of unit variance, at most",
    lhs=x_0_variance,
    rhs=1 - abar_t,
    citations=("Bao2022:thm2", "Ho2020:§3.2"),
    uses=("ddpm.marginal", "ddpm.optimal_variance"),
)
def _optimal_variance_bounds(claim: sp.Expr) -> Iterator[Step]:
    """The best estimator errs at most as much as the best linear one, g·x_t, whose error needs two
    moments only; g = √ᾱ_t is best. So on average β̃_t ≤ optimal variance ≤ β_t for all data of mean 0
    and variance 1."""
    g = sp.Symbol("g", real=True)
    noised = sp.sqrt(abar_t) * x_0 + sp.sqrt(1 - abar_t) * eps
    unit = {x_0: (sp.Integer(0), sp.Integer(1)), eps: (sp.Integer(0), sp.Integer(1))}
    yield Expectation("error of g·x_t", (x_0 - g * noised) ** 2, unit, claim + (g - sp.sqrt(abar_t)) ** 2)
    yield Inequality("above β̃_t", GAIN**2 * claim, ">", sp.Integer(0))
    yield Identity("and β_t is attained", BETA_TILDE + GAIN**2 * claim, beta_t)


RATIO = abar_t / abar_s
BETA_TILDE_S = (1 - RATIO) * (1 - abar_s) / (1 - abar_t)
SKIP_MEAN = (
    sp.sqrt(abar_s) * (1 - RATIO) / (1 - abar_t) * x_0 + sp.sqrt(RATIO) * (1 - abar_s) / (1 - abar_t) * x_t
)
SKIP_KERNEL = normal(x_t, sp.sqrt(RATIO) * x_s, 1 - RATIO)


@formula(
    "ddpm.skip_posterior_variance",
    title="variance of the forward posterior of any lower level",
    lhs=sigma_t**2,
    rhs=BETA_TILDE_S,
    citations=("S003:/15",),
    reference="refdiff.ddpm:skip_posterior",
    uses=("ddpm.transition", "ddpm.marginal"),
    decoys=(
        Decoy("precision", 1 / BETA_TILDE_S, "variance", "the precision in its place"),
        Decoy(
            "one-step-beta", beta_t * (1 - abar_s) / (1 - abar_t), "variance",
            "the schedule's β_t though steps are skipped", "diffusers PR#2076",
        ),
        Decoy("forward-variance", 1 - RATIO, "variance", "the forward variance between the levels"),
    ),
)  # fmt: skip
def _skip_posterior_variance(claim: sp.Expr) -> Iterator[Step]:
    """Bayes with the kernel between the levels. At s = 0 nothing is uncertain; for s = t−1 it is
    β̃_t."""
    a, b = RATIO, abar_s
    yield Identity("precisions add", 1 / claim, a / (1 - a) + 1 / (1 - b))
    yield DensityEqual("Bayes", SKIP_KERNEL * MARGINAL_S / MARGINAL_T, normal(x_s, SKIP_MEAN, claim))
    yield Identity("s = t − 1", close(claim).subs(abar_s, abar_prev), BETA_TILDE)
    yield Identity("s = 0", close(claim).subs(abar_s, 1), sp.Integer(0))
    yield Identity("in products over the steps below and above s", claim, (1 - b - a + a * b) / (1 - a * b))


@formula(
    "ddpm.skip_posterior_mean",
    title="mean of the forward posterior of any lower level",
    lhs=mu,
    rhs=SKIP_MEAN,
    citations=("S003:/15",),
    reference="refdiff.ddpm:skip_posterior",
    uses=("ddpm.skip_posterior_variance",),
    decoys=(
        Decoy(
            "one-step-alpha", sp.sqrt(abar_s) * beta_t / (1 - abar_t) * x_0
            + sp.sqrt(alpha_t) * (1 - abar_s) / (1 - abar_t) * x_t, "index",
            "the schedule's α_t and β_t though steps are skipped", "diffusers PR#2076",
        ),
    ),
)  # fmt: skip
def _skip_posterior_mean(claim: sp.Expr) -> Iterator[Step]:
    """As for one step. At s = 0 it is x_0, without a quotient 0/0; for s = t−1 it is the ordinary
    mean."""
    bayes = SKIP_KERNEL * MARGINAL_S / MARGINAL_T
    yield DensityEqual("Bayes", bayes, normal(x_s, claim, BETA_TILDE_S))
    yield Identity("s = t − 1", close(claim).subs(abar_s, abar_prev), POSTERIOR_MEAN)
    yield Identity("s = 0", close(claim).subs(abar_s, 1), x_0)
    a, b = RATIO, abar_s
    weighted = sp.sqrt(a) / (1 - a) * x_t + sp.sqrt(b) / (1 - b) * x_0
    yield Identity("weighted with precisions", claim, weighted * (1 - b - a + a * b) / (1 - a * b))


SKIP_FROM_EPS = (x_t - (1 - RATIO) / sp.sqrt(1 - abar_t) * eps) / sp.sqrt(RATIO)


@formula(
    "ddpm.skip_step",
    title="one step of ancestral sampling over a sub-sequence",
    lhs=x_s,
    rhs=SKIP_FROM_EPS + sigma_t * z,
    citations=("Nichol2021:19",),
    reference="refdiff.ddpm:step",
    uses=("ddpm.skip_posterior_mean", "ddpm.step"),
    decoys=(
        Decoy(
            "one-step-coefficients", MEAN_FROM_EPS + sigma_t * z, "index",
            "the schedule's α_t and β_t though steps are skipped", "diffusers PR#2076",
        ),
    ),
)  # fmt: skip
def _skip_step(claim: sp.Expr) -> Iterator[Step]:
    """A sub-sequence is a chain of its own with α = ᾱ_t/ᾱ_s and β = 1 − ᾱ_t/ᾱ_s."""
    yield Identity("mean", claim.subs(z, 0), SKIP_MEAN.subs(x_0, X_0_FROM_EPS))
    yield Identity("standard deviation", sp.diff(claim, z), sigma_t)
    one_step = close(MEAN_FROM_EPS + sigma_t * z)
    yield Identity("s = t − 1", close(claim).subs(abar_s, abar_prev), one_step)


@formula(
    "ddpm.skip_learned_variance",
    title="learned variance over a sub-sequence",
    lhs=sigma_t**2,
    rhs=(1 - RATIO) ** fraction * BETA_TILDE_S ** (1 - fraction),
    citations=("Nichol2021:19",),
    reference="refdiff.ddpm:variance",
    uses=("ddpm.learned_variance", "ddpm.skip_posterior_variance"),
    decoys=(
        Decoy(
            "schedule-beta-above", beta_t**fraction * BETA_TILDE_S ** (1 - fraction), "variance",
            "the upper end is the schedule's β_t though steps are skipped", "diffusers PR#3006",
        ),
    ),
)  # fmt: skip
def _skip_learned_variance(claim: sp.Expr) -> Iterator[Step]:
    """The same interpolation between the two variances of the sub-sequence."""
    yield from log_linear_steps(claim, BETA_TILDE_S, 1 - RATIO)


LOSS_WEIGHT_MU = 1 / (2 * sigma_t**2)
LOSS_WEIGHT_X_0 = GAIN**2 / (2 * sigma_t**2)
LOSS_WEIGHT_EPS = beta_t**2 / (2 * sigma_t**2 * alpha_t * (1 - abar_t))


@formula(
    "ddpm.loss_weight_mu",
    title="weight of the squared error of the mean in L_{t−1}",
    lhs=sp.Symbol("w_mu"),
    rhs=LOSS_WEIGHT_MU,
    citations=("Ho2020:8", "S000:16", "S004:§4.2/10"),
    reference="refdiff.ddpm:loss_weight",
    uses=("ddpm.posterior_mean", "ddpm.posterior_variance"),
)
def _loss_weight_mu(claim: sp.Expr) -> Iterator[Step]:
    """KL(N(μ, β̃_t) ‖ N(μ_θ, σ_t²)) is the mean of the difference of the log-densities; the means enter
    it through (μ − μ_θ)² alone."""
    posterior, model = normal(x_prev, mu, beta_tilde_t), normal(x_prev, mu_hat, sigma_t**2)
    ratio = posterior.exponent - model.exponent
    expected = claim * (mu - mu_hat) ** 2 + beta_tilde_t / (2 * sigma_t**2) - sp.Rational(1, 2)
    yield Expectation("mean of the log-ratio", ratio, {x_prev: (mu, beta_tilde_t)}, expected)


@formula(
    "ddpm.loss_weight_x_0",
    title="weight of the squared error of the data in L_{t−1}",
    lhs=sp.Symbol("w_x_0"),
    rhs=LOSS_WEIGHT_X_0,
    citations=("Ho2020:8", "S004:5.8"),
    reference="refdiff.ddpm:loss_weight",
    uses=("ddpm.loss_weight_mu", "ddpm.mean_from_x_0"),
    decoys=(
        Decoy(
            "precedence", sp.sqrt(abar_t) / 2 / (2 - abar_t), "loss-weight",
            "½√ᾱ/(2·1 − ᾱ): the bracket around 1 − ᾱ is missing", "CompVis/latent-diffusion PR#404",
        ),
        Decoy(
            "precedence-repaired", sp.sqrt(abar_t) / (4 * (1 - abar_t)), "loss-weight",
            "½√ᾱ/(2(1 − ᾱ)): not the weight of L_{t−1} either", "CompVis/latent-diffusion PR#404",
        ),
        Decoy("gain-without-square", GAIN / (2 * sigma_t**2), "loss-weight", "c where c² belongs"),
    ),
)  # fmt: skip
def _loss_weight_x_0(claim: sp.Expr) -> Iterator[Step]:
    """The posterior mean depends on x_0 with slope c."""
    error = POSTERIOR_MEAN - POSTERIOR_MEAN.subs(x_0, x_0_hat)
    yield Identity("means through x_0", LOSS_WEIGHT_MU * error**2, claim * (x_0 - x_0_hat) ** 2)


@formula(
    "ddpm.loss_weight_eps",
    title="weight of the squared error of the noise in L_{t−1}",
    lhs=sp.Symbol("w_eps"),
    rhs=LOSS_WEIGHT_EPS,
    citations=("Ho2020:12", "S004:§4.2/14", "S004:4.9"),
    reference="refdiff.ddpm:loss_weight",
    uses=("ddpm.loss_weight_mu", "ddpm.mean_from_eps"),
    decoys=(
        Decoy(
            "noise-of-level-missing", (1 - alpha_t) ** 2 / (2 * sigma_t**2 * alpha_t), "loss-weight",
            "1 − ᾱ_t is missing below the line", "S000:§6/5",
        ),
        Decoy("one", sp.Integer(1), "loss-weight", "the weight of the simple loss"),
    ),
)  # fmt: skip
def _loss_weight_eps(claim: sp.Expr) -> Iterator[Step]:
    """The mean depends on ε with slope −β_t/√(α_t(1−ᾱ_t)). At t = 1 it is β_1/(2σ_1²α_1)."""
    error = MEAN_FROM_EPS - MEAN_FROM_EPS.subs(eps, eps_hat)
    yield Identity("means through ε", LOSS_WEIGHT_MU * error**2, claim * (eps - eps_hat) ** 2)
    first = (1 - abar_t) / (2 * sigma_t**2 * abar_t)
    yield Identity("t = 1", close(claim).subs(abar_prev, 1), first)


@formula(
    "ddpm.loss_weight_snr",
    title="weight of the squared error of the data for σ_t² = β̃_t",
    lhs=sp.Symbol("w_x_0"),
    rhs=(abar_prev / (1 - abar_prev) - abar_t / (1 - abar_t)) / 2,
    citations=("Kingma2021vdm",),
    uses=("ddpm.loss_weight_x_0", "ddpm.posterior_variance"),
    decoys=(
        Decoy(
            "snr-order", (abar_t / (1 - abar_t) - abar_prev / (1 - abar_prev)) / 2, "loss-weight",
            "the later ratio minus the earlier: negative",
        ),
    ),
)  # fmt: skip
def _loss_weight_snr(claim: sp.Expr) -> Iterator[Step]:
    """Half the signal-to-noise ratio that the step loses."""
    yield Identity("σ_t² = β̃_t", LOSS_WEIGHT_X_0.subs(sigma_t, sp.sqrt(BETA_TILDE)), claim)
    yield Inequality("positive", claim, ">", sp.Integer(0))


SPREAD = (BETA_TILDE / sigma_t**2 - 1 - sp.log(BETA_TILDE / sigma_t**2)) / 2
KL_TERM = SPREAD + LOSS_WEIGHT_EPS * (eps - eps_hat) ** 2


@formula(
    "ddpm.kl_term",
    title="L_{t−1} at one x_t",
    lhs=sp.Symbol("L"),
    rhs=KL_TERM,
    citations=("Ho2020:5", "Ho2020:8", "S000:15", "S000:16", "S004:4.6"),
    reference="refdiff.ddpm:kl_term",
    uses=("ddpm.loss_weight_eps", "ddpm.posterior_variance"),
    decoys=(
        Decoy(
            "constant-missing", LOSS_WEIGHT_EPS * (eps - eps_hat) ** 2, "likelihood",
            "the variances' share is left out, as in a training loss",
        ),
        Decoy(
            "arguments-swapped",
            (sigma_t**2 / BETA_TILDE - 1 - sp.log(sigma_t**2 / BETA_TILDE)) / 2
            + LOSS_WEIGHT_EPS * sigma_t**2 / BETA_TILDE * (eps - eps_hat) ** 2,
            "likelihood", "the divergence of the posterior from the model",
        ),
        Decoy(
            "std-for-variance", KL_TERM.subs(sigma_t, sp.sqrt(sigma_t)), "variance", "σ_t where σ_t² belongs"
        ),
    ),
)  # fmt: skip
def _kl_term(claim: sp.Expr) -> Iterator[Step]:
    """The mean under the posterior of the log-density of the posterior minus that of the model."""
    mean, model_mean = MEAN_FROM_EPS, MEAN_FROM_EPS.subs(eps, eps_hat)
    posterior, model = normal(x_prev, mu, beta_tilde_t), normal(x_prev, mu_hat, sigma_t**2)
    ratio = posterior.exponent - model.exponent + sp.log(sigma_t) - sp.log(beta_tilde_t) / 2
    spread = (beta_tilde_t / sigma_t**2 - 1 - sp.log(beta_tilde_t) + 2 * sp.log(sigma_t)) / 2
    general = spread + LOSS_WEIGHT_MU * (mu - mu_hat) ** 2
    kernels = {mu: mean, mu_hat: model_mean, beta_tilde_t: BETA_TILDE}
    yield Identity("for these kernels", general.subs(kernels), claim)
    yield Expectation("mean of the log-ratio", ratio, {x_prev: (mu, beta_tilde_t)}, general)


DATA_GAIN = sp.sqrt(abar_t) * data_variance / (abar_t * data_variance + 1 - abar_t)
DATA_POSTERIOR_VARIANCE = data_variance * (1 - abar_t) / (abar_t * data_variance + 1 - abar_t)


@formula(
    "ddpm.kl_term_gaussian_data",
    title="L_{t−1} of the perfect network for Gaussian data",
    lhs=sp.Symbol("L"),
    rhs=SPREAD + LOSS_WEIGHT_X_0 * DATA_POSTERIOR_VARIANCE,
    citations=("Ho2020:8", "Bao2022:thm1"),
    uses=("ddpm.kl_term", "ddpm.loss_weight_x_0"),
    mutate=False,
    decoys=(
        Decoy(
            "spread-only", SPREAD, "likelihood", "a perfect network does not know x_0: its mean still errs"
        ),
        Decoy(
            "data-variance", SPREAD + LOSS_WEIGHT_X_0 * data_variance, "likelihood",
            "the variance of the data where that given x_t belongs",
        ),
        Decoy(
            "weight-of-eps", SPREAD + LOSS_WEIGHT_EPS * DATA_POSTERIOR_VARIANCE, "loss-weight",
            "the weight of the noise on an error of the data",
        ),
    ),
)  # fmt: skip
def _kl_term_gaussian_data(claim: sp.Expr) -> Iterator[Step]:
    """The perfect network predicts m + g(x_t − √ᾱ_t·m); the mean of its squared error over data and
    noise."""
    noised = sp.sqrt(abar_t) * x_0 + sp.sqrt(1 - abar_t) * eps
    prediction = data_mean + DATA_GAIN * (noised - sp.sqrt(abar_t) * data_mean)
    term = (claim - SPREAD) / LOSS_WEIGHT_X_0
    data = {x_0: (data_mean, data_variance), eps: (sp.Integer(0), sp.Integer(1))}
    yield Expectation("error of the data", (x_0 - prediction) ** 2, data, term)


PREDICTION = gain * (sp.sqrt(abar_t) * x_0 + sp.sqrt(1 - abar_t) * eps) + intercept
SIMPLE_LOSS = (
    (1 - gain * sp.sqrt(1 - abar_t)) ** 2
    + gain**2 * abar_t * data_variance
    + (gain * sp.sqrt(abar_t) * data_mean + intercept) ** 2
)
EPS_GAIN = sp.sqrt(1 - abar_t) / (abar_t * data_variance + 1 - abar_t)


@formula(
    "ddpm.loss_simple",
    title="the simple loss of an affine prediction on Gaussian data",
    lhs=sp.Symbol("L_simple"),
    rhs=SIMPLE_LOSS,
    citations=("Ho2020:14", "Ho2020:alg1", "S000:17", "S003:/11", "S004:4.10", "S004:alg4.1"),
    reference="refdiff.ddpm:loss_simple",
    uses=("ddpm.marginal",),
    decoys=(
        Decoy(
            "predicts-the-data", SIMPLE_LOSS.subs(gain, 0) + data_variance - 1, "parameterization",
            "the loss of the data where that of the noise belongs",
        ),
    ),
)  # fmt: skip
def _loss_simple(claim: sp.Expr) -> Iterator[Step]:
    """E(ε − ε_θ(x_t))² with x_t = √ᾱ_t·x_0 + √(1−ᾱ_t)·ε, one training pair being (x_t, ε): data and
    noise are drawn once, at one uniform t."""
    data = {x_0: (data_mean, data_variance), eps: (sp.Integer(0), sp.Integer(1))}
    yield Expectation("mean over data and noise", (eps - PREDICTION) ** 2, data, claim)


@formula(
    "ddpm.loss_simple_minimum",
    title="the simple loss of the perfect network on Gaussian data",
    lhs=sp.Symbol("L_simple"),
    rhs=abar_t * data_variance / (abar_t * data_variance + 1 - abar_t),
    citations=("Ho2020:14",),
    uses=("ddpm.loss_simple",),
)
def _loss_simple_minimum(claim: sp.Expr) -> Iterator[Step]:
    """Complete the square: the loss is this minimum, plus the mean square of the prediction's error as
    a function of x_t, which is zero for the perfect network alone. Noise is predictable only as far as
    data do not hide it."""
    total = abar_t * data_variance + 1 - abar_t
    slope = total * (gain - EPS_GAIN) ** 2
    bias = (gain * sp.sqrt(abar_t) * data_mean + intercept) ** 2
    yield Identity("square completed", SIMPLE_LOSS, claim + slope + bias)


COSINE = sp.sqrt(alpha_t * (1 - abar_prev) / (1 - abar_t))
SINE = sp.sqrt(beta_t / (1 - abar_t))
FOUR_VARIABLE_LOSS = (SINE * eps - step_noise_hat) ** 2 + COSINE**2
"""The mean over ω of (ε_t − prediction)²."""


@formula(
    "ddpm.four_variable_loss",
    title="the loss with two noises, averaged over what x_t does not see",
    lhs=sp.Symbol("L"),
    rhs=FOUR_VARIABLE_LOSS,
    citations=("S000:§7.1/3", "Su2022:9119"),
    reference="refdiff.ddpm:merged_loss",
    uses=("ddpm.one_step", "ddpm.marginal"),
    decoys=(
        Decoy("constant-missing", (SINE * eps - step_noise_hat) ** 2, "loss-weight", "without the constant"),
        Decoy(
            "noise-for-share", (eps - step_noise_hat) ** 2 + COSINE**2, "loss-weight",
            "the merged noise where its share √(β_t/(1−ᾱ_t)) belongs",
        ),
    ),
)  # fmt: skip
def _four_variable_loss(claim: sp.Expr) -> Iterator[Step]:
    """x_t is made from x_{t−1} with noise ε̄ and from there with ε_t; the loss compares a prediction
    with ε_t. A rotation turns (ε̄, ε_t) into (ε, ω), standard normal and independent again, such that
    x_t depends on ε alone. So ω can be integrated out."""
    first, last = COSINE * eps + SINE * omega, SINE * eps - COSINE * omega
    yield Expectation("ω integrated out", (last - step_noise_hat) ** 2, {omega: (0, 1)}, claim)
    yield Identity("a rotation", COSINE**2 + SINE**2, sp.Integer(1))
    previous = sp.sqrt(abar_prev) * x_0 + sp.sqrt(1 - abar_prev) * first
    two_steps = sp.sqrt(alpha_t) * previous + sp.sqrt(beta_t) * last
    yield Identity("x_t sees ε alone", two_steps, sp.sqrt(abar_t) * x_0 + sp.sqrt(1 - abar_t) * eps)


@formula(
    "ddpm.four_variable_variance",
    title="variance that averaging over ω removes",
    lhs=sp.Symbol("V"),
    rhs=4 * COSINE**2 * (SINE * eps - step_noise_hat) ** 2 + 2 * COSINE**4,
    citations=("S000:§7.1/3", "Su2022:9119"),
    reference="refdiff.ddpm:four_variable_variance",
    uses=("ddpm.four_variable_loss",),
)
def _four_variable_variance(claim: sp.Expr) -> Iterator[Step]:
    """Law of total variance: the two losses have one mean, and the variance of the one with two noises
    is larger by the mean of this, which is positive."""
    loss = (SINE * eps - COSINE * omega - step_noise_hat) ** 2
    unit = {omega: (sp.Integer(0), sp.Integer(1))}
    yield Expectation("variance over ω", (loss - FOUR_VARIABLE_LOSS) ** 2, unit, claim)
    d = sp.Symbol("d", real=True)
    by_error = claim.subs(step_noise_hat, SINE * eps - d)
    yield Inequality("positive even for a perfect prediction", by_error, ">=", 2 * COSINE**4)


@formula(
    "ddpm.four_variable_minimiser",
    title="what the loss with two noises learns",
    lhs=step_noise_hat,
    rhs=SINE * eps_hat,
    citations=("S000:§7.1/3", "Su2022:9119"),
    reference="refdiff.ddpm:four_variable_minimiser",
    uses=("ddpm.four_variable_loss", "ddpm.mean_from_score"),
    decoys=(
        Decoy(
            "same-network",
            eps_hat,
            "parameterization",
            "one step's noise is not the noise of all t steps",
            "S002:§5/11",
        ),
    ),
)
def _four_variable_minimiser(claim: sp.Expr) -> Iterator[Step]:
    """Given x_t let ε have mean ε̂, the minimiser of the simple loss, and any variance v. The mean of
    the loss is a square that vanishes at the claim, plus a constant. It is also −√β_t times the
    score."""
    v = sp.Symbol("v", positive=True)
    constant = SINE**2 * v + COSINE**2
    yield Expectation(
        "square completed", FOUR_VARIABLE_LOSS, {eps: (eps_hat, v)}, (step_noise_hat - claim) ** 2 + constant
    )
    through_score = claim.subs(eps_hat, -sp.sqrt(1 - abar_t) * score)
    yield Identity("through the score", through_score, -sp.sqrt(beta_t) * score)


@formula(
    "ddpm.prior_term",
    title="L_T: what the last level still tells about x_0",
    lhs=sp.Symbol("L_T"),
    rhs=(abar_t * x_0**2 - abar_t - sp.log(1 - abar_t)) / 2,
    citations=("Ho2020:5", "S000:15"),
    uses=("ddpm.marginal",),
)
def _prior_term(claim: sp.Expr) -> Iterator[Step]:
    """KL(q(x_T | x_0) ‖ N(0, 1)) with ᾱ_t standing for ᾱ_T. It vanishes with ᾱ_T."""
    prior = normal(x_t, sp.Integer(0), sp.Integer(1))
    ratio = MARGINAL_T.exponent - prior.exponent - sp.log(1 - abar_t) / 2
    mean = (sp.sqrt(abar_t) * x_0, 1 - abar_t)
    yield Expectation("mean of the log-ratio", ratio, {x_t: mean}, claim)
    yield Identity("no signal, no divergence", claim.subs(abar_t, 0), sp.Integer(0))
