r"""Variational autoencoders: the bound of one latent, of a chain of latents, and one that is closed.

Axioms: a prior p(z), a decoder p(x|z), an encoder q(z|x), the product rule. As in ``elbo`` each value
of a probability is a free positive number, statements are made on every latent, and their means over the
encoder are the statements about divergences. The latent is x(1) and the observation x(0), or x(1, T) for a
chain of latents, whose encoder is a forward chain with kernels that may be learned. An autoencoder in which
all is Gaussian and closed is in ``vae_gaussian``, which this module imports.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import log

from derivations.chains import DATA, bayes, forward, over_steps, p, path_cases, q, reverse, total_cases, x
from derivations.elbo import JENSEN, THREE_TERMS, weight_steps
from derivations.kit import Decoy, Enumeration, Identity, Step, formula
from derivations.symbols import T, evidence, i, importance

LATENT = x(1, T)
"""The latent, or the latents of a chain."""
ENCODER, POSTERIOR = q(LATENT, DATA), p(LATENT, DATA)
PRIOR, DECODER = p(LATENT), p(DATA, LATENT)
JOINT = p(x(0, T))
BOUND, GAP = log(JOINT / ENCODER), log(ENCODER / POSTERIOR)
BAYES = {POSTERIOR: PRIOR * DECODER / p(DATA), JOINT: PRIOR * DECODER}


@formula(
    "vae.variational",
    title="the divergence from the posterior: that from the joint law, plus the log-evidence",
    lhs=GAP,
    rhs=log(ENCODER / JOINT) + log(p(DATA)),
    citations=("S004:3.15",),
    reference="refdiff.vae:gap",
    decoys=(
        Decoy("evidence-sign", log(ENCODER / JOINT) - log(p(DATA)), "sign", "the evidence is subtracted"),
        Decoy("evidence-missing", log(ENCODER / JOINT), "likelihood", "as if p(z|x) were p(x, z)"),
        Decoy("prior", log(ENCODER / PRIOR) + log(p(DATA)), "likelihood", "the decoder is left out"),
    ),
)
def _variational(claim: sp.Expr) -> Iterator[Step]:
    """Bayes' rule for the posterior. What is minimised is a divergence from a law that is not normalised;
    the constant that is missing is the evidence, which does not depend on the encoder."""
    yield Identity("Bayes' rule", claim.xreplace(BAYES), GAP.xreplace(BAYES))
    yield Enumeration("for every latent", lambda: path_cases(claim, GAP))


@formula(
    "vae.evidence",
    title="log-evidence: the bound, plus the divergence of the encoder from the posterior",
    lhs=log(p(DATA)),
    rhs=BOUND + GAP,
    citations=("S004:3.17", "Kingma2014:1"),
    reference="refdiff.vae:evidence",
    uses=("vae.variational",),
    decoys=(
        Decoy("gap-missing", BOUND, "likelihood", "the bound taken for the evidence"),
        Decoy("gap-subtracted", BOUND - GAP, "sign", "the bound above the evidence"),
        Decoy(
            "gap-to-prior", BOUND + log(ENCODER / PRIOR), "likelihood",
            "the divergence from the prior where that from the posterior belongs",
        ),
        Decoy(
            "gap-turned", BOUND + log(POSTERIOR / ENCODER), "likelihood", "the posterior over the encoder"
        ),
    ),
)  # fmt: skip
def _evidence(claim: sp.Expr) -> Iterator[Step]:
    """The evidence is the same for every latent; multiply and divide by the encoder. It holds latent by
    latent, and so on average over the encoder: the encoder only changes how the evidence is divided."""
    yield Identity("Bayes' rule", claim.xreplace(BAYES), log(p(DATA)))
    yield Enumeration("for every latent", lambda: path_cases(claim, log(p(DATA))))


@formula(
    "vae.jensen",
    title="the other derivation: what Jensen's inequality loses is the divergence from the posterior",
    lhs=sp.Symbol("lost", nonnegative=True),
    rhs=POSTERIOR / ENCODER - 1 - log(POSTERIOR / ENCODER),
    citations=("S004:3.16",),
    reference="refdiff.vae:gap",
    uses=("elbo.jensen", "vae.evidence"),
    decoys=(
        Decoy("prior", PRIOR / ENCODER - 1 - log(PRIOR / ENCODER), "likelihood", "the divergence from p(z)"),
        Decoy(
            "turned", ENCODER / POSTERIOR - 1 - log(ENCODER / POSTERIOR), "likelihood",
            "posterior and encoder exchanged",
        ),
    ),
)  # fmt: skip
def _jensen(claim: sp.Expr) -> Iterator[Step]:
    """The evidence is the mean of p(x, z)/q(z|x), and the log of a mean is not below the mean of the log.
    What it loses at this weight is the function of p(z|x)/q(z|x), which is 1 on average over the encoder: so
    the two derivations have one gap, which is never negative."""
    weights = {importance: JOINT / ENCODER, evidence: p(DATA)}
    yield Identity("Jensen's loss", claim.xreplace(BAYES), JENSEN.subs(weights).xreplace(BAYES))
    less = claim - (POSTERIOR / ENCODER - 1)
    yield Identity("but for a term of mean 0 the gap", less, GAP)
    yield Enumeration("its mean is the gap", lambda: total_cases(q(DATA) * ENCODER * claim, GAP))


SPLIT = log(DECODER) - log(ENCODER / PRIOR)


@formula(
    "vae.split",
    title="the bound: reconstruction, minus the divergence of the encoder from the prior",
    lhs=BOUND,
    rhs=SPLIT,
    citations=("S004:3.18", "Kingma2014:3"),
    reference="refdiff.vae:elbo",
    uses=("vae.evidence",),
    decoys=(
        Decoy("prior-missing", log(DECODER) - log(ENCODER), "likelihood", "the prior is left out"),
        Decoy("entropy-missing", log(DECODER) + log(PRIOR), "likelihood", "the encoder's entropy left out"),
        Decoy("divergence-sign", log(DECODER) + log(ENCODER / PRIOR), "sign", "the divergence is added"),
        Decoy(
            "posterior", log(DECODER) - log(ENCODER / POSTERIOR), "likelihood",
            "the divergence from the posterior",
        ),
        Decoy("encoder-decodes", log(ENCODER) - log(ENCODER / PRIOR), "likelihood", "q(z|x) for p(x|z)"),
    ),
)
def _split(claim: sp.Expr) -> Iterator[Step]:
    """The product rule for the joint law."""
    rule = {JOINT: PRIOR * DECODER}
    yield Identity("product rule", claim, BOUND.xreplace(rule))
    yield Enumeration("for every latent", lambda: path_cases(claim, BOUND))


HIERARCHY = (
    log(p(x(T)) / q(x(T), DATA))
    + over_steps(log(reverse(i) / q(x(i - 1), x(i), DATA)), 2)
    + log(reverse(sp.Integer(1)))
)


@formula(
    "vae.hierarchical",
    title="the bound of a chain of T latents, layer by layer",
    lhs=BOUND,
    rhs=HIERARCHY,
    citations=("S004:§3.6/4", "Sonderby2016", "Kingma2021vdm"),
    reference="refdiff.vae:hierarchical_elbo",
    uses=("vae.split", "elbo.three_terms"),
    decoys=(
        Decoy(
            "layers-not-given-x", log(p(x(T)) / q(x(T), DATA))
            + over_steps(log(reverse(i) / q(x(i - 1), x(i))), 2) + log(reverse(sp.Integer(1))), "likelihood",
            "the encoder's layer given the one above, without the observation",
        ),
        Decoy(
            "upwards", log(p(x(T)) / q(x(T), DATA)) + over_steps(log(reverse(i) / forward(i)), 2)
            + log(reverse(sp.Integer(1))), "likelihood", "the encoder's own direction in every layer",
        ),
        Decoy("last-prior-missing", HIERARCHY - log(p(x(T)) / q(x(T), DATA)), "likelihood", "no top prior"),
        Decoy(
            "one-prior-for-all", log(p(DATA, x(1))) + over_steps(log(p(x(i)) / q(x(i), DATA))), "likelihood",
            "every layer against a prior of its own",
        ),
    ),
)  # fmt: skip
def _hierarchical(claim: sp.Expr) -> Iterator[Step]:
    """An encoder q(z_t|z_{t−1}) with z_0 = x is a forward chain, a decoder p(z_{t−1}|z_t) a reverse
    one. Nothing in the diffusion bound asks the kernel to be fixed, to be Gaussian, or to keep the
    dimension: the bound of the hierarchy is the diffusion bound, term by term, for every T; and for T = 1
    it is the bound of one latent."""
    yield from weight_steps(claim, bayes(T + 1), forward(sp.Integer(1)))
    yield Identity("the diffusion bound", claim, THREE_TERMS)
    one = {T: sp.Integer(1)}
    alone = log(reverse(sp.Integer(1))) - log(forward(sp.Integer(1)) / p(x(1)))
    yield Identity("one latent", claim.subs(one).doit(), alone)
    yield Enumeration("for layers of different sizes", lambda: path_cases(claim, BOUND))


from derivations import vae_gaussian  # noqa: E402  (the rest of the topic)

__all__ = ["vae_gaussian"]
