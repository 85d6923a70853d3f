"""What the reference answers to the golden values of the bound and of autoencoders."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from refdiff import elbo, vae
from refdiff.elbo import FiniteChain, FiniteModel
from refdiff.schedule import from_alpha_bar
from refdiff.vae import LinearGaussian


def number(q: Any, name: str) -> float:
    return float(Fraction(q.case.input[name]))


def table(q: Any, rows: Any) -> Tensor:
    """Nested exact entries."""
    floats = [[float(Fraction(entry)) for entry in row] for row in rows]
    return torch.tensor(floats, dtype=q.dtype)


def chain(q: Any) -> tuple[FiniteChain, FiniteModel]:
    given = q.case.input["chain"]
    data, prior = (table(q, [given[name]])[0] for name in ("data", "prior"))
    kernels, reverse = ([table(q, rows) for rows in given[name]] for name in ("kernels", "reverse"))
    return FiniteChain(data, tuple(kernels)), FiniteModel(prior, tuple(reverse))


def finite_term(q: Any) -> Tensor:
    pair = chain(q)
    if q.unit == "bound":
        return elbo.terms(*pair).total
    if q.unit == "path_divergence":
        return elbo.path_divergence(*pair)
    if q.unit == "information":
        return elbo.conditional_information(pair[0])[1:]
    found: Tensor = getattr(elbo.terms(*pair), q.unit)
    return found


def binomial_posterior(q: Any) -> Tensor:
    return elbo.binomial_posterior(q.schedule, q.chance_0, (q.sign_t + 1) / 2, q.t)


def gaussian_information(q: Any) -> Tensor:
    return elbo.gaussian_information(q.schedule, q.t, number(q, "data_variance")).to(q.dtype)


def gaussian_term(q: Any) -> Tensor:
    """The term of one step; the other steps of the model do not enter it."""
    forward = elbo.gaussian_chain(q.schedule, number(q, "data_mean"), number(q, "data_variance"))
    slope, shift, sigma = (
        torch.full_like(forward.slopes, number(q, name)) for name in ("slope", "shift", "sigma_t")
    )
    model = elbo.GaussianModel(forward.mean, forward.variance, slope, shift, sigma**2)
    return elbo.gaussian_terms(forward, model).denoising[q.t - 2].to(q.dtype)


def refinement(q: Any) -> Tensor:
    """A level between: that of the schedule, or the given one."""
    if "schedule" in q.case.input:
        schedule, t, u, s = q.schedule, q.t, q.t - 1, q.s
    else:
        schedule = from_alpha_bar([number(q, f"abar_{name}") for name in ("s", "prev", "t")])
        t, u, s = 3, 2, 1
    return elbo.refinement_gain(schedule, t, u, s, q.error_t, q.error_prev)


def error_drop(q: Any) -> Tensor:
    variance = number(q, "data_variance")
    return elbo.gaussian_error_drop(q.schedule, q.t, q.t - 1, variance).to(q.dtype)


def autoencoder(q: Any) -> LinearGaussian:
    variance = q.variance_1 if "variance_1" in q.case.input else q.like + 1
    slope = q.slope if "slope" in q.case.input else q.like + 1
    return LinearGaussian(slope, (q.shift if "shift" in q.case.input else q.like)[0], variance[0])


ELBO: dict[str, Callable[[Any], Tensor]] = {
    "elbo.three_terms": finite_term,
    "elbo.binomial_kernel": lambda q: elbo.binomial_kernel(q.schedule, q.chance_prev, q.t),
    "elbo.binomial_marginal": lambda q: elbo.binomial_marginal(q.schedule, q.chance_0, q.t),
    "elbo.binomial_posterior": binomial_posterior,
    "elbo.binomial_divergence": lambda q: elbo.binomial_kl(q.chance_0, q.chance_1),
    "elbo.binomial_prior_term": lambda q: elbo.binomial_prior_term(q.schedule, q.chance_0),
    "elbo.gaussian_information": gaussian_information,
    "elbo.gaussian_denoising_term": gaussian_term,
    "elbo.refinement": refinement,
    "elbo.refinement_gaussian": error_drop,
    "vae.gaussian_evidence": lambda q: autoencoder(q).evidence(q.y),
    "vae.optimal_encoder_mean": lambda q: autoencoder(q).posterior(q.y)[0],
    "vae.optimal_encoder_variance": lambda q: autoencoder(q).posterior(q.like)[1],
    "vae.gaussian_divergence": lambda q: vae.kl_to_prior(q.code_mean, q.code_variance),
    "vae.gaussian_elbo": lambda q: autoencoder(q).elbo(q.y, q.code_mean, q.code_variance),
    "vae.gaussian_gap": lambda q: autoencoder(q).gap(q.y, q.code_mean, q.code_variance),
    "vae.reparameterised": lambda q: vae.reparameterise(q.code_mean, q.code_variance, q.eps),
    "vae.sampled_elbo": lambda q: vae.elbo(
        autoencoder(q).decode, q.y, q.code_mean, q.code_variance, q.eps
    ),
}
