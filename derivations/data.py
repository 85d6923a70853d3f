"""Laws of data whose noised density, score, perfect network and posterior moments have a closed form.

Axioms: the marginal of x_t given x_0, Bayes' rule, the law of total probability, and for statements about any
law of the data the exchange of derivative and integral. A law with more components, points or coordinates is
a longer sum of the same terms; sums are linear, so two components, points or coordinates show every formula.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations.ddpm import MARGINAL_T, TWEEDIE, tweedie_steps
from derivations.kit import (
    Decoy,
    DensityEqual,
    Identity,
    Inequality,
    Integral,
    LogDensity,
    Step,
    Substitution,
    formula,
    normal,
)
from derivations.symbols import (
    abar_t,
    cov_11,
    cov_12,
    cov_22,
    data_mean,
    data_variance,
    mode_1,
    mode_2,
    mode_variance_1,
    mode_variance_2,
    point_1,
    point_2,
    score,
    score_slope,
    weight_1,
    weight_2,
    x_0,
    x_t,
    x_t_1,
    x_t_2,
)

SCALE, NOISE = sp.sqrt(abar_t), 1 - abar_t
odds = sp.Symbol("odds", positive=True)
PRIOR = normal(x_0, data_mean, data_variance)


def noised(variance: sp.Expr) -> sp.Expr:
    """Variance of x_t for data of this variance."""
    return abar_t * variance + NOISE


def log_normal(mean: sp.Expr, variance: sp.Expr) -> sp.Expr:
    """Log-density of x_t for normal data."""
    total = noised(variance)
    return -((x_t - SCALE * mean) ** 2) / (2 * total) - sp.log(2 * sp.pi * total) / 2


def denoised(mean: sp.Expr, variance: sp.Expr) -> sp.Expr:
    """Mean of normal data given x_t."""
    return mean + SCALE * variance / noised(variance) * (x_t - SCALE * mean)


def score_of(mean: sp.Expr, variance: sp.Expr) -> sp.Expr:
    """Score of x_t for normal data."""
    return -(x_t - SCALE * mean) / noised(variance)


LEFT = data_variance * NOISE / noised(data_variance)
EPS_OF_SCORE = -sp.sqrt(NOISE) * score


@formula(
    "data.eps",
    title="the perfect noise prediction, for any law of the data",
    lhs=sp.Symbol("eps_star"),
    rhs=EPS_OF_SCORE,
    citations=("Song2021sde:§3", "S004:4.11"),
    reference="refdiff.data:Law",
    uses=("ddpm.tweedie",),
    decoys=(
        Decoy("sign", sp.sqrt(NOISE) * score, "sign", "the score of the opposite sign"),
        Decoy("variance", -NOISE * score, "sqrt", "1 − ᾱ_t where its root belongs"),
    ),
)
def _eps(claim: sp.Expr) -> Iterator[Step]:
    """ε = (x_t − √ᾱ_t·x_0)/√(1−ᾱ_t); its mean given x_t follows from Tweedie's mean of the data."""
    yield Identity("through the mean of the data", claim, (x_t - SCALE * TWEEDIE) / sp.sqrt(NOISE))
    yield from tweedie_steps((x_t - sp.sqrt(NOISE) * claim) / SCALE, MARGINAL_T, x_0, SCALE, NOISE)


@formula(
    "data.tweedie_second_order",
    title="variance of the data given x_t, for any law of the data",
    lhs=sp.Symbol("V"),
    rhs=NOISE / abar_t * (1 + NOISE * score_slope),
    citations=("Efron2011", "Bao2022:lemma1"),
    reference="refdiff.data:Law",
    uses=("ddpm.tweedie",),
    decoys=(
        Decoy(
            "slope-with-minus", NOISE / abar_t * (1 - NOISE * score_slope), "sign", "the slope of −score"
        ),
        Decoy(
            "slope-squared", NOISE / abar_t * (1 + NOISE * score_slope**2), "likelihood",
            "the slope of the score squared",
        ),
        Decoy(
            "precisions-added", 1 / (abar_t / NOISE + 1 / (1 + NOISE * score_slope)), "likelihood",
            "precisions added where they multiply", "sbi-dev/sbi PR#1636",
        ),
        Decoy(
            "not-scaled-back", NOISE * (1 + NOISE * score_slope), "parameterization",
            "the variance of √ᾱ_t·x_0",
        ),
    ),
)  # fmt: skip
def _tweedie_second_order(claim: sp.Expr) -> Iterator[Step]:
    """Differentiate twice under the integral. With q the density and m_k the integral of x_0^k times
    the joint density, (1−ᾱ_t)·m_k' = √ᾱ_t·m_{k+1} − x_t·m_k; so m_1 and m_2 are known from q. For
    two-point laws, whose odds given x_t grow at the rate of the difference of the scores, no axiom is
    needed."""
    q = sp.Function("q", positive=True)(x_t)
    m_1 = (NOISE * sp.diff(q, x_t) + x_t * q) / SCALE
    m_2 = (NOISE * sp.diff(m_1, x_t) + x_t * m_1) / SCALE
    slope = sp.diff(sp.diff(q, x_t) / q, x_t)
    yield Substitution("any law", claim.subs(score_slope, slope) - (m_2 / q - (m_1 / q) ** 2), {})
    a, b = sp.symbols("a b", real=True)
    score_a, score_b = -(x_t - SCALE * a) / NOISE, -(x_t - SCALE * b) / NOISE
    mixed = (score_a + odds * score_b) / (1 + odds)
    curvature = sp.diff(mixed, x_t) + sp.diff(mixed, odds) * odds * (score_b - score_a)
    variance = odds * (a - b) ** 2 / (1 + odds) ** 2
    yield Identity("any two-point law", claim.subs(score_slope, curvature), variance)


@formula(
    "data.gaussian_log_density",
    title="log-density of x_t for Gaussian data",
    lhs=sp.Symbol("log_p"),
    rhs=log_normal(data_mean, data_variance),
    citations=("Bishop2006:2.115",),
    reference="refdiff.data:GaussianLaw",
    uses=("ddpm.marginal",),
    decoys=(
        Decoy(
            "variance-not-scaled", log_normal(data_mean, data_variance / abar_t), "variance",
            "c + 1 − ᾱ_t: the variance of the data is not scaled",
        ),
        Decoy(
            "mean-not-scaled", log_normal(data_mean / SCALE, data_variance), "sqrt",
            "the mean of the data is not scaled",
        ),
    ),
)  # fmt: skip
def _gaussian_log_density(claim: sp.Expr) -> Iterator[Step]:
    """Integrate x_0 out of the joint density."""
    top = claim.subs(x_t, SCALE * data_mean)
    yield Integral("x_0 integrated out", MARGINAL_T * PRIOR, x_0, LogDensity(claim - top, sp.exp(top)))


@formula(
    "data.gaussian_score",
    title="score of x_t for Gaussian data",
    lhs=score,
    rhs=score_of(data_mean, data_variance),
    reference="refdiff.data:GaussianLaw",
    uses=("data.gaussian_log_density",),
    decoys=(
        Decoy(
            "noise-only", -(x_t - SCALE * data_mean) / NOISE, "variance", "the score given x_0 = mean"
        ),
        Decoy(
            "std", -(x_t - SCALE * data_mean) / sp.sqrt(noised(data_variance)), "sqrt",
            "the standard deviation below the line",
        ),
    ),
)  # fmt: skip
def _gaussian_score(claim: sp.Expr) -> Iterator[Step]:
    """The derivative of the log-density. Standard normal data stay standard normal: the score is
    −x_t."""
    yield Identity("derivative", sp.diff(log_normal(data_mean, data_variance), x_t), claim)
    yield Identity("standard normal", claim.subs({data_mean: 0, data_variance: 1}), -x_t)


@formula(
    "data.gaussian_posterior_mean",
    title="mean of Gaussian data given x_t",
    lhs=x_0,
    rhs=denoised(data_mean, data_variance),
    citations=("Bishop2006:2.116",),
    reference="refdiff.data:GaussianLaw",
    uses=("data.gaussian_log_density", "ddpm.tweedie"),
    decoys=(
        Decoy(
            "noise-in-data-space",
            data_mean + data_variance / (data_variance + NOISE) * (x_t / SCALE - data_mean), "variance",
            "the noise of x_t/√ᾱ_t taken as 1 − ᾱ_t", "probabilists/azula commit 297b0a0",
        ),
        Decoy("rescaled", x_t / SCALE, "parameterization", "x_t scaled back: noise is not removed"),
    ),
)  # fmt: skip
def _gaussian_posterior_mean(claim: sp.Expr) -> Iterator[Step]:
    """Bayes, and Tweedie with the score of Gaussian data. A point mass stays where it is."""
    evidence = normal(x_t, SCALE * data_mean, noised(data_variance))
    yield DensityEqual("Bayes", MARGINAL_T * PRIOR / evidence, normal(x_0, claim, LEFT))
    yield Identity("Tweedie", claim, TWEEDIE.subs(score, score_of(data_mean, data_variance)))
    yield Identity("a point mass", claim.subs(data_variance, 0), data_mean)


@formula(
    "data.gaussian_posterior_variance",
    title="variance of Gaussian data given x_t",
    lhs=sp.Symbol("V"),
    rhs=LEFT,
    citations=("Bishop2006:2.116",),
    reference="refdiff.data:GaussianLaw",
    uses=("data.gaussian_posterior_mean", "data.tweedie_second_order"),
    decoys=(
        Decoy(
            "noise-in-data-space", data_variance * NOISE / (data_variance + NOISE), "variance",
            "the noise of x_t/√ᾱ_t taken as 1 − ᾱ_t", "probabilists/azula commit 297b0a0",
        ),
    ),
)  # fmt: skip
def _gaussian_posterior_variance(claim: sp.Expr) -> Iterator[Step]:
    """Precisions add: 1/c from the data and ᾱ_t/(1−ᾱ_t) from x_t. Also Tweedie of second order."""
    yield Identity("precisions add", 1 / claim, 1 / data_variance + abar_t / NOISE)
    slope = sp.diff(score_of(data_mean, data_variance), x_t)
    yield Identity("Tweedie of second order", claim, NOISE / abar_t * (1 + NOISE * slope))
    yield Inequality("less than before", data_variance, ">", claim)


@formula(
    "data.gaussian_eps",
    title="the perfect noise prediction for Gaussian data",
    lhs=sp.Symbol("eps_star"),
    rhs=sp.sqrt(NOISE) * (x_t - SCALE * data_mean) / noised(data_variance),
    reference="refdiff.data:GaussianLaw",
    uses=("data.eps", "data.gaussian_score"),
)
def _gaussian_eps(claim: sp.Expr) -> Iterator[Step]:
    """From the score, and from the mean of the data."""
    yield Identity("score", claim, EPS_OF_SCORE.subs(score, score_of(data_mean, data_variance)))
    mean = denoised(data_mean, data_variance)
    yield Identity("mean of the data", claim, (x_t - SCALE * mean) / sp.sqrt(NOISE))


@formula(
    "data.point_mass_log_density",
    title="log-density of x_t for a point mass",
    lhs=sp.Symbol("log_p"),
    rhs=-((x_t - SCALE * x_0) ** 2) / (2 * NOISE) - sp.log(2 * sp.pi * NOISE) / 2,
    reference="refdiff.data:PointMass",
    uses=("ddpm.marginal", "data.gaussian_log_density"),
)
def _point_mass_log_density(claim: sp.Expr) -> Iterator[Step]:
    """The marginal itself; Gaussian data of no variance."""
    top = claim.subs(x_t, SCALE * x_0)
    yield DensityEqual("the marginal", MARGINAL_T, LogDensity(claim - top, sp.exp(top)))
    yield Identity("no variance", claim, log_normal(x_0, sp.Integer(0)))


@formula(
    "data.point_mass_score",
    title="score of x_t for a point mass",
    lhs=score,
    rhs=-(x_t - SCALE * x_0) / NOISE,
    citations=("S004:4.11",),
    reference="refdiff.data:PointMass",
    uses=("data.point_mass_log_density",),
    decoys=(
        Decoy("std", -(x_t - SCALE * x_0) / sp.sqrt(NOISE), "sqrt", "√(1−ᾱ_t) below the line: that is −ε"),
    ),
)
def _point_mass_score(claim: sp.Expr) -> Iterator[Step]:
    """The derivative of the log-density; Tweedie's mean of the data is the point, and nothing is
    uncertain."""
    yield Identity("derivative", sp.diff(MARGINAL_T.exponent, x_t), claim)
    yield Identity("mean of the data", TWEEDIE.subs(score, claim), x_0)
    yield Identity("variance of the data", NOISE / abar_t * (1 + NOISE * sp.diff(claim, x_t)), sp.Integer(0))


@formula(
    "data.point_mass_eps",
    title="the perfect noise prediction for a point mass",
    lhs=sp.Symbol("eps_star"),
    rhs=(x_t - SCALE * x_0) / sp.sqrt(NOISE),
    reference="refdiff.data:PointMass",
    uses=("data.eps", "data.point_mass_score"),
)
def _point_mass_eps(claim: sp.Expr) -> Iterator[Step]:
    """The noise that made x_t, without error."""
    yield Identity("score", claim, EPS_OF_SCORE.subs(score, -(x_t - SCALE * x_0) / NOISE))


LAWS = ((weight_1, mode_1, mode_variance_1), (weight_2, mode_2, mode_variance_2))


def joint(weight: sp.Expr, mean: sp.Expr, variance: sp.Expr) -> sp.Expr:
    """Weight of a component times its density of x_t."""
    total = noised(variance)
    return weight * sp.exp(-((x_t - SCALE * mean) ** 2) / (2 * total)) / sp.sqrt(2 * sp.pi * total)


FIRST, SECOND = (joint(*law) for law in LAWS)
EXPONENT = (x_t - SCALE * mode_1) ** 2 / (2 * noised(mode_variance_1)) - (x_t - SCALE * mode_2) ** 2 / (
    2 * noised(mode_variance_2)
)
FACTOR = weight_2 / weight_1 * sp.sqrt(noised(mode_variance_1) / noised(mode_variance_2))
ODDS = FACTOR * sp.exp(EXPONENT)
"""Odds of the second component given x_t."""
SHARE = 1 / (1 + ODDS)
SCORE_1, SCORE_2 = (score_of(mean, variance) for _, mean, variance in LAWS)
MEAN_1, MEAN_2 = (denoised(mean, variance) for _, mean, variance in LAWS)
MIXTURE_SCORE = SHARE * SCORE_1 + (1 - SHARE) * SCORE_2
MIXTURE_MEAN = SHARE * MEAN_1 + (1 - SHARE) * MEAN_2


def by_odds(claim: sp.Expr) -> sp.Expr:
    """The claim for any odds; the weights make every positive number of them."""
    return claim.xreplace({ODDS: odds})


@formula(
    "data.mixture_log_density",
    title="log-density of x_t for a Gaussian mixture",
    lhs=sp.Symbol("log_p"),
    rhs=sp.log(FIRST + SECOND),
    reference="refdiff.data:MixtureLaw",
    uses=("data.gaussian_log_density",),
    decoys=(
        Decoy(
            "mean-of-logs", sp.Add(*(weight * log_normal(*law) for weight, *law in LAWS)),
            "likelihood", "the mean of the log-densities",
        ),
        Decoy(
            "weights-missing", sp.log(FIRST / weight_1 + SECOND / weight_2), "likelihood",
            "the weights are missing",
        ),
    ),
)  # fmt: skip
def _mixture_log_density(claim: sp.Expr) -> Iterator[Step]:
    """Total probability: integrate x_0 out of each component."""
    yield Identity("total probability", sp.exp(claim), FIRST + SECOND)
    for weight, mean, variance in LAWS:
        component = normal(x_0, mean, variance)
        weighted = LogDensity(component.exponent, weight * component.factor)
        marginal = normal(x_t, SCALE * mean, noised(variance))
        out = LogDensity(marginal.exponent, weight * marginal.factor)
        yield Integral(f"component with mean {mean}", MARGINAL_T * weighted, x_0, out)


@formula(
    "data.mixture_responsibility",
    title="probability of the first component given x_t",
    lhs=sp.Symbol("r_1"),
    rhs=SHARE,
    reference="refdiff.data:MixtureLaw",
    uses=("data.mixture_log_density",),
    decoys=(
        Decoy("prior", weight_1 / (weight_1 + weight_2), "likelihood", "the weight before x_t was seen"),
        Decoy("other", 1 - SHARE, "index", "the other component"),
    ),
)
def _mixture_responsibility(claim: sp.Expr) -> Iterator[Step]:
    """Bayes: the ratio of the two probabilities is the ratio of weight times density; they add up to
    one."""
    yield Identity("first or second", by_odds(claim), 1 / (1 + odds))
    first, second = (normal(x_t, SCALE * mean, noised(variance)) for _, mean, variance in LAWS)
    ratio = second / first
    prior = weight_2 / weight_1
    bayes = LogDensity(ratio.exponent, prior * ratio.factor)
    yield DensityEqual("Bayes", LogDensity(EXPONENT, FACTOR), bayes)


@formula(
    "data.mixture_score",
    title="score of x_t for a Gaussian mixture",
    lhs=score,
    rhs=MIXTURE_SCORE,
    reference="refdiff.data:MixtureLaw",
    uses=("data.mixture_log_density", "data.mixture_responsibility"),
    decoys=(
        Decoy(
            "prior-weights", (weight_1 * SCORE_1 + weight_2 * SCORE_2)
            / (weight_1 + weight_2), "likelihood", "scores averaged with the weights of the law",
        ),
        Decoy("sign", -MIXTURE_SCORE, "sign", "the sign is flipped"),
        Decoy("first-only", SCORE_1, "likelihood", "one component alone"),
    ),
)  # fmt: skip
def _mixture_score(claim: sp.Expr) -> Iterator[Step]:
    """The derivative of log p_1 + log(1 + odds), where the odds p_2/p_1 grow at the rate of the
    difference of the scores: the mean of the scores under the responsibilities."""
    derivative = SCORE_1 + odds * (SCORE_2 - SCORE_1) / (1 + odds)
    yield Identity("derivative", by_odds(claim), derivative)
    yield Identity("growth of the logarithm of the odds", sp.diff(EXPONENT, x_t), SCORE_2 - SCORE_1)


@formula(
    "data.mixture_posterior_mean",
    title="mean of the data of a Gaussian mixture given x_t",
    lhs=x_0,
    rhs=MIXTURE_MEAN,
    reference="refdiff.data:MixtureLaw",
    uses=("data.mixture_score", "data.gaussian_posterior_mean", "ddpm.tweedie"),
    decoys=(
        Decoy(
            "prior-weights", (weight_1 * MEAN_1 + weight_2 * MEAN_2)
            / (weight_1 + weight_2), "likelihood", "means averaged with the weights of the law",
        ),
        Decoy(
            "means-not-updated", SHARE * mode_1 + (1 - SHARE) * mode_2, "likelihood",
            "the components' means before x_t was seen",
        ),
    ),
)  # fmt: skip
def _mixture_posterior_mean(claim: sp.Expr) -> Iterator[Step]:
    """Total expectation over the components; Tweedie with the score of the mixture says the same."""
    yield Identity("Tweedie", by_odds(claim), TWEEDIE.subs(score, by_odds(MIXTURE_SCORE)))


@formula(
    "data.mixture_eps",
    title="the perfect noise prediction for a Gaussian mixture",
    lhs=sp.Symbol("eps_star"),
    rhs=-sp.sqrt(NOISE) * MIXTURE_SCORE,
    reference="refdiff.data:MixtureLaw",
    uses=("data.eps", "data.mixture_posterior_mean"),
    decoys=(
        Decoy("sign", sp.sqrt(NOISE) * MIXTURE_SCORE, "sign", "the sign is flipped"),
        Decoy("variance", -NOISE * MIXTURE_SCORE, "sqrt", "1 − ᾱ_t where its root belongs"),
    ),
)
def _mixture_eps(claim: sp.Expr) -> Iterator[Step]:
    """What x_t leaves after the mean of the data, scaled to unit noise."""
    yield Identity("mean of the data", by_odds(claim), (x_t - SCALE * by_odds(MIXTURE_MEAN)) / sp.sqrt(NOISE))


WITHIN = tuple(variance * NOISE / noised(variance) for _, _, variance in LAWS)
APART = NOISE / SCALE * (SCORE_1 - SCORE_2)
"""Difference of the components' means given x_t."""
BETWEEN = SHARE * (1 - SHARE) * APART**2


@formula(
    "data.mixture_posterior_variance",
    title="variance of the data of a Gaussian mixture given x_t",
    lhs=sp.Symbol("V"),
    rhs=SHARE * WITHIN[0] + (1 - SHARE) * WITHIN[1] + BETWEEN,
    reference="refdiff.data:MixtureLaw",
    uses=("data.mixture_posterior_mean", "data.tweedie_second_order"),
    decoys=(
        Decoy(
            "within-only", SHARE * WITHIN[0] + (1 - SHARE) * WITHIN[1], "variance",
            "the variance between the components is missing",
        ),
        Decoy("between-only", BETWEEN, "variance", "the variance within the components is missing"),
    ),
)  # fmt: skip
def _mixture_posterior_variance(claim: sp.Expr) -> Iterator[Step]:
    """Total variance, within the components and between them; Tweedie of second order says the same."""
    score_1, score_2 = sp.symbols("s_1 s_2", real=True)
    scores = {
        mode_1: (x_t + noised(mode_variance_1) * score_1) / SCALE,
        mode_2: (x_t + noised(mode_variance_2) * score_2) / SCALE,
    }
    mixed = by_odds(MIXTURE_SCORE)
    derivative = sp.diff(mixed, x_t) + sp.diff(mixed, odds) * odds * (SCORE_2 - SCORE_1)
    within = -1 / noised(mode_variance_1) - odds / noised(mode_variance_2)
    slope = within / (1 + odds) + odds * (score_1 - score_2) ** 2 / (1 + odds) ** 2
    yield Identity(
        "Tweedie of second order", by_odds(claim).subs(scores), NOISE / abar_t * (1 + NOISE * slope)
    )
    yield Identity("slope of the score", derivative.subs(scores), slope)
    yield Identity("difference of the means", MEAN_1 - MEAN_2, APART)


NEAR = 1 / (1 + sp.exp(SCALE * (point_2 - point_1) * (x_t - SCALE * (point_1 + point_2) / 2) / NOISE))
"""Probability of the first of two points: the softmax of minus the squared distances."""
EMPIRICAL_MEAN = NEAR * point_1 + (1 - NEAR) * point_2


def empirical_density() -> sp.Expr:
    """Density of x_t for two points of equal weight."""
    density = MARGINAL_T.factor * sp.exp(MARGINAL_T.exponent)
    return (density.subs(x_0, point_1) + density.subs(x_0, point_2)) / 2


@formula(
    "data.empirical_posterior_mean",
    title="mean of an empirical measure given x_t: a softmax over its points",
    lhs=x_0,
    rhs=EMPIRICAL_MEAN,
    reference="refdiff.data:Empirical",
    uses=("ddpm.tweedie", "data.point_mass_log_density"),
    decoys=(
        Decoy("mean-of-points", (point_1 + point_2) / 2, "likelihood", "the points averaged, whatever x_t"),
        Decoy("far", NEAR * point_2 + (1 - NEAR) * point_1, "sign", "the distances with the wrong sign"),
    ),
)
def _empirical_posterior_mean(claim: sp.Expr) -> Iterator[Step]:
    """Tweedie with the score of the mixture of point masses."""
    density = empirical_density()
    yield Identity("Tweedie", claim, TWEEDIE.subs(score, sp.diff(density, x_t) / density))


@formula(
    "data.empirical_eps",
    title="the perfect noise prediction for an empirical measure",
    lhs=sp.Symbol("eps_star"),
    rhs=(x_t - SCALE * EMPIRICAL_MEAN) / sp.sqrt(NOISE),
    reference="refdiff.data:Empirical",
    uses=("data.eps", "data.empirical_posterior_mean"),
)
def _empirical_eps(claim: sp.Expr) -> Iterator[Step]:
    """From the score of the mixture of point masses."""
    density = empirical_density()
    yield Identity("score", claim, EPS_OF_SCORE.subs(score, sp.diff(density, x_t) / density))


@formula(
    "data.empirical_score",
    title="score of x_t for an empirical measure",
    lhs=score,
    rhs=(SCALE * EMPIRICAL_MEAN - x_t) / NOISE,
    reference="refdiff.data:Empirical",
    uses=("data.empirical_posterior_mean",),
)
def _empirical_score(claim: sp.Expr) -> Iterator[Step]:
    """The derivative of the log-density points from x_t to the scaled mean of the points."""
    yield Identity("derivative", sp.diff(sp.log(empirical_density()), x_t), claim)


@formula(
    "data.empirical_posterior_variance",
    title="variance of an empirical measure given x_t",
    lhs=sp.Symbol("V"),
    rhs=NEAR * (1 - NEAR) * (point_1 - point_2) ** 2,
    reference="refdiff.data:Empirical",
    uses=("data.empirical_score", "data.tweedie_second_order"),
    decoys=(Decoy("prior", (point_1 - point_2) ** 2 / 4, "variance", "the variance before x_t was seen"),),
)
def _empirical_posterior_variance(claim: sp.Expr) -> Iterator[Step]:
    """Tweedie of second order with the score above."""
    slope = sp.diff((SCALE * EMPIRICAL_MEAN - x_t) / NOISE, x_t)
    yield Identity("Tweedie of second order", claim, NOISE / abar_t * (1 + NOISE * slope))


TOTAL_11, TOTAL_12, TOTAL_22 = noised(cov_11), abar_t * cov_12, noised(cov_22)
TOTAL_DETERMINANT = TOTAL_11 * TOTAL_22 - TOTAL_12**2
DEVIATION_1, DEVIATION_2 = x_t_1 - SCALE * mode_1, x_t_2 - SCALE * mode_2
OTHER_COORDINATE = {
    x_t_1: x_t_2,
    x_t_2: x_t_1,
    mode_1: mode_2,
    mode_2: mode_1,
    cov_11: cov_22,
    cov_22: cov_11,
}
PLANE_SCORE = (TOTAL_12 * DEVIATION_2 - TOTAL_22 * DEVIATION_1) / TOTAL_DETERMINANT


def other(claim: sp.Expr) -> sp.Expr:
    """The claim about the first coordinate, said of the second."""
    return claim.xreplace(OTHER_COORDINATE)


@formula(
    "data.gaussian_score_plane",
    title="first coordinate of the score for Gaussian data with full covariance",
    lhs=score,
    rhs=PLANE_SCORE,
    citations=("Bishop2006:2.115",),
    reference="refdiff.data:GaussianLaw",
    uses=("data.gaussian_score",),
    decoys=(
        Decoy(
            "diagonal", -DEVIATION_1 / TOTAL_11, "variance", "the covariance between coordinates is dropped"
        ),
        Decoy(
            "not-inverted", -(TOTAL_11 * DEVIATION_1 + TOTAL_12 * DEVIATION_2), "variance",
            "the covariance where its inverse belongs",
        ),
        Decoy(
            "sign-of-covariance", (-TOTAL_12 * DEVIATION_2 - TOTAL_22 * DEVIATION_1) / TOTAL_DETERMINANT,
            "sign", "the off-diagonal entry of the inverse without its minus",
        ),
    ),
)  # fmt: skip
def _gaussian_score_plane(claim: sp.Expr) -> Iterator[Step]:
    """With S = ᾱ_t·C + (1−ᾱ_t)·I the score is the solution of S·s = −(x_t − √ᾱ_t·m), which is one; it
    is the gradient of −(x_t−√ᾱ_t·m)ᵀS⁻¹(x_t−√ᾱ_t·m)/2. Without covariance it is the scalar score."""
    yield Identity("first equation", TOTAL_11 * claim + TOTAL_12 * other(claim), -DEVIATION_1)
    yield Identity("second equation", TOTAL_12 * claim + TOTAL_22 * other(claim), -DEVIATION_2)
    square = TOTAL_22 * DEVIATION_1**2 - 2 * TOTAL_12 * DEVIATION_1 * DEVIATION_2 + TOTAL_11 * DEVIATION_2**2
    yield Identity("gradient", sp.diff(-square / TOTAL_DETERMINANT / 2, x_t_1), claim)
    yield Identity("no covariance", claim.subs(cov_12, 0), -DEVIATION_1 / TOTAL_11)


PLANE_MEAN = (x_t_1 + NOISE * PLANE_SCORE) / SCALE


@formula(
    "data.gaussian_posterior_mean_plane",
    title="first coordinate of the mean of Gaussian data with full covariance given x_t",
    lhs=x_0,
    rhs=PLANE_MEAN,
    citations=("Bishop2006:2.116",),
    reference="refdiff.data:GaussianLaw",
    uses=("data.gaussian_score_plane", "data.gaussian_posterior_mean"),
    decoys=(
        Decoy(
            "diagonal", mode_1 + SCALE * cov_11 / TOTAL_11 * DEVIATION_1, "variance",
            "the covariance between coordinates is dropped",
        ),
    ),
)  # fmt: skip
def _gaussian_posterior_mean_plane(claim: sp.Expr) -> Iterator[Step]:
    """Completing the square in x_0: (1−ᾱ_t + ᾱ_t·C)·μ = (1−ᾱ_t)·m + √ᾱ_t·C·x_t, both coordinates."""
    both = TOTAL_11 * claim + TOTAL_12 * other(claim)
    yield Identity("normal equations", both, NOISE * mode_1 + SCALE * (cov_11 * x_t_1 + cov_12 * x_t_2))
    yield Identity("no covariance", claim.subs(cov_12, 0), mode_1 + SCALE * cov_11 / TOTAL_11 * DEVIATION_1)


@formula(
    "data.gaussian_posterior_variance_plane",
    title="variance of the first coordinate of Gaussian data with full covariance given x_t",
    lhs=sp.Symbol("V"),
    rhs=NOISE * (cov_11 * TOTAL_22 - cov_12 * TOTAL_12) / TOTAL_DETERMINANT,
    citations=("Bishop2006:2.117",),
    reference="refdiff.data:GaussianLaw",
    uses=("data.gaussian_posterior_mean_plane", "data.tweedie_second_order"),
    decoys=(
        Decoy(
            "diagonal", NOISE * cov_11 / TOTAL_11, "variance", "the covariance between coordinates is dropped"
        ),
    ),
)
def _gaussian_posterior_variance_plane(claim: sp.Expr) -> Iterator[Step]:
    """The posterior covariance P solves P·(ᾱ_t·C + (1−ᾱ_t)·I) = (1−ᾱ_t)·C; its off-diagonal entry is
    (1−ᾱ_t)²·C_12/|S|. Tweedie of second order says the same."""
    off_diagonal = NOISE**2 * cov_12 / TOTAL_DETERMINANT
    yield Identity("first row, first column", claim * TOTAL_11 + off_diagonal * TOTAL_12, NOISE * cov_11)
    yield Identity("first row, second column", claim * TOTAL_12 + off_diagonal * TOTAL_22, NOISE * cov_12)
    slope = sp.diff(PLANE_SCORE, x_t_1)
    yield Identity("Tweedie of second order", claim, NOISE / abar_t * (1 + NOISE * slope))
