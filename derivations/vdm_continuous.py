"""Steps without number: the limit of the diffusion loss, its order, and what it depends on; part of ``vdm``.

γ(t) is any smooth rising function, and e(γ) any mean squared error of the noise, as a function of the level.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import exp

from derivations.kit import Decoy, Identity, Step, formula
from derivations.symbols import (
    eps,
    eps_hat,
    gamma,
    gamma_0,
    gamma_1,
    gamma_slope,
    h,
    tau,
    x_0,
    x_0_hat,
)

g, loss_to = (sp.Function(name, real=True) for name in ("gamma", "P"))
g_t = g(tau)
FIRST, SECOND = sp.diff(g_t, tau), sp.diff(g_t, tau, 2)


def order(expr: sp.Expr, k: int) -> sp.Expr:
    """The coefficient of h^k of an expression with undefined functions of one argument."""
    return sp.diff(expr, h, k).subs(h, 0).doit() / sp.factorial(k)


LIMIT = FIRST / 2 + h * (FIRST**2 - SECOND) / 4


@formula(
    "vdm.limit",
    title="the weight of T steps, T/2·expm1(γ(t) − γ(t − 1/T)), as their number grows, up to O(1/T²)",
    lhs=sp.Symbol("w_T", positive=True),
    rhs=LIMIT,
    citations=("Kingma2021:16", "Kingma2021:17"),
    reference="refdiff.vdm:loss_discrete",
    uses=("vdm.term",),
    decoys=(
        Decoy("not-halved", FIRST + h * (FIRST**2 - SECOND) / 2, "loss-weight", "½ missing"),
        Decoy("no-first-order", FIRST / 2, "discretization", "the limit, reached at second order"),
        Decoy("forward", FIRST / 2 + h * (FIRST**2 + SECOND) / 4, "index", "a step that begins at t"),
    ),
)  # fmt: skip
def _limit(claim: sp.Expr) -> Iterator[Step]:
    """Expand expm1 of the rise of γ over a step of length h = 1/T, for any smooth γ, and divide by h. What is
    left at h = 0 is half the slope of γ; the rest is of first order in 1/T."""
    weight = (exp(g_t - g(tau - h)) - 1) / 2
    yield Identity("nothing in no time", order(weight, 0), sp.Integer(0))
    for k in range(2):
        yield Identity(f"order {k} in 1/T", order(weight, k + 1), order(claim, k))
    yield Identity("nothing of higher order is claimed", sp.diff(claim, h, 2), sp.Integer(0))


RATE = gamma_slope / 2 * (eps - eps_hat) ** 2


@formula(
    "vdm.rate",
    title="the diffusion loss of continuous time at one time",
    lhs=sp.Symbol("L_rate", nonnegative=True),
    rhs=RATE,
    citations=("Kingma2021:17",),
    reference="refdiff.vdm:rate",
    uses=("vdm.limit", "vdm.term_x_0"),
    decoys=(
        Decoy("not-halved", gamma_slope * (eps - eps_hat) ** 2, "loss-weight", "½ missing"),
        Decoy("no-slope", (eps - eps_hat) ** 2 / 2, "loss-weight", "the simple loss: another weight"),
        Decoy("snr-slope", gamma_slope * exp(-gamma) / 2 * (eps - eps_hat) ** 2, "loss-weight",
              "the weight of the data's error on that of the noise"),
    ),
)  # fmt: skip
def _rate(claim: sp.Expr) -> Iterator[Step]:
    """The limit of a term over the length of its step; and the same from the error of the data, with minus
    half the slope of the signal-to-noise ratio e^(−γ)."""
    step = (exp(gamma_slope * h) - 1) / 2 * (eps - eps_hat) ** 2
    yield Identity("limit of a term over its step", sp.diff(step, h).subs(h, 0), claim)
    of_data = -sp.diff(exp(-g_t), tau).subs(FIRST, gamma_slope).subs(g_t, gamma) / 2 * (x_0 - x_0_hat) ** 2
    ratio = exp(-gamma / 2) * (x_0_hat - x_0)
    yield Identity("from the data", claim.subs(eps, eps_hat + ratio), of_data)


def error(level: sp.Expr) -> sp.Expr:
    """The mean squared error of the noise at a level: twice the slope of an undefined primitive."""
    at = sp.Symbol("at", real=True)
    return 2 * sp.diff(loss_to(at), at).subs(at, level)


@formula(
    "vdm.invariance",
    title="the loss of continuous time depends on the ends of the schedule alone",
    lhs=sp.Symbol("L_inf", nonnegative=True),
    rhs=loss_to(gamma_1) - loss_to(gamma_0),
    citations=("Kingma2021:18", "Kingma2021:§5.1"),
    reference="refdiff.vdm:loss_continuous",
    uses=("vdm.rate",),
    decoys=(
        Decoy("at-the-end", loss_to(gamma_1), "likelihood", "the start does not count"),
        Decoy("mean", (loss_to(gamma_1) + loss_to(gamma_0)) / 2, "likelihood", "the mean of the ends"),
        Decoy("reversed", loss_to(gamma_0) - loss_to(gamma_1), "sign", "the ends exchanged"),
    ),
)  # fmt: skip
def _invariance(claim: sp.Expr) -> Iterator[Step]:
    """Let P be a primitive of half the error e(γ), for any error. Up to a time t the loss is the claim with
    γ(t) for its end, for any smooth γ: its derivative by t is the rate ½γ'(t)·e(γ(t)), and it starts at 0.
    Changing time, t = s(u) with any s, changes the rate by the factor s'(u), as it does any integrand. With a
    weight that depends on t and not on γ alone this fails, and so it does for steps of finite size."""
    until = claim.subs(gamma_1, g_t)
    yield Identity("the rate of the claim", sp.diff(until, tau), FIRST / 2 * error(g_t))
    yield Identity("nothing between equal ends", claim.subs(gamma_1, gamma_0), sp.Integer(0))
    clock = sp.Function("s", real=True)(tau)
    at_clock = (FIRST / 2 * error(g_t)).subs(tau, clock).doit()
    slow = sp.diff(claim.subs(gamma_1, g(clock)), tau)
    yield Identity("another clock", slow, sp.diff(clock, tau) * at_clock)


EXCESS = h**2 / 4 * (error(gamma) + sp.diff(error(gamma), gamma))


@formula(
    "vdm.excess",
    title="what a step of finite size adds to the loss of continuous time, to leading order",
    lhs=sp.Symbol("Delta_L", real=True),
    rhs=EXCESS,
    citations=("Kingma2021:appF",),
    reference="refdiff.vdm:loss_discrete",
    uses=("vdm.invariance", "vdm.term"),
    decoys=(
        Decoy("first-order", EXCESS / h, "discretization", "of first order: more steps would not help"),
        Decoy("error-alone", h**2 / 4 * error(gamma), "likelihood", "as if the error did not change"),
        Decoy("slope-alone", h**2 / 4 * sp.diff(error(gamma), gamma), "loss-weight",
              "the weight of continuous time in the sum"),
        Decoy("from-below", h**2 / 4 * (error(gamma) - sp.diff(error(gamma), gamma)), "index",
              "the prediction made at the less noised end"),
    ),
)  # fmt: skip
def _excess(claim: sp.Expr) -> Iterator[Step]:
    """A step from γ + h down to γ costs ½expm1(h)·e(γ + h), continuous time P(γ + h) − P(γ). They differ at
    second order, for any error, so T steps differ from continuous time by O(1/T). The data's error is
    m = e^γ·e, and e + e' is e^(−γ) times its slope: never negative, since more noise means more error."""
    discrete = (exp(h) - 1) / 2 * error(gamma + h)
    continuous = loss_to(gamma + h) - loss_to(gamma)
    for k in range(3):
        yield Identity(f"order {k} in the step", order(discrete - continuous, k), order(claim, k))
    yield Identity("nothing of higher order is claimed", sp.diff(claim, h, 3), sp.Integer(0))
    of_data = exp(-gamma) * sp.diff(exp(gamma) * error(gamma), gamma)
    yield Identity("through the error of the data", 4 * claim / h**2, of_data)


