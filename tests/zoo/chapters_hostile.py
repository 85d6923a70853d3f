"""Energies, scores, likelihoods and guidance that break the rules of good behaviour in one port."""

import time

import torch

from tests.zoo.chapters import Chains, Energies, Guides, Likelihoods, Losses, Weights, alone

# id -> (target, the port in which it is hostile, a port beside it that is right)
CHAPTER_HOSTILE: dict[str, tuple[type, str, str]] = {}


def hostile(id: str, topic: type, port: str, bystander: str, method) -> None:
    cls = type(id.title().replace("-", ""), (alone(topic),), {port: method, "name": id})
    CHAPTER_HOSTILE[id] = cls, port, bystander


def forever(self, *args):
    while True:
        time.sleep(0.01)


def raises(self, *args):
    raise RuntimeError("no such thing")


hostile("energy-raises", Energies, "energy", "contrastive_loss", raises)
hostile("energy-is-none", Energies, "energy", "contrastive_loss", lambda self, x: None)
hostile("energy-is-nan", Energies, "energy_score", "energy", lambda self, x: x * float("nan"))
hostile("energy-is-complex", Energies, "energy", "contrastive_loss", lambda self, x: x.sum(1) * 1j)
hostile(
    "energy-draws",
    Energies,
    "energy",
    "contrastive_loss",
    lambda self, x: Energies.energy(self, x) + torch.randn(len(x)),
)
hostile("score-is-detached-elsewhere", Energies, "energy_score", "energy", lambda self, x: x[:, :1])
hostile(
    "energy-changes-its-input",
    Energies,
    "energy",
    "contrastive_loss",
    lambda self, x: Energies.energy(self, x.detach().mul_(1.5)),
)
hostile(
    "contrast-never-asks", Energies, "contrastive_loss", "energy", lambda self, E, a, b: torch.zeros(len(a))
)
hostile("chain-never-ends", Chains, "langevin_sample", "langevin_step", forever)
hostile("chain-never-asks", Chains, "langevin_sample", "langevin_step", lambda self, s, x, h, n: x)
hostile(
    "chain-asks-one-row",
    Chains,
    "langevin_sample",
    "langevin_step",
    lambda self, s, x, h, n: x + h * s(x[:1]),
)
hostile(
    "chain-answers-inf",
    Chains,
    "langevin_sample",
    "langevin_step",
    lambda self, s, x, h, n: Chains.langevin_sample(self, s, x, h, n) / 0,
)
hostile("chain-of-strings", Chains, "annealed_langevin", "langevin_sample", lambda self, *args: "x")
hostile(
    "chain-without-labels",
    Chains,
    "annealed_langevin",
    "langevin_sample",
    lambda self, s, sigmas, x, e, n: Chains.annealed_langevin(self, lambda x, i: s(x), sigmas, x, e, n),
)
hostile(
    "ladder-of-nan",
    Chains,
    "noise_scales",
    "langevin_step",
    lambda self, a, b, n: torch.full((n,), torch.nan),
)
hostile("ladder-is-a-number", Chains, "noise_scales", "langevin_step", lambda self, a, b, n: 1.0)
hostile("loss-wrong-signature", Losses, "esm_loss", "ssm_loss", lambda self, x: x)
hostile("loss-is-a-float", Losses, "dsm_loss", "ssm_loss", lambda self, *args: 0.5)
hostile("loss-never-asks", Losses, "dsm_loss", "ssm_loss", lambda self, s, x, sigma, z: (z**2).sum(1))
hostile("loss-recurses", Losses, "ssm_loss", "esm_loss", lambda self, *args: self.ssm_loss(*args))
hostile("loss-is-half", Losses, "esm_loss", "ssm_loss", lambda self, s, x: Losses.esm_loss(self, s, x).half())
hostile(
    "decoder-is-nan", Likelihoods, "decoder_log_likelihood", "bits_per_dim", lambda self, x, m, s: x / 0 * 0
)
hostile(
    "decoder-transposed",
    Likelihoods,
    "decoder_log_likelihood",
    "bits_per_dim",
    lambda self, x, m, s: Likelihoods.decoder_log_likelihood(self, x, m, s).T,
)
hostile("prior-raises", Likelihoods, "prior_kl", "bits_per_dim", raises)
hostile("bound-never-ends", Likelihoods, "vlb", "bits_per_dim", forever)
hostile(
    "bound-never-asks", Likelihoods, "vlb", "bits_per_dim", lambda self, model, x0, z: torch.zeros(len(x0))
)
hostile("bound-is-none", Likelihoods, "vlb", "bits_per_dim", lambda self, model, x0, z: None)
hostile("weight-is-integer", Weights, "loss_weight", "", lambda self, t: t)
hostile("guide-never-asks", Guides, "classifier_guided_mean", "cfg", lambda self, x, t, e, g, s: x)
hostile("guide-exits", Guides, "classifier_guided_mean", "cfg", lambda self, *args: exit(3))
hostile("cfg-is-not-affine", Guides, "cfg", "guided_eps", lambda self, u, c, s: torch.tanh(u + s * (c - u)))
hostile(
    "cfg-depends-on-the-batch",
    Guides,
    "cfg",
    "guided_eps",
    lambda self, u, c, s: Guides.cfg(self, u, c, s) * (1 + 1e-3 * len(u)),
)
