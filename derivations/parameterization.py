"""What a network may predict, and how the predictions turn into each other.

On the forward process x_t = √ᾱ_t·x_0 + √(1−ᾱ_t)·ε the pair (x_t, prediction) and the pair (x_0, ε) determine
each other. So a conversion is proved by writing both sides on the forward process: nothing is left free.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import sympy as sp
from sympy import exp, log, sqrt

from derivations.kit import Decoy, DensityEqual, Formula, Identity, Step, Substitution, formula, normal
from derivations.symbols import (
    abar_prev,
    abar_su_prev,
    abar_su_t,
    abar_t,
    alpha_ddim_prev,
    alpha_ddim_t,
    alpha_t,
    beta_min,
    beta_t,
    beta_tilde_t,
    eps,
    gamma,
    lambda_t,
    mu,
    rate_gap,
    score,
    score_ve,
    sigma,
    tau,
    v,
    x_0,
    x_prev,
    x_t,
    x_ve,
)

SIGNAL, NOISE = sqrt(abar_t), sqrt(1 - abar_t)
FORWARD = {x_t: SIGNAL * x_0 + NOISE * eps}
FROM_X_0 = sqrt(abar_prev) * beta_t / (1 - abar_t)
FROM_X_T = sqrt(alpha_t) * (1 - abar_prev) / (1 - abar_t)

MEANING: Mapping[sp.Symbol, sp.Expr] = {
    eps: eps,
    x_0: x_0,
    v: SIGNAL * eps - NOISE * x_0,
    score: -eps / NOISE,
    mu: FROM_X_0 * x_0 + FROM_X_T * FORWARD[x_t],
}
"""Each prediction on the forward process: v by definition, the gradient of log q, the mean by Bayes' rule."""

CLAIMS: Mapping[tuple[sp.Symbol, sp.Symbol], sp.Expr] = {
    (x_0, eps): (x_t - NOISE * eps) / SIGNAL,
    (x_0, v): SIGNAL * x_t - NOISE * v,
    (x_0, score): (x_t + (1 - abar_t) * score) / SIGNAL,
    (x_0, mu): ((1 - abar_t) * mu - sqrt(alpha_t) * (1 - abar_prev) * x_t) / (sqrt(abar_prev) * beta_t),
    (eps, x_0): (x_t - SIGNAL * x_0) / NOISE,
    (eps, v): SIGNAL * v + NOISE * x_t,
    (eps, score): -NOISE * score,
    (eps, mu): NOISE / beta_t * (x_t - sqrt(alpha_t) * mu),
    (v, eps): (eps - NOISE * x_t) / SIGNAL,
    (v, x_0): (SIGNAL * x_t - x_0) / NOISE,
    (v, score): -(NOISE * x_t + NOISE * score) / SIGNAL,
    (v, mu): NOISE / (beta_t * sqrt(abar_prev)) * (sqrt(alpha_t) * x_t - mu),
    (score, eps): -eps / NOISE,
    (score, x_0): (SIGNAL * x_0 - x_t) / (1 - abar_t),
    (score, v): -SIGNAL / NOISE * v - x_t,
    (score, mu): (sqrt(alpha_t) * mu - x_t) / beta_t,
    (mu, eps): (x_t - beta_t / NOISE * eps) / sqrt(alpha_t),
    (mu, x_0): FROM_X_0 * x_0 + FROM_X_T * x_t,
    (mu, v): sqrt(alpha_t) * x_t - sqrt(abar_prev) * beta_t / NOISE * v,
    (mu, score): (x_t + beta_t * score) / sqrt(alpha_t),
}
"""``CLAIMS[target, source]``: the target as an affine function of x_t and the source."""

KNOWN: Mapping[tuple[sp.Symbol, sp.Symbol], Sequence[Decoy]] = {
    (x_0, eps): (
        Decoy(
            "multiplied",
            SIGNAL * x_t - NOISE * eps,
            "parameterization",
            "multiplied by √ᾱ_t where it is divided: the formula for v",
            "lucidrains/imagen-pytorch 5f45ca0",
        ),
        Decoy(
            "alpha-for-alpha-bar",
            (x_t - sqrt(beta_t) * eps) / sqrt(alpha_t),
            "index",
            "the bar is missing from both levels",
            "S001:/5, S001:/13, S004:§7.4/8",
        ),
        Decoy(
            "noise-not-rooted",
            (x_t - (1 - abar_t) * eps) / SIGNAL,
            "sqrt",
            "1−ᾱ_t where its root belongs",
            "How-Diffusion-Models-Work #1",
        ),
        Decoy(
            "variance-of-root",
            (x_t - (1 - SIGNAL) * eps) / SIGNAL,
            "sqrt",
            "1−√ᾱ_t taken for the noise",
            "jcwang-gh/classifier-free-diffusion-guidance-Pytorch #12",
        ),
    ),
    (eps, x_0): (
        Decoy(
            "flipped",
            (SIGNAL * x_0 - x_t) / NOISE,
            "sign",
            "numerator the wrong way round",
            "lucidrains commit 37334ae",
        ),
        Decoy(
            "x_0-as-eps",
            x_0,
            "parameterization",
            "the prediction of x_0 is used as if it were ε",
            "diffusers PR#2094",
        ),
        Decoy(
            "variance-as-root",
            (x_t - SIGNAL * x_0) / (1 - abar_t),
            "sqrt",
            "the root of 1−ᾱ_t is missing",
            "How-Diffusion-Models-Work #1",
        ),
    ),
    (v, eps): (
        Decoy(
            "v-as-eps",
            eps,
            "parameterization",
            "the prediction of v is used as if it were ε",
            "diffusers PR#2094",
        ),
        Decoy("opposite", (NOISE * x_t - eps) / SIGNAL, "sign", "√(1−ᾱ)x_0 − √ᾱ·ε: the opposite sign of v"),
        Decoy(
            "swapped",
            NOISE * eps - SIGNAL * (x_t - NOISE * eps) / SIGNAL,
            "index",
            "√ᾱ_t and √(1−ᾱ_t) exchanged",
        ),
    ),
    (v, x_0): (
        Decoy("opposite", (x_0 - SIGNAL * x_t) / NOISE, "sign", "√(1−ᾱ)x_0 − √ᾱ·ε: the opposite sign of v"),
        Decoy(
            "other-end",
            (sqrt(1 - abar_t) * x_t - x_0) / SIGNAL,
            "index",
            "the table is read from its other end",
            "diffusers PR#7733",
        ),
    ),
    (score, eps): (
        Decoy(
            "plus",
            eps / NOISE,
            "sign",
            "the gradient points away from the data",
            "Speech-Backbones (Grad-TTS) #25",
        ),
        Decoy("bar-missing-score", -eps / sqrt(beta_t), "index", "the bar of ᾱ_t is missing", "S004:§8.7/1"),
        Decoy(
            "variance", -eps / (1 - abar_t), "sqrt", "divided by the variance, not by the standard deviation"
        ),
        Decoy(
            "unweighted",
            -eps,
            "loss-weight",
            "the target −ε of the weighted loss taken for the score",
            "score_sde_pytorch #26",
        ),
    ),
    (score, x_0): (
        Decoy(
            "plus", (x_t - SIGNAL * x_0) / (1 - abar_t), "sign", "sign of the gradient", "acids-ircam PR#7"
        ),
        Decoy(
            "deviation", (SIGNAL * x_0 - x_t) / NOISE, "sqrt", "divided by the standard deviation: that is −ε"
        ),
        Decoy("unscaled", (x_0 - x_t) / (1 - abar_t), "data-scaling", "data not scaled by √ᾱ_t"),
    ),
    (mu, eps): (
        Decoy(
            "bar-missing-root",
            (x_t - beta_t / sqrt(1 - alpha_t) * eps) / sqrt(alpha_t),
            "index",
            "√(1−α_t) where √(1−ᾱ_t) belongs",
            "S004:§7.2/17",
        ),
        Decoy(
            "beta-rooted",
            (x_t - sqrt(beta_t) * eps) / sqrt(alpha_t),
            "index",
            "one step undone with the noise of all",
        ),
        Decoy(
            "bar-added-outside",
            (x_t - beta_t / NOISE * eps) / SIGNAL,
            "index",
            "√ᾱ_t where √α_t belongs",
        ),
    ),
    (mu, x_0): (
        Decoy(
            "bar-added-to-x_t",
            FROM_X_0 * x_0 + SIGNAL * (1 - abar_prev) / (1 - abar_t) * x_t,
            "index",
            "√ᾱ_t where √α_t belongs",
            "S004:4.5",
        ),
        Decoy(
            "root-missing",
            abar_prev * beta_t / (1 - abar_t) * x_0 + FROM_X_T * x_t,
            "sqrt",
            "ᾱ_{t−1} without its root",
            "mathpluscode/ImgX-DiffSeg #4",
        ),
        Decoy(
            "marginal",
            sqrt(abar_prev) * x_0,
            "parameterization",
            "the mean of q(x_{t−1}|x_0): x_t is not used",
        ),
    ),
}

CITATIONS: Mapping[tuple[sp.Symbol, sp.Symbol], Sequence[str]] = {
    (x_0, eps): ("S000:8", "S003:/10", "S004:5.4", "Ho2020:15", "Song2021ddim:9"),
    (eps, x_0): ("Song2021ddim:9",),
    (score, eps): ("S004:4.11", "S004:7.11"),
    (v, eps): ("Salimans2022:app.D",),
    (v, x_0): ("Salimans2022:app.D",),
    (x_0, v): ("Salimans2022:app.D",),
    (mu, eps): ("S000:9", "S002:/14", "S004:alg4.2", "Ho2020:11"),
    (mu, x_0): ("S000:7", "S001:/6", "S003:/7", "S004:4.5", "Ho2020:7"),
    (mu, score): ("S004:8.15", "Luo2022:133"),
}


def _own_step(target: sp.Symbol, claim: sp.Expr, source: sp.Symbol) -> Iterator[Step]:
    """Where the target is defined by more than a formula: the step that says so."""
    if target == score and source == x_0:
        log_q = normal(x_t, SIGNAL * x_0, 1 - abar_t).exponent
        yield Identity("the score is the gradient of log q(x_t|x_0)", claim, sp.diff(log_q, x_t))
    if target == mu and source == x_0:
        one_step = normal(x_t, sqrt(alpha_t) * x_prev, beta_t)
        before, after = (
            normal(x_prev, sqrt(abar_prev) * x_0, 1 - abar_prev),
            normal(x_t, SIGNAL * x_0, 1 - abar_t),
        )
        variance = beta_t * (1 - abar_prev) / (1 - abar_t)
        yield DensityEqual("Bayes' rule", one_step * before / after, normal(x_prev, claim, variance))
    if target == v and source == x_0:
        turned = -2 * SIGNAL * NOISE * sp.diff(FORWARD[x_t], abar_t)
        noise = (x_t - SIGNAL * x_0) / NOISE
        yield Identity("v is dx_t/dφ at ᾱ = cos²φ, dᾱ/dφ = −2 cos φ sin φ", claim, turned.subs(eps, noise))


def _declare(target: sp.Symbol, source: sp.Symbol) -> Formula:
    def proof(claim: sp.Expr) -> Iterator[Step]:
        on_forward = claim.subs(source, MEANING[source]).subs(FORWARD)
        yield Identity(f"{target} on the forward process", on_forward, MEANING[target].subs(FORWARD))
        yield Identity("there and back", CLAIMS[source, target].subs(target, claim), source)
        yield from _own_step(target, claim, source)

    proof.__doc__ = f"Write x_t and {source} through x_0 and ε: the claim becomes {target}; then go back."
    name = f"parameterization.{target}_from_{source}"
    defining = [f"parameterization.{own}_from_x_0" for own in (mu, score) if own in (target, source)]
    return formula(
        name,
        title=f"{target} from {source}",
        lhs=target,
        rhs=CLAIMS[target, source],
        citations=CITATIONS.get((target, source), ()),
        reference=f"refdiff.parameterization:{target}_from_{source}",
        uses=[used for used in defining if used != name],
        decoys=KNOWN.get((target, source), ()),
    )(proof)


CONVERSIONS = tuple(_declare(target, source) for target, source in CLAIMS)


@formula(
    "parameterization.v",
    title="velocity from data and noise",
    lhs=v,
    rhs=SIGNAL * eps - NOISE * x_0,
    citations=("Salimans2022:app.D",),
    reference="refdiff.parameterization:convert",
    decoys=(
        Decoy("opposite", NOISE * x_0 - SIGNAL * eps, "sign", "the opposite sign of v"),
        Decoy(
            "swapped", NOISE * eps - SIGNAL * x_0, "index", "√ᾱ_t and √(1−ᾱ_t) exchanged", "diffusers PR#7733"
        ),
        Decoy(
            "difference",
            eps - x_0,
            "parameterization",
            "the velocity of the straight path, not of the circle",
        ),
        Decoy("not-rooted", abar_t * eps - (1 - abar_t) * x_0, "sqrt", "powers where amplitudes belong"),
    ),
)
def velocity(claim: sp.Expr) -> Iterator[Step]:
    """(x_t, v) is (x_0, ε) turned by φ with cos²φ = ᾱ_t, and v is the derivative of x_t along the turn."""
    turned = sp.diff(FORWARD[x_t], abar_t) * (-2 * SIGNAL * NOISE)
    yield Identity("v is dx_t/dφ at ᾱ = cos²φ, where dᾱ/dφ = −2 cos φ sin φ", claim, turned)
    yield Identity("a turn keeps lengths", claim**2 + FORWARD[x_t] ** 2, x_0**2 + eps**2)


@formula(
    "parameterization.notation_ddim_beta",
    title="step variance from the DDIM paper's α, which is ᾱ",
    lhs=beta_t,
    rhs=1 - alpha_ddim_t / alpha_ddim_prev,
    citations=("Song2021ddim:app.C.2", "conventions:DDIM paper / ermongroup"),
    reference="refdiff.parameterization:DDIMPaper",
    decoys=(
        Decoy("one-minus-alpha", 1 - alpha_ddim_t, "index", "the paper's α_t read as Ho's α_t", "S001:/1"),
        Decoy("upside-down", 1 - alpha_ddim_prev / alpha_ddim_t, "index", "the ratio the wrong way round"),
        Decoy("rooted", 1 - sqrt(alpha_ddim_t / alpha_ddim_prev), "sqrt", "amplitudes where powers belong"),
    ),
    assumptions=(sp.Lt(alpha_ddim_t, alpha_ddim_prev),),
)
def ddim_beta(claim: sp.Expr) -> Iterator[Step]:
    """The signal power kept by the step turns the level t−1 into the level t."""
    yield Identity("one step", (1 - claim) * alpha_ddim_prev, alpha_ddim_t)
    same = {alpha_ddim_t: abar_t, alpha_ddim_prev: abar_prev}
    yield Identity("with Ho's levels it is Ho's β_t", claim.subs(same), beta_t)


@formula(
    "parameterization.notation_su_alpha_bar",
    title="Su's ᾱ is the root of Ho's",
    lhs=abar_su_t,
    rhs=sqrt(abar_t),
    citations=("S003:/9", "Su2022:9119", "conventions:Su Jianlin (科学空间)"),
    reference="refdiff.parameterization:Su",
    decoys=(Decoy("same-letter", abar_t, "sqrt", "Su's ᾱ_t read as Ho's", "S003:/8, S003:/10"),),
)
def su_alpha_bar(claim: sp.Expr) -> Iterator[Step]:
    """x_t = ᾱx_0 + β̄ε with ᾱ² + β̄² = 1 and a positive ᾱ is the same kernel."""
    yield DensityEqual(
        "the same kernel", normal(x_t, claim * x_0, 1 - claim**2), normal(x_t, SIGNAL * x_0, 1 - abar_t)
    )


@formula(
    "parameterization.notation_su_alpha",
    title="Su's α_t from his ᾱ_t",
    lhs=sp.Symbol("alpha_su_t", positive=True),
    rhs=abar_su_t / abar_su_prev,
    citations=("Su2022:9119",),
    reference="refdiff.parameterization:Su",
    decoys=(Decoy("ho", abar_su_t**2 / abar_su_prev**2, "sqrt", "Ho's α_t, which is the square"),),
    assumptions=(sp.Lt(abar_su_t, abar_su_prev),),
)
def su_alpha(claim: sp.Expr) -> Iterator[Step]:
    """The amplitude kept by one step is the root of Ho's α_t."""
    to_ho = {abar_su_t: sqrt(abar_t), abar_su_prev: sqrt(abar_prev)}
    yield Identity("the root of Ho's α_t", claim.subs(to_ho), sqrt(alpha_t))


@formula(
    "parameterization.notation_su_sigma",
    title="DDPM's step deviation in Su's notation",
    lhs=sqrt(beta_tilde_t),
    rhs=sqrt(1 - abar_su_prev**2) / sqrt(1 - abar_su_t**2) * sqrt(1 - (abar_su_t / abar_su_prev) ** 2),
    citations=("S003:/12", "Su2022:9181"),
    reference="refdiff.parameterization:Su",
    decoys=(
        Decoy(
            "ho-letters",
            (1 - abar_su_prev) / (1 - abar_su_t) * (1 - abar_su_t / abar_su_prev),
            "sqrt",
            "Ho's letters put into Su's formula",
        ),
        Decoy(
            "step-variance",
            sqrt(1 - abar_su_prev**2) / sqrt(1 - abar_su_t**2) * (1 - (abar_su_t / abar_su_prev) ** 2),
            "sqrt",
            "β_t read as Ho's: the step's variance where its deviation belongs",
            "S003:§1/4",
        ),
    ),
    assumptions=(sp.Lt(abar_su_t, abar_su_prev),),
)
def su_sigma(claim: sp.Expr) -> Iterator[Step]:
    """β̄_{t−1}·β_t/β̄_t with β̄² = 1−ᾱ² and β_t² = 1−α_t² is √β̃_t."""
    to_ho = {abar_su_t: sqrt(abar_t), abar_su_prev: sqrt(abar_prev)}
    yield Identity("the root of β̃_t", claim.subs(to_ho), sqrt((1 - abar_prev) / (1 - abar_t) * beta_t))


@formula(
    "parameterization.notation_edm_sigma",
    title="EDM's σ of a level",
    lhs=sigma,
    rhs=sqrt((1 - abar_t) / abar_t),
    citations=("S004:8.23", "Karras2022:tab.1", "conventions:EDM"),
    reference="refdiff.parameterization:EDM",
    decoys=(
        Decoy(
            "not-divided",
            sqrt(1 - abar_t),
            "variance",
            "noise not measured in units of the data",
            "azula 297b0a0",
        ),
        Decoy("squared", (1 - abar_t) / abar_t, "sqrt", "σ² where σ belongs"),
        Decoy("divided-by-power", sqrt(1 - abar_t) / abar_t, "sqrt", "divided by ᾱ_t, not by its root"),
    ),
)
def edm_sigma(claim: sp.Expr) -> Iterator[Step]:
    """x_t/√ᾱ_t is data plus noise of deviation σ."""
    scaled = FORWARD[x_t] / SIGNAL
    yield Identity("data plus σ·ε", scaled, x_0 + claim * eps)
    yield Identity("back", 1 / (1 + claim**2), abar_t)


@formula(
    "parameterization.notation_edm_alpha_bar",
    title="level of an EDM σ",
    lhs=abar_t,
    rhs=1 / (1 + sigma**2),
    citations=("Karras2022:tab.1",),
    reference="refdiff.parameterization:EDM",
    decoys=(
        Decoy("rooted", 1 / sqrt(1 + sigma**2), "sqrt", "√ᾱ_t where ᾱ_t belongs", "jychoi118/ilvr_adm #13"),
        Decoy("variance", 1 / (1 + sigma), "sqrt", "σ taken for a variance"),
        Decoy(
            "complement",
            sigma**2 / (1 + sigma**2),
            "parameterization",
            "the noise power, not the signal power",
        ),
    ),
)
def edm_alpha_bar(claim: sp.Expr) -> Iterator[Step]:
    """The level whose σ it is."""
    yield Identity("its σ² is σ²", (1 - claim) / claim, sigma**2)


@formula(
    "parameterization.notation_edm_input",
    title="variance-preserving state of an EDM state",
    lhs=x_t,
    rhs=x_ve / sqrt(1 + sigma**2),
    citations=("Karras2022:tab.1", "conventions:k-diffusion / ComfyUI / A1111"),
    reference="refdiff.parameterization:from_sigma_space",
    decoys=(
        Decoy("not-scaled", x_ve, "data-scaling", "model input not divided by √(σ²+1)", "diffusers PR#1474"),
        Decoy(
            "multiplied",
            x_ve * sqrt(1 + sigma**2),
            "parameterization",
            "the inverse scaling",
            "leejet/stable-diffusion.cpp PR#1410",
        ),
        Decoy("divided-by-variance", x_ve / (1 + sigma**2), "sqrt", "σ²+1 without its root"),
    ),
)
def edm_input(claim: sp.Expr) -> Iterator[Step]:
    """The scaled state is the forward process at the level of σ."""
    level = {sigma: sqrt((1 - abar_t) / abar_t)}
    yield Identity("on the forward process", claim.subs(x_ve, x_0 + sigma * eps).subs(level), FORWARD[x_t])


@formula(
    "parameterization.notation_edm_noised",
    title="EDM state from data and noise",
    lhs=x_ve,
    rhs=x_0 + sigma * eps,
    citations=("Karras2022:1",),
    reference="refdiff.parameterization:to_sigma_space",
    decoys=(
        Decoy(
            "variance-preserving",
            (x_0 + sigma * eps) / sqrt(1 + sigma**2),
            "parameterization",
            "the scaled form √ᾱx + √(1−ᾱ)n in an unscaled space",
            "diffusers PR#253",
        ),
        Decoy("variance", x_0 + sigma**2 * eps, "sqrt", "σ² where σ belongs"),
    ),
)
def edm_noised(claim: sp.Expr) -> Iterator[Step]:
    """x_t over its amplitude, at the level of σ."""
    level = {abar_t: 1 / (1 + sigma**2)}
    yield Identity("x_t/√ᾱ_t", claim, (FORWARD[x_t] / SIGNAL).subs(level))


@formula(
    "parameterization.notation_edm_x_0_from_v",
    title="data from v in EDM's space",
    lhs=x_0,
    rhs=x_ve / (1 + sigma**2) - sigma / sqrt(1 + sigma**2) * v,
    citations=("conventions:reports, diffusers #1481",),
    reference="refdiff.parameterization:EDM",
    decoys=(
        Decoy(
            "plus",
            x_ve / (1 + sigma**2) + sigma / sqrt(1 + sigma**2) * v,
            "sign",
            "the sign the report asks for",
        ),
        Decoy(
            "unscaled",
            x_ve / sqrt(1 + sigma**2) - sigma / sqrt(1 + sigma**2) * v,
            "data-scaling",
            "x_t's coefficient applied to the unscaled state",
        ),
        Decoy("as-eps", x_ve - sigma * v, "parameterization", "v used as if it were ε"),
    ),
    uses=("parameterization.x_0_from_v", "parameterization.notation_edm_input"),
)
def edm_x_0_from_v(claim: sp.Expr) -> Iterator[Step]:
    """Write the state and v through x_0 and ε at the level of σ."""
    level = {sigma: sqrt((1 - abar_t) / abar_t)}
    written = claim.subs({x_ve: x_0 + sigma * eps, v: MEANING[v]}).subs(level)
    yield Identity("x_0 on the forward process", written, x_0)
    own = CLAIMS[x_0, v].subs(x_t, x_ve / sqrt(1 + sigma**2)).subs(abar_t, 1 / (1 + sigma**2))
    yield Identity("the scaled formula at the level of σ", claim, own)


@formula(
    "parameterization.notation_edm_score",
    title="score in EDM's space from the score in the scaled space",
    lhs=score_ve,
    rhs=SIGNAL * score,
    citations=("S004:8.26", "Karras2022:3"),
    reference="refdiff.parameterization:EDM",
    decoys=(
        Decoy("divided", score / SIGNAL, "parameterization", "gradients scale inversely to states"),
        Decoy("not-scaled", score, "data-scaling", "the change of variable is forgotten"),
    ),
    uses=("parameterization.score_from_eps", "parameterization.notation_edm_sigma"),
)
def edm_score(claim: sp.Expr) -> Iterator[Step]:
    """A gradient is divided where the variable is multiplied; for the kernel it is −ε/σ."""
    level = sqrt((1 - abar_t) / abar_t)
    log_q = normal(x_ve, x_0, level**2).exponent
    gradient = sp.diff(log_q, x_ve).subs(x_ve, x_0 + level * eps)
    yield Identity("gradient of the kernel", claim.subs(score, MEANING[score]), gradient)
    yield Identity("−ε/σ", gradient, -eps / level)


@formula(
    "parameterization.notation_v_diffusion_time",
    title="time of the cosine path from EDM's σ",
    lhs=tau,
    rhs=2 / sp.pi * sp.atan(sigma),
    citations=("conventions:v-diffusion / progressive distillation",),
    reference="refdiff.parameterization:EDM",
    decoys=(
        Decoy(
            "radians",
            sp.atan(sigma),
            "schedule",
            "an angle where a fraction of π/2 belongs",
            "k-diffusion 2ce2bb3",
        ),
    ),
)
def v_diffusion_time(claim: sp.Expr) -> Iterator[Step]:
    """With √ᾱ = cos(πτ/2) the level of σ = tan(πτ/2) is reached at this time, which lies in (0, 1)."""
    yield Identity("√ᾱ at that time", sp.cos(sp.pi / 2 * claim), 1 / sqrt(1 + sigma**2))
    yield Identity("√(1−ᾱ) at that time", sp.sin(sp.pi / 2 * claim), sigma / sqrt(1 + sigma**2))
    yield Identity("the time is an angle in units of π/2", claim, 2 * sp.atan(sigma) / sp.pi)


@formula(
    "parameterization.notation_vdm_gamma",
    title="VDM's γ of a level",
    lhs=gamma,
    rhs=log((1 - abar_t) / abar_t),
    citations=("Kingma2021:§3.2", "conventions:VDM"),
    reference="refdiff.parameterization:VDM",
    decoys=(
        Decoy("log-snr", log(abar_t / (1 - abar_t)), "sign", "the log-SNR itself: γ is minus that", "vdm #7"),
        Decoy("half", log((1 - abar_t) / abar_t) / 2, "sqrt", "log σ, half of γ", "conventions:DPM-Solver"),
    ),
)
def vdm_gamma(claim: sp.Expr) -> Iterator[Step]:
    """sigmoid(γ) is the noise power and sigmoid(−γ) the signal power."""
    yield Identity("noise power", exp(claim) / (1 + exp(claim)), 1 - abar_t)
    yield Identity("signal power", 1 / (1 + exp(claim)), abar_t)


@formula(
    "parameterization.notation_vdm_alpha_bar",
    title="level of a VDM γ",
    lhs=abar_t,
    rhs=1 / (1 + exp(gamma)),
    citations=("Kingma2021:§3.2",),
    reference="refdiff.parameterization:VDM",
    decoys=(
        Decoy("noise-power", 1 / (1 + exp(-gamma)), "sign", "sigmoid(γ): that is 1−ᾱ_t", "vdm #7"),
        Decoy(
            "half-log", 1 / (1 + exp(2 * gamma)), "sqrt", "γ read as the log of σ", "conventions:DPM-Solver"
        ),
    ),
)
def vdm_alpha_bar(claim: sp.Expr) -> Iterator[Step]:
    """γ is recovered from the level."""
    yield Identity("its γ is γ", (1 - claim) / claim, exp(gamma))


@formula(
    "parameterization.notation_half_log_snr",
    title="DPM-Solver's λ of a level",
    lhs=lambda_t,
    rhs=log(abar_t / (1 - abar_t)) / 2,
    citations=("Lu2022:§2.2", "conventions:DPM-Solver"),
    reference="refdiff.parameterization:VDM",
    decoys=(
        Decoy("whole", log(abar_t / (1 - abar_t)), "sqrt", "the whole log-SNR", "conventions:DPM-Solver"),
        Decoy("gamma", log((1 - abar_t) / abar_t) / 2, "sign", "log σ: the opposite sign"),
        Decoy(
            "half-missing",
            log(SIGNAL) - log(1 - abar_t),
            "sqrt",
            "½ missing before log(1−ᾱ_t)",
            "jcwang-gh/classifier-free-diffusion-guidance-Pytorch #12",
        ),
    ),
)
def half_log_snr(claim: sp.Expr) -> Iterator[Step]:
    """λ = log(amplitude of the signal over amplitude of the noise) = −log σ."""
    yield Identity("log of the amplitudes", claim, log(SIGNAL) - log(NOISE))
    yield Identity("−log σ", exp(-2 * claim), (1 - abar_t) / abar_t)


KEPT = sp.Function("m", positive=True)(tau)
RATE, INTEGRAL = beta_min + rate_gap * tau, beta_min * tau + rate_gap * tau**2 / 2


@formula(
    "parameterization.notation_score_sde_scale",
    title="scale of the linear variance-preserving process",
    lhs=sqrt(abar_t),
    rhs=exp(-INTEGRAL / 2),
    citations=("S004:8.8", "S004:8.12", "Song2021sde:33"),
    reference="refdiff.parameterization:ScoreSDE",
    decoys=(
        Decoy("whole-exponent", exp(-INTEGRAL), "discretization", "the power where the amplitude belongs"),
        Decoy(
            "no-half",
            exp(-(beta_min * tau + rate_gap * tau**2) / 2),
            "schedule",
            "τ² not halved by integrating",
        ),
        Decoy("plus", exp(INTEGRAL / 2), "sign", "the signal grows"),
    ),
)
def score_sde_scale(claim: sp.Expr) -> Iterator[Step]:
    """The mean solves dm/dτ = −½β(τ)m with m(0) = 1."""
    yield Substitution("mean of the process", sp.diff(KEPT, tau) + RATE / 2 * KEPT, {KEPT: claim})
    yield Identity("starts at 1", claim.subs(tau, 0), sp.Integer(1))


@formula(
    "parameterization.notation_score_sde_std",
    title="deviation of the linear variance-preserving process",
    lhs=sqrt(1 - abar_t),
    rhs=sqrt(1 - exp(-INTEGRAL)),
    citations=("S004:8.8", "S004:8.12", "Song2021sde:33"),
    reference="refdiff.parameterization:ScoreSDE",
    decoys=(
        Decoy(
            "sub-vp",
            1 - exp(-INTEGRAL),
            "sqrt",
            "the deviation of the sub-VP process",
            "conventions:score_sde",
        ),
        Decoy("half-exponent", sqrt(1 - exp(-INTEGRAL / 2)), "variance", "the exponent of the amplitude"),
        Decoy(
            "beta-for-half",
            sqrt(1 - exp(-2 * INTEGRAL)),
            "discretization",
            "β where β/2 belongs",
            "deepinv PR#1343",
        ),
    ),
)
def score_sde_std(claim: sp.Expr) -> Iterator[Step]:
    """The variance solves dV/dτ = −β(τ)V + β(τ) with V(0) = 0, and the deviation is its positive root."""
    yield Substitution("variance of the process", sp.diff(KEPT, tau) + RATE * (KEPT - 1), {KEPT: claim**2})
    yield Identity("starts at 0", claim.subs(tau, 0), sp.Integer(0))
    yield Identity("the positive root", claim, sqrt(claim**2))


@formula(
    "parameterization.notation_score_sde_drift",
    title="drift of the linear variance-preserving process, divided by the state",
    lhs=sp.Symbol("drift", real=True),
    rhs=-RATE / 2,
    citations=("S004:8.7", "S004:8.11", "Song2021sde:11"),
    reference="refdiff.parameterization:ScoreSDE",
    decoys=(
        Decoy("half-missing", -RATE, "discretization", "β where β/2 belongs", "deepinv PR#1343"),
        Decoy("plus", RATE / 2, "sign", "away from 0"),
        Decoy("no-rate", -sp.Rational(1, 2), "schedule", "drift without β(t)", "sony/fp-diffusion #1"),
    ),
    uses=("parameterization.notation_score_sde_scale",),
)
def score_sde_drift(claim: sp.Expr) -> Iterator[Step]:
    """The drift is the logarithmic derivative of the scale, whatever the rate is."""
    integral = sp.Function("B", real=True)(tau)
    scale = exp(-integral / 2)
    yield Identity("for any rate", sp.diff(scale, tau) / scale, -sp.diff(integral, tau) / 2)
    yield Identity("for the linear rate", claim, -sp.diff(INTEGRAL, tau) / 2)


@formula(
    "parameterization.notation_score_sde_diffusion",
    title="squared diffusion of the linear variance-preserving process",
    lhs=sp.Symbol("diffusion", positive=True) ** 2,
    rhs=RATE,
    citations=("S004:8.7", "S004:8.11", "Song2021sde:11"),
    reference="refdiff.parameterization:ScoreSDE",
    decoys=(
        Decoy("doubled", 2 * RATE, "discretization", "twice the squared diffusion", "deepinv PR#1343"),
        Decoy("not-squared", sqrt(RATE), "sqrt", "g where g² belongs"),
        Decoy(
            "sub-vp",
            RATE * (1 - exp(-2 * INTEGRAL)),
            "variance",
            "the sub-VP process",
            "conventions:score_sde",
        ),
    ),
    uses=("parameterization.notation_score_sde_drift", "parameterization.notation_score_sde_std"),
)
def score_sde_diffusion(claim: sp.Expr) -> Iterator[Step]:
    """g² is what makes the variance grow beyond the drift: dV/dτ = 2fV + g²."""
    variance = 1 - exp(-INTEGRAL)
    yield Identity("growth of the variance", claim, sp.diff(variance, tau) + RATE * variance)
