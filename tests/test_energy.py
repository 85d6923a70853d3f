"""Energy models against quadrature, exact finite spaces and scipy; each law rejects a broken version."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference_laws import misfit, named, tensors
from scipy import integrate, special
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from refdiff import energy, langevin
from refdiff.data import MixtureLaw
from refdiff.nets.energy import BowlEnergy, shapes


def double(*values: object) -> Tensor:
    return torch.tensor(*values, dtype=torch.float64)


def well(x: Tensor) -> Tensor:
    """The double well in each coordinate."""
    return (x**4 / 4 - x**2 / 2 + x / 5).flatten(1).sum(1)


def well_slope(x: Tensor) -> Tensor:
    return x**3 - x + 0.2


# The law, its normaliser and its score.


def normaliser(tau: float) -> float:
    inside = lambda x: math.exp(-(x**4 / 4 - x**2 / 2 + x / 5) / tau)  # noqa: E731
    return float(integrate.quad(inside, -12, 12, epsabs=0, epsrel=1e-12, limit=200, points=[-1, 0, 1])[0])


def mass(tau: float, used: float) -> float:
    """Total mass of the density on a grid; the trapezoidal rule is exact to rounding for a smooth law."""
    x = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    log_z = double(math.log(normaliser(tau)))
    return float(torch.trapezoid(energy.log_density(well, x[:, None], log_z, used).exp(), x))


@pytest.mark.parametrize("tau", [0.3, 1.0, 2.5])
def test_the_density_is_normalised_at_its_temperature(tau: float) -> None:
    # quadrature was asked for 1e-12, and is trusted to ten times that
    assert abs(mass(tau, tau) - 1) < 1e-11
    assert tau == 1 or abs(mass(tau, 1.0) - 1) > 1e-11
    assert tau == 1 or abs(mass(tau, 1 / tau) - 1) > 1e-11


@pytest.mark.parametrize("tau", [0.3, 1.7])
def test_the_score_is_minus_the_slope_over_the_temperature(tau: float) -> None:
    x = tensors(1, (5, 3))
    size = (x.abs() ** 3 + x.abs() + 1) / tau
    got = energy.score(well, x, tau)
    assert misfit(got, -well_slope(x) / tau, size, 16) <= 1
    for broken in (well_slope(x) / tau, -well_slope(x), -tau * well_slope(x), -well_slope(x) / (2 * tau)):
        assert misfit(got, broken, size, 16) > 1
    values, again = energy.energy_and_score(well, x, tau)
    assert torch.equal(again, got) and torch.equal(values, well(x))


def test_the_score_does_not_know_the_normaliser() -> None:
    x = tensors(1, (5, 3))
    assert torch.equal(energy.score(lambda u: well(u) + 7.25, x), energy.score(well, x))
    assert not torch.equal(energy.score(lambda u: 7.25 * well(u), x), energy.score(well, x))


masses = st.lists(st.integers(1, 60), min_size=2, max_size=9)


@given(masses, st.sampled_from([Fraction(1), Fraction(1, 2), Fraction(2)]))
def test_the_gradient_of_log_z_is_minus_the_law(weights: list[int], tau: Fraction) -> None:
    energies = -double(weights).log() * float(tau)
    energies.requires_grad_()
    log_z = energy.log_partition(energies, float(tau))
    (slope,) = torch.autograd.grad(log_z, energies)
    law = double([float(Fraction(w, sum(weights))) for w in weights])
    assert misfit(log_z.detach(), math.log(sum(weights)), 5.0, 8) <= 1
    assert misfit(slope, -law / float(tau), law / float(tau), 32) <= 1
    assert misfit(slope, law / float(tau), law / float(tau), 32) > 1
    assert misfit(slope, -2 * law / float(tau), law / float(tau), 32) > 1


@given(masses, masses, st.sampled_from([0.5, 1.0, 3.0]))
def test_the_expected_log_likelihood_is_divergence_plus_entropy(
    data: list[int], model: list[int], tau: float
) -> None:
    size = min(len(data), len(model))
    q = double(data[:size]) / sum(data[:size])
    p = double(model[:size]) / sum(model[:size])
    got = energy.cross_entropy(q, -tau * double(model[:size]).log(), tau)
    divergence, entropy = special.rel_entr(q.numpy(), p.numpy()).sum(), special.entr(q.numpy()).sum()
    # sums of nine products of logs below 5
    assert misfit(got, float(divergence + entropy), 20.0, 32) <= 1
    assert misfit(got, float(divergence - entropy), 20.0, 32) > 1
    assert misfit(got, float(divergence), 20.0, 32) > 1
    assert float(got) >= float(entropy) - 20 * 32 * 2**-52


# The gradient of the likelihood, and the losses that follow it.


def repeated(weights: list[int]) -> Tensor:
    """Each state as often as its mass: the mean over these rows is the exact mean over the law."""
    return torch.arange(len(weights)).repeat_interleave(torch.tensor(weights)).double()[:, None]


FEATURES = double([0.7, -1.1, 0.4, 2.0, -0.3])
DATA, MODEL = [3, 1, 4, 2, 6], [2, 7, 1, 5, 3]


def finite(theta: Tensor) -> energy.Energy:
    """Energies −log w + θ·f of five states, whose law at θ = 0 is that of the masses."""
    table = -double(MODEL).log() + theta * FEATURES
    return lambda x: table[x[:, 0].long()]


def likelihood_slope(gradient: Callable[[energy.Energy, Tensor], Tensor]) -> float:
    """A gradient against that of the exact log-likelihood of the finite space."""
    theta = torch.zeros((), dtype=torch.float64, requires_grad=True)
    q = double(DATA) / sum(DATA)
    exact = -energy.cross_entropy(q, -double(MODEL).log() + theta * FEATURES)
    (expected,) = torch.autograd.grad(exact, theta)
    return misfit(gradient(finite(theta), theta), float(expected), 4.0, 64)


def phases(E: energy.Energy, theta: Tensor) -> Tensor:
    return energy.log_likelihood_gradient(E, [theta], repeated(DATA), repeated(MODEL))[0]


def through_the_loss(sign: int) -> Callable[[energy.Energy, Tensor], Tensor]:
    """The gradient of the mean loss of pairs; every datum is paired with every sample of the model."""

    def gradient(E: energy.Energy, theta: Tensor) -> Tensor:
        pairs = torch.cartesian_prod(repeated(DATA)[:, 0], repeated(MODEL)[:, 0])[..., None]
        loss = energy.contrastive_loss(E, pairs[:, 0], pairs[:, 1]).mean()
        return -sign * torch.autograd.grad(loss, theta)[0]

    return gradient


def data_alone(E: energy.Energy, theta: Tensor) -> Tensor:
    return -torch.autograd.grad(E(repeated(DATA)).mean(), theta)[0]


def test_the_two_phases_are_the_gradient_of_the_likelihood() -> None:
    assert likelihood_slope(phases) <= 1
    assert likelihood_slope(through_the_loss(1)) <= 1
    assert likelihood_slope(lambda E, theta: -phases(E, theta)) > 1
    assert likelihood_slope(through_the_loss(-1)) > 1
    assert likelihood_slope(data_alone) > 1


def test_negatives_are_constants_of_the_loss() -> None:
    theta = torch.ones((), dtype=torch.float64, requires_grad=True)
    bowl = lambda x: theta * (x**2).sum(1)  # noqa: E731
    x, z = tensors(2)
    y = langevin.step(x, energy.score(bowl, x), 0.2, z)
    assert y.requires_grad
    (got,) = torch.autograd.grad(energy.contrastive_loss(bowl, x, y).mean(), theta, retain_graph=True)
    (upwards,) = energy.log_likelihood_gradient(bowl, [theta], x, y)
    fixed = ((x**2).sum(1) - (y.detach() ** 2).sum(1)).mean()
    (through,) = torch.autograd.grad((bowl(x) - bowl(y)).mean(), theta)
    assert misfit(got, fixed.detach(), 20.0, 16) <= 1
    assert misfit(upwards, -fixed.detach(), 20.0, 16) <= 1
    assert misfit(got, through, 20.0, 16) > 1


def kernel(energies: Tensor) -> Tensor:
    """The chain that draws the next state anew, or stays: it keeps the law and depends on it."""
    return 0.4 * torch.eye(5, dtype=torch.float64) + 0.6 * torch.softmax(-energies, 0)


def test_contrastive_divergence_has_a_third_term() -> None:
    theta = torch.zeros((), dtype=torch.float64, requires_grad=True)
    energies = -double(MODEL).log() + theta * FEATURES
    q = double(DATA) / sum(DATA)
    chain = q @ kernel(energies) @ kernel(energies)
    log_p = -energies - energy.log_partition(energies)
    divergence = (q * (q.log() - log_p)).sum() - (chain * (chain.log() - log_p)).sum()
    (expected,) = torch.autograd.grad(divergence, theta, retain_graph=True)
    surprise = (chain.log() - log_p).detach()
    (drift,) = torch.autograd.grad((chain * surprise).sum(), theta)
    used = ((q - chain.detach()) * FEATURES).sum()
    assert misfit(used - drift, float(expected), 8.0, 64) <= 1
    assert misfit(used, float(expected), 8.0, 64) > 1
    assert misfit(used + drift, float(expected), 8.0, 64) > 1


# Noise-contrastive estimation.


Contrast = Callable[[energy.Energy, energy.Energy, Tensor, Tensor, int], Tensor]
NOISE = [5, 2, 4, 3, 2]


def equal_shares(p: energy.Energy, q: energy.Energy, x: Tensor, y: Tensor, ratio: int) -> Tensor:
    """The loss that forgets in the posterior that there is more noise than data."""
    of_data, of_noise = p(x) - q(x), p(y) - q(y)
    return -logsigmoid(of_data) - logsigmoid(-of_noise).reshape(-1, ratio).sum(1)


def mean_over_noise(p: energy.Energy, q: energy.Energy, x: Tensor, y: Tensor, ratio: int) -> Tensor:
    """The loss that takes the mean over the noise samples of a datum where their sum belongs."""
    of_data, of_noise = p(x) - q(x) - math.log(ratio), p(y) - q(y) - math.log(ratio)
    return -logsigmoid(of_data) - logsigmoid(-of_noise).reshape(-1, ratio).mean(1)


def slopes_at_the_data(loss: Contrast, ratio: int, shift: float = 0.0) -> float:
    """Gradient of the expected loss of a finite model that is the law of the data, up to a factor."""
    log_p = (double(DATA).div(sum(DATA)).log() + shift).requires_grad_()
    log_q = double(NOISE).div(sum(NOISE)).log()
    # every datum with every sample of the noise, as often as the ratio says: exact means over both laws
    pairs = torch.cartesian_prod(repeated(DATA)[:, 0], repeated(NOISE)[:, 0])[..., None]
    x, y = pairs[:, 0], pairs[:, 1].repeat_interleave(ratio, 0)
    each = loss(lambda u: log_p[u[:, 0].long()], lambda u: log_q[u[:, 0].long()], x, y, ratio)
    (slope,) = torch.autograd.grad(each.mean(), log_p)
    # means of some hundred terms, whose slopes are below the ratio
    return misfit(slope, 0.0, float(ratio), 256)


@pytest.mark.parametrize("ratio", [1, 4])
def test_the_density_of_the_data_is_where_the_loss_is_least(ratio: int) -> None:
    assert slopes_at_the_data(energy.nce_loss, ratio) <= 1
    assert slopes_at_the_data(energy.nce_loss, ratio, 1e-3) > 1
    for broken in (equal_shares, mean_over_noise):
        assert ratio == 1 or slopes_at_the_data(broken, ratio) > 1


@given(st.floats(-40, 40), st.floats(-40, 40), st.integers(1, 9))
def test_the_loss_is_exact_however_far_the_odds(at_data: float, at_noise: float, ratio: int) -> None:
    x, y = double([[at_data]]), double([[at_noise]]).expand(ratio, 1)
    got = energy.nce_loss(lambda u: u[:, 0], lambda u: 0 * u[:, 0], x, y, ratio)
    with mpmath.workdps(50):
        data = mpmath.log1p(ratio * mpmath.exp(-mpmath.mpf(at_data)))
        noise = ratio * mpmath.log1p(mpmath.exp(mpmath.mpf(at_noise)) / ratio)
        expected = float(data + noise)
    # the odds hold three roundings of numbers up to 43, of which each term of the loss keeps its share
    share = energy.nce_posterior(y[:1, 0], 0 * y[:1, 0], ratio) * ratio
    size = 43 * (1 - energy.nce_posterior(x[:, 0], 0 * x[:, 0], ratio) + share) + expected
    assert misfit(got, expected, size, 8) <= 1
    assert misfit(got * (1 + 1e-12), expected, size, 8) > 1 or float(size) > 100 * expected


def test_a_rounded_softplus_would_be_seen() -> None:
    """torch's softplus is x itself above 20: the loss of a certain datum would be 0."""
    x, y = double([[25.0]]), double([[-25.0]])
    exact = 2 * math.log1p(math.exp(-25))
    got = energy.nce_loss(lambda u: u[:, 0], lambda u: 0 * u[:, 0], x, y)
    assert misfit(got, exact, 25 * exact, 8) <= 1
    rounded = softplus(x[:, 0]) - x[:, 0] + softplus(-y[:, 0]) + y[:, 0]
    assert misfit(rounded, exact, 25 * exact, 8) > 1


@given(st.floats(-20, 20), st.floats(-20, 20), st.integers(1, 9))
def test_the_posterior_is_bayes_rule(of_model: float, of_noise: float, ratio: int) -> None:
    got = energy.nce_posterior(double([of_model]), double([of_noise]), ratio)
    with mpmath.workdps(50):
        p, q = mpmath.exp(of_model), mpmath.exp(of_noise)
        expected, equal = float(p / (p + ratio * q)), float(p / (p + q))
    lever = 8 * (2 + abs(of_model) + abs(of_noise) + math.log(ratio))
    assert misfit(got, expected, expected, lever) <= 1
    assert ratio == 1 or equal > 1 - 1e-9 or misfit(got, equal, expected, lever) > 1


# A network, trained in four ways on a mixture whose score is known.

WEIGHTS = double([0.35, 0.65])
MEANS = double([[-1.2, 0.4], [1.0, -0.6]])
COVS = double([[[0.35, 0.1], [0.1, 0.25]], [[0.3, -0.12], [-0.12, 0.5]]])
LAW = MixtureLaw(WEIGHTS, MEANS, COVS)
UNUSED = named("linear-1")
SIGMA = 0.4
NOISED = MixtureLaw(WEIGHTS, MEANS, COVS + SIGMA**2 * torch.eye(2, dtype=torch.float64))
BATCH = 512


def draws(seed: int = 0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless batches of data, noise and uniform numbers."""
    g = torch.Generator().manual_seed(seed)
    while True:
        z, u = torch.randn(BATCH, 2, generator=g), torch.rand(BATCH, generator=g)
        x = LAW.sample(z.double(), u.double()).float()
        yield x, torch.randn(BATCH, 2, generator=g), torch.rand(BATCH, generator=g)


def network() -> BowlEnergy:
    g = torch.Generator().manual_seed(7)
    return BowlEnergy([torch.randn(shape, generator=g) for shape in shapes(2)], bowl=3.0)


Loss = Callable[[BowlEnergy, Tensor, Tensor, Tensor], Tensor]


def trained(loss: Loss, steps: int, rate: float, *more: Tensor) -> BowlEnergy:
    net, batches = network(), draws()
    optimiser = torch.optim.Adam([*net.parameters(), *more], lr=rate)
    fading = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(net, *next(batches)).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        fading.step()
    return net


def left_unexplained(net: BowlEnergy, law: MixtureLaw) -> float:
    """Fisher divergence from the law, over what the best affine score leaves."""
    batches = draws(1)
    x = torch.cat([next(batches)[0] for _ in range(4)]).double()
    x = x + (SIGMA * tensors(1, tuple(x.shape)) if law is NOISED else 0)
    exact = law.score(UNUSED, x, 0)
    affine = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    rest = exact - affine @ torch.linalg.lstsq(affine, exact).solution
    error = energy.score(net, x.float()).double() - exact
    return float(error.detach().square().sum() / rest.square().sum())


def denoising(sign: int) -> Loss:
    def loss(net: BowlEnergy, x: Tensor, z: Tensor, u: Tensor) -> Tensor:
        return (energy.score(net, x + SIGMA * z) + sign * z / SIGMA).square().sum(1) / 2

    return loss


def contrastive(sign: int) -> Loss:
    def loss(net: BowlEnergy, x: Tensor, z: Tensor, u: Tensor) -> Tensor:
        with torch.no_grad():
            y = langevin.mala_step(net, x, 0.15, z, u)
        return sign * energy.contrastive_loss(net, x, y)

    return loss


def persistent(sign: int) -> Loss:
    kept: list[Tensor] = []

    def loss(net: BowlEnergy, x: Tensor, z: Tensor, u: Tensor) -> Tensor:
        with torch.no_grad():
            y = langevin.mala_step(net, kept.pop() if kept else x, 0.2, z, u)
        kept.append(y)
        return sign * energy.contrastive_loss(net, x, y)

    return loss


def noise_contrastive(log_z: Tensor, sign: int) -> Loss:
    """With three samples of noise for each datum, normal ones of deviation 3/2."""

    def loss(net: BowlEnergy, x: Tensor, z: Tensor, u: Tensor) -> Tensor:
        log_noise = lambda v: -v.square().sum(1) / 4.5 - math.log(4.5 * math.pi)  # noqa: E731
        log_model = lambda v: -sign * net(v) - log_z  # noqa: E731
        return energy.nce_loss(log_model, log_noise, x[:170], 1.5 * z[:510], 3)

    return loss


@pytest.mark.parametrize(
    ("loss", "steps", "rate", "law"),
    [
        (denoising, 120, 2e-2, NOISED),
        (contrastive, 150, 2e-2, LAW),
        (persistent, 350, 1e-2, LAW),
    ],
    ids=["denoising", "contrastive", "persistent"],
)
def test_a_trained_network_has_the_score_of_the_mixture(
    loss: Callable[[int], Loss], steps: int, rate: float, law: MixtureLaw
) -> None:
    # a quarter of what no affine score explains: the two modes are there; the wrong sign has none of it
    assert left_unexplained(trained(loss(1), steps, rate), law) < 0.25
    assert not left_unexplained(trained(loss(-1), 25, rate), law) < 1


def log_z_of(net: BowlEnergy) -> float:
    u = torch.linspace(-8, 8, 321)
    grid = torch.cartesian_prod(u, u)
    return float(torch.logsumexp(-net(grid), 0).detach()) + 2 * math.log(0.05)


def test_noise_contrastive_training_finds_score_and_normaliser() -> None:
    log_z = torch.zeros((), requires_grad=True)
    net = trained(noise_contrastive(log_z, 1), 400, 2e-2, log_z)
    assert left_unexplained(net, LAW) < 0.25
    # the normaliser is learned to a fraction of the log of the ratio, by which forgetting it would miss
    assert abs(float(log_z.detach()) - log_z_of(net)) < math.log(3) / 4
    other = torch.zeros((), requires_grad=True)
    assert not left_unexplained(trained(noise_contrastive(other, -1), 25, 2e-2, other), LAW) < 1


def test_the_network_draws_nothing_and_is_integrable() -> None:
    state = torch.random.get_rng_state()
    net, again = network(), network()
    assert torch.equal(torch.random.get_rng_state(), state)
    x = 30 * tensors(1, (64, 2), torch.float32)
    assert torch.equal(net(x), again(x))
    # far away there is the bowl, |x|²/(2·3²), and a perceptron that grows like |x|
    with torch.no_grad():
        far, further = ((18 * net(k * x) / (k * x).square().sum(1) - 1).abs().max() for k in (100, 1000))
    assert float(further) < 0.2 * float(far)
    assert net(x.reshape(64, 1, 2)).shape == (64,)


# Dtypes, devices, graphs, bad input.


CALLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "log_density": lambda x, y: energy.log_density(well, x, 0.3, 0.7),
    "score": lambda x, y: energy.score(well, x, 0.7),
    "contrastive_loss": lambda x, y: energy.contrastive_loss(well, x, y),
    "nce_posterior": lambda x, y: energy.nce_posterior(well(x), well(y), 3),
    "nce_loss": lambda x, y: energy.nce_loss(well, lambda u: -well(u), x, y.repeat_interleave(2, 0), 2),
    "cross_entropy": lambda x, y: energy.cross_entropy(torch.softmax(x, -1), y)[:, 0],
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_batch_is_each_sample_alone(call: Callable[..., Tensor], device: torch.device) -> None:
    x, y = (v.to(device) for v in tensors(2, (3, 2, 2), torch.float32))
    whole = call(x, y)
    rows = torch.cat([call(x[i : i + 1], y[i : i + 1]) for i in range(3)])
    assert whole.dtype == torch.float32
    # sums of at most eight terms may be taken in another order
    assert misfit(whole.cpu(), rows.cpu(), 30.0, 8) <= 1
    assert misfit(call(x.flip(0), y.flip(0)).cpu(), rows.cpu(), 30.0, 8) > 1


X = torch.zeros(2, 3, dtype=torch.float64)
BAD: dict[str, tuple[str, Callable[[], object]]] = {
    "temperature": (r"temperature must be positive and finite, got -1", lambda: energy.score(well, X, -1.0)),
    "temperature NaN": (r"temperature .* got nan", lambda: energy.log_density(well, X, 0.0, math.nan)),
    "temperature of Z": (r"temperature .* got 0", lambda: energy.log_partition(X, 0.0)),
    "sum over the batch": (r"energy\(x\) must have shape", lambda: energy.score(lambda x: x.sum(), X)),
    "column": (
        r"energy\(x\) must have shape \(B,\) for x of \(2, 3\), got \(2, 1\)",
        lambda: energy.contrastive_loss(lambda x: x[:, :1], X, X),
    ),
    "negatives": (r"x_neg must have the shape of x_pos", lambda: energy.contrastive_loss(well, X, X[:1])),
    "probabilities": (r"probabilities must have the shape", lambda: energy.cross_entropy(X[:1], X)),
    "ratio": (r"ratio must be at least 1, got 0", lambda: energy.nce_posterior(X[:, 0], X[:, 0], 0)),
    "noise": (
        r"x_noise must have shape \(4, 3\), got \(2, 3\)",
        lambda: energy.nce_loss(well, well, X, X, 2),
    ),
    "dtype of noise": (
        r"x_noise must have the dtype of x_data",
        lambda: energy.nce_loss(well, well, X, X.float()),
    ),
    "logs": (r"log_noise must have the shape", lambda: energy.nce_posterior(X[:, 0], X[:1, 0])),
    "integers": (r"x must be a floating-point tensor", lambda: energy.score(well, X.long())),
    "bowl": (r"bowl must be positive and finite, got 0", lambda: BowlEnergy([torch.ones(1, 2)], 0.0)),
    "weights": (r"noises must be matrices that lead to one output", lambda: BowlEnergy([torch.ones(2, 2)])),
    "chain of weights": (
        r"noises must be matrices",
        lambda: BowlEnergy([torch.ones(3, 2), torch.ones(1, 2)]),
    ),
    "input": (r"x must have 2 elements per sample", lambda: BowlEnergy([torch.ones(1, 2)])(torch.ones(3, 5))),
    "width": (r"width must be at least 1, got 0", lambda: shapes(2, 0)),
}


@pytest.mark.parametrize(("message", "call"), BAD.values(), ids=BAD)
def test_bad_input_is_named(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=message):
        call()
