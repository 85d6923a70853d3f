"""The error of every sampler after 10, 20 and 50 steps on a mixture of two Gaussians, against what is exact.

Data on a line, from the exact law at the largest level to that at the smallest, through the levels of Karras
et al.; the model is perfect, so that what is measured is the solver. On a line the probability-flow ODE keeps
the quantile: a deterministic sampler is compared with that map, by the mean distance over the law. A
stochastic one is compared with the law itself, by the Wasserstein distance (order 1) of its samples. Noise is
dealt out evenly over the samples in the order of their states (array quasi-Monte Carlo); the last line says
what that leaves for one exact step, from data in order to the smallest level.

python benchmarks/solver_error.py
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from functools import cache

import torch
from torch import Tensor

from refdiff import sde
from refdiff.process import EDM
from refdiff.solver import SOLVERS, Levels, Solver, karras_levels

WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)
MODES = torch.tensor([-1.0, 1.25], dtype=torch.float64)
VARIANCES = torch.tensor([0.02, 0.05], dtype=torch.float64)
LOW, HIGH = 0.02, 20.0
STEPS = (10, 20, 50)
COUNT = 2**14
GOLDEN = (math.sqrt(5) - 1) / 2
Model = Callable[[Tensor, Tensor, Tensor], Tensor]
Run = Callable[[Model, Tensor, Levels, Iterator[Tensor]], Tensor]


def below(y: Tensor, sigma: Tensor) -> Tensor:
    """The probability below a point at a level of noise."""
    z = (y[:, None] - MODES) / (VARIANCES + sigma**2).sqrt()
    probability: Tensor = (WEIGHTS * torch.special.ndtr(z)).sum(1)
    return probability


def quantiles(share: Tensor, sigma: Tensor) -> Tensor:
    """The points with these probabilities below them, by bisection."""
    reach = 2 + 9 * (1 + sigma)
    low, high = -reach * torch.ones_like(share), reach * torch.ones_like(share)
    for _ in range(70):
        middle = (low + high) / 2
        left = below(middle, sigma) < share
        low, high = torch.where(left, middle, low), torch.where(left, high, middle)
    return (low + high) / 2


def model(x: Tensor, scale: Tensor, std: Tensor) -> Tensor:
    """The mean of the noise given x."""
    variance = scale**2 * VARIANCES + std**2
    deviation = x - scale * MODES
    share = torch.softmax(WEIGHTS.log() - 0.5 * deviation**2 / variance - 0.5 * variance.log(), dim=1)
    return std * (share * deviation / variance).sum(1, keepdim=True)


def middles() -> Tensor:
    """Probabilities in the middles of equal parts."""
    return (torch.arange(COUNT, dtype=torch.float64) + 0.5) / COUNT


@cache
def ends() -> tuple[Tensor, Tensor]:
    """Points of equal weight of the first and of the last law, each with its image under the flow."""
    first, last = (quantiles(middles(), torch.tensor(s, dtype=torch.float64)) for s in (HIGH, LOW))
    return first, last


class Dealer:
    """A model that remembers its last states, and noise dealt out evenly in the order of them."""

    def __init__(self) -> None:
        self.x = ends()[0][:, None]

    def model(self, x: Tensor, scale: Tensor, std: Tensor) -> Tensor:
        self.x = x
        return model(x, scale, std)

    def noises(self) -> Iterator[Tensor]:
        """Neighbours get noise from different parts; every draw is shifted by another share."""
        for draw in itertools.count(1):
            rank = self.x[:, 0].argsort().argsort()
            share = (reversed_bits()[rank] + draw * GOLDEN) % 1
            yield torch.special.ndtri(share)[:, None]


@cache
def reversed_bits() -> Tensor:
    """The numbers with their bits in reverse order, as shares: every range of ranks is spread evenly."""
    number, share = torch.arange(COUNT), torch.full((COUNT,), 0.5 / COUNT, dtype=torch.float64)
    for bit in range(COUNT.bit_length() - 1):
        share += ((number >> bit) & 1) * 0.5 ** (bit + 1)
    return share


def map_error(run: Run, levels: Levels) -> float:
    """The mean distance of a deterministic sampler to the flow."""
    first, last = ends()
    got = run(model, first[:, None], levels, iter(()))[:, 0]
    return float((got - last).abs().mean())


def law_error(run: Run, levels: Levels) -> float:
    """The Wasserstein distance of the samples of a stochastic sampler to the law."""
    dealer = Dealer()
    return distance(run(dealer.model, ends()[0][:, None], levels, dealer.noises())[:, 0])


def distance(samples: Tensor) -> float:
    """On a line the best coupling with the law is that of ranks."""
    return float((samples.sort().values - ends()[1]).abs().mean())


def floor() -> float:
    """Samples of data in order, noise dealt out to them, and nothing else."""
    clean = quantiles(middles(), torch.zeros((), dtype=torch.float64))
    dealer = Dealer()
    dealer.x = clean[:, None]
    return distance(clean + LOW * next(dealer.noises())[:, 0])


def of_solver(solver: Solver) -> Run:
    return lambda model, x, levels, draws: solver.sample(model, x, levels, draws)


def of_sde(step: Callable[..., Tensor], with_model: bool = False) -> Run:
    """A sampler of the reverse SDE of the process whose time is σ."""

    def run(model: Model, x: Tensor, levels: Levels, draws: Iterator[Tensor]) -> Tensor:
        def score(x: Tensor, t: Tensor) -> Tensor:
            return -model(x, torch.ones_like(t), t) / t

        process = EDM(HIGH)
        for t, s in levels.pairs():
            if with_model:
                x = step(process, score, x, t.std, s.std, next(draws))
            else:
                x = step(process, x, t.std, s.std, score(x, t.std), next(draws))
        return x

    return run


SDE: Mapping[str, tuple[int, Run]] = {
    "sde.euler_maruyama_step": (1, of_sde(sde.euler_maruyama_step)),
    "sde.reverse_diffusion_step": (1, of_sde(sde.reverse_diffusion_step)),
    "sde.ancestral_step": (1, of_sde(sde.ancestral_step)),
    "sde.heun_step": (2, of_sde(sde.heun_step, with_model=True)),
}


def rows() -> Iterator[tuple[str, str, int, list[float]]]:
    """Name, kind, evaluations a step and the errors."""
    grids = [karras_levels(LOW, HIGH, steps + 1, to_data=False) for steps in STEPS]
    for name, solver in SOLVERS.items():
        error, kind = (law_error, "law") if solver.stochastic else (map_error, "flow")
        yield name, kind, solver.evaluations, [error(of_solver(solver), levels) for levels in grids]
    for name, (evaluations, run) in SDE.items():
        yield name, "law", evaluations, [law_error(run, levels) for levels in grids]


def shown(error: float) -> str:
    return f"{error:.2g}" if math.isfinite(error) else "diverges"


def main() -> None:
    torch.set_num_threads(1)
    print("| sampler | against the | evaluations a step | " + " | ".join(f"{n} steps" for n in STEPS) + " |")
    print("|---|---|---|" + "---|" * len(STEPS))
    for name, kind, evaluations, errors in rows():
        print(f"| {name} | {kind} | {evaluations} | " + " | ".join(map(shown, errors)) + " |", flush=True)
    print(f"| an exact step | law | | {' | '.join([shown(floor())] * len(STEPS))} |")


if __name__ == "__main__":
    main()
