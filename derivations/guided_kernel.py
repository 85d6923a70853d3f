"""The Gaussian kernel of one reverse step given a label: the linear shift of its mean, and what is exact.

Axioms: Bayes' rule and, for statements about any law, the exchange of derivative and integral. A gradient at
the mean of the kernel belongs to level t − 1 and its shift is an approximation; a gradient at x_t belongs to
level t and its shift is exact.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy.matrices.expressions.trace import Trace

from derivations.ddpm import BETA_TILDE, KERNEL, MEAN_FROM_EPS, tweedie_steps
from derivations.gaussian import COVARIANCES, HALF, M_0, S_0, X, square
from derivations.guided_labels import CLASS, CLASS_SCORE, GUIDED_EPS, PRIOR, PRIOR_SCORE, positive
from derivations.kit import (
    Decoy,
    DensityEqual,
    Expectation,
    Identity,
    Integral,
    LogDensity,
    Series,
    Step,
    Substitution,
    formula,
    normal,
)
from derivations.kit.matrices import MatrixIdentity, matrix
from derivations.symbols import (
    alpha_t,
    beta_t,
    dim,
    eps,
    guide_scale,
    label_bend,
    label_score,
    label_score_mean,
    label_slope,
    mu,
    score,
    score_slope,
    sigma_t,
    x,
    x_prev,
    x_t,
    z,
)

SHIFTED = mu + guide_scale * sigma_t**2 * label_score
TILT = LogDensity(guide_scale * label_score * (x_prev - mu), sp.Integer(1))
GAIN = (guide_scale * sigma_t * label_score) ** 2 / 2


@formula(
    "guidance.mean_shift",
    title="mean of a Gaussian kernel under a log-linear classifier: shifted by variance times gradient",
    lhs=x_prev,
    rhs=SHIFTED,
    citations=("Sohl-Dickstein2015:C", "Dhariwal2021:10", "S004:7.9", "S004:7.10"),
    reference="refdiff.guidance:classifier_guided_mean",
    uses=("guidance.conditional_reverse",),
    decoys=(
        Decoy(
            "std", mu + guide_scale * sigma_t * label_score, "variance",
            "the standard deviation where the variance belongs", "S004:alg7.1",
        ),
        Decoy("not-scaled", mu + guide_scale * label_score, "guidance", "the variance is missing"),
        Decoy(
            "root-of-std", mu + guide_scale * sp.sqrt(sigma_t) * label_score, "variance",
            "the root taken of what is a standard deviation already",
            "diffusers experimental/rl/value_guided_sampling.py",
        ),
        Decoy("sign", mu - guide_scale * sigma_t**2 * label_score, "sign", "away from the label"),
        Decoy(
            "one-more", mu + (1 + guide_scale) * sigma_t**2 * label_score, "guidance",
            "the scale applied as 1 + κ",
        ),
        Decoy(
            "scale-on-mean", guide_scale * mu + sigma_t**2 * label_score, "guidance",
            "the scale multiplies the mean", "twisted_diffusion_sampler #3",
        ),
    ),
)  # fmt: skip
def _mean_shift(claim: sp.Expr) -> Iterator[Step]:
    """Completing the square. The product of N(μ, σ²) and exp(κg(x − μ)) is normal with the same variance; its
    integral exp(κ²g²σ²/2) is the normaliser."""
    kernel = normal(x_prev, mu, sigma_t**2)
    weighted = kernel * TILT
    total = LogDensity(GAIN, sp.Integer(1))
    yield DensityEqual("the square completed", weighted / total, normal(x_prev, claim, sigma_t**2))
    yield Integral("the normaliser", weighted, x_prev, total)


GRADIENT = matrix("g", dim, 1, "gradient of the log-probability of the label, scaled", "g")


@formula(
    "guidance.mean_shift_nd",
    title="the same in any dimension: the covariance times the gradient",
    lhs=matrix("mean_guided", dim, 1, "mean of the guided kernel", r"\mu_y"),
    rhs=M_0 + S_0 * GRADIENT,
    citations=("Dhariwal2021:10", "S004:7.10"),
    reference="refdiff.guidance:classifier_guided_mean",
    uses=("guidance.mean_shift",),
    decoys=(
        Decoy("precision", M_0 + S_0.I * GRADIENT, "variance", "the precision in its place"),
        Decoy("not-scaled", M_0 + GRADIENT, "guidance", "the covariance is missing"),
        Decoy("sign", M_0 - S_0 * GRADIENT, "sign", "away from the label"),
        Decoy("twice", M_0 + S_0 * S_0 * GRADIENT, "variance", "the covariance twice"),
        Decoy("half", M_0 + HALF * S_0 * GRADIENT, "variance", "half of the shift"),
    ),
    mutate=False,  # the grammar of mutations is that of numbers
)
def _mean_shift_nd(claim: sp.Expr) -> Iterator[Step]:
    """Completing the square with the precision, for every x; what is left does not depend on x. The scale is
    in the gradient."""
    left = -HALF * square(X - M_0, S_0.I) + Trace(GRADIENT.T * (X - M_0))
    right = -HALF * square(X - claim, S_0.I) + HALF * square(GRADIENT, S_0)
    yield MatrixIdentity("the square completed", left, right, COVARIANCES)


@formula(
    "guidance.mean_shift_exact",
    title="the exact shift, for any classifier: the variance times the mean gradient",
    lhs=x_prev,
    rhs=mu + sigma_t**2 * label_score_mean,
    citations=("Stein1981",),
    uses=("guidance.conditional_reverse",),
    decoys=(
        Decoy("std", mu + sigma_t * label_score_mean, "variance", "the standard deviation"),
        Decoy("sign", mu - sigma_t**2 * label_score_mean, "sign", "away from the label"),
    ),
)
def _mean_shift_exact(claim: sp.Expr) -> Iterator[Step]:
    """Stein's identity under the conditional kernel N·c, for any classifier c. Pointwise, x − μ minus σ²
    times the gradient of log c, times the density, is a derivative; where the density vanishes at infinity
    its integral is zero, so the mean of x is μ plus σ² times the mean gradient. Guidance takes the gradient
    at μ for its mean."""
    c = positive("c", x)
    density = sp.exp(-((x - mu) ** 2) / (2 * sigma_t**2)) * c
    residual = (x - claim.subs(label_score_mean, sp.diff(c, x) / c)) * density
    yield Identity("a total derivative", residual, -(sigma_t**2) * sp.diff(density, x))


CURVED = label_score * sigma_t * z + label_slope * sigma_t**2 * z**2 / 2 + label_bend * sigma_t**3 * z**3 / 6
REST = sp.Function("R", real=True)(sigma_t)
SECOND = label_score**2 + label_slope
THIRD = label_score**3 + 3 * label_score * label_slope + label_bend


@formula(
    "guidance.linearisation_error",
    title="mean of the kernel given the label, for any classifier: what the linear shift misses is σ⁴",
    lhs=x_prev,
    rhs=mu + sigma_t**2 * label_score + sigma_t**4 * (label_score * label_slope + label_bend / 2),
    citations=("S004:7.9", "S004:7.10"),
    uses=("guidance.mean_shift", "guidance.mean_shift_exact"),
    decoys=(
        Decoy(
            "linear", mu + sigma_t**2 * label_score, "guidance",
            "the linear shift taken for exact", "S004:7.10",
        ),
        Decoy(
            "no-third", mu + sigma_t**2 * label_score + sigma_t**4 * label_score * label_slope, "guidance",
            "the third derivative forgotten",
        ),
    ),
)  # fmt: skip
def _linearisation_error(claim: sp.Expr) -> Iterator[Step]:
    """Write x = μ + σz. The mean of σz is its first moment over the probability of the label. Both follow
    from the classifier, expanded around μ with any remainder R after the third derivative, by the moments of
    z; what is left out of them is of order σ^4 and touches the mean in order σ^5."""
    below = 1 + SECOND * sigma_t**2 / 2
    above = label_score * sigma_t + THIRD * sigma_t**3 / 2
    missing = (claim - mu) * below - sigma_t * above
    yield Series("the mean times the probability of the label", missing, sigma_t, 5, sp.Integer(0))
    weight = 1 + label_score * z * sigma_t + SECOND * z**2 * sigma_t**2 / 2 + THIRD * z**3 * sigma_t**3 / 6
    yield Series("the classifier along z", sp.exp(CURVED + sigma_t**4 * REST), sigma_t, 4, weight)
    unit = {z: (sp.Integer(0), sp.Integer(1))}
    yield Expectation("the probability of the label", weight, unit, below)
    yield Expectation("the first moment", z * weight, unit, above)


CONCAVE = sp.Lt(sigma_t**2 * label_slope, 1)
QUADRATIC = LogDensity(label_score * (x_prev - mu) + label_slope * (x_prev - mu) ** 2 / 2, sp.Integer(1))
LEFT_OVER = 1 - sigma_t**2 * label_slope


def quadratic_steps(mean: sp.Expr, variance: sp.Expr) -> Iterator[Step]:
    """The kernel times a log-quadratic classifier, over its integral, is normal with these moments."""
    total = LogDensity(sigma_t**2 * label_score**2 / (2 * LEFT_OVER), 1 / sp.sqrt(LEFT_OVER))
    product = normal(x_prev, mu, sigma_t**2) * QUADRATIC
    yield DensityEqual("the square completed", product / total, normal(x_prev, mean, variance))


@formula(
    "guidance.quadratic_shift",
    title="the exact shift under a log-quadratic classifier",
    lhs=x_prev,
    rhs=mu + sigma_t**2 * label_score / LEFT_OVER,
    citations=("S004:7.10",),
    uses=("guidance.mean_shift", "guidance.linearisation_error"),
    assumptions=(CONCAVE,),
    decoys=(
        Decoy(
            "linear", mu + sigma_t**2 * label_score, "guidance", "the curvature is ignored", "S004:7.10"
        ),
        Decoy(
            "curvature-added", mu + sigma_t**2 * label_score / (1 + sigma_t**2 * label_slope), "sign",
            "the curvature with the wrong sign",
        ),
    ),
)  # fmt: skip
def _quadratic_shift(claim: sp.Expr) -> Iterator[Step]:
    """Precisions add: 1/σ² of the kernel and minus the curvature of the classifier, which leaves a density
    while σ²g' < 1. Without curvature it is the linear shift, and to fourth order in σ the general one."""
    yield from quadratic_steps(claim, sigma_t**2 / LEFT_OVER)
    yield Identity("no curvature", claim.subs(label_slope, 0), SHIFTED.subs(guide_scale, 1))
    linear_and_error = mu + sigma_t**2 * label_score + sigma_t**4 * label_score * label_slope
    yield Series("to fourth order", claim, sigma_t, 5, linear_and_error)


@formula(
    "guidance.quadratic_variance",
    title="the exact variance under a log-quadratic classifier, which guidance leaves at σ²",
    lhs=sigma_t**2,
    rhs=sigma_t**2 / LEFT_OVER,
    citations=("S004:7.10",),
    uses=("guidance.quadratic_shift",),
    assumptions=(CONCAVE,),
    decoys=(
        Decoy(
            "kept",
            sigma_t**2,
            "variance",
            "the variance of the unconditional kernel",
            "S004:7.10, S004:§7.2/9",
        ),
    ),
)
def _quadratic_variance(claim: sp.Expr) -> Iterator[Step]:
    """A concave classifier narrows the kernel, a convex one widens it."""
    yield from quadratic_steps(mu + sigma_t**2 * label_score / LEFT_OVER, claim)
    yield Identity("precisions add", 1 / claim, 1 / sigma_t**2 - label_slope)


@formula(
    "guidance.conditional_mean",
    title="mean of x_{t-1} given x_t and the label, for any law and any classifier: the gradient at x_t",
    lhs=x_prev,
    rhs=mu + beta_t / sp.sqrt(alpha_t) * label_score,
    citations=("Efron2011", "Song2021sde:14"),
    reference="refdiff.guidance:guided_eps",
    uses=("ddpm.mean_from_score", "guidance.forward_kernel", "guidance.guided_score"),
    decoys=(
        Decoy(
            "posterior-variance", mu + BETA_TILDE * label_score, "guidance",
            "the shift that belongs to the gradient at μ, with the gradient at x_t",
            "openai/guided-diffusion #51",
        ),
        Decoy(
            "not-scaled-back", mu + beta_t * label_score, "guidance", "β_t where β_t/√α_t belongs",
        ),
        Decoy(
            "std", mu + sp.sqrt(beta_t) / sp.sqrt(alpha_t) * label_score, "sqrt", "√β_t where β_t belongs"
        ),
    ),
)  # fmt: skip
def _conditional_mean(claim: sp.Expr) -> Iterator[Step]:
    """The law given the label goes through the same forward step, so one-step Tweedie holds with its score;
    exact, with no small step. It is what the shift of the predicted noise does to a step of DDPM."""
    of_score = claim.subs(mu, (x_t + beta_t * score) / sp.sqrt(alpha_t))
    conditional = of_score.subs(score, score - label_score)
    yield from tweedie_steps(conditional, KERNEL, x_prev, sp.sqrt(alpha_t), beta_t)
    shifted = MEAN_FROM_EPS.subs(eps, GUIDED_EPS.subs(guide_scale, 1))
    yield Identity("the shift of the noise", shifted, claim.subs(mu, MEAN_FROM_EPS))


@formula(
    "guidance.conditional_variance",
    title="variance of x_{t-1} given x_t and the label, for any law and any classifier",
    lhs=sigma_t**2,
    rhs=beta_t / alpha_t * (1 + beta_t * (score_slope + label_slope)),
    citations=("Efron2011",),
    uses=("guidance.conditional_mean", "data.tweedie_second_order"),
    decoys=(
        Decoy(
            "unconditional", beta_t / alpha_t * (1 + beta_t * score_slope), "variance",
            "the variance without the label, which guidance keeps", "S004:7.10",
        ),
    ),
)  # fmt: skip
def _conditional_variance(claim: sp.Expr) -> Iterator[Step]:
    """Differentiate the density of x_t given the label, q = p·c, twice under the integral of one step."""
    q = PRIOR * CLASS
    m_1 = (beta_t * sp.diff(q, x_t) + x_t * q) / sp.sqrt(alpha_t)
    m_2 = (beta_t * sp.diff(m_1, x_t) + x_t * m_1) / sp.sqrt(alpha_t)
    slopes = {score_slope: sp.diff(PRIOR_SCORE, x_t), label_slope: sp.diff(CLASS_SCORE, x_t)}
    yield Substitution("any law", claim.subs(slopes) - (m_2 / q - (m_1 / q) ** 2), {})


GUIDED_ANCESTRAL = MEAN_FROM_EPS + guide_scale * sigma_t**2 * label_score + sigma_t * z


@formula(
    "guidance.ddpm_step",
    title="a guided step of ancestral sampling",
    lhs=x_prev,
    rhs=GUIDED_ANCESTRAL,
    citations=("Dhariwal2021:alg1", "S004:alg7.1"),
    reference="refdiff.guidance:ddpm_step",
    uses=("ddpm.step", "guidance.mean_shift"),
    decoys=(
        Decoy(
            "std", MEAN_FROM_EPS + guide_scale * sigma_t * label_score + sigma_t * z, "variance",
            "σ_t·g where σ_t²·g belongs", "S004:alg7.1",
        ),
        Decoy(
            "bar-missing-in-mean", (x_t - beta_t / sp.sqrt(1 - alpha_t) * eps) / sp.sqrt(alpha_t)
            + guide_scale * sigma_t**2 * label_score + sigma_t * z, "index",
            "1 − α_t where 1 − ᾱ_t belongs", "S004:§7.2/17",
        ),
    ),
)  # fmt: skip
def _ddpm_step(claim: sp.Expr) -> Iterator[Step]:
    """A sample of the shifted kernel. The gradient is that of the classifier of level t − 1, at the mean."""
    shifted = SHIFTED.subs(mu, MEAN_FROM_EPS)
    yield Identity("the shifted mean", claim.subs(z, 0), shifted)
    yield Identity("fresh noise", sp.diff(claim, z), sigma_t)
    mean, std = claim.subs(z, 0), sp.diff(claim, z)
    pushed = LogDensity(-(((x_prev - mean) / std) ** 2) / 2, 1 / (sp.sqrt(2 * sp.pi) * std))
    yield DensityEqual("change of variables from z", pushed, normal(x_prev, shifted, sigma_t**2))
