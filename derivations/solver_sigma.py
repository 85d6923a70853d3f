r"""Solvers in σ, the noise over the signal: the ODE, Euler's and Heun's steps, and ancestral steps.

Axioms: x = x_0 + σε with ε independent of the data, so that the density p(x, σ) spreads like heat; and the
reverse step of the DDIM family. These formulas belong to the topic ``solver``.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import sqrt

from derivations.ddim import SIGMA, STEP
from derivations.ddpm import SKIP_MEAN
from derivations.kit import (
    Decoy,
    Identity,
    Inequality,
    Series,
    Step,
    Substitution,
    formula,
    normal,
)
from derivations.kit.zero import close
from derivations.symbols import (
    abar_s,
    abar_t,
    bend,
    data_variance,
    eps,
    eta,
    h,
    sig_s,
    sig_t,
    sigma,
    x,
    x_0,
    x_0_hat,
    x_0_hat_s,
    x_s,
    x_t,
    x_ve,
    z,
)

FALLS = sp.Lt(sig_s, sig_t)
IN_SIGMA = {abar_t: 1 / (1 + sig_t**2), abar_s: 1 / (1 + sig_s**2)}
"""The signal power of a variance-preserving level, from its σ."""


@formula(
    "solver.pf_ode_sigma",
    title="the probability-flow ODE in σ: the slope of x is the predicted noise",
    lhs=sp.Derivative(x_ve, sigma),
    rhs=(x_ve - x_0_hat) / sigma,
    citations=("Karras2022:1", "Karras2022:3", "S004:8.24", "S004:8.26"),
    reference="refdiff.solver:eps_from_denoiser",
    decoys=(
        Decoy("in-variance", (x_ve - x_0_hat) / (2 * sigma**2), "discretization",
              "the slope in σ² where that in σ belongs", "S004:8.20"),
        Decoy("reverse-sde", 2 * (x_ve - x_0_hat) / sigma, "discretization",
              "the drift of the reverse SDE in the ODE"),
        Decoy("score", (x_0_hat - x_ve) / sigma**2, "parameterization", "the score for the slope"),
    ),
)  # fmt: skip
def _pf_ode_sigma(claim: sp.Expr) -> Iterator[Step]:
    """Noise of variance σ² spreads each point of the data like heat, ∂p/∂σ = σ·∂²p/∂x², hence any density.
    The perfect prediction is x + σ²·∂log p/∂x. A flow with slope v keeps the density when ∂p/∂σ + ∂(vp)/∂x
    vanishes; with the claim for v it does, for any p. More coordinates add their own terms to both sides."""
    point = normal(x, x_0, sigma**2)
    kernel = point.factor * sp.exp(point.exponent)
    spread = sp.diff(kernel, sigma) - sigma * sp.diff(kernel, x, 2)
    yield Identity("a point of the data spreads like heat", spread / kernel, sp.Integer(0))
    p = sp.Function("p", positive=True)(x, sigma)
    slope = close(claim).subs({x_0_hat: x_ve + sigma**2 * sp.diff(p, x) / p}).subs(x_ve, x)
    flux = sp.diff(slope * p, x)
    yield Identity("the flow keeps the density", sigma * sp.diff(p, x, 2) + flux, sp.Integer(0))
    yield Identity("no slope without noise", claim.subs(x_ve, x_0_hat), sp.Integer(0))
    yield Identity("linear in the prediction", sp.diff(claim, x_0_hat), -1 / sigma)


@formula(
    "solver.euler_sigma",
    title="Euler's step in σ, by the predicted data",
    lhs=x_s,
    rhs=sig_s / sig_t * x_ve + (1 - sig_s / sig_t) * x_0_hat,
    citations=("Karras2022:alg1", "S004:8.23"),
    reference="refdiff.solver:RungeKutta",
    uses=("solver.pf_ode_sigma", "ddim.euler_in_sigma"),
    assumptions=(FALLS,),
    decoys=(
        Decoy("levels-swapped", sig_t / sig_s * x_ve + (1 - sig_t / sig_s) * x_0_hat, "index",
              "σ_t/σ_s, a step upwards"),
        Decoy("slope-at-end", x_ve + (sig_s - sig_t) * (x_ve - x_0_hat) / sig_s, "index",
              "the slope divided by the level where the step ends"),
        Decoy("in-variance", sig_s**2 / sig_t**2 * x_ve + (1 - sig_s**2 / sig_t**2) * x_0_hat,
              "discretization", "the mean of the ancestral step: Euler for the reverse SDE"),
        Decoy("in-log-sigma", x_ve + sp.log(sig_s / sig_t) * (x_ve - x_0_hat), "discretization",
              "Euler's step in log σ"),
    ),
)  # fmt: skip
def _euler_sigma(claim: sp.Expr) -> Iterator[Step]:
    """The slope times the fall of σ. It is the deterministic step of DDIM for x/√ᾱ. A step of −h leaves
    h²·x''/2 of the exact solution, and nothing where the predicted data do not change."""
    slope = (x_ve - x_0_hat) / sig_t
    yield Identity("the slope where the step begins", claim, x_ve + (sig_s - sig_t) * slope)
    ddim = (STEP.subs({eta: 0, x_t: sqrt(abar_t) * x_ve}) / sqrt(abar_s)).subs(eps, slope)
    yield Identity("the deterministic step of DDIM", claim, close(ddim).subs(IN_SIGMA))
    along = x_0_hat + sig_t * eps - h * eps + h**2 * bend / 2
    rest = along - claim.subs(x_ve, x_0_hat + sig_t * eps).subs(sig_s, sig_t - h)
    yield Series("the error of one step", rest, h, 3, h**2 * bend / 2)


@formula(
    "solver.edm_heun",
    title="Heun's step in σ, by the data predicted at both ends",
    lhs=x_s,
    rhs=x_ve + (sig_s - sig_t) / 2
    * ((x_ve - x_0_hat) / sig_t
       + (sig_s / sig_t * x_ve + (1 - sig_s / sig_t) * x_0_hat - x_0_hat_s) / sig_s),
    citations=("Karras2022:alg1",),
    reference="refdiff.solver:RungeKutta",
    uses=("solver.euler_sigma",),
    assumptions=(FALLS,),
    decoys=(
        Decoy("first-level-twice", x_ve + (sig_s - sig_t) / 2
              * ((x_ve - x_0_hat) / sig_t
                 + (sig_s / sig_t * x_ve + (1 - sig_s / sig_t) * x_0_hat - x_0_hat_s) / sig_t),
              "index", "the second slope divided by the level of the first", "diffusers PR#1512"),
        Decoy("state-not-moved", x_ve + (sig_s - sig_t) / 2
              * ((x_ve - x_0_hat) / sig_t + (x_ve - x_0_hat_s) / sig_s),
              "index", "the second slope at the state where the step begins"),
        Decoy("backward-euler", x_ve + (sig_s - sig_t)
              * (sig_s / sig_t * x_ve + (1 - sig_s / sig_t) * x_0_hat - x_0_hat_s) / sig_s,
              "discretization", "the second slope alone"),
    ),
)  # fmt: skip
def _edm_heun(claim: sp.Expr) -> Iterator[Step]:
    """The mean of the slopes at both ends of Euler's step; where the two predictions agree it is that step,
    which is then exact. For data that are predicted as D_0 + D_1·(σ − σ_t) the exact solution is known, and
    the step leaves an error of third order: Euler's step alone leaves one of second."""
    euler = sig_s / sig_t * x_ve + (1 - sig_s / sig_t) * x_0_hat
    first, second = (x_ve - x_0_hat) / sig_t, (euler - x_0_hat_s) / sig_s
    yield Identity("the mean of two slopes", claim, x_ve + (sig_s - sig_t) * (first + second) / 2)
    yield Identity("one prediction", claim.subs(x_0_hat_s, x_0_hat), euler)
    d_0, d_1 = sp.symbols("D_0 D_1", real=True)
    predicted = d_0 + d_1 * (sigma - sig_t)
    path = sp.Function("x", real=True)(sigma)
    c = sp.Symbol("c", real=True)
    solution = c * sigma + d_0 - d_1 * sig_t - d_1 * sigma * sp.log(sigma)
    yield Substitution("the exact solution", sp.diff(path, sigma) - (path - predicted) / sigma,
                       {path: solution})  # fmt: skip
    exact = {x_ve: solution.subs(sigma, sig_t), x_0_hat: d_0, x_0_hat_s: d_0 - h * d_1}
    error = (solution.subs(sigma, sig_t - h) - claim.subs(exact).subs(sig_s, sig_t - h)).expand()
    yield Series("an error of third order", error, h, 4, d_1 / (3 * sig_t**2) * h**3)


UP = eta * sig_s * sqrt(sig_t**2 - sig_s**2) / sig_t
DOWN = sqrt(sig_s**2 - UP**2)


@formula(
    "solver.ancestral_up",
    title="deviation of the fresh noise of an ancestral step in σ",
    lhs=sp.Symbol("sigma_up"),
    rhs=UP,
    citations=("conventions:k-diffusion", "Song2021:47"),
    reference="refdiff.solver:ancestral_deviations",
    uses=("ddim.sigma",),
    assumptions=(FALLS,),
    decoys=(
        Decoy("forward", eta * sqrt(sig_t**2 - sig_s**2), "variance",
              "the forward deviation between the levels: reverse diffusion", "S004:8.13"),
        Decoy("levels-swapped", eta * sig_t * sqrt(sig_t**2 - sig_s**2) / sig_s, "index",
              "σ_t/σ_s for σ_s/σ_t"),
        Decoy("deviations-subtracted", eta * sig_s * (sig_t - sig_s) / sig_t, "sqrt",
              "the difference of the levels for the root of that of their squares"),
        Decoy("variance", eta**2 * sig_s**2 * (sig_t**2 - sig_s**2) / sig_t**2, "sqrt",
              "the variance for the deviation"),
    ),
)  # fmt: skip
def _ancestral_up(claim: sp.Expr) -> Iterator[Step]:
    """The deviation of the DDIM family over √ᾱ_s, with ᾱ = 1/(1+σ²). For η = 1 its square is the variance of
    x_s given x_t and the data, two Gaussian views of the data multiplied: precisions 1/σ_s² and
    1/(σ_t² − σ_s²) of x_s add."""
    yield Identity("the family of DDIM", claim, close(SIGMA / sqrt(abar_s)).subs(IN_SIGMA))
    precision = 1 / sig_s**2 + 1 / (sig_t**2 - sig_s**2)
    yield Identity("precisions add", claim**2 * precision, eta**2)
    yield Inequality("the positive root", claim, ">=", sp.Integer(0))


@formula(
    "solver.ancestral_down",
    title="the level that the deterministic part of an ancestral step goes down to",
    lhs=sp.Symbol("sigma_down"),
    rhs=DOWN,
    citations=("conventions:k-diffusion",),
    reference="refdiff.solver:ancestral_deviations",
    uses=("solver.ancestral_up", "ddim.sigma_bound"),
    assumptions=(FALLS,),
    decoys=(
        Decoy("difference", sig_s - UP, "sqrt", "deviations subtracted as if variances"),
        Decoy("no-noise", sig_s, "variance", "the level of the deterministic step: noise comes on top"),
        Decoy("ratio", sig_s**2 / sig_t, "variance", "that of η = 1 for every η"),
        Decoy("added", sqrt(sig_s**2 + UP**2), "sign", "variances added"),
    ),
)
def _ancestral_down(claim: sp.Expr) -> Iterator[Step]:
    """What noise of deviation σ_up has to be added to for level σ_s; σ_s²/σ_t for η = 1, σ_s for η = 0."""
    yield Identity("variances add", claim**2 + UP**2, sig_s**2)
    yield Inequality("the root is real", sig_s**2 - UP**2, ">", sp.Integer(0),
                     sig_s**2 * (1 - eta**2 + eta**2 * sig_s**2 / sig_t**2))  # fmt: skip
    yield Identity("the whole noise", claim.subs(eta, 1), sig_s**2 / sig_t)
    yield Identity("no noise", claim.subs(eta, 0), sig_s)


ANCESTRAL = x_ve + (DOWN - sig_t) * eps + UP * z


@formula(
    "solver.ancestral_step",
    title="the ancestral Euler step in σ is the step of the DDIM family",
    lhs=x_s,
    rhs=ANCESTRAL,
    citations=("conventions:k-diffusion", "Song2021ddim:12"),
    reference="refdiff.solver:ancestral_coefficients",
    uses=("solver.ancestral_down", "ddim.step"),
    assumptions=(FALLS,),
    decoys=(
        Decoy(
            "down-to-the-level",
            x_ve + (sig_s - sig_t) * eps + UP * z,
            "variance",
            "a step down to σ_s and noise on top",
        ),
        Decoy("no-noise-back", x_ve + (DOWN - sig_t) * eps, "variance", "the noise is left out"),
        Decoy("noise-of-level", x_ve + (DOWN - sig_t) * eps + sig_s * z, "variance", "noise of level σ_s"),
    ),
)
def _ancestral_step(claim: sp.Expr) -> Iterator[Step]:
    """DDIM for x/√ᾱ, with any η; for η = 1 this is DDPM on the same levels, and its mean goes from x_t to
    the predicted data by the share 1 − σ_s²/σ_t²."""
    family = STEP.subs(x_t, sqrt(abar_t) * x_ve) / sqrt(abar_s)
    yield Identity("the family of DDIM", claim, close(family).subs(IN_SIGMA))
    posterior = close(SKIP_MEAN / sqrt(abar_s)).subs(x_t, sqrt(abar_t) * x_ve).subs(IN_SIGMA)
    at_data = claim.subs({z: 0, eta: 1}).subs(eps, (x_ve - x_0) / sig_t)
    yield Identity("for η = 1 the posterior mean", at_data, close(posterior).subs(IN_SIGMA))


@formula(
    "solver.ancestral_defect",
    title="what one ancestral step misses of the variance of Gaussian data",
    lhs=sp.Symbol("V"),
    rhs=-data_variance * (sig_t**2 - sig_s**2) ** 2 / (sig_t**2 * (data_variance + sig_t**2)),
    citations=("Song2021ddim:12",),
    reference="refdiff.solver:ancestral_coefficients",
    uses=("solver.ancestral_step",),
    assumptions=(FALLS,),
    decoys=(
        Decoy(
            "first-order",
            -data_variance * (sig_t**2 - sig_s**2) / (data_variance + sig_t**2),
            "variance",
            "of first order in the step: the sampler would not converge",
        ),
        Decoy("none", sp.Integer(0), "variance", "taken for exact"),
    ),
)
def _ancestral_defect(claim: sp.Expr) -> Iterator[Step]:
    """Data of mean 0 and variance c: the exact prediction is ε = σx/(c + σ²). The step with η = 1 maps the
    variance c + σ_t² to that of level s and the claim, which is of second order in the step and never
    positive: the law is of first order, and always too narrow. A point mass is sampled exactly."""
    slope = sp.diff(ANCESTRAL.subs({eta: 1, eps: sig_t * x_ve / (data_variance + sig_t**2)}), x_ve)
    variance = slope**2 * (data_variance + sig_t**2) + UP.subs(eta, 1) ** 2
    yield Identity("variance after a step", variance, data_variance + sig_s**2 + claim)
    yield Inequality("too narrow", -claim, ">", sp.Integer(0))
    yield Identity("a point mass", claim.subs(data_variance, 0), sp.Integer(0))


TOTAL_T, TOTAL_S = data_variance + sig_t**2, data_variance + sig_s**2
MEMORY = (TOTAL_S / TOTAL_T) ** ((1 + eta) / 2)


@formula(
    "solver.sde_memory",
    title="what an SDE between the flow and the reverse process keeps of a deviation, on Gaussian data",
    lhs=sp.Symbol("kept", positive=True),
    rhs=MEMORY,
    citations=("Karras2022:6", "Lu2022pp:§5"),
    uses=("solver.pf_ode_sigma",),
    assumptions=(FALLS,),
    decoys=(
        Decoy("without-data", (sig_s / sig_t) ** (1 + eta), "variance", "that of a point mass"),
        Decoy("whole-noise", TOTAL_S / TOTAL_T, "variance", "that of the reverse process, for any noise"),
        Decoy("flow", sqrt(TOTAL_S / TOTAL_T), "variance", "that of the flow, for any noise"),
        Decoy("noise-doubled", (TOTAL_S / TOTAL_T) ** (sp.Rational(1, 2) + eta), "discretization",
              "the drift of the noise taken twice"),
    ),
    mutate=False,  # a power with a symbol for its exponent is outside the grammar
)  # fmt: skip
def _sde_memory(claim: sp.Expr) -> Iterator[Step]:
    """For data of variance c the perfect slope is σx/(c + σ²), and the drift of the equation with the share r
    of the noise power of the reverse process is 1 + r times that. The claim solves it from 1 on. Noise of
    variance r·2σ for a unit of σ then keeps the variance c + σ² at every level, whatever r. So the state at
    level s is the deviation at level t times the claim, plus the Brownian motion weighed by the claim from
    where it came in: the covariance of both with any increment is an integral, which the measured strong
    orders stand on."""
    kept = sp.Function("u", real=True)(sig_s)
    drift = (1 + eta) * sig_s / TOTAL_S
    yield Substitution("the linear equation", sp.diff(kept, sig_s) - drift * kept, {kept: claim})
    yield Identity("from 1 on", claim.subs(sig_s, sig_t), sp.Integer(1))
    spread = sp.Function("V", real=True)(sig_s)
    rate = 2 * drift * spread - eta * 2 * sig_s
    yield Substitution("the variance is kept", sp.diff(spread, sig_s) - rate, {spread: TOTAL_S})
    yield Identity("no noise, the flow", claim.subs(eta, 0), sqrt(TOTAL_S / TOTAL_T))
    yield Identity("all of it, the posterior mean", claim.subs(eta, 1), TOTAL_S / TOTAL_T)
