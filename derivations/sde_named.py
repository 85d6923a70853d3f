"""The named processes: variance-exploding with geometric levels, variance-preserving with an affine rate,
sub-VP.

Axioms: what ``derivations.sde_kernel`` proves of affine drifts. Rates and levels are undefined functions
where the statement is about all of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations.kit import Decoy, Identity, Inequality, Step, formula
from derivations.sde_kernel import ADDED, solves
from derivations.sde_operators import ONE, ZERO
from derivations.symbols import (
    beta_min,
    diffusion,
    kernel_variance,
    level_s,
    level_t,
    rate,
    rate_gap,
    rate_integral,
    rate_integral_s,
    scale_s,
    scale_t,
    sigma_max,
    sigma_min,
    std_s,
    std_t,
    tau,
    tau_s,
)

RISING = (sp.Lt(sigma_min, sigma_max),)
LEVEL = sp.Function("sigma", positive=True)
TOTAL = sp.Function("B", positive=True)(tau)
RATE = sp.diff(TOTAL, tau)


@formula(
    "sde.vp_kernel_factor",
    title="VP with any rate: factor of the data",
    lhs=scale_t,
    rhs=sp.exp(-rate_integral / 2),
    citations=("Song2021:29", "S004:8.8"),
    reference="refdiff.process:VP",
    uses=("sde.scale",),
    decoys=(
        Decoy("power", sp.exp(-rate_integral), "sqrt", "the signal power"),
        Decoy("growing", sp.exp(rate_integral / 2), "sign", "the drift's sign lost"),
    ),
)  # fmt: skip
def _vp_kernel_factor(claim: sp.Expr) -> Iterator[Step]:
    """With the drift −½β·x and β = B'. It is 1 at time 0, where B is 0."""
    yield solves("the equation of the mean", claim.subs(rate_integral, TOTAL), -RATE / 2, ZERO)
    yield Identity("1 at the beginning", claim.subs(rate_integral, 0), ONE)


VP_VARIANCE = 1 - sp.exp(-rate_integral)


@formula(
    "sde.vp_kernel_variance",
    title="VP with any rate: variance of the noise",
    lhs=std_t**2,
    rhs=VP_VARIANCE,
    citations=("Song2021:29", "S004:8.8"),
    reference="refdiff.process:VP",
    uses=("sde.variance",),
    decoys=(
        Decoy("halved", 1 - sp.exp(-rate_integral / 2), "sqrt", "the exponent of the mean"),
        Decoy("deviation", sp.sqrt(VP_VARIANCE), "sqrt", "the deviation where the variance is asked"),
        Decoy("sub-vp", VP_VARIANCE**2, "schedule", "the variance of sub-VP"),
        Decoy("first-order", rate_integral, "discretization", "the sum of the noise, nothing forgotten"),
    ),
)  # fmt: skip
def _vp_kernel_variance(claim: sp.Expr) -> Iterator[Step]:
    """With the drift −½β·x and the noise g² = β. Factor² and variance add up to 1: for data of variance 1 the
    variance is preserved."""
    yield solves("the equation of the variance", claim.subs(rate_integral, TOTAL), -RATE, RATE)
    yield Identity("0 at the beginning", claim.subs(rate_integral, 0), ZERO)
    yield Identity("variance preserved", sp.exp(-rate_integral / 2) ** 2 + claim, ONE)


@formula(
    "sde.ve_kernel_variance",
    title="VE with any levels: variance of x_t given x_s",
    lhs=kernel_variance,
    rhs=level_t**2 - level_s**2,
    citations=("Song2021:29", "S004:8.5", "S004:8.8"),
    reference="refdiff.process:VE",
    uses=("sde.variance",),
    assumptions=(sp.Lt(level_s, level_t),),
    decoys=(
        Decoy("from-nothing", level_t**2, "schedule", "the level itself: the noise at s counted again"),
        Decoy("deviations", (level_t - level_s) ** 2, "sqrt", "the square of the difference"),
        Decoy("not-squared", level_t - level_s, "sqrt", "levels where their squares belong"),
    ),
)  # fmt: skip
def _ve_kernel_variance(claim: sp.Expr) -> Iterator[Step]:
    """Without drift and with g² the slope of σ²: the increment of the SDE over any time has exactly the
    variance that a step of the chain has, not approximately."""
    here = claim.subs({level_t: LEVEL(tau), level_s: LEVEL(tau_s)})
    yield solves("the equation of the variance", here, ZERO, sp.diff(LEVEL(tau) ** 2, tau))
    yield Identity("0 at the beginning", here.subs(tau, tau_s), ZERO)


GEOMETRIC = sigma_min * (sigma_max / sigma_min) ** tau
LOG_RATIO = sp.log(sigma_max / sigma_min)


@formula(
    "sde.ve_diffusion",
    title="VE with geometric levels: the diffusion",
    lhs=diffusion,
    rhs=GEOMETRIC * sp.sqrt(2 * LOG_RATIO),
    citations=("Song2021:30", "S004:8.9"),
    reference="refdiff.process:VE",
    uses=("sde.ve_kernel_variance",),
    assumptions=RISING,
    decoys=(
        Decoy("not-doubled", GEOMETRIC * sp.sqrt(LOG_RATIO), "variance", "2 is missing"),
        Decoy("log-outside", GEOMETRIC * 2 * LOG_RATIO, "sqrt", "the root is missing"),
        Decoy("level", GEOMETRIC, "discretization", "the level taken for the diffusion"),
        Decoy("difference", GEOMETRIC * sp.sqrt(2 * (sigma_max - sigma_min)), "parameterization",
              "the difference of the levels where the log of their ratio belongs"),
    ),
)  # fmt: skip
def _ve_diffusion(claim: sp.Expr) -> Iterator[Step]:
    """Its square is the slope of σ(t)²; positive, being the root of the log of a ratio above 1."""
    yield Identity("the slope of the variance", claim**2, sp.diff(GEOMETRIC**2, tau))
    root = sp.Symbol("u", positive=True)
    at_root = claim.subs(sigma_max, sigma_min * sp.exp(2 * root**2))
    yield Identity("the positive root", at_root, 2 * root * sigma_min * sp.exp(2 * root**2 * tau))
    grown = claim.subs(tau, tau + tau_s) / claim
    yield Identity("it grows like the level", grown, (sigma_max / sigma_min) ** tau_s)


@formula(
    "sde.ve_variance",
    title="VE with geometric levels, from clean data: variance of the noise",
    lhs=std_t**2,
    rhs=GEOMETRIC**2 - sigma_min**2,
    citations=("Song2021:31", "S004:8.10"),
    reference="refdiff.process:VE",
    uses=("sde.ve_kernel_variance",),
    assumptions=RISING,
    decoys=(
        Decoy("level", GEOMETRIC**2, "schedule",
              "the squared level: that of the chain, which is noised at time 0 already"),
        Decoy("not-doubled", sigma_min**2 * (sigma_max / sigma_min) ** tau - sigma_min**2, "sqrt",
              "the exponent t where 2t belongs"),
        Decoy("arithmetic", (sigma_min + tau * (sigma_max - sigma_min)) ** 2 - sigma_min**2, "schedule",
              "equal differences of the levels"),
    ),
)  # fmt: skip
def _ve_variance(claim: sp.Expr) -> Iterator[Step]:
    """The integral of g² from time 0."""
    noise = 2 * LOG_RATIO * GEOMETRIC**2
    yield solves("the equation of the variance", claim, ZERO, noise)
    yield Identity("0 at the beginning", claim.subs(tau, 0), ZERO)


AFFINE_RATE = beta_min + tau * rate_gap
AFFINE_INTEGRAL = beta_min * tau + rate_gap * tau**2 / 2


@formula(
    "sde.vp_integral",
    title="VP with an affine rate: integral of the rate",
    lhs=rate_integral,
    rhs=AFFINE_INTEGRAL,
    citations=("Song2021:32", "S004:8.11", "S004:8.12"),
    reference="refdiff.process:VP",
    decoys=(
        Decoy("not-halved", beta_min * tau + rate_gap * tau**2, "variance", "½ of the square is missing"),
        Decoy("rate-times-time", tau * AFFINE_RATE / 2, "discretization", "half the last rate throughout"),
        Decoy("constant", beta_min * tau, "schedule", "the first rate throughout"),
    ),
)  # fmt: skip
def _vp_integral(claim: sp.Expr) -> Iterator[Step]:
    """Its slope is the rate, and it begins at 0."""
    yield Identity("the slope", sp.diff(claim, tau), AFFINE_RATE)
    yield Identity("0 at the beginning", claim.subs(tau, 0), ZERO)


@formula(
    "sde.vp_factor",
    title="VP with an affine rate: factor of the data",
    lhs=scale_t,
    rhs=sp.exp(-(tau**2) * rate_gap / 4 - tau * beta_min / 2),
    citations=("Song2021:33", "S004:8.12"),
    reference="refdiff.process:VP",
    uses=("sde.vp_integral", "sde.vp_kernel_factor"),
    decoys=(
        Decoy("power", sp.exp(-AFFINE_INTEGRAL), "sqrt", "the signal power"),
        Decoy("half-square", sp.exp(-(tau**2) * rate_gap / 2 - tau * beta_min / 2), "variance",
              "½ where ¼ belongs"),
    ),
)  # fmt: skip
def _vp_factor(claim: sp.Expr) -> Iterator[Step]:
    """The equation itself, with the rate of the schedule."""
    yield solves("the equation of the mean", claim, -AFFINE_RATE / 2, ZERO)
    yield Identity("1 at the beginning", claim.subs(tau, 0), ONE)


@formula(
    "sde.vp_variance",
    title="VP with an affine rate: variance of the noise",
    lhs=std_t**2,
    rhs=1 - sp.exp(-(tau**2) * rate_gap / 2 - tau * beta_min),
    citations=("Song2021:33", "S004:8.12"),
    reference="refdiff.process:VP",
    uses=("sde.vp_integral", "sde.vp_kernel_variance"),
    decoys=(
        Decoy("exponent-of-the-mean", 1 - sp.exp(-(tau**2) * rate_gap / 4 - tau * beta_min / 2), "sqrt",
              "the exponent of the factor"),
        Decoy("quarter", 1 - sp.exp(-(tau**2) * rate_gap / 4 - tau * beta_min), "variance",
              "¼ where ½ belongs"),
    ),
)  # fmt: skip
def _vp_variance(claim: sp.Expr) -> Iterator[Step]:
    """The equation itself, with the rate of the schedule."""
    yield solves("the equation of the variance", claim, -AFFINE_RATE, AFFINE_RATE)
    yield Identity("0 at the beginning", claim.subs(tau, 0), ZERO)


SUB_VP_NOISE = rate * (1 - sp.exp(-2 * rate_integral))


@formula(
    "sde.sub_vp_diffusion",
    title="sub-VP: square of the diffusion",
    lhs=diffusion**2,
    rhs=SUB_VP_NOISE,
    citations=("Song2021:28",),
    reference="refdiff.process:SubVP",
    uses=("sde.variance_rate",),
    decoys=(
        Decoy("vp", rate, "schedule", "the noise of VP"),
        Decoy("once", rate * (1 - sp.exp(-rate_integral)), "sqrt", "the exponent B where 2B belongs"),
        Decoy("squared", rate * (1 - sp.exp(-rate_integral)) ** 2, "sqrt", "the squared deviation of VP"),
    ),
)  # fmt: skip
def _sub_vp_diffusion(claim: sp.Expr) -> Iterator[Step]:
    """The noise under which the variance (1 − e^{−B})² solves its equation with the drift of VP. It vanishes
    at time 0."""
    here = claim.subs({rate: RATE, rate_integral: TOTAL})
    yield solves("the equation of the variance", (1 - sp.exp(-TOTAL)) ** 2, -RATE, here)
    yield Identity("none at the beginning", claim.subs(rate_integral, 0), ZERO)


@formula(
    "sde.sub_vp_std",
    title="sub-VP: deviation of the noise, which is the variance of VP",
    lhs=std_t,
    rhs=1 - sp.exp(-rate_integral),
    citations=("Song2021:29", "conventions:score_sde"),
    reference="refdiff.process:SubVP",
    uses=("sde.sub_vp_diffusion", "sde.vp_kernel_variance"),
    decoys=(
        Decoy("root", sp.sqrt(1 - sp.exp(-rate_integral)), "sqrt", "the deviation of VP"),
        Decoy("squared", (1 - sp.exp(-rate_integral)) ** 2, "sqrt",
              "the variance where the deviation is asked"),
        Decoy("exponent-of-noise", 1 - sp.exp(-2 * rate_integral), "variance",
              "the exponent of the diffusion"),
    ),
)  # fmt: skip
def _sub_vp_std(claim: sp.Expr) -> Iterator[Step]:
    """The square solves the equation of the variance, from 0; the root is the positive one. As e^{−B} lies
    between 0 and 1, the variance is below that of VP by the factor 1 − e^{−B}."""
    noise = SUB_VP_NOISE.subs({rate: RATE, rate_integral: TOTAL})
    yield solves("the equation of the variance", claim.subs(rate_integral, TOTAL) ** 2, -RATE, noise)
    yield Identity("0 at the beginning", claim.subs(rate_integral, 0), ZERO)
    kept = sp.Symbol("abar_t", positive=True)
    std = claim.subs(rate_integral, -sp.log(kept))
    yield Inequality("positive", std, ">", ZERO)
    yield Inequality("less noise than VP", 1 - kept, ">", std**2)


@formula(
    "sde.sub_vp_transition",
    title="sub-VP: variance of x_t given x_s, without cancellation",
    lhs=kernel_variance,
    rhs=(1 - sp.exp(rate_integral_s - rate_integral)) * (1 - sp.exp(-rate_integral - rate_integral_s)),
    citations=("Song2021:28",),
    reference="refdiff.process:SubVP",
    uses=("sde.sub_vp_std", "sde.transition_variance"),
    assumptions=(sp.Lt(rate_integral_s, rate_integral),),
    decoys=(
        Decoy("vp", 1 - sp.exp(rate_integral_s - rate_integral), "schedule", "that of VP"),
        Decoy("squared", (1 - sp.exp(rate_integral_s - rate_integral)) ** 2, "index",
              "the kernel from data over the same loss of signal"),
    ),
)  # fmt: skip
def _sub_vp_transition(claim: sp.Expr) -> Iterator[Step]:
    """The transition between two times with the deviation 1 − e^{−B}; from clean data it is its square."""
    at = {
        scale_t: sp.exp(-rate_integral / 2), std_t: 1 - sp.exp(-rate_integral),
        scale_s: sp.exp(-rate_integral_s / 2), std_s: 1 - sp.exp(-rate_integral_s),
    }  # fmt: skip
    yield Identity("the transition", claim, ADDED.subs(at))
    yield Identity("from data", claim.subs(rate_integral_s, 0), (1 - sp.exp(-rate_integral)) ** 2)
