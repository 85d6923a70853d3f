"""What rows of several documents share: exact levels of the linear schedule, and exponents opened by hand."""

from __future__ import annotations

from fractions import Fraction

import sympy as sp

from derivations.ddpm import KERNEL, MARGINAL_PREV, MARGINAL_T
from derivations.kit import Identity, LogDensity, Step
from derivations.symbols import abar_prev, alpha_t, x_0, x_prev, x_t

_DIGITS = 10**40


def linear_levels() -> list[Fraction]:
    """ᾱ_0 to ᾱ_1000 of the linear schedule from 1/10000 to 1/50, to 40 digits."""
    kept = [Fraction(1)]
    for t in range(1000):
        share = 1 - Fraction(1, 10000) - Fraction(t, 999) * (Fraction(1, 50) - Fraction(1, 10000))
        kept.append(Fraction(round(kept[-1] * share * _DIGITS), _DIGITS))
    return kept


def shown(value: Fraction) -> str:
    """Three digits of an exact value, rounded once: SymPy would round to 13 bits first."""
    near = Fraction(f"{float(value):.2e}")
    return str(sp.N(sp.Rational(near.numerator, near.denominator), 3))


def collected(
    product: LogDensity, variable: sp.Symbol, kept: sp.Expr, level: sp.Expr, linear: int
) -> Identity:
    """The exponent as a square and a linear term of ``variable``; the rest does not have it."""
    square = (kept / (1 - kept) + 1 / (1 - level)) * variable**2
    cross = (sp.sqrt(kept) / (1 - kept) * x_t + sp.sqrt(level) / (1 - level) * x_0) * variable
    rest = product.exponent + (square - linear * cross) / 2
    return Identity(f"the rest is free of {variable}", sp.diff(rest, variable), sp.Integer(0))


def one_step_exponent(linear: int) -> list[Step]:
    """Bayes' exponent for one step, collected in x_{t-1}; ``linear`` is the factor of its cross term."""
    return [collected(KERNEL * MARGINAL_PREV / MARGINAL_T, x_prev, alpha_t, abar_prev, linear)]
