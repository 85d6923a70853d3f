r"""Energy models: the law :math:`p(x)=e^{-E(x)/\tau}/Z`, its score, and the losses that teach an energy.

An energy is a function from (B, *) to (B,), a value for each sample; τ is the temperature. Nothing here draws
samples: what comes from the model is an argument, and ``refdiff.langevin`` makes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from refdiff import _check

Energy: TypeAlias = Callable[[Tensor], Tensor]


def log_density(energy: Energy, x: Tensor, log_z: float | Tensor, temperature: float = 1.0) -> Tensor:
    r"""The log-density of an energy model.

    .. math:: \log p(x)=-\frac{E(x)}{\tau}-\log Z

    Args:
        energy: from (B, *) to (B,).
        x: points, shape (B, *).
        log_z: log of the normaliser at this temperature, a number or a tensor of shape ().
        temperature: τ, positive.

    Returns:
        Nats, shape (B,).

    Raises:
        ValueError: a temperature that is not positive, or an energy that does not return (B,).

    Reference: formula ``energy.log_density``.
    """
    positive("temperature", temperature)
    return -values(energy, x) / temperature - log_z


def score(energy: Energy, x: Tensor, temperature: float = 1.0) -> Tensor:
    r"""The score of an energy model, which needs no normaliser.

    .. math:: \nabla_x\log p(x)=-\frac{\nabla_xE(x)}{\tau}

    Args:
        energy: from (B, *) to (B,), differentiable, each value from its own sample only.
        x: points, shape (B, *).
        temperature: τ, positive.

    Returns:
        The score, shaped like x; it can be differentiated by the parameters of the energy.

    Raises:
        ValueError: a temperature that is not positive, or an energy that does not return (B,).

    Reference: formula ``energy.score``.
    """
    return energy_and_score(energy, x, temperature)[1]


def energy_and_score(energy: Energy, x: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    r"""The energy and the score from one evaluation.

    .. math:: E(x),\qquad-\frac{\nabla_xE(x)}{\tau}

    Args:
        energy: from (B, *) to (B,), differentiable, each value from its own sample only.
        x: points, shape (B, *).
        temperature: τ, positive.

    Returns:
        The energy (B,) and the score, shaped like x.

    Raises:
        ValueError: a temperature that is not positive, or an energy that does not return (B,).

    Reference: formula ``energy.score``.
    """
    positive("temperature", temperature)
    _check.floating("x", x)

    def total(y: Tensor) -> tuple[Tensor, Tensor]:
        each = values(energy, y)
        # the sum over the batch: a sample moves its own energy only
        return each.sum(), each

    gradient, each = torch.func.grad(total, has_aux=True)(x)
    return each, -gradient / temperature


def log_partition(energies: Tensor, temperature: float = 1.0) -> Tensor:
    r"""The log of the normaliser of a finite space of states; its gradient is minus the law.

    .. math:: \log Z=\log\sum_ie^{-E_i/\tau},\qquad
        \partial_\theta\log Z=-\frac1\tau\,\mathbb E_p[\partial_\theta E]

    Args:
        energies: the energy of each state, shape (*, N).
        temperature: τ, positive.

    Returns:
        log Z, shape (*).

    Raises:
        ValueError: a temperature that is not positive.

    Reference: formula ``energy.grad_log_z``.
    """
    positive("temperature", temperature)
    _check.floating("energies", energies)
    return torch.logsumexp(-energies / temperature, dim=-1)


def cross_entropy(probabilities: Tensor, energies: Tensor, temperature: float = 1.0) -> Tensor:
    r"""The expected negative log-likelihood of a finite space of states.

    .. math:: -\sum_iq_i\log p_i=\mathrm{KL}(q\,\Vert\,p)+\mathrm H(q)

    Args:
        probabilities: the law q of the data, shape (*, N), adding up to one along the last axis.
        energies: the energy of each state, shaped like ``probabilities``.
        temperature: τ, positive.

    Returns:
        Nats, shape (*).

    Raises:
        ValueError: a temperature that is not positive, or tensors that differ in shape, dtype or device.

    Reference: formula ``energy.cross_entropy``.
    """
    _check.same(energies=energies, probabilities=probabilities)
    normaliser = log_partition(energies, temperature)
    return (probabilities * (energies / temperature + normaliser.unsqueeze(-1))).sum(dim=-1)


def log_likelihood_gradient(
    energy: Energy, parameters: Sequence[Tensor], x_pos: Tensor, x_neg: Tensor
) -> tuple[Tensor, ...]:
    r"""The gradient of the mean log-likelihood, from data and samples of the model, at temperature 1.

    .. math:: \nabla_\theta\,\mathbb E_{\mathrm{data}}[\log p_\theta(x)]
        =\mathbb E_{p_\theta}[\nabla_\theta E_\theta(x)]-\mathbb E_{\mathrm{data}}[\nabla_\theta E_\theta(x)]

    Args:
        energy: from (B, *) to (B,), a function of the parameters.
        parameters: the tensors that it is differentiated by.
        x_pos: data, shape (B, *).
        x_neg: samples of the model, shape (M, *), taken as constants.

    Returns:
        The gradient, a tensor for each parameter; follow it upwards.

    Raises:
        ValueError: an energy that does not return one value a sample.

    Reference: formula ``energy.log_likelihood_gradient``.
    """
    loss = values(energy, x_pos).mean() - values(energy, x_neg.detach()).mean()
    return tuple(-slope for slope in torch.autograd.grad(loss, list(parameters)))


def contrastive_loss(energy: Energy, x_pos: Tensor, x_neg: Tensor) -> Tensor:
    r"""The loss whose gradient is minus that of the log-likelihood; its value is no likelihood.

    .. math:: E_\theta(x^+)-E_\theta(x^-)

    The negatives are constants: what the parameters do to a chain that made them is left out, as contrastive
    divergence and persistent chains leave it out (formula ``energy.contrastive_divergence``).

    Args:
        energy: from (B, *) to (B,).
        x_pos: data, shape (B, *).
        x_neg: samples of the model, shaped like x_pos.

    Returns:
        The loss of each pair, shape (B,); low energy for data.

    Raises:
        ValueError: tensors of different shape, dtype or device, or an energy that does not return (B,).

    Reference: formula ``energy.contrastive_loss``.
    """
    _check.same(x_pos=x_pos, x_neg=x_neg)
    return values(energy, x_pos) - values(energy, x_neg.detach())


def nce_posterior(log_model: Tensor, log_noise: Tensor, ratio: int = 1) -> Tensor:
    r"""The probability that a point is data, where there is ν times as much noise.

    .. math:: h(x)=\frac{p_\theta(x)}{p_\theta(x)+\nu q(x)}
        =\operatorname{sigmoid}\left(\log p_\theta(x)-\log q(x)-\log\nu\right)

    Args:
        log_model: log of the model's density at the points, shape (B,).
        log_noise: log of the noise's density there, shaped like it.
        ratio: ν, samples of noise for one of data.

    Returns:
        The probability, shape (B,).

    Raises:
        ValueError: a ratio below 1, or tensors of different shape, dtype or device.

    Reference: Gutmann and Hyvärinen 2012, eq. 5 (formula ``energy.nce_posterior``).
    """
    return _log_odds(log_model, log_noise, ratio).sigmoid()


def nce_loss(
    log_model: Energy, log_noise: Energy, x_data: Tensor, x_noise: Tensor, ratio: int = 1
) -> Tensor:
    r"""The noise-contrastive loss: minus the log-likelihood of which is data and which is noise.

    .. math:: -\log h(x)-\sum_{j=1}^\nu\log(1-h(y_j))

    Least where the model is the density of the data; its normaliser is learned like any parameter.

    Args:
        log_model: log of the model's density with its learned normaliser, from (B, *) to (B,).
        log_noise: log-density of the noise, from (B, *) to (B,).
        x_data: data, shape (B, *).
        x_noise: samples of the noise, shape (νB, *); rows νb … νb + ν − 1 belong to datum b.
        ratio: ν, samples of noise for one of data.

    Returns:
        The loss of each datum and its noise, shape (B,).

    Raises:
        ValueError: a ratio below 1, noise of another shape, dtype or device, or a log-density that does not
            return one value a sample.

    Reference: Gutmann and Hyvärinen 2012, eq. 8 (formula ``energy.nce_loss``).
    """
    _check.count("ratio", ratio)
    expected = (ratio * x_data.shape[0], *x_data.shape[1:])
    if tuple(x_noise.shape) != expected:
        raise ValueError(f"x_noise must have shape {expected}, got {tuple(x_noise.shape)}")
    _check.same(x_data=x_data, x_noise=x_noise[: x_data.shape[0]])
    of_data = _log_odds(values(log_model, x_data), values(log_noise, x_data), ratio)
    of_noise = _log_odds(values(log_model, x_noise), values(log_noise, x_noise), ratio)
    return -logsigmoid(of_data) - logsigmoid(-of_noise).reshape(-1, ratio).sum(dim=1)


def _log_odds(log_model: Tensor, log_noise: Tensor, ratio: int) -> Tensor:
    _check.count("ratio", ratio)
    _check.same(log_model=log_model, log_noise=log_noise)
    return log_model - log_noise - math.log(ratio)


def values(energy: Energy, x: Tensor) -> Tensor:
    """The values of an energy, or a ValueError where it does not return one for each sample."""
    _check.floating("x", x)
    each = energy(x)
    if x.dim() == 0 or each.shape != x.shape[:1]:
        raise ValueError(f"energy(x) must have shape (B,) for x of {tuple(x.shape)}, got {tuple(each.shape)}")
    return each


def positive(name: str, value: float) -> None:
    """A positive, finite Python number."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive and finite, got {value}")
