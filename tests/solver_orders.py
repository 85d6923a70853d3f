"""Measured orders of solvers on Gaussian data, where the perfect model is affine and the solution is known.

Deterministic throughout: a whole stochastic sampler is affine in its state and its noises, so one run on
basis vectors gives its law exactly, and its covariance with the solution at the same Brownian motion.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from refdiff.solver import EDMHeun, Levels, Model, NoiseLevel, Solver

MEAN, VARIANCE = 0.75, 0.6
"""Of the data: neither centred nor of unit variance."""
HIGH, LOW = 4.0, 1.0
"""The first and the last σ: both far from 0, where a step in λ has no end."""
STARTS = torch.tensor([[-3.0], [0.5], [5.0]], dtype=torch.float64)
GRIDS = (16, 32, 64, 128)


@dataclass(frozen=True)
class Grid:
    """Levels of so many steps on a smooth rule, in a variance-preserving space, and some before the first."""

    steps: int
    bend: float = 0.35

    def sigma(self, index: Tensor) -> Tensor:
        """σ of the levels by number; numbers below 0 lie before the first level."""
        share = index / self.steps
        return HIGH * (LOW / HIGH) ** (share + self.bend * share * (1 - share))

    def level(self, index: int) -> NoiseLevel:
        return NoiseLevel(*_scale_and_std(self.sigma(torch.tensor(float(index), dtype=torch.float64))))

    @property
    def levels(self) -> Levels:
        return Levels(*_scale_and_std(self.sigma(torch.arange(self.steps + 1, dtype=torch.float64))))

    def past(self, count: int) -> list[NoiseLevel]:
        """So many levels before the first, the noisiest first."""
        return [self.level(-index) for index in range(count, 0, -1)]


def _scale_and_std(sigma: Tensor) -> tuple[Tensor, Tensor]:
    return 1 / (1 + sigma**2).sqrt(), sigma / (1 + sigma**2).sqrt()


def perfect(x: Tensor, scale: Tensor, std: Tensor) -> Tensor:
    """The mean of the noise given x, for data N(MEAN, VARIANCE)."""
    return std * (x - scale * MEAN) / (scale**2 * VARIANCE + std**2)


def solution(y: Tensor, t: NoiseLevel, s: NoiseLevel) -> Tensor:
    """The state at level s of the probability-flow ODE from x = scale·y at level t."""
    root = ((VARIANCE + s.sigma**2) / (VARIANCE + t.sigma**2)).sqrt()
    return s.scale * (MEAN + root * (y - MEAN))


@dataclass(frozen=True)
class Problem:
    """Data with a perfect model and a known solution of the ODE."""

    model: Model
    solution: Callable[[Tensor, NoiseLevel, NoiseLevel], Tensor]

    def error(
        self, solver: Solver, steps: int, count: int | None = None, bend: float = 0.35, warm: bool = True
    ) -> float:
        """The largest error after all steps, or so many, with exact states before the first or none."""
        grid, count = Grid(steps, bend), steps if count is None else count
        first, last = grid.level(0), grid.level(count)
        before = grid.past(solver.history) if warm else []
        past = [(at, self.solution(STARTS, first, at)) for at in before]
        states = solver.trajectory(self.model, first.scale * STARTS, grid.levels, past=past)
        x = next(itertools.islice(states, count, None))
        return float((x - self.solution(STARTS, first, last)).abs().max())


@dataclass(frozen=True)
class Affine:
    """A state as offset + slopes·(states before it and x_T) + Σ weights·noises."""

    offset: Tensor
    slopes: Tensor
    weights: Tensor


def affine(solver: Solver, grid: Grid, count: int, warm: bool) -> Affine:
    """The state after so many steps of a stochastic solver, by one run on basis vectors."""
    before = grid.past(solver.history) if warm else []
    given = len(before) + 1
    unit = torch.eye(given + count + 1, dtype=torch.float64)
    unit[0, 0] = 0
    columns = [unit[:, index : index + 1] for index in range(1, given + count + 1)]
    past, x, noises = columns[: given - 1], columns[given - 1], columns[given:]
    # steps that nobody looks at take whatever noise
    draws = itertools.chain(noises, itertools.repeat(x))
    states = solver.trajectory(perfect, x, grid.levels, draws, list(zip(before, past, strict=True)))
    last = next(itertools.islice(states, count, None)).flatten()
    rows = last[1:] - last[0]
    return Affine(last[0], rows[:given], rows[given:])


def law_error(solver: Solver, steps: int, count: int | None = None, bend: float = 0.35) -> float:
    """The error of mean and variance after all steps, or so many, from states with the law of the process.

    x/scale has independent increments upwards in σ, so two states have the variance of the less noisy one in
    common.
    """
    grid, count = Grid(steps, bend), steps if count is None else count
    got = affine(solver, grid, count, warm=True)
    first, last = grid.level(0), grid.level(count)
    given = [*grid.past(solver.history), first]
    scale, sigma = (torch.stack([getattr(at, name) for at in given]) for name in ("scale", "sigma"))
    common = VARIANCE + torch.minimum(sigma[:, None], sigma[None, :]) ** 2
    slopes = got.slopes * scale
    mean = got.offset + slopes.sum() * MEAN - last.scale * MEAN
    variance = slopes @ common @ slopes + (got.weights**2).sum() - last.scale**2 * (VARIANCE + last.sigma**2)
    return float(mean.abs() + variance.abs())


def path_error(solver: Solver, steps: int, count: int | None = None) -> float:
    r"""The root mean square distance to the solution of the SDE along the same Brownian motion.

    With v = VARIANCE + σ² as clock the SDE is linear, :math:`\mathrm du=\tfrac{1+r}{2v}u\,\mathrm dv
    +\sqrt r\,\mathrm dW`, and its solution an integral of (v_end/v)^((1+r)/2) over W: what the noise of a
    step, an increment of W, and the solution have in common is known exactly. Levels have equal ratios here,
    for which churn has a limit (formula ``solver.sde_memory``).
    """
    grid, count = Grid(steps, 0.0), steps if count is None else count
    got = affine(solver, grid, count, warm=False)
    first, last = grid.level(0), grid.level(count)
    rate = noise_rate(solver)
    power = (1 + rate) / 2
    v = VARIANCE + torch.stack([grid.level(index).sigma for index in range(count + 1)]) ** 2
    upper, lower = v[:-1], v[1:]
    kept = (lower[-1] / v[0]) ** power
    common = math.sqrt(rate) * _integral(power, lower, upper) / (upper - lower).sqrt()
    own = rate * _integral(2 * power, lower, upper)
    whole = got.slopes[0] * first.scale / last.scale
    slope, offset = whole - kept, got.offset / last.scale + (whole - 1) * MEAN
    noise = (got.weights / last.scale - common) ** 2 + own - common**2
    # the mean is a number; the deviation from it is shared through the first state and through each increment
    return float((offset**2 + slope**2 * v[0] + noise.sum()).sqrt())


def noise_rate(solver: Solver) -> float:
    """The noise of the limit against that of the reverse SDE, for levels of equal ratios."""
    span = math.log(HIGH / LOW)
    return solver.S_churn / span if isinstance(solver, EDMHeun) else 1.0


def _integral(power: float, lower: Tensor, upper: Tensor) -> Tensor:
    """∫ (v_end/v)^power dv, v_end being the last of the lower ends."""
    end = lower[-1]
    if power == 1:
        return end * (upper / lower).log()
    return end / (1 - power) * ((upper / end) ** (1 - power) - (lower / end) ** (1 - power))


def measured(error: Callable[[int], float], grids: tuple[int, int, int, int] = GRIDS) -> float:
    """The order for small steps: the slopes between neighbouring grids, extrapolated twice to no step at all.

    A slope is off by a series in the step, which halves from each grid to the next.
    """
    errors = [error(steps) for steps in grids]
    one, two, three = (math.log2(a / b) for a, b in itertools.pairwise(errors))
    return ((2 * three - two) * 4 - (2 * two - one)) / 3


WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)
MODES = torch.tensor([-1.0, 1.25], dtype=torch.float64)
SPREAD = torch.tensor([0.25, 0.5], dtype=torch.float64)
"""A mixture of two Gaussians on a line, by weight, mean and variance."""


def perfect_on_mixture(x: Tensor, scale: Tensor, std: Tensor) -> Tensor:
    """The mean of the noise given x, for data of the mixture."""
    variance = scale**2 * SPREAD + std**2
    deviation = x - scale * MODES
    share = torch.softmax(WEIGHTS.log() - 0.5 * deviation**2 / variance - 0.5 * variance.log(), dim=-1)
    return std * (share * deviation / variance).sum(-1, keepdim=True)


def mixture_solution(y: Tensor, t: NoiseLevel, s: NoiseLevel) -> Tensor:
    """The solution on the mixture: on a line the flow keeps the quantile, which Newton's method inverts."""
    share = _below(y, t.sigma)[0]
    # the rounding of a probability is small against itself in the lower tail, so no start is in the upper one
    place = y.clone()
    for _ in range(60):
        value, density = _below(place, s.sigma)
        place = place - ((value - share) / density).clamp(-0.5, 0.5)
    return s.scale * place


def _below(y: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """The probability below a point at a level of noise, and the density there."""
    deviation = (SPREAD + sigma**2).sqrt()
    z = (y - MODES) / deviation
    below = (WEIGHTS * torch.special.ndtr(z)).sum(-1, keepdim=True)
    density = (WEIGHTS * torch.exp(-0.5 * z**2) / deviation).sum(-1, keepdim=True) / math.sqrt(2 * math.pi)
    return below, density


GAUSSIAN = Problem(perfect, solution)
MIXTURE = Problem(perfect_on_mixture, mixture_solution)
