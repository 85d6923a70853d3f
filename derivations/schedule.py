"""Noise schedules: β_t in t, T and parameters; ``derivations.levels`` holds what follows from any of them.

Time is t ∈ {1, …, T} with ᾱ_0 = 1. A schedule is proved by what defines it: its value at the first step and a
law from each step to the next, for all t and T. Bounds are shown with t = 1 + k and T = 1 + k + m.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import sympy as sp
from sympy import Abs, Min, cos, exp, sin, sqrt

from derivations.kit import (
    Decoy,
    Formula,
    Identity,
    Induction,
    Inequality,
    Step,
    formula,
)
from derivations.levels import FIRST, KEPT, LAST, NEXT
from derivations.symbols import (
    T,
    abar_t,
    after,
    before,
    beta,
    beta_1,
    beta_max,
    beta_T,
    beta_t,
    offset,
    span,
    start,
    t,
    temperature,
    width,
    x,
)

STEPS = (sp.Le(t, T), sp.Le(2, T))
INSIDE = {t: 1 + before, T: 1 + before + after}
SHARE = (t - 1) / (T - 1)
PREVIOUS = sp.Function("b", positive=True)(t)


def _between(title: str, claim: sp.Expr) -> Iterator[Step]:
    """0 < β_t < 1 before the last step, where it is shown apart."""
    inside = claim.subs(INSIDE, simultaneous=True)
    yield Inequality(f"{title} is positive", inside, ">", sp.Integer(0))
    yield Inequality(f"{title} is below 1", sp.Integer(1), ">", inside)


@formula(
    "schedule.linear",
    title="equally spaced step variances",
    lhs=beta_t,
    rhs=beta_1 + SHARE * (beta_T - beta_1),
    citations=("S004:§4.1/1", "Ho2020:§4"),
    reference="refdiff.schedule:linear",
    decoys=(
        Decoy("from-zero", beta_1 + t / T * (beta_T - beta_1), "schedule", "first step already past β_1"),
        Decoy(
            "end-missed",
            beta_1 + (t - 1) / T * (beta_T - beta_1),
            "schedule",
            "divided by T: β_T never reached",
        ),
        Decoy("late", beta_1 + t / (T - 1) * (beta_T - beta_1), "index", "0-based t in a 1-based formula"),
        Decoy(
            "alpha", 1 - beta_1 - SHARE * (beta_T - beta_1), "variance", "α_t where β_t belongs", "S002:§3/1"
        ),
    ),
    assumptions=STEPS,
)
def linear(claim: sp.Expr) -> Iterator[Step]:
    """β_1 at the first step, the same difference in each, so β_T at the last; between them inside (0, 1)."""
    gap = (beta_T - beta_1) / (T - 1)
    yield Induction(
        "equal differences",
        (claim.subs(FIRST), beta_1),
        (claim.subs(NEXT), PREVIOUS + gap),
        {PREVIOUS: claim},
    )
    yield Identity("β_T at the end", claim.subs(LAST), beta_T)
    yield from _between("β_t", claim)


@formula(
    "schedule.linear_rescaled",
    title="the linear schedule of 1000 steps with its end points scaled to T",
    lhs=beta_t,
    rhs=1000 / T * (beta_1 + SHARE * (beta_T - beta_1)),
    citations=("Dhariwal2021:code", "conventions:hojonathanho / openai improved- & guided-diffusion"),
    reference="refdiff.schedule:linear_rescaled",
    decoys=(
        Decoy(
            "not-scaled",
            beta_1 + SHARE * (beta_T - beta_1),
            "schedule",
            "end points of 1000 steps used for T steps",
            "city96/ComfyUI_ExtraModels #3",
        ),
        Decoy(
            "upside-down", T / 1000 * (beta_1 + SHARE * (beta_T - beta_1)), "schedule", "scaled with T/1000"
        ),
        Decoy(
            "one-end",
            beta_1 + SHARE * (1000 / T * beta_T - beta_1),
            "schedule",
            "only the last end point is scaled",
        ),
        Decoy(
            "rooted",
            sqrt(1000 / T) * (beta_1 + SHARE * (beta_T - beta_1)),
            "sqrt",
            "scaled with the root of 1000/T",
        ),
    ),
    assumptions=STEPS,
    uses=("schedule.linear", "schedule.linear_rescaled_domain"),
)
def linear_rescaled(claim: sp.Expr) -> Iterator[Step]:
    """The sum over all steps does not depend on T: it is that of 1000 steps, to the last digit."""
    gap = 1000 * (beta_T - beta_1) / (T * (T - 1))
    base = (claim.subs(FIRST), 1000 * beta_1 / T)
    yield Induction("equal differences", base, (claim.subs(NEXT), PREVIOUS + gap), {PREVIOUS: claim})
    yield Identity("scaled β_T at the end", claim.subs(LAST), 1000 * beta_T / T)
    ends = claim.subs(FIRST) + claim.subs(LAST)
    yield Identity("the sum T(β_1+β_T)/2 is that of 1000 steps", T * ends / 2, 500 * (beta_1 + beta_T))


@formula(
    "schedule.linear_rescaled_domain",
    title="how far the last rescaled step is from 1, for β_T = 1/50",
    lhs=1 - beta_T,
    rhs=(T - 20) / T,
    citations=("openai/guided-diffusion #137",),
    reference="refdiff.schedule:linear_rescaled",
    decoys=(
        Decoy(
            "two-hundred",
            (T - 200) / T,
            "schedule",
            "the bound that the report states",
            "openai/guided-diffusion #137",
        ),
        Decoy("inclusive", (T - 19) / T, "index", "T = 20 taken for allowed"),
    ),
)
def linear_rescaled_domain(claim: sp.Expr) -> Iterator[Step]:
    """1 − 1000/(50·T): positive exactly when T > 20, zero at T = 20."""
    yield Identity("1 − β_T", claim, 1 - 1000 * sp.Rational(1, 50) / T)
    yield Inequality("positive beyond 20", claim.subs(T, 20 + after), ">", sp.Integer(0))
    yield Identity("zero at 20", claim.subs(T, 20), sp.Integer(0))
    yield Inequality("negative below 20", sp.Integer(0), ">", claim.subs(T, 20 / (1 + after)))


ROOTS = sqrt(beta_1) + SHARE * (sqrt(beta_T) - sqrt(beta_1))


def _squared_roots(claim: sp.Expr) -> Iterator[Step]:
    """Ends at β_1 and β_T with one second difference throughout: such a sequence is unique."""
    gap = (sqrt(beta_T) - sqrt(beta_1)) / (T - 1)
    bend = claim.subs(t, t + 2) - 2 * claim.subs(NEXT) + claim
    yield Identity("β_1 at the first step", claim.subs(FIRST), beta_1)
    yield Identity("β_T at the last", claim.subs(LAST), beta_T)
    yield Identity("one second difference, that of equally spaced roots", bend, 2 * gap**2)
    inside = {beta_1: beta_1**2, beta_T: beta_T**2, **INSIDE}
    root = ROOTS.subs(inside, simultaneous=True)
    yield Identity("a square", claim, ROOTS**2)
    yield Inequality("of a positive root", root, ">", sp.Integer(0))
    yield Inequality("below 1", sp.Integer(1), ">", root)


SQUARED_ENDS = (beta_1**2 + SHARE * (beta_T**2 - beta_1**2)) ** 2
_QUADRATIC_DECOYS = (
    Decoy(
        "squares-squared",
        SQUARED_ENDS,
        "schedule",
        "equally spaced squares, squared again",
        "lucidrains/DALLE2-pytorch PR#141",
    ),
    Decoy(
        "squares", (beta_1 + SHARE * (beta_T - beta_1)) ** 2, "sqrt", "end points not rooted before squaring"
    ),
    Decoy("linear", beta_1 + SHARE * (beta_T - beta_1), "schedule", "equally spaced variances"),
    Decoy("roots", ROOTS, "sqrt", "the roots themselves: not squared"),
    Decoy(
        "late",
        (sqrt(beta_1) + t / T * (sqrt(beta_T) - sqrt(beta_1))) ** 2,
        "index",
        "first step already past β_1",
    ),
)


def _quadratic(name: str, title: str, citations: tuple[str, ...]) -> Formula:
    return formula(
        f"schedule.{name}",
        title=title,
        lhs=beta_t,
        rhs=ROOTS**2,
        citations=citations,
        reference=f"refdiff.schedule:{name}",
        decoys=_QUADRATIC_DECOYS,
        assumptions=STEPS,
    )(_squared_roots)


scaled_linear = _quadratic(
    "scaled_linear", "equally spaced roots of the step variances", ("Rombach2022:code",)
)
quadratic = _quadratic("quadratic", "the same under its older name", ("Ho2020:code", "Song2021ddim:code"))


@formula(
    "schedule.square_root",
    title="equally spaced squares of the step variances",
    lhs=beta_t,
    rhs=sqrt(beta_1 + SHARE * (beta_T - beta_1)),
    citations=("Rombach2022:code",),
    reference="refdiff.schedule:square_root",
    decoys=(
        Decoy("linear", beta_1 + SHARE * (beta_T - beta_1), "sqrt", "the root is missing"),
        Decoy("roots-first", ROOTS, "sqrt", "equally spaced roots of the end points"),
        Decoy("late", sqrt(beta_1 + t / T * (beta_T - beta_1)), "index", "first step already past √β_1"),
    ),
    assumptions=STEPS,
    uses=("schedule.linear",),
)
def square_root(claim: sp.Expr) -> Iterator[Step]:
    """Its square is the linear schedule, and it is the positive root."""
    yield Identity("its square is linear", claim**2, beta_1 + SHARE * (beta_T - beta_1))
    yield Identity("the positive root", claim.subs(FIRST), sqrt(beta_1))


@formula(
    "schedule.constant",
    title="the same step variance in each step",
    lhs=beta_t,
    rhs=beta,
    citations=("Ho2020:code",),
    reference="refdiff.schedule:constant",
    decoys=(
        Decoy("alpha", 1 - beta, "variance", "α where β belongs"),
        Decoy("spread", beta / T, "schedule", "one variance spread over all steps"),
    ),
    uses=("schedule.constant_alpha_bar",),
)
def constant(claim: sp.Expr) -> Iterator[Step]:
    """It is the loss of power in the step that turns (1−β)^(t−1) into (1−β)^t."""
    yield Identity("power lost in step t", claim, 1 - (1 - beta) ** t / (1 - beta) ** (t - 1))
    yield Inequality("positive", claim, ">", sp.Integer(0))
    yield Inequality("below 1", sp.Integer(1), ">", claim)


@formula(
    "schedule.constant_alpha_bar",
    title="signal power after t equal steps",
    lhs=abar_t,
    rhs=(1 - beta) ** t,
    citations=("Ho2020:code",),
    reference="refdiff.schedule:constant",
    decoys=(
        Decoy("late", (1 - beta) ** (t - 1), "index", "one step missing", "MONAI PR#8427"),
        Decoy("early", (1 - beta) ** (t + 1), "index", "one step too many"),
        Decoy("beta", beta**t, "variance", "β where α belongs"),
        Decoy("first-order", 1 - t * beta, "discretization", "the product to first order only"),
    ),
)
def constant_alpha_bar(claim: sp.Expr) -> Iterator[Step]:
    """The product of t equal factors, by induction."""
    yield Induction(
        "product", (claim.subs(FIRST), 1 - beta), (claim.subs(NEXT), KEPT * (1 - beta)), {KEPT: claim}
    )


@formula(
    "schedule.jsd",
    title="each step takes the same signal power, the last one all that is left",
    lhs=beta_t,
    rhs=1 / (T - t + 1),
    citations=("Sohl-Dickstein2015:§2.4.1", "Ho2020:code"),
    reference="refdiff.schedule:jsd",
    decoys=(
        Decoy("early", 1 / (T - t + 2), "index", "0-based t in a 1-based formula"),
        Decoy("reversed", 1 / t, "index", "counted from the wrong end"),
        Decoy("uniform", 1 / T, "schedule", "the same variance in each step"),
    ),
    assumptions=(sp.Lt(t, T),),
)
def jsd(claim: sp.Expr) -> Iterator[Step]:
    """With this β_t the signal power falls by 1/T in each step, from 1 to 0."""
    power = 1 - t / T
    yield Induction(
        "ᾱ_t = 1 − t/T",
        (1 - claim.subs(FIRST), power.subs(FIRST)),
        (power.subs(NEXT), KEPT * (1 - claim.subs(NEXT))),
        {KEPT: power},
    )
    yield Identity("the last step leaves nothing", claim.subs(LAST), sp.Integer(1))
    yield from _between("β_t", claim)


LOGIT = -span + 2 * span * SHARE
RISE = 1 / (1 + exp(-LOGIT))


@formula(
    "schedule.sigmoid_beta",
    title="logistic rise of the step variance",
    lhs=beta_t,
    rhs=beta_1 + (beta_T - beta_1) * RISE,
    citations=("Xu2022geodiff:code", "conventions:diffusers"),
    reference="refdiff.schedule:sigmoid_beta",
    decoys=(
        Decoy("not-mapped", RISE, "schedule", "the logistic function not mapped to β_1…β_T"),
        Decoy("alpha-bar", 1 - RISE, "schedule", "the other schedule of that name: on ᾱ, not on β"),
        Decoy(
            "end-missed",
            beta_1 + (beta_T - beta_1) / (1 + exp(span - 2 * span * (t - 1) / T)),
            "index",
            "divided by T: the argument never reaches its end",
        ),
        Decoy("falling", beta_1 + (beta_T - beta_1) / (1 + exp(LOGIT)), "sign", "falls instead of rising"),
    ),
    assumptions=(*STEPS, sp.Lt(beta_1, beta_T)),
)
def sigmoid_beta(claim: sp.Expr) -> Iterator[Step]:
    """The odds (β−β_1)/(β_T−β) are e^{−h} at first and grow by the same factor in each step, to e^h."""
    odds = (claim - beta_1) / (beta_T - claim)
    factor = exp(2 * span / (T - 1))
    yield Induction(
        "odds", (odds.subs(FIRST), exp(-span)), (odds.subs(NEXT), PREVIOUS * factor), {PREVIOUS: odds}
    )
    yield Identity("odds at the end", odds.subs(LAST), exp(span))
    yield Identity("a mean of the end points", claim, (beta_1 * exp(-LOGIT) + beta_T) / (1 + exp(-LOGIT)))


def _ratio_rule(curve: Callable[[sp.Expr], sp.Expr]) -> sp.Expr:
    """The step variance that follows a curve of signal power, bounded from above."""
    return Min(1 - curve(t) / curve(t - 1), beta_max)


def _clipped(claim: sp.Expr, curve: Callable[[sp.Expr], sp.Expr]) -> Iterator[Step]:
    """Twice the smaller of two numbers is their sum less their distance; for any two numbers if it can be."""
    free = 1 - curve(t) / curve(t - 1)
    if claim == Min(free, beta_max):
        claim, free = Min(x, beta_max), x
    yield Identity("the smaller of two", free + beta_max - 2 * claim, Abs(free - beta_max))


def _clip_decoys(curve: Callable[[sp.Expr], sp.Expr]) -> tuple[Decoy, ...]:
    return (
        Decoy(
            "not-clipped",
            1 - curve(t) / curve(t - 1),
            "schedule",
            "no bound: λ → −∞ at t = T",
            "diffusers PR#3314",
        ),
        Decoy(
            "misaligned",
            Min(1 - curve(t + 1) / curve(t), beta_max),
            "index",
            "t counted from 0",
            "MONAI PR#8427",
        ),
        Decoy("level", Min(1 - curve(t), beta_max), "schedule", "1−ᾱ_t where β_t belongs"),
        Decoy(
            "from-below", sp.Max(1 - curve(t) / curve(t - 1), beta_max), "sign", "clipped from the wrong side"
        ),
    )


def _angle(at: sp.Expr) -> sp.Expr:
    return (at / T + offset) / (1 + offset) * sp.pi / 2


def _cosine(at: sp.Expr) -> sp.Expr:
    return cos(_angle(at)) ** 2


UNIT = sp.pi / (2 * T * (1 + offset))


@formula(
    "schedule.cosine",
    title="step variance of the squared-cosine schedule, bounded",
    lhs=beta_t,
    rhs=_ratio_rule(_cosine),
    citations=("Nichol2021:17", "conventions:hojonathanho / openai improved- & guided-diffusion"),
    reference="refdiff.schedule:cosine",
    decoys=(
        *_clip_decoys(_cosine),
        Decoy(
            "no-rescaling",
            _ratio_rule(lambda at: cos((at / T + offset) * sp.pi / 2) ** 2),
            "schedule",
            "not divided by 1+s",
        ),
        Decoy("no-offset", _ratio_rule(lambda at: cos(at / T * sp.pi / 2) ** 2), "schedule", "s forgotten"),
        Decoy("not-squared", _ratio_rule(lambda at: cos(_angle(at))), "sqrt", "a cosine, not its square"),
        Decoy(
            "T-minus-one",
            _ratio_rule(lambda at: _cosine(at * T / (T - 1))),
            "index",
            "divided by T−1, not by T",
        ),
    ),
    assumptions=STEPS,
    uses=("schedule.cosine_alpha_bar",),
)
def cosine(claim: sp.Expr) -> Iterator[Step]:
    """The ratio rule for cos²; sin(δ)sin(2a−δ)/cos²(a−δ) shows that it needs no cancellation."""
    yield from _clipped(claim, _cosine)
    free = 1 - _cosine(t) / _cosine(t - 1)
    yield Identity("product form", free, sin(UNIT) * sin(2 * _angle(t) - UNIT) / _cosine(t - 1))
    yield Identity("the last step is at the bound", claim.subs(LAST), beta_max)


@formula(
    "schedule.cosine_alpha_bar",
    title="signal power of the squared-cosine schedule, without bound",
    lhs=abar_t,
    rhs=_cosine(t) / _cosine(sp.Integer(0)),
    citations=("Nichol2021:17",),
    reference="refdiff.schedule:cosine",
    decoys=(
        Decoy("not-divided", _cosine(t), "schedule", "not divided by f(0): ᾱ_0 below 1"),
        Decoy(
            "no-rescaling",
            cos((t / T + offset) * sp.pi / 2) ** 2 / cos(offset * sp.pi / 2) ** 2,
            "schedule",
            "not divided by 1+s: signal left and returning at the end",
        ),
        Decoy("sine", sin(_angle(t)) ** 2 / _cosine(sp.Integer(0)), "parameterization", "the noise power"),
        Decoy(
            "late",
            _cosine(t - 1) / _cosine(sp.Integer(0)),
            "index",
            "misaligned with β by one",
            "MONAI PR#8427",
        ),
    ),
)
def cosine_alpha_bar(claim: sp.Expr) -> Iterator[Step]:
    """1 at data, 0 at T, and a positive multiple of 1 + cos(2a_t) with a_t equally spaced in (0, π/2).

    The cosine falls on (0, π), which is the one property of it that is used and not derived.
    """
    scale = 2 * _cosine(sp.Integer(0))
    yield Identity("1 at data", claim.subs(t, 0), sp.Integer(1))
    yield Identity("0 at the end", claim.subs(LAST), sp.Integer(0))
    yield Identity("raised cosine", claim * scale, 1 + cos(2 * _angle(t)))
    yield Identity("equally spaced angles", _angle(t + 1) - _angle(t), UNIT)
    place = {t: before, T: before + after}
    yield Inequality("angles above 0", _angle(t).subs(place, simultaneous=True), ">=", sp.Integer(0))
    yield Inequality("angles below π/2", sp.pi / 2, ">", _angle(t).subs(place, simultaneous=True))


def _logistic(argument: sp.Expr) -> sp.Expr:
    return 1 / (1 + exp(-argument / temperature))


def _fall(at: sp.Expr) -> sp.Expr:
    return _logistic(start + width) - _logistic(start + width * at / T)


def _two_cosh(argument: sp.Expr) -> sp.Expr:
    return exp(argument / (2 * temperature)) + exp(-argument / (2 * temperature))


def _two_sinh(argument: sp.Expr) -> sp.Expr:
    return exp(argument / (2 * temperature)) - exp(-argument / (2 * temperature))


@formula(
    "schedule.sigmoid_alpha_bar",
    title="step variance of the logistic fall of signal power, bounded",
    lhs=beta_t,
    rhs=_ratio_rule(_fall),
    citations=("Jabri2022:app.", "conventions:lucidrains"),
    reference="refdiff.schedule:sigmoid_alpha_bar",
    decoys=(
        *_clip_decoys(_fall),
        Decoy(
            "not-shifted",
            _ratio_rule(lambda at: 1 - _logistic(start + width * at / T)),
            "schedule",
            "not shifted to 0 at the end: signal left",
        ),
        Decoy(
            "temperature-inside",
            _ratio_rule(
                lambda at: _logistic(start + width) - 1 / (1 + exp(-(start / temperature + width * at / T)))
            ),
            "schedule",
            "only the first argument divided by τ",
        ),
    ),
    assumptions=(sp.Le(t, T),),
    uses=("schedule.sigmoid_alpha_bar_curve",),
)
def sigmoid_alpha_bar(claim: sp.Expr) -> Iterator[Step]:
    """The ratio rule for a logistic fall; sinh and cosh show that it needs no cancellation."""
    yield from _clipped(claim, _fall)
    step = width / T
    unbounded = _two_sinh(step) / _two_sinh(step * (T - t + 1))
    unbounded *= _two_cosh(start + width) / _two_cosh(start + step * t)
    yield Identity("product form", 1 - _fall(t) / _fall(t - 1), unbounded)
    yield Identity("the last step is at the bound", claim.subs(LAST), beta_max)


@formula(
    "schedule.sigmoid_alpha_bar_curve",
    title="signal power of the logistic fall, without bound",
    lhs=abar_t,
    rhs=_fall(t) / _fall(sp.Integer(0)),
    citations=("Jabri2022:app.",),
    reference="refdiff.schedule:sigmoid_alpha_bar",
    decoys=(
        Decoy("not-normalised", _fall(t), "schedule", "not divided by its value at data"),
        Decoy("rising", 1 - _fall(t) / _fall(sp.Integer(0)), "sign", "the noise power"),
        Decoy("late", _fall(t - 1) / _fall(sp.Integer(0)), "index", "misaligned by one", "MONAI PR#8427"),
    ),
)
def sigmoid_alpha_bar_curve(claim: sp.Expr) -> Iterator[Step]:
    """1 at data, 0 at T, and between them affine in the logistic function of an equally spaced argument."""
    yield Identity("1 at data", claim.subs(t, 0), sp.Integer(1))
    yield Identity("0 at the end", claim.subs(LAST), sp.Integer(0))
    kept = 1 - claim * (1 - _logistic(start) / _logistic(start + width))
    odds = 1 / (kept * _logistic(start + width)) - 1
    yield Identity("the odds of the rest", odds, exp(-(start + width * t / T) / temperature))


def _root_fall(at: sp.Expr) -> sp.Expr:
    return 1 - sqrt(at / T + offset)


@formula(
    "schedule.square_root_alpha_bar",
    title="step variance of the square-root fall of signal power, bounded",
    lhs=beta_t,
    rhs=_ratio_rule(_root_fall),
    citations=("Li2022:§4",),
    reference="refdiff.schedule:square_root_alpha_bar",
    decoys=(
        *_clip_decoys(_root_fall),
        Decoy("no-offset", _ratio_rule(lambda at: 1 - sqrt(at / T)), "schedule", "s forgotten"),
        Decoy("linear", _ratio_rule(lambda at: 1 - at / T - offset), "sqrt", "the root is missing"),
        Decoy(
            "offset-outside", _ratio_rule(lambda at: 1 - sqrt(at / T) - offset), "sqrt", "s outside the root"
        ),
    ),
    assumptions=(sp.Le(t, T), sp.Lt(offset, 1 / T)),
)
def square_root_alpha_bar(claim: sp.Expr) -> Iterator[Step]:
    """The ratio rule for 1 − √(t/T + s), with the differences of roots written as quotients."""
    yield from _clipped(claim, _root_fall)
    above, below = sqrt(t / T + offset), sqrt((t - 1) / T + offset)
    product = 1 / T / (above + below) * (1 + below) / (1 - (t - 1) / T - offset)
    yield Identity("quotient form", 1 - _root_fall(t) / _root_fall(t - 1), product)
