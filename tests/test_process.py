"""Continuous processes: drift and diffusion belong to scale and deviation; a law at a level is exact."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference_laws import misfit
from scipy.integrate import quad
from torch import Tensor

from refdiff import data, process, schedule, smld
from refdiff.process import (
    EDM,
    VE,
    VP,
    FromCoefficients,
    FromMarginals,
    Process,
    SteppedVE,
    SubVP,
    Transition,
    from_ladder,
    from_schedule,
    to_ladder,
    to_schedule,
)

PROCESSES = [VP(), VP(0.3, 7.0), SubVP(), VE(), VE(0.02, 30.0, from_clean=True), EDM(20.0)]
ULP = torch.finfo(torch.float64).eps


def mismatch(of: Process, drift: Tensor, diffusion_squared: Tensor, t: Tensor) -> Tensor:
    """In units of rounding: f against d log scale / dt, and g² against d var / dt - 2 f var."""
    t = t.clone().requires_grad_()
    (log_scale,) = torch.autograd.grad(of.log_scale(t).sum() + 0 * t.sum(), t)
    (growth,) = torch.autograd.grad(of.variance(t).sum(), t)
    variance = of.variance(t).detach()
    size = growth.abs() + 2 * (drift * variance).abs()
    left = (growth - 2 * drift * variance - diffusion_squared).abs() / (16 * ULP * size)
    return torch.cat([(log_scale - drift).abs() / (16 * ULP * (drift.abs() + 1)), left]).max()


@pytest.mark.parametrize("of", PROCESSES, ids=repr)
def test_drift_and_diffusion_are_those_of_the_marginals(of: Process) -> None:
    t = torch.linspace(0.01, 0.99, 23, dtype=torch.float64) * of.end
    f, g_squared = of.drift(t), of.diffusion_squared(t)
    assert mismatch(of, f, g_squared, t) <= 1
    assert mismatch(of, f, g_squared / 2, t) > 1


@pytest.mark.parametrize("of", PROCESSES, ids=repr)
def test_a_time_outside_is_refused(of: Process) -> None:
    with pytest.raises(ValueError, match=r"t must lie in 0\.\."):
        of.scale(-0.1)
    with pytest.raises(ValueError, match=r"t must lie in 0\.\."):
        of.std(torch.tensor([0.5 * of.end, 1.5 * of.end], dtype=torch.float64))
    with pytest.raises(ValueError, match="float64"):
        of.std(torch.tensor([0.5]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VP(0.0, 1.0), "beta_min must be above 0, got 0.0"),
        (lambda: VE(2.0, 1.0), "sigma_max must be above sigma_min = 2.0, got 1.0"),
        (lambda: EDM(float("nan")), "end must be finite, got nan"),
    ],
)
def test_bad_processes(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_a_law_at_a_level_is_that_of_a_schedule() -> None:
    from refdiff.schedule import linear

    law = data.MixtureLaw(
        torch.tensor([0.25, 0.75], dtype=torch.float64),
        torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64),
        torch.tensor([[[2.0, 0.5], [0.5, 1.0]], [[0.3, 0.1], [0.1, 0.2]]], dtype=torch.float64),
    )
    schedule, t = linear(1000), torch.tensor([1, 37, 999])
    x = torch.linspace(-3, 3, 6, dtype=torch.float64).reshape(3, 2)
    at = law.at(schedule.sqrt_alpha_bar[t], schedule.sqrt_one_minus_alpha_bar[t])
    pairs = [
        (at.log_prob(x), law.log_prob(schedule, x, t)),
        (at.score(x), law.score(schedule, x, t)),
        (at.eps(x), law.eps(schedule, x, t)),
        (at.x_0(x), law.posterior_mean(schedule, x, t)),
    ]
    for left, right in pairs:
        torch.testing.assert_close(left, right, rtol=1e3 * ULP, atol=0)
    assert not torch.allclose(law.at(at.scale**2, at.std).score(x), at.score(x))


def test_a_law_without_noise_returns_the_data() -> None:
    law = data.PointMass(torch.tensor([1.0, 2.0], dtype=torch.float64))
    x = torch.tensor([[2.0, 4.0]], dtype=torch.float64)
    assert torch.equal(law.at(2.0, 0.0).x_0(x), x / 2)
    assert torch.equal(law.at(2.0, 0.0).eps(x), torch.zeros_like(x))
    with pytest.raises(ValueError, match="std must be above 0 where the law has no density"):
        law.at(2.0, 0.0).score(x)
    with pytest.raises(ValueError, match=r"scale must be finite and above 0, got 0\.0"):
        law.at(0.0, 1.0)
    with pytest.raises(ValueError, match="std must be finite and at least 0"):
        law.at(1.0, -1.0)


def test_processes_on_meta() -> None:
    t = torch.empty(3, dtype=torch.float64, device="meta")
    for of in PROCESSES:
        assert of.log_snr(t).device.type == "meta" and of.diffusion(t).shape == (3,)
    assert process.VP().rate(0.5).shape == ()


# Steps between two times.

CHAIN = schedule.linear(40, 1e-3, 0.2)
LADDER = smld.geometric_sigmas(9.0, 0.05, 12)
TABLES = [from_schedule(CHAIN), from_ladder(LADDER)]
FUNCTIONS = [
    FromMarginals(lambda t: -t.sin(), lambda t: t.expm1()),
    FromCoefficients(lambda t: -1 - t.cos(), lambda t: 2 + t.sin()),
]
FRACTIONS = st.lists(st.floats(0, 1), min_size=3, max_size=3, unique=True).map(sorted)


def number(t: float) -> Tensor:
    return torch.tensor(t, dtype=torch.float64)


def integrated(of: Process, t: float, s: float) -> Transition:
    """Factor and variance by adaptive quadrature of the coefficients."""
    f = lambda u: float(of.drift(number(u)))  # noqa: E731
    kept = lambda u: math.exp(2 * quad(f, u, t)[0]) * float(of.diffusion_squared(number(u)))  # noqa: E731
    return Transition(number(math.exp(quad(f, s, t)[0])), number(quad(kept, s, t, epsrel=1e-10)[0]))


def unscaled(of: Process, t: float, s: float) -> Transition:
    """The difference of the variances, as if the noise at s were not scaled."""
    return Transition(of.transition(t, s).factor, of.variance(t) - of.variance(s))


def apart(got: Transition, expected: Transition) -> float:
    return float(max((got.factor / expected.factor - 1).abs(), (got.variance / expected.variance - 1).abs()))


@pytest.mark.parametrize("of", [*PROCESSES, *FUNCTIONS], ids=lambda of: type(of).__name__)
def test_a_transition_is_what_drift_and_diffusion_make_of_it(of: Process) -> None:
    t, s = 0.8 * of.end, 0.3 * of.end
    # quadrature stops at a relative error of 1e-10
    assert apart(of.transition(t, s), integrated(of, t, s)) < 1e-9
    scaled = float(of.transition(t, s).factor) != 1
    assert (apart(unscaled(of, t, s), integrated(of, t, s)) > 1e-3) == scaled


@given(FRACTIONS, st.sampled_from([*PROCESSES, *TABLES, *FUNCTIONS]))
def test_two_transitions_are_one(times: list[float], of: Process) -> None:
    s, r, t = (of.end * u for u in times)
    whole, first, second = of.transition(t, s), of.transition(r, s), of.transition(t, r)
    # a time is off by its own rounding, which a short step magnifies; quadrature adds some ulp of its own
    short = ULP * of.end / min(t - r, r - s)
    size = second.factor**2 * first.variance + second.variance
    tolerance = 512 * ULP + 8 * short + 64 * ULP * float(of.variance(t) / size)
    joined = Transition(first.factor * second.factor, size)
    assert apart(joined, whole) <= tolerance
    late = Transition(joined.factor, first.variance + second.factor**2 * second.variance)
    if abs(float(second.factor) - 1) > 1e-3 and abs(float(first.variance / second.variance) - 1) > 1e-3:
        assert apart(late, whole) > 1e-9


def short_step(of: Process, add: object) -> float:
    """In units of its tolerance: the variance of a step of a billionth of the time, against 50 digits."""
    t = number(0.5 * of.end)
    s = t - 2.0**-30 * of.end
    with mpmath.workdps(50):
        late, early = mpmath.mpf(float(t)), mpmath.mpf(float(s))
        want = {
            VP: lambda: -mpmath.expm1(total(of, early) - total(of, late)),
            SubVP: lambda: (
                mpmath.expm1(total(of, early) - total(of, late))
                * mpmath.expm1(-total(of, late) - total(of, early))
            ),
            VE: lambda: level(of, late) ** 2 - level(of, early) ** 2,
            EDM: lambda: late**2 - early**2,
        }[type(of)]()
        want = float(want)
    # a dozen operations, and the argument of the exponential is up to 20
    return misfit(add(of, t, s), want, want, 64)  # type: ignore[operator]


def total(of: Process, t: mpmath.mpf) -> mpmath.mpf:
    assert isinstance(of, VP)
    low, high = mpmath.mpf(of.beta_min), mpmath.mpf(of.beta_max)
    return low * t + (high - low) * t**2 / 2


def level(of: Process, t: mpmath.mpf) -> mpmath.mpf:
    assert isinstance(of, VE)
    return of.sigma_min * (mpmath.mpf(of.sigma_max) / mpmath.mpf(of.sigma_min)) ** t


@pytest.mark.parametrize("of", PROCESSES, ids=repr)
def test_a_short_step_keeps_its_digits(of: Process) -> None:
    assert short_step(of, lambda of, t, s: of.transition(t, s).variance) <= 1
    assert short_step(of, Process._added) > 1  # the difference of two variances


@pytest.mark.parametrize("of", PROCESSES, ids=repr)
def test_marginals_give_coefficients_and_coefficients_give_marginals(of: Process) -> None:
    t = torch.linspace(0.05, 1, 20, dtype=torch.float64) * of.end
    by_marginals = FromMarginals(of.log_scale, of.variance, of.end)
    g_squared, f = of.diffusion_squared(t), of.drift(t)
    size = g_squared + 4 * f.abs() * of.variance(t)
    assert misfit(by_marginals.drift(t), f, f.abs() + 1, 16) <= 1
    assert misfit(by_marginals.diffusion_squared(t), g_squared, size, 32) <= 1
    by_coefficients = FromCoefficients(of.drift, of.diffusion_squared, of.end)
    start = of.variance(torch.zeros_like(t)) * of.scale(t) ** 2
    # a sum of 64 nodes of exponentials whose arguments are up to 20
    assert misfit(by_coefficients.variance(t) + start, of.variance(t), of.variance(t), 256) <= 1
    assert misfit(by_coefficients.scale(t), of.scale(t), of.scale(t), 64) <= 1
    doubled = FromCoefficients(of.drift, lambda u: 2 * of.diffusion_squared(u), of.end)
    assert misfit(doubled.variance(t) + start, of.variance(t), of.variance(t), 256) > 1


# Chains.


@pytest.mark.parametrize("name", ["linear", "cosine", "sigmoid_alpha_bar"])
def test_a_chain_is_its_process_at_its_levels_and_back(name: str) -> None:
    chain = getattr(schedule, name)(200)
    of, T = from_schedule(chain), chain.T
    levels = torch.arange(T + 1, dtype=torch.float64)
    factor, variance = of.transition(levels[1:] / T, levels[:-1] / T)
    beta = chain.beta[1:]
    # the time i/T is rounded: an error of i ulp of a step
    assert misfit(variance, beta, beta, 8 + 4 * T) <= 1
    assert misfit(factor, (1 - beta).sqrt(), 1 / (1 - beta), 8 + 4 * T) <= 1
    assert misfit(of.scale(levels / T), chain.sqrt_alpha_bar, chain.sqrt_alpha_bar, 40) <= 1
    back = to_schedule(of, levels / T).beta[1:]
    assert misfit(back, beta, beta, 8 + 64 * T) <= 1
    # the rate of the source is beta over the step, which is its limit only
    first_order = -torch.expm1(-beta)
    assert misfit(first_order, beta, beta, 8 + 4 * T) > 1


def test_a_ladder_is_its_process_at_its_levels_and_back() -> None:
    of, L = from_ladder(LADDER), len(LADDER)
    levels = torch.arange(L + 1, dtype=torch.float64)
    assert misfit(of.std(levels[1:] / L), LADDER.flip(0), LADDER.flip(0), 8) <= 1
    assert of.std(0.0) == 0
    squares = torch.cat([torch.zeros(1, dtype=torch.float64), LADDER.flip(0) ** 2])
    assert (
        misfit(of.transition(levels[1:] / L, levels[:-1] / L).variance, squares.diff(), squares[1:], 32) <= 1
    )
    assert misfit(to_ladder(of, levels[1:] / L), LADDER, LADDER, 16) <= 1
    assert misfit(to_ladder(of, levels[1:] / L), LADDER.flip(0), LADDER, 16) > 1
    assert float(of.transition(1.0, 0.0).variance) == pytest.approx(81.0, rel=16 * ULP)


def test_a_rate_is_constant_between_levels() -> None:
    of, T = from_schedule(CHAIN), CHAIN.T
    inside = torch.tensor([3.1, 3.5, 4.0], dtype=torch.float64) / T
    want = -T * torch.log1p(-CHAIN.beta[4])
    assert misfit(of.rate(inside), want.expand(3), want, 4) <= 1
    assert of.rate(4.1 / T) != want
    slope = (of.log_scale(3.9 / T) - of.log_scale(3.2 / T)) / (0.7 / T)
    assert misfit(of.drift(3.3 / T), slope, slope, 200) <= 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VP().transition(0.2, 0.5), r"s must be below t = 0\.2, got 0\.5"),
        (lambda: VP().transition(0.5, 0.5), r"s must be below t = 0\.5"),
        (lambda: VP().transition(torch.ones(2, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)),
         "s must have the shape of t"),
        (lambda: from_schedule(schedule.zero_terminal_snr(CHAIN)), "alpha_bar_T = 0"),
        (lambda: from_ladder(torch.tensor([1.0, 2.0], dtype=torch.float64)), "sigmas must be above 0"),
        (lambda: from_ladder(torch.tensor([2.0, 1.0])), "sigmas must be float64"),
        (lambda: to_schedule(VE(), torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)), "process must keep"),
        (lambda: to_schedule(VP(), torch.tensor([0.1, 0.5], dtype=torch.float64)), "times must begin at 0"),
        (lambda: to_ladder(VP(), torch.tensor([0.5, 0.1], dtype=torch.float64)), "times must ascend"),
        (lambda: to_ladder(VP(), torch.tensor([0.5])), "times must be float64 of shape"),
        (lambda: FromCoefficients(torch.sin, torch.cos, panels=0), "panels must be at least 1"),
        (lambda: FromMarginals(torch.sin, torch.cos, end=-1.0), r"end must be above 0, got -1\.0"),
    ],
)  # fmt: skip
def test_bad_transitions_and_tables(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_transitions_on_meta() -> None:
    t = torch.empty(3, dtype=torch.float64, device="meta")
    for of in (*PROCESSES, *TABLES, *FUNCTIONS):
        factor, variance = of.transition(t, t)
        assert factor.device.type == variance.device.type == "meta"
        assert factor.shape == variance.shape == (3,)
    assert isinstance(TABLES[1], SteppedVE)
