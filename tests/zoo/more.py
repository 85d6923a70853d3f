"""Further mutants of the same families, realistic mistakes that are on no list."""

import itertools
import math

import numpy as np
import torch

from tests.zoo.base import STEPS, Ancestral, Registry, Textbook, dialect, rows
from tests.zoo.known import LearnedRange, PredictsX0, SigmaSpace, cosine_betas, zero_snr_betas

MORE = Registry()


@MORE("own-sch-scaled-linear-without-roots", "schedule")
class ScaledLinearWithoutRoots(Textbook):
    dialect = dialect(schedule="scaled_linear")

    def make_betas(self):
        return np.linspace(0.00085, 0.012, self.T)


@MORE("own-sch-end-of-another-model", "schedule")
class EndOfAnotherModel(Textbook):
    def make_betas(self):
        return np.linspace(0.00085, 0.012, self.T)


@MORE("own-sch-endpoint-excluded", "schedule")
class EndpointExcluded(Textbook):
    def make_betas(self):
        return np.linspace(0.1 / self.T, 20 / self.T, self.T, endpoint=False)


@MORE("own-sch-exponential-for-product", "schedule")
class ExponentialForProduct(Textbook):
    def make_abar(self):
        return np.exp(-np.cumsum(self.beta))


@MORE("own-sch-alpha-for-alpha-bar", "schedule")
class AlphaForAlphaBar(Textbook):
    def make_abar(self):
        return 1.0 - self.beta


@MORE("own-sch-root-of-product", "sqrt", "schedule")
class RootOfProduct(Textbook):
    def make_abar(self):
        return np.sqrt(np.cumprod(1.0 - self.beta))


@MORE("own-sch-cosine-not-squared", "schedule", "sqrt")
class CosineNotSquared(Textbook):
    dialect = dialect(schedule="cosine")

    def make_betas(self):
        curve = np.cos((np.linspace(0, 1, self.T + 1) + 0.008) / 1.008 * np.pi / 2)
        return np.clip(1 - curve[1:] / curve[:-1], 0, 0.999)


@MORE("own-sch-cosine-offset-forgotten", "schedule")
class CosineWithoutOffset(Textbook):
    dialect = dialect(schedule="cosine")

    def make_betas(self):
        curve = np.cos(np.linspace(0, 1, self.T + 1) * np.pi / 2) ** 2
        return np.clip(1 - curve[1:] / curve[:-1], 0, 0.999)


@MORE("own-sch-betas-reversed", "schedule")
class BetasReversed(Textbook):
    def make_betas(self):
        return super().make_betas()[::-1].copy()


@MORE("own-sch-zero-snr-shift-without-scale", "schedule")
class ZeroSNRWithoutScale(PredictsX0):
    dialect = dialect(schedule=zero_snr_betas(STEPS), parameterization="x_0")

    def make_betas(self):
        root = np.sqrt(np.cumprod(1 - np.linspace(0.1 / self.T, 20 / self.T, self.T)))
        abar = (root - root[-1]) ** 2
        return 1 - np.append(abar[0], abar[1:] / abar[:-1])


@MORE("own-sch-trailing-without-minus-one", "schedule", "index")
class TrailingWithoutMinusOne(Textbook):
    dialect = dialect(spacing="trailing")

    def timesteps(self, n):
        return [*[min(round(self.T - i * self.T / n), self.T - 1) for i in range(n)], -1]


@MORE("own-sch-list-without-data", "schedule", "index")
class ListWithoutFirstLevel(Textbook):
    def timesteps(self, n):
        return [i * (self.T // n) for i in reversed(range(1, n + 1))] + [0]


@MORE("own-idx-marginal-one-late", "index")
class MarginalOneLate(Textbook):
    def q_sample(self, x0, t, noise):
        return super().q_sample(x0, (torch.as_tensor(t) + 1).clamp(max=self.T - 1), noise)


@MORE("own-idx-marginal-one-early", "index")
class MarginalOneEarly(Textbook):
    def q_sample(self, x0, t, noise):
        abar = self.level(torch.as_tensor(t) - 1, x0)
        return abar.sqrt() * x0 + (1 - abar).sqrt() * noise


@MORE("own-idx-roll", "index")
class PreviousByRoll(Textbook):
    def make_tables(self):
        super().make_tables()
        previous = np.roll(self.abar, 1)
        self.coef_x0 = self.beta * np.sqrt(previous) / (1.0 - self.abar)
        self.coef_xt = np.sqrt(self.alpha) * (1.0 - previous) / (1.0 - self.abar)
        self.var = self.beta * (1.0 - previous) / (1.0 - self.abar)


@MORE("own-idx-next-for-previous", "index")
class NextForPrevious(Textbook):
    def make_tables(self):
        super().make_tables()
        later = np.append(self.abar[1:], 0.0)
        self.coef_x0 = self.beta * np.sqrt(later) / (1.0 - self.abar)
        self.coef_xt = np.sqrt(self.alpha) * (1.0 - later) / (1.0 - self.abar)


@MORE("own-idx-beta-of-previous", "index")
class BetaOfPrevious(Textbook):
    def make_tables(self):
        super().make_tables()
        beta = np.append(self.beta[0], self.beta[:-1])
        self.coef_x0 = beta * np.sqrt(self.abar_prev) / (1.0 - self.abar)
        self.coef_xt = np.sqrt(1 - beta) * (1.0 - self.abar_prev) / (1.0 - self.abar)


@MORE("own-idx-step-reads-next-row", "index")
class StepReadsNextRow(Textbook):
    def ddpm_step(self, x_t, t, eps, noise):
        later = (torch.as_tensor(t) + 1).clamp(max=self.T - 1)
        return self.step_mean(x_t, later, eps) + self.mask(x_t, t) * self.step_std(x_t, later) * noise


@MORE("own-idx-x0-by-previous-level", "index")
class X0ByPreviousLevel(Textbook):
    def predict_x0(self, x_t, t, eps):
        abar = self.level(torch.as_tensor(t) - 1, x_t)
        return (x_t - (1 - abar).sqrt() * eps) / abar.sqrt()


@MORE("own-idx-data-level-wraps", "index")
class DataLevelWraps(Textbook):
    def level(self, k, x):
        return self.at(self.abar, k, x)


@MORE("own-idx-one-level-too-far", "index")
class OneLevelTooFar(Textbook):
    def ddim_step(self, x_t, t, s, eps, eta, noise):
        return super().ddim_step(x_t, t, (torch.as_tensor(s) - 1).clamp(min=-1), eps, eta, noise)


@MORE("own-idx-model-asked-at-next-level", "index")
class ModelAskedAtNextLevel(Textbook):
    def sample(self, model, x_T, steps):
        x = x_T
        levels = list(self.timesteps(steps))
        for k, j in itertools.pairwise(levels):
            t, s = torch.full((len(x),), k), torch.full((len(x),), j)
            x = self.ddim_step(x, t, s, model(x, s.clamp(min=0)), 0.0, torch.zeros_like(x))
        return x


@MORE("own-idx-first-level-skipped", "index")
class FirstLevelSkipped(Textbook):
    def sample(self, model, x_T, steps):
        x = x_T
        levels = list(self.timesteps(steps))[1:]
        for k, j in itertools.pairwise(levels):
            t, s = torch.full((len(x),), k), torch.full((len(x),), j)
            x = self.ddim_step(x, t, s, model(x, t), 0.0, torch.zeros_like(x))
        return x


@MORE("own-idx-score-one-early", "index")
class ScoreOneLate(Textbook):
    def score(self, x_t, t, eps):
        return super().score(x_t, (torch.as_tensor(t) + 1).clamp(max=self.T - 1), eps)


@MORE("own-idx-strided-alpha-of-the-step", "index")
class StridedAlphaOfTheStep(Ancestral):
    def strided_mean(self, x0, x, abar_t, abar_s):
        k = int((torch.as_tensor(self.abar) - abar_t.reshape(-1)[0].double()).abs().argmin())
        alpha = 1 - self.beta[k]
        return (abar_s.sqrt() * (1 - alpha) * x0 + alpha**0.5 * (1 - abar_s) * x) / (1 - abar_t)


@MORE("own-var-beta-undeclared", "variance")
class BetaUndeclared(Textbook):
    def step_std(self, x_t, t):
        return self.at(self.beta, t, x_t).sqrt()


@MORE("own-var-std-for-variance", "variance", "sqrt")
class VarianceAsStd(Textbook):
    def step_std(self, x_t, t):
        return self.at(self.var, t, x_t)


@MORE("own-var-log-without-half", "variance", "sqrt")
class ExpOfLogVariance(Textbook):
    def step_std(self, x_t, t):
        return torch.exp(self.at(np.log(np.append(self.var[1], self.var[1:])), t, x_t))


@MORE("own-var-root-of-std", "variance", "sqrt")
class RootOfStd(Textbook):
    def step_std(self, x_t, t):
        return self.at(self.var, t, x_t).sqrt().sqrt()


@MORE("own-var-fraction-upside-down", "variance")
class FractionUpsideDown(Textbook):
    def make_tables(self):
        super().make_tables()
        with np.errstate(divide="ignore"):
            self.var = self.beta * (1 - self.abar) / (1 - self.abar_prev)
        self.var[0] = 0.0


@MORE("own-var-previous-level", "variance")
class VarianceOfPreviousLevel(Textbook):
    def step_std(self, x_t, t):
        return self.at(1 - self.abar_prev, t, x_t).sqrt()


@MORE("own-var-posterior-missing-bar", "variance")
class PosteriorVarianceOfAlpha(Textbook):
    def make_tables(self):
        super().make_tables()
        alpha_prev = np.append(1.0, self.alpha[:-1])
        self.var = self.beta * (1 - alpha_prev) / (1 - self.alpha)


@MORE("own-var-eta-squared", "variance", "sqrt")
class EtaSquared(Textbook):
    def ddim_sigma(self, abar_t, abar_s, eta):
        return super().ddim_sigma(abar_t, abar_s, eta**2)


@MORE("own-var-eta-under-the-root", "variance", "sqrt")
class EtaUnderTheRoot(Textbook):
    def ddim_sigma(self, abar_t, abar_s, eta):
        return super().ddim_sigma(abar_t, abar_s, eta**0.5)


@MORE("own-var-direction-without-sigma", "variance")
class DirectionWithoutSigma(Textbook):
    def ddim_step(self, x_t, t, s, eps, eta, noise):
        abar_t, abar_s = self.level(t, x_t), self.level(s, x_t)
        sigma = self.ddim_sigma(abar_t, abar_s, eta)
        return abar_s.sqrt() * self.predict_x0(x_t, t, eps) + (1 - abar_s).sqrt() * eps + sigma * noise


@MORE("own-var-direction-minus-sigma", "variance", "sqrt")
class DirectionMinusSigma(Textbook):
    def ddim_step(self, x_t, t, s, eps, eta, noise):
        abar_t, abar_s = self.level(t, x_t), self.level(s, x_t)
        sigma = self.ddim_sigma(abar_t, abar_s, eta)
        direction = (1 - abar_s).sqrt() - sigma
        return abar_s.sqrt() * self.predict_x0(x_t, t, eps) + direction * eps + sigma * noise


@MORE("own-var-sigma-without-level-ratio", "variance")
class SigmaWithoutLevelRatio(Textbook):
    def ddim_sigma(self, abar_t, abar_s, eta):
        return eta * (1 - abar_t / abar_s).sqrt()

    def ddim_step(self, x_t, t, s, eps, eta, noise):
        abar_t, abar_s = self.level(t, x_t), self.level(s, x_t)
        sigma = self.ddim_sigma(abar_t, abar_s, eta)
        direction = (1 - abar_s - sigma**2).clamp(min=0).sqrt()
        return abar_s.sqrt() * self.predict_x0(x_t, t, eps) + direction * eps + sigma * noise


@MORE("own-var-sigma-with-one-step-beta", "variance", "index")
class SigmaWithOneStepBeta(Textbook):
    def ddim_step(self, x_t, t, s, eps, eta, noise):
        abar_t, abar_s = self.level(t, x_t), self.level(s, x_t)
        sigma = eta * ((1 - abar_s) / (1 - abar_t) * self.at(self.beta, t, x_t)).sqrt()
        direction = (1 - abar_s - sigma**2).sqrt()
        return abar_s.sqrt() * self.predict_x0(x_t, t, eps) + direction * eps + sigma * noise


@MORE("own-var-range-swapped", "variance")
class RangeSwapped(LearnedRange):
    def variance_from(self, v, low, high):
        return super().variance_from(v, high, low)


@MORE("own-var-range-not-rescaled", "variance")
class RangeNotRescaled(LearnedRange):
    def variance_from(self, v, low, high):
        return (v * high.log() + (1 - v) * low.log()).exp()


@MORE("own-var-strided-beta", "variance", "index")
class StridedBetaAsStd(Ancestral):
    def strided_std(self, abar_t, abar_s):
        return (1 - abar_t / abar_s).sqrt()


@MORE("own-sqr-signal-without-root", "sqrt")
class SignalWithoutRoot(Textbook):
    def q_sample(self, x0, t, noise):
        abar = self.at(self.abar, t, x0)
        return abar * x0 + (1 - abar).sqrt() * noise


@MORE("own-sqr-signal-without-bar", "sqrt", "index", "schedule")
class SignalWithoutBar(Textbook):
    def q_sample(self, x0, t, noise):
        alpha = self.at(self.alpha, t, x0)
        return alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise


@MORE("own-sqr-noise-complement-of-root", "sqrt")
class NoiseIsOneMinusRoot(Textbook):
    def q_sample(self, x0, t, noise):
        abar = self.at(self.abar, t, x0)
        return abar.sqrt() * x0 + (1 - abar.sqrt()) * noise


@MORE("own-sqr-posterior-mean", "sqrt")
class PosteriorMeanWithoutRoot(Textbook):
    def make_tables(self):
        super().make_tables()
        self.coef_x0 = self.beta * self.abar_prev / (1.0 - self.abar)


@MORE("own-sqr-posterior-alpha", "sqrt")
class PosteriorAlphaWithoutRoot(Textbook):
    def make_tables(self):
        super().make_tables()
        self.coef_xt = self.alpha * (1.0 - self.abar_prev) / (1.0 - self.abar)


@MORE("own-sqr-x0-divided-by-abar", "sqrt")
class X0DividedByAbar(Textbook):
    def predict_x0(self, x_t, t, eps):
        abar = self.at(self.abar, t, x_t)
        return (x_t - (1 - abar).sqrt() * eps) / abar


@MORE("own-sqr-mean-weight", "sqrt")
class MeanWeightWithoutRoot(Textbook):
    def step_mean(self, x_t, t, eps):
        alpha, beta, abar = (self.at(a, t, x_t) for a in (self.alpha, self.beta, self.abar))
        return (x_t - beta / (1 - abar) * eps) / alpha.sqrt()


@MORE("own-sqr-mean-missing-bar", "sqrt", "index", "schedule")
class MeanMissingBar(Textbook):
    def step_mean(self, x_t, t, eps):
        alpha, beta = self.at(self.alpha, t, x_t), self.at(self.beta, t, x_t)
        return (x_t - beta / (1 - alpha).sqrt() * eps) / alpha.sqrt()


@MORE("own-sqr-mean-divided-by-root-abar", "sqrt", "index", "schedule")
class MeanDividedByBar(Textbook):
    def step_mean(self, x_t, t, eps):
        beta, abar = self.at(self.beta, t, x_t), self.at(self.abar, t, x_t)
        return (x_t - beta / (1 - abar).sqrt() * eps) / abar.sqrt()


@MORE("own-sqr-velocity", "sqrt")
class VelocityWithoutRoots(Textbook):
    def velocity(self, x0, eps, t):
        abar = self.at(self.abar, t, x0)
        return abar * eps - (1 - abar) * x0


@MORE("own-sqr-score-over-variance", "sqrt")
class ScoreOverVariance(Textbook):
    def score(self, x_t, t, eps):
        return -eps / (1 - self.at(self.abar, t, x_t))


@MORE("own-sgn-x0", "sign")
class X0WithPlus(Textbook):
    def predict_x0(self, x_t, t, eps):
        abar = self.at(self.abar, t, x_t)
        return (x_t + (1 - abar).sqrt() * eps) / abar.sqrt()


@MORE("own-sgn-velocity", "sign")
class VelocityNegated(Textbook):
    def velocity(self, x0, eps, t):
        return -super().velocity(x0, eps, t)


@MORE("own-sgn-velocity-plus", "sign")
class VelocityWithPlus(Textbook):
    def velocity(self, x0, eps, t):
        abar = self.at(self.abar, t, x0)
        return abar.sqrt() * eps + (1 - abar).sqrt() * x0


@MORE("own-sgn-mean", "sign")
class MeanWithPlus(Textbook):
    def step_mean(self, x_t, t, eps):
        alpha, beta, abar = (self.at(a, t, x_t) for a in (self.alpha, self.beta, self.abar))
        return (x_t + beta / (1 - abar).sqrt() * eps) / alpha.sqrt()


@MORE("own-sgn-direction", "sign")
class DirectionNegated(Textbook):
    def ddim_step(self, x_t, t, s, eps, eta, noise):
        abar_t, abar_s = self.level(t, x_t), self.level(s, x_t)
        sigma = self.ddim_sigma(abar_t, abar_s, eta)
        direction = -(1 - abar_s - sigma**2).sqrt()
        return abar_s.sqrt() * self.predict_x0(x_t, t, eps) + direction * eps + sigma * noise


@MORE("own-sgn-posterior", "sign")
class PosteriorDifference(Textbook):
    def q_posterior(self, x0, x_t, t):
        mean = self.at(self.coef_x0, t, x_t) * x0 - self.at(self.coef_xt, t, x_t) * x_t
        return mean, self.at(self.var, t, x_t)


@MORE("own-sgn-guidance", "sign", "guidance")
class GuidanceAgainst(Textbook):
    def guided_mean(self, x_t, t, eps, grad, scale):
        return self.step_mean(x_t, t, eps) - scale * self.at(self.var, t, x_t) * grad


@MORE("own-sgn-inversion", "sign")
class InversionNegated(Textbook):
    def ddim_invert(self, x_s, s, t, eps):
        return super().ddim_invert(x_s, s, t, -eps)


@MORE("own-par-velocity-swapped", "parameterization")
class VelocitySwapped(Textbook):
    def velocity(self, x0, eps, t):
        abar = self.at(self.abar, t, x0)
        return abar.sqrt() * x0 - (1 - abar).sqrt() * eps


@MORE("own-par-posterior-swapped", "parameterization", "index")
class PosteriorSwapped(Textbook):
    def q_posterior(self, x0, x_t, t):
        mean = self.at(self.coef_xt, t, x_t) * x0 + self.at(self.coef_x0, t, x_t) * x_t
        return mean, self.at(self.var, t, x_t)


class PredictsV(Textbook):
    """The network predicts v."""

    dialect = dialect(parameterization="v")

    def x0_of(self, x_t, abar, v):
        return abar.sqrt() * x_t - (1 - abar).sqrt() * v

    def eps_of(self, x_t, abar, v):
        return abar.sqrt() * v + (1 - abar).sqrt() * x_t

    def step_mean(self, x_t, t, v):
        return self.q_posterior(self.x0_of(x_t, self.level(t, x_t), v), x_t, t)[0]

    def ddim_step(self, x_t, t, s, v, eta, noise):
        abar_t, abar_s = self.level(t, x_t), self.level(s, x_t)
        sigma = self.ddim_sigma(abar_t, abar_s, eta)
        direction = (1 - abar_s - sigma**2).sqrt() * self.eps_of(x_t, abar_t, v)
        return abar_s.sqrt() * self.x0_of(x_t, abar_t, v) + direction + sigma * noise

    def ddim_invert(self, x_s, s, t, v):
        abar_t, abar_s = self.level(t, x_s), self.level(s, x_s)
        return abar_t.sqrt() * self.x0_of(x_s, abar_s, v) + (1 - abar_t).sqrt() * self.eps_of(x_s, abar_s, v)

    def loss(self, model, x0, t, noise):
        error = model(self.q_sample(x0, t, noise), t) - self.velocity(x0, noise, t)
        return (error**2).flatten(1).mean(1)


@MORE("own-par-v-used-as-eps", "parameterization")
class VUsedAsEps(PredictsV):
    def eps_of(self, x_t, abar, v):
        return v


@MORE("own-par-x0-of-v-as-of-eps", "parameterization")
class X0OfVAsOfEps(PredictsV):
    def x0_of(self, x_t, abar, v):
        return (x_t - (1 - abar).sqrt() * v) / abar.sqrt()


@MORE("own-par-eps-of-v-swapped", "parameterization")
class EpsOfVSwapped(PredictsV):
    def eps_of(self, x_t, abar, v):
        return (1 - abar).sqrt() * v + abar.sqrt() * x_t


@MORE("own-par-v-loss-on-eps", "parameterization")
class VLossOnEps(PredictsV):
    def loss(self, model, x0, t, noise):
        return ((model(self.q_sample(x0, t, noise), t) - noise) ** 2).flatten(1).mean(1)


@MORE("own-par-x0-treated-as-eps", "parameterization")
class X0TreatedAsEps(Textbook):
    dialect = dialect(parameterization="x_0")


@MORE("own-par-score-missing-sigma", "parameterization", "sqrt")
class ScoreIsMinusEps(Textbook):
    def score(self, x_t, t, eps):
        return -eps


@MORE("own-par-loss-target-x0", "parameterization")
class LossTargetX0(Textbook):
    def loss(self, model, x0, t, noise):
        return ((model(self.q_sample(x0, t, noise), t) - x0) ** 2).flatten(1).mean(1)


@MORE("own-par-sigma-space-x0", "parameterization")
class VPFormulaInSigmaSpace(SigmaSpace):
    def predict_x0(self, x_t, t, eps):
        abar = self.level(t, x_t)
        return (x_t - (1 - abar).sqrt() * eps) / abar.sqrt()


@MORE("own-t0-noise-clipped-variance", "noise-at-t0")
class NoiseOfClippedVariance(Textbook):
    def step_std(self, x_t, t):
        return self.at(np.append(self.var[1], self.var[1:]), t, x_t).sqrt()

    def mask(self, x_t, t):
        return 1.0


@MORE("own-t0-mask-too-early", "noise-at-t0")
class MaskOneTooEarly(Textbook):
    def mask(self, x_t, t):
        return rows(torch.as_tensor(t) > 1, x_t)


@MORE("own-t0-noise-dropped", "noise-at-t0", "variance")
class NoiseDropped(Textbook):
    def ddpm_step(self, x_t, t, eps, noise):
        return self.step_mean(x_t, t, eps)


@MORE("own-t0-noise-only-at-the-end", "noise-at-t0")
class MaskInverted(Textbook):
    def mask(self, x_t, t):
        return rows(torch.as_tensor(t) == 0, x_t)

    def step_std(self, x_t, t):
        return self.at(self.beta, t, x_t).sqrt()


@MORE("own-t0-sampler-ends-noisy", "noise-at-t0")
class SamplerEndsNoisy(Ancestral):
    def sample(self, model, x_T, steps):
        x = super().sample(model, x_T, steps)
        return x + self.beta[0] ** 0.5 * torch.randn_like(x)


@MORE("own-prc-product-in-half", "precision")
class ProductInHalf(Textbook):
    def make_abar(self):
        return np.cumprod((1.0 - self.beta).astype(np.float16), dtype=np.float16).astype(np.float64)


@MORE("own-prc-product-in-bfloat16", "precision")
class ProductInBFloat16(Textbook):
    def make_abar(self):
        product, table = torch.tensor(1.0, dtype=torch.bfloat16), []
        for alpha in torch.as_tensor(1.0 - self.beta).bfloat16():
            product = product * alpha
            table.append(float(product))
        return np.minimum(np.array(table), 1 - 1e-7)


@MORE("own-prc-betas-in-half", "precision")
class BetasInHalf(Textbook):
    def make_betas(self):
        return super().make_betas().astype(np.float16).astype(np.float64)


@MORE("own-prc-step-in-half", "precision")
class StepInHalf(Textbook):
    def ddpm_step(self, x_t, t, eps, noise):
        return super().ddpm_step(x_t.half(), t, eps.half(), noise.half()).to(x_t.dtype)

    def ddim_step(self, x_t, t, s, eps, eta, noise):
        return super().ddim_step(x_t.half(), t, s, eps.half(), eta, noise.half()).to(x_t.dtype)


@MORE("own-prc-input-in-bfloat16", "precision")
class InputInBFloat16(Textbook):
    def q_sample(self, x0, t, noise):
        return super().q_sample(x0.bfloat16().to(x0.dtype), t, noise)


@MORE("own-prc-level-in-half", "precision")
class LevelsInHalf(Textbook):
    def at(self, table, k, x):
        return super().at(table, k, x).half().to(x.dtype)


@MORE("own-prc-float32-declared-float64", "precision")
class SingleDeclaredDouble(Textbook):
    dialect = dialect(tables="float64")

    def make_abar(self):
        return np.cumprod(1.0 - self.beta, dtype=np.float32).astype(np.float64)


@MORE("own-lwt-summed-before-squared", "loss-weight")
class SummedBeforeSquared(Textbook):
    def loss(self, model, x0, t, noise):
        return (model(self.q_sample(x0, t, noise), t) - noise).flatten(1).mean(1) ** 2


@MORE("own-lwt-absolute", "loss-weight")
class AbsoluteError(Textbook):
    def loss(self, model, x0, t, noise):
        return (model(self.q_sample(x0, t, noise), t) - noise).abs().flatten(1).mean(1)


@MORE("own-lwt-norm-not-squared", "loss-weight", "sqrt")
class NormNotSquared(Textbook):
    def loss(self, model, x0, t, noise):
        return (model(self.q_sample(x0, t, noise), t) - noise).flatten(1).norm(dim=1)


@MORE("own-lwt-sum-undeclared", "loss-weight")
class SumUndeclared(Textbook):
    def loss(self, model, x0, t, noise):
        return ((model(self.q_sample(x0, t, noise), t) - noise) ** 2).flatten(1).sum(1)


@MORE("own-lwt-mean-over-batch", "loss-weight", "state-broadcast")
class MeanOverBatch(Textbook):
    def loss(self, model, x0, t, noise):
        return super().loss(model, x0, t, noise).mean().expand(len(x0))


@MORE("own-lwt-weighted-by-snr", "loss-weight")
class WeightedBySNR(Textbook):
    def loss(self, model, x0, t, noise):
        snr = torch.as_tensor(self.abar / (1 - self.abar))[torch.as_tensor(t)]
        return super().loss(model, x0, t, noise) * snr


@MORE("own-lwt-fresh-noise-as-target", "loss-weight", "state-broadcast")
class FreshNoiseAsTarget(Textbook):
    def loss(self, model, x0, t, noise):
        return ((model(self.q_sample(x0, t, noise), t) - torch.randn_like(x0)) ** 2).flatten(1).mean(1)


@MORE("own-lik-bits-for-nats", "likelihood")
class BitsForNats(Textbook):
    def vlb_term(self, model, x0, t, noise):
        return super().vlb_term(model, x0, t, noise) / math.log(2)


@MORE("own-lik-without-half", "likelihood")
class KLWithoutHalf(Textbook):
    def vlb_term(self, model, x0, t, noise):
        return 2 * super().vlb_term(model, x0, t, noise)


@MORE("own-lik-mean-for-sum", "likelihood", "loss-weight")
class MeanForSum(Textbook):
    def vlb_term(self, model, x0, t, noise):
        return super().vlb_term(model, x0, t, noise) / x0[0].numel()


class LargeVariance(Textbook):
    """Step variance beta, declared."""

    dialect = dialect(variance="beta")

    def step_std(self, x_t, t):
        return self.at(self.beta, t, x_t).sqrt()

    def guided_mean(self, x_t, t, eps, grad, scale):
        return self.step_mean(x_t, t, eps) + scale * self.at(self.beta, t, x_t) * grad

    def kl(self, gap, var_0, var_1):
        return 0.5 * (torch.log(var_1 / var_0) + (var_0 + gap**2) / var_1 - 1)

    def vlb_term(self, model, x0, t, noise):
        x_t = self.q_sample(x0, t, noise)
        mean, var = self.q_posterior(x0, x_t, t)
        gap = mean - self.step_mean(x_t, t, model(x_t, t))
        return self.kl(gap, var, self.at(self.beta, t, x_t)).flatten(1).sum(1)


@MORE("own-lik-kl-swapped", "likelihood")
class KLSwapped(LargeVariance):
    def kl(self, gap, var_0, var_1):
        return super().kl(gap, var_1, var_0)


@MORE("own-lik-kl-without-log", "likelihood")
class KLWithoutLog(LargeVariance):
    def kl(self, gap, var_0, var_1):
        return gap**2 / (2 * var_1) + 0 * var_0


@MORE("own-gui-scale-squared", "guidance")
class ScaleSquared(Textbook):
    def guided_mean(self, x_t, t, eps, grad, scale):
        return super().guided_mean(x_t, t, eps, grad, scale**2)


@MORE("own-gui-std-for-variance", "guidance", "variance", "sqrt")
class GradientTimesStd(Textbook):
    def guided_mean(self, x_t, t, eps, grad, scale):
        return self.step_mean(x_t, t, eps) + scale * self.step_std(x_t, t) * grad


@MORE("own-gui-scale-ignored", "guidance")
class ScaleIgnored(Textbook):
    def guided_mean(self, x_t, t, eps, grad, scale):
        return super().guided_mean(x_t, t, eps, grad, 1.0)


@MORE("own-gui-without-variance", "guidance", "variance")
class GradientUnweighted(Textbook):
    def guided_mean(self, x_t, t, eps, grad, scale):
        return self.step_mean(x_t, t, eps) + scale * grad


@MORE("own-gui-ddim-weight", "guidance", "sqrt")
class GradientTimesLevel(Textbook):
    def guided_mean(self, x_t, t, eps, grad, scale):
        return self.step_mean(x_t, t, eps) + scale * (1 - self.at(self.abar, t, x_t)).sqrt() * grad


@MORE("own-sta-first-time-for-all", "state-broadcast")
class FirstTimeForAll(Textbook):
    def q_sample(self, x0, t, noise):
        return super().q_sample(x0, torch.as_tensor(t).reshape(-1)[:1].expand(len(x0)), noise)


@MORE("own-sta-mask-of-first", "state-broadcast", "noise-at-t0")
class MaskOfFirst(Textbook):
    def mask(self, x_t, t):
        return float(torch.as_tensor(t).reshape(-1)[0] != 0)

    def step_std(self, x_t, t):
        return self.at(np.append(self.var[1], self.var[1:]), t, x_t).sqrt()


@MORE("own-sta-one-noise-for-all", "state-broadcast")
class OneNoiseForAll(Ancestral):
    def ddpm_step(self, x_t, t, eps, noise):
        return super().ddpm_step(x_t, t, eps, noise[:1].expand_as(noise))


@MORE("own-sta-standardised", "state-broadcast")
class StandardisedOverBatch(Textbook):
    def predict_x0(self, x_t, t, eps):
        x0 = super().predict_x0(x_t, t, eps)
        return x0 - x0.mean(0, keepdim=True)


@MORE("own-scl-clipping-left-on", "data-scaling")
class ClippingLeftOn(Textbook):
    def predict_x0(self, x_t, t, eps):
        return super().predict_x0(x_t, t, eps).clamp(-1, 1)


@MORE("own-scl-step-clips", "data-scaling")
class StepClips(Textbook):
    def step_mean(self, x_t, t, eps):
        x0 = self.predict_x0(x_t, t, eps).clamp(-1, 1)
        return self.q_posterior(x0, x_t, t)[0]


@MORE("own-scl-dynamic-threshold", "data-scaling")
class DynamicThreshold(Textbook):
    def step_mean(self, x_t, t, eps):
        x0 = self.predict_x0(x_t, t, eps)
        limit = torch.quantile(x0.abs().flatten(1), 0.995, dim=1).clamp(min=1)
        return self.q_posterior(x0.clamp(-rows(limit, x0), rows(limit, x0)) / rows(limit, x0), x_t, t)[0]


@MORE("own-sch-cosine-undeclared", "schedule")
class CosineUndeclared(Textbook):
    def make_betas(self):
        return cosine_betas(self.T)


@MORE("own-prc-forward-state-in-bfloat16", "precision")
class ForwardStateInBFloat16(Textbook):
    loss = vlb_term = None

    def q_sample(self, x0, t, noise):
        return super().q_sample(x0.bfloat16().to(x0.dtype), t, noise)
