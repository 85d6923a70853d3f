"""DPM-Solver and DPM-Solver++: steps that solve their order conditions, and the local error of each.

A step keeps the exact linear part and replaces the integral of the model by the rule of its nodes
(``solver.weights_two``, ``solver.weights_three``). The two predictions differ in gain and in the sign of z.
The local errors are in ``solver_errors``.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import Rational, exp, sqrt

from derivations.ddim import GENERAL_STEP
from derivations.kit import Decoy, Identity, Step, formula
from derivations.solver_orders import (
    DATA,
    NOISE,
    exact_moments,
    half_moments,
    phi,
    quadrature,
)
from derivations.symbols import (
    abar_s,
    abar_t,
    eps,
    inner_1,
    inner_2,
    past_1,
    past_2,
    scale_s,
    scale_t,
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

KEEP = {NOISE: scale_s / scale_t, DATA: std_s / std_t}
GAIN = {NOISE: -std_s, DATA: scale_s}
BETWEEN = {std_s: scale_s * std_t * exp(-h) / scale_t}
"""std at the end of a step of length h in λ."""
UP, DOWN = exp(h) - 1, 1 - exp(-h)
"""h·φ_1(h) and h·φ_1(−h)."""
BEND_UP, BEND_DOWN = UP / h - 1, 1 - DOWN / h
"""h·φ_2(h) and h·φ_2(−h)."""


def step_of(sign: int, rule: sp.Expr) -> sp.Expr:
    """The exact linear part and the gain times the rule."""
    return KEEP[sign] * x_t + GAIN[sign] * rule


def _signed(sign: int) -> sp.Expr:
    return sign * h


DPM_1 = scale_s / scale_t * x_t - std_s * UP * eps
DPMPP_1 = std_s / std_t * x_t + scale_s * DOWN * x_0


@formula(
    "solver.dpm_1",
    title="DPM-Solver-1: the predicted noise is constant over the step",
    lhs=x_s,
    rhs=DPM_1,
    citations=("Lu2022:3.7",),
    reference="refdiff.solver:ddim_coefficients",
    uses=("solver.solution_eps", "solver.phi_1"),
    decoys=(
        Decoy("step-negated", scale_s / scale_t * x_t - std_s * (exp(-h) - 1) * eps, "sign", "−h for h"),
        Decoy("phi-missing", scale_s / scale_t * x_t - std_s * h * eps, "discretization",
              "Euler's step in λ: h where exp(h) − 1 belongs"),
        Decoy("scale-for-std", scale_s / scale_t * x_t - scale_s * UP * eps, "parameterization",
              "the gain of the other prediction"),
        Decoy("std-at-begin", scale_s / scale_t * x_t - std_t * UP * eps, "index",
              "std where the step begins"),
        Decoy("sigma-as-lambda", scale_s / scale_t * x_t
              - std_s * (exp(std_t / scale_t - std_s / scale_s) - 1) * eps, "parameterization",
              "the fall of σ taken for the growth of λ"),
    ),
)  # fmt: skip
def _dpm_1(claim: sp.Expr) -> Iterator[Step]:
    """A constant leaves the integral, which is h·φ_1(h)."""
    rule = quadrature([0], [eps], exact_moments(1, _signed(NOISE), phi))
    yield Identity("the exact part and one value", claim, step_of(NOISE, rule))


@formula(
    "solver.dpm_1_is_ddim",
    title="DPM-Solver-1 is deterministic DDIM",
    lhs=x_s,
    rhs=sqrt(abar_s / abar_t) * x_t
    - sqrt(1 - abar_s) * (sqrt(abar_s * (1 - abar_t) / (abar_t * (1 - abar_s))) - 1) * eps,
    citations=("Lu2022:§4.1", "Song2021ddim:13", "S004:5.6"),
    reference="refdiff.solver:ddim_coefficients",
    uses=("solver.dpm_1", "ddim.general_step"),
    decoys=(
        Decoy("snr-not-rooted", sqrt(abar_s / abar_t) * x_t
              - sqrt(1 - abar_s) * (abar_s * (1 - abar_t) / (abar_t * (1 - abar_s)) - 1) * eps, "sqrt",
              "λ taken for the whole log of the signal-to-noise ratio"),
        Decoy("snr-inverted", sqrt(abar_s / abar_t) * x_t
              - sqrt(1 - abar_s) * (sqrt(abar_t * (1 - abar_s) / (abar_s * (1 - abar_t))) - 1) * eps, "sign",
              "−h for h"),
    ),
)  # fmt: skip
def _dpm_1_is_ddim(claim: sp.Expr) -> Iterator[Step]:
    """At the levels of a variance-preserving chain exp(h) is the root of the ratio of signal-to-noise
    ratios."""
    ratio = sqrt(abar_s * (1 - abar_t) / (abar_t * (1 - abar_s)))
    levels = {scale_t: sqrt(abar_t), scale_s: sqrt(abar_s), std_s: sqrt(1 - abar_s), exp(h): ratio}
    yield Identity("DPM-Solver-1 at these levels", claim, DPM_1.subs(levels))
    yield Identity("DDIM with η = 0", claim, GENERAL_STEP.subs({sigma_t: 0, z: 0}))


@formula(
    "solver.dpmpp_1",
    title="DPM-Solver++(1): the predicted data are constant over the step; it is DPM-Solver-1",
    lhs=x_s,
    rhs=DPMPP_1,
    citations=("Lu2022pp:§4.1",),
    reference="refdiff.solver:frame",
    uses=("solver.solution_x_0", "solver.dpm_1"),
    decoys=(
        Decoy("step-negated", std_s / std_t * x_t + scale_s * (1 - exp(h)) * x_0, "sign", "h for −h"),
        Decoy("sign", std_s / std_t * x_t - scale_s * DOWN * x_0, "sign",
              "the sign of the other prediction", "LuChengTHU/dpm-solver #61"),
        Decoy("phi-missing", std_s / std_t * x_t + scale_s * h * x_0, "discretization",
              "Euler's step in λ: h where 1 − exp(−h) belongs"),
        Decoy("ratio-of-scales", scale_s / scale_t * x_t + scale_s * DOWN * x_0, "parameterization",
              "the linear part of the other prediction"),
        Decoy("gain-missing", std_s / std_t * x_t + DOWN * x_0, "data-scaling",
              "the scale is missing, as if the process were variance-exploding"),
    ),
)  # fmt: skip
def _dpmpp_1(claim: sp.Expr) -> Iterator[Step]:
    """A constant leaves the integral, which is h·φ_1(−h). With x_0 = (x − std·ε)/scale it is the step of the
    other prediction: at order 1 they are one method."""
    rule = quadrature([0], [x_0], exact_moments(1, _signed(DATA), phi))
    yield Identity("the exact part and one value", claim, step_of(DATA, rule))
    data = claim.subs(x_0, (x_t - std_t * eps) / scale_t)
    yield Identity("DPM-Solver-1", data.subs(BETWEEN), DPM_1.subs(BETWEEN))


DPM_2 = scale_s / scale_t * x_t - std_s * UP * value_t - std_s / (2 * inner_1) * UP * (value_1 - value_t)
DPMPP_2S = (
    std_s / std_t * x_t + scale_s * DOWN * value_t + scale_s / (2 * inner_1) * DOWN * (value_1 - value_t)
)


@formula(
    "solver.dpm_2",
    title="DPM-Solver-2 with its inner level at any share of the step",
    lhs=x_s,
    rhs=DPM_2,
    citations=("Lu2022:4.1", "Lu2022:alg4"),
    reference="refdiff.solver:Singlestep",
    uses=("solver.dpm_1", "solver.weights_two"),
    decoys=(
        Decoy("half-missing", scale_s / scale_t * x_t - std_s * UP * value_t
              - std_s / inner_1 * UP * (value_1 - value_t), "discretization", "1/r for 1/(2r)"),
        Decoy("share-for-inverse", scale_s / scale_t * x_t - std_s * UP * value_t
              - std_s * inner_1 / 2 * UP * (value_1 - value_t), "discretization", "r for 1/r"),
        Decoy("difference-negated", scale_s / scale_t * x_t - std_s * UP * value_t
              - std_s / (2 * inner_1) * UP * (value_t - value_1), "sign", "the difference negated"),
        Decoy("step-of-stage", scale_s / scale_t * x_t - std_s * UP * value_t
              - std_s / (2 * inner_1) * (exp(inner_1 * h) - 1) * (value_1 - value_t), "index",
              "the length of the stage where that of the step belongs"),
        Decoy("values-exchanged", DPM_2.subs({value_t: value_1, value_1: value_t}, simultaneous=True),
              "index", "the two values exchanged"),
    ),
)  # fmt: skip
def _dpm_2(claim: sp.Expr) -> Iterator[Step]:
    """Two values; their weights integrate constants exactly and the place as the middle of the step would.
    With the inner level in the middle only the value there is used."""
    rule = quadrature([0, inner_1], [value_t, value_1], half_moments(_signed(NOISE), phi))
    yield Identity("the exact part and two values", claim, step_of(NOISE, rule))
    middle = claim.subs(inner_1, Rational(1, 2))
    yield Identity("an inner level in the middle", middle, scale_s / scale_t * x_t - std_s * UP * value_1)


@formula(
    "solver.dpmpp_2s",
    title="DPM-Solver++(2S) with its inner level at any share of the step",
    lhs=x_s,
    rhs=DPMPP_2S,
    citations=("Lu2022pp:alg1",),
    reference="refdiff.solver:Singlestep",
    uses=("solver.dpmpp_1", "solver.weights_two"),
    decoys=(
        Decoy("half-missing", std_s / std_t * x_t + scale_s * DOWN * value_t
              + scale_s / inner_1 * DOWN * (value_1 - value_t), "discretization", "1/r for 1/(2r)"),
        Decoy("difference-negated", std_s / std_t * x_t + scale_s * DOWN * value_t
              - scale_s / (2 * inner_1) * DOWN * (value_1 - value_t), "sign", "the difference negated"),
        Decoy("other-prediction", std_s / std_t * x_t + scale_s * UP * value_t
              + scale_s / (2 * inner_1) * UP * (value_1 - value_t), "sign", "h for −h"),
        Decoy("last-value-only", std_s / std_t * x_t + scale_s * DOWN * value_1, "discretization",
              "only the inner value, which is right in the middle of the step alone"),
    ),
)  # fmt: skip
def _dpmpp_2s(claim: sp.Expr) -> Iterator[Step]:
    """The same rule for the other prediction."""
    rule = quadrature([0, inner_1], [value_t, value_1], half_moments(_signed(DATA), phi))
    yield Identity("the exact part and two values", claim, step_of(DATA, rule))


DPMPP_2M = std_s / std_t * x_t + scale_s * DOWN * ((1 + 1 / (2 * past_1)) * value_t - value_1 / (2 * past_1))
HEUN_2M = std_s / std_t * x_t + scale_s * (DOWN * value_t + BEND_DOWN * (value_t - value_1) / past_1)


@formula(
    "solver.dpmpp_2m",
    title="DPM-Solver++(2M): one value from the step before, steps of any lengths",
    lhs=x_s,
    rhs=DPMPP_2M,
    citations=("Lu2022pp:alg2",),
    reference="refdiff.solver:Multistep",
    uses=("solver.dpmpp_1", "solver.weights_two"),
    decoys=(
        Decoy("ratio-inverted", std_s / std_t * x_t + scale_s * DOWN
              * ((1 + past_1 / 2) * value_t - past_1 * value_1 / 2), "discretization",
              "the ratio of the steps upside down", "crowsonkb/k-diffusion #56"),
        Decoy("uniform", DPMPP_2M.subs(past_1, 1), "discretization", "steps taken for equally long"),
        Decoy("values-exchanged", DPMPP_2M.subs({value_t: value_1, value_1: value_t}, simultaneous=True),
              "index", "the older value taken for the newer"),
        Decoy("difference-negated", std_s / std_t * x_t + scale_s * DOWN
              * ((1 - 1 / (2 * past_1)) * value_t + value_1 / (2 * past_1)), "sign",
              "interpolated backwards: the difference negated"),
        Decoy("half-missing", std_s / std_t * x_t + scale_s * DOWN
              * ((1 + 1 / past_1) * value_t - value_1 / past_1), "discretization", "1/r for 1/(2r)"),
        Decoy("step-negated", std_s / std_t * x_t + scale_s * (1 - exp(h))
              * ((1 + 1 / (2 * past_1)) * value_t - value_1 / (2 * past_1)), "sign", "h for −h"),
        Decoy("lambda-for-sigma", std_s / std_t * x_t + scale_s * (1 - std_s / std_t)
              * ((1 + 1 / (2 * past_1)) * value_t - value_1 / (2 * past_1)), "parameterization",
              "exp(−h) taken for the ratio of deviations, as if the scale were 1"),
    ),
)  # fmt: skip
def _dpmpp_2m(claim: sp.Expr) -> Iterator[Step]:
    """The inner level of DPM-Solver++(2S) lies outside, where the model is known already."""
    rule = quadrature([0, -past_1], [value_t, value_1], half_moments(_signed(DATA), phi))
    yield Identity("the exact part and two values", claim, step_of(DATA, rule))


@formula(
    "solver.dpmpp_2m_heun",
    title="DPM-Solver++(2M), the other type: exact where the model is linear in λ",
    lhs=x_s,
    rhs=HEUN_2M,
    citations=("Lu2022pp:§4.3",),
    reference="refdiff.solver:Multistep",
    uses=("solver.dpmpp_2m", "solver.phi_2"),
    decoys=(
        Decoy("sign", std_s / std_t * x_t + scale_s * (DOWN * value_t
              - BEND_DOWN * (value_t - value_1) / past_1), "sign", "the second term negated"),
        Decoy("phi-not-shifted", std_s / std_t * x_t + scale_s * (DOWN * value_t
              - DOWN / h * (value_t - value_1) / past_1), "discretization", "the 1 of φ_2 is missing"),
        Decoy("ratio-inverted", std_s / std_t * x_t + scale_s * (DOWN * value_t
              + BEND_DOWN * (value_t - value_1) * past_1), "discretization",
              "the ratio of the steps upside down"),
        Decoy("other-prediction", std_s / std_t * x_t + scale_s * (UP * value_t
              + BEND_UP * (value_t - value_1) / past_1), "sign", "h for −h"),
    ),
)  # fmt: skip
def _dpmpp_2m_heun(claim: sp.Expr) -> Iterator[Step]:
    """The same nodes with both moments exact."""
    rule = quadrature([0, -past_1], [value_t, value_1], exact_moments(2, _signed(DATA), phi))
    yield Identity("the exact part and two values", claim, step_of(DATA, rule))


DPM_3_STAGE = sp.Add(
    scale_s / scale_t * x_t,
    -std_s * (exp(inner_2 * h) - 1) * value_t,
    -std_s * inner_2 / inner_1 * ((exp(inner_2 * h) - 1) / (inner_2 * h) - 1) * (value_1 - value_t),
)
DPM_3 = scale_s / scale_t * x_t - std_s * UP * value_t - std_s / inner_2 * BEND_UP * (value_2 - value_t)


@formula(
    "solver.dpm_3_stage",
    title="the second stage of DPM-Solver-3; a_s and b_s belong to its level",
    lhs=x_s,
    rhs=DPM_3_STAGE,
    citations=("Lu2022:alg5",),
    reference="refdiff.solver:Singlestep",
    uses=("solver.dpm_1", "solver.weights_two", "solver.phi_2"),
    decoys=(
        Decoy("ratio-inverted", DPM_3_STAGE.subs(inner_2 / inner_1, inner_1 / inner_2), "discretization",
              "the ratio of the places upside down"),
        Decoy("whole-step", sp.Add(scale_s / scale_t * x_t, -std_s * (exp(inner_2 * h) - 1) * value_t,
              -std_s * inner_2 / inner_1 * BEND_UP * (value_1 - value_t)), "index",
              "φ_2 of the whole step"),
        Decoy("phi-not-divided", sp.Add(scale_s / scale_t * x_t, -std_s * (exp(inner_2 * h) - 1) * value_t,
              -std_s * inner_2 / inner_1 * ((exp(inner_2 * h) - 1) / h - 1) * (value_1 - value_t)),
              "discretization", "h where r_2h belongs in φ_2"),
    ),
)  # fmt: skip
def _dpm_3_stage(claim: sp.Expr) -> Iterator[Step]:
    """A step of its own, r_2·h long, with a value at r_1/r_2 of it; both moments are exact."""
    z_stage = inner_2 * _signed(NOISE)
    places, moments = [0, inner_1 / inner_2], exact_moments(2, z_stage, phi)
    rule = quadrature(places, [value_t, value_1], moments, inner_2 * h)
    yield Identity("the exact part and two values", claim, step_of(NOISE, rule))


@formula(
    "solver.dpm_3",
    title="DPM-Solver-3: the values where the step begins and at its second inner level",
    lhs=x_s,
    rhs=DPM_3,
    citations=("Lu2022:alg5",),
    reference="refdiff.solver:Singlestep",
    uses=("solver.dpm_3_stage",),
    decoys=(
        Decoy("first-inner", DPM_3.subs(value_2, value_1), "index", "the value of the first inner level"),
        Decoy("order-two", scale_s / scale_t * x_t - std_s * UP * value_t
              - std_s / (2 * inner_2) * UP * (value_2 - value_t), "discretization",
              "the rule of order 2"),
        Decoy("share-for-inverse", scale_s / scale_t * x_t - std_s * UP * value_t
              - std_s * inner_2 * BEND_UP * (value_2 - value_t), "discretization", "r_2 for 1/r_2"),
    ),
)  # fmt: skip
def _dpm_3(claim: sp.Expr) -> Iterator[Step]:
    """Two values with both moments exact; the place of the second makes it a method of order 3."""
    rule = quadrature([0, inner_2], [value_t, value_2], exact_moments(2, _signed(NOISE), phi))
    yield Identity("the exact part and two values", claim, step_of(NOISE, rule))


SLOPE_1 = (value_t - value_1) / past_1
SLOPE_2 = (value_1 - value_2) / past_2
AT_BEGIN = SLOPE_1 + past_1 / (past_1 + past_2) * (SLOPE_1 - SLOPE_2)
BEND = (SLOPE_1 - SLOPE_2) / (past_1 + past_2)
DPMPP_3M = std_s / std_t * x_t + scale_s * (
    DOWN * value_t + BEND_DOWN * AT_BEGIN + (1 - 2 * BEND_DOWN / h) * BEND
)
HALVED_3M = std_s / std_t * x_t + scale_s * (
    DOWN * value_t + BEND_DOWN * AT_BEGIN + (Rational(1, 2) - BEND_DOWN / h) * BEND
)


@formula(
    "solver.dpmpp_3m",
    title="DPM-Solver++(3M): two values from the steps before, steps of any lengths",
    lhs=x_s,
    rhs=DPMPP_3M,
    citations=("Lu2022pp:§4.3",),
    reference="refdiff.solver:Multistep",
    uses=("solver.dpmpp_2m_heun", "solver.weights_three", "solver.phi_3"),
    decoys=(
        Decoy("second-difference-halved", HALVED_3M, "discretization",
              "the second difference taken for the second derivative, which is twice it",
              "huggingface/diffusers PR#1132"),
        Decoy("slope-not-at-begin", std_s / std_t * x_t + scale_s * (
              DOWN * value_t + BEND_DOWN * SLOPE_1 + (1 - 2 * BEND_DOWN / h) * BEND), "discretization",
              "the slope of the last step taken for that where the step begins"),
        Decoy("bend-negated", std_s / std_t * x_t + scale_s * (
              DOWN * value_t + BEND_DOWN * AT_BEGIN - (1 - 2 * BEND_DOWN / h) * BEND), "sign",
              "the last term negated"),
        Decoy("differences-swapped", std_s / std_t * x_t + scale_s * (
              DOWN * value_t + BEND_DOWN * (SLOPE_2 + past_1 / (past_1 + past_2) * (SLOPE_2 - SLOPE_1))
              + (1 - 2 * BEND_DOWN / h) * (SLOPE_2 - SLOPE_1) / (past_1 + past_2)), "index",
              "the first differences exchanged"),
        Decoy("phi-three-sign", std_s / std_t * x_t + scale_s * (
              DOWN * value_t + BEND_DOWN * AT_BEGIN + (-1 - 2 * BEND_DOWN / h) * BEND), "sign",
              "−½ for ½ in the last function"),
    ),
)  # fmt: skip
def _dpmpp_3m(claim: sp.Expr) -> Iterator[Step]:
    """Three values with all moments exact: the parabola through them. Its second derivative is twice the
    second difference."""
    places, values = [0, -past_1, -past_1 - past_2], [value_t, value_1, value_2]
    rule = quadrature(places, values, exact_moments(3, _signed(DATA), phi))
    yield Identity("the exact part and three values", claim, step_of(DATA, rule))
