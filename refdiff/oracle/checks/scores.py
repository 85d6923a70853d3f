"""Score-matching losses: explicit, sliced, denoising, and denoising at several levels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refdiff.oracle.checks.questions import ROWS, Guess, Question, answered, flat, generic, question
from refdiff.oracle.checks.registry import Finding, check, fail
from refdiff.oracle.expected import UNIT
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session

Array = NDArray[Any]
SIGMA = 0.7
LADDER = (2.0, 0.9, 0.4, 0.15)
INDEX = np.array([2, 0, 3, 1, 2])


@dataclass
class Field:
    """A score that is no gradient and not linear: s = b - A x - k x³, with its Jacobian."""

    session: Session
    layout: tuple[int, ...]

    def __post_init__(self) -> None:
        d = int(np.prod(self.layout))
        draw = np.random.Generator(np.random.PCG64([29, d]))
        # numbers of float32, so that a target in float32 sees the same field
        self.A = (draw.standard_normal((d, d)) / np.sqrt(d)).astype(np.float32).astype(float)
        self.b = draw.standard_normal(d).astype(np.float32).astype(float)
        self.k = 0.125

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        out = self.session.caller.outgoing
        A, b = out(torch.as_tensor(self.A)), out(torch.as_tensor(self.b))
        if isinstance(x, Tensor):
            A, b = A.to(x.dtype), b.to(x.dtype)
        rows = x.reshape(*x.shape[: x.ndim - len(self.layout)], -1)
        return (b - rows @ A.T - self.k * rows**3).reshape(x.shape)

    def score(self, x: Array) -> Array:
        """(B, D)."""
        return np.asarray(self.b - x @ self.A.T - self.k * x**3)

    def jacobian(self, x: Array) -> Array:
        """(B, D, D), entry (i, j) the derivative of s_i to x_j."""
        return np.asarray(-self.A - 3 * self.k * x[:, :, None] ** 2 * np.eye(len(self.b)))

    def sizes(self, x: Array) -> tuple[Array, Array]:
        """Sizes of the terms of a score and of its Jacobian."""
        near = np.abs(x)
        score = np.abs(self.b) + near @ np.abs(self.A).T + self.k * near**3
        return score, np.abs(self.jacobian(x))


# the factors of |s|² and of the derivative
REDUCTIONS = {
    "half_sum": (0.5, 1.0, False),
    "sum": (1.0, 2.0, False),
    "half_mean": (0.5, 1.0, True),
    "mean": (1.0, 2.0, True),
}


def reduced(name: str, square: Array, derivative: Array, D: int) -> Array:
    """A loss from its two sums over dimensions."""
    a, b, mean = REDUCTIONS[name]
    return (a * square + b * derivative) / (D if mean else 1)


def _conventions(session: Session, square: Array, derivative: Array, D: int) -> Iterator[Guess]:
    for name in REDUCTIONS:
        if name != session.dialect.score_reduction:
            dialect = session.dialect.but(score_reduction=name)
            words = f"the reduction is {name}"
            found = Diagnosis("convention", words, dialect=dialect, also=("loss-weight",))
            yield found, reduced(name, square, derivative, D)


def _of_two(session: Session, square: Array, derivative: Array, D: int, name: str) -> Iterator[Guess]:
    """Mistakes that explicit and sliced score matching share; the square and the derivative as sums."""
    yield from _conventions(session, square, derivative, D)
    for declared, (a, b, mean) in REDUCTIONS.items():
        n = D if mean else 1
        what = f" ({declared})"
        yield Diagnosis("sign", f"the {name} has the wrong sign{what}"), (a * square - b * derivative) / n
        yield (
            Diagnosis("loss-weight", f"the factor 1/2 of the square is missing{what}"),
            (2 * a * square + b * derivative) / n,
        )
        yield (
            Diagnosis("loss-weight", f"the {name} is halved too{what}"),
            (a * square + b * derivative / 2) / n,
        )
        yield Diagnosis("loss-weight", f"the {name} is missing{what}"), a * square / n
        yield Diagnosis("loss-weight", f"the square is missing{what}"), b * derivative / n
        yield (
            Diagnosis("loss-weight", f"the {name} is a mean over the dimensions, the square a sum{what}"),
            a * square + b * derivative / D,
        )
        yield (
            Diagnosis("loss-weight", f"the square is a mean over the dimensions, the {name} a sum{what}"),
            a * square / D + b * derivative,
        )
        yield Diagnosis("sqrt", f"the norm, not its square{what}"), (a * np.sqrt(square) + b * derivative) / n


def batch_means(loss: Array) -> Iterator[Guess]:
    """The mean or the sum of a batch for every sample."""
    also = ("loss-weight",)
    yield (
        Diagnosis("state-broadcast", "the mean over the batch for every sample", also=also),
        np.full_like(loss, loss.mean()),
    )
    yield (
        Diagnosis("state-broadcast", "the sum over the batch for every sample", also=also),
        np.full_like(loss, loss.sum()),
    )


@question("esm_loss")
def explicit(session: Session, layout: tuple[int, ...], pick: Array) -> Question:
    """Explicit score matching: |s|²/2 + tr grad s, the trace exact."""
    x = generic(session, 1, layout, pick)
    field, D = Field(session, layout), int(np.prod(layout))
    s, J = field.score(flat(x)), field.jacobian(flat(x))
    size_s, size_J = field.sizes(flat(x))
    square, trace = (s**2).sum(1), np.trace(J, axis1=1, axis2=2)
    declared = session.dialect.score_reduction
    want = reduced(declared, square, trace, D)
    size = reduced(declared, (size_s**2).sum(1), np.trace(size_J, axis1=1, axis2=2), D)

    def guesses() -> Iterator[Guess]:
        yield from _of_two(session, square, trace, D, "trace")
        yield from batch_means(want)
        for words, form in {
            "the sum before the square: (sum of s)² for the sum of s²": reduced(
                declared, s.sum(1) ** 2, trace, D
            ),
            "all entries of the Jacobian are summed, not its diagonal": reduced(
                declared, square, J.sum((1, 2)), D
            ),
            "one entry of the Jacobian stands for its trace": reduced(declared, square, J[:, 0, 0], D),
            "the trace of the squared Jacobian": reduced(declared, square, np.einsum("bij,bji->b", J, J), D),
            "the squared norm of the Jacobian": reduced(declared, square, (J**2).sum((1, 2)), D),
            "the absolute value of the trace's terms": reduced(
                declared, square, np.abs(np.einsum("bii->bi", J)).sum(1), D
            ),
            "the trace of the last level of differentiation is counted D times": reduced(
                declared, square, D * trace, D
            ),
            "the sum of absolute values, not of squares": reduced(declared, np.abs(s).sum(1), trace, D),
        }.items():
            yield Diagnosis("loss-weight", words), form

    return Question({"score_fn": field, "x": x}, want, size, "loss-weight", guesses)


@question("ssm_loss")
def sliced(session: Session, layout: tuple[int, ...], pick: Array) -> Question:
    """Sliced score matching: v·grad s·v + (v·s)²/2, or with |s|²/2 where that is declared."""
    x, v = generic(session, 2, layout, pick), generic(session, 3, layout, pick)
    field, D = Field(session, layout), int(np.prod(layout))
    s, J, w = field.score(flat(x)), field.jacobian(flat(x)), flat(v)
    size_s, size_J = field.sizes(flat(x))
    along = np.einsum("bi,bij,bj->b", w, J, w)
    squares = {"plain": (w * s).sum(1) ** 2, "reduced": (s**2).sum(1)}
    kind, declared = session.dialect.sliced, session.dialect.score_reduction
    square = squares[kind]
    want = reduced(declared, square, along, D)
    sizes = {"plain": (np.abs(w) * size_s).sum(1) ** 2, "reduced": (size_s**2).sum(1)}
    size = reduced(declared, sizes[kind], np.einsum("bi,bij,bj->b", np.abs(w), size_J, np.abs(w)), D)

    # the products of each row of the last axis, where a sample has several
    rowed = (w * s).reshape(len(w), -1, layout[-1]).sum(2)

    def guesses() -> Iterator[Guess]:
        for other, another in squares.items():
            if other != kind:
                words = "the square is |s|², not (v·s)²" if other == "reduced" else "the square is (v·s)²"
                dialect = session.dialect.but(sliced=other)
                found = Diagnosis("convention", words, dialect=dialect, also=("loss-weight",))
                yield found, reduced(declared, another, along, D)
        yield from _of_two(session, square, along, D, "derivative along v")
        yield from batch_means(want)
        for words, form in {
            "the last axis alone is summed, the other axes are averaged: each of its rows is projected "
            "by itself": reduced(declared, (rowed**2).mean(1), along / rowed.shape[1], D),
            "v·s is not squared": reduced(declared, (w * s).sum(1), along, D),
            "the square before the sum: the sum of (v s)²": reduced(
                declared, ((w * s) ** 2).sum(1), along, D
            ),
            "grad s·v is summed, not multiplied by v again": reduced(
                declared, square, np.einsum("bij,bj->b", J, w), D
            ),
            "v·grad s is summed, not multiplied by v again": reduced(
                declared, square, np.einsum("bi,bij->b", w, J), D
            ),
            "the diagonal along v: the sum of v² grad s": reduced(
                declared, square, np.einsum("bi,bii->b", w**2, J), D
            ),
            "the exact trace, not the derivative along v": reduced(
                declared, square, np.trace(J, axis1=1, axis2=2), D
            ),
            "the squared norm of grad s·v": reduced(
                declared, square, (np.einsum("bij,bj->bi", J, w) ** 2).sum(1), D
            ),
        }.items():
            yield Diagnosis("loss-weight", words), form

    return Question({"score_fn": field, "x": x, "v": v}, want, size, "loss-weight", guesses, noise=v)


@dataclass
class Recording:
    """A score that answers given numbers and notes what it is asked."""

    session: Session
    output: Tensor
    x: Array | None = None
    label: Array | None = None
    calls: int = 0

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        state = x.detach().double().numpy() if isinstance(x, Tensor) else np.asarray(x, dtype=float)
        self.x = state.reshape(len(state), -1)
        given = [*args, *kwargs.values()]
        if given:
            label = given[0].detach().double().numpy() if isinstance(given[0], Tensor) else given[0]
            self.label = np.asarray(label, dtype=float).reshape(-1)
        if isinstance(x, Tensor):
            return self.output.to(x.dtype).reshape(x.shape)
        return self.session.caller.outgoing(self.output)


def _denoising(
    session: Session, output: Array, noise: Array, sigma: Array
) -> tuple[Array, Array, Callable[[], Iterator[Guess]]]:
    """The denoising loss, its size, and its mistakes; everything (B, D), sigma (B, 1)."""
    D = output.shape[1]
    declared, power = session.dialect.score_reduction, session.dialect.dsm_weight
    powers = {"one": sigma[:, 0] ** 0, "sigma_squared": sigma[:, 0] ** 2}

    def loss(error: Array, weight: Array = powers[power], name: str = declared) -> Array:
        return weight * reduced(name, (error**2).sum(1), np.zeros(len(error)), D)

    right = output + noise / sigma

    def guesses() -> Iterator[Guess]:
        for name in REDUCTIONS:
            for other, weight in powers.items():
                words = f"the reduction is {name}, the weight {other}"
                dialect = session.dialect.but(score_reduction=name, dsm_weight=other)
                found = Diagnosis("convention", words, dialect=dialect, also=("loss-weight",))
                yield found, loss(right, weight, name)
        yield from batch_means(loss(right))
        for name in REDUCTIONS:
            for other, weight in powers.items():
                how = f" ({name}, weight {other})"
                for family, words, error in (
                    ("sign", "the target is +z / sigma: the sign is flipped", output - noise / sigma),
                    ("parameterization", "the target is the noise, not the score", output - noise),
                    ("parameterization", "the target is -z, not divided by sigma", output + noise),
                    ("sqrt", "the target is -z / sigma²", output + noise / sigma**2),
                    (
                        "loss-weight",
                        "the target is -sigma z: multiplied, not divided",
                        output + sigma * noise,
                    ),
                ):
                    yield Diagnosis(family, words + how), loss(error, weight, name)
            total = right.sum(1) ** 2
            for other, weight in powers.items():
                words = f"the sum before the square ({name}, weight {other})"
                yield Diagnosis("loss-weight", words), weight * reduced(name, total, 0 * total, D)
        for power_of in (1, -1, -2, 4):
            words = f"weighted by sigma^{power_of}, where {power} is declared"
            for name in REDUCTIONS:
                weight = sigma[:, 0] ** power_of
                yield Diagnosis("loss-weight", words), loss(right, weight, name)
        for other, weight in powers.items():
            mean = np.full_like(weight, weight.mean())
            words = f"each sample is weighted by the batch's mean of {other}: broadcast"
            yield Diagnosis("loss-weight", words, also=("state-broadcast",)), loss(right, mean)
        yield (
            Diagnosis("sqrt", "the norm, not its square"),
            np.sqrt(powers[power] * (right**2).sum(1)),
        )

    size = loss(np.abs(output) + np.abs(noise / sigma))
    return loss(right), size, guesses


@question("dsm_loss")
def denoising(session: Session, layout: tuple[int, ...], pick: Array) -> Question:
    """Denoising score matching: |s(x + sigma z) + z / sigma|²/2."""
    x, noise, output = (generic(session, seed, layout, pick) for seed in (4, 5, 6))
    sigma = np.full((len(pick), 1), SIGMA)
    want, size, guesses = _denoising(session, flat(output), flat(noise), sigma)
    given = {"score_fn": Recording(session, output), "x": x, "sigma": SIGMA, "noise": noise}
    return Question(given, want, size, "loss-weight", guesses, noise)


@question("smld_loss")
def of_levels(session: Session, layout: tuple[int, ...], pick: Array) -> Question:
    """Denoising score matching, each sample at a level of its own."""
    x, noise, output = (generic(session, seed, layout, pick) for seed in (7, 8, 9))
    index = INDEX[pick]
    sigmas = torch.tensor(LADDER, dtype=torch.float32).double()
    sigma = sigmas.numpy()[index][:, None]
    want, size, guesses = _denoising(session, flat(output), flat(noise), sigma)
    given = {
        "score_fn": Recording(session, output),
        "sigmas": sigmas,
        "x": x,
        "index": torch.as_tensor(index),
        "noise": noise,
    }
    return Question(given, want, size, "loss-weight", guesses, noise)


def _asked(session: Session, port: str, sigma: Array) -> Finding:
    make = denoising if port == "dsm_loss" else of_levels
    found = answered(session, port, make)
    given = found.question.arguments
    seen = given["score_fn"]
    if seen.x is None:
        return fail("loss-weight", "the score is never asked")
    x, z = flat(given["x"]), flat(given["noise"])
    tolerance = 1e2 * UNIT["float32"]

    def is_(state: Array) -> bool:
        return bool(
            seen.x.shape == state.shape and (np.abs(seen.x - state) <= tolerance * (1 + np.abs(state))).all()
        )

    if not is_(x + sigma * z):
        states = (
            ("sqrt", "x + sigma² z", x + sigma**2 * z),
            ("sqrt", "x + sqrt(sigma) z", x + np.sqrt(sigma) * z),
            ("data-scaling", "x + z: noise of one level whatever sigma", x + z),
            ("data-scaling", "x itself", x),
            ("data-scaling", "the noise", sigma * z),
            ("sign", "x - sigma z", x - sigma * z),
            (
                "parameterization",
                "sqrt(1 - sigma²) x + sigma z",
                np.sqrt(np.maximum(1 - sigma**2, 0)) * x + sigma * z,
            ),
            ("state-broadcast", "x + sigma z of another sample's sigma", x + sigma[:1] * z),
            ("data-scaling", "(x + sigma z) / sqrt(sigma² + 1)", (x + sigma * z) / np.sqrt(sigma**2 + 1)),
        )
        for family, words, state in states:
            if is_(state):
                return fail(family, f"the score is asked at {words}, not at x + sigma z")
        return fail("data-scaling", "the score is not asked at x + sigma z: no known mistake fits")
    if seen.label is not None and port == "smld_loss":
        return _label(session, seen.label, given["index"].numpy(), sigma[:, 0])
    return Finding(True)


def _label(session: Session, label: Array, index: Array, sigma: Array) -> Finding:
    wanted = {"index": index.astype(float), "sigma": sigma}
    declared = session.dialect.noise_label
    label = np.broadcast_to(label, index.shape) if label.size == 1 else label

    def is_(values: Array) -> bool:
        return bool(label.shape == values.shape and np.allclose(label, values, rtol=1e-5, atol=0))

    if is_(wanted[declared]):
        return Finding(True)
    for name, values in wanted.items():
        if is_(values):
            dialect = session.dialect.but(noise_label=name)
            return fail("convention", f"the score is asked with {name}", dialect=dialect, also=("index",))
    last = len(LADDER) - 1
    for words, values in (
        ("index + 1", index + 1.0),
        ("the reversed index", last - index.astype(float)),
        ("index - 1", index - 1.0),
    ):
        if is_(values):
            return fail("index", f"the score is asked with {words}")
    return fail("index", f"the score is asked with {label[:4]}, wanted {wanted[declared][:4]}")


@check("dsm_loss.input")
def denoising_input(session: Session) -> Finding:
    """The score is asked at x + sigma z."""
    return _asked(session, "dsm_loss", np.full((ROWS, 1), SIGMA))


@check("smld_loss.input")
def of_levels_input(session: Session) -> Finding:
    """The score is asked at x + sigma_i z, with the label of i."""
    return _asked(session, "smld_loss", torch.tensor(LADDER).double().numpy()[INDEX][:, None])
