"""The range of data: what the model sees of pixels and back, and a denoiser of another range."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from refdiff.oracle.checks.questions import ROWS, Guess, Question, answered, flat, generic, question
from refdiff.oracle.checks.registry import Finding, check, fail
from refdiff.oracle.checks.scores import Recording
from refdiff.oracle.expected import UNIT
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session
from refdiff.oracle.target import Dialect

Array = NDArray[Any]
SIGMA = 0.7
# (scale, shift) of x = scale (u - shift), u in [0, 1]
RANGES = {"[-1, 1]": (2.0, 0.5), "[0, 1]": (1.0, 0.0)}


def scaling(dialect: Dialect, name: str | None = None) -> tuple[float, float]:
    """Scale and shift of a range: what the model sees is scale (x - shift)."""
    name = dialect.data_range if name is None else name
    return RANGES.get(name, (dialect.latent_scale, dialect.latent_shift))


def _pixels(session: Session, layout: tuple[int, ...], pick: Array) -> Any:
    value = 0.5 + 0.5 * torch.tanh(generic(session, 61, layout, pick))
    return value.float().double() if session.dialect.dtype == "float32" else value


def _others(session: Session, x: Array, back: bool) -> Iterator[Guess]:
    dialect = session.dialect
    for name in ("[-1, 1]", "[0, 1]"):
        if name != dialect.data_range:
            scale, shift = scaling(dialect, name)
            form = x / scale + shift if back else scale * (x - shift)
            words = "data is left in [0, 1]" if name == "[0, 1]" else "data is scaled to [-1, 1]"
            yield Diagnosis("data-scaling", words, dialect=dialect.but(data_range=name)), form
    scale, shift = scaling(dialect)
    for words, form in (
        ("the other direction", scale * (x - shift) if back else x / scale + shift),
        ("the shift is ignored", x / scale if back else scale * x),
        ("the scale is ignored", x + shift if back else x - shift),
        ("the shift is applied after the scale", (x + shift) / scale if back else scale * x - shift),
        ("the shift has the wrong sign", x / scale - shift if back else scale * (x + shift)),
        ("divided by the scale, not multiplied", scale * x + shift if back else (x - shift) / scale),
        ("2 x, without the -1", 2 * x),
        ("x - 1/2: in [-1/2, 1/2]", x - 0.5),
        ("255 x: bytes", 255 * x),
        ("x / 255: taken for bytes", x / 255),
        ("x / 127.5 - 1: taken for bytes", x / 127.5 - 1),
        ("clipped to [0, 1]", np.clip(x / scale + shift if back else scale * (x - shift), 0, 1)),
        ("1 - 2 x: inverted", 1 - 2 * x),
    ):
        yield Diagnosis("data-scaling", words), form
    flat_x = x.reshape(len(x), -1)
    rows = (-1, *[1] * (x.ndim - 1))
    mean, std = flat_x.mean(1).reshape(rows), flat_x.std(1).reshape(rows)
    yield Diagnosis("data-scaling", "standardised by each sample's own mean and deviation"), (x - mean) / std
    yield (
        Diagnosis("data-scaling", "standardised by the batch's mean and deviation"),
        (x - x.mean()) / x.std(),
    )


@question("normalize_data")
def normalized(session: Session, layout: tuple[int, ...], pick: Array) -> Question:
    """What the model sees of data: pixels in [0, 1], or latents."""
    x = _pixels(session, layout, pick)
    scale, shift = scaling(session.dialect)
    u = x.numpy()
    size = abs(scale) * (np.abs(u) + abs(shift))
    return Question({"x": x}, scale * (u - shift), size, "data-scaling", lambda: _others(session, u, False))


@question("unnormalize_data")
def unnormalized(session: Session, layout: tuple[int, ...], pick: Array) -> Question:
    """Data of what the model sees."""
    scale, shift = scaling(session.dialect)
    y = scale * (_pixels(session, layout, pick) - shift)
    y = y.float().double() if session.dialect.dtype == "float32" else y
    v = y.numpy()
    return Question(
        {"x": y},
        v / scale + shift,
        np.abs(v / scale) + abs(shift),
        "data-scaling",
        lambda: _others(session, v, True),
    )


def between(dialect: Dialect) -> tuple[float, float]:
    """x = a u + b between the range of x and the one of the denoiser."""
    pair = (dialect.data_range, dialect.denoiser_range)
    return {("[-1, 1]", "[0, 1]"): (2.0, -1.0), ("[0, 1]", "[-1, 1]"): (0.5, 0.5)}.get(pair, (1.0, 0.0))


@question("score_from_denoiser")
def from_denoiser(session: Session, layout: tuple[int, ...], pick: Array) -> Question:
    """(E[x_0 | x] - x) / sigma², through a denoiser of its own range."""
    x, output = generic(session, 62, layout, pick), generic(session, 63, layout, pick)
    a, b = between(session.dialect)
    state, answer = x.numpy(), output.numpy()
    want = (a * answer + b - state) / SIGMA**2
    size = (np.abs(a * answer) + abs(b) + np.abs(state)) / SIGMA**2

    def guesses() -> Iterator[Guess]:
        for data in RANGES:
            for own in RANGES:
                changed = session.dialect.but(data_range=data, denoiser_range=own)
                c, d = between(changed)
                if (c, d) != (a, b):
                    words = f"x in {data} and a denoiser of data in {own}"
                    found = Diagnosis("data-scaling", words, dialect=changed)
                    yield found, (c * answer + d - state) / SIGMA**2
        for words, form in (
            ("the denoiser's answer is not scaled back", (answer - state) / SIGMA**2),
            ("the difference is taken in the denoiser's range", (answer - (state - b) / a) / SIGMA**2),
            (
                "the difference is taken and divided in the denoiser's range",
                (answer - (state - b) / a) / (SIGMA / a) ** 2,
            ),
            ("the denoiser's answer is scaled the wrong way", ((answer - b) / a - state) / SIGMA**2),
            ("divided by the denoiser's sigma²", (a * answer + b - state) / (SIGMA / a) ** 2),
            ("divided by twice sigma, squared", (a * answer + b - state) / (SIGMA * a) ** 2),
        ):
            yield Diagnosis("data-scaling", words), form
        yield Diagnosis("sign", "x - E[x_0 | x]: the sign is flipped"), -want
        yield Diagnosis("sqrt", "divided by sigma, not by sigma²"), want * SIGMA
        yield Diagnosis("parameterization", "the answer of the denoiser itself"), answer
        yield Diagnosis("parameterization", "not divided by sigma²"), want * SIGMA**2

    given = {"denoiser": Recording(session, output), "x": x, "sigma": SIGMA}
    return Question(given, want, size, "data-scaling", guesses)


@check("score_from_denoiser.input")
def from_denoiser_input(session: Session) -> Finding:
    """The denoiser is asked at x in its own range, and at the sigma of that range."""
    found = answered(session, "score_from_denoiser", from_denoiser)
    seen, x = found.question.arguments["denoiser"], flat(found.question.arguments["x"])
    if seen.x is None:
        return fail("data-scaling", "the denoiser is never asked")
    a, b = between(session.dialect)
    slack = 1e2 * UNIT["float32"]

    def is_(got: Array, want: Array) -> bool:
        return bool(got.shape == want.shape and (np.abs(got - want) <= slack * (1 + np.abs(want))).all())

    if not is_(seen.x, (x - b) / a):
        for words, state in (
            ("x itself, in the other range", x),
            ("a x + b, the wrong way", a * x + b),
            ("x / a, without the shift", x / a),
            ("x / sqrt(sigma² + 1)", x / np.sqrt(SIGMA**2 + 1)),
        ):
            if is_(seen.x, state):
                return fail("data-scaling", f"the denoiser is asked at {words}")
        return fail("data-scaling", "the denoiser is not asked at x in its range: no known mistake fits")
    if seen.label is None:
        return Finding(True, "the denoiser is asked without a sigma")
    label = seen.label if seen.label.size == ROWS else np.broadcast_to(seen.label, ROWS)
    if is_(label, np.full(ROWS, SIGMA / a)):
        return Finding(True)
    for words, value in (
        ("sigma of x, which is not the one of its range", SIGMA),
        ("sigma times a", SIGMA * a),
        ("sigma²", SIGMA**2),
        ("sigma² of its range", (SIGMA / a) ** 2),
    ):
        if is_(label, np.full(ROWS, value)):
            return fail("data-scaling", f"the denoiser is asked with {words}")
    return fail("data-scaling", f"the denoiser is asked with {label[0]:.6g}, wanted {SIGMA / a:.6g}")
