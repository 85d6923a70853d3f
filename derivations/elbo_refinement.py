"""What more steps, and smaller ones, do to the bound: part of the topic ``elbo``.

Two statements pull apart. Leaving a level out of a given model never raises the divergence (``coarsening``):
more latents alone do not help. A model that predicts the data from x_t gains from a level between, as far as
the data are better seen there (``refinement``), and the best prediction is (``refinement_optimal``). Why a
normal reverse kernel is enough for small steps, and to which order, is ``small_step``.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import log, sqrt

from derivations.chains import Case, Logs, Pair, Path, compared, instances, p, path_cases, q, value, x
from derivations.ddpm import BETA_TILDE_S, DATA_GAIN, DATA_POSTERIOR_VARIANCE, SKIP_MEAN
from derivations.kit import (
    Decoy,
    Enumeration,
    Expectation,
    Identity,
    Inequality,
    Series,
    Step,
    formula,
)
from derivations.kit.zero import close
from derivations.symbols import (
    T,
    abar_prev,
    abar_s,
    abar_t,
    beta,
    data_mean,
    data_variance,
    error_prev,
    error_t,
    guess_prev,
    guess_t,
    h,
    scaled,
    score,
    score_curvature,
    score_slope,
    t,
    x_0,
    x_prev,
    x_t,
    z,
)

REST = sp.Tuple(x(0, t - 2), x(t, T))
"""Every level but t − 1."""
WITHOUT = log(q(REST) / p(REST))
NEIGHBOURS = (x(t - 2), x(t))
LEFT_OUT = log(q(x(t - 1), *NEIGHBOURS) / p(x(t - 1), *NEIGHBOURS))


@formula(
    "elbo.coarsening",
    title="the divergence of a path: that without a level, plus that of the level given its neighbours",
    lhs=log(q(x(0, T)) / p(x(0, T))),
    rhs=WITHOUT + LEFT_OUT,
    citations=("S004:§6/9",),
    reference="refdiff.elbo:merge",
    uses=("elbo.path_divergence", "elbo.reversed_kernel", "elbo.jensen"),
    decoys=(
        Decoy("nothing-lost", WITHOUT, "likelihood", "leaving a level out changes nothing"),
        Decoy("raised", WITHOUT - LEFT_OUT, "sign", "leaving a level out raises the divergence"),
        Decoy(
            "one-neighbour", WITHOUT + log(q(x(t - 1), x(t)) / p(x(t - 1), x(t))), "likelihood",
            "the level given the one above only",
        ),
    ),
)  # fmt: skip
def _coarsening(claim: sp.Expr) -> Iterator[Step]:
    """The product rule for both laws; given all other levels a state depends on its two neighbours, since
    both chains are Markov. The second mean is a divergence, so it is not negative: data processing. A model
    whose kernels are merged keeps its law of the other levels, and its bound can only get tighter."""
    every = {law(x(t - 1), *NEIGHBOURS): law(x(0, T)) / law(REST) for law in (q, p)}
    yield Identity("product rule, twice", claim.xreplace(every), log(q(x(0, T)) / p(x(0, T))))
    yield Enumeration("on every path", lambda: path_cases(claim, log(q(x(0, T)) / p(x(0, T))), 2))


def snr(level: sp.Expr) -> sp.Expr:
    """Signal-to-noise ratio of a level."""
    return level / (1 - level)


def weight(high: sp.Expr, low: sp.Expr) -> sp.Expr:
    """What a squared error of the data costs in a step from one level to a less noised one, with β̃."""
    of_mean = sp.diff(SKIP_MEAN, x_0) ** 2 / (2 * BETA_TILDE_S)
    return close(of_mean).subs({abar_t: high, abar_s: low}, simultaneous=True)


REFINEMENT = (snr(abar_s) - snr(abar_prev)) / 2 * (error_t - error_prev)


@formula(
    "elbo.refinement",
    title="what a level between gains, for a model that predicts the data and has the variance β̃",
    lhs=sp.Symbol("gained"),
    rhs=REFINEMENT,
    citations=("Kingma2021vdm", "S004:§6/9"),
    reference="refdiff.elbo:refinement_gain",
    uses=("ddpm.loss_weight_snr", "ddpm.skip_posterior_mean", "ddpm.skip_posterior_variance"),
    assumptions=(sp.Lt(abar_prev, abar_s),),
    decoys=(
        Decoy("errors-exchanged", -REFINEMENT, "sign", "a better prediction costs more"),
        Decoy(
            "lower-half", (snr(abar_prev) - snr(abar_t)) / 2 * (error_t - error_prev), "index",
            "the noisier half of the step, where the prediction stays the same",
        ),
        Decoy(
            "whole-step", (snr(abar_s) - snr(abar_t)) / 2 * (error_t - error_prev), "index",
            "the better prediction in both halves of the step",
        ),
        Decoy(
            "not-halved", 2 * REFINEMENT, "loss-weight", "the half of the divergence is forgotten"
        ),
    ),
)  # fmt: skip
def _refinement(claim: sp.Expr) -> Iterator[Step]:
    """A step costs half the signal-to-noise ratio that it passes, times the mean squared error of the data
    as predicted where it starts. With a level between, the noisier half costs the same as before, and the
    other half is paid with the error there. The bound gets better exactly when that error is smaller. The
    step to the data, whose ratio is infinite, is L_0 and stays apart."""
    coarse = weight(abar_t, abar_s) * error_t
    fine = weight(abar_prev, abar_s) * error_prev + weight(abar_t, abar_prev) * error_t
    yield Identity("a step's weight", weight(abar_t, abar_s), (snr(abar_s) - snr(abar_t)) / 2)
    yield Identity("one step against two", coarse - fine, claim)
    yield Inequality("the ratio falls", sp.diff(claim, error_t), ">", sp.Integer(0))


GAINED = (guess_prev - guess_t) ** 2


@formula(
    "elbo.refinement_optimal",
    title="the best prediction errs less where there is less noise: by the mean square of its move",
    lhs=sp.Symbol("moved", nonnegative=True),
    rhs=GAINED,
    citations=("Kingma2021vdm",),
    reference="refdiff.elbo:FiniteChain",
    uses=("elbo.refinement",),
    decoys=(
        Decoy("squares", guess_t**2 - guess_prev**2, "sign", "the mean squares the wrong way round"),
        Decoy("negative", -GAINED, "sign", "the noisier state sees the data better"),
        Decoy("not-squared", guess_prev - guess_t, "sqrt", "the difference of the predictions, of mean 0"),
    ),
)
def _refinement_optimal(claim: sp.Expr) -> Iterator[Step]:
    """What is left of the difference of the squared errors has mean 0: it is linear in x_0 and vanishes at
    E[x_0|x_{t−1}], which is E[x_0|x_{t−1}, x_t] since the chain is Markov. So the bound of the best
    prediction never gets worse under refinement, for any data and any kernel that adds noise in steps."""
    rest = (x_0 - guess_t) ** 2 - (x_0 - guess_prev) ** 2 - claim
    yield Identity("linear in the data", sp.diff(rest, x_0, 2), sp.Integer(0))
    yield Identity("0 at its mean given both states", rest.subs(x_0, guess_prev), sp.Integer(0))
    moved = sp.Symbol("moved", real=True)
    yield Inequality("never negative", claim.subs(guess_prev, guess_t + moved), ">=", sp.Integer(0))
    yield Enumeration("mean squared errors on chains", lambda: error_cases(claim))


def guess(pair: Pair, path: Path, level: int) -> sp.Rational:
    """The mean of x_0, its states numbered, given the state of a path at a level."""
    states = {other[0]: other for other in pair.q.paths((0, level)) if other[level] == path[level]}
    means = (state * pair.q.given(other, (0,), (level,)) for state, other in states.items())
    return sp.Rational(str(sum(means)))


def error_cases(claim: sp.Expr) -> Iterator[Case]:
    """The loss in mean squared error from a level to the next one, and the mean of the claim."""
    for label, pair, now, _ in instances(t, T):
        drop, mean = Logs(), Logs()
        for path, probability in pair.q.weights.items():
            before, after = (guess(pair, path, int(now) - k) for k in (1, 0))
            errors = (path[0] - after) ** 2 - (path[0] - before) ** 2
            drop += Logs(probability) * value(errors, pair, path)
            exact = claim.subs({guess_prev: before, guess_t: after}, simultaneous=True)
            mean += Logs(probability) * value(exact, pair, path)
        yield from compared(label, drop, mean)


DROP = (
    data_variance**2
    * (abar_prev - abar_t)
    / ((abar_t * data_variance + 1 - abar_t) * (abar_prev * data_variance + 1 - abar_prev))
)


@formula(
    "elbo.refinement_gaussian",
    title="how much less the best prediction of Gaussian data errs one level earlier",
    lhs=error_t - error_prev,
    rhs=DROP,
    reference="refdiff.elbo:gaussian_error_drop",
    uses=("elbo.refinement_optimal", "data.gaussian_posterior_variance"),
    decoys=(
        Decoy("variance-once", DROP / data_variance, "variance", "the variance of the data not squared"),
        Decoy(
            "signal-only", DATA_POSTERIOR_VARIANCE * (1 - abar_t / abar_prev), "index",
            "the share of the signal that the step removes",
        ),
    ),
)
def _refinement_gaussian(claim: sp.Expr) -> Iterator[Step]:
    """The variance of the data given x_t, at two levels; and the mean square by which the best prediction
    moves when a step is made."""
    before = DATA_POSTERIOR_VARIANCE.subs(abar_t, abar_prev)
    yield Identity("two posterior variances", DATA_POSTERIOR_VARIANCE - before, claim)
    step = sqrt(abar_t / abar_prev) * x_prev + sqrt(1 - abar_t / abar_prev) * z
    guesses = (
        data_mean + gain * (state - sqrt(level) * data_mean)
        for gain, state, level in (
            (DATA_GAIN.subs(abar_t, abar_prev), x_prev, abar_prev),
            (DATA_GAIN, step, abar_t),
        )
    )
    moved = next(guesses) - next(guesses)
    law = (sqrt(abar_prev) * data_mean, abar_prev * data_variance + 1 - abar_prev)
    noise = (sp.Integer(0), sp.Integer(1))
    yield Expectation("the prediction moves", moved**2, {x_prev: law, z: noise}, claim)
    yield Inequality("it errs less", claim, ">", sp.Integer(0))


SMALL_STEP = (
    -(scaled**2) / 2
    + sqrt(beta) * scaled * (score + x_t / 2)
    + beta * (scaled**2 * (1 + score_slope) / 2 - x_t**2 / 8)
    + beta ** sp.Rational(3, 2) * (score_curvature * scaled**3 / 6 - x_t * scaled / 8)
)


@formula(
    "elbo.small_step",
    title="log of the reverse kernel for a small step, for data of any density, up to O(β²)",
    lhs=sp.Symbol("log_reverse"),
    rhs=SMALL_STEP,
    citations=("S004:§3.3/1", "S004:§6/4", "Sohl-Dickstein2015:§2.2", "Feller1949"),
    uses=("ddpm.one_step", "elbo.reversed_kernel"),
    decoys=(
        Decoy(
            "forward-kernel", SMALL_STEP.subs({score: 0, score_slope: 0, score_curvature: 0}), "likelihood",
            "the density of the data does not tilt the kernel at all",
        ),
        Decoy(
            "exactly-gaussian", SMALL_STEP.subs(score_curvature, 0), "likelihood",
            "Gaussian to this order too, as if the step need not be small", "S004:§6/2",
        ),
        Decoy("score-of-order-beta", SMALL_STEP.subs(score, sqrt(beta) * score), "sqrt", "β·u·score"),
    ),
)  # fmt: skip
def _small_step(claim: sp.Expr) -> Iterator[Step]:
    """q(x_{t−1}|x_t) is q(x_t|x_{t−1}) times the density of x_{t−1}, up to a factor free of x_{t−1}.
    Put x_{t−1} = x_t + √β·u and expand in √β, ℓ being the log-density and thrice differentiable. Up to
    order β it is quadratic in u, so normal, with the mean shifted by the score: the form of the forward
    kernel. The first term that no normal density has is β^(3/2)·ℓ'''(x_t)·u³/6; for Gaussian data it is
    absent. ℓ is taken at x_t, so nothing is asked of the law of x_t."""
    ell = sp.Function("ell", real=True)
    density = {
        score: ell(x_t).diff(x_t), score_slope: ell(x_t).diff(x_t, 2), score_curvature: ell(x_t).diff(x_t, 3)
    }  # fmt: skip
    by_root = sp.expand(claim.xreplace(density).subs(beta, h**2))
    # (x_t - sqrt(1-h²)(x_t + h u))/h, with the quotient 1 - sqrt(1-h²) over h written out
    residual = x_t * h / (1 + sqrt(1 - h**2)) - sqrt(1 - h**2) * scaled
    joint = -(residual**2) / 2 + ell(x_t + h * scaled) - ell(x_t)
    for order in range(4):
        term = sp.diff(joint, h, order).subs(h, 0).doit() / sp.factorial(order)
        claimed = sp.diff(by_root, h, order).subs(h, 0).doit() / sp.factorial(order)
        yield Identity(f"order {order} in √β", term, claimed)
    exponent = (x_t - sqrt(1 - h**2) * (x_t + h * scaled)) ** 2 / h**2
    yield Identity("the quotient by β", exponent, residual**2)
    cubic = (sp.diff(claim, scaled, 3), beta ** sp.Rational(3, 2) * score_curvature)
    yield Identity("the first term that is not quadratic", *cubic)
    yield Identity("nothing of higher order is claimed", sp.diff(by_root, h, 4), sp.Integer(0))


HERMITE = scaled**3 - 3 * scaled
SKEW = sp.Symbol("k", real=True)


@formula(
    "elbo.small_step_divergence",
    title="divergence of the reverse kernel of a small step from the best normal one, to leading order",
    lhs=sp.Symbol("kl", nonnegative=True),
    rhs=beta**3 * score_curvature**2 / 12,
    citations=("S004:§3.3/1",),
    uses=("elbo.small_step",),
    decoys=(
        Decoy("second-order", beta**2 * score_curvature**2 / 12, "discretization", "β² where β³ belongs"),
        Decoy("shift-left-in", 5 * beta**3 * score_curvature**2 / 24, "likelihood", "the mean square of u³"),
    ),
)
def _small_step_divergence(claim: sp.Expr) -> Iterator[Step]:
    """A formal expansion: its remainder is assumed to be integrable. u³ is a Hermite polynomial plus 3u,
    and 3u is a shift, which a normal kernel can follow; the polynomial itself is orthogonal to everything
    quadratic, so no normal kernel follows it. With δ the relative deviation of the density, of mean 0, the
    divergence is the mean of (1+δ)·log(1+δ), half its square. About 1/β such steps make a chain: together
    they lose O(β²)."""
    unit = {scaled: (sp.Integer(0), sp.Integer(1))}
    a, b, d, rest = sp.symbols("a b d r", real=True)
    cube = score_curvature / 6
    half_square = (SKEW * HERMITE) ** 2 / 2
    yield Expectation("its mean", half_square.subs(SKEW, cube), unit, claim / beta**3)
    yield Identity("a shift and a Hermite polynomial", cube * scaled**3, cube * (HERMITE + 3 * scaled))
    followed = a + b * scaled + d * (scaled**2 - 1)
    left = 6 * SKEW**2 + a**2 + b**2 + 2 * d**2
    yield Expectation("no normal kernel follows it", (SKEW * HERMITE - followed) ** 2, unit, left)
    yield Series("half the square of δ", (1 + h) * log(1 + h) - h, h, 3, h**2 / 2)
    delta = h**3 * (SKEW * HERMITE + h * rest)
    yield Series("δ is of order β^(3/2)", delta**2 / 2, h, 7, h**6 * (SKEW * HERMITE) ** 2 / 2)
