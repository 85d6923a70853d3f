"""The corrector's step and its size, and the chain that a process becomes with N steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdiff.oracle.calls import numbers
from refdiff.oracle.checks.forms import alternatives, finite, told
from refdiff.oracle.checks.questions import Answer, Guess, Question, decide, flat, generic, question
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.continuum import At, at, process_of
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session
from refdiff.oracle.target import Dialect
from refdiff.process import Process

Array = NDArray[Any]
SNR = 0.3
SIZES = (
    ("variance", "the factor 2 is missing", {"factor": 1.0}),
    ("variance", "the factor is 4", {"factor": 4.0}),
    ("sqrt", "it is not squared", {"power": 1.0}),
    ("sqrt", "it is not squared, nor doubled", {"power": 1.0, "factor": 1.0}),
    ("variance", "the ratio of the norms is upside down", {"turn": -1.0}),
    ("sqrt", "the signal-to-noise ratio is not squared", {"snr": SNR**0.5}),
)


def size_of(
    score: Array,
    noise: Array,
    norm: str,
    factor: float = 2.0,
    power: float = 2.0,
    turn: float = 1.0,
    snr: float = SNR,
) -> Array:
    """The corrector's step, (B,): 2 (snr |z| / |s|)²."""
    lengths = [np.sqrt((one**2).sum(1)) for one in (noise, score)]
    if norm == "batch":
        lengths = [np.full_like(one, one.mean()) for one in lengths]
    return np.asarray(factor * (snr * (lengths[0] / lengths[1]) ** turn) ** power)


def _sizes(dialect: Dialect, score: Array, noise: Array) -> Iterator[tuple[Diagnosis, Array]]:
    for other in alternatives(dialect, "corrector_norm"):
        yield told(dialect, other, "corrector_norm"), size_of(score, noise, other.corrector_norm)
    for family, words, change in SIZES:
        yield (
            Diagnosis(family, f"in the step, {words}"),
            size_of(score, noise, dialect.corrector_norm, **change),
        )
    n = score.shape[1]
    squares = [(one**2).sum(1) for one in (noise, score)]
    yield Diagnosis("sqrt", "the norms are squared twice"), 2 * (SNR * squares[0] / squares[1]) ** 2
    yield Diagnosis("variance", "|z|² is its mean, D"), 2 * SNR**2 * n / squares[1]


@question("corrector_step_size")
def corrector_step_size(session: Session, layout: tuple[int, ...], pick: Array) -> Question:
    """2 (snr |z| / |s|)², of each sample or of the mean norms."""
    dialect = session.dialect
    score, noise = (generic(session, seed, layout, pick) for seed in (61, 62))
    want = size_of(flat(score), flat(noise), dialect.corrector_norm)

    def guesses() -> Iterator[Guess]:
        yield from _sizes(dialect, flat(score), flat(noise))

    if dialect.corrector_norm == "batch":
        raise NotApplicable("see corrector_step_size.batch: one number for the batch")
    return Question({"score": score, "noise": noise, "snr": SNR}, want, 8 * want, "variance", guesses)


@check("corrector_step_size.batch")
def batch_size(session: Session) -> Finding:
    """Where norms are means over the batch, the step is one number, or the same for every sample."""
    if session.dialect.corrector_norm != "batch":
        raise NotApplicable("the step is one of each sample")
    score, noise = (generic(session, seed, (3,), np.arange(5)) for seed in (61, 62))
    call = session.caller("corrector_step_size", {"score": score, "noise": noise, "snr": SNR})
    found = numbers(call.value)
    got = found.values.numpy().reshape(-1)
    if got.size not in (1, 5):
        return fail("state-broadcast", f"{got.size} numbers, wanted one, or one a sample")
    want = size_of(flat(score), flat(noise), "batch")
    asked = Question(
        {}, want, 8 * want, "variance", lambda: _sizes(session.dialect, flat(score), flat(noise))
    )
    return decide(
        session, "corrector_step_size", Answer(asked, np.broadcast_to(got, (5,)), found.dtype, (), ())
    )


@check("corrector_step.value")
def corrector_step(session: Session) -> Finding:
    """x + epsilon s + sqrt(2 epsilon) z with the corrector's epsilon."""
    dialect = session.dialect
    x, score, noise = (generic(session, seed, (3,), np.arange(5)) for seed in (63, 61, 62))

    def step(epsilon: Array, sign: float = 1.0, noisy: Array | None = None) -> Array:
        z = np.sqrt(2 * epsilon) if noisy is None else noisy
        return np.asarray(flat(x) + sign * epsilon[:, None] * flat(score) + z[:, None] * flat(noise))

    call = session.caller(
        "corrector_step", {"x": x, "score": score, "noise": noise, "snr": SNR}, lambda number, shape: noise
    )
    found = numbers(call.value)
    if found.values.shape != x.shape:
        return fail("state-broadcast", f"shape {tuple(found.values.shape)}, wanted {tuple(x.shape)}")
    epsilon = size_of(flat(score), flat(noise), dialect.corrector_norm)
    want = step(epsilon)

    def guesses() -> Iterator[Guess]:
        yield (
            Diagnosis("variance", "the noise has the root of the step, not of twice it"),
            step(epsilon, noisy=np.sqrt(epsilon)),
        )
        yield Diagnosis("sqrt", "the noise has the step, not its root"), step(epsilon, noisy=2 * epsilon)
        yield Diagnosis("noise-at-t0", "no noise is added"), step(epsilon, noisy=0 * epsilon)
        yield Diagnosis("sign", "it goes down the density"), step(epsilon, -1.0)
        yield Diagnosis("variance", "half of the score"), step(epsilon, 0.5)
        for diagnosis, other in _sizes(dialect, flat(score), flat(noise)):
            yield diagnosis, step(other)

    asked = Question({}, want, 16 * (1 + np.abs(want)), "variance", guesses)
    return decide(
        session, "corrector_step", Answer(asked, found.values.numpy(), found.dtype, call.mutated, ())
    )


# the chain of a process

STEPS = 40


def chain(process: Process, dialect: Dialect, n: int) -> Array:
    """The betas of a chain of n steps, or its sigmas where the scale is one."""
    i = np.arange(1, n + 1)
    t = (i / n if dialect.grid == "N" else (i - 1) / (n - 1)) * process.end
    here = at(process, t, t - process.end / n if dialect.grid == "N" else t)
    if not here.f.any():
        return here.std
    if dialect.step_beta == "rate":
        return here.g2 * process.end / (n - 1 if dialect.grid == "wide" else n)
    if dialect.grid != "N":
        return np.full(n, np.nan)
    return np.asarray(-np.expm1(2 * (np.log(here.scale) - np.log(here.scale_s))))


@check("discretize.values")
def discretize(session: Session) -> Finding:
    """The chain of the declared process and grid."""
    dialect, process = session.dialect, process_of(session.dialect)
    want = chain(process, dialect, STEPS)
    here: At = at(process, process.end * np.arange(1, STEPS + 1) / STEPS)
    if not np.isfinite(want).all():
        raise NotApplicable("the kernel's betas need the grid N: declare step_beta to be the rate")
    if here.f.any() and not np.allclose(here.scale**2 + here.var, 1):
        raise NotApplicable("the chain of betas preserves the variance, the process does not")
    call = session.caller("discretize", {"n": STEPS})
    found = numbers(call.value)
    got = found.values.numpy()
    if got.shape != want.shape:
        return fail("index", f"shape {got.shape}, wanted {want.shape}", also=("schedule", "state-broadcast"))
    rising = got[0] < got[-1]
    got = got if rising else got[::-1]

    def guesses() -> Iterator[Guess]:
        for name in ("grid", "step_beta", "process"):
            for other in alternatives(dialect, name):
                yield told(dialect, other, name), chain(process_of(other), other, STEPS)
        for grid in ("N-1", "wide"):
            both = dialect.but(grid=grid, step_beta="rate")
            yield told(dialect, both, "grid"), chain(process, both, STEPS)
        rates = np.asarray(here.g2)
        yield Diagnosis("discretization", "the rate, not divided by the number of steps"), rates
        yield Diagnosis("sqrt", "the roots"), np.sqrt(want)
        yield Diagnosis("sqrt", "the squares"), want**2
        yield Diagnosis("schedule", "1 - beta"), 1 - want
        yield Diagnosis("schedule", "linear between the ends"), np.linspace(want[0], want[-1], STEPS)
        yield Diagnosis("discretization", "beta over the number of steps twice"), want / STEPS

    # what is lost in 1 - exp(-small)
    asked = Question({}, want, 8 * np.abs(want) + 8 * (here.f.any()), "schedule", lambda: finite(guesses()))
    return decide(session, "discretize", Answer(asked, got, found.dtype, (), ()))
