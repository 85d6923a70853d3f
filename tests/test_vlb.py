"""The laws of the bound's terms, of the hybrid loss and of DDIM's objective, each with a broken form that it
rejects; the decoder has a file of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference_laws import depth, levels, misfit, named, tensors
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from refdiff import ddim, ddpm, vlb
from refdiff.data import GaussianLaw
from refdiff.schedule import Schedule, linear

LINEAR = named("linear-1000")
SHORT = {"one": linear(1, 0.3, 0.3), "two": linear(2, 0.1, 0.4), "nine": linear(9, 0.02, 0.5)}
MEAN, VARIANCE = torch.tensor([0.4, -0.9]).double(), torch.tensor([0.35, 1.8]).double()
NODES, WEIGHTS = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(3))
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def average(value: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """The mean over a standard normal noise, one for all dimensions: exact for sums of squares of each."""
    return sum(w * value(torch.full_like(like, float(z))) for z, w in zip(NODES, WEIGHTS, strict=True))  # type: ignore[return-value]


# The prior.


def prior_is_the_divergence(prior: Callable[[Schedule, Tensor], Tensor], schedule: Schedule) -> float:
    x_0 = tensors(1)
    law = ddpm.q_marginal(schedule, x_0, schedule.T)
    ratio = lambda z: law.log_prob(law.sample(z)) - Normal(0.0, 1.0).log_prob(law.sample(z))  # noqa: E731
    expected = average(ratio, x_0)
    # the mean of a log-ratio cancels all but L_T of terms of order one
    return misfit(prior(schedule, x_0), expected, 1 + expected.abs() + x_0**2, 64)


@pytest.mark.parametrize("name", ["linear-1", "linear-2", "linear-1000", "constant-20", "cosine-10"])
def test_the_prior_term_is_the_divergence_of_the_last_level(name: str) -> None:
    assert prior_is_the_divergence(vlb.prior_term, named(name)) <= 1


BROKEN_PRIORS: dict[str, Callable[[Schedule, Tensor], Tensor]] = {
    "left out": lambda s, x: torch.zeros_like(x),
    "means alone": lambda s, x: s.alpha_bar[-1] * x**2 / 2,
    "bits": lambda s, x: vlb.bits_per_dim(vlb.prior_term(s, x)),
    "not halved": lambda s, x: 2 * vlb.prior_term(s, x),
    "one level early": lambda s, x: (
        s.alpha_bar[-2] * x**2 - s.alpha_bar[-2] - torch.log1p(-s.alpha_bar[-2])
    ) / 2,
}  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN_PRIORS.values(), ids=BROKEN_PRIORS)
def test_a_broken_prior_term_is_seen(broken: Callable[[Schedule, Tensor], Tensor]) -> None:
    assert prior_is_the_divergence(broken, named("linear-2")) > 1


def test_the_prior_term_keeps_its_digits_where_little_signal_is_left() -> None:
    x_0 = torch.zeros(1, 1, dtype=torch.float64)
    signal = float(LINEAR.alpha_bar[-1])
    expected = sum(signal**k / k for k in range(2, 9)) / 2
    # 1 - alpha_bar is rounded before its logarithm is taken, which is what the schedule holds of the level
    rounding = 2**-53 / signal
    assert abs(float(vlb.prior_term(LINEAR, x_0)) / expected - 1) < 4 * rounding
    assert abs(float(-LINEAR.alpha_bar[-1] - (1 - LINEAR.alpha_bar[-1]).log()) / 2 / expected - 1) > 2**-53


# A step.


def kernels(
    schedule: Schedule, x_0: Tensor, x_t: Tensor, t: int, guess: Tensor, variance: Tensor
) -> tuple[Normal, Normal]:
    """Posterior and model as laws of another library, the model at a guess of the data."""
    here, model = ddpm.posterior(schedule, x_0, x_t, t), ddpm.posterior(schedule, guess, x_t, t)
    return Normal(here.mean, here.std.expand_as(x_t)), Normal(model.mean, variance.sqrt().expand_as(x_t))


Term = Callable[..., Tensor]


def term_is_the_divergence(term: Term, schedule: Schedule, t: int, form: str, kind: str) -> float:
    x_0, noise, guess = tensors(3)
    x_t = ddpm.q_sample(schedule, x_0, t, noise)
    share = torch.full_like(x_0, 0.3) if kind.startswith("learned") else None
    variance = ddpm.variance(schedule, t, None, kind, share)  # type: ignore[arg-type]
    laws = kernels(schedule, x_0, x_t, t, guess, variance)
    targets = {
        "x_0": (x_0, guess),
        "mu": (laws[0].mean, laws[1].mean),
        "eps": (noise, (x_t - schedule.sqrt_alpha_bar[t] * guess) / schedule.sqrt_one_minus_alpha_bar[t]),
    }
    expected = kl_divergence(*laws)
    # means are subtracted here, and the ratio of the variances from its logarithm plus one
    size = (laws[0].mean.abs() + laws[1].mean.abs() + x_t.abs() + x_0.abs() + guess.abs()) / laws[1].stddev
    condition = 1 + expected + size * (laws[0].mean - laws[1].mean).abs() / laws[1].stddev
    condition = condition / schedule.sqrt_alpha_bar[t] if form == "eps" else condition
    got = term(schedule, *targets[form], t, form, kind, share)
    return misfit(got, expected, condition, 64 + 4 * depth(schedule, t, 0))


KINDS = ("beta", "beta_tilde", "beta_first_tilde", "learned", "learned_first_tilde")


@given(levels(1, lowest=2, signal=True), st.sampled_from(("eps", "x_0", "mu")), st.sampled_from(KINDS))
def test_a_term_is_the_divergence_of_the_kernels(
    drawn: tuple[Schedule, tuple[int]], form: str, kind: str
) -> None:
    schedule, (t,) = drawn
    if depth(schedule, t, 0) < 30:
        assert term_is_the_divergence(vlb.step_term, schedule, t, form, kind) <= 1


def swapped(
    schedule: Schedule, target: Tensor, guess: Tensor, t: int, form: str, kind: str, f: object
) -> Tensor:
    beta, tilde = ddpm.variance(schedule, t, None, "beta"), ddpm.variance(schedule, t)
    error = (vlb.step_term(schedule, target, guess, t, form, "beta") - spread(tilde / beta)) * beta / tilde  # type: ignore[arg-type]
    return error + spread(beta / tilde)


def spread(ratio: Tensor) -> Tensor:
    return (ratio - 1 - ratio.log()) / 2


BROKEN_TERMS: dict[str, Term] = {
    "spread missing": lambda s, a, b, t, form, kind, f: (
        vlb.step_term(s, a, b, t, form, kind, f) - vlb.step_term(s, a, a, t, form, kind, f)
    ),
    "arguments swapped": swapped,
    "variance beta_tilde": lambda s, a, b, t, form, kind, f: vlb.step_term(s, a, b, t, form, "beta_tilde"),
    "bits": lambda *asked: vlb.bits_per_dim(vlb.step_term(*asked)),
    "mean over dimensions": lambda *asked: vlb.step_term(*asked) / 2,
    "one level late": lambda s, a, b, t, *rest: vlb.step_term(s, a, b, t + 1, *rest),
}  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN_TERMS.values(), ids=BROKEN_TERMS)
@pytest.mark.parametrize("t", [2, 7])
def test_a_broken_term_is_seen(broken: Term, t: int) -> None:
    assert term_is_the_divergence(vlb.step_term, SHORT["nine"], t, "x_0", "beta") <= 1
    assert term_is_the_divergence(broken, SHORT["nine"], t, "x_0", "beta") > 1


@given(levels(1, lowest=2, signal=True), st.sampled_from(KINDS))
def test_terms_sum_to_the_term_of_a_model(drawn: tuple[Schedule, tuple[int]], kind: str) -> None:
    schedule, (t,) = drawn
    x_0, noise, guess = tensors(3)
    share = torch.sigmoid(guess) if kind.startswith("learned") else None
    model = lambda x, t: guess if share is None else (guess, share)  # noqa: E731
    expected = ddpm.kl_term(model, schedule, x_0, t, noise, kind)  # type: ignore[arg-type]
    got = vlb.step_term(schedule, noise, guess, t, "eps", kind, share)  # type: ignore[arg-type]
    assert misfit(got.sum(1), expected, expected, 16) <= 1
    assert misfit(got.mean(1), expected, expected, 16) > 1


def test_the_variance_learns_the_error_of_the_mean() -> None:
    schedule, t = SHORT["nine"], 6
    noise, eps = tensors(2)
    beta, tilde = ddpm.variance(schedule, t, None, "beta"), ddpm.variance(schedule, t)
    fraction = torch.full_like(noise, 0.4, requires_grad=True)
    vlb.step_term(schedule, noise, eps, t, "eps", "learned", fraction).sum().backward()  # type: ignore[no-untyped-call]
    square = 2 * tilde * (
        vlb.step_term(schedule, noise, eps, t, "eps") - vlb.step_term(schedule, noise, noise, t, "eps")
    )  # fmt: skip
    learned = ddpm.variance(schedule, t, None, "learned", fraction.detach())
    expected = (beta / tilde).log() / 2 * (1 - (tilde + square) / learned)
    assert fraction.grad is not None
    condition = (beta / tilde).log() * (1 + (tilde + square) / learned)
    assert misfit(fraction.grad, expected, condition, 32) <= 1
    without_error = (beta / tilde).log() / 2 * (1 - tilde / learned)
    assert misfit(fraction.grad, without_error, condition, 32) > 1


# Gaussian data: the bound of the exact chain.


def closed_terms(schedule: Schedule, x_0: Tensor) -> Iterator[Tensor]:
    """L_T, L_{T−1}, …, L_0 by quadrature over x_t from the laws of the data, for independent dimensions."""
    law = GaussianLaw(MEAN, torch.diag(VARIANCE))
    last = law_at(schedule, schedule.T)
    yield kl_divergence(Normal(*noised(schedule, x_0, schedule.T)), last)
    for t in range(schedule.T, 0, -1):
        mean_t, std_t = noised(schedule, x_0, t)

        def of(noise: Tensor, t: int = t, mean_t: Tensor = mean_t, std_t: Tensor = std_t) -> Tensor:
            x_t = mean_t + std_t * noise
            exact = ddpm.mean_from_x_0(schedule, x_t, t, law.posterior_mean(schedule, x_t, t))
            left = torch.diagonal(law.posterior_covariance(schedule, x_t, t), dim1=-2, dim2=-1)
            model = Normal(exact, ddpm.optimal_variance(schedule, t, left.expand_as(x_t)).sqrt())
            if t == 1:
                return -model.log_prob(x_0)
            here = ddpm.posterior(schedule, x_0, x_t, t)
            return kl_divergence(Normal(here.mean, here.std.expand_as(x_t)), model)

        yield average(of, x_0)


def noised(schedule: Schedule, x_0: Tensor, t: int) -> tuple[Tensor, Tensor]:
    return schedule.sqrt_alpha_bar[t] * x_0, schedule.sqrt_one_minus_alpha_bar[t].expand_as(x_0)


def law_at(schedule: Schedule, t: int) -> Normal:
    variance = schedule.alpha_bar[t] * VARIANCE + schedule.one_minus_alpha_bar[t]
    return Normal(schedule.sqrt_alpha_bar[t] * MEAN, variance.sqrt())


@pytest.mark.parametrize("schedule", SHORT.values(), ids=SHORT)
def test_the_terms_of_the_exact_chain_are_those_of_quadrature(schedule: Schedule) -> None:
    x_0 = tensors(1)
    expected = [term.sum(1) for term in closed_terms(schedule, x_0)]
    got = vlb.gaussian_terms(schedule, x_0, MEAN, VARIANCE)
    found = [got.prior, *got.steps.flip(1).unbind(1), got.decoder]
    assert len(found) == len(expected) == schedule.T + 1
    for mine, other in zip(found, expected, strict=True):
        # a mean of log-ratios of laws whose variance may be a tenth of the distance of the means
        assert misfit(mine, other, 1 + other.abs() + 10 * (x_0**2).sum(1), 256) <= 1


def attains(total: Callable[[vlb.Bound], Tensor], schedule: Schedule) -> float:
    x_0 = tensors(1)
    expected = -Normal(MEAN, VARIANCE.sqrt()).log_prob(x_0).sum(1)
    got = total(vlb.gaussian_terms(schedule, x_0, MEAN, VARIANCE))
    return misfit(got, expected, 1 + expected.abs(), 16 + 4 * schedule.T)


NAMES = ("linear-1", "linear-2", "constant-20", "cosine-10", "jsd-10", "linear-1000")


@pytest.mark.parametrize("name", NAMES)
def test_the_bound_of_the_exact_chain_is_minus_log_p_for_every_number_of_steps(name: str) -> None:
    assert attains(lambda bound: bound.total, named(name)) <= 1


BROKEN_TOTALS: dict[str, Callable[[vlb.Bound], Tensor]] = {
    "prior missing": lambda b: b.steps.sum(1) + b.decoder,
    "steps averaged": lambda b: b.prior + b.steps.mean(1) + b.decoder,
    "last term repeated": lambda b: b.prior + b.steps[:, -1] * b.steps.shape[1] + b.decoder,
    "decoder missing": lambda b: b.prior + b.steps.sum(1),
    "bits": lambda b: vlb.bits_per_dim(b.total),
    "mean over dimensions": lambda b: b.total / 2,
}


@pytest.mark.parametrize("broken", BROKEN_TOTALS.values(), ids=BROKEN_TOTALS)
def test_a_broken_sum_is_not_minus_log_p(broken: Callable[[vlb.Bound], Tensor]) -> None:
    assert attains(broken, named("constant-20")) > 1


# The bound of a model: standard normal data, for which β is the exact variance and N(0, 1) the exact prior.


def bound_of(schedule: Schedule, x_0: Tensor, kind: str, gain: float = 1.0, bias: float = 0.0) -> Tensor:
    """The mean over the noises of the bound of an affine model; each term has a noise of its own."""

    def model(x: Tensor, t: int) -> Tensor | tuple[Tensor, Tensor]:
        eps = gain * schedule.sqrt_one_minus_alpha_bar[t] * x + bias
        return (eps, torch.full_like(x, 0.5)) if kind.startswith("learned") else eps

    def total(noise: Tensor) -> Tensor:
        noises = [noise] * schedule.T
        return vlb.bound_terms(model, schedule, x_0, noises, kind, "density").total  # type: ignore[arg-type]

    return average(total, x_0)


@pytest.mark.parametrize("schedule", SHORT.values(), ids=SHORT)
def test_the_perfect_model_of_standard_normal_data_attains_minus_log_p(schedule: Schedule) -> None:
    x_0 = tensors(1)
    expected = -Normal(0.0, 1.0).log_prob(x_0).sum(1)
    assert misfit(bound_of(schedule, x_0, "beta"), expected, 1 + (x_0**2).sum(1), 64 * schedule.T) <= 1


@given(
    st.sampled_from(sorted(SHORT)), st.sampled_from(("beta", "learned_first_tilde", "beta_first_tilde")),
    st.floats(0.5, 1.5), st.floats(-0.5, 0.5),
)  # fmt: skip
def test_no_model_is_below_the_entropy(name: str, kind: str, gain: float, bias: float) -> None:
    schedule = SHORT[name]
    if schedule.T == 1 and kind != "beta":
        return
    nodes = torch.cartesian_prod(NODES, NODES)
    weight = torch.cartesian_prod(WEIGHTS, WEIGHTS).prod(1)
    mean = float((weight * bound_of(schedule, nodes, kind, gain, bias)).sum())
    entropy = 1 + math.log(2 * math.pi)
    assert mean >= entropy - 64 * schedule.T * 2**-52
    # the excess is that of the means alone, or more
    assert abs(gain - 1) + abs(bias) < 1e-3 or mean > entropy + 1e-9


def test_a_bound_without_its_prior_falls_below_the_entropy() -> None:
    x_0 = torch.zeros(1, 2, dtype=torch.float64)
    whole = bound_of(SHORT["one"], x_0, "beta")
    assert float(whole - vlb.prior_term(SHORT["one"], x_0).sum()) < -float(
        Normal(0.0, 1.0).log_prob(x_0).sum()
    )


def test_each_term_of_the_bound_is_at_its_own_level() -> None:
    schedule, (x_0, *noises) = SHORT["nine"], tensors(10)
    asked: list[int] = []

    def model(x: Tensor, t: int) -> Tensor:
        asked.append(t)
        assert torch.equal(x, ddpm.q_sample(schedule, x_0, t, noises[t - 1]))
        return 0.1 * x

    got = vlb.bound_terms(model, schedule, x_0, noises, "beta", "density")
    assert asked == list(range(1, 10)) and got.steps.shape == (3, 8)
    for t in range(2, 10):
        expected = ddpm.kl_term(lambda x, t: 0.1 * x, schedule, x_0, t, noises[t - 1], "beta")
        assert misfit(got.steps[:, t - 2], expected, expected, 16) <= 1
    assert torch.equal(got.prior, vlb.prior_term(schedule, x_0).sum(1))


# The hybrid loss.


class Network(torch.nn.Module):
    """Noise and fraction from x_t, with a parameter each."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.share = torch.nn.Parameter(torch.tensor(-0.4, dtype=torch.float64))

    def forward(self, x: Tensor, t: object) -> tuple[Tensor, Tensor]:
        return self.mean * x, torch.sigmoid(self.share * x)


def pixels(shape: tuple[int, ...] = (4, 3), dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return (2 * (torch.randint(0, 256, shape, generator=generator).to(dtype) / 255) - 1).to(dtype)


Loss = Callable[..., Tensor]
STEPS = torch.tensor([1, 2, 5, 9])


def hybrid_teaches(loss: Loss) -> float:
    """The gradients of the two parameters: of the simple loss, and of λ·T times the bound."""
    schedule, x_0, noise, network = SHORT["nine"], pixels(), tensors(1, (4, 3)), Network()
    loss(network, schedule, x_0, STEPS, noise).sum().backward()
    got = [network.mean.grad, network.share.grad]
    eps, share = network(ddpm.q_sample(schedule, x_0, STEPS, noise), STEPS)
    (of_mean,) = torch.autograd.grad(((noise - eps) ** 2).mean(1).sum(), [network.mean], retain_graph=True)
    later = vlb.step_term(schedule, noise[1:], eps[1:], STEPS[1:], "eps", "learned_first_tilde", share[1:])
    first = vlb.decoder_term(schedule, x_0[:1], noise[:1], eps[:1], "learned_first_tilde", share[:1])
    (of_share,) = torch.autograd.grad(later.mean(1).sum() + first.mean(1).sum(), [network.share])
    assert got[0] is not None and got[1] is not None
    return max(misfit(got[0], of_mean, 1 + of_mean, 64), misfit(got[1], 0.01 * 9 * of_share, of_share, 64))


def hybrid(*asked: object, **options: object) -> Tensor:
    return vlb.hybrid_loss(*asked, weight=0.01, **options)  # type: ignore[arg-type]


def not_stopped(network: Network, schedule: Schedule, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    eps, share = network(ddpm.q_sample(schedule, x_0, t, noise), t)
    term = vlb._term(schedule, x_0, t, noise, eps, "learned_first_tilde", share, "discretized", 256)
    return ((noise - eps) ** 2).mean(1) + 0.01 * schedule.T * term.mean(1)


def test_the_mean_learns_from_the_simple_loss_and_the_variance_from_the_bound() -> None:
    assert hybrid_teaches(hybrid) <= 1


BROKEN_LOSSES: dict[str, Loss] = {
    "not stopped": not_stopped,
    "one term for the sum": lambda n, s, x, t, z: vlb.hybrid_loss(n, s, x, t, z, weight=0.01 / s.T),
    "bits": lambda *asked: hybrid(*asked, unit="bits"),
    "summed": lambda *asked: hybrid(*asked, reduction="sum"),
    "bound alone": lambda n, s, x, t, z: (
        hybrid(n, s, x, t, z) - ddpm.loss_simple(lambda x, t: n(x, t)[0], s, x, t, z)
    ),
}


@pytest.mark.parametrize("broken", BROKEN_LOSSES.values(), ids=BROKEN_LOSSES)
def test_a_broken_hybrid_loss_teaches_something_else(broken: Loss) -> None:
    assert hybrid_teaches(broken) > 1


def test_the_hybrid_loss_of_a_batch_is_that_of_its_samples() -> None:
    schedule, x_0, noise, network = SHORT["nine"], pixels(), tensors(1, (4, 3)), Network()
    whole = hybrid(network, schedule, x_0, STEPS, noise)
    one = [hybrid(network, schedule, x_0[i : i + 1], int(t), noise[i : i + 1]) for i, t in enumerate(STEPS)]
    whole = whole.detach()
    assert misfit(whole, torch.cat(one).detach(), whole, 16) <= 1
    shifted = [
        hybrid(network, schedule, x_0[i : i + 1], int(t), noise[i : i + 1])
        for i, t in enumerate(STEPS.roll(1))
    ]
    assert misfit(whole, torch.cat(shifted).detach(), whole, 16) > 1


# DDIM's objective.

WEIGHED = st.tuples(levels(2, lowest=1, signal=True), st.floats(0.05, 1))


def weight_is_that_of_the_divergence(
    weight: Callable[..., Tensor], schedule: Schedule, t: int, s: int, eta: float, form: str
) -> float:
    """The divergence of the family's kernels at the data and at a guess, over the squared error."""
    x_0, noise, guess = tensors(3)
    x_t = ddpm.q_sample(schedule, x_0, t, noise)
    sigma = ddim.sigma(schedule, t, s, eta)
    here, there = (ddim.posterior(schedule, x, x_t, t, s, eta) for x in (x_0, guess))
    error = {"x_0": x_0 - guess, "mu": here.mean - there.mean}
    error["eps"] = schedule.sqrt_alpha_bar[t] / schedule.sqrt_one_minus_alpha_bar[t] * error["x_0"]
    expected = kl_divergence(
        Normal(here.mean, sigma.expand_as(x_0)), Normal(there.mean, sigma.expand_as(x_0))
    )
    got = weight(schedule, t, sigma, s, form) * error[form] ** 2
    # the two means are subtracted, and so is the log of 1 from the ratio of the variances
    size = (here.mean.abs() + there.mean.abs()) * (here.mean - there.mean).abs() / sigma**2
    return misfit(got, expected, 1 + expected + size, 64 + 2 * depth(schedule, t, 0))


@given(WEIGHED, st.sampled_from(("eps", "x_0", "mu")))
def test_a_weight_of_ddim_is_that_of_the_divergence(
    drawn: tuple[tuple[Schedule, tuple[int, int]], float], form: str
) -> None:
    (schedule, (t, s)), eta = drawn
    if depth(schedule, t, 0) < 30:
        assert weight_is_that_of_the_divergence(vlb.ddim_weight, schedule, t, s, eta, form) <= 1


BROKEN_WEIGHTS: dict[str, Callable[..., Tensor]] = {
    "printed constant": lambda sch, t, sigma, s, form: 1 / (2 * sigma**2 * sch.alpha_bar[t]),
    "printed, with 1 - alpha_bar": lambda sch, t, sigma, s, form: (
        sch.one_minus_alpha_bar[t] / (2 * sigma**2 * sch.alpha_bar[t])
    ),
    "of eta = 1": lambda sch, t, sigma, s, form: vlb.ddim_weight(sch, t, ddim.sigma(sch, t, s), s, form),
    "without half": lambda sch, t, sigma, s, form: 2 * vlb.ddim_weight(sch, t, sigma, s, form),
    "one": lambda *asked: torch.ones(()),
}  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN_WEIGHTS.values(), ids=BROKEN_WEIGHTS)
@pytest.mark.parametrize("pair", [(2, 1), (7, 3)])
def test_a_broken_weight_of_ddim_is_seen(broken: Callable[..., Tensor], pair: tuple[int, int]) -> None:
    assert weight_is_that_of_the_divergence(broken, SHORT["nine"], *pair, 0.5, "eps") > 1


@given(levels(1, lowest=2, signal=True))
def test_ddim_with_eta_one_has_the_weights_of_ddpm_and_no_member_those_of_fixed_large(
    drawn: tuple[Schedule, tuple[int]],
) -> None:
    schedule, (t,) = drawn
    least = vlb.ddim_weight(schedule, t, ddim.sigma(schedule, t, t - 1))
    small, large = (ddpm.loss_weight(schedule, t, "eps", kind) for kind in ("beta_tilde", "beta"))  # type: ignore[arg-type]
    assert misfit(least, small, small, 32 + 2 * depth(schedule, t, 0)) <= 1
    assert large < least
    for eta in (0.3, 0.9):
        heavier = vlb.ddim_weight(schedule, t, ddim.sigma(schedule, t, t - 1, eta))
        # the square that is added is of second order in what eta changes of the direction
        assert heavier > least or schedule.beta[t] < 1e-6


@pytest.mark.parametrize("weight", [1.0, 1.5])
def test_the_simple_loss_is_the_objective_of_a_member(weight: float) -> None:
    t = torch.arange(2, LINEAR.T + 1)
    sigma = vlb.ddim_sigma(LINEAR, t, weight)
    got = vlb.ddim_weight(LINEAR, t, sigma)
    assert misfit(got, torch.full_like(got, weight), got, 64) <= 1
    share = sigma / ddim.sigma(LINEAR, t, t - 1)
    assert bool(((share > 0) & (share < 1)).all())
    other = vlb.ddim_weight(LINEAR, t, 1.001 * sigma)
    assert misfit(other, torch.full_like(got, weight), got, 64) > 1


def test_no_member_has_less_than_the_least_weight() -> None:
    least = float(vlb.ddim_weight(LINEAR, 500, ddim.sigma(LINEAR, 500, 499)))
    at_least = vlb.ddim_sigma(LINEAR, 500, math.nextafter(least, 1) * (1 + 1e-12))
    # the weight is stationary there, so sigma has half the digits
    assert abs(float(at_least / ddim.sigma(LINEAR, 500, 499)) - 1) < 1e-4
    with pytest.raises(ValueError, match="weight must be at least"):
        vlb.ddim_sigma(LINEAR, 500, 0.99 * least)


@given(levels(1, lowest=1, signal=True), st.floats(0.01, 3))
def test_a_direct_term_is_minus_the_log_density_of_the_data(
    drawn: tuple[Schedule, tuple[int]], sigma: float
) -> None:
    schedule, (t,) = drawn
    if depth(schedule, t, 0) > 12:
        return
    x_0, noise, eps = tensors(3)
    x_t = ddpm.q_sample(schedule, x_0, t, noise)
    guess = (x_t - schedule.sqrt_one_minus_alpha_bar[t] * eps) / schedule.sqrt_alpha_bar[t]
    expected = -Normal(guess, sigma).log_prob(x_0)
    got = vlb.ddim_direct_term(schedule, noise, eps, t, sigma)
    size = (x_0.abs() + guess.abs() + x_t.abs() / schedule.sqrt_alpha_bar[t]) * (x_0 - guess).abs() / sigma**2
    condition = 2 + expected.abs() + size + (x_0 - guess) ** 2 / sigma**2
    assert misfit(got, expected, condition, 32 + 4 * depth(schedule, t, 0)) <= 1
    printed = got + ((noise - eps) ** 2) / (2 * sigma**2)
    assert misfit(printed, expected, condition, 32 + 4 * depth(schedule, t, 0)) > 1


# Dtypes, devices, bad input.


def questions(x: Tensor) -> Iterator[Tensor]:
    """Every function on tensors like this one, which holds bin centres."""
    schedule, half, steps = (
        SHORT["nine"],
        torch.full_like(x, 0.5),
        torch.full((x.shape[0],), 3, device=x.device),
    )
    pair = lambda x, t: (0.5 * x, torch.sigmoid(x))  # noqa: E731
    yield vlb.prior_term(schedule, x)
    yield vlb.step_term(schedule, x, half, steps)
    yield vlb.step_term(schedule, x, half, 3, "x_0", "learned", half)
    bound = vlb.bound_terms(pair, schedule, x, [half] * 9, "learned_first_tilde")
    yield from (bound.prior, bound.steps, bound.decoder, bound.total)
    yield vlb.hybrid_loss(pair, schedule, x, steps, half)
    yield vlb.gaussian_terms(schedule, x, half, half).total
    yield vlb.ddim_direct_term(schedule, x, half, steps, 0.3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_have_the_dtype_and_device_of_the_data(dtype: torch.dtype, device: torch.device) -> None:
    wide, here, nowhere = pixels(), pixels().to(device, dtype), pixels().to("meta", dtype)
    for exact, got, shape in zip(questions(wide), questions(here), questions(nowhere), strict=True):
        assert got.dtype == shape.dtype == dtype and got.device == here.device and shape.is_meta
        assert got.shape == shape.shape == exact.shape
        # float32 noise is added to float32 data: the terms that subtract them keep half of the digits
        assert float((got.double().cpu() - exact).abs().max()) <= 64 * torch.finfo(dtype).eps ** 0.75 * (
            1 + float(exact.abs().max())
        )


X = pixels()
BAD: dict[str, tuple[Callable[[], object], str]] = {
    "level 1": (lambda: vlb.step_term(SHORT["nine"], X, X, 1), "t must lie in 2..9, got 1"),
    "form": (lambda: vlb.step_term(SHORT["nine"], X, X, 2, "v"), "form must be one of mu, x_0, eps"),  # type: ignore[arg-type]
    "kind": (lambda: vlb.step_term(SHORT["nine"], X, X, 2, "eps", "learned"), "learned must be given"),
    "shape": (lambda: vlb.step_term(SHORT["nine"], X, X[:1], 2), "prediction must have the shape of target"),
    "noises": (lambda: vlb.bound_terms(lambda x, t: x, SHORT["nine"], X, [X] * 8), "noises must hold one"),
    "sigma_1": (
        lambda: vlb.bound_terms(lambda x, t: x, SHORT["nine"], X, [X] * 9, "beta_tilde"),
        "variance must be positive at t = 1, got 0 for 'beta_tilde'",
    ),
    "decoder": (
        lambda: vlb.decoder_term(SHORT["nine"], X, X, X, decoder="logistic"),  # type: ignore[arg-type]
        "decoder must be one of discretized, density",
    ),
    "latents": (
        lambda: vlb.bound_terms(lambda x, t: x, SHORT["nine"], X / 3, [X] * 9),
        "x must lie on the 256 centres from -1 to 1",
    ),
    "weight": (
        lambda: vlb.hybrid_loss(lambda x, t: (x, x**2), SHORT["nine"], X, 2, X, weight=-1.0),
        "weight must be at least 0, got -1.0",
    ),
    "unit": (
        lambda: vlb.hybrid_loss(lambda x, t: (x, x**2), SHORT["nine"], X, 2, X, unit="bans"),  # type: ignore[arg-type]
        "unit must be one of nats, bits",
    ),
    "no fraction": (
        lambda: vlb.hybrid_loss(lambda x, t: x, SHORT["nine"], X, 2, X),  # type: ignore[arg-type, return-value]
        "learned must be given for the learned variances only",
    ),
    "negative": (lambda: vlb.gaussian_terms(SHORT["two"], X, X, -(X**2) - 1), "variance must be positive"),
    "promotion": (
        lambda: vlb.gaussian_terms(SHORT["two"], X, X.float(), X**2),
        "mean must have the dtype of x_0",
    ),
    "sigma": (lambda: vlb.ddim_weight(SHORT["nine"], 3, 0.0), "sigma must lie in"),
    "wide sigma": (lambda: vlb.ddim_weight(SHORT["nine"], 3, 0.9), "sigma must lie in"),
    "to data": (lambda: vlb.ddim_weight(SHORT["nine"], 3, 0.1, 0), "s must lie in 1..9, got 0"),
    "weight form": (lambda: vlb.ddim_weight(SHORT["nine"], 3, 0.1, 2, "v"), "form must be one of"),  # type: ignore[arg-type]
    "direct": (
        lambda: vlb.ddim_direct_term(SHORT["nine"], X, X, 3, -0.1),
        "sigma must lie strictly between 0",
    ),
    "no signal": (lambda: vlb.ddim_direct_term(named("jsd-10"), X, X, 10, 0.1), "signal-to-noise ratio"),
}


@pytest.mark.parametrize(("ask", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_by_name_bound_and_value(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.").replace("(", r"\(")):
        ask()
