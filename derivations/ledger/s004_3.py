"""S004, chapter 3: the bound of a diffusion model, and the autoencoders that it generalises.

Claims and formulas without a number are counted by section. Those of §3.6 that the text makes before the
hierarchy, §3.6/4, but which no formula cites, follow it from §3.6/5 on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

import sympy as sp
from sympy import exp, log, sqrt

from derivations import chains
from derivations.chains import (
    DATA,
    END,
    bayes_without_data,
    forward,
    forward_law,
    noised,
    p,
    pairs,
    path_cases,
    q,
    reversal,
    reverse,
    x,
)
from derivations.ddpm import DATA_GAIN, DATA_POSTERIOR_VARIANCE
from derivations.kit import Enumeration, Expectation, Identity, Series, Step
from derivations.ledger.checks import (
    Approximation,
    Convention,
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
    T,
    abar_prev,
    abar_t,
    code_mean,
    code_variance,
    data_mean,
    data_variance,
    h,
    t,
    variance_1,
    x_0,
    x_t,
    y,
    z,
)
from derivations.symbols import shift as offset
from derivations.vae import DECODER, ENCODER, PRIOR, SPLIT
from derivations.vae_gaussian import BEST_MEAN, BEST_VARIANCE, TO_PRIOR, TOTAL

Pairs = Mapping[str, tuple[Exact, Exact]]
Cases = Iterator[tuple[str, Fraction, Fraction]]
ONE, UNIT = sp.Integer(1), (sp.Integer(0), sp.Integer(1))

_QUARTER, _HALF = Fraction(1, 4), Fraction(1, 2)
_COIN = tuple(tuple(_HALF * ((after - before) % 4 in (0, 1)) for after in range(4)) for before in range(4))
WALK = forward_law((_QUARTER,) * 4, (_COIN, _COIN))
"""Two steps of a walk on four places in a ring: a coin decides whether to stay or to go on. All of its
probabilities are powers of 1/2, so that logs to the base 2 are rational."""


def _bits(ratio: Fraction) -> Fraction:
    """The log to the base 2 of a power of 2."""
    return chains.log(ratio).primes.get(2, Fraction(0))


def _too_few_measures() -> Pairs:
    """The second line at x_1 = x_2 = 1: what is left is summed over x_0 alone; the prior is uniform."""
    printed, true = Fraction(0), Fraction(0)
    for path, weight in WALK.weights.items():
        if weight:
            end = WALK.given(path, (2,), (0,))
            true += weight * _bits(_QUARTER / end)
            if path[1:] == (1, 1):
                within = WALK.given(path, (1,), (0, 2))
                printed += WALK.of(path, (0,)) * end * within * _bits(_QUARTER / end)
    return {"−L_T in bits, two coin steps on a ring of four places, uniform prior": (printed, true)}


def _states() -> Pairs:
    return {"states x_0 to x_T of a path with T = 2": (WALK.T, len(next(iter(WALK.weights))))}


def _whole_past(given: sp.Expr) -> list[Step]:
    """One and two steps ahead, all states so far being known."""
    return [
        Enumeration("one step", lambda: path_cases(q(x(t), x(0, t - 1)), forward(t))),
        Enumeration("two steps", lambda: path_cases(q(x(t), x(0, t - 2)), given, 2)),
    ]


def _apart(known: tuple[sp.Expr, ...], later: sp.Expr) -> list[Step]:
    past = x(0, t - 2)
    both = q(sp.Tuple(past, x(t)), *known)
    return [Enumeration("past and future apart", lambda: path_cases(both, q(past, *known) * later, 2))]


def _composed(upwards: bool) -> Cases:
    """The law of x_0 kernel by kernel, against the sum over all paths."""
    for pair in pairs():
        law = pair.q if upwards else pair.p
        now = {path[pair.T]: pair.p.of(path, (pair.T,)) for path in pair.p.paths((pair.T,))}
        for time in range(pair.T, 0, -1):
            before: dict[int, Fraction] = {}
            for path in pair.p.paths((time - 1, time)):
                share = law.given(path, (time - 1,), (time,)) * now[path[time]]
                before[path[time - 1]] = before.get(path[time - 1], Fraction(0)) + share
            now = before
        for path in pair.p.paths((0,)):
            yield f"{pair.name} x_0={path[0]}", now[path[0]], pair.p.of(path, (0,))


def _told(square: sp.Expr) -> list[Step]:
    """What the level h = ᾱ_T still tells of a datum."""
    told = (h * x_0**2 - h - log(1 - h)) / 2
    return [Series("small levels", told, h, 3, h * square / 2 + h**2 / 4)]


def _told_size() -> str:
    kept = linear_levels()
    sizes = [-log(1 - sp.Rational(kept[n].numerator, kept[n].denominator)) / 2 for n in (1000, 500, 100)]
    return "at most, for data of mean square 1, linear schedule: " + ", ".join(
        f"{sp.N(size, 3)} nats at t = {n}" for size, n in zip(sizes, (1000, 500, 100), strict=True)
    )


def _started(missing: sp.Expr) -> list[Step]:
    """x_T from N(0, 1) and the exact reversed chain from there on, Gaussian data."""
    restored = data_mean + DATA_GAIN * (x_t - sqrt(abar_t) * data_mean) + sqrt(DATA_POSTERIOR_VARIANCE) * z
    start = {x_t: UNIT, z: UNIT}
    mean = data_mean - missing * data_mean
    square = (restored - mean) ** 2
    return [
        Expectation("mean", restored, start, mean),
        Expectation("variance", square, start, data_variance - missing**2 * (data_variance - 1)),
    ]


_LOST = abar_t * data_variance / (abar_t * data_variance + 1 - abar_t)
"""Share of the mean that is lost."""


def _started_size() -> str:
    level = linear_levels()[1000]
    return f"for unit variance ᾱ_T = {shown(level)} of the mean is lost with the linear schedule, T = 1000"


def _two_points(factor: int) -> list[Step]:
    """Two data, at 1 and −1, noised: third derivative of the log-density, and its largest square."""
    m, v, u = sp.Symbol("m", positive=True), sp.Symbol("v", positive=True), sp.Symbol("u", positive=True)
    state = sp.Symbol("x", real=True)
    grown, shrunk = exp(m * state / v), exp(-m * state / v)
    density = -(state**2 + m**2) / (2 * v) + log(grown + shrunk)
    lean = (grown - shrunk) / (grown + shrunk)
    square = 4 * u * (1 - u) ** 2
    third = -factor * (m / v) ** 3 * lean * (1 - lean**2)
    below = 4 * (sp.Rational(1, 3) - u) ** 2 * (sp.Rational(4, 3) - u)
    return [
        Identity("third derivative", sp.diff(density, state, 3), third),
        Identity("largest at lean² = 1/3", sp.Rational(16, 27) - square, below),
    ]


def _curvature_size() -> str:
    kept = linear_levels()
    found = []
    for n in (100, 200, 500):
        ratio = kept[n - 1] / (1 - kept[n - 1]) ** 2
        found.append(f"{shown((1 - kept[n] / kept[n - 1]) ** 3 * ratio**3 * Fraction(4, 81))} at t = {n}")
    return "leading term where it is largest, in nats, data ±1, linear schedule: " + ", ".join(found)


def _finer(order: int) -> list[Step]:
    """T equal steps share a rate; each loses the cube of its own."""
    whole, cost = sp.Symbol("B", positive=True), sp.Symbol("c", positive=True)
    return [Identity("all steps together", T * cost * (whole / T) ** 3, cost * whole**3 / T**order)]


def _finer_size() -> str:
    found = []
    for steps in (1000, 500, 250):
        first, last = Fraction(1, 10 * steps), Fraction(20, steps)
        rates = [first + Fraction(n, steps - 1) * (last - first) for n in range(steps)]
        found.append(f"{shown(sum((rate**3 for rate in rates), Fraction(0)) / 12)} for T = {steps}")
    return "nats in all, third derivative 1, linear schedule scaled with 1000/T: " + ", ".join(found)


def _variance_size() -> str:
    kept = linear_levels()
    found = [f"{shown((kept[n - 1] - kept[n]) / (1 - kept[n]))} at t = {n}" for n in (2, 10, 100, 500)]
    return "share of β_t by which a variance may fall short, linear schedule, T = 1000: " + ", ".join(found)


def _no_divergence(entropies: sp.Expr) -> list[Step]:
    """The exact reverse kernel over the forward one, on average: the entropy gained in the step."""
    before, after = (level * data_variance + 1 - level for level in (abar_prev, abar_t))
    ratio = log(reversal(t) / forward(t)).xreplace({forward(t): bayes_without_data(t)})
    return [
        Identity("Bayes' rule without data", ratio, entropies),
        Identity("Gaussian data: either sign", after - before, (abar_prev - abar_t) * (1 - data_variance)),
    ]


def _markov(given: sp.Expr) -> list[Step]:
    return [Enumeration("the data add nothing", lambda: path_cases(q(x(t), x(t - 1), DATA), given, 2))]


def _best_start(sign: int) -> list[Step]:
    """L_0: the entropy of x_0 given x_1, and a divergence."""
    one = sp.Integer(1)
    apart = -log(reversal(one)) + sign * log(reversal(one) / reverse(one))
    return [Identity("entropy and divergence", -log(reverse(one)), apart)]


def _best_end(information: int) -> list[Step]:
    """L_T: what x_T knows of x_0, and a divergence."""
    apart = information * log(noised(T) / q(END)) + log(q(END) / p(END))
    return [Identity("information and divergence", log(noised(T) / p(END)), apart)]


def _codes(left: sp.Expr) -> list[Step]:
    """The best encoder, over the data of the model."""
    data = {y: (offset, TOTAL)}
    best = {code_mean: BEST_MEAN, code_variance: BEST_VARIANCE}
    closed = TO_PRIOR.subs(best, simultaneous=True)
    return [
        Expectation("mean of all codes", BEST_MEAN, data, sp.Integer(0)),
        Expectation("variance of all codes", BEST_VARIANCE + BEST_MEAN**2, data, ONE),
        Expectation("mean divergence of one code's law", closed, data, left),
    ]


def _other_prior(gained: sp.Expr) -> list[Step]:
    """The law of all codes in the place of the prior."""
    aggregated = log(DECODER) - log(ENCODER / q(x(1, T)))
    return [Identity("bound with the law of all codes as the prior", aggregated - SPLIT, gained)]


_CHAIN = r"q(x_{1:T}\mid x_0)=\prod_{t=1}^Tq(x_t\mid x_{t-1})"
_LOSS = (
    r"\mathbb E_q\left[-\log p(x_0\mid x_1)+\mathrm{KL}\left(q(x_T\mid x_0)\,\|\,p(x_T)\right)"
    r"+\sum_{t>1}\mathrm{KL}\left(q(x_{t-1}\mid x_t,x_0)\,\|\,p(x_{t-1}\mid x_t)\right)\right]"
)
_HIERARCHY = (
    r"\mathbb E_{q_\phi(z_{1:T}\mid x)}\left[\log\frac{p_\theta(z_{0:T})}{q_\phi(z_{1:T}\mid x)}\right]"
)
_POSITIVE = "q(x_{1:T} | x_0) > 0 wherever p(x_{0:T}) > 0"

ROWS: tuple[Row, ...] = (
    Row(
        "S004:§3.1/1",
        "claim",
        "Sohl-Dickstein and others proposed diffusion models in 2015, led by thermodynamics out of "
        "equilibrium; to model the law of data is a central problem, and a hard one.",
        NotCheckable("history, physics and an opinion"),
    ),
    Row(
        "S004:§3.1/2",
        "claim",
        "Small steps turn any law of data into a known simple one, mostly the standard normal law.",
        Approximation(
            "½ᾱ_T·E‖x_0‖² nats at most, first order in ᾱ_T",
            _told_size,
            lambda: _told(x_0**2),
            lambda: _told(ONE),
            ("ddpm.prior_term", "ddpm.marginal", "elbo.jensen"),
        ),
        latex=r"\mathrm{KL}\left(q(x_T)\,\|\,\mathcal N(0,I)\right)\le\mathbb E_{x_0}\mathrm{KL}\left(q(x_T"
        r"\mid x_0)\,\|\,\mathcal N(0,I)\right)=L_T",
        conditions="in the limit ᾱ_T → 0 and not after T steps, unless ᾱ_T is 0; every law of data then has "
        "this limit, those of finite mean square at this rate",
    ),
    Row(
        "S004:§3.1/3",
        "claim",
        "Noised pixel by pixel, an image ends as an image of Gaussian noise.",
        Approximation(
            "½ᾱ_T nats per pixel of size 1, first order in ᾱ_T",
            _told_size,
            lambda: _told(x_0**2),
            lambda: _told(ONE),
            ("ddpm.prior_term",),
        ),
        latex=r"\mathrm{KL}\left(q(x_T\mid x_0=\pm1)\,\|\,\mathcal N(0,1)\right)=-\tfrac12\log(1-"
        r"\bar\alpha_T)",
        conditions="pixels in [−1, 1]; given the image its pixels are noised independently",
    ),
    Row(
        "S004:§3.1/4",
        "claim",
        "The reverse process carries every sample of the simple law to a sample of the data.",
        Approximation(
            "of the mean a share ᾱ_Tc/(ᾱ_Tc+1−ᾱ_T), first order in ᾱ_T; of the variance second order",
            _started_size,
            lambda: _started(_LOST),
            lambda: _started(abar_t),
            ("elbo.reversed_chain", "data.gaussian_posterior_mean", "data.gaussian_posterior_variance"),
        ),
        latex=r"q(x_0)=\int q(x_T)\prod_{t=1}^Tq(x_{t-1}\mid x_t)\,\mathrm dx_{1:T}",
        conditions="exact with the exact kernels and with x_T drawn from q(x_T); drawn from the simple law, "
        "with the error given here for normal data of variance c. A law is carried over, not a point",
    ),
    Row(
        "S004:§3.1/5",
        "claim",
        "To learn the reverse process is easier than to model the data directly.",
        NotCheckable("an opinion"),
    ),
    Row(
        "S004:§3.1/6",
        "claim",
        "Between coarse and fine, the laws of all states and of the ways from one to another are known "
        "exactly.",
        Proved("ddpm.marginal", "ddpm.transition", "elbo.reversed_kernel"),
        latex=r"q(x_t\mid x_s)=\mathcal N\left(\sqrt{\bar\alpha_t/\bar\alpha_s}\,x_s,\,1-\bar\alpha_t/"
        r"\bar\alpha_s\right),\qquad s<t",
        conditions="upwards; the ways down depend on the law of the data",
    ),
    Row(
        "S004:§3.2/1",
        "claim",
        "The forward process is a Markov process: given the present, the future depends on nothing else of "
        "the past; that is, past and future are independent given the present.",
        Steps(lambda: _apart((x(t - 1),), forward(t)), lambda: _apart((), q(x(t)))),
        latex=r"q(x_{0:t-2},x_t\mid x_{t-1})=q(x_{0:t-2}\mid x_{t-1})\,q(x_t\mid x_{t-1})",
        conditions="a definition, and of DDPM; of the forward chains of DDIM only DDPM's own is Markov",
    ),
    Row(
        "S004:3.1",
        "equation",
        "The Markov property, for every time that lies ahead. A chain that is built from one-step kernels "
        "has it.",
        Steps(
            lambda: _whole_past(q(x(t), x(t - 2))),
            lambda: _whole_past(q(x(t))),
            formulas=("elbo.forward_chain",),
        ),
        latex=r"q(x_{t+h}\mid x_{0:t})=q(x_{t+h}\mid x_t),\qquad h>0",
        conditions="of densities where the states are continuous: there each single value has the "
        "probability 0. The times begin at 0, with the data, and not after it",
    ),
    Row(
        "S004:§3.2/2",
        "claim",
        "The graph of the forward process is a chain; with its arrows turned it is a chain again, and so the "
        "reverse process is Markov.",
        Proved("elbo.reversed_kernel", "elbo.reversed_chain"),
        latex=r"q(x_{t-1}\mid x_{t:T})=q(x_{t-1}\mid x_t)",
        conditions="of a chain. Where two arrows meet in one state, turning them changes what is independent",
    ),
    Row(
        "S004:§3.2/3",
        "claim",
        "So the model is a Markov process too: one with the kernels q(x_{t−1} | x_t) that starts from q(x_T) "
        "is the forward process itself.",
        Proved("elbo.reversed_chain", "elbo.path_divergence"),
        latex=r"p(x_{0:T})=q(x_{0:T})",
    ),
    Row(
        "S004:§3.2/4",
        "claim",
        "The noising is called the forward process.",
        Definition("the forward process"),
    ),
    Row(
        "S004:§3.3/1",
        "claim",
        "For infinitely small steps the reverse kernel has the form of the forward kernel.",
        Approximation(
            "β_t^{3/2}ℓ'''u³/6 in the log of the kernel and β_t³ℓ'''²/12 in its divergence from the best "
            "normal one, ℓ being the log-density of x_{t−1}",
            _curvature_size,
            lambda: _two_points(2),
            lambda: _two_points(1),
            ("elbo.small_step", "elbo.small_step_divergence"),
        ),
        latex=r"\log q(x_{t-1}\mid x_t)=-\tfrac{u^2}2+\sqrt{\beta_t}\,u\left(\ell'+\tfrac{x_t}2\right)+O("
        r"\beta_t),\qquad x_{t-1}=x_t+\sqrt{\beta_t}\,u",
        conditions="a density that is thrice differentiable, and steps that are small beside the scale on "
        "which it changes, as the first steps from single points are not; the form is the same, the mean is "
        "shifted by β_t times the score",
    ),
    Row(
        "S004:§3.3/2",
        "claim",
        "A discrete chain must have many states with small steps between them to come near to that.",
        Approximation(
            "of T steps together O(T⁻²)",
            _finer_size,
            lambda: _finer(2),
            lambda: _finer(1),
            ("elbo.small_step_divergence",),
        ),
        latex=r"\sum_t\tfrac{\beta_t^3}{12}\,\mathbb E\,\ell'''^2=O(T^{-2})",
        conditions="normal kernels and data that are not normal: with normal data, and with single bits, the "
        "reverse kernel has the form of the forward one for steps of any size",
    ),
    Row(
        "S004:§3.4/1",
        "claim",
        "q is the law of the forward and p that of the reverse process, q(x_0) that of the data, p(x_T) the "
        "simple one. T is the number of steps: the states are T + 1. The text calls T the number of states.",
        Counterexample(_states, "the states counted", ("elbo.forward_chain",)),
        latex=r"x_0\to x_1\to\dots\to x_T:\quad T\ \text{steps},\ T+1\ \text{states}",
        printed=r"T=\text{number of states}",
        severity="wording",
        origin="author",
        effect="A table for T states has no place for one of x_0 to x_T. The text itself goes T steps from "
        "x_0 a few lines on.",
    ),
    Row(
        "S004:§3.4/2",
        "claim",
        "The aim is a p that reverses the known q.",
        Proved("elbo.reversed_chain", "elbo.path_divergence"),
        latex=r"q(x_{0:T})=q(x_T)\prod_{t=1}^Tq(x_{t-1}\mid x_t)",
        conditions="known is q given the data; the law of the data is not",
    ),
    Row(
        "S004:3.2",
        "equation",
        "A step of the forward process is a Markov kernel with a rate β_t.",
        Definition("the kernel of a step"),
        latex=r"q(x_t\mid x_{t-1})=\kappa_\pi(x_t\mid x_{t-1};\beta_t)",
        notation="the kernel is called T_π, and T alone is the number of steps; π, which the text does not "
        "explain, is the law that the kernel leaves as it is, here N(0, I)",
    ),
    Row(
        "S004:3.3",
        "equation",
        "The law of a noised path given the data, by the product rule and the Markov property.",
        Proved("elbo.forward_chain"),
        latex=_CHAIN,
    ),
    Row(
        "S004:3.4",
        "equation",
        "The law of a path under the model, by the product rule downwards and the Markov property.",
        Proved("elbo.reverse_chain"),
        latex=r"p(x_{0:T})=p(x_T)\prod_{t=1}^Tp(x_{t-1}\mid x_t)",
    ),
    Row(
        "S004:§3.4/3",
        "claim",
        "For small β_t the reverse kernel is given the form of the forward kernel beforehand.",
        Approximation(
            "of the variance at most ᾱ_{t−1}β_t/(1−ᾱ_t) of β_t for data of variance 1, and of the form as "
            "in S004:§3.3/1",
            _variance_size,
            formulas=("elbo.small_step", "ddpm.optimal_variance", "ddpm.optimal_variance_bounds"),
        ),
        latex=r"p(x_{t-1}\mid x_t)=\mathcal N\left(\mu(x_t,t),\sigma_t^2I\right),\qquad\tilde\beta_t\le"
        r"\sigma_t^2\le\beta_t",
        conditions="the form only: the mean depends on the data, and so does the variance, which in the "
        "first steps is far from that of the forward kernel",
    ),
    Row(
        "S004:§3.4/4",
        "claim",
        "q(x_t | x_{t−1}) is known, and q(x_{t−1} | x_t) has no closed form.",
        Proved(
            "elbo.reversed_kernel", "guidance.gaussian_reverse_mean", "guidance.gaussian_reverse_variance"
        ),
        latex=r"q(x_{t-1}\mid x_t)=q(x_t\mid x_{t-1})\,\frac{q(x_{t-1})}{q(x_t)}",
        conditions="for data of unknown law, on which it depends. For normal data, for mixtures, and for the "
        "training set as the law of the data it has one",
    ),
    Row(
        "S004:§3.4/5",
        "claim",
        "Given x_0 too, the posterior q(x_{t−1} | x_t, x_0) has a closed form.",
        Proved("elbo.bayes_step", "ddpm.posterior_mean", "ddpm.posterior_variance"),
        latex=r"q(x_{t-1}\mid x_t,x_0)=\mathcal N\left(\tilde\mu_t(x_t,x_0),\tilde\beta_tI\right)",
        conditions="for kernels whose t-fold product has one, as the normal kernel",
    ),
    Row(
        "S004:§3.4/6",
        "claim",
        "To condition on x_0 does not impair the derivation.",
        Proved("elbo.three_terms", "elbo.vanilla", "elbo.conditional_information", "elbo.best_reverse"),
        latex=r"\log\frac{q(x_{t-1}\mid x_t,x_0)}{q(x_{t-1}\mid x_t)}\ \text{is free of the model}",
        conditions="the bound and its best model stay; each term grows by the information that x_{t−1} has "
        "on x_0 given x_t, so that the best model does not bring it to 0",
    ),
    Row(
        "S004:3.5",
        "equation",
        "The model's law of the data is that of its paths, with all other states integrated out.",
        Steps(
            lambda: [Enumeration("kernel by kernel, and over all paths", lambda: _composed(False))],
            lambda: [Enumeration("with the kernels of q", lambda: _composed(True))],
            formulas=("gaussian.push_forward_mean", "gaussian.push_forward_variance"),
        ),
        latex=r"p(x_0)=\int p(x_{0:T})\,\mathrm dx_{1:T}",
        notation="what is called the Chapman–Kolmogorov equation is its general form, a marginal law; no "
        "Markov property is needed for it",
    ),
    Row(
        "S004:3.6",
        "equation",
        "The likelihood is the mean, over noised paths, of the weight of a path: importance sampling.",
        Proved("elbo.weight"),
        latex=r"p(x_0)=\mathbb E_{q(x_{1:T}\mid x_0)}\left[p(x_T)\prod_{t=1}^T\frac{p(x_{t-1}\mid x_t)}"
        r"{q(x_t\mid x_{t-1})}\right]",
        conditions=_POSITIVE,
    ),
    Row(
        "S004:3.7",
        "equation",
        "The expected log-likelihood, which is to be made large: minus the entropy of the data, minus the "
        "divergence of the data from the model.",
        Proved("elbo.weight", "energy.cross_entropy"),
        latex=r"\mathbb E_{q(x_0)}\log p(x_0)=-H(q_0)-\mathrm{KL}\left(q(x_0)\,\|\,p(x_0)\right)",
        conditions=_POSITIVE,
        notation="L is the log-likelihood and K the bound here; in Ho et al. L is −K, which the text writes "
        "in another type",
    ),
    Row(
        "S004:3.8",
        "equation",
        "Jensen's inequality: the mean of the log of the weight is a lower bound K.",
        Proved("elbo.jensen", "elbo.evidence_gap", "elbo.weight"),
        latex=r"K=\mathbb E_{q(x_{0:T})}\left[\log p(x_T)+\sum_{t=1}^T\log\frac{p(x_{t-1}\mid x_t)}"
        r"{q(x_t\mid x_{t-1})}\right]\le\mathbb E_{q(x_0)}\log p(x_0)",
        conditions="equal exactly where q(x_{1:T} | x_0) is the model's posterior p(x_{1:T} | x_0)",
    ),
    Row(
        "S004:§3.5/1",
        "claim",
        "The two kernels of a step are densities of different states, so their ratio must be rewritten: its "
        "mean is no divergence. With the exact reverse kernel it is the entropy that the step adds, of "
        "either sign.",
        Steps(
            lambda: _no_divergence(log(q(x(t - 1)) / q(x(t)))),
            lambda: _no_divergence(sp.Integer(0)),
            formulas=("elbo.reversed_kernel", "gaussian.entropy"),
        ),
        latex=r"\mathbb E_q\log\frac{q(x_{t-1}\mid x_t)}{q(x_t\mid x_{t-1})}=H(x_t)-H(x_{t-1})",
    ),
    Row(
        "S004:3.9",
        "equation",
        "The bound in three terms on every path: Bayes' rule in every step but the first, and the marginals "
        "given the data telescope.",
        Proved("elbo.three_terms", "elbo.bayes_step"),
        latex=r"K=\mathbb E_q\left[\log\frac{p(x_T)}{q(x_T\mid x_0)}+\sum_{t>1}\log\frac{p(x_{t-1}\mid x_t)}"
        r"{q(x_{t-1}\mid x_t,x_0)}+\log p(x_0\mid x_1)\right]",
        notation="in the third line the log is that of the product of both fractions",
    ),
    Row(
        "S004:§3.5/2",
        "formula",
        "By the Markov property the kernel of a step does not change when the data are given too.",
        Steps(
            lambda: _markov(forward(t)),
            lambda: _markov(q(x(t), DATA)),
            formulas=("elbo.forward_chain",),
        ),
        latex=r"q(x_t\mid x_{t-1})=q(x_t\mid x_{t-1},x_0)",
    ),
    Row(
        "S004:§3.5/3",
        "formula",
        "Bayes' rule for one step, given the data.",
        Proved("elbo.bayes_step"),
        latex=r"q(x_t\mid x_{t-1},x_0)=q(x_{t-1}\mid x_t,x_0)\,\frac{q(x_t\mid x_0)}{q(x_{t-1}\mid x_0)}",
        conditions="t ≥ 2: at t = 1 the marginal of x_0 given x_0 is a point",
    ),
    Row(
        "S004:3.10",
        "equation",
        "The first term is −L_T, a mean over x_0 and x_T. The second of its lines integrates over x_0 "
        "alone, and leaves x_1 to x_T.",
        Counterexample(
            _too_few_measures,
            "the second line at x_1 = x_2 = 1, on a chain whose probabilities are powers of 1/2",
            ("elbo.prior_term",),
        ),
        latex=r"\int\mathrm dx_{0:T}\,q(x_0)\,q(x_T\mid x_0)\,q(x_{1:T-1}\mid x_0,x_T)\log\frac{p(x_T)}"
        r"{q(x_T\mid x_0)}=-\mathbb E_{q(x_0)}\mathrm{KL}\left(q(x_T\mid x_0)\,\|\,p(x_T)\right)",
        printed=r"\int\mathrm dx_0\,q(x_0)\,q(x_T\mid x_0)\,q(x_{1:T-1}\mid x_0,x_T)\log\frac{p(x_T)}"
        r"{q(x_T\mid x_0)}",
        severity="wording",
        origin="scanner",
        effect="The line is a function of x_1 to x_T and no number. The next one has all measures again, and "
        "the result is right.",
    ),
    Row(
        "S004:3.11",
        "equation",
        "The last term is −L_0, a mean over x_0 and x_1: log p(x_0 | x_1) depends on x_1 and stays within "
        "the integral over it. The text takes it out and is left with a mean over x_0 alone.",
        Erratum("elbo.reconstruction_term", "x_1-left-free", also=("elbo.three_terms",)),
        latex=r"\int\mathrm dx_0\,\mathrm dx_1\,q(x_0)\,q(x_1\mid x_0)\log p(x_0\mid x_1)",
        printed=r"\int\mathrm dx_0\,q(x_0)\log p(x_0\mid x_1)",
        severity="number",
        origin="author",
        effect="What is printed depends on x_1. For unit normal data, the exact kernel and the linear "
        "schedule with T = 1000 the loss −log p(x_0 | x_1) has the mean −3.19 nats; with x_1 held at 0 it "
        "has 4996, and with x_1 drawn apart from x_0 9996.",
    ),
    Row(
        "S004:3.12",
        "equation",
        "A term of the sum is minus the mean divergence of the posterior from the reverse kernel. The first "
        "line has the forward kernel q(x_t | x_{t−1}, x_0) where its posterior belongs; the rest is right.",
        Erratum("elbo.denoising_term", "forward-kernel", also=("elbo.three_terms",)),
        latex=r"\int\mathrm dx_{0:T}\,q(x_{0:T})\log\frac{p(x_{t-1}\mid x_t)}{q(x_{t-1}\mid x_t,x_0)}",
        printed=r"\int\mathrm dx_{0:T}\,q(x_{0:T})\log\frac{p(x_{t-1}\mid x_t)}{q(x_t\mid x_{t-1},x_0)}",
        severity="number",
        origin="author",
        effect="With the forward kernel the terms of unit normal data and the exact model are 0 and not "
        "minus the information, −4.61 nats together for the linear schedule with T = 1000: the sum would be "
        "3.19 nats and exceed the log-likelihood, −1.42, which it should bound from below.",
    ),
    Row(
        "S004:3.13",
        "equation",
        "The bound as three means, and as one. In the first form the last mean must be over x_0 and x_1; the "
        "second form is right.",
        Erratum(
            "elbo.reconstruction_term",
            "x_1-left-free",
            also=("elbo.three_terms", "elbo.prior_term", "elbo.denoising_term"),
        ),
        latex=r"K=-" + _LOSS,
        printed=r"\dots+\int\mathrm dx_0\,q(x_0)\left[\log p(x_0\mid x_1)\right]",
        severity="number",
        origin="author",
        effect="As S004:3.11, from which it is taken: x_1 is left free, and drawn apart from x_0 it makes "
        "the bound of unit normal data worse by 9999 nats.",
    ),
    Row(
        "S004:§3.5/4",
        "claim",
        "The lower bound K is to be made large; the loss is −K. It is at least the entropy of the data.",
        Proved("elbo.path_divergence", "elbo.evidence_gap"),
        latex=r"-K=H(q_0)+\mathrm{KL}\left(q(x_{0:T})\,\|\,p(x_{0:T})\right)",
    ),
    Row(
        "S004:3.14",
        "equation",
        "The loss in three kinds of terms: L_0, L_T, and L_{t−1} for t from 2 to T.",
        Proved("elbo.three_terms", "elbo.reconstruction_term", "elbo.prior_term", "elbo.denoising_term"),
        latex=r"-K=" + _LOSS,
        notation="the mean over q is of x_0 and x_1 in the first term, of x_0 in the second and of x_0 and "
        "x_t in the others",
    ),
    Row(
        "S004:§3.5/5",
        "claim",
        "L_0 makes the end of the reverse process agree with the beginning of the forward process.",
        Steps(lambda: _best_start(1), lambda: _best_start(-1), formulas=("elbo.jensen",)),
        latex=r"L_0=H(x_0\mid x_1)+\mathbb E\,\mathrm{KL}\left(q(x_0\mid x_1)\,\|\,p(x_0\mid x_1)\right)",
        conditions="as laws given x_1; L_0 itself is least at the entropy, and not at 0",
    ),
    Row(
        "S004:§3.5/6",
        "claim",
        "L_T makes the beginning of the reverse process agree with the end of the forward process.",
        Steps(
            lambda: _best_end(1),
            lambda: _best_end(0),
            formulas=("elbo.prior_term", "elbo.jensen"),
        ),
        latex=r"L_T=\mathrm{KL}\left(q(x_T)\,\|\,p(x_T)\right)+I(x_0;x_T)",
        conditions="where p(x_T) or the kernels are learned; with both fixed, as in DDPM, it is a constant "
        "and trains nothing. It is 0 only if x_T tells nothing of x_0",
    ),
    Row(
        "S004:§3.5/7",
        "claim",
        "L_{t−1} makes each reverse step agree with the forward step turned round.",
        Proved("elbo.best_reverse", "elbo.denoising_term"),
        latex=r"L_{t-1}=I(x_0;x_{t-1}\mid x_t)+\mathbb E\,\mathrm{KL}\left(q(x_{t-1}\mid x_t)\,\|\,p(x_{t-1}"
        r"\mid x_t)\right)",
        conditions="agree with q(x_{t−1} | x_t), not with the posterior given x_0, which stands in the term: "
        "the information is left",
    ),
    Row(
        "S004:§3.5/8",
        "claim",
        "This is the objective in its last form.",
        Proved("elbo.three_terms", "ddpm.loss_weight_eps", "ddpm.loss_simple"),
        latex=r"-K=L_T+\sum_{t>1}L_{t-1}+L_0",
        conditions="of the bound; what DDPM trains is the simple loss, the same squared errors with other "
        "weights",
    ),
    Row(
        "S004:§3.6/1",
        "formula",
        "Bayes' rule for the posterior of a latent; its normaliser is an integral that mostly has no closed "
        "form.",
        Proved("vae.gaussian_evidence", "vae.optimal_encoder_mean", "vae.optimal_encoder_variance"),
        latex=r"p(z\mid x)=\frac{p(x\mid z)\,p(z)}{p(x)},\qquad p(x)=\int p(x,z')\,\mathrm dz'",
        conditions="in the linear Gaussian model the integral has one",
    ),
    Row(
        "S004:3.15",
        "equation",
        "The divergence of q(z) from the posterior is the mean of log q(z)/p(x, z), plus the log-evidence.",
        Proved("vae.variational"),
        latex=r"\mathrm{KL}\left(q(z)\,\|\,p(z\mid x)\right)=\mathbb E_{q(z)}\log\frac{q(z)}{p(x,z)}"
        r"+\log p(x)",
        notation="the text writes the mean as a divergence from p(x, z), whose integral over z is p(x) and "
        "not 1: it can be negative",
    ),
    Row(
        "S004:§3.6/2",
        "claim",
        "The evidence does not depend on q: to minimise the divergence from the posterior is to maximise "
        "minus the mean of log q(z)/p(x, z), which can be computed for suitable q and is the evidence lower "
        "bound.",
        Proved("vae.variational", "vae.evidence", "vae.gaussian_elbo"),
        latex=r"\arg\min_q\mathrm{KL}\left(q(z)\,\|\,p(z\mid x)\right)=\arg\max_q\mathbb E_{q(z)}"
        r"\log\frac{p(x,z)}{q(z)}",
        conditions="the model p is fixed; evidence is p(x) or its log",
    ),
    Row(
        "S004:3.16",
        "equation",
        "Jensen's inequality gives the bound: the mean of log p(x, z)/q(z | x).",
        Proved("vae.jensen", "elbo.jensen"),
        latex=r"\log p(x)\ge\mathbb E_{q_\phi(z\mid x)}\log\frac{p(x,z)}{q_\phi(z\mid x)}",
        conditions="q_φ(z | x) > 0 wherever p(x, z) > 0",
        notation="q_φ(z | x) is q(z) of S004:3.15, for each x another",
    ),
    Row(
        "S004:3.17",
        "equation",
        "The evidence is the bound plus the divergence of the encoder from the posterior.",
        Proved("vae.evidence", "elbo.jensen"),
        latex=r"\log p(x)=\mathbb E_{q_\phi(z\mid x)}\log\frac{p(x,z)}{q_\phi(z\mid x)}+\mathrm{KL}\left("
        r"q_\phi(z\mid x)\,\|\,p(z\mid x)\right)",
    ),
    Row(
        "S004:§3.6/3",
        "claim",
        "It says the same as S004:3.15. No divergence is negative, so the bound is one; the evidence does "
        "not depend on φ, so to maximise the bound in φ is to minimise the divergence: variational "
        "inference.",
        Proved("vae.variational", "vae.evidence", "elbo.jensen", "vae.gaussian_gap"),
        latex=r"\nabla_\phi\,\mathrm{ELBO}=-\nabla_\phi\,\mathrm{KL}\left(q_\phi(z\mid x)\,\|\,p(z\mid x)"
        r"\right)",
        conditions="in φ; in the decoder's parameters the evidence moves too. One encoder for all x need not "
        "reach the best q of each x",
    ),
    Row(
        "S004:3.18",
        "equation",
        "The bound is the mean reconstruction, minus the divergence of the encoder from the prior.",
        Proved("vae.split", "vae.gaussian_elbo"),
        latex=r"\mathrm{ELBO}=\mathbb E_{q_\phi(z\mid x)}\log p_\theta(x\mid z)-\mathrm{KL}\left(q_\phi(z"
        r"\mid x)\,\|\,p(z)\right)",
    ),
    Row(
        "S004:§3.6/4",
        "formula",
        "The bound of a Markov chain of T latents: that of one latent with z_{1:T} in its place. Layer by "
        "layer it is the bound of a diffusion model.",
        Proved("vae.hierarchical"),
        latex=r"\mathrm{ELBO}=" + _HIERARCHY,
        notation="z_0 is x, which the text does not say",
    ),
    Row(
        "S004:§3.6/5",
        "claim",
        "Every fit of a law by optimisation is called variational inference in a wide sense.",
        NotCheckable("a name, and wider than is usual: it takes in maximum likelihood and score matching"),
    ),
    Row(
        "S004:§3.6/6",
        "claim",
        "An autoencoder of this kind assumes a latent z for each datum, with the joint law p(x, z).",
        Definition("the model: prior p(z) and decoder p(x | z)"),
        latex=r"p(x,z)=p(z)\,p_\theta(x\mid z)",
    ),
    Row(
        "S004:§3.6/7",
        "claim",
        "The prior of the latent is mostly standard normal.",
        Convention(
            "a normal prior N(0, Λ⁻¹) is one: a linear map of the latent, undone by the decoder",
            ("vae.gaussian_evidence_nd",),
        ),
        latex=r"p(z)=\mathcal N(0,I)",
    ),
    Row(
        "S004:§3.6/8",
        "claim",
        "The encoder must obey the prior, which is what the divergence in the bound asks; the decoder must "
        "restore x from the code, which is what the mean asks.",
        Steps(
            lambda: _codes(log(TOTAL / variance_1) / 2),
            lambda: _codes(sp.Integer(0)),
            formulas=("vae.split", "vae.optimal_encoder_mean", "vae.optimal_encoder_variance"),
        ),
        latex=r"\mathbb E_x\mathrm{KL}\left(q_\phi(z\mid x)\,\|\,p(z)\right)=I(x;z)+\mathrm{KL}\left("
        r"q_\phi(z)\,\|\,p(z)\right)",
        conditions="the codes of all data together obey it, not those of one: the divergence is 0 only if "
        "the code tells nothing of x. Of the best encoder of the linear Gaussian model it is ½log(1 + a²/v) "
        "on average. Both terms train the encoder",
    ),
    Row(
        "S004:§3.6/9",
        "claim",
        "The restriction of the codes makes it possible to do without the encoder: data are the decoder's "
        "output for a z from the prior.",
        Steps(
            lambda: _codes(log(TOTAL / variance_1) / 2),
            lambda: _codes(sp.Integer(0)),
            formulas=("vae.gaussian_evidence", "gaussian.push_forward_variance"),
        ),
        latex=r"\mathbb E_xq_\phi(z\mid x)=p(z)\quad\Rightarrow\quad z\sim p(z),\ x\sim p_\theta(x\mid z)",
        conditions="samples have the law p(x); the decoder has seen these codes if the codes of all data "
        "have the law of the prior, as they have with the best encoder of a model that fits",
    ),
    Row(
        "S004:§3.6/10",
        "claim",
        "The simple prior limits what the autoencoder can model.",
        Steps(
            lambda: _other_prior(log(q(x(1, T)) / PRIOR)),
            lambda: _other_prior(sp.Integer(0)),
            formulas=("vae.split", "elbo.jensen"),
        ),
        latex=r"\mathrm{ELBO}_{q_\phi(z)}-\mathrm{ELBO}_{p(z)}=\mathrm{KL}\left(q_\phi(z)\,\|\,p(z)\right)"
        r"\ge0\ \text{on average over the data}",
        conditions="with encoder and decoder given. A decoder that may be any function makes every law from "
        "a normal code, and the top prior of a hierarchy is as simple",
    ),
    Row(
        "S004:§3.6/11",
        "claim",
        "A hierarchy encodes x to z_1, z_1 to z_2 and so on; it generates from p(z_T) downwards.",
        Proved("vae.hierarchical", "elbo.forward_chain", "elbo.reverse_chain"),
        latex=r"q_\phi(z_{1:T}\mid x)=\prod_{t=1}^Tq_\phi(z_t\mid z_{t-1}),\qquad p_\theta(z_{0:T})=p(z_T)"
        r"\prod_{t=1}^Tp_\theta(z_{t-1}\mid z_t)",
    ),
    Row(
        "S004:§3.6/12",
        "claim",
        "The bound of the hierarchy is that of diffusion, in S004:3.6 and S004:3.8, so both are one kind of "
        "model.",
        Proved("vae.hierarchical", "elbo.weight", "elbo.three_terms"),
        latex=_HIERARCHY,
        conditions="S004:3.8 is its mean over the data; S004:3.6 has the same weight and no log: it is the "
        "likelihood",
        notation="x_t is z_t",
    ),
    Row(
        "S004:§3.6/13",
        "claim",
        "The latents of a hierarchy are mostly smaller than the data, those of diffusion are as large.",
        Convention(
            "of the kernel: the bound holds for layers of different sizes too",
            ("vae.hierarchical", "ddpm.one_step"),
        ),
        latex=r"x_t=\sqrt{\alpha_t}\,x_{t-1}+\sqrt{\beta_t}\,\epsilon",
    ),
    Row(
        "S004:§3.6/14",
        "claim",
        "A hierarchy has its own network for each layer, diffusion one for all.",
        Convention(
            "of the network, which then has t as an input: the bound asks for neither", ("vae.hierarchical",)
        ),
        latex=r"p_\theta(x_{t-1}\mid x_t)=p_\theta(x_{t-1}\mid x_t,t)",
    ),
    Row(
        "S004:§3.6/15",
        "claim",
        "The latents of diffusion have a law that is fixed beforehand: no encoder is learned, and they are "
        "drawn at once.",
        Proved("ddpm.marginal", "elbo.three_terms", "elbo.denoising_term"),
        latex=r"x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\epsilon",
        conditions="their law given the data, and a schedule that is not learned; at once if the t-fold "
        "product of the kernel has a closed form",
    ),
)
