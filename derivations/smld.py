"""Score matching with Langevin dynamics: the ladder of noise levels, its loss, and annealed sampling.

Axioms: a level adds independent noise of variance σ² to the data, which are not scaled, and E is linear. Step
sizes follow the source, in which a step of size α has drift α/2 and noise √α; the practice of later code,
drift α and noise √(2α), is the same step at twice the size (``smld.step_practice``). The moments of the whole
chain on Gaussian data are in ``derivations.annealed``.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations.annealed import TOTAL
from derivations.ddpm import MARGINAL_T, tweedie_steps
from derivations.hyvarinen import UNIT
from derivations.kit import (
    Decoy,
    Expectation,
    Identity,
    Induction,
    Inequality,
    Step,
    Substitution,
    formula,
    normal,
)
from derivations.symbols import (
    abar_t,
    base_step,
    data_mean,
    data_variance,
    eps,
    eps_hat,
    i,
    rungs,
    score,
    score_hat,
    score_ve,
    sigma,
    sigma_1,
    sigma_L,
    step_size,
    x,
    x_0,
    x_t,
    x_ve,
    z,
)

DESCENDING = sp.Lt(sigma_L, sigma_1)
LADDER = sigma_1 * (sigma_L / sigma_1) ** ((i - 1) / (rungs - 1))
STEP_SIZE = base_step * sigma**2 / sigma_L**2


@formula(
    "smld.ladder",
    title="the geometric ladder of noise levels, from the largest to the smallest",
    lhs=sigma,
    rhs=LADDER,
    citations=("Song2019:§3.1", "S004:§2.2/1"),
    reference="refdiff.smld:geometric_sigmas",
    assumptions=(DESCENDING, sp.Gt(rungs, 1)),
    decoys=(
        Decoy("count-for-intervals", sigma_1 * (sigma_L / sigma_1) ** ((i - 1) / rungs), "discretization",
              "L levels counted as L intervals: the last level is not reached"),
        Decoy("from-zero", sigma_1 * (sigma_L / sigma_1) ** (i / (rungs - 1)), "index",
              "levels counted from 0 in a formula that counts from 1"),
        Decoy("arithmetic", sigma_1 + (sigma_L - sigma_1) * (i - 1) / (rungs - 1), "schedule",
              "equal differences where equal ratios belong"),
        Decoy("ascending", sigma_L * (sigma_1 / sigma_L) ** ((i - 1) / (rungs - 1)), "index",
              "the order of the variance-exploding process, from the smallest to the largest", "S004:8.9"),
    ),
)  # fmt: skip
def _ladder(claim: sp.Expr) -> Iterator[Step]:
    """The ratio γ of neighbours is one number, so γ^(L−1) = σ_1/σ_L; by induction σ_i = σ_1/γ^(i−1). Since
    σ_1 > σ_L, γ exceeds 1. The ladder of the variance-exploding process is this one read backwards."""
    ratio = (sigma_1 / sigma_L) ** (1 / (rungs - 1))
    known = sp.Symbol("sigma_i", positive=True)
    step = (known / ratio, claim.subs(i, i + 1))
    yield Induction("one ratio", (claim.subs(i, 1), sigma_1), step, {known: claim})
    yield Identity("the last level", claim.subs(i, rungs), sigma_L)
    yield Inequality("the levels fall", sigma_1 / sigma_L, ">", sp.Integer(1))
    gaps = sp.Symbol("gaps", integer=True, positive=True)
    backwards = claim.subs(i, rungs + 1 - i).subs(rungs, gaps + 1)
    backwards = backwards.replace(sp.Pow, lambda base, exponent: base ** sp.expand(exponent))
    yield Identity("read backwards", backwards, sigma_L * (sigma_1 / sigma_L) ** ((i - 1) / gaps))


@formula(
    "smld.step_size",
    title="step size at a noise level",
    lhs=step_size,
    rhs=STEP_SIZE,
    citations=("Song2019:alg1", "S004:alg2.1"),
    reference="refdiff.smld:step_sizes",
    decoys=(
        Decoy("not-squared", base_step * sigma / sigma_L, "sqrt",
              "the ratio of the levels, which is that of the noise added, for the step size"),
        Decoy("inverse", base_step * sigma_L**2 / sigma**2, "index", "small steps at large noise"),
        Decoy("largest-level", base_step * sigma**2 / sigma_1**2, "index", "relative to the largest level"),
        Decoy("constant", base_step, "schedule", "one step size at all levels"),
    ),
)  # fmt: skip
def _step_size(claim: sp.Expr) -> Iterator[Step]:
    """Where the data are narrow against the noise, the score is of size 1/σ: drift over noise is then
    ½√α/σ. It is the same at all levels if α is proportional to σ², and α at the last level is ε."""
    yield Identity("ε at the last level", claim.subs(sigma, sigma_L), base_step)
    drift, noise = claim / 2 * (1 / sigma), sp.sqrt(claim)
    yield Identity("drift over noise", (drift / noise) ** 2, base_step / (4 * sigma_L**2))


NOISE_OF_STEP = sp.sqrt(base_step) * sigma / sigma_L
STEP = x_ve + STEP_SIZE / 2 * score_ve + NOISE_OF_STEP * z


def langevin_steps(claim: sp.Expr, noise: sp.Expr) -> Iterator[Step]:
    """The step adds noise of this size, and no density but that of the score is kept to first order."""
    on_score, on_noise = sp.diff(claim, score_ve), sp.diff(claim, z)
    yield Identity("affine in score and noise", claim, x_ve + on_score * score_ve + on_noise * z)
    yield Identity("noise", on_noise, noise)
    q = sp.Function("q", positive=True)(x)
    change = -sp.diff(on_score * sp.diff(q, x) / q * q, x) + on_noise**2 * sp.diff(q, x, 2) / 2
    yield Substitution("density kept to first order (Fokker–Planck)", change, {})


@formula(
    "smld.step",
    title="a Langevin step at a noise level, as the source writes it: drift α/2, noise √α",
    lhs=x_ve,
    rhs=STEP,
    citations=("Song2019:alg1", "S004:alg2.1"),
    reference="refdiff.smld:step",
    uses=("smld.step_size",),
    decoys=(
        Decoy("half-missing", x_ve + STEP_SIZE * score_ve + NOISE_OF_STEP * z, "variance",
              "drift α beside noise √α: half the temperature"),
        Decoy("noise-of-practice", x_ve + STEP_SIZE / 2 * score_ve + sp.sqrt(2) * NOISE_OF_STEP * z,
              "variance", "drift α/2 beside noise √(2α): twice the temperature"),
        Decoy("variance-for-std", x_ve + STEP_SIZE / 2 * score_ve + STEP_SIZE * z, "sqrt",
              "the step size multiplies the noise"),
        Decoy("std-for-variance", x_ve + NOISE_OF_STEP / 2 * score_ve + NOISE_OF_STEP * z, "sqrt",
              "the algorithm's ε_i without its square in the drift"),
        Decoy("uphill", x_ve - STEP_SIZE / 2 * score_ve + NOISE_OF_STEP * z, "sign", "away from the data"),
    ),
)  # fmt: skip
def _step(claim: sp.Expr) -> Iterator[Step]:
    """Noise of variance α; the drift then has to be half of α times the score, since the density q changes
    by −(drift·q)' + ½α·q'' to first order in α."""
    yield Identity("the root of the step size", NOISE_OF_STEP**2, STEP_SIZE)
    yield from langevin_steps(claim, NOISE_OF_STEP)


@formula(
    "smld.step_practice",
    title="a Langevin step at a noise level as later code writes it: drift α, noise √(2α)",
    lhs=x_ve,
    rhs=x_ve + STEP_SIZE * score_ve + sp.sqrt(2) * NOISE_OF_STEP * z,
    citations=("Song2020:alg1", "conventions:NCSN(v2)"),
    reference="refdiff.smld:step",
    uses=("smld.step",),
    decoys=(
        Decoy("two-missing", x_ve + STEP_SIZE * score_ve + NOISE_OF_STEP * z, "variance",
              "drift α beside noise √α: half the temperature"),
    ),
)  # fmt: skip
def _step_practice(claim: sp.Expr) -> Iterator[Step]:
    """The source's step with twice the ε. A convention: neither is wrong, and ε means different things."""
    yield Identity("twice the step of the source", claim, STEP.subs(base_step, 2 * base_step))
    yield from langevin_steps(claim, sp.sqrt(2) * NOISE_OF_STEP)


LOSS = (sigma * score_hat + z) ** 2 / 2


@formula(
    "smld.loss",
    title="the denoising loss of a noise level with the weight λ(σ) = σ²",
    lhs=sp.Symbol("L_i", nonnegative=True),
    rhs=LOSS,
    citations=("Song2019:5", "S004:2.2"),
    reference="refdiff.smld:loss",
    uses=("score_matching.denoising",),
    decoys=(
        Decoy("unweighted", LOSS / sigma**2, "loss-weight", "λ = 1: the smallest level rules"),
        Decoy("weight-of-std", LOSS / sigma, "loss-weight", "λ = σ"),
        Decoy("sign-of-noise", (sigma * score_hat - z) ** 2 / 2, "sign", "the noise with the wrong sign"),
        Decoy("noise-not-scaled", (sigma * score_hat + z / sigma) ** 2 / 2, "variance",
              "unit noise divided by σ²: the target takes the noise for one of size σ"),
        Decoy("weight-inside", (sigma**2 * score_hat + z) ** 2 / 2, "loss-weight", "σ² under the square"),
    ),
)  # fmt: skip
def _loss(claim: sp.Expr) -> Iterator[Step]:
    """The noise of level σ is σz with z standard normal; the denoising loss ½|s + σz/σ²|² times σ²."""
    noise = sigma * z
    yield Identity("σ² times the denoising loss", claim, sigma**2 * (score_hat + noise / sigma**2) ** 2 / 2)


@formula(
    "smld.loss_minimum",
    title="the weighted loss of the perfect score on Gaussian data",
    lhs=sp.Symbol("L_i", nonnegative=True),
    rhs=data_variance / (2 * TOTAL),
    citations=("Song2019:§4.2",),
    reference="refdiff.smld:loss",
    uses=("smld.loss",),
    decoys=(
        Decoy("unweighted", data_variance / (2 * sigma**2 * TOTAL), "loss-weight", "λ = 1"),
        Decoy("of-noise", sigma**2 / (2 * TOTAL), "variance", "noise and data exchanged"),
        Decoy("zero", sp.Integer(0), "likelihood", "a perfect score does not know the noise", "S004:1.13"),
    ),
)  # fmt: skip
def _loss_minimum(claim: sp.Expr) -> Iterator[Step]:
    """The mean over data and noise with s = −(x − m)/(c + σ²). With the weight σ² it stays below ½ at every
    level, which is why the levels are weighed so; without it, it grows as 1/σ²."""
    perfect = -(x_0 + sigma * z - data_mean) / TOTAL
    law = {x_0: (data_mean, data_variance), z: UNIT}
    yield Expectation("mean over data and noise", LOSS.subs(score_hat, perfect), law, claim)
    yield Inequality("below one half", sp.Rational(1, 2), ">", claim)
    unweighted = claim / sigma**2
    yield Identity("unweighted", unweighted, (1 / sigma**2 - 1 / TOTAL) / 2)


@formula(
    "smld.ddpm_loss",
    title="the loss of DDPM is that of this ladder at σ = √((1−ᾱ_t)/ᾱ_t) with the weight σ²",
    lhs=sp.Symbol("L_i", nonnegative=True),
    rhs=(eps - eps_hat) ** 2 / 2,
    citations=("Song2021sde:§3.4", "S004:§4.3/2"),
    reference="refdiff.smld:loss",
    uses=("smld.loss", "score_matching.eps_loss", "score_matching.marginal_score"),
    decoys=(
        Decoy("not-halved", (eps - eps_hat) ** 2, "loss-weight", "½ of the denoising loss forgotten"),
        Decoy("not-rescaled", (eps - eps_hat / sp.sqrt(abar_t)) ** 2 / 2, "data-scaling",
              "the score of x_t taken for that of x_t/√ᾱ_t"),
        Decoy("variance-weighted", (1 - abar_t) * (eps - eps_hat) ** 2 / (2 * abar_t), "loss-weight",
              "the weight applied once too often"),
    ),
)  # fmt: skip
def _ddpm_loss(claim: sp.Expr) -> Iterator[Step]:
    """x_t/√ᾱ_t is data plus noise of variance (1−ᾱ_t)/ᾱ_t. Its conditional score is √ᾱ_t times that of x_t,
    and so is the marginal one, a mean of them. That of x_t is −ε_θ/√(1−ᾱ_t); the weight σ² then leaves half
    the squared error of the noise, the same at every level."""
    level = sp.sqrt((1 - abar_t) / abar_t)
    noised = (sp.sqrt(abar_t) * x_0 + sp.sqrt(1 - abar_t) * eps) / sp.sqrt(abar_t)
    yield Identity("data plus noise", noised, x_0 + level * eps)
    scaled, plain = normal(x_ve, x_0, level**2).exponent, MARGINAL_T.exponent
    pulled = sp.sqrt(abar_t) * sp.diff(plain, x_t).subs(x_t, sp.sqrt(abar_t) * x_ve)
    yield Identity("conditional score of the scaled variable", sp.diff(scaled, x_ve), pulled)
    own = sp.sqrt(abar_t) * (-eps_hat / sp.sqrt(1 - abar_t))
    yield Identity("the loss", claim, LOSS.subs({sigma: level, score_hat: own, z: eps}))


@formula(
    "smld.denoise",
    title="the last denoising: mean of the data given data plus noise, for any law of the data",
    lhs=x_0,
    rhs=x_ve + sigma**2 * score_ve,
    citations=("JolicoeurMartineau2021:§3", "Efron2011"),
    reference="refdiff.smld:denoise",
    uses=("ddpm.tweedie",),
    decoys=(
        Decoy("std", x_ve + sigma * score_ve, "sqrt", "σ where σ² belongs"),
        Decoy("half-step", x_ve + sigma**2 / 2 * score_ve, "variance",
              "the drift of a Langevin step of size σ²"),
        Decoy("sign-of-score", x_ve - sigma**2 * score_ve, "sign", "away from the data"),
    ),
)  # fmt: skip
def _denoise(claim: sp.Expr) -> Iterator[Step]:
    """Tweedie's mean without scaling. No noise is added after it: it is no Langevin step."""
    at_x = claim.subs({x_ve: x_t, score_ve: score})
    yield from tweedie_steps(at_x, normal(x_t, x_0, sigma**2), x_0, sp.Integer(1), sigma**2)
