"""Variational diffusion models: the bound in γ, minus the log signal-to-noise ratio, in discrete steps.

Axioms: a level γ has signal power sigmoid(−γ) and noise power sigmoid(γ), time runs from 0 to 1, and γ
rises. A proof that needs roots or logarithms writes a pair of levels as e^γ = w and w·(1 + u), with any
positive w and u: that is every pair in order. Dimensions are independent, so a formula is written for one of
them. Continuous time is in ``vdm_continuous``, Gaussian data in ``vdm_gaussian``, learned schedules in
``vdm_schedule``; all of them belong to this topic.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import exp, log, sqrt

import derivations.vdm_continuous
import derivations.vdm_gaussian
import derivations.vdm_schedule  # noqa: F401, part of the topic
from derivations.ddpm import BETA_TILDE_S, SKIP_FROM_EPS, SKIP_MEAN
from derivations.kit import Decoy, Identity, Step, formula, normal
from derivations.symbols import (
    abar_s,
    abar_t,
    eps,
    eps_hat,
    gamma,
    gamma_0,
    gamma_1,
    gamma_s,
    gamma_t,
    point_1,
    point_2,
    x_0,
    x_0_hat,
    x_s,
    x_t,
    z,
)
from derivations.vdm_levels import NOISE, RISE, SIGNAL, W, rising, rising_from
from derivations.vlb_terms import PRIOR_TERM

IN_GAMMA = {abar_t: SIGNAL.subs(gamma, gamma_t), abar_s: SIGNAL.subs(gamma, gamma_s)}
"""The signal power of a variance-preserving level, from its γ."""
def in_order(expr: sp.Expr) -> sp.Expr:
    """An expression in two signal powers, at two levels γ in order."""
    return rising(expr.subs(IN_GAMMA))


FROM_EPS, FRESH, DATA_GAIN = (
    in_order(form) for form in (SKIP_FROM_EPS, BETA_TILDE_S, sp.diff(SKIP_MEAN, x_0))
)
"""The step of DDPM from the noise, its variance, and what the data move its mean by."""
MARGINAL = sqrt(SIGNAL) * x_0 + sqrt(NOISE) * eps


@formula(
    "vdm.marginal",
    title="noised data at a level γ",
    lhs=x_t,
    rhs=MARGINAL,
    citations=("Kingma2021:1", "conventions:VDM"),
    reference="refdiff.vdm:q_sample",
    uses=("parameterization.notation_vdm_alpha_bar", "ddpm.marginal"),
    decoys=(
        Decoy("sign-of-gamma", sqrt(NOISE) * x_0 + sqrt(SIGNAL) * eps, "sign",
              "γ read as the log signal-to-noise ratio itself: signal and noise exchanged", "vdm #7"),
        Decoy("powers", SIGNAL * x_0 + NOISE * eps, "sqrt", "powers for amplitudes"),
        Decoy("half-log", x_0 / sqrt(1 + exp(2 * gamma)) + eps / sqrt(1 + exp(-2 * gamma)), "sqrt",
              "γ read as the log of σ/α", "conventions:DPM-Solver"),
    ),
)  # fmt: skip
def _marginal(claim: sp.Expr) -> Iterator[Step]:
    """The amplitudes are the roots of the powers: their squares sum to 1 and have the ratio e^(−γ)."""
    at = claim.subs(gamma, log(W))
    kept, added = sp.diff(at, x_0), sp.diff(at, eps)
    yield Identity("data and noise", at, kept * x_0 + added * eps)
    yield Identity("signal amplitude", kept, 1 / sqrt(1 + W))
    yield Identity("noise amplitude", added, sqrt(W) / sqrt(1 + W))
    yield Identity("signal-to-noise ratio", (kept / added) ** 2, 1 / W)


TRANSITION = 1 - (1 + exp(gamma_s)) / (1 + exp(gamma_t))


@formula(
    "vdm.transition_variance",
    title="variance of z_t given an earlier z_s",
    lhs=sp.Symbol("sigma_t_given_s") ** 2,
    rhs=TRANSITION,
    citations=("Kingma2021:6", "Kingma2021:appA"),
    reference="refdiff.vdm:transition_variance",
    uses=("vdm.marginal", "ddpm.transition"),
    assumptions=(sp.Lt(gamma_s, gamma_t),),
    decoys=(
        Decoy("posterior", 1 - exp(gamma_s - gamma_t), "variance",
              "the factor of the posterior variance: the kernel read backwards"),
        Decoy("noise-gap", NOISE.subs(gamma, gamma_t) - NOISE.subs(gamma, gamma_s), "variance",
              "difference of the noise powers: the signal of s shrinks too"),
        Decoy("exchanged", 1 - (1 + exp(gamma_t)) / (1 + exp(gamma_s)), "index", "the levels exchanged"),
    ),
)  # fmt: skip
def _transition_variance(claim: sp.Expr) -> Iterator[Step]:
    """One less the share of the signal that is kept; the same is missing to the noise of t after the noise of
    s has been scaled down with the signal."""
    kept = (abar_t / abar_s).subs(IN_GAMMA)
    yield Identity("from the levels", claim, 1 - kept)
    high, low = (NOISE.subs(gamma, at) for at in (gamma_t, gamma_s))
    yield Identity("the noise adds up", claim + kept * low, high)


SHRUNK = 1 - exp(gamma_s - gamma_t)
STEP = (
    sqrt((1 + exp(gamma_t)) / (1 + exp(gamma_s)))
    * (x_t - sqrt(NOISE.subs(gamma, gamma_t)) * SHRUNK * eps)
    + sqrt(NOISE.subs(gamma, gamma_s) * SHRUNK) * z
)  # fmt: skip


@formula(
    "vdm.step",
    title="a step of ancestral sampling between two levels",
    lhs=x_s,
    rhs=STEP,
    citations=("Kingma2021:34", "Kingma2021:appA"),
    reference="refdiff.vdm:step",
    uses=("vdm.marginal", "ddpm.skip_step", "ddpm.skip_posterior_variance"),
    assumptions=(sp.Lt(gamma_s, gamma_t),),
    decoys=(
        Decoy("level-noise", STEP - (sqrt(NOISE.subs(gamma, gamma_s) * SHRUNK)
              - sqrt(NOISE.subs(gamma, gamma_t) * SHRUNK)) * z, "index", "the noise of t for that of s"),
        Decoy("kernel-noise", STEP + (sqrt(TRANSITION) - sqrt(NOISE.subs(gamma, gamma_s) * SHRUNK)) * z,
              "variance", "the variance of the forward kernel for that of its posterior"),
        Decoy("expm1-sign", sqrt((1 + exp(gamma_t)) / (1 + exp(gamma_s)))
              * (x_t + sqrt(NOISE.subs(gamma, gamma_t)) * SHRUNK * eps)
              + sqrt(NOISE.subs(gamma, gamma_s) * SHRUNK) * z, "sign", "expm1 without its minus", "vdm #7"),
        Decoy("expm1-exchanged", STEP.subs(SHRUNK, exp(gamma_t - gamma_s) - 1), "index",
              "expm1 of the rise where that of the fall belongs"),
        Decoy("variance-for-std", STEP + (NOISE.subs(gamma, gamma_s) * SHRUNK
              - sqrt(NOISE.subs(gamma, gamma_s) * SHRUNK)) * z, "sqrt", "the variance multiplies the noise"),
    ),
)  # fmt: skip
def _step(claim: sp.Expr) -> Iterator[Step]:
    """The step of DDPM between any two levels, with the variance of the posterior, in terms of γ."""
    above, below = 1 + W * (1 + RISE), 1 + W
    kept = sqrt(above / below)
    on_eps = -kept * sqrt(W * (1 + RISE) / above) * RISE / (1 + RISE)
    fresh = sqrt(W / below * RISE / (1 + RISE))
    yield Identity("the coefficients", rising(claim), kept * x_t + on_eps * eps + fresh * z)
    yield Identity("of state and predicted noise", FROM_EPS, kept * x_t + on_eps * eps)
    yield Identity("of fresh noise, squared", FRESH, fresh**2)


TERM = (exp(gamma_t - gamma_s) - 1) / 2 * (eps - eps_hat) ** 2


@formula(
    "vdm.term",
    title="one term of the diffusion loss from the error of the noise",
    lhs=sp.Symbol("L_t", nonnegative=True),
    rhs=TERM,
    citations=("Kingma2021:14",),
    reference="refdiff.vdm:term",
    uses=("vdm.step", "ddpm.skip_posterior_mean", "gaussian.kl"),
    assumptions=(sp.Lt(gamma_s, gamma_t),),
    decoys=(
        Decoy("exchanged", (exp(gamma_s - gamma_t) - 1) / 2 * (eps - eps_hat) ** 2, "sign",
              "expm1 of γ_s − γ_t: negative", "vdm #7"),
        Decoy("shrunk", SHRUNK / 2 * (eps - eps_hat) ** 2, "loss-weight",
              "the weight of the data's error in units of the noise, 1 − e^(γ_s − γ_t)"),
        Decoy("linear", (gamma_t - gamma_s) / 2 * (eps - eps_hat) ** 2, "discretization",
              "the weight of continuous time in a step of finite size"),
        Decoy("not-halved", (exp(gamma_t - gamma_s) - 1) * (eps - eps_hat) ** 2, "loss-weight",
              "the half of the divergence is missing"),
        Decoy("simple", (eps - eps_hat) ** 2 / 2, "loss-weight", "the loss without its weight"),
    ),
)  # fmt: skip
def _term(claim: sp.Expr) -> Iterator[Step]:
    """Both kernels have the variance of the posterior, so the divergence is the squared difference of their
    means over twice that variance; the means differ by the noise that they are given."""
    yield Identity("expm1 of the rise", rising(claim), RISE / 2 * (eps - eps_hat) ** 2)
    slope, error = sp.diff(FROM_EPS, eps), eps - eps_hat
    divergence = slope**2 / (2 * FRESH) * error**2
    yield Identity("between equal variances", divergence, RISE / 2 * error**2)


TERM_X_0 = (exp(-gamma_s) - exp(-gamma_t)) / 2 * (x_0 - x_0_hat) ** 2


@formula(
    "vdm.term_x_0",
    title="the same term from the error of the data: half the signal-to-noise ratio that the step passes",
    lhs=sp.Symbol("L_t", nonnegative=True),
    rhs=TERM_X_0,
    citations=("Kingma2021:13",),
    reference="refdiff.vdm:term",
    uses=("vdm.term", "vlb.term_x_0", "ddpm.loss_weight_snr"),
    assumptions=(sp.Lt(gamma_s, gamma_t),),
    decoys=(
        Decoy("falling", -TERM_X_0, "sign", "SNR(t) − SNR(s): negative"),
        Decoy("log-snr", (gamma_t - gamma_s) / 2 * (x_0 - x_0_hat) ** 2, "loss-weight",
              "the difference of the logs"),
        Decoy("not-halved", 2 * TERM_X_0, "loss-weight", "the half of the divergence is missing"),
    ),
)  # fmt: skip
def _term_x_0(claim: sp.Expr) -> Iterator[Step]:
    """The same divergence with the means written through the data; and the noise of the same x_t puts
    the error of the data in that of the noise. For one step it is DDPM's term with the variance β̃."""
    passed, error = (1 / W - 1 / (W * (1 + RISE))) / 2, x_0 - x_0_hat
    yield Identity("the ratio that the step passes", rising(claim), passed * error**2)
    divergence = DATA_GAIN**2 / (2 * FRESH) * error**2
    yield Identity("between equal variances", divergence, passed * error**2)
    ratio = exp(-gamma_t / 2) * (x_0_hat - x_0)
    yield Identity("from the error of the noise", TERM.subs(eps, eps_hat + ratio), claim)


@formula(
    "vdm.prior_term",
    title="the prior term",
    lhs=sp.Symbol("L_prior", nonnegative=True),
    rhs=(x_0**2 - 1) / (2 * (1 + exp(gamma_1))) + log(1 + exp(-gamma_1)) / 2,
    citations=("Kingma2021:11",),
    reference="refdiff.vdm:prior_term",
    uses=("vdm.marginal", "vlb.prior_term"),
    decoys=(
        Decoy("left-out", sp.Integer(0), "likelihood", "a constant for training, not for the bound"),
        Decoy("means-only", x_0**2 / (2 * (1 + exp(gamma_1))), "likelihood", "the share of the means alone"),
        Decoy("sign-of-gamma", (x_0**2 - 1) / (2 * (1 + exp(-gamma_1))) + log(1 + exp(gamma_1)) / 2, "sign",
              "γ read as the log signal-to-noise ratio", "vdm #7"),
    ),
)  # fmt: skip
def _prior_term(claim: sp.Expr) -> Iterator[Step]:
    """The divergence of the noisiest level from N(0, 1), in γ: 1 − ᾱ is sigmoid(γ)."""
    yield Identity("of the level", rising(claim), PRIOR_TERM.subs(abar_t, 1 / (1 + W)))


GAP = (point_1 - point_2) * exp(-gamma_0 / 2)
RECONSTRUCTION = log(1 + exp(-GAP * (GAP + 2 * z) / 2))


@formula(
    "vdm.reconstruction",
    title="the reconstruction term of data that take two values, at the first of them",
    lhs=sp.Symbol("L_rec", positive=True),
    rhs=RECONSTRUCTION,
    citations=("Kingma2021:§3.3", "Kingma2021:appD"),
    reference="refdiff.vdm:reconstruction_term",
    uses=("vdm.marginal",),
    decoys=(
        Decoy("noiseless", log(1 + exp(-(GAP**2) / 2)), "likelihood", "without the noise of the first level"),
        Decoy("noise-scaled-twice", RECONSTRUCTION.subs(z, z * exp(-gamma_0 / 2)), "variance",
              "the noise divided by its own deviation"),
        Decoy("variance-of-gamma", RECONSTRUCTION.subs(gamma_0, 2 * gamma_0), "sqrt",
              "γ read as the log of the deviation"),
        Decoy("not-halved", log(1 + exp(-GAP * (GAP + 2 * z))), "variance", "½ missing in the exponent"),
    ),
)  # fmt: skip
def _reconstruction(claim: sp.Expr) -> Iterator[Step]:
    """Bayes with the two values alike in advance: minus the log of the density of z_0 given the first value,
    over the sum of both. In units of the signal the noise has variance e^γ. More values are more terms of
    the sum."""
    state = sqrt(SIGNAL) * point_1 + sqrt(NOISE) * z
    logs = [normal(state, sqrt(SIGNAL) * point, NOISE).exponent for point in (point_1, point_2)]
    ratio = sp.powdenest(rising_from(logs[1] - logs[0], gamma), force=True)
    claimed = -rising_from(GAP * (GAP + 2 * z) / 2, gamma_0)
    yield Identity("log of the ratio of the densities", ratio, claimed)
    two = exp(-GAP * (GAP + 2 * z) / 2)
    yield Identity("both over the first", exp(claim), 1 + two)
