"""The laws of consistency functions, their sampler and their training, each with a form that it rejects."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import mpmath
import pytest
import scipy.integrate
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_laws import misfit, tensors
from torch import Tensor

from refdiff import consistency
from refdiff.data import Empirical, GaussianLaw

EPS = torch.finfo(torch.float64).eps
LOW = 0.03125


def double(*values: object) -> Tensor:
    return torch.tensor(*values, dtype=torch.float64)


LAW = GaussianLaw(double([0.75, -1.5]), double([[0.5, 0.375], [0.375, 0.75]]))
SPREAD, AXES = torch.linalg.eigh(LAW.cov)
SIGMAS = double([5.0, 1.5, 0.25])
START = (double([0.25, -0.5]), double([[20.0, 1.0], [1.0, 26.0]]))


def exact(x: Tensor, sigma: Tensor) -> Tensor:
    return consistency.gaussian_function(LAW, x, sigma, LOW)


def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
    return LAW.at(1.0, sigma).x_0(x)


# The boundary condition.


def edm(sigma: Any, sigma_data: float, sigma_min: float) -> tuple[Tensor, Tensor]:
    at = torch.as_tensor(sigma, dtype=torch.float64)
    total = at**2 + sigma_data**2
    return sigma_data**2 / total, at * sigma_data / total.sqrt()


def meets_boundary(scalings: Callable[..., Any], sigma_data: float, sigma_min: float) -> bool:
    skip, out = scalings(sigma_min, sigma_data, sigma_min)
    return bool(skip == 1) and bool(out == 0)


@given(st.floats(0.01, 30), st.floats(1e-4, 0.5))
@settings(max_examples=40)
def test_at_the_smallest_level_the_function_is_the_identity(sigma_data: float, sigma_min: float) -> None:
    x = tensors(1)
    shout = lambda x, sigma: torch.full_like(x, 1e6)  # noqa: E731
    assert torch.equal(consistency.function(shout, x, sigma_min, sigma_data, sigma_min), x)
    assert meets_boundary(consistency.boundary, sigma_data, sigma_min)
    assert not meets_boundary(edm, sigma_data, sigma_min)


def euler_share(sigma: float, sigma_data: float, sigma_min: float) -> Tensor:
    """What the network gets in one Euler step to sigma_min with EDM's denoiser, by differentiation."""
    network = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    skip, out = edm(sigma, sigma_data, sigma_min)
    denoised = lambda x, sigma: skip * x + out * network  # noqa: E731
    end = consistency.ode_step(denoised, torch.ones(1, 1, dtype=torch.float64), sigma, sigma_min, "euler")
    return torch.autograd.grad(end.sum(), network)[0].squeeze()


@given(st.floats(0.1, 80), st.floats(0.1, 10))
def test_the_network_gets_its_share_of_one_euler_step_of_edm(sigma: float, sigma_data: float) -> None:
    got = consistency.boundary(sigma, sigma_data, 0.0625).c_out
    share = euler_share(sigma, sigma_data, 0.0625)
    # the level itself is rounded, and subtracted from
    assert misfit(share, got, got * sigma / (sigma - 0.0625), 16) <= 1
    assert misfit(share, edm(sigma, sigma_data, 0.0)[1], got * sigma / (sigma - 0.0625), 16) > 1


def test_the_scalings_of_a_batch_are_those_of_its_levels() -> None:
    sigmas = double([0.002, 0.5, 80.0])
    both = consistency.boundary(sigmas)
    for k, sigma in enumerate(sigmas):
        alone = consistency.boundary(float(sigma))
        assert torch.equal(both.c_skip[k], alone.c_skip) and torch.equal(both.c_out[k], alone.c_out)
    assert torch.allclose(consistency.input_scale(sigmas) ** -2, sigmas**2 + 0.25, rtol=8 * EPS, atol=0)


# The exact function of Gaussian data.

SPACE = GaussianLaw(double([0.75, -1.5, 0.25]), double([[0.5, 0.3, 0.1], [0.3, 0.4, -0.2], [0.1, -0.2, 1.5]]))


def end_of_ode(x: Tensor, sigma: float) -> Tensor:
    """The end of dx/dσ = −σ·score at the smallest level, by an adaptive solver of order 8."""

    def slope(level: float, state: Any) -> Any:
        point = torch.as_tensor(state, dtype=torch.float64).reshape(x.shape)
        return (-level * SPACE.at(1.0, level).score(point)).flatten().numpy()

    found = scipy.integrate.solve_ivp(
        slope, (sigma, LOW), x.flatten().numpy(), method="DOP853", rtol=1e-12, atol=1e-13
    )
    return torch.as_tensor(found.y[:, -1], dtype=torch.float64).reshape(x.shape)


def by_coordinate(law: GaussianLaw, x: Tensor, sigma: Any, sigma_min: float) -> Tensor:
    slope = ((law.cov.diag() + sigma_min**2) / (law.cov.diag() + sigma**2)).sqrt()
    return law.mean + slope * (x - law.mean)


def to_clean_data(law: GaussianLaw, x: Tensor, sigma: Any, sigma_min: float) -> Tensor:
    return consistency.gaussian_function(law, x, sigma, 1e-9)


def just_denoised(law: GaussianLaw, x: Tensor, sigma: Any, sigma_min: float) -> Tensor:
    return law.at(1.0, sigma).x_0(x)


def test_the_exact_function_is_the_end_point_of_the_ode() -> None:
    x = 4 * tensors(1, (3, 3))
    right = end_of_ode(x, 4.0)
    error = (consistency.gaussian_function(SPACE, x, 4.0, LOW) - right).abs().max()
    # the solver's tolerance for each of some hundred steps
    assert error < 1e-10
    for broken in (by_coordinate, to_clean_data, just_denoised):
        assert (broken(SPACE, x, 4.0, LOW) - right).abs().max() > 1e-4


@given(st.floats(0.05, 80), st.floats(0.05, 80))
def test_the_exact_function_has_one_value_along_a_solution(first: float, second: float) -> None:
    """From one level to another the ODE multiplies each axis; the function does not see it."""
    away = tensors(1, (4, 2))
    moved = [away * (SPREAD + sigma**2).sqrt() @ AXES.mT + LAW.mean for sigma in (first, second)]
    ends = [exact(x, double(sigma)) for x, sigma in zip(moved, (first, second), strict=True)]
    size = LAW.mean.abs().max() + away.abs().max() * 2
    assert misfit(ends[0], ends[1], size * (1 + max(first, second) / (SPREAD[0] ** 0.5)), 64) <= 1
    wrong = [denoiser(x, double(sigma)) for x, sigma in zip(moved, (first, second), strict=True)]
    if max(first, second) > 1.5 * min(first, second):
        assert misfit(wrong[0], wrong[1], size * (1 + max(first, second) / (SPREAD[0] ** 0.5)), 64) > 1


def test_levels_and_shapes_of_a_batch() -> None:
    x, sigma = tensors(1, (3, 2, 1)), double([0.5, 2.0, 8.0])
    whole = consistency.gaussian_function(LAW, x, sigma, LOW)
    assert whole.shape == x.shape
    for k in range(3):
        alone = consistency.gaussian_function(LAW, x[k : k + 1], float(sigma[k]), LOW)
        assert torch.allclose(whole[k], alone[0], rtol=0, atol=16 * EPS)
    single = consistency.gaussian_function(LAW, x.float(), sigma, LOW)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), consistency.gaussian_function(LAW, x.float().double(), sigma, LOW),
                          rtol=0, atol=float(torch.finfo(torch.float32).eps) * 4)


# Multistep sampling, exactly.

Renoise = Callable[[Tensor, Tensor, Tensor], Tensor]


def missing_noise(x: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    return consistency.renoise(x, sigma, noise, LOW)


def whole_noise(x: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    return x + sigma * noise


def sampled(renoise: Renoise, x: Tensor, noises: list[Tensor], left: bool = False) -> Tensor:
    """The sampler with another way up; with ``left`` it goes up once more at the end."""
    x = exact(x, SIGMAS[0])
    for sigma, noise in zip(SIGMAS[1:], noises, strict=True):
        x = renoise(x, sigma, noise)
        x = x if left and sigma == SIGMAS[-1] else exact(x, sigma)
    return x


def law_of(sampler: Callable[[Tensor, list[Tensor]], Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and covariance of an affine sampler, read off a batch of basis vectors."""
    count = 2 * len(SIGMAS)
    unit = torch.cat([torch.zeros(1, count, dtype=torch.float64), torch.eye(count, dtype=torch.float64)])
    parts = [part.contiguous() for part in unit.split(2, 1)]
    rows = sampler(parts[0], parts[1:])
    offset, slopes = rows[0], rows[1:] - rows[0]
    on_start, on_noise = slopes[:2].mT, slopes[2:].mT
    return offset + on_start @ START[0], on_start @ START[1] @ on_start.mT + on_noise @ on_noise.mT


def apart(found: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> float:
    return max(misfit(a, b, b.abs().max() + 30, 64) for a, b in zip(found, wanted, strict=True))


def test_the_law_of_multistep_sampling_is_exact() -> None:
    wanted = consistency.multistep_moments(LAW, SIGMAS, *START, LOW)
    assert apart(law_of(lambda x, z: consistency.multistep(exact, x, SIGMAS, z, LOW)), wanted) <= 1
    assert apart(law_of(lambda x, z: sampled(missing_noise, x, z)), wanted) <= 1
    broken: tuple[Callable[[Tensor, list[Tensor]], Tensor], ...] = (
        lambda x, z: sampled(whole_noise, x, z),
        lambda x, z: sampled(lambda x, sigma, noise: x + (sigma - LOW) * noise, x, z),
        lambda x, z: sampled(lambda x, sigma, noise: x, x, z),
        lambda x, z: sampled(missing_noise, x, z, left=True),
    )
    assert all(apart(law_of(sampler), wanted) > 1 for sampler in broken)


def test_the_law_of_multistep_sampling_is_that_of_its_matrices() -> None:
    """Independently: the push-forward by matrix roots, one level after another."""

    def root(matrix: Tensor) -> Tensor:
        value, axes = torch.linalg.eigh(matrix)
        return axes @ torch.diag(value.sqrt()) @ axes.mT

    eye = torch.eye(2, dtype=torch.float64)
    mean, cov = START
    for k, sigma in enumerate(SIGMAS):
        up = cov + (k > 0) * (sigma**2 - LOW**2) * eye
        slope = root(LAW.cov + LOW**2 * eye) @ torch.linalg.inv(root(LAW.cov + sigma**2 * eye))
        mean, cov = LAW.mean + slope @ (mean - LAW.mean), slope @ up @ slope.mT
    assert apart((mean, cov), consistency.multistep_moments(LAW, SIGMAS, *START, LOW)) <= 1


def test_noise_of_the_whole_level_leaves_a_wrong_law_that_more_steps_do_not_mend() -> None:
    """From the exact law of the first level: right noise keeps the law, the other adds to it each time."""
    sigma, c = 1.5, float(SPREAD[1])
    slope = float(consistency.gaussian_slope(SPREAD, sigma, LOW)[1]) ** 2
    right = wrong = c + LOW**2
    for _ in range(40):
        right, wrong = slope * (right + sigma**2 - LOW**2), slope * (wrong + sigma**2)
    assert abs(right - (c + LOW**2)) < 64 * EPS
    fixed = (c + LOW**2) + slope / (1 - slope) * LOW**2
    assert abs(wrong - fixed) < 64 * EPS and wrong > c + 1.2 * LOW**2


def test_the_error_of_the_start_falls_with_every_level() -> None:
    pure = (torch.zeros(2, dtype=torch.float64), 25 * torch.eye(2, dtype=torch.float64))
    wanted = LAW.cov + LOW**2 * torch.eye(2, dtype=torch.float64)
    errors = [
        (consistency.multistep_moments(LAW, SIGMAS[:n], *pure, LOW)[1] - wanted).norm() for n in (1, 2, 3)
    ]
    assert errors[0] > errors[1] > errors[2] > 0


# The losses.


def points(*variances: float) -> list[Tensor]:
    """Independent numbers with these variances as equally weighted points; means of squares are exact."""
    axes = torch.diag(double(variances).sqrt() * math.sqrt(len(variances)))
    return [column[:, None] for column in torch.cat([axes, -axes]).T]


C, HIGH, SINGLE = 0.625, 1.25, GaussianLaw(double([0.0]), double([[0.625]]))


def slopes(low: float) -> tuple[Tensor, Tensor]:
    """The exact slopes at the two levels, as parameters."""
    return tuple(
        consistency.gaussian_slope(double([C]), sigma, LOW).requires_grad_() for sigma in (HIGH, low)
    )  # type: ignore[return-value]


def losses(low: float, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of the loss of training and of distillation by Euler steps, over data and noise."""
    x_0, z = points(C, 1.0)
    f, g = (lambda x, sigma: student * x), (lambda x, sigma: teacher * x)
    perfect = lambda x, sigma: SINGLE.at(1.0, sigma).x_0(x)  # noqa: E731
    training = consistency.training_loss(f, g, x_0, HIGH, low, z)
    distilled = consistency.distillation_loss(f, g, perfect, x_0, HIGH, low, z, method="euler")
    return training.mean(), distilled.mean()


def gradient(loss: Tensor, *parameters: Tensor) -> float:
    return float(sum(g.sum() for g in torch.autograd.grad(loss, parameters, retain_graph=True)))


@settings(max_examples=25)
@given(st.floats(0.05, 1.2))
def test_on_gaussian_data_both_losses_have_one_gradient_at_every_step(low: float) -> None:
    student, teacher = slopes(low)
    training, distilled = losses(low, student, teacher)
    first, second = gradient(training, student), gradient(distilled, student)
    total = C + HIGH**2
    assert abs(first - second) <= 64 * EPS * total
    end = C + LOW**2
    exactly = 2 * math.sqrt(end) * (math.sqrt(total) - (C + low * HIGH) / math.sqrt(C + low**2))
    assert abs(first - exactly) <= 64 * EPS * total
    gap = float(teacher.detach()) ** 2 * (HIGH - low) ** 2 * C / total
    assert abs(float((training - distilled).detach()) - gap) <= 64 * EPS * total
    assert gap > 1e-6


def alone(loss: Callable[..., Tensor]) -> float:
    """How far the losses of a batch are from those of its samples one by one, in units of their rounding."""
    x_0, z = tensors(2, (3, 2))
    high, low = double([0.5, 2.0, 8.0]), double([0.25, 1.5, 1.0])
    whole = loss(x_0, high, low, z)
    rows = [slice(k, k + 1) for k in range(3)]
    single = torch.cat([loss(x_0[row], high[row], low[row], z[row]) for row in rows])
    return misfit(whole, single, single, 64) if whole.shape == single.shape else math.inf


def test_the_losses_of_a_batch_are_those_of_its_samples() -> None:
    half = lambda x, sigma: x / 2  # noqa: E731
    losses: tuple[Callable[..., Tensor], ...] = (
        lambda x, high, low, z: consistency.training_loss(half, exact, x, high, low, z),
        lambda x, high, low, z: consistency.distillation_loss(half, exact, denoiser, x, high, low, z),
        lambda x, high, low, z: consistency.training_loss(half, exact, x, high, low, z, consistency.absolute),
    )
    assert all(alone(loss) <= 1 for loss in losses)
    # weights of shape (B, 1) times losses of shape (B,) are the mean of one times the mean of the other
    broadcast = lambda x, high, low, z: (losses[0](x, high, low, z) * (high - low)[:, None]).mean(0)  # noqa: E731
    weighed = lambda x, high, low, z: losses[0](x, high, low, z) * (high - low)  # noqa: E731
    assert alone(weighed) <= 1 and alone(broadcast) > 1


def other_noise(low: float, student: Tensor, teacher: Tensor) -> Tensor:
    x_0, z, other = points(C, 1.0, 1.0)
    return ((student * (x_0 + HIGH * z) - teacher.detach() * (x_0 + low * other)) ** 2).mean()


def through_the_target(low: float, student: Tensor, teacher: Tensor) -> Tensor:
    x_0, z = points(C, 1.0)
    return ((student * (x_0 + HIGH * z) - teacher * (x_0 + low * z)) ** 2).mean()


def test_fresh_noise_and_a_target_that_learns_have_other_gradients() -> None:
    low = 1.0
    student, teacher = slopes(low)
    right = gradient(losses(low, student, teacher)[0], student)
    assert abs(gradient(other_noise(low, student, teacher), student) - right) > 0.1
    shared = gradient(through_the_target(low, student, teacher), student, teacher)
    assert abs(shared - right) > 0.01


def test_nothing_flows_back_through_teacher_and_denoiser() -> None:
    x_0, z = points(C, 1.0)
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    both = lambda x, sigma: weight * x  # noqa: E731
    loss = consistency.training_loss(both, both, x_0, HIGH, 1.0, z)
    x, low = x_0 + HIGH * z, x_0 + 1.0 * z
    wanted = (2 * (x - low) * x).mean()
    assert abs(gradient(loss.mean(), weight) - float(wanted)) <= 32 * EPS * float((x**2).mean())
    loss = consistency.distillation_loss(lambda x, s: 2 * x, both, both, x_0, HIGH, 1.0, z)
    assert not loss.requires_grad


def test_without_the_stop_training_shrinks_the_exact_function() -> None:
    """One factor on both functions: the gradient of training has the sign that shrinks it, of the size
    proved; that of distillation is far smaller."""
    low = 1.125
    student, teacher = (slope.detach() for slope in slopes(low))
    factor = torch.ones((), dtype=torch.float64, requires_grad=True)
    x_0, z = points(C, 1.0)
    x, below = x_0 + HIGH * z, x_0 + low * z
    training = ((factor * (student * x - teacher * below)) ** 2).mean()
    down = consistency.ode_step(lambda x, s: SINGLE.at(1.0, s).x_0(x), x, HIGH, low, "euler")
    distilled = ((factor * (student * x - teacher * down)) ** 2).mean()
    bias = 2 * float(teacher) ** 2 * (HIGH - low) ** 2 * C / (C + HIGH**2)
    found = gradient(training, factor) - gradient(distilled, factor)
    assert abs(found - bias) < 64 * EPS
    assert gradient(distilled, factor) < bias / 100


def test_training_follows_distillation_up_to_second_order_for_any_data() -> None:
    """Two points of data and a curved function: the mean target over the data given x, against the target of
    the Euler step. The difference over h² tends to half the curvature times Var[x_0|x]/σ²."""
    law = Empirical(double([[-0.75], [0.5]]))
    x, sigma = double([[0.375]]), 0.875
    mean = law.at(1.0, sigma).x_0(x)
    share = (mean - law.points[0]) / (law.points[1] - law.points[0])
    variance = share * (1 - share) * (law.points[1] - law.points[0]) ** 2
    f = lambda x, s: torch.sin(2 * x) * s + x**3  # noqa: E731
    curvature = -4 * torch.sin(2 * x) * sigma + 6 * x

    def gap(h: float) -> float:
        single = [consistency.ode_step(lambda x, s, p=p: p.expand_as(x), x, sigma, sigma - h, "euler")
                  for p in law.points]  # fmt: skip
        targets = [f(point, sigma - h) for point in single]
        down = consistency.ode_step(lambda x, s: law.at(1.0, s).x_0(x), x, sigma, sigma - h, "euler")
        average = (1 - share) * targets[0] + share * targets[1]
        return float((average - f(down, sigma - h)) / h**2)

    limit = float(curvature / 2 * variance / sigma**2)
    errors = [abs(gap(h) - limit) for h in (2**-6, 2**-7, 2**-8)]
    assert all(1.9 < a / b < 2.1 for a, b in pairwise(errors))
    # the noise's variance in place of the data's is another limit
    assert abs(gap(2**-8) - float(curvature / 2)) > 10 * errors[-1]


def trained(levels: Tensor, fresh: bool = False) -> float:
    """The slope at the last level, each level minimising its loss exactly: one Newton step of a quadratic."""
    slope = torch.ones((), dtype=torch.float64)
    x_0, z, other = points(C, 1.0, 1.0)
    for low, high in pairwise(levels.tolist()):
        own = torch.zeros((), dtype=torch.float64, requires_grad=True)
        f, g = (lambda x, s, own=own: own * x), (lambda x, s, slope=slope: slope * x)
        if fresh:
            loss = ((own * (x_0 + high * z) - slope * (x_0 + low * other)) ** 2).mean()
        else:
            loss = consistency.training_loss(f, g, x_0, high, low, z).mean()
        (first,) = torch.autograd.grad(loss, own, create_graph=True)
        (second,) = torch.autograd.grad(first, own)
        slope = (own - first / second).detach()
    return float(slope)


def test_training_converges_to_the_composition_of_euler_steps() -> None:
    levels = consistency.levels(LOW, 8.0, 9)
    wanted = float(consistency.trained_slope(double([C]), levels))
    assert abs(trained(levels) - wanted) < 100 * EPS
    assert abs(trained(levels, fresh=True) - wanted) > 0.01


def test_trained_samples_are_too_narrow_and_the_deficit_falls_as_one_over_the_levels() -> None:
    right = float(consistency.gaussian_slope(double([C]), 8.0, LOW))
    deficit = []
    for count in (33, 65, 129, 257):
        levels = consistency.levels(LOW, 8.0, count)
        got = float(consistency.trained_slope(double([C]), levels))
        gaps = levels.diff() ** 2 / ((C + levels[1:] ** 2) * (C + levels[:-1] ** 2))
        assert abs((got / right) ** 2 - float((1 - C * gaps).prod())) < 8 * count * EPS
        deficit.append(1 - got / right)
    assert all(d > 0 for d in deficit)
    ratios = [a / b for a, b in pairwise(deficit)]
    # 2 (1 + O(1/N)): the distance from 2 halves as the number of levels doubles
    assert abs(ratios[-1] - 2) < 0.02 and abs(ratios[-1] - 2) < 0.6 * abs(ratios[-2] - 2)


def test_heun_distils_to_third_order_and_euler_to_second() -> None:
    """The local error of a step at the exact function, as the step halves."""
    x = double([[2.0, -1.0]])
    perfect = exact(x, double(2.0))

    def ratio(method: Any) -> float:
        errors = [
            (exact(consistency.ode_step(denoiser, x, 2.0, 2.0 - h, method), double(2.0 - h)) - perfect).norm()
            for h in (2**-6, 2**-7)
        ]
        return float(torch.log2(errors[0] / errors[1]))

    assert abs(ratio("euler") - 2) < 0.05
    assert abs(ratio("heun") - 3) < 0.05


# Distances, levels, numbers of levels and weights.


@given(st.floats(1e-9, 1e6), st.integers(1, 3000))
def test_the_pseudo_huber_distance_keeps_its_digits(size: float, dim: int) -> None:
    u = torch.full((1, dim), size / math.sqrt(dim), dtype=torch.float64)
    with mpmath.workdps(50):
        c = mpmath.mpf(consistency.huber_constant(dim))
        square = mpmath.fsum(mpmath.mpf(v) ** 2 for v in [float(u[0, 0])]) * dim
        wanted = mpmath.sqrt(square + c**2) - c
        error = abs(mpmath.mpf(float(consistency.pseudo_huber(u)[0])) / wanted - 1)
        plain = math.sqrt(float(square) + float(c) ** 2) - float(c)
        cancelled = abs(mpmath.mpf(plain) / wanted - 1)
    assert error <= (8 + dim) * EPS
    # the difference of the roots as it is written loses what is small against c
    assert size > float(c) * 1e-4 or cancelled > 64 * EPS


def test_the_constant_of_the_distance_grows_with_the_root_of_the_dimension() -> None:
    assert consistency.huber_constant(1) == 0.00054
    ratio = consistency.huber_constant(3 * 32 * 32) / (0.00054 * math.sqrt(3072))
    assert abs(ratio - 1) <= 2 * EPS
    u = tensors(1, (1, 5))
    copies = consistency.pseudo_huber(u.repeat(1, 16))
    assert torch.allclose(copies, 4 * consistency.pseudo_huber(u), rtol=32 * EPS, atol=0)
    assert not torch.allclose(consistency.squared(u.repeat(1, 16)), 4 * consistency.squared(u))
    assert torch.equal(consistency.absolute(u.repeat(2, 1)), u.abs().sum().repeat(2))


@given(st.integers(2, 60), st.floats(1, 12))
def test_the_roots_of_the_levels_have_equal_differences(N: int, rho: float) -> None:
    got = consistency.levels(0.002, 80.0, N, rho)
    with mpmath.workdps(50):
        low, high = (mpmath.mpf(v) ** (1 / mpmath.mpf(rho)) for v in (0.002, 80.0))
        wanted = [float((low + (high - low) * i / (N - 1)) ** mpmath.mpf(rho)) for i in range(N)]
    # a rounded root is raised to a power; its logarithm was rounded before
    assert misfit(got, double(wanted), double(wanted), 8 * rho + 16) <= 1
    assert float(got[0]) == 0.002 and float(got[-1]) == 80.0 and bool((got.diff() > 0).all())
    geometric = 0.002 * (80.0 / 0.002) ** (torch.arange(N, dtype=torch.float64) / (N - 1))
    assert N == 2 or misfit(geometric, double(wanted), double(wanted), 8 * rho + 16) > 1


def in_floats(k: int, K: int, s_0: int, s_1: int) -> int:
    return math.ceil(math.sqrt(k / K * ((s_1 + 1) ** 2 - s_0**2) + s_0**2) - 1) + 1


@given(st.integers(1, 10**6), st.floats(0, 1), st.integers(2, 20), st.integers(0, 300))
def test_the_number_of_levels_is_the_smallest_whose_square_suffices(
    K: int, place: float, s_0: int, more: int
) -> None:
    k, s_1 = int(place * K), s_0 + more
    N = consistency.steps(k, K, s_0, s_1)
    line = Fraction(k, K) * ((s_1 + 1) ** 2 - s_0**2) + s_0**2
    assert (N - 1) ** 2 < line <= N**2
    assert consistency.steps(0, K, s_0, s_1) == s_0 and consistency.steps(K, K, s_0, s_1) == s_1 + 1


def test_floats_miscount_levels_and_whole_numbers_do_not() -> None:
    """Where the line meets a square, a rounding upwards counts one level too many."""
    K = 151**2 - 2**2
    squares = [(n, n**2 - 2**2) for n in range(2, 152)]
    assert all(consistency.steps(k, K) == n for n, k in squares)
    wrong = [n for n, k in squares if in_floats(k, K, 2, 150) != n]
    assert wrong == [14, 60, 122, 124]


def test_improved_training_doubles_its_levels_seven_times() -> None:
    K = 400_000
    numbers = [consistency.improved_steps(k, K) for k in range(0, K, K // 8)]
    assert numbers == [11, 21, 41, 81, 161, 321, 641, 1281]
    assert consistency.improved_steps(K, K) == 1281 and consistency.improved_steps(K // 8 - 1, K) == 11
    # phases that do not fill K leave the rest to the last number
    assert [consistency.improved_steps(k, 17, 2, 16) for k in (0, 3, 4, 7, 8, 11, 12, 17)] == [
        *(3, 3, 5, 5, 9, 9, 17, 17)
    ]
    # a ratio that is no power of two: floor(100 / (log2 5 + 1)) = 30
    assert [consistency.improved_steps(k, 100, 10, 57) for k in (29, 30, 59, 60, 89, 90)] == [
        *(11, 21, 21, 41, 41, 58)
    ]


def test_the_average_forgets_as_much_in_n_updates_at_every_number_of_levels() -> None:
    for N in (2, 11, 151):
        assert abs(consistency.ema_rate(N) ** N - 0.9**2) <= 4 * N * EPS
    assert consistency.ema_rate(2) == pytest.approx(0.9, rel=2 * EPS)
    start, target = double([1.0, -2.0]), double([0.5, 3.0]).requires_grad_()
    average, rate = [start], 0.8125
    for _ in range(9):
        average = consistency.ema(average, [target], rate)
    assert not average[0].requires_grad
    wanted = target.detach() + rate**9 * (start - target.detach())
    assert misfit(average[0], wanted, 4.0, 32) <= 1
    assert misfit(average[0], target.detach() + (1 - rate) ** 9 * (start - target.detach()), 4.0, 32) > 1


def test_weights_are_inverse_gaps() -> None:
    levels = consistency.levels(0.002, 80.0, 12)
    assert torch.equal(consistency.level_weights(levels) * levels.diff(), torch.ones(11, dtype=torch.float64))
    by_variance = 1 / (levels**2).diff()
    assert not torch.allclose(by_variance * levels.diff(), torch.ones(11, dtype=torch.float64))


@given(st.integers(2, 40), st.floats(-3, 1), st.floats(0.5, 3))
@settings(max_examples=30)
def test_levels_are_taken_as_often_as_log_sigma_falls_between_them(N: int, mean: float, std: float) -> None:
    levels = consistency.levels(0.002, 80.0, N)
    got = consistency.level_probabilities(levels, mean, std)
    with mpmath.workdps(40):
        places = [(mpmath.log(mpmath.mpf(s)) - mean) / (mpmath.sqrt(2) * std) for s in levels.tolist()]
        shares = [
            mpmath.erfc(a) - mpmath.erfc(b) if a > 0 else mpmath.erfc(-b) - mpmath.erfc(-a)
            for a, b in pairwise(places)
        ]
        wanted = double([float(share / mpmath.fsum(shares)) for share in shares])
        reach = max(abs(float(place)) for place in places)
    # the logarithm is rounded, and a tail multiplies that by twice its argument; neighbours are subtracted
    steep = 1 + 4 * (1 + reach) ** 2
    width = float(min(b - a for a, b in pairwise(places)))
    assert misfit(got, wanted, wanted, 16 * steep * (1 + 1 / width)) <= 1
    assert abs(float(got.sum()) - 1) < N * EPS
    even = torch.full_like(got, 1 / (N - 1))
    assert N == 2 or misfit(even, wanted, wanted, 16 * steep * (1 + 1 / width)) > 1


# What is refused, and where it runs.

x2, z2 = tensors(2, (3, 2))
BAD: list[tuple[str, Callable[[], object]]] = [
    ("sigma must be at least 0.002", lambda: consistency.boundary(0.001)),
    ("sigma must be at least 0.002 and finite, got nan", lambda: consistency.boundary(math.nan)),
    ("sigma must be a float or float64", lambda: consistency.boundary(torch.tensor(1.0))),
    ("sigma_data must be above 0", lambda: consistency.boundary(1.0, 0.0)),
    ("sigma_min must be above 0", lambda: consistency.boundary(1.0, 0.5, -1.0)),
    ("sigma_data must be above 0", lambda: consistency.input_scale(1.0, -0.5)),
    ("network must have the shape of x", lambda: consistency.function(lambda x, s: x[:1], x2, 1.0)),
    ("sigma must have shape () or (B,)", lambda: consistency.function(lambda x, s: x, x2, SIGMAS[:2])),
    ("x_t must have 2 elements", lambda: consistency.gaussian_function(LAW, x2[:, :1], 1.0)),
    ("sigma must have shape () or (B,)", lambda: consistency.gaussian_function(LAW, x2, SIGMAS[:2])),
    ("noise must have the shape of x", lambda: consistency.renoise(x2, 1.0, z2[:1])),
    ("sigma must be at least 0.5", lambda: consistency.renoise(x2, 0.25, z2, 0.5)),
    ("noises must hold 2 tensors", lambda: consistency.multistep(exact, x2, SIGMAS, [z2], LOW)),
    ("sigmas must descend strictly", lambda: consistency.multistep(exact, x2, SIGMAS.flip(0), [z2, z2], LOW)),
    ("sigmas must be above 0.25", lambda: consistency.multistep(exact, x2, SIGMAS, [z2, z2], 0.25)),
    ("sigmas must be float64", lambda: consistency.multistep_moments(LAW, SIGMAS.float(), *START)),
    ("start_mean must have the shape of mean", lambda: consistency.multistep_moments(
        LAW, SIGMAS, START[0][:1], START[1][:1, :1], LOW)),
    ("lower must be above 0 and below", lambda: consistency.training_loss(exact, exact, x2, 1.0, 2.0, z2)),
    ("lower must be above 0", lambda: consistency.training_loss(exact, exact, x2, 1.0, 0.0, z2)),
    ("lower must have the shape of sigma", lambda: consistency.training_loss(
        exact, exact, x2, double([1.0, 2, 3]), 0.5, z2)),
    ("method must be one of euler, heun", lambda: consistency.ode_step(denoiser, x2, 1.0, 0.5, "rk4")),  # type: ignore[arg-type]
    ("sigma must be above 0", lambda: consistency.velocity(x2, 0.0, z2)),
    ("c must be above 0", lambda: consistency.pseudo_huber(x2, 0.0)),
    ("dim must be at least 1", lambda: consistency.huber_constant(0)),
    ("N must be at least 2", lambda: consistency.levels(0.002, 80.0, 1)),
    ("sigma_max must be above sigma_min", lambda: consistency.levels(2.0, 1.0, 5)),
    ("k must be at most K = 10", lambda: consistency.steps(11, 10)),
    ("s_1 must be at least 10", lambda: consistency.improved_steps(1, 10, 10, 5)),
    ("K must be at least 8", lambda: consistency.improved_steps(1, 7)),
    ("mu_0 must lie strictly between", lambda: consistency.ema_rate(10, 2, 1.0)),
    ("rate must be at least 0 and below 1", lambda: consistency.ema([x2], [z2], 1.0)),
    ("parameters must hold 1", lambda: consistency.ema([x2], [z2, z2], 0.5)),
    ("levels must be above 0 and ascend", lambda: consistency.level_weights(SIGMAS)),
    ("std must be above 0", lambda: consistency.level_probabilities(SIGMAS.flip(0), 0.0, 0.0)),
    ("levels must be float64", lambda: consistency.level_weights(SIGMAS.float())),
]  # fmt: skip


def test_bad_input_is_named() -> None:
    for message, call in BAD:
        with pytest.raises(ValueError) as raised:
            call()
        assert message in str(raised.value), message


def test_half_precision_states_keep_their_dtype() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        x, z = (t.to(dtype) for t in tensors(2, (3, 2)))
        net = lambda x, s: x  # noqa: E731
        assert consistency.function(net, x, 1.0).dtype == dtype
        assert consistency.renoise(x, 1.0, z).dtype == dtype
        assert consistency.training_loss(net, net, x, 1.0, 0.5, z).dtype == dtype
