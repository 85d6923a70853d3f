"""Rigorous values of SymPy expressions: ball arithmetic at exact rationals.

A subexpression that is rational stays an exact fraction; everything else is an Arb ball that certainly holds
the true value. The precision doubles until the question asked (digits, a rounding, a sign) is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import count
from typing import TypeAlias, TypeVar

import sympy
from flint import arb, ctx, fmpq, fmpz
from sympy.core.function import AppliedUndef, UndefinedFunction

Ball: TypeAlias = Callable[[int], arb]
Value: TypeAlias = int | Fraction | sympy.Expr | Ball
Values: TypeAlias = Mapping[sympy.Basic, Value]
Number: TypeAlias = fmpq | arb

FIRST_BITS = 192
LAST_BITS = 49152
EXACT_BITS = 65536  # an exact fraction larger than this goes on as a ball

T = TypeVar("T")


class BallError(ValueError):
    """The expression has no value that ball arithmetic can enclose."""


class UndecidedError(BallError):
    """The ball is too wide to decide; more precision may help."""


@dataclass(frozen=True)
class Certified:
    """A correctly rounded decimal, its rigorous radius, and the nearest float64 in hex."""

    value: str
    radius: str
    float64: str


def evaluate(expr: sympy.Basic | int, values: Values | None = None, digits: int = 50) -> arb:
    """Ball around the value of `expr` whose relative radius is below 10^-digits.

    Args:
        expr: any expression of +, *, powers, exp, log, cos, tanh, erf, pi, Min, Max, Abs, Piecewise, ...
        values: for every symbol (or other subexpression) an int, a Fraction, an expression without free
            symbols, or a function from bits to a ball; for an undefined function of integers such as beta(i),
            a Python function from integers to one of these.
        digits: decimal digits that the ball must decide.

    Returns:
        The ball. Its decimal form is `decimal(ball)`.

    Raises:
        BallError: a float, a symbol without a value, a division by 0, a value outside a function's domain,
            or a value that cannot be told from 0.
    """
    return _adaptive(expr, values, lambda ball: _narrow(ball, digits))


def certify(expr: sympy.Basic | int, values: Values | None = None, digits: int = 50) -> Certified:
    """Correctly rounded decimal with radius, and nearest float64, of the value of `expr`."""
    return _adaptive(expr, values, lambda ball: certified(ball, digits))


def sign(expr: sympy.Basic | int, values: Values | None = None) -> int:
    """Sign of the value of `expr`, decided rigorously; 0 only when the value is an exact 0."""
    return _adaptive(expr, values, _sign)


def enclosure(expr: sympy.Basic | int, values: Values | None = None, bits: int = FIRST_BITS) -> arb:
    """Ball around the value of `expr` from one evaluation at `bits` of working precision."""
    with ctx.workprec(bits):
        return arb(_number(sympy.sympify(expr), values or {}, bits))


def certified(ball: arb, digits: int = 50) -> Certified:
    """The three printed forms of a ball, each decided by both of its ends; else UndecidedError."""
    value = decimal(ball, digits)
    return Certified(value, radius(value), float64_hex(ball))


def decimal(ball: arb, digits: int = 50) -> str:
    """Decimal of `digits` significant digits nearest to every number in the ball."""
    low, high, exponent = _ends(ball)
    if low == high == 0:
        return "0"
    if low <= 0 <= high:
        raise UndecidedError(f"the ball {ball} contains 0, so it has no leading digit")
    first = _round(low, exponent, digits)
    if low != high and first != _round(high, exponent, digits):
        raise UndecidedError(f"the ball {ball} does not decide {digits} digits")
    return first


def radius(value: str) -> str:
    """Half a unit in the last place of a decimal written by `decimal`: the radius of its rounding."""
    if value == "0":
        return "0"
    mantissa, _, exponent = value.partition("e")
    places = len(mantissa.partition(".")[2])
    return f"5e{int(exponent or 0) - places - 1}"


def float64_hex(ball: arb) -> str:
    """The float64 nearest to every number in the ball, as float.hex writes it."""
    low, high, exponent = _ends(ball)
    scale = (1 << max(exponent, 0), 1 << max(-exponent, 0))
    nearest = low * scale[0] / scale[1]
    if low != high and nearest != high * scale[0] / scale[1]:
        raise UndecidedError(f"the ball {ball} does not decide the nearest float64")
    return nearest.hex()


def _adaptive(expr: sympy.Basic | int, values: Values | None, decide: Callable[[arb], T]) -> T:
    bits = FIRST_BITS
    while True:
        try:
            with ctx.workprec(bits):
                return decide(enclosure(expr, values, bits))
        except UndecidedError as error:
            if bits >= LAST_BITS:
                raise BallError(f"{error} (at {bits} bits of precision)") from None
            bits *= 2


def _narrow(ball: arb, digits: int) -> arb:
    low, high, _ = _ends(ball)
    if low < 0 < high:
        raise UndecidedError(f"the ball {ball} contains 0, so it has no relative radius")
    if low != high and (high - low) * 10**digits >= 2 * min(abs(low), abs(high)):
        raise UndecidedError(f"the ball {ball} does not reach {digits} digits")
    return ball


def _sign(ball: arb) -> int:
    if ball.is_zero():
        return 0
    if ball.contains(0):
        raise UndecidedError(f"the ball {ball} does not decide a sign")
    return 1 if ball > 0 else -1


def _ends(ball: arb) -> tuple[int, int, int]:
    """Integers (low, high, exponent): the ball is [low, high] times 2^exponent."""
    if not ball.is_finite():
        raise BallError(f"the ball {ball} is not finite")
    (middle, e), (width, f) = (tuple(map(int, end.man_exp())) for end in (ball.mid(), ball.rad()))
    exponent = min(e, f) if width else e
    middle, width = middle << (e - exponent), width << (f - exponent) if width else 0
    return middle - width, middle + width, exponent


def _round(number: int, exponent: int, digits: int) -> str:
    """number * 2^exponent with `digits` significant digits, nearest, a tie to even, trailing zeros kept."""
    size, minus = abs(number), "-" if number < 0 else ""
    power = (size.bit_length() + exponent - 1) * 30103 // 100000  # of ten, or one below it
    integer = _scaled(size, exponent, digits - 1 - power)
    while integer >= 10**digits:
        power += 1
        integer = _scaled(size, exponent, digits - 1 - power)
    text = str(integer)
    return f"{minus}{text[0]}.{text[1:]}e{power}" if digits > 1 else f"{minus}{text}e{power}"


def _scaled(size: int, exponent: int, tens: int) -> int:
    """size * 2^exponent * 10^tens rounded to the nearest integer, a tie to even."""
    numerator: int = size * 10 ** max(tens, 0) << max(exponent, 0)
    denominator: int = 10 ** max(-tens, 0) << max(-exponent, 0)
    quotient, rest = divmod(numerator, denominator)
    up = 2 * rest > denominator or (2 * rest == denominator and quotient % 2 == 1)
    return quotient + 1 if up else quotient


class _Point:
    """The values and the precision at which a compiled expression is evaluated."""

    __slots__ = ("bits", "numbers", "seen", "values")

    def __init__(self, values: Values, bits: int) -> None:
        self.values, self.bits = values, bits
        self.numbers: dict[sympy.Basic, Number] = {}
        self.seen: dict[int, Number] = {}

    def value(self, name: sympy.Basic) -> Number:
        if name not in self.numbers:
            self.numbers[name] = self._number(name)
        return self.numbers[name]

    def _number(self, name: sympy.Basic) -> Number:
        if name not in self.values:
            raise BallError(f"symbol {name} has no value")
        value = self.values[name]
        if isinstance(value, int | Fraction) and not isinstance(value, bool):
            return fmpq(value.numerator, value.denominator)
        if isinstance(value, sympy.Basic):
            return _number(value, {}, self.bits)
        if callable(value):
            return arb(value(self.bits))
        raise BallError(f"value {value!r}: give an int or a Fraction, not {type(value).__name__}")


Compiled: TypeAlias = Callable[[_Point], Number]


def _number(expr: sympy.Basic, values: Values, bits: int) -> Number:
    compound = {key: value for key, value in values.items() if not isinstance(key, NAMES)}
    if compound:
        names = {key: sympy.Symbol(f"[{key}]") for key in compound}
        expr = expr.xreplace(names)
        values = {names.get(key, key): value for key, value in values.items()}
    return _compile(expr)(_Point(values, bits))


@lru_cache(maxsize=1 << 16)
def _compile(expr: sympy.Basic) -> Compiled:
    """The expression as nested functions of the point; equal expressions are compiled and evaluated once."""
    for kind, build in ATOMS:
        if isinstance(expr, kind):
            return build(expr)
    evaluate_once, key = _compound(expr), next(KEYS)

    def remembered(point: _Point) -> Number:
        if key not in point.seen:
            point.seen[key] = evaluate_once(point)
        return point.seen[key]

    return remembered


def _compound(expr: sympy.Basic) -> Compiled:
    for kind, build in BUILDERS:
        if isinstance(expr, kind):
            return build(expr)
    if type(expr) in CONSTANTS:
        constant = CONSTANTS[type(expr)]
        return lambda point: constant()
    if type(expr) in FUNCTIONS:
        return _function(expr)
    raise BallError(f"cannot evaluate {expr}: {type(expr).__name__} is not known to ball arithmetic")


def _float(expr: sympy.Basic) -> Compiled:
    raise BallError(f"{expr} is a float: write a Rational")


def _rational(expr: sympy.Basic) -> Compiled:
    number = fmpq(int(expr.p), int(expr.q))
    return lambda point: number


def _symbol(expr: sympy.Basic) -> Compiled:
    return lambda point: point.value(expr)


def _add(expr: sympy.Basic) -> Compiled:
    first, *rest = [_compile(argument) for argument in expr.args]

    def total(point: _Point) -> Number:
        result = first(point)
        for term in rest:
            result = result + term(point)
        return _bounded(result)

    return total


def _mul(expr: sympy.Basic) -> Compiled:
    first, *rest = [_compile(argument) for argument in expr.args]

    def product(point: _Point) -> Number:
        result = first(point)
        for factor in rest:
            result = result * factor(point)
        return _bounded(result)

    return product


def _power(expr: sympy.Basic) -> Compiled:
    inner_base, inner_exponent = (_compile(argument) for argument in expr.args)

    def power(point: _Point) -> Number:
        base, exponent = inner_base(point), inner_exponent(point)
        if isinstance(base, fmpq) and base == 0:
            return _power_of_zero(expr, exponent)
        if isinstance(exponent, fmpq) and exponent.q == 1:
            return _integer_power(expr, base, int(exponent.p))
        if base < 0:
            raise BallError(f"{expr} is not real: its base is {base}")
        if isinstance(exponent, fmpq) and exponent.q == 2:
            return _integer_power(expr, _square_root(base), int(exponent.p))
        return _finite(expr, (arb(base).log() * arb(exponent)).exp(), [base, exponent])

    return power


def _power_of_zero(expr: sympy.Basic, exponent: Number) -> Number:
    if exponent == 0 or exponent > 0:
        return fmpq(0 if exponent > 0 else 1)
    raise BallError(f"division by zero: {expr.args[0]} is exactly 0 in {expr}")


def _integer_power(expr: sympy.Basic, base: Number, exponent: int) -> Number:
    if isinstance(base, arb) and not base.is_finite():
        raise UndecidedError(f"{expr} is not finite: {expr.args[0]} reaches the end of the domain")
    if exponent >= 0:
        return _bounded(base**exponent)
    if isinstance(base, arb) and base.contains(0):
        raise UndecidedError(f"division by a ball that contains 0: {expr.args[0]} = {base}")
    return 1 / _bounded(base**-exponent)


def _range(expr: sympy.Basic) -> Compiled:
    if len(expr.limits) > 1:
        raise BallError(f"{expr}: one index at a time")
    index, *ends = expr.limits[0]
    body, low, high = _compile(expr.function), *map(_compile, ends)
    product = isinstance(expr, sympy.Product)

    def ranged(point: _Point) -> Number:
        result: Number = fmpq(1 if product else 0)
        for k in range(_integer(expr, low(point)), _integer(expr, high(point)) + 1):
            term = body(_Point({**point.values, index: k}, point.bits))
            result = _bounded(result * term if product else result + term)
        return result

    return ranged


def _integer(expr: sympy.Basic, number: Number) -> int:
    if isinstance(number, arb) or number.q != 1:
        raise BallError(f"an index of {expr} is {number}, not an integer")
    return int(number.p)


def _table(expr: sympy.Basic) -> Compiled:
    """A function of integers, such as beta(i), whose value is a Python function."""
    inner = [_compile(argument) for argument in expr.args]

    def entry(point: _Point) -> Number:
        function = point.values.get(expr.func)
        if not callable(function):
            raise BallError(f"cannot evaluate {expr}: {expr.func} is not known to ball arithmetic")
        indices = [_integer(expr, argument(point)) for argument in inner]
        return _Point({expr: function(*indices)}, point.bits).value(expr)

    return entry


def _piecewise(expr: sympy.Basic) -> Compiled:
    branches = [(_compile(value), _condition(test)) for value, test in expr.args]

    def chosen(point: _Point) -> Number:
        for value, holds in branches:
            if holds(point):
                return value(point)
        raise BallError(f"no branch of {expr} holds")

    return chosen


def _condition(test: sympy.Basic) -> Callable[[_Point], bool]:
    if test in (sympy.true, sympy.false):
        return lambda point: bool(test)
    if isinstance(test, sympy.And | sympy.Or):
        parts, join = [_condition(part) for part in test.args], all if isinstance(test, sympy.And) else any
        return lambda point: join(part(point) for part in parts)
    if isinstance(test, sympy.Not):
        inner = _condition(test.args[0])
        return lambda point: not inner(point)
    if type(test) not in RELATIONS:
        raise BallError(f"cannot decide the condition {test}")
    left, right = (_compile(side) for side in test.args)
    relation = RELATIONS[type(test)]
    return lambda point: relation(_sign(arb(left(point) - right(point))))


def _function(expr: sympy.Basic) -> Compiled:
    inner = [_compile(argument) for argument in expr.args]
    apply, odd = FUNCTIONS[type(expr)], isinstance(expr, ODD)

    def value(point: _Point) -> Number:
        arguments = [argument(point) for argument in inner]
        if odd and arguments[0] == 0:
            return fmpq(0)
        return _finite(expr, apply(*map(arb, arguments)), arguments)

    return value


def _finite(expr: sympy.Basic, result: arb, arguments: list[Number]) -> arb:
    if result.is_finite():
        return result
    exact = all(isinstance(argument, fmpq) for argument in arguments)
    shown = ", ".join(str(argument) for argument in arguments)
    raise (BallError if exact else UndecidedError)(f"{expr} is not finite at {shown}")


def _bounded(number: Number) -> Number:
    """A ball that is exactly 0 goes on as a fraction; a fraction that has grown huge, as a ball."""
    if isinstance(number, arb):
        return fmpq(0) if number.is_zero() else number
    return arb(number) if int(number.height_bits()) > EXACT_BITS else number


def _square_root(number: Number) -> Number:
    if isinstance(number, arb):
        return number.sqrt()
    p, q = fmpz(number.p).isqrt(), fmpz(number.q).isqrt()
    return fmpq(p, q) if p * p == number.p and q * q == number.q else arb(number).sqrt()


def _smaller(*balls: arb) -> arb:
    result = balls[0]
    for ball in balls[1:]:
        result = result.min(ball)
    return result


def _larger(*balls: arb) -> arb:
    return -_smaller(*[-ball for ball in balls])


def _whole(ball: arb, down: bool) -> arb:
    result = ball.floor() if down else ball.ceil()
    if not result.is_exact():
        raise UndecidedError(f"the ball {ball} does not decide the integer next to it")
    return result


RELATIONS: dict[type, Callable[[int], bool]] = {
    sympy.StrictLessThan: lambda s: s < 0,
    sympy.LessThan: lambda s: s <= 0,
    sympy.StrictGreaterThan: lambda s: s > 0,
    sympy.GreaterThan: lambda s: s >= 0,
    sympy.Equality: lambda s: s == 0,
    sympy.Unequality: lambda s: s != 0,
}
CONSTANTS: dict[type, Callable[[], arb]] = {
    type(sympy.pi): arb.pi,
    type(sympy.E): arb.const_e,
    type(sympy.EulerGamma): arb.const_euler,
}
FUNCTIONS: dict[type, Callable[..., arb]] = {
    sympy.exp: lambda x: x.exp(),
    sympy.log: lambda x: x.log(),
    sympy.sin: lambda x: x.sin(),
    sympy.cos: lambda x: x.cos(),
    sympy.tan: lambda x: x.tan(),
    sympy.asin: lambda x: x.asin(),
    sympy.acos: lambda x: x.acos(),
    sympy.atan: lambda x: x.atan(),
    sympy.sinh: lambda x: x.sinh(),
    sympy.cosh: lambda x: x.cosh(),
    sympy.tanh: lambda x: x.tanh(),
    sympy.atanh: lambda x: x.atanh(),
    sympy.asinh: lambda x: x.asinh(),
    sympy.acosh: lambda x: x.acosh(),
    sympy.erf: lambda x: x.erf(),
    sympy.erfc: lambda x: x.erfc(),
    sympy.gamma: lambda x: x.gamma(),
    sympy.Abs: lambda x: abs(x),
    sympy.sign: lambda x: arb(_sign(x)),
    sympy.Heaviside: lambda x, at_zero: arb((_sign(x) + 1) // 2) if _sign(x) else at_zero,
    sympy.Min: _smaller,
    sympy.Max: _larger,
    sympy.floor: lambda x: _whole(x, True),
    sympy.ceiling: lambda x: _whole(x, False),
}
ODD = (
    *(sympy.sin, sympy.tan, sympy.sinh, sympy.tanh, sympy.erf),
    *(sympy.asin, sympy.atan, sympy.asinh, sympy.atanh),
)
ATOMS: tuple[tuple[type, Callable[[sympy.Basic], Compiled]], ...] = (
    (sympy.Float, _float),
    (sympy.Rational, _rational),
    (sympy.Symbol, _symbol),
)
BUILDERS: tuple[tuple[type, Callable[[sympy.Basic], Compiled]], ...] = (
    (sympy.Add, _add),
    (sympy.Mul, _mul),
    (sympy.Pow, _power),
    (sympy.Sum, _range),
    (sympy.Product, _range),
    (sympy.Piecewise, _piecewise),
    (AppliedUndef, _table),
)
KEYS = count()
NAMES = (sympy.Symbol, UndefinedFunction)
