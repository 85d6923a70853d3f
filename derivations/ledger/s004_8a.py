"""S004, chapter 8, §8.1 to §8.3: the forward and reverse SDE, the SDEs of SMLD and DDPM, their instances.

Rows without a number are counted by section; §8 is the paragraph before §8.1. An id that formulas cite comes
first in its section.

Levels and steps are counted from 1, and level i is at the time (i−1)/(N−1); data x_0 have no time of their
own.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import sympy as sp

from derivations.kit import Identity, Series, Step
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
from derivations.symbols import h, time_step

Pairs = Mapping[str, tuple[Exact, Exact]]
N = 1000
LOW, HIGH = Fraction(1, 10), Fraction(20)


def digits(value: sp.Expr) -> str:
    """Three digits of an expression without variables."""
    return shown(Fraction(str(sp.Rational(str(sp.N(value, 20))))))


def beta_wide(i: int) -> Fraction:
    """β_i as printed in §8.3, the rate over N − 1, at N = 1000 with the rates 1/10 and 20."""
    return LOW / (N - 1) + Fraction(i - 1, (N - 1) ** 2) * (HIGH - LOW)


def _known_end(halves: int) -> list[Step]:
    """What the last state tells of unit data, in nats: VP with the level h, VE with one over the variance."""
    kept, ratio = -sp.log(1 - h) / 2, sp.log(1 + h) / 2
    return [
        Series("VP, the level left", kept, h, 3, sp.Rational(halves, 2) * h + h**2 / 4),
        Series("VE, data over noise", ratio, h, 3, sp.Rational(halves, 2) * h - h**2 / 4),
    ]


def _known_end_size() -> str:
    left = sp.exp(-sp.Rational(201, 20))
    vp = digits(-sp.log(1 - left) / 2)
    ve = digits(sp.log(sp.Rational(2501, 2500)) / 2)
    return f"{vp} nats for VP with the rates 0.1 to 20, {ve} for VE with σ = 50"


def _exact_root(power: int) -> list[Step]:
    """The second form of the step is the first."""
    rise = sp.Symbol("r", positive=True)
    return [Identity("no approximation", sp.sqrt(rise / time_step) * time_step ** sp.Rational(1, power),
                     sp.sqrt(rise))]  # fmt: skip


def _binomial(share: sp.Rational) -> list[Step]:
    exponent = sp.Symbol("a", real=True)
    second = share * exponent * (exponent - 1)
    return [Series("(1+x)^a", (1 + h) ** exponent, h, 3, 1 + exponent * h + second * h**2)]


def _binomial_size() -> str:
    found = [(1 - step / 2) - sp.sqrt(1 - step) for step in (sp.Rational(1, 10000), sp.Rational(1, 50))]
    return f"at a = 1/2: {digits(found[0])} for β = 0.0001, {digits(found[1])} for β = 0.02"


def _product_size() -> str:
    kept = linear_levels()[1000]
    total = sum(Fraction(1, 10000) + Fraction(t, 999) * Fraction(199, 10000) for t in range(1000))
    summed = sp.exp(-sp.Rational(total.numerator, total.denominator))
    return (
        f"linear schedule, T = 1000: the product is {shown(kept)}, the exponential {digits(summed)}, "
        f"{digits(100 * (summed * kept.denominator / kept.numerator - 1))} % more"
    )


def _from_zero() -> Pairs:
    """One factor too many: i = 0 in the document's own β_i."""
    first = 1 - beta_wide(1)
    return {
        "signal power kept after one step, N = 1000, rates 0.1 to 20": ((1 - beta_wide(0)) * first, first),
        "signal power kept after no step": (1 - beta_wide(0), Fraction(1)),
    }


def _sum_size() -> str:
    total = sum((beta_wide(i) for i in range(1, N + 1)), Fraction(0))
    whole = (LOW + HIGH) / 2
    return (
        f"N = 1000, rates 0.1 to 20: the sum is {sp.N(sp.Rational(str(total)), 7)}, the integral "
        f"{sp.N(sp.Rational(str(whole)), 7)}, so the power left is {shown(total - whole)} of itself less"
    )


_VE_KERNEL = ("sde.ve_kernel_variance", "sde.ve_chain_variance")
_VP_KERNEL = ("sde.vp_kernel_factor", "sde.vp_kernel_variance")
_AFFINE = "the kernel of the SDE from a state at time 0; that of the chain from data: S004:§8.2/11"
_LETTERS = "β-bar is the rate, (N−1) times the step variance; it is not a product"

ROWS = (
    Row(
        "S004:§8/1",
        "claim",
        "DDPM and SMLD are trained alike: both losses are denoising score matching at many levels.",
        Proved("smld.ddpm_loss"),
        latex=r"\sigma_t^2\left\|s_\theta+\tfrac{\epsilon}{\sigma_t}\right\|^2=\|\epsilon-\epsilon_\theta"
        r"\|^2",
        conditions="with the weight σ² and the state divided by √ᾱ_t",
    ),
    Row(
        "S004:§8/2",
        "claim",
        "DDPM gave better samples than SMLD, since its reverse process is defined in more detail; with SDEs "
        "score models caught up. SDEs go back to Einstein, Langevin and Itô.",
        NotCheckable("an empirical comparison without numbers, and history"),
    ),
    Row(
        "S004:§8/3",
        "claim",
        "An SDE is a differential equation with random terms, and a random process solves it.",
        Definition("a stochastic differential equation"),
    ),
    Row(
        "S004:8.1",
        "equation",
        "The forward SDE: the drift f of place and time, and the diffusion g of time alone.",
        Definition("the forward process by its drift and diffusion"),
        latex=r"\mathrm dx=f(x,t)\,\mathrm dt+g(t)\,\mathrm dw,\qquad 0\le t\le1",
    ),
    Row(
        "S004:§8.1/1",
        "claim",
        "The process leads from the data to a known, simple law.",
        Approximation(
            "in what x_1 still tells of unit data: half of the level left for VP, half of data over noise "
            "for VE, to first order",
            _known_end_size,
            lambda: _known_end(1),
            lambda: _known_end(2),
            formulas=("sde.vp_kernel_variance", "sde.ve_kernel_variance", "ddpm.prior_term"),
        ),
        latex=r"-\tfrac12\log(1-\bar\alpha)=\tfrac12\bar\alpha+O(\bar\alpha^2)",
        conditions="VP or VE with finite rates, which always leave something of the data; other f and g need "
        "not lead to a known law",
    ),
    Row(
        "S004:§8.1/2",
        "claim",
        "In general the diffusion is a matrix; a scalar is the case of equal, independent noises.",
        Proved("sde.fokker_planck_plane"),
        latex=r"\partial_tp=-\nabla\cdot(fp)+\tfrac12\sum_{ij}\partial_i\partial_j(D_{ij}p),\quad D=GG^\top",
    ),
    Row(
        "S004:8.2",
        "equation",
        "The reverse SDE: time runs down, and the drift loses g² times the score.",
        Proved("sde.reverse_drift"),
        latex=r"\mathrm dx=\left[f(x,t)-g(t)^2\,\nabla\log p_t(x)\right]\mathrm dt+g(t)\,\mathrm d\bar w",
        conditions="dt is negative, the start has the law p_1, and g does not depend on x (else "
        "sde.reverse_drift_multiplicative)",
    ),
    Row(
        "S004:§8.1/3",
        "claim",
        "Who knows the score at every time can sample by simulating the reverse SDE.",
        Proved("sde.reverse_drift", "sde.euler_maruyama", "sde.local_error_euler_maruyama"),
        latex=r"x_s=x_t-\Delta t\,(f-g^2s)+g\sqrt{\Delta t}\,z",
        conditions="from a start in the law p_1, and up to the error of the steps",
    ),
    Row(
        "S004:8.3",
        "equation",
        "The loss: at each time the squared distance of the model from the score of the kernel from data, "
        "weighted by λ_t.",
        Proved("sde.dsm_loss", "sde.kernel_score", "sde.dsm_minimum", "score_matching.denoising"),
        latex=r"L=\mathbb E_{t,x_0,x_t}\left[\lambda_t\left\|s_\theta(x_t,t)-\nabla\log p(x_t\mid x_0)"
        r"\right\|^2\right]",
        conditions="the mean is over x_t too, as the text says below. Its minimum is λ(1/b² − 1/V) > 0 at a "
        "time, with the deviation b of the noise; over all of [0, 1] it is finite only if λ falls with b²",
        notation="without the ½ of S004:1.10",
    ),
    Row(
        "S004:§8.1/4",
        "claim",
        "With an affine drift the kernel from data is normal, and its score has a closed form.",
        Proved("sde.mean_rate", "sde.variance_rate", "sde.scale", "sde.variance", "sde.kernel_score"),
        latex=r"\nabla\log p(x_t\mid x_0)=-\frac{x_t-a_tx_0}{b_t^2}",
        conditions="g does not depend on x, as it is defined here",
    ),
    Row(
        "S004:§8.1/5",
        "claim",
        "The loss is that of score models: what is new is the process that it is read from.",
        Proved("sde.dsm_loss", "smld.loss"),
        latex=r"\lambda=b^2:\quad\|b\,s_\theta+\epsilon\|^2",
    ),
    Row(
        "S004:§8.1/6",
        "claim",
        "The SDE leads to a sampler with better samples.",
        NotCheckable("an empirical comparison without numbers"),
    ),
    Row(
        "S004:§8.2/1",
        "formula",
        "The product of 1 − β is nearly the exponential of minus the sum of β.",
        Approximation(
            "−½Σβ² − ⅓Σβ³ − … in the logarithm: the product is below the exponential",
            _product_size,
            formulas=("schedule.alpha_bar_product", "sde.log_kept", "sde.square_sum"),
        ),
        latex=r"\log\bar\alpha_t=-\sum_{i=1}^t\beta_i-\tfrac12\sum_{i=1}^t\beta_i^2-\dots",
        conditions="the sums begin at 1: S004:§8.2/12",
    ),
    Row(
        "S004:§8.2/2",
        "claim",
        "The noisings of SMLD and DDPM are discretisations of two forward SDEs.",
        Proved("sde.ve_kernel_variance", "sde.ve_chain_variance", "sde.chain_gap_right", *_VP_KERNEL),
        latex=r"\mathrm{VE}:\ f=0,\ g^2=\tfrac{\mathrm d\sigma^2}{\mathrm dt};\qquad\mathrm{VP}:\ "
        r"f=-\tfrac12\beta x,\ g^2=\beta",
        conditions="VE without an error between its levels, VP with one of first order in 1/N",
    ),
    Row(
        "S004:8.4",
        "equation",
        "A chain of independent increments has the levels σ_i as the deviations of its noise.",
        Proved("sde.ve_chain_variance"),
        latex=r"x_i=x_{i-1}+\sqrt{\sigma_i^2-\sigma_{i-1}^2}\,z_{i-1},\qquad\sigma_0=0",
        conditions="levels that rise with i, the reverse of chapter 2. The levels fix the laws of the single "
        "x_i only: noises drawn anew at each level have them too, and this chain is a choice",
        notation="N levels, L in chapter 2",
    ),
    Row(
        "S004:§8.2/3",
        "formula",
        "Level i is at the time (i−1)/(N−1), and so are its deviation and the noise of the step from it.",
        Definition("the times of levels"),
        latex=r"t_i=\frac{i-1}{N-1},\qquad\Delta t=\frac1{N-1},\qquad x(t_i)=x_i,\quad\sigma(t_i)=\sigma_i",
        conditions="x(0) is x_1, which has noise already; the data x_0 and σ_0 have no time",
    ),
    Row(
        "S004:8.5",
        "equation",
        "The step of the chain over Δt is the increment of dx = √(dσ²/dt) dw over that time.",
        Steps(lambda: _exact_root(2), lambda: _exact_root(3), formulas=_VE_KERNEL),
        latex=r"x(t+\Delta t)=x(t)+\sqrt{\sigma^2(t+\Delta t)-\sigma^2(t)}\,z(t),\qquad"
        r"\mathrm dx=\sqrt{\tfrac{\mathrm d\sigma^2}{\mathrm dt}}\,\mathrm dw",
        conditions="the approximation sign stands between equal numbers; the chain has the law of the "
        "process at its times for every N, with σ increasing",
    ),
    Row(
        "S004:§8.2/4",
        "formula",
        "Increments of the Wiener process are normal, with the time passed as variance.",
        Definition("the Wiener process, whose increments are independent too"),
        latex=r"w_t-w_s\sim\mathcal N(0,(t-s)I),\qquad t>s\ge0",
    ),
    Row(
        "S004:§8.2/5",
        "formula",
        "VE has no drift, and its squared diffusion is the slope of σ².",
        Proved("sde.ve_kernel_variance"),
        latex=r"f=0,\qquad g(t)^2=\frac{\mathrm d\sigma^2(t)}{\mathrm dt}",
        conditions="σ increasing and differentiable",
    ),
    Row(
        "S004:§8.2/6",
        "claim",
        "VE lets the variance grow all the time, hence its name.",
        Proved("sde.ve_kernel_variance", "sde.ve_chain_variance"),
        latex=r"\mathrm{Var}\,x(t)=\mathrm{Var}\,x(0)+\sigma^2(t)-\sigma^2(0)",
        conditions="up to σ_max²: with a largest level nothing explodes",
    ),
    Row(
        "S004:8.6",
        "equation",
        "One step of the forward process of DDPM.",
        Proved("ddpm.one_step"),
        latex=r"x_i=\sqrt{1-\beta_i}\,x_{i-1}+\sqrt{\beta_i}\,z_{i-1}",
        notation="the noise of step i has the index i − 1",
    ),
    Row(
        "S004:§8.2/7",
        "formula",
        "The rate is N − 1 times the step variance, and β_i is taken at the time of level i.",
        Definition("the rate of VP and its times"),
        latex=r"\beta(t_i)=(N-1)\beta_i,\qquad t_i=\frac{i-1}{N-1}",
        notation=_LETTERS,
        conditions="the step into level i has the rate of its end; β_1 belongs to a step before the time 0",
    ),
    Row(
        "S004:8.7",
        "equation",
        "The step into the time t + Δt has the rate of t + Δt, by the definition two lines above; its limit "
        "is dx = −½β·x dt + √β dw.",
        Erratum("sde.chain_gap_right", "left", also=_VP_KERNEL),
        latex=r"x(t+\Delta t)=\sqrt{1-\beta(t+\Delta t)\Delta t}\,x(t)+"
        r"\sqrt{\beta(t+\Delta t)\Delta t}\,z(t),\qquad\mathrm dx=-\tfrac12\beta(t)\,x\,\mathrm dt+\sqrt{"
        r"\beta(t)}\,\mathrm dw",
        printed=r"x(t+\Delta t)=\sqrt{1-\beta(t)\Delta t}\,x(t)+\sqrt{\beta(t)\Delta t}\,z(t)",
        severity="number",
        origin="author",
        effect="The chain lags by one step. With N = 1000 and the rates 0.1 to 20 it keeps 2.0 % more signal "
        "power from time 0 to 1; the SDE in the limit is the same.",
        notation=_LETTERS,
    ),
    Row(
        "S004:§8.2/8",
        "formula",
        "A power of 1 + x is 1 + a·x for small x.",
        Approximation(
            "½a(a−1)x², of second order in x",
            _binomial_size,
            lambda: _binomial(sp.Rational(1, 2)),
            lambda: _binomial(sp.Integer(1)),
        ),
        latex=r"(1+x)^a=1+ax+\tfrac12a(a-1)x^2+O(x^3)",
    ),
    Row(
        "S004:§8.2/9",
        "formula",
        "VP has the drift −½β·x and the squared diffusion β.",
        Proved(*_VP_KERNEL),
        latex=r"f=-\tfrac12\beta(t)\,x,\qquad g(t)=\sqrt{\beta(t)}",
    ),
    Row(
        "S004:§8.2/10",
        "claim",
        "VP does not let the variance explode, hence its name.",
        Proved("sde.vp_kernel_variance", "ddpm.marginal"),
        latex=r"\mathrm{Var}\,x_t=1+(c-1)\bar\alpha_t",
        conditions="preserved for data of variance c = 1; from any other it moves towards 1",
    ),
    Row(
        "S004:§8.2/11",
        "claim",
        "The chains are not equivalent to the SDEs: from data the chain of SMLD has σ_min² more variance "
        "than VE at every level, and the chain of DDPM keeps less signal than VP.",
        Erratum("sde.ve_gap", "none", also=("sde.log_kept", "sde.chain_gap_right", "sde.sum_gap_wide")),
        latex=r"\sigma_i^2-\left(\sigma^2(t_i)-\sigma^2(0)\right)=\sigma_{\min}^2,\qquad\log\prod(1-\beta_i)"
        r"<-\textstyle\sum\beta_i",
        printed=r"\mathcal N\left(x_0,\sigma_i^2I\right)\ \text{equivalent to}\ "
        r"\mathcal N\left(x_0,[\sigma^2(t_i)-\sigma^2(0)]I\right)",
        severity="number",
        origin="author",
        effect="At the first level the chain has the noise σ_min and the SDE none, however large N is: a "
        "score model of the one is wrong for the other near the data. For VP with N = 1000 and the rates 0.1 "
        "to 20 the power left at the end is 3.99e-5 and not 4.32e-5; that gap closes like 1/N.",
        conditions="between their levels chain and VE agree exactly",
    ),
    Row(
        "S004:8.8",
        "equation",
        "The kernels of the two SDEs, by integration.",
        Proved("sde.ve_kernel_variance", *_VP_KERNEL),
        latex=r"\mathcal N\left(x_0,[\sigma^2(t)-\sigma^2(0)]I\right),\qquad"
        r"\mathcal N\left(e^{-B/2}x_0,(1-e^{-B})I\right),\quad B=\int_0^t\beta(s)\,\mathrm ds",
        conditions=_AFFINE,
    ),
    Row(
        "S004:§8.2/12",
        "formula",
        "ᾱ_t is the product over the steps 1 to t; the text begins at 0, where there is no step.",
        Counterexample(
            _from_zero,
            "β_0 from the document's own formula for β_i",
            ("schedule.alpha_bar_product",),
        ),
        latex=r"\bar\alpha_t=\prod_{i=1}^t(1-\beta_i)",
        printed=r"\bar\alpha_t=\prod_{i=0}^t(1-\beta_i)",
        severity="number",
        origin="author",
        effect="One factor too many, 1 − 8.0e-5: against §4.1, where the product begins at 1, ᾱ_1 loses 1.8 "
        "times as much of the signal.",
    ),
    Row(
        "S004:§8.2/13",
        "claim",
        "The exponential of minus the sum of β becomes that of minus the integral of the rate.",
        Approximation(
            "(β_min + β_gap(n−1)/(2(N−1)))/(N−1) in the logarithm, first order in 1/N",
            _sum_size,
            formulas=("sde.sum_gap_wide", "sde.chain_gap_right"),
        ),
        latex=r"\sum_{i=1}^n\beta_i-\int_0^{t_n}\beta(s)\,\mathrm ds="
        r"\frac{\bar\beta_{\min}+\frac{n-1}{2(N-1)}(\bar\beta_{\max}-\bar\beta_{\min})}{N-1}",
        conditions="an affine rate; the step before time 0 stays in the sum",
        notation="t is a step in the sum and a time in the integral",
    ),
    Row(
        "S004:§8.2/14",
        "claim",
        "With the kernels of the SDEs in the loss the score model can be trained.",
        Proved("sde.kernel_score", "sde.dsm_loss", *_VP_KERNEL, "sde.ve_kernel_variance"),
        latex=r"s_\theta\to-\frac{x_t-a_tx_0}{b_t^2}",
        conditions="from a time above 0 or with a weight that vanishes there: at 0 both variances are 0",
    ),
    Row(
        "S004:§8.3/1",
        "formula",
        "The levels of VE are geometric, from σ_min at time 0 to σ_max at time 1.",
        Proved("sde.ve_level"),
        latex=r"\sigma_i=\sigma_{\min}\left(\frac{\sigma_{\max}}{\sigma_{\min}}\right)^{\frac{i-1}{N-1}},"
        r"\qquad\sigma(t)=\sigma_{\min}\left(\frac{\sigma_{\max}}{\sigma_{\min}}\right)^t",
        notation="ascending, where chapter 2 descends",
    ),
    Row(
        "S004:8.9",
        "equation",
        "VE with geometric levels.",
        Proved("sde.ve_diffusion"),
        latex=r"\mathrm dx=\sigma_{\min}\left(\frac{\sigma_{\max}}{\sigma_{\min}}\right)^t"
        r"\sqrt{2\log\frac{\sigma_{\max}}{\sigma_{\min}}}\,\mathrm dw",
    ),
    Row(
        "S004:8.10",
        "equation",
        "Its kernel.",
        Proved("sde.ve_variance"),
        latex=r"\mathcal N\left(x_0,\left[\sigma_{\min}^2"
        r"\left(\tfrac{\sigma_{\max}}{\sigma_{\min}}\right)^{2t}-\sigma_{\min}^2\right]I\right)",
        conditions=_AFFINE,
    ),
    Row(
        "S004:§8.3/2",
        "formula",
        "The rate of VP is affine in time, and a step variance is the rate over N − 1.",
        Proved("sde.vp_beta_wide"),
        latex=r"\beta_i=\frac{\bar\beta_{\min}}{N-1}+\frac{i-1}{(N-1)^2}(\bar\beta_{\max}-\bar\beta_{\min})",
        notation=_LETTERS,
    ),
    Row(
        "S004:8.11",
        "equation",
        "VP with an affine rate.",
        Proved("sde.vp_integral", *_VP_KERNEL, "parameterization.notation_score_sde_drift"),
        latex=r"\mathrm dx=-\tfrac12\beta(t)\,x\,\mathrm dt+\sqrt{\beta(t)}\,\mathrm dw,\quad\beta(t)="
        r"\bar\beta_{\min}+t(\bar\beta_{\max}-\bar\beta_{\min})",
        notation="W is w",
    ),
    Row(
        "S004:8.12",
        "equation",
        "Its kernel.",
        Proved("sde.vp_factor", "sde.vp_variance"),
        latex=r"\mathcal N\left("
        r"e^{-\frac14t^2(\bar\beta_{\max}-\bar\beta_{\min})-\frac12t\bar\beta_{\min}}x_0,"
        r"\left[1-e^{-\frac12t^2(\bar\beta_{\max}-\bar\beta_{\min})-t\bar\beta_{\min}}\right]I\right)",
        conditions=_AFFINE,
    ),
    Row(
        "S004:§8.3/3",
        "claim",
        "With N = 1000 and the rates 0.1 and 20 every step variance is 1000/999 times that of DDPM; the two "
        "agree if the rate is divided by N.",
        Erratum("sde.ddpm_chain", "rate-over-intervals", also=("sde.chain_ratio",)),
        latex=r"\beta_i=\tfrac{1000}{999}\,\beta_i^{\mathrm{DDPM}},\qquad\beta_i^{\mathrm{DDPM}}=\frac1N"
        r"\left(\bar\beta_{\min}+\frac{i-1}{N-1}(\bar\beta_{\max}-\bar\beta_{\min})\right)",
        printed=r"\beta_i=\beta_i^{\mathrm{DDPM}}",
        severity="number",
        origin="author",
        effect="The schedule runs from 1.001e-4 to 0.02002, and ᾱ_1000 is 3.995e-5 instead of 4.036e-5: a "
        "network of the one schedule sees levels that are off by up to 1 % in ᾱ under the other.",
    ),
)
