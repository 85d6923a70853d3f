"""S001: handwritten notes on DDPM and DDIM, without equation numbers.

/1 to /22 count what stands on lines of its own, as it is cited by the formulas; from /23 on come, again in
their order, the statements inside lines and those that a display holds beside its main one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

import sympy as sp

from derivations.kit import Expectation, Step
from derivations.ledger.checks import (
    Convention,
    Counterexample,
    Erratum,
    Exact,
    NotCheckable,
    Proved,
    Steps,
)
from derivations.ledger.row import Row
from derivations.symbols import abar_s, abar_t, eps, sigma_t, x_t, z

_BARS = "α_t of these notes is the step's share in one line and ᾱ_t, the share kept from data, in another"
_LETTERS = "k and s are levels, s below k; the index 0:k of the predicted data names the level it is made at"
_UP = "read t − 1 for the t + 1 of the scan, as the later lines of the notes need"


def _same_variance() -> Iterator[Step]:
    """The direction gives up what fresh noise brings; the best prediction has less than unit variance."""
    direction = sp.sqrt(1 - abar_s - sigma_t**2)
    noise = direction * eps + sigma_t * z
    yield Expectation("noise and fresh noise", noise**2, {eps: (0, 1), z: (0, 1)}, 1 - abar_s)
    data, noise_hat = sp.sqrt(abar_t) * x_t, sp.sqrt(1 - abar_t) * x_t
    step = sp.sqrt(abar_s) * data + sp.sqrt(1 - abar_s) * noise_hat
    lost = (sp.sqrt(abar_s) * sp.sqrt(1 - abar_t) - sp.sqrt(1 - abar_s) * sp.sqrt(abar_t)) ** 2
    yield Expectation("predictions on standard normal data", step**2, {x_t: (0, 1)}, 1 - lost)


def _not_the_same_variance() -> Iterator[Step]:
    noise = sp.sqrt(1 - abar_s) * eps + sigma_t * z
    yield Expectation("nothing taken off", noise**2, {eps: (0, 1), z: (0, 1)}, 1 - abar_s)


def _level_above() -> Mapping[str, tuple[Exact, Exact]]:
    """The law of the level above, given x_t = 2 and x_0 = 1, in the chain of DDPM."""
    root_t, root_up, x, data = Fraction(4, 5), Fraction(3, 5), 2, 1
    kept = root_up / root_t
    at = "for levels 16/25 and 9/25, x_0 = 1, x_t = 2"
    return {
        f"mean {at}": (root_up * data, kept * x),
        f"variance {at}": (1 - root_up**2, 1 - kept**2),
    }


def _kernel_from_above() -> Mapping[str, tuple[Exact, Exact]]:
    """Standard normal data have q(x_t | x_{t+1}) = N(√α_{t+1}·x_{t+1}, β_{t+1}); linear, T = 1000."""
    first, rise = Fraction(1, 10_000), Fraction(199, 10_000) / 999
    return {
        f"variance of x_{t} given x_{t + 1}, standard normal data": (
            first + (t - 1) * rise,
            first + t * rise,
        )
        for t in (1, 500)
    }


def _one_level(printed: Fraction, kept: Fraction) -> Mapping[str, tuple[Exact, Exact]]:
    """What the signal is multiplied by where ᾱ_s = 16/25, given data."""
    return {"factor of x_0 at the level ᾱ_s = 16/25": (printed, kept)}


def _all_bars_missing() -> Mapping[str, tuple[Exact, Exact]]:
    """ᾱ_k = 9/25, with α_s = 144/169 and α_k = 225/289 as the shares of single steps."""
    signal, share_s, share_k = Fraction(3, 5), Fraction(12, 13), Fraction(15, 17)
    return _one_level(share_s * signal / share_k, Fraction(4, 5))


def _step_bars_missing() -> Mapping[str, tuple[Exact, Exact]]:
    """α_{t−1} = 144/169, the share of step t − 1, at the right prediction of the data."""
    return _one_level(Fraction(12, 13), Fraction(4, 5))


def _root_as_variance() -> Mapping[str, tuple[Exact, Exact]]:
    """The root of 1 − α_t where 1 − ᾱ_t belongs."""
    return {
        "variance of x_t given x_0 at α_t = 16/25, ᾱ_t = 9/25": (Fraction(3, 5), 1 - Fraction(9, 25)),
        "variance of x_1 given x_0 at α_1 = 16/25": (Fraction(3, 5), 1 - Fraction(16, 25)),
    }


def _not_the_posterior() -> Mapping[str, tuple[Exact, Exact]]:
    """α_t = 1/4, ᾱ_{t−1} = 16/25, ᾱ_t = 4/25: the law of x_{t−1} given x_0, and given x_t too."""
    share, before, level = Fraction(1, 4), Fraction(16, 25), Fraction(4, 25)
    x_t_part = Fraction(1, 2) * (1 - before) / (1 - level)
    x_0_part = Fraction(4, 5) * (1 - share) / (1 - level)
    at = "of x_{t−1} given x_t = x_0 = 1, levels 16/25 and 4/25"
    return {
        f"variance {at}": (1 - before, (1 - share) * (1 - before) / (1 - level)),
        f"mean {at}": (Fraction(4, 5), x_t_part + x_0_part),
    }


ROWS = (
    Row(
        "S001:/1",
        "formula",
        "The law of x_t given data has mean √ᾱ_t x_0 and variance 1 − ᾱ_t.",
        Erratum("ddpm.marginal", "bars-missing"),
        latex=r"q(x_t\mid x_0)=\mathcal N\left(\sqrt{\bar\alpha_t}\,x_0,\,(1-\bar\alpha_t)I\right)",
        printed=r"q(x_t\mid x_0)=\mathcal N\left(\sqrt{\alpha_t}\,x_0,\,(1-\alpha_t)I\right)",
        severity="breaks",
        origin="author",
        effect="Read with the α_t of one step, the noised data keep nearly all of the signal at every t.",
        notation=_BARS,
    ),
    Row(
        "S001:/2",
        "formula",
        "Noised data are √ᾱ_t x_0 + √(1−ᾱ_t) ε with one standard normal ε.",
        Erratum("ddpm.marginal", "bars-missing"),
        latex=r"x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\epsilon,\qquad \epsilon\sim"
        r"\mathcal N(0,I)",
        printed=r"x_t=\sqrt{\alpha_t}\,x_0+\sqrt{1-\alpha_t}\,\xi,\qquad \xi\sim N(0,1)",
        severity="breaks",
        origin="author",
        effect="With the linear schedule of 1000 steps the noisiest training data keep 0.98 of the signal "
        "power "
        "where 0.00004 belongs: the network never sees the noise that sampling starts from.",
        notation=_BARS,
    ),
    Row(
        "S001:/3",
        "formula",
        "The reverse kernel is the forward kernel times the ratio of the marginals, by Bayes' rule.",
        Proved("elbo.reversed_kernel"),
        latex=r"q(x_{t-1}\mid x_t)=\frac{q(x_t\mid x_{t-1})\,q(x_{t-1})}{q(x_t)}",
    ),
    Row(
        "S001:/4",
        "formula",
        "Given the data the reverse kernel follows from three known normal laws, and is normal.",
        Proved("elbo.bayes_step", "ddpm.posterior_mean", "ddpm.posterior_variance"),
        latex=r"q(x_{t-1}\mid x_t,x_0)=\frac{q(x_t\mid x_{t-1})\,q(x_{t-1}\mid x_0)}{q(x_t\mid x_0)}"
        r"=\mathcal N\left(\tilde\mu_t(x_t,x_0),\,\tilde\beta_t I\right)",
        notation="M is μ̃_t, and σ_t² of the first page is β̃_t",
    ),
    Row(
        "S001:/5",
        "formula",
        "The data are predicted from x_t and the noise of all t steps, by the marginal and not by the kernel "
        "of one step: solved for its argument, that kernel gives x_{t−1}.",
        Erratum("parameterization.x_0_from_eps", "alpha-for-alpha-bar"),
        latex=r"\hat x_0=\frac{x_t-\sqrt{1-\bar\alpha_t}\,\epsilon}{\sqrt{\bar\alpha_t}}",
        printed=r"\hat x_0=\frac{1}{\sqrt{\alpha_t}}\left(x_t-\sqrt{1-\alpha_t}\,\xi\right)",
        severity="breaks",
        origin="author",
        effect="At t = 500 of the linear schedule 1/√α_t is 1.005 where 1/√ᾱ_t = 3.567 belongs. Put into the "
        "posterior mean of every step, it makes samples of standard normal data come out with variance 2.14.",
        notation=_BARS,
    ),
    Row(
        "S001:/6",
        "formula",
        "The mean of the forward posterior; with the predicted data in it, the mean of the reverse step.",
        Proved("ddpm.posterior_mean", "ddpm.mean_from_x_0"),
        latex=r"\tilde\mu_t=\frac{\sqrt{\alpha_t}(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}x_t"
        r"+\frac{\sqrt{\bar\alpha_{t-1}}\beta_t}{1-\bar\alpha_t}x_0",
        notation="M is μ̃_t; here α_t is the share of one step, as in this project",
    ),
    Row(
        "S001:/7",
        "formula",
        "The variance of the forward posterior.",
        Proved("ddpm.posterior_variance"),
        latex=r"\tilde\beta_t=\frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t",
        notation="σ_t² is β̃_t",
    ),
    Row(
        "S001:/8",
        "formula",
        "Beside the predicted x_0 a fresh noise and the predicted one give the same law given the data, "
        "and different steps: two members of one family, with σ_t² = 1 − ᾱ_{t−1} and with σ_t = 0.",
        Erratum("ddim.general_step", "fresh-direction", also=("ddim.deterministic_step",)),
        latex=r"x_{t-1}=\sqrt{\bar\alpha_{t-1}}\,\hat x_0+\sqrt{1-\bar\alpha_{t-1}}\,\epsilon_\theta(x_t,t)"
        r"\ne\sqrt{\bar\alpha_{t-1}}\,\hat x_0+\sqrt{1-\bar\alpha_{t-1}}\,\epsilon",
        printed=r"\sqrt{\alpha_{t+1}}\,\hat x_{0:t}+\sqrt{1-\alpha_{t+1}}\,\varepsilon"
        r"=\sqrt{\alpha_{t+1}}\,\hat x_{0:t}+\sqrt{1-\alpha_{t+1}}\,\varepsilon_\theta(x_t,t)",
        severity="number",
        origin="author",
        effect="A sampler that draws all the noise anew in each of 1000 steps gives standard normal data the "
        "variance 0.494; the deterministic step gives 0.996.",
        notation=_BARS + "; " + _UP,
    ),
    Row(
        "S001:/9",
        "formula",
        "The step of the family goes from any level k to any lower level s; every level is a power kept from "
        "data, ᾱ, in the predicted data too.",
        Counterexample(
            _all_bars_missing,
            "the form as printed, given data, where ε_θ is the noise itself",
            ("ddim.general_step", "parameterization.x_0_from_eps"),
        ),
        latex=r"x_s=\sqrt{\bar\alpha_s}\,\frac{x_k-\sqrt{1-\bar\alpha_k}\,\epsilon_\theta}{\sqrt{\bar"
        r"\alpha_k}}"
        r"+\sqrt{1-\bar\alpha_s-\sigma_k^2}\,\epsilon_\theta+\sigma_k z",
        printed=r"x_s=\sqrt{\alpha_s}\,\hat x_{0:k}+\sqrt{1-\alpha_s-\sigma_k^2}\,\varepsilon_\theta(x_k,k)"
        r"+\sigma_k\varepsilon,\qquad \hat x_{0:k}=\frac{1}{\sqrt{\alpha_k}}"
        r"\left(x_k-\sqrt{1-\alpha_k}\,\varepsilon_\theta\right)",
        severity="breaks",
        origin="author",
        effect="Ten deterministic steps of the exact model on data that are the single point 1, with the α "
        "of one step throughout, end at mean 0.175 and variance 0.595 and not at the point. With the bars "
        "missing in the predicted data alone, standard normal data come out with variance 10.4; the right "
        "form gives 0.688.",
        notation=_BARS + "; " + _LETTERS,
    ),
    Row(
        "S001:/10",
        "formula",
        "Ancestral sampling is shown visiting every level from 1000 down to 0.",
        Convention(
            "all levels are visited; a sub-sequence is as right, with the coefficients of its own levels",
            ("ddpm.step", "ddpm.skip_step"),
        ),
        latex=r"t=1000,\,999,\,\dots,\,2,\,1,\,0",
    ),
    Row(
        "S001:/11",
        "formula",
        "DDIM is shown visiting every hundredth level: ten steps from 1000 to 0.",
        Convention(
            "equal strides counted from the top, one of several spacings", ("schedule.spacing_trailing",)
        ),
        latex=r"t=1000-100\,i,\qquad i=0,\dots,10",
    ),
    Row(
        "S001:/12",
        "formula",
        "The second argument of the normal law is the variance 1 − ᾱ_t, not its root.",
        Counterexample(
            _root_as_variance,
            "the form as printed, at an α_t of one step and at ᾱ_t = α_t in the first step",
            ("ddpm.marginal", "gaussian.push_forward_variance"),
        ),
        latex=r"q(x_t\mid x_0)=\mathcal N\left(\sqrt{\bar\alpha_t}\,x_0,\,(1-\bar\alpha_t)I\right)",
        printed=r"q(x_t\mid x_0)=N\left(x_t;\sqrt{\alpha_t}\,x_0,\,\sqrt{1-\alpha_t}\,I\right)",
        severity="breaks",
        origin="author",
        effect="At t = 1 of the linear schedule the variance of the noise is 0.01 and not 0.0001; unit "
        "variance is not preserved. The first line of the notes has the variance without the root.",
        notation=_BARS,
    ),
    Row(
        "S001:/13",
        "formula",
        "Sampling predicts the data with the level's ᾱ_t.",
        Erratum("parameterization.x_0_from_eps", "alpha-for-alpha-bar"),
        latex=r"\hat x_0=\frac{x_t-\sqrt{1-\bar\alpha_t}\,\epsilon_\theta(x_t,t)}{\sqrt{\bar\alpha_t}}",
        printed=r"\hat x_{0:t}=\frac{1}{\sqrt{\alpha_t}}\left(x_t-\sqrt{1-\alpha_t}\,\varepsilon_"
        r"\theta(x_t,t)\right)",
        severity="breaks",
        origin="author",
        effect="As in S001:/5: at t = 500 the prediction is 3.5 times too small, and what is left is noise.",
        notation=_BARS,
    ),
    Row(
        "S001:/14",
        "claim",
        "The prediction of the data uses the marginal q(x_t | x_0) alone, and no kernel of one step.",
        Proved("ddpm.marginal", "parameterization.x_0_from_eps"),
    ),
    Row(
        "S001:/15",
        "formula",
        "DDIM comes from DDPM by giving up the kernel of one step while all marginals stay.",
        Proved("ddim.marginals", "ddim.markov_iff"),
        notation="the label of the arrow is scanned as one kernel twice, above and below; it is read as the "
        "kernel that is crossed out",
    ),
    Row(
        "S001:/16",
        "claim",
        "A network trained for DDPM serves DDIM without training: the loss sees the marginals alone, and "
        "DDIM's own bound is a weighted sum of the same errors.",
        Proved("ddpm.loss_simple", "ddim.marginals", "vlb.ddim_weight_eps"),
        conditions="the network is trained at every level that sampling asks it about, and no weight is "
        "shared "
        "in a way that makes the weighting of levels matter",
    ),
    Row(
        "S001:/17",
        "formula",
        "Training draws x_t from x_0 in one step, by the levels ᾱ_1 … ᾱ_T.",
        Proved("schedule.alpha_bar_product", "ddpm.marginal"),
        latex=r"x_0\to x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\epsilon,\qquad t=1,\dots,T",
    ),
    Row(
        "S001:/18",
        "formula",
        "Each level has a prediction ε_θ(x_t, t) of its own, trained by its own marginal.",
        Proved("ddpm.loss_simple", "ddpm.loss_simple_minimum"),
        latex=r"\epsilon_\theta(x_t,t)\approx\mathbb E[\epsilon\mid x_t],\qquad t=1,\dots,T",
    ),
    Row(
        "S001:/19",
        "formula",
        "The levels of a sub-sequence are levels of the full chain, and make a chain of their own.",
        Proved("schedule.respaced_beta", "ddpm.transition"),
        latex=r"\bar\alpha_{100},\,\bar\alpha_{200},\,\dots,\,\bar\alpha_T",
    ),
    Row(
        "S001:/20",
        "formula",
        "DDIM asks the network at levels, and under the marginals, that it was trained for.",
        Proved("ddim.marginals"),
        latex=r"\epsilon_\theta(x_{100},100),\,\epsilon_\theta(x_{200},200),\,\dots,\,\epsilon_\theta(x_T,T)",
        conditions="given the data. With its prediction in their place the marginals hold up to the error of "
        "the steps: ten deterministic steps of the exact model leave 0.688 of the variance of standard "
        "normal "
        "data (linear schedule, T = 1000), a thousand 0.996",
    ),
    Row(
        "S001:/21",
        "claim",
        "The step of DDIM belongs to an ordinary differential equation.",
        Proved("ddim.euler_in_sigma", "ode.vp_is_ddim_ode"),
        latex=r"\frac{\mathrm d}{\mathrm d\sigma}\frac{x}{\sqrt{\bar\alpha}}=\epsilon_\theta,"
        r"\qquad \sigma=\sqrt{\frac{1-\bar\alpha}{\bar\alpha}}",
        conditions="σ_t = 0; the formula below the heading has fresh noise, which no ordinary differential "
        "equation has",
    ),
    Row(
        "S001:/22",
        "formula",
        "A step of the family with any σ_t, by the data and the predicted noise.",
        Proved("ddim.general_step"),
        latex=r"x_{t-1}=\sqrt{\bar\alpha_{t-1}}\,\hat x_0+\sqrt{1-\bar\alpha_{t-1}-\sigma_t^2}\,"
        r"\epsilon_\theta(x_t,t)+\sigma_t z",
        conditions="in a sampler x_0 is the prediction from x_t and ε_θ; σ_t² ≤ 1 − ᾱ_{t−1}",
        notation="σ_t is free here, while σ_t² on the first page is β̃_t; x_0 stands for its prediction",
    ),
    Row(
        "S001:/23",
        "claim",
        "A note beside the posterior, on what is known, on jumping, and on sampling by the posterior.",
        NotCheckable("a few words in the margin; the scan does not show what they are about"),
    ),
    Row(
        "S001:/24",
        "formula",
        "The kernel of one forward step.",
        Proved("ddpm.one_step"),
        latex=r"q(x_t\mid x_{t-1})=\mathcal N\left(\sqrt{\alpha_t}\,x_{t-1},\,(1-\alpha_t)I\right)",
        notation="here α_t is the share of one step, as in this project",
    ),
    Row(
        "S001:/25",
        "formula",
        "First half of a step of DDPM: the data are predicted from x_t and the predicted noise.",
        Proved("parameterization.x_0_from_eps"),
        latex=r"\hat x_0=\frac{x_t-\sqrt{1-\bar\alpha_t}\,\epsilon_\theta(x_t,t)}{\sqrt{\bar\alpha_t}}",
        notation="ξ_t(x_t, t) is the predicted noise, and ξ alone a fresh one",
    ),
    Row(
        "S001:/26",
        "formula",
        "Second half: the posterior mean at the predicted data, plus fresh noise.",
        Proved("ddpm.step", "ddpm.mean_from_x_0", "ddpm.final_step"),
        latex=r"x_{t-1}=\tilde\mu_t(x_t,\hat x_0)+\sigma_t z,\qquad z\sim\mathcal N(0,I)",
        conditions="with σ_t² = β̃_t, as in the notes, the last step adds nothing; the variance of x_{t−1} "
        "given "
        "x_t is larger by what x_t leaves unknown of the data",
    ),
    Row(
        "S001:/27",
        "formula",
        "The step goes down: given x_t and x_0 it is the level below that DDIM draws. The level above has, "
        "in "
        "the chain of DDPM, a law that follows x_t and not x_0.",
        Counterexample(
            _level_above,
            "given x_t the level above does not depend on x_0, and has less noise than its marginal",
            ("ddpm.transition", "ddim.kernel_mean"),
        ),
        latex=r"q(x_{t+1}\mid x_t,x_0)=\mathcal N\left(\sqrt{\alpha_{t+1}}\,x_t,\,\beta_{t+1}I\right)",
        printed=r"q(x_{t+1}\mid x_t,x_0)=\sqrt{\alpha_{t+1}}\,\hat x_{0:t}+\sqrt{1-\alpha_{t+1}}\,"
        r"\varepsilon",
        severity="breaks",
        origin="scanner",
        effect="A sampler with this index climbs: each step ends one level noisier than it began, and never "
        "at "
        "the data.",
        notation="a random variable is printed where its law is meant",
    ),
    Row(
        "S001:/28",
        "formula",
        "The predicted data are divided by √ᾱ_t.",
        Erratum("ddim.step", "x_0-without-scale"),
        latex=r"\hat x_0=\frac{1}{\sqrt{\bar\alpha_t}}\left(x_t-\sqrt{1-\bar\alpha_t}\,\epsilon_\theta"
        r"\right)",
        printed=r"\frac{1}{\sqrt{\Delta t}}\left(x_t-\sqrt{1-\alpha_t}\,\varepsilon_\theta(x_t,t)\right)",
        severity="breaks",
        origin="scanner",
        effect="Δt occurs nowhere else, so the line cannot be run. With levels one apart it would divide by "
        "1; with the other bars in place, a thousand deterministic steps then shrink standard normal data "
        "to a variance below 10⁻⁴⁷.",
        notation=_BARS,
    ),
    Row(
        "S001:/29",
        "claim",
        "The noise is replaced, and shared between prediction and fresh noise, such that the variance stays.",
        Steps(lambda: list(_same_variance()), lambda: list(_not_the_same_variance())),
        latex=r"\left(1-\bar\alpha_s-\sigma_t^2\right)+\sigma_t^2=1-\bar\alpha_s",
        conditions="given the data, when ε_θ is the noise itself. The best prediction has less variance: on "
        "standard normal data a deterministic step keeps 1 − (√(ᾱ_s(1−ᾱ_t)) − √(ᾱ_t(1−ᾱ_s)))²",
    ),
    Row(
        "S001:/30",
        "formula",
        "The last line of the display: the step with σ, one level down, by the levels ᾱ.",
        Counterexample(
            _step_bars_missing,
            "the form as printed one level down, given data, where ε_θ is the noise itself",
            ("ddim.general_step",),
        ),
        latex=r"x_{t-1}=\sqrt{\bar\alpha_{t-1}}\,\hat x_0+\sqrt{1-\bar\alpha_{t-1}-\sigma_t^2}\,\epsilon_"
        r"\theta"
        r"+\sigma_t z",
        printed=r"\sqrt{\alpha_{t+1}}\,\hat x_{0:t}+\sqrt{1-\alpha_{t+1}-\sigma_b^2}\,\varepsilon_\theta"
        r"+\sigma_b\,\varepsilon",
        severity="breaks",
        origin="author",
        effect="As in S001:/9: every level keeps nearly all of the signal power, 0.98 at the least. The last "
        "line of the notes writes the same step with its bars.",
        notation=_BARS + "; " + _UP + "; σ_b is probably σ_t",
    ),
    Row(
        "S001:/31",
        "claim",
        "The formula holds for any two levels: the levels between do not matter.",
        Proved("ddim.general_step", "ddim.marginals", "ddim.inversion"),
        conditions="s < k and σ_k² ≤ 1 − ᾱ_s, given the data; upwards it holds with σ = 0 and the noise of "
        "the "
        "step down. With a predicted noise the size of the step matters: see S001:/20",
    ),
    Row(
        "S001:/32",
        "claim",
        "The kernel of one step is not needed, and no order of levels from t − 1 through t to t + 1.",
        Proved("ddpm.loss_simple", "ddim.marginals", "ddpm.skip_step"),
        conditions="for the simple loss and for samplers of the family; the variance β̃_t of ancestral "
        "sampling does come from the kernel between the levels that are visited",
        notation="q(x_t | x_{t+1}) is read as the forward kernel q(x_t | x_{t−1}), which the next display "
        "writes",
    ),
    Row(
        "S001:/33",
        "formula",
        "The forward kernel starts at x_{t−1}.",
        Counterexample(
            _kernel_from_above,
            "as the law of x_t given x_{t+1}, exact for standard normal data, it has the rate of the wrong "
            "step",
            ("ddpm.one_step", "ddpm.fixed_large_variance"),
        ),
        latex=r"\mathcal N\left(x_t;\,\sqrt{\alpha_t}\,x_{t-1},\,(1-\alpha_t)I\right)",
        printed=r"N\left(x_t;\,\sqrt{\alpha_t}\,x_{t+1},\,(1-\alpha_t)I\right)",
        severity="breaks",
        origin="scanner",
        effect="The forward chain cannot be run from a level that is not made yet; as a reverse kernel it is "
        "off by one step of the schedule.",
    ),
    Row(
        "S001:/34",
        "formula",
        "The step of DDPM draws from the posterior, of variance β̃_t, with a mean that leans on x_t. The "
        "first line of the display, called sampling by DDPM, has the law of x_{t−1} given x_0 alone.",
        Counterexample(
            _not_the_posterior,
            "the first line, one level down, against the posterior of DDPM",
            ("ddpm.posterior_mean", "ddpm.posterior_variance"),
        ),
        latex=r"q(x_{t-1}\mid x_t,x_0)=\mathcal N\left(\tilde\mu_t(x_t,x_0),\,\tilde\beta_tI\right)",
        printed=r"\text{DDPM: }q(x_{t+1}\mid x_t,x_0)=\sqrt{\alpha_{t+1}}\,\hat x_{0:t}"
        r"+\sqrt{1-\alpha_{t+1}}\,\varepsilon",
        severity="number",
        origin="author",
        effect="A sampler of the family of DDIM, but not that of DDPM: on standard normal data 1000 linear "
        "steps end at variance 0.494; DDPM with β̃_t gives 0.991.",
        notation=_BARS + "; " + _UP,
    ),
)
