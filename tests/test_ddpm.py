"""The laws of DDPM, each with a broken form that it rejects."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference_laws import (
    Exact,
    basis_batch,
    depth,
    has_zero_snr,
    last,
    levels,
    misfit,
    moments,
    named,
    tensors,
)
from torch import Tensor

from refdiff import ddpm
from refdiff.data import GaussianLaw, MixtureLaw, PointMass
from refdiff.gaussian import Gaussian
from refdiff.kernel import Coefficients
from refdiff.schedule import Schedule

LINEAR = named("linear-1000")
KINDS = ("beta_tilde", "beta", "beta_first_tilde")


# Laws: each returns the error in units of its derived tolerance, so 1 is the limit.


def chapman_kolmogorov(
    transition: Callable[..., Gaussian], schedule: Schedule, t: int, s: int, u: int
) -> float:
    x = tensors(1)
    half = transition(schedule, x, s, u)
    whole, rest = transition(schedule, x, t, u), transition(schedule, half.mean, t, s)
    alpha = (transition(schedule, torch.ones_like(x), t, s).mean[0, 0]) ** 2
    variance = rest.variance + alpha * half.variance
    # three exponentials, each off by its argument's roundings, and four operations
    roundings = 8 + 2 * depth(schedule, t, u)
    return max(
        misfit(rest.mean, whole.mean, whole.mean.abs(), roundings),
        misfit(variance, whole.variance, whole.variance, roundings),
    )


def broken_transition(schedule: Schedule, x_s: Tensor, t: int, s: int) -> Gaussian:
    beta_sum = schedule.beta[s + 1 : t + 1].sum()
    return Gaussian(ddpm.transition(schedule, x_s, t, s).mean, beta_sum)


def bayes(posterior: Callable[..., Gaussian], schedule: Schedule, t: int, s: int) -> float:
    x_0, noise, other = tensors(3)
    at_s = ddpm.q_marginal(schedule, x_0, s)
    x_s = at_s.sample(noise)
    kernel, at_t = ddpm.transition(schedule, x_s, t, s), ddpm.q_marginal(schedule, x_0, t)
    x_t = kernel.sample(other)
    parts = [(kernel, x_t), (at_s, x_s), (at_t, x_t)]
    got = posterior(schedule, x_0, x_t, t, s)
    expected = kernel.log_prob(x_t) + at_s.log_prob(x_s) - at_t.log_prob(x_t)
    # a density is off by its mean's rounding times the slope of the log, and by its own terms
    condition = sum(
        1 + g.log_prob(x).abs() + (x.abs() + g.mean.abs()) * (x - g.mean).abs() / g.variance
        for g, x in [*parts, (got, x_s)]
    )
    # the mean adds two products of a few factors each
    return misfit(got.log_prob(x_s), expected, condition, 24 + 4 * depth(schedule, t, 0))


def broken_posterior_variance(schedule: Schedule, x_0: Tensor, x_t: Tensor, t: int, s: int) -> Gaussian:
    return Gaussian(ddpm.skip_posterior(schedule, x_0, x_t, t, s).mean, ddpm.variance(schedule, t, s, "beta"))


def broken_posterior_mean(schedule: Schedule, x_0: Tensor, x_t: Tensor, t: int, s: int) -> Gaussian:
    good = ddpm.skip_posterior(schedule, x_0, x_t, t, s)
    one_bar_too_many = schedule.alpha_bar[t].sqrt() - (schedule.alpha_bar[t] / schedule.alpha_bar[s]).sqrt()
    on_x_t = schedule.one_minus_alpha_bar[s] / schedule.one_minus_alpha_bar[t]
    return Gaussian(good.mean + one_bar_too_many * on_x_t * x_t, good.variance)


def three_means_agree(mean_from_eps: Callable[..., Tensor], schedule: Schedule, t: int, s: int) -> float:
    x_0, eps = tensors(2)
    x_t = ddpm.q_sample(schedule, x_0, t, eps)
    score = -eps / schedule.sqrt_one_minus_alpha_bar[t]
    expected = ddpm.mean_from_x_0(schedule, x_t, t, x_0, s)
    by_score = ddpm.mean_from_score(schedule, x_t, t, score, s)
    # rounding x_t and each term, then dividing by the root of alpha
    root = (schedule.alpha_bar[t] / schedule.alpha_bar[s]).sqrt()
    condition = (
        schedule.sqrt_alpha_bar[t] * x_0.abs() + schedule.sqrt_one_minus_alpha_bar[t] * eps.abs()
    ) / root
    roundings = 16 + 2 * depth(schedule, t, 0)
    return max(
        misfit(mean_from_eps(schedule, x_t, t, eps, s), expected, condition, roundings),
        misfit(by_score, expected, condition, roundings),
    )


def broken_mean_from_eps(schedule: Schedule, x_t: Tensor, t: int, eps: Tensor, s: int) -> Tensor:
    good = ddpm.mean_from_eps(schedule, x_t, t, eps, s)
    beta = ddpm.variance(schedule, t, s, "beta")
    root = (1 - beta).sqrt()
    # 1 - alpha_bar without its root
    return good + beta / root * eps * (
        1 / schedule.sqrt_one_minus_alpha_bar[t] - 1 / schedule.one_minus_alpha_bar[t]
    )


def coefficients_are_exact(
    step_coefficients: Callable[..., Coefficients], schedule: Schedule, t: int, s: int
) -> float:
    exact = Exact(schedule, t, s)
    with mpmath.workdps(60):
        root = mpmath.sqrt(exact.alpha)
        expected = [
            1 / root,
            -exact.beta / (root * mpmath.sqrt(1 - exact.abar_t)),
            mpmath.sqrt(exact.beta_tilde),
        ]
    got = step_coefficients(schedule, t, s)
    # about ten operations and exponentials of arguments that are rounded to float64 pairs
    roundings = 12 + 2 * depth(schedule, t, s)
    triple = zip((got.x_t, got.eps, got.noise), map(float, expected), strict=True)
    return max(misfit(value, want, want, roundings) for value, want in triple)


def naive_coefficients(schedule: Schedule, t: int, s: int) -> Coefficients:
    abar = torch.cumprod(1 - schedule.beta, 0)
    alpha = abar[t] / abar[s]
    tilde = (1 - alpha) * (1 - abar[s]) / (1 - abar[t])
    return Coefficients(alpha**-0.5, -(1 - alpha) / (alpha * (1 - abar[t])).sqrt(), tilde.sqrt())


# The forward process.


@given(levels(3))
def test_transitions_compose(drawn: tuple[Schedule, tuple[int, int, int]]) -> None:
    schedule, (t, s, u) = drawn
    assert chapman_kolmogorov(ddpm.transition, schedule, t, s, u) <= 1


def test_variances_that_are_summed_do_not_compose() -> None:
    assert chapman_kolmogorov(broken_transition, LINEAR, 700, 400, 100) > 1


@given(levels(1, lowest=1), st.sampled_from([torch.float32, torch.float64]))
def test_one_step_after_the_marginal_is_the_marginal(
    drawn: tuple[Schedule, tuple[int]], dtype: torch.dtype
) -> None:
    schedule, (t,) = drawn
    x_0 = tensors(1, (2, 3, 4), dtype)
    before, after = ddpm.q_marginal(schedule, x_0, t - 1), ddpm.q_marginal(schedule, x_0, t)
    pushed = ddpm.q_step(schedule, before.mean, t)
    variance = pushed.variance + schedule.at("alpha", t, x_0) * before.variance
    roundings = 8 + depth(schedule, t, 0) * (dtype == torch.float64)
    # in float32 an alpha near 0 is 1 - beta, rounded
    assert misfit(pushed.mean, after.mean, after.mean.abs(), roundings) <= 1
    assert misfit(variance, after.variance, after.variance, roundings) <= 1
    assert pushed.mean.dtype == pushed.variance.dtype == dtype


def test_all_steps_in_a_row_make_the_marginal() -> None:
    x, variance = torch.ones(1, 1, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for t in range(1, LINEAR.T + 1):
        kernel = ddpm.q_step(LINEAR, x, t)
        x, variance = kernel.mean, LINEAR.alpha[t] * variance + kernel.variance
    end = ddpm.q_marginal(LINEAR, torch.ones(1, 1, dtype=torch.float64), LINEAR.T)
    # three roundings in each step
    assert misfit(x, end.mean, end.mean, 3 * LINEAR.T) <= 1
    assert misfit(variance, end.variance, end.variance, 3 * LINEAR.T) <= 1


@given(levels(1))
def test_a_sample_of_the_marginal_is_mean_plus_std_times_noise(drawn: tuple[Schedule, tuple[int]]) -> None:
    schedule, (t,) = drawn
    x_0, noise = tensors(2)
    law = ddpm.q_marginal(schedule, x_0, t)
    condition = law.mean.abs() + law.std * noise.abs()
    assert misfit(ddpm.q_sample(schedule, x_0, t, noise), law.sample(noise), condition, 4) <= 1
    assert misfit(law.mean + law.variance * noise, law.sample(noise), condition, 4) > 1 or t in (
        0,
        schedule.T,
    )


# The posterior.


@given(levels(2, lowest=1))
def test_the_posterior_is_bayes_rule(drawn: tuple[Schedule, tuple[int, int]]) -> None:
    schedule, (t, s) = drawn
    if schedule.name == "linear" and schedule.T == 100_000:
        s = max(s, 1)
    posterior = lambda schedule, x_0, x_t, t, s: ddpm.skip_posterior(schedule, x_0, x_t, t, s)  # noqa: E731
    assert bayes(posterior, schedule, t, s) <= 1


@pytest.mark.parametrize("broken", [broken_posterior_variance, broken_posterior_mean])
@pytest.mark.parametrize("pair", [(2, 1), (500, 499), (800, 200)])
def test_a_wrong_posterior_breaks_bayes_rule(broken: Callable[..., Gaussian], pair: tuple[int, int]) -> None:
    assert bayes(broken, LINEAR, *pair) > 1


@given(levels(3))
def test_posteriors_compose_over_levels(drawn: tuple[Schedule, tuple[int, int, int]]) -> None:
    schedule, (t, s, u) = drawn
    x_0, x_t = tensors(2)
    upper = ddpm.skip_posterior(schedule, x_0, x_t, t, s)
    lower = ddpm.skip_posterior(schedule, x_0, upper.mean, s, u)
    slope = ddpm.skip_posterior(schedule, 0 * x_0, torch.ones_like(x_0), s, u).mean[0, 0]
    whole = ddpm.skip_posterior(schedule, x_0, x_t, t, u)
    roundings = 24 + 4 * depth(schedule, t, 0)
    assert misfit(lower.mean, whole.mean, x_0.abs() + x_t.abs(), roundings) <= 1
    variance = lower.variance + slope**2 * upper.variance
    assert misfit(variance, whole.variance, whole.variance, roundings) <= 1
    broken = lower.variance + slope * upper.variance
    assert u == 0 or misfit(broken, whole.variance, whole.variance, roundings) > 1


@given(levels(1, lowest=1), st.sampled_from([torch.float16, torch.float32, torch.float64]))
def test_the_posterior_of_data_is_data(drawn: tuple[Schedule, tuple[int]], dtype: torch.dtype) -> None:
    schedule, (t,) = drawn
    x_0, x_t = tensors(2, dtype=dtype)
    got = ddpm.skip_posterior(schedule, x_0, x_t, t, 0)
    assert torch.equal(got.mean, x_0)
    assert not got.variance.any()


def test_posterior_is_the_skip_posterior_of_one_step() -> None:
    x_0, x_t = tensors(2)
    one, skip = ddpm.posterior(LINEAR, x_0, x_t, 7), ddpm.skip_posterior(LINEAR, x_0, x_t, 7, 6)
    assert torch.equal(one.mean, skip.mean)
    assert torch.equal(one.variance, skip.variance)


# The reverse step.


@given(levels(2, signal=True))
def test_the_three_forms_of_the_mean_agree(drawn: tuple[Schedule, tuple[int, int]]) -> None:
    schedule, (t, s) = drawn
    if depth(schedule, t, s) < 600:
        assert three_means_agree(ddpm.mean_from_eps, schedule, t, s) <= 1


@pytest.mark.parametrize("pair", [(1, 0), (500, 499), (800, 200)])
def test_a_missing_root_in_the_eps_form_is_seen(pair: tuple[int, int]) -> None:
    assert three_means_agree(broken_mean_from_eps, LINEAR, *pair) > 1


@pytest.mark.parametrize("name", ["linear-1000", "constant-20", "cosine-1000", "linear-100000"])
def test_coefficients_are_exact_to_rounding(name: str) -> None:
    schedule = named(name)
    T = schedule.T
    for t, s in {(1, 0), (2, 1), (3, 1), (T // 2, T // 2 - 1), (T, T - 1), (T, 1), (T // 2, T // 3)}:
        if depth(schedule, t, s) < 600:
            assert coefficients_are_exact(ddpm.step_coefficients, schedule, t, s) <= 1


def test_coefficients_from_a_cumulative_product_lose_digits() -> None:
    assert coefficients_are_exact(naive_coefficients, named("linear-100000"), 3, 1) > 1


@given(levels(2, signal=True), st.sampled_from(["beta", "beta_tilde"]), st.booleans())
def test_a_step_is_its_mean_plus_noise(
    drawn: tuple[Schedule, tuple[int, int]], kind: str, single: bool
) -> None:
    schedule, (t, s) = drawn
    if depth(schedule, t, s) > 80:
        return
    x_t, eps, noise = tensors(3, dtype=torch.float32 if single else torch.float64)
    got = ddpm.step(schedule, x_t, t, eps, noise, s, kind)
    mean, std = ddpm.mean_from_eps(schedule, x_t, t, eps, s), ddpm.variance(schedule, t, s, kind).sqrt()
    condition = mean.abs() + (std * noise).abs() + x_t.abs() / schedule.alpha_bar[t].sqrt()
    # the same three terms, rounded once more
    assert misfit(got, mean + std.to(x_t) * noise, condition, 4) <= 1
    assert std == 0 or misfit(got, mean + (std**2).to(x_t) * noise, condition, 4) > 1 or std > 0.99


def test_one_step_of_tweedie_needs_no_knowledge_of_the_law() -> None:
    law = mixture()
    for t, s in [(1, 0), (500, 499), (900, 300), (1000, 0)]:
        x_t = 2 * tensors(1).requires_grad_()
        (score,) = torch.autograd.grad(law.log_prob(LINEAR, x_t, t).sum(), x_t)
        expected = ddpm.mean_from_x_0(LINEAR, x_t, t, law.posterior_mean(LINEAR, x_t, t), s)
        # dividing by the root of alpha what was rounded at the size of x_t and of the law's own terms
        beta = ddpm.variance(LINEAR, t, s, "beta")
        condition = (x_t.abs() + beta * score.abs() + 8) / (1 - beta).sqrt()
        got = ddpm.mean_from_score(LINEAR, x_t, t, score, s)
        assert misfit(got.detach(), expected.detach(), condition.detach(), 64) <= 1
        broken = ddpm.mean_from_score(LINEAR, x_t, t, -score, s)
        assert misfit(broken.detach(), expected.detach(), condition.detach(), 64) > 1
    whole = ddpm.tweedie(LINEAR, x_t, 1000, score)
    assert torch.equal(whole, ddpm.mean_from_score(LINEAR, x_t, 1000, score, 0))


# Variances.


@given(levels(1, lowest=2))
def test_beta_tilde_is_below_beta(drawn: tuple[Schedule, tuple[int]]) -> None:
    schedule, (t,) = drawn
    tilde, beta = (ddpm.variance(schedule, t, kind=kind) for kind in ("beta_tilde", "beta"))
    # at the far end the two are the same to rounding: alpha_bar_{t-1} is below it
    assert 0 < tilde <= beta * (1 + 4 * torch.finfo(torch.float64).eps)
    assert tilde < beta or schedule.alpha_bar[t - 1] < 1e-13


def test_the_first_tilde_is_that_of_the_second_step() -> None:
    second = ddpm.variance(LINEAR, 2)
    assert (
        ddpm.variance(LINEAR, 1, kind="beta_first_tilde") == second != ddpm.variance(LINEAR, 1, kind="beta")
    )
    assert ddpm.variance(LINEAR, 9, kind="beta_first_tilde") == ddpm.variance(LINEAR, 9, kind="beta")
    half = torch.full((2, 1), 0.5, dtype=torch.float64)
    got = ddpm.variance(LINEAR, 1, kind="learned_first_tilde", learned=half)
    expected = (second * ddpm.variance(LINEAR, 1, kind="beta")).sqrt()
    assert misfit(got, expected, expected, 8) <= 1
    batch = ddpm.variance(LINEAR, torch.tensor([1, 9]), kind="beta_first_tilde")
    assert torch.equal(batch, torch.stack([second, ddpm.variance(LINEAR, 9, kind="beta")]))


@given(levels(2, lowest=1), st.floats(0, 1))
def test_a_learned_variance_interpolates_the_logs(drawn: tuple[Schedule, tuple[int, int]], f: float) -> None:
    schedule, (t, s) = drawn
    share = torch.full((2, 3), f, dtype=torch.float64)
    got = ddpm.variance(schedule, t, s, "learned", share)
    beta, tilde = ddpm.variance(schedule, t, s, "beta"), ddpm.variance(schedule, t, s)
    expected = torch.exp(f * beta.log() + (1 - f) * tilde.log())
    # the logs are multiplied by f and the exponential turns their roundings into relative ones
    roundings = 8 + beta.log().abs() + tilde.log().abs()
    assert misfit(got, expected, expected, float(roundings)) <= 1
    raw = f * beta + (1 - f) * tilde
    distinct = 0.01 < f < 0.99 and bool(tilde < 0.9 * beta)
    assert not distinct or misfit(got, raw, raw, float(roundings)) > 1


def test_a_learned_variance_is_zero_at_data_unless_it_is_beta() -> None:
    share = torch.tensor([[0.0], [0.5], [1.0]], dtype=torch.float64)
    got = ddpm.variance(LINEAR, 1, kind="learned", learned=share)
    assert got.flatten().tolist()[:2] == [0, 0]
    assert misfit(got[2, 0], LINEAR.beta[1], LINEAR.beta[1], 4) <= 1


@given(levels(2), st.floats(0, 4))
def test_the_optimal_variance_is_that_of_the_exact_reverse(
    drawn: tuple[Schedule, tuple[int, int]], spread: float
) -> None:
    schedule, (t, s) = drawn
    assert optimal_variance_is_exact(ddpm.optimal_variance, schedule, t, s, spread) <= 1


def optimal_variance_is_exact(
    optimal_variance: Callable[..., Tensor], schedule: Schedule, t: int, s: int, spread: float
) -> float:
    at_s, at_t = (schedule.alpha_bar[n] * spread + schedule.one_minus_alpha_bar[n] for n in (s, t))
    left = spread * schedule.one_minus_alpha_bar[t] / at_t
    # Var[x_s | x_t] of jointly Gaussian variables, written as a product
    expected = at_s * ddpm.variance(schedule, t, s, "beta") / at_t
    return misfit(optimal_variance(schedule, t, left, s), expected, expected, 24 + 4 * depth(schedule, t, 0))


def test_an_optimal_variance_without_its_square_is_seen() -> None:
    def broken(schedule: Schedule, t: int, left: Tensor, s: int) -> Tensor:
        tilde = ddpm.variance(schedule, t, s)
        return tilde + (ddpm.optimal_variance(schedule, t, left, s) - tilde).sqrt() * left.sqrt()

    assert optimal_variance_is_exact(broken, LINEAR, 500, 499, 2.0) > 1


def test_the_limits_of_the_optimal_variance_are_beta_tilde_and_beta() -> None:
    x = tensors(1, (1, 1))
    for law, kind in [(PointMass(x[0]), "beta_tilde"), (normal(0.0, 1.0), "beta")]:
        for t in (1, 2, 500, 1000):
            left = law.posterior_covariance(LINEAR, x, t)[:, 0]
            got, expected = ddpm.optimal_variance(LINEAR, t, left), ddpm.variance(LINEAR, t, kind=kind)
            assert misfit(got, expected, expected, 24) <= 1


# Whole samplers, exactly: for Gaussian data they are affine, and a batch of unit vectors reads them.


def normal(mean: float, variance: float) -> GaussianLaw:
    return GaussianLaw(
        torch.tensor([mean], dtype=torch.float64), torch.tensor([[variance]], dtype=torch.float64)
    )


def mixture() -> MixtureLaw:
    means = torch.tensor([[-1.0, 0.5], [2.0, 1.0]], dtype=torch.float64)
    covs = torch.tensor([[[0.5, 0.2], [0.2, 0.3]], [[0.1, -0.05], [-0.05, 0.4]]], dtype=torch.float64)
    return MixtureLaw(torch.tensor([0.25, 0.75], dtype=torch.float64), means, covs)


LEVELS = {"all": None, "thinned": (1000, 741, 300, 299, 50, 3, 0), "one": (1000, 0)}


def standard_normal_is_stationary(kind: str, chosen: tuple[int, ...] | None) -> float:
    law = normal(0.0, 1.0)
    steps = len(chosen) - 1 if chosen else LINEAR.T
    x_T, noises = basis_batch(steps - 1)
    worst = 0.0
    for t, x in ddpm.sample(lambda x, t: law.eps(LINEAR, x, t), LINEAR, x_T, noises, chosen, kind):
        mean, variance = moments(x, 0.0, 1.0)
        # the last step keeps its noise to itself: what is left is x_1's share of x_0, alpha_bar
        bottom = 1 if chosen is None else chosen[-2]
        expected = 1.0 if t > 0 else float(LINEAR.alpha_bar[bottom])
        # a few roundings in each step
        worst = max(
            worst, misfit(torch.tensor(variance, dtype=torch.float64), expected, 1.0, 16 * steps), abs(mean)
        )
    return worst


@pytest.mark.parametrize("chosen", LEVELS.values(), ids=LEVELS)
def test_beta_samples_standard_normal_data_exactly(chosen: tuple[int, ...] | None) -> None:
    assert standard_normal_is_stationary("beta", chosen) <= 1


def test_beta_tilde_does_not_sample_standard_normal_data() -> None:
    assert standard_normal_is_stationary("beta_tilde", LEVELS["thinned"]) > 1


def learned_variance_keeps_the_marginals(kind: str) -> float:
    law, chosen = normal(0.7, 0.4), (1000, 741, 300, 299, 50, 3, 1, 0)

    def share(x: Tensor, t: int, s: int) -> Tensor:
        left = law.posterior_covariance(LINEAR, x, t)[:, :, 0]
        beta, tilde = (ddpm.variance(LINEAR, t, s, k) for k in ("beta", "beta_tilde"))
        if tilde == 0:
            return torch.zeros_like(x)
        return (ddpm.optimal_variance(LINEAR, t, left, s) / tilde).log() / (beta / tilde).log()

    below = dict(itertools.pairwise(chosen))

    def model(x: Tensor, t: int) -> Tensor | tuple[Tensor, Tensor]:
        eps = law.eps(LINEAR, x, t)
        return (eps, share(x, t, below[t])) if kind == "learned" else eps

    x_T, noises = basis_batch(len(chosen) - 2)
    start = ddpm.q_marginal(LINEAR, torch.full((1, 1), 0.7, dtype=torch.float64), 1000)
    top = float(LINEAR.alpha_bar[1000] * 0.4 + start.variance)
    worst = 0.0
    for t, x in ddpm.sample(model, LINEAR, x_T, noises, chosen, kind):
        mean, variance = moments(x, float(start.mean), top)
        abar = LINEAR.alpha_bar[t]
        at_t = abar * 0.4 + LINEAR.one_minus_alpha_bar[t]
        expected = (
            at_t if t > 0 else 0.4**2 * LINEAR.alpha_bar[1] / (LINEAR.alpha_bar[1] * 0.4 + LINEAR.beta[1])
        )
        # each of 7 steps has some 30 roundings, multiplied by 1/sqrt(alpha) < 16 on the way
        got = torch.tensor([mean, variance], dtype=torch.float64)
        worst = max(worst, misfit(got, torch.stack([abar.sqrt() * 0.7, expected]), 1.0, 30 * 7 * 16))
    return worst


def test_the_optimal_variance_keeps_the_marginals_of_gaussian_data() -> None:
    assert learned_variance_keeps_the_marginals("learned") <= 1


@pytest.mark.parametrize("kind", ["beta", "beta_tilde"])
def test_another_variance_loses_the_marginals_of_gaussian_data(kind: str) -> None:
    assert learned_variance_keeps_the_marginals(kind) > 1


@pytest.mark.parametrize("kind", ["beta_tilde", "beta"])
def test_beta_tilde_keeps_the_marginals_of_a_point_mass(kind: str) -> None:
    point = torch.tensor([0.7], dtype=torch.float64)
    law, chosen = PointMass(point), (1000, 741, 300, 50, 3, 0)
    x_T, noises = basis_batch(len(chosen) - 2)
    start = ddpm.q_marginal(LINEAR, point[None], 1000)
    fits = []
    for t, x in ddpm.sample(lambda x, t: law.eps(LINEAR, x, t), LINEAR, x_T, noises, chosen, kind):
        got = torch.tensor(moments(x, float(start.mean), float(start.variance)), dtype=torch.float64)
        expected = torch.stack([LINEAR.sqrt_alpha_bar[t] * 0.7, LINEAR.one_minus_alpha_bar[t]])
        # 5 steps of some 30 roundings, grown by 1/sqrt(alpha_bar_T) < 256 on the way down
        fits.append(misfit(got, expected, 1.0, 5 * 30 * 256))
    assert (max(fits) <= 1) == (kind == "beta_tilde")


def test_the_sampler_takes_one_noise_for_each_step_but_the_last() -> None:
    x_T, *noises = tensors(5, (2, 1))
    model = lambda x, t: 0.1 * x  # noqa: E731
    draws = iter(noises)
    visited = [t for t, _ in ddpm.sample(model, LINEAR, x_T, draws, (900, 500, 20, 0))]
    assert visited == [900, 500, 20, 0]
    assert len(list(draws)) == 2
    with pytest.raises(ValueError, match=r"noises must hold .* t = 500"):
        last(ddpm.sample(model, LINEAR, x_T, noises[:1], (900, 500, 20, 0)))
    short = named("constant-20")
    assert len(list(ddpm.sample(model, short, x_T, [x_T] * 19))) == 21


# Losses.


def test_the_simple_loss_is_the_squared_error_of_the_noise() -> None:
    x_0, noise = tensors(2, (2, 3, 4))
    t = torch.tensor([3, 800])
    model = lambda x, t: 0.5 * x  # noqa: E731
    error = noise - 0.5 * ddpm.q_sample(LINEAR, x_0, t, noise)
    expected = (error**2).sum((1, 2))
    assert misfit(ddpm.loss_simple(model, LINEAR, x_0, t, noise, "sum"), expected, expected, 12) <= 1
    assert misfit(ddpm.loss_simple(model, LINEAR, x_0, t, noise), expected / 12, expected / 12, 12) <= 1


def weight_is_that_of_the_divergence(weight: Callable[..., Tensor], t: int, kind: str) -> float:
    x_0, noise, error = tensors(3)
    model = lambda x, t: noise + error  # noqa: E731
    x_t = ddpm.q_sample(LINEAR, x_0, t, noise)
    mu_error = ddpm.mean_from_eps(LINEAR, x_t, t, noise) - ddpm.mean_from_eps(LINEAR, x_t, t, noise + error)
    x_0_error = error * LINEAR.sigma[t]
    exact = ddpm.kl_term(model, LINEAR, x_0, t, noise, kind) - ddpm.kl_term(
        lambda x, t: noise, LINEAR, x_0, t, noise, kind
    )
    terms = {"mu": mu_error, "x_0": x_0_error, "eps": error}
    # the error of the mean is a difference of means
    beta = LINEAR.beta[t]
    lost = (x_t.abs() / (beta / LINEAR.sqrt_one_minus_alpha_bar[t] * error.abs())).max()
    roundings = {"mu": 16 + 8 * float(lost), "x_0": 24 + 2 * depth(LINEAR, t, 0), "eps": 24.0}
    return max(
        misfit(weight(LINEAR, t, form, kind) * (e**2).sum(1), exact, exact, roundings[form] + 16)
        for form, e in terms.items()
    )


@given(st.integers(2, 1000), st.sampled_from(KINDS))
def test_the_weights_are_those_of_the_divergence(t: int, kind: str) -> None:
    assert weight_is_that_of_the_divergence(ddpm.loss_weight, t, kind) <= 1


def test_a_weight_without_its_half_is_seen() -> None:
    broken = lambda *arguments: 2 * ddpm.loss_weight(*arguments)  # noqa: E731
    assert weight_is_that_of_the_divergence(broken, 500, "beta") > 1


@given(levels(1, lowest=2))
def test_the_weight_of_x_0_is_half_the_loss_of_snr(drawn: tuple[Schedule, tuple[int]]) -> None:
    schedule, (t,) = drawn
    snr = schedule.snr
    got, expected = ddpm.loss_weight(schedule, t, "x_0"), (snr[t - 1] - snr[t]) / 2
    assert misfit(got, expected, (snr[t - 1] + snr[t]), 16 + 2 * depth(schedule, t, 0)) <= 1
    assert misfit(2 * got, expected, (snr[t - 1] + snr[t]), 16) > 1 or snr[t - 1] < snr[t] * (1 + 1e-9)


@given(levels(1, lowest=2, signal=True), st.sampled_from(["beta_tilde", "beta", "learned"]))
def test_the_term_of_the_bound_is_a_divergence_of_gaussians(
    drawn: tuple[Schedule, tuple[int]], kind: str
) -> None:
    schedule, (t,) = drawn
    if depth(schedule, t, t - 1) > 30:
        return
    x_0, noise, eps, uniform = tensors(4)
    share = uniform.sigmoid() if kind == "learned" else None
    x_t = ddpm.q_sample(schedule, x_0, t, noise)
    model = lambda x, t: eps if share is None else (eps, share)  # noqa: E731
    got = ddpm.kl_term(model, schedule, x_0, t, noise, kind)
    variance = ddpm.variance(schedule, t, kind=kind, learned=share)
    mine = Gaussian(ddpm.mean_from_eps(schedule, x_t, t, eps), variance)
    true = ddpm.posterior(schedule, x_0, x_t, t)
    expected = true.kl(mine).sum(1)
    # the divergence takes a difference of means that it divides by the standard deviation
    root = (schedule.alpha_bar[t] / schedule.alpha_bar[t - 1]).sqrt()
    sizes = (x_0.abs() + x_t.abs() / root + eps.abs()) * (mine.mean - true.mean).abs() / variance
    assert misfit(got, expected, expected + sizes.sum(1) + 1, 32 + 4 * depth(schedule, t, 0)) <= 1
    broken = Gaussian(mine.mean + eps * variance.sqrt(), variance)
    assert (
        misfit(got, true.kl(broken).sum(1), expected + sizes.sum(1) + 1, 32 + 4 * depth(schedule, t, 0)) > 1
    )


def test_the_divergence_of_a_perfect_mean_keeps_its_digits() -> None:
    x_0, noise = tensors(2)
    for t in (2, 30, 500, 1000):
        exact = Exact(LINEAR, t, t - 1)
        with mpmath.workdps(60):
            ratio = exact.beta_tilde / exact.beta
            expected = float(x_0.shape[1] * (ratio - 1 - mpmath.log(ratio)) / 2)
        got = ddpm.kl_term(lambda x, t: noise, LINEAR, x_0, t, noise, "beta")
        # a dozen operations, the square of a logarithm that is exact to rounding
        assert misfit(got, expected, expected, 24) <= 1
    difference = ddpm.variance(LINEAR, 1000) / ddpm.variance(LINEAR, 1000, kind="beta")
    naive = x_0.shape[1] * (difference - 1 - difference.log()) / 2
    assert misfit(naive, expected, expected, 24) > 1


def test_training_is_gradient_descent_on_the_simple_loss() -> None:
    x_0, noise, other = tensors(3, (4, 2))
    weight = torch.nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    t = torch.tensor([1, 10, 500, 1000])
    model = lambda x, t: weight * x  # noqa: E731
    for drawn in (noise, other):
        before = weight.item()
        x_t = ddpm.q_sample(LINEAR, x_0, t, drawn)
        slope = (2 * x_t * (before * x_t - drawn)).mean()
        loss = ddpm.training_step(model, optimizer, LINEAR, x_0, t, drawn)
        # 8 terms of a few operations
        condition = abs(before) + (2 * x_t.abs() * (x_t.abs() + drawn.abs())).mean()
        assert misfit(weight.detach(), before - 0.1 * slope, condition, 16) <= 1
        assert not loss.requires_grad
        assert misfit(loss, ((before * x_t - drawn) ** 2).mean(), loss, 16) <= 1
    # gradients that were not reset would have been added to those of the second step
    assert weight.grad is not None
    assert misfit(weight.grad, slope, condition, 32) <= 1


@given(levels(1, lowest=1))
def test_merging_the_noises_is_a_rotation_that_keeps_x_t(drawn: tuple[Schedule, tuple[int]]) -> None:
    schedule, (t,) = drawn
    x_0, before, noise = tensors(3)
    eps, omega = ddpm.merge_noises(schedule, t, before, noise)
    squares = before**2 + noise**2
    roundings = 16 + 2 * depth(schedule, t, 0)
    assert misfit(eps**2 + omega**2, squares, squares, roundings) <= 1
    x_t = ddpm.q_step(schedule, ddpm.q_sample(schedule, x_0, t - 1, before), t).sample(noise)
    merged = ddpm.q_sample(schedule, x_0, t, eps)
    condition = x_0.abs() + before.abs() + noise.abs()
    assert misfit(merged, x_t, condition, roundings) <= 1
    broken = ddpm.q_sample(schedule, x_0, t, omega)
    assert misfit(broken, x_t, condition, roundings) > 1


def four_variable_moments(
    t: int, x_0: Tensor, eps: Tensor, model: Callable[..., Tensor]
) -> tuple[Tensor, Tensor]:
    """Mean and variance over omega by Gauss-Hermite quadrature, exact for the square of a quadratic."""
    nodes = [-math.sqrt(3), 0.0, math.sqrt(3)]
    weights = [1 / 6, 2 / 3, 1 / 6]
    mean, square = (
        torch.zeros(x_0.shape[0], dtype=torch.float64),
        torch.zeros(x_0.shape[0], dtype=torch.float64),
    )
    for picked in itertools.product(range(3), repeat=x_0.shape[1]):
        omega = torch.tensor([nodes[i] for i in picked], dtype=torch.float64).expand_as(x_0)
        # the rotation is a reflection: it is its own inverse
        before, noise = ddpm.merge_noises(LINEAR, t, eps, omega)
        loss = ddpm.four_variable_loss(model, LINEAR, x_0, t, before, noise, "sum")
        share = math.prod(weights[i] for i in picked)
        mean, square = mean + share * loss, square + share * loss**2
    return mean, square - mean**2


@given(st.integers(1, 1000))
def test_the_merged_loss_is_the_mean_of_the_four_variable_loss(t: int) -> None:
    x_0, eps = tensors(2)
    model = lambda x, t: 0.5 * x  # noqa: E731
    mean, variance = four_variable_moments(t, x_0, eps, model)
    merged = ddpm.merged_loss(model, LINEAR, x_0, t, eps, "sum")
    # nine sums of terms up to a hundredfold the mean, and a variance that is their difference of squares
    assert misfit(merged, mean, mean + 10, 64) <= 1
    spread = ddpm.four_variable_variance(model, LINEAR, x_0, t, eps, "sum")
    assert misfit(spread, variance, (mean + 10) ** 2, 256) <= 1
    simple = ddpm.loss_simple(model, LINEAR, x_0, t, eps, "sum")
    assert t == 1 or misfit(simple, mean, mean + 10, 64) > 1
    assert t == 1 or misfit(spread / 2, variance, (mean + 10) ** 2, 256) > 1


def test_the_means_over_dimensions_scale_the_four_variable_losses() -> None:
    x_0, eps, other = tensors(3)
    model = lambda x, t: 0.5 * x  # noqa: E731
    for f, power in ((ddpm.merged_loss, 1), (ddpm.four_variable_variance, 2)):
        total, mean = (f(model, LINEAR, x_0, 9, eps, reduction) for reduction in ("sum", "mean"))
        assert misfit(mean, total / 2**power, total, 8) <= 1
    sums = ddpm.four_variable_loss(model, LINEAR, x_0, 9, eps, other, "sum")
    assert misfit(ddpm.four_variable_loss(model, LINEAR, x_0, 9, eps, other), sums / 2, sums, 8) <= 1


@given(levels(1, lowest=1), st.floats(0.01, 4))
def test_the_minimisers_differ_by_a_root(drawn: tuple[Schedule, tuple[int]], spread: float) -> None:
    schedule, (t,) = drawn
    x_t = tensors(1, (3, 1))
    beta = ddpm.variance(schedule, t, kind="beta")
    # E[noise of the last step | x_t] for Gaussian data: covariance over variance
    expected = beta.sqrt() * x_t / (schedule.alpha_bar[t] * spread + schedule.one_minus_alpha_bar[t])
    eps = normal(0.0, spread).eps(schedule, x_t, t)
    got = ddpm.four_variable_minimiser(schedule, t, eps)
    assert misfit(got, expected, expected, 24 + 2 * depth(schedule, t, 0)) <= 1
    broken = beta / schedule.one_minus_alpha_bar[t] * eps
    assert t == 1 or misfit(broken, expected, expected, 24 + 2 * depth(schedule, t, 0)) > 1 or beta > 0.999


# Batches, dtypes, devices, graphs, bad input.

CALLS: dict[str, Callable[..., Tensor]] = {
    "q_step": lambda S, t, x, y, z: ddpm.q_step(S, x, t).sample(y),
    "q_marginal": lambda S, t, x, y, z: ddpm.q_marginal(S, x, t).sample(y),
    "transition": lambda S, t, x, y, z: ddpm.transition(S, x, t, 0 * t).sample(y),
    "q_sample": lambda S, t, x, y, z: ddpm.q_sample(S, x, t, y),
    "posterior": lambda S, t, x, y, z: ddpm.posterior(S, x, y, t).sample(z),
    "skip_posterior": lambda S, t, x, y, z: ddpm.skip_posterior(S, x, y, t, t // 2).sample(z),
    "mean_from_x_0": lambda S, t, x, y, z: ddpm.mean_from_x_0(S, x, t, y),
    "mean_from_eps": lambda S, t, x, y, z: ddpm.mean_from_eps(S, x, t, y),
    "mean_from_score": lambda S, t, x, y, z: ddpm.mean_from_score(S, x, t, y),
    "tweedie": lambda S, t, x, y, z: ddpm.tweedie(S, x, t, y),
    "optimal_variance": lambda S, t, x, y, z: ddpm.optimal_variance(S, t, x**2),
    **{
        f"step-{kind}": lambda S, t, x, y, z, kind=kind: ddpm.step(S, x, t, y, z, variance=kind)
        for kind in KINDS
    },
    "step-strided": lambda S, t, x, y, z: ddpm.step(S, x, t, y, z, t // 2),
    "step-learned": lambda S, t, x, y, z: ddpm.step(S, x, t, y, z, variance="learned", learned=z.sigmoid()),
    "loss_simple": lambda S, t, x, y, z: ddpm.loss_simple(lambda x, t: x + z, S, x, t, y),
    "kl_term": lambda S, t, x, y, z: ddpm.kl_term(lambda x, t: z, S, x, t, y, "beta"),
    "four_variable_loss": lambda S, t, x, y, z: ddpm.four_variable_loss(lambda x, t: x, S, x, t, y, z),
    "merged_loss": lambda S, t, x, y, z: ddpm.merged_loss(lambda x, t: x, S, x, t, y),
    "four_variable_variance": lambda S, t, x, y, z: ddpm.four_variable_variance(lambda x, t: x, S, x, t, y),
    "merge_noises": lambda S, t, x, y, z: ddpm.merge_noises(S, t, x, y)[1],
    "four_variable_minimiser": lambda S, t, x, y, z: ddpm.four_variable_minimiser(S, t, x),
}


def largest_terms(result: Tensor, t: int | Tensor, *inputs: Tensor) -> Tensor:
    """A bound of what is added in a row: coefficients from two exponentials differ by its rounding."""
    term = sum(v.abs().amax().cpu() for v in inputs) / LINEAR.sqrt_alpha_bar[t]
    return (term**2 * torch.ones(3)).reshape(3, *(1,) * (result.dim() - 1))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_batch_of_levels_is_each_level_alone(call: Callable[..., Tensor], device: torch.device) -> None:
    x, y, z = (v.to(device) for v in tensors(3, (3, 2, 2), torch.float32))
    t = torch.tensor([2, 500, 1000])
    whole = call(LINEAR, t.to(device), x, y, z)
    rows = [call(LINEAR, int(n), *(v[i : i + 1] for v in (x, y, z))) for i, n in enumerate(t)]
    assert whole.dtype == torch.float32
    assert whole.device.type == device.type
    assert misfit(whole.cpu(), torch.cat(rows).cpu(), largest_terms(whole, t, x, y, z), 4) <= 1
    assert misfit(call(LINEAR, t.to(device).flip(0), x, y, z).cpu(), torch.cat(rows).cpu(), 1.0, 4) > 1


def test_a_step_at_an_int_level_is_one_graph() -> None:
    x, y, z = tensors(3)
    call = lambda t: ddpm.step(LINEAR, x, t, y, z)  # noqa: E731
    compiled = torch.compile(call, fullgraph=True, backend="eager")
    for t in (500, 501, 2):
        # tensors and floats take their exponentials from different libraries, one rounding apart
        assert misfit(compiled(t), call(t), (x.abs() + y.abs() + z.abs()) * 2, 8) <= 1
    assert misfit(compiled(3), call(2), (x.abs() + y.abs() + z.abs()) * 2, 8) > 1


X = torch.zeros(2, 3, dtype=torch.float64)
ZERO_SNR = named("jsd-10")
BAD: dict[str, tuple[str, Callable[[], object]]] = {
    "t too large": (r"t must lie in .*1000, got 1001", lambda: ddpm.q_sample(LINEAR, X, 1001, X)),
    "t too small": (r"t must lie in 1\.\.1000, got 0", lambda: ddpm.step(LINEAR, X, 0, X, X)),
    "loss at data": (
        r"t must lie in 1\.\.1000, got 0",
        lambda: ddpm.loss_simple(lambda x, t: x, LINEAR, X, 0, X),
    ),
    "weight of L_0": (r"t must lie in 2\.\.1000, got 1", lambda: ddpm.loss_weight(LINEAR, 1)),
    "term L_0": (r"t must lie in 2\.\.1000, got 1", lambda: ddpm.kl_term(lambda x, t: x, LINEAR, X, 1, X)),
    "s above t": (r"s must be below t = 3, got 3", lambda: ddpm.skip_posterior(LINEAR, X, X, 3, 3)),
    "batch of levels": (
        r"t must .* shape \(B,\)",
        lambda: ddpm.step(LINEAR, X, torch.tensor([1, 2, 3]), X, X),
    ),
    "level in batch": (
        r"t must lie in 1\.\.1000, got 0",
        lambda: ddpm.step(LINEAR, X, torch.tensor([0, 2]), X, X),
    ),
    "shape of noise": (r"noise must have the shape", lambda: ddpm.step(LINEAR, X, 3, X, X[:1])),
    "shape of eps": (r"eps must have the shape", lambda: ddpm.step(LINEAR, X, 3, X[:, :1], X)),
    "dtype of eps": (r"eps must have the dtype", lambda: ddpm.step(LINEAR, X, 3, X.float(), X)),
    "no noise": (r"noise must be given .* level 2", lambda: ddpm.step(LINEAR, X, 3, X, None)),
    "kind": (r"variance must be one of .*got 'small'", lambda: ddpm.variance(LINEAR, 3, kind="small")),
    "no f": (r"learned must be given", lambda: ddpm.variance(LINEAR, 3, kind="learned")),
    "f with beta": (r"learned must be given", lambda: ddpm.variance(LINEAR, 3, kind="beta", learned=X)),
    "f out of range": (
        r"learned must lie in \[0, 1\]",
        lambda: ddpm.variance(LINEAR, 3, None, "learned", X - 1),
    ),
    "first tilde of a stride": (r"s must be t - 1", lambda: ddpm.variance(LINEAR, 3, 1, "beta_first_tilde")),
    "form": (r"form must be one of .*got 'v'", lambda: ddpm.loss_weight(LINEAR, 3, "v")),
    "reduction": (r"reduction must", lambda: ddpm.loss_simple(lambda x, t: x, LINEAR, X, 3, X, "none")),
    "negative variance": (
        r"x_0_variance must be at least 0",
        lambda: ddpm.optimal_variance(LINEAR, 3, X - 1),
    ),
    "no signal": (r"t must have a signal-to-noise ratio above 0", lambda: ddpm.step(ZERO_SNR, X, 10, X, X)),
    "levels": (
        r"levels must end at 0, got 5",
        lambda: last(ddpm.sample(lambda x, t: x, LINEAR, X, [], (9, 5))),
    ),
    "order": (
        r"levels must be below",
        lambda: last(ddpm.sample(lambda x, t: x, LINEAR, X, [X] * 9, (5, 9, 0))),
    ),
}


@pytest.mark.parametrize(("message", "call"), BAD.values(), ids=BAD)
def test_bad_input_is_named(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_the_last_step_may_be_its_mean() -> None:
    x, eps = tensors(2)
    assert torch.equal(ddpm.step(LINEAR, x, 1, eps, None), ddpm.mean_from_eps(LINEAR, x, 1, eps))
    assert torch.equal(
        ddpm.step(LINEAR, x, 700, eps, None, 0, "beta"), ddpm.mean_from_eps(LINEAR, x, 700, eps, 0)
    )


def test_the_posterior_needs_no_signal() -> None:
    assert has_zero_snr(ZERO_SNR)
    x_0, x_t = tensors(2)
    got = ddpm.posterior(ZERO_SNR, x_0, x_t, 10)
    # x_T is pure noise: what is left is the marginal of level 9
    law = ddpm.q_marginal(ZERO_SNR, x_0, 9)
    assert misfit(got.mean, law.mean, law.mean, 4) <= 1
    assert misfit(got.variance, law.variance, law.variance, 4) <= 1


def test_a_step_maps_over_each_argument_and_differentiates_to_its_coefficients() -> None:
    x, eps, noise = tensors(3, (1, 1))
    step = lambda x, eps, noise: ddpm.step(LINEAR, x, 500, eps, noise)  # noqa: E731
    got = ddpm.step_coefficients(LINEAR, 500)
    slopes = torch.func.jacrev(step, argnums=(0, 1, 2))(x, eps, noise)
    for slope, expected in zip(slopes, (got.x_t, got.eps, got.noise), strict=True):
        assert torch.equal(slope.flatten(), expected.reshape(1))
    for i in range(3):
        many = [x, eps, noise]
        many[i] = tensors(1, (4, 1, 1))
        mapped = torch.func.vmap(step, in_dims=tuple(0 if j == i else None for j in range(3)))(*many)
        assert torch.equal(mapped[2], step(*(v[2] if j == i else v for j, v in enumerate(many))))
        assert not torch.equal(mapped[1], mapped[2])
