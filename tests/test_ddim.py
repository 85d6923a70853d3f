"""The laws of DDIM, each with a broken form that it rejects."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference_laws import Exact, basis_batch, depth, last, levels, misfit, moments, named, tensors
from torch import Tensor

from refdiff import ddim, ddpm
from refdiff.data import GaussianLaw, PointMass
from refdiff.gaussian import Gaussian
from refdiff.kernel import Coefficients
from refdiff.schedule import Schedule, subsequence

LINEAR = named("linear-1000")
ETAS = st.one_of(st.sampled_from([0.0, 0.2, 0.5, 1.0]), st.floats(0, 1))
LEVELS = {
    "leading": subsequence(1000, 10, "leading"),
    "odd": (1000, 741, 300, 299, 50, 3, 0),
    "one": (1000, 0),
}


# Laws: each returns the error in units of its derived tolerance, so 1 is the limit.


def marginals_are_kept(
    posterior: Callable[..., Gaussian], schedule: Schedule, t: int, s: int, eta: float
) -> float:
    x_0 = tensors(1)
    above, below = ddpm.q_marginal(schedule, x_0, t), ddpm.q_marginal(schedule, x_0, s)
    pushed = posterior(schedule, x_0, above.mean, t, s, eta)
    slope = posterior(schedule, 0 * x_0, torch.ones_like(x_0), t, s, eta).mean[0, 0]
    variance = pushed.variance + slope**2 * above.variance
    # a dozen operations on exponentials
    roundings = 24 + 2 * depth(schedule, t, 0)
    return max(
        misfit(pushed.mean, below.mean, below.mean, roundings),
        misfit(variance, below.variance, below.variance, roundings),
    )


def posterior_without_sigma(
    schedule: Schedule, x_0: Tensor, x_t: Tensor, t: int, s: int, eta: float
) -> Gaussian:
    deterministic = ddim.posterior(schedule, x_0, x_t, t, s, 0.0)
    return Gaussian(deterministic.mean, ddim.posterior(schedule, x_0, x_t, t, s, eta).variance)


def posterior_with_negative_root(
    schedule: Schedule, x_0: Tensor, x_t: Tensor, t: int, s: int, eta: float
) -> Gaussian:
    good = ddim.posterior(schedule, x_0, x_t, t, s, eta)
    return Gaussian(2 * schedule.sqrt_alpha_bar[s] * x_0 - good.mean, good.variance)


def coefficients_are_exact(
    step_coefficients: Callable[..., Coefficients], schedule: Schedule, t: int, s: int, eta: float
) -> float:
    exact = Exact(schedule, t, s)
    with mpmath.workdps(60):
        sigma = eta * mpmath.sqrt(exact.beta_tilde)
        direction = mpmath.sqrt(abs(1 - exact.abar_s - sigma**2))
        on_eps = direction - mpmath.sqrt((1 - exact.abar_t) / exact.alpha)
        expected = [1 / mpmath.sqrt(exact.alpha), on_eps, sigma]
    got = step_coefficients(schedule, t, s, eta)
    # about twenty operations and exponentials of arguments that are rounded to float64 pairs
    roundings = 24 + 2 * depth(schedule, t, s)
    triple = zip((got.x_t, got.eps, got.noise), map(float, expected), strict=True)
    return max(misfit(value, want, want, roundings) for value, want in triple)


def naive_coefficients(schedule: Schedule, t: int, s: int, eta: float) -> Coefficients:
    root = (schedule.alpha_bar[s] / schedule.alpha_bar[t]).sqrt()
    sigma = ddim.sigma(schedule, t, s, eta)
    direction = (1 - schedule.alpha_bar[s] - sigma**2).sqrt()
    return Coefficients(root, direction - root * (1 - schedule.alpha_bar[t]).sqrt(), sigma)


def eta_one_is_ddpm(
    step_coefficients: Callable[..., Coefficients], schedule: Schedule, t: int, s: int
) -> float:
    got, expected = step_coefficients(schedule, t, s, 1.0), ddpm.step_coefficients(schedule, t, s)
    pairs = ((got.x_t, expected.x_t), (got.eps, expected.eps), (got.noise, expected.noise))
    return max(misfit(a, b, b, 32 + depth(schedule, t, s)) for a, b in pairs)


def bayes(forward_kernel: Callable[..., Gaussian], schedule: Schedule, t: int, s: int, eta: float) -> float:
    x_0, noise, other = tensors(3)
    at_t = ddpm.q_marginal(schedule, x_0, t)
    x_t = at_t.sample(noise)
    reverse = ddim.posterior(schedule, x_0, x_t, t, s, eta)
    x_s = reverse.sample(other)
    at_s = ddpm.q_marginal(schedule, x_0, s)
    got = forward_kernel(schedule, x_0, x_s, t, s, eta)
    expected = reverse.log_prob(x_s) + at_t.log_prob(x_t) - at_s.log_prob(x_s)
    # a density is off by its mean's rounding times the slope of the log, and by its own terms
    sizes = {id(reverse): x_s, id(at_t): x_t, id(at_s): x_s, id(got): x_t}
    condition = sum(
        1
        + g.log_prob(sizes[id(g)]).abs()
        + (1 + x_0.abs() + x_t.abs() + x_s.abs()) * (sizes[id(g)] - g.mean).abs() / g.variance
        for g in (reverse, at_t, at_s, got)
    )
    # the slope of the forward kernel can exceed 1 where little noise is left at s
    grown = 1 + (schedule.one_minus_alpha_bar[t] / schedule.one_minus_alpha_bar[s]).sqrt()
    return misfit(got.log_prob(x_t), expected, condition * grown, 32 + 4 * depth(schedule, t, 0))


def broken_forward_kernel(
    schedule: Schedule, x_0: Tensor, x_s: Tensor, t: int, s: int, eta: float
) -> Gaussian:
    return Gaussian(
        ddim.forward_kernel(schedule, x_0, x_s, t, s, eta).mean, ddpm.variance(schedule, t, s, "beta")
    )


def round_trip_returns(invert: Callable[..., Tensor], schedule: Schedule, t: int, s: int) -> float:
    x_s, eps = tensors(2)
    x_t = invert(schedule, x_s, s, t, eps)
    back = ddim.step(schedule, x_t, t, s, eps)
    # rounding x_t, and the step down multiplies by 1/sqrt(alpha)
    root = (schedule.alpha_bar[t] / schedule.alpha_bar[s]).sqrt()
    return misfit(back, x_s, x_s.abs() + (eps.abs() + x_s.abs()) / root, 24 + 2 * depth(schedule, t, s))


def inverse_of_the_wrong_level(schedule: Schedule, x_s: Tensor, s: int, t: int, eps: Tensor) -> Tensor:
    return ddim.invert(schedule, x_s, s + 1, t + 1, eps)


# The family.


@given(levels(2), ETAS)
def test_every_member_keeps_the_marginals(drawn: tuple[Schedule, tuple[int, int]], eta: float) -> None:
    schedule, (t, s) = drawn
    assert marginals_are_kept(ddim.posterior, schedule, t, s, eta) <= 1


def test_noise_that_the_direction_does_not_make_room_for_is_seen() -> None:
    assert marginals_are_kept(posterior_without_sigma, LINEAR, 500, 480, 0.5) > 1


@given(levels(2), ETAS)
def test_the_root_has_a_second_sign_with_the_same_marginals(
    drawn: tuple[Schedule, tuple[int, int]], eta: float
) -> None:
    schedule, (t, s) = drawn
    x_0 = tensors(1)
    above = ddpm.q_marginal(schedule, x_0, t)
    good = ddim.posterior(schedule, x_0, above.mean, t, s, eta)
    other = posterior_with_negative_root(schedule, x_0, above.mean, t, s, eta)
    assert misfit(other.mean, good.mean, good.mean, 32 + 2 * depth(schedule, t, 0)) <= 1
    assert torch.equal(other.variance, good.variance)
    x_t = above.mean + above.std
    apart = posterior_with_negative_root(schedule, x_0, x_t, t, s, eta).mean
    slope = ddim.posterior(schedule, 0 * x_0, torch.ones_like(x_0), t, s, eta).mean
    # two different processes wherever the mean depends on x_t visibly
    assert bool((slope < 1e-6).all()) or not torch.equal(
        apart, ddim.posterior(schedule, x_0, x_t, t, s, eta).mean
    )


@given(levels(2, signal=True))
def test_ddim_with_eta_one_is_ddpm(drawn: tuple[Schedule, tuple[int, int]]) -> None:
    schedule, (t, s) = drawn
    assert eta_one_is_ddpm(ddim.step_coefficients, schedule, t, s) <= 1


@pytest.mark.parametrize("pair", [(2, 1), (500, 499), (500, 200)])
def test_another_eta_is_not_ddpm(pair: tuple[int, int]) -> None:
    broken = lambda schedule, t, s, eta: ddim.step_coefficients(schedule, t, s, 0.99 * eta)  # noqa: E731
    assert eta_one_is_ddpm(broken, LINEAR, *pair) > 1


@given(levels(2))
def test_the_posterior_with_eta_one_is_that_of_ddpm(drawn: tuple[Schedule, tuple[int, int]]) -> None:
    schedule, (t, s) = drawn
    x_0, x_t = tensors(2)
    got, expected = (
        ddim.posterior(schedule, x_0, x_t, t, s, 1.0),
        ddpm.skip_posterior(schedule, x_0, x_t, t, s),
    )
    roundings = 32 + 2 * depth(schedule, t, 0)
    assert misfit(got.mean, expected.mean, x_0.abs() + x_t.abs(), roundings) <= 1
    assert misfit(got.variance, expected.variance, expected.variance, roundings) <= 1
    half = ddim.posterior(schedule, x_0, x_t, t, s, 0.5)
    assert s == 0 or misfit(half.variance, expected.variance, expected.variance, roundings) > 1


@given(levels(2, signal=True), ETAS)
def test_a_step_is_the_posterior_at_the_predicted_data(
    drawn: tuple[Schedule, tuple[int, int]], eta: float
) -> None:
    schedule, (t, s) = drawn
    if depth(schedule, t, 0) > 30:
        return
    x_0, eps, noise = tensors(3)
    x_t = ddpm.q_sample(schedule, x_0, t, eps)
    got = ddim.step(schedule, x_t, t, s, eps, eta, noise)
    expected = ddim.posterior(schedule, x_0, x_t, t, s, eta).sample(noise)
    root = (schedule.alpha_bar[t] / schedule.alpha_bar[s]).sqrt()
    condition = noise.abs() + (x_t.abs() + x_0.abs() + eps.abs()) / root
    assert misfit(got, expected, condition, 32 + 2 * depth(schedule, t, 0)) <= 1
    broken = ddim.step(schedule, x_t, t, s, -eps, eta, noise)
    assert misfit(broken, expected, condition, 32 + 2 * depth(schedule, t, 0)) > 1


@pytest.mark.parametrize("name", ["linear-1000", "constant-20", "cosine-1000", "linear-100000"])
@pytest.mark.parametrize("eta", [0.0, 0.2, 1.0])
def test_coefficients_are_exact_to_rounding(name: str, eta: float) -> None:
    schedule = named(name)
    T = schedule.T
    for t, s in {(1, 0), (2, 1), (3, 1), (T // 2, T // 2 - 1), (T, T - 1), (T, 1), (T // 2, T // 3)}:
        if depth(schedule, t, s) < 600:
            assert coefficients_are_exact(ddim.step_coefficients, schedule, t, s, eta) <= 1


def test_coefficients_by_subtraction_lose_digits() -> None:
    assert coefficients_are_exact(naive_coefficients, LINEAR, 500, 499, 0.2) > 1


@given(levels(2, lowest=1), st.floats(0.05, 1))
def test_the_forward_kernel_is_bayes_rule(drawn: tuple[Schedule, tuple[int, int]], eta: float) -> None:
    schedule, (t, s) = drawn
    assert bayes(ddim.forward_kernel, schedule, t, s, eta) <= 1


def test_a_forward_variance_of_beta_breaks_bayes_rule() -> None:
    assert bayes(broken_forward_kernel, LINEAR, 500, 480, 0.5) > 1


@given(levels(2, lowest=1), ETAS)
def test_the_forward_process_is_markov_only_for_eta_one(
    drawn: tuple[Schedule, tuple[int, int]], eta: float
) -> None:
    schedule, (t, s) = drawn
    x_0, x_s = tensors(2)
    moved = ddim.forward_kernel(schedule, x_0 + 1, x_s, t, s, eta).mean
    kept = ddim.forward_kernel(schedule, x_0, x_s, t, s, eta).mean
    # (1 - eta^2) of the root of alpha_bar is what x_0 adds to x_t; below rounding it cannot be seen
    visible = (1 - eta**2) * schedule.beta[t] * schedule.sqrt_alpha_bar[s] > 1e-12
    assert torch.equal(moved, kept) if eta == 1 else not visible or not torch.equal(moved, kept)
    if eta == 1:
        expected = ddpm.transition(schedule, x_s, t, s)
        got = ddim.forward_kernel(schedule, x_0, x_s, t, s, 1.0)
        roundings = 24 + depth(schedule, t, 0)
        assert misfit(got.mean, expected.mean, expected.mean, roundings) <= 1
        assert misfit(got.variance, expected.variance, expected.variance, roundings) <= 1


# Sigma.


@given(levels(2), ETAS)
def test_sigma_is_eta_times_that_of_ddpm(drawn: tuple[Schedule, tuple[int, int]], eta: float) -> None:
    schedule, (t, s) = drawn
    got, expected = ddim.sigma(schedule, t, s, eta), eta * ddpm.variance(schedule, t, s).sqrt()
    assert misfit(got, expected, expected, 8) <= 1
    assert (
        expected == 0
        or misfit(eta * ddpm.variance(schedule, t, s), expected, expected, 8) > 1
        or expected > 0.99
    )
    assert got**2 <= schedule.one_minus_alpha_bar[s] * (1 + 1e-15)


@given(levels(2, signal=True), ETAS)
def test_a_given_sigma_makes_the_same_step(drawn: tuple[Schedule, tuple[int, int]], eta: float) -> None:
    schedule, (t, s) = drawn
    by_eta = ddim.step_coefficients(schedule, t, s, eta)
    by_sigma = ddim.step_coefficients_with_sigma(schedule, t, s, float(by_eta.noise))
    # the direction is a root of a difference here, which loses digits as sigma nears its bound
    rest = 1 - by_eta.noise**2 / schedule.one_minus_alpha_bar[s] if s > 0 else torch.ones(())
    roundings = 32 + depth(schedule, t, s) + 16 / max(float(rest), 1e-16)
    assert misfit(by_sigma.eps, by_eta.eps, by_eta.eps, roundings) <= 1
    assert torch.equal(by_sigma.x_t, by_eta.x_t)
    assert torch.equal(by_sigma.noise, by_eta.noise)


def test_sigma_at_its_bound_leaves_no_direction() -> None:
    bound = float(LINEAR.one_minus_alpha_bar[480].sqrt())
    got = ddim.step_coefficients_with_sigma(LINEAR, 500, 480, bound)
    # all of eps is in the prediction of x_0
    expected = -(LINEAR.alpha_bar[480] / LINEAR.alpha_bar[500]).sqrt() * LINEAR.sqrt_one_minus_alpha_bar[500]
    assert misfit(got.eps, expected, expected, 16) <= 1
    with pytest.raises(ValueError, match=r"sigma must lie in 0\.\.sqrt"):
        ddim.step_coefficients_with_sigma(LINEAR, 500, 480, math.nextafter(bound, 1))


@given(levels(2, lowest=1))
def test_eta_is_bounded_by_the_room_for_noise(drawn: tuple[Schedule, tuple[int, int]]) -> None:
    schedule, (t, s) = drawn
    bound = float((schedule.one_minus_alpha_bar[t] / ddpm.variance(schedule, t, s, "beta")).sqrt())
    # the bound is compared through a difference of the size of beta and alpha
    slack = 1e-13 * (1 + bound)
    inside = ddim.sigma(schedule, t, s, bound - slack)
    assert inside <= schedule.sqrt_one_minus_alpha_bar[s] * (1 + 1e-12)
    with pytest.raises(ValueError, match=r"eta must keep sigma² at most 1 - alpha_bar_s"):
        ddim.sigma(schedule, t, s, bound + slack)


# The deterministic member.


@given(levels(2, signal=True))
def test_the_deterministic_step_is_euler_in_sigma(drawn: tuple[Schedule, tuple[int, int]]) -> None:
    schedule, (t, s) = drawn
    if depth(schedule, t, 0) > 600:
        return
    x_t, eps = tensors(2)
    got, expected = ddim.euler_step(schedule, x_t, t, s, eps), ddim.step(schedule, x_t, t, s, eps)
    condition = (x_t.abs() + eps.abs()) * (schedule.log_alpha_bar[s] - schedule.log_alpha_bar[t]).div(2).exp()
    assert misfit(got, expected, condition, 24 + 2 * depth(schedule, t, 0)) <= 1
    in_square = x_t / schedule.sqrt_alpha_bar[t] + (schedule.sigma[s] ** 2 - schedule.sigma[t] ** 2) * eps
    broken = schedule.sqrt_alpha_bar[s] * in_square
    near = abs(float(schedule.sigma[s] + schedule.sigma[t]) - 1) < 0.01
    unseen = near or schedule.sigma[t] - schedule.sigma[s] < 1e-6 or depth(schedule, t, 0) > 20
    assert unseen or misfit(broken, expected, condition, 24 + 2 * depth(schedule, t, 0)) > 1


@given(levels(2, signal=True))
def test_inversion_undoes_a_step_with_the_same_eps(drawn: tuple[Schedule, tuple[int, int]]) -> None:
    schedule, (t, s) = drawn
    if depth(schedule, t, s) < 30:
        assert round_trip_returns(ddim.invert, schedule, t, s) <= 1


@pytest.mark.parametrize("pair", [(1, 0), (500, 499), (500, 200)])
def test_inversion_between_shifted_levels_does_not_return(pair: tuple[int, int]) -> None:
    assert round_trip_returns(inverse_of_the_wrong_level, LINEAR, *pair) > 1


@given(levels(2, signal=True))
def test_the_error_of_inversion_is_the_change_of_eps(drawn: tuple[Schedule, tuple[int, int]]) -> None:
    schedule, (t, s) = drawn
    if depth(schedule, t, s) > 30:
        return
    x_s, eps_s, eps_t = tensors(3)
    back = ddim.step(schedule, ddim.invert(schedule, x_s, s, t, eps_s), t, s, eps_t)
    expected = x_s + ddim.inversion_error(schedule, t, s, eps_s, eps_t)
    root = (schedule.alpha_bar[t] / schedule.alpha_bar[s]).sqrt()
    condition = x_s.abs() + (x_s.abs() + eps_s.abs() + eps_t.abs()) / root
    assert misfit(back, expected, condition, 32 + 2 * depth(schedule, t, s)) <= 1
    broken = x_s + ddim.inversion_error(schedule, t, s, eps_t, eps_s)
    gap = schedule.sqrt_alpha_bar[s] * (schedule.sigma[t] - schedule.sigma[s])
    assert gap < 1e-9 or misfit(back, broken, condition, 32 + 2 * depth(schedule, t, s)) > 1


def test_inversion_reaches_a_level_without_signal() -> None:
    schedule = named("jsd-10")
    x_s, eps = tensors(2)
    got = ddim.invert_coefficients(schedule, 9, 10)
    assert (float(got.x_t), float(got.eps), float(got.noise)) == (0, 1, 0)
    assert torch.equal(ddim.invert(schedule, x_s, 9, 10, eps), eps)


# Whole samplers, exactly.


def normal(mean: float, variance: float) -> GaussianLaw:
    return GaussianLaw(
        torch.tensor([mean], dtype=torch.float64), torch.tensor([[variance]], dtype=torch.float64)
    )


@pytest.mark.parametrize("chosen", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_a_point_mass_is_hit_from_anywhere(chosen: tuple[int, ...], eta: float) -> None:
    point = torch.tensor([0.7, -1.3], dtype=torch.float64)
    law = PointMass(point)
    x_T, *noises = tensors(len(chosen), (4, 2))
    model = lambda x, t: law.eps(LINEAR, x, t)  # noqa: E731
    got = last(ddim.sample(model, LINEAR, 3 * x_T, chosen, eta, noises))
    # the last step divides the rounding of its x_t and eps by the root of alpha_bar
    condition = (4 * (x_T.abs() + 1) + 4) / LINEAR.sqrt_alpha_bar[chosen[-2]]
    assert misfit(got, point, condition, 48) <= 1
    other = PointMass(point + 1e-9)
    missed = last(ddim.sample(lambda x, t: other.eps(LINEAR, x, t), LINEAR, x_T, chosen, eta, noises))
    assert misfit(missed, point, condition, 48) > 1


def standard_normal_turns(sample: Callable[..., object], chosen: tuple[int, ...], eta: float) -> float:
    law = normal(0.0, 1.0)
    x_T, noises = basis_batch(len(chosen) - 2)
    states = dict(sample(lambda x, t: law.eps(LINEAR, x, t), LINEAR, x_T, chosen, eta, noises))
    # with sqrt(alpha_bar) = cos(a), a deterministic step on standard normal data multiplies by cos(a_t - a_s)
    angle = torch.atan2(LINEAR.sqrt_one_minus_alpha_bar, LINEAR.sqrt_alpha_bar)
    expected, worst = torch.ones((), dtype=torch.float64), 0.0
    for t, s in itertools.pairwise(chosen):
        noise = ddim.sigma(LINEAR, t, s, eta)
        kept = torch.cos(angle[t]) * torch.cos(angle[s])
        kept = kept + torch.sin(angle[t]) * (torch.sin(angle[s]) ** 2 - noise**2).clamp(min=0).sqrt()
        kept = torch.cos(angle[t] - angle[s]) if eta == 0 else kept
        expected = kept**2 * expected + noise**2
        mean, variance = moments(states[s], 0.0, 1.0)
        # every step has some 40 roundings; the step's own factor is a sum of two numbers up to 1/sqrt(alpha)
        grown = (LINEAR.alpha_bar[s] / LINEAR.alpha_bar[t]).sqrt()
        got = torch.tensor(variance, dtype=torch.float64)
        worst = max(worst, misfit(got, expected, grown, 40 * len(chosen)), abs(mean))
    return worst


@pytest.mark.parametrize("chosen", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_the_variance_of_a_sampler_of_standard_normal_data(chosen: tuple[int, ...], eta: float) -> None:
    assert standard_normal_turns(ddim.sample, chosen, eta) <= 1


def test_the_variance_after_all_thousand_steps() -> None:
    assert standard_normal_turns(ddim.sample, tuple(range(1000, -1, -1)), 0.4) <= 1


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_a_sampler_with_the_square_of_eta_is_seen(eta: float) -> None:
    def broken(
        model: object, schedule: Schedule, x: Tensor, chosen: tuple[int, ...], eta: float, noises: object
    ):  # type: ignore[no-untyped-def]
        return ddim.sample(model, schedule, x, chosen, eta**2 if 0 < eta < 1 else 0.9, noises)

    assert standard_normal_turns(broken, LEVELS["odd"], eta) > 1


def test_the_thinned_sampler_with_eta_one_is_ancestral_sampling() -> None:
    law = normal(0.7, 0.4)
    model = lambda x, t: law.eps(LINEAR, x, t)  # noqa: E731
    x_T, *noises = tensors(6, (4, 1))
    chosen = LEVELS["odd"]
    ours = ddim.sample(model, LINEAR, x_T, chosen, 1.0, noises)
    theirs = ddpm.sample(model, LINEAR, x_T, noises, chosen)
    size = (x_T.abs() + sum(z.abs() for z in noises)) / LINEAR.sqrt_alpha_bar[1000]
    other = ddim.sample(model, LINEAR, x_T, chosen, 0.999, noises)
    for (t, x), (u, y), (_, z) in zip(ours, theirs, other, strict=True):
        assert t == u
        # 40 roundings in each of 6 steps, which grow by at most 1/sqrt(alpha_bar_T)
        assert misfit(x, y, size, 240) <= 1
        assert t == 1000 or misfit(z, y, size, 240) > 1


def distance_from_the_flow(steps: int, up: bool) -> float:
    """The flow of Gaussian data keeps (x - mean) / std of the marginals; how far n steps are from it."""
    mean, variance = 0.7, 0.4
    law, schedule = normal(mean, variance), named("cosine-1000")
    top = 900
    chosen = tuple(round(top * i / steps) for i in range(steps, -1, -1))
    stds = (schedule.alpha_bar * variance + schedule.one_minus_alpha_bar).sqrt()
    model = lambda x, t: law.eps(schedule, x, t)  # noqa: E731
    z = torch.tensor([[1.5]], dtype=torch.float64)
    ends = {t: schedule.sqrt_alpha_bar[t] * mean + stds[t] * z for t in (0, top)}
    states = (
        ddim.encode(model, schedule, ends[0], chosen)
        if up
        else ddim.sample(model, schedule, ends[top], chosen)
    )
    return float((last(states) - ends[top if up else 0]).abs())


@pytest.mark.parametrize("up", [False, True])
def test_sampling_and_encoding_converge_to_the_flow_with_order_one(up: bool) -> None:
    errors = [distance_from_the_flow(n, up) for n in (50, 100, 300)]
    orders = [math.log(a / b) / math.log(n) for a, b, n in zip(errors, errors[1:], (2, 3), strict=False)]
    # the next order contributes at most a fifth of the ratio at 50 steps
    assert all(abs(order - 1) < 0.2 for order in orders), orders


def test_encoding_visits_the_levels_upwards_and_is_undone_by_constant_eps() -> None:
    x_0, eps = tensors(2)
    model = lambda x, t: eps  # noqa: E731
    up = list(ddim.encode(model, LINEAR, x_0, LEVELS["odd"]))
    assert [t for t, _ in up] == [0, 3, 50, 299, 300, 741, 1000]
    down = last(ddim.sample(model, LINEAR, up[-1][1], LEVELS["odd"]))
    condition = (x_0.abs() + eps.abs()) / LINEAR.sqrt_alpha_bar[1000]
    # 20 roundings in each of 12 steps
    assert misfit(down, x_0, condition, 240) <= 1
    broken = last(ddim.sample(lambda x, t: eps + 1e-9, LINEAR, up[-1][1], LEVELS["odd"]))
    assert misfit(broken, x_0, condition, 240) > 1


def test_a_deterministic_sampler_takes_no_noise() -> None:
    x_T, *noises = tensors(4, (2, 1))
    draws = iter(noises)
    model = lambda x, t: 0.1 * x  # noqa: E731
    last(ddim.sample(model, LINEAR, x_T, (900, 500, 20, 0), 0.0, draws))
    assert len(list(draws)) == 3
    draws = iter(noises)
    last(ddim.sample(model, LINEAR, x_T, (900, 500, 20, 0), 0.5, draws))
    assert len(list(draws)) == 1
    with pytest.raises(ValueError, match=r"noises must hold .* t = 900"):
        last(ddim.sample(model, LINEAR, x_T, (900, 500, 20, 0), 0.5))


# Batches, dtypes, devices, graphs, bad input.

CALLS: dict[str, Callable[..., Tensor]] = {
    "step-deterministic": lambda S, t, x, y, z: ddim.step(S, x, t, t // 2, y),
    "step": lambda S, t, x, y, z: ddim.step(S, x, t, t - 1, y, 0.5, z),
    "step-to-data": lambda S, t, x, y, z: ddim.step(S, x, t, t * 0, y, 0.5),
    "step_with_sigma": lambda S, t, x, y, z: ddim.step_with_sigma(S, x, t, t - 1, y, 0.001, z),
    "posterior": lambda S, t, x, y, z: ddim.posterior(S, x, y, t, t // 2, 0.5).sample(z),
    "forward_kernel": lambda S, t, x, y, z: ddim.forward_kernel(S, x, y, t, t // 2, 0.5).sample(z),
    "invert": lambda S, t, x, y, z: ddim.invert(S, x, t // 2, t, y),
    "inversion_error": lambda S, t, x, y, z: ddim.inversion_error(S, t, t // 2, x, y),
    "euler_step": lambda S, t, x, y, z: ddim.euler_step(S, x, t, t // 2, y),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_batch_of_levels_is_each_level_alone(call: Callable[..., Tensor], device: torch.device) -> None:
    x, y, z = (v.to(device) for v in tensors(3, (3, 2, 2), torch.float32))
    t = torch.tensor([2, 500, 1000])
    whole = call(LINEAR, t.to(device), x, y, z)
    rows = [call(LINEAR, int(n), *(v[i : i + 1] for v in (x, y, z))) for i, n in enumerate(t)]
    assert whole.dtype == torch.float32
    assert whole.device.type == device.type
    # the coefficients of two exponentials differ by a rounding
    size = (x.abs() + y.abs() + z.abs()).cpu() / LINEAR.sqrt_alpha_bar[t].reshape(3, 1, 1)
    assert misfit(whole.cpu(), torch.cat(rows).cpu(), size, 4) <= 1
    assert misfit(call(LINEAR, t.to(device).flip(0), x, y, z).cpu(), torch.cat(rows).cpu(), 1.0, 4) > 1


def test_a_step_at_an_int_level_is_one_graph() -> None:
    x, y, z = tensors(3)
    call = lambda t: ddim.step(LINEAR, x, t, t - 1, y, 0.5, z)  # noqa: E731
    compiled = torch.compile(call, fullgraph=True, backend="eager")
    for t in (500, 501, 2):
        # tensors and floats take their exponentials from different libraries, one rounding apart
        assert misfit(compiled(t), call(t), (x.abs() + y.abs() + z.abs()) * 2, 8) <= 1
    assert misfit(compiled(3), call(2), (x.abs() + y.abs() + z.abs()) * 2, 8) > 1


X = torch.zeros(2, 3, dtype=torch.float64)
ZERO_SNR = named("jsd-10")
BAD: dict[str, tuple[str, Callable[[], object]]] = {
    "t too large": (r"t must lie in .*1000, got 1001", lambda: ddim.step(LINEAR, X, 1001, 3, X)),
    "s not below": (r"s must be below t = 3, got 3", lambda: ddim.step(LINEAR, X, 3, 3, X)),
    "inversion downwards": (r"s must be below t = 3, got 5", lambda: ddim.invert(LINEAR, X, 5, 3, X)),
    "eta negative": (r"eta must be at least 0 and finite, got -0.5", lambda: ddim.sigma(LINEAR, 5, 3, -0.5)),
    "eta NaN": (r"eta must be at least 0 and finite, got nan", lambda: ddim.sigma(LINEAR, 5, 3, math.nan)),
    "eta large": (r"eta must keep sigma² .* got 30", lambda: ddim.sigma(LINEAR, 500, 100, 30.0)),
    "eta large in a batch": (r"eta must keep", lambda: ddim.sigma(LINEAR, torch.tensor([9, 500]), 5, 30.0)),
    "sigma negative": (r"sigma must lie in 0", lambda: ddim.step_with_sigma(LINEAR, X, 5, 3, X, -0.1, X)),
    "sigma large": (r"sigma must lie in 0", lambda: ddim.step_with_sigma(LINEAR, X, 5, 3, X, 0.9, X)),
    "sigma NaN": (r"sigma must lie in 0", lambda: ddim.step_with_sigma(LINEAR, X, 5, 3, X, math.nan, X)),
    "sigma in a batch": (
        r"sigma must lie in 0",
        lambda: ddim.step_with_sigma(
            LINEAR, X, 5, torch.tensor([3, 4]), X, torch.tensor([0.9, 0.0]).double(), X
        ),
    ),
    "no noise": (r"noise must be given .* level 3", lambda: ddim.step(LINEAR, X, 5, 3, X, 0.5)),
    "shape of noise": (r"noise must have the shape", lambda: ddim.step(LINEAR, X, 5, 3, X, 0.5, X[:1])),
    "shape of eps": (r"eps must have the shape", lambda: ddim.euler_step(LINEAR, X, 5, 3, X[:1])),
    "no signal": (r"signal-to-noise ratio above 0", lambda: ddim.step(ZERO_SNR, X, 10, 3, X)),
    "no signal for Euler": (r"signal-to-noise ratio above 0", lambda: ddim.euler_step(ZERO_SNR, X, 10, 3, X)),
    "kernel from data": (r"s must lie in 1\.\.1000, got 0", lambda: ddim.forward_kernel(LINEAR, X, X, 5, 0)),
    "levels": (r"levels must end at 0, got 5", lambda: last(ddim.sample(lambda x, t: x, LINEAR, X, (9, 5)))),
    "level": (r"levels\[0\] must lie in", lambda: last(ddim.encode(lambda x, t: x, LINEAR, X, (1001, 0)))),
}


@pytest.mark.parametrize(("message", "call"), BAD.values(), ids=BAD)
def test_bad_input_is_named(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_step_to_data_needs_no_noise() -> None:
    x, eps = tensors(2)
    assert torch.equal(ddim.step(LINEAR, x, 500, 0, eps, 1.0), ddim.step(LINEAR, x, 500, 0, eps))
