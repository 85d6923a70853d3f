r"""Langevin chains: a step in two conventions, the corrected chain, and the exact law on a Gaussian.

The diffusion :math:`dx=s\,dt+\sqrt{2\tau}\,dW` with :math:`s=-\nabla E` has the law :math:`e^{-E/\tau}/Z`.
A step of size η is :math:`x+\eta s+\sqrt{2\eta\tau}\,z`; with η = ε²/2 it adds ε·z, with η = α/2 it adds
√α·z. The chain of such steps has another law than the diffusion: on a Gaussian it is too wide, by ητ/2 to
first order, which Metropolis's correction removes. Noise and uniform numbers are arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from refdiff import _check
from refdiff.energy import Energy, energy_and_score, positive
from refdiff.kernel import Number, any_true, cast, sqrt

Score = Callable[[Tensor], Tensor]


def step(
    x: Tensor, score: Tensor, step_size: float | Tensor, noise: Tensor, temperature: float = 1.0
) -> Tensor:
    r"""A step of the unadjusted chain, η convention.

    .. math:: x'=x+\eta\,s(x)+\sqrt{2\eta\tau}\,z

    Args:
        x: state, shape (B, *).
        score: s = −∇E at x, the score at temperature 1, shaped like x.
        step_size: η, positive, a float or a tensor of shape () or (B,).
        noise: standard normal, shaped like x.
        temperature: τ, positive; the law aimed at is :math:`e^{-E/\tau}/Z`.

    Returns:
        The next state, shaped like x.

    Raises:
        ValueError: a step size or temperature that is not positive and finite, or tensors of different
            shape, dtype or device.

    Reference: Roberts and Tweedie 1996, section 1.4 (formula ``energy.langevin_step``).
    """
    _check.same(x=x, score=score, noise=noise)
    _step_size("step_size", step_size, x)
    positive("temperature", temperature)
    drift, deviation = cast(step_size, x), cast(sqrt(2 * step_size * temperature), x)
    return x + drift * score + deviation * noise


def step_half(x: Tensor, score: Tensor, epsilon: float | Tensor, noise: Tensor) -> Tensor:
    r"""A step of the unadjusted chain at temperature 1, ε²/2 convention: ``step`` with η = ε²/2.

    .. math:: x'=x+\frac{\varepsilon^2}{2}\,s(x)+\varepsilon z

    Args:
        x: state, shape (B, *).
        score: the score at x, shaped like it.
        epsilon: ε, positive, a float or a tensor of shape () or (B,).
        noise: standard normal, shaped like x.

    Returns:
        The next state, shaped like x.

    Raises:
        ValueError: an epsilon that is not positive and finite, or tensors of different shape, dtype or
            device.

    Reference: Welling and Teh 2011, eq. 2 (formula ``energy.langevin_step_half``).
    """
    _check.same(x=x, score=score, noise=noise)
    _step_size("epsilon", epsilon, x)
    return x + cast(epsilon * epsilon / 2, x) * score + cast(epsilon, x) * noise


def chain(
    score_fn: Score,
    x: Tensor,
    step_size: float | Tensor,
    noises: Iterable[Tensor],
    temperature: float = 1.0,
) -> Iterator[Tensor]:
    r"""The unadjusted chain, one step for each noise.

    .. math:: x_{k+1}=x_k+\eta\,s(x_k)+\sqrt{2\eta\tau}\,z_k

    Args:
        score_fn: s = −∇E, from (B, *) to (B, *).
        x: the first state, shape (B, *).
        step_size: η, positive, a float or a tensor of shape () or (B,).
        noises: standard normal, each shaped like x.
        temperature: τ, positive.

    Yields:
        The states, the first one first.

    Raises:
        ValueError: what ``step`` raises.

    Reference: Roberts and Tweedie 1996, section 1.4 (formula ``energy.ula_mean``, ``energy.ula_variance``).
    """
    yield x
    for noise in noises:
        x = step(x, score_fn(x), step_size, noise, temperature)
        yield x


def mala_step(
    energy: Energy, x: Tensor, step_size: float, noise: Tensor, uniform: Tensor, temperature: float = 1.0
) -> Tensor:
    r"""A step of the corrected chain, which has the law itself: propose, then accept or stay.

    .. math:: y=x+\eta\,s(x)+\sqrt{2\eta\tau}\,z,\qquad
        x'=\begin{cases}y&\log u<\log R(x,y)\\x&\text{otherwise}\end{cases}

    Args:
        energy: from (B, *) to (B,), differentiable.
        x: state, shape (B, *).
        step_size: η, positive.
        noise: standard normal, shaped like x.
        uniform: in [0, 1), shape (B,).
        temperature: τ, positive.

    Returns:
        The next state, shaped like x; where R is not a number the chain stays.

    Raises:
        ValueError: a step size or temperature that is not positive, uniform outside [0, 1), tensors of
            different shape, dtype or device, or an energy that does not return (B,).

    Reference: Roberts and Tweedie 1996, section 1.4 (formula ``energy.metropolis_acceptance``).
    """
    _uniform(uniform, x)
    energy_x, gradient = energy_and_score(energy, x)
    y = step(x, gradient, step_size, noise, temperature)
    energy_y, back = energy_and_score(energy, y)
    log_ratio = mala_log_ratio(x, y, energy_x, energy_y, gradient, back, step_size, temperature)
    accepted = uniform.log() < log_ratio
    return torch.where(accepted.reshape(-1, *[1] * (x.dim() - 1)), y, x)


def mala_log_acceptance(
    energy: Energy, x: Tensor, proposal: Tensor, step_size: float, temperature: float = 1.0
) -> Tensor:
    r"""The log of the ratio of flows between a state and its proposal; the proposal is accepted with
    probability min(1, R).

    .. math:: \log R=\frac{E(x)-E(y)}{\tau}
        +\frac{\Vert y-x-\eta s(x)\Vert^2-\Vert x-y-\eta s(y)\Vert^2}{4\eta\tau}

    Args:
        energy: from (B, *) to (B,), differentiable.
        x: state, shape (B, *).
        proposal: y, shaped like x.
        step_size: η, positive.
        temperature: τ, positive.

    Returns:
        log R, shape (B,).

    Raises:
        ValueError: a step size or temperature that is not positive, tensors of different shape, dtype or
            device, or an energy that does not return (B,).

    Reference: Roberts and Tweedie 1996, section 1.4 (formula ``energy.mala_log_acceptance``).
    """
    (energy_x, there), (energy_y, back) = (energy_and_score(energy, point) for point in (x, proposal))
    return mala_log_ratio(x, proposal, energy_x, energy_y, there, back, step_size, temperature)


def mala_log_ratio(
    x: Tensor,
    y: Tensor,
    energy_x: Tensor,
    energy_y: Tensor,
    score_x: Tensor,
    score_y: Tensor,
    step_size: float,
    temperature: float = 1.0,
) -> Tensor:
    r"""The same ratio from energies and gradients that are known already, without dividing by η.

    .. math:: \tau\log R=E(x)-E(y)-\tfrac12(y-x)\cdot(s(x)+s(y))
        +\tfrac\eta4\left(\Vert s(x)\Vert^2-\Vert s(y)\Vert^2\right)

    Args:
        x, y: state and proposal, shape (B, *).
        energy_x, energy_y: their energies, shape (B,).
        score_x, score_y: minus the gradient of the energy at each, shaped like x.
        step_size: η, positive.
        temperature: τ, positive.

    Returns:
        log R, shape (B,).

    Raises:
        ValueError: a step size or temperature that is not positive, or tensors of different shape, dtype or
            device.

    Reference: formula ``energy.mala_log_acceptance``.
    """
    _check.same(x=x, y=y, score_x=score_x, score_y=score_y)
    _check.same(energy_x=energy_x, energy_y=energy_y)
    positive("step_size", step_size)
    positive("temperature", temperature)
    along = ((y - x) * (score_x + score_y)).flatten(1).sum(dim=1)
    # |s(x)|² − |s(y)|² as a product, which does not cancel where the two are near
    squares = ((score_x - score_y) * (score_x + score_y)).flatten(1).sum(dim=1)
    return (energy_x - energy_y - along / 2 + step_size / 4 * squares) / temperature


def gaussian_mean(
    mean_0: Tensor, mean_1: Tensor, variance_1: Tensor, step_size: float, count: int
) -> Tensor:
    r"""The mean of the unadjusted chain on a Gaussian target after n steps, elementwise.

    .. math:: m_n=\mu_1+\left(1-\frac{\eta}{v_1}\right)^n(\mu_0-\mu_1)

    Args:
        mean_0: mean of the start.
        mean_1, variance_1: mean and variance of the target at temperature 1, shaped like mean_0.
        step_size: η, positive; the chain comes to rest for η < 2v.
        count: n, the number of steps.

    Returns:
        The mean, shaped like mean_0.

    Raises:
        ValueError: a step size, variance or count that is not positive, or tensors of different shape, dtype
            or device.

    Reference: formula ``energy.ula_mean``.
    """
    _check.same(mean_0=mean_0, mean_1=mean_1, variance_1=variance_1)
    share = _share(variance_1, step_size, count)
    return mean_1 + _kept(share, count).to(mean_0.dtype) * (mean_0 - mean_1)


def gaussian_variance(
    variance_0: Tensor, variance_1: Tensor, step_size: float, count: int, temperature: float = 1.0
) -> Tensor:
    r"""The variance of the unadjusted chain on a Gaussian target after n steps, elementwise.

    .. math:: V_n=\left(1-\frac{\eta}{v_1}\right)^{2n}v_0
        +\left(1-\left(1-\frac{\eta}{v_1}\right)^{2n}\right)V_\infty

    Args:
        variance_0: variance of the start, at least 0.
        variance_1: variance of the target at temperature 1, shaped like variance_0.
        step_size: η, positive and below twice the least variance_1.
        count: n, the number of steps.
        temperature: τ, positive.

    Returns:
        The variance, shaped like variance_0.

    Raises:
        ValueError: a number out of bounds, or tensors of different shape, dtype or device.

    Reference: formula ``energy.ula_variance``.
    """
    _check.same(variance_0=variance_0, variance_1=variance_1)
    if any_true(variance_0 < 0):
        raise ValueError(f"variance_0 must be at least 0, got {variance_0.min().item()}")
    share = _share(variance_1, step_size, count)
    at_rest = _stationary(variance_1, step_size, temperature)
    total = _kept(share, 2 * count) * variance_0 + _lost(share, 2 * count) * at_rest
    return total.to(variance_0.dtype)


def stationary_variance(variance: Tensor, step_size: float, temperature: float = 1.0) -> Tensor:
    r"""The variance that the unadjusted chain keeps on a Gaussian target, elementwise; it is too wide.

    .. math:: V_\infty=\frac{\tau v}{1-\eta/(2v)}

    Args:
        variance: v, variance of the target at temperature 1, positive.
        step_size: η, positive and below twice the least variance.
        temperature: τ, positive.

    Returns:
        The variance, shaped like ``variance``.

    Raises:
        ValueError: a number out of bounds.

    Reference: formula ``energy.ula_stationary_variance``, ``energy.ula_bias``.
    """
    return _stationary(variance, step_size, temperature).to(variance.dtype)


def stationary_covariance(covariance: Tensor, step_size: float, temperature: float = 1.0) -> Tensor:
    r"""The covariance that the unadjusted chain keeps on a Gaussian target: it has the target's axes.

    .. math:: V_\infty=\tau\,C\left(I-\tfrac\eta2C^{-1}\right)^{-1}

    Args:
        covariance: C, covariance of the target at temperature 1, symmetric, shape (D, D).
        step_size: η, positive and below twice the least variance along an axis.
        temperature: τ, positive.

    Returns:
        The covariance, shape (D, D).

    Raises:
        ValueError: a matrix that is not symmetric, or a number out of bounds.

    Reference: formula ``energy.ula_stationary_variance_nd``.
    """
    _check.floating("covariance", covariance)
    if _check.readable(covariance) and not torch.equal(covariance, covariance.mT):
        raise ValueError(f"covariance must be symmetric, got {covariance}")
    variance, axes = torch.linalg.eigh(covariance.double())
    stationary: Tensor = (axes * _stationary(variance, step_size, temperature)) @ axes.mT
    return stationary.to(covariance.dtype)


def contrastive_gradient_gaussian(
    mean_0: Tensor, mean_1: Tensor, variance_1: Tensor, step_size: float, count: int
) -> Tensor:
    r"""The contrastive gradient for the mean of a Gaussian model, n steps of the chain from the data.

    .. math:: \frac{\mu_0-\mu_1}{v_1}\left(1-\left(1-\frac{\eta}{v_1}\right)^n\right)

    Args:
        mean_0: mean of the data.
        mean_1, variance_1: mean and variance of the model, shaped like mean_0.
        step_size: η, positive.
        count: n, the number of steps.

    Returns:
        The expected gradient, to be followed upwards, shaped like mean_0.

    Raises:
        ValueError: a number out of bounds, or tensors of different shape, dtype or device.

    Reference: formula ``energy.contrastive_gradient_gaussian``.
    """
    _check.same(mean_0=mean_0, mean_1=mean_1, variance_1=variance_1)
    share = _share(variance_1, step_size, count)
    return (mean_0 - mean_1) / variance_1 * _lost(share, count).to(mean_0.dtype)


def learned_variance(variance: Tensor, step_size: float) -> Tensor:
    r"""The variance that a Gaussian model learns from chains at rest: too narrow by η/2 to first order.

    .. math:: v=\frac{v_0+\sqrt{v_0^2-2\eta v_0}}2\qquad\text{solves}\qquad V_\infty(v)=v_0

    Args:
        variance: v_0, variance of the data.
        step_size: η, positive and below half the least variance.

    Returns:
        The variance of the model, shaped like ``variance``.

    Raises:
        ValueError: a number out of bounds.

    Reference: formula ``energy.persistent_variance``.
    """
    _positive("variance", variance)
    positive("step_size", step_size)
    if any_true(step_size >= variance / 2):
        raise ValueError(f"step_size must be below half the variance {variance}, got {step_size}")
    root = (variance * (variance - 2 * step_size)).sqrt()
    return (variance + root) / 2


def _stationary(variance: Tensor, step_size: float, temperature: float) -> Tensor:
    _positive("variance", variance)
    positive("step_size", step_size)
    positive("temperature", temperature)
    if any_true(step_size >= 2 * variance):
        raise ValueError(f"step_size must be below twice the variance {variance}, got {step_size}")
    wide = variance.double()
    return temperature * wide / (1 - step_size / (2 * wide))


def _share(variance: Tensor, step_size: float, count: int) -> Tensor:
    """η/v, what a step loses of the distance from the mean, in float64."""
    _positive("variance_1", variance)
    positive("step_size", step_size)
    _check.count("count", count)
    return step_size / variance.double()


def _kept(share: Tensor, power: int) -> Tensor:
    """(1 − share)ⁿ; where the share is small, 1 − share is never rounded."""
    small = share < 0.5
    near_one = torch.exp(power * torch.log1p(-torch.where(small, share, torch.zeros_like(share))))
    return torch.where(small, near_one, (1 - share) ** power)


def _lost(share: Tensor, power: int) -> Tensor:
    """1 − (1 − share)ⁿ, without the difference where the share is small."""
    small = share < 0.5
    lost = -torch.expm1(power * torch.log1p(-torch.where(small, share, torch.zeros_like(share))))
    return torch.where(small, lost, 1 - (1 - share) ** power)


def _positive(name: str, value: Tensor) -> None:
    _check.floating(name, value)
    if any_true(~(value > 0)):
        raise ValueError(f"{name} must be positive, got {value.min().item()}")


def _step_size(name: str, value: Number, x: Tensor) -> None:
    if not isinstance(value, Tensor):
        positive(name, value)
        return
    _check.floating(name, value)
    if value.dim() > 1 or (value.dim() == 1 and value.shape[0] != x.shape[0]):
        raise ValueError(
            f"{name} must have shape () or (B,) with B of {tuple(x.shape)}, got {tuple(value.shape)}"
        )
    if any_true(~(value > 0) | value.isinf()):
        raise ValueError(f"{name} must be positive and finite, got {value}")


def _uniform(uniform: Tensor, x: Tensor) -> None:
    _check.floating("uniform", uniform)
    if x.dim() == 0 or uniform.shape != x.shape[:1]:
        shape = f"(B,) for x of {tuple(x.shape)}"
        raise ValueError(f"uniform must have shape {shape}, got {tuple(uniform.shape)}")
    if any_true(~((uniform >= 0) & (uniform < 1))):
        raise ValueError(f"uniform must lie in [0, 1), got {uniform.min().item()}..{uniform.max().item()}")
