"""Steps of a sampler along a flow: Euler's method, DDIM, and when they are the same. Part of the topic
``flow``.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations.ddim import DETERMINISTIC
from derivations.flow import DETERMINANT, NOISED, a, b
from derivations.flow_conversions import PAIR, RECTIFIED_PAIR
from derivations.kit import Decoy, Identity, Series, Step, formula
from derivations.symbols import (
    abar_s,
    abar_t,
    eps,
    flow_s,
    flow_t,
    h,
    path_scale,
    path_scale_s,
    path_scale_slope,
    path_std,
    path_std_s,
    path_std_slope,
    residual_std,
    tau,
    velocity,
    x_0,
    x_s,
    x_t,
)

DIRECTION = "lucidrains/rectified-flow-pytorch #14"
EULER = x_t + (flow_s - flow_t) * velocity
BELOW = path_scale_s * x_0 + path_std_s * eps
DDIM = (
    (path_scale_s * path_std_slope - path_std_s * path_scale_slope) * x_t
    + (path_scale * path_std_s - path_scale_s * path_std) * velocity
) / DETERMINANT


def ddim_of_scaled(noise: sp.Expr) -> sp.Expr:
    """The deterministic step of DDIM for x/√(a²+b²), whose signal power is a²/(a²+b²), scaled back."""
    size, size_s = path_scale**2 + path_std**2, path_scale_s**2 + path_std_s**2
    levels = {abar_t: path_scale**2 / size, abar_s: path_scale_s**2 / size_s}
    table = {**levels, x_t: x_t / sp.sqrt(size), eps: noise}
    return sp.sqrt(size_s) * DETERMINISTIC.subs(table, simultaneous=True)


@formula(
    "flow.euler_step",
    title="Euler's step on the rectified path is the deterministic step of DDIM",
    lhs=x_s,
    rhs=EULER,
    citations=("Esser2024:§2", "Song2021ddim:14"),
    reference="refdiff.flow:euler_step",
    uses=("flow.rectified_x_0", "flow.rectified_eps", "ddim.euler_in_sigma", "ddim.deterministic_step"),
    decoys=(
        Decoy("uphill", x_t - (flow_s - flow_t) * velocity, "sign",
              "the step down in time with a positive factor: the noise's end", DIRECTION),
        Decoy("noise", x_t + (flow_s - flow_t) * eps, "parameterization", "the noise taken for the velocity"),
        Decoy("level", x_t + flow_s * velocity, "discretization", "the time where its difference belongs"),
    ),
)  # fmt: skip
def _euler_step(claim: sp.Expr) -> Iterator[Step]:
    """The data x_t − t·u and the noise x_t + (1−t)·u that the velocity tells, put together again at time s.
    In y = x/(1−t) and σ = t/(1−t) it is y_s = y_t + (σ_s − σ_t)·ε, Euler's step of DDIM; and it is DDIM's
    step with signal power (1−t)²/((1−t)² + t²) for x_t over the root of that sum."""
    data, noise = x_t - flow_t * velocity, x_t + (1 - flow_t) * velocity
    yield Identity("data and noise at the new time", claim, (1 - flow_s) * data + flow_s * noise)
    sigma, sigma_s = flow_t / (1 - flow_t), flow_s / (1 - flow_s)
    in_sigma = x_t / (1 - flow_t) + (sigma_s - sigma) * noise
    yield Identity("Euler's step in σ", claim / (1 - flow_s), in_sigma)
    levels = {path_scale: 1 - flow_t, path_std: flow_t, path_scale_s: 1 - flow_s, path_std_s: flow_s}
    yield Identity("DDIM's step", claim, ddim_of_scaled(noise).subs(levels))
    exact = claim.subs(RECTIFIED_PAIR)
    yield Identity("exact for one pair", exact, (1 - flow_s) * x_0 + flow_s * eps)


@formula(
    "flow.ddim_step",
    title="the deterministic step of DDIM from a velocity, on any path",
    lhs=x_s,
    rhs=DDIM,
    citations=("Song2021ddim:12", "Lu2022:3.7"),
    reference="refdiff.flow:ddim_step",
    uses=("flow.x_0_from_velocity", "flow.eps_from_velocity", "ddim.deterministic_step"),
    decoys=(
        Decoy("euler", EULER, "discretization", "Euler's step, which is this step on straight lines only"),
        Decoy("levels-exchanged", (
            (path_std_s * path_scale_slope - path_scale_s * path_std_slope) * x_t
            + (path_scale * path_std_s - path_scale_s * path_std) * velocity
        ) / DETERMINANT, "sign", "the factor of x_t with the wrong sign"),
        Decoy("no-determinant", DDIM * DETERMINANT, "parameterization", "W = 1 on every path"),
    ),
)  # fmt: skip
def _ddim_step(claim: sp.Expr) -> Iterator[Step]:
    """Data and noise that the velocity tells, at the new level."""
    yield Identity("the pair put in", claim.subs(PAIR), BELOW)
    noise = (path_scale * velocity - path_scale_slope * x_t) / DETERMINANT
    yield Identity("DDIM's step", claim, ddim_of_scaled(noise))


@formula(
    "flow.ddim_in_sigma",
    title="DDIM is Euler's method for x/a in b/a, on any path",
    lhs=x_s,
    rhs=path_scale_s * (x_t / path_scale + (path_std_s / path_scale_s - path_std / path_scale) * eps),
    citations=("Song2021ddim:14", "S004:8.24"),
    reference="refdiff.flow:ddim_step",
    uses=("flow.ddim_step", "flow.determinant"),
    decoys=(
        Decoy("in-std", path_scale_s * (x_t / path_scale + (path_std_s - path_std) * eps), "parameterization",
              "a step in b where b/a belongs"),
        Decoy("not-scaled", x_t + (path_std_s / path_scale_s - path_std / path_scale) * eps,
              "parameterization", "a step in x/a applied to x"),
        Decoy("downhill", path_scale_s * (x_t / path_scale
              - (path_std_s / path_scale_s - path_std / path_scale) * eps), "sign", "σ_t − σ_s"),
    ),
)  # fmt: skip
def _ddim_in_sigma(claim: sp.Expr) -> Iterator[Step]:
    """d(x/a) = ε·d(b/a) along the flow, for any a and b: in these variables the velocity is the noise, and
    Euler's step takes it for constant."""
    yield Identity("the step of DDIM", claim.subs(x_t, NOISED), BELOW)
    x = sp.Function("x", real=True)(tau)
    noise = (a * sp.diff(x, tau) - sp.diff(a, tau) * x) / (a * sp.diff(b, tau) - sp.diff(a, tau) * b)
    yield Identity("the ODE in σ", sp.diff(x / a, tau), noise * sp.diff(b / a, tau))


@formula(
    "flow.ddim_in_snr",
    title="DDIM is Euler's method for x/b in a/b, on any path",
    lhs=x_s,
    rhs=path_std_s * (x_t / path_std + (path_scale_s / path_std_s - path_scale / path_std) * x_0),
    citations=("Lu2022pp", "Song2021ddim:12"),
    reference="refdiff.flow:ddim_step",
    uses=("flow.ddim_step", "flow.determinant"),
    decoys=(
        Decoy("in-scale", path_std_s * (x_t / path_std + (path_scale_s - path_scale) * x_0),
              "parameterization", "a step in a where a/b belongs"),
        Decoy("downhill", path_std_s * (x_t / path_std
              - (path_scale_s / path_std_s - path_scale / path_std) * x_0), "sign", "the levels exchanged"),
    ),
)  # fmt: skip
def _ddim_in_snr(claim: sp.Expr) -> Iterator[Step]:
    """d(x/b) = x_0·d(a/b): here the velocity is the data. Both forms are one step, since a step that takes
    noise and x_t for known takes the data for known."""
    yield Identity("the step of DDIM", claim.subs(x_t, NOISED), BELOW)
    x = sp.Function("x", real=True)(tau)
    data = (sp.diff(b, tau) * x - b * sp.diff(x, tau)) / (a * sp.diff(b, tau) - sp.diff(a, tau) * b)
    yield Identity("the ODE in a/b", sp.diff(x / b, tau), data * sp.diff(a / b, tau))


STEP = flow_s - flow_t
GAP = (path_scale + STEP * path_scale_slope - path_scale_s) * x_0 + (
    path_std + STEP * path_std_slope - path_std_s
) * eps


@formula(
    "flow.euler_gap",
    title="what Euler's step has above the deterministic step of DDIM, on any path",
    lhs=sp.Symbol("gap", real=True),
    rhs=GAP,
    citations=("Song2021ddim:13",),
    reference="refdiff.flow:euler_step",
    uses=("flow.ddim_step", "flow.conditional_velocity"),
    decoys=(
        Decoy("zero", sp.Integer(0), "discretization", "Euler's step taken for DDIM on every path"),
        Decoy("turned", -GAP, "sign", "DDIM's step above Euler's"),
        Decoy("noise-only", (path_std + STEP * path_std_slope - path_std_s) * eps, "parameterization",
              "the data's factor taken for a straight line"),
    ),
)  # fmt: skip
def _euler_gap(claim: sp.Expr) -> Iterator[Step]:
    """Both steps with the same velocity. They agree for all data and noise exactly where the tangents of a
    and b at t meet a and b at s; so at all times exactly where a and b are straight lines, as the second
    derivatives of the gap by s are −a'' and −b''. To leading order the gap is −½h²(a''·x_0 + b''·ε), so both
    have order 1."""
    gap = EULER.subs(PAIR) - BELOW
    yield Identity("Euler's step minus DDIM's", gap, claim)
    yield Identity("in terms of velocity and place", (EULER - DDIM).subs(PAIR), claim)
    line = {path_scale: 1 - flow_t, path_std: residual_std + (1 - residual_std) * flow_t,
            path_scale_s: 1 - flow_s, path_std_s: residual_std + (1 - residual_std) * flow_s,
            path_scale_slope: -1, path_std_slope: 1 - residual_std}  # fmt: skip
    yield Identity("no gap on the straight paths", claim.subs(line), sp.Integer(0))
    moving = claim.subs({path_scale_s: a, path_std_s: b, flow_s: tau})
    second = -sp.diff(a, tau, 2) * x_0 - sp.diff(b, tau, 2) * eps
    yield Identity("only on them", sp.diff(moving, tau, 2), second)
    a_2, a_3, b_2, b_3 = sp.symbols("a_2 a_3 b_2 b_3", real=True)
    jet = {
        path_scale_s: path_scale + h * path_scale_slope + h**2 * a_2 / 2 + h**3 * a_3 / 6,
        path_std_s: path_std + h * path_std_slope + h**2 * b_2 / 2 + h**3 * b_3 / 6,
        flow_s: flow_t + h,
    }
    yield Series("leading term", claim.subs(jet), h, 3, -(h**2) / 2 * (a_2 * x_0 + b_2 * eps))
