"""Schedules: the best one for Gaussian data, and a learned one; part of ``vdm``."""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import exp, log

from derivations.kit import Decoy, Identity, Inequality, Step, formula
from derivations.symbols import (
    data_variance,
    gain_1,
    gain_2,
    gain_3,
    gamma_0,
    gamma_1,
    gamma_t,
    raw_0,
    raw_1,
    raw_t,
    tau,
    unit_offset,
)
from derivations.vdm_gaussian import LOSS, content, error_at

ALONG = exp((1 - tau) * content(gamma_0) + tau * content(gamma_1))
OPTIMAL = log(data_variance) - log(ALONG - 1)


@formula(
    "vdm.optimal_gamma",
    title="the schedule at which the loss of Gaussian data has one rate at all times",
    lhs=gamma_t,
    rhs=OPTIMAL,
    citations=("Kingma2021:appI",),
    reference="refdiff.vdm:OptimalGamma",
    uses=("vdm.gaussian_loss", "vdm.rate"),
    assumptions=(sp.Lt(gamma_0, gamma_1), sp.Lt(tau, 1)),
    decoys=(
        Decoy("line", gamma_0 + (gamma_1 - gamma_0) * tau, "schedule", "the straight line between the ends"),
        Decoy("reversed", log(data_variance) - log(exp(tau * content(gamma_0) + (1 - tau)
              * content(gamma_1)) - 1), "index", "the ends exchanged"),
        Decoy("snr-line", -log((1 - tau) * exp(-gamma_0) + tau * exp(-gamma_1)), "schedule",
              "the signal-to-noise ratio on a straight line"),
    ),
    mutate=False,  # cost: a sign or root inside is another schedule, which the ends or the rate refute
)  # fmt: skip
def _optimal_gamma(claim: sp.Expr) -> Iterator[Step]:
    """What a level tells about the data falls evenly in time. So the rate ½γ'(t)·e(γ(t)) is the loss itself
    at all times, and the estimate of the loss from one time has no variance over times: this is what a
    schedule is learned for, since the loss itself does not depend on it. Any other schedule with these ends
    has a rate that is not constant and so a larger mean square, since the mean is the same."""
    first, last = (sp.Symbol(f"told_{k}", positive=True) for k in (0, 1))
    ends = {gamma_0: level_that_tells(first), gamma_1: level_that_tells(last)}
    at = claim.subs(ends, simultaneous=True)
    yield Identity("evenly", 1 + data_variance * exp(-at), exp((1 - tau) * first + tau * last))
    yield Identity("one rate", sp.diff(at, tau) / 2 * error_at(at), LOSS.subs(ends, simultaneous=True))
    yield Identity("the start", exp(at.subs(tau, 0)), exp(ends[gamma_0]))
    yield Identity("the end", exp(at.subs(tau, 1)), exp(ends[gamma_1]))


def level_that_tells(told: sp.Expr) -> sp.Expr:
    """The level γ at which log(1 + c·SNR) is this: every level is one."""
    return log(data_variance) - log(exp(told) - 1)


LEARNED = gamma_0 + (gamma_1 - gamma_0) * (raw_t - raw_0) / (raw_1 - raw_0)


@formula(
    "vdm.learned_gamma",
    title="a learned schedule keeps its ends",
    lhs=gamma_t,
    rhs=LEARNED,
    citations=("Kingma2021:appD", "google-research/vdm #11"),
    reference="refdiff.vdm:MonotoneGamma",
    assumptions=(sp.Lt(raw_0, raw_1),),
    decoys=(
        Decoy("not-renormalised", raw_t, "schedule",
              "the network itself: its ends move, and prior and reconstruction with them",
              "google-research/vdm #11"),
        Decoy("start-only", gamma_0 + (gamma_1 - gamma_0) * (raw_t - raw_0), "schedule",
              "shifted and not scaled: the end moves", "google-research/vdm #11"),
        Decoy("not-shifted", gamma_0 + (gamma_1 - gamma_0) * raw_t / raw_1, "schedule",
              "scaled and not shifted: the start moves"),
        Decoy("exchanged", gamma_1 + (gamma_0 - gamma_1) * (raw_t - raw_0) / (raw_1 - raw_0), "sign",
              "it falls from γ_1 to γ_0", "vdm #7"),
    ),
)  # fmt: skip
def _learned_gamma(claim: sp.Expr) -> Iterator[Step]:
    """Affine in the output of the network, and with the right values at both ends: that is one function. It
    rises where the network does."""
    yield Identity("affine", sp.diff(claim, raw_t, 2), sp.Integer(0))
    yield Identity("the start", claim.subs(raw_t, raw_0), gamma_0)
    yield Identity("the end", claim.subs(raw_t, raw_1), gamma_1)
    slope = (gamma_1 - gamma_0) / (raw_1 - raw_0)
    yield Identity("its slope", sp.diff(claim, raw_t), slope)


def sigmoid(value: sp.Expr) -> sp.Expr:
    """The logistic function."""
    return 1 / (1 + exp(-value))


INSIDE = unit_offset + gain_2 * gain_1 * tau
RAW = gain_1 * tau + gain_3 * sigmoid(INSIDE)
SLOPE = gain_1 * (1 + gain_2 * gain_3 * exp(-INSIDE) / (1 + exp(-INSIDE)) ** 2)


@formula(
    "vdm.learned_slope",
    title="the slope of a rising network with one unit",
    lhs=sp.Symbol("raw_slope", positive=True),
    rhs=SLOPE,
    citations=("Kingma2021:appD",),
    reference="refdiff.vdm:MonotoneGamma",
    decoys=(
        Decoy("line-only", gain_1, "schedule", "the unit forgotten"),
        Decoy("unit-only", SLOPE - gain_1, "schedule", "the line forgotten"),
        Decoy("first-weight-once", 1 + gain_1 * gain_2 * gain_3 * exp(-INSIDE) / (1 + exp(-INSIDE)) ** 2,
              "schedule", "the slope of the line taken for 1"),
        Decoy("sigmoid-for-slope", gain_1 * (1 + gain_2 * gain_3 * sigmoid(INSIDE)), "schedule",
              "the logistic function for its derivative"),
    ),
)  # fmt: skip
def _learned_slope(claim: sp.Expr) -> Iterator[Step]:
    """The chain rule. With positive weights every part is positive, so the network rises whatever the
    offsets; more units add parts of the same kind. A weight of either sign would not do."""
    yield Identity("chain rule", sp.diff(RAW, tau), claim)
    size = sp.Symbol("e_unit", positive=True)
    part = gain_1 * (1 + gain_2 * gain_3 * size / (1 + size) ** 2)
    yield Identity("in exp of the unit's input", claim, part.subs(size, exp(-INSIDE)))
    yield Inequality("it rises", part, ">", sp.Integer(0))
