"""Flow matching: the velocity of one pair of data and noise, the velocity of the marginals, and their losses.

Axioms: data x_0 and noise ε are independent, x_t = a(t)·x_0 + b(t)·ε, E is linear, and derivatives may be
exchanged with the mean over the data. Paths a, b, densities and velocities are undefined functions where a
statement is about any of them. The rest of the topic: velocity, score, data and noise in
``flow_conversions``, the paths in ``flow_paths``, Gaussian data in ``flow_gaussian``, steps of a sampler in
``flow_steps``, time in ``flow_time``, couplings and noise in ``flow_coupling``; this module imports all of
them.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations.kit import Decoy, Expectation, Identity, Induction, Inequality, Step, formula
from derivations.symbols import (
    component_velocity_0,
    component_velocity_1,
    components,
    data_mean,
    data_variance,
    density_0,
    density_1,
    dim,
    eps,
    i,
    path_scale,
    path_scale_slope,
    path_std,
    path_std_slope,
    tau,
    theta,
    velocity,
    velocity_hat,
    velocity_hat_slope,
    weight,
    x,
    x_0,
    x_t,
)

FIT = "torchebm commit 13e2e2cd"
UNIT = (sp.Integer(0), sp.Integer(1))
a, b = (sp.Function(name, positive=True)(tau) for name in ("a", "b"))
ANY_PATH = {
    path_scale: a, path_std: b, path_scale_slope: sp.diff(a, tau), path_std_slope: sp.diff(b, tau)
}  # fmt: skip
"""The numbers of a path at a time, as values of undefined functions and their derivatives."""
NOISED = path_scale * x_0 + path_std * eps
TARGET = path_scale_slope * x_0 + path_std_slope * eps
DETERMINANT = path_scale * path_std_slope - path_scale_slope * path_std


def on_any_path(expr: sp.Expr) -> sp.Expr:
    """The expression with the functions of an arbitrary path put in."""
    return expr.subs(ANY_PATH, simultaneous=True)


@formula(
    "flow.conditional_velocity",
    title="the velocity of one pair of data and noise, on any path",
    lhs=velocity,
    rhs=TARGET,
    citations=("Lipman2023:15", "Albergo2023"),
    reference="refdiff.flow:conditional_velocity",
    decoys=(
        Decoy("straight", eps - x_0, "loss-weight", "the target of the straight path on every path", FIT),
        Decoy("towards-data", -TARGET, "sign", "the derivative by the time that runs from noise to data"),
        Decoy("slopes-exchanged", path_std_slope * x_0 + path_scale_slope * eps, "parameterization",
              "the slope of each factor on the other's variable"),
        Decoy("levels", NOISED, "parameterization", "the factors where their slopes belong"),
    ),
)  # fmt: skip
def _conditional_velocity(claim: sp.Expr) -> Iterator[Step]:
    """The derivative of the path at fixed data and noise, for any two functions of time. A training target
    that belongs to another path than the one that made x_t is refuted here, whatever the network learns of
    it."""
    yield Identity("derivative of the path", sp.diff(a * x_0 + b * eps, tau), on_any_path(claim))


P_0, P_1 = (sp.Function(f"p_{k}", positive=True) for k in (0, 1))
U_0, U_1, V_0, V_1 = (sp.Function(name, real=True) for name in ("u_0", "u_1", "v_0", "v_1"))
MIXED = (weight * density_0 * component_velocity_0 + (1 - weight) * density_1 * component_velocity_1) / (
    weight * density_0 + (1 - weight) * density_1
)


def continuity(density: sp.Expr, *field: tuple[sp.Expr, sp.Symbol]) -> sp.Expr:
    """What the continuity equation says is zero: the change of the density plus the divergence of its
    flux."""
    return sp.diff(density, tau) + sp.Add(*(sp.diff(density * part, axis) for part, axis in field))


@formula(
    "flow.marginal_velocity",
    title="the mean velocity given x_t moves the mixture of two laws as each velocity moves its law",
    lhs=velocity,
    rhs=MIXED,
    citations=("Lipman2023:8", "Lipman2023:thm1", "S004:§6/12"),
    reference="refdiff.flow:marginal_velocity",
    decoys=(
        Decoy("prior-weights", weight * component_velocity_0 + (1 - weight) * component_velocity_1,
              "likelihood", "averaged with the weights of the laws: the mean that x_t does not enter"),
        Decoy("weight-blind", (density_0 * component_velocity_0 + density_1 * component_velocity_1)
              / (density_0 + density_1), "likelihood", "the weights are missing"),
        Decoy("nearer-law", component_velocity_0, "likelihood", "the velocity of one pair for the marginal"),
        Decoy("flux", MIXED * (weight * density_0 + (1 - weight) * density_1), "likelihood",
              "the flux: not divided by the density"),
    ),
)  # fmt: skip
def _marginal_velocity(claim: sp.Expr) -> Iterator[Step]:
    """Two laws, each with a velocity that generates it: any densities, any fields, no time or place left out.
    Density times claim is the sum of the fluxes, and the continuity equation is linear in density and flux;
    so the mixture has a residual only where one of the laws has. In the plane a field has two coordinates,
    each averaged in this way, and so in every dimension: the divergence is a sum over coordinates."""
    share = weight * density_0 / (weight * density_0 + (1 - weight) * density_1)
    mean = share * component_velocity_0 + (1 - share) * component_velocity_1
    yield Identity("the mean given x_t, by Bayes' rule", claim, mean)
    line = (tau, x)
    yield _mixed("the continuity equation on a line", claim, (x, U_0(*line), U_1(*line)))
    y = sp.Symbol("y", real=True)
    plane = (tau, x, y)
    first, second = (x, U_0(*plane), U_1(*plane)), (y, V_0(*plane), V_1(*plane))
    yield _mixed("the continuity equation in the plane", claim, first, second)
    yield from _any_dimension(claim)


def _any_dimension(claim: sp.Expr) -> Iterator[Step]:
    """The flux of the mixture has along each coordinate the derivative of the fluxes, weighed; so has the
    sum."""
    line = (tau, x)
    known = {density_0: P_0(*line), density_1: P_1(*line)}
    fields = {component_velocity_0: U_0(*line), component_velocity_1: U_1(*line)}
    total = weight * P_0(*line) + (1 - weight) * P_1(*line)
    slopes = [sp.diff(density * u, x) for density, u in zip(known.values(), fields.values(), strict=True)]
    mixed = sp.diff(total * claim.subs({**known, **fields}), x)
    yield Identity("along one coordinate", mixed, weight * slopes[0] + (1 - weight) * slopes[1])
    along = [sp.Function(f"D_{k}", real=True) for k in (0, 1)]
    one = weight * along[0](i) + (1 - weight) * along[1](i)
    sums = [weight * sp.Sum(along[0](i), (i, 1, n)) + (1 - weight) * sp.Sum(along[1](i), (i, 1, n))
            for n in (sp.Integer(1), dim, dim + 1)]  # fmt: skip
    so_far = sp.Symbol("divergence", real=True)
    step = (so_far + one.subs(i, dim + 1), sums[2])
    yield Induction("summed over any number of them", (one.subs(i, 1), sums[0]), step, {so_far: sums[1]})


def _mixed(title: str, claim: sp.Expr, *axes: tuple[sp.Symbol, sp.Expr, sp.Expr]) -> Step:
    """The residual of the mixture is that of its parts, weighed."""
    at = (tau, *(axis for axis, _, _ in axes))
    densities = (P_0(*at), P_1(*at))
    total = weight * densities[0] + (1 - weight) * densities[1]
    known = {density_0: densities[0], density_1: densities[1]}
    fields = [
        (claim.subs({**known, component_velocity_0: one, component_velocity_1: other}), axis)
        for axis, one, other in axes
    ]
    parts = [
        continuity(density, *((axis[1 + k], axis[0]) for axis in axes)) for k, density in enumerate(densities)
    ]
    return Identity(title, continuity(total, *fields), weight * parts[0] + (1 - weight) * parts[1])


field, mass = sp.Function("u", real=True), sp.Function("w", positive=True)
"""Density times weight of each of any number of laws, at one place and time; and the velocity of each."""


def over(term: sp.Expr, last: sp.Expr = components) -> sp.Expr:
    """A term summed over the laws 1..last."""
    return sp.Sum(term, (i, 1, last))


MEAN = over(mass(i) * field(i)) / over(mass(i))


@formula(
    "flow.marginal_velocity_many",
    title="the velocity of a mixture of any number of laws",
    lhs=velocity,
    rhs=MEAN,
    citations=("Lipman2023:8",),
    reference="refdiff.flow:marginal_velocity",
    uses=("flow.marginal_velocity",),
    decoys=(
        Decoy("per-law", over(mass(i) * field(i)) / components, "likelihood",
              "divided by the number of laws, not by their density"),
        Decoy("unweighted", over(field(i)) / components, "likelihood", "the plain mean of the velocities"),
    ),
)  # fmt: skip
def _marginal_velocity_many(claim: sp.Expr) -> Iterator[Step]:
    """One law more is merged with the mixture of the others by the rule for two; by induction the mixture of
    any number is moved by the mean of their velocities given x_t. An integral over the data is such a
    mean."""
    known = sp.Symbol("u_n", real=True)
    total = over(mass(i))
    merged = (total * known + mass(components + 1) * field(components + 1)) / (total + mass(components + 1))
    base = (claim.subs(components, 1), field(1))
    yield Induction("merge one more", base, (merged, claim.subs(components, components + 1)), {known: claim})


@formula(
    "flow.loss",
    title="the loss of conditional flow matching, one coordinate of one pair",
    lhs=sp.Symbol("L", nonnegative=True),
    rhs=(velocity_hat - TARGET) ** 2,
    citations=("Lipman2023:9", "Lipman2023:14"),
    reference="refdiff.flow:loss",
    uses=("flow.conditional_velocity",),
    decoys=(
        Decoy("straight", (velocity_hat - eps + x_0) ** 2, "loss-weight",
              "the target of the straight path on every path", FIT),
        Decoy("towards-data", (velocity_hat + TARGET) ** 2, "sign",
              "a target that points to the data where time runs to the noise",
              "lucidrains/rectified-flow-pytorch #14"),
        Decoy("noise-for-velocity", (velocity_hat - eps) ** 2, "parameterization",
              "the noise as target of a network that predicts a velocity"),
    ),
)  # fmt: skip
def _loss(claim: sp.Expr) -> Iterator[Step]:
    """The squared distance of the prediction from the derivative of the path."""
    derivative = sp.diff(a * x_0 + b * eps, tau)
    yield Identity("distance from the derivative", on_any_path(claim), (velocity_hat - derivative) ** 2)


SPLIT_MEAN = weight * component_velocity_0 + (1 - weight) * component_velocity_1
SPLIT = (velocity_hat - SPLIT_MEAN) ** 2 + weight * (1 - weight) * (
    component_velocity_0 - component_velocity_1
) ** 2


@formula(
    "flow.loss_split",
    title="given x_t, the loss of conditional flow matching is that of flow matching plus a variance",
    lhs=sp.Symbol("L", nonnegative=True),
    rhs=SPLIT,
    citations=("Lipman2023:thm2",),
    reference="refdiff.flow:loss_constant",
    uses=("flow.marginal_velocity_many", "flow.loss"),
    decoys=(
        Decoy("no-constant", (velocity_hat - SPLIT_MEAN) ** 2, "likelihood",
              "the two losses taken for equal"),
        Decoy("second-moment", (velocity_hat - SPLIT_MEAN) ** 2 + weight * component_velocity_0**2
              + (1 - weight) * component_velocity_1**2, "likelihood",
              "the second moment of the target where its variance belongs"),
    ),
)  # fmt: skip
def _loss_split(claim: sp.Expr) -> Iterator[Step]:
    """With two pairs behind x_t, of posterior weights w and 1−w. With any number the same: the mean of the
    squared distances is the squared distance from the mean plus a term without the prediction, by induction.
    The analogue for velocities of denoising score matching; nothing about the path enters."""
    first = weight * (velocity_hat - component_velocity_0) ** 2
    second = (1 - weight) * (velocity_hat - component_velocity_1) ** 2
    yield Identity("mean over two pairs", first + second, claim)
    rest = claim - (velocity_hat - SPLIT_MEAN) ** 2
    yield Identity("what is left has no prediction in it", sp.diff(rest, velocity_hat), sp.Integer(0))
    distance, known = (velocity_hat - field(components + 1)) ** 2, sp.Symbol("L_n", real=True)
    grown = known + mass(components + 1) * distance
    base = (mass(1) * (velocity_hat - field(1)) ** 2, _around_the_mean(sp.Integer(1)))
    step = (grown, _around_the_mean(components + 1))
    yield Induction("any number of pairs", base, step, {known: _around_the_mean(components)})


def _around_the_mean(last: sp.Expr) -> sp.Expr:
    """Σ w·(û − mean)² plus Σ w·u² − (Σ w·u)²/Σ w, in which no prediction is left."""
    total, flux = over(mass(i), last), over(mass(i) * field(i), last)
    return total * (velocity_hat - flux / total) ** 2 + over(mass(i) * field(i) ** 2, last) - flux**2 / total


@formula(
    "flow.loss_gradient",
    title="both losses have the same gradient",
    lhs=sp.Symbol("loss_slope", real=True),
    rhs=2 * (velocity_hat - velocity) * velocity_hat_slope,
    citations=("Lipman2023:thm2",),
    reference="refdiff.flow:loss",
    uses=("flow.loss_split",),
    decoys=(
        Decoy("half-square", (velocity_hat - velocity) * velocity_hat_slope, "loss-weight",
              "the gradient of half the square"),
        Decoy("plus", 2 * (velocity_hat + velocity) * velocity_hat_slope, "sign", "the target turned"),
    ),
)  # fmt: skip
def _loss_gradient(claim: sp.Expr) -> Iterator[Step]:
    """For any network û(θ): the derivative of the loss of one pair is linear in the pair's target, so its
    mean given x_t holds the mean target u, which is the marginal velocity, and nothing else of the pairs. The
    mean over x_t is over the same law in both losses."""
    net = sp.Function("net", real=True)(theta)
    at_net = claim.subs({velocity_hat: net, velocity_hat_slope: sp.diff(net, theta)})
    yield Identity("flow matching", sp.diff((net - velocity) ** 2, theta), at_net)
    targets = ((weight, component_velocity_0), (1 - weight, component_velocity_1))
    conditional = sp.Add(*(w * sp.diff((net - u) ** 2, theta) for w, u in targets))
    yield Identity("mean over two pairs", conditional, at_net.subs(velocity, SPLIT_MEAN))
    known, target = sp.Symbol("known", real=True), field(components + 1)
    one = mass(components + 1) * 2 * (velocity_hat - target) * velocity_hat_slope
    at_mean = [over(mass(i), n) * claim.subs(velocity, _mean(n)) for n in (components, components + 1)]
    first = mass(1) * 2 * (velocity_hat - field(1)) * velocity_hat_slope
    base = (first, mass(1) * claim.subs(velocity, field(1)))
    yield Induction("any number of pairs", base, (known + one, at_mean[1]), {known: at_mean[0]})


def _mean(last: sp.Expr) -> sp.Expr:
    return over(mass(i) * field(i), last) / over(mass(i), last)


SPREAD = path_scale**2 * data_variance + path_std**2
"""Variance of x_t for data of this variance."""
GAUSSIAN_SLOPE = (path_scale * path_scale_slope * data_variance + path_std * path_std_slope) / SPREAD
GAUSSIAN_VELOCITY = path_scale_slope * data_mean + GAUSSIAN_SLOPE * (x_t - path_scale * data_mean)
CONSTANT = DETERMINANT**2 * data_variance / SPREAD


@formula(
    "flow.loss_constant",
    title="what conditional flow matching leaves on Gaussian data: the loss of the perfect network",
    lhs=sp.Symbol("L", nonnegative=True),
    rhs=CONSTANT,
    citations=("Lipman2023:thm2",),
    reference="refdiff.flow:loss_constant",
    uses=("flow.loss_split",),
    decoys=(
        Decoy("zero", sp.Integer(0), "likelihood",
              "the perfect network has no loss: the two losses are equal"),
        Decoy("target-variance", path_scale_slope**2 * data_variance + path_std_slope**2, "variance",
              "the variance of the target without what x_t tells of it"),
        Decoy("determinant-once", DETERMINANT * data_variance / SPREAD, "sqrt", "W where W² belongs"),
        Decoy("noise-variance", DETERMINANT**2 * path_std**2 / SPREAD, "variance",
              "the variance of the noise in x_t where that of the data belongs"),
    ),
)  # fmt: skip
def _loss_constant(claim: sp.Expr) -> Iterator[Step]:
    """The mean over data and noise of the squared distance of the target from its mean given x_t. It is the
    variance of the target minus what x_t explains. The rectified path leaves c/((1−t)²c + t²): at the data 1,
    at the noise c."""
    law = {x_0: (data_mean, data_variance), eps: UNIT}
    error = TARGET - GAUSSIAN_VELOCITY.subs(x_t, NOISED)
    yield Expectation("mean over data and noise", error**2, law, claim)
    covariance = path_scale * path_scale_slope * data_variance + path_std * path_std_slope
    whole = path_scale_slope**2 * data_variance + path_std_slope**2
    yield Identity("variance minus what is explained", claim, whole - covariance**2 / SPREAD)
    centred = NOISED - path_scale * data_mean
    yield Expectation("no correlation with x_t is left", error * centred, law, sp.Integer(0))
    determinant = sp.Symbol("W", real=True)
    square = determinant**2 * data_variance / SPREAD
    yield Identity("a square", claim, square.subs(determinant, DETERMINANT))
    yield Inequality("never negative", square, ">=", sp.Integer(0))


from derivations import (  # noqa: E402  (the rest of the topic)
    flow_conversions,
    flow_coupling,
    flow_gaussian,
    flow_paths,
    flow_steps,
    flow_time,
)

__all__ = ["flow_conversions", "flow_coupling", "flow_gaussian", "flow_paths", "flow_steps", "flow_time"]
