"""Laws between two ports of one target: each may look right alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdiff.oracle.checks.affine import measured, outcome
from refdiff.oracle.checks.registry import Finding, NotApplicable, check
from refdiff.oracle.expected import UNIT
from refdiff.oracle.points import Points
from refdiff.oracle.probe import Probe
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session

Array = NDArray[Any]


def aligned(a: Points, b: Points, **only: float) -> tuple[Array, Array]:
    """Indices of the points (t, s) that two lists share, for given scalars."""
    first = {
        (int(t), int(s)): i for i, (t, s) in enumerate(zip(a.t, a.s, strict=True)) if _matches(a, i, only)
    }
    second = {
        (int(t), int(s)): i for i, (t, s) in enumerate(zip(b.t, b.s, strict=True)) if _matches(b, i, only)
    }
    shared = sorted(first.keys() & second.keys())
    return np.array([first[key] for key in shared], int), np.array([second[key] for key in shared], int)


def _matches(points: Points, index: int, only: dict[str, float]) -> bool:
    return all(points.scalars[name][index] == value for name, value in only.items() if name in points.scalars)


def decide(
    session: Session, ports: tuple[str, ...], gaps: Array, scales: Array, points: Points, law: str
) -> Finding:
    """Whether a law holds; where a port is wrong by itself, the line says that it follows from that."""
    finite = np.isfinite(gaps) & np.isfinite(scales)
    if not finite.any():
        raise NotApplicable("the ports have no finite answer in common")
    gaps = np.where(finite, gaps, 0.0)
    ratio = gaps / np.maximum(scales, 1e-300)
    worst = int(np.argmax(ratio.max(0)))
    row = int(np.argmax(ratio[:, worst]))
    fields: dict[str, Any] = {
        "error": float(gaps[row, worst]),
        "tolerance": float(scales[row, worst]),
        "worst": points.describe(worst),
        "asked": law,
    }
    if ratio.max() <= 1:
        return Finding(True, **fields)
    for port in ports:
        finding = session.cache.get(("finding", f"{port}.coefficients"))
        if finding is not None and not finding.ok and finding.diagnosis is not None:
            cause = finding.diagnosis
            words = f"follows from {port}.coefficients: {cause.message}"
            return Finding(
                False,
                "",
                Diagnosis(cause.family, words, cause.formula, cause.dialect, cause.digits, cause.also),
                **fields,
            )
    message = f"{' and '.join(ports)} do not fit together: {law}"
    return Finding(False, "", Diagnosis("schedule", message, also=("state-broadcast",)), **fields)


def rows(found: Probe, index: Array, *names: str) -> list[Array]:
    """Coefficients of some states at some points."""
    return [found.values[found.states.index(name), index] for name in names]


def blurs(session: Session, port: str, index: Array, *names: str) -> list[Array]:
    """How well those coefficients are known: the class of precision that the port is in."""
    _, found, want, decided = outcome(session, port)
    single = decided.precision in ("float32", "float32 tables")
    scale = want.tolerance(UNIT["float32" if single else "float64"]).astype(float)
    return [scale[found.states.index(name), index] for name in names]


Pair = tuple[Probe, Array, Probe, Array, Points]


def both(session: Session, a: str, b: str, **only: float) -> Pair:
    """Two ports at the points that they share."""
    first, second = measured(session, a), measured(session, b)
    i, j = aligned(first.points, second.points, **only)
    if len(i) == 0:
        raise NotApplicable("the ports have no point in common")
    return first, i, second, j, first.points.pick(i)


@check("cross.eta_one_is_ddpm", "ddpm_step", "ddim_step")
def eta_one_is_ddpm(session: Session) -> Finding:
    """A DDIM step of eta = 1 between neighbours is the DDPM step of variance beta_tilde."""
    if session.dialect.variance != "beta_tilde" or session.dialect.alpha_bar_0 != "one":
        raise NotApplicable("holds for the variance beta_tilde and alpha_bar_0 = 1")
    ddim, i, ddpm, j, points = both(session, "ddim_step", "ddpm_step", eta=1.0)
    names = ("x", "e", "z")
    left, right = rows(ddim, i, *names), rows(ddpm, j, *names)
    blur = [
        a + b
        for a, b in zip(
            blurs(session, "ddim_step", i, *names), blurs(session, "ddpm_step", j, *names), strict=True
        )
    ]
    gaps = np.abs(np.abs(np.array(left)) - np.abs(np.array(right)))
    return decide(
        session, ("ddim_step", "ddpm_step"), gaps, np.array(blur), points, "ddim_step(eta = 1) = ddpm_step"
    )


@check("cross.round_trip", "predict_x0", "predict_eps")
def round_trip(session: Session) -> Finding:
    """eps to x_0 and back is eps."""
    to_x0, i, to_eps, j, points = both(session, "predict_x0", "predict_eps")
    (a, b), (c, d) = rows(to_x0, i, "x", "e"), rows(to_eps, j, "x", "x0")
    (da, db), (dc, dd) = (
        blurs(session, "predict_x0", i, "x", "e"),
        blurs(session, "predict_eps", j, "x", "x0"),
    )
    gaps = np.array([np.abs(c + d * a), np.abs(d * b - 1)])
    scales = np.array([dc + np.abs(d) * da + np.abs(a) * dd, np.abs(d) * db + np.abs(b) * dd])
    return decide(
        session,
        ("predict_x0", "predict_eps"),
        gaps,
        scales,
        points,
        "predict_eps(x_t, predict_x0(x_t, eps)) = eps",
    )


@check("cross.q_sample_predict_x0", "q_sample", "predict_x0")
def q_sample_predict_x0(session: Session) -> Finding:
    """The noise that was added tells the data back."""
    q, i, to_x0, j, points = both(session, "q_sample", "predict_x0")
    (m, n), (a, b) = rows(q, i, "x0", "z"), rows(to_x0, j, "x", "e")
    (dm, dn), (da, db) = blurs(session, "q_sample", i, "x0", "z"), blurs(session, "predict_x0", j, "x", "e")
    gaps = np.array([np.abs(a * m - 1), np.abs(a * n + b)])
    scales = np.array([np.abs(a) * dm + np.abs(m) * da, np.abs(a) * dn + np.abs(n) * da + db])
    return decide(
        session,
        ("q_sample", "predict_x0"),
        gaps,
        scales,
        points,
        "predict_x0(q_sample(x_0, noise), noise) = x_0",
    )


@check("cross.inversion", "ddim_step", "ddim_invert")
def inversion(session: Session) -> Finding:
    """A deterministic step undoes the inversion, for one eps."""
    down, i, up, j, points = both(session, "ddim_step", "ddim_invert", eta=0.0)
    if session.dialect.parameterization != "eps":
        raise NotApplicable("the two steps would read the model at two levels")
    (a, b), (c, d) = rows(down, i, "x", "e"), rows(up, j, "x", "e")
    (da, db), (dc, dd) = blurs(session, "ddim_step", i, "x", "e"), blurs(session, "ddim_invert", j, "x", "e")
    gaps = np.array([np.abs(a * c - 1), np.abs(a * d + b)])
    scales = np.array([np.abs(a) * dc + np.abs(c) * da, np.abs(a) * dd + np.abs(d) * da + db])
    return decide(
        session, ("ddim_step", "ddim_invert"), gaps, scales, points, "ddim_step(ddim_invert(x_s)) = x_s"
    )


@check("cross.posterior_is_ddpm_mean", "q_posterior", "predict_x0", "ddpm_step")
def posterior_is_ddpm_mean(session: Session) -> Finding:
    """The mean of a DDPM step is the posterior's, at the predicted x_0."""
    if session.dialect.parameterization != "eps":
        raise NotApplicable("predict_x0 takes eps, the step takes another output")
    post, i, step, j, points = both(session, "q_posterior", "ddpm_step")
    to_x0 = measured(session, "predict_x0")
    k, _ = aligned(to_x0.points, post.points.pick(i))
    if len(k) != len(i):
        raise NotApplicable("the ports have not all points in common")
    (p, q), (a, b), (c, d) = rows(post, i, "x0", "x"), rows(to_x0, k, "x", "e"), rows(step, j, "x", "e")
    (dp, dq), (da, db) = (
        blurs(session, "q_posterior", i, "x0", "x"),
        blurs(session, "predict_x0", k, "x", "e"),
    )
    dc, dd = blurs(session, "ddpm_step", j, "x", "e")
    gaps = np.array([np.abs(q + p * a - c), np.abs(p * b - d)])
    scales = np.array([dq + np.abs(p) * da + np.abs(a) * dp + dc, np.abs(p) * db + np.abs(b) * dp + dd])
    return decide(
        session,
        ("q_posterior", "predict_x0", "ddpm_step"),
        gaps,
        scales,
        points,
        "mean of ddpm_step = mean of q_posterior(predict_x0)",
    )


LAWS: tuple[Callable[[Session], Finding], ...] = (
    eta_one_is_ddpm, round_trip, q_sample_predict_x0, inversion, posterior_is_ddpm_mean,
)  # fmt: skip
