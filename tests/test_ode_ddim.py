"""DDIM beside the discretised probability flow: coefficients level by level, and where both end."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import mpmath
import pytest
import torch
from hypothesis import given
from reference_laws import BUILDERS, Exact, depth, has_zero_snr, levels, misfit, named, tensors
from torch import Tensor

from refdiff import ddim, ode, parameterization
from refdiff.process import EDM, VP
from refdiff.schedule import Schedule, from_log_alpha_bar
from tools import ode_numbers

LINEAR = named("linear-1000")
WITH_SIGNAL = [name for name in BUILDERS if not has_zero_snr(named(name)) and name != "linear-100000"]
ULP = torch.finfo(torch.float64).eps


# The coefficients.


def coefficients_are_exact(gap: ode.CoefficientGap, schedule: Schedule, t: int) -> float:
    """Each coefficient against 60 digits, in units of rounding of β and of the levels."""
    exact = Exact(schedule, t, t - 1)
    with mpmath.workdps(60):
        lost_t, lost_s, root = 1 - exact.abar_t, 1 - exact.abar_s, mpmath.sqrt(exact.alpha)
        printed = lost_t / root - mpmath.sqrt(lost_s) * mpmath.sqrt(lost_t)
        half = exact.beta / 2
        wanted = {
            "half_beta": half,
            "ddim": printed,
            "gap": printed - half,
            "ratio": printed / half,
            "state_gap": 1 / root - (2 - root),
        }
        numbers = {name: float(value) for name, value in wanted.items()}
    roundings = 48 + 4 * depth(schedule, t, 0)
    return max(misfit(getattr(gap, name)[t - 1], value, value, roundings) for name, value in numbers.items())


def by_subtraction(schedule: Schedule) -> ode.CoefficientGap:
    """The coefficients as the source prints them."""
    abar = schedule.alpha_bar
    alpha, lost = abar[1:] / abar[:-1], 1 - abar
    printed = lost[1:] / alpha.sqrt() - (lost[:-1] * lost[1:]).sqrt()
    half = (1 - alpha) / 2
    return ode.CoefficientGap(
        half, printed, printed - half, printed / half, 1 / alpha.sqrt() - 2 + alpha.sqrt()
    )


@pytest.mark.parametrize("name", WITH_SIGNAL)
def test_coefficients_are_exact_to_rounding(name: str) -> None:
    schedule = named(name)
    gap, T = ode.ddim_coefficient_gap(schedule), schedule.T
    places = sorted({1, 2, T // 2, T - 1, T} & set(range(1, T + 1)))
    assert max(coefficients_are_exact(gap, schedule, t) for t in places) <= 1


def test_coefficients_by_subtraction_lose_digits() -> None:
    naive = by_subtraction(LINEAR)
    assert max(coefficients_are_exact(naive, LINEAR, t) for t in (2, 500, 1000)) > 1e3


@pytest.mark.parametrize("name", WITH_SIGNAL)
def test_the_ratio_lies_above_one_and_starts_at_two(name: str) -> None:
    schedule = named(name)
    gap, root = ode.ddim_coefficient_gap(schedule), (schedule.alpha_bar[1:] / schedule.alpha_bar[:-1]).sqrt()
    assert bool((gap.ratio > 1).all()) and bool((gap.gap > 0).all()) and bool((gap.state_gap > 0).all())
    assert bool((gap.ratio * root <= 2 * (1 + 8 * ULP)).all())
    assert misfit(gap.ratio[0], 2 / root[0], 2 / root[0], 8) <= 1
    # where β rises slower than the noise that is there, the two come closer
    assert schedule.T < 3 or float(gap.ratio[1]) < float(gap.ratio[0])


@given(levels(2, signal=True))
def test_the_difference_of_the_steps_is_the_formula(drawn: tuple[Schedule, tuple[int, int]]) -> None:
    schedule, (t, s) = drawn
    if depth(schedule, t, s) > 30:
        return
    x_t, score = tensors(2)
    eps = parameterization.eps_from_score(schedule, x_t, t, score)
    steps = ddim.step(schedule, x_t, t, s, eps), ode.vp_step(schedule, x_t, t, s, score)
    got = ode.ddim_step_gap(schedule, x_t, t, s, score)
    root = (schedule.alpha_bar[t] / schedule.alpha_bar[s]).sqrt()
    condition = (x_t.abs() + score.abs()) * (2 + 1 / root)
    assert misfit(steps[0] - steps[1], got, condition, 48 + 4 * depth(schedule, t, 0)) <= 1
    visible = float(schedule.beta[t]) > 1e-6
    assert (
        not visible or misfit(steps[0] - steps[1], 1.01 * got, condition, 48 + 4 * depth(schedule, t, 0)) > 1
    )


def leading_order(T: int, t_of: Callable[[int], int]) -> float:
    """The gap over its leading term β²(¼ + 1/(8(1−ᾱ))), at a level of a chain cut into T steps."""
    schedule = of_process(T)
    gap, t = ode.ddim_coefficient_gap(schedule), t_of(T)
    beta, lost = float(schedule.beta[t]), float(schedule.one_minus_alpha_bar[t])
    return float(gap.gap[t - 1]) / (beta**2 * (0.25 + 1 / (8 * lost)))


def of_process(T: int) -> Schedule:
    """A variance-preserving process at T equal times."""
    times = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    return from_log_alpha_bar(2 * VP(0.5, 4.0).log_scale(times))


def test_the_gap_is_of_second_order_but_of_first_at_the_first_step() -> None:
    inside = [abs(leading_order(T, lambda T: T // 2) - 1) for T in (100, 200, 400)]
    assert all(abs(math.log2(a / b) - 1) < 0.1 for a, b in pairwise(inside))
    first = [leading_order(T, lambda T: 1) for T in (100, 200, 400)]
    # ½β over β²(¼ + 1/(8β)) tends to 4, not to 1
    assert all(abs(value - 4) < 40 / T for value, T in zip(first, (100, 200, 400), strict=True))


def test_what_the_source_prints_is_off_by_its_index() -> None:
    """√α_i under 1 − ᾱ_{i+1} and ½β_i beside it: near the right numbers, and not them."""
    exact, alpha = ode.ddim_coefficient_gap(LINEAR), 1 - LINEAR.beta
    lost = LINEAR.one_minus_alpha_bar
    printed = lost[2:] / alpha[1:-1].sqrt() - (lost[1:-1] * lost[2:]).sqrt()
    off = (printed / exact.ddim[1:] - 1).abs()
    assert 0.0009 < float(off[-1]) < 0.0011 and float(off[0]) < 1e-4
    assert float((exact.half_beta[:-1] / exact.half_beta[1:] - 1).abs()[0]) > 0.16


# Both chains solve one ODE.


Step = Callable[[Schedule, Tensor, int, float], Tensor]


def ddim_step(schedule: Schedule, x: Tensor, t: int, spread: float) -> Tensor:
    return ddim.step(
        schedule,
        x,
        t,
        t - 1,
        parameterization.eps_from_score(schedule, x, t, score_of(schedule, x, t, spread)),
    )


def flow_step(schedule: Schedule, x: Tensor, t: int, spread: float) -> Tensor:
    return ode.vp_step(schedule, x, t, t - 1, score_of(schedule, x, t, spread))


def with_the_whole_of_beta(schedule: Schedule, x: Tensor, t: int, spread: float) -> Tensor:
    return ode.vp_step(schedule, x, t, t - 1, 2 * score_of(schedule, x, t, spread))


def score_of(schedule: Schedule, x: Tensor, t: int, spread: float) -> Tensor:
    return -x / (schedule.alpha_bar[t] * spread + schedule.one_minus_alpha_bar[t])


def end_error(step: Step, T: int, spread: float = 0.4) -> float:
    """How far the chain ends from the exact flow of centred Gaussian data, from level T to data."""
    schedule = of_process(T)
    x = torch.ones(1, 1, dtype=torch.float64)
    for t in range(T, 0, -1):
        x = step(schedule, x, t, spread)
    at_T = schedule.alpha_bar[T] * spread + schedule.one_minus_alpha_bar[T]
    return float(x - (spread / at_T).sqrt())


def test_both_chains_end_on_the_flow_with_order_one() -> None:
    for step in (ddim_step, flow_step):
        errors = [abs(end_error(step, T)) for T in (200, 400)]
        assert abs(math.log2(errors[0] / errors[1]) - 1) < 0.1
    assert abs(end_error(with_the_whole_of_beta, 400)) > 0.1


def local_error(step: Step, T: int, spread: float) -> float:
    """One step's error over β², half way."""
    schedule, t = of_process(T), T // 2
    x = torch.ones(1, 1, dtype=torch.float64)
    at = [float(schedule.alpha_bar[u] * spread + schedule.one_minus_alpha_bar[u]) for u in (t - 1, t)]
    return (float(step(schedule, x, t, spread)) - math.sqrt(at[0] / at[1])) / float(schedule.beta[t]) ** 2


@pytest.mark.parametrize("spread", [0.4, 2.5])
def test_one_step_errs_as_the_series_says(spread: float) -> None:
    T = 4000
    schedule = of_process(T)
    abar = float(schedule.alpha_bar[T // 2])
    v = 1 + (spread - 1) * abar
    expected = {
        ddim_step: -spread * abar / (8 * v**2 * (1 - abar)),
        flow_step: (1 + 2 * v - 2 * v**2) / (8 * v**2),
    }
    for step, value in expected.items():
        # what is left out is of the order of β, a few times 1/T, and rounding over β²
        assert abs(local_error(step, T, spread) - value) < 20 / T * (1 + 1 / (1 - abar)) ** 2
    assert abs(local_error(ddim_step, T, spread) - expected[flow_step]) > 0.02


def test_the_page_of_numbers_is_what_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ode_numbers.stale() == [], "run: python -m tools.ode_numbers"
    other = tmp_path / "ode.md"
    other.write_text(ode_numbers.PAGE.read_text().replace("1.195", "1.196"))
    monkeypatch.setattr(ode_numbers, "PAGE", other)
    assert ode_numbers.stale() == [other]


# The variance-exploding step.


def test_steps_in_sigma_and_in_its_square_differ_by_half_a_square() -> None:
    x, score = tensors(2)
    for high, low in ((5.0, 4.0), (1.0, 0.999), (0.01, 0.0)):
        by_noise = x - (high - low) * (-high * score)
        gap = by_noise - ode.ve_step(x, high, low, score)
        size = x.abs() + high**2 * score.abs()
        assert misfit(gap, (high - low) ** 2 / 2 * score, size, 16) <= 1
        # on the last step the difference is as large as the step itself
        assert low == 0 or misfit(gap, (high**2 - low**2) / 2 * score, size, 16) > 1


def test_the_exploding_step_is_an_euler_step_of_the_velocity() -> None:
    """With u = σ² for the time, v = −½·score; in the limit of small steps it is the ODE in any time."""
    x, score = tensors(2)
    sigma = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
    step = ode.ve_step(x, sigma, sigma * (1 - 1e-6), score)
    velocity = ode.drift(EDM(4.0), x, sigma, score)
    change = (step - x) / (-sigma * 1e-6)[:, None]
    assert float((change - velocity).abs().max()) < 2e-6 * 3 * float(score.abs().max()) + 1e6 * 8 * ULP * 4
    assert float((change - 2 * velocity).abs().max()) > 1e-3


# What every function keeps.


def test_dtype_and_device_are_those_of_the_state() -> None:
    for x in (torch.empty(2, 3, device="meta"), torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.float64)):
        t = torch.tensor([5, 900], device=x.device)
        for got in (ode.vp_step(LINEAR, x, 5, 3, x), ode.ddim_step_gap(LINEAR, x, t, t - 1, x)):
            assert (got.shape, got.dtype, got.device) == (x.shape, x.dtype, x.device)
    assert ode.ddim_coefficient_gap(LINEAR).gap.shape == (1000,)


X = torch.zeros(2, 3, dtype=torch.float64)
ZERO_SNR = named("jsd-10")
BAD: dict[str, tuple[str, Callable[[], object]]] = {
    "t": (r"t must lie in .*1000, got 1001", lambda: ode.vp_step(LINEAR, X, 1001, 3, X)),
    "s": (r"s must be below t = 3, got 3", lambda: ode.vp_step(LINEAR, X, 3, 3, X)),
    "score": (r"score must have the shape", lambda: ode.vp_step(LINEAR, X, 3, 2, X[:1])),
    "signal": (r"signal-to-noise ratio above 0", lambda: ode.ddim_step_gap(ZERO_SNR, X, 10, 9, X)),
    "schedule": (r"schedule must have .* above 0", lambda: ode.ddim_coefficient_gap(ZERO_SNR)),
}


@pytest.mark.parametrize(("message", "call"), BAD.values(), ids=BAD)
def test_bad_input_is_named(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=message):
        call()
