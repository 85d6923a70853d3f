"""Energy models: the law exp(−E/τ)/Z, its likelihood, and how it is learned.

Axioms: means are linear, and derivatives and integrals may be exchanged where Z is finite. A statement about
a mean is proved for every finite space of states by induction on its size, with energies that are undefined
functions of a parameter θ; over the line the same statement is an identity under the integral, up to terms
whose integral is declared to vanish. Chains that draw from the law are in ``derivations.langevin``, learning
without them in ``derivations.noise_contrastive``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TypeAlias

import sympy as sp

import derivations.noise_contrastive  # noqa: F401, the third way to learn an energy is part of the topic
from derivations import gaussian
from derivations.kit import (
    Decoy,
    DensityEqual,
    Enumeration,
    Expectation,
    Identity,
    Induction,
    Inequality,
    LogDensity,
    Series,
    Step,
    formula,
    normal,
)
from derivations.langevin import KEPT, STATIONARY
from derivations.symbols import (
    chain_drift,
    count,
    energy_slope,
    energy_x,
    energy_y,
    entropy_data,
    eta_step,
    i,
    kl_data,
    log_z,
    mean_0,
    mean_1,
    n,
    phase_chain,
    phase_data,
    phase_model,
    temp,
    variance_0,
    variance_1,
    x,
)

Cases: TypeAlias = Iterator[tuple[str, sp.Rational, sp.Rational]]
ZERO = sp.Integer(0)
theta = sp.Symbol("theta", real=True)
STATE = sp.Function("E", real=True)
"""Energy of the i-th state of a finite space, at the parameter θ."""
ENERGY = sp.Function("E", real=True)(x, theta)
FORGOTTEN = sp.Function("M", real=True)(n)
"""What is known of the first n states."""
LOG_DENSITY = -energy_x / temp - log_z


def first(term: sp.Expr, size: sp.Expr = n) -> sp.Expr:
    """The sum of a term over the first states."""
    return sp.Sum(term, (i, 1, size))


def over_states(title: str, term: sp.Expr, claim: sp.Expr) -> Induction:
    """The claim about the sum of a term over the first n states, for every n."""
    return Induction(
        title,
        (claim.subs(n, 1), term.subs(i, 1)),
        (claim.subs(n, n + 1), FORGOTTEN + term.subs(i, n + 1)),
        {FORGOTTEN: claim},
    )


@formula(
    "energy.log_density",
    title="log-density of an energy model",
    lhs=sp.Symbol("log_p"),
    rhs=LOG_DENSITY,
    citations=("S004:1.1",),
    reference="refdiff.energy:log_density",
    decoys=(
        Decoy("temperature-forgotten", -energy_x - log_z, "variance", "the law at temperature 1"),
        Decoy("unnormalised", -energy_x / temp, "likelihood", "the normaliser is forgotten"),
        Decoy("energy-as-log", energy_x / temp - log_z, "sign", "dense where the energy is high"),
        Decoy("temperature-multiplied", -temp * energy_x - log_z, "variance", "τ taken for its inverse"),
    ),
)
def _log_density(claim: sp.Expr) -> Iterator[Step]:
    """A definition: Z is what makes the masses of all states add up to one, whatever their energies. On the
    line, a quadratic energy gives the normal density of variance τ·v, whose Z is known."""
    mass = sp.exp(claim).subs(energy_x, STATE(i))
    boltzmann = sp.exp(-STATE(i) / temp)
    yield over_states("masses, for every finite space", mass, first(boltzmann) * sp.exp(-log_z))
    peak = sp.log(2 * sp.pi * variance_1 * temp) / 2
    exponent = claim.subs({energy_x: (x - mean_1) ** 2 / (2 * variance_1), log_z: ZERO})
    factor = sp.exp(claim.subs({energy_x: ZERO, log_z: peak}))
    law = normal(x, mean_1, variance_1 * temp)
    yield DensityEqual("a quadratic energy", LogDensity(exponent, factor), law)


@formula(
    "energy.score",
    title="score of an energy model: the normaliser is gone",
    lhs=sp.Symbol("score_model"),
    rhs=-energy_slope / temp,
    citations=("S004:1.7",),
    reference="refdiff.energy:score",
    uses=("energy.log_density",),
    decoys=(
        Decoy("uphill", energy_slope / temp, "sign", "towards high energy"),
        Decoy("temperature-forgotten", -energy_slope, "variance", "the score at temperature 1"),
        Decoy("temperature-multiplied", -temp * energy_slope, "variance", "τ taken for its inverse"),
        Decoy("half", -energy_slope / (2 * temp), "sqrt", "½∇E, the drift of a step for the score"),
    ),
)
def _score(claim: sp.Expr) -> Iterator[Step]:
    """Z does not depend on x."""
    log_density = LOG_DENSITY.subs(energy_x, ENERGY)
    yield Identity("any energy", claim.subs(energy_slope, sp.diff(ENERGY, x)), sp.diff(log_density, x))


@formula(
    "energy.cross_entropy",
    title="expected negative log-likelihood: divergence from the data plus their entropy",
    lhs=sp.Symbol("nll"),
    rhs=kl_data + entropy_data,
    citations=("S004:1.2", "S004:1.3"),
    reference="refdiff.energy:cross_entropy",
    uses=("gaussian.kl", "gaussian.entropy"),
    decoys=(
        Decoy("divergence", kl_data, "likelihood", "the entropy of the data is forgotten"),
        Decoy("minus-entropy", kl_data - entropy_data, "sign", "the entropy with the wrong sign"),
    ),
)
def _cross_entropy(claim: sp.Expr) -> Iterator[Step]:
    """Under the integral, for any two densities; summed, for every finite space. Only the divergence knows
    the model, so maximum likelihood minimises it. For two normal laws it is the closed form of both."""
    q, p = (sp.Function(name, positive=True) for name in ("q", "p"))
    pointwise = {kl_data: q(x) * sp.log(q(x) / p(x)), entropy_data: -q(x) * sp.log(q(x))}
    yield Identity("under the integral", claim.subs(pointwise), -q(x) * sp.log(p(x)))
    divergence, entropy = (first(term.subs(x, i)) for term in pointwise.values())
    summed = claim.subs({kl_data: divergence, entropy_data: entropy})
    yield over_states("every finite space", -q(i) * sp.log(p(i)), summed)
    negative = (x - mean_1) ** 2 / (2 * variance_1) + sp.log(2 * sp.pi * variance_1) / 2
    closed = {kl_data: gaussian.kl.rhs, entropy_data: gaussian.entropy.rhs}
    yield Expectation("two normal laws", negative, {x: (mean_0, variance_0)}, claim.subs(closed))


@formula(
    "energy.grad_log_z",
    title="parameter derivative of log Z",
    lhs=sp.Derivative(sp.Function("log_Z")(theta), theta),
    rhs=-phase_model,
    citations=("S004:1.5",),
    reference="refdiff.energy:log_partition",
    uses=("energy.log_density",),
    decoys=(
        Decoy("sign", phase_model, "sign", "the mean of the energy's derivative itself"),
        Decoy("data", -phase_data, "likelihood", "the mean over data"),
        Decoy("half", -phase_model / 2, "sqrt", "half of it"),
    ),
)
def _grad_log_z(claim: sp.Expr) -> Iterator[Step]:
    """By θ the derivative of a sum is the sum of the derivatives, and that of exp(−E) is −E'·exp(−E): divided
    by Z, a mean under the model. For every finite space and any energies; for rational masses in exact
    numbers; for a quadratic energy of precision k through its closed Z. At temperature τ it is said of
    E/τ."""
    boltzmann = sp.exp(-STATE(i, theta))
    weighed = sp.diff(STATE(i, theta), theta) * boltzmann
    Z = first(boltzmann)
    moved = sp.expand(Z * claim.subs({phase_model: first(weighed) / Z, phase_data: ZERO}))
    yield over_states("every finite space", sp.diff(boltzmann, theta), moved)
    yield Enumeration("exact masses", lambda: _log_z_of_masses(claim))
    precision = sp.Symbol("k", positive=True)
    quadratic = (x - mean_1) ** 2 / 2
    phase = Expectation("", quadratic, {x: (mean_1, 1 / precision)}, ZERO).value()
    log_Z = sp.log(2 * sp.pi / precision) / 2
    mean = claim.subs({phase_model: phase, phase_data: ZERO})
    yield Identity("quadratic energy", sp.diff(log_Z, precision), mean)


def _masses(seed: int) -> Iterator[tuple[int, list[sp.Rational], list[sp.Rational], list[sp.Rational]]]:
    """Finite spaces whose masses exp(−E) are w + b·θ at θ = 0: size, data, w and b."""
    generator = random.Random(seed)
    for size in (2, 3, 5, 8):
        draw = [[sp.Rational(generator.randint(1, 30), 7) for _ in range(size)] for _ in range(3)]
        slopes = [b - sp.Rational(15, 7) for b in draw[2]]
        yield size, [q / sum(draw[0]) for q in draw[0]], draw[1], slopes


def _phase(law: list[sp.Rational], masses: list[sp.Rational], slopes: list[sp.Rational]) -> sp.Rational:
    """Mean of ∂E = −b/w."""
    return -sum(p * b / w for p, w, b in zip(law, masses, slopes, strict=True))


def _log_z_of_masses(claim: sp.Expr) -> Cases:
    for size, data, masses, slopes in _masses(1):
        model = [w / sum(masses) for w in masses]
        phases = {phase_model: _phase(model, masses, slopes), phase_data: _phase(data, masses, slopes)}
        yield f"{size} states", sum(slopes) / sum(masses), claim.subs(phases)


GRADIENT = phase_model - phase_data


@formula(
    "energy.log_likelihood_gradient",
    title="parameter derivative of the expected log-likelihood: the two phases",
    lhs=sp.Derivative(sp.Function("ell")(theta), theta),
    rhs=GRADIENT,
    citations=("S004:1.4", "S004:1.5", "Hinton2002"),
    reference="refdiff.energy:log_likelihood_gradient",
    uses=("energy.grad_log_z", "energy.cross_entropy"),
    decoys=(
        Decoy("ascent-for-descent", phase_data - phase_model, "sign",
              "the gradient of the loss: it raises the energy of data", "extropic-ai/thrml PR#38"),
        Decoy("data-only", -phase_data, "likelihood", "the normaliser taken for a constant"),
        Decoy("both-lowered", -phase_data - phase_model, "sign", "the sign of the second phase"),
    ),
)  # fmt: skip
def _log_likelihood_gradient(claim: sp.Expr) -> Iterator[Step]:
    """The energy is lowered where the data are and raised where the model is. For any data set and energies;
    for rational masses in exact numbers; for a Gaussian model and Gaussian data in mean and precision. The
    entropy of the data does not depend on θ: it is minus the derivative of the divergence."""
    log_Z = sp.Function("log_Z", real=True)(theta)
    energy = STATE(i, theta)
    phases = {phase_data: first(sp.diff(energy, theta)) / n, phase_model: -sp.diff(log_Z, theta)}
    whole = sp.expand(n * claim.subs(phases))
    yield over_states("any data set", sp.diff(-energy - log_Z, theta), whole)
    yield Enumeration("exact masses", lambda: _likelihood_of_masses(claim))
    precision = sp.Symbol("k", positive=True)
    quadratic = precision * (x - mean_1) ** 2 / 2
    log_density = -quadratic + sp.log(precision / (2 * sp.pi)) / 2
    laws = {phase_data: (mean_0, variance_0), phase_model: (mean_1, 1 / precision)}
    for parameter, name in ((mean_1, "mean"), (precision, "precision")):
        slope = sp.diff(quadratic, parameter)
        exact = {phase: Expectation("", slope, {x: law}, ZERO).value() for phase, law in laws.items()}
        gradient = sp.diff(log_density, parameter)
        yield Expectation(
            f"a Gaussian model, its {name}", gradient, {x: (mean_0, variance_0)}, claim.subs(exact)
        )


def _likelihood_of_masses(claim: sp.Expr) -> Cases:
    """d/dθ Σ q·log(w/Σw), which needs no logarithm, against the two phases."""
    for size, data, masses, slopes in _masses(2):
        model = [w / sum(masses) for w in masses]
        gradient = -_phase(data, masses, slopes) - sum(slopes) / sum(masses)
        phases = {phase_data: _phase(data, masses, slopes), phase_model: _phase(model, masses, slopes)}
        yield f"{size} states", gradient, claim.subs(phases)


@formula(
    "energy.contrastive_loss",
    title="loss of a pair of data and model sample",
    lhs=sp.Symbol("loss"),
    rhs=energy_x - energy_y,
    citations=("S004:§1.2/1", "Hinton2002", "Du2019"),
    reference="refdiff.energy:contrastive_loss",
    uses=("energy.log_likelihood_gradient",),
    decoys=(
        Decoy(
            "exchanged", energy_y - energy_x, "sign", "raises the energy of data", "extropic-ai/thrml PR#38"
        ),
        Decoy("data-only", energy_x, "likelihood", "nothing is raised: every energy falls for ever"),
        Decoy("sum", energy_x + energy_y, "sign", "both energies are lowered"),
    ),
)
def _contrastive_loss(claim: sp.Expr) -> Iterator[Step]:
    """With the samples held fixed, its derivative is minus that of the log-likelihood, estimated at x of the
    data and y of the model. Its value is no likelihood: it is 0 where the two have one energy."""
    y = sp.Symbol("y", real=True)
    at = {energy_x: ENERGY, energy_y: ENERGY.subs(x, y)}
    phases = {phase_data: sp.diff(at[energy_x], theta), phase_model: sp.diff(at[energy_y], theta)}
    yield Identity("any energy", -sp.diff(claim.subs(at), theta), GRADIENT.subs(phases))
    yield Identity("no likelihood", claim.subs(energy_y, energy_x), ZERO)


@formula(
    "energy.contrastive_divergence",
    title="parameter derivative of the contrastive divergence, whole",
    lhs=sp.Derivative(sp.Function("CD")(theta), theta),
    rhs=phase_data - phase_chain - chain_drift,
    citations=("Hinton2002:5", "Du2020", "S004:§1.2/1"),
    reference="refdiff.energy:contrastive_loss",
    uses=("energy.log_density",),
    decoys=(
        Decoy("as-it-is-used", phase_data - phase_chain, "likelihood",
              "what is followed in practice: the chain's own dependence on θ is dropped", "Hinton2002:§3"),
        Decoy("exchanged", phase_chain - phase_data - chain_drift, "sign", "the phases exchanged"),
    ),
)  # fmt: skip
def _contrastive_divergence(claim: sp.Expr) -> Iterator[Step]:
    """KL(q‖p) − KL(Q‖p), where Q is the law of a short chain that starts in the data q: Z is gone, and the
    price is that Q depends on θ. Under the integral for any densities and energies; what is left over is
    q − Q times the derivative of log Z, less the derivative of Q, and its integral is 0 because q and Q are
    normalised at every θ."""
    log_Z = sp.Function("log_Z", real=True)(theta)
    q, Q = sp.Function("q", positive=True)(x), sp.Function("Q", positive=True)(x, theta)
    surprise = ENERGY + log_Z
    divergences = q * (sp.log(q) + surprise) - Q * (sp.log(Q) + surprise)
    slope = sp.diff(ENERGY, theta)
    drift = sp.diff(Q, theta) * (sp.log(Q) + surprise)
    terms = claim.subs({phase_data: q * slope, phase_chain: Q * slope, chain_drift: drift})
    rest = (q - Q) * sp.diff(log_Z, theta) - sp.diff(Q, theta)
    yield Identity("under the integral", sp.diff(divergences, theta), terms + rest)


WHOLE = (mean_0 - mean_1) / variance_1
"""Derivative of the expected log-likelihood by the mean of a Gaussian model."""


@formula(
    "energy.contrastive_gradient_gaussian",
    title="contrastive gradient for the mean of a Gaussian model, n Langevin steps from the data",
    lhs=-sp.Derivative(sp.Function("CD")(mean_1), mean_1),
    rhs=WHOLE * (1 - KEPT**count),
    citations=("Hinton2002", "S004:§1.2/1"),
    reference="refdiff.langevin:contrastive_gradient_gaussian",
    uses=("energy.log_likelihood_gradient", "energy.ula_mean"),
    decoys=(
        Decoy("whole", WHOLE, "likelihood", "the gradient of the likelihood: the chain at its end already"),
        Decoy("what-is-left", WHOLE * KEPT**count, "likelihood", "the part that is missed"),
        Decoy("ascent-for-descent", -WHOLE * (1 - KEPT**count), "sign", "away from the data"),
        Decoy("continuous", WHOLE * (1 - sp.exp(-count * eta_step / variance_1)), "discretization",
              "the diffusion for its chain"),
    ),
)  # fmt: skip
def _contrastive_gradient_gaussian(claim: sp.Expr) -> Iterator[Step]:
    """The chain has come a part of the way from the data to the model, and that part of the gradient of the
    likelihood is seen: it is 0 at the right mean after any number of steps. At η = v the chain arrives at
    once."""
    slope = sp.diff((x - mean_1) ** 2 / (2 * variance_1), mean_1)
    end = mean_1 + KEPT**count * (mean_0 - mean_1)
    data = Expectation("", slope, {x: (mean_0, variance_0)}, ZERO).value()
    chain = Expectation("", slope, {x: (end, variance_0)}, ZERO).value()
    yield Identity("difference of the phases", claim, GRADIENT.subs({phase_model: chain, phase_data: data}))
    yield Identity("the data's mean is kept", claim.subs(mean_1, mean_0), ZERO)
    yield Identity("a chain that arrives", claim.subs(eta_step, variance_1), WHOLE)


LEARNED = (variance_0 + sp.sqrt(variance_0**2 - 2 * eta_step * variance_0)) / 2


@formula(
    "energy.persistent_variance",
    title="variance that a Gaussian model learns from endless Langevin chains of finite step",
    lhs=sp.Symbol("v_learned", positive=True),
    rhs=LEARNED,
    citations=("S004:§1.2/1", "Tieleman2008"),
    reference="refdiff.langevin:learned_variance",
    uses=("energy.log_likelihood_gradient", "energy.ula_stationary_variance"),
    assumptions=(sp.Lt(eta_step, variance_0 / 2),),
    decoys=(
        Decoy("data", variance_0, "discretization", "the variance of the data: chains without bias"),
        Decoy("first-order", variance_0 - eta_step / 2, "discretization", "to first order in the step only"),
        Decoy("other-root", variance_0 - LEARNED, "sign", "the root near 0, from which training runs away"),
        Decoy("too-wide", (variance_0 + sp.sqrt(variance_0**2 + 2 * eta_step * variance_0)) / 2, "sign",
              "the model wider than the data"),
    ),
)  # fmt: skip
def _persistent_variance(claim: sp.Expr) -> Iterator[Step]:
    """Persistent chains reach their own stationary law, not the model's. The phases of the precision balance
    where that law has the variance of the data: the model comes out too narrow, by η/2 to first order, though
    every phase was estimated without error."""
    precision, V = sp.Symbol("k", positive=True), sp.Symbol("V", positive=True)
    slope = sp.diff(precision * (x - mean_1) ** 2 / 2, precision)
    data, chain = (Expectation("", slope, {x: (mean_1, v)}, ZERO).value() for v in (variance_0, V))
    balance = GRADIENT.subs({phase_model: chain, phase_data: data})
    reached = STATIONARY.subs({temp: 1, variance_1: claim})
    yield Identity("the phases balance", balance.subs(V, reached), ZERO)
    yield Inequality("too narrow", variance_0, ">", claim, eta_step * variance_0 / (2 * claim))
    yield Series("first order: the branch near the data", claim, eta_step, 2, variance_0 - eta_step / 2)
