"""The oracle on solvers: orders are measured, correct ones pass in every convention, mistakes are named."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp

from refdiff.oracle import Dialect, Target, check
from refdiff.oracle import convergence as cv
from refdiff.oracle.stages import Reference
from refdiff.solver import SOLVERS
from tests.zoo import solvers as zoo


@pytest.mark.parametrize(
    "make", [*zoo.ORIGINALS, *zoo.CONVENTIONS], ids=lambda make: make().name or make.__name__
)
def test_a_correct_solver_passes_in_its_convention(make):
    report = check(make())
    assert report.ok, str(report)
    assert report["solve.gaussian"].status == "pass"


@pytest.mark.parametrize("law", [cv.Point(), cv.Gaussian(), cv.Quiet(1), cv.Quiet(4)], ids=repr)
def test_the_exact_solution_is_the_one_of_the_differential_equation(law: cv.Law):
    for a, b in ((cv.LOW, cv.HIGH), (-0.3, 0.9)):
        numeric = [quad(lambda at, i=i: law.share(at)[i], a, b, epsabs=1e-13)[0] for i in range(cv.D)]
        assert np.abs(law.growth(a, b) - numeric).max() < 1e-11

    def slope(sigma: float, y: np.ndarray) -> np.ndarray:
        return (y - cv.MEAN) * (1 - law.share(-np.log(sigma))) / sigma

    start, end = np.exp(-cv.LOW), np.exp(-cv.HIGH)
    found = solve_ivp(slope, (start, end), cv.MEAN + start, rtol=1e-11, atol=1e-12, max_step=0.05).y[:, -1]
    run = cv.Run(
        np.zeros(0), (cv.MEAN + start)[None], np.ones(2), np.array([start, end]), [], 0, [], (), (), "float64"
    )
    assert np.abs(cv.solution(law, run)[0] - found).max() < 1e-8


@pytest.mark.parametrize("grid", ["log_snr", "uneven", "karras", "sigma", "time"])
@pytest.mark.parametrize("space", ["vp", "ve", "flow"])
def test_every_grid_rises_between_the_same_ends_in_every_space(grid: str, space: str):
    scale, std = cv.levels(cv.log_snrs(grid, 12), space)
    value = (scale / std).log()
    assert (value.diff() > 0).all()
    assert abs(value[0] - cv.LOW) < 1e-12 and abs(value[-1] - cv.HIGH) < 1e-12
    total = {"vp": scale**2 + std**2, "ve": scale, "flow": scale + std}[space]
    assert (total - 1).abs().max() < 1e-15


def test_an_order_is_extrapolated_and_rounding_is_not_measured():
    found = cv.measured(lambda n: 3 / n**2 + 20 / n**3, (12, 24, 48, 96), lambda n: 1e-16, 2)
    assert found is not None and abs(found.value - 2) < 0.05
    assert cv.measured(lambda n: 1e-15, (12, 24, 48), lambda n: 1e-16, 2) is None
    third = cv.measured(lambda n: 1 / n**3, (12, 24, 48, 96), lambda n: 1e-16, 2)
    assert third is not None and abs(third.value - 3) < 1e-6


@pytest.mark.parametrize("name", ["dpm_2m", "sde_dpmpp_2m_heun"])
def test_the_order_of_a_solver_is_read_from_it_and_its_name_is_found(name: str):
    solver = SOLVERS[name]
    target = Reference(solver, Dialect(order=solver.order, solver_noise=solver.stochastic, solver=name))
    report = check(target, only="solve")
    assert report.ok, str(report)


class Undeclared(zoo.TwoPoints):
    dialect = Dialect()


def test_what_is_not_declared_is_named():
    text = str(check(Undeclared(), only="solve"))
    assert "order 2.0" in text
    assert "DPM-Solver++ with two points, slope at the middle" in text
    assert "the first step is of order 1.00" in text


@pytest.mark.parametrize(
    ("declared", "failing", "words"),
    [
        ({"order": 3}, "solve.order", "DPM-Solver++ with two points"),
        ({"order": 1}, "solve.order", "more than the declared 1"),
        ({"start_order": 2}, "solve.first_step", "every step is the one of"),
        (
            {"solver": "dpm_2m"},
            "solve.coefficients",
            "not dpm_2m: the steps are those of DPM-Solver++ with two",
        ),
        ({"solver_noise": True}, "solve.noise", "noises are declared, and none is used"),
    ],
    ids=str,
)
def test_a_wrong_declaration_is_failed_and_the_right_one_is_named(declared: dict, failing: str, words: str):
    target = Undeclared()
    target.dialect = Dialect(**declared)
    report = check(target, only="solve")
    assert report[failing].status == "fail", str(report)
    assert words in str(report[failing]), str(report)


def test_an_unknown_solver_is_named():
    target = Undeclared()
    target.dialect = Dialect(solver="no such solver")
    assert "Dialect's solver must be one of ddim" in str(check(target, only="solve.coefficients"))


class Slow(Target):
    """A solver that never asks."""

    def solve(self, model, x, scales, stds, noises):
        return x * stds[-1]


def test_a_solver_that_never_asks_or_answers_in_another_shape_is_named():
    assert "never asked" in str(check(Slow(), only="solve.evaluations"))

    class Flat(Slow):
        def solve(self, model, x, scales, stds, noises):
            return torch.zeros(3)

    assert "answer has shape (3,)" in str(check(Flat(), only="solve"))


class OfData(Target):
    """DPM-Solver++(2M) with its history given."""

    dialect = Dialect(order=2, parameterization="x_0")

    def between(self, r: float) -> float:
        return 1 / (2 * r)

    def solver_step(self, x, scales, stds, outputs, noise):
        sigma = (stds / scales).tolist()
        h = np.log(sigma[-2] / sigma[-1])
        r = np.log(sigma[-3] / sigma[-2]) / h
        x_0 = outputs[-1] + self.between(r) * (outputs[-1] - outputs[-2])
        return stds[-1] / stds[-2] * x - scales[-1] * np.expm1(-h) * x_0


def test_a_step_with_exact_history_has_the_order_that_is_declared():
    found = check(OfData(), only="solver_step")["solver_step.order"]
    assert found.status == "pass" and abs(found.got - 2) < 0.1, str(found)


@pytest.mark.parametrize("wrong", [lambda r: r / 2, lambda r: 0.5, lambda r: 1 / r, lambda r: 0.0], ids=str)
def test_a_wrong_ratio_of_steps_lowers_the_order_of_a_step(wrong):
    target = OfData()
    target.between = wrong
    found = check(target, only="solver_step")["solver_step.order"]
    assert found.status == "fail" and abs(found.got - 1) < 0.2, str(found)
    assert "is of order 1" in str(found)
