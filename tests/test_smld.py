"""The laws of annealed Langevin sampling, each with a broken form that it rejects."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_laws import levels, misfit, named, tensors
from torch import Tensor

from refdiff import ddpm, score_matching, smld
from refdiff.data import Empirical
from refdiff.schedule import Schedule, from_alpha_bar

LINEAR = named("linear-1000")
DTYPES = (torch.float64, torch.float32)


def double(*values: object) -> Tensor:
    return torch.tensor(*values, dtype=torch.float64)


MEAN, COV = double([0.75, -1.5]), double([[0.5, 0.3], [0.3, 0.4]])
START_MEAN, START_COV = double([-0.25, 2.0]), double([[3.0, -0.5], [-0.5, 2.0]])
SIGMAS = smld.geometric_sigmas(2.0, 0.05, 6)
EPSILON, STEPS = 3e-3, 4
EYE = torch.eye(2, dtype=torch.float64)


def perfect(x: Tensor, sigma: Tensor) -> Tensor:
    """The score of Gaussian data with noise, for σ of shape (B,)."""
    assert sigma.shape == x.shape[:1]
    total = COV + (sigma**2)[:, None, None] * EYE
    return -torch.linalg.solve(total, (x - MEAN)[:, :, None])[:, :, 0]


# The ladder and its steps.


Ladder = Callable[[float, float, int], Tensor]


def ladder_error(ladder: Ladder, sigma_1: float, sigma_L: float, L: int) -> float:
    with mpmath.workdps(50):
        ratio = mpmath.mpf(sigma_L) / mpmath.mpf(sigma_1)
        expected = [float(mpmath.mpf(sigma_1) * ratio ** (mpmath.mpf(i) / (L - 1))) for i in range(L)]
    got = ladder(sigma_1, sigma_L, L)
    assert got.shape == (L,) and got.dtype == torch.float64
    # a power rounds its base once, and multiplies that by its exponent, which is at most 1
    return misfit(got, double(expected), double(expected), 4 + abs(math.log(sigma_L / sigma_1)))


@given(st.floats(0.5, 400), st.floats(1e-3, 0.4), st.integers(2, 40))
def test_neighbours_have_one_ratio(sigma_1: float, sigma_L: float, L: int) -> None:
    assert ladder_error(smld.geometric_sigmas, sigma_1, sigma_L, L) <= 1
    ladder = smld.geometric_sigmas(sigma_1, sigma_L, L)
    assert float(ladder[0]) == sigma_1 and float(ladder[-1]) == sigma_L
    assert bool((ladder[1:] < ladder[:-1]).all())


@pytest.mark.parametrize(
    "broken",
    [
        lambda a, b, n: a * (b / a) ** (torch.arange(n, dtype=torch.float64) / n),
        lambda a, b, n: torch.linspace(a, b, n, dtype=torch.float64),
        lambda a, b, n: smld.geometric_sigmas(a, b, n).flip(0),
    ],
)
def test_other_ladders_are_seen(broken: Ladder) -> None:
    assert ladder_error(broken, 20.0, 0.01, 10) > 1


@given(st.floats(1e-8, 1e-2))
def test_step_sizes_scale_with_the_noise_variance_and_end_at_epsilon(epsilon: float) -> None:
    got = smld.step_sizes(SIGMAS, epsilon)
    assert float(got[-1]) == epsilon
    assert misfit(got / SIGMAS**2, epsilon / float(SIGMAS[-1]) ** 2, epsilon / float(SIGMAS[-1]) ** 2, 8) <= 1
    by_std = epsilon * SIGMAS / SIGMAS[-1]
    assert misfit(by_std / SIGMAS**2, epsilon / 0.05**2, epsilon / 0.05**2, 8) > 1


# One step.


def invariance_error(step: Callable[..., Tensor], alpha: float, rule: str) -> float:
    """The variance of N(0, w) after a step with its own score is w + drift²/w, second order in the step."""
    w = 1.75
    x, z = double([[1.0], [0.0]]), double([[0.0], [1.0]])
    on_x, on_z = step(x, -x / w, alpha, z, rule).flatten().tolist()
    drift = alpha / 2 if rule == "half" else alpha
    return misfit(double(on_x**2 * w + on_z**2), w + drift**2 / w, w, 16)


@given(st.floats(1e-4, 1.0), st.sampled_from(["half", "eta"]))
def test_a_step_keeps_the_law_of_its_score_to_first_order(alpha: float, rule: str) -> None:
    assert invariance_error(smld.step, alpha, rule) <= 1


def half_missing(x: Tensor, score: Tensor, alpha: float, noise: Tensor, rule: str = "half") -> Tensor:
    return x + alpha * score + alpha**0.5 * noise


def noise_of_practice(x: Tensor, score: Tensor, alpha: float, noise: Tensor, rule: str = "half") -> Tensor:
    return x + alpha / 2 * score + (2 * alpha) ** 0.5 * noise


def variance_for_std(x: Tensor, score: Tensor, alpha: float, noise: Tensor, rule: str = "half") -> Tensor:
    return x + alpha / 2 * score + alpha * noise


def uphill(x: Tensor, score: Tensor, alpha: float, noise: Tensor, rule: str = "half") -> Tensor:
    return x - alpha / 2 * score + alpha**0.5 * noise


BROKEN_STEPS = (half_missing, noise_of_practice, variance_for_std, uphill)


@pytest.mark.parametrize("broken", BROKEN_STEPS)
def test_another_balance_of_drift_and_noise_is_seen(broken: Callable[..., Tensor]) -> None:
    assert invariance_error(broken, 0.01, "half") > 1


@given(st.floats(1e-6, 1.0))
def test_the_two_rules_are_one_step_at_twice_the_size(alpha: float) -> None:
    x, score, z = tensors(3)
    eta, half = smld.step(x, score, alpha, z, "eta"), smld.step(x, score, 2 * alpha, z, "half")
    assert torch.equal(eta, half)
    assert not torch.equal(eta, smld.step(x, score, alpha, z, "half"))


# The whole chain on Gaussian data, exactly.

Sampler = Callable[..., Tensor]


def read_affine(sampler: Sampler, denoise: bool, rule: str) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the last state of an affine sampler, from one run on basis vectors."""
    draws = len(SIGMAS) * STEPS
    rows = torch.eye(1 + 2 + 2 * draws, dtype=torch.float64)
    noises = [rows[:, 3 + 2 * k : 5 + 2 * k] for k in range(draws)]
    out = sampler(perfect, SIGMAS, rows[:, 1:3], EPSILON, STEPS, noises, denoise, rule)
    offset, slopes = out[0], (out - out[0])[1:]
    mean = offset + START_MEAN @ slopes[:2]
    return mean, slopes[:2].mT @ START_COV @ slopes[:2] + slopes[2:].mT @ slopes[2:]


def chain_error(sampler: Sampler, denoise: bool = False, rule: str = "half") -> float:
    mean, cov = read_affine(sampler, denoise, rule)
    args = (SIGMAS, MEAN, COV, EPSILON, STEPS, START_MEAN, START_COV, denoise, rule)
    expected_mean, expected_cov = smld.chain_moments(*args)
    roundings = 16 * len(SIGMAS) * STEPS  # each step is a solve and a sum
    return max(misfit(mean, expected_mean, 3.0, roundings), misfit(cov, expected_cov, 3.0, roundings))


@pytest.mark.parametrize("denoise", [False, True])
@pytest.mark.parametrize("rule", ["half", "eta"])
def test_the_moments_of_the_chain_are_those_of_the_sampler(denoise: bool, rule: str) -> None:
    assert chain_error(smld.annealed_langevin, denoise, rule) <= 1


def with_step(step: Callable[..., Tensor]) -> Sampler:
    def sampler(
        score_fn: smld.Score, sigmas: Tensor, x: Tensor, epsilon: float, steps: int, noises: Iterable[Tensor],
        denoise: bool, rule: str,
    ) -> Tensor:  # fmt: skip
        draws = iter(noises)
        for sigma, alpha in zip(sigmas, smld.step_sizes(sigmas, epsilon), strict=True):
            for _ in range(steps):
                x = step(x, score_fn(x, sigma.expand(len(x))), float(alpha), next(draws), rule)
        return x

    return sampler


def ascending(score_fn: smld.Score, sigmas: Tensor, x: Tensor, epsilon: float, steps: int,
              noises: Iterable[Tensor], denoise: bool, rule: str) -> Tensor:  # fmt: skip
    draws = iter(noises)
    alphas = smld.step_sizes(sigmas, epsilon)
    for sigma, alpha in zip(sigmas.flip(0), alphas.flip(0), strict=True):
        for _ in range(steps):
            x = smld.step(x, score_fn(x, sigma.expand(len(x))), alpha, next(draws), "half")
    return x


def one_step_short(score_fn: smld.Score, sigmas: Tensor, x: Tensor, epsilon: float, steps: int,
                   noises: Iterable[Tensor], denoise: bool, rule: str) -> Tensor:  # fmt: skip
    return smld.annealed_langevin(score_fn, sigmas, x, epsilon, steps - 1, noises)


def noise_of_one_tensor(score_fn: smld.Score, sigmas: Tensor, x: Tensor, epsilon: float, steps: int,
                        noises: Iterable[Tensor], denoise: bool, rule: str) -> Tensor:  # fmt: skip
    first = next(iter(noises))
    return smld.annealed_langevin(score_fn, sigmas, x, epsilon, steps, itertools.repeat(first))


@pytest.mark.parametrize(
    "broken", [*map(with_step, BROKEN_STEPS), ascending, one_step_short, noise_of_one_tensor]
)
def test_another_chain_has_other_moments(broken: Sampler) -> None:
    assert chain_error(with_step(smld.step)) <= 1
    assert chain_error(broken) > 1


def exact_recursion(
    variance: Fraction, epsilon: Fraction, sigmas: list[Fraction], steps: int
) -> tuple[Fraction, Fraction]:
    """Mean (of data of mean 0) and variance by the recursion, step by step, in rational numbers."""
    mean, v = Fraction(5, 4), Fraction(3, 8)
    for sigma in sigmas:
        alpha = epsilon * sigma**2 / sigmas[-1] ** 2
        rho = 1 - alpha / (2 * (variance + sigma**2))
        for _ in range(steps):
            mean, v = rho * mean, rho**2 * v + alpha
    return mean, v


@settings(max_examples=30)
@given(st.integers(1, 60), st.fractions(Fraction(1, 64), 4, max_denominator=64), st.integers(-9, 0))
def test_the_closed_form_of_a_level_is_the_recursion(steps: int, variance: Fraction, power: int) -> None:
    sigmas, epsilon = [Fraction(3, 2), Fraction(3, 4), Fraction(1, 4)], Fraction(10) ** power
    mean, v = exact_recursion(variance, epsilon, sigmas, steps)
    ladder, law = double([1.5, 0.75, 0.25]), (double([0.0]), double([[float(variance)]]))
    got = smld.chain_moments(ladder, *law, float(epsilon), steps, double([1.25]), double([[0.375]]))
    # each level rounds ρ once, and the power multiplies that by the number of steps; ρ² may grow
    largest = float(max(abs(v), Fraction(1)))
    assert misfit(got[0], float(mean), max(abs(float(mean)), 1.0), 16 * (steps + 4)) <= 1
    assert misfit(got[1], float(v), largest, 32 * (steps + 4)) <= 1
    naive = exact_recursion(variance, epsilon, sigmas, steps - 1)
    assert misfit(got[1], float(naive[1]), largest, 32 * (steps + 4)) > 1 or power < -6 or naive[1] == v


def tiny_steps_error(moments: Callable[..., tuple[Tensor, Tensor]]) -> float:
    """The variance that a thousand tiny steps add, against 60 digits."""
    sigmas, epsilon, steps = double([1.0, 0.5]), 1e-13, 1000
    zero = double([0.0])
    _, cov = moments(sigmas, zero, double([[0.25]]), epsilon, steps, zero, double([[0.0]]))
    with mpmath.workdps(60):
        exact = mpmath.mpf(0)
        for sigma in (1.0, 0.5):
            alpha, w = 4 * mpmath.mpf(epsilon) * sigma**2, mpmath.mpf(0.25) + sigma**2
            rho = 1 - alpha / (2 * w)
            exact = rho ** (2 * steps) * exact + alpha * (1 - rho ** (2 * steps)) / (1 - rho**2)
    return misfit(cov, float(exact), float(exact), 32)


def by_differences(
    sigmas: Tensor, mean: Tensor, cov: Tensor, epsilon: float, steps: int, start_mean: Tensor,
    start_cov: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    for sigma, alpha in zip(sigmas, smld.step_sizes(sigmas, epsilon), strict=True):
        total = cov + sigma**2
        left = (1 - alpha / (2 * total)) ** (2 * steps)
        start_cov = left * start_cov + total / (1 - alpha / (4 * total)) * (1 - left)
    return start_mean, start_cov


def test_the_moments_keep_their_digits_where_steps_are_tiny() -> None:
    assert tiny_steps_error(smld.chain_moments) <= 1
    assert tiny_steps_error(by_differences) > 1


def test_a_long_chain_settles_above_the_variance_of_the_noised_data() -> None:
    sigmas, epsilon = double([0.5]), 0.3
    mean, cov = smld.chain_moments(sigmas, MEAN, COV, epsilon, 10_000, START_MEAN, START_COV)
    total = COV + 0.25 * EYE
    settled = 4 * total @ total @ torch.linalg.inv(4 * total - epsilon * EYE)
    assert misfit(mean, MEAN, 2.0, 64) <= 1
    assert misfit(cov, settled, 2.0, 64) <= 1
    assert misfit(cov, total, 2.0, 64) > 1
    assert bool((torch.linalg.eigvalsh(cov - total) > 0).all())


def test_steps_below_four_times_the_last_variance_contract_whatever_the_data() -> None:
    last = float(SIGMAS[-1]) ** 2
    for variance in (1e-9, 0.1, 10.0):
        law = (double([0.0]), variance * double([[1.0]]))
        start = (double([1.0]), double([[1.0]]))
        mean, _ = smld.chain_moments(SIGMAS, *law, 3.99 * last, 50, *start)
        assert abs(float(mean)) < 1
    grown, _ = smld.chain_moments(SIGMAS, double([0.0]), 1e-9 * double([[1.0]]), 4.1 * last, 50, *start)
    assert abs(float(grown)) > 1


def test_denoising_at_the_exact_law_loses_the_posterior_variance() -> None:
    sigma = double([0.5])
    total = COV + 0.25 * EYE
    # one step so small that the law does not move
    kept = smld.chain_moments(sigma, MEAN, COV, 1e-18, 1, MEAN, total)
    denoised = smld.chain_moments(sigma, MEAN, COV, 1e-18, 1, MEAN, total, denoise=True)
    assert misfit(kept[1], total, 1.0, 32) <= 1
    assert misfit(denoised[1], COV @ torch.linalg.inv(total) @ COV, 1.0, 64) <= 1
    assert bool((torch.linalg.eigvalsh(COV - denoised[1]) > 0).all())


# What the sampler asks.


class Recording:
    """A score that notes the levels it is asked at."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        assert sigma.shape == x.shape[:1] and sigma.dtype == x.dtype
        self.asked.append(float(sigma[0]))
        return -x


def drawn(count: int, like: Tensor) -> Iterator[Tensor]:
    for _ in range(count):
        yield torch.zeros_like(like)


def test_every_level_is_asked_so_many_times_from_the_largest_down() -> None:
    x = tensors(1)
    for denoise in (False, True):
        score_fn, noises = Recording(), drawn(len(SIGMAS) * 3 + 1, x)
        smld.annealed_langevin(score_fn, SIGMAS, x, 1e-4, 3, noises, denoise)
        expected = [sigma for sigma in SIGMAS.tolist() for _ in range(3)] + SIGMAS.tolist()[-1:] * denoise
        assert score_fn.asked == expected
        assert len(list(noises)) == 1  # the last denoising draws nothing


def test_a_sampler_without_noise_enough_stops() -> None:
    x = tensors(1)
    with pytest.raises(ValueError, match="noises must hold one tensor for each of the 18 steps, got fewer"):
        smld.annealed_langevin(Recording(), SIGMAS, x, 1e-4, 3, drawn(17, x))


def denoise_error(denoise: Callable[..., Tensor], sigma: float) -> float:
    """Against the mean of three points given data plus noise."""
    points = double([[-1.0, 0.5], [2.0, 1.0], [0.3, -1.2]])
    abar = 1 / (1 + sigma**2)
    law, schedule = Empirical(points), from_alpha_bar([abar])
    x = tensors(1, (4, 2))
    score = abar**0.5 * law.score(schedule, abar**0.5 * x, 1)
    shares = torch.softmax(-((x[:, None] - points) ** 2).sum(2) / (2 * sigma**2), dim=1)
    condition = (1 + (x.abs().max() + 2) ** 2 / sigma**2) * 3
    return misfit(denoise(x, sigma, score), shares @ points, condition, 64)


@pytest.mark.parametrize("sigma", [0.3, 1.5])
def test_the_last_denoising_is_the_mean_of_the_data(sigma: float) -> None:
    assert denoise_error(smld.denoise, sigma) <= 1
    assert denoise_error(lambda x, s, score: x + s * score, sigma) > 1
    assert denoise_error(lambda x, s, score: x + s**2 / 2 * score, sigma) > 1


# The loss.


def network(x: Tensor, sigma: Tensor) -> Tensor:
    return torch.tanh(x) / (1 + sigma.reshape(-1, *[1] * (x.dim() - 1)))


def weighted_error(loss: Callable[..., Tensor], index: int | Tensor) -> float:
    x, z = tensors(2, (3, 2, 2))
    sigma = SIGMAS[index].expand(3)
    plain = score_matching.denoising_loss(lambda y: network(y, sigma), x, sigma, z)
    got = loss(network, SIGMAS, x, index, z)
    size = ((z.abs() + sigma.reshape(3, 1, 1)) ** 2).sum((1, 2))
    return misfit(got, sigma**2 * plain, size, 32)


@pytest.mark.parametrize("index", [0, 3, 5, torch.tensor([5, 0, 2])])
def test_the_loss_of_a_level_is_its_variance_times_the_denoising_loss(index: int | Tensor) -> None:
    assert weighted_error(smld.loss, index) <= 1


def with_weight(weight: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def loss(score_fn: smld.Score, sigmas: Tensor, x: Tensor, index: int | Tensor, z: Tensor) -> Tensor:
        sigma = sigmas[index].expand(len(x))
        return smld.loss(score_fn, sigmas, x, index, z) / sigma**2 * weight(sigma)

    return loss


def mean_over_dimensions(
    score_fn: smld.Score, sigmas: Tensor, x: Tensor, index: int | Tensor, z: Tensor
) -> Tensor:
    return smld.loss(score_fn, sigmas, x, index, z) / x[0].numel()


def first_level_for_all(
    score_fn: smld.Score, sigmas: Tensor, x: Tensor, index: int | Tensor, z: Tensor
) -> Tensor:
    return smld.loss(score_fn, sigmas, x, int(torch.as_tensor(index).flatten()[0]), z)


@pytest.mark.parametrize("broken", [with_weight(torch.ones_like), with_weight(abs), mean_over_dimensions])
def test_another_weight_is_seen(broken: Callable[..., Tensor]) -> None:
    assert weighted_error(broken, 2) > 1


def test_a_batch_of_levels_has_a_level_for_each_sample() -> None:
    assert weighted_error(first_level_for_all, torch.tensor([5, 0, 2])) > 1
    x, z = tensors(2, (3, 2))
    index = torch.tensor([5, 0, 2])
    together = smld.loss(network, SIGMAS, x, index, z)
    apart = [smld.loss(network, SIGMAS, x[i : i + 1], int(index[i]), z[i : i + 1]) for i in range(3)]
    assert misfit(together, torch.cat(apart), together, 8) <= 1


@pytest.mark.parametrize("index", [0, 2, 5])
def test_the_perfect_score_leaves_the_share_of_the_data(index: int) -> None:
    """Every term is quadratic, so points with the moments of data and noise give the mean exactly."""
    root = torch.linalg.cholesky(torch.block_diag(COV, EYE))
    axes = 2 * torch.cat([root.mT, -root.mT])
    loss = smld.loss(perfect, SIGMAS, MEAN + axes[:, :2], index, axes[:, 2:].contiguous()).mean()
    spread = torch.linalg.eigvalsh(COV)
    expected = (spread / (2 * (spread + SIGMAS[index] ** 2))).sum()
    assert misfit(loss, expected, 2.0, 64) <= 1
    constant = score_matching.denoising_constant(COV, float(SIGMAS[index]))
    assert misfit(SIGMAS[index] ** 2 * constant, expected, expected, 16) <= 1
    assert expected < 1 and misfit(constant, expected, 2.0, 64) > 1


def ddpm_error(factor: float, schedule: Schedule, t: int) -> float:
    """DDPM's loss of the noise against that of a ladder with the level √((1−ᾱ)/ᾱ)."""
    x_0, eps = tensors(2, (3, 2))
    eps_model = lambda x, t: torch.tanh(x) + 0.25  # noqa: E731
    scale = schedule.sqrt_alpha_bar[t]
    level = schedule.sigma[t]

    def score_fn(x: Tensor, sigma: Tensor) -> Tensor:
        return -eps_model(scale * x, t) / sigma[:, None]

    got = smld.loss(score_fn, level.reshape(1), x_0, 0, eps)
    expected = ddpm.loss_simple(eps_model, schedule, x_0, t, eps, "sum")
    size = (eps.abs() + 1.25 + scale * x_0.abs()).square().sum(1)
    return misfit(factor * got, expected, size, 64)


@given(levels(1, lowest=1, signal=True))
def test_ddpm_minimises_the_same_loss_at_its_own_levels(drawn_level: tuple[Schedule, tuple[int]]) -> None:
    schedule, (t,) = drawn_level
    assert ddpm_error(2.0, schedule, t) <= 1
    assert ddpm_error(1.0, schedule, t) > 1
    assert ddpm_error(2 * float(schedule.sigma[t]), schedule, t) > 1 or abs(schedule.sigma[t] - 1) < 1e-9


# Dtypes, devices, graphs and bad input.


@pytest.mark.parametrize("dtype", DTYPES)
def test_everything_keeps_the_dtype(dtype: torch.dtype) -> None:
    x, score, z = tensors(3, dtype=dtype)
    assert smld.step(x, score, 0.1, z).dtype == dtype
    assert smld.step(x, score, double(0.1), z).dtype == dtype
    assert smld.denoise(x, 0.5, score).dtype == dtype
    assert smld.loss(network, SIGMAS, x, torch.tensor([0, 5, 2]), z).dtype == dtype
    noises = [z] * (len(SIGMAS) * 2)
    assert smld.annealed_langevin(network, SIGMAS, x, 1e-4, 2, noises, True).dtype == dtype
    law = (MEAN.to(dtype), COV.to(dtype), EPSILON, STEPS, START_MEAN.to(dtype), START_COV.to(dtype))
    narrow, wide = smld.chain_moments(SIGMAS, *law), smld.chain_moments(
        SIGMAS, MEAN, COV, EPSILON, STEPS, START_MEAN, START_COV
    )
    assert narrow[0].dtype == narrow[1].dtype == dtype
    assert misfit(narrow[1], wide[1], wide[1].abs().max(), 64) <= 1


def test_everything_stays_on_the_device(device: torch.device) -> None:
    x, z = tensors(2)
    index = torch.tensor([5, 0, 2])
    calls: tuple[Callable[[Tensor, Tensor, Tensor], Tensor], ...] = (
        lambda x, z, index: smld.loss(network, SIGMAS, x, index, z),
        lambda x, z, index: smld.annealed_langevin(network, SIGMAS, x, 1e-4, 2, [z] * 12, True),
        lambda x, z, index: smld.denoise(x, 0.5, z),
    )
    for call in calls:
        there, here = call(x.to(device), z.to(device), index.to(device)), call(x, z, index)
        assert there.device.type == device.type
        assert misfit(there.cpu(), here, here.abs() + 1, 256) <= 1
    moments = (MEAN.to(device), COV.to(device), EPSILON, STEPS, START_MEAN.to(device), START_COV.to(device))
    mean, cov = smld.chain_moments(SIGMAS.to(device), *moments)
    assert mean.device.type == cov.device.type == device.type


def zeros(count: int = 99) -> list[Tensor]:
    return [torch.zeros_like(MEAN.reshape(1, 2))] * count


ROW = MEAN.reshape(1, 2)
MOMENTS = (MEAN, COV, EPSILON, STEPS, START_MEAN, START_COV)
BAD: tuple[tuple[Callable[[], object], str], ...] = (
    (lambda: smld.geometric_sigmas(1.0, 0.1, 1), r"L must be at least 2, got 1"),
    (lambda: smld.geometric_sigmas(1.0, 0.0, 3), r"sigma_L must be above 0 and finite, got 0"),
    (lambda: smld.geometric_sigmas(math.inf, 0.1, 3), r"sigma_1 must be above 0 and finite, got inf"),
    (lambda: smld.geometric_sigmas(0.1, 1.0, 3), r"sigma_L must be below sigma_1 = 0.1, got 1.0"),
    (lambda: smld.step_sizes(SIGMAS.flip(0), 1e-3), r"sigmas must descend strictly, got \[0.05"),
    (lambda: smld.step_sizes(double([2.0, 2.0]), 1e-3), r"sigmas must descend strictly"),
    (lambda: smld.step_sizes(double([1.0, 0.0]), 1e-3), r"sigmas must be above 0 and finite, got \[1"),
    (lambda: smld.step_sizes(double([1.0, math.nan]), 1e-3), r"sigmas must be above 0 and finite"),
    (lambda: smld.step_sizes(double([]), 1e-3), r"sigmas must have shape \(L,\), got \(0,\)"),
    (lambda: smld.step_sizes(torch.tensor([2, 1]), 1e-3), r"sigmas must be a floating-point tensor"),
    (lambda: smld.step_sizes(SIGMAS, -1.0), r"epsilon must be above 0 and finite, got -1.0"),
    (lambda: smld.step(ROW, ROW, 0.0, ROW), r"alpha must be above 0 and finite, got 0.0"),
    (lambda: smld.step(ROW, ROW, 0.1, MEAN), r"noise must have the shape of x, \(1, 2\), got \(2,\)"),
    (lambda: smld.step(ROW, ROW.float(), 0.1, ROW), r"score must have the dtype of x"),
    (lambda: smld.step(ROW, ROW, 0.1, ROW, "full"), r"rule must be one of half, eta, got 'full'"),  # type: ignore[arg-type]
    (lambda: smld.loss(network, SIGMAS, ROW, 6, ROW), r"index must lie in 0\.\.5, got 6"),
    (lambda: smld.loss(network, SIGMAS, ROW, torch.tensor([-1]), ROW), r"index must lie in 0\.\.5, got -1"),
    (
        lambda: smld.loss(network, SIGMAS, ROW, torch.tensor([1, 2]), ROW),
        r"index must be an int or have shape \(B,\)",
    ),
    (lambda: smld.loss(network, SIGMAS, ROW, 1, ROW.float()), r"noise must have the dtype of x"),
    (lambda: smld.loss(lambda x, s: x[:, :1], SIGMAS, ROW, 1, ROW), r"score must have the shape of x"),
    (lambda: smld.denoise(ROW, -0.5, ROW), r"sigma must be above 0 and finite, got -0.5"),
    (lambda: smld.annealed_langevin(network, SIGMAS, ROW, 1e-3, 0, zeros()), r"steps must be at least 1"),
    (
        lambda: smld.annealed_langevin(network, SIGMAS, ROW, 1e-3, 1, [MEAN] * 9),
        r"noise must have the shape of x",
    ),
    (lambda: smld.chain_moments(SIGMAS, *MOMENTS[:3], 0, *MOMENTS[4:]), r"steps must be at least 1"),
    (lambda: smld.chain_moments(SIGMAS, MEAN, COV[:1], *MOMENTS[2:]), r"cov must have shape"),
    (
        lambda: smld.chain_moments(SIGMAS, *MOMENTS[:4], START_MEAN[:1], START_COV),
        r"start_mean must have shape",
    ),
    (
        lambda: smld.chain_moments(SIGMAS, *MOMENTS[:4], START_MEAN.float(), START_COV.float()),
        r"start_mean must have the dtype of mean",
    ),
)


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
