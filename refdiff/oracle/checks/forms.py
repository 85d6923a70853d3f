"""Ports of continuous time with closed forms: coefficients that are measured at times, and compared."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refdiff.oracle.calls import TargetError, numbers
from refdiff.oracle.checks.questions import Answer, Guess, Question, decide
from refdiff.oracle.checks.registry import Finding, check, fail
from refdiff.oracle.continuum import (
    At,
    asked,
    at,
    incoming,
    outgoing,
    process_of,
    sensitivity,
)  # fmt: skip
from refdiff.oracle.expected import ROUNDINGS, UNIT
from refdiff.oracle.probe import generic as large
from refdiff.oracle.probe import pattern
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session
from refdiff.oracle.slips import FACTORS, edits
from refdiff.oracle.target import CHOICES, Dialect
from refdiff.process import Process

Array = NDArray[Any]
LAYOUTS: tuple[tuple[int, ...], ...] = ((2, 3, 5), (3,))
# what a time scale may be, of processes that end at one
SCALES = (1.0, 999.0, 1000.0)
PROCESSES = ("vp", "subvp", "ve", "edm", "straight", "cosine")
Coefficients = Callable[[At, Dialect], tuple[Any, ...]]


@dataclass(frozen=True)
class Form:
    """A port that is linear in some of its arguments, or that answers functions of time.

    Args:
        port: its name.
        arguments: what it is called with; "t" and "s" are times.
        rows: the arguments in which it is linear; or names of the parts of its answer.
        want: the coefficients.
        families: of a coefficient that is wrong in an unknown way, one a row.
        conventions: fields of the dialect that change the coefficients.
        process: the process where the dialect declares none.
        scalars: further numbers it is called with; each value is another set of points.
        edits: further wrong forms: symbols, process -> other symbols.
        times: process, dialect -> times t and s.
    """

    port: str
    arguments: tuple[str, ...]
    rows: tuple[str, ...]
    want: Coefficients
    families: tuple[str, ...]
    conventions: tuple[str, ...] = ()
    process: str = "vp"
    others: Callable[[At, Dialect], Iterator[tuple[str, str, tuple[Any, ...]]]] | None = None
    times: Callable[[Process, Dialect], tuple[Array, Array]] | None = None
    given: Callable[[At, Dialect], Array] | None = None
    clocked: bool = True

    @property
    def linear(self) -> tuple[str, ...]:
        """The arguments that are tensors."""
        return tuple(name for name in self.arguments if name in self.rows)


FORMS: dict[str, Form] = {}


@dataclass
class Measured:
    """Coefficients (rows, P), and what is not as in a linear map."""

    values: Array
    bent: float = 0.0
    offset: float = 0.0
    spread: float = 0.0
    layout: tuple[int, ...] = ()
    dtype: str = ""
    mutated: tuple[str, ...] = ()
    others: tuple[str, ...] = field(default=())


def points(session: Session, form: Form) -> At:
    """Where a form is asked."""
    process = process_of(session.dialect, form.process)
    t, s = form.times(process, session.dialect) if form.times is not None else asked(session.dialect, process)
    return at(process, t, s)


def coefficients(form: Form, here: At, dialect: Dialect) -> Array:
    """The coefficients as (rows, P)."""
    with np.errstate(all="ignore"):
        return np.stack([np.broadcast_to(row, here.t.shape) for row in form.want(here, dialect)]).astype(
            float
        )


def measured(session: Session, form: Form) -> Measured:
    """What the target answers, in the first layout that it takes."""
    return session.once(("form", form.port), lambda: _measured(session, form))  # type: ignore[no-any-return]


def _measured(session: Session, form: Form) -> Measured:
    here = points(session, form)
    if not form.linear:
        return curve(session, form, here)
    failure: TargetError | None = None
    for layout in LAYOUTS:
        try:
            return map_of(session, form, here, layout)
        except TargetError as error:
            failure = failure or error
            if error.kind == "timeout":
                break
    assert failure is not None
    raise failure


def curve(session: Session, form: Form, here: At) -> Measured:
    """The parts of the answers of a port that is asked with times only."""
    call = session.caller(form.port, _times(session, form, here, slice(None), 1))
    parts = call.value if isinstance(call.value, (tuple, list)) else (call.value,)
    if len(parts) != len(form.rows):
        raise TargetError("type", f"answered with {len(parts)} parts, wanted {', '.join(form.rows)}")
    found = [numbers(part) for part in parts]
    for name, part in zip(form.rows, found, strict=True):
        if tuple(part.values.shape) != here.t.shape:
            words = f"{name} has shape {tuple(part.values.shape)}, wanted {here.t.shape}, one a time"
            raise TargetError("shape", words, "state-broadcast")
    values = np.stack([part.values.numpy() for part in found])
    return Measured(values, dtype=found[0].dtype, mutated=call.mutated, others=tuple(call.tape.others))


def _times(session: Session, form: Form, here: At, pick: Any, repeat: int) -> dict[str, Any]:
    dialect = session.dialect
    process = process_of(dialect, form.process)
    given: dict[str, Any] = {}
    for name in form.arguments:
        if name in form.rows and name in form.linear:
            given[name] = None
            continue
        if name in ("t", "s"):
            time = getattr(here, name)
            value = outgoing(dialect, process, time) if form.clocked else time
        else:
            assert form.given is not None
            value = form.given(here, dialect)
        value = np.repeat(np.asarray(value, dtype=float)[pick], repeat)
        given[name] = torch.as_tensor(value.copy())
    return given


def map_of(session: Session, form: Form, here: At, layout: tuple[int, ...]) -> Measured:
    """The coefficients of a linear port: zeros, a row for each argument, and rows where all are large."""
    names, count = form.linear, len(form.linear) + 3
    blocks = {name: _block(index, len(names), layout) for index, name in enumerate(names)}
    total = len(here.t)
    if session.dialect.batched_t:
        order = np.random.Generator(np.random.PCG64(3)).permutation(total * count)
        out, made = _ask(session, form, here, slice(None), count, blocks, total, order, layout)
    else:
        parts = [
            _ask(session, form, here, slice(i, i + 1), count, blocks, 1, None, layout) for i in range(total)
        ]
        out, made = torch.cat([part for part, _ in parts]), parts[0][1]
    return _read(out.reshape(total, count, -1).numpy(), blocks, made)


def _block(index: int, count: int, layout: tuple[int, ...]) -> Tensor:
    rows = torch.zeros(count + 3, *layout, dtype=torch.float64)
    # small, so that it is not clipped, and a power of two
    rows[1 + index] = 2.0**-8 * pattern(layout, index)
    rows[-2] = 64 * large(layout, 3 * index + 1)
    rows[-1] = -64 * large(layout, 3 * index + 2)
    return rows


def _ask(
    session: Session, form: Form, here: At, pick: Any, count: int, blocks: dict[str, Tensor], times: int,
    order: Array | None, layout: tuple[int, ...],
) -> tuple[Tensor, Measured]:  # fmt: skip
    given = _times(session, form, here, pick, count)
    mixed = np.arange(times * count) if order is None else order
    for name, value in given.items():
        if name in blocks:
            given[name] = blocks[name].repeat(times, *[1] * len(layout))[mixed]
        else:
            given[name] = value[mixed] if session.dialect.batched_t else float(value[0])
    noise = given.get("noise")

    def draw(number: int, shape: tuple[int, ...]) -> Tensor:
        return noise if noise is not None and shape == tuple(noise.shape) else torch.zeros(shape).double()

    call = session.caller(form.port, given, draw)
    found = numbers(call.value)
    wanted = (times * count, *layout)
    if tuple(found.values.shape) != wanted:
        words = f"answer has shape {tuple(found.values.shape)}, wanted {wanted}"
        raise TargetError("shape", words, "state-broadcast")
    odd = [shape for shape in call.tape.shapes if shape != wanted]
    if odd:
        raise TargetError("shape", f"draws noise of shape {odd[0]}, wanted {wanted}", "state-broadcast")
    back = np.empty_like(mixed)
    back[mixed] = np.arange(len(mixed))
    empty = np.empty(0)
    return found.values[back], Measured(
        empty, layout=layout, dtype=found.dtype, mutated=call.mutated, others=tuple(call.tape.others)
    )


def _read(out: Array, blocks: dict[str, Tensor], made: Measured) -> Measured:
    """From answers (P, rows, D) to coefficients."""
    zero = out[:, 0]
    values, spread, linear, size = [], 0.0, zero[:, None, :].repeat(2, 1), 1e-300
    with np.errstate(all="ignore"):
        for index, block in enumerate(blocks.values()):
            quotient = (out[:, 1 + index] - zero) / block[1 + index].flatten().numpy()
            values.append(np.median(quotient, axis=1))
            spread = max(spread, float(np.abs(np.ptp(quotient, axis=1)).max()))
            big = block[-2:].flatten(1).numpy()
            linear = linear + values[-1][:, None, None] * big
            size = size + np.abs(values[-1][:, None, None] * big)
        bent = float((np.abs(out[:, -2:] - linear) / np.maximum(size, 1.0)).max())
    bent = bent if np.isfinite(bent) else float("inf")
    return replace(made, values=np.stack(values), bent=bent, offset=float(np.abs(zero).max()), spread=spread)


def value(session: Session, port: str) -> Finding:
    """The coefficients are those of the declared process."""
    form, dialect = FORMS[port], session.dialect
    found, here = measured(session, form), points(session, FORMS[port])
    process = process_of(dialect, form.process)
    want = coefficients(form, here, dialect)
    size = sensitivity(process, lambda one: coefficients(form, one, dialect), here)
    question = Question({}, want, size, form.families[0], lambda: finite(guesses(session, form, here)))
    answer = Answer(question, found.values, found.dtype, found.mutated, found.others)
    finding = decide(session, port, answer)
    ratio = np.abs(found.values - want) / np.maximum(size, 1e-300)
    row, point = np.unravel_index(int(np.nanargmax(np.nan_to_num(ratio, nan=np.inf))), ratio.shape)
    fields: dict[str, Any] = {
        "worst": {"t": float(here.t[point])} | ({"s": float(here.s[point])} if "s" in form.arguments else {}),
        "asked": f"{port}: {_words(form, int(row))}",
        "got": float(found.values[row, point]),
        "wanted": float(want[row, point]),
    }
    if finding.diagnosis is not None and "no known mistake" in finding.diagnosis.message:
        fields["diagnosis"] = _by_row(form, found.values, want, size)
    return replace(finding, **fields)


def _words(form: Form, row: int) -> str:
    return f"the coefficient of {form.rows[row]}" if form.linear else form.rows[row]


def _by_row(form: Form, got: Array, want: Array, size: Array) -> Diagnosis:
    """Which coefficients are wrong, where no known mistake fits all of them."""
    if not np.isfinite(got).all():
        return Diagnosis(form.families[0], f"{int((~np.isfinite(got)).sum())} answers are not finite")
    words, family = [], ""
    for row in range(len(form.rows)):
        if (np.abs(got[row] - want[row]) <= ROUNDINGS * UNIT["float32"] * size[row]).all():
            continue
        family = family or form.families[row]
        with np.errstate(all="ignore"):
            ratio = got[row] / want[row]
        if np.isfinite(ratio).all() and np.ptp(ratio) <= 1e-6 * np.abs(ratio).max():
            words.append(f"{_words(form, row)} is the right one times {ratio[0]:.6g}")
        else:
            low, high = np.nanmin(ratio), np.nanmax(ratio)
            words.append(f"{_words(form, row)} is the right one times {low:.4g} to {high:.4g}")
    return Diagnosis(family or form.families[0], "; ".join(words) + ": no known mistake fits")


def guesses(session: Session, form: Form, here: At) -> Iterator[Guess]:
    """Other conventions first, then other forms of the port, other symbols, and other factors."""
    dialect, process = session.dialect, process_of(session.dialect, form.process)
    yield from _conventions(dialect, form, here, process)
    if form.clocked:
        for name, plain, family in (("time_scale", 1.0, "schedule"), ("time_direction", "noise", "sign")):
            words = f"times are the target's, but rates are of the process's ({name})"
            yield Diagnosis(family, words), coefficients(form, here, dialect.but(**{name: plain}))
    if form.others is not None:
        for family, words, rows in form.others(here, dialect):
            with np.errstate(all="ignore"):
                made = np.stack([np.broadcast_to(row, here.t.shape) for row in rows]).astype(float)
            yield Diagnosis(family, words), made
    yield from _tables(dialect, form, here, process)
    want = coefficients(form, here, dialect)
    for row, family in enumerate(form.families):
        for factor, words in FACTORS:
            wrong = want.copy()
            wrong[row] = wrong[row] * factor
            kind = "sign" if factor == -1 else family
            yield Diagnosis(kind, f"{_words(form, row)} {words}"), wrong
    for family, words, other in edits(here, process):
        yield Diagnosis(family, words), coefficients(form, other, dialect)
    for first, second in itertools.combinations([n for n in form.conventions if n != "process"], 2):
        for one in alternatives(dialect, first):
            yield from _conventions(one, replace(form, conventions=(second,)), here, process, dialect)


def _tables(dialect: Dialect, form: Form, here: At, process: Process) -> Iterator[Guess]:
    """Tables that are read at the time, whatever time the step ends at."""
    for n in (999, 1000, 100) if dialect.time_steps is None else ():
        other, step = dialect.but(time_steps=n), process.end / n
        for t in (np.round(here.t / step) * step, np.floor(here.t / step) * step):
            yield told(dialect, other, "time_steps"), coefficients(form, at(process, t, t - step), other)


def finite(guessed: Iterable[Guess]) -> Iterator[Guess]:
    """The guesses that are numbers: an answer of NaN is none of them."""
    return ((diagnosis, values) for diagnosis, values in guessed if np.isfinite(values).all())


ALSO = {
    "marginal": ("sqrt", "variance"),
    "diffusion": ("sqrt", "variance"),
    "prediction": ("parameterization",),
    "reverse_time": ("sign",),
    "time_direction": ("sign", "schedule"),
    "time_scale": ("schedule", "index", "discretization"),
    "process": ("schedule", "discretization", "variance"),
    "predictor": ("discretization", "variance"),
    "step_beta": ("discretization", "schedule"),
    "variance": ("variance",),
    "grid": ("index", "schedule", "discretization"),
    "flow_noise": ("discretization", "variance"),
    "shift": ("schedule",),
    "consistency": ("schedule", "noise-at-t0"),
    "gamma_sign": ("sign",),
    "time_steps": ("index", "discretization"),
    "score_weight": ("loss-weight",),
    "loss_reduction": ("loss-weight",),
    "last_step": ("noise-at-t0",),
    "corrector_norm": ("variance", "state-broadcast"),
    "corrector": ("discretization", "index"),
}


def alternatives(dialect: Dialect, name: str) -> Iterator[Dialect]:
    """The dialects that differ in one convention."""
    values: tuple[Any, ...] = {
        "time_scale": SCALES,
        "process": PROCESSES,
        "variance": ("beta_tilde", "beta"),
    }.get(name, CHOICES.get(name, ()))
    for value in values:
        if value is not None and value != getattr(dialect, name):
            yield dialect.but(**{name: value})


def told(dialect: Dialect, other: Dialect, name: str) -> Diagnosis:
    """A convention, or two, that are not the declared ones."""
    names = [name, *(n for n in ALSO if n != name and getattr(other, n) != getattr(dialect, n))]
    words = " and ".join(f"{n} is {getattr(other, n)!r}, not {getattr(dialect, n)!r}" for n in names)
    also = tuple(dict.fromkeys(family for n in names for family in ALSO.get(n, ())))
    return Diagnosis("convention", words, dialect=other, also=also)


def _conventions(
    dialect: Dialect, form: Form, here: At, process: Process, declared: Dialect | None = None
) -> Iterator[Guess]:
    """Dialects that differ in one of the form's conventions, and what is asked in the declared one."""
    declared = declared or dialect
    for name in form.conventions:
        for other in alternatives(dialect, name):
            theirs = process_of(other, form.process)
            # the same call means other times to a target that speaks so
            t, s = (incoming(other, theirs, outgoing(declared, process, one)) for one in (here.t, here.s))
            yield told(declared, other, name), coefficients(form, at(theirs, t, s), other)


def affine(session: Session, port: str) -> Finding:
    """The answer is linear in its tensors, the same for every entry of a sample."""
    found = measured(session, FORMS[port])
    limit = ROUNDINGS * UNIT[session.dialect.dtype] * 4
    size = 1 + float(np.abs(np.nan_to_num(found.values)).max())
    if found.others:
        return fail("state-broadcast", f"draws that are not Gaussian noise: {', '.join(found.others)}")
    if found.offset > limit:
        return fail(
            "data-scaling", f"zeros are answered with {found.offset:.4g}", error=found.offset, tolerance=limit
        )
    if found.spread > limit * size:
        words = "the entries of a sample have different coefficients"
        return fail("state-broadcast", words, error=found.spread, tolerance=limit * size)
    if not found.bent <= limit:
        words = "large states do not get what small ones get: it is clipped, or not linear"
        return fail("data-scaling", words, error=found.bent, tolerance=limit)
    return Finding(True, error=found.bent, tolerance=limit)


def batch_independence(session: Session, port: str) -> Finding:
    """The answer at a time does not depend on the times beside it."""
    form = FORMS[port]
    found, here = measured(session, form), points(session, form)
    alone = At(**{name: array[1:2] for name, array in vars(here).items()})
    one = map_of(session, form, alone, found.layout) if form.linear else curve(session, form, alone)
    gap = np.abs(one.values[:, 0] - found.values[:, 1])
    limit = 4 * ROUNDINGS * UNIT[session.dialect.dtype] * (np.abs(found.values[:, 1]) + 1)
    if (gap <= limit).all() or not np.isfinite(found.values[:, 1]).all():
        return Finding(True, error=float(np.nan_to_num(gap).max()))
    words = "the answer at a time depends on the times beside it"
    return fail("state-broadcast", words, error=float(gap.max()), worst={"t": float(alone.t[0])})


def inputs_unchanged(session: Session, port: str) -> Finding:
    """A call does not change its arguments."""
    found = measured(session, FORMS[port])
    if found.mutated:
        return fail("state-broadcast", f"changes its argument {', '.join(found.mutated)} in place")
    return Finding(True)


def form(
    port: str, arguments: str, rows: str, families: str, *conventions: str, **more: Any
) -> Callable[[Coefficients], Coefficients]:
    """Register a port with a closed form, and its checks."""

    def add(want: Coefficients) -> Coefficients:
        made = Form(
            port,
            tuple(arguments.split()),
            tuple(rows.split()),
            want,
            tuple(families.split()),
            conventions,
            **more,
        )
        FORMS[port] = made
        laws = (
            (value, affine, batch_independence, inputs_unchanged)
            if made.linear
            else (value, batch_independence)
        )
        for law in laws:
            name = (
                "coefficients" if made.linear and law is value else "values" if law is value else law.__name__
            )
            check(f"{port}.{name}", port)(partial(law, port=port))
        return want

    return add
