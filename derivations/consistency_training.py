"""The losses of consistency models, with a teacher and without: part of the topic ``consistency``.

A pair of levels is σ(s) < σ(t). The target is the function below, f⁻, which gets no gradient. Distillation
goes down by an Euler step of the ODE; training has no velocity and takes the one-sample estimate (x − x_0)/σ.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import sqrt

from derivations.hyvarinen import UNIT
from derivations.kit import Decoy, Expectation, Identity, Induction, Inequality, Series, Step, formula
from derivations.symbols import (
    data_variance,
    f_slope_theta,
    h,
    i,
    score_ve,
    sig_s,
    sig_t,
    sigma,
    sigma_min,
    student_slope,
    teacher_slope,
    velocity,
    visited,
    x_0,
    x_0_hat,
    x_0_variance,
    x_ve,
    z,
)

RISES = sp.Lt(sig_s, sig_t)
f = sp.Function("f", real=True)
f_at = f(x_ve, sigma)
BEND = sp.diff(f_at, x_ve, 2)


@formula(
    "consistency.unbiased_score",
    title="the one-sample estimate of the score, whose mean is the score, for any law of the data",
    lhs=score_ve,
    rhs=-(x_ve - x_0) / sigma**2,
    citations=("Song2023:9", "Song2023:lemma1", "Vincent2011"),
    reference="refdiff.consistency:velocity",
    uses=("smld.denoise",),
    decoys=(
        Decoy("std", -(x_ve - x_0) / sigma, "sqrt", "divided by σ: minus the noise"),
        Decoy("uphill", (x_ve - x_0) / sigma**2, "sign", "away from the data"),
        Decoy("halved", -(x_ve - x_0) / (2 * sigma**2), "variance", "the half of the exponent kept"),
    ),
)  # fmt: skip
def _unbiased_score(claim: sp.Expr) -> Iterator[Step]:
    """It is linear in the data, so its mean given x is its value at the mean of the data, x + σ²·score."""
    yield Identity("linear in the data", sp.diff(claim, x_0, 2), sp.Integer(0))
    mean = x_ve + sigma**2 * score_ve
    yield Identity("the mean given x", claim.subs(x_0, mean), score_ve)


def euler(mean: sp.Expr, low: sp.Expr = sig_s, high: sp.Expr = sig_t, x: sp.Expr = x_ve) -> sp.Expr:
    """An Euler step down the ODE with this mean of the data."""
    return x + (low - high) * (x - mean) / high


PAIR = x_0 + sig_s * z


@formula(
    "consistency.training_pair",
    title="the lower point of consistency training: the same data with the same noise",
    lhs=x_ve,
    rhs=PAIR,
    citations=("Song2023:10", "Song2023:alg3"),
    reference="refdiff.consistency:training_loss",
    uses=("consistency.unbiased_score", "consistency.velocity"),
    assumptions=(RISES,),
    decoys=(
        Decoy("other-noise", x_0 + sig_s * sp.Symbol("z_2", real=True), "variance",
              "fresh noise at the lower level: the target forgets the state"),
        Decoy("same-level", x_0 + sig_t * z, "index", "both points at one level"),
        Decoy("clean", x_0, "noise-at-t0", "the data themselves as lower point"),
    ),
)  # fmt: skip
def _training_pair(claim: sp.Expr) -> Iterator[Step]:
    """An Euler step from x_0 + σ(t)·z with the one-sample estimate of the score, not an approximation."""
    high = x_0 + sig_t * z
    slope = -sig_t * (-(high - x_0) / sig_t**2)
    yield Identity("one Euler step", high + (sig_s - sig_t) * slope, claim)


def order(expr: sp.Expr, k: int) -> sp.Expr:
    """The coefficient of h^k."""
    return sp.diff(expr, h, k).subs(h, 0) / sp.factorial(k)


def below(slope: sp.Expr, k: int) -> sp.Expr:
    """The coefficient of h^k of f(x − h·slope, σ − h): the derivative along a fixed direction, k times."""
    held, term = sp.Symbol("held", real=True), f_at
    for _ in range(k):
        term = -held * sp.diff(term, x_ve) - sp.diff(term, sigma)
    return term.subs(held, slope) / sp.factorial(k)


GRADIENT = 2 * h * f_slope_theta * (sp.diff(f_at, sigma) + velocity * sp.diff(f_at, x_ve))


@formula(
    "consistency.distillation_gradient",
    title="gradient of the squared distillation loss at a point, to leading order in the step",
    lhs=sp.Symbol("g_CD", real=True),
    rhs=GRADIENT,
    citations=("Song2023:theorem5",),
    reference="refdiff.consistency:distillation_loss",
    uses=("consistency.constancy",),
    decoys=(
        Decoy("through-both", 2 * h**2 * f_slope_theta * (sp.diff(f_at, sigma)
              + velocity * sp.diff(f_at, x_ve)), "loss-weight",
              "of second order, as if the gradient went through the target too"),
        Decoy("not-doubled", GRADIENT / 2, "loss-weight", "the 2 of the square"),
        Decoy("level-only", 2 * h * f_slope_theta * sp.diff(f_at, sigma), "likelihood", "the state stays"),
    ),
)  # fmt: skip
def _distillation_gradient(claim: sp.Expr) -> Iterator[Step]:
    """The gradient of ‖f_θ − sg(f)‖² is 2·∂_θf times the change of f in an Euler step, for any smooth f and
    any velocity. It vanishes to this order exactly where f is constant along the ODE."""
    for k in range(2):
        change = (f_at, sp.Integer(0))[k] - below(velocity, k)
        yield Identity(f"order {k} in the step", 2 * f_slope_theta * change, order(claim, k))
    yield Identity("nothing of higher order is claimed", sp.diff(claim, h, 2), sp.Integer(0))


GAP = -(h**2) * f_slope_theta * BEND * x_0_variance / sigma**2


@formula(
    "consistency.gradient_gap",
    title="gradient of training minus that of distillation, on average over the data given x",
    lhs=sp.Symbol("g_CT") - sp.Symbol("g_CD"),
    rhs=GAP,
    citations=("Song2023:theorem2", "Song2023:theorem6"),
    reference="refdiff.consistency:training_loss",
    uses=("consistency.distillation_gradient", "consistency.training_pair"),
    decoys=(
        Decoy("first-order", -h * f_slope_theta * BEND * x_0_variance / sigma**2, "discretization",
              "of the order of the gradient itself: training would be biased"),
        Decoy("none", sp.Integer(0), "likelihood", "equal at every step, not only as it vanishes"),
        Decoy("noise-variance", -(h**2) * f_slope_theta * BEND, "variance",
              "the variance of the noise for that which x leaves to the data"),
        Decoy("slope-for-bend", -(h**2) * f_slope_theta * sp.diff(f_at, x_ve) * x_0_variance / sigma**2,
              "discretization", "the slope for the second derivative"),
    ),
)  # fmt: skip
def _gradient_gap(claim: sp.Expr) -> Iterator[Step]:
    """Expand the target in the step, for any smooth f, and average over the data given x, of any law. Of
    the one-sample slope only the mean enters the first order, and it is the velocity; the second order sees
    its variance, through the second derivative of f. The gradient itself is of first order, so training
    follows distillation up to a relative error of the order of the step; a function that is affine in x,
    as for Gaussian data, has no second derivative and no such term at any order."""
    single = (x_ve - x_0) / sigma
    law = {x_0: (x_0_hat, x_0_variance)}
    for k in range(3):
        change = -2 * f_slope_theta * (below(single, k) - below((x_ve - x_0_hat) / sigma, k))
        yield Expectation(f"order {k} in the step", change, law, order(claim, k))
    yield Identity("nothing of higher order is claimed", sp.diff(claim, h, 3), sp.Integer(0))
    affine = teacher_slope * euler(x_0) - teacher_slope * euler(x_0_hat)
    yield Expectation("an affine function, any step", affine, law, sp.Integer(0))


HIGH, LOW = data_variance + sig_t**2, data_variance + sig_s**2
JOINT = {x_0: (sp.Integer(0), data_variance), z: UNIT}
X_HIGH, X_LOW = x_0 + sig_t * z, x_0 + sig_s * z
X_DOWN = X_HIGH + (sig_s - sig_t) * sig_t * X_HIGH / HIGH
"""The two points of training, and the end of the Euler step of the exact velocity, for centred data."""
SHARED = data_variance + sig_s * sig_t
SQUARES = {"training": LOW, "distillation": SHARED**2 / HIGH}


def mean_square(student: sp.Expr, target: sp.Expr, name: str) -> sp.Expr:
    """The mean of (b·x − a·x')² by the second moments of the pair, which ``loss_gap`` derives."""
    return student**2 * HIGH - 2 * student * target * SHARED + target**2 * SQUARES[name]


LOSSES = {name: mean_square(student_slope, teacher_slope, name) for name in SQUARES}
LOSS_GAP = teacher_slope**2 * (sig_t - sig_s) ** 2 * data_variance / HIGH


@formula(
    "consistency.loss_gap",
    title="squared training loss minus squared distillation loss, Gaussian data and an affine target",
    lhs=sp.Symbol("L_CT") - sp.Symbol("L_CD"),
    rhs=LOSS_GAP,
    citations=("Song2023:theorem2",),
    reference="refdiff.consistency:training_loss",
    uses=("consistency.training_pair", "consistency.gaussian_function"),
    assumptions=(RISES,),
    decoys=(
        Decoy("none", sp.Integer(0), "likelihood", "the gradients agree, so the losses are taken to agree"),
        Decoy("first-order", teacher_slope**2 * (sig_t - sig_s) * data_variance / HIGH, "discretization",
              "the step not squared"),
        Decoy("noise-share", teacher_slope**2 * (sig_t - sig_s) ** 2 * sig_t**2 / HIGH, "variance",
              "the share of the noise for that of the data"),
        Decoy("lower-level", teacher_slope**2 * (sig_t - sig_s) ** 2 * data_variance / LOW, "index",
              "the variance of the data given the lower point"),
    ),
)  # fmt: skip
def _loss_gap(claim: sp.Expr) -> Iterator[Step]:
    """The variance that one sample of the data adds to the target: exact, for every step and student. It is
    of second order, as the distillation loss is, so the two losses differ at leading order though their
    gradients agree there; it does not depend on the student, so its gradient is that of the target alone."""
    yield Identity("difference of the losses", LOSSES["training"] - LOSSES["distillation"], claim)
    yield Identity("free of the student", sp.diff(claim, student_slope), sp.Integer(0))
    yield Expectation("mean square of the upper point", X_HIGH**2, JOINT, HIGH)
    for name, low in (("training", X_LOW), ("distillation", X_DOWN)):
        yield Expectation(f"mean product of the points, {name}", X_HIGH * low, JOINT, SHARED)
        yield Expectation(f"mean square of the lower point, {name}", low**2, JOINT, SQUARES[name])


@formula(
    "consistency.bias_without_stop",
    title="what training adds to the gradient when it flows through the target too",
    lhs=sp.Symbol("bias", real=True),
    rhs=2 * teacher_slope * (sig_t - sig_s) ** 2 * data_variance / HIGH,
    citations=("Song2023:appA", "Song2023:8"),
    reference="refdiff.consistency:training_loss",
    uses=("consistency.loss_gap",),
    assumptions=(RISES,),
    decoys=(
        Decoy("none", sp.Integer(0), "likelihood", "the target's gradient averages out"),
        Decoy("third-order", 2 * teacher_slope * (sig_t - sig_s) ** 3 * data_variance / HIGH,
              "discretization", "of higher order than the gradient of distillation"),
    ),
)  # fmt: skip
def _bias_without_stop(claim: sp.Expr) -> Iterator[Step]:
    """Let one factor of both functions be learned, with any ratio r of their slopes: the gradient of training
    then exceeds that of distillation by the derivative of the gap between the losses. It pulls the slopes to
    0 and is of second order in the step, while at the exact ratio the gradient of distillation is of fourth
    order: without the stop, training does not converge to the exact function but to a constant."""
    ratio = sp.Symbol("ratio", real=True)
    training, distillation = (
        sp.diff(mean_square(ratio * teacher_slope, teacher_slope, name), teacher_slope) for name in SQUARES
    )
    yield Identity("difference of the gradients", training - distillation, claim)
    step = SHARED / HIGH
    distilled = 2 * teacher_slope * HIGH * (ratio - step) ** 2
    yield Identity("distillation alone", distillation, distilled)
    error = (sqrt(HIGH) * step - sqrt(LOW)).subs(sig_s, sig_t - h)
    yield Series("the exact ratio, up to second order", error, h, 2, sp.Integer(0))


END = data_variance + sigma_min**2
AT_EXACT = 2 * sqrt(END) * (sqrt(HIGH) - (data_variance + sig_s * sig_t) / sqrt(LOW))


@formula(
    "consistency.gaussian_gradient",
    title="gradient of the student's slope at the exact function of Gaussian data, either loss",
    lhs=sp.Symbol("g", real=True),
    rhs=AT_EXACT,
    citations=("Song2023:theorem2",),
    reference="refdiff.consistency:training_loss",
    uses=("consistency.loss_gap", "consistency.gaussian_function"),
    assumptions=(RISES,),
    decoys=(
        Decoy("zero", sp.Integer(0), "discretization", "the exact function is taken for the minimum"),
        Decoy("not-doubled", AT_EXACT / 2, "loss-weight", "the 2 of the square"),
        Decoy("other-noise", 2 * sqrt(END) * (sqrt(HIGH) - data_variance / sqrt(LOW)), "variance",
              "two noises in the pair: their states share the data only"),
    ),
)  # fmt: skip
def _gaussian_gradient(claim: sp.Expr) -> Iterator[Step]:
    """The mean of 2·(b·x − a·x')·x over Gaussian data and noise, with the exact slopes a and b; the two
    losses have one and the same, at every step. It is not zero: the minimum has another slope."""
    exact = {student_slope: sqrt(END / HIGH), teacher_slope: sqrt(END / LOW)}
    for name, loss in LOSSES.items():
        yield Identity(f"gradient of {name}", sp.diff(loss, student_slope).subs(exact), claim)


@formula(
    "consistency.gaussian_gradient_order",
    title="that gradient to leading order in the step",
    lhs=sp.Symbol("g", real=True),
    rhs=sqrt(END) * data_variance * h**2 / HIGH ** sp.Rational(3, 2),
    citations=("Song2023:theorem2",),
    uses=("consistency.gaussian_gradient",),
    decoys=(
        Decoy("first-order", sqrt(END) * data_variance * h / HIGH ** sp.Rational(3, 2), "discretization",
              "of first order: the exact function would not be approached"),
        Decoy("noise-share", sqrt(END) * sig_t**2 * h**2 / HIGH ** sp.Rational(3, 2), "variance",
              "the level's share for that of the data"),
    ),
)  # fmt: skip
def _gaussian_gradient_order(claim: sp.Expr) -> Iterator[Step]:
    """Put σ(s) = σ(t) − h. The zeroth and first order vanish; what is left is the local error of the Euler
    step."""
    small = AT_EXACT.subs(sig_s, sig_t - h)
    for k, coefficient in enumerate((sp.Integer(0), sp.Integer(0), claim / h**2)):
        yield Identity(f"order {k} in the step", order(small, k), coefficient)


TRAINED = (data_variance + sig_s * sig_t) / HIGH * teacher_slope


@formula(
    "consistency.trained_step",
    title="the slope that either loss gives a level, from that of the level below, Gaussian data",
    lhs=student_slope,
    rhs=TRAINED,
    citations=("Song2023:theorem1",),
    reference="refdiff.consistency:trained_slope",
    uses=("consistency.loss_gap",),
    assumptions=(RISES,),
    decoys=(
        Decoy("exact", sqrt(LOW / HIGH) * teacher_slope, "discretization",
              "the exact step of the ODE: what the loss gives only as the step vanishes"),
        Decoy("denoiser", data_variance / HIGH * teacher_slope, "parameterization",
              "the mean of the data: what two independent noises give"),
        Decoy("variances", (data_variance + sig_s**2) / HIGH * teacher_slope, "sqrt",
              "the ratio of the variances"),
        Decoy("copied", teacher_slope, "discretization", "the slope of the level below"),
    ),
)  # fmt: skip
def _trained_step(claim: sp.Expr) -> Iterator[Step]:
    """The mean of the target given x. For both losses any other slope has a larger loss, by a square."""
    worse = HIGH * (student_slope - claim) ** 2
    for name, loss in LOSSES.items():
        yield Identity(f"least loss of {name}", loss - loss.subs(student_slope, claim), worse)


DEFICIT = 1 - data_variance * (sig_t - sig_s) ** 2 / (HIGH * LOW)


@formula(
    "consistency.trained_deficit",
    title="variance that a trained level leaves, over that of the exact function",
    lhs=sp.Symbol("r", positive=True),
    rhs=DEFICIT,
    citations=("Song2023:theorem1",),
    reference="refdiff.consistency:trained_slope",
    uses=("consistency.trained_step",),
    assumptions=(RISES,),
    decoys=(
        Decoy("none", sp.Integer(1), "discretization", "trained and exact are taken for equal"),
        Decoy("excess", 2 - DEFICIT, "sign", "too much variance, not too little"),
        Decoy("first-order", 1 - data_variance * (sig_t - sig_s) / (HIGH * LOW), "discretization",
              "the step not squared"),
        Decoy("not-squared", sqrt(DEFICIT), "sqrt", "the ratio of the slopes"),
    ),
)  # fmt: skip
def _trained_deficit(claim: sp.Expr) -> Iterator[Step]:
    """The square of the trained step over that of the exact one. It is below 1 by a square: samples of a
    model trained with finite steps are too narrow, at every level and for any variance. The deficit of a
    pair of levels is of second order in their distance, that of N levels together of order 1/N."""
    exact = sqrt(LOW / HIGH) * teacher_slope
    yield Identity("square of the ratio", (TRAINED / exact) ** 2, claim)
    lost = data_variance * (sig_t - sig_s) ** 2 / (HIGH * LOW)
    yield Inequality("too narrow", 1, ">=", claim, lost)


level = sp.Function("sigma", positive=True)
FACTOR = (data_variance + level(i) * level(i + 1)) / (data_variance + level(i + 1) ** 2)
CHAIN = sp.Product(FACTOR, (i, 1, visited))


@formula(
    "consistency.trained_slope",
    title="the slope after any number of trained levels, Gaussian data",
    lhs=student_slope,
    rhs=CHAIN,
    citations=("Song2023:theorem1",),
    reference="refdiff.consistency:trained_slope",
    uses=("consistency.trained_step", "consistency.c_skip"),
    decoys=(
        Decoy("exact", sqrt((data_variance + level(1) ** 2) / (data_variance + level(visited + 1) ** 2)),
              "discretization", "the exact function"),
        Decoy("one-step", (data_variance + level(1) * level(visited + 1))
              / (data_variance + level(visited + 1) ** 2), "discretization", "one step over all levels"),
    ),
    mutate=False,  # a product: the mutations of its factor are refuted under consistency.trained_step
)  # fmt: skip
def _trained_slope(claim: sp.Expr) -> Iterator[Step]:
    """The boundary condition starts with slope 1; each level multiplies. So training follows the Euler steps
    of the ODE, one for each pair of levels, and no others: what is learned is their composition."""
    known = sp.Symbol("slope", real=True)

    def trained(slope: sp.Expr, low: sp.Expr) -> sp.Expr:
        at = {teacher_slope: slope, sig_s: level(low), sig_t: level(low + 1)}
        return TRAINED.subs(at, simultaneous=True)

    base = trained(sp.Integer(1), sp.Integer(1)), claim.subs(visited, 1).doit()
    more = trained(known, visited + 1), claim.subs(visited, visited + 1)
    yield Induction("N levels", base, more, {known: claim})


@formula(
    "consistency.weight",
    title="the weight of a pair of levels in improved training",
    lhs=sp.Symbol("lambda_i", positive=True),
    rhs=1 / (sig_t - sig_s),
    citations=("Song2024:§3.2",),
    reference="refdiff.consistency:level_weights",
    uses=("consistency.distillation_gradient",),
    assumptions=(RISES,),
    decoys=(
        Decoy("one", sp.Integer(1), "loss-weight", "no weight: the gradient vanishes with the step"),
        Decoy("squared", 1 / (sig_t - sig_s) ** 2, "loss-weight", "the gradient grows without bound"),
        Decoy("level", 1 / sig_s, "loss-weight", "by the level"),
        Decoy("variances", 1 / (sig_t**2 - sig_s**2), "variance", "by the difference of the variances"),
    ),
)  # fmt: skip
def _weight(claim: sp.Expr) -> Iterator[Step]:
    """Times the leading order of the gradient it leaves the rate of f along the ODE, which knows no step: so
    pairs at any distance count alike."""
    rate = 2 * f_slope_theta * (sp.diff(f_at, sigma) + velocity * sp.diff(f_at, x_ve))
    yield Identity("the weighted gradient", claim * GRADIENT.subs(h, sig_t - sig_s), rate)
