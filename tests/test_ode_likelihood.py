"""Likelihood along the probability-flow ODE: traces, densities that integrate to one, exact Gaussian data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference_laws import misfit, tensors
from scipy.linalg import sqrtm
from scipy.stats import multivariate_normal
from torch import Tensor

from refdiff import ode, vlb
from refdiff.data import GaussianLaw
from refdiff.process import EDM, VE, VP, Process, SubVP

ULP = torch.finfo(torch.float64).eps
PROCESSES = [VP(0.1, 8.0), SubVP(0.2, 6.0), VE(0.02, 6.0), EDM(5.0)]
MEAN = torch.tensor([0.5, -1.0], dtype=torch.float64)
COV = torch.tensor([[1.0, 0.375], [0.375, 0.5]], dtype=torch.float64)
CENTRES = torch.tensor([[1.0, -2.0], [0.5, 1.0]], dtype=torch.float64)
SPREADS = torch.tensor([0.25, 0.5], dtype=torch.float64)
SHARES = torch.tensor([0.25, 0.75], dtype=torch.float64)
SETTINGS = {"method": "scipy:DOP853", "rtol": 1e-6, "atol": 1e-6}
REACHED = 1e3 * 1e-6
"""Fewer than a thousand steps, each of which errs by at most the tolerance."""


def network(x: Tensor, t: Tensor) -> Tensor:
    """Some function of a state and a time, the score of nothing, in which all coordinates meet."""
    mixed = x.flatten(1) @ torch.tensor([[1.0, -0.5], [0.25, 0.75]], dtype=x.dtype)
    return (torch.tanh(mixed + t) - x.flatten(1)).reshape(x.shape)


def mixture(process: Process, x: Tensor, t: float | Tensor) -> tuple[Tensor, Tensor]:
    """Log-density and score of a noised mixture of two round Gaussians, written out."""
    scale, v = process.scale(t), process.scale(t) ** 2 * SPREADS + process.variance(t)
    apart = x[:, None] - scale * CENTRES
    joint = SHARES.log() - (apart**2).sum(2) / (2 * v) - (2 * math.pi * v).log()
    return joint.logsumexp(1), -(joint.softmax(1) / v)[:, :, None].mul(apart).sum(1)


def gaussian_score(process: Process) -> ode.ScoreFn:
    def score(x: Tensor, t: Tensor) -> Tensor:
        scale, eye = process.scale(t), torch.eye(2, dtype=torch.float64)
        precision = torch.linalg.inv(scale**2 * COV + process.variance(t) * eye)
        return -(x - scale * MEAN) @ precision

    return score


# The trace.


def test_the_exact_trace_is_that_of_the_jacobian() -> None:
    process, x = SubVP(), tensors(1, (3, 1, 2))
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    whole = torch.autograd.functional.jacobian(lambda y: ode.drift(process, y, t, network(y, t[:, None])), x)
    expected = torch.stack([whole[k, :, :, k].reshape(2, 2).trace() for k in range(3)])
    score = lambda y, u: network(y, u[:, None])  # noqa: E731
    got = ode.divergence(process, score, x, t)
    assert misfit(got, expected, expected.abs() + 10, 64) <= 1
    summed = torch.stack([whole[k, :, :, k].sum() for k in range(3)])
    assert misfit(summed, expected, expected.abs() + 10, 64) > 1


def every_sign(x: Tensor) -> Tensor:
    """All vectors of 1 and −1, the same for each sample."""
    signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=x[0].numel())), dtype=x.dtype)
    return signs.reshape(-1, 1, *x.shape[1:]).expand(-1, *x.shape)


def test_hutchinson_over_every_sign_is_the_trace() -> None:
    x, t = tensors(1, (4, 2)), 0.5
    exact = ode.divergence(VP(), network, x, t)
    size = exact.abs() + 50
    assert misfit(ode.divergence(VP(), network, x, t, every_sign(x)), exact, size, 64) <= 1
    one = ode.divergence(VP(), network, x, t, every_sign(x)[:1])
    assert misfit(one, exact, size, 64) > 1
    short = ode.divergence(VP(), network, x, t, every_sign(x) / math.sqrt(2))
    assert misfit(short, exact, size, 64) > 1


def test_normal_probes_have_the_variance_of_the_formula() -> None:
    """Over 20000 averages of 5 probes; the bound is six deviations of a sample variance, whose kurtosis is at
    most that of a squared normal variable, 12 more than a normal one's, over 5."""
    slope = torch.tensor([[1.5, 0.25], [-0.625, 0.875]], dtype=torch.float64)
    count, n = 20000, 5
    probes = tensors(1, (n, count, 2), seed=3)
    x = torch.zeros(count, 2, dtype=torch.float64)
    got = ode.divergence(EDM(2.0), lambda y, t: -(y @ slope.mT), x, 1.0, probes)
    beside = slope[0, 1] + slope[1, 0]
    variance = float(2 * slope[0, 0] ** 2 + 2 * slope[1, 1] ** 2 + beside**2) / n
    spread = 6 * math.sqrt((2 + 12 / n) / count) * variance
    assert abs(float(got.var()) - variance) < spread
    assert abs(float(got.mean() - slope.trace())) < 6 * math.sqrt(variance / count)
    assert abs(float(got.var()) - float(beside) ** 2 / n) > spread


# The likelihood.


def misses_the_data(process: Process, factor: float) -> float:
    """Largest error of the likelihood from the right prior, with a multiple of the exact score."""
    x, end = tensors(1, (4, 2)), process.end
    score = lambda y, t: factor * mixture(process, y, t)[1]  # noqa: E731
    prior = lambda y: mixture(process, y, end)[0]  # noqa: E731
    got = ode.log_likelihood(process, score, x, "exact", prior, **SETTINGS)
    return float((got - mixture(process, x, 0.0)[0]).abs().max())


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_the_right_prior_gives_the_density_of_the_data(process: Process) -> None:
    assert misses_the_data(process, 1.0) <= REACHED


def test_half_of_the_score_gives_another_density() -> None:
    assert misses_the_data(PROCESSES[0], 0.5) > REACHED


def mass(likelihood: Callable[[Tensor], Tensor]) -> float:
    """The integral of a density on a line, by the trapezoidal rule, which is exact to rounding here."""
    grid = torch.linspace(-9, 9, 721, dtype=torch.float64)
    return float(torch.trapezoid(likelihood(grid[:, None]).exp(), grid))


def test_the_density_of_any_network_integrates_to_one() -> None:
    """Whatever the score, the ODE carries the prior to some law."""
    process = VP(0.1, 4.0)
    odd = lambda x, t: torch.sin(x + t) - x  # noqa: E731
    prior = lambda x: -(x[:, 0] ** 2 + math.log(2 * math.pi)) / 2  # noqa: E731
    whole = lambda x: ode.log_likelihood(process, odd, x, "exact", prior, **SETTINGS)  # noqa: E731
    assert abs(mass(whole) - 1) < REACHED
    code = lambda x: ode.encode(process, odd, x, **SETTINGS)  # noqa: E731
    assert abs(mass(lambda x: prior(code(x))) - 1) > REACHED
    assert abs(mass(lambda x: 2 * prior(code(x)) - whole(x)) - 1) > REACHED


def test_probes_stay_the_same_along_the_path() -> None:
    """With every sign among the probes the estimate is exact at every point of the path."""
    process, x = VP(0.1, 4.0), tensors(1, (3, 2))
    exact = ode.log_likelihood(process, network, x, **SETTINGS)
    got = ode.log_likelihood(process, network, x, every_sign(x), **SETTINGS)
    assert float((got - exact).abs().max()) <= REACHED
    one = ode.log_likelihood(process, network, x, every_sign(x)[:1], **SETTINGS)
    assert float((one - exact).abs().max()) > REACHED


def test_single_precision_comes_back() -> None:
    x = tensors(1, (3, 2))
    exact = ode.log_likelihood(VP(0.1, 4.0), network, x, **SETTINGS)
    single = ode.log_likelihood(VP(0.1, 4.0), network, x.float())
    assert single.dtype == torch.float32
    assert float((single - exact).abs().max()) < 1e3 * 1e-5
    torch_made = ode.log_likelihood(
        VP(0.1, 4.0), network, x, method="torchdiffeq:dopri5", rtol=1e-6, atol=1e-6
    )
    assert float((torch_made - exact).abs().max()) <= REACHED
    shaped = ode.log_likelihood(VP(0.1, 4.0), network, x.reshape(3, 1, 2), every_sign(x).reshape(4, 3, 1, 2))
    assert float((shaped - exact).abs().max()) < 1e3 * 1e-5


# Gaussian data.


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_the_flow_map_is_a_product_of_roots(process: Process) -> None:
    for t, s in ((0.0, process.end), (process.end, 0.0), (0.25 * process.end, 0.5 * process.end)):
        slope, shift = ode.gaussian_flow_map(process, MEAN, COV, t, s)
        roots = [
            sqrtm(float(process.scale(u)) ** 2 * COV.numpy() + float(process.variance(u)) * np.eye(2))
            for u in (t, s)
        ]
        expected = torch.as_tensor(roots[1] @ np.linalg.inv(roots[0]))
        size = expected.abs().max() * float(np.linalg.cond(roots[0]))
        assert misfit(slope, expected, size, 256) <= 1
        assert misfit(slope @ slope, expected, size, 256) > 1
        centre = float(process.scale(s)) * MEAN - expected @ (float(process.scale(t)) * MEAN)
        assert misfit(shift, centre, size * MEAN.abs().max() + 1, 256) <= 1


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_maps_compose_and_return(process: Process) -> None:
    ends = (0.1 * process.end, 0.4 * process.end, process.end)
    pairs = [ode.gaussian_flow_map(process, MEAN, COV, t, s) for t, s in itertools.pairwise(ends)]
    slope, shift = pairs[1][0] @ pairs[0][0], pairs[1][0] @ pairs[0][1] + pairs[1][1]
    whole = ode.gaussian_flow_map(process, MEAN, COV, ends[0], ends[2])
    size = 1 + whole[0].abs().max()
    assert max(misfit(slope, whole[0], size, 64), misfit(shift, whole[1], size, 64)) <= 1
    back, _ = ode.gaussian_flow_map(process, MEAN, COV, ends[2], ends[0])
    assert misfit(back @ whole[0], torch.eye(2), size * (1 + back.abs().max()), 64) <= 1
    assert misfit(back, torch.eye(2), size, 64) > 1


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_gaussian_likelihood_is_the_push_forward_of_the_prior(process: Process) -> None:
    """The ODE from the prior generates a Gaussian, whose density another library knows."""
    x, variance = tensors(1, (5, 2)), 1.75
    slope, shift = ode.gaussian_flow_map(process, MEAN, COV, process.end, 0.0)
    law = multivariate_normal(shift.numpy(), variance * (slope @ slope.mT).numpy())
    expected = torch.as_tensor(law.logpdf(x.numpy()))
    got = ode.gaussian_log_likelihood(process, MEAN, COV, x, variance)
    deviation = (x - shift) @ torch.linalg.inv(slope).mT / math.sqrt(variance)
    size = 10 + (deviation**2).sum(1) * float(torch.linalg.cond(slope)) * (1 + shift.abs().max())
    assert misfit(got, expected, size, 256) <= 1
    truth = GaussianLaw(MEAN, COV).at(process.scale(0.0), process.std(0.0)).log_prob(x)
    assert misfit(truth, expected, size, 256) > 1


def test_a_solver_reaches_the_exact_gaussian_likelihood() -> None:
    for process in PROCESSES:
        score = gaussian_score(process)
        x = tensors(1, (4, 2))
        exact = ode.gaussian_log_likelihood(process, MEAN, COV, x)
        got = ode.log_likelihood(process, score, x, **SETTINGS)
        assert float((got - exact).abs().max()) <= REACHED
        other = ode.gaussian_log_likelihood(
            process, MEAN, COV, x, 1.01 * float(process.variance(process.end))
        )
        assert float((got - other).abs().max()) > REACHED


def test_a_wrong_prior_costs_its_divergence() -> None:
    """The mean over the law of a quadratic, by points at one deviation along each axis of the data."""
    process, variance = VE(0.02, 3.0), 8.0
    start = COV + float(process.variance(0.0)) * torch.eye(2, dtype=torch.float64)
    end = COV + float(process.variance(1.0)) * torch.eye(2, dtype=torch.float64)
    axes = math.sqrt(2) * torch.linalg.cholesky(start).mT
    x = torch.cat([MEAN + axes, MEAN - axes])
    truth = GaussianLaw(MEAN, COV).at(1.0, process.std(0.0)).log_prob(x)
    lost = (truth - ode.gaussian_log_likelihood(process, MEAN, COV, x, variance)).mean()
    terms = end.trace() / variance + MEAN.square().sum() / variance - 2 - torch.logdet(end / variance)
    assert misfit(lost, terms / 2, truth.abs().max() + 10, 128) <= 1
    swapped = variance * torch.linalg.inv(end).trace() - 2 + torch.logdet(end / variance)
    assert misfit(lost, swapped / 2, truth.abs().max() + 10, 128) > 1


# Bits.


@given(
    st.floats(-1e4, 1e4),
    st.integers(1, 10000),
    st.integers(2, 65536),
    st.floats(0.01, 300),
    st.floats(-200, 200),
)
def test_bits_do_not_depend_on_the_unit_of_the_data(
    nats: float, dim: int, bins: int, stretch: float, low: float
) -> None:
    unit = ode.bits_per_dim(nats, dim, bins)
    moved = ode.bits_per_dim(nats - dim * math.log(stretch), dim, bins, (low, low + stretch))
    size = abs(nats) / dim + math.log(bins) + abs(math.log(stretch)) + abs(low) / stretch + 1
    assert abs(moved - unit) <= 32 * ULP * size
    same_offset = ode.bits_per_dim(nats - dim * math.log(stretch), dim, bins)
    assert abs(same_offset - unit) > 32 * ULP * size or abs(math.log(stretch)) < 1e-9
    assert abs(unit - vlb.density_bits_per_dim(-nats / dim, 1 / bins)) <= 32 * ULP * size


def test_offsets_are_eight_and_seven_bits() -> None:
    assert ode.bits_per_dim(0.0, 3072) == 8
    assert ode.bits_per_dim(0.0, 3072, data_range=(-1.0, 1.0)) == 7
    assert ode.bits_per_dim(0.0, 3072, 32, (-1.0, 1.0)) == 4
    of_batch = ode.bits_per_dim(torch.tensor([-1.0, 2.0]), 2)
    assert of_batch.dtype == torch.float32 and of_batch.shape == (2,) and float(of_batch[0]) > 8


def test_uniform_data_cost_the_logarithm_of_their_bins() -> None:
    """Flat on the range: each of the bins is equally likely."""
    assert abs(ode.bits_per_dim(-12 * math.log(3.0), 12, 64, (-1.0, 2.0)) - 6) <= 8 * ULP * 6


X = torch.zeros(2, 2, dtype=torch.float64)
EYE = torch.eye(2, dtype=torch.float64)
ASK = lambda x, t: -x  # noqa: E731
BAD: dict[str, tuple[str, Callable[[], object]]] = {
    "probes": (r"probes must have shape \(n, \*\(2, 2\)\)", lambda: ode.divergence(VP(), ASK, X, 0.5, X)),
    "no probes": (r"probes must have shape", lambda: ode.divergence(VP(), ASK, X, 0.5, X.expand(0, 2, 2))),
    "probes' dtype": (
        r"probes must have the dtype",
        lambda: ode.divergence(VP(), ASK, X, 0.5, X[None].float()),
    ),
    "no batch": (r"x must have shape \(B, \*\)", lambda: ode.divergence(VP(), ASK, X[0], 0.5)),
    "divergence": (r"divergence must be 'exact' or", lambda: ode.log_likelihood(VP(), ASK, X, "trace")),  # type: ignore[arg-type]
    "prior": (
        r"prior must return shape \(2,\)",
        lambda: ode.log_likelihood(VP(), ASK, X, "exact", lambda x: x),
    ),
    "dim": (r"dim must be at least 1, got 0", lambda: ode.bits_per_dim(1.0, 0)),
    "bins": (r"bins must be an int", lambda: ode.bits_per_dim(1.0, 3, 256.0)),  # type: ignore[arg-type]
    "range": (r"data_range must be finite and ascending", lambda: ode.bits_per_dim(1.0, 3, 256, (1.0, -1.0))),
    "no density": (
        r"t must be a time at which the law has a density, got 0",
        lambda: ode.gaussian_flow_map(VP(), X[0], 0 * EYE, 0.0, 1.0),
    ),
    "x": (
        r"x must be float64 of shape \(B, 2\)",
        lambda: ode.gaussian_log_likelihood(VP(), X[0], EYE, X[:, :1]),
    ),
    "prior's variance": (
        r"prior_variance must lie strictly",
        lambda: ode.gaussian_log_likelihood(VP(), X[0], EYE, X, -1.0),
    ),
}


@pytest.mark.parametrize(("message", "call"), BAD.values(), ids=BAD)
def test_bad_input_is_named(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=message):
        call()
