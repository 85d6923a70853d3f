"""Gaussian data: the probability-flow ODE solved, its map, its likelihood, and what a wrong prior costs.

Axiom: the score of Gaussian data with mean m and variance c, noised to a·x_0 + b·ε, is −(x − a·m)/(a²c + b²).
The scale a and the deviation b are arbitrary functions of time; a solution is put into the ODE and has the
right initial value.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import log, pi, sqrt

from derivations.gaussian import M_0, ONE, ROOT, SECOND_ROOT, ZERO, X, Z
from derivations.kit import (
    Decoy,
    DensityEqual,
    Expectation,
    Identity,
    LogDensity,
    Step,
    Substitution,
    formula,
    normal,
)
from derivations.kit.matrices import Given, MatrixIdentity
from derivations.symbols import (
    data_mean,
    data_variance,
    path_scale,
    path_scale_s,
    path_std,
    path_std_s,
    prior_variance,
    tau,
    x_s,
    x_t,
)

HALF = sp.Rational(1, 2)
V_T = path_scale**2 * data_variance + path_std**2
V_S = path_scale_s**2 * data_variance + path_std_s**2
MEAN_T, MEAN_S = path_scale * data_mean, path_scale_s * data_mean
FLOW = MEAN_S + sqrt(V_S / V_T) * (x_t - MEAN_T)
a, b = (sp.Function(name, positive=True)(tau) for name in ("a", "b"))
V = a**2 * data_variance + b**2
F = sp.diff(a, tau) / a
G_SQUARED = sp.diff(b**2, tau) - 2 * F * b**2
AT_TAU = {path_scale_s: a, path_std_s: b}
EPS_HAT = path_std * (x_t - MEAN_T) / V_T


@formula(
    "ode.gaussian_flow",
    title="the flow map of Gaussian data between two times, for any scale and deviation",
    lhs=x_s,
    rhs=FLOW,
    citations=("Song2021sde:13", "S004:8.19"),
    reference="refdiff.ode:gaussian_flow_map",
    uses=("ode.from_eps",),
    decoys=(
        Decoy("variance-ratio", MEAN_S + V_S / V_T * (x_t - MEAN_T), "sqrt", "the ratio of the variances"),
        Decoy("one-step", (path_scale_s * (x_t - path_std * EPS_HAT) / path_scale + path_std_s * EPS_HAT),
              "discretization", "one step with the noise predicted at its start", "S004:5.15"),
        Decoy("not-centred", sqrt(V_S / V_T) * x_t, "data-scaling", "data without a mean"),
        Decoy("noise-only", MEAN_S + path_std_s / path_std * (x_t - MEAN_T), "variance",
              "the variance of the data is forgotten: the map of a point mass"),
    ),
)  # fmt: skip
def _gaussian_flow(claim: sp.Expr) -> Iterator[Step]:
    """Measured in deviations of the noised law, the distance from its mean does not change. The claim as a
    function of its second time solves the ODE, is x_t where the times agree, and carries the law at t to the
    law at s. The right side of the ODE is linear, so there is no other solution."""
    path = claim.subs(AT_TAU)
    state = sp.Function("x", real=True)(tau)
    score = -(state - a * data_mean) / V
    equation = sp.diff(state, tau) - F * state + G_SQUARED / 2 * score
    yield Substitution("the ODE is solved", equation, {state: path})
    yield Identity("from x_t", claim.subs({path_scale_s: path_scale, path_std_s: path_std}), x_t)
    at_s = normal(claim, MEAN_S, V_S)
    slope = sp.diff(claim, x_t)
    there = LogDensity(at_s.exponent, at_s.factor * slope, at_s.latex())
    yield DensityEqual("the law is carried", there, normal(x_t, MEAN_T, V_T))


ROOTS = Given(symmetric=frozenset({ROOT, SECOND_ROOT}))
FLOW_ND = M_0 + SECOND_ROOT * ROOT.I * (X - M_0)


@formula(
    "ode.gaussian_flow_nd",
    title="the flow map of Gaussian data with full covariance, in units of the data, any dimension",
    lhs=sp.MatrixSymbol("x_s", X.rows, 1),
    rhs=FLOW_ND,
    citations=("Song2021sde:13",),
    reference="refdiff.ode:gaussian_flow_map",
    uses=("ode.gaussian_flow", "ode.one_ode"),
    decoys=(
        Decoy("covariance-ratio", M_0 + SECOND_ROOT * SECOND_ROOT * ROOT.I * ROOT.I * (X - M_0), "sqrt",
              "the covariances where their roots belong"),
        Decoy("not-centred", SECOND_ROOT * ROOT.I * X, "data-scaling", "data without a mean"),
        Decoy("backwards", M_0 + ROOT * SECOND_ROOT.I * (X - M_0), "index", "the times exchanged"),
        Decoy("half", M_0 + HALF * SECOND_ROOT * ROOT.I * (X - M_0), "variance", "half of it"),
    ),
    mutate=False,  # matrices: the decoys are made by hand
)  # fmt: skip
def _gaussian_flow_nd(claim: sp.MatrixExpr) -> Iterator[Step]:
    """In y = x/a every process is dy/du = ½V⁻¹(y − m) with u = σ² and V = Σ + uI. R, the positive root of V
    at the first time, and P, that at the second, are functions of Σ. The root moves with ½P⁻¹, since
    P·½P⁻¹ + ½P⁻¹·P = I is the rate of V. Put in, the claim solves the ODE; it starts at x, and carries R² to
    P². In the eigenbasis of Σ it is the map of numbers, coordinate by coordinate."""
    rate = HALF * SECOND_ROOT.I
    yield MatrixIdentity("the rate of the root", SECOND_ROOT * rate + rate * SECOND_ROOT, ONE, ROOTS)
    moved = _rate_in(claim, rate)
    precision = SECOND_ROOT.I * SECOND_ROOT.I
    yield MatrixIdentity("the ODE is solved", moved, HALF * precision * (claim - M_0), ROOTS)
    yield MatrixIdentity("from x", claim.subs(SECOND_ROOT, ROOT), X, ROOTS)
    apart = (claim - M_0).subs(X, M_0 + ROOT * Z)
    law = {Z: (ZERO, ONE)}
    yield MatrixIdentity("the law is carried", apart * apart.T, SECOND_ROOT * SECOND_ROOT, ROOTS, law)


def _rate_in(expr: sp.MatrixExpr, rate: sp.MatrixExpr) -> sp.MatrixExpr:
    """The derivative of a polynomial in the second root, factor by factor."""
    if expr == SECOND_ROOT:
        return rate
    if isinstance(expr, sp.Inverse) and expr.arg == SECOND_ROOT:
        return -expr * rate * expr
    if not expr.has(SECOND_ROOT):
        return sp.ZeroMatrix(*expr.shape)
    if isinstance(expr, sp.MatAdd):
        return sp.MatAdd(*(_rate_in(part, rate) for part in expr.args)).doit()
    if isinstance(expr, sp.MatPow):
        return _rate_in(sp.MatMul(*[expr.base] * int(expr.exp), evaluate=False), rate)
    parts = list(expr.args)
    terms = [
        sp.MatMul(*parts[:k], _rate_in(part, rate), *parts[k + 1 :])
        for k, part in enumerate(parts)
        if isinstance(part, sp.MatrixExpr) and part.has(SECOND_ROOT)
    ]
    return sp.MatAdd(*terms).doit()


LOG_DET = log(V_S / V_T) / 2


@formula(
    "ode.gaussian_log_det",
    title="logarithm of the flow map's slope for Gaussian data",
    lhs=sp.Symbol("log_J", real=True),
    rhs=LOG_DET,
    citations=("Song2021sde:39",),
    reference="refdiff.ode:gaussian_log_likelihood",
    uses=("ode.gaussian_flow", "ode.log_density_rate"),
    decoys=(
        Decoy("variances", log(V_S / V_T), "sqrt", "the ratio of the variances, not of the deviations"),
        Decoy("exchanged", log(V_T / V_S) / 2, "likelihood", "the other direction of time",
              "bayesflow PR#560"),
        Decoy("noise-only", log(path_std_s / path_std), "variance", "the map of a point mass"),
    ),
)  # fmt: skip
def _gaussian_log_det(claim: sp.Expr) -> Iterator[Step]:
    """The map is affine, so its slope is the ratio of the deviations. Its rate is the divergence of the
    velocity, f + ½g²/V, and it is zero where the times agree."""
    yield Identity("the slope of the map", sp.diff(FLOW, x_t) ** 2, sp.exp(2 * claim))
    yield Identity("the rate", sp.diff(claim.subs(AT_TAU), tau), F + G_SQUARED / 2 / V)
    yield Identity("no time, no change", claim.subs({path_scale_s: path_scale, path_std_s: path_std}), 0)


def log_normal(variable: sp.Expr, mean: sp.Expr, variance: sp.Expr) -> sp.Expr:
    """The logarithm of a normal density."""
    return -((variable - mean) ** 2) / (2 * variance) - log(2 * pi) / 2 - log(variance) / 2


LIKELIHOOD = log_normal(FLOW, sp.Integer(0), prior_variance) + LOG_DET
OF_DATA = log_normal(x_t, MEAN_T, V_T)


@formula(
    "ode.gaussian_likelihood",
    title="log-likelihood under the exact ODE of Gaussian data, from a normal prior",
    lhs=sp.Symbol("log_p", real=True),
    rhs=LIKELIHOOD,
    citations=("Song2021sde:39",),
    reference="refdiff.ode:gaussian_log_likelihood",
    uses=("ode.gaussian_log_det", "ode.change_of_variables"),
    decoys=(
        Decoy("divergence-subtracted", LIKELIHOOD - 2 * LOG_DET, "likelihood",
              "the divergence integrated in the other direction", "bayesflow PR#560"),
        Decoy("divergence-missing", LIKELIHOOD - LOG_DET, "likelihood", "the density of the code alone"),
        Decoy("of-the-data", OF_DATA, "likelihood",
              "the density of the data, which the ODE reaches from the right prior only"),
        Decoy("prior-not-normalised", LIKELIHOOD + log(2 * pi * prior_variance) / 2, "likelihood",
              "a prior without its normaliser"),
    ),
)  # fmt: skip
def _gaussian_likelihood(claim: sp.Expr) -> Iterator[Step]:
    """Prior density of the code plus the divergence along the path. It exceeds the density of the data by
    the log-ratio of the prior to the law at the end, at the code: the ratio stays along the path."""
    at_end = log_normal(FLOW, sp.Integer(0), prior_variance)
    yield Identity("change of variables", claim - at_end, LOG_DET)
    ratio = at_end - log_normal(FLOW, MEAN_S, V_S)
    yield Identity("against the density of the data", claim - OF_DATA, ratio)
    right = {data_mean: 0, prior_variance: V_S}
    yield Identity("the right prior gives the density of the data", claim.subs(right), OF_DATA.subs(right))


PRIOR_GAP = ((V_S + MEAN_S**2) / prior_variance - 1 - log(V_S / prior_variance)) / 2


@formula(
    "ode.prior_gap",
    title="nats that a normal prior costs on Gaussian data, on average",
    lhs=sp.Symbol("KL", nonnegative=True),
    rhs=PRIOR_GAP,
    citations=("Song2021mle:thm2",),
    uses=("ode.gaussian_likelihood", "gaussian.kl"),
    decoys=(
        Decoy("exchanged", (prior_variance / V_S + MEAN_S**2 / V_S - 1 - log(prior_variance / V_S)) / 2,
              "likelihood", "the divergence of the prior from the law"),
        Decoy("no-mean", PRIOR_GAP - MEAN_S**2 / (2 * prior_variance), "data-scaling",
              "the mean that is left at the end is forgotten"),
    ),
)  # fmt: skip
def _prior_gap(claim: sp.Expr) -> Iterator[Step]:
    """The mean of the log-density of the data minus that of the ODE is the divergence of the law at the end
    from the prior, whatever happens between: with the exact score nothing is lost on the way."""
    law = {x_t: (MEAN_T, V_T)}
    yield Expectation("mean over the data", OF_DATA - LIKELIHOOD, law, claim)
    right = {data_mean: 0, prior_variance: V_S}
    yield Identity("nothing for the right prior", claim.subs(right), sp.Integer(0))
