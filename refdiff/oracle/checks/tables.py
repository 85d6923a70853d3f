"""Tables: betas, cumulative products, sigmas."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdiff.oracle import recognise
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.compare import is_rough
from refdiff.oracle.expected import ROUNDOFF, UNIT, Expected
from refdiff.oracle.report import agreement
from refdiff.oracle.session import Session, own_tables

Array = NDArray[Any]
# schedules that are given by a curve of alpha_bar between two ends
CURVES = ("cosine", "sigmoid_alpha_bar", "square_root_alpha_bar")


def vector(session: Session, port: str) -> Array:
    """A table in extended precision."""
    return np.asarray(session.table(port).values.numpy().astype(np.longdouble))


def shape(session: Session, port: str) -> Finding:
    """One number a step."""
    values = session.table(port).values
    if values.dim() != 1:
        return fail("state-broadcast", f"shape {tuple(values.shape)}, wanted ({session.T},)")
    if len(values) == session.T + 1:
        return fail("index", f"{len(values)} entries, wanted T = {session.T}: an entry for data is included")
    if len(values) != session.T:
        return fail(
            "schedule", f"{len(values)} entries, wanted T = {session.T}", got=len(values), wanted=session.T
        )
    return Finding(True, f"{session.T} entries")


@check("betas.count")
def betas_count(session: Session) -> Finding:
    """One beta a step."""
    return shape(session, "betas")


@check("alphas_cumprod.count")
def alphas_cumprod_count(session: Session) -> Finding:
    """One alpha_bar a step."""
    return shape(session, "alphas_cumprod")


@check("betas.range")
def betas_range(session: Session) -> Finding:
    """Variances lie inside (0, 1); 1 only at T."""
    values = vector(session, "betas")
    last = np.zeros(len(values), bool)
    last[-1:] = True
    wrong = ~((values > 0) & ((values < 1) | (last & (values == 1))))
    if wrong.any():
        index = int(np.flatnonzero(wrong)[0])
        got = float(values[index])
        return fail(
            "schedule", f"beta_{index + 1} = {got:g} is not inside (0, 1)", worst={"t": index + 1}, got=got
        )
    return Finding(True)


@check("alphas_cumprod.range")
def alphas_cumprod_range(session: Session) -> Finding:
    """Cumulative products decrease strictly inside (0, 1); 0 only at T."""
    values = vector(session, "alphas_cumprod")
    if not np.isfinite(values).all():
        index = int(np.flatnonzero(~np.isfinite(values))[0])
        return fail("schedule", f"alpha_bar_{index + 1} is {float(values[index])}", worst={"t": index + 1})
    if values[0] >= 1:
        if session.table("alphas_cumprod").dtype == "float16" or recognise.rounding(
            session, "alphas_cumprod"
        ):
            return fail("precision", "alpha_bar_1 is rounded to 1", worst={"t": 1}, got=float(values[0]))
        return fail(
            "index",
            "alpha_bar_1 = 1 is the entry of data: the table is shifted by one",
            worst={"t": 1},
            also=("schedule",),
        )
    wrong = np.append(False, np.diff(values) >= 0) | (values < 0)
    wrong[:-1] |= values[:-1] == 0
    if wrong.any():
        index = int(np.flatnonzero(wrong)[0])
        family = "precision" if recognise.rounding(session, "alphas_cumprod") else "schedule"
        message = f"alpha_bar_{index + 1} = {float(values[index]):g} does not decrease"
        return fail(family, message, worst={"t": index + 1}, got=float(values[index]))
    return Finding(True)


def wanted(session: Session, port: str) -> Array:
    """The declared table."""
    if port == "betas":
        beta = session.declared.beta[1:]
        return np.sqrt(beta) if session.dialect.notation == "su" else beta
    log_abar = session.declared.log_abar[1:]
    return np.exp(log_abar / 2 if session.dialect.notation == "su" else log_abar)


def sensitivity(session: Session, port: str, want: Array) -> Expected:
    """How rounding grows along a table, as for coefficients."""
    steps = np.arange(1, len(want) + 1, dtype=float)
    ends = float(np.max(np.abs(want)))
    local = np.abs(want) + (ends if port == "betas" else 0.0)
    grown = 2 * steps * np.abs(want) if port == "alphas_cumprod" else np.abs(want)
    return Expected(("table",), want[None, :], local[None, :], grown[None, :])


def values(session: Session, port: str) -> Finding:
    """The table is the declared schedule's."""
    got, want = vector(session, port), wanted(session, port)
    if got.shape != want.shape:
        return Finding(False, "", recognise.diagnosis(session, port), got=len(got), wanted=len(want))
    scale = sensitivity(session, port, want)
    error = np.abs(got - want)
    error = np.where(np.isfinite(error), error, np.inf).astype(float)
    fine, coarse = scale.tolerance(UNIT["float64"])[0], scale.tolerance(UNIT["float32"])[0]
    with np.errstate(all="ignore"):
        ratio = np.nan_to_num(error / coarse.astype(float), nan=0.0)
    worst = int(np.argmax(ratio))
    digits, ulps = agreement(float(got[worst]), float(want[worst]), ROUNDOFF)
    fields: dict[str, Any] = {
        "error": float(error[worst]),
        "worst": {"t": worst + 1},
        "got": float(got[worst]),
        "wanted": float(want[worst]),
        "digits": digits,
        "ulps": ulps,
    }
    if bool((error <= fine).all()):
        return Finding(True, precision="float64 tables", tolerance=float(fine[worst]), **fields)
    fields["tolerance"] = float(coarse[worst])
    asked = f"{port}: entry of t = {worst + 1}"
    if bool((error <= coarse).all()) and (_single(session, port) or is_rough(got[None, :], scale)):
        if session.dialect.tables == "float64":
            message = (
                f"float32 tables: largest relative error {_relative(got, want):.2g}; float64 is declared"
            )
            return fail("precision", message, asked=asked, **fields)
        message = f"largest relative error {_relative(got, want):.2g}"
        return Finding(True, message, precision="float32 tables", **fields)
    offset = curve_offset(session, port, got, want, worst, coarse)
    if offset is not None and session.dialect.tables != "float64":
        message = f"the curve's ends are rounded to float32: alpha_bar is off by {offset:.2g}"
        return Finding(True, message, precision="float32 tables", **fields)
    return Finding(False, "", recognise.diagnosis(session, port), asked=asked, **fields)


def curve_offset(
    session: Session, port: str, got: Array, want: Array, at: int, tolerance: Array
) -> float | None:
    """How far a schedule given by a curve of alpha_bar is shifted, if a rounding of its ends explains it.

    With alpha_bar + b, beta_t is 1 - (alpha_bar_t + b) / (alpha_bar_{t-1} + b); b is read at the worst entry.
    A capped beta stays what it is.
    """
    if session.schedule.name not in CURVES or session.dialect.notation == "su":
        return None
    abar = np.exp(session.declared.log_abar)
    if port == "betas":
        b = ((1 - got[at]) * abar[at] - abar[at + 1]) / got[at]
        shifted = (abar[:-1] - abar[1:]) / (abar[:-1] + b)
    else:
        b = (got[at] - want[at]) / (1 - got[at])
        shifted = (want + b) / (1 + b)
    error = np.minimum(np.abs(got - shifted), np.abs(got - want))
    small = abs(b) <= 2 * UNIT["float32"]
    return float(b) if small and bool((error <= tolerance).all()) else None


def _single(session: Session, port: str) -> bool:
    """Whether every entry is a float32 number."""
    table = session.table(port)
    return table.dtype == "float32" or bool((table.values.float().double() == table.values).all())


def _relative(got: Array, want: Array) -> float:
    nonzero = want != 0
    return float(np.max(np.abs(got - want)[nonzero] / np.abs(want)[nonzero]))


@check("betas.values")
def betas_values(session: Session) -> Finding:
    """The variances are the declared schedule's."""
    return values(session, "betas")


@check("alphas_cumprod.values")
def alphas_cumprod_values(session: Session) -> Finding:
    """The cumulative products are the declared schedule's."""
    return values(session, "alphas_cumprod")


@check("alphas_cumprod.product", "betas", "alphas_cumprod")
def alphas_cumprod_product(session: Session) -> Finding:
    """The two tables of one target agree: alpha_bar_t is the product of 1 - beta."""
    own = own_tables("betas", vector(session, "betas"), session.dialect)
    given = own_tables("alphas_cumprod", vector(session, "alphas_cumprod"), session.dialect)
    if own is None or given is None:
        raise NotApplicable("a table is not one of a schedule")
    if own.log_abar.shape != given.log_abar.shape:
        return fail("index", f"{own.T} betas but {given.T} cumulative products")
    if session.close(own, given):
        return Finding(True)
    gap = np.abs(own.log_abar - given.log_abar)
    worst = int(np.nanargmax(gap))
    return Finding(
        False,
        "",
        recognise.product(session, own, given),
        asked=f"alphas_cumprod: entry of t = {worst} against the product of 1 - betas",
        got=float(np.exp(given.log_abar[worst])),
        wanted=float(np.exp(own.log_abar[worst])),
        worst={"t": worst},
    )
