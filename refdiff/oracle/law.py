"""A sampler as a black box: what it asks of its model, the coefficients of its steps, and the exact law of
its output.

With Gaussian data the perfect model is affine, so the output is affine in x_T and in every noise: one run
with a batch of basis vectors gives its mean and covariance exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refdiff.oracle.calls import Caller, TargetError, numbers
from refdiff.oracle.points import Tables
from refdiff.oracle.tape import NoiseTape, aside
from refdiff.oracle.target import Dialect

Array = NDArray[Any]
LAYOUTS: tuple[tuple[int, ...], ...] = ((2,), (2, 1, 1))
MEAN = torch.tensor([0.25, -0.5], dtype=torch.float64)
COV = torch.tensor([[0.30, 0.08], [0.08, 0.20]], dtype=torch.float64)
D = 2
ROWS = 12
BANK = 256
# by whether a run is in single precision
NOISELESS = (1e-9, 1e-5)
LEARNED = {"learned_range": -0.5, "learned": -3.0}


@dataclass
class PerfectModel:
    """E[output | x_t] for data N(MEAN, COV), as matrices: output = x E_t + e_t, finite where no signal is
    left too."""

    table: Tables
    kind: str = "eps"
    matrices: Tensor = field(init=False)
    offsets: Tensor = field(init=False)
    toward: list[float] = field(init=False)

    def __post_init__(self) -> None:
        log_abar = torch.as_tensor(self.table.log_abar.astype(np.float64))
        a, b = (log_abar / 2).exp(), (-torch.expm1(log_abar)).sqrt()
        values, axes = torch.linalg.eigh(COV)
        total = a[:, None] ** 2 * values + b[:, None] ** 2
        to_eps = torch.einsum("ik,tk,jk->tij", axes, b[:, None] / total, axes)
        to_x_0 = torch.einsum("ik,tk,jk->tij", axes, a[:, None] * values / total, axes)
        eps_0 = -torch.einsum("tij,j,t->ti", to_eps, MEAN, a)
        x_0_0 = MEAN - torch.einsum("tij,j,t->ti", to_x_0, MEAN, a)
        p, q = self.weights(a, b)
        self.matrices = p[:, None, None] * to_eps + q[:, None, None] * to_x_0
        self.offsets = p[:, None] * eps_0 + q[:, None] * x_0_0
        # an error of eps, and the one of x_0 that belongs to it: the smaller of the two is about one, so that
        # states stay of the size of data
        self.toward = (p * torch.clamp(a / b, max=1.0) - q * torch.clamp(b / a, max=1.0)).tolist()

    def weights(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The output as a combination of eps and x_0."""
        zero, one = torch.zeros_like(a), torch.ones_like(a)
        return {
            "eps": (one, zero),
            "x_0": (zero, one),
            "v": (a, -b),
            "score": (-1 / b.clamp(min=1e-300), zero),
        }[self.kind]


@dataclass
class Visit:
    """One call of the model: the level in our time (NaN if not one level), the state, the output, the
    draws before it."""

    level: float
    x: Tensor
    output: Tensor
    draws: int


@dataclass
class Recorder:
    """The perfect model, in the dialect's parameterization, that notes what it is asked.

    Args:
        perfect: the model.
        dialect: conventions of the target.
        tape: the tape, whose draws are counted.
        push: added to eps in the last rows, scaled: makes the output independent of the state; one tensor a
            call, or None.
    """

    perfect: PerfectModel
    dialect: Dialect
    tape: NoiseTape
    push: Any = None
    keep: bool = True
    visits: list[Visit] = field(default_factory=list)
    labels: list[float] = field(default_factory=list)

    def __call__(self, x: Any, t: Any, *args: Any, **kwargs: Any) -> Any:
        with aside():
            return self.answer(x, t)

    def answer(self, x: Any, t: Any) -> Any:
        """The output, in the shape and the array library of the state."""
        state = x if isinstance(x, Tensor) else torch.as_tensor(np.asarray(x))
        level = self.level(t)
        flat = state.detach().double().reshape(len(state), -1)
        if flat.shape[1] != D:
            raise ValueError(f"the model was given {tuple(state.shape)}, wanted (B, {D})")
        output = self.output(flat, level)
        self.labels.append(level)
        if self.keep:
            self.visits.append(Visit(level, flat[-ROWS:].clone(), output[-ROWS:], len(self.tape.shapes)))
        return self.back(output.reshape(state.shape), x, state)

    def level(self, t: Any) -> float:
        """The level of a label, the same for every row."""
        label = (
            t.detach().double().reshape(-1)
            if isinstance(t, Tensor)
            else torch.as_tensor(np.asarray(t, float)).reshape(-1)
        )
        first = float(label[0])
        if len(label) > 1 and bool((label != first).any()):
            return float("nan")
        return first + 1 - self.dialect.index_origin

    def output(self, x: Tensor, level: float) -> Tensor:
        """The model's answer; outside of the table it is the one of the nearest level."""
        T = self.perfect.table.T
        index = int(min(max(round(level), 1), T)) if np.isfinite(level) else T
        answer = torch.addmm(self.perfect.offsets[index], x, self.perfect.matrices[index])
        if self.push is not None:
            answer[-ROWS:] += self.perfect.toward[index] * self.push(len(self.labels))
        return answer

    def back(self, output: Tensor, x: Any, state: Tensor) -> Any:
        """The answer in the array library of the question, with a second half for a learned variance."""
        value = output.to(state.dtype)
        if self.dialect.variance in LEARNED:
            value = torch.cat([value, torch.full_like(value, LEARNED[self.dialect.variance])], 1)
        if isinstance(x, Tensor):
            return value
        if self.dialect.backend == "jax":
            import jax

            return jax.numpy.asarray(value.numpy())
        return value.numpy()


@dataclass
class Draws:
    """Answers Gaussian draws with given rows, one (B, *) tensor at a time; a stack of them is answered at
    once."""

    rows: int
    layout: tuple[int, ...]
    make: Any
    count: int = 0
    odd: list[tuple[int, ...]] = field(default_factory=list)
    after: list[int] = field(default_factory=list)

    def __call__(self, number: int, shape: tuple[int, ...]) -> Tensor:
        one = (self.rows, *self.layout)
        if shape == one:
            value = self._next().reshape(one)
        elif shape[1:] == one:
            value = torch.stack([self._next().reshape(one) for _ in range(shape[0])])
        else:
            self.odd.append(shape)
            value = torch.zeros(shape, dtype=torch.float64)
        self.after.append(self.count)
        return value

    def _next(self) -> Tensor:
        self.count += 1
        made: Tensor = self.make(self.count - 1)
        return made


@dataclass
class Run:
    """One run of the sampler."""

    n: int
    x_T: Tensor
    out: Tensor
    visits: list[Visit]
    levels: list[float]
    draws: Draws
    noises: list[Tensor]
    others: tuple[str, ...]
    mutated: tuple[str, ...]
    dtype: str


def generic(seed: int, rows: int) -> Tensor:
    """Fixed numbers of about unit size, (rows, D)."""
    return torch.as_tensor(np.random.Generator(np.random.PCG64(seed)).standard_normal((rows, D)))


def run(
    caller: Caller,
    perfect: PerfectModel,
    n: int,
    x_T: Tensor,
    noise: Any,
    push: Any = None,
    keep: bool = True,
) -> Run:
    """Run a sampler of n steps on rows of x_T with prescribed noises (number -> (B, D))."""
    failure: TargetError | None = None
    for layout in LAYOUTS:
        try:
            return _run(caller, perfect, n, x_T, noise, push, keep, layout)
        except TargetError as error:
            failure = failure or error
            if error.kind == "timeout":
                raise
    assert failure is not None
    raise failure


def _run(
    caller: Caller,
    perfect: PerfectModel,
    n: int,
    x_T: Tensor,
    noise: Any,
    push: Any,
    keep: bool,
    layout: tuple[int, ...],
) -> Run:
    noises: list[Tensor] = []

    def make(number: int) -> Tensor:
        value = noise(number)
        if keep:
            noises.append(value[-ROWS:])
        return value  # type: ignore[no-any-return]

    draws = Draws(len(x_T), layout, make)
    model = Recorder(perfect, caller.dialect, _Counter(draws), push, keep)  # type: ignore[arg-type]
    call = caller("sample", {"model": model, "x_T": x_T.reshape(-1, *layout), "steps": n}, draws)
    found = numbers(call.value)
    if tuple(found.values.shape) != (len(x_T), *layout):
        message = f"answer has shape {tuple(found.values.shape)}, wanted {(len(x_T), *layout)}"
        raise TargetError("shape", message, "state-broadcast")
    out = found.values.reshape(len(x_T), D)
    if caller.dialect.space == "ve" and caller.dialect.alpha_bar_0 == "first":
        # it ends at x / sqrt(alpha_bar_1): put where the states are that the model sees
        out = out * float(np.exp(perfect.table.log_abar[1] / 2))
    return Run(
        n,
        x_T,
        out,
        model.visits,
        model.labels,
        draws,
        noises,
        tuple(call.tape.others),
        call.mutated,
        found.dtype,
    )


class _Counter:
    """Looks like a tape to the recorder: as many shapes as draws were answered."""

    def __init__(self, draws: Draws) -> None:
        self.draws = draws

    @property
    def shapes(self) -> range:
        return range(self.draws.count)


@dataclass(frozen=True)
class Steps:
    """The coefficients of every step, read from one run: x_s = a x_t + b output + c z.

    Args:
        t, s: levels that the model was asked at, and the next ones (0 at the end).
        values: rows a, b, c, shape (3, N).
        residual: what the three do not explain, relative to the state, (N,).
        start: factor of x_T in the first state, and what it does not explain.
        noises: how many draws each step uses, (N,).
        blur: how much a rounding of the states blurs each coefficient, in units of roundoff, (3, N).
    """

    t: Array
    s: Array
    values: Array
    residual: Array
    start: tuple[float, float]
    noises: Array
    blur: Array


def steps(found: Run) -> Steps:
    """Read the coefficients of each step off a run by linear regression over its rows."""
    states = [visit.x for visit in found.visits] + [found.out]
    levels = np.array([visit.level for visit in found.visits])
    table = np.empty((len(found.visits), 8))
    problems = [_problem(found, states, i) for i in range(len(found.visits))]
    counts = np.array([len(regressors) for _, regressors in problems])
    for count in np.unique(counts):
        which = np.flatnonzero(counts == count)
        targets = torch.stack([problems[i][0] for i in which]).flatten(1)
        columns = torch.stack([torch.stack(problems[i][1], -1) for i in which]).flatten(1, -2)
        table[which] = _regress(targets.numpy(), columns.numpy(), NOISELESS[found.dtype == "float32"])
    first_state = states[0]
    factor = float((first_state * found.x_T).sum() / (found.x_T**2).sum())
    rest = float((first_state - factor * found.x_T).abs().max())
    return Steps(
        np.nan_to_num(levels, nan=-1).astype(np.int64),
        np.append(np.nan_to_num(levels[1:], nan=-1), 0).astype(np.int64),
        table[:, :3].T,
        table[:, 3],
        (factor, rest),
        table[:, 4].astype(int),
        table[:, 5:].T,
    )


def _problem(found: Run, states: list[Tensor], i: int) -> tuple[Tensor, list[Tensor]]:
    """What step i ends at, and what it may be made of: state, output and the noises drawn around it."""
    starts = [visit.draws for visit in found.visits[max(i - 1, 0) : i + 3]]
    first = starts[0] if i else 0
    last = starts[-1] if i + 2 < len(found.visits) else len(found.noises)
    visit = found.visits[i]
    return states[i + 1], [visit.x, visit.output, *found.noises[first:last]]


def _regress(y: Array, matrix: Array, noiseless: float) -> Array:
    """N linear regressions at once: y (N, m) on the columns of matrix (N, m, k).

    Args:
        noiseless: the share of a state that is the rounding of a run, and no noise.

    Returns:
        (N, 8): coefficients of state, output and noise; residual; number of noises; blurs of the three.
    """
    finite = np.asarray(np.isfinite(matrix).all((1, 2)) & np.isfinite(y).all(1))
    matrix, y = np.where(finite[:, None, None], matrix, 0.0), np.where(finite[:, None], y, 0.0)
    size = np.linalg.norm(matrix, axis=1)
    size = np.where(size == 0, 1.0, size)
    inverse = np.linalg.pinv(matrix / size[:, None, :])
    solution = _apply(inverse, y) / size
    # one step of refinement takes the error of the inverse out
    solution = solution + _apply(inverse, y - _apply(matrix, solution)) / size
    rest = np.abs(y - _apply(matrix, solution)).max(1)
    scale = np.abs(y).max(1) + _apply(np.abs(matrix), np.abs(solution)).max(1) + 1e-300
    blur = np.linalg.norm(inverse, axis=2) / size * scale[:, None]
    noises = np.where(np.abs(solution) * size > noiseless * scale[:, None], solution, 0.0)[:, 2:]
    count = (noises != 0).sum(1)
    noise = np.where(count == 1, noises.sum(1), np.linalg.norm(noises, axis=1))
    blurs = (blur[:, 0], blur[:, 1], blur[:, 2:].max(1, initial=0.0))
    found = np.column_stack([solution[:, 0], solution[:, 1], noise, rest / scale, count, *blurs])
    found[~finite] = (np.nan, np.nan, np.nan, np.inf, 0.0, 0.0, 0.0, 0.0)
    return found


def _apply(matrices: Array, vectors: Array) -> Array:
    return np.asarray((matrices @ vectors[:, :, None])[:, :, 0])


@dataclass(frozen=True)
class Moments:
    """Mean and covariance."""

    mean: Array
    cov: Array

    def distance(self, other: Moments) -> float:
        """The largest difference of an entry."""
        gap = max(float(np.abs(self.mean - other.mean).max()), float(np.abs(self.cov - other.cov).max()))
        return gap if np.isfinite(gap) else float("inf")


def generic_noise(number: int) -> Tensor:
    """Fixed noise of one draw."""
    return _bank(1, number // BANK)[number % BANK]


def generic_push(number: int) -> Tensor:
    """What keeps the outputs of the last rows apart from their states; other rows see the perfect model."""
    return _bank(2, number // BANK)[number % BANK] / 2


@lru_cache(maxsize=16)
def _bank(kind: int, block: int) -> Tensor:
    """Fixed numbers of many calls, (BANK, ROWS, D): a generator a call would take longer than a step."""
    # a seed of its own: [1, 0] would be the seed 1, with which x_T is made
    draw = np.random.Generator(np.random.PCG64([7, kind, block]))
    return torch.as_tensor(draw.standard_normal((BANK, ROWS, D)))


def sampled(caller: Caller, perfect: PerfectModel, n: int) -> Run:
    """A run with generic numbers, from which steps are read."""
    return run(caller, perfect, n, generic(1, ROWS), generic_noise, generic_push)


def exact(caller: Caller, perfect: PerfectModel, n: int, draws: int) -> tuple[Moments, float]:
    """Mean and covariance of the output over x_T and all noises, from one run; and how far it is from
    affine."""
    return moments(
        run(caller, perfect, n, _basis(draws), lambda number: _unit(number, draws), keep=False).out
    )


def sampled_and_exact(
    caller: Caller, perfect: PerfectModel, n: int, draws: int
) -> tuple[Run, Moments, float]:
    """Both in one run: basis rows, then generic ones."""

    def noise(number: int) -> Tensor:
        value = _unit(number, draws, ROWS)
        value[-ROWS:] = generic_noise(number)
        return value

    x_T = torch.cat([_basis(draws), generic(1, ROWS)])
    found = run(caller, perfect, n, x_T, noise, generic_push)
    law, bent = moments(found.out[:-ROWS])
    return replace(found, x_T=x_T[-ROWS:], out=found.out[-ROWS:]), law, bent


def _basis(draws: int) -> Tensor:
    """x_T of rows: zero, unit vectors, zeros for the noises, and one generic row."""
    x_T = torch.zeros(1 + D + D * draws + 1, D, dtype=torch.float64)
    x_T[1 : 1 + D] = torch.eye(D, dtype=torch.float64)
    x_T[-1] = torch.tensor([2.0, -3.0])
    return x_T


def _unit(number: int, draws: int, more: int = 0) -> Tensor:
    """The noise of those rows in one draw: unit vectors in the rows of this draw; and more rows of zeros."""
    value = torch.zeros(1 + D + D * draws + 1 + more, D, dtype=torch.float64)
    if number < draws:
        first = 1 + D + D * number
        value[first : first + D] = torch.eye(D, dtype=torch.float64)
    return value


def moments(out: Tensor) -> tuple[Moments, float]:
    """The law of the output from the basis rows, and how far the generic one is from affine."""
    rows = out.numpy()
    columns = rows[1:-1] - rows[0]
    predicted = rows[0] + _basis(0)[-1].numpy() @ columns[:D]
    bent = float(np.abs(rows[-1] - predicted).max() / (1 + np.abs(predicted).max()))
    return Moments(rows[0], columns.T @ columns), bent


def propagated(
    perfect: PerfectModel, found: Steps, values: Array, tolerance: Array, dialect: Dialect
) -> tuple[Moments, float]:
    """Mean and covariance after steps of given coefficients of (state, eps, noise), and the error that
    theirs make."""
    mean, cov = np.zeros(D), np.eye(D) * found.start[0] ** 2
    error = 0.0
    for i in range(len(found.t)):
        index = int(np.clip(found.t[i], 1, perfect.table.T))
        E, e = perfect.matrices[index].numpy(), perfect.offsets[index].numpy()
        a, b, c = values[:, i]
        M = a * np.eye(D) + b * E
        spread, size = float(np.linalg.norm(M, 2)), float(np.linalg.norm(E, 2))
        wobble = tolerance[0, i] + tolerance[1, i] * (size + np.abs(e).max())
        scale = 1 + np.abs(cov).max() + np.abs(mean).max()
        error = (
            max(spread, spread**2) * error
            + 2 * max(spread, 1.0) * scale * wobble
            + 2 * abs(c) * tolerance[2, i]
        )
        mean = M @ mean + b * e
        cov = M @ cov @ M.T + c**2 * np.eye(D)
    return Moments(mean, cov), float(D * error)
