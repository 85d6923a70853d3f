"""The equations of sampling in the log-SNR λ, and their solutions up to one integral of the model.

Axioms: the drift f·x and the diffusion g of a process with scale(τ) and std(τ), f = scale'/scale and
g² = (std²)' − 2f·std², the probability-flow ODE dx = (f·x + g²/(2·std)·ε)dτ, and the reverse SDE with a share
η of its noise power. ε and x_0 are what a model says along the path, any functions of λ: nothing is assumed
of the model. scale(λ) is any positive function, and std = scale·exp(−λ).
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import exp

from derivations.kit import Decoy, Identity, Step, Substitution, formula
from derivations.symbols import eps, lambda_t, log_snr, sde_share, tau, x_0, x_t

A, B = (sp.Function(name, positive=True) for name in ("a", "b"))
"""scale and std."""
E, D, X, V = (sp.Function(name, real=True) for name in ("E", "D", "x", "v"))
"""Antiderivatives of exp(−λ)·ε and exp(λ)·x_0; the state; a variance."""
STD = A(log_snr) * exp(-log_snr)
STD_T = A(lambda_t) * exp(-lambda_t)

a, b = A(tau), B(tau)
DRIFT = sp.diff(a, tau) / a
DIFFUSION = sp.diff(b**2, tau) - 2 * DRIFT * b**2
SNR_SLOPE = sp.diff(sp.log(a / b), tau)


@formula(
    "solver.diffusion_log_snr",
    title="the squared diffusion: twice the variance of the noise times the fall of λ",
    lhs=sp.Symbol("g", positive=True) ** 2,
    rhs=-2 * b**2 * (sp.diff(a, tau) / a - sp.diff(b, tau) / b),
    citations=("Lu2022:3.3", "Kingma2021:2"),
    reference="refdiff.process:Process",
    decoys=(
        Decoy("rising", 2 * b**2 * (sp.diff(a, tau) / a - sp.diff(b, tau) / b), "sign",
              "the growth of λ where its fall belongs"),
        Decoy("whole-snr", -(b**2) * (sp.diff(a, tau) / a - sp.diff(b, tau) / b), "variance",
              "λ taken for the log of the signal-to-noise ratio, not half of it"),
        Decoy("deviation", -2 * b * (sp.diff(a, tau) / a - sp.diff(b, tau) / b), "sqrt",
              "the deviation where the variance belongs"),
    ),
)  # fmt: skip
def _diffusion_log_snr(claim: sp.Expr) -> Iterator[Step]:
    """The diffusion that a process with these marginals has; λ = log(scale/std)."""
    yield Identity("the diffusion of the process", claim, DIFFUSION)
    yield Identity("through the slope of λ", claim, -2 * b**2 * SNR_SLOPE)


@formula(
    "solver.ode_eps",
    title="the probability-flow ODE by the predicted noise",
    lhs=sp.Derivative(X(tau), tau),
    rhs=DRIFT * X(tau) - b * (sp.diff(a, tau) / a - sp.diff(b, tau) / b) * eps,
    citations=("Lu2022:2.7", "Lu2022:3.2", "S004:8.19"),
    reference="refdiff.solver:frame",
    uses=("solver.diffusion_log_snr",),
    decoys=(
        Decoy("sign", DRIFT * X(tau) + b * (sp.diff(a, tau) / a - sp.diff(b, tau) / b) * eps, "sign",
              "noise is added where it is taken away"),
        Decoy("reverse-sde", DRIFT * X(tau) - 2 * b * (sp.diff(a, tau) / a - sp.diff(b, tau) / b) * eps,
              "discretization", "the drift of the reverse SDE: ½ is missing"),
        Decoy("score", DRIFT * X(tau) - b**2 * (sp.diff(a, tau) / a - sp.diff(b, tau) / b) * eps,
              "parameterization", "the noise taken for minus the score"),
    ),
)  # fmt: skip
def _ode_eps(claim: sp.Expr) -> Iterator[Step]:
    """f·x − ½g²·score with the score −ε/std. The second term is std·ε times the slope of λ, so that λ serves
    as time whatever the process."""
    yield Identity("the ODE with the process's f and g", claim, DRIFT * X(tau) + DIFFUSION / (2 * b) * eps)
    yield Identity("λ as time", claim, DRIFT * X(tau) - b * SNR_SLOPE * eps)


@formula(
    "solver.ode_x_0",
    title="the probability-flow ODE by the predicted data",
    lhs=sp.Derivative(X(tau), tau),
    rhs=sp.diff(b, tau) / b * X(tau) + a * (sp.diff(a, tau) / a - sp.diff(b, tau) / b) * x_0,
    citations=("Lu2022pp:7",),
    reference="refdiff.solver:frame",
    uses=("solver.ode_eps",),
    decoys=(
        Decoy("drift-of-scale", DRIFT * X(tau) + a * (sp.diff(a, tau) / a - sp.diff(b, tau) / b) * x_0,
              "parameterization", "the linear part of the other prediction"),
        Decoy("sign", sp.diff(b, tau) / b * X(tau) - a * (sp.diff(a, tau) / a - sp.diff(b, tau) / b) * x_0,
              "sign", "the sign of the other prediction"),
        Decoy("std", sp.diff(b, tau) / b * X(tau) + b * (sp.diff(a, tau) / a - sp.diff(b, tau) / b) * x_0,
              "parameterization", "std where scale belongs"),
    ),
)  # fmt: skip
def _ode_x_0(claim: sp.Expr) -> Iterator[Step]:
    """The same ODE with ε = (x − scale·x_0)/std. Scale and std, noise and data, λ and −λ change places."""
    noise = (X(tau) - a * x_0) / b
    yield Identity("the noise through the data", claim, DRIFT * X(tau) - b * SNR_SLOPE * noise)


A_SLOPE = sp.diff(A(log_snr), log_snr) / A(log_snr)
EPS = exp(log_snr) * sp.diff(E(log_snr), log_snr)
X_0 = exp(-log_snr) * sp.diff(D(log_snr), log_snr)
SOLUTION_EPS = A(log_snr) / A(lambda_t) * x_t - A(log_snr) * (E(log_snr) - E(lambda_t))
SOLUTION_X_0 = STD / STD_T * x_t + STD * (D(log_snr) - D(lambda_t))


@formula(
    "solver.solution_eps",
    title="the solution by the predicted noise: E is an antiderivative of exp(−λ)·ε",
    lhs=X(log_snr),
    rhs=SOLUTION_EPS,
    citations=("Lu2022:prop3.1",),
    reference="refdiff.solver:frame",
    uses=("solver.ode_eps",),
    decoys=(
        Decoy("std-ratio", STD / STD_T * x_t - A(log_snr) * (E(log_snr) - E(lambda_t)), "parameterization",
              "the factor of x of the other prediction"),
        Decoy("not-scaled", A(log_snr) / A(lambda_t) * x_t - (E(log_snr) - E(lambda_t)), "discretization",
              "the integral without the scale where the step ends"),
        Decoy("scale-at-begin", A(log_snr) / A(lambda_t) * x_t - A(lambda_t) * (E(log_snr) - E(lambda_t)),
              "index", "the integral with the scale where the step begins"),
        Decoy("ratio-inverted", A(lambda_t) / A(log_snr) * x_t - A(log_snr) * (E(log_snr) - E(lambda_t)),
              "index", "the ratio of scales upside down"),
    ),
)  # fmt: skip
def _solution_eps(claim: sp.Expr) -> Iterator[Step]:
    """Variation of constants: it satisfies the ODE in λ and begins at x_t. A linear ODE has one such
    solution."""
    equation = sp.diff(X(log_snr), log_snr) - A_SLOPE * X(log_snr) + STD * EPS
    yield Substitution("satisfies the ODE", equation, {X(log_snr): claim})
    yield Identity("begins at x_t", claim.subs(log_snr, lambda_t), x_t)


@formula(
    "solver.solution_x_0",
    title="the solution by the predicted data: D is an antiderivative of exp(λ)·x_0",
    lhs=X(log_snr),
    rhs=SOLUTION_X_0,
    citations=("Lu2022pp:prop4.1",),
    reference="refdiff.solver:frame",
    uses=("solver.ode_x_0",),
    decoys=(
        Decoy("scale-ratio", A(log_snr) / A(lambda_t) * x_t + STD * (D(log_snr) - D(lambda_t)),
              "parameterization", "the factor of x of the other prediction"),
        Decoy("scale-for-std", STD / STD_T * x_t + A(log_snr) * (D(log_snr) - D(lambda_t)),
              "parameterization", "the integral with scale where std belongs"),
        Decoy("sign", STD / STD_T * x_t - STD * (D(log_snr) - D(lambda_t)), "sign",
              "the sign of the other prediction"),
    ),
)  # fmt: skip
def _solution_x_0(claim: sp.Expr) -> Iterator[Step]:
    """Variation of constants for the other form; where ε and x_0 belong together it is the same solution."""
    equation = sp.diff(X(log_snr), log_snr) - (A_SLOPE - 1) * X(log_snr) - A(log_snr) * X_0
    yield Substitution("satisfies the ODE", equation, {X(log_snr): claim})
    yield Identity("begins at x_t", claim.subs(log_snr, lambda_t), x_t)


VARIANCE_EPS = STD**2 * sde_share * (exp(2 * (log_snr - lambda_t)) - 1)
VARIANCE_X_0 = STD**2 * (1 - exp(-2 * sde_share * (log_snr - lambda_t)))


@formula(
    "solver.sde_variance_eps",
    title="the variance that the SDE adds when the predicted noise is kept",
    lhs=V(log_snr),
    rhs=VARIANCE_EPS,
    citations=("Lu2022pp:§5", "Song2021:6"),
    reference="refdiff.solver:frame",
    uses=("solver.diffusion_log_snr",),
    decoys=(
        Decoy("share-in-exponent", STD**2 * (exp(2 * sde_share * (log_snr - lambda_t)) - 1), "discretization",
              "the share in the exponent, where the other prediction has it"),
        Decoy("half-step", STD**2 * sde_share * (exp(log_snr - lambda_t) - 1), "variance",
              "h where 2h belongs"),
        Decoy("share-squared", STD**2 * sde_share**2 * (exp(2 * (log_snr - lambda_t)) - 1), "sqrt",
              "η² where η belongs"),
        Decoy("decaying", STD**2 * sde_share * (1 - exp(-2 * (log_snr - lambda_t))), "sign",
              "−h for h"),
    ),
)  # fmt: skip
def _sde_variance_eps(claim: sp.Expr) -> Iterator[Step]:
    """In λ, which grows as noise falls, the SDE is dx = (f·x − (1+η)·std·ε)dλ + √(2η)·std·dw: the linear part
    alone makes the variance grow. It satisfies v' = 2f·v + 2η·std² and begins at 0."""
    growth = 2 * A_SLOPE * V(log_snr) + 2 * sde_share * STD**2
    yield Substitution("satisfies its ODE", sp.diff(V(log_snr), log_snr) - growth, {V(log_snr): claim})
    yield Identity("begins at 0", claim.subs(log_snr, lambda_t), sp.Integer(0))


@formula(
    "solver.sde_variance_x_0",
    title="the variance that the SDE adds when the predicted data are kept",
    lhs=V(log_snr),
    rhs=VARIANCE_X_0,
    citations=("Lu2022pp:§5",),
    reference="refdiff.solver:frame",
    uses=("solver.diffusion_log_snr",),
    decoys=(
        Decoy("share-as-factor", STD**2 * sde_share * (1 - exp(-2 * (log_snr - lambda_t))), "discretization",
              "the share as a factor, which is η of DDIM squared"),
        Decoy("half-step", STD**2 * (1 - exp(-sde_share * (log_snr - lambda_t))), "variance",
              "h where 2h belongs"),
        Decoy("other-prediction", VARIANCE_EPS, "parameterization",
              "the variance of the other prediction"),
        Decoy("growing", STD**2 * (exp(2 * sde_share * (log_snr - lambda_t)) - 1), "sign", "−h for h",
              "huggingface/diffusers PR#14356"),
        Decoy("std-at-begin", STD_T**2 * (1 - exp(-2 * sde_share * (log_snr - lambda_t))), "index",
              "std where the step begins"),
    ),
)  # fmt: skip
def _sde_variance_x_0(claim: sp.Expr) -> Iterator[Step]:
    """With ε = (x − scale·x_0)/std the linear part becomes f − 1 − η, which forgets noise as it adds it."""
    growth = 2 * (A_SLOPE - 1 - sde_share) * V(log_snr) + 2 * sde_share * STD**2
    yield Substitution("satisfies its ODE", sp.diff(V(log_snr), log_snr) - growth, {V(log_snr): claim})
    yield Identity("begins at 0", claim.subs(log_snr, lambda_t), sp.Integer(0))


SDE_SOLUTION = STD / STD_T * exp(-sde_share * (log_snr - lambda_t)) * x_t
D_SHARE = exp(-(1 + sde_share) * log_snr) * sp.diff(D(log_snr), log_snr)


@formula(
    "solver.sde_mean_x_0",
    title="the mean of the SDE by the predicted data: D is an antiderivative of exp((1+η)λ)·x_0",
    lhs=X(log_snr),
    rhs=SDE_SOLUTION
    + (1 + sde_share) * STD * exp(-sde_share * log_snr) * (D(log_snr) - D(lambda_t)),
    citations=("Lu2022pp:§5",),
    reference="refdiff.solver:frame",
    uses=("solver.sde_variance_x_0", "solver.solution_x_0"),
    decoys=(
        Decoy("ode-gain", SDE_SOLUTION + STD * exp(-sde_share * log_snr) * (D(log_snr) - D(lambda_t)),
              "discretization", "1 + η is missing before the integral"),
        Decoy("ode-decay", SOLUTION_X_0, "discretization", "the mean of the ODE"),
    ),
)  # fmt: skip
def _sde_mean_x_0(claim: sp.Expr) -> Iterator[Step]:
    """x' = (f − 1 − η)x + (1 + η)·scale·x_0, from x_t; η = 0 gives the solution of the ODE."""
    drift = (A_SLOPE - 1 - sde_share) * X(log_snr) + (1 + sde_share) * A(log_snr) * D_SHARE
    yield Substitution("satisfies the ODE", sp.diff(X(log_snr), log_snr) - drift, {X(log_snr): claim})
    yield Identity("begins at x_t", claim.subs(log_snr, lambda_t), x_t)
    yield Identity("without noise", claim.subs(sde_share, 0), SOLUTION_X_0)
