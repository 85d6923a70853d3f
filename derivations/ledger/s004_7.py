r"""S004, chapter 7: guidance by a classifier, in steps of DDPM and of DDIM, and by losses.

The rows of a section follow in the order of its text. Lines of algorithms 7.1 and 7.2 that are wrong on their
own account have rows of their section, after the algorithm's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

import sympy as sp

from derivations.guided_kernel import SHIFTED
from derivations.guided_labels import CLASS
from derivations.kit import Enumeration, Expectation, Identity, Inequality, Series, Step, normal
from derivations.labelled_chains import CHAINS, LabelledChain, rational
from derivations.ledger.checks import (
    Approximation,
    Counterexample,
    Definition,
    Erratum,
    Exact,
    NotCheckable,
    Proved,
    Steps,
)
from derivations.ledger.common import linear_levels, shown
from derivations.ledger.row import Row
from derivations.symbols import (
    abar_t,
    data_variance,
    guide_scale,
    h,
    label_share,
    label_slope,
    log_odds,
    mu,
    sigma_t,
    slope,
    x_t,
    y,
    z,
)

Pairs = Mapping[str, tuple[Exact, Exact]]
ZERO, ONE = sp.Integer(0), sp.Integer(1)
_DIGITS = 10**40
_TENTH = Fraction(1, 10)


def _unlabelled(chain: LabelledChain) -> list[list[Fraction]]:
    """The laws of x_0 to x_T of the chain without labels, by its kernels alone."""
    laws = [list(chain.start)]
    for kernel in chain.kernels:
        before = laws[-1]
        laws.append([sum((p * row[k] for p, row in zip(before, kernel, strict=True)), Fraction(0))
                     for k in range(len(before))])  # fmt: skip
    return laws


def _marginals(one_label: bool) -> list[Step]:
    """The labels summed out of all paths, against the chain that never had any."""

    def cases() -> Iterator[tuple[str, Fraction, Fraction]]:
        for name, chain in CHAINS.items():
            for t, law in enumerate(_unlabelled(chain)):
                for state, mass in enumerate(law):
                    found = chain.mass({t: state}, {-1: 0}) if one_label else chain.mass({t: state})
                    yield f"{name}, x_{t} = {state}", mass, found

    return [Enumeration("laws of x_0 to x_T on finite chains", cases)]


def _reverse(shift: int) -> list[Step]:
    """Bayes' rule with the kernels and laws of the chain without labels."""

    def cases() -> Iterator[tuple[str, Fraction | sp.Rational, Fraction | sp.Rational]]:
        for name, chain in CHAINS.items():
            laws = _unlabelled(chain)
            for t, kernel in enumerate(chain.kernels):
                for a in range(len(chain.start)):
                    for b in range(len(chain.start)):
                        bayes = laws[t][a] * kernel[a][b] / laws[t + shift][b]
                        yield (
                            f"{name}, x_{t} = {a}, x_{t + 1} = {b}",
                            rational(bayes),
                            chain.given({t: a}, {t + 1: b}),
                        )

    return [Enumeration("reverse kernels on finite chains", cases)]


def _posterior_share(above: Fraction, below: Fraction) -> Fraction:
    """β̃ of a step between two levels."""
    return (1 - below) / (1 - above) * (1 - above / below)


def _widths() -> str:
    kept = linear_levels()
    fine = [f"{sp.N(sp.sqrt(rational(_posterior_share(kept[t], kept[t - 1]))), 3)} at t = {t}"
            for t in (2, 100, 500, 1000)]  # fmt: skip
    coarse = sp.N(sp.sqrt(rational(_posterior_share(kept[1000], kept[900]))), 3)
    return f"σ_t of the linear schedule, T = 1000: {', '.join(fine)}; in steps of 100, {coarse} at t = 1000"


def _two_labels(second: int) -> list[Step]:
    """The log-probability of the first of two labels whose log-odds are ℓ + b·h."""
    share = 1 / (1 + sp.exp(-log_odds))
    there = -sp.log(1 + sp.exp(-(log_odds + slope * h)))
    linear = sp.log(share) + (1 - share) * slope * h
    curved = linear - second * share * (1 - share) * slope**2 * h**2 / 2
    return [Series("two labels with linear log-odds", there, h, 3, curved)]


def _taylor_size() -> str:
    kept = linear_levels()
    found = [f"{shown(_posterior_share(kept[t], kept[t - 1]) / 8)} at t = {t}" for t in (2, 100, 500, 1000)]
    return (
        "mean loss of log p for two labels at even odds with log-odds of slope 1, linear schedule, T = 1000: "
        + ", ".join(found)
    )


def _narrowed(order: int) -> list[Step]:
    """The variance that a log-quadratic classifier leaves."""
    exact = sigma_t**2 / (1 - sigma_t**2 * label_slope)
    claim = sigma_t**2 + (sigma_t**4 * label_slope if order > 2 else 0)
    return [Series("the variance to fourth order", exact, sigma_t, 5, claim)]


def _guided(levels: list[Fraction], noise: Fraction) -> tuple[Fraction, Fraction]:
    """Mean and variance of what the shifted kernels sample, for unit normal data, seen as 1 with noise.

    The kernels without the label are exact: N(√r·x_t, 1 − r), r the ratio of the levels. The mean is kept
    over the root of its level.
    """
    mean, variance = Fraction(0), Fraction(1)
    for below, above in zip(levels[-2::-1], levels[:0:-1], strict=True):
        ratio = above / below
        share = (1 - ratio) / (noise + 1 - below)
        kept = 1 - share * below
        mean = _cut(ratio * kept * mean + share)
        variance = _cut(ratio * kept**2 * variance + 1 - ratio)
    return mean, variance


def _cut(value: Fraction) -> Fraction:
    return Fraction(round(value * _DIGITS), _DIGITS)


def _guided_size(*counts: int) -> str:
    kept = linear_levels()
    found = []
    for steps in counts:
        mean, variance = _guided(kept[:: 1000 // steps], _TENTH)
        found.append(f"{shown(mean)} and {shown(variance)} in {steps} steps")
    return (
        "mean and variance of the samples for unit normal data, observed as 1 with noise of variance 1/10, "
        f"linear schedule: {', '.join(found)}; true 0.909 and 0.0909"
    )


def _no_number() -> Pairs:
    """(x − μ)·g entry by entry, for x − μ = (1, 2) and g = (3, 4)."""
    steps, gradient = (1, 2), (3, 4)
    inner = sum(a * b for a, b in zip(steps, gradient, strict=True))
    entries = [a * b for a, b in zip(steps, gradient, strict=True)]
    return {f"entry {k} for x − μ = (1, 2), g = (3, 4)": (entry, inner) for k, entry in enumerate(entries, 1)}


def _constant(power: sp.Expr) -> list[Step]:
    """A constant factor has no gradient, whatever it is."""
    constant = sp.Symbol("Z", positive=True)
    gradient = guide_scale * sp.diff(sp.log(CLASS), x_t)
    return [Identity("any classifier, any constant", sp.diff(sp.log(CLASS**power / constant), x_t), gradient)]


_MORE = sp.Symbol("w", positive=True)
_LOG = sp.Symbol("L", positive=True)


def _ratios(excess: sp.Expr) -> list[Step]:
    """a/b = exp(L) with L > 0, and s = 1 + w."""
    return [
        Identity("the power of the ratio", sp.exp(_LOG) ** (1 + _MORE), sp.exp((1 + _MORE) * _LOG)),
        Inequality("its exponent is larger", (1 + _MORE) * _LOG, ">", _LOG, excess),
        Identity(
            "what is gained is a factor", sp.exp((1 + _MORE) * _LOG) / sp.exp(_LOG), sp.exp(_MORE * _LOG)
        ),
    ]


_ODDS = sp.Symbol("o", positive=True)


def _entropy(odds: sp.Expr, logarithm: sp.Expr) -> sp.Expr:
    return sp.log(1 + odds) - odds / (1 + odds) * logarithm


def _sharper(power: int) -> list[Step]:
    """The entropy of the normalised power of two labels falls with the power."""
    share = _ODDS / (1 + _ODDS)
    direct = -share * sp.log(share) - (1 - share) * sp.log(1 / (1 + _ODDS))
    powered = sp.exp(guide_scale * log_odds)
    fall = guide_scale * log_odds**2 * powered / (1 + powered) ** power
    loss = guide_scale * log_odds**2 * _ODDS / (1 + _ODDS) ** 2
    return [
        Identity("entropy by the odds", direct, _entropy(_ODDS, sp.log(_ODDS))),
        Identity("its derivative", sp.diff(_entropy(powered, guide_scale * log_odds), guide_scale), -fall),
        Inequality("never rises", loss, ">=", ZERO),
    ]


def _no_noise(shifted: sp.Expr) -> list[Step]:
    return [Identity("no variance, no shift", shifted, mu)]


_STALE = (Fraction(4, 5), Fraction(3, 5)), (Fraction(3, 5), Fraction(4, 5))
"""Roots of ᾱ and 1 − ᾱ at the two levels above the data, rational: 9/25 below 16/25."""


def _stale() -> Pairs:
    """Two steps of the printed loop from x_T = 1 without noise: x_t is the only other x there is, x_T."""
    (signal_1, noise_1), (signal_2, noise_2) = _STALE
    start = Fraction(1)
    predicted = noise_2 * start
    middle = signal_1 * (start - noise_2 * predicted) / signal_2 + noise_1 * predicted
    predicted = noise_1 * middle
    ends = [(held - noise_1 * predicted) / signal_1 for held in (start, middle)]
    return {"x_0 after two steps from x_T = 1, ᾱ = 9/25 and 16/25, unit normal data": (ends[0], ends[1])}


def _opposite(sign: int) -> list[Step]:
    likeness = sp.Function("D", real=True)(x_t)
    return [Identity("one gradient", -sp.diff(sign * likeness, x_t), sp.diff(likeness, x_t))]


def _any_similarity() -> Pairs:
    """D(x_t, 0) = −x_t²/(2r) at every level, r = 1/10, with the exact kernels of unit normal data."""
    kept = linear_levels()
    variance = Fraction(1)
    for below, above in zip(kept[-2::-1], kept[:0:-1], strict=True):
        ratio = above / below
        variance = _cut(ratio * (1 - (1 - ratio) / _TENTH) ** 2 * variance + 1 - ratio)
    return {"variance of the samples, linear schedule, T = 1000": (_TENTH / (1 + _TENTH), variance)}


def _mse(scale: sp.Expr) -> list[Step]:
    """Minus the squared error of any model, times a scale, is a normal log-likelihood."""
    model = sp.Function("f", real=True)(x_t)
    guided = sp.diff(-guide_scale * (y - model) ** 2, x_t)
    likelihood = sp.diff(normal(y, model, scale).exponent, x_t)
    return [Identity("any model, any scale", guided, likelihood)]


def _fitted(share: sp.Expr) -> list[Step]:
    """The cross entropy of a label with probability π given x_t, at the predicted probability p."""
    guess = sp.Symbol("p_1", positive=True)
    loss = -label_share * sp.log(guess) - (1 - label_share) * sp.log(1 - guess)
    slope_ = (guess - share) / (guess * (1 - guess))
    return [Identity("its derivative vanishes where p = π", sp.diff(loss, guess), slope_)]


def _overrated() -> str:
    kept = linear_levels()
    found = [f"{shown(1 + (1 - kept[t]) / _TENTH)} at t = {t}" for t in (10, 100, 500, 1000)]
    return (
        "factor for unit normal data and an observation with noise of variance 1/10, linear schedule, "
        f"T = 1000: {', '.join(found)}"
    )


_LEFT = data_variance * (1 - abar_t) / (data_variance * abar_t + 1 - abar_t)


def _more_unknown(power: int) -> list[Step]:
    """What x_t leaves unknown of normal data, against the level."""
    fall = data_variance**2 / (data_variance * abar_t + 1 - abar_t) ** power
    return [
        Identity("its derivative in ᾱ_t", sp.diff(_LEFT, abar_t), -fall),
        Inequality("less signal, more unknown", data_variance**2 / (data_variance * abar_t + 1 - abar_t) ** 2,
                   ">", ZERO),
    ]  # fmt: skip


def _blurred() -> Pairs:
    """Unit normal data at ᾱ_t = 1/100: x̂_0 = x_t/10."""
    level = Fraction(1, 100)
    return {"variance of x̂_0 at ᾱ_t = 1/100, unit normal data": (1, level)}


_CHAIN = r"\hat q(x_t\mid x_{t+1},y)=\frac{q(x_t\mid x_{t+1})\,\hat q(y\mid x_t)}{\hat q(y\mid x_{t+1})}"
_MEAN = (
    r"\mu=\frac1{\sqrt{\alpha_t}}\left(x_t-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\epsilon_\theta(x_t,t)\right)"
)
_SCALE = "the scale κ of our formulas is called s, and is 1 where none is written"

ROWS: tuple[Row, ...] = (
    Row(
        "S004:§7.1/1",
        "claim",
        "A conditional DDPM is a network that sees the condition too and is trained on the noise.",
        Proved("guidance.conditional_eps"),
        latex=r"\epsilon_\theta(x_t,y,t)\to-\sqrt{1-\bar\alpha_t}\,\nabla_{x_t}\log q(x_t\mid y)",
    ),
    Row(
        "S004:§7.1/2",
        "claim",
        "Training is costly, and each new kind of condition takes a training of its own.",
        NotCheckable("costs, not a formula"),
    ),
    Row(
        "S004:§7.1/3",
        "claim",
        "A classifier is enough to sample under a condition with a DDPM that knows none.",
        Proved("guidance.conditional_reverse", "guidance.guided_eps"),
        latex=_CHAIN,
        conditions="a classifier of every noise level; it takes a training for each kind of condition. The "
        "kernel is of Sohl-Dickstein et al. 2015, the classifier's gradient of Dhariwal and Nichol 2021",
    ),
    Row(
        "S004:7.1",
        "equation",
        "The reverse kernel given a label is the one without it times the classifier, normalised.",
        Proved("guidance.conditional_reverse"),
        latex=_CHAIN,
        conditions="Z is constant in x_t; it is another number for every x_{t+1} and y. Of a model, with "
        "kernel and classifier fitted apart, it is the definition",
    ),
    Row(
        "S004:§7.2/1",
        "formula",
        "A noisy classifier: the probability of the label given the state of level t.",
        Definition("the classifier p_φ(y | x_t), one for every level"),
        latex=r"p_\phi(y\mid x_t)",
    ),
    Row(
        "S004:7.2",
        "equation",
        "A forward process with labels: the data have their law, the label is drawn at the data, and the "
        "kernels do not see it.",
        Definition("the joint law of data, label and path"),
        latex=r"\hat q(x_0)=q(x_0),\quad\hat q(x_{t+1}\mid x_t,y)=q(x_{t+1}\mid x_t)",
    ),
    Row(
        "S004:§7.2/2",
        "claim",
        "The process with labels is equivalent to that without: its paths have the same law.",
        Proved("guidance.forward_path", "guidance.forward_kernel"),
        latex=r"\hat q(x_{0:T})=q(x_{0:T})",
        conditions="the labels summed out; given a label the law of the data is another",
    ),
    Row(
        "S004:7.3",
        "equation",
        "A forward step without the label is that with it, and the old one.",
        Proved("guidance.forward_kernel"),
        latex=r"\hat q(x_{t+1}\mid x_t)=q(x_{t+1}\mid x_t)=\hat q(x_{t+1}\mid x_t,y)",
        notation="the integral over y is a sum for classes",
    ),
    Row(
        "S004:7.4",
        "equation",
        "The path given the data has the old law.",
        Proved("guidance.forward_path"),
        latex=r"\hat q(x_{1:T}\mid x_0)=q(x_{1:T}\mid x_0)",
    ),
    Row(
        "S004:7.5",
        "equation",
        "So has every level.",
        Steps(lambda: _marginals(False), lambda: _marginals(True), formulas=("guidance.forward_path",)),
        latex=r"\hat q(x_t)=q(x_t)",
    ),
    Row(
        "S004:§7.2/3",
        "formula",
        "By Bayes' rule the reverse kernel without the label is the old one.",
        Steps(lambda: _reverse(1), lambda: _reverse(0), formulas=("elbo.reversed_kernel",)),
        latex=r"\hat q(x_t\mid x_{t+1})=q(x_t\mid x_{t+1})",
    ),
    Row(
        "S004:7.6",
        "equation",
        "Given x_t the label does not depend on the noisier state.",
        Proved("guidance.label_given_two_levels"),
        latex=r"\hat q(y\mid x_t,x_{t+1})=\hat q(y\mid x_t)",
    ),
    Row(
        "S004:7.7",
        "equation",
        "The reverse kernel given the label, by Bayes' rule.",
        Proved("guidance.conditional_reverse"),
        latex=_CHAIN,
    ),
    Row(
        "S004:§7.2/4",
        "claim",
        "The denominator does not depend on x_t and is a constant of the kernel.",
        Proved("guidance.conditional_reverse", "guidance.observed_kernel_mean"),
        latex=r"\hat q(x_t\mid x_{t+1},y)=Z\,q(x_t\mid x_{t+1})\,\hat q(y\mid x_t)",
        conditions="of the kernel, for one x_{t+1} and one y: between them it differs, and products of whole "
        "paths need it",
    ),
    Row(
        "S004:§7.2/5",
        "claim",
        "A DDPM in the place of the reverse kernel and a trained classifier in that of the label's "
        "probability give the kernel of (7.1).",
        Proved("guidance.conditional_reverse", "elbo.small_step", "elbo.small_step_divergence"),
        latex=r"p_{\theta,\phi}(x_t\mid x_{t+1},y)\propto p_\theta(x_t\mid x_{t+1})\,p_\phi(y\mid x_t)",
        conditions="as far as both are exact. The normal kernel of a DDPM is so for normal data; else a "
        "step is short of the best normal one by a divergence of order β³",
    ),
    Row(
        "S004:7.8",
        "equation",
        "The log-density of the normal kernel: minus half the squared distance in the metric of the "
        "precision, and a constant.",
        Proved("gaussian.log_density_nd"),
        latex=r"\log p_\theta(x_t\mid x_{t+1})=-\tfrac12(x_t-\mu)^\top\Sigma^{-1}(x_t-\mu)+C",
        conditions="Σ does not depend on x_t; it may on x_{t+1}",
    ),
    Row(
        "S004:§7.2/6",
        "claim",
        "The variance of the kernel is small, so its samples are near its mean.",
        Approximation(
            "σ_t in every coordinate, a distance of σ_t√d in d dimensions",
            _widths,
            lambda: [
                Expectation("mean square in a coordinate", (sigma_t * z) ** 2, {z: (ZERO, ONE)}, sigma_t**2)
            ],
            lambda: [
                Expectation("mean square in a coordinate", (sigma_t * z) ** 2, {z: (ZERO, ONE)}, sigma_t)
            ],
        ),
        latex=r"\mathrm E\,\|x_t-\mu\|^2=d\,\sigma_t^2",
        conditions="many steps. In ten steps the kernels are about as wide as the data",
    ),
    Row(
        "S004:7.9",
        "equation",
        "The log-probability of the label, expanded around the mean of the kernel to first order.",
        Approximation(
            "½g'·(x_t−μ)², third order beyond; in the mean ½σ_t²g'",
            _taylor_size,
            lambda: _two_labels(1),
            lambda: _two_labels(0),
            formulas=("guidance.linearisation_error",),
        ),
        latex=r"\log p_\phi(y\mid x_t)=C_1+(x_t-\mu)^\top g+O(\|x_t-\mu\|^2)",
        conditions="a classifier that is smooth on the scale of σ_t",
    ),
    Row(
        "S004:§7.2/7",
        "formula",
        "g is the gradient of the classifier's log-probability at the mean, C_1 its value there.",
        Definition("the gradient g and the constant C_1"),
        latex=r"g=\nabla_{x_t}\log p_\phi(y\mid x_t)\big|_{x_t=\mu}",
    ),
    Row(
        "S004:7.10",
        "equation",
        "Kernel times linearised classifier is normal with the same covariance, and its mean is shifted by "
        "the covariance times the gradient.",
        Approximation(
            "of the mean σ_t⁴(g·g' + ½g''), of the variance σ_t⁴g'; none for a log-linear classifier",
            lambda: _guided_size(10, 100, 1000),
            lambda: _narrowed(4),
            lambda: _narrowed(2),
            formulas=(
                "guidance.mean_shift_nd",
                "guidance.linearisation_error",
                "guidance.quadratic_variance",
            ),
        ),
        latex=r"\mathcal N(\mu,\Sigma)\,e^{(x_t-\mu)^\top g}\propto\mathcal N(\mu+\Sigma g,\Sigma)",
        notation="z of the last line is x_t; in every other place of the chapter it is noise",
    ),
    Row(
        "S004:§7.2/8",
        "formula",
        "The linear term in the first line of (7.10) is an inner product; its transposition is missing.",
        Counterexample(
            _no_number,
            "without the transposition the product has entries, or is none",
            formulas=("guidance.mean_shift_nd",),
        ),
        latex=r"(x_t-\mu)^\top g",
        printed=r"(x_t-\mu)\,g",
        severity="wording",
        origin="paper",
        effect="Written as it stands, `(x - mu) * g` in NumPy or PyTorch is a vector that is added to a "
        "number and broadcast without complaint.",
    ),
    Row(
        "S004:§7.2/9",
        "claim",
        "So the offset Σg on the mean is all that sampling under a label takes, as far as (7.10) goes; "
        "beyond it a label changes the variance of the kernel too.",
        Approximation(
            "of the offset σ_t⁴(g·g' + ½g''), of the variance σ_t⁴g'; none for a log-linear classifier",
            lambda: _guided_size(5, 20, 1000),
            lambda: _narrowed(4),
            lambda: _narrowed(2),
            formulas=(
                "guidance.quadratic_variance",
                "guidance.quadratic_shift",
                "guidance.linearisation_error",
            ),
        ),
        latex=r"\mathcal N\left(\mu+\frac{\sigma_t^2g}{1-\sigma_t^2g'},\ \frac{\sigma_t^2}{1-\sigma_t^2g'}"
        r"\right)\ \text{for}\ \log p_\phi=C_1+g\,(x_t-\mu)+\tfrac12g'(x_t-\mu)^2",
        conditions="many steps, or a log-linear classifier; the sentence has no approximation sign, the "
        "lines above it have",
    ),
    Row(
        "S004:§7.2/10",
        "claim",
        "With the scale 1 on ImageNet only about half of the samples are of the class.",
        NotCheckable(
            "an experiment; the paper that is cited says something else: the classifier gave the class a "
            "probability of about 50 %, and the samples did not look like it"
        ),
    ),
    Row(
        "S004:§7.2/11",
        "formula",
        "s times the gradient of log p is the gradient of the log of p^s over a constant.",
        Steps(lambda: _constant(guide_scale), lambda: _constant(ONE)),
        latex=r"\kappa\nabla_{x_t}\log p_\phi(y\mid x_t)=\nabla_{x_t}\log\tfrac1Zp_\phi(y\mid x_t)^\kappa",
        conditions="Z does not depend on x_t",
        notation=_SCALE,
    ),
    Row(
        "S004:§7.2/12",
        "claim",
        "That constant is arbitrary. It cannot be what makes p^s a law of the label: this sum depends on "
        "x_t, and has a gradient.",
        Erratum("guidance.scaled_gradient", "normalised-over-labels", also=("guidance.sharpened",)),
        latex=r"\nabla_{x_t}\log\frac{p^\kappa}{p^\kappa+(1-p)^\kappa}"
        r"\neq\kappa\nabla_{x_t}\log p",
        printed=r"Z=\sum_yp_\phi(y\mid x_t)^s",
        severity="number",
        origin="author",
        effect="Where the label has the probability 0.88, the scale 10 gives 1.2 times the gradient of the "
        "log-odds; the normalised power gives 0.00000002 times that. A sampler of the sentence stops to "
        "guide as soon as the label is likely. Over x_t the power need not have an integral: that of a "
        "sigmoid has none.",
        notation=_SCALE,
    ),
    Row(
        "S004:§7.2/13",
        "formula",
        "A power above one makes the ratio of a larger to a smaller probability larger.",
        Steps(lambda: _ratios(_MORE * _LOG), lambda: _ratios(-_MORE * _LOG)),
        latex=r"\left(\tfrac ab\right)^\kappa>\tfrac ab,\qquad\kappa>1,\ a>b>0",
        notation=_SCALE,
    ),
    Row(
        "S004:§7.2/14",
        "claim",
        "So the normalised power is sharper: it has less entropy, the less the larger the power.",
        Steps(lambda: _sharper(2), lambda: _sharper(1), formulas=("guidance.sharpened",)),
        latex=r"\frac{\mathrm d}{\mathrm d\kappa}H\left(\tfrac1Zp^\kappa\right)=-\kappa\,\ell^2\,p_\kappa"
        r"(1-p_\kappa)\le0",
        conditions="shown for two labels with the log-odds ℓ; equal probabilities stay as they are",
        notation=_SCALE,
    ),
    Row(
        "S004:§7.2/15",
        "claim",
        "A larger scale samples a narrower law.",
        Proved(
            "guidance.quadratic_variance",
            "guidance.log_linear_target",
            "guidance.scale_excess",
            "guidance.powered_reverse",
        ),
        latex=r"\mathrm{Var}=\frac{\sigma_t^2}{1-\kappa\sigma_t^2g'}",
        conditions="a log-concave classifier, g' < 0. Under a log-linear one the width is the same for every "
        "scale, under a log-convex one it grows; and a label that is likely only where data are rare moves "
        "samples there, which can widen their law. What is sampled with κ ≠ 1 is not the diffused power",
        notation=_SCALE,
    ),
    Row(
        "S004:§7.2/16",
        "claim",
        "Larger scales give better and less diverse images, which is called truncation.",
        NotCheckable("an experiment, and a name"),
    ),
    Row(
        "S004:alg7.1",
        "algorithm",
        "Sampling with a guided DDPM: the gradient is weighted with the variance σ_t² of the step, not "
        "with its standard deviation.",
        Erratum("guidance.ddpm_step", "std", also=("guidance.mean_shift_nd",)),
        latex=r"x_{t-1}=\mu+\kappa\,\sigma_t^2\,g+\sigma_tz",
        printed=r"x_{t-1}=\mu+s\cdot\sigma_t\cdot g+\sigma_tz",
        severity="breaks",
        origin="author",
        effect="The gradient is 1/σ_t times too strong, 7 to 135 times on the linear schedule. Unit normal "
        "data under a log-linear classifier of slope 1 have the mean 1 given the label; the printed line "
        "reaches 15.3 in 1000 steps, the right one 0.99. Observed as 1 with noise of variance 1/10, the "
        "variance collapses to 0.0006 in the place of 0.091.",
        conditions="σ_t² = β̃_t as in chapter 4, where the last step has none; σ_t is the standard deviation "
        "also in the last term of the line. Two more lines are wrong: S004:§7.2/17 and S004:§7.2/18",
        notation=_SCALE,
    ),
    Row(
        "S004:§7.2/17",
        "formula",
        "The mean in algorithm 7.1 divides by √(1−ᾱ_t), as in algorithm 4.2; the bar is missing.",
        Erratum("guidance.ddpm_step", "bar-missing-in-mean", also=("ddpm.mean_from_eps",)),
        latex=_MEAN,
        printed=r"\mu=\frac1{\sqrt{\alpha_t}}\left[x_t-\frac{\beta_t}{\sqrt{1-\alpha_t}}\epsilon_"
        r"\theta(x_t,t)\right]",
        severity="breaks",
        origin="scanner",
        effect="The network is weighted up to 10.1 times too strongly. Unit normal data come out with the "
        "variance 0.089 after 1000 steps of the linear schedule, and the log-linear classifier of slope 1 "
        "moves their mean by 0.15 in the place of 1.",
    ),
    Row(
        "S004:§7.2/18",
        "formula",
        "The gradient in algorithm 7.1 is that of the classifier of level t−1: μ is the mean of x_{t−1}. The "
        "algorithm steps from t to t−1 and keeps the classifier of (7.9), where the step is from t+1 to t.",
        Erratum(
            "guidance.observed_kernel_mean",
            "level-above-at-the-mean",
            also=("guidance.ddpm_step", "guidance.conditional_mean"),
        ),
        latex=r"g=\nabla_{x_{t-1}}\log p_\phi(y\mid x_{t-1})\big|_{x_{t-1}=\mu}",
        printed=r"g=\nabla_{x_t}\log p_\phi(y\mid x_t)\big|_{x_t=\mu}",
        severity="number",
        origin="author",
        effect="Nothing to see in 1000 steps (variance 0.0940 and not 0.0927 for unit normal data observed "
        "as 1 with noise of variance 1/10, true 0.0909), much in few: in 20 steps of the linear schedule "
        "the mean is 0.68 with the classifier of level t and 0.81 with that of level t−1, true 0.91.",
        conditions="the classifier of level t is right at x_t, with the factor β_t/√α_t in the place of σ_t²",
    ),
    Row(
        "S004:§7.3/1",
        "claim",
        "The derivation does not carry over to DDIM: without noise in the step there is no shift, and but "
        "for η = 1 the forward process is not Markov, so that x_{t+1} adds to what x_t knows of the label.",
        Steps(
            lambda: _no_noise(SHIFTED.subs(sigma_t, 0)),
            lambda: _no_noise(SHIFTED),
            formulas=("ddim.markov_iff", "ddim.eta_one_is_ddpm", "guidance.label_given_two_levels"),
        ),
        latex=r"\sigma_t=0:\quad\mu+\kappa\sigma_t^2g=\mu",
        conditions="η = 1 is DDPM, and there it does",
    ),
    Row(
        "S004:7.11",
        "equation",
        "The score of level t is the predicted noise over −√(1−ᾱ_t).",
        Proved("parameterization.score_from_eps", "data.eps"),
        latex=r"\nabla_{x_t}\log q(x_t)=-\frac{\epsilon_\theta(x_t,t)}{\sqrt{1-\bar\alpha_t}}",
        conditions="the perfect network, which is the mean of the noise given x_t; (4.11) has the score "
        "given x_0 too, of which this is the mean",
    ),
    Row(
        "S004:§7.3/2",
        "formula",
        "Bayes' rule for a state and the label.",
        Proved("guidance.guided_score"),
        latex=r"q(x_t\mid y)=\frac{q(x_t)\,q(y\mid x_t)}{q(y)}",
    ),
    Row(
        "S004:7.12",
        "equation",
        "The score given the label is the score plus the gradient of the classifier of the same level.",
        Proved("guidance.guided_score", "guidance.conditional_eps", "parameterization.score_from_eps"),
        latex=r"\nabla_{x_t}\log q(x_t\mid y)=-\frac{\epsilon_\theta(x_t,t)}{\sqrt{1-\bar\alpha_t}}"
        r"+\nabla_{x_t}\log q(y\mid x_t)",
    ),
    Row(
        "S004:§7.3/3",
        "formula",
        "The noise prediction given the label is −√(1−ᾱ_t) times the score given the label.",
        Proved("guidance.conditional_eps"),
        latex=r"\nabla_{x_t}\log q(x_t\mid y)=-\frac{\hat\epsilon_\theta(x_t,t)}{\sqrt{1-\bar\alpha_t}}",
        notation="ε̂ depends on y, which is not written",
    ),
    Row(
        "S004:7.13",
        "equation",
        "Guidance shifts the predicted noise by −√(1−ᾱ_t) times the gradient of the classifier. No small "
        "step is assumed: with perfect network and classifier it is what a conditional network predicts.",
        Proved("guidance.guided_eps", "guidance.observed_eps"),
        latex=r"\hat\epsilon_\theta=\epsilon_\theta-\sqrt{1-\bar\alpha_t}\,\nabla_{x_t}\log p_\phi(y\mid "
        r"x_t)",
    ),
    Row(
        "S004:§7.3/4",
        "claim",
        "With the shifted noise in the place of the network's, the step (5.6) samples given the label.",
        Proved("guidance.ddim_step", "guidance.guided_eps", "ddim.marginals"),
        latex=r"x_{t-1}=\sqrt{\bar\alpha_{t-1}}\,\hat x_0+\sqrt{1-\bar\alpha_{t-1}-\sigma_t^2}\,\hat\epsilon_"
        r"\theta+\sigma_tz",
        conditions="as well as DDIM samples at all: in both places of the step",
    ),
    Row(
        "S004:alg7.2",
        "algorithm",
        "Sampling with a guided DDIM: under the root of the direction σ² is subtracted, as in (5.6) and "
        "algorithm 5.1.",
        Erratum("guidance.ddim_step", "plus-under-the-root", also=("ddim.step", "guidance.guided_eps")),
        latex=r"x_s=\sqrt{\bar\alpha_s}\,\frac{x_t-\sqrt{1-\bar\alpha_t}\,\hat\epsilon_\theta}"
        r"{\sqrt{\bar\alpha_t}}+\sqrt{1-\bar\alpha_s-\sigma^2}\,\hat\epsilon_\theta+\sigma z",
        printed=r"\dots+\sqrt{1-\bar\alpha_{\tau_{i-1}}+\sigma_t^2}\cdot\hat\epsilon_\theta(x_{\tau_i},"
        r"\tau_i)+\sigma_t\epsilon",
        severity="breaks",
        origin="author",
        effect="Right for σ = 0 alone. The noise is added on top of the whole of the direction, in every "
        "step: unit normal data come out with the variance 23 for η = 1/2 and 43000 for η = 1 after 1000 "
        "steps of the linear schedule, 76 for η = 1 after ten.",
        conditions="ᾱ of the data, τ_1 = 0, is 1, where σ must be 0. S levels are S − 1 steps",
        notation=_SCALE,
    ),
    Row(
        "S004:§7.3/5",
        "formula",
        "x_t and σ_t in algorithm 7.2 are x and σ of the level τ_i: no t is bound in its loop.",
        Counterexample(
            _stale,
            "the only other state that the loop can mean is the start x_T, which is right in the first "
            "step only",
            formulas=("guidance.ddim_step",),
        ),
        latex=r"\hat x_0=\frac{x_{\tau_i}-\sqrt{1-\bar\alpha_{\tau_i}}\,\hat\epsilon_\theta(x_{\tau_i},"
        r"\tau_i)}{\sqrt{\bar\alpha_{\tau_i}}}",
        printed=r"\frac{x_t-\sqrt{1-\bar\alpha_{\tau_i}}\,\hat\epsilon_\theta(x_{\tau_i},\tau_i)}"
        r"{\sqrt{\bar\alpha_{\tau_i}}},\quad\sigma_t",
        severity="breaks",
        origin="author",
        effect="A program stops at an undefined name, as in S004:alg5.1. If x_t is left over from x_T, ten "
        "deterministic steps of the linear schedule without guidance give unit normal data the variance "
        "0.905 where 0.688 belongs.",
    ),
    Row(
        "S004:§7.4/1",
        "claim",
        "Discrete classes are not needed: a label may be any event or observation that depends on the data "
        "alone.",
        Proved("guidance.conditional_reverse", "guidance.guided_score", "guidance.observed_eps"),
        latex=r"y\in\{1,\dots,K\}\ \text{or}\ y\in\mathbb R^m",
        conditions="the text calls it an assumption so far; (7.3) and (7.4) integrate over y and make none",
    ),
    Row(
        "S004:§7.4/2",
        "claim",
        "A similarity D, larger for what is more alike, and a loss L, smaller for it, are essentially "
        "equivalent.",
        Steps(lambda: _opposite(-1), lambda: _opposite(1), formulas=("guidance.guided_score",)),
        latex=r"L=-D+\text{const}:\quad-\nabla L=\nabla D",
        conditions="L is minus D up to a constant. The order alone does not fix a sampler: D and 2D, which "
        "order alike, differ by a scale of 2",
    ),
    Row(
        "S004:§7.4/3",
        "claim",
        "The theory does not extend to any D(x_t, c). The gradients of the levels belong together: D at "
        "level t must be the log of the mean of exp D(x_0, c) given x_t, up to a constant.",
        Counterexample(
            _any_similarity,
            "D(x_t, 0) = −x_t²/(2r), r = 1/10, at every level of a chain with the exact kernels of unit "
            "normal data: not the variance of the law q(x_0)·exp D(x_0, 0)",
            formulas=("guidance.guided_score", "guidance.observation_gradient"),
        ),
        latex=r"D(x_t,c)=\log\mathrm E\left[e^{D(x_0,c)}\mid x_t\right]+\text{const}",
        printed=r"\nabla_{x_t}\log p_\phi(y\mid x_t)\to\nabla_{x_t}D(x_t,c)\ \text{for any}\ D",
        severity="number",
        origin="author",
        effect="A distance to the target that is applied to the noised state pulls at every level as if the "
        "state were data: in 1000 steps of the linear schedule the samples have the variance 0.0480 where "
        "0.0909 belongs. A scale that is tuned for one number of steps is wrong for another: in ten steps "
        "the same pull overshoots in each, and the variance is 71000.",
    ),
    Row(
        "S004:§7.4/4",
        "claim",
        "Any trained model can stand for the classifier.",
        Proved("guidance.loss_gradient_plane", "guidance.loss_guided_eps"),
        latex=r"p(y\mid x)\propto e^{-L(f(x),y)}",
        conditions="a model and a loss that have a gradient, which the chain rule carries back to the state; "
        "and S004:§7.4/6",
    ),
    Row(
        "S004:§7.4/5",
        "claim",
        "The gradient of a similarity between a model's output and the target guides; the loss that the "
        "model was trained with can serve. The squared error is the log-likelihood of a target with normal "
        "noise.",
        Steps(
            lambda: _mse(1 / (2 * guide_scale)),
            lambda: _mse(1 / guide_scale),
            formulas=("guidance.loss_gradient_plane",),
        ),
        latex=r"-\kappa\nabla\|y-f(x)\|^2=\nabla\log\mathcal N\left(y;f(x),\tfrac1{2\kappa}I\right)",
        conditions="the scale then is a statement about the noise of the target; the mean over n entries "
        "divides it by n",
        notation=_SCALE,
    ),
    Row(
        "S004:§7.4/6",
        "claim",
        "A model of clean data does not answer for noised states.",
        Proved("guidance.probit_label", "guidance.observation_likelihood", "guidance.observation_gradient"),
        latex=r"q(y\mid x_t)=\mathrm E\left[q(y\mid x_0)\mid x_t\right]",
    ),
    Row(
        "S004:§7.4/7",
        "claim",
        "The first remedy, training on noised data, learns the classifier of every level.",
        Steps(lambda: _fitted(label_share), lambda: _fitted(1 - label_share)),
        latex=r"\arg\min_p\ -\pi_t\log p-(1-\pi_t)\log(1-p)=\pi_t",
        conditions="shown for two labels; a classifier with cross entropy that is told the level, and at its "
        "minimum. A regression learns the mean of the target given x_t, not its law",
    ),
    Row(
        "S004:§7.4/8",
        "formula",
        "The data that are predicted from x_t have ᾱ_t in both roots; the bars are missing.",
        Erratum(
            "parameterization.x_0_from_eps",
            "alpha-for-alpha-bar",
            also=("guidance.x_0_slope", "guidance.loss_guided_eps"),
        ),
        latex=r"\hat x_0=\frac{x_t-\sqrt{1-\bar\alpha_t}\,\epsilon_\theta(x_t,t)}{\sqrt{\bar\alpha_t}}",
        printed=r"\hat x_0=\frac{x_t-\sqrt{1-\alpha_t}\,\epsilon_\theta(x_t,t)}{\sqrt{\alpha_t}}",
        severity="breaks",
        origin="scanner",
        effect="Only the noise of one step is removed. For unit normal data at t = 500 of the linear "
        "schedule the printed form is 0.908·x_t, nearly the noised image, where the prediction is "
        "0.280·x_t; the model sees noise, and the gradient through it has the wrong size.",
        notation="α_t is 1 − β_t in the whole text",
    ),
    Row(
        "S004:§7.4/9",
        "claim",
        "The second remedy, asking a model of clean data about the predicted data, needs no training.",
        Approximation(
            "a factor 1 + a²·Var(x_0 | x_t)/r of the gradient, for an observation of slope a and noise r",
            _overrated,
            formulas=("guidance.point_estimate", "guidance.loss_guided_eps", "guidance.x_0_slope"),
        ),
        latex=r"q(y\mid x_t)\approx q\left(y\mid x_0=\hat x_0(x_t)\right)",
        conditions="the model has a gradient, and it is taken through the network too; exact at data, and "
        "for a log-linear classifier of normal data",
    ),
    Row(
        "S004:§7.4/10",
        "claim",
        "The second remedy is the more common, and extends what diffusion models can do.",
        NotCheckable("habits, and praise"),
    ),
    Row(
        "S004:§7.4/11",
        "claim",
        "Guidance is worse than a conditional model, since its derivation has assumptions and "
        "approximations.",
        Proved("guidance.linearisation_error", "guidance.guided_eps", "guidance.observed_eps"),
        latex=r"\hat\epsilon_\theta=-\sqrt{1-\bar\alpha_t}\,\nabla_{x_t}\log q(x_t\mid y)",
        conditions="true of the shift (7.10). (7.13) approximates nothing: with perfect parts and the "
        "scale 1 it is the conditional network. Which trained models are worse is an experiment",
    ),
    Row(
        "S004:§7.4/12",
        "claim",
        "The predicted data are not the data, the less so the larger t is.",
        Steps(
            lambda: _more_unknown(2),
            lambda: _more_unknown(1),
            formulas=("data.gaussian_posterior_variance", "data.tweedie_second_order"),
        ),
        latex=r"\mathrm E\left[(x_0-\hat x_0)^2\mid x_t\right]=\mathrm{Var}(x_0\mid x_t)",
        conditions="shown for normal data; the network that is perfect predicts the mean",
    ),
    Row(
        "S004:§7.4/13",
        "claim",
        "What the predicted data of a large t have is not noise but blur: they are a mean over all data "
        "that x_t admits, and vary less than the data.",
        Counterexample(
            _blurred,
            "the data and noise on them would vary by at least 1; the prediction x_t/10 varies by 1/100",
            formulas=("data.gaussian_posterior_mean", "ddpm.tweedie", "data.gaussian_posterior_variance"),
        ),
        latex=r"\mathrm{Var}(\hat x_0)=\mathrm{Var}(x_0)-\mathrm E\,\mathrm{Var}(x_0\mid x_t)",
        printed=r"\hat x_0=x_0+\text{noise}",
        severity="wording",
        origin="author",
        effect="A model that is made robust to noise is not made ready for x̂_0: at large t that has "
        "neither noise nor detail. The form that S004:§7.4/8 prints does have the noise of x_t in it.",
        conditions="a network near its optimum; its own errors are magnified by √((1−ᾱ_t)/ᾱ_t)",
    ),
)
