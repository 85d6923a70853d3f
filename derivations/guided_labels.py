"""Labels: the reverse chain given a label, and what a power of the label's probability is and is not.

Axioms: the label y depends on the data alone, so the forward process does not see it, and Bayes' rule. The
chains of the proofs by enumeration are exact sums over paths. A label may be any event or observation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import sympy as sp

from derivations.kit import Decoy, Enumeration, Identity, Induction, Step, formula
from derivations.labelled_chains import LabelledChain, Point, everywhere
from derivations.symbols import (
    T,
    abar_t,
    eps,
    guide_scale,
    i,
    label_prev,
    label_score,
    label_share,
    label_t,
    log_odds,
    n,
    reverse_density,
    score,
    step_density,
    twist_prev,
    twist_t,
    x_prev,
    x_t,
    y,
)

Values = Mapping[sp.Basic, sp.Expr]


def positive(name: str, *arguments: sp.Expr) -> sp.Expr:
    """The value of an undefined positive function."""
    return sp.Function(name, positive=True)(*arguments)


FORWARD = positive("F", x_t, x_prev)
"""The forward kernel."""
PATHS = positive("J", y, x_prev)
"""All paths that end in x_{t-1} and carry the label y."""
PATHS_T = positive("J_t", y, x_t)
DENSITY, DENSITY_T = positive("M", x_prev), positive("M_t", x_t)
"""The density of x_{t-1}, all labels together, and that of x_t."""
ON_PATHS = {
    step_density: FORWARD,
    reverse_density: FORWARD * DENSITY / DENSITY_T,
    label_prev: PATHS / DENSITY,
    label_t: PATHS_T / DENSITY_T,
}
JOINT = FORWARD * PATHS
"""The joint density of x_{t-1}, x_t and y: the label was drawn at the data, before either."""


def on_chain(chain: LabelledChain, point: Point) -> Values:
    """What the symbols of this section are on a finite chain, for any two levels s < t in place of t−1 and
    t."""
    return {
        step_density: chain.given(point.above, point.below),
        reverse_density: chain.given(point.below, point.above),
        label_prev: chain.given(point.label, point.below),
        label_t: chain.given(point.label, point.above),
    }


@formula(
    "guidance.forward_kernel",
    title="a forward step does not see the label, and knows nothing of it",
    lhs=sp.Symbol("q_hat"),
    rhs=step_density,
    citations=("Dhariwal2021:H", "S004:7.2", "S004:7.3"),
    decoys=(
        Decoy("bayes", step_density * label_t / label_prev, "guidance", "Bayes' factor in a forward step"),
    ),
)
def _forward_kernel(claim: sp.Expr) -> Iterator[Step]:
    """With J all paths to x_{t-1} with label y, the joint density is F·J. Divided by J it is the kernel
    given y; summed over any number of labels, the factor F stays outside and the kernel without y is the
    same."""
    value = claim.xreplace(ON_PATHS)
    yield Identity("given the label", value, JOINT / PATHS)
    by_label, next_label = (PATHS.subs(y, k) for k in (i, n + 1))
    summed, joint = (sp.Sum(part, (i, 1, n)) for part in (by_label, FORWARD * by_label))
    yield Induction(
        "labels summed out, one more at a time",
        (FORWARD * PATHS.subs(y, 1), value * PATHS.subs(y, 1)),
        (joint + FORWARD * next_label, value * (summed + next_label)),
        {joint: FORWARD * summed},
    )
    given_label = everywhere(claim, on_chain, lambda c, p: c.given(p.above, p.below, p.label))
    yield Enumeration("finite chains, given the label", given_label)


STEP_OF_PATH = sp.Function("q", positive=True)


@formula(
    "guidance.forward_path",
    title="all forward steps together do not see the label",
    lhs=sp.Symbol("q_hat"),
    rhs=sp.Product(STEP_OF_PATH(i), (i, 1, T)),
    citations=("Dhariwal2021:H", "S004:7.4", "S004:7.5"),
    uses=("guidance.forward_kernel",),
)
def _forward_path(claim: sp.Expr) -> Iterator[Step]:
    """Induction on T: a path of no step has density one, and one more step brings one more kernel, with
    or without the label. The probabilities of the labels given x_0 add up to one, so nothing is left of
    them; multiplied with q(x_0) and integrated over the path but its end, this is the old density of
    x_t."""
    before, path = sp.Symbol("P", positive=True), STEP_OF_PATH(T + 1)
    yield Induction(
        "one more step",
        (claim.subs(T, 0).doit(), sp.Integer(1)),
        (before * path, claim.subs(T, T + 1)),
        {before: claim},
    )
    label = positive("L", i)
    labelled, summed = sp.Sum(before * label, (i, 1, n)), sp.Sum(label, (i, 1, n))
    yield Induction(
        "labels summed out, one more at a time",
        (before * label.subs(i, 1), before * label.subs(i, 1)),
        (labelled + before * label.subs(i, n + 1), before * (summed + label.subs(i, n + 1))),
        {labelled: before * summed},
    )


@formula(
    "guidance.label_given_two_levels",
    title="a noisier level adds nothing to what is known of the label",
    lhs=sp.Symbol("q_hat"),
    rhs=label_prev,
    citations=("Dhariwal2021:H", "S004:7.6"),
    uses=("guidance.forward_kernel",),
    decoys=(
        Decoy("noisier-level", label_t, "index", "the probability of the label given the noisier level"),
        Decoy("two-experts", label_prev * label_t, "guidance", "both levels taken for independent evidence"),
    ),
)
def _label_given_two_levels(claim: sp.Expr) -> Iterator[Step]:
    """Bayes: the kernel F stands above and below the line."""
    yield Identity("Bayes", claim.xreplace(ON_PATHS), JOINT / (FORWARD * DENSITY))
    two_levels = everywhere(claim, on_chain, lambda c, p: c.given(p.label, p.below, p.above))
    yield Enumeration("finite chains", two_levels)


CONDITIONAL = reverse_density * label_prev / label_t


@formula(
    "guidance.conditional_reverse",
    title="the reverse kernel given the label",
    lhs=sp.Symbol("q_hat"),
    rhs=CONDITIONAL,
    citations=("Sohl-Dickstein2015:C", "Dhariwal2021:H", "S004:7.1", "S004:7.7"),
    uses=("guidance.forward_kernel", "guidance.label_given_two_levels"),
    decoys=(
        Decoy(
            "not-normalised", reverse_density * label_prev, "guidance",
            "the product alone: Z read as one for every x_t", "S004:7.1",
        ),
        Decoy("noisier-label", reverse_density * label_t / label_prev, "index", "the levels exchanged"),
    ),
)  # fmt: skip
def _conditional_reverse(claim: sp.Expr) -> Iterator[Step]:
    """The joint density of both levels and the label, divided by that of x_t and the label. The normaliser
    1/q(y | x_t) does not depend on x_{t-1}, but it does depend on x_t."""
    yield Identity("Bayes", claim.xreplace(ON_PATHS), JOINT / PATHS_T)
    reverse = everywhere(claim, on_chain, lambda c, p: c.given(p.below, p.above, p.label))
    yield Enumeration("finite chains, any two levels", reverse)


def on_powered_chain(power: int, chain: LabelledChain, point: Point) -> Values:
    """The same with the means of q(y | x_0)^power given each level."""
    return {
        **on_chain(chain, point),
        guide_scale: sp.Integer(power),
        twist_prev: chain.mean_power(point.y, power, point.below),
        twist_t: chain.mean_power(point.y, power, point.above),
    }


def true_reverse(power: int, chain: LabelledChain, point: Point) -> sp.Rational:
    """The reverse kernel of the chain whose data have the law q(x_0) q(y | x_0)^power."""
    return chain.powered(point.y, power).given(point.below, point.above)


@formula(
    "guidance.powered_reverse",
    title="the reverse kernel of data with the law q(x_0) q(y | x_0)^κ",
    lhs=sp.Symbol("p"),
    rhs=reverse_density * twist_prev / twist_t,
    citations=("Dhariwal2021:4.3", "S004:§7.2"),
    uses=("guidance.conditional_reverse",),
    decoys=(
        Decoy(
            "powers-of-the-noisy-label", reverse_density * label_prev**guide_scale / label_t**guide_scale,
            "guidance", "the power of a mean where the mean of a power belongs: what scaled guidance does",
            "Dhariwal2021:4.3",
        ),
        Decoy("no-scale", CONDITIONAL, "guidance", "the kernel of κ = 1"),
    ),
)  # fmt: skip
def _powered_reverse(claim: sp.Expr) -> Iterator[Step]:
    """With W all paths to x_{t-1} weighted with q(y | x_0)^κ, its quotient by the density of x_{t-1} is
    the mean h of q(y | x_0)^κ given x_{t-1}; the rest is Bayes' rule, and for κ = 1 it is the kernel given
    the label. Guidance with the scale κ has the power of the mean instead. On finite chains κ is 2 and 3."""
    weighted, weighted_t = positive("W", x_prev), positive("W_t", x_t)
    means = {twist_prev: weighted / DENSITY, twist_t: weighted_t / DENSITY_T}
    yield Identity("Bayes", claim.xreplace({**ON_PATHS, **means}), FORWARD * weighted / weighted_t)
    yield Identity("κ = 1", claim.xreplace({twist_prev: label_prev, twist_t: label_t}), CONDITIONAL)
    for power in (2, 3):
        cases = everywhere(claim, partial(on_powered_chain, power), partial(true_reverse, power))
        yield Enumeration(f"finite chains with the scale {power}", cases)


PRIOR, CLASS = positive("p", x_t), positive("c", x_t)
PRIOR_SCORE, CLASS_SCORE = (sp.diff(sp.log(part), x_t) for part in (PRIOR, CLASS))
GUIDED_SCORE = score + guide_scale * label_score
GUIDED_EPS = eps - guide_scale * sp.sqrt(1 - abar_t) * label_score


# What the scale does.

SIGMOID = 1 / (1 + sp.exp(-log_odds))


@formula(
    "guidance.sharpened",
    title="the power κ of a two-label classifier, normalised over the labels: κ times the log-odds",
    lhs=label_share,
    rhs=1 / (1 + sp.exp(-guide_scale * log_odds)),
    citations=("Dhariwal2021:4.3", "S004:§7.2"),
    decoys=(
        Decoy("not-normalised", SIGMOID**guide_scale, "guidance", "the power alone: it does not sum to one"),
        Decoy("divided", 1 / (1 + sp.exp(-log_odds / guide_scale)), "guidance", "a temperature κ, not 1/κ"),
    ),
)
def _sharpened(claim: sp.Expr) -> Iterator[Step]:
    """The odds of powers are the power of the odds: for κ > 1 the likelier label gains, for κ < 1 it loses.
    Where the odds are even nothing changes."""
    powers = SIGMOID**guide_scale, (1 - SIGMOID) ** guide_scale
    odds = sp.exp(guide_scale * log_odds)
    yield Identity("odds of the powers", claim / (1 - claim), odds)
    yield Identity("even odds", claim.subs(log_odds, 0), sp.Rational(1, 2))
    for power in (2, 3):
        first, second = (part.subs(guide_scale, power) for part in powers)
        whole = claim.subs(guide_scale, power)
        yield Identity(f"normalised over the labels, power {power}", whole * (first + second), first)


@formula(
    "guidance.scaled_gradient",
    title="κ∇log q(y | x_t) is the gradient of a power that is not normalised over the labels",
    lhs=label_score,
    rhs=guide_scale * (1 - SIGMOID) * label_score,
    citations=("Dhariwal2021:4.3", "S004:§7.2"),
    uses=("guidance.sharpened",),
    decoys=(
        Decoy(
            "normalised-over-labels",
            guide_scale * (1 - 1 / (1 + sp.exp(-guide_scale * log_odds))) * label_score, "guidance",
            "the normaliser over the labels taken for a constant of x_t", "S004:§7.2/12",
        ),
    ),
)  # fmt: skip
def _scaled_gradient(claim: sp.Expr) -> Iterator[Step]:
    """For a classifier of two labels with any log-odds, whose gradient is written g: the power over a
    constant has κ times the gradient. Over the sum of the powers, which depends on x_t, it has another one:
    the scale sharpens nothing that is a law over labels."""
    odds = sp.Function("ell", real=True)(x_t)
    gradient = claim.subs({log_odds: odds, label_score: sp.diff(odds, x_t)})
    logarithm = -guide_scale * sp.log(1 + sp.exp(-odds))
    yield Identity("any log-odds", gradient, sp.diff(logarithm, x_t))
