"""What is in each golden file: formulas, grids, flags. A new case is a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import sympy as sp

from derivations.golden.case import DIGITS, TABLE_DIGITS, Coverage
from derivations.golden.formulas import Point, Put, Variant, formula_cases
from derivations.golden.grid import INNER, ONE_STEP, SIGNALLESS, SKIPS, STRIDED, eta_points, points, without
from derivations.golden.inputs import Levels
from derivations.golden.nodes import node
from derivations.golden.schedules import PARAMETERS, schedules

Build: TypeAlias = Callable[[Coverage], Iterator[dict[str, Any]]]
Grid: TypeAlias = tuple[Callable[[], Variant], Callable[[], Sequence[Point]]]


@dataclass(frozen=True)
class File:
    """One golden file."""

    topic: str
    name: str
    title: str
    build: Build
    digits: int = DIGITS

    @property
    def path(self) -> str:
        return f"{self.topic}/{self.name}.json"


def over(*grids: Grid) -> Build:
    """The cases of several formulas, each over its grid."""

    def build(coverage: Coverage) -> Iterator[dict[str, Any]]:
        for variant, grid in grids:
            yield from formula_cases(variant(), grid(), coverage)

    return build


def at(id: str, pairs: Sequence[Levels], suffix: str = "", **extra: Fraction) -> Grid:
    """A formula at pairs of levels, with values of its other symbols."""
    return (lambda: Variant(id)), (lambda: points(pairs, extra, suffix))


def with_variance(id: str, pairs: Sequence[Levels], kind: str) -> Grid:
    """A formula in sigma_t at pairs of levels, with sigma_t² chosen; the other choice is a decoy."""
    skip = id.startswith("ddpm.skip")
    given = {"variance_kind": kind}
    return (lambda: _chosen(id, kind, skip)), (lambda: points(pairs, {}, f"-{kind}", (), given))


def _chosen(id: str, kind: str, skip: bool) -> Variant:
    other = "beta" if kind == "beta_tilde" else "beta_tilde"
    return Variant(id, _deviation(kind, skip), ((f"variance-{other}", _deviation(other, skip)),))


def _deviation(kind: str, skip: bool) -> Put:
    """The standard deviation of the step, for one step or between two levels."""
    tilde = node("ddpm.skip_posterior_variance" if skip else "ddpm.posterior_variance").closed
    beta = node("schedule.respaced_beta" if skip else "ddpm.fixed_large_variance").closed
    return (("sigma_t", sp.sqrt(tilde if kind == "beta_tilde" else beta)),)


def input_names() -> tuple[str, ...]:
    """The exact scalars that a case may have as inputs."""
    return SCALARS


PREDICTIONS = ("eps", "x_0", "v", "score", "mu")
CONVERSIONS = [f"parameterization.{a}_from_{b}" for a in PREDICTIONS for b in PREDICTIONS if a != b]
NEEDS_NO_SIGNAL = ("x_0_from_v", "eps_from_v", "score_from_eps", "score_from_x_0", "mu_from_x_0", "mu_from_v")
ZERO_SNR = ("linear", "scaled_linear")
KINDS = ("beta_tilde", "beta")
SCALARS = (
    *("abar_t", "abar_s", "abar_prev", "eta", "x_0", "x_t", "x_s", "x_prev", "eps", "z", "v", "score", "mu"),
    *("eps_hat", "eps_s", "step_noise_hat", "data_mean", "data_variance", "x_0_variance", "fraction", "beta"),
    *("sigma_t",),
)
APART = without(ONE_STEP, "near-levels")
LEARNED = without(ONE_STEP, "near-levels", "linear-T1000-t1000-s999")
LEARNED_INNER = without(INNER, "near-levels", "linear-T1000-t1000-s999")
LEVELS = ("snr", "log_snr", "sigma", "beta_from_alpha_bar")

SCHEDULE = (
    *(File("schedule", name, f"the schedule {name}", schedules(name), TABLE_DIGITS) for name in PARAMETERS),
    *(
        File("schedule", f"zero_snr_{name}", f"{name}, zero at T", schedules(name, True), TABLE_DIGITS)
        for name in ZERO_SNR
    ),
    File(
        "schedule",
        "levels",
        "what follows from one level or two",
        over(
            *(at(f"schedule.{name}", ONE_STEP) for name in LEVELS),
            at("schedule.respaced_beta", STRIDED, beta=Fraction(1, 32)),
            at("schedule.one_minus_alpha_bar", INNER, beta=Fraction(1, 32)),
        ),
    ),
)
PARAMETERIZATION = (
    File(
        "parameterization",
        "conversions",
        "each prediction from each other, and its coefficients",
        over(
            *(at(id, ONE_STEP) for id in ("parameterization.v", *CONVERSIONS)),
            *(at(f"parameterization.{name}", SIGNALLESS) for name in ("v", *NEEDS_NO_SIGNAL)),
        ),
    ),
)
DDPM = (
    File(
        "ddpm",
        "forward",
        "the forward process: one step, all steps, between two levels",
        over(
            at("ddpm.one_step", ONE_STEP),
            at("ddpm.marginal", (*ONE_STEP, *SIGNALLESS)),
            at("ddpm.transition", STRIDED),
        ),
    ),
    File(
        "ddpm",
        "posterior",
        "mean and variance of the forward posterior of one step",
        over(
            at("ddpm.posterior_mean", (*ONE_STEP, *SIGNALLESS)),
            at("ddpm.posterior_variance", (*ONE_STEP, *SIGNALLESS)),
        ),
    ),
    File(
        "ddpm",
        "mean",
        "mean of the reverse step from noise, data and score",
        over(
            at("ddpm.mean_from_eps", ONE_STEP),
            at("ddpm.mean_from_x_0", (*ONE_STEP, *SIGNALLESS)),
            at("ddpm.mean_from_score", APART),
            at("ddpm.tweedie", ONE_STEP),
        ),
    ),
    File(
        "ddpm",
        "step",
        "the reverse step and its coefficients, for each variance",
        over(*(with_variance("ddpm.step", APART, kind) for kind in KINDS)),
    ),
    File(
        "ddpm",
        "skip_posterior",
        "posterior and reverse step between any two levels",
        over(
            at("ddpm.skip_posterior_mean", (*STRIDED, *SIGNALLESS)),
            at("ddpm.skip_posterior_variance", (*STRIDED, *SIGNALLESS)),
            *(with_variance("ddpm.skip_step", STRIDED, kind) for kind in KINDS),
        ),
    ),
    File(
        "ddpm",
        "variance",
        "learned and optimal variances",
        over(
            at("ddpm.learned_variance", LEARNED, "-f1_4", fraction=Fraction(1, 4)),
            at("ddpm.learned_variance", LEARNED_INNER, "-f3_4", fraction=Fraction(3, 4)),
            at("ddpm.skip_learned_variance", SKIPS, "-f1_4", fraction=Fraction(1, 4)),
            at("ddpm.optimal_variance", ONE_STEP),
        ),
    ),
    File(
        "ddpm",
        "kl_terms",
        "loss weights and the terms of the bound, at a point and on average over Gaussian data",
        over(
            *(with_variance("ddpm.loss_weight_mu", INNER, kind) for kind in KINDS),
            *(with_variance("ddpm.loss_weight_x_0", INNER, kind) for kind in KINDS),
            *(with_variance("ddpm.loss_weight_eps", INNER, kind) for kind in KINDS),
            *(with_variance("ddpm.kl_term", INNER, kind) for kind in KINDS),
            *(with_variance("ddpm.kl_term_gaussian_data", INNER, kind) for kind in KINDS),
        ),
    ),
    File(
        "ddpm",
        "four_variable",
        "the loss with the noise of the last step alone",
        over(
            at("ddpm.four_variable_loss", ONE_STEP),
            at("ddpm.four_variable_variance", ONE_STEP),
            at("ddpm.four_variable_minimiser", ONE_STEP),
        ),
    ),
)
DDIM = (
    File(
        "ddim",
        "coefficients",
        "step and standard deviation of the family, for each eta",
        over(
            ((lambda: Variant("ddim.step")), (lambda: tuple(eta_points()))),
            ((lambda: Variant("ddim.sigma")), (lambda: tuple(eta_points()))),
        ),
    ),
    File(
        "ddim",
        "inversion",
        "the deterministic step upwards, its error, and the same step in sigma",
        over(
            at("ddim.inversion", STRIDED),
            at("ddim.inversion_error", STRIDED),
            at("ddim.euler_in_sigma", STRIDED),
        ),
    ),
)

FILES: tuple[File, ...] = (*SCHEDULE, *PARAMETERIZATION, *DDPM, *DDIM)
