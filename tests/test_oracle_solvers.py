"""The oracle on solvers: orders are measured, correct ones pass in every convention, mistakes are named."""

import itertools

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp

from refdiff.oracle import Dialect, Target, check
from refdiff.oracle import convergence as cv
from refdiff.oracle import steps as measuring
from refdiff.oracle.stages import Reference
from refdiff.solver import SOLVERS, Levels
from tests.zoo import solvers as zoo
from tests.zoo import steps
from tests.zoo.mutants import MUTANTS


@pytest.mark.parametrize(
    "make", [*zoo.ORIGINALS, *zoo.CONVENTIONS], ids=lambda make: make().name or make.__name__
)
def test_a_correct_solver_passes_in_its_convention(make):
    report = check(make())
    assert report.ok, str(report)
    assert report["solve.gaussian"].status == "pass"


LAWS = {"point": cv.Point(), "gaussian": cv.Gaussian(), "quiet-1": cv.Quiet(1), "quiet-4": cv.Quiet(4)}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
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


def test_an_order_that_is_far_off_is_believed_where_the_slopes_are_steady():
    asked = []

    def first(steps: int) -> float:
        asked.append(steps)
        return 1 / steps

    found = cv.measured(first, (12, 24, 48, 96, 192), lambda n: 1e-16, 2)
    assert found is not None and abs(found.value - 1) < 1e-6 and asked == [12, 24, 48]
    # slopes that still rise are waited for
    late = cv.measured(lambda n: 1 / n**2 - 9 / n**3, (12, 24, 48, 96, 192), lambda n: 1e-16, 2)
    assert late is not None and abs(late.value - 2) < 0.1


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


@pytest.mark.parametrize(
    ("original", "strong_order", "words"),
    [
        (zoo.Ancestral, 1.5, "the strong order is 1.00"),
        (zoo.Stochastic, 0.5, "solver='sde_dpmpp_2m', solver_noise=True) would make it pass"),
    ],
)
def test_a_wrong_strong_order_is_failed(original: type[Target], strong_order: float, words: str):
    target = zoo.spoken(original, strong_order=strong_order)()
    found = check(target, only="solve.strong_order")["solve.strong_order"]
    assert found.status == "fail" and abs(found.got - 1) < 0.02 and words in str(found), str(found)


class Twice(zoo.Ancestral):
    """Two noises a step, each of half the variance."""

    dialect = zoo.Ancestral.dialect.but(strong_order=1.0)

    def z(self, y):
        return (next(self.noises) + next(self.noises)) / 2**0.5


@pytest.mark.parametrize(
    ("original", "reason"),
    [(Twice, "2 noises a step"), (zoo.Heun, "no noise is used"), (zoo.Drawing, "no strong_order")],
)
def test_a_strong_order_is_measured_where_the_port_defines_it(original: type[Target], reason: str):
    strong_order = None if original is zoo.Drawing else 1.0
    found = check(zoo.spoken(original, strong_order=strong_order)(), only="solve.strong_order")
    assert found["solve.strong_order"].status == "skip"
    assert reason in found["solve.strong_order"].message


def test_noises_that_are_multiplied_by_one_sign_follow_a_brownian_motion_too():
    class Against(zoo.Ancestral):
        dialect = zoo.Ancestral.dialect.but(strong_order=1.0)

        def z(self, y):
            return -next(self.noises)

    assert check(Against(), only="solve.strong_order").ok


@pytest.mark.parametrize(
    "make", [*steps.ORIGINALS, *steps.CONVENTIONS], ids=lambda make: make().name or make.__name__
)
def test_a_correct_step_passes_in_its_convention(make):
    report = check(make(), only="solver_step")
    assert report.ok, str(report)
    assert report["solver_step.coefficients"].status == "pass"
    assert report["solver_step.order"].status == "pass"


class OfReference(Target):
    """A step of a solver of refdiff with its history."""

    def __init__(self, name: str, **spoken) -> None:
        self.solver = SOLVERS[name]
        kind = getattr(self.solver, "prediction", "eps")
        known = {"order": self.solver.order, "parameterization": kind, "solver_noise": self.solver.stochastic}
        self.dialect = Dialect(**(known | spoken))

    def solver_step(self, x, scales, stds, outputs, noise):
        levels = Levels(scales, stds)
        past = [(levels[i], torch.zeros_like(x)) for i in range(len(outputs) - 1)]
        known = {float(std): output for std, output in zip(stds, outputs, strict=False)}

        def model(x, scale, std):
            answer = known[float(std)]
            return answer if self.dialect.parameterization == "eps" else (x - scale * answer) / std

        last = Levels(scales[-2:], stds[-2:])
        return self.solver.sample(model, x, last, itertools.repeat(noise), past)


def test_every_solver_by_its_history_has_its_order_and_passes_by_name():
    found = {}
    for name, solver in SOLVERS.items():
        if solver.evaluations > 1 or getattr(solver, "corrector", False):
            continue
        # fixed weights have their order on even levels; steps of the SDE in eps are not exact on one point
        plms = {"order": 4, "solver_grid": "sigma"} if name.startswith("plms") else {}
        spoken = plms | {"solver": name, "straight": not name.startswith("sde_dpm_")}
        report = check(OfReference(name, **spoken), only="solver_step")
        assert report.ok, str(report)
        found[name] = report["solver_step.order"].status
    assert set(found.values()) == {"pass"} and len(found) == 23


@pytest.mark.parametrize("name", ["heun", "unipc_2", "dpmpp_2m"])
def test_a_step_that_its_answers_do_not_determine_is_not_judged_by_name(name: str):
    target = steps.OnePoint()
    target.dialect = Dialect(solver=name)
    found = check(target, only="solver_step.coefficients")["solver_step.coefficients"]
    assert found.status == "skip"
    words = {"heun": "asks its model inside", "unipc_2": "at its end", "dpmpp_2m": "needs the states"}
    assert words[name] in found.message


def test_mistakes_of_a_history_are_far_apart_from_each_other_and_from_the_solvers():
    levels = [
        cv.levels(measuring.log_snrs("any", start, size, 3, number), "vp")
        for number, (start, size) in enumerate(measuring.PLACES)
    ]
    names = [name for name, solver in SOLVERS.items() if solver.history < 3]
    for kind in ("x_0", "eps"):
        rows = []
        for name in names:
            pairs = [(tuple(a.tolist()), tuple(s.tolist())) for a, s in levels]
            found = [measuring._of_solver(name, *pair, "vp", kind) for pair in pairs]
            if not any(isinstance(one, str) for one in found):
                padded = [np.append(np.append(one[0], np.zeros(5 - len(one))), one[1:]) for one in found]
                rows.append((name, np.concatenate(padded)))
        for (one, a), (other, b) in itertools.combinations(rows, 2):
            gap = np.abs(a - b).max()
            # two names of one formula, or a thousand times what rounding in single precision explains
            assert gap < 1e-12 or gap > 1000 * 2.0**-24 * 16, (one, other, gap)


def test_every_mistake_of_a_step_is_named_by_what_is_wrong():
    expected = {
        "2m-from-the-other-end": "the history is read from its other end",
        "2m-history-ignored": "the history is not used",
        "2m-ratio-missing": "the ratio of the steps is missing",
        "answers-read-as-data": "the answers are read as x_0",
        "fresh-squared": "the square of its deviation",
        "fresh-squared-undeclared": "noise is multiplied by the square of",
        "fresh-of-eps": "noise (0.753154 for 0.55795)",
        "answers-in-half": "rounded to few digits",
        "noise-forgotten": "the noise is left out",
    }
    found = {m.id.removeprefix("own-hst-"): m for m in MUTANTS if m.id.startswith("own-hst-")}
    for name, words in expected.items():
        report = check(found[name].make(), only="solver_step")
        assert words in str(report), str(report)
