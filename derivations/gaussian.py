"""Gaussian laws: maps, products, conditioning, density, entropy, divergence and distance.

Each statement comes twice: for matrices of any dimension (ids ending in ``_nd``) and for numbers, which is
the case d = 1 and the elementwise law of diagonal covariances. Axioms: a Gaussian is fixed by its mean and
covariance, E is linear, E[zzᵀ] = I for a standard normal z, and the determinant is multiplicative and 1 for
unit triangular blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import sympy as sp
from sympy import log, pi, sqrt
from sympy.matrices.expressions.determinant import Determinant
from sympy.matrices.expressions.trace import Trace

from derivations.kit import (
    Decoy,
    DensityEqual,
    Expectation,
    Identity,
    Inequality,
    Integral,
    LogDensity,
    Step,
    formula,
    normal,
)
from derivations.kit.matrices import Given, MatrixIdentity, matrix, one_dimensional
from derivations.symbols import (
    dim,
    dim_y,
    mean_0,
    mean_1,
    shift,
    slope,
    variance_0,
    variance_1,
    x,
    y,
    z,
)

HALF = sp.Rational(1, 2)
A = matrix("A", dim_y, dim, "matrix of an affine map")
B = matrix("b", dim_y, 1, "shift of an affine map", "b")
M_0 = matrix("mu_0", dim, 1, "mean of the first law, or of the prior", r"\mu_0")
M_1 = matrix("mu_1", dim, 1, "mean of the second law", r"\mu_1")
S_0 = matrix("S_0", dim, dim, "covariance of the first law", r"\Sigma_0")
S_1 = matrix("S_1", dim, dim, "covariance of the second law", r"\Sigma_1")
NOISE = matrix("Q", dim_y, dim_y, "covariance of added noise")
PRIOR = matrix("Lambda", dim, dim, "precision of the prior", r"\Lambda")
LIKELIHOOD = matrix("L", dim_y, dim_y, "precision of the observation")
X = matrix("x", dim, 1, "a point", "x")
Y = matrix("y", dim_y, 1, "an observation", "y")
Z = matrix("z", dim, 1, "standard normal noise", "z")
W = matrix("w", dim_y, 1, "noise of the observation", "w")
U = matrix("u", dim_y, 1, "argument of a characteristic function", "u")
ROOT = matrix("R", dim, dim, "a root of a covariance")
CROSS = matrix("C", dim, dim, "the positive root of R Σ₁ R", r"(R\Sigma_1R)^{1/2}")
QUARTER = matrix("K", dim, dim, "the positive root of C")
SECOND_ROOT = matrix("P", dim, dim, "the positive root of Σ₁", r"\Sigma_1^{1/2}")
OTHER = matrix("x_1", dim, 1, "a point of the second law", "y")
ZERO, ZERO_Y = sp.ZeroMatrix(dim, 1), sp.ZeroMatrix(dim_y, 1)
ONE, ONE_Y = sp.Identity(dim), sp.Identity(dim_y)

COVARIANCES = Given(symmetric=frozenset({S_0, S_1, NOISE, PRIOR, LIKELIHOOD}))
NUMBERS: Mapping[sp.MatrixSymbol, sp.Expr] = {
    A: slope,
    B: shift,
    M_0: mean_0,
    M_1: mean_1,
    S_0: variance_0,
    S_1: variance_1,
    NOISE: variance_1,
    PRIOR: 1 / variance_0,
    LIKELIHOOD: 1 / variance_1,
    X: x,
    Y: y,
    CROSS: sqrt(variance_0 * variance_1),
}


def square(vector: sp.MatrixExpr, weight: sp.MatrixExpr | None = None) -> sp.Expr:
    """The quadratic form of a vector, as a trace."""
    return Trace(vector.T * vector if weight is None else vector.T * weight * vector)


def _one_dimension(claim: sp.Expr, general: sp.Expr) -> Step:
    return Identity("the case d = 1 of any dimension", claim, one_dimensional(general, NUMBERS))


@formula(
    "gaussian.push_forward_mean_nd",
    title="mean of an affine image, any dimension",
    lhs=matrix("mean_y", dim_y, 1, "mean of an affine image", r"\mathrm E[y]"),
    rhs=A * M_0 + B,
    citations=("Bishop2006:2.115",),
    reference="refdiff.gaussian:affine_push_forward",
    decoys=(
        Decoy("no-shift", A * M_0, "variance", "the shift is forgotten"),
        Decoy("shift-inside", A * M_0 - B, "sign", "the shift with the wrong sign"),
    ),
    mutate=False,
)
def push_forward_mean_nd(claim: sp.Expr) -> Iterator[Step]:
    """E is linear and the noise has mean 0."""
    moments = {X: (M_0, S_0), W: (ZERO_Y, NOISE)}
    yield MatrixIdentity("E[Ax + b + w]", A * X + B + W, claim, COVARIANCES, moments)


@formula(
    "gaussian.push_forward_variance_nd",
    title="covariance of an affine image plus independent noise, any dimension",
    lhs=matrix("cov_y", dim_y, dim_y, "covariance of an affine image", r"\mathrm{Cov}[y]"),
    rhs=A * S_0 * A.T + NOISE,
    citations=("Bishop2006:2.115",),
    reference="refdiff.gaussian:affine_push_forward",
    decoys=(
        Decoy("no-noise", A * S_0 * A.T, "variance", "the added noise is forgotten"),
        Decoy("precision", A * S_0.I * A.T + NOISE, "variance", "a precision where a covariance belongs"),
        Decoy("noise-precision", A * S_0 * A.T + NOISE.I, "variance", "the noise's precision"),
        Decoy("minus", A * S_0 * A.T - NOISE, "sign", "variances subtracted"),
    ),
    mutate=False,
)
def push_forward_variance_nd(claim: sp.Expr) -> Iterator[Step]:
    """E of the outer product of the deviations; and the characteristic function, so the image is Gaussian."""
    moments = {X: (ZERO, S_0), W: (ZERO_Y, NOISE)}
    deviation = A * X + W
    yield MatrixIdentity("outer product", deviation * deviation.T, claim, COVARIANCES, moments)
    exponents = square(A.T * U, S_0) + square(U, NOISE)
    yield MatrixIdentity("exponents of the characteristic function", exponents, square(U, claim), COVARIANCES)


PRECISION = PRIOR + A.T * LIKELIHOOD * A
POSTERIOR = sp.Inverse(PRECISION)
RESIDUAL = Y - A * M_0 - B
EVIDENCE = LIKELIHOOD - LIKELIHOOD * A * POSTERIOR * A.T * LIKELIHOOD
GAIN = POSTERIOR * A.T * LIKELIHOOD


@formula(
    "gaussian.condition_variance_nd",
    title="covariance of x given y in the linear Gaussian model, any dimension",
    lhs=matrix("cov_x_y", dim, dim, "covariance of x given y", r"\mathrm{Cov}[x\mid y]"),
    rhs=POSTERIOR,
    citations=("Bishop2006:2.117",),
    reference="refdiff.gaussian:condition",
    decoys=(
        Decoy("precision", PRECISION, "variance", "the precision, not its inverse"),
        Decoy(
            "covariances",
            sp.Inverse(PRIOR.I + A.T * LIKELIHOOD * A),
            "variance",
            "a covariance among precisions",
            "sbi-dev/sbi PR#1636",
        ),
        Decoy("prior", PRIOR.I, "variance", "the observation is not used"),
        Decoy("sum", PRIOR.I + A.T * LIKELIHOOD.I * A, "variance", "covariances added where precisions add"),
    ),
    uses=("gaussian.push_forward_variance_nd",),
    mutate=False,
)
def condition_variance_nd(claim: sp.Expr) -> Iterator[Step]:
    """The precision is half the second derivative of the joint exponent, Λ + AᵀLA; the normalisers agree.

    The joint precision factors in two orders, x then y and y then x; unit triangular blocks have
    determinant 1, so |Λ|·|L| = |Σ⁻¹|·|M⁻¹|, where M is the covariance of y.
    """
    yield MatrixIdentity("inverse of the precision", claim * PRECISION, ONE, COVARIANCES)
    yield MatrixIdentity("from the other side", PRECISION * claim, ONE, COVARIANCES)
    observed = LIKELIHOOD.I + A * PRIOR.I * A.T
    schur = LIKELIHOOD - LIKELIHOOD * A * claim * A.T * LIKELIHOOD
    yield MatrixIdentity("precision of y (Woodbury)", observed * schur, ONE_Y, COVARIANCES)
    lower = -LIKELIHOOD * A * claim
    yield MatrixIdentity("joint precision, block xy", PRECISION * lower.T, -A.T * LIKELIHOOD, COVARIANCES)
    block = schur + lower * PRECISION * lower.T
    yield MatrixIdentity("joint precision, block yy", block, LIKELIHOOD, COVARIANCES)


@formula(
    "gaussian.condition_mean_nd",
    title="mean of x given y in the linear Gaussian model, any dimension",
    lhs=matrix("mean_x_y", dim, 1, "mean of x given y", r"\mathrm E[x\mid y]"),
    rhs=POSTERIOR * (A.T * LIKELIHOOD * (Y - B) + PRIOR * M_0),
    citations=("Bishop2006:2.116",),
    reference="refdiff.gaussian:condition",
    decoys=(
        Decoy(
            "shift-kept", POSTERIOR * (A.T * LIKELIHOOD * Y + PRIOR * M_0), "data-scaling", "b not subtracted"
        ),
        Decoy(
            "no-prior",
            POSTERIOR * A.T * LIKELIHOOD * (Y - B),
            "parameterization",
            "the prior mean is forgotten",
        ),
        Decoy(
            "covariance",
            POSTERIOR * (A.T * LIKELIHOOD.I * (Y - B) + PRIOR * M_0),
            "variance",
            "a covariance where a precision belongs",
        ),
        Decoy("not-multiplied", A.T * LIKELIHOOD * (Y - B) + PRIOR * M_0, "variance", "not multiplied by Σ"),
    ),
    uses=("gaussian.condition_variance_nd",),
    mutate=False,
)
def condition_mean_nd(claim: sp.Expr) -> Iterator[Step]:
    """Completing the square: the joint exponent is that of x given y plus that of y, for all x and y."""
    joint = square(X - M_0, PRIOR) + square(Y - A * X - B, LIKELIHOOD)
    apart = square(X - claim, PRECISION) + square(RESIDUAL, EVIDENCE)
    yield MatrixIdentity("the square completed", joint, apart, COVARIANCES)
    yield MatrixIdentity("as prior mean plus gain times residual", claim, M_0 + GAIN * RESIDUAL, COVARIANCES)
    observed = LIKELIHOOD.I + A * PRIOR.I * A.T
    yield MatrixIdentity("the gain with the covariance of y", GAIN * observed, PRIOR.I * A.T, COVARIANCES)


SUMMED = sp.Inverse(S_0.I + S_1.I)


@formula(
    "gaussian.product_variance_nd",
    title="covariance of the normalised product of two densities, any dimension",
    lhs=matrix("cov_product", dim, dim, "covariance of a product of densities", r"\Sigma_{01}"),
    rhs=SUMMED,
    citations=("Petersen2012:8.1.8",),
    reference="refdiff.gaussian:product",
    decoys=(
        Decoy("sum", S_0 + S_1, "variance", "that of the sum of two variables"),
        Decoy("precision", S_0.I + S_1.I, "variance", "the precision, not its inverse"),
        Decoy(
            "not-commuting",
            S_0 * S_1 * sp.Inverse(S_0 + S_1),
            "variance",
            "factors in an order that only commutes",
        ),
        Decoy(
            "one-inverse",
            sp.Inverse(S_0 + S_1.I),
            "variance",
            "one inverse is missing",
            "sbi-dev/sbi PR#1636",
        ),
    ),
    mutate=False,
)
def product_variance_nd(claim: sp.Expr) -> Iterator[Step]:
    """Exponents add, so precisions add; S_0(S_0+S_1)⁻¹S_1 is the same."""
    yield MatrixIdentity("precisions add", claim * (S_0.I + S_1.I), ONE, COVARIANCES)
    yield MatrixIdentity("parallel sum", claim * S_1.I * (S_0 + S_1), S_0, COVARIANCES)


@formula(
    "gaussian.product_mean_nd",
    title="mean of the normalised product of two densities, any dimension",
    lhs=matrix("mean_product", dim, 1, "mean of a product of densities", r"\mu_{01}"),
    rhs=SUMMED * (S_0.I * M_0 + S_1.I * M_1),
    citations=("Petersen2012:8.1.8",),
    reference="refdiff.gaussian:product",
    decoys=(
        Decoy("covariances", SUMMED * (S_0 * M_0 + S_1 * M_1), "variance", "weighted with covariances"),
        Decoy("middle", HALF * (M_0 + M_1), "variance", "not weighted"),
        Decoy("swapped", SUMMED * (S_1.I * M_0 + S_0.I * M_1), "index", "the weights exchanged"),
    ),
    uses=("gaussian.product_variance_nd",),
    mutate=False,
)
def product_mean_nd(claim: sp.Expr) -> Iterator[Step]:
    """Completing the square: what is left is the exponent of μ_0 − μ_1 with covariance S_0 + S_1."""
    joint = square(X - M_0, S_0.I) + square(X - M_1, S_1.I)
    rest = S_0.I - S_0.I * SUMMED * S_0.I
    apart = square(X - claim, S_0.I + S_1.I) + square(M_0 - M_1, rest)
    yield MatrixIdentity("the square completed", joint, apart, COVARIANCES)
    yield MatrixIdentity("the rest is the precision of a difference", rest * (S_0 + S_1), ONE, COVARIANCES)


def log_normal(point: sp.MatrixExpr, mean: sp.MatrixExpr, covariance: sp.MatrixExpr) -> sp.Expr:
    """The log of the normal density in any dimension."""
    form = square(point - mean, sp.Inverse(covariance))
    return -HALF * form - HALF * log(Determinant(covariance)) - dim * HALF * log(2 * pi)


@formula(
    "gaussian.log_density_nd",
    title="log of the normal density, any dimension",
    lhs=sp.Symbol("log_density", real=True),
    rhs=log_normal(X, M_0, S_0),
    citations=("Bishop2006:2.43",),
    reference="refdiff.gaussian:log_density",
    decoys=(
        Decoy(
            "half-of-log-det",
            log_normal(X, M_0, S_0) - HALF * log(Determinant(S_0)),
            "likelihood",
            "log of the determinant not halved",
        ),
        Decoy(
            "one-dimension",
            log_normal(X, M_0, S_0) + (dim - 1) * HALF * log(2 * pi),
            "likelihood",
            "2π counted once, not d times",
        ),
        Decoy("covariance", log_normal(X, M_0, S_0.I), "variance", "precision and covariance exchanged"),
        Decoy("plus", log_normal(X, M_0, S_0) + square(X - M_0, S_0.I), "sign", "the sign of the exponent"),
    ),
    mutate=False,
)
def log_density_nd(claim: sp.Expr) -> Iterator[Step]:
    """x = μ + Rz with RRᵀ = S turns it into d independent standard normals, |det R| being the Jacobian."""
    given = Given(where={S_0: ROOT * ROOT.T, X: M_0 + ROOT * Z})
    standard = -HALF * square(Z) - dim * HALF * log(2 * pi)
    yield MatrixIdentity("d standard normals", claim + log(Determinant(ROOT)), standard, given)
    one = normal(z, sp.Integer(0), sp.Integer(1))
    yield Integral("each has total 1", one, z, LogDensity(sp.Integer(0), sp.Integer(1)))


@formula(
    "gaussian.entropy_nd",
    title="differential entropy, any dimension",
    lhs=sp.Symbol("entropy", real=True),
    rhs=HALF * log(Determinant(S_0)) + dim * HALF * (1 + log(2 * pi)),
    citations=("Bishop2006:ex.2.15",),
    reference="refdiff.gaussian:entropy",
    decoys=(
        Decoy(
            "no-e",
            HALF * log(Determinant(S_0)) + dim * HALF * log(2 * pi),
            "likelihood",
            "E of the square forgotten",
        ),
        Decoy(
            "one-dimension",
            HALF * log(Determinant(S_0)) + HALF * (1 + log(2 * pi)),
            "likelihood",
            "d forgotten",
        ),
        Decoy(
            "whole-log-det",
            log(Determinant(S_0)) + dim * HALF * (1 + log(2 * pi)),
            "likelihood",
            "½ forgotten",
        ),
    ),
    uses=("gaussian.log_density_nd",),
    mutate=False,
)
def entropy_nd(claim: sp.Expr) -> Iterator[Step]:
    """E of minus the log-density; the square has mean d by linearity of E[zzᵀ]."""
    law = {X: (M_0, S_0)}
    yield MatrixIdentity("E of minus the log-density", -log_normal(X, M_0, S_0), claim, COVARIANCES, law)


RATIO = log(Determinant(S_1)) - log(Determinant(S_0))
DIVERGENCE = HALF * (RATIO + Trace(S_1.I * S_0) + square(M_1 - M_0, S_1.I) - dim)


@formula(
    "gaussian.kl_nd",
    title="Kullback–Leibler divergence of one Gaussian from another, any dimension",
    lhs=sp.Symbol("kl", nonnegative=True),
    rhs=DIVERGENCE,
    citations=("S004:4.6",),
    reference="refdiff.gaussian:kl",
    decoys=(
        Decoy(
            "exchanged",
            HALF * (-RATIO + Trace(S_0.I * S_1) + square(M_1 - M_0, S_0.I) - dim),
            "likelihood",
            "the divergence in the other direction",
        ),
        Decoy(
            "other-weight",
            HALF * (RATIO + Trace(S_1.I * S_0) + square(M_1 - M_0, S_0.I) - dim),
            "variance",
            "the means weighed with the first covariance",
        ),
        Decoy(
            "no-dimension",
            HALF * (RATIO + Trace(S_1.I * S_0) + square(M_1 - M_0, S_1.I)),
            "likelihood",
            "d not subtracted",
        ),
        Decoy(
            "log-ratio",
            HALF * (-RATIO + Trace(S_1.I * S_0) + square(M_1 - M_0, S_1.I) - dim),
            "sign",
            "the determinants the wrong way round",
        ),
        Decoy("not-halved", 2 * DIVERGENCE, "likelihood", "½ forgotten"),
        Decoy(
            "trace-product",
            HALF * (RATIO + Trace(S_1 * S_0) + square(M_1 - M_0, S_1.I) - dim),
            "variance",
            "an inverse is missing",
        ),
    ),
    uses=("gaussian.log_density_nd",),
    mutate=False,
)
def kl_nd(claim: sp.Expr) -> Iterator[Step]:
    """E under the first law of the difference of the log-densities; zero for equal laws."""
    difference = log_normal(X, M_0, S_0) - log_normal(X, M_1, S_1)
    yield MatrixIdentity("E of the log ratio", difference, claim, COVARIANCES, {X: (M_0, S_0)})
    equal = Given(COVARIANCES.symmetric - {S_1}, {S_1: S_0, M_1: M_0})
    yield MatrixIdentity("zero for equal laws", claim, sp.Integer(0), equal)


ROOTS = Given(
    symmetric=frozenset({ROOT, QUARTER}),
    where={CROSS: QUARTER * QUARTER, S_0: ROOT * ROOT, S_1: ROOT.I * CROSS * CROSS * ROOT.I},
)
TRANSPORT = ROOT.I * CROSS * ROOT.I
DISTANCE = square(M_0 - M_1) + Trace(S_0) + Trace(S_1) - 2 * Trace(CROSS)


@formula(
    "gaussian.w2_nd",
    title="squared 2-Wasserstein distance of two Gaussians, any dimension",
    lhs=sp.Symbol("w2", nonnegative=True) ** 2,
    rhs=DISTANCE,
    citations=("Dowson1982", "Takatsu2011"),
    reference="refdiff.gaussian:wasserstein_2_squared",
    decoys=(
        Decoy("once", DISTANCE + Trace(CROSS), "variance", "the cross term counted once"),
        Decoy("independent", DISTANCE + 2 * Trace(CROSS), "variance", "the cost of independent samples"),
        Decoy(
            "product",
            DISTANCE + 2 * Trace(CROSS) - 2 * Trace(S_0 * S_1),
            "sqrt",
            "the root of the product forgotten",
        ),
        Decoy(
            "roots", DISTANCE + 2 * Trace(CROSS) - 2 * Trace(ROOT * CROSS), "variance", "one root too many"
        ),
        Decoy("means-only", square(M_0 - M_1), "variance", "covariances forgotten"),
    ),
    mutate=False,
)
def w2_nd(claim: sp.Expr) -> Iterator[Step]:
    """T = R⁻¹CR⁻¹ is optimal, where R² = Σ_0 and C² = RΣ_1R (both roots positive).

    It maps the first law to the second at this cost. For any coupling of centred x and y, xᵀy is at most
    ½xᵀTx + ½yᵀT⁻¹y, since the difference is half a sum of squares, and that bound has the same mean.
    """
    yield MatrixIdentity("TΣ_0Tᵀ = Σ_1", TRANSPORT * S_0 * TRANSPORT.T, S_1, ROOTS)
    move = M_0 - M_1 + (ROOT - TRANSPORT * ROOT) * Z
    yield MatrixIdentity("cost of the map of μ_0 + Rz", square(move), claim, ROOTS, {Z: (ZERO, ONE)})
    gap = HALF * square(X, TRANSPORT) + HALF * square(OTHER, TRANSPORT.I) - Trace(X.T * OTHER)
    root = QUARTER.I * ROOT * (TRANSPORT * X - OTHER)
    yield MatrixIdentity("the bound exceeds xᵀy by a sum of squares", gap, HALF * square(root), ROOTS)
    bound = HALF * Trace(TRANSPORT * S_0) + HALF * Trace(TRANSPORT.I * S_1)
    least = square(M_0 - M_1) + Trace(S_0) + Trace(S_1) - 2 * bound
    yield MatrixIdentity("so no coupling costs less", least, claim, ROOTS)
    apart = square(ROOT - SECOND_ROOT)
    squares = Trace(ROOT * ROOT) + Trace(SECOND_ROOT * SECOND_ROOT) - 2 * Trace(ROOT * SECOND_ROOT)
    symmetric = Given(frozenset({ROOT, SECOND_ROOT}))
    yield MatrixIdentity(
        "where the roots commute, C = RP: the distance of the roots", apart, squares, symmetric
    )


@formula(
    "gaussian.push_forward_mean",
    title="mean of an affine image",
    lhs=sp.Symbol("mean_y", real=True),
    rhs=slope * mean_0 + shift,
    citations=("Bishop2006:2.115",),
    reference="refdiff.gaussian:affine_push_forward",
    decoys=(
        Decoy("no-shift", slope * mean_0, "variance", "the shift is forgotten"),
        Decoy("shift-scaled", slope * (mean_0 + shift), "data-scaling", "shifted before it is scaled"),
    ),
    uses=("gaussian.push_forward_mean_nd",),
)
def push_forward_mean(claim: sp.Expr) -> Iterator[Step]:
    """E is linear and the noise has mean 0."""
    moments = {x: (mean_0, variance_0), z: (sp.Integer(0), variance_1)}
    yield Expectation("E[ax + b + noise]", slope * x + shift + z, moments, claim)
    yield _one_dimension(claim, push_forward_mean_nd.rhs)


@formula(
    "gaussian.push_forward_variance",
    title="variance of an affine image plus independent noise",
    lhs=sp.Symbol("variance_y", positive=True),
    rhs=slope**2 * variance_0 + variance_1,
    citations=("S002:/4", "S004:§4.1/5", "Bishop2006:2.115"),
    reference="refdiff.gaussian:affine_push_forward",
    decoys=(
        Decoy("not-squared", slope * variance_0 + variance_1, "sqrt", "the factor is not squared"),
        Decoy("deviations", (slope * sqrt(variance_0) + sqrt(variance_1)) ** 2, "sqrt", "deviations added"),
        Decoy("no-noise", slope**2 * variance_0, "variance", "the added noise is forgotten"),
    ),
    uses=("gaussian.push_forward_mean", "gaussian.push_forward_variance_nd"),
)
def push_forward_variance(claim: sp.Expr) -> Iterator[Step]:
    """Integrate x out of the joint density: a normal density of this variance is left."""
    joint = normal(y, slope * x + shift, variance_1) * normal(x, mean_0, variance_0)
    yield Integral("x integrated out", joint, x, normal(y, slope * mean_0 + shift, claim))
    yield _one_dimension(claim, push_forward_variance_nd.rhs)


@formula(
    "gaussian.product_variance",
    title="variance of the normalised product of two densities",
    lhs=sp.Symbol("variance_product", positive=True),
    rhs=variance_0 * variance_1 / (variance_0 + variance_1),
    citations=("Petersen2012:8.1.8",),
    reference="refdiff.gaussian:product",
    decoys=(
        Decoy("sum", variance_0 + variance_1, "variance", "that of the sum of two variables", "S002:§5/6"),
        Decoy("precision", 1 / variance_0 + 1 / variance_1, "variance", "the precision", "S002:/14"),
        Decoy(
            "harmonic",
            2 * variance_0 * variance_1 / (variance_0 + variance_1),
            "variance",
            "the harmonic mean",
        ),
    ),
    uses=("gaussian.product_variance_nd",),
)
def product_variance(claim: sp.Expr) -> Iterator[Step]:
    """Precisions add; what the product is short of is the density of the difference of the means."""
    mean = (mean_0 * variance_1 + mean_1 * variance_0) / (variance_0 + variance_1)
    both = normal(x, mean_0, variance_0) * normal(x, mean_1, variance_1)
    rest = normal(mean_0, mean_1, variance_0 + variance_1)
    yield DensityEqual("product of densities", both, normal(x, mean, claim) * rest)
    yield _one_dimension(claim, product_variance_nd.rhs)


@formula(
    "gaussian.product_mean",
    title="mean of the normalised product of two densities",
    lhs=sp.Symbol("mean_product", real=True),
    rhs=(mean_0 * variance_1 + mean_1 * variance_0) / (variance_0 + variance_1),
    citations=("Petersen2012:8.1.8",),
    reference="refdiff.gaussian:product",
    decoys=(
        Decoy(
            "swapped",
            (mean_0 * variance_0 + mean_1 * variance_1) / (variance_0 + variance_1),
            "index",
            "each mean weighted with its own variance",
        ),
        Decoy("middle", (mean_0 + mean_1) / 2, "variance", "not weighted"),
        Decoy(
            "deviations",
            (mean_0 * sqrt(variance_1) + mean_1 * sqrt(variance_0)) / (sqrt(variance_0) + sqrt(variance_1)),
            "sqrt",
            "weighted with deviations",
        ),
    ),
    uses=("gaussian.product_variance", "gaussian.product_mean_nd"),
)
def product_mean(claim: sp.Expr) -> Iterator[Step]:
    """Where the exponent of the product is stationary."""
    both = normal(x, mean_0, variance_0) * normal(x, mean_1, variance_1)
    yield Identity("stationary point", sp.diff(both.exponent, x).subs(x, claim), sp.Integer(0))
    yield _one_dimension(claim, product_mean_nd.rhs)


CONDITIONED = variance_0 * variance_1 / (slope**2 * variance_0 + variance_1)


@formula(
    "gaussian.condition_variance",
    title="variance of x given y in the linear Gaussian model",
    lhs=sp.Symbol("variance_x_y", positive=True),
    rhs=CONDITIONED,
    citations=("Bishop2006:2.117", "S002:/14"),
    reference="refdiff.gaussian:condition",
    decoys=(
        Decoy(
            "precision",
            slope**2 / variance_1 + 1 / variance_0,
            "variance",
            "the precision, not its inverse",
            "S002:/14",
        ),
        Decoy(
            "not-squared",
            variance_0 * variance_1 / (slope * variance_0 + variance_1),
            "sqrt",
            "factor not squared",
        ),
        Decoy(
            "slope-missing",
            variance_0 * variance_1 / (variance_0 + variance_1),
            "data-scaling",
            "the factor forgotten",
            "azula 297b0a0",
        ),
        Decoy("prior", variance_0, "variance", "the observation is not used"),
    ),
    uses=("gaussian.push_forward_variance", "gaussian.condition_variance_nd"),
)
def condition_variance(claim: sp.Expr) -> Iterator[Step]:
    """Bayes' rule as equality of densities, with the normaliser; the observation never adds variance."""
    prior, likelihood = normal(x, mean_0, variance_0), normal(y, slope * x + shift, variance_1)
    evidence = normal(y, slope * mean_0 + shift, slope**2 * variance_0 + variance_1)
    mean = (slope * variance_0 * (y - shift) + variance_1 * mean_0) / (slope**2 * variance_0 + variance_1)
    yield DensityEqual("Bayes' rule", prior * likelihood / evidence, normal(x, mean, claim))
    yield _one_dimension(claim, condition_variance_nd.rhs)
    yield Inequality("at most the prior's", variance_0, ">", claim)


@formula(
    "gaussian.condition_mean",
    title="mean of x given y in the linear Gaussian model",
    lhs=sp.Symbol("mean_x_y", real=True),
    rhs=mean_0 + slope * variance_0 / (slope**2 * variance_0 + variance_1) * (y - slope * mean_0 - shift),
    citations=("Bishop2006:2.116",),
    reference="refdiff.gaussian:condition",
    decoys=(
        Decoy(
            "shift-kept",
            mean_0 + slope * variance_0 / (slope**2 * variance_0 + variance_1) * (y - slope * mean_0),
            "data-scaling",
            "the shift not subtracted",
        ),
        Decoy(
            "inverse-map", (y - shift) / slope, "parameterization", "the map inverted: the prior is not used"
        ),
        Decoy(
            "noise-forgotten",
            mean_0 + (y - slope * mean_0 - shift) / slope,
            "variance",
            "the noise forgotten",
        ),
    ),
    uses=("gaussian.condition_variance", "gaussian.condition_mean_nd"),
)
def condition_mean(claim: sp.Expr) -> Iterator[Step]:
    """Bayes' rule as equality of densities, with the normaliser."""
    prior, likelihood = normal(x, mean_0, variance_0), normal(y, slope * x + shift, variance_1)
    evidence = normal(y, slope * mean_0 + shift, slope**2 * variance_0 + variance_1)
    yield DensityEqual("Bayes' rule", prior * likelihood / evidence, normal(x, claim, CONDITIONED))
    yield _one_dimension(claim, condition_mean_nd.rhs)


LOG_DENSITY = -((x - mean_0) ** 2) / (2 * variance_0) - log(2 * pi * variance_0) / 2


@formula(
    "gaussian.log_density",
    title="log of the normal density",
    lhs=sp.Symbol("log_density", real=True),
    rhs=LOG_DENSITY,
    citations=("S004:4.11", "Bishop2006:2.42"),
    reference="refdiff.gaussian:Gaussian",
    decoys=(
        Decoy(
            "log-not-halved",
            -((x - mean_0) ** 2) / (2 * variance_0) - log(2 * pi * variance_0),
            "likelihood",
            "½ before the log forgotten",
        ),
        Decoy(
            "deviation",
            -((x - mean_0) ** 2) / (2 * sqrt(variance_0)) - log(2 * pi * variance_0) / 2,
            "sqrt",
            "divided by the deviation",
        ),
        Decoy(
            "no-two-pi",
            -((x - mean_0) ** 2) / (2 * variance_0) - log(variance_0) / 2,
            "likelihood",
            "2π forgotten",
        ),
    ),
    uses=("gaussian.log_density_nd",),
)
def log_density(claim: sp.Expr) -> Iterator[Step]:
    """Its exponential has total 1, its slope is −(x−μ)/v, and it is the case d = 1."""
    peak = claim.subs(x, mean_0)
    yield Identity("slope", sp.diff(claim, x), -(x - mean_0) / variance_0)
    bell = LogDensity(-((x - mean_0) ** 2) / (2 * variance_0), sp.exp(peak))
    yield Integral("total 1", bell, x, LogDensity(sp.Integer(0), sp.Integer(1)))
    yield _one_dimension(claim, log_density_nd.rhs)


@formula(
    "gaussian.entropy",
    title="differential entropy",
    lhs=sp.Symbol("entropy", real=True),
    rhs=log(2 * pi * sp.E * variance_0) / 2,
    citations=("Bishop2006:1.110",),
    reference="refdiff.gaussian:Gaussian",
    decoys=(
        Decoy("no-e", log(2 * pi * variance_0) / 2, "likelihood", "E of the square forgotten"),
        Decoy(
            "not-halved",
            log(2 * pi * sp.E * variance_0),
            "likelihood",
            "½ forgotten: deviation taken for variance",
        ),
        Decoy("bits", log(2 * pi * sp.E * variance_0) / (2 * log(2)), "likelihood", "in bits, not in nats"),
    ),
    uses=("gaussian.log_density", "gaussian.entropy_nd"),
)
def entropy(claim: sp.Expr) -> Iterator[Step]:
    """E of minus the log-density."""
    yield Expectation("E of minus the log-density", -LOG_DENSITY, {x: (mean_0, variance_0)}, claim)
    yield _one_dimension(claim, entropy_nd.rhs)


@formula(
    "gaussian.kl",
    title="Kullback–Leibler divergence of one Gaussian from another",
    lhs=sp.Symbol("kl", nonnegative=True),
    rhs=(log(variance_1 / variance_0) + (variance_0 + (mean_0 - mean_1) ** 2) / variance_1 - 1) / 2,
    citations=("S004:4.6", "Kingma2014:app.B"),
    reference="refdiff.gaussian:Gaussian",
    decoys=(
        Decoy(
            "exchanged",
            (log(variance_0 / variance_1) + (variance_1 + (mean_0 - mean_1) ** 2) / variance_0 - 1) / 2,
            "likelihood",
            "the divergence in the other direction",
        ),
        Decoy(
            "log-ratio",
            (log(variance_0 / variance_1) + (variance_0 + (mean_0 - mean_1) ** 2) / variance_1 - 1) / 2,
            "sign",
            "the variances the wrong way round in the log",
        ),
        Decoy(
            "deviations",
            (log(variance_1 / variance_0) / 2 + (variance_0 + (mean_0 - mean_1) ** 2) / variance_1 - 1) / 2,
            "sqrt",
            "log of deviations, still halved",
        ),
        Decoy(
            "other-strategy",
            (mean_0 - mean_1) ** 2 / (2 * variance_0),
            "variance",
            "the means weighed with another law's variance",
            "Tencent-Hunyuan/UniRL PR#38",
        ),
        Decoy(
            "no-one",
            (log(variance_1 / variance_0) + (variance_0 + (mean_0 - mean_1) ** 2) / variance_1) / 2,
            "likelihood",
            "d not subtracted",
        ),
    ),
    uses=("gaussian.log_density", "gaussian.kl_nd"),
)
def kl(claim: sp.Expr) -> Iterator[Step]:
    """E under the first law of the log ratio; zero for equal laws, and stationary there."""
    other = LOG_DENSITY.subs({mean_0: mean_1, variance_0: variance_1}, simultaneous=True)
    yield Expectation("E of the log ratio", LOG_DENSITY - other, {x: (mean_0, variance_0)}, claim)
    yield _one_dimension(claim, kl_nd.rhs)
    equal = {mean_1: mean_0, variance_1: variance_0}
    yield Identity("zero for equal laws", claim.subs(equal), sp.Integer(0))
    slope_in_variance = (variance_1 - variance_0 - (mean_0 - mean_1) ** 2) / (2 * variance_1**2)
    yield Identity("least at the moments", sp.diff(claim, variance_1), slope_in_variance)


@formula(
    "gaussian.w2",
    title="squared 2-Wasserstein distance",
    lhs=sp.Symbol("w2", nonnegative=True) ** 2,
    rhs=(mean_0 - mean_1) ** 2 + (sqrt(variance_0) - sqrt(variance_1)) ** 2,
    citations=("Dowson1982",),
    reference="refdiff.gaussian:wasserstein_2_squared",
    decoys=(
        Decoy(
            "variances",
            (mean_0 - mean_1) ** 2 + (variance_0 - variance_1) ** 2,
            "sqrt",
            "variances for deviations",
        ),
        Decoy(
            "independent", (mean_0 - mean_1) ** 2 + variance_0 + variance_1, "variance", "independent samples"
        ),
        Decoy(
            "absolute", (mean_0 - mean_1) ** 2 + variance_0 - variance_1, "sqrt", "difference of variances"
        ),
    ),
    uses=("gaussian.w2_nd",),
)
def w2(claim: sp.Expr) -> Iterator[Step]:
    """The monotone map reaches it; with k = √(v_1/v_0), xy ≤ ½(kx² + y²/k): no coupling is cheaper."""
    factor = sqrt(variance_1 / variance_0)
    image = mean_1 + factor * (x - mean_0)
    yield Expectation("cost of the monotone map", (x - image) ** 2, {x: (mean_0, variance_0)}, claim)
    gap = factor * x**2 / 2 + y**2 / (2 * factor) - x * y
    yield Identity("the bound exceeds xy by a square", gap, (factor * x - y) ** 2 / (2 * factor))
    bound = factor * variance_0 / 2 + variance_1 / (2 * factor)
    least = (mean_0 - mean_1) ** 2 + variance_0 + variance_1 - 2 * bound
    yield Identity("so no coupling costs less", least, claim)
    yield _one_dimension(claim, w2_nd.rhs)
