"""The probability-flow ODE carries the marginals; its steps have their orders, its solvers return."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from reference_laws import tensors
from scipy import stats
from torch import Tensor

from refdiff import ode
from refdiff.data import GaussianLaw, Law, MixtureLaw
from refdiff.process import EDM, VE, VP, Process, SubVP

ULP = torch.finfo(torch.float64).eps
PROCESSES = [VP(0.1, 8.0), SubVP(0.2, 6.0), VE(0.02, 6.0), EDM(5.0)]
SOLVERS = ["scipy:RK45", "scipy:DOP853", "scipy:LSODA", "torchdiffeq:dopri5", "torchdiffeq:bosh3"]
MIXTURE = MixtureLaw(
    torch.tensor([0.25, 0.75], dtype=torch.float64),
    torch.tensor([[1.0, -2.0, 0.5], [0.5, 1.0, -1.5]], dtype=torch.float64),
    torch.tensor(
        [
            [[1.0, 0.5, 0.0], [0.5, 0.75, 0.25], [0.0, 0.25, 0.5]],
            [[0.25, 0.0, 0.125], [0.0, 0.5, 0.0], [0.125, 0.0, 0.25]],
        ],
        dtype=torch.float64,
    ),
)
WEIGHTS, CENTRES, SPREADS = (0.25, 0.75), (-1.5, 0.5), (0.0625, 0.25)
LINE = MixtureLaw(
    torch.tensor(WEIGHTS, dtype=torch.float64),
    torch.tensor(CENTRES, dtype=torch.float64)[:, None],
    torch.tensor(SPREADS, dtype=torch.float64)[:, None, None],
)
MEAN = torch.tensor([0.5, -1.0], dtype=torch.float64)
COV = torch.tensor([[1.0, 0.375], [0.375, 0.5]], dtype=torch.float64)
Velocity = Callable[[Process, Tensor, Tensor, Tensor], Tensor]


def perfect(process: Process, law: Law) -> ode.ScoreFn:
    return lambda x, t: law.at(process.scale(t), process.std(t)).score(x)


def reverse_drift(process: Process, x: Tensor, t: Tensor, score: Tensor) -> Tensor:
    return ode.drift(process, x, t, 2 * score)


def forward_drift(process: Process, x: Tensor, t: Tensor, score: Tensor) -> Tensor:
    return ode.drift(process, x, t, 0 * score)


# The marginals.


def continuity_misfit(velocity: Velocity, process: Process, law: Law) -> float:
    """How far d log p/dt along the velocity is from minus its divergence, by automatic differentiation of the
    exact density: in units of the rounding of the terms that are added."""
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64) * process.end
    x = 1.5 * tensors(1, (7, 3)) * law.at(process.scale(t), process.std(t)).std[:, None].clamp(min=1)

    def log_density(x: Tensor, t: Tensor) -> Tensor:
        return law.at(process.scale(t), process.std(t)).log_prob(x)

    def field(x: Tensor) -> Tensor:
        return velocity(process, x, t, perfect(process, law)(x, t))

    _, rate = torch.func.jvp(log_density, (x, t), (field(x), torch.ones_like(t)))
    columns = [torch.func.jvp(field, (x,), (axis.expand_as(x),))[1] for axis in torch.eye(3).double()]
    terms = torch.stack([column[:, k] for k, column in enumerate(columns)])
    size = terms.abs().sum(0) + (field(x) * perfect(process, law)(x, t)).abs().sum(1)
    # a few hundred operations, some on differences of levels
    return float(((rate + terms.sum(0)).abs() / (4000 * ULP * (size + 1))).max())


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_the_velocity_moves_the_density_as_the_diffusion_does(process: Process) -> None:
    assert continuity_misfit(ode.drift, process, MIXTURE) <= 1
    for broken in (reverse_drift, forward_drift):
        assert continuity_misfit(broken, process, MIXTURE) > 1


def quantiles_moved(process: Process, factor: float) -> float:
    """The largest change of a point's quantile along the ODE, with a multiple of the score."""

    def cdf(x: Tensor, t: float) -> Tensor:
        scale, std = float(process.scale(t)), float(process.std(t))
        parts = zip(WEIGHTS, CENTRES, SPREADS, strict=True)
        terms = [w * stats.norm.cdf(x, scale * m, math.sqrt(scale**2 * c + std**2)) for w, m, c in parts]
        return torch.as_tensor(sum(terms))

    score = perfect(process, LINE)
    x = torch.linspace(-2.5, 2.0, 9, dtype=torch.float64)[:, None]
    for_all = lambda x, t: factor * score(x, t)  # noqa: E731
    moved = ode.encode(process, for_all, x, method="scipy:DOP853", rtol=1e-7, atol=1e-7)
    return float((cdf(moved, process.end) - cdf(x, 0.0)).abs().max())


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_quantiles_stay_along_the_flow(process: Process) -> None:
    """On a line a map that keeps the order and the law keeps the quantiles. Each of fewer than a thousand
    steps errs by at most the tolerance."""
    assert quantiles_moved(process, 1.0) <= 1e3 * 1e-7
    assert quantiles_moved(process, 2.0) > 1e-2


def test_velocity_is_that_of_scale_and_deviation() -> None:
    """x' = a'·x_0 + b'·ε at the predicted data and noise, whatever the process."""
    for process in PROCESSES:
        t = torch.linspace(0.1, 0.9, 5, dtype=torch.float64) * process.end
        x, law = tensors(1, (5, 3)), MIXTURE.at(process.scale(t), process.std(t))
        _, scale_slope = torch.func.jvp(process.scale, (t,), (torch.ones_like(t),))
        _, std_slope = torch.func.jvp(process.std, (t,), (torch.ones_like(t),))
        expected = scale_slope[:, None] * law.x_0(x) + std_slope[:, None] * law.eps(x)
        got = ode.drift(process, x, t, law.score(x))
        condition = (process.drift(t)[:, None] * x).abs() + (
            process.diffusion_squared(t)[:, None] * law.score(x)
        ).abs()
        assert bool(((got - expected).abs() <= 200 * ULP * (condition + expected.abs())).all())
        assert not bool(((got + expected).abs() <= 200 * ULP * (condition + expected.abs())).all())


# Fixed steps.


def measured_order(step: Callable[..., Tensor], process: Process, law: Law, counts: tuple[int, int]) -> float:
    """The slope of the error against the number of steps, on data whose flow is known."""
    slope, shift = ode.gaussian_flow_map(process, MEAN, COV, process.end, 0.0)
    x_T = tensors(1, (4, 2))
    errors = []
    for count in counts:
        times = torch.linspace(process.end, 0.0, count + 1, dtype=torch.float64)
        x = x_T
        for t, s in pairwise(times):
            x = step(process, perfect(process, law), x, t, s)
        errors.append(float((x - x_T @ slope.mT - shift).abs().max()))
    return math.log(errors[0] / errors[1]) / math.log(counts[1] / counts[0])


def heun_without_its_second_slope(
    process: Process, score: ode.ScoreFn, x: Tensor, t: Tensor, s: Tensor
) -> Tensor:
    frozen = lambda y, u: score(x, t)  # noqa: E731
    return ode.heun_step(process, frozen, x, t, s)


@pytest.mark.parametrize(
    ("step", "order", "counts"),
    [(ode.euler_step, 1, (100, 200)), (ode.heun_step, 2, (40, 80)), (ode.rk4_step, 4, (64, 128))],
)
def test_a_step_has_its_order(step: Callable[..., Tensor], order: int, counts: tuple[int, int]) -> None:
    process = VP(0.5, 4.0)
    measured = measured_order(step, process, GaussianLaw(MEAN, COV), counts)
    assert abs(measured - order) < 0.1


def test_a_frozen_score_costs_heun_an_order() -> None:
    process = VP(0.5, 4.0)
    measured = measured_order(heun_without_its_second_slope, process, GaussianLaw(MEAN, COV), (100, 200))
    assert abs(measured - 1) < 0.1


def test_a_trajectory_is_its_steps_in_both_directions() -> None:
    process, x = VP(0.5, 4.0), tensors(1, (4, 3))
    score = perfect(process, MIXTURE)
    for times in ((1.0, 0.6, 0.25, 0.0), (0.0, 0.1, 0.7)):
        for rule, step in (("euler", ode.euler_step), ("heun", ode.heun_step), ("rk4", ode.rk4_step)):
            path = list(ode.trajectory(process, score, x, times, rule))
            y = x
            for t, s in pairwise(times):
                y = step(process, score, y, t, s)
            assert [t for t, _ in path] == list(times)
            assert torch.equal(path[0][1], x) and torch.equal(path[-1][1], y)
            assert not torch.equal(path[-1][1], path[-2][1])


def test_a_time_per_sample_is_a_time() -> None:
    process, score = SubVP(), perfect(SubVP(), MIXTURE)
    x, t = tensors(1, (3, 3)), torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64)
    for step in (ode.euler_step, ode.heun_step, ode.rk4_step):
        whole = step(process, score, x, t, t / 2)
        single = [step(process, score, x[k : k + 1], t[k], t[k] / 2) for k in range(3)]
        torch.testing.assert_close(whole, torch.cat(single), rtol=64 * ULP, atol=64 * ULP)


# Adaptive solvers.


@pytest.mark.parametrize("method", SOLVERS)
def test_an_encoding_is_decoded(method: str) -> None:
    """Each of fewer than a thousand steps errs by at most the tolerance; the way back stretches by the ratio
    of the deviations, which is below 6 here."""
    process, x = VP(0.1, 4.0), tensors(1, (3, 3)) + 0.5
    score = perfect(process, MIXTURE)
    code = ode.encode(process, score, x, method=method, rtol=1e-5, atol=1e-5)
    back = ode.decode(process, score, code, method=method, rtol=1e-5, atol=1e-5)
    assert float((back - x).abs().max()) < 6e3 * 1e-5
    assert float((code - x).abs().max()) > 0.1
    forward = ode.decode(process, lambda x, t: -score(x, t), code, method=method)
    assert float((forward - x).abs().max()) > 0.1


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
@pytest.mark.parametrize("method", ["scipy:DOP853", "torchdiffeq:dopri8"])
def test_solvers_find_the_exact_flow(process: Process, method: str) -> None:
    x = tensors(1, (4, 2))
    for t, s in ((0.1 * process.end, process.end), (process.end, 0.0)):
        slope, shift = ode.gaussian_flow_map(process, MEAN, COV, t, s)
        score = perfect(process, GaussianLaw(MEAN, COV))
        got = ode.integrate(process, score, x, t, s, method, 1e-8, 1e-8)
        bound = 1e3 * 1e-8 * max(1.0, float(slope.abs().max()))
        assert float((got - x @ slope.mT - shift).abs().max()) <= bound
        assert float((got - x @ slope.mT - 1.01 * shift).abs().max()) > bound


def test_single_precision_is_seen_by_the_score_alone() -> None:
    process, x = VP(0.1, 8.0), tensors(1, (3, 3))
    seen = set()

    def score(x: Tensor, t: Tensor) -> Tensor:
        seen.add((x.dtype, t.dtype, t.dim()))
        return perfect(process, MIXTURE)(x, t)

    exact = ode.encode(process, score, x, rtol=1e-7, atol=1e-7)
    assert seen == {(torch.float64, torch.float64, 0)}
    single = ode.encode(process, score, x.float(), rtol=1e-5, atol=1e-5)
    assert single.dtype == torch.float32
    assert (torch.float32, torch.float64, 0) in seen
    assert float((single - exact).abs().max()) < 1e3 * 1e-5
    assert x.shape == single.shape and torch.equal(ode.integrate(process, score, x, 0.5, 0.5), x)


def test_solvers_do_not_leave_the_interval() -> None:
    process, times = VP(), []

    def score(x: Tensor, t: Tensor) -> Tensor:
        times.append(float(t))
        return -x

    for method in SOLVERS:
        ode.decode(process, score, torch.ones(1, 2, dtype=torch.float64), start=1e-3, method=method)
    assert min(times) >= 1e-3 and max(times) <= 1.0 and max(times) > 0.99


def test_gradients_pass_through_torchdiffeq() -> None:
    process, x = VP(0.1, 4.0), tensors(1, (2, 2)).requires_grad_()
    score = perfect(process, GaussianLaw(MEAN, COV))
    code = ode.encode(process, score, x, method="torchdiffeq:dopri5", rtol=1e-7, atol=1e-7)
    (slope,) = torch.autograd.grad(code[:, 0].sum(), x)
    exact, _ = ode.gaussian_flow_map(process, MEAN, COV, 0.0, 1.0)
    assert float((slope - exact[0]).abs().max()) < 1e3 * 1e-7
    assert float((slope - exact[1]).abs().max()) > 1e-2
    assert not ode.encode(process, score, x).requires_grad


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    with pytest.raises(ImportError, match=r"torchdiffeq:dopri5.* pip install torchdiffeq"):
        ode.encode(VP(), lambda x, t: -x, torch.ones(1, 2), method="torchdiffeq:dopri5")


def test_a_solver_that_gives_up_says_so() -> None:
    explode = lambda x, t: -(x**5) * 1e8  # noqa: E731
    with pytest.raises(RuntimeError, match="scipy:RK45 gave up"):
        ode.integrate(VP(), explode, torch.ones(1, 1, dtype=torch.float64), 0.0, 1.0)


# What every function keeps.


def test_dtype_and_device_are_those_of_the_state() -> None:
    for x in (torch.empty(2, 3, device="meta"), torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.float64)):
        for process in PROCESSES:
            got = [ode.drift(process, x, 0.5, x), ode.euler_step(process, lambda x, t: -x, x, 0.5, 0.25)]
            got += [ode.heun_step(process, lambda x, t: -x, x, 0.5, 0.25)]
            got += [ode.rk4_step(process, lambda x, t: -x, x, 0.5, 0.25)]
            got += [ode.ve_step(x, 2.0, 1.0, x)]
            assert {(y.shape, y.dtype, y.device) for y in got} == {(x.shape, x.dtype, x.device)}
    t = torch.empty(2, dtype=torch.float64, device="meta")
    x = torch.empty(2, 3, device="meta")
    assert ode.drift(VP(), x, t, x).device.type == "meta"
    assert ode.divergence(VP(), lambda x, t: -x, x, t).shape == (2,)


X = torch.zeros(2, 3, dtype=torch.float64)
ASK = lambda x, t: -x  # noqa: E731
BAD: dict[str, tuple[str, Callable[[], object]]] = {
    "time": (r"t must lie in 0\.\.1\.0, got 1\.5", lambda: ode.drift(VP(), X, 1.5, X)),
    "batch of times": (r"t must .* \(B,\)", lambda: ode.drift(VP(), X, torch.zeros(3).double(), X)),
    "score's shape": (r"score must have the shape", lambda: ode.drift(VP(), X, 0.5, X[:1])),
    "score's dtype": (r"score must have the dtype", lambda: ode.drift(VP(), X, 0.5, X.float())),
    "rule": (
        r"rule must be one of euler, heun, rk4",
        lambda: list(ode.trajectory(VP(), ASK, X, (1, 0), "rk5")),
    ),  # type: ignore[arg-type]
    "times": (r"all falling or all rising", lambda: list(ode.trajectory(VP(), ASK, X, (1.0, 0.5, 0.7)))),
    "one time": (r"at least two", lambda: list(ode.trajectory(VP(), ASK, X, (1.0,)))),
    "method": (
        r"method must be one of scipy:RK23.* got 'RK45'",
        lambda: ode.encode(VP(), ASK, X, method="RK45"),
    ),
    "fixed method": (r"method must be one of", lambda: ode.encode(VP(), ASK, X, method="torchdiffeq:rk4")),
    "rtol": (r"rtol must be above 0, got 0", lambda: ode.encode(VP(), ASK, X, rtol=0)),
    "atol": (r"atol must be finite, got nan", lambda: ode.encode(VP(), ASK, X, atol=math.nan)),
    "time of each": (
        r"must have shape \(\)",
        lambda: ode.integrate(VP(), ASK, X, torch.zeros(2).double(), 1.0),
    ),
    "integers": (r"x must be a floating-point", lambda: ode.integrate(VP(), ASK, X.long(), 0.0, 1.0)),
    "sigma": (r"sigma_s must be at least 0 and finite, got -1", lambda: ode.ve_step(X, 2.0, -1.0, X)),
    "sigma's dtype": (r"sigma_t must be float64", lambda: ode.ve_step(X, torch.tensor(2.0), 1.0, X)),
}


@pytest.mark.parametrize(("message", "call"), BAD.values(), ids=BAD)
def test_bad_input_is_named(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=message):
        call()
