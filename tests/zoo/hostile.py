"""Targets that break the rules of good behaviour in one port; the rest of them is right."""

import sys
import time

import numpy as np
import torch

from tests.zoo.base import Textbook, rows

HOSTILE: dict[str, tuple[type[Textbook], str]] = {}


def hostile(id, port="q_sample"):
    def add(cls):
        cls.name = id
        HOSTILE[id] = (cls, port)
        return cls

    return add


@hostile("raises")
class Raises(Textbook):
    def q_sample(self, x0, t, noise):
        raise RuntimeError("no such thing")


@hostile("raises-in-a-table", "alphas_cumprod")
class RaisesInTable(Textbook):
    def alphas_cumprod(self):
        raise KeyError("alphas")


@hostile("returns-nan")
class ReturnsNaN(Textbook):
    def q_sample(self, x0, t, noise):
        return super().q_sample(x0, t, noise) * float("nan")


@hostile("returns-inf", "score")
class ReturnsInf(Textbook):
    def score(self, x_t, t, eps):
        return super().score(x_t, t, eps) / 0.0


@hostile("nan-at-one-level", "ddpm_step")
class NaNAtOneLevel(Textbook):
    def ddpm_step(self, x_t, t, eps, noise):
        x = super().ddpm_step(x_t, t, eps, noise)
        return torch.where(rows(torch.as_tensor(t) == self.T - 1, x_t) > 0, torch.nan, x)


@hostile("wrong-shape")
class WrongShape(Textbook):
    def q_sample(self, x0, t, noise):
        return super().q_sample(x0, t, noise).sum(1)


@hostile("wrong-shape-table", "betas")
class WrongShapeTable(Textbook):
    def betas(self):
        return self.beta[:-3]


@hostile("transposed")
class Transposed(Textbook):
    def q_sample(self, x0, t, noise):
        return super().q_sample(x0, t, noise).transpose(0, -1)


@hostile("wrong-dtype")
class WrongDtype(Textbook):
    def q_sample(self, x0, t, noise):
        return super().q_sample(x0, t, noise).to(torch.int64)


@hostile("lower-dtype")
class LowerDtype(Textbook):
    def q_sample(self, x0, t, noise):
        return super().q_sample(x0, t, noise).half()


@hostile("complex")
class Complex(Textbook):
    def q_sample(self, x0, t, noise):
        return super().q_sample(x0, t, noise).to(torch.complex128) * 1j


@hostile("mutates-its-input", "ddpm_step")
class MutatesInput(Textbook):
    def ddpm_step(self, x_t, t, eps, noise):
        out = super().ddpm_step(x_t, t, eps, noise)
        x_t.mul_(0.5)
        return out


@hostile("mutates-the-time", "ddpm_step")
class MutatesTime(Textbook):
    def ddpm_step(self, x_t, t, eps, noise):
        out = super().ddpm_step(x_t, t, eps, noise)
        t.sub_(1)
        return out


@hostile("draws-extra-noise", "ddpm_step")
class DrawsExtraNoise(Textbook):
    def ddpm_step(self, x_t, t, eps, noise):
        return super().ddpm_step(x_t, t, eps, noise) + 1e-3 * torch.randn_like(x_t)


@hostile("draws-extra-noise-in-a-pure-port", "q_sample")
class DrawsInPurePort(Textbook):
    def q_sample(self, x0, t, noise):
        return super().q_sample(x0, t, noise) + 1e-3 * torch.randn_like(x0)


@hostile("numpy-noise", "ddpm_step")
class NumPyNoise(Textbook):
    def ddpm_step(self, x_t, t, eps, noise):
        own = torch.as_tensor(np.random.standard_normal(tuple(x_t.shape)), dtype=x_t.dtype)
        return super().ddpm_step(x_t, t, eps, noise) + 1e-3 * own


@hostile("depends-on-the-batch", "predict_x0")
class DependsOnBatch(Textbook):
    def predict_x0(self, x_t, t, eps):
        x0 = super().predict_x0(x_t, t, eps)
        return x0 * (1 + 1e-3 * len(x0)) + 1e-3 * x0.mean()


@hostile("stateful", "score")
class Stateful(Textbook):
    calls = 0

    def score(self, x_t, t, eps):
        self.calls += 1
        return super().score(x_t, t, eps) * (1 + 0.01 * self.calls)


@hostile("takes-forever", "velocity")
class TakesForever(Textbook):
    def velocity(self, x0, eps, t):
        while True:
            time.sleep(0.01)


@hostile("busy-forever", "velocity")
class BusyForever(Textbook):
    def velocity(self, x0, eps, t):
        while True:
            pass


@hostile("sample-never-ends", "sample")
class SampleNeverEnds(Textbook):
    def sample(self, model, x_T, steps):
        while True:
            model(x_T, torch.zeros(len(x_T), dtype=torch.long))


@hostile("returns-none")
class ReturnsNone(Textbook):
    def q_sample(self, x0, t, noise):
        return None


@hostile("returns-a-float", "loss")
class ReturnsFloat(Textbook):
    def loss(self, model, x0, t, noise):
        return 0.5


@hostile("returns-a-string")
class ReturnsString(Textbook):
    def q_sample(self, x0, t, noise):
        return "x_t"


@hostile("returns-a-list", "q_posterior")
class ReturnsOnlyMean(Textbook):
    def q_posterior(self, x0, x_t, t):
        return [super().q_posterior(x0, x_t, t)[0]]


@hostile("exits")
class Exits(Textbook):
    def q_sample(self, x0, t, noise):
        sys.exit(3)


@hostile("recurses")
class Recurses(Textbook):
    def q_sample(self, x0, t, noise):
        return self.q_sample(x0, t, noise)


@hostile("wrong-signature")
class WrongSignature(Textbook):
    def q_sample(self, x0, t):
        return x0


@hostile("ignores-the-model", "sample")
class IgnoresModel(Textbook):
    def sample(self, model, x_T, steps):
        return torch.zeros_like(x_T)


@hostile("non-affine", "ddim_step")
class NonAffine(Textbook):
    def ddim_step(self, x_t, t, s, eps, eta, noise):
        return torch.tanh(super().ddim_step(x_t, t, s, eps, eta, noise))


@hostile("requires-grad", "score")
class DetachedFails(Textbook):
    def score(self, x_t, t, eps):
        return super().score(x_t, t, eps).requires_grad_() * 1.001


@hostile("empty", "timesteps")
class EmptyList(Textbook):
    def timesteps(self, n):
        return []


@hostile("strings-in-timesteps", "timesteps")
class StringLevels(Textbook):
    def timesteps(self, n):
        return ["a"] * (n + 1)


POLITE: dict[str, type[Textbook]] = {}


def polite(cls):
    POLITE[cls.__name__] = cls
    cls.name = cls.__name__
    return cls


@polite
class Prints(Textbook):
    """Right, but noisy on standard output."""

    def q_sample(self, x0, t, noise):
        print("q_sample called")
        return super().q_sample(x0, t, noise)


@polite
class ChangesGlobalRNG(Textbook):
    """Right, but seeds the global generators."""

    def ddpm_step(self, x_t, t, eps, noise):
        torch.manual_seed(0)
        np.random.seed(0)
        return super().ddpm_step(x_t, t, eps, noise)


@polite
class ChangesDefaultDtype(Textbook):
    """Right, but leaves another default dtype behind."""

    def q_sample(self, x0, t, noise):
        torch.set_default_dtype(torch.float64)
        return super().q_sample(x0, t, noise)


@polite
class ReturnsWithGrad(Textbook):
    """Right, with a graph attached."""

    def predict_x0(self, x_t, t, eps):
        gain = torch.ones((), dtype=x_t.dtype, requires_grad=True)
        return super().predict_x0(x_t, t, eps) * gain


@polite
class NonContiguous(Textbook):
    """Right, as a strided view."""

    def q_sample(self, x0, t, noise):
        x = super().q_sample(x0, t, noise)
        return torch.stack([x, x], -1)[..., 0]
