"""Exponential integrators: weights, local errors, equivalences, invariance, the last level and bad input."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import mpmath
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp
from torch import Tensor

import derivations
from derivations import symbols
from refdiff import ddim, solver
from refdiff.data import GaussianLaw, MixtureLaw, PointMass
from refdiff.process import EDM, VE, VP
from refdiff.schedule import linear
from refdiff.solver import (
    SOLVERS,
    Exponential,
    Levels,
    Multistep,
    NoiseLevel,
    Singlestep,
    Solver,
    UniPC,
)

F64 = torch.float64
ULP = torch.finfo(F64).eps
EXPONENTIAL = {name: s for name, s in SOLVERS.items() if isinstance(s, Exponential)}
ODE = {name: s for name, s in EXPONENTIAL.items() if not s.stochastic}
SDE = {name: s for name, s in EXPONENTIAL.items() if s.stochastic}
TIMES = torch.tensor([1.0, 0.83, 0.6, 0.42, 0.2, 0.09, 0.03], dtype=F64)
REGISTRY = derivations.registry()


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=F64)


def draws(count: int, shape: Sequence[int], seed: int = 7) -> list[Tensor]:
    made = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=made, dtype=F64) for _ in range(count)]


def plane() -> GaussianLaw:
    cov = torch.tensor([[1.3, 0.4], [0.4, 0.6]], dtype=F64)
    return GaussianLaw(torch.tensor([0.7, -1.3], dtype=F64), cov)


def two_modes() -> MixtureLaw:
    weights, means = torch.tensor([0.3, 0.7], dtype=F64), torch.tensor([[-1.5], [0.8]], dtype=F64)
    return MixtureLaw(weights, means, torch.tensor([[[0.2]], [[0.5]]], dtype=F64))


def perfect(law: GaussianLaw | MixtureLaw | PointMass) -> solver.Model:
    return lambda x, scale, std: law.at(scale, std).eps(x)


def levels(space: solver.Space = "vp", times: Tensor = TIMES) -> Levels:
    return Levels.from_process(VP(), times, space)


def to_data(space: solver.Space = "vp") -> Levels:
    """The same levels, and one without noise."""
    end = torch.cat([TIMES, torch.zeros(1, dtype=F64)])
    return Levels.from_process(VP(), end, space)


# Functions and weights


def phi_holds(function: Callable[[int, Tensor], Tensor]) -> bool:
    """Within 16 roundings of 40 digits, for each k, at small and large arguments of both signs."""
    sizes = [1e-30, 1e-12, 1e-5, 0.03, 0.4, 0.999, 1.0, 1.7, 6.0, 40.0]
    for k, z in itertools.product((1, 2, 3, 4), [s * size for size in sizes for s in (-1, 1)]):
        with mpmath.workdps(200):
            exact = mpmath.mpf(z)
            value = (mpmath.exp(exact) - sum(exact**j / mpmath.factorial(j) for j in range(k))) / exact**k
            error = abs(mpmath.mpf(float(function(k, number(z)))) / value - 1)
        if not error <= 16 * ULP:
            return False
    return True


def test_phi_has_forty_digits_behind_it() -> None:
    assert phi_holds(solver.phi)
    assert float(solver.phi(3, number(0.0))) == pytest.approx(1 / 6, abs=ULP)


def test_phi_by_its_recurrence_alone_is_rejected() -> None:
    def naive(k: int, z: Tensor) -> Tensor:
        value = torch.expm1(z) / z
        for j in range(1, k):
            value = (value - 1 / math.factorial(j)) / z
        return value

    assert not phi_holds(naive)


PLACES = st.lists(st.integers(-40, 40), min_size=2, max_size=4, unique=True)


def weights_hold(weights: Callable[[list[Tensor], Tensor], Tensor], places: list[int], z: float) -> bool:
    """The rule integrates 1, c, c², … against exp(z(1 − c)), by scipy's quadrature."""
    nodes = [number(place / 16) for place in places]
    wanted = solver.moments("exact", len(nodes), number(z))
    found = weights(nodes, wanted)
    for n in range(len(nodes)):
        integral = quad(lambda c, n=n: math.exp(z * (1 - c)) * c**n, 0, 1, epsabs=0, epsrel=1e-13)[0]
        terms = torch.stack([w * c**n for w, c in zip(found, nodes, strict=True)])
        # the solve is backward stable: an error of some roundings of the largest term, times the condition
        powers = torch.stack([torch.stack(nodes) ** m for m in range(len(nodes))])
        allowed = 64 * ULP * float(terms.abs().sum()) * float(torch.linalg.cond(powers)) + 1e-12 * integral
        if not abs(float(terms.sum()) - integral) <= allowed:
            return False
    return True


@settings(max_examples=30, deadline=None)
@given(places=PLACES, z=st.floats(-6, 3).filter(lambda z: abs(z) > 1e-3))
def test_weights_integrate_polynomials(places: list[int], z: float) -> None:
    assert weights_hold(solver.weights, places, z)


def test_weights_in_the_wrong_order_are_rejected() -> None:
    assert not weights_hold(lambda c, m: solver.weights(c, m).flip(0), [0, -11], -0.7)
    assert not weights_hold(lambda c, m: solver.weights([-p for p in c], m), [0, -11, 16], -0.7)


# The frame: what is exact in a step


def moments_by_scipy(prediction: solver.Prediction, eta: float, t: NoiseLevel, s: NoiseLevel) -> list[float]:
    """Factor of x, of a constant prediction, and the variance, from the moment equations in σ = exp(−λ)."""
    scale = s.scale / t.scale

    def slope(place: float, state: Sequence[float]) -> list[float]:
        # in λ, for x/scale: mean and gain by their slope, and the growth of the variance
        sigma = math.exp(-place)
        if prediction == "eps":
            return [0.0, -(1 + eta) * sigma, 2 * eta * sigma**2]
        kept, gain, variance = state
        rate = -(1 + eta)
        return [rate * kept, rate * gain + 1 + eta, 2 * rate * variance + 2 * eta * sigma**2]

    ends = float(t.log_snr), float(s.log_snr)
    found = solve_ivp(slope, ends, [1.0, 0.0, 0.0], rtol=1e-12, atol=1e-14, method="DOP853").y[:, -1]
    return [found[0] * float(scale), found[1] * float(s.scale), found[2] * float(s.scale) ** 2]


def frame_holds(make: Callable[..., solver.Frame]) -> bool:
    for prediction, eta, index in itertools.product(("eps", "x_0"), (0.0, 0.4, 1.0, 1.7), (0, 3, 5)):
        t, s = levels()[index], levels()[index + 1]
        at = make(prediction, t, s, eta)
        gain = at.gain * at.h * solver.phi(1, at.argument)
        wanted = moments_by_scipy(prediction, eta, t, s)  # type: ignore[arg-type]
        got = [float(at.keep), float(gain), float(at.noise**2)]
        # scipy was asked for 12 digits of each step
        if any(abs(a - b) > 1e-10 * (1 + abs(b)) for a, b in zip(got, wanted, strict=True)):
            return False
    return True


def test_a_frame_solves_the_moment_equations() -> None:
    assert frame_holds(solver.frame)


def test_broken_frames_are_rejected() -> None:
    def without_share(
        prediction: solver.Prediction, t: NoiseLevel, s: NoiseLevel, eta: float
    ) -> solver.Frame:
        return replace(solver.frame(prediction, t, s, eta), noise=solver.frame(prediction, t, s, 1.0).noise)

    def ode_drift(prediction: solver.Prediction, t: NoiseLevel, s: NoiseLevel, eta: float) -> solver.Frame:
        return replace(solver.frame(prediction, t, s, 0.0), noise=solver.frame(prediction, t, s, eta).noise)

    assert not frame_holds(without_share)
    assert not frame_holds(ode_drift)


# Local errors: the leading coefficient that was derived, with the model's derivatives taken by mpmath

C, M, X = 0.4, 0.9, -1.7
"""Variance and mean of the data, and x/scale where the step begins."""
ERRORS = {
    "ddim": ("dpm_1", 1), "dpm_2": ("dpm_2", 2), "dpmpp_2s": ("dpmpp_2s", 2), "dpm_3": ("dpm_3", 3),
    "dpm_2m": ("dpm_2m", 2), "dpmpp_3s": ("dpmpp_3s", 3), "dpm_3m": ("dpmpp_3m", 3),
    "dpmpp_2m": ("dpmpp_2m", 2), "dpmpp_2m_heun": ("dpmpp_2m_heun", 2), "dpmpp_3m": ("dpmpp_3m", 3),
    "dpmpp_3m_code": ("halved_3m", 2), "unip_2": ("unip_2", 2), "unipc_1": ("unic_1", 2),
    "unipc_2": ("unic_2", 3), "unipc_3": ("unic_3", 4), "unipc_1_bh1": ("unic_1", 2),
}  # fmt: skip
"""By solver: the formula of its local error, and its order."""
START = 0.2
PAST = (1.25, 0.7)
BENDS = {"bh1": 0.0, "bh2": 0.5}


def along_path(prediction: solver.Prediction) -> Callable[[mpmath.mpf], mpmath.mpf]:
    """The perfect prediction along the exact solution in the scale-free space."""

    def value(place: mpmath.mpf) -> mpmath.mpf:
        spread = mpmath.sqrt((C + mpmath.exp(-2 * place)) / (C + mpmath.exp(mpmath.mpf(-2 * START))))
        gap = (X - M) * spread
        total = C + mpmath.exp(-2 * place)
        return mpmath.exp(-place) * gap / total if prediction == "eps" else M + C * gap / total

    return value


def jacobian(prediction: solver.Prediction, place: mpmath.mpf) -> mpmath.mpf:
    """The derivative of the prediction by x/scale, times the gain."""
    total = C + mpmath.exp(-2 * place)
    return -mpmath.exp(-2 * place) / total if prediction == "eps" else C / total


def derived(name: str, method: Exponential) -> float:
    """The derived coefficient with this model's numbers."""
    formula, _ = ERRORS[name]
    kind = method.prediction
    values: dict[sp.Symbol, float] = {
        getattr(symbols, f"path_{n}"): float(mpmath.diff(along_path(kind), START, n)) for n in (1, 2, 3, 4)
    }
    values[symbols.state_slope] = float(jacobian(kind, mpmath.mpf(START)))
    values[symbols.state_slope_1] = float(mpmath.diff(lambda p: jacobian(kind, p), START))
    inner = getattr(method, "inner", (0.5,))
    values |= {symbols.past_1: PAST[0], symbols.past_2: PAST[1], symbols.inner_1: inner[0]}
    values[symbols.bh_slope] = BENDS.get(method.kind, 0.5)
    return float(REGISTRY[f"solver.{formula}_error"].rhs.subs(values))


def at_place(place: float) -> NoiseLevel:
    return solver.level(number(place), "ve")


def exact_state(place: float) -> Tensor:
    spread = math.sqrt((C + math.exp(-2 * place)) / (C + math.exp(-2 * START)))
    return number(M + (X - M) * spread).reshape(1, 1)


def affine_model(x: Tensor, scale: Tensor, std: Tensor) -> Tensor:
    return std * (x - scale * M) / (scale**2 * C + std**2)


def one_error(method: Solver, h: float, order: int) -> float:
    """The error of one step of length h, with exact history, over gain·h^(order+1)."""
    places = [START - (PAST[0] + PAST[1]) * h, START - PAST[0] * h][2 - method.history :]
    past = [(at_place(place), exact_state(place)) for place in places]
    # the step after it shows the corrector of the first
    ends = [at_place(START), at_place(START + h), at_place(START + 2 * h)]
    visited = Levels(torch.stack([e.scale for e in ends]), torch.stack([e.std for e in ends]), "ve")
    _, state, *_ = method.trajectory(affine_model, exact_state(START), visited, past=past)
    prediction = method.prediction  # type: ignore[attr-defined]
    gain = -float(ends[1].std) if prediction == "eps" else 1.0
    return float(state - exact_state(START + h)) / (gain * h ** (order + 1))


def local_error_holds(method: Solver, wanted: float, order: int) -> bool:
    """Richardson's extrapolation of the ratio to h = 0 meets the coefficient.

    The error of a value that was extrapolated once is what two more extrapolations change.
    """
    steps = (0.16, 0.08, 0.04, 0.02)
    rows = [[one_error(method, h, order) for h in steps]]
    for k in (1, 2, 3):
        pairs = itertools.pairwise(rows[-1])
        rows.append([(2**k * fine - coarse) / (2**k - 1) for coarse, fine in pairs])
    once, best = rows[1][-1], rows[3][0]
    # rounding is divided by h^(order+1)
    return abs(best - wanted) <= abs(best - once) + 64 * ULP / steps[-1] ** (order + 1)


@pytest.mark.parametrize("name", ERRORS)
def test_a_local_error_has_the_coefficient_that_was_derived(name: str) -> None:
    method = EXPONENTIAL[name]
    wanted = derived(name, method)
    assert wanted != 0
    assert local_error_holds(method, wanted, ERRORS[name][1])
    assert not local_error_holds(method, 1.05 * wanted, ERRORS[name][1])


def test_decoys_of_the_coefficients_are_rejected() -> None:
    for name, other in (("dpm_2", "dpmpp_2s"), ("dpmpp_2m", "dpmpp_2m_heun"), ("unipc_1", "unipc_1_bh1")):
        wrong = derived(other, replace(EXPONENTIAL[other], prediction=EXPONENTIAL[name].prediction))
        assert not local_error_holds(EXPONENTIAL[name], wrong, ERRORS[name][1])


# One method under several names


def schedule_levels(visited: Sequence[int]) -> tuple[object, Levels]:
    table = linear(1000)
    index = torch.tensor(list(visited))
    return table, Levels(table.alpha_bar[index].sqrt(), table.one_minus_alpha_bar[index].sqrt())


VISITED = (1000, 801, 430, 217, 64, 9, 1, 0)


def ddim_holds(method: Solver, eta: float) -> bool:
    """The solver is DDIM's sampler, with the same noises."""
    table, visited = schedule_levels(VISITED)
    x, *noises = draws(len(VISITED) - 1, (3, 2))
    model = perfect(plane())

    def by_level(state: Tensor, t: int) -> Tensor:
        return plane().eps(table, state, t)  # type: ignore[arg-type]

    *_, (_, wanted) = ddim.sample(by_level, table, x, VISITED, eta, noises)  # type: ignore[arg-type]
    got = method.sample(model, x, visited, noises)
    # seven steps of some ten roundings, grown by the first scale, which is 1/157
    return bool((got - wanted).abs().max() <= 70 * ULP * 157 * wanted.abs().max())


def test_dpm_solver_1_in_both_predictions_is_ddim() -> None:
    assert ddim_holds(SOLVERS["ddim"], 0.0)
    assert ddim_holds(SOLVERS["dpmpp_1"], 0.0)
    assert not ddim_holds(SOLVERS["dpmpp_2m"], 0.0)


def test_the_sde_solver_of_order_1_is_the_ancestral_sampler() -> None:
    assert ddim_holds(SOLVERS["sde_dpmpp_1"], 1.0)
    assert not ddim_holds(SOLVERS["sde_dpmpp_1"], 0.9)
    assert not ddim_holds(SOLVERS["sde_dpm_1"], 1.0)


def test_a_share_of_the_noise_is_an_eta_of_each_step() -> None:
    table, visited = schedule_levels(VISITED)
    share, x, z = 0.35, *draws(2, (3, 2))
    (t, s), (high, low) = list(visited.pairs())[2], VISITED[2:4]
    h = float(s.log_snr - t.log_snr)
    eta = math.sqrt(math.expm1(-2 * share * h) / math.expm1(-2 * h))
    eps = perfect(plane())(x, t.scale, t.std)
    wanted = ddim.step(table, x, high, low, eps, eta, z)  # type: ignore[arg-type]
    pair = Levels(torch.stack([t.scale, s.scale]), torch.stack([t.std, s.std]))
    got = replace(SDE["sde_dpmpp_1"], eta=share).sample(perfect(plane()), x, pair, [z])
    wrong = ddim.step(table, x, high, low, eps, math.sqrt(share), z)  # type: ignore[arg-type]
    assert torch.allclose(got, wanted, rtol=0, atol=64 * ULP * float(wanted.abs().max()))
    assert not torch.allclose(got, wrong, rtol=0, atol=1e-3)


def same_samples(one: Solver, other: Solver) -> bool:
    """Equal states from an exact history, within the rounding of six steps on weights up to 10."""
    law, visited = two_modes(), levels()
    start = Levels(visited.scale[2:], visited.std[2:])
    x = draws(3, (5, 1))
    past = [(visited[0], x[0]), (visited[1], x[1])]
    a, b = (method.sample(perfect(law), x[2], start, past=past) for method in (one, other))
    return bool((a - b).abs().max() <= 6 * 10 * 64 * ULP)


def test_the_predictors_of_unipc_are_multistep_dpm_solvers() -> None:
    assert same_samples(SOLVERS["unip_2"], SOLVERS["dpmpp_2m"])
    assert same_samples(SOLVERS["unip_3"], SOLVERS["dpmpp_3m"])
    assert same_samples(replace(ODE["unip_3"], kind="bh1"), SOLVERS["unip_3"])
    assert not same_samples(replace(ODE["unip_2"], kind="bh1"), SOLVERS["dpmpp_2m"])
    assert not same_samples(SOLVERS["dpmpp_3m_code"], SOLVERS["dpmpp_3m"])


# Invariance and exactness


def invariance(method: Solver, spaces: Sequence[solver.Space]) -> float:
    """The largest difference of a sample between spaces, apart from the scale."""
    law, count = two_modes(), levels().steps
    x, *noises = draws(count + 1, (4, 1))
    found = []
    for space in spaces:
        at = [solver.level(place, space) for place in levels().log_snr]
        visited = Levels(torch.stack([a.scale for a in at]), torch.stack([a.std for a in at]), space)
        sample = method.sample(perfect(law), x * visited.scale[0], visited, noises)
        found.append(sample / visited.scale[-1])
    return max(float((other - found[0]).abs().max()) for other in found[1:])


@pytest.mark.parametrize("name", EXPONENTIAL)
def test_samples_do_not_depend_on_the_space(name: str) -> None:
    # λ is rounded to some ulps of its size, up to 5, in each of six steps, of states up to 157
    assert invariance(EXPONENTIAL[name], ("vp", "ve", "flow")) <= 6 * 64 * 5 * ULP * 157


def test_a_solver_that_takes_levels_between_in_another_space_is_seen() -> None:
    class Wrong(Singlestep):
        """The inner level has the scale of the beginning of the step, without its state being scaled."""

        def ask(self, model: solver.Model, x: Tensor, at: NoiseLevel) -> Tensor:
            return super().ask(model, x, NoiseLevel(torch.ones_like(at.scale), at.sigma))

    assert invariance(Wrong("wrong", 2, "eps", "bh2"), ("ve", "vp")) > 1e-3


@pytest.mark.parametrize("name", ODE)
def test_one_point_of_data_is_reached_exactly(name: str) -> None:
    """Its perfect noise and data are constant along each path, whatever the steps."""
    law = PointMass(torch.tensor([0.6, -1.1], dtype=F64))
    (x,) = draws(1, (3, 2))
    for visited in (levels(), to_data()):
        last, first = visited[visited.steps], visited[0]
        wanted = last.scale * law.x + last.std * (x - first.scale * law.x) / first.std
        got = ODE[name].sample(perfect(law), x, visited)
        # predictions of noise divide by the first scale, 1/157
        assert float((got - wanted).abs().max()) <= 6 * 64 * ULP * 157


def polynomial_error(method: Exponential, degree: int) -> float:
    """The error where the prediction is a polynomial in λ alone, against scipy's quadrature."""
    powers = [0.8, -0.6, 0.5, 0.3][: degree + 1]

    def path(place: float) -> float:
        return sum(c * place**n for n, c in enumerate(powers))

    def model(x: Tensor, scale: Tensor, std: Tensor) -> Tensor:
        value = torch.full_like(x, path(float(scale.log() - std.log())))
        return value if method.prediction == "eps" else (x - scale * value) / std

    visited = levels("ve", TIMES[:4])
    ends = [float(place) for place in visited.log_snr]
    sign = -1 if method.prediction == "eps" else 1
    total = quad(lambda place: math.exp(sign * place) * path(place), ends[2], ends[3], epsrel=1e-13)[0]
    (x,) = draws(1, (1, 1))
    start = Levels(visited.scale[2:], visited.std[2:], "ve")
    past = [(visited[0], x), (visited[1], x)]
    got = method.sample(model, x, start, past=past)
    factor = visited.scale if method.prediction == "eps" else visited.std
    keep, gain = float(factor[3] / factor[2]), sign * float(factor[3])
    return abs(float(got) - keep * float(x) - gain * float(total)) / (1 + abs(gain * float(total)))


@pytest.mark.parametrize(
    ("name", "degree"),
    [("ddim", 0), ("dpmpp_1", 0), ("dpmpp_2m_heun", 1), ("dpm_3", 1), ("dpmpp_3s", 1), ("dpmpp_3m", 2),
     ("dpm_3m", 2), ("unip_3", 2)],
)  # fmt: skip
def test_a_rule_is_exact_for_polynomials_in_lambda(name: str, degree: int) -> None:
    assert polynomial_error(EXPONENTIAL[name], degree) <= 1e-12
    assert polynomial_error(EXPONENTIAL[name], degree + 1) > 1e-6


def test_rules_of_small_steps_are_exact_for_constants_alone() -> None:
    for name in ("dpmpp_2m", "dpm_2", "dpmpp_2s"):
        assert polynomial_error(EXPONENTIAL[name], 0) <= 1e-12
        assert polynomial_error(EXPONENTIAL[name], 1) > 1e-6
    assert polynomial_error(EXPONENTIAL["dpmpp_3m_code"], 1) <= 1e-12
    assert polynomial_error(EXPONENTIAL["dpmpp_3m_code"], 2) > 1e-6


# The last level


@pytest.mark.parametrize("name", EXPONENTIAL)
def test_the_step_to_no_noise_returns_the_predicted_data(name: str) -> None:
    method, law, visited = EXPONENTIAL[name], two_modes(), to_data()
    x, *noises = draws(visited.steps, (4, 1))
    asked = []

    def model(x: Tensor, scale: Tensor, std: Tensor) -> Tensor:
        asked.append((x, scale, std))
        return perfect(law)(x, scale, std)

    # one noise fewer than steps, and none for a deterministic solver
    states = list(method.trajectory(model, x, visited, noises if method.stochastic else None))
    x_last, scale, std = asked[-1]
    assert float(std) == float(visited.std[-2])
    at = law.at(scale, std)
    # UniPC asks at the predicted state; with the noise from there it leaves the corrected one
    wanted = at.x_0(x_last) if method.prediction == "x_0" else (states[-2] - std * at.eps(x_last)) / scale
    assert float((states[-1] - wanted).abs().max()) <= 64 * ULP * (1 + float(wanted.abs().max()))
    assert bool(states[-1].isfinite().all())


def test_a_last_order_that_falls_uses_one_value_in_the_last_step() -> None:
    x, *_ = draws(1, (4, 1))
    model, visited = perfect(two_modes()), levels()
    for method in (ODE["dpmpp_2m"], ODE["unip_2"]):
        lowered = replace(method, lower_order_final=True)  # type: ignore[call-arg]
        before = list(method.trajectory(model, x, visited))
        found = list(lowered.trajectory(model, x, visited))
        assert torch.equal(found[-2], before[-2])
        tail = Levels(visited.scale[-2:], visited.std[-2:])
        assert torch.equal(found[-1], replace(method, nodes=1).sample(model, found[-2], tail))  # type: ignore[call-arg]
        assert not torch.equal(found[-1], before[-1])


# Evaluations, types, devices, input


@pytest.mark.parametrize("name", EXPONENTIAL)
def test_a_solver_asks_the_model_as_often_as_it_says(name: str) -> None:
    method, visited = EXPONENTIAL[name], levels()
    x, *noises = draws(visited.steps + 1, (2, 1))
    asked = []

    def model(x: Tensor, scale: Tensor, std: Tensor) -> Tensor:
        asked.append(1)
        return perfect(two_modes())(x, scale, std)

    counts = []
    for _ in method.trajectory(model, x, visited, noises):
        counts.append(len(asked))
    assert counts[3] - counts[2] == method.evaluations


@pytest.mark.parametrize("name", EXPONENTIAL)
def test_float32_is_as_near_as_its_roundings(name: str) -> None:
    method, law, visited = EXPONENTIAL[name], plane(), levels()
    x, *noises = draws(visited.steps + 1, (4, 2))
    wide = method.sample(perfect(law), x, visited, noises)
    narrow = method.sample(perfect(law), x.float(), visited, [z.float() for z in noises])
    assert narrow.dtype == torch.float32
    # noise predictions grow rounding by the ratio of scales, 1/157 to 1
    allowed = 6 * 16 * torch.finfo(torch.float32).eps * 157 * float(wide.abs().max())
    assert float((narrow - wide).abs().max()) <= allowed
    assert not torch.equal(narrow.double(), wide)


@pytest.mark.parametrize("name", EXPONENTIAL)
def test_a_sample_on_another_device_stays_there(name: str) -> None:
    x = torch.empty(3, 2, device="meta", dtype=torch.float32)
    noises = itertools.repeat(x)
    found = EXPONENTIAL[name].sample(lambda x, scale, std: x * 0.5, x, to_data(), noises)
    assert (found.device.type, found.shape, found.dtype) == ("meta", x.shape, x.dtype)


def test_levels_of_a_process_have_its_space() -> None:
    times = torch.tensor([0.9, 0.5, 0.1], dtype=F64)
    assert Levels.from_process(VP(), times).space == "vp"
    assert Levels.from_process(VE(), times).space == "ve"
    assert Levels.from_process(EDM(), times).space == "ve"
    visited = Levels.from_process(VP(), times)
    assert (visited.steps, len(visited)) == (2, 3)
    between = visited.between(visited[0], visited[1], 0.25)
    assert float(between.scale**2 + between.std**2) == pytest.approx(1, abs=4 * ULP)
    wanted = 0.75 * visited.log_snr[0] + 0.25 * visited.log_snr[1]
    assert float(between.log_snr) == pytest.approx(float(wanted), abs=16 * ULP)


def rows(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


BAD_LEVELS: dict[str, Callable[[], object]] = {
    "scale must be float64": lambda: Levels(rows(0.5, 1).float(), rows(0.8, 0.1)),
    "scale must be finite and above 0": lambda: Levels(rows(0, 1), rows(0.8, 0.1)),
    "std must be above 0 before the last": lambda: Levels(rows(0.5, 0.7, 1), rows(0.8, 0, 0.1)),
    "std must be finite and at least 0": lambda: Levels(rows(0.5, 1), rows(0.8, -0.1)),
    "std must have the shape of scale": lambda: Levels(rows(0.5, 1), rows(0.8, 0.2, 0.1)),
    "std/scale must be below the one before": lambda: Levels(rows(0.5, 0.5), rows(0.8, 0.8)),
    "space must be one of": lambda: Levels(rows(0.5, 1), rows(0.8, 0.1), "edm"),  # type: ignore[arg-type]
}
BAD_SOLVERS: dict[str, Callable[[], object]] = {
    "prediction must be one of": lambda: Multistep("bad", 1, "v"),  # type: ignore[arg-type]
    "kind must be one of": lambda: Multistep("bad", 1, "eps", "bh3"),  # type: ignore[arg-type]
    "eta must be at least 0": lambda: Multistep("bad", 1, eta=-0.1),
    "eta must be 0 for a singlestep": lambda: Singlestep("bad", 2, eta=0.5),
    "eta must be 0 for UniPC": lambda: UniPC("bad", 2, eta=0.5),
    "inner must hold 1 or 2": lambda: Singlestep("bad", 1, inner=()),
    "inner must rise within": lambda: Singlestep("bad", 3, inner=(0.7, 2 / 3)),
    "inner must have its second place at 2/3": lambda: Singlestep("bad", 3, inner=(0.3, 0.7)),
    "k must be at least 1": lambda: solver.phi(0, number(0.5)),
    "nodes must be at least 1": lambda: Multistep("bad", 1, nodes=0),
}


def run(name: str, x: Tensor, **given: object) -> Tensor:
    model = perfect(plane())
    return SOLVERS[name].sample(model, x, levels(), **given)  # type: ignore[arg-type]


ONE = torch.ones(2, 2, dtype=F64)
BAD_RUNS: dict[str, Callable[[], object]] = {
    "x must be a floating-point": lambda: run("ddim", torch.ones(2, 2, dtype=torch.int64)),
    "x must have shape": lambda: run("ddim", torch.ones((), dtype=F64)),
    "noises must hold": lambda: run("sde_dpmpp_1", ONE, noises=[ONE] * 3),
    "noise must have the shape": lambda: run("sde_dpmpp_1", ONE, noises=itertools.repeat(ONE[:1])),
    "noise must have the dtype": lambda: run("sde_dpmpp_1", ONE, noises=itertools.repeat(ONE.float())),
    "past must have levels that fall": lambda: run("dpmpp_2m", ONE, past=[(levels()[3], ONE)]),
    "past must have the shape": lambda: run("dpmpp_2m", ONE, past=[(levels()[0], ONE[:1])]),
    "eps must have the shape": lambda: SOLVERS["ddim"].sample(lambda x, a, b: x[:1], ONE, levels()),
}


@pytest.mark.parametrize("message", [*BAD_LEVELS, *BAD_SOLVERS, *BAD_RUNS])
def test_bad_input_is_named(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        {**BAD_LEVELS, **BAD_SOLVERS, **BAD_RUNS}[message]()
