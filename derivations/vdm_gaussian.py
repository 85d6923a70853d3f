"""Gaussian data: the error, every term of the bound and their sum, in steps and without: part of ``vdm``."""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import exp, log, sqrt

from derivations.ddpm import DATA_POSTERIOR_VARIANCE
from derivations.hyvarinen import UNIT
from derivations.kit import Decoy, Expectation, Identity, Inequality, Step, formula
from derivations.symbols import (
    T,
    abar_t,
    data_mean,
    data_variance,
    eps,
    gamma,
    gamma_0,
    gamma_1,
    gamma_m,
    gamma_s,
    gamma_t,
    h,
    x_0,
)
from derivations.vdm_levels import NOISE, SIGNAL, W, rising, rising_from

ERROR = data_variance / (data_variance + exp(gamma))


@formula(
    "vdm.gaussian_error",
    title="mean squared error of the noise that the best prediction leaves, Gaussian data",
    lhs=sp.Symbol("e", positive=True),
    rhs=ERROR,
    reference="refdiff.vdm:gaussian_rate",
    uses=("vdm.marginal", "data.gaussian_eps"),
    decoys=(
        Decoy("of-data", data_variance * exp(gamma) / (data_variance + exp(gamma)), "parameterization",
              "the error of the data"),
        Decoy("sign-of-gamma", data_variance / (data_variance + exp(-gamma)), "sign",
              "γ read as the log signal-to-noise ratio", "vdm #7"),
        Decoy("explained", exp(gamma) / (data_variance + exp(gamma)), "variance", "what is explained"),
        Decoy("unit-data", 1 / (1 + exp(gamma)), "data-scaling", "data of variance 1"),
    ),
)  # fmt: skip
def _gaussian_error(claim: sp.Expr) -> Iterator[Step]:
    """The mean over data and noise with the perfect prediction, which is affine; the mean of the data does
    not matter. It falls from 1 without noise to 0 without signal."""
    signal, noise = (rising_from(power, gamma) for power in (SIGNAL, NOISE))
    state = sqrt(signal) * (x_0 - data_mean) + sqrt(noise) * eps
    best = sqrt(noise) * state / (signal * data_variance + noise)
    law = {x_0: (data_mean, data_variance), eps: UNIT}
    yield Expectation("mean square of the error", (eps - best) ** 2, law, rising_from(claim, gamma))


def error_at(level: sp.Expr) -> sp.Expr:
    """That error at a level."""
    return ERROR.subs(gamma, level)


TERM = (exp(gamma_t - gamma_s) - 1) / 2 * error_at(gamma_t)


@formula(
    "vdm.gaussian_term",
    title="a term of the diffusion loss with the best prediction, Gaussian data",
    lhs=sp.Symbol("L_t", positive=True),
    rhs=TERM,
    citations=("Kingma2021:14",),
    reference="refdiff.vdm:gaussian_loss_discrete",
    uses=("vdm.term", "vdm.gaussian_error"),
    assumptions=(sp.Lt(gamma_s, gamma_t),),
    decoys=(
        Decoy("error-of-s", (exp(gamma_t - gamma_s) - 1) / 2 * error_at(gamma_s), "index",
              "the error at the end of the step, where nothing is predicted"),
        Decoy("continuous", (gamma_t - gamma_s) / 2 * error_at(gamma_t), "discretization",
              "the weight of continuous time"),
        Decoy("same-term-always", (exp(gamma_t - gamma_s) - 1) / 2 * error_at(gamma_m), "index",
              "the time is not updated in the loop over the terms", "tqch/ddpm-torch #20"),
    ),
)  # fmt: skip
def _gaussian_term(claim: sp.Expr) -> Iterator[Step]:
    """The weight of the step times the mean error where it starts; the same as half the signal-to-noise ratio
    that it passes times the variance of the data given x_t."""
    weight = (exp(gamma_t - gamma_s) - 1) / 2
    yield Identity("from the noise", claim, weight * error_at(gamma_t))
    left = DATA_POSTERIOR_VARIANCE.subs(abar_t, SIGNAL.subs(gamma, gamma_t))
    yield Identity("from the data", claim, (exp(-gamma_s) - exp(-gamma_t)) / 2 * left)


def content(level: sp.Expr) -> sp.Expr:
    """Twice what a level tells about the data: log(1 + c·SNR)."""
    return log(1 + data_variance * exp(-level))


LOSS = (content(gamma_0) - content(gamma_1)) / 2


@formula(
    "vdm.gaussian_loss",
    title="the diffusion loss of continuous time with the best prediction, Gaussian data",
    lhs=sp.Symbol("L_inf", positive=True),
    rhs=LOSS,
    citations=("Kingma2021:18",),
    reference="refdiff.vdm:gaussian_loss_continuous",
    uses=("vdm.rate", "vdm.invariance", "vdm.gaussian_error"),
    assumptions=(sp.Lt(gamma_0, gamma_1),),
    decoys=(
        Decoy("not-halved", 2 * LOSS, "loss-weight", "½ missing"),
        Decoy("reversed", -LOSS, "sign", "the ends exchanged"),
        Decoy("prior-left-out", content(gamma_0) / 2, "likelihood", "as if nothing were left at the end"),
        Decoy("one-step", TERM.subs({gamma_t: gamma_1, gamma_s: gamma_0}), "discretization", "one step"),
    ),
)  # fmt: skip
def _gaussian_loss(claim: sp.Expr) -> Iterator[Step]:
    """Its derivative by the upper end is half the error there, and it vanishes for equal ends: the integral
    of half the error over γ, whatever the schedule between. It is the difference of what the two ends tell
    about the data."""
    yield Identity("rate in γ", sp.diff(claim, gamma_1), error_at(gamma_1) / 2)
    yield Identity("nothing between equal ends", claim.subs(gamma_1, gamma_0), sp.Integer(0))


def between(high: sp.Expr, low: sp.Expr) -> sp.Expr:
    """A term for a step between two levels."""
    return TERM.subs({gamma_t: high, gamma_s: low}, simultaneous=True)


def ratio(level: sp.Expr) -> sp.Expr:
    """The signal-to-noise ratio of a level."""
    return exp(-level)


GAIN = (
    data_variance**2
    * (ratio(gamma_s) - ratio(gamma_m))
    * (ratio(gamma_m) - ratio(gamma_t))
    / (2 * (1 + data_variance * ratio(gamma_t)) * (1 + data_variance * ratio(gamma_m)))
)


@formula(
    "vdm.refinement",
    title="what a level between gains, Gaussian data: more steps lower the loss",
    lhs=sp.Symbol("gained", positive=True),
    rhs=GAIN,
    citations=("Kingma2021:§3.4", "Kingma2021:appF", "S004:§6/9"),
    reference="refdiff.vdm:gaussian_loss_discrete",
    uses=("vdm.gaussian_term", "elbo.refinement"),
    assumptions=(sp.Lt(gamma_s, gamma_m), sp.Lt(gamma_m, gamma_t)),
    decoys=(
        Decoy("loss", -GAIN, "sign", "more steps raise the loss"),
        Decoy("nothing", sp.Integer(0), "discretization", "the number of steps does not matter"),
        Decoy("variance-once", GAIN / data_variance, "variance", "the variance of the data not squared"),
        Decoy("upper-twice", GAIN * (ratio(gamma_m) - ratio(gamma_t)) / (ratio(gamma_s) - ratio(gamma_m)),
              "index", "the noisier half counted twice"),
    ),
)  # fmt: skip
def _refinement(claim: sp.Expr) -> Iterator[Step]:
    """One step against two. Whatever the levels, the gain is positive; so twice as many steps, each old one
    cut in two, always have a smaller loss, and by induction any refinement has."""
    two = between(gamma_m, gamma_s) + between(gamma_t, gamma_m)
    yield Identity("one step against two", between(gamma_t, gamma_s) - two, claim)
    yield Inequality("positive", rising(claim), ">", sp.Integer(0))


SQUARES = content(gamma_0) - content(gamma_1) + error_at(gamma_1) - error_at(gamma_0)
"""The integral of the squared error between the ends."""
ORDER = (gamma_1 - gamma_0) / (4 * T) * SQUARES
A_STEP = between(gamma + h, gamma) - LOSS.subs({gamma_0: gamma, gamma_1: gamma + h}, simultaneous=True)
LOCAL = [sp.diff(A_STEP, h, k).subs(h, 0) / sp.factorial(k) for k in range(3)]
"""What a step from γ + h to γ costs above continuous time, by powers of h."""


@formula(
    "vdm.gaussian_order",
    title="T equal steps in γ above continuous time, up to O(1/T²), Gaussian data",
    lhs=sp.Symbol("L_T") - sp.Symbol("L_inf"),
    rhs=ORDER,
    citations=("Kingma2021:appF",),
    reference="refdiff.vdm:gaussian_loss_discrete",
    uses=("vdm.excess", "vdm.gaussian_loss", "vdm.gaussian_term"),
    assumptions=(sp.Lt(gamma_0, gamma_1),),
    decoys=(
        Decoy("second-order", ORDER / T, "discretization", "1/T² where 1/T belongs"),
        Decoy("error-alone", (gamma_1 - gamma_0) / (4 * T) * (content(gamma_0) - content(gamma_1)),
              "likelihood", "as if the error were the same at all levels"),
        Decoy("not-squared", ORDER / (gamma_1 - gamma_0), "discretization", "the length of a step once"),
        Decoy("halved", ORDER * 2, "loss-weight", "½ for ¼"),
    ),
)  # fmt: skip
def _gaussian_order(claim: sp.Expr) -> Iterator[Step]:
    """A step of size δ = (γ_1 − γ_0)/T exceeds the integral by δ²·e(γ)²/4 to leading order, since e + e' is
    e². The steps together exceed it by δ/4 times the integral of e², which the rest of the claim is: its
    derivative by γ_1 is e², and it starts at 0. The error is positive and falls as 1/T."""
    whole = 4 * T * claim / (gamma_1 - gamma_0)
    yield Identity("the integral of e²", sp.diff(whole, gamma_1), error_at(gamma_1) ** 2)
    yield Identity("nothing between equal ends", whole.subs(gamma_1, gamma_0), sp.Integer(0))
    yield Identity("e + e' is e²", ERROR + sp.diff(ERROR, gamma), ERROR**2)
    for k, coefficient in enumerate((sp.Integer(0), sp.Integer(0), ERROR**2 / 4)):
        yield Identity(f"a step, order {k}", LOCAL[k], coefficient)


RECONSTRUCTION = log(2 * sp.pi * sp.E * data_variance / (1 + data_variance * exp(-gamma_0))) / 2


@formula(
    "vdm.gaussian_reconstruction",
    title="the reconstruction term of the exact decoder, on average over Gaussian data",
    lhs=sp.Symbol("L_rec", real=True),
    rhs=RECONSTRUCTION,
    citations=("Kingma2021:9",),
    reference="refdiff.vdm:gaussian_reconstruction_term",
    uses=("vdm.marginal", "data.gaussian_posterior_variance", "gaussian.entropy"),
    decoys=(
        Decoy("entropy", log(2 * sp.pi * sp.E * data_variance) / 2, "likelihood", "z_0 says nothing"),
        Decoy("noise-alone", (log(2 * sp.pi * sp.E) + gamma_0) / 2, "likelihood",
              "the data have no law of their own: right only for little noise"),
        Decoy("sign-of-gamma", RECONSTRUCTION.subs(gamma_0, -gamma_0), "sign", "γ with its sign flipped",
              "vdm #7"),
    ),
)  # fmt: skip
def _gaussian_reconstruction(claim: sp.Expr) -> Iterator[Step]:
    """The entropy of the data given z_0, which is normal: ½ log(2πe) of its variance."""
    left = DATA_POSTERIOR_VARIANCE.subs(abar_t, 1 / (1 + W))
    entropy = log(2 * sp.pi * sp.E) / 2 + log(left) / 2
    yield Identity("entropy of the data given z_0", rising_from(claim, gamma_0), entropy)


PRIOR = content(gamma_1) / 2


@formula(
    "vdm.gaussian_bound",
    title="the bound of continuous time is the entropy of the data: exact prior, exact decoder",
    lhs=sp.Symbol("L", real=True),
    rhs=log(2 * sp.pi * sp.E * data_variance) / 2,
    citations=("Kingma2021:9", "Kingma2021:18"),
    reference="refdiff.vdm:gaussian_bound",
    uses=("vdm.gaussian_loss", "vdm.gaussian_reconstruction", "vlb.gaussian_prior_term"),
    decoys=(
        Decoy("prior-left-out", log(2 * sp.pi * sp.E * data_variance) / 2 - PRIOR, "likelihood",
              "the sum without the prior term"),
        Decoy("decoder-left-out", content(gamma_0) / 2, "likelihood", "the sum without reconstruction"),
        Decoy("log-density-at-mean", log(2 * sp.pi * data_variance) / 2, "likelihood",
              "minus the log-density at the mean"),
    ),
)  # fmt: skip
def _gaussian_bound(claim: sp.Expr) -> Iterator[Step]:
    """Against the exact marginal the prior term is, on average, ½ log(1 + c·SNR_1). With the loss between and
    the reconstruction the ends drop out: the bound is tight for any ends and any schedule. With T steps it
    is above by what the steps add, with a standard normal prior by the divergence of q(z_1) from it."""
    level = 1 / (1 + W)
    total = level * data_variance + 1 - level
    share = (1 - level) / total
    prior = (share - 1 - log(share) + level * (x_0 - data_mean) ** 2 / total) / 2
    law = {x_0: (data_mean, data_variance)}
    yield Expectation("mean of the prior term", prior, law, rising_from(PRIOR, gamma_1))
    start = sp.Symbol("w_0", positive=True)
    ends = {gamma_0: log(start), gamma_1: log(W)}
    yield Identity("the three terms", (PRIOR + LOSS + RECONSTRUCTION).subs(ends), claim.subs(ends))
