"""Correct ports of energies, scores, likelihoods and guidance, from which a mutant differs in one place.

Each class is a topic; it may be put beside the textbook, and offers its own topic alone as a target.
"""

from __future__ import annotations

from typing import Any

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

    def observation_gradient(self, x0: Tensor, y: Tensor, sigma: float) -> Tensor:
        return (y - x0) / sigma**2
