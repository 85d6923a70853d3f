"""Correct ports of continuous time, each in one convention of the field, written apart."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch

from refdiff import flow
from refdiff.oracle import Dialect, Target
from refdiff.process import VE, VP
from tests.zoo.continuous import BETA_MAX, BETA_MIN, Kernel, Likelihood, Matching, Steps, best_order, rows

TIME_CONVENTIONS: dict[str, type[Target]] = {}
SLOPE = BETA_MAX - BETA_MIN


def convention(id: str, **spoken: Any):
    def add(cls: type[Target]) -> type[Target]:
        cls.name, cls.dialect = id, Dialect(**spoken)
        TIME_CONVENTIONS[id] = cls
        return cls

    return add


# equations and kernels


@convention("ve-geometric", process="ve")
class Exploding(Target):
    low, high = 0.01, 50.0

    def sigma(self, t):
        return self.low * (self.high / self.low) ** t

    def marginal(self, t):
        return torch.ones_like(t), self.sigma(t)

    def model_time(self, sigma):
        return (sigma / self.low).log() / math.log(self.high / self.low)

    def drift(self, x, t):
        return torch.zeros_like(x)

    def diffusion(self, t):
        return self.sigma(t) * math.sqrt(2 * (math.log(self.high) - math.log(self.low)))

    def reverse_drift(self, x, t, score):
        return -rows(self.diffusion(t) ** 2, x) * score

    def pf_ode_drift(self, x, t, score):
        return self.reverse_drift(x, t, score) / 2

    def discretize(self, n):
        return torch.linspace(math.log(0.01), math.log(50), n, dtype=torch.float64).exp()


Exploding.dialect = Dialect(process="ve", grid="N-1")


@convention("ve-from-clean", process=VE(0.02, 10.0, from_clean=True))
class FromClean(Target):
    def marginal(self, t):
        return torch.ones_like(t), (0.02**2 * torch.expm1(2 * t * math.log(500))).sqrt()

    def drift(self, x, t):
        return 0 * x

    def diffusion(self, t):
        return 0.02 * 500**t * math.sqrt(2 * math.log(500))


@convention("sub-vp", process="subvp")
class SubVariance(Target):
    def marginal(self, t):
        log_mean = -(t**2) / 4 * SLOPE - t / 2 * BETA_MIN
        return log_mean.exp(), -torch.expm1(2 * log_mean)

    def drift(self, x, t):
        return -rows(BETA_MIN + t * SLOPE, x) / 2 * x

    def diffusion(self, t):
        beta = BETA_MIN + t * SLOPE
        return (beta * -torch.expm1(-2 * BETA_MIN * t - SLOPE * t**2)).sqrt()

    def pf_ode_drift(self, x, t, score):
        return self.drift(x, t) - rows(self.diffusion(t), x) ** 2 / 2 * score

    def sde_step(self, x, t, s, score, noise):
        dt = rows(s - t, x)
        g = rows(self.diffusion(t), x)
        return x + (self.drift(x, t) - g**2 * score) * dt + g * (-dt).sqrt() * noise


@convention("edm-denoiser", process="edm", prediction="x_0")
class Edm(Target):
    """States of scale 1, noise levels for times, a denoiser for a score."""

    def marginal(self, t):
        return torch.ones_like(t), t.clone()

    def model_time(self, sigma):
        return sigma.clone()

    def drift(self, x, t):
        return torch.zeros_like(x)

    def diffusion(self, t):
        return (2 * t).sqrt()

    def pf_ode_drift(self, x, t, score):
        return (x - score) / rows(t, x)

    def sde_step(self, x, t, s, score, noise):
        t, s = rows(t, x), rows(s, x)
        d = (x - score) / t
        return x + 2 * d * (s - t) + (2 * t * (t - s)).sqrt() * noise


@convention(
    "variance-and-g-squared", process="vp", marginal="variance", diffusion="g_squared", reverse_time="tau"
)
class Squares(Kernel):
    def marginal(self, t):
        scale, std = Kernel.marginal(self, t)
        return scale, std**2

    def diffusion(self, t):
        return self.rate(t)

    def reverse_drift(self, x, t, score):
        return -Kernel.drift(self, x, t) + rows(self.rate(t), x) * score

    model_time = None

    def pf_ode_drift(self, x, t, score):
        return Kernel.drift(self, x, t) - rows(self.rate(t), x) / 2 * score


@convention("thousand-steps", process="vp", time_scale=1000.0)
class Thousand(Target):
    """t in 0..1000, rates per step."""

    kernel = Kernel()

    def marginal(self, t):
        return self.kernel.marginal(t / 1000)

    def model_time(self, sigma):
        return 1000 * self.kernel.model_time(sigma)

    def drift(self, x, t):
        return self.kernel.drift(x, t / 1000) / 1000

    def diffusion(self, t):
        return self.kernel.diffusion(t / 1000) / 1000**0.5

    def reverse_drift(self, x, t, score):
        return self.kernel.reverse_drift(x, t / 1000, score) / 1000

    def pf_ode_drift(self, x, t, score):
        return self.kernel.pf_ode_drift(x, t / 1000, score) / 1000

    def sde_step(self, x, t, s, score, noise):
        return Steps.sde_step(Steps(), x, t / 1000, s / 1000, score, noise)


@convention("numpy-float-times", process=VP(0.2, 12.0), backend="numpy", batched_t=False)
class InNumPy(Target):
    def integral(self, t):
        return 0.2 * t + 11.8 * t**2 / 2

    def marginal(self, t):
        return np.exp(-self.integral(t) / 2), np.sqrt(1 - np.exp(-self.integral(t)))

    def drift(self, x, t):
        return -(0.2 + 11.8 * t) / 2 * x

    def diffusion(self, t):
        return np.sqrt(0.2 + 11.8 * t)

    def sde_step(self, x, t, s, score, noise):
        beta = 0.2 + 11.8 * t
        h = t - s
        return x + beta * (x / 2 + score) * h + np.sqrt(beta * h) * np.random.standard_normal(x.shape)

    def sde_sample(self, score_fn, x, times, noises):
        for t, s in itertools.pairwise(times):
            x = self.sde_step(x, t, s, score_fn(x, t), None)
        return x


@convention("eps-in-float32", process="vp", prediction="eps", dtype="float32")
class Eps(Target):
    """As in a code base whose network predicts the noise."""

    def marginal(self, t):
        log_mean = -(t**2) / 4 * SLOPE - t / 2 * BETA_MIN
        return log_mean.exp(), (1 - (2 * log_mean).exp()).sqrt()

    def pf_ode_drift(self, x, t, score):
        beta, std = (rows(one, x) for one in (BETA_MIN + t * SLOPE, self.marginal(t)[1]))
        return -beta / 2 * (x - score / std)

    def sde_step(self, x, t, s, score, noise):
        beta, std, dt = (rows(one, x) for one in (BETA_MIN + t * SLOPE, self.marginal(t)[1], t - s))
        return x + beta * (x / 2 - score / std) * dt + (beta * dt).sqrt() * torch.randn_like(x)

    def score_loss(self, score_fn, x0, t, noise):
        scale, std = (rows(one, x0) for one in self.marginal(t))
        z = torch.randn_like(x0)
        return (score_fn(scale * x0 + std * z, t) - z).pow(2).flatten(1).mean(1)


# samplers


class VpStep(Target):
    """The transition of the variance-preserving process between two times."""

    def transition(self, x, t, s):
        total = BETA_MIN * (t - s) + SLOPE * (t**2 - s**2) / 2
        return rows(torch.exp(-total / 2), x), rows(-torch.expm1(-total), x)

    def variance(self, x, t):
        return rows(-torch.expm1(-BETA_MIN * t - SLOPE * t**2 / 2), x)

    def sde_sample(self, score_fn, x, times, noises):
        for t, s in itertools.pairwise(times):
            t, s = t.repeat(len(x)), s.repeat(len(x))
            x = self.sde_step(x, t, s, score_fn(x, t), torch.randn_like(x))
        return x


@convention("vp-ancestral", process="vp", predictor="ancestral")
class Posterior(VpStep):
    def sde_step(self, x, t, s, score, noise):
        a, v = self.transition(x, t, s)
        kept = self.variance(x, s) / self.variance(x, t)
        return (x + v * score) / a + (v * kept).sqrt() * noise


@convention("vp-ancestral-of-beta", process="vp", predictor="ancestral", variance="beta")
class OfBeta(VpStep):
    def sde_step(self, x, t, s, score, noise):
        a, v = self.transition(x, t, s)
        return (x + v * score) / a + v.sqrt() * noise


@convention(
    "vp-ancestral-of-rates", process=VP(0.2, 8.0), predictor="ancestral", variance="beta", step_beta="rate"
)
class OfRates(VpStep):
    def sde_step(self, x, t, s, score, noise):
        beta = rows((0.2 + 7.8 * t) * (t - s), x)
        return (x + beta * score) / (1 - beta).sqrt() + beta.sqrt() * noise


@convention(
    "vp-reverse-diffusion",
    process=VP(0.2, 8.0),
    predictor="reverse_diffusion",
    step_beta="rate",
    last_step="mean",
)
class Discrete(VpStep):
    def sde_step(self, x, t, s, score, noise):
        beta = rows((0.2 + 7.8 * t) * (t - s), x)
        f = (1 - beta).sqrt() * x - x
        return x - f + beta * score + beta.sqrt() * noise

    def sde_sample(self, score_fn, x, times, noises):
        count = len(times) - 1
        for i in range(count):
            t, s = times[i].expand(len(x)), times[i + 1].expand(len(x))
            z = noises[i] if i < count - 1 else torch.zeros_like(x)
            x = self.sde_step(x, t, s, score_fn(x, t), z)
        return x


class VeStep(Target):
    def sigma(self, t, x):
        return rows(0.01 * 5000**t, x)

    def sde_sample(self, score_fn, x, times, noises):
        for i in range(len(times) - 1):
            t, s = (
                torch.full((len(x),), times[i].item()).to(x),
                torch.full((len(x),), times[i + 1].item()).to(x),
            )
            x = self.sde_step(x, t, s, score_fn(x, t), noises[i])
        return x


@convention("ve-reverse-diffusion", process="ve", predictor="reverse_diffusion")
class VeDiffusion(VeStep):
    def sde_step(self, x, t, s, score, noise):
        g2 = self.sigma(t, x) ** 2 - self.sigma(s, x) ** 2
        return x + g2 * score + g2.sqrt() * noise


@convention("ve-ancestral", process="ve", predictor="ancestral")
class VeAncestral(VeStep):
    def sde_step(self, x, t, s, score, noise):
        t2, s2 = self.sigma(t, x) ** 2, self.sigma(s, x) ** 2
        return x + (t2 - s2) * score + (s2 * (t2 - s2) / t2).sqrt() * noise


@convention("ve-tables", process="ve", predictor="reverse_diffusion", time_steps=999)
class VeTables(Target):
    """A thousand levels, read at the index of the time."""

    sigmas = torch.linspace(math.log(0.01), math.log(50), 1000, dtype=torch.float64).exp()

    def index(self, t):
        return (t * 999).round().long()

    def marginal(self, t):
        return torch.ones_like(t), self.sigmas[self.index(t)]

    def sde_step(self, x, t, s, score, noise):
        now, below = self.sigmas[self.index(t)], self.sigmas[(self.index(t) - 1).clamp(min=0)]
        g2 = rows(now**2 - below**2, x)
        return x + g2 * score + g2.sqrt() * noise

    def sde_sample(self, score_fn, x, times, noises):
        for i, t in enumerate(times[:-1]):
            t = t.expand(len(x))
            x = self.sde_step(x, t, None, score_fn(x, t), noises[i])
        return x


@convention(
    "corrector-of-the-batch-after", process="vp", corrector_norm="batch", corrector="after", last_step="mean"
)
class BatchAfter(Steps):
    def corrector_step_size(self, score, noise, snr):
        lengths = [one.flatten(1).norm(dim=1).mean() for one in (noise, score)]
        return 2 * (snr * lengths[0] / lengths[1]) ** 2

    def corrector_step(self, x, score, noise, snr):
        epsilon = self.corrector_step_size(score, noise, snr)
        return x + epsilon * score + (2 * epsilon).sqrt() * noise

    def sde_sample(self, score_fn, x, times, noises):
        noises = torch.cat([noises[:-1], torch.zeros_like(noises[-1:])])
        return Steps.sde_sample(self, score_fn, x, times, noises)

    def predictor_corrector(self, score_fn, x, times, snr, noises, corrector_noises):
        for i, (t, s) in enumerate(itertools.pairwise(times)):
            t, s = t.expand(len(x)), s.expand(len(x))
            z = torch.randn_like(x)
            x = self.sde_step(x, t, s, score_fn(x, t), z if i < len(times) - 2 else 0 * z)
            x = self.corrector_step(x, score_fn(x, s), torch.randn_like(x), snr)
        return x


# chains


@convention("betas-of-rates", process="vp", step_beta="rate")
class BetasOfRates(Target):
    def discretize(self, n):
        return [(BETA_MIN + SLOPE * i / n) / n for i in range(1, n + 1)]


@convention("betas-between-ends", process="vp", step_beta="rate", grid="N-1")
class BetasBetween(Target):
    def discretize(self, n):
        return np.linspace(BETA_MIN / n, BETA_MAX / n, n)


@convention("betas-of-wide-steps", process="vp", step_beta="rate", grid="wide")
class BetasWide(Target):
    def discretize(self, n):
        return np.linspace(BETA_MIN, BETA_MAX, n) / (n - 1)


@convention("sigmas-falling", process="ve", grid="N-1")
class SigmasFalling(Target):
    def discretize(self, n):
        return np.exp(np.linspace(np.log(50), np.log(0.01), n))


# losses and likelihoods


@convention("likelihood-weight", process="vp", score_weight="likelihood", loss_reduction="half_sum")
class Weighted(Matching):
    def score_loss(self, score_fn, x0, t, noise):
        scale, std = (rows(one, x0) for one in Kernel.marginal(self, t))
        error = score_fn(scale * x0 + std * noise, t) + noise / std
        return self.rate(t) * error.square().flatten(1).sum(1) / 2


@convention("no-weight", process="ve", score_weight="one", loss_reduction="sum")
class Unweighted(Target):
    def score_loss(self, score_fn, x0, t, noise):
        std = rows(0.01 * 5000**t, x0)
        return (score_fn(x0 + std * noise, t) + noise / std).square().flatten(1).sum(1)


class Trace(Likelihood):
    marginal = model_time = drift = diffusion = reverse_drift = pf_ode_drift = None


class Probed(Trace):
    def divergence(self, score_fn, x, t):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            out = self.field(score_fn, x, t)
            (along,) = torch.autograd.grad((out * self.probe).sum(), x)
        return out.detach(), (along * self.probe).sum(1)


@convention("hutchinson-gaussian", process="vp", likelihood="bits_per_dim")
class Gaussian(Probed):
    def ode_log_likelihood(self, score_fn, x):
        self.probe = torch.randn_like(x)
        last, total = self.flow(score_fn, x)
        return (self.prior(last) + total) / (x.shape[1] * math.log(2))


@convention("hutchinson-signs", process="vp")
class Signs(Probed):
    def ode_log_likelihood(self, score_fn, x):
        self.probe = torch.randint_like(x, 2) * 2 - 1
        last, total = self.flow(score_fn, x)
        return self.prior(last) + total


@convention("ve-prior-of-its-end", process=VE(0.01, 20.0), first_time=0.0)
class ExplodingPrior(Trace):
    def field(self, score_fn, x, t):
        times = torch.full((len(x),), t, dtype=x.dtype)
        g2 = 2 * math.log(2000) * (0.01 * 2000**t) ** 2
        return -g2 / 2 * score_fn(x, times)

    def prior(self, x):
        return -0.5 * (x / 20).square().sum(1) - x.shape[1] * (math.log(20) + 0.5 * math.log(2 * math.pi))


# flows


@convention("flow-to-data", process="straight", time_direction="data")
class ToData(Target):
    """t = 1 is data: noise first, x_1 - x_0 for a velocity."""

    def flow_path(self, x0, noise, t):
        return rows(t, x0) * x0 + (1 - rows(t, x0)) * noise

    def flow_velocity(self, x0, noise, t):
        return x0 - noise

    def flow_step(self, x, t, s, velocity):
        return x + rows(s - t, x) * velocity

    def flow_sde_drift(self, velocity, score, t):
        return velocity + rows(1 - t, score) / 2 * score

    def flow_loss(self, model, x0, t, noise):
        return (model(self.flow_path(x0, noise, t), t) - (x0 - noise)).square().flatten(1).mean(1)

    def time_shift(self, t, shift):
        return t / (t + shift * (1 - t))

    def flow_levels(self, n, shift):
        times = self.time_shift(torch.linspace(0, 1, n + 1, dtype=torch.float64), shift)
        return times, times[:-1]

    def flow_sample(self, velocity_fn, x, steps):
        for i in range(steps):
            x = x + velocity_fn(x, torch.full((len(x),), i / steps, dtype=x.dtype)) / steps
        return x

    def flow_coupling(self, x0, noise):
        order = list(best_order(x0, noise))
        mixed = torch.tensor([2, 0, 4, 1, 3])
        return x0[mixed], noise[order][mixed]


@convention("flow-optimal-transport", process=flow.Transport(0.01), loss_reduction="sum")
class Transport(Target):
    """The noise keeps sigma_min at the data."""

    low = 0.01

    def flow_path(self, x0, noise, t):
        t = rows(t, x0)
        return (1 - t) * x0 + (self.low + (1 - self.low) * t) * noise

    def flow_velocity(self, x0, noise, t):
        return (1 - self.low) * noise - x0

    def flow_loss(self, model, x0, t, noise):
        z = torch.randn_like(x0)
        return (model(self.flow_path(x0, z, t), t) - self.flow_velocity(x0, z, t)).square().flatten(1).sum(1)


@convention("flow-cosine", process="cosine")
class CosineFlow(Target):
    def flow_path(self, x0, noise, t):
        angle = math.pi / 2 * rows(t, x0)
        return angle.cos() * x0 + angle.sin() * noise

    def flow_velocity(self, x0, noise, t):
        angle = math.pi / 2 * rows(t, x0)
        return math.pi / 2 * (angle.cos() * noise - angle.sin() * x0)

    def model_time(self, sigma):
        return 2 / math.pi * sigma.atan()


@convention("flow-of-a-thousand", process="straight", time_scale=1000.0, shift="log", grid="N-1")
class FlowOfAThousand(Target):
    """Labels 1000 sigma, sigmas down to 1/1000 and then 0, the shift as mu."""

    def flow_path(self, x0, noise, t):
        sigma = rows(t / 1000, x0)
        return (1 - sigma) * x0 + sigma * noise

    def flow_levels(self, n, shift):
        u = torch.linspace(1, 1 / 1000, n, dtype=torch.float64)
        sigmas = math.exp(shift) / (math.exp(shift) + (1 / u - 1))
        return torch.cat([sigmas, torch.zeros(1)]), sigmas * 1000

    def time_shift(self, t, shift):
        return 1000 * math.exp(shift) / (math.exp(shift) + 1000 / t - 1)

    def flow_sample(self, velocity_fn, x, steps):
        sigmas = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
        for now, after in itertools.pairwise(sigmas):
            # the midpoint rule; velocities are per unit of the label
            middle = x + velocity_fn(x, (1000 * now).expand(len(x))) * 1000 * (after - now) / 2
            x = x + velocity_fn(middle, (500 * (now + after)).expand(len(x))) * 1000 * (after - now)
        return x


@convention("flow-sde-of-twice", process="straight", flow_noise="twice_std")
class TwiceStd(Target):
    """Any diffusion keeps the law: this one is 2 t."""

    def flow_sde_drift(self, velocity, score, t):
        return velocity - rows(2 * t, score) / 2 * score


@convention("flow-sde-of-eps", process="straight", flow_noise="g_squared", prediction="eps")
class SdeOfEps(Target):
    def flow_sde_drift(self, velocity, score, t):
        return velocity + rows(1 / (1 - t), score) * score


# consistency and variational diffusion


@convention("consistency-without-shift", consistency="edm", sigma_data=1.5, sigma_min=0.01)
class WithoutShift(Target):
    def consistency_function(self, x, sigma, output):
        sigma = rows(sigma, x)
        total = sigma**2 + 1.5**2
        return 1.5**2 / total * x + 1.5 * sigma / total.sqrt() * output

    def consistency_sample(self, function, x, sigmas):
        for i, sigma in enumerate(sigmas.tolist()):
            if i:
                x = x + math.sqrt(sigma**2 - 0.01**2) * torch.randn(x.shape, dtype=x.dtype)
            x = function(x, torch.full((len(x),), sigma, dtype=x.dtype))
        return x


@convention(
    "log-snr-falls", gamma_sign="log_snr", gamma_ends=(-10.0, 6.0), likelihood="bits_per_dim", vdm_steps=50
)
class LogSnr(Target):
    def vdm_gamma(self, t):
        return 10 - 16 * t

    def vdm_loss(self, model, x0, t, noise):
        log_snr = rows(10 - 16 * t, x0)
        z = log_snr.sigmoid().sqrt() * x0 + (-log_snr).sigmoid().sqrt() * noise
        error = (model(z, t) - noise).square().flatten(1).mean(1)
        return 25 * math.expm1(16 / 50) * error / math.log(2)


@convention("learned-gamma", gamma="learned")
class Learned(Target):
    """A monotone network, normalised between its ends."""

    def raw(self, t):
        return 2 * t + torch.sigmoid(4 * t - 1)

    def vdm_gamma(self, t):
        zero, one = (self.raw(torch.tensor(end).double()) for end in (0.0, 1.0))
        return -13.3 + 18.3 * (self.raw(t) - zero) / (one - zero)
