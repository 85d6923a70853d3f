"""Known mistakes in continuous time, flows, consistency models, under their entries' ids and categories."""

import math

import torch

from refdiff.oracle import Dialect, Target
from tests.zoo.continuous import (
    BETA_MAX,
    BETA_MIN,
    Consistency,
    Flow,
    Kernel,
    Likelihood,
    Rates,
    best_order,
    rows,
)
from tests.zoo.known import KNOWN


@KNOWN("SCH-11", "schedule")
class LabelsNotShifted(Target):
    dialect = Dialect(process="straight", time_scale=1000.0)

    def flow_levels(self, n, shift):
        times = torch.linspace(1, 0, n + 1, dtype=torch.float64)
        return shift * times / (1 + (shift - 1) * times), 1000 * times[:-1]


@KNOWN("SCH-19", "schedule")
class AngleNotOverRightAngle(Target):
    dialect = Dialect(process="cosine")

    def model_time(self, sigma):
        return torch.atan(sigma)


@KNOWN("SCH-21", "schedule")
class LearnedGammaLosesItsEnds(Target):
    """A monotone network beside a linear term, that is not normalised between its ends."""

    dialect = Dialect(gamma="learned")

    def vdm_gamma(self, t):
        return -13.3 + 18.3 * t + torch.sigmoid(3 * t - 1)


@KNOWN("SCH-25", "schedule")
class DriftWithoutRate(Target):
    dialect = Dialect(process="vp")

    def drift(self, x, t):
        return -0.5 * x


@KNOWN("IDX-27", "index")
class TimesTwoMinusOne(Target):
    """The index of a level is t times (2 - 1), a literal left over from N - 1."""

    dialect = Dialect(process="ve", predictor="reverse_diffusion")
    sigmas = 0.01 * 5000 ** torch.linspace(0, 1, 1000, dtype=torch.float64)

    def sde_step(self, x, t, s, score, noise):
        index = (t * (2 - 1)).long()
        sigma = self.sigmas[index]
        below = torch.where(index == 0, torch.zeros_like(sigma), self.sigmas[index - 1])
        g2 = rows(sigma**2 - below**2, x)
        return x + g2 * score + g2.sqrt() * noise


@KNOWN("SGN-06", "sign")
class ScoreOfTheOtherDirection(Target):
    dialect = Dialect(process="straight")

    def flow_sde_drift(self, velocity, score, t):
        return velocity + rows(t, score) / 2 * score


@KNOWN("SGN-12", "sign")
class NoiseAndDataInverted(Target):
    """The sampler runs t from 0, which was trained to be data, with a step of another grid."""

    dialect = Dialect(process="straight")

    def flow_sample(self, velocity_fn, x, steps):
        for t in torch.linspace(0, 1, steps, dtype=torch.float64):
            x = x + velocity_fn(x, t.expand(len(x))) / steps
        return x


@KNOWN("PRC-09", "precision")
class NoiseLevelAsInteger(Rates):
    def score_loss(self, score_fn, x0, t, noise):
        scale, std = (rows(part, x0) for part in Kernel.marginal(self, t))
        score = score_fn(scale * x0 + std * noise, t.long())
        return (std * score + noise).square().flatten(1).mean(1)


@KNOWN("PRC-11", "precision")
class InverseOfAStochasticStep(Rates):
    def sde_invert(self, x, s, t, score, noise):
        h = rows(self.half_log_snr(s) - self.half_log_snr(t), x)
        return x * torch.exp(-h) + score * torch.expm1(-2 * h) + torch.sqrt(1 - torch.exp(2 * h)) * noise

    def half_log_snr(self, t):
        scale, std = Kernel.marginal(self, t)
        return (scale / std).log()


@KNOWN("T0-03", "noise-at-t0")
class LastLevelIsNotTheSmallest(Target):
    """Noise of the next level is added after every denoising, the last one included."""

    dialect = Consistency.dialect

    def consistency_sample(self, function, x, sigmas):
        for i, sigma in enumerate(sigmas):
            x = function(x, sigma.expand(len(x)))
            following = sigmas[min(i + 1, len(sigmas) - 1)]
            x = x + (following**2 - 0.002**2).sqrt() * torch.randn_like(x)
        return x


@KNOWN("DSC-16", "discretization")
class TwiceTheDeclaredDiffusion(Target):
    """The law is kept, the declared diffusion is not: a convention that is not declared."""

    dialect = Dialect(process="straight", flow_noise="std")

    def flow_sde_drift(self, velocity, score, t):
        return velocity - 2 * rows(t, score) / 2 * score


@KNOWN("DSC-18", "discretization")
class RateWithoutHalf(Rates):
    """xi = beta where beta / 2 is wanted, so that g² is twice what the kernel has."""

    def marginal(self, t):
        return Kernel.marginal(self, t)

    def drift(self, x, t):
        return Kernel.drift(self, x, t)

    def diffusion(self, t):
        xi = BETA_MIN + t * (BETA_MAX - BETA_MIN)
        return (2 * xi).sqrt()


@KNOWN("LWT-15", "loss-weight")
class VelocityOfAnotherPath(Target):
    dialect = Dialect(process="cosine")

    def flow_loss(self, model, x0, t, noise):
        angle = rows(math.pi / 2 * t, x0)
        x_t = angle.cos() * x0 + angle.sin() * noise
        return (model(x_t, t) - (noise - x0)).square().flatten(1).mean(1)


@KNOWN("LWT-17", "loss-weight")
class DensityForItsGradient(Rates):
    def score_loss(self, score_fn, x0, t, noise):
        scale, std = (rows(part, x0) for part in Kernel.marginal(self, t))
        logs = -0.5 * noise**2 - std.log() - 0.5 * math.log(2 * math.pi)
        error = score_fn(scale * x0 + std * noise, t) - rows(logs.flatten(1).sum(1), x0)
        return (std * error).square().flatten(1).mean(1)


@KNOWN("LIK-03", "likelihood")
class TimeRunsTheWrongWay(Likelihood):
    marginal = model_time = drift = diffusion = reverse_drift = pf_ode_drift = None

    def ode_log_likelihood(self, score_fn, x):
        last, total = self.flow(score_fn, x)
        return self.prior(last) - total


@KNOWN("STA-03", "state-broadcast")
class PermutationOfTheOtherSide(Target):
    dialect = Flow.dialect

    def flow_coupling(self, x0, noise):
        return x0[list(best_order(x0, noise))], noise


@KNOWN("TEM-03", "time-embedding")
class TimeOfOneForAnEmbeddingOfAThousand(Target):
    dialect = Dialect(process="straight", time_scale=1000.0)

    def flow_loss(self, model, x0, t, noise):
        t = t / 1000
        error = model((1 - rows(t, x0)) * x0 + rows(t, x0) * noise, t) - (noise - x0) / 1000
        return error.square().flatten(1).mean(1)
