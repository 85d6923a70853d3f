"""Guidance: sampling the law of the data given a condition, with a network that knows nothing of it.

Scores and noises given a label, guided steps of DDIM, guidance by losses, and classifier-free guidance.
``derivations.guided_labels`` holds what is true of any chain with labels, ``derivations.guided_kernel`` the
Gaussian kernel of one step, and ``derivations.guided_gaussian`` the test beds in which every conditional
kernel has a closed form.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations import guided_gaussian, guided_kernel, guided_labels, guided_probit
from derivations.data import EPS_OF_SCORE, NOISE, SCALE
from derivations.ddim import SIGMA, STEP
from derivations.ddpm import MARGINAL_T, X_0_FROM_EPS, tweedie_steps
from derivations.guided_labels import (
    CLASS,
    CLASS_SCORE,
    GUIDED_EPS,
    GUIDED_SCORE,
    PRIOR,
    PRIOR_SCORE,
    positive,
)
from derivations.kit import Decoy, Identity, Step, formula
from derivations.symbols import (
    abar_s,
    abar_t,
    alpha_t,
    eps,
    eps_cond,
    eps_other,
    eps_slope,
    guide_scale,
    ho_scale,
    jacobian_11,
    jacobian_12,
    jacobian_21,
    label_score,
    label_share,
    loss_slope,
    loss_slope_1,
    loss_slope_2,
    score,
    score_slope,
    x_0,
    x_s,
    x_t,
    z,
)

PARTS = (guided_labels, guided_kernel, guided_gaussian, guided_probit)
"""The other modules of this topic; importing them declares their formulas."""


@formula(
    "guidance.guided_score",
    title="score of q(x_t) q(y | x_t)^κ; for κ = 1 that of x_t given the label",
    lhs=score,
    rhs=GUIDED_SCORE,
    citations=("Dhariwal2021:11", "S004:7.12", "S004:§7.4"),
    reference="refdiff.guidance:guided_score",
    decoys=(
        Decoy("sign", score - guide_scale * label_score, "sign", "away from the label"),
        Decoy(
            "one-more", score + (1 + guide_scale) * label_score, "guidance", "the scale counted from zero"
        ),
        Decoy(
            "mixture", (1 - guide_scale) * score + guide_scale * label_score, "guidance",
            "the scores averaged, not added",
        ),
    ),
)  # fmt: skip
def _guided_score(claim: sp.Expr) -> Iterator[Step]:
    """For any density q and any classifier: the logarithm of a product, differentiated. The normaliser does
    not depend on x_t."""
    there = claim.xreplace({score: PRIOR_SCORE, label_score: CLASS_SCORE})
    logarithm = sp.log(PRIOR) + guide_scale * sp.log(CLASS)
    yield Identity("any law, any classifier", there, sp.diff(logarithm, x_t))
    product = sp.diff(PRIOR * CLASS, x_t) / (PRIOR * CLASS)
    yield Identity("κ = 1 is Bayes' rule", there.subs(guide_scale, 1), product)


@formula(
    "guidance.conditional_eps",
    title="the perfect noise prediction of a conditional network",
    lhs=eps_cond,
    rhs=-sp.sqrt(NOISE) * (score + label_score),
    citations=("Ho2022cfg:5", "S004:7.12", "S004:7.13"),
    reference="refdiff.guidance:guided_eps",
    uses=("data.eps", "guidance.forward_kernel", "guidance.guided_score"),
)
def _conditional_eps(claim: sp.Expr) -> Iterator[Step]:
    """Given the label the data have another law and the forward process is the same, so Tweedie's formula
    holds with the conditional score: a conditional DDPM trained on ε learns its multiple."""
    given_label = claim.subs(score, score - label_score)
    yield from tweedie_steps((x_t - sp.sqrt(NOISE) * given_label) / SCALE, MARGINAL_T, x_0, SCALE, NOISE)
    yield Identity("as every noise prediction", claim, EPS_OF_SCORE.subs(score, score + label_score))


@formula(
    "guidance.null_label",
    title="the unconditional prediction is the mean of the conditional ones",
    lhs=eps,
    rhs=label_share * eps_cond + (1 - label_share) * eps_other,
    citations=("Ho2022cfg:alg1",),
    uses=("guidance.conditional_eps",),
    decoys=(
        Decoy("not-weighted", (eps_cond + eps_other) / 2, "guidance", "every label counted alike"),
        Decoy(
            "exchanged", label_share * eps_other + (1 - label_share) * eps_cond, "index", "the other label"
        ),
    ),
)  # fmt: skip
def _null_label(claim: sp.Expr) -> Iterator[Step]:
    """The weights are the probabilities of the labels given x_t. A network that is sometimes trained without
    its label learns this mean. Two labels show it: sums are linear."""
    first, second = positive("p_1", x_t), positive("p_2", x_t)
    eps_1, eps_2, both = (-sp.sqrt(NOISE) * sp.diff(q, x_t) / q for q in (first, second, first + second))
    there = {label_share: first / (first + second), eps_cond: eps_1, eps_other: eps_2}
    yield Identity("any two laws", claim.xreplace(there), both)


@formula(
    "guidance.guided_eps",
    title="classifier guidance as a shift of the predicted noise",
    lhs=eps_cond,
    rhs=GUIDED_EPS,
    citations=("Dhariwal2021:12", "S004:7.13", "S004:alg7.2"),
    reference="refdiff.guidance:guided_eps",
    uses=("guidance.guided_score", "guidance.conditional_eps", "data.eps"),
    decoys=(
        Decoy(
            "variance", eps - guide_scale * (1 - abar_t) * label_score, "sqrt",
            "1 − ᾱ_t where its root belongs",
        ),
        Decoy("not-scaled", eps - guide_scale * label_score, "guidance", "the root of 1 − ᾱ_t is missing"),
        Decoy(
            "signal", eps - guide_scale * sp.sqrt(abar_t) * label_score, "sqrt", "√ᾱ_t where √(1−ᾱ_t) belongs"
        ),
        Decoy(
            "one-more", eps - (1 + guide_scale) * sp.sqrt(1 - abar_t) * label_score, "guidance",
            "the scale applied as 1 + κ",
        ),
        Decoy(
            "scale-on-noise", guide_scale * eps - sp.sqrt(1 - abar_t) * label_score, "guidance",
            "the scale multiplies the prediction", "twisted_diffusion_sampler #3",
        ),
        Decoy("unguided", eps, "guidance", "the classifier is ignored", "lucidrains #208"),
    ),
)  # fmt: skip
def _guided_eps(claim: sp.Expr) -> Iterator[Step]:
    """The noise is −√(1−ᾱ_t) times the score, with the label and without; κ = 1 is the perfect conditional
    prediction."""
    unconditional = EPS_OF_SCORE
    guided = EPS_OF_SCORE.subs(score, GUIDED_SCORE)
    yield Identity("through the guided score", claim.subs(eps, unconditional), guided)
    conditional = -sp.sqrt(NOISE) * (score + label_score)
    yield Identity("κ = 1", claim.subs(eps, unconditional).subs(guide_scale, 1), conditional)


GUIDED_STEP = STEP.xreplace({eps: GUIDED_EPS})
DIRECTION = sp.sqrt(1 - abar_s - SIGMA**2)
PRINTED = sp.sqrt(abar_s) * X_0_FROM_EPS + sp.sqrt(1 - abar_s + SIGMA**2) * eps + SIGMA * z


@formula(
    "guidance.ddim_step",
    title="a guided step of DDIM, for any η and any two levels",
    lhs=x_s,
    rhs=GUIDED_STEP,
    citations=("Dhariwal2021:alg2", "S004:alg7.2"),
    reference="refdiff.guidance:guided_model",
    uses=("ddim.step", "guidance.guided_eps"),
    decoys=(
        Decoy(
            "plus-under-the-root", PRINTED.xreplace({eps: GUIDED_EPS}), "sign",
            "1 − ᾱ_s + σ² under the root", "S004:alg7.2",
        ),
        Decoy(
            "direction-unguided", sp.sqrt(abar_s) * X_0_FROM_EPS.xreplace({eps: GUIDED_EPS})
            + DIRECTION * eps + SIGMA * z, "guidance",
            "the direction keeps the unconditional noise", "lucidrains 1d9d8df",
        ),
        Decoy(
            "data-unguided", sp.sqrt(abar_s) * X_0_FROM_EPS + DIRECTION * GUIDED_EPS + SIGMA * z, "guidance",
            "the predicted data keep the unconditional noise", "lucidrains 1d9d8df",
        ),
        Decoy("unguided", STEP, "guidance", "the classifier is ignored", "lucidrains #208"),
    ),
)  # fmt: skip
def _ddim_step(claim: sp.Expr) -> Iterator[Step]:
    """The step sees the noise alone, so a guided noise makes a guided step: for κ = 1 that of the conditional
    law. A gradient moves the sample by its own multiple of the coefficient of the noise."""
    by_score = {eps: EPS_OF_SCORE}
    conditional = STEP.xreplace({eps: EPS_OF_SCORE.subs(score, GUIDED_SCORE)})
    yield Identity("the step at the guided score", claim.xreplace(by_score), conditional)
    shift = sp.sqrt(abar_s / abar_t) * (1 - abar_t) - sp.sqrt(1 - abar_t) * DIRECTION
    yield Identity("what the gradient moves", sp.diff(claim, label_score), guide_scale * shift)


# Similarities and losses.

X_0_SLOPE = (1 - sp.sqrt(1 - abar_t) * eps_slope) / sp.sqrt(abar_t)
PREDICTED = X_0_FROM_EPS.subs(eps, sp.Function("e", real=True)(x_t))


@formula(
    "guidance.x_0_slope",
    title="derivative of the predicted data at x_t, through the network",
    lhs=sp.Symbol("J"),
    rhs=X_0_SLOPE,
    citations=("Chung2023dps:alg1", "S004:§7.4"),
    reference="refdiff.guidance:loss_gradient",
    uses=("data.tweedie_second_order",),
    decoys=(
        Decoy("network-held", 1 / sp.sqrt(abar_t), "guidance", "the network is held constant"),
        Decoy(
            "bars-missing", (1 - sp.sqrt(1 - alpha_t) * eps_slope) / sp.sqrt(alpha_t), "index",
            "α_t where ᾱ_t belongs", "S004:§7.4/8",
        ),
        Decoy("noise-added", (1 + sp.sqrt(1 - abar_t) * eps_slope) / sp.sqrt(abar_t), "sign", "it is added"),
    ),
)  # fmt: skip
def _x_0_slope(claim: sp.Expr) -> Iterator[Step]:
    """The derivative of the prediction with any network in it. For the perfect one it is √ᾱ_t/(1−ᾱ_t) times
    the variance of the data given x_t: it vanishes where x_t already determines the data."""
    network = sp.Function("e", real=True)(x_t)
    slope = claim.subs(eps_slope, sp.diff(network, x_t))
    yield Identity("any network", slope, sp.diff(PREDICTED, x_t))
    perfect = claim.subs(eps_slope, -sp.sqrt(NOISE) * score_slope)
    variance = NOISE / abar_t * (1 + NOISE * score_slope)
    yield Identity("the perfect network", perfect, SCALE / NOISE * variance)


@formula(
    "guidance.loss_guided_eps",
    title="guidance by any loss of the predicted data, through the network",
    lhs=eps_cond,
    rhs=eps + guide_scale * sp.sqrt(1 - abar_t) * loss_slope * X_0_SLOPE,
    citations=("Chung2023dps:alg1", "S004:§7.4"),
    reference="refdiff.guidance:loss_guided_eps",
    uses=("guidance.guided_eps", "guidance.x_0_slope"),
    decoys=(
        Decoy(
            "uphill", eps - guide_scale * sp.sqrt(1 - abar_t) * loss_slope * X_0_SLOPE, "sign",
            "towards a larger loss",
        ),
        Decoy(
            "network-held", eps + guide_scale * sp.sqrt(1 - abar_t) * loss_slope / sp.sqrt(abar_t),
            "guidance", "the network is held constant",
        ),
        Decoy(
            "no-chain-rule", eps + guide_scale * sp.sqrt(1 - abar_t) * loss_slope, "guidance",
            "the gradient at the predicted data taken for that at x_t",
        ),
        Decoy(
            "bars-missing", eps + guide_scale * sp.sqrt(1 - abar_t) * loss_slope
            * (1 - sp.sqrt(1 - alpha_t) * eps_slope) / sp.sqrt(alpha_t), "index",
            "α_t where ᾱ_t belongs in the predicted data", "S004:§7.4/8",
        ),
    ),
)  # fmt: skip
def _loss_guided_eps(claim: sp.Expr) -> Iterator[Step]:
    """A loss stands for −log q(y | x): the classifier is exp(−L(x̂_0(x_t))), for any loss L and any network.
    The chain rule gives its gradient; a similarity is minus a loss."""
    network = sp.Function("e", real=True)(x_t)
    loss = sp.Function("L", real=True)
    inner = sp.Symbol("u", real=True)
    at_data = sp.Subs(sp.Derivative(loss(inner), inner), inner, PREDICTED)
    chained = -at_data * sp.diff(PREDICTED, x_t)
    there = {eps: network, loss_slope: at_data, eps_slope: sp.diff(network, x_t)}
    guided = GUIDED_EPS.subs({eps: network, label_score: chained})
    yield Identity("any loss, any network", claim.subs(there), guided)


@formula(
    "guidance.loss_gradient_plane",
    title="the same with two coordinates: the transposed Jacobian",
    lhs=label_score,
    rhs=-(jacobian_11 * loss_slope_1 + jacobian_21 * loss_slope_2),
    citations=("Chung2023dps:alg1", "S004:§7.4"),
    reference="refdiff.guidance:loss_gradient",
    uses=("guidance.loss_guided_eps",),
    decoys=(
        Decoy(
            "not-transposed", -(jacobian_11 * loss_slope_1 + jacobian_12 * loss_slope_2), "guidance",
            "the Jacobian in the place of its transpose",
        ),
        Decoy("diagonal", -jacobian_11 * loss_slope_1, "guidance", "each coordinate on its own"),
    ),
)  # fmt: skip
def _loss_gradient_plane(claim: sp.Expr) -> Iterator[Step]:
    """First coordinate of the gradient of −L(f_1, f_2), for any two functions f and the losses a·f_1 + b·f_2
    + (c·f_1² + d·f_1·f_2 + e·f_2²)/2, whose first derivatives take every value at a point. The Jacobian of a
    perfect prediction is symmetric; that of a network is not."""
    u, v = sp.symbols("u v", real=True)
    a, b, c, d, e = sp.symbols("a b c d e", real=True)
    f_1, f_2 = (sp.Function(name, real=True)(u, v) for name in ("f_1", "f_2"))
    loss = a * f_1 + b * f_2 + (c * f_1**2 + 2 * d * f_1 * f_2 + e * f_2**2) / 2
    there = {
        loss_slope_1: a + c * f_1 + d * f_2,
        loss_slope_2: b + d * f_1 + e * f_2,
        jacobian_11: sp.diff(f_1, u),
        jacobian_12: sp.diff(f_1, v),
        jacobian_21: sp.diff(f_2, u),
    }
    yield Identity("any two coordinates", claim.xreplace(there), -sp.diff(loss, u))


# Without a classifier.

EPS_GUIDED = sp.Symbol("eps_guided")
IMAGEN = eps + guide_scale * (eps_cond - eps)
HO = (1 + ho_scale) * eps_cond - ho_scale * eps


@formula(
    "guidance.implied_gradient",
    title="the classifier that two noise predictions imply",
    lhs=label_score,
    rhs=(eps - eps_cond) / sp.sqrt(1 - abar_t),
    citations=("Ho2022cfg:§3.2",),
    reference="refdiff.guidance:implied_gradient",
    uses=("guidance.conditional_eps", "data.eps"),
    decoys=(
        Decoy("exchanged", (eps_cond - eps) / sp.sqrt(1 - abar_t), "sign", "away from the label"),
        Decoy("variance", (eps - eps_cond) / (1 - abar_t), "sqrt", "1 − ᾱ_t where its root belongs"),
        Decoy("not-scaled", eps - eps_cond, "guidance", "the difference of the predictions alone"),
    ),
)
def _implied_gradient(claim: sp.Expr) -> Iterator[Step]:
    """Bayes: the gradient of log q(y | x_t) is the difference of two scores, each read off its noise, for any
    law and any classifier."""
    there = {eps: -sp.sqrt(NOISE) * PRIOR_SCORE, eps_cond: -sp.sqrt(NOISE) * (PRIOR_SCORE + CLASS_SCORE)}
    yield Identity("any law, any classifier", claim.xreplace(there), CLASS_SCORE)


@formula(
    "guidance.classifier_free",
    title="classifier-free guidance, scale counted from the unconditional prediction",
    lhs=EPS_GUIDED,
    rhs=IMAGEN,
    citations=("Saharia2022imagen:2", "Ho2022cfg:6", "conventions:CFG"),
    reference="refdiff.guidance:classifier_free",
    uses=("guidance.implied_gradient", "guidance.guided_eps"),
    decoys=(
        Decoy(
            "one-more", eps_cond + guide_scale * (eps_cond - eps), "guidance",
            "the scale of the other convention",
        ),
        Decoy(
            "exchanged", eps_cond + guide_scale * (eps - eps_cond), "guidance", "the predictions exchanged"
        ),
        Decoy("backwards", eps - guide_scale * (eps_cond - eps), "sign", "away from the condition"),
        Decoy("conditional", eps_cond, "guidance", "no scale at all"),
    ),
)  # fmt: skip
def _classifier_free(claim: sp.Expr) -> Iterator[Step]:
    """Guidance by the classifier that the two predictions imply. Scale 1 is the conditional prediction, scale
    0 the unconditional one."""
    implied = (eps - eps_cond) / sp.sqrt(1 - abar_t)
    yield Identity("guidance by the implied classifier", claim, GUIDED_EPS.subs(label_score, implied))
    yield Identity("κ = 1", claim.subs(guide_scale, 1), eps_cond)
    yield Identity("κ = 0", claim.subs(guide_scale, 0), eps)


@formula(
    "guidance.classifier_free_ho",
    title="classifier-free guidance, weight counted from the conditional prediction",
    lhs=EPS_GUIDED,
    rhs=HO,
    citations=("Ho2022cfg:6", "conventions:CFG"),
    reference="refdiff.guidance:classifier_free",
    uses=("guidance.classifier_free",),
    decoys=(
        Decoy("one-less", eps + ho_scale * (eps_cond - eps), "guidance", "the scale of the other convention"),
        Decoy(
            "exchanged", (1 + ho_scale) * eps - ho_scale * eps_cond, "guidance", "the predictions exchanged"
        ),
        Decoy("weights", (1 + ho_scale) * eps_cond - eps, "guidance", "the weights do not add up to one"),
    ),
)  # fmt: skip
def _classifier_free_ho(claim: sp.Expr) -> Iterator[Step]:
    """The same combination with one less on the scale; the weights add up to one."""
    yield Identity("one less on the scale", claim, IMAGEN.subs(guide_scale, 1 + ho_scale))
    yield Identity("w = 0 is the conditional prediction", claim.subs(ho_scale, 0), eps_cond)
    yield Identity("equal predictions stay", claim.subs(eps_cond, eps), eps)


@formula(
    "guidance.scale_from_ho",
    title="the two scales of classifier-free guidance",
    lhs=guide_scale,
    rhs=1 + ho_scale,
    citations=("conventions:CFG",),
    reference="refdiff.guidance:convert_scale",
    uses=("guidance.classifier_free", "guidance.classifier_free_ho"),
    decoys=(
        Decoy("equal", ho_scale, "guidance", "taken for the same number"),
        Decoy("one-less", ho_scale - 1, "guidance", "converted the wrong way"),
    ),
)
def _scale_from_ho(claim: sp.Expr) -> Iterator[Step]:
    """The only scale for which both conventions make the same of any two predictions."""
    yield Identity("the same prediction", IMAGEN.subs(guide_scale, claim), HO)
    yield Identity("as a law", GUIDED_SCORE.subs(guide_scale, claim), score + (1 + ho_scale) * label_score)
