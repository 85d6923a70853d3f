"""Rigorous values of SymPy expressions: ball arithmetic at exact rationals.

A subexpression that is rational stays an exact fraction; everything else is an Arb ball that certainly holds
the true value. The precision doubles until the question asked (digits, a rounding, a sign) is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias, TypeVar

import sympy
from flint import arb, ctx, fmpq, fmpz

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
            symbols, or a function from bits to a ball.
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
        return arb(_Evaluator(values or {}, bits).number(sympy.sympify(expr)))


def certified(ball: arb, digits: int = 50) -> Certified:
    """The three printed forms of a ball, each decided by both of its ends; else UndecidedError."""
    value = decimal(ball, digits)
    return Certified(value, radius(value), float64_hex(ball))


def decimal(ball: arb, digits: int = 50) -> str:
    """Decimal of `digits` significant digits nearest to every number in the ball."""
    low, high = _ends(ball)
    if low == high == 0:
        return "0"
    if low <= 0 <= high:
        raise UndecidedError(f"the ball {ball} contains 0, so it has no leading digit")
    first, last = _round(low, digits), _round(high, digits)
    if first != last:
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
    low, high = (end.numerator / end.denominator for end in _ends(ball))
    if low != high:
        raise UndecidedError(f"the ball {ball} does not decide the nearest float64")
    return low.hex()


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
    low, high = _ends(ball)
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


def _ends(ball: arb) -> tuple[Fraction, Fraction]:
    if not ball.is_finite():
        raise BallError(f"the ball {ball} is not finite")
    middle, width = _dyadic(ball.mid()), _dyadic(ball.rad())
    return middle - width, middle + width


def _dyadic(number: arb) -> Fraction:
    mantissa, exponent = (int(part) for part in number.man_exp())
    return Fraction(mantissa) * Fraction(2) ** exponent


def _round(number: Fraction, digits: int) -> str:
    """Scientific notation with `digits` significant digits, nearest, a tie to even, trailing zeros kept."""
    size = abs(number)
    exponent = len(str(size.numerator)) - len(str(size.denominator))
    exponent -= size < Fraction(10) ** exponent
    integer = round(size * Fraction(10) ** (digits - 1 - exponent))
    if integer == 10**digits:
        integer, exponent = 10 ** (digits - 1), exponent + 1
    text = str(integer)
    minus = "-" if number < 0 else ""
    return f"{minus}{text[0]}.{text[1:]}e{exponent}" if digits > 1 else f"{minus}{text}e{exponent}"


class _Evaluator:
    """One pass over an expression at one precision; equal subexpressions are evaluated once."""

    def __init__(self, values: Values, bits: int) -> None:
        self.values = {sympy.sympify(key): value for key, value in values.items()}
        self.bits = bits
        self.seen: dict[sympy.Basic, Number] = {}

    def number(self, expr: sympy.Basic) -> Number:
        if expr not in self.seen:
            result = self._value(self.values[expr]) if expr in self.values else self._visit(expr)
            if isinstance(result, arb) and not result.is_finite():
                raise UndecidedError(f"{expr} is not finite: its argument reaches the end of the domain")
            self.seen[expr] = arb(result) if _huge(result) else result
        return self.seen[expr]

    def ball(self, expr: sympy.Basic) -> arb:
        return arb(self.number(expr))

    def _value(self, value: Value) -> Number:
        if isinstance(value, bool | float | complex):
            raise BallError(f"value {value!r}: give an int or a Fraction, not {type(value).__name__}")
        if isinstance(value, int | Fraction):
            return fmpq(value.numerator, value.denominator)
        if isinstance(value, sympy.Basic):
            return _Evaluator({}, self.bits).number(value)
        if callable(value):
            return arb(value(self.bits))
        raise BallError(f"value {value!r}: give an int or a Fraction, not {type(value).__name__}")

    def _visit(self, expr: sympy.Basic) -> Number:
        if isinstance(expr, sympy.Rational):
            return fmpq(int(expr.p), int(expr.q))
        if isinstance(expr, sympy.Float):
            raise BallError(f"{expr} is a float: write a Rational")
        if isinstance(expr, sympy.Symbol):
            raise BallError(f"symbol {expr} has no value")
        if isinstance(expr, sympy.Add):
            return self._fold(expr, lambda a, b: a + b)
        if isinstance(expr, sympy.Mul):
            return self._fold(expr, lambda a, b: a * b)
        if isinstance(expr, sympy.Pow):
            return self._power(expr)
        if isinstance(expr, sympy.Sum | sympy.Product):
            return self._range(expr)
        if isinstance(expr, sympy.Piecewise):
            return self._piecewise(expr)
        return self._function(expr)

    def _fold(self, expr: sympy.Basic, combine: Callable[[Number, Number], Number]) -> Number:
        result = self.number(expr.args[0])
        for argument in expr.args[1:]:
            result = combine(result, self.number(argument))
        return result

    def _power(self, expr: sympy.Basic) -> Number:
        base, exponent = self.number(expr.args[0]), self.number(expr.args[1])
        if isinstance(base, fmpq) and base == 0:
            return self._power_of_zero(expr, exponent)
        if isinstance(exponent, fmpq) and exponent.q == 1:
            return self._integer_power(expr, base, int(exponent.p))
        if isinstance(base, fmpq) and base < 0:
            raise BallError(f"{expr} is not real: its base is {base}")
        if isinstance(exponent, fmpq) and exponent.q == 2:
            return self._integer_power(expr, _square_root(base), int(exponent.p))
        return (arb(base).log() * arb(exponent)).exp()

    def _power_of_zero(self, expr: sympy.Basic, exponent: Number) -> Number:
        if _sign(arb(exponent)) > 0:
            return fmpq(0)
        if exponent == 0:
            return fmpq(1)
        raise BallError(f"division by zero: {expr.args[0]} is exactly 0 in {expr}")

    def _integer_power(self, expr: sympy.Basic, base: Number, exponent: int) -> Number:
        if exponent >= 0:
            return base**exponent
        if isinstance(base, arb) and base.contains(0):
            raise UndecidedError(f"division by a ball that contains 0: {expr.args[0]} = {base}")
        return 1 / base**-exponent

    def _range(self, expr: sympy.Sum | sympy.Product) -> Number:
        body, (index, first, last) = expr.function, expr.limits[0]
        if len(expr.limits) > 1:
            raise BallError(f"{expr}: one index at a time")
        low, high = self._integer(first), self._integer(last)
        terms = [self._at(body, index, k) for k in range(low, high + 1)]
        total: Number = fmpq(1 if isinstance(expr, sympy.Product) else 0)
        for term in terms:
            total = total * term if isinstance(expr, sympy.Product) else total + term
        return total

    def _at(self, body: sympy.Basic, index: sympy.Basic, k: int) -> Number:
        return _Evaluator({**self.values, index: k}, self.bits).number(body)

    def _integer(self, expr: sympy.Basic) -> int:
        number = self.number(expr)
        if isinstance(number, arb) or number.q != 1:
            raise BallError(f"{expr} = {number} is not an integer")
        return int(number.p)

    def _piecewise(self, expr: sympy.Basic) -> Number:
        for branch in expr.args:
            value, condition = branch.args
            if self._holds(condition):
                return self.number(value)
        raise BallError(f"no branch of {expr} holds")

    def _holds(self, condition: sympy.Basic) -> bool:
        if condition in (sympy.true, sympy.false):
            return bool(condition)
        if isinstance(condition, sympy.And | sympy.Or):
            every = isinstance(condition, sympy.And)
            return (all if every else any)(self._holds(part) for part in condition.args)
        if isinstance(condition, sympy.Not):
            return not self._holds(condition.args[0])
        if type(condition) not in RELATIONS:
            raise BallError(f"cannot decide the condition {condition}")
        left, right = condition.args
        difference = self.number(left) - self.number(right)
        return RELATIONS[type(condition)](_sign(arb(difference)))

    def _function(self, expr: sympy.Basic) -> Number:
        if type(expr) in CONSTANTS:
            return CONSTANTS[type(expr)]()
        if type(expr) not in FUNCTIONS:
            raise BallError(f"cannot evaluate {expr}: {type(expr).__name__} is not known to ball arithmetic")
        arguments = [self.number(argument) for argument in expr.args]
        if isinstance(expr, ODD) and arguments[0] == 0:
            return fmpq(0)
        result = FUNCTIONS[type(expr)](*[arb(argument) for argument in arguments])
        if not result.is_finite():
            raise _outside(expr, arguments)
        return result


def _outside(expr: sympy.Basic, arguments: list[Number]) -> BallError:
    exact = all(isinstance(argument, fmpq) for argument in arguments)
    shown = ", ".join(str(argument) for argument in arguments)
    return (BallError if exact else UndecidedError)(f"{expr} is not finite at {shown}")


def _huge(number: Number) -> bool:
    return isinstance(number, fmpq) and int(number.height_bits()) > EXACT_BITS


def _square_root(number: Number) -> Number:
    if isinstance(number, arb):
        if number < 0:
            raise BallError(f"the square root of {number} is not real")
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
    sympy.Min: _smaller,
    sympy.Max: _larger,
    sympy.floor: lambda x: _whole(x, True),
    sympy.ceiling: lambda x: _whole(x, False),
}
ODD = (
    *(sympy.sin, sympy.tan, sympy.sinh, sympy.tanh, sympy.erf),
    *(sympy.asin, sympy.atan, sympy.asinh, sympy.atanh),
)
