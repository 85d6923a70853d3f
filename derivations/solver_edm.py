r"""EDM: the network around the denoiser, the levels, and the churn that makes its sampler stochastic.

Axioms: x = x_0 + σε with ε independent of the data, which have mean 0 and variance σ_data². These formulas
belong to the topic ``solver``.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import Min, sqrt

from derivations.hyvarinen import UNIT
from derivations.kit import (
    Decoy,
    Expectation,
    Identity,
    Induction,
    Inequality,
    Series,
    Step,
    formula,
)
from derivations.symbols import (
    churn,
    eps,
    i,
    net,
    rho,
    rungs,
    s_churn,
    s_noise,
    sigma,
    sigma_1,
    sigma_data,
    sigma_L,
    x_0,
    x_0_hat,
    x_ve,
    z,
)

NOISED = x_0 + sigma * eps
DATA = {x_0: (sp.Integer(0), sigma_data**2), eps: UNIT}
"""Data of mean 0 and variance σ_data², and unit noise; only these two moments enter."""
TOTAL = sigma**2 + sigma_data**2
C_IN = 1 / sqrt(TOTAL)
C_SKIP = sigma_data**2 / TOTAL
C_OUT = sigma * sigma_data / sqrt(TOTAL)


@formula(
    "solver.edm_c_in",
    title="scale of the input of the network: unit variance",
    lhs=sp.Symbol("c_in"),
    rhs=C_IN,
    citations=("Karras2022:115", "Karras2022:table1"),
    reference="refdiff.solver:precondition",
    decoys=(
        Decoy("variance", 1 / TOTAL, "sqrt", "divided by the variance"),
        Decoy("unit-data", 1 / sqrt(sigma**2 + 1), "data-scaling",
              "the scale of the variance-preserving σ-samplers, data of variance 1"),
        Decoy("not-scaled", sp.Integer(1), "data-scaling", "the input as it is", "diffusers PR#1474"),
    ),
)  # fmt: skip
def _edm_c_in(claim: sp.Expr) -> Iterator[Step]:
    """The variance of data and noise together, times the square of the scale, is 1."""
    yield Expectation("unit variance", (claim * NOISED) ** 2, DATA, sp.Integer(1))
    yield Inequality("the positive root", claim, ">", sp.Integer(0))


@formula(
    "solver.edm_c_skip",
    title="weight of the noised data in the denoiser: the least amplification of errors",
    lhs=sp.Symbol("c_skip"),
    rhs=C_SKIP,
    citations=("Karras2022:125", "Karras2022:table1"),
    reference="refdiff.solver:precondition",
    decoys=(
        Decoy("noise-share", sigma**2 / TOTAL, "variance", "the share of the noise"),
        Decoy("root", sigma_data / sqrt(TOTAL), "sqrt", "the root of the share"),
        Decoy("unit-data", 1 / (sigma**2 + 1), "data-scaling", "data of variance 1"),
        Decoy("whole", sp.Integer(1), "variance", "the network predicts the noise at every level"),
    ),
)  # fmt: skip
def _edm_c_skip(claim: sp.Expr) -> Iterator[Step]:
    """What the network has to say is y − c·x, times 1/c_out; its errors are multiplied by c_out, whose square
    is the mean square of y − c·x. Against any other weight c the claim is smaller by a square: so it is the
    only minimum. There the rest is uncorrelated with the input."""
    c = sp.Symbol("c", real=True)
    rest = x_0 - c * NOISED
    gain = rest**2 - rest.subs(c, claim) ** 2
    yield Expectation("smaller than with any other weight", gain, DATA, TOTAL * (c - claim) ** 2)
    yield Expectation("uncorrelated with the input", (x_0 - claim * NOISED) * NOISED, DATA, sp.Integer(0))


@formula(
    "solver.edm_c_out",
    title="scale of the output of the network: targets of unit variance",
    lhs=sp.Symbol("c_out"),
    rhs=C_OUT,
    citations=("Karras2022:131", "Karras2022:table1"),
    reference="refdiff.solver:precondition",
    uses=("solver.edm_c_skip",),
    decoys=(
        Decoy("plus", sigma * sigma_data * sqrt(TOTAL), "sqrt", "multiplied by the root"),
        Decoy("sum", sigma * sigma_data / (sigma + sigma_data), "sqrt", "deviations added as if variances"),
        Decoy("noise", sigma, "variance", "that of a network that predicts the noise"),
        Decoy("no-data", sigma / sqrt(TOTAL), "data-scaling", "σ_data missing above"),
    ),
)  # fmt: skip
def _edm_c_out(claim: sp.Expr) -> Iterator[Step]:
    """Its square is the mean square of what the network has to say."""
    yield Expectation("the mean square", (x_0 - C_SKIP * NOISED) ** 2, DATA, claim**2)
    yield Inequality("the positive root", claim, ">", sp.Integer(0))


@formula(
    "solver.edm_c_noise",
    title="the label of a noise level",
    lhs=sp.Symbol("c_noise"),
    rhs=sp.log(sigma) / 4,
    citations=("Karras2022:table1",),
    reference="refdiff.solver:precondition",
    decoys=(
        Decoy("not-quartered", sp.log(sigma), "time-embedding", "log σ"),
        Decoy("half-log", sp.log(sigma) / 2, "time-embedding", "½ log σ, minus the λ of DPM-Solver by two"),
        Decoy("level", sigma / 4, "time-embedding", "the level itself"),
    ),
)  # fmt: skip
def _edm_c_noise(claim: sp.Expr) -> Iterator[Step]:
    """A choice made by experiment, no consequence of the others: equal ratios of levels are equal distances,
    with a factor e⁴ for the distance 1, and level 1 is at 0."""
    yield Identity("equal ratios", claim.subs(sigma, sigma * rho) - claim, sp.log(rho) / 4)
    yield Identity("level 1", claim.subs(sigma, 1), sp.Integer(0))


@formula(
    "solver.edm_loss_weight",
    title="weight of the squared error of the denoiser: every level weighs the same",
    lhs=sp.Symbol("loss_weight", positive=True),
    rhs=TOTAL / (sigma * sigma_data) ** 2,
    citations=("Karras2022:143", "Karras2022:table1"),
    reference="refdiff.solver:edm_loss_weight",
    uses=("solver.edm_c_out",),
    decoys=(
        Decoy("unit-data", (sigma**2 + 1) / sigma**2, "loss-weight", "1 where σ_data² belongs",
              "diffusers PR#8528"),
        Decoy("product-not-squared", TOTAL / (sigma * sigma_data), "sqrt", "σσ_data not squared"),
        Decoy("snr", sigma_data**2 / sigma**2, "loss-weight", "the signal-to-noise ratio"),
    ),
)  # fmt: skip
def _edm_loss_weight(claim: sp.Expr) -> Iterator[Step]:
    """The error of the denoiser is c_out times that of the network, so the weight is 1/c_out²."""
    yield Identity("weight 1 of the network's error", claim * C_OUT**2, sp.Integer(1))
    split = 1 / sigma_data**2 + 1 / sigma**2
    yield Identity("the precisions of data and noise", claim, split)


TARGET = (sigma * x_0 - sigma_data**2 * eps) / (sigma_data * sqrt(TOTAL))


@formula(
    "solver.edm_target",
    title="what the preconditioned network has to say, by data and noise",
    lhs=net,
    rhs=TARGET,
    citations=("Karras2022:8",),
    reference="refdiff.solver:edm_target",
    uses=("solver.edm_c_skip", "solver.edm_c_out"),
    decoys=(
        Decoy("noise", -eps, "parameterization", "the noise at every level"),
        Decoy("data", x_0 / sigma_data, "parameterization", "the data at every level"),
        Decoy("not-squared", (sigma * x_0 - sigma_data * eps) / (sigma_data * sqrt(TOTAL)), "sqrt",
              "σ_data for σ_data²"),
    ),
)  # fmt: skip
def _edm_target(claim: sp.Expr) -> Iterator[Step]:
    """(y − c_skip·x)/c_out. For small noise it is the noise with the sign changed, for large noise the data
    in units of their deviation, and between them, for data of unit variance, minus the angular velocity v."""
    yield Identity("by its definition", claim, (x_0 - C_SKIP * NOISED) / C_OUT)
    yield Expectation("unit variance", claim**2, DATA, sp.Integer(1))
    yield Identity("small noise", claim.subs(sigma, 0), -eps)
    velocity = (eps - sigma * x_0) / sqrt(1 + sigma**2)
    yield Identity("minus v for unit data", claim.subs(sigma_data, 1), -velocity)


@formula(
    "solver.edm_denoiser",
    title="the denoiser made of a preconditioned network",
    lhs=x_0_hat,
    rhs=C_SKIP * x_ve + C_OUT * net,
    citations=("Karras2022:7",),
    reference="refdiff.solver:edm_denoiser",
    uses=("solver.edm_target",),
    decoys=(
        Decoy("weights-swapped", C_OUT * x_ve + C_SKIP * net, "variance", "c_out and c_skip exchanged"),
        Decoy("scaled-skip", C_SKIP * C_IN * x_ve + C_OUT * net, "data-scaling",
              "the scaled input in the skip connection"),
        Decoy("subtracted", C_SKIP * x_ve - C_OUT * net, "sign", "a network that predicts the noise"),
    ),
)  # fmt: skip
def _edm_denoiser(claim: sp.Expr) -> Iterator[Step]:
    """A network that says its target gives the data. One that says 0 gives the posterior mean of Gaussian
    data of mean 0 and variance σ_data²: all that a network adds is what is not Gaussian."""
    yield Identity("a perfect network", claim.subs({x_ve: NOISED, net: TARGET}), x_0)
    posterior = x_ve * sigma_data**2 / TOTAL
    yield Identity("a silent network", claim.subs(net, 0), posterior)


LEVEL = (sigma_1 ** (1 / rho) + (i - 1) / (rungs - 1) * (sigma_L ** (1 / rho) - sigma_1 ** (1 / rho))) ** rho
DESCENDING = sp.Lt(sigma_L, sigma_1)


@formula(
    "solver.karras_levels",
    title="the levels of Karras et al., from the largest to the smallest",
    lhs=sigma,
    rhs=LEVEL,
    citations=("Karras2022:5", "Karras2022:269"),
    reference="refdiff.solver:karras_levels",
    assumptions=(DESCENDING, sp.Gt(rungs, 1), sp.Le(i, rungs)),
    decoys=(
        Decoy("count-for-intervals",
              (sigma_1 ** (1 / rho) + (i - 1) / rungs * (sigma_L ** (1 / rho) - sigma_1 ** (1 / rho))) ** rho,
              "discretization", "N levels counted as N intervals: the smallest level is not reached"),
        Decoy("exponents-swapped",
              (sigma_1**rho + (i - 1) / (rungs - 1) * (sigma_L**rho - sigma_1**rho)) ** (1 / rho),
              "schedule", "ρ and 1/ρ exchanged"),
        Decoy("ascending",
              (sigma_L ** (1 / rho) + (i - 1) / (rungs - 1) * (sigma_1 ** (1 / rho) - sigma_L ** (1 / rho)))
              ** rho, "index", "from the smallest to the largest"),
        Decoy("from-zero",
              (sigma_1 ** (1 / rho) + i / (rungs - 1) * (sigma_L ** (1 / rho) - sigma_1 ** (1 / rho))) ** rho,
              "index", "levels counted from 0 in a formula that counts from 1"),
        Decoy("geometric", sigma_1 * (sigma_L / sigma_1) ** ((i - 1) / (rungs - 1)), "schedule",
              "equal ratios: the limit of large ρ"),
    ),
)  # fmt: skip
def _karras_levels(claim: sp.Expr) -> Iterator[Step]:
    """The ρ-th roots are in arithmetic progression: the first is that of the largest level, every step
    subtracts the same, and the last is that of the smallest. ρ = 1 gives equal differences; with growing ρ
    the logarithms come to equal distances, as the series in 1/ρ says."""
    root = claim.replace(lambda part: part.is_Pow and part.exp == rho, lambda part: part.base)
    yield Identity("a power of ρ", claim, root**rho)
    known = sp.Symbol("root_i", real=True)
    first, last = sigma_1 ** (1 / rho), sigma_L ** (1 / rho)
    step = (known + (last - first) / (rungs - 1), root.subs(i, i + 1))
    yield Induction("one difference of the roots", (root.subs(i, 1), first), step, {known: root})
    yield Identity("the last level", root.subs(i, rungs), last)
    a, b, u = sp.symbols("a b u", real=True)
    fraction = sp.Symbol("f", real=True)
    path = root.subs(i, 1 + fraction * (rungs - 1)).subs(rho, 1 / u)
    path = path.subs({sigma_1: sp.exp(a), sigma_L: sp.exp(b)})
    yield Series("geometric for large ρ", sp.log(path), u, 2, u * ((1 - fraction) * a + fraction * b))


CAP = sqrt(2) - 1
CHURN = Min(s_churn / rungs, CAP)


@formula(
    "solver.churn_bound",
    title="the most churn that adds no more noise than there is",
    lhs=churn,
    rhs=CAP,
    citations=("Karras2022:alg2",),
    reference="refdiff.solver:churn_factor",
    decoys=(
        Decoy("one-half", sp.Rational(1, 2), "variance", "one half"),
        Decoy("doubled-level", sp.Integer(1), "sqrt", "the level doubled, not its square"),
        Decoy("root", sqrt(2), "variance", "the factor of the level, not what it exceeds 1 by"),
    ),
)
def _churn_bound(claim: sp.Expr) -> Iterator[Step]:
    """A level raised by the factor 1 + γ takes new noise of variance σ²((1+γ)² − 1). What is left of σ² then
    is positive below the bound, zero at it and negative above."""
    left = sigma**2 - (sigma**2 * (1 + churn) ** 2 - sigma**2)
    yield Identity("zero at the bound only", left, sigma**2 * (claim - churn) * (claim + 2 + churn))
    yield Inequality("the other factor is positive", claim + 2 + churn, ">", sp.Integer(0))


@formula(
    "solver.churn_factor",
    title="the churn of one step",
    lhs=churn,
    rhs=CHURN,
    citations=("Karras2022:alg2",),
    reference="refdiff.solver:churn_factor",
    uses=("solver.churn_bound",),
    decoys=(
        Decoy("not-bounded", s_churn / rungs, "variance", "without the bound"),
        Decoy("whole-in-each", Min(s_churn, CAP), "discretization", "the churn of all steps in every step"),
        Decoy("larger", sp.Max(s_churn / rungs, CAP), "variance", "the larger of the two"),
    ),
)
def _churn_factor(claim: sp.Expr) -> Iterator[Step]:
    """An equal share of the churn of all N steps, or the bound: the smaller."""
    share = s_churn / rungs
    yield Identity("the smaller of two", claim, (share + CAP - sp.Abs(share - CAP)) / 2)
    yield Identity("one of the two", (claim - share) * (claim - CAP), sp.Integer(0))


CHURNED = x_ve + s_noise * sigma * sqrt(churn * (2 + churn)) * z
EXCESS = sigma * sqrt(1 + s_noise**2 * churn * (2 + churn))


@formula(
    "solver.churn_step",
    title="the state raised to the level (1 + γ)σ",
    lhs=sp.Symbol("x_raised", real=True),
    rhs=CHURNED,
    citations=("Karras2022:alg2",),
    reference="refdiff.solver:churned",
    decoys=(
        Decoy("gamma-for-noise-factor", x_ve + churn * sigma * sqrt(churn * (2 + churn)) * z, "variance",
              "the noise scaled by γ, not by S_noise", "lucidrains commit 8408775"),
        Decoy("deviations-subtracted", x_ve + s_noise * sigma * churn * z, "sqrt",
              "σ̂ − σ for the root of the difference of squares"),
        Decoy("variance-for-std", x_ve + s_noise * sigma**2 * churn * (2 + churn) * z, "sqrt",
              "the variance multiplies the noise"),
        Decoy("whole-level", x_ve + s_noise * (1 + churn) * sigma * z, "variance",
              "noise of the new level on top of the old"),
    ),
)  # fmt: skip
def _churn_step(claim: sp.Expr) -> Iterator[Step]:
    """Independent noises add their variances. With S_noise = 1 the variance is that of the level σ̂ = (1+γ)σ,
    so the law is that of the forward process at σ̂; S_noise multiplies the deviation of what is added."""
    yield Identity("affine in state and noise", claim, x_ve + z * sp.diff(claim, z))
    variance = (claim.subs(x_ve, NOISED) - x_0) ** 2
    added = s_noise**2 * ((1 + churn) ** 2 - 1) * sigma**2
    yield Expectation("variances add", variance, {eps: UNIT, z: UNIT}, sigma**2 + added)
    unit = {eps: UNIT, z: UNIT}
    yield Expectation("the level σ̂", variance.subs(s_noise, 1), unit, ((1 + churn) * sigma) ** 2)
    raised = sp.Symbol("raised", positive=True)
    yield Inequality("the positive root", sp.diff(claim, z).subs(churn, raised), ">", sp.Integer(0))


@formula(
    "solver.churn_excess",
    title="the noise really there after a churn with S_noise",
    lhs=sp.Symbol("sigma_there", positive=True),
    rhs=EXCESS,
    citations=("Karras2022:§4",),
    reference="refdiff.solver:churned_deviation",
    uses=("solver.churn_step",),
    decoys=(
        Decoy("as-told", (1 + churn) * sigma, "variance", "the level that the network is told"),
        Decoy("level-scaled", s_noise * (1 + churn) * sigma, "variance", "S_noise times the whole level"),
    ),
)
def _churn_excess(claim: sp.Expr) -> Iterator[Step]:
    """The network is told σ̂ = (1+γ)σ. With S_noise above 1 there is more noise than that, by as much variance
    as S_noise² − 1 of what was added: that is what makes up for a network that removes too much."""
    unit = {eps: UNIT, z: UNIT}
    yield Expectation("variance", (CHURNED.subs(x_ve, NOISED) - x_0) ** 2, unit, claim**2)
    yield Inequality("the positive root", claim, ">", sp.Integer(0))
    more = (s_noise**2 - 1) * ((1 + churn) ** 2 - 1) * sigma**2
    yield Identity("beyond what the network is told", claim**2 - ((1 + churn) * sigma) ** 2, more)
