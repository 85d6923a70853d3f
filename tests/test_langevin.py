"""Langevin chains against exact recursions, quadrature and detailed balance; broken steps are rejected."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference_laws import basis_batch, misfit, moments, tensors
from torch import Tensor

from refdiff import energy, langevin

Stepper = Callable[[Tensor, Tensor, float, Tensor, float], Tensor]
EPS = torch.finfo(torch.float64).eps


def double(*values: object) -> Tensor:
    return torch.tensor(*values, dtype=torch.float64)


def wrong(drift: Callable[[float, float], float], deviation: Callable[[float, float], float]) -> Stepper:
    """A step with other coefficients of the score and of the noise."""
    return lambda x, s, eta, z, tau: x + drift(eta, tau) * s + deviation(eta, tau) * z


BROKEN: dict[str, Stepper] = {
    "half noise": wrong(lambda eta, tau: eta, lambda eta, tau: math.sqrt(eta * tau)),
    "temperature forgotten": wrong(lambda eta, tau: eta, lambda eta, tau: math.sqrt(2 * eta)),
    "temperature not rooted": wrong(lambda eta, tau: eta, lambda eta, tau: tau * math.sqrt(2 * eta)),
    "temperature twice": wrong(lambda eta, tau: eta / tau, lambda eta, tau: math.sqrt(2 * eta * tau)),
    "half drift": wrong(lambda eta, tau: eta / 2, lambda eta, tau: math.sqrt(2 * eta * tau)),
    "uphill": wrong(lambda eta, tau: -eta, lambda eta, tau: math.sqrt(2 * eta * tau)),
    "variance for deviation": wrong(lambda eta, tau: eta, lambda eta, tau: 2 * eta * tau),
}


# The exact law of the chain on a Gaussian.

chains = st.tuples(
    st.fractions(-3, 3, max_denominator=8),
    st.fractions(Fraction(1, 16), 4, max_denominator=16),
    st.fractions(-3, 3, max_denominator=8),
    st.fractions(Fraction(1, 16), 4, max_denominator=16),
    st.fractions(Fraction(1, 64), Fraction(31, 16), max_denominator=64).filter(lambda r: r != 1),
    st.sampled_from([Fraction(3, 8), Fraction(13, 8), Fraction(4)]),
    st.integers(1, 12),
)
Chain = tuple[Fraction, Fraction, Fraction, Fraction, Fraction, Fraction, int]


def exact_law(drawn: Chain) -> tuple[Fraction, Fraction]:
    """Mean and variance after the steps, one step after the other in exact numbers."""
    mean, variance, target, v, share, tau, count = drawn
    for _ in range(count):
        mean += share * (target - mean)
        variance = (1 - share) ** 2 * variance + 2 * share * v * tau
    return mean, variance


def law_of_steps(step: Stepper, drawn: Chain) -> tuple[float, float]:
    """The same law read off the steps of an implementation, by unit vectors."""
    mean, variance, target, v, share, tau, count = map(float, drawn)
    x, noises = basis_batch(int(count))
    for z in noises:
        x = step(x, -(x - target) / v, share * v, z, tau)
    return moments(x, mean, variance)


def misses_law(step: Stepper, drawn: Chain) -> float:
    """The error of that law in units of its tolerance."""
    mean, variance, _, v, _, tau, count = map(float, drawn)
    # a state is no larger than this; it holds 12 roundings of that size a step, of which none grows
    reach = 4 + 2 * math.sqrt(v * tau)
    # the mean is a state for a mean of one; a coefficient below reach enters the variance squared
    sizes = (reach * (1 + abs(mean)), 2 * reach**2 * (1 + variance))
    got, expected = law_of_steps(step, drawn), exact_law(drawn)
    return max(
        misfit(double(g), float(e), size, 12 * (count + 1) ** 2)
        for g, e, size in zip(got, expected, sizes, strict=True)
    )


@given(chains)
def test_the_law_of_the_chain_on_a_gaussian(drawn: Chain) -> None:
    assert misses_law(langevin.step, drawn) <= 1


@pytest.mark.parametrize("name", BROKEN)
def test_the_law_of_a_broken_chain_is_another(name: str) -> None:
    drawn = (
        Fraction(3, 4),
        Fraction(9, 16),
        Fraction(-5, 8),
        Fraction(5, 8),
        Fraction(3, 8),
        Fraction(13, 8),
        3,
    )
    assert misses_law(langevin.step, drawn) <= 1 < misses_law(BROKEN[name], drawn)


@given(chains)
def test_closed_forms_are_the_recursion(drawn: Chain) -> None:
    mean, variance, target, v, share, tau, count = drawn
    m, V, mu, wide = (double([float(value)]) for value in (mean, variance, target, v))
    eta, at = float(share * v), float(tau)
    got_mean = langevin.gaussian_mean(m, mu, wide, eta, count)
    got_variance = langevin.gaussian_variance(V, wide, eta, count, at)
    expected = exact_law(drawn)
    # a rounded share has its error n times in the n-th power; near 2 the quotient is ill-conditioned
    lever = (8 + 4 * count) * (1 + 2 / float(2 - share))
    assert misfit(got_mean, float(expected[0]), abs(m) + 2 * abs(mu), lever) <= 1
    assert misfit(got_variance, float(expected[1]), V + 4 * at * wide / float(2 - share), lever) <= 1
    late = langevin.gaussian_variance(V, wide, eta, count + 1, at)
    change = exact_law((*drawn[:-1], count + 1))[1] - expected[1]
    assert abs(change) < 1e-6 or misfit(late, float(expected[1]), V + 4 * at * wide, lever) > 1


@pytest.mark.parametrize(("share", "count"), [(1e-6, 1_000_000), (1e-9, 3), (1.5, 40), (0.4, 200)])
def test_many_small_steps_lose_no_digits(share: float, count: int) -> None:
    one, start = double([1.0]), double([3.0])
    with mpmath.workdps(40):
        kept = (1 - mpmath.mpf(share)) ** (2 * count)
        rest = 2 / (2 - mpmath.mpf(share))
        expected = float(kept * 3 + (1 - kept) * rest)
        gradient = float(3 * (1 - (1 - mpmath.mpf(share)) ** count))
    assert misfit(langevin.gaussian_variance(start, one, share, count), expected, 4.0, 8) <= 1
    got = langevin.contrastive_gradient_gaussian(start, 0 * one, one, share, count)
    assert misfit(got, gradient, gradient, 8) <= 1
    plain = 3 * (1 - (1 - share) ** count)
    assert share > 1e-3 or misfit(double([plain]), gradient, gradient, 8) > 1


@given(chains)
def test_the_stationary_variance_stays(drawn: Chain) -> None:
    _, _, _, v, share, tau, _ = drawn
    wide, eta, at = double([float(v)]), float(share * v), float(tau)
    V = langevin.stationary_variance(wide, eta, at)
    after = langevin.gaussian_variance(V, wide, eta, 1, at)
    lever = 32 / float(2 - share)
    assert misfit(after, float(V), V, lever) <= 1
    denied = at * wide
    assert misfit(langevin.gaussian_variance(denied, wide, eta, 1, at), float(denied), denied, lever) > 1


def excess(stationary: Callable[[Tensor, float], Tensor], eta: float) -> float:
    wide = double([0.7])
    return float(stationary(wide, eta) / wide - 1)


def test_the_bias_is_positive_and_of_first_order() -> None:
    def order(stationary: Callable[[Tensor, float], Tensor]) -> float:
        return math.log2(excess(stationary, 2e-3) / excess(stationary, 1e-3))

    # eta/(2v - eta): the ratio is 2 up to eta/(2v), a thousandth
    assert abs(order(langevin.stationary_variance) - 1) < 2e-3
    assert excess(langevin.stationary_variance, 1e-3) > 0
    assert abs(order(lambda wide, eta: wide / (1 - (eta / wide) ** 2)) - 1) > 2e-3


COVARIANCE = double([[0.9, 0.5, -0.2], [0.5, 0.8, 0.1], [-0.2, 0.1, 0.6]])


def covariance_moves(covariance: Tensor, step: Stepper) -> float:
    """How far one step of the chain on a correlated Gaussian moves a covariance, by unit vectors."""
    eta, tau, unit = 0.11, 1.7, torch.eye(3, dtype=torch.float64)
    precision = torch.linalg.inv(COVARIANCE)
    on_x = step(unit, -unit @ precision, eta, 0 * unit, tau)
    on_noise = step(0 * unit, 0 * unit, eta, unit, tau)
    after = on_x.mT @ covariance @ on_x + on_noise.mT @ on_noise
    # the inverse of a matrix of condition 14, and some 20 roundings of numbers up to 3
    return misfit(after, covariance, 3.0 * 14, 64)


def test_the_stationary_covariance_stays_and_has_the_axes_of_the_target() -> None:
    V = langevin.stationary_covariance(COVARIANCE, 0.11, 1.7)
    assert covariance_moves(V, langevin.step) <= 1
    assert misfit(V @ COVARIANCE, COVARIANCE @ V, 10.0, 64) <= 1
    assert covariance_moves(1.7 * COVARIANCE, langevin.step) > 1
    alone = torch.diag(langevin.stationary_variance(COVARIANCE.diagonal(), 0.11, 1.7))
    assert covariance_moves(alone, langevin.step) > 1
    for name in BROKEN:
        assert covariance_moves(V, BROKEN[name]) > 1, name


# Conventions.


@given(st.floats(1e-3, 2.0), st.integers(0, 50))
def test_the_two_conventions_are_one_step(epsilon: float, seed: int) -> None:
    x, s, z = tensors(3, (4, 2), seed=seed)
    got = langevin.step_half(x, s, epsilon, z)
    size = x.abs() + s.abs() * epsilon**2 + z.abs() * epsilon
    assert misfit(got, langevin.step(x, s, epsilon**2 / 2, z), size, 8) <= 1
    for eta in (epsilon**2, epsilon, epsilon / 2):
        same = abs(eta - epsilon**2 / 2) < 1e-9 * epsilon
        assert same or misfit(got, langevin.step(x, s, eta, z), size, 8) > 1


def test_a_chain_takes_a_step_for_each_noise_and_shows_its_start() -> None:
    x, *noises = tensors(5)
    score = lambda u: -0.7 * u  # noqa: E731
    states = list(langevin.chain(score, x, 0.2, noises, 1.3))
    assert len(states) == 5 and states[0] is x
    for before, after, z in zip(states, states[1:], noises, strict=False):
        assert torch.equal(after, langevin.step(before, score(before), 0.2, z, 1.3))
        assert not torch.equal(after, langevin.step(before, score(before), 0.2, z))


# Any energy: the double well E(x) = x⁴/4 − x²/2 + x/5, by quadrature.

TAU = 0.6
GRID = torch.linspace(-6, 6, 2401, dtype=torch.float64)
NODES, WEIGHTS = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(60))
TESTED: dict[str, Callable[[Tensor], Tensor]] = {
    "x³": lambda x: x**3, "x²": lambda x: x**2, "sin x": torch.sin, "exp(−x²)": lambda x: torch.exp(-(x**2)),
}  # fmt: skip


def well(x: Tensor) -> Tensor:
    return (x**4 / 4 - x**2 / 2 + x / 5).flatten(1).sum(1)


def law_of_well() -> Tensor:
    """Masses of the grid, whose ends are below rounding."""
    return torch.softmax(-well(GRID[:, None]) / TAU, 0)


def drift_of_means(step: Stepper, eta: float, f: Callable[[Tensor], Tensor]) -> float:
    """Change of the mean of f in one step that starts in the law, noise integrated by Gauss and Hermite."""
    x = GRID[:, None]
    s = energy.score(well, x)
    weight = WEIGHTS / WEIGHTS.sum()
    moved = sum(w * f(step(x, s, eta, z.expand_as(x), TAU)) for w, z in zip(weight, NODES, strict=True))
    return float(law_of_well() @ (moved - f(x))[:, 0])


@pytest.mark.parametrize("name", TESTED)
def test_a_step_moves_the_law_to_second_order_only(name: str) -> None:
    def order(step: Stepper) -> float:
        coarse, fine = (drift_of_means(step, eta, TESTED[name]) for eta in (2e-3, 1e-3))
        return math.log2(abs(coarse / fine))

    # the next order is smaller by the step times derivatives of the energy, below 30 where the law has mass
    assert abs(order(langevin.step) - 2) < 0.1
    for broken in BROKEN.values():
        assert abs(order(broken) - 2) > 0.1


def balance(ratio: Callable[..., Tensor], x: Tensor, y: Tensor, eta: float) -> float:
    """The gap between the logs of the flows accepted in the two directions, over its roundings."""

    def log_flow(a: Tensor, b: Tensor) -> Tensor:
        s = -(a**3 - a + 0.2)
        proposal = torch.distributions.Normal(a + eta * s, math.sqrt(2 * eta * TAU))
        return -well(a) / TAU + proposal.log_prob(b).sum(1) + ratio(well, a, b, eta, TAU).clamp(max=0)

    there, back = log_flow(x, y), log_flow(y, x)
    size = well(x).abs() / TAU + 10 + ((y - x) ** 2).sum(1) / eta + eta * (x**6 + y**6).sum(1)
    return misfit(there, back, size, 64)


def symmetric(E: energy.Energy, x: Tensor, y: Tensor, eta: float, tau: float) -> Tensor:
    return (E(x) - E(y)) / tau


RATIOS: dict[str, Callable[..., Tensor]] = {
    "symmetric": symmetric,
    "temperature forgotten": lambda E, x, y, eta, tau: langevin.mala_log_acceptance(E, x, y, eta),
    "exchanged": lambda E, x, y, eta, tau: langevin.mala_log_acceptance(E, y, x, eta, tau),
    "half variance": lambda E, x, y, eta, tau: (
        2 * langevin.mala_log_acceptance(E, x, y, eta, tau) - symmetric(E, x, y, eta, tau)
    ),
}


@given(st.floats(1e-2, 1.0), st.integers(0, 20))
def test_accepted_flow_is_balanced(eta: float, seed: int) -> None:
    x, y = tensors(2, (5, 3), seed=seed)
    assert balance(langevin.mala_log_acceptance, x, y, eta) <= 1
    for name, ratio in RATIOS.items():
        assert balance(ratio, x, y, eta) > 1, name


def drift_of_corrected_means(
    ratio: Callable[..., Tensor], eta: float, f: Callable[[Tensor], Tensor]
) -> float:
    """The same change for the corrected chain, proposals integrated over the same grid."""
    x = GRID[::8, None]
    mass = torch.softmax(-well(x) / TAU, 0)
    mean = x + eta * energy.score(well, x)
    proposal = torch.softmax(-((x[:, 0] - mean) ** 2) / (4 * eta * TAU), 1)
    pairs = torch.cartesian_prod(x[:, 0], x[:, 0])
    accept = ratio(well, pairs[:, :1], pairs[:, 1:], eta, TAU).clamp(max=0).exp().reshape(len(x), len(x))
    return float(mass @ (proposal * accept * (f(x[:, 0])[None] - f(x[:, 0])[:, None])).sum(1))


@pytest.mark.parametrize("name", TESTED)
def test_the_corrected_chain_keeps_the_law(name: str) -> None:
    f, always = TESTED[name], lambda E, x, y, eta, tau: torch.zeros_like(x[:, 0])
    # on any grid accepted flow is balanced, so what is left is the rounding of 301 terms, each below max |f|
    bound = 301 * EPS * float(f(GRID).abs().max())
    assert abs(drift_of_corrected_means(langevin.mala_log_acceptance, 0.1, f)) < bound
    assert abs(drift_of_corrected_means(always, 0.1, f)) > bound
    assert abs(drift_of_corrected_means(symmetric, 0.1, f)) > bound


def test_on_a_gaussian_the_ratio_is_the_closed_form() -> None:
    x, y = tensors(2, (6, 2))
    mean, v, eta, tau = 0.3, 0.8, 0.4, 1.6
    bowl = lambda u: ((u - mean) ** 2 / (2 * v)).sum(1)  # noqa: E731
    got = langevin.mala_log_acceptance(bowl, x, y, eta, tau)
    square = ((x - mean) ** 2 - (y - mean) ** 2).sum(1)
    size = ((x - mean) ** 2 + (y - mean) ** 2).sum(1) * (1 / v + eta / v**2) / tau
    assert misfit(got, eta * square / (4 * v**2 * tau), size, 32) <= 1
    assert misfit(got, eta * square / (2 * v**2 * tau), size, 32) > 1


def test_a_proposal_is_accepted_exactly_below_its_ratio() -> None:
    x, z = tensors(2, (64, 2))
    y = langevin.step(x, energy.score(well, x), 0.2, z, TAU)
    ratio = langevin.mala_log_acceptance(well, x, y, 0.2, TAU).exp()
    surely = ratio >= 1
    assert surely.any() and (~surely).any()
    below, above = (
        torch.where(surely, torch.full_like(ratio, 0.999), ratio * f) for f in (1 - 1e-9, 1 + 1e-9)
    )
    assert torch.equal(langevin.mala_step(well, x, 0.2, z, below, TAU), y)
    at_zero = langevin.mala_step(well, x, 0.2, z, torch.zeros_like(below), TAU)
    assert torch.equal(at_zero, y)
    stayed = langevin.mala_step(well, x, 0.2, z, above, TAU)
    assert torch.equal(stayed, torch.where(surely[:, None], y, x))


def test_a_state_without_density_is_never_entered() -> None:
    walled = lambda u: torch.where(u[:, 0] > 0, u[:, 0] ** 2 / 2, math.inf)  # noqa: E731
    x = torch.full((3, 1), 0.1, dtype=torch.float64)
    z = double([[-5.0], [-1.0], [0.5]])
    after = langevin.mala_step(walled, x, 0.2, z, torch.zeros(3, dtype=torch.float64))
    assert torch.equal(after[:2], x[:2]) and not torch.equal(after[2:], x[2:])


# What chains teach a Gaussian model.


@given(chains)
def test_the_contrastive_gradient_sees_the_way_that_the_chain_has_gone(drawn: Chain) -> None:
    mean, _, target, v, share, _, count = drawn
    data, wide, eta = double([[float(mean)]]), float(v), float(share * v)
    model = double([float(target)]).requires_grad_()
    bowl = lambda x: ((x - model) ** 2 / (2 * wide)).sum(1)  # noqa: E731
    *_, end = langevin.chain(lambda x: energy.score(bowl, x), data, eta, [0 * data] * count)
    (got,) = energy.log_likelihood_gradient(bowl, [model], data, end)
    args = (data[0], model.detach(), double([wide]), eta)
    size = (abs(float(mean)) + abs(float(target))) / wide
    expected = langevin.contrastive_gradient_gaussian(*args, count)
    assert misfit(got, float(expected), size, 16 * (count + 1) ** 2) <= 1
    whole = (data[0] - model.detach()) / wide
    seen = abs(float(whole)) * abs(1 - float(share)) ** count < 1e-9
    assert seen or misfit(got, float(whole), size, 16 * (count + 1) ** 2) > 1


@given(st.floats(0.05, 5.0), st.floats(1e-6, 0.99))
def test_the_learned_variance_makes_the_chain_as_wide_as_the_data(v: float, part: float) -> None:
    data, eta = double([v]), part * v / 2
    learned = langevin.learned_variance(data, eta)
    # near the largest step the root has condition 1/(1 - part)
    assert misfit(langevin.stationary_variance(learned, eta), v, v, 16 / (1 - part)) <= 1
    assert float(learned) < v
    assert misfit(langevin.stationary_variance(data, eta), v, v, 16 / (1 - part)) > 1


# Batches, dtypes, devices, graphs, bad input.


def bowl(x: Tensor) -> Tensor:
    return (x**4 + x**2).flatten(1).sum(1)


CALLS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "step": lambda x, y, z: langevin.step(x, y, 0.3, z, 1.7),
    "step of a batch": lambda x, y, z: langevin.step(x, y, x.flatten(1)[:, 0].abs() + 1, z, 1.7),
    "step_half": lambda x, y, z: langevin.step_half(x, y, 0.3, z),
    "mala_step": lambda x, y, z: langevin.mala_step(bowl, x, 0.1, z, torch.zeros_like(x.flatten(1)[:, 0])),
    "mala_log_acceptance": lambda x, y, z: langevin.mala_log_acceptance(bowl, x, y, 0.1, 0.7),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_batch_is_each_sample_alone(call: Callable[..., Tensor], device: torch.device) -> None:
    args = [v.to(device) for v in tensors(3, (3, 2, 2), torch.float32)]
    whole = call(*args)
    rows = torch.cat([call(*(v[i : i + 1] for v in args)) for i in range(3)])
    assert whole.dtype == torch.float32
    # a sum of four terms may be taken in another order
    assert misfit(whole.cpu(), rows.cpu(), 30.0, 8) <= 1
    assert misfit(call(*(v.flip(0) for v in args)).cpu(), rows.cpu(), 30.0, 8) > 1


def test_a_step_size_may_differ_in_a_batch() -> None:
    x, s, z = tensors(3, (3, 2))
    sizes = double([0.1, 0.5, 2.0])
    rows = [langevin.step(x[i : i + 1], s[i : i + 1], float(sizes[i]), z[i : i + 1], 1.3) for i in range(3)]
    assert misfit(langevin.step(x, s, sizes, z, 1.3), torch.cat(rows), 10.0, 4) <= 1
    assert misfit(langevin.step(x, s, sizes.flip(0), z, 1.3), torch.cat(rows), 10.0, 4) > 1


X, ONE = torch.zeros(2, 3, dtype=torch.float64), double([1.0])
U = double([0.5, 0.5])


def states(*args: object) -> Iterator[Tensor]:
    return langevin.chain(*args)  # type: ignore[arg-type]


BAD: dict[str, tuple[str, Callable[[], object]]] = {
    "step": (r"step_size must be positive and finite, got -0.1", lambda: langevin.step(X, X, -0.1, X)),
    "step NaN": (r"step_size must be positive and finite, got nan", lambda: langevin.step(X, X, math.nan, X)),
    "step of a batch": (r"step_size must be positive and finite", lambda: langevin.step(X, X, -U, X)),
    "steps": (r"step_size must have shape \(\) or \(B,\)", lambda: langevin.step(X, X, double([1.0] * 3), X)),
    "whole step": (r"step_size must be a floating-point", lambda: langevin.step(X, X, torch.tensor(1), X)),
    "temperature": (r"temperature must be positive .* got 0", lambda: langevin.step(X, X, 1, X, 0.0)),
    "score": (r"score must have the shape of x", lambda: langevin.step(X, X[:1], 0.1, X)),
    "noise": (r"noise must have the dtype of x", lambda: langevin.step_half(X, X, 0.1, X.float())),
    "epsilon": (r"epsilon must be positive .* got inf", lambda: langevin.step_half(X, X, math.inf, X)),
    "chain": (r"noise must have the shape of x", lambda: list(states(lambda x: x, X, 0.1, [X[:1]]))),
    "uniform": (r"uniform must lie in \[0, 1\)", lambda: langevin.mala_step(bowl, X, 0.1, X, 2 * U)),
    "uniforms": (r"uniform must have shape \(B,\)", lambda: langevin.mala_step(bowl, X, 0.1, X, X)),
    "energy": (
        r"energy\(x\) must have shape \(B,\)", lambda: langevin.mala_step(lambda x: x, X, 0.1, X, U)
    ),
    "proposal": (r"y must have the shape of x", lambda: langevin.mala_log_acceptance(bowl, X, X[:1], 0.1)),
    "unstable": (
        r"step_size must be below twice the variance .* got 2",
        lambda: langevin.stationary_variance(ONE, 2.0),
    ),
    "variance": (r"variance must be positive, got -1", lambda: langevin.stationary_variance(-ONE, 0.1)),
    "start": (r"variance_0 must be at least 0", lambda: langevin.gaussian_variance(-ONE, ONE, 0.1, 1)),
    "count": (r"count must be at least 1, got 0", lambda: langevin.gaussian_mean(ONE, ONE, ONE, 0.1, 0)),
    "learned": (
        r"step_size must be below half the variance .* got 0.5", lambda: langevin.learned_variance(ONE, 0.5)
    ),
    "covariance": (
        r"covariance must be symmetric",
        lambda: langevin.stationary_covariance(double([[1, 0.1], [0, 1]]), 0.1),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("message", "call"), BAD.values(), ids=BAD)
def test_bad_input_is_named(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=message):
        call()
