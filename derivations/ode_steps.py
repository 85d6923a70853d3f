"""Steps of the probability-flow ODE: Euler, Heun, Runge–Kutta, and the discretisations of the source.

The velocity is F(x, t), an arbitrary function that can be differentiated as often as an order needs. Orders
are compared as power series in the step: F is its Taylor polynomial with free coefficients, so an equality
holds for every F.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import sympy as sp
from sympy import sqrt

from derivations.ddpm import RATIO
from derivations.kit import Decoy, Identity, Series, Step, formula
from derivations.symbols import (
    abar_s,
    abar_t,
    data_variance,
    h,
    score,
    score_ve,
    sig_s,
    sig_t,
    sigma,
    slope_1,
    slope_2,
    slope_3,
    slope_4,
    x_s,
    x_t,
    x_ve,
)

Terms = list[sp.Expr]
"""Coefficients of h⁰, h¹, … of a power series in the step."""


def partial(times_x: int, times_t: int) -> sp.Symbol:
    """A derivative of the velocity at the start of the step."""
    return sp.Symbol("F" + "x" * times_x + "t" * times_t, real=True)


def velocity_along(state: Terms, time: Terms, order: int) -> Terms:
    """F at x + state, t + time, both series without constant term, by Taylor's theorem."""
    total = [sp.Integer(0)] * (order + 1)
    for i in range(order + 1):
        for j in range(order + 1 - i):
            term = _product([_power(state, i, order), _power(time, j, order)], order)
            weight = partial(i, j) / (sp.factorial(i) * sp.factorial(j))
            total = [total[k] + weight * term[k] for k in range(order + 1)]
    return total


@cache
def exact(order: int) -> Terms:
    """x(t + h) − x(t): each power of h follows from the ones below it."""
    state = [sp.Integer(0)] * (order + 1)
    time = [sp.Integer(0), sp.Integer(1)] + [sp.Integer(0)] * (order - 1)
    for k in range(order):
        state[k + 1] = sp.expand(velocity_along(state, time, k)[k] / (k + 1))
    return state


@cache
def stages(nodes: tuple[sp.Rational, ...], order: int) -> list[Terms]:
    """Slopes of stages that each start from the one before: x + c·h·k, t + c·h."""
    slopes = list[Terms]()
    for c in nodes:
        before = slopes[-1] if slopes else [sp.Integer(0)] * (order + 1)
        state = [sp.Integer(0), *(c * term for term in before[:order])]
        slopes.append(velocity_along(state, [sp.Integer(0), c] + [sp.Integer(0)] * (order - 1), order))
    return slopes


def _power(series: Terms, exponent: int, order: int) -> Terms:
    return _product([series] * exponent, order)


def _product(factors: Sequence[Terms], order: int) -> Terms:
    total = [sp.Integer(1)] + [sp.Integer(0)] * order
    for factor in factors:
        total = [
            sp.expand(sum(total[i] * factor[k - i] for i in range(k + 1) if k - i < len(factor)))
            for k in range(order + 1)
        ]
    return total


def order_steps(
    claim: sp.Expr, slopes: Sequence[sp.Symbol], nodes: tuple[sp.Rational, ...], order: int
) -> Iterator[Step]:
    """The step is x plus weighted slopes, and its series is that of the solution up to the order."""
    weights = [sp.diff(claim, slope) / h for slope in slopes]
    linear = x_t + sum(weight * h * slope for weight, slope in zip(weights, slopes, strict=True))
    yield Identity("linear in the slopes", claim, linear)
    solution, found = exact(order), stages(nodes, order)
    for k in range(order):
        term = sum(weight * stage[k] for weight, stage in zip(weights, found, strict=True))
        yield Identity(f"the coefficient of h^{k + 1}", term, solution[k + 1])


def missing(weights: Sequence[sp.Rational], nodes: tuple[sp.Rational, ...], order: int) -> sp.Expr:
    """The coefficient of h^(order + 1) in the solution minus the step."""
    found = stages(nodes, order + 1)
    term = sum(weight * stage[order] for weight, stage in zip(weights, found, strict=True))
    return exact(order + 1)[order + 1] - term


ZERO, ONE, HALF = sp.Integer(0), sp.Integer(1), sp.Rational(1, 2)
F, FX, FT = partial(0, 0), partial(1, 0), partial(0, 1)
ALONG = FT + F * FX
"""The acceleration: dF/dt along the solution."""
BENT = partial(0, 2) + 2 * F * partial(1, 1) + F**2 * partial(2, 0)


@formula(
    "ode.euler_error",
    title="Euler's step has order 1",
    lhs=x_s,
    rhs=x_t + h * slope_1,
    citations=("S004:§8.6",),
    reference="refdiff.ode:euler_step",
    uses=("ode.drift",),
    decoys=(Decoy("away", x_t - h * slope_1, "sign", "a step in the wrong direction of time"),),
)
def _euler_error(claim: sp.Expr) -> Iterator[Step]:
    """One step misses half of the acceleration F_t + F·F_x times h²."""
    yield from order_steps(claim, (slope_1,), (ZERO,), 1)
    yield Identity("what one step misses", missing((ONE,), (ZERO,), 1), ALONG / 2)


@formula(
    "ode.heun_error",
    title="Heun's step has order 2",
    lhs=x_s,
    rhs=x_t + h * (slope_1 + slope_2) / 2,
    citations=("Karras2022:alg1", "S004:§8.6"),
    reference="refdiff.ode:heun_step",
    uses=("ode.euler_error",),
    decoys=(
        Decoy("second-only", x_t + h * slope_2, "discretization", "the slope at the end alone: order 1"),
        Decoy("not-averaged", x_t + h * (slope_1 + slope_2), "discretization", "the sum of the slopes"),
    ),
)
def _heun_error(claim: sp.Expr) -> Iterator[Step]:
    """The second slope is taken at the end of Euler's step. Order 2 leaves the two weights no choice: their
    sum is 1, and that of the second is ½. One step misses F_x times a sixth of the acceleration, less a
    twelfth of the second derivative of F along the direction of motion."""
    nodes = (ZERO, ONE)
    yield from order_steps(claim, (slope_1, slope_2), nodes, 2)
    error = missing((HALF, HALF), nodes, 2)
    yield Identity("what one step misses", error, FX * ALONG / 6 - BENT / 12)


RK4_NODES = (ZERO, HALF, HALF, ONE)


@formula(
    "ode.rk4_error",
    title="the classical Runge–Kutta step has order 4",
    lhs=x_s,
    rhs=x_t + h * (slope_1 + 2 * slope_2 + 2 * slope_3 + slope_4) / 6,
    citations=("Song2021sde:§4.3", "S004:§8.6"),
    reference="refdiff.ode:rk4_step",
    uses=("ode.heun_error",),
    decoys=(
        Decoy("equal-weights", x_t + h * (slope_1 + slope_2 + slope_3 + slope_4) / 4, "discretization",
              "the mean of the four slopes: order 2"),
        Decoy("three-eighths", x_t + h * (slope_1 + 3 * slope_2 + 3 * slope_3 + slope_4) / 8,
              "discretization", "the weights of the rule with nodes at thirds"),
        Decoy("middle-once", x_t + h * (slope_1 + 4 * slope_2 + slope_4) / 6, "discretization",
              "Simpson's rule with the first slope of the middle: order 2"),
    ),
)  # fmt: skip
def _rk4_error(claim: sp.Expr) -> Iterator[Step]:
    """Each slope is taken at the end of a step along the one before, of half, half and whole length. The
    conditions of order 4 leave the weights no choice. Order 5 is not reached: for F = x one step
    misses h^5/120."""
    yield from order_steps(claim, (slope_1, slope_2, slope_3, slope_4), RK4_NODES, 4)
    unit = {partial(i, j): int((i, j) == (1, 0)) for i in range(6) for j in range(6 - i)}
    unit[F] = 1
    weights = [sp.Rational(n, 6) for n in (1, 2, 2, 1)]
    yield Identity("not order 5", missing(weights, RK4_NODES, 4).subs(unit), sp.Rational(1, 120))


VE_STEP = x_ve + (sig_t**2 - sig_s**2) / 2 * score_ve
DESCENT = sp.Lt(sig_s, sig_t)


@formula(
    "ode.ve_step",
    title="the source's step of the variance-exploding ODE is Euler's step in the variance",
    lhs=x_s,
    rhs=VE_STEP,
    citations=("Song2021sde:app.D.3", "S004:8.20"),
    reference="refdiff.ode:ve_step",
    uses=("ode.ve_drift",),
    assumptions=(DESCENT,),
    decoys=(
        Decoy("not-halved", x_ve + (sig_t**2 - sig_s**2) * score_ve, "discretization",
              "the step of the reverse SDE without its noise", "S004:8.13"),
        Decoy("levels", x_ve + (sig_t - sig_s) / 2 * score_ve, "sqrt", "σ where σ² belongs"),
        Decoy("euler-in-sigma", x_ve + sig_t * (sig_t - sig_s) * score_ve, "discretization",
              "Euler's step in σ: DDIM"),
        Decoy("upwards", x_ve - (sig_t**2 - sig_s**2) / 2 * score_ve, "sign", "the step that adds noise"),
    ),
)  # fmt: skip
def _ve_step(claim: sp.Expr) -> Iterator[Step]:
    """With u = σ² for the time, the velocity −σσ'·score per unit of t is −½·score per unit of u."""
    u = sp.Symbol("u", positive=True)
    yield Identity("the velocity in u", sp.diff(sqrt(u), u) * -sqrt(u) * score_ve, -score_ve / 2)
    yield Identity("Euler's step in u", claim, x_ve + (sig_s**2 - sig_t**2) * (-score_ve / 2))


SPREAD = data_variance + sigma**2


@formula(
    "ode.ve_step_error",
    title="error of that step on centred Gaussian data, over the square of the variance passed",
    lhs=sp.Symbol("C", real=True),
    rhs=1 / (8 * SPREAD**2),
    citations=("S004:8.20",),
    uses=("ode.ve_step", "ode.gaussian_flow"),
    decoys=(
        Decoy("exact", sp.Integer(0), "discretization", "no error of second order"),
        Decoy("noise-only", 1 / (8 * sigma**4), "variance", "the variance of the data is forgotten"),
    ),
)  # fmt: skip
def _ve_step_error(claim: sp.Expr) -> Iterator[Step]:
    """The factor of x in the step minus the exact factor, h being the fall of σ²: one step errs by second
    order, the whole way by first order, and always to the side of too little contraction: the exact factor is
    a root, and the step its tangent."""
    step, path = 1 - h / (2 * SPREAD), sqrt((SPREAD - h) / SPREAD)
    yield Series("leading order", step - path, h, 3, claim * h**2)
    yield Identity("a tangent lies above", (step - path) * (step + path), h**2 / (4 * SPREAD**2))


VP_STEP = (2 - sqrt(RATIO)) * x_t + (1 - RATIO) / 2 * score


@formula(
    "ode.vp_step",
    title="the source's step of the variance-preserving ODE",
    lhs=x_s,
    rhs=VP_STEP,
    citations=("Song2021sde:app.D.3", "S004:8.21"),
    reference="refdiff.ode:vp_step",
    uses=("ode.vp_drift", "ddpm.transition"),
    decoys=(
        Decoy("not-halved", (2 - sqrt(RATIO)) * x_t + (1 - RATIO) * score, "discretization",
              "the step of the reverse SDE without its noise", "S004:8.14"),
        Decoy("both-halved", (3 - sqrt(RATIO)) / 2 * x_t + (1 - RATIO) / 2 * score, "discretization",
              "the drift halved too: only the squared diffusion is"),
        Decoy("euler", (1 + (1 - RATIO) / 2) * x_t + (1 - RATIO) / 2 * score, "discretization",
              "Euler's step of the ODE: the same to first order in β"),
        Decoy("ddim", x_t / sqrt(RATIO) + (1 - RATIO) / 2 * score, "discretization",
              "the coefficient of x_t in DDIM", "S004:8.22"),
    ),
)  # fmt: skip
def _vp_step(claim: sp.Expr) -> Iterator[Step]:
    """A step of the forward chain is x + f(x) + √β·z with f(x) = (√(1−β) − 1)·x. The step back subtracts f
    and adds half of β times the score: f is not halved. To first order in β it is Euler's step of the ODE;
    its coefficient of x_t exceeds Euler's by β²/8 to leading order."""
    beta = 1 - RATIO
    yield Identity("drift undone, half of β", claim, x_t - (sqrt(1 - beta) - 1) * x_t + beta / 2 * score)
    in_beta = claim.subs(abar_t, abar_s * (1 - h))
    yield Series("first order", in_beta, h, 2, x_t + h / 2 * (x_t + score))
    euler = x_t + h / 2 * (x_t + score)
    yield Series("against Euler's step", in_beta - euler, h, 3, h**2 / 8 * x_t)


NOISED = 1 + (data_variance - 1) * abar_t
"""The variance of centred Gaussian data at level t."""
LEFT = sp.Symbol("V", positive=True)
PATH = sqrt((1 + (LEFT - 1) / (1 - h)) / LEFT)
"""The exact factor of x_t over a step of β = h down from a level where the variance is V."""
SHARE = 1 - 1 / LEFT
PATH_SERIES = 1 + SHARE / 2 * h + (SHARE / 2 - SHARE**2 / 8) * h**2


def against_path(step: sp.Expr, bent: sp.Expr, claim: sp.Expr) -> Iterator[Step]:
    """The step and the exact factor agree to first order; their coefficients of h² differ by the claim."""
    yield Identity("the coefficients of β²", bent - PATH_SERIES.coeff(h, 2), claim)
    yield Series("the exact factor", PATH, h, 3, PATH_SERIES)
    yield Series("the step", step, h, 3, 1 + SHARE / 2 * h + bent * h**2)


@formula(
    "ode.vp_step_error",
    title="error of that step on centred Gaussian data, over β²",
    lhs=sp.Symbol("C", real=True),
    rhs=(1 + 2 * NOISED - 2 * NOISED**2) / (8 * NOISED**2),
    citations=("S004:8.21",),
    uses=("ode.vp_step", "ode.gaussian_flow"),
    decoys=(
        Decoy("of-ddim", -data_variance * abar_t / (8 * NOISED**2 * (1 - abar_t)), "discretization",
              "the error of DDIM"),
    ),
)  # fmt: skip
def _vp_step_error(claim: sp.Expr) -> Iterator[Step]:
    """The factor of x_t in the step minus the exact factor, for a step of β = h down from level t. It does
    not vanish where the data have unit variance and nothing should move: there the step multiplies by more
    than 1 by β²/8."""
    known = claim.subs(data_variance, 1 + (LEFT - 1) / abar_t)
    step = 2 - sqrt(1 - h) - h / (2 * LEFT)
    yield from against_path(step, sp.Rational(1, 8), known)
    yield Identity("the variance at level t", NOISED.subs(data_variance, 1 + (LEFT - 1) / abar_t), LEFT)
    yield Identity("data of unit variance should rest", PATH.subs(LEFT, 1), sp.Integer(1))
    yield Identity("but grow", claim.subs(data_variance, 1), sp.Rational(1, 8))
