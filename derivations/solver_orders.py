"""Order conditions, the weights that solve them, and the local error that they leave.

In units of the gain of a step (−std_s for the predicted noise, scale_s for the predicted data) the exact step
adds I = ∫₀ʰ exp(z(1 − τ/h))·m(τ)dτ, z = h or −h, where m is the model along the exact solution, any smooth
function: m, m', m'', … where the step begins are free. A method replaces I by h·Σ w_j·m_j. At a stage whose
state is off by gain·E the model is off by J·E, J being its derivative by the state times the gain, and by
terms in E² that are of higher order. Nothing is multiplied but J's and then one derivative of m, so that what
holds for numbers holds for vectors and matrices. φ enters by its Taylor polynomial (``solver.phi_1`` and so
on prove it). An error is written as its Taylor coefficients in h, each a sum of products that the proof
reduces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import sympy as sp
from sympy import exp

from derivations.kit import Identity, Step
from derivations.symbols import lambda_step as h
from derivations.symbols import path_1, path_2, path_3, path_4, state_slope, state_slope_1, value_t

TERMS = 6
NOISE, DATA = 1, -1
"""What is predicted, as the sign of z = ±h."""


@dataclass(frozen=True)
class Jet:
    """The Taylor coefficients of an expression in h, up to h^(TERMS−1); nothing in them is expanded."""

    coefficients: tuple[sp.Expr, ...]

    @classmethod
    def of(cls, *coefficients: sp.Expr | int) -> Jet:
        return cls(tuple(sp.sympify((*coefficients, *([0] * TERMS))[n]) for n in range(TERMS)))

    def __add__(self, other: Jet | sp.Expr | int) -> Jet:
        pairs = zip(self.coefficients, _jet(other).coefficients, strict=True)
        return Jet(tuple(a + b for a, b in pairs))

    def __mul__(self, other: Jet | sp.Expr | int) -> Jet:
        a, b = self.coefficients, _jet(other).coefficients
        return Jet(tuple(sum(a[k] * b[n - k] for k in range(n + 1)) for n in range(TERMS)))

    __radd__, __rmul__ = __add__, __mul__

    def __sub__(self, other: Jet) -> Jet:
        return self + other * -1


def _jet(value: Jet | sp.Expr | int) -> Jet:
    return value if isinstance(value, Jet) else Jet.of(value)


Number: TypeAlias = Any
"""A SymPy expression or a Jet."""
Phi: TypeAlias = Callable[[int, sp.Expr], Number]
H = Jet.of(0, 1)


def phi(k: int, z: sp.Expr) -> sp.Expr:
    """(exp(z) − Σ_{j<k} zʲ/j!)/zᵏ."""
    return (exp(z) - sum(z**j / sp.factorial(j) for j in range(k))) / z**k


def phi_series(k: int, z: sp.Expr) -> sp.Expr:
    """The Taylor polynomial of φ_k."""
    return sum(z**n / sp.factorial(n + k) for n in range(TERMS))


def phi_jet(k: int, factor: sp.Expr) -> Jet:
    """The Taylor coefficients of φ_k(factor·h)."""
    return Jet.of(*(sp.sympify(factor) ** n / sp.factorial(n + k) for n in range(TERMS)))


def exact_moments(count: int, z: sp.Expr, phi: Phi = phi) -> list[Number]:
    """n!·φ_{n+1}(z): what weights give that integrate polynomials exactly."""
    return [sp.factorial(n) * phi(n + 1, z) for n in range(count)]


def half_moments(z: sp.Expr, phi: Phi = phi) -> list[Number]:
    """Exact for constants; half of that for the place, as the middle of the step would give."""
    return [phi(1, z), phi(1, z) * sp.Rational(1, 2)]


def unit_moments(z: sp.Expr, phi: Phi = phi) -> list[Number]:
    """Exact for constants; 1/2 for the place."""
    return [phi(1, z), sp.Rational(1, 2)]


def halved_moments(z: sp.Expr, phi: Phi = phi) -> list[Number]:
    """Exact but for the square of the place, where the factorial is missing."""
    return [phi(1, z), phi(2, z), phi(3, z)]


@cache
def _solved(count: int) -> tuple[tuple[sp.Symbol, ...], tuple[tuple[sp.Expr, ...], ...]]:
    """The conditions Σ w_j c_jⁿ = μ_n with c_0 = 0, solved: the factor of each moment in each weight."""
    places, moments, weights = (sp.symbols(f"{letter}:{count}") for letter in "cmw")
    conditions = [
        sum(w * (c**n if n else 1) for w, c in zip(weights, (0, *places[1:]), strict=True)) - m
        for n, m in enumerate(moments)
    ]
    (solution,) = sp.linsolve(conditions, *weights)
    return places[1:], tuple(tuple(sp.factor(sp.diff(w, m)) for m in moments) for w in solution)


def solved_weights(places: Sequence[sp.Expr], moments: Sequence[Number]) -> list[Number]:
    """The weights of values at 0 and at the other places that have these moments."""
    names, factors = _solved(len(moments))
    table = dict(zip(names, places[1:], strict=True))
    return [sum(f.xreplace(table) * m for f, m in zip(row, moments, strict=True)) for row in factors]


def quadrature(
    places: Sequence[sp.Expr], values: Sequence[Number], moments: Sequence[Number], step: Number = h
) -> Number:
    """step·Σ w_j·m_j with the weights of these moments."""
    weights = solved_weights(places, moments)
    return step * sum(w * m for w, m in zip(weights, values, strict=True))


def rule(places: Sequence[sp.Expr], values: Sequence[Number], moments: Sequence[Number]) -> Jet:
    """The same in Taylor coefficients, for moments of φ_k(factor·h)."""
    found = quadrature(places, values, moments, H)
    assert isinstance(found, Jet)
    return found


PATH = (value_t, path_1, path_2, path_3, path_4)


def model(place: sp.Expr) -> Jet:
    """The model along the exact solution, place·h after the step begins."""
    return Jet.of(*(m * sp.sympify(place) ** n / sp.factorial(n) for n, m in enumerate(PATH)))


def exact(sign: int, share: sp.Expr = sp.S.One) -> Jet:
    """The integral I of the model over a share of the step."""
    total, power = Jet.of(0), H * share
    for n, m in enumerate(PATH):
        total, power = total + power * phi_jet(n + 1, sign * share) * m, power * H * share
    return total


def off(place: sp.Expr, error: Jet) -> Jet:
    """The model at a state that is off by gain·error."""
    return model(place) + Jet.of(state_slope, state_slope_1 * place) * error


def leading(error: Jet, order: int, claim: sp.Expr, words: str = "") -> Iterator[Step]:
    """The local error is claim·h^(order+1) and higher powers."""
    top, *lower = error.coefficients[order + 1 :: -1]
    yield Identity(f"the term of h^{order + 1}{words}", top, claim)
    for n, coefficient in zip(range(order, -1, -1), lower, strict=True):
        if coefficient != 0:
            yield Identity(f"no term of h^{n}{words}", coefficient, sp.Integer(0))
