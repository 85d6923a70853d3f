"""Ports that answer values, not coefficients: what is asked, what is wanted, and the mistakes people make."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refdiff.oracle.calls import Declined, TargetError, numbers
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.expected import ROUNDINGS, ROUNDOFF, UNIT
from refdiff.oracle.report import Diagnosis, agreement
from refdiff.oracle.session import Session

Array = NDArray[Any]
Guess = tuple[Diagnosis, Array]
# one sample's shape; neither has as many numbers as there are rows
LAYOUTS: tuple[tuple[int, ...], ...] = ((3,), (2, 3, 5))
ROWS = 5
# other rows in another order, as many of them as a sample has numbers; and one row alone
PICKS = (np.array([3, 1, 4]), np.array([2]))
CONSTANT = 1e-6
# what a difference quotient leaves of a derivative
QUOTIENT = 1e-5


@dataclass(frozen=True)
class Question:
    """One call of a port, and what it must answer.

    Args:
        arguments: of the call, in order.
        want: the right answer, float64.
        size: the sum of the sizes of its terms, of the same shape: one rounding changes it by this much.
        family: of a mistake that no guess explains.
        guesses: wrong answers, each with its diagnosis; the first that fits is taken.
        noise: the answer to Gaussian draws of its shape.
        tables: whether a table of the schedule enters, which may be in float32.
        judged: which entries are compared; None: all.
        cancelling: sizes of further terms that cancel where the formula is written plainly.
    """

    arguments: dict[str, Any]
    want: Array
    size: Array
    family: str
    guesses: Callable[[], Iterable[Guess]]
    noise: Tensor | None = None
    tables: bool = False
    judged: Array | None = None
    cancelling: Array | float = 0.0


Builder = Callable[[Session, tuple[int, ...], Array], Question]


@dataclass(frozen=True)
class Answer:
    """A question with its answer."""

    question: Question
    got: Array
    dtype: str
    mutated: tuple[str, ...]
    others: tuple[str, ...]
    layout: tuple[int, ...] = field(default=())


def generic(session: Session, seed: int, layout: tuple[int, ...], pick: Array, rows: int = ROWS) -> Tensor:
    """Fixed numbers of about unit size, (rows, *layout), of which some rows are picked."""
    draw = np.random.Generator(np.random.PCG64([23, seed])).standard_normal((rows, *layout))
    value = torch.as_tensor(draw)[torch.as_tensor(pick)]
    return value.float().double() if session.dialect.dtype == "float32" else value


def flat(value: Tensor) -> Array:
    """(B, *) as (B, D) in NumPy."""
    return np.asarray(value.reshape(len(value), -1).numpy())


def answered(session: Session, port: str, make: Builder) -> Answer:
    """The answer to a port's question, in the first layout that the target takes."""
    return session.once(("answer", port), lambda: _answered(session, port, make))  # type: ignore[no-any-return]


def _answered(session: Session, port: str, make: Builder) -> Answer:
    failure: TargetError | None = None
    for layout in LAYOUTS:
        try:
            return ask(session, port, make(session, layout, np.arange(ROWS)), layout)
        except TargetError as error:
            # what is declined says less than what is raised
            failure = error if failure is None or isinstance(failure, Declined) else failure
            if error.kind == "timeout":
                break
    assert failure is not None
    raise failure


def ask(session: Session, port: str, question: Question, layout: tuple[int, ...]) -> Answer:
    """One call."""
    noise = question.noise

    def draw(number: int, shape: tuple[int, ...]) -> Tensor:
        if noise is not None and shape == tuple(noise.shape):
            return noise
        return torch.zeros(shape, dtype=torch.float64)

    call = session.caller(port, question.arguments, draw)
    found = numbers(call.value)
    return Answer(question, found.values.numpy(), found.dtype, call.mutated, tuple(call.tape.others), layout)


def shape(session: Session, port: str, make: Builder) -> Finding:
    """The answer has the shape that is asked for."""
    found = answered(session, port, make)
    got, want = found.got.shape, found.question.want.shape
    if got == want:
        return Finding(True)
    fields: dict[str, Any] = {"got": list(got), "wanted": list(want), "also": ("loss-weight",)}
    if got in ((), (1,)):
        return fail("state-broadcast", "one number for the whole batch, wanted one a sample", **fields)
    if len(want) == 1 and got == (want[0], want[0]):
        return fail("state-broadcast", "(B, B) numbers: (B, 1) was broadcast against (B,)", **fields)
    return fail("state-broadcast", f"shape {got}, wanted {want}", **fields)


def value(session: Session, port: str, make: Builder) -> Finding:
    """The answer is the right one, up to rounding."""
    found = answered(session, port, make)
    if found.got.shape != found.question.want.shape:
        raise NotApplicable(f"see {port}.shape")
    first = decide(session, port, found)
    wide = _wide(session, port, make, found) if first.ok else None
    if wide is None:
        return first
    second = decide(session, port, wide)
    return first if second.ok else replace(second, message=f"data with {len(wide.layout)} axes a sample")


def _wide(session: Session, port: str, make: Builder, found: Answer) -> Answer | None:
    """The answer for data with several axes; None where the target does not take them."""
    if found.layout == LAYOUTS[-1]:
        return None
    try:
        wide = ask(session, port, make(session, LAYOUTS[-1], np.arange(ROWS)), LAYOUTS[-1])
    except TargetError:
        return None
    return wide if wide.got.shape == wide.question.want.shape else None


def tolerance(question: Question, unit: float) -> Array:
    """What roundings of a unit change."""
    return ROUNDINGS * unit * question.size


def decide(session: Session, port: str, found: Answer) -> Finding:
    """Compare an answer, and explain it where it is wrong."""
    asked, got = found.question, found.got
    judged = np.ones(got.shape, bool) if asked.judged is None else asked.judged
    with np.errstate(all="ignore"):
        error = np.where(judged, np.abs(got - asked.want), 0.0)
    error = np.where(np.isnan(error), np.inf, error)
    coarse = np.where(judged, tolerance(asked, UNIT["float32"]), 1.0)
    unit = UNIT[session.dialect.dtype]
    native = np.where(judged, tolerance(asked, unit) + ROUNDINGS * unit * asked.cancelling, 1.0)
    coarse = np.maximum(coarse, native)
    ratio = error / np.maximum(native, 1e-300)
    worst = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    digits, ulps = agreement(float(got[worst]), float(asked.want[worst]), ROUNDOFF)
    fields: dict[str, Any] = {
        "error": float(error[worst]), "tolerance": float(native[worst]), "worst": {"row": int(worst[0])},
        "got": float(got[worst]), "wanted": float(asked.want[worst]), "digits": digits, "ulps": ulps,
        "asked": f"{port} of row {worst[0]}",
    }  # fmt: skip
    if (error <= native).all():
        return Finding(True, precision=session.dialect.dtype, **fields)
    known = guessed(found, judged, native, unit)
    if known is not None:
        return Finding(False, "", known, **fields)
    if (error <= coarse).all():
        return _rounded(session, found, fields)
    return Finding(False, "", explained(found, judged, coarse), **fields)


def _rounded(session: Session, found: Answer, fields: dict[str, Any]) -> Finding:
    """What is right to float32 and not further."""
    if found.question.tables and session.dialect.tables != "float64":
        return Finding(True, precision="float32 tables", **fields)
    if found.dtype == "float32" or bool((found.got.astype(np.float32) == found.got).all()):
        words = "float64 in, float32 precision out: works in single precision"
        dialect = session.dialect.but(dtype="float32")
        return fail("convention", words, dialect=dialect, also=("precision",), **fields)
    return fail("precision", "right to float32 only: a systematic error", **fields)


def explained(found: Answer, judged: Array, coarse: Array) -> Diagnosis:
    """The first guess that fits, else what the ratio to the right answer says."""
    asked, got = found.question, found.got
    known = guessed(found, judged, coarse, UNIT["float32"])
    if known is not None:
        return known
    finite = np.isfinite(got)
    if not finite[judged].all():
        lost = int((judged & ~finite).sum())
        return Diagnosis(asked.family, f"{lost} of {int(judged.sum())} answers are not finite")
    near = guessed(found, judged, QUOTIENT * np.abs(got), QUOTIENT)
    far = bool((np.abs(got - asked.want) > 100 * QUOTIENT * np.abs(got))[judged].any())
    if near is not None and far:
        return replace(near, message=f"{near.message} (to four digits, as by a difference quotient)")
    return _shaped(asked.family, got[judged], asked.want[judged])


def guessed(found: Answer, judged: Array, slack: Array, unit: float) -> Diagnosis | None:
    """The first guess that fits to the roundings of a unit."""
    for diagnosis, guess in found.question.guesses():
        with np.errstate(all="ignore"):
            fits = np.abs(found.got - guess) <= slack + ROUNDINGS * unit * np.abs(guess)
        same = (found.got == guess) | (np.isnan(found.got) & np.isnan(guess))
        if bool((fits | same | ~judged).all()):
            return diagnosis
    return None


def _shaped(family: str, got: Array, want: Array) -> Diagnosis:
    with np.errstate(all="ignore"):
        ratio, gap = got / want, got - want
    if np.isfinite(ratio).all() and np.ptp(ratio) <= CONSTANT * np.abs(ratio).max():
        return Diagnosis("sign" if ratio[0] == -1 else family, f"the right value times {ratio.flat[0]:.9g}")
    if np.ptp(gap) <= CONSTANT * np.abs(gap).max():
        return Diagnosis(family, f"the right value and {gap.flat[0]:.9g} more")
    factor, more = np.polyfit(want, got, 1) if np.ptp(want) > 0 and len(want) > 3 else (0.0, 0.0)
    if np.abs(factor * want + more - got).max() <= CONSTANT * np.abs(got).max() and factor != 0:
        return Diagnosis(family, f"the right value times {factor:.9g}, and {more:.9g} more")
    words = f"the ratio to the right value runs from {np.nanmin(ratio):.4g} to {np.nanmax(ratio):.4g}"
    return Diagnosis(family, f"no known mistake fits: {words}")


def batch_independence(session: Session, port: str, make: Builder) -> Finding:
    """The answer for a row does not depend on the rows beside it."""
    found = answered(session, port, make)
    if found.got.shape != found.question.want.shape:
        raise NotApplicable(f"see {port}.shape")
    for pick in PICKS:
        part = ask(session, port, make(session, found.layout, pick), found.layout)
        want = found.got[pick]
        if part.got.shape != want.shape:
            return fail("state-broadcast", f"a batch of {len(pick)} gives shape {part.got.shape}")
        unit = UNIT["float32" if "float32" in (found.dtype, session.dialect.dtype) else "float64"]
        slack = tolerance(part.question, unit) + ROUNDINGS * unit * (np.abs(want) + part.question.cancelling)
        same = (np.abs(part.got - want) <= slack) | (np.isnan(part.got) & np.isnan(want))
        if not bool(same.all()):
            words = "a row's answer depends on the rows beside it: broadcast, or averaged over the batch"
            return fail("state-broadcast", words, also=(found.question.family,), worst={"rows": len(pick)})
    return Finding(True)


def inputs_unchanged(session: Session, port: str, make: Builder) -> Finding:
    """A call does not change its arguments."""
    found = answered(session, port, make)
    if found.mutated:
        return fail("state-broadcast", f"changes its argument {', '.join(found.mutated)} in place")
    return Finding(True)


PROPERTIES = (value, shape, batch_independence, inputs_unchanged)


def question(port: str) -> Callable[[Builder], Builder]:
    """Register the checks of a port that answers values: value, shape, independence, inputs."""

    def add(make: Builder) -> Builder:
        for one in PROPERTIES:
            check(f"{port}.{one.__name__}", port)(partial(one, port=port, make=make))
        return make

    return add
