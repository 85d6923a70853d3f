"""Couplings of data and noise, bridges between coupled points, and flows with noise. Part of the topic
``flow``.

A coupling pairs each of some points with one of others; its cost is the sum of squared distances. In several
dimensions products of differences are inner products, sums over coordinates of what is written for one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction
from itertools import permutations

import sympy as sp

from derivations.flow import continuity
from derivations.kit import Decoy, Enumeration, Identity, Inequality, Step, formula, normal
from derivations.symbols import (
    data_gap,
    end_0,
    end_1,
    eps,
    flow_t,
    noise_gap,
    noise_rate,
    score,
    sigma,
    tau,
    velocity,
    x,
    x_t,
)

SIGNS = "atong01/conditional-flow-matching #85"
LOG_DENSITY = "conditional-flow-matching commit 237f670"
PERMUTED = "conditional-flow-matching PR#178"


@formula(
    "flow.coupling_swap",
    title="what two pairs cost above the same points with their partners exchanged",
    lhs=sp.Symbol("cost", real=True),
    rhs=-2 * data_gap * noise_gap,
    citations=("Tong2024",),
    reference="refdiff.flow:assignment",
    decoys=(
        Decoy("sign", 2 * data_gap * noise_gap, "sign", "the gain for the cost"),
        Decoy("half", -data_gap * noise_gap, "loss-weight", "one of the two products"),
        Decoy("squares", data_gap**2 - noise_gap**2, "loss-weight", "the products of other differences"),
    ),
)  # fmt: skip
def _coupling_swap(claim: sp.Expr) -> Iterator[Step]:
    """The squares cancel and two products are left. So a coupling is cheapest only if no two of its pairs run
    against each other, Δx_0·Δx_1 ≥ 0; on a line that is the coupling in order, the cheapest of all, as is
    checked on every coupling of up to five points. A permutation applied to the first points instead of the
    second is the inverse one: the same for two points, another coupling for three."""
    x_1, x_2, y_1, y_2 = sp.symbols("x_1 x_2 y_1 y_2", real=True)
    cost = (x_1 - y_1) ** 2 + (x_2 - y_2) ** 2 - (x_1 - y_2) ** 2 - (x_2 - y_1) ** 2
    yield Identity("two pairs", cost, claim.subs({data_gap: x_1 - x_2, noise_gap: y_1 - y_2}))
    yield Enumeration("the coupling in order is cheapest", _sorted_couplings)
    yield Enumeration("the permutation belongs to one side", _wrong_side)


def _cost(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    return sum((p - q) ** 2 for p, q in zip(first, second, strict=True))


def _sorted_couplings() -> Iterator[tuple[str, Fraction, Fraction]]:
    draw = random.Random(20230301)
    for count in (2, 3, 4, 5):
        data, noise = (tuple(sorted(draw.sample(range(-50, 50), count))) for _ in range(2))
        least = min(_cost(data, order) for order in permutations(noise))
        yield f"{count} points", Fraction(_cost(data, noise)), Fraction(least)


def _wrong_side() -> Iterator[tuple[str, Fraction, Fraction]]:
    """The cheapest permutation on its own side costs least; on the other side it costs this much."""
    data, noise = (0, 10, 20), (11, 19, 1)
    best = min(permutations(range(3)), key=lambda order: _cost(data, tuple(noise[k] for k in order)))
    yield "on the second points", Fraction(_cost(data, tuple(noise[k] for k in best))), Fraction(3)
    yield "on the first points", Fraction(_cost(tuple(data[k] for k in best), noise)), Fraction(523)


DISTANCE = ((1 - flow_t) * data_gap + flow_t * noise_gap) ** 2


@formula(
    "flow.coupling_distance",
    title="squared distance of two straight paths at a time, one coordinate",
    lhs=sp.Symbol("d", nonnegative=True),
    rhs=DISTANCE,
    citations=("Tong2024", "Liu2022"),
    reference="refdiff.flow:assignment",
    uses=("flow.coupling_swap",),
    decoys=(
        Decoy("no-product", (1 - flow_t) ** 2 * data_gap**2 + flow_t**2 * noise_gap**2, "variance",
              "as if the differences were at right angles"),
        Decoy("other-end", (flow_t * data_gap + (1 - flow_t) * noise_gap) ** 2, "index", "1−t for t"),
    ),
)  # fmt: skip
def _coupling_distance(claim: sp.Expr) -> Iterator[Step]:
    """Where two pairs do not run against each other, Δx_0·Δx_1 ≥ 0, their paths never meet at one time: in
    any dimension the distance is positive. So the paths of the cheapest coupling do not cross, and given x_t
    a finite batch leaves no doubt about the velocity. Paths that run against each other on a line do meet."""
    x_1, x_2, y_1, y_2 = sp.symbols("x_1 x_2 y_1 y_2", real=True)
    gap = (1 - flow_t) * (x_1 - x_2) + flow_t * (y_1 - y_2)
    yield Identity("two paths", gap**2, claim.subs({data_gap: x_1 - x_2, noise_gap: y_1 - y_2}))
    first, second, product = sp.symbols("A B C", positive=True)
    distance = (1 - flow_t) ** 2 * first + flow_t**2 * second + 2 * flow_t * (1 - flow_t) * product
    terms = {first: data_gap**2, second: noise_gap**2, product: data_gap * noise_gap}
    yield Identity("in terms of inner products", claim, distance.subs(terms))
    yield Inequality("they do not meet", distance, ">", sp.Integer(0))
    yield Inequality("nor at a right angle", distance.subs(product, 0), ">", sp.Integer(0))
    meeting = {flow_t: data_gap / (data_gap - noise_gap)}
    yield Identity("they meet if they run against each other", claim.subs(meeting), sp.Integer(0))


LINE = (1 - flow_t) * end_0 + flow_t * end_1
BRIDGE_VARIANCE = sigma**2 * flow_t * (1 - flow_t)
BRIDGE_VELOCITY = (1 - 2 * flow_t) / (2 * flow_t * (1 - flow_t)) * (x_t - LINE) + end_1 - end_0


@formula(
    "flow.bridge_velocity",
    title="the velocity of a Brownian bridge between two points",
    lhs=velocity,
    rhs=BRIDGE_VELOCITY,
    citations=("Tong2024", "Tong2023"),
    reference="refdiff.flow:bridge_velocity",
    decoys=(
        Decoy("line-alone", end_1 - end_0, "variance", "the velocity of the line: the noise is not carried"),
        Decoy("variance-slope", (1 - 2 * flow_t) / (flow_t * (1 - flow_t)) * (x_t - LINE) + end_1 - end_0,
              "sqrt", "the logarithmic slope of the variance where that of the deviation belongs"),
        Decoy("bridge-drift", (end_1 - x_t) / (1 - flow_t), "sign",
              "the drift of the bridge's SDE, which needs its noise"),
        Decoy("reversed", BRIDGE_VELOCITY - 2 * (end_1 - end_0), "sign",
              "the ends exchanged in the displacement"),
    ),
)  # fmt: skip
def _bridge_velocity(claim: sp.Expr) -> Iterator[Step]:
    """The derivative of the line plus σ√(t(1−t))·ε at fixed noise; the diffusion σ drops out. It moves the
    normal law of the bridge along: the continuity equation holds."""
    path = LINE + sp.sqrt(BRIDGE_VARIANCE) * eps
    yield Identity("derivative of the path", sp.diff(path, flow_t), claim.subs(x_t, path))
    at = {flow_t: tau, x_t: x}
    law = normal(x, LINE.subs(at), sigma**2 * tau * (1 - tau))
    log_q, field = law.exponent - sp.log(sigma**2 * tau * (1 - tau)) / 2, claim.subs(at)
    residual = sp.diff(log_q, tau) + sp.diff(field, x) + field * sp.diff(log_q, x)
    yield Identity("the continuity equation, over the density", residual, sp.Integer(0))


@formula(
    "flow.bridge_score",
    title="the score of a Brownian bridge given its ends",
    lhs=score,
    rhs=(LINE - x_t) / BRIDGE_VARIANCE,
    citations=("Tong2024", "Tong2023"),
    reference="refdiff.flow:bridge_score_weight",
    uses=("flow.bridge_velocity",),
    decoys=(
        Decoy("log-density", normal(x_t, LINE, BRIDGE_VARIANCE).exponent, "loss-weight",
              "the log-density where its gradient belongs", LOG_DENSITY),
        Decoy("deviation", (LINE - x_t) / sp.sqrt(BRIDGE_VARIANCE), "sqrt", "divided by the deviation"),
        Decoy("away", (x_t - LINE) / BRIDGE_VARIANCE, "sign", "away from the line"),
    ),
)  # fmt: skip
def _bridge_score(claim: sp.Expr) -> Iterator[Step]:
    """The gradient of the normal log-density; along the bridge it is −ε over the deviation."""
    yield Identity("gradient", sp.diff(normal(x_t, LINE, BRIDGE_VARIANCE).exponent, x_t), claim)
    path = LINE + sp.sqrt(BRIDGE_VARIANCE) * eps
    yield Identity("minus the noise", claim.subs(x_t, path) * sp.sqrt(BRIDGE_VARIANCE), -eps)


@formula(
    "flow.bridge_score_weight",
    title="the factor that makes the bridge's score a target of unit size",
    lhs=sp.Symbol("target_weight", nonnegative=True),
    rhs=sigma * sp.sqrt(flow_t * (1 - flow_t)),
    citations=("Tong2023",),
    reference="refdiff.flow:bridge_score_weight",
    uses=("flow.bridge_score",),
    decoys=(
        Decoy("variance", BRIDGE_VARIANCE, "loss-weight", "the variance where the deviation belongs"),
        Decoy("reciprocal", 1 / (sigma * sp.sqrt(flow_t * (1 - flow_t))), "loss-weight",
              "one over the deviation"),
        Decoy("unit", sp.Integer(1), "loss-weight", "the score itself, which is infinite at both ends"),
    ),
)  # fmt: skip
def _bridge_score_weight(claim: sp.Expr) -> Iterator[Step]:
    """The deviation of the bridge: times the score it is minus the noise, of unit size at all times."""
    path = LINE + sp.sqrt(BRIDGE_VARIANCE) * eps
    at_path = ((LINE - x_t) / BRIDGE_VARIANCE).subs(x_t, path)
    yield Identity("unit size", claim * at_path, -eps)


FORWARD, BACKWARD = (sign * velocity + noise_rate**2 / 2 * score for sign in (1, -1))
p = sp.Function("p", positive=True)(tau, x)
u = sp.Function("u", real=True)(tau, x)


def _moved(drift: sp.Expr) -> sp.Expr:
    """What the Fokker–Planck equation adds to the density per unit of the process's own time."""
    at = drift.subs({velocity: u, score: sp.diff(p, x) / p})
    return -sp.diff(at * p, x) + noise_rate**2 * sp.diff(p, x, 2) / 2


@formula(
    "flow.sde_drift",
    title="the drift of a process with noise that has the marginals of a flow",
    lhs=sp.Symbol("drift", real=True),
    rhs=FORWARD,
    citations=("Song2021sde:6", "Ma2024", "Tong2023"),
    reference="refdiff.flow:sde_drift",
    uses=("flow.velocity_from_score",),
    decoys=(
        Decoy("whole-diffusion", velocity + noise_rate**2 * score, "variance", "g² where ½g² belongs"),
        Decoy("no-score", velocity, "sign", "the velocity alone, which does not make up for the noise"),
        Decoy("minus", velocity - noise_rate**2 / 2 * score, "sign", "the score with the wrong sign", SIGNS),
    ),
)  # fmt: skip
def _sde_drift(claim: sp.Expr) -> Iterator[Step]:
    """Any density and any velocity with it: the Fokker–Planck equation of this drift and the diffusion g is
    the continuity equation, since ½g²·∇log p·p is ½g²·∇p. The size of g is free, at every time."""
    yield Identity("Fokker–Planck is continuity", continuity(p, (u, x)) - sp.diff(p, tau), -_moved(claim))
    yield Identity("no noise", claim.subs(noise_rate, 0), velocity)


@formula(
    "flow.sde_drift_backward",
    title="the drift of the backward process with the marginals of a flow, by the time that runs backward",
    lhs=sp.Symbol("drift", real=True),
    rhs=BACKWARD,
    citations=("Song2021sde:6", "Ma2024", "Tong2023"),
    reference="refdiff.flow:sde_drift",
    uses=("flow.sde_drift",),
    decoys=(
        Decoy("forward", FORWARD, "sign", "the drift of the forward process"),
        Decoy("both-turned", -velocity - noise_rate**2 / 2 * score, "sign",
              "the score is turned with the velocity", SIGNS),
        Decoy("score-turned", velocity - noise_rate**2 / 2 * score, "sign",
              "the score is turned in place of the velocity", SIGNS),
    ),
)  # fmt: skip
def _sde_drift_backward(claim: sp.Expr) -> Iterator[Step]:
    """Backward, the density changes by plus the divergence of p·u per unit of time; noise still spreads it,
    so the score keeps its sign and the velocity alone turns. Noise of any size may be added on the way."""
    yield Identity("Fokker–Planck backward", _moved(claim), sp.diff(p * u, x))
    yield Identity("no noise", claim.subs(noise_rate, 0), -velocity)
