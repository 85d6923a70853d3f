"""Ball arithmetic encloses the truth, decides its digits and refuses what has no value."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import mpmath
import pytest
import sympy
from flint import arb, ctx, fmpq
from hypothesis import given
from hypothesis import strategies as st

from derivations.kit.ball import BallError, certify, decimal, enclosure, evaluate, float64_hex, sign

x, y = sympy.symbols("x y")
NEARLY_ZERO = sympy.sqrt(x) * sympy.sqrt(x + 1) - sympy.sqrt(y)
POSITIVE = st.fractions(min_value=Fraction(1, 1000), max_value=1000, max_denominator=10**6)
FUNCTIONS = {
    "algebraic": (sympy.sqrt(x) * (1 - x / (x + y)), lambda m, a, b: m.sqrt(a) * (1 - a / (a + b))),
    "transcendental": (sympy.exp(-x) * sympy.log(1 + y), lambda m, a, b: m.exp(-a) * m.log(1 + b)),
    "bounded": (2 + sympy.tanh(x) + sympy.cos(sympy.pi * y), lambda m, a, b: 2 + m.tanh(a) + m.cos(m.pi * b)),
    "erf": (sympy.erf(x) + y ** sympy.Rational(1, 3), lambda m, a, b: m.erf(a) + m.cbrt(b)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@given(a=POSITIVE, b=POSITIVE)
def test_certified_value_agrees_with_an_independent_evaluation(name: str, a: Fraction, b: Fraction) -> None:
    expr, other = FUNCTIONS[name]
    result = certify(expr, {x: a, y: b}, digits=40)
    with mpmath.workdps(80):
        wanted = other(mpmath, *(mpmath.mpf(v.numerator) / v.denominator for v in (a, b)))
        assert abs(mpmath.mpf(result.value) - wanted) <= mpmath.mpf(result.radius)
        assert float.fromhex(result.float64) == float(wanted)


@given(value=st.fractions(min_value=-(10**6), max_value=10**6), digits=st.integers(1, 60))
def test_decimal_is_within_half_a_unit_of_the_last_place(value: Fraction, digits: int) -> None:
    result = certify(sympy.Rational(value.numerator, value.denominator), digits=digits)
    assert abs(Fraction(result.value) - value) <= Fraction(result.radius)
    if value:
        assert Fraction(result.radius) <= abs(Fraction(result.value)) * 5 / 10**digits
        assert len(Decimal(result.value).as_tuple().digits) == digits


@given(value=st.fractions())
def test_nearest_float64_is_the_correctly_rounded_one(value: Fraction) -> None:
    assert float.fromhex(certify(x, {x: value}).float64) == value.numerator / value.denominator


def test_relative_radius_is_reached_through_cancellation() -> None:
    tiny = Fraction(1, 10**40)
    ball = evaluate(sympy.sqrt(1 + x) - 1 - x / 2 + x**2 / 8, {x: tiny}, digits=50)
    assert decimal(ball, 50).startswith("6.2499999999999999999999999999999999999996093750000")
    assert ball.rel_accuracy_bits() > 166


def test_the_rounding_is_refused_by_a_ball_too_wide() -> None:
    wide = arb(1, Fraction(1, 10**10).numerator / 10**10)
    for rounding in (lambda: decimal(wide, 20), lambda: float64_hex(wide)):
        with pytest.raises(BallError, match="does not decide"):
            rounding()


def test_a_tie_between_two_doubles_is_exact_and_goes_to_even() -> None:
    tie = 1 + Fraction(1, 2**53)
    assert certify(x, {x: tie}).float64 == "0x1.0000000000000p+0"
    above = certify(sympy.sqrt(x**2 + y), {x: tie, y: Fraction(1, 10**70)})
    assert above.float64 == "0x1.0000000000001p+0"


def test_sign_decides_exact_zero_and_the_smallest_difference() -> None:
    assert sign(x - sympy.sqrt(x) ** 2, {x: Fraction(2, 3)}) == 0
    assert sign(sympy.sqrt(2) - x, {x: Fraction(14142135623730951, 10**16)}) == -1


def test_a_value_may_be_a_function_of_precision() -> None:
    def root_two(bits: int) -> arb:
        return arb(2).sqrt()

    assert certify(x**2, {x: root_two}, 40).value == "2." + "0" * 39 + "e0"


def test_an_expression_key_takes_its_value() -> None:
    f = sympy.Function("f")
    assert evaluate(f(x) + 1, {f(x): 2}) == 3


def test_exact_zero_is_an_exact_zero() -> None:
    assert certify((1 - x) * sympy.sqrt(y), {x: 1, y: 2}).value == "0"


def test_sums_products_and_branches() -> None:
    k = sympy.Symbol("k")
    assert enclosure(sympy.Sum(k**2, (k, 1, x)), {x: 4}) == 30
    assert enclosure(sympy.Product(1 - k * x, (k, 1, 3)), {x: Fraction(1, 10)}).overlaps(arb(fmpq(63, 125)))
    assert evaluate(sympy.Piecewise((1 / x, x > 0), (y, True)), {x: 0, y: 7}) == 7
    assert evaluate(sympy.Min(x, y, 3) + sympy.Max(x, y), {x: 5, y: 1}) == 6


REFUSED = {
    "division by zero: x - y is exactly 0": (1 / (x - y), {x: 1, y: 1}),
    "division by a ball that contains 0": (1 / NEARLY_ZERO, {x: 2, y: 6}),
    "is a float": (x * sympy.Float("0.5"), {x: 1}),
    "symbol y has no value": (x + y, {x: 1}),
    "not float": (x, {x: 0.5}),
    "log.x. is not finite at 0": (sympy.log(x), {x: 0}),
    "not real": (sympy.sqrt(x), {x: -1}),
    "exp.x.* is not real: its base is": (sympy.sqrt(-sympy.exp(x)), {x: 1}),
    "f is not known": (sympy.Function("f")(x), {x: 1}),
    "contains 0, so it has no relative radius": (NEARLY_ZERO, {x: 2, y: 6}),
    "no branch": (sympy.Piecewise((x, x > 3)), {x: 1}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_has_no_value_is_refused_by_name(message: str) -> None:
    expr, values = REFUSED[message]
    with pytest.raises(BallError, match=message):
        evaluate(expr, values)


def test_precision_of_the_caller_is_left_alone() -> None:
    before = ctx.prec
    evaluate(sympy.exp(x), {x: 1}, digits=200)
    assert ctx.prec == before


def test_a_function_of_integers_takes_its_table() -> None:
    k, beta = sympy.Symbol("k"), sympy.Function("beta")
    table = {1: Fraction(1, 10), 2: Fraction(1, 5)}
    product = sympy.Product(1 - beta(k), (k, 1, x))
    assert enclosure(product, {x: 2, beta: lambda index: table[index]}).overlaps(arb(fmpq(18, 25)))
