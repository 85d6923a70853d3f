"""S000: notes on DDPM, equations (1) to (17), a summary, and remarks on the loss's variance and on sampling.

Sections: 2 what it is, 3 forward, 4 reverse, 5 training, 6 summary, 7 further remarks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from itertools import product

import sympy as sp

from derivations.ddpm import COSINE, MEAN_FROM_EPS, PREDICTION, SIMPLE_LOSS, SINE
from derivations.kit import Expectation, Identity, Induction, Inequality, Series, Step
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
from derivations.ledger.row import Row
from derivations.symbols import (
    abar_t,
    alpha_t,
    beta_t,
    data_mean,
    data_variance,
    eps,
    gain,
    intercept,
    mu,
    n,
    omega,
    sigma,
    step_noise_hat,
    x_0,
    x_t,
    z,
)

Pairs = Mapping[str, tuple[Exact, Exact]]
UNIT = (sp.Integer(0), sp.Integer(1))

ALPHA, ABAR_PREV, ABAR = Fraction(1, 4), Fraction(16, 25), Fraction(4, 25)
"""Levels whose roots ½, ⅘ and ⅖ are rational."""
BETA = 1 - ALPHA
POSTERIOR_VARIANCE = BETA * (1 - ABAR_PREV) / (1 - ABAR)
AT = "α_t = 1/4, ᾱ_t = 4/25"
NORMAL = f"standard normal data, {AT}"


def _posterior_mean(data: int, x: int) -> Fraction:
    """The mean of x_{t−1} given x_t and x_0."""
    root_alpha, root_prev = Fraction(1, 2), Fraction(4, 5)
    return (root_alpha * (1 - ABAR_PREV) * x + root_prev * BETA * data) / (1 - ABAR)


@lru_cache(maxsize=1)
def _linear() -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
    """β_1 … β_T and ᾱ_0 … ᾱ_T of the linear schedule with T = 1000, to 40 digits."""
    betas = tuple(Fraction(1, 10_000) + Fraction(199, 10_000) * k / 999 for k in range(1000))
    levels, digits = [Fraction(1)], 10**40
    for beta in betas:
        levels.append(Fraction(round(levels[-1] * (1 - beta) * digits), digits))
    return betas, tuple(levels)


def _shown(value: Fraction, digits: int = 3) -> str:
    return str(sp.N(sp.Rational(value.numerator, value.denominator), digits))


def _last_level() -> Iterator[Step]:
    """What x_T still tells of the data, to first order in ᾱ_T."""
    told = (abar_t * x_0**2 - abar_t - sp.log(1 - abar_t)) / 2
    yield Series("to first order in the signal power", told, abar_t, 2, abar_t * x_0**2 / 2)


def _last_level_wrong() -> Iterator[Step]:
    told = (abar_t * x_0**2 - abar_t - sp.log(1 - abar_t)) / 2
    yield Series("the variance's share left in", told, abar_t, 2, abar_t * (x_0**2 - 1) / 2)


def _last_level_size() -> str:
    level = _linear()[1][-1]
    rest = -sp.log(1 - sp.Rational(level.numerator, level.denominator)) / 2
    power, nats = _shown(level), sp.N(rest, 3)
    return f"ᾱ_T = {power}, {nats} nats for x_0² = 1 (linear schedule, T = 1000)"


def _small_step_size() -> str:
    betas = _linear()[0]
    largest, total = betas[-1] ** 3 / 12, sum((beta**3 for beta in betas), Fraction(0)) / 12
    return (
        f"{_shown(largest)} nats in the largest of 1000 linear steps and {_shown(total)} in all, "
        "where the third derivative of the log-density is 1"
    )


def _two_variances_size() -> str:
    levels = _linear()[1]
    ratios = (f"{_shown((1 - levels[t - 1]) / (1 - levels[t]))} at t = {t}" for t in (1, 2, 100, 1000))
    return f"β̃_t/β_t is {', '.join(ratios)} (linear schedule, T = 1000)"


def _mean_alone(noise: sp.Expr) -> Iterator[Step]:
    """On standard normal data the best prediction of the noise is √(1−ᾱ_t)·x_t."""
    mean = MEAN_FROM_EPS.subs(eps, sp.sqrt(1 - abar_t) * x_t)
    yield Identity("the mean shrinks", mean, sp.sqrt(alpha_t) * x_t)
    yield Expectation("the mean alone keeps α_t of the variance", mean**2, {x_t: UNIT}, alpha_t)
    step = mean + noise * z
    yield Expectation("with its noise it keeps all", step**2, {x_t: UNIT, z: UNIT}, sp.Integer(1))


def _gradients(pathwise: sp.Expr) -> Iterator[Step]:
    """The mean of z² for z of mean μ and deviation σ, differentiated by μ in two ways."""
    law = {z: (mu, sigma**2)}
    yield Expectation("the mean", z**2, law, mu**2 + sigma**2)
    yield Expectation("through the draw", 2 * (mu + sigma * eps), {eps: UNIT}, pathwise)
    yield Expectation("through the density alone", z**2 * (z - mu) / sigma**2, law, 2 * mu)


def _fading(grown: sp.Expr) -> Iterator[Step]:
    """1/ᾱ_t ≥ 1 + Σβ: a step with α = 1/(1+r) multiplies the left by 1+r and adds r/(1+r) on the right."""
    r, total = sp.Symbol("r", positive=True), sp.Symbol("b", positive=True)
    after = (1 + total) * (1 + r)
    yield Inequality("1/ᾱ_t is at least 1 plus the sum of all β", after, ">", 1 + total + grown)
    kept = (n + 1) / (2 * n)
    more = (kept * (1 - 1 / (n + 1) ** 2), kept.subs(n, n + 1))
    base = (sp.Rational(3, 4), kept.subs(n, 2))
    yield Induction("β_t = 1/t² from t = 2 keeps (T+1)/2T", base, more, {})
    yield Inequality("more than half for ever", kept, ">", sp.Rational(1, 2))


_R = sp.Symbol("r", positive=True)


def _unrelated() -> Pairs:
    """Gaussian data of variance 4 at ᾱ_t = 9/25: the best noise prediction and the score, at three points."""
    level, spread = Fraction(9, 25), Fraction(9, 25) * 4 + Fraction(16, 25)
    points = [Fraction(k) for k in (-1, 0, 3)]
    noise = [Fraction(4, 5) * x / spread for x in points]
    score = [-x / spread for x in points]

    def covariance(one: list[Fraction], other: list[Fraction]) -> Fraction:
        mean = sum((a * b for a, b in zip(one, other, strict=True)), Fraction(0)) / 3
        return mean - sum(one, Fraction(0)) * sum(other, Fraction(0)) / 9

    squared = covariance(noise, score) ** 2 / (covariance(noise, noise) * covariance(score, score))
    name = f"squared correlation of predicted noise and score over x_t, ᾱ_t = {level}"
    return {name: (0, squared)}


def _downwards() -> Pairs:
    """From ᾱ_{t−1} = 3/4 to ᾱ_t = 1/2 the variance of the noise rises."""
    before, after = 1 - Fraction(3, 4), 1 - Fraction(1, 2)
    return {"what a reverse step does to the variance of the noise": (after - before, before - after)}


def _given_data() -> Pairs:
    """x_{t−1} given x_t, and given x_0 too."""
    return {
        f"variance of x_{{t−1}}, {NORMAL}": (POSTERIOR_VARIANCE, BETA),
        f"mean of x_{{t−1}} at x_t = 0, where x_0 = 1, {NORMAL}": (_posterior_mean(1, 0), 0),
    }


def _mean_of_the_model() -> Pairs:
    """The best network says ε = √(1−ᾱ_t)·x_t, so the right side is √α_t·x_t whatever x_0 is."""
    right = Fraction(1, 2)
    return {
        f"posterior mean at x_t = 1, x_0 = {data}, {NORMAL}": (right, _posterior_mean(data, 1))
        for data in (0, 1)
    }


def _law_of_the_model() -> Pairs:
    return {f"variance of x_{{t−1}} given x_t, {NORMAL}": (POSTERIOR_VARIANCE, BETA)}


def _bits(probability: Fraction) -> int:
    """−log₂ of a power of two."""
    return probability.denominator.bit_length() - probability.numerator.bit_length()


def _bound(joint: tuple[Fraction, ...]) -> Fraction:
    """The mean of log₂ q/p over the fair coin q."""
    return sum((Fraction(_bits(p) - 1, 2) for p in joint), Fraction(0))


EVEN, UNEVEN = (Fraction(1, 4), Fraction(1, 4)), (Fraction(1, 2), Fraction(1, 32))
"""Two models: the joint probability of the data with each value of one hidden bit."""


def _not_below() -> Pairs:
    bound = _bound(EVEN)
    name = "lower bound in bits of log p(x_0) = −1, for a model that gives each value of one bit 1/4"
    return {name: (bound, -bound)}


def _least_bound() -> Pairs:
    chosen = min((EVEN, UNEVEN), key=_bound)
    likeliest = max((EVEN, UNEVEN), key=lambda joint: sum(joint))
    bounds = f"{_bound(EVEN)} and {_bound(UNEVEN)} bits"
    name = f"p(x_0) of the model with the least bound, of two with bounds {bounds}"
    return {name: (sum(likeliest), sum(chosen))}


def _best(error: Callable[[Fraction], Fraction]) -> Fraction:
    """The best prediction, on a grid, of a noise that is 0 or 1 with odds 3 to 1."""
    law = {Fraction(0): Fraction(3, 4), Fraction(1): Fraction(1, 4)}
    grid = [Fraction(k, 16) for k in range(17)]
    return min(grid, key=lambda c: sum((w * error(e - c) for e, w in law.items()), Fraction(0)))


def _not_squared() -> Pairs:
    name = "best prediction where x_t leaves the noise to be 0 or 1 with odds 3 to 1"
    return {name: (_best(abs), _best(lambda error: error**2))}


def _linear_objective() -> Pairs:
    """The printed objective falls for ever as the prediction moves away; σ_q = 1, the true mean is 1."""
    return {
        f"objective at μ_θ = {guess}": (Fraction(guess - 1, 4), Fraction((guess - 1) ** 2, 2))
        for guess in (0, -99)
    }


def _inner_product() -> Pairs:
    """σ_q² = β̃_t and a noise of 1; the brackets read as products."""
    printed = BETA * ALPHA / (2 * POSTERIOR_VARIANCE)
    weight = BETA**2 / (2 * POSTERIOR_VARIANCE * ALPHA * (1 - ABAR))
    return {
        f"objective at ε = 1 and ε_θ = {guess}, {AT}": (printed * guess, weight * (1 - guess) ** 2)
        for guess in (1, 0, -99)
    }


NODES = {
    Fraction(0): Fraction(1, 2),
    Fraction(1): Fraction(1, 6),
    Fraction(-1): Fraction(1, 6),
    Fraction(2): Fraction(1, 12),
    Fraction(-2): Fraction(1, 12),
}
"""A law with the first five moments of the standard normal one: means of quartics are exact."""
Levels = tuple[Fraction, Fraction, Fraction]
LOW: Levels = (Fraction(12, 13), Fraction(4, 13), Fraction(3, 13))
HIGH: Levels = (Fraction(5, 13), Fraction(48, 65), Fraction(36, 65))
"""Factors of x_0, of the noise of t−1 steps and of the last noise in x_t; with rational √(1−ᾱ_t)."""


def _moments(loss: Callable[..., Fraction], draws: int) -> tuple[Fraction, Fraction]:
    """Mean and variance of a loss over independent draws, exactly."""
    mean = square = Fraction(0)
    for values in product(NODES, repeat=draws):
        weight = Fraction(1)
        for value in values:
            weight *= NODES[value]
        drawn = loss(*values)
        mean, square = mean + weight * drawn, square + weight * drawn**2
    return mean, square - mean**2


@lru_cache(maxsize=2)
def _measured(levels: Levels) -> tuple[Fraction, Fraction, Fraction, Fraction]:
    """Means and variances of the loss with two noises and of the merged one; the best network, N(0, 1) "
    "data."""
    signal, before, last = levels
    noise = Fraction(5, 13) if levels is LOW else Fraction(12, 13)
    share = last / noise

    def two(data: Fraction, earlier: Fraction, own: Fraction) -> Fraction:
        return (own - last * (signal * data + before * earlier + last * own)) ** 2

    def one(data: Fraction, merged: Fraction) -> Fraction:
        return (share * merged - last * (signal * data + noise * merged)) ** 2 + 1 - share**2

    return (*_moments(two, 3), *_moments(one, 2))


def _removed(levels: Levels, constant: int) -> Fraction:
    """4C²·E(Sε − ε_θ)² + 2C⁴, where the best network leaves S²ᾱ_t of the error."""
    signal, _, last = levels
    share = last**2 / (1 - signal**2)
    rest = 1 - share
    return 4 * rest * share * signal**2 + constant * rest**2


def _merging(constant: int, mean_shift: int) -> Pairs:
    pairs: dict[str, tuple[Exact, Exact]] = {}
    for name, levels in (("low noise", LOW), ("high noise", HIGH)):
        mean_two, variance_two, mean_one, variance_one = _measured(levels)
        pairs[f"mean, {name}"] = (mean_one + mean_shift, mean_two)
        pairs[f"variance removed, {name}"] = (_removed(levels, constant), variance_two - variance_one)
    return pairs


def _rougher_gradient(removed: int) -> Iterator[Step]:
    """The derivative by the prediction of the loss with two noises: its mean and variance over ω."""
    drawn = -2 * (SINE * eps - COSINE * omega - step_noise_hat)
    merged = -2 * (SINE * eps - step_noise_hat)
    yield Expectation("mean over ω", drawn, {omega: UNIT}, merged)
    yield Expectation("variance over ω", (drawn - merged) ** 2, {omega: UNIT}, removed * COSINE**2)


def _no_derivative_of_a_draw() -> Pairs:
    """A network that says g·x_t, at g = 0: the draws of x_0 and ε are held, as constants."""
    at = {gain: 0, intercept: 0, data_mean: 0, data_variance: 1, abar_t: sp.Rational(16, 25)}
    name = "derivative of the loss by g at g = 0, draws held, ᾱ_t = 16/25, standard normal data"
    return {name: (0, sp.diff(SIMPLE_LOSS, gain).subs(at))}


def _held_draws() -> Iterator[Step]:
    """The gradient stands under the mean: no draw is differentiated."""
    moments = {x_0: (data_mean, data_variance), eps: UNIT}
    inside = sp.diff((eps - PREDICTION) ** 2, gain)
    yield Expectation("gradient under the mean", inside, moments, sp.diff(SIMPLE_LOSS, gain))


def _a_fixed_level() -> Pairs:
    """β_t = 1/2 at every step: ᾱ_1 is the same for every T."""
    return {"limit of ᾱ_1 as T grows, all β_t = 1/2": (0, Fraction(1, 2))}


def _two_conditions() -> Pairs:
    """x_0 is one of two values: the law of x_{t−1} given both, summed and integrated, at one x_t."""
    each = Fraction(1)
    chances = Fraction(1, 3), Fraction(2, 3)
    joint = sum((chance * each for chance in chances), Fraction(0))
    return {"total over x_{t−1} and both values of x_0, x_t held": (joint, each + each)}


def _variables() -> Pairs:
    _, variance_two, _, variance_one = _measured(LOW)
    loss = "variance of the loss of the best network, standard normal data, ᾱ_t = 144/169, β_t = 9/169"
    return {
        "variables drawn for one value of (17)": (4, 3),
        loss: (variance_two, variance_one),
    }


ROWS = (
    Row(
        "S000:§2/1",
        "claim",
        "Energy models, score matching and Langevin dynamics are bound to DDPM by identities: its loss is "
        "denoising score matching with a weight, and the noise it predicts is the score up to a factor.",
        Counterexample(
            _unrelated,
            "predicted noise and score are one function up to the factor −√(1−ᾱ_t)",
            ("smld.ddpm_loss", "parameterization.score_from_eps"),
        ),
        latex=r"\epsilon_\theta(x_t,t)=-\sqrt{1-\bar\alpha_t}\;\nabla\log q(x_t)",
        printed=r"\text{energy models, score matching, Langevin dynamics}\;\perp\;"
        r"\text{DDPM and its variants}",
        severity="wording",
        origin="paper",
        effect="None on an implementation; a reader will not look for guidance, correctors and the "
        "probability-flow ODE, all of which use the predicted noise as a score.",
    ),
    Row(
        "S000:1",
        "equation",
        "The forward process leads from data x_0 to noise x_T = z.",
        Approximation(
            "of first order in ᾱ_T",
            _last_level_size,
            lambda: list(_last_level()),
            lambda: list(_last_level_wrong()),
            ("ddpm.prior_term",),
        ),
        latex=r"x=x_0\to x_1\to\dots\to x_T\approx z,\qquad"
        r"\mathrm{KL}\left(q(x_T\mid x_0)\,\|\,\mathcal N(0,1)\right)=\tfrac12\bar\alpha_Tx_0^2+O(\bar"
        r"\alpha_T^2)",
        conditions="x_T is noise up to what ᾱ_T leaves of the data",
    ),
    Row(
        "S000:§2/2",
        "claim",
        "A map x_{t−1} = μ(x_t), repeated from x_T, is asked to lead back to data.",
        Steps(lambda: list(_mean_alone(sp.sqrt(beta_t))), lambda: list(_mean_alone(beta_t))),
        latex=r"x_T\to\mu(x_T)=x_{T-1}\to\dots\to x_0",
        conditions="not with the mean of the reverse step alone, which multiplies the variance of standard "
        "normal data by α_t: 0.00004 of it is left after 1000 linear steps. With the step's noise, or with "
        "the "
        "deterministic step of DDIM in its place, it leads to the law of the data; never to the x_0 that x_T "
        "was made from. The map must know its level: μ(x_t, t)",
    ),
    Row(
        "S000:§2.1/1",
        "claim",
        "A draw from a law has no derivative by the law's parameters until it is written as a function of "
        "them and of a noise that has none.",
        Steps(lambda: list(_gradients(2 * mu)), lambda: list(_gradients(2 * mu + sigma))),
        latex=r"\frac{\partial}{\partial\mu}\mathbb E[z^2]=\mathbb E\left[2(\mu+\sigma\epsilon)\right]"
        r"=\mathbb E\left[z^2\,\frac{z-\mu}{\sigma^2}\right]",
        conditions="said of the draw. The gradient of an expectation needs no derivative of the draw: that "
        "of "
        "the log-density gives it too, with more variance",
    ),
    Row(
        "S000:§2.1/2",
        "formula",
        "A normal draw is its mean plus its deviation times a standard normal noise.",
        Proved("vae.reparameterised"),
        latex=r"z=\mu_\theta+\sigma_\theta\odot\epsilon,\qquad\epsilon\sim\mathcal N(0,I)",
        notation="with a deviation for each coordinate, as ⊙ says, the covariance is diag(σ_θ²), written "
        "σ_θ²I",
    ),
    Row(
        "S000:§2.1/3",
        "claim",
        "It has mean μ_θ and variance σ_θ².",
        Proved("gaussian.push_forward_mean", "gaussian.push_forward_variance"),
    ),
    Row(
        "S000:§2.1/4",
        "claim",
        "Written so, sampling can be differentiated, and all chance is in ε.",
        Steps(lambda: list(_gradients(2 * mu)), lambda: list(_gradients(2 * mu + sigma))),
        latex=r"\frac{\partial z}{\partial\mu}=1,\qquad\frac{\partial z}{\partial\sigma}=\epsilon",
    ),
    Row(
        "S000:§2.1/5",
        "claim",
        "x_t is drawn everywhere in diffusion, but training differentiates none of these draws: the forward "
        "process has no parameter of the network. The noise is drawn apart because it is the label.",
        Counterexample(
            _no_derivative_of_a_draw,
            "the whole gradient comes without a derivative of a draw",
            ("ddpm.loss_simple",),
            lambda: list(_held_draws()),
        ),
        latex=r"\nabla_\theta\,\mathbb E\left\|\epsilon-\epsilon_\theta(x_t,t)\right\|^2=\mathbb E\,\nabla_"
        r"\theta\left\|\epsilon-\epsilon_\theta(x_t,t)\right\|^2",
        printed=r"\text{without reparameterisation the draws of }x_t\text{ stop the gradient}",
        severity="wording",
        origin="author",
        effect="None on an implementation; a reader looks for a derivative that is not there.",
        conditions="the β_t are fixed. Learned ones, and the encoder of a VAE, do need it",
    ),
    Row(
        "S000:§3/1",
        "formula",
        "α_t is what a step keeps, ᾱ_t what all steps up to t keep.",
        Convention(
            "α_t and ᾱ_t are powers, not factors, as in Ho et al.",
            ("schedule.alpha_bar_product", "parameterization.notation_su_alpha_bar"),
        ),
        latex=r"\alpha_t=1-\beta_t,\qquad\bar\alpha_t=\prod_{i=1}^t\alpha_i",
    ),
    Row(
        "S000:2",
        "equation",
        "A forward step scales by √α_t and adds noise of variance β_t.",
        Proved("ddpm.one_step"),
        latex=r"x_t=\sqrt{\alpha_t}\,x_{t-1}+\sqrt{\beta_t}\,\epsilon_t,\qquad\epsilon_t\sim\mathcal N(0,I)",
        notation="ε_t is the noise of one step here, and from (8) on that of all t steps",
    ),
    Row(
        "S000:§3/2",
        "claim",
        "β_t is close to 0: a step disturbs little.",
        Convention(
            "a choice of schedule: at most 1/50 in the linear one of 1000 steps, up to 0.999 in the last "
            "step "
            "of the cosine one",
            ("schedule.linear", "schedule.cosine"),
        ),
    ),
    Row(
        "S000:§3/3",
        "claim",
        "The variances of the forward steps may be learned or fixed.",
        Convention(
            "either gives a bound; Ho et al. fix them, variational diffusion models learn them",
            ("schedule.linear", "vdm.learned_gamma"),
        ),
    ),
    Row(
        "S000:§3/4",
        "claim",
        "For small β_t the reverse step has the form of the forward step, so normal kernels suffice.",
        Approximation(
            "of order β³ nats in a step",
            _small_step_size,
            formulas=("elbo.small_step", "elbo.small_step_divergence"),
        ),
        latex=r"\mathrm{KL}=\tfrac1{12}\beta^3\left(\log q\right)'''^2+\dots",
        conditions="the data have a density that is smooth on the scale √β_t; for data without a density the "
        "first steps are not small in this sense",
    ),
    Row(
        "S000:3",
        "equation",
        "The kernel of one forward step.",
        Proved("ddpm.one_step"),
        latex=r"q(x_t\mid x_{t-1})=\mathcal N\left(\sqrt{\alpha_t}\,x_{t-1},\,(1-\alpha_t)I\right)",
    ),
    Row(
        "S000:§3/5",
        "claim",
        "The forward process, also called the approximate posterior, is a Markov chain.",
        Proved("elbo.forward_chain"),
        latex=r"q(x_{1:T}\mid x_0)=\prod_{t=1}^Tq(x_t\mid x_{t-1})",
        conditions="the name is that of the whole path given the data, q(x_{1:T} | x_0), and not of a kernel",
    ),
    Row(
        "S000:4",
        "equation",
        "t forward steps at once.",
        Proved("ddpm.marginal"),
        latex=r"q(x_t\mid x_0)=\mathcal N\left(\sqrt{\bar\alpha_t}\,x_0,\,(1-\bar\alpha_t)I\right)",
    ),
    Row(
        "S000:§3/6",
        "claim",
        "x_t at any level follows from x_0 and the β.",
        Proved("ddpm.marginal", "schedule.alpha_bar_product"),
        conditions="its law does; x_t itself needs one noise more",
    ),
    Row(
        "S000:§3/7",
        "claim",
        "With suitable α_t the signal power vanishes as T grows, and x_T becomes normal.",
        Steps(lambda: list(_fading(_R / (1 + _R))), lambda: list(_fading(_R + _R**2))),
        latex=r"\frac1{\bar\alpha_T}\ge1+\sum_{t=1}^T\beta_t",
        conditions="suitable means that the sum of the β_t has no bound; β_t = 1/t² from t = 2 keeps more "
        "than "
        "half of the signal power for ever, and a schedule whose β_t shrink with 1/T a fixed share of it",
    ),
    Row(
        "S000:§3/8",
        "claim",
        "The forward process involves no training.",
        Proved("ddpm.marginal"),
        conditions="the β_t are fixed",
    ),
    Row(
        "S000:§3/9",
        "formula",
        "It is ᾱ_T, the last level, that goes to 0 as T grows, and not ᾱ_t.",
        Counterexample(
            _a_fixed_level,
            "the level of a fixed step does not see T where the β_t are held",
            ("schedule.alpha_bar_product",),
            lambda: list(_fading(_R / (1 + _R))),
        ),
        latex=r"T\to\infty:\quad\bar\alpha_T\to0",
        printed=r"T\to\infty:\quad\bar\alpha_t\to0",
        severity="wording",
        origin="author",
        effect="None where it is used: the sentence ends with x_T.",
    ),
    Row(
        "S000:§4/1",
        "claim",
        "The reverse process removes noise: it goes from x_t to x_{t−1}.",
        Counterexample(
            _downwards,
            "from x_{t−1} to x_t is the forward step, which adds noise",
            ("schedule.one_minus_alpha_bar", "ddpm.step"),
        ),
        latex=r"x_t\to x_{t-1}",
        printed=r"x_{t-1}\to x_t",
        severity="wording",
        origin="author",
        effect="The arrow of the reverse process is printed forwards; the formulas below it are right.",
    ),
    Row(
        "S000:§4/2",
        "claim",
        "q(x_{t−1} | x_t) cannot simply be inferred: it depends on the law of the data.",
        Proved("ddpm.mean_from_score", "ddpm.optimal_variance"),
        latex=r"\mathbb E[x_{t-1}\mid x_t]=\frac{x_t+\beta_t\nabla\log q(x_t)}{\sqrt{\alpha_t}}",
        conditions="for Gaussian data it has a closed form",
    ),
    Row(
        "S000:§4/3",
        "claim",
        "Neural networks approximate any function.",
        NotCheckable("a theorem on networks that is cited, without a class of functions or a rate"),
    ),
    Row(
        "S000:§4/4",
        "claim",
        "If the forward kernel is normal and β_t small enough, the reverse kernel is normal too.",
        Approximation(
            "of order β³ nats in a step",
            _small_step_size,
            formulas=("elbo.small_step", "elbo.small_step_divergence"),
        ),
        latex=r"\mathrm{KL}\left(q(x_{t-1}\mid x_t)\,\|\,\mathcal N\right)=O(\beta_t^3)",
        conditions="nearly normal; exactly normal only for Gaussian data, for any β_t",
    ),
    Row(
        "S000:5",
        "equation",
        "The model of a reverse step is normal, with mean and covariance from a network.",
        Definition("the reverse kernel of the model"),
        latex=r"p_\theta(x_{t-1}\mid x_t)=\mathcal N\left(\mu_\theta(x_t,t),\,\Sigma_\theta(x_t,t)\right)",
    ),
    Row(
        "S000:§4/5",
        "claim",
        "Given the data the reverse kernel is another law than without them. Only what a model of x_t learns "
        "from it is the same.",
        Counterexample(
            _given_data,
            "that the chain is Markov lets x_0 be dropped forwards, given x_{t−1}, and not backwards, given "
            "x_t",
            ("elbo.conditional_information", "elbo.best_reverse", "ddpm.optimal_variance"),
        ),
        latex=r"q(x_{t-1}\mid x_t)=\int q(x_{t-1}\mid x_t,x_0)\,q(x_0\mid x_t)\,\mathrm dx_0",
        printed=r"q(x_{t-1}\mid x_t)=q(x_{t-1}\mid x_t,x_0)",
        severity="number",
        origin="author",
        effect="Taken at its word it makes β̃_t the right variance of every sampler. On standard normal data "
        "1000 linear steps with β̃_t end at variance 0.991; the variance of q(x_{t−1} | x_t) is β_t and "
        "gives 1.",
    ),
    Row(
        "S000:6",
        "equation",
        "The posterior of a step given the data, by Bayes' rule.",
        Proved("elbo.bayes_step"),
        latex=r"q(x_{t-1}\mid x_t,x_0)=q(x_t\mid x_{t-1},x_0)\,\frac{q(x_{t-1}\mid x_0)}{q(x_t\mid x_0)}",
    ),
    Row(
        "S000:§4/6",
        "claim",
        "All factors belong to the forward process and are known.",
        Proved("elbo.bayes_step", "ddpm.one_step", "ddpm.marginal"),
        conditions="in training, where x_0 is known; sampling has a prediction in its place",
    ),
    Row(
        "S000:§4/7",
        "claim",
        "The factors of (6) are normal densities, and (7) is their quotient.",
        Counterexample(
            lambda: {"number of the equation whose factors are meant": (7, 6)},
            "the factors stand in (6); (7) is the result",
            ("ddpm.posterior_mean", "ddpm.posterior_variance"),
        ),
        latex=r"q(x_t\mid x_{t-1}),\;q(x_{t-1}\mid x_0),\;q(x_t\mid x_0)\ \text{of (6)}",
        printed=r"\text{the factors of (7)}",
        severity="wording",
        origin="author",
        effect="A reference off by one, twice.",
    ),
    Row(
        "S000:7",
        "equation",
        "The posterior of a step given the data is normal, with this mean and variance.",
        Proved("ddpm.posterior_mean", "ddpm.posterior_variance"),
        latex=r"q(x_{t-1}\mid x_t,x_0)=\mathcal N\left(\frac{\sqrt{\alpha_t}(1-\bar\alpha_{t-1})x_t"
        r"+\sqrt{\bar\alpha_{t-1}}(1-\alpha_t)x_0}{1-\bar\alpha_t},\,"
        r"\frac{(1-\alpha_t)(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}I\right)",
    ),
    Row(
        "S000:§4/8",
        "formula",
        "Its mean is called μ̃_t, its variance β̃_t.",
        Definition("μ̃_t and β̃_t"),
        latex=r"q(x_{t-1}\mid x_t,x_0)=\mathcal N\left(\tilde\mu_t(x_t,x_0),\,\tilde\beta_tI\right)",
    ),
    Row(
        "S000:§4/9",
        "claim",
        "β̃_t is a constant of the schedule, so it is μ̃_t that must be predicted.",
        Proved("ddpm.posterior_variance"),
        conditions="the β_t are fixed. The best variance of the model is not β̃_t but depends on the data",
    ),
    Row(
        "S000:8",
        "equation",
        "The marginal solved for the data.",
        Proved("parameterization.x_0_from_eps", "ddpm.marginal"),
        latex=r"x_0=\frac{x_t-\sqrt{1-\bar\alpha_t}\,\epsilon}{\sqrt{\bar\alpha_t}}",
        conditions="ε_t is the noise of all t steps",
        notation="ε_t is the noise of one step in (2) and that of all t steps here; with that of (2) the "
        "formula "
        "holds at t = 1 alone",
    ),
    Row(
        "S000:9",
        "equation",
        "With the noise in the place of the data, μ̃_t is this function of x_t and the noise; with the "
        "network's "
        "prediction it is the mean of the model, μ_θ.",
        Counterexample(
            _mean_of_the_model,
            "the left side depends on x_0, and the right side does not",
            ("ddpm.mean_from_eps", "ddpm.mean_from_x_0"),
        ),
        latex=r"\tilde\mu_t=\frac1{\sqrt{\alpha_t}}\left(x_t-\frac{1-\alpha_t}{\sqrt{1-\bar\alpha_t}}"
        r"\epsilon\right),"
        r"\qquad\mu_\theta(x_t,t)=\frac1{\sqrt{\alpha_t}}\left(x_t-\frac{1-\alpha_t}{\sqrt{1-\bar\alpha_t}}"
        r"\epsilon_\theta(x_t,t)\right)",
        printed=r"\tilde\mu_t(x_t,x_0)=\frac1{\sqrt{\alpha_t}}\left(x_t-\frac{1-\alpha_t}{\sqrt{1-\bar"
        r"\alpha_t}}"
        r"\epsilon_\theta(x_t,t)\right)",
        severity="wording",
        origin="author",
        effect="None where it is used: (10) needs μ_θ. As an identity it would make the loss (16) vanish for "
        "every network.",
    ),
    Row(
        "S000:§4/10",
        "claim",
        "Of the mean only the noise is unknown, so the network predicts noise.",
        Proved("ddpm.mean_from_eps"),
        conditions="the noise of all t steps",
    ),
    Row(
        "S000:10",
        "equation",
        "A step of ancestral sampling.",
        Proved("ddpm.step"),
        latex=r"x_{t-1}=\frac1{\sqrt{\alpha_t}}\left(x_t-\frac{1-\alpha_t}{\sqrt{1-\bar\alpha_t}}"
        r"\epsilon_\theta(x_t,t)\right)+\sigma_tz",
        conditions="z is fresh and standard normal, and 0 in the step to the data",
    ),
    Row(
        "S000:§4/11",
        "claim",
        "The last term of (10) makes sampling random.",
        Steps(lambda: list(_mean_alone(sp.sqrt(beta_t))), lambda: list(_mean_alone(beta_t))),
        latex=r"\mathbb E\left[(\sqrt{\alpha_t}\,x_t+\sqrt{\beta_t}\,z)^2\right]=1",
        conditions="shown for standard normal data: without it all samples fall on the mean",
    ),
    Row(
        "S000:§4/12",
        "claim",
        "The network's noise gives, by (9), the mean of the reverse step.",
        Proved("ddpm.mean_from_eps"),
    ),
    Row(
        "S000:§4/13",
        "formula",
        "β̃_t is the variance of the posterior. β_t is another choice for the variance σ_t² of the model, "
        "not "
        "another value of β̃_t.",
        Erratum("ddpm.posterior_variance", "beta", also=("ddpm.fixed_large_variance",)),
        latex=r"\tilde\beta_t=\frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\beta_t,\qquad"
        r"\sigma_t^2\in\{\beta_t,\tilde\beta_t\}",
        printed=r"\tilde\beta_t=\beta_t",
        severity="wording",
        origin="author",
        effect="Two values under one name. As a variance of the model both are right for some data: β_t for "
        "standard normal ones, β̃_t for a single point.",
    ),
    Row(
        "S000:§4/14",
        "claim",
        "Both variances give similar results.",
        Approximation(
            "ᾱ_{t−1}β_t²/(1−ᾱ_t), of second order in β_t at a level that is held",
            _two_variances_size,
            formulas=("ddpm.posterior_variance_bounds",),
        ),
        latex=r"\beta_t-\tilde\beta_t=\frac{\bar\alpha_{t-1}\beta_t^2}{1-\bar\alpha_t}",
        conditions="not in the first levels: β̃_1 = 0, and a bound with that variance is infinite at t = 1 "
        "unless its last term is a decoder of its own",
    ),
    Row(
        "S000:§4/15",
        "claim",
        "The step draws x_{t−1} from the model p_θ(x_{t−1} | x_t) of (5), with a noise made standard normal.",
        Counterexample(
            _law_of_the_model,
            "the kernel with the variance β̃_t is the model's and not that of the chain, even for the best "
            "network",
            ("ddpm.optimal_variance", "ddpm.step"),
        ),
        latex=r"p_\theta(x_{t-1}\mid x_t)",
        printed=r"q(x_{t-1}\mid x_t)\ \text{by (5)}",
        severity="wording",
        origin="author",
        effect="(5) defines p_θ; that it were q is what training aims at.",
    ),
    Row(
        "S000:§4/16",
        "claim",
        "With the reverse kernel q(x_{t−1} | x_t) of every step the problem would be solved.",
        Proved("elbo.reversed_kernel", "elbo.reversed_chain"),
        latex=r"q(x_{0:T})=q(x_T)\prod_{t=1}^Tq(x_{t-1}\mid x_t)",
        conditions="started from q(x_T), which is noise up to ᾱ_T: see S000:1",
    ),
    Row(
        "S000:§4/17",
        "claim",
        "q(x_{t−1} | x_t, x_0) is a conditional law as well, given two variables, and no joint law.",
        Counterexample(
            _two_conditions,
            "a joint law of x_{t−1} and x_0 has total 1; the law given x_0 has total 1 for each value",
            ("elbo.bayes_step",),
        ),
        latex=r"\int q(x_{t-1}\mid x_t,x_0)\,\mathrm dx_{t-1}=1\quad\text{for every }x_0",
        printed=r"q(x_{t-1}\mid x_t,x_0)\ \text{is a joint law}",
        severity="wording",
        origin="author",
        effect="None: (6) derives it as the conditional law that it is.",
    ),
    Row(
        "S000:11",
        "equation",
        "The negative log-likelihood is at most the mean negative log-weight of a noised path.",
        Proved("elbo.weight", "elbo.jensen", "elbo.evidence_gap"),
        latex=r"\mathbb E[-\log p_\theta(x_0)]\le\mathbb E_q\left[-\log p(x_T)-\sum_{t\ge1}"
        r"\log\frac{p_\theta(x_{t-1}\mid x_t)}{q(x_t\mid x_{t-1})}\right]=:L",
    ),
    Row(
        "S000:§5.1/1",
        "claim",
        "Optimising the bound optimises the cross-entropy of the model relative to the data.",
        Proved("elbo.evidence_gap", "energy.cross_entropy"),
        conditions="up to the gap, the mean divergence of q(x_{1:T} | x_0) from p_θ(x_{1:T} | x_0); see "
        "S000:§5.1/4",
    ),
    Row(
        "S000:12",
        "equation",
        "The cross-entropy is the mean of −log p_θ over the data: a divergence plus the entropy of the data.",
        Proved("energy.cross_entropy"),
        latex=r"\mathcal L=\mathbb E_{q(x_0)}\left[-\log p_\theta(x_0)\right]",
    ),
    Row(
        "S000:§5.1/2",
        "claim",
        "A variational bound serves in the place of the negative log-likelihood, as no divergence is "
        "negative.",
        Proved("elbo.jensen", "elbo.evidence_gap"),
    ),
    Row(
        "S000:13",
        "equation",
        "The same bound at one x_0, from the divergence of the noised path.",
        Proved("elbo.evidence_gap"),
        latex=r"-\log p_\theta(x_0)\le\mathbb E_{q(x_{1:T}\mid x_0)}\left[\log\frac{q(x_{1:T}\mid x_0)}"
        r"{p_\theta(x_{0:T})}\right]",
    ),
    Row(
        "S000:§5.1/3",
        "claim",
        "What (13) ends with is an upper bound of −log p_θ(x_0); the evidence lower bound is its negative.",
        Counterexample(
            _not_below,
            "the mean of log q/p bounds from above",
            ("elbo.evidence_gap",),
        ),
        latex=r"\log p_\theta(x_0)\ge\mathbb E_q\left[\log\frac{p_\theta(x_{0:T})}{q(x_{1:T}\mid x_0)}"
        r"\right]",
        printed=r"\mathrm{ELBO}=\mathbb E_{q(x_{1:T}\mid x_0)}\left[\log\frac{q(x_{1:T}\mid x_0)}"
        r"{p_\theta(x_{0:T})}\right]",
        severity="wording",
        origin="author",
        effect="Maximised, as a lower bound is, it drives the likelihood down; (14) has the sign right.",
    ),
    Row(
        "S000:14",
        "equation",
        "The bound averaged over the data is a mean over whole paths.",
        Proved("elbo.evidence_gap", "elbo.weight"),
        latex=r"\mathcal L_{VLB}=\mathbb E_{q(x_{0:T})}\left[\log\frac{q(x_{1:T}\mid x_0)}{p_"
        r"\theta(x_{0:T})}\right]"
        r"\ge\mathbb E_{q(x_0)}\left[-\log p_\theta(x_0)\right]",
        conditions="the means exist",
    ),
    Row(
        "S000:§5.1/4",
        "claim",
        "The least bound is the least cross-entropy (12) if the model can close the gap; a model with a "
        "lower "
        "bound may be less likely.",
        Counterexample(
            _least_bound,
            "of two models the one with the smaller bound has the smaller likelihood",
            ("elbo.evidence_gap",),
        ),
        latex=r"\mathcal L_{VLB}(\theta)-\mathcal L(\theta)=\mathbb E_{q(x_0)}\,\mathrm{KL}\left(q(x_{1:T}"
        r"\mid x_0)"
        r"\,\|\,p_\theta(x_{1:T}\mid x_0)\right)",
        printed=r"\arg\min_\theta\mathcal L_{VLB}=\arg\min_\theta\mathcal L",
        severity="wording",
        origin="author",
        effect="Bounds of two models do not rank their likelihoods. And (11) is the bound itself: the target "
        "is (12).",
    ),
    Row(
        "S000:§5.1/5",
        "claim",
        "The bound is a sum of divergences and one more term.",
        Proved("elbo.three_terms", "elbo.reconstruction_term"),
        conditions="that term, called an entropy, is the cross-entropy −log p_θ(x_0 | x_1)",
    ),
    Row(
        "S000:15",
        "equation",
        "The bound in three terms.",
        Proved("elbo.three_terms", "elbo.prior_term", "elbo.denoising_term", "elbo.reconstruction_term"),
        latex=r"L=\mathbb E_q\Big[\mathrm{KL}\left(q(x_T\mid x_0)\|p(x_T)\right)+\sum_{t>1}\mathrm{KL}\left("
        r"q(x_{t-1}\mid x_t,x_0)\|p_\theta(x_{t-1}\mid x_t)\right)-\log p_\theta(x_0\mid x_1)\Big]",
    ),
    Row(
        "S000:§5.1/6",
        "claim",
        "L_T does not depend on the model and may be left out.",
        Proved("elbo.prior_term", "ddpm.prior_term"),
        conditions="the β_t are fixed; the value of the bound needs it. x_T is noise up to ᾱ_T: see S000:1",
    ),
    Row(
        "S000:§5.1/7",
        "claim",
        "Each other term draws a normal law to another.",
        Proved("ddpm.kl_term", "ddpm.posterior_mean"),
        latex=r"q(x_{t-1}\mid x_t,x_0)=\mathcal N(\tilde\mu_t,\tilde\beta_tI),\qquad"
        r"p_\theta(x_{t-1}\mid x_t)=\mathcal N(\mu_\theta,\Sigma_\theta)",
        notation="L_t in the text is L_{t−1} of (15)",
    ),
    Row(
        "S000:16",
        "equation",
        "Up to a constant the term is the squared error of the mean over 2σ_t².",
        Proved("ddpm.loss_weight_mu", "ddpm.kl_term"),
        latex=r"L_{t-1}=\mathbb E_q\left[\frac1{2\sigma_t^2}\left\|\tilde\mu_t-\mu_\theta\right\|^2\right]+C",
        conditions="Σ_θ = σ_t²I is fixed, and t > 1",
    ),
    Row(
        "S000:17",
        "equation",
        "The simple loss: the mean squared error of the predicted noise.",
        Proved("ddpm.loss_simple", "ddpm.loss_simple_minimum"),
        latex=r"L_{\mathrm{simple}}=\mathbb E_{t,x_0,\epsilon}\left[\left\|\epsilon-\epsilon_\theta\left("
        r"\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\epsilon,\,t\right)\right\|^2\right]",
        conditions="a choice, not the bound: its weights are 1 where the bound's are β_t²/(2σ_t²α_t(1−ᾱ_t))",
    ),
    Row(
        "S000:§5.1/8",
        "algorithm",
        "Training takes data and one t from 1 to T at random.",
        Definition("the law of t in training, uniform"),
    ),
    Row(
        "S000:§5.1/9",
        "algorithm",
        "It draws one standard normal noise.",
        Proved("ddpm.marginal"),
        latex=r"\epsilon\sim\mathcal N(0,I),\qquad x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,"
        r"\epsilon",
        notation="ε_t is the noise of all t steps here",
    ),
    Row(
        "S000:§5.1/10",
        "algorithm",
        "It minimises the square of the norm, as (17) says.",
        Counterexample(
            _not_squared,
            "without the square the best prediction is a median of the noise, not its mean",
            ("ddpm.loss_simple", "ddpm.tweedie"),
        ),
        latex=r"\left\|\epsilon-\epsilon_\theta\left(\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,"
        r"\epsilon,\,t\right)\right\|^2",
        printed=r"\left\|\epsilon_t-\epsilon_\theta\left(\sqrt{\bar\alpha}_tx_0+\sqrt{1-\bar\alpha_t}\,"
        r"\epsilon_t,"
        r"\,t\right)\right\|",
        severity="number",
        origin="author",
        effect="What is learned is no score wherever the noise given x_t is skewed, and samples are drawn to "
        "the more frequent data.",
        notation="√ᾱ_t has its index outside the root in print",
    ),
    Row(
        "S000:§6/1",
        "formula",
        "Summary of the forward process: t steps at once.",
        Proved("ddpm.marginal"),
        latex=r"x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\epsilon",
    ),
    Row(
        "S000:§6/2",
        "formula",
        "Summary of what is optimised: the simple loss.",
        Proved("ddpm.loss_simple"),
        latex=r"L_{\mathrm{simple}}=\mathbb E\left\|\epsilon-\epsilon_\theta(x_t,t)\right\|^2",
    ),
    Row(
        "S000:§6/3",
        "formula",
        "Summary of the reverse process: the posterior given the data.",
        Proved("ddpm.posterior_mean", "ddpm.posterior_variance"),
        latex=r"q(x_{t-1}\mid x_t,x_0)=\mathcal N(\tilde\mu_t,\tilde\beta_tI)",
        conditions="given the data; the model's step has a prediction in their place",
    ),
    Row(
        "S000:§6/4",
        "formula",
        "Training brings the mean of the model to that of the posterior: half their squared distance over "
        "the "
        "variance.",
        Counterexample(
            _linear_objective,
            "as an inner product with ½ the objective is linear in the prediction and has no minimum",
            ("ddpm.loss_weight_mu",),
        ),
        latex=r"\arg\min_\theta\frac1{2\sigma_q^2(t)}\left\|\mu_\theta-\mu_q\right\|_2^2",
        printed=r"\arg\min_\theta\frac1{2\sigma_q^2(t)}\left\langle\mu_\theta-\mu_q,\tfrac12\right\rangle",
        severity="breaks",
        origin="author",
        effect="Training on it diverges: every step away from the target lowers it.",
        notation="the exponent and index 2 of a norm are probably what became ½",
    ),
    Row(
        "S000:§6/5",
        "formula",
        "In terms of the noise: the squared error with the weight β_t²/(2σ_t²α_t(1−ᾱ_t)).",
        Counterexample(
            _inner_product,
            "an inner product of noise and prediction has no minimum, and 1 − ᾱ_t is missing from its factor",
            ("ddpm.loss_weight_eps",),
        ),
        latex=r"\arg\min_\theta\frac1{2\sigma_q^2(t)}\frac{(1-\alpha_t)^2}{(1-\bar\alpha_t)\alpha_t}"
        r"\left\|\epsilon-\epsilon_\theta(x_t,t)\right\|_2^2",
        printed=r"\arg\min_\theta\frac1{2\sigma_q^2(t)}\left\langle(1-\alpha_t),\alpha_t\right\rangle"
        r"\left\langle e_t,\epsilon_\theta(x_t,t)\right\rangle",
        severity="breaks",
        origin="author",
        effect="Training on it drives the prediction to the opposite of the noise, without end. With the "
        "norm "
        "restored but 1 − ᾱ_t still missing, the weight of a late term is nearly right and that of the "
        "first is 10⁴ "
        "times too small (linear schedule).",
        notation="σ_q²(t) is β̃_t, e_t the noise",
    ),
    Row(
        "S000:§6/6",
        "formula",
        "Summary of sampling: a step of ancestral sampling.",
        Proved("ddpm.step"),
        latex=r"x_{t-1}=\frac1{\sqrt{\alpha_t}}\left(x_t-\frac{1-\alpha_t}{\sqrt{1-\bar\alpha_t}}"
        r"\epsilon_\theta(x_t,t)\right)+\sigma_tz",
        conditions="z is 0 in the step to the data",
    ),
    Row(
        "S000:§7.1/1",
        "claim",
        "(17) draws three variables, x_0, ε and t. The loss with a noise for x_{t−1} and another for the "
        "last "
        "step draws four; (17) is what is left of it when the superfluous one is integrated out.",
        Counterexample(
            _variables,
            "one noise makes x_t in (17); the two noises belong to a loss that compares with the last one",
            ("ddpm.loss_simple", "ddpm.four_variable_loss", "ddpm.four_variable_variance"),
        ),
        latex=r"\left\|\epsilon-\epsilon_\theta\left(\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,"
        r"\epsilon,\,t\right)"
        r"\right\|^2,\qquad x_0,\;\epsilon,\;t",
        printed=r"\text{(17) draws }x_0,\;\epsilon_t,\;\epsilon_{t-1},\;t",
        severity="wording",
        origin="author",
        effect="The remedy has been applied in (17) already. A loss that does draw both has, at t = 500 of "
        "the "
        "linear schedule on standard normal data, a million times the variance of the merged one.",
    ),
    Row(
        "S000:§7.1/2",
        "claim",
        "A loss that draws more variables has more variance.",
        Proved("ddpm.four_variable_variance"),
        latex=r"\operatorname{Var}f=\operatorname{Var}\mathbb E[f\mid\epsilon]+\mathbb E"
        r"\operatorname{Var}[f\mid\epsilon]",
        conditions="against the same loss with one of its variables integrated out; the number of variables "
        "alone decides nothing",
    ),
    Row(
        "S000:§7.1/3",
        "claim",
        "The two noises can be merged into one: x_t sees a rotation of them, and the other direction is "
        "integrated out. The mean of the loss stays, its variance falls, and its minimiser is the predicted "
        "noise times √(β_t/(1−ᾱ_t)).",
        Proved("ddpm.four_variable_loss", "ddpm.four_variable_variance", "ddpm.four_variable_minimiser"),
        latex=r"\mathbb E_\omega\left(\epsilon_t-\epsilon_\theta\right)^2=\left(S\epsilon-\epsilon_\theta"
        r"\right)^2+C^2,"
        r"\qquad\operatorname{Var}_\omega=4C^2(S\epsilon-\epsilon_\theta)^2+2C^4,"
        r"\qquad S^2=\frac{\beta_t}{1-\bar\alpha_t}=1-C^2",
        conditions="per coordinate; the network that is trained on ε_t alone predicts S·ε, so (17) is this "
        "loss "
        "rescaled by 1/S and without its constant",
        notation="ε_{t−1} of the text is the noise of t − 1 steps, ε_t that of the last step",
    ),
    Row(
        "S000:§7.1/4",
        "claim",
        "Merging relieves the variance: measured by drawing both losses.",
        Numeric(
            lambda: _merging(2, 0),
            lambda: _merging(0, 1),
            12,
            "both losses over all draws of a law with the normal moments, the best network on standard "
            "normal data",
            ("ddpm.four_variable_variance",),
        ),
        latex=r"\operatorname{Var}_4-\operatorname{Var}_3=4C^2S^2\bar\alpha_t+2C^4",
    ),
    Row(
        "S000:§7.1/5",
        "claim",
        "The variance of the loss makes training slow: what counts is that of the gradient, and merging "
        "takes 4(1 − β_t/(1−ᾱ_t)) of it per coordinate at every prediction, and nothing of its mean.",
        Steps(
            lambda: list(_rougher_gradient(4)),
            lambda: list(_rougher_gradient(2)),
            formulas=("ddpm.four_variable_loss", "ddpm.four_variable_minimiser"),
        ),
        latex=r"\operatorname{Var}_\omega\frac{\partial}{\partial\epsilon_\theta}\left(\epsilon_t-\epsilon_"
        r"\theta\right)^2=4C^2=4\left(1-\frac{\beta_t}{1-\bar\alpha_t}\right)",
        conditions="with the best network on standard normal data, at t = 500 of the linear schedule, the "
        "gradient with two noises has 1156 times the variance of the merged one. How much slower training "
        "is depends on the optimiser",
    ),
    Row(
        "S000:§7.2/1",
        "algorithm",
        "Sampling starts at standard normal noise and makes T steps of (10).",
        Proved("ddpm.step", "ddpm.final_step"),
        conditions="the last step adds no noise (β̃_1 = 0, or z = 0); the start is that of the chain up to "
        "ᾱ_T",
    ),
    Row(
        "S000:§7.2/2",
        "formula",
        "A reverse step as noisy as the forward step has the variance σ_t² = β_t.",
        Erratum("ddpm.fixed_large_variance", "sigma-is-beta"),
        latex=r"\sigma_t^2=\beta_t",
        printed=r"\sigma_t=\beta_t",
        severity="breaks",
        origin="author",
        effect="Standard normal data come out of 1000 linear steps with variance 0.0056; σ_t² = β_t gives 1.",
    ),
    Row(
        "S000:§7.2/3",
        "claim",
        "Each sample starts at a noise of its own and takes T steps.",
        Proved("ddpm.step", "ddpm.skip_step"),
        conditions="T steps are what the plain algorithm takes; a sub-sequence of the levels is as right",
    ),
    Row(
        "S000:§7.2/4",
        "claim",
        "Langevin sampling starts anywhere and, run for ever, has in theory generated all of the data.",
        Proved("energy.ula_variance", "energy.ula_bias"),
        conditions="the start is forgotten at a geometric rate, shown for a Gaussian; with steps of finite "
        "size "
        "the law it settles at is too wide. Between far modes forgetting may take longer than any run",
    ),
    Row(
        "S000:§7.2/5",
        "claim",
        "Both samplers move along the score of the noised data, which one network predicts; they differ in "
        "how "
        "the level changes.",
        Counterexample(
            _unrelated,
            "the network of the one is the network of the other, up to the factor −√(1−ᾱ_t)",
            ("ddpm.mean_from_score", "energy.langevin_step", "smld.ddpm_loss"),
        ),
        latex=r"\mu=\frac{x_t+\beta_t\nabla\log q(x_t)}{\sqrt{\alpha_t}},\qquad x\mapsto x+\eta\nabla"
        r"\log q(x)"
        r"+\sqrt{2\eta}\,z",
        printed=r"\text{alike in form only, two altogether different models}",
        severity="wording",
        origin="paper",
        effect="None on an implementation; predictor-corrector samplers mix both with one network.",
    ),
)
