"""Affine drifts: Gaussian kernels, the equations of their moments and their solutions.

Axioms: the Fokker–Planck equation, and that a linear differential equation with a given initial value has one
solution. Schedules are undefined functions of time, so a solution is proved for all of them: it is put into
its equation, and its value at the beginning is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations.kit import Decoy, Expectation, Identity, Inequality, Step, Substitution, formula
from derivations.sde_operators import ONE, ZERO
from derivations.symbols import (
    diffusion,
    drift_factor,
    drift_offset,
    kernel_factor,
    kernel_variance,
    level_t,
    mean_t,
    ratio_slope,
    scale_s,
    scale_slope,
    scale_t,
    std_s,
    std_slope,
    std_t,
    tau,
    tau_s,
    variance_t,
    x,
)

INTEGRAL = sp.Function("F", real=True)
"""∫f from any fixed time."""
WEIGHTED = sp.Function("W", real=True)
"""∫e^{−2F}g² from any fixed time."""
NOISE = sp.Function("g", positive=True)(tau)
SCALE = sp.Function("a", positive=True)(tau)
STD = sp.Function("b", positive=True)(tau)


def solves(title: str, solution: sp.Expr, factor: sp.Expr, source: sp.Expr) -> Step:
    """The solution put into u' = factor·u + source."""
    u = sp.Function("u", real=True)(tau)
    return Substitution(title, sp.diff(u, tau) - factor * u - source, {u: solution})


def gaussian_residual(mean_rate: sp.Expr, variance_rate: sp.Expr) -> sp.Expr:
    """What is left of the Fokker–Planck equation, over the density, of a Gaussian with these moments'
    rates."""
    log = -((x - mean_t) ** 2) / (2 * variance_t) - sp.log(variance_t) / 2
    slope = sp.diff(log, x)
    drift = drift_factor * x + drift_offset
    spread = diffusion**2 / 2 * (sp.diff(slope, x) + slope**2)
    moved = sp.diff(log, mean_t) * mean_rate + sp.diff(log, variance_t) * variance_rate
    return moved + sp.diff(drift, x) + drift * slope - spread


MEAN_RATE = drift_factor * mean_t + drift_offset
VARIANCE_RATE = 2 * drift_factor * variance_t + diffusion**2


@formula(
    "sde.mean_rate",
    title="rate of the mean under an affine drift f·x + c",
    lhs=sp.Symbol("mean_rate"),
    rhs=MEAN_RATE,
    citations=("Sarkka2019:5.50", "S004:§8.1"),
    reference="refdiff.process:FromCoefficients",
    uses=("sde.fokker_planck",),
    decoys=(
        Decoy("no-offset", drift_factor * mean_t, "data-scaling", "the drift at 0 forgotten"),
        Decoy("doubled", 2 * drift_factor * mean_t + drift_offset, "sqrt", "the factor of the variance"),
        Decoy("backwards", -drift_factor * mean_t - drift_offset, "sign", "the rate for falling time"),
    ),
)  # fmt: skip
def _mean_rate(claim: sp.Expr) -> Iterator[Step]:
    """A Gaussian whose mean moves so, and whose variance at the rate 2f·v + g², solves the Fokker–Planck
    equation at every place: an affine drift keeps a Gaussian one, and the kernel that starts at a point is
    one. The mean of any law, Gaussian or not, has the same rate: it is the mean of the drift."""
    yield Identity("a Gaussian stays one", gaussian_residual(claim, VARIANCE_RATE), ZERO)
    drift = drift_factor * x + drift_offset
    yield Expectation("the mean of the drift", drift, {x: (mean_t, variance_t)}, claim)


@formula(
    "sde.variance_rate",
    title="rate of the variance under an affine drift f·x + c",
    lhs=sp.Symbol("variance_rate"),
    rhs=VARIANCE_RATE,
    citations=("Sarkka2019:5.51", "S004:§8.1"),
    reference="refdiff.process:FromCoefficients",
    uses=("sde.fokker_planck",),
    decoys=(
        Decoy("once", drift_factor * variance_t + diffusion**2, "sqrt", "the factor of the mean"),
        Decoy("half-noise", 2 * drift_factor * variance_t + diffusion**2 / 2, "variance",
              "the ½ of the Fokker–Planck equation"),
        Decoy("not-squared", 2 * drift_factor * variance_t + diffusion, "sqrt", "g where g² belongs"),
        Decoy("noise-only", diffusion**2, "variance", "what the drift does to the spread forgotten"),
    ),
)  # fmt: skip
def _variance_rate(claim: sp.Expr) -> Iterator[Step]:
    """The Fokker–Planck equation of the Gaussian again. For any law the second moment changes by the mean of
    2x·(f·x + c) + g², and the square of the mean by twice the mean times its rate; the variance by the
    difference."""
    yield Identity("a Gaussian stays one", gaussian_residual(MEAN_RATE, claim), ZERO)
    second = 2 * x * (drift_factor * x + drift_offset) + diffusion**2
    whole = claim + 2 * mean_t * MEAN_RATE
    yield Expectation("second moment of any law", second, {x: (mean_t, variance_t)}, whole)


@formula(
    "sde.scale",
    title="factor of the earlier state: the exponential of the integral of f",
    lhs=kernel_factor,
    rhs=sp.exp(INTEGRAL(tau) - INTEGRAL(tau_s)),
    citations=("Sarkka2019:6.2", "S004:8.8"),
    reference="refdiff.process:FromCoefficients",
    uses=("sde.mean_rate",),
    decoys=(
        Decoy("halved", sp.exp((INTEGRAL(tau) - INTEGRAL(tau_s)) / 2), "sqrt",
              "the ½ of a variance-preserving rate counted again"),
        Decoy("doubled", sp.exp(2 * (INTEGRAL(tau) - INTEGRAL(tau_s))), "sqrt", "the factor of the variance"),
        Decoy("from-the-origin", sp.exp(INTEGRAL(tau)), "index", "the integral not begun at s"),
        Decoy("times-exchanged", sp.exp(INTEGRAL(tau_s) - INTEGRAL(tau)), "index", "the way back"),
    ),
)  # fmt: skip
def _scale(claim: sp.Expr) -> Iterator[Step]:
    """It solves a' = f·a for any f = F', and it is 1 at s."""
    yield solves("the equation of the mean", claim, sp.diff(INTEGRAL(tau), tau), ZERO)
    yield Identity("1 at the beginning", claim.subs(tau, tau_s), ONE)


VARIANCE = sp.exp(2 * INTEGRAL(tau)) * (WEIGHTED(tau) - WEIGHTED(tau_s))


@formula(
    "sde.variance",
    title="variance of the kernel: the noise of each moment, as the drift has scaled it since",
    lhs=kernel_variance,
    rhs=VARIANCE,
    citations=("Sarkka2019:6.2",),
    reference="refdiff.process:FromCoefficients",
    uses=("sde.variance_rate",),
    decoys=(
        Decoy("not-squared", sp.exp(INTEGRAL(tau)) * (WEIGHTED(tau) - WEIGHTED(tau_s)), "sqrt",
              "scaled like a deviation"),
        Decoy("from-the-origin", sp.exp(2 * INTEGRAL(tau)) * WEIGHTED(tau), "index",
              "the noise before s counted too"),
        Decoy("scaled-from-the-start", sp.exp(2 * INTEGRAL(tau) - 2 * INTEGRAL(tau_s))
              * (WEIGHTED(tau) - WEIGHTED(tau_s)), "index", "all noise scaled as if it came at s"),
    ),
)  # fmt: skip
def _variance(claim: sp.Expr) -> Iterator[Step]:
    """W is the integral of e^{−2F}·g², so the claim is ∫e^{2(F(t)−F(u))}g(u)²du from s to t. It solves v' =
    2f·v + g² for any f = F' and any g, and it is 0 at s."""
    inside = sp.exp(-2 * INTEGRAL(tau)) * NOISE**2
    rising = sp.diff(claim, tau).subs(sp.diff(WEIGHTED(tau), tau), inside)
    right = 2 * sp.diff(INTEGRAL(tau), tau) * claim + NOISE**2
    yield Identity("the equation of the variance", rising, right)
    yield Identity("0 at the beginning", claim.subs(tau, tau_s), ZERO)


MARGINALS = {scale_t: SCALE, scale_slope: sp.diff(SCALE, tau), std_t: STD, std_slope: sp.diff(STD, tau)}
DRIFT = scale_slope / scale_t
NOISE_SQUARED = 2 * std_t * std_slope - 2 * scale_slope / scale_t * std_t**2


def along(expr: sp.Expr) -> sp.Expr:
    """The expression along a schedule: scale and deviation as functions of time."""
    return expr.subs(MARGINALS, simultaneous=True)


@formula(
    "sde.drift_from_scale",
    title="factor of x in the drift, from the factor of the data",
    lhs=drift_factor,
    rhs=DRIFT,
    citations=("Karras2022:28", "Kingma2021:app.E"),
    reference="refdiff.process:FromMarginals",
    uses=("sde.mean_rate",),
    decoys=(
        Decoy("slope", scale_slope, "parameterization", "the slope of the factor, not of its log"),
        Decoy("doubled", 2 * scale_slope / scale_t, "sqrt", "the slope of the log of the power"),
        Decoy("backwards", -scale_slope / scale_t, "sign", "for falling time"),
    ),
)  # fmt: skip
def _drift_from_scale(claim: sp.Expr) -> Iterator[Step]:
    """The mean of the noised data is the factor a(t) times that of the data; it solves m' = f·m for one f
    only."""
    mean = sp.Symbol("mean_0", real=True)
    yield solves("the mean of noised data", SCALE * mean, along(claim), ZERO)


@formula(
    "sde.diffusion_from_std",
    title="square of the diffusion, from the factor of the data and the deviation of the noise",
    lhs=diffusion**2,
    rhs=NOISE_SQUARED,
    citations=("Kingma2021:app.E", "Lu2022:4"),
    reference="refdiff.process:FromMarginals",
    uses=("sde.variance_rate", "sde.drift_from_scale"),
    decoys=(
        Decoy("drift-forgotten", 2 * std_t * std_slope, "discretization",
              "the slope of the variance: right where the data are not scaled"),
        Decoy("drift-added", 2 * std_t * std_slope + 2 * scale_slope / scale_t * std_t**2, "sign",
              "the drift's share with the wrong sign"),
        Decoy("once", 2 * std_t * std_slope - scale_slope / scale_t * std_t**2, "variance",
              "the drift counted once where the variance feels it twice"),
        Decoy("not-doubled", std_t * std_slope - scale_slope / scale_t * std_t**2, "variance",
              "half of it: b·b' for the slope of b²"),
        Decoy("twice", 2 * NOISE_SQUARED, "variance",
              "twice as much: the rate β where ½β drives the marginals", "deepinv PR#1343"),
        Decoy("deviation", std_slope - scale_slope / scale_t * std_t, "sqrt", "the slope of the deviation"),
    ),
)  # fmt: skip
def _diffusion_from_std(claim: sp.Expr) -> Iterator[Step]:
    """The variance b² of the noise solves v' = 2f·v + g² for one g² only. Written with σ = b/a it is
    a²·(σ²)': the noise that a process without drift adds to x/a."""
    yield solves("the variance of the noise", STD**2, 2 * along(DRIFT), along(claim))
    yield Identity("in units of the data", along(claim), SCALE**2 * sp.diff((STD / SCALE) ** 2, tau))


@formula(
    "sde.diffusion_from_sigma",
    title="diffusion, from the noise level in units of the data",
    lhs=diffusion,
    rhs=scale_t * sp.sqrt(2 * (std_t / scale_t) * ratio_slope),
    citations=("Karras2022:4", "Karras2022:app.B.2"),
    reference="refdiff.process:FromMarginals",
    uses=("sde.diffusion_from_std",),
    assumptions=(sp.Gt(ratio_slope, 0),),
    decoys=(
        Decoy("not-scaled", sp.sqrt(2 * (std_t / scale_t) * ratio_slope), "data-scaling",
              "the noise of x/a added to x"),
        Decoy("doubled-outside", 2 * scale_t * sp.sqrt(std_t / scale_t * ratio_slope), "sqrt",
              "the 2 outside the root"),
        Decoy("deviation-for-level", scale_t * sp.sqrt(2 * std_t * ratio_slope), "parameterization",
              "the deviation where the noise level belongs"),
    ),
)  # fmt: skip
def _diffusion_from_sigma(claim: sp.Expr) -> Iterator[Step]:
    """Squared, with σ' for the slope of b/a."""
    squared = (claim**2).subs(ratio_slope, std_slope / scale_t - std_t * scale_slope / scale_t**2)
    yield Identity("squared", sp.expand(squared), NOISE_SQUARED)
    yield Identity("linear in the root", claim.subs(ratio_slope, 4 * ratio_slope), 2 * claim)
    yield Inequality("positive", claim.subs(ratio_slope, level_t), ">", ZERO)


FACTOR = scale_t / scale_s
ADDED = std_t**2 - (scale_t / scale_s) ** 2 * std_s**2


@formula(
    "sde.transition_factor",
    title="factor of x_s in x_t",
    lhs=kernel_factor,
    rhs=FACTOR,
    citations=("Kingma2021:app.A", "Lu2022:3"),
    reference="refdiff.process:Process",
    uses=("sde.scale", "sde.drift_from_scale"),
    decoys=(
        Decoy("times-exchanged", scale_s / scale_t, "index", "the way back"),
        Decoy("power", (scale_t / scale_s) ** 2, "sqrt", "the ratio of the signal powers"),
        Decoy("from-data", scale_t, "index", "the factor of the data"),
    ),
)  # fmt: skip
def _transition_factor(claim: sp.Expr) -> Iterator[Step]:
    """It solves a' = f·a with the drift of the schedule, and is 1 where t is s."""
    yield solves("the equation of the mean", claim.subs(scale_t, SCALE), along(DRIFT), ZERO)
    yield Identity("1 at the beginning", claim.subs(scale_t, scale_s), ONE)


@formula(
    "sde.transition_variance",
    title="variance of x_t given x_s",
    lhs=kernel_variance,
    rhs=ADDED,
    citations=("Kingma2021:app.A", "Lu2022:3"),
    reference="refdiff.process:Process",
    uses=("sde.variance", "sde.diffusion_from_std", "sde.transition_factor"),
    decoys=(
        Decoy("not-scaled", std_t**2 - std_s**2, "data-scaling",
              "the difference of the variances: right where the data are not scaled"),
        Decoy("factor-once", std_t**2 - scale_t / scale_s * std_s**2, "sqrt",
              "the noise at s scaled like a deviation"),
        Decoy("from-data", std_t**2, "index", "the variance given the data"),
        Decoy("deviations", (std_t - std_s) ** 2, "sqrt", "the square of the difference"),
    ),
)  # fmt: skip
def _transition_variance(claim: sp.Expr) -> Iterator[Step]:
    """It solves v' = 2f·v + g² with drift and diffusion of the schedule, and is 0 where t is s. Two steps are
    one: the noise of the first is scaled by the second."""
    here = claim.subs({scale_t: SCALE, std_t: STD})
    yield solves("the equation of the variance", here, 2 * along(DRIFT), along(NOISE_SQUARED))
    yield Identity("0 at the beginning", claim.subs({scale_t: scale_s, std_t: std_s}), ZERO)
    a_r, b_r = sp.symbols("a_r b_r", positive=True)
    first = claim.subs({scale_t: a_r, std_t: b_r})
    second = claim.subs({scale_s: a_r, std_s: b_r})
    yield Identity("two steps are one", second + (scale_t / a_r) ** 2 * first, claim)
