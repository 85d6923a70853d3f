"""S004, chapter 5: DDIM. Its algorithm is run as it is printed, on laws whose perfect network is known.

The text writes t − 1 for the level below, and τ_{i−1} for that of a sub-sequence; the formulas hold between
any two levels, here s and t.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise, product
from math import isqrt

import sympy as sp

from derivations.kit import Identity, Induction, Step
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

_PLACES = 10**40
_ROOTS = (
    (Fraction(1), Fraction(0)),
    (Fraction(4, 5), Fraction(3, 5)),
    (Fraction(3, 5), Fraction(4, 5)),
    (Fraction(5, 13), Fraction(12, 13)),
)
"""√ᾱ and √(1−ᾱ) of four levels, from the data up."""


def _root(value: Fraction) -> Fraction:
    return Fraction(isqrt(value.numerator * _PLACES**2 // value.denominator), _PLACES)


def _turned(inverted: int) -> list[Step]:
    """Kernels turned round by Bayes' rule, one by one: the marginals between cancel."""
    begun, below, here, posterior, others, path = sp.symbols("m_1 m_t m_u r R P", positive=True)
    ratio = below / here if inverted else here / below
    more = (path * posterior * ratio, here * (others * posterior))
    return [Induction("the marginals telescope", (begun, begun), more, {path: below * others})]


def _weights() -> Mapping[str, tuple[Exact, Exact]]:
    """L_{t-1} of two joint laws with the marginals ᾱ_s = 16/25 and ᾱ_t = 25/169, by their printed kernels:
    the squared slope of the mean in the predicted noise over 2σ²."""
    root_s, root_t, noise_t = Fraction(4, 5), Fraction(5, 13), Fraction(12, 13)

    def weight(sigma: Fraction, direction: Fraction) -> Fraction:
        return (root_s * noise_t / root_t - direction) ** 2 / (2 * sigma**2)

    less, more = weight(Fraction(9, 25), Fraction(12, 25)), weight(Fraction(12, 25), Fraction(9, 25))
    return {"L_{t−1} for ε − ε_θ = 1, σ_t = 9/25 and 12/25, one value as printed": (less, more)}


def _flipped() -> Mapping[str, tuple[Exact, Exact]]:
    """x_s whose noise is that of x_t with a random sign has the marginal of level s. Given x_t = 1 and
    x_0 = 0 it has two values."""
    values = [sign * Fraction(3, 5) / Fraction(12, 13) for sign in (-1, 1)]
    second, fourth = (sum((v**k for v in values), Fraction(0)) / 2 for k in (2, 4))
    return {"fourth moment of x_{t−1} given x_t and x_0, over the squared variance": (3, fourth / second**2)}


def _radicands() -> Mapping[str, tuple[Exact, Exact]]:
    """σ_t² = β_t is positive, and its radicand is a square only if it is at least 0."""
    kept = linear_levels()
    return {
        f"1 − ᾱ_{t - 1} − σ_{t}² for σ_{t}² = β_{t}, linear, T = 1000, at least 0 as printed": (
            Fraction(0),
            1 - kept[t - 1] - (1 - kept[t] / kept[t - 1]),
        )
        for t in (1, 2)
    }


def _noise_size() -> str:
    kept, found = linear_levels(), []
    for t in (1, 100, 500, 1000):
        found.append(f"{shown(kept[t])} at t = {t}")
    return "mean square of ε − ε_θ for unit data and the perfect network, linear schedule: " + ", ".join(
        found
    )


_JOINT = {(0, 0): Fraction(7, 12), (0, 1): Fraction(1, 12), (1, 0): Fraction(1, 6), (1, 1): Fraction(1, 6)}
"""Probabilities of two bits x_1, x_2 given the data."""


def _bits() -> Mapping[str, tuple[Exact, Exact]]:
    """The printed product from i = 2 on for τ = {0, 1, 2}, summed over x_1 and x_2."""
    last = [_JOINT[0, bit] + _JOINT[1, bit] for bit in (0, 1)]
    printed = sum((last[b] * _JOINT[a, b] for a, b in product((0, 1), repeat=2)), Fraction(0))
    return {
        "total probability of x_1, x_2 given x_0, τ = {0, 1, 2}": (
            printed,
            sum(_JOINT.values(), Fraction(0)),
        ),
        "least index that is asked for, and least that is defined": (0, 1),
    }


def _kernels() -> Mapping[str, tuple[Exact, Exact]]:
    levels = range(0, 1001, 100)
    return {"kernels between the levels 0, 100, …, 1000": (len(levels), len(list(pairwise(levels))))}


def _not_a_law() -> Mapping[str, tuple[Exact, Exact]]:
    """Bits, T = 2, τ = {0, 2}: the printed product summed over x_0, x_1, x_2. p(x_0 | x_2) is the same for
    both x_2, and x_1 is drawn nowhere."""
    from_2, from_1 = Fraction(2, 3), (Fraction(1, 2), Fraction(2, 3))
    total = sum((from_2 * one + (1 - from_2) * (1 - one) for one in from_1), Fraction(0))
    return {"total probability of x_0, x_1, x_2, τ = {0, 2}": (total, 1)}


def _run(kept: Sequence[tuple[Fraction, Fraction]], variance: int, stale: bool) -> Fraction:
    """Algorithm 5.1 with σ = 0 on centred data of a variance: the variance of what it returns. ``stale``
    takes x_t of the loop for the x_T that alone is defined."""
    x_T = x = Fraction(1)
    for (root, noise), (root_s, noise_s) in pairwise(reversed(kept)):
        eps = noise / (root**2 * variance + noise**2) * x
        x = root_s * ((x_T if stale else x) - noise * eps) / root + noise_s * eps
    return x**2


def _stale() -> Mapping[str, tuple[Exact, Exact]]:
    return {
        f"variance of samples, data of variance {variance}, √ᾱ = 1, 4/5, 3/5, 5/13": (
            _run(_ROOTS, variance, True),
            _run(_ROOTS, variance, False),
        )
        for variance in (0, 1)
    }


def _walk(count: int, back: bool) -> Fraction:
    """Unit data and the perfect network, linear schedule: the factor of ``count`` steps from T down to data,
    or of as many steps up and down again."""
    levels = linear_levels()[:: 1000 // count]
    roots = [(_root(level), _root(1 - level)) for level in levels]
    factor = Fraction(1)
    for (root_s, noise_s), (root, noise) in pairwise(roots):
        down = root_s * root + noise_s * noise
        up = root * root_s + noise * noise_s
        factor = Fraction(round(factor * (down * up if back else down) * _PLACES), _PLACES)
    return factor


def _fewer_steps() -> str:
    found = [f"{shown(_walk(count, False) ** 2)} with {count}" for count in (1000, 100, 50, 10)]
    return "variance of samples, true 1, for equal steps of the linear schedule: " + ", ".join(found)


def _there_and_back() -> str:
    found = [f"{shown(_walk(count, True))}·x_0 with {count}" for count in (1000, 100, 50, 10)]
    return "what comes back of x_0, unit data, for equal steps up and down again: " + ", ".join(found)


def _solved(sign: int) -> list[Step]:
    """5.15: the deterministic step over √ᾱ."""
    root_s, root_t, noise_s, noise_t = sp.symbols("r_s r_t n_s n_t", positive=True)
    x, eps = sp.symbols("x eps", real=True)
    step = root_s * (x - noise_t * eps) / root_t + noise_s * eps
    return [
        Identity(
            "divided by √ᾱ", step / root_s, x / root_t + sign * (noise_s / root_s - noise_t / root_t) * eps
        )
    ]


_SIGMA = "σ_t² ≤ 1 − ᾱ_{t−1}"
_RETRAIN = (
    "a network that can be right at every level at once; for σ_t = 0 the weights are infinite and there "
    "is no objective, but the family has the marginals that the network knows"
)

ROWS: tuple[Row, ...] = (
    Row(
        "S004:§5/1",
        "claim",
        "Diffusion models train more stably and sample better than GANs and VAEs, and are much slower.",
        NotCheckable("an empirical claim without numbers"),
    ),
    Row(
        "S004:§5/2",
        "claim",
        "Sampling with DDPM calls the network T times, once in each step.",
        Proved("ddpm.step", "ddpm.final_step"),
    ),
    Row(
        "S004:§5/3",
        "claim",
        "DDIM samples faster with a network trained for DDPM.",
        Proved("ddim.marginals", "ddim.general_step", "ddpm.loss_simple"),
        conditions="faster by fewer steps, each of which misses more: see S004:§5.3/6",
    ),
    Row(
        "S004:fig5.1",
        "figure",
        "The graph of DDIM: every forward step sees x_0 besides the level before.",
        Proved("ddim.forward_mean", "ddim.markov_iff"),
        latex=r"q(x_{1:T}\mid x_0)=q(x_1\mid x_0)\prod_{t=2}^Tq(x_t\mid x_{t-1},x_0)",
    ),
    Row(
        "S004:§5.1/1",
        "claim",
        "The simple loss (4.10) depends on the marginals q(x_t | x_0) alone. The bound 3.14 does not: its "
        "posteriors belong to the joint law, which weighs the levels.",
        Counterexample(
            _weights,
            "two joint laws with the same marginals, each with the model of its own form",
            ("ddpm.loss_simple", "vlb.ddim_weight_eps", "vlb.ddim_least_weight", "ddim.marginals"),
        ),
        latex=r"L_{\mathrm{simple}}=L_{\mathrm{simple}}\left[q(x_t\mid x_0),\ t=1,\dots,T\right],\qquad"
        r"L_{t-1}=\gamma_t(\sigma_t)\,\mathbb E\|\epsilon-\epsilon_\theta\|^2",
        printed=r"L\ \text{of 3.14 depends on}\ q(x_t\mid x_0)\ \text{alone, not on}\ q(x_{1\dots T}"
        r"\mid x_0)",
        severity="wording",
        origin="author",
        effect="A bound computed with the weights of DDPM is not that of a member of the family with another "
        "σ_t: here L_{t−1} is 8 or 5.28. What is built on the sentence, sampling without new training, holds "
        "by 4.10.",
    ),
    Row(
        "S004:§5.1/2",
        "claim",
        "Different joint laws have the same marginals.",
        Proved("ddim.marginals", "ddim.root_sign"),
        conditions=_SIGMA,
    ),
    Row(
        "S004:5.1",
        "equation",
        "The forward chain given the data, its kernels turned round by Bayes' rule: the marginals cancel, "
        "and that of x_T is left. It is the same "
        "forward chain, written from its end.",
        Steps(lambda: _turned(0), lambda: _turned(1)),
        latex=r"q(x_{1:T}\mid x_0)=q(x_1\mid x_0)\prod_{t=2}^Tq(x_t\mid x_{t-1},x_0)=q(x_T\mid x_0)"
        r"\prod_{t=2}^Tq(x_{t-1}\mid x_t,x_0)",
        conditions="given x_0 the chain is Markov, as the first line assumes",
    ),
    Row(
        "S004:§5.1/3",
        "formula",
        "Bayes' rule given x_0.",
        Proved("ddim.forward_mean", "ddim.forward_variance"),
        latex=r"q(x_t\mid x_{t-1},x_0)=\frac{q(x_{t-1}\mid x_t,x_0)\,q(x_t\mid x_0)}{q(x_{t-1}\mid x_0)}",
    ),
    Row(
        "S004:§5.1/4",
        "claim",
        "The forward kernel is no longer Markov: x_t depends on x_0 besides x_{t−1}.",
        Proved("ddim.markov_iff"),
        conditions="unless σ_t² is the variance of the posterior, η = 1: that member is DDPM, and Markov",
    ),
    Row(
        "S004:§5.1/5",
        "claim",
        "Kernels may depend on x_0 because a sampler can estimate it from x_t and ε_θ.",
        Proved("parameterization.x_0_from_eps", "ddim.general_step"),
    ),
    Row(
        "S004:§5.1/6",
        "formula",
        "The law of the last level is set to the marginal of DDPM.",
        Definition("q(x_T | x_0)"),
        latex=r"q(x_T\mid x_0)=\mathcal N\left(\sqrt{\bar\alpha_T}\,x_0,(1-\bar\alpha_T)I\right)",
    ),
    Row(
        "S004:5.2",
        "equation",
        "The marginal of t − 1 is that of t with the kernel integrated over x_t.",
        Proved("ddim.marginals"),
        latex=r"q(x_{t-1}\mid x_0)=\int q(x_t\mid x_0)\,q(x_{t-1}\mid x_t,x_0)\,\mathrm dx_t",
    ),
    Row(
        "S004:§5.1/7",
        "claim",
        "Normal marginals do not make the kernel between them normal. That it is, is chosen; then mean and "
        "variance follow up to σ_t and a sign.",
        Counterexample(
            _flipped,
            "the noise of x_t with a random sign: normal marginals, and a kernel with two values",
            ("ddim.kernel_mean", "ddim.marginals", "ddim.root_sign"),
        ),
        latex=r"x_{t-1}=\sqrt{\bar\alpha_{t-1}}\,x_0\pm\sqrt{\frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}}\left("
        r"x_t-\sqrt{\bar\alpha_t}\,x_0\right),\ \text{each sign with probability }\tfrac12",
        printed=r"q(x_{t-1}\mid x_0),\,q(x_t\mid x_0)\ \text{normal}\ \Rightarrow\ q(x_{t-1}\mid x_t,x_0)\ "
        r"\text{normal}",
        severity="wording",
        origin="author",
        effect="None on the sampler: 5.3 has the right marginals. But it is one solution of 5.2 among "
        "many, and the cited theorem goes the other way, from a linear normal kernel to a normal marginal.",
    ),
    Row(
        "S004:5.3",
        "equation",
        "The reverse kernel of the family: it points from the data towards x_t, with the variance σ_t².",
        Proved("ddim.kernel_mean", "ddim.marginals"),
        latex=r"q(x_{t-1}\mid x_t,x_0)=\mathcal N\left(\sqrt{\bar\alpha_{t-1}}\,x_0+\sqrt{1-\bar\alpha_{t-1}-"
        r"\sigma_t^2}\,\frac{x_t-\sqrt{\bar\alpha_t}\,x_0}{\sqrt{1-\bar\alpha_t}},\,\sigma_t^2I\right)",
        conditions=_SIGMA,
    ),
    Row(
        "S004:§5.1/8",
        "claim",
        "σ_t lies between 0 and √(1 − ᾱ_{t−1}), so σ_1 = 0.",
        Counterexample(
            _radicands,
            "the variance that DDPM samples with leaves no real root in the first steps",
            ("ddim.kernel_mean", "ddim.sigma_bound", "ddim.eta_bound"),
        ),
        latex=r"0\le\sigma_t\le\sqrt{1-\bar\alpha_{t-1}}",
        printed=r"\sigma_t\ge0",
        severity="breaks",
        origin="paper",
        effect="With σ_t² = β_t, a usual choice in DDPM, the root of 5.3 and 5.6 is not a number at t = 1 "
        "and t = 2 of the linear schedule: a sampler returns nan. Every σ_t(η) with η ≤ 1 is small enough.",
    ),
    Row(
        "S004:§5.1/9",
        "claim",
        "The larger σ_t, the more random the forward process; for σ_t = 0 it is deterministic.",
        Proved("ddim.forward_variance", "ddim.deterministic_step"),
        latex=r"\mathrm{Var}(x_t\mid x_{t-1},x_0)=\frac{1-\bar\alpha_t}{1-\bar\alpha_{t-1}}\sigma_t^2",
        conditions="given x_0 and one other level. The marginals have their noise for every σ_t: one draw "
        "makes the whole path",
    ),
    Row(
        "S004:§5.1/10",
        "claim",
        "For this σ_t the kernel is the posterior of DDPM.",
        Proved("ddim.eta_one_is_ddpm", "ddim.markov_iff"),
        latex=r"\sigma_t=\sqrt{\frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}}\sqrt{1-\frac{\bar\alpha_t}{\bar"
        r"\alpha_{t-1}}}",
        conditions="the posterior with √α_t before x_t; 4.5 prints √ᾱ_t",
    ),
    Row(
        "S004:§5.1/11",
        "formula",
        "σ_t as a share η of that value.",
        Proved("ddim.sigma", "ddim.sigma_bound"),
        latex=r"\sigma_t(\eta)=\eta\sqrt{\frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}}\sqrt{1-\frac{\bar"
        r"\alpha_t}{\bar\alpha_{t-1}}}",
        conditions="0 ≤ η ≤ 1, or a little more",
    ),
    Row(
        "S004:§5.1/12",
        "claim",
        "The new forward kernel follows from Bayes' rule, is normal, and not Markov.",
        Proved("ddim.forward_mean", "ddim.forward_variance", "ddim.markov_iff"),
        latex=r"q(x_t\mid x_{t-1},x_0)=\mathcal N\left(\sqrt{\bar\alpha_t}\,x_0+\frac{\sqrt{1-\bar"
        r"\alpha_{t-1}-\sigma_t^2}\sqrt{1-\bar\alpha_t}}{1-\bar\alpha_{t-1}}\left(x_{t-1}-\sqrt{\bar"
        r"\alpha_{t-1}}\,x_0\right),\frac{1-\bar\alpha_t}{1-\bar\alpha_{t-1}}\sigma_t^2I\right)",
        conditions="η ≠ 1 for the last part; a point for σ_t = 0",
    ),
    Row(
        "S004:§5.1/13",
        "claim",
        "The predicted noise stands for the noise, and gives an estimate of the data.",
        Approximation(
            "of mean square ᾱ_t·c/(ᾱ_t·c + 1 − ᾱ_t) for Gaussian data of variance c and the best prediction",
            _noise_size,
            formulas=("ddpm.loss_simple_minimum", "parameterization.x_0_from_eps"),
        ),
        latex=r"\epsilon_\theta(x_t,t)\approx\mathbb E[\epsilon\mid x_t]",
        notation="∼ is read as “close to”. As laws they differ: the prediction of unit data has the variance "
        "1 − ᾱ_t, the noise 1",
    ),
    Row(
        "S004:§5.1/14",
        "claim",
        "The model of a step has to fit the kernel 5.3.",
        Proved("elbo.best_reverse", "vlb.ddim_weight_x_0"),
        latex=r"\mathbb E_q\,\mathrm{KL}\left(q(x_{t-1}\mid x_t,x_0)\,\|\,p_\theta(x_{t-1}\mid x_t)\right)",
        conditions="in the mean over x_0 given x_t, which it does not know: its best is q(x_{t−1} | x_t)",
    ),
    Row(
        "S004:5.4",
        "equation",
        "The predicted data.",
        Proved("parameterization.x_0_from_eps"),
        latex=r"f_\theta(x_t,t)=\frac{x_t-\sqrt{1-\bar\alpha_t}\,\epsilon_\theta(x_t,t)}{\sqrt{\bar"
        r"\alpha_t}}",
    ),
    Row(
        "S004:5.5",
        "equation",
        "The reverse process: the kernel at the predicted data, and at t = 1 a normal law around them.",
        Proved("ddim.general_step", "vlb.ddim_direct_term"),
        latex=r"p_\theta(x_{t-1}\mid x_t)=q\left(x_{t-1}\mid x_t,f_\theta(x_t,t)\right),\ t>1;\qquad p_"
        r"\theta(x_0\mid x_1)=\mathcal N\left(f_\theta(x_1,1),\sigma_1^2I\right)",
        conditions="the σ_1 of the decoder is one of its own: the kernel allows σ_1 = 0 alone, the bound "
        "needs σ_1 > 0",
    ),
    Row(
        "S004:5.6",
        "equation",
        "The step of the family.",
        Proved("ddim.general_step", "ddim.step", "ddim.sigma_bound"),
        latex=r"x_{t-1}=\sqrt{\bar\alpha_{t-1}}\,f_\theta(x_t,t)+\sqrt{1-\bar\alpha_{t-1}-\sigma_t^2}\,"
        r"\epsilon_\theta(x_t,t)+\sigma_t\epsilon",
        conditions=_SIGMA + ", so σ_1 = 0: with the noise of 5.5 at t = 1 the root is not real",
        notation="it follows from 5.3 to 5.5; the text refers to 5.1",
    ),
    Row(
        "S004:5.7",
        "equation",
        "The bound of the family has the term of the prior too.",
        Erratum("elbo.three_terms", "prior-missing", also=("vlb.prior_term",)),
        latex=r"L=\mathbb E_q\left[-\log p_\theta(x_0\mid x_1)+\mathrm{KL}\left(q(x_T\mid x_0)\,\|"
        r"\,p(x_T)\right)+\sum_{t>1}\mathrm{KL}\left(q(x_{t-1}\mid x_t,x_0)\,\|\,q(x_{t-1}\mid x_t,f_"
        r"\theta(x_t,t))\right)\right]",
        printed=r"L=\mathbb E_q\left[-\log p(x_0\mid x_1)+\sum_{t>1}\mathrm{KL}\left(q(x_{t-1}"
        r"\mid x_t,x_0)\,\|\,p(x_{t-1}\mid x_t)\right)\right]",
        severity="number",
        origin="author",
        effect="Training does not notice. A likelihood computed so is too good: by 4.0 nats for an image of "
        "256 × 256 pixels in three colours of values ±1 with the linear schedule, by much more with a "
        "schedule that ends early.",
        conditions="§4.2 may leave the term out of training, as it has no parameters; the L of 3.14 has it",
    ),
    Row(
        "S004:5.8",
        "equation",
        "L_{t−1} as a weight times the squared error of the data, or of the noise.",
        Proved("vlb.ddim_weight_x_0", "vlb.ddim_weight_eps"),
        latex=r"c_t=\frac1{2\sigma_t^2}\left(\sqrt{\bar\alpha_{t-1}}-\sqrt{1-\bar\alpha_{t-1}-\sigma_t^2}\,"
        r"\frac{\sqrt{\bar\alpha_t}}{\sqrt{1-\bar\alpha_t}}\right)^2,\qquad c'_t=\frac{1-\bar\alpha_t}{\bar"
        r"\alpha_t}c_t",
        conditions="0 < σ_t² ≤ 1 − ᾱ_{t−1}. The weights are constants of the network, not of t or σ_t; for "
        "σ_t = 0 they are infinite",
    ),
    Row(
        "S004:5.9",
        "equation",
        "L_0 is a weight times the squared error, plus the normaliser of the decoder.",
        Erratum("vlb.ddim_direct_term", "constant-missing"),
        latex=r"L_0=\mathbb E_q\left[\frac{1-\bar\alpha_1}{2\sigma_1^2\bar\alpha_1}\|\epsilon-\epsilon_"
        r"\theta\|^2\right]+\frac D2\log(2\pi\sigma_1^2)",
        printed=r"L_0=\mathbb E_q\left[d'\,\|\epsilon-\epsilon_\theta(x_1,1)\|^2\right]",
        severity="number",
        origin="author",
        effect="With σ_1 = 1/100 the constant is −3.69 nats for each pixel; without it the bound is no "
        "bound, and a σ_1 that is learned grows without end. 4.8 writes the constant.",
        conditions="σ_1 > 0",
    ),
    Row(
        "S004:§5.2/1",
        "claim",
        "The objectives of DDIM and DDPM differ in the weights of the levels alone, so a trained DDPM serves "
        "without new training.",
        Proved("vlb.ddim_weight_eps", "vlb.ddim_least_weight", "ddpm.loss_simple", "ddim.marginals"),
        conditions=_RETRAIN,
    ),
    Row(
        "S004:§5.3/1",
        "claim",
        "With all T levels DDIM is no faster than DDPM.",
        Proved("ddim.step", "ddpm.step"),
        conditions="counted in calls of the network",
    ),
    Row(
        "S004:§5.3/2",
        "formula",
        "A sub-sequence τ of S levels from 0 to T; the levels between two neighbours are left out.",
        Convention(
            "the list contains the data, so S levels make S − 1 steps; others begin at the first noised "
            "level",
            ("schedule.spacing_trailing", "ddim.step"),
        ),
        latex=r"0=\tau_1<\tau_2<\dots<\tau_S=T",
    ),
    Row(
        "S004:5.10",
        "equation",
        "The forward process on a sub-sequence: the last level, the kernels downwards, and all other levels "
        "from the data.",
        Counterexample(
            _bits,
            "bits: with the kernels upwards the last level counts twice, and the sum is not 1",
            ("ddim.marginals",),
            lambda: _turned(0),
        ),
        latex=r"q(x_{1:T}\mid x_0)=q(x_{\tau_S}\mid x_0)\prod_{i=3}^Sq(x_{\tau_{i-1}}\mid x_{\tau_i},x_0)"
        r"\prod_{t\in\bar\tau}q(x_t\mid x_0)",
        printed=r"q(x_{1\dots T}\mid x_0)=q(x_{\tau_S}\mid x_0)\prod_{i=1}^Sq(x_{\tau_i}\mid x_{"
        r"\tau_{i-1}},x_0)\prod_{t\in\bar\tau}q(x_t\mid x_0)",
        severity="breaks",
        origin="author",
        effect="The density of x_T enters twice and that of the other levels with the kernels of 5.11 not at "
        "all; i = 1 asks for τ_0, which a list in code reads as its last element, T. 5.11 has the right "
        "direction.",
        notation="i = 2 would be the kernel to τ_1 = 0, a point at the data",
    ),
    Row(
        "S004:fig5.2",
        "figure",
        "The graph of the fast variant: the levels of τ are a chain, the others hang on x_0, a star.",
        Proved("ddim.marginals", "ddim.kernel_mean"),
    ),
    Row(
        "S004:5.11",
        "equation",
        "The marginals and kernels of the sub-sequence. There is one kernel less than there are levels: i "
        "runs from 2.",
        Counterexample(
            _kernels, "S levels have S − 1 pairs of neighbours", ("ddim.kernel_mean", "ddim.marginals")
        ),
        latex=r"q(x_{\tau_{i-1}}\mid x_{\tau_i},x_0)=\mathcal N\left(\sqrt{\bar\alpha_{\tau_{i-1}}}\,x_0+"
        r"\sqrt{1-\bar\alpha_{\tau_{i-1}}-\sigma_{\tau_i}^2}\,\frac{x_{\tau_i}-\sqrt{\bar\alpha_{\tau_i}}"
        r"\,x_0}{\sqrt{1-\bar\alpha_{\tau_i}}},\sigma_{\tau_i}^2I\right),\quad i\in\{2,\dots,S\}",
        printed=r"i\in\{1,2,\dots,S\}",
        severity="breaks",
        origin="author",
        effect="A loop that begins at i = 1 asks for τ_0, below τ_1 = 0, and divides by √(1 − ᾱ_0) = 0. The "
        "kernel itself is right, and 5.12 has {2, …, S}.",
        conditions="σ_{τ_i}² ≤ 1 − ᾱ_{τ_{i−1}}",
    ),
    Row(
        "S004:5.12",
        "equation",
        "The reverse process is a law of the levels of τ. The factors p(x_0 | x_t) of the other levels are "
        "models of x_0 beside it, and no law of x_t: the product is no joint law.",
        Counterexample(
            _not_a_law,
            "bits: summed over all levels the printed product is not 1",
            ("elbo.reverse_chain", "ddim.general_step", "vlb.ddim_direct_term"),
        ),
        latex=r"p_\theta(x_{\tau_1},\dots,x_{\tau_S})=p(x_T)\prod_{i=2}^Sp_\theta(x_{\tau_{i-1}}\mid x_{"
        r"\tau_i})",
        printed=r"p_\theta(x_{0\dots T})=p_\theta(x_T)\prod_{i=1}^Sp_\theta(x_{\tau_{i-1}}\mid x_{"
        r"\tau_i})\prod_{t\in\bar\tau}p_\theta(x_0\mid x_t)",
        severity="wording",
        origin="paper",
        effect="x_0 is drawn many times and x_t of the levels between never, so the divergence from it is "
        "no bound of the likelihood; sampling uses the first product alone. i = 1 asks for τ_0, and T is "
        "not among the levels that need a p(x_0 | x_t).",
    ),
    Row(
        "S004:5.13",
        "equation",
        "The step between two levels of the sub-sequence.",
        Proved("ddim.general_step", "ddim.step", "schedule.respaced_beta"),
        latex=r"x_{\tau_{i-1}}=\sqrt{\bar\alpha_{\tau_{i-1}}}\,f_\theta(x_{\tau_i},\tau_i)+\sqrt{1-\bar"
        r"\alpha_{\tau_{i-1}}-\sigma_{\tau_i}^2}\,\epsilon_\theta(x_{\tau_i},\tau_i)+\sigma_{\tau_i}"
        r"\epsilon_{\tau_i}",
        conditions="i = 2, …, S; σ_{τ_i}² ≤ 1 − ᾱ_{τ_{i−1}}",
    ),
    Row(
        "S004:§5.3/3",
        "formula",
        "σ of a step of the sub-sequence, by the levels of its ends.",
        Proved("ddim.sigma", "ddim.sigma_bound", "ddim.eta_one_is_ddpm"),
        latex=r"\sigma_{\tau_i}(\eta)=\eta\sqrt{\frac{1-\bar\alpha_{\tau_{i-1}}}{1-\bar\alpha_{\tau_i}}}"
        r"\sqrt{1-\frac{\bar\alpha_{\tau_i}}{\bar\alpha_{\tau_{i-1}}}}",
    ),
    Row(
        "S004:5.14",
        "equation",
        "A level that is left out enters the objective by −log p(x_0 | x_t). It cannot enter by a "
        "divergence of q(x_t | x_0) from p(x_0 | x_t): these are laws of different variables.",
        Erratum("vlb.ddim_direct_term", "divergence-as-printed", also=("vlb.ddim_weight_eps",)),
        latex=r"L=\mathbb E_q\left[-\sum_{t\in\bar\tau}\log p_\theta(x_0\mid x_t)-\log p_\theta(x_0"
        r"\mid x_{\tau_2})+\sum_{i=3}^S\mathrm{KL}\left(q(x_{\tau_{i-1}}\mid x_{\tau_i},x_0)\,\|\,p_"
        r"\theta(x_{\tau_{i-1}}\mid x_{\tau_i})\right)+\mathrm{KL}\left(q(x_T\mid x_0)\,\|\,p(x_T)\right)"
        r"\right]",
        printed=r"L=\mathbb E_q\left[\sum_{t\in\bar\tau}\mathrm{KL}\left(q(x_t\mid x_0)\,\|\,p_\theta(x_0"
        r"\mid x_t)\right)+\sum_{i=1}^S\mathrm{KL}\left(q(x_{\tau_{i-1}}\mid x_{\tau_i},x_0)\,\|\,p_"
        r"\theta(x_{\tau_{i-1}}\mid x_{\tau_i})\right)\right]",
        severity="breaks",
        origin="paper",
        effect="As a divergence of two normal laws in code the first sum teaches f_θ the mean √ᾱ_t·x_0 of "
        "x_t where x_0 belongs: 0.280·x_0 at t = 500 of the linear schedule. The second sum asks for τ_0, "
        "takes the last step for a divergence between points, and the prior's term is missing.",
    ),
    Row(
        "S004:§5.3/4",
        "claim",
        "Terms of levels that sampling does not visit may be ignored.",
        Proved("ddim.general_step", "ddim.marginals"),
        conditions="for samples along this τ; the value of an objective changes",
    ),
    Row(
        "S004:§5.3/5",
        "claim",
        "The terms of τ differ from DDPM's in their weights alone, so a trained DDPM serves for every τ.",
        Proved("vlb.ddim_weight_eps", "vlb.ddim_least_weight", "ddpm.loss_simple", "ddim.marginals"),
        conditions=_RETRAIN,
    ),
    Row(
        "S004:alg5.1",
        "algorithm",
        "Sampling along τ: the step takes x_{τ_i} and σ_{τ_i}. The loop writes x_t and σ_t, and has no t.",
        Counterexample(
            _stale,
            "the program with the perfect network, x_t being the only x that is defined, x_T",
            ("ddim.general_step", "ddim.point_mass_exact"),
        ),
        latex=r"x_{\tau_{i-1}}=\sqrt{\bar\alpha_{\tau_{i-1}}}\,\frac{x_{\tau_i}-\sqrt{1-\bar\alpha_{"
        r"\tau_i}}\,\epsilon_\theta(x_{\tau_i},\tau_i)}{\sqrt{\bar\alpha_{\tau_i}}}+\sqrt{1-\bar\alpha_{"
        r"\tau_{i-1}}-\sigma_{\tau_i}^2}\,\epsilon_\theta(x_{\tau_i},\tau_i)+\sigma_{\tau_i}\epsilon",
        printed=r"x_{\tau_{i-1}}=\sqrt{\bar\alpha_{\tau_{i-1}}}\,\frac{x_t-\sqrt{1-\bar\alpha_{\tau_i}}\,"
        r"\epsilon_\theta(x_{\tau_i},\tau_i)}{\sqrt{\bar\alpha_{\tau_i}}}+\sqrt{1-\bar\alpha_{"
        r"\tau_{i-1}}-\sigma_t^2}\,\epsilon_\theta(x_{\tau_i},\tau_i)+\sigma_t\epsilon",
        severity="breaks",
        origin="author",
        effect="A program stops at an undefined name. If x_t is left over from x_T, ten steps of the "
        "linear schedule give data at one point the variance 0.123, and data of variance 1/4 that of "
        "0.620 where 0.137 belongs. 5.13 is right.",
    ),
    Row(
        "S004:§5.3/6",
        "claim",
        "τ may have any length; fewer steps cost quality.",
        Approximation(
            "of the factor of x_t in each step −c·ᾱ_t/(8(1−ᾱ_t)(ᾱ_t(c−1)+1))·β², second order, for "
            "Gaussian data of variance c; none for data at one point",
            _fewer_steps,
            formulas=("ode.ddim_step_error", "ddim.point_mass_exact"),
        ),
        conditions="σ_t = 0, unit data and the perfect network for the numbers",
    ),
    Row(
        "S004:§5.3/7",
        "claim",
        "In practice S = 100 or S = 50.",
        Convention("a choice between speed and quality; S levels make S − 1 steps", ("ddim.step",)),
    ),
    Row(
        "S004:5.15",
        "equation",
        "The deterministic step, and the same over √ᾱ: x/√ᾱ moves by the predicted noise times the change of "
        "√((1−ᾱ)/ᾱ).",
        Steps(
            lambda: _solved(1),
            lambda: _solved(-1),
            formulas=("ddim.deterministic_step", "ddim.euler_in_sigma"),
        ),
        latex=r"\frac{x_{t-1}}{\sqrt{\bar\alpha_{t-1}}}=\frac{x_t}{\sqrt{\bar\alpha_t}}+\left(\sqrt{"
        r"\frac{1-\bar\alpha_{t-1}}{\bar\alpha_{t-1}}}-\sqrt{\frac{1-\bar\alpha_t}{\bar\alpha_t}}\right)"
        r"\epsilon_\theta(x_t,t)",
    ),
    Row(
        "S004:§5.4/1",
        "claim",
        "The formula belongs to an ordinary differential equation.",
        Proved("ode.vp_is_ddim_ode", "ddim.euler_in_sigma"),
        latex=r"\frac{\mathrm d}{\mathrm d\sigma}\frac{x}{\sqrt{\bar\alpha}}=\epsilon_\theta(x,t),\qquad"
        r"\sigma=\sqrt{\frac{1-\bar\alpha}{\bar\alpha}}",
        conditions="the step is Euler's step of it, not the equation",
    ),
    Row(
        "S004:§5.4/2",
        "claim",
        "Sampling solves the equation numerically from x_T.",
        Proved("ddim.euler_in_sigma", "ode.vp_is_ddim_ode"),
        conditions="from T down to 0",
    ),
    Row(
        "S004:§5.4/3",
        "claim",
        "Fewer steps are longer steps: faster, with larger error.",
        Approximation(
            "of each step second order in it, of the whole first order; none for data at one point",
            _fewer_steps,
            formulas=("ode.ddim_step_error", "ode.euler_error", "ddim.point_mass_exact"),
        ),
    ),
    Row(
        "S004:§5.4/4",
        "claim",
        "Run upwards, the formula finds from x_0 the x_T from which DDIM generates it.",
        Approximation(
            "√ᾱ_s(σ_s − σ_t) times the change of the predicted noise over a step; second order in a step "
            "of σ, first order for all of them",
            _there_and_back,
            formulas=("ddim.inversion", "ddim.inversion_error", "ddim.round_trip_gaussian"),
        ),
        latex=r"x_t=\sqrt{\bar\alpha_t}\,\frac{x_s-\sqrt{1-\bar\alpha_s}\,\epsilon_\theta(x_s,s)}{\sqrt{\bar"
        r"\alpha_s}}+\sqrt{1-\bar\alpha_t}\,\epsilon_\theta(x_s,s)",
        conditions="exact for the equation, and for a step that uses the noise of the step down, which is "
        "not known on the way up. The first step asks the network at level 0, where it was not trained",
    ),
    Row(
        "S004:§5.4/5",
        "claim",
        "Inversion is widely used for editing and translation, and resembles the inversion of GANs.",
        NotCheckable("history, and a comparison without numbers"),
    ),
)
