"""S003: notes after a series of essays, in two notations, and a proposal to skip steps.

Displayed formulas are ``S003:/1`` to ``S003:/16`` in their order. §1 holds what is written within the lines
on the series, §1.1 to §1.3 the claims on its three parts, §2 the proposal.

The notes define α_t = 1 − β_t and ᾱ_t = ∏α_i, the letters of Ho et al., and change in the middle to Su's,
where α_t² + β_t² = 1, ᾱ_t = ∏α_i and β̄_t² = 1 − ᾱ_t². Nothing tells the reader, so what is printed after the
change is read with the letters that are defined.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import sympy as sp

from derivations.ddpm import (
    BETA_TILDE_S,
    MARGINAL_S,
    MARGINAL_T,
    RATIO,
    SKIP_KERNEL,
    SKIP_MEAN,
)
from derivations.kit import Enumeration, Expectation, Identity, Induction, Series, Step
from derivations.ledger.checks import (
    Approximation,
    Definition,
    Erratum,
    NotCheckable,
    Proved,
    Steps,
)
from derivations.ledger.common import collected, linear_levels, one_step_exponent, shown
from derivations.ledger.row import Row
from derivations.symbols import (
    abar_s,
    abar_t,
    data_variance,
    h,
    sigma,
    x,
    x_0,
    x_0_variance,
    x_s,
    x_t,
    z,
)

_SU = (
    "Right in Su's letters, where α_t² + β_t² = 1: his α_t, ᾱ_t and β̄_t are √α_t, √ᾱ_t and √(1−ᾱ_t) of Ho "
    "et al. The notes define only the letters of Ho et al."
)


def _many(linear: int) -> list[Step]:
    kept, level = RATIO, abar_s
    total = kept / (1 - kept) + 1 / (1 - level)
    joined = (1 - kept * level) / (1 - level - kept + kept * level)
    return [
        collected(SKIP_KERNEL * MARGINAL_S / MARGINAL_T, x_s, kept, level, linear),
        Identity("one quotient for the precision", total, joined),
    ]


def _normal_exponent(cross: int) -> list[Step]:
    mean = sp.Symbol("m", real=True)
    square = -((x - mean) ** 2) / (2 * sigma**2)
    opened = -(x**2 / sigma**2 - cross * mean / sigma**2 * x + mean**2 / sigma**2) / 2
    return [Identity("the square opened", square, opened)]


def _products(shift: int) -> list[Step]:
    shares = [Fraction(1), *(1 - Fraction(k, 50) for k in range(1, 9))]

    def product(first: int, last: int) -> Fraction:
        value = Fraction(1)
        for share in shares[first : last + 1]:
            value *= share
        return value

    def cases() -> Iterator[tuple[str, Fraction, Fraction]]:
        for t in range(1, 8):
            for n in range(8 - t):
                level = product(1, t - shift)
                yield f"t = {t}, n = {n}", product(t, t + n), product(1, t + n) / level

    return [Enumeration("product over steps t to t+n", cases)]


_GAIN = sp.sqrt(abar_s) * (1 - RATIO) / (1 - abar_t)
"""Coefficient of x_0 in the skip-step posterior."""


def _estimate(gain: sp.Expr) -> list[Step]:
    """The law of x_s given x_t, against the posterior at the mean of x_0 given x_t."""
    m = sp.Symbol("m", real=True)
    deviation = SKIP_MEAN + sp.sqrt(BETA_TILDE_S) * z - SKIP_MEAN.subs(x_0, m)
    moments = {x_0: (m, x_0_variance), z: (sp.Integer(0), sp.Integer(1))}
    unit = (_GAIN**2 * (1 - abar_t)).subs(abar_t, (1 - h) * abar_s)
    return [
        Expectation("no bias of the mean", deviation, moments, sp.Integer(0)),
        Expectation("variance by total variance", deviation**2, moments, BETA_TILDE_S + gain * x_0_variance),
        Series("unit data: second order in the share h", unit, h, 3, abar_s / (1 - abar_s) * h**2),
    ]


def _one_estimate() -> str:
    kept = linear_levels()
    found = []
    for t in (2, 10, 100, 500):
        missing = (kept[t - 1] - kept[t]) ** 2 / kept[t - 1] / (1 - kept[t])
        found.append(f"{shown(missing / (1 - kept[t] / kept[t - 1]))} at t = {t}")
    return "share of the variance that is missing for unit data, linear schedule, T = 1000: " + ", ".join(
        found
    )


def _estimate_size() -> str:
    kept = linear_levels()
    found = []
    for n in (1, 10, 50, 100):
        s, t = kept[500 - n], kept[500]
        found.append(f"{shown((s - t) / (1 - t))} for n = {n}")
    return "share of the variance that is missing for unit data at t = 500: " + ", ".join(found)


def _whole_chain(power: int) -> list[Step]:
    """Unit data: the deficit of the variance, level by level, times the level is a sum over the steps."""
    total = sp.Symbol("S", nonnegative=True)
    slope = sp.diff(SKIP_MEAN.subs(x_0, sp.sqrt(abar_t) * x_t), x_t)
    deficit = total / abar_t
    after = 1 - slope**2 * (1 - deficit) - BETA_TILDE_S
    begun = (sp.Integer(0), sp.Integer(0))
    term = (abar_s - abar_t) ** power / (1 - abar_t)
    return [
        Identity("the mean at E[x_0 | x_t] = √ᾱ_t·x_t", slope, sp.sqrt(RATIO)),
        Induction("deficit of the variance", begun, (abar_s * after, total + term), {}),
    ]


def _chain_size() -> str:
    kept = linear_levels()
    found = []
    for n in (1, 10, 50, 100, 500, 1000):
        lost = sum(((kept[t - n] - kept[t]) ** 2 / (1 - kept[t]) for t in range(n, 1001, n)), Fraction(0))
        found.append(f"{shown(1 - lost)} for n = {n}")
    return "variance of the samples, true 1, linear schedule, T = 1000: " + ", ".join(found)


def _at_once(variance: sp.Expr) -> list[Step]:
    """x_0 is set to its mean given x_t: the variance of that over x_t."""
    total = abar_t * data_variance + 1 - abar_t
    slope = sp.sqrt(abar_t) * data_variance / total
    unit = {x_t: (sp.Integer(0), total)}
    end = SKIP_MEAN.subs(abar_s, 1)
    return [
        Identity("mean at s = 0", end, x_0),
        Identity("variance at s = 0", BETA_TILDE_S.subs(abar_s, 1), sp.Integer(0)),
        Expectation("variance of the estimate", (slope * x_t) ** 2, unit, variance),
    ]


def _composed(carried: int) -> list[Step]:
    """From t to s and from there to r, given the data, against t to r at once."""
    to_r = {abar_s: _ABAR_R}
    further = {abar_t: abar_s, abar_s: _ABAR_R, x_t: x_s}
    mean, variance = (part.xreplace(further) for part in (SKIP_MEAN, BETA_TILDE_S))
    slope = sp.diff(mean, x_s)
    return [
        Identity("mean in two skips", mean.xreplace({x_s: SKIP_MEAN}), SKIP_MEAN.xreplace(to_r)),
        Identity(
            "variance in two skips",
            slope**carried * BETA_TILDE_S + variance,
            BETA_TILDE_S.xreplace(to_r),
        ),
    ]


_ABAR_R = sp.Symbol("r", positive=True)
_LOSS = (abar_s - abar_t) ** 2 / (abar_s * (1 - abar_t))
_LOSS_WITHOUT_NOISE = (sp.sqrt(abar_s * (1 - abar_t)) - sp.sqrt(abar_t * (1 - abar_s))) ** 2
"""What a step takes of the variance of unit data, with σ_t² = β̃ and with σ_t = 0."""


def _without_noise(share: sp.Rational) -> list[Step]:
    """Slopes of both steps at the exact network for unit data, and the leading term of what they lose."""
    estimate = {x_0: sp.sqrt(abar_t) * x_t}
    noise = sp.sqrt(1 - abar_t) * x_t
    fixed = sp.diff(sp.sqrt(abar_s) * estimate[x_0] + sp.sqrt(1 - abar_s) * noise, x_t)
    random = sp.diff(SKIP_MEAN.subs(estimate), x_t)
    small = {abar_t: (1 - h) * abar_s}
    leading = abar_s / (1 - abar_s) * h**2
    return [
        Identity("lost with noise", 1 - random**2 - BETA_TILDE_S, _LOSS),
        Identity("lost without noise", 1 - fixed**2, _LOSS_WITHOUT_NOISE),
        Series("with noise", _LOSS.subs(small), h, 3, leading),
        Series("without noise", _LOSS_WITHOUT_NOISE.subs(small), h, 3, share * leading),
    ]


def _without_noise_size() -> str:
    kept = [float(level) for level in linear_levels()]
    found = []
    for n in (1, 10, 50, 100):
        variance = 1.0
        for t in range(1000, 0, -n):
            away = math.acos(math.sqrt(kept[t])) - math.acos(math.sqrt(kept[t - n]))
            variance *= math.cos(away) ** 2
        found.append(f"{shown(Fraction(variance))} for n = {n}")
    return "variance of the samples with σ_t = 0 (see S003:§2.1/6 for β̃): " + ", ".join(found)


def _third_moment(power: int) -> list[Step]:
    """x_0 is a with chance p or b, given x_t: third central moments of x_s and of x_0."""
    p, a, b = sp.Symbol("p", positive=True), sp.Symbol("a", real=True), sp.Symbol("b", real=True)

    def third(coefficient: sp.Expr, variance: sp.Expr) -> sp.Expr:
        centre = coefficient * (p * a + (1 - p) * b)
        off = [coefficient * value - centre for value in (a, b)]
        return sum(w * (d**3 + 3 * d * variance) for w, d in zip((p, 1 - p), off, strict=True))

    return [Identity("third central moment", third(_GAIN, BETA_TILDE_S), _GAIN**power * third(sp.S.One, 0))]


_SKIPPED = (
    r"\mathcal N\left(x_{t-n};\ \tilde\mu,\ "
    r"\frac{(1-\alpha_{t-n+1}^{t})(1-\bar\alpha_{t-n})}{1-\bar\alpha_t}\right)"
)
_DENSITY = (
    r"\exp\left(-\tfrac{(x-\mu)^2}{2\sigma^2}\right)=\exp\left(-\tfrac12\left(\tfrac{x^2}{\sigma^2}"
    r"-\tfrac{2\mu}{\sigma^2}x+\tfrac{\mu^2}{\sigma^2}\right)\right)"
)
_BAYES = (
    r"q(x_{t-1}\mid x_t,x_0)=\frac{q(x_t\mid x_{t-1})\,q(x_{t-1}\mid x_0)}{q(x_t\mid x_0)}\propto\exp"
    r"\left(-\tfrac12\left(\left(\tfrac{\alpha_t}{\beta_t}+\tfrac1{1-\bar\alpha_{t-1}}\right)x_{t-1}^2-"
    r"\left(\tfrac{2\sqrt{\alpha_t}}{\beta_t}x_t+\tfrac{2\sqrt{\bar\alpha_{t-1}}}{1-\bar\alpha_{t-1}}x_0"
    r"\right)x_{t-1}\right)\right)"
)
_BAYES_FORMULAS = ("elbo.bayes_step", "ddpm.posterior_mean", "ddpm.posterior_variance")
_FIRST = "t ≥ 2: at t = 1 the exponent divides by 1 − ᾱ_0 = 0, and the posterior is the point x_0"

ROWS = (
    Row(
        "S003:§1.1/1",
        "claim",
        "A diffusion model is a model with latent variables of the size of the data and a fixed inference "
        "path; it is fitted by variational inference, through a lower bound of the log-likelihood.",
        Proved("elbo.evidence_gap", "elbo.three_terms", "vae.hierarchical"),
        latex=r"\log p_\theta(x_0)=K+\mathrm{KL}\left(q(x_{1:T}\mid x_0)\,\|\,p_\theta(x_{1:T}\mid x_0)"
        r"\right)",
    ),
    Row(
        "S003:§1.1/2",
        "claim",
        "Most diffusion models in use go back to DDPM, a simplification of earlier ones.",
        NotCheckable("history"),
    ),
    Row(
        "S003:/1",
        "formula",
        "The chain of states from the data x_0 to x_T, which has the second name z.",
        Definition("the states of the chain"),
        latex=r"x=x_0\rightleftharpoons x_1\rightleftharpoons\dots\rightleftharpoons x_T=z",
        conditions="z is standard normal only as far as ᾱ_T is 0",
    ),
    Row(
        "S003:/2",
        "formula",
        "One step, two steps at once and t steps at once of the forward process, and the law of x_t given "
        "data.",
        Proved("ddpm.one_step", "schedule.one_minus_alpha_bar", "ddpm.transition", "ddpm.marginal"),
        latex=r"x_t=\sqrt{\alpha_t}\,x_{t-1}+\sqrt{1-\alpha_t}\,\epsilon=\sqrt{\bar\alpha_t}\,x_0"
        r"+\sqrt{1-\bar\alpha_t}\,\epsilon'",
        notation="the noise of step t is called ε_{t−1}; a bar on ε marks the sum of two noises, not a "
        "product",
    ),
    Row(
        "S003:§1/1",
        "formula",
        "α_t is 1 − β_t, and ᾱ_t the product of α_1 to α_t.",
        Proved("schedule.alpha_bar_product"),
        latex=r"\alpha_t=1-\beta_t,\qquad\bar\alpha_t=\prod_{i=1}^t\alpha_i",
        notation="the letters of Ho et al.; the only definition of ᾱ in the notes",
    ),
    Row(
        "S003:/3",
        "formula",
        "Bayes' rule turns one step of the forward chain round.",
        Proved("elbo.reversed_kernel"),
        latex=r"q(x_{t-1}\mid x_t)=\frac{q(x_t\mid x_{t-1})\,q(x_{t-1})}{q(x_t)}",
        notation="p is q of Ho et al.: no model enters",
    ),
    Row(
        "S003:§1.1/3",
        "claim",
        "Of the three densities of Bayes' rule only the forward kernel is known: the other two, and so the "
        "reverse kernel, depend on the law of the data.",
        Proved(
            "elbo.reversed_kernel", "guidance.gaussian_reverse_mean", "guidance.gaussian_reverse_variance"
        ),
        latex=r"q(x_{t-1}\mid x_t)\ \text{depends on}\ q(x_0)",
    ),
    Row(
        "S003:/4",
        "formula",
        "Bayes' rule given the data, the Markov property, and the exponent collected by powers of x_{t−1}.",
        Steps(lambda: one_step_exponent(2), lambda: one_step_exponent(1), formulas=_BAYES_FORMULAS),
        latex=_BAYES,
        conditions=_FIRST,
    ),
    Row(
        "S003:/5",
        "formula",
        "Given x_0 the mean of x_{t−1} is √ᾱ_{t−1}·x_0 and that of x_t is √ᾱ_t·x_0: the first two of three "
        "lines have lost the x_0 in the normal law, and set a density equal to a variable.",
        Erratum("ddpm.marginal", "data-missing"),
        latex=r"x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,z\sim"
        r"\mathcal N\left(\sqrt{\bar\alpha_t}\,x_0,\,1-\bar\alpha_t\right)",
        printed=r"p(x_t\mid x_0)=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,z\sim"
        r"\mathcal N\left(\sqrt{\bar\alpha_t},\,1-\bar\alpha_t\right)",
        severity="breaks",
        origin="author",
        effect="Drawn from the normal law as printed, x_t is the same noise around √ᾱ_t for every image: a "
        "network trained on it sees nothing of the data. The left half of the line shows what is meant.",
    ),
    Row(
        "S003:§1/2",
        "formula",
        "The third line of S003:/5 must be the kernel q(x_t | x_{t−1}), with x_{t−1} in the place of x_0; "
        "it is printed as a second law of x_{t−1} given x_0, that of one step.",
        Erratum("ddpm.marginal", "bars-missing", also=("ddpm.one_step",)),
        latex=r"q(x_t\mid x_{t-1})=\mathcal N\left(\sqrt{\alpha_t}\,x_{t-1},\,1-\alpha_t\right)",
        printed=r"p(x_{t-1}\mid x_0)=\sqrt{\alpha_{t-1}}\,x_0+\sqrt{1-\alpha_{t-1}}\,z\sim"
        r"\mathcal N\left(\sqrt{\alpha_{t-1}},\,1-\alpha_{t-1}\right)",
        severity="breaks",
        origin="author",
        effect="At t = 500 of the linear schedule with T = 1000 the noise would have the variance 0.010 "
        "and not 0.92, against the line two above.",
    ),
    Row(
        "S003:/6",
        "formula",
        "The exponent of a normal density as a polynomial: its square has the factor 1/σ², its linear term "
        "−2μ/σ².",
        Steps(lambda: _normal_exponent(2), lambda: _normal_exponent(1)),
        latex=_DENSITY,
    ),
    Row(
        "S003:/7",
        "formula",
        "The posterior is normal; its precision is the sum of two, which gives variance and mean.",
        Proved("ddpm.posterior_variance", "ddpm.posterior_mean"),
        latex=r"\tilde\beta_t=\frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\beta_t,\qquad\tilde\mu_t="
        r"\frac{\sqrt{\alpha_t}(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}x_t"
        r"+\frac{\sqrt{\bar\alpha_{t-1}}\beta_t}{1-\bar\alpha_t}x_0",
        conditions="the two forms at the end hold from t = 1 on, those with 1/(1 − ᾱ_{t−1}) from t = 2 on",
    ),
    Row(
        "S003:/8",
        "formula",
        "The law of x_t given data has mean √ᾱ_t·x_0 and variance 1 − ᾱ_t.",
        Erratum("parameterization.notation_su_alpha_bar", "same-letter", also=("ddpm.marginal",)),
        latex=r"q(x_t\mid x_0)=\mathcal N\left(x_t;\sqrt{\bar\alpha_t}\,x_0,(1-\bar\alpha_t)I\right)",
        printed=r"p(x_t\mid x_0)=\mathcal N\left(x_t;\bar\alpha_t x_0,\bar\beta_t^2I\right)",
        severity="breaks",
        origin="author",
        effect="With the ᾱ_t that is defined, the signal at t = 500 of the linear schedule is 0.079·x_0 "
        "and not 0.280·x_0; β̄_t is defined nowhere.",
        notation=_SU,
    ),
    Row(
        "S003:/9",
        "formula",
        "x_t is √ᾱ_t times data plus √(1−ᾱ_t) times noise.",
        Erratum("ddpm.marginal", "signal-without-root", also=("parameterization.notation_su_alpha_bar",)),
        latex=r"x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\epsilon",
        printed=r"x_t=\bar\alpha_t x_0+\bar\beta_t\varepsilon",
        severity="breaks",
        origin="author",
        effect="Unit data noised in this way have the variance 0.928 at t = 500, and the posterior of "
        "S003:/7 belongs to another process.",
        notation=_SU,
    ),
    Row(
        "S003:/10",
        "formula",
        "The data from x_t and the noise: the difference is divided by √ᾱ_t.",
        Erratum(
            "parameterization.notation_su_alpha_bar", "same-letter", also=("parameterization.x_0_from_eps",)
        ),
        latex=r"x_0=\frac1{\sqrt{\bar\alpha_t}}\left(x_t-\sqrt{1-\bar\alpha_t}\,\epsilon\right)",
        printed=r"x_0=\frac1{\bar\alpha_t}\left(x_t-\bar\beta_t\varepsilon\right)",
        severity="breaks",
        origin="author",
        effect="With the ᾱ_t that is defined the data come out too large, by 1/√ᾱ_t: 3.57 times at t = 500 "
        "of the linear schedule, 157 times at t = 1000.",
        notation=_SU,
    ),
    Row(
        "S003:§1.1/4",
        "claim",
        "Given x_t the noise and the data determine each other, so it is enough to find the noise that the "
        "forward process has added.",
        Proved("parameterization.x_0_from_eps", "parameterization.eps_from_x_0", "ddpm.mean_from_eps"),
        latex=r"x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\epsilon",
        conditions="the noise of all t steps together, not that of step t",
    ),
    Row(
        "S003:/11",
        "formula",
        "The simple loss: the mean square of the noise minus its prediction at x_t, over data, noise and a "
        "uniform t.",
        Proved("ddpm.loss_simple", "ddpm.marginal"),
        latex=r"L_{\mathrm{simple}}=\mathbb E_{t,x_0,\epsilon}\left\|\epsilon-\epsilon_\theta"
        r"\left(\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\epsilon,t\right)\right\|^2",
        notation="ε_t is the noise of all t steps; the index t of L is bound by the mean on the right",
    ),
    Row(
        "S003:§1.2/1",
        "claim",
        "Sampling with DDPM draws noise, so equal inputs do not give equal outputs.",
        Proved("ddpm.step", "ddpm.posterior_variance_bounds", "ddpm.final_step"),
        latex=r"x_{t-1}=\tilde\mu_t+\sigma_t z",
        conditions="in every step but the last, where σ_1 = 0",
    ),
    Row(
        "S003:§1.2/2",
        "claim",
        "DDIM is not DDPM with the random part left out: what σ_t no longer brings, the predicted noise "
        "must, through the coefficient √(1 − ᾱ_{t−1} − σ_t²).",
        Erratum(
            "ddim.deterministic_step", "ddpm-without-noise", also=("ddim.marginals", "ddim.general_step")
        ),
        latex=r"x_{t-1}=\sqrt{\bar\alpha_{t-1}}\,\hat x_0+\sqrt{1-\bar\alpha_{t-1}}\,\epsilon_\theta",
        printed=r"x_{t-1}=\frac1{\sqrt{\alpha_t}}\left(x_t-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\epsilon_"
        r"\theta\right)",
        severity="wording",
        origin="author",
        effect="A sampler that only drops σ_t·z shrinks unit data by √α_t in each step: with the exact "
        "network and the linear schedule the samples have the variance ᾱ_T = 0.00004 in the place of 1. "
        "The formula below (S003:/12) has the right coefficient.",
    ),
    Row(
        "S003:§1.2/3",
        "claim",
        "The law of x_{t−1} given x_t is close to the posterior with the mean of x_0 given x_t in the "
        "place of x_0.",
        Approximation(
            "of the variance ᾱ_{t−1}β_t²/(1−ᾱ_t)² times Var(x_0 | x_t), second order in β_t; none of the "
            "mean",
            _one_estimate,
            formulas=("ddpm.mean_from_x_0", "ddpm.optimal_variance", "ddpm.optimal_variance_bounds"),
        ),
        latex=r"q(x_{t-1}\mid x_t)\approx q\left(x_{t-1}\mid x_t,x_0=\mathrm E[x_0\mid x_t]\right)",
        conditions="σ_t² = β̃_t and the exact mean; at t = 1 the whole variance is missing",
    ),
    Row(
        "S003:/12",
        "formula",
        "The reverse step of the family of DDIM: x_t minus a multiple of the predicted noise, divided by "
        "√α_t, and noise of the variance σ_t².",
        Erratum("ddim.general_step", "su-letters", also=("parameterization.notation_su_alpha",)),
        latex=r"\mathcal N\left(x_{t-1};\tfrac1{\sqrt{\alpha_t}}\left(x_t-\left(\sqrt{1-\bar\alpha_t}-"
        r"\sqrt{\alpha_t}\sqrt{1-\bar\alpha_{t-1}-\sigma_t^2}\right)\epsilon_\theta\right),\sigma_t^2I"
        r"\right)",
        printed=r"\mathcal N\left(x_{t-1};\tfrac1{\alpha_t}\left(x_t-\left(\bar\beta_t-\alpha_t"
        r"\sqrt{\bar\beta_{t-1}^2-\sigma_t^2}\right)\epsilon_\theta\right),\sigma_t^2I\right)",
        severity="breaks",
        origin="author",
        effect="With the α_t that is defined, each step divides by α_t and not by its root: the data grow by "
        "1/√ᾱ_T over the chain, 157 times for the linear schedule with T = 1000.",
        notation=_SU,
    ),
    Row(
        "S003:§1/3",
        "claim",
        "σ_t = 0 gives DDIM.",
        Proved("ddim.deterministic_step", "ddim.general_step"),
        latex=r"\sigma_t=0",
    ),
    Row(
        "S003:§1/4",
        "claim",
        "σ_t = √β̃_t gives DDPM.",
        Erratum(
            "parameterization.notation_su_sigma",
            "step-variance",
            also=("ddim.eta_one_is_ddpm", "ddim.markov_iff"),
        ),
        latex=r"\sigma_t=\sqrt{\frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\beta_t}",
        printed=r"\sigma_t=\frac{\bar\beta_{t-1}\beta_t}{\bar\beta_t}",
        severity="breaks",
        origin="author",
        effect="With the β_t that is defined, σ_t is too small by √β_t: 0.0100 and not 0.1002 at t = 500 "
        "of the linear schedule, nearly the sampler of σ_t = 0.",
        notation=_SU + " His β_t is √β_t.",
    ),
    Row(
        "S003:§1.3/1",
        "claim",
        "DPM-Solver is named, and nothing is said of it.",
        NotCheckable("no statement; the solver's own formulas are solver.dpm_1 to solver.dpm_3"),
    ),
    Row(
        "S003:§2/1",
        "claim",
        "Diffusion models are widely used with excellent results.",
        NotCheckable("an empirical claim without numbers"),
    ),
    Row(
        "S003:/13",
        "formula",
        "α with two indices is the product over the steps t to t+n, both included: n+1 steps, the ratio of "
        "ᾱ_{t+n} to ᾱ_{t−1}.",
        Steps(lambda: _products(1), lambda: _products(0), formulas=("schedule.alpha_bar_product",)),
        latex=r"\alpha_t^{t+n}=\prod_{i=t}^{t+n}\alpha_i=\frac{\bar\alpha_{t+n}}{\bar\alpha_{t-1}}",
    ),
    Row(
        "S003:§2.1/1",
        "formula",
        "n steps from x_{t−n} to x_t keep the product from t−n+1 to t of the signal and add the rest in "
        "noise.",
        Proved("schedule.respaced_beta", "ddpm.transition"),
        latex=r"q(x_t\mid x_{t-n})=\mathcal N\left(\sqrt{\alpha_{t-n+1}^{t}}\,x_{t-n},\,1-"
        r"\alpha_{t-n+1}^{t}\right)",
        conditions="the lower index is t−n+1, as in S003:/15; with t−n there is one factor too many",
    ),
    Row(
        "S003:/14",
        "formula",
        "The posterior of one step once more.",
        Steps(lambda: one_step_exponent(2), lambda: one_step_exponent(1), formulas=_BAYES_FORMULAS),
        latex=_BAYES,
        conditions=_FIRST,
    ),
    Row(
        "S003:§2.1/2",
        "claim",
        "The derivation for one step holds for n steps: t−1 becomes t−n and α_t the product of n factors. "
        "n = 1 gives the posterior of one step.",
        Proved("ddpm.skip_posterior_variance", "ddpm.skip_posterior_mean", "ddpm.skip_step"),
        latex=r"q(x_t\mid x_{t-n},x_0)=q(x_t\mid x_{t-n})",
        conditions="the chain is Markov, as that of DDPM",
    ),
    Row(
        "S003:/15",
        "formula",
        "The skip-step posterior: Bayes' rule, the exponent collected by powers of x_{t−n}, the precision "
        "as one quotient, mean and variance.",
        Steps(
            lambda: _many(2),
            lambda: _many(1),
            formulas=("ddpm.skip_posterior_variance", "ddpm.skip_posterior_mean", "ddpm.transition"),
        ),
        latex=r"q(x_{t-n}\mid x_t,x_0)=" + _SKIPPED + r",\quad\tilde\mu=\frac{\sqrt{\alpha_{t-n+1}^{t}}"
        r"(1-\bar\alpha_{t-n})}{1-\bar\alpha_t}x_t+\frac{\sqrt{\bar\alpha_{t-n}}(1-\alpha_{t-n+1}^{t})}"
        r"{1-\bar\alpha_t}x_0",
        conditions="1 ≤ n < t. At n = t the printed mean divides by 1 − α_1^0 = 0; the form here has the "
        "limit x_0",
        notation="σ_t² depends on n too; the products from 1 are ᾱ",
    ),
    Row(
        "S003:§2.1/3",
        "claim",
        "The limit n = t: the posterior is the point x_0. With the mean of x_0 given x_t in its place one "
        "step ends at that mean, whose variance over x_t is short of that of the data.",
        Steps(
            lambda: _at_once(abar_t * data_variance**2 / (abar_t * data_variance + 1 - abar_t)),
            lambda: _at_once(data_variance),
            formulas=(
                "ddpm.skip_posterior_mean",
                "ddpm.skip_posterior_variance",
                "data.gaussian_posterior_mean",
            ),
        ),
        latex=r"n=t:\quad\tilde\mu=x_0,\ \tilde\beta=0;\qquad\mathrm{Var}\,\mathrm E[x_0\mid x_t]="
        r"\frac{\bar\alpha_tc^2}{\bar\alpha_tc+1-\bar\alpha_t}",
        conditions="the variance is that of Gaussian data of variance c",
    ),
    Row(
        "S003:§2.1/4",
        "claim",
        "With the data predicted from the noise the proposal is the member η = 1 of the family of DDIM on "
        "a sub-sequence of levels, which Nichol and Dhariwal 2021 sample with too. Of the family it is the "
        "one member whose forward chain is Markov.",
        Proved("ddim.eta_one_is_ddpm", "ddim.markov_iff", "ddpm.skip_step", "ddim.sigma"),
        latex=r"\sigma_t^2=\frac{1-\bar\alpha_{t-n}}{1-\bar\alpha_t}\left(1-\frac{\bar\alpha_t}{\bar"
        r"\alpha_{t-n}}\right)",
    ),
    Row(
        "S003:§2.1/5",
        "claim",
        "A step of the proposal with the mean of x_0 given x_t in the place of x_0 has the right mean, and a "
        "variance that is too small.",
        Approximation(
            "ᾱ_{t−n}(1−r)²/(1−ᾱ_t)² times Var(x_0 | x_t) with r = ᾱ_t/ᾱ_{t−n}, second order in the share 1 "
            "− r of the skipped steps",
            _estimate_size,
            lambda: _estimate(_GAIN**2),
            lambda: _estimate(_GAIN),
            formulas=("ddpm.skip_posterior_mean", "ddpm.skip_posterior_variance"),
        ),
        latex=r"\mathrm{Var}(x_{t-n}\mid x_t)-\tilde\beta=\bar\alpha_{t-n}\left(\frac{1-r}{1-\bar\alpha_t}"
        r"\right)^2\mathrm{Var}(x_0\mid x_t)",
        conditions="for every law of the data; a prediction that is not the mean shifts the mean by its "
        "error times √ᾱ_{t−n}(1−r)/(1−ᾱ_t)",
    ),
    Row(
        "S003:§2.1/6",
        "claim",
        "The proposal saves steps: T/n calls of the network. What it costs adds up over the chain.",
        Approximation(
            "of the variance of the samples Σ(ᾱ_s−ᾱ_t)²/(1−ᾱ_t) over the steps from t to s, for unit "
            "Gaussian data, each term of second order in its step",
            _chain_size,
            lambda: _whole_chain(2),
            lambda: _whole_chain(1),
            formulas=("ddpm.skip_posterior_mean", "ddpm.skip_posterior_variance"),
        ),
        latex=r"1-\mathrm{Var}(\hat x_0)=\sum_{s<t}\frac{(\bar\alpha_s-\bar\alpha_t)^2}{1-\bar\alpha_t}",
        conditions="the exact network on standard normal data, started from N(0, 1)",
    ),
    Row(
        "S003:§2.1/7",
        "claim",
        "Given the data, skips compose: a skip from t to s and one from s to r are the skip from t to r, "
        "and n steps of one are one step of n. With x_0 predicted anew at s they are not.",
        Steps(
            lambda: _composed(2),
            lambda: _composed(1),
            formulas=("ddpm.skip_posterior_mean", "ddpm.skip_posterior_variance"),
        ),
        latex=r"\int q(x_r\mid x_s,x_0)\,q(x_s\mid x_t,x_0)\,\mathrm dx_s=q(x_r\mid x_t,x_0)",
        conditions="r < s < t. A sampler that skips is worse than one that does not only because it predicts "
        "x_0 less often: see S003:§2.1/6",
    ),
    Row(
        "S003:§2.1/8",
        "claim",
        "Against DDIM on the same levels: both members of the family lose variance in second order of a "
        "step, the one without noise a quarter of what the proposal loses.",
        Approximation(
            "of second order in the share of the signal that a skip loses: ᾱ_s/(1−ᾱ_s) times its square with "
            "σ_t² = β̃, a quarter of that with σ_t = 0",
            _without_noise_size,
            lambda: _without_noise(sp.Rational(1, 4)),
            lambda: _without_noise(sp.Rational(1, 2)),
            formulas=("ddpm.skip_posterior_mean", "ddim.deterministic_step"),
        ),
        latex=r"1-\mathrm{Var}:\quad\frac{(\bar\alpha_s-\bar\alpha_t)^2}{\bar\alpha_s(1-\bar\alpha_t)}\ "
        r"(\eta=1),\qquad\left(\sqrt{\bar\alpha_s(1-\bar\alpha_t)}-\sqrt{\bar\alpha_t(1-\bar\alpha_s)}"
        r"\right)^2\ (\eta=0)",
        conditions="the exact network on unit Gaussian data; the quarter where 1 − r is small against 1 − "
        "ᾱ_s, so not in the last skips",
    ),
    Row(
        "S003:§2.1/9",
        "claim",
        "A step with one estimate of x_0 is normal and misses the shape of x_{t−n} given x_t, whose third "
        "central moment is that of x_0 given x_t times the cube of the coefficient of x_0.",
        Steps(
            lambda: _third_moment(3),
            lambda: _third_moment(2),
            formulas=("ddpm.skip_posterior_mean", "ddpm.skip_posterior_variance"),
        ),
        latex=r"\mu_3(x_{t-n}\mid x_t)=\left(\frac{\sqrt{\bar\alpha_{t-n}}(1-r)}{1-\bar\alpha_t}\right)^3"
        r"\mu_3(x_0\mid x_t)",
        conditions="shown for data that are one of two points; nothing is missed for Gaussian data. No "
        "choice of σ_t mends it, only shorter skips, whose coefficient is of first order in 1 − r",
    ),
    Row(
        "S003:/16",
        "formula",
        "The exponent of a normal density as a polynomial, once more.",
        Steps(lambda: _normal_exponent(2), lambda: _normal_exponent(1)),
        latex=_DENSITY,
    ),
    Row(
        "S003:§2.2/1",
        "claim",
        "Six directions of research: other tasks, video, three dimensions, hybrid models, more conditions, "
        "efficiency.",
        NotCheckable("plans, no statements"),
    ),
)
