"""Velocity, noise, data and score of one path, each from each other. Part of the topic ``flow``.

x_t = a·x_0 + b·ε and u = a'·x_0 + b'·ε are two equations in two unknowns with the determinant W = a·b' −
a'·b. What is proved for one pair holds for means given x_t, since every relation is linear; ε is then the
mean noise, −b times the score of the marginal.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations.flow import (
    DETERMINANT,
    NOISED,
    TARGET,
    a,
    b,
    continuity,
    on_any_path,
)
from derivations.kit import Decoy, Identity, Step, formula, normal
from derivations.symbols import (
    eps,
    flow_t,
    path_scale,
    path_scale_slope,
    path_std,
    path_std_slope,
    score,
    tau,
    velocity,
    x,
    x_0,
    x_t,
)

RATE = path_scale_slope / path_scale
"""The drift's factor f of the process with these marginals."""
HALF_DIFFUSION = path_std * path_std_slope - RATE * path_std**2
"""½g² of that process."""
VE_SLOPE = path_std_slope / path_std
FROM_EPS = RATE * x_t + (path_std_slope - RATE * path_std) * eps
FROM_X_0 = VE_SLOPE * x_t + (path_scale_slope - VE_SLOPE * path_scale) * x_0
FROM_SCORE = RATE * x_t - HALF_DIFFUSION * score
PAIR = {x_t: NOISED, velocity: TARGET}


@formula(
    "flow.determinant",
    title="the determinant of data and noise to place and velocity",
    lhs=sp.Symbol("W", real=True),
    rhs=DETERMINANT,
    citations=("Albergo2023",),
    reference="refdiff.flow:x_0_from_velocity",
    decoys=(
        Decoy("sum", path_scale * path_std_slope + path_scale_slope * path_std, "sign",
              "the derivative of the product a·b"),
        Decoy("transposed", path_scale * path_scale_slope - path_std * path_std_slope, "parameterization",
              "each factor with its own slope"),
    ),
)  # fmt: skip
def _determinant(claim: sp.Expr) -> Iterator[Step]:
    """Of the two equations x_t = a·x_0 + b·ε and u = a'·x_0 + b'·ε. It is −a·b times the slope of the
    half-log signal-to-noise ratio λ, and a² times the slope of b/a: where it is not zero, velocity and place
    tell data and noise, even where a or b is zero. On a straight path it is constant."""
    rows = ((path_scale, path_std), (path_scale_slope, path_std_slope))
    yield Identity("of the two equations", claim, sp.Matrix(rows).det())
    yield Identity("slope of λ", on_any_path(claim), -a * b * sp.diff(sp.log(a) - sp.log(b), tau))
    yield Identity("slope of the noise level", on_any_path(claim), a**2 * sp.diff(b / a, tau))
    start, rise, fall = sp.symbols("b_0 b_1 a_1", real=True)
    line, level = 1 + fall * tau, start + rise * tau
    straight = {
        path_scale: line, path_std: level, path_scale_slope: fall, path_std_slope: rise
    }  # fmt: skip
    yield Identity("constant on straight lines", sp.diff(claim.subs(straight), tau), sp.Integer(0))


@formula(
    "flow.velocity_from_eps",
    title="velocity from noise",
    lhs=velocity,
    rhs=FROM_EPS,
    citations=("Albergo2023", "Esser2024:§2"),
    reference="refdiff.flow:velocity",
    uses=("flow.conditional_velocity",),
    decoys=(
        Decoy("rate-of-std", VE_SLOPE * x_t + (path_std_slope - RATE * path_std) * eps, "parameterization",
              "the logarithmic slope of the noise where that of the data belongs"),
        Decoy("noise-alone", RATE * x_t + path_std_slope * eps, "parameterization",
              "the noise that is part of x_t is not taken off"),
    ),
)  # fmt: skip
def _velocity_from_eps(claim: sp.Expr) -> Iterator[Step]:
    """Data eliminated. The coefficient of the noise is W/a; without signal, a = 0, the noise is x_t itself
    and says nothing about the velocity: that end is singular."""
    yield Identity("the pair put in", claim.subs(PAIR), TARGET)
    yield Identity("W over the scale", sp.diff(claim, eps), DETERMINANT / path_scale)


@formula(
    "flow.velocity_from_x_0",
    title="velocity from data",
    lhs=velocity,
    rhs=FROM_X_0,
    citations=("Lipman2023:15", "Lipman2023:thm3"),
    reference="refdiff.flow:velocity",
    uses=("flow.conditional_velocity",),
    decoys=(
        Decoy("rate-of-scale", RATE * x_t + (path_scale_slope - VE_SLOPE * path_scale) * x_0,
              "parameterization", "the logarithmic slope of the data where that of the noise belongs"),
        Decoy("data-alone", VE_SLOPE * x_t + path_scale_slope * x_0, "parameterization",
              "x_t is not centred: the mean a·x_0 is not taken off"),
    ),
)  # fmt: skip
def _velocity_from_x_0(claim: sp.Expr) -> Iterator[Step]:
    """Noise eliminated. The field moves the normal law of x_t given x_0 along: the continuity equation holds
    with it, for any two functions of time. Without noise, b = 0, it is singular."""
    yield Identity("the pair put in", claim.subs(PAIR), TARGET)
    law = normal(x, a * x_0, b**2)
    q, field = law.factor * sp.exp(law.exponent), on_any_path(claim).subs(x_t, x)
    yield Identity("the continuity equation", continuity(q, (field, x)) / q, sp.Integer(0))


@formula(
    "flow.velocity_from_score",
    title="velocity from the score of the marginal",
    lhs=velocity,
    rhs=FROM_SCORE,
    citations=("Song2021sde:13", "Albergo2023", "S004:8.19"),
    reference="refdiff.flow:velocity",
    uses=("flow.velocity_from_eps", "flow.marginal_velocity", "ddpm.tweedie"),
    decoys=(
        Decoy("whole-diffusion", RATE * x_t - 2 * HALF_DIFFUSION * score, "sign",
              "g² where ½g² belongs: the drift of the reverse SDE"),
        Decoy("towards-density", RATE * x_t + HALF_DIFFUSION * score, "sign",
              "the score with the wrong sign"),
        Decoy("no-drift", -HALF_DIFFUSION * score, "parameterization", "the path taken for one of scale 1"),
        Decoy("std-slope", RATE * x_t - path_std * path_std_slope * score, "variance",
              "the slope of ½b², as if the drift added no spread"),
    ),
)  # fmt: skip
def _velocity_from_score(claim: sp.Expr) -> Iterator[Step]:
    """f·x − ½g²·∇log p with f = a'/a and g² = (b²)' − 2f·b²: the probability-flow velocity. For any density
    that the process dx = f·x dt + g dw moves, the Fokker–Planck equation and the continuity equation of the
    claim are one equation. The mean noise given x_t is −b times the score. For a two-point law the continuity
    equation holds with no axiom."""
    yield Identity("the mean noise is −b times the score", claim.subs(score, -eps / path_std), FROM_EPS)
    f = sp.diff(sp.log(a), tau)
    g_squared = sp.diff(b**2, tau) - 2 * f * b**2
    p = sp.Function("p", positive=True)(tau, x)
    field = on_any_path(claim).subs({x_t: x, score: sp.diff(p, x) / p})
    moved = -sp.diff(f * x * p, x) + g_squared * sp.diff(p, x, 2) / 2
    yield Identity("Fokker–Planck is continuity", moved, -sp.diff(p * field, x))
    total = _two_points()
    field = on_any_path(claim).subs({x_t: x, score: sp.diff(total, x) / total})
    yield Identity("any two-point law", continuity(total, (field, x)), sp.Integer(0))


def _two_points() -> sp.Expr:
    """The density at time τ of noised data that sit at two points."""
    first, second = sp.symbols("m_1 m_2", real=True)
    weight = sp.Symbol("w", positive=True)
    laws = (normal(x, a * point, b**2) for point in (first, second))
    one, other = (law.factor * sp.exp(law.exponent) for law in laws)
    return weight * one + other


@formula(
    "flow.x_0_from_velocity",
    title="data from the velocity",
    lhs=x_0,
    rhs=(path_std_slope * x_t - path_std * velocity) / DETERMINANT,
    citations=("Albergo2023",),
    reference="refdiff.flow:x_0_from_velocity",
    uses=("flow.determinant",),
    decoys=(
        Decoy("straight", x_t - path_std * velocity, "parameterization",
              "the rule of the straight path, W = b' = 1, on every path"),
        Decoy("other-direction", (path_std_slope * x_t + path_std * velocity) / DETERMINANT, "sign",
              "a velocity that points to the data"),
    ),
)  # fmt: skip
def _x_0_from_velocity(claim: sp.Expr) -> Iterator[Step]:
    """Cramer's rule; it needs that W is not zero, and neither signal nor noise."""
    yield Identity("the pair put in", claim.subs(PAIR), x_0)


@formula(
    "flow.eps_from_velocity",
    title="noise from the velocity",
    lhs=eps,
    rhs=(path_scale * velocity - path_scale_slope * x_t) / DETERMINANT,
    citations=("Albergo2023",),
    reference="refdiff.flow:eps_from_velocity",
    uses=("flow.determinant",),
    decoys=(
        Decoy("straight", x_t + path_scale * velocity, "parameterization",
              "the rule of the straight path, W = −a' = 1, on every path"),
        Decoy("other-direction", (-path_scale * velocity - path_scale_slope * x_t) / DETERMINANT, "sign",
              "a velocity that points to the data"),
    ),
)  # fmt: skip
def _eps_from_velocity(claim: sp.Expr) -> Iterator[Step]:
    """Cramer's rule; it needs that W is not zero, and neither signal nor noise."""
    yield Identity("the pair put in", claim.subs(PAIR), eps)


@formula(
    "flow.score_from_velocity",
    title="score of the marginal from its velocity",
    lhs=score,
    rhs=-(path_scale * velocity - path_scale_slope * x_t) / (DETERMINANT * path_std),
    citations=("Albergo2023", "Ma2024"),
    reference="refdiff.flow:score_from_velocity",
    uses=("flow.eps_from_velocity", "flow.velocity_from_score"),
    decoys=(
        Decoy("noise", (path_scale * velocity - path_scale_slope * x_t) / DETERMINANT, "parameterization",
              "the noise itself"),
        Decoy("variance", -(path_scale * velocity - path_scale_slope * x_t) / (DETERMINANT * path_std**2),
              "sqrt", "divided by the variance of the noise"),
    ),
)  # fmt: skip
def _score_from_velocity(claim: sp.Expr) -> Iterator[Step]:
    """Minus the noise over b; so without noise, b = 0, it is singular. It undoes the velocity from the
    score."""
    yield Identity("the pair put in", claim.subs(PAIR), -eps / path_std)
    yield Identity("there and back", claim.subs(velocity, FROM_SCORE), score)


RECTIFIED = {path_scale: 1 - flow_t, path_std: flow_t, path_scale_slope: -1, path_std_slope: 1}
RECTIFIED_PAIR = {x_t: (1 - flow_t) * x_0 + flow_t * eps, velocity: eps - x_0}


@formula(
    "flow.rectified_x_0",
    title="data from the velocity of the rectified path",
    lhs=x_0,
    rhs=x_t - flow_t * velocity,
    citations=("Esser2024:§3", "Liu2022"),
    reference="refdiff.flow:x_0_from_velocity",
    uses=("flow.x_0_from_velocity",),
    decoys=(
        Decoy("other-end", x_t - (1 - flow_t) * velocity, "index",
              "1−t for t: the time counted from the noise"),
        Decoy("other-direction", x_t + flow_t * velocity, "sign", "a velocity that points to the data"),
        Decoy("both", x_t + (1 - flow_t) * velocity, "sign", "the noise: the data of the other direction"),
    ),
)  # fmt: skip
def _rectified_x_0(claim: sp.Expr) -> Iterator[Step]:
    """W = 1 at every time, so there is no singular end: at the data it is x_t, at the noise x_t − u."""
    yield Identity("the pair put in", claim.subs(RECTIFIED_PAIR), x_0)
    general = (path_std_slope * x_t - path_std * velocity) / DETERMINANT
    yield Identity("the rule of every path", claim, general.subs(RECTIFIED))


@formula(
    "flow.rectified_eps",
    title="noise from the velocity of the rectified path",
    lhs=eps,
    rhs=x_t + (1 - flow_t) * velocity,
    citations=("Esser2024:§3", "Liu2022"),
    reference="refdiff.flow:eps_from_velocity",
    uses=("flow.eps_from_velocity",),
    decoys=(
        Decoy("other-end", x_t + flow_t * velocity, "index", "t for 1−t: the time counted from the noise"),
        Decoy("other-direction", x_t - (1 - flow_t) * velocity, "sign", "a velocity that points to the data"),
    ),
)  # fmt: skip
def _rectified_eps(claim: sp.Expr) -> Iterator[Step]:
    """W = 1 at every time, so there is no singular end."""
    yield Identity("the pair put in", claim.subs(RECTIFIED_PAIR), eps)
    general = (path_scale * velocity - path_scale_slope * x_t) / DETERMINANT
    yield Identity("the rule of every path", claim, general.subs(RECTIFIED))


@formula(
    "flow.rectified_score",
    title="score of the marginal from the velocity of the rectified path",
    lhs=score,
    rhs=-(x_t + (1 - flow_t) * velocity) / flow_t,
    citations=("Esser2024:§3", "Ma2024"),
    reference="refdiff.flow:score_from_velocity",
    uses=("flow.score_from_velocity", "flow.rectified_eps"),
    decoys=(
        Decoy("data-direction", (flow_t * velocity - x_t) / (1 - flow_t), "index",
              "the rule for data at time 1 with the time of data at 0"),
        Decoy("towards-noise", (x_t + (1 - flow_t) * velocity) / flow_t, "sign",
              "the noise over its deviation"),
    ),
)  # fmt: skip
def _rectified_score(claim: sp.Expr) -> Iterator[Step]:
    """Minus the noise over t."""
    yield Identity("the pair put in", claim.subs(RECTIFIED_PAIR), -eps / flow_t)
