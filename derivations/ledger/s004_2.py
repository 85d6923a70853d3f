r"""S004, chapter 2: scores without energies, a ladder of noise levels, and annealed Langevin sampling.

§2.1/3 and §2.2/1 are what formulas cite; §2.1/4 stands before it in the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import sympy as sp

import derivations
from derivations.annealed import TOTAL
from derivations.kit import Expectation, Identity, Step
from derivations.ledger.checks import (
    Counterexample,
    Definition,
    Erratum,
    Exact,
    NotCheckable,
    Numeric,
    Proved,
    Steps,
)
from derivations.ledger.row import Row
from derivations.symbols import (
    base_step,
    data_mean,
    data_variance,
    rungs,
    sigma,
    sigma_1,
    sigma_L,
    start_mean,
    start_variance,
    steps,
    visited,
    x,
    x_0,
    z,
)

Pairs = Mapping[str, tuple[Exact, Exact]]
ZERO, ONE = sp.Integer(0), sp.Integer(1)
LEVELS = (Fraction(4), Fraction(2), Fraction(1))
STEP, LOOPS = Fraction(1, 2), 3
DATA = ((Fraction(3), Fraction(5)), (Fraction(-1), Fraction(1, 7)), (Fraction(2), Fraction(0)))
"""Means and variances of normal data."""


def _program(levels: Sequence[Fraction], mean: Fraction, variance: Fraction) -> tuple[Fraction, Fraction]:
    """Algorithm 2.1 line by line: the mean and the variance of its state, with the exact score."""
    at, spread = Fraction(0), levels[0] ** 2
    for level in levels:
        epsilon_squared = STEP * (level / levels[-1]) ** 2
        for _ in range(LOOPS):
            slope = 1 - epsilon_squared / 2 / (variance + level**2)
            at = slope * at + epsilon_squared / 2 * mean / (variance + level**2)
            spread = slope**2 * spread + epsilon_squared
    return at, spread


def _closed(mean: Fraction, variance: Fraction) -> tuple[sp.Rational, sp.Rational]:
    at = {
        data_mean: sp.Rational(str(mean)),
        data_variance: sp.Rational(str(variance)),
        sigma_1: sp.Rational(str(LEVELS[0])),
        sigma_L: sp.Rational(str(LEVELS[-1])),
        base_step: sp.Rational(str(STEP)),
        steps: LOOPS,
        rungs: len(LEVELS),
        visited: len(LEVELS),
        start_mean: ZERO,
        start_variance: sp.Rational(str(LEVELS[0] ** 2)),
    }
    found = [derivations.node(f"smld.chain_{name}").closed.subs(at).doit() for name in ("mean", "variance")]
    return found[0], found[1]


def _run(levels: Sequence[Fraction]) -> Pairs:
    pairs: dict[str, tuple[Exact, Exact]] = {}
    for mean, variance in DATA:
        names = (f"{name}, data N({mean}, {variance})" for name in ("mean", "variance"))
        both = zip(_program(levels, mean, variance), _closed(mean, variance), strict=True)
        pairs.update(zip(names, both, strict=True))
    return pairs


def _other_noise() -> Pairs:
    """The slope in x̃ of the best answer to −z/σ_i², for noise of another size and of the size σ_i."""
    level, law = sp.Integer(1), {x_0: (ZERO, ONE), z: (ZERO, ONE)}

    def slope(noise: sp.Expr) -> sp.Expr:
        noised = x_0 + noise * z
        shared = Expectation("", -noise * z / level**2 * noised, law, ZERO).value()
        return shared / Expectation("", noised**2, law, ZERO).value()

    found = slope(sp.Rational(1, 10)), slope(level)
    return {"slope of the score of level σ_i = 1, unit normal data, noise of σ = 1/10": found}


def _level_told(factor: int) -> list[Step]:
    score = -(x - data_mean) / TOTAL
    change = factor * sigma * (x - data_mean) / TOTAL**2
    return [Identity("change of the score with the level", sp.diff(score, sigma), change)]


_MIXTURE = r"\nabla\log p=r\,\nabla\log p_0+(1-r)\,\nabla\log p_1,\qquad r=\frac{\pi p_0}{\pi p_0+(1-\pi)p_1}"

ROWS = (
    Row(
        "S004:§2.1/1",
        "claim",
        "Score matching learns from the score alone and Langevin's chain samples with the score alone, so a "
        "network may give the score and no energy.",
        Proved("score_matching.explicit", "score_matching.denoising", "energy.langevin_step_half"),
        latex=r"s_\theta(x)\approx\nabla_x\log p_{\mathrm{data}}(x)",
        conditions="a network for the score need not be the gradient of anything; both losses are those of "
        "any field",
    ),
    Row(
        "S004:§2.1/2",
        "claim",
        "Of two laws that hardly overlap score matching learns no relative weights, and the samples' shares "
        "do not follow them.",
        Proved(
            "score_matching.weight_divergence",
            "score_matching.weight_bound",
            "score_matching.weight_sensitivity",
            "energy.langevin_invariance",
        ),
        conditions="the divergence between two weights vanishes with the overlap, the integral of √(p_0·p_1) "
        "times the squared difference of the scores. With any overlap the exact score keeps the weights, and "
        "an endless chain of small steps samples them; a chain too short to cross keeps the shares of its "
        "start",
    ),
    Row(
        "S004:2.1",
        "equation",
        "The score of a mixture is the mean of the scores under the posterior of the two laws; it is that of "
        "one law alone where the other has no density.",
        Erratum(
            "score_matching.mixture_score",
            "nearer-law",
            also=("score_matching.weight_bound", "score_matching.weight_sensitivity"),
        ),
        latex=_MIXTURE,
        printed=r"\nabla\log p=\nabla\log p_0\ \text{if}\ p_0>0,\qquad\nabla\log p=\nabla\log p_1\ \text{if}"
        r"\ p_1>0",
        severity="number",
        origin="author",
        effect="Exact for disjoint supports alone, and the laws of the text are almost disjoint: where both "
        "have density the two cases contradict each other. Normal laws of variance 1 at −2 and 2 with the "
        "weights 3/4 and 1/4 have the score −1 at 0; the two cases say −2 and 2. The error is at most the "
        "odds of the other law there, which have the weights in them, times the difference of both scores.",
        notation="π is a weight",
    ),
    Row(
        "S004:§2.1/3",
        "claim",
        "Large noise lets laws that were apart overlap, and then the score has their weights.",
        Proved(
            "score_matching.noised_overlap",
            "score_matching.weight_sensitivity",
            "score_matching.weight_divergence",
        ),
        latex=r"\int\sqrt{q_0q_1}\,\mathrm dx=\exp\left(-\frac{(\mu_0-\mu_1)^2}{8(v+\sigma^2)}\right)",
        conditions="in the form given: normal laws of variance v; the noise must be of the size of their "
        "distance",
    ),
    Row(
        "S004:§2.1/4",
        "claim",
        "Many data have parts that are apart, those of high dimension above all.",
        NotCheckable("an empirical claim without data"),
    ),
    Row(
        "S004:§2.1/5",
        "claim",
        "At small noise the noised law is near the data's, so they can be restored; sampling goes from large "
        "noise to small.",
        Proved("smld.chain_mean", "smld.chain_variance", "smld.denoised_variance", "gaussian.w2"),
        conditions="the noise of the last level stays in the samples; a last denoising takes it away",
    ),
    Row(
        "S004:§2.2/1",
        "formula",
        "The levels fall, and the ratio of neighbours is one number.",
        Proved("smld.ladder"),
        latex=r"\frac{\sigma_1}{\sigma_2}=\dots=\frac{\sigma_{L-1}}{\sigma_L}>1",
    ),
    Row(
        "S004:§2.2/2",
        "formula",
        "The law of a level: data plus normal noise of variance σ_i².",
        Definition("the law of a noise level"),
        latex=r"q_{\sigma_i}(\tilde x)=\int p_{\mathrm{data}}(x)\,\mathcal N(\tilde x;x,\sigma_i^2I)\,"
        r"\mathrm dx",
    ),
    Row(
        "S004:§2.2/3",
        "claim",
        "The first level must be large enough to join the parts of the data, the last one small enough to "
        "leave them as they are.",
        Proved("score_matching.noised_overlap", "gaussian.w2"),
    ),
    Row(
        "S004:§2.2/4",
        "claim",
        "One network serves all levels; the scores of two levels differ, so it must be told the level.",
        Steps(lambda: _level_told(2), lambda: _level_told(0), formulas=("smld.contraction",)),
        latex=r"s_\theta(\tilde x,\sigma_i)\approx\nabla_{\tilde x}\log q_{\sigma_i}(\tilde x)",
        conditions="shown for normal data, whose score falls with the level as 1/(v + σ²)",
    ),
    Row(
        "S004:2.2",
        "equation",
        "The denoising loss of level i: the noise has the variance σ_i², as its target z/σ_i² says; the "
        "printed noise has a σ without index, which is that of S004:1.13.",
        Counterexample(
            _other_noise,
            "the network that is best for noise of one size and the target of another",
            ("smld.loss", "score_matching.denoising"),
        ),
        latex=r"\mathcal L_i=\tfrac12\mathbb E_{p_{\mathrm{data}}}\mathbb E_{z\sim\mathcal N(0,\sigma_i^2I)}"
        r"\left[\left\|s_\theta(x+z,\sigma_i)+\frac z{\sigma_i^2}\right\|^2\right]",
        printed=r"\mathcal L_i=\tfrac12\mathbb E_{p_{\mathrm{data}}}\mathbb E_{z\sim\mathcal N(0,\sigma^2I)}"
        r"\left[\left\|s_\theta(x+z,\sigma_i)+\frac z{\sigma_i^2}\right\|^2\right]",
        severity="breaks",
        origin="author",
        effect="With one σ for all levels the best network is the score of the data with that noise times "
        "σ²/σ_i². The level that is told would then scale the score and change nothing else, and the large "
        "levels would not join what is apart.",
    ),
    Row(
        "S004:§2.2/5",
        "formula",
        "The objective is the mean of the losses of all levels, each with a weight.",
        Proved("smld.loss", "smld.loss_minimum"),
        latex=r"\frac1L\sum_{i=1}^L\lambda_i\mathcal L_i",
        conditions="any positive weights have the same optimum; with λ_i = σ_i² all levels have losses of "
        "one size, at most ½ a coordinate at the optimum for normal data",
    ),
    Row(
        "S004:§2.2/6",
        "claim",
        "Annealed sampling visits the levels from large to small; each begins where the last one ended, and "
        "the steps get smaller.",
        Proved("smld.ladder", "smld.step_size", "smld.chain_mean"),
        latex=r"\epsilon_i^2=s\,\frac{\sigma_i^2}{\sigma_L^2}",
    ),
    Row(
        "S004:alg2.1",
        "algorithm",
        "Annealed Langevin sampling: from N(0, σ_1²I), T steps at each level, with ε_i = √s·σ_i/σ_L, drift "
        "ε_i²/2 times the score and noise ε_i; the last state of a level is the first of the next.",
        Numeric(
            lambda: _run(LEVELS),
            lambda: _run(LEVELS[::-1]),
            30,
            "the algorithm run as printed, in exact moments for three normal laws of the data, against the "
            "closed form",
            ("smld.chain_mean", "smld.chain_variance", "smld.step", "smld.step_size"),
        ),
        latex=r"\tilde x_{t+1}=\tilde x_t+\tfrac{\epsilon_i^2}2s_\theta(\tilde x_t,\sigma_i)+\epsilon_iz_t,"
        r"\qquad\epsilon_i=\sqrt s\,\frac{\sigma_i}{\sigma_L}",
        conditions="s < 4σ_L², or the chain runs away. The samples keep the noise of the last level and a "
        "bias: with σ from 1 to 0.01 in ten levels, T = 100 and s = 0.00002 unit normal data come out with "
        "the variance 1.061, and a point with 0.000105 where σ_L² = 0.0001",
        notation="s is the base step size and s_θ the network; ε_i² is the step size α_i of the paper",
    ),
)
