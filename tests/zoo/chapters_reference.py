"""The package's own energies, scores, likelihoods and guidance, as targets."""

from typing import Any

import torch

from refdiff import ddpm, energy, guidance, langevin, schedule, score_matching, smld, vlb
from refdiff.oracle import Dialect, Target
from tests.zoo.base import STEPS

REFERENCE: list[type[Target]] = []
SCHEDULE = schedule.linear_rescaled(STEPS)


def reference(cls: type[Target]) -> type[Target]:
    cls.name = cls.__name__
    REFERENCE.append(cls)
    return cls


def spoken(**conventions: Any) -> Dialect:
    return Dialect(schedule="linear_rescaled", T=STEPS, **conventions)


def drawn(x, count):
    return (torch.randn_like(x) for _ in range(count))


@reference
class Energies(Target):
    dialect = spoken(temperature=0.3)

    def energy(self, x):
        return (x**4 / 4 - x**2 / 3).flatten(1).sum(1)

    def energy_score(self, x):
        return energy.score(self.energy, x)

    def contrastive_loss(self, E, x_pos, x_neg):
        return energy.contrastive_loss(E, x_pos, x_neg)

    def langevin_step(self, x, score, step_size, noise):
        return langevin.step(x, score, step_size, noise, temperature=0.3)

    def langevin_sample(self, score_fn, x, step_size, steps):
        *_, last = langevin.chain(score_fn, x, step_size, drawn(x, steps), temperature=0.3)
        return last


@reference
class HalfSquare(Target):
    dialect = spoken(langevin="half_square")

    def langevin_step(self, x, score, step_size, noise):
        return langevin.step_half(x, score, step_size, noise)


@reference
class Scores(Target):
    dialect = spoken()

    def esm_loss(self, score_fn, x):
        return score_matching.explicit_loss(score_fn, x)

    def ssm_loss(self, score_fn, x, v):
        return score_matching.sliced_loss(score_fn, x, v)

    def dsm_loss(self, score_fn, x, sigma, noise):
        return score_matching.denoising_loss(score_fn, x, sigma, noise)


@reference
class Slices(Target):
    dialect = spoken(sliced="reduced")

    def ssm_loss(self, score_fn, x, v):
        return score_matching.sliced_loss(score_fn, x, v, reduced=True)


@reference
class Ladder(Target):
    dialect = spoken(langevin="half", noise_label="sigma", dsm_weight="sigma_squared", denoise=True)
    rule = "half"

    def noise_scales(self, first, last, count):
        return smld.geometric_sigmas(first, last, count)

    def annealed_langevin_step(self, x, score, sigma, sigma_last, epsilon, noise):
        alpha = smld.step_sizes(torch.tensor([sigma, sigma_last], dtype=torch.float64), epsilon)[0]
        return smld.step(x, score, float(alpha), noise, self.rule)

    def annealed_langevin(self, score_fn, sigmas, x, epsilon, steps):
        noises = drawn(x, len(sigmas) * steps)
        return smld.annealed_langevin(
            score_fn, sigmas, x, epsilon, steps, noises, self.dialect.denoise, self.rule
        )

    def smld_loss(self, score_fn, sigmas, x, index, noise):
        return smld.loss(score_fn, sigmas, x, index, noise)


@reference
class LadderOfFullSteps(Ladder):
    dialect = spoken(langevin="eta", noise_label="sigma", dsm_weight="sigma_squared")
    rule = "eta"


@reference
class Bound(Target):
    dialect = spoken(variance="beta", weighting="vlb")

    def loss_weight(self, t):
        return ddpm.loss_weight(SCHEDULE, t, "eps", "beta")

    def prior_kl(self, x0):
        return vlb.prior_term(SCHEDULE, x0).flatten(1).sum(1)

    def decoder_log_likelihood(self, x, mean, log_scale):
        return vlb.discretized_gaussian_log_likelihood(x, mean, log_scale)

    def bits_per_dim(self, nats, dims):
        return vlb.bits_per_dim(nats / dims)

    def vlb(self, model, x0, noises):
        def asked(x, t):
            return model(x, torch.full((len(x),), t))

        return vlb.bound_terms(asked, SCHEDULE, x0, noises, variance="beta").total


@reference
class Guidance(Target):
    dialect = spoken(guidance_point="mean")
    point = "mean"

    def guided_eps(self, eps, t, grad, scale):
        return guidance.guided_eps(eps, grad, SCHEDULE.alpha_bar[t], scale)

    def cfg(self, uncond, cond, scale):
        return guidance.classifier_free(uncond, cond, scale)

    def classifier_guided_mean(self, x_t, t, eps, gradient_fn, scale):
        still = torch.zeros_like(x_t)
        return guidance.ddpm_step(SCHEDULE, x_t, t, eps, gradient_fn, still, scale=scale, point=self.point)


@reference
class GuidanceAtTheState(Guidance):
    dialect = spoken(guidance_point="x_t")
    point = "x_t"


@reference
class GuidanceByHo(Target):
    dialect = spoken(cfg="ho")

    def cfg(self, uncond, cond, scale):
        return guidance.classifier_free(uncond, cond, scale, "ho")
