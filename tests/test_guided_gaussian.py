"""Guided kernels and samplers end in the laws that they should sample, and broken ones do not."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from guidance_laws import (
    BROKEN_EPS,
    COSINE,
    GRID,
    KERNELS,
    LINE,
    LINEAR,
    OBSERVED,
    OBSERVED_PLANE,
    PLANE,
    PROBIT,
    PROBIT_PLANE,
    TILTED,
    bed_gradient,
    double,
    kernel_by_quadrature,
    linearised,
    log_joint,
    observed,
    quadratic,
)
from hypothesis import given
from hypothesis import strategies as st
from reference_laws import basis_batch, last, misfit, moments, tensors
from torch import Tensor

from refdiff import ddim, ddpm, gaussian, guidance
from refdiff.data import GaussianLaw
from refdiff.guidance import Gradient
from refdiff.guided_gaussian import (
    LinearObservation,
    LogLinearClassifier,
    gaussian_reverse,
)


def kernel_is_exact(kernel: Callable[..., tuple[Tensor, Tensor]], t: int, s: int) -> float:
    x = double([[0.8], [-1.3]])
    mean, variance = kernel(x, t, s)
    expected = [kernel_by_quadrature(t, s, float(row)) for row in x]
    means, variances = (double([[row[k]] for row in expected]) for k in (0, 1))
    # the ratio of two float64 levels is rounded once and divided by 1 - alpha; 1801 terms are summed twice
    lost = 400 + 4 / float(1 - LINEAR.alpha_bar[t] / LINEAR.alpha_bar[s])
    off = misfit(variance.expand(2, 1), variances, variances, lost)
    return max(misfit(mean, means, means.abs() + 1, lost), off)


BROKEN_KERNELS: dict[str, Callable[..., Any]] = {
    "unguided": lambda x, t, s: gaussian_reverse(LINE, LINEAR, x, t, s),
    "linear": linearised(lambda t, s: s),
    "level above": quadratic(lambda t, s: t),
    "level above, at x_t": quadratic(lambda t, s: t, at_mean=False),
    "clean classifier": quadratic(lambda t, s: 0),
}


@pytest.mark.parametrize("pair", [(120, 100), (500, 499), (500, 300), (1000, 700)])
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_the_conditional_kernel_is_bayes_rule_by_quadrature(
    kernel: Callable[..., Any], pair: tuple[int, int]
) -> None:
    assert kernel_is_exact(kernel, *pair) <= 1


@pytest.mark.parametrize("kernel", BROKEN_KERNELS.values(), ids=BROKEN_KERNELS)
def test_another_conditional_kernel_is_seen(kernel: Callable[..., Any]) -> None:
    assert kernel_is_exact(kernel, 500, 300) > 1


def test_the_shifted_noise_has_the_exact_conditional_mean_where_the_shifted_mean_has_not() -> None:
    x, (t, s) = tensors(1, (5, 1)), (500, 499)
    exact = OBSERVED.kernel(LINEAR, x, t, s)[0]
    eps, gradient = LINE.eps(LINEAR, x, t), OBSERVED.gradient(LINEAR, x, t)
    by_noise = ddpm.mean_from_eps(LINEAR, x, t, guidance.guided_eps(eps, gradient, LINEAR.alpha_bar[t]))
    size = x.abs() + 1 + gradient.abs()
    assert misfit(by_noise, exact, size, 200) <= 1
    variance = ddpm.variance(LINEAR, t).reshape(1)
    by_mean = guidance.classifier_guided_mean(ddpm.mean_from_eps(LINEAR, x, t, eps), variance, gradient)
    assert misfit(by_mean, exact, size, 200) > 1


def mean_by_noise(guide: Callable[..., Tensor], label: str, t: int, s: int) -> float:
    """The step's mean under a guided noise is that of x_s given x_t and the label, whatever the label."""
    x = double([[0.8], [-1.3], [0.1]])
    gradient = {"observed": OBSERVED.gradient, "probit": PROBIT.gradient}[label](LINEAR, x, t)
    eps = guide(LINE.eps(LINEAR, x, t), gradient, LINEAR.alpha_bar[t])
    expected = double([[kernel_by_quadrature(t, s, float(row), label)[0]] for row in x])
    lost = 400 + 4 / float(1 - LINEAR.alpha_bar[t] / LINEAR.alpha_bar[s])
    return misfit(ddpm.mean_from_eps(LINEAR, x, t, eps, s), expected, expected.abs() + 1, lost)


@pytest.mark.parametrize("pair", [(120, 100), (500, 300), (700, 0)])
@pytest.mark.parametrize("label", ["observed", "probit"])
def test_the_shifted_noise_has_the_exact_conditional_mean(label: str, pair: tuple[int, int]) -> None:
    assert mean_by_noise(guidance.guided_eps, label, *pair) <= 1
    for broken in BROKEN_EPS.values():
        assert mean_by_noise(broken, label, *pair) > 1


def label_is_likely(log_probability: Callable[..., Tensor], t: int) -> float:
    x = double([[0.8], [-1.3], [0.1]])
    squares = (x - LINEAR.sqrt_alpha_bar[t] * GRID) ** 2 / (2 * LINEAR.one_minus_alpha_bar[t])
    both = torch.logsumexp(log_joint(0, "probit") - squares, 1)
    alone = torch.logsumexp(log_joint(0, "none") - squares, 1)
    return misfit(log_probability(LINEAR, x, t), both - alone, both.abs() + alone.abs(), 400)


def probit_at(point: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The classifier of data, asked about something else than data."""
    return lambda S, x, t: torch.special.log_ndtr(0.4 - 2.5 * point(S, x, t)[:, 0])


@pytest.mark.parametrize("t", [60, 300, 1000])
def test_a_linear_classifier_is_one_at_every_level(t: int) -> None:
    assert label_is_likely(PROBIT.log_probability, t) <= 1
    assert label_is_likely(probit_at(LINE.posterior_mean), t) > 1
    assert label_is_likely(probit_at(lambda S, x, t: x), t) > 1


@given(st.integers(0, 1000))
def test_the_gradient_of_a_linear_classifier_is_its_derivative(t: int) -> None:
    x = tensors(1)
    log_probability = functools.partial(PROBIT_PLANE.log_probability, LINEAR)
    got = PROBIT_PLANE.gradient(LINEAR, x, t)
    exact = guidance.classifier_gradient(log_probability, x, t)
    assert misfit(got, exact, exact.abs() + x.abs() + 1, 400) <= 1
    clean = PROBIT_PLANE.gradient(LINEAR, x, 0)
    assert t < 2 or misfit(clean, exact, exact.abs() + x.abs() + 1, 400) > 1


# Whole samplers, exactly.


def law_of(step: Callable[[Tensor, int, int], tuple[Tensor, Tensor]], start: GaussianLaw, chosen: Any) -> Any:
    """Mean and variance at the end of a chain of affine Gaussian kernels that starts with a noised law."""
    x, noises = basis_batch(len(chosen) - 1)
    for t, s, noise in zip(chosen, chosen[1:], noises, strict=False):
        mean, variance = step(x, t, s)
        x = mean + variance.sqrt().reshape(1) * noise
    signal, noise_power = LINEAR.sqrt_alpha_bar[chosen[0]], LINEAR.one_minus_alpha_bar[chosen[0]]
    return moments(x, float(signal * start.mean), float(signal**2 * start.cov + noise_power))


def reaches(step: Callable[[Tensor, int, int], Any], target: GaussianLaw, chosen: Any) -> float:
    mean, variance = law_of(step, target, chosen)
    # some 60 roundings a step; every state is of the size of data or noise
    got, wanted = double([mean, variance]), torch.cat([target.mean, target.cov[0]])
    return misfit(got, wanted, 1 + wanted.abs(), 60 * len(chosen))


CHOSEN = {"one": (1000, 0), "odd": (1000, 741, 300, 299, 50, 3, 0), "many": tuple(range(1000, -1, -10))}


@pytest.mark.parametrize("chosen", CHOSEN.values(), ids=CHOSEN)
def test_a_chain_of_conditional_kernels_samples_the_conditional_law(chosen: tuple[int, ...]) -> None:
    kernel = KERNELS["gradient at the mean"]
    assert reaches(lambda x, t, s: OBSERVED.kernel(LINEAR, x, t, s), OBSERVED.law(), chosen) <= 1
    assert reaches(kernel, OBSERVED.law(), chosen) <= 1
    assert reaches(linearised(lambda t, s: s), OBSERVED.law(), chosen) > 1
    assert reaches(quadratic(lambda t, s: t), OBSERVED.law(), chosen) > 1


def tilted_kernel(level_of: Callable[[int, int], int], scale: float) -> Callable[..., Any]:
    def kernel(x: Tensor, t: int, s: int) -> tuple[Tensor, Tensor]:
        mean, variance = gaussian_reverse(LINE, LINEAR, x, t, s)
        gradient = TILTED.gradient(LINEAR, mean, level_of(t, s))
        return guidance.classifier_guided_mean(mean, variance.reshape(1), gradient, scale), variance

    return kernel


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("chosen", CHOSEN.values(), ids=CHOSEN)
def test_every_scale_of_a_log_linear_classifier_is_sampled_exactly(
    chosen: tuple[int, ...], scale: float
) -> None:
    assert reaches(tilted_kernel(lambda t, s: s, scale), TILTED.law(scale), chosen) <= 1
    assert reaches(tilted_kernel(lambda t, s: t, scale), TILTED.law(scale), chosen) > 1
    assert reaches(tilted_kernel(lambda t, s: s, 1 + scale), TILTED.law(scale), chosen) > 1


TOP = 900
Sampler = Callable[[Gradient, float, Tensor, tuple[int, ...], list[Tensor]], Any]


def eps_of_line(x: Tensor, t: Any) -> Tensor:
    return LINE.eps(COSINE, x, t)


def by_ddim(eta: float) -> Sampler:
    def sample(gradient: Gradient, scale: float, x: Tensor, chosen: Any, noises: Any) -> Any:
        model = guidance.guided_model(eps_of_line, gradient, COSINE, scale)
        return ddim.sample(model, COSINE, x, chosen, eta, noises)

    return sample


def by_ddpm(point: Any, kind: Any = "beta_tilde") -> Sampler:
    def sample(gradient: Gradient, scale: float, x: Tensor, chosen: Any, noises: Any) -> Any:
        return guidance.ddpm_sample(eps_of_line, gradient, COSINE, x, noises, chosen, scale, kind, point)

    return sample


SAMPLERS: dict[str, Sampler] = {
    "ddim, eta 0": by_ddim(0.0),
    "ddim, eta 0.4": by_ddim(0.4),
    "ddim, eta 1": by_ddim(1.0),
    "ddpm, gradient at the mean": by_ddpm("mean"),
    "ddpm, gradient at x_t": by_ddpm("x_t"),
    "ddpm, variance beta": by_ddpm("mean", "beta"),
}


def distance(
    sample: Sampler, steps: int, gradient: Gradient, target: GaussianLaw, scale: float = 1.0
) -> float:
    """How far mean and variance of a sampler's output are from those of a law."""
    chosen = tuple(round(TOP * i / steps) for i in range(steps, -1, -1))
    x, noises = basis_batch(steps - 1)
    signal = COSINE.sqrt_alpha_bar[TOP]
    start = float(signal * target.mean), float(signal**2 * target.cov + COSINE.one_minus_alpha_bar[TOP])
    mean, variance = moments(last(sample(gradient, scale, x, chosen, noises)), *start)
    return abs(mean - float(target.mean)) + abs(variance - float(target.cov))


def gradient_of(bed: LinearObservation) -> Gradient:
    return lambda x, t: bed.gradient(COSINE, x, t)


def converges(sample: Sampler, gradient: Gradient) -> bool:
    """Whether four times the steps leave less than half of the error; order one leaves a quarter."""
    few, many = (distance(sample, n, gradient, OBSERVED.law()) for n in (40, 160))
    return many < few / 2


@pytest.mark.parametrize("sample", SAMPLERS.values(), ids=SAMPLERS)
def test_guided_samplers_converge_to_the_conditional_law_with_order_one(sample: Sampler) -> None:
    errors = [distance(sample, n, gradient_of(OBSERVED), OBSERVED.law()) for n in (50, 100, 300)]
    orders = [math.log(a / b) / math.log(n) for a, b, n in zip(errors, errors[1:], (2, 3), strict=False)]
    # the next order contributes at most a fifth of the ratio at 50 steps
    assert all(abs(order - 1) < 0.25 for order in orders), orders
    assert converges(sample, gradient_of(OBSERVED))


def rescaled(factor: Callable[[Any], Any]) -> Gradient:
    return lambda x, t: factor(t) * OBSERVED.gradient(COSINE, x, t)


BROKEN_GRADIENTS: dict[str, Gradient] = {
    "away from the label": rescaled(lambda t: -1.0),
    "variance for root": rescaled(lambda t: COSINE.sqrt_one_minus_alpha_bar[t]),
    "root missing": rescaled(lambda t: 1 / COSINE.sqrt_one_minus_alpha_bar[max(t, 1)]),
    "scale as one more": rescaled(lambda t: 2.0),
    "clean classifier": lambda x, t: OBSERVED.gradient(COSINE, x, 0),
    "unguided": lambda x, t: 0 * x,
}


@pytest.mark.parametrize("name", ["ddim, eta 0", "ddim, eta 1", "ddpm, gradient at the mean"])
@pytest.mark.parametrize("broken", BROKEN_GRADIENTS.values(), ids=BROKEN_GRADIENTS)
def test_a_wrong_gradient_ends_elsewhere(broken: Gradient, name: str) -> None:
    assert not converges(SAMPLERS[name], broken)


def test_a_deviation_where_the_variance_belongs_ends_elsewhere() -> None:
    def by_std(gradient: Gradient, scale: float, x: Tensor, chosen: Any, noises: Any) -> Any:
        # a scale of 1/sigma makes sigma times g of sigma^2 times g
        yield chosen[0], x
        for t, s, noise in zip(chosen, chosen[1:], [*noises, None], strict=False):
            std = float(ddpm.variance(COSINE, t, s).sqrt())
            one = 1 / std if std > 0 else 1.0
            x = guidance.ddpm_step(COSINE, x, t, eps_of_line(x, t), gradient, noise, s, one)
            yield s, x

    assert not converges(by_std, gradient_of(OBSERVED))


def test_a_guided_sampler_is_the_sampler_of_the_conditional_law() -> None:
    x, *noises = tensors(6, (4, 1))
    chosen, law = CHOSEN["odd"], OBSERVED.law()
    for eta in (0.0, 0.4, 1.0):
        guided = by_ddim(eta)(gradient_of(OBSERVED), 1.0, x, chosen, noises)
        direct = ddim.sample(lambda x, t: law.eps(COSINE, x, t), COSINE, x, chosen, eta, noises)
        twice = by_ddim(eta)(gradient_of(OBSERVED), 2.0, x, chosen, noises)
        size = (x.abs() + 2 + sum(z.abs() for z in noises)) / COSINE.sqrt_alpha_bar[999]
        for (t, a), (u, b), (_, c) in zip(guided, direct, twice, strict=True):
            assert t == u
            # 100 roundings in each of 6 steps, which grow by at most 1/sqrt(alpha_bar) of the first level
            assert misfit(a, b, size, 600) <= 1
            assert t == 1000 or misfit(c, b, size, 600) > 1


def flow_distance(steps: int, gradient: Gradient) -> float:
    """How far the deterministic guided sampler's mean and variance are from those given the label.

    Its map is followed from every point of a grid, with the weights of the noised law given the label.
    """
    chosen = tuple(round(TOP * i / steps) for i in range(steps, -1, -1))
    z, signal = torch.linspace(-8, 8, 801, dtype=torch.float64)[:, None], COSINE.sqrt_alpha_bar[TOP]
    start = signal * 0.7 + (signal**2 * 0.4 + COSINE.one_minus_alpha_bar[TOP]).sqrt() * z
    weight = (PROBIT.log_probability(COSINE, start, TOP) - z[:, 0] ** 2 / 2).softmax(0)
    end = last(SAMPLERS["ddim, eta 0"](gradient, 1.0, start, chosen, []))[:, 0]
    mean = (weight * end).sum()
    target = log_joint(0, "probit").softmax(0)
    variance = (target * (GRID - PROBIT.mean()) ** 2).sum()
    return float((mean - PROBIT.mean()).abs() + ((weight * (end - mean) ** 2).sum() - variance).abs())


LINES: dict[str, Gradient] = {
    "away from the label": lambda x, t: -PROBIT.gradient(COSINE, x, t),
    "scale as one more": lambda x, t: 2 * PROBIT.gradient(COSINE, x, t),
    "clean classifier": lambda x, t: PROBIT.gradient(COSINE, x, 0),
    "root missing": lambda x, t: PROBIT.gradient(COSINE, x, t) / COSINE.sqrt_one_minus_alpha_bar[t],
    "unguided": lambda x, t: 0 * x,
}


def test_guidance_by_a_linear_classifier_reaches_a_law_that_is_not_normal() -> None:
    errors = [flow_distance(n, lambda x, t: PROBIT.gradient(COSINE, x, t)) for n in (40, 160)]
    assert errors[1] < errors[0] / 2
    for broken in LINES.values():
        few, many = (flow_distance(n, broken) for n in (40, 160))
        assert many > few / 2


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_a_scale_does_not_sample_the_power_of_the_classifier(scale: float) -> None:
    """The guided kernels are the reverse of nothing diffused, except in the limit of data without noise."""
    powered = observed(0.3 / scale)
    sample = SAMPLERS["ddim, eta 1"]
    twisted = [distance(sample, n, gradient_of(powered), powered.law()) for n in (40, 200)]
    scaled = [distance(sample, n, gradient_of(OBSERVED), powered.law(), scale) for n in (40, 200)]
    # five times the steps leave a fifth of an error of first order, and all of one that is no error of steps
    assert twisted[1] < twisted[0] / 3
    assert scaled[1] > 0.8 * scaled[0] > 4 * twisted[1]


def test_a_scale_is_too_sharp_by_the_proved_ratio() -> None:
    t, scale = 500, 3.0
    variance = LINE.posterior_covariance(LINEAR, double([[0.2]]), t)
    excess = (0.3 + scale * 1.5**2 * variance) / (0.3 + 1.5**2 * variance)
    guided = scale * OBSERVED.gradient(LINEAR, double([[0.2]]), t)
    twisted = observed(0.3 / scale).gradient(LINEAR, double([[0.2]]), t)
    assert misfit(guided, excess.reshape(1, 1) * twisted, guided, 100) <= 1
    assert misfit(guided, twisted, guided, 100) > 1


# The beds themselves.


@given(st.integers(0, 1000))
def test_a_batch_of_levels_in_the_beds_is_each_level_alone(t: int) -> None:
    x, chosen = tensors(1), torch.tensor([t, 400, 1000])
    tilted = LogLinearClassifier(PLANE, double([0.4, -0.3]))
    probit = functools.partial(PROBIT_PLANE.gradient, LINEAR)
    for call in (bed_gradient, functools.partial(tilted.gradient, LINEAR), probit):
        rows = torch.cat([call(x[k : k + 1], int(n)) for k, n in enumerate(chosen)])
        assert misfit(call(x, chosen), rows, rows.abs() + 1, 16) <= 1
    mean, cov = OBSERVED_PLANE.kernel(LINEAR, x, chosen.clamp(min=1), chosen.clamp(min=1) // 2)
    for k, n in enumerate(chosen.clamp(min=1).tolist()):
        alone, of_alone = OBSERVED_PLANE.kernel(LINEAR, x[k : k + 1], n, n // 2)
        assert misfit(mean[k], alone[0], 1 + alone[0].abs(), 200) <= 1
        assert misfit(cov[k], of_alone, of_alone.diagonal().max(), 200) <= 1
    shifted = OBSERVED_PLANE.kernel(LINEAR, x, chosen.clamp(min=3), chosen.clamp(min=3) // 2 + 1)[0]
    assert misfit(shifted, mean, 1 + mean.abs(), 200) > 1


def test_the_law_given_an_observation_is_conditioning() -> None:
    law = OBSERVED_PLANE.law()
    precision = torch.linalg.inv(PLANE.cov) + OBSERVED_PLANE.A.mT @ OBSERVED_PLANE.A / 0.2
    mean = torch.linalg.solve(
        precision, torch.linalg.solve(PLANE.cov, PLANE.mean) + OBSERVED_PLANE.A[0] * 1.3 / 0.2
    )
    assert misfit(law.cov @ precision, torch.eye(2, dtype=torch.float64), 1.0, 400) <= 1
    assert misfit(law.mean, mean, mean.abs() + 1, 400) <= 1
    assert misfit(PLANE.mean, mean, mean.abs() + 1, 400) > 1


def test_the_likelihood_at_data_is_that_of_the_observation() -> None:
    x = tensors(1)
    got = OBSERVED_PLANE.log_likelihood(LINEAR, x, 0)
    expected = gaussian.log_density(
        double([1.3]).expand(3, 1), x @ OBSERVED_PLANE.A.mT, OBSERVED_PLANE.R.expand(3, 1, 1)
    )
    assert misfit(got, expected, expected.abs() + 1, 100) <= 1
    assert misfit(OBSERVED_PLANE.log_likelihood(LINEAR, x, 50), expected, expected.abs() + 1, 100) > 1
