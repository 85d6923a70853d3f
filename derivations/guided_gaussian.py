"""Exact test beds of guidance: Gaussian data, with an observation of them or with a log-linear classifier.

Data N(m, c); the observation is y = a·x_0 plus noise of variance r, the log-linear classifier is exp(b·x_0)
over its normaliser. Every conditional density is normal at every level, so the samplers can be compared with
what they should sample. Levels s < t are any two.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations.data import LEFT, NOISE, PRIOR, SCALE, denoised, noised, score_of
from derivations.ddpm import RATIO, SKIP_KERNEL
from derivations.kit import (
    Decoy,
    DensityEqual,
    Identity,
    Inequality,
    Integral,
    LogDensity,
    Step,
    formula,
    normal,
)
from derivations.symbols import (
    abar_s,
    abar_t,
    data_mean,
    data_variance,
    guide_scale,
    label_score,
    label_slope,
    mu,
    obs_variance,
    sigma_t,
    slope,
    tilt,
    x_0,
    x_s,
    x_t,
    y,
)

OBSERVATION = normal(y, slope * x_0, obs_variance)
MEAN_GIVEN_T = denoised(data_mean, data_variance)
TOTAL = noised(data_variance)
"""Variance of x_t."""
SEEN = obs_variance + slope**2 * LEFT
"""Variance of the observation given x_t."""
MOMENTS = sp.Symbol("e", real=True), sp.Symbol("v", positive=True)
"""Mean and variance of the data given x_t, whatever they are."""
GIVEN_T = dict(zip(MOMENTS, (MEAN_GIVEN_T, LEFT), strict=True))
LABEL_T = normal(y, slope * MEAN_GIVEN_T, SEEN)
GAIN = slope * data_variance / (slope**2 * data_variance + obs_variance)
KNOWN_MEAN = data_mean + GAIN * (y - slope * data_mean)
KNOWN_VARIANCE = data_variance * obs_variance / (slope**2 * data_variance + obs_variance)


def at_s(expr: sp.Expr) -> sp.Expr:
    """An expression of level t and x_t at level s."""
    return expr.xreplace({abar_t: abar_s, x_t: x_s})


@formula(
    "guidance.observation_likelihood",
    title="log-density of an observation given x_t",
    lhs=sp.Symbol("log_q"),
    rhs=LABEL_T.exponent + sp.log(LABEL_T.factor),
    citations=("Bishop2006:2.115", "Chung2023dps:§3.1"),
    reference="refdiff.guided_gaussian:LinearObservation",
    uses=("data.gaussian_posterior_mean", "data.gaussian_posterior_variance"),
    decoys=(
        Decoy(
            "point-estimate", -((y - slope * MEAN_GIVEN_T) ** 2) / (2 * obs_variance)
            - sp.log(2 * sp.pi * obs_variance) / 2, "guidance",
            "the predicted data taken for the data: their variance is missing", "Chung2023dps:11",
        ),
        Decoy(
            "noisy-for-clean", -((y - slope * x_t) ** 2) / (2 * obs_variance)
            - sp.log(2 * sp.pi * obs_variance) / 2, "guidance",
            "the classifier of data asked about x_t",
        ),
    ),
)  # fmt: skip
def _observation_likelihood(claim: sp.Expr) -> Iterator[Step]:
    """Integrate the data out of their law given x_t and of the observation given the data: the observation is
    normal around the observed prediction, with the variance of its noise and that of the data."""
    mean, variance = MOMENTS
    seen = normal(y, slope * mean, obs_variance + slope**2 * variance)
    yield Integral("x_0 integrated out", normal(x_0, mean, variance) * OBSERVATION, x_0, seen)
    logarithm = (seen.exponent + sp.log(seen.factor)).xreplace(GIVEN_T)
    yield Identity("at the moments of the data given x_t", claim, logarithm)


X_0_GAIN = SCALE * data_variance / TOTAL
GRADIENT = slope * X_0_GAIN * (y - slope * MEAN_GIVEN_T) / SEEN


@formula(
    "guidance.observation_gradient",
    title="gradient of that log-density: what guides",
    lhs=label_score,
    rhs=GRADIENT,
    citations=("Chung2023dps:§3.1",),
    reference="refdiff.guided_gaussian:LinearObservation",
    uses=("guidance.observation_likelihood",),
    decoys=(
        Decoy(
            "point-estimate", slope * X_0_GAIN * (y - slope * MEAN_GIVEN_T) / obs_variance, "guidance",
            "the variance of the data given x_t is missing", "Chung2023dps:11",
        ),
        Decoy(
            "no-chain-rule", slope * (y - slope * MEAN_GIVEN_T) / SEEN, "guidance",
            "the gradient at the predicted data",
        ),
        Decoy(
            "network-held", slope / SCALE * (y - slope * MEAN_GIVEN_T) / SEEN, "guidance",
            "the network is held constant in the predicted data",
        ),
        Decoy(
            "clean-classifier", slope * (y - slope * x_t) / obs_variance, "guidance",
            "the classifier of data asked about x_t",
        ),
    ),
)  # fmt: skip
def _observation_gradient(claim: sp.Expr) -> Iterator[Step]:
    """The derivative of the log-density; at data level it is the classifier's own."""
    yield Identity("derivative", claim, sp.diff(LABEL_T.exponent, x_t))
    yield Identity("at data", claim.subs(abar_t, 1), slope * (y - slope * x_t) / obs_variance)


@formula(
    "guidance.point_estimate",
    title="how much too steep the gradient is when the predicted data stand for the data",
    lhs=sp.Symbol("ratio"),
    rhs=1 + slope**2 * LEFT / obs_variance,
    citations=("Chung2023dps:theorem1", "S004:§7.4"),
    uses=("guidance.observation_gradient",),
    decoys=(Decoy("one", sp.Integer(1), "guidance", "taken for exact", "Chung2023dps:11"),),
)
def _point_estimate(claim: sp.Expr) -> Iterator[Step]:
    """The gradient of log N(y; a·E[x_0 | x_t], r) over the exact one. It is above one at every level with
    noise, and one at data: the less is known of the data, the more a sharp observation is overrated."""
    estimate = sp.diff(-((y - slope * MEAN_GIVEN_T) ** 2) / (2 * obs_variance), x_t)
    yield Identity("times the exact gradient", claim * GRADIENT, estimate)
    yield Inequality("too steep", claim, ">", sp.Integer(1))
    yield Identity("exact at data", claim.subs(abar_t, 1), sp.Integer(1))


@formula(
    "guidance.observed_mean",
    title="mean of the data given the observation: what the guided sampler must reach",
    lhs=x_0,
    rhs=KNOWN_MEAN,
    citations=("Bishop2006:2.116",),
    reference="refdiff.guided_gaussian:LinearObservation",
    uses=("gaussian.condition_mean",),
    decoys=(
        Decoy("prior", data_mean, "guidance", "the observation is not used"),
        Decoy("inverted", y / slope, "guidance", "the observation alone"),
    ),
)
def _observed_mean(claim: sp.Expr) -> Iterator[Step]:
    """Bayes' rule for the data and the observation; a useless observation leaves the mean of the data."""
    evidence = normal(y, slope * data_mean, slope**2 * data_variance + obs_variance)
    yield DensityEqual("Bayes", PRIOR * OBSERVATION / evidence, normal(x_0, claim, KNOWN_VARIANCE))


@formula(
    "guidance.observed_variance",
    title="variance of the data given the observation",
    lhs=sp.Symbol("V"),
    rhs=KNOWN_VARIANCE,
    citations=("Bishop2006:2.117",),
    reference="refdiff.guided_gaussian:LinearObservation",
    uses=("guidance.observed_mean",),
    decoys=(Decoy("prior", data_variance, "variance", "the observation is not used"),),
)
def _observed_variance(claim: sp.Expr) -> Iterator[Step]:
    """Precisions add: 1/c of the data and a²/r of the observation."""
    yield Identity("precisions add", 1 / claim, 1 / data_variance + slope**2 / obs_variance)
    evidence = normal(y, slope * data_mean, slope**2 * data_variance + obs_variance)
    yield DensityEqual("Bayes", PRIOR * OBSERVATION / evidence, normal(x_0, KNOWN_MEAN, claim))


KNOWN_TOTAL = noised(KNOWN_VARIANCE)


@formula(
    "guidance.observed_eps",
    title="the guided noise of Gaussian data is the perfect noise of the observed law, at every level",
    lhs=sp.Symbol("eps_star"),
    rhs=sp.sqrt(NOISE) * (x_t - SCALE * KNOWN_MEAN) / KNOWN_TOTAL,
    citations=("S004:7.13",),
    reference="refdiff.guidance:guided_eps",
    uses=("guidance.observation_gradient", "guidance.observed_mean", "data.gaussian_eps"),
    decoys=(
        Decoy(
            "unguided", sp.sqrt(NOISE) * (x_t - SCALE * data_mean) / TOTAL, "guidance",
            "the noise without the observation",
        ),
        Decoy(
            "mean-only", sp.sqrt(NOISE) * (x_t - SCALE * KNOWN_MEAN) / TOTAL, "guidance",
            "the mean of the observed law, the variance of the data",
        ),
    ),
)  # fmt: skip
def _observed_eps(claim: sp.Expr) -> Iterator[Step]:
    """The noise of the data minus √(1−ᾱ_t) times the gradient. So a guided step of DDIM, for any η and
    between any levels, is the same as a step with the network that was trained on the observed law."""
    unguided = sp.sqrt(NOISE) * (x_t - SCALE * data_mean) / TOTAL
    yield Identity("shifted by the gradient", claim, unguided - sp.sqrt(NOISE) * GRADIENT)


TOTAL_S = at_s(TOTAL)
REVERSE_VARIANCE = TOTAL_S * (1 - RATIO) / TOTAL
REVERSE_MEAN = sp.sqrt(abar_s) * data_mean + sp.sqrt(RATIO) * TOTAL_S / TOTAL * (x_t - SCALE * data_mean)


@formula(
    "guidance.gaussian_reverse_mean",
    title="mean of the exact reverse kernel of Gaussian data, between any two levels",
    lhs=x_s,
    rhs=REVERSE_MEAN,
    citations=("Bishop2006:2.116",),
    reference="refdiff.guided_gaussian:gaussian_reverse",
    uses=("ddpm.transition", "data.gaussian_log_density"),
    decoys=(
        Decoy(
            "noise-only", sp.sqrt(abar_s) * data_mean
            + sp.sqrt(RATIO) * (1 - abar_s) / NOISE * (x_t - SCALE * data_mean), "variance",
            "the variance of the data forgotten",
        ),
    ),
)  # fmt: skip
def _gaussian_reverse_mean(claim: sp.Expr) -> Iterator[Step]:
    """Bayes with the forward kernel between the levels and the densities of x_s and x_t."""
    below, above = (normal(x, sp.sqrt(a) * data_mean, v) for x, a, v in LEVELS)
    bayes = SKIP_KERNEL * below / above
    yield DensityEqual("Bayes", bayes, normal(x_s, claim, REVERSE_VARIANCE))


LEVELS = ((x_s, abar_s, TOTAL_S), (x_t, abar_t, TOTAL))


@formula(
    "guidance.gaussian_reverse_variance",
    title="variance of the exact reverse kernel of Gaussian data, between any two levels",
    lhs=sp.Symbol("V"),
    rhs=REVERSE_VARIANCE,
    citations=("Bishop2006:2.117",),
    reference="refdiff.guided_gaussian:gaussian_reverse",
    uses=("guidance.gaussian_reverse_mean",),
    decoys=(
        Decoy(
            "posterior", (1 - RATIO) * (1 - abar_s) / NOISE, "variance", "β̃, the variance given the data too"
        ),
        Decoy("forward", 1 - RATIO, "variance", "the variance of the forward kernel"),
    ),
)
def _gaussian_reverse_variance(claim: sp.Expr) -> Iterator[Step]:
    """Precisions add: 1/β of the forward kernel, seen through its slope, and that of x_s. It lies between β̃
    (all data at one point) and β (standard normal data)."""
    yield Identity("precisions add", 1 / claim, RATIO / (1 - RATIO) + 1 / TOTAL_S)
    point, unit = (claim.subs(data_variance, value) for value in (0, 1))
    yield Identity("a point mass", point, (1 - RATIO) * (1 - abar_s) / NOISE)
    yield Identity("standard normal data", unit, 1 - RATIO)


CURVATURE = (slope * X_0_GAIN) ** 2 / SEEN
"""Minus the second derivative of the log-density of the observation given x_t."""
SHIFT_VARIANCE = REVERSE_VARIANCE / (1 + REVERSE_VARIANCE * at_s(CURVATURE))
GRADIENT_AT_MEAN = at_s(GRADIENT).xreplace({x_s: REVERSE_MEAN})
BY_SCORE = (1 - RATIO) / sp.sqrt(RATIO)
"""What multiplies a score of level t in the mean of the step down."""
OBSERVED = {data_mean: KNOWN_MEAN, data_variance: KNOWN_VARIANCE}


@formula(
    "guidance.observed_kernel_variance",
    title="variance of the exact reverse kernel given the observation, between any two levels",
    lhs=sp.Symbol("V"),
    rhs=SHIFT_VARIANCE,
    citations=("S004:7.7",),
    reference="refdiff.guided_gaussian:LinearObservation",
    uses=("guidance.gaussian_reverse_variance", "guidance.quadratic_variance", "guidance.observed_variance"),
    decoys=(
        Decoy("unguided", REVERSE_VARIANCE, "variance", "the variance that guidance keeps", "S004:7.10"),
    ),
)
def _observed_kernel_variance(claim: sp.Expr) -> Iterator[Step]:
    """The observation given x_s is log-quadratic, so the kernel is narrowed as by any log-quadratic
    classifier; it is the reverse kernel of the observed law."""
    yield Identity("the observed law", claim, REVERSE_VARIANCE.subs(OBSERVED, simultaneous=True))
    narrower = REVERSE_VARIANCE * at_s(CURVATURE)
    yield Inequality("narrower", REVERSE_VARIANCE / claim, ">", sp.Integer(1), narrower)


@formula(
    "guidance.observed_kernel_mean",
    title="mean of the exact reverse kernel given the observation, between any two levels",
    lhs=x_s,
    rhs=REVERSE_MEAN + SHIFT_VARIANCE * GRADIENT_AT_MEAN,
    citations=("S004:7.7", "S004:7.10"),
    reference="refdiff.guided_gaussian:LinearObservation",
    uses=("guidance.observed_kernel_variance", "guidance.quadratic_shift", "guidance.observed_mean"),
    decoys=(
        Decoy(
            "linear", REVERSE_MEAN + REVERSE_VARIANCE * GRADIENT_AT_MEAN, "guidance",
            "the variance without the observation times the gradient: too far", "S004:7.10",
        ),
        Decoy(
            "gradient-of-the-level-above", REVERSE_MEAN + SHIFT_VARIANCE * GRADIENT, "index",
            "the gradient at x_t of level t", "openai/guided-diffusion #51",
        ),
        Decoy(
            "level-above-at-the-mean",
            REVERSE_MEAN + SHIFT_VARIANCE * GRADIENT.xreplace({x_t: REVERSE_MEAN}), "index",
            "the classifier of level t at the mean", "S004:§7.2/18",
        ),
        Decoy(
            "std", REVERSE_MEAN + sp.sqrt(SHIFT_VARIANCE) * GRADIENT_AT_MEAN, "variance",
            "the standard deviation where the variance belongs", "S004:alg7.1",
        ),
    ),
)  # fmt: skip
def _observed_kernel_mean(claim: sp.Expr) -> Iterator[Step]:
    """The observation given x_s is log-quadratic, so the shift is its gradient at the mean times the variance
    that it leaves. The observation that x_t and that its reverse mean predict are the same, and the two
    factors are: so the shift is also that of the gradient of level t at x_t, and the kernel is the reverse
    kernel of the observed law. That one goes down from any level to the next with the right marginal."""
    shifted = {mu: REVERSE_MEAN, sigma_t: sp.sqrt(REVERSE_VARIANCE)}
    quadratic = (mu + sigma_t**2 * label_score / (1 - sigma_t**2 * label_slope)).xreplace(shifted)
    classifier = {label_score: GRADIENT_AT_MEAN, label_slope: -at_s(CURVATURE)}
    yield Identity("a log-quadratic classifier", claim, quadratic.xreplace(classifier))
    yield Identity("its curvature", sp.diff(GRADIENT, x_t), -CURVATURE)
    yield Identity("the same prediction", at_s(MEAN_GIVEN_T).xreplace({x_s: REVERSE_MEAN}), MEAN_GIVEN_T)
    at_level_s = SHIFT_VARIANCE * at_s(X_0_GAIN / SEEN)
    yield Identity("the same factor as at x_t", at_level_s, BY_SCORE * X_0_GAIN / SEEN)
    scores = score_of(data_mean, data_variance), score_of(KNOWN_MEAN, KNOWN_VARIANCE)
    yield Identity("the reverse mean by its score", REVERSE_MEAN, x_t / sp.sqrt(RATIO) + BY_SCORE * scores[0])
    yield Identity("the score of the observed law", scores[1], scores[0] + GRADIENT)


@formula(
    "guidance.scale_excess",
    title="how much too sharp guidance with the scale κ is, noise level by noise level",
    lhs=sp.Symbol("ratio"),
    rhs=(obs_variance + guide_scale * slope**2 * LEFT) / SEEN,
    citations=("Dhariwal2021:4.3", "S004:§7.2"),
    uses=("guidance.observation_likelihood", "guidance.powered_reverse"),
    decoys=(
        Decoy("one", sp.Integer(1), "guidance", "guidance with κ taken for the diffused power", "S004:§7.2"),
        Decoy("scale", guide_scale, "guidance", "the same at every level"),
    ),
)
def _scale_excess(claim: sp.Expr) -> Iterator[Step]:
    """The power κ of the observation of data has the noise r/κ, and diffused to level t the variance
    r/κ + a²V. Guidance with κ at level t has (r + a²V)/κ instead. The ratio of precisions is one for κ = 1
    and at data, above one for κ > 1 and below one for κ < 1 at every level between: the guided kernels are
    not the reverse of anything diffused."""
    right = obs_variance / guide_scale + slope**2 * LEFT
    powered = obs_variance / guide_scale
    density = normal(x_0, *MOMENTS) * normal(y, slope * x_0, powered)
    diffused = normal(y, slope * MOMENTS[0], powered + slope**2 * MOMENTS[1])
    yield Integral("the diffused power", density, x_0, diffused)
    yield Identity("ratio of precisions", claim, guide_scale / SEEN * right)
    yield Identity("one for κ = 1", claim.subs(guide_scale, 1), sp.Integer(1))
    yield Identity("one at data", claim.subs(abar_t, 1), sp.Integer(1))
    excess = slope**2 * LEFT / SEEN
    yield Identity("above one as κ is", claim - 1, (guide_scale - 1) * excess)
    yield Inequality("at every level with noise", excess, ">", sp.Integer(0))


# A log-linear classifier.

TILTED = LogDensity(tilt * x_0, sp.Integer(1))


@formula(
    "guidance.log_linear_gradient",
    title="gradient of a log-linear classifier of Gaussian data, at any level: the same everywhere",
    lhs=label_score,
    rhs=tilt * X_0_GAIN,
    reference="refdiff.guided_gaussian:LogLinearClassifier",
    uses=("data.gaussian_posterior_mean", "data.gaussian_posterior_variance"),
    decoys=(
        Decoy("clean-classifier", tilt, "guidance", "the classifier of data asked about x_t"),
        Decoy("network-held", tilt / SCALE, "guidance", "the network is held constant"),
        Decoy(
            "not-scaled-back", tilt * SCALE, "guidance", "the slope of the noising for that of its inverse"
        ),
    ),
)  # fmt: skip
def _log_linear_gradient(claim: sp.Expr) -> Iterator[Step]:
    """The mean of exp(b·x_0) given x_t is exp(b·E + b²V/2), and V does not depend on x_t."""
    mean, variance = MOMENTS
    total = LogDensity(tilt * mean + tilt**2 * variance / 2, sp.Integer(1))
    yield Integral("x_0 integrated out", normal(x_0, mean, variance) * TILTED, x_0, total)
    yield Identity("derivative", claim, sp.diff(total.exponent.xreplace(GIVEN_T), x_t))


TARGET_MEAN = data_mean + guide_scale * tilt * data_variance


@formula(
    "guidance.log_linear_target",
    title="what guidance by a log-linear classifier samples, for any scale",
    lhs=x_0,
    rhs=TARGET_MEAN,
    citations=("S004:7.10",),
    reference="refdiff.guided_gaussian:LogLinearClassifier",
    uses=("guidance.log_linear_gradient", "guidance.mean_shift", "guidance.gaussian_reverse_mean"),
    decoys=(
        Decoy("no-scale", data_mean + tilt * data_variance, "guidance", "the scale is missing"),
        Decoy("not-weighted", data_mean + guide_scale * tilt, "variance", "the variance is missing"),
        Decoy(
            "std", data_mean + guide_scale * tilt * sp.sqrt(data_variance), "variance",
            "the standard deviation where the variance belongs", "S004:alg7.1",
        ),
    ),
)  # fmt: skip
def _log_linear_target(claim: sp.Expr) -> Iterator[Step]:
    """The law q(x_0) exp(κb·x_0) is normal with the same variance. The guided kernels have the mean of the
    data's kernel plus its variance times κ times the gradient of level s. Integrated over x_t of the noised
    target they give x_s of the noised target: downward induction over the levels of any sub-sequence. For
    this classifier, and in this it is alone, every scale samples the power of the classifier exactly."""
    power = LogDensity(guide_scale * tilt * x_0, sp.Integer(1))
    peak = guide_scale * tilt * data_mean + (guide_scale * tilt) ** 2 * data_variance / 2
    target = normal(x_0, claim, data_variance)
    yield DensityEqual("the power of the classifier", PRIOR * power / LogDensity(peak, sp.Integer(1)), target)
    guided = REVERSE_MEAN + REVERSE_VARIANCE * guide_scale * tilt * at_s(X_0_GAIN)
    slope_t = sp.diff(guided, x_t)
    mean = guided.subs(x_t, SCALE * claim)
    yield Identity("the mean, one step down", mean, sp.sqrt(abar_s) * claim)
    yield Identity("the variance, one step down", slope_t**2 * TOTAL + REVERSE_VARIANCE, TOTAL_S)
