"""Forward and reverse SDEs for any density, drift and diffusion; what their densities do to divergences.

Axioms: over a time h the forward process moves by f·h + g·√h·z, with z standard normal, up to terms of higher
order; densities and currents vanish at infinity, so that the integral of a derivative is zero. Densities,
drifts and diffusions are undefined functions of place and time, on a line and in the plane.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import sympy as sp

from derivations.kit import Decoy, Expectation, Identity, Series, Step, formula
from derivations.symbols import (
    diffusion,
    diffusion_slope,
    drift_slope,
    drift_x,
    noise_share,
    score,
    score_hat,
    tau,
    time_step,
    x,
    y,
    z,
)

HALF = sp.Rational(1, 2)
ZERO, ONE = sp.Integer(0), sp.Integer(1)
UNIT = (ZERO, ONE)
P = sp.Function("p", positive=True)(x, tau)
Q = sp.Function("q", positive=True)(x, tau)
F = sp.Function("f", real=True)(x, tau)
G = sp.Function("g", positive=True)(tau)
G_X = sp.Function("g", positive=True)(x, tau)
P_2 = sp.Function("p", positive=True)(x, y, tau)
Q_2 = sp.Function("q", positive=True)(x, y, tau)
F_1, F_2 = (sp.Function(name, real=True)(x, y, tau) for name in ("f_1", "f_2"))
G_2 = sp.Function("g", positive=True)(x, y, tau)
KERNEL = sp.Function("k", positive=True)(x, tau)
D_11, D_12, D_22 = (sp.Function(f"D_{i}", real=True)(x, y, tau) for i in (11, 12, 22))
DENSITY_RATE = sp.Symbol("p_t", real=True)
DRIFT_BACK = sp.Symbol("f_bar", real=True)


@cache
def fokker_planck(density: sp.Expr, drift: sp.Expr, noise: sp.Expr) -> sp.Expr:
    """The rate of a density on a line, with noise g²: −(f·p)' + ½(g²p)''."""
    return -sp.diff(drift * density, x) + sp.diff(noise * density, x, 2) / 2


@cache
def fokker_planck_plane(density: sp.Expr, drifts: tuple[sp.Expr, sp.Expr], noise: sp.Expr) -> sp.Expr:
    """The same in the plane, with the same noise g² in every direction."""
    flow = sum(-sp.diff(f * density, u) for f, u in zip(drifts, (x, y), strict=True))
    return flow + sum(sp.diff(noise * density, u, 2) for u in (x, y)) / 2


@formula(
    "sde.fokker_planck",
    title="the density of dx = f dt + g dw on a line, for any drift and diffusion",
    lhs=DENSITY_RATE,
    rhs=fokker_planck(P, F, G_X**2),
    citations=("S004:8.1", "S004:8.16", "Oksendal2003:§8.1"),
    decoys=(
        Decoy("drift-added", sp.diff(F * P, x) + sp.diff(G_X**2 * P, x, 2) / 2, "sign",
              "the drift carries the density the other way"),
        Decoy("noise-outside", -sp.diff(F * P, x) + G_X**2 * sp.diff(P, x, 2) / 2, "discretization",
              "g² before the derivatives: true only where the diffusion does not depend on x"),
        Decoy("stratonovich", -sp.diff(F * P, x) + sp.diff(G_X * sp.diff(G_X * P, x), x) / 2,
              "discretization", "the equation of the Stratonovich reading of the same SDE"),
        Decoy("not-halved", -sp.diff(F * P, x) + sp.diff(G_X**2 * P, x, 2), "variance", "½ is missing"),
        Decoy("not-squared", -sp.diff(F * P, x) + sp.diff(G_X * P, x, 2) / 2, "sqrt", "g where g² belongs"),
        Decoy("backward", -F * sp.diff(P, x) + G_X**2 * sp.diff(P, x, 2) / 2, "sign",
              "the drift outside the derivative: mass is not kept"),
    ),
)  # fmt: skip
def _fokker_planck(claim: sp.Expr) -> Iterator[Step]:
    """The mean of any smooth φ changes by h·(f·φ' + ½g²·φ'') over a time h: the moments of the increment, of
    which those of third and fourth order are of higher order in h. The density moves so that ∫φ·p does:
    integrating by parts twice moves the derivatives from φ to p, and what is left over is the derivative of a
    current, whose integral vanishes. It holds for every φ, so it holds for p."""
    moved = drift_x * time_step + diffusion * sp.sqrt(time_step) * z
    slopes = sp.symbols("phi_1:5", real=True)
    change = sum(slope * moved**k / sp.factorial(k) for k, slope in enumerate(slopes, 1))
    mean = sp.expand(Expectation("", change, {z: UNIT}, ZERO).value())
    generator = time_step * (drift_x * slopes[0] + diffusion**2 * slopes[1] / 2)
    yield Series("the mean of any function, to first order in time", mean, time_step, 2, generator)
    phi = sp.Function("phi", real=True)(x)
    left = P * (F * sp.diff(phi, x) + G_X**2 * sp.diff(phi, x, 2) / 2) - phi * claim
    spread = G_X**2 * P
    current = F * P * phi + (spread * sp.diff(phi, x) - phi * sp.diff(spread, x)) / 2
    yield Identity("integrated by parts, for any function", left, sp.diff(current, x))


PLANE_RATE = (
    -sp.diff(F_1 * P_2, x)
    - sp.diff(F_2 * P_2, y)
    + (sp.diff(D_11 * P_2, x, 2) + 2 * sp.diff(D_12 * P_2, x, y) + sp.diff(D_22 * P_2, y, 2)) / 2
)


@formula(
    "sde.fokker_planck_plane",
    title="the density in the plane, for any drift and any matrix D = GGᵀ of the diffusion",
    lhs=DENSITY_RATE,
    rhs=PLANE_RATE,
    citations=("S004:8.16", "Oksendal2003:§8.1"),
    uses=("sde.fokker_planck",),
    decoys=(
        Decoy("cross-once", PLANE_RATE - sp.diff(D_12 * P_2, x, y), "state-broadcast",
              "the mixed derivative counted once"),
        Decoy("diagonal-only", PLANE_RATE - 2 * sp.diff(D_12 * P_2, x, y), "state-broadcast",
              "noises of the coordinates taken for independent"),
        Decoy("noise-outside", -sp.diff(F_1 * P_2, x) - sp.diff(F_2 * P_2, y) + (D_11 * sp.diff(P_2, x, 2)
              + 2 * D_12 * sp.diff(P_2, x, y) + D_22 * sp.diff(P_2, y, 2)) / 2, "discretization",
              "D before the derivatives"),
    ),
    mutate=False,  # the terms of the sum are the decoys by hand; ten more of the same kind prove nothing new
)  # fmt: skip
def _fokker_planck_plane(claim: sp.Expr) -> Iterator[Step]:
    """The generator is f·∇φ + ½tr(D∇²φ); moving the derivatives to p leaves the divergence of a current. With
    D = g(t)²·1 it is the equation of a scalar diffusion, and each further coordinate adds its own terms."""
    phi = sp.Function("phi", real=True)(x, y)
    phi_x, phi_y = sp.diff(phi, x), sp.diff(phi, y)
    bend = D_11 * sp.diff(phi, x, 2) + 2 * D_12 * sp.diff(phi, x, y) + D_22 * sp.diff(phi, y, 2)
    left = P_2 * (F_1 * phi_x + F_2 * phi_y + bend / 2) - phi * claim
    out_x = sp.diff(D_11 * P_2, x) + sp.diff(D_12 * P_2, y)
    out_y = sp.diff(D_12 * P_2, x) + sp.diff(D_22 * P_2, y)
    flux_x = F_1 * P_2 * phi + (P_2 * (D_11 * phi_x + D_12 * phi_y) - phi * out_x) / 2
    flux_y = F_2 * P_2 * phi + (P_2 * (D_12 * phi_x + D_22 * phi_y) - phi * out_y) / 2
    yield Identity("integrated by parts, for any function", left, sp.diff(flux_x, x) + sp.diff(flux_y, y))
    same = {D_11: G**2, D_12: ZERO, D_22: G**2}
    scalar = claim.subs(same).doit()
    yield Identity("a scalar diffusion", scalar, fokker_planck_plane(P_2, (F_1, F_2), G**2))


def reversed_density(
    claim: sp.Expr, noise: sp.Expr, kept: sp.Expr, drift: sp.Expr = F, density: sp.Expr = P
) -> Iterator[Step]:
    """In falling time the density of the process with this drift and noise goes back the way it came."""
    back = sp.diff(claim * density, x) + sp.diff(kept * density, x, 2) / 2
    yield Identity(
        "run backwards, its Fokker–Planck equation is the forward one",
        back,
        -fokker_planck(density, drift, noise),
    )
    forth = drift * density - sp.diff(noise * density, x) / 2
    there = -claim * density - sp.diff(kept * density, x) / 2
    yield Identity("its current is the forward one turned round", there, -forth)


def reversed_plane(claim: sp.Expr, noise: sp.Expr, share: sp.Expr = ONE) -> Iterator[Step]:
    """The same in the plane: the claim holds for each coordinate."""
    forward = {x: F_1, y: F_2}
    back = {
        u: claim.subs(
            {drift_x: f, score: sp.diff(P_2, u) / P_2, diffusion: sp.sqrt(noise),
             diffusion_slope: sp.diff(sp.sqrt(noise), u)}, simultaneous=True,
        )
        for u, f in forward.items()
    }  # fmt: skip
    rate = sum(sp.diff(f * P_2, u) + share * sp.diff(noise * P_2, u, 2) / 2 for u, f in back.items())
    yield Identity("in the plane", rate, -fokker_planck_plane(P_2, (F_1, F_2), noise))


def bayes_backwards(claim: sp.Expr, noise: sp.Expr) -> Iterator[Step]:
    """The transition densities back in time, which Bayes' rule gives, are those of the claimed drift."""
    later = -F * sp.diff(KERNEL, x) - noise * sp.diff(KERNEL, x, 2) / 2
    rate = later * P + KERNEL * fokker_planck(P, F, noise)
    joint = KERNEL * P
    back = -sp.diff(claim * joint, x) - sp.diff(noise * joint, x, 2) / 2
    yield Identity("the transition back, by Bayes' rule", rate, back)


AT_POINT = {drift_x: F, diffusion: G, score: sp.diff(P, x) / P}


@formula(
    "sde.reverse_drift",
    title="drift of the reverse SDE, in which time runs down",
    lhs=DRIFT_BACK,
    rhs=drift_x - diffusion**2 * score,
    citations=("Anderson1982", "Song2021:6", "S004:8.2"),
    reference="refdiff.sde:reverse_drift",
    uses=("sde.fokker_planck", "sde.fokker_planck_plane"),
    decoys=(
        Decoy("flow", drift_x - diffusion**2 * score / 2, "discretization",
              "½: the drift of the probability-flow ODE beside the noise of the SDE", "S004:8.19"),
        Decoy("score-added", drift_x + diffusion**2 * score, "sign", "away from the data",
              "atong01/conditional-flow-matching #85"),
        Decoy("not-squared", drift_x - diffusion * score, "sqrt", "g where g² belongs"),
        Decoy("drift-turned", -drift_x + diffusion**2 * score, "sign",
              "the drift for rising time used where time runs down"),
        Decoy("score-only", -(diffusion**2) * score, "sign", "the forward drift forgotten"),
    ),
)  # fmt: skip
def _reverse_drift(claim: sp.Expr) -> Iterator[Step]:
    """In falling time the process with minus this drift and the same noise carries every density back, and
    its current is the forward one turned round. That holds for many processes; this one also has the
    transition densities of the forward process read backwards. Let k be the density of a later state given x,
    as a function of x and its time: it solves the backward equation −∂k = f·k' + ½g²·k''. By Bayes' rule the
    density of x given the later state is k·p up to a constant, and its rate in time is that of the claimed
    drift. In the plane, and so in any dimension, each coordinate has its own score."""
    here = claim.subs(AT_POINT)
    yield from reversed_density(here, G**2, G**2)
    yield from bayes_backwards(here, G**2)
    yield from reversed_plane(claim, G**2)


@formula(
    "sde.reverse_drift_multiplicative",
    title="drift of the reverse SDE where the diffusion depends on the place",
    lhs=DRIFT_BACK,
    rhs=drift_x - diffusion**2 * score - 2 * diffusion * diffusion_slope,
    citations=("Anderson1982", "Song2021:16"),
    uses=("sde.reverse_drift",),
    decoys=(
        Decoy("additive", drift_x - diffusion**2 * score, "discretization",
              "the divergence of the diffusion forgotten"),
        Decoy("stratonovich", drift_x - diffusion**2 * score - diffusion * diffusion_slope, "discretization",
              "the correction of the Stratonovich reading"),
        Decoy("slope-of-deviation", drift_x - diffusion**2 * score - diffusion_slope, "sqrt",
              "the slope of g where that of g² belongs"),
    ),
)  # fmt: skip
def _reverse_drift_multiplicative(claim: sp.Expr) -> Iterator[Step]:
    """The same proof with g(x, t): the drift loses the divergence of g² as well."""
    at = {drift_x: F, diffusion: G_X, score: sp.diff(P, x) / P, diffusion_slope: sp.diff(G_X, x)}
    here = claim.subs(at, simultaneous=True)
    yield from reversed_density(here, G_X**2, G_X**2)
    yield from bayes_backwards(here, G_X**2)
    yield from reversed_plane(claim, G_2**2)
    yield Identity("without the slope the reverse drift", claim.subs(diffusion_slope, 0), REVERSE)


REVERSE = drift_x - diffusion**2 * score


@formula(
    "sde.reverse_family",
    title="drift of the processes that run back with the share η of the noise",
    lhs=DRIFT_BACK,
    rhs=drift_x - (1 + noise_share**2) / 2 * diffusion**2 * score,
    citations=("Karras2022:§4", "Zhang2023:§3", "S004:8.2", "S004:8.19"),
    reference="refdiff.sde:reverse_drift",
    uses=("sde.reverse_drift",),
    decoys=(
        Decoy("reverse", REVERSE, "variance", "the drift of the reverse SDE beside less noise"),
        Decoy("not-squared", drift_x - (1 + noise_share) / 2 * diffusion**2 * score, "sqrt",
              "η where η² belongs"),
        Decoy("noise-only", drift_x - noise_share**2 * diffusion**2 * score, "sign",
              "half the score of the flow forgotten"),
    ),
)  # fmt: skip
def _reverse_family(claim: sp.Expr) -> Iterator[Step]:
    """With the noise η·g the density goes back the way it came for every η: all the noise is the reverse SDE,
    none is the probability-flow ODE. Only the marginals are the same; of these processes the reverse SDE
    alone has the transitions of the forward process."""
    here = claim.subs(AT_POINT)
    yield from reversed_density(here, G**2, noise_share**2 * G**2)
    yield from reversed_plane(claim, G**2, noise_share**2)
    yield Identity("all the noise", claim.subs(noise_share, 1), REVERSE)
    yield Identity("no noise", claim.subs(noise_share, 0), drift_x - diffusion**2 * score / 2)


SCORE_GAP = (score - score_hat) ** 2


@formula(
    "sde.kl_rate",
    title="rate of the divergence of two densities under one SDE, at a point and per density",
    lhs=sp.Symbol("kl_rate", real=True),
    rhs=-(diffusion**2) / 2 * SCORE_GAP,
    citations=("Song2021likelihood:thm1", "Lyu2009:thm1", "S004:8.3"),
    reference="refdiff.sde:dsm_loss",
    uses=("sde.fokker_planck",),
    decoys=(
        Decoy("not-halved", -(diffusion**2) * SCORE_GAP, "loss-weight", "½ is missing"),
        Decoy("growing", diffusion**2 / 2 * SCORE_GAP, "sign", "noise that drives laws apart"),
        Decoy("not-squared", -diffusion / 2 * SCORE_GAP, "sqrt", "g where g² belongs"),
        Decoy("drift-counts", -(diffusion**2) / 2 * SCORE_GAP - drift_x * (score - score_hat), "likelihood",
              "a drift that changes divergences: it moves both laws alike"),
    ),
)  # fmt: skip
def _kl_rate(claim: sp.Expr) -> Iterator[Step]:
    """KL(p‖q) with both densities under the same drift and noise: its integrand p·log(p/q) changes by
    p_t·log(p/q) + p_t − q_t·p/q. Put both Fokker–Planck equations in: up to the derivative of a current it is
    p times the claim, for any drift. So the divergence falls by ½g² times the mean squared difference of the
    scores, and λ = g² weighs every time by what its score error costs in likelihood."""
    log_ratio = sp.log(P) - sp.log(Q)
    p_t, q_t = fokker_planck(P, F, G**2), fokker_planck(Q, F, G**2)
    change = p_t * log_ratio + p_t - q_t * P / Q
    flow_p, flow_q = (F * r - G**2 * sp.diff(r, x) / 2 for r in (P, Q))
    current = -flow_p * log_ratio - flow_p + flow_q * P / Q
    here = claim.subs({score: sp.diff(P, x) / P, score_hat: sp.diff(Q, x) / Q, diffusion: G, drift_x: F})
    yield Identity("up to a current, on a line", change - sp.diff(current, x), P * here)
    yield from _kl_rate_plane(claim)


def _kl_rate_plane(claim: sp.Expr) -> Iterator[Step]:
    log_ratio, drifts = sp.log(P_2) - sp.log(Q_2), {x: F_1, y: F_2}
    p_t, q_t = (fokker_planck_plane(r, (F_1, F_2), G**2) for r in (P_2, Q_2))
    total, gaps = p_t * log_ratio + p_t - q_t * P_2 / Q_2, ZERO
    for u, f in drifts.items():
        flow_p, flow_q = (f * r - G**2 * sp.diff(r, u) / 2 for r in (P_2, Q_2))
        total -= sp.diff(-flow_p * log_ratio - flow_p + flow_q * P_2 / Q_2, u)
        at = {score: sp.diff(P_2, u) / P_2, score_hat: sp.diff(Q_2, u) / Q_2, diffusion: G, drift_x: f}
        gaps += claim.subs(at)
    yield Identity("in the plane: one term for each coordinate", total, P_2 * gaps)


@formula(
    "sde.entropy_rate",
    title="rate of the entropy of a density under an SDE, at a point and per density",
    lhs=sp.Symbol("entropy_rate", real=True),
    rhs=drift_slope + diffusion**2 / 2 * score**2,
    citations=("Stam1959", "Song2021likelihood:thm2"),
    uses=("sde.fokker_planck",),
    decoys=(
        Decoy("noise-alone", diffusion**2 / 2 * score**2, "likelihood",
              "the volume that the drift takes or gives forgotten"),
        Decoy("not-halved", drift_slope + diffusion**2 * score**2, "loss-weight", "½ is missing"),
        Decoy("divergence-of-minus", -drift_slope + diffusion**2 / 2 * score**2, "sign",
              "a contracting drift that raises the entropy"),
    ),
)  # fmt: skip
def _entropy_rate(claim: sp.Expr) -> Iterator[Step]:
    """−p·log p changes by −p_t·(1 + log p); up to a current it is p times the divergence of the drift plus
    half g² times the squared score, the identity of de Bruijn."""
    change = -fokker_planck(P, F, G**2) * (1 + sp.log(P))
    flow = F * P - G**2 * sp.diff(P, x) / 2
    current = flow * (1 + sp.log(P)) - F * P
    here = claim.subs({drift_slope: sp.diff(F, x), score: sp.diff(P, x) / P, diffusion: G})
    yield Identity("up to a current", change - sp.diff(current, x), P * here)


@formula(
    "sde.path_divergence",
    title="divergence that an error of the score adds to the law of paths, in one step",
    lhs=sp.Symbol("D_step", nonnegative=True),
    rhs=time_step * diffusion**2 * SCORE_GAP / 2,
    citations=("Song2021likelihood:thm1", "Girsanov1960"),
    reference="refdiff.sde:dsm_loss",
    uses=("sde.reverse_drift",),
    decoys=(
        Decoy("not-halved", time_step * diffusion**2 * SCORE_GAP, "loss-weight", "½ is missing"),
        Decoy("unweighted", time_step * SCORE_GAP / 2, "loss-weight", "as if every time cost the same"),
        Decoy("fourth-power", time_step * diffusion**4 * SCORE_GAP / 2, "variance",
              "the error of the drift not divided by the variance of the noise"),
        Decoy("squared-step", time_step**2 * diffusion**2 * SCORE_GAP / 2, "discretization",
              "the squared error of the step itself"),
    ),
)  # fmt: skip
def _path_divergence(claim: sp.Expr) -> Iterator[Step]:
    """Two steps of the reverse SDE from one state, with the score and with its prediction: normal laws of one
    variance g²h whose means differ by g²h times the difference. The mean of the log of their ratio under the
    first law is the claim. The divergences of the steps of a Markov chain add up, so over all times the paths
    differ by ½∫g²·E|s − ŝ|²dt, and the law of their ends by no more: the weight λ = g²."""
    state, spread = sp.Symbol("x_next", real=True), time_step * diffusion**2
    means = [x - time_step * (drift_x - diffusion**2 * s) for s in (score, score_hat)]
    log_ratio = ((state - means[1]) ** 2 - (state - means[0]) ** 2) / (2 * spread)
    yield Expectation("mean log-ratio of the steps", log_ratio, {state: (means[0], spread)}, claim)
