"""A correct implementation with 0-based tables, from which a mutant differs in one place."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refdiff.oracle import Dialect, Target

# short, so that a hundred samplers can be run step by step
STEPS = 100
ZERO_BASED = Dialect(schedule="linear_rescaled", T=STEPS, index_origin=0)


@dataclass(frozen=True)
class Mutant:
    """One mistake: the entry it reproduces, the family expected, and how to build it."""

    id: str
    family: str
    make: Callable[[], Target]
    also: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether it is an entry of the list of known mistakes."""
        return not self.id.startswith("own-")

    @property
    def accepted(self) -> tuple[str, ...]:
        """Other families that name the mistake as well; an entry of the list has one, its category."""
        return () if self.known else self.also


def without_sampler(cls: type[Target]) -> Target:
    """The target; its sampler is left out where the mistake is in a step, which is measured by itself."""
    target = cls()
    if isinstance(target, Textbook) and (cls.sample, cls.timesteps) == (Textbook.sample, Textbook.timesteps):
        target.sample = None
    return target


class Registry(list[Mutant]):
    """A list of mutants that classes join through a decorator."""

    def __call__(self, id: str, family: str, *also: str) -> Callable[[type[Target]], type[Target]]:
        def add(cls: type[Target]) -> type[Target]:
            cls.name = id
            self.append(Mutant(id, family, partial(without_sampler, cls), also))
            return cls

        return add


def dialect(**changes: Any) -> Dialect:
    """The zoo's usual dialect (0-based) with changes."""
    return replace(ZERO_BASED, **changes)


def rows(value: Any, x: Tensor) -> Tensor:
    """(B,) -> (B, 1, ..., 1) in the dtype of x."""
    return torch.as_tensor(value).to(x.dtype).reshape(-1, *[1] * (x.dim() - 1))


class Textbook(Target):
    """DDPM and DDIM over 0-based arrays; level -1 is data."""

    name = "textbook"
    dialect = ZERO_BASED
    T = STEPS

    def __init__(self) -> None:
        self.beta = self.make_betas()
        self.make_tables()

    def make_betas(self) -> np.ndarray:
        return np.linspace(0.1 / self.T, 20 / self.T, self.T)

    def make_abar(self) -> np.ndarray:
        return np.cumprod(1.0 - self.beta)

    def make_tables(self) -> None:
        self.abar = self.make_abar()
        self.abar_prev = np.append(1.0, self.abar[:-1])
        self.alpha = 1.0 - self.beta
        with np.errstate(all="ignore"):
            self.var = self.beta * (1.0 - self.abar_prev) / (1.0 - self.abar)
            self.coef_x0 = self.beta * np.sqrt(self.abar_prev) / (1.0 - self.abar)
            self.coef_xt = np.sqrt(self.alpha) * (1.0 - self.abar_prev) / (1.0 - self.abar)

    def at(self, table: np.ndarray, k: Any, x: Tensor) -> Tensor:
        return rows(torch.as_tensor(table)[torch.as_tensor(k)], x)

    def level(self, k: Any, x: Tensor) -> Tensor:
        """abar of a level, 1 for level -1."""
        return self.at(np.append(1.0, self.abar), torch.as_tensor(k) + 1, x)

    def betas(self) -> np.ndarray:
        return self.beta

    def alphas_cumprod(self) -> np.ndarray:
        return self.abar

    def timesteps(self, n: int) -> Sequence[int]:
        return [i * (self.T // n) for i in reversed(range(n))] + [-1]

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        abar = self.at(self.abar, t, x0)
        return abar.sqrt() * x0 + (1 - abar).sqrt() * noise

    def q_posterior(self, x0: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.at(self.coef_x0, t, x_t) * x0 + self.at(self.coef_xt, t, x_t) * x_t
        return mean, self.at(self.var, t, x_t)

    def predict_x0(self, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        abar = self.at(self.abar, t, x_t)
        return (x_t - (1 - abar).sqrt() * eps) / abar.sqrt()

    def predict_eps(self, x_t: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        abar = self.at(self.abar, t, x_t)
        return (x_t - abar.sqrt() * x0) / (1 - abar).sqrt()

    def velocity(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        abar = self.at(self.abar, t, x0)
        return abar.sqrt() * eps - (1 - abar).sqrt() * x0

    def score(self, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        return -eps / (1 - self.at(self.abar, t, x_t)).sqrt()

    def step_mean(self, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        return self.q_posterior(self.predict_x0(x_t, t, eps), x_t, t)[0]

    def step_std(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.at(self.var, t, x_t).sqrt()

    def mask(self, x_t: Tensor, t: Tensor) -> Tensor:
        return rows(torch.as_tensor(t) != 0, x_t)

    def ddpm_step(self, x_t: Tensor, t: Tensor, eps: Tensor, noise: Tensor) -> Tensor:
        return self.step_mean(x_t, t, eps) + self.mask(x_t, t) * self.step_std(x_t, t) * noise

    def ddim_sigma(self, abar_t: Tensor, abar_s: Tensor, eta: float) -> Tensor:
        return eta * ((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)).sqrt()

    def ddim_step(self, x_t: Tensor, t: Tensor, s: Tensor, eps: Tensor, eta: float, noise: Tensor) -> Tensor:
        abar_t, abar_s = self.level(t, x_t), self.level(s, x_t)
        x0 = self.predict_x0(x_t, t, eps)
        sigma = self.ddim_sigma(abar_t, abar_s, eta)
        return abar_s.sqrt() * x0 + (1 - abar_s - sigma**2).sqrt() * eps + sigma * noise

    def ddim_invert(self, x_s: Tensor, s: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        abar_t, abar_s = self.level(t, x_s), self.level(s, x_s)
        x0 = (x_s - (1 - abar_s).sqrt() * eps) / abar_s.sqrt()
        return abar_t.sqrt() * x0 + (1 - abar_t).sqrt() * eps

    def guided_mean(self, x_t: Tensor, t: Tensor, eps: Tensor, grad: Tensor, scale: float) -> Tensor:
        return self.step_mean(x_t, t, eps) + scale * self.at(self.var, t, x_t) * grad

    def loss(self, model: Any, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        error = model(self.q_sample(x0, t, noise), t) - noise
        return (error**2).flatten(1).mean(1)

    def vlb_term(self, model: Any, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        x_t = self.q_sample(x0, t, noise)
        true_mean, var = self.q_posterior(x0, x_t, t)
        return ((true_mean - self.step_mean(x_t, t, model(x_t, t))) ** 2 / (2 * var)).flatten(1).sum(1)

    def sample(self, model: Any, x_T: Tensor, steps: int) -> Tensor:
        x = x_T
        levels = list(self.timesteps(steps))
        for k, j in itertools.pairwise(levels):
            t, s = torch.full((len(x),), k), torch.full((len(x),), j)
            x = self.ddim_step(x, t, s, model(x, t), 0.0, torch.zeros_like(x))
        return x


class Ancestral(Textbook):
    """The same, its sampler being ancestral DDPM on a thinned chain."""

    dialect = dialect(sampler="ddpm")

    def strided_std(self, abar_t: Tensor, abar_s: Tensor) -> Tensor:
        return ((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)).sqrt()

    def strided_mean(self, x0: Tensor, x: Tensor, abar_t: Tensor, abar_s: Tensor) -> Tensor:
        alpha = abar_t / abar_s
        return (abar_s.sqrt() * (1 - alpha) * x0 + alpha.sqrt() * (1 - abar_s) * x) / (1 - abar_t)

    def sample(self, model: Any, x_T: Tensor, steps: int) -> Tensor:
        x = x_T
        levels = list(self.timesteps(steps))
        for k, j in itertools.pairwise(levels):
            t = torch.full((len(x),), k)
            abar_t, abar_s = self.level(k, x), self.level(j, x)
            mean = self.strided_mean(self.predict_x0(x, t, model(x, t)), x, abar_t, abar_s)
            x = mean if j < 0 else mean + self.strided_std(abar_t, abar_s) * torch.randn_like(x)
        return x
