"""S004, chapter 8, §8.4 to §8.7: samplers of the reverse SDE, the probability-flow ODE, and DDIM's ODE.

Both algorithms are run as they are printed, on Gaussian data with the exact score: a state is a sum of
independent normal variables, whose factors are exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache
from itertools import pairwise
from math import isqrt

import sympy as sp

from derivations.ddpm import MEAN_FROM_EPS
from derivations.kit import Enumeration, Identity, Series, Step
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
from derivations.symbols import abar_t, alpha_t, beta_t, eps, h, score, x_t

Pairs = Mapping[str, tuple[Exact, Exact]]
State = dict[int, Fraction]
ONE = Fraction(1)
DIGITS = 10**40


def root(value: Fraction) -> Fraction:
    """√value: exact where it is rational, else to 40 digits."""
    top, bottom = isqrt(value.numerator), isqrt(value.denominator)
    if top**2 == value.numerator and bottom**2 == value.denominator:
        return Fraction(top, bottom)
    return Fraction(isqrt(value.numerator * DIGITS**2 // value.denominator), DIGITS)


def variance(state: State) -> Fraction:
    """Of a sum of independent standard normal variables."""
    return sum((factor**2 for factor in state.values()), Fraction(0))


def plus(state: State, share: Fraction, other: State) -> State:
    """state + share·other."""
    return {k: state.get(k, Fraction(0)) + share * other.get(k, Fraction(0)) for k in {*state, *other}}


class Program:
    """Algorithm 8.1 or 8.2 on centred Gaussian data, line by line.

    Args:
        start: deviation of x_N.
        on_state: factor of x_{i+1} in the predictor, by i.
        steps: variance v_{i+1} of the predictor, by i.
        sizes: ε_i, by i.
        spreads: variance of the noised data at level i; the score is −x over it.
    """

    def __init__(
        self,
        start: Fraction,
        on_state: Sequence[Fraction],
        steps: Sequence[Fraction],
        sizes: Sequence[Fraction],
        spreads: Sequence[Fraction],
    ) -> None:
        self.start, self.on_state, self.steps = start, on_state, steps
        self.sizes, self.spreads = sizes, spreads

    def run(self, corrections: int, own: bool = False, predict: bool = True, rounds: int = -1) -> State:
        """x_0 after N rounds, each with M corrections; ``own`` asks for the score where the corrector is."""
        x, drawn = {0: self.start}, 0
        for i in reversed(range(len(self.steps) if rounds < 0 else rounds)):
            above, level = x, i + 1
            if predict:
                drawn += 1
                x = {k: self.on_state[i] * factor for k, factor in above.items()}
                x = plus(x, -self.steps[i] / self.spreads[level], above)
                x = plus(x, root(self.steps[i]), {drawn: ONE})
            for _ in range(corrections):
                drawn += 1
                asked, at = (x, i) if own else (above, level)
                x = plus(x, -(self.sizes[i] ** 2) / 2 / self.spreads[at], asked)
                x = plus(x, self.sizes[i], {drawn: ONE})
        return x


LEVELS = (Fraction(0), Fraction(3), Fraction(5), Fraction(13))
"""σ_0 to σ_3, whose squares differ by squares."""
BETAS = (Fraction(81, 1681), Fraction(49, 625), Fraction(25, 169))
"""β_1 to β_3: they and 1 − β have rational roots."""


@cache
def exploding(data: int = 1) -> Program:
    """Algorithm 8.1 with three levels and ε_i = σ_i/2; ε_0 = 1/2."""
    squares = [level**2 for level in LEVELS]
    spreads = [data + square for square in squares]
    sizes = [Fraction(1, 2), *(level / 2 for level in LEVELS[1:3])]
    rises = [above - below for below, above in pairwise(squares)]
    return Program(LEVELS[-1], [ONE] * 3, rises, sizes, spreads)


@cache
def preserving(data: int = 1) -> Program:
    """Algorithm 8.2 with three steps and ε_i = 1/2."""
    kept = [ONE]
    for beta in BETAS:
        kept.append(kept[-1] * (1 - beta))
    spreads = [1 + (data - 1) * level for level in kept]
    return Program(ONE, [2 - root(1 - beta) for beta in BETAS], BETAS, [Fraction(1, 2)] * 3, spreads)


def _frozen() -> Pairs:
    program = preserving()
    return {
        f"variance of x_0 for unit data, M = {corrections}": (
            variance(program.run(corrections)),
            variance(program.run(corrections, own=True)),
        )
        for corrections in (1, 10, 50)
    }


def _only_predictor(corrections: int) -> list[Step]:
    """No corrections: the algorithms are reverse diffusion, whose variance has a recursion."""

    def cases() -> Iterator[tuple[str, Fraction, Fraction]]:
        for name, make in (("VE", exploding), ("VP", preserving)):
            for data in (1, 4):
                program = make(data)
                known = program.start**2
                for i in reversed(range(3)):
                    slope = program.on_state[i] - program.steps[i] / program.spreads[i + 1]
                    known = slope**2 * known + program.steps[i]
                yield f"{name}, data of variance {data}", variance(program.run(corrections)), known

    return [Enumeration("both programs without corrections are reverse diffusion", cases)]


def _corrected(own: bool) -> list[Step]:
    """The programs against the recursions of the variance, with the score of the corrector's own state."""

    def cases() -> Iterator[tuple[str, Fraction, Fraction]]:
        for name, program in (("VE", exploding(4)), ("VP", preserving(4))):
            for corrections in (1, 3):
                known = program.start**2
                for i in reversed(range(3)):
                    slope = program.on_state[i] - program.steps[i] / program.spreads[i + 1]
                    known = slope**2 * known + program.steps[i]
                    step = program.sizes[i] ** 2 / 2
                    for _ in range(corrections):
                        known = (1 - step / program.spreads[i]) ** 2 * known + 2 * step
                yield f"{name}, M = {corrections}", variance(program.run(corrections, own)), known

    return [Enumeration("predictor, then M corrections with the score of their own state", cases)]


def _no_rounds() -> Pairs:
    """N = 0 against corrections at every level without a prediction."""
    program = exploding()
    annealed = program.run(10, own=True, predict=False)
    return {
        "calls of the network, three levels, M = 10": (Fraction(0), Fraction(30)),
        "variance of what VE returns, σ up to 13, M = 10": (LEVELS[0] ** 2, variance(annealed)),
    }


def _last_step() -> Pairs:
    """Data at one point: the score is −x over the level, and the law at the first level is exact."""
    beta, level = Fraction(1, 10000), Fraction(1, 100)
    state = 2 - root(1 - beta) - 1
    return {
        "variance of x_0, data at 0, VE, σ_1 = 1/100": ((1 - 1) ** 2 + level**2, Fraction(0)),
        "variance of x_0, data at 0, VP, β_1 = 1/10000": (state**2 * beta + beta, Fraction(0)),
    }


@cache
def _tables() -> tuple[list[Fraction], list[Fraction]]:
    """ᾱ_0 to ᾱ_1000 and β_1 to β_1000 of the linear schedule; β_0 is put to 0."""
    first, rise = Fraction(1, 10000), Fraction(1, 50) - Fraction(1, 10000)
    return linear_levels(), [Fraction(0), *(first + Fraction(t, 999) * rise for t in range(1000))]


def _rounded_size() -> str:
    betas = _tables()[1]
    lost = [1 - beta / 2 - root(1 - beta) for beta in (betas[1], betas[1000])]
    whole = sum((1 - beta / 2 - root(1 - beta) for beta in betas), Fraction(0))
    return (
        f"of the state {shown(lost[0])} at β_1 and {shown(lost[1])} at β_1000 of the linear schedule, "
        f"{shown(whole)} over all steps"
    )


ROOT = sp.sqrt(1 - h)
FOUR = (1 + h / 2) * (x_t + h * score)
SIX = (1 + h / 2) * x_t + h * score
LAST = (2 - ROOT) * x_t + h * score


def _lines(half: sp.Rational) -> list[Step]:
    """The chain of 8.15 without its noise, in β = h."""
    ddpm = MEAN_FROM_EPS.subs(eps, -sp.sqrt(1 - abar_t) * score)
    held = ddpm.xreplace({beta_t: h, alpha_t: 1 - h})
    second, fourth = (x_t + h * score) / ROOT, sp.Rational(3, 8) * h**2
    return [
        Identity("lines 1 and 2 have one mean", held, second),
        Series("line 2 minus line 4", second - FOUR, h, 3, fourth * x_t),
        Identity("line 4 minus line 6", FOUR - SIX, half * h**2 * score),
        Series("line 8 minus line 7", LAST - SIX, h, 3, h**2 / 8 * x_t),
        Series("in all", second - LAST, h, 3, h**2 * (x_t / 4 + score / 2)),
    ]


def _lines_size() -> str:
    kept, betas = _tables()
    state = [1 / root(1 - beta) + root(1 - beta) - 2 for beta in (betas[1], betas[1000])]
    noise = [betas[t] ** 2 * kept[t - 1] / (1 - kept[t]) / betas[t] for t in (1, 2, 10, 1000)]
    places = ", ".join(f"{shown(share)} at t = {t}" for t, share in zip((1, 2, 10, 1000), noise, strict=True))
    return (
        f"of the state {shown(state[0])} at β_1 and {shown(state[1])} at β_1000 of the linear schedule; of "
        f"the variance of the noise the share {places}"
    )


def _samplers_size() -> str:
    """Reverse diffusion and Algorithm 4.2 with both variances on centred Gaussian data, a thousand steps."""
    kept, betas = _tables()
    found = []
    for data in (Fraction(1, 4), ONE, Fraction(4)):
        reverse, large, small = ONE, ONE, ONE
        for t in range(1000, 0, -1):
            beta, spread = betas[t], 1 + (data - 1) * kept[t]
            ancestral = (1 - beta / spread) ** 2 / (1 - beta)
            tilde = beta * (1 - kept[t - 1]) / (1 - kept[t])
            steps = ((2 - root(1 - beta) - beta / spread) ** 2, reverse, beta)
            reverse = _cut(steps[0] * steps[1] + steps[2])
            large = _cut(ancestral * large + (beta if t > 1 else 0))
            small = _cut(ancestral * small + tilde)
        ends = [sp.N(sp.Rational(str(end)), 5) for end in (reverse, large, small)]
        found.append(f"{ends[0]}, {ends[1]} and {ends[2]} for data of variance {data}")
    return (
        "variance of the samples by reverse diffusion, DDPM with β_t and DDPM with its own variance, linear "
        "schedule, T = 1000: " + "; ".join(found)
    )


def _cut(value: Fraction) -> Fraction:
    return Fraction(round(value * DIGITS), DIGITS)


def _noise_share_size() -> str:
    kept = linear_levels()
    found = [f"{shown((1 - kept[t - 1]) / (1 - kept[t]))} at t = {t}" for t in (1, 2, 3, 10, 100)]
    return f"σ_t² over β_t, linear schedule, T = 1000: {', '.join(found)}"


def _corrector_size() -> str:
    shares = []
    for share in (Fraction(1, 100), Fraction(1, 4)):
        step = share / 2
        shares.append(f"{shown(step / (2 - step))} for ε² = {share}·V")
    return "at most this share of the variance V too much, however many steps: " + ", ".join(shares)


def _inverse_size() -> str:
    betas = _tables()[1]
    found = [1 / root(1 - beta) + root(1 - beta) - 2 for beta in (betas[1], betas[1000])]
    return f"of the state {shown(found[0])} at β_1 and {shown(found[1])} at β_1000 of the linear schedule"


def _coefficient(beta: Fraction, level: Fraction) -> Fraction:
    """DDIM's coefficient of the score over ½β, at ᾱ_t = level."""
    kept = root(1 - beta / (1 - level))
    return 2 / (root(1 - beta) * (1 + kept))


def _coefficients_size() -> str:
    """The linear schedule, and a cosine schedule's last step, whose β is cut to 0.999."""
    kept, betas = _tables()
    found = [f"{shown(_coefficient(betas[t], kept[t]))} at t = {t}" for t in (1, 2, 3, 10, 100, 1000)]
    last = _coefficient(Fraction(999, 1000), Fraction(1, 10**9))
    return (
        f"DDIM's coefficient over ½β, linear schedule, T = 1000: {', '.join(found)}; {shown(last)} at "
        "β = 0.999 and ᾱ = 1e-9, the end of a cosine schedule"
    )


def _rates_size() -> str:
    kept, betas = _tables()
    integral = 999 * (betas[1] + betas[1000]) / 2
    fall = sp.log(sp.Rational(str(kept[1] / kept[1000])))
    return (
        f"from level 1 to level 1000 of the linear schedule log ᾱ falls by {sp.N(fall, 5)}, and the integral "
        f"of the rate of 8.7 is {sp.N(sp.Rational(str(integral)), 5)}"
    )


def _scaled(power: int) -> list[Step]:
    level = sp.sqrt((1 - abar_t) / abar_t)
    y = x_t / sp.sqrt(abar_t)
    return [
        Identity("x from y", y / sp.sqrt(1 + level**power), x_t),
        Identity("ᾱ from σ", 1 / (1 + level**power), abar_t),
    ]


def _without_dt() -> Pairs:
    """σ(t) = t, so g² = 2t; at t = 1, over a time of −1/10, where the score is −1."""
    slope = -Fraction(1, 2) * 2 * (-1)
    return {"change of y over dt = −1/10 at σ(t) = t = 1, score −1": (slope, slope * Fraction(-1, 10))}


def _two_scores() -> Pairs:
    """y = 1 at σ = 1 from x_0 = 0 and from x_0 = 1; y of unit data has the variance 2."""
    level, y = ONE, ONE
    return {
        f"score at y = 1, x_0 = {data}, σ = 1, unit normal data": (
            -(y - data) / level**2,
            -y / (1 + level**2),
        )
        for data in (0, 1)
    }


_STEP = r"\sigma_{i+1}^2-\sigma_i^2"
_FLOW = ("ode.drift", "ode.drift_plane")
_MEAN = r"\left(2-\sqrt{1-\beta_{i+1}}\right)x_{i+1}+\beta_{i+1}s_\theta(x_{i+1},i+1)"
_CORRECT = r"x_i\leftarrow x_i+\frac{\epsilon_i^2}2s_\theta(x_i,i)+\epsilon_iz"
_FROZEN = r"x_i=x_i+\frac{\epsilon_i^2}2s_\theta(x_{i+1},i+1)+\epsilon_iz"
_SCORE = r"s_\theta(x_t,t)=-\frac1{\sqrt{1-\bar\alpha_t}}\,\epsilon_\theta(x_t,t)"
_COEFFICIENT = (
    r"\frac{1-\bar\alpha_{i+1}}{\sqrt{\alpha_{i+1}}}-\sqrt{1-\bar\alpha_i}"
    r"\sqrt{1-\bar\alpha_{i+1}}"
)
_LAST_LEVEL = (
    "at i = 0 the corrector needs the score of the data themselves, which the noised data do not give"
)
_SAME = "the state y is x over √ᾱ, so both are asked at one point"

ROWS = (
    Row(
        "S004:§8.4/1",
        "claim",
        "The reverse SDE has no solution in closed form and must be solved numerically.",
        NotCheckable(
            "of a network nothing can be said; for Gaussian data the score is affine, and the kernels back "
            "are normal in closed form"
        ),
    ),
    Row(
        "S004:§8.4/2",
        "claim",
        "Euler–Maruyama and stochastic Runge–Kutta methods are discretisations of the reverse SDE.",
        Proved(
            "sde.euler_maruyama",
            "sde.local_error_euler_maruyama",
            "sde.heun_mean",
            "sde.runge_kutta_stage",
            "sde.runge_kutta_drift",
            "sde.runge_kutta_noise",
        ),
        latex=r"x_s=x_t-\Delta t\,(f-g^2s_\theta)+g\sqrt{\Delta t}\,z",
    ),
    Row(
        "S004:§8.4/3",
        "claim",
        "The reverse SDE can be discretised in the way of the forward chain.",
        Proved("sde.reverse_diffusion", "sde.local_reverse_diffusion", "sde.local_error_reverse_diffusion"),
        latex=r"x_s=(2-r)x_t+v\,s_\theta+\sqrt v\,z",
        conditions="of the order of Euler–Maruyama",
    ),
    Row(
        "S004:8.13",
        "equation",
        "Reverse diffusion for VE.",
        Proved("sde.reverse_diffusion_ve", "sde.reverse_drift"),
        latex=r"x_i=x_{i+1}+(" + _STEP + r")s_\theta(x_{i+1},i+1)+\sqrt{" + _STEP + r"}\,z",
        conditions="for i ≥ 1: S004:§8.4/4",
    ),
    Row(
        "S004:§8.4/4",
        "claim",
        "The reverse SDE ends at level 1, the time 0. The step to i = 0 is no step of it, and its noise must "
        "be left out, else the samples have noise of the size σ_1, or √β_1, whatever the network.",
        Counterexample(
            _last_step,
            "data at one point, exact score, exact law at level 1",
            ("sde.reverse_diffusion_error", "sde.ancestral_ve", "sde.reverse_diffusion_ve"),
        ),
        latex=r"x_0=x_1+\sigma_1^2s_\theta(x_1,1)",
        printed=r"x_0=x_1+\sigma_1^2s_\theta(x_1,1)+\sigma_1z",
        severity="number",
        origin="paper",
        effect="Samples with a standard deviation of σ_min (VE, 0.01) or √β_1 (VP, 0.01 for β_1 = 1e-4) "
        "around data that have none; N steps of 1/(N−1) are also more than the unit of time.",
        conditions="printed so in the paper too; its program returns the mean of the last step, and "
        "Algorithm 4.2 has z = 0 there",
    ),
    Row(
        "S004:§8.4/5",
        "claim",
        "As time runs down, dt becomes −Δt, while the noise keeps its sign and its variance g²Δt.",
        Proved("sde.euler_maruyama"),
        latex=r"\mathrm dt\to-\Delta t,\qquad\mathrm d\bar w\to\sqrt{\Delta t}\,z",
    ),
    Row(
        "S004:8.14",
        "equation",
        "Reverse diffusion for VP: Euler–Maruyama has 1 + ½β in the third line, the chain 2 − √(1−β) in the "
        "last two, which are equal.",
        Approximation(
            "(1 − √(1−β) − ½β)·x, which is β²/8 of the state to leading order",
            _rounded_size,
            formulas=("sde.reverse_diffusion_gap", "sde.reverse_diffusion_vp", "sde.euler_maruyama"),
        ),
        latex=r"x_i=" + _MEAN + r"+\sqrt{\beta_{i+1}}\,z",
        conditions="the second approximation sign stands between equal numbers",
    ),
    Row(
        "S004:§8.4/6",
        "formula",
        "The score of a noise predictor.",
        Proved("parameterization.score_from_eps"),
        latex=_SCORE,
    ),
    Row(
        "S004:8.15",
        "equation",
        "From the step of DDPM to reverse diffusion, line by line.",
        Approximation(
            "β²(x/4 + s/2) in the mean to leading order, and β²ᾱ_i/(1−ᾱ_{i+1}) in the variance of the noise",
            _lines_size,
            lambda: _lines(sp.Rational(1, 2)),
            lambda: _lines(sp.Rational(1, 4)),
            formulas=("sde.ancestral_gap", "sde.ancestral_noise_gap", "ddpm.mean_from_score"),
        ),
        latex=r"\frac1{\sqrt{\alpha_{i+1}}}\left(x_{i+1}+\beta_{i+1}s_\theta\right)="
        + _MEAN
        + r"+\beta_{i+1}^2\left(\tfrac14x_{i+1}+\tfrac12s_\theta\right)+O(\beta_{i+1}^3)",
        conditions="the noise only where t is large: S004:§8.4/9",
    ),
    Row(
        "S004:§8.4/7",
        "claim",
        "Reverse diffusion for VP and the sampler of DDPM are nearly equivalent.",
        Approximation(
            "of second order in each step",
            _samplers_size,
            formulas=("sde.ancestral_gap", "sde.ancestral_noise_gap", "sde.local_ancestral"),
        ),
        conditions="above level 1, and for many steps",
    ),
    Row(
        "S004:§8.4/8",
        "formula",
        "The variance of DDPM's step has 1 − ᾱ_{t−1} above; printed is ᾱ_t − 1.",
        Erratum("ddpm.posterior_variance", "subscript-fallen"),
        latex=r"\tilde\beta_t=\frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\beta_t",
        printed=r"\sigma_t^2=\frac{1-\bar\alpha_t-1}{1-\bar\alpha_t}\beta_t",
        severity="breaks",
        origin="scanner",
        effect="A negative variance: its root is no number.",
    ),
    Row(
        "S004:§8.4/9",
        "claim",
        "The variance of DDPM's step is taken for β_t.",
        Approximation(
            "β_t²ᾱ_{t−1}/(1−ᾱ_t), second order in β_t where 1 − ᾱ_t is held, and all of β_t in the last step",
            _noise_share_size,
            formulas=("sde.ancestral_noise_gap", "ddpm.posterior_variance", "ddpm.fixed_large_variance"),
        ),
        latex=r"\beta_t-\tilde\beta_t=\frac{\bar\alpha_{t-1}}{1-\bar\alpha_t}\beta_t^2",
        conditions="β_t small beside 1 − ᾱ_t: not in the first few levels. In the last step DDPM adds no "
        "noise and this sampler does: S004:§8.4/4. Above it σ_t² = β_t is a convention of DDPM too, exact "
        "for standard normal data",
    ),
    Row(
        "S004:§8.4/10",
        "claim",
        "DDPM is a special discretisation of VP and of its reverse SDE.",
        Proved("sde.ancestral", "sde.local_ancestral", "sde.local_ancestral_noise", "sde.chain_gap_right"),
        latex=r"x_s=\frac{x_t+v\,s_\theta}{r}+\sqrt{\frac{v\,b_s^2}{b_t^2}}\,z",
        conditions="in the sense of an equal limit: its steps differ from those of reverse diffusion in "
        "second order, and its own forward chain is nearer to it than the SDE",
    ),
    Row(
        "S004:§8.4/11",
        "claim",
        "Reverse diffusion is the name of sampling with the forward chain's discretisation.",
        Definition("reverse diffusion"),
    ),
    Row(
        "S004:§8.5/1",
        "claim",
        "Reverse diffusion works well enough in practice.",
        NotCheckable("an empirical claim without numbers"),
    ),
    Row(
        "S004:§8.5/2",
        "claim",
        "With the score, Langevin steps sample from p_t directly.",
        Approximation(
            "of the variance at most εV/(2V−ε) for the step size ε, half of the source's ε_i²: of first "
            "order in it",
            _corrector_size,
            formulas=("sde.corrector_excess", "sde.corrector", "energy.ula_bias"),
        ),
        latex=r"0\le\mathrm{Var}-V\le\frac{\epsilon V}{2V-\epsilon}",
        conditions="the exact score, and steps enough to forget the start",
    ),
    Row(
        "S004:§8.5/3",
        "claim",
        "Corrections that start from the predictor's state bring it closer to p_t.",
        Proved("sde.corrector_forgets", "sde.corrector_excess"),
        latex=r"(1-\epsilon/V)^{2M}\left(\mathrm{Var}_0-V\right)",
        conditions="as long as its error exceeds the bias of the steps: the exact law they make worse",
    ),
    Row(
        "S004:§8.5/4",
        "claim",
        "A predictor–corrector sampler has the predictor in the outer loop and the corrector in the inner "
        "one.",
        Steps(
            lambda: _corrected(True),
            lambda: _corrected(False),
            formulas=("sde.corrected_variance", "sde.corrected_mean"),
        ),
        conditions="the corrector asks for the score at its own state: S004:alg8.1",
    ),
    Row(
        "S004:§8.5/5",
        "claim",
        "With M = 0 the algorithms are reverse diffusion.",
        Steps(
            lambda: _only_predictor(0),
            lambda: _only_predictor(1),
            formulas=("sde.corrected_variance", "sde.reverse_diffusion_ve", "sde.reverse_diffusion_vp"),
        ),
        latex=r"M=0",
    ),
    Row(
        "S004:§8.5/6",
        "claim",
        "Corrections alone, at every level, are annealed Langevin sampling. The predictor must be left out "
        "for this, with x_i begun at x_{i+1}; N = 0 leaves out the outer loop and with it everything.",
        Counterexample(
            _no_rounds,
            "Algorithm 8.1 on unit data, levels 3, 5 and 13, ε_i of 1/2, 3/2 and 5/2",
            ("sde.corrector", "sde.corrected_variance", "smld.level_variance"),
        ),
        latex=r"x_i\leftarrow x_{i+1},\qquad" + _CORRECT,
        printed=r"N=0",
        severity="breaks",
        origin="author",
        effect="The network is never asked. VE returns the constant 0, as σ_0 = 0, and VP its starting "
        "noise. Nor is the printed corrector Langevin's once the predictor is gone: S004:alg8.1.",
    ),
    Row(
        "S004:§8.5/7",
        "claim",
        "Corrections alone give worse samples, both together slightly better ones at equal cost; so SMLD was "
        "behind DDPM because of its sampler.",
        NotCheckable("an empirical comparison without numbers"),
    ),
    Row(
        "S004:alg8.1",
        "algorithm",
        "Predictor–corrector sampling for VE: the corrector asks for the score at its own state and level.",
        Erratum("sde.corrected_variance", "frozen-score", also=("sde.frozen_corrector", "sde.corrector")),
        latex=_CORRECT,
        printed=_FROZEN,
        severity="breaks",
        origin="author",
        effect="The corrector never learns where its state is: each step repeats one drift and adds noise. "
        "In one round the variance grows like M², over N rounds like its N-th power. "
        "With the levels 3, 5 and 13, unit data, ε_i of 1/2, 3/2 and 5/2 and "
        "M = 50 the samples have the variance 542 and not 1.07.",
        conditions=_LAST_LEVEL,
    ),
    Row(
        "S004:alg8.2",
        "algorithm",
        "Predictor–corrector sampling for VP: the corrector asks for the score at its own state and level.",
        Counterexample(
            _frozen,
            "the algorithm run as printed and with the score of the corrector's own state, three steps with "
            "β of 81/1681, 49/625 and 25/169, ε_i = 1/2",
            ("sde.corrected_variance", "sde.frozen_corrector", "sde.reverse_diffusion_vp"),
        ),
        latex=_CORRECT,
        printed=_FROZEN,
        severity="breaks",
        origin="author",
        effect="As in Algorithm 8.1: with M = 50 corrections of ε_i = 1/2 the variance of the samples of "
        "unit data is 32224 and not 1.07.",
        conditions=_LAST_LEVEL,
    ),
    Row(
        "S004:8.16",
        "equation",
        "The Fokker–Planck equation of the forward SDE.",
        Proved("sde.fokker_planck", "sde.fokker_planck_plane"),
        latex=r"\partial_tp_t=-\nabla\cdot(fp_t)+\tfrac12g^2\Delta p_t",
        notation="derivatives by x: the divergence of a current and the Laplacian",
    ),
    Row(
        "S004:8.17",
        "equation",
        "A process without noise, whose drift loses half of g² times the score of its own density.",
        Proved("ode.drift"),
        latex=r"\tilde f=f-\tfrac12g^2\nabla\log\tilde p_t,\qquad\tilde g=0",
    ),
    Row(
        "S004:8.18",
        "equation",
        "Its Fokker–Planck equation is that of the diffusion.",
        Proved("ode.drift", "ode.drift_plane"),
        latex=r"\partial_t\tilde p_t=-\nabla\cdot(f\tilde p_t)+\tfrac12g^2\Delta\tilde p_t",
    ),
    Row(
        "S004:§8.6/1",
        "claim",
        "Both processes solve one equation and so have one density.",
        Proved("ode.drift", "ode.drift_plane", "ode.not_unique_plane"),
        latex=r"\tilde p_0=p_0\ \Rightarrow\ \tilde p_t=p_t",
        conditions="started from the same density, where the equation has one solution. Equal densities do "
        "not fix the process: in the plane other velocities have them too",
    ),
    Row(
        "S004:§8.6/2",
        "claim",
        "For every diffusion with drift f and diffusion g(t) there is a deterministic process with its "
        "densities.",
        Proved(*_FLOW),
        latex=r"\dot x=f-\tfrac12g^2\nabla\log p_t",
        conditions="started from the same density",
    ),
    Row(
        "S004:8.19",
        "equation",
        "The probability-flow ODE.",
        Proved(*_FLOW),
        latex=r"\mathrm dx=\left[f(x,t)-\tfrac12g(t)^2\,\nabla\log p_t(x)\right]\mathrm dt",
    ),
    Row(
        "S004:§8.6/3",
        "claim",
        "The reverse SDE leads to the same ODE, read backwards.",
        Proved("ode.of_reverse_sde"),
        latex=r"-\left[(g^2\nabla\log p-f)-\tfrac12g^2\nabla\log p\right]=f-\tfrac12g^2\nabla\log p",
    ),
    Row(
        "S004:8.20",
        "equation",
        "The step of the VE ODE: half of the score's coefficient, no noise.",
        Proved("ode.ve_step"),
        latex=r"x_i=x_{i+1}+\tfrac12(" + _STEP + r")s_\theta(x_{i+1},i+1)",
        conditions="Euler's step in σ²; Euler's step in σ, DDIM, is another: ode.ve_ddim_gap",
    ),
    Row(
        "S004:8.21",
        "equation",
        "The step of the VP ODE: half of the score's coefficient, the drift undone whole, no noise.",
        Proved("ode.vp_step"),
        latex=r"x_i=\left(2-\sqrt{1-\beta_{i+1}}\right)x_{i+1}+\tfrac12\beta_{i+1}s_\theta(x_{i+1},i+1)",
    ),
    Row(
        "S004:§8.6/4",
        "claim",
        "The ODE can be solved with numerical methods for ODEs, of any order.",
        Proved("ode.euler_error", "ode.heun_error", "ode.rk4_error"),
        latex=r"x_s=x_t+h\sum_ib_ik_i",
        conditions="a score smooth enough for the order",
    ),
    Row(
        "S004:§8.6/5",
        "claim",
        "The ODE is deterministic and reversible, so an image can be encoded as the noise that leads to it.",
        Proved("ode.of_reverse_sde", "ode.gaussian_flow", "ddim.inversion", "ddim.inversion_error"),
        latex=r"x_0\mapsto x_1\mapsto x_0",
        conditions="the solution, with a score that has one through each point; a step up and one down miss "
        "each other in second order",
    ),
    Row(
        "S004:§8.6/6",
        "claim",
        "Consistency models rest on the ODE and are much faster.",
        NotCheckable("an empirical claim without numbers; their formulas are the topic consistency"),
    ),
    Row(
        "S004:§8.7/1",
        "formula",
        "The score of a noise predictor has √(1−ᾱ_t) below; here the bar is lost, against 4.11 and §8.4.",
        Erratum("parameterization.score_from_eps", "bar-missing-score"),
        latex=_SCORE,
        printed=r"s_\theta(x_t,t)=-\frac1{\sqrt{1-\alpha_t}}\,\epsilon_\theta(x_t,t)",
        severity="breaks",
        origin="scanner",
        effect="The score is too large by √((1−ᾱ_t)/β_t): 9.6 times at t = 500 of the linear schedule with "
        "T = 1000.",
    ),
    Row(
        "S004:8.22",
        "equation",
        "DDIM's step through the score: under 1 − ᾱ_{i+1} stands the root of α_{i+1}, from the second line "
        "on.",
        Erratum(
            "ode.ddim_coefficient",
            "alpha-of-the-step-before",
            also=("ddim.score_form", "ddim.deterministic_step"),
        ),
        latex=r"x_i=\frac1{\sqrt{\alpha_{i+1}}}x_{i+1}+\left(" + _COEFFICIENT + r"\right)s_"
        r"\theta(x_{i+1},i+1)",
        printed=r"\frac{1-\bar\alpha_{i+1}}{\sqrt{\alpha_i}}-\sqrt{1-\bar\alpha_i}\sqrt{1-\bar\alpha_{i+1}}",
        severity="breaks",
        origin="author",
        effect="For the linear schedule with T = 1000 the coefficient is too small by 0.2 % at t = 500; in "
        "the last step of a cosine schedule, with β cut to 0.999, it is 1.0 instead of 30.6. In the step to "
        "x_0 there is no α_0.",
    ),
    Row(
        "S004:§8.7/2",
        "formula",
        "In the last line 1/√α_{i+1} becomes 2 − √α_{i+1}.",
        Approximation(
            "(1−√α)²/√α, which is β²/4 to leading order",
            _inverse_size,
            formulas=("ode.ddim_state_gap", "ode.ddim_step_gap"),
        ),
        latex=r"\frac1{\sqrt\alpha}-(2-\sqrt\alpha)=\frac{(1-\sqrt\alpha)^2}{\sqrt\alpha}",
    ),
    Row(
        "S004:fig8.1",
        "figure",
        "To be compared are ½β_{i+1} and DDIM's coefficient of step i + 1; drawn is ½β_i beside it.",
        Erratum(
            "ode.ddim_coefficient",
            "half-beta-of-the-step-before",
            also=("ode.ddim_coefficient_ratio", "ode.ddim_coefficient_gap"),
        ),
        latex=r"\tfrac12\beta_{i+1}\quad\text{and}\quad" + _COEFFICIENT,
        printed=r"\tfrac12\beta_i\quad\text{and}\quad\frac{1-\bar\alpha_{i+1}}{\sqrt{\alpha_i}}"
        r"-\sqrt{1-\bar\alpha_i}\sqrt{1-\bar\alpha_{i+1}}",
        severity="number",
        origin="author",
        effect="The curves are shifted by a step: 0.00999 beside 0.01015 at t = 1000 of the linear schedule, "
        "where 0.01000 belongs.",
    ),
    Row(
        "S004:§8.7/3",
        "claim",
        "DDIM's coefficient of the score is nearly ½β.",
        Approximation(
            "β²(1/4 + 1/(8(1−ᾱ_t))), second order where 1 − ᾱ_t is held, and ½β itself at the first step",
            _coefficients_size,
            formulas=(
                "ode.ddim_coefficient_ratio",
                "ode.ddim_coefficient_gap",
                "ode.ddim_coefficient_series",
            ),
        ),
        latex=r"1<\frac{c_t}{\frac12\beta_t}=\frac2{\sqrt{\alpha_t}\left(1+\sqrt{1-\beta_t/(1-\bar\alpha_t)}"
        r"\right)}\le\frac2{\sqrt{\alpha_t}}",
        conditions="β small beside 1 − ᾱ and beside 1. In the step to x_0 the discretised ODE moves half as "
        "far along the score as DDIM, for every number of steps; at the end of a cosine schedule a "
        "sixtieth. Coefficient and ½β of one step, not as they are printed: S004:8.22, S004:fig8.1",
    ),
    Row(
        "S004:§8.7/4",
        "claim",
        "The ODE of DDIM and the probability flow of VP with the rate of 8.7 are nearly equivalent.",
        Approximation(
            "first order in 1/N, in the rate alone: with the rate −ᾱ'/ᾱ the two ODEs are equal",
            _rates_size,
            formulas=("ode.vp_is_ddim_ode", "sde.chain_gap_right", "sde.rate_from_beta"),
        ),
        latex=r"\dot x=-\tfrac12\beta\,(x+s),\quad\beta=-\frac{\mathrm d\log\bar\alpha}{\mathrm dt}\ \iff\ "
        r"\dot y=\dot\sigma\,\epsilon_\theta",
        conditions="the nearness of the coefficients of single steps, the reason given, is not needed: it "
        "compares two discretisations of one ODE",
    ),
    Row(
        "S004:§8.7/5",
        "formula",
        "With y = x/√ᾱ and σ = √((1−ᾱ)/ᾱ), x is y/√(1+σ²) and ᾱ is 1/(1+σ²).",
        Steps(
            lambda: _scaled(2),
            lambda: _scaled(1),
            formulas=("schedule.sigma", "parameterization.notation_edm_sigma"),
        ),
        latex=r"x_t=\frac{y_t}{\sqrt{1+\sigma_t^2}},\qquad\bar\alpha_t=\frac1{1+\sigma_t^2}",
    ),
    Row(
        "S004:8.23",
        "equation",
        "In y the deterministic step of DDIM moves by the difference of the levels times the noise.",
        Proved("ddim.euler_in_sigma"),
        latex=r"y_{t-1}=y_t+(\sigma_{t-1}-\sigma_t)\,\epsilon_\theta\left(\tfrac{y_t}{\sqrt{1+\sigma_t^2}},t"
        r"\right)",
    ),
    Row(
        "S004:8.24",
        "equation",
        "It is Euler's step of this ODE.",
        Proved("ode.one_ode", "ode.vp_is_ddim_ode"),
        latex=r"\frac{\mathrm dy}{\mathrm dt}=\frac{\mathrm d\sigma}{\mathrm dt}\,"
        r"\epsilon_\theta\left(\tfrac{y}{\sqrt{1+\sigma^2}},t\right)",
    ),
    Row(
        "S004:8.25",
        "equation",
        "The probability flow of VE, for y.",
        Proved("ode.drift", "ode.ve_drift"),
        latex=r"\mathrm dy=-\tfrac12g^2\,\nabla\log p_t(y)\,\mathrm dt,\qquad g^2=\frac{\mathrm d\sigma^2}"
        r"{\mathrm dt}",
    ),
    Row(
        "S004:§8.7/6",
        "formula",
        "The score of y is minus the predicted noise over σ.",
        Proved("parameterization.notation_edm_score"),
        latex=r"s_\theta(y,t)=-\frac1{\sigma}\,\epsilon_\theta\left(\tfrac{y}{\sqrt{1+\sigma^2}},t\right)",
        conditions="of the kernel −ε/σ, of the density its mean given y, which is what the network fits; "
        + _SAME,
    ),
    Row(
        "S004:8.26",
        "equation",
        "With that score the flow of VE is the ODE of DDIM; its first line has lost the dt on the right.",
        Counterexample(_without_dt, "σ(t) = t, a short time", ("ode.ve_is_ddim_ode",)),
        latex=r"\mathrm dy=-\tfrac12g^2s_\theta(y,t)\,\mathrm dt=\frac{\mathrm d\sigma}{\mathrm dt}\,"
        r"\epsilon_\theta\left(\tfrac{y}{\sqrt{1+\sigma^2}},t\right)\mathrm dt",
        printed=r"\mathrm dy(t)=-\tfrac12g^2(t)\,s_\theta(y(t),t)",
        severity="wording",
        origin="author",
        effect="Taken as it stands a step would have the size of the slope, whatever dt; the lines below "
        "have it again.",
    ),
    Row(
        "S004:§8.7/7",
        "claim",
        "The ODE of DDIM is the probability flow of VE with σ = √((1−ᾱ)/ᾱ); the text says nearly, it is so "
        "exactly.",
        Proved("ode.ve_is_ddim_ode", "ode.vp_is_ddim_ode"),
        latex=r"\frac{\mathrm dy}{\mathrm dt}=\frac{\mathrm d\sigma}{\mathrm dt}\,\epsilon_\theta",
        conditions="the ODEs; the steps 8.20 and 8.23 differ by ½(σ_t−σ_s)² times the score, ode.ve_ddim_gap",
    ),
    Row(
        "S004:§8.7/8",
        "claim",
        "The score of the density of y is minus the mean of the noise given y, over σ; minus the noise "
        "itself over σ is the score given the data.",
        Counterexample(
            _two_scores,
            "unit normal data at σ = 1: one y with two noises",
            ("score_matching.marginal_score", "parameterization.notation_edm_score", "ddpm.tweedie"),
        ),
        latex=r"\nabla_y\log p_t(y)=-\frac{\mathbb E[\epsilon\mid y]}{\sigma(t)},\qquad"
        r"\nabla_y\log p(y\mid x_0)=-\frac{\epsilon}{\sigma(t)}",
        printed=r"\nabla_y\log p_t(y)=-\frac{\epsilon}{\sigma(t)}",
        severity="wording",
        origin="author",
        effect="None on what is built on it: the network fits the mean, and with ε_θ in its place the "
        "formula is S004:§8.7/6. Taken at its word one y has many scores: −1 and 0 where y = 1 has −0.5.",
    ),
)
