"""Correct targets, each in one convention of the field, written without the package's reference."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from refdiff.oracle import Dialect, Target


@dataclass(frozen=True)
class Convention:
    """A target that must pass."""

    id: str
    make: Callable[[], Target]


CONVENTIONS: list[Convention] = []
# most of them on a short chain, so that dozens of samplers can be run step by step
SHORT = 100


def short(**conventions: Any) -> Dialect:
    """A dialect on the short chain."""
    return Dialect(**{"schedule": "linear_rescaled", "T": SHORT, **conventions})


def convention(id: str) -> Callable[[type[Target]], type[Target]]:
    def add(cls: type[Target]) -> type[Target]:
        cls.name = id
        CONVENTIONS.append(Convention(id, cls))
        return cls

    return add


def column(values: Any, x: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(values).to(x.dtype).view(-1, *(1,) * (x.dim() - 1))


# Ho et al., 1-based, one formula per line


@convention("ho-one-based")
class HoOneBased(Target):
    dialect = Dialect()
    T = 1000

    def __init__(self):
        self.b = torch.cat([torch.zeros(1, dtype=torch.float64), self.schedule()])
        self.a = 1 - self.b
        self.abar = torch.cumprod(self.a, 0)

    def schedule(self):
        return torch.linspace(0.1 / self.T, 20 / self.T, self.T, dtype=torch.float64)

    def look(self, table, t, x):
        return table[t].to(x.dtype).reshape(-1, *[1] * (x.dim() - 1))

    def betas(self):
        return self.b[1:]

    def alphas_cumprod(self):
        return self.abar[1:]

    def sigmas(self):
        return ((1 - self.abar) / self.abar).sqrt()[1:]

    def timesteps(self, n):
        return [*[1 + i * (self.T // n) for i in range(n)][::-1], 0]

    def q_sample(self, x0, t, noise):
        abar = self.look(self.abar, t, x0)
        return abar.sqrt() * x0 + (1 - abar).sqrt() * noise

    def variance(self, x, t):
        prev, abar = self.look(self.abar, t - 1, x), self.look(self.abar, t, x)
        return (1 - prev) / (1 - abar) * self.look(self.b, t, x)

    def q_posterior(self, x0, x_t, t):
        prev, abar = self.look(self.abar, t - 1, x_t), self.look(self.abar, t, x_t)
        a, b = self.look(self.a, t, x_t), self.look(self.b, t, x_t)
        mean = prev.sqrt() * b / (1 - abar) * x0 + a.sqrt() * (1 - prev) / (1 - abar) * x_t
        return mean, self.variance(x_t, t)

    def predict_x0(self, x_t, t, eps):
        abar = self.look(self.abar, t, x_t)
        return (x_t - (1 - abar).sqrt() * eps) / abar.sqrt()

    def predict_eps(self, x_t, t, x0):
        abar = self.look(self.abar, t, x_t)
        return (x_t - abar.sqrt() * x0) / (1 - abar).sqrt()

    def velocity(self, x0, eps, t):
        abar = self.look(self.abar, t, x0)
        return abar.sqrt() * eps - (1 - abar).sqrt() * x0

    def score(self, x_t, t, eps):
        return -eps / (1 - self.look(self.abar, t, x_t)).sqrt()

    def mean(self, x_t, t, eps):
        a, b, abar = (self.look(table, t, x_t) for table in (self.a, self.b, self.abar))
        return (x_t - b / (1 - abar).sqrt() * eps) / a.sqrt()

    def ddpm_step(self, x_t, t, eps, noise):
        return self.mean(x_t, t, eps) + self.variance(x_t, t).sqrt() * noise

    def ddim_step(self, x_t, t, s, eps, eta, noise):
        abar, prev = self.look(self.abar, t, x_t), self.look(self.abar, s, x_t)
        sigma = eta * ((1 - prev) / (1 - abar)).sqrt() * (1 - abar / prev).sqrt()
        x0 = (x_t - (1 - abar).sqrt() * eps) / abar.sqrt()
        # the square may come out below zero by an ulp
        return prev.sqrt() * x0 + (1 - prev - sigma**2).clamp(min=0).sqrt() * eps + sigma * noise

    def ddim_invert(self, x_s, s, t, eps):
        low, high = self.look(self.abar, s, x_s), self.look(self.abar, t, x_s)
        return (high / low).sqrt() * (x_s - (1 - low).sqrt() * eps) + (1 - high).sqrt() * eps

    def guided_mean(self, x_t, t, eps, grad, scale):
        return self.mean(x_t, t, eps) + scale * self.variance(x_t, t) * grad

    def loss(self, model, x0, t, noise):
        return (model(self.q_sample(x0, t, noise), t) - noise).square().flatten(1).mean(-1)

    def vlb_term(self, model, x0, t, noise):
        x_t = self.q_sample(x0, t, noise)
        gap = self.q_posterior(x0, x_t, t)[0] - self.mean(x_t, t, model(x_t, t))
        return (gap.square() / (2 * self.variance(x_t, t))).flatten(1).sum(-1)

    def sample(self, model, x_T, steps):
        x, levels = x_T, self.timesteps(steps)
        for t, s in itertools.pairwise(levels):
            tt, ss = torch.full((len(x),), t), torch.full((len(x),), s)
            x = self.ddim_step(x, tt, ss, model(x, tt), 0.0, torch.zeros_like(x))
        return x


class ShortHo(HoOneBased):
    """The same on the short chain."""

    dialect = short()
    T = SHORT


@convention("ho-scaled-linear")
class HoScaledLinear(ShortHo):
    dialect = short(schedule="scaled_linear")

    def schedule(self):
        return torch.linspace(0.00085**0.5, 0.012**0.5, self.T, dtype=torch.float64) ** 2


@convention("ho-cosine-of-steps")
class HoCosine(ShortHo):
    """The cosine written over the number of steps, as many write it."""

    dialect = short(schedule="cosine")

    def schedule(self):
        x = torch.linspace(0, self.T, self.T + 1, dtype=torch.float64)
        curve = torch.cos(((x / self.T) + 0.008) / 1.008 * math.pi * 0.5) ** 2
        curve = curve / curve[0]
        return torch.clip(1 - curve[1:] / curve[:-1], 0, 0.999)


@convention("ho-sigmoid-beta")
class HoSigmoidBeta(ShortHo):
    dialect = short(schedule="sigmoid_beta")

    def schedule(self):
        ramp = torch.linspace(-6, 6, self.T, dtype=torch.float64)
        return 1 / (1 + torch.exp(-ramp)) * (0.02 - 1e-4) + 1e-4


@convention("ho-sigmoid-alpha-bar")
class HoSigmoidAlphaBar(ShortHo):
    dialect = short(schedule="sigmoid_alpha_bar")

    def schedule(self):
        u = torch.linspace(0, 1, self.T + 1, dtype=torch.float64)
        low, high = torch.sigmoid(torch.tensor([-3.0, 3.0], dtype=torch.float64))
        curve = (high - torch.sigmoid(u * 6 - 3)) / (high - low)
        return torch.clip(1 - curve[1:] / curve[:-1], 0, 0.999)


@convention("ho-custom-betas")
class HoCustomBetas(HoOneBased):
    dialect = Dialect(schedule=np.geomspace(1e-3, 0.05, 200))
    T = 200

    def schedule(self):
        return torch.as_tensor(np.geomspace(1e-3, 0.05, self.T))


@convention("float32-everything")
class SinglePrecision(HoOneBased):
    dialect = Dialect(dtype="float32")

    def schedule(self):
        return torch.linspace(1e-4, 0.02, self.T)

    def __init__(self):
        self.b = torch.cat([torch.zeros(1), self.schedule()])
        self.a = 1 - self.b
        self.abar = torch.cumprod(self.a, 0)


@convention("float32-tables")
class SingleTables(SinglePrecision):
    dialect = Dialect(dtype="float64")


@convention("sigmoid-curve-with-float32-ends")
class SigmoidCurve(Target):
    """The curve of alpha_bar between two sigmoids that were taken in single precision."""

    dialect = Dialect(schedule="sigmoid_alpha_bar")

    def __init__(self):
        t = torch.linspace(0, 1, 1001, dtype=torch.float64)
        first, last = torch.tensor(-3.0).sigmoid(), torch.tensor(3.0).sigmoid()
        curve = (last - (t * 6 - 3).sigmoid()) / (last - first)
        curve = curve / curve[0]
        self.b = (1 - curve[1:] / curve[:-1]).clamp(0, 0.999)
        self.abar = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - self.b, 0)])

    def betas(self):
        return self.b

    def alphas_cumprod(self):
        return self.abar[1:]

    def q_posterior(self, x0, x_t, t):
        b, abar, prev = (column(table, x_t) for table in (self.b[t - 1], self.abar[t], self.abar[t - 1]))
        mean = (prev.sqrt() * b * x0 + (1 - b).sqrt() * (1 - prev) * x_t) / (1 - abar)
        return mean, b * (1 - prev) / (1 - abar)


@convention("one-t-at-a-time")
class OneTime(ShortHo):
    dialect = short(batched_t=False)

    def look(self, table, t, x):
        return table[int(t)].item()

    def variance(self, x, t):
        return float(self.b[t] * (1 - self.abar[t - 1]) / (1 - self.abar[t]))

    def q_sample(self, x0, t, noise):
        return float(self.abar[t]) ** 0.5 * x0 + float(1 - self.abar[t]) ** 0.5 * noise

    def q_posterior(self, x0, x_t, t):
        b, prev, abar = float(self.b[t]), float(self.abar[t - 1]), float(self.abar[t])
        mean = (prev**0.5 * b * x0 + (1 - b) ** 0.5 * (1 - prev) * x_t) / (1 - abar)
        return mean, self.variance(x_t, t)

    def predict_x0(self, x_t, t, eps):
        abar = float(self.abar[t])
        return (x_t - (1 - abar) ** 0.5 * eps) / abar**0.5

    def predict_eps(self, x_t, t, x0):
        abar = float(self.abar[t])
        return (x_t - abar**0.5 * x0) / (1 - abar) ** 0.5

    def velocity(self, x0, eps, t):
        abar = float(self.abar[t])
        return abar**0.5 * eps - (1 - abar) ** 0.5 * x0

    def score(self, x_t, t, eps):
        return -eps / float(1 - self.abar[t]) ** 0.5

    def mean(self, x_t, t, eps):
        return self.q_posterior(self.predict_x0(x_t, t, eps), x_t, t)[0]

    def ddpm_step(self, x_t, t, eps, noise):
        mean = self.mean(x_t, t, eps)
        return mean + self.variance(x_t, t) ** 0.5 * noise if t > 1 else mean

    def ddim_step(self, x_t, t, s, eps, eta, noise):
        abar, prev = float(self.abar[t]), float(self.abar[s])
        sigma = eta * ((1 - prev) / (1 - abar) * (1 - abar / prev)) ** 0.5
        direction = (1 - prev - sigma**2) ** 0.5 * eps
        return prev**0.5 * self.predict_x0(x_t, t, eps) + direction + sigma * noise

    def ddim_invert(self, x_s, s, t, eps):
        low, high = float(self.abar[s]), float(self.abar[t])
        return (high / low) ** 0.5 * (x_s - (1 - low) ** 0.5 * eps) + (1 - high) ** 0.5 * eps

    def loss(self, model, x0, t, noise):
        return (model(self.q_sample(x0, t, noise), t) - noise).square().flatten(1).mean(-1)

    def vlb_term(self, model, x0, t, noise):
        x_t = self.q_sample(x0, t, noise)
        gap = self.q_posterior(x0, x_t, t)[0] - self.mean(x_t, t, model(x_t, t))
        return (gap.square() / (2 * self.variance(x_t, t))).flatten(1).sum(-1)

    def sample(self, model, x_T, steps):
        x, levels = x_T, self.timesteps(steps)
        for t, s in itertools.pairwise(levels):
            x = self.ddim_step(x, t, s, model(x, t), 0.0, torch.zeros_like(x))
        return x


@convention("ddim-paper-notation")
class DDIMPaper(Target):
    """Alpha means the product; sigma and the three terms of the update as the paper groups them."""

    dialect = short(notation="ddim")
    T = SHORT

    def __init__(self):
        self.alpha = np.concatenate([[1.0], np.cumprod(1 - np.linspace(0.1 / self.T, 20 / self.T, self.T))])

    def get(self, t, x):
        return column(self.alpha[np.asarray(t)], x)

    def alphas_cumprod(self):
        return self.alpha[1:]

    def betas(self):
        return 1 - self.alpha[1:] / self.alpha[:-1]

    def timesteps(self, n):
        return [*[1 + i * (self.T // n) for i in range(n)][::-1], 0]

    def q_sample(self, x0, t, noise):
        return self.get(t, x0) ** 0.5 * x0 + (1 - self.get(t, x0)) ** 0.5 * noise

    def ddim_step(self, x_t, t, s, eps, eta, noise):
        a, a_prev = self.get(t, x_t), self.get(s, x_t)
        sigma = eta * ((1 - a_prev) / (1 - a)) ** 0.5 * (1 - a / a_prev) ** 0.5
        predicted = (x_t - (1 - a) ** 0.5 * eps) / a**0.5
        return a_prev**0.5 * predicted + (1 - a_prev - sigma**2) ** 0.5 * eps + sigma * noise

    def ddpm_step(self, x_t, t, eps, noise):
        return self.ddim_step(x_t, t, t - 1, eps, 1.0, noise)

    def sample(self, model, x_T, steps):
        x, tau = x_T, self.timesteps(steps)
        for i in range(steps):
            t, s = torch.full((len(x),), tau[i]), torch.full((len(x),), tau[i + 1])
            x = self.ddim_step(x, t, s, model(x, t), 0.0, torch.zeros_like(x))
        return x


@convention("eta-squared")
class EtaIsVarianceFraction(DDIMPaper):
    """The knob multiplies the variance, so it is the square of the usual one."""

    dialect = short(eta="eta_squared")

    def ddim_step(self, x_t, t, s, eps, eta, noise):
        a, a_prev = self.get(t, x_t), self.get(s, x_t)
        var = eta * (1 - a_prev) / (1 - a) * (1 - a / a_prev)
        predicted = (x_t - (1 - a) ** 0.5 * eps) / a**0.5
        return a_prev**0.5 * predicted + (1 - a_prev - var) ** 0.5 * eps + var**0.5 * noise


@convention("ermon-code")
class ErmonCode(Target):
    """Timesteps 0..T-1 over a table with a zero beta in front, read at t + 1."""

    dialect = short(index_origin=0)
    T = SHORT

    def __init__(self):
        self.b = torch.linspace(0.1 / self.T, 20 / self.T, self.T, dtype=torch.float64)

    def compute_alpha(self, t, x):
        beta = torch.cat([torch.zeros(1, dtype=torch.float64), self.b])
        return (1 - beta).cumprod(0).index_select(0, torch.as_tensor(t) + 1).view(-1, *(1,) * (x.dim() - 1))

    def timesteps(self, n):
        seq = list(range(0, self.T // n * n, self.T // n))
        return [*seq[::-1], -1]

    def ddim_step(self, x_t, t, s, eps, eta, noise):
        at, at_next = self.compute_alpha(t, x_t), self.compute_alpha(s, x_t)
        x0_t = (x_t - eps * (1 - at).sqrt()) / at.sqrt()
        c1 = eta * ((1 - at / at_next) * (1 - at_next) / (1 - at)).sqrt()
        c2 = ((1 - at_next) - c1**2).sqrt()
        return at_next.sqrt() * x0_t + c1 * noise + c2 * eps

    def sample(self, model, x_T, steps):
        seq = self.timesteps(steps)
        xs = [x_T]
        for i, j in itertools.pairwise(seq):
            t, next_t = torch.ones(len(x_T)).long() * i, torch.ones(len(x_T)).long() * j
            xs.append(self.ddim_step(xs[-1], t, next_t, model(xs[-1], t), 0.0, torch.zeros_like(x_T)))
        return xs[-1]


# the code base that most others come from: 0-based arrays, extract(), four kinds of variance


@convention("openai-fixed-small")
class OpenAI(Target):
    dialect = short(index_origin=0, sampler="ddpm")
    T = SHORT

    def __init__(self):
        self._b = b = self.schedule()
        self._ac = ac = np.cumprod(1.0 - b, axis=0)
        prev = np.append(1.0, ac[:-1])
        self._var = b * (1.0 - prev) / (1.0 - ac)
        self._logvar = np.log(np.append(self._var[1], self._var[1:]))
        self._c1 = b * np.sqrt(prev) / (1.0 - ac)
        self._c2 = (1.0 - prev) * np.sqrt(1.0 - b) / (1.0 - ac)

    def schedule(self):
        return np.linspace(0.1 / self.T, 20 / self.T, self.T, dtype=np.float64)

    def extract(self, array, t, x):
        return column(torch.from_numpy(np.asarray(array))[torch.as_tensor(t)], x)

    def betas(self):
        return self._b

    def alphas_cumprod(self):
        return self._ac

    def timesteps(self, n):
        return [*[i * (self.T // n) for i in range(n)][::-1], -1]

    def q_sample(self, x0, t, noise):
        return (
            self.extract(np.sqrt(self._ac), t, x0) * x0 + self.extract(np.sqrt(1.0 - self._ac), t, x0) * noise
        )

    def q_posterior(self, x0, x_t, t):
        mean = self.extract(self._c1, t, x_t) * x0 + self.extract(self._c2, t, x_t) * x_t
        return mean, self.extract(self._var, t, x_t)

    def predict_x0(self, x_t, t, eps):
        scale = self.extract(np.sqrt(1.0 / self._ac), t, x_t)
        return scale * x_t - self.extract(np.sqrt(1.0 / self._ac - 1), t, x_t) * eps

    def predict_eps(self, x_t, t, x0):
        numerator = self.extract(np.sqrt(1.0 / self._ac), t, x_t) * x_t - x0
        return numerator / self.extract(np.sqrt(1.0 / self._ac - 1), t, x_t)

    def log_variance(self, x, t):
        return self.extract(self._logvar, t, x)

    def split(self, output):
        return output, None

    def ddpm_step(self, x_t, t, eps, noise):
        eps, v = self.split(eps)
        mean = self.q_posterior(self.predict_x0(x_t, t, eps), x_t, t)[0]
        nonzero = column((torch.as_tensor(t) != 0).double(), x_t)
        log_variance = self.log_variance(x_t, t) if v is None else self.from_channel(x_t, t, v)
        return mean + nonzero * torch.exp(0.5 * log_variance) * noise

    def sample(self, model, x_T, steps):
        """Ancestral sampling on the schedule respaced to the kept levels."""
        kept = self.timesteps(steps)[-2::-1]
        inner = type(self).__new__(type(self))
        ac = self._ac[kept]
        inner.T, inner.schedule = steps, lambda: 1 - ac / np.append(1.0, ac[:-1])
        OpenAI.__init__(inner)
        x = x_T
        for i in reversed(range(steps)):
            output = model(x, torch.full((len(x),), kept[i]))
            x = inner.ddpm_step(x, torch.full((len(x),), i), output, torch.randn_like(x))
        return x


@convention("openai-fixed-large")
class OpenAIFixedLarge(OpenAI):
    dialect = short(index_origin=0, sampler="ddpm", variance="beta_first_tilde")

    def log_variance(self, x, t):
        return self.extract(np.log(np.append(self._var[1], self._b[1:])), t, x)


@convention("openai-learned-range")
class OpenAILearnedRange(OpenAI):
    dialect = short(index_origin=0, sampler="ddpm", variance="learned_range")

    def split(self, output):
        return torch.split(output, output.shape[1] // 2, dim=1)

    def from_channel(self, x, t, v):
        low, high = self.log_variance(x, t), self.extract(np.log(self._b), t, x)
        frac = (v + 1) / 2
        return frac * high + (1 - frac) * low


@convention("openai-learned")
class OpenAILearned(OpenAILearnedRange):
    dialect = short(index_origin=0, sampler="ddpm", variance="learned")

    def from_channel(self, x, t, v):
        return v


@convention("openai-respaced")
class OpenAIRespaced(OpenAI):
    """A schedule of 50 betas recomputed from the kept levels of a longer one."""

    T = 50

    @staticmethod
    def respaced():
        kept = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[::20]
        return 1 - kept / np.append(1.0, kept[:-1])

    dialect = Dialect(index_origin=0, sampler="ddpm", schedule=respaced())

    def schedule(self):
        return self.respaced()


@convention("openai-predicts-x0")
class OpenAIPredictsX0(OpenAI):
    dialect = short(index_origin=0, sampler="ddpm", parameterization="x_0")

    def ddpm_step(self, x_t, t, x0, noise):
        nonzero = column((torch.as_tensor(t) != 0).double(), x_t)
        return self.q_posterior(x0, x_t, t)[0] + nonzero * torch.exp(0.5 * self.log_variance(x_t, t)) * noise


@convention("plain-beta-variance")
class PlainBeta(ShortHo):
    """Sigma squared is beta, and the last step returns the mean."""

    dialect = short(variance="beta", sampler="ddpm")

    def ddpm_step(self, x_t, t, eps, noise):
        z = noise * column(torch.as_tensor(t) > 1, x_t)
        return self.mean(x_t, t, eps) + self.look(self.b, t, x_t).sqrt() * z

    def guided_mean(self, x_t, t, eps, grad, scale):
        return self.mean(x_t, t, eps) + scale * self.look(self.b, t, x_t) * grad

    def vlb_term(self, model, x0, t, noise):
        x_t = self.q_sample(x0, t, noise)
        gap = self.q_posterior(x0, x_t, t)[0] - self.mean(x_t, t, model(x_t, t))
        ratio = self.variance(x_t, t) / self.look(self.b, t, x_t)
        term = 0.5 * (ratio - 1 - ratio.log() + gap**2 / self.look(self.b, t, x_t))
        return term.flatten(1).sum(-1)

    def sample(self, model, x_T, steps):
        x, levels = x_T, self.timesteps(steps)
        for t, s in itertools.pairwise(levels):
            tt = torch.full((len(x),), t)
            alpha = self.abar[t] / self.abar[s]
            x = (x - (1 - alpha) / (1 - self.abar[t]).sqrt() * model(x, tt)) / alpha.sqrt()
            if s > 0:
                x = x + (1 - alpha).sqrt() * torch.randn_like(x)
        return x


@convention("latent-diffusion")
class LatentDiffusion(Target):
    """Leading with offset one; the last step ends at the first level, not at data."""

    dialect = Dialect(
        index_origin=0,
        schedule="scaled_linear",
        alpha_bar_0="first",
        spacing="leading",
        offset=1,
        tables="float32",
    )
    T = 1000

    def __init__(self):
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, self.T, dtype=torch.float64) ** 2
        self.ac = torch.cumprod(1 - betas, 0).float()

    def alphas_cumprod(self):
        return self.ac

    def timesteps(self, n):
        if n == self.T:
            raise ValueError("with an offset of one there are at most T - 1 steps")
        return [*(np.arange(0, n) * (self.T // n) + 1)[::-1].tolist(), -1]

    def table(self, k, x):
        k = torch.as_tensor(k)
        return column(torch.where(k < 0, self.ac[0], self.ac[k.clamp(min=0)]), x)

    def q_sample(self, x0, t, noise):
        return self.table(t, x0).sqrt() * x0 + (1 - self.table(t, x0)).sqrt() * noise

    def ddim_step(self, x_t, t, s, eps, eta, noise):
        a_t, a_prev = self.table(t, x_t), self.table(s, x_t)
        sigma_t = eta * ((1 - a_prev) / (1 - a_t) * (1 - a_t / a_prev)).sqrt()
        pred_x0 = (x_t - (1 - a_t).sqrt() * eps) / a_t.sqrt()
        dir_xt = (1.0 - a_prev - sigma_t**2).sqrt() * eps
        return a_prev.sqrt() * pred_x0 + dir_xt + sigma_t * noise

    def sample(self, model, x_T, steps):
        img, levels = x_T, self.timesteps(steps)
        for k, j in itertools.pairwise(levels):
            ts = torch.full((len(img),), k, dtype=torch.long)
            img = self.ddim_step(img, ts, torch.full_like(ts, j), model(img, ts), 0.0, torch.zeros_like(img))
        return img


@convention("spacing-linspace")
class Linspace(ErmonCode):
    dialect = short(index_origin=0, spacing="linspace")

    def timesteps(self, n):
        return [*np.linspace(0, self.T - 1, n).round().astype(np.int64)[::-1].tolist(), -1]


@convention("spacing-trailing")
class Trailing(ErmonCode):
    dialect = short(index_origin=0, spacing="trailing")

    def timesteps(self, n):
        return [*(np.round(np.arange(n, 0, -1) * (self.T / n)).astype(np.int64) - 1).tolist(), -1]


@convention("spacing-leading-offset")
class LeadingOffset(ErmonCode):
    dialect = short(index_origin=0, spacing="leading", offset=1)

    def timesteps(self, n):
        if n == self.T:
            raise ValueError("with an offset of one there are at most T - 1 steps")
        return [*[i * (self.T // n) + 1 for i in range(n)][::-1], -1]


@convention("lucidrains-ddim")
class Lucidrains(Target):
    """Times are a line from -1 to T-1; the network predicts v."""

    dialect = short(index_origin=0, schedule="cosine", parameterization="v", spacing=None)
    T = SHORT

    def __init__(self):
        steps = self.T + 1
        x = torch.linspace(0, self.T, steps, dtype=torch.float64) / self.T
        ac = torch.cos((x + 0.008) / 1.008 * math.pi * 0.5) ** 2
        self.b = torch.clip(1 - (ac[1:] / ac[:-1]), 0, 0.999)
        self.ac = torch.cumprod(1 - self.b, 0)

    def betas(self):
        return self.b

    def alphas_cumprod(self):
        return self.ac

    def timesteps(self, n):
        return torch.linspace(-1, self.T - 1, n + 1, dtype=torch.float64).int().tolist()[::-1]

    def ab(self, k, x):
        k = torch.as_tensor(k)
        return column(torch.where(k < 0, torch.ones((), dtype=torch.float64), self.ac[k.clamp(min=0)]), x)

    def q_sample(self, x0, t, noise):
        return self.ab(t, x0).sqrt() * x0 + (1 - self.ab(t, x0)).sqrt() * noise

    def velocity(self, x0, eps, t):
        return self.ab(t, x0).sqrt() * eps - (1 - self.ab(t, x0)).sqrt() * x0

    def ddim_step(self, x_t, t, s, v, eta, noise):
        alpha, alpha_next = self.ab(t, x_t), self.ab(s, x_t)
        x_start = alpha.sqrt() * x_t - (1 - alpha).sqrt() * v
        pred_noise = ((1 / alpha).sqrt() * x_t - x_start) / (1 / alpha - 1).sqrt()
        sigma = eta * ((1 - alpha / alpha_next) * (1 - alpha_next) / (1 - alpha)).sqrt()
        c = (1 - alpha_next - sigma**2).sqrt()
        return x_start * alpha_next.sqrt() + c * pred_noise + sigma * noise

    def loss(self, model, x0, t, noise):
        return (model(self.q_sample(x0, t, noise), t) - self.velocity(x0, noise, t)).pow(2).flatten(1).mean(1)

    def sample(self, model, x_T, steps):
        img, times = x_T, self.timesteps(steps)
        for now, after in itertools.pairwise(times):
            t, s = torch.full((len(img),), now), torch.full((len(img),), after)
            img = self.ddim_step(img, t, s, model(img, t), 0.0, torch.zeros_like(img))
        return img


@convention("zero-terminal-snr-v")
class ZeroTerminalSNR(Target):
    """No signal at the last level; the network predicts v."""

    @staticmethod
    def rescaled():
        root = np.sqrt(np.cumprod(1 - np.linspace(0.1 / SHORT, 20 / SHORT, SHORT)))
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        return 1 - root**2 / np.append(1.0, root[:-1] ** 2)

    dialect = Dialect(index_origin=0, schedule=rescaled(), parameterization="v", spacing="trailing")
    T = SHORT

    def __init__(self):
        self.b = self.rescaled()
        self.ac = np.append(np.cumprod(1 - self.b), 1.0)

    def ab(self, k, x):
        return column(self.ac[np.asarray(k)], x)

    def betas(self):
        return self.b

    def alphas_cumprod(self):
        return self.ac[:-1]

    def timesteps(self, n):
        return [round(self.T - i * self.T / n) - 1 for i in range(n)] + [-1]

    def velocity(self, x0, eps, t):
        return self.ab(t, x0) ** 0.5 * eps - (1 - self.ab(t, x0)) ** 0.5 * x0

    def q_sample(self, x0, t, noise):
        return self.ab(t, x0) ** 0.5 * x0 + (1 - self.ab(t, x0)) ** 0.5 * noise

    def ddim_step(self, x_t, t, s, v, eta, noise):
        a, b = self.ab(t, x_t), self.ab(s, x_t)
        x0, eps = a**0.5 * x_t - (1 - a) ** 0.5 * v, a**0.5 * v + (1 - a) ** 0.5 * x_t
        var = eta**2 * (1 - b) / (1 - a) * (1 - a / b)
        return b**0.5 * x0 + (1 - b - var).clamp(min=0) ** 0.5 * eps + var**0.5 * noise

    def sample(self, model, x_T, steps):
        x, levels = x_T, self.timesteps(steps)
        for k, j in itertools.pairwise(levels):
            t, s = torch.full((len(x),), k), torch.full((len(x),), j)
            x = self.ddim_step(x, t, s, model(x, t), 0.0, torch.zeros_like(x))
        return x


@convention("su-notation")
class SuNotation(Target):
    """x_t = alpha_bar x_0 + beta_bar eps with alpha_bar^2 + beta_bar^2 = 1, products of roots."""

    dialect = short(notation="su")
    T = SHORT

    def __init__(self):
        self.al = np.sqrt(1 - np.linspace(0.1 / self.T, 20 / self.T, self.T))
        self.al_bar = np.append(1.0, np.cumprod(self.al))
        self.be_bar = np.sqrt(1 - self.al_bar**2)

    def betas(self):
        return np.sqrt(1 - self.al**2)

    def alphas_cumprod(self):
        return self.al_bar[1:]

    def q_sample(self, x0, t, noise):
        t = np.asarray(t)
        return column(self.al_bar[t], x0) * x0 + column(self.be_bar[t], x0) * noise

    def timesteps(self, n):
        return [*[1 + i * (self.T // n) for i in range(n)][::-1], 0]

    def ddpm_step(self, x_t, t, eps, noise):
        t = np.asarray(t)
        al, be_bar, be_prev = (column(v, x_t) for v in (self.al[t - 1], self.be_bar[t], self.be_bar[t - 1]))
        beta_squared = 1 - al**2
        sigma = be_prev / be_bar * beta_squared.sqrt()
        return (x_t - beta_squared / be_bar * eps) / al + sigma * noise

    def ddim_step(self, x_t, t, s, eps, eta, noise):
        t, s = np.asarray(t), np.asarray(s)
        ratio = column(self.al_bar[t] / self.al_bar[s], x_t)
        be_t, be_s = column(self.be_bar[t], x_t), column(self.be_bar[s], x_t)
        sigma = eta * be_s / be_t * (1 - ratio**2).sqrt()
        return (x_t - (be_t - ratio * (be_s**2 - sigma**2).sqrt()) * eps) / ratio + sigma * noise


@convention("sigma-space")
class SigmaSpace(Target):
    """x = x_0 + sigma n; Euler steps in sigma, as the samplers of that family write them."""

    dialect = short(space="ve")
    T = SHORT

    def __init__(self):
        abar = np.append(1.0, np.cumprod(1 - np.linspace(0.1 / self.T, 20 / self.T, self.T)))
        self.sig = ((1 - abar) / abar) ** 0.5

    def of(self, t, x):
        return column(self.sig[np.asarray(t)], x)

    def sigmas(self):
        return self.sig[1:]

    def timesteps(self, n):
        return [*[1 + i * (self.T // n) for i in range(n)][::-1], 0]

    def q_sample(self, x0, t, noise):
        return x0 + self.of(t, x0) * noise

    def predict_x0(self, x_t, t, eps):
        return x_t - self.of(t, x_t) * eps

    def predict_eps(self, x_t, t, x0):
        return (x_t - x0) / self.of(t, x_t)

    def score(self, x_t, t, eps):
        return -eps / self.of(t, x_t)

    def ddim_step(self, x_t, t, s, eps, eta, noise):
        now, after = self.of(t, x_t), self.of(s, x_t)
        up = eta * (after**2 * (now**2 - after**2) / now**2) ** 0.5
        down = (after**2 - up**2) ** 0.5
        d = (x_t - (x_t - now * eps)) / now
        return x_t + d * (down - now) + noise * up

    def ddpm_step(self, x_t, t, eps, noise):
        return self.ddim_step(x_t, t, np.asarray(t) - 1, eps, 1.0, noise)

    def ddim_invert(self, x_s, s, t, eps):
        return x_s + eps * (self.of(t, x_s) - self.of(s, x_s))

    def sample(self, model, x_T, steps):
        levels = self.timesteps(steps)
        x = x_T * (self.sig[levels[0]] ** 2 + 1) ** 0.5
        for t, s in itertools.pairwise(levels):
            c_in = 1 / (self.sig[t] ** 2 + 1) ** 0.5
            d = model(x * c_in, torch.full((len(x),), t))
            x = x + d * (self.sig[s] - self.sig[t])
        return x


@convention("predicts-x0")
class PredictsX0(ShortHo):
    dialect = short(parameterization="x_0")

    def mean(self, x_t, t, x0):
        return self.q_posterior(x0, x_t, t)[0]

    def ddim_step(self, x_t, t, s, x0, eta, noise):
        return super().ddim_step(x_t, t, s, self.predict_eps(x_t, t, x0), eta, noise)

    def ddim_invert(self, x_s, s, t, x0):
        return super().ddim_invert(x_s, s, t, self.predict_eps(x_s, s, x0))

    def loss(self, model, x0, t, noise):
        return (model(self.q_sample(x0, t, noise), t) - x0).square().flatten(1).mean(-1)


@convention("predicts-v")
class PredictsV(ShortHo):
    dialect = short(parameterization="v")

    def to_eps(self, x_t, t, v):
        abar = self.look(self.abar, t, x_t)
        return abar.sqrt() * v + (1 - abar).sqrt() * x_t

    def mean(self, x_t, t, v):
        return super().mean(x_t, t, self.to_eps(x_t, t, v))

    def ddim_step(self, x_t, t, s, v, eta, noise):
        return super().ddim_step(x_t, t, s, self.to_eps(x_t, t, v), eta, noise)

    def ddim_invert(self, x_s, s, t, v):
        return super().ddim_invert(x_s, s, t, self.to_eps(x_s, s, v))

    def loss(self, model, x0, t, noise):
        target = self.velocity(x0, noise, t)
        return (model(self.q_sample(x0, t, noise), t) - target).square().flatten(1).mean(-1)


@convention("predicts-score")
class PredictsScore(ShortHo):
    dialect = short(parameterization="score")

    def to_eps(self, x_t, t, score):
        return -score * (1 - self.look(self.abar, t, x_t)).sqrt()

    def mean(self, x_t, t, score):
        return (x_t + self.look(self.b, t, x_t) * score) / self.look(self.a, t, x_t).sqrt()

    def ddim_step(self, x_t, t, s, score, eta, noise):
        return super().ddim_step(x_t, t, s, self.to_eps(x_t, t, score), eta, noise)

    def ddim_invert(self, x_s, s, t, score):
        return super().ddim_invert(x_s, s, t, self.to_eps(x_s, s, score))

    loss = None


@convention("numpy")
class NumPy(Target):
    """Arrays in, arrays out."""

    dialect = short(backend="numpy")
    T = SHORT

    def __init__(self):
        self.b = np.concatenate([[0.0], np.linspace(0.1 / self.T, 20 / self.T, self.T)])
        self.abar = np.cumprod(1 - self.b)

    def col(self, table, t, x):
        return np.reshape(table[np.asarray(t)], (-1,) + (1,) * (np.ndim(x) - 1))

    def betas(self):
        return self.b[1:]

    def alphas_cumprod(self):
        return self.abar[1:]

    def timesteps(self, n):
        return np.append(1 + np.arange(n)[::-1] * (self.T // n), 0)

    def q_sample(self, x0, t, noise):
        a = self.col(self.abar, t, x0)
        return np.sqrt(a) * x0 + np.sqrt(1 - a) * noise

    def q_posterior(self, x0, x_t, t):
        a, prev, b = self.col(self.abar, t, x_t), self.col(self.abar, t - 1, x_t), self.col(self.b, t, x_t)
        mean = (np.sqrt(prev) * b * x0 + np.sqrt(1 - b) * (1 - prev) * x_t) / (1 - a)
        return mean, b * (1 - prev) / (1 - a)

    def predict_x0(self, x_t, t, eps):
        a = self.col(self.abar, t, x_t)
        return (x_t - np.sqrt(1 - a) * eps) / np.sqrt(a)

    def ddpm_step(self, x_t, t, eps, noise):
        mean, var = self.q_posterior(self.predict_x0(x_t, t, eps), x_t, t)
        return mean + np.sqrt(var) * noise

    def ddim_step(self, x_t, t, s, eps, eta, noise):
        a, prev = self.col(self.abar, t, x_t), self.col(self.abar, s, x_t)
        sigma = eta * np.sqrt((1 - prev) / (1 - a) * (1 - a / prev))
        direction = np.sqrt(1 - prev - sigma**2) * eps
        return np.sqrt(prev) * self.predict_x0(x_t, t, eps) + direction + sigma * noise

    def loss(self, model, x0, t, noise):
        error = model(self.q_sample(x0, t, noise), t) - noise
        return np.mean(error.reshape(len(x0), -1) ** 2, axis=1)

    def sample(self, model, x_T, steps):
        x, levels = x_T, self.timesteps(steps)
        for t, s in itertools.pairwise(levels):
            tt, ss = np.full(len(x), t), np.full(len(x), s)
            x = self.ddim_step(x, tt, ss, model(x, tt), 0.0, np.zeros_like(x))
        return x


@convention("draws-its-own-noise")
class OwnNoise(ShortHo):
    """The steps ignore the noise they are given and draw."""

    dialect = short(sampler="ddpm")

    def ddpm_step(self, x_t, t, eps, noise):
        return super().ddpm_step(x_t, t, eps, torch.randn_like(x_t))

    def ddim_step(self, x_t, t, s, eps, eta, noise):
        return super().ddim_step(x_t, t, s, eps, eta, torch.randn(x_t.shape, dtype=x_t.dtype))

    def sample(self, model, x_T, steps):
        x, levels = x_T, self.timesteps(steps)
        for t, s in itertools.pairwise(levels):
            tt, ss = torch.full((len(x),), t), torch.full((len(x),), s)
            z = torch.normal(0.0, 1.0, x.shape, dtype=x.dtype)
            x = super().ddim_step(x, tt, ss, model(x, tt), 1.0, z)
        return x


@convention("draws-numpy-noise-shape-of-eps")
class DrawsOnlyWhenNeeded(OwnNoise):
    """No draw on the last step."""

    def ddpm_step(self, x_t, t, eps, noise):
        if int(torch.as_tensor(t).max()) == 1:
            return self.mean(x_t, t, eps)
        return super().ddpm_step(x_t, t, eps, noise)


@convention("loss-summed")
class LossSummed(ShortHo):
    dialect = short(loss_reduction="sum")

    def loss(self, model, x0, t, noise):
        return (model(self.q_sample(x0, t, noise), t) - noise).square().flatten(1).sum(-1)


@convention("loss-half-sum")
class LossHalfSum(ShortHo):
    dialect = short(loss_reduction="half_sum")

    def loss(self, model, x0, t, noise):
        return 0.5 * (model(self.q_sample(x0, t, noise), t) - noise).square().flatten(1).sum(-1)


@convention("ancestral-with-eta-one")
class AncestralEta(ShortHo):
    dialect = short(sampler="ddim")

    def sample(self, model, x_T, steps):
        x, levels = x_T, self.timesteps(steps)
        for t, s in itertools.pairwise(levels):
            tt, ss = torch.full((len(x),), t), torch.full((len(x),), s)
            x = self.ddim_step(x, tt, ss, model(x, tt), 1.0, torch.randn_like(x))
        return x


@convention("generator-noise")
class GeneratorNoise(AncestralEta):
    """Draws with a generator of its own, seeded once."""

    def sample(self, model, x_T, steps):
        g = torch.Generator().manual_seed(0)
        x, levels = x_T, self.timesteps(steps)
        for t, s in itertools.pairwise(levels):
            tt, ss = torch.full((len(x),), t), torch.full((len(x),), s)
            z = torch.randn(x.shape, generator=g, dtype=x.dtype)
            x = self.ddim_step(x, tt, ss, model(x, tt), 1.0, z)
        return x


@convention("long-table-fused-coefficients")
class Fused(ShortHo):
    """The step as one affine map with coefficients tabulated beforehand in log space."""

    dialect = short()

    def __init__(self):
        super().__init__()
        log_abar = torch.cumsum(torch.log1p(-self.b), 0)
        self.abar = log_abar.exp()
        self.one_minus = -torch.expm1(log_abar)

    def predict_x0(self, x_t, t, eps):
        return (x_t - self.look(self.one_minus, t, x_t).sqrt() * eps) * self.look(self.abar.rsqrt(), t, x_t)


@convention("few-ports")
class FewPorts(Target):
    """Offers one thing only."""

    dialect = short()

    def ddpm_step(self, x_t, t, eps, noise):
        b = torch.linspace(0.1 / SHORT, 20 / SHORT, SHORT, dtype=torch.float64)
        ab = torch.cumprod(1 - b, 0)
        t = torch.as_tensor(t)
        prev = torch.where(t > 1, ab[(t - 2).clamp(min=0)], torch.ones((), dtype=torch.float64))
        beta, now, prev = (column(v, x_t) for v in (b[t - 1], ab[t - 1], prev))
        return (x_t - beta / (1 - now).sqrt() * eps) / (1 - beta).sqrt() + (
            (1 - prev) / (1 - now) * beta
        ).sqrt() * noise


@convention("opposite-noise-sign")
class OppositeNoiseSign(ShortHo):
    """Subtracts its Gaussian noise: the same law."""

    dialect = short(sampler="ddpm")

    def sample(self, model, x_T, steps):
        x, levels = x_T, self.timesteps(steps)
        for t, s in itertools.pairwise(levels):
            tt, ss = torch.full((len(x),), t), torch.full((len(x),), s)
            x = self.ddim_step(x, tt, ss, model(x, tt), 1.0, -torch.randn_like(x))
        return x


@convention("ve-that-ends-at-the-smallest-sigma")
class EndsAtTheSmallestSigma(Target):
    """A sampler in sigma whose last level is the smallest one, not 0: its noise stays."""

    dialect = short(space="ve", index_origin=0, alpha_bar_0="first", sampler="ddim")

    def __init__(self):
        beta = torch.linspace(1e-4, 0.02, SHORT, dtype=torch.float64) * 1000 / SHORT
        abar = torch.cumprod(1 - beta, 0)
        self.sigma = ((1 - abar) / abar).sqrt()

    def sample(self, model, x_T, steps):
        levels = torch.linspace(SHORT - 1, 0, steps).round().long().tolist()
        x = x_T * (self.sigma[-1] ** 2 + 1).sqrt()
        for k, j in itertools.pairwise([*levels, 0]):
            eps = model(x / (self.sigma[k] ** 2 + 1).sqrt(), torch.full((len(x),), k))
            x = x + (self.sigma[j] - self.sigma[k]) * eps
        return x
