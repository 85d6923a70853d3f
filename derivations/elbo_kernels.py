"""Kernels for which the terms of the bound have a closed form: part of the topic ``elbo``.

The binomial kernel draws a bit anew, from a fair coin, with probability β_t; the Gaussian kernel is that of
``ddpm``. ``chance`` is the probability that a bit is 1; for a given bit it is 0 or 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import log, sqrt

from derivations.ddpm import BETA_TILDE, MARGINAL_T, at_level
from derivations.kit import (
    Decoy,
    DensityEqual,
    Expectation,
    Identity,
    Induction,
    Inequality,
    Step,
    formula,
    normal,
)
from derivations.kit.zero import close
from derivations.symbols import (
    abar_prev,
    abar_t,
    alpha_t,
    beta_t,
    chance_0,
    chance_1,
    chance_prev,
    data_mean,
    data_variance,
    eps,
    shift,
    sigma_t,
    sign_t,
    slope,
    x_0,
    x_prev,
    x_t,
)

HALF = sp.Rational(1, 2)
UNIT = (sp.Integer(0), sp.Integer(1))
REDRAWN = (1 - beta_t) * chance_prev + beta_t / 2
CHANCE = abar_t * chance_0 + (1 - abar_t) / 2
LEAN = abar_t * (2 * chance_0 - 1)
"""How far a bit of x_t leans to 1: twice its chance, minus 1."""


@formula(
    "elbo.binomial_kernel",
    title="one step of the binomial kernel: the chance of a bit",
    lhs=sp.Symbol("chance_t"),
    rhs=REDRAWN,
    citations=("Sohl-Dickstein2015:tab.App.1",),
    reference="refdiff.elbo:binomial_kernel",
    decoys=(
        Decoy(
            "flipped", (1 - beta_t) * chance_prev + beta_t * (1 - chance_prev), "variance",
            "the bit is flipped with probability β, not drawn anew",
        ),
        Decoy("coin-missing", (1 - beta_t) * chance_prev, "variance", "every bit decays to 0"),
        Decoy(
            "root", sqrt(1 - beta_t) * chance_prev + (1 - sqrt(1 - beta_t)) / 2, "sqrt",
            "√(1−β), as for a Gaussian",
        ),
    ),
)  # fmt: skip
def _binomial_kernel(claim: sp.Expr) -> Iterator[Step]:
    """With probability β the bit is a fair coin, otherwise it stays: total probability. A fair coin stays
    fair, and zero and one may be exchanged."""
    anew, stays = HALF, chance_prev
    yield Identity("total probability", claim, beta_t * anew + (1 - beta_t) * stays)
    yield Identity("a fair coin stays fair", claim.subs(chance_prev, HALF), HALF)
    yield Identity("zero and one exchanged", claim.subs(chance_prev, 1 - chance_prev), 1 - claim)


@formula(
    "elbo.binomial_marginal",
    title="the chance of a bit of x_t",
    lhs=sp.Symbol("chance_t"),
    rhs=CHANCE,
    citations=("Sohl-Dickstein2015:tab.App.1", "Austin2021:app.A"),
    reference="refdiff.elbo:binomial_marginal",
    uses=("elbo.binomial_kernel",),
    decoys=(
        Decoy(
            "root", sqrt(abar_t) * chance_0 + (1 - sqrt(abar_t)) / 2, "sqrt", "√ᾱ_t, as for a Gaussian"
        ),
        Decoy(
            "one-step", alpha_t * chance_0 + (1 - alpha_t) / 2, "index", "α_t where ᾱ_t belongs"
        ),
        Decoy("coin-missing", abar_t * chance_0, "variance", "what is drawn anew counts as 0"),
    ),
)  # fmt: skip
def _binomial_marginal(claim: sp.Expr) -> Iterator[Step]:
    """Induction on t from ᾱ_0 = 1, where nothing happened."""
    begun = (at_level(claim, sp.Integer(1)), chance_0)
    more = (REDRAWN, claim)
    yield Induction("for every t", begun, more, {chance_prev: at_level(claim, abar_prev)})


def like(chance: int) -> sp.Expr:
    """Probability of the bit of x_t for a bit of x_{t-1} that is 1 or 0."""
    return (1 + (2 * chance - 1) * alpha_t * sign_t) / 2


BEFORE = (1 + abar_prev * (2 * chance_0 - 1)) / 2
POSTERIOR = (1 + alpha_t * sign_t) * BEFORE / (1 + sign_t * LEAN)


@formula(
    "elbo.binomial_posterior",
    title="the chance of a bit of x_{t−1} given that of x_t, and given the data or their law",
    lhs=sp.Symbol("chance_prev"),
    rhs=POSTERIOR,
    citations=("Sohl-Dickstein2015:tab.App.1", "Austin2021:3"),
    reference="refdiff.elbo:binomial_posterior",
    uses=("elbo.binomial_marginal", "elbo.bayes_step"),
    decoys=(
        Decoy("x_t-ignored", BEFORE, "likelihood", "the chance before x_t was seen"),
        Decoy("data-ignored", (1 + alpha_t * sign_t) / 2, "likelihood", "the forward kernel read backwards"),
        Decoy(
            "not-normalised", (1 + alpha_t * sign_t) * BEFORE / 2, "likelihood",
            "likelihood times prior, not divided by the chance of x_t",
        ),
        Decoy(
            "level-of-x_t", (1 + alpha_t * sign_t) * (1 + LEAN) / (2 * (1 + sign_t * LEAN)), "index",
            "the prior of level t",
        ),
    ),
)  # fmt: skip
def _binomial_posterior(claim: sp.Expr) -> Iterator[Step]:
    """Bayes: the likelihood of the bit of x_t, times the chance of that of x_{t−1}, over the sum of both
    cases. With the data given chance_0 is 0 or 1; with their law it is the chance of a one, because the
    marginal is linear in it: then this is the reversed kernel, a binomial one for steps of any size."""
    prior = at_level(CHANCE, abar_prev)
    total = like(1) * prior + like(0) * (1 - prior)
    yield Identity("Bayes", claim, like(1) * prior / total)
    marginal = (1 + sign_t * LEAN) / 2
    yield Identity("the sum is the marginal of x_t", total, marginal)
    for sign in (1, -1):
        a_bit = {sign_t: sp.Integer(sign)}
        yield Inequality(f"a chance, for a bit of sign {sign}", claim.subs(a_bit), ">=", sp.Integer(0))
    other = claim.subs({sign_t: -sign_t, chance_0: 1 - chance_0}, simultaneous=True)
    yield Identity("zero and one exchanged", other, 1 - claim)


DIVERGENCE = chance_0 * log(chance_0 / chance_1) + (1 - chance_0) * log((1 - chance_0) / (1 - chance_1))


@formula(
    "elbo.binomial_divergence",
    title="divergence of one law of a bit from another",
    lhs=sp.Symbol("kl", nonnegative=True),
    rhs=DIVERGENCE,
    citations=("Sohl-Dickstein2015:app.B",),
    reference="refdiff.elbo:binomial_kl",
    uses=("elbo.jensen",),
    decoys=(
        Decoy(
            "turned", DIVERGENCE.subs({chance_0: chance_1, chance_1: chance_0}, simultaneous=True),
            "likelihood", "the divergence in the other direction",
        ),
        Decoy("zero-forgotten", chance_0 * log(chance_0 / chance_1), "likelihood", "the outcome 0 left out"),
        Decoy(
            "entropy-forgotten", -chance_0 * log(chance_1) - (1 - chance_0) * log(1 - chance_1),
            "likelihood", "the cross-entropy",
        ),
    ),
)  # fmt: skip
def _binomial_divergence(claim: sp.Expr) -> Iterator[Step]:
    """The mean of the log-ratio over two outcomes; it is 0 for equal laws and grows with the distance."""
    ratios = (chance_0 / chance_1, (1 - chance_0) / (1 - chance_1))
    two = chance_0 * log(ratios[0]) + (1 - chance_0) * log(ratios[1])
    yield Identity("two outcomes", claim, two)
    yield Identity("0 for equal laws", claim.subs(chance_1, chance_0), sp.Integer(0))
    away = (chance_1 - chance_0) / (chance_1 * (1 - chance_1))
    yield Identity("least there", sp.diff(claim, chance_1), away)


COIN_TERM = ((1 + LEAN) * log(1 + LEAN) + (1 - LEAN) * log(1 - LEAN)) / 2


@formula(
    "elbo.binomial_prior_term",
    title="L_T of a bit, for a fair coin as the prior; ᾱ_t stands for ᾱ_T",
    lhs=sp.Symbol("L_T"),
    rhs=COIN_TERM,
    citations=("Sohl-Dickstein2015:app.B",),
    reference="refdiff.elbo:binomial_prior_term",
    uses=("elbo.binomial_divergence", "elbo.binomial_marginal", "elbo.prior_term"),
    decoys=(
        Decoy("entropy-alone", COIN_TERM - log(2), "likelihood", "minus the entropy of x_T alone"),
        Decoy("one-outcome", (1 + LEAN) * log(1 + LEAN) / 2, "likelihood", "one of two outcomes"),
        Decoy("squared", LEAN**2, "likelihood", "twice its leading order"),
    ),
)
def _binomial_prior_term(claim: sp.Expr) -> Iterator[Step]:
    """The divergence of the marginal from a fair coin: with the lean a = ᾱ_T(2π_0 − 1) it is about a²/2."""
    lean = sp.Symbol("a", positive=True)
    by_lean = DIVERGENCE.subs({chance_0: (1 + lean) / 2, chance_1: HALF}, simultaneous=True)
    flat = claim.subs(chance_0, (1 + lean / abar_t) / 2)
    yield Identity("the marginal against a coin", close(flat), by_lean)
    yield Identity("the lean is that of the marginal", 2 * CHANCE - 1, LEAN)
    yield Identity("nothing left without signal", claim.subs(abar_t, 0), sp.Integer(0))


SPREAD = abar_t * data_variance + 1 - abar_t
BEFORE_SPREAD = abar_prev * data_variance + 1 - abar_prev
RATIO = BEFORE_SPREAD * (1 - abar_t) / (SPREAD * (1 - abar_prev))


@formula(
    "elbo.gaussian_information",
    title="what x_{t−1} adds to what x_t knows of Gaussian data",
    lhs=sp.Symbol("information", nonnegative=True),
    rhs=log(RATIO) / 2,
    citations=("S004:6.1",),
    reference="refdiff.elbo:gaussian_information",
    uses=("elbo.conditional_information", "ddpm.posterior_variance"),
    decoys=(
        Decoy("all", log(BEFORE_SPREAD / (1 - abar_prev)) / 2, "likelihood", "all that x_{t−1} knows"),
        Decoy("not-halved", log(RATIO), "sqrt", "the log of variances, not of deviations"),
        Decoy("levels-exchanged", -log(RATIO) / 2, "sign", "the later level minus the earlier"),
    ),
)
def _gaussian_information(claim: sp.Expr) -> Iterator[Step]:
    """Half the log of the variance of x_t over that given x_0 is the information on x_0; it falls in a
    step. It is also half the log of the variance of x_{t−1} given x_t over that given x_0 too, which is
    β̃_t."""
    known = log(SPREAD / (1 - abar_t)) / 2
    yield Identity("two levels", claim, known.subs(abar_t, abar_prev) - known)
    total = sp.Symbol("V", positive=True)
    ratio = MARGINAL_T.exponent + (x_t - sqrt(abar_t) * data_mean) ** 2 / (2 * total)
    noised = ratio.subs(x_t, sqrt(abar_t) * x_0 + sqrt(1 - abar_t) * eps)
    laws = {x_0: (data_mean, data_variance), eps: UNIT}
    yield Expectation("the exponents cancel on average", noised, laws, (SPREAD / total - 1) / 2)
    before = normal(x_prev, sqrt(abar_prev) * data_mean, BEFORE_SPREAD)
    step = normal(x_t, sqrt(alpha_t) * x_prev, beta_t)
    after = normal(x_t, sqrt(abar_t) * data_mean, SPREAD)
    left = BEFORE_SPREAD * beta_t / SPREAD
    gain = sqrt(alpha_t) * BEFORE_SPREAD / SPREAD
    mean = sqrt(abar_prev) * data_mean + gain * (x_t - sqrt(abar_t) * data_mean)
    yield DensityEqual("the reversed kernel", step * before / after, normal(x_prev, mean, left))
    yield Identity("two variances", sp.exp(2 * claim), left / BETA_TILDE)
    yield Inequality("something is added", RATIO, ">", sp.Integer(1))


GIVEN_EPS = sqrt(alpha_t) * (1 - abar_prev) / sqrt(1 - abar_t)
"""What the noise of x_t moves in the mean of the posterior."""
OFFSET = (sqrt(abar_prev) - slope * sqrt(abar_t)) * data_mean - shift
MISSED = (
    OFFSET**2
    + (sqrt(abar_prev) - slope * sqrt(abar_t)) ** 2 * data_variance
    + (GIVEN_EPS - slope * sqrt(1 - abar_t)) ** 2
)
"""Mean square of the posterior's mean minus slope·x_t + shift."""
AFFINE_TERM = (log(sigma_t**2 / BETA_TILDE) + (BETA_TILDE + MISSED) / sigma_t**2 - 1) / 2


@formula(
    "elbo.gaussian_denoising_term",
    title="L_{t−1} for Gaussian data and a model N(slope·x_t + shift, σ_t²)",
    lhs=sp.Symbol("L"),
    rhs=AFFINE_TERM,
    citations=("S000:16", "S004:3.12", "S004:4.6"),
    reference="refdiff.elbo:gaussian_terms",
    uses=("elbo.denoising_term", "gaussian.kl", "ddpm.posterior_mean", "ddpm.posterior_variance"),
    decoys=(
        Decoy("means-only", MISSED / (2 * sigma_t**2), "likelihood", "the share of the variances left out"),
        Decoy(
            "turned", (log(BETA_TILDE / sigma_t**2) + (sigma_t**2 + MISSED) / BETA_TILDE - 1) / 2,
            "likelihood", "the divergence of the model from the posterior",
        ),
        Decoy(
            "data-exact", (log(sigma_t**2 / BETA_TILDE) + (BETA_TILDE + OFFSET**2) / sigma_t**2 - 1) / 2,
            "variance", "data and noise at their means",
        ),
    ),
)  # fmt: skip
def _gaussian_denoising_term(claim: sp.Expr) -> Iterator[Step]:
    """The divergence of two Gaussians whose means differ by an affine function of data and noise; its mean
    square has three parts. For the reversed kernel, which no model beats, the information is left that
    conditioning on the data adds."""
    posterior_mean = sqrt(abar_prev) * x_0 + GIVEN_EPS * eps
    model_mean = slope * (sqrt(abar_t) * x_0 + sqrt(1 - abar_t) * eps) + shift
    laws = {x_0: (data_mean, data_variance), eps: UNIT}
    missed = (claim * 2 + 1 - log(sigma_t**2 / BETA_TILDE)) * sigma_t**2 - BETA_TILDE
    yield Expectation("mean square of the difference", (posterior_mean - model_mean) ** 2, laws, missed)
    gain = sqrt(alpha_t) * BEFORE_SPREAD / SPREAD
    best = {
        slope: gain,
        shift: (sqrt(abar_prev) - gain * sqrt(abar_t)) * data_mean,
        sigma_t: sqrt(BEFORE_SPREAD * beta_t / SPREAD),
    }
    yield Identity("for the reversed kernel", close(claim).subs(best, simultaneous=True), log(RATIO) / 2)
