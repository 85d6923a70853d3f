"""S002: an introduction to diffusion models through Bayes' rule.

Displayed formulas are ``S002:/1`` to ``S002:/14`` in their order. The claims of the text are counted by part:
§1 what diffusion does, §2 training and inference, §3 the two hyperparameters, §4 the forward formulas, §5 the
backward ones. An id that formulas cite comes first in its part.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import sympy as sp

import derivations
from derivations.ddpm import MEAN_FROM_EPS, PREDICTION, SIMPLE_LOSS
from derivations.kit import Expectation, Identity, Inequality, Series, Step
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
from derivations.ledger.common import linear_levels, one_step_exponent
from derivations.ledger.row import Row
from derivations.symbols import (
    abar_s,
    abar_t,
    alpha_t,
    beta,
    data_mean,
    data_variance,
    eps,
    gain,
    h,
    intercept,
    slope,
    variance_0,
    variance_1,
    x_0,
    x_prev,
    x_t,
)

Pairs = Mapping[str, tuple[Exact, Exact]]

LEVEL = sp.Rational(16, 25)
"""ᾱ_t of the examples: it and 1 − ᾱ_t have rational roots."""
UNIT = sp.Integer(1)


def _said() -> sp.Rational:
    """The exact network's output over x_t, for unit normal data."""
    exact = derivations.node("data.gaussian_eps").closed
    return sp.diff(exact, x_t).subs({abar_t: LEVEL, data_mean: 0, data_variance: 1})


def _spread(c: int) -> sp.Rational:
    """Variance of x_t for data of variance c; for c = 0 that of x_t given x_0."""
    pushed = derivations.node("gaussian.push_forward_variance").closed
    return pushed.subs({slope: sp.sqrt(LEVEL), variance_0: c, variance_1: 1 - LEVEL})


def _start(order: int) -> list[Step]:
    """Mean divergence of q(x_t | x_0) from N(0, 1) over unit data."""
    told = -sp.log(1 - h) / 2
    return [Series("what the level still tells", told, h, 3, sp.Rational(order, 2) * h + h**2 / 4)]


def _start_size() -> str:
    kept = linear_levels()
    told = [-sp.log(1 - sp.Rational(kept[t].numerator, kept[t].denominator)) / 2 for t in (1000, 500, 100)]
    nats = [f"{sp.N(value, 3)} at t = {t}" for value, t in zip(told, (1000, 500, 100), strict=True)]
    return "nats per dimension that x_t tells of unit data, linear schedule, T = 1000: " + ", ".join(nats)


def _subtracted() -> Pairs:
    """Unit normal data, exact prediction √(1−ᾱ_t)·x_t, σ_t² = β_t."""
    return {"variance of x_{t−1} for unit data at ᾱ_t = 16/25": ((1 - _said()) ** 2, UNIT)}


def _saved_sizes() -> Pairs:
    """What the network should say at two places, for unit normal data."""
    return {f"label at x_t = {x}": (sp.sqrt(1 - LEVEL), _said() * x) for x in (1, -1)}


def _draws() -> Pairs:
    return {
        "chance of t = 0 for T = 1000": (Fraction(1, 1001), Fraction(0)),
        "chance of t = 1 for T = 1000": (Fraction(1, 1001), Fraction(1, 1000)),
    }


def _rounds(trained: int) -> sp.Rational:
    """The slope of a linear network after gradient steps of size 1/4 on unit data, from 0."""
    values = {abar_t: LEVEL, data_mean: 0, data_variance: 1, intercept: 0}
    gradient = sp.diff(SIMPLE_LOSS, gain).subs(values)
    found = sp.Integer(0)
    for _ in range(trained):
        found -= gradient.subs(gain, found) / 4
    return found


def _repeated() -> Pairs:
    """Steps 2 to 4 repeated leave out step 5, the only one that trains."""
    return {f"slope after {rounds} rounds": (_rounds(1), _rounds(rounds)) for rounds in (2, 3)}


def _from_zero() -> Pairs:
    """The product of the first t + 1 entries for that of the first t."""
    kept = linear_levels()
    return {f"1 − ᾱ_{t}": (1 - kept[t + 1], 1 - kept[t]) for t in (0, 1, 500)}


def _earlier_index() -> Pairs:
    share, before = Fraction(49, 50), Fraction(99, 100)
    printed = share * (1 - before) + (1 - before)
    return {"variance of x_t given x_{t−2} for α_t = 49/50, α_{t−1} = 99/100": (printed, 1 - share * before)}


def _same_name() -> Pairs:
    """α_t = 16/25 and α_{t−1} = 175/256, where all roots are rational."""
    share, before = LEVEL, sp.Rational(175, 256)
    old, merged = sp.sqrt(share * (1 - before)), sp.sqrt(1 - share * before)
    return {"mean square of the left side minus the right": (sp.Integer(0), (old - merged) ** 2 + 1 - share)}


def _density_as_variable() -> Pairs:
    return {"integral over x_t at α_t = 16/25, averaged over ε_t": (sp.sqrt(LEVEL), UNIT)}


def _any_data() -> Pairs:
    return {f"variance of x_t at ᾱ_t = 16/25, data of variance {c}": (UNIT, _spread(c)) for c in (1, 4)}


def _given_data() -> Pairs:
    return {"variance of x_t at ᾱ_t = 16/25, data of variance 1": (_spread(0), _spread(1))}


def _barred_kernel() -> Pairs:
    share = sp.Rational(24, 25)
    return {
        "variance of x_t given x_{t−1} for α_t = 24/25, ᾱ_t = 16/25": (1 - LEVEL, 1 - share),
        "squared factor of x_{t−1}": (LEVEL, share),
    }


def _mean_of_noise() -> Pairs:
    """Unit normal data: the network's output is √(1−ᾱ_t)·x_t."""
    return {"variance of what the network says at ᾱ_t = 16/25": (UNIT, _said() ** 2)}


def _later_state() -> Pairs:
    return {
        "derivative of the mean by x_t, ε held, at α_t = 16/25": (
            sp.Integer(0),
            sp.diff(MEAN_FROM_EPS, x_t).subs(alpha_t, LEVEL),
        )
    }


def _ratio(level: sp.Expr) -> sp.Expr:
    """Signal-to-noise ratio before a step of variance β, over that after it."""
    after = (1 - beta) * level
    return level / (1 - level) * (1 - after) / after


def _less_effect(change: sp.Expr) -> list[Step]:
    return [
        Identity("what a step takes of the ratio", _ratio(abar_t), 1 + change),
        Inequality("less where there is more noise", _ratio(abar_s), ">", _ratio(abar_t)),
    ]


def _without_trick() -> Pairs:
    """A linear network at slope 0: data and noise are held while it is differentiated."""
    at = {gain: 0, intercept: 0, data_mean: 0, data_variance: 1, abar_t: LEVEL}
    return {"gradient by the slope at 0, draws held, ᾱ_t = 16/25": (0, sp.diff(SIMPLE_LOSS, gain).subs(at))}


def _image_for_noise() -> Pairs:
    return {
        "variance of the noise where ᾱ_t = 16/25": (1 - LEVEL, UNIT),
        "mean of the noise where ᾱ_t = 16/25, x_0 = 1": (sp.sqrt(LEVEL), sp.Integer(0)),
    }


def _with_the_record() -> Pairs:
    """Unit data: given x_t alone x_{t−1} has the variance 1 − α_t."""
    return {"variance of x_{t−1} given x_t and ε_t, unit data, α_t = 16/25": (1 - LEVEL, sp.Integer(0))}


def _recorded() -> list[Step]:
    """The noise of step t and x_t give x_{t−1} back."""
    state = sp.sqrt(alpha_t) * x_prev + sp.sqrt(1 - alpha_t) * eps
    back = (state - sp.sqrt(1 - alpha_t) * eps) / sp.sqrt(alpha_t)
    return [Identity("x_{t−1} from the record", back, x_prev)]


def _no_draw(factor: int) -> list[Step]:
    """The law of data and noise has no parameter of the network."""
    moments = {x_0: (data_mean, data_variance), eps: (sp.Integer(0), sp.Integer(1))}
    inside = factor * sp.diff((eps - PREDICTION) ** 2, gain)
    return [Expectation("gradient under the mean", inside, moments, sp.diff(SIMPLE_LOSS, gain))]


_START = r"x_T\sim\mathcal N(0,I),\qquad\mathrm{KL}\left(q(x_T)\,\|\,\mathcal N(0,I)\right)\le L_T"
_ORDER = "½ᾱ_t nats per dimension of unit data, first order in ᾱ_t, at most"
_A = "a is α"
_DENSITIES = "p of an argument is a variable with that law, in the middle of formulas for densities"
_FIRST = "t ≥ 2: at t = 1 the exponent divides by 1 − ᾱ_0 = 0, and the posterior is the point x_0"
_POSTERIOR = ("ddpm.posterior_mean", "ddpm.posterior_variance")

ROWS = (
    Row(
        "S002:§1/1",
        "claim",
        "Bayes' rule leads to the same step as the derivation of the DDPM paper.",
        Proved("ddpm.posterior_mean", "ddpm.posterior_variance", "ddpm.mean_from_score", "elbo.three_terms"),
        latex=r"q(x_{t-1}\mid x_t,x_0)=\mathcal N\left(x_{t-1};\tilde\mu_t,\tilde\beta_tI\right)",
        conditions="the step, not the loss: that needs the bound, or the mean of the data given x_t",
    ),
    Row(
        "S002:§1/2",
        "claim",
        "Sampling begins at step T with pure Gaussian noise.",
        Approximation(_ORDER, _start_size, lambda: _start(1), lambda: _start(2), ("ddpm.prior_term",)),
        latex=_START,
        conditions="x_T is pure noise as far as ᾱ_T is 0; what it still tells of the data bounds the error",
    ),
    Row(
        "S002:§1/3",
        "claim",
        "A step divides x_t minus a small multiple of the predicted noise by √α_t, and adds fresh noise. "
        "It does not subtract the predicted noise from the image; the text says so three times, against "
        "Algorithm 2.",
        Counterexample(
            _subtracted,
            "the exact network on unit normal data",
            ("ddpm.step", "ddpm.fixed_large_variance", "data.gaussian_eps"),
        ),
        latex=r"x_{t-1}=\frac1{\sqrt{\alpha_t}}\left(x_t-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\epsilon_\theta"
        r"\right)+\sigma_tz",
        printed=r"x_{t-1}=x_t-\epsilon_\theta(x_t,t)",
        severity="wording",
        origin="author",
        effect="The predicted noise is that of all t steps: taken away whole at t = 1000 of the linear "
        "schedule it leaves 0.00002 of unit data in one step.",
    ),
    Row(
        "S002:§1/4",
        "claim",
        "After T steps the image has no noise left.",
        Proved("ddpm.final_step", "ddpm.step"),
        latex=r"\sigma_1=0,\qquad x_0=\frac{x_1-\sqrt{1-\bar\alpha_1}\,\epsilon_\theta}{\sqrt{\bar\alpha_1}}",
        conditions="the last step adds none, as line 3 of Algorithm 2 says",
    ),
    Row(
        "S002:§1/5",
        "claim",
        "With many classes adversarial training does not converge; diffusion learns in a simpler way.",
        NotCheckable("an empirical claim without numbers, and a taste"),
    ),
    Row(
        "S002:§1/6",
        "claim",
        "The more noise is added, the less of the image is left.",
        Proved("schedule.snr", "schedule.alpha_bar_decreasing"),
        latex=r"\frac{\bar\alpha_t}{1-\bar\alpha_t}<\frac{\bar\alpha_{t-1}}{1-\bar\alpha_{t-1}}",
    ),
    Row(
        "S002:§1/7",
        "claim",
        "The noise added in a step grows with the step.",
        Proved("schedule.linear", "schedule.constant"),
        latex=r"\beta_t=\beta_1+\frac{t-1}{T-1}(\beta_T-\beta_1)",
        conditions="a property of the schedule: the linear one has it for β_1 < β_T, constant steps have not",
    ),
    Row(
        "S002:§1/8",
        "claim",
        "The noise that is drawn is the label: the loss compares the prediction with it.",
        Proved("ddpm.loss_simple", "ddpm.marginal"),
        latex=r"\left\|\epsilon-\epsilon_\theta(x_t,t)\right\|^2",
        conditions="the one noise that makes x_t from x_0, as in Algorithm 1; for that of a step see "
        "S002:§5/11",
    ),
    Row(
        "S002:alg1",
        "algorithm",
        "Training: data, a uniform step from 1 to T and one noise, drawn anew for each sample of a batch; "
        "a gradient step on the squared error of the predicted noise at x_t.",
        Proved("ddpm.loss_simple", "ddpm.marginal", "ddpm.loss_simple_minimum"),
        latex=r"\nabla_\theta\left\|\epsilon-\epsilon_\theta\left(\sqrt{\bar\alpha_t}\,x_0"
        r"+\sqrt{1-\bar\alpha_t}\,\epsilon,t\right)\right\|^2",
    ),
    Row(
        "S002:alg2",
        "algorithm",
        "Sampling: from x_T ~ N(0, I) down to t = 1 the mean of the reverse step plus σ_t times fresh "
        "noise, which is left out at t = 1.",
        Proved("ddpm.step", "ddpm.mean_from_eps", "ddpm.final_step"),
        latex=r"x_{t-1}=\frac1{\sqrt{\alpha_t}}\left(x_t-\frac{1-\alpha_t}{\sqrt{1-\bar\alpha_t}}"
        r"\epsilon_\theta(x_t,t)\right)+\sigma_tz",
        conditions="σ_t² between β̃_t and β_t; S002:/14 prints another σ",
    ),
    Row(
        "S002:§2/1",
        "claim",
        "A normal variable is its mean plus its standard deviation times a standard normal one: a draw "
        "that can be differentiated by mean and deviation.",
        Proved("vae.reparameterised", "vae.sampled_elbo"),
        latex=r"z=\mu+\sigma\epsilon,\qquad\epsilon\sim\mathcal N(0,1)",
    ),
    Row(
        "S002:§2/2",
        "claim",
        "With the noise drawn outside, back-propagation can train the network.",
        Steps(lambda: _no_draw(1), lambda: _no_draw(2), formulas=("ddpm.loss_simple",)),
        latex=r"\nabla_\theta\,\mathbb E\left\|\epsilon-\epsilon_\theta(x_t,t)\right\|^2="
        r"\mathbb E\,\nabla_\theta\left\|\epsilon-\epsilon_\theta(x_t,t)\right\|^2",
        conditions="true, but not for the reason given: see S002:§2/10",
    ),
    Row(
        "S002:§2/3",
        "claim",
        "A training step is drawn from 1 to T, each with the chance 1/T, as in Algorithm 1; the text says "
        "0 to T.",
        Counterexample(
            _draws, "T + 1 values have other chances than T", ("ddpm.loss_simple", "ddpm.loss_simple_minimum")
        ),
        latex=r"t\sim\mathrm{Uniform}\{1,\dots,T\}",
        printed=r"t\sim\mathrm{Uniform}\{0,\dots,T\}",
        severity="number",
        origin="author",
        effect="At t = 0 there is no noise in x_t: the loss cannot fall below 1 there, and no sampler asks "
        "the network for that step. In code with steps 0 to T−1 the value T lies outside the table.",
    ),
    Row(
        "S002:§2/4",
        "claim",
        "The noise is scaled by the step: the later, the more.",
        Proved("ddpm.marginal", "schedule.alpha_bar_decreasing"),
        latex=r"\sqrt{1-\bar\alpha_t}>\sqrt{1-\bar\alpha_{t-1}}",
    ),
    Row(
        "S002:§2/5",
        "claim",
        "What is computed in advance are the levels ᾱ_1 to ᾱ_T; the label is the one random noise drawn "
        "for the step, not the table of noise sizes.",
        Counterexample(
            _saved_sizes,
            "a size does not depend on x_t; the mean of the noise given x_t does (unit normal data)",
            ("data.gaussian_eps", "ddpm.loss_simple"),
        ),
        latex=r"\epsilon\sim\mathcal N(0,I)\ \text{is the label},\qquad\bar\alpha_1,\dots,\bar\alpha_T\ "
        r"\text{the table}",
        printed=r"\sqrt{1-\bar\alpha_1},\dots,\sqrt{1-\bar\alpha_t}\ \text{are saved as the label}",
        severity="breaks",
        origin="author",
        effect="A network that learns the sizes says the same for every image, and its sampler shifts all "
        "of them by the same amount: nothing is denoised.",
    ),
    Row(
        "S002:§2/6",
        "claim",
        "The formula of the loss gives mean and variance of the noised image, which determine its normal "
        "law.",
        Proved("ddpm.marginal", "gaussian.log_density"),
        latex=r"q(x_t\mid x_0)=\mathcal N\left(\sqrt{\bar\alpha_t}\,x_0,(1-\bar\alpha_t)I\right)",
        conditions="given the image; the law of all noised images is not normal",
    ),
    Row(
        "S002:§2/7",
        "claim",
        "Training repeats the steps 2 to 5 of the list until convergence; printed is 2 to 4, and the step "
        "that trains is the fifth.",
        Counterexample(
            _repeated,
            "the list run as a program: a linear network, ᾱ_t = 16/25, unit data, steps of 1/4",
            ("ddpm.loss_simple",),
        ),
        latex=r"\text{repeat 2 to 5}",
        printed=r"\text{repeat 2 to 4}",
        severity="wording",
        origin="author",
        effect="Run as a program, the network is trained once. Algorithm 1 has it right.",
    ),
    Row(
        "S002:§2/8",
        "claim",
        "A step is chosen at which the loop begins with pure noise.",
        Approximation(_ORDER, _start_size, lambda: _start(1), lambda: _start(2), ("ddpm.prior_term",)),
        latex=_START,
        conditions="the step must be the T of training, or another with ᾱ_t near 0: at t = 500 of 1000 the "
        "network expects 0.28 of an image in x_t",
    ),
    Row(
        "S002:§2/9",
        "claim",
        "A draw can be differentiated if it is a differentiable map of a draw without parameters.",
        Proved("vae.reparameterised", "gaussian.push_forward_mean", "gaussian.push_forward_variance"),
        latex=r"x=f_\theta(\epsilon),\qquad\nabla_\theta\,\mathbb E[h(x)]=\mathbb E[\nabla_\theta h(f_\theta("
        r"\epsilon))]",
        conditions="shown for the normal law. A draw that is 0 or 1 is no differentiable map: its "
        "derivative by the chance is 0 wherever there is one, while that of its mean is 1",
    ),
    Row(
        "S002:§2/10",
        "claim",
        "Training differentiates no draw, as the forward process has no parameter of the network: the noise "
        "is drawn apart because it is the label, and not for the gradient's sake.",
        Counterexample(
            _without_trick,
            "the whole gradient comes without a derivative of a draw",
            ("ddpm.loss_simple",),
            lambda: _no_draw(1),
        ),
        latex=r"\nabla_\theta\,\mathbb E\left\|\epsilon-\epsilon_\theta(x_t,t)\right\|^2="
        r"\mathbb E\,\nabla_\theta\left\|\epsilon-\epsilon_\theta(x_t,t)\right\|^2",
        printed=r"\text{the draw would stop the gradient, so the code reparameterises it}",
        severity="wording",
        origin="author",
        effect="None on an implementation; a reader looks for a derivative that is not there.",
    ),
    Row(
        "S002:§2/11",
        "claim",
        "What has the mean and the variance of the formula is the noised image. The noise is standard "
        "normal; the text draws the noise from the law with that mean and variance.",
        Counterexample(_image_for_noise, "the two laws", ("ddpm.marginal", "ddpm.loss_simple")),
        latex=r"x_t\sim\mathcal N\left(\sqrt{\bar\alpha_t}\,x_0,(1-\bar\alpha_t)I\right),\qquad"
        r"\epsilon\sim\mathcal N(0,I)",
        printed=r"\epsilon\sim\mathcal N\left(\sqrt{\bar\alpha_t}\,x_0,(1-\bar\alpha_t)I\right)",
        severity="wording",
        origin="author",
        effect="A label drawn so contains the image, and the network that learns it says the noised image "
        "and not its noise. Line 4 of Algorithm 1 has it right.",
    ),
    Row(
        "S002:§2/12",
        "claim",
        "Inference draws by mean plus deviation times standard normal noise too.",
        Proved("ddpm.step", "vae.reparameterised"),
        latex=r"x_{t-1}=\mu_\theta(x_t,t)+\sigma_tz",
        conditions="said of the noise to be taken away; that is predicted, and not drawn: drawn is the "
        "noise that is added",
    ),
    Row(
        "S002:§3/1",
        "claim",
        "The variances β_t of the DDPM paper run from 0.0001 to 0.02; the text has α_t for β_t and 0.002 "
        "for 0.02.",
        Erratum("schedule.linear", "alpha"),
        latex=r"\beta_t\in[0.0001,\,0.02]",
        printed=r"\alpha_t\in[0.0001,\,0.002]",
        severity="breaks",
        origin="author",
        effect="With such an α_t one step leaves at most 0.045 of the image. With β_t up to 0.002 and T = "
        "1000, ᾱ_T is 0.35 and not 0.00004: sampling would start from noise where the network expects 0.59 "
        "of an image.",
    ),
    Row(
        "S002:§3/2",
        "claim",
        "β_t says how much noise step t adds: its variance, a small number.",
        Proved("ddpm.one_step", "schedule.beta_from_alpha_bar"),
        latex=r"\beta_t=\mathrm{Var}(x_t\mid x_{t-1})",
    ),
    Row(
        "S002:§3/3",
        "claim",
        "α_t, between 0 and 1, determines the variance of the noise of step t.",
        Proved("ddpm.one_step", "schedule.alpha_bar_product"),
        latex=r"\mathrm{Var}(x_t\mid x_{t-1})=1-\alpha_t",
        conditions="as 1 − α_t: α_t itself is the share of the signal power that the step keeps",
    ),
    Row(
        "S002:§3/4",
        "formula",
        "α_t is 1 − β_t.",
        Definition("α_t"),
        latex=r"\alpha_t=1-\beta_t",
    ),
    Row(
        "S002:§3/5",
        "claim",
        "The same noise has less effect on a noisy image than on a clean one, so later steps must add more.",
        Steps(
            lambda: _less_effect(beta / ((1 - beta) * (1 - abar_t))),
            lambda: _less_effect(beta / (1 - beta)),
            formulas=("schedule.snr",),
        ),
        latex=r"\frac{\mathrm{SNR}_{t-1}}{\mathrm{SNR}_t}=1+\frac{\beta_t}{(1-\beta_t)(1-\bar\alpha_{t-1})}",
        conditions="effect measured by the signal-to-noise ratio",
    ),
    Row(
        "S002:/1",
        "formula",
        "One step of the forward process.",
        Proved("ddpm.one_step"),
        latex=r"x_t=\sqrt{\alpha_t}\,x_{t-1}+\sqrt{1-\alpha_t}\,\epsilon_t=\sqrt{\alpha_t}\,x_{t-1}"
        r"+\sqrt{\beta_t}\,\epsilon_t",
        notation=_A,
    ),
    Row(
        "S002:§4/1",
        "formula",
        "ᾱ_t is the product of α_1 to α_t; the text begins at 0, here and once more in the backward part.",
        Counterexample(
            _from_zero,
            "the linear schedule with T = 1000, the first entry of its table taken for α_0",
            ("schedule.alpha_bar_product",),
        ),
        latex=r"\bar\alpha_t=\prod_{i=1}^t\alpha_i",
        printed=r"\bar\alpha_t=\prod_{i=0}^t\alpha_i",
        severity="number",
        origin="author",
        effect="There is no step 0. If the table's first entry is taken for α_0, every level has one step "
        "too many: 1 − ᾱ_1 is 0.00022 and not 0.0001 for the linear schedule with T = 1000, and x_0 itself "
        "is noised.",
        conditions="with an α_0 = 1, which the text does not name, the printed product is the right one",
    ),
    Row(
        "S002:§4/2",
        "claim",
        "β_t grows with t, so x_t becomes more and more noise and the share of the image before it shrinks.",
        Proved("schedule.snr", "schedule.linear", "schedule.alpha_bar_decreasing"),
        latex=r"\frac{\bar\alpha_t}{1-\bar\alpha_t}\ \text{falls},\qquad\sqrt{1-\beta_t}\ \text{falls}",
        conditions="the second needs a growing β_t, as that of the linear schedule; the first any β_t > 0",
    ),
    Row(
        "S002:/2",
        "formula",
        "The step before.",
        Proved("ddpm.one_step"),
        latex=r"x_{t-1}=\sqrt{\alpha_{t-1}}\,x_{t-2}+\sqrt{1-\alpha_{t-1}}\,\epsilon_{t-1}",
        notation=_A,
    ),
    Row(
        "S002:/3",
        "formula",
        "Two steps in one: the noise of step t has the factor √(1 − α_t); both lines have the factor of "
        "step t−1.",
        Counterexample(
            _earlier_index,
            "variances of both noises added",
            ("ddpm.transition", "schedule.one_minus_alpha_bar", "ddpm.one_step"),
        ),
        latex=r"x_t=\sqrt{\alpha_t\alpha_{t-1}}\,x_{t-2}+\sqrt{\alpha_t(1-\alpha_{t-1})}\,\epsilon_{t-1}"
        r"+\sqrt{1-\alpha_t}\,\epsilon_t",
        printed=r"x_t=\sqrt{\alpha_t\alpha_{t-1}}\,x_{t-2}+\sqrt{\alpha_t(1-\alpha_{t-1})}\,\epsilon_{t-1}"
        r"+\sqrt{1-\alpha_{t-1}}\,\epsilon_t",
        severity="number",
        origin="author",
        effect="In a chain of such steps unit variance is lost: 0.9989 after the 1000 steps of the linear "
        "schedule. The first step asks for an α_0.",
        notation=_A,
    ),
    Row(
        "S002:§4/3",
        "claim",
        "The noises of the steps are standard normal.",
        Definition("ε_t, independent of each other and of the data"),
        latex=r"\epsilon_t\sim\mathcal N(0,1)",
    ),
    Row(
        "S002:§4/4",
        "claim",
        "A factor a changes the variance of a normal variable by a².",
        Proved("gaussian.push_forward_variance", "gaussian.push_forward_mean"),
        latex=r"aX\sim\mathcal N(a\mu,a^2\sigma^2)",
        conditions="the mean too is multiplied, by a; here it is 0",
    ),
    Row(
        "S002:§4/5",
        "claim",
        "The mean of a sum is the sum of the means.",
        Proved("gaussian.push_forward_mean", "gaussian.push_forward_variance"),
        latex=r"\mathrm E[X+Y]=\mathrm E[X]+\mathrm E[Y]",
        conditions="the variance changes too, as S002:/4 says, for independent variables",
    ),
    Row(
        "S002:/4",
        "formula",
        "The sum of two centred normal variables has the sum of their variances.",
        Proved("gaussian.push_forward_variance"),
        latex=r"\mathcal N(0,\sigma_1^2)+\mathcal N(0,\sigma_2^2)\sim\mathcal N(0,\sigma_1^2+\sigma_2^2)",
        conditions="independent variables",
    ),
    Row(
        "S002:/5",
        "formula",
        "The two noises of two steps are together one of the variance 1 − α_tα_{t−1}: a new variable, "
        "which the text calls by the name of one of its parts. The first line repeats the index of S002:/3.",
        Counterexample(
            _same_name,
            "α_t = 16/25, α_{t−1} = 175/256, the index of S002:/3 mended",
            ("schedule.one_minus_alpha_bar", "ddpm.transition", "gaussian.push_forward_variance"),
        ),
        latex=r"x_t=\sqrt{\alpha_t\alpha_{t-1}}\,x_{t-2}+\sqrt{1-\alpha_t\alpha_{t-1}}\,\bar\epsilon",
        printed=r"x_t=\sqrt{\alpha_t\alpha_{t-1}}\,x_{t-2}+\sqrt{1-\alpha_t\alpha_{t-1}}\,\epsilon_{t-1}",
        severity="wording",
        origin="author",
        effect="Equal in law and not as variables. The name makes the noise of a step and the merged noise "
        "one thing, which S002:§5/11 then does with the label.",
        notation=_A,
    ),
    Row(
        "S002:/6",
        "formula",
        "x_t from the data and one noise.",
        Proved("ddpm.marginal"),
        latex=r"x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\epsilon",
        notation="ε_i is one new standard normal variable, the noise of all t steps; i means nothing",
    ),
    Row(
        "S002:§4/6",
        "claim",
        "The law of a noised image at any step follows from the image at once.",
        Proved("ddpm.marginal"),
        latex=r"q(x_t\mid x_0)=\mathcal N\left(\sqrt{\bar\alpha_t}\,x_0,(1-\bar\alpha_t)I\right)",
    ),
    Row(
        "S002:§5/1",
        "claim",
        "x_0 cannot be had from x_t at once: many pairs of data and noise have the same sum.",
        Proved("data.gaussian_posterior_variance", "data.tweedie_second_order", "ddpm.tweedie"),
        latex=r"\mathrm{Var}(x_0\mid x_t)>0",
        conditions="data that are no point mass; the mean of x_0 given x_t can be had at once, and is no "
        "sample",
    ),
    Row(
        "S002:§5/2",
        "claim",
        "The network learns the mean of the noise given x_t. The text says, twice, that it learns a "
        "distribution of noise; that is N(0, I), and known.",
        Counterexample(
            _mean_of_noise,
            "unit normal data",
            ("data.gaussian_eps", "data.eps", "ddpm.loss_simple_minimum"),
        ),
        latex=r"\epsilon_\theta(x_t,t)=\mathrm E[\epsilon\mid x_t]",
        printed=r"\epsilon_\theta(x_t,t)\sim p(\epsilon)",
        severity="wording",
        origin="author",
        effect="What the network says varies less than the noise: a variance of 0.36 where the noise has "
        "1, in the example. It cannot be used to draw noise.",
    ),
    Row(
        "S002:§5/3",
        "claim",
        "Sampling p(x_{t−1} | x_t) step by step leads back to the data.",
        Proved("elbo.reversed_kernel", "elbo.reversed_chain"),
        latex=r"q(x_{0:T})=q(x_T)\prod_{t=1}^Tq(x_{t-1}\mid x_t)",
    ),
    Row(
        "S002:/7",
        "formula",
        "Bayes' rule for one step.",
        Proved("elbo.reversed_kernel"),
        latex=r"q(x_{t-1}\mid x_t)=\frac{q(x_t\mid x_{t-1})\,q(x_{t-1})}{q(x_t)}",
        notation="p is q of Ho et al.: no model enters",
    ),
    Row(
        "S002:§5/4",
        "claim",
        "Without x_0 the law of x_t depends on that of the data: α alone does not determine it.",
        Counterexample(
            _any_data,
            "two laws of the data, one ᾱ_t",
            ("gaussian.push_forward_variance", "ddpm.marginal", "data.gaussian_log_density"),
        ),
        latex=r"\mathrm{Var}(x_t)=\bar\alpha_t\mathrm{Var}(x_0)+1-\bar\alpha_t",
        printed=r"p(x_t)\ \text{follows from}\ \alpha_t\text{, whether}\ x_0\ \text{is known or not}",
        severity="wording",
        origin="author",
        effect="If it were so, the reverse kernel would be known from Bayes' rule, and no network were "
        "needed.",
    ),
    Row(
        "S002:/8",
        "formula",
        "The variable x_t is √α_t times x_{t−1} plus noise; its density is the convolution of the two, not "
        "their sum.",
        Counterexample(
            _density_as_variable,
            "both sides integrated over x",
            ("ddpm.one_step", "gaussian.push_forward_variance"),
        ),
        latex=r"q(x_t)=\int\mathcal N\left(x_t;\sqrt{\alpha_t}\,x_{t-1},1-\alpha_t\right)q(x_{t-1})\,"
        r"\mathrm dx_{t-1}",
        printed=r"p(x_t)=\sqrt{\alpha_t}\,p(x_{t-1})+\sqrt{1-\alpha_t}\,\epsilon_t",
        severity="wording",
        origin="author",
        effect="Of densities it is false; of variables it is S002:/1.",
        notation=_A + "; " + _DENSITIES,
    ),
    Row(
        "S002:/9",
        "formula",
        "Given x_0, x_t and x_{t−1} are data plus noise of their levels. The law of x_t is not that of x_t "
        "given x_0.",
        Counterexample(_given_data, "unit data", ("ddpm.marginal", "gaussian.push_forward_variance")),
        latex=r"q(x_t)=\int q(x_t\mid x_0)\,q(x_0)\,\mathrm dx_0\ne q(x_t\mid x_0)",
        printed=r"p(x_t)=p(x_t\mid x_0)=\sqrt{\bar\alpha_t}\,p(x_0)+\sqrt{1-\bar\alpha_t}\,\epsilon_t",
        severity="wording",
        origin="author",
        effect="With the first equality Bayes' rule without x_0 (S002:/7) and with it (S002:/10) would be "
        "one formula, and the reverse step would not depend on the data.",
        notation=_DENSITIES + "; ε_t and ε_{t−1} are noises of whole levels, not of steps",
    ),
    Row(
        "S002:§5/5",
        "claim",
        "ᾱ_t is a product because the noising is a Markov chain.",
        Proved("ddpm.marginal", "schedule.alpha_bar_product", "ddim.marginals"),
        latex=r"\bar\alpha_t=\prod_{i=1}^t\alpha_i",
        conditions="enough, not necessary: the chains of DDIM have the same laws given x_0 and are not "
        "Markov forward; the product begins at 1 (S002:§4/1)",
    ),
    Row(
        "S002:/10",
        "formula",
        "Bayes' rule for one step, given the data.",
        Proved("elbo.bayes_step"),
        latex=r"q(x_{t-1}\mid x_t,x_0)=\frac{q(x_t\mid x_{t-1},x_0)\,q(x_{t-1}\mid x_0)}{q(x_t\mid x_0)}",
    ),
    Row(
        "S002:/11",
        "formula",
        "The three laws in Bayes' rule: the first two are those of the levels, the third is one step, with "
        "α_t and without bars.",
        Counterexample(_barred_kernel, "one step", ("ddpm.one_step", "ddpm.marginal")),
        latex=r"q(x_t\mid x_{t-1},x_0)=\mathcal N\left(\sqrt{\alpha_t}\,x_{t-1},1-\alpha_t\right)",
        printed=r"p(x_t\mid x_{t-1},x_0)\sim\mathcal N\left(\sqrt{\bar\alpha_t}\,x_{t-1},1-\bar\alpha_t"
        r"\right)",
        severity="breaks",
        origin="author",
        effect="A chain of such steps keeps the product of all ᾱ_i: 0.022 of the signal power after 100 "
        "steps of the linear schedule with T = 1000 and not 0.897. The next formula has the right kernel.",
    ),
    Row(
        "S002:/12",
        "formula",
        "The posterior as the exponential of three squares.",
        Proved(*_POSTERIOR),
        latex=r"\exp\left(-\tfrac12\left(\tfrac{(x_t-\sqrt{\alpha_t}x_{t-1})^2}{\beta_t}"
        r"+\tfrac{(x_{t-1}-\sqrt{\bar\alpha_{t-1}}x_0)^2}{1-\bar\alpha_{t-1}}"
        r"-\tfrac{(x_t-\sqrt{\bar\alpha_t}x_0)^2}{1-\bar\alpha_t}\right)\right)",
        conditions=_FIRST,
    ),
    Row(
        "S002:§5/6",
        "claim",
        "In a product of normal densities the precisions add, and in a quotient they are subtracted; the "
        "text says that of the variances.",
        Erratum("gaussian.product_variance", "sum", also=("gaussian.product_mean",)),
        latex=r"\frac1{\sigma^2}=\frac1{\sigma_1^2}+\frac1{\sigma_2^2}",
        printed=r"\sigma^2=\sigma_1^2+\sigma_2^2",
        severity="wording",
        origin="author",
        effect="The variance of the posterior would be β_t + (1−ᾱ_{t−1}) − (1−ᾱ_t) = β_t(1 − ᾱ_{t−1}) and "
        "lack the divisor 1 − ᾱ_t. The exponents that follow are right.",
    ),
    Row(
        "S002:/13",
        "formula",
        "The squares opened and collected by powers of x_{t−1}.",
        Steps(lambda: one_step_exponent(2), lambda: one_step_exponent(1), formulas=_POSTERIOR),
        latex=r"\exp\left(-\tfrac12\left(\left(\tfrac{\alpha_t}{\beta_t}+\tfrac1{1-\bar\alpha_{t-1}}\right)"
        r"x_{t-1}^2-\left(\tfrac{2\sqrt{\alpha_t}}{\beta_t}x_t+\tfrac{2\sqrt{\bar\alpha_{t-1}}}"
        r"{1-\bar\alpha_{t-1}}x_0\right)x_{t-1}+C\right)\right)",
        conditions=_FIRST,
    ),
    Row(
        "S002:§5/7",
        "claim",
        "Only the terms with x_{t−1} matter: they determine mean and variance.",
        Proved(*_POSTERIOR),
        latex=r"C(x_t,x_0)\ \text{is part of the normaliser}",
    ),
    Row(
        "S002:/14",
        "formula",
        "Mean of the step through the noise of level t, and its variance β̃_t: the inverse of the precision "
        "α_t/β_t + 1/(1 − ᾱ_{t−1}). The text prints the precision itself, with α_t² for α_t, and calls it σ.",
        Erratum(
            "ddpm.posterior_variance",
            "precision-and-square",
            also=("ddpm.mean_from_eps", "parameterization.mu_from_eps"),
        ),
        latex=r"\tilde\mu_t=\frac1{\sqrt{\alpha_t}}\left(x_t-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\epsilon"
        r"\right),\qquad\sigma_t^2=\left(\frac{\alpha_t}{\beta_t}+\frac1{1-\bar\alpha_{t-1}}\right)^{-1}",
        printed=r"\tilde\mu_t=\frac1{\sqrt{\alpha_t}}\left(x_t-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}"
        r"\epsilon_t\right),\qquad\sigma=\frac{\alpha_t^2}{\beta_t}+\frac1{1-\bar\alpha_{t-1}}",
        severity="breaks",
        origin="author",
        effect="At t = 500 of the linear schedule with T = 1000 a sampler would add noise of the deviation "
        "98.7, or 9.9 if σ is meant as the variance, and not 0.100.",
        notation="the mean is right with ε_t the noise of level t; by S002:/1 it is that of step t",
    ),
    Row(
        "S002:§5/8",
        "claim",
        "The mean is a function of x_t and the noise; the text has x_{t−1}, which is what is drawn.",
        Counterexample(_later_state, "the mean as a function", ("ddpm.mean_from_eps",)),
        latex=r"\tilde\mu_t=\tilde\mu_t(x_t,\epsilon)",
        printed=r"\tilde\mu_t=\tilde\mu_t(x_{t-1},\epsilon_t)",
        severity="wording",
        origin="author",
        effect="A mean that needs x_{t−1} could not be used to draw it.",
    ),
    Row(
        "S002:§5/9",
        "claim",
        "σ is a fixed number at first; later models learn it.",
        Proved("ddpm.fixed_large_variance", "ddpm.posterior_variance", "ddpm.learned_variance"),
        latex=r"\sigma_t^2\in\{\beta_t,\tilde\beta_t\},\qquad\sigma_t^2=\beta_t^f\tilde\beta_t^{1-f}",
        conditions="of DDPM and of improved DDPM; Stable Diffusion, which the text names, is a later model",
    ),
    Row(
        "S002:§5/10",
        "claim",
        "Mean and variance do not have x_0 in them, so the reverse process runs alone.",
        Proved("ddpm.mean_from_eps", "ddpm.mean_from_score", "ddpm.optimal_variance"),
        latex=r"\mathrm E[x_{t-1}\mid x_t]=\frac1{\sqrt{\alpha_t}}\left(x_t-\frac{\beta_t}{\sqrt{1-\bar"
        r"\alpha_t}}\mathrm E[\epsilon\mid x_t]\right)",
        conditions="x_0 is hidden in ε, which must be predicted. With its mean given x_t the mean of the "
        "step is exact, and the variance β̃_t too small by ᾱ_{t−1}β_t²/(1−ᾱ_t)² times Var(x_0 | x_t)",
    ),
    Row(
        "S002:§5/11",
        "claim",
        "The noise in the mean is that of all t steps. The text calls it the noise of step t, runs the "
        "chain step by step to make it and saves it as the label.",
        Erratum(
            "ddpm.four_variable_minimiser", "same-network", also=("ddpm.mean_from_eps", "ddpm.loss_simple")
        ),
        latex=r"\mathrm E[\epsilon_t\mid x_t]=\sqrt{\frac{\beta_t}{1-\bar\alpha_t}}\;\mathrm E[\epsilon"
        r"\mid x_t]",
        printed=r"\mathrm E[\epsilon_t\mid x_t]=\mathrm E[\epsilon\mid x_t]",
        severity="breaks",
        origin="author",
        effect="A network trained on the noise of the step says too little, by √(β_t/(1−ᾱ_t)): 0.104 of it "
        "at t = 500 of the linear schedule. In the mean as printed the sampler removes a tenth of the "
        "noise it should.",
    ),
    Row(
        "S002:§5/12",
        "claim",
        "The network takes the noised image and returns the noise.",
        Proved("ddpm.loss_simple", "parameterization.mu_from_eps"),
        latex=r"\epsilon_\theta(x_t,t)",
        conditions="and the step t",
    ),
    Row(
        "S002:§5/13",
        "claim",
        "Where the forward process was run and its noises are recorded, x_t and the noise of step t give "
        "x_{t−1} back. What to remove is unknown for a new image, which was never noised.",
        Counterexample(
            _with_the_record,
            "what is left open without the record, against what is left open with it",
            ("ddpm.one_step", "ddpm.optimal_variance"),
            _recorded,
        ),
        latex=r"x_{t-1}=\frac{x_t-\sqrt{1-\alpha_t}\,\epsilon_t}{\sqrt{\alpha_t}}",
        printed=r"\mathrm{Var}(x_{t-1}\mid x_t,\epsilon_t)>0",
        severity="wording",
        origin="author",
        effect="None on an implementation; the reason for the network is that nothing was recorded.",
    ),
)
