"""The binomial kernel, which draws a bit anew from a fair coin: a part of ``refdiff.elbo``."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from refdiff import _check
from refdiff._check import Level
from refdiff._elbo_terms import divergence
from refdiff.schedule import Schedule


def binomial_kernel(schedule: Schedule, chance: Tensor, t: Level) -> Tensor:
    r"""One step of the binomial kernel: with probability β_t a bit is drawn anew from a fair coin.

    .. math:: q(x_t=1)=(1-\beta_t)\,q(x_{t-1}=1)+\beta_t/2

    Args:
        schedule: noise schedule with T steps.
        chance: probability that a bit of x_{t-1} is 1 (a bit itself is 0 or 1), shape (B, *).
        t: step, 1 ≤ t ≤ T, an int or shape (B,).

    Returns:
        The probability that the bit of x_t is 1, shape (B, *).

    Raises:
        ValueError: t outside 1..T, or a chance outside 0..1.

    Reference: Sohl-Dickstein et al. 2015, table 1 (formula ``elbo.binomial_kernel``).
    """
    _step(schedule, chance, t)
    beta = schedule.at("beta", t, chance)
    return chance + beta * (0.5 - chance)


def binomial_marginal(schedule: Schedule, chance_0: Tensor, t: Level) -> Tensor:
    r"""The chance of a bit of x_t.

    .. math:: q(x_t=1\mid x_0)=\bar\alpha_t\,x_0+(1-\bar\alpha_t)/2

    Args:
        schedule: noise schedule with T steps.
        chance_0: probability that a bit of the data is 1 (a bit itself is 0 or 1), shape (B, *).
        t: level, 0 ≤ t ≤ T, an int or shape (B,).

    Raises:
        ValueError: t outside 0..T, or a chance outside 0..1.

    Reference: Sohl-Dickstein et al. 2015, table 1 (formula ``elbo.binomial_marginal``).
    """
    _chance("chance_0", chance_0)
    _check.level("t", t, schedule.T)
    _check.batch("t", t, chance_0)
    return chance_0 + schedule.at("one_minus_alpha_bar", t, chance_0) * (0.5 - chance_0)


def binomial_posterior(schedule: Schedule, chance_0: Tensor, x_t: Tensor, t: Level) -> Tensor:
    r"""The chance of a bit of x_{t-1} given that of x_t, and given the data or their law.

    .. math:: q(x_{t-1}=1\mid x_t,x_0)
        =\frac{(1+\alpha_t\varsigma_t)\,(1+\bar\alpha_{t-1}(2x_0-1))}{2(1+\bar\alpha_t\varsigma_t(2x_0-1))}

    Args:
        schedule: noise schedule with T steps.
        chance_0: a bit of the data, or the probability that it is 1, shape (B, *).
        x_t: noised bits, 0 or 1, shape (B, *); :math:`\varsigma_t=2x_t-1`.
        t: step, 1 ≤ t ≤ T, an int or shape (B,).

    Returns:
        The probability that the bit of x_{t-1} is 1, shape (B, *).

    Raises:
        ValueError: t outside 1..T, a chance outside 0..1, or bits that are neither 0 nor 1.

    Reference: Sohl-Dickstein et al. 2015, table 1 (formula ``elbo.binomial_posterior``).
    """
    _step(schedule, chance_0, t, "chance_0")
    _check.same(chance_0=chance_0, x_t=x_t)
    if _check.readable(x_t) and not bool(((x_t == 0) | (x_t == 1)).all()):
        raise ValueError(f"x_t must hold bits, 0 or 1, got {x_t[(x_t != 0) & (x_t != 1)][0].item()}")
    # each factor as its distance from certainty, so that no two near numbers are subtracted
    beta = schedule.at("beta", t, chance_0)
    likelihood = torch.where(x_t == 1, 1 - beta / 2, beta / 2)
    one = binomial_marginal(schedule, chance_0, t - 1)
    zero = binomial_marginal(schedule, 1 - chance_0, t - 1)
    return likelihood * one / (likelihood * one + (1 - likelihood) * zero)


def binomial_kl(chance_0: Tensor, chance_1: Tensor) -> Tensor:
    r"""The divergence of one law of a bit from another, of each element, in nats.

    .. math:: \pi_0\log\frac{\pi_0}{\pi_1}+(1-\pi_0)\log\frac{1-\pi_0}{1-\pi_1}

    Args:
        chance_0, chance_1: probabilities that the bit is 1, shape (B, *).

    Returns:
        Shape (B, *), not summed; infinite where the second law excludes what the first does.

    Raises:
        ValueError: a chance outside 0..1, or tensors of different shape, dtype or device.

    Reference: formula ``elbo.binomial_divergence``.
    """
    _check.same(chance_0=chance_0, chance_1=chance_1)
    _chance("chance_0", chance_0)
    _chance("chance_1", chance_1)
    first, second = (torch.stack([1 - chance, chance], -1) for chance in (chance_0, chance_1))
    return divergence(first, second, dim=-1)


def binomial_prior_term(schedule: Schedule, chance_0: Tensor) -> Tensor:
    r"""L_T of each bit with a fair coin as the prior, in nats.

    .. math:: \tfrac12\big[(1+a)\log(1+a)+(1-a)\log(1-a)\big],\qquad a=\bar\alpha_T(2x_0-1)

    Args:
        schedule: noise schedule with T steps.
        chance_0: a bit of the data, or the probability that it is 1, shape (B, *).

    Returns:
        Shape (B, *), not summed.

    Raises:
        ValueError: a chance outside 0..1.

    Reference: formula ``elbo.binomial_prior_term``.
    """
    _chance("chance_0", chance_0)
    a = schedule.at("alpha_bar", schedule.T, chance_0.double()) * (2 * chance_0.double() - 1)
    # the same as a atanh(a) + log(1 - a²)/2, which keeps its digits where a is small
    term = a * a.atanh() + torch.log1p(-a * a) / 2
    return torch.where(a.abs() < 1, term, math.log(2)).to(chance_0.dtype)


def _chance(name: str, chance: Tensor) -> None:
    _check.floating(name, chance)
    if _check.readable(chance) and not bool(((chance >= 0) & (chance <= 1)).all()):
        wrong = chance[~((chance >= 0) & (chance <= 1))][0].item()
        raise ValueError(f"{name} must lie in 0..1, got {wrong}")


def _step(schedule: Schedule, chance: Tensor, t: Level, name: str = "chance") -> None:
    _chance(name, chance)
    _check.level("t", t, schedule.T, 1)
    _check.batch("t", t, chance)
