"""Mutants of energies and score-matching losses."""

import torch

from tests.zoo.chapters import Energies, Losses
from tests.zoo.chapters_own import own, rows

# energies


def energy(id, family, *also, spoken=None, **methods):
    own(f"nrg-{id}", family, Energies, *also, spoken=spoken, **methods)


def scored(change):
    return lambda self, x: change(self, x, Energies.energy_score(self, x))


energy("score-against", "sign", energy_score=scored(lambda self, x, s: -s))
energy("score-halved", "parameterization", energy_score=scored(lambda self, x, s: s / 2))
energy("score-of-the-batch-mean", "state-broadcast", energy_score=scored(lambda self, x, s: s / len(x)))
energy(
    "score-of-the-density",
    "parameterization",
    "likelihood",
    energy_score=scored(lambda self, x, s: s * rows((-self.energy(x)).exp(), x)),
)
energy(
    "score-normalised",
    "parameterization",
    energy_score=scored(lambda self, x, s: s / rows(s.flatten(1).norm(dim=1), s)),
)
energy(
    "score-clipped",
    "parameterization",
    "data-scaling",
    energy_score=scored(lambda self, x, s: s.clamp(-0.5, 0.5)),
)
energy("score-without-tilt", "parameterization", energy_score=lambda self, x: -(x**3 - x))
energy("energy-of-the-batch", "state-broadcast", energy=lambda self, x: Energies.energy(self, x).mean())
energy("energy-in-a-column", "state-broadcast", energy=lambda self, x: Energies.energy(self, x)[:, None])
energy(
    "energy-standardised",
    "state-broadcast",
    energy=lambda self, x: Energies.energy(self, x) - Energies.energy(self, x).mean(),
)
energy("log-density-undeclared", "sign", "convention", energy=lambda self, x: -Energies.energy(self, x))
energy("contrast-summed", "sign", contrastive_loss=lambda self, E, a, b: E(a) + E(b))
energy("contrast-data-only", "loss-weight", contrastive_loss=lambda self, E, a, b: E(a))
energy("contrast-squared", "loss-weight", contrastive_loss=lambda self, E, a, b: (E(a) - E(b)) ** 2)
energy(
    "contrast-of-densities",
    "likelihood",
    contrastive_loss=lambda self, E, a, b: (-E(a)).exp() - (-E(b)).exp(),
)
energy(
    "contrast-of-the-batch",
    "state-broadcast",
    "loss-weight",
    contrastive_loss=lambda self, E, a, b: (E(a) - E(b)).mean(),
)
energy(
    "contrast-against-the-mean", "state-broadcast", contrastive_loss=lambda self, E, a, b: E(a) - E(b).mean()
)
energy(
    "contrast-of-all-pairs",
    "state-broadcast",
    "loss-weight",
    contrastive_loss=lambda self, E, a, b: E(a)[:, None] - E(b),
)
energy("contrast-hinge", "loss-weight", contrastive_loss=lambda self, E, a, b: (1 + E(a) - E(b)).clamp(min=0))
energy(
    "contrast-regularised",
    "loss-weight",
    contrastive_loss=lambda self, E, a, b: E(a) - E(b) + 0.001 * (E(a) ** 2 + E(b) ** 2),
)

# score-matching losses


def loss(id, family, *also, spoken=None, **methods):
    own(f"sml-{id}", family, Losses, *also, spoken=spoken, **methods)


def parts(score_fn, x):
    """The score (B, D) and its Jacobian (B, D, D)."""
    x = x.requires_grad_()
    s = score_fn(x).flatten(1)
    columns = [
        torch.autograd.grad(s[:, i].sum(), x, retain_graph=True)[0].flatten(1) for i in range(s.shape[1])
    ]
    return s.detach(), torch.stack(columns, 1)


def explicit(form):
    def esm_loss(self, score_fn, x):
        s, J = parts(score_fn, x)
        return form(s, J, torch.diagonal(J, dim1=1, dim2=2).sum(1))

    return esm_loss


loss("explicit-sum-before-square", "loss-weight", esm_loss=explicit(lambda s, J, tr: s.sum(1) ** 2 / 2 + tr))
loss("explicit-half-missing", "loss-weight", esm_loss=explicit(lambda s, J, tr: (s**2).sum(1) + tr))
loss("explicit-trace-missing", "loss-weight", esm_loss=explicit(lambda s, J, tr: (s**2).sum(1) / 2))
loss("explicit-trace-negative", "sign", esm_loss=explicit(lambda s, J, tr: (s**2).sum(1) / 2 - tr))
loss(
    "explicit-all-of-the-jacobian",
    "loss-weight",
    esm_loss=explicit(lambda s, J, tr: (s**2).sum(1) / 2 + J.sum((1, 2))),
)
loss("explicit-one-entry", "loss-weight", esm_loss=explicit(lambda s, J, tr: (s**2).sum(1) / 2 + J[:, 0, 0]))
loss("explicit-mean-and-sum", "loss-weight", esm_loss=explicit(lambda s, J, tr: (s**2).mean(1) / 2 + tr))
loss(
    "explicit-trace-mean",
    "loss-weight",
    esm_loss=explicit(lambda s, J, tr: (s**2).sum(1) / 2 + tr / s.shape[1]),
)
loss("explicit-norm", "sqrt", "loss-weight", esm_loss=explicit(lambda s, J, tr: s.norm(dim=1) / 2 + tr))
loss("explicit-trace-halved", "loss-weight", esm_loss=explicit(lambda s, J, tr: ((s**2).sum(1) + tr) / 2))
loss(
    "explicit-of-the-batch",
    "state-broadcast",
    "loss-weight",
    esm_loss=explicit(lambda s, J, tr: ((s**2).sum(1) / 2 + tr).mean()),
)
loss(
    "explicit-batch-mean-expanded",
    "state-broadcast",
    "loss-weight",
    esm_loss=explicit(lambda s, J, tr: ((s**2).sum(1) / 2 + tr).mean().expand(len(s))),
)
loss(
    "explicit-frobenius",
    "loss-weight",
    esm_loss=explicit(lambda s, J, tr: (s**2).sum(1) / 2 + (J**2).sum((1, 2))),
)


def sliced(form):
    def ssm_loss(self, score_fn, x, v):
        s, J = parts(score_fn, x)
        v = v.flatten(1)
        return form(s, J, v, torch.einsum("bi,bij,bj->b", v, J, v))

    return ssm_loss


loss("sliced-half-missing", "loss-weight", ssm_loss=sliced(lambda s, J, v, a: (s * v).sum(1) ** 2 + a))
loss("sliced-sign", "sign", ssm_loss=sliced(lambda s, J, v, a: (s * v).sum(1) ** 2 / 2 - a))
loss("sliced-square-inside", "loss-weight", ssm_loss=sliced(lambda s, J, v, a: ((s * v) ** 2).sum(1) / 2 + a))
loss("sliced-not-squared", "loss-weight", ssm_loss=sliced(lambda s, J, v, a: (s * v).sum(1) / 2 + a))
loss(
    "sliced-v-once",
    "loss-weight",
    ssm_loss=sliced(lambda s, J, v, a: (s * v).sum(1) ** 2 / 2 + torch.einsum("bij,bj->b", J, v)),
)
loss(
    "sliced-diagonal",
    "loss-weight",
    ssm_loss=sliced(lambda s, J, v, a: (s * v).sum(1) ** 2 / 2 + torch.einsum("bi,bii->b", v**2, J)),
)
loss("sliced-derivative-missing", "loss-weight", ssm_loss=sliced(lambda s, J, v, a: (s * v).sum(1) ** 2 / 2))
loss(
    "sliced-reduced-undeclared",
    "loss-weight",
    "convention",
    ssm_loss=sliced(lambda s, J, v, a: (s**2).sum(1) / 2 + a),
)


def denoising(form, state=lambda x, sigma, z: x + sigma * z):
    def dsm_loss(self, score_fn, x, sigma, noise):
        return form(score_fn(state(x, sigma, noise)), noise, sigma)

    return dsm_loss


def half_square(error):
    return (error**2).flatten(1).sum(1) / 2


loss("denoising-sign", "sign", dsm_loss=denoising(lambda s, z, a: half_square(s - z / a)))
loss("denoising-noise-as-target", "parameterization", dsm_loss=denoising(lambda s, z, a: half_square(s - z)))
loss(
    "denoising-not-divided",
    "parameterization",
    "loss-weight",
    dsm_loss=denoising(lambda s, z, a: half_square(s + z)),
)
loss("denoising-divided-twice", "sqrt", dsm_loss=denoising(lambda s, z, a: half_square(s + z / a**2)))
loss("denoising-multiplied", "loss-weight", dsm_loss=denoising(lambda s, z, a: half_square(s + a * z)))
loss(
    "denoising-half-missing",
    "loss-weight",
    "convention",
    dsm_loss=denoising(lambda s, z, a: 2 * half_square(s + z / a)),
)
loss(
    "denoising-weighted-by-sigma",
    "loss-weight",
    dsm_loss=denoising(lambda s, z, a: a * half_square(s + z / a)),
)
loss(
    "denoising-sum-before-square",
    "loss-weight",
    dsm_loss=denoising(lambda s, z, a: (s + z / a).flatten(1).sum(1) ** 2 / 2),
)
loss(
    "denoising-norm",
    "sqrt",
    "loss-weight",
    dsm_loss=denoising(lambda s, z, a: (s + z / a).flatten(1).norm(dim=1)),
)
loss(
    "denoising-variance-for-std",
    "sqrt",
    dsm_loss=denoising(lambda s, z, a: half_square(s + z / a), lambda x, a, z: x + a**2 * z),
)
loss(
    "denoising-clean-input",
    "data-scaling",
    dsm_loss=denoising(lambda s, z, a: half_square(s + z / a), lambda x, a, z: x),
)
loss(
    "denoising-unit-noise",
    "data-scaling",
    dsm_loss=denoising(lambda s, z, a: half_square(s + z / a), lambda x, a, z: x + z),
)
loss(
    "denoising-noise-subtracted",
    "sign",
    dsm_loss=denoising(lambda s, z, a: half_square(s + z / a), lambda x, a, z: x - a * z),
)


def levels(weight=lambda sigma: 1, label=lambda i: i, pick=lambda sigmas, i: sigmas[i]):
    def smld_loss(self, score_fn, sigmas, x, index, noise):
        sigma = rows(pick(sigmas, index), x)
        s = score_fn(x + sigma * noise, label(index))
        return weight(sigma.flatten()) * half_square(s + noise / sigma)

    return smld_loss


loss("levels-weight-undeclared", "loss-weight", "convention", smld_loss=levels(lambda sigma: sigma**2))
loss("levels-weight-sigma", "loss-weight", smld_loss=levels(lambda sigma: sigma))
loss("levels-weight-inverse", "loss-weight", smld_loss=levels(lambda sigma: 1 / sigma**2))
loss(
    "levels-weight-forgotten",
    "loss-weight",
    "convention",
    spoken={"dsm_weight": "sigma_squared"},
    smld_loss=levels(),
    dsm_loss=denoising(lambda s, z, a: half_square(a * s + z)),
)
loss(
    "levels-weight-averaged",
    "loss-weight",
    "state-broadcast",
    spoken={"dsm_weight": "sigma_squared"},
    dsm_loss=denoising(lambda s, z, a: half_square(a * s + z)),
    smld_loss=levels(lambda sigma: (sigma**2).mean()),
)
loss("levels-label-late", "index", smld_loss=levels(label=lambda i: i + 1))
loss("levels-label-reversed", "index", smld_loss=levels(label=lambda i: 3 - i))
loss(
    "levels-sigma-of-the-first",
    "state-broadcast",
    "data-scaling",
    "loss-weight",
    smld_loss=levels(pick=lambda sigmas, i: sigmas[i[:1]].expand(len(i))),
)
loss(
    "levels-sigma-reversed",
    "index",
    "data-scaling",
    "loss-weight",
    smld_loss=levels(pick=lambda sigmas, i: sigmas.flip(0)[i]),
)
