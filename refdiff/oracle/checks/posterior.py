"""The precision of data given its noised state, by Tweedie's formula of the second order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from refdiff.oracle.checks.losses import symbols
from refdiff.oracle.checks.questions import ROWS, Guess, Question, question
from refdiff.oracle.checks.registry import NotApplicable
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session

Array = NDArray[np.float64]


@question("posterior_precision")
def precision(session: Session, layout: tuple[int, ...], pick: Array) -> Question:
    """The inverse of Cov[x_0 | x_t] = (1 - abar)/abar (I + (1 - abar) H), H the Hessian of log p(x_t)."""
    dialect, T = session.dialect, session.T
    if not dialect.batched_t:
        raise NotApplicable("asked with a batch of levels")
    if dialect.space == "ve":
        raise NotApplicable("the Hessian is the one of x_t, not of x_t / sqrt(alpha_bar)")
    t = np.maximum(np.array([T // 4, T // 3, T // 2, 3 * T // 4, T - 1]), 1)[pick]
    D = int(np.prod(layout))
    abar = symbols(session, t)["abar_t"][:, None, None]
    rest, unit = 1 - abar, np.eye(D)
    # the share of a state's variance that is data's: an eigenvalue of -(1 - abar) H is one of these
    draw = np.random.Generator(np.random.PCG64([91, D]))
    axes = np.linalg.qr(draw.standard_normal((ROWS, D, D)))[0][pick]
    share = draw.uniform(0.2, 0.7, (ROWS, 1, D))[pick]
    hessian = torch.as_tensor(-(axes * share) @ axes.swapaxes(1, 2) / rest)
    hessian = hessian.float().double() if dialect.dtype == "float32" else hessian
    H = hessian.numpy()
    inner = unit + rest * H
    inverse = np.linalg.inv(inner)
    want = abar / rest * inverse
    # an inverse loses its condition number, alpha_bar a rounding a factor, 1 - alpha_bar its quotient
    reach = np.abs(inverse).max((1, 2), keepdims=True) * abar / rest
    size = np.ones_like(want) * reach * D * (4 + 2 * t[:, None, None] + 4 / rest)

    def guesses() -> Iterator[Guess]:
        for words, form in (
            (
                "the two factors are added: abar/(1 - abar) I + (I + (1 - abar) H)^-1",
                abar / rest * unit + inverse,
            ),
            ("the covariance, not the precision", rest / abar * inner),
            ("the bracket is not inverted", abar / rest * inner),
            ("the Hessian has the wrong sign", abar / rest * np.linalg.inv(unit - rest * H)),
            ("the Hessian is left out", abar / rest * unit + 0 * H),
            (
                "the Hessian is multiplied by sqrt(1 - abar)",
                abar / rest * np.linalg.inv(unit + np.sqrt(rest) * H),
            ),
            ("the Hessian is not multiplied by 1 - abar", abar / rest * np.linalg.inv(unit + H)),
            ("alpha_bar is left out: as if the state were not scaled", inverse / rest),
            ("sqrt(abar) stands for abar", np.sqrt(abar) / rest * inverse),
            ("sqrt(1 - abar) stands for 1 - abar", abar / np.sqrt(rest) * inverse),
            ("the factor is upside down", rest / abar * inverse),
            ("the diagonal alone", abar / rest * inverse * unit),
            ("each entry is inverted by itself", abar / rest / inner),
        ):
            yield Diagnosis("likelihood", words, also=("guidance",)), np.asarray(form)

    given = {"hessian": hessian, "t": torch.as_tensor(t + dialect.index_origin - 1)}
    return Question(given, want, size, "likelihood", guesses, tables=True)
