"""Score matching without noise: Fisher divergence, explicit (Hyvärinen) and sliced losses.

Axioms: E is linear, a direction v has E[vvᵀ] = I, and p·s vanishes at infinity, so that the integral of its
derivative is zero. What is proved is an identity at each point up to that derivative; it holds for one
coordinate while the others are fixed, and for any number of them by induction. The score of a quadratic
energy is −H(x − μ_1); H need not be symmetric, so every affine score is one.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy.matrices.expressions.trace import Trace

from derivations.gaussian import HALF, M_0, M_1, S_0, X, square
from derivations.kit import Decoy, Expectation, Identity, Induction, Step, formula
from derivations.kit.matrices import Given, MatrixIdentity, matrix
from derivations.symbols import (
    H_11,
    H_12,
    H_21,
    H_22,
    dim,
    i,
    mean_0,
    mean_1,
    score_hat_1,
    score_hat_2,
    u_1,
    u_2,
    v_1,
    v_2,
    variance_0,
    variance_1,
    x,
)

UNIT = (sp.Integer(0), sp.Integer(1))
LOSS = sp.Symbol("J", real=True)
p = sp.Function("p", positive=True)(x)
s_x = sp.Function("s", real=True)(x)
energy = sp.Function("E", real=True)(x)
s, g, J = (sp.Function(name, real=True) for name in ("s", "g", "J"))
H = matrix("H", dim, dim, "minus the slope of an affine score", "H")
COVARIANCE = Given(symmetric=frozenset({S_0}))

FISHER = ((variance_0 - variance_1) ** 2 / variance_0 + (mean_0 - mean_1) ** 2) / (2 * variance_1**2)


@formula(
    "score_matching.fisher_divergence",
    title="Fisher divergence of one Gaussian from another",
    lhs=sp.Symbol("D_F", nonnegative=True),
    rhs=FISHER,
    citations=("Hyvarinen2005:2", "S004:1.8"),
    reference="refdiff.score_matching:gaussian_fisher_divergence",
    decoys=(
        Decoy(
            "exchanged",
            ((variance_0 - variance_1) ** 2 / variance_1 + (mean_0 - mean_1) ** 2) / (2 * variance_0**2),
            "likelihood", "the divergence in the other direction",
        ),
        Decoy(
            "variances-only", (variance_0 - variance_1) ** 2 / (2 * variance_0 * variance_1**2), "likelihood",
            "the distance of the means is forgotten",
        ),
        Decoy(
            "kl", (sp.log(variance_1 / variance_0) + variance_0 / variance_1 - 1
            + (mean_0 - mean_1) ** 2 / variance_1) / 2, "likelihood", "the Kullback–Leibler divergence",
        ),
    ),
)  # fmt: skip
def _fisher_divergence(claim: sp.Expr) -> Iterator[Step]:
    """E under the first law of ½ times the squared difference of the scores; zero for equal laws."""
    first, second = (-(x - m) / v for m, v in ((mean_0, variance_0), (mean_1, variance_1)))
    law = {x: (mean_0, variance_0)}
    yield Expectation("mean over the first law", (first - second) ** 2 / 2, law, claim)
    equal = {mean_1: mean_0, variance_1: variance_0}
    yield Identity("zero for equal laws", claim.subs(equal), sp.Integer(0))


P = S_0.I
MISFIT = H - P
FISHER_ND = HALF * Trace(MISFIT * S_0 * MISFIT.T) + HALF * square(H * (M_0 - M_1))


@formula(
    "score_matching.fisher_divergence_nd",
    title="Fisher divergence of an affine score from a Gaussian, any dimension",
    lhs=sp.Symbol("D_F", nonnegative=True),
    rhs=FISHER_ND,
    citations=("Hyvarinen2005:2", "S004:1.8"),
    reference="refdiff.score_matching:gaussian_fisher_divergence",
    decoys=(
        Decoy("transposed", FISHER_ND - HALF * square(H * (M_0 - M_1)) + HALF * square(H.T * (M_0 - M_1)),
              "state-broadcast", "the slope from the wrong side"),
        Decoy("not-weighted", HALF * Trace(MISFIT * MISFIT.T) + HALF * square(H * (M_0 - M_1)), "variance",
              "the covariance of the data is missing"),
        Decoy("not-halved", 2 * FISHER_ND, "loss-weight", "½ is missing"),
        Decoy("covariance", FISHER_ND.subs(P, S_0), "variance", "a covariance where a precision belongs"),
    ),
    mutate=False,  # matrices: the decoys are made by hand
)  # fmt: skip
def fisher_divergence_nd(claim: sp.Expr) -> Iterator[Step]:
    """E under the Gaussian of ½|∇log p − s|². Zero for H the precision and μ_1 the mean."""
    difference = -P * (X - M_0) + H * (X - M_1)
    law = {X: (M_0, S_0)}
    yield MatrixIdentity("mean over the data", HALF * square(difference), claim, COVARIANCE, law)
    best = Given(COVARIANCE.symmetric, {H: P, M_1: M_0})
    yield MatrixIdentity("zero for the score of the data", claim, sp.Integer(0), best)


@formula(
    "score_matching.explicit",
    title="explicit score matching, one coordinate: the Fisher divergence without the score of the data",
    lhs=LOSS,
    rhs=s_x**2 / 2 + sp.diff(s_x, x),
    citations=("Hyvarinen2005:thm1", "S004:1.9"),
    reference="refdiff.score_matching:explicit_loss",
    decoys=(
        Decoy("slope-subtracted", s_x**2 / 2 - sp.diff(s_x, x), "sign", "the slope with the wrong sign",
              "S004:1.9"),
        Decoy("slope-halved", s_x**2 / 2 + sp.diff(s_x, x) / 2, "loss-weight", "½ before both terms",
              "S004:1.9"),
        Decoy("not-halved", s_x**2 + sp.diff(s_x, x), "loss-weight", "½ of the square is missing"),
        Decoy("score-for-slope", s_x**2 / 2 + s_x, "parameterization", "the score where its slope belongs"),
    ),
)  # fmt: skip
def _explicit(claim: sp.Expr) -> Iterator[Step]:
    """For any density p and any score s of a model. Expand ½(∂log p − s)²: the cross term p·∂log p·s is
    ∂p·s, a total derivative minus p·∂s. The square of the data's own score does not depend on s; the
    total derivative integrates to zero where p·s vanishes at infinity."""
    data_score = sp.diff(p, x) / p
    fisher = p * (data_score - s_x) ** 2 / 2
    rest = p * data_score**2 / 2
    yield Identity("up to a total derivative", fisher, p * claim + rest - sp.diff(p * s_x, x))


def over_coordinates(term: sp.Expr, last: sp.Expr = dim) -> sp.Expr:
    """A term summed over the coordinates 1..last."""
    return sp.Sum(term, (i, 1, last))


EXPLICIT_ND = over_coordinates(s(i) ** 2 / 2 + J(i, i))


@formula(
    "score_matching.explicit_nd",
    title="explicit score matching, any dimension: half the squared score plus the trace of its Jacobian",
    lhs=LOSS,
    rhs=EXPLICIT_ND,
    citations=("Hyvarinen2005:thm1", "S004:1.9"),
    reference="refdiff.score_matching:explicit_loss",
    uses=("score_matching.explicit",),
    decoys=(
        Decoy("sum-before-square", over_coordinates(s(i)) ** 2 / 2 + over_coordinates(J(i, i)),
              "state-broadcast", "the coordinates of the score are added before they are squared"),
        Decoy("trace-subtracted", over_coordinates(s(i) ** 2 / 2 - J(i, i)), "sign",
              "the trace with the wrong sign", "S004:1.9"),
        Decoy("trace-halved", over_coordinates(s(i) ** 2 + J(i, i)) / 2, "loss-weight",
              "½ before both terms", "S004:1.9"),
        Decoy("next-coordinate", over_coordinates(s(i) ** 2 / 2 + J(i, i + 1)), "index",
              "entries beside the diagonal"),
    ),
)  # fmt: skip
def _explicit_nd(claim: sp.Expr) -> Iterator[Step]:
    """Coordinate by coordinate. With g = ∇log p, the derivative of p·s_i along coordinate i is
    p·(g_i·s_i + J_ii) by the product rule; so one more coordinate adds its own term to each side. The sum
    of these derivatives is the divergence of p·s, which integrates to zero."""
    one = sp.Function("p", positive=True)(x) * sp.Function("s", real=True)(x)
    product = p * (sp.diff(p, x) / p * s_x + sp.diff(s_x, x))
    yield Identity("divergence, one coordinate", sp.diff(one, x), product)
    known = sp.Symbol("fisher", real=True)
    step = (g(dim + 1) - s(dim + 1)) ** 2 / 2
    yield Induction(
        "½|g − s|² = claim + ½|g|² − divergence/p",
        ((g(1) - s(1)) ** 2 / 2, _up_to_divergence(claim, sp.Integer(1))),
        (known + step, _up_to_divergence(claim, dim + 1)),
        {known: _up_to_divergence(claim, dim)},
    )


def _up_to_divergence(claim: sp.Expr, last: sp.Expr) -> sp.Expr:
    """The claim in so many dimensions, plus what the data alone contribute, minus the divergence over p."""
    return (
        claim.subs(dim, last)
        + over_coordinates(g(i) ** 2 / 2, last)
        - over_coordinates(g(i) * s(i) + J(i, i), last)
    )


@formula(
    "score_matching.explicit_energy",
    title="explicit score matching of an energy, one coordinate",
    lhs=LOSS,
    rhs=sp.diff(energy, x) ** 2 / 2 - sp.diff(energy, x, 2),
    citations=("Hyvarinen2005:thm1",),
    reference="refdiff.score_matching:explicit_loss",
    uses=("score_matching.explicit",),
    decoys=(
        Decoy("laplacian-added", sp.diff(energy, x) ** 2 / 2 + sp.diff(energy, x, 2), "sign",
              "the second derivative of the energy with the sign of that of the log-density", "S004:1.9"),
        Decoy("laplacian-halved", (sp.diff(energy, x) ** 2 - sp.diff(energy, x, 2)) / 2, "loss-weight",
              "½ before both terms", "S004:1.9"),
    ),
)  # fmt: skip
def _explicit_energy(claim: sp.Expr) -> Iterator[Step]:
    """The score of p = exp(−E)/Z is −E', so its slope is −E'' and enters with a minus."""
    model_score = -sp.diff(energy, x)
    yield Identity("the score put in", claim, model_score**2 / 2 + sp.diff(model_score, x))


S_1, S_2 = -(H_11 * u_1 + H_12 * u_2), -(H_21 * u_1 + H_22 * u_2)
EXPLICIT_PLANE = (S_1**2 + S_2**2) / 2 - H_11 - H_22


@formula(
    "score_matching.explicit_plane",
    title="explicit score matching of a quadratic energy in the plane, at a point",
    lhs=LOSS,
    rhs=EXPLICIT_PLANE,
    citations=("Hyvarinen2005:thm1", "S004:1.9"),
    reference="refdiff.score_matching:explicit_loss",
    uses=("score_matching.explicit_nd",),
    decoys=(
        Decoy("sum-before-square", (S_1 + S_2) ** 2 / 2 - H_11 - H_22, "state-broadcast",
              "the coordinates of the score are added before they are squared"),
        Decoy("all-entries", (S_1**2 + S_2**2) / 2 - H_11 - H_12 - H_21 - H_22, "state-broadcast",
              "the gradient of the sum of the score: every entry of the Jacobian, not its trace"),
        Decoy("trace-added", (S_1**2 + S_2**2) / 2 + H_11 + H_22, "sign", "the trace with the wrong sign",
              "S004:1.9"),
        Decoy("trace-halved", (S_1**2 + S_2**2 - H_11 - H_22) / 2, "loss-weight", "½ before both terms",
              "S004:1.9"),
        Decoy("mean", ((S_1**2 + S_2**2) / 2 - H_11 - H_22) / 2, "loss-weight",
              "the mean over the dimensions where the sum belongs"),
        Decoy("mean-square", (S_1**2 + S_2**2) / 4 - H_11 - H_22, "loss-weight",
              "the mean of the squares beside the sum of the slopes"),
    ),
)  # fmt: skip
def _explicit_plane(claim: sp.Expr) -> Iterator[Step]:
    """The score is −Hu, and its Jacobian −H."""
    slopes = sp.diff(S_1, u_1) + sp.diff(S_2, u_2)
    yield Identity("square and trace", claim, (S_1**2 + S_2**2) / 2 + slopes)


EXPLICIT_GAUSSIAN = HALF * Trace(H * S_0 * H.T) + HALF * square(H * (M_0 - M_1)) - Trace(H)


@formula(
    "score_matching.explicit_gaussian_nd",
    title="explicit loss of a quadratic energy on data with a mean and a covariance, any dimension",
    lhs=LOSS,
    rhs=EXPLICIT_GAUSSIAN,
    citations=("Hyvarinen2005:§3.1",),
    reference="refdiff.score_matching:explicit_loss",
    uses=("score_matching.explicit_nd", "score_matching.fisher_divergence_nd"),
    decoys=(
        Decoy("trace-added", EXPLICIT_GAUSSIAN + 2 * Trace(H), "sign", "the trace with the wrong sign",
              "S004:1.9"),
        Decoy("trace-halved", EXPLICIT_GAUSSIAN + HALF * Trace(H), "loss-weight", "½ before both terms",
              "S004:1.9"),
        Decoy("no-mean", HALF * Trace(H * S_0 * H.T) - Trace(H), "variance", "the centres are taken for one"),
        Decoy("transposed", HALF * Trace(H.T * S_0 * H) + HALF * square(H * (M_0 - M_1)) - Trace(H),
              "state-broadcast", "the slope from the wrong side"),
    ),
    mutate=False,  # matrices: the decoys are made by hand
)  # fmt: skip
def explicit_gaussian_nd(claim: sp.Expr) -> Iterator[Step]:
    """Only two moments of the data enter. The square completed: the loss is the Fisher divergence minus
    half the trace of the precision, so H = Σ_0⁻¹ and μ_1 = μ_0 alone minimise it, symmetric or not."""
    score = -H * (X - M_1)
    law = {X: (M_0, S_0)}
    yield MatrixIdentity("mean over the data", HALF * square(score) - Trace(H), claim, COVARIANCE, law)
    completed = FISHER_ND - HALF * Trace(P)
    yield MatrixIdentity("the square completed", claim, completed, COVARIANCE)


PROJECTED = v_1 * S_1 + v_2 * S_2
CURVED = v_1**2 * H_11 + v_1 * v_2 * (H_12 + H_21) + v_2**2 * H_22


@formula(
    "score_matching.sliced_plane",
    title="sliced score matching of a quadratic energy in the plane, at a point and along a direction",
    lhs=LOSS,
    rhs=PROJECTED**2 / 2 - CURVED,
    citations=("Song2019ssm:7",),
    reference="refdiff.score_matching:sliced_loss",
    uses=("score_matching.explicit_nd",),
    decoys=(
        Decoy("elementwise", ((v_1 * S_1) ** 2 + (v_2 * S_2) ** 2) / 2 - CURVED, "state-broadcast",
              "the coordinates are squared before they are added"),
        Decoy("diagonal-only", PROJECTED**2 / 2 - v_1**2 * H_11 - v_2**2 * H_22, "state-broadcast",
              "the entries beside the diagonal are lost"),
        Decoy("once", PROJECTED**2 / 2 - v_1 * (H_11 + H_21) - v_2 * (H_12 + H_22), "likelihood",
              "the direction multiplies the Jacobian on one side only"),
    ),
)  # fmt: skip
def _sliced_plane(claim: sp.Expr) -> Iterator[Step]:
    """One dimension of explicit score matching, the direction v: the score along v is v·s, and its slope
    along v is v·∇(v·s). Along a coordinate it is that coordinate's term."""
    slope = v_1 * sp.diff(PROJECTED, u_1) + v_2 * sp.diff(PROJECTED, u_2)
    yield Identity("the score along v", claim, PROJECTED**2 / 2 + slope)
    along = claim.subs({v_1: 1, v_2: 0})
    yield Identity("along a coordinate", along, S_1**2 / 2 + sp.diff(S_1, u_1))


@formula(
    "score_matching.sliced_reduced_plane",
    title="sliced score matching with the square in full, of a quadratic energy in the plane",
    lhs=LOSS,
    rhs=(S_1**2 + S_2**2) / 2 - CURVED,
    citations=("Song2019ssm:8",),
    reference="refdiff.score_matching:sliced_loss",
    uses=("score_matching.sliced_plane",),
    decoys=(
        Decoy("sliced", PROJECTED**2 / 2 - CURVED, "likelihood", "the square along the direction"),
        Decoy("sum-before-square", (S_1 + S_2) ** 2 / 2 - CURVED, "state-broadcast",
              "the coordinates of the score are added before they are squared"),
    ),
)  # fmt: skip
def _sliced_reduced_plane(claim: sp.Expr) -> Iterator[Step]:
    """The mean of (v·s)² is |s|², which needs no direction; the slope along v stays."""
    slope = v_1 * sp.diff(PROJECTED, u_1) + v_2 * sp.diff(PROJECTED, u_2)
    yield Identity("the square in full", claim, (S_1**2 + S_2**2) / 2 + slope)
    both = {v_1: UNIT, v_2: UNIT}
    yield Expectation("mean over Gaussian directions", claim, both, EXPLICIT_PLANE)


M = sp.Function("M", real=True)
"""½·s·sᵀ + J: the sliced loss is the quadratic form vᵀMv."""


def signs(form: sp.Expr, *directions: sp.Symbol) -> sp.Expr:
    """The mean over all signs of the directions: a Rademacher vector."""
    for direction in directions:
        form = (form.subs(direction, 1) + form.subs(direction, -1)) / 2
    return form


@formula(
    "score_matching.sliced",
    title="the sliced loss is the explicit loss on average over directions, any dimension",
    lhs=LOSS,
    rhs=EXPLICIT_ND,
    citations=("Song2019ssm:thm1", "Hutchinson1990"),
    reference="refdiff.score_matching:sliced_loss",
    uses=("score_matching.explicit_nd",),
    decoys=(
        Decoy("per-dimension", EXPLICIT_ND / dim, "loss-weight", "the mean over unit vectors: E[vvᵀ] = I/d"),
        Decoy("sum-before-square", over_coordinates(s(i)) ** 2 / 2 + over_coordinates(J(i, i)),
              "state-broadcast", "the coordinates of the score are added before they are squared"),
    ),
)  # fmt: skip
def _sliced(claim: sp.Expr) -> Iterator[Step]:
    """½(v·s)² + vᵀJv is the form vᵀMv with M = ½ssᵀ + J. One more coordinate w adds w·R, where R is linear
    in the other coordinates, and w²·M_dd. Since w has mean 0 and variance 1 and is independent of the
    others, the mean grows by M_dd: for a standard normal w by its moments, for w of 1 or −1 by enumeration.
    Any law with E[vvᵀ] = I gives the same mean, as the form is linear in vvᵀ."""
    w, form, cross = sp.symbols("w Q R", real=True)
    known = sp.Symbol("mean", real=True)
    entry = s(dim + 1) ** 2 / 2 + J(dim + 1, dim + 1)
    grown = form + w * cross + w**2 * entry
    yield Expectation("one more normal coordinate", grown, {w: UNIT}, form + entry)
    yield Identity("one more random sign", signs(grown, w), form + entry)
    first = s(1) ** 2 / 2 + J(1, 1)
    yield Induction(
        "the mean of the form is the trace of M",
        (first, claim.subs(dim, 1)),
        (known + entry, claim.subs(dim, dim + 1)),
        {known: claim},
    )
    a, b, c, d = sp.symbols("a b c d", real=True)
    plane = v_1**2 * a + v_1 * v_2 * (b + c) + v_2**2 * d
    yield Expectation("two normal coordinates", plane, {v_1: UNIT, v_2: UNIT}, a + d)
    yield Identity("two random signs", signs(plane, v_1, v_2), a + d)
    second = {v_1**2: 1, v_1 * v_2: 0, v_2**2: 1}
    yield Identity("any law with E[vvᵀ] = I", sp.Add(*(m * plane.coeff(v) for v, m in second.items())), a + d)


VARIANCE = 2 * H_11**2 + 2 * H_22**2 + (H_12 + H_21) ** 2


@formula(
    "score_matching.sliced_variance",
    title="variance of the trace estimate of sliced score matching, Gaussian directions in the plane",
    lhs=sp.Symbol("V", nonnegative=True),
    rhs=VARIANCE,
    citations=("Hutchinson1990", "Song2019ssm:§3"),
    reference="refdiff.score_matching:sliced_loss",
    uses=("score_matching.sliced",),
    decoys=(
        Decoy("random-signs", (H_12 + H_21) ** 2, "variance", "that of random signs, without the diagonal"),
        Decoy("not-symmetrised", 2 * (H_11**2 + H_12**2 + H_21**2 + H_22**2), "variance",
              "the Jacobian where its symmetric part belongs"),
    ),
)  # fmt: skip
def _sliced_variance(claim: sp.Expr) -> Iterator[Step]:
    """E[(vᵀHv)²] − (tr H)², by the fourth moments; twice the squared Frobenius norm of the symmetric part.
    Random signs lose the diagonal: v_i² = 1 is no noise. In any dimension one more coordinate w adds
    2wR + w²m to the form Q, with m on the diagonal and E[R²] the squares beside it: the variance grows by
    2m² + 4E[R²]."""
    both = {v_1: UNIT, v_2: UNIT}
    trace = H_11 + H_22
    yield Expectation("fourth moments", CURVED**2, both, claim + trace**2)
    beside = (H_12 + H_21) ** 2
    yield Identity("random signs", signs(CURVED**2, v_1, v_2) - trace**2, beside)
    yield Identity("the diagonal is what they lose", claim - beside, 2 * H_11**2 + 2 * H_22**2)
    w, form, cross, m = sp.symbols("w Q R m", real=True)
    grown = form + 2 * w * cross + w**2 * m
    second = form**2 + 2 * form * m + 3 * m**2 + 4 * cross**2
    yield Expectation("one more coordinate", grown**2, {w: UNIT}, second)
    mean, spread, squares = sp.symbols("t F n", real=True)
    known = {form**2: mean**2 + 2 * spread, cross**2: squares}
    expected = (second - 2 * form * m).subs(known) + 2 * mean * m
    more = (mean + m) ** 2 + 2 * (spread + m**2 + 2 * squares)
    yield Identity("the norm of the larger matrix", expected, more)


@formula(
    "score_matching.sliced_variance_gap",
    title="variance that the full square takes from the sliced loss, Gaussian directions in the plane",
    lhs=sp.Symbol("V", real=True),
    rhs=(score_hat_1**2 + score_hat_2**2) ** 2 / 2
    - 2 * (score_hat_1**2 * H_11 + score_hat_1 * score_hat_2 * (H_12 + H_21) + score_hat_2**2 * H_22),
    citations=("Song2019ssm:§3",),
    reference="refdiff.score_matching:sliced_loss",
    uses=("score_matching.sliced_variance",),
    decoys=(
        Decoy("square-only", (score_hat_1**2 + score_hat_2**2) ** 2 / 2, "variance",
              "the two terms taken for independent: always a gain"),
    ),
)  # fmt: skip
def _sliced_variance_gap(claim: sp.Expr) -> Iterator[Step]:
    """Variance of ½(v·s)² − vᵀHv minus that of vᵀHv: ½|s|⁴ − 2sᵀHs, in any dimension. It can be negative
    (s = (1, 0), H = I), so the form with the full square is not always the better one."""
    both = {v_1: UNIT, v_2: UNIT}
    along = v_1 * score_hat_1 + v_2 * score_hat_2
    half = (score_hat_1**2 + score_hat_2**2) / 2
    trace = H_11 + H_22
    sliced = claim + VARIANCE + (half - trace) ** 2
    yield Expectation("fourth moments", (along**2 / 2 - CURVED) ** 2, both, sliced)
    example = {score_hat_1: 1, score_hat_2: 0, H_11: 1, H_12: 0, H_21: 0, H_22: 1}
    yield Identity("a loss of precision", claim.subs(example), -sp.Rational(3, 2))
    rank_one = HALF * X * X.T
    whole, curvature = Trace((rank_one - H) * (rank_one - H)), Trace(H * H)
    gap = sp.Rational(1, 4) * Trace(X * X.T * X * X.T) - Trace(X.T * H * X)
    yield MatrixIdentity("any dimension", whole - curvature, gap, Given(frozenset({H})))
