"""Known mistakes in energies, scores, likelihoods and guidance, under their entries' ids and categories."""

import numpy as np
import torch

from tests.zoo.base import STEPS, dialect
from tests.zoo.chapters import Energies, Guides, Likelihoods, Ranges, Transitions, Walk, Weights, alone
from tests.zoo.known import KNOWN, zero_snr_betas


@KNOWN("SQR-09", "sqrt")
class NoiseInsideTheStep(alone(Walk)):
    dialect = dialect(langevin="half")

    def langevin_step(self, x, score, step_size, noise):
        return x + step_size * (0.5 * score + noise)


@KNOWN("SQR-11", "sqrt")
class NoiseForAnOptimiser(alone(Walk)):
    """The optimiser multiplies the gradient of the loss by the learning rate; the loss holds the noise."""

    friction = 0.05
    dialect = dialect(langevin="eta", temperature=friction)
    annealed_langevin_step = None

    def langevin_step(self, x, score, step_size, noise):
        in_the_loss = 2 * step_size * self.friction**0.5 * noise
        return x + step_size * (score + in_the_loss)


@KNOWN("SGN-08", "sign")
class OutputsAdded(alone(Guides)):
    cfg_step = None

    def cfg(self, uncond, cond, scale):
        return scale * cond + (scale - 1) * uncond


@KNOWN("SGN-10", "sign")
class NegativeMinusPositive(alone(Energies)):
    def contrastive_loss(self, energy, x_pos, x_neg):
        return energy(x_neg) - energy(x_pos)


@KNOWN("LWT-06", "loss-weight")
class PrecedenceOfTheBound(alone(Weights)):
    dialect = dialect(weighting="ldm", parameterization="x_0")

    def loss_weight(self, t):
        abar = torch.as_tensor(self.abar)[t]
        return 0.5 * abar.sqrt() / (2.0 * 1 - abar)


@KNOWN("LWT-08", "loss-weight")
class QuotientWithoutSignal(alone(Weights)):
    """min(SNR, bound) / SNR is 0 / 0 at the level that has no signal."""

    dialect = dialect(schedule=np.append(zero_snr_betas(STEPS)[:-1], 1.0), weighting="min_snr")

    def make_betas(self):
        return np.append(zero_snr_betas(self.T)[:-1], 1.0)


@KNOWN("LWT-10", "loss-weight")
class SigmaDataMissingAbove(alone(Weights)):
    dialect = dialect(weighting="soft_min_snr", sigma_data=0.5)

    def loss_weight(self, t):
        abar = torch.as_tensor(self.abar)[t]
        return 1 / ((1 - abar) / abar + 0.5**2)


@KNOWN("LWT-12", "loss-weight")
class SigmaDataIsOne(alone(Weights)):
    dialect = dialect(weighting="edm", sigma_data=0.5)

    def loss_weight(self, t):
        abar = torch.as_tensor(self.abar)[t]
        sigma = ((1 - abar) / abar).sqrt()
        return (sigma**2 + 1) / sigma**2


@KNOWN("GUI-01", "guidance")
class GradientAtTheState(alone(Guides)):
    """The expansion is declared to be around the mean, and the gradient is taken at x_t."""

    dialect = dialect(guidance_point="mean")


@KNOWN("GUI-03", "guidance")
class RenoisedWithTheOther(alone(Guides)):
    """x_0 from the unconditional eps, the guided one added again: the two are mixed up."""

    dialect = dialect(renoise="unconditional")

    def cfg_step(self, x_t, t, s, uncond, cond, scale):
        abar_t, abar_s = self.level(t, x_t), self.level(s, x_t)
        x0 = (x_t - (1 - abar_t).sqrt() * uncond) / abar_t.sqrt()
        return abar_s.sqrt() * x0 + (1 - abar_s).sqrt() * self.cfg(uncond, cond, scale)


@KNOWN("GUI-09", "guidance")
class ObservationNoiseHalved(alone(Guides)):
    """Data goes from [0, 1] to [-1, 1], and the observation's noise stays behind."""

    def observation_gradient(self, x0, y, sigma):
        return (y - x0) / (sigma / 2) ** 2


@KNOWN("LIK-07", "likelihood")
class BinsOnLatents(alone(Likelihoods)):
    dialect = dialect(decoder="continuous", data_range="latent")
    bits_per_dim = None


@KNOWN("LIK-09", "likelihood")
class FactorsAdded(alone(Guides)):
    guided_eps = cfg = cfg_step = classifier_guided_mean = observation_gradient = None

    def posterior_precision(self, hessian, t):
        abar = self.at(self.abar, t, hessian)
        unit = torch.eye(hessian.shape[-1], dtype=hessian.dtype)
        return abar / (1 - abar) * unit + torch.linalg.inv(unit + (1 - abar) * hessian)


@KNOWN("LIK-11", "likelihood")
class NaNWithoutNoise(alone(Transitions)):
    def step_log_likelihood(self, x_s, x_t, t, s, eps, eta):
        mean, sigma = self.step_moments(x_t, t, s, eps, eta)
        quotient = (x_s - mean) ** 2 / sigma**2
        return (-0.5 * quotient - sigma.log() - 0.5 * np.log(2 * np.pi)).flatten(1).sum(1)


@KNOWN("SCL-01", "data-scaling")
class DataLeftAsItIs(alone(Ranges)):
    dialect = dialect(denoiser_range="[0, 1]")

    def normalize_data(self, x):
        return x


@KNOWN("SCL-03", "data-scaling")
class DenoiserOfAnotherRange(alone(Ranges)):
    dialect = dialect(denoiser_range="[0, 1]")

    def score_from_denoiser(self, denoiser, x, sigma):
        return (denoiser(x, sigma) - x) / sigma**2


@KNOWN("SCL-09", "data-scaling")
class ShiftIgnored(alone(Ranges)):
    dialect = dialect(data_range="latent", latent_scale=1.5305, latent_shift=0.0609)
    score_from_denoiser = None

    def normalize_data(self, x):
        return x * 1.5305

    def unnormalize_data(self, x):
        return x / 1.5305 + 0.0609
