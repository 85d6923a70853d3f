"""The laws of the variational bound, each with a broken form that it rejects."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import flint
import pytest
import sympy as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference_laws import levels, misfit, named, tensors
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

import derivations
from derivations import chains as exact
from derivations.kit import Enumeration
from refdiff import ddpm, elbo
from refdiff.data import GaussianLaw
from refdiff.elbo import FiniteChain, FiniteModel, GaussianChain, GaussianModel, Terms
from refdiff.gaussian import Gaussian
from refdiff.schedule import Schedule, linear

REGISTRY = derivations.registry()
SIZES = st.lists(st.integers(2, 4), min_size=2, max_size=5)
SEEDS = st.integers(0, 2**31)
Pair = tuple[FiniteChain, FiniteModel]


def drawn_pair(sizes: list[int], seed: int, dtype: torch.dtype = torch.float64) -> Pair:
    """A chain and a model with states of these numbers, every probability well above 0."""
    generator = torch.Generator().manual_seed(seed)

    def rows(*shape: int) -> Tensor:
        table = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.1
        return (table / table.sum(-1, keepdim=True)).to(dtype)

    steps = list(itertools.pairwise(sizes))
    chain = FiniteChain(rows(sizes[0]), tuple(rows(a, b) for a, b in steps))
    return chain, FiniteModel(rows(sizes[-1]), tuple(rows(b, a) for a, b in steps))


def pairs() -> st.SearchStrategy[Pair]:
    return st.builds(drawn_pair, SIZES, SEEDS)


def exact_pair(pair: exact.Pair) -> Pair:
    """An exact pair of chains as tables, each read off its law of paths."""
    return (
        FiniteChain(_law(pair.q, 0), tuple(_kernel(pair.q, t - 1, t) for t in range(1, pair.T + 1))),
        FiniteModel(_law(pair.p, pair.T), tuple(_kernel(pair.p, t, t - 1) for t in range(1, pair.T + 1))),
    )


def _states(law: exact.Law, level: int) -> int:
    return 1 + max(path[level] for path in law.weights)


def _law(law: exact.Law, level: int) -> Tensor:
    found = {path[level]: law.of(path, (level,)) for path in law.paths((level,))}
    return torch.tensor([float(found[k]) for k in range(len(found))], dtype=torch.float64)


def _kernel(law: exact.Law, start: int, end: int) -> Tensor:
    table = torch.zeros(_states(law, start), _states(law, end), dtype=torch.float64)
    for path in law.paths((start, end)):
        table[path[start], path[end]] = float(law.given(path, (end,), (start,)))
    return table


def exact_mean(pair: exact.Pair, claim: sp.Expr, time: int = 1) -> float:
    """The mean of a claim about probabilities over q(x_{0:T}): summed over paths in rationals and logs."""
    claim = claim.subs({exact.T: pair.T, exact.t: time}).doit()
    total = exact.Logs()
    for path, weight in pair.q.weights.items():
        total += exact.Logs(weight) * exact.value(claim, pair, path)
    ball = flint.arb(flint.fmpq(total.number.numerator, total.number.denominator))
    for prime, power in total.primes.items():
        ball += flint.arb(flint.fmpq(power.numerator, power.denominator)) * flint.arb(prime).log()
    return float(ball.mid())


def roundings(chain: FiniteChain) -> float:
    """Roundings of a mean of logs: each table entry is a sum of products, and so many terms are added."""
    states = max(max(kernel.shape) for kernel in chain.kernels)
    return elbo.forward_paths(chain).numel() + 4 * chain.T * (states + 1)


def agree(chain: FiniteChain, got: Tensor, want: Tensor | float) -> float:
    """An error in units of its tolerance; the terms of a divergence D have a sum of sizes below D + 2."""
    return misfit(got, want, torch.as_tensor(want, dtype=torch.float64).abs() + 2, roundings(chain))


# Broken forms of the terms.


def turned(chain: FiniteChain, model: FiniteModel) -> Terms:
    """The divergences the wrong way round."""
    good = elbo.terms(chain, model)
    both = [chain.data[:, None] * chain.given_data(t) for t in range(2, chain.T + 1)]
    wrong = [
        elbo.divergence(
            both[k][:, :, None] * model.kernels[k + 1], both[k][:, :, None] * chain.posterior(k + 2)
        )
        for k in range(chain.T - 1)
    ]
    last = chain.data[:, None] * chain.given_data(chain.T)
    prior = elbo.divergence(chain.data[:, None] * model.prior, last)
    return Terms(good.reconstruction, torch.stack(wrong) if wrong else good.denoising, prior)


def without_prior(chain: FiniteChain, model: FiniteModel) -> Terms:
    return replace(elbo.terms(chain, model), prior=torch.zeros((), dtype=torch.float64))


def not_given_data(chain: FiniteChain, model: FiniteModel) -> Terms:
    """Posteriors that are not given the data beside a prior term that is."""
    return replace(elbo.terms(chain, model), denoising=elbo.vanilla_terms(chain, model).steps[1:])


def marginal_prior(chain: FiniteChain, model: FiniteModel) -> Terms:
    return replace(elbo.terms(chain, model), prior=elbo.vanilla_terms(chain, model).prior)


def x_1_left_free(chain: FiniteChain, model: FiniteModel) -> Terms:
    """The mean of −log p(x_0 | x_1) over x_0 alone, then over all x_1 alike."""
    first = chain.data[:, None].expand(-1, chain.kernels[0].shape[1]) / chain.kernels[0].shape[1]
    wrong = -torch.xlogy(first, model.kernels[0].T).sum()
    return replace(elbo.terms(chain, model), reconstruction=wrong)


BROKEN = {f.__name__: f for f in (turned, without_prior, not_given_data, marginal_prior, x_1_left_free)}


def terms_are_exact(terms: Callable[..., Terms], pair: exact.Pair) -> float:
    """Every term against a sum over paths in rational numbers and logs of primes."""
    chain, model = exact_pair(pair)
    got = terms(chain, model)
    prior = sp.log(exact.noised(exact.T) / exact.p(exact.END))
    step = sp.log(exact.posterior(exact.t) / exact.reverse(exact.t))
    first = -sp.log(exact.reverse(sp.Integer(1)))
    errors = [agree(chain, got.prior, exact_mean(pair, prior))]
    errors += [agree(chain, got.reconstruction, exact_mean(pair, first))]
    for t in range(2, pair.T + 1):
        errors.append(agree(chain, got.denoising[t - 2], exact_mean(pair, step, t)))
    return max(errors)


@pytest.mark.parametrize("pair", exact.pairs(), ids=lambda pair: pair.name)
def test_every_term_is_that_of_the_enumerated_paths(pair: exact.Pair) -> None:
    assert terms_are_exact(elbo.terms, pair) <= 1


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_wrong_term_is_rejected(broken: Callable[..., Terms]) -> None:
    assert terms_are_exact(broken, exact.pairs()[-1]) > 1e6


def the_total_is_the_mean_log_weight(total: Callable[..., Tensor], pair: Pair) -> float:
    chain, model = pair
    bound = -(elbo.forward_paths(chain) * elbo.log_weights(chain, model)).sum()
    return agree(chain, total(chain, model), bound)


def vanilla_total(chain: FiniteChain, model: FiniteModel) -> Tensor:
    return elbo.vanilla_terms(chain, model).total


def entropy_forgotten(chain: FiniteChain, model: FiniteModel) -> Tensor:
    found = elbo.vanilla_terms(chain, model)
    return found.total - found.entropy


def entropy_subtracted(chain: FiniteChain, model: FiniteModel) -> Tensor:
    found = elbo.vanilla_terms(chain, model)
    return found.total - 2 * found.entropy


@given(pairs())
def test_both_decompositions_are_the_bound(pair: Pair) -> None:
    assert the_total_is_the_mean_log_weight(lambda c, m: elbo.terms(c, m).total, pair) <= 1
    assert the_total_is_the_mean_log_weight(vanilla_total, pair) <= 1


@pytest.mark.parametrize("broken", [*BROKEN.values(), entropy_forgotten, entropy_subtracted])
def test_a_wrong_decomposition_is_not_the_bound(broken: Callable[..., Terms | Tensor]) -> None:
    def total(chain: FiniteChain, model: FiniteModel) -> Tensor:
        found = broken(chain, model)
        return found.total if isinstance(found, Terms) else found

    assert the_total_is_the_mean_log_weight(total, drawn_pair([3, 2, 3, 2], 1)) > 1e6


def the_mean_weight_is_the_likelihood(log_weights: Callable[..., Tensor], pair: Pair) -> float:
    chain, model = pair
    given_data = elbo.forward_paths(chain) / chain.data.reshape(-1, *[1] * chain.T)
    mean = (given_data * log_weights(chain, model).exp()).flatten(1).sum(1)
    paths = elbo.reverse_paths(model).flatten(1).sum(1)
    return max(agree(chain, mean, model.marginal(0)), agree(chain, mean, paths))


@given(pairs())
def test_the_mean_weight_is_the_likelihood(pair: Pair) -> None:
    assert the_mean_weight_is_the_likelihood(elbo.log_weights, pair) <= 1
    prior = pair[1].prior.log()
    assert the_mean_weight_is_the_likelihood(lambda *both: elbo.log_weights(*both) - prior, pair) > 1e6
    assert the_mean_weight_is_the_likelihood(lambda *both: -elbo.log_weights(*both), pair) > 1e3


@given(pairs())
def test_likelihood_is_bound_plus_gap(pair: Pair) -> None:
    chain, _ = pair
    evidence, bound, gap = elbo.evidence(*pair), -elbo.terms(*pair).total, elbo.gap(*pair)
    assert agree(chain, evidence - gap, bound) <= 2
    assert gap >= 0
    assert agree(chain, evidence + gap, bound) > 1e3


@given(pairs())
def test_the_path_divergence_is_the_bound_less_the_entropy(pair: Pair) -> None:
    chain, model = pair
    total, entropy = elbo.terms(chain, model).total, torch.special.entr(chain.data).sum()
    assert agree(chain, elbo.path_divergence(chain, model), total - entropy) <= 2
    assert agree(chain, elbo.path_divergence(chain, model), total) > 1e6


def information_separates_the_terms(information: Callable[[FiniteChain], Tensor], pair: Pair) -> float:
    """Both kinds of terms differ by the information, whatever the model."""
    chain, model = pair
    found = information(chain)
    conditioned, free = elbo.terms(chain, model), elbo.vanilla_terms(chain, model)
    first = conditioned.reconstruction - free.steps[0]
    apart = torch.cat([first[None], conditioned.denoising - free.steps[1:]])
    return agree(chain, found, apart)


def information_of_x_t(chain: FiniteChain) -> Tensor:
    """I(x_0; x_{t-1}): what x_t knows already is not taken off."""
    found = []
    for t in range(chain.T):
        joint = chain.data[:, None] * chain.given_data(t)
        found.append(elbo.divergence(joint, chain.data[:, None] * chain.marginal(t)))
    return torch.stack(found)


@given(pairs())
def test_conditioning_on_the_data_adds_information_whatever_the_model(pair: Pair) -> None:
    chain, model = pair
    assert information_separates_the_terms(elbo.conditional_information, pair) <= 2
    other = FiniteModel(model.prior.flip(0), tuple(kernel.flip(1) for kernel in model.kernels))
    assert information_separates_the_terms(elbo.conditional_information, (chain, other)) <= 2
    assert information_separates_the_terms(information_of_x_t, pair) > 1e3


@given(pairs())
def test_the_information_of_all_steps_is_the_entropy_of_the_data(pair: Pair) -> None:
    chain, _ = pair
    known, entropy = information_of_x_t(chain), torch.special.entr(chain.data).sum()
    last = elbo.divergence(
        chain.data[:, None] * chain.given_data(chain.T), chain.data[:, None] * chain.marginal(chain.T)
    )
    steps = elbo.conditional_information(chain)
    assert agree(chain, last + steps.sum(), entropy) <= 2
    assert agree(chain, known - torch.cat([known[1:], last[None]]), steps) <= 2
    assert agree(chain, last + steps[1:].sum(), entropy) > 1e3


def reversal(chain: FiniteChain) -> FiniteModel:
    kernels = tuple(chain.reversed_kernel(t) for t in range(1, chain.T + 1))
    return FiniteModel(chain.marginal(chain.T), kernels)


@given(pairs())
def test_the_reversed_chain_is_the_chain(pair: Pair) -> None:
    chain, model = pair
    backwards = reversal(chain)
    assert agree(chain, elbo.reverse_paths(backwards), elbo.forward_paths(chain)) <= 1
    assert elbo.path_divergence(chain, backwards) <= roundings(chain) * torch.finfo(torch.float64).eps
    assert elbo.terms(chain, model).total >= elbo.terms(chain, backwards).total


def later_states_do_not_matter(kernel: Callable[[FiniteChain, int], Tensor], chain: FiniteChain) -> float:
    """q(x_{t-1} | x_t, ..., x_T) from the law of all paths, against a kernel of x_t alone."""
    errors = []
    for t in range(1, chain.T + 1):
        paths = elbo.forward_paths(chain)
        joint = paths.sum(tuple(range(t - 1))) if t > 1 else paths
        given_later = (joint / joint.sum(0)).flatten(2) if t < chain.T else (joint / joint.sum(0))[..., None]
        errors.append(agree(chain, given_later, kernel(chain, t).T[..., None].expand(given_later.shape)))
    return max(errors)


def same_kernel(chain: FiniteChain, t: int) -> Tensor:
    """The forward kernel's columns made into laws: Bayes' rule without the law of x_{t-1}."""
    turned_around = chain.kernels[t - 1].T
    return turned_around / turned_around.sum(-1, keepdim=True)


@given(pairs())
def test_the_reversed_chain_is_markov(pair: Pair) -> None:
    assert later_states_do_not_matter(lambda chain, t: chain.reversed_kernel(t), pair[0]) <= 1
    assert later_states_do_not_matter(same_kernel, pair[0]) > 1e6


def posteriors_are_bayes_rule(posterior: Callable[[FiniteChain, int], Tensor], chain: FiniteChain) -> float:
    """They mix to the reversed kernel, and give the law of two neighbours given the data."""
    errors = []
    for t in range(1, chain.T + 1):
        of_data = (chain.data[:, None] * chain.given_data(t) / chain.marginal(t))[:, :, None]
        errors.append(agree(chain, (of_data * posterior(chain, t)).sum(0), chain.reversed_kernel(t)))
        both = posterior(chain, t) * chain.given_data(t)[:, :, None]
        errors.append(agree(chain, both, chain.given_data(t - 1)[:, None, :] * chain.kernels[t - 1].T))
    return max(errors)


def data_ignored(chain: FiniteChain, t: int) -> Tensor:
    return chain.reversed_kernel(t).expand(len(chain.data), -1, -1)


def marginals_exchanged(chain: FiniteChain, t: int) -> Tensor:
    """Bayes' rule with the law of the later state in the place of the earlier one's."""
    return chain.given_data(t)[:, :, None] * chain.kernels[t - 1].T / chain.given_data(t - 1)[:, None, :]


@given(pairs().filter(lambda pair: pair[0].T > 1))
def test_posteriors_are_bayes_rule(pair: Pair) -> None:
    assert posteriors_are_bayes_rule(FiniteChain.posterior, pair[0]) <= 1
    assert posteriors_are_bayes_rule(data_ignored, pair[0]) > 1e6
    assert posteriors_are_bayes_rule(marginals_exchanged, pair[0]) > 1e6


@given(pairs().filter(lambda pair: pair[0].T > 1), SEEDS)
def test_leaving_a_level_out_never_raises_the_bound(pair: Pair, seed: int) -> None:
    chain, model = pair
    t = 1 + seed % (chain.T - 1)
    fewer, merged = elbo.merge(chain, model, t)
    assert agree(chain, elbo.forward_paths(fewer), elbo.forward_paths(chain).sum(t)) <= 1
    assert agree(chain, elbo.reverse_paths(merged), elbo.reverse_paths(model).sum(t)) <= 1
    lost = elbo.terms(chain, model).total - elbo.terms(fewer, merged).total
    forward, backward = elbo.forward_paths(chain), elbo.reverse_paths(model)
    q_given, p_given = (law / law.sum(t, keepdim=True) for law in (forward, backward))
    between = (forward * (q_given / p_given).log()).sum()
    assert agree(chain, lost, between) <= 4
    assert lost >= 0
    assert agree(chain, lost, 0.0) > 1e3


def best_error(chain: FiniteChain, t: int) -> Tensor:
    """The mean squared error of the best prediction of x_0, its states numbered, from x_t."""
    joint = chain.data[:, None] * chain.given_data(t)
    states = torch.arange(len(chain.data), dtype=torch.float64)[:, None]
    guess = (joint * states).sum(0) / joint.sum(0)
    return (joint * (states - guess) ** 2).sum()


@given(pairs())
def test_the_best_prediction_errs_less_where_there_is_less_noise(pair: Pair) -> None:
    errors = [best_error(pair[0], t) for t in range(pair[0].T + 1)]
    largest = (len(pair[0].data) - 1) ** 2
    slack = roundings(pair[0]) * torch.finfo(torch.float64).eps * largest
    assert all(before <= after + slack for before, after in itertools.pairwise(errors))
    assert errors[-1] > errors[0]


# The binomial kernel.


def marginal_is_the_kernel_step_by_step(
    marginal: Callable[..., Tensor], schedule: Schedule, t: int, chance: float
) -> float:
    start = torch.tensor([chance], dtype=torch.float64)
    now = start
    for step in range(1, t + 1):
        now = elbo.binomial_kernel(schedule, now, step)
    return misfit(now, marginal(schedule, start, t), 1, 4 * t + 8)


def marginal_with_a_root(schedule: Schedule, chance_0: Tensor, t: int) -> Tensor:
    return 0.5 + schedule.sqrt_alpha_bar[t] * (chance_0 - 0.5)


@given(levels(count=1, lowest=1), st.floats(0.001, 0.999))
def test_the_binomial_marginal_is_the_kernel_step_by_step(
    drawn: tuple[Schedule, tuple[int, ...]], chance: float
) -> None:
    schedule, (t,) = drawn
    assert marginal_is_the_kernel_step_by_step(elbo.binomial_marginal, schedule, min(t, 50), chance) <= 1
    steep = linear(5, 0.1, 0.5)
    assert marginal_is_the_kernel_step_by_step(marginal_with_a_root, steep, 1 + t % 5, 0.9) > 1e6


def binomial_posterior_is_bayes(posterior: Callable[..., Tensor], T: int, chance: float) -> float:
    """Against the tables of the chain: given a bit of the data, and given its law."""
    schedule = linear(T, 0.02, 0.6)
    chain = elbo.binomial_chain(schedule, chance)
    errors = []
    for t in range(1, T + 1):
        for bit in (0, 1):
            x_t = torch.full((3,), float(bit), dtype=torch.float64)
            law = torch.tensor([0.0, 1.0, chance], dtype=torch.float64)
            tables = [*chain.posterior(t)[:, bit, 1], chain.reversed_kernel(t)[bit, 1]]
            errors.append(agree(chain, posterior(schedule, law, x_t, t), torch.stack(tables)))
    return max(errors)


def gaussian_habit(schedule: Schedule, chance_0: Tensor, x_t: Tensor, t: int) -> Tensor:
    """Roots of the levels, as a Gaussian kernel has them."""
    sign, lean = 2 * x_t - 1, 2 * chance_0 - 1
    alpha, before = schedule.alpha[t].sqrt(), schedule.alpha_bar[t - 1].sqrt()
    return (1 + alpha * sign) * (1 + before * lean) / (2 * (1 + alpha * before * sign * lean))


def x_t_ignored(schedule: Schedule, chance_0: Tensor, x_t: Tensor, t: int) -> Tensor:
    return elbo.binomial_marginal(schedule, chance_0, t - 1)


@given(st.integers(1, 6), st.floats(0.01, 0.99))
def test_the_binomial_posterior_is_bayes_rule_on_the_tables(T: int, chance: float) -> None:
    assert binomial_posterior_is_bayes(elbo.binomial_posterior, T, chance) <= 1
    for broken in (gaussian_habit, x_t_ignored):
        assert binomial_posterior_is_bayes(broken, T, chance) > 1e6


def binomial_terms_are_those_of_the_tables(kl: Callable[..., Tensor], chance: float, T: int) -> float:
    """The mean divergence of the posteriors from the reversed kernel, bit by bit and from the tables."""
    schedule = linear(T, 0.05, 0.5)
    chain = elbo.binomial_chain(schedule, chance)
    bits = torch.tensor([0.0, 1.0], dtype=torch.float64)
    found = elbo.terms(chain, reversal(chain))
    errors = []
    for t in range(2, T + 1):
        total = torch.zeros((), dtype=torch.float64)
        for bit in (0.0, 1.0):
            x_t = torch.full_like(bits, bit)
            given_data = elbo.binomial_posterior(schedule, bits, x_t, t)
            free = elbo.binomial_posterior(schedule, torch.full_like(bits, chance), x_t, t)
            reached = elbo.binomial_marginal(schedule, bits, t)
            weight = chain.data * torch.where(x_t == 1, reached, 1 - reached)
            total = total + (weight * kl(given_data, free)).sum()
        errors.append(agree(chain, total, found.denoising[t - 2]))
        errors.append(agree(chain, total, elbo.conditional_information(chain)[t - 1]))
    return max(errors)


def outcome_forgotten(chance_0: Tensor, chance_1: Tensor) -> Tensor:
    return chance_0 * (chance_0 / chance_1).log()


@given(st.floats(0.01, 0.99), st.integers(2, 5))
def test_binomial_terms_are_those_of_the_tables(chance: float, T: int) -> None:
    assert binomial_terms_are_those_of_the_tables(elbo.binomial_kl, chance, T) <= 1
    for broken in (outcome_forgotten, lambda a, b: elbo.binomial_kl(b, a)):
        assert binomial_terms_are_those_of_the_tables(broken, chance, T) > 1e3


@given(st.floats(0.01, 0.99), st.integers(1, 5))
def test_the_binomial_prior_term_is_that_of_the_tables(chance: float, T: int) -> None:
    schedule = linear(T, 0.05, 0.5)
    chain = elbo.binomial_chain(schedule, chance)
    bits, coin = torch.tensor([0.0, 1.0], dtype=torch.float64), torch.full((2,), 0.5, dtype=torch.float64)
    model = FiniteModel(coin, reversal(chain).kernels)
    prior = (chain.data * elbo.binomial_prior_term(schedule, bits)).sum()
    assert agree(chain, prior, elbo.terms(chain, model).prior) <= 1
    of_the_mean = elbo.binomial_prior_term(schedule, torch.tensor(chance, dtype=torch.float64))
    assert agree(chain, of_the_mean, elbo.terms(chain, model).prior) > 1e3


def test_a_divergence_keeps_its_digits_where_the_laws_are_near() -> None:
    chance = torch.tensor([0.3, 0.5], dtype=torch.float64)
    shift = 2.0**-30
    series = shift**2 / (2 * chance * (1 - chance))
    # the next term of the expansion is of relative size shift
    assert ((elbo.binomial_kl(chance, chance + shift) / series - 1).abs() < 8 * shift).all()
    naive = chance * (chance / (chance + shift)).log()
    naive = naive + (1 - chance) * ((1 - chance) / (1 - chance - shift)).log()
    assert ((naive / series - 1).abs() > 8 * shift).any()


def test_a_divergence_is_infinite_where_the_model_excludes_the_data() -> None:
    zero, half, one = (torch.tensor([v], dtype=torch.float64) for v in (0.0, 0.5, 1.0))
    assert elbo.binomial_kl(half, one).isinf()
    assert elbo.binomial_kl(one, one) == 0
    assert misfit(elbo.binomial_kl(zero, half), math.log(2), 1, 4) <= 1


# The Gaussian kernel.


def drawn_gaussians(T: int, seed: int) -> tuple[GaussianChain, GaussianModel]:
    """A chain and a model near its reversal, so that no divergence is huge."""
    z = tensors(9, (T,), seed=seed)
    scalars = [value[0] for value in z[:4]]
    chain = GaussianChain(
        scalars[0], (scalars[1] / 2).exp(), 0.5 + torch.sigmoid(z[4]), 0.1 + torch.sigmoid(z[5])
    )
    best = elbo.gaussian_reversal(chain)
    model = GaussianModel(
        best.mean + scalars[2], best.variance * (scalars[3] / 2).exp(), best.slopes + z[6] / 4,
        best.shifts + z[7] / 2, best.variances * (z[8] / 4).exp(),
    )  # fmt: skip
    return chain, model


GAUSSIANS = st.builds(drawn_gaussians, st.integers(1, 6), SEEDS)


def forward_law(chain: GaussianChain) -> MultivariateNormal:
    """The joint law of x_0, ..., x_T: x = L(noise), a triangular map."""
    size = chain.T + 1
    mean, factor = torch.zeros(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64)
    mean[0], factor[0, 0] = chain.mean, chain.variance.sqrt()
    for t in range(1, size):
        mean[t], factor[t] = chain.slopes[t - 1] * mean[t - 1], chain.slopes[t - 1] * factor[t - 1]
        factor[t, t] = chain.variances[t - 1].sqrt()
    return MultivariateNormal(mean, scale_tril=factor)


def reverse_law(model: GaussianModel) -> MultivariateNormal:
    """The joint law of x_0, ..., x_T under the model."""
    size = len(model.slopes) + 1
    mean, factor = torch.zeros(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64)
    mean[-1], factor[-1, -1] = model.mean, model.variance.sqrt()
    for t in range(size - 2, -1, -1):
        mean[t] = model.slopes[t] * mean[t + 1] + model.shifts[t]
        factor[t] = model.slopes[t] * factor[t + 1]
        factor[t, t] = model.variances[t].sqrt()
    return MultivariateNormal(mean, covariance_matrix=factor @ factor.T)


def gaussian_total_is_the_path_divergence(terms: Callable[..., Terms], pair: tuple) -> float:  # type: ignore[type-arg]
    """−K = H(x_0) + KL between two Gaussians of T+1 dimensions, by matrices."""
    chain, model = pair
    q_law, p_law = forward_law(chain), reverse_law(model)
    entropy = (2 * math.pi * math.e * chain.variance).log() / 2
    condition = torch.linalg.cond(p_law.covariance_matrix) + torch.linalg.cond(q_law.covariance_matrix)
    want = entropy + kl_divergence(q_law, p_law)
    return misfit(terms(chain, model).total, want, (want.abs() + 2) * condition, 8 * (chain.T + 1) ** 2)


def gaussian_turned(chain: GaussianChain, model: GaussianModel) -> Terms:
    """The divergence of the prior from x_T."""
    law = Gaussian((chain.scale()[-1] * chain.mean)[None], chain.noise()[-1:])
    wrong = Gaussian(model.mean[None], model.variance[None]).kl(law)[0]
    spread = chain.scale()[-1] ** 2 * chain.variance / (2 * chain.noise()[-1])
    return replace(elbo.gaussian_terms(chain, model), prior=wrong + spread)


def gaussian_data_at_their_mean(chain: GaussianChain, model: GaussianModel) -> Terms:
    """The prior term as if every x_0 were the mean."""
    spread = chain.scale()[-1] ** 2 * chain.variance / (2 * model.variance)
    good = elbo.gaussian_terms(chain, model)
    return replace(good, prior=good.prior - spread)


@given(GAUSSIANS)
def test_gaussian_terms_sum_to_the_divergence_of_the_paths(pair: tuple[GaussianChain, GaussianModel]) -> None:
    assert gaussian_total_is_the_path_divergence(elbo.gaussian_terms, pair) <= 1
    for broken in (gaussian_turned, gaussian_data_at_their_mean):
        assert gaussian_total_is_the_path_divergence(broken, pair) > 10


@given(GAUSSIANS)
def test_the_bound_of_the_exact_reverse_chain_is_the_entropy_of_gaussian_data(
    pair: tuple[GaussianChain, GaussianModel],
) -> None:
    chain, model = pair
    best = elbo.gaussian_terms(chain, elbo.gaussian_reversal(chain)).total
    entropy = (2 * math.pi * math.e * chain.variance).log() / 2
    assert misfit(best, entropy, entropy.abs() + 4, 32 * (chain.T + 1)) <= 1
    assert elbo.gaussian_terms(chain, model).total > best


def information_is_two_variances(
    information: Callable[..., Tensor], schedule: Schedule, t: int, variance: float
) -> float:
    """Half the log of two variances of x_{t-1}: given x_t, and given x_0 too."""
    x = torch.zeros(1, 1, dtype=torch.float64)
    kept = ddpm.posterior(schedule, x, x, t).variance
    before, after = (schedule.alpha_bar[k] * variance + schedule.one_minus_alpha_bar[k] for k in (t - 1, t))
    left = before * schedule.beta[t] / after
    got = information(schedule, t, variance)
    return misfit(got, (left / kept).log().squeeze() / 2, got.abs() + 1, 64)


def all_that_x_t_knows(schedule: Schedule, t: int, variance: float) -> Tensor:
    return torch.log1p(variance * schedule.snr[t - 1]) / 2


@given(levels(count=1, lowest=2, signal=True), st.floats(0.05, 20))
def test_gaussian_information_is_what_the_reversed_kernel_cannot_know(
    drawn: tuple[Schedule, tuple[int, ...]], variance: float
) -> None:
    schedule, (t,) = drawn
    assert information_is_two_variances(elbo.gaussian_information, schedule, t, variance) <= 1
    assert elbo.gaussian_information(schedule, t, variance) > 0
    assert information_is_two_variances(all_that_x_t_knows, linear(10, 0.1, 0.5), 2 + t % 9, variance) > 1e6


def drop_is_two_posterior_variances(
    drop: Callable[..., Tensor], schedule: Schedule, t: int, s: int, variance: float
) -> float:
    law = GaussianLaw(torch.zeros(1, dtype=torch.float64), torch.full((1, 1), variance, dtype=torch.float64))
    x = torch.zeros(1, 1, dtype=torch.float64)
    after, before = (law.posterior_covariance(schedule, x, level).flatten() for level in (t, s))
    return misfit(drop(schedule, t, s, variance), (after - before).squeeze(), variance, 64)


def share_of_the_signal(schedule: Schedule, t: int, s: int, variance: float) -> Tensor:
    total = schedule.alpha_bar[t] * variance + schedule.one_minus_alpha_bar[t]
    left = variance * schedule.one_minus_alpha_bar[t] / total
    return left * (1 - schedule.alpha_bar[t] / schedule.alpha_bar[s])


@given(levels(), st.floats(0.05, 20))
def test_the_error_drop_is_that_of_two_posterior_variances(
    drawn: tuple[Schedule, tuple[int, ...]], variance: float
) -> None:
    schedule, (t, s) = drawn
    assert drop_is_two_posterior_variances(elbo.gaussian_error_drop, schedule, t, s, variance) <= 1
    assert drop_is_two_posterior_variances(share_of_the_signal, linear(10, 0.1, 0.5), 7, 2, variance) > 1e6


def refinement_is_two_steps_for_one(gain: Callable[..., Tensor], schedule: Schedule, *at: int) -> float:
    """One step against two, each a divergence of Gaussians with the posterior of the predicted data."""
    t, u, s = at
    x_0, x_t, x_u, off_t, off_u = tensors(5, (2, 1))
    step = [
        ddpm.skip_posterior(schedule, x_0, x, a, b).kl(ddpm.skip_posterior(schedule, x_0 + off, x, a, b))
        for x, a, b, off in ((x_t, t, s, off_t), (x_t, t, u, off_t), (x_u, u, s, off_u))
    ]
    want = (step[0] - step[1] - step[2]).squeeze(-1)
    got = gain(schedule, t, u, s, off_t.squeeze(-1) ** 2, off_u.squeeze(-1) ** 2)
    # the means are subtracted, and the error of a mean is multiplied with the inverse variance
    size = sum(x.abs().squeeze(-1) for x in (x_0, x_t, x_u, off_t, off_u)) + 1
    kept = ddpm.skip_posterior(schedule, x_0, x_u, u, s).variance.min()
    return misfit(got, want, size**2 * (1 + schedule.snr[s]) / kept.sqrt(), 64)


def gain_of_the_noisier_half(
    schedule: Schedule, t: int, u: int, s: int, error_t: Tensor, error_u: Tensor
) -> Tensor:
    return (schedule.snr[u] - schedule.snr[t]) / 2 * (error_t - error_u)


@pytest.mark.parametrize("at", [(90, 40, 10), (100, 99, 1), (30, 20, 19), (3, 2, 1)])
def test_a_level_between_gains_what_the_better_prediction_saves(at: tuple[int, int, int]) -> None:
    schedule = linear(100, 0.001, 0.2)
    assert refinement_is_two_steps_for_one(elbo.refinement_gain, schedule, *at) <= 1
    assert refinement_is_two_steps_for_one(gain_of_the_noisier_half, schedule, *at) > 1e3


def bound_over_levels(schedule: Schedule, kept: list[int], error: Callable[[int], Tensor]) -> Tensor:
    """The terms of a model that predicts the data, for a sub-sequence of levels; L_0 and L_T are left out."""
    steps = itertools.pairwise(kept)
    terms = [(schedule.snr[s] - schedule.snr[t]) / 2 * error(t) for s, t in steps]
    return torch.stack(terms).sum()


def refining_lowers(error: Callable[[int], Tensor], schedule: Schedule) -> bool:
    """Nested sub-sequences from level 1 to the last: each has the levels of the one before and more."""
    grids = [sorted({1, schedule.T, *range(1, schedule.T, stride)}) for stride in (64, 32, 16, 8, 4, 2, 1)]
    bounds = [bound_over_levels(schedule, grid, error) for grid in grids]
    for coarse, fine, before, after in zip(grids, grids[1:], bounds, bounds[1:], strict=False):
        pieces = [[u for u in fine if s <= u <= t] for s, t in itertools.pairwise(coarse)]
        # every level of a piece but its last takes over what the piece paid at its last
        gains = [
            elbo.refinement_gain(schedule, piece[-1], u, s, error(piece[-1])[None], error(u)[None])
            for piece in pieces
            for s, u in itertools.pairwise(piece[:-1])
        ]
        assert misfit(before - after, torch.cat(gains).sum(), bounds[0], 8 * schedule.T) <= 1
    return all(bool(after < before) for before, after in itertools.pairwise(bounds))


def test_finer_sub_sequences_have_better_bounds_where_predictions_improve() -> None:
    schedule, variance = linear(129, 0.001, 0.1), 0.7

    def best(t: int) -> Tensor:
        total = schedule.alpha_bar[t] * variance + schedule.one_minus_alpha_bar[t]
        return variance * schedule.one_minus_alpha_bar[t] / total

    assert refining_lowers(best, schedule)
    assert not refining_lowers(lambda t: 1 - best(t), schedule)


# Small steps.


def small_step_divergence(beta: float, x_t: float) -> float:
    """Divergence of the reverse kernel from the normal law of its moments, for a mixture, by quadrature."""
    u = torch.linspace(-9, 9, 6001, dtype=torch.float64)
    before = x_t + math.sqrt(beta) * u
    forward = -((x_t - math.sqrt(1 - beta) * before) ** 2) / (2 * beta)
    log_q = forward + torch.logsumexp(log_mixture(before), 0)
    q = (log_q - torch.logsumexp(log_q, 0)).exp()
    mean = (q * u).sum()
    variance = (q * (u - mean) ** 2).sum()
    g = -((u - mean) ** 2) / (2 * variance)
    p = (g - torch.logsumexp(g, 0)).exp()
    return float(elbo.divergence(q, p / p.sum()))


def log_mixture(x: Tensor) -> Tensor:
    """Logs of two weighted normal densities."""
    weights, means, spread = (0.3, 0.7), (-1.0, 0.6), (0.8, 0.5)
    laws = zip(weights, means, spread, strict=True)
    full = torch.full_like
    return torch.stack([Gaussian(full(x, m), full(x, s**2)).log_prob(x) + math.log(w) for w, m, s in laws])


def third_derivative(x: float) -> float:
    at = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    value = torch.logsumexp(log_mixture(at[None]), 0)[0]
    for _ in range(3):
        (value,) = torch.autograd.grad(value, at, create_graph=True)
    return float(value.detach())


@pytest.mark.parametrize("x_t", [-0.4, 0.2, 1.1])
def test_the_reverse_kernel_of_a_small_step_is_normal_to_third_order(x_t: float) -> None:
    leading = third_derivative(x_t) ** 2 / 12
    ratios = [small_step_divergence(beta, x_t) / beta**3 / leading for beta in (2**-9, 2**-10, 2**-11)]
    # the error of a leading term is of first order in β: it halves, and its limit is 0
    off = [ratio - 1 for ratio in ratios]
    assert abs(off[-1]) < 2 * abs(off[0] - off[1])
    assert off[0] / off[1] == pytest.approx(2, rel=0.25)
    assert off[1] / off[2] == pytest.approx(2, rel=0.25)


# Enumeration alone, dtypes, devices, bad input.


@pytest.mark.parametrize("id", sorted(id for id in REGISTRY if id.split(".")[0] in ("elbo", "vae")))
def test_finite_chains_alone_refute_every_known_mistake(id: str) -> None:
    """Not only the symbolic proof: some path or mean of an exact chain contradicts each decoy."""
    node = REGISTRY[id]
    for decoy in node.known_decoys:
        steps = [step for step in node.steps(decoy.rhs) if isinstance(step, Enumeration)]
        assert not steps or any(step.check().status == "refuted" for step in steps), decoy.id


def test_logs_are_compared_exactly() -> None:
    half = exact.log(Fraction(9, 4))
    assert half == exact.log(Fraction(3, 2)) * exact.Logs(Fraction(2))
    assert half != exact.log(Fraction(2251799813685247, 1000799917193443))
    assert exact.exponential(half) == Fraction(9, 4)
    with pytest.raises(ValueError, match="not rational"):
        exact.exponential(half * exact.Logs(Fraction(1, 4)))
    with pytest.raises(ValueError, match="two logs"):
        half * half


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_terms_keep_the_dtype(dtype: torch.dtype) -> None:
    chain, model = drawn_pair([3, 4, 2], 5, dtype)
    found, exactly = elbo.terms(chain, model), elbo.terms(*drawn_pair([3, 4, 2], 5))
    assert {v.dtype for v in (found.reconstruction, found.denoising, found.prior)} == {dtype}
    assert agree(chain, found.total, exactly.total) <= 1
    assert elbo.conditional_information(chain).dtype == dtype


BITS = {
    "kernel": lambda x, y, t: elbo.binomial_kernel(named("linear-1000"), x, t),
    "marginal": lambda x, y, t: elbo.binomial_marginal(named("linear-1000"), x, t),
    "posterior": lambda x, y, t: elbo.binomial_posterior(named("linear-1000"), x, y, t),
    "kl": lambda x, y, t: elbo.binomial_kl(x, (y + 0.5) / 2),
    "prior": lambda x, y, t: elbo.binomial_prior_term(named("linear-1000"), x),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("call", BITS.values(), ids=BITS)
def test_bits_keep_shape_dtype_and_device(call: Callable[..., Tensor], dtype: torch.dtype) -> None:
    x, y = tensors(1, dtype=dtype).sigmoid(), torch.ones(3, 2, dtype=dtype)
    t = torch.tensor([1, 7, 900])
    one_by_one = torch.cat([call(x[k : k + 1], y[k : k + 1], int(t[k])) for k in range(3)])
    assert torch.equal(call(x, y, t), one_by_one)
    assert call(x, y, t).dtype == dtype
    away = call(x.to("meta"), y.to("meta"), t)
    assert away.is_meta and away.shape == x.shape and away.dtype == dtype


LAW, TABLE = torch.tensor([0.25, 0.75]), torch.tensor([[0.5, 0.5], [0.125, 0.875]])
CHAIN, MODEL = FiniteChain(LAW, (TABLE, TABLE)), FiniteModel(LAW, (TABLE, TABLE))
NUMBER = torch.tensor(1.0, dtype=torch.float64)
STEPS = torch.tensor([0.5, 0.5], dtype=torch.float64)
LINEAR = named("linear-1000")
BAD: dict[str, tuple[str, Callable[[], object]]] = {
    "no law": (r"data must have rows that sum to 1", lambda: FiniteChain(LAW * 2, (TABLE,))),
    "negative": (r"data must hold probabilities, .* got -0.75", lambda: FiniteChain(-LAW, (TABLE,))),
    "NaN": (r"data must hold probabilities", lambda: FiniteChain(LAW * math.nan, (TABLE,))),
    "no kernel": (r"kernels must hold at least 1", lambda: FiniteChain(LAW, ())),
    "columns for rows": (r"kernels must have rows that sum to 1", lambda: FiniteChain(LAW, (TABLE.T,))),
    "states": (r"kernels must meet", lambda: FiniteChain(LAW, (torch.full((3, 2), 0.5),))),
    "mixed dtypes": (r"kernels must have the dtype", lambda: FiniteChain(LAW.double(), (TABLE,))),
    "whole numbers": (r"data must be a floating", lambda: FiniteChain(LAW.long(), (TABLE,))),
    "prior": (r"prior must have rows that sum", lambda: FiniteModel(LAW / 2, (TABLE,))),
    "lengths": (r"model must have the states", lambda: elbo.terms(CHAIN, FiniteModel(LAW, (TABLE,)))),
    "dtypes": (r"model must have the dtype", lambda: elbo.gap(*_mixed())),
    "level": (r"t must lie in 1\.\.2, got 3", lambda: CHAIN.posterior(3)),
    "merge": (r"t must lie in 1\.\.1, got 2", lambda: elbo.merge(CHAIN, MODEL, 2)),
    "chance": (r"chance must lie in 0\.\.1, got 1.5", lambda: elbo.binomial_kernel(LINEAR, LAW + 0.75, 3)),
    "NaN chance": (r"chance_0 must lie", lambda: elbo.binomial_marginal(LINEAR, LAW * math.nan, 3)),
    "step": (r"t must lie in 1\.\.1000, got 0", lambda: elbo.binomial_posterior(LINEAR, LAW, LAW, 0)),
    "bits": (r"x_t must hold bits, 0 or 1, got 0.25", lambda: elbo.binomial_posterior(LINEAR, LAW, LAW, 3)),
    "batch of t": (r"t must be an int or", lambda: elbo.binomial_kernel(LINEAR, LAW, torch.arange(1, 4))),
    "bit of data": (r"chance_0 must lie strictly", lambda: elbo.binomial_chain(LINEAR, 1.0)),
    "kl shapes": (r"chance_1 must have the shape", lambda: elbo.binomial_kl(LAW, LAW[:1])),
    "variance": (r"variance must lie strictly", lambda: elbo.gaussian_chain(LINEAR, 0.0, 0.0)),
    "Gaussian dtype": (r"mean must be float64", lambda: GaussianChain(*[v.float() for v in _numbers()])),
    "Gaussian shape": (r"mean must have shape", lambda: GaussianChain(STEPS, STEPS, STEPS, STEPS)),
    "no step": (r"slopes must have shape", lambda: GaussianChain(NUMBER, NUMBER, STEPS[:0], STEPS[:0])),
    "step variance": (r"variances must be positive", lambda: GaussianChain(*_numbers()[:3], STEPS * 0)),
    "Gaussian lengths": (r"model must have the 2 steps", lambda: _gaussians()),
    "first step": (r"t must lie in 2", lambda: elbo.gaussian_information(LINEAR, 1, 1.0)),
    "data variance": (r"data_variance must lie", lambda: elbo.gaussian_error_drop(LINEAR, 5, 3, -1.0)),
    "order": (r"s must be below t", lambda: elbo.gaussian_error_drop(LINEAR, 3, 5, 1.0)),
    "refine to data": (r"s must lie in 1", lambda: elbo.refinement_gain(LINEAR, 5, 3, 0, LAW, LAW)),
    "refine order": (r"s must be below t = 3", lambda: elbo.refinement_gain(LINEAR, 5, 3, 4, LAW, LAW)),
}


def _mixed() -> Pair:
    return CHAIN, FiniteModel(LAW.double(), (TABLE.double(), TABLE.double()))


def _numbers() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return NUMBER, NUMBER, STEPS, STEPS


def _gaussians() -> Terms:
    chain = GaussianChain(*_numbers())
    return elbo.gaussian_terms(chain, GaussianModel(NUMBER, NUMBER, STEPS[:1], STEPS[:1], STEPS[:1]))


@pytest.mark.parametrize(("message", "call"), BAD.values(), ids=BAD)
def test_bad_input_is_named(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=message):
        call()
