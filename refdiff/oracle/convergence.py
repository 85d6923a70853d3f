r"""A solver as a black box: levels to go through, models whose solution is known, and the order of the error.

Every model here answers with data of mean m along each coordinate,

.. math:: \hat x_0=m+q(\lambda)\left(\frac{x}{\mathrm{scale}}-m\right),\qquad
    \lambda=\log\frac{\mathrm{scale}}{\mathrm{std}},

so that u = (x - scale m) / std obeys du = q u dλ on the probability-flow ODE, and the solution is exact. With
q = 0 the data are one point and every solver is exact; with q = c / (c + sigma²) they are Gaussian; with a q
that vanishes at both ends the first and the last steps of a solver with memory do not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.polynomial import Polynomial
from numpy.typing import NDArray
from torch import Tensor

from refdiff.oracle.calls import Caller, TargetError, numbers
from refdiff.oracle.tape import aside

Array = NDArray[Any]
LAYOUTS: tuple[tuple[int, ...], ...] = ((4,), (4, 1, 1))
D = 4
MEAN = np.array([0.25, -0.5, 0.75, -1.25])
LOW, HIGH = -1.5, 1.5
GRIDS = {
    "any": ("log_snr", "uneven"),
    "log_snr": ("log_snr",),
    "sigma": ("sigma",),
    "time": ("time",),
}
# steps that change by more than a power of their size: a ratio of steps that is wrong shows
UNEVEN = (1.0, 1.8, 0.7)


class Law(Protocol):
    """How much of a state's distance from the mean the model keeps, at λ."""

    def share(self, log_snr: float) -> Array:
        """q(λ), (D,)."""

    def growth(self, start: float, end: float) -> Array:
        """The integral of q, (D,)."""


class Point:
    """Data that are one point: q = 0."""

    def share(self, log_snr: float) -> Array:
        """None of the distance is kept."""
        return np.zeros(D)

    def growth(self, start: float, end: float) -> Array:
        """u is constant."""
        return np.zeros(D)


class Gaussian:
    """Gaussian data of the variances."""

    variance = np.array([0.15, 0.4, 0.9, 2.5])

    def share(self, log_snr: float) -> Array:
        """c / (c + sigma²)."""
        return np.asarray(self.variance / (self.variance + np.exp(-2 * log_snr)))

    def growth(self, start: float, end: float) -> Array:
        """The integral in closed form."""
        first, last = (np.log1p(self.variance * np.exp(2 * value)) for value in (start, end))
        return np.asarray((last - first) / 2)


class Quiet:
    """A model that is straight at both ends: q is a polynomial with zeros of that order there."""

    size = np.array([1.2, -0.8, 0.7, 0.4])

    def __init__(self, zeros: int) -> None:
        self.shape = Polynomial([0.0, 4.0, -4.0]) ** zeros
        self.integral = self.shape.integ()

    def share(self, log_snr: float) -> Array:
        """The polynomial inside of the levels, 0 outside."""
        at = (log_snr - LOW) / (HIGH - LOW)
        return np.asarray(self.size * (self.shape(at) if 0 < at < 1 else 0.0))

    def growth(self, start: float, end: float) -> Array:
        """Its integral."""
        a, b = (float(np.clip((value - LOW) / (HIGH - LOW), 0, 1)) for value in (start, end))
        return np.asarray(self.size * (HIGH - LOW) * (self.integral(b) - self.integral(a)))


def log_snrs(grid: str, steps: int, low: float = LOW, high: float = HIGH) -> Array:
    """λ of the levels, rising, (N+1,): evenly in λ, in sigma, in the time std of a straight path, in Karras'
    way, or in λ with steps of three sizes."""
    at = np.linspace(0, 1, steps + 1)
    first, last = np.exp(-low), np.exp(-high)
    if grid == "uneven":
        ends = np.append(0.0, np.cumsum(np.resize(UNEVEN, steps)))
        at = ends / ends[-1]
    if grid == "sigma":
        return np.asarray(-np.log(first + at * (last - first)))
    if grid == "time":
        a, b = first / (1 + first), last / (1 + last)
        time = a + at * (b - a)
        return np.asarray(np.log1p(-time) - np.log(time))
    if grid == "karras":
        return np.asarray(-7 * np.log(first ** (1 / 7) + at * (last ** (1 / 7) - first ** (1 / 7))))
    return np.asarray(low + at * (high - low))


def levels(values: Array, space: str) -> tuple[Tensor, Tensor]:
    """Scales and stds of λ in a space, float64, (N+1,)."""
    at = torch.as_tensor(values)
    if space == "vp":
        return torch.sigmoid(2 * at).sqrt(), torch.sigmoid(-2 * at).sqrt()
    if space == "flow":
        return torch.sigmoid(at), torch.sigmoid(-at)
    return torch.ones_like(at), torch.exp(-at)


@dataclass
class Visit:
    """One question to the model: the level as it was given, the state, and the draws before it."""

    scale: float
    std: float
    x: Array
    draws: int

    @property
    def log_snr(self) -> float:
        """λ, infinite without noise."""
        with np.errstate(all="ignore"):
            return float(np.log(self.scale) - np.log(self.std))


@dataclass
class Asked:
    """A model of a law that notes what it is asked.

    Args:
        law: what it predicts.
        parameterization: what it answers with.
        given: (number of the question, rows, D) -> the answer, in place of the law's.
        draws: how many draws were answered so far.
    """

    law: Law
    parameterization: str
    given: Callable[[int, int], Array] | None
    draws: Callable[[], int]
    visits: list[Visit] = field(default_factory=list)

    def __call__(self, x: Any, scale: Any, std: Any) -> Any:
        with aside():
            state = x if isinstance(x, Tensor) else torch.as_tensor(np.asarray(x))
            flat = state.detach().double().reshape(len(state), -1).numpy()
            if flat.shape[1] != D:
                raise ValueError(f"the model was given {tuple(state.shape)}, wanted (B, {D})")
            at = _one(scale, "scale"), _one(std, "std")
            self.visits.append(Visit(*at, flat.copy(), self.draws()))
            number = len(self.visits) - 1
            answer = self.answer(flat, *at) if self.given is None else self.given(number, len(flat))
            value = torch.as_tensor(answer).reshape(state.shape).to(state.dtype)
            if isinstance(x, Tensor):
                return value
            if isinstance(x, np.ndarray):
                return value.numpy()
            return type(x)(value.numpy()) if callable(type(x)) else value.numpy()

    def answer(self, x: Array, scale: float, std: float) -> Array:
        """The law's prediction."""
        with np.errstate(all="ignore"):
            share = self.law.share(float(np.log(scale) - np.log(std)))
            x_0 = MEAN + share * (x / scale - MEAN)
            return predicted(self.parameterization, x, x_0, scale, std)


def predicted(kind: str, x: Array, x_0: Array, scale: float, std: float) -> Array:
    """A prediction of data in a parameterization."""
    if kind == "x_0":
        return x_0
    eps = (x - scale * x_0) / std
    return {"eps": eps, "score": -eps / std, "v": scale * eps - std * x_0}[kind]


def _one(value: Any, name: str) -> float:
    """A level that is the same for all rows."""
    if isinstance(value, float) or (isinstance(value, Tensor) and value.dim() == 0):
        return float(value)
    found = value.detach().double().reshape(-1).numpy() if isinstance(value, Tensor) else np.ravel(value)
    if len(found) == 0 or (found != found[0]).any():
        raise ValueError(f"{name} must be one level, got {value}")
    return float(found[0])


@dataclass
class Run:
    """One run of a solver.

    Args:
        out: rows of the final state, (B, D).
        x: rows of the first state, as the target was given it.
        scale, std: the levels as the target was given them.
        visits: what the model was asked.
        drawn: shapes of the draws; ``odd`` are those that are not shaped like x.
        others: draws that are not Gaussian.
        mutated: arguments that were changed.
        dtype: of the answer.
    """

    out: Array
    x: Array
    scale: Array
    std: Array
    visits: list[Visit]
    drawn: int
    odd: list[tuple[int, ...]]
    others: tuple[str, ...]
    mutated: tuple[str, ...]
    dtype: str

    @property
    def log_snr(self) -> Array:
        """λ of the levels."""
        with np.errstate(all="ignore"):
            return np.asarray(np.log(self.scale) - np.log(self.std))


def solve(
    caller: Caller,
    law: Law,
    at: tuple[Tensor, Tensor],
    x: Array,
    noises: Array,
    given: Callable[[int, int], Array] | None = None,
) -> Run:
    """Run a solver on rows of the first state.

    Args:
        caller: calls of the target.
        law: what the model predicts.
        at: scales and stds.
        x: (B, D).
        noises: (M, B, D): the argument ``noises``, and the answers to draws of its own.
        given: answers of the model, in place of the law's.
    """
    failure: TargetError | None = None
    for layout in LAYOUTS:
        try:
            return _solve(caller, law, at, x, noises, given, layout)
        except TargetError as error:
            failure = failure or error
            if error.kind in ("timeout", "declined"):
                raise
    assert failure is not None
    raise failure


def _solve(
    caller: Caller,
    law: Law,
    at: tuple[Tensor, Tensor],
    x: Array,
    noises: Array,
    given: Callable[[int, int], Array] | None,
    layout: tuple[int, ...],
) -> Run:
    shape = (len(x), *layout)
    rows = torch.as_tensor(noises).reshape(len(noises), *shape)
    drawn, odd = [0], []

    def answer(number: int, wanted: tuple[int, ...]) -> Tensor:
        if wanted != shape:
            odd.append(wanted)
            return torch.zeros(wanted, dtype=torch.float64)
        drawn[0] += 1
        return rows[drawn[0] - 1] if drawn[0] <= len(rows) else torch.zeros(shape, dtype=torch.float64)

    model = Asked(law, caller.dialect.parameterization, given, lambda: drawn[0])
    state = torch.as_tensor(x).reshape(shape)
    scale, std = at
    arguments = {"model": model, "x": state, "scales": scale, "stds": std, "noises": rows}
    call = caller("solve", arguments, answer)
    found = numbers(call.value)
    if tuple(found.values.shape) != shape:
        message = f"answer has shape {tuple(found.values.shape)}, wanted {shape}"
        raise TargetError("shape", message, "state-broadcast")
    kind = getattr(torch, caller.dialect.dtype)
    exact = [value.to(kind).double().numpy() for value in (scale, std, state.reshape(len(x), D))]
    out = found.values.reshape(len(x), D).numpy()
    others = tuple(call.tape.others)
    return Run(
        out, exact[2], exact[0], exact[1], model.visits, drawn[0], odd, others, call.mutated, found.dtype
    )


def solution(law: Law, run: Run) -> Array:
    """The final state of the probability-flow ODE from the rows of a run."""
    start, end = float(run.log_snr[0]), float(run.log_snr[-1])
    u = (run.x - run.scale[0] * MEAN) / run.std[0]
    return np.asarray(run.scale[-1] * MEAN + run.std[-1] * u * np.exp(law.growth(start, end)))


def starts(scale: float, std: float) -> Array:
    """Two rows: one standard deviation above the mean along every coordinate, and the mean."""
    return np.stack([scale * MEAN + std, scale * MEAN])


def unit_rows(draws: int, count: int, first: int = 2) -> Array:
    """Noises of rows: none for the first ones, then one of the first draws each, (count, first + M, D)."""
    rows = np.zeros((max(draws, count), first + draws, D))
    rows[np.arange(draws), first + np.arange(draws)] = 1.0
    return rows


@dataclass(frozen=True)
class Order:
    """How an error falls with the number of steps.

    Args:
        steps: three numbers of steps or more.
        errors: of each.
        rounded: whether the next number of steps would have been rounded off.
    """

    steps: tuple[int, ...]
    errors: tuple[float, ...]
    rounded: bool = False

    @property
    def slopes(self) -> Array:
        """Base-two logarithms of the quotients of neighbours."""
        with np.errstate(all="ignore"):
            return np.asarray(-np.diff(np.log2(np.array(self.errors))))

    @property
    def value(self) -> float:
        """The slope without its own error of first order in 1/N; where it has not settled, the better one."""
        last, before = float(self.slopes[-1]), float(self.slopes[-2])
        limit = 2 * last - before
        return limit if self.settled else max(limit, last)

    @property
    def settled(self) -> bool:
        """Whether the last two slopes agree about the order."""
        slopes = self.slopes
        return bool(abs(slopes[-1] - slopes[-2]) <= SETTLED)

    @property
    def steady(self) -> bool:
        """Whether they agree by far."""
        slopes = self.slopes
        return bool(abs(slopes[-1] - slopes[-2]) <= SETTLED / 2)

    def __str__(self) -> str:
        shown = ", ".join(
            f"{error:.2g} at {steps}" for steps, error in zip(self.steps, self.errors, strict=True)
        )
        return f"{self.value:.2f} (errors {shown})"


SETTLED = 0.12


def measured(
    error: Callable[[int], float],
    counts: tuple[int, ...],
    floor: Callable[[int], float],
    wanted: float | None,
    exact: bool = True,
) -> Order | None:
    """The order of an error, from three numbers of steps on, and from larger ones until it is settled.

    Args:
        error: of a number of steps.
        counts: numbers of steps, each the double of the one before it.
        floor: the error that rounding explains.
        wanted: an order, at which it may stop sooner.
        exact: whether it may not be more than wanted.

    Returns:
        None where fewer than three errors are above what rounding explains.
    """
    found: list[float] = []
    far = False
    for steps in counts:
        value = error(steps)
        if not np.isfinite(value) or value <= ABOVE * floor(steps):
            break
        found.append(value)
        if len(found) >= 3:
            order = Order(counts[len(found) - 3 : len(found)], tuple(found[-3:]))
            enough = wanted is not None and not exact and min(order.slopes) >= wanted - WITHIN
            near = wanted is None or abs(order.value - wanted) <= WITHIN
            off = 0.0 if wanted is None else order.value - wanted
            gross = order.steady and (abs(off) if exact else -off) > GROSS
            if enough or gross or (order.settled and (near or (far and steps > FEW))):
                return order
            far = order.settled
    if len(found) < 3:
        return None
    rounded = len(found) < len(counts) and bool(np.isfinite(value))
    return Order(counts[len(found) - 3 : len(found)], tuple(found[-3:]), rounded)


# an error of forty times its rounding, generously estimated, has a slope that is off by less than 0.05
ABOVE = 40.0
WITHIN = 0.1
# an order that is not the declared one is believed above these many steps, where the slopes agreed before
FEW = 48
# an order that is off by so much is believed where the slopes are steady
GROSS = 0.5
