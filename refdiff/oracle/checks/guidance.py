"""Guidance by a classifier: where its gradient is taken, at which level, and what it does to the mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from refdiff.oracle import formulas
from refdiff.oracle import points as where
from refdiff.oracle.checks.questions import ROWS, Answer, Guess, Question, answered, flat, generic, question
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.checks.scores import Recording
from refdiff.oracle.expected import UNIT, expected
from refdiff.oracle.points import Points
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session

Array = NDArray[Any]
SCALE = 1.7
STATES = ("x", "e", "g")


def _points(session: Session, pick: Array) -> Points:
    T = session.T
    t = np.array([max(T // 20, 2), T // 3, T // 2 + 1, T - 1, T])[pick]
    return Points(t, t - 1, {"scale": np.full(len(t), SCALE)})


def combined(coefficients: Array, *states: Array) -> Array:
    """A coefficient a row times each state, summed."""
    rows = (-1, *[1] * (states[0].ndim - 1))
    return np.asarray(
        sum(c.astype(float).reshape(rows) * state for c, state in zip(coefficients, states, strict=True))
    )


@question("classifier_guided_mean")
def guided(session: Session, layout: tuple[int, ...], pick: Array) -> Question:
    """The mean, moved by scale times the variance along the gradient that the classifier answers."""
    dialect = session.dialect
    if not dialect.batched_t:
        raise NotApplicable("asked with a batch of levels")
    if dialect.variance.startswith("learned"):
        raise NotApplicable("the variance is learned")
    if not np.isfinite(session.declared.log_abar[-1]):
        raise NotApplicable("eps says nothing about data without signal at T")
    x, eps, grad = (generic(session, seed, layout, pick) for seed in (71, 72, 73))
    points = _points(session, pick)
    port = formulas.PORTS["guided_mean"]
    want = expected(port, dialect, session.declared, points)
    states = (x.numpy(), eps.numpy(), grad.numpy())
    sizes = tuple(np.abs(state) for state in states)

    def guesses() -> Iterator[Guess]:
        symbols = where.scalars(session.declared, points) | where.extras(session.declared, points)
        for other in ("beta", "beta_tilde"):
            if other != dialect.variance:
                code = formulas.compiled(formulas.programs(port, dialect.but(variance=other))[0])
                found = Diagnosis(
                    "convention",
                    f"the variance is {other}",
                    dialect=dialect.but(variance=other),
                    also=("variance", "guidance"),
                )
                yield found, combined(formulas.run(code, symbols, STATES), *states)
        for family, words, program in formulas.CONFUSED["guided_mean"]:
            code = formulas.compiled(formulas.adapted(program, port, dialect))
            form = formulas.run(code, symbols, STATES)
            yield Diagnosis(family, words, also=("guidance",)), combined(form, *states)
        for family, words, spoken in (
            ("guidance", "the scale is ignored", {"scale": np.ones(len(points))}),
            ("guidance", "the scale is squared", {"scale": np.full(len(points), SCALE**2)}),
            ("sqrt", "the standard deviation for the variance", None),
        ):
            code = formulas.compiled(formulas.programs(port, dialect)[0])
            if spoken is None:
                form = formulas.run(code, symbols, STATES).copy()
                form[2] = SCALE * np.sqrt(form[2] / SCALE)
            else:
                form = formulas.run(code, symbols | spoken, STATES)
            yield Diagnosis(family, words, also=("guidance",)), combined(form, *states)

    level = torch.as_tensor(points.t + dialect.index_origin - 1)
    given = {"x_t": x, "t": level, "eps": eps, "gradient_fn": Recording(session, grad), "scale": SCALE}
    size = combined(want.local + want.grown, *sizes)
    return Question(given, combined(want.values, *states), size, "guidance", guesses, tables=True)


@check("classifier_guided_mean.point")
def point(session: Session) -> Finding:
    """The gradient is taken at x_t at level t, or at the mean at level t or t - 1, as is declared."""
    found = answered(session, "classifier_guided_mean", guided)
    seen: Recording = found.question.arguments["gradient_fn"]
    if seen.x is None:
        return fail("guidance", "the classifier is never asked: the gradient is ignored")
    if seen.calls > 1:
        return fail("guidance", f"the classifier is asked {seen.calls} times")
    name = _where(session, found, seen.x)
    level = _level(session, seen)
    declared = session.dialect.guidance_point
    if name not in ("x_t", "mean"):
        return fail("guidance", f"the gradient is taken at {name}, not at x_t or at the mean")
    words = f"the gradient is taken at {name}, at level {level}"
    if declared is not None and name != declared:
        dialect = session.dialect.but(guidance_point=name)
        return fail(
            "guidance", f"{words}, where {declared} is declared", dialect=dialect, also=("convention",)
        )
    if level in ("t", "none") or (name == "mean" and level == "t - 1"):
        return Finding(True, words)
    return fail("index", f"{words}, wanted t", also=("guidance",))


def _where(session: Session, found: Answer, seen: Array) -> str:
    """Which point the classifier is given."""
    given = found.question.arguments
    x, eps = flat(given["x_t"]), flat(given["eps"])
    points = _points(session, np.arange(ROWS))
    still = Points(points.t, points.s, {"scale": np.zeros(ROWS)})
    port = formulas.PORTS["guided_mean"]
    mean = combined(expected(port, session.dialect, session.declared, still).values[:2], x, eps)
    # what single precision leaves of the coefficients of the mean
    slack = 1e4 * UNIT["float32"]

    def is_(state: Array) -> bool:
        return bool(seen.shape == state.shape and (np.abs(seen - state) <= slack * (1 + np.abs(state))).all())

    pure = expected(
        formulas.PORTS["predict_x0"],
        session.dialect.but(parameterization="eps"),
        session.declared,
        Points(points.t, points.s, {}),
    )
    states = {"x_t": x, "mean": mean, "the predicted x_0": combined(pure.values, x, eps)}
    for name, state in states.items():
        if is_(state):
            return name
    shifted = combined(np.stack([np.ones(ROWS)]), found.got.reshape(ROWS, -1))
    return "the shifted mean" if is_(shifted) else "another point"


def _level(session: Session, seen: Recording) -> str:
    """The level that the classifier is given, in words."""
    if seen.label is None:
        return "none"
    t = _points(session, np.arange(ROWS)).t + session.dialect.index_origin - 1
    label = np.broadcast_to(seen.label, (ROWS,)) if seen.label.size == 1 else seen.label
    if label.shape != t.shape:
        return "another"
    for words, values in (("t", t), ("t - 1", t - 1), ("t + 1", t + 1)):
        if np.array_equal(label, values):
            return words
    return "another"
