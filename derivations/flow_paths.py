"""The paths of practice and their velocities. Part of the topic ``flow``.

Data are at time 0 and noise at time 1, so Lipman et al.'s formulas appear here with 1−t for their t and with
the other sign.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations.flow import FIT
from derivations.flow_conversions import FROM_SCORE, FROM_X_0
from derivations.kit import Decoy, Identity, Step, formula
from derivations.symbols import (
    beta_min,
    eps,
    flow_t,
    path_scale,
    path_scale_slope,
    path_std,
    path_std_slope,
    rate_gap,
    residual_std,
    score,
    sigma_1,
    sigma_L,
    velocity,
    x_0,
    x_t,
)

DIRECTION = "lucidrains/rectified-flow-pytorch #14"
NOISE_LEVEL = residual_std + (1 - residual_std) * flow_t


def along(scale: sp.Expr, std: sp.Expr) -> dict[sp.Basic, sp.Expr]:
    """The numbers of a path that is given as functions of time."""
    slopes = {path_scale_slope: sp.diff(scale, flow_t), path_std_slope: sp.diff(std, flow_t)}
    return {path_scale: scale, path_std: std, **slopes}


def of_path(rule: sp.Expr, scale: sp.Expr, std: sp.Expr) -> sp.Expr:
    """A rule of every path at one of them."""
    return rule.subs(along(scale, std), simultaneous=True)


@formula(
    "flow.rectified_velocity",
    title="the velocity of the rectified path: noise minus data",
    lhs=velocity,
    rhs=eps - x_0,
    citations=("Esser2024:§3", "conventions:Flow matching"),
    reference="refdiff.flow:conditional_velocity",
    uses=("flow.conditional_velocity",),
    decoys=(
        Decoy("towards-data", x_0 - eps, "sign", "data minus noise, where time runs to the noise", DIRECTION),
        Decoy("noise", eps, "parameterization", "the noise alone"),
        Decoy("angular", flow_t * eps - (1 - flow_t) * x_0, "parameterization",
              "the angular velocity with the factors of this path"),
    ),
)  # fmt: skip
def _rectified_velocity(claim: sp.Expr) -> Iterator[Step]:
    """The derivative of (1−t)·x_0 + t·ε, the same at every time: with it the data reach the noise in unit
    time, and the noise the data in unit time back."""
    yield Identity("derivative of the path", sp.diff((1 - flow_t) * x_0 + flow_t * eps, flow_t), claim)
    yield Identity("the data reach the noise", x_0 + claim, eps)


@formula(
    "flow.transport_velocity",
    title="the velocity of the conditional transport path, which leaves noise on the data",
    lhs=velocity,
    rhs=(1 - residual_std) * eps - x_0,
    citations=("Lipman2023:22", "Lipman2023:23"),
    reference="refdiff.flow:conditional_velocity",
    uses=("flow.conditional_velocity", "flow.rectified_velocity"),
    decoys=(
        Decoy("no-residual", eps - x_0, "variance", "σ_min in the path and not in its velocity"),
        Decoy("residual-on-data", eps - (1 - residual_std) * x_0, "parameterization",
              "1−σ_min on the data: the path that keeps data at the noise"),
        Decoy("towards-data", x_0 - (1 - residual_std) * eps, "sign",
              "Lipman et al.'s sign, whose time runs to the data"),
        Decoy("complement", residual_std * eps - x_0, "variance", "σ_min where 1−σ_min belongs"),
    ),
)  # fmt: skip
def _transport_velocity(claim: sp.Expr) -> Iterator[Step]:
    """The derivative of (1−t)·x_0 + (σ_min + (1−σ_min)·t)·ε. Every trajectory is straight, and noise of σ_min
    is left at time 0; without it the path is the rectified one."""
    x = (1 - flow_t) * x_0 + NOISE_LEVEL * eps
    yield Identity("derivative of the path", sp.diff(x, flow_t), claim)
    yield Identity("ends at the noise", x_0 + residual_std * eps + claim, eps)
    yield Identity("the rectified path in the limit", claim.subs(residual_std, 0), eps - x_0)


@formula(
    "flow.transport_velocity_from_x_0",
    title="the velocity of the conditional transport path at a point, given the data",
    lhs=velocity,
    rhs=((1 - residual_std) * x_t - x_0) / NOISE_LEVEL,
    citations=("Lipman2023:21",),
    reference="refdiff.flow:velocity",
    uses=("flow.velocity_from_x_0", "flow.transport_velocity"),
    decoys=(
        Decoy("other-time", ((1 - residual_std) * x_t - x_0) / (1 - (1 - residual_std) * flow_t), "index",
              "Lipman et al.'s denominator with t for 1−t"),
        Decoy("no-residual-below", ((1 - residual_std) * x_t - x_0) / flow_t, "variance",
              "σ_min is missing in the denominator, which is 0 at the data"),
        Decoy("no-residual-above", (x_t - x_0) / NOISE_LEVEL, "variance",
              "σ_min is missing in the numerator"),
        Decoy("towards-data", (x_0 - (1 - residual_std) * x_t) / NOISE_LEVEL, "sign",
              "Lipman et al.'s sign, whose time runs to the data"),
    ),
)  # fmt: skip
def _transport_velocity_from_x_0(claim: sp.Expr) -> Iterator[Step]:
    """The rule of every path. σ_min keeps the denominator away from 0: no end is singular."""
    yield Identity("the rule of every path", claim, of_path(FROM_X_0, 1 - flow_t, NOISE_LEVEL))
    noised = (1 - flow_t) * x_0 + NOISE_LEVEL * eps
    yield Identity("along the path", claim.subs(x_t, noised), (1 - residual_std) * eps - x_0)


@formula(
    "flow.transport_x_0",
    title="data from the velocity of the conditional transport path",
    lhs=x_0,
    rhs=(1 - residual_std) * x_t - NOISE_LEVEL * velocity,
    citations=("Lipman2023:22",),
    reference="refdiff.flow:x_0_from_velocity",
    uses=("flow.x_0_from_velocity", "flow.transport_velocity"),
    decoys=(
        Decoy("no-residual", x_t - flow_t * velocity, "variance", "the rule of the rectified path"),
        Decoy("residual-of-level", x_t - NOISE_LEVEL * velocity, "variance",
              "σ_min in the noise level and not in the factor of x_t"),
        Decoy("residual-of-factor", (1 - residual_std) * x_t - flow_t * velocity, "variance",
              "σ_min in the factor of x_t and not in the noise level"),
    ),
)  # fmt: skip
def _transport_x_0(claim: sp.Expr) -> Iterator[Step]:
    """W = 1 here too. The rule of the rectified path misses the data by σ_min·(x_t + (1−t)·u) = σ_min·ε."""
    noised = (1 - flow_t) * x_0 + NOISE_LEVEL * eps
    pair = {x_t: noised, velocity: (1 - residual_std) * eps - x_0}
    yield Identity("the pair put in", claim.subs(pair), x_0)
    miss = (x_t - flow_t * velocity).subs(pair) - claim.subs(pair)
    yield Identity("what the rectified rule misses", miss, residual_std * eps)


ANGLE = sp.pi * flow_t / 2


@formula(
    "flow.trigonometric_velocity",
    title="the velocity of the path on the circle",
    lhs=velocity,
    rhs=sp.pi / 2 * (sp.cos(ANGLE) * eps - sp.sin(ANGLE) * x_0),
    citations=("Albergo2023", "Salimans2022:§D"),
    reference="refdiff.flow:conditional_velocity",
    uses=("flow.conditional_velocity",),
    decoys=(
        Decoy("angular", sp.cos(ANGLE) * eps - sp.sin(ANGLE) * x_0, "parameterization",
              "the angular velocity: the derivative by the angle, not by time"),
        Decoy("straight", eps - x_0, "loss-weight", "the target of the straight path", FIT),
        Decoy("exchanged", sp.pi / 2 * (sp.sin(ANGLE) * eps - sp.cos(ANGLE) * x_0), "index",
              "sine and cosine exchanged: 1−t for t"),
    ),
)  # fmt: skip
def _trigonometric_velocity(claim: sp.Expr) -> Iterator[Step]:
    """The derivative of cos(πt/2)·x_0 + sin(πt/2)·ε: π/2 times the angular velocity v. The variance is kept,
    and half the error of v is the same at all times."""
    x = sp.cos(ANGLE) * x_0 + sp.sin(ANGLE) * eps
    yield Identity("derivative of the path", sp.diff(x, flow_t), claim)


RATE = beta_min + rate_gap * flow_t
INTEGRAL = beta_min * flow_t + rate_gap * flow_t**2 / 2
VP_SCALE = sp.exp(-INTEGRAL / 2)
VP_VELOCITY = RATE / 2 * (VP_SCALE**2 * x_t - VP_SCALE * x_0) / (1 - VP_SCALE**2)


@formula(
    "flow.vp_velocity",
    title="the velocity of the variance-preserving path at a point, given the data",
    lhs=velocity,
    rhs=VP_VELOCITY,
    citations=("Lipman2023:19",),
    reference="refdiff.flow:velocity",
    uses=("flow.velocity_from_x_0",),
    decoys=(
        Decoy("towards-data", -VP_VELOCITY, "sign", "Lipman et al.'s sign, whose time runs to the data"),
        Decoy("whole-rate", 2 * VP_VELOCITY, "variance", "β where ½β belongs"),
        Decoy("plus", RATE / 2 * (VP_SCALE**2 * x_t - VP_SCALE * x_0) / (1 + VP_SCALE**2), "sign",
              "1 + e^(−B) for the variance of the noise"),
        Decoy("drift", -RATE / 2 * x_t, "discretization", "the drift of the SDE without the score's part"),
    ),
)  # fmt: skip
def _vp_velocity(claim: sp.Expr) -> Iterator[Step]:
    """The rule of every path with scale e^(−B/2) and variance 1 − e^(−B), where B integrates the rate β.
    Without noise, at time 0, it is singular."""
    rule = of_path(FROM_X_0, VP_SCALE, sp.sqrt(1 - sp.exp(-INTEGRAL)))
    yield Identity("the rule of every path", claim, rule)


@formula(
    "flow.vp_velocity_from_score",
    title="the velocity of the variance-preserving path from the score",
    lhs=velocity,
    rhs=-RATE / 2 * (x_t + score),
    citations=("Song2021sde:13", "S004:8.19"),
    reference="refdiff.flow:velocity",
    uses=("flow.velocity_from_score",),
    decoys=(
        Decoy("reverse-drift", -RATE / 2 * x_t - RATE * score, "sign", "the drift of the reverse SDE"),
        Decoy("minus", -RATE / 2 * (x_t - score), "sign", "the score with the wrong sign"),
        Decoy("whole-rate", -RATE * (x_t + score), "variance", "β where ½β belongs"),
    ),
)  # fmt: skip
def _vp_velocity_from_score(claim: sp.Expr) -> Iterator[Step]:
    """The rule of every path: the velocity is that of the probability-flow ODE. It is finite at the data."""
    rule = of_path(FROM_SCORE, VP_SCALE, sp.sqrt(1 - sp.exp(-INTEGRAL)))
    yield Identity("the rule of every path", claim, rule)


SUB_VELOCITY = RATE * (VP_SCALE**2 * x_t - VP_SCALE * (1 + VP_SCALE**2) / 2 * x_0) / (1 - VP_SCALE**2)


@formula(
    "flow.subvp_velocity",
    title="the velocity of the sub-variance-preserving path at a point, given the data",
    lhs=velocity,
    rhs=SUB_VELOCITY,
    citations=("Song2021sde:§B",),
    reference="refdiff.flow:velocity",
    uses=("flow.velocity_from_x_0",),
    decoys=(
        Decoy("vp", VP_VELOCITY, "variance", "the velocity of the variance-preserving path"),
        Decoy("root", SUB_VELOCITY * sp.sqrt(1 - VP_SCALE**2), "sqrt", "the root of the deviation"),
    ),
)  # fmt: skip
def _subvp_velocity(claim: sp.Expr) -> Iterator[Step]:
    """The rule of every path with the deviation 1 − e^(−B), not its root."""
    yield Identity("the rule of every path", claim, of_path(FROM_X_0, VP_SCALE, 1 - sp.exp(-INTEGRAL)))


VE_LEVEL = sigma_L * (sigma_1 / sigma_L) ** flow_t


@formula(
    "flow.ve_velocity",
    title="the velocity of the variance-exploding path at a point, given the data",
    lhs=velocity,
    rhs=sp.log(sigma_1 / sigma_L) * (x_t - x_0),
    citations=("Lipman2023:17", "Song2021sde:§B"),
    reference="refdiff.flow:velocity",
    uses=("flow.velocity_from_x_0",),
    decoys=(
        Decoy("towards-data", sp.log(sigma_1 / sigma_L) * (x_0 - x_t), "sign",
              "the other direction of time"),
        Decoy("slope-of-level", sp.log(sigma_1 / sigma_L) * VE_LEVEL * (x_t - x_0), "variance",
              "the slope of σ where that of log σ belongs"),
        Decoy("variance", 2 * sp.log(sigma_1 / sigma_L) * (x_t - x_0), "variance", "the slope of log σ²"),
    ),
)  # fmt: skip
def _ve_velocity(claim: sp.Expr) -> Iterator[Step]:
    """The rule of every path with scale 1 and geometric σ, whose logarithm grows at one rate."""
    yield Identity("the rule of every path", claim, of_path(FROM_X_0, sp.Integer(1), VE_LEVEL))


@formula(
    "flow.ve_velocity_from_score",
    title="the velocity of the variance-exploding path from the score",
    lhs=velocity,
    rhs=-sp.log(sigma_1 / sigma_L) * VE_LEVEL**2 * score,
    citations=("Song2021sde:13", "S004:8.19"),
    reference="refdiff.flow:velocity",
    uses=("flow.velocity_from_score",),
    decoys=(
        Decoy("reverse-drift", -2 * sp.log(sigma_1 / sigma_L) * VE_LEVEL**2 * score, "sign",
              "the drift of the reverse SDE"),
        Decoy("level", -sp.log(sigma_1 / sigma_L) * VE_LEVEL * score, "sqrt", "σ where σ² belongs"),
    ),
)  # fmt: skip
def _ve_velocity_from_score(claim: sp.Expr) -> Iterator[Step]:
    """The rule of every path: ½ dσ²/dt times minus the score."""
    yield Identity("the rule of every path", claim, of_path(FROM_SCORE, sp.Integer(1), VE_LEVEL))
