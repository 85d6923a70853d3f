"""Training and predictor–corrector sampling with SDEs: the loss, its weights, correctors and their law.

Axioms: x_t = a·x_0 + b·ε with the scale a and the deviation b of any process, E is linear, and the Langevin
step has the law of ``derivations.langevin``. A corrector works at one level, with the score of the state that
it moves. What comes before is in ``sde_operators`` (any density), ``sde_kernel`` (affine drifts),
``sde_named`` (VE, VP, sub-VP), ``sde_chain`` (the chains behind them), ``sde_samplers`` and ``sde_errors``.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

import derivations.sde_runge_kutta  # noqa: F401, part of the topic
from derivations.hyvarinen import FISHER
from derivations.kit import (
    Decoy,
    Expectation,
    Identity,
    Induction,
    Inequality,
    Series,
    Step,
    formula,
    normal,
)
from derivations.langevin import STEP as LANGEVIN
from derivations.langevin import ULA_VARIANCE
from derivations.sde_errors import KEPT as KEPT_OF_STEP
from derivations.sde_kernel import MEAN_RATE, VARIANCE_RATE
from derivations.sde_operators import UNIT, ZERO
from derivations.symbols import (
    count,
    data_mean,
    data_variance,
    diffusion,
    drift_factor,
    eps,
    epsilon,
    eta_step,
    loss_weight,
    marginal_s,
    marginal_t,
    mean_0,
    mean_1,
    mean_t,
    noise_norm,
    on_noise,
    on_score,
    on_state,
    scale_s,
    scale_t,
    score_hat,
    score_norm,
    score_x,
    snr_ratio,
    std_t,
    step_damping,
    temp,
    variance_0,
    variance_1,
    variance_t,
    x,
    x_0,
    x_t,
    z,
)

NOISED = scale_t * x_0 + std_t * eps
KERNEL_SCORE = -(x_t - scale_t * x_0) / std_t**2


@formula(
    "sde.kernel_score",
    title="score of the kernel from data",
    lhs=sp.Symbol("kernel_score"),
    rhs=KERNEL_SCORE,
    citations=("Song2021:7", "S004:8.3"),
    reference="refdiff.sde:dsm_loss",
    uses=("sde.variance_rate",),
    decoys=(
        Decoy("data-not-scaled", -(x_t - x_0) / std_t**2, "data-scaling",
              "the distance from the data: right where they are not scaled"),
        Decoy("not-squared", -(x_t - scale_t * x_0) / std_t, "sqrt",
              "minus the noise, not over the deviation"),
        Decoy("noise", (x_t - scale_t * x_0) / std_t, "parameterization", "the noise itself"),
        Decoy("uphill", (x_t - scale_t * x_0) / std_t**2, "sign", "the sign lost"),
    ),
)  # fmt: skip
def _kernel_score(claim: sp.Expr) -> Iterator[Step]:
    """The slope of the log of a Gaussian, which an affine drift makes the kernel; with the noise put in it is
    minus the noise over its deviation."""
    kernel = normal(x_t, scale_t * x_0, std_t**2)
    yield Identity("slope of the log-density", claim, sp.diff(kernel.exponent, x_t))
    yield Identity("by the noise", claim.subs(x_t, NOISED), -eps / std_t)


LOSS = loss_weight * (score_hat + eps / std_t) ** 2


@formula(
    "sde.dsm_loss",
    title="the loss of denoising score matching at a time, one dimension",
    lhs=sp.Symbol("loss", nonnegative=True),
    rhs=LOSS,
    citations=("Song2021:7", "S004:8.3"),
    reference="refdiff.sde:dsm_loss",
    uses=("sde.kernel_score", "score_matching.denoising"),
    decoys=(
        Decoy("noise-subtracted", loss_weight * (score_hat - eps / std_t) ** 2, "sign",
              "the noise where minus the noise is the target"),
        Decoy("noise-unscaled", loss_weight * (score_hat + eps) ** 2, "parameterization",
              "the noise where the score is predicted", "score_sde_pytorch #26"),
        Decoy("over-the-variance", loss_weight * (score_hat + eps / std_t**2) ** 2, "sqrt",
              "the noise over the variance"),
        Decoy("weight-squared", loss_weight**2 * (score_hat + eps / std_t) ** 2, "loss-weight",
              "the weight inside the square"),
        Decoy("halved", LOSS / 2, "loss-weight", "the ½ of the Fisher divergence: a dialect"),
    ),
)  # fmt: skip
def _dsm_loss(claim: sp.Expr) -> Iterator[Step]:
    """Score predicted minus score of the kernel. With λ = std² it is the squared error of the noise that
    −std·s predicts."""
    target = KERNEL_SCORE.subs(x_t, NOISED)
    yield Identity("weight times squared error", claim, loss_weight * (score_hat - target) ** 2)
    by_noise = (std_t * score_hat + eps) ** 2
    yield Identity("the weight std²", claim.subs(loss_weight, std_t**2), by_noise)


SPREAD = scale_t**2 * data_variance + std_t**2


@formula(
    "sde.dsm_minimum",
    title="what is left of the loss at the exact score of Gaussian data, one dimension",
    lhs=sp.Symbol("loss_min", nonnegative=True),
    rhs=loss_weight * scale_t**2 * data_variance / (std_t**2 * SPREAD),
    citations=("Vincent2011:§4.2", "S004:8.3"),
    reference="refdiff.sde:dsm_loss",
    uses=("sde.dsm_loss", "data.gaussian_score"),
    decoys=(
        Decoy("none", ZERO, "likelihood", "a loss that reaches zero"),
        Decoy("all", loss_weight / std_t**2, "likelihood", "that of a score of zero"),
        Decoy("not-scaled", loss_weight * data_variance / (std_t**2 * (data_variance + std_t**2)),
              "data-scaling", "right where the data are not scaled"),
    ),
)  # fmt: skip
def _dsm_minimum(claim: sp.Expr) -> Iterator[Step]:
    """The variance of the target given the noised data: λ(1/b² − 1/V). It does not depend on the score, so
    the minimum is where the score is exact; and it grows like 1/b² towards clean data unless the weight stops
    it."""
    best = -(NOISED - scale_t * data_mean) / SPREAD
    law = {x_0: (data_mean, data_variance), eps: UNIT}
    yield Expectation("mean over data and noise", LOSS.subs(score_hat, best), law, claim)
    yield Identity("by the variances", claim, loss_weight * (1 / std_t**2 - 1 / SPREAD))


KL = (sp.log(variance_1 / variance_0) + (variance_0 + (mean_0 - mean_1) ** 2) / variance_1 - 1) / 2


@formula(
    "sde.kl_rate_gaussian",
    title="rate of the divergence of two Gaussians under one affine SDE",
    lhs=sp.Symbol("kl_rate", real=True),
    rhs=-(diffusion**2) * FISHER,
    citations=("Song2021likelihood:thm1", "Lyu2009:thm1"),
    reference="refdiff.score_matching:gaussian_fisher_divergence",
    uses=(
        *("sde.kl_rate", "sde.mean_rate", "sde.variance_rate"),
        *("score_matching.fisher_divergence", "gaussian.kl"),
    ),
    decoys=(
        Decoy("not-halved", -2 * diffusion**2 * FISHER, "loss-weight",
              "½ of the Fisher divergence forgotten"),
        Decoy("growing", diffusion**2 * FISHER, "sign", "noise that drives laws apart"),
        Decoy("drift-counts", -(diffusion**2) * FISHER - drift_factor * (mean_0 - mean_1) ** 2 / variance_1,
              "likelihood", "a drift that changes divergences"),
    ),
)  # fmt: skip
def _kl_rate_gaussian(claim: sp.Expr) -> Iterator[Step]:
    """Both laws follow the equations of the moments; f and c drop out. The identity of ``sde.kl_rate`` with
    everything written out."""
    rate = ZERO
    for mean, variance in ((mean_0, variance_0), (mean_1, variance_1)):
        at = {mean_t: mean, variance_t: variance}
        rate += sp.diff(KL, mean) * MEAN_RATE.subs(at) + sp.diff(KL, variance) * VARIANCE_RATE.subs(at)
    yield Identity("the divergence differentiated", rate, claim)


V = marginal_s
CORRECTOR = x + eta_step * score_x + sp.sqrt(2 * eta_step) * z
STABLE = (sp.Lt(eta_step, 2 * V),)
KEPT = 1 - eta_step / V
BIAS = V * eta_step / (2 * V - eta_step)


@formula(
    "sde.corrector",
    title="a corrector step",
    lhs=sp.Symbol("x_next"),
    rhs=CORRECTOR,
    citations=("Song2021:alg4", "Song2021:alg5", "S004:alg8.1", "S004:alg8.2"),
    reference="refdiff.sde:corrector_step",
    uses=("energy.langevin_step", "energy.langevin_step_half"),
    decoys=(
        Decoy("noise-of-half", x + eta_step * score_x + sp.sqrt(eta_step) * z, "sqrt",
              "the noise of the ε²/2 convention: half the temperature"),
        Decoy("drift-of-half", x + eta_step / 2 * score_x + sp.sqrt(2 * eta_step) * z, "sqrt",
              "the drift of the ε²/2 convention: twice the temperature"),
        Decoy("noise-step", x + eta_step * score_x + 2 * eta_step * z, "sqrt", "the root missing"),
        Decoy("downhill", x - eta_step * score_x + sp.sqrt(2 * eta_step) * z, "sign", "away from the data"),
    ),
)  # fmt: skip
def _corrector(claim: sp.Expr) -> Iterator[Step]:
    """A Langevin step at temperature 1. The source's ε_i is the deviation of its noise, so its square is
    twice the step here."""
    yield Identity("Langevin", claim, LANGEVIN.subs(temp, 1))
    half = x + epsilon**2 / 2 * score_x + epsilon * z
    yield Identity("the source's convention", claim.subs(eta_step, epsilon**2 / 2), half)


@formula(
    "sde.corrector_step_size",
    title="step size of a corrector by its signal-to-noise ratio",
    lhs=eta_step,
    rhs=2 * step_damping * (snr_ratio * noise_norm / score_norm) ** 2,
    citations=("Song2021:alg4", "Song2021:alg5"),
    reference="refdiff.sde:corrector_step_size",
    uses=("sde.corrector",),
    decoys=(
        Decoy("not-squared", 2 * step_damping * snr_ratio * noise_norm / score_norm, "sqrt",
              "the square is missing"),
        Decoy("not-doubled", step_damping * (snr_ratio * noise_norm / score_norm) ** 2, "sqrt",
              "2 is missing: a ratio too small by its root"),
        Decoy("inverted", 2 * step_damping * (snr_ratio * score_norm / noise_norm) ** 2, "sign",
              "the norms exchanged"),
        Decoy("ratio-not-squared", 2 * step_damping * snr_ratio * (noise_norm / score_norm) ** 2, "sqrt",
              "only the norms squared"),
        Decoy("undamped", 2 * (snr_ratio * noise_norm / score_norm) ** 2, "schedule",
              "the rule of VE for VP: α forgotten"),
    ),
)  # fmt: skip
def _corrector_step_size(claim: sp.Expr) -> Iterator[Step]:
    """The step moves by ε·s and adds √(2ε)·z; the ratio of their norms is r, times the root of α = 1 − β_i
    where the process is VP. One ε does it, as the squared ratio is linear in ε. Where the score is −z/σ, ε is
    2αr²σ²: for VE the ladder of annealed Langevin sampling."""
    squared = claim * score_norm**2 / (2 * noise_norm**2)
    yield Identity("signal over noise, squared", squared, step_damping * snr_ratio**2)
    yield Inequality("a step", claim, ">", ZERO)


PREDICTED_MEAN = (on_state - on_score / marginal_t) * mean_t + on_score / marginal_t * sp.Symbol(
    "m_t", real=True
)
PREDICTED_VARIANCE = KEPT_OF_STEP**2 * variance_t + on_noise**2
FIXED = 2 * V**2 / (2 * V - eta_step)
CORRECTED = FIXED + KEPT ** (2 * count) * (PREDICTED_VARIANCE - FIXED)
FROZEN = (on_state - (on_score + count * eta_step) / marginal_t) ** 2 * variance_t
FROZEN_VARIANCE = FROZEN + on_noise**2 + 2 * count * eta_step


@formula(
    "sde.corrected_mean",
    title="mean after M corrector steps on Gaussian data",
    lhs=sp.Symbol("mean_s"),
    rhs=scale_s * data_mean + KEPT**count * (mean_t - scale_s * data_mean),
    citations=("Song2021:alg1", "S004:alg8.1", "S004:alg8.2"),
    reference="refdiff.sde:gaussian_law",
    uses=("sde.corrector", "sde.affine_mean", "energy.ula_mean"),
    decoys=(
        Decoy("level-not-scaled", data_mean + KEPT**count * (mean_t - data_mean), "data-scaling",
              "towards the mean of the data, not of the noised data"),
        Decoy("one-step", scale_s * data_mean + KEPT * (mean_t - scale_s * data_mean), "index",
              "as if one step were all"),
        Decoy("frozen", mean_t - count * eta_step / V * (mean_t - scale_s * data_mean), "index",
              "the score asked once, where the corrector starts"),
    ),
)  # fmt: skip
def _corrected_mean(claim: sp.Expr) -> Iterator[Step]:
    """Induction over the corrector steps from the predictor's mean: each keeps 1 − ε/V of the distance to the
    mean of the level."""
    known = sp.Symbol("m", real=True)
    centre = scale_s * data_mean
    moved = CORRECTOR.subs({score_x: -(x - centre) / V, z: 0}).subs(x, known)
    step = (moved, claim.subs(count, count + 1))
    yield Induction("one step more", (claim.subs(count, 0), mean_t), step, {known: claim})


@formula(
    "sde.corrected_variance",
    title="variance after an affine predictor step from t and M corrector steps at s on Gaussian data",
    lhs=sp.Symbol("variance_s"),
    rhs=CORRECTED,
    citations=("Song2021:alg1", "S004:alg8.1", "S004:alg8.2"),
    reference="refdiff.sde:gaussian_law",
    uses=("sde.corrector", "sde.affine_variance", "energy.ula_variance"),
    assumptions=STABLE,
    decoys=(
        Decoy("frozen-score", FROZEN_VARIANCE, "index",
              "the score at x_{i+1} and its level in every corrector step, as both algorithms print it",
              "S004:alg8.1"),
        Decoy("not-squared", FIXED + KEPT**count * (PREDICTED_VARIANCE - FIXED), "sqrt",
              "the distance shrunk like a mean"),
        Decoy("no-bias", V + KEPT ** (2 * count) * (PREDICTED_VARIANCE - V), "discretization",
              "towards the variance of the level, which no step size above 0 keeps"),
        Decoy("predictor-only", PREDICTED_VARIANCE, "index", "the corrector forgotten"),
    ),
    mutate=False,  # the mistakes of its two parts are those of the formulas that it uses
)  # fmt: skip
def _corrected_variance(claim: sp.Expr) -> Iterator[Step]:
    """Induction over the corrector steps: each takes a variance u to (1 − ε/V)²u + 2ε, with the score of its
    own state and level. Without corrector steps it is the predictor's. The printed algorithms ask for the
    score at x_{i+1} and i+1 throughout: the drift then never learns where the state is, and the variance
    grows like M²."""
    moved = CORRECTOR.subs(score_x, -x / V)
    known = sp.Symbol("u", positive=True)
    onward = sp.diff(moved, x) ** 2 * known + sp.diff(moved, z) ** 2
    step = (onward, claim.subs(count, count + 1))
    yield Induction("one step more", (claim.subs(count, 0), PREDICTED_VARIANCE), step, {known: claim})


@formula(
    "sde.frozen_corrector",
    title="variance after M corrector steps as printed, all with the score before the predictor",
    lhs=sp.Symbol("variance_s"),
    rhs=FROZEN_VARIANCE,
    citations=("S004:alg8.1", "S004:alg8.2"),
    uses=("sde.corrector", "sde.affine_variance"),
    decoys=(
        Decoy("corrected", CORRECTED, "index", "what a corrector with the score of its own state does"),
        Decoy("noise-once", FROZEN + on_noise**2 + 2 * eta_step, "variance", "one noise for all the steps"),
        Decoy("no-drift", PREDICTED_VARIANCE + 2 * count * eta_step, "sign", "the frozen drift forgotten"),
    ),
)  # fmt: skip
def _frozen_corrector(claim: sp.Expr) -> Iterator[Step]:
    """The literal reading of the algorithms. The state at t enters through the predictor and through M times
    the same drift; the noises add up. The second difference over M is the positive number 2ε²·u/V²: no limit,
    whatever the step size, where a corrector should forget the predictor."""
    start = sp.Symbol("x_start", real=True)
    drift = -start / marginal_t
    state = on_state * start + on_score * drift + count * eta_step * drift
    noise = on_noise**2 + count * 2 * eta_step
    spread = state**2 + noise
    yield Expectation("predictor and frozen drifts", spread, {start: (ZERO, variance_t)}, claim)
    bend = claim.subs(count, count + 2) - 2 * claim.subs(count, count + 1) + claim
    grows = 2 * eta_step**2 * variance_t / marginal_t**2
    yield Identity("second difference", bend, grows)
    yield Inequality("grows without bound", grows, ">", ZERO)


EXCESS = BIAS * (1 - KEPT ** (2 * count))


@formula(
    "sde.corrector_excess",
    title="variance that M corrector steps add to the exact law of their level",
    lhs=sp.Symbol("excess", nonnegative=True),
    rhs=EXCESS,
    citations=("Song2021:§4.2", "S004:§8.5"),
    reference="refdiff.sde:gaussian_law",
    uses=("sde.corrected_variance", "energy.ula_variance"),
    assumptions=STABLE,
    decoys=(
        Decoy("none", ZERO, "discretization", "a corrector that leaves its law alone at any step size"),
        Decoy("limit", BIAS, "index", "that of infinitely many steps"),
        Decoy("per-step", count * BIAS, "discretization", "the same again in every step"),
    ),
)  # fmt: skip
def _corrector_excess(claim: sp.Expr) -> Iterator[Step]:
    """From the law of the level itself. By induction, and as the Langevin chain says. With q for the even
    power of 1 − ε/V, which lies between 0 and 1, the excess is at most εV/(2V − ε) for every M, and with ε it
    goes to 0 for every M: of second order for few steps, of first order however many. So the law of a
    predictor–corrector sampler does not depend on the number of corrector steps in the limit of small
    ones."""
    known = sp.Symbol("u", real=True)
    onward = KEPT**2 * (V + known) + 2 * eta_step - V
    step = (onward, claim.subs(count, count + 1))
    yield Induction("one step more", (claim.subs(count, 0), ZERO), step, {known: claim})
    chain = ULA_VARIANCE.subs({variance_0: V, variance_1: V, temp: 1})
    yield Identity("the Langevin chain", chain - V, claim)
    kept = sp.Symbol("abar_t", positive=True)
    yield Inequality("never more than its bound", BIAS, ">", BIAS * (1 - kept))
    yield Inequality("which is positive", BIAS, ">", ZERO)
    yield Series("the bound for small steps", BIAS, eta_step, 2, eta_step / 2)
    yield Series("few small steps", claim, eta_step, 3, count * eta_step**2 / V)


@formula(
    "sde.corrector_forgets",
    title="what M corrector steps leave of an error of the predictor's variance",
    lhs=sp.Symbol("error"),
    rhs=KEPT ** (2 * count) * (variance_t - V),
    citations=("Song2021:§4.2", "S004:§8.5"),
    reference="refdiff.sde:gaussian_law",
    uses=("sde.corrected_variance", "sde.corrector_excess"),
    assumptions=STABLE,
    decoys=(
        Decoy("once", KEPT**count * (variance_t - V), "sqrt", "shrunk like a mean"),
        Decoy("all", variance_t - V, "index", "nothing corrected"),
        Decoy("none", ZERO, "discretization", "everything corrected"),
    ),
)  # fmt: skip
def _corrector_forgets(claim: sp.Expr) -> Iterator[Step]:
    """The law after M steps minus what the corrector does to the exact law: the share (1 − ε/V)^(2M) of the
    error, which is below 1 for every step up to 2V. So with many steps the predictor does not matter, and
    what is left is the bias of the corrector."""
    chain = ULA_VARIANCE.subs({variance_0: variance_t, variance_1: V, temp: 1})
    yield Identity("law minus excess", chain - V - EXCESS, claim)
    yield Inequality("a share is forgotten", 1 - KEPT**2, ">", ZERO)
