r"""The variational bound of a Markov chain: finite chains as tables, binomial and Gaussian kernels.

A finite chain is given by tables of probabilities, a row for each state that a step starts from; the levels
may have different numbers of states. Everything is in nats. Divergences are sums of terms that are never
negative, so that nothing cancels where two laws are near.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from refdiff import _check
from refdiff._elbo_binomial import (
    binomial_kernel,
    binomial_kl,
    binomial_marginal,
    binomial_posterior,
    binomial_prior_term,
)
from refdiff._elbo_gaussian import (
    GaussianChain,
    GaussianModel,
    gaussian_chain,
    gaussian_error_drop,
    gaussian_information,
    gaussian_reversal,
    gaussian_terms,
    refinement_gain,
)
from refdiff._elbo_terms import Terms, divergence
from refdiff.schedule import Schedule

__all__ = [
    "FiniteChain", "FiniteModel", "GaussianChain", "GaussianModel", "Terms", "VanillaTerms", "binomial_chain",
    "binomial_kernel", "binomial_kl", "binomial_marginal", "binomial_posterior", "binomial_prior_term",
    "conditional_information", "divergence", "evidence", "forward_paths", "gap", "gaussian_chain",
    "gaussian_error_drop", "gaussian_information", "gaussian_reversal", "gaussian_terms", "log_weights",
    "merge", "path_divergence", "refinement_gain", "reverse_paths", "terms", "vanilla_terms",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class FiniteChain:
    r"""A forward chain on finitely many states.

    .. math:: q(x_{0:T})=q(x_0)\prod_{t=1}^{T}q(x_t\mid x_{t-1})

    Args:
        data: law of x_0, shape (S_0,).
        kernels: T tables; number t-1 is q(x_t | x_{t-1}), shape (S_{t-1}, S_t), a row for each x_{t-1}.

    Raises:
        ValueError: a table of the wrong shape, dtype or device, or with a row that is no law.

    Reference: Sohl-Dickstein et al. 2015, eq. 1-2 (formula ``elbo.forward_chain``, ``elbo.bayes_step``,
    ``elbo.reversed_kernel``, ``elbo.reversed_chain``, ``elbo.refinement_optimal``).
    """

    data: Tensor
    kernels: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "kernels", tuple(self.kernels))
        _laws("data", self.data, (self.data.shape[-1],))
        _tables("kernels", self.kernels, self.data, [self.data.shape[0]])

    @property
    def T(self) -> int:
        """The number of steps."""
        return len(self.kernels)

    def given_data(self, t: int) -> Tensor:
        r"""q(x_t | x_0), shape (S_0, S_t), for 0 ≤ t ≤ T: the product of the kernels."""
        _check.level("t", t, self.T)
        one = torch.eye(self.data.shape[0], dtype=self.data.dtype, device=self.data.device)
        return _product(one, *self.kernels[:t])

    def marginal(self, t: int) -> Tensor:
        """q(x_t), shape (S_t,), for 0 ≤ t ≤ T."""
        _check.level("t", t, self.T)
        return _product(self.data, *self.kernels[:t])

    def reversed_kernel(self, t: int) -> Tensor:
        """q(x_{t-1} | x_t), shape (S_t, S_{t-1}), for 1 ≤ t ≤ T; NaN where x_t is never reached."""
        _check.level("t", t, self.T, 1)
        return (self.marginal(t - 1)[:, None] * self.kernels[t - 1] / self.marginal(t)).T

    def posterior(self, t: int) -> Tensor:
        """q(x_{t-1} | x_t, x_0), shape (S_0, S_t, S_{t-1}), 1 ≤ t ≤ T; NaN where x_t is never reached."""
        _check.level("t", t, self.T, 1)
        return self._three_given_data(t) / self.given_data(t)[:, :, None]

    def _three_given_data(self, t: int) -> Tensor:
        """q(x_{t-1}, x_t | x_0), shape (S_0, S_t, S_{t-1})."""
        return self.given_data(t - 1)[:, None, :] * self.kernels[t - 1].T


@dataclass(frozen=True, eq=False)
class FiniteModel:
    r"""A chain that runs backwards on finitely many states.

    .. math:: p(x_{0:T})=p(x_T)\prod_{t=1}^{T}p(x_{t-1}\mid x_t)

    Args:
        prior: law of x_T, shape (S_T,).
        kernels: T tables; number t-1 is p(x_{t-1} | x_t), shape (S_t, S_{t-1}), a row for each x_t.

    Raises:
        ValueError: a table of the wrong shape, dtype or device, or with a row that is no law.

    Reference: Ho et al. 2020, eq. 1 (formula ``elbo.reverse_chain``).
    """

    prior: Tensor
    kernels: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "kernels", tuple(self.kernels))
        _laws("prior", self.prior, (self.prior.shape[-1],))
        _tables("kernels", self.kernels[::-1], self.prior, [self.prior.shape[0]])

    @property
    def T(self) -> int:
        """The number of steps."""
        return len(self.kernels)

    def marginal(self, t: int) -> Tensor:
        """p(x_t), shape (S_t,), for 0 ≤ t ≤ T."""
        _check.level("t", t, self.T)
        return _product(self.prior, *reversed(self.kernels[t:]))


@dataclass(frozen=True, eq=False)
class VanillaTerms:
    """The terms of the bound without x_0 in its posteriors: a divergence a step, that of x_T, and H(x_0).

    Args:
        steps: shape (T,), number t-1 is the mean divergence of q(x_{t-1} | x_t) from the model's kernel.
        prior: divergence of q(x_T) from the prior, shape ().
        entropy: entropy of the data, shape ().
    """

    steps: Tensor
    prior: Tensor
    entropy: Tensor

    @property
    def total(self) -> Tensor:
        """−K, the bound of the negative log-likelihood."""
        return self.steps.sum() + self.prior + self.entropy


def _product(*tables: Tensor) -> Tensor:
    """A product of tables in their dtype: made in float64, which autocast leaves alone, and cast once."""
    wide = tables[0].double()
    for table in tables[1:]:
        wide = wide @ table.double()
    return wide.to(tables[0].dtype)


def _laws(name: str, table: Tensor, shape: tuple[int, ...]) -> None:
    _check.floating(name, table)
    if tuple(table.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(table.shape)}")
    if not _check.readable(table):
        return
    if not bool((table >= 0).all()):
        raise ValueError(f"{name} must hold probabilities, at least 0, got {table.min().item()}")
    off = (table.sum(-1) - 1).abs().max().item()
    # each entry is rounded once, and so is each partial sum
    bound = (shape[-1] + 1) * torch.finfo(table.dtype).eps
    if not off <= bound:
        raise ValueError(f"{name} must have rows that sum to 1 within {bound:.1e}, got one off by {off:.1e}")


def _tables(name: str, kernels: Sequence[Tensor], like: Tensor, states: list[int]) -> None:
    if not kernels:
        raise ValueError(f"{name} must hold at least 1 table, got 0")
    for k, kernel in enumerate(kernels):
        if kernel.dim() != 2 or kernel.shape[0] != states[-1]:
            raise ValueError(f"{name} must meet: table {k} has {tuple(kernel.shape)}, not {states[-1]} rows")
        if kernel.dtype != like.dtype or kernel.device != like.device:
            want, got = (like.dtype, like.device), (kernel.dtype, kernel.device)
            raise ValueError(f"{name} must have the dtype and device of the law, {want}, got {got}")
        _laws(name, kernel, (states[-1], kernel.shape[1]))
        states.append(kernel.shape[1])


def _same_states(chain: FiniteChain, model: FiniteModel) -> None:
    shapes = [tuple(kernel.shape) for kernel in chain.kernels]
    turned = [tuple(kernel.shape[::-1]) for kernel in model.kernels]
    if shapes != turned:
        raise ValueError(f"model must have the states of chain, {shapes}, got {turned}")
    if model.prior.dtype != chain.data.dtype:
        raise ValueError(f"model must have the dtype of chain, {chain.data.dtype}, got {model.prior.dtype}")


def forward_paths(chain: FiniteChain) -> Tensor:
    r"""The law of all paths, shape (S_0, ..., S_T).

    .. math:: q(x_{0:T})=q(x_0)\prod_{t=1}^{T}q(x_t\mid x_{t-1})

    Reference: formula ``elbo.forward_chain``.
    """
    return _paths(chain.data, chain.kernels)


def _paths(law: Tensor, kernels: Sequence[Tensor]) -> Tensor:
    for kernel in kernels:
        law = law[..., None] * kernel
    return law


def reverse_paths(model: FiniteModel) -> Tensor:
    r"""The law of all paths under the model, shape (S_0, ..., S_T).

    .. math:: p(x_{0:T})=p(x_T)\prod_{t=1}^{T}p(x_{t-1}\mid x_t)

    Reference: formula ``elbo.reverse_chain``.
    """
    law = model.prior
    for kernel in reversed(model.kernels):
        law = kernel.T.reshape(*kernel.T.shape, *[1] * (law.dim() - 1)) * law
    return law


def log_weights(chain: FiniteChain, model: FiniteModel) -> Tensor:
    r"""log of the weight of every path, shape (S_0, ..., S_T); NaN where neither law reaches the path.

    .. math:: \log\frac{p(x_{0:T})}{q(x_{1:T}\mid x_0)}

    Its mean over q(x_{1:T} | x_0) is the bound at x_0; the mean of its exponential is p(x_0).

    Args:
        chain, model: forward and reverse chain on the same states.

    Raises:
        ValueError: chains on different states.

    Reference: formula ``elbo.weight``.
    """
    _same_states(chain, model)
    return reverse_paths(model).log() - _paths(torch.ones_like(chain.data), chain.kernels).log()


def terms(chain: FiniteChain, model: FiniteModel) -> Terms:
    r"""The three terms of the bound, in nats; their sum is −K, an upper bound of −E log p(x_0).

    .. math:: \underbrace{-\mathbb E\log p(x_0\mid x_1)}_{L_0}
        +\sum_{t=2}^{T}
        \underbrace{\mathbb E\,\mathrm{KL}(q(x_{t-1}\mid x_t,x_0)\|p(x_{t-1}\mid x_t))}_{L_{t-1}}
        +\underbrace{\mathbb E\,\mathrm{KL}(q(x_T\mid x_0)\|p(x_T))}_{L_T}

    Args:
        chain, model: forward and reverse chain on the same states.

    Returns:
        Terms; one is infinite where the model excludes what the chain does.

    Raises:
        ValueError: chains on different states.

    Reference: Ho et al. 2020, eq. 5 (formula ``elbo.three_terms``, ``elbo.prior_term``,
    ``elbo.denoising_term``, ``elbo.reconstruction_term``).
    """
    _same_states(chain, model)
    first = chain.data[:, None] * chain.kernels[0]
    reconstruction = -torch.xlogy(first, model.kernels[0].T).sum()
    denoising = [_denoising(chain, model, t) for t in range(2, chain.T + 1)]
    last = chain.data[:, None] * chain.given_data(chain.T)
    prior = divergence(last, chain.data[:, None] * model.prior)
    return Terms(reconstruction, torch.stack(denoising) if denoising else prior.new_zeros(0), prior)


def _denoising(chain: FiniteChain, model: FiniteModel, t: int) -> Tensor:
    """The mean divergence of q(x_{t-1} | x_t, x_0) from the model, as that of two laws of three states."""
    both = chain.data[:, None] * chain.given_data(t)
    three = chain.data[:, None, None] * chain._three_given_data(t)
    return divergence(three, both[:, :, None] * model.kernels[t - 1])


def vanilla_terms(chain: FiniteChain, model: FiniteModel) -> VanillaTerms:
    r"""The terms of the same bound without x_0 in the posteriors.

    .. math:: \mathrm H(x_0)+\sum_{t=1}^{T}\mathbb E\,\mathrm{KL}(q(x_{t-1}\mid x_t)\|p(x_{t-1}\mid x_t))
        +\mathrm{KL}(q(x_T)\|p(x_T))

    Args:
        chain, model: forward and reverse chain on the same states.

    Raises:
        ValueError: chains on different states.

    Reference: formula ``elbo.vanilla``.
    """
    _same_states(chain, model)
    steps = [
        divergence(
            (chain.marginal(t - 1)[:, None] * chain.kernels[t - 1]).T,
            chain.marginal(t)[:, None] * model.kernels[t - 1],
        )
        for t in range(1, chain.T + 1)
    ]
    prior = divergence(chain.marginal(chain.T), model.prior)
    return VanillaTerms(torch.stack(steps), prior, torch.special.entr(chain.data).sum())


def conditional_information(chain: FiniteChain) -> Tensor:
    r"""What conditioning on x_0 adds to each term of the bound, whatever the model, shape (T,).

    .. math:: \mathrm I(x_0;x_{t-1}\mid x_t)
        =\mathbb E\,\mathrm{KL}(q(x_{t-1}\mid x_t,x_0)\|q(x_{t-1}\mid x_t))

    The first entry, t = 1, is the entropy of x_0 given x_1.

    Reference: formula ``elbo.conditional_information``, ``elbo.information_chain``, ``elbo.best_reverse``.
    """
    found = []
    for t in range(1, chain.T + 1):
        three = chain.data[:, None, None] * chain._three_given_data(t)
        ends = three.sum(-1) / chain.marginal(t)
        # 0/0 where x_t is never reached, and there the three states have probability 0
        apart = torch.where(chain.marginal(t) > 0, ends, 0)[:, :, None] * three.sum(0)
        found.append(divergence(three, apart))
    return torch.stack(found)


def evidence(chain: FiniteChain, model: FiniteModel) -> Tensor:
    r"""The mean log-likelihood of the data under the model, in nats, shape ().

    .. math:: \mathbb E_{q(x_0)}\log p(x_0)

    Raises:
        ValueError: chains on different states.

    Reference: formula ``elbo.evidence_gap``.
    """
    _same_states(chain, model)
    return torch.xlogy(chain.data, model.marginal(0)).sum()


def gap(chain: FiniteChain, model: FiniteModel) -> Tensor:
    r"""What the bound loses: the mean divergence of the noised path from the model's posterior, shape ().

    .. math:: \mathbb E_{q(x_0)}\mathrm{KL}(q(x_{1:T}\mid x_0)\|p(x_{1:T}\mid x_0))

    Args:
        chain, model: forward and reverse chain on the same states; the model reaches every x_0 of the data.

    Raises:
        ValueError: chains on different states.

    Reference: formula ``elbo.evidence_gap``, ``elbo.jensen``.
    """
    _same_states(chain, model)
    paths, data = reverse_paths(model), model.marginal(0)
    shape = [-1] + [1] * chain.T
    return divergence(forward_paths(chain), (chain.data / data).reshape(shape) * paths)


def path_divergence(chain: FiniteChain, model: FiniteModel) -> Tensor:
    r"""The divergence of the forward path from the model's, −K − H(x_0), in nats, shape ().

    .. math:: \mathrm{KL}(q(x_{0:T})\|p(x_{0:T}))

    Raises:
        ValueError: chains on different states.

    Reference: formula ``elbo.path_divergence``.
    """
    _same_states(chain, model)
    return divergence(forward_paths(chain), reverse_paths(model))


def merge(chain: FiniteChain, model: FiniteModel, t: int) -> tuple[FiniteChain, FiniteModel]:
    r"""The two chains without level t: the kernels of the steps t and t+1 become one.

    .. math:: q(x_{t+1}\mid x_{t-1})=\sum_{x_t}q(x_{t+1}\mid x_t)\,q(x_t\mid x_{t-1})

    Both keep their laws of the other levels, so the bound cannot get worse.

    Args:
        chain, model: forward and reverse chain on the same states.
        t: level, 1 ≤ t < T.

    Raises:
        ValueError: chains on different states, or t outside 1..T-1.

    Reference: formula ``elbo.coarsening``.
    """
    _same_states(chain, model)
    _check.level("t", t, chain.T - 1, 1)
    forward, backward = chain.kernels, model.kernels
    there, back = _product(forward[t - 1], forward[t]), _product(backward[t], backward[t - 1])
    return (
        FiniteChain(chain.data, (*forward[: t - 1], there, *forward[t + 1 :])),
        FiniteModel(model.prior, (*backward[: t - 1], back, *backward[t + 1 :])),
    )


def binomial_chain(schedule: Schedule, chance_0: float) -> FiniteChain:
    """The binomial chain of one bit as tables, float64; state 1 is a one.

    Args:
        schedule: noise schedule with T steps.
        chance_0: probability that the bit of the data is 1, strictly between 0 and 1.

    Raises:
        ValueError: a chance outside its bounds.
    """
    _check.between("chance_0", chance_0, 0, 1)
    data = torch.tensor([1 - chance_0, chance_0], dtype=torch.float64)
    kernels = [
        torch.eye(2, dtype=torch.float64) + beta * (0.5 - torch.eye(2, dtype=torch.float64))
        for beta in schedule.beta[1:].tolist()
    ]
    return FiniteChain(data, tuple(kernels))
