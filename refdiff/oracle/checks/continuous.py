"""The marginal kernel of a continuous process, its equations, and steps of its reverse."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from refdiff.oracle.calls import Declined, TargetError, numbers
from refdiff.oracle.checks.forms import FORMS, Measured, curve, form, map_of, measured, points
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.continuum import At, at, outgoing, process_of, rate
from refdiff.oracle.expected import ROUNDINGS, UNIT
from refdiff.oracle.session import Session
from refdiff.oracle.target import Dialect

Array = NDArray[Any]
CLOCK = ("time_direction", "time_scale", "process")


def said(here: At, dialect: Dialect, x: Any, score: Any) -> tuple[Any, Any]:
    """The coefficients of x and of the declared prediction, for those of x and the score."""
    if dialect.prediction == "eps":
        return x, -score / here.std
    if dialect.prediction == "x_0":
        return x - score / here.var, score * here.scale / here.var
    return x, score


@form("marginal", "t", "scale std", "schedule variance", "marginal", *CLOCK)
def marginal(here: At, dialect: Dialect) -> tuple[Any, ...]:
    """The scale of the data and the deviation of the noise."""
    return here.scale, here.std if dialect.marginal == "std" else here.var


@form(
    "model_time", "sigma", "time", "schedule", "time_direction", "time_scale", "process",
    given=lambda here, dialect: here.std / here.scale,
)  # fmt: skip
def model_time(here: At, dialect: Dialect) -> tuple[Any, ...]:
    """The time at which std / scale is sigma."""
    return (outgoing(dialect, process_of(dialect), here.t),)


@form("drift", "x t", "x", "schedule", *CLOCK)
def drift(here: At, dialect: Dialect) -> tuple[Any, ...]:
    """f x, per unit of the target's time."""
    return (here.f * rate(dialect),)


@form("diffusion", "t", "g", "variance", "diffusion", *CLOCK)
def diffusion(here: At, dialect: Dialect) -> tuple[Any, ...]:
    """g, per root of a unit of the target's time."""
    g2 = here.g2 * abs(rate(dialect))
    return (np.sqrt(g2) if dialect.diffusion == "g" else g2,)


@form("reverse_drift", "x t score", "x score", "schedule variance", "prediction", "reverse_time", *CLOCK)
def reverse_drift(here: At, dialect: Dialect) -> tuple[Any, ...]:
    """f x - g² score."""
    k = rate(dialect) * (1 if dialect.reverse_time == "t" else -1)
    return said(here, dialect, here.f * k, -here.g2 * k)


@form("pf_ode_drift", "x t score", "x score", "schedule variance", "prediction", *CLOCK)
def pf_ode_drift(here: At, dialect: Dialect) -> tuple[Any, ...]:
    """f x - g² score / 2."""
    return said(here, dialect, here.f * rate(dialect), -here.g2 * rate(dialect) / 2)


def _other_steps(here: At, dialect: Dialect) -> Any:
    """Steps that are none of the declared kinds."""
    x, score, noise = sde_step(here, dialect)
    yield "sign", "the reverse drift has the wrong sign", (2 - x, -score, noise)
    yield "variance", "the score's part of the probability flow: half of g²", (x, score / 2, noise)
    yield "sign", "f x has the wrong sign", (2 - x, score, noise)
    yield "noise-at-t0", "no noise is added", (x, score, 0 * noise)
    yield "index", "the noise of a step is the one of the next level", (
        x, score, np.sqrt(here.g2_s) * here.root_h,
    )  # fmt: skip
    v = step_variance(here, dialect)
    yield "sqrt", "the variance of the noise stands for its deviation", (x, score, noise**2)
    yield "sqrt", "g² stands where g is wanted, in the noise", (x, score, noise * np.sqrt(here.g2))
    for kept in (1.0, here.var_s / here.var):
        yield "variance", "the noise of the other ancestral step", (x, score, np.sqrt(v * kept))
    a = here.scale / here.scale_s
    for words, factor in (
        ("the mean is not divided by the step's scale", a),
        ("the mean is multiplied by the step's scale, not divided", a**2),
    ):
        yield "schedule", words, (x * factor, score * factor, noise)
    yield "sqrt", "the mean is divided by the step's scale twice", (x / a, score / a, noise)
    yield "sqrt", "the mean is divided by the root of the step's scale", (x * a**0.5, score * a**0.5, noise)
    if dialect.prediction == "score":
        yield "discretization", "x is divided by the step's scale, as in another step", (1 / a, score, noise)
        yield "schedule", "x is kept as it is", (1.0, score, noise)


def step_variance(here: At, dialect: Dialect) -> Array:
    """The variance that the noise gains between s and t."""
    if dialect.step_beta == "rate" and np.any(here.f != 0):
        return np.asarray(here.g2 * here.h)
    a = here.scale / here.scale_s
    return np.asarray(here.var - a**2 * here.var_s)


@form(
    "sde_step", "x t s score noise", "x score noise", "schedule variance variance",
    "prediction", "predictor", "step_beta", "variance", *CLOCK, others=_other_steps,
)  # fmt: skip
def sde_step(here: At, dialect: Dialect) -> tuple[Any, ...]:
    """A step of the reverse process from t to s."""
    if dialect.predictor is None:
        raise NotApplicable("no predictor is declared: samplers are judged by their law")
    if dialect.predictor == "euler_maruyama":
        noise = np.sqrt(here.g2) * here.root_h
        return *said(here, dialect, 1 - here.f * here.h, here.g2 * here.h), noise
    by_rate = dialect.step_beta == "rate" and np.any(here.f != 0)
    a = np.sqrt(1 + 2 * here.f * here.h) if by_rate else here.scale / here.scale_s
    v = step_variance(here, dialect)
    if dialect.predictor == "reverse_diffusion":
        return *said(here, dialect, 2 - a, v), np.sqrt(v)
    kept = here.var_s / here.var if dialect.variance == "beta_tilde" else 1.0
    return *said(here, dialect, 1 / a, v / a), np.sqrt(v * kept)


@check("sde_invert.finite")
def upwards(session: Session) -> Finding:
    """A step against the direction of its sampler is refused, or answered with numbers."""
    process = process_of(session.dialect)
    t, s = (np.full(2, part * process.end) for part in (0.75, 0.25))
    x = torch.ones(2, 3, dtype=torch.float64)
    given: dict[str, Any] = {"x": x}
    for name, time in (("s", s), ("t", t)):
        value = outgoing(session.dialect, process, time)
        given[name] = torch.as_tensor(value) if session.dialect.batched_t else float(value[0])
    given |= {"score": x / 2, "noise": x}
    try:
        found = numbers(session.caller("sde_invert", given, lambda number, shape: torch.ones(shape)).value)
    except (TargetError, Declined) as error:
        return Finding(True, f"refused: {error}")
    if bool(torch.isfinite(found.values).all()):
        return Finding(True, "answered")
    words = "a step up in time is answered with NaN, not refused: its variance is negative"
    return fail("precision", words, worst={"t": float(t[0]), "s": float(s[0])})


# the kernel and the equations of one target

EDGES = np.array([0.03125, 0.125, 0.25, 0.5, 0.75, 0.9375])


@check("diffusion.kernel", "marginal", "drift", "diffusion")
def kernel(session: Session) -> Finding:
    """Drift and diffusion give the marginal: by quadrature of what the target answers, without a formula.

    The logarithm of the scale grows by the integral of f, and var / scale² by that of g² / scale².
    """
    if session.dialect.time_steps is not None:
        raise NotApplicable("the integrals need times between those of the tables")
    coarse, fine = (_growth(session, count) for count in (8, 16))
    process = process_of(session.dialect)
    scale, level = _own_marginal(session, EDGES * process.end)
    got = np.stack([np.diff(np.log(scale)), np.diff(level**2 / scale**2)])
    unit = UNIT[session.dialect.dtype]
    ends = np.stack(
        [np.abs(np.log(scale)) + 1, level**2 / scale**2 * (1 + 1 / level**2 * (np.ptp(scale) > 0))]
    )
    size = np.abs(fine) + ends[:, 1:] + ends[:, :-1]
    limit = ROUNDINGS * unit * size + np.abs(fine - coarse)
    gap = np.abs(got - fine)
    row, point = np.unravel_index(int(np.argmax(np.nan_to_num(gap / limit, nan=np.inf))), gap.shape)
    fields: dict[str, Any] = {
        "error": float(gap[row, point]), "tolerance": float(limit[row, point]),
        "got": float(got[row, point]), "wanted": float(fine[row, point]),
        "worst": {"t": float(EDGES[point + 1] * process.end), "s": float(EDGES[point] * process.end)},
        "asked": ("growth of log scale in marginal", "growth of var / scale² in marginal")[row],
    }  # fmt: skip
    if (gap <= limit).all():
        return Finding(True, "the drift and the diffusion have the marginal", **fields)
    return fail("discretization", _kernel_words(got, fine, limit), also=("schedule", "variance"), **fields)


def _kernel_words(got: Array, want: Array, limit: Array) -> str:
    words = []
    for row, what, integral in ((0, "log scale", "f"), (1, "var / scale²", "g² / scale²")):
        if (np.abs(got[row] - want[row]) <= limit[row]).all():
            continue
        with np.errstate(all="ignore"):
            ratio = want[row] / got[row]
        if np.isfinite(ratio).all() and np.ptp(ratio) <= 1e-4 * np.abs(ratio).max():
            words.append(f"the integral of {integral} is {ratio[0]:.4g} times the growth of {what}")
        else:
            words.append(f"the integral of {integral} is not the growth of {what}")
    return "; ".join(words)


def _own_marginal(session: Session, t: Array) -> tuple[Array, Array]:
    here = at(process_of(session.dialect), t)
    scale, level = _curve_at(session, "marginal", here)
    return scale, level if session.dialect.marginal == "std" else np.sqrt(level)


def _curve_at(session: Session, port: str, here: At) -> Array:
    return curve(session, FORMS[port], here).values


def _growth(session: Session, count: int) -> Array:
    """The integrals of f and of g² / scale² over the intervals, by Gauss and Legendre."""
    process, dialect = process_of(session.dialect), session.dialect
    node, weight = np.polynomial.legendre.leggauss(count)
    low, high = EDGES[:-1, None] * process.end, EDGES[1:, None] * process.end
    t = (low + (high - low) * (node + 1) / 2).flatten()
    here = at(process, t)
    f = _drift_at(session, here)[0] / rate(dialect)
    g = _curve_at(session, "diffusion", here)[0]
    g2 = (g**2 if dialect.diffusion == "g" else g) / abs(rate(dialect))
    scale = _own_marginal(session, t)[0]
    weights = (high - low) / 2 * weight
    return np.stack([(one.reshape(weights.shape) * weights).sum(1) for one in (f, g2 / scale**2)])


def _drift_at(session: Session, here: At) -> Array:
    found: Measured = map_of(session, FORMS["drift"], here, measured(session, FORMS["drift"]).layout)
    return found.values


@check("pf_ode_drift.halfway", "drift", "reverse_drift", "pf_ode_drift")
def halfway(session: Session) -> Finding:
    """The probability flow is half-way between the drift and the reverse drift, of the target's own."""
    ode, reverse, forward = (
        measured(session, FORMS[port]).values for port in ("pf_ode_drift", "reverse_drift", "drift")
    )
    reverse = reverse if session.dialect.reverse_time == "t" else -reverse
    want = reverse / 2
    want[0] = want[0] + forward[0] / 2
    here = points(session, FORMS["pf_ode_drift"])
    gap = np.abs(ode - want)
    limit = ROUNDINGS * UNIT[session.dialect.dtype] * (np.abs(reverse) + np.abs(forward) + np.abs(ode))
    limit = limit * (1 + here.scale**2 / here.var)
    fields: dict[str, Any] = {"error": float(gap.max()), "tolerance": float(limit.max())}
    if (gap <= limit).all():
        return Finding(True, **fields)
    words = "the probability flow is not half-way between the drift and the reverse drift"
    return fail("discretization", words, also=("variance", "sign"), **fields)
