r"""S004, chapter 1: energies, maximum likelihood with chains, and score matching.

§1.1/1 and §1.2/1 are what formulas cite; the other rows of a section follow in the order of its text.
"""

from __future__ import annotations

from collections.abc import Mapping

import sympy as sp

import derivations
from derivations.gaussian import HALF
from derivations.kit import Expectation, Identity, Series, Step
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
from derivations.ledger.row import Row
from derivations.symbols import (
    count,
    epsilon,
    eta_step,
    h,
    mean_0,
    mean_1,
    score_hat,
    sigma,
    u_1,
    u_2,
    variance_0,
    variance_1,
    x,
    x_0,
    z,
)

Pairs = Mapping[str, tuple[Exact, Exact]]
ZERO, ONE = sp.Integer(0), sp.Integer(1)
UNIT = (ZERO, ONE)


def _any_density(sign: int) -> list[Step]:
    """Minus the log of a density is an energy, with Z = 1."""
    density = sp.Function("p", positive=True)(x)
    return [Identity("E = −log p", sp.exp(sign * sp.log(density)), density)]


def _chain_size() -> str:
    """A normal target of variance 1, started one unit away from its mean."""
    excess = derivations.node("energy.ula_bias").closed.subs({eta_step: epsilon**2 / 2, variance_1: 1})
    wide = [f"{sp.N(excess.subs(epsilon, sp.Rational(1, k)), 3)} at ε = 1/{k}" for k in (2, 10, 100)]
    left = derivations.node("energy.ula_mean").closed.subs({mean_1: 0, mean_0: 1, variance_1: 1})
    short = [sp.N(left.subs({count: k, eta_step: sp.Rational(1, 2 * k)}), 3) for k in (100, 10_000)]
    return (
        "variance too large, unit normal law: "
        + ", ".join(wide)
        + "; what is left of the distance of the start after K steps of ε = 1/√K: "
        + ", ".join(f"{value} for K = {k}" for value, k in zip(short, (100, 10_000), strict=True))
    )


def _one_optimum(stretch: int) -> list[Step]:
    """Standard normal data in the plane, energies h·(x_1² + stretch·x_2²)/2: is h = 1 best for both?"""
    law = {u_1: UNIT, u_2: UNIT}
    energy = h * (u_1**2 + stretch * u_2**2) / 2
    surprise = Expectation("", energy, law, ZERO).value() - sp.log(h**2 * stretch) / 2
    slopes = sp.diff(energy, u_1) ** 2 / 2 + sp.diff(energy, u_2) ** 2 / 2
    curved = sp.diff(energy, u_1, 2) + sp.diff(energy, u_2, 2)
    explicit = Expectation("", slopes - curved, law, ZERO).value()
    return [
        Identity("likelihood", sp.diff(surprise, h).subs(h, 1), ZERO),
        Identity("explicit score matching", sp.diff(explicit, h).subs(h, 1), ZERO),
    ]


def _on_uniform_data() -> tuple[sp.Expr, sp.Expr]:
    """Explicit loss and Fisher divergence of a standard normal model; uniform data have the score 0."""
    score = -x
    explicit, fisher = (score**2 / 2 + slope for slope in (sp.diff(score, x), ZERO))
    return sp.integrate(explicit, (x, 0, 1)), sp.integrate(fisher, (x, 0, 1))


def _sharp_edge() -> Pairs:
    return {"Fisher divergence of a standard normal model, data uniform on [0, 1]": _on_uniform_data()}


def _edge_term() -> list[Step]:
    """The total derivative of p·s leaves s(1) − s(0)."""
    explicit, fisher = _on_uniform_data()
    return [Identity("the edges are left", explicit - fisher, -ONE)]


def _opened(cross: int) -> list[Step]:
    """Half the squared difference of the model's and the conditional score, one coordinate."""
    conditional = -z / sigma
    square = (conditional - score_hat) ** 2 / 2
    terms = score_hat**2 / 2 - cross * score_hat * conditional + conditional**2 / 2
    return [
        Identity("the square opened", square, terms),
        Expectation("C_1 of a coordinate", conditional**2 / 2, {z: UNIT}, 1 / (2 * sigma**2)),
    ]


def _denoiser(power: int) -> list[Step]:
    """The squared error of x̃ + σ²s as a denoiser of x̃ = x_0 + z, and the loss of s."""
    loss = (score_hat + z / sigma**2) ** 2 / 2
    error = (x_0 + z + sigma**2 * score_hat - x_0) ** 2 / 2
    return [Identity("error of the autoencoder", error, sigma**power * loss)]


def _noised(share: sp.Rational) -> list[Step]:
    """Normal data of variance v and the same with noise of variance hv."""
    told = derivations.node("gaussian.kl").closed
    at = told.subs({mean_0: 0, mean_1: 0, variance_0: 1, variance_1: 1 + h})
    return [Series("the divergence starts at the second order", at, h, 3, share * h**2)]


def _noised_size() -> str:
    told = derivations.node("gaussian.kl").closed.subs({mean_0: 0, mean_1: 0, variance_0: 1})
    nats = (f"{sp.N(told.subs(variance_1, 1 + s**2), 3)} at σ = {s}" for s in (ONE / 100, ONE / 10, ONE))
    return "divergence of unit normal data from the noised ones, in nats: " + ", ".join(nats)


_FISHER = (
    r"D_F(p\,\|\,p_\theta)=\mathbb E_p\left[\tfrac12\sum_{i=1}^d\left(\frac{\partial E_\theta}{\partial x_i}"
    r"\right)^2-\sum_{i=1}^d\frac{\partial^2E_\theta}{\partial x_i^2}\right]+\mathrm{const}"
)
_FISHER_PRINTED = (
    r"D_F(p\,\|\,p_\theta)=\mathbb E_p\left[\tfrac12\sum_{i=1}^d\left(\frac{\partial E_\theta}{\partial x_i}"
    r"\right)^2+\frac{\partial^2E_\theta}{(\partial x_i)^2}\right]+\mathrm{const}"
)
_DENOISED = (
    r"\mathbb E_{q(x,\tilde x)}\left[\tfrac12\left\|\nabla_{\tilde x}\log q(\tilde x\mid x)-\nabla_{\tilde x}"
    r"\log p_\theta(\tilde x)\right\|^2\right]"
)
_NAMES = "x is data, x̃ noised data; q(x) is the law of the data, p_data elsewhere in the chapter"

ROWS = (
    Row(
        "S004:§1.1/1",
        "claim",
        "An energy can be learned by likelihood with chains, by matching scores, or against a known noise: "
        "each has its optimum where the model has the law of the data.",
        Proved(
            "energy.log_likelihood_gradient",
            "score_matching.explicit",
            "energy.nce_optimum",
            "energy.nce_loss",
        ),
        conditions="the model can have the law of the data; that there are no other ways is not said",
    ),
    Row(
        "S004:1.1",
        "equation",
        "The density of an energy model is exp(−E), divided by its integral.",
        Proved("energy.log_density"),
        latex=r"p_\theta(x)=\frac{\exp(-E_\theta(x))}{Z_\theta}",
        conditions="Z is finite: on the line the energy must grow, and E = 0 has no law",
    ),
    Row(
        "S004:§1.1/2",
        "formula",
        "Z is the integral of exp(−E): it is free of x, and not of θ.",
        Proved("energy.log_density", "energy.score", "energy.grad_log_z"),
        latex=r"Z_\theta=\int\exp(-E_\theta(x))\,\mathrm dx",
    ),
    Row(
        "S004:§1.1/3",
        "claim",
        "E is a regression function of x with the parameters θ.",
        Definition("the energy of a point"),
        latex=r"E_\theta(x)",
    ),
    Row(
        "S004:§1.1/4",
        "claim",
        "Since Z need not be known, an energy may have any form: every positive density has one.",
        Steps(lambda: _any_density(1), lambda: _any_density(-1), formulas=("energy.log_density",)),
        latex=r"p(x)=\exp(-E(x)),\qquad E=-\log p",
        conditions="Z must still be finite",
    ),
    Row(
        "S004:1.2",
        "equation",
        "Maximum likelihood: the mean of log p_θ over the data.",
        Definition("the objective of maximum likelihood"),
        latex=r"\mathbb E_{p_{\mathrm{data}}}[\log p_\theta(x)]",
    ),
    Row(
        "S004:1.3",
        "equation",
        "Its negative is the divergence of the data from the model plus the entropy of the data, which has "
        "no parameter: both have the same optimum.",
        Proved("energy.cross_entropy"),
        latex=r"-\mathbb E_{p_{\mathrm{data}}}[\log p_\theta]=\mathrm{KL}(p_{\mathrm{data}}\,\|\,p_\theta)"
        r"+H(p_{\mathrm{data}})",
        conditions="the constant that is subtracted is E[log p_data], minus the entropy; the data have a "
        "density",
    ),
    Row(
        "S004:§1.2/1",
        "claim",
        "Training would need fresh samples of the model after each update; in practice short or endless "
        "chains of finite step stand in for them, and that brings an error.",
        Proved(
            "energy.contrastive_divergence",
            "energy.contrastive_gradient_gaussian",
            "energy.persistent_variance",
            "energy.ula_bias",
        ),
        conditions="endless chains of step η learn a normal variance v too small, by η/2 to first order; "
        "short chains from the data give a part of the gradient, 1 − (1 − η/v)^n of it for the mean of a "
        "normal model, and have its optimum",
    ),
    Row(
        "S004:§1.2/2",
        "claim",
        "The divergence in S004:1.3, the relative entropy, measures how far two laws are apart.",
        Proved("gaussian.kl", "elbo.jensen"),
        latex=r"\mathrm{KL}(p\,\|\,q)=\mathbb E_p\left[\log\frac pq\right]\ge0",
        conditions="it is 0 for equal laws alone, but it is no distance: the two directions differ",
    ),
    Row(
        "S004:§1.2/3",
        "claim",
        "The mean over the data is replaced by that of a batch, so the gradient of log p_θ at a point is all "
        "that gradient ascent needs.",
        Proved("energy.log_likelihood_gradient"),
        latex=r"\nabla_\theta\mathbb E_{p_{\mathrm{data}}}[\log p_\theta]=\mathbb E_{p_{\mathrm{data}}}"
        r"[\nabla_\theta\log p_\theta]",
        notation="the text says descent and means ascent of S004:1.2",
    ),
    Row(
        "S004:1.4",
        "equation",
        "The gradient of log p_θ: minus that of the energy, minus that of log Z, which is the difficult one.",
        Proved("energy.log_likelihood_gradient", "energy.log_density"),
        latex=r"\nabla_\theta\log p_\theta(x)=-\nabla_\theta E_\theta(x)-\nabla_\theta\log Z_\theta",
    ),
    Row(
        "S004:1.5",
        "equation",
        "The gradient of log Z is minus the mean of the gradient of the energy over the model, line by line.",
        Proved("energy.grad_log_z"),
        latex=r"\nabla_\theta\log Z_\theta=\mathbb E_{p_\theta}[-\nabla_\theta E_\theta(x)]",
        conditions="derivative and integral may be exchanged",
    ),
    Row(
        "S004:§1.2/4",
        "claim",
        "So work on energy models is about sampling from them, above all with Langevin's chain.",
        NotCheckable("a statement about the literature"),
    ),
    Row(
        "S004:§1.2/5",
        "claim",
        "The chain starts in a simple law and follows Langevin's diffusion, which has p_θ as its law.",
        Proved("energy.langevin_invariance", "energy.langevin_step"),
        latex=r"\mathrm dx=\tfrac12\nabla_x\log p_\theta(x)\,\mathrm dt+\mathrm dW",
    ),
    Row(
        "S004:1.6",
        "equation",
        "A step of the chain: half of ε² times the score, and noise of deviation ε.",
        Proved("energy.langevin_step_half"),
        latex=r"x_{k+1}=x_k+\tfrac{\epsilon^2}2\nabla\log p_\theta(x_k)+\epsilon z_k,\qquad z_k\sim"
        r"\mathcal N(0,I)",
        notation="ε is the deviation of a step's noise; the time of the diffusion that passes is ε². z_k is "
        "written N(0, 1): one for each coordinate",
    ),
    Row(
        "S004:§1.2/6",
        "claim",
        "The score of a law is the gradient of its log-density by the variable.",
        Definition("the score"),
        latex=r"\nabla_x\log p_\theta(x)",
    ),
    Row(
        "S004:1.7",
        "equation",
        "The score of an energy model is minus the gradient of the energy: Z is gone.",
        Proved("energy.score"),
        latex=r"\nabla_x\log p_\theta(x)=-\nabla_xE_\theta(x)",
    ),
    Row(
        "S004:§1.2/7",
        "claim",
        "The chain has the law p_θ in the limit of small steps and many of them.",
        Approximation(
            "of the variance ε²/(4v − ε²), relatively, for a normal law of variance v: second order in ε",
            _chain_size,
            formulas=("energy.ula_bias", "energy.ula_mean", "energy.langevin_invariance"),
        ),
        latex=r"x_K\to p_\theta\quad(\epsilon\to0,\ K\epsilon^2\to\infty)",
        conditions="Kε² must grow without bound: along K = 1/ε² both limits are taken, and a share of "
        "about e^{−1/2} of the distance of the start stays for ever",
    ),
    Row(
        "S004:§1.2/8",
        "claim",
        "Training takes a batch of data and one of the model, and the gradients of the energy at both.",
        Proved("energy.contrastive_loss", "energy.log_likelihood_gradient"),
        latex=r"\nabla_\theta\ell=\mathbb E_{p_\theta}[\nabla_\theta E_\theta]-\mathbb E_{p_{\mathrm{data}}}"
        r"[\nabla_\theta E_\theta]",
    ),
    Row(
        "S004:1.8",
        "equation",
        "The Fisher divergence: half the mean square, over the data, of the difference of the scores.",
        Proved("score_matching.fisher_divergence", "score_matching.fisher_divergence_nd"),
        latex=r"D_F(p\,\|\,p_\theta)=\mathbb E_p\left[\tfrac12\left\|\nabla_x\log p-\nabla_x\log p_\theta"
        r"\right\|^2\right]",
        notation="the line below speaks of the score between two laws: the difference of their scores",
    ),
    Row(
        "S004:§1.3/1",
        "claim",
        "Where the two scores are equal, the chain samples the law of the data and the gradient of the "
        "likelihood is 0: matching scores has the optimum of maximum likelihood.",
        Steps(
            lambda: _one_optimum(1),
            lambda: _one_optimum(2),
            formulas=("score_matching.explicit_gaussian_nd", "energy.log_likelihood_gradient"),
        ),
        latex=r"\nabla\log p_\theta=\nabla\log p_{\mathrm{data}}\ \Rightarrow\ p_\theta=p_{\mathrm{data}}",
        conditions="the model can have the law of the data, and the data a density on one connected region. "
        "Otherwise the optima differ: energies h(x_1² + 2x_2²)/2 on standard normal data learn h = 2/3 by "
        "likelihood and h = 3/5 by scores, and laws apart leave their weights open (S004:2.1)",
    ),
    Row(
        "S004:1.9",
        "equation",
        "Explicit score matching: half the squared gradient of the energy minus its Laplacian, up to a "
        "constant; the half is of the first term alone.",
        Erratum(
            "score_matching.explicit_energy",
            "laplacian-added",
            also=("score_matching.explicit_nd", "score_matching.explicit_gaussian_nd"),
        ),
        latex=_FISHER,
        printed=_FISHER_PRINTED,
        severity="breaks",
        origin="paper",
        effect="A quadratic energy of precision k on data of variance v would cost k²v/2 + k, which only "
        "k = −1/v makes least: an energy without a law. Kept positive, k goes to 0, where 1/v is right. If "
        "the half is read before both terms too, the minimum is at −1/(2v).",
    ),
    Row(
        "S004:§1.3/2",
        "claim",
        "The conditions are on the law of the data: its density must be smooth, and vanish at the edges "
        "faster than the model's score grows. No log-density on the whole space is bounded, and none need "
        "be: finite everywhere is what is meant.",
        Counterexample(
            _sharp_edge,
            "a smooth model, and data with an edge: p·s does not vanish there",
            ("score_matching.explicit",),
            _edge_term,
        ),
        latex=r"p_{\mathrm{data}}(x)\,\nabla_x\log p_\theta(x)\to0\quad\text{at the edges}",
        printed=r"|\log p_\theta(x)|\le M\ \text{for all}\ x,\quad\log p_\theta\in C^1",
        severity="wording",
        origin="author",
        effect="On data uniform on [0, 1] the explicit loss of centred normal models is least at the "
        "variance 1/3; the Fisher divergence falls for ever as the model gets wider. The model is smooth in "
        "either case. The next clause of the text, on pixels, speaks of the data.",
    ),
    Row(
        "S004:§1.3/3",
        "claim",
        "Data with a little smooth noise have a smooth density, the mean of the noise's density over the "
        "data, so their Fisher divergence can be used.",
        Proved("score_matching.marginal_score", "score_matching.denoising"),
        latex=r"\tilde x=x+\epsilon,\qquad q(\tilde x)=\int q(\tilde x\mid x)\,p_{\mathrm{data}}(x)\,"
        r"\mathrm dx",
        conditions="the noise's density is positive everywhere and has bounded derivatives, as a normal one; "
        "for discrete data the integral is a sum",
        notation="ε is noise here and the deviation of a step in S004:1.6",
    ),
    Row(
        "S004:§1.3/4",
        "claim",
        "The explicit loss needs the second derivative of the energy along each of the d coordinates, which "
        "is too much in high dimension.",
        Proved("score_matching.explicit_nd", "score_matching.sliced"),
        latex=r"\sum_{i=1}^d\frac{\partial^2E_\theta}{\partial x_i^2}",
        conditions="exactly computed; the mean over random directions needs one derivative along each",
    ),
    Row(
        "S004:1.10",
        "equation",
        "Denoising score matching: the score of the noised data may be replaced by that given the data, up "
        "to a constant.",
        Proved("score_matching.denoising", "score_matching.denoising_constant_nd"),
        latex=r"D_F(q\,\|\,p_\theta)=" + _DENOISED + r"+\mathrm{const}",
        conditions="the constant is never positive: half the mean square of the score of the noised data "
        "minus that of the conditional score",
    ),
    Row(
        "S004:1.11",
        "equation",
        "The square of the denoising loss opened; the last term has no parameter.",
        Steps(lambda: _opened(1), lambda: _opened(2), formulas=("score_matching.denoising",)),
        latex=_DENOISED + r"=\mathbb E_q\left[\tfrac12\|\nabla\log p_\theta\|^2\right]-\mathbb E_{q(x,"
        r"\tilde x)}\left[\langle\nabla\log p_\theta,\nabla\log q(\tilde x\mid x)\rangle\right]+C_1",
    ),
    Row(
        "S004:1.12",
        "equation",
        "The square of the Fisher divergence opened; in the cross term the gradient goes under the integral "
        "over the data and onto the noise's density, line by line.",
        Proved("score_matching.marginal_score", "score_matching.denoising"),
        latex=r"q(\tilde x)\nabla\log q(\tilde x)=\int q(x)\,q(\tilde x\mid x)\,\nabla_{\tilde x}\log "
        r"q(\tilde x\mid x)\,\mathrm dx",
        notation=_NAMES,
    ),
    Row(
        "S004:§1.3/5",
        "claim",
        "The two sides of S004:1.10 differ by a constant alone, C_2 − C_1.",
        Proved("score_matching.denoising_constant_nd", "score_matching.denoising_explicit"),
        latex=r"C_1-C_2=\tfrac12\operatorname{tr}N^{-1}-\tfrac12\operatorname{tr}(\Sigma_0+N)^{-1}",
        conditions="in the form given: normal data of covariance Σ_0 and normal noise of covariance N; "
        "S004:1.13 forgets the constant",
    ),
    Row(
        "S004:§1.3/6",
        "claim",
        "With normal noise of small σ the noised data have nearly the law of the data.",
        Approximation(
            "of the divergence (σ²/v)²/4 for normal data of variance v, fourth order in σ",
            _noised_size,
            lambda: _noised(sp.Rational(1, 4)),
            lambda: _noised(HALF),
            ("gaussian.kl", "gaussian.w2"),
        ),
        latex=r"q(\tilde x)\approx p_{\mathrm{data}}(\tilde x),\qquad q(\tilde x\mid x)=\mathcal N(x,"
        r"\sigma^2I)",
        conditions="of data without a density the divergence is infinite; the distance that the data are "
        "moved is σ√d for any data. The loss grows without bound as σ → 0, by 1/(2σ²) a coordinate",
    ),
    Row(
        "S004:1.13",
        "equation",
        "With normal noise z the conditional score is −z/σ²; the denoising loss is the Fisher divergence of "
        "the noised data up to a constant, which the printed equality drops.",
        Erratum(
            "score_matching.denoising",
            "no-constant",
            also=("score_matching.denoising_constant_nd", "score_matching.denoising_gaussian_nd"),
        ),
        latex=r"D_F(q\,\|\,p_\theta)=\mathbb E\left[\tfrac12\left\|\frac z{\sigma^2}-\nabla_{\tilde x}"
        r"E_\theta(\tilde x)\right\|^2\right]+\mathrm{const},\qquad\tilde x=x+z",
        printed=r"D_F(q\,\|\,p_\theta)=\mathbb E\left[\tfrac12\left\|\frac z{\sigma^2}-\nabla_{\tilde x}"
        r"E_\theta(\tilde x)\right\|^2\right]",
        severity="number",
        origin="author",
        effect="Gradients are right, values are not: at σ = 0.01 the perfect energy of unit normal data has "
        "the divergence 0 and the loss 4999.5 a coordinate. A loss that does not go to 0 is no sign of a "
        "bad model.",
    ),
    Row(
        "S004:§1.3/7",
        "claim",
        "The energy that is learned is that of the noised data, not of the data.",
        Proved("score_matching.denoising_gaussian_nd", "score_matching.denoising"),
        latex=r"\nabla_xE_\theta=-\nabla_x\log q",
        conditions="for normal data its precision is (Σ_0 + σ²I)⁻¹",
    ),
    Row(
        "S004:§1.3/8",
        "claim",
        "Denoising score matching is the training of a denoising autoencoder: its output is the noised datum "
        "plus σ² times the score, its squared error σ⁴ times the loss.",
        Steps(
            lambda: _denoiser(4), lambda: _denoiser(2), formulas=("smld.denoise", "score_matching.denoising")
        ),
        latex=r"\tfrac12\left\|s_\theta(\tilde x)+\frac z{\sigma^2}\right\|^2=\frac1{2\sigma^4}\left\|"
        r"\tilde x+\sigma^2s_\theta(\tilde x)-x\right\|^2",
        conditions="normal noise; of an energy model the score, and with it the autoencoder, is a gradient",
    ),
)
