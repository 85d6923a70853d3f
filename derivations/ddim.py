"""Denoising diffusion implicit models: one family of chains with the marginals of DDPM.

Axioms: the marginal of the highest level, q(x_T | x_0) = N(√ᾱ_T·x_0, 1−ᾱ_T), and the reverse kernel of the
family, whose mean points from the data towards x_t. Level s is any level below t, so a sub-sequence needs no
proof of its own: its steps are the steps between its neighbours. σ_t² ≤ 1 − ᾱ_s is assumed where σ_t is free.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations.ddpm import (
    BETA_TILDE_S,
    MARGINAL_S,
    MARGINAL_T,
    RATIO,
    SKIP_FROM_EPS,
    SKIP_KERNEL,
    SKIP_MEAN,
    X_0_FROM_EPS,
    two_point,
)
from derivations.kit import (
    Decoy,
    DensityEqual,
    Expectation,
    Identity,
    Induction,
    Inequality,
    Integral,
    LogDensity,
    Series,
    Step,
    Substitution,
    formula,
    normal,
)
from derivations.kit.zero import close
from derivations.symbols import (
    abar_prev,
    abar_s,
    abar_t,
    alpha_t,
    data_variance,
    eps,
    eps_s,
    eta,
    h,
    score,
    sigma,
    sigma_t,
    x_0,
    x_s,
    x_t,
    z,
)

BUG_B = "jsboige/CoursIA PR#16158 (bug B, found in review after bug A was fixed)"
UNIT = (sp.Integer(0), sp.Integer(1))
SIGMA_FITS = sp.Lt(sigma_t**2, 1 - abar_s)
NOISED = sp.sqrt(abar_t) * x_0 + sp.sqrt(1 - abar_t) * eps
"""x_t, whose noise a perfect network would know."""

SIGMA = eta * sp.sqrt((1 - abar_s) / (1 - abar_t)) * sp.sqrt(1 - RATIO)
DIRECTION = sp.sqrt(1 - abar_s - sigma_t**2)
GENERAL_STEP = sp.sqrt(abar_s) * X_0_FROM_EPS + DIRECTION * eps + sigma_t * z
STEP = GENERAL_STEP.subs(sigma_t, SIGMA)
KERNEL_MEAN = sp.sqrt(abar_s) * x_0 + DIRECTION * (x_t - sp.sqrt(abar_t) * x_0) / sp.sqrt(1 - abar_t)


@formula(
    "ddim.sigma",
    title="standard deviation of a step of the family, by η",
    lhs=sigma_t,
    rhs=SIGMA,
    citations=("Song2021ddim:16", "S004:§5.1/11", "S004:5.13"),
    reference="refdiff.ddim:sigma",
    uses=("ddpm.skip_posterior_variance",),
    decoys=(
        Decoy(
            "level-noise", eta * sp.sqrt(1 - abar_t), "variance",
            "η√(1−ᾱ_t), more than the level below holds", "jsboige/CoursIA PR#16158 (bug A)",
        ),
        Decoy("variance", SIGMA**2, "variance", "σ² where σ belongs"),
        Decoy(
            "forward", eta * sp.sqrt(1 - RATIO), "variance",
            "the forward standard deviation between the levels",
        ),
        Decoy(
            "levels-swapped", eta * sp.sqrt((1 - abar_t) / (1 - abar_s)) * sp.sqrt(1 - RATIO), "index",
            "the levels of the first root exchanged",
        ),
    ),
)  # fmt: skip
def _sigma(claim: sp.Expr) -> Iterator[Step]:
    """A definition: the share η of the standard deviation of the forward posterior between the
    levels."""
    yield Identity("linear in η", claim, eta * claim.subs(eta, 1))
    yield Identity("η = 1 is the forward posterior", claim.subs(eta, 1) ** 2, BETA_TILDE_S)
    yield Inequality("the positive root", claim.subs(eta, 1), ">", sp.Integer(0))


@formula(
    "ddim.sigma_bound",
    title="σ(η)² ≤ 1 − ᾱ_s for 0 ≤ η ≤ 1: what is left for the direction",
    lhs=1 - abar_s - sigma_t**2,
    rhs=(1 - abar_s) * (1 - eta**2 + eta**2 * abar_t * (1 - abar_s) / (abar_s * (1 - abar_t))),
    citations=("Song2021ddim:16",),
    reference="refdiff.ddim:step_with_sigma",
    uses=("ddim.sigma",),
)
def _sigma_bound(claim: sp.Expr) -> Iterator[Step]:
    """The certificate is the sum of two terms, neither of them negative and never both zero: a radicand
    that needs no clamp."""
    yield Identity("certificate", 1 - abar_s - SIGMA**2, claim)
    yield Inequality("never negative", claim, ">=", sp.Integer(0))
    yield Inequality("σ² ≤ 1 − ᾱ_s", 1 - abar_s, ">=", SIGMA**2, claim)


@formula(
    "ddim.eta_bound",
    title="the largest η² that leaves a real direction",
    lhs=eta**2,
    rhs=(1 - abar_t) / (1 - RATIO),
    citations=("Song2021ddim:16",),
    reference="refdiff.ddim:step_coefficients",
    uses=("ddim.sigma_bound",),
)
def _eta_bound(claim: sp.Expr) -> Iterator[Step]:
    """1 − ᾱ_s − σ² is linear in η² and vanishes there; the bound exceeds 1."""
    slope = (1 - abar_s) * (1 - RATIO) / (1 - abar_t)
    yield Identity("linear in η²", 1 - abar_s - SIGMA**2, slope * (claim - eta**2))
    yield Inequality("falling", slope, ">", sp.Integer(0))
    yield Inequality("η may exceed 1", claim, ">", sp.Integer(1))


@formula(
    "ddim.kernel_mean",
    title="mean of the reverse kernel of the family",
    lhs=x_s,
    rhs=KERNEL_MEAN,
    citations=("Song2021ddim:7", "S004:5.3", "S004:5.11"),
    reference="refdiff.ddim:posterior",
    uses=("ddpm.marginal",),
    assumptions=(SIGMA_FITS,),
    decoys=(
        Decoy(
            "sigma-missing", KERNEL_MEAN.subs(sigma_t, 0), "variance",
            "the direction of the deterministic step, whatever σ_t",
        ),
        Decoy(
            "sigma-not-squared", KERNEL_MEAN.subs(sigma_t, sp.sqrt(sigma_t)), "variance",
            "1 − ᾱ_s − σ_t under the root",
        ),
        Decoy(
            "variance-below", sp.sqrt(abar_s) * x_0
            + DIRECTION * (x_t - sp.sqrt(abar_t) * x_0) / (1 - abar_t), "sqrt",
            "1 − ᾱ_t where its root belongs",
        ),
    ),
)  # fmt: skip
def _kernel_mean(claim: sp.Expr) -> Iterator[Step]:
    """The most general affine mean a·x_0 + b·x_t that keeps the marginals: b² is what σ_t² leaves of
    the variance, a follows from the mean, and b has the sign that it has for σ_t = 0 when noise keeps
    its direction."""
    a, b = sp.diff(claim, x_0), sp.diff(claim, x_t)
    yield Identity("affine without constant", claim, a * x_0 + b * x_t)
    yield Identity("mean", a + b * sp.sqrt(abar_t), sp.sqrt(abar_s))
    yield Identity("variance", b**2 * (1 - abar_t) + sigma_t**2, 1 - abar_s)
    yield Identity("branch of the root", b.subs(sigma_t, 0), sp.sqrt(1 - abar_s) / sp.sqrt(1 - abar_t))


def family_steps(claim: sp.Expr, std: sp.Expr) -> Iterator[Step]:
    """A step of the family: x_0 predicted, the direction, fresh noise; marginals kept, signs by their
    branches."""
    at_x_t = claim.subs(x_t, NOISED)
    direction = sp.diff(at_x_t, eps)
    yield Identity("fresh noise", sp.diff(claim, z), std)
    yield Identity("no other term", at_x_t, sp.sqrt(abar_s) * x_0 + direction * eps + std * z)
    yield Identity("variance kept", direction**2 + std**2, 1 - abar_s)
    yield Identity("x_t enters through x_0", sp.diff(claim, x_t), sp.sqrt(abar_s / abar_t))


@formula(
    "ddim.general_step",
    title="a step of the family with any σ_t",
    lhs=x_s,
    rhs=GENERAL_STEP,
    citations=("Song2021ddim:12", "S001:/22", "S004:5.6", "S004:5.13", "S004:alg5.1"),
    reference="refdiff.ddim:step_with_sigma",
    uses=("ddim.kernel_mean",),
    assumptions=(SIGMA_FITS,),
    decoys=(
        Decoy(
            "sigma-for-direction", sp.sqrt(abar_s) * X_0_FROM_EPS + sigma_t * eps + sigma_t * z, "variance",
            "the coefficient of the fresh noise in the direction", BUG_B,
        ),
        Decoy(
            "root-missing-on-signal", abar_s * X_0_FROM_EPS + DIRECTION * eps + sigma_t * z, "sqrt",
            "ᾱ_s where √ᾱ_s belongs", "mathpluscode/ImgX-DiffSeg commit 5a54cff",
        ),
        Decoy(
            "variance-for-std", sp.sqrt(abar_s) * X_0_FROM_EPS + DIRECTION * eps + sigma_t**2 * z,
            "variance", "σ_t² multiplies the noise",
        ),
        Decoy(
            "bars-missing", sp.sqrt(abar_s) * (x_t - sp.sqrt(1 - alpha_t) * eps) / sp.sqrt(alpha_t)
            + DIRECTION * eps + sigma_t * z, "index",
            "x_0 predicted with the α_t of one step", "S001:/9, S001:/30",
        ),
        Decoy(
            "su-letters", (x_t - (sp.sqrt(1 - abar_t) - RATIO * DIRECTION) * eps) / RATIO + sigma_t * z,
            "sqrt", "Su's α_t, which is the root of Ho's, read as Ho's", "S003:/12",
        ),
        Decoy(
            "fresh-direction", sp.sqrt(abar_s) * X_0_FROM_EPS + sp.sqrt(1 - abar_s) * z, "variance",
            "all the noise is drawn anew: the right marginal, another chain", "S001:/8",
        ),
    ),
)  # fmt: skip
def _general_step(claim: sp.Expr) -> Iterator[Step]:
    """The kernel with x_0 replaced by its prediction from ε."""
    yield Identity("the kernel at the prediction", claim.subs(z, 0), KERNEL_MEAN.subs(x_0, X_0_FROM_EPS))
    yield from family_steps(claim, sigma_t)


@formula(
    "ddim.step",
    title="a step of the family, by η",
    lhs=x_s,
    rhs=STEP,
    citations=("Song2021ddim:12", "Song2021ddim:16", "S001:/9", "S004:5.13"),
    reference="refdiff.ddim:step",
    uses=("ddim.general_step", "ddim.sigma", "ddim.sigma_bound"),
    decoys=(
        Decoy(
            "level-noise", GENERAL_STEP.subs(sigma_t, eta * sp.sqrt(1 - abar_t)), "variance",
            "σ = η√(1−ᾱ_t)", "jsboige/CoursIA PR#16158 (bug A)",
        ),
        Decoy(
            "x_0-as-eps", sp.sqrt(abar_s) * x_0 + sp.sqrt(1 - abar_s - SIGMA**2) * x_0 + SIGMA * z,
            "parameterization", "the predicted data in the direction", "diffusers PR#2094",
        ),
        Decoy(
            "one-step-levels", close(STEP).subs(abar_s, abar_prev), "index",
            "the level t−1 where the sub-sequence's level belongs", "diffusers issues #11347",
        ),
        Decoy(
            "x_0-without-scale", sp.sqrt(abar_s) * (x_t - sp.sqrt(1 - abar_t) * eps)
            + sp.sqrt(1 - abar_s - SIGMA**2) * eps + SIGMA * z, "parameterization",
            "the predicted data not divided by √ᾱ_t", "S001:/28",
        ),
    ),
)  # fmt: skip
def _step(claim: sp.Expr) -> Iterator[Step]:
    """The step with σ(η). The branch of the root is pinned at η = 0; its radicand is never zero (the
    bound), so it keeps its sign."""
    yield from family_steps(claim, SIGMA)
    at_zero = sp.diff(claim.subs(x_t, NOISED), eps).subs(eta, 0)
    yield Identity("branch of the root", at_zero, sp.sqrt(1 - abar_s))


@formula(
    "ddim.marginals",
    title="every member of the family has the marginals of DDPM",
    lhs=x_s,
    rhs=sp.sqrt(abar_s) * x_0 + sp.sqrt(1 - abar_s) * eps,
    citations=("Song2021ddim:lemma1", "S004:5.2", "S004:5.11"),
    reference="refdiff.ddim:posterior",
    uses=("ddim.kernel_mean", "ddpm.marginal"),
    assumptions=(SIGMA_FITS,),
)
def _marginals(claim: sp.Expr) -> Iterator[Step]:
    """Downward induction over the levels of any sub-sequence. The highest level has the marginal by
    definition; a step multiplies what x_t knows of its noise and adds σ_t²; integrating x_t out keeps
    the law normal."""
    mean, std = claim.subs(eps, 0), sp.diff(claim, eps)
    mean_t, std_t = (close(part).subs(abar_s, abar_t) for part in (mean, std))
    m, v = sp.Symbol("m", real=True), sp.Symbol("v", nonnegative=True)
    slope = sp.diff(KERNEL_MEAN, x_t)
    yield Induction("mean", (mean_t, sp.sqrt(abar_t) * x_0), (KERNEL_MEAN.subs(x_t, m), mean), {m: mean_t})
    yield Induction("variance", (std_t**2, 1 - abar_t), (slope**2 * v + sigma_t**2, std**2), {v: std_t**2})
    yield Inequality("the root is the positive one", std, ">", sp.Integer(0))
    joint = normal(x_s, KERNEL_MEAN, sigma_t**2) * normal(x_t, mean_t, std_t**2)
    yield Integral("x_t integrated out", joint, x_t, normal(x_s, mean, std**2))


@formula(
    "ddim.root_sign",
    title="the other sign of the root: the same marginals, another chain",
    lhs=sp.Symbol("b"),
    rhs=-DIRECTION,
    citations=("Song2021ddim:7",),
    uses=("ddim.kernel_mean",),
    assumptions=(SIGMA_FITS,),
)
def _root_sign(claim: sp.Expr) -> Iterator[Step]:
    """Marginals do not determine the kernel: with the direction −√(1−ᾱ_s−σ_t²) mean and variance are
    kept too, while the covariance of x_s and x_t given x_0 changes its sign. DDIM takes the positive
    root, under which noise keeps its direction."""
    x = sp.sqrt(abar_s) * x_0 + claim * eps + sigma_t * z
    yield Identity("the other branch", claim.subs(sigma_t, 0), -sp.sqrt(1 - abar_s))
    yield Identity("variance kept", claim**2 + sigma_t**2, 1 - abar_s)
    noises = {eps: UNIT, z: UNIT}
    yield Expectation("mean kept", x, noises, sp.sqrt(abar_s) * x_0)
    covariance = (x - sp.sqrt(abar_s) * x_0) * (NOISED - sp.sqrt(abar_t) * x_0)
    yield Expectation("covariance", covariance, noises, -DIRECTION * sp.sqrt(1 - abar_t))
    yield Inequality("not the positive root", DIRECTION, ">", claim)


FORWARD_SLOPE = DIRECTION * sp.sqrt(1 - abar_t) / (1 - abar_s)
FORWARD_MEAN = sp.sqrt(abar_t) * x_0 + FORWARD_SLOPE * (x_s - sp.sqrt(abar_s) * x_0)
FORWARD_VARIANCE = sigma_t**2 * (1 - abar_t) / (1 - abar_s)


@formula(
    "ddim.forward_mean",
    title="mean of the forward kernel of the family",
    lhs=x_t,
    rhs=FORWARD_MEAN,
    citations=("Song2021ddim:8", "S004:§5.1/12"),
    reference="refdiff.ddim:forward_kernel",
    uses=("ddim.marginals",),
    assumptions=(SIGMA_FITS,),
)
def _forward_mean(claim: sp.Expr) -> Iterator[Step]:
    """Bayes, read in the forward direction: q(x_t | x_s, x_0) = q(x_s | x_t, x_0) q(x_t | x_0) / q(x_s
    | x_0)."""
    reverse = normal(x_s, KERNEL_MEAN, sigma_t**2)
    yield DensityEqual("Bayes", reverse * MARGINAL_T / MARGINAL_S, normal(x_t, claim, FORWARD_VARIANCE))


@formula(
    "ddim.forward_variance",
    title="variance of the forward kernel of the family",
    lhs=sigma_t**2,
    rhs=FORWARD_VARIANCE,
    citations=("Song2021ddim:8", "S004:§5.1/9"),
    reference="refdiff.ddim:forward_kernel",
    uses=("ddim.forward_mean",),
    assumptions=(SIGMA_FITS,),
)
def _forward_variance(claim: sp.Expr) -> Iterator[Step]:
    """Bayes again. For σ(η) it is η² times the variance of the forward kernel of DDPM."""
    by_eta = close(claim).subs(sigma_t, SIGMA)
    yield Identity("by η", by_eta, eta**2 * (1 - RATIO))
    reverse = normal(x_s, KERNEL_MEAN, sigma_t**2)
    yield DensityEqual("Bayes", reverse * MARGINAL_T / MARGINAL_S, normal(x_t, FORWARD_MEAN, claim))


@formula(
    "ddim.markov_iff",
    title="the forward kernel forgets x_0 exactly when σ_t² is the variance of the forward posterior",
    lhs=sigma_t**2,
    rhs=BETA_TILDE_S,
    citations=("Song2021ddim:§3", "S004:§5.1/4"),
    reference="refdiff.ddim:forward_kernel",
    uses=("ddim.forward_mean", "ddpm.skip_posterior_variance"),
    assumptions=(SIGMA_FITS,),
    decoys=(
        Decoy("forward-variance", 1 - RATIO, "variance", "the forward variance between the levels"),
        Decoy("zero", sp.Integer(0), "variance", "the deterministic step"),
    ),
)
def _markov_iff(claim: sp.Expr) -> Iterator[Step]:
    """The coefficient g of x_0 in the forward mean, times its positive conjugate, is a positive
    multiple of σ_t² minus the claim. So g = 0 if and only if σ_t² is the claim; and then the kernel is
    that of DDPM."""
    g = sp.diff(FORWARD_MEAN, x_0)
    conjugate = sp.sqrt(abar_t) + FORWARD_SLOPE * sp.sqrt(abar_s)
    multiple = abar_s * (1 - abar_t) / (1 - abar_s) ** 2
    yield Identity("g times its conjugate", g * conjugate, multiple * (sigma_t**2 - claim))
    yield Inequality("the conjugate is positive", conjugate, ">", sp.Integer(0))
    yield Inequality("the multiple is positive", multiple, ">", sp.Integer(0))
    forward = normal(x_t, FORWARD_MEAN, FORWARD_VARIANCE)
    exponent, factor = (close(p).subs(sigma_t, sp.sqrt(claim)) for p in (forward.exponent, forward.factor))
    yield DensityEqual("then it is the kernel of DDPM", LogDensity(exponent, factor), SKIP_KERNEL)


@formula(
    "ddim.eta_one_is_ddpm",
    title="η = 1 is ancestral sampling, over any sub-sequence",
    lhs=x_s,
    rhs=SKIP_FROM_EPS + sp.sqrt(BETA_TILDE_S) * z,
    citations=("Song2021ddim:§4.1", "S003:/12", "S004:§5.1/10"),
    reference="refdiff.ddim:step",
    uses=("ddim.step", "ddpm.skip_step", "ddpm.skip_posterior_mean"),
    decoys=(
        Decoy(
            "forward-variance", SKIP_FROM_EPS + sp.sqrt(1 - RATIO) * z, "variance",
            "the forward variance: no member of the family has it",
        ),
    ),
)  # fmt: skip
def _eta_one_is_ddpm(claim: sp.Expr) -> Iterator[Step]:
    """As samplers, coefficient by coefficient; and as kernels given x_0. Between neighbours of a
    sub-sequence both see the schedule with β' = 1 − ᾱ_t/ᾱ_s, so thinning changes nothing."""
    yield Identity("the sampler", STEP.subs(eta, 1), claim)
    mean = KERNEL_MEAN.subs(sigma_t, sp.sqrt(BETA_TILDE_S))
    yield DensityEqual("the kernel", normal(x_s, mean, BETA_TILDE_S), normal(x_s, SKIP_MEAN, BETA_TILDE_S))


DETERMINISTIC = sp.sqrt(abar_s) * X_0_FROM_EPS + sp.sqrt(1 - abar_s) * eps
SIGMA_VE_T = sp.sqrt((1 - abar_t) / abar_t)
SIGMA_VE_S = sp.sqrt((1 - abar_s) / abar_s)


@formula(
    "ddim.deterministic_step",
    title="the deterministic step",
    lhs=x_s,
    rhs=DETERMINISTIC,
    citations=("Song2021ddim:13", "S001:/8", "S004:5.15"),
    reference="refdiff.ddim:step",
    uses=("ddim.step",),
    decoys=(
        Decoy(
            "collapse", sp.sqrt(abar_s) * X_0_FROM_EPS, "variance",
            "no direction: the samples fall on the mean", BUG_B,
        ),
        Decoy(
            "ddpm-without-noise", SKIP_FROM_EPS, "variance",
            "the step of DDPM with its noise left out and nothing else changed", "S003:§1.2/2",
        ),
    ),
)  # fmt: skip
def _deterministic_step(claim: sp.Expr) -> Iterator[Step]:
    """η = 0: nothing is drawn."""
    yield Identity("η = 0", STEP.subs(eta, 0), claim)
    yield Identity("affine in ε", *two_point(claim, eps))


@formula(
    "ddim.score_form",
    title="the deterministic step through the score",
    lhs=x_s,
    rhs=x_t / sp.sqrt(RATIO)
    + ((1 - abar_t) / sp.sqrt(RATIO) - sp.sqrt(1 - abar_s) * sp.sqrt(1 - abar_t)) * score,
    citations=("S004:8.22",),
    uses=("ddim.deterministic_step",),
    decoys=(
        Decoy(
            "half-beta", x_t / sp.sqrt(RATIO) + (1 - RATIO) / 2 * score, "discretization",
            "equal to first order in the step only", "S004:8.21",
        ),
    ),
)  # fmt: skip
def _score_form(claim: sp.Expr) -> Iterator[Step]:
    """Put ε = −√(1−ᾱ_t) times the score into the deterministic step."""
    yield Identity("ε through the score", DETERMINISTIC.subs(eps, -sp.sqrt(1 - abar_t) * score), claim)


@formula(
    "ddim.euler_in_sigma",
    title="the deterministic step is Euler's step in σ = √((1−ᾱ)/ᾱ) for y = x/√ᾱ",
    lhs=x_s,
    rhs=sp.sqrt(abar_s) * (x_t / sp.sqrt(abar_t) + (SIGMA_VE_S - SIGMA_VE_T) * eps),
    citations=("Song2021ddim:13", "Song2021ddim:14", "S004:5.15", "S004:8.23", "S004:8.24"),
    reference="refdiff.ddim:euler_step",
    uses=("ddim.deterministic_step",),
    decoys=(
        Decoy(
            "order-of-levels", sp.sqrt(abar_s) * (x_t / sp.sqrt(abar_t) + (SIGMA_VE_T - SIGMA_VE_S) * eps),
            "sign", "σ_t − σ_s",
        ),
        Decoy(
            "not-scaled", sp.sqrt(abar_s) * (x_t + (SIGMA_VE_S - SIGMA_VE_T) * eps), "parameterization",
            "a step in y applied to x",
        ),
        Decoy(
            "vp-levels", sp.sqrt(abar_s)
            * (x_t / sp.sqrt(abar_t) + (sp.sqrt(1 - abar_s) - sp.sqrt(1 - abar_t)) * eps), "parameterization",
            "√(1−ᾱ) taken for σ",
        ),
    ),
)  # fmt: skip
def _euler_in_sigma(claim: sp.Expr) -> Iterator[Step]:
    """y_s = y_t + (σ_s − σ_t)·ε, the explicit Euler step of dy/dσ = ε. Where ε does not change along a
    path, y is linear in σ and the step is exact."""
    yield Identity("the deterministic step", DETERMINISTIC, claim)
    y = sp.Function("y", real=True)(sigma)
    line = x_0 + sigma * eps
    yield Substitution("a constant ε solves dy/dσ = ε", sp.diff(y, sigma) - eps, {y: line})
    increment = claim / sp.sqrt(abar_s) - x_t / sp.sqrt(abar_t)
    yield Identity(
        "and Euler's step follows it", increment, line.subs(sigma, SIGMA_VE_S) - line.subs(sigma, SIGMA_VE_T)
    )


@formula(
    "ddim.inversion",
    title="the deterministic step upwards",
    lhs=x_t,
    rhs=sp.sqrt(abar_t) * (x_s - sp.sqrt(1 - abar_s) * eps) / sp.sqrt(abar_s) + sp.sqrt(1 - abar_t) * eps,
    citations=("Song2021ddim:§4.3", "S004:§5.4/4"),
    reference="refdiff.ddim:invert",
    uses=("ddim.deterministic_step",),
    decoys=(
        Decoy(
            "levels-shifted", sp.sqrt(abar_s) * (x_s - sp.sqrt(1 - abar_prev) * eps) / sp.sqrt(abar_prev)
            + sp.sqrt(1 - abar_s) * eps, "index",
            "source and target one level too low", "diffusers PR#5145",
        ),
        Decoy(
            "step-down", sp.sqrt(abar_s) * (x_s - sp.sqrt(1 - abar_t) * eps) / sp.sqrt(abar_t)
            + sp.sqrt(1 - abar_s) * eps, "index", "the levels exchanged: the step downwards",
        ),
    ),
)  # fmt: skip
def _inversion(claim: sp.Expr) -> Iterator[Step]:
    """With the ε of the step downwards it undoes that step, from either side; the increment in σ
    changes its sign."""
    yield Identity("down, then up", claim.subs(x_s, DETERMINISTIC), x_t)
    yield Identity("up, then down", DETERMINISTIC.subs(x_t, claim), x_s)


@formula(
    "ddim.inversion_error",
    title="error of a step up and down again when the prediction changes on the way",
    lhs=x_s,
    rhs=sp.sqrt(abar_s) * (SIGMA_VE_S - SIGMA_VE_T) * (eps - eps_s),
    citations=("Song2021ddim:§4.3", "S004:§5.4/4"),
    reference="refdiff.ddim:inversion_error",
    uses=("ddim.inversion", "ddim.euler_in_sigma"),
)
def _inversion_error(claim: sp.Expr) -> Iterator[Step]:
    """Up with the prediction at x_s, down with that at the x_t reached. The error is the step in σ
    times the change of the prediction; that change is of first order in the step, so one step errs by
    second order and an encoding of fixed length by first order."""
    up = sp.sqrt(abar_t) * (x_s - sp.sqrt(1 - abar_s) * eps_s) / sp.sqrt(abar_s) + sp.sqrt(1 - abar_t) * eps_s
    yield Identity("round trip", DETERMINISTIC.subs(x_t, up) - x_s, claim)
    e_0, e_1, e_2 = sp.symbols("e_0 e_1 e_2", real=True)
    along = e_0 + e_1 * h + e_2 * h**2
    trip = -h * (along - along.subs(h, 0))
    yield Series("second order in the step h of σ, for a smooth prediction", trip, h, 3, -e_1 * h**2)


@formula(
    "ddim.round_trip_gaussian",
    title="factor of a step up and down again for centred Gaussian data, in y = x/√ᾱ",
    lhs=sp.Symbol("f"),
    rhs=(1 + h * sigma / (sigma**2 + data_variance))
    * (1 - h * (sigma + h) / ((sigma + h) ** 2 + data_variance)),
    uses=("ddim.inversion_error", "ddim.euler_in_sigma"),
)
def _round_trip_gaussian(claim: sp.Expr) -> Iterator[Step]:
    """For data of mean 0 and variance c the perfect network says ε = σy/(σ² + c). The factor misses 1
    by h²c/(σ²+c)² to second order, and by nothing for a point mass."""
    y = sp.Symbol("y", real=True)
    up = y + h * sigma * y / (sigma**2 + data_variance)
    down = up - h * (sigma + h) * up / ((sigma + h) ** 2 + data_variance)
    yield Identity("two Euler steps", down, claim * y)
    error = 1 - h**2 * data_variance / (sigma**2 + data_variance) ** 2
    yield Series("second order", claim, h, 3, error)
    yield Identity("a point mass", claim.subs(data_variance, 0), sp.Integer(1))


POINT_MASS_PATH = sp.sqrt(abar_s) * x_0 + sp.sqrt((1 - abar_s) / (1 - abar_t)) * (x_t - sp.sqrt(abar_t) * x_0)


@formula(
    "ddim.point_mass_exact",
    title="on a point mass the deterministic sampler is exact, for every step size",
    lhs=x_s,
    rhs=POINT_MASS_PATH,
    citations=("Song2021ddim:14",),
    reference="refdiff.ddim:step",
    uses=("ddim.deterministic_step", "ddim.euler_in_sigma"),
    assumptions=(sp.Lt(abar_prev, abar_s),),
)
def _point_mass_exact(claim: sp.Expr) -> Iterator[Step]:
    """The perfect network of data x_0 says ε = (x_t − √ᾱ_t·x_0)/√(1−ᾱ_t), and says the same at x_s. So
    two steps are one step, whatever the level between, and the last level is the data."""
    at_t = (x_t - sp.sqrt(abar_t) * x_0) / sp.sqrt(1 - abar_t)
    at_s = (x_s - sp.sqrt(abar_s) * x_0) / sp.sqrt(1 - abar_s)
    yield Identity("one step", DETERMINISTIC.subs(eps, at_t), claim)
    yield Identity("the prediction does not change", at_s.subs(x_s, claim), at_t)
    between = close(claim).subs(abar_s, abar_prev)
    second = close(claim).subs(abar_t, abar_prev).subs(x_t, between)
    yield Identity("two steps are one", second, claim)
    yield Identity("data at the end", close(claim).subs(abar_s, 1), x_0)
