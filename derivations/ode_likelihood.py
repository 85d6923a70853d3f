"""Likelihood along the probability-flow ODE: the instantaneous change of variables, its trace, and bits.

Axiom: the continuity equation, ∂q/∂t = −∂(v·q), which is the Fokker–Planck equation without noise. Densities
and velocities are undefined functions.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations.kit import Decoy, Expectation, Identity, Induction, Step, Substitution, formula
from derivations.ode import DRIFT, FOKKER_PLANCK, SCORE, f, g, p
from derivations.symbols import (
    bins,
    data_span,
    dim,
    flow_11,
    flow_12,
    flow_21,
    flow_22,
    i,
    log_likelihood,
    probes,
    slope,
    tau,
    v_1,
    v_2,
    x,
)

UNIT = (sp.Integer(0), sp.Integer(1))
RATE = sp.Symbol("rate", real=True)
q = sp.Function("q", positive=True)(x, tau)
v = sp.Function("v", real=True)(x, tau)


def along(quantity: sp.Expr, change: sp.Expr, velocity: sp.Expr) -> sp.Expr:
    """The rate of a quantity as a point that the flow carries sees it, given its change at a fixed place."""
    return change + velocity * sp.diff(quantity, x)


@formula(
    "ode.change_of_variables",
    title="the log-density of any law along any flow that carries it",
    lhs=RATE,
    rhs=-sp.diff(v, x),
    citations=("Chen2018:thm1", "Song2021sde:app.D.2"),
    reference="refdiff.ode:log_likelihood",
    decoys=(
        Decoy("plus", sp.diff(v, x), "likelihood", "the other direction of time", "bayesflow PR#560"),
        Decoy("velocity", -v, "likelihood", "the velocity where its slope belongs"),
        Decoy("at-a-fixed-place", -sp.diff(v, x) - v * sp.diff(sp.log(q), x), "likelihood",
              "the rate at a place, not along the path"),
    ),
)  # fmt: skip
def _change_of_variables(claim: sp.Expr) -> Iterator[Step]:
    """The continuity equation says how q changes at a place; add what the motion of the point contributes.
    The rate depends on the velocity alone, so the ratio of two densities that one flow carries does not
    change along it: an error in the prior arrives at the data undiminished. The same from the map: a small
    interval that a point carries has a length with derivative ∂v times itself, and q times it stays."""
    change = -sp.diff(v * q, x)
    yield Identity("along the path", along(sp.log(q), change / q, v), claim)
    other = sp.Function("r", positive=True)(x, tau)
    change_of_ratio = change / q + sp.diff(v * other, x) / other
    yield Identity("the ratio stays", along(sp.log(q / other), change_of_ratio, v), sp.Integer(0))
    mass, length, growth = sp.symbols("m l w", positive=True)
    carried = -sp.Symbol("m", positive=True) / length**2 * (growth * length)
    yield Identity("from the length", carried / (mass / length), claim.subs(sp.diff(v, x), growth))


@formula(
    "ode.log_density_rate",
    title="the log-density of a diffusion along its probability-flow ODE",
    lhs=RATE,
    rhs=-sp.diff(f, x) + g**2 / 2 * sp.diff(sp.log(p), x, 2),
    citations=("Song2021sde:39", "Chen2018:thm1"),
    reference="refdiff.ode:divergence",
    uses=("ode.drift", "ode.change_of_variables"),
    decoys=(
        Decoy("plus", sp.diff(f, x) - g**2 / 2 * sp.diff(sp.log(p), x, 2), "likelihood",
              "the divergence, not minus it", "bayesflow PR#560"),
        Decoy("reverse-drift", -sp.diff(f, x) + g**2 * sp.diff(sp.log(p), x, 2), "likelihood",
              "minus the divergence of the drift of the reverse SDE", "S004:8.2"),
        Decoy("score-squared", -sp.diff(f, x) + g**2 / 2 * (sp.diff(sp.log(p), x, 2) + SCORE**2),
              "likelihood", "the curvature of the density, not of its logarithm"),
        Decoy("drift-only", -sp.diff(f, x), "likelihood", "the divergence of the forward drift"),
    ),
)  # fmt: skip
def _log_density_rate(claim: sp.Expr) -> Iterator[Step]:
    """What the Fokker–Planck equation changes at a place, plus what the motion contributes. All products
    of first derivatives cancel; minus the divergence of the velocity is left."""
    yield Identity("from Fokker–Planck", along(sp.log(p), FOKKER_PLANCK / p, DRIFT), claim)
    yield Identity("minus the divergence", -sp.diff(DRIFT, x), claim)


F, s, J, H = (sp.Function(name, real=True) for name in ("F", "s", "J", "H"))
"""Drift and score, and the slope of each along every coordinate."""


def over_coordinates(term: sp.Expr, last: sp.Expr = dim) -> sp.Expr:
    """A term summed over the coordinates 1..last."""
    return sp.Sum(term, (i, 1, last))


RATE_ND = over_coordinates(-J(i, i) + g**2 / 2 * H(i, i))


@formula(
    "ode.log_density_rate_nd",
    title="the log-density along the probability-flow ODE, any dimension",
    lhs=RATE,
    rhs=RATE_ND,
    citations=("Song2021sde:39",),
    reference="refdiff.ode:divergence",
    uses=("ode.log_density_rate",),
    decoys=(
        Decoy("plus", over_coordinates(J(i, i) - g**2 / 2 * H(i, i)), "likelihood",
              "the divergence, not minus it", "bayesflow PR#560"),
        Decoy("reverse-drift", over_coordinates(-J(i, i) + g**2 * H(i, i)), "likelihood",
              "the divergence of the drift of the reverse SDE", "S004:8.2"),
        Decoy("mean", RATE_ND / dim, "likelihood", "the mean over the dimensions where the sum belongs"),
        Decoy("next-coordinate", over_coordinates(-J(i, i + 1) + g**2 / 2 * H(i, i + 1)), "state-broadcast",
              "entries beside the diagonal"),
        Decoy("drift-once", over_coordinates(g**2 / 2 * H(i, i)) - J(1, 1), "likelihood",
              "the slope of the drift counted for one dimension"),
    ),
)  # fmt: skip
def _log_density_rate_nd(claim: sp.Expr) -> Iterator[Step]:
    """Coordinate by coordinate. Divided by p, the Fokker–Planck equation has −∂F_i − F_i·s_i along
    coordinate i, and ½g² times ∂²p/p = ∂s_i + s_i². The motion adds the velocity times s_i. One more
    coordinate adds its own term to each side."""
    curved = sp.diff(sp.exp(sp.log(p)), x, 2) / p
    yield Identity("∂²p/p, one coordinate", curved, sp.diff(SCORE, x) + SCORE**2)

    def rate(k: sp.Expr) -> sp.Expr:
        change = -J(k, k) - F(k) * s(k) + g**2 / 2 * (H(k, k) + s(k) ** 2)
        return change + (F(k) - g**2 / 2 * s(k)) * s(k)

    known = sp.Symbol("known", real=True)
    yield Induction(
        "the sum over the coordinates",
        (rate(sp.Integer(1)), claim.subs(dim, 1)),
        (known + rate(dim + 1), claim.subs(dim, dim + 1)),
        {known: claim},
    )


W = sp.Function("W", real=True)
GROWTH = W(tau) - W(0)
"""The integral of the velocity's slope along the path, through an antiderivative W."""


@formula(
    "ode.jacobian",
    title="the flow map can be inverted: its slope is the exponential of the divergence along the path",
    lhs=sp.Symbol("J", positive=True),
    rhs=sp.exp(GROWTH),
    citations=("Song2021sde:§4.3", "S004:§8.6"),
    reference="refdiff.ode:encode",
    uses=("ode.change_of_variables",),
    decoys=(
        Decoy("first-order", 1 + GROWTH, "discretization", "one Euler step, which can become zero"),
        Decoy("way-back", sp.exp(-GROWTH), "sign", "the slope of the way back"),
        Decoy("from-nowhere", sp.exp(W(tau)), "discretization", "an integral without its lower end"),
    ),
)  # fmt: skip
def _jacobian(claim: sp.Expr) -> Iterator[Step]:
    """The slope J of the map from x_0 to x_t obeys J' = W'·J, where W' is the slope of the velocity along
    the path, and J = 1 at the start; so does the claim. Its product with the slope of the way back is 1: it
    is never zero, the map is one to one, and nothing is drawn on either way."""
    slope_of_map = sp.Function("J", real=True)(tau)
    equation = sp.diff(slope_of_map, tau) - sp.diff(W(tau), tau) * slope_of_map
    yield Substitution("J' = W'·J", equation, {slope_of_map: claim})
    yield Identity("J = 1 at the start", claim.subs(tau, 0), sp.Integer(1))
    yield Identity("there and back", claim * sp.exp(-GROWTH), sp.Integer(1))


FORM = v_1**2 * flow_11 + v_1 * v_2 * (flow_12 + flow_21) + v_2**2 * flow_22
TRACE = flow_11 + flow_22


def signs(form: sp.Expr) -> sp.Expr:
    """The mean over random signs of both coordinates of the direction."""
    for direction in (v_1, v_2):
        form = (form.subs(direction, 1) + form.subs(direction, -1)) / 2
    return form


@formula(
    "ode.hutchinson",
    title="the mean of Hutchinson's estimate is the trace, in the plane",
    lhs=sp.Symbol("div", real=True),
    rhs=TRACE,
    citations=("Hutchinson1990", "Song2021sde:app.D.2"),
    reference="refdiff.ode:divergence",
    uses=("score_matching.sliced",),
    decoys=(
        Decoy("all-entries", TRACE + flow_12 + flow_21, "state-broadcast",
              "the gradient of the sum of the velocity: every entry"),
        Decoy("mean", TRACE / 2, "likelihood", "probes of unit length: the mean over the dimensions"),
    ),
)  # fmt: skip
def _hutchinson(claim: sp.Expr) -> Iterator[Step]:
    """vᵀJv for standard normal directions, for random signs, and for any law with E[vvᵀ] = I, in which the
    form is linear. Any dimension is the sliced loss of score matching."""
    yield Expectation("normal directions", FORM, {v_1: UNIT, v_2: UNIT}, claim)
    yield Identity("random signs", signs(FORM), claim)
    second = {v_1**2: 1, v_1 * v_2: 0, v_2**2: 1}
    whole = sp.expand(FORM)
    yield Identity("any such law", sp.Add(*(m * whole.coeff(u) for u, m in second.items())), claim)


NORMAL_VARIANCE = 2 * flow_11**2 + 2 * flow_22**2 + (flow_12 + flow_21) ** 2


@formula(
    "ode.hutchinson_variance",
    title="variance of the estimate averaged over normal directions, in the plane",
    lhs=sp.Symbol("V", nonnegative=True),
    rhs=NORMAL_VARIANCE / probes,
    citations=("Hutchinson1990",),
    reference="refdiff.ode:divergence",
    uses=("ode.hutchinson", "score_matching.sliced_variance"),
    decoys=(
        Decoy("random-signs", (flow_12 + flow_21) ** 2 / probes, "variance",
              "that of random signs, which lose the diagonal"),
        Decoy("not-averaged", NORMAL_VARIANCE, "variance", "one direction, however many there are"),
        Decoy("averaged-squared", NORMAL_VARIANCE / probes**2, "variance",
              "the variance of one over the squared number of directions: their sum is forgotten"),
        Decoy("not-symmetrised", 2 * (flow_11**2 + flow_12**2 + flow_21**2 + flow_22**2) / probes,
              "variance", "the Jacobian where its symmetric part belongs"),
    ),
)  # fmt: skip
def _hutchinson_variance(claim: sp.Expr) -> Iterator[Step]:
    """One direction by fourth moments; independent directions add their variances, and the average divides
    their sum by n². Random signs have (J_12 + J_21)² where normal directions have that and twice the squared
    diagonal, so signs are never worse."""
    one = claim.subs(probes, 1)
    yield Expectation("one direction", (FORM - TRACE) ** 2, {v_1: UNIT, v_2: UNIT}, one)
    known = sp.Symbol("known", nonnegative=True)
    yield Induction(
        "the sum of n directions",
        (one, NORMAL_VARIANCE),
        (known + NORMAL_VARIANCE, (probes + 1) ** 2 * claim.subs(probes, probes + 1)),
        {known: probes**2 * claim},
    )
    spared = 2 * flow_11**2 + 2 * flow_22**2
    yield Identity("random signs spare the diagonal", one - signs((FORM - TRACE) ** 2), spared)


BITS = (-log_likelihood / dim - sp.log(data_span / bins)) / sp.log(2)


@formula(
    "ode.bits_per_dim",
    title="bits per dimension from the log-likelihood of data with uniform noise in their bins",
    lhs=sp.Symbol("bits"),
    rhs=BITS,
    citations=("Song2021sde:app.D.2", "Theis2016:2"),
    reference="refdiff.ode:bits_per_dim",
    uses=("vlb.bits_per_dim",),
    decoys=(
        Decoy("not-per-dimension", (-log_likelihood - sp.log(data_span / bins)) / sp.log(2), "likelihood",
              "the sum over the dimensions beside the offset of one"),
        Decoy("seven", -log_likelihood / (dim * sp.log(2)) + sp.log(bins / 2) / sp.log(2), "data-scaling",
              "the offset of data in [−1, 1], whatever the range"),
        Decoy("eight", -log_likelihood / (dim * sp.log(2)) + sp.log(bins) / sp.log(2), "data-scaling",
              "the offset of data in [0, 1], whatever the range", "conventions:score_sde"),
        Decoy("between-centres", (-log_likelihood / dim - sp.log(data_span / (bins - 1))) / sp.log(2),
              "data-scaling", "the range measured between the centres of the first and the last bin"),
        Decoy("offset-subtracted", (-log_likelihood / dim + sp.log(data_span / bins)) / sp.log(2), "sign",
              "the offset subtracted"),
        Decoy("nats", -log_likelihood / dim - sp.log(data_span / bins), "likelihood", "nats, not bits"),
    ),
)  # fmt: skip
def _bits_per_dim(claim: sp.Expr) -> Iterator[Step]:
    """A bin has the width range/bins, and measured in bins the density is that width, to the power D, times
    as large; minus its binary logarithm over D is the code length. 256 bins in [0, 1] add 8 bits, in [−1, 1]
    7. Data stretched by a have a range stretched by a and a log-density less by D·log a: the bits stay."""
    width = data_span / bins
    inside = log_likelihood + dim * sp.log(width)
    yield Identity("in units of a bin", claim, -inside / (dim * sp.log(2)))
    stretched = {log_likelihood: log_likelihood - dim * sp.log(slope**2), data_span: data_span * slope**2}
    yield Identity("the unit of the data does not count", claim.subs(stretched, simultaneous=True), claim)
    flat = claim.subs({log_likelihood: -dim * sp.log(data_span)})
    yield Identity("a flat density costs the logarithm of the bins", flat, sp.log(bins) / sp.log(2))
    offset = claim.subs({log_likelihood: 0, bins: 256})
    yield Identity("8 bits in [0, 1]", offset.subs(data_span, 1), sp.Integer(8))
    yield Identity("7 bits in [−1, 1]", offset.subs(data_span, 2), sp.Integer(7))
