"""Correct ports of continuous time, from which a mutant differs in one place."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from refdiff.oracle import Dialect, Target

BETA_MIN, BETA_MAX = 0.1, 20.0


def rows(value: Tensor, x: Tensor) -> Tensor:
    """(B,) as (B, 1, ..., 1)."""
    return torch.as_tensor(value, dtype=x.dtype).reshape(-1, *[1] * (x.dim() - 1))


class Rates(Target):
    """The rate of the variance-preserving process; no ports."""

    dialect = Dialect(process="vp")

    def rate(self, t: Tensor) -> Tensor:
        return BETA_MIN + t * (BETA_MAX - BETA_MIN)

    def integral(self, t: Tensor) -> Tensor:
        return t * BETA_MIN + t**2 / 2 * (BETA_MAX - BETA_MIN)


class Kernel(Rates):
    """The variance-preserving process: its kernel and its equations."""

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return (-self.integral(t) / 2).exp(), (-torch.expm1(-self.integral(t))).sqrt()

    def model_time(self, sigma: Tensor) -> Tensor:
        total = torch.log1p(sigma**2)
        slope = BETA_MAX - BETA_MIN
        return 2 * total / (BETA_MIN + (BETA_MIN**2 + 2 * slope * total).sqrt())

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return -rows(self.rate(t), x) / 2 * x

    def diffusion(self, t: Tensor) -> Tensor:
        return self.rate(t).sqrt()

    def reverse_drift(self, x: Tensor, t: Tensor, score: Tensor) -> Tensor:
        return Kernel.drift(self, x, t) - rows(Kernel.diffusion(self, t), x) ** 2 * score

    def pf_ode_drift(self, x: Tensor, t: Tensor, score: Tensor) -> Tensor:
        return Kernel.drift(self, x, t) - rows(Kernel.diffusion(self, t), x) ** 2 * score / 2


class Steps(Kernel):
    """Euler and Maruyama's step of the reverse, and the sampler made of it."""

    def sde_step(self, x: Tensor, t: Tensor, s: Tensor, score: Tensor, noise: Tensor) -> Tensor:
        h = rows(t - s, x)
        if bool((h < 0).any()):
            raise ValueError("s must be below t")
        drift, g = Kernel.reverse_drift(self, x, t, score), rows(Kernel.diffusion(self, t), x)
        return x - drift * h + g * h.sqrt() * noise

    def sde_sample(self, score_fn: Any, x: Tensor, times: Tensor, noises: Tensor) -> Tensor:
        for i, (t, s) in enumerate(itertools.pairwise(times)):
            t, s = t.expand(len(x)), s.expand(len(x))
            x = Steps.sde_step(self, x, t, s, score_fn(x, t), noises[i])
        return x

    def corrector_step_size(self, score: Tensor, noise: Tensor, snr: float) -> Tensor:
        return 2 * (snr * noise.flatten(1).norm(dim=1) / score.flatten(1).norm(dim=1)) ** 2

    def corrector_step(self, x: Tensor, score: Tensor, noise: Tensor, snr: float) -> Tensor:
        epsilon = rows(Steps.corrector_step_size(self, score, noise, snr), x)
        return x + epsilon * score + (2 * epsilon).sqrt() * noise

    def predictor_corrector(
        self, score_fn: Any, x: Tensor, times: Tensor, snr: float, noises: Tensor, corrector_noises: Tensor
    ) -> Tensor:
        for i, (t, s) in enumerate(itertools.pairwise(times)):
            t, s = t.expand(len(x)), s.expand(len(x))
            x = Steps.corrector_step(self, x, score_fn(x, t), corrector_noises[i], snr)
            x = Steps.sde_step(self, x, t, s, score_fn(x, t), noises[i])
        return x


class Chain(Kernel):
    """The chain of betas that the process becomes with n steps."""

    def discretize(self, n: int) -> Tensor:
        edges = self.integral(torch.arange(n + 1, dtype=torch.float64) / n)
        return -torch.expm1(-edges.diff())


class Matching(Kernel):
    """Denoising score matching with std² for its weight."""

    def score_loss(self, score_fn: Any, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        scale, std = (rows(part, x0) for part in Kernel.marginal(self, t))
        score = score_fn(scale * x0 + std * noise, t)
        return (std * score + noise).square().flatten(1).mean(1)


class Likelihood(Kernel):
    """The likelihood by the probability flow, with the exact trace, in steps of Runge and Kutta's."""

    steps = 16

    def start(self) -> float:
        return self.dialect.first_time

    def field(self, score_fn: Any, x: Tensor, t: float) -> Tensor:
        times = torch.full((len(x),), t, dtype=x.dtype)
        return Kernel.pf_ode_drift(self, x, times, score_fn(x, times))

    def divergence(self, score_fn: Any, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            out = self.field(score_fn, x, t)
            grads = [
                torch.autograd.grad(out[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[1])
            ]
        return out.detach(), torch.stack(grads).sum(0)

    def prior(self, x: Tensor) -> Tensor:
        return -0.5 * (x**2).sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi)

    def flow(self, score_fn: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros(len(x), dtype=x.dtype)
        first = self.start()
        h = (1.0 - first) / self.steps
        for i in range(self.steps):
            t = first + i * h
            a, da = self.divergence(score_fn, x, t)
            b, db = self.divergence(score_fn, x + h / 2 * a, t + h / 2)
            c, dc = self.divergence(score_fn, x + h / 2 * b, t + h / 2)
            d, dd = self.divergence(score_fn, x + h * c, t + h)
            x, total = x + h / 6 * (a + 2 * b + 2 * c + d), total + h / 6 * (da + 2 * db + 2 * dc + dd)
        return x, total

    def ode_log_likelihood(self, score_fn: Any, x: Tensor) -> Tensor:
        x, total = self.flow(score_fn, x)
        return self.prior(x) + total


class Flow(Target):
    """The straight path, t = 1 being noise."""

    dialect = Dialect(process="straight")

    def flow_path(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return (1 - rows(t, x0)) * x0 + rows(t, x0) * noise

    def flow_velocity(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return noise - x0

    def flow_step(self, x: Tensor, t: Tensor, s: Tensor, velocity: Tensor) -> Tensor:
        return x + rows(s - t, x) * velocity

    def flow_sde_drift(self, velocity: Tensor, score: Tensor, t: Tensor) -> Tensor:
        return velocity - rows(t, score) / 2 * score

    def flow_loss(self, model: Any, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        error = model(Flow.flow_path(self, x0, noise, t), t) - Flow.flow_velocity(self, x0, noise, t)
        return error.square().flatten(1).mean(1)

    def time_shift(self, t: Tensor, shift: float) -> Tensor:
        return shift * t / (1 + (shift - 1) * t)

    def flow_levels(self, n: int, shift: float) -> tuple[Tensor, Tensor]:
        times = Flow.time_shift(self, torch.linspace(1, 0, n + 1, dtype=torch.float64), shift)
        return times, times[:-1]

    def flow_sample(self, velocity_fn: Any, x: Tensor, steps: int) -> Tensor:
        for t, s in itertools.pairwise(torch.linspace(1, 0, steps + 1, dtype=torch.float64)):
            t, s = t.expand(len(x)), s.expand(len(x))
            x = Flow.flow_step(self, x, t, s, velocity_fn(x, t))
        return x

    def flow_coupling(self, x0: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        return x0, noise[list(best_order(x0, noise))]


def best_order(x0: Tensor, noise: Tensor) -> tuple[int, ...]:
    """Which noise each sample of data gets."""
    orders = itertools.permutations(range(len(x0)))
    return min(orders, key=lambda order: float((x0 - noise[list(order)]).square().sum()))


class Consistency(Target):
    """A consistency model with its boundary at sigma_min, and its sampler."""

    dialect = Dialect(sigma_data=0.5, sigma_min=0.002)
    data, low = 0.5, 0.002

    def c_skip(self, sigma: Tensor) -> Tensor:
        return self.data**2 / ((sigma - self.low) ** 2 + self.data**2)

    def c_out(self, sigma: Tensor) -> Tensor:
        return self.data * (sigma - self.low) / (sigma**2 + self.data**2).sqrt()

    def consistency_function(self, x: Tensor, sigma: Tensor, output: Tensor) -> Tensor:
        return rows(self.c_skip(sigma), x) * x + rows(self.c_out(sigma), x) * output

    def consistency_sample(self, function: Any, x: Tensor, sigmas: Tensor) -> Tensor:
        x0 = function(x, sigmas[0].expand(len(x)))
        for sigma in sigmas[1:]:
            x = x0 + (sigma**2 - self.low**2).sqrt() * torch.randn_like(x)
            x0 = function(x, sigma.expand(len(x)))
        return x0


class Variational(Target):
    """Variational diffusion with a linear gamma, in continuous time."""

    dialect = Dialect()
    first, last = -13.3, 5.0

    def vdm_gamma(self, t: Tensor) -> Tensor:
        return self.first + (self.last - self.first) * t

    def vdm_loss(self, model: Any, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        gamma = rows(Variational.vdm_gamma(self, t), x0)
        z = torch.sigmoid(-gamma).sqrt() * x0 + torch.sigmoid(gamma).sqrt() * noise
        return (self.last - self.first) / 2 * (model(z, t) - noise).square().flatten(1).sum(1)


TOPICS = (Kernel, Steps, Chain, Matching, Likelihood, Flow, Consistency, Variational)
