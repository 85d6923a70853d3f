"""The terms of DDPM's bound: the prior, a step with any variance, and the hybrid loss that learns it."""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations.ddpm import (
    BETA_TILDE,
    GAIN,
    KL_TERM,
    LEARNED,
    LOSS_WEIGHT_EPS,
    LOSS_WEIGHT_X_0,
    MARGINAL_T,
    POSTERIOR_MEAN,
    SPREAD,
    X_0_FROM_EPS,
)
from derivations.kit import (
    Decoy,
    Expectation,
    Identity,
    Inequality,
    Series,
    Step,
    formula,
    normal,
)
from derivations.symbols import (
    T,
    abar_prev,
    abar_t,
    alpha_t,
    beta_t,
    beta_tilde_t,
    bound_weight,
    eps,
    eps_hat,
    fraction,
    mu,
    mu_hat,
    sigma_t,
    theta,
    x_0,
    x_0_hat,
    x_0_variance,
    x_prev,
    x_t,
)

PRIOR_TERM = (abar_t * x_0**2 - abar_t - sp.log(1 - abar_t)) / 2


def rate_of_log(ratio: sp.Expr) -> Iterator[Step]:
    """r − 1 − log r ≥ 0 for r > 0, and zero only at r = 1: along the segment from 1 to r it grows."""
    s = fraction
    along = s * (ratio - 1) - sp.log(1 + s * (ratio - 1))
    factor = s / (1 + s * (ratio - 1))
    rate = sp.diff(along, s)
    yield Identity("r − 1 − log r along the segment from 1 to r: its rate", rate, (ratio - 1) ** 2 * factor)
    yield Inequality("a square times what is not negative", factor, ">=", sp.Integer(0))
    yield Identity("from zero", along.subs(s, 0), sp.Integer(0))
    yield Identity("to r − 1 − log r", along.subs(s, 1), ratio - 1 - sp.log(ratio))


RATIO_OF_VARIANCES = sp.Symbol("r", positive=True)


@formula(
    "vlb.prior_term",
    title="L_T: the divergence of the last level from the prior",
    lhs=sp.Symbol("L_T"),
    rhs=PRIOR_TERM,
    citations=("Ho2020:5", "S000:15", "S004:§4.2/5"),
    reference="refdiff.vlb:prior_term",
    uses=("ddpm.marginal", "ddpm.prior_term", "gaussian.kl"),
    decoys=(
        Decoy(
            "left-out", sp.Integer(0), "likelihood",
            "a constant for training, but not for the value of the bound", "S004:§4.2/5",
        ),
        Decoy(
            "unit-variance", abar_t * x_0**2 / 2, "likelihood",
            "the share of the means alone, as if x_T had variance 1",
        ),
        Decoy(
            "exchanged", (abar_t * x_0**2 / (1 - abar_t) + abar_t / (1 - abar_t) + sp.log(1 - abar_t)) / 2,
            "likelihood", "the divergence of the prior from the last level",
        ),
        Decoy(
            "one-step-level", PRIOR_TERM.subs(abar_t, alpha_t), "index", "α_T where ᾱ_T belongs"
        ),
    ),
)  # fmt: skip
def _prior_term(claim: sp.Expr) -> Iterator[Step]:
    """KL(q(x_T | x_0) ‖ N(0, 1)), with ᾱ_t standing for ᾱ_T: the mean of the log-ratio. Half of
    ᾱ_T·x_0² belongs to the means; the rest, −ᾱ_T − log(1 − ᾱ_T), is of second order in ᾱ_T and grows
    from zero. So L_T is positive, and vanishes with the signal."""
    prior = normal(x_t, sp.Integer(0), sp.Integer(1))
    ratio = MARGINAL_T.exponent - prior.exponent - sp.log(1 - abar_t) / 2
    moments = {x_t: (sp.sqrt(abar_t) * x_0, 1 - abar_t)}
    yield Expectation("mean of the log-ratio", ratio, moments, claim)
    spread = claim - abar_t * x_0**2 / 2
    yield Identity("the share of the variances grows", sp.diff(spread, abar_t), abar_t / (2 * (1 - abar_t)))
    yield Inequality("at a positive rate", abar_t / (2 * (1 - abar_t)), ">", sp.Integer(0))
    yield Series("of second order", spread, abar_t, 3, abar_t**2 / 4)


TERM = (beta_tilde_t / sigma_t**2 - 1 - sp.log(beta_tilde_t / sigma_t**2)) / 2
TERM_MU = TERM.subs(beta_tilde_t, BETA_TILDE) + (mu - mu_hat) ** 2 / (2 * sigma_t**2)


@formula(
    "vlb.term_mu",
    title="L_{t−1} at one x_t, through the mean of the model",
    lhs=sp.Symbol("L"),
    rhs=TERM_MU,
    citations=("Ho2020:5", "Ho2020:8", "S000:16", "S004:4.6"),
    reference="refdiff.vlb:step_term",
    uses=("gaussian.kl", "ddpm.posterior_variance", "ddpm.loss_weight_mu"),
    decoys=(
        Decoy(
            "spread-missing", (mu - mu_hat) ** 2 / (2 * sigma_t**2), "likelihood",
            "without the share of the variances, which is a constant only while σ_t is not learned",
            "S004:§4.2/10",
        ),
        Decoy(
            "weight-of-the-posterior", SPREAD + (mu - mu_hat) ** 2 / (2 * BETA_TILDE), "likelihood",
            "the means weighed with β̃_t and not with the variance of the model",
        ),
        Decoy(
            "exchanged", (sigma_t**2 / BETA_TILDE - 1 - sp.log(sigma_t**2 / BETA_TILDE)) / 2
            + (mu - mu_hat) ** 2 / (2 * BETA_TILDE), "likelihood",
            "the divergence of the model from the posterior",
        ),
    ),
)  # fmt: skip
def _term_mu(claim: sp.Expr) -> Iterator[Step]:
    """KL(N(μ̃_t, β̃_t) ‖ N(μ_θ, σ_t²)) is the mean of the log-ratio under the posterior. Both parts are
    never negative, and it vanishes only where means and variances agree."""
    posterior, model = normal(x_prev, mu, BETA_TILDE), normal(x_prev, mu_hat, sigma_t**2)
    ratio = posterior.exponent - model.exponent + sp.log(sigma_t) - sp.log(BETA_TILDE) / 2
    yield Expectation("mean of the log-ratio", ratio, {x_prev: (mu, BETA_TILDE)}, claim)
    equal = claim.subs(mu_hat, mu).subs(sigma_t, sp.sqrt(BETA_TILDE))
    yield Identity("zero for equal kernels", equal, sp.Integer(0))
    yield from rate_of_log(RATIO_OF_VARIANCES)


@formula(
    "vlb.term_x_0",
    title="L_{t−1} at one x_t, through the prediction of the data",
    lhs=sp.Symbol("L"),
    rhs=SPREAD + LOSS_WEIGHT_X_0 * (x_0 - x_0_hat) ** 2,
    citations=("Ho2020:5", "Ho2020:8"),
    reference="refdiff.vlb:step_term",
    uses=("vlb.term_mu", "ddpm.kl_term", "ddpm.mean_from_x_0", "ddpm.loss_weight_x_0"),
    decoys=(
        Decoy(
            "weight-of-eps", SPREAD + LOSS_WEIGHT_EPS * (x_0 - x_0_hat) ** 2, "loss-weight",
            "the weight of the noise on an error of the data",
        ),
        Decoy(
            "precedence", SPREAD + sp.sqrt(abar_t) / 2 / (2 - abar_t) * (x_0 - x_0_hat) ** 2, "loss-weight",
            "½√ᾱ/(2·1 − ᾱ): the bracket around 1 − ᾱ is missing", "CompVis/latent-diffusion PR#404",
        ),
    ),
)  # fmt: skip
def _term_x_0(claim: sp.Expr) -> Iterator[Step]:
    """Both means are the posterior mean, at the data and at its prediction; through the noise it is the
    term that training uses."""
    means = {mu: POSTERIOR_MEAN, mu_hat: POSTERIOR_MEAN.subs(x_0, x_0_hat)}
    yield Identity("means through x_0", TERM_MU.subs(means, simultaneous=True), claim)
    predicted = {x_0: X_0_FROM_EPS, x_0_hat: X_0_FROM_EPS.subs(eps, eps_hat)}
    yield Identity("and through ε", claim.subs(predicted, simultaneous=True), KL_TERM)


SHARE = (1 - abar_prev) / (1 - abar_t)
TERM_LEARNED = (SHARE**fraction - 1 - fraction * sp.log(SHARE)) / 2 + beta_t * SHARE ** (fraction - 1) / (
    2 * alpha_t * (1 - abar_t)
) * (eps - eps_hat) ** 2


@formula(
    "vlb.term_learned",
    title="L_{t−1} at one x_t, with a learned variance",
    lhs=sp.Symbol("L"),
    rhs=TERM_LEARNED,
    citations=("Nichol2021:15", "Nichol2021:16"),
    reference="refdiff.vlb:step_term",
    uses=("ddpm.kl_term", "ddpm.learned_variance", "ddpm.posterior_variance_bounds"),
    decoys=(
        Decoy(
            "fraction-from-beta", TERM_LEARNED.subs(fraction, 1 - fraction), "variance", "0 gives β_t"
        ),
        Decoy(
            "channel-unshifted", TERM_LEARNED.subs(fraction, 2 * fraction - 1), "variance",
            "a channel in [−1, 1] used as if it lay in [0, 1]",
        ),
        Decoy(
            "fixed-spread", SPREAD.subs(sigma_t, sp.sqrt(beta_t))
            + beta_t * SHARE ** (fraction - 1) / (2 * alpha_t * (1 - abar_t)) * (eps - eps_hat) ** 2,
            "likelihood", "the variances' share of σ_t² = β_t kept as a constant: nothing holds the variance",
        ),
    ),
)  # fmt: skip
def _term_learned(claim: sp.Expr) -> Iterator[Step]:
    """β̃_t/σ_t² is the power f of β̃_t/β_t, so the share of the variances needs no other logarithm. At
    f = 0 it vanishes, at f = 1 the variance is β_t."""
    yield Identity("β̃_t/σ_t² is a power of β̃_t/β_t", BETA_TILDE / LEARNED, SHARE**fraction)
    spread = (SHARE**fraction - 1 - fraction * sp.log(SHARE)) / 2
    error = LOSS_WEIGHT_EPS.subs(sigma_t, sp.sqrt(LEARNED)) * (eps - eps_hat) ** 2
    yield Identity("whose logarithm is f times that of the base", spread + error, claim)
    yield Identity("f = 0", claim.subs(fraction, 0), KL_TERM.subs(sigma_t, sp.sqrt(BETA_TILDE)))
    yield Identity("f = 1", claim.subs(fraction, 1), KL_TERM.subs(sigma_t, sp.sqrt(beta_t)))


VARIANCE = sp.Symbol("v", positive=True)
VARIANCE_GRADIENT = (1 - (BETA_TILDE + (mu - mu_hat) ** 2) / sigma_t**2) / 2


@formula(
    "vlb.variance_gradient",
    title="slope of L_{t−1} in the logarithm of the variance of the model",
    lhs=VARIANCE * sp.Derivative(sp.Function("L")(VARIANCE), VARIANCE),
    rhs=VARIANCE_GRADIENT,
    citations=("Nichol2021:16", "Bao2022:thm1"),
    uses=("vlb.term_mu", "ddpm.optimal_variance"),
    decoys=(
        Decoy(
            "error-missing", (1 - BETA_TILDE / sigma_t**2) / 2, "likelihood",
            "without the error of the mean: the variance would be taught β̃_t",
        ),
    ),
)  # fmt: skip
def _variance_gradient(claim: sp.Expr) -> Iterator[Step]:
    """Differentiate. At one x_t the slope vanishes exactly where σ_t² is β̃_t plus the squared error of
    the mean; on average over the data given x_t, and for the perfect mean, that is the optimal
    variance. So this is what the hybrid loss teaches the variance."""
    yield Identity("differentiated", sp.diff(TERM_MU, sigma_t) * sigma_t / 2, claim)
    least = sp.sqrt(BETA_TILDE + (mu - mu_hat) ** 2)
    yield Identity("zero at β̃_t plus the squared error", claim.subs(sigma_t, least), sp.Integer(0))
    perfect = {mu: POSTERIOR_MEAN, mu_hat: POSTERIOR_MEAN.subs(x_0, x_0_hat)}
    optimal = BETA_TILDE + GAIN**2 * x_0_variance
    yield Expectation(
        "on average over the data given x_t", claim.subs(perfect, simultaneous=True),
        {x_0: (x_0_hat, x_0_variance)}, (1 - optimal / sigma_t**2) / 2,
    )  # fmt: skip


MEAN_OF = sp.Function("epsilon_theta", real=True)(theta)
FRACTION_OF = sp.Function("f_theta", real=True)(theta)
ERROR_OF = beta_t**2 / (alpha_t * (1 - abar_t)) * (eps - MEAN_OF) ** 2
LEARNED_OF = LEARNED.subs(fraction, FRACTION_OF)
FROM_MEAN = -2 * (eps - MEAN_OF) * sp.diff(MEAN_OF, theta)
FROM_VARIANCE = -sp.log(SHARE) / 2 * (1 - (BETA_TILDE + ERROR_OF) / LEARNED_OF) * sp.diff(FRACTION_OF, theta)
FROZEN = sp.Symbol("epsilon_frozen", real=True)


@formula(
    "vlb.hybrid_gradient",
    title="what the hybrid loss teaches: the mean by the simple loss, the variance by the bound",
    lhs=sp.Derivative(sp.Function("L_hybrid")(theta), theta),
    rhs=FROM_MEAN + bound_weight * T * FROM_VARIANCE,
    citations=("Nichol2021:16", "Nichol2021:§3.1"),
    reference="refdiff.vlb:hybrid_loss",
    uses=("vlb.term_learned", "vlb.variance_gradient", "ddpm.loss_simple"),
    decoys=(
        Decoy(
            "not-stopped", FROM_MEAN * (1 + bound_weight * T * beta_t * SHARE ** (FRACTION_OF - 1)
            / (2 * alpha_t * (1 - abar_t))) + bound_weight * T * FROM_VARIANCE, "likelihood",
            "the gradient of the bound reaches the mean",
        ),
        Decoy(
            "term-for-bound", FROM_MEAN + bound_weight * FROM_VARIANCE, "loss-weight",
            "one term for the sum: T times one uniform term estimates the bound",
        ),
        Decoy(
            "variance-stopped-too", FROM_MEAN, "likelihood", "nothing teaches the variance"
        ),
    ),
)  # fmt: skip
def _hybrid_gradient(claim: sp.Expr) -> Iterator[Step]:
    """L_simple + λ·T·L_{t−1} of one uniform t, where the prediction of the noise inside L_{t−1} is a
    frozen copy: differentiate with the copy held fixed, then put the prediction back. Network and
    parameter are arbitrary functions."""
    learned = TERM_LEARNED.subs({fraction: FRACTION_OF, eps_hat: FROZEN})
    loss = (eps - MEAN_OF) ** 2 + bound_weight * T * learned
    stopped = sp.diff(loss, theta).subs(FROZEN, MEAN_OF)
    yield Identity("differentiated with a frozen copy", stopped, claim)
    whole = sp.diff(loss.subs(FROZEN, MEAN_OF), theta)
    reached = bound_weight * T * sp.diff(learned, FROZEN).subs(FROZEN, MEAN_OF) * sp.diff(MEAN_OF, theta)
    yield Identity("the copy holds back this part", whole - claim, reached)
