"""A linear classifier of Gaussian data at every level: the probability to be on one side of a line.

The label has the probability Φ(b·x_0 + b_0) given the data N(m, c), with Φ the normal distribution function.
Its classifier stays of this form at every noise level, while the law of the data given the label is not
normal: a test bed whose guidance is not affine and whose target is known.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations.data import LEFT
from derivations.guided_gaussian import GIVEN_T, MEAN_GIVEN_T, MOMENTS, X_0_GAIN
from derivations.kit import Decoy, Identity, Integral, Step, formula, normal
from derivations.symbols import (
    data_mean,
    data_variance,
    label_offset,
    label_score,
    label_t,
    tilt,
    x,
    x_0,
    x_t,
)


def below(argument: sp.Expr) -> sp.Expr:
    """The normal distribution function."""
    return (1 + sp.erf(argument / sp.sqrt(2))) / 2


def bell(argument: sp.Expr) -> sp.Expr:
    """The standard normal density."""
    return sp.exp(-(argument**2) / 2) / sp.sqrt(2 * sp.pi)


def margin(mean: sp.Expr, variance: sp.Expr) -> sp.Expr:
    """How many standard deviations a normal variable's image is from the line."""
    return (tilt * mean + label_offset) / sp.sqrt(1 + tilt**2 * variance)


PROBABILITY = below(margin(*MOMENTS))
MARGIN_T = margin(MEAN_GIVEN_T, LEFT)


@formula(
    "guidance.probit_label",
    title="probability of the label of a linear classifier given x_t",
    lhs=label_t,
    rhs=below(MARGIN_T),
    citations=("Bishop2006:4.152",),
    reference="refdiff.guided_gaussian:ProbitClassifier",
    uses=("data.gaussian_posterior_mean", "data.gaussian_posterior_variance"),
    decoys=(
        Decoy(
            "point-estimate", below(tilt * MEAN_GIVEN_T + label_offset), "guidance",
            "the predicted data taken for the data: their variance is missing", "S004:§7.4/9",
        ),
        Decoy(
            "noisy-for-clean", below(tilt * x_t + label_offset), "guidance",
            "the classifier of data asked about x_t", "S004:§7.4/3",
        ),
        Decoy(
            "std", below((tilt * MEAN_GIVEN_T + label_offset) / (1 + tilt**2 * LEFT)), "sqrt",
            "the variance where its root belongs",
        ),
    ),
)  # fmt: skip
def _probit_label(claim: sp.Expr) -> Iterator[Step]:
    """Let the data given x_t be N(e, v). Moving e, the probability changes by b times the mean of a normal
    density, which is a normal density again. Where be + b_0 = 0 the probability is one half by symmetry, and
    for b = 0 it does not depend on e: the derivative and one value fix the function."""
    mean, variance = MOMENTS
    yield Identity("at the moments of the data given x_t", claim, PROBABILITY.xreplace(GIVEN_T))
    density = normal(sp.Integer(0), tilt * mean + label_offset, 1 + tilt**2 * variance)
    line = normal(sp.Integer(0), tilt * x_0 + label_offset, sp.Integer(1))
    yield Integral("the mean of the density", normal(x_0, mean, variance) * line, x_0, density)
    changed = tilt * density.factor * sp.exp(density.exponent)
    yield Identity("the derivative in e", sp.diff(PROBABILITY, mean), changed)
    on_line = PROBABILITY.subs(label_offset, -tilt * mean)
    yield Identity("one half on the line", on_line, sp.Rational(1, 2))
    yield Identity("no slope", PROBABILITY.subs(tilt, 0), below(label_offset))


@formula(
    "guidance.probit_gradient",
    title="gradient of the log-probability of that label",
    lhs=label_score,
    rhs=tilt * X_0_GAIN / sp.sqrt(1 + tilt**2 * LEFT) * bell(MARGIN_T) / below(MARGIN_T),
    reference="refdiff.guided_gaussian:ProbitClassifier",
    uses=("guidance.probit_label",),
    decoys=(
        Decoy(
            "no-chain-rule", tilt / sp.sqrt(1 + tilt**2 * LEFT) * bell(MARGIN_T) / below(MARGIN_T),
            "guidance", "the gradient at the predicted data",
        ),
        Decoy(
            "not-of-the-log", tilt * X_0_GAIN / sp.sqrt(1 + tilt**2 * LEFT) * bell(MARGIN_T), "guidance",
            "the gradient of the probability, not of its logarithm",
        ),
    ),
)  # fmt: skip
def _probit_gradient(claim: sp.Expr) -> Iterator[Step]:
    """The derivative of the logarithm."""
    yield Identity("derivative", claim, sp.diff(sp.log(below(MARGIN_T)), x_t))


MARGIN_0 = margin(data_mean, data_variance)


@formula(
    "guidance.probit_mean",
    title="mean of the data given that label: what the guided sampler must reach",
    lhs=x_0,
    rhs=data_mean
    + tilt * data_variance / sp.sqrt(1 + tilt**2 * data_variance) * bell(MARGIN_0) / below(MARGIN_0),
    citations=("Azzalini1985",),
    reference="refdiff.guided_gaussian:ProbitClassifier",
    uses=("guidance.probit_label", "guidance.mean_shift_exact"),
    decoys=(
        Decoy("prior", data_mean, "guidance", "the label is not used"),
        Decoy(
            "linear", data_mean + tilt * data_variance * bell(tilt * data_mean + label_offset)
            / below(tilt * data_mean + label_offset), "guidance",
            "the variance times the gradient at the mean: one linear shift from data to data", "S004:7.10",
        ),
    ),
)  # fmt: skip
def _probit_mean(claim: sp.Expr) -> Iterator[Step]:
    """Stein's identity: the mean moves by the variance times the mean gradient, which is the derivative of
    the label's log-probability in the mean of the data. Pointwise, x minus m times the density and the
    classifier is a derivative plus the variance times the density and the slope of the classifier."""
    at_data = below(tilt * x + label_offset)
    density = sp.exp(-((x - data_mean) ** 2) / (2 * data_variance))
    moved = data_variance * density * sp.diff(at_data, x)
    total = -data_variance * sp.diff(density * at_data, x)
    yield Identity("a total derivative", (x - data_mean) * density * at_data, total + moved)
    label = below(MARGIN_0)
    yield Identity("the mean gradient", claim, data_mean + data_variance * sp.diff(label, data_mean) / label)
