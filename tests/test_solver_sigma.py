"""The laws of the solvers in σ, EDM among them, each with a broken form that it rejects."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference_laws import levels, misfit, tensors
from torch import Tensor

from refdiff import ddim
from refdiff.data import MixtureLaw
from refdiff.schedule import Schedule
from refdiff.solver import (
    EULER,
    HEUN,
    HEUN_3,
    KUTTA_3,
    MIDPOINT,
    PLMS,
    RALSTON,
    RK4,
    RK_38,
    SOLVERS,
    AdamsBashforth,
    AncestralEuler,
    EDMHeun,
    Levels,
    NoiseLevel,
    Preconditioning,
    RungeKutta,
    Tableau,
    adams_bashforth_weights,
    ancestral_coefficients,
    ancestral_deviations,
    churn_factor,
    churned,
    churned_deviation,
    edm_denoiser,
    edm_loss_weight,
    edm_target,
    eps_from_denoiser,
    karras_levels,
    plms_combination,
    precondition,
    second_order,
)

SIGMAS = st.floats(1e-3, 100)
DEVIATIONS = st.floats(0.05, 20)
MINE = ("euler", "midpoint", "heun", "kutta_3", "rk4", "lms_2", "lms_4", "plms", "plms_heun",
        "euler_ancestral", "edm_churn")  # fmt: skip
LAW = MixtureLaw(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-1.0, 0.5], [1.25, 0.0]], dtype=torch.float64),
    torch.tensor([[[0.2, 0.1], [0.1, 0.3]], [[0.5, -0.2], [-0.2, 0.4]]], dtype=torch.float64),
)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def perfect(x: Tensor, scale: Tensor, std: Tensor) -> Tensor:
    return LAW.at(scale, std).eps(x)


def vp(sigma: Tensor) -> NoiseLevel:
    return NoiseLevel(1 / (1 + sigma**2).sqrt(), sigma / (1 + sigma**2).sqrt())


def noises(count: int, x: Tensor) -> list[Tensor]:
    found = tensors(count + 1, tuple(x.shape), x.dtype, seed=7)
    return list(found[:count])


# Laws: each returns the error in units of its derived tolerance, so 1 is the limit.


def four_points(sigma: float, sigma_data: float) -> tuple[Tensor, Tensor]:
    """Data ±σ_data and noise ±1, each pair as likely: they have the two moments that matter."""
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=2)), dtype=torch.float64)
    return sigma_data * signs[:, :1], signs[:, 1:]


def moments_are_unit(condition: Callable[..., Preconditioning], sigma: float, sigma_data: float) -> float:
    """Inputs and targets have variance 1 and nothing in common."""
    x_0, eps = four_points(sigma, sigma_data)
    c = condition(sigma, sigma_data)
    y = x_0 + sigma * eps
    scaled, target = c.c_in * y, (x_0 - c.c_skip * y) / c.c_out
    one = torch.ones((), dtype=torch.float64)
    # what is left of x_0 is small against it for little noise
    lost = 1 + sigma_data / sigma + sigma / sigma_data
    return max(
        misfit((scaled**2).mean(), one, one, 16),
        misfit((target**2).mean(), one, lost, 32),
        misfit((target * scaled).mean(), 0.0, lost, 32),
    )


def with_swapped_weights(sigma: float, sigma_data: float) -> Preconditioning:
    c = precondition(sigma, sigma_data)
    return replace(c, c_skip=c.c_out, c_out=c.c_skip)


def for_unit_data(sigma: float, sigma_data: float) -> Preconditioning:
    return precondition(sigma, 1.0)


def roots_are_equally_far_apart(
    build: Callable[..., Levels], sigma_min: float, sigma_max: float, N: int, rho: float
) -> float:
    got = build(sigma_min, sigma_max, N, rho).sigma
    with mpmath.workdps(50):
        first, last = (mpmath.mpf(end) ** (1 / mpmath.mpf(rho)) for end in (sigma_max, sigma_min))
        exact = [(first + mpmath.mpf(i) / (N - 1) * (last - first)) ** mpmath.mpf(rho) for i in range(N)]
        expected = torch.tensor([float(value) for value in [*exact, 0]], dtype=torch.float64)
    # the exponent is a log of the ratio of the ends, of some roundings each
    return misfit(got, expected, expected * (1 + math.log(sigma_max / sigma_min)), 16)


def with_one_level_less(sigma_min: float, sigma_max: float, N: int, rho: float) -> Levels:
    sigma = karras_levels(sigma_min, sigma_max, N + 1, rho).sigma
    sigma = torch.cat([sigma[:N], sigma[-1:]])
    return Levels(torch.ones_like(sigma), sigma, "ve")


def repeated_smallest(sigma_min: float, sigma_max: float, N: int, rho: float) -> Levels:
    found = karras_levels(sigma_min, sigma_max, N, rho)
    return Levels(found.scale, torch.cat([found.sigma[:-1], found.sigma[-2:-1] * (1 - 1e-12)]), "ve")


def polynomials_are_integrated(
    weigh: Callable[[Tensor, Tensor], Tensor], sigma: Tensor, fall_to: Tensor
) -> float:
    """The weights give the mean over the step of every power below their number."""
    got = weigh(sigma, fall_to)
    worst = 0.0
    with mpmath.workdps(40):
        places = [mpmath.mpf(float(s)) - mpmath.mpf(float(sigma[0])) for s in sigma]
        h = mpmath.mpf(float(fall_to)) - mpmath.mpf(float(sigma[0]))
        for k in range(len(sigma)):
            terms = [mpmath.mpf(float(w)) * (p / h) ** k for w, p in zip(got, places, strict=True)]
            error = abs(mpmath.fsum(terms) - mpmath.mpf(1) / (k + 1))
            # a dozen roundings in a weight, two in each place
            allowed = 64 * torch.finfo(torch.float64).eps * mpmath.fsum(abs(term) for term in terms)
            worst = max(worst, float(error / allowed))
    return worst


def in_log_sigma(sigma: Tensor, fall_to: Tensor) -> Tensor:
    return adams_bashforth_weights(sigma.log(), fall_to.log())


def of_equal_steps(sigma: Tensor, fall_to: Tensor) -> Tensor:
    return adams_bashforth_weights(torch.arange(len(sigma)).double(), number(-1.0))


Step = Callable[[NoiseLevel, NoiseLevel, float], tuple[Tensor, Tensor, Tensor]]


def ancestral_is_ddim(step: Step, schedule: Schedule, t: int, s: int, eta: float) -> float:
    above, below = (
        NoiseLevel(schedule.sqrt_alpha_bar[n], schedule.sqrt_one_minus_alpha_bar[n]) for n in (t, s)
    )
    on_x, on_eps, on_noise = step(above, below, eta)
    expected = ddim.step_coefficients(schedule, t, s, eta)
    # the fall of σ is a difference of two levels, and so are their squares
    relative = above.sigma / (above.sigma - below.sigma)
    size = on_x * above.std + below.std
    return max(
        misfit(on_x, expected.x_t, expected.x_t, 16),
        misfit(on_eps, expected.eps, size, 64),
        misfit(on_noise, expected.noise, expected.noise * relative, 64),
    )


def noise_on_top(t: NoiseLevel, s: NoiseLevel, eta: float) -> tuple[Tensor, Tensor, Tensor]:
    on_x, _, on_noise = ancestral_coefficients(t, s, eta)
    return on_x, s.scale * (s.sigma - t.sigma), on_noise


def forward_noise(t: NoiseLevel, s: NoiseLevel, eta: float) -> tuple[Tensor, Tensor, Tensor]:
    on_x, on_eps, _ = ancestral_coefficients(t, s, eta)
    return on_x, on_eps, eta * s.scale * (t.sigma**2 - s.sigma**2).sqrt()


# The network of EDM.


@given(SIGMAS, DEVIATIONS)
def test_inputs_and_targets_of_the_network_have_unit_variance(sigma: float, sigma_data: float) -> None:
    assert moments_are_unit(precondition, sigma, sigma_data) <= 1


@pytest.mark.parametrize("broken", [with_swapped_weights, for_unit_data])
def test_other_weights_of_the_network_are_seen(broken: Callable[..., Preconditioning]) -> None:
    assert moments_are_unit(broken, 0.75, 0.5) > 1


@given(SIGMAS, DEVIATIONS)
def test_a_network_that_says_its_target_predicts_the_data(sigma: float, sigma_data: float) -> None:
    x_0, eps = tensors(2)
    x_0 = sigma_data * x_0
    said = edm_target(x_0, eps, sigma, sigma_data)
    got = edm_denoiser(lambda scaled, label: said, x_0 + sigma * eps, sigma, sigma_data)
    condition = x_0.abs() + (sigma_data * eps).abs() + precondition(sigma, sigma_data).c_skip * sigma
    assert misfit(got, x_0, condition, 32) <= 1
    broken = edm_denoiser(lambda scaled, label: -said, x_0 + sigma * eps, sigma, sigma_data)
    assert misfit(broken, x_0, condition, 32) > 1


@given(SIGMAS, DEVIATIONS)
def test_the_loss_weighs_the_error_of_the_network_by_one(sigma: float, sigma_data: float) -> None:
    c_out = precondition(sigma, sigma_data).c_out
    assert misfit(edm_loss_weight(sigma, sigma_data) * c_out**2, 1.0, 1.0, 16) <= 1
    unit = (sigma**2 + 1) / sigma**2
    assert abs(sigma_data - 1) < 1e-12 or misfit(unit * c_out**2, 1.0, 1.0, 16) > 1


def test_the_label_and_the_input_reach_the_network() -> None:
    sigma = torch.tensor([0.5, 2.0], dtype=torch.float64)
    y = torch.ones(2, 3, dtype=torch.float64)
    seen: list[tuple[Tensor, Tensor]] = []

    def network(scaled: Tensor, label: Tensor) -> Tensor:
        seen.append((scaled, label))
        return scaled

    edm_denoiser(network, y, sigma)
    ((scaled, label),) = seen
    assert torch.allclose(label, sigma.log() / 4, rtol=1e-15)
    assert torch.allclose(scaled[:, 0], 1 / (sigma**2 + 0.25).sqrt(), rtol=1e-15)


@given(st.floats(0.05, 20), st.floats(0.1, 1))
def test_noise_predicted_through_a_denoiser_is_that_of_the_law(sigma: float, scale: float) -> None:
    model = eps_from_denoiser(lambda y, at: LAW.at(1.0, at).x_0(y))
    x = scale * (1 + sigma) * tensors(1)
    got, expected = (m(x, number(scale), number(scale * sigma)) for m in (model, perfect))
    # the data are subtracted from the state and the rest divided by the level
    condition = (x.abs() / scale + 4) / sigma + expected.abs()
    assert misfit(got, expected, condition, 64) <= 1
    assert misfit(model(x, number(scale), number(sigma)), expected, condition, 64) > 1 or scale > 0.999


# Levels.


@given(st.floats(1e-3, 0.5), st.floats(1, 200), st.integers(2, 40), st.floats(0.3, 60))
def test_the_roots_of_the_levels_are_equally_far_apart(low: float, high: float, N: int, rho: float) -> None:
    assert roots_are_equally_far_apart(karras_levels, low, high, N, rho) <= 1


@pytest.mark.parametrize("broken", [with_one_level_less, repeated_smallest])
def test_other_levels_are_seen(broken: Callable[..., Levels]) -> None:
    assert roots_are_equally_far_apart(broken, 0.02, 80.0, 18, 7.0) > 1


def test_levels_end_at_what_was_asked() -> None:
    sigma = karras_levels(0.02, 80.0, 18).sigma
    assert sigma[0] == 80 and sigma[-2] == 0.02 and sigma[-1] == 0 and len(sigma) == 19
    assert torch.equal(karras_levels(0.02, 80.0, 18, to_data=False).sigma, sigma[:-1])


def test_levels_lie_between_equal_differences_and_equal_ratios() -> None:
    linear = torch.linspace(8, 0.5, 11, dtype=torch.float64)
    geometric = torch.logspace(3, -1, 11, 2, dtype=torch.float64)
    assert torch.allclose(karras_levels(0.5, 8, 11, 1.0, to_data=False).sigma, linear, rtol=1e-14)
    # the distance falls with 1/ρ
    far = [
        (karras_levels(0.5, 8, 11, rho, to_data=False).sigma - geometric).abs().max() for rho in (1e4, 2e4)
    ]
    assert far[0] < 1e-2 and abs(far[0] / far[1] - 2) < 1e-3


# Churn.


@given(SIGMAS, st.floats(0, 1), st.floats(0.5, 1.5))
def test_churn_adds_variances(sigma: float, gamma: float, S_noise: float) -> None:
    y, noise = four_points(sigma, 1.0)
    y = sigma * y
    got = (churned(y, number(sigma), number(gamma), noise, S_noise) ** 2).mean()
    expected = churned_deviation(number(sigma), number(gamma), S_noise) ** 2
    assert misfit(got, expected, expected, 24) <= 1
    whole = ((1 + gamma) * sigma) ** 2
    told = misfit(expected, whole, whole, 24)
    assert told <= 1 if S_noise == 1 else told > 1 or gamma < 1e-9 or abs(S_noise - 1) < 1e-9
    by_gamma = (churned(y, number(sigma), number(gamma), gamma * noise, S_noise) ** 2).mean()
    assert misfit(by_gamma, expected, expected, 24) > 1 or gamma < 1e-9 or gamma == 1


def test_churn_is_shared_bounded_and_kept_to_its_window() -> None:
    sigma = torch.tensor([60.0, 50.0, 1.0, 0.05, 0.04], dtype=torch.float64)
    got = churn_factor(sigma, 100, 30.0, 0.05, 50.0)
    assert torch.equal(got, torch.tensor([0, 0.3, 0.3, 0.3, 0], dtype=torch.float64))
    assert torch.equal(churn_factor(sigma, 10, 30.0), torch.full_like(sigma, math.sqrt(2) - 1))
    # no more new noise than there is
    raised = 1 + churn_factor(sigma, 1, 1e9)
    assert misfit(raised**2, 2.0, 2.0, 4) <= 1


def test_without_churn_the_sampler_is_heuns() -> None:
    levels_, x = karras_levels(0.05, 5, 6), 5 * tensors(1)
    assert torch.equal(
        EDMHeun(S_churn=0.0).sample(perfect, x, levels_), SOLVERS["heun"].sample(perfect, x, levels_)
    )
    outside = EDMHeun(S_churn=4.0, S_tmin=6.0)
    assert torch.equal(outside.sample(perfect, x, levels_), SOLVERS["heun"].sample(perfect, x, levels_))


# Ancestral steps.


@given(levels(2, lowest=1, signal=True), st.floats(0, 1))
def test_an_ancestral_step_is_one_of_the_ddim_family(
    drawn: tuple[Schedule, tuple[int, int]], eta: float
) -> None:
    schedule, (t, s) = drawn
    if float(schedule.log_alpha_bar[t]) > -100:
        assert ancestral_is_ddim(ancestral_coefficients, schedule, t, s, eta) <= 1


@pytest.mark.parametrize("broken", [noise_on_top, forward_noise])
def test_other_ancestral_steps_are_seen(broken: Step) -> None:
    from refdiff.schedule import linear

    assert ancestral_is_ddim(broken, linear(1000), 500, 400, 0.7) > 1


@given(SIGMAS, st.floats(0.01, 0.99), st.floats(0, 1))
def test_the_two_parts_of_an_ancestral_step_make_up_its_level(sigma: float, ratio: float, eta: float) -> None:
    t, s = vp(number(sigma)), vp(number(sigma * ratio))
    down, up = ancestral_deviations(t, s, eta)
    assert misfit(down**2 + up**2, s.sigma**2, s.sigma**2, 32) <= 1
    assert misfit(down + up, s.sigma, s.sigma, 32) > 1 or eta < 1e-6


@given(SIGMAS, st.floats(0.01, 0.99), DEVIATIONS)
def test_an_ancestral_step_narrows_gaussian_data_by_its_defect(
    sigma: float, ratio: float, deviation: float
) -> None:
    c = deviation**2
    t, s = (NoiseLevel(number(1.0), number(value)) for value in (sigma, sigma * ratio))
    _, on_eps, on_noise = ancestral_coefficients(t, s)
    slope = 1 + on_eps * t.sigma / (c + t.sigma**2)
    variance = slope**2 * (c + t.sigma**2) + on_noise**2
    gap = (t.sigma - s.sigma) * (t.sigma + s.sigma)
    defect = -c * gap**2 / (t.sigma**2 * (c + t.sigma**2))
    assert misfit(variance, c + s.sigma**2 + defect, c + t.sigma**2, 64) <= 1
    assert misfit(variance, c + s.sigma**2, c + t.sigma**2, 64) > 1 or abs(defect) < 1e-9 * (c + sigma**2)


# Runge–Kutta.


def conditions(a: Tableau) -> dict[int, list[Fraction]]:
    """What is left of Butcher's conditions, by order."""
    b, c, s = a.weights, a.nodes, range(len(a.weights))
    A = [[*row, *[Fraction(0)] * (len(b) - len(row))] for row in a.matrix]
    Ac = [sum((A[i][j] * c[j] for j in s), Fraction(0)) for i in s]
    Acc = [sum((A[i][j] * c[j] ** 2 for j in s), Fraction(0)) for i in s]
    AAc = [sum((A[i][j] * Ac[j] for j in s), Fraction(0)) for i in s]

    def rest(values: list[Fraction], wanted: Fraction) -> Fraction:
        return sum((w * v for w, v in zip(b, values, strict=True)), Fraction(0)) - wanted

    F = Fraction
    return {
        1: [rest([F(1)] * len(b), F(1))],
        2: [rest(list(c), F(1, 2))],
        3: [rest([k**2 for k in c], F(1, 3)), rest(Ac, F(1, 6))],
        4: [rest([k**3 for k in c], F(1, 4)), rest([k * d for k, d in zip(c, Ac, strict=True)], F(1, 8)),
            rest(Acc, F(1, 12)), rest(AAc, F(1, 24))],
    }  # fmt: skip


TABLEAUS = {
    "euler": (EULER, 1), "midpoint": (MIDPOINT, 2), "heun": (HEUN, 2), "ralston": (RALSTON, 2),
    "kutta_3": (KUTTA_3, 3), "heun_3": (HEUN_3, 3), "rk4": (RK4, 4), "rk_38": (RK_38, 4),
    "node": (second_order(Fraction(3, 7)), 2),
}  # fmt: skip


def test_tableaus_meet_the_conditions_of_their_order_and_not_of_the_next() -> None:
    for tableau, order in TABLEAUS.values():
        found = conditions(tableau)
        assert not any(itertools.chain.from_iterable(found[k] for k in range(1, order + 1)))
        assert order == 4 or any(found[order + 1])
    assert any(conditions(Tableau(RK4.matrix, (*RK4.weights[1:], RK4.weights[0])))[2])


def test_heuns_step_is_that_of_edm() -> None:
    """Algorithm 1 of the paper, by the data predicted at both ends, and Euler's step to data."""
    levels_, x = karras_levels(0.05, 5, 5), 5 * tensors(1)
    expected = x
    for t, s in itertools.pairwise(levels_.sigma):
        d = (expected - LAW.at(1.0, t).x_0(expected)) / t
        moved = expected + (s - t) * d
        if s > 0:
            later = (moved - LAW.at(1.0, s).x_0(moved)) / s
            moved = expected + (s - t) * (d + later) / 2
        expected = moved
    got = RungeKutta("heun", 2, HEUN).sample(perfect, x, levels_)
    # data are subtracted from states and divided by levels down to 0.05
    assert misfit(got, expected, 5 / 0.05, 64) <= 1
    assert misfit(SOLVERS["euler"].sample(perfect, x, levels_), expected, 5 / 0.05, 64) > 1


def test_eulers_step_is_ddim() -> None:
    levels_, x = karras_levels(0.05, 5, 5), 5 * tensors(1)
    got, expected = (SOLVERS[name].sample(perfect, x, levels_) for name in ("euler", "ddim"))
    assert misfit(got, expected, 5.0, 256) <= 1
    assert misfit(SOLVERS["heun"].sample(perfect, x, levels_), expected, 5.0, 256) > 1


# Adams–Bashforth.

STEPS = st.lists(st.floats(0.05, 3), min_size=2, max_size=5)


@given(STEPS, st.floats(0, 2))
def test_weights_integrate_polynomials_exactly(gaps: list[float], low: float) -> None:
    rising = torch.tensor([low, *gaps], dtype=torch.float64).cumsum(0)
    assert polynomials_are_integrated(adams_bashforth_weights, rising[1:], rising[0]) <= 1


@pytest.mark.parametrize("broken", [in_log_sigma, of_equal_steps])
def test_weights_of_another_variable_are_seen(broken: Callable[[Tensor, Tensor], Tensor]) -> None:
    sigma = torch.tensor([1.0, 1.5, 2.75], dtype=torch.float64)
    assert polynomials_are_integrated(broken, sigma, number(0.5)) > 1


def test_on_equal_steps_the_weights_are_those_of_plms() -> None:
    sigma = torch.tensor([1.0, 1.5, 2.0, 2.5], dtype=torch.float64)
    eps = tensors(4)
    got = plms_combination(eps)
    weights = adams_bashforth_weights(sigma, number(0.5))
    expected = sum(w * e for w, e in zip(weights, eps, strict=True))
    assert misfit(got, expected, 8.0, 32) <= 1
    other = adams_bashforth_weights(sigma**2, number(0.25))
    assert misfit(got, sum(w * e for w, e in zip(other, eps, strict=True)), 8.0, 32) > 1
    assert torch.allclose(weights * 24, number(1) * torch.tensor([55, -59, 37, -9]), rtol=1e-14)


def test_a_multistep_method_with_one_prediction_is_eulers() -> None:
    levels_, x = karras_levels(0.05, 5, 5), 5 * tensors(1)
    got = AdamsBashforth("lms_1", 1).sample(perfect, x, levels_)
    assert misfit(got, SOLVERS["euler"].sample(perfect, x, levels_), 5.0, 64) <= 1


def test_plms_asks_the_model_as_often_as_pndm_says() -> None:
    levels_, x = karras_levels(0.05, 5, 8), 5 * tensors(1)
    for warm_up, expected in (("rk4", 3 * 4 + 5), ("heun", 2 + 7)):
        asked: list[Tensor] = []

        def model(x: Tensor, scale: Tensor, std: Tensor, asked: list[Tensor] = asked) -> Tensor:
            asked.append(std)
            return perfect(x, scale, std)

        PLMS(warm_up=warm_up).sample(model, x, levels_)  # type: ignore[arg-type]
        assert len(asked) == expected


# All of them.


@pytest.mark.parametrize("name", MINE)
def test_a_sample_does_not_depend_on_the_space(name: str) -> None:
    sigma = karras_levels(0.1, 5, 6, to_data=False).sigma
    scale = 1 / (1 + sigma**2).sqrt()
    plain, scaled = Levels(torch.ones_like(sigma), sigma, "ve"), Levels(scale, scale * sigma, "vp")
    x = 5 * tensors(1)
    draws = noises(len(sigma), x)
    got = SOLVERS[name].sample(perfect, scale[0] * x, scaled, draws) / scale[-1]
    # a few dozen roundings of states up to 10 a step, and weights up to 4
    assert misfit(got, SOLVERS[name].sample(perfect, x, plain, draws), 40.0, 256) <= 1
    broken = SOLVERS[name].sample(perfect, x, scaled, draws) / scale[-1]
    assert misfit(broken, SOLVERS[name].sample(perfect, x, plain, draws), 40.0, 256) > 1


@pytest.mark.parametrize("name", ["euler", "heun", "rk4", "euler_ancestral"])
def test_the_step_to_no_noise_gives_the_predicted_data(name: str) -> None:
    last = torch.tensor([0.8, 0.0], dtype=torch.float64)
    x = tensors(1)
    got = SOLVERS[name].sample(perfect, x, Levels(torch.ones_like(last), last))
    assert misfit(got, LAW.at(1.0, 0.8).x_0(x), 4.0, 64) <= 1
    assert misfit(got, x, 4.0, 64) > 1


@pytest.mark.parametrize("name", MINE)
def test_dtype_and_device_are_those_of_the_state(name: str) -> None:
    levels_ = karras_levels(0.1, 5, 6)
    for x in (tensors(1, dtype=torch.float32), torch.empty(3, 2, device="meta")):
        draws = [torch.zeros_like(x) for _ in range(6)]
        got = SOLVERS[name].sample(lambda x, scale, std: 0.5 * x, x, levels_, draws)
        assert (got.dtype, got.device, got.shape) == (x.dtype, x.device, x.shape)


@pytest.mark.parametrize("name", MINE)
def test_float32_is_float64_rounded(name: str) -> None:
    levels_ = karras_levels(0.1, 5, 6)
    x = 5 * tensors(1, dtype=torch.float32)
    draws = noises(7, x)
    got = SOLVERS[name].sample(perfect, x, levels_, draws)
    expected = SOLVERS[name].sample(perfect, x.double(), levels_, [draw.double() for draw in draws])
    assert misfit(got, expected, 40.0, 256) <= 1
    assert not torch.equal(got.double(), expected)


X = torch.zeros(2, 3, dtype=torch.float64)
THREE = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
AT = NoiseLevel(number(1.0), number(2.0)), NoiseLevel(number(1.0), number(1.0))
BAD: dict[str, tuple[str, Callable[[], object]]] = {
    "sigma zero": (r"sigma must be above 0 and finite, got 0", lambda: precondition(0.0)),
    "sigma float32": (r"sigma must be float64", lambda: precondition(torch.ones(2))),
    "sigma NaN": (r"sigma must be above 0 and finite, got nan", lambda: edm_loss_weight(math.nan)),
    "sigma_data": (r"sigma_data must be above 0, got -0.5", lambda: precondition(1.0, -0.5)),
    "batch of sigma": (r"sigma must be", lambda: edm_target(X, X, THREE)),
    "network": (r"network must have the shape", lambda: edm_denoiser(lambda y, c: y[:1], X, 1.0)),
    "levels swapped": (r"sigma_max must be above sigma_min = 2", lambda: karras_levels(2.0, 1.0, 5)),
    "one level": (r"N must be at least 2, got 1", lambda: karras_levels(0.1, 1.0, 1)),
    "rho": (r"rho must be above 0, got 0", lambda: karras_levels(0.1, 1.0, 5, 0.0)),
    "churn": (r"S_churn must be at least 0, got -1", lambda: EDMHeun(S_churn=-1.0)),
    "churn NaN": (r"S_churn must be finite, got nan", lambda: churn_factor(THREE, 3, math.nan)),
    "window": (r"S_tmax must be at least S_tmin = 2", lambda: EDMHeun(S_tmin=2.0, S_tmax=1.0)),
    "noise factor": (r"S_noise must be above 0, got 0", lambda: EDMHeun(S_noise=0.0)),
    "shape of noise": (r"noise must have the shape", lambda: churned(X, THREE[0], THREE[0], X[:1])),
    "eta": (r"eta must lie in 0\.\.1, got 1.5", lambda: AncestralEuler(eta=1.5)),
    "eta of a step": (r"eta must lie in 0\.\.1, got -1", lambda: ancestral_coefficients(*AT, -1.0)),
    "node": (r"node must be above 0, got 0", lambda: second_order(Fraction(0))),
    "rows": (r"matrix must have rows of 0, 1", lambda: Tableau(((),), (Fraction(1, 2), Fraction(1, 2)))),
    "weights": (r"weights must add up to 1, got 1/2", lambda: Tableau(((),), (Fraction(1, 2),))),
    "levels fall": (r"sigma must rise", lambda: adams_bashforth_weights(THREE.flip(0), number(0.5))),
    "step rises": (r"fall_to must be below", lambda: adams_bashforth_weights(THREE, number(1.5))),
    "levels float32": (r"sigma must be float64", lambda: adams_bashforth_weights(THREE.float(), THREE[0])),
    "order": (r"order must be at least 1, got 0", lambda: AdamsBashforth("lms", 0)),
    "warm up": (r"warm_up must be one of rk4, heun, got 'no'", lambda: PLMS(warm_up="no")),  # type: ignore
    "predictions": (r"predictions must hold 1 to 4 tensors, got 5", lambda: plms_combination([X] * 5)),
    "no noise": (
        r"noises must hold one tensor for each draw",
        lambda: EDMHeun().sample(lambda x, scale, std: x, X, karras_levels(0.1, 1.0, 3)),
    ),
    "model": (
        r"eps must have the shape",
        lambda: SOLVERS["heun"].sample(lambda x, scale, std: x[:1], X, karras_levels(0.1, 1.0, 3)),
    ),
}


@pytest.mark.parametrize(("message", "call"), BAD.values(), ids=BAD)
def test_bad_input_is_named(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=message):
        call()
