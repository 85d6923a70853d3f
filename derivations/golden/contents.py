"""What is in each golden file: formulas, grids, flags. A new case is a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain
from typing import Any, TypeAlias

from derivations.golden import (
    consistency,
    elbo,
    embedding,
    energy,
    flow,
    guidance,
    networks,
    ode,
    scores,
    sde,
    solver_exponential,
    solver_sigma,
    vdm,
    vlb,
)
from derivations.golden.case import DIGITS, TABLE_DIGITS, Coverage
from derivations.golden.formulas import Point, Variant, chosen, formula_cases
from derivations.golden.grid import INNER, ONE_STEP, SIGNALLESS, SKIPS, STRIDED, eta_points, points, without
from derivations.golden.inputs import Levels
from derivations.golden.laws import PLANE as MIXTURE_IN_PLANE
from derivations.golden.matrices import PLANE, THIN, matrix_cases
from derivations.golden.mixtures import law_cases
from derivations.golden.samplers import ddim_runs, ddpm_runs, sampled
from derivations.golden.schedules import PARAMETERS, schedules
from derivations.kit.ball import Value

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


def at(id: str, pairs: Sequence[Levels], suffix: str = "", **extra: Value) -> Grid:
    """A formula at pairs of levels, with values of its other symbols."""
    return (lambda: Variant(id)), (lambda: points(pairs, extra, suffix))


def with_variance(id: str, pairs: Sequence[Levels], kind: str) -> Grid:
    """A formula in sigma_t at pairs of levels, with sigma_t² chosen; the other choice is a decoy."""
    given = {"variance_kind": kind}
    return (lambda: chosen(id, kind)), (lambda: points(pairs, {}, f"-{kind}", (), given))


def data(name: str, pairs: Sequence[Levels] = ONE_STEP) -> Grid:
    """A formula about a law of data, at levels where its terms can be told apart."""
    return at(f"data.{name}", pairs, "", **MODES)


def laws(what: str) -> Build:
    """A prediction for the mixture on a line, from its node, and for one in the plane, from its density."""

    def build(coverage: Coverage) -> Iterator[dict[str, Any]]:
        yield from over(data(f"mixture_{what}"))(coverage)
        yield from law_cases(what, MIXTURE_IN_PLANE, ONE_STEP, coverage)

    return build


def each(ids: Sequence[str], where: Sequence[Point]) -> tuple[Grid, ...]:
    """Formulas that need no levels, each at the same points."""
    return tuple(((lambda id=id: Variant(id)), (lambda: where)) for id in ids)


def matrices(ids: Sequence[str]) -> Build:
    """The cases of formulas in matrices."""
    return lambda coverage: matrix_cases(ids, (PLANE, THIN), coverage)


def numbers(**text: str) -> dict[str, Value]:
    """Exact values by name."""
    return {name: Fraction(value) for name, value in text.items()}


def input_names() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The exact scalars, and the exact vectors and matrices, that a case may have as inputs."""
    return SCALARS, tuple({**PLANE.matrices, **scores.PLANE.matrices})


PREDICTIONS = ("eps", "x_0", "v", "score", "mu")
CONVERSIONS = [f"parameterization.{a}_from_{b}" for a in PREDICTIONS for b in PREDICTIONS if a != b]
NEEDS_NO_SIGNAL = ("x_0_from_v", "eps_from_v", "score_from_eps", "score_from_x_0", "mu_from_x_0", "mu_from_v")
REST = {"slope": "-3/2", "shift": "7/8", "x": "-9/8", "y": "1/4"}
ZERO_SNR = ("linear", "scaled_linear")
KINDS = ("beta_tilde", "beta")
SCALARS = (
    *("abar_t", "abar_s", "abar_prev", "eta", "x_0", "x_t", "x_s", "x_prev", "eps", "z", "v", "score", "mu"),
    *("eps_hat", "eps_s", "step_noise_hat", "data_mean", "data_variance", "x_0_variance", "fraction", "beta"),
    *("sigma_t", "mean_0", "mean_1", "variance_0", "variance_1", "slope", "shift", "x", "y"),
    *("weight_1", "weight_2", "mode_1", "mode_2", "mode_variance_1", "mode_variance_2", "point_1", "point_2"),
    *("cov_11", "cov_12", "cov_22", "x_t_1", "x_t_2", "score_slope"),
    *energy.SCALARS,
    *flow.SCALARS,
    *consistency.SCALARS,
    *vdm.SCALARS,
    *guidance.SCALARS,
    *scores.SCALARS,
    *ode.SCALARS,
    *sde.SCALARS,
    *solver_exponential.SCALARS,
    *solver_sigma.SCALARS,
    *vlb.SCALARS,
    *elbo.SCALARS,
    *embedding.SCALARS,
)
APART = without(ONE_STEP, "near-levels")
LEARNED = without(ONE_STEP, "near-levels", "linear-T1000-t1000-s999")
LEARNED_INNER = without(INNER, "near-levels", "linear-T1000-t1000-s999")
GAUSSIAN_ONE = ("push_forward", "product", "condition")
GAUSSIAN_ND = (
    *(f"gaussian.{name}_{moment}_nd" for name in GAUSSIAN_ONE for moment in ("mean", "variance")),
    *(f"gaussian.{name}_nd" for name in ("kl", "entropy", "log_density", "w2")),
)
GAUSSIAN_1D = tuple(id.removesuffix("_nd") for id in GAUSSIAN_ND)
NORMALS = (
    Point(
        "wide",
        ("nonzero-mean",),
        numbers(mean_0="3/4", mean_1="-5/8", variance_0="9/16", variance_1="5/32", **REST),
    ),
    Point(
        "thin",
        ("nonzero-mean", "small-variance"),
        numbers(mean_0="-7/8", mean_1="-3/4", variance_0="1/1024", variance_1="3", **REST),
    ),
)
NOT_CLIPPED = without(ONE_STEP, "cosine-T100-t100-s99")
BLURRED = tuple(pair for pair in ONE_STEP if "cancellation" not in pair.flags)
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
TRAJECTORIES = (
    File(
        "ddim",
        "trajectory",
        "DDIM on mixtures, for each eta; the last noise is not used",
        sampled(ddim_runs),
    ),
    File(
        "ddpm",
        "trajectory",
        "ancestral sampling on mixtures; the last noise is not used",
        sampled(ddpm_runs),
    ),
)

GAUSSIAN = (
    File(
        "gaussian",
        "one_dimension",
        "maps, products, conditioning, divergence and distance of numbers",
        over(*(((lambda id=id: Variant(id)), (lambda: NORMALS)) for id in GAUSSIAN_1D)),
    ),
    File(
        "gaussian",
        "matrices",
        "vectors, with covariances that do not commute",
        matrices(GAUSSIAN_ND),
    ),
)
MODES = numbers(
    weight_1="1/4",
    weight_2="3/4",
    mode_1="-3/2",
    mode_2="1/2",
    mode_variance_1="1/16",
    mode_variance_2="1/4",
    point_1="-3/4",
    point_2="5/8",
    data_mean="3/4",
    data_variance="9/16",
    cov_11="9/16",
    cov_12="-1/4",
    cov_22="5/8",
    x_t_1="-3/4",
    x_t_2="5/8",
    score_slope="-5/8",
)
MOMENTS = ("posterior_mean", "posterior_variance")
DATA = (
    File("data", "mixture_eps", "the perfect noise prediction of mixtures", laws("eps")),
    File("data", "mixture_score", "the score of mixtures", laws("score")),
    File(
        "data",
        "mixture_posterior",
        "log-density, responsibilities and posterior moments of a mixture",
        over(*(data(f"mixture_{name}") for name in ("log_density", "responsibility", *MOMENTS))),
    ),
    File(
        "data",
        "gaussian",
        "Gaussian data",
        over(
            at("data.eps", ONE_STEP),
            at("data.tweedie_second_order", ONE_STEP, score_slope=Fraction(-5, 8)),
            *(data(f"gaussian_{name}") for name in ("log_density", "score", "eps", *MOMENTS)),
            *(data(f"gaussian_{name}_plane", NOT_CLIPPED) for name in ("score", *MOMENTS)),
        ),
    ),
    File(
        "data",
        "points",
        "a point mass and two points",
        over(
            *(data(f"point_mass_{name}") for name in ("log_density", "score", "eps")),
            *(data(f"empirical_{name}", BLURRED) for name in ("score", "eps", *MOMENTS)),
        ),
    ),
)

CHAIN_LAWS = (
    *("energy.ula_mean", "energy.ula_variance", "energy.ula_stationary_variance"),
    "energy.contrastive_gradient_gaussian",
)
ENERGY = (
    File(
        "energy",
        "model",
        "density, score and the loss of an energy model",
        over(
            *each(("energy.log_density", "energy.score"), energy.STEPS),
            *each(("energy.contrastive_loss", "energy.log_likelihood_gradient"), energy.PHASES),
            *each(("energy.persistent_variance",), energy.LEARNED),
        ),
    ),
    File(
        "energy",
        "langevin",
        "steps in both conventions, and the exact law of a chain on a Gaussian",
        over(
            *each(("energy.langevin_step", "energy.langevin_step_half"), energy.STEPS),
            *each(CHAIN_LAWS, energy.CHAINS),
        ),
    ),
    File(
        "energy",
        "mala",
        "the ratio that corrects a chain",
        over(
            *each(("energy.mala_log_acceptance",), energy.STEPS),
            *each(("energy.mala_log_acceptance_gaussian",), energy.NOT_SMALL),
        ),
    ),
    File(
        "energy",
        "noise_contrastive",
        "posterior and loss of noise-contrastive estimation",
        over(*each(("energy.nce_posterior", "energy.nce_loss"), energy.CONTRASTS)),
    ),
)

VLB = (
    File("vlb", "decoder", "log-probabilities of bins, far into the tails", vlb.bins),
    File(
        "vlb",
        "units",
        "bits per dimension, and bins through the density",
        over(*each(("vlb.bits_per_dim",), vlb.UNITS), *each(("vlb.decoder_density",), vlb.SMOOTH)),
    ),
    File(
        "vlb",
        "terms",
        "the terms of the bound, through mean, data and noise, and with a learned variance",
        over(
            at("vlb.prior_term", vlb.LAST),
            *(vlb.with_variance("vlb.term_mu", vlb.STEADY, kind) for kind in KINDS),
            *(vlb.with_variance("vlb.term_x_0", INNER, kind) for kind in KINDS),
            at("vlb.term_learned", vlb.STEADY, "-f1_4", fraction=Fraction(1, 4)),
            at("vlb.term_learned", vlb.STEADY, "-f3_4", fraction=Fraction(3, 4)),
        ),
    ),
    File(
        "vlb",
        "gaussian",
        "the terms of the exact reverse chain on Gaussian data",
        over(
            at("vlb.gaussian_prior_term", vlb.LAST),
            at("vlb.gaussian_step_term", INNER),
            at("vlb.gaussian_decoder_term", vlb.FIRST),
        ),
    ),
    File(
        "vlb",
        "ddim",
        "weights and terms of DDIM's objective",
        over(
            *(vlb.by_eta(id, eta) for id in vlb.DDIM_WEIGHTS for eta in ("1/5", "1/2")),
            at("vlb.ddim_least_weight", SKIPS),
            at("vlb.ddim_fixed_large", INNER),
            at("vlb.ddim_sigma_for_weight", vlb.LIGHT, loss_weight=Fraction(5, 4)),
            vlb.with_variance("vlb.ddim_direct_term", INNER, "beta"),
        ),
    ),
)

SCORE_MATCHING = (
    File(
        "score_matching",
        "losses",
        "explicit, sliced and denoising losses at a point",
        over(
            *each(
                [f"score_matching.{name}_plane" for name in ("explicit", "sliced", "sliced_reduced")],
                scores.ENERGIES,
            ),
            at("score_matching.eps_loss", ONE_STEP, score_hat=Fraction(-7, 8)),
        ),
    ),
    File(
        "score_matching",
        "gaussian",
        "Fisher divergences, losses and their constant on Gaussian data",
        lambda coverage: chain(
            over(*each(("score_matching.fisher_divergence",), NORMALS))(coverage),
            matrix_cases(scores.GAUSSIAN_IDS, (scores.PLANE, scores.NARROW), coverage),
        ),
    ),
    File(
        "score_matching",
        "mixtures",
        "the score of a mixture, and how it changes with the weight",
        over(
            *each(
                [f"score_matching.{name}" for name in ("mixture_score", "weight_sensitivity")],
                scores.MIXTURES,
            )
        ),
    ),
)
SMLD = (
    File(
        "smld",
        "levels",
        "the ladder, its steps in both conventions, its loss and the last denoising",
        over(
            *each(("smld.ladder",), scores.RUNGS),
            *each([f"smld.{name}" for name in scores.OF_A_STEP], scores.STEPS),
            at("smld.ddpm_loss", ONE_STEP[:3]),
        ),
    ),
    File(
        "smld",
        "chain",
        "mean and variance of annealed Langevin sampling on Gaussian data, by level and as a whole",
        over(
            *each(("smld.level_mean", "smld.level_variance"), scores.LEVELS),
            *each(("smld.chain_mean", "smld.chain_variance"), scores.CHAINS),
        ),
    ),
)

GUIDANCE = (
    File("guidance", "steps", "guided scores, noises and steps, for each eta", over(*guidance.STEPS)),
    File(
        "guidance",
        "classifier_free",
        "guidance without a classifier, in both conventions",
        over(*guidance.WITHOUT_CLASSIFIER),
    ),
    File("guidance", "losses", "guidance by losses of the predicted data", over(*guidance.LOSSES)),
    File(
        "guidance",
        "observations",
        "what guides Gaussian data that are observed, or classified, and what it must reach",
        over(*guidance.OBSERVATIONS),
    ),
    File(
        "guidance",
        "kernels",
        "reverse kernels of Gaussian data, with and without an observation",
        over(*guidance.KERNELS),
    ),
)
ELBO = (
    File("elbo", "kernels", "bits that are drawn anew, and their divergences", over(*elbo.KERNELS)),
    File("elbo", "gaussian", "Gaussian data: information, terms, refinement", over(*elbo.GAUSSIANS)),
    File("elbo", "chains", "every term of the bound of finite chains", elbo.chain_cases),
)
VAE = (
    File(
        "vae",
        "linear_gaussian",
        "evidence, best encoder, bound and gap of the linear Gaussian autoencoder",
        over(*elbo.LINEAR_GAUSSIAN),
    ),
)
ODE = (
    File(
        "ode",
        "drift",
        "velocities of the probability-flow ODE, and the trace of a Jacobian",
        over(
            *each([f"ode.{name}_drift" for name in ("vp", "ve", "sub_vp")], ode.TIMES),
            *each(("ode.from_eps",), ode.PATHS),
            *each(("ode.hutchinson",), ode.JACOBIANS),
        ),
    ),
    File(
        "ode",
        "steps",
        "discretisations of the ODE, and how far DDIM is from them",
        over(
            *each(("ode.ve_step", "ode.ve_ddim_gap"), ode.DESCENTS),
            at("ode.vp_step", STRIDED),
            *(at(id, ode.LEVELS, alpha_before=ode.ALPHA_BEFORE) for id in ode.COMPARED),
        ),
    ),
    File(
        "ode",
        "gaussian",
        "flow map and likelihood of Gaussian data, and bits per dimension",
        over(*each(ode.GAUSSIAN, ode.PATHS), *each(("ode.bits_per_dim",), ode.UNITS)),
    ),
)

FLOW = (
    *(
        File(
            "flow",
            name,
            title,
            over(*(g for ids, at in rows for g in each([f"flow.{id}" for id in ids], at))),
        )
        for name, title, rows in flow.CONTENTS
    ),
    File(
        "flow",
        "several_dimensions",
        "what data plus noise leave of the noise, on Gaussian data",
        lambda coverage: matrix_cases(("flow.loss_constant_nd",), (scores.PLANE, scores.NARROW), coverage),
    ),
)

SDE = (
    File(
        "sde",
        "processes",
        "marginals, coefficients and transitions of VE, VP, sub-VP and of any process",
        over(
            *each([f"sde.{name}" for name in ("vp_integral", "vp_factor", "vp_variance")], sde.TIMES),
            *each(("sde.ve_diffusion", "sde.ve_variance"), sde.TIMES),
            *each([f"sde.{name}" for name in sde.OF_A_RATE], sde.RATES),
            *each([f"sde.{name}" for name in sde.OF_A_PATH], sde.PATHS),
            *each(("sde.ve_kernel_variance",), sde.LEVELS),
        ),
    ),
    File(
        "sde",
        "chains",
        "the discrete chains of VE and VP on both grids, and the chain without error",
        over(
            *each(("sde.ve_level", "sde.vp_beta", "sde.vp_beta_wide"), sde.CHAINS),
            *each(("sde.ddpm_chain",), sde.DDPM),
            *each(("sde.rate_from_beta",), sde.STEPS),
        ),
    ),
    File(
        "sde",
        "steps",
        "the reverse drift, steps of samplers and correctors, and the loss",
        over(
            *each([f"sde.{name}" for name in sde.OF_A_STEP], sde.STEPS),
            *each(("sde.reverse_diffusion_ve", "sde.ancestral_ve"), sde.LEVELS),
            *each(("sde.dsm_loss", "sde.dsm_minimum"), sde.PATHS),
            *each(("sde.corrector", "sde.corrected_mean"), sde.CORRECTIONS),
            *each(("sde.corrector_step_size",), sde.STEPS[:1]),
        ),
    ),
)

EXPONENTIAL = (
    *(
        File(
            "solver",
            name,
            title,
            over(
                *(
                    ((lambda id=id: solver_exponential.step(id)), (lambda: solver_exponential.STEPS))
                    for id in ids
                )
            ),
        )
        for name, title, ids in solver_exponential.CONTENTS
    ),
    File(
        "solver",
        "weights",
        "functions of exponential integrators, and weights that solve the order conditions",
        over(
            *each([f"solver.{id}" for id in solver_exponential.FUNCTIONS], solver_exponential.ARGUMENTS),
            *each(("solver.weights_two", "solver.weights_three"), solver_exponential.RULES),
        ),
    ),
)

SOLVER_SIGMA = tuple(
    File(
        "solver",
        name,
        title,
        over(*(g for ids, at in rows for g in each([f"solver.{id}" for id in ids], at))),
    )
    for name, title, rows in solver_sigma.CONTENTS
)

OF_FORMULAS = (
    ("consistency", consistency.CONTENTS),
    ("vdm", vdm.CONTENTS),
    ("embedding", embedding.CONTENTS),
)
CONSISTENCY_VDM_EMBEDDING = tuple(
    File(
        topic,
        name,
        title,
        over(*(g for ids, at in rows for g in each([f"{topic}.{id}" for id in ids], at))),
    )
    for topic, contents in OF_FORMULAS
    for name, title, rows in contents
)

NETWORKS = tuple(
    File("networks", name, title, partial(networks.network_cases, runs), TABLE_DIGITS)
    for name, title, runs in networks.CONTENTS
)

FILES: tuple[File, ...] = (
    *(*SCHEDULE, *PARAMETERIZATION, *DDPM, *DDIM, *TRAJECTORIES, *GAUSSIAN, *DATA),
    *ENERGY,
    *(*SCORE_MATCHING, *SMLD),
    *VLB,
    *GUIDANCE,
    *(*ELBO, *VAE),
    *SDE,
    *ODE,
    *EXPONENTIAL,
    *SOLVER_SIGMA,
    *FLOW,
    *CONSISTENCY_VDM_EMBEDDING,
    File("embedding", "table", "whole embeddings of some levels", embedding.tables, TABLE_DIGITS),
    *NETWORKS,
)
