"""Numbers that the networks are evaluated on, beside floats and the balls of ``flint.arb``.

NumPy lets arrays of objects do arithmetic with their elements' own operators, and ``np.exp(array)`` call
``element.exp()``; so one text of the networks serves floats, balls, numbers that are differentiated backwards
(``Variable``) or forwards (``Dual``), and floats whose roundings are traced (``Traced``).
"""

from __future__ import annotations

import math
from array import array as numbers
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb, arb_mat, fmpq
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, identity
from scipy.sparse.linalg import splu

Scalar = Any
Array = NDArray[Any]
Number = Callable[[Fraction], Scalar]
"""Makes a number of some kind from an exact one."""


def ball(value: Fraction) -> arb:
    """The ball around an exact number, at the precision of the context."""
    return arb(fmpq(value.numerator, value.denominator))


class Trace:
    """Every rounding of a computation in float64, and how each number follows from those before it.

    To first order the error of a result is Σ_k a_k·r_k·δ_k over all numbers k of the computation, with a_k
    its derivative by number k, and |δ_k| at most the unit roundoff u = 2⁻⁵³. r_k is |value|, twice that for a
    function of the mathematical library, and in a sum of n terms Σ|term| for each of its n − 1 additions:
    that holds for any order of summation.
    """

    def __init__(self) -> None:
        self.roundings, self.partials = numbers("d"), numbers("d")
        self.rows, self.columns = numbers("i"), numbers("i")

    def number(self, value: Fraction) -> Traced:
        """The nearest float of an exact number, which has an error where it is not the number itself."""
        nearest = float(value)
        return Traced(self, nearest, EXACT if Fraction(nearest) == value else self.node(abs(nearest)))

    def node(self, rounding: float, *parts: tuple[int, float]) -> int:
        """A further number of the computation, with its derivatives by those that it is made of."""
        row = len(self.roundings)
        self.roundings.append(rounding)
        for index, partial in parts:
            if index != EXACT and partial != 0:
                self.rows.append(row)
                self.columns.append(index)
                self.partials.append(partial)
        return row

    def errors(self, results: Sequence[Traced]) -> list[float]:
        """Bounds of the errors of some results, in units of u."""
        count = len(self.roundings)
        own = csc_matrix((self.partials, (self.rows, self.columns)), shape=(count, count))
        # triangular as it stands: nothing is permuted, nothing filled in
        options = {"permc_spec": "NATURAL", "diag_pivot_thresh": 0.0, "relax": 1, "panel_size": 1}
        steps = splu(csc_matrix(identity(count) - own), **options)
        roundings, found = np.array(self.roundings), []
        for some in (results[k : k + TOGETHER] for k in range(0, len(results), TOGETHER)):
            ends = np.zeros((count, len(some)))
            for column, result in enumerate(some):
                ends[result.index, column] = float(result.index != EXACT)
            found += list(np.abs(steps.solve(ends, trans="T")).T @ roundings)
        return [float(error) for error in found]


EXACT = -1
TOGETHER = 12


class Traced:
    """A float of a traced computation; ``size`` is Σ|term| where it is a sum."""

    __slots__ = ("index", "size", "trace", "value")

    def __init__(self, trace: Trace, value: float, index: int, size: float | None = None) -> None:
        self.trace, self.value, self.index = trace, value, index
        self.size = abs(value) if size is None else size

    def _other(self, other: Any) -> Traced:
        return other if isinstance(other, Traced) else Traced(self.trace, float(other), EXACT)

    def _sum(self, other: Any, sign: float) -> Traced:
        b = self._other(other)
        size = self.size + b.size
        index = self.trace.node(size, (self.index, 1.0), (b.index, sign))
        return Traced(self.trace, self.value + sign * b.value, index, size)

    def __add__(self, other: Any) -> Traced:
        return NotImplemented if isinstance(other, Variable) else self._sum(other, 1.0)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Traced:
        return NotImplemented if isinstance(other, Variable) else self._sum(other, -1.0)

    def __rsub__(self, other: Any) -> Traced:
        return self._other(other) - self

    def __neg__(self) -> Traced:
        return Traced(self.trace, -self.value, self.trace.node(0.0, (self.index, -1.0)), self.size)

    def __mul__(self, other: Any) -> Traced:
        if isinstance(other, Variable):
            return NotImplemented
        b, value = self._other(other), self.value * float(getattr(other, "value", other))
        return Traced(
            self.trace, value, self.trace.node(abs(value), (self.index, b.value), (b.index, self.value))
        )

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Traced:
        if isinstance(other, Variable):
            return NotImplemented
        b = self._other(other)
        value = self.value / b.value
        parts = (self.index, 1 / b.value), (b.index, -value / b.value)
        return Traced(self.trace, value, self.trace.node(abs(value), *parts))

    def __rtruediv__(self, other: Any) -> Traced:
        return self._other(other) / self

    def _function(self, value: float, slope: float, roundings: int = 2) -> Traced:
        return Traced(self.trace, value, self.trace.node(roundings * abs(value), (self.index, slope)))

    def exp(self) -> Traced:
        value = math.exp(self.value)
        return self._function(value, value)

    def log(self) -> Traced:
        return self._function(math.log(self.value), 1 / self.value)

    def sqrt(self) -> Traced:
        value = math.sqrt(self.value)
        return self._function(value, 0.5 / value, 1)

    def sin(self) -> Traced:
        return self._function(math.sin(self.value), math.cos(self.value))

    def cos(self) -> Traced:
        return self._function(math.cos(self.value), -math.sin(self.value))


class Tape:
    """The variables of a computation in the order of their making, for differentiation backwards."""

    def __init__(self) -> None:
        self.made: list[tuple[tuple[int, Scalar], ...]] = []

    def input(self, value: Scalar) -> Variable:
        """A number by which results are differentiated."""
        return self.variable(value)

    def variable(self, value: Scalar, *parts: tuple[int, Scalar]) -> Variable:
        """A number with its derivatives by those that it is made of; None stands for a derivative of 1."""
        self.made.append(parts)
        return Variable(self, value, len(self.made) - 1)

    def gradient(self, result: Variable, inputs: Sequence[Variable]) -> list[Scalar]:
        """The derivatives of a result by some inputs, from the last variable back to the first."""
        found: dict[int, Scalar] = {result.index: 1}
        for index in range(result.index, -1, -1):
            if index not in found or not self.made[index]:
                continue
            own = found.pop(index)
            for part, slope in self.made[index]:
                more = own if slope is None else slope * own
                found[part] = found[part] + more if part in found else more
        return [found.get(one.index, 0) for one in inputs]


class Variable:
    """A number of any kind that remembers how it was made."""

    __slots__ = ("index", "tape", "value")

    def __init__(self, tape: Tape, value: Scalar, index: int) -> None:
        self.tape, self.value, self.index = tape, value, index

    def __add__(self, other: Any) -> Variable:
        if isinstance(other, Variable):
            return self.tape.variable(self.value + other.value, (self.index, None), (other.index, None))
        return self.tape.variable(self.value + other, (self.index, None))

    __radd__ = __add__

    def __neg__(self) -> Variable:
        return self.tape.variable(-self.value, (self.index, -1))

    def __sub__(self, other: Any) -> Variable:
        if isinstance(other, Variable):
            return self.tape.variable(self.value - other.value, (self.index, None), (other.index, -1))
        return self.tape.variable(self.value - other, (self.index, None))

    def __rsub__(self, other: Any) -> Variable:
        return self.tape.variable(other - self.value, (self.index, -1))

    def __mul__(self, other: Any) -> Variable:
        if isinstance(other, Variable):
            parts = (self.index, other.value), (other.index, self.value)
            return self.tape.variable(self.value * other.value, *parts)
        return self.tape.variable(self.value * other, (self.index, other))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Variable:
        if isinstance(other, Variable):
            value = self.value / other.value
            parts = (self.index, 1 / other.value), (other.index, -value / other.value)
            return self.tape.variable(value, *parts)
        return self.tape.variable(self.value / other, (self.index, 1 / (other * self.one)))

    def __rtruediv__(self, other: Any) -> Variable:
        value = other / self.value
        return self.tape.variable(value, (self.index, -value / self.value))

    @property
    def one(self) -> Scalar:
        """1 as a number of this kind, so that 1/3 is not a float."""
        return self.value * 0 + 1

    def exp(self) -> Variable:
        value = np.exp(self.value)
        return self.tape.variable(value, (self.index, value))

    def sqrt(self) -> Variable:
        value = np.sqrt(self.value)
        return self.tape.variable(value, (self.index, 1 / (value * 2)))


class Dual:
    """A number with its derivatives in some directions: forward differentiation.

    ``value`` is a number of any kind, ``slope`` its derivatives: an object that adds, and that numbers of
    that kind multiply, such as an ``arb_mat`` for balls.
    """

    __slots__ = ("slope", "value")

    def __init__(self, value: Scalar, slope: Any) -> None:
        self.value, self.slope = value, slope

    def __add__(self, other: Any) -> Dual:
        if isinstance(other, Dual):
            return Dual(self.value + other.value, self.slope + other.slope)
        return Dual(self.value + other, self.slope)

    __radd__ = __add__

    def __neg__(self) -> Dual:
        return Dual(-self.value, -self.slope)

    def __sub__(self, other: Any) -> Dual:
        return self.__add__(-other)

    def __rsub__(self, other: Any) -> Dual:
        return (-self).__add__(other)

    def __mul__(self, other: Any) -> Dual:
        if isinstance(other, Dual):
            return Dual(self.value * other.value, self.slope * other.value + other.slope * self.value)
        return Dual(self.value * other, self.slope * other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Dual:
        if isinstance(other, Dual):
            value = self.value / other.value
            return Dual(value, (self.slope - other.slope * value) / other.value)
        return Dual(self.value / other, self.slope / other)

    def __rtruediv__(self, other: Any) -> Dual:
        value = other / self.value
        return Dual(value, -self.slope * (value / self.value))

    def exp(self) -> Dual:
        value = np.exp(self.value)
        return Dual(value, self.slope * value)

    def sqrt(self) -> Dual:
        value = np.sqrt(self.value)
        return Dual(value, self.slope / (value * 2))


def ball_direction(index: int, count: int) -> arb_mat:
    """The derivatives of an input by all inputs, in balls."""
    return arb_mat(count, 1, [arb(k == index) for k in range(count)])


def array(values: Sequence[Any], shape: Sequence[int]) -> Array:
    """Numbers in row-major order as an array of their own kind."""
    found = np.empty(len(values), dtype=object)
    found[:] = list(values)
    return np.asarray(found).reshape(tuple(shape))
