"""Chains of Langevin dynamics as black boxes: what they ask, their steps, their exact law.

For Gaussian data every score is affine, so the last state is affine in the first one and in every noise:
one run with a batch of basis vectors gives its mean and covariance exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refdiff.oracle import law
from refdiff.oracle.calls import TargetError, numbers
from refdiff.oracle.session import Session
from refdiff.oracle.tape import aside

Array = NDArray[Any]


@dataclass
class Score:
    """The score of N(MEAN, COV + sigma² I), that notes what it is asked.

    Args:
        session: whose dialect says what a label is.
        sigmas: levels; one level of 0 where the chain has none.
        drawn: how many noises were drawn until now.
        push: added to the answers in the last rows, so that they do not depend on the state alone.
    """

    session: Session
    sigmas: tuple[float, ...]
    drawn: Callable[[], int]
    push: Any = None
    visits: list[law.Visit] = field(default_factory=list)
    labels: list[float | None] = field(default_factory=list)

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        with aside():
            return self.answer(x, [*args, *kwargs.values()])

    def answer(self, x: Any, labels: list[Any]) -> Any:
        """The score, in the shape and the array library of the state."""
        state = x if isinstance(x, Tensor) else torch.as_tensor(np.array(x))
        rows = state.detach().double().reshape(len(state), -1)
        if rows.shape[1] != law.D:
            raise ValueError(f"the score was given {tuple(state.shape)}, wanted (B, {law.D})")
        label = None if not labels else _one(labels[0])
        self.labels.append(label)
        level = self.level(label)
        matrix = -torch.linalg.inv(law.COV + self.sigmas[level] ** 2 * torch.eye(law.D, dtype=torch.float64))
        output = (rows - law.MEAN) @ matrix
        if self.push is not None:
            output[-law.ROWS :] += self.push(len(self.labels))
        self.visits.append(
            law.Visit(float(level), rows[-law.ROWS :].clone(), output[-law.ROWS :].clone(), self.drawn())
        )
        value = output.reshape(state.shape).to(state.dtype)
        return value if isinstance(x, Tensor) else self.session.caller.outgoing(value)

    def level(self, label: float | None) -> int:
        """The level of a label, the nearest there is."""
        if label is None or not np.isfinite(label) or len(self.sigmas) == 1:
            return 0
        if self.session.dialect.noise_label == "sigma":
            return int(np.argmin(np.abs(np.array(self.sigmas) - label)))
        return int(np.clip(round(label), 0, len(self.sigmas) - 1))


def _one(label: Any) -> float:
    """A label that is the same for every row; NaN if it is not."""
    values = label.detach().double().numpy() if isinstance(label, Tensor) else np.asarray(label, dtype=float)
    values = values.reshape(-1)
    return float(values[0]) if len(values) and bool((values == values[0]).all()) else float("nan")


@dataclass
class Ran:
    """A run with what its score noted."""

    run: law.Run
    labels: list[float | None]


def run(
    session: Session,
    port: str,
    give: Callable[[Score, Tensor], dict[str, Any]],
    sigmas: tuple[float, ...],
    x: Tensor,
    noise: Callable[[int], Tensor],
    push: Any = None,
) -> Ran:
    """Run a chain on rows of x with prescribed noises."""
    failure: TargetError | None = None
    for layout in law.LAYOUTS:
        try:
            return _run(session, port, give, sigmas, x, noise, push, layout)
        except TargetError as error:
            failure = failure or error
            if error.kind == "timeout":
                raise
    assert failure is not None
    raise failure


def _run(
    session: Session,
    port: str,
    give: Callable[[Score, Tensor], dict[str, Any]],
    sigmas: tuple[float, ...],
    x: Tensor,
    noise: Callable[[int], Tensor],
    push: Any,
    layout: tuple[int, ...],
) -> Ran:
    kept: list[Tensor] = []

    def make(number: int) -> Tensor:
        value = noise(number)
        kept.append(value[-law.ROWS :])
        return value

    draws = law.Draws(len(x), layout, make)
    score = Score(session, sigmas, lambda: draws.count, push)
    call = session.caller(port, give(score, x.reshape(-1, *layout)), draws)
    found = numbers(call.value)
    if tuple(found.values.shape) != (len(x), *layout):
        words = f"answer has shape {tuple(found.values.shape)}, wanted {(len(x), *layout)}"
        raise TargetError("shape", words, "state-broadcast")
    out = found.values.reshape(len(x), law.D)
    levels = [visit.level for visit in score.visits]
    made = law.Run(
        len(levels),
        x,
        out,
        score.visits,
        levels,
        draws,
        kept,
        tuple(call.tape.others),
        call.mutated,
        found.dtype,
    )
    return Ran(made, score.labels)


def sampled(session: Session, port: str, give: Any, sigmas: tuple[float, ...]) -> Ran:
    """A run with generic numbers, from which steps are read."""
    x = law.generic(1, law.ROWS)
    return run(session, port, give, sigmas, x, law.generic_noise, law.generic_push)


def exact(
    session: Session, port: str, give: Any, sigmas: tuple[float, ...], draws: int
) -> tuple[law.Moments, float]:
    """Mean and covariance of the last state over x and all noises; and how far it is from affine."""
    ran = run(session, port, give, sigmas, law._basis(draws), lambda number: law._unit(number, draws))
    return law.moments(ran.run.out)


def propagated(sigma: Array, values: Array, slack: Array) -> tuple[law.Moments, float]:
    """Mean and covariance after steps of given coefficients (3, N), and the error that theirs make."""
    eye = np.eye(law.D)
    mean, cov, error = np.zeros(law.D), eye.copy(), 0.0
    for i in range(values.shape[1]):
        a, b, c = values[:, i]
        matrix = -np.linalg.inv(law.COV.numpy() + sigma[i] ** 2 * eye)
        M, offset = a * eye + b * matrix, -b * matrix @ law.MEAN.numpy()
        spread, size = float(np.linalg.norm(M, 2)), float(np.linalg.norm(matrix, 2))
        wobble = slack[0, i] + slack[1, i] * size
        scale = 1 + np.abs(cov).max() + np.abs(mean).max()
        error = (
            max(spread, spread**2) * error + 2 * max(spread, 1) * scale * wobble + 2 * abs(c) * slack[2, i]
        )
        mean, cov = M @ mean + offset, M @ cov @ M.T + c**2 * eye
    return law.Moments(mean, cov), float(law.D * error)
