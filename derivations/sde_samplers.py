"""Samplers of the reverse SDE: Euler–Maruyama, reverse diffusion and ancestral sampling, and how they differ.

Axioms: the reverse SDE, the transition x_t | x_s ~ N(r·x_s, v) of the forward process, and Bayes' rule. Time
steps down from t to s = t − Δt. Differences are exact in r and v, and series in Δt for any drift and
diffusion, whose values and slopes at t are arbitrary numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations.ddpm import BETA_TILDE_S, RATIO, SKIP_FROM_EPS
from derivations.kit import (
    Decoy,
    DensityEqual,
    Expectation,
    Identity,
    Inequality,
    Series,
    Step,
    formula,
    normal,
)
from derivations.sde_chain import at_the_beginning, taylor
from derivations.sde_operators import ONE, REVERSE, UNIT, ZERO
from derivations.symbols import (
    abar_s,
    abar_t,
    beta,
    diffusion,
    drift_factor,
    drift_factor_slope,
    drift_x,
    eps,
    kernel_factor,
    kernel_variance,
    level_s,
    level_t,
    scale_s,
    score,
    std_s,
    std_t,
    time_step,
    variance_rate_slope,
    x_0,
    x_s,
    x_t,
    z,
)

r, v = kernel_factor, kernel_variance
EULER = x_t - time_step * (drift_factor * x_t - diffusion**2 * score) + sp.sqrt(time_step) * diffusion * z
REVERSE_DIFFUSION = (2 - r) * x_t + v * score + sp.sqrt(v) * z
STD_T_SQUARED = r**2 * std_s**2 + v
ANCESTRAL = (x_t + v * score) / r + sp.sqrt(v * std_s**2 / STD_T_SQUARED) * z
VP_STEP = {r: sp.sqrt(1 - beta), v: beta}
VE_STEP = {r: ONE, v: level_t**2 - level_s**2}
LEVELS_FALL = (sp.Lt(level_s, level_t),)


def affine(claim: sp.Expr, on_state: sp.Expr, on_score: sp.Expr, noise: sp.Expr) -> Iterator[Step]:
    """The three coefficients of a step, the noise by its variance and its sign."""
    yield Identity("what it takes of the state", claim.subs({score: 0, z: 0}), on_state * x_t)
    yield Identity("what it takes of the score", claim.subs({x_t: 0, z: 0}), on_score * score)
    yield Identity("the variance of its noise", claim.subs({x_t: 0, score: 0}) ** 2, noise * z**2)
    yield Identity("and nothing else", claim, _parts(claim))
    yield Inequality("the noise has its own sign", claim.subs({x_t: 0, score: 0, z: 1}), ">", ZERO)


def _parts(claim: sp.Expr) -> sp.Expr:
    """The sum of what a step takes of each of its three arguments alone."""
    alone = ({score: 0, z: 0}, {x_t: 0, z: 0}, {x_t: 0, score: 0})
    return sum((claim.subs(others) for others in alone), ZERO)


@formula(
    "sde.euler_maruyama",
    title="a step of Euler and Maruyama down the reverse SDE",
    lhs=x_s,
    rhs=EULER,
    citations=("Song2021:§4.1", "S004:§8.4", "Kloeden1992:§9.1"),
    reference="refdiff.sde:euler_maruyama_step",
    uses=("sde.reverse_drift",),
    decoys=(
        Decoy("forward", x_t + time_step * (drift_factor * x_t - diffusion**2 * score)
              + sp.sqrt(time_step) * diffusion * z, "sign", "time that rises"),
        Decoy("noise-step", x_t - time_step * (drift_factor * x_t - diffusion**2 * score)
              + time_step * diffusion * z, "sqrt", "the step where its root multiplies the noise"),
        Decoy("noise-squared", x_t - time_step * (drift_factor * x_t - diffusion**2 * score)
              + sp.sqrt(time_step) * diffusion**2 * z, "sqrt", "g² multiplies the noise"),
        Decoy("flow-drift", x_t - time_step * (drift_factor * x_t - diffusion**2 * score / 2)
              + sp.sqrt(time_step) * diffusion * z, "variance",
              "the drift of the probability-flow ODE with the noise of the SDE"),
        Decoy("flow", x_t - time_step * (drift_factor * x_t - diffusion**2 * score / 2), "variance",
              "the step of the probability-flow ODE", "S004:8.20"),
    ),
)  # fmt: skip
def _euler_maruyama(claim: sp.Expr) -> Iterator[Step]:
    """The reverse drift at t, held for the time −Δt, and Brownian noise of variance g²Δt: in mean and second
    moment the reverse SDE to first order."""
    yield from affine(claim, 1 - time_step * drift_factor, time_step * diffusion**2, time_step * diffusion**2)
    drift = -time_step * REVERSE.subs(drift_x, drift_factor * x_t)
    yield Expectation("the reverse drift", claim - x_t, {z: UNIT}, drift)
    spread = time_step * diffusion**2 + drift**2
    yield Expectation("second moment", sp.expand((claim - x_t) ** 2), {z: UNIT}, spread)


@formula(
    "sde.reverse_diffusion",
    title="a step of reverse diffusion: the reverse SDE discretised like the forward chain",
    lhs=x_s,
    rhs=REVERSE_DIFFUSION,
    citations=("Song2021:45", "Song2021:46", "S004:§8.4"),
    reference="refdiff.sde:reverse_diffusion_step",
    uses=("sde.reverse_drift", "sde.transition_variance"),
    decoys=(
        Decoy("forward-factor", r * x_t + v * score + sp.sqrt(v) * z, "sign",
              "the forward factor: data are scaled down once more"),
        Decoy("inverse", x_t / r + v * score + sp.sqrt(v) * z, "discretization",
              "the inverse factor of ancestral sampling with the score of reverse diffusion"),
        Decoy("flow", (2 - r) * x_t + v * score / 2 + sp.sqrt(v) * z, "variance", "half the score"),
        Decoy("variance-noise", (2 - r) * x_t + v * score + v * z, "sqrt", "the variance multiplies z"),
    ),
)  # fmt: skip
def _reverse_diffusion(claim: sp.Expr) -> Iterator[Step]:
    """The forward chain moves x by F = (r−1)·x and adds the noise √v. Its reverse turns the move round, at
    the point it comes from, and adds v times the score and the same noise."""
    forward = r * x_t + sp.sqrt(v) * z
    move, noise = forward.subs(z, 0) - x_t, sp.diff(forward, z)
    yield Identity("move, score and noise of the chain", claim, x_t - move + noise**2 * score + noise * z)
    yield from affine(claim, 2 - r, v, v)


@formula(
    "sde.reverse_diffusion_vp",
    title="reverse diffusion for VP",
    lhs=x_s,
    rhs=(2 - sp.sqrt(1 - beta)) * x_t + beta * score + sp.sqrt(beta) * z,
    citations=("Song2021:alg3", "S004:8.14", "S004:alg8.2"),
    reference="refdiff.sde:reverse_diffusion_of",
    uses=("sde.reverse_diffusion",),
    decoys=(
        Decoy("first-order", (1 + beta / 2) * x_t + beta * score + sp.sqrt(beta) * z, "discretization",
              "the step of Euler and Maruyama", "S004:8.14"),
        Decoy("ancestral", (x_t + beta * score) / sp.sqrt(1 - beta) + sp.sqrt(beta) * z, "discretization",
              "the ancestral mean", "S004:8.15"),
        Decoy("forward-factor", sp.sqrt(1 - beta) * x_t + beta * score + sp.sqrt(beta) * z, "sign",
              "the factor of the forward chain"),
        Decoy("no-root", (1 + beta) * x_t + beta * score + sp.sqrt(beta) * z, "sqrt",
              "the root missing: 2 − (1 − β)"),
        Decoy("half-score", (2 - sp.sqrt(1 - beta)) * x_t + beta * score / 2 + sp.sqrt(beta) * z,
              "variance", "the score of the probability-flow ODE", "S004:8.21"),
    ),
)  # fmt: skip
def _reverse_diffusion_vp(claim: sp.Expr) -> Iterator[Step]:
    """The chain x' = √(1−β)·x + √β·z."""
    yield Identity("reverse diffusion", claim, REVERSE_DIFFUSION.subs(VP_STEP))


DIFFERENCE = level_t**2 - level_s**2


@formula(
    "sde.reverse_diffusion_ve",
    title="reverse diffusion for VE",
    lhs=x_s,
    rhs=x_t + DIFFERENCE * score + sp.sqrt(DIFFERENCE) * z,
    citations=("Song2021:alg2", "S004:8.13", "S004:alg8.1"),
    reference="refdiff.sde:reverse_diffusion_of",
    uses=("sde.reverse_diffusion",),
    assumptions=LEVELS_FALL,
    decoys=(
        Decoy("upper-level", x_t + level_t**2 * score + sp.sqrt(DIFFERENCE) * z, "variance",
              "the whole variance at t: a jump to the data"),
        Decoy("difference-of-levels", x_t + (level_t - level_s) ** 2 * score + (level_t - level_s) * z,
              "sqrt", "the difference of the levels squared"),
        Decoy("half-score", x_t + DIFFERENCE * score / 2 + sp.sqrt(DIFFERENCE) * z, "variance",
              "the score of the probability-flow ODE", "S004:8.20"),
        Decoy("ancestral", x_t + DIFFERENCE * score + sp.sqrt(level_s**2 * DIFFERENCE / level_t**2) * z,
              "variance", "the noise of ancestral sampling"),
        Decoy("downhill", x_t - DIFFERENCE * score + sp.sqrt(DIFFERENCE) * z, "sign",
              "dt not taken negative"),
    ),
)  # fmt: skip
def _reverse_diffusion_ve(claim: sp.Expr) -> Iterator[Step]:
    """The chain x' = x + √(σ_t² − σ_s²)·z, exactly: no step size appears. In the last step of the source, to
    σ_0 = 0, it still adds noise of the size σ_1."""
    yield Identity("reverse diffusion", claim, REVERSE_DIFFUSION.subs(VE_STEP))
    last = claim.subs({level_s: 0, x_t: 0, score: 0})
    yield Identity("noise of the last step", last, level_t * z)


@formula(
    "sde.ancestral",
    title="a step of ancestral sampling for any process",
    lhs=x_s,
    rhs=ANCESTRAL,
    citations=("Song2021:4", "Song2021:47", "S004:8.15"),
    reference="refdiff.sde:ancestral_step",
    uses=("sde.transition_variance", "ddpm.tweedie", "ddpm.skip_step"),
    decoys=(
        Decoy("forward-noise", (x_t + v * score) / r + sp.sqrt(v) * z, "variance",
              "the noise of the forward step: another choice, with the law of no posterior", "S004:8.15"),
        Decoy("not-scaled", x_t + v * score + sp.sqrt(v * std_s**2 / STD_T_SQUARED) * z, "data-scaling",
              "not divided by the factor"),
        Decoy("score-not-scaled", x_t / r + v * score + sp.sqrt(v * std_s**2 / STD_T_SQUARED) * z,
              "data-scaling", "only the state divided by the factor"),
        Decoy("levels-exchanged", (x_t + v * score) / r + sp.sqrt(v * STD_T_SQUARED / std_s**2) * z, "index",
              "the two levels in the noise exchanged"),
        Decoy("root-missing", (x_t + v * score) / r + v * std_s**2 / STD_T_SQUARED * z, "sqrt",
              "the variance multiplies the noise"),
    ),
)  # fmt: skip
def _ancestral(claim: sp.Expr) -> Iterator[Step]:
    """Bayes' rule gives the law of x_s given x_t and the data; Tweedie's formula puts the mean of the data
    given x_t in. For VP and the noise predictor it is the reverse step of DDPM, over any sub-sequence."""
    mean = (v * scale_s * x_0 + r * std_s**2 * x_t) / STD_T_SQUARED
    spread = claim.subs({x_t: 0, score: 0, z: 1}) ** 2
    prior = normal(x_s, scale_s * x_0, std_s**2)
    marginal = normal(x_t, r * scale_s * x_0, STD_T_SQUARED)
    yield DensityEqual("Bayes", prior * normal(x_t, r * x_s, v) / marginal, normal(x_s, mean, spread))
    guess = (x_t + STD_T_SQUARED * score) / (r * scale_s)
    yield Identity("the mean of the data put in", claim.subs(z, 0), mean.subs(x_0, guess))
    yield from affine(claim, 1 / r, v / r, v * std_s**2 / STD_T_SQUARED)
    vp = {r: sp.sqrt(RATIO), v: 1 - RATIO, std_s: sp.sqrt(1 - abar_s), score: -eps / sp.sqrt(1 - abar_t)}
    ddpm = SKIP_FROM_EPS + sp.sqrt(BETA_TILDE_S) * z
    yield Identity("DDPM", claim.subs(vp, simultaneous=True), ddpm)


ANCESTRAL_VE = x_t + DIFFERENCE * score + sp.sqrt(level_s**2 * DIFFERENCE / level_t**2) * z


@formula(
    "sde.ancestral_ve",
    title="ancestral sampling for VE",
    lhs=x_s,
    rhs=ANCESTRAL_VE,
    citations=("Song2021:47", "Song2021:50"),
    reference="refdiff.sde:ancestral_step",
    uses=("sde.ancestral",),
    assumptions=LEVELS_FALL,
    decoys=(
        Decoy("forward-noise", x_t + DIFFERENCE * score + sp.sqrt(DIFFERENCE) * z, "variance",
              "the noise of reverse diffusion", "S004:8.13"),
        Decoy("levels-exchanged", x_t + DIFFERENCE * score
              + sp.sqrt(level_t**2 * DIFFERENCE / level_s**2) * z, "index",
              "the two levels in the noise exchanged"),
        Decoy("root-missing", x_t + DIFFERENCE * score + level_s**2 * DIFFERENCE / level_t**2 * z, "sqrt",
              "the variance multiplies the noise"),
        Decoy("lower-level", x_t + DIFFERENCE * score + level_s * z, "variance", "the level that it ends at"),
    ),
)  # fmt: skip
def _ancestral_ve(claim: sp.Expr) -> Iterator[Step]:
    """The factor is 1, and the deviation is the level."""
    at = VE_STEP | {std_s: level_s}
    yield Identity("ancestral sampling", claim, ANCESTRAL.subs(at))
    yield Identity("no noise in the last step", claim.subs({level_s: 0, x_t: 0, score: 0}), ZERO)


@formula(
    "sde.reverse_diffusion_gap",
    title="reverse diffusion minus Euler–Maruyama for VP",
    lhs=sp.Symbol("difference"),
    rhs=(1 - sp.sqrt(1 - beta) - beta / 2) * x_t,
    citations=("S004:8.14", "Song2021:app.E"),
    reference="refdiff.sde:reverse_diffusion",
    uses=("sde.euler_maruyama", "sde.reverse_diffusion_vp"),
    decoys=(
        Decoy("none", ZERO, "discretization", "2 − √(1−β) taken for 1 + β/2", "S004:8.14"),
        Decoy("leading-term", beta**2 / 8 * x_t, "discretization", "the leading term for the whole"),
        Decoy("other-way", (sp.sqrt(1 - beta) - 1 + beta / 2) * x_t, "sign", "the difference turned round"),
    ),
)  # fmt: skip
def _reverse_diffusion_gap(claim: sp.Expr) -> Iterator[Step]:
    """Both with β = g²Δt, and −½β for fΔt: score and noise are the same. The difference is β²/8 of the state
    to leading order, and β³/16 after it."""
    euler = EULER.subs({drift_factor: -beta / (2 * time_step), diffusion: sp.sqrt(beta / time_step)})
    yield Identity("exactly", REVERSE_DIFFUSION.subs(VP_STEP) - euler, claim)
    yield Series("second order", claim, beta, 4, (beta**2 / 8 + beta**3 / 16) * x_t)


@formula(
    "sde.ancestral_gap",
    title="mean of ancestral sampling minus that of reverse diffusion",
    lhs=sp.Symbol("difference"),
    rhs=(1 - r) ** 2 / r * x_t + v * (1 - r) / r * score,
    citations=("S004:8.15", "Song2021:app.E"),
    reference="refdiff.sde:ancestral",
    uses=("sde.reverse_diffusion", "sde.ancestral"),
    decoys=(
        Decoy("none", ZERO, "discretization", "the two samplers taken for one", "S004:8.15"),
        Decoy("state-only", (1 - r) ** 2 / r * x_t, "discretization", "½β² of the score dropped alone"),
        Decoy("score-only", v * (1 - r) / r * score, "discretization", "¼β² of the state dropped alone"),
        Decoy("other-way", -((1 - r) ** 2) / r * x_t - v * (1 - r) / r * score, "sign",
              "the difference turned round"),
    ),
)  # fmt: skip
def _ancestral_gap(claim: sp.Expr) -> Iterator[Step]:
    """Exactly (1−r)/r times ((1−r)·x + v·s); nothing for VE, where r = 1. For VP it is β²(x/4 + s/2) to
    leading order: what the source drops when it calls ancestral sampling a special discretisation."""
    yield Identity("exactly", (ANCESTRAL - REVERSE_DIFFUSION).subs(z, 0), claim)
    series = beta**2 * (x_t / 4 + score / 2)
    yield Series("second order for VP", claim.subs(VP_STEP), beta, 3, series)
    yield Identity("nothing for VE", claim.subs(r, 1), ZERO)


NOISE_GAP = v * (v - (1 - r**2) * std_s**2) / STD_T_SQUARED


@formula(
    "sde.ancestral_noise_gap",
    title="variance of the noise of reverse diffusion minus that of ancestral sampling",
    lhs=sp.Symbol("difference"),
    rhs=NOISE_GAP,
    citations=("S004:8.15", "Song2021:app.E"),
    reference="refdiff.sde:ancestral",
    uses=("sde.reverse_diffusion", "sde.ancestral"),
    decoys=(
        Decoy("none", ZERO, "variance", "β̃ taken for β", "S004:8.15"),
        Decoy("not-scaled", v**2 / STD_T_SQUARED, "data-scaling", "right where the data are not scaled"),
        Decoy("level-below", v * (v - (1 - r**2) * std_s**2) / std_s**2, "index", "over the level below"),
    ),
)  # fmt: skip
def _ancestral_noise_gap(claim: sp.Expr) -> Iterator[Step]:
    """Exactly; for VP it is β²ᾱ_s/(1−ᾱ_t): of second order while noise is left, but all of β in the last
    step, where ancestral sampling draws nothing and the source's approximation is no approximation."""
    noises = [sp.diff(step, z) ** 2 for step in (REVERSE_DIFFUSION, ANCESTRAL)]
    yield Identity("exactly", noises[0] - noises[1], claim)
    vp = {r: sp.sqrt(RATIO), v: 1 - RATIO, std_s: sp.sqrt(1 - abar_s)}
    yield Identity("for VP", claim.subs(vp), (1 - RATIO) ** 2 * abar_s / (1 - abar_t))
    yield Identity("in the last step", claim.subs(std_s, 0), v)


LOG_FACTOR = sp.Function("Phi", real=True)(time_step)
"""∫f over the step, whose slope is f at its lower end."""
RATE_OF_NOISE = sp.Function("gamma", positive=True)(time_step)
"""g² at the lower end of the step."""
ADDED = sp.Function("v", real=True)(time_step)
FACTOR = sp.exp(LOG_FACTOR - LOG_FACTOR.subs(time_step, 0))
_DRIFT = {
    at_the_beginning(LOG_FACTOR, 1): drift_factor,
    at_the_beginning(LOG_FACTOR, 2): -drift_factor_slope,
    at_the_beginning(RATE_OF_NOISE, 0): diffusion**2,
    at_the_beginning(RATE_OF_NOISE, 1): -variance_rate_slope,
}
_GROWTH = FACTOR**2 * RATE_OF_NOISE
NAMES = _DRIFT | {
    at_the_beginning(ADDED, 0): ZERO,
    at_the_beginning(ADDED, 1): at_the_beginning(_GROWTH, 0).xreplace(_DRIFT),
    at_the_beginning(ADDED, 2): at_the_beginning(_GROWTH, 1).xreplace(_DRIFT),
}
"""Values at t of any smooth drift and diffusion; v grows by r²·g² as the step reaches further down."""
ANY_STEP = {r: FACTOR, v: ADDED}


@formula(
    "sde.local_reverse_diffusion",
    title="mean of reverse diffusion minus that of Euler–Maruyama, by the squared time step",
    lhs=sp.Symbol("difference_per_square"),
    rhs=(drift_factor_slope - drift_factor**2) / 2 * x_t
    + (drift_factor * diffusion**2 - variance_rate_slope / 2) * score,
    citations=("Song2021:app.E", "S004:8.14"),
    reference="refdiff.sde:reverse_diffusion",
    uses=("sde.euler_maruyama", "sde.reverse_diffusion", "sde.scale", "sde.variance"),
    decoys=(
        Decoy("frozen", -(drift_factor**2) / 2 * x_t + drift_factor * diffusion**2 * score, "discretization",
              "a process whose coefficients do not change"),
        Decoy("wrong-end", -(drift_factor_slope + drift_factor**2) / 2 * x_t
              + (drift_factor * diffusion**2 + variance_rate_slope / 2) * score, "sign",
              "the coefficients of Euler's step taken at the lower end"),
        Decoy("none", ZERO, "discretization", "the two steps taken for one"),
    ),
)  # fmt: skip
def _local_reverse_diffusion(claim: sp.Expr) -> Iterator[Step]:
    """For any smooth f and g. Reverse diffusion has r = e^{∫f} and v = ∫r²g² over the step, Euler's step f
    and g² at its beginning; so they differ in second order even where the process has no drift."""
    difference = (REVERSE_DIFFUSION.subs(ANY_STEP) - EULER).subs(z, 0)
    yield from taylor("any process", difference, 3, claim * time_step**2, NAMES)
    noise = ADDED - time_step * diffusion**2
    more = drift_factor * diffusion**2 - variance_rate_slope / 2
    yield from taylor("the variance of the noise", noise, 3, more * time_step**2, NAMES)


@formula(
    "sde.local_ancestral",
    title="mean of ancestral sampling minus that of reverse diffusion, by the squared time step",
    lhs=sp.Symbol("difference_per_square"),
    rhs=drift_factor * (drift_factor * x_t - diffusion**2 * score),
    citations=("Song2021:app.E", "S004:8.15"),
    reference="refdiff.sde:ancestral",
    uses=("sde.ancestral_gap", "sde.scale", "sde.variance"),
    decoys=(
        Decoy("none", ZERO, "discretization", "the two steps taken for one", "S004:8.15"),
        Decoy("flow", drift_factor * (drift_factor * x_t - diffusion**2 * score / 2), "variance",
              "the drift of the probability-flow ODE"),
        Decoy("drift", drift_factor * x_t - diffusion**2 * score, "discretization",
              "the reverse drift itself"),
    ),
)  # fmt: skip
def _local_ancestral(claim: sp.Expr) -> Iterator[Step]:
    """For any smooth f and g it is f times the reverse drift: nothing without a forward drift."""
    difference = (ANCESTRAL - REVERSE_DIFFUSION).subs(z, 0).subs(ANY_STEP)
    yield from taylor("any process", difference, 3, claim * time_step**2, NAMES)


@formula(
    "sde.local_ancestral_noise",
    title="variance of ancestral noise minus that of reverse diffusion, by the squared time step",
    lhs=sp.Symbol("difference_per_square"),
    rhs=-2 * drift_factor * diffusion**2 - diffusion**4 / std_t**2,
    citations=("Song2021:app.E", "S004:8.15"),
    reference="refdiff.sde:ancestral",
    uses=("sde.ancestral_noise_gap", "sde.scale", "sde.variance"),
    decoys=(
        Decoy("none", ZERO, "variance", "β̃ taken for β", "S004:8.15"),
        Decoy("no-drift", -(diffusion**4) / std_t**2, "data-scaling", "right where the data are not scaled"),
        Decoy("deviation", -2 * drift_factor * diffusion**2 - diffusion**4 / std_t, "sqrt",
              "over the deviation, not the variance"),
    ),
)  # fmt: skip
def _local_ancestral_noise(claim: sp.Expr) -> Iterator[Step]:
    """With std_s² = (std_t² − v)/r². It is minus g² times the slope of the log of the variance, so it grows
    without bound towards clean data."""
    below = {std_s: sp.sqrt((std_t**2 - v) / r**2)}
    difference = -sp.expand(NOISE_GAP.subs(below)).subs(ANY_STEP)
    yield from taylor("any process", difference, 3, claim * time_step**2, NAMES)
