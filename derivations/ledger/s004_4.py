"""S004, chapter 4: DDPM. Its algorithms are run as they are printed, on laws whose perfect network is known.

The text writes the densities of one pixel. N(m, v) names no variable; it is that on the left of the bar.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise, product

import sympy as sp

from derivations.ddpm import MEAN_FROM_EPS, POSTERIOR_MEAN, X_0_FROM_EPS
from derivations.kit import Expectation, Identity, Step
from derivations.ledger.checks import (
    Approximation,
    Convention,
    Counterexample,
    Definition,
    Erratum,
    Exact,
    NotCheckable,
    Numeric,
    Proved,
    Steps,
)
from derivations.ledger.common import linear_levels, shown
from derivations.ledger.row import Row
from derivations.symbols import abar_prev, abar_t, alpha_t, beta_t, x_0, x_prev, x_t

_PLACES = 10**60
UNIT = (sp.Integer(0), sp.Integer(1))


def _short(value: Fraction) -> Fraction:
    return Fraction(round(value * _PLACES), _PLACES)


def _pixels(covariance: sp.Expr) -> list[Step]:
    """Two pixels of x_t: their noise, and all of them for data of unit variance and correlation ρ."""
    rho = sp.Symbol("rho", real=True)
    first, second, own, other = sp.symbols("u w e_1 e_2", real=True)
    laws = dict.fromkeys((first, second, own, other), UNIT)
    step = beta_t * own * other
    data = (first, rho * first + sp.sqrt(1 - rho**2) * second)
    signal, noise = sp.sqrt(abar_t), sp.sqrt(1 - abar_t)
    together = (signal * data[0] + noise * own) * (signal * data[1] + noise * other)
    return [
        Expectation("given x_{t-1} two pixels do not vary together", step, laws, sp.Integer(0)),
        Expectation("but their data do", together, laws, covariance * rho),
    ]


def _two_steps(total: sp.Expr) -> list[Step]:
    """Two steps as one, by the shares a = 1 − β: the sum of both, and the variance of its noises."""
    a_1, a_2 = (sp.Symbol(name, positive=True) for name in ("a_1", "a_2"))
    e_1, e_2 = (sp.Symbol(name, real=True) for name in ("e_1", "e_2"))
    first = sp.sqrt(a_1) * x_0 + sp.sqrt(1 - a_1) * e_1
    both = sp.sqrt(a_2) * first + sp.sqrt(1 - a_2) * e_2
    printed = sp.sqrt(a_1 * a_2) * x_0 + sp.sqrt(a_2 * (1 - a_1)) * e_1 + sp.sqrt(1 - a_2) * e_2
    noise = {e_1: UNIT, e_2: UNIT}
    claimed = total.subs({abar_prev: a_1, alpha_t: a_2}, simultaneous=True)
    return [
        Identity("x_1 put into x_2", both, printed),
        Expectation("the variances add", (printed - printed.subs({e_1: 0, e_2: 0})) ** 2, noise, claimed),
    ]


def _gamma_levels() -> Mapping[str, tuple[Exact, Exact]]:
    """The product of an arithmetic progression is a quotient of two values of the gamma function."""
    kept, found = linear_levels(), {}
    rise = sp.Rational(199, 10_000) / 999
    start = sp.Rational(9999, 10_000) / rise
    for t in (1, 250, 500, 750, 1000):
        log = t * sp.log(rise) + sp.loggamma(start + 1) - sp.loggamma(start + 1 - t)
        found[f"ᾱ_{t}"] = kept[t], sp.Rational(str(sp.N(sp.exp(sp.N(log, 60)), 30)))
    return found


def _exponential_levels() -> Mapping[str, tuple[Exact, Exact]]:
    kept, total, found = linear_levels(), Fraction(0), {}
    for t in range(1, 1001):
        total += Fraction(1, 10_000) + Fraction(t - 1, 999) * Fraction(199, 10_000)
        if t in (250, 500, 1000):
            found[f"e^-Σβ at {t}"] = (
                kept[t],
                sp.Rational(str(sp.N(sp.exp(-sp.Rational(total.numerator, total.denominator)), 30))),
            )
    return found


def _prior_size() -> str:
    last = linear_levels()[1000]
    level = sp.Rational(last.numerator, last.denominator)
    nats = sp.N((-sp.log(1 - level)) / 2, 30)
    return (
        f"ᾱ_1000 = {shown(last)} for the linear schedule: {sp.N(nats, 3)} nats a pixel with x_0² = 1, "
        f"{sp.N(nats * 3 * 256**2, 3)} nats for an image of 256 × 256 × 3 such values"
    )


def _exponent_forms() -> Mapping[str, tuple[Exact, Exact]]:
    """E of one step at x_0 = x_{t-1} = x_t = 1 with α_t = 9/25 and ᾱ_{t-1} = 16/25, whose roots are exact."""
    prev, one = Fraction(16, 25), Fraction(9, 25)
    level, beta = prev * one, 1 - one
    first = (1 - prev) / (1 - level) * (1 + one - 2 * Fraction(3, 5))
    second = beta / (1 - level) * (1 + prev - 2 * Fraction(4, 5))
    third = beta * (1 - prev) / (1 - level) ** 2 * (1 + level - 2 * Fraction(12, 25))
    from_x_0 = Fraction(4, 5) * beta / (1 - level)
    from_x_t = Fraction(12, 25) * (1 - prev) / (1 - level)
    at = "E at x_0 = x_{t−1} = x_t = 1, α_t = 9/25, ᾱ_{t−1} = 16/25"
    return {at: ((1 - from_x_0 - from_x_t) ** 2, first + second - third)}


def _exponent_steps() -> list[Step]:
    """The first form of E, which is printed right, is a square: with √α_t in the last term."""
    lost, before = 1 - abar_t, 1 - abar_prev
    first = before / lost * (x_t**2 + alpha_t * x_prev**2 - 2 * sp.sqrt(alpha_t) * x_prev * x_t)
    second = beta_t / lost * (x_prev**2 + abar_prev * x_0**2 - 2 * sp.sqrt(abar_prev) * x_0 * x_prev)
    third = beta_t * before / lost**2 * (x_t**2 + abar_t * x_0**2 - 2 * sp.sqrt(abar_t) * x_0 * x_t)
    return [Identity("the square completed", first + second - third, (x_prev - POSTERIOR_MEAN) ** 2)]


def _learned_share() -> Mapping[str, tuple[Exact, Exact]]:
    """Standard normal data have β_t as the best variance of a reverse step: what β̃_t is of it."""
    kept = linear_levels()
    return {
        f"variance that minimises L_{t - 1} over β_{t}, standard normal data, linear, t = {t}": (
            (1 - kept[t - 1]) / (1 - kept[t]),
            Fraction(1),
        )
        for t in (2, 10)
    }


def _rectangle_size() -> str:
    """log of density times width over the probability of the bin, for σ_1 = √β_1 = 1/100."""
    half, found = sp.Rational(100, 255), []
    root = sp.sqrt(2)
    for place in (0, 3):
        mass = (sp.erfc((place - half) / root) - sp.erfc((place + half) / root)) / 2
        density = sp.exp(-(sp.Integer(place) ** 2) / 2) / sp.sqrt(2 * sp.pi)
        found.append(f"{sp.N(sp.log(2 * half * density / mass), 3)} nats at {place} deviations")
    edge = sp.erfc(-half / root) / 2
    lost = sp.N(sp.log(edge / (2 * half / sp.sqrt(2 * sp.pi))), 3)
    return (
        f"with σ_1 = 1/100 the rectangle exceeds the logarithm by {found[0]} and by {found[1]}; the ends "
        f"left out cost {lost} nats for a pixel at ±1 whose mean is there"
    )


def _own_pixel() -> Mapping[str, tuple[Exact, Exact]]:
    """Least loss of the noise of two equal pixels of unit variance at ᾱ_1, each from its own or both."""
    level = 1 - Fraction(1, 10_000)
    along = 2 * level / (2 * level + 1 - level)
    return {"least Σ(ε − ε_θ)² over two equal pixels, unit variance, t = 1": (2 * level, along)}


def _weights(model: int) -> Mapping[str, tuple[Exact, Exact]]:
    """The weight of L_{t-1} as it is printed, with σ_t² = β̃_t or β_t, and by the signal-to-noise ratios."""
    kept, found = linear_levels(), {}
    for t in (2, 10, 100, 350, 1000):
        now, before = kept[t], kept[t - 1]
        beta = 1 - now / before
        variance = beta * (1 - before) / (1 - now) if model else beta
        printed = beta**2 / (2 * variance * (1 - beta) * (1 - now))
        lost = (before / (1 - before) - now / (1 - now)) / 2
        found[f"weight at t = {t}"] = printed, lost * (1 - now) / now
    return found


def _harder() -> Mapping[str, tuple[Exact, Exact]]:
    """The least loss of the noise of standard normal data is ᾱ_t."""
    kept = linear_levels()
    return {
        "least loss of the noise at t = 1 over that at t = 1000, unit data, below 1 as it is said": (
            Fraction(1),
            kept[1] / kept[1000],
        )
    }


def _trained(sign: int) -> Mapping[str, tuple[Exact, Exact]]:
    """Algorithm 4.1 with ᾱ_t = 16/25, the gradient over all four pairs of x_0 = ±1 and ε = ±1, ε_θ = g·x_t;
    against the regression of the noise on x_t."""
    signal, noise, rate = Fraction(4, 5), Fraction(3, 5), Fraction(1, 4)
    pairs = [(signal * x + sign * noise * e, e) for x, e in product((-1, 1), repeat=2)]
    g = Fraction(0)
    for _ in range(48):
        g -= rate * sum((-2 * (e - g * x) * x for x, e in pairs), Fraction(0)) / len(pairs)
    return {"slope after 48 steps": (g, noise / (signal**2 + noise**2))}


def _sampled(variance: Fraction, kept: list[Fraction], fresh: bool = True) -> Fraction:
    """Algorithm 4.2 with the perfect network of centred Gaussian data: the variance of what it returns."""
    found = Fraction(1)
    for t in range(len(kept) - 1, 0, -1):
        alpha = kept[t] / kept[t - 1]
        total = kept[t] * variance + 1 - kept[t]
        beta_tilde = (1 - kept[t - 1]) / (1 - kept[t]) * (1 - alpha)
        slope_squared = (1 - (1 - alpha) / total) ** 2 / alpha
        found = _short(slope_squared * found + (beta_tilde if fresh else 0))
    return found


def _closed(variance: Fraction, kept: list[Fraction]) -> Fraction:
    """The same by the deficits: what each step leaves of the variance of the data given x_t, carried down by
    the slopes of the exact reverse chain, of which only the ends are left."""
    last = kept[-1]
    total = last * variance + 1 - last
    deficit = _short(last * (total - 1) / total**2)
    for before, now in pairwise(kept):
        here, below = now * variance + 1 - now, before * variance + 1 - before
        missing = before * (1 - now / before) ** 2 / (1 - now) ** 2 * variance * (1 - now) / here
        deficit = _short(deficit + before * missing / below**2)
    return variance * (1 - variance * deficit)


def _ancestral(fresh: bool) -> Mapping[str, tuple[Exact, Exact]]:
    short = [Fraction(1), Fraction(9, 10), Fraction(1, 2), Fraction(1, 10)]
    one = Fraction(1)
    cases = [(one, "linear, T = 1000", linear_levels())]
    cases += [(variance, "levels 9/10, 1/2, 1/10", short) for variance in (one, one / 4, 4 * one)]
    return {
        f"variance of samples, data of variance {variance}, {name}": (
            _sampled(variance, kept, fresh),
            _closed(variance, kept),
        )
        for variance, name, kept in cases
    }


def _last_step(at_the_end: sp.Expr) -> list[Step]:
    """With ᾱ_0 = 1 the mean of the last step is the predicted data."""
    claimed = X_0_FROM_EPS.subs(abar_t, 1 - beta_t) + at_the_end
    mean = MEAN_FROM_EPS.subs({abar_t: 1 - beta_t, alpha_t: 1 - beta_t}, simultaneous=True)
    return [Identity("t = 1", mean, claimed)]


_BAR = (
    "The root of α_t has a bar in the kernel of 4.3, in the mean of 4.4 and 4.5 and in that of the next "
    "page; the sentence before 4.3 and the first form of 4.4 have it right."
)

ROWS: tuple[Row, ...] = (
    Row(
        "S004:§4/1",
        "claim",
        "Among diffusion models DDPM works best and is used most.",
        NotCheckable("an empirical claim without numbers, and history"),
    ),
    Row(
        "S004:fig4.1",
        "figure",
        "The graph of DDPM: a forward Markov chain from the data to x_T, and a Markov chain back.",
        Proved("elbo.forward_chain", "elbo.reverse_chain", "ddpm.one_step"),
        latex=r"q(x_{1:T}\mid x_0)=\prod_{t=1}^Tq(x_t\mid x_{t-1}),\qquad p_\theta(x_{0:T})=p(x_T)"
        r"\prod_{t=1}^Tp_\theta(x_{t-1}\mid x_t)",
    ),
    Row(
        "S004:4.1",
        "equation",
        "The kernel of one forward step: √(1−β_t) times x_{t−1}, and noise of variance β_t.",
        Proved("ddpm.one_step"),
        latex=r"q(x_t\mid x_{t-1})=\mathcal N\left(x_t;\sqrt{1-\beta_t}\,x_{t-1},\beta_tI\right)",
    ),
    Row(
        "S004:§4.1/1",
        "claim",
        "The β_t are T = 1000 equally spaced numbers from 0.0001 to 0.02, both included.",
        Proved("schedule.linear"),
        latex=r"\beta_t=10^{-4}+\frac{t-1}{T-1}\left(0.02-10^{-4}\right),\qquad T=1000",
    ),
    Row(
        "S004:§4.1/2",
        "claim",
        "Pixels are independent in one forward step: its noise is, given x_{t−1}.",
        Steps(lambda: _pixels(abar_t), lambda: _pixels(sp.Integer(0))),
        latex=r"\mathrm{Cov}(x_t^i,x_t^j\mid x_{t-1})=0,\qquad\mathrm{Cov}(x_t^i,x_t^j)=\bar\alpha_t"
        r"\,\mathrm{Cov}(x_0^i,x_0^j)",
        conditions="given x_{t−1}, or given x_0. The pixels of x_t depend on each other as those of the data "
        "do, by ᾱ_t of their covariance",
    ),
    Row(
        "S004:§4.1/3",
        "claim",
        "x_t needs no t steps: one draw from its law given x_0 is enough.",
        Proved("ddpm.marginal"),
        latex=r"x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\epsilon",
    ),
    Row(
        "S004:§4.1/4",
        "formula",
        "A draw of x_1 given x_0.",
        Proved("ddpm.one_step"),
        latex=r"x_1=\sqrt{1-\beta_1}\,x_0+\sqrt{\beta_1}\,\epsilon_1",
    ),
    Row(
        "S004:§4.1/5",
        "formula",
        "A draw of x_2 given x_1, and with x_1 put in: two independent noises, whose variances add.",
        Steps(
            lambda: _two_steps(1 - abar_prev * alpha_t),
            lambda: _two_steps(2 - abar_prev - alpha_t),
            formulas=("gaussian.push_forward_variance", "ddpm.one_step"),
        ),
        latex=r"x_2=\sqrt{(1-\beta_1)(1-\beta_2)}\,x_0+\sqrt{(1-\beta_2)\beta_1}\,\epsilon_1"
        r"+\sqrt{\beta_2}\,\epsilon_2",
    ),
    Row(
        "S004:§4.1/6",
        "formula",
        "The law of x_2 given x_0.",
        Proved("schedule.one_minus_alpha_bar", "ddpm.marginal"),
        latex=r"q(x_2\mid x_0)=\mathcal N\left(\sqrt{(1-\beta_1)(1-\beta_2)}\,x_0,"
        r"\left[1-(1-\beta_1)(1-\beta_2)\right]I\right)",
    ),
    Row(
        "S004:§4.1/7",
        "formula",
        "α_t is 1 − β_t, and ᾱ_t the product of α_1 to α_t.",
        Proved("schedule.alpha_bar_product"),
        latex=r"\alpha_t=1-\beta_t,\qquad\bar\alpha_t=\prod_{i=1}^t\alpha_i",
    ),
    Row(
        "S004:§4.1/8",
        "formula",
        "The law of x_t given x_0, for every t.",
        Proved("ddpm.marginal"),
        latex=r"q(x_t\mid x_0)=\mathcal N\left(\sqrt{\bar\alpha_t}\,x_0,(1-\bar\alpha_t)I\right)",
    ),
    Row(
        "S004:fig4.2",
        "figure",
        "The curve of ᾱ_t falls from 1 to nearly 0.",
        Numeric(
            _gamma_levels,
            _exponential_levels,
            20,
            "the product of 1 − β_t against a quotient of values of the gamma function",
            ("schedule.linear", "schedule.alpha_bar_product", "schedule.alpha_bar_decreasing"),
        ),
        latex=r"\bar\alpha_1=0.9999,\ \bar\alpha_{250}=0.524,\ \bar\alpha_{500}=0.0786,"
        r"\ \bar\alpha_{1000}=0.0000404",
        notation="the picture is not part of the scan; its caption and the sentence about it are judged",
    ),
    Row(
        "S004:§4.1/9",
        "claim",
        "β_t is positive and small, α_t just below 1; ᾱ_t falls from 1 towards 0.",
        Proved("schedule.linear", "schedule.alpha_bar_decreasing"),
        latex=r"0<\beta_t<1,\qquad\bar\alpha_t<\bar\alpha_{t-1},\qquad\bar\alpha_0=1",
        conditions="ᾱ_T is near 0 because the sum of the β_t is 10.05, not because each is small: the same "
        "ends in 100 steps leave ᾱ_T = 0.364",
    ),
    Row(
        "S004:§4.1/10",
        "claim",
        "The forward process begins at the law of the data and ends close to N(0, I).",
        Approximation(
            "½ᾱ_T·x_0² nats for each pixel, and ¼ᾱ_T² beyond",
            _prior_size,
            formulas=("vlb.prior_term", "ddpm.marginal"),
        ),
        latex=r"\mathrm{KL}\left(q(x_T\mid x_0)\,\|\,\mathcal N(0,I)\right)\approx\tfrac12\bar\alpha_T"
        r"\|x_0\|^2",
    ),
    Row(
        "S004:4.2",
        "equation",
        "The reverse kernel of the model is normal, its mean and covariance functions of x_t and t.",
        Definition("the model's reverse kernel"),
        latex=r"p_\theta(x_{t-1}\mid x_t)=\mathcal N\left(\mu_\theta(x_t,t),\Sigma_\theta(x_t,t)\right)",
    ),
    Row(
        "S004:§4.2/1",
        "claim",
        "The reverse kernel has the form of the forward one: it is normal.",
        Proved("elbo.small_step", "elbo.small_step_divergence", "guidance.gaussian_reverse_mean"),
        conditions="as β_t goes to 0, for data with a smooth density; for Gaussian data with every β_t",
    ),
    Row(
        "S004:§4.2/2",
        "claim",
        "Each step would need a network of its own; one network serves all, and must be told t.",
        Proved("ddpm.loss_simple_minimum", "data.gaussian_eps"),
        latex=r"\epsilon_\theta^*(x_t,t)=\frac{\sqrt{1-\bar\alpha_t}}{\bar\alpha_tc+1-\bar\alpha_t}"
        r"\left(x_t-\sqrt{\bar\alpha_t}\,m\right)",
        conditions="the best prediction depends on t in general; the formula is that of Gaussian data",
    ),
    Row(
        "S004:§4.2/3",
        "formula",
        "The reverse process starts from the standard normal law.",
        Definition("the prior p(x_T)"),
        latex=r"p(x_T)=\mathcal N(0,I)",
    ),
    Row(
        "S004:§4.2/4",
        "formula",
        "The posterior by Bayes' rule, given the data, from three laws that are known.",
        Proved("elbo.bayes_step", "ddpm.one_step", "ddpm.marginal"),
        latex=r"q(x_{t-1}\mid x_t,x_0)=q(x_t\mid x_{t-1},x_0)\frac{q(x_{t-1}\mid x_0)}{q(x_t\mid x_0)},"
        r"\qquad q(x_t\mid x_{t-1},x_0)=q(x_t\mid x_{t-1})",
        conditions="t ≥ 2: at t = 1 the posterior is the point x_0",
    ),
    Row(
        "S004:4.3",
        "equation",
        "In Bayes' rule the forward kernel has the mean √α_t·x_{t−1}. The last line, with E of 4.4, is "
        "right.",
        Erratum("ddpm.one_step", "bar-in-kernel", also=("ddpm.posterior_variance", "ddpm.posterior_mean")),
        latex=r"q(x_t\mid x_{t-1})=\frac1{\sqrt{2\pi\beta_t}}\exp\left[-\frac{(x_t-\sqrt{\alpha_t}\,x_{t-1})"
        r"^2}{2\beta_t}\right]",
        printed=r"\frac1{\sqrt{2\pi\beta_t}}\exp\left[-\frac{(x_t-\sqrt{\bar\alpha_t}\,x_{t-1})^2}{2\beta_t}"
        r"\right]",
        severity="breaks",
        origin="author",
        effect="A forward chain with this kernel keeps √ᾱ_500 = 0.280 of x_{499} where 0.995 belongs. "
        + _BAR,
        conditions="t ≥ 2",
    ),
    Row(
        "S004:4.4",
        "equation",
        "E is the square of x_{t−1} minus the posterior mean, in which x_t has the factor √α_t(1−ᾱ_{t−1})/"
        "(1−ᾱ_t). The first form, in three lines, is right; the square is not equal to it.",
        Counterexample(
            _exponent_forms,
            "the two forms that are set equal, at a point",
            ("ddpm.posterior_mean",),
            _exponent_steps,
        ),
        latex=r"E=\left(x_{t-1}-\frac{\sqrt{\bar\alpha_{t-1}}\beta_t}{1-\bar\alpha_t}x_0-\frac{\sqrt{"
        r"\alpha_t}(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}x_t\right)^2",
        printed=r"E=\left(x_{t-1}-\frac{\sqrt{\bar\alpha_{t-1}}\beta_t}{1-\bar\alpha_t}x_0-\frac{\sqrt{\bar"
        r"\alpha_t}(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}x_t\right)^2",
        severity="breaks",
        origin="author",
        effect="It leads to the mean of 4.5. " + _BAR,
    ),
    Row(
        "S004:4.5",
        "equation",
        "The forward posterior: in its mean x_t has the factor √α_t(1−ᾱ_{t−1})/(1−ᾱ_t). The variance is "
        "right.",
        Erratum("ddpm.posterior_mean", "bar-on-x_t", also=("ddpm.posterior_variance",)),
        latex=r"\tilde\mu_t=\frac{\sqrt{\bar\alpha_{t-1}}\beta_t}{1-\bar\alpha_t}x_0+\frac{\sqrt{\alpha_t}"
        r"(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}x_t,\qquad\tilde\beta_t=\frac{1-\bar\alpha_{t-1}}{1-\bar"
        r"\alpha_t}\beta_t",
        printed=r"\tilde\mu_t=\frac{\sqrt{\bar\alpha_{t-1}}\beta_t}{1-\bar\alpha_t}x_0+\frac{\sqrt{\bar"
        r"\alpha_t}(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}x_t",
        severity="breaks",
        origin="author",
        effect="A sampler with this mean and the exact network returns standard normal data with the "
        "variance 0.039 (linear schedule, T = 1000) where 0.991 belongs. " + _BAR,
    ),
    Row(
        "S004:§4.2/5",
        "claim",
        "L_T has no parameter of the model and may be left out of training.",
        Proved("vlb.prior_term"),
        latex=r"L_T=\mathrm{KL}\left(q(x_T\mid x_0)\,\|\,p(x_T)\right)",
        conditions="in training with a fixed schedule; the value of the bound contains it, and a learned "
        "schedule is taught by it",
    ),
    Row(
        "S004:§4.2/6",
        "claim",
        "Whatever the data, the law of x_T given them is close enough to N(0, I).",
        Approximation(
            "½ᾱ_T·x_0² nats for each pixel, and ¼ᾱ_T² beyond",
            _prior_size,
            formulas=("vlb.prior_term", "ddpm.marginal"),
        ),
        latex=r"q(x_T\mid x_0)=\mathcal N\left(\sqrt{\bar\alpha_T}\,x_0,(1-\bar\alpha_T)I\right)",
        conditions="data of bounded size: the divergence grows with x_0²",
    ),
    Row(
        "S004:4.6",
        "equation",
        "The divergence of one normal law from another, in n dimensions.",
        Proved("gaussian.kl_nd"),
        latex=r"\mathrm{KL}=\tfrac12\left\{\log\frac{|\Sigma_2|}{|\Sigma_1|}+\mathrm{tr}(\Sigma_2^{-1}"
        r"\Sigma_1)+(\mu_2-\mu_1)^\top\Sigma_2^{-1}(\mu_2-\mu_1)-n\right\}",
        notation="u and v are the laws, though they are introduced as variables",
    ),
    Row(
        "S004:§4.2/7",
        "claim",
        "It is least, and zero, for equal means and covariances.",
        Proved("gaussian.kl", "vlb.term_mu"),
        latex=r"\mu_1=\mu_2,\ \Sigma_1=\Sigma_2\ \Rightarrow\ \mathrm{KL}=0",
    ),
    Row(
        "S004:§4.2/8",
        "claim",
        "That the covariance of the posterior is known does not make it the best one of the reverse kernel, "
        "which does not see x_0: that one is larger by what x_t leaves unknown. β̃_t is a choice, exact for "
        "data at one point.",
        Counterexample(
            _learned_share,
            "the variance that minimises the bound is that of x_{t−1} given x_t alone",
            ("ddpm.optimal_variance", "vlb.variance_gradient", "ddpm.fixed_large_variance"),
        ),
        latex=r"\Sigma^*=\tilde\beta_t+\frac{\bar\alpha_{t-1}\beta_t^2}{(1-\bar\alpha_t)^2}\mathrm{Var}"
        r"(x_0\mid x_t)",
        printed=r"\Sigma_\theta(x_t,t)=\tilde\beta_tI\ \text{needs no fitting, the covariance being known}",
        severity="wording",
        origin="author",
        effect="At t = 2 of the linear schedule β̃_t is 0.455 of the best variance for standard normal data; "
        "with it in every step the samples have the variance 0.991. Learned variances make a better bound.",
    ),
    Row(
        "S004:§4.2/9",
        "formula",
        "σ_t² is set to β̃_t, with 1 − ᾱ_{t−1} above the line.",
        Erratum("ddpm.posterior_variance", "subscript-fallen"),
        latex=r"\sigma_t^2=\frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\beta_t",
        printed=r"\sigma_t^2=\frac{1-\bar\alpha_t-1}{1-\bar\alpha_t}\beta_t",
        severity="breaks",
        origin="scanner",
        effect="The variance is negative at every t, −0.00086 at t = 500 of the linear schedule: σ_t is "
        "not a number.",
    ),
    Row(
        "S004:§4.2/10",
        "formula",
        "L_{t−1} is the mean squared difference of the two means over 2σ_t².",
        Proved("ddpm.loss_weight_mu", "vlb.term_mu"),
        latex=r"L_{t-1}=\mathbb E_q\left[\frac1{2\sigma_t^2}\|\tilde\mu_t(x_t,x_0)-\mu_\theta(x_t,t)\|^2"
        r"\right]",
        conditions="t ≥ 2 and σ_t² = β̃_t; any other σ_t² adds the share of the variances",
    ),
    Row(
        "S004:§4.2/11",
        "claim",
        "Objectives that are equivalent in theory differ in practice; predicting the noise works best.",
        NotCheckable("an empirical claim about training networks"),
    ),
    Row(
        "S004:§4.2/12",
        "formula",
        "The posterior mean once more: √ᾱ_{t−1}·β_t before x_0, √α_t(1−ᾱ_{t−1}) before x_t.",
        Erratum("ddpm.posterior_mean", "root-over-both"),
        latex=r"\tilde\mu_t=\frac{\sqrt{\bar\alpha_{t-1}}\beta_t}{1-\bar\alpha_t}x_0+\frac{\sqrt{\alpha_t}"
        r"(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}x_t",
        printed=r"\tilde\mu_t=\frac{\sqrt{\bar\alpha_t-1}\beta_t}{1-\bar\alpha_t}x_0+\frac{\sqrt{\bar\alpha_t"
        r"(1-\bar\alpha_t-1)}}{1-\bar\alpha_t}x_t",
        severity="breaks",
        origin="scanner",
        effect="Taken at its word it has roots of negative numbers. With −1 back in the indices the root "
        "still reaches too far: x_t is multiplied by √(ᾱ_t(1−ᾱ_{t−1}))/(1−ᾱ_t), 45 at t = 2 of the linear "
        "schedule, and samples of standard normal data have a variance above 10²²⁹.",
    ),
    Row(
        "S004:§4.2/13",
        "formula",
        "x_t through data and noise, and the data through x_t and noise.",
        Proved("ddpm.marginal", "parameterization.x_0_from_eps"),
        latex=r"x_0=\frac{x_t-\sqrt{1-\bar\alpha_t}\,\epsilon}{\sqrt{\bar\alpha_t}}",
    ),
    Row(
        "S004:§4.2/14",
        "formula",
        "L_{t−1} through the noise, with its weight.",
        Proved("ddpm.loss_weight_eps"),
        latex=r"L_{t-1}=\mathbb E_q\left[\frac{\beta_t^2}{2\sigma_t^2\alpha_t(1-\bar\alpha_t)}\|\epsilon-"
        r"\epsilon_\theta(x_t,t)\|^2\right]",
        conditions="t ≥ 2 and σ_t² = β̃_t",
    ),
    Row(
        "S004:§4.2/15",
        "claim",
        "Predicting the noise in the place of the mean is called reparameterisation.",
        Convention(
            "a name with two uses: another output of the network here, a sample as a function of its noise "
            "in the paper that is cited for it",
            ("parameterization.x_0_from_eps", "vae.reparameterised"),
        ),
    ),
    Row(
        "S004:§4.2/16",
        "formula",
        "The mean of the reverse step from the predicted noise.",
        Proved("ddpm.mean_from_eps"),
        latex=r"\mu_\theta(x_t,t)=\frac1{\sqrt{\alpha_t}}\left[x_t-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}"
        r"\epsilon_\theta(x_t,t)\right]",
    ),
    Row(
        "S004:§4.2/17",
        "formula",
        "The last reverse step, which L_0 trains, is normal too.",
        Definition("the decoder p_θ(x_0 | x_1)"),
        latex=r"p_\theta(x_0\mid x_1)=\mathcal N\left(\mu_\theta(x_1,1),\sigma_1^2I\right)",
    ),
    Row(
        "S004:§4.2/18",
        "claim",
        "Pixel values 0 to 255 are mapped linearly to [−1, 1], the order of size of the prior's draws.",
        Convention("256 centres from −1 to 1, 2/255 apart; other scales are as right", ("vlb.decoder_bins",)),
        latex=r"k\mapsto-1+\frac{2k}{255}",
    ),
    Row(
        "S004:4.7",
        "equation",
        "The probability of an image: pixel by pixel the mass of a bin of width 2/255 around its value, the "
        "outer bins open.",
        Proved("vlb.decoder_bins", "vlb.decoder_interior", "vlb.decoder_first", "vlb.decoder_last"),
        latex=r"p_\theta(x_0\mid x_1)=\prod_{i=1}^D\int_{\delta_-(x_0^i)}^{\delta_+(x_0^i)}\mathcal N\left(x;"
        r"\mu_\theta^i(x_1,1),\sigma_1^2\right)\mathrm dx",
        conditions="σ_1 > 0",
        notation="p_θ(x_0 | x_1) was a density a line above and is a probability from here on",
    ),
    Row(
        "S004:4.8",
        "equation",
        "The integral over a bin as a rectangle: L_0 is half the squared error over σ_1², plus a constant.",
        Approximation(
            "(z² − 1)h²/6 for each pixel, z the place and h half the width of the bin in units of σ_1; it "
            "lies between −h²/6 and z²h²/6. The open ends at ±1 are left out",
            _rectangle_size,
            formulas=(
                "vlb.decoder_density",
                "vlb.decoder_density_lower",
                "vlb.decoder_density_upper",
                "vlb.decoder_last",
            ),
        ),
        latex=r"-\log\int\approx\frac{(x_0^i-\mu_\theta^i)^2}{2\sigma_1^2}-\log\frac{2}{255\,\sigma_1\sqrt{2"
        r"\pi}}",
        conditions="σ_1 well above 1/255, and fixed: the constant contains log σ_1",
    ),
    Row(
        "S004:§4.2/19",
        "formula",
        "The mean of the last step estimates the data, and is the general mean at t = 1, where ᾱ_1 = α_1.",
        Steps(
            lambda: _last_step(sp.Integer(0)),
            lambda: _last_step(beta_t),
            formulas=("ddpm.final_step", "ddpm.mean_from_eps"),
        ),
        latex=r"\mu_\theta(x_1,1)=\frac1{\sqrt{\alpha_1}}\left[x_1-\frac{\beta_1}{\sqrt{1-\bar\alpha_1}}"
        r"\epsilon_\theta(x_1,1)\right]=\frac{x_1-\sqrt{1-\bar\alpha_1}\,\epsilon_\theta(x_1,1)}"
        r"{\sqrt{\bar\alpha_1}}",
    ),
    Row(
        "S004:4.9",
        "equation",
        "L_0 through the noise. The weight β_1/(2σ_1²α_1) is right; the index of the pixel belongs to the "
        "noise and to the output of the network, which sees all pixels.",
        Counterexample(
            _own_pixel,
            "a network that is given one pixel can reach less than one that is given all",
            ("vlb.ddim_direct_term", "ddpm.loss_weight_eps"),
        ),
        latex=r"L_0=\mathbb E_q\left[\frac{\beta_1}{2\sigma_1^2\alpha_1}\sum_{i=1}^D\left(\epsilon^i-"
        r"\epsilon_\theta^i(x_1,1)\right)^2\right]+\mathrm{const}",
        printed=r"L_0=\mathbb E_q\left[\sum_{i=1}^D\frac{\beta_1}{2\sigma_1^2\alpha_1}\|\epsilon-\epsilon_"
        r"\theta(x_1^i,1)\|^2\right]+\mathrm{const}",
        severity="number",
        origin="author",
        effect="Read as written, ε without an index inside the sum counts the squared error of the whole "
        "noise D times, and a network of single pixels cannot use their dependence: for two equal pixels its "
        "least loss is twice as large. 4.8 has the index in its right place.",
    ),
    Row(
        "S004:§4.2/20",
        "claim",
        "With ᾱ_0 = 1 the variance β̃_1 is 0: the last step is a point, and adds no noise.",
        Proved("ddpm.posterior_variance", "ddpm.final_step"),
        latex=r"\bar\alpha_0=1\ \Rightarrow\ \sigma_1=0,\qquad x_0=\frac{x_1-\sqrt{1-\bar\alpha_1}\,"
        r"\epsilon_\theta(x_1,1)}{\sqrt{\bar\alpha_1}}",
        conditions="for sampling. In the bound σ_1 = 0 makes 4.8 and 4.9 infinite, and 4.7 infinite as soon "
        "as one pixel misses its bin: the likelihood needs σ_1 > 0, as σ_1² = β_1",
    ),
    Row(
        "S004:4.10",
        "equation",
        "The simple loss: the mean square of the noise minus its prediction, over data, noise and a "
        "uniform t.",
        Proved("ddpm.loss_simple", "ddpm.loss_weight_eps", "ddpm.marginal"),
        latex=r"L_{\mathrm{simple}}=\mathbb E_{x_0,t,\epsilon}\left\|\epsilon-\epsilon_\theta\left(\sqrt{\bar"
        r"\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\epsilon,t\right)\right\|^2",
        conditions="what is left out is not constant: a weight for each t. Level by level the minimiser "
        "is the same; the sum is no longer the bound",
    ),
    Row(
        "S004:§4.2/21",
        "claim",
        "Each step of training draws one datum and one t; batches alike.",
        Proved("ddpm.loss_simple"),
        latex=r"\mathbb E_tL_t=\frac1T\sum_{t=1}^TL_t",
    ),
    Row(
        "S004:§4.2/22",
        "claim",
        "Leaving out the weights makes small t count less than in the bound.",
        Numeric(
            lambda: _weights(1),
            lambda: _weights(0),
            20,
            "the weight of L_{t−1} against half the loss of the signal-to-noise ratio, times σ²",
            ("ddpm.loss_weight_eps", "ddpm.loss_weight_snr"),
        ),
        latex=r"w_t=\frac{\beta_t}{2\alpha_t(1-\bar\alpha_{t-1})}",
        conditions="against the middle of the chain: with β̃_t and the linear schedule of 1000 steps w_t "
        "falls from 0.600 at t = 2 to 0.00498 at t = 350 and rises again to 0.0102 at t = 1000, so the "
        "last steps count less too, by a factor of 2",
    ),
    Row(
        "S004:§4.2/23",
        "claim",
        "The less noise there is, the harder it is to predict: the data hide it. What is easier is the "
        "prediction of the data.",
        Counterexample(
            _harder,
            "the least loss of the noise of Gaussian data falls with t",
            ("ddpm.loss_simple_minimum", "schedule.alpha_bar_decreasing"),
        ),
        latex=r"\min L_{\mathrm{simple},t}=\frac{\bar\alpha_tc}{\bar\alpha_tc+1-\bar\alpha_t}",
        printed=r"\text{at small }t\text{ the noise is small, and its prediction relatively simple}",
        severity="wording",
        origin="author",
        effect="For standard normal data the perfect network errs by 0.9999 of the variance of the noise at "
        "t = 1 and by 0.00004 at t = 1000; the error of the data, (1−ᾱ_t)/ᾱ_t times that, grows with t. A "
        "curriculum or a weight built on the printed reason is turned round.",
        conditions="Ho et al. say it of the task of denoising, where it is true",
    ),
    Row(
        "S004:§4.2/24",
        "claim",
        "Leaving out the weights makes training faster and its result better.",
        NotCheckable("an empirical claim about training networks"),
    ),
    Row(
        "S004:alg4.1",
        "algorithm",
        "Training: data, a uniform t and noise, x_t in one step, and a gradient step on the squared error.",
        Numeric(
            lambda: _trained(1),
            lambda: _trained(-1),
            14,
            "the program with all draws of a two-point law, against the regression of the noise on x_t",
            ("ddpm.loss_simple", "ddpm.loss_simple_minimum"),
        ),
        latex=r"\theta\leftarrow\theta-\eta\,\nabla_\theta\left\|\epsilon-\epsilon_\theta\left(\sqrt{\bar"
        r"\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\epsilon,t\right)\right\|^2",
    ),
    Row(
        "S004:alg4.2",
        "algorithm",
        "Sampling: from standard normal x_T down to t = 1, with fresh noise in every step but the last.",
        Numeric(
            lambda: _ancestral(True),
            lambda: _ancestral(False),
            14,
            "the program with the perfect network of Gaussian data, against the sum of what its steps miss",
            ("ddpm.step", "ddpm.mean_from_eps", "ddpm.final_step", "ddpm.optimal_variance"),
        ),
        latex=r"x_{t-1}=\frac1{\sqrt{\alpha_t}}\left[x_t-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\epsilon_\theta"
        r"(x_t,t)\right]+\sigma_tz",
        conditions="σ_t² = β̃_t. With the perfect network standard normal data come out with the variance "
        "0.991 (linear schedule, T = 1000)",
    ),
    Row(
        "S004:§4.2/25",
        "formula",
        "With a condition y of the data: the reverse kernel and the network are given it, and the loss "
        "stays.",
        Proved("guidance.conditional_eps", "guidance.conditional_reverse", "ddpm.loss_simple"),
        latex=r"L_{\mathrm{simple}}=\mathbb E_{(x_0,y),t,\epsilon}\left\|\epsilon-\epsilon_\theta(x_t,y,t)"
        r"\right\|^2",
        conditions="the mean is over pairs of data and condition, which the index of E leaves unsaid",
    ),
)
