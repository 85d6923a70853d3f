"""Mutants of the bound, its parts and their units."""

import math

import torch

from tests.zoo.chapters import Likelihoods, Transitions
from tests.zoo.chapters_own import own

# likelihoods


def likely(id, family, *also, spoken=None, **methods):
    own(f"lik-{id}", family, Likelihoods, *also, spoken=spoken, **methods)


def prior(form):
    def prior_kl(self, x0):
        abar = float(self.abar[-1])
        return form(x0.flatten(1), abar, 1 - abar)

    return prior_kl


likely(
    "prior-without-log",
    "likelihood",
    vlb=None,
    prior_kl=prior(lambda x, a, v: 0.5 * (a * x**2 + v - 1).sum(1)),
)
likely(
    "prior-without-half",
    "likelihood",
    vlb=None,
    prior_kl=prior(lambda x, a, v: (a * x**2 + v - 1 - math.log(v)).sum(1)),
)
likely(
    "prior-mean-over-dimensions",
    "likelihood",
    vlb=None,
    prior_kl=prior(lambda x, a, v: 0.5 * (a * x**2 + v - 1 - math.log(v)).mean(1)),
)
likely(
    "prior-cross-entropy",
    "likelihood",
    vlb=None,
    prior_kl=prior(lambda x, a, v: 0.5 * (a * x**2 + v + math.log(2 * math.pi)).sum(1)),
)
likely(
    "prior-mean-without-root",
    "sqrt",
    vlb=None,
    prior_kl=prior(lambda x, a, v: 0.5 * ((a * x) ** 2 + v - 1 - math.log(v)).sum(1)),
)
likely(
    "prior-std-for-variance",
    "sqrt",
    "variance",
    vlb=None,
    prior_kl=prior(lambda x, a, v: 0.5 * (a * x**2 + v**0.5 - 1 - math.log(v**0.5)).sum(1)),
)
likely(
    "prior-without-data",
    "likelihood",
    vlb=None,
    prior_kl=prior(lambda x, a, v: 0.5 * (v - 1 - math.log(v) + 0 * x).sum(1)),
)
likely(
    "prior-sign", "likelihood", "sign", vlb=None, prior_kl=lambda self, x0: -Likelihoods.prior_kl(self, x0)
)
likely(
    "prior-of-the-batch",
    "state-broadcast",
    vlb=None,
    prior_kl=lambda self, x0: Likelihoods.prior_kl(self, x0).mean(),
)


def decoded(id, family, *also, spoken=None, form):
    """A decoder of its own, from (x, mean, scale)."""
    likely(
        f"decoder-{id}",
        family,
        *also,
        spoken=spoken,
        vlb=None,
        decoder_log_likelihood=lambda self, x, mean, log_scale: form(x, mean, log_scale.exp()),
    )


def bin_of(x, mean, scale, half=1 / 255, open_ends=True, cdf=torch.special.ndtr, floor=None):
    low, high = cdf((x - mean - half) / scale), cdf((x - mean + half) / scale)
    if open_ends:
        low, high = torch.where(x <= -1, 0.0, low), torch.where(x >= 1, 1.0, high)
    mass = high - low
    return (mass if floor is None else mass.clamp(min=floor)).log()


def log_normal(x, mean, scale):
    return -0.5 * ((x - mean) / scale) ** 2 - scale.log() - 0.5 * math.log(2 * math.pi)


decoded("density", "likelihood", "convention", form=log_normal)
decoded("density-times-width", "likelihood", form=lambda x, m, s: log_normal(x, m, s) + math.log(2 / 255))
decoded("half-width", "likelihood", form=lambda x, m, s: bin_of(x, m, s, 1 / 510))
decoded("whole-step", "likelihood", form=lambda x, m, s: bin_of(x, m, s, 2 / 255))
decoded("width-of-256", "likelihood", form=lambda x, m, s: bin_of(x, m, s, 1 / 256))
decoded("closed-ends", "likelihood", form=lambda x, m, s: bin_of(x, m, s, open_ends=False))
decoded("log-variance", "likelihood", form=lambda x, m, s: bin_of(x, m, s.sqrt()))
decoded("variance-for-std", "likelihood", form=lambda x, m, s: bin_of(x, m, s**2))
decoded(
    "floor-undeclared",
    "likelihood",
    "convention",
    "precision",
    form=lambda x, m, s: bin_of(x, m, s, floor=1e-12),
)
decoded("tails-vanish", "likelihood", "precision", form=bin_of)
decoded("probability", "likelihood", form=lambda x, m, s: bin_of(x, m, s).exp())
decoded("logistic", "likelihood", form=lambda x, m, s: bin_of(x, m, s, cdf=torch.sigmoid))
decoded("negative", "likelihood", "sign", form=lambda x, m, s: -bin_of(x, m, s))
decoded("summed", "state-broadcast", "likelihood", form=lambda x, m, s: bin_of(x, m, s).flatten(1).sum(1))
decoded(
    "tanh-undeclared",
    "likelihood",
    "convention",
    form=lambda x, m, s: bin_of(
        x, m, s, cdf=lambda u: 0.5 * (1 + torch.tanh((2 / math.pi) ** 0.5 * (u + 0.044715 * u**3)))
    ),
)
decoded("other-range", "likelihood", spoken={"data_range": "[0, 1]"}, form=bin_of)


def bits(id, *also, spoken=None, form):
    likely(
        f"bits-{id}",
        "likelihood",
        *also,
        spoken=spoken,
        bits_per_dim=lambda self, nats, dims: form(nats, dims),
    )


bits("are-nats", form=lambda nats, dims: nats / dims)
bits("times-log-2", form=lambda nats, dims: nats * math.log(2) / dims)
bits("of-the-sample", form=lambda nats, dims: nats / math.log(2))
bits("sign", "sign", form=lambda nats, dims: -nats / dims / math.log(2))
bits("offset-undeclared", form=lambda nats, dims: nats / dims / math.log(2) + 8)
bits(
    "offset-of-the-other-range",
    spoken={"decoder": "continuous", "data_range": "[0, 1]"},
    form=lambda nats, dims: nats / dims / math.log(2) + 7,
)
bits("offset-forgotten", spoken={"decoder": "continuous"}, form=lambda nats, dims: nats / dims / math.log(2))
bits("of-the-batch", "state-broadcast", form=lambda nats, dims: (nats / dims / math.log(2)).mean())


def bound(id, *also, family="likelihood", spoken=None, **methods):
    likely(f"vlb-{id}", family, *also, spoken=spoken, **methods)


def summed(pick, prior=1.0):
    def vlb(self, model, x0, noises):
        total = prior * self.prior_kl(x0)
        for k in pick(self.T):
            total = total + self.term(model, x0, k, noises[k])
        return total

    return vlb


def terms(self, model, x0, noises):
    return [self.term(model, x0, k, noises[k]) for k in range(self.T)]


bound("without-prior", vlb=summed(range, 0.0))
bound("without-decoder", "index", vlb=summed(lambda T: range(1, T)))
bound("last-level-missing", "index", vlb=summed(lambda T: range(T - 1)))
bound("one-level-twice", vlb=summed(lambda T: [*range(T), T - 1]))
bound("same-term-every-time", vlb=summed(lambda T: [T - 1] * T))
bound("averaged", vlb=lambda self, model, x0, z: Likelihoods.vlb(self, model, x0, z) / (self.T + 1))
bound(
    "terms-averaged",
    vlb=lambda self, model, x0, z: (
        self.prior_kl(x0) + terms(self, model, x0, z)[0] + sum(terms(self, model, x0, z)[1:]) / (self.T - 1)
    ),
)
bound("sign", "sign", vlb=lambda self, model, x0, z: -Likelihoods.vlb(self, model, x0, z))
bound(
    "in-bits-undeclared",
    "convention",
    vlb=lambda self, model, x0, z: Likelihoods.vlb(self, model, x0, z) / math.log(2),
)
bound(
    "decoder-sign",
    vlb=lambda self, model, x0, z: Likelihoods.vlb(self, model, x0, z) - 2 * terms(self, model, x0, z)[0],
)
bound(
    "without-half",
    vlb=lambda self, model, x0, z: Likelihoods.vlb(self, model, x0, z) + sum(terms(self, model, x0, z)[1:]),
)
bound(
    "of-the-batch",
    "state-broadcast",
    family="state-broadcast",
    vlb=lambda self, model, x0, z: Likelihoods.vlb(self, model, x0, z).mean(),
)


# the likelihood of a step


def step(id, *also, family="likelihood", form):
    """A step's log-likelihood from (x_s, mean, sigma)."""

    def step_log_likelihood(self, x_s, x_t, t, s, eps, eta):
        mean, sigma = self.step_moments(x_t, t, s, eps, eta)
        sigma = torch.where(sigma == 0, 1.0, sigma)
        return form(x_s, mean, sigma)

    own(f"stp-{id}", family, Transitions, *also, step_log_likelihood=step_log_likelihood)


def summed_normal(x, mean, sigma):
    return log_normal(x, mean, sigma).flatten(1).sum(1)


step("mean-over-dimensions", "convention", form=lambda x, m, s: log_normal(x, m, s).flatten(1).mean(1))
step("negative", "sign", form=lambda x, m, s: -summed_normal(x, m, s))
step("without-normaliser", form=lambda x, m, s: (-0.5 * ((x - m) / s) ** 2).flatten(1).sum(1))
step("without-two-pi", form=lambda x, m, s: (-0.5 * ((x - m) / s) ** 2 - s.log()).flatten(1).sum(1))
step("variance-for-std", form=lambda x, m, s: summed_normal(x, m, s**2))
step(
    "half-missing", form=lambda x, m, s: summed_normal(x, m, s) - 0.5 * (((x - m) / s) ** 2).flatten(1).sum(1)
)
step(
    "of-the-batch", "likelihood", family="state-broadcast", form=lambda x, m, s: summed_normal(x, m, s).mean()
)
