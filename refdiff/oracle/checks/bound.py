"""The whole variational bound: which levels it asks, what it sums, and whose term is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refdiff.oracle import points as where
from refdiff.oracle.checks.decoder import grid, log_bin, log_density
from refdiff.oracle.checks.likelihood import unit, units
from refdiff.oracle.checks.losses import symbols
from refdiff.oracle.checks.questions import Guess, Question, ask, decide, flat
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session

Array = NDArray[Any]


class Errs:
    """A model that is perfect but for a known error of eps in one row at each level."""

    def __init__(self, session: Session, x0: Tensor, levels: Array, error: Array) -> None:
        self.session, self.x0, self.levels, self.error = session, x0, levels, error
        self.seen: list[float] = []

    def __call__(self, x: Any, t: Any, *args: Any, **kwargs: Any) -> Any:
        state = x.detach().double().numpy() if isinstance(x, Tensor) else np.asarray(x, dtype=float)
        label = t.detach().double().numpy() if isinstance(t, Tensor) else np.asarray(t, dtype=float)
        level = np.broadcast_to(label.reshape(-1), (len(state),)) + 1 - self.session.dialect.index_origin
        # what is asked is noted as it is; where there is no such level, the nearest one answers
        self.seen += level.tolist() if len(np.unique(level)) > 1 else [float(level[0])]
        index = np.clip(np.round(level), 1, self.session.T).astype(int)
        abar = symbols(self.session, index)["abar_t"][:, None]
        x0 = flat(self.x0)
        eps = (state.reshape(len(state), -1) - np.sqrt(abar) * x0) / np.sqrt(1 - abar)
        eps = eps + np.where(self.levels == index, self.error, 0.0)[:, None]
        kind = self.session.dialect.parameterization
        pure = (state.reshape(len(state), -1) - np.sqrt(1 - abar) * eps) / np.sqrt(abar)
        answer = {
            "eps": eps,
            "x_0": pure,
            "v": np.sqrt(abar) * eps - np.sqrt(1 - abar) * pure,
            "score": -eps / np.sqrt(1 - abar),
        }[kind].reshape(state.shape)
        out = self.session.caller.outgoing(torch.as_tensor(answer.copy()))
        return out.to(x.dtype) if isinstance(x, Tensor) else out


SHARE = 0.25


def _bound_levels(session: Session) -> Array:
    """Row 0 errs nowhere, row k at its level."""
    return np.array([0, *where.levels(session.T)])


def _bound(session: Session) -> tuple[Question, Errs, dict[str, Array]]:
    """The question of the whole bound, and the parts of its answer in nats."""
    dialect = session.dialect
    levels = _bound_levels(session)
    D, B = 3, len(levels)
    draw = np.random.Generator(np.random.PCG64(43))
    x0 = grid(dialect)[torch.as_tensor(draw.integers(40, 216, (1, D)))].repeat(B, 1)
    noises = torch.as_tensor(draw.standard_normal((session.T, 1, D))).repeat(1, B, 1)
    if dialect.dtype == "float32":
        x0, noises = x0.float().double(), noises.float().double()
    parts = _parts(session, x0, levels)
    model = Errs(session, x0, levels, np.full(B, SHARE))
    n = unit(dialect, D)
    want = sum(parts.values()) / n
    size = (_blurred(session, x0, levels, parts) + sum(np.abs(part) for part in parts.values())) / n
    question_ = Question(
        {"model": model, "x0": x0, "noises": noises},
        np.asarray(want),
        np.asarray(size),
        "likelihood",
        lambda: _bound_guesses(session, parts, D),
        tables=True,
    )
    return question_, model, parts


def _blurred(session: Session, x0: Tensor, levels: Array, parts: dict[str, Array]) -> Array:
    """By how many units the bound is off when each table is off by one, a product by one for each factor."""
    dialect, D = session.dialect, x0.shape[1]
    at = symbols(session, np.arange(1, session.T + 1))
    rest, tilde = 1 - at["abar_t"], dialect.variance == "beta_tilde"
    below = np.append(0.0, 1 / rest[:-1])
    # of a level: its weight, and the eps that is read off a state made with these tables
    weight = 1 + 1 / at["beta_t"] + 1 / rest + below
    steps = np.arange(1, session.T + 1)
    eps = steps * (np.sqrt(at["abar_t"]) + at["abar_t"] / np.sqrt(rest)) / np.sqrt(rest) + 1 / rest
    k = np.maximum(levels, 1) - 1
    means = parts["means"] * (weight + 2 * eps / SHARE)[k]
    abar = at["abar_t"][-1]
    prior = session.T * (abar * (flat(x0) ** 2).sum(1) + D * abar**2 / (1 - abar))
    apart = 0.0 if tilde else D / 2 * np.abs(at["beta_tilde"] / at["beta_t"] - 1)[1:] @ below[1:]
    scale2 = at["beta_t"][0] if dialect.variance == "beta" else at["beta_tilde"][1]
    reach2 = np.where(levels == 1, SHARE**2 * rest[0] / scale2, 0.0)
    own = 1 / rest[:2].min() if dialect.variance != "beta" else 0.0
    last = D * ((1 + reach2) * (1 + own) + (1 + reach2) * eps[0] * np.sqrt(rest[0] / scale2))
    return np.asarray(means + prior + apart + last)


def _parts(session: Session, x0: Tensor, levels: Array) -> dict[str, Array]:
    """Prior, transitions without and with the error, decoder; (B,) each, in nats."""
    dialect, (B, D) = session.dialect, tuple(x0.shape)
    log_abar = float(session.declared.log_abar[-1])
    rest = -math.expm1(log_abar)
    square = (flat(x0) ** 2).sum(1)
    prior = (math.exp(log_abar) * square - D * (math.exp(log_abar) + math.log(rest))) / 2
    t = np.arange(2, session.T + 1)
    at = symbols(session, t)
    variance = at["beta_tilde"] if dialect.variance == "beta_tilde" else at["beta_t"]
    ratio = at["beta_tilde"] / variance
    still = np.full(B, float((D * (ratio - 1 - np.log(ratio)) / 2).sum()))
    weight = at["beta_t"] ** 2 / (2 * variance * at["alpha_t"] * (1 - at["abar_t"]))
    moved = np.array([weight[k - 2] * D * SHARE**2 if k >= 2 else 0.0 for k in levels])
    return {"prior": prior, "variances": still, "means": moved, "decoder": -_last(session, x0, levels)}


def _last(session: Session, x0: Tensor, levels: Array) -> Array:
    """log p(x_0 | x_1), (B,)."""
    dialect = session.dialect
    first = symbols(session, np.array([1]))
    second = symbols(session, np.array([2]))
    variance = second["beta_tilde"] if dialect.variance == "beta_tilde" else first["beta_t"]
    if dialect.variance == "beta_first_tilde":
        variance = second["beta_tilde"]
    off = np.where(levels == 1, SHARE, 0.0) * np.sqrt((1 - first["abar_t"]) / first["abar_t"])
    mean = x0 - torch.as_tensor(off)[:, None]
    scale = torch.full_like(x0, float(np.sqrt(variance[0])))
    logs = (
        log_bin(x0, mean, scale, dialect)
        if dialect.decoder == "discretized"
        else log_density(x0, mean, scale)
    )
    return np.asarray(logs.sum(1).numpy())


def _bound_guesses(session: Session, parts: dict[str, Array], D: int) -> Iterator[Guess]:
    total = np.asarray(sum(parts.values()))
    n = unit(session.dialect, D)
    yield from units(session, total, D)
    names = {"prior": "the prior's term L_T", "means": "every L_{t-1}", "decoder": "the decoder's term L_0"}
    for name, words in names.items():
        yield Diagnosis("likelihood", f"{words} is missing"), (total - parts[name]) / n
        yield Diagnosis("likelihood", f"{words} has the wrong sign"), (total - 2 * parts[name]) / n
        yield Diagnosis("likelihood", f"{words} is counted twice"), (total + parts[name]) / n
        yield (
            Diagnosis("likelihood", f"{words} is a mean over the dimensions"),
            (total - parts[name] + parts[name] / D) / n,
        )
    T = session.T
    terms = parts["means"] + parts["variances"]
    yield (
        Diagnosis("likelihood", "the L_{t-1} are averaged over the levels, not summed"),
        (total - terms + terms / (T - 1)) / n,
    )
    yield Diagnosis("likelihood", "the bound is averaged over the levels"), total / T / n
    yield Diagnosis("likelihood", "the bound is averaged over the levels"), total / (T + 1) / n
    yield (
        Diagnosis("likelihood", "the factor 1/2 of the L_{t-1} is missing"),
        (total + parts["means"]) / n,
    )


@check("vlb.levels")
def bound_levels(session: Session) -> Finding:
    """The model is asked once at each level of 1..T."""
    _, model, _ = _bounded(session)
    seen = sorted(model.seen)
    if seen == list(range(1, session.T + 1)):
        return Finding(True)
    missing = sorted(set(range(1, session.T + 1)) - set(seen))
    fields: dict[str, Any] = {"also": ("index",), "asked": "levels at which the model is asked"}
    if not seen:
        return fail("likelihood", "the model is never asked", **fields)
    if len(set(seen)) == 1:
        words = f"the same term every time: the model is asked at {seen[0]:g} only"
        return fail("likelihood", words, **fields)
    if missing:
        shown = ", ".join(str(t) for t in missing[:4])
        return fail("likelihood", f"{len(missing)} levels are never asked: {shown}", **fields)
    return fail("likelihood", f"the model is asked {len(seen)} times for {session.T} levels", **fields)


def _bounded(session: Session) -> tuple[Any, Errs, dict[str, Array]]:
    return session.once("vlb", lambda: _ask_bound(session))  # type: ignore[no-any-return]


def _ask_bound(session: Session) -> tuple[Any, Errs, dict[str, Array]]:
    if session.dialect.variance.startswith("learned"):
        raise NotApplicable("the variance is learned")
    if session.dialect.data_range == "latent" and session.dialect.decoder == "discretized":
        raise NotApplicable("latents have no bins: declare the decoder to be continuous")
    if not np.isfinite(session.declared.log_abar[-1]):
        raise NotApplicable("eps says nothing about data without signal at T")
    asked, model, parts = _bound(session)
    return ask(session, "vlb", asked, (3,)), model, parts


@check("vlb.value")
def bound_value(session: Session) -> Finding:
    """L_T, every L_{t-1} and L_0, in the declared unit; each level's term through an error at that level."""
    found, _, parts = _bounded(session)
    if found.got.shape != found.question.want.shape:
        raise NotApplicable("see vlb.shape")
    finding = decide(session, "vlb", found)
    if finding.ok or finding.diagnosis is None or "known mistake" not in finding.diagnosis.message:
        return finding
    return _term_by_term(session, found.got, parts, finding)


def _term_by_term(session: Session, got: Array, parts: dict[str, Array], finding: Finding) -> Finding:
    """Which level's term is wrong, where the whole is not a known mistake."""
    levels = _bound_levels(session)
    n = unit(session.dialect, 3)
    moved = (got - got[0])[1:] * n
    wanted = np.asarray(sum(parts.values()))
    wanted = (wanted - wanted[0])[1:]
    with np.errstate(all="ignore"):
        ratio = moved / wanted
    off = np.abs(ratio - 1) > 1e-4
    if not off.any():
        gap = float(got[0] - finding_want(parts, n)[0])
        return _with(finding, f"every level's term is right, but {gap:.6g} is added")
    which = ", ".join(f"t = {t} (times {r:.4g})" for t, r in zip(levels[1:][off], ratio[off], strict=True))
    if (np.abs(moved[off]) <= 1e-6 * np.abs(wanted[off])).all():
        return _with(finding, f"the terms of {which.replace(' (times 0)', '')} are missing")
    return _with(finding, f"the terms of these levels are wrong: {which}")


def finding_want(parts: dict[str, Array], n: float) -> Array:
    """The right bound in its unit."""
    return np.asarray(sum(parts.values())) / n


def _with(finding: Finding, words: str) -> Finding:
    return replace(finding, diagnosis=Diagnosis("likelihood", words))


@check("vlb.shape")
def bound_shape(session: Session) -> Finding:
    """One number a sample."""
    found = _bounded(session)[0]
    got, want = found.got.shape, found.question.want.shape
    if got == want:
        return Finding(True)
    fields: dict[str, Any] = {"got": list(got), "wanted": list(want)}
    return fail("state-broadcast", f"shape {got}, wanted one number a sample", **fields)


@check("vlb.inputs_unchanged")
def bound_inputs(session: Session) -> Finding:
    """A call does not change its arguments."""
    found = _bounded(session)[0]
    if found.mutated:
        return fail("state-broadcast", f"changes its argument {', '.join(found.mutated)} in place")
    return Finding(True)
