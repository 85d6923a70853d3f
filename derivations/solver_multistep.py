r"""Linear multistep steps in σ: Adams–Bashforth on any levels, and the pseudo multistep steps of PNDM.

A step goes from σ_t to σ_t − Δ_0; predictions are known at σ_t and Δ_1, Δ_1 + Δ_2, … above it. The slope
dx/dσ = ε is replaced by the polynomial through the predictions, which is integrated: so the step is exact
when ε is a polynomial in σ of a degree below their number, and since a Vandermonde matrix of distinct levels
is regular, no other weights are. These formulas belong to the topic ``solver``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sympy as sp

from derivations.kit import Decoy, Identity, Series, Step, formula
from derivations.symbols import (
    bend,
    eps,
    eps_1,
    eps_2,
    eps_3,
    eps_hat,
    gap,
    gap_1,
    gap_2,
    gap_3,
    h,
    node_2,
    sig_t,
    x_s,
    x_ve,
)

PREDICTIONS = (eps, eps_1, eps_2, eps_3)
ABOVE = (sp.Integer(0), gap_1, gap_1 + gap_2, gap_1 + gap_2 + gap_3)
"""How far above σ_t each prediction was made."""
UNIFORM = {gap_1: gap, gap_2: gap, gap_3: gap}
NOT_TO_DATA = sp.Lt(gap, sig_t)
u = sp.Symbol("u", real=True)


def _weight(number: int, count: int) -> sp.Expr:
    """The mean over the step of the Lagrange polynomial of one of so many predictions."""
    basis = sp.Mul(*((u - ABOVE[j]) / (ABOVE[number] - ABOVE[j]) for j in range(count) if j != number))
    primitive = sp.integrate(sp.expand(basis), u)
    return sp.factor((primitive.subs(u, 0) - primitive.subs(u, -gap)) / gap)


WEIGHTS = {count: [_weight(number, count) for number in range(count)] for count in (2, 3, 4)}


def update(weights: Sequence[sp.Expr]) -> sp.Expr:
    """The state minus Δ_0 times the weighted predictions."""
    return x_ve - gap * combination(weights)


def combination(weights: Sequence[sp.Expr]) -> sp.Expr:
    """The weighted predictions."""
    return sp.Add(*(weight * prediction for weight, prediction in zip(weights, PREDICTIONS, strict=False)))


def fractions(denominator: int, *numerators: int) -> list[sp.Expr]:
    """Fixed weights over one denominator."""
    return [sp.Rational(n, denominator) for n in numerators]


TWO, THREE, FOUR = fractions(2, 3, -1), fractions(12, 23, -16, 5), fractions(24, 55, -59, 37, -9)


def exact_on_powers(claim: sp.Expr, count: int) -> Iterator[Step]:
    """The step follows ε = u^k, whose integral over the step is known, for every k below the count."""
    weights = [-sp.diff(claim, prediction) / gap for prediction in PREDICTIONS[:count]]
    yield Identity("affine in the predictions", claim, update(weights))
    for power in range(count):
        known = {p: place**power for p, place in zip(PREDICTIONS, ABOVE, strict=True)}
        moved = (-gap) ** (power + 1) / (power + 1)
        yield Identity(f"exact for ε = u^{power}", claim.subs(known) - x_ve, moved)


def missed(claim: sp.Expr, power: int) -> sp.Expr:
    """What the step misses where ε is B·u^k/k!."""
    known = {p: place**power for p, place in zip(PREDICTIONS, ABOVE, strict=True)}
    moved = (-gap) ** (power + 1) / (power + 1)
    return bend * (moved - claim.subs(known) + x_ve) / sp.factorial(power)


def in_log_sigma(count: int) -> sp.Expr:
    """The same weights from the distances of the levels in log σ: right for another equation."""
    places = [sp.Integer(0), *(sp.log((sig_t + place) / sig_t) for place in ABOVE[1:count])]
    fall = sp.log(sig_t / (sig_t - gap))
    distances = {gap_1: places[1], gap: fall}
    if count > 2:
        distances[gap_2] = places[2] - places[1]
    return update([weight.subs(distances, simultaneous=True) for weight in WEIGHTS[count]])


@formula(
    "solver.ab2",
    title="Adams–Bashforth of order 2 in σ, on any levels",
    lhs=x_s,
    rhs=x_ve - gap * ((1 + gap / (2 * gap_1)) * eps - gap / (2 * gap_1) * eps_1),
    citations=("Liu2022:9", "conventions:k-diffusion"),
    reference="refdiff.solver:adams_bashforth_weights",
    assumptions=(NOT_TO_DATA,),
    decoys=(
        Decoy("uniform", update(TWO), "discretization", "the weights 3/2 and −1/2 on any levels",
              "CompVis PLMS"),
        Decoy("in-log-sigma", in_log_sigma(2), "discretization",
              "weights in log σ, which is not the variable of the equation"),
        Decoy("ratio-inverted", x_ve - gap * ((1 + gap_1 / (2 * gap)) * eps - gap_1 / (2 * gap) * eps_1),
              "index", "the step before over this one"),
        Decoy("predictions-exchanged", update(WEIGHTS[2][::-1]), "index",
              "the earlier prediction taken for the later"),
    ),
)  # fmt: skip
def _ab2(claim: sp.Expr) -> Iterator[Step]:
    """The line through two predictions, integrated. On equal steps the weights are 3/2 and −1/2."""
    yield from exact_on_powers(claim, 2)
    yield Identity("the integral of the line", claim, update(WEIGHTS[2]))
    yield Identity("missed at order 3", missed(claim, 2), -bend * gap**2 * (2 * gap + 3 * gap_1) / 12)
    yield Identity("equal steps", claim.subs(UNIFORM), update(TWO))


@formula(
    "solver.ab3",
    title="Adams–Bashforth of order 3 in σ, on any levels",
    lhs=x_s,
    rhs=update(WEIGHTS[3]),
    citations=("Liu2022:9", "conventions:k-diffusion"),
    reference="refdiff.solver:adams_bashforth_weights",
    assumptions=(NOT_TO_DATA,),
    decoys=(
        Decoy("uniform", update(THREE), "discretization", "the weights 23, −16, 5 over 12 on any levels",
              "CompVis PLMS"),
        Decoy("in-log-sigma", in_log_sigma(3), "discretization",
              "weights in log σ, which is not the variable of the equation"),
        Decoy("order-2", update(WEIGHTS[2]), "discretization", "one prediction not used"),
    ),
)  # fmt: skip
def _ab3(claim: sp.Expr) -> Iterator[Step]:
    """The parabola through three predictions, integrated."""
    yield from exact_on_powers(claim, 3)
    rest = bend * gap**2 * (3 * gap**2 + 4 * gap * (2 * gap_1 + gap_2) + 6 * gap_1 * (gap_1 + gap_2)) / 72
    yield Identity("missed at order 4", missed(claim, 3), rest)
    yield Identity("equal steps", claim.subs(UNIFORM), update(THREE))


@formula(
    "solver.ab4",
    title="Adams–Bashforth of order 4 in σ, on any levels",
    lhs=x_s,
    rhs=update(WEIGHTS[4]),
    citations=("Liu2022:9", "conventions:k-diffusion"),
    reference="refdiff.solver:adams_bashforth_weights",
    assumptions=(NOT_TO_DATA,),
    decoys=(
        Decoy("uniform", update(FOUR), "discretization", "the weights 55, −59, 37, −9 over 24 on any levels",
              "CompVis PLMS"),
        Decoy("order-3", update(WEIGHTS[3]), "discretization", "one prediction not used"),
        Decoy("reversed", update(WEIGHTS[4][::-1]), "index", "the predictions in the order of their age"),
    ),
)  # fmt: skip
def _ab4(claim: sp.Expr) -> Iterator[Step]:
    """The cubic through four predictions, integrated."""
    yield from exact_on_powers(claim, 4)
    equal = claim.subs(UNIFORM)
    yield Identity("equal steps", equal, update(FOUR))
    yield Identity("missed at order 5, equal steps", missed(claim, 4).subs(UNIFORM),
                   -sp.Rational(251, 720) * bend * gap**5)  # fmt: skip


@formula(
    "solver.plms",
    title="the combination of PNDM and PLMS: Adams–Bashforth on equal steps of σ",
    lhs=eps_hat,
    rhs=combination(FOUR),
    citations=("Liu2022:9", "Liu2022:alg2"),
    reference="refdiff.solver:plms_combination",
    uses=("solver.ab4",),
    decoys=(
        Decoy("order-3", combination(THREE), "discretization", "the weights of three predictions"),
        Decoy("moulton", combination(fractions(24, 9, 19, -5, 1)), "discretization",
              "the implicit weights, which need the prediction where the step ends"),
        Decoy("reversed", combination(FOUR[::-1]), "index", "the predictions in the order of their age"),
        Decoy("sign", combination(fractions(24, 55, -59, 37, 9)), "sign", "the last weight with a plus"),
        Decoy("sum", 24 * combination(FOUR), "variance", "not divided by 24"),
    ),
)  # fmt: skip
def _plms(claim: sp.Expr) -> Iterator[Step]:
    """With the step of DDIM, which is Euler's in σ, it is the step of order 4 when the levels are equally far
    apart in σ. Equal steps of time, as PNDM takes them, are not equal steps of σ."""
    step = x_ve - gap * claim
    yield Identity("of order 4 on equal steps", step, update(WEIGHTS[4]).subs(UNIFORM))
    yield Identity("the weights add up to 1", claim.subs(dict.fromkeys(PREDICTIONS, eps)), eps)


DEFECT = 12 * gap - 31 * gap_1 + 28 * gap_2 - 9 * gap_3


@formula(
    "solver.plms_defect",
    title="what a PLMS step misses on unequal steps, for predictions with the slope B in σ",
    lhs=sp.Symbol("e"),
    rhs=bend * gap * DEFECT / 24,
    citations=("Liu2022:thm", "Liu2022:9"),
    reference="refdiff.solver:plms_combination",
    uses=("solver.plms", "solver.ab2"),
    decoys=(
        Decoy("none", sp.Integer(0), "discretization", "taken for exact: order 4 on any levels"),
        Decoy("euler", bend * gap**2 / 2, "discretization", "what Euler's step misses"),
        Decoy("two", bend * gap * (gap - gap_1) / 2, "discretization", "that of the weights 3/2 and −1/2"),
    ),
)  # fmt: skip
def _plms_defect(claim: sp.Expr) -> Iterator[Step]:
    """Adams–Bashforth of order 2 is exact there. The defect is of second order on rough levels, so that the
    sample is of order 1. On smooth levels, Δ_j = h + jah², it is of third order and the sample of order 2:
    12, −31, 28 and −9 add up to nothing, and what is left is −B·a·h³/12."""
    linear = {eps: sp.Integer(0), eps_1: bend * gap_1, eps_2: bend * (gap_1 + gap_2),
              eps_3: bend * (gap_1 + gap_2 + gap_3)}  # fmt: skip
    exact, fixed = (update(w).subs(linear) for w in (WEIGHTS[2], FOUR))
    yield Identity("against the exact step", exact - fixed, claim)
    a = sp.Symbol("a", real=True)
    smooth = {gap: h, gap_1: h + a * h**2, gap_2: h + 2 * a * h**2, gap_3: h + 3 * a * h**2}
    yield Series("on smooth levels", claim.subs(smooth), h, 4, -bend * a * h**3 / 12)
    rough = {gap: h, gap_1: 2 * h, gap_2: h, gap_3: 2 * h}
    yield Identity("steps that alternate", claim.subs(rough), -5 * bend * h**2 / 3)


@formula(
    "solver.prk_defect",
    title="what PNDM's pseudo Runge–Kutta step misses, for predictions with the slope B in σ",
    lhs=sp.Symbol("e"),
    rhs=bend * gap**2 * (1 - 2 * node_2) / 3,
    citations=("Liu2022:10",),
    reference="refdiff.solver:PLMS",
    uses=("solver.rk4_weights",),
    assumptions=(sp.Lt(h, sig_t),),
    decoys=(
        Decoy("none", sp.Integer(0), "discretization", "taken for exact, as if the middle were that of σ"),
        Decoy("halved", bend * gap**2 * (1 - 2 * node_2) / 2, "discretization", "½ for 1/3"),
        Decoy("other-side", bend * gap**2 * (2 * node_2 - 1) / 3, "sign", "the middle on the other side"),
    ),
)  # fmt: skip
def _prk_defect(claim: sp.Expr) -> Iterator[Step]:
    """The four slopes of the classical step with the weights 1, 2, 2, 1 over 6, two of them at the share c of
    the step in σ where the level in the middle lies. Only c = ½ misses nothing; the middle in λ is the
    geometric mean of both levels, with 1/c − 1 the root of their ratio, and its step misses −B·h³/(12σ_t)."""
    slopes = [bend * place for place in (0, -gap * node_2, -gap * node_2, -gap)]
    weights = fractions(6, 1, 2, 2, 1)
    step = -gap * sp.Add(*(weight * slope for weight, slope in zip(weights, slopes, strict=True)))
    yield Identity("against the exact step", bend * gap**2 / 2 - step, claim)
    yield Identity("the middle of σ", claim.subs(node_2, sp.Rational(1, 2)), sp.Integer(0))
    mean = 1 / (1 + sp.sqrt(1 - h / sig_t))
    below = sig_t - mean * h
    yield Identity("the geometric mean", below**2, sig_t * (sig_t - h))
    yield Series("the middle in λ", claim.subs({node_2: mean, gap: h}), h, 4, -bend * h**3 / (12 * sig_t))
