"""DDIM and the probability-flow ODE: one equation in three variables, and two discretisations of it.

The equations are equal, not approximately so; the steps differ by an amount in closed form. The coefficient
of the score in the step is compared level by level: ½β_t in the discretised probability flow against
(1−ᾱ_t)/√α_t − √(1−ᾱ_{t−1})·√(1−ᾱ_t) in DDIM.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import sqrt

from derivations.kit import Decoy, Identity, Inequality, Series, Step, Substitution, formula
from derivations.ode_steps import LEFT, NOISED, VE_STEP, VP_STEP, against_path
from derivations.symbols import (
    abar_prev,
    abar_s,
    abar_t,
    alpha_before,
    alpha_t,
    beta_t,
    data_variance,
    eps,
    h,
    score,
    score_ve,
    sig_s,
    sig_t,
    tau,
    x,
    x_t,
    x_ve,
    y,
)

RATE = sp.Symbol("rate", real=True)
a, b = (sp.Function(name, positive=True)(tau) for name in ("a", "b"))
noise = sp.Function("epsilon", real=True)
sigma = sp.Function("sigma", positive=True)(tau)


@formula(
    "ode.one_ode",
    title="in y = x/a every process has the ODE dy = ε·dσ with σ = b/a",
    lhs=RATE,
    rhs=sp.diff(b / a, tau) * noise(x, tau),
    citations=("Karras2022:4", "Song2021ddim:14", "S004:8.24", "S004:8.26"),
    reference="refdiff.ode:drift",
    uses=("ode.from_eps",),
    decoys=(
        Decoy("noise-level", sp.diff(b, tau) * noise(x, tau), "parameterization",
              "the deviation of x where that of y belongs"),
        Decoy("variance", sp.diff((b / a) ** 2, tau) * noise(x, tau), "sqrt", "σ² where σ belongs"),
        Decoy("halved", sp.diff(b / a, tau) / 2 * noise(x, tau), "discretization", "½ kept with dσ²/2σ"),
    ),
)  # fmt: skip
def _one_ode(claim: sp.Expr) -> Iterator[Step]:
    """For any scale a and deviation b: f = a'/a, g² = (b²)' − 2f·b², and the score is −ε/b. By the quotient
    rule the drift f of x drops out of y, and what is left of ½g²/b is a·σ'. So VP, sub-VP and VE processes
    with one σ have one ODE, and a schedule is no more than a choice of variables and of speed."""
    f = sp.diff(a, tau) / a
    g_squared = sp.diff(b**2, tau) - 2 * f * b**2
    velocity = f * x + g_squared / 2 * noise(x, tau) / b
    yield Identity("the quotient rule", velocity / a - x * sp.diff(a, tau) / a**2, claim)
    yield Identity("through the score of y", claim / noise(x, tau), sp.diff((b / a) ** 2, tau) / (2 * b / a))


ARGUMENT = y / sqrt(1 + sigma**2)


@formula(
    "ode.vp_is_ddim_ode",
    title="the ODE of the variance-preserving process is that of DDIM, exactly",
    lhs=RATE,
    rhs=sp.diff(sigma, tau) * noise(ARGUMENT, tau),
    citations=("Song2021ddim:14", "S004:5.15", "S004:8.24", "S004:8.22"),
    reference="refdiff.ddim:euler_step",
    uses=("ode.one_ode", "ode.vp_drift", "ddim.euler_in_sigma"),
    decoys=(
        Decoy("state-not-scaled", sp.diff(sigma, tau) * noise(y, tau), "parameterization",
              "the network is asked at y"),
        Decoy("rate", -sp.diff(1 / (1 + sigma**2), tau) * noise(ARGUMENT, tau), "parameterization",
              "the rate of ᾱ where that of σ belongs"),
    ),
)  # fmt: skip
def _vp_is_ddim_ode(claim: sp.Expr) -> Iterator[Step]:
    """Let y follow the claim and x = y/√(1+σ²), so that ᾱ = 1/(1+σ²) and β = −ᾱ'/ᾱ. Then x has the velocity
    −½β·(x + score) with the score −ε/√(1−ᾱ): that of the VP process, for every rate. DDIM's step is Euler's
    step in σ for y (``ddim.euler_in_sigma``), so this is the equation that DDIM solves."""
    state = sp.Function("y", real=True)(tau)
    scaled, signal = state / sqrt(1 + sigma**2), 1 / (1 + sigma**2)
    beta = -sp.diff(signal, tau) / signal
    seen = noise(ARGUMENT, tau)
    velocity = -beta / 2 * (ARGUMENT - seen / sqrt(1 - signal))
    moved = sp.diff(scaled, tau).subs(sp.diff(state, tau), claim).subs(state, y)
    yield Identity("the velocity of x", moved, velocity)
    yield Identity("the deviation of the noise in x", sqrt(1 - signal), sigma / sqrt(1 + sigma**2))


@formula(
    "ode.ve_is_ddim_ode",
    title="the ODE of a variance-exploding process is that of DDIM, exactly",
    lhs=RATE,
    rhs=sp.diff(sigma, tau) * noise(ARGUMENT, tau),
    citations=("S004:8.25", "S004:8.26", "Song2021ddim:app.B"),
    reference="refdiff.ddim:euler_step",
    uses=("ode.one_ode", "ode.ve_drift", "ode.vp_is_ddim_ode", "parameterization.notation_edm_score"),
    decoys=(
        Decoy("not-halved", 2 * sp.diff(sigma, tau) * noise(ARGUMENT, tau), "discretization",
              "the drift of the reverse SDE", "S004:8.2"),
        Decoy("not-divided", sigma * sp.diff(sigma, tau) * noise(ARGUMENT, tau), "parameterization",
              "the noise where the score belongs: −ε for −ε/σ"),
        Decoy("forwards", -sp.diff(sigma, tau) * noise(ARGUMENT, tau), "sign",
              "the score taken for the noise"),
    ),
)  # fmt: skip
def _ve_is_ddim_ode(claim: sp.Expr) -> Iterator[Step]:
    """−½·dσ²/dt times the score of y, which is −ε/σ: y is the state divided by √ᾱ, so its score is √ᾱ times
    that of x. The three ODEs are one; nothing is approximate until a step is taken."""
    seen = noise(ARGUMENT, tau)
    yield Identity("half of the squared diffusion", claim, -sp.diff(sigma**2, tau) / 2 * (-seen / sigma))
    root = sqrt(1 + sigma**2)
    of_x = -seen / sqrt(1 - 1 / root**2)
    yield Identity("the score of y from that of x", of_x / root, -seen / sigma)


LOST_T, LOST_PREV = 1 - abar_t, 1 - abar_prev
PRINTED = LOST_T / sqrt(alpha_t) - sqrt(LOST_PREV) * sqrt(LOST_T)
KEPT = sqrt(alpha_t) * sqrt(LOST_PREV / LOST_T)
"""√α_t times the noise below over the noise above, which is √(1 − β_t/(1−ᾱ_t))."""
COEFFICIENT = beta_t / (sqrt(alpha_t) * (1 + KEPT))
LOST = sp.Symbol("u", positive=True)
IN_BETA = h / (sqrt(1 - h) * (1 + sqrt(1 - h / LOST)))
"""The coefficient as a function of β = h with the noise u = 1 − ᾱ_t of the level held."""
FIRST = {abar_prev: sp.Integer(1)}


@formula(
    "ode.ddim_coefficient",
    title="the coefficient of the score in DDIM's step",
    lhs=sp.Symbol("c_t", positive=True),
    rhs=COEFFICIENT,
    citations=("S004:8.22", "S004:fig8.1"),
    reference="refdiff.ode:ddim_coefficient_gap",
    uses=("ddim.score_form",),
    decoys=(
        Decoy("half-beta", beta_t / 2, "discretization",
              "the coefficient of the discretised probability flow, said to be the same", "S004:8.22"),
        Decoy("alpha-of-the-step-before", LOST_T / sqrt(alpha_before) - sqrt(LOST_PREV) * sqrt(LOST_T),
              "index", "√α_i under 1−ᾱ_{i+1}, where √α_{i+1} belongs", "S004:8.22"),
        Decoy("half-beta-of-the-step-before", (1 - alpha_before) / 2, "index",
              "½β_i, drawn beside the coefficient of step i+1", "S004:fig8.1"),
        Decoy("bar-of-the-score-missing", sqrt(beta_t) * (sqrt(LOST_T) / sqrt(alpha_t) - sqrt(LOST_PREV)),
              "index", "the score as −ε/√(1−α_t): a bar is missing", "S004:8.22"),
        Decoy("not-divided", beta_t / (1 + KEPT), "sqrt", "√α_t is missing"),
    ),
)  # fmt: skip
def _ddim_coefficient(claim: sp.Expr) -> Iterator[Step]:
    """What the source means to print is a difference of numbers near 1−ᾱ_t. Multiplied by its conjugate it
    is β_t over a sum, since 1−ᾱ_{t−1} = (1−ᾱ_t−β_t)/α_t: nothing cancels, and the sign shows. At the first
    step, where ᾱ_0 = 1, it is β_1/√α_1, twice ½β_1 and more."""
    yield Identity("the difference", PRINTED, claim)
    yield Identity("what is left below", KEPT**2, 1 - beta_t / LOST_T)
    yield Identity("the first step", _first(claim), (1 - abar_t) / sqrt(abar_t))
    held = claim.xreplace({alpha_t: 1 - h, beta_t: h}).subs(abar_prev, abar_t / (1 - h))
    yield Identity("through β and the level", held, IN_BETA.subs(LOST, LOST_T))
    step = x_t / sqrt(alpha_t) + claim * score
    to_data = sqrt(abar_prev) * (x_t + LOST_T * score) / sqrt(abar_t) - sqrt(LOST_PREV) * sqrt(LOST_T) * score
    yield Identity("the step", step, to_data)


def _first(expr: sp.Expr) -> sp.Expr:
    """The expression at the first step, with the levels in place of α and β."""
    return expr.xreplace({alpha_t: abar_t / abar_prev, beta_t: 1 - abar_t / abar_prev}).subs(FIRST)


RATIO_OF_COEFFICIENTS = 2 / (sqrt(alpha_t) * (1 + KEPT))
EXCESS = beta_t * (
    1 / (1 + sqrt(alpha_t)) + (1 + alpha_t * LOST_PREV) / (LOST_T * (1 + sqrt(alpha_t) * KEPT))
)
"""2 − √α(1 + kept), as β times a sum of positive terms."""


@formula(
    "ode.ddim_coefficient_ratio",
    title="DDIM's coefficient over ½β_t: above 1, and 2/√α_1 at the first step",
    lhs=sp.Symbol("r_t", positive=True),
    rhs=RATIO_OF_COEFFICIENTS,
    citations=("S004:8.22", "S004:fig8.1"),
    reference="refdiff.ode:ddim_coefficient_gap",
    uses=("ode.ddim_coefficient",),
    decoys=(
        Decoy("one", sp.Integer(1), "discretization", "the two are said to be approximately equal",
              "S004:fig8.1"),
        Decoy("half", RATIO_OF_COEFFICIENTS / 2, "discretization", "β where ½β belongs"),
    ),
)  # fmt: skip
def _ddim_coefficient_ratio(claim: sp.Expr) -> Iterator[Step]:
    """Strictly above 1 at every level of every schedule, and at most 2/√α_t, which is reached where nothing
    is left below: at the first step the two differ by a factor of 2, however small β_1. With growing noise,
    when β_t is small beside 1−ᾱ_t, the ratio falls towards 1."""
    yield Identity("the ratio", claim * beta_t / 2, COEFFICIENT)
    above = EXCESS / (sqrt(alpha_t) * (1 + KEPT))
    yield Inequality("above 1", claim, ">", sp.Integer(1), above)
    below = 2 * KEPT / (sqrt(alpha_t) * (1 + KEPT))
    yield Inequality("at most 2/√α_t", 2 / sqrt(alpha_t), ">=", claim, below)
    yield Identity("reached at the first step", _first(claim), 2 / sqrt(abar_t))


GAP = beta_t / 2 * EXCESS / (sqrt(alpha_t) * (1 + KEPT))


COMMON = beta_t / (2 * sqrt(alpha_t) * (1 + KEPT))


def _without_cancellation(claim: sp.Expr) -> Iterator[Step]:
    """The difference over a common factor: two numbers below 1 are taken from 1."""
    rests = (1 - sqrt(alpha_t)) + (1 - sqrt(alpha_t) * KEPT)
    yield Identity("over a common factor", claim / COMMON, rests)
    yield Identity("the difference", COEFFICIENT - beta_t / 2, COMMON * rests)


@formula(
    "ode.ddim_coefficient_gap",
    title="DDIM's coefficient minus ½β_t, without cancellation",
    lhs=sp.Symbol("d_t", real=True),
    rhs=GAP,
    citations=("S004:8.22", "S004:fig8.1"),
    reference="refdiff.ode:ddim_coefficient_gap",
    uses=("ode.ddim_coefficient", "ode.ddim_coefficient_ratio"),
    decoys=(
        Decoy("none", sp.Integer(0), "discretization", "the two taken for equal", "S004:8.22"),
        Decoy("leading-order", beta_t**2 * (sp.Rational(1, 4) + 1 / (8 * LOST_T)), "discretization",
              "the leading term of the series in β"),
    ),
)  # fmt: skip
def _ddim_coefficient_gap(claim: sp.Expr) -> Iterator[Step]:
    """Positive at every level, as the ratio exceeds 1. With the level t held and β → 0 it is of second order,
    with the coefficient 1/4 + 1/(8(1−ᾱ_t)), which grows without bound towards the data; where β is all the
    noise there is, at the first step, it is of first order, ½β."""
    yield from _without_cancellation(claim)
    leading = sp.Rational(1, 4) + 1 / (8 * LOST)
    yield Series("second order, the level held", IN_BETA - h / 2, h, 3, leading * h**2)
    at_first = _first(claim).subs(abar_t, 1 - h)
    yield Identity("the first step", at_first, h / sqrt(1 - h) - h / 2)
    yield Series("first order there", h / sqrt(1 - h) - h / 2, h, 3, h / 2 + h**2 / 2)


SERIES = (
    h / 2
    + (sp.Rational(1, 4) + 1 / (8 * LOST_T)) * h**2
    + (sp.Rational(3, 16) + 1 / (16 * LOST_T) + 1 / (16 * LOST_T**2)) * h**3
)


@formula(
    "ode.ddim_coefficient_series",
    title="DDIM's coefficient as a series in β, the level held",
    lhs=sp.Symbol("c_t", positive=True),
    rhs=SERIES,
    citations=("S004:8.22",),
    uses=("ode.ddim_coefficient_gap",),
    decoys=(
        Decoy("half-beta", h / 2, "discretization", "the leading term alone", "S004:8.22"),
        Decoy("no-level", h / 2 + h**2 / 4 + sp.Rational(3, 16) * h**3, "discretization",
              "the series of ½β/√(1−β), which no level enters"),
        Decoy("whole-beta", SERIES + h / 2, "discretization", "β where ½β belongs"),
    ),
    mutate=False,  # a polynomial in β: an inverted factor is no polynomial, and each coefficient is compared
)  # fmt: skip
def _ddim_coefficient_series(claim: sp.Expr) -> Iterator[Step]:
    """The terms up to β³, for β below 1−ᾱ_t: the k-th term has the (k−1)-th power of 1/(1−ᾱ_t), so the
    series is one in β/(1−ᾱ_t), the share of the noise that the step adds."""
    yield Series("Taylor's coefficients", IN_BETA, h, 4, claim.subs(abar_t, 1 - LOST))


STATE_GAP = (1 - sqrt(alpha_t)) ** 2 / sqrt(alpha_t)


@formula(
    "ode.ddim_state_gap",
    title="DDIM's coefficient of x_t minus that of the discretised probability flow",
    lhs=sp.Symbol("d_t", real=True),
    rhs=STATE_GAP,
    citations=("S004:8.22",),
    reference="refdiff.ode:ddim_coefficient_gap",
    uses=("ddim.score_form", "ode.vp_step"),
    decoys=(
        Decoy("none", sp.Integer(0), "discretization", "1/√α taken for 2 − √α", "S004:8.22"),
        Decoy("leading-order", beta_t**2 / 4, "discretization", "the leading term of the series in β"),
    ),
)  # fmt: skip
def _ddim_state_gap(claim: sp.Expr) -> Iterator[Step]:
    """The source replaces 1/√α by 2 − √α. The difference is a square over √α: never negative, β²/4 to
    leading order at every level, the first one too."""
    yield Identity("the difference", 1 / sqrt(alpha_t) - (2 - sqrt(alpha_t)), claim)
    yield Inequality("positive", claim, ">", sp.Integer(0), _square_gap())
    series = h**2 / 4 + h**3 / 4
    yield Series("leading order", 1 / sqrt(1 - h) + sqrt(1 - h) - 2, h, 4, series)


def _square_gap() -> sp.Expr:
    """The same with 1 − √α = β/(1 + √α), a product of positive numbers."""
    return beta_t**2 / ((1 + sqrt(alpha_t)) ** 2 * sqrt(alpha_t))


@formula(
    "ode.ddim_step_gap",
    title="DDIM's step minus the step of the discretised probability flow",
    lhs=sp.Symbol("d_t", real=True),
    rhs=STATE_GAP * x_t + GAP * score,
    citations=("S004:8.21", "S004:8.22"),
    reference="refdiff.ode:ddim_step_gap",
    uses=("ode.ddim_state_gap", "ode.ddim_coefficient_gap"),
    decoys=(
        Decoy("score-only", GAP * score, "discretization", "the coefficients of x_t taken for equal",
              "S004:8.22"),
        Decoy("leading-order",
              beta_t**2 / 4 * x_t + beta_t**2 * (sp.Rational(1, 4) + 1 / (8 * LOST_T)) * score,
              "discretization", "the leading terms of the series in β"),
    ),
)  # fmt: skip
def _ddim_step_gap(claim: sp.Expr) -> Iterator[Step]:
    """Both are steps of one ODE and agree to first order in β while the level is held, so over a fixed time
    cut into N steps they end within a constant times 1/N of each other; at the first step above the data the
    score's coefficients differ by a factor of 2 for every N."""
    ddim = x_t / sqrt(alpha_t) + COEFFICIENT * score
    flow = VP_STEP.subs(abar_s, abar_prev)
    on_state, on_score = sp.diff(claim, x_t), sp.diff(claim, score)
    yield Identity("linear in state and score", claim, on_state * x_t + on_score * score)
    yield Identity("the state", sp.diff(ddim - flow, x_t), on_state)
    yield Identity("what the score multiplies", sp.diff(ddim - flow, score), COEFFICIENT - beta_t / 2)
    yield from _without_cancellation(on_score)


@formula(
    "ode.ddim_step_error",
    title="error of DDIM's step on centred Gaussian data, over β²",
    lhs=sp.Symbol("C", real=True),
    rhs=-data_variance * abar_t / (8 * NOISED**2 * LOST_T),
    citations=("S004:8.22",),
    reference="refdiff.ddim:step",
    uses=("ode.ddim_coefficient", "ode.gaussian_flow", "ode.vp_step_error"),
    decoys=(
        Decoy("of-the-flow", (1 + 2 * NOISED - 2 * NOISED**2) / (8 * NOISED**2), "discretization",
              "the error of the discretised probability flow"),
        Decoy("noise-only", -data_variance * abar_t / (8 * LOST_T**3), "variance",
              "the variance of the noise alone"),
    ),
)  # fmt: skip
def _ddim_step_error(claim: sp.Expr) -> Iterator[Step]:
    """The factor of x_t in the step minus the exact factor. It vanishes for data at one point and always
    contracts too much, where the other step errs to either side: the two have one order and different
    constants, and neither is the better one for all data."""
    level = {data_variance: 1 + (LEFT - 1) / (1 - LOST), abar_t: 1 - LOST}
    known = claim.subs(data_variance, level[data_variance]).subs(abar_t, level[abar_t])
    step = 1 / sqrt(1 - h) - IN_BETA / LEFT
    bent = sp.Rational(3, 8) - (sp.Rational(1, 4) + 1 / (8 * LOST)) / LEFT
    yield from against_path(step, bent, known)
    yield Identity("data at one point", claim.subs(data_variance, 0), sp.Integer(0))


@formula(
    "ode.ve_ddim_gap",
    title="DDIM's step minus the source's step of the variance-exploding ODE",
    lhs=sp.Symbol("d_t", real=True),
    rhs=(sig_t - sig_s) ** 2 / 2 * score_ve,
    citations=("S004:8.20", "S004:8.23"),
    reference="refdiff.ode:ve_step",
    uses=("ode.ve_step", "ddim.euler_in_sigma"),
    assumptions=(sp.Lt(sig_s, sig_t),),
    decoys=(
        Decoy("none", sp.Integer(0), "discretization", "the two taken for equal"),
        Decoy("of-the-squares", (sig_t**2 - sig_s**2) / 2 * score_ve, "discretization", "the step itself"),
    ),
)  # fmt: skip
def _ve_ddim_gap(claim: sp.Expr) -> Iterator[Step]:
    """Euler's step in σ against Euler's step in σ², for one ODE: they differ by half of the squared step in
    σ times the score, exactly. On the last step to σ = 0 that is as much as the step itself: the one moves by
    σ² times the score, the other by half of it."""
    by_noise = x_ve + (sig_s - sig_t) * eps
    ddim = by_noise.subs(eps, -sig_t * score_ve)
    yield Identity("step by step", ddim - VE_STEP, claim)
    yield Identity("the last step", claim.subs(sig_s, 0), (VE_STEP - x_ve).subs(sig_s, 0))
    line = sp.Function("y", real=True)(sig_t)
    yield Substitution(
        "a constant ε is followed by DDIM alone", sp.diff(line, sig_t) - eps, {line: eps * sig_t}
    )
