"""The laws of guidance, each with a broken form that it rejects."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from guidance_laws import (
    BROKEN_EPS,
    LINE,
    LINEAR,
    OBSERVED,
    OBSERVED_PLANE,
    PLANE,
    bed_gradient,
    double,
)
from hypothesis import given
from hypothesis import strategies as st
from reference_laws import last, levels, misfit, named, tensors
from torch import Tensor

from refdiff import ddpm, guidance
from refdiff.data import GaussianLaw, MixtureLaw
from refdiff.guidance import Gradient
from refdiff.guided_gaussian import (
    LinearObservation,
    LogLinearClassifier,
    ProbitClassifier,
)
from refdiff.schedule import Schedule

SCALES = st.sampled_from([0.3, 1.0, 2.5, 7.5])


# One step: each law returns the error in units of its derived tolerance, so 1 is the limit.


def guided_noise_is_conditional_noise(guided_eps: Callable[..., Tensor], schedule: Schedule, t: int) -> float:
    """On Gaussian data the guided noise is the perfect noise of the observed law, at every level."""
    x = tensors(1)
    eps, gradient = PLANE.eps(schedule, x, t), OBSERVED_PLANE.gradient(schedule, x, t)
    expected = OBSERVED_PLANE.law().eps(schedule, x, t)
    # each solve with a covariance loses its condition number, at most 20 here, in some 40 operations
    size = x.abs() + 1 + eps.abs() + gradient.abs() * schedule.sqrt_one_minus_alpha_bar[t]
    got = guided_eps(eps, gradient, float(schedule.alpha_bar[t]))
    # 1 - alpha_bar is a difference here, which has lost digits near data
    lost = 1 / schedule.one_minus_alpha_bar[t]
    return misfit(got, expected, size * schedule.sqrt_one_minus_alpha_bar[t], 800 + 4 * float(lost))


@given(levels(1, lowest=1))
def test_guided_noise_is_the_noise_of_the_conditional_law(drawn: tuple[Schedule, tuple[int]]) -> None:
    schedule, (t,) = drawn
    assert guided_noise_is_conditional_noise(guidance.guided_eps, schedule, t) <= 1


@pytest.mark.parametrize("t", [30, 300, 700])
@pytest.mark.parametrize("broken", BROKEN_EPS.values(), ids=BROKEN_EPS)
def test_a_wrong_shift_of_the_noise_is_seen(broken: Callable[..., Tensor], t: int) -> None:
    assert guided_noise_is_conditional_noise(broken, LINEAR, t) > 1


def score_and_noise_agree(guided_score: Callable[..., Tensor], t: int, scale: float) -> float:
    score, gradient = tensors(2)
    std = LINEAR.sqrt_one_minus_alpha_bar[t]
    eps = guidance.guided_eps(-std * score, gradient, LINEAR.alpha_bar[t], scale)
    size = score.abs() + scale * gradient.abs()
    return misfit(-eps / std, guided_score(score, gradient, scale), size, 8 + 2 / float(std**2))


@given(st.integers(1, 1000), SCALES)
def test_the_guided_score_is_that_of_the_guided_noise(t: int, scale: float) -> None:
    assert score_and_noise_agree(guidance.guided_score, t, scale) <= 1
    mixed = lambda s, g, k: (1 - k) * s + k * g  # noqa: E731
    assert score_and_noise_agree(mixed, t, scale) > 1


def tilted_mean(log_label: Callable[[Tensor], Tensor], mean: float, std: float) -> float:
    """Mean of a normal law times a classifier, by the trapezoid rule, which is exact here to rounding."""
    z = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    weight = (log_label(mean + std * z) - z**2 / 2).exp()
    return float(mean + std * (weight * z).sum() / weight.sum())


def shift_is_exact(shifted: Callable[..., Tensor], std: float, slope: float, scale: float) -> float:
    mean = 0.4
    expected = tilted_mean(lambda x: scale * slope * x, mean, std)
    rows = double([mean]), double([std**2]), double([slope])
    got = shifted(*rows, scale)
    # 4001 terms, a dozen roundings each, of which the sum is an average
    return misfit(got, double([expected]), abs(mean) + std + abs(scale * slope) * std**2, 400)


BROKEN_SHIFTS: dict[str, Callable[..., Tensor]] = {
    "std": lambda m, v, g, s: guidance.classifier_guided_mean(m, v.sqrt(), g, s),
    "no variance": lambda m, v, g, s: m + s * g,
    "away from the label": lambda m, v, g, s: guidance.classifier_guided_mean(m, v, -g, s),
    "scale as one more": lambda m, v, g, s: guidance.classifier_guided_mean(m, v, g, 1 + s),
    "scale on the mean": lambda m, v, g, s: s * m + v * g,
}


@given(st.floats(0.01, 1.5), st.floats(-2, 2), SCALES)
def test_the_shift_is_exact_for_a_log_linear_classifier(std: float, slope: float, scale: float) -> None:
    slope = slope / scale  # a tilt that the grid holds
    assert shift_is_exact(guidance.classifier_guided_mean, std, slope, scale) <= 1


@pytest.mark.parametrize("broken", BROKEN_SHIFTS.values(), ids=BROKEN_SHIFTS)
def test_a_wrong_shift_of_the_mean_is_seen(broken: Callable[..., Tensor]) -> None:
    assert shift_is_exact(broken, 0.3, -0.7, 2.5) > 1


def log_sigmoid(x: Tensor) -> Tensor:
    return torch.nn.functional.logsigmoid(1.75 * x - 0.5)


def derivatives(f: Callable[[Tensor], Tensor], x: float) -> tuple[float, float, float]:
    """The first three derivatives of a function of a number."""
    first = torch.func.grad(f)
    second = torch.func.grad(first)
    return tuple(float(d(double(x))) for d in (first, second, torch.func.grad(second)))  # type: ignore[return-value]


def test_what_linearising_misses_is_of_fourth_order_in_the_deviation() -> None:
    mean = 0.4
    g, slope, bend = derivatives(log_sigmoid, mean)
    missed = []
    for std in (0.2, 0.1):
        exact = tilted_mean(log_sigmoid, mean, std)
        shifted = guidance.classifier_guided_mean(double([mean]), double([std**2]), double([g]))
        missed.append((exact - float(shifted)) / std**4)
    expected = g * slope + bend / 2
    # the rest is of the next even order, so half the deviation leaves a quarter of it
    assert abs(missed[1] - expected) < 0.3 * abs(missed[0] - expected) < 0.1 * abs(expected)
    by_std = [(tilted_mean(log_sigmoid, mean, std) - mean - std * g) / std**4 for std in (0.2, 0.1)]
    assert abs(by_std[1]) > 4 * abs(by_std[0])


# The gradient itself.


def each_row_is_alone(gradient: Callable[..., Tensor], t: int) -> float:
    x = tensors(1)
    log_probability = lambda x, t: OBSERVED_PLANE.log_likelihood(LINEAR, x, t)  # noqa: E731
    got = gradient(log_probability, x, t)
    rows = torch.cat([OBSERVED_PLANE.gradient(LINEAR, row[None], t) for row in x])
    # the derivative of some forty operations and two solves, each with a condition number below 20
    return misfit(got, rows, rows.abs() + x.abs() + 1, 800)


def mean_over_the_batch(log_probability: Callable[..., Tensor], x: Tensor, t: int) -> Tensor:
    return guidance.classifier_gradient(lambda x, t: log_probability(x, t) / len(x), x, t)


def summed_over_the_batch(log_probability: Callable[..., Tensor], x: Tensor, t: int) -> Tensor:
    gradient = guidance.classifier_gradient(log_probability, x, t)
    return gradient.sum(0).expand_as(gradient)


@given(st.integers(0, 1000))
def test_the_gradient_of_each_sample_is_its_own(t: int) -> None:
    assert each_row_is_alone(guidance.classifier_gradient, t) <= 1


@pytest.mark.parametrize("broken", [mean_over_the_batch, summed_over_the_batch])
def test_a_gradient_of_the_batch_is_seen(broken: Callable[..., Tensor]) -> None:
    assert each_row_is_alone(broken, 500) > 1


# The guided ancestral step.


class Asked:
    """A gradient that notes where it was asked."""

    def __init__(self, gradient: Gradient) -> None:
        self.gradient, self.seen = gradient, list[tuple[Tensor, Any]]()

    def __call__(self, x: Tensor, t: Any) -> Tensor:
        self.seen.append((x, t))
        return self.gradient(x, t)


@pytest.mark.parametrize(("t", "s"), [(1, None), (500, None), (500, 300), (500, 0)])
@pytest.mark.parametrize("kind", ["beta_tilde", "beta"])
@pytest.mark.parametrize("point", ["mean", "x_t"])
def test_the_gradient_is_asked_where_it_is_declared(t: int, s: int | None, kind: Any, point: Any) -> None:
    x, eps, noise = tensors(3)
    below = t - 1 if s is None else s
    asked = Asked(bed_gradient)
    got = guidance.ddpm_step(LINEAR, x, t, eps, asked, noise, s, 2.5, kind, point=point)
    mean, variance = ddpm.mean_from_eps(LINEAR, x, t, eps, s), ddpm.variance(LINEAR, t, s, kind)
    ((where, level),) = asked.seen
    at, of = (mean, below) if point == "mean" else (x, t)
    size = mean.abs() + variance.sqrt() * noise.abs() + 2.5 * variance * bed_gradient(at, of).abs()
    assert level == of
    assert misfit(where, at, x.abs() + eps.abs(), 8) <= 1
    expected = mean + 2.5 * variance * bed_gradient(at, of) + variance.sqrt() * noise
    # the mean by another order of operations; the slope of the gradient times the variance is below 3
    assert misfit(got, expected, size + x.abs() + eps.abs(), 200) <= 1
    for wrong in (variance.sqrt(), -variance):
        other = mean + 2.5 * wrong * bed_gradient(at, of) + variance.sqrt() * noise
        assert variance == 0 or misfit(got, other, size + x.abs() + eps.abs(), 200) > 1


def test_a_step_with_a_gradient_of_zero_is_the_step() -> None:
    x, eps, noise = tensors(3)
    nothing = lambda x, t: 0 * x  # noqa: E731
    got = guidance.ddpm_step(LINEAR, x, 500, eps, nothing, noise)
    assert torch.equal(got, ddpm.step(LINEAR, x, 500, eps, noise))
    something = guidance.ddpm_step(LINEAR, x, 500, eps, lambda x, t: x, noise)
    assert not torch.equal(got, something)


CHOICES: dict[str, dict[str, Any]] = {
    "all chosen": {"scale": 2.5, "variance": "beta", "point": "x_t"},
    "scale": {"scale": 1.0, "variance": "beta", "point": "x_t"},
    "variance": {"scale": 2.5, "variance": "beta_tilde", "point": "x_t"},
    "point": {"scale": 2.5, "variance": "beta", "point": "mean"},
}


@pytest.mark.parametrize("asked", CHOICES)
def test_guided_ancestral_sampling_is_its_steps(asked: str) -> None:
    x_T, *noises = tensors(4, (4, 2))
    chosen, model = (900, 400, 399, 20, 0), functools.partial(PLANE.eps, LINEAR)
    ours = list(guidance.ddpm_sample(model, bed_gradient, LINEAR, x_T, noises, chosen, **CHOICES[asked]))
    x, states = x_T, [x_T]
    for t, s, noise in zip(chosen, chosen[1:], [*noises, None], strict=False):
        x = guidance.ddpm_step(LINEAR, x, t, model(x, t), bed_gradient, noise, s, **CHOICES["all chosen"])
        states.append(x)
    assert [t for t, _ in ours] == list(chosen)
    same = [torch.equal(a, b) for (_, a), b in zip(ours, states, strict=True)]
    assert same == [True, *([asked == "all chosen"] * 4)]


# Losses of the predicted data.


def linear_network(weight: Tensor, bias: Tensor) -> Callable[[Tensor, Any], Tensor]:
    return lambda x, t: x @ weight.mT + bias


def bowl(x_0: Tensor) -> Tensor:
    return ((x_0 - double([0.3, -0.8])) ** 2 * double([1.5, 0.5])).sum(1) / 2


def chain_rule(gradient: Callable[..., Tensor], t: int) -> float:
    """A network with a Jacobian that is not symmetric, a loss whose derivative is known."""
    x, weight, bias = tensors(1), tensors(1, (2, 2), seed=1), tensors(1, (2,), seed=2)
    signal, std = LINEAR.sqrt_alpha_bar[t], LINEAR.sqrt_one_minus_alpha_bar[t]
    x_0 = (x - std * (x @ weight.mT + bias)) / signal
    jacobian = (torch.eye(2, dtype=torch.float64) - std * weight) / signal
    downhill = -(x_0 - double([0.3, -0.8])) * double([1.5, 0.5])
    size = (x_0.abs() + 1) @ jacobian.abs() * 4 / signal
    return misfit(gradient(linear_network(weight, bias), x, t), downhill @ jacobian, size, 40)


def through_the_network(model: Callable[..., Tensor], x: Tensor, t: int) -> Tensor:
    return guidance.loss_gradient(model, bowl, LINEAR, x, t)[1]


def network_held(model: Callable[..., Tensor], x: Tensor, t: int) -> Tensor:
    return guidance.loss_gradient(lambda z, t: model(x, t), bowl, LINEAR, x, t)[1]


def not_transposed(model: Callable[..., Tensor], x: Tensor, t: int) -> Tensor:
    std = LINEAR.sqrt_one_minus_alpha_bar[t]
    jacobian: Tensor = torch.func.jacrev(lambda z: z - std * model(z, t))(x[0])
    x_0 = (x - std * model(x, t)) / LINEAR.sqrt_alpha_bar[t]
    downhill = -(x_0 - double([0.3, -0.8])) * double([1.5, 0.5])
    return downhill @ jacobian.mT / LINEAR.sqrt_alpha_bar[t]


@given(st.integers(1, 900))
def test_the_gradient_of_a_loss_goes_through_the_network(t: int) -> None:
    assert chain_rule(through_the_network, t) <= 1


@pytest.mark.parametrize("broken", [network_held, not_transposed])
def test_a_network_that_is_held_or_a_jacobian_that_is_not_transposed_is_seen(
    broken: Callable[..., Tensor],
) -> None:
    assert chain_rule(broken, 300) > 1


def test_a_loss_guides_downhill_by_the_root_of_the_noise() -> None:
    x, t = tensors(1), 400
    model = linear_network(*(tensors(1, shape, seed=1) for shape in ((2, 2), (2,))))
    eps, gradient = guidance.loss_gradient(model, bowl, LINEAR, x, t)
    got = guidance.loss_guided_eps(model, bowl, LINEAR, x, t, 2.5)
    expected = guidance.guided_eps(eps, gradient, LINEAR.alpha_bar[t], 2.5)
    assert torch.equal(eps, model(x, t))
    assert misfit(got, expected, eps.abs() + 2.5 * gradient.abs(), 12) <= 1
    uphill = guidance.guided_eps(eps, -gradient, LINEAR.alpha_bar[t], 2.5)
    assert misfit(got, uphill, eps.abs() + 2.5 * gradient.abs(), 12) > 1

    def predicted(noise: Tensor) -> Tensor:
        return bowl((x - LINEAR.sqrt_one_minus_alpha_bar[t] * noise) / LINEAR.sqrt_alpha_bar[t])

    small = guidance.loss_guided_eps(model, bowl, LINEAR, x, t, 1e-6)
    held = -(small - eps) * torch.func.grad(lambda e: predicted(e).sum())(eps)
    # the change of the loss to first order, in which the network's own slope may not turn the sign here
    assert bool((held.sum(1) > 0).all())


def test_the_predicted_data_overrate_a_sharp_observation_by_the_proved_ratio() -> None:
    x, t = tensors(1, (5, 1)), 500
    loss = lambda x_0: -OBSERVED.log_likelihood(LINEAR, x_0, 0)  # noqa: E731
    model = lambda x, t: LINE.eps(LINEAR, x, t)  # noqa: E731
    _, gradient = guidance.loss_gradient(model, loss, LINEAR, x, t)
    exact = OBSERVED.gradient(LINEAR, x, t)
    ratio = 1 + 1.5**2 * float(LINE.posterior_covariance(LINEAR, x[:1], t)) / 0.3
    size = gradient.abs() + (x.abs() + 1) / LINEAR.sqrt_alpha_bar[t] ** 2
    assert misfit(gradient, ratio * exact, size, 200) <= 1
    assert misfit(gradient, exact, size, 200) > 1


# Without a classifier.


def conventions_agree(convert: Callable[..., float], scale: float) -> float:
    u, c = tensors(2)
    got = guidance.classifier_free(u, c, scale)
    other = guidance.classifier_free(u, c, convert(scale, "imagen", "ho"), "ho")
    by_weights = scale * c + (1 - scale) * u
    size = (1 + abs(scale)) * (u.abs() + c.abs())
    return max(misfit(got, other, size, 8), misfit(got, by_weights, size, 8))


@given(st.floats(-5, 20))
def test_both_conventions_make_the_same_prediction(scale: float) -> None:
    assert conventions_agree(guidance.convert_scale, scale) <= 1
    assert conventions_agree(lambda scale, source, target: scale, scale) > 1
    assert conventions_agree(lambda scale, source, target: scale + 1, scale) > 1
    # a number near 0 loses its digits next to 1, once
    back = guidance.convert_scale(guidance.convert_scale(scale, "imagen", "ho"), "ho", "imagen")
    assert abs(back - scale) <= math.ulp(1 + abs(scale))


def test_the_ends_of_the_scale() -> None:
    u, c = tensors(2)
    assert torch.equal(guidance.classifier_free(u, c, 0.0), u)
    assert torch.equal(guidance.classifier_free(u, c, -1.0, "ho"), u)
    assert misfit(guidance.classifier_free(u, c, 1.0), c, u.abs() + c.abs(), 2) <= 1
    assert misfit(guidance.classifier_free(u, c, 0.0, "ho"), c, u.abs() + c.abs(), 2) <= 1
    assert misfit(guidance.classifier_free(u, c, 0.0), c, u.abs() + c.abs(), 2) > 1


def free_is_guided(implied: Callable[..., Tensor], schedule: Schedule, t: int, scale: float) -> float:
    u, c = tensors(2)
    gradient = implied(u, c, schedule.alpha_bar[t])
    got = guidance.guided_eps(u, gradient, schedule.alpha_bar[t], scale)
    return misfit(got, guidance.classifier_free(u, c, scale), (1 + scale) * (u.abs() + c.abs()), 12)


@given(levels(1, lowest=1), SCALES)
def test_guidance_without_a_classifier_is_guidance_by_the_implied_one(
    drawn: tuple[Schedule, tuple[int]], scale: float
) -> None:
    schedule, (t,) = drawn
    assert free_is_guided(guidance.implied_gradient, schedule, t, scale) <= 1
    backwards = lambda u, c, a: guidance.implied_gradient(c, u, a)  # noqa: E731
    assert free_is_guided(backwards, schedule, t, scale) > 1


@given(st.integers(1, 1000))
def test_perfect_networks_imply_the_perfect_classifier(t: int) -> None:
    x = tensors(1)
    u, c = PLANE.eps(LINEAR, x, t), OBSERVED_PLANE.law().eps(LINEAR, x, t)
    got, exact = guidance.implied_gradient(u, c, LINEAR.alpha_bar[t]), bed_gradient(x, t)
    std = float(LINEAR.sqrt_one_minus_alpha_bar[t])
    # the difference of two predictions is divided by the root of the noise
    size = exact.abs() + (u.abs() + c.abs() + std * (x.abs() + 1)) / std
    assert misfit(got, exact, size, 800 + 4 / std**2) <= 1
    assert misfit(std * got, exact, size, 800 + 4 / std**2) > 1 or std > 0.99


MIXTURE = MixtureLaw(double([0.3, 0.7]), double([[-1.0], [0.8]]), double([[[0.2]], [[0.5]]]))


def mean_of_conditionals(share: Callable[[Tensor, int], Tensor], t: int) -> float:
    x = tensors(1, (5, 1))
    first, second = (GaussianLaw(MIXTURE.means[k], MIXTURE.covs[k]).eps(LINEAR, x, t) for k in (0, 1))
    weight = share(x, t)
    mean = weight * first + (1 - weight) * second
    got = MIXTURE.eps(LINEAR, x, t)
    return misfit(mean, got, first.abs() + second.abs() + 1, 200)


def share_given_x(x: Tensor, t: int) -> Tensor:
    parts = (GaussianLaw(MIXTURE.means[k], MIXTURE.covs[k]).log_prob(LINEAR, x, t) for k in (0, 1))
    first, second = (torch.add(log, weight) for log, weight in zip(parts, MIXTURE.weights.log(), strict=True))
    return (first - second).sigmoid()[:, None]


@given(st.integers(1, 1000))
def test_the_unconditional_noise_is_the_mean_of_the_conditional_ones(t: int) -> None:
    assert mean_of_conditionals(share_given_x, t) <= 1


@pytest.mark.parametrize("weight", [0.3, 0.5])
def test_labels_are_weighted_as_they_are_given_x_t(weight: float) -> None:
    assert mean_of_conditionals(lambda x, t: double(weight), 300) > 1


# Batches, dtypes, devices, graphs, bad input.


def one_number(x: Tensor, t: Any = None) -> Tensor:
    return -(x**2).flatten(1).sum(1)


CALLS: dict[str, Callable[..., Tensor]] = {
    "classifier_gradient": lambda S, t, x, y, z: guidance.classifier_gradient(one_number, x, t),
    "guided_score": lambda S, t, x, y, z: guidance.guided_score(x, y, 2.5),
    "guided_eps": lambda S, t, x, y, z: guidance.guided_eps(x, y, 0.25, 2.5),
    "guided_model": lambda S, t, x, y, z: guidance.guided_model(lambda x, t: y, lambda x, t: 0.1 * x, S, 2.5)(
        x, t
    ),
    "classifier_guided_mean": lambda S, t, x, y, z: guidance.classifier_guided_mean(x, y**2, z, 2.5),
    "ddpm_step": lambda S, t, x, y, z: guidance.ddpm_step(S, x, t, y, lambda x, t: 0.1 * x, z, scale=2.5),
    "ddpm_step at x_t": lambda S, t, x, y, z: guidance.ddpm_step(
        S, x, t, y, lambda x, t: 0.1 * x, z, t // 2, 2.5, "beta", point="x_t"
    ),
    "loss_gradient": lambda S, t, x, y, z: guidance.loss_gradient(lambda x, t: 0.1 * x, one_number, S, x, t)[
        1
    ],
    "loss_guided_eps": lambda S, t, x, y, z: guidance.loss_guided_eps(
        lambda x, t: 0.1 * x, one_number, S, x, t
    ),
    "implied_gradient": lambda S, t, x, y, z: guidance.implied_gradient(x, y, 0.25),
    "classifier_free": lambda S, t, x, y, z: guidance.classifier_free(x, y, 1.5, "ho"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_batch_of_levels_is_each_level_alone(call: Callable[..., Tensor], device: torch.device) -> None:
    x, y, z = (v.to(device) for v in tensors(3, (3, 2, 2), torch.float32))
    t = torch.tensor([2, 300, 700])
    whole = call(LINEAR, t.to(device), x, y, z)
    rows = [call(LINEAR, int(n), *(v[i : i + 1] for v in (x, y, z))) for i, n in enumerate(t)]
    assert whole.dtype == torch.float32
    assert whole.device.type == device.type
    # a loss divides twice by the root of alpha_bar
    size = (x.abs() + y.abs() + z.abs()).cpu() / LINEAR.alpha_bar[t].reshape(3, 1, 1)
    assert misfit(whole.cpu(), torch.cat(rows).cpu(), size, 8) <= 1
    assert misfit(whole.cpu().flip(0), torch.cat(rows).cpu(), size, 8) > 1


def test_no_gradient_is_asked_of_the_caller() -> None:
    x = tensors(1)
    with torch.no_grad():
        got = guidance.classifier_gradient(one_number, x, 5)
    assert torch.equal(got, -2 * x)
    assert not got.requires_grad


X = torch.zeros(2, 3, dtype=torch.float64)
NOTHING: Gradient = lambda x, t: 0 * x  # noqa: E731
ONE = LinearObservation(LINE, double([[1.0]]), double([[1.0]]), double([0.0]))
BAD: dict[str, tuple[str, Callable[[], object]]] = {
    "summed loss": (
        r"log_probability must return shape \(2,\), got \(\)",
        lambda: guidance.classifier_gradient(lambda x, t: x.sum(), X, 5),
    ),
    "loss per element": (
        r"loss must return shape \(2,\), got \(2, 3\)",
        lambda: guidance.loss_guided_eps(NOTHING, lambda x: x, LINEAR, X, 5),
    ),
    "scale NaN": (r"scale must be finite, got nan", lambda: guidance.guided_eps(X, X, 0.5, math.nan)),
    "scale infinite": (r"scale must be finite", lambda: guidance.guided_score(X, X, math.inf)),
    "scale of a model": (
        r"scale must be finite",
        lambda: guidance.guided_model(NOTHING, NOTHING, LINEAR, math.nan),
    ),
    "scale of a step": (
        r"scale must be finite",
        lambda: guidance.ddpm_step(LINEAR, X, 5, X, NOTHING, X, scale=math.nan),
    ),
    "alpha_bar above 1": (r"alpha_bar must lie in \[0, 1\], got 1.5", lambda: guidance.guided_eps(X, X, 1.5)),
    "alpha_bar below 0": (r"alpha_bar must lie in \[0, 1\]", lambda: guidance.implied_gradient(X, X, -0.5)),
    "alpha_bar NaN": (r"alpha_bar must lie in \[0, 1\]", lambda: guidance.guided_eps(X, X, math.nan)),
    "alpha_bar at data": (r"alpha_bar must be below 1", lambda: guidance.implied_gradient(X, X, 1.0)),
    "alpha_bar of another batch": (
        r"alpha_bar must have shape \(\) or \(2,\), got \(3,\)",
        lambda: guidance.guided_eps(X, X, torch.full((3,), 0.5)),
    ),
    "shape of gradient": (r"gradient must have the shape", lambda: guidance.guided_eps(X, X[:1], 0.5)),
    "dtype of gradient": (r"gradient must have the dtype", lambda: guidance.guided_score(X, X.float())),
    "variance negative": (
        r"variance must be at least 0, got -1",
        lambda: guidance.classifier_guided_mean(X, torch.full_like(X, -1.0), X),
    ),
    "variance too large": (
        r"variance must broadcast to mean",
        lambda: guidance.classifier_guided_mean(X, torch.ones(4, 2, 3, dtype=torch.float64), X),
    ),
    "gradient of a model": (
        r"gradient must have the shape",
        lambda: guidance.guided_model(NOTHING, lambda x, t: x[:1], LINEAR)(X, 5),
    ),
    "point": (
        r"point must be one of mean, x_t, got 'x_0'",
        lambda: guidance.ddpm_step(LINEAR, X, 5, X, NOTHING, X, point="x_0"),  # type: ignore[arg-type]
    ),
    "no noise": (
        r"noise must be given .* level 4",
        lambda: guidance.ddpm_step(LINEAR, X, 5, X, NOTHING, None),
    ),
    "shape of noise": (
        r"noise must have the shape",
        lambda: guidance.ddpm_step(LINEAR, X, 5, X, NOTHING, X[:1]),
    ),
    "too few noises": (
        r"noises must hold .* t = 5",
        lambda: last(guidance.ddpm_sample(NOTHING, NOTHING, LINEAR, X, [], (5, 3, 0))),
    ),
    "levels": (
        r"levels must end at 0, got 3",
        lambda: last(guidance.ddpm_sample(NOTHING, NOTHING, LINEAR, X, [X], (5, 3))),
    ),
    "convention": (
        r"source convention must be one of imagen, ho, got 'cfg'",
        lambda: guidance.classifier_free(X, X, 1.0, "cfg"),  # type: ignore[arg-type]
    ),
    "target convention": (
        r"target convention must be one of",
        lambda: guidance.convert_scale(1.0, "ho", "w"),  # type: ignore[arg-type]
    ),
    "predictions": (r"eps_cond must have the shape", lambda: guidance.classifier_free(X, X[:1], 1.0)),
    "no signal": (
        r"t must lie in",
        lambda: guidance.loss_guided_eps(NOTHING, one_number, named("jsd-10"), X, 10),
    ),
    "A": (
        r"A must have shape \(1, 1\)",
        lambda: LinearObservation(LINE, double([[1.0, 2.0]]), double([[1.0]]), double([0.0])),
    ),
    "float32 observation": (
        r"y must be float64",
        lambda: LinearObservation(LINE, double([[1.0]]), double([[1.0]]), torch.zeros(1)),
    ),
    "R": (
        r"R must be symmetric and positive definite",
        lambda: LinearObservation(LINE, double([[1.0]]), double([[-1.0]]), double([0.0])),
    ),
    "x_t of a bed": (r"x_t must have shape \(B, 1\), got \(2, 3\)", lambda: ONE.gradient(LINEAR, X, 5)),
    "data without density": (
        r"t must be at least 1 where the law has no density",
        lambda: LogLinearClassifier(GaussianLaw(double([0.0]), double([[0.0]])), double([1.0])).gradient(
            LINEAR, X[:, :1], 0
        ),
    ),
    "offset": (r"offset must be finite", lambda: ProbitClassifier(LINE, double([1.0]), math.nan)),
    "b": (r"b must have shape \(1,\)", lambda: LogLinearClassifier(LINE, double([1.0, 2.0]))),
    "upwards": (r"s must be below t", lambda: ONE.kernel(LINEAR, X[:, :1], 5, 6)),
}


@pytest.mark.parametrize(("message", "call"), BAD.values(), ids=BAD)
def test_bad_input_is_named(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_step_to_data_needs_no_noise() -> None:
    x, eps = tensors(2)
    got = guidance.ddpm_step(LINEAR, x, 500, eps, bed_gradient, None, 0, variance="beta")
    with_noise = guidance.ddpm_step(LINEAR, x, 500, eps, bed_gradient, 0 * x, 0, variance="beta")
    assert torch.equal(got, with_noise)
