"""SDE variants of DPM-Solver and DPM-Solver++, with a share η of the noise power of the reverse SDE.

η = 0 is the ODE and η = 1 the reverse SDE. Variances of the noise are exact (``solver.sde_variance_eps``,
``solver.sde_variance_x_0``). The rules for the mean are those of the ODE with z = −(1+η)h and the gain
(1+η)·scale_s; local errors are along a path on which the model is smooth, which is what its mean sees.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import Rational, exp, sqrt

from derivations.ddim import GENERAL_STEP, NOISED, SIGMA
from derivations.ddpm import BETA_TILDE_S
from derivations.kit import Decoy, Identity, Step, formula
from derivations.solver_errors import ONE_BEFORE, TWO_BEFORE, declare, multistep
from derivations.solver_exponential import AT_BEGIN, BEND, DPM_1, DPMPP_1, DPMPP_2M, HEUN_2M
from derivations.solver_mirrored import DPM_2M
from derivations.solver_orders import (
    H,
    Jet,
    exact,
    exact_moments,
    half_moments,
    leading,
    model,
    phi,
    phi_jet,
    quadrature,
)
from derivations.symbols import (
    abar_s,
    abar_t,
    eps,
    eta,
    past_1,
    past_2,
    path_1,
    path_2,
    scale_s,
    scale_t,
    sde_share,
    sigma_t,
    std_s,
    std_t,
    value_1,
    value_2,
    value_t,
    x_0,
    x_s,
    x_t,
    z,
)
from derivations.symbols import lambda_step as h

K = (1 + sde_share) * h
"""The decay of a step with noise, in place of h."""
FADE = 1 - exp(-K)
BEND_FADE = 1 - FADE / K
"""K·φ_1(−K) and K·φ_2(−K)."""
FRESH_EPS = std_s * sqrt(sde_share * (exp(2 * h) - 1)) * z
FRESH = std_s * sqrt(1 - exp(-2 * sde_share * h)) * z
KEPT = std_s / std_t * exp(-sde_share * h) * x_t
MULTISTEP = "refdiff.solver:Multistep"


def noisy(rule: sp.Expr) -> sp.Expr:
    """The exact linear part, the gain times the rule, and the noise."""
    return KEPT + (1 + sde_share) * scale_s * rule + FRESH


SDE_DPM_1 = scale_s / scale_t * x_t - (1 + sde_share) * std_s * (exp(h) - 1) * eps + FRESH_EPS
SDE_DPMPP_1 = KEPT + scale_s * FADE * x_0 + FRESH


@formula(
    "solver.sde_dpm_1",
    title="SDE-DPM-Solver-1: the predicted noise is constant over the step",
    lhs=x_s,
    rhs=SDE_DPM_1,
    citations=("Lu2022pp:§5",),
    reference="refdiff.solver:frame",
    uses=("solver.dpm_1", "solver.sde_variance_eps"),
    decoys=(
        Decoy("ode-drift", DPM_1 + FRESH_EPS, "discretization", "1 + η is missing: the drift of the ODE"),
        Decoy("other-noise", SDE_DPM_1 - FRESH_EPS + FRESH, "variance", "the noise of the other prediction"),
        Decoy("variance-for-std", SDE_DPM_1 - FRESH_EPS + std_s * sde_share * (exp(2 * h) - 1) * z, "sqrt",
              "the root of the variance is missing"),
        Decoy("half-step", SDE_DPM_1 - FRESH_EPS + std_s * sqrt(sde_share * (exp(h) - 1)) * z, "variance",
              "h where 2h belongs"),
    ),
)  # fmt: skip
def _sde_dpm_1(claim: sp.Expr) -> Iterator[Step]:
    """The mean is that of the ODE with 1 + η times the integral; the variance is exact."""
    noise = sp.diff(claim, z)
    yield Identity("the mean", claim.subs(z, 0) - DPM_1, sde_share * (DPM_1 - DPM_1.subs(eps, 0)))
    yield Identity("linear in the noise", claim, claim.subs(z, 0) + noise * z)
    yield Identity("its variance", noise**2, std_s**2 * sde_share * (exp(2 * h) - 1))
    yield Identity("with the positive root", noise.subs(sde_share, 1), std_s * sqrt(exp(2 * h) - 1))


@formula(
    "solver.sde_dpmpp_1",
    title="SDE-DPM-Solver++(1): the predicted data are constant over the step",
    lhs=x_s,
    rhs=SDE_DPMPP_1,
    citations=("Lu2022pp:§5",),
    reference="refdiff.solver:frame",
    uses=("solver.dpmpp_1", "solver.sde_mean_x_0", "solver.sde_variance_x_0"),
    decoys=(
        Decoy("ode-mean", DPMPP_1 + FRESH, "discretization", "noise is added and none taken away"),
        Decoy("decay-missing", SDE_DPMPP_1 - KEPT + std_s / std_t * x_t, "discretization",
              "exp(−ηh) is missing"),
        Decoy("single-decay", KEPT + scale_s * (1 - exp(-h)) * x_0 + FRESH, "discretization",
              "h where (1+η)h belongs"),
        Decoy("share-as-factor", SDE_DPMPP_1 - FRESH + std_s * sqrt(sde_share * (1 - exp(-2 * h))) * z,
              "variance", "the share outside the exponent"),
        Decoy("half-step", SDE_DPMPP_1 - FRESH + std_s * sqrt(1 - exp(-sde_share * h)) * z, "variance",
              "h where 2h belongs"),
        Decoy("growing", SDE_DPMPP_1 - FRESH + std_s * sqrt(exp(2 * sde_share * h) - 1) * z, "sign",
              "h for −h under the root"),
    ),
)  # fmt: skip
def _sde_dpmpp_1(claim: sp.Expr) -> Iterator[Step]:
    """A constant leaves the integral; the marginals of perfect data are kept: the step takes scale_t·x_0 +
    std_t·ε to scale_s·x_0 and noise of variance std_s²."""
    rule = quadrature([0], [x_0], exact_moments(1, -K, phi))
    yield Identity("the exact part, one value and the noise", claim, noisy(rule))
    at = claim.subs(x_t, scale_t * x_0 + std_t * eps).subs(std_s, scale_s * std_t * exp(-h) / scale_t)
    end = scale_s * std_t * exp(-h) / scale_t
    yield Identity("the signal is kept", at.subs({eps: 0, z: 0}), scale_s * x_0)
    yield Identity("the variance is kept", sp.diff(at, eps) ** 2 + sp.diff(at, z) ** 2, end**2)


ABAR_T = abar_s * exp(-2 * h) / (1 - abar_s + abar_s * exp(-2 * h))
"""The signal power of the level that lies h in λ before s, in a variance-preserving chain."""
IN_ABAR = {scale_s: sqrt(abar_s), std_s: sqrt(1 - abar_s), std_t: sqrt(1 - abar_t)}


@formula(
    "solver.sde_dpmpp_1_is_ddim",
    title="SDE-DPM-Solver++(1) is the DDIM family's step with this standard deviation",
    lhs=sigma_t,
    rhs=sqrt(1 - abar_s) * sqrt(1 - exp(-2 * sde_share * h)),
    citations=("Lu2022pp:§5", "Song2021ddim:12"),
    reference="refdiff.solver:frame",
    uses=("solver.sde_dpmpp_1", "ddim.general_step"),
    decoys=(
        Decoy("share-as-factor", sqrt(1 - abar_s) * sqrt(sde_share * (1 - exp(-2 * h))), "variance",
              "the share taken for the square of DDIM's η"),
        Decoy("ancestral", sqrt(1 - abar_s) * sqrt(1 - exp(-2 * h)), "variance",
              "the deviation for η = 1"),
        Decoy("level-begin", sqrt(1 - ABAR_T) * sqrt(1 - exp(-2 * sde_share * h)), "index",
              "the level where the step begins"),
    ),
)  # fmt: skip
def _sde_dpmpp_1_is_ddim(claim: sp.Expr) -> Iterator[Step]:
    """Both steps at the same x_t = √ᾱ_t·x_0 + √(1−ᾱ_t)·ε: the coefficients of data, noise and fresh noise
    agree. At the end of a step of length h, ᾱ_s determines ᾱ_t."""
    family = GENERAL_STEP.subs({x_t: NOISED, sigma_t: claim})
    step = SDE_DPMPP_1.subs(x_t, NOISED).subs(IN_ABAR)
    for words, symbol in (("data", x_0), ("noise", eps), ("fresh noise", z)):
        one, other = (sp.diff(whole, symbol).subs(abar_t, ABAR_T) for whole in (family, step))
        yield Identity(f"coefficient of the {words}", one, other)


SNR_RATIO = abar_t * (1 - abar_s) / (abar_s * (1 - abar_t))
"""exp(−2h)."""


@formula(
    "solver.sde_ancestral",
    title="with η = 1 it is the ancestral step of DDPM: the variance",
    lhs=sp.Symbol("beta_tilde", positive=True),
    rhs=(1 - abar_s) * (1 - SNR_RATIO),
    citations=("Lu2022pp:§5", "Ho2020:7"),
    reference="refdiff.solver:frame",
    uses=("solver.sde_dpmpp_1_is_ddim", "ddpm.skip_posterior_variance"),
    decoys=(
        Decoy("root", (1 - abar_s) * (1 - sqrt(SNR_RATIO)), "sqrt", "exp(−h) for exp(−2h)"),
        Decoy("forward", (1 - abar_t) * (1 - SNR_RATIO), "index", "the variance of the level above"),
    ),
)  # fmt: skip
def _sde_ancestral(claim: sp.Expr) -> Iterator[Step]:
    """The square of that standard deviation, with exp(−2h) the ratio of signal-to-noise ratios, is the
    variance of the forward posterior between the levels."""
    yield Identity("the posterior variance", claim, BETA_TILDE_S)
    yield Identity("the variance of the step", claim.subs(abar_t, ABAR_T), (1 - abar_s) * (1 - exp(-2 * h)))


@formula(
    "solver.sde_eta",
    title="the η of DDIM that a share of the reverse SDE's noise stands for, squared",
    lhs=eta**2,
    rhs=(1 - exp(-2 * sde_share * h)) / (1 - exp(-2 * h)),
    citations=("Song2021ddim:16",),
    reference="refdiff.solver:frame",
    uses=("solver.sde_dpmpp_1_is_ddim", "ddim.sigma"),
    decoys=(
        Decoy("share", sde_share, "parameterization", "the share itself, right for 0, 1 and small steps"),
        Decoy("not-squared", sqrt((1 - exp(-2 * sde_share * h)) / (1 - exp(-2 * h))), "sqrt", "η for η²"),
        Decoy("half-step", (1 - exp(-sde_share * h)) / (1 - exp(-h)), "variance", "h where 2h belongs"),
    ),
)  # fmt: skip
def _sde_eta(claim: sp.Expr) -> Iterator[Step]:
    """σ² of the family by η², and of this step by its share; for small steps η² is the share."""
    by_eta = (SIGMA.subs(eta, 1) ** 2).subs(abar_t, ABAR_T)
    yield Identity("one variance", claim * by_eta, (1 - abar_s) * (1 - exp(-2 * sde_share * h)))


SDE_DPM_2M = SDE_DPM_1.subs(eps, (1 + 1 / (2 * past_1)) * value_t - value_1 / (2 * past_1))


@formula(
    "solver.sde_dpm_2m",
    title="SDE-DPM-Solver(2M), by the predicted noise",
    lhs=x_s,
    rhs=SDE_DPM_2M,
    citations=("Lu2022pp:§5",),
    reference=MULTISTEP,
    uses=("solver.sde_dpm_1", "solver.dpm_2m"),
    decoys=(
        Decoy("ode-mean", DPM_2M + FRESH_EPS, "discretization", "the mean of the ODE with the SDE's noise"),
        Decoy("ratio-inverted", SDE_DPM_2M.subs(past_1, 1 / past_1), "discretization",
              "the ratio of the steps upside down"),
        Decoy("values-exchanged", SDE_DPM_2M.subs({value_t: value_1, value_1: value_t}, simultaneous=True),
              "index", "the older value taken for the newer"),
        Decoy("second-term-once", SDE_DPM_2M
              + sde_share * std_s * (exp(h) - 1) * (value_t - value_1) / (2 * past_1), "discretization",
              "1 + η is missing before the difference"),
    ),
)  # fmt: skip
def _sde_dpm_2m(claim: sp.Expr) -> Iterator[Step]:
    """The rule of the ODE's method with 1 + η times the gain, and the noise of order 1."""
    rule = quadrature([0, -past_1], [value_t, value_1], half_moments(h, phi))
    whole = scale_s / scale_t * x_t - (1 + sde_share) * std_s * rule + FRESH_EPS
    yield Identity("the exact part, two values and the noise", claim, whole)
    yield Identity("without noise", claim.subs(sde_share, 0), DPM_2M)


SDE_2M = KEPT + scale_s * FADE * ((1 + 1 / (2 * past_1)) * value_t - value_1 / (2 * past_1)) + FRESH
SDE_2M_HEUN = KEPT + scale_s * (FADE * value_t + BEND_FADE * (value_t - value_1) / past_1) + FRESH


@formula(
    "solver.sde_dpmpp_2m",
    title="SDE-DPM-Solver++(2M), the midpoint type",
    lhs=x_s,
    rhs=SDE_2M,
    citations=("Lu2022pp:§5",),
    reference=MULTISTEP,
    uses=("solver.sde_dpmpp_1", "solver.dpmpp_2m"),
    decoys=(
        Decoy("ode-mean", DPMPP_2M + FRESH, "discretization", "the mean of the ODE with the SDE's noise"),
        Decoy("ratio-inverted", KEPT + scale_s * FADE * ((1 + past_1 / 2) * value_t - past_1 * value_1 / 2)
              + FRESH, "discretization", "the ratio of the steps upside down"),
        Decoy("values-exchanged", SDE_2M.subs({value_t: value_1, value_1: value_t}, simultaneous=True),
              "index", "the older value taken for the newer"),
        Decoy("single-decay", KEPT + scale_s * (1 - exp(-h)) * (
              (1 + 1 / (2 * past_1)) * value_t - value_1 / (2 * past_1)) + FRESH, "discretization",
              "h where (1+η)h belongs"),
    ),
)  # fmt: skip
def _sde_dpmpp_2m(claim: sp.Expr) -> Iterator[Step]:
    """The rule of DPM-Solver++(2M) with (1+η)h for h."""
    rule = quadrature([0, -past_1], [value_t, value_1], half_moments(-K, phi))
    yield Identity("the exact part, two values and the noise", claim, noisy(rule))
    yield Identity("without noise", claim.subs(sde_share, 0), DPMPP_2M)


@formula(
    "solver.sde_dpmpp_2m_heun",
    title="SDE-DPM-Solver++(2M), the Heun type",
    lhs=x_s,
    rhs=SDE_2M_HEUN,
    citations=("Lu2022pp:§5",),
    reference=MULTISTEP,
    uses=("solver.sde_dpmpp_2m", "solver.dpmpp_2m_heun"),
    decoys=(
        Decoy("midpoint", SDE_2M, "discretization", "the other type"),
        Decoy("step-in-phi", KEPT + scale_s * (FADE * value_t + (1 - FADE / h) * (value_t - value_1) / past_1)
              + FRESH, "discretization", "h where (1+η)h belongs in φ_2"),
        Decoy("sign", KEPT + scale_s * (FADE * value_t - BEND_FADE * (value_t - value_1) / past_1) + FRESH,
              "sign", "the second term negated"),
    ),
)  # fmt: skip
def _sde_dpmpp_2m_heun(claim: sp.Expr) -> Iterator[Step]:
    """Both moments exact."""
    rule = quadrature([0, -past_1], [value_t, value_1], exact_moments(2, -K, phi))
    yield Identity("the exact part, two values and the noise", claim, noisy(rule))
    yield Identity("without noise", claim.subs(sde_share, 0), HEUN_2M)


def sde_3m(on_bend: sp.Expr) -> sp.Expr:
    """A third-order step with this factor of the second difference."""
    return KEPT + scale_s * (FADE * value_t + BEND_FADE * AT_BEGIN + on_bend * BEND) + FRESH


PHI_3 = Rational(1, 2) - BEND_FADE / K
"""K·φ_3(−K)."""


@formula(
    "solver.sde_dpmpp_3m",
    title="SDE-DPM-Solver++(3M)",
    lhs=x_s,
    rhs=sde_3m(2 * PHI_3),
    citations=("Lu2022pp:§5",),
    reference=MULTISTEP,
    uses=("solver.sde_dpmpp_2m_heun", "solver.dpmpp_3m"),
    decoys=(
        Decoy("second-difference-halved", sde_3m(PHI_3), "discretization",
              "the second difference taken for the second derivative, which is twice it",
              "huggingface/diffusers PR#1132"),
        Decoy("minus-half", sde_3m((FADE - K) / K**2 - Rational(1, 2)), "sign", "−½ where ½ belongs",
              "huggingface/diffusers PR#9104"),
    ),
)  # fmt: skip
def _sde_dpmpp_3m(claim: sp.Expr) -> Iterator[Step]:
    """The parabola through three values, its second derivative twice the second difference."""
    places, values = [0, -past_1, -past_1 - past_2], [value_t, value_1, value_2]
    rule = quadrature(places, values, exact_moments(3, -K, phi))
    yield Identity("the exact part, three values and the noise", claim, noisy(rule))


RATE = -(1 + sde_share)
declare(
    "sde_dpmpp_2m", "local error of the mean of SDE-DPM-Solver++(2M), the midpoint type",
    lambda: multistep(RATE, ONE_BEFORE, half_moments(RATE, phi_jet)), 2,
    -(1 + sde_share) * path_1 / 12 - path_2 / 6 - past_1 * path_2 / 4,
)  # fmt: skip
declare(
    "sde_dpmpp_2m_heun", "local error of the mean of SDE-DPM-Solver++(2M), the Heun type",
    lambda: multistep(RATE, ONE_BEFORE, exact_moments(2, RATE, phi_jet)), 2,
    -path_2 / 6 - past_1 * path_2 / 4,
)  # fmt: skip


@formula(
    "solver.sde_3m_sign_error",
    title="with −½ in the last function the third-order SDE step has order 1",
    lhs=sp.Symbol("E_2", real=True),
    rhs=-path_2 / (2 * (1 + sde_share)),
    citations=("huggingface/diffusers PR#9104",),
    reference=MULTISTEP,
    uses=("solver.sde_dpmpp_3m",),
    decoys=(Decoy("none", sp.S.Zero, "discretization", "no error of this order"),),
)  # fmt: skip
def _sde_3m_sign_error(claim: sp.Expr) -> Iterator[Step]:
    """The factor of the second difference tends to −1 instead of 0, and that times h²·m''/2 stays in the
    mean, whatever the steps before."""
    moments = [H * moment for moment in (phi_jet(1, RATE), phi_jet(2, RATE), phi_jet(3, RATE))]
    moments[2] = moments[2] - Jet.of(1 / (1 + sde_share))
    values = [model(place) for place in TWO_BEFORE]
    error = quadrature(TWO_BEFORE, values, moments, sp.S.One) - exact(RATE)
    yield from leading(error, 1, claim)
