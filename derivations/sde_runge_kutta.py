"""Stochastic Heun and Runge–Kutta steps for additive noise, with their coefficients out of order conditions.

Axioms: the equations of the moments of an affine drift; for Runge–Kutta the Itô–Taylor expansion, in which a
step of strong order 1.5 with additive noise is f·h + g·ΔW + f'g·ΔZ + ½h²(ff' + ½g²f'' + ∂f), ΔZ the integral
of W over the step, plus the integral of g (Kloeden and Platen 1992, section 10.4). Time is that of the
process which is stepped; for a sampler it falls.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import sympy as sp

from derivations.kit import Decoy, Expectation, Identity, Step, formula
from derivations.sde_chain import at_the_beginning, taylor
from derivations.sde_operators import ONE, UNIT, ZERO
from derivations.symbols import (
    diffusion,
    diffusion_s,
    drift_factor,
    drift_factor_slope,
    drift_stage,
    drift_x,
    omega,
    time_step,
    variance_rate_slope,
    x,
    x_t,
    z,
)

PULL = sp.Function("A", real=True)(time_step)
"""The factor of x in the drift for falling time, as the step goes on."""
KICK = sp.Function("G", positive=True)(time_step)
_START = {
    at_the_beginning(PULL, 0): drift_factor,
    at_the_beginning(PULL, 1): drift_factor_slope,
    at_the_beginning(KICK, 0): diffusion,
    at_the_beginning(KICK, 1): variance_rate_slope / (2 * diffusion),
}
PULL_0, KICK_0 = at_the_beginning(PULL, 0), at_the_beginning(KICK, 0)
GUESS = x_t * (1 + time_step * PULL_0) + sp.sqrt(time_step) * KICK_0 * z
HEUN = x_t + time_step / 2 * (PULL_0 * x_t + PULL * GUESS) + sp.sqrt(time_step) * (KICK_0 + KICK) / 2 * z


def _solution(first: sp.Expr, growth: sp.Expr, order: int) -> Iterator[sp.Expr]:
    """Taylor coefficients at 0 of the solution of u' = growth(u), which gives each from those before."""
    u = sp.Function("u", real=True)(time_step)
    known = {at_the_beginning(u, 0): first}
    yield first
    for k in range(1, order):
        slope = at_the_beginning(growth.subs(sp.Symbol("u"), u), k - 1).xreplace(known).xreplace(_START)
        known[at_the_beginning(u, k)] = slope
        yield slope / sp.factorial(k)


@formula(
    "sde.heun_mean",
    title="stochastic Heun on an affine drift: coefficient of Δt² in the factor of the state",
    lhs=sp.Symbol("coefficient"),
    rhs=drift_factor**2 / 2 + drift_factor_slope / 2,
    citations=("Kloeden1992:§15.1", "S004:§8.4"),
    reference="refdiff.sde:heun_step",
    uses=("sde.mean_rate",),
    decoys=(
        Decoy("euler", ZERO, "discretization", "the step of Euler and Maruyama"),
        Decoy("frozen", drift_factor**2 / 2, "discretization", "the drift of the beginning at both ends"),
        Decoy("start-state", drift_factor_slope / 2, "discretization",
              "the second drift at the state of the beginning"),
    ),
)  # fmt: skip
def _heun_mean(claim: sp.Expr) -> Iterator[Step]:
    """In falling time the drift is A·x with any smooth A. Heun's factor and that of the SDE agree through
    Δt²: the mean is off by third order in a step."""
    factor = sp.diff(sp.expand(HEUN), x_t)
    exact = (ONE, drift_factor, claim)
    yield from _agree("Heun", factor, exact)
    solution = _solution(ONE, PULL * sp.Symbol("u"), 3)
    for k, (found, wanted) in enumerate(zip(solution, exact, strict=True)):
        yield Identity(f"the SDE, order {k}", found, wanted)


def _agree(title: str, expr: sp.Expr, coefficients: tuple[sp.Expr, ...]) -> Iterator[Step]:
    claim = sum((c * time_step**k for k, c in enumerate(coefficients)), ZERO)
    yield from taylor(title, expr, len(coefficients), claim, _START)


@formula(
    "sde.heun_variance",
    title="stochastic Heun on an affine drift: coefficient of Δt² in the variance of the noise",
    lhs=sp.Symbol("coefficient"),
    rhs=drift_factor * diffusion**2 + variance_rate_slope / 2,
    citations=("Kloeden1992:§15.1", "S004:§8.4"),
    reference="refdiff.sde:heun_step",
    uses=("sde.variance_rate", "sde.heun_mean"),
    decoys=(
        Decoy("euler", ZERO, "discretization", "the step of Euler and Maruyama"),
        Decoy("fresh-noise", variance_rate_slope / 2, "discretization",
              "another noise in the guess: the drift does not know the noise it is added to",
              "google-research/torchsde PR#4"),
        Decoy("one-diffusion", drift_factor * diffusion**2, "discretization",
              "the diffusion of the beginning alone"),
    ),
)  # fmt: skip
def _heun_variance(claim: sp.Expr) -> Iterator[Step]:
    """In falling time the noise is G with any smooth G. Its variance agrees with that of the SDE through Δt²,
    and the mean does, so on Gaussian data Heun has weak order 2 where Euler and Maruyama have 1."""
    noise = (sp.diff(sp.expand(HEUN), z) / sp.sqrt(time_step)) ** 2 * time_step
    exact = (ZERO, diffusion**2, claim)
    yield from _agree("Heun", sp.expand(sp.powdenest(noise)), exact)
    growth = 2 * PULL * sp.Symbol("u") + KICK**2
    for k, (found, wanted) in enumerate(zip(_solution(ZERO, growth, 3), exact, strict=True)):
        yield Identity(f"the SDE, order {k}", found, wanted)


MIXED = (z + omega / sp.sqrt(3)) / 2
"""ΔZ over h√h."""
INTEGRAL = time_step ** sp.Rational(3, 2) * MIXED


@formula(
    "sde.brownian_integral",
    title="integral of the Brownian motion over a step, beside its increment √h·z",
    lhs=sp.Symbol("dZ", real=True),
    rhs=INTEGRAL,
    citations=("Kloeden1992:10.4.3",),
    reference="refdiff.sde:runge_kutta_step",
    decoys=(
        Decoy("one-noise", time_step ** sp.Rational(3, 2) * z / 2, "variance",
              "its mean given the increment: too little of it"),
        Decoy("independent", time_step ** sp.Rational(3, 2) * omega / sp.sqrt(3), "variance",
              "the right variance, and blind to the increment"),
        Decoy("other-way", time_step ** sp.Rational(3, 2) * (z - omega / sp.sqrt(3)), "variance",
              "not halved, with the other sign of the second noise"),
    ),
)  # fmt: skip
def _brownian_integral(claim: sp.Expr) -> Iterator[Step]:
    """Its variance is the double integral of the smaller of two times, its covariance with the increment the
    integral of the time: h³/3 and h²/2. Both are normal, so nothing else needs to be right; the sign of the
    second noise is free and taken positive."""
    u, w = sp.symbols("u w", positive=True)
    both = {z: UNIT, omega: UNIT}
    yield linear(claim)
    smaller = 2 * sp.integrate(sp.integrate(w, (w, 0, u)), (u, 0, time_step))
    yield Expectation("variance", sp.expand(claim**2), both, smaller)
    with_step = sp.integrate(u, (u, 0, time_step))
    yield Expectation("covariance", sp.expand(claim * sp.sqrt(time_step) * z), both, with_step)
    yield Identity(
        "the sign of the second noise", claim.subs({z: 0, omega: 2}), sp.sqrt(time_step**3) / sp.sqrt(3)
    )


def linear(claim: sp.Expr) -> Step:
    """The claim is its two slopes times the two noises."""
    at = {z: 1, omega: 1}
    return Identity("linear in the noises", claim, sum(sp.diff(claim, u).subs(at) * u for u in (z, omega)))


WEIGHTS = sp.symbols("alpha_1 alpha_2 a b c")
F, F_1, F_2, F_T = sp.symbols("f f_1 f_2 f_t", real=True)
ROOT = sp.Symbol("delta", positive=True)


@cache
def order_conditions() -> tuple[tuple[sp.Expr, ...], dict[sp.Symbol, sp.Expr]]:
    """The conditions on α_1, α_2, a, b, c, read from the expansion in √h for any drift, and their
    solution."""
    first, second, drift, noise, node = WEIGHTS
    inner = drift * ROOT**2 * F + noise * diffusion * ROOT * MIXED
    at_stage = F + F_1 * inner + F_2 * inner**2 / 2 + F_T * node * ROOT**2
    step = sp.expand(ROOT**2 * (first * F + second * at_stage))
    wanted = {
        2: F,
        3: F_1 * diffusion * MIXED,
        4: F * F_1 / 2 + diffusion**2 * F_2 / 4 + F_T / 2,
    }
    conditions: list[sp.Expr] = []
    for order, want in wanted.items():
        gap = sp.expand(step.coeff(ROOT, order) - want)
        if order == 4:  # the rest of this order has mean zero and adds up to a higher one
            gap = sp.expand(Expectation("", gap, {z: UNIT, omega: UNIT}, ZERO).value())
        conditions += sp.Poly(gap, F, F_1, F_2, F_T, z, omega, diffusion).coeffs()
    (solution,) = sp.solve(conditions, WEIGHTS, dict=True)
    return tuple(conditions), solution


def _conditions_hold(weights: dict[sp.Symbol, sp.Expr]) -> Iterator[Step]:
    for k, condition in enumerate(order_conditions()[0], 1):
        yield Identity(f"order condition {k}", condition.subs(weights), ZERO)


@formula(
    "sde.runge_kutta_stage",
    title="stochastic Runge–Kutta of strong order 1.5: the inner stage",
    lhs=sp.Symbol("H", real=True),
    rhs=x + 3 * time_step / 4 * drift_x
    + 3 * sp.sqrt(time_step) * diffusion / 4 * (z + omega / sp.sqrt(3)),
    citations=("Rossler2010:SRA1", "S004:§8.4"),
    reference="refdiff.sde:runge_kutta_step",
    uses=("sde.brownian_integral",),
    decoys=(
        Decoy("midpoint", x + time_step / 2 * drift_x + sp.sqrt(time_step) * diffusion / 2 * z,
              "discretization", "the midpoint rule, whose noise misses the curvature of the drift"),
        Decoy("heun", x + time_step * drift_x + sp.sqrt(time_step) * diffusion * z, "discretization",
              "the guess of Heun"),
        Decoy("increment", x + 3 * time_step / 4 * drift_x + 3 * sp.sqrt(time_step) * diffusion / 2 * z,
              "variance", "the increment for the integral over the step"),
    ),
)  # fmt: skip
def _runge_kutta_stage(claim: sp.Expr) -> Iterator[Step]:
    """Two drifts, at x and at H = x + a·h·f + b·g·ΔZ/h. In powers of √h the step is compared with the
    Itô–Taylor expansion for any drift, through h² (in the mean at h²): five conditions on the five numbers,
    with one solution, a = 3/4, b = 3/2, the node c = 3/4 and the weights 1/3 and 2/3."""
    solution = order_conditions()[1]
    yield from _conditions_hold(solution)
    a, b = solution[WEIGHTS[2]], solution[WEIGHTS[3]]
    stage = x + a * time_step * drift_x + b * diffusion * sp.sqrt(time_step) * MIXED
    yield Identity("the stage", claim, stage)


@formula(
    "sde.runge_kutta_drift",
    title="stochastic Runge–Kutta of strong order 1.5: the drift of the step",
    lhs=sp.Symbol("drift", real=True),
    rhs=drift_x / 3 + 2 * drift_stage / 3,
    citations=("Rossler2010:SRA1", "S004:§8.4"),
    reference="refdiff.sde:runge_kutta_step",
    uses=("sde.runge_kutta_stage",),
    decoys=(
        Decoy("heun", (drift_x + drift_stage) / 2, "discretization", "the weights of Heun"),
        Decoy("exchanged", 2 * drift_x / 3 + drift_stage / 3, "index", "the weights exchanged"),
        Decoy("stage-alone", drift_stage, "discretization", "the weights of the midpoint rule"),
    ),
)  # fmt: skip
def _runge_kutta_drift(claim: sp.Expr) -> Iterator[Step]:
    """The weights of the same solution."""
    solution = order_conditions()[1]
    yield Identity("the weights", claim, solution[WEIGHTS[0]] * drift_x + solution[WEIGHTS[1]] * drift_stage)
    both = {drift_x: 1, drift_stage: 1}
    yield Identity("a mean", claim.subs(both), ONE)


@formula(
    "sde.runge_kutta_noise",
    title="noise of a step whose diffusion goes from g to g_s in a straight line",
    lhs=sp.Symbol("noise", real=True),
    rhs=sp.sqrt(time_step) * ((diffusion + diffusion_s) / 2 * z
                              + (diffusion - diffusion_s) / (2 * sp.sqrt(3)) * omega),
    citations=("Rossler2010:SRA1", "Kloeden1992:10.4.5"),
    reference="refdiff.sde:runge_kutta_step",
    uses=("sde.brownian_integral",),
    decoys=(
        Decoy("mean-diffusion", sp.sqrt(time_step) * (diffusion + diffusion_s) / 2 * z, "variance",
              "the noise of Heun: right to the same weak order, not as a path"),
        Decoy("beginning", sp.sqrt(time_step) * diffusion * z, "discretization", "the first diffusion held"),
        Decoy("ends-exchanged", sp.sqrt(time_step) * ((diffusion + diffusion_s) / 2 * z
              + (diffusion_s - diffusion) / (2 * sp.sqrt(3)) * omega), "index",
              "as if the second noise belonged to the end"),
    ),
)  # fmt: skip
def _runge_kutta_noise(claim: sp.Expr) -> Iterator[Step]:
    """The integral of a straight line against the Brownian motion, together with ΔW and ΔZ: its variance is
    ∫g², its covariances are ∫g and ∫(h−u)g. Three normal variables in two noises, and exactly the right
    law."""
    u = sp.Symbol("u", positive=True)
    both = {z: UNIT, omega: UNIT}
    yield linear(claim)
    line = diffusion + u / time_step * (diffusion_s - diffusion)
    inside = (u, 0, time_step)
    yield Expectation("variance", sp.expand(claim**2), both, sp.integrate(sp.expand(line**2), inside))
    with_step = sp.expand(claim * sp.sqrt(time_step) * z)
    yield Expectation("with the increment", with_step, both, sp.integrate(line, inside))
    with_integral = sp.integrate(sp.expand((time_step - u) * line), inside)
    yield Expectation("with the integral", sp.expand(claim * INTEGRAL), both, with_integral)
