"""Embeddings of time: sines and cosines of a level, at frequencies of a geometric sequence.

Axioms: the first frequency is 1, each is the same share of the one before, and n steps further lies 1/P. An
entry is a sine or a cosine of its frequency times the level: the harmonic oscillator that starts at 0, or
at 1. With h frequencies n is h − 1 (Ho et al., so that 1/P is the last one) or h (guided diffusion).
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import cos, pi, sin

from derivations.kit import Decoy, Identity, Induction, Inequality, Step, formula
from derivations.symbols import clock, gaps, i, lag, longest, pace, pace_ratio, pair, pairs

TIME = "time-embedding"
FREQUENCY = longest ** (-pair / gaps)


@formula(
    "embedding.frequency",
    title="frequencies fall geometrically from 1",
    lhs=sp.Symbol("omega_k", positive=True),
    rhs=FREQUENCY,
    citations=("Vaswani2017:3.5", "Ho2020:appB"),
    reference="refdiff.nets.embedding:frequencies",
    decoys=(
        Decoy("rising", longest ** (pair / gaps), TIME, "wavelengths for frequencies: the exponent's sign"),
        Decoy("linear", 1 - pair / gaps * (1 - 1 / longest), TIME, "evenly spaced: the logarithm is missing"),
        Decoy("not-a-power", 1 / (1 + longest * pair / gaps), TIME, "P times k, not its power"),
        Decoy("period-outside", longest ** (1 - pair / gaps), TIME, "P to the share that is left"),
        Decoy("twice", longest ** (-2 * pair / gaps), TIME, "2 k steps of h, not of the dimension"),
        Decoy("half-steps", longest ** (-(pair + sp.Rational(1, 2)) / gaps), TIME, "the middle of each step"),
        Decoy("from-one", longest ** (-(pair + 1) / gaps), "index", "k counted from 1"),
    ),
)  # fmt: skip
def _frequency(claim: sp.Expr) -> Iterator[Step]:
    """From the first frequency each step multiplies by the same number; it is the one whose n-th power
    is 1/P."""
    yield Identity("the first", claim.subs(pair, 0), sp.Integer(1))
    ratio = claim.subs(pair, 1) / claim.subs(pair, 0)
    yield Identity("each step", claim.subs(pair, pair + 1), claim * longest ** (-1 / gaps))
    yield Identity("n steps", claim.subs(pair, gaps), 1 / longest)
    yield Identity("the same step first", ratio, longest ** (-1 / gaps))


@formula(
    "embedding.last_frequency",
    title="the last of h frequencies, spaced by h − 1 steps",
    lhs=sp.Symbol("omega_last", positive=True),
    rhs=1 / longest,
    citations=("Ho2020:appB",),
    reference="refdiff.nets.embedding:frequencies",
    uses=("embedding.frequency",),
    assumptions=(sp.Lt(1, pairs),),
    decoys=(
        Decoy("h-steps", longest ** (1 / pairs - 1), TIME, "the last one where the steps are h, not h − 1"),
        Decoy("dimension", longest ** (-(pairs - 1) / (2 * pairs)), TIME, "k over the dimension: a root"),
    ),
)  # fmt: skip
def _last_frequency(claim: sp.Expr) -> Iterator[Step]:
    """k = h − 1 of n = h − 1."""
    yield Identity("k = n", FREQUENCY.subs({pair: pairs - 1, gaps: pairs - 1}, simultaneous=True), claim)


@formula(
    "embedding.last_frequency_half",
    title="the last of h frequencies, spaced by h steps",
    lhs=sp.Symbol("omega_last", positive=True),
    rhs=longest ** (1 / pairs) / longest,
    citations=("conventions:guided-diffusion", "Vaswani2017:3.5"),
    reference="refdiff.nets.embedding:frequencies",
    uses=("embedding.frequency",),
    decoys=(
        Decoy("half-minus-one", 1 / longest, TIME, "the last one where the steps are h − 1"),
        Decoy("one-more", longest ** (-1 / pairs) / longest, "index", "k up to h + 1"),
    ),
)
def _last_frequency_half(claim: sp.Expr) -> Iterator[Step]:
    """k = h − 1 of n = h: 1/P is the frequency that would follow."""
    share = sp.expand((pairs - 1) / pairs)
    yield Identity("k = n − 1", longest**-share, claim)
    yield Identity("the one that would follow", claim * longest ** (-1 / pairs), 1 / longest)


@formula(
    "embedding.octave",
    title="frequencies that double",
    lhs=sp.Symbol("omega_k", positive=True),
    rhs=2**pair,
    citations=("NVIDIA/physicsnemo #1554",),
    assumptions=(sp.Lt(1, pairs),),
    decoys=(
        Decoy(
            "linspace", 2 ** (pair * pairs / (pairs - 1)), TIME,
            "2^linspace(0, h, h): h numbers with h − 1 steps from 0 to h, so that no step is an octave",
            "NVIDIA/physicsnemo #1554",
        ),
        Decoy("linear", 1 + pair, TIME, "harmonics, not octaves"),
        Decoy("square", pair**2 + 1, TIME, "base and exponent exchanged"),
    ),
    mutate=False,  # 2 to the k has no part that a mutation changes but its sign
)  # fmt: skip
def _octave(claim: sp.Expr) -> Iterator[Step]:
    """From 1, each twice the one before."""
    yield Identity("the first", claim.subs(pair, 0), sp.Integer(1))
    yield Identity("an octave", claim.subs(pair, pair + 1), 2 * claim)


SINE, COSINE = sin(clock * FREQUENCY), cos(clock * FREQUENCY)


@formula(
    "embedding.sine",
    title="the entry that starts at 0",
    lhs=sp.Symbol("e_sin", real=True),
    rhs=SINE,
    citations=("Vaswani2017:3.5", "Ho2020:appB"),
    reference="refdiff.nets.embedding:sinusoidal",
    uses=("embedding.frequency",),
    decoys=(
        Decoy("cosine", COSINE, TIME, "sines and cosines in each other's place"),
        Decoy("whole-turns", sin(2 * pi * clock * FREQUENCY), TIME, "levels count turns: 2π more"),
        Decoy("thousand", sin(1000 * clock * FREQUENCY), TIME, "levels multiplied by 1000"),
        Decoy("thousandth", sin(clock * FREQUENCY / 1000), TIME,
              "levels between 0 and 1 at frequencies that are made for 0 to 1000", "SiT #24"),
        Decoy("divided", sin(clock / FREQUENCY), TIME, "divided by the frequency"),
        Decoy("negative", sin(-clock * FREQUENCY), "sign", "time runs backwards"),
        Decoy("other-frequency", sin(clock * FREQUENCY.subs(pair, pair + 1)), TIME,
              "the next frequency: sine and cosine of a pair do not share theirs",
              "BrianPulfer/PapersReimplementations #9"),
    ),
    mutate=False,  # the mutations of the frequency are refuted under embedding.frequency
)  # fmt: skip
def _sine(claim: sp.Expr) -> Iterator[Step]:
    """The oscillator of frequency ω that starts at 0 with slope ω."""
    yield Identity("an oscillator", sp.diff(claim, clock, 2), -(FREQUENCY**2) * claim)
    yield Identity("starts at 0", claim.subs(clock, 0), sp.Integer(0))
    yield Identity("with its frequency", sp.diff(claim, clock).subs(clock, 0), FREQUENCY)


@formula(
    "embedding.cosine",
    title="the entry that starts at 1",
    lhs=sp.Symbol("e_cos", real=True),
    rhs=COSINE,
    citations=("Vaswani2017:3.5", "Ho2020:appB"),
    reference="refdiff.nets.embedding:sinusoidal",
    uses=("embedding.sine",),
    decoys=(
        Decoy("sine", SINE, TIME, "sines and cosines in each other's place"),
        Decoy("whole-turns", cos(2 * pi * clock * FREQUENCY), TIME, "levels count turns: 2π more"),
        Decoy("other-frequency", cos(clock * FREQUENCY.subs(pair, pair + 1)), TIME,
              "the next frequency: sine and cosine of a pair do not share theirs",
              "BrianPulfer/PapersReimplementations #9"),
    ),
    mutate=False,  # the mutations of the frequency are refuted under embedding.frequency
)  # fmt: skip
def _cosine(claim: sp.Expr) -> Iterator[Step]:
    """The derivative of the sine of the same frequency, over that frequency."""
    yield Identity("the derivative of its partner", sp.diff(SINE, clock), FREQUENCY * claim)


@formula(
    "embedding.rotated_sine",
    title="a later level turns each pair: its sine",
    lhs=sin(pace * (clock + lag)),
    rhs=cos(pace * lag) * sin(pace * clock) + sin(pace * lag) * cos(pace * clock),
    citations=("Vaswani2017:3.5",),
    reference="refdiff.nets.embedding:sinusoidal",
    uses=("embedding.sine", "embedding.cosine"),
    decoys=(
        Decoy("other-way", cos(pace * lag) * sin(pace * clock) - sin(pace * lag) * cos(pace * clock), "sign",
              "turned the other way"),
        Decoy("translated", sin(pace * clock) + sin(pace * lag), TIME, "the embeddings added"),
    ),
)  # fmt: skip
def _rotated_sine(claim: sp.Expr) -> Iterator[Step]:
    """The turn depends on the lag alone: the embedding of t + s is a fixed linear map of that of t."""
    yield Identity("addition theorem", sin(pace * clock + pace * lag), claim)


@formula(
    "embedding.rotated_cosine",
    title="a later level turns each pair: its cosine",
    lhs=cos(pace * (clock + lag)),
    rhs=cos(pace * lag) * cos(pace * clock) - sin(pace * lag) * sin(pace * clock),
    citations=("Vaswani2017:3.5",),
    reference="refdiff.nets.embedding:sinusoidal",
    uses=("embedding.rotated_sine",),
    decoys=(
        Decoy("other-way", cos(pace * lag) * cos(pace * clock) + sin(pace * lag) * sin(pace * clock), "sign",
              "turned the other way"),
        Decoy("translated", cos(pace * clock) * cos(pace * lag), TIME, "scaled, not turned"),
    ),
)  # fmt: skip
def _rotated_cosine(claim: sp.Expr) -> Iterator[Step]:
    """The other row of the same rotation; its determinant is 1."""
    yield Identity("addition theorem", cos(pace * clock + pace * lag), claim)
    yield Identity("nothing is stretched", cos(pace * lag) ** 2 + sin(pace * lag) ** 2, sp.Integer(1))


LATER = clock + lag
PAIR_PRODUCT = cos(pace * lag)


@formula(
    "embedding.pair_product",
    title="the product of a pair at two levels depends on their difference alone",
    lhs=sp.Symbol("p_t") * sp.Symbol("p_s"),
    rhs=PAIR_PRODUCT,
    citations=("Vaswani2017:3.5", "BrianPulfer/PapersReimplementations #9"),
    reference="refdiff.nets.embedding:sinusoidal",
    uses=("embedding.rotated_sine", "embedding.rotated_cosine"),
    decoys=(
        Decoy("sum", cos(pace * (clock + LATER)), "sign", "the sum of the levels, not their difference"),
        Decoy("sine", sin(pace * lag), TIME, "the sine of the difference"),
        Decoy("mismatched", sin(pace * clock) * sin(pace * LATER)
              + cos(pace * clock / 2) * cos(pace * LATER / 2), TIME,
              "sine and cosine of different frequencies: the product depends on the levels themselves",
              "BrianPulfer/PapersReimplementations #9"),
        Decoy("first-term", sin(pace * clock) * sin(pace * LATER), TIME, "the sines alone"),
    ),
)  # fmt: skip
def _pair_product(claim: sp.Expr) -> Iterator[Step]:
    """Each pair is a point of the unit circle; the product of two is the cosine of the angle between."""
    t, u = pace * clock, pace * clock + pace * lag
    yield Identity("two points of a circle", sin(t) * sin(u) + cos(t) * cos(u), claim)


paces = sp.Function("omega", positive=True)


@formula(
    "embedding.inner_product",
    title="the inner product of two embeddings",
    lhs=sp.Symbol("e_t") * sp.Symbol("e_s"),
    rhs=sp.Sum(cos(paces(i) * lag), (i, 1, pairs)),
    citations=("Vaswani2017:3.5",),
    reference="refdiff.nets.embedding:sinusoidal",
    uses=("embedding.pair_product",),
    decoys=(
        Decoy("one-less", sp.Sum(cos(paces(i) * lag), (i, 1, pairs - 1)), "index", "the last pair missing"),
        Decoy("product", sp.Product(cos(paces(i) * lag), (i, 1, pairs)), TIME, "a product over the pairs"),
    ),
    mutate=False,  # a sum: the mutations of its term are refuted under embedding.pair_product
)  # fmt: skip
def _inner_product(claim: sp.Expr) -> Iterator[Step]:
    """Pair by pair: the matrix of all products is constant along its diagonals."""
    known = sp.Symbol("known", real=True)

    def term(k: sp.Expr) -> sp.Expr:
        return PAIR_PRODUCT.subs(pace, paces(k))

    base = term(sp.Integer(1)), claim.subs(pairs, 1).doit()
    more = known + term(pairs + 1), claim.subs(pairs, pairs + 1)
    yield Induction("pair by pair", base, more, {known: claim})


@formula(
    "embedding.norm",
    title="the squared norm of an embedding is half its dimension",
    lhs=sp.Symbol("e_norm", positive=True) ** 2,
    rhs=sp.sympify(pairs),
    citations=("Vaswani2017:3.5",),
    reference="refdiff.nets.embedding:sinusoidal",
    uses=("embedding.pair_product",),
    decoys=(
        Decoy("dimension", 2 * pairs, TIME, "every entry taken for ±1"),
        Decoy("one-less", pairs - 1, "index", "h − 1 pairs"),
    ),
)
def _norm(claim: sp.Expr) -> Iterator[Step]:
    """Each pair lies on the unit circle, at every level; induction over the pairs."""
    known = sp.Symbol("known", real=True)

    def circle(k: sp.Expr) -> sp.Expr:
        return sin(paces(k) * clock) ** 2 + cos(paces(k) * clock) ** 2

    base = circle(sp.Integer(1)), claim.subs(pairs, 1)
    more = known + circle(pairs + 1), claim.subs(pairs, pairs + 1)
    yield Induction("pair by pair", base, more, {known: claim})


@formula(
    "embedding.pair_distance",
    title="the squared distance of a pair at two levels",
    lhs=sp.Symbol("d_k", nonnegative=True) ** 2,
    rhs=4 * sin(pace * lag / 2) ** 2,
    reference="refdiff.nets.embedding:sinusoidal",
    uses=("embedding.pair_product", "embedding.norm"),
    decoys=(
        Decoy("whole-angle", 4 * sin(pace * lag) ** 2, TIME, "the angle, not half of it"),
        Decoy("arc", (pace * lag) ** 2, TIME, "the arc for the chord: right for near levels only"),
    ),
)
def _pair_distance(claim: sp.Expr) -> Iterator[Step]:
    """The chord of the angle. A pair comes back after 2π/ω, so that the lowest frequency tells far levels
    apart and the highest near ones."""
    yield Identity("two radii and their product", 2 - 2 * cos(pace * lag), claim)


@formula(
    "embedding.speed",
    title="how fast an embedding moves",
    lhs=sp.Symbol("e_speed", positive=True) ** 2,
    rhs=(1 - pace_ratio ** (2 * pairs)) / (1 - pace_ratio**2),
    citations=("SiT #24", "REPA #40"),
    reference="refdiff.nets.embedding:sinusoidal",
    uses=("embedding.frequency", "embedding.sine", "embedding.cosine"),
    decoys=(
        Decoy("not-squared", (1 - pace_ratio**pairs) / (1 - pace_ratio), "sqrt",
              "the sum of the frequencies, not of their squares"),
        Decoy("endless", 1 / (1 - pace_ratio**2), TIME, "the sum of endlessly many"),
        Decoy("norm", sp.sympify(pairs), TIME, "all frequencies 1"),
    ),
)  # fmt: skip
def _speed(claim: sp.Expr) -> Iterator[Step]:
    """The same at every level, the sum of the squared frequencies, whatever their number below 1/(1 − q²):
    all levels between 0 and 1 lie as near to each other as two steps of a chain of 1000."""
    known = sp.Symbol("known", real=True)
    velocity = sp.diff(sin(pace * clock), clock) ** 2 + sp.diff(cos(pace * clock), clock) ** 2

    def moving(k: sp.Expr) -> sp.Expr:
        return velocity.subs(pace, pace_ratio**k)

    base = moving(sp.Integer(0)), claim.subs(pairs, 1)
    more = known + moving(pairs), claim.subs(pairs, pairs + 1)
    yield Induction("frequency by frequency", base, more, {known: claim})
    yield Inequality("below that of endlessly many", 1 / (1 - pace_ratio**2), ">", sp.Integer(1))
