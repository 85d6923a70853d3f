"""What does not fit the general pattern: sigmas, the posterior's variance, steps to data, zero terminal
SNR, float32."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from refdiff.oracle import diagnose, formulas
from refdiff.oracle.calls import Caller, TargetError, numbers
from refdiff.oracle.checks.affine import coefficients, outcome
from refdiff.oracle.checks.conduct import answered
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.compare import Comparison, compare
from refdiff.oracle.expected import ROUNDOFF, UNIT, Expected, expected, expected_variance
from refdiff.oracle.hypotheses import Case
from refdiff.oracle.points import Points
from refdiff.oracle.probe import MODES, level, probe
from refdiff.oracle.report import Diagnosis, agreement
from refdiff.oracle.session import Session

Array = NDArray[Any]


@check("sigmas.values")
def sigmas_values(session: Session) -> Finding:
    """The levels of x_0 + sigma noise are sqrt((1 - alpha_bar) / alpha_bar), all of them or a choice."""
    got = session.table("sigmas").values.numpy().astype(float)
    if got.ndim != 1 or len(got) == 0 or not np.isfinite(got).all():
        return fail("schedule", "not a list of finite numbers")
    inner = np.sort(got[got != 0])
    want = _sigma(session)
    unit = 64 * UNIT["float32"] * (1 + 1 / np.minimum(want[1:] ** 2, 1.0) + session.T)
    if len(inner) == session.T:
        error = np.abs(inner - want[1:]) / want[1:]
        worst = int(np.argmax(error / unit))
        fields: dict[str, Any] = {
            "error": float(error[worst]), "tolerance": float(unit[worst]), "worst": {"t": worst + 1},
            "got": float(inner[worst]), "wanted": float(want[worst + 1]),
            "asked": f"sigma of level {worst + 1}",
        }  # fmt: skip
        if (error <= unit).all():
            return Finding(True, **fields)
        return Finding(False, "", _not_sigma(session, inner, want), **fields)
    low, high = want[1], want[-1]
    slack = 1e-3
    if inner.min(initial=np.inf) < low * (1 - slack) or inner.max(initial=0.0) > high * (1 + slack):
        outside = float(inner[0] if inner[0] < low * (1 - slack) else inner[-1])
        return fail(
            "schedule",
            f"sigma = {outside:.6g} lies outside of {low:.6g}..{high:.6g}, the schedule's",
            got=outside,
        )
    return Finding(True, f"{len(inner)} levels inside the schedule's range")


def _sigma(session: Session) -> Array:
    log_abar = session.declared.log_abar
    return np.sqrt(np.expm1(-log_abar)).astype(float)


def _not_sigma(session: Session, got: Array, want: Array) -> Diagnosis:
    abar = np.exp(session.declared.log_abar[1:]).astype(float)
    beta = session.declared.beta[1:].astype(float)
    near = np.append(want[2:], want[-1])
    guesses: tuple[tuple[str, str, Array, tuple[str, ...]], ...] = (
        ("sqrt", "sigma², the root is missing", want[1:] ** 2, ("schedule",)),
        (
            "schedule",
            "sqrt(1 - alpha_bar): the standard deviation of x_t, not of x_t / sqrt(alpha_bar)",
            np.sqrt(1 - abar),
            ("parameterization",),
        ),
        ("sqrt", "1 - alpha_bar", 1 - abar, ("schedule",)),
        ("schedule", "the inverse of sigma", np.sort(1 / want[1:]), ("sign",)),
        ("schedule", "sqrt(beta)", np.sqrt(beta), ()),
        ("schedule", "(1 - alpha_bar) / sqrt(alpha_bar)", (1 - abar) / np.sqrt(abar), ("sqrt",)),
        ("schedule", "sqrt(1 - alpha_bar) / alpha_bar", np.sqrt(1 - abar) / abar, ("sqrt",)),
        (
            "schedule",
            "sqrt(1 / alpha_t - 1): alpha for alpha_bar",
            np.sort(np.sqrt(1 / (1 - beta) - 1)),
            ("index",),
        ),
        ("index", "shifted by one level", near, ("schedule",)),
        ("schedule", "log of sigma", np.sort(np.log(want[1:])), ()),
        (
            "precision",
            "alpha_bar is rounded to float16",
            np.sort(np.sqrt(1 / _low(abar, torch.float16) - 1)),
            (),
        ),
        (
            "precision",
            "alpha_bar is rounded to bfloat16",
            np.sort(np.sqrt(1 / _low(abar, torch.bfloat16) - 1)),
            (),
        ),
        ("precision", "rounded to float16", _low(want[1:], torch.float16), ()),
        ("precision", "rounded to bfloat16", _low(want[1:], torch.bfloat16), ()),
    )
    for family, words, table, also in guesses:
        with np.errstate(all="ignore"):
            if len(table) == len(got) and np.nanmax(np.abs(got - table) / np.abs(table)) < 1e-4:
                return Diagnosis(family, words, also=also)
    ratio = got / want[1:]
    if np.ptp(ratio) < 1e-4 * ratio.max():
        return Diagnosis("schedule", f"the right ones times {ratio.mean():.8g}")
    family = "precision" if np.max(np.abs(ratio - 1)) < 1e-2 else "schedule"
    return Diagnosis(
        family, f"no known mistake fits: off by up to {np.max(np.abs(ratio - 1)):.3g} (relative)"
    )


def _low(values: Array, kind: torch.dtype) -> Array:
    with np.errstate(all="ignore"):
        return torch.as_tensor(values.copy()).to(kind).double().numpy()


@check("sigmas.monotone")
def sigmas_monotone(session: Session) -> Finding:
    """Levels rise or fall strictly, and are not negative."""
    got = session.table("sigmas").values.numpy().astype(float)
    if got.ndim != 1:
        return fail("state-broadcast", f"shape {got.shape}, wanted one dimension")
    if (got < 0).any():
        return fail("schedule", f"a negative sigma: {got[got < 0][0]:g}", also=("sign",))
    step = np.diff(got)
    if (step > 0).all() or (step < 0).all():
        return Finding(True)
    flat = np.flatnonzero(step == 0)
    if len(flat) and flat[-1] == len(step) - 1:
        return fail(
            "schedule", f"ends with {got[-1]:g} twice: the last level is not 0", also=("noise-at-t0",)
        )
    return fail("schedule", "neither rising nor falling strictly", also=("index",))


def variances(session: Session) -> tuple[Points, Array, Array]:
    """The variance that ``q_posterior`` answers at its points, and which points have one."""
    return session.once("variances", lambda: _variances(session))  # type: ignore[no-any-return]


def _variances(session: Session) -> tuple[Points, Array, Array]:
    found = answered(session, "q_posterior")
    values = np.full(len(found.points), np.nan)
    usable = np.zeros(len(found.points), dtype=bool)
    groups = (
        [np.arange(len(values))] if found.mode == MODES[0] else [np.array([i]) for i in range(len(values))]
    )
    for group in groups:
        count = 2 if found.mode != MODES[0] else 1
        t = level(session.dialect.index_origin, np.repeat(found.points.t[group], count), found.mode)
        x = torch.ones(len(group) * count, *found.layout, dtype=torch.float64)
        if found.mode == MODES[0] and found.errors:
            continue
        try:
            call = session.caller("q_posterior", {"x0": x, "x_t": x, "t": t})
        except TargetError:
            continue
        values[group] = _variance_of(call.value, tuple(x.shape))[::count]
        usable[group] = True
    return found.points, values, usable


def _variance_of(value: Any, shape: tuple[int, ...]) -> Array:
    if not isinstance(value, (tuple, list)) or len(value) < 2:
        raise TargetError("type", f"answered with {type(value).__name__}, wanted a pair (mean, variance)")
    found = numbers(value[1]).values
    try:
        wide = torch.broadcast_to(found, shape)
    except RuntimeError:
        message = f"variance of shape {tuple(found.shape)} does not broadcast to {shape}"
        raise TargetError("shape", message, "state-broadcast") from None
    flat = wide.reshape(shape[0], -1).numpy()
    if bool((np.nan_to_num(flat) != np.nan_to_num(flat[:, :1])).any()):
        raise TargetError(
            "shape", "the variance differs between the dimensions of a sample", "state-broadcast"
        )
    return np.asarray(flat[:, 0])


def _itself(values: Array, want: Expected) -> tuple[Array, Expected]:
    return values, want


@check("q_posterior.variance")
def posterior_variance(session: Session) -> Finding:
    """The variance is beta_tilde_t."""
    points, values, usable = variances(session)
    first: tuple[Expected, Comparison] | None = None
    for source, table in session.candidates.items():
        want = expected_variance(session.dialect, table, points)
        scan = partial(_itself, values[None, :], want)
        decided = compare(values[None, :], want, usable, session.dialect, scan)
        first = first or (want, decided)
        if decided.ok:
            message = (
                ""
                if source == "declared"
                else f"with the target's own {source}, which are not the declared ones"
            )
            figures: dict[str, Any] = {"error": decided.error, "tolerance": decided.tolerance}
            return Finding(True, message, precision=decided.precision, **figures)
    assert first is not None
    want, decided = first
    got, wanted = float(values[decided.point]), float(want.values[0, decided.point])
    digits, ulps = agreement(got, wanted, ROUNDOFF)
    programs = formulas.variance_programs(session.dialect)
    case = Case(
        "q_posterior.variance",
        session.dialect,
        session.declared,
        points,
        values[None, :],
        want,
        usable,
        programs,
    )
    diagnosis = diagnose.tiny(case) if decided.systematic else diagnose.budgeted(session, case)
    return Finding(
        False, "", diagnosis, decided.error, decided.tolerance, points.describe(decided.point),
        f"variance of q_posterior at t={points.t[decided.point]}", got, wanted, digits, ulps,
    )  # fmt: skip


@check("ddpm_step.last_step_noise")
def ddpm_last(session: Session) -> Finding:
    """The step to data adds no noise."""
    return last_noise(session, "ddpm_step")


@check("ddim_step.last_step_noise")
def ddim_last(session: Session) -> Finding:
    """A step to data adds no noise, whatever eta."""
    return last_noise(session, "ddim_step")


def last_noise(session: Session, name: str) -> Finding:
    """No noise where s = 0."""
    if session.dialect.alpha_bar_0 != "one" and name == "ddim_step":
        raise NotApplicable("alpha_bar_1 stands for alpha_bar_0, as declared")
    found = answered(session, name)
    noise = np.abs(found.values[found.states.index("z")])
    at_data = (found.points.s == 0) & found.answered & np.isfinite(noise)
    if not at_data.any():
        raise NotApplicable("no step to data was answered")
    worst = int(np.argmax(np.where(at_data, noise, -1.0)))
    size = float(noise[worst])
    scale = 1e-6 if session.dialect.dtype == "float32" or found.dtype == "float32" else 1e-9
    if size > scale:
        message = f"noise is added in a step that ends at data (coefficient {size:.3g})"
        return fail("noise-at-t0", message, worst=found.points.describe(worst), got=size, wanted=0.0)
    return Finding(True)


@check("ddpm_step.variance")
def ddpm_variance(session: Session) -> Finding:
    """The variance that a step adds is the declared one."""
    return added_variance(session, "ddpm_step")


@check("ddim_step.variance")
def ddim_variance(session: Session) -> Finding:
    """The variance that a step adds is eta² beta_tilde."""
    return added_variance(session, "ddim_step")


def added_variance(session: Session, name: str) -> Finding:
    """The square of the noise's coefficient, in steps that do not end at data."""
    _, found, want, decided = outcome(session, name)
    if decided.ok:
        return Finding(True)
    row = found.states.index("z")
    got, wanted = found.values[row] ** 2, want.values[row].astype(float) ** 2
    slack = 2 * np.abs(want.values[row]) * want.tolerance(UNIT["float32"])[row]
    wrong = found.answered & (found.points.s > 0) & np.isfinite(wanted) & ~(np.abs(got - wanted) <= slack)
    if not wrong.any():
        return Finding(True)
    known = session.cache.get(("finding", f"{name}.coefficients"))
    cause = (known or coefficients(session, name)).diagnosis
    index = int(np.argmax(wrong))
    fields: dict[str, Any] = {
        "worst": found.points.describe(index), "got": float(got[index]), "wanted": float(wanted[index]),
        "asked": f"variance that {name} adds",
    }  # fmt: skip
    if cause is not None and cause.family != "sqrt":
        words = f"follows from {name}.coefficients: {cause.message}"
        return fail(cause.family, words, dialect=cause.dialect, also=cause.also, **fields)
    return fail("variance", "the variance of the noise is not the step's", also=("sqrt",), **fields)


@check("guided_mean.guidance")
def guidance(session: Session) -> Finding:
    """The gradient moves the mean by scale times the variance, and nothing else depends on the scale."""
    _, found, want, decided = outcome(session, "guided_mean")
    if decided.ok:
        return Finding(True)
    tolerance = want.tolerance(UNIT["float32"]).astype(float)
    wrong = (
        found.answered
        & np.isfinite(want.values).all(0)
        & ~(np.abs(found.values - want.values.astype(float)) <= tolerance)
    )
    unscaled = found.points.scalars["scale"] == 0
    row = found.states.index("g")
    mean = np.delete(wrong, row, 0)
    if not wrong[row].any() and (mean[:, unscaled].any() or not mean.any()):
        return Finding(True, "the mean is wrong, not its shift")
    if not wrong[row].any():
        return fail("guidance", "the scale changes the mean beside the gradient's shift")
    index = int(np.argmax(wrong[row]))
    got, wanted = float(found.values[row, index]), float(want.values[row, index])
    words = (
        "the gradient is ignored"
        if not np.nan_to_num(found.values[row]).any()
        else "the gradient's coefficient is wrong"
    )
    return fail("guidance", words, worst=found.points.describe(index), got=got, wanted=wanted)


@check("ddim_step.to_data")
def to_data(session: Session) -> Finding:
    """A step that ends at data answers the predicted x_0: no noise is left in it."""
    if session.dialect.alpha_bar_0 != "one":
        raise NotApplicable("alpha_bar_1 stands for alpha_bar_0, as declared")
    _, found, want, decided = outcome(session, "ddim_step")
    wrong = decided.failing & found.answered
    at_data = found.points.s == 0
    if decided.ok or not wrong.any() or (wrong & ~at_data).any() or not wrong[at_data].any():
        return Finding(True)
    index = int(np.flatnonzero(wrong)[0])
    gap = float(found.values[found.states.index("e"), index] - want.values[want.states.index("e"), index])
    return fail(
        "noise-at-t0",
        f"noise is left where a step ends at data: the output keeps {gap:.3g} of the model's eps beside x_0",
        worst=found.points.describe(index),
        also=("index",),
    )


def zero_snr(session: Session, name: str) -> Finding:
    """At a level without signal, eps tells nothing about data: the call is refused, or at least finite."""
    if np.isfinite(session.declared.log_abar[-1]):
        raise NotApplicable("the schedule keeps some signal at T")
    port = formulas.PORTS[name]
    # the ends of the first of n steps: a difference that may be rounded below 0 is so at about half of them
    strides = [session.T // n for n in range(1, 25) if n <= session.T] if port.two_levels else []
    ends = np.unique(session.T - np.array([1, *strides]))
    points = session.with_scalars(name, Points(np.full(len(ends), session.T), ends, {}))
    found = probe(session.caller, port, points)
    points = found.points
    wrong = ~np.isfinite(found.values).all(0) & found.answered
    if not wrong.any():
        refused = f"refused: {next(iter(found.errors.values()))}" if found.errors else "finite"
        return Finding(True, refused)
    index = int(np.flatnonzero(wrong)[0])
    if session.dialect.parameterization == "eps" or name == "predict_x0":
        words = "eps-prediction divides by sqrt(alpha_bar_T) = 0 and answers with inf or NaN"
        return fail("parameterization", words, worst=points.describe(index))
    words = "a step from the level without signal answers inf or NaN, where the formula is finite"
    if {"eta"} <= set(points.scalars) and not wrong[points.scalars["eta"] < 1].any():
        words += ": with eta = 1 the root of 1 - alpha_bar_s - sigma^2 = 0 is taken of a rounding below 0"
    return fail("precision", words, worst=points.describe(index), also=("variance", "parameterization"))


def dtype_ladder(session: Session, name: str) -> Finding:
    """float32 in gives what float64 in gives, as well as float32 can."""
    if session.dialect.backend != "torch" or session.dialect.dtype != "float64":
        raise NotApplicable("asked of torch targets that work in float64")
    full = answered(session, name)
    index = np.flatnonzero(full.answered)[:: max(1, len(full.points) // 12)]
    points = full.points.pick(index)
    single = Caller(session.target, session.dialect.but(dtype="float32"), session.caller.limits)
    part = {"part": 0} if name == "q_posterior" else {}
    found = probe(single, formulas.PORTS[name], points, batched=full.mode == MODES[0], **part)
    if found.errors:
        error = next(iter(found.errors.values()))
        return Finding(True, f"float32 is not taken: {error}")
    want = expected(formulas.PORTS[name], session.dialect, session.declared, points)
    tolerance = want.tolerance(UNIT["float32"]).astype(float)
    gap = np.abs(found.values - full.values[:, index])
    bad = np.isfinite(full.values[:, index]) & ~(
        gap <= tolerance + 16 * UNIT["float32"] * np.abs(full.values[:, index])
    )
    if bad.any():
        row, point = (int(i[0]) for i in np.nonzero(bad))
        fields: dict[str, Any] = {
            "worst": points.describe(point),
            "error": float(gap[row, point]),
            "tolerance": float(tolerance[row, point]),
        }
        return fail(
            "precision", f"float32 states get less than float32 precision ({found.dtype} out)", **fields
        )
    return Finding(True, f"float32 in, {found.dtype} out")


for _name in ("predict_x0", "ddpm_step", "ddim_step"):
    check(f"{_name}.zero_snr", _name)(partial(zero_snr, name=_name))
for _name in formulas.PORTS:
    check(f"{_name}.dtype_ladder", _name)(partial(dtype_ladder, name=_name))
