"""The log-likelihood of one reverse step: its terms, and a step that has no density."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from refdiff.oracle import formulas
from refdiff.oracle.calls import TargetError
from refdiff.oracle.checks.guidance import combined
from refdiff.oracle.checks.likelihood import unit, units
from refdiff.oracle.checks.questions import Guess, Question, answered, ask, flat, generic, question
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.expected import expected
from refdiff.oracle.points import Points
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session

Array = NDArray[np.float64]
ETA = 0.7


def _points(session: Session, pick: Array) -> Points:
    T = session.T
    t = np.array([max(T // 10, 2), T // 3, T // 2 + 1, T - 1, T])[pick]
    s = np.array([max(T // 20, 1), T // 4, T // 3, T // 2, T // 2])[pick]
    return Points(t, s, {"eta": np.full(len(t), ETA)})


@question("step_log_likelihood")
def step(session: Session, layout: tuple[int, ...], pick: Array) -> Question:
    """log N(x_s; mean, sigma²) of a DDIM step, summed over the dimensions."""
    dialect = session.dialect
    if not dialect.batched_t:
        raise NotApplicable("asked with a batch of levels")
    if not np.isfinite(session.declared.log_abar[-1]):
        raise NotApplicable("eps says nothing about data without signal at T")
    x_t, eps, u = (generic(session, seed, layout, pick) for seed in (81, 82, 83))
    points = _points(session, pick)
    found = expected(formulas.PORTS["ddim_step"], dialect, session.declared, points)
    mean = combined(found.values[:2], x_t.numpy(), eps.numpy())
    sigma = found.values[2].astype(float)
    x_s = torch.as_tensor(mean) + torch.as_tensor(sigma).reshape(-1, *[1] * len(layout)) * u
    x_s = x_s.float().double() if dialect.dtype == "float32" else x_s
    D, n = int(np.prod(layout)), unit(dialect, int(np.prod(layout)))
    gap = flat(x_s) - mean.reshape(len(mean), -1)
    away = (gap / sigma[:, None]) ** 2
    square, log_sigma = away.sum(1) / 2, D * np.log(sigma)
    nats = -square - log_sigma - D * math.log(2 * math.pi) / 2
    blur = combined((found.local + found.grown)[:2], np.abs(x_t.numpy()), np.abs(eps.numpy()))
    moved = (np.sqrt(away) * blur.reshape(len(mean), -1)).sum(1) / sigma
    size = (2 * square + np.abs(log_sigma) + D + moved) * (1 + found.local[2].astype(float) / sigma)

    def guesses() -> Iterator[Guess]:
        tau = D * math.log(2 * math.pi) / 2
        for words, form in (
            ("the sign is flipped: a negative log-likelihood", -nats),
            ("log sigma is left out", nats + log_sigma),
            ("log 2 pi is left out", nats + tau),
            ("the normaliser is left out", -square),
            ("the factor 1/2 of the square is missing", nats - square),
            ("log sigma has the wrong sign", nats + 2 * log_sigma),
            ("log sigma² for log sigma", nats - log_sigma),
            ("the square is divided by sigma, not by sigma²", nats + square - (gap**2).sum(1) / sigma / 2),
            ("the square is not divided by sigma²", nats + square - (gap**2).sum(1) / 2),
            (
                "the variance stands for the standard deviation",
                -(gap**2).sum(1) / sigma**4 / 2 - 2 * log_sigma - tau,
            ),
            ("the density, not its logarithm", np.exp(nats)),
        ):
            yield Diagnosis("likelihood", words, also=("sign",)), form / n
        yield from units(session, nats, D)

    shift = dialect.index_origin - 1
    given = {
        "x_s": x_s,
        "x_t": x_t,
        "t": torch.as_tensor(points.t + shift),
        "s": torch.as_tensor(points.s + shift),
        "eps": eps,
        "eta": ETA,
    }
    return Question(given, nats / n, size / n, "likelihood", guesses, tables=True)


@check("step_log_likelihood.deterministic")
def deterministic(session: Session) -> Finding:
    """A step without noise has no density: it is refused or left out, and is no NaN."""
    found = answered(session, "step_log_likelihood", step)
    given = dict(found.question.arguments)
    for words, eta, zero in (("of eta = 0", 0.0, False), ("to data", ETA, True)):
        shift = session.dialect.index_origin - 1
        s = torch.full_like(given["s"], shift) if zero else given["s"]
        still = Question(
            {**given, "s": s, "eta": eta}, found.question.want, found.question.size, "likelihood", tuple
        )
        try:
            got = ask(session, "step_log_likelihood", still, found.layout).got
        except TargetError as error:
            if error.kind == "raised" and str(error).startswith(("ValueError", "NotImplementedError")):
                continue
            raise
        if np.isnan(got).any():
            words = f"NaN for a step {words}: 0 is divided by a standard deviation of 0"
            return fail("likelihood", words, also=("noise-at-t0",))
    return Finding(True)
