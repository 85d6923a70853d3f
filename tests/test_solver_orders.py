"""Every solver keeps the order that it declares, of a whole sample and of one step; a broken one does not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import pytest
import torch
from scipy.integrate import solve_ivp
from solver_orders import (
    GAUSSIAN,
    HIGH,
    LOW,
    MEAN,
    MIXTURE,
    MODES,
    SPREAD,
    STARTS,
    VARIANCE,
    WEIGHTS,
    Grid,
    Problem,
    law_error,
    measured,
    mixture_solution,
    path_error,
    perfect,
    perfect_on_mixture,
)
from torch import Tensor

from refdiff.data import GaussianLaw, MixtureLaw
from refdiff.solver import (
    HEUN,
    PLMS,
    RK4,
    SOLVERS,
    AdamsBashforth,
    AncestralEuler,
    EDMHeun,
    Levels,
    Model,
    NoiseLevel,
    Past,
    RungeKutta,
    Solver,
    Tableau,
    adams_bashforth_weights,
    ancestral_coefficients,
    churn_factor,
    churned,
    runge_kutta_step,
)

WITHIN = 0.1
ODE = [name for name, solver in SOLVERS.items() if not solver.stochastic]
SDE = [name for name, solver in SOLVERS.items() if solver.stochastic]
ONE_MORE_ON_GAUSSIANS = {"midpoint"}
"""The midpoint step misses nothing at order 3 on any Gaussian data (formula ``solver.rk2_gaussian``)."""
FINE = (64, 128, 256, 512)
"""Levels for one step of a stochastic solver, whose errors in mean and variance may cancel on coarse ones."""


# Laws: each returns how far measured orders are from the claims, in units of what is allowed.


def order_holds(solver: Solver, problem: Problem = MIXTURE, gained: int = 0) -> float:
    claim = solver.order + gained
    whole = measured(lambda steps: problem.error(solver, steps))
    one_step = measured(lambda steps: problem.error(solver, steps, 1))
    return max(abs(whole - claim), abs(one_step - claim - 1)) / WITHIN


def law_order_holds(solver: Solver) -> float:
    whole = measured(lambda steps: law_error(solver, steps))
    one_step = measured(lambda steps: law_error(solver, steps, 1), FINE)
    return max(abs(whole - solver.order), abs(one_step - solver.order - 1)) / WITHIN


def strong_order_holds(solver: Solver) -> float:
    """One step errs by half an order more than the sample, as independent errors add up by their squares."""
    assert solver.strong_order is not None
    whole = measured(lambda steps: path_error(solver, steps))
    one_step = measured(lambda steps: path_error(solver, steps, 1))
    return max(abs(whole - solver.strong_order), abs(one_step - solver.strong_order - 0.5)) / WITHIN


# What is declared is what is measured.


@pytest.mark.parametrize("name", ODE)
def test_a_solver_of_the_ode_has_its_order_on_gaussian_data(name: str) -> None:
    assert order_holds(SOLVERS[name], GAUSSIAN, int(name in ONE_MORE_ON_GAUSSIANS)) <= 1


@pytest.mark.parametrize("name", ["midpoint", "heun", "rk4", "lms_4", "plms", "dpmpp_2m"])
def test_a_solver_of_the_ode_has_its_order_on_a_mixture(name: str) -> None:
    assert order_holds(SOLVERS[name], MIXTURE) <= 1


def test_the_midpoint_step_gains_an_order_on_gaussian_data_alone() -> None:
    assert order_holds(SOLVERS["midpoint"], GAUSSIAN) > 1
    assert order_holds(SOLVERS["ralston"], GAUSSIAN) <= 1


@pytest.mark.parametrize("name", SDE)
def test_the_law_of_a_stochastic_solver_has_its_order(name: str) -> None:
    assert law_order_holds(SOLVERS[name]) <= 1


@pytest.mark.parametrize("name", SDE)
def test_the_paths_of_a_stochastic_solver_have_their_strong_order(name: str) -> None:
    assert strong_order_holds(SOLVERS[name]) <= 1


@pytest.mark.parametrize("name", ["lms_3", "lms_4"])
def test_without_a_history_the_first_steps_cost_an_order(name: str) -> None:
    solver = SOLVERS[name]
    cold = [GAUSSIAN.error(solver, steps, warm=False) for steps in (64, 128)]
    # the error is at least of the order said, and larger than with exact states before the first level
    assert cold[0] / cold[1] > 2 ** (solver.cold_order - 0.5)
    assert cold[1] > 2 * GAUSSIAN.error(solver, 128)


# Broken solvers.


class InLogSigma(AdamsBashforth):
    """Weights in log σ for an equation in σ."""

    def weights(self, sigma: Tensor, fall_to: Tensor) -> Tensor:
        return adams_bashforth_weights(sigma.log(), fall_to.log())


class OnEqualSteps(AdamsBashforth):
    """Weights of equal steps on levels that are not equally far apart."""

    def weights(self, sigma: Tensor, fall_to: Tensor) -> Tensor:
        equal = torch.arange(len(sigma), dtype=torch.float64)
        return adams_bashforth_weights(equal, torch.tensor(-1.0, dtype=torch.float64))


class FirstLevelTwice(RungeKutta):
    """Heun's second slope from data predicted at the end, but with the level of the beginning."""

    def step(self, model: Model, x: Tensor, t: NoiseLevel, s: NoiseLevel, levels: Levels) -> Tensor:
        asked = itertools.count()

        def wrong(x: Tensor, scale: Tensor, std: Tensor) -> Tensor:
            eps = model(x, scale, std)
            return eps if next(asked) % 2 == 0 else eps * (s.sigma / t.sigma)

        return runge_kutta_step(self.tableau, wrong, x, t, s, levels)


HALF = Fraction(1, 2)
BROKEN_ODE: dict[str, Solver] = {
    "weights in another variable": InLogSigma("lms", 3),
    "weights of equal steps": OnEqualSteps("lms", 3),
    "PLMS of order 4 on any levels": PLMS("plms", order=4),
    "the level of the first stage twice": FirstLevelTwice("heun", 2, HEUN),
    "the mean of both slopes with the node 1/2": RungeKutta("rk", 2, Tableau(((), (HALF,)), (HALF, HALF))),
    "weights in another order": RungeKutta("rk", 4, Tableau(RK4.matrix, (*RK4.weights[1:], RK4.weights[0]))),
    "one order too many": replace(SOLVERS["heun"], order=3),  # type: ignore[type-var]
    "one order too few": replace(SOLVERS["heun"], order=1),  # type: ignore[type-var]
}


@pytest.mark.parametrize("solver", BROKEN_ODE.values(), ids=BROKEN_ODE)
def test_a_broken_solver_of_the_ode_is_seen(solver: Solver) -> None:
    assert order_holds(solver, GAUSSIAN) > 1


@dataclass(frozen=True)
class NoiseOnTop(AncestralEuler):
    """A step down to the level itself, and the noise on top."""

    def states(
        self, model: Model, x: Tensor, levels: Levels, draws: Iterator[Tensor], past: Past
    ) -> Iterator[Tensor]:
        for t, s in levels.pairs():
            _, _, on_noise = ancestral_coefficients(t, s)
            x = runge_kutta_step(SOLVERS["euler"].tableau, model, x, t, s, levels)  # type: ignore[attr-defined]
            x = x + on_noise * next(draws)
            yield x


@dataclass(frozen=True)
class NoiseByGamma(EDMHeun):
    """The noise of the churn multiplied by γ."""

    def raised(
        self, x: Tensor, t: NoiseLevel, gamma: Tensor, noise: Tensor, levels: Levels
    ) -> tuple[NoiseLevel, Tensor]:
        return super().raised(x, t, gamma, gamma * noise, levels)


@dataclass(frozen=True)
class ToldTheOldLevel(EDMHeun):
    """The state is raised, and the model still told the level before."""

    def raised(
        self, x: Tensor, t: NoiseLevel, gamma: Tensor, noise: Tensor, levels: Levels
    ) -> tuple[NoiseLevel, Tensor]:
        above, state = super().raised(x, t, gamma, noise, levels)
        return t, state * t.scale / above.scale


BROKEN_LAW: dict[str, Solver] = {
    "noise on top of the level": NoiseOnTop(),
    "noise multiplied by γ": NoiseByGamma(),
    "the level before the churn": ToldTheOldLevel(),
    "one order too many": replace(SOLVERS["euler_ancestral"], order=2),  # type: ignore[type-var]
}


@pytest.mark.parametrize("solver", BROKEN_LAW.values(), ids=BROKEN_LAW)
def test_a_broken_law_is_seen(solver: Solver) -> None:
    assert law_order_holds(solver) > 1


@dataclass(frozen=True)
class OtherPath(AncestralEuler):
    """The noise with the other sign: the same law along another Brownian motion."""

    def states(
        self, model: Model, x: Tensor, levels: Levels, draws: Iterator[Tensor], past: Past
    ) -> Iterator[Tensor]:
        return super().states(model, x, levels, map(torch.neg, draws), past)


def test_a_right_law_along_another_path_is_seen() -> None:
    assert law_order_holds(OtherPath()) <= 1
    assert strong_order_holds(OtherPath()) > 1


# PLMS is of order 4 on equal steps of σ only.


def plms_error(sigma: Callable[[int], Tensor], steps: int) -> float:
    """The error of a sample of PLMS at levels without scale."""
    at = sigma(steps)
    levels = Levels(torch.ones_like(at), at, "ve")
    x = SOLVERS["plms"].sample(perfect, STARTS, levels)
    root = ((VARIANCE + at[-1] ** 2) / (VARIANCE + at[0] ** 2)).sqrt()
    return float((x - MEAN - root * (STARTS - MEAN)).abs().max())


def equal(steps: int) -> Tensor:
    return torch.linspace(HIGH, LOW, steps + 1, dtype=torch.float64)


def alternating(steps: int) -> Tensor:
    widths = torch.tensor([1.0, 2.0], dtype=torch.float64).repeat(steps // 2).cumsum(0)
    return HIGH - (HIGH - LOW) * torch.cat([widths.new_zeros(1), widths / widths[-1]])


def test_plms_has_order_4_on_equal_steps_of_sigma_and_1_on_steps_that_alternate() -> None:
    assert abs(measured(lambda steps: plms_error(equal, steps)) - 4) <= WITHIN
    assert abs(measured(lambda steps: plms_error(alternating, steps)) - 1) <= WITHIN


# What the measurements stand on.


def test_the_perfect_models_are_those_of_the_laws() -> None:
    gaussian = GaussianLaw(STARTS.new_tensor([MEAN]), STARTS.new_tensor([[VARIANCE]]))
    mixture = MixtureLaw(WEIGHTS, MODES[:, None], SPREAD[:, None, None])
    for law, model in ((gaussian, perfect), (mixture, perfect_on_mixture)):
        for index in (0, 3, 8):
            at = Grid(8).level(index)
            expected = law.at(at.scale, at.std).eps(STARTS)
            # a dozen roundings of numbers up to the states
            error = (model(STARTS, at.scale, at.std) - expected).abs().max()
            assert error <= 32 * torch.finfo(torch.float64).eps * STARTS.abs().max()


def test_the_solutions_are_those_of_an_adaptive_solver() -> None:
    tolerance = 1e-12
    first, last = Grid(8).level(0), Grid(8).level(8)
    one = torch.ones((), dtype=torch.float64)
    for problem in (GAUSSIAN, MIXTURE):

        def slope(sigma: float, y: object, problem: Problem = problem) -> Tensor:
            return problem.model(torch.as_tensor(y)[:, None], one, one * sigma).flatten()

        ends = (float(first.sigma), float(last.sigma))
        found = solve_ivp(slope, ends, STARTS.flatten(), "DOP853", rtol=tolerance, atol=tolerance)
        exact = problem.solution(STARTS, first, last) / last.scale
        # every step errs by as much as was asked for, and the flow contracts
        assert (exact.flatten() - torch.as_tensor(found.y[:, -1])).abs().max() <= len(found.t) * tolerance


def test_churn_goes_to_the_level_of_its_noise() -> None:
    grid = Grid(16)
    t = grid.level(2)
    gamma = churn_factor(t.sigma, 16, 4.0)
    above, state = EDMHeun().raised(STARTS, t, gamma, torch.zeros_like(STARTS), grid.levels)
    assert torch.allclose(above.sigma, (1 + gamma) * t.sigma, rtol=1e-15, atol=0)
    kept = churned(STARTS / t.scale, t.sigma, gamma, torch.zeros_like(STARTS))
    assert torch.equal(state / above.scale, kept) or torch.allclose(state / above.scale, kept, rtol=1e-15)
    assert mixture_solution(STARTS, t, t).sub(t.scale * STARTS).abs().max() < 1e-13
