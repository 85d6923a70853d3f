"""The exact laws of data against quadrature, against one another, and in their limits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference_laws import levels, misfit, named, tensors
from scipy import integrate
from torch import Tensor

from refdiff import ddpm
from refdiff.data import Empirical, GaussianLaw, Law, MixtureLaw, PointMass
from refdiff.schedule import Schedule

LINEAR = named("linear-1000")
ZERO_SNR = named("zero-snr-100")
METHODS = ("log_prob", "score", "eps", "posterior_mean", "posterior_covariance")


def double(*values: object) -> Tensor:
    return torch.tensor(*values, dtype=torch.float64)


WEIGHTS = double([0.2, 0.5, 0.3])
MEANS = double([[-1.0, 0.5], [2.0, 1.0], [0.3, -1.2]])
COVS = double([[[0.5, 0.2], [0.2, 0.3]], [[0.1, -0.05], [-0.05, 0.4]], [[1.0, 0.9], [0.9, 1.0]]])
LAWS: dict[str, Law] = {
    "gaussian": GaussianLaw(MEANS[1], COVS[0]),
    "singular": GaussianLaw(MEANS[0], double([[1.0, 2.0], [2.0, 4.0]])),
    "mixture": MixtureLaw(WEIGHTS, MEANS, COVS),
    "empirical": Empirical(MEANS),
    "point": PointMass(MEANS[0]),
}
REGULAR = ("gaussian", "mixture")

# Quadrature is asked for this relative error, and is trusted to ten times that.
ASKED = 1e-11


# One dimension: every quantity is an integral over x_0 of the joint density.


def integrals(
    weights: Tensor, means: Tensor, variances: Tensor, abar: float, x: float
) -> tuple[float, float, float, float]:
    """p_t(x), and the posterior's mean of x_0, variance of x_0 and mean of the noise, by quadrature."""
    scale, std = math.sqrt(abar), math.sqrt(1 - abar)

    def joint(x_0: float) -> float:
        prior = sum(
            float(w) * math.exp(-((x_0 - float(m)) ** 2) / (2 * float(v))) / math.sqrt(2 * math.pi * float(v))
            for w, m, v in zip(weights, means, variances, strict=True)
        )
        return prior * math.exp(-((x - scale * x_0) ** 2) / (2 * std**2)) / (math.sqrt(2 * math.pi) * std)

    peaks = [x / scale, *means.tolist()]
    low, high = min(peaks) - 14, max(peaks) + 14
    cuts = sorted({low, high, *(p + k * std / scale for p in peaks[:1] for k in (-6, 0, 6)), *peaks[1:]})
    cuts = [c for c in cuts if low <= c <= high]

    def integral(weight: Callable[[float], float]) -> float:
        pieces = itertools.pairwise(cuts)
        options = {"epsabs": 0.0, "epsrel": ASKED, "limit": 200}
        return sum(
            integrate.quad(lambda x_0: weight(x_0) * joint(x_0), a, b, **options)[0] for a, b in pieces
        )

    total = integral(lambda x_0: 1.0)
    mean = integral(lambda x_0: x_0) / total
    variance = integral(lambda x_0: (x_0 - mean) ** 2) / total
    noise = integral(lambda x_0: (x - scale * x_0) / std) / total
    return total, mean, variance, noise


@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")
@pytest.mark.parametrize("t", [1, 40, 300, 700])
@pytest.mark.parametrize("x", [-1.3, 0.4])
def test_moments_are_those_of_quadrature(t: int, x: float) -> None:
    weights, means, variances = WEIGHTS, MEANS[:, :1], COVS[:, :1, :1]
    law, x_t = MixtureLaw(weights, means, variances), double([[x]])
    density, mean, variance, noise = integrals(
        weights, means[:, 0], variances[:, 0, 0], float(LINEAR.alpha_bar[t]), x
    )
    eps64 = torch.finfo(torch.float64).eps
    # ten times what quadrature was asked for, in units of float64 roundings; the noise is (x - ...) / std
    roundings, lever = 10 * ASKED / eps64, 3 / float(LINEAR.sigma[t])
    assert misfit(law.log_prob(LINEAR, x_t, t), math.log(density), 1.0, roundings) <= 1
    assert misfit(law.posterior_mean(LINEAR, x_t, t), mean, 3.0, roundings) <= 1
    assert misfit(law.posterior_covariance(LINEAR, x_t, t), variance, variance, 10 * roundings) <= 1
    assert misfit(law.eps(LINEAR, x_t, t), noise, lever + 1, roundings) <= 1
    near = law.posterior_mean(LINEAR, x_t, t + 1)
    assert misfit(near, mean, 3.0, roundings) > 1
    assert misfit(law.log_prob(LINEAR, x_t, t + 1), math.log(density), 1.0, roundings) > 1


def test_two_correlated_dimensions_are_those_of_quadrature() -> None:
    law, t, x = LAWS["gaussian"], 300, MEANS[2]
    abar = float(LINEAR.alpha_bar[t])
    precision, mean = np.linalg.inv(COVS[0].numpy()), MEANS[1].numpy()
    norm = math.sqrt(np.linalg.det(precision)) / (2 * math.pi) / (2 * math.pi * (1 - abar))

    # the trapezoidal rule converges faster than any power for a Gaussian, cut where it is below rounding
    axis = [np.linspace(m - 10, m + 10, 1001) for m in mean]
    u, v = np.meshgrid(*axis, indexing="ij")
    du, dv = u - mean[0], v - mean[1]
    prior = precision[0, 0] * du**2 + 2 * precision[0, 1] * du * dv + precision[1, 1] * dv**2
    misses = (float(x[0]) - math.sqrt(abar) * u) ** 2 + (float(x[1]) - math.sqrt(abar) * v) ** 2
    joint = norm * np.exp(-prior / 2 - misses / (2 * (1 - abar)))

    def integral(values: np.ndarray) -> float:
        return float(integrate.trapezoid(integrate.trapezoid(values, axis[1]), axis[0]))

    total = integral(joint)
    expected = [integral(u * joint) / total, integral(v * joint) / total]
    square = [
        [integral((a - m) * (b - n) * joint) / total for b, n in zip((u, v), expected, strict=True)]
        for a, m in zip((u, v), expected, strict=True)
    ]
    # a million terms summed pairwise, squares of numbers up to 20
    assert misfit(law.log_prob(LINEAR, x[None], t), math.log(total), 1.0, 2000) <= 1
    assert misfit(law.posterior_mean(LINEAR, x[None], t), double([expected]), 4.0, 2000) <= 1
    assert misfit(law.posterior_covariance(LINEAR, x[None], t), double([square]), 1.0, 2000) <= 1
    swapped = double([square]).flip(1, 2)
    assert misfit(law.posterior_covariance(LINEAR, x[None], t), swapped, 1.0, 2000) > 1


# Sums over points, in 50 digits.


@given(levels(1, lowest=1), st.integers(0, 5))
def test_an_empirical_measure_is_a_sum_over_its_points(drawn: tuple[Schedule, tuple[int]], seed: int) -> None:
    schedule, (t,) = drawn
    assert empirical_error(Empirical(MEANS), schedule, t, seed) <= 1


def test_points_of_other_weights_are_seen() -> None:
    other = MixtureLaw(WEIGHTS, MEANS, 0 * COVS)
    assert empirical_error(other, LINEAR, 500, 0) > 1


def empirical_error(law: Law, schedule: Schedule, t: int, seed: int) -> float:
    x_t = tensors(1, (1, 2), seed=seed)
    abar, variance = float(schedule.alpha_bar[t]), float(schedule.one_minus_alpha_bar[t])
    points = MEANS.tolist()
    with mpmath.workdps(50):
        scale = mpmath.mpf(float(schedule.sqrt_alpha_bar[t]))
        misses = [sum((x - scale * p) ** 2 for x, p in zip(x_t[0].tolist(), q, strict=True)) for q in points]
        parts = [mpmath.exp(-m / (2 * variance)) / (2 * mpmath.pi * variance) / len(points) for m in misses]
        log_prob = float(mpmath.log(mpmath.fsum(parts)))
        shares = [p / mpmath.fsum(parts) for p in parts]
        mean = [float(mpmath.fsum(s * q[i] for s, q in zip(shares, points, strict=True))) for i in range(2)]
    # a share is off by the rounding of its exponent, |x - p|^2 / 2 variance, and a mean by that times them
    exponent = 1 + max(float(m) for m in misses) / variance
    roundings = 24 + 8 * abar
    return max(
        misfit(law.log_prob(schedule, x_t, t), log_prob, exponent, roundings),
        misfit(law.posterior_mean(schedule, x_t, t), double([mean]), 3 * exponent, roundings),
    )


# Laws that bind the quantities.


@given(levels(1, lowest=1), st.sampled_from(list(LAWS)), st.integers(0, 5))
def test_the_score_is_the_gradient_of_log_prob(
    drawn: tuple[Schedule, tuple[int]], name: str, seed: int
) -> None:
    schedule, (t,) = drawn
    law, x_t = LAWS[name], tensors(1, seed=seed).requires_grad_()
    (expected,) = torch.autograd.grad(law.log_prob(schedule, x_t, t).sum(), x_t)
    condition = conditioning(law, schedule, x_t, t) / schedule.sqrt_one_minus_alpha_bar[t]
    assert misfit(law.score(schedule, x_t, t).detach(), expected, condition, 32) <= 1
    broken = -law.score(schedule, x_t, t).detach()
    assert condition > 1e9 or misfit(broken, expected, condition, 32) > 1


def conditioning(law: Law, schedule: Schedule, x_t: Tensor, t: int) -> Tensor:
    """The size of the exponents, squares of the reach: their roundings are those of the shares."""
    narrowest = schedule.alpha_bar[t] * law.components.variance.min() + schedule.one_minus_alpha_bar[t]
    return 1 + ((x_t.detach().abs().amax() + 3) / narrowest.sqrt()) ** 3


@given(levels(1, lowest=1, signal=True), st.sampled_from(list(LAWS)), st.integers(0, 5))
def test_eps_score_and_denoiser_are_one(drawn: tuple[Schedule, tuple[int]], name: str, seed: int) -> None:
    schedule, (t,) = drawn
    law, x_t = LAWS[name], tensors(1, seed=seed)
    std = schedule.sqrt_one_minus_alpha_bar[t]
    eps, score = law.eps(schedule, x_t, t), law.score(schedule, x_t, t)
    condition = conditioning(law, schedule, x_t, t)
    assert misfit(eps, -std * score, condition, 8) <= 1
    scaled = schedule.sqrt_alpha_bar[t] * law.posterior_mean(schedule, x_t, t)
    assert misfit(scaled, x_t - std * eps, condition, 16) <= 1
    broken = schedule.alpha_bar[t] * law.posterior_mean(schedule, x_t, t)
    seen = abs(schedule.alpha_bar[t] - schedule.sqrt_alpha_bar[t]) > 1e-6
    assert (
        not seen
        or conditioning(law, schedule, x_t, t) > 1e6
        or misfit(broken, x_t - std * eps, condition, 16) > 1
    )


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("t", [50, 300, 700])
def test_the_covariance_is_the_derivative_of_the_denoiser(name: str, t: int) -> None:
    law, x_t = LAWS[name], tensors(1)
    jacobian = torch.autograd.functional.jacobian(lambda x: law.posterior_mean(LINEAR, x, t).sum(0), x_t)
    # Cov[x_0 | x_t] = (1 - alpha_bar)/sqrt(alpha_bar) dE[x_0 | x_t]/dx_t
    expected = LINEAR.one_minus_alpha_bar[t] / LINEAR.sqrt_alpha_bar[t] * jacobian.permute(1, 0, 2)
    got = law.posterior_covariance(LINEAR, x_t, t)
    condition = conditioning(law, LINEAR, x_t, t)
    assert misfit(got, expected, condition, 16) <= 1
    assert name == "point" or misfit(got, expected / LINEAR.sqrt_alpha_bar[t], condition, 16) > 1
    assert torch.allclose(got, got.mT)


@given(levels(2, lowest=1), st.sampled_from(list(LAWS)))
def test_noising_a_noised_law_is_noising_it_once(drawn: tuple[Schedule, tuple[int, int]], name: str) -> None:
    schedule, (t, s) = drawn
    law = LAWS[name]
    if name == "empirical":
        law = MixtureLaw(torch.full((3,), 1 / 3, dtype=torch.float64), MEANS, 0 * COVS)
    if name == "point":
        law = GaussianLaw(MEANS[0], 0 * COVS[0])
    weights = law.weights if isinstance(law, MixtureLaw) else double([1.0])
    means = law.components.mean * schedule.sqrt_alpha_bar[s]
    eye = torch.eye(2, dtype=torch.float64)
    covs = law.covs if isinstance(law, MixtureLaw) else law.cov[None]  # type: ignore[attr-defined]
    at_s = MixtureLaw(weights, means, covs * schedule.alpha_bar[s] + schedule.one_minus_alpha_bar[s] * eye)
    between = ddpm.transition(schedule, torch.zeros(1, 1, dtype=torch.float64), t, s).variance
    one_step = one_step_schedule(float(between))
    x_t = tensors(1)
    condition = conditioning(law, schedule, x_t, t)
    got, expected = at_s.log_prob(one_step, x_t, 1), law.log_prob(schedule, x_t, t)
    # the noised covariances are rounded before they are factored
    assert misfit(got, expected, condition, 64 + schedule.T * (schedule.T > 1000)) <= 1
    if schedule.alpha_bar[s] > 0.1 and 0.01 < between < 0.99:
        assert misfit(at_s.log_prob(schedule, x_t, t), expected, condition, 64) > 1


def one_step_schedule(beta: float) -> Schedule:
    from refdiff.schedule import from_beta

    return from_beta([beta])


# Limits.


@pytest.mark.parametrize("name", LAWS)
def test_at_data_nothing_is_left_to_guess(name: str) -> None:
    law = LAWS[name]
    x_0 = law.components.mean
    for t in (0, torch.zeros(len(x_0), dtype=torch.int64)):
        assert not law.eps(LINEAR, x_0, t).any()
        assert torch.equal(law.posterior_mean(LINEAR, x_0, t), x_0)
        assert not law.posterior_covariance(LINEAR, x_0, t).any()
    mixed = law.posterior_mean(LINEAR, x_0[:1].expand(2, -1), torch.tensor([0, 500]))
    assert torch.equal(mixed[0], x_0[0])
    assert torch.equal(mixed[1:], law.posterior_mean(LINEAR, x_0[:1], 500))


@pytest.mark.parametrize("name", REGULAR)
def test_at_data_the_density_is_that_of_the_law(name: str) -> None:
    law, x_0 = LAWS[name], tensors(1)
    weights, means, covs = (
        (WEIGHTS, MEANS, COVS) if name == "mixture" else (double([1.0]), MEANS[1:2], COVS[:1])
    )
    parts = [
        torch.distributions.MultivariateNormal(m, c).log_prob(x_0) for m, c in zip(means, covs, strict=True)
    ]
    expected = torch.logsumexp(torch.stack(parts, 1) + weights.log(), 1)
    # the inverse of the worst covariance has condition 19, and distances squared are below 100
    assert misfit(law.log_prob(LINEAR, x_0, 0), expected, expected.abs() + 100, 64) <= 1
    assert misfit(law.log_prob(LINEAR, x_0, 1), expected, expected.abs() + 100, 64) > 1


@pytest.mark.parametrize("name", LAWS)
def test_without_signal_the_posterior_is_the_law(name: str) -> None:
    law, x_T, T = LAWS[name], tensors(1), ZERO_SNR.T
    part = law.components
    weight = part.log_weight.exp()
    mean = weight @ part.mean
    spread = part.covariance(part.variance[None])[0] + torch.einsum("ki,kj->kij", part.mean, part.mean)
    covariance = torch.einsum("k,kij->ij", weight, spread) - torch.outer(mean, mean)
    assert misfit(law.posterior_mean(ZERO_SNR, x_T, T), mean.expand(3, 2), 4.0, 16) <= 1
    assert misfit(law.posterior_covariance(ZERO_SNR, x_T, T), covariance.expand(3, 2, 2), 16.0, 16) <= 1
    assert misfit(law.eps(ZERO_SNR, x_T, T), x_T, x_T, 8) <= 1
    assert misfit(law.score(ZERO_SNR, x_T, T), -x_T, x_T, 8) <= 1
    standard = -(x_T**2).sum(1) / 2 - math.log(2 * math.pi)
    assert misfit(law.log_prob(ZERO_SNR, x_T, T), standard, standard, 16) <= 1
    assert misfit(law.eps(ZERO_SNR, x_T, T - 1), x_T, x_T, 8) > 1


def test_close_to_data_nothing_overflows() -> None:
    schedule, x = named("linear-100000"), 5 * tensors(1)
    for name in LAWS:
        for method in METHODS:
            assert torch.isfinite(getattr(LAWS[name], method)(schedule, x, 1)).all(), (name, method)
    point = LAWS["point"].posterior_mean(schedule, x, 1)
    assert torch.equal(point, MEANS[0].expand(3, 2))


def test_two_ways_to_the_same_law_agree() -> None:
    x_t = tensors(1)
    third = torch.full((3,), 1 / 3, dtype=torch.float64)
    pairs = [
        (MixtureLaw(third, MEANS, 0 * COVS), LAWS["empirical"]),
        (MixtureLaw(third, MEANS[:1].expand(3, 2), COVS[:1].expand(3, 2, 2)), GaussianLaw(MEANS[0], COVS[0])),
        (GaussianLaw(MEANS[0], 0 * COVS[0]), LAWS["point"]),
    ]
    for a, b in pairs:
        for method, t in itertools.product(METHODS, (1, 300, 1000)):
            got, expected = (getattr(law, method)(LINEAR, x_t, t) for law in (a, b))
            assert misfit(got, expected, conditioning(a, LINEAR, x_t, t), 64) <= 1
    other = getattr(GaussianLaw(MEANS[0], COVS[1]), "score")(LINEAR, x_t, 300)  # noqa: B009
    assert misfit(other, pairs[1][1].score(LINEAR, x_t, 300), conditioning(a, LINEAR, x_t, 300), 64) > 1


# Sampling.


def test_a_gaussian_sample_has_the_covariance_of_the_law() -> None:
    for name, cov in (("gaussian", COVS[0]), ("singular", double([[1.0, 2.0], [2.0, 4.0]]))):
        law = LAWS[name]
        mean = law.sample(torch.zeros(1, 2, dtype=torch.float64))  # type: ignore[attr-defined]
        root = (law.sample(torch.eye(2, dtype=torch.float64)) - mean).mT  # type: ignore[attr-defined]
        assert torch.equal(mean[0], law.components.mean[0])
        # two by two products of the eigenvectors, whose errors are roundings of the largest variance
        assert misfit(root @ root.mT, cov, 5.0, 32) <= 1
        assert misfit(root, cov, 5.0, 32) > 1


def test_a_mixture_draws_each_component_as_often_as_its_weight() -> None:
    law = LAWS["mixture"]
    assert isinstance(law, MixtureLaw)
    uniform = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    drawn = law.sample(torch.zeros(1000, 2, dtype=torch.float64), uniform)
    counts = [(drawn == m).all(1).sum().item() for m in MEANS]
    assert counts == [200, 500, 300]
    z = tensors(1, (1, 2))
    for k, u in enumerate((0.1, 0.3, 0.9)):
        expected = GaussianLaw(MEANS[k], COVS[k]).sample(z)
        assert misfit(law.sample(z, double([u])), expected, 4.0, 16) <= 1
        assert misfit(law.sample(z, double([u])), GaussianLaw(MEANS[k - 1], COVS[k]).sample(z), 4.0, 16) > 1


def test_an_empirical_sample_visits_each_point_equally() -> None:
    law = LAWS["empirical"]
    assert isinstance(law, Empirical)
    drawn = law.sample((torch.arange(300, dtype=torch.float64) + 0.5) / 300)
    assert torch.equal(drawn, MEANS.repeat_interleave(100, 0))
    assert torch.equal(law.sample(double([0.0, math.nextafter(1, 0)])), MEANS[[0, 2]])


def test_a_point_mass_is_its_point() -> None:
    law = LAWS["point"]
    assert isinstance(law, PointMass)
    assert torch.equal(law.sample(4), MEANS[0].expand(4, 2))


# Shapes, dtypes, devices, graphs, bad input.


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", LAWS)
def test_shapes_dtypes_and_batches(name: str, method: str, device: torch.device) -> None:
    law, x, t = LAWS[name], tensors(1, (3, 1, 2, 1)), torch.tensor([1, 500, 1000])
    call = getattr(law, method)
    whole = call(LINEAR, x, t)
    flat = call(LINEAR, x.flatten(1), t)
    assert torch.equal(whole.reshape(flat.shape), flat)
    assert whole.shape == {"log_prob": (3,), "posterior_covariance": (3, 2, 2)}.get(method, x.shape)
    rows = torch.cat([call(LINEAR, x[i : i + 1], int(n)) for i, n in enumerate(t)])
    assert torch.equal(whole, rows)
    # float64 inside, one cast at the end
    assert torch.equal(call(LINEAR, x.float(), t), call(LINEAR, x.float().double(), t).float())
    if name != "point" or method not in ("posterior_mean", "posterior_covariance"):
        assert not torch.equal(call(LINEAR, x, t.flip(0)), rows)


@pytest.mark.parametrize("method", METHODS)
def test_meta_keeps_shape_and_dtype(method: str) -> None:
    for law in (
        GaussianLaw(MEANS[0].to("meta"), COVS[0].to("meta")),
        MixtureLaw(WEIGHTS.to("meta"), MEANS.to("meta"), COVS.to("meta")),
        Empirical(MEANS.to("meta")),
        PointMass(MEANS[0].to("meta")),
    ):
        for t in (3, torch.tensor([1, 2, 3], device="meta")):
            got = getattr(law, method)(LINEAR, torch.zeros(3, 2, device="meta"), t)
            assert got.is_meta
            assert got.dtype == torch.float32


ASYMMETRIC = double([[1.0, 0.5], [0.4, 1.0]])
BAD: dict[str, tuple[str, Callable[[], object]]] = {
    "dtype": (r"mean must be float64, got torch.float32", lambda: GaussianLaw(MEANS[0].float(), COVS[0])),
    "NaN": (r"mean must be finite, got nan", lambda: GaussianLaw(MEANS[0] * math.nan, COVS[0])),
    "shape of cov": (r"cov must have shape \(2, 2\), got \(2,\)", lambda: GaussianLaw(MEANS[0], MEANS[0])),
    "asymmetric": (r"cov must be symmetric, got 0\.0999", lambda: GaussianLaw(MEANS[0], ASYMMETRIC)),
    "indefinite": (
        r"cov must be positive semi-definite, got the eigenvalue -0\.62",
        lambda: GaussianLaw(MEANS[0], -COVS[0]),
    ),
    "sum of weights": (r"weights must sum to 1, got 2", lambda: MixtureLaw(2 * WEIGHTS, MEANS, COVS)),
    "sign of weights": (r"weights must be positive, got -0\.5", lambda: MixtureLaw(-WEIGHTS, MEANS, COVS)),
    "number of weights": (r"weights must have shape \(3,\)", lambda: MixtureLaw(WEIGHTS[:2], MEANS, COVS)),
    "no points": (r"points must have 2 axes and not be empty", lambda: Empirical(MEANS[:0])),
    "point of two axes": (r"x must have 1 axes", lambda: PointMass(MEANS)),
    "dimension": (
        r"x_t must have 2 elements per sample, got \(3, 5\)",
        lambda: call_law("eps", torch.zeros(3, 5), 1),
    ),
    "level": (r"t must lie in 0\.\.1000, got 1001", lambda: call_law("eps", MEANS, 1001)),
    "batch of levels": (
        r"t must be an int or have shape",
        lambda: call_law("eps", MEANS, torch.tensor([1, 2])),
    ),
    "density of points": (
        r"t must be at least 1 where",
        lambda: LAWS["empirical"].log_prob(LINEAR, MEANS, 0),
    ),
    "score of a line": (r"t must be at least 1 where", lambda: LAWS["singular"].score(LINEAR, MEANS[:1], 0)),
    "uniform": (
        r"uniform must lie in \[0, 1\), got 1\.0\.\.1\.0",
        lambda: Empirical(MEANS).sample(double([1.0])),
    ),
    "noise": (r"noise must have shape", lambda: GaussianLaw(MEANS[0], COVS[0]).sample(torch.zeros(3, 1))),
}


def call_law(method: str, x: Tensor, t: int | Tensor) -> object:
    return getattr(LAWS["mixture"], method)(LINEAR, x, t)


@pytest.mark.parametrize(("message", "call"), BAD.values(), ids=BAD)
def test_bad_input_is_named(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=message):
        call()
