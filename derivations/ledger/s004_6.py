r"""S004, chapter 6: what conditioning on the data does for diffusion models.

§6/1 and §6/2 are the two claims that the chapter is about; the other rows follow in the order of the text.
"""

from __future__ import annotations

from collections.abc import Mapping

import sympy as sp

import derivations
from derivations.ddpm import BETA_TILDE, BETA_TILDE_S, POSTERIOR_MEAN, SKIP_MEAN
from derivations.kit import Expectation, Identity, Step
from derivations.ledger.checks import (
    Approximation,
    Counterexample,
    Definition,
    Erratum,
    Exact,
    Proved,
    Steps,
)
from derivations.ledger.row import Row
from derivations.symbols import (
    abar_prev,
    abar_s,
    abar_t,
    alpha_t,
    beta,
    data_variance,
    eps,
    score_curvature,
    slope,
    x_0,
    x_prev,
    x_t,
    z,
)

Pairs = Mapping[str, tuple[Exact, Exact]]
ZERO, ONE = sp.Integer(0), sp.Integer(1)
UNIT = (ZERO, ONE)
LEVELS = {abar_prev: sp.Rational(16, 25), abar_t: sp.Rational(256, 625), alpha_t: sp.Rational(16, 25)}
"""Levels with rational roots."""


def _pairs_of_states() -> sp.Expr:
    """Half the mean square of x_{t−1} − slope·x_t over unit normal data: a term of S004:6.1, times σ_t²."""
    noised = sp.sqrt(alpha_t) * x_prev + sp.sqrt(1 - alpha_t) * eps
    return Expectation("", (x_prev - slope * noised) ** 2 / 2, {x_prev: UNIT, eps: UNIT}, ZERO).value()


def _given_data() -> sp.Expr:
    """The same for the mean of the posterior given x_0, as in DDPM."""
    noised = sp.sqrt(abar_t) * x_0 + sp.sqrt(1 - abar_t) * eps
    missed = POSTERIOR_MEAN.subs(x_t, noised) - slope * noised
    return Expectation("", missed**2 / 2, {x_0: UNIT, eps: UNIT}, ZERO).value()


def _trained() -> Pairs:
    """One step of gradient descent from slope 0, of size 1: the curvature of the loss is 1."""
    moved = -sp.diff(_pairs_of_states(), slope).subs(slope, 0).subs(LEVELS)
    return {"slope of the mean after a gradient step without x_0, unit data, α_t = 16/25": (ZERO, moved)}


def _one_gradient() -> list[Step]:
    """With x_0 and without it the loss differs by β̃_t/2, in which the model does not occur."""
    kept = {abar_t: alpha_t * abar_prev}
    gap = (_pairs_of_states() - _given_data()).subs(kept)
    return [Identity("a constant is all that x_0 changes", gap, (BETA_TILDE / 2).subs(kept))]


def _needed() -> Pairs:
    """The loss of the best mean, for a start at slope 0."""
    loss = _pairs_of_states().subs(LEVELS)
    best = loss.subs(slope, sp.sqrt(alpha_t)).subs(LEVELS)
    return {
        "σ_t² times the term without x_0 after training, unit data, α_t = 16/25": (loss.subs(slope, 0), best)
    }


def _turned() -> Pairs:
    """x_{t−1} normal with the variance 4, and a step with α_t = 16/25."""
    share, before = sp.Rational(16, 25), sp.Integer(4)
    forward = 1 - share
    reverse = before * forward / (share * before + forward)
    return {"variance of the kernel that 2.116 gives, α_t = 16/25, Var(x_{t−1}) = 4": (forward, reverse)}


def _tails(power: int) -> list[Step]:
    """The fourth cumulant of x_t, for data of mean 0, any variance and any fourth moment."""
    fourth = sp.Symbol("m_4", positive=True)
    state = sp.sqrt(abar_t) * x_0 + sp.sqrt(1 - abar_t) * eps
    moment = sp.expand(Expectation("", state**4, {eps: UNIT}, ZERO).value())
    known = moment.subs(x_0**4, fourth).subs(x_0**2, data_variance)
    total = abar_t * data_variance + 1 - abar_t
    return [Identity("excess", known - 3 * total**2, abar_t**power * (fourth - 3 * data_variance**2))]


def _excess(kept: sp.Rational, level: sp.Rational) -> sp.Rational:
    """Excess kurtosis of x_s given x_t = 0, for data of 1 and −1: a mixture of two posteriors."""
    at = {abar_s: level, abar_t: level * kept}
    move = sp.diff(SKIP_MEAN, x_0).subs(at)
    state = move + sp.sqrt(BETA_TILDE_S.subs(at)) * z
    second, fourth = (Expectation("", state**k, {z: UNIT}, ZERO).value() for k in (2, 4))
    return sp.nsimplify(fourth / second**2 - 3)


def _not_normal() -> Pairs:
    shown = ((sp.Rational(1, 4), "1/4"), (sp.Rational(9, 16), "9/16"), (sp.Rational(99, 100) ** 2, "0.9801"))
    return {
        f"excess kurtosis of x_s given x_t = 0, data ±1, ᾱ_s = 16/25, ᾱ_t = {name}·ᾱ_s": (
            ZERO,
            _excess(kept, sp.Rational(16, 25)),
        )
        for kept, name in shown
    }


def _small_steps() -> str:
    """Where the third derivative is largest for two normal laws of variance 1 at ±1: its square is 16/27."""
    lost = derivations.node("elbo.small_step_divergence").closed.subs(score_curvature**2, sp.Rational(16, 27))
    nats = (f"{sp.N(lost.subs(beta, b), 3)} at β_t = {b}" for b in (ONE / 10_000, ONE / 50, ONE / 4))
    return (
        "nats to the best normal kernel, at most, x_t of two normal laws of variance 1 at ±1: "
        + ", ".join(nats)
    )


_VANILLA = (
    r"K=\mathbb E_q\left[\log\frac{p(x_T)}{q(x_T)}+\sum_{t\ge1}\log\frac{p(x_{t-1}\mid x_t)}"
    r"{q(x_{t-1}\mid x_t)}+\log q(x_0)\right]"
)
_BEST = (
    r"\mathbb E_q\,\mathrm{KL}\left(q(x_{t-1}\mid x_t,x_0)\,\|\,p_\theta\right)=I(x_0;x_{t-1}\mid x_t)"
    r"+\mathbb E_q\,\mathrm{KL}\left(q(x_{t-1}\mid x_t)\,\|\,p_\theta\right)"
)
_INFORMATION = ("elbo.conditional_information", "elbo.best_reverse")

ROWS = (
    Row(
        "S004:6.1",
        "equation",
        "The bound without x_0: a term for x_T, a term for each step against the reverse kernel, and minus "
        "the entropy of the data, so that log q(x_0) has a plus.",
        Erratum("elbo.vanilla", "entropy-sign", also=("elbo.path_divergence", "elbo.reversed_kernel")),
        latex=_VANILLA,
        printed=_VANILLA.replace(r"+\log q(x_0)", r"-\log q(x_0)"),
        severity="number",
        origin="author",
        effect="The printed K is too large by twice the entropy: by 2.84 nats a dimension for unit normal "
        "data, so the bound lies above the log-likelihood that it should bound. The gradient is the same.",
    ),
    Row(
        "S004:§6/1",
        "claim",
        "The model can be trained without x_0: q(x_{t−1} | x_t) is never evaluated, since only log p_θ of "
        "drawn pairs of neighbours has parameters. Given x_0 each term grows by the information of x_{t−1} "
        "on x_0 given x_t, a constant.",
        Counterexample(
            _trained,
            "gradient descent on pairs of neighbours drawn from the forward chain",
            ("elbo.vanilla", *_INFORMATION, "elbo.gaussian_information"),
            _one_gradient,
        ),
        latex=_BEST,
        printed=r"q(x_{t-1}\mid x_t)\ \text{intractable}\ \Rightarrow\ \text{the bound of (6.1) cannot be "
        r"trained}",
        severity="wording",
        origin="author",
        effect="Nothing is lost but precision: without x_0 the target of unit normal data has 1156 times the "
        "variance around its mean at t = 500 of the linear schedule with T = 1000. Who believes the claim "
        "takes conditioning for another objective; it is the same one, with the same optimum.",
    ),
    Row(
        "S004:§6/2",
        "claim",
        "That q(x_{t−1} | x_t, x_0) is normal for any step does not free the model from small steps: p_θ "
        "does not know x_0, so its best value is q(x_{t−1} | x_t), which is normal for small steps alone.",
        Erratum(
            "elbo.best_reverse",
            "posterior-is-reached",
            also=("elbo.conditional_information", "elbo.small_step"),
        ),
        latex=_BEST,
        printed=r"\min_\theta\mathrm{KL}\left(q(x_{t-1}\mid x_t,x_0)\,\|\,p_\theta(x_{t-1}\mid x_t)\right)=0"
        r"\ \text{for any step}",
        severity="wording",
        origin="author",
        effect="In one step from pure noise to data of 1 and −1 the best normal kernel has mean 0 and "
        "variance 1: the samples are noise, whatever the network.",
    ),
    Row(
        "S004:§6/3",
        "claim",
        "The model with the objective of S004:6.1 and normal kernels gets a name of its own.",
        Definition("the vanilla diffusion model"),
    ),
    Row(
        "S004:§6/4",
        "claim",
        "For small steps the reverse kernel has the form of the forward kernel, as the ratio of the "
        "marginals hardly changes over its width.",
        Approximation(
            "β_t³·(third derivative of log q(x_t))²/12 nats, third order in β_t, for the best normal kernel",
            _small_steps,
            formulas=("elbo.small_step", "elbo.small_step_divergence", "elbo.reversed_kernel"),
        ),
        latex=r"q(x_{t-1}\mid x_t)=\frac{q(x_t\mid x_{t-1})\,q(x_{t-1})}{q(x_t)}",
        conditions="nearly normal, not normal; the density must be thrice differentiable, which that of "
        "discrete data is not at t = 1. The ratio is not nothing: it moves the mean by β_t times the score",
    ),
    Row(
        "S004:§6/5",
        "claim",
        "If the forward kernel is normal, with a mean linear in x_{t−1}, and x_{t−1} is normal, then the "
        "reverse kernel is normal. The text takes the reverse kernel for the premise, where the forward "
        "kernel belongs.",
        Counterexample(
            _turned,
            "from the printed premises the cited rule leads to the forward kernel",
            (
                "gaussian.condition_mean",
                "gaussian.condition_variance",
                "guidance.gaussian_reverse_mean",
                "guidance.gaussian_reverse_variance",
            ),
        ),
        latex=r"q(x_t\mid x_{t-1}),\ q(x_{t-1})\ \text{normal}\ \Rightarrow\ q(x_{t-1}\mid x_t)\ "
        r"\text{normal}",
        printed=r"q(x_{t-1}\mid x_t),\ q(x_t)\ \text{normal}\ \Rightarrow\ q(x_{t-1}\mid x_t)\ \text{normal}",
        severity="wording",
        origin="author",
        effect="A circle as printed. Bayes' rule with these two premises gives the forward kernel, whose "
        "variance is another unless the data have unit variance.",
    ),
    Row(
        "S004:§6/6",
        "claim",
        "In practice x_t is not normal, since the data are not.",
        Steps(lambda: _tails(2), lambda: _tails(1), formulas=("ddpm.marginal",)),
        latex=r"\kappa_4(x_t)=\bar\alpha_t^2\,\kappa_4(x_0)",
        conditions="at every level, as far as the data's cumulants are not 0; nearly normal where ᾱ_t is "
        "small",
    ),
    Row(
        "S004:§6/7",
        "claim",
        "Given x_0 the forward kernel and the law of x_{t−1} are normal and known, so by the second case the "
        "posterior is normal and known.",
        Proved("elbo.bayes_step", "ddpm.posterior_mean", "ddpm.posterior_variance"),
        latex=r"q(x_{t-1}\mid x_t,x_0)=\mathcal N\left(x_{t-1};\tilde\mu_t,\tilde\beta_tI\right)",
        conditions="at t = 1 it is the point x_0",
    ),
    Row(
        "S004:§6/8",
        "claim",
        "The forward chain need not be Markov: it is enough that it is normal given x_0.",
        Proved("ddim.marginals", "ddim.forward_mean", "ddim.forward_variance", "ddim.markov_iff"),
        latex=r"q(x_t\mid x_{t-1},x_0)\ \text{normal}",
        conditions="with a mean linear in x_{t−1} and a variance free of it: a normal kernel with the mean "
        "x_{t−1}² has no normal posterior",
    ),
    Row(
        "S004:§6/9",
        "claim",
        "DDIM steps far on these grounds; fewer steps give a worse bound, so more steps are better, as VDM "
        "shows.",
        Proved(
            "elbo.refinement",
            "elbo.refinement_optimal",
            "elbo.coarsening",
            "vdm.refinement",
            "ddim.marginals",
        ),
        conditions="the prediction errs less where there is less noise, as the best one does: a network that "
        "does not loses by a level between. Leaving a level out of one given model never hurts its bound. "
        "All this is about the bound, which the deterministic sampler has not, and not about samples",
    ),
    Row(
        "S004:§6/10",
        "claim",
        "Small steps are there so that a normal reverse kernel is enough, as DDPM's paper says. That few "
        "steps give worse results is the same fact, not another: for normal data, whose reverse kernel is "
        "normal for any step, the bound is exact for every number of steps.",
        Counterexample(
            _not_normal,
            "the reverse kernel of data of 1 and −1, for large and for small steps",
            ("elbo.best_reverse", "elbo.small_step", "vlb.gaussian_bound"),
        ),
        latex=r"q(x_{t-1}\mid x_t)\ \text{normal as}\ \beta_t\to0",
        printed=r"q(x_{t-1}\mid x_t,x_0)\ \text{normal}\ \Rightarrow\ \text{the number of steps has nothing "
        r"to do with normal}\ p_\theta",
        severity="wording",
        origin="author",
        effect="What follows from S004:§6/2. "
        "The normal form of p_θ is chosen, and always there; what small steps ensure is that it fits. "
        "A kernel of another form, as of a GAN, needs few steps.",
    ),
    Row(
        "S004:§6/11",
        "claim",
        "Denoising score matching too becomes simple by conditioning on the data.",
        Proved("score_matching.denoising", "score_matching.marginal_score"),
        latex=r"\nabla\log q(\tilde x\mid x)=-\frac{\tilde x-x}{\sigma^2}",
    ),
    Row(
        "S004:§6/12",
        "claim",
        "The target of flow matching is not known, that given a pair is, and both losses have one gradient: "
        "so the conditional form trains the other.",
        Proved(
            "flow.marginal_velocity", "flow.conditional_velocity", "flow.loss_split", "flow.loss_gradient"
        ),
        latex=r"u_t(x)=\mathbb E[u_t(x\mid x_0)\mid x_t=x]",
        conditions="not known for the law that the data are drawn from; for the data at hand it is a "
        "weighted sum over all of them, and so is q(x_{t−1} | x_t)",
        notation="x_0 is data here and noise in much of the literature on flows",
    ),
    Row(
        "S004:§6/13",
        "claim",
        "Flow matching needs a target for each point, so it needs the conditional form. A diffusion model "
        "does not: the terms of its bound are log-likelihoods of drawn pairs, with x_0 or without.",
        Counterexample(
            _needed,
            "the term without x_0, trained on pairs of neighbours, at its minimum and at its start",
            ("elbo.vanilla", *_INFORMATION),
            _one_gradient,
        ),
        latex=r"\nabla_\theta\mathbb E\log\frac{q(x_{t-1}\mid x_t,x_0)}{p_\theta(x_{t-1}\mid x_t)}="
        r"-\nabla_\theta\mathbb E\log p_\theta(x_{t-1}\mid x_t)",
        printed=r"\text{a diffusion model must be conditioned on}\ x_0\ \text{to be trained}",
        severity="wording",
        origin="author",
        effect="The mistake of S004:§6/1 once more. "
        "Conditioning lowers the variance of the gradient and gives the terms a closed form; without "
        "it training takes more samples and ends at the same kernel, for unit normal data at the slope "
        "√α_t.",
    ),
    Row(
        "S004:§6/14",
        "claim",
        "In chapter 3 the Markov property brings x_0 into the posterior of a step.",
        Proved("elbo.bayes_step", "elbo.three_terms"),
        latex=r"q(x_t\mid x_{t-1})=q(x_t\mid x_{t-1},x_0)=\frac{q(x_{t-1}\mid x_t,x_0)\,q(x_t\mid x_0)}"
        r"{q(x_{t-1}\mid x_0)}",
        conditions="for t > 1",
    ),
)
