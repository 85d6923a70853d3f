"""The linear Gaussian autoencoder: evidence, best encoder, bound and gap in closed form.

Part of the topic ``vae``. A code z is standard normal, an observation given it is N(A·z + b, Q), the encoder
is normal. For numbers A is ``slope``, b ``shift``, Q ``variance_1``, and the encoder N(m, s); ids that end in
``_nd`` hold for vectors of any two dimensions, and for a prior N(0, Λ⁻¹).
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import log, pi, sqrt
from sympy.matrices.expressions.determinant import Determinant
from sympy.matrices.expressions.trace import Trace

from derivations.gaussian import (
    COVARIANCES,
    HALF,
    LIKELIHOOD,
    M_1,
    PRIOR,
    S_1,
    A,
    B,
    X,
    Y,
    square,
)
from derivations.kit import (
    Decoy,
    DensityEqual,
    Expectation,
    Identity,
    Inequality,
    Integral,
    Step,
    formula,
    normal,
)
from derivations.kit.matrices import MatrixIdentity, one_dimensional
from derivations.symbols import (
    code_mean,
    code_variance,
    dim,
    dim_y,
    eps,
    evidence,
    latent,
    shift,
    slope,
    variance_1,
    y,
)

TOTAL = slope**2 + variance_1
EVIDENCE = -((y - shift) ** 2) / (2 * TOTAL) - log(2 * pi * TOTAL) / 2
BEST_MEAN = slope * (y - shift) / TOTAL
BEST_VARIANCE = variance_1 / TOTAL
DECODED = normal(y, slope * latent + shift, variance_1)
STANDARD = normal(latent, sp.Integer(0), sp.Integer(1))


@formula(
    "vae.gaussian_evidence",
    title="log-evidence of the linear Gaussian autoencoder",
    lhs=log(evidence),
    rhs=EVIDENCE,
    citations=("Tipping1999", "Bishop2006:12.35"),
    reference="refdiff.vae:LinearGaussian",
    uses=("gaussian.push_forward_variance", "gaussian.log_density"),
    decoys=(
        Decoy(
            "noise-only", EVIDENCE.subs(slope, 0), "variance", "the variance of the decoder alone"
        ),
        Decoy(
            "slope-once", -((y - shift) ** 2) / (2 * (slope + variance_1))
            - log(2 * pi * (slope + variance_1)) / 2, "variance", "a where a² belongs",
        ),
        Decoy(
            "at-the-best-code", -((y - shift - slope * BEST_MEAN) ** 2) / (2 * variance_1)
            - log(2 * pi * variance_1) / 2, "likelihood", "the density of x given the mean of its code",
        ),
    ),
)  # fmt: skip
def _gaussian_evidence(claim: sp.Expr) -> Iterator[Step]:
    """z is standard normal and x given z is N(a·z + b, v): integrate z out."""
    evidence_law = normal(y, shift, TOTAL)
    yield Identity("its log", claim, evidence_law.exponent - log(2 * pi * TOTAL) / 2)
    yield Integral("z integrated out", DECODED * STANDARD, latent, evidence_law)


@formula(
    "vae.optimal_encoder_mean",
    title="mean of the posterior of a code, which the best encoder has",
    lhs=code_mean,
    rhs=BEST_MEAN,
    citations=("Tipping1999", "Bishop2006:12.42"),
    reference="refdiff.vae:LinearGaussian",
    uses=("vae.gaussian_evidence", "gaussian.condition_mean"),
    decoys=(
        Decoy("inverse", (y - shift) / slope, "variance", "the decoder inverted, as if it had no noise"),
        Decoy("not-centred", slope * y / TOTAL, "sign", "b is not taken off"),
        Decoy("noise-in-denominator", slope * (y - shift) / variance_1, "variance", "the prior is left out"),
    ),
)
def _optimal_encoder_mean(claim: sp.Expr) -> Iterator[Step]:
    """Bayes: prior times decoder over evidence is a normal density of z."""
    best = normal(latent, claim, BEST_VARIANCE)
    yield DensityEqual("Bayes", DECODED * STANDARD / normal(y, shift, TOTAL), best)


@formula(
    "vae.optimal_encoder_variance",
    title="variance of the posterior of a code, which the best encoder has",
    lhs=code_variance,
    rhs=BEST_VARIANCE,
    citations=("Tipping1999", "Bishop2006:12.42"),
    reference="refdiff.vae:LinearGaussian",
    uses=("vae.optimal_encoder_mean",),
    decoys=(
        Decoy("prior", sp.Integer(1), "variance", "the variance of the prior"),
        Decoy("precision", TOTAL / variance_1, "variance", "the precision in its place"),
        Decoy("decoder", variance_1, "variance", "the variance of the decoder"),
    ),
)
def _optimal_encoder_variance(claim: sp.Expr) -> Iterator[Step]:
    """Bayes again; precisions add: 1 of the prior and a²/v of the observation, whatever it is."""
    best = normal(latent, BEST_MEAN, claim)
    yield DensityEqual("Bayes", DECODED * STANDARD / normal(y, shift, TOTAL), best)
    yield Identity("precisions add", 1 / claim, 1 + slope**2 / variance_1)


RECONSTRUCTION = (
    -((y - slope * code_mean - shift) ** 2 + slope**2 * code_variance) / (2 * variance_1)
    - log(2 * pi * variance_1) / 2
)
TO_PRIOR = (code_variance + code_mean**2 - 1 - log(code_variance)) / 2


@formula(
    "vae.gaussian_divergence",
    title="divergence of a Gaussian encoder from the standard normal prior",
    lhs=sp.Symbol("kl", nonnegative=True),
    rhs=TO_PRIOR,
    citations=("Kingma2014:app.B",),
    reference="refdiff.vae:kl_to_prior",
    uses=("gaussian.kl",),
    decoys=(
        Decoy(
            "log-variance-sign", TO_PRIOR + log(code_variance), "sign", "the log of the variance is added"
        ),
        Decoy(
            "turned", (log(code_variance) + (1 + code_mean**2) / code_variance - 1) / 2, "likelihood",
            "the divergence of the prior from the encoder",
        ),
        Decoy(
            "deviation", (sqrt(code_variance) + code_mean**2 - 1 - log(code_variance) / 2) / 2, "sqrt",
            "the deviation where the variance belongs",
        ),
    ),
)  # fmt: skip
def _gaussian_divergence(claim: sp.Expr) -> Iterator[Step]:
    """The mean over the code of the log of encoder over prior."""
    encoder = normal(latent, code_mean, code_variance)
    ratio = encoder.exponent - STANDARD.exponent - log(code_variance) / 2
    yield Expectation("mean of the log-ratio", ratio, {latent: (code_mean, code_variance)}, claim)


@formula(
    "vae.gaussian_elbo",
    title="bound of the linear Gaussian autoencoder, for any Gaussian encoder",
    lhs=sp.Symbol("ELBO"),
    rhs=RECONSTRUCTION - TO_PRIOR,
    citations=("S004:3.18", "Lucas2019:§4"),
    reference="refdiff.vae:LinearGaussian",
    uses=("vae.split", "vae.gaussian_divergence"),
    decoys=(
        Decoy("prior-missing", RECONSTRUCTION, "likelihood", "the divergence from the prior is left out"),
        Decoy(
            "code-variance-missing", RECONSTRUCTION.subs(code_variance, 0) - TO_PRIOR, "variance",
            "the decoder at the mean code: an autoencoder's error",
        ),
        Decoy("divergence-added", RECONSTRUCTION + TO_PRIOR, "sign", "the divergence is added"),
        Decoy(
            "entropy-missing", RECONSTRUCTION - TO_PRIOR - (log(2 * pi * code_variance) + 1) / 2,
            "likelihood", "the cross-entropy with the prior: the encoder's entropy is forgotten",
        ),
        Decoy(
            "divergence-turned",
            RECONSTRUCTION - (log(code_variance) + (1 + code_mean**2) / code_variance - 1) / 2,
            "likelihood", "the divergence of the prior from the encoder",
        ),
    ),
)  # fmt: skip
def _gaussian_elbo(claim: sp.Expr) -> Iterator[Step]:
    """The mean over the code of log decoder, log prior and minus log encoder."""
    encoder = normal(latent, code_mean, code_variance)
    logs = DECODED.exponent + STANDARD.exponent - encoder.exponent
    mean = logs - log(2 * pi * variance_1) / 2 + log(code_variance) / 2
    yield Expectation("mean over the code", mean, {latent: (code_mean, code_variance)}, claim)


APART = (
    code_variance / BEST_VARIANCE
    - 1
    - log(code_variance)
    + log(variance_1)
    - log(TOTAL)
    + (code_mean - BEST_MEAN) ** 2 / BEST_VARIANCE
) / 2


@formula(
    "vae.gaussian_gap",
    title="what a Gaussian encoder loses: its divergence from the posterior",
    lhs=sp.Symbol("gap", nonnegative=True),
    rhs=APART,
    citations=("S004:3.17", "Lucas2019:§4"),
    reference="refdiff.vae:LinearGaussian",
    uses=("vae.evidence", "vae.gaussian_elbo", "vae.optimal_encoder_mean", "vae.optimal_encoder_variance"),
    decoys=(
        Decoy("prior", TO_PRIOR, "likelihood", "the divergence from the prior"),
        Decoy(
            "means-only", (code_mean - BEST_MEAN) ** 2 / (2 * BEST_VARIANCE), "variance",
            "the variances taken for equal",
        ),
        Decoy(
            "turned", (
                BEST_VARIANCE / code_variance - 1 + log(code_variance) - log(variance_1) + log(TOTAL)
                + (code_mean - BEST_MEAN) ** 2 / code_variance
            ) / 2, "likelihood", "the divergence of the posterior from the encoder",
        ),
    ),
)  # fmt: skip
def _gaussian_gap(claim: sp.Expr) -> Iterator[Step]:
    """Evidence minus bound; it is the divergence of two Gaussians, and vanishes at the best encoder only:
    there its slopes vanish and it is convex in the mean and in the variance."""
    yield Identity("evidence minus bound", claim, EVIDENCE - (RECONSTRUCTION - TO_PRIOR))
    best = {code_mean: BEST_MEAN, code_variance: BEST_VARIANCE}
    yield Identity("nothing at the best encoder", claim.subs(best), sp.Integer(0))
    in_mean, in_variance = (sp.diff(claim, symbol) for symbol in best)
    yield Identity("slope in the mean", in_mean, (code_mean - BEST_MEAN) / BEST_VARIANCE)
    yield Identity("slope in the variance", in_variance, (1 / BEST_VARIANCE - 1 / code_variance) / 2)
    yield Inequality("convex in the mean", sp.diff(in_mean, code_mean), ">", sp.Integer(0))
    yield Inequality("and in the variance", sp.diff(in_variance, code_variance), ">", sp.Integer(0))


CODE = code_mean + sqrt(code_variance) * eps
SAMPLED = -((y - slope * CODE - shift) ** 2) / (2 * variance_1) - log(2 * pi * variance_1) / 2 - TO_PRIOR


@formula(
    "vae.reparameterised",
    title="a code as a function of mean, variance and noise",
    lhs=latent,
    rhs=CODE,
    citations=("Kingma2014:§2.4", "S002:§2/1"),
    reference="refdiff.vae:reparameterise",
    decoys=(
        Decoy("variance", code_mean + code_variance * eps, "sqrt", "the variance multiplies the noise"),
        Decoy(
            "log-variance", code_mean + sp.exp(code_variance / 2) * eps, "variance",
            "the variance read as its own log",
        ),
    ),
)
def _reparameterised(claim: sp.Expr) -> Iterator[Step]:
    """An affine function of a standard normal noise with the mean and the variance of the encoder, the root
    positive: so its law is the encoder's, and a derivative in mean or variance goes under the mean."""
    mean, deviation = claim.subs(eps, 0), sp.diff(claim, eps)
    yield Identity("mean", mean, code_mean)
    yield Identity("variance", deviation**2, code_variance)
    yield Identity("affine", sp.diff(deviation, eps), sp.Integer(0))
    yield Inequality("the positive root", deviation, ">", sp.Integer(0))


@formula(
    "vae.sampled_elbo",
    title="bound of the linear Gaussian autoencoder from one noise: its mean is the bound",
    lhs=sp.Symbol("ELBO_hat"),
    rhs=SAMPLED,
    citations=("Kingma2014:7", "Kingma2014:10"),
    reference="refdiff.vae:elbo",
    uses=("vae.gaussian_elbo", "vae.reparameterised"),
    decoys=(
        Decoy("prior-missing", SAMPLED + TO_PRIOR, "likelihood", "the divergence from the prior is left out"),
        Decoy(
            "variance-for-deviation",
            -((y - slope * (code_mean + code_variance * eps) - shift) ** 2) / (2 * variance_1)
            - log(2 * pi * variance_1) / 2 - TO_PRIOR, "sqrt", "the variance multiplies the noise",
        ),
        Decoy(
            "no-half",
            -((y - slope * CODE - shift) ** 2) / variance_1 - log(2 * pi * variance_1) / 2 - TO_PRIOR,
            "loss-weight", "the squared error is not halved",
        ),
        Decoy(
            "squared-error", -((y - slope * CODE - shift) ** 2) / 2 - TO_PRIOR, "loss-weight",
            "a decoder of variance 1, its normaliser dropped",
        ),
    ),
)  # fmt: skip
def _sampled_elbo(claim: sp.Expr) -> Iterator[Step]:
    """The reconstruction at a reparameterised code; the divergence is exact. The noise has mean 0 and
    variance 1, so its mean is the bound; and so is the mean of its slopes in mean and variance."""
    unit = {eps: (sp.Integer(0), sp.Integer(1))}
    bound = RECONSTRUCTION - TO_PRIOR
    decoded = DECODED.exponent.subs(latent, CODE) - log(2 * pi * variance_1) / 2
    yield Identity("decoder at the code, minus divergence", claim, decoded - TO_PRIOR)
    yield Expectation("its mean", claim, unit, bound)
    for symbol in (code_mean, code_variance):
        yield Expectation(f"slope in {symbol}", sp.diff(claim, symbol), unit, sp.diff(bound, symbol))


PRECISION = PRIOR + A.T * LIKELIHOOD * A
"""Inverse covariance of the code given the observation."""
RESIDUAL = Y - B
BEST = sp.Inverse(PRECISION) * A.T * LIKELIHOOD * RESIDUAL
WOODBURY = LIKELIHOOD - LIKELIHOOD * A * sp.Inverse(PRECISION) * A.T * LIKELIHOOD
"""Inverse covariance of the observation, A·Λ⁻¹·Aᵀ + Q, with L the inverse of Q."""
LOG_PRECISION, LOG_LIKELIHOOD = log(Determinant(PRECISION)), log(Determinant(LIKELIHOOD))
LOG_PRIOR = log(Determinant(PRIOR))
CONSTANTS = LOG_LIKELIHOOD + LOG_PRIOR - LOG_PRECISION - dim_y * log(2 * pi)
EVIDENCE_ND = HALF * (CONSTANTS - square(RESIDUAL, WOODBURY))
NUMBERS = {
    A: slope, B: shift, LIKELIHOOD: 1 / variance_1, PRIOR: sp.Integer(1), Y: y, M_1: code_mean,
    S_1: code_variance,
}  # fmt: skip


def _one_dimension(claim: sp.Expr, general: sp.Expr) -> Step:
    return Identity("the case of numbers", one_dimensional(general, NUMBERS), claim)


@formula(
    "vae.gaussian_evidence_nd",
    title="log-evidence of the linear Gaussian autoencoder, any dimensions, L being the decoder's precision",
    lhs=log(evidence),
    rhs=EVIDENCE_ND,
    citations=("Tipping1999", "Bishop2006:12.35"),
    reference="refdiff.vae:LinearGaussian",
    uses=("vae.gaussian_evidence", "gaussian.condition_variance_nd", "gaussian.log_density_nd"),
    decoys=(
        Decoy(
            "decoder-only", HALF * (CONSTANTS - square(RESIDUAL, LIKELIHOOD)),
            "variance", "the code at 0, not integrated out",
        ),
        Decoy("determinant-sign", EVIDENCE_ND + LOG_PRECISION, "sign", "the determinant upside down"),
        Decoy(
            "dimension-of-code", EVIDENCE_ND + HALF * (dim_y - dim) * log(2 * pi), "likelihood",
            "2π counted for the code's dimensions",
        ),
    ),
    mutate=False,  # the grammar of mutations is one of numbers
)  # fmt: skip
def _gaussian_evidence_nd(claim: sp.Expr) -> Iterator[Step]:
    """The joint square is that of z given x plus that of x, whose covariance is AΛ⁻¹Aᵀ + Q; the joint
    precision has determinant |Λ||L|, and |Λ + AᵀLA| is the share of z given x."""
    joint = square(X, PRIOR) + square(RESIDUAL - A * X, LIKELIHOOD)
    left = joint - square(X - BEST, PRECISION)
    yield MatrixIdentity("the square completed", claim, HALF * (CONSTANTS - left), COVARIANCES)
    covariance = sp.Inverse(LIKELIHOOD) + A * PRIOR.I * A.T
    yield MatrixIdentity("Woodbury", covariance * WOODBURY, sp.Identity(dim_y), COVARIANCES)
    yield Identity("for numbers", EVIDENCE, one_dimensional(claim, NUMBERS))


TO_PRIOR_ND = HALF * (Trace(PRIOR * S_1) + square(M_1, PRIOR) - dim - log(Determinant(S_1)) - LOG_PRIOR)
ELBO_ND = HALF * (
    LOG_LIKELIHOOD
    - square(RESIDUAL - A * M_1, LIKELIHOOD)
    - Trace(A.T * LIKELIHOOD * A * S_1)
    - dim_y * log(2 * pi)
) - TO_PRIOR_ND


@formula(
    "vae.gaussian_elbo_nd",
    title="bound of the linear Gaussian autoencoder, any dimensions and any Gaussian encoder",
    lhs=sp.Symbol("ELBO"),
    rhs=ELBO_ND,
    citations=("S004:3.18", "Lucas2019:§4"),
    reference="refdiff.vae:LinearGaussian",
    uses=("vae.split", "vae.gaussian_elbo", "gaussian.kl_nd"),
    decoys=(
        Decoy(
            "spread-missing", ELBO_ND + HALF * Trace(A.T * LIKELIHOOD * A * S_1), "variance",
            "the decoder at the mean code",
        ),
        Decoy(
            "prior-missing", ELBO_ND + TO_PRIOR_ND, "likelihood", "the divergence from the prior is left out"
        ),
        Decoy("determinant-sign", ELBO_ND - log(Determinant(S_1)), "sign", "the log-determinant subtracted"),
    ),
    mutate=False,  # the grammar of mutations is one of numbers
)  # fmt: skip
def _gaussian_elbo_nd(claim: sp.Expr) -> Iterator[Step]:
    """The mean over the code of log decoder, log prior and minus log encoder."""
    decoder = HALF * (LOG_LIKELIHOOD - square(RESIDUAL - A * X, LIKELIHOOD) - dim_y * log(2 * pi))
    prior = HALF * (LOG_PRIOR - square(X, PRIOR) - dim * log(2 * pi))
    encoder = -HALF * (square(X - M_1, S_1.I) + log(Determinant(S_1)) + dim * log(2 * pi))
    codes = {X: (M_1, S_1)}
    yield MatrixIdentity("mean over the code", decoder + prior - encoder, claim, COVARIANCES, codes)
    yield _one_dimension(RECONSTRUCTION - TO_PRIOR, claim)


GAP_ND = HALF * (
    Trace(PRECISION * S_1) + square(M_1 - BEST, PRECISION) - dim - log(Determinant(S_1)) - LOG_PRECISION
)


@formula(
    "vae.gaussian_gap_nd",
    title="what a Gaussian encoder loses, any dimensions: its divergence from the posterior",
    lhs=sp.Symbol("gap", nonnegative=True),
    rhs=GAP_ND,
    citations=("S004:3.17", "Lucas2019:§4"),
    reference="refdiff.vae:LinearGaussian",
    uses=("vae.evidence", "vae.gaussian_evidence_nd", "vae.gaussian_elbo_nd", "gaussian.condition_mean_nd"),
    decoys=(
        Decoy(
            "prior", TO_PRIOR_ND, "likelihood", "the divergence from the prior"
        ),
        Decoy(
            "covariance", GAP_ND + HALF * (Trace(sp.Inverse(PRECISION) * S_1) - Trace(PRECISION * S_1)),
            "variance", "the posterior's covariance where its inverse belongs",
        ),
        Decoy("determinant-sign", GAP_ND + LOG_PRECISION, "sign", "the determinant upside down"),
    ),
    mutate=False,  # the grammar of mutations is one of numbers
)  # fmt: skip
def _gaussian_gap_nd(claim: sp.Expr) -> Iterator[Step]:
    """Evidence minus bound is the divergence from N(μ, (Λ + AᵀLA)⁻¹), the posterior of the code."""
    yield MatrixIdentity("evidence minus bound", claim, EVIDENCE_ND - ELBO_ND, COVARIANCES)
    stationary = PRECISION * BEST - A.T * LIKELIHOOD * RESIDUAL
    yield MatrixIdentity("the posterior's mean", stationary, sp.ZeroMatrix(dim, 1), COVARIANCES)
    yield _one_dimension(APART, claim)
