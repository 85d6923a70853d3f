"""Mutants that reproduce entries of the list of known mistakes, under the entry's id and category."""

import itertools
import math

import numpy as np
import torch

from tests.zoo.base import STEPS, Ancestral, Registry, Textbook, dialect, rows

KNOWN = Registry()


@KNOWN("SCH-01", "schedule")
class RangeByStride(Textbook):
    def timesteps(self, n):
        return [*list(range(0, self.T, self.T // n))[::-1], -1]


@KNOWN("SCH-03", "schedule")
class QuadraticOfSquares(Textbook):
    dialect = dialect(schedule="quadratic")

    def make_betas(self):
        return np.linspace(1e-4**2, 0.02**2, self.T) ** 2


def cosine_abar(u):
    return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2


def cosine_betas(T, cap=0.999):
    return np.array([min(1 - cosine_abar((i + 1) / T) / cosine_abar(i / T), cap) for i in range(T)])


@KNOWN("SCH-04", "schedule", "index")
class CosineWithoutItsLastLevel(Textbook):
    dialect = dialect(schedule="cosine")

    def make_betas(self):
        return cosine_betas(self.T)

    def make_abar(self):
        u = np.linspace(0, 1, self.T + 1)
        curve = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2
        return (curve / curve[0])[:-1]


@KNOWN("SCH-07", "schedule")
class LastLevelRepeated(Textbook):
    def timesteps(self, n):
        levels = [i * (self.T // n) for i in reversed(range(n))]
        return [*levels, levels[-1]]


@KNOWN("SCH-09", "schedule")
class CosineUncapped(Textbook):
    dialect = dialect(schedule="cosine")

    def make_betas(self):
        return cosine_betas(self.T, cap=1.0)


@KNOWN("SCH-15", "schedule")
class TableOfSamplingSteps(Textbook):
    def sample(self, model, x_T, steps):
        x, visited = x_T, list(self.timesteps(steps))
        abar = np.append(np.cumprod(1 - np.linspace(0.1 / self.T, 20 / self.T, steps)), 1.0)
        for i in reversed(range(steps)):
            a, b = abar[i], abar[i - 1]
            eps = model(x, torch.full((len(x),), visited[steps - 1 - i]))
            x = b**0.5 * (x - (1 - a) ** 0.5 * eps) / a**0.5 + (1 - b) ** 0.5 * eps
        return x


class StridedWithTableOfNeighbours(Ancestral):
    """Few steps, but the coefficients of the full chain."""

    def sample(self, model, x_T, steps):
        x = x_T
        for k in list(self.timesteps(steps))[:-1]:
            t = torch.full((len(x),), k)
            x = self.ddpm_step(x, t, model(x, t), torch.randn_like(x))
        return x


@KNOWN("IDX-01", "index")
class StridedDDPM(StridedWithTableOfNeighbours):
    pass


@KNOWN("IDX-02", "index")
class StridedDDPMPorted(Ancestral):
    def sample(self, model, x_T, steps):
        x = x_T
        stride = self.T // steps
        for i in range(steps - 1, -1, -1):
            k = i * stride
            x0 = self.predict_x0(x, k, model(x, torch.full((len(x),), k)))
            x = self.coef_x0[k] * x0 + self.coef_xt[k] * x
            if k > 0:
                x = x + self.var[k] ** 0.5 * torch.randn_like(x)
        return x


@KNOWN("IDX-04", "index")
class PreviousByStride(Textbook):
    dialect = dialect(spacing="linspace")

    def timesteps(self, n):
        self.stride = self.T // n
        return [*np.linspace(0, self.T - 1, n).round()[::-1].astype(int).tolist(), -1]

    def sample(self, model, x_T, steps):
        x = x_T
        for k in self.timesteps(steps)[:-1]:
            t = torch.full((len(x),), k)
            s = (t - self.stride).clamp(min=-1)
            x = self.ddim_step(x, t, s, model(x, t), 0.0, torch.zeros_like(x))
        return x


@KNOWN("IDX-05", "index")
class PreviousPlusOffset(Textbook):
    offset = 1

    def ddim_step(self, x_t, t, s, eps, eta, noise):
        s = torch.as_tensor(s)
        return super().ddim_step(x_t, t, torch.where(s >= 0, s + self.offset, s), eps, eta, noise)


@KNOWN("IDX-07", "index")
class OffsetOutOfRange(Textbook):
    dialect = dialect(spacing="leading", offset=1)

    def timesteps(self, n):
        return [i * (self.T // n) + 1 for i in reversed(range(n))] + [-1]


@KNOWN("IDX-10", "index", "noise-at-t0")
class OneStepShort(Textbook):
    def sample(self, model, x_T, steps):
        x = x_T
        levels = list(self.timesteps(steps))
        for i in range(steps - 1):
            t, s = torch.full((len(x),), levels[i]), torch.full((len(x),), levels[i + 1])
            x = self.ddim_step(x, t, s, model(x, t), 0.0, torch.zeros_like(x))
        return x


@KNOWN("IDX-12", "index")
class InversionShifted(Textbook):
    def ddim_invert(self, x_s, s, t, eps):
        s, t = torch.as_tensor(s), torch.as_tensor(t)
        return super().ddim_invert(x_s, t, (2 * t - s).clamp(max=self.T - 1), eps)


@KNOWN("IDX-14", "index")
class InversionWraps(Textbook):
    def ddim_invert(self, x_s, s, t, eps):
        a, b = self.at(self.abar, s, x_s), self.at(self.abar, t, x_s)
        x0 = (x_s - (1 - a).sqrt() * eps) / a.sqrt()
        return b.sqrt() * x0 + (1 - b).sqrt() * eps


@KNOWN("IDX-23", "index", "schedule")
class DuplicateLevels(Textbook):
    def timesteps(self, n):
        return [*(np.geomspace(self.T, 1, n).round().astype(int) - 1).tolist(), -1]


@KNOWN("IDX-25", "index")
class VelocityFromDescendingList(Textbook):
    def velocity(self, x0, eps, t):
        descending = list(range(self.T))[::-1]
        step_index = torch.tensor([descending.index(int(k)) for k in torch.as_tensor(t).reshape(-1)])
        abar = self.at(self.abar, step_index, x0)
        return abar.sqrt() * eps - (1 - abar).sqrt() * x0


@KNOWN("IDX-29", "index")
class LastStepTwice(Textbook):
    def sample(self, model, x_T, steps):
        x = x_T
        levels = list(self.timesteps(steps))
        pairs = list(itertools.pairwise(levels))
        for k, j in [pairs[0], *pairs]:
            t, s = torch.full((len(x),), k), torch.full((len(x),), j)
            x = self.ddim_step(x, t, s, model(x, t), 0.0, torch.zeros_like(x))
        return x


@KNOWN("IDX-31", "index")
class CleanToNoisy(Textbook):
    def sample(self, model, x_T, steps):
        x = x_T
        levels = sorted(self.timesteps(steps))
        for j, k in itertools.pairwise(levels):
            t, s = torch.full((len(x),), k), torch.full((len(x),), j)
            x = self.ddim_step(x, t, s, model(x, t), 0.0, torch.zeros_like(x))
        return x


@KNOWN("IDX-33", "index", "schedule")
class LeadingForTrailing(Textbook):
    dialect = dialect(spacing="trailing")


class LearnedRange(Ancestral):
    """Model output with twice the channels; the second half interpolates the log variance."""

    dialect = dialect(sampler="ddpm", variance="learned_range")

    def variance_from(self, v, low, high):
        frac = (v + 1) / 2
        return (frac * high.log() + (1 - frac) * low.log()).exp()

    def bounds(self, x, t):
        clipped = np.append(self.var[1], self.var[1:])
        return self.at(clipped, t, x), self.at(self.beta, t, x)

    def ddpm_step(self, x_t, t, eps, noise):
        eps, v = eps.chunk(2, 1)
        std = self.variance_from(v, *self.bounds(x_t, t)).sqrt()
        return self.step_mean(x_t, t, eps) + self.mask(x_t, t) * std * noise

    def strided_bounds(self, x, k, abar_t, abar_s):
        return (1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s), 1 - abar_t / abar_s

    loss = vlb_term = guided_mean = None

    def sample(self, model, x_T, steps):
        x = x_T
        levels = list(self.timesteps(steps))
        for k, j in itertools.pairwise(levels):
            t = torch.full((len(x),), k)
            abar_t, abar_s = self.level(k, x), self.level(j, x)
            eps, v = model(x, t).chunk(2, 1)
            mean = self.strided_mean(self.predict_x0(x, t, eps), x, abar_t, abar_s)
            if j < 0:
                return mean
            var = self.variance_from(v, *self.strided_bounds(x, k, abar_t, abar_s))
            x = mean + var.sqrt() * torch.randn_like(x)
        return x


@KNOWN("VAR-01", "variance")
class RangeInRawSpace(LearnedRange):
    def variance_from(self, v, low, high):
        frac = (v + 1) / 2
        return frac * high + (1 - frac) * low


@KNOWN("VAR-02", "variance", "index")
class RangeUpToUnstridedBeta(LearnedRange):
    def strided_bounds(self, x, k, abar_t, abar_s):
        return super().strided_bounds(x, k, abar_t, abar_s)[0], self.at(self.beta, k, x)


@KNOWN("VAR-04", "variance")
class LogVarianceReadAsVariance(LearnedRange):
    dialect = dialect(sampler="ddpm", variance="learned")

    def variance_from(self, v, low, high):
        return v


@KNOWN("VAR-07", "variance")
class PosteriorVarianceWithoutBar(Textbook):
    def make_tables(self):
        super().make_tables()
        self.var = self.beta * (1 - self.abar_prev) / (1 - self.alpha)


@KNOWN("VAR-09", "variance")
class SigmaOfTheLevel(Textbook):
    def ddim_step(self, x_t, t, s, eps, eta, noise):
        abar_t, abar_s = self.level(t, x_t), self.level(s, x_t)
        sigma = eta * (1 - abar_t).sqrt()
        direction = (1 - abar_s - sigma**2).clamp(min=0).sqrt()
        return abar_s.sqrt() * self.predict_x0(x_t, t, eps) + direction * eps + sigma * noise


@KNOWN("VAR-14", "variance")
class KLWithAnotherSamplersStd(Textbook):
    def vlb_term(self, model, x0, t, noise):
        x_t = self.q_sample(x0, t, noise)
        gap = self.q_posterior(x0, x_t, t)[0] - self.step_mean(x_t, t, model(x_t, t))
        return (gap**2 / (2 * self.at(self.beta, t, x_t))).flatten(1).sum(1)


@KNOWN("VAR-16", "variance", "guidance")
class GradientTimesExpOfStd(Textbook):
    def guided_mean(self, x_t, t, eps, grad, scale):
        return self.step_mean(x_t, t, eps) + scale * torch.exp(0.5 * self.step_std(x_t, t)) * grad


@KNOWN("VAR-17", "variance")
class DirectionTimesSigma(Textbook):
    def ddim_step(self, x_t, t, s, eps, eta, noise):
        abar_t, abar_s = self.level(t, x_t), self.level(s, x_t)
        sigma = self.ddim_sigma(abar_t, abar_s, eta)
        return abar_s.sqrt() * self.predict_x0(x_t, t, eps) + sigma * eps + sigma * noise


@KNOWN("SQR-02", "sqrt")
class NoiseTimesVariance(Textbook):
    def q_sample(self, x0, t, noise):
        abar = self.at(self.abar, t, x0)
        return abar.sqrt() * x0 + (1 - abar) * noise


@KNOWN("SQR-05", "sqrt")
class DDIMMeanWithoutRoot(Textbook):
    def ddim_step(self, x_t, t, s, eps, eta, noise):
        abar_t, abar_s = self.level(t, x_t), self.level(s, x_t)
        sigma = self.ddim_sigma(abar_t, abar_s, eta)
        return abar_s * self.predict_x0(x_t, t, eps) + (1 - abar_s - sigma**2).sqrt() * eps + sigma * noise


@KNOWN("SQR-07", "sqrt")
class LogRootWithoutHalf(Textbook):
    def predict_x0(self, x_t, t, eps):
        abar = self.at(self.abar, t, x_t)
        return x_t / abar.sqrt() - torch.exp(torch.log(1 - abar) - 0.5 * torch.log(abar)) * eps


@KNOWN("SGN-01", "sign")
class NoiseFromStartFlipped(Textbook):
    def predict_eps(self, x_t, t, x0):
        abar = self.at(self.abar, t, x_t)
        return (x0 - x_t / abar.sqrt()) / (1 / abar - 1).sqrt()


@KNOWN("SGN-04", "sign")
class ScoreWithPlus(Textbook):
    def score(self, x_t, t, eps):
        return eps / (1 - self.at(self.abar, t, x_t)).sqrt()


class PredictsX0(Textbook):
    """The network predicts x_0."""

    dialect = dialect(parameterization="x_0")

    def step_mean(self, x_t, t, x0):
        return self.q_posterior(x0, x_t, t)[0]

    def direction(self, x_t, t, x0):
        return self.predict_eps(x_t, t, x0)

    def ddim_step(self, x_t, t, s, x0, eta, noise):
        abar_t, abar_s = self.level(t, x_t), self.level(s, x_t)
        sigma = self.ddim_sigma(abar_t, abar_s, eta)
        eps = self.direction(x_t, t, x0)
        return abar_s.sqrt() * x0 + (1 - abar_s - sigma**2).sqrt() * eps + sigma * noise

    def ddim_invert(self, x_s, s, t, x0):
        abar_t, abar_s = self.level(t, x_s), self.level(s, x_s)
        eps = (x_s - abar_s.sqrt() * x0) / (1 - abar_s).sqrt()
        return abar_t.sqrt() * x0 + (1 - abar_t).sqrt() * eps

    def loss(self, model, x0, t, noise):
        return ((model(self.q_sample(x0, t, noise), t) - x0) ** 2).flatten(1).mean(1)


@KNOWN("PAR-01", "parameterization")
class X0UsedAsEps(PredictsX0):
    def direction(self, x_t, t, x0):
        return x0


@KNOWN("PAR-04", "parameterization")
class X0ByTheVelocityFormula(Textbook):
    def predict_x0(self, x_t, t, eps):
        abar = self.at(self.abar, t, x_t)
        return abar.sqrt() * x_t - (1 - abar).sqrt() * eps


class SigmaSpace(Textbook):
    """Levels x / sqrt(abar): noise of standard deviation sigma is added to x_0."""

    dialect = dialect(space="ve")

    def sigma_at(self, k, x):
        return ((1 - self.level(k, x)) / self.level(k, x)).sqrt()

    def sigmas(self):
        return np.sqrt((1 - self.abar) / self.abar)

    def q_sample(self, x0, t, noise):
        return x0 + self.sigma_at(t, x0) * noise

    def ddim_step(self, x_t, t, s, eps, eta, noise):
        sigma_t, sigma_s = self.sigma_at(t, x_t), self.sigma_at(s, x_t)
        up = eta * sigma_s * (1 - (sigma_s / sigma_t) ** 2).sqrt()
        return x_t - sigma_t * eps + (sigma_s**2 - up**2).sqrt() * eps + up * noise

    def ddim_invert(self, x_s, s, t, eps):
        return x_s + (self.sigma_at(t, x_s) - self.sigma_at(s, x_s)) * eps

    def predict_x0(self, x_t, t, eps):
        return x_t - self.sigma_at(t, x_t) * eps

    def predict_eps(self, x_t, t, x0):
        return (x_t - x0) / self.sigma_at(t, x_t)

    def score(self, x_t, t, eps):
        return -eps / self.sigma_at(t, x_t)

    def q_posterior(self, x0, x_t, t):
        k = torch.as_tensor(t)
        ratio = (self.sigma_at(k - 1, x_t) / self.sigma_at(k, x_t)) ** 2
        return x0 + ratio * (x_t - x0), self.sigma_at(k - 1, x_t) ** 2 * (1 - ratio)

    def step_std(self, x_t, t):
        k = torch.as_tensor(t)
        ratio = (self.sigma_at(k - 1, x_t) / self.sigma_at(k, x_t)) ** 2
        return (self.sigma_at(k - 1, x_t) ** 2 * (1 - ratio)).sqrt()

    def guided_mean(self, x_t, t, eps, grad, scale):
        return self.step_mean(x_t, t, eps) + scale * self.step_std(x_t, t) ** 2 * grad

    def scale_input(self, x, k):
        return x / (self.sigma_at(k, x) ** 2 + 1).sqrt()

    def start(self, x_T, k):
        return x_T * (self.sigma_at(k, x_T) ** 2 + 1).sqrt()

    def sample(self, model, x_T, steps):
        levels = list(self.timesteps(steps))
        x = self.start(x_T, levels[0])
        for k, j in itertools.pairwise(levels):
            t = torch.full((len(x),), k)
            eps = model(self.scale_input(x, k), t)
            x = x + (self.sigma_at(j, x) - self.sigma_at(k, x)) * eps
        return x


@KNOWN("PAR-06", "parameterization")
class VPNoiseInVESpace(SigmaSpace):
    def q_sample(self, x0, t, noise):
        abar = self.level(t, x0)
        return abar.sqrt() * x0 + (1 - abar).sqrt() * noise


@KNOWN("PAR-12", "parameterization", "data-scaling")
class StartScaledByTheInverse(SigmaSpace):
    def start(self, x_T, k):
        return x_T / (self.sigma_at(k, x_T) ** 2 + 1).sqrt()


def zero_snr_betas(T):
    root = np.sqrt(np.cumprod(1 - np.linspace(0.1 / T, 20 / T, T)))
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    abar = root**2
    return 1 - np.append(abar[0], abar[1:] / abar[:-1])


@KNOWN("PAR-08", "parameterization")
class EpsAtZeroSNR(Textbook):
    dialect = dialect(schedule=zero_snr_betas(STEPS))

    def make_betas(self):
        return zero_snr_betas(self.T)


@KNOWN("T0-01", "noise-at-t0")
class NoiseOnTheLastStep(Textbook):
    dialect = dialect(variance="beta")

    def step_std(self, x_t, t):
        return self.at(self.beta, t, x_t).sqrt()

    def mask(self, x_t, t):
        return 1.0

    def guided_mean(self, x_t, t, eps, grad, scale):
        return self.step_mean(x_t, t, eps) + scale * self.at(self.beta, t, x_t) * grad

    vlb_term = None


@KNOWN("T0-05", "noise-at-t0", "index")
class StartsFromTheLastTimestep(SigmaSpace):
    def start(self, x_T, k):
        return super().start(x_T, 0)


@KNOWN("T0-07", "noise-at-t0")
class FinalLevelNotData(Textbook):
    def level(self, k, x):
        return self.at(np.append(self.abar[0], self.abar), torch.as_tensor(k) + 1, x)


@KNOWN("PRC-01", "precision")
class TableInHalf(Textbook):
    def make_abar(self):
        return np.cumprod(1.0 - self.beta).astype(np.float16).astype(np.float64)


@KNOWN("PRC-02", "precision")
class TableInBFloat16(Textbook):
    def make_abar(self):
        return torch.cumprod(torch.as_tensor(1.0 - self.beta), 0).bfloat16().double().numpy()

    def make_tables(self):
        with np.errstate(divide="ignore", invalid="ignore"):
            super().make_tables()


@KNOWN("PRC-04", "precision", "index")
class TimestepInBFloat16(Textbook):
    dialect = dialect(schedule="linear", T=1000)
    T = 1000
    sample = None

    def make_betas(self):
        return np.linspace(1e-4, 0.02, self.T)

    def at(self, table, k, x):
        k = torch.as_tensor(k).bfloat16().long().clamp(max=len(table) - 1)
        return rows(torch.as_tensor(table)[k], x)


@KNOWN("LWT-04", "loss-weight", "state-broadcast")
class WeightsBroadcastOverErrors(Textbook):
    def vlb_term(self, model, x0, t, noise):
        x_t = self.q_sample(x0, t, noise)
        true_mean, var = self.q_posterior(x0, x_t, t)
        weight = 1 / (2 * var.reshape(-1, 1))
        error = ((true_mean - self.step_mean(x_t, t, model(x_t, t))) ** 2).flatten(1).sum(1)
        return (weight * error).mean(0)


@KNOWN("GUI-05", "guidance")
class GradientIgnored(Textbook):
    def guided_mean(self, x_t, t, eps, grad, scale):
        return self.step_mean(x_t, t, eps)


@KNOWN("GUI-07", "guidance")
class ScaleOnTheStart(Textbook):
    def guided_mean(self, x_t, t, eps, grad, scale):
        x0 = scale * self.predict_x0(x_t, t, eps)
        return self.q_posterior(x0, x_t, t)[0] + self.at(self.var, t, x_t) * grad


@KNOWN("LIK-05", "likelihood")
class SameTermEveryTime(Textbook):
    def vlb_term(self, model, x0, t, noise):
        last = torch.full_like(torch.as_tensor(t), self.T - 1)
        return super().vlb_term(model, x0, last, noise)


@KNOWN("SCL-07", "data-scaling", "parameterization")
class InputNotScaled(SigmaSpace):
    def scale_input(self, x, k):
        return x


@KNOWN("STA-01", "state-broadcast")
class FlattenDiscarded(Textbook):
    def q_sample(self, x0, t, noise):
        abar = torch.as_tensor(self.abar)[torch.as_tensor(t)].to(x0.dtype)
        abar = abar.reshape(-1)[: x0.shape[-1]] if len(abar) >= x0.shape[-1] else abar[:1]
        return abar.sqrt() * x0 + (1 - abar).sqrt() * noise
