"""A sampler as a black box: what it asks of its model, the coefficients of its steps, and the exact law of
its output.

With Gaussian data the perfect model is affine, so the output is affine in x_T and in every noise: one run
with a batch
of basis vectors gives its mean and covariance exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refdiff.oracle.calls import Caller, TargetError, numbers
from refdiff.oracle.points import Tables
from refdiff.oracle.tape import NoiseTape
from refdiff.oracle.target import Dialect

Array = NDArray[Any]
LAYOUTS: tuple[tuple[int, ...], ...] = ((2,), (2, 1, 1))
MEAN = torch.tensor([0.25, -0.5], dtype=torch.float64)
COV = torch.tensor([[0.30, 0.08], [0.08, 0.20]], dtype=torch.float64)
D = 2
ROWS = 12
LEARNED = {"learned_range": -0.5, "learned": -3.0}


@dataclass
class PerfectModel:
    """E[output | x_t] for data N(MEAN, COV), as matrices: output = x E_t + e_t, finite where no signal is
    left too."""

    table: Tables
    kind: str = "eps"
    matrices: Tensor = field(init=False)
    offsets: Tensor = field(init=False)
    toward: Tensor = field(init=False)

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

    def weights(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The output as a combination of eps and x_0."""
        zero, one = torch.zeros_like(a), torch.ones_like(a)
        return {
            "eps": (one, zero),
            "x_0": (zero, one),
            "v": (a, -b),
            "score": (-1 / b.clamp(min=1e-300), zero),
        }[self.kind]

    def pushed(self, index: int, push: Tensor) -> Tensor:
        """What an error of eps, and the one of x_0 that belongs to it, changes in the output."""
        log_abar = torch.tensor(float(self.table.log_abar[index]), dtype=torch.float64)
        a, b = (log_abar / 2).exp(), (-torch.expm1(log_abar)).sqrt()
        p, q = self.weights(a, b)
        # the smaller of the two errors is about one, so that states stay of the size of data
        return push * (p * torch.clamp(a / b, max=1.0) - q * torch.clamp(b / a, max=1.0))


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
        push: added to eps, scaled: makes the output independent of the state; one tensor a call, or None.
    """

    perfect: PerfectModel
    dialect: Dialect
    tape: NoiseTape
    push: Any = None
    keep: bool = True
    visits: list[Visit] = field(default_factory=list)
    labels: list[float] = field(default_factory=list)

    def __call__(self, x: Any, t: Any, *args: Any, **kwargs: Any) -> Any:
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
            answer = answer + self.perfect.pushed(index, self.push(len(self.labels), x))
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
    starts = [visit.draws for visit in found.visits]
    levels = np.array([visit.level for visit in found.visits])
    columns: list[tuple[float, ...]] = []
    for i, visit in enumerate(found.visits):
        first = starts[i - 1] if i else 0
        last = starts[i + 2] if i + 2 < len(starts) else len(found.noises)
        columns.append(_regress(states[i + 1], [visit.x, visit.output, *found.noises[first:last]]))
    table = np.array(columns).reshape(len(columns), 8)
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


def _regress(y: Tensor, regressors: list[Tensor]) -> tuple[float, ...]:
    """Coefficients of state, output and noise; residual; number of noises; blurs of the three
    coefficients."""
    matrix = torch.stack([r.reshape(-1) for r in regressors], 1).numpy()
    target = y.reshape(-1).numpy()
    if not (np.isfinite(matrix).all() and np.isfinite(target).all()):
        return (np.nan, np.nan, np.nan, np.inf, 0, 0.0, 0.0, 0.0)
    size = np.linalg.norm(matrix, axis=0)
    size = np.where(size == 0, 1.0, size)
    inverse = np.linalg.pinv(matrix / size)
    solution = inverse @ target / size
    # one step of refinement takes the error of the inverse out
    solution = solution + inverse @ (target - matrix @ solution) / size
    rest = float(np.abs(target - matrix @ solution).max())
    scale = float(np.abs(target).max() + (np.abs(matrix) * np.abs(solution)).sum(1).max()) + 1e-300
    blur = np.linalg.norm(inverse, axis=1) / size * scale
    used = np.abs(solution[2:]) * size[2:] > 1e-9 * scale
    noise = float(np.sqrt((solution[2:][used] ** 2).sum()))
    if used.sum() == 1:
        noise = float(solution[2:][used][0])
    blur_of_noise = float(blur[2:].max(initial=0.0))
    return (
        float(solution[0]),
        float(solution[1]),
        noise,
        rest / scale,
        int(used.sum()),
        *blur[:2].tolist(),
        blur_of_noise,
    )


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
    return generic(1000 + number, ROWS)


def generic_push(number: int, x: Tensor) -> Tensor:
    """What keeps the outputs of the last rows apart from their states; other rows see the perfect model."""
    value = torch.zeros_like(x)
    value[-ROWS:] = 0.5 * generic(500_000 + number, ROWS)
    return value


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
        return torch.cat([_unit(number, draws), generic_noise(number)])

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


def _unit(number: int, draws: int) -> Tensor:
    """The noise of those rows in one draw: unit vectors in the rows of this draw."""
    value = torch.zeros(1 + D + D * draws + 1, D, dtype=torch.float64)
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
