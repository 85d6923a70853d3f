"""Score matching with noise: the denoising loss, its constant, conditional scores, and scores of mixtures.

Axioms: derivative and integral over the data may be exchanged, E is linear, and the density of noised data
vanishes at infinity with its derivative. Statements about any law of the data use its noised density q as an
undefined function; each is repeated for any two-point law, where there is no axiom. Coordinates are
independent given the data, so what is written for one is summed over them. The losses without noise are in
``derivations.hyvarinen``.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy.matrices.expressions.trace import Trace

from derivations.ddpm import MARGINAL_T
from derivations.gaussian import HALF, M_0, M_1, ONE, S_0, X, square
from derivations.hyvarinen import LOSS, H, s_x
from derivations.kit import (
    Decoy,
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
from derivations.kit.matrices import Given, MatrixIdentity, matrix
from derivations.symbols import (
    abar_t,
    component_score_0,
    component_score_1,
    components,
    density_0,
    density_1,
    dim,
    eps,
    i,
    mean_0,
    mean_1,
    other_weight,
    score,
    score_hat,
    score_hat_slope,
    score_slope,
    sigma,
    variance_0,
    weight,
    x,
    x_0,
    x_t,
)

N = matrix("N", dim, dim, "covariance of the noise", "N")
NOISE = matrix("omega", dim, 1, "the noise", r"\omega")
GIVEN = Given(symmetric=frozenset({S_0, N}))
KERNEL = normal(x, x_0, sigma**2)
"""Density of the noised data x given the data x_0."""
CONDITIONAL = -(x - x_0) / sigma**2
"""Its score."""
q = sp.Function("q", positive=True)(x)
FIRST = sp.diff(q, x)
"""The integral of kernel times conditional score over the data: derivative and integral exchanged."""
SECOND = sp.diff(q, x, 2) + q / sigma**2
"""The integral of kernel times squared conditional score."""


def denoising_at(model: sp.Expr) -> sp.Expr:
    """Density of x times the mean of ½(s − conditional score)² given x, for any law of the data."""
    return model**2 * q / 2 - model * FIRST + SECOND / 2


def kernel_steps() -> Iterator[Step]:
    """The first two derivatives of the kernel along x are kernel times polynomials in its score."""
    density = KERNEL.factor * sp.exp(KERNEL.exponent)
    yield Identity("score of the kernel", sp.diff(density, x), density * CONDITIONAL)
    twice = density * (CONDITIONAL**2 - 1 / sigma**2)
    yield Identity("second derivative of the kernel", sp.diff(density, x, 2), twice)


def two_points() -> tuple[sp.Expr, sp.Expr]:
    """The noised density of any two-point law, and the mean of ½(s − conditional score)² given x times it."""
    a, b, w = sp.Symbol("a", real=True), sp.Symbol("b", real=True), sp.Symbol("w", positive=True)
    density = KERNEL.factor * sp.exp(KERNEL.exponent)
    parts = [(w * density.subs(x_0, a), a), (density.subs(x_0, b), b)]
    total = sp.Add(*(part for part, _ in parts))
    return total, sp.Add(*(part * (score_hat - CONDITIONAL.subs(x_0, at)) ** 2 / 2 for part, at in parts))


DENOISING = (score_hat - score) ** 2 / 2 + (1 / sigma**2 + score_slope) / 2


@formula(
    "score_matching.denoising",
    title="denoising score matching, one coordinate given the noised data, for any law of the data",
    lhs=LOSS,
    rhs=DENOISING,
    citations=("Vincent2011:11", "S004:1.10"),
    reference="refdiff.score_matching:denoising_loss",
    uses=("score_matching.explicit",),
    decoys=(
        Decoy("no-constant", (score_hat - score) ** 2 / 2, "likelihood",
              "the two losses taken for equal: the constant is dropped", "S004:1.13"),
        Decoy("constant-of-noise", (score_hat - score) ** 2 / 2 + 1 / (2 * sigma**2), "likelihood",
              "the square of the conditional score alone: the data's own score is not subtracted"),
        Decoy("variance-for-precision", (score_hat - score) ** 2 / 2 + (sigma**2 + score_slope) / 2,
              "variance", "σ² where 1/σ² belongs"),
    ),
)  # fmt: skip
def _denoising(claim: sp.Expr) -> Iterator[Step]:
    """The mean of ½(s − ∇log q(x|x_0))² over the data given x, with Gaussian noise. Kernel times conditional
    score integrates to q', kernel times its square to q'' + q/σ²; so the mean is ½(s − ∇log q)² plus half
    of the conditional score's variance, 1/σ² + (log q)'', which no model changes."""
    yield from kernel_steps()
    own = sp.diff(sp.log(q), x)
    at_q = claim.subs({score: own, score_slope: sp.diff(own, x)})
    yield Substitution("any law", q * at_q - denoising_at(score_hat), {})
    total, mean = two_points()
    own = sp.diff(total, x) / total
    curvature = (sp.diff(total, x, 2) * total - sp.diff(total, x) ** 2) / total**2
    yield Identity("any two-point law", total * claim.subs({score: own, score_slope: curvature}), mean)


@formula(
    "score_matching.denoising_explicit",
    title="the denoising loss is the explicit loss of the noised data plus d/2σ², one coordinate",
    lhs=LOSS,
    rhs=score_hat**2 / 2 + score_hat_slope + 1 / (2 * sigma**2),
    citations=("Vincent2011:17",),
    reference="refdiff.score_matching:denoising_loss",
    uses=("score_matching.denoising", "score_matching.explicit"),
    decoys=(
        Decoy("no-constant", score_hat**2 / 2 + score_hat_slope, "likelihood", "the constant is dropped"),
        Decoy("std", score_hat**2 / 2 + score_hat_slope + 1 / (2 * sigma), "sqrt", "σ where σ² belongs"),
    ),
)  # fmt: skip
def _denoising_explicit(claim: sp.Expr) -> Iterator[Step]:
    """The difference of the two, times q, is the derivative of q·s − ½q', which integrates to zero. So the
    constant between the denoising loss and the Fisher divergence of the noised data is
    ½(d/σ² − E|∇log q|²), and not zero."""
    at_model = claim.subs({score_hat: s_x, score_hat_slope: sp.diff(s_x, x)})
    total = sp.diff(q * s_x - sp.diff(q, x) / 2, x)
    yield Identity("up to a total derivative", q * at_model, denoising_at(s_x) + total)
    own = sp.diff(q, x) / q
    fisher = q * (s_x - own) ** 2 / 2
    constant = q * (1 / sigma**2 - own**2) / 2 + sp.diff(sp.diff(q, x), x) / 2
    yield Identity("and the Fisher divergence", denoising_at(s_x), fisher + constant)


TOTAL = S_0 + N
NOISED_DATA = {X: (M_0, S_0), NOISE: (sp.ZeroMatrix(dim, 1), N)}
CONSTANT = HALF * Trace(N.I) - HALF * Trace(sp.Inverse(TOTAL))


@formula(
    "score_matching.denoising_constant_nd",
    title="constant between the denoising loss and the Fisher divergence, Gaussian data, any dimension",
    lhs=sp.Symbol("C", nonnegative=True),
    rhs=CONSTANT,
    citations=("Vincent2011:17", "S004:1.10"),
    reference="refdiff.score_matching:denoising_constant",
    uses=("score_matching.denoising", "score_matching.denoising_explicit"),
    decoys=(
        Decoy("zero", sp.Integer(0), "likelihood", "the two losses taken for equal", "S004:1.13"),
        Decoy("of-noise", HALF * Trace(N.I), "likelihood", "the data's own score is not subtracted"),
        Decoy("data-precision", HALF * Trace(N.I) - HALF * Trace(S_0.I), "variance",
              "the score of the data before the noise"),
        Decoy("not-halved", 2 * CONSTANT, "loss-weight", "½ is missing"),
    ),
    mutate=False,  # matrices: the decoys are made by hand
)  # fmt: skip
def denoising_constant_nd(claim: sp.Expr) -> Iterator[Step]:
    """Half the mean square of the conditional score −N⁻¹ω minus that of the score of the noised data. It is
    half the covariance of the data that x leaves, seen through the noise: never negative, and zero for a
    point mass alone."""
    conditional = HALF * square(N.I * NOISE) - HALF * square(sp.Inverse(TOTAL) * (X + NOISE - M_0))
    yield MatrixIdentity("mean squares of the two scores", conditional, claim, GIVEN, NOISED_DATA)
    left = sp.Inverse(S_0.I + N.I)
    seen = (N.I - N.I * left * N.I) * TOTAL
    yield MatrixIdentity("N⁻¹·Cov[x_0|x]·N⁻¹ is the difference of the two precisions", seen, ONE, GIVEN)


DENOISING_GAUSSIAN = (
    HALF * Trace(H * TOTAL * H.T) + HALF * square(H * (M_0 - M_1)) - Trace(H) + HALF * Trace(N.I)
)


@formula(
    "score_matching.denoising_gaussian_nd",
    title="denoising loss of a quadratic energy on data with a mean and a covariance, any dimension",
    lhs=LOSS,
    rhs=DENOISING_GAUSSIAN,
    citations=("Vincent2011:11", "S004:1.13"),
    reference="refdiff.score_matching:denoising_loss",
    uses=("score_matching.denoising_explicit", "score_matching.explicit_gaussian_nd"),
    decoys=(
        Decoy("clean", DENOISING_GAUSSIAN - HALF * Trace(H * N * H.T), "variance",
              "the score is asked at the data, not at the noised data"),
        Decoy("sign", DENOISING_GAUSSIAN + 2 * Trace(H), "sign", "the noise with the wrong sign"),
        Decoy("no-constant", DENOISING_GAUSSIAN - HALF * Trace(N.I), "likelihood", "the constant is dropped"),
        Decoy("transposed", HALF * Trace(H.T * TOTAL * H) + HALF * square(H * (M_0 - M_1)) - Trace(H)
              + HALF * Trace(N.I), "state-broadcast", "the slope from the wrong side"),
    ),
    mutate=False,  # matrices: the decoys are made by hand
)  # fmt: skip
def denoising_gaussian_nd(claim: sp.Expr) -> Iterator[Step]:
    """Mean over data and noise of ½|s(x_0 + ω) + N⁻¹ω|². It is the explicit loss with the noise added to the
    covariance of the data, plus half the trace of N⁻¹; so H = (Σ_0 + N)⁻¹ minimises it: the energy of the
    noised data, never that of the data."""
    missed = -H * (X + NOISE - M_1) + N.I * NOISE
    yield MatrixIdentity("mean over data and noise", HALF * square(missed), claim, GIVEN, NOISED_DATA)
    misfit = H - sp.Inverse(TOTAL)
    fisher = HALF * Trace(misfit * TOTAL * misfit.T) + HALF * square(H * (M_0 - M_1))
    yield MatrixIdentity("the square completed", claim, fisher + CONSTANT, GIVEN)


EPS_LOSS = (1 - abar_t) * (score_hat + eps / sp.sqrt(1 - abar_t)) ** 2


@formula(
    "score_matching.eps_loss",
    title="the loss of the noise is 1 − ᾱ_t times the squared error of the score",
    lhs=sp.Symbol("L_eps", nonnegative=True),
    rhs=EPS_LOSS,
    citations=("Song2019:6", "Ho2020:§3.2", "S004:§4.3/2"),
    reference="refdiff.score_matching:eps_loss",
    uses=("score_matching.denoising", "ddpm.marginal"),
    decoys=(
        Decoy("unweighted", EPS_LOSS / (1 - abar_t), "loss-weight", "the factor is taken for a constant",
              "S004:§4.3/2"),
        Decoy("std", EPS_LOSS / sp.sqrt(1 - abar_t), "sqrt", "√(1−ᾱ_t) where 1−ᾱ_t belongs"),
        Decoy("signal", abar_t / (1 - abar_t) * EPS_LOSS, "loss-weight", "ᾱ_t where 1−ᾱ_t belongs"),
        Decoy("sign-of-noise", (1 - abar_t) * (score_hat - eps / sp.sqrt(1 - abar_t)) ** 2, "sign",
              "the score of the opposite sign"),
    ),
)  # fmt: skip
def _eps_loss(claim: sp.Expr) -> Iterator[Step]:
    """The conditional score is −ε/√(1−ᾱ_t), and so is the predicted one with the predicted noise. The
    denoising loss has ½ before its square: the loss of the noise is 2(1−ᾱ_t) times it. The factor depends
    on t, so both have the same minimiser at each level and weigh the levels differently."""
    noised = sp.sqrt(abar_t) * x_0 + sp.sqrt(1 - abar_t) * eps
    conditional = sp.diff(MARGINAL_T.exponent, x_t).subs(x_t, noised)
    yield Identity("conditional score", conditional, -eps / sp.sqrt(1 - abar_t))
    eps_hat = -sp.sqrt(1 - abar_t) * score_hat
    yield Identity("squared error of the noise", (eps - eps_hat) ** 2, claim)
    yield Identity("and of the score", claim, (1 - abar_t) * (score_hat - conditional) ** 2)


w, k, c = (sp.Function(name, positive=name != "c", real=True) for name in ("w", "k", "c"))


def over_components(term: sp.Expr, last: sp.Expr = components) -> sp.Expr:
    """A term summed over the components 1..last."""
    return sp.Sum(term, (i, 1, last))


MARGINAL_SCORE = over_components(w(i) * k(i) * c(i)) / over_components(w(i) * k(i))


@formula(
    "score_matching.marginal_score",
    title="the score of a marginal is the mean of the conditional scores under the posterior",
    lhs=score,
    rhs=MARGINAL_SCORE,
    citations=("Vincent2011:12", "S004:1.12"),
    reference="refdiff.score_matching:marginal_score",
    decoys=(
        Decoy("prior-weights", over_components(w(i) * c(i)) / over_components(w(i)), "likelihood",
              "averaged with the weights before x was seen"),
        Decoy("not-normalised", over_components(w(i) * k(i) * c(i)), "likelihood",
              "the joint density where the posterior belongs"),
        Decoy("no-weights", over_components(k(i) * c(i)) / over_components(k(i)), "likelihood",
              "the weights of the components are missing"),
    ),
)  # fmt: skip
def _marginal_score(claim: sp.Expr) -> Iterator[Step]:
    """For any kernels k_i(x), Gaussian or not, with weights w_i and scores c_i = ∂log k_i, by induction over
    the components: the derivative of the mixture grows by w·k·c, its density by w·k. An integral over
    components is its limit, with derivative and integral exchanged. Conditional and marginal score differ
    at each x, and the denoising loss is minimised by the marginal one."""
    kernel = sp.Function("k", positive=True)(x)
    weigh = sp.Symbol("w", positive=True)
    own = sp.diff(sp.log(kernel), x)
    yield Identity("derivative of one term", sp.diff(weigh * kernel, x), weigh * kernel * own)
    known = sp.Symbol("derivative", real=True)
    term = w(components + 1) * k(components + 1) * c(components + 1)
    yield Induction(
        "derivative of the mixture = score times density",
        (w(1) * k(1) * c(1), _times_density(claim, sp.Integer(1))),
        (known + term, _times_density(claim, components + 1)),
        {known: _times_density(claim, components)},
    )


def _times_density(claim: sp.Expr, last: sp.Expr) -> sp.Expr:
    return claim.subs(components, last) * over_components(w(i) * k(i), last)


PART_0, PART_1 = weight * density_0, (1 - weight) * density_1
DENSITY = PART_0 + PART_1
SHARE = PART_0 / DENSITY
MIXTURE_SCORE = SHARE * component_score_0 + (1 - SHARE) * component_score_1
p_0, p_1 = (sp.Function(name, positive=True)(x) for name in ("p_0", "p_1"))
AT_DENSITIES = {
    density_0: p_0,
    density_1: p_1,
    component_score_0: sp.diff(p_0, x) / p_0,
    component_score_1: sp.diff(p_1, x) / p_1,
}


@formula(
    "score_matching.mixture_score",
    title="score of a mixture of any two laws",
    lhs=score,
    rhs=MIXTURE_SCORE,
    citations=("S004:2.1",),
    reference="refdiff.score_matching:marginal_score",
    uses=("score_matching.marginal_score",),
    decoys=(
        Decoy("nearer-law", component_score_0, "likelihood",
              "the score of the law whose support it is: exact only where the other has no density",
              "S004:2.1"),
        Decoy("prior-weights", weight * component_score_0 + (1 - weight) * component_score_1, "likelihood",
              "averaged with the weights of the laws"),
        Decoy("weight-blind", (density_0 * component_score_0 + density_1 * component_score_1)
              / (density_0 + density_1), "likelihood", "the weights are missing"),
    ),
)  # fmt: skip
def _mixture_score(claim: sp.Expr) -> Iterator[Step]:
    """The derivative of log(π·p_0 + (1−π)·p_1) for any two densities. Where p_1 = 0, as on disjoint
    supports, it is the score of the first law alone, and no weight is left in it: there the score cannot
    see the weights."""
    mixture = weight * p_0 + (1 - weight) * p_1
    yield Identity("derivative of the log", sp.diff(sp.log(mixture), x), claim.subs(AT_DENSITIES))
    yield Identity("disjoint supports", claim.subs(density_1, 0), component_score_0)
    yield Identity("and the other support", claim.subs(density_0, 0), component_score_1)


@formula(
    "score_matching.weight_sensitivity",
    title="how the score of a mixture changes with the weight",
    lhs=sp.Derivative(score, weight),
    rhs=density_0 * density_1 / DENSITY**2 * (component_score_0 - component_score_1),
    citations=("S004:2.1", "Song2019:§3.2.1"),
    reference="refdiff.score_matching:weight_sensitivity",
    uses=("score_matching.mixture_score",),
    decoys=(
        Decoy("blind", sp.Integer(0), "likelihood", "no dependence at all, whatever the overlap", "S004:2.1"),
        Decoy("of-posterior", SHARE * (1 - SHARE) * (component_score_0 - component_score_1), "likelihood",
              "the derivative along the log-odds of the weight"),
    ),
)  # fmt: skip
def _weight_sensitivity(claim: sp.Expr) -> Iterator[Step]:
    """The derivative of the posterior share is p_0·p_1/p². It vanishes where one of the densities does."""
    yield Identity("derivative along the weight", sp.diff(MIXTURE_SCORE, weight), claim)
    yield Identity("no overlap, no change", claim.subs(density_1, 0), sp.Integer(0))


ODDS = PART_1 / PART_0


@formula(
    "score_matching.weight_bound",
    title="on the support of one law the score misses the other by at most the odds",
    lhs=sp.Symbol("slack", nonnegative=True),
    rhs=ODDS**2 / (1 + ODDS),
    citations=("S004:2.1", "Song2019:§3.2.1"),
    uses=("score_matching.mixture_score",),
)
def _weight_bound(claim: sp.Expr) -> Iterator[Step]:
    """The score of the mixture minus that of the first law is the share of the second law times the
    difference of the scores; the share is odds/(1 + odds), below the odds (1−π)p_1/(π·p_0) by this slack,
    which is never negative. So |s − s_0| ≤ (1−π)p_1/(π·p_0)·|s_1 − s_0|."""
    share = 1 - SHARE
    apart = component_score_1 - component_score_0
    yield Identity("distance of the scores", MIXTURE_SCORE - component_score_0, share * apart)
    yield Identity("odds minus share", ODDS - share, claim)
    yield Inequality("never negative", claim, ">", sp.Integer(0))


WEIGHT_DIVERGENCE = (
    (weight - other_weight) ** 2
    * sp.sqrt(density_0 * density_1)
    * (component_score_0 - component_score_1) ** 2
    / (16 * other_weight * (1 - other_weight) * sp.sqrt(weight * (1 - weight)))
)


@formula(
    "score_matching.weight_divergence",
    title="the Fisher divergence between two weights of a mixture, at most, at a point",
    lhs=sp.Symbol("D_F", nonnegative=True),
    rhs=WEIGHT_DIVERGENCE,
    citations=("S004:2.1", "Song2019:§3.2.1"),
    uses=("score_matching.weight_sensitivity",),
)
def _weight_divergence(claim: sp.Expr) -> Iterator[Step]:
    """½p(s_π − s_π')² is the claim times two factors, 2√(ab)/p and 4a'b'/p'², with a = π·p_0,
    b = (1−π)·p_1 and p = a + b. Neither exceeds 1, since (a + b)² − 4ab = (a − b)². So the divergence is at
    most a multiple of the integral of √(p_0·p_1)·|s_0 − s_1|²: it vanishes with the overlap, however
    different the weights are."""
    at_other = MIXTURE_SCORE.subs(weight, other_weight)
    divergence = DENSITY * (MIXTURE_SCORE - at_other) ** 2 / 2
    first = 2 * sp.sqrt(PART_0) * sp.sqrt(PART_1) / DENSITY
    second = (4 * PART_0 * PART_1 / DENSITY**2).subs(weight, other_weight)
    yield Identity("the claim times two factors", divergence, claim * first * second)
    a, b = sp.Symbol("a", positive=True), sp.Symbol("b", positive=True)
    gap = sp.Symbol("gap", real=True)
    means = ((a + b) ** 2 - 4 * a * b).subs(a, b + gap)
    yield Inequality("neither factor exceeds 1", means, ">=", sp.Integer(0), gap**2)


SPREAD = variance_0 + sigma**2
OVERLAP = sp.exp(-((mean_0 - mean_1) ** 2) / (8 * SPREAD))


@formula(
    "score_matching.noised_overlap",
    title="overlap of two Gaussians of one variance after noise: what the bound on the weights integrates",
    lhs=sp.Symbol("BC", positive=True),
    rhs=OVERLAP,
    citations=("S004:§2.1/3", "Song2019:§3.2.1"),
    uses=("score_matching.weight_divergence",),
    decoys=(
        Decoy("noise-as-std", sp.exp(-((mean_0 - mean_1) ** 2) / (8 * (variance_0 + sigma))), "sqrt",
              "σ where σ² belongs"),
        Decoy("density-at-middle", sp.exp(-((mean_0 - mean_1) ** 2) / (4 * SPREAD)), "likelihood",
              "the product of the densities where its root belongs"),
        Decoy("not-noised", sp.exp(-((mean_0 - mean_1) ** 2) / (8 * variance_0)), "variance",
              "the overlap before the noise"),
    ),
)  # fmt: skip
def _noised_overlap(claim: sp.Expr) -> Iterator[Step]:
    """The integral of the root of the product of the two noised densities. It grows with σ towards 1: noise
    is what makes the score see the weights of laws that were apart, and a ladder needs a largest level of
    the size of their distance."""
    first, second = (normal(x, mean, SPREAD) for mean in (mean_0, mean_1))
    root = LogDensity((first.exponent + second.exponent) / 2, 1 / sp.sqrt(2 * sp.pi * SPREAD))
    exponent = -((mean_0 - mean_1) ** 2) / (8 * SPREAD)
    yield Identity("the overlap", claim, sp.exp(exponent))
    yield Integral("x integrated out", root, x, LogDensity(exponent, sp.Integer(1)))
    gap = sp.Symbol("gap", real=True)
    growth = sp.diff(exponent, sigma).subs(mean_0, mean_1 + gap)
    yield Inequality("it grows with the noise", growth, ">=", sp.Integer(0), gap**2 * sigma / (4 * SPREAD**2))
