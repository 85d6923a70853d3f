"""Flows of Gaussian data: velocity, flow map, curvature, straightness and reflow. Part of the topic ``flow``.

One axis of the data's covariance, with mean m and variance c; the axes do not touch each other. Straightness
is Liu et al.'s S: the mean squared distance of the velocity from the displacement of its own trajectory.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy.matrices.expressions.trace import Trace

from derivations.flow import (
    CONSTANT,
    DETERMINANT,
    GAUSSIAN_SLOPE,
    GAUSSIAN_VELOCITY,
    NOISED,
    SPREAD,
    TARGET,
    UNIT,
    a,
    b,
    on_any_path,
)
from derivations.flow_conversions import FROM_SCORE, RECTIFIED
from derivations.gaussian import M_0, S_0, X, square
from derivations.kit import Decoy, Expectation, Identity, Inequality, Series, Step, formula
from derivations.kit.matrices import Given, MatrixIdentity, one_dimensional
from derivations.score_matching import NOISE, N
from derivations.symbols import (
    data_mean,
    data_variance,
    dim,
    eps,
    flow_s,
    flow_t,
    h,
    path_scale,
    path_scale_s,
    path_scale_slope,
    path_std,
    path_std_s,
    path_std_slope,
    score,
    tau,
    velocity,
    x_0,
    x_s,
    x_t,
    z,
)

LAW = {x_0: (data_mean, data_variance), eps: UNIT}
CENTRED = x_t - path_scale * data_mean


@formula(
    "flow.gaussian_velocity",
    title="the marginal velocity of Gaussian data, on any path",
    lhs=velocity,
    rhs=GAUSSIAN_VELOCITY,
    citations=("Albergo2023",),
    reference="refdiff.flow:marginal_velocity",
    uses=("flow.velocity_from_score", "flow.marginal_velocity"),
    decoys=(
        Decoy("not-centred", path_scale_slope * data_mean + GAUSSIAN_SLOPE * x_t, "variance",
              "the slope times x_t, not times its distance from the mean"),
        Decoy("still-mean", GAUSSIAN_SLOPE * CENTRED, "variance", "the mean does not move"),
        Decoy("of-noise", path_scale_slope * data_mean + path_std_slope / path_std * CENTRED, "variance",
              "a point mass: the velocity given the data's mean"),
        Decoy("whole-slope", path_scale_slope * data_mean + 2 * GAUSSIAN_SLOPE * CENTRED, "sqrt",
              "the logarithmic slope of the variance where that of the deviation belongs"),
    ),
)  # fmt: skip
def _gaussian_velocity(claim: sp.Expr) -> Iterator[Step]:
    """The rule from the score, whose value for a normal law is −(x − a·m)/V with V = a²c + b²; the slope is
    that of log √V. It is also the best affine prediction of the target: what is left has mean 0 and no
    correlation with x_t."""
    gaussian_score = -CENTRED / SPREAD
    yield Identity("the rule from the score", claim, FROM_SCORE.subs(score, gaussian_score))
    left = TARGET - claim.subs(x_t, NOISED)
    yield Expectation("mean of what is left", left, LAW, sp.Integer(0))
    yield Expectation("its correlation with x_t", left * NOISED, LAW, sp.Integer(0))
    slope = sp.diff(on_any_path(claim), x_t)
    yield Identity("the slope of log √V", slope, sp.diff(sp.log(on_any_path(SPREAD)), tau) / 2)


SPREAD_S = path_scale_s**2 * data_variance + path_std_s**2
FLOW_MAP = path_scale_s * data_mean + sp.sqrt(SPREAD_S / SPREAD) * CENTRED


@formula(
    "flow.gaussian_flow_map",
    title="the flow of Gaussian data from one time to another, on any path",
    lhs=x_s,
    rhs=FLOW_MAP,
    citations=("Albergo2023",),
    reference="refdiff.flow:gaussian_flow_map",
    uses=("flow.gaussian_velocity",),
    decoys=(
        Decoy("variances", path_scale_s * data_mean + SPREAD_S / SPREAD * CENTRED, "sqrt",
              "the ratio of the variances where its root belongs"),
        Decoy("noise-only", path_scale_s * data_mean + path_std_s / path_std * CENTRED, "variance",
              "the flow of a point mass at the mean"),
        Decoy("still-mean", path_scale * data_mean + sp.sqrt(SPREAD_S / SPREAD) * CENTRED, "index",
              "the mean of the time where the flow starts"),
        Decoy("inverse", path_scale_s * data_mean + sp.sqrt(SPREAD / SPREAD_S) * CENTRED, "index",
              "the times exchanged in the ratio"),
    ),
)  # fmt: skip
def _gaussian_flow_map(claim: sp.Expr) -> Iterator[Step]:
    """It solves dx/ds = u(x, s), and at s = t it is x_t; any path, the functions a and b. It takes the law of
    x_t to that of x_s."""
    here = {path_scale_s: path_scale, path_std_s: path_std}
    yield Identity("starts at x_t", claim.subs(here), x_t)
    start, level = sp.symbols("a_0 b_0", positive=True)
    place = sp.Symbol("x", real=True)
    fixed = claim.subs({path_scale: start, path_std: level, x_t: place})
    moving = fixed.subs({path_scale_s: a, path_std_s: b})
    field = on_any_path(GAUSSIAN_VELOCITY).subs(x_t, moving)
    yield Identity("solves the ODE", sp.diff(moving, tau), field)
    yield Expectation("mean of x_s", claim.subs(x_t, NOISED), LAW, path_scale_s * data_mean)
    distance = (claim.subs(x_t, NOISED) - path_scale_s * data_mean) ** 2
    yield Expectation("variance of x_s", distance, LAW, SPREAD_S)


WIDTH = (1 - flow_t) ** 2 * data_variance + flow_t**2
"""Variance of x_t on the rectified path."""
BEND = data_variance / WIDTH**2 * (x_t - (1 - flow_t) * data_mean)


@formula(
    "flow.curvature",
    title="the acceleration of the rectified flow of Gaussian data",
    lhs=sp.Symbol("acceleration", real=True),
    rhs=BEND,
    citations=("Liu2022",),
    reference="refdiff.flow:rectified_straightness",
    uses=("flow.gaussian_flow_map", "flow.rectified_velocity"),
    decoys=(
        Decoy("straight", sp.Integer(0), "discretization", "the flow of straight paths taken for straight"),
        Decoy("power", data_variance / WIDTH * (x_t - (1 - flow_t) * data_mean), "sqrt",
              "V where V² belongs"),
        Decoy("noise", BEND / data_variance, "variance", "independent of the data"),
    ),
)  # fmt: skip
def _curvature(claim: sp.Expr) -> Iterator[Step]:
    """The second derivative of the flow map, along its own trajectory. Each pair of data and noise moves on a
    straight line, yet the flow of the mean velocity does not: it bends wherever x_t is not at the mean,
    unless the data are a point. The error of one step of Euler's method is half of it times the square of the
    step."""
    unit = sp.Symbol("z", real=True)
    path = (1 - flow_t) * data_mean + sp.sqrt(WIDTH) * unit
    yield Identity("second derivative of the flow", sp.diff(path, flow_t, 2), claim.subs(x_t, path))
    ahead = path.subs(flow_t, flow_t + h) - path - h * GAUSSIAN_VELOCITY.subs(RECTIFIED).subs(x_t, path)
    yield Series("error of a step of Euler's method", ahead, h, 3, h**2 / 2 * claim.subs(x_t, path))
    scale = sp.diff(claim, x_t)
    yield Inequality("it bends", scale, ">", sp.Integer(0))
    yield Identity("a point mass", claim.subs(data_variance, 0), sp.Integer(0))


STRAIGHTNESS = (2 - sp.pi / 2) * sp.sqrt(data_variance)


@formula(
    "flow.straightness",
    title="straightness of the rectified flow of Gaussian data",
    lhs=sp.Symbol("S", nonnegative=True),
    rhs=STRAIGHTNESS,
    citations=("Liu2022",),
    reference="refdiff.flow:rectified_straightness",
    uses=("flow.gaussian_flow_map", "flow.curvature"),
    decoys=(
        Decoy("zero", sp.Integer(0), "discretization", "the flow of straight paths taken for straight"),
        Decoy("variance", (2 - sp.pi / 2) * data_variance, "sqrt", "the variance where its root belongs"),
        Decoy("of-pairs", (1 + data_variance), "variance",
              "the mean squared displacement of the pairs of training"),
    ),
)  # fmt: skip
def _straightness(claim: sp.Expr) -> Iterator[Step]:
    """A trajectory is (1−t)·m + √V·z, so S is the integral over time of ((√V)' − (1 − √c))², times E[z²] = 1;
    the mean drops out. ((√V)')² is 1 + c − c/V, with the antiderivative (1+c)·t − √c·arctan(((1+c)t − c)/√c).
    Since (√V)' integrates to 1 − √c, S is what is left of it: 1 + c − √c·π/2 − (1 − √c)². The angle is π/2
    because arctan y + arctan 1/y does not change with y and is π/2 at y = 1."""
    root = sp.Symbol("r", positive=True)
    width, total = WIDTH.subs(data_variance, root**2), 1 + root**2
    speed = sp.diff(sp.sqrt(width), flow_t)
    angle = sp.atan((total * flow_t - root**2) / root)
    antiderivative = total * flow_t - root * angle
    yield Identity("the square of the speed", sp.diff(antiderivative, flow_t), speed**2)
    ends = sp.atan(1 / root) + sp.atan(root)
    rise = antiderivative.subs(flow_t, 1) - antiderivative.subs(flow_t, 0)
    yield Identity("the angle at both ends", rise, total - root * ends)
    yield Identity("the angles add up to a constant", sp.diff(ends, root), sp.Integer(0))
    yield Identity("which is a right angle", ends.subs(root, 1), sp.pi / 2)
    straight = sp.sqrt(width).subs(flow_t, 1) - sp.sqrt(width).subs(flow_t, 0)
    yield Identity("the displacement", straight, 1 - root)
    left = total - root * sp.pi / 2 - (1 - root) ** 2
    yield Identity("what the displacement leaves", claim.subs(data_variance, root**2), left)


@formula(
    "flow.first_step",
    title="a step of Euler's method from pure noise goes to the mean of the data, whatever they are",
    lhs=x_s,
    rhs=flow_s * x_t + (1 - flow_s) * data_mean,
    citations=("Liu2022",),
    reference="refdiff.flow:euler_step",
    uses=("flow.rectified_velocity", "flow.marginal_velocity_many"),
    decoys=(
        Decoy("exchanged", (1 - flow_s) * x_t + flow_s * data_mean, "index", "1−s for s"),
        Decoy("centred", flow_s * x_t, "variance", "the mean of the data is 0"),
    ),
)  # fmt: skip
def _first_step(claim: sp.Expr) -> Iterator[Step]:
    """At time 1 x_t is the noise, which is independent of the data, so the mean velocity is x_t − E[x_0]. One
    step to the data makes every sample their mean: a sampler of one step without reflow has no variance."""
    yield Identity("Euler's step", x_t + (flow_s - 1) * (x_t - data_mean), claim)
    at_noise = {path_scale: 0, path_std: 1, path_scale_slope: -1, path_std_slope: 1}
    yield Identity("Gaussian data", GAUSSIAN_VELOCITY.subs(at_noise), x_t - data_mean)
    yield Identity("one step", claim.subs(flow_s, 0), data_mean)


SPREAD_ROOT = sp.sqrt(data_variance)
REFLOW_WIDTH = (1 - flow_t) * SPREAD_ROOT + flow_t
REFLOW = (1 - SPREAD_ROOT) / REFLOW_WIDTH * (x_t - (1 - flow_t) * data_mean) - data_mean


@formula(
    "flow.reflow_velocity",
    title="the velocity after one reflow of Gaussian data",
    lhs=velocity,
    rhs=REFLOW,
    citations=("Liu2022",),
    reference="refdiff.flow:reflow_velocity",
    uses=("flow.gaussian_flow_map", "flow.rectified_velocity"),
    decoys=(
        Decoy("first-flow", GAUSSIAN_VELOCITY.subs(RECTIFIED), "discretization",
              "the velocity before the reflow"),
        Decoy("variance", (1 - data_variance) / ((1 - flow_t) * data_variance + flow_t)
              * (x_t - (1 - flow_t) * data_mean) - data_mean, "sqrt", "variances where deviations belong"),
        Decoy("mean-kept", REFLOW + data_mean, "variance", "the mean does not move"),
    ),
)  # fmt: skip
def _reflow_velocity(claim: sp.Expr) -> Iterator[Step]:
    """The exact flow takes the noise z to m + √c·z, of the law of the data, so that is the new coupling. The
    new paths do not cross, since (1−t)√c + t > 0 makes x_t increase with z: the mean velocity given x_t is
    that of the one path there. It is constant along its trajectories: the flow is straight, and one step of
    Euler's method from the noise gives the data exactly."""
    data = data_mean + SPREAD_ROOT * z
    end = FLOW_MAP.subs({path_scale: 0, path_std: 1, path_scale_s: 1, path_std_s: 0}).subs(x_t, z)
    yield Identity("the end of the first flow", end, data)
    line = (1 - flow_t) * data + flow_t * z
    yield Inequality("the paths do not cross", sp.diff(line, z), ">", sp.Integer(0))
    yield Identity("the velocity of the path there", claim.subs(x_t, line), z - data)
    yield Identity("the flow follows it", sp.diff(line, flow_t), claim.subs(x_t, line))
    yield Identity("one Euler step is exact", z - claim.subs({x_t: z, flow_t: 1}), data)


TOTAL = S_0 + N
LEFT = Trace(S_0 * sp.Inverse(TOTAL) * N)


@formula(
    "flow.loss_constant_nd",
    title="what data plus noise leave of the noise, on Gaussian data of any dimension",
    lhs=sp.Symbol("L", nonnegative=True),
    rhs=LEFT,
    citations=("Lipman2023:thm2",),
    reference="refdiff.flow:loss_constant",
    uses=("flow.loss_constant", "flow.loss_weight_eps"),
    decoys=(
        Decoy("whole", Trace(N), "variance", "the variance of the noise without what x_t tells of it"),
        Decoy("of-noise", Trace(N * sp.Inverse(TOTAL) * N), "variance", "what x_t tells, not what it leaves"),
        Decoy("not-inverted", Trace(S_0 * TOTAL * N), "variance", "a covariance where a precision belongs"),
        Decoy("ratio-of-traces", Trace(S_0) * Trace(N) / Trace(TOTAL), "state-broadcast",
              "a ratio of traces where the trace of a ratio belongs"),
    ),
    mutate=False,  # matrices: the decoys are made by hand
)  # fmt: skip
def loss_constant_nd(claim: sp.Expr) -> Iterator[Step]:
    """x_t/a is the data plus the noise ω = (b/a)·ε of covariance N = (b/a)²·I. Given it, the mean noise is
    N(Σ+N)⁻¹(x_t/a − μ), and this is what is left of ω. An error of the velocity is W/b times that of ω, so
    the constant of the loss is W²/b² times this: the trace of W²·Σ(a²Σ + b²I)⁻¹. On a line it is the constant
    of one coordinate."""
    law = {X: (M_0, S_0), NOISE: (sp.ZeroMatrix(dim, 1), N)}
    missed = NOISE - N * sp.Inverse(TOTAL) * (X + NOISE - M_0)
    given = Given(symmetric=frozenset({S_0, N}))
    yield MatrixIdentity("mean over data and noise", square(missed), claim, given, law)
    ratio = path_std**2 / path_scale**2
    line = one_dimensional(claim, {S_0: data_variance, N: ratio})
    yield Identity("one dimension", line * DETERMINANT**2 / path_std**2, CONSTANT)
