"""Time of a flow: direction, shift, grids, logit-normal times and loss weights. Part of the topic ``flow``.

λ is half of the log signal-to-noise ratio; on the rectified path it is log((1−t)/t), minus the log-odds of t.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations.flow import DETERMINANT, TARGET
from derivations.flow_conversions import FROM_EPS, FROM_SCORE, FROM_X_0, RECTIFIED
from derivations.kit import Decoy, Identity, Inequality, Step, formula
from derivations.symbols import (
    base_pixels,
    eps,
    flow_t,
    intervals,
    lambda_t,
    log_shift,
    logit_mean,
    logit_std,
    other_shift,
    path_scale,
    path_scale_slope,
    path_std,
    path_std_slope,
    pixels,
    score,
    shift_power,
    time_density,
    time_shift,
    v,
    velocity,
    visited_time,
    x,
    x_0,
    x_t,
)

SHIFTING = "diffusers PR#14011"
DIRECTION = "lucidrains/rectified-flow-pytorch #14"


def odds(time: sp.Expr) -> sp.Expr:
    """Noise over signal of the rectified path."""
    return time / (1 - time)


@formula(
    "flow.reversed_velocity",
    title="the velocity by the time that runs from noise to data",
    lhs=velocity,
    rhs=-TARGET,
    citations=("Lipman2023:10", "conventions:Flow matching"),
    reference="refdiff.flow:conditional_velocity",
    uses=("flow.conditional_velocity",),
    decoys=(
        Decoy("not-turned", TARGET, "sign", "the time is turned, the velocity is not", DIRECTION),
        Decoy("noise-turned", path_scale_slope * x_0 - path_std_slope * eps, "sign",
              "the noise's part alone"),
        Decoy("data-turned", -path_scale_slope * x_0 + path_std_slope * eps, "sign",
              "the data's part alone"),
    ),
)  # fmt: skip
def _reversed_velocity(claim: sp.Expr) -> Iterator[Step]:
    """With r = 1−t the path is a(1−r)·x_0 + b(1−r)·ε; the chain rule turns the sign of the velocity at the
    same state. On the rectified path it is x_0 − ε: neither sign is wrong, but target and integrator must
    agree."""
    r, at = sp.Symbol("r", positive=True), sp.Dummy("t")
    scale, std = (sp.Function(name, positive=True) for name in ("a", "b"))
    slopes = (sp.Subs(sp.Derivative(f(at), at), at, 1 - r) for f in (scale, std))
    known = dict(zip((path_scale_slope, path_std_slope), slopes, strict=True))
    path = scale(1 - r) * x_0 + std(1 - r) * eps
    yield Identity("chain rule", sp.diff(path, r), claim.subs(known))
    yield Identity("the rectified path", claim.subs(RECTIFIED), x_0 - eps)


SHIFT = time_shift * flow_t / (1 + (time_shift - 1) * flow_t)


@formula(
    "flow.shift",
    title="the time shift of SD3 and Flux",
    lhs=flow_t,
    rhs=SHIFT,
    citations=("Esser2024:§5.3.2", "conventions:Flow matching"),
    reference="refdiff.flow:shift_time",
    decoys=(
        Decoy("inverse", flow_t / (time_shift - (time_shift - 1) * flow_t), "schedule",
              "the inverse shift: more steps at low noise"),
        Decoy("other-end", 1 - time_shift * (1 - flow_t) / (1 + (time_shift - 1) * (1 - flow_t)), "index",
              "the shift applied to 1−t, the time counted from the noise"),
        Decoy("product", time_shift * flow_t, "schedule", "without the denominator: time runs past 1"),
        Decoy("not-shifted", flow_t, "schedule",
              "the time that the network is given is not shifted", SHIFTING),
        Decoy("plus", time_shift * flow_t / (1 + (time_shift + 1) * flow_t), "sign", "s + 1 for s − 1"),
    ),
)  # fmt: skip
def _shift(claim: sp.Expr) -> Iterator[Step]:
    """The time at which noise over signal is s times as large: the noise level σ = t/(1−t) is multiplied, and
    there is one such time. The ends stay."""
    yield Identity("noise over signal is multiplied", odds(claim), time_shift * odds(flow_t))
    yield Identity("data", claim.subs(flow_t, 0), sp.Integer(0))
    yield Identity("noise", claim.subs(flow_t, 1), sp.Integer(1))
    yield Inequality("time keeps its order", sp.diff(claim, flow_t), ">", sp.Integer(0))


@formula(
    "flow.shift_log_snr",
    title="a time shift is a shift of the half-log signal-to-noise ratio",
    lhs=lambda_t,
    rhs=sp.log((1 - flow_t) / flow_t) - sp.log(time_shift),
    citations=("Esser2024:§5.3.2",),
    reference="refdiff.flow:shift_time",
    uses=("flow.shift",),
    decoys=(
        Decoy("up", sp.log((1 - flow_t) / flow_t) + sp.log(time_shift), "sign",
              "towards the data: the inverse shift"),
        Decoy("twice", sp.log((1 - flow_t) / flow_t) - 2 * sp.log(time_shift), "schedule",
              "the shift of the whole log-ratio"),
    ),
)  # fmt: skip
def _shift_log_snr(claim: sp.Expr) -> Iterator[Step]:
    """λ' = λ − log s: the same amount at every time."""
    yield Identity("λ at the shifted time", sp.log((1 - SHIFT) / SHIFT), claim)


@formula(
    "flow.shift_inverse",
    title="the inverse of a time shift is the shift by 1/s",
    lhs=flow_t,
    rhs=flow_t / (time_shift - (time_shift - 1) * flow_t),
    citations=("Esser2024:§5.3.2",),
    reference="refdiff.flow:unshift_time",
    uses=("flow.shift",),
    decoys=(
        Decoy("forward", SHIFT, "schedule", "the shift itself"),
        Decoy("reciprocal", (1 + (time_shift - 1) * flow_t) / time_shift, "schedule",
              "one over the factor of t"),
    ),
)  # fmt: skip
def _shift_inverse(claim: sp.Expr) -> Iterator[Step]:
    """Solved for t, and the same as the shift by 1/s."""
    yield Identity("there and back", claim.subs(flow_t, SHIFT), flow_t)
    yield Identity("the shift by 1/s", claim, SHIFT.subs(time_shift, 1 / time_shift))


@formula(
    "flow.shift_composition",
    title="a shift after a shift is the shift by the product",
    lhs=flow_t,
    rhs=SHIFT.subs(time_shift, time_shift * other_shift),
    citations=("Esser2024:§5.3.2",),
    reference="refdiff.flow:shift_time",
    uses=("flow.shift",),
    decoys=(
        Decoy("sum", SHIFT.subs(time_shift, time_shift + other_shift), "schedule", "the sum of the shifts"),
        Decoy("last", SHIFT, "schedule", "the second shift alone"),
    ),
)  # fmt: skip
def _shift_composition(claim: sp.Expr) -> Iterator[Step]:
    """The shifts form a group: that of the positive numbers, since σ is multiplied."""
    yield Identity("one after the other", SHIFT.subs(flow_t, SHIFT.subs(time_shift, other_shift)), claim)


@formula(
    "flow.shift_slope",
    title="the slope of the shifted time",
    lhs=sp.Symbol("time_slope", positive=True),
    rhs=time_shift / (1 + (time_shift - 1) * flow_t) ** 2,
    citations=("Esser2024:§5.3.2",),
    reference="refdiff.flow:shift_slope",
    uses=("flow.shift",),
    decoys=(
        Decoy("not-squared", time_shift / (1 + (time_shift - 1) * flow_t), "sqrt",
              "the denominator without its square"),
        Decoy("ratio", SHIFT / flow_t**2, "schedule", "the ratio of the times"),
    ),
)  # fmt: skip
def _shift_slope(claim: sp.Expr) -> Iterator[Step]:
    """Uniform times have after the shift the density of one over it, which is s at the noise and 1/s at the
    data."""
    yield Identity("derivative", sp.diff(SHIFT, flow_t), claim)
    yield Identity("at the data", claim.subs(flow_t, 0), time_shift)
    yield Identity("at the noise", claim.subs(flow_t, 1), 1 / time_shift)


EXPONENTIAL = sp.exp(log_shift) / (sp.exp(log_shift) + (1 / flow_t - 1) ** shift_power)


@formula(
    "flow.shift_exponential",
    title="Flux's dynamic shift",
    lhs=flow_t,
    rhs=EXPONENTIAL,
    citations=("conventions:Flow matching",),
    reference="refdiff.flow:shift_time_exponential",
    uses=("flow.shift",),
    decoys=(
        Decoy("other-end", sp.exp(log_shift) / (sp.exp(log_shift) + odds(flow_t) ** shift_power), "index",
              "the odds of t for those of 1−t"),
        Decoy("inverse", 1 / (1 + sp.exp(log_shift) * (1 / flow_t - 1) ** shift_power), "schedule",
              "the shift by exp(−μ)"),
        Decoy("linear", log_shift / (log_shift + (1 / flow_t - 1) ** shift_power), "schedule",
              "μ taken for the shift, not for its log"),
    ),
)  # fmt: skip
def _shift_exponential(claim: sp.Expr) -> Iterator[Step]:
    """Noise over signal is raised to the power p and multiplied by e^μ; so λ' = p·λ − μ. With p = 1 it is the
    shift by e^μ."""
    yield Identity("noise over signal", odds(claim), sp.exp(log_shift) * (1 / flow_t - 1) ** (-shift_power))
    yield Identity("one power", claim.subs(shift_power, 1), SHIFT.subs(time_shift, sp.exp(log_shift)))


@formula(
    "flow.resolution_shift",
    title="the shift that keeps an image of more pixels as uncertain",
    lhs=time_shift,
    rhs=sp.sqrt(pixels / base_pixels),
    citations=("Esser2024:§5.3.2", "Hoogeboom2023"),
    reference="refdiff.flow:resolution_shift",
    uses=("flow.shift",),
    decoys=(
        Decoy("ratio", pixels / base_pixels, "sqrt", "the ratio of the pixels where its root belongs"),
        Decoy("inverse", sp.sqrt(base_pixels / pixels), "schedule", "less noise on the larger image"),
    ),
)  # fmt: skip
def _resolution_shift(claim: sp.Expr) -> Iterator[Step]:
    """A constant image of n pixels is told by their mean over the scale, whose variance is σ²/n. It is the
    same on both images if σ is multiplied by the shift; and the shift is positive."""
    variance, base = (claim * odds(flow_t)) ** 2 / pixels, odds(flow_t) ** 2 / base_pixels
    yield Identity("the same uncertainty", variance, base)
    yield Inequality("the positive root", claim, ">", sp.Integer(0))


LEFT = 1 - visited_time / intervals
GRID = SHIFT.subs(flow_t, LEFT)


@formula(
    "flow.shifted_grid",
    title="the times that a sampler of N steps visits",
    lhs=sp.Symbol("t_i", nonnegative=True),
    rhs=GRID,
    citations=("Esser2024:§5.3.2",),
    reference="refdiff.flow:times",
    uses=("flow.shift",),
    assumptions=(sp.Lt(visited_time, intervals),),
    decoys=(
        Decoy("not-shifted", LEFT, "schedule",
              "the times of the network are not shifted while those of the integrator are", SHIFTING),
        Decoy("counts-for-intervals", SHIFT.subs(flow_t, 1 - visited_time / (intervals + 1)),
              "discretization", "N + 1 times counted as intervals: the data are not reached", DIRECTION),
        Decoy("ascending", SHIFT.subs(flow_t, visited_time / intervals), "index",
              "from the data to the noise"),
        Decoy("shifted-back", LEFT / (time_shift - (time_shift - 1) * LEFT), "schedule", "the inverse shift"),
        Decoy("other-end", 1 - SHIFT.subs(flow_t, visited_time / intervals), "index",
              "the shift applied to the time counted from the noise"),
    ),
)  # fmt: skip
def _shifted_grid(claim: sp.Expr) -> Iterator[Step]:
    """Equal steps of the time before the shift, whose noise level is then multiplied. The first time is pure
    noise, the last, after N steps, is the data; the differences of these times are the steps of Euler's
    method, and these are the times that the network is given."""
    yield Identity("the level of an equal grid, multiplied", odds(claim), time_shift * odds(LEFT))
    yield Identity("starts at the noise", claim.subs(visited_time, 0), sp.Integer(1))
    yield Identity("ends at the data", claim.subs(visited_time, intervals), sp.Integer(0))


LOGIT = sp.log(flow_t / (1 - flow_t))
LOGIT_NORMAL = sp.exp(-((LOGIT - logit_mean) ** 2) / (2 * logit_std**2)) / (
    logit_std * sp.sqrt(2 * sp.pi) * flow_t * (1 - flow_t)
)


@formula(
    "flow.logit_normal",
    title="the density of logit-normal times",
    lhs=time_density,
    rhs=LOGIT_NORMAL,
    citations=("Esser2024:§3.1",),
    reference="refdiff.flow:logit_normal_density",
    decoys=(
        Decoy("no-jacobian", LOGIT_NORMAL * flow_t * (1 - flow_t), "likelihood",
              "the density of the log-odds: the change of variables is missing"),
        Decoy("variance-for-std", LOGIT_NORMAL / logit_std, "sqrt", "divided by the variance"),
        Decoy("log-normal", LOGIT_NORMAL.subs(LOGIT, sp.log(flow_t)), "likelihood", "log t for the log-odds"),
        Decoy("turned", LOGIT_NORMAL.subs(logit_mean, -logit_mean), "index",
              "the mean of the other direction of time"),
    ),
)  # fmt: skip
def _logit_normal(claim: sp.Expr) -> Iterator[Step]:
    """The log-odds of time are normal: their density times the derivative of the log-odds."""
    normal = sp.exp(-((LOGIT - logit_mean) ** 2) / (2 * logit_std**2)) / (logit_std * sp.sqrt(2 * sp.pi))
    yield Identity("change of variables", claim, normal * sp.diff(LOGIT, flow_t))


@formula(
    "flow.logit_normal_shift",
    title="a shift moves the mean of logit-normal times by the log of the shift",
    lhs=logit_mean,
    rhs=logit_mean + sp.log(time_shift),
    citations=("Esser2024:§5.3.2",),
    reference="refdiff.flow:logit_normal_density",
    uses=("flow.shift", "flow.logit_normal"),
    decoys=(
        Decoy("down", logit_mean - sp.log(time_shift), "sign", "the inverse shift"),
        Decoy("factor", logit_mean * time_shift, "schedule", "the shift itself, as a factor"),
    ),
)  # fmt: skip
def _logit_normal_shift(claim: sp.Expr) -> Iterator[Step]:
    """The log-odds of a shifted time are those of the time plus log s, so their law keeps its deviation. So
    training at shifted logit-normal times is training at others."""
    shifted = sp.log(SHIFT / (1 - SHIFT)) - sp.log(flow_t / (1 - flow_t))
    yield Identity("the log-odds", logit_mean + shifted, claim)


ERROR = sp.Symbol("w", nonnegative=True)
SIZE = path_scale**2 + path_std**2


@formula(
    "flow.loss_weight_eps",
    title="weight of the squared error of the noise in that of the velocity",
    lhs=ERROR,
    rhs=DETERMINANT**2 / path_scale**2,
    citations=("Esser2024:§2", "Kingma2023"),
    reference="refdiff.flow:loss_weight",
    uses=("flow.velocity_from_eps",),
    decoys=(
        Decoy("one", sp.Integer(1), "loss-weight", "the errors taken for equal"),
        Decoy("slope-of-std", path_std_slope**2, "loss-weight", "the factor of the noise in the target"),
        Decoy("not-squared", DETERMINANT / path_scale, "sqrt",
              "the factor of the error for that of its square"),
    ),
)  # fmt: skip
def _loss_weight_eps(claim: sp.Expr) -> Iterator[Step]:
    """x_t is given, so an error of the noise is one of the velocity, W/a times as large. It is 1/(1−t)² on
    the rectified path."""
    yield Identity("square of the factor", sp.diff(FROM_EPS, eps) ** 2, claim)
    yield Identity("the rectified path", claim.subs(RECTIFIED), (1 - flow_t) ** (-2))


@formula(
    "flow.loss_weight_x_0",
    title="weight of the squared error of the data in that of the velocity",
    lhs=ERROR,
    rhs=DETERMINANT**2 / path_std**2,
    citations=("Kingma2023",),
    reference="refdiff.flow:loss_weight",
    uses=("flow.velocity_from_x_0",),
    decoys=(
        Decoy("one", sp.Integer(1), "loss-weight", "the errors taken for equal"),
        Decoy("slope-of-scale", path_scale_slope**2, "loss-weight", "the factor of the data in the target"),
    ),
)  # fmt: skip
def _loss_weight_x_0(claim: sp.Expr) -> Iterator[Step]:
    """An error of the data is one of the velocity, W/b times as large. It is 1/t² on the rectified path."""
    yield Identity("square of the factor", sp.diff(FROM_X_0, x_0) ** 2, claim)
    yield Identity("the rectified path", claim.subs(RECTIFIED), flow_t ** (-2))


@formula(
    "flow.loss_weight_v",
    title="weight of the squared error of the angular velocity in that of the velocity",
    lhs=ERROR,
    rhs=DETERMINANT**2 / SIZE,
    citations=("Salimans2022:§D", "Kingma2023"),
    reference="refdiff.flow:loss_weight",
    uses=("flow.conditional_velocity", "flow.loss_weight_eps"),
    decoys=(
        Decoy("one", sp.Integer(1), "loss-weight", "v taken for the velocity"),
        Decoy("size-squared", DETERMINANT**2 / SIZE**2, "sqrt", "a² + b² where its root belongs"),
    ),
)  # fmt: skip
def _loss_weight_v(claim: sp.Expr) -> Iterator[Step]:
    """v = (a·ε − b·x_0)/√(a²+b²) is the angular velocity of x_t/√(a²+b²). Data and noise in terms of x_t and
    v, put into the target, give the factor W/√(a²+b²). On the circle it is π/2 at every time, so there both
    losses are one; on the rectified path the weight 1/((1−t)² + t²) favours the middle."""
    size = sp.sqrt(SIZE)
    data = (path_scale * x_t - path_std * size * v) / SIZE
    noise = (path_std * x_t + path_scale * size * v) / SIZE
    yield Identity("x_t", path_scale * data + path_std * noise, x_t)
    yield Identity("v", (path_scale * noise - path_std * data) / size, v)
    yield Identity("square of the factor", sp.diff(TARGET.subs({x_0: data, eps: noise}), v) ** 2, claim)
    angle = sp.pi * flow_t / 2
    slopes = {path_scale_slope: -sp.pi / 2 * sp.sin(angle), path_std_slope: sp.pi / 2 * sp.cos(angle)}
    circle = {path_scale: sp.cos(angle), path_std: sp.sin(angle), **slopes}
    yield Identity("the circle", claim.subs(circle), sp.pi**2 / 4)


@formula(
    "flow.loss_weight_score",
    title="weight of the squared error of the score in that of the velocity",
    lhs=ERROR,
    rhs=DETERMINANT**2 * path_std**2 / path_scale**2,
    citations=("Kingma2023",),
    reference="refdiff.flow:loss_weight",
    uses=("flow.velocity_from_score",),
    decoys=(
        Decoy("diffusion", DETERMINANT * path_std / path_scale, "sqrt", "½g² where its square belongs"),
        Decoy("noise", DETERMINANT**2 / path_scale**2, "loss-weight", "the weight of the noise"),
    ),
)  # fmt: skip
def _loss_weight_score(claim: sp.Expr) -> Iterator[Step]:
    """An error of the score is one of the velocity, ½g² = W·b/a times as large."""
    yield Identity("square of the factor", sp.diff(FROM_SCORE, score) ** 2, claim)


@formula(
    "flow.log_snr_weight",
    title="what training a velocity weighs the squared error of the noise, per unit of λ, on any path",
    lhs=ERROR,
    rhs=time_density * DETERMINANT * path_std / path_scale,
    citations=("Esser2024:§2", "Kingma2023"),
    reference="refdiff.flow:loss_weight",
    uses=("flow.loss_weight_eps", "flow.determinant"),
    decoys=(
        Decoy("per-time", time_density * DETERMINANT**2 / path_scale**2, "loss-weight",
              "the weight per unit of time"),
        Decoy("velocity", time_density, "loss-weight", "the density of the times alone"),
    ),
)  # fmt: skip
def _log_snr_weight(claim: sp.Expr) -> Iterator[Step]:
    """Times of density π and the weight (W/a)² make ∫ π·(W/a)²·|Δε|² dt. With dλ = −W/(a·b) dt it is an
    integral over λ of |Δε|² with the weight π·W·b/a = π·½g². Losses that agree in it, whatever path and
    density made it, are one loss."""
    speed = DETERMINANT / (path_scale * path_std)
    yield Identity("change of variables", time_density * DETERMINANT**2 / path_scale**2, claim * speed)


@formula(
    "flow.rectified_log_snr_weight",
    title="what training a rectified velocity weighs the squared error of the noise, per unit of λ",
    lhs=ERROR,
    rhs=flow_t / (1 - flow_t) * time_density,
    citations=("Esser2024:§3.1", "Kingma2023"),
    reference="refdiff.flow:eps_loss_weight",
    uses=("flow.log_snr_weight",),
    decoys=(
        Decoy("signal", (1 - flow_t) / flow_t * time_density, "index", "signal over noise"),
        Decoy("per-time", time_density / (1 - flow_t) ** 2, "loss-weight", "the weight per unit of time"),
        Decoy("no-density", flow_t / (1 - flow_t), "loss-weight", "uniform times"),
    ),
)  # fmt: skip
def _rectified_log_snr_weight(claim: sp.Expr) -> Iterator[Step]:
    """W = 1, so it is π·t/(1−t); with uniform times e^(−λ). Logit-normal times have normal λ, and then the
    weight is the normal density of λ times (1 + e^(−λ))²."""
    general = time_density * DETERMINANT * path_std / path_scale
    yield Identity("the rule of every path", claim, general.subs(RECTIFIED))
    uniform = claim.subs({time_density: 1, flow_t: 1 / (1 + sp.exp(x))})
    yield Identity("uniform times", uniform, sp.exp(-x))
    normal = LOGIT_NORMAL * flow_t * (1 - flow_t)
    weighed = claim.subs(time_density, LOGIT_NORMAL)
    yield Identity("logit-normal times", weighed, normal * (1 + odds(flow_t)) ** 2)
