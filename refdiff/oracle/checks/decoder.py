"""The decoder of pixels: the mass that a normal distribution gives to a bin, or a density."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refdiff.oracle.checks.likelihood import unit
from refdiff.oracle.checks.questions import Guess, Question, ask, question
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session
from refdiff.oracle.target import Dialect

Array = NDArray[Any]
BINS = 256
LAST = BINS - 1


def log_phi(x: Tensor) -> Tensor:
    """log of the normal distribution function."""
    value: Tensor = torch.special.log_ndtr(x)
    return value


def log_mass(low: Tensor, high: Tensor) -> Tensor:
    """log(Phi(high) - Phi(low)), stable in both tails."""
    swap = low > 0
    a, b = torch.where(swap, -high, low), torch.where(swap, -low, high)
    gap = log_phi(a) - log_phi(b)
    return log_phi(b) + torch.log(-torch.expm1(gap))


def tanh_cdf(x: Tensor) -> Tensor:
    """The approximation of the normal distribution function by a hyperbolic tangent."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def edges(dialect: Dialect) -> tuple[float, float]:
    """The ends of the data's range."""
    return (0.0, 1.0) if dialect.data_range == "[0, 1]" else (-1.0, 1.0)


def grid(dialect: Dialect) -> Tensor:
    """The 256 values of data."""
    low, high = edges(dialect)
    return low + (high - low) * torch.arange(BINS, dtype=torch.float64) / LAST


def log_bin(
    x: Tensor, mean: Tensor, scale: Tensor, dialect: Dialect, half: float | None = None, closed: bool = False
) -> Tensor:
    """log of the mass of a bin: half a step to either side, without end at the ends of the range."""
    low, high = edges(dialect)
    half = (high - low) / LAST / 2 if half is None else half
    infinity = torch.full_like(x, math.inf)
    below, above = (x - mean - half) / scale, (x - mean + half) / scale
    if not closed:
        below = torch.where(x <= low, -infinity, below)
        above = torch.where(x >= high, infinity, above)
    if dialect.normal_cdf == "tanh":
        mass = tanh_cdf(above) - tanh_cdf(below)
        return mass.clamp(min=1e-300).log()
    whole = torch.isinf(below) & torch.isinf(above)
    return torch.where(whole, 0.0, log_mass(below, above))


def log_density(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """log N(x; mean, scale²)."""
    return -0.5 * ((x - mean) / scale) ** 2 - scale.log() - 0.5 * math.log(2 * math.pi)


def decoder_unit(dialect: Dialect) -> float:
    """Nats or bits of an element."""
    return unit(dialect, 1)


def _decoder_data(session: Session, layout: tuple[int, ...], pick: Array) -> tuple[Tensor, Tensor, Tensor]:
    """Values of data with their ends, means near them, and log standard deviations."""
    values, D = grid(session.dialect), int(np.prod(layout))
    draw = np.random.Generator(np.random.PCG64([37, D]))
    index = draw.integers(0, BINS, (5, D))
    index[:, 0] = (0, LAST, 128, 1, 254)
    index[0, 1], index[2, 1] = LAST, 0
    x = values[torch.as_tensor(index)].reshape(5, *layout)
    log_scale = torch.as_tensor(draw.uniform(-4.5, -1.5, (5, *layout)))
    span = float(values[-1] - values[0]) / 2
    mean = x + span * log_scale.exp() * torch.as_tensor(draw.uniform(-2.5, 2.5, (5, *layout)))
    log_scale = log_scale + math.log(span)
    picked = [value[torch.as_tensor(pick)] for value in (x, mean, log_scale)]
    if session.dialect.dtype == "float32":
        picked = [value.float().double() for value in picked]
    return picked[0], picked[1], picked[2]


@question("decoder_log_likelihood")
def decoder(session: Session, layout: tuple[int, ...], pick: Array) -> Question:
    """log of the mass that N(mean, scale²) gives to the bin of x, an element."""
    x, mean, log_scale = _decoder_data(session, layout, pick)
    scale, dialect = log_scale.exp(), session.dialect
    n = decoder_unit(dialect)
    discrete = dialect.decoder == "discretized"
    logs = log_bin(x, mean, scale, dialect) if discrete else log_density(x, mean, scale)
    # a difference of two distribution functions, or its logarithm: what either loses
    half = (edges(dialect)[1] - edges(dialect)[0]) / LAST / 2
    reach = (x - mean).abs() / scale
    size = (
        1 + logs.abs() + 1 / logs.exp().clamp(max=1.0) + reach * (1 + half / scale) + reach / half * scale
    ).numpy()
    if not discrete:
        size = (1 + log_scale.abs() + reach**2).numpy()

    def guesses() -> Iterator[Guess]:
        yield from _decoder_guesses(session, x, mean, log_scale)

    given = {"x": x, "mean": mean, "log_scale": log_scale}
    return Question(given, logs.numpy() / n, size / n, "likelihood", guesses)


SPOKEN = {
    "likelihood": ("nats", "bits"),
    "decoder": ("discretized", "continuous"),
    "normal_cdf": ("exact", "tanh"),
    "data_range": ("[-1, 1]", "[0, 1]"),
}


def _spoken_otherwise(dialect: Dialect) -> list[Dialect]:
    """The other choices of the decoder's conventions, those with the fewest changes first."""
    found: dict[str, tuple[int, Dialect]] = {}
    for values in itertools.product(*SPOKEN.values()):
        changes = dict(zip(SPOKEN, values, strict=True))
        if decoder_unit(dialect.but(likelihood=values[0])) == decoder_unit(dialect):
            changes["likelihood"] = dialect.likelihood
        count = sum(value != getattr(dialect, name) for name, value in changes.items())
        if count:
            changed = dialect.but(**changes)
            found[repr(changed)] = count, changed
    return [changed for _, changed in sorted(found.values(), key=lambda pair: pair[0])]


def _decoder_guesses(session: Session, x: Tensor, mean: Tensor, log_scale: Tensor) -> Iterator[Guess]:
    dialect, scale = session.dialect, log_scale.exp()
    low, high = edges(dialect)
    step = (high - low) / LAST

    def said(family: str, words: str, form: Tensor, changed: Dialect | None = None) -> Guess:
        also = ("likelihood", "data-scaling", "sign") if changed is not None else ("likelihood",)
        return Diagnosis(family, words, dialect=changed, also=also), form.numpy() / decoder_unit(dialect)

    for changed in _spoken_otherwise(dialect):
        form = log_density(x, mean, scale)
        if changed.decoder == "discretized":
            form = log_bin(x, mean, scale, changed)
        form = form * decoder_unit(dialect) / decoder_unit(changed)
        names = [name for name in SPOKEN if getattr(changed, name) != getattr(dialect, name)]
        words = ", ".join(f"{name} is {getattr(changed, name)}" for name in names)
        if dialect.decoder == "continuous" and changed.decoder == "discretized":
            # where data has no bins, to give a bin's mass is no convention
            words = f"the mass of a bin of 256, where data is continuous: of pixels, on latents ({words})"
            yield said("likelihood", words, form, changed)
        else:
            yield said("convention", words, form, changed)
    for kind in ("exact", "tanh"):
        spoken = dialect.but(normal_cdf=kind)
        forms = (
            (
                "the bin has half the width: of data in a range half as wide",
                log_bin(x, mean, scale, spoken, step / 4),
            ),
            (
                "the bin has twice the width: a whole step to either side",
                log_bin(x, mean, scale, spoken, step),
            ),
            (
                "the bins are 1/256 of the range, not 1/255",
                log_bin(x, mean, scale, spoken, step * LAST / BINS / 2),
            ),
            (
                "the first and the last bin end at the range: their tails are lost",
                log_bin(x, mean, scale, spoken, None, True),
            ),
            ("log_scale is read as the log-variance", log_bin(x, mean, (log_scale / 2).exp(), spoken)),
            (
                "log_scale is doubled: the variance stands for the standard deviation",
                log_bin(x, mean, (2 * log_scale).exp(), spoken),
            ),
            ("log_scale is read as the scale itself", log_bin(x, mean, log_scale.abs(), spoken)),
            ("the mean is taken with the wrong sign", log_bin(x, -mean, scale, spoken)),
            ("a logistic distribution, not a normal one", _logistic(x, mean, scale, step / 2, low, high)),
            ("the probability, not its logarithm", log_bin(x, mean, scale, spoken).exp()),
            ("the sign is flipped: a negative log-likelihood", -log_bin(x, mean, scale, spoken)),
        )
        for words, form in forms:
            yield said("likelihood", words, form)
    density = log_density(x, mean, scale)
    for words, form in (
        ("the density times the width of a bin", density + math.log(step)),
        ("the density without its normaliser", -0.5 * ((x - mean) / scale) ** 2),
        ("the density without 2 pi", density + 0.5 * math.log(2 * math.pi)),
        ("the squared error", -((x - mean) ** 2)),
        ("the density with the variance for the standard deviation", log_density(x, mean, scale**2)),
        ("the sign is flipped: a negative log-likelihood", -density),
    ):
        yield said("likelihood", words, form)


def _logistic(x: Tensor, mean: Tensor, scale: Tensor, half: float, low: float, high: float) -> Tensor:
    above, below = torch.sigmoid((x - mean + half) / scale), torch.sigmoid((x - mean - half) / scale)
    above, below = torch.where(x >= high, 1.0, above), torch.where(x <= low, 0.0, below)
    return (above - below).log()


def _decoded(session: Session, x: Tensor, mean: Tensor, log_scale: Tensor) -> Array:
    """What a target's decoder answers, in nats."""
    given = {"x": x, "mean": mean, "log_scale": log_scale}
    zero = np.zeros(tuple(x.shape))
    found = ask(session, "decoder_log_likelihood", Question(given, zero, zero, "likelihood", tuple), ())
    return found.got * decoder_unit(session.dialect)


def _cause(session: Session) -> Finding | None:
    """Where the decoder follows another convention everywhere, its sums and its tails do too."""
    found: Finding | None = session.cache.get(("finding", "decoder_log_likelihood.value"))
    if found is None or found.diagnosis is None or found.diagnosis.dialect is None:
        return None
    words = f"follows from decoder_log_likelihood.value: {found.diagnosis.message}"
    return Finding(False, "", replace(found.diagnosis, message=words))


@check("decoder_log_likelihood.sums_to_one")
def sums_to_one(session: Session) -> Finding:
    """The masses of the 256 bins sum to one, wherever the mean is."""
    if session.dialect.decoder != "discretized":
        raise NotApplicable("the decoder is declared to be a density")
    cause = _cause(session)
    if cause is not None:
        return cause
    low, high = edges(session.dialect)
    means = torch.tensor([low, (low + high) / 2 + 0.013, high + 0.1 * (high - low)], dtype=torch.float64)
    x = grid(session.dialect).repeat(len(means), 1).reshape(-1, 1)
    mean = means.repeat_interleave(BINS).reshape(-1, 1)
    log_scale = torch.full_like(x, math.log(0.05 * (high - low)))
    got = _decoded(session, x, mean, log_scale)
    if got.shape != tuple(x.shape):
        raise NotApplicable("see decoder_log_likelihood.shape")
    total = np.exp(got).reshape(len(means), BINS).sum(1)
    # a floor under each of 256 masses, and the rounding of each
    slack = 1e-5 if "float32" in (session.dialect.dtype,) else 1e-8
    worst = int(np.argmax(np.abs(total - 1)))
    fields: dict[str, Any] = {
        "got": float(total[worst]),
        "wanted": 1.0,
        "tolerance": slack,
        "error": float(abs(total[worst] - 1)),
        "asked": "sum of the masses of 256 bins",
    }
    if (np.abs(total - 1) <= slack).all():
        return Finding(True, **fields)
    if total[1] > 0.999999 and total[1] < 1.000001:
        words = "the bins at the ends of the range are not open: mass outside of it is lost"
        return fail("likelihood", words, **fields)
    return fail("likelihood", f"the masses sum to {total[1]:.6g}", **fields)


@check("decoder_log_likelihood.tails")
def tails(session: Session) -> Finding:
    """Far from the mean the logarithm is still right, or raised to the declared floor."""
    if session.dialect.decoder != "discretized":
        raise NotApplicable("the decoder is declared to be a density")
    cause = _cause(session)
    if cause is not None:
        return cause
    dialect = session.dialect
    values = grid(dialect)
    span = float(values[-1] - values[0]) / 2
    x = values[torch.tensor([40, 200, 128, 250])].reshape(-1, 1)
    away = torch.tensor([9.0, -11.0, 30.0, -8.0], dtype=torch.float64).reshape(-1, 1)
    scale = torch.full_like(x, 0.02 * span)
    mean = x + away * scale
    got = _decoded(session, x, mean, scale.log())[:, :1]
    want = log_bin(x, mean, scale, dialect.but(normal_cdf="exact")).numpy()
    fields: dict[str, Any] = {
        "got": float(got[0, 0]),
        "wanted": float(want[0, 0]),
        "asked": "decoder_log_likelihood nine standard deviations away",
    }
    if dialect.probability_floor is not None:
        floor = math.log(dialect.probability_floor)
        slack = 1e-3 * np.abs(floor)
        fits = np.abs(got - np.maximum(want, floor)) <= slack
        if dialect.normal_cdf == "tanh":
            # its tails are thinner than the exact ones, and reach the floor earlier
            fits |= np.abs(got - floor) <= slack
        if bool(fits.all()):
            return Finding(True, f"raised to {dialect.probability_floor:g}, as declared")
        return fail("likelihood", f"not raised to {dialect.probability_floor:g}, as is declared", **fields)
    if not np.isfinite(got).all():
        words = "a logarithm of 0 in the tails: the difference of distribution functions vanishes"
        return fail("likelihood", words, also=("precision",), **fields)
    if dialect.normal_cdf == "tanh":
        return Finding(True, "an approximation, as declared: not compared in the tails")
    if bool((np.abs(got - want) <= 1e-6 * np.abs(want)).all()):
        return Finding(True, **fields)
    if np.ptp(got) <= 1e-9 * np.abs(got).max():
        floor = float(np.exp(got[0, 0]))
        words = f"a probability below {floor:.3g} is raised to it: the tails have no gradient"
        return fail(
            "convention",
            words,
            dialect=dialect.but(probability_floor=float(f"{floor:.6g}")),
            also=("likelihood", "precision"),
            **fields,
        )
    return fail(
        "likelihood", "the tails have lost their digits: a difference of numbers near 0 or 1", **fields
    )
