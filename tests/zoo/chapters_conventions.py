"""Correct energies, scores, likelihoods and guidance, each in one convention of the field, written apart."""

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from refdiff.oracle import Dialect, Target
from tests.zoo.base import STEPS
from tests.zoo.known import zero_snr_betas

CHAPTER_CONVENTIONS: dict[str, type[Target]] = {}


def convention(id: str):
    def add(cls: type[Target]) -> type[Target]:
        cls.name = id
        CHAPTER_CONVENTIONS[id] = cls
        return cls

    return add


def short(**conventions: Any) -> Dialect:
    return Dialect(**{"schedule": "linear_rescaled", "T": STEPS, **conventions})


class Tables(Target):
    """1-based tables on the short chain."""

    dialect = short()
    beta = torch.cat([torch.zeros(1).double(), torch.linspace(0.1 / STEPS, 20 / STEPS, STEPS).double()])
    beta[1:] = torch.as_tensor(np.linspace(0.1 / STEPS, 20 / STEPS, STEPS))
    abar = torch.cumprod(1 - beta, 0)

    def look(self, table, t, x):
        return table[t].to(x.dtype).view(-1, *(1,) * (x.dim() - 1))


# energies


@convention("log-density")
class LogDensity(Target):
    dialect = short(energy_sign="log_density")

    def energy(self, x):
        return torch.logsumexp(torch.stack([-((x - m) ** 2).sum(-1) / 2 for m in (-1.0, 0.5)]), 0)

    def energy_score(self, x):
        x = x.clone().requires_grad_()
        return torch.autograd.grad(self.energy(x).sum(), x)[0]

    def contrastive_loss(self, log_p, x_pos, x_neg):
        return -log_p(x_pos) + log_p(x_neg)


@convention("energy-network")
class Network(Target):
    """A network in float32 on two dimensions, with the score by automatic differentiation."""

    dialect = short(dtype="float32")

    def __init__(self):
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Linear(16, 1))

    def energy(self, x):
        return self.net(x).squeeze(-1)

    def energy_score(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return -torch.autograd.grad(self.energy(x).sum(), x)[0]


@convention("energy-in-numpy")
class InNumPy(Target):
    dialect = short(backend="numpy")

    def energy(self, x):
        return (np.cosh(x) + 0.2 * x**2).reshape(len(x), -1).sum(1)

    def energy_score(self, x):
        return -(np.sinh(x) + 0.4 * x)


@convention("energy-without-graph")
class WithoutGraph(Target):
    @torch.no_grad()
    def energy(self, x):
        return (x**4 / 4 - x.sin()).flatten(1).sum(1)

    def energy_score(self, x):
        return x.cos() - x**3


# Langevin dynamics


@convention("langevin-half-square")
class HalfSquare(Target):
    """x + eps²/2 s + eps z, and eps_i = sqrt(step) sigma_i / sigma_L."""

    dialect = short(langevin="half_square")

    def langevin_step(self, x, score, step_size, noise):
        return x + step_size**2 / 2 * score + step_size * noise

    def annealed_langevin_step(self, x, score, sigma, sigma_last, epsilon, noise):
        eps_i = epsilon**0.5 * sigma / sigma_last
        return x + eps_i**2 / 2 * score + eps_i * noise

    def langevin_sample(self, score_fn, x, step_size, steps):
        for _ in range(steps):
            x = self.langevin_step(x, score_fn(x), step_size, torch.randn_like(x))
        return x

    def annealed_langevin(self, score_fn, sigmas, x, epsilon, steps):
        for i in range(len(sigmas)):
            for _ in range(steps):
                step = epsilon * (sigmas[i] / sigmas[-1]) ** 2
                x = x + step / 2 * score_fn(x, i) + step.sqrt() * torch.randn(x.shape, dtype=x.dtype)
        return x


@convention("langevin-half")
class Half(Target):
    """Stochastic gradient Langevin dynamics: half a step along the score, noise of its variance."""

    dialect = short(langevin="half")

    def langevin_step(self, x, score, step_size, noise):
        return x + 0.5 * step_size * score + math.sqrt(step_size) * noise

    def langevin_sample(self, score_fn, x, step_size, steps):
        for _ in range(steps):
            x = x + 0.5 * step_size * score_fn(x) + step_size**0.5 * torch.randn_like(x)
        return x


@convention("langevin-tempered")
class Tempered(Target):
    """Little noise, as energies are often sampled with."""

    dialect = short(temperature=0.01)

    def langevin_step(self, x, score, step_size, noise):
        return x + step_size * score + 0.1 * (2 * step_size) ** 0.5 * noise

    def langevin_sample(self, score_fn, x, step_size, steps):
        for _ in range(steps):
            x = x + step_size * score_fn(x) + 0.1 * (2 * step_size) ** 0.5 * torch.randn_like(x)
        return x


@convention("ncsn")
class NCSN(Target):
    """The first code base of annealed Langevin dynamics, with the denoising of the second."""

    dialect = short(denoise=True, dsm_weight="sigma_squared")

    def noise_scales(self, first, last, count):
        return np.exp(np.linspace(np.log(first), np.log(last), count))

    def annealed_langevin(self, score_fn, sigmas, x, epsilon, steps):
        for c, sigma in enumerate(sigmas):
            labels = torch.ones(x.shape[0]) * c
            step_size = epsilon * (sigma / sigmas[-1]) ** 2
            for _ in range(steps):
                grad = score_fn(x, labels.long())
                noise = torch.randn_like(x)
                x = x + step_size * grad + noise * np.sqrt(step_size * 2)
        last_noise = (len(sigmas) - 1) * torch.ones(x.shape[0])
        return x + sigmas[-1] ** 2 * score_fn(x, last_noise.long())

    def smld_loss(self, score_fn, sigmas, x, index, noise):
        used_sigmas = sigmas[index].view(x.shape[0], *([1] * len(x.shape[1:])))
        perturbed = x + used_sigmas * noise
        target = -1 / (used_sigmas**2) * (used_sigmas * noise)
        scores = score_fn(perturbed, index)
        scores, target = scores.view(scores.shape[0], -1), target.view(target.shape[0], -1)
        return 1 / 2.0 * ((scores - target) ** 2).sum(dim=-1) * used_sigmas.squeeze() ** 2


@convention("sigma-labelled")
class SigmaLabelled(Target):
    """Levels in ascending order in one table, the network told sigma itself."""

    dialect = short(noise_label="sigma", score_reduction="mean")

    def noise_scales(self, first, last, count):
        return torch.exp(torch.linspace(math.log(last), math.log(first), count))

    def annealed_langevin(self, score_fn, sigmas, x, epsilon, steps):
        for sigma in sigmas:
            for _ in range(steps):
                alpha = epsilon * sigma**2 / sigmas[-1] ** 2
                x = x + alpha * score_fn(x, sigma.expand(len(x))) + (2 * alpha) ** 0.5 * torch.randn_like(x)
        return x

    def smld_loss(self, score_fn, sigmas, x, index, noise):
        sigma = sigmas[index]
        wide = sigma.view(-1, *(1,) * (x.dim() - 1))
        return (score_fn(x + wide * noise, sigma) + noise / wide).square().flatten(1).mean(1)

    def dsm_loss(self, score_fn, x, sigma, noise):
        return (score_fn(x + sigma * noise) + noise / sigma).square().flatten(1).mean(1)


# score matching


class ScoreMatching(Target):
    """Explicit and sliced, through functional transforms."""

    def esm_loss(self, score_fn, x):
        jacobian = torch.func.vmap(torch.func.jacrev(score_fn))(x)
        d = x[0].numel()
        trace = jacobian.reshape(len(x), d, d).diagonal(dim1=1, dim2=2)
        return self.reduce(score_fn(x).reshape(len(x), d).square(), trace)

    def ssm_loss(self, score_fn, x, v):
        s, jv = torch.func.jvp(score_fn, (x,), (v,))
        square = (s * v).flatten(1).sum(1, keepdim=True).square() / s[0].numel()
        return self.reduce(square.expand(-1, s[0].numel()), (jv * v).flatten(1))


@convention("score-matching-summed")
class Summed(ScoreMatching):
    dialect = short(score_reduction="sum")

    def reduce(self, square, derivative):
        return (square + 2 * derivative).sum(1)


@convention("score-matching-half-mean")
class HalfMean(ScoreMatching):
    dialect = short(score_reduction="half_mean")

    def reduce(self, square, derivative):
        return (square / 2 + derivative).mean(1)


@convention("score-matching-mean")
class Mean(ScoreMatching):
    dialect = short(score_reduction="mean")

    def reduce(self, square, derivative):
        return (square + 2 * derivative).mean(1)


@convention("score-matching-reduced")
class Reduced(Target):
    """Sliced score matching with its square averaged over v by hand."""

    dialect = short(sliced="reduced")

    def ssm_loss(self, score_fn, x, v):
        x = x.clone().requires_grad_()
        s = score_fn(x)
        (grad,) = torch.autograd.grad((s * v).sum(), x)
        return (grad * v).flatten(1).sum(-1) + s.detach().square().flatten(1).sum(-1) / 2


@convention("slices-of-its-own")
class OwnSlices(Target):
    """Draws the directions itself."""

    def ssm_loss(self, score_fn, x, v):
        v = torch.randn_like(x)
        _, jv = torch.func.jvp(score_fn, (x,), (v,))
        return (jv * v).flatten(1).sum(1) + 0.5 * (score_fn(x) * v).flatten(1).sum(1) ** 2


@convention("denoising-weighted")
class DenoisingWeighted(Target):
    """The residual of unit size: |sigma s + z|²."""

    dialect = short(score_reduction="sum", dsm_weight="sigma_squared")

    def dsm_loss(self, score_fn, x, sigma, noise):
        return (sigma * score_fn(x + sigma * noise) + noise).square().flatten(1).sum(1)


# likelihoods


def approx_standard_normal_cdf(x):
    return 0.5 * (1.0 + torch.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * torch.pow(x, 3))))


@convention("openai-likelihood")
class OpenAILikelihood(Tables):
    """The tanh approximation, the floor, bits of a dimension, variance beta."""

    dialect = short(
        normal_cdf="tanh", probability_floor=1e-12, likelihood="bits_per_dim", variance="beta", index_origin=0
    )

    def nats(self, x, means, log_scales):
        centered = x - means
        inv_stdv = torch.exp(-log_scales)
        cdf_plus = approx_standard_normal_cdf(inv_stdv * (centered + 1.0 / 255.0))
        cdf_min = approx_standard_normal_cdf(inv_stdv * (centered - 1.0 / 255.0))
        log_cdf_plus = torch.log(cdf_plus.clamp(min=1e-12))
        log_one_minus_cdf_min = torch.log((1.0 - cdf_min).clamp(min=1e-12))
        inside = torch.log((cdf_plus - cdf_min).clamp(min=1e-12))
        upper = torch.where(x > 0.999, log_one_minus_cdf_min, inside)
        return torch.where(x < -0.999, log_cdf_plus, upper)

    def decoder_log_likelihood(self, x, mean, log_scale):
        return self.nats(x, mean, log_scale) / np.log(2.0)

    def prior_kl(self, x0):
        abar = self.abar[-1]
        kl = 0.5 * (-1.0 - torch.log(1 - abar) + (1 - abar) + abar * x0**2)
        return kl.flatten(1).mean(1) / np.log(2.0)

    def vlb(self, model, x0, noises):
        total = self.prior_kl(x0)
        for k in reversed(range(STEPS)):
            abar, prev, beta = self.abar[k + 1], self.abar[k], self.beta[k + 1]
            x_t = abar.sqrt() * x0 + (1 - abar).sqrt() * noises[k]
            guess = (x_t - (1 - abar).sqrt() * model(x_t, torch.full((len(x0),), k))) / abar.sqrt()
            c1, c2 = prev.sqrt() * beta / (1 - abar), (1 - beta).sqrt() * (1 - prev) / (1 - abar)
            mean, true_mean = c1 * guess + c2 * x_t, c1 * x0 + c2 * x_t
            if k == 0:
                log_scale = 0.5 * torch.log(beta).expand_as(x0)
                term = -self.nats(x0, mean, log_scale)
            else:
                low = beta * (1 - prev) / (1 - abar)
                ratio = torch.log(low / beta)
                term = 0.5 * (-1.0 - ratio + torch.exp(ratio) + (true_mean - mean) ** 2 / beta)
            total = total + term.flatten(1).mean(1) / np.log(2.0)
        return total


@convention("likelihood-in-bits")
class InBits(Tables):
    """In bits of a sample, pixels in [0, 1], distribution functions of the error function."""

    dialect = short(likelihood="bits", data_range="[0, 1]")

    def decoder_log_likelihood(self, x, mean, log_scale):
        z, half = (x - mean) / log_scale.exp(), 0.5 / 255 / log_scale.exp()
        # with the sign of the far end, so that no tail is a difference of numbers near one
        side = -torch.where(z == 0, 1.0, z.sign())
        near, far = side * z + half, side * z - half
        low = torch.where((side > 0) & (x <= 0) | (side < 0) & (x >= 1), -math.inf, far)
        high = torch.where((side > 0) & (x >= 1) | (side < 0) & (x <= 0), math.inf, near)
        top = torch.special.log_ndtr(high)
        return (top + torch.log1p(-torch.exp(torch.special.log_ndtr(low) - top))) / math.log(2)

    def prior_kl(self, x0):
        abar = self.abar[-1]
        return torch.distributions.kl_divergence(
            torch.distributions.Normal(abar.sqrt() * x0, (1 - abar).sqrt()),
            torch.distributions.Normal(0.0, 1.0),
        ).flatten(1).sum(1) / math.log(2)

    def bits_per_dim(self, nats, dims):
        return nats / math.log(2) / dims


@convention("continuous-likelihood")
class Continuous(Target):
    """A density of data in [-1, 1]: seven bits of a bin are added."""

    dialect = short(decoder="continuous")

    def decoder_log_likelihood(self, x, mean, log_scale):
        return torch.distributions.Normal(mean, log_scale.exp()).log_prob(x)

    def bits_per_dim(self, nats, dims):
        return nats / dims / np.log(2) + 7


@convention("continuous-likelihood-of-unit-range")
class ContinuousUnit(Target):
    dialect = short(decoder="continuous", data_range="[0, 1]")

    def bits_per_dim(self, nats, dims):
        return nats / np.log(2.0) / dims + 8.0


# weights


def weighting(id: str, form, **spoken):
    def loss_weight(self, t):
        abar = self.abar[t]
        return form(abar / (1 - abar), ((1 - abar) / abar).sqrt(), t)

    convention(id)(type(id, (Tables,), {"dialect": short(**spoken), "loss_weight": loss_weight}))


weighting("weight-one", lambda snr, sigma, t: torch.ones(len(t)), weighting="one")
weighting(
    "min-snr-eps", lambda snr, sigma, t: torch.minimum(snr, torch.tensor(5.0)) / snr, weighting="min_snr"
)
weighting(
    "min-snr-v", lambda snr, sigma, t: snr.clamp(max=5) / (snr + 1), weighting="min_snr", parameterization="v"
)
weighting(
    "min-snr-x0",
    lambda snr, sigma, t: snr.clamp(max=3),
    weighting="min_snr",
    parameterization="x_0",
    weight_bound=3.0,
)
weighting(
    "truncated-snr", lambda snr, sigma, t: snr.clamp(min=1), weighting="truncated_snr", parameterization="x_0"
)
weighting(
    "snr-plus-one", lambda snr, sigma, t: torch.ones(len(t)), weighting="snr_plus_one", parameterization="v"
)
weighting("edm", lambda snr, a, t: (a**2 + 0.5**2) / (a * 0.5) ** 2, weighting="edm")
weighting("soft-min-snr", lambda snr, a, t: 0.25 / (a**2 + 0.25), weighting="soft_min_snr")
weighting(
    "latent-diffusion-weight",
    lambda snr, a, t: 0.5 * (1 / (1 + a**2)).sqrt() / (2 * (1 - 1 / (1 + a**2))),
    weighting="ldm",
    parameterization="x_0",
)


@convention("weight-of-the-bound")
class BoundWeight(Tables):
    dialect = short(weighting="vlb")

    def loss_weight(self, t):
        beta, abar, prev = self.beta[t], self.abar[t], self.abar[t - 1]
        var = beta * (1 - prev) / (1 - abar)
        return beta**2 / (2 * var * (1 - beta) * (1 - abar))


@convention("min-snr-without-signal")
class MinSNRWithoutSignal(Target):
    """The limit of min(SNR, bound) / SNR at the level that has no signal."""

    dialect = Dialect(schedule=np.append(zero_snr_betas(STEPS)[:-1], 1.0), weighting="min_snr")

    def loss_weight(self, t):
        abar = torch.as_tensor(np.append(1.0, np.cumprod(1 - np.append(zero_snr_betas(STEPS)[:-1], 1.0))))[t]
        return torch.where(abar <= 5 * (1 - abar), 1.0, 5 * (1 - abar) / abar)


# data


@convention("pixels-of-unit-range")
class UnitRange(Target):
    dialect = short(data_range="[0, 1]", denoiser_range="[-1, 1]")

    def normalize_data(self, x):
        return x.clone()

    def unnormalize_data(self, x):
        return x.clone()

    def score_from_denoiser(self, denoiser, x, sigma):
        return ((denoiser(2 * x - 1, 2 * sigma) + 1) / 2 - x) / sigma**2


@convention("latents")
class Latents(Target):
    dialect = short(data_range="latent", latent_scale=1.5305, latent_shift=0.0609)

    def normalize_data(self, x):
        return (x - 0.0609) * 1.5305

    def unnormalize_data(self, x):
        return x / 1.5305 + 0.0609


# guidance


@convention("guidance-by-ho")
class ByHo(Tables):
    dialect = short(cfg="ho")

    def cfg(self, uncond, cond, scale):
        return (1 + scale) * cond - scale * uncond

    def cfg_step(self, x_t, t, s, uncond, cond, scale):
        eps = torch.lerp(cond, uncond, -scale)
        abar, prev = self.look(self.abar, t, x_t), self.look(self.abar, s, x_t)
        return prev.sqrt() * (x_t - (1 - abar).sqrt() * eps) / abar.sqrt() + (1 - prev).sqrt() * eps


@convention("guidance-written-around-the-condition")
class AroundTheCondition(Target):
    """The same scale as around the other: s = 1 is no guidance."""

    def cfg(self, uncond, cond, scale):
        return cond + (scale - 1) * (cond - uncond)


@convention("guidance-renoised-unconditionally")
class PlusPlus(Tables):
    dialect = short(renoise="unconditional")

    def cfg_step(self, x_t, t, s, uncond, cond, scale):
        abar, prev = self.look(self.abar, t, x_t), self.look(self.abar, s, x_t)
        x0 = (x_t - (1 - abar).sqrt() * (uncond + scale * (cond - uncond))) / abar.sqrt()
        return prev.sqrt() * x0 + (1 - prev).sqrt() * uncond


@convention("guidance-in-sigma-space")
class SigmaSpaceGuidance(Tables):
    dialect = short(space="ve")

    def sigma(self, t, x):
        abar = self.look(self.abar, t, x)
        return ((1 - abar) / abar).sqrt()

    def guided_eps(self, eps, t, grad, scale):
        return eps - self.sigma(t, eps) * scale * grad

    def cfg_step(self, x_t, t, s, uncond, cond, scale):
        eps = uncond + scale * (cond - uncond)
        return x_t + (self.sigma(s, x_t) - self.sigma(t, x_t)) * eps


class Classified(Tables):
    def moments(self, x_t, t, eps):
        b, abar, prev = (self.look(table, t, x_t) for table in (self.beta, self.abar, self.abar.roll(1)))
        return (x_t - b / (1 - abar).sqrt() * eps) / (1 - b).sqrt(), b * (1 - prev) / (1 - abar)


@convention("classifier-at-the-mean")
class AtTheMean(Classified):
    dialect = short(guidance_point="mean")

    def classifier_guided_mean(self, x_t, t, eps, gradient_fn, scale):
        mean, var = self.moments(x_t, t, eps)
        return mean + scale * var * gradient_fn(mean, t - 1)


@convention("classifier-at-the-mean-at-t")
class AtTheMeanAtT(Classified):
    def classifier_guided_mean(self, x_t, t, eps, gradient_fn, scale):
        mean, var = self.moments(x_t, t, eps)
        return mean + var * (scale * gradient_fn(mean, t))


@convention("classifier-at-the-state")
class AtTheState(Classified):
    dialect = short(guidance_point="x_t", variance="beta")

    def classifier_guided_mean(self, x_t, t, eps, gradient_fn, scale):
        mean, _ = self.moments(x_t, t, eps)
        return mean + scale * self.look(self.beta, t, x_t) * gradient_fn(x_t, t)


@convention("numpy-steps")
class NumPySteps(Target):
    dialect = short(backend="numpy", cfg="ho")

    def __init__(self):
        self.rng = np.random.default_rng()

    def langevin_step(self, x, score, step_size, noise):
        return x + step_size * score + np.sqrt(2 * step_size) * self.rng.standard_normal(x.shape)

    def langevin_sample(self, score_fn, x, step_size, steps):
        for _ in range(steps):
            x = self.langevin_step(x, score_fn(x), step_size, None)
        return x

    def cfg(self, uncond, cond, scale):
        return cond + scale * (cond - uncond)

    def observation_gradient(self, x0, y, sigma):
        return (y - x0) / sigma**2

    def contrastive_loss(self, energy, x_pos, x_neg):
        return energy(x_pos) - energy(x_neg)

    def bits_per_dim(self, nats, dims):
        return nats / (dims * np.log(2))

    def normalize_data(self, x):
        return 2 * x - 1

    def dsm_loss(self, score_fn, x, sigma, noise):
        residual = score_fn(x + sigma * noise) + noise / sigma
        return 0.5 * (residual**2).reshape(len(x), -1).sum(1)
