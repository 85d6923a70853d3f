"""Likelihoods and their units: the prior's term of the bound, bits of a dimension."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdiff.oracle.checks.losses import symbols
from refdiff.oracle.checks.questions import Guess, Question, flat, generic, question
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session
from refdiff.oracle.target import Dialect

Array = NDArray[Any]
LOG2 = math.log(2)
BINS = 256
LAST = BINS - 1


def unit(dialect: Dialect, D: int, name: str | None = None) -> float:
    """By what a likelihood in nats of a sample of D dimensions is divided."""
    name = dialect.likelihood if name is None else name
    return (LOG2 if name.startswith("bits") else 1.0) * (D if name.endswith("per_dim") else 1)


def units(session: Session, nats: Array, D: int) -> Iterator[Guess]:
    """The same likelihood in each unit that is not declared, and in no unit."""
    for name in ("nats", "bits", "nats_per_dim", "bits_per_dim"):
        if name != session.dialect.likelihood:
            dialect = session.dialect.but(likelihood=name)
            found = Diagnosis("convention", f"is in {name}", dialect=dialect, also=("likelihood",))
            yield found, nats / unit(session.dialect, D, name)
    declared = nats / unit(session.dialect, D)
    for words, factor in (
        ("multiplied by log 2, not divided", LOG2**2),
        ("divided by log 2 twice", 1 / LOG2),
        ("in decimal digits", LOG2 / math.log(10)),
        ("multiplied by the dimensions", D),
        ("the factor 1/2 is missing", 2.0),
        ("half of it", 0.5),
        ("the sign is flipped: a log-likelihood, not its negative", -1.0),
    ):
        yield Diagnosis("likelihood", words, also=("sign",)), declared * factor


@question("prior_kl")
def prior_term(session: Session, layout: tuple[int, ...], pick: Array) -> Question:
    """KL(q(x_T | x_0) || N(0, I)), summed over the dimensions."""
    x0 = generic(session, 31, layout, pick)
    x, D = flat(x0), int(np.prod(layout))
    log_abar = float(session.declared.log_abar[-1])
    abar, rest = math.exp(log_abar), -math.expm1(log_abar)
    log_rest = math.log(rest)
    square = (x**2).sum(1)
    n = unit(session.dialect, D)
    nats = (abar * square - D * (abar + log_rest)) / 2
    # alpha_bar_T is a product of T factors, each of which may be off
    grown = session.T * (abar * square + D * abar**2 / rest)
    size = (abar * square + D * (abar + abs(log_rest))) / 2 + grown

    def guesses() -> Iterator[Guess]:
        yield from units(session, nats, D)
        before = symbols(session, np.array([max(session.T - 1, 1)]))["abar_t"]
        beta = float(session.declared.beta[-1])
        for family, words, form in (
            ("likelihood", "the logarithm of the variance is left out", nats + D * log_rest / 2),
            ("likelihood", "the -1 is left out", nats + D / 2),
            ("likelihood", "the variance is left out", nats - D * rest / 2),
            ("likelihood", "the mean is left out: the term without data", nats - abar * square / 2),
            ("likelihood", "the logarithm has the wrong sign", nats + D * log_rest),
            (
                "likelihood",
                "the arguments of the KL are swapped",
                (D / rest - D + D * log_rest + abar * square / rest) / 2,
            ),
            ("sqrt", "the mean is abar_T x_0, not its root times x_0", nats + (abar**2 - abar) * square / 2),
            (
                "sqrt",
                "the standard deviation stands for the variance",
                (abar * square + D * (math.sqrt(rest) - 1 - log_rest / 2)) / 2,
            ),
            (
                "variance",
                "the logarithm of the standard deviation stands for the one of the variance",
                nats + D * log_rest / 4,
            ),
            (
                "variance",
                "the variance is beta_T, not 1 - abar_T",
                (abar * square + D * (beta - 1 - math.log(beta))) / 2,
            ),
            ("index", "of level T - 1, not of T", (before * square - D * (before + np.log1p(-before))) / 2),
            (
                "likelihood",
                "E[-log p(x_T)], a cross-entropy without the entropy of q",
                (abar * square + D * rest + D * math.log(2 * math.pi)) / 2,
            ),
        ):
            yield Diagnosis(family, words, also=("likelihood",)), np.asarray(form) / n

    given = {"x0": x0}
    return Question(
        given, nats / n, size / n, "likelihood", guesses, tables=True, cancelling=(abar * square + D) / n
    )


def bits_offset(dialect: Dialect) -> float:
    """What the width of a bin adds to the bits of a density: log2 of the bins in a unit."""
    if dialect.decoder == "discretized":
        return 0.0
    return 8.0 if dialect.data_range == "[0, 1]" else 7.0


@question("bits_per_dim")
def bits(session: Session, layout: tuple[int, ...], pick: Array) -> Question:
    """Nats of a sample as bits of a dimension; of a density, plus the bits of a bin."""
    nats = 1000 * (1.5 + generic(session, 41, (), pick).abs())
    dims = 3072
    offset = bits_offset(session.dialect)
    value = nats.numpy()
    want = value / (dims * LOG2) + offset

    def guesses() -> Iterator[Guess]:
        for decoder, data in (
            ("discretized", "[-1, 1]"),
            ("continuous", "[-1, 1]"),
            ("continuous", "[0, 1]"),
        ):
            changed = session.dialect.but(decoder=decoder, data_range=data)
            bits = bits_offset(changed)
            if bits != offset:
                words = f"{bits:g} bits of a bin are added, where {offset:g} are wanted"
                found = Diagnosis("likelihood", words, dialect=changed, also=("convention",))
                yield found, value / (dims * LOG2) + bits
        for words, form in (
            ("not divided by log 2: nats", value / dims + offset),
            ("multiplied by log 2, not divided", value * LOG2 / dims + offset),
            ("not divided by the dimensions", value / LOG2 + offset),
            ("neither divided by log 2 nor by the dimensions", value + offset),
            ("multiplied by the dimensions", value * dims / LOG2 + offset),
            ("divided by log 256: bytes", value / (dims * math.log(256)) + offset),
            ("divided by log 10: decimal digits", value / (dims * math.log(10)) + offset),
            ("the sign is flipped", -value / (dims * LOG2) + offset),
            ("the sign is flipped", -want),
            ("the bits of a bin are subtracted", value / (dims * LOG2) - offset),
            ("the bits of a bin are added before the division", (value + offset) / (dims * LOG2)),
            ("half of it", value / (2 * dims * LOG2) + offset),
            ("twice of it", 2 * value / (dims * LOG2) + offset),
        ):
            yield Diagnosis("likelihood", words), form

    return Question({"nats": nats, "dims": dims}, want, np.abs(want) + offset, "likelihood", guesses)
