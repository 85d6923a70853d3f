"""DDPM's full variational bound, and what it is on Gaussian data.

The bound is L_0 + L_1 + … + L_{T−1} + L_T in nats. Dimensions are independent, so every formula is written
for one of them; a sample's bound is the sum. Its terms are in ``vlb_terms``, the decoder L_0 and the units
in ``vlb_decoder``, the objective of DDIM in ``vlb_ddim``; all of them belong to this topic. Here is its
value: the exact reverse chain attains −log p, and every other is above.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

import derivations.vlb_ddim
import derivations.vlb_decoder  # noqa: F401, part of the topic
from derivations.data import denoised, noised
from derivations.ddpm import (
    BETA_TILDE,
    DATA_POSTERIOR_VARIANCE,
    GAIN,
    KERNEL,
    MARGINAL_T,
    POSTERIOR_MEAN,
    SPREAD,
)
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
from derivations.symbols import (
    abar_prev,
    abar_t,
    alpha_t,
    beta_t,
    data_mean,
    data_variance,
    mu,
    mu_hat,
    sigma_t,
    x_0,
    x_0_hat,
    x_0_variance,
    x_prev,
    x_t,
)
from derivations.vlb_terms import PRIOR_TERM, RATIO_OF_VARIANCES, TERM_MU, rate_of_log


def level_divergence(level: sp.Expr) -> sp.Expr:
    """KL(q(x_t | x_0) ‖ q(x_t)) for Gaussian data, at a level."""
    total = level * data_variance + 1 - level
    ratio = (1 - level) / total
    return (ratio - 1 - sp.log(ratio) + level * (x_0 - data_mean) ** 2 / total) / 2


MINUS_LOG_DATA = sp.log(2 * sp.pi * data_variance) / 2 + (x_0 - data_mean) ** 2 / (2 * data_variance)
TOTAL = noised(data_variance)
TOTAL_PREV = TOTAL.subs(abar_t, abar_prev)
EXACT_VARIANCE = beta_t * TOTAL_PREV / TOTAL
EXACT_MEAN = (sp.sqrt(alpha_t) * TOTAL_PREV * x_t + beta_t * sp.sqrt(abar_prev) * data_mean) / TOTAL
AT_T = (sp.sqrt(abar_t) * x_0, 1 - abar_t)


@formula(
    "vlb.gaussian_prior_term",
    title="L_T of Gaussian data against the exact marginal",
    lhs=sp.Symbol("L_T"),
    rhs=level_divergence(abar_t),
    citations=("Ho2020:5",),
    reference="refdiff.vlb:gaussian_terms",
    uses=("ddpm.marginal", "gaussian.kl"),
    decoys=(
        Decoy(
            "standard-prior", PRIOR_TERM, "likelihood", "the divergence from N(0, 1), which is another prior"
        ),
    ),
)
def _gaussian_prior_term(claim: sp.Expr) -> Iterator[Step]:
    """The mean under q(x_t | x_0) of the log-ratio to q(x_t) = N(√ᾱ_t·m, ᾱ_t·c + 1 − ᾱ_t). At the data
    level it diverges; without signal it vanishes."""
    total = noised(data_variance)
    marginal = normal(x_t, sp.sqrt(abar_t) * data_mean, total)
    ratio = MARGINAL_T.exponent - marginal.exponent - sp.log((1 - abar_t) / total) / 2
    yield Expectation("mean of the log-ratio", ratio, {x_t: AT_T}, claim)
    yield Identity("no signal, no divergence", claim.subs(abar_t, 0), sp.Integer(0))


@formula(
    "vlb.gaussian_step_term",
    title="L_{t−1} of Gaussian data and the exact reverse chain",
    lhs=sp.Symbol("L"),
    rhs=level_divergence(abar_prev) - level_divergence(abar_t),
    citations=("Ho2020:5",),
    reference="refdiff.vlb:gaussian_terms",
    uses=("vlb.gaussian_prior_term", "ddpm.optimal_variance", "data.gaussian_posterior_mean"),
    decoys=(
        Decoy(
            "levels-exchanged", level_divergence(abar_t) - level_divergence(abar_prev), "sign",
            "the later divergence minus the earlier",
        ),
        Decoy(
            "later-level-alone", level_divergence(abar_t), "index", "the divergence of t, not its change"
        ),
        Decoy(
            "same-as-noise-free", level_divergence(abar_prev) - level_divergence(abar_t)
            + SPREAD.subs(sigma_t, sp.sqrt(beta_t)), "variance", "the model's variance taken for β_t",
        ),
    ),
    mutate=False,  # cost: the mutations of either half are refuted under vlb.gaussian_prior_term
)  # fmt: skip
def _gaussian_step_term(claim: sp.Expr) -> Iterator[Step]:
    """The exact reverse kernel is Gaussian, by Bayes. The mean over x_t given x_0 of
    KL(q(x_{t−1} | x_t, x_0) ‖ q(x_{t−1} | x_t)) is what the step adds to the divergence of the levels:
    the chain rule of the divergence."""
    before = normal(x_prev, sp.sqrt(abar_prev) * data_mean, TOTAL_PREV)
    after = normal(x_t, sp.sqrt(abar_t) * data_mean, TOTAL)
    exact = normal(x_prev, EXACT_MEAN, EXACT_VARIANCE)
    yield DensityEqual("Bayes", KERNEL * before / after, exact)
    error = x_0 - denoised(data_mean, data_variance)
    yield Identity("means through the error of the data", POSTERIOR_MEAN - EXACT_MEAN, GAIN * error)
    noise = 1 - abar_t
    square = (noise**2 * (x_0 - data_mean) ** 2 + abar_t * data_variance**2 * noise) / TOTAL**2
    yield Expectation("its mean square over x_t", error**2, {x_t: AT_T}, square)
    ratio = BETA_TILDE / EXACT_VARIANCE
    divergence = (ratio - 1 - sp.log(ratio) + GAIN**2 * square / EXACT_VARIANCE) / 2
    yield Identity("the mean divergence", divergence, claim)


@formula(
    "vlb.gaussian_decoder_term",
    title="L_0 of Gaussian data and the exact reverse chain",
    lhs=sp.Symbol("L_0"),
    rhs=MINUS_LOG_DATA - level_divergence(abar_t),
    citations=("Ho2020:5",),
    reference="refdiff.vlb:gaussian_terms",
    uses=("vlb.gaussian_prior_term", "data.gaussian_posterior_mean", "data.gaussian_posterior_variance"),
    decoys=(
        Decoy("divergence-added", MINUS_LOG_DATA + level_divergence(abar_t), "sign", "added, not subtracted"),
    ),
)
def _gaussian_decoder_term(claim: sp.Expr) -> Iterator[Step]:
    """The mean over x_1 given x_0 of −log q(x_0 | x_1), with ᾱ_t standing for ᾱ_1."""
    mean, variance = denoised(data_mean, data_variance), DATA_POSTERIOR_VARIANCE
    minus_log = (x_0 - mean) ** 2 / (2 * variance) + sp.log(2 * sp.pi * variance) / 2
    yield Expectation("mean over x_1", minus_log, {x_t: AT_T}, claim)


@formula(
    "vlb.gaussian_bound",
    title="the bound of the exact reverse chain is −log p, for every number of steps",
    lhs=sp.Symbol("L"),
    rhs=MINUS_LOG_DATA,
    citations=("Ho2020:5", "Sohl-Dickstein2015"),
    reference="refdiff.vlb:gaussian_terms",
    uses=("vlb.gaussian_prior_term", "vlb.gaussian_step_term", "vlb.gaussian_decoder_term"),
    decoys=(
        Decoy(
            "entropy", (sp.log(2 * sp.pi * data_variance) + 1) / 2, "likelihood",
            "its mean over the data, which is not its value at x_0",
        ),
        Decoy(
            "prior-left-out", MINUS_LOG_DATA - level_divergence(abar_t), "likelihood", "the sum without L_T"
        ),
    ),
)  # fmt: skip
def _gaussian_bound(claim: sp.Expr) -> Iterator[Step]:
    """Induction on T. With one step the bound is L_1 + L_0. One step more takes the divergence of the
    old last level away, and adds the term of the new step and the divergence of the new level."""
    bound = sp.Symbol("B", real=True)
    first = level_divergence(abar_t) + MINUS_LOG_DATA - level_divergence(abar_t)
    step_term = level_divergence(abar_prev) - level_divergence(abar_t)
    longer = bound - level_divergence(abar_prev) + step_term + level_divergence(abar_t)
    yield Induction("telescoping", (first, claim), (longer, claim), {bound: claim})
    data = normal(x_0, data_mean, data_variance)
    minus_log = sp.log(2 * sp.pi * data_variance) / 2 - data.exponent
    yield Identity("minus the log-density of the data", claim, minus_log)


EXCESS_RATIO = (BETA_TILDE + GAIN**2 * x_0_variance) / sigma_t**2
MODEL_GAP = POSTERIOR_MEAN.subs(x_0, x_0_hat) - mu_hat


@formula(
    "vlb.excess_step",
    title="what a step of any other Gaussian reverse chain adds to the bound, at one x_t",
    lhs=sp.Symbol("Delta_L"),
    rhs=(EXCESS_RATIO - 1 - sp.log(EXCESS_RATIO)) / 2 + MODEL_GAP**2 / (2 * sigma_t**2),
    citations=("Ho2020:5", "Bao2022:thm1"),
    uses=("vlb.term_mu", "ddpm.optimal_variance", "ddpm.mean_from_x_0"),
    decoys=(
        Decoy(
            "posterior-variance", SPREAD + MODEL_GAP**2 / (2 * sigma_t**2), "variance",
            "β̃_t where the variance of x_{t−1} given x_t belongs: it would be least for σ_t² = β̃_t",
        ),
        Decoy(
            "divergence-of-the-model", (1 / EXCESS_RATIO - 1 + sp.log(EXCESS_RATIO)) / 2
            + MODEL_GAP**2 / (2 * EXCESS_RATIO * sigma_t**2), "likelihood",
            "the divergence of the model from the exact kernel",
        ),
        Decoy(
            "means-alone", MODEL_GAP**2 / (2 * sigma_t**2), "likelihood", "without the share of the variances"
        ),
        Decoy(
            "means-not-halved", (EXCESS_RATIO - 1 - sp.log(EXCESS_RATIO)) / 2 + MODEL_GAP**2 / sigma_t**2,
            "likelihood", "½ forgotten before the means",
        ),
    ),
    mutate=False,  # cost: the mutations of the same form are refuted under vlb.term_mu
)  # fmt: skip
def _excess_step(claim: sp.Expr) -> Iterator[Step]:
    """Mean and variance of the model may be any functions of x_t, that is any numbers at one x_t. Average
    L_{t−1} over the data given x_t, of mean x̂_0 and any variance, for the model and for the exact kernel,
    and subtract: what is left is the divergence of the exact kernel from the model. It is never negative,
    so no bound is below −log p, and it vanishes for the exact kernel alone."""
    term = TERM_MU.subs(mu, POSTERIOR_MEAN)
    exact = {mu_hat: POSTERIOR_MEAN.subs(x_0, x_0_hat), sigma_t: sp.sqrt(EXCESS_RATIO * sigma_t**2)}
    gap = term - term.subs(exact, simultaneous=True)
    yield Expectation("difference of two terms", gap, {x_0: (x_0_hat, x_0_variance)}, claim)
    yield from rate_of_log(RATIO_OF_VARIANCES)
    yield Identity(
        "the same r in both parts", claim - MODEL_GAP**2 / (2 * sigma_t**2),
        ((RATIO_OF_VARIANCES - 1 - sp.log(RATIO_OF_VARIANCES)) / 2).subs(RATIO_OF_VARIANCES, EXCESS_RATIO),
    )  # fmt: skip
    yield Inequality("the means' share is a square times this", 1 / (2 * sigma_t**2), ">", sp.Integer(0))


DECODER_RATIO = x_0_variance / sigma_t**2


@formula(
    "vlb.excess_decoder",
    title="what any other Gaussian decoder adds to the bound, at one x_1",
    lhs=sp.Symbol("Delta_L"),
    rhs=(DECODER_RATIO - 1 - sp.log(DECODER_RATIO)) / 2 + (x_0_hat - mu_hat) ** 2 / (2 * sigma_t**2),
    citations=("Ho2020:5",),
    uses=("vlb.excess_step", "gaussian.kl"),
    decoys=(
        Decoy(
            "variances-forgotten", (x_0_hat - mu_hat) ** 2 / (2 * sigma_t**2), "likelihood",
            "the squared error alone, as if σ_1 were right",
        ),
    ),
)  # fmt: skip
def _excess_decoder(claim: sp.Expr) -> Iterator[Step]:
    """The mean of log q(x_0 | x_1) − log p(x_0 | x_1) over Gaussian data given x_1, of mean x̂_0. So the
    bound of a chain is −log p plus the sum of this, of the excess of each step and of that of the prior;
    none of the T + 1 is negative, so no chain is below −log p on average, for any T."""
    exact, model = normal(x_0, x_0_hat, x_0_variance), normal(x_0, mu_hat, sigma_t**2)
    ratio = exact.exponent - model.exponent + sp.log(sigma_t) - sp.log(x_0_variance) / 2
    yield Expectation("mean of the log-ratio", ratio, {x_0: (x_0_hat, x_0_variance)}, claim)
    yield from rate_of_log(RATIO_OF_VARIANCES)
    same = (RATIO_OF_VARIANCES - 1 - sp.log(RATIO_OF_VARIANCES)).subs(RATIO_OF_VARIANCES, DECODER_RATIO)
    yield Identity("the same r here", claim - (x_0_hat - mu_hat) ** 2 / (2 * sigma_t**2), same / 2)


@formula(
    "vlb.excess_prior",
    title="what the standard normal prior adds to the bound of the exact chain, on average",
    lhs=sp.Symbol("Delta_L"),
    rhs=(abar_t * (data_variance - 1 + data_mean**2) - sp.log(noised(data_variance))) / 2,
    citations=("Ho2020:5",),
    uses=("vlb.prior_term", "vlb.gaussian_prior_term"),
    decoys=(
        Decoy(
            "zero", sp.Integer(0), "likelihood", "x_T taken for pure noise", "S004:§4.2/6",
        ),
    ),
)  # fmt: skip
def _excess_prior(claim: sp.Expr) -> Iterator[Step]:
    """Average L_T against N(0, 1) minus L_T against the exact marginal over the data: the divergence of
    q(x_T) from N(0, 1). It is never negative, and zero without signal or for standard normal data."""
    gap = PRIOR_TERM - level_divergence(abar_t)
    yield Expectation("mean over the data", gap, {x_0: (data_mean, data_variance)}, claim)
    total = RATIO_OF_VARIANCES
    divergence = (total - 1 - sp.log(total)).subs(total, noised(data_variance)) + abar_t * data_mean**2
    yield Identity("a divergence", claim, divergence / 2)
    yield from rate_of_log(total)
    yield Identity("no signal", claim.subs(abar_t, 0), sp.Integer(0))
