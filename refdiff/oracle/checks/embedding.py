"""What a network is told about time: sines and cosines of a level."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from refdiff.oracle.calls import numbers
from refdiff.oracle.checks.questions import (
    LAYOUTS,
    ROWS,
    Guess,
    Question,
    answered,
    batch_independence,
    inputs_unchanged,
    shape,
    value,
)
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.expected import ROUNDINGS, UNIT
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session
from refdiff.oracle.target import CHOICES, Dialect

Array = NDArray[Any]
# one for each layout of samples that a port may be asked with; not 10, where half and the period 100000 give
# the frequencies of half - 1 and 10000
DIMS = {LAYOUTS[0]: 12, LAYOUTS[1]: 16}
# what is embedded, after the target's own factor
LEVELS = np.array([2.0, 17.0, 141.0, 500.0, 999.0])
# for frequencies that rise by octaves from 1
FRACTIONS = np.array([0.03125, 0.28125, 0.4375, 0.78125, 0.96875])
PERIODS = (10000.0, 1000.0, 100.0, 5000.0, 100000.0, 2.0 * math.pi, math.e)
SCALES = (1.0, 1000.0, 1e-3, 999.0, 2 * math.pi, 4.0, 1 / (2 * math.pi), 0.25, 100.0)
NAMES = ("embedding_spacing", "embedding_order", "embedding_layout")
TIME = "time-embedding"
NO_GUESS = "no known mistake fits"
INFORMATIVE = 0.25


def exponents(count: int, spacing: str, shift: float = 0.0) -> Array:
    """k/n of the frequencies P^(-k/n), from k = shift on."""
    return (np.arange(count) + shift) / (count if spacing == "half" else count - 1)


def frequencies(dialect: Dialect, count: int) -> Array:
    """The declared frequencies."""
    if dialect.embedding_spacing == "octaves":
        return np.exp2(np.arange(count))
    return np.asarray(dialect.embedding_period ** -exponents(count, dialect.embedding_spacing))


def arranged(dialect: Dialect, sines: Array, cosines: Array) -> Array:
    """The columns in the declared order."""
    pair = (sines, cosines) if dialect.embedding_order == "sin_cos" else (cosines, sines)
    if dialect.embedding_layout == "interleaved":
        return np.stack(pair, -1).reshape(len(sines), -1)
    return np.concatenate(pair, -1)


def embedded(dialect: Dialect, level: Array, omega: Array, other: Array | None = None) -> Array:
    """Sines of the angles of some frequencies, and cosines of them, or of others."""
    angles = level[:, None] * omega
    second = angles if other is None else level[:, None] * other
    return arranged(dialect, np.sin(angles), np.cos(second))


def sized(dialect: Dialect, level: Array, dim: int) -> tuple[Array, Array]:
    """The declared embedding, and what one rounding changes it by."""
    omega = frequencies(dialect, dim // 2)
    want = embedded(dialect, level, omega)
    # a frequency is the exponential of a rounded logarithm, and its relative error moves the angle
    grown = level[:, None] * omega * (2 + np.abs(np.log(omega)))
    return want, np.abs(want) + arranged(dialect, grown, grown)


def _levels(dialect: Dialect) -> Array:
    return FRACTIONS if dialect.embedding_spacing == "octaves" else LEVELS


def _asked(session: Session, pick: Array) -> tuple[Array, Array]:
    """The target's levels, and what they are after its own factor."""
    dialect = session.dialect
    t = (_levels(dialect) / dialect.embedding_scale)[pick]
    if dialect.dtype == "float32":
        t = t.astype(np.float32).astype(float)
    return t, t * dialect.embedding_scale


def time_embedding(session: Session, layout: tuple[int, ...], pick: Array) -> Question:
    """sin(t omega_k) and cos(t omega_k) in the declared order, at geometric frequencies."""
    dialect, dim = session.dialect, DIMS[layout]
    if not dialect.batched_t:
        raise NotApplicable("embeddings are asked with a batch of levels")
    t, level = _asked(session, pick)
    want, size = sized(dialect, level, dim)
    given = {"t": torch.as_tensor(t), "dim": dim}
    return Question(given, want, size, TIME, lambda: _guesses(dialect, t, dim), tables=True)


def _guesses(dialect: Dialect, t: Array, dim: int) -> Iterator[Guess]:
    """Other conventions, one and several at a time; then what people write instead."""
    for spoken, other in _conventions(dialect):
        yield spoken, sized(other, t * other.embedding_scale, dim)[0]
    level, count = t * dialect.embedding_scale, dim // 2
    yield from _along_batch(dialect, level, count)
    right = frequencies(dialect, count)
    for words, omega, second, decoy in _pairs(dialect, count):
        known = Diagnosis(TIME, words, decoy=decoy[0] or None, citation=decoy[1])
        yield known, embedded(dialect, level, omega, second)
    sines, cosines = np.sin(level[:, None] * right), np.cos(level[:, None] * right)
    for family, words, both in (
        (TIME, "sines alone", (sines, sines)),
        (TIME, "cosines alone", (cosines, cosines)),
        ("sign", "the sines have the wrong sign", (-sines, cosines)),
        ("sign", "the cosines have the wrong sign", (sines, -cosines)),
        (TIME, "the angles themselves", (level[:, None] * right,) * 2),
        (TIME, "the norm is 1: divided by the root of half the dimension",
         (sines / math.sqrt(count), cosines / math.sqrt(count))),
        (TIME, "times the root of 2: every entry has variance 1",
         (sines * math.sqrt(2), cosines * math.sqrt(2))),
    ):  # fmt: skip
        yield Diagnosis(family, words), arranged(dialect, *both)
    for family, words, wrong in (
        ("precision", "levels are rounded to bfloat16", _rounded(level, torch.bfloat16)),
        ("precision", "levels are rounded to float16", _rounded(level, torch.float16)),
        (TIME, "levels are rounded down to integers", np.trunc(t) * dialect.embedding_scale),
        ("state-broadcast", "the first level of the batch for all", np.full_like(level, level[0])),
    ):
        yield Diagnosis(family, words), embedded(dialect, wrong, right)
    for kind in (torch.bfloat16, torch.float16):
        angles = torch.as_tensor(level, dtype=kind)[:, None] * torch.as_tensor(right).to(kind)
        words = f"angles are computed in {str(kind).removeprefix('torch.')}"
        for angle in (angles, angles.double()):
            pair = tuple(function(angle).double().numpy() for function in (torch.sin, torch.cos))
            yield Diagnosis("precision", words), arranged(dialect, pair[0], pair[1])


def _rounded(values: Array, kind: torch.dtype) -> Array:
    return np.asarray(torch.as_tensor(values).to(kind).double().numpy())


def _conventions(dialect: Dialect) -> Iterator[tuple[Diagnosis, Dialect]]:
    """Other dialects, those with the fewest changes first."""
    scales = {factor * unit for factor in SCALES for unit in (1.0, dialect.embedding_scale)}
    spoken: list[dict[str, Any]] = [
        *({"embedding_period": period} for period in PERIODS),
        *({"embedding_scale": scale} for scale in sorted(scales)),
        *(dict(zip(NAMES, values, strict=True)) for values in product(*(CHOICES[name] for name in NAMES))),
    ]
    changes = [{k: v for k, v in one.items() if v != getattr(dialect, k)} for one in spoken]
    for changed in sorted(filter(None, changes), key=len):
        other = dialect.but(**changed)
        parts = (f"{name} is {_said(v)}, not {_said(getattr(dialect, name))}" for name, v in changed.items())
        found = Diagnosis("convention", " and ".join(parts), dialect=other, also=(TIME,))
        yield found, other


def _said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)


def _pairs(dialect: Dialect, count: int) -> Iterator[tuple[str, Array, Array, tuple[str, str]]]:
    """Wrong frequencies of the sines and of the cosines, what they are, and where they were seen."""
    right, P = frequencies(dialect, count), dialect.embedding_period
    none, k = ("", ""), np.arange(count)
    if dialect.embedding_spacing == "octaves":
        seen = "embedding.octave/linspace", "NVIDIA/physicsnemo #1554"
        wide = np.exp2(np.linspace(0, count, count))
        words = f"frequencies 2^linspace(0, {count}, {count}), which are no octaves, not 2^arange({count})"
        yield words, wide, wide, seen
        yield "frequencies from 2 on, not from 1", 2 * right, 2 * right, none
        yield "harmonics 1, 2, 3, not octaves", 1.0 + k, 1.0 + k, none
    else:
        spacing = dialect.embedding_spacing
        step = exponents(count, spacing)
        for share, name in ((0.5, "half a step"), (1.0, "a step")):
            moved = P ** -exponents(count, spacing, share)
            seen = "embedding.cosine/other-frequency", "BrianPulfer/PapersReimplementations #9"
            yield f"cosines have frequencies {name} below those of their sines", right, moved, seen
            yield f"sines have frequencies {name} below those of their cosines", moved, right, seen
            yield f"frequencies {name} too low: k is not counted from 0", moved, moved, none
            square = P ** -(2 * exponents(count, spacing, share))
            words = f"the exponents are doubled, and cosines lie {name} below their sines"
            yield words, right**2, square, seen
        for words, omega in (
            ("the logarithm is missing: even steps from 1 to 1/P", np.linspace(1, 1 / P, count)),
            ("wavelengths for frequencies: levels are divided by them", P**step),
            ("the exponents are doubled", P ** (-2 * step)),
            ("the exponents are halved: k over the dimension", P ** (-step / 2)),
            ("frequencies in rising order", right[::-1]),
            ("frequencies 1 / (P k)", 1 / (P * np.maximum(step, 1 / P))),
            ("levels count turns: 2 pi more", 2 * math.pi * right),
            ("octaves for a geometric sequence from 1 to 1/P", np.exp2(k)),
            ("falling octaves", np.exp2(-k)),
            ("all frequencies 1", np.ones(count)),
        ):
            yield words, omega, omega, none
    yield "sines at rising frequencies, cosines at falling ones", right[::-1], right, none


def _along_batch(dialect: Dialect, level: Array, count: int) -> Iterator[Guess]:
    """Sine and cosine chosen by the row of the batch, not by the column."""
    right, dim = frequencies(dialect, count), 2 * count
    tables = [np.concatenate([right, right]), np.repeat(right, 2)]
    if dialect.embedding_spacing != "octaves":
        tables += [dialect.embedding_period ** -exponents(dim, spacing) for spacing in ("half", "other")]
    rows = np.arange(len(level))[:, None]
    for omega, even in product(tables, (rows % 2 == 0, rows < (len(level) + 1) // 2, rows < len(level) // 2)):
        angles = level[:, None] * omega
        words = "sine and cosine alternate along the batch, not along the columns"
        yield Diagnosis(TIME, words), np.where(even, np.sin(angles), np.cos(angles))


@check("time_embedding.value")
def right_value(session: Session) -> Finding:
    """The embedding is the declared one; another, asked at larger angles, is told by its own roundings."""
    finding = value(session, "time_embedding", time_embedding)
    if finding.ok or finding.diagnosis is None or NO_GUESS not in finding.diagnosis.message:
        return finding
    found = answered(session, "time_embedding", time_embedding)
    t, _ = _asked(session, np.arange(ROWS))
    for diagnosis, other in _conventions(session.dialect):
        want, size = sized(other, t * other.embedding_scale, found.got.shape[1])
        slack = ROUNDINGS * UNIT["float32"] * size
        # where the roundings are as large as the values, nothing is told
        if np.median(slack) < INFORMATIVE and (np.abs(found.got - want) <= slack).all():
            return replace(finding, diagnosis=diagnosis)
    return finding


for one in (shape, batch_independence, inputs_unchanged):
    check(f"time_embedding.{one.__name__}")(partial(one, port="time_embedding", make=time_embedding))


@check("time_embedding.relative")
def relative(session: Session) -> Finding:
    """The inner products of evenly spaced levels depend on their distances alone."""
    dialect = session.dialect
    if not dialect.batched_t:
        raise NotApplicable("embeddings are asked with a batch of levels")
    dim, steps = DIMS[LAYOUTS[0]], np.arange(2 * ROWS)
    unit = 0.046875 if dialect.embedding_spacing == "octaves" else 6.0
    t = (1 + steps) * unit / dialect.embedding_scale
    call = session.caller("time_embedding", {"t": torch.as_tensor(t), "dim": dim})
    got = numbers(call.value).values.numpy()
    found = answered(session, "time_embedding", time_embedding)
    if got.shape != (len(t), dim) or found.got.shape != found.question.want.shape:
        raise NotApplicable("see time_embedding.shape")
    gram = got @ got.T
    spread = max(float(np.ptp(np.diagonal(gram, offset))) for offset in range(ROWS))
    # angles up to 60 times the roundings of a frequency, in float32 at the worst
    limit = 60 * 16 * dim * 2.0**-24
    if spread <= limit:
        return Finding(True, error=spread, tolerance=limit)
    words = "products of embeddings depend on the levels, not on their distance: a pair shares no frequency"
    return fail(TIME, words, error=spread, tolerance=limit)
