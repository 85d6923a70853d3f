"""Noise-contrastive estimation: a model learned by telling data from noise, normaliser included.

Axioms: Bayes' rule, and the exchange of derivative and integral. For one datum there are ν samples of a known
noise; nothing is drawn from the model. The ids are those of the topic ``energy``.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations.kit import Decoy, Identity, Inequality, Series, Step, formula
from derivations.symbols import (
    density_data,
    density_model,
    density_noise,
    log_model_slope,
    log_model_x,
    log_model_y,
    log_noise_x,
    log_noise_y,
    noise_ratio,
)

ZERO = sp.Integer(0)
POSTERIOR = 1 / (1 + noise_ratio * sp.exp(log_noise_x - log_model_x))
IS_NOISE = 1 / (1 + sp.exp(log_model_y - log_noise_y) / noise_ratio)


@formula(
    "energy.nce_posterior",
    title="probability that a point is data, among ν times as much noise",
    lhs=sp.Symbol("h"),
    rhs=POSTERIOR,
    citations=("S004:§1.1/1", "Gutmann2012:5"),
    reference="refdiff.energy:nce_posterior",
    decoys=(
        Decoy("ratio-forgotten", 1 / (1 + sp.exp(log_noise_x - log_model_x)), "likelihood",
              "as if there were as much noise as data"),
        Decoy("ratio-inverted", 1 / (1 + sp.exp(log_noise_x - log_model_x) / noise_ratio), "likelihood",
              "ν samples of data for one of noise"),
        Decoy("noise", 1 - POSTERIOR, "sign", "the probability that it is noise"),
        Decoy("energies", 1 / (1 + noise_ratio * sp.exp(log_model_x - log_noise_x)), "sign",
              "energies where logs of densities belong"),
    ),
)  # fmt: skip
def _nce_posterior(claim: sp.Expr) -> Iterator[Step]:
    """Bayes' rule with the shares 1 and ν of data and noise."""
    data, noise = sp.exp(log_model_x), noise_ratio * sp.exp(log_noise_x)
    share = 1 / (1 + noise_ratio)
    yield Identity("Bayes", claim, share * data / (share * data + share * noise))


NCE_LOSS = sp.log(1 + noise_ratio * sp.exp(log_noise_x - log_model_x)) + noise_ratio * sp.log(
    1 + sp.exp(log_model_y - log_noise_y) / noise_ratio
)


@formula(
    "energy.nce_loss",
    title="noise-contrastive loss of one datum, with ν times the mean over noise",
    lhs=sp.Symbol("loss"),
    rhs=NCE_LOSS,
    citations=("S004:§1.1/1", "Gutmann2012:8"),
    reference="refdiff.energy:nce_loss",
    uses=("energy.nce_posterior",),
    decoys=(
        Decoy("ratio-forgotten", NCE_LOSS.subs(noise_ratio, 1), "likelihood", "ν = 1 whatever the noise"),
        Decoy("mean-over-noise", sp.log(1 + noise_ratio * sp.exp(log_noise_x - log_model_x))
              + sp.log(1 + sp.exp(log_model_y - log_noise_y) / noise_ratio), "loss-weight",
              "the mean over the noise where its sum belongs"),
        Decoy("ratio-in-the-weight-only", sp.log(1 + sp.exp(log_noise_x - log_model_x))
              + noise_ratio * sp.log(1 + sp.exp(log_model_y - log_noise_y)), "likelihood",
              "the posterior of equal shares"),
        Decoy("labels-exchanged", sp.log(1 + sp.exp(log_model_x - log_noise_x) / noise_ratio)
              + noise_ratio * sp.log(1 + noise_ratio * sp.exp(log_noise_y - log_model_y)), "sign",
              "noise taken for data"),
    ),
)  # fmt: skip
def _nce_loss(claim: sp.Expr) -> Iterator[Step]:
    """Minus the log-likelihood of the labels: −log h at the datum, −log(1 − h) at each of ν noise samples."""
    at_y = {log_model_x: log_model_y, log_noise_x: log_noise_y}
    yield Identity("the other label", IS_NOISE, 1 - POSTERIOR.subs(at_y, simultaneous=True))
    yield Identity("labels", claim, -sp.log(POSTERIOR) - noise_ratio * sp.log(IS_NOISE))


EXPECTED = density_data * sp.log(1 + noise_ratio * density_noise / density_model) + (
    noise_ratio * density_noise * sp.log(1 + density_model / (noise_ratio * density_noise))
)
"""The expected loss under the integral."""


@formula(
    "energy.nce_optimum",
    title="where the expected noise-contrastive loss is least: the density itself, normalised",
    lhs=density_model,
    rhs=density_data,
    citations=("Gutmann2012:thm1",),
    reference="refdiff.energy:nce_loss",
    uses=("energy.nce_loss",),
    decoys=(
        Decoy("ratio", density_data / noise_ratio, "likelihood", "the density over ν"),
        Decoy("over-noise", density_data / density_noise, "likelihood", "the ratio to the noise"),
        Decoy("share", density_data / (density_data + noise_ratio * density_noise), "likelihood",
              "the posterior"),
    ),
)  # fmt: skip
def _nce_optimum(claim: sp.Expr) -> Iterator[Step]:
    """Point by point the loss falls in p_θ below the density of the data and rises above it. No normaliser
    was asked for: one that is learned comes out right. It holds wherever the noise has density, for every
    ν."""
    factor = noise_ratio * density_noise / (density_model * (density_model + noise_ratio * density_noise))
    yield Identity("slope", sp.diff(EXPECTED, density_model), factor * (density_model - claim))
    yield Inequality("the sign is that of p_θ − p", factor, ">", ZERO)


@formula(
    "energy.nce_gradient",
    title="derivative of the expected noise-contrastive loss, under the integral",
    lhs=sp.Symbol("d_loss"),
    rhs=noise_ratio * density_noise * (density_model - density_data) * log_model_slope
    / (density_model + noise_ratio * density_noise),
    citations=("Gutmann2012:13",),
    reference="refdiff.energy:nce_loss",
    uses=("energy.nce_optimum", "energy.log_likelihood_gradient"),
    decoys=(
        Decoy("likelihood", (density_model - density_data) * log_model_slope, "likelihood",
              "the limit of much noise"),
        Decoy("ascent", noise_ratio * density_noise * (density_data - density_model) * log_model_slope
              / (density_model + noise_ratio * density_noise), "sign", "away from the data"),
        Decoy("posterior", density_model * (density_model - density_data) * log_model_slope
              / (density_model + noise_ratio * density_noise), "likelihood", "weighed with h, not 1 − h"),
    ),
)  # fmt: skip
def _nce_gradient(claim: sp.Expr) -> Iterator[Step]:
    """The gradient of the likelihood weighed with the probability of being noise: what the noise does not
    reach teaches nothing. With much noise for a datum the weight goes to one, and this is minus the gradient
    of the likelihood."""
    slope = sp.diff(EXPECTED, density_model) * density_model * log_model_slope
    yield Identity("chain rule", slope, claim)
    little = sp.Symbol("delta", positive=True)
    much = sp.cancel(sp.together(claim.subs(noise_ratio, 1 / little)))
    limit = (density_model - density_data) * log_model_slope
    yield Series("much noise", much, little, 1, limit)
