"""The laws of score matching, each with a broken form that it rejects."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference_laws import levels, misfit, named, tensors
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from refdiff import ddpm, score_matching
from refdiff.schedule import Schedule

Score = Callable[[Tensor], Tensor]
Loss = Callable[[Score, Tensor], Tensor]
LINEAR = named("linear-1000")
DTYPES = (torch.float64, torch.float32)


def double(*values: object) -> Tensor:
    return torch.tensor(*values, dtype=torch.float64)


MEAN = double([0.75, -0.5, 0.25])
COV = double([[0.5, 0.2, -0.1], [0.2, 0.4, 0.15], [-0.1, 0.15, 0.3]])
SKEWED = double([[1.5, 0.75, -0.25], [-0.5, 2.0, 0.5], [0.25, -1.0, 0.75]])
"""A slope that is no Hessian: an affine score that is no gradient."""
CENTRE = double([0.5, -1.0, 0.125])
EYE = torch.eye(3, dtype=torch.float64)


def affine(slope: Tensor, centre: Tensor) -> Score:
    """The score −H(x − c) of x of shape (B, *)."""
    return lambda x: -((x.flatten(1) - centre) @ slope.mT).reshape(x.shape)


def curved(x: Tensor) -> Tensor:
    """A score that is neither affine nor a gradient; each sample by itself."""
    flat = x.flatten(1)
    mixed = torch.roll(flat, 1, dims=1)
    return (torch.tanh(flat * mixed) - flat + 0.5 * torch.sin(mixed)).reshape(x.shape)


# Losses that are wrong in the ways in which people write them.


def sum_before_square(score_fn: Score, x: Tensor) -> Tensor:
    good = score_matching.explicit_loss(score_fn, x)
    s = score_fn(x).flatten(1)
    return good - (s**2).sum(1) / 2 + s.sum(1) ** 2 / 2


def all_entries(score_fn: Score, x: Tensor) -> Tensor:
    s, pull_back, *_ = torch.func.vjp(score_fn, x)
    (columns,) = pull_back(torch.ones_like(x))
    return (s**2).flatten(1).sum(1) / 2 + columns.flatten(1).sum(1)


def laplacian_added(score_fn: Score, x: Tensor) -> Tensor:
    square = (score_fn(x) ** 2).flatten(1).sum(1)
    return square - score_matching.explicit_loss(score_fn, x)


def trace_halved(score_fn: Score, x: Tensor) -> Tensor:
    square = (score_fn(x) ** 2).flatten(1).sum(1)
    return score_matching.explicit_loss(score_fn, x) / 2 + square / 4


def square_doubled(score_fn: Score, x: Tensor) -> Tensor:
    return score_matching.explicit_loss(score_fn, x) + (score_fn(x) ** 2).flatten(1).sum(1) / 2


def over_the_batch(score_fn: Score, x: Tensor) -> Tensor:
    return score_matching.explicit_loss(score_fn, x).mean().expand(len(x))


BROKEN = (sum_before_square, all_entries, laplacian_added, trace_halved, square_doubled)


# Points and weights under which means of polynomials of low degree are exact sums.


def sigma_points(mean: Tensor, cov: Tensor) -> Tensor:
    """Points of equal weight with this mean and covariance, whose odd moments vanish."""
    root = torch.linalg.cholesky(cov)
    axes = math.sqrt(len(mean)) * root.mT
    return torch.cat([mean + axes, mean - axes])


def pairs_of_points(mean: Tensor, cov: Tensor) -> tuple[Tensor, Tensor]:
    """Data and independent standard normal noise, exact for polynomials of degree 3 in both."""
    D = len(mean)
    centre = torch.cat([mean, torch.zeros(D, dtype=mean.dtype)])
    joint = sigma_points(centre, torch.block_diag(cov, torch.eye(D, dtype=cov.dtype)))
    return joint[:, :D], joint[:, D:]


def hermite(count: int, dimension: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of a standard normal mean, exact to the degree 2·count − 1 in each coordinate."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    grid = torch.tensor(list(itertools.product(nodes, repeat=dimension)), dtype=torch.float64)
    each = list(itertools.product(weights / weights.sum(), repeat=dimension))
    return grid, double(each).prod(1)


# The explicit loss.


def explicit_error(loss: Loss, shape: tuple[int, ...], dtype: torch.dtype) -> float:
    """Against ½|Hu|² − tr H with a matrix that is not symmetric, in units of the tolerance."""
    D = math.prod(shape[1:])
    slope = tensors(1, (D, D), dtype, seed=4)
    centre = tensors(1, (D,), dtype, seed=5)
    x = tensors(1, shape, dtype, seed=6)
    got = loss(affine(slope, centre), x)
    away = (x.flatten(1) - centre).double()
    pushed = away @ slope.double().mT
    expected = (pushed**2).sum(1) / 2 - slope.double().trace()
    size = away.abs() @ slope.double().abs().mT
    condition = (size**2).sum(1) + slope.diagonal().double().abs().sum()
    assert got.shape == shape[:1] and got.dtype == dtype
    return misfit(got, expected, condition, 4 * D + 8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 1), (4, 2), (2, 5), (3, 2, 3), (2, 1, 2, 2)])
def test_the_explicit_loss_is_half_the_square_plus_the_trace(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    assert explicit_error(score_matching.explicit_loss, shape, dtype) <= 1


@pytest.mark.parametrize("broken", BROKEN)
def test_another_square_or_trace_is_not_the_explicit_loss(broken: Loss) -> None:
    assert explicit_error(broken, (3, 2, 3), torch.float64) > 1


def hyvarinen_error(loss: Loss) -> float:
    """E[loss] + ½E|∇log p|² against the Fisher divergence of a mixture in the plane, by quadrature."""
    axis = torch.linspace(-9, 9, 181, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)
    means, widths, weights = double([[-1.0, 0.5], [1.5, -0.75]]), (0.8, 0.6), (0.3, 0.7)
    parts = torch.stack(
        [
            w / (2 * math.pi * h**2) * torch.exp(-((x - m) ** 2).sum(1) / (2 * h**2))
            for m, h, w in zip(means, widths, weights, strict=True)
        ]
    )
    p = parts.sum(0)
    gradient = sum(-part[:, None] * (x - m) / h**2 for part, m, h in zip(parts, means, widths, strict=True))
    area = float(axis[1] - axis[0]) ** 2
    own = gradient / p.clamp(min=1e-300)[:, None]  # where p underflows so does what is multiplied by it
    fisher = (p * ((own - curved(x)) ** 2).sum(1) / 2).sum() * area
    constant = (p * (own**2).sum(1) / 2).sum() * area
    got = (p * loss(curved, x)).sum() * area + constant
    # the trapezoidal rule: widths of six steps leave 2·exp(−2π²·36) and the square is cut below rounding
    return misfit(got, fisher, constant + fisher, 4 * len(axis))


def test_the_mean_explicit_loss_is_the_fisher_divergence_up_to_a_constant_of_the_data() -> None:
    assert hyvarinen_error(score_matching.explicit_loss) <= 1


@pytest.mark.parametrize("broken", BROKEN)
def test_no_other_loss_is_the_fisher_divergence(broken: Loss) -> None:
    assert hyvarinen_error(broken) > 1


# Quadratic energies: the loss is quadratic in the slope and the offset, so one Newton step minimises it.


def minimiser(mean_loss: Callable[[Score], Tensor], D: int = 3) -> tuple[Tensor, Tensor]:
    """Slope H and H·c of the affine score of least loss, and least norm where there are several."""

    def at(parameters: Tensor) -> Tensor:
        slope, offset = parameters[: D * D].reshape(D, D), parameters[D * D :]
        return mean_loss(lambda x: offset - x @ slope.mT)

    start = torch.zeros(D * D + D, dtype=torch.float64)
    gradient = torch.autograd.functional.jacobian(at, start)
    hessian = torch.autograd.functional.hessian(at, start)
    best = -torch.linalg.lstsq(hessian, gradient, driver="gelsd").solution
    return best[: D * D].reshape(D, D), best[D * D :]


def minimiser_error(mean_loss: Callable[[Score], Tensor], total: Tensor) -> float:
    """The minimiser against the precision of data of this covariance, and precision times mean."""
    slope, offset = minimiser(mean_loss)
    precision = torch.linalg.inv(total)
    # the moments of data about the origin are what is inverted, with that condition number
    second = torch.block_diag(total, double([[1.0]]))
    second[:3, :3] += torch.outer(MEAN, MEAN)
    second[:3, 3] = second[3, :3] = MEAN
    roundings = 200 * float(torch.linalg.cond(second))
    scale = precision.abs().max()
    return max(
        misfit(slope, precision, scale, roundings), misfit(offset, precision @ MEAN, scale, roundings)
    )


def mean_over_data(loss: Loss) -> Callable[[Score], Tensor]:
    return lambda score_fn: loss(score_fn, sigma_points(MEAN, COV)).mean()


def all_signs(score_fn: Score, x: Tensor, reduced: bool = False) -> Tensor:
    """The mean of the sliced loss over every vector of signs."""
    signs = double(list(itertools.product((-1.0, 1.0), repeat=x[0].numel())))
    directions = [v.reshape(x.shape[1:]).expand_as(x) for v in signs]
    return torch.stack([score_matching.sliced_loss(score_fn, x, v, reduced) for v in directions]).mean(0)


@pytest.mark.parametrize("loss", [score_matching.explicit_loss, all_signs])
def test_the_best_quadratic_energy_has_the_moments_of_the_data(loss: Loss) -> None:
    assert minimiser_error(mean_over_data(loss), COV) <= 1


@pytest.mark.parametrize("broken", BROKEN)
def test_another_loss_has_another_minimiser(broken: Loss) -> None:
    assert minimiser_error(mean_over_data(broken), COV) > 1


def mean_over_noise(loss: Callable[..., Tensor], sigma: float) -> Callable[[Score], Tensor]:
    x, z = pairs_of_points(MEAN, COV)
    return lambda score_fn: loss(score_fn, x, sigma, z).mean()


def denoising_sum_before_square(score_fn: Score, x: Tensor, sigma: float, noise: Tensor) -> Tensor:
    return (score_fn(x + sigma * noise) + noise / sigma).flatten(1).sum(1) ** 2 / 2


def denoising_at_the_data(score_fn: Score, x: Tensor, sigma: float, noise: Tensor) -> Tensor:
    return ((score_fn(x) + noise / sigma) ** 2).flatten(1).sum(1) / 2


def denoising_with_variance(score_fn: Score, x: Tensor, sigma: float, noise: Tensor) -> Tensor:
    return ((score_fn(x + sigma * noise) + noise / sigma**2) ** 2).flatten(1).sum(1) / 2


def denoising_wrong_sign(score_fn: Score, x: Tensor, sigma: float, noise: Tensor) -> Tensor:
    return ((score_fn(x + sigma * noise) - noise / sigma) ** 2).flatten(1).sum(1) / 2


BROKEN_DENOISING = (
    denoising_sum_before_square,
    denoising_at_the_data,
    denoising_with_variance,
    denoising_wrong_sign,
)


@pytest.mark.parametrize("sigma", [0.3, 1.5])
def test_denoising_finds_the_quadratic_energy_of_the_noised_data(sigma: float) -> None:
    total = COV + sigma**2 * EYE
    mean_loss = mean_over_noise(score_matching.denoising_loss, sigma)
    assert minimiser_error(mean_loss, total) <= 1
    assert minimiser_error(mean_loss, COV) > 1


@pytest.mark.parametrize("broken", BROKEN_DENOISING)
def test_another_denoising_loss_has_another_minimiser(broken: Callable[..., Tensor]) -> None:
    total = COV + 0.09 * EYE
    assert minimiser_error(mean_over_noise(broken, 0.3), total) > 1


# The sliced loss.


def sliced_mean_error(sliced: Callable[..., Tensor], reduced: bool, normal: bool) -> float:
    """The mean over directions against the explicit loss, for a score that is not affine."""
    x = tensors(1, (2, 3), seed=8)
    signs = double(list(itertools.product((-1.0, 1.0), repeat=3)))
    nodes, weights = hermite(2, 3) if normal else (signs, torch.full((8,), 1 / 8, dtype=torch.float64))
    found = [w * sliced(curved, x, v.expand_as(x), reduced) for v, w in zip(nodes, weights, strict=True)]
    expected = score_matching.explicit_loss(curved, x)
    size = (curved(x) ** 2).sum(1) + 9 * torch.func.vmap(torch.func.jacrev(lambda y: curved(y[None])[0]))(
        x
    ).abs().sum((1, 2))
    return misfit(torch.stack(found).sum(0), expected, size, 200)


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("normal", [False, True])
def test_the_sliced_loss_is_the_explicit_loss_on_average(reduced: bool, normal: bool) -> None:
    assert sliced_mean_error(score_matching.sliced_loss, reduced, normal) <= 1


def unit_directions(score_fn: Score, x: Tensor, v: Tensor, reduced: bool) -> Tensor:
    return score_matching.sliced_loss(score_fn, x, v / v.flatten(1).norm(dim=1, keepdim=True), reduced)


def one_sided(score_fn: Score, x: Tensor, v: Tensor, reduced: bool) -> Tensor:
    s, pull_back, *_ = torch.func.vjp(score_fn, x)
    (along,) = pull_back(v)
    return (s * v).flatten(1).sum(1) ** 2 / 2 + along.flatten(1).sum(1)


def elementwise(score_fn: Score, x: Tensor, v: Tensor, reduced: bool) -> Tensor:
    good = score_matching.sliced_loss(score_fn, x, v)
    product = score_fn(x) * v
    return good - product.flatten(1).sum(1) ** 2 / 2 + (product**2).flatten(1).sum(1) / 2


@pytest.mark.parametrize("broken", [unit_directions, one_sided])
@pytest.mark.parametrize("normal", [False, True])
def test_directions_of_another_second_moment_or_on_one_side_are_seen(
    broken: Callable[..., Tensor], normal: bool
) -> None:
    assert sliced_mean_error(broken, False, normal) > 1


def along_coordinates_error(sliced: Callable[..., Tensor]) -> float:
    """Along v the loss is that of one dimension: ½(v·s)² + vᵀJv, with J by forward differentiation."""
    x, v = tensors(2, (4, 3), seed=9)
    _, pushed = torch.func.jvp(curved, (x,), (v,))
    expected = (curved(x) * v).sum(1) ** 2 / 2 + (pushed * v).sum(1)
    return misfit(sliced(curved, x, v, False), expected, (v.abs() * pushed.abs()).sum(1) + 10, 64)


def test_the_sliced_loss_at_a_direction_is_its_own_one_dimensional_loss() -> None:
    assert along_coordinates_error(score_matching.sliced_loss) <= 1
    assert along_coordinates_error(elementwise) > 1
    assert along_coordinates_error(one_sided) > 1


def spread_of(slope: Tensor, reduced: bool, normal: bool) -> tuple[float, float, float]:
    """Mean and variance of the sliced loss of −Hx over directions, and the scale of their roundings."""
    x = double([[0.5, -0.75, 0.25]])
    signs = double(list(itertools.product((-1.0, 1.0), repeat=3)))
    nodes, weights = hermite(3, 3) if normal else (signs, torch.full((8,), 1 / 8, dtype=torch.float64))
    score_fn = affine(slope, torch.zeros(3, dtype=torch.float64))
    drawn = score_matching.sliced_loss(score_fn, x.expand(len(nodes), 3), nodes, reduced)
    mean = (weights * drawn).sum()
    return float(mean), float((weights * (drawn - mean) ** 2).sum()), float((weights * drawn**2).sum())


def test_the_variance_of_the_trace_estimate_is_that_of_the_symmetric_part() -> None:
    symmetric = (SKEWED + SKEWED.mT) / 2
    diagonal = symmetric.diagonal()
    _, normal, scale = spread_of(SKEWED, True, True)
    _, signs, _ = spread_of(SKEWED, True, False)
    assert misfit(double(normal), 2 * (symmetric**2).sum(), scale, 200) <= 1
    assert misfit(double(signs), 2 * (symmetric**2).sum() - 2 * (diagonal**2).sum(), scale, 200) <= 1
    assert misfit(double(normal), 2 * (SKEWED**2).sum(), scale, 200) > 1
    assert signs < normal


def test_the_full_square_does_not_always_reduce_the_variance() -> None:
    s = affine(SKEWED, torch.zeros(3, dtype=torch.float64))(double([[0.5, -0.75, 0.25]]))[0]
    _, plain, scale = spread_of(SKEWED, False, True)
    _, reduced, _ = spread_of(SKEWED, True, True)
    gap = (s @ s) ** 2 / 2 - 2 * s @ SKEWED @ s
    assert misfit(double(plain - reduced), gap, scale, 400) <= 1
    small = affine(EYE, torch.zeros(3, dtype=torch.float64))
    assert torch.equal(small(double([[0.5, 0.0, 0.0]]))[0], double([-0.5, 0.0, 0.0]))
    _, plain, _ = spread_of(EYE, False, True)
    _, reduced, _ = spread_of(EYE, True, True)
    assert plain < reduced


# The denoising loss.


def denoising_identity(loss: Callable[..., Tensor], sigma: float) -> tuple[float, float, float]:
    """E[denoising loss], the Fisher divergence of the noised data and the constant, in one dimension.

    The data are three points, so the noised density is a sum; the noise is integrated by the trapezoidal
    rule.
    """
    points, weights = double([-1.0, 0.25, 2.0]), double([0.2, 0.5, 0.3])
    z = torch.linspace(-10, 10, 801, dtype=torch.float64)
    mass = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    x, noise = points.repeat_interleave(len(z))[:, None], z.repeat(3)[:, None]
    drawn = (weights[:, None] * mass).flatten()
    loss_mean = (drawn * loss(bent, x, sigma, noise)).sum()
    noised = x + sigma * noise
    log_joint = weights.log() - (noised - points) ** 2 / (2 * sigma**2)
    own = score_matching.marginal_score(log_joint, (-(noised - points) / sigma**2)[:, :, None])
    fisher = (drawn * score_matching.fisher_divergence(lambda y: own, bent, noised)).sum()
    constant = (drawn * (1 / sigma**2 - (own**2).sum(1)) / 2).sum()
    return float(loss_mean), float(fisher), float(constant)


def bent(x: Tensor) -> Tensor:
    return torch.sin(2 * x) - 0.5 * x


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.5])
def test_the_denoising_loss_is_the_fisher_divergence_of_the_noised_data_plus_its_constant(
    sigma: float,
) -> None:
    got, fisher, constant = denoising_identity(score_matching.denoising_loss, sigma)
    # three thousand positive terms; the trapezoidal rule is exact to rounding at this width
    assert misfit(double(got), fisher + constant, fisher + constant, 3000) <= 1
    assert misfit(double(got), fisher, fisher + constant, 3000) > 1
    for broken in BROKEN_DENOISING[1:]:
        wrong, *_ = denoising_identity(broken, sigma)
        assert (sigma == 1 and broken is denoising_with_variance) or misfit(
            double(wrong), fisher + constant, fisher + constant, 3000
        ) > 1


@pytest.mark.parametrize("sigma", [0.1, 0.5, 3.0])
def test_the_constant_of_gaussian_data_is_what_the_best_score_leaves(sigma: float) -> None:
    total = COV + sigma**2 * EYE
    best = affine(torch.linalg.inv(total), MEAN)
    left = mean_over_noise(score_matching.denoising_loss, sigma)(best)
    constant = score_matching.denoising_constant(COV, sigma)
    assert misfit(constant, left, 3 / sigma**2, 200) <= 1
    assert misfit(0.5 * 3 / sigma**2 - 0 * constant, left, 3 / sigma**2, 200) > 1


def test_the_constant_keeps_its_digits_where_the_noise_is_small_or_large() -> None:
    for sigma in (1e-8, 1e8):
        value = float(score_matching.denoising_constant(double([[0.25]]), sigma))
        expected = 0.25 / (2 * sigma**2 * (0.25 + sigma**2))
        assert abs(value / expected - 1) < 1e-14
    # by the difference of the two precisions nothing is left of it for large noise
    assert 0.5 / 1e16 - 0.5 / (0.25 + 1e16) == 0


def test_a_batch_of_levels_is_a_level_for_each_sample() -> None:
    x, z = tensors(2, (3, 2))
    sigma = double([0.5, 1.0, 2.0])
    got = score_matching.denoising_loss(curved, x, sigma, z)
    loss = score_matching.denoising_loss
    each = [loss(curved, x[i : i + 1], float(sigma[i]), z[i : i + 1]) for i in range(3)]
    assert torch.equal(got, torch.cat(each))
    swapped = score_matching.denoising_loss(curved, x, sigma.flip(0), z)
    assert not torch.equal(got[0], swapped[0])


def eps_error(weight: Callable[[Schedule, int], Tensor], schedule: Schedule, t: int) -> float:
    """A weight times the denoising loss at x_t against DDPM's loss of the noise."""
    x_0, eps = tensors(2, (3, 2))
    std = schedule.sqrt_one_minus_alpha_bar[t]
    eps_model = lambda x, t: torch.tanh(x) + 0.25  # noqa: E731
    score_fn = lambda x: -eps_model(x, t) / std  # noqa: E731
    scaled = schedule.sqrt_alpha_bar[t] * x_0
    got = weight(schedule, t) * score_matching.denoising_loss(score_fn, scaled, float(std), eps)
    expected = ddpm.loss_simple(eps_model, schedule, x_0, t, eps, "sum")
    return misfit(got, expected, (eps.abs() + 1.25).square().sum(1), 32)


@given(levels(1, lowest=1))
def test_the_loss_of_the_noise_is_twice_the_noise_variance_times_the_denoising_loss(
    drawn: tuple[Schedule, tuple[int]],
) -> None:
    schedule, (t,) = drawn
    if schedule.one_minus_alpha_bar[t] < 1e-6:
        return
    assert eps_error(lambda table, n: 2 * table.one_minus_alpha_bar[n], schedule, t) <= 1
    x_0, eps = tensors(2, (3, 2))
    std = schedule.sqrt_one_minus_alpha_bar[t]
    score_fn = lambda x, n: -(torch.tanh(x) + 0.25) / std  # noqa: E731
    got = score_matching.eps_loss(score_fn, schedule, x_0, t, eps)
    expected = ddpm.loss_simple(lambda x, n: torch.tanh(x) + 0.25, schedule, x_0, t, eps, "sum")
    assert misfit(got, expected, (eps.abs() + 1.25).square().sum(1), 32) <= 1


@pytest.mark.parametrize("t", [1, 300, 900])
def test_another_weight_is_not_the_loss_of_the_noise(t: int) -> None:
    assert eps_error(lambda table, n: 2 * table.sqrt_one_minus_alpha_bar[n], LINEAR, t) > 1
    assert eps_error(lambda table, n: table.one_minus_alpha_bar[n], LINEAR, t) > 1
    assert eps_error(lambda table, n: double(2.0), LINEAR, t) > 1


# Fisher divergences, mixtures and their weights.


def fisher_error(divergence: Callable[..., Tensor]) -> float:
    x = sigma_points(MEAN, COV)
    data_score = affine(torch.linalg.inv(COV), MEAN)
    expected = score_matching.fisher_divergence(data_score, affine(SKEWED, CENTRE), x).mean()
    return misfit(divergence(MEAN, COV, CENTRE, SKEWED), expected, expected, 500)


def test_the_divergence_of_an_affine_score_is_its_mean_over_points_with_the_moments_of_the_data() -> None:
    good = score_matching.gaussian_fisher_divergence
    assert fisher_error(good) <= 1
    assert fisher_error(lambda m, S, c, H: good(m, S, c, H.mT)) > 1
    assert fisher_error(lambda m, S, c, H: good(m, S, m, H)) > 1
    assert fisher_error(lambda m, S, c, H: good(c, S, m, H)) <= 1  # it depends on the distance alone
    own = good(MEAN, COV, MEAN, torch.linalg.inv(COV))
    assert own < 1e-26


WEIGHTS = st.floats(0.05, 0.95)


def two_laws(x: Tensor, apart: float) -> tuple[Tensor, Tensor]:
    """Log-densities (B, 2) and scores (B, 2, 1) of two Gaussians of different widths."""
    centres, widths = double([-apart / 2, apart / 2]), double([1.0, 0.5])
    log = -((x - centres) ** 2) / (2 * widths**2) - widths.log() - 0.5 * math.log(2 * math.pi)
    return log, (-(x - centres) / widths**2)[:, :, None]


@given(WEIGHTS, st.floats(0.5, 6))
def test_the_score_of_a_mixture_is_the_gradient_of_its_log_density(weight: float, apart: float) -> None:
    x = tensors(1, (5, 1), seed=3).requires_grad_()
    log_weights = double([weight, 1 - weight]).log()
    log, scores = two_laws(x, apart)
    (expected,) = torch.autograd.grad(torch.logsumexp(log + log_weights, 1).sum(), x)
    log, scores = log.detach(), scores.detach()
    size = scores.abs().amax(1) * (1 + log.abs().amax(1, keepdim=True))
    assert misfit(score_matching.marginal_score(log + log_weights, scores), expected, size, 16) <= 1
    prior = score_matching.marginal_score(log_weights.expand_as(log).contiguous(), scores)
    assert misfit(prior, expected, size, 16) > 1


def test_disjoint_laws_hide_their_weights_and_overlapping_ones_do_not() -> None:
    x = double([[-29.0], [-31.0], [30.5]])
    log, scores = two_laws(x, 60.0)
    at = [score_matching.marginal_score(log + double([w, 1 - w]).log(), scores) for w in (0.1, 0.9)]
    assert torch.equal(at[0], at[1])
    assert torch.equal(at[0][:2], scores[:2, 0])
    log, scores = two_laws(x / 30, 2.0)
    at = [score_matching.marginal_score(log + double([w, 1 - w]).log(), scores) for w in (0.1, 0.9)]
    assert not bool((at[0] == at[1]).any())


@given(WEIGHTS, st.floats(0.5, 12))
def test_the_score_misses_the_other_law_by_at_most_the_odds(weight: float, apart: float) -> None:
    x = tensors(1, (7, 1), seed=2) - apart / 2
    log, scores = two_laws(x, apart)
    mixed = score_matching.marginal_score(log + double([weight, 1 - weight]).log(), scores)
    odds = (1 - weight) / weight * (log[:, 1] - log[:, 0]).exp()
    missed, difference = (mixed - scores[:, 0])[:, 0].abs(), (scores[:, 1] - scores[:, 0])[:, 0].abs()
    eps = torch.finfo(torch.float64).eps
    rounding = 8 * eps * (scores.abs().amax((1, 2)) + difference)
    assert bool((missed <= odds * difference + rounding).all())


def test_the_odds_without_the_weights_are_no_bound() -> None:
    x = double([[-1.0]])
    log, scores = two_laws(x, 2.0)
    mixed = score_matching.marginal_score(log + double([0.05, 0.95]).log(), scores)
    missed, difference = (mixed - scores[:, 0]).abs(), (scores[:, 1] - scores[:, 0]).abs()
    ratio = (log[:, 1] - log[:, 0]).exp()
    assert ratio * difference < missed <= 19 * ratio * difference


@given(WEIGHTS, st.floats(0.5, 6))
def test_the_sensitivity_is_the_derivative_along_the_weight(weight: float, apart: float) -> None:
    x = tensors(1, (5, 1), seed=1)
    log, scores = two_laws(x, apart)

    def mixed(w: Tensor) -> Tensor:
        return score_matching.marginal_score(log + torch.stack([w, 1 - w]).log(), scores)

    _, expected = torch.func.jvp(mixed, (double(weight),), (double(1.0),))
    got = score_matching.weight_sensitivity(log[:, 0] - log[:, 1], scores[:, 0], scores[:, 1], weight)
    size = scores.abs().sum(1) * (1 + log.abs().amax(1, keepdim=True)) / (weight * (1 - weight))
    assert misfit(got, expected, size, 32) <= 1
    other = score_matching.weight_sensitivity(log[:, 1] - log[:, 0], scores[:, 0], scores[:, 1], weight)
    near = abs(weight - 0.5) < 1e-3
    assert near or misfit(other, expected, size, 32) > 1


def test_the_sensitivity_far_away_is_zero_and_never_nan() -> None:
    far = score_matching.weight_sensitivity(double([2000.0, -2000.0]), *tensors(2, (2, 1)), 0.3)
    assert torch.equal(far, torch.zeros_like(far))


@pytest.mark.parametrize("apart", [1.0, 3.0, 6.0])
def test_the_divergence_between_two_weights_is_below_its_bound_by_the_overlap(apart: float) -> None:
    x = torch.linspace(-14, 14, 2801, dtype=torch.float64)[:, None]
    log, scores = two_laws(x, apart)
    first, second = 0.15, 0.7
    mixed = [score_matching.marginal_score(log + double([w, 1 - w]).log(), scores) for w in (first, second)]
    p = (log + double([first, 1 - first]).log()).logsumexp(1).exp()
    divergence = (p * score_matching.fisher_divergence(lambda y: mixed[0], lambda y: mixed[1], x)).sum()
    apart_scores = ((scores[:, 0] - scores[:, 1]) ** 2)[:, 0]
    factor = (first - second) ** 2 / (16 * second * (1 - second) * math.sqrt(first * (1 - first)))
    bound = factor * ((log.sum(1) / 2).exp() * apart_scores).sum()
    assert 0 < divergence <= bound
    assert divergence > 0.02 * bound  # the bound says something


# Gradients, batches, dtypes, devices and bad input.


def network() -> tuple[Tensor, Tensor]:
    """The parameters of two layers."""
    first, second = tensors(2, (3, 3), seed=11)
    return first.requires_grad_(), second.requires_grad_()


def of_parameters(loss: Loss) -> Callable[[Tensor, Tensor], Tensor]:
    x = tensors(1, (2, 3), seed=12)
    return lambda first, second: loss(lambda y: torch.tanh(y @ first.mT) @ second.mT, x)


def explicit_detached(score_fn: Score, x: Tensor) -> Tensor:
    square = (score_fn(x) ** 2).flatten(1).sum(1) / 2
    return square + (score_matching.explicit_loss(score_fn, x) - square).detach()


DIRECTION, NOISE = tensors(2, (2, 3), seed=13)


def with_direction(score_fn: Score, x: Tensor) -> Tensor:
    return score_matching.sliced_loss(score_fn, x, DIRECTION)


def with_direction_reduced(score_fn: Score, x: Tensor) -> Tensor:
    return score_matching.sliced_loss(score_fn, x, DIRECTION, reduced=True)


def with_noise(score_fn: Score, x: Tensor) -> Tensor:
    return score_matching.denoising_loss(score_fn, x, 0.4, NOISE)


LOSSES = (score_matching.explicit_loss, with_direction, with_direction_reduced, with_noise)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_reach_parameters_and_data(loss: Loss) -> None:
    assert torch.autograd.gradcheck(of_parameters(loss), network())
    x = tensors(1, (2, 3), seed=12).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: loss(curved, y), (x,))


def test_a_trace_cut_from_the_graph_fails_the_gradient_check() -> None:
    with pytest.raises(GradcheckError):
        torch.autograd.gradcheck(of_parameters(explicit_detached), network())


def module_gradient_error(loss: Loss) -> float:
    """What backward leaves in a module against the derivative of ½|Wx|² + tr W along W: Wxxᵀ + I."""
    layer = torch.nn.Linear(3, 3, bias=False, dtype=torch.float64)
    layer.weight.data.copy_(SKEWED)
    x = tensors(1, (4, 3), seed=17)
    loss(layer, x).sum().backward()
    expected = SKEWED @ x.mT @ x + 4 * EYE
    return misfit(layer.weight.grad, expected, expected.abs().max(), 64)


def test_backward_reaches_the_weights_of_a_module() -> None:
    assert module_gradient_error(score_matching.explicit_loss) <= 1
    assert module_gradient_error(explicit_detached) > 1
    assert module_gradient_error(trace_halved) > 1


def test_an_energy_gives_its_score_inside_the_loss() -> None:
    energy = lambda y: (y**4).flatten(1).sum(1)  # noqa: E731

    def score_fn(y: Tensor) -> Tensor:
        return -torch.func.grad(lambda u: energy(u).sum())(y)

    x = tensors(1, (3, 2))
    expected = 8 * (x**6).sum(1) - 12 * (x**2).sum(1)
    assert misfit(score_matching.explicit_loss(score_fn, x), expected, 8 * (x**6 + 2 * x**2).sum(1), 16) <= 1


def additivity_error(loss: Loss) -> float:
    x = tensors(1, (2, 3), seed=15)
    order = torch.tensor([1, 0])
    together = loss(curved, x)
    apart = torch.cat([loss(curved, x[i : i + 1]) for i in range(2)])
    return max(
        misfit(together, apart, apart.abs() + 1, 8), misfit(loss(curved, x[order]), together[order], 1.0, 8)
    )


def test_every_sample_has_its_own_loss() -> None:
    assert additivity_error(score_matching.explicit_loss) <= 1
    assert additivity_error(over_the_batch) > 1
    x, v = tensors(2, (2, 3), seed=15)
    for fn in (score_matching.sliced_loss, lambda s, y, u: score_matching.denoising_loss(s, y, 0.4, u)):
        apart = torch.cat([fn(curved, x[i : i + 1], v[i : i + 1]) for i in range(2)])
        assert misfit(fn(curved, x, v), apart, apart.abs() + 1, 8) <= 1


def test_the_losses_sum_over_dimensions_of_any_layout() -> None:
    x, v = tensors(2, (3, 2, 2), seed=16)
    flat, along = x.flatten(1), v.flatten(1)
    flattened = lambda y: curved(y)  # noqa: E731
    assert torch.equal(
        score_matching.explicit_loss(curved, x), score_matching.explicit_loss(flattened, flat)
    )
    assert torch.equal(
        score_matching.sliced_loss(curved, x, v), score_matching.sliced_loss(flattened, flat, along)
    )
    assert torch.equal(
        score_matching.denoising_loss(curved, x, 0.5, v),
        score_matching.denoising_loss(flattened, flat, 0.5, along),
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_keep_the_dtype(dtype: torch.dtype) -> None:
    x, v = tensors(2, (2, 3), dtype)
    assert score_matching.explicit_loss(curved, x).dtype == dtype
    assert score_matching.sliced_loss(curved, x, v).dtype == dtype
    assert score_matching.denoising_loss(curved, x, 0.5, v).dtype == dtype
    assert score_matching.denoising_loss(curved, x, double([0.5, 0.25]), v).dtype == dtype
    assert score_matching.fisher_divergence(curved, curved, x).dtype == dtype
    assert score_matching.denoising_constant(COV.to(dtype), 0.5).dtype == dtype
    assert score_matching.marginal_score(x, v).dtype == dtype
    assert score_matching.weight_sensitivity(x[:, 0], x, v, 0.5).dtype == dtype
    assert (
        score_matching.gaussian_fisher_divergence(
            MEAN.to(dtype), COV.to(dtype), CENTRE.to(dtype), SKEWED.to(dtype)
        ).dtype
        == dtype
    )
    score_fn = lambda y, t: curved(y)  # noqa: E731
    assert score_matching.eps_loss(score_fn, LINEAR, x, torch.tensor([3, 700]), v).dtype == dtype


def test_losses_stay_on_the_device(device: torch.device) -> None:
    x, v = tensors(2, (3, 2))
    sigma = double([0.5, 1.0, 2.0])
    calls: tuple[Callable[[Tensor, Tensor, Tensor], Tensor], ...] = (
        lambda x, v, s: score_matching.explicit_loss(curved, x),
        lambda x, v, s: score_matching.sliced_loss(curved, x, v),
        lambda x, v, s: score_matching.denoising_loss(curved, x, s, v),
        lambda x, v, s: score_matching.eps_loss(lambda y, t: curved(y), LINEAR, x, 300, v),
        lambda x, v, s: score_matching.marginal_score(x, v),
        lambda x, v, s: score_matching.weight_sensitivity(s, x, v, 0.25),
    )
    for call in calls:
        there, here = call(x.to(device), v.to(device), sigma.to(device)), call(x, v, sigma)
        assert there.device.type == device.type
        assert misfit(there.cpu(), here, here.abs() + 1, 64) <= 1


def spoiled(x: Tensor) -> Tensor:
    return curved(x)[:, :1]


BAD: tuple[tuple[Callable[[], object], str], ...] = (
    (lambda: score_matching.explicit_loss(curved, MEAN), r"x must have shape \(B, \*\)"),
    (lambda: score_matching.explicit_loss(spoiled, COV), r"score must have the shape of x, \(3, 3\)"),
    (lambda: score_matching.explicit_loss(lambda y: y.float(), COV), r"score must have the dtype of x"),
    (lambda: score_matching.sliced_loss(curved, COV, COV[:1]), r"v must have the shape of x, \(3, 3\)"),
    (lambda: score_matching.sliced_loss(curved, COV, COV.float()), r"v must have the dtype of x"),
    (lambda: score_matching.denoising_loss(curved, COV, 0.0, COV), r"sigma must be above 0 and finite, got"),
    (lambda: score_matching.denoising_loss(curved, COV, math.nan, COV), r"sigma must be above 0 and finite"),
    (
        lambda: score_matching.denoising_loss(curved, COV, double([1.0, -1.0, 1.0]), COV),
        r"sigma must be above 0 and finite, got \[1.0, -1.0, 1.0\]",
    ),
    (
        lambda: score_matching.denoising_loss(curved, COV, double([1.0, 2.0]), COV),
        r"sigma must have shape \(\) or \(3,\), got \(2,\)",
    ),
    (lambda: score_matching.denoising_loss(curved, COV, 1.0, COV[0]), r"noise must have the shape of x"),
    (lambda: score_matching.denoising_loss(spoiled, COV, 1.0, COV), r"score must have the shape of x"),
    (lambda: score_matching.denoising_constant(COV, -1.0), r"sigma must be above 0 and finite, got -1.0"),
    (lambda: score_matching.denoising_constant(MEAN, 1.0), r"cov must have shape"),
    (lambda: score_matching.denoising_constant(SKEWED, 1.0), r"cov must be symmetric"),
    (lambda: score_matching.fisher_divergence(curved, spoiled, COV), r"score_q must have the shape of x"),
    (
        lambda: score_matching.gaussian_fisher_divergence(MEAN, -COV, CENTRE, SKEWED),
        r"cov must be positive definite",
    ),
    (
        lambda: score_matching.gaussian_fisher_divergence(MEAN, COV, CENTRE[:2], SKEWED),
        r"centre must have the shape of mean",
    ),
    (
        lambda: score_matching.gaussian_fisher_divergence(MEAN, COV, CENTRE, SKEWED[:2]),
        r"hessian must have the shape of cov",
    ),
    (lambda: score_matching.eps_loss(lambda y, t: y, LINEAR, COV, 0, COV), r"t must lie in 1\.\.1000, got 0"),
    (lambda: score_matching.eps_loss(lambda y, t: y[:, :1], LINEAR, COV, 5, COV), r"score must have the sha"),
    (lambda: score_matching.marginal_score(COV, COV[:2]), r"scores must have shape \(B, K, \*\)"),
    (lambda: score_matching.marginal_score(MEAN, COV), r"scores must have shape \(B, K, \*\)"),
    (lambda: score_matching.marginal_score(COV, COV.float()), r"scores must have the dtype of log_joint"),
    (
        lambda: score_matching.weight_sensitivity(MEAN, COV, COV, 1.0),
        r"weight must lie strictly between 0 and 1, got 1.0",
    ),
    (lambda: score_matching.weight_sensitivity(MEAN[:2], COV, COV, 0.5), r"log_ratio must have shape \(3,\)"),
    (lambda: score_matching.weight_sensitivity(MEAN, COV, COV[:, :1], 0.5), r"score_1 must have the shape"),
)


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
