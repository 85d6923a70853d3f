"""Steps, times and couplings of flow matching, against DDIM and the probability-flow ODE."""

from __future__ import annotations

import itertools
import math
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
import scipy.integrate
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_laws import misfit, tensors
from torch import Tensor

from refdiff import Target, check, ddim, flow, ode
from refdiff.data import GaussianLaw, MixtureLaw
from refdiff.process import VE, VP, Process, SubVP
from refdiff.schedule import from_alpha_bar

D = torch.float64
EPS = torch.finfo(D).eps
RECTIFIED, TRANSPORT, CIRCLE = (flow.path(name) for name in ("rectified", "transport", "trigonometric"))
NAMED = [flow.path(name) for name in flow.PATHS]
CURVED = [path for path in NAMED if path not in (RECTIFIED, TRANSPORT)]
GAUSSIAN = GaussianLaw(torch.tensor([1.5, -0.5], dtype=D), torch.tensor([[2.0, 0.5], [0.5, 0.4]], dtype=D))
MIXTURE = MixtureLaw(
    torch.tensor([0.25, 0.75], dtype=D),
    torch.tensor([[1.0, -2.0], [0.5, 1.5]], dtype=D),
    torch.tensor([[[2.0, 0.5], [0.5, 1.0]], [[0.3, 0.1], [0.1, 0.2]]], dtype=D),
)
fractions = st.floats(0.01, 0.99)
shifts = st.floats(-3, 3).map(math.exp)


def state(path: flow.Path, t: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Data, noise, their point of the path and their velocity."""
    x_0, eps = tensors(2)
    return x_0, eps, flow.interpolate(path, x_0, t, eps), flow.conditional_velocity(path, x_0, t, eps)


# Euler's method and DDIM.


def is_the_new_level(step: Callable[..., Tensor], path: flow.Path, t: float, s: float) -> float:
    """A step with the velocity of one pair ends at the point of that pair at the new time."""
    x_0, eps, x, u = state(path, t)
    expected = flow.interpolate(path, x_0, s, eps)
    factor = (path.scale(s) * path.std_slope(t)).abs() + (path.std(s) * path.scale_slope(t)).abs()
    other = path.scale(t) * path.std(s) + path.scale(s) * path.std(t)
    size = (factor * x.abs() + other * u.abs()) / path.determinant(t).abs() + x.abs() + u.abs()
    return misfit(step(path, x, t, s, u), expected, size, 32)


def euler(path: flow.Path, x: Tensor, t: float, s: float, u: Tensor) -> Tensor:
    return flow.euler_step(x, t, s, u)


@given(st.sampled_from(NAMED), fractions, fractions)
def test_a_step_of_ddim_keeps_data_and_noise(path: flow.Path, t: float, s: float) -> None:
    t, s = t * path.end, s * path.end
    assert is_the_new_level(flow.ddim_step, path, t, s) <= 1
    assert is_the_new_level(flow.ddim_step, flow.Reversed(path), t, s) <= 1
    backwards = lambda path, x, t, s, u: flow.ddim_step(path, x, s, t, u)  # noqa: E731
    assert abs(t - s) < 0.01 or is_the_new_level(backwards, path, t, s) > 1


@given(st.sampled_from([RECTIFIED, TRANSPORT, flow.path("edm")]), fractions, fractions)
def test_euler_is_ddim_on_straight_lines(path: flow.Path, t: float, s: float) -> None:
    t, s = t * path.end, s * path.end
    assert is_the_new_level(euler, path, t, s) <= 1
    uphill = lambda path, x, t, s, u: flow.euler_step(x, s, t, u)  # noqa: E731
    assert abs(t - s) < 0.01 or is_the_new_level(uphill, path, t, s) > 1


@pytest.mark.parametrize("path", [path for path in CURVED if path != flow.path("edm")], ids=repr)
def test_euler_is_not_ddim_on_curves(path: flow.Path) -> None:
    assert is_the_new_level(euler, path, 0.5, 0.4) > 1e6


def test_the_gap_of_euler_is_half_the_second_derivative() -> None:
    x_0, eps, x, u = state(CIRCLE, 0.4)
    # the second derivatives of sine and cosine are those functions times minus the square of the rate
    leading = 0.5 * (math.pi / 2) ** 2 * x
    for h in (1e-2, 1e-3):
        gap = flow.euler_step(x, 0.4, 0.4 + h, u) - flow.ddim_step(CIRCLE, x, 0.4, 0.4 + h, u)
        rest = (math.pi / 2) ** 3 / 6 * (x_0.abs() + eps.abs()) * h + 1e-15 / h**2
        assert bool(((gap / h**2 - leading).abs() <= rest).all())
        assert not bool(((gap / h**2 + leading).abs() <= rest).all())


@given(fractions, fractions)
def test_the_rectified_euler_step_is_the_step_of_ddim(t: float, s: float) -> None:
    s, t = sorted((t, s))
    if t - s < 1e-3:
        return
    _, _, x, u = state(RECTIFIED, t)
    size, size_s = math.hypot(1 - t, t), math.hypot(1 - s, s)
    schedule = from_alpha_bar([((1 - s) / size_s) ** 2, ((1 - t) / size) ** 2])
    noise = flow.eps_from_velocity(RECTIFIED, x, t, u)
    got = flow.euler_step(x, t, s, u) / size_s
    expected = ddim.step(schedule, x / size, 2, 1, noise)
    # the schedule holds alpha_bar, whose rounding is that of 1 - alpha_bar enlarged by their ratio
    lost = 1 + ((1 - s) / s) ** 2 + ((1 - t) / t) ** 2 + (size / (1 - t)) ** 2
    assert misfit(got, expected, (x.abs() + noise.abs()) / (1 - t), 64 * lost) <= 1
    wrong = ddim.step(schedule, x / size, 2, 1, u)
    assert lost > 1e4 or misfit(got, wrong, (x.abs() + noise.abs()) / (1 - t), 64 * lost) > 1


@given(fractions, fractions)
def test_a_ddim_step_of_the_vp_path_is_that_of_its_schedule(t: float, s: float) -> None:
    s, t = sorted((t, s))
    path = flow.path("vp")
    if t - s < 1e-3:
        return
    schedule = from_alpha_bar([float(path.scale(s)) ** 2, float(path.scale(t)) ** 2])
    _, eps, x, u = state(path, t)
    expected = ddim.step(schedule, x, 2, 1, eps)
    lost = 1 + 1 / float(path.std(s)) ** 2
    size = (x.abs() + eps.abs()) / float(path.scale(t)) * float(path.scale(s)) + u.abs()
    assert misfit(flow.ddim_step(path, x, t, s, u), expected, size, 64 * lost) <= 1


@given(st.integers(1, 9), shifts)
def test_the_field_of_one_pair_carries_noise_to_data(steps: int, shift: float) -> None:
    x_0, eps = tensors(2)
    times = flow.times(steps, shift)
    u = flow.conditional_velocity(RECTIFIED, x_0, 0.5, eps)
    *_, (last, x) = flow.sample(lambda x, t: u, eps, times)
    size = x_0.abs() + eps.abs()
    assert last == 0 and misfit(x, x_0, size, 4 * steps) <= 1
    for wrong in (flow.sample(lambda x, t: -u, eps, times), flow.sample(lambda x, t: u, eps, 1 - times)):
        *_, (_, x) = wrong
        assert misfit(x, x_0, size, 4 * steps) > 1
    *_, (end, x) = flow.sample(lambda x, t: u, eps, flow.times(steps + 1, shift)[:-1])
    assert end > 0 and misfit(x, x_0, size, 4 * steps) > 1


def test_the_network_is_asked_where_the_integrator_is() -> None:
    asked: list[float] = []

    def model(x: Tensor, t: Tensor) -> Tensor:
        asked.append(float(t))
        return -x

    visited = [t for t, _ in flow.sample(model, tensors(1), flow.times(5, 3.0))]
    assert asked == visited[:-1] == flow.times(5, 3.0).tolist()[:-1]
    assert asked != flow.times(5).tolist()[:-1]
    with pytest.raises(ValueError, match=r"len\(times\) must be at least 2, got 1"):
        list(flow.sample(model, tensors(1), [0.5]))


def slope_of(errors: list[float], ratio: float) -> float:
    return math.log(errors[-2] / errors[-1]) / math.log(ratio)


def test_euler_has_order_one_and_its_error_is_the_curvature() -> None:
    x = tensors(1, (5, 2))
    m, cov = GAUSSIAN.mean, GAUSSIAN.cov
    model = lambda x, t: flow.marginal_velocity(RECTIFIED, GAUSSIAN, x, t)  # noqa: E731
    exact = flow.gaussian_flow_map(RECTIFIED, m, cov, x, 1.0, 0.0)
    errors = []
    for steps in (128, 256):
        *_, (_, got) = flow.sample(model, x, flow.times(steps))
        errors.append(float((got - exact).abs().max()))
    assert abs(slope_of(errors, 2) - 1) < 0.1
    t, h = 0.6, 1e-3
    local = flow.gaussian_flow_map(RECTIFIED, m, cov, x, t, t - h) - flow.euler_step(x, t, t - h, model(x, t))
    width = (1 - t) ** 2 * cov + t**2 * torch.eye(2, dtype=D)
    bend = torch.linalg.solve(width @ width, cov @ (x - (1 - t) * m).mT).mT
    # what is left is of third order: its coefficient is the next derivative over 6, a few times the bend
    assert float((2 * local / h**2 - bend).abs().max()) < 10 * h * float(bend.abs().max())
    assert float((2 * local / h**2 + bend).abs().max()) > float(bend.abs().max())


def test_euler_and_ddim_both_have_order_one_on_the_circle() -> None:
    x = tensors(1, (5, 2))
    start, end = 0.95, 0.05
    exact = flow.gaussian_flow_map(CIRCLE, GAUSSIAN.mean, GAUSSIAN.cov, x, start, end)
    for step in (euler, flow.ddim_step):
        errors = []
        for steps in (128, 256):
            y = x
            for t, s in itertools.pairwise(torch.linspace(start, end, steps + 1, dtype=D).tolist()):
                y = step(CIRCLE, y, t, s, flow.marginal_velocity(CIRCLE, GAUSSIAN, y, t))
            errors.append(float((y - exact).abs().max()))
        assert abs(slope_of(errors, 2) - 1) < 0.1


# The probability-flow ODE.

PROCESSES: list[Process] = [VP(), VP(0.3, 7.0), SubVP(), VE(0.02, 30.0)]


@given(st.sampled_from(PROCESSES), fractions)
def test_the_velocity_is_the_drift_of_the_probability_flow(process: Process, t: float) -> None:
    path, x = flow.Diffusion(process), tensors(1)
    score = MIXTURE.at(process.scale(t), process.std(t)).score(x)
    got, expected = flow.marginal_velocity(path, MIXTURE, x, t), ode.drift(process, x, t, score)
    # data and noise are weighed by slopes of which the drift needs only the difference
    size = (
        path.std_slope(t).abs() * (x.abs() + 3 * path.scale(t)) / path.std(t) + path.scale_slope(t).abs() * 3
    )
    size = size + expected.abs() + process.drift(t).abs() * x.abs()
    assert misfit(got, expected, size, 128) <= 1
    reverse = process.drift(t) * x - process.diffusion_squared(t) * score
    assert misfit(reverse, expected, size, 128) > 1


@given(st.sampled_from(PROCESSES), fractions, fractions)
def test_the_flow_map_is_that_of_the_probability_flow(process: Process, t: float, s: float) -> None:
    x = tensors(1)
    got = flow.gaussian_flow_map(flow.Diffusion(process), GAUSSIAN.mean, GAUSSIAN.cov, x, t, s)
    slope, offset = ode.gaussian_flow_map(process, GAUSSIAN.mean, GAUSSIAN.cov, t, s)
    moved = x @ slope.mT + offset
    grown = 1 + float(process.std(s) + process.scale(s)) / float(process.std(t) + 0.3 * process.scale(t))
    assert misfit(got, moved, (x.abs() + 3) * grown, 128) <= 1


def at_levels(path: flow.Path, sigma: Tensor) -> list[float]:
    """The times of a path at noise levels, noise over signal, by bisection to the last bit."""
    low, high = torch.zeros_like(sigma), torch.full_like(sigma, path.end)
    for _ in range(56):
        middle = (low + high) / 2
        below = path.std(middle) < sigma * path.scale(middle)
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return high.tolist()  # type: ignore[no-any-return]


@settings(max_examples=10)
@given(st.floats(-1.5, 1.5).map(math.exp), st.floats(-1.5, 1.5).map(math.exp))
def test_every_path_has_the_same_flow_up_to_scale_and_time(before: float, after: float) -> None:
    y = tensors(1, (4, 2))
    ends = []
    for path in NAMED:
        t, s = at_levels(path, torch.tensor([before, after], dtype=D))
        a, a_s = float(path.scale(t)), float(path.scale(s))
        ends.append(flow.gaussian_flow_map(path, GAUSSIAN.mean, GAUSSIAN.cov, a * y, t, s) / a_s)
    # a time is rounded, which moves the level by its slope there: at most a hundred per unit of time
    for end in ends[1:]:
        assert misfit(end, ends[0], (y.abs() + 3) * (1 + after / before), 2000) <= 1
    if abs(before - after) > 0.1:
        assert misfit(y, ends[0], (y.abs() + 3) * (1 + after / before), 2000) > 1


# Time.


def shifts_the_log_snr(function: Callable[[float, float], Tensor], t: float, shift: float) -> float:
    got = RECTIFIED.log_snr(function(t, shift))
    expected = RECTIFIED.log_snr(t) - math.log(shift)
    # the log-odds of a time that is rounded near 1 are off by that rounding over the distance to 1
    rest = 1 - float(flow.shift_time(t, shift))
    return misfit(got, expected, 1 + abs(float(expected)) + 1 / rest, 16)


@given(fractions, shifts)
def test_a_shift_of_time_shifts_the_log_snr(t: float, shift: float) -> None:
    assert shifts_the_log_snr(flow.shift_time, t, shift) <= 1
    assert abs(math.log(shift)) < 1e-3 or shifts_the_log_snr(flow.unshift_time, t, shift) > 1
    other = lambda t, shift: 1 - flow.shift_time(1 - t, shift)  # noqa: E731
    assert abs(math.log(shift)) < 1e-3 or shifts_the_log_snr(other, t, shift) > 1


@given(fractions, shifts, shifts)
def test_shifts_form_a_group(t: float, first: float, second: float) -> None:
    once = flow.shift_time(flow.shift_time(t, first), second)
    # a time near 1 keeps its distance from 1 only to rounding, which a later shift enlarges
    size = 1 + 1 / second + second
    assert misfit(once, flow.shift_time(t, first * second), size, 16) <= 1
    assert misfit(flow.unshift_time(flow.shift_time(t, first), first), t, 1 + first + 1 / first, 16) <= 1
    assert misfit(flow.unshift_time(t, first), flow.shift_time(t, 1 / first), torch.ones(()), 16) <= 1
    for end in (0.0, 1.0):
        assert float(flow.shift_time(end, first)) == float(flow.unshift_time(end, first)) == end


@given(fractions, shifts)
def test_the_slope_of_a_shift_is_its_derivative(t: float, shift: float) -> None:
    at = torch.tensor(t, dtype=D, requires_grad=True)
    (slope,) = torch.autograd.grad(flow.shift_time(at, shift), at)
    assert misfit(flow.shift_slope(t, shift), slope, slope * (1 + shift + 1 / shift), 32) <= 1
    ratio = flow.shift_time(t, shift) / t
    assert abs(shift - 1) < 1e-3 or misfit(ratio, slope, slope * (1 + shift + 1 / shift), 32) > 1


@given(fractions, st.floats(-3, 3), st.floats(0.5, 2))
def test_the_dynamic_shift_acts_on_the_log_odds(t: float, mu: float, power: float) -> None:
    got = flow.shift_time_exponential(t, mu, power)
    log_snr = power * RECTIFIED.log_snr(t) - mu
    assert misfit(got, torch.sigmoid(-log_snr), got * (1 + abs(float(log_snr)) + abs(mu)), 32) <= 1
    assert misfit(flow.shift_time_exponential(t, mu), flow.shift_time(t, math.exp(mu)), got * 0 + 1, 16) <= 1
    assert [float(flow.shift_time_exponential(end, mu, power)) for end in (0.0, 1.0)] == [0.0, 1.0]


def test_times_are_intervals_of_an_equal_grid_that_is_shifted() -> None:
    for steps, shift in ((1, 2.0), (7, 3.0), (50, 0.4)):
        times = flow.times(steps, shift)
        assert times.shape == (steps + 1,) and times[0] == 1 and times[-1] == 0
        assert bool((times.diff() < 0).all())
        equal = flow.unshift_time(times, shift).diff()
        assert misfit(equal, -1 / steps, torch.ones(steps) * (1 + shift + 1 / shift), 16) <= 1
    assert flow.resolution_shift(4 * 256**2, 256**2) == 2.0


def is_a_density(density: Callable[[float], float]) -> bool:
    total, error = scipy.integrate.quad(density, 0, 1, epsabs=1e-11, epsrel=1e-11, limit=200)
    return bool(abs(total - 1) <= 4 * error + 1e-11)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.7, 0.6), (0.9, 1.4)])
def test_logit_normal_times_have_their_density(mean: float, std: float) -> None:
    density = lambda t: float(flow.logit_normal_density(t, mean, std)) if 0 < t < 1 else 0.0  # noqa: E731
    assert is_a_density(density)
    assert not is_a_density(lambda t: density(t) * t * (1 - t))
    t, h = torch.linspace(0.05, 0.95, 7, dtype=D), 1e-4
    below, above = (scipy.stats.norm.cdf((torch.logit(t + k * h) - mean) / std) for k in (-1, 1))
    slope = torch.as_tensor(above - below) / (2 * h)
    exact = flow.logit_normal_density(t, mean, std)
    # a central difference of a cdf: h²/6 times a third derivative, which is below 1e3 here
    assert bool(((exact - slope).abs() < 1e3 * h**2 + EPS / h).all())
    z = tensors(1, (20,))
    times = flow.logit_normal_time(z, mean, std)
    away = (torch.logit(times) - mean) / std
    assert misfit(away, z, (1 + z.abs() + abs(mean)) / (times * (1 - times)) / std, 16) <= 1


@given(fractions, shifts, st.floats(-1, 1), st.floats(0.5, 2))
def test_a_shift_of_logit_normal_times_moves_their_mean(t: float, shift: float, m: float, s: float) -> None:
    moved = flow.logit_normal_density(float(flow.shift_time(t, shift)), m + math.log(shift), s)
    expected = flow.logit_normal_density(t, m, s) / flow.shift_slope(t, shift)
    away = (math.log(t / (1 - t)) - m) / s
    room = 64 * (1 + abs(away)) * (1 + 1 / (1 - float(flow.shift_time(t, shift)))) / s
    assert misfit(moved, expected, expected, room) <= 1
    assert (
        misfit(moved, flow.logit_normal_density(t, m, s), expected, room) > 1
        or abs(shift - 1) < 1e-3
        or (abs(float(flow.shift_slope(t, shift)) - 1) < 1e-6)
    )


def test_the_weight_of_the_noise_per_log_snr_is_that_of_the_velocity_loss() -> None:
    error = lambda t: math.exp(-3 * t) * (1 - t) ** 2  # noqa: E731  (the squared error of some network)
    density = lambda t: float(flow.logit_normal_density(t, 0.3, 0.8)) if 0 < t < 1 else 0.0  # noqa: E731
    by_time = lambda t: density(t) * float(flow.loss_weight(RECTIFIED, t, "eps")) * error(t)  # noqa: E731
    expected, room = scipy.integrate.quad(by_time, 0, 1, epsabs=1e-11)

    def by_log_snr(log_snr: float, power: int = 1) -> float:
        t = 1 / (1 + math.exp(log_snr))
        return float(flow.eps_loss_weight(t, density(t))) ** power * error(t)

    got, rest = scipy.integrate.quad(by_log_snr, -25, 25, epsabs=1e-11, limit=200)
    assert abs(got - expected) <= 4 * (room + rest) + 1e-10
    wrong, _ = scipy.integrate.quad(lambda log_snr: by_log_snr(log_snr, 2), -25, 25, limit=200)
    assert abs(wrong - expected) > 1e-3
    t = torch.tensor([0.2, 0.7], dtype=D)
    uniform = torch.exp(-RECTIFIED.log_snr(t))
    assert misfit(flow.eps_loss_weight(t), uniform, uniform, 16) <= 1


# Couplings, bridges, noise.


def is_cheapest(order: Callable[[Tensor, Tensor], Tensor], seed: int) -> bool:
    x_0, x_1 = tensors(2, (5, 3), seed=seed)
    costs = [float(flow.coupling_cost(x_0, x_1[list(p)])) for p in itertools.permutations(range(5))]
    got = float(flow.coupling_cost(x_0, x_1[order(x_0, x_1)]))
    return bool(got <= min(costs) * (1 + 32 * EPS))


def test_the_assignment_is_the_cheapest_coupling() -> None:
    assert all(is_cheapest(flow.assignment, seed) for seed in range(5))
    on_the_other_side = lambda x_0, x_1: flow.assignment(x_0, x_1).argsort()  # noqa: E731
    assert not all(is_cheapest(on_the_other_side, seed) for seed in range(5))
    line_0, line_1 = tensors(2, (9, 1))
    order = flow.assignment(line_0, line_1)
    assert torch.equal(line_0.argsort(0), line_1[order].argsort(0))


@given(st.integers(0, 50), fractions)
def test_the_paths_of_the_cheapest_coupling_do_not_meet(seed: int, t: float) -> None:
    x_0, x_1 = tensors(2, (6, 2), seed=seed)
    x_1 = x_1[flow.assignment(x_0, x_1)]
    apart = lambda x: (x[:, None] - x[None]).flatten(0, 1)  # noqa: E731
    first, second = apart(x_0), apart(x_1)
    assert float((first * second).sum(1).min()) >= -64 * EPS * float(first.abs().max() * second.abs().max())
    distance = (apart(flow.interpolate(RECTIFIED, x_0, t, x_1)) ** 2).sum(1)
    bound = (1 - t) ** 2 * (first**2).sum(1) + t**2 * (second**2).sum(1)
    assert bool((distance >= bound * (1 - 64 * EPS) - 64 * EPS).all())
    crossed = flow.interpolate(RECTIFIED, torch.tensor([[0.0], [1.0]], dtype=D),
                               0.5, torch.tensor([[1.0], [0.0]], dtype=D))  # fmt: skip
    assert float(crossed[0]) == float(crossed[1])


def test_the_bridge_moves_with_its_velocity() -> None:
    x_0, x_1, eps = tensors(3, (5, 2))
    t = torch.tensor([0.05, 0.3, 0.5, 0.8, 0.97], dtype=D, requires_grad=True)
    x = flow.bridge(x_0, x_1, t, eps, 0.7)
    slope = torch.stack([torch.autograd.grad(x[:, k].sum(), t, retain_graph=True)[0] for k in range(2)], 1)
    at, here = t.detach(), x.detach()
    size = (x_0.abs() + x_1.abs() + eps.abs()) / (at * (1 - at))[:, None]
    assert misfit(flow.bridge_velocity(x_0, x_1, at, here), slope, size, 16) <= 1
    assert misfit(x_1 - x_0, slope, size, 16) > 1
    weight = flow.bridge_score_weight(at, 0.7)[:, None]
    score = -(here - flow.bridge(x_0, x_1, at, 0 * eps, 0.7)) / weight**2
    assert misfit(weight * score, -eps, (x_0.abs() + x_1.abs()) / weight + eps.abs(), 16) <= 1
    assert misfit(weight**2 * score, -eps, (x_0.abs() + x_1.abs()) / weight + eps.abs(), 16) > 1
    plain = flow.bridge(x_0, x_1, 0.25, eps, 0.0)
    assert misfit(plain, flow.interpolate(RECTIFIED, x_0, 0.25, x_1), x_0.abs() + x_1.abs(), 4) <= 1


Drift = Callable[[Tensor, Tensor, Tensor], Tensor]


def keeps_the_marginals(drift: Drift, direction: int, t: float) -> float:
    """The moments of a linear process with this drift change as those of the path do, in either direction."""
    g = torch.tensor(0.9, dtype=D)
    rows = torch.cat([torch.zeros(1, 2, dtype=D), torch.eye(2, dtype=D)])
    u = flow.marginal_velocity(RECTIFIED, GAUSSIAN, rows, t)
    value = drift(u, GAUSSIAN.at(1 - t, t).score(rows), g)
    slope, m = (value[1:] - value[0]).mT, GAUSSIAN.mean
    spread = (1 - t) ** 2 * GAUSSIAN.cov + t**2 * torch.eye(2, dtype=D)
    change = slope @ spread + spread @ slope.mT + g**2 * torch.eye(2, dtype=D)
    expected = direction * (2 * t * torch.eye(2, dtype=D) - 2 * (1 - t) * GAUSSIAN.cov)
    of_mean = value[0] + slope @ ((1 - t) * m) + direction * m
    size = 1 / t**2 + 4
    return max(misfit(change, expected, torch.full_like(change, size), 64),
               misfit(of_mean, 0.0, torch.full_like(m, size), 64))  # fmt: skip


@given(fractions)
def test_noise_and_score_keep_the_marginals_in_both_directions(t: float) -> None:
    assert keeps_the_marginals(flow.sde_drift, 1, t) <= 1
    assert keeps_the_marginals(lambda u, s, g: flow.sde_drift(u, s, g, backward=True), -1, t) <= 1
    assert keeps_the_marginals(lambda u, s, g: u - g**2 / 2 * s, 1, t) > 1
    assert keeps_the_marginals(lambda u, s, g: -u - g**2 / 2 * s, -1, t) > 1
    assert keeps_the_marginals(lambda u, s, g: u - g**2 / 2 * s, -1, t) > 1


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda x: flow.shift_time(0.5, 0.0), r"shift must be above 0, got 0\.0"),
        (lambda x: flow.unshift_time(1.2, 2.0), r"t must lie in 0\.\.1\.0, got 1\.2"),
        (lambda x: flow.shift_time_exponential(0.5, math.inf), "mu must be finite, got inf"),
        (lambda x: flow.times(0), "steps must be at least 1, got 0"),
        (lambda x: flow.logit_normal_density(0.0), "strictly between 0 and 1"),
        (lambda x: flow.logit_normal_time(x.float()), r"noise must be float64, got torch\.float32"),
        (lambda x: flow.logit_normal_time(x, std=-1.0), "std must be above 0"),
        (lambda x: flow.eps_loss_weight(1.0), "t must be below 1"),
        (lambda x: flow.bridge_velocity(x, x, 1.0, x), "strictly between 0 and 1"),
        (lambda x: flow.bridge(x, x, 0.5, x, -1.0), "sigma must be at least 0"),
        (lambda x: flow.sde_drift(x, x, torch.tensor(1.0)), "diffusion must be a float or float64"),
        (lambda x: flow.sde_drift(x, x[:1], 1.0), "score must have the shape of velocity"),
        (lambda x: flow.coupling_cost(x, x.float()), "x_1 must have the dtype of x_0"),
        (lambda x: flow.euler_step(x, torch.tensor(0.5), 0.0, x), "t must be a float or float64"),
        (lambda x: next(flow.sample(lambda x, t: x, x, torch.ones(3))), "times must be float64 of shape"),
        (lambda x: flow.eps_loss_weight(0.5, torch.tensor(1.0)), "density must be a float or float64"),
        (lambda x: flow.loss(RECTIFIED, lambda x, t: x, x, 0.5, x, torch.ones(3)), "weight must be a float"),
        (lambda x: flow.ddim_step(flow.path("vp"), x, 0.0, 0.5, x), "finite and not 0"),
        (lambda x: flow.ddim_step(RECTIFIED, x, 0.5, 1.5, x), r"t must lie in 0\.\.1\.0, got 1\.5"),
    ],
)
def test_bad_input_is_refused(ask: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(tensors(1))


# The example.


def examples() -> dict[str, type[Target]]:
    file = Path(__file__).resolve().parents[1] / "examples" / "my_flow.py"
    return {name: kind for name, kind in runpy.run_path(str(file)).items() if name != "Target"}


def test_the_example_is_a_right_target_and_two_wrong_ones() -> None:
    named = examples()
    assert check(named["MyFlow"]()).ok
    for name, check_id, words in (
        ("NotShifted", "flow_levels.labels", "not shifted"),
        ("TowardsData", "flow_velocity.coefficients", "time_direction"),
    ):
        wrong = [result for result in check(named[name]()).results if result.status == "fail"]
        assert [result.id for result in wrong] == [check_id]
        assert words in str(wrong[0].diagnosis)
