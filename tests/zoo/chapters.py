"""Correct ports of energies, scores, likelihoods and guidance, from which a mutant differs in one place.

Each class is a topic; it may be put beside the textbook, and offers its own topic alone as a target.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tests.zoo.base import Textbook

PORTS_OF_THE_TEXTBOOK = (
    "betas", "alphas_cumprod", "timesteps", "q_sample", "q_posterior", "predict_x0", "predict_eps",
    "velocity", "score", "ddpm_step", "ddim_step", "ddim_invert", "guided_mean", "loss", "vlb_term", "sample",
)  # fmt: skip


def alone(cls: type[Any]) -> type[Any]:
    """A topic as a target of its own: the textbook's tables, none of its ports."""
    hidden = dict.fromkeys(PORTS_OF_THE_TEXTBOOK)
    return type(cls.__name__, (cls, Textbook), {name: None for name in hidden if name not in vars(cls)})


class Walk:
    """Steps of Langevin dynamics."""

    def langevin_step(self, x: Tensor, score: Tensor, step_size: float, noise: Tensor) -> Tensor:
        return x + step_size * score + (2 * step_size) ** 0.5 * noise

    def annealed_langevin_step(
        self, x: Tensor, score: Tensor, sigma: float, sigma_last: float, epsilon: float, noise: Tensor
    ) -> Tensor:
        return self.langevin_step(x, score, epsilon * sigma**2 / sigma_last**2, noise)


class Guides:
    """Guidance by a classifier, without one, and by an observation."""

    def guided_eps(self: Any, eps: Tensor, t: Tensor, grad: Tensor, scale: float) -> Tensor:
        return eps - (1 - self.at(self.abar, t, eps)).sqrt() * scale * grad

    def cfg(self, uncond: Tensor, cond: Tensor, scale: float) -> Tensor:
        return uncond + scale * (cond - uncond)

    def cfg_step(
        self: Any, x_t: Tensor, t: Tensor, s: Tensor, uncond: Tensor, cond: Tensor, scale: float
    ) -> Tensor:
        abar_t, abar_s = self.level(t, x_t), self.level(s, x_t)
        eps = self.cfg(uncond, cond, scale)
        x0 = (x_t - (1 - abar_t).sqrt() * eps) / abar_t.sqrt()
        return abar_s.sqrt() * x0 + (1 - abar_s).sqrt() * eps

    def classifier_guided_mean(
        self: Any, x_t: Tensor, t: Tensor, eps: Tensor, gradient_fn: Any, scale: float
    ) -> Tensor:
        return self.mean_of(x_t, t, eps) + scale * self.at(self.var, t, x_t) * gradient_fn(x_t, t)

    def mean_of(self: Any, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        alpha, beta, abar = (self.at(table, t, x_t) for table in (self.alpha, self.beta, self.abar))
        return (x_t - beta / (1 - abar).sqrt() * eps) / alpha.sqrt()

    def posterior_precision(self: Any, hessian: Tensor, t: Tensor) -> Tensor:
        abar = self.at(self.abar, t, hessian)
        unit = torch.eye(hessian.shape[-1], dtype=hessian.dtype)
        return abar / (1 - abar) * torch.linalg.inv(unit + (1 - abar) * hessian)

    def observation_gradient(self, x0: Tensor, y: Tensor, sigma: float) -> Tensor:
        return (y - x0) / sigma**2


class Energies:
    """A double well with a tilt, its score, and the contrastive loss."""

    def energy(self, x: Tensor) -> Tensor:
        return ((x**2 - 1) ** 2 / 4 + 0.3 * x).flatten(1).sum(1)

    def energy_score(self, x: Tensor) -> Tensor:
        return -(x**3 - x + 0.3)

    def contrastive_loss(self, energy: Any, x_pos: Tensor, x_neg: Tensor) -> Tensor:
        return energy(x_pos) - energy(x_neg)


class Chains(Walk):
    """Chains of Langevin dynamics."""

    def langevin_sample(self, score_fn: Any, x: Tensor, step_size: float, steps: int) -> Tensor:
        for _ in range(steps):
            x = self.langevin_step(x, score_fn(x), step_size, torch.randn_like(x))
        return x

    def noise_scales(self, first: float, last: float, count: int) -> Tensor:
        ends = torch.tensor([first, last], dtype=torch.float64).log()
        return torch.linspace(float(ends[0]), float(ends[1]), count, dtype=torch.float64).exp()

    def annealed_langevin(
        self, score_fn: Any, sigmas: Tensor, x: Tensor, epsilon: float, steps: int
    ) -> Tensor:
        for i, sigma in enumerate(sigmas.tolist()):
            for _ in range(steps):
                score = score_fn(x, torch.full((len(x),), i))
                last = float(sigmas[-1])
                x = self.annealed_langevin_step(x, score, sigma, last, epsilon, torch.randn_like(x))
        return x


class Losses:
    """Score-matching losses."""

    def esm_loss(self, score_fn: Any, x: Tensor) -> Tensor:
        x = x.requires_grad_()
        s = score_fn(x).flatten(1)
        total = 0.5 * s.square().sum(1)
        for i in range(s.shape[1]):
            total = total + torch.autograd.grad(s[:, i].sum(), x, retain_graph=True)[0].flatten(1)[:, i]
        return total

    def ssm_loss(self, score_fn: Any, x: Tensor, v: Tensor) -> Tensor:
        x = x.requires_grad_()
        s = score_fn(x)
        (along,) = torch.autograd.grad((s * v).sum(), x)
        return (along * v).flatten(1).sum(1) + 0.5 * (s * v).flatten(1).sum(1).square()

    def dsm_loss(self, score_fn: Any, x: Tensor, sigma: float, noise: Tensor) -> Tensor:
        return 0.5 * (score_fn(x + sigma * noise) + noise / sigma).square().flatten(1).sum(1)

    def smld_loss(self, score_fn: Any, sigmas: Tensor, x: Tensor, index: Tensor, noise: Tensor) -> Tensor:
        sigma = sigmas[index].reshape(-1, *[1] * (x.dim() - 1))
        return 0.5 * (score_fn(x + sigma * noise, index) + noise / sigma).square().flatten(1).sum(1)


class Likelihoods:
    """The variational bound and its parts, in nats."""

    def prior_kl(self: Any, x0: Tensor) -> Tensor:
        abar = float(self.abar[-1])
        mean, var = abar**0.5 * x0, 1 - abar
        return 0.5 * (mean**2 + var - 1 - math.log(var)).flatten(1).sum(1)

    def decoder_log_likelihood(self, x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
        low, high = (x - mean - 1 / 255) / log_scale.exp(), (x - mean + 1 / 255) / log_scale.exp()
        low, high = torch.where(x <= -1, -math.inf, low), torch.where(x >= 1, math.inf, high)
        # from the side where the distribution function is small
        a, b = torch.where(low > 0, -high, low), torch.where(low > 0, -low, high)
        top = torch.special.log_ndtr(b)
        return top + torch.log(-torch.expm1(torch.special.log_ndtr(a) - top))

    def bits_per_dim(self, nats: Tensor, dims: int) -> Tensor:
        return nats / (dims * math.log(2))

    def term(self: Any, model: Any, x0: Tensor, k: int, noise: Tensor) -> Tensor:
        """L_k of the 0-based level k, (B,)."""
        abar = float(self.abar[k])
        t = torch.full((len(x0),), k)
        x_t = abar**0.5 * x0 + (1 - abar) ** 0.5 * noise
        guess = (x_t - (1 - abar) ** 0.5 * model(x_t, t)) / abar**0.5
        if k == 0:
            log_scale = torch.full_like(x0, 0.5 * math.log(self.var[1]))
            return -self.decoder_log_likelihood(x0, guess, log_scale).sum(1)
        return ((float(self.coef_x0[k]) * (x0 - guess)) ** 2 / (2 * float(self.var[k]))).sum(1)

    def vlb(self: Any, model: Any, x0: Tensor, noises: Tensor) -> Tensor:
        total = self.prior_kl(x0)
        for k in range(self.T):
            total = total + self.term(model, x0, k, noises[k])
        return total


class Transitions:
    """The log-likelihood of a step of DDIM, nothing where it is deterministic."""

    def step_moments(
        self: Any, x_t: Tensor, t: Tensor, s: Tensor, eps: Tensor, eta: float
    ) -> tuple[Tensor, Tensor]:
        abar_t, abar_s = self.level(t, x_t), self.level(s, x_t)
        sigma = eta * ((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)).sqrt()
        x0 = (x_t - (1 - abar_t).sqrt() * eps) / abar_t.sqrt()
        return abar_s.sqrt() * x0 + (1 - abar_s - sigma**2).sqrt() * eps, sigma

    def step_log_likelihood(
        self, x_s: Tensor, x_t: Tensor, t: Tensor, s: Tensor, eps: Tensor, eta: float
    ) -> Tensor:
        mean, sigma = self.step_moments(x_t, t, s, eps, eta)
        still = sigma == 0
        sigma = torch.where(still, 1.0, sigma)
        logs = -0.5 * ((x_s - mean) / sigma) ** 2 - sigma.log() - 0.5 * math.log(2 * math.pi)
        return torch.where(still, 0.0, logs).flatten(1).sum(1)


class Weights:
    """The weight of min-SNR for a model that predicts eps."""

    def loss_weight(self: Any, t: Tensor) -> Tensor:
        abar = torch.as_tensor(self.abar)[t]
        snr = abar / (1 - abar)
        return snr.clamp(max=5.0) / snr


class Ranges:
    """Data in [-1, 1], a denoiser of data in [0, 1]."""

    def normalize_data(self, x: Tensor) -> Tensor:
        return 2 * x - 1

    def unnormalize_data(self, x: Tensor) -> Tensor:
        return (x + 1) / 2

    def score_from_denoiser(self, denoiser: Any, x: Tensor, sigma: float) -> Tensor:
        return (2 * denoiser((x + 1) / 2, sigma / 2) - 1 - x) / sigma**2
