"""The discretised decoder L_0, its approximation by a density, and bits per dimension."""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations.kit import Decoy, Identity, Induction, Inequality, Series, Step, Substitution, formula
from derivations.symbols import before, bin_width, i, mu_hat, n, nats, sigma_t, x_0

HALF = sp.Rational(1, 2)
ROOT_2 = sp.sqrt(2)
BELOW = (x_0 - bin_width / 2 - mu_hat) / sigma_t
ABOVE = (x_0 + bin_width / 2 - mu_hat) / sigma_t
INTERIOR = (sp.erfc(BELOW / ROOT_2) - sp.erfc(ABOVE / ROOT_2)) / 2
FIRST = sp.erfc(-ABOVE / ROOT_2) / 2
LAST = sp.erfc(BELOW / ROOT_2) / 2
CDF = sp.Function("F", real=True)
PLACE, WIDTH = (x_0 - mu_hat) / sigma_t, bin_width / (2 * sigma_t)
"""The place z of the centre and half the width h of the bin, in standard deviations."""


def density(place: sp.Expr) -> sp.Expr:
    """The normal density of the decoder, its standardised argument given."""
    return sp.exp(-(place**2) / 2) / (sp.sqrt(2 * sp.pi) * sigma_t)


def edge(k: sp.Expr) -> sp.Expr:
    """The upper edge of bin k, of the n + 1 bins whose centres run from −1 to 1."""
    return -1 + (2 * k + 1) / n


@formula(
    "vlb.decoder_bins",
    title="probability of the bins up to bin i, for any decoder",
    lhs=sp.Sum(sp.Function("P")(sp.Symbol("k")), (sp.Symbol("k"), 0, i)),
    rhs=CDF(edge(i)),
    citations=("Ho2020:13", "S004:4.7"),
    reference="refdiff.vlb:discretized_gaussian_log_likelihood",
    decoys=(
        Decoy(
            "half-the-width", CDF(-1 + (2 * i + HALF) / n), "likelihood",
            "bins of width 1/255 around centres that are 2/255 apart: half of the mass is lost",
        ),
        Decoy(
            "first-bin-closed", CDF(edge(i)) - CDF(-1 - 1 / n), "likelihood",
            "the first bin ends at −1 − 1/255, and the mass below it is lost",
        ),
        Decoy("centres", CDF(-1 + 2 * i / n), "likelihood", "bins that end at the centres"),
    ),
)  # fmt: skip
def _decoder_bins(claim: sp.Expr) -> Iterator[Step]:
    """Centres −1 + 2k/n for k = 0 … n, with n = 255 for bytes, edges halfway between them, the first bin
    open below and the last open above. With an arbitrary distribution function F the sum telescopes; so
    all n + 1 bins together have probability 1."""
    first, more = CDF(edge(sp.Integer(0))), CDF(edge(i + 1)) - CDF(edge(i))
    total = sp.Symbol("S", real=True)
    yield Induction(
        "telescoping", (claim.subs(i, 0), first), (total + more, claim.subs(i, i + 1)), {total: claim}
    )
    last = 1 - CDF(edge(n - 1))
    yield Identity("with the last bin, open above", claim.subs(i, n - 1) + last, sp.Integer(1))
    yield Identity("edges halfway between centres", edge(i), (-1 + 2 * i / n) + 1 / n)


INTERIOR_DECOYS = (
    Decoy(
        "half-the-width", INTERIOR.subs(bin_width, bin_width / 2), "likelihood",
        "edges at x ± 1/510: the width of a bin taken for twice it",
    ),
    Decoy("density", density(PLACE), "likelihood", "the density, without the width of the bin", "S004:4.8"),
    Decoy(
        "rectangle", bin_width * density(PLACE), "likelihood",
        "the density at the centre times the width: a rectangle for the integral", "S004:4.8",
    ),
)  # fmt: skip


@formula(
    "vlb.decoder_interior",
    title="probability of an inner bin under the Gaussian decoder",
    lhs=sp.Symbol("P"),
    rhs=INTERIOR,
    citations=("Ho2020:13", "S004:4.7"),
    reference="refdiff.vlb:discretized_gaussian_log_likelihood",
    uses=("vlb.decoder_bins", "gaussian.log_density"),
    decoys=INTERIOR_DECOYS,
)
def _decoder_interior(claim: sp.Expr) -> Iterator[Step]:
    """A bin without width has no probability; as its edges move outwards, each at half the rate of the
    width, it gains the density at either edge."""
    yield Identity("no width, no probability", claim.subs(bin_width, 0), sp.Integer(0))
    gained = (density(ABOVE) + density(BELOW)) / 2
    yield Identity("the density at both edges", sp.diff(claim, bin_width), gained)


@formula(
    "vlb.decoder_first",
    title="probability of the first bin, which is open below",
    lhs=sp.Symbol("P"),
    rhs=FIRST,
    citations=("Ho2020:13", "S004:4.7"),
    reference="refdiff.vlb:discretized_gaussian_log_likelihood",
    uses=("vlb.decoder_bins", "gaussian.log_density"),
    decoys=(Decoy("closed", INTERIOR, "likelihood", "the first bin closed below"),),
)
def _decoder_first(claim: sp.Expr) -> Iterator[Step]:
    """It gains the density at its upper edge, and holds half of the mass when that edge is the mean, by
    symmetry."""
    yield Identity("the density at its edge", sp.diff(claim, bin_width), density(ABOVE) / 2)
    at_mean = claim.subs(x_0, mu_hat - bin_width / 2)
    yield Identity("half of the mass below the mean", at_mean, HALF)


@formula(
    "vlb.decoder_last",
    title="probability of the last bin, which is open above",
    lhs=sp.Symbol("P"),
    rhs=LAST,
    citations=("Ho2020:13", "S004:4.7"),
    reference="refdiff.vlb:discretized_gaussian_log_likelihood",
    uses=("vlb.decoder_bins", "gaussian.log_density"),
    decoys=(Decoy("closed", INTERIOR, "likelihood", "the last bin closed above"),),
)
def _decoder_last(claim: sp.Expr) -> Iterator[Step]:
    """It gains the density at its lower edge as that edge moves down, and holds half of the mass when that
    edge is the mean."""
    yield Identity("the density at its edge", sp.diff(claim, bin_width), density(BELOW) / 2)
    at_mean = claim.subs(x_0, mu_hat + bin_width / 2)
    yield Identity("half of the mass above the mean", at_mean, HALF)


def correction(z: sp.Expr, h: sp.Expr) -> sp.Expr:
    """log P minus the log of density times width, to fourth order in h."""
    return (z**2 - 1) * h**2 / 6 - (z**4 + 4 * z**2 - 2) * h**4 / 180


RECTANGLE = sp.log(bin_width) - PLACE**2 / 2 - sp.log(sigma_t) - sp.log(2 * sp.pi) / 2


@formula(
    "vlb.decoder_density",
    title="log-probability of a bin through the density at its centre, with the error's first two orders",
    lhs=sp.log(sp.Symbol("P")),
    rhs=RECTANGLE + correction(PLACE, WIDTH),
    citations=("S004:4.8",),
    reference="refdiff.vlb:density_log_likelihood",
    uses=("vlb.decoder_interior",),
    decoys=(
        Decoy(
            "first-order", RECTANGLE, "likelihood",
            "equal to second order in the width only: density times width", "S004:4.8",
        ),
        Decoy(
            "half-the-width", RECTANGLE - sp.log(2) + correction(PLACE, WIDTH), "likelihood",
            "1/255 for the width of a bin, which is 2/255",
        ),
        Decoy(
            "sign-of-second-order", RECTANGLE - correction(PLACE, WIDTH), "sign", "the correction reversed"
        ),
    ),
    mutate=False,  # a polynomial of nine terms and three logs; the decoys above cover its parts
)  # fmt: skip
def _decoder_density(claim: sp.Expr) -> Iterator[Step]:
    """In standard deviations let the centre be at z and the edges h below and above it. The probability grows
    with h by the density at both edges; divided by the density at the centre, its Taylor series in h has the
    even Hermite polynomials of z as coefficients. The logarithm of the quotient by density times width is
    even in h, so it is expanded in v = h²; it starts with (z² − 1)h²/6. So the density approximation is of
    second order in the width, at a fixed place."""
    z, h = sp.Symbol("z", real=True), sp.Symbol("h", positive=True)
    standard = sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi)
    probability = (sp.erfc((z - h) / ROOT_2) - sp.erfc((z + h) / ROOT_2)) / 2
    hermite_2, hermite_4 = z**2 - 1, z**4 - 6 * z**2 + 3
    powers = 2 * h + hermite_2 * h**3 / 3 + hermite_4 * h**5 / 60
    rate = sp.exp(-z * h - h**2 / 2) + sp.exp(z * h - h**2 / 2)
    grown = sp.diff(probability, h)
    yield Identity("the probability grows by the density at both edges", grown, standard * rate)
    yield Identity("from nothing", probability.subs(h, 0), sp.Integer(0))
    yield Series("the rate", rate, h, 6, sp.expand(sp.diff(powers, h)))
    quotient = 1 + hermite_2 * h**2 / 6 + hermite_4 * h**4 / 120
    yield Identity("divided by density times width", powers, 2 * h * quotient)
    v = sp.Symbol("v", positive=True)
    even, error = (expr.subs(h, sp.sqrt(v)) for expr in (quotient, correction(z, h)))
    yield Series("its logarithm, in v = h²", sp.log(even), v, 3, error)
    placed = claim.subs({x_0: mu_hat + z * sigma_t, bin_width: 2 * h * sigma_t}, simultaneous=True)
    rectangle = sp.log(2 * h) - z**2 / 2 - sp.log(2 * sp.pi) / 2
    yield Identity("is what the claim adds to the rectangle", placed - rectangle, correction(z, h))


Z, H = sp.Symbol("z", real=True), sp.Symbol("h", positive=True)
U, S = sp.Symbol("u", real=True), sp.Symbol("s", real=True)
PLACED = {x_0: mu_hat + Z * sigma_t, bin_width: 2 * H * sigma_t}


@formula(
    "vlb.decoder_density_lower",
    title="the rectangle is at most so much too large: a lower bound of log P − log(density · width)",
    lhs=sp.Symbol("lower"),
    rhs=-(WIDTH**2) / 6,
    citations=("S004:4.8",),
    reference="refdiff.vlb:density_log_likelihood",
    uses=("vlb.decoder_density",),
    decoys=(
        Decoy("whole-width", -((2 * WIDTH) ** 2) / 6, "likelihood", "the width where half of it belongs"),
    ),
)
def _decoder_density_lower(claim: sp.Expr) -> Iterator[Step]:
    """P over density times width is the mean of e^g over s between −h and h, with g = −zs − s²/2. By
    Jensen's inequality it is at least e to the mean of g, for bins of any width. Jensen: e^u lies above its
    tangent 1 + u, since along the segment from 0 to u their difference starts at 0 with slope 0 and has the
    second derivative u²·e^{tu}, which is not negative."""
    antiderivative = -Z * S**2 / 2 - S**3 / 6
    yield Identity("an antiderivative of g", sp.diff(antiderivative, S), -Z * S - S**2 / 2)
    mean = (antiderivative.subs(S, H) - antiderivative.subs(S, -H)) / (2 * H)
    yield Identity("the mean of g", mean, claim.subs(PLACED, simultaneous=True))
    t = sp.Symbol("t", real=True)
    above = sp.exp(t * U) - 1 - t * U
    yield Identity("the second derivative along the segment", sp.diff(above, t, 2), U**2 * sp.exp(t * U))
    yield Identity("from 0", above.subs(t, 0), sp.Integer(0))
    yield Identity("with slope 0", sp.diff(above, t).subs(t, 0), sp.Integer(0))


@formula(
    "vlb.decoder_density_upper",
    title="the rectangle is at most so much too small: an upper bound of log P − log(density · width)",
    lhs=sp.Symbol("upper"),
    rhs=PLACE**2 * WIDTH**2 / 6,
    citations=("S004:4.8",),
    reference="refdiff.vlb:density_log_likelihood",
    uses=("vlb.decoder_density",),
    decoys=(
        Decoy("place-forgotten", WIDTH**2 / 6, "likelihood", "as if the place of the bin did not matter"),
    ),
)
def _decoder_density_upper(claim: sp.Expr) -> Iterator[Step]:
    """The same mean is at most that of e^{−zs}, which is sinh(x)/x with x = zh. Both that and e^{x²/6} are
    power series in x²; their differential equations give the ratios of successive coefficients, 1/((2k +
    2)(2k + 3)) and 1/(6(k + 1)). Both series start with 1, and no ratio of the first exceeds that of the
    second, so no term does."""
    x, k = sp.Symbol("x", positive=True), before
    yield Identity("an antiderivative", sp.diff(-sp.exp(-Z * S) / Z, S), sp.exp(-Z * S))
    mean = (sp.exp(Z * H) - sp.exp(-Z * H)) / (2 * Z * H)
    yield Identity("the mean of e^{−zs}", (-sp.exp(-Z * H) / Z + sp.exp(Z * H) / Z) / (2 * H), mean)
    slope_over_x = (sp.exp(x) - sp.exp(-x)) / (2 * x)
    f = sp.Function("f", real=True)(x)
    equation = x * sp.diff(f, x, 2) + 2 * sp.diff(f, x) - x * f
    yield Substitution("the equation of sinh(x)/x", equation, {f: slope_over_x})
    bound = sp.exp(claim.subs(PLACED, simultaneous=True).subs(Z, x / H))
    yield Substitution("the equation of the bound", 3 * sp.diff(f, x) - x * f, {f: bound})
    yield Identity("which is 1 at 0", bound.subs(x, 0), sp.Integer(1))
    first = (2 * k + 2) * (2 * k + 1) + 2 * (2 * k + 2)
    yield Identity("coefficient k + 1 into coefficient k of the first", first, (2 * k + 2) * (2 * k + 3))
    quotient = 6 * (k + 1) / ((2 * k + 2) * (2 * k + 3))
    yield Identity("the ratio of the ratios", quotient, 3 / (2 * k + 3))
    yield Inequality("at most 1", sp.Integer(1), ">=", 3 / (2 * k + 3))


@formula(
    "vlb.bits_per_dim",
    title="bits per dimension of data in bins, from a density",
    lhs=sp.Symbol("bits"),
    rhs=(nats - sp.log(bin_width)) / sp.log(2),
    citations=("Theis2016:2", "Song2021sde:app.D"),
    reference="refdiff.vlb:density_bits_per_dim",
    decoys=(
        Decoy("nats", nats - sp.log(bin_width), "likelihood", "nats, not bits"),
        Decoy(
            "offset-missing", nats / sp.log(2), "data-scaling", "the unit of the density is forgotten"
        ),
        Decoy(
            "offset-subtracted", (nats + sp.log(bin_width)) / sp.log(2), "sign", "the offset subtracted"
        ),
        Decoy(
            "offset-of-the-unit-interval", nats / sp.log(2) + 8, "data-scaling",
            "8 bits, the offset of data in [0, 1], whatever the scale", "score_sde likelihood.py",
        ),
    ),
)  # fmt: skip
def _bits_per_dim(claim: sp.Expr) -> Iterator[Step]:
    """Measured in bins, data are y = (x − b)/Δ, and the density of y is Δ times that of x: differentiate
    an arbitrary distribution function. A bin has the unit width in y, so minus the binary logarithm of the
    density of y is the code length of a bin. Bytes with uniform noise in [−1, 1] have bins of 2/256 and an
    offset of 7 bits; in [0, 1] of 8; centres from −1 to 1 have bins of 2/255."""
    y, b = sp.Symbol("y", real=True), sp.Symbol("b", real=True)
    share = CDF(b + bin_width * y)
    yield Identity("the density in bins", sp.diff(share, y), bin_width * sp.diff(share, b))
    q = sp.Symbol("q", positive=True)
    code = -sp.log(bin_width * q) / sp.log(2)
    yield Identity("minus its binary logarithm, q being the density of x", claim.subs(nats, -sp.log(q)), code)
    offset = claim - claim.subs(bin_width, 1)
    seven = offset.subs(bin_width, sp.Rational(2, 256))
    yield Identity("bytes with noise in [−1, 1]", seven, sp.Integer(7))
    yield Identity("in [0, 1]", offset.subs(bin_width, sp.Rational(1, 256)), sp.Integer(8))
    byte = offset.subs(bin_width, sp.Rational(2, 255))
    yield Identity("bytes from −1 to 1", byte, (sp.log(255) - sp.log(2)) / sp.log(2))
