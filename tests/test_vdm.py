"""The laws of variational diffusion in γ, each with a form that it rejects."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import mpmath
import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference_laws import misfit, tensors
from torch import Tensor

from refdiff import data, ddpm, process, vdm, vlb
from refdiff.schedule import from_alpha_bar

EPS = torch.finfo(torch.float64).eps


def double(*values: object) -> Tensor:
    return torch.tensor(*values, dtype=torch.float64)


ENDS = (-6.0, 4.0)
VARIANCE, MEAN = double([0.5, 2.25]), double([0.75, -1.5])
GAMMA_0, GAMMA_1 = (double(end) for end in ENDS)


def grid(T: int, gamma: vdm.Schedule | None = None) -> Tensor:
    """The T + 1 levels at equal times."""
    return (gamma or vdm.LinearGamma(*ENDS))(torch.linspace(0, 1, T + 1, dtype=torch.float64))


def learned(seed: int = 0, width: int = 8) -> vdm.MonotoneGamma:
    return vdm.MonotoneGamma(3 * tensors(1, (3, width), seed=seed), *ENDS)


# Levels and steps.


@given(st.floats(-60, 60))
def test_powers_are_the_sigmoids_to_the_last_digits(gamma: float) -> None:
    alpha, sigma = vdm.level(double(gamma))
    with mpmath.workdps(60):
        signal, noise = (float(mpmath.sqrt(1 / (1 + mpmath.exp(s * mpmath.mpf(gamma))))) for s in (1, -1))
    # a root through the logarithm: its argument, up to |γ|/2, is rounded
    assert misfit(torch.stack([alpha, sigma]), double([signal, noise]), double([signal, noise]),
                  8 + abs(gamma)) <= 1  # fmt: skip
    if abs(gamma) > 1e-3:
        exchanged = torch.stack([sigma, alpha])
        assert misfit(exchanged, double([signal, noise]), double([signal, noise]), 8 + abs(gamma)) > 1


def levels_of(gamma_t: float, gamma_s: float) -> tuple[Tensor, Tensor]:
    return double(gamma_t), double(gamma_s)


def same_step(step: Callable[..., Tensor], gamma_t: float, gamma_s: float) -> float:
    """Against DDPM between the same two levels of a table, with the variance of the posterior."""
    x, eps, z = tensors(3)
    kept = [1 / (1 + math.exp(g)) for g in (gamma_s, gamma_t)]
    schedule = from_alpha_bar(kept)
    wanted = ddpm.step(schedule, x, 2, eps, z, 1, "beta_tilde")
    size = (kept[0] / kept[1]) ** 0.5 * (x.abs() + eps.abs()) + z.abs()
    # the table holds 1 - alpha_bar and the ratio of two of them, which lose what the levels have in common
    lost = 1 + 1 / (1 - kept[0]) + 1 / -math.expm1(math.log(kept[1] / kept[0]))
    return misfit(step(x, *levels_of(gamma_t, gamma_s), eps, z), wanted, size, 16 * lost)


def exchanged(x: Tensor, gamma_t: Tensor, gamma_s: Tensor, eps: Tensor, noise: Tensor) -> Tensor:
    """expm1 of the rise where that of the fall belongs."""
    c = torch.expm1(gamma_t - gamma_s)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = vdm.level(gamma_t), vdm.level(gamma_s)
    return alpha_s / alpha_t * (x - sigma_t * c * eps) + sigma_s * c.sqrt() * noise


def noise_of_t(x: Tensor, gamma_t: Tensor, gamma_s: Tensor, eps: Tensor, noise: Tensor) -> Tensor:
    right = vdm.step(x, gamma_t, gamma_s, eps, noise)
    c = -torch.expm1(gamma_s - gamma_t)
    return right + (vdm.level(gamma_t).sigma - vdm.level(gamma_s).sigma) * c.sqrt() * noise


@given(st.floats(-6, 5), st.floats(0.05, 4))
def test_a_step_is_that_of_ddpm_between_the_same_levels(low: float, rise: float) -> None:
    assert same_step(vdm.step, low + rise, low) <= 1
    assert same_step(exchanged, low + rise, low) > 1
    assert same_step(noise_of_t, low + rise, low) > 1


@given(st.floats(-20, 20), st.floats(0, 10))
def test_noise_of_the_transition_adds_up(low: float, rise: float) -> None:
    gamma_t, gamma_s = levels_of(low + rise, low)
    added = vdm.transition_variance(gamma_t, gamma_s)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = vdm.level(gamma_t), vdm.level(gamma_s)
    whole = (alpha_t / alpha_s) ** 2 * sigma_s**2 + added
    assert misfit(whole, sigma_t**2, sigma_t**2, 16 + 4 * abs(low) + 2 * rise) <= 1
    posterior = -torch.expm1(gamma_s - gamma_t)
    assert rise < 1e-3 or abs(low) > 4 or misfit((alpha_t / alpha_s) ** 2 * sigma_s**2 + posterior,
                                sigma_t**2, sigma_t**2, 16 + 4 * abs(low) + 2 * rise) > 1  # fmt: skip


def test_the_whole_sampler_has_the_exact_law() -> None:
    """Steps with the perfect prediction of Gaussian data: the mean is exact at any number of steps, and the
    variance is short by what a prediction cannot know, which halves as the steps double."""
    short = [missing_variance(vdm.step, T) for T in (128, 256, 512)]
    assert all(missing > 0 for missing in short)
    assert abs(short[1] / short[2] - 2) < 0.03
    wrong = [missing_variance(noise_of_t, T) for T in (128, 256, 512)]
    assert abs(wrong[1] / wrong[2] - 2) > 0.1 or wrong[2] < 0


def missing_variance(step: Callable[..., Tensor], T: int) -> float:
    """The variance of the level that is reached minus that of the sampler, started from the exact law."""
    c, m, levels = 0.625, 0.75, grid(T)
    alpha, sigma = vdm.level(levels[-1])
    mean, variance = float(alpha) * m, float(alpha**2 * c + sigma**2)
    rows, noise = double([[0.0], [1.0], [0.0]]), double([[0.0], [0.0], [1.0]])
    for high, low in pairwise(levels.flip(0)):
        alpha, sigma = vdm.level(high)
        eps = sigma * (rows - alpha * m) / (alpha**2 * c + sigma**2)
        offset, whole, fresh = step(rows, high, low, eps, noise).flatten().tolist()
        mean = offset + (whole - offset) * mean
        variance = (whole - offset) ** 2 * variance + (fresh - offset) ** 2
    alpha, sigma = vdm.level(levels[0])
    assert abs(mean - float(alpha) * m) < 64 * T * EPS
    return float(alpha**2 * c + sigma**2) - variance


# The diffusion loss.


def perfect(c: Tensor, mean: Tensor) -> vdm.Model:
    """The best prediction of the noise for independent dimensions."""

    def model(z: Tensor, gamma: Tensor) -> Tensor:
        alpha, sigma = (factor.reshape(-1, 1) for factor in vdm.level(gamma))
        return sigma * (z - alpha * mean) / (alpha**2 * c + sigma**2)

    return model


def points() -> tuple[Tensor, Tensor]:
    """Data and noise as equally weighted points with the moments of independent normals, to second order."""
    axes = torch.diag(torch.cat([VARIANCE, torch.ones(2, dtype=torch.float64)]).sqrt()) * 2
    x, z = torch.cat([axes, -axes]).split(2, 1)
    return (x + MEAN).contiguous(), z.contiguous()


MODEL = perfect(VARIANCE, MEAN)


def discrete_loss(loss: Callable[..., Tensor], T: int, gamma: vdm.Schedule) -> Tensor:
    """Its mean over the steps, data and noise, of all of which the points have the second moments."""
    x, z = points()
    return torch.stack([loss(MODEL, gamma, x, i, T, z).mean() for i in range(1, T + 1)]).mean()


def not_halved(model: vdm.Model, gamma: vdm.Schedule, x: Tensor, i: int, T: int, z: Tensor) -> Tensor:
    return 2 * vdm.loss_discrete(model, gamma, x, i, T, z)


def one_time_always(model: vdm.Model, gamma: vdm.Schedule, x: Tensor, i: int, T: int, z: Tensor) -> Tensor:
    return vdm.loss_discrete(model, gamma, x, T, T, z)


def sum_for_mean(model: vdm.Model, gamma: vdm.Schedule, x: Tensor, i: int, T: int, z: Tensor) -> Tensor:
    return vdm.loss_discrete(model, gamma, x, i, T, z) / T


def continuous_weight(model: vdm.Model, gamma: vdm.Schedule, x: Tensor, i: int, T: int, z: Tensor) -> Tensor:
    t = torch.full((x.shape[0],), i / T, dtype=torch.float64)
    return vdm.loss_continuous(model, gamma, x, t, z)


@pytest.mark.parametrize("T", [1, 2, 7])
def test_the_discrete_loss_of_gaussian_data_is_exact(T: int) -> None:
    gamma = learned()
    wanted = vdm.gaussian_loss_discrete(VARIANCE, grid(T, gamma).detach())
    found = discrete_loss(vdm.loss_discrete, T, gamma).detach()
    assert misfit(found, wanted, wanted, 64 * 10) <= 1
    for broken in (not_halved, one_time_always, sum_for_mean, continuous_weight):
        if T > 1 or broken in (not_halved, continuous_weight):
            assert misfit(discrete_loss(broken, T, gamma).detach(), wanted, wanted, 64 * 10) > 1


def test_the_losses_of_a_batch_are_those_of_its_samples() -> None:
    x, z = tensors(2, (3, 2))
    t = double([0.125, 0.5, 1.0])
    gamma = learned()
    whole = vdm.loss_continuous(MODEL, gamma, x, t, z).detach()
    index = torch.tensor([1, 4, 8])
    steps = vdm.loss_discrete(MODEL, gamma, x, index, 8, z).detach()
    for k in range(3):
        row = slice(k, k + 1)
        one = vdm.loss_continuous(MODEL, gamma, x[row], float(t[k]), z[row]).detach()
        assert misfit(whole[row], one, one, 64) <= 1
        one = vdm.loss_discrete(MODEL, gamma, x[row], int(index[k]), 8, z[row]).detach()
        assert misfit(steps[row], one, one, 64) <= 1
    assert misfit(whole.flip(0), whole, whole, 64) > 1


@given(st.floats(-6, 5), st.floats(0.05, 4))
def test_a_term_is_that_of_the_bound_of_ddpm(low: float, rise: float) -> None:
    eps, guess = tensors(2)
    kept = [1 / (1 + math.exp(g)) for g in (low, low + rise)]
    wanted = vlb.step_term(from_alpha_bar(kept), eps, guess, 2, "eps", "beta_tilde").flatten(1).sum(1)
    lost = 1 + 1 / (1 - kept[0]) + 1 / -math.expm1(math.log(kept[1] / kept[0]))
    assert misfit(vdm.term(eps, guess, *levels_of(low + rise, low)), wanted, wanted, 16 * lost) <= 1
    for weight in (rise / 2, math.expm1(rise), -math.expm1(-rise) / 2):
        other = weight * (eps - guess).square().flatten(1).sum(1)
        assert misfit(other, wanted, wanted, 16 * lost) > 1


@given(st.lists(st.floats(-6, 4), min_size=1, max_size=6), st.lists(st.floats(-6, 4), min_size=1, max_size=6))
def test_more_levels_never_raise_the_loss_and_no_number_reaches_continuous_time(
    some: list[float], more: list[float]
) -> None:
    coarse = double(sorted([*ENDS, *some]))
    fine = double(sorted([*ENDS, *some, *more]))
    least = vdm.gaussian_loss_continuous(VARIANCE, GAMMA_0, GAMMA_1)
    first, second = (vdm.gaussian_loss_discrete(VARIANCE, levels) for levels in (coarse, fine))
    assert second <= first * (1 + 16 * EPS) and least < second
    # with the error where a step ends, which the step does not see, the sum lies below its limit
    late = torch.expm1(fine.diff())[:, None] * vdm.gaussian_rate(VARIANCE, fine[:-1])
    lower = (torch.exp(-fine.diff())[:, None] * late).sum() / 2
    assert lower < least


def test_twice_as_many_steps_halve_the_distance_from_continuous_time() -> None:
    least = vdm.gaussian_loss_continuous(VARIANCE, GAMMA_0, GAMMA_1)
    excess = [float(vdm.gaussian_loss_discrete(VARIANCE, grid(T)) - least) for T in (64, 128, 256, 512)]
    assert all(a > b > 0 for a, b in pairwise(excess))
    ratios = [a / b for a, b in pairwise(excess)]
    assert abs(ratios[-1] - 2) < 0.02 and abs(ratios[-1] - 2) < 0.6 * abs(ratios[-2] - 2)
    errors = vdm.gaussian_rate(VARIANCE, double([*ENDS]))
    squares = 2 * least + (errors[1] - errors[0]).sum()
    leading = float((GAMMA_1 - GAMMA_0) / 4 * squares)
    assert abs(512 * excess[-1] - leading) < 0.6 * abs(256 * excess[-2] - leading) < 0.05 * leading
    # the weight of continuous time in the sum converges too, with another first order
    linear = [float((grid(T).diff()[:, None] * vdm.gaussian_rate(VARIANCE, grid(T)[1:])).sum() / 2 - least)
              for T in (256, 512)]  # fmt: skip
    assert abs(512 * linear[1] - leading) > 0.1 * leading and linear[1] < 0


def clock(t: Tensor) -> Tensor:
    """A cosine schedule between the same ends."""
    return ENDS[0] + (ENDS[1] - ENDS[0]) * (1 - torch.cos(math.pi * t)) / 2


SCHEDULES: tuple[vdm.Schedule, ...] = (
    vdm.LinearGamma(*ENDS), vdm.OptimalGamma(*ENDS, 0.5), clock, learned(0), learned(1),
    lambda t: learned()(t**2),
)  # fmt: skip


def over_time(gamma: vdm.Schedule, loss: Callable[..., Tensor] = vdm.loss_continuous) -> float:
    """The integral of the loss over time, by Gauss' rule; data and noise by their second moments."""
    x, z = points()
    nodes, weights = (double(part) for part in numpy.polynomial.legendre.leggauss(120))
    times = ((nodes + 1) / 2).repeat_interleave(len(x))
    losses = loss(MODEL, gamma, x.repeat(len(nodes), 1), times, z.repeat(len(nodes), 1)).detach()
    return float((weights / 2) @ losses.reshape(len(nodes), len(x)).mean(1))


def weighed_by_time(model: vdm.Model, gamma: vdm.Schedule, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
    return 2 * t * vdm.loss_continuous(model, gamma, x, t, z)


def without_slope(model: vdm.Model, gamma: vdm.Schedule, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
    return 5 * vdm.loss_continuous(model, gamma, x, t, z) / vdm.slope(gamma, t)[1]


def test_the_continuous_loss_knows_the_ends_of_the_schedule_alone() -> None:
    wanted = float(vdm.gaussian_loss_continuous(VARIANCE, GAMMA_0, GAMMA_1))
    found = [over_time(gamma) for gamma in SCHEDULES]
    assert max(abs(f / wanted - 1) for f in found) < 1e-7
    for broken in (weighed_by_time, without_slope):
        wrong = [over_time(gamma, broken) for gamma in SCHEDULES[:3]]
        assert max(wrong) / min(wrong) > 1.1
    other_end = over_time(vdm.LinearGamma(ENDS[0], ENDS[1] - 1))
    assert abs(other_end / wanted - 1) > 1e-3


def test_the_loss_of_a_single_step_is_not_invariant() -> None:
    losses = [float(vdm.gaussian_loss_discrete(VARIANCE, grid(8, gamma).detach())) for gamma in SCHEDULES]
    assert max(losses) > 1.1 * min(losses)


# The whole bound.


def test_the_bound_of_gaussian_data_falls_to_its_entropy_plus_that_of_the_prior() -> None:
    """Against the entropy and the divergence of q(z_1) from the prior, both by their textbook forms."""
    entropy = float((0.5 * torch.log(2 * math.pi * math.e * VARIANCE)).sum())
    alpha, sigma = vdm.level(GAMMA_1)
    total = alpha**2 * VARIANCE + sigma**2
    prior = float(((total + (alpha * MEAN) ** 2 - 1 - total.log()) / 2).sum())
    distance = [float(vdm.gaussian_bound(MEAN, VARIANCE, grid(T))) - entropy - prior for T in (512, 1024)]
    assert distance[0] > distance[1] > 0 and abs(distance[0] / distance[1] - 2) < 0.02
    decoder = vdm.gaussian_reconstruction_term(VARIANCE, GAMMA_0)
    continuous = vdm.gaussian_loss_continuous(VARIANCE, GAMMA_0, GAMMA_1)
    told = 0.5 * torch.log1p(VARIANCE * torch.exp(-GAMMA_1)).sum()
    assert abs(float(decoder + continuous + told) - entropy) < 64 * EPS
    assert abs(float(decoder + continuous) - entropy) > 1e-3


@given(st.floats(-3, 45))
def test_the_prior_term_keeps_its_digits(gamma_1: float) -> None:
    x = double([[0.5, -1.25, 2.0]])
    with mpmath.workdps(60):
        kept = 1 / (1 + mpmath.exp(mpmath.mpf(gamma_1)))
        parts = [(kept * (mpmath.mpf(v) ** 2 - 1) - mpmath.log(1 - kept)) / 2 for v in x[0].tolist()]
        wanted = float(mpmath.fsum(parts))
        size = float(mpmath.fsum([kept * mpmath.mpf(v) ** 2 for v in x[0].tolist()]))
    assert misfit(vdm.prior_term(x, double(gamma_1)), wanted, wanted + size, 16 + abs(gamma_1)) <= 1
    unit = x[:, :1] * 0 + 1
    plain = (torch.sigmoid(double(-gamma_1)) * x**2 - torch.sigmoid(double(-gamma_1))
             - torch.log(1 - torch.sigmoid(double(-gamma_1)))).sum(1) / 2  # fmt: skip
    assert gamma_1 < 30 or misfit(plain, wanted, wanted, 16 + abs(gamma_1)) > 1
    assert misfit(vdm.prior_term(unit, double(gamma_1)), wanted, wanted + size, 16 + abs(gamma_1)) > 1


VALUES = torch.linspace(-1, 1, 17, dtype=torch.float64)


def chances(term: Callable[..., Tensor], gamma_0: float) -> Tensor:
    """The decoder's probability of each value at one z: the noise is what is left of z for each."""
    z = 0.1875
    noise = ((z - VALUES) * math.exp(-gamma_0 / 2))[:, None]
    return torch.exp(-term(VALUES[:, None].contiguous(), VALUES, double(gamma_0), noise))


def noiseless(x: Tensor, values: Tensor, gamma_0: Tensor, noise: Tensor) -> Tensor:
    return vdm.reconstruction_term(x, values, gamma_0, torch.zeros_like(noise))


def twice(x: Tensor, values: Tensor, gamma_0: Tensor, noise: Tensor) -> Tensor:
    return vdm.reconstruction_term(x, values, 2 * gamma_0, noise)


@given(st.floats(-12, 3))
def test_the_decoder_is_bayes_rule_for_values_alike_in_advance(gamma_0: float) -> None:
    got = chances(vdm.reconstruction_term, gamma_0)
    with mpmath.workdps(50):
        density = [mpmath.exp(-((mpmath.mpf("0.1875") - mpmath.mpf(v)) ** 2) / 2 * mpmath.exp(-gamma_0))
                   for v in VALUES.tolist()]  # fmt: skip
        wanted = double([float(d / mpmath.fsum(density)) for d in density])
    # the exponent is a sum of squares of numbers of this size, in units of the noise
    reach = (1.2 * math.exp(-gamma_0 / 2)) ** 2
    assert misfit(got, wanted, wanted + 1e-300, 64 * (1 + reach)) <= 1
    assert abs(float(got.sum()) - 1) < 64 * EPS * (1 + reach)
    assert abs(float(chances(noiseless, gamma_0).sum()) - 1) > 1e-3
    if abs(gamma_0) > 0.5 and gamma_0 < 4 and gamma_0 > -8:
        assert float((chances(twice, gamma_0) - wanted).abs().max()) > 1e-6


def test_data_that_are_not_seen_cost_all_their_bits() -> None:
    bytes_ = torch.linspace(-1, 1, 256, dtype=torch.float64)
    x = bytes_[torch.tensor([[0, 17, 255, 128]])]
    hidden = vdm.reconstruction_term(x, bytes_, double(40.0), tensors(1, (1, 4)))
    assert abs(float(vdm.bits_per_dim(hidden / 4)) - 8) < 1e-6
    seen = vdm.reconstruction_term(x, bytes_, double(-16.0), tensors(1, (1, 4)))
    assert float(vdm.bits_per_dim(seen / 4)) < 0.01


# Schedules.

Parameters = st.lists(st.floats(-8, 8), min_size=12, max_size=12)


def with_parameters(numbers: list[float]) -> vdm.MonotoneGamma:
    """A schedule with any parameters."""
    made = learned(width=3)
    values = iter(numbers)
    with torch.no_grad():
        for parameter in (made.w_1, made.b_1, made.w_2, made.b_2, made.w_3):
            parameter.copy_(double([next(values) for _ in range(parameter.numel())]).reshape(parameter.shape))
    return made


TIMES = torch.linspace(0, 1, 33, dtype=torch.float64)


@given(Parameters)
def test_a_learned_schedule_rises_and_keeps_its_ends_whatever_its_parameters(numbers: list[float]) -> None:
    gamma = with_parameters(numbers)
    values, slopes = (part.detach() for part in vdm.slope(gamma, TIMES))
    assert float(values[0]) == ENDS[0]
    assert abs(float(values[-1]) - ENDS[1]) <= 8 * EPS * 10
    assert bool((values.diff() >= 0).all()) and bool((slopes >= 0).all())
    free = gamma.free(TIMES).detach()
    assert max(abs(float(free[0]) - ENDS[0]), abs(float(free[-1]) - ENDS[1])) > 1e-6


def test_weights_of_either_sign_would_fall_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    # a line of slope 6, and units that fall steeply in the middle
    gamma = with_parameters([6.0, 0.0, *[-8.0] * 3, *[24.0] * 3, *[2.0] * 3, 0.0])
    assert bool((gamma(TIMES).diff() > 0).all())
    monkeypatch.setattr("refdiff._vdm_gamma.softplus", lambda weight: weight)
    assert not bool((gamma(TIMES).diff() >= 0).all())


def test_learning_a_schedule_cannot_move_its_ends() -> None:
    """Steps that lower the variance of the estimate over times; the loss itself stays what it was."""
    gamma = learned()
    optimiser = torch.optim.Adam(gamma.parameters(), lr=0.3)
    times = (TIMES[1:] + TIMES[:-1]) / 2

    def rates() -> Tensor:
        value, slope = vdm.slope(gamma, times)
        return slope / 2 * vdm.gaussian_rate(VARIANCE, value).sum(1)

    before = float(rates().detach().var())
    for _ in range(80):
        optimiser.zero_grad()
        (rates() ** 2).mean().backward()
        optimiser.step()
    assert float(rates().detach().var()) < before / 4
    ends = gamma(double([0.0, 1.0])).detach()
    assert float(ends[0]) == ENDS[0] and abs(float(ends[1]) - ENDS[1]) < 64 * EPS
    assert abs(over_time(gamma) / float(vdm.gaussian_loss_continuous(VARIANCE, GAMMA_0, GAMMA_1)) - 1) < 1e-7
    moved = gamma.free(double([0.0, 1.0])).detach()
    assert abs(float(moved[1] - moved[0]) - 10) > 1e-3
    assert vdm.MonotoneGamma(tensors(1, (3, 4)), learn_ends=True).ends.requires_grad
    assert not gamma.ends.requires_grad


def test_slopes_are_derivatives() -> None:
    for gamma in SCHEDULES:
        inner = TIMES[4:-4]
        steps = [(gamma(inner + h) - gamma(inner - h)).detach() / (2 * h) for h in (2**-8, 2**-9)]
        extrapolated = (4 * steps[1] - steps[0]) / 3
        assert torch.allclose(vdm.slope(gamma, inner)[1].detach(), extrapolated, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(vdm.slope(gamma, inner**2)[1].detach(), extrapolated + 0.01, rtol=1e-4)


@given(st.floats(-9, -1), st.floats(0.5, 8), st.floats(0.01, 50))
def test_the_optimal_schedule_pays_at_one_rate(gamma_0: float, gamma_1: float, c: float) -> None:
    gamma = vdm.OptimalGamma(gamma_0, gamma_1, c)
    value, slope = vdm.slope(gamma, TIMES)
    rates = slope / 2 * vdm.gaussian_rate(double([c]), value).squeeze(1)
    wanted = float(vdm.gaussian_loss_continuous(double([c]), double(gamma_0), double(gamma_1)))
    # the level is a logarithm of what is told, whose digits are lost where little is
    lost = 1 + math.exp(gamma_1) / c
    assert misfit(rates, wanted, wanted, 64 * (lost + 20)) <= 1
    assert abs(float(value[0]) - gamma_0) <= 64 * EPS * lost * 20
    assert abs(float(value[-1]) - gamma_1) <= 64 * EPS * lost * 20
    line = vdm.LinearGamma(gamma_0, gamma_1)
    even = (gamma_1 - gamma_0) / 2 * vdm.gaussian_rate(double([c]), line(TIMES)).squeeze(1)
    assert misfit(even, wanted, wanted, 64 * (lost + 20)) > 1


def test_gamma_of_a_process_is_minus_its_log_snr() -> None:
    vp, t = process.VP(), double([0.125, 0.5, 1.0])
    gamma = vdm.gamma_of(vp, t)
    alpha, sigma = vdm.level(gamma)
    assert torch.allclose(alpha, vp.scale(t), rtol=64 * EPS, atol=0)
    assert torch.allclose(sigma, vp.std(t), rtol=64 * EPS, atol=0)
    law = data.GaussianLaw(MEAN, torch.diag(VARIANCE))
    x = tensors(1, (3, 2))
    assert torch.allclose(law.at(alpha, sigma).eps(x), MODEL(x, gamma), rtol=0, atol=64 * EPS)
    wrong = vdm.level(-gamma)
    assert not torch.allclose(wrong.alpha, vp.scale(t), rtol=1e-3)


def test_stratified_times_cover_and_stay_uniform() -> None:
    for u in (0.0, 0.3, 0.999):
        times = vdm.stratified_times(double(u), 8)
        assert times.shape == (8,) and bool(((times >= 0) & (times < 1)).all())
        assert torch.equal(torch.sort((times * 8).floor()).values, torch.arange(8, dtype=torch.float64))
    smooth = lambda t: torch.cos(2 * math.pi * t) ** 2  # noqa: E731
    means = torch.stack([smooth(vdm.stratified_times(double(u), 8)).mean() for u in (0.0, 0.05, 0.11)])
    assert float((means - 0.5).abs().max()) < 16 * EPS
    bunched = torch.stack([smooth((double(u) + TIMES[:8]) % 1).mean() for u in (0.0, 0.05, 0.11)])
    assert float((bunched - 0.5).abs().max()) > 0.1


# What is refused, and where it runs.

x2, z2 = tensors(2, (3, 2))
ONE, TWO = double(1.0), double([1.0, 2.0])
LINE = vdm.LinearGamma(*ENDS)
BAD: list[tuple[str, Callable[[], object]]] = [
    ("gamma must be float64", lambda: vdm.level(torch.tensor(1.0))),
    ("gamma must be a number, got nan", lambda: vdm.level(double(math.nan))),
    ("gamma must have shape () or (B,)", lambda: vdm.q_sample(x2, TWO, z2)),
    ("noise must have the shape of x", lambda: vdm.q_sample(x2, ONE, z2[:1])),
    ("gamma_s must not be above gamma_t", lambda: vdm.step(x2, ONE, 2 * ONE, z2, z2)),
    ("gamma_s must have shape", lambda: vdm.transition_variance(ONE, TWO)),
    ("gamma_s must not be above gamma_t", lambda: vdm.term(x2, z2, ONE, 2 * ONE)),
    ("eps_hat must have the shape of eps", lambda: vdm.term(x2, z2[:1], ONE, ONE)),
    ("slope must be float64", lambda: vdm.rate(x2, z2, torch.tensor(1.0))),
    ("index must lie in 1..4, got 0", lambda: vdm.loss_discrete(MODEL, LINE, x2, 0, 4, z2)),
    ("T must be at least 1", lambda: vdm.loss_discrete(MODEL, LINE, x2, 1, 0, z2)),
    ("t must lie in 0..1.0, got 1.5", lambda: vdm.loss_continuous(MODEL, LINE, x2, 1.5, z2)),
    ("t must be a float64 tensor", lambda: LINE(torch.tensor(0.5))),
    ("x must be a floating-point tensor", lambda: vdm.prior_term(torch.ones(3, 2, dtype=torch.int64), ONE)),
    ("x must hold values only", lambda: vdm.reconstruction_term(x2, VALUES, ONE, z2)),
    ("values must be torch.float64", lambda: vdm.reconstruction_term(x2, VALUES.float(), ONE, z2)),
    ("gamma_1 must be above gamma_0", lambda: vdm.LinearGamma(1.0, 1.0)),
    ("gamma_0 must be finite", lambda: vdm.LinearGamma(-math.inf, 1.0)),
    ("variance must be above 0", lambda: vdm.OptimalGamma(*ENDS, 0.0)),
    ("noises must be float64 of shape (3, H)", lambda: vdm.MonotoneGamma(x2[:2])),
    ("gammas must rise", lambda: vdm.gaussian_loss_discrete(VARIANCE, double([1.0, 0.0]))),
    ("variance must be above 0", lambda: vdm.gaussian_loss_continuous(-VARIANCE, ONE, ONE)),
    ("gamma must be float64 of one axis", lambda: vdm.gaussian_rate(VARIANCE, ONE)),
    ("uniform must lie in [0, 1)", lambda: vdm.stratified_times(ONE, 3)),
    ("uniform must be float64 of shape ()", lambda: vdm.stratified_times(TWO, 3)),
    ("count must be at least 1", lambda: vdm.stratified_times(0 * ONE, 0)),
]


def test_bad_input_is_named() -> None:
    for message, call in BAD:
        with pytest.raises(ValueError) as raised:
            pytest.fail(f"{message}: {call()} is no error")
        assert message in str(raised.value), message


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_half_precision_data_keep_their_dtype(dtype: torch.dtype) -> None:
    x, z = (t.to(dtype) for t in (x2, z2))
    model = lambda z, gamma: z  # noqa: E731
    assert vdm.step(x, ONE, 0 * ONE, z, z).dtype == dtype
    assert vdm.loss_discrete(model, LINE, x, 2, 4, z).dtype == dtype
    assert vdm.loss_continuous(model, LINE, x, 0.5, z).dtype == dtype
    exact = vdm.loss_continuous(model, LINE, x.double(), 0.5, z.double())
    assert misfit(vdm.loss_continuous(model, LINE, x, 0.5, z), exact, exact + 40, 32) <= 1
