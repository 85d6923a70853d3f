"""Weights of the loss by level: SNR and its clipped forms, the bound's weight, weights with sigma_data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from refdiff.oracle.checks.losses import symbols
from refdiff.oracle.checks.questions import Guess, Question, question
from refdiff.oracle.checks.registry import NotApplicable
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session
from refdiff.oracle.target import CHOICES, Dialect

Array = NDArray[Any]
# weights of the error of x_0, which are converted to the model's own output; the others are what they are
OF_X0 = ("snr", "snr_plus_one", "truncated_snr", "min_snr", "vlb")


def weight(dialect: Dialect, at: dict[str, Array], name: str, kind: str) -> Array:
    """The weight of a squared error of an output by level: its limit where there is no signal."""
    abar, rest = at["abar_t"], 1 - at["abar_t"]
    with np.errstate(all="ignore"):
        snr, sigma2, data2 = abar / rest, rest / abar, dialect.sigma_data**2
        step = at["beta_tilde"] if dialect.variance == "beta_tilde" else at["beta_t"]
        found = {
            "one": np.ones_like(abar),
            "snr": snr,
            "snr_plus_one": snr + 1,
            "truncated_snr": np.maximum(snr, 1.0),
            "min_snr": np.minimum(snr, dialect.weight_bound),
            "vlb": at["beta_t"] ** 2 * at["abar_s"] / (2 * step * rest**2),
            "soft_min_snr": data2 / (sigma2 + data2),
            "edm": (sigma2 + data2) / (sigma2 * data2),
            "ldm": np.sqrt(abar) / (4 * rest),
        }[name]
        if name not in OF_X0:
            return np.asarray(found)
        # the error of x_0 is the one of eps over SNR, of v over SNR + 1
        ratio = found / {"x_0": np.ones_like(abar), "eps": snr, "v": snr + 1, "score": snr / rest}[kind]
        limit = {"snr": 1.0, "min_snr": 1.0}.get(name, np.inf) * (rest if kind == "score" else 1.0)
    return np.where((snr == 0) & (kind in ("eps", "score")), limit, ratio)


def _levels(session: Session) -> Array:
    T = session.T
    # the bound has no such term at t = 1, where the right step is exact
    first = 2 if session.dialect.weighting == "vlb" else 1
    return np.array([first, max(T // 20, 3), T // 3, T // 2 + 1, T])


@question("loss_weight")
def loss_weight(session: Session, layout: tuple[int, ...], pick: Array) -> Question:
    """The declared weight of the error of the model's output, at some levels."""
    if not session.dialect.batched_t:
        raise NotApplicable("weights are asked with a batch of levels")
    if session.dialect.variance.startswith("learned"):
        raise NotApplicable("the variance is learned")
    dialect, t = session.dialect, _levels(session)[pick]
    at = symbols(session, t)
    want = weight(dialect, at, dialect.weighting, dialect.parameterization)
    judged = np.isfinite(want)
    with np.errstate(all="ignore"):
        # what float32 leaves of 1 - alpha_bar, of beta and of their quotients
        blur = 4 + 2 / (1 - at["abar_t"]) + 2 / at["beta_t"] * (dialect.weighting == "vlb")
    size = np.where(judged, np.abs(want) * blur, 1.0)

    def guesses() -> Iterator[Guess]:
        yield from _guesses(session, at, np.where(judged, want, 1.0))

    given = {"t": torch.as_tensor(t + dialect.index_origin - 1)}
    clean = np.where(judged, want, 0.0)
    return Question(given, clean, size, "loss-weight", guesses, tables=True, judged=judged)


def _guesses(session: Session, at: dict[str, Array], want: Array) -> Iterator[Guess]:
    dialect = session.dialect
    abar = at["abar_t"]
    with np.errstate(all="ignore"):
        snr, rest, data2 = abar / (1 - abar), 1 - abar, dialect.sigma_data**2
        sigma2, bound = rest / abar, dialect.weight_bound
        others = [(name, kind) for name in CHOICES["weighting"] for kind in ("eps", "x_0", "v", "score")]
        declared = (dialect.weighting, dialect.parameterization)
        for name, kind in sorted(
            others, key=lambda pair: (pair[0] != declared[0]) + (pair[1] != declared[1])
        ):
            if (name, kind) != declared:
                words = f"the weight is {name} of a model that predicts {kind}, not {' of '.join(declared)}"
                changed = dialect.but(weighting=name, parameterization=kind)
                yield Diagnosis("loss-weight", words, dialect=changed), weight(dialect, at, name, kind)
        for words, form in (
            (
                "the factor 2 and the bracket of 2 (1 - abar) are parted: sqrt(abar) / 2 / (2·1 - abar)",
                0.5 * np.sqrt(abar) / (2 * 1 - abar),
            ),
            ("sigma_data² is missing from the numerator: 1 / (sigma² + sigma_data²)", 1 / (sigma2 + data2)),
            ("sigma_data is 1: (sigma² + 1) / sigma²", (sigma2 + 1) / sigma2),
            ("sigma_data is 1: 1 / (sigma² + 1)", 1 / (sigma2 + 1)),
            ("sigma_data is not squared", (sigma2 + dialect.sigma_data) / (sigma2 * dialect.sigma_data)),
            ("the product sigma sigma_data is not squared", (sigma2 + data2) / np.sqrt(sigma2 * data2)),
            (
                "(sigma² + sigma_data²) is squared, as in a preconditioner",
                (sigma2 * data2) / (sigma2 + data2) ** 2,
            ),
            ("the larger of SNR and the bound, not the smaller", np.maximum(snr, bound)),
            ("the larger of SNR and the bound, over SNR", np.maximum(snr, bound) / snr),
            ("the smaller of SNR and the bound, over SNR²", np.minimum(snr, bound) / snr**2),
            ("the smaller of the root of SNR and the bound", np.minimum(np.sqrt(snr), bound)),
            ("the smaller of the root of SNR and the bound, over SNR", np.minimum(np.sqrt(snr), bound) / snr),
            ("1/SNR", 1 / snr),
            ("the root of SNR", np.sqrt(snr)),
            ("SNR²", snr**2),
            ("abar", abar),
            ("1 - abar", rest),
            ("1 / (1 - abar)", 1 / rest),
            ("1/abar", 1 / abar),
            ("beta", at["beta_t"]),
            ("1/beta", 1 / at["beta_t"]),
            ("the factor 1/2 is missing", 2 * want),
            ("half of it", want / 2),
            ("its root", np.sqrt(want)),
            ("its square", want**2),
            ("its inverse", 1 / want),
            ("divided by its mean over the batch", want / want.mean()),
            ("the mean of the batch for every level", np.full_like(want, want.mean())),
            ("the bound's weight with beta for beta_tilde", at["beta_t"] / (2 * at["alpha_t"] * rest)),
        ):
            if np.isfinite(form).all():
                yield Diagnosis("loss-weight", words), np.asarray(form)
        earlier = symbols(session, np.maximum(_levels(session)[: len(abar)] - 1, 1))
        if len(abar) == len(_levels(session)):
            form = weight(dialect, earlier, dialect.weighting, dialect.parameterization)
            yield Diagnosis("index", "the weight of level t - 1", also=("loss-weight",)), form
