"""Laws of data in SymPy: the score is the derivative of the log-density, written out from the definition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import sympy as sp

ABAR = sp.Symbol("abar_t", positive=True)
Row = tuple[Fraction, ...]


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture with exact weights (K,), means (K, D) and covariances (K, D, D)."""

    id: str
    weights: Row
    means: tuple[Row, ...]
    covs: tuple[tuple[Row, ...], ...]

    @property
    def dimension(self) -> int:
        return len(self.means[0])

    @property
    def x(self) -> tuple[sp.Symbol, ...]:
        """The coordinates of x_t."""
        return tuple(sp.Symbol(f"x_t_{k}", real=True) for k in range(self.dimension))

    def given(self) -> dict[str, Any]:
        """The JSON of the law."""
        return {
            "weights": [str(weight) for weight in self.weights],
            "means": [[str(entry) for entry in row] for row in self.means],
            "covs": [[[str(entry) for entry in row] for row in cov] for cov in self.covs],
        }


SCALE, NOISE = sp.sqrt(ABAR), 1 - ABAR


@dataclass(frozen=True)
class Reading:
    """How a noised mixture is written down; the default is right, everything else is a decoy."""

    scale: sp.Expr = SCALE
    kept: sp.Expr = ABAR
    noise: sp.Expr = NOISE
    weighted: bool = True
    normalised: bool = True
    only_heaviest: bool = False
    factor: sp.Expr = sp.S.One


RIGHT = Reading()
SCORE_DECOYS: Mapping[str, Reading] = {
    "sign": Reading(factor=sp.S.NegativeOne),
    "mean-not-scaled": Reading(scale=sp.S.One),
    "mean-scaled-by-power": Reading(scale=ABAR),
    "covariance-not-scaled": Reading(kept=sp.S.One),
    "covariance-scaled-by-root": Reading(kept=sp.sqrt(ABAR)),
    "noise-deviation": Reading(noise=sp.sqrt(1 - ABAR)),
    "noise-missing": Reading(noise=sp.S.Zero),
    "weights-missing": Reading(weighted=False),
    "normaliser-missing": Reading(normalised=False),
    "heaviest-mode-only": Reading(only_heaviest=True),
}
EPS_DECOYS: Mapping[str, Reading] = {
    **SCORE_DECOYS,
    "root-missing": Reading(factor=sp.sqrt(1 - ABAR)),
    "score": Reading(factor=-1 / sp.sqrt(1 - ABAR)),
}


def density(law: Mixture, reading: Reading = RIGHT) -> sp.Expr:
    """The density of x_t, without the common power of 2 pi: a sum over the modes."""
    terms = [_mode(law, k, reading) for k in range(len(law.weights))]
    heaviest = max(range(len(terms)), key=lambda k: law.weights[k])
    return terms[heaviest] if reading.only_heaviest else sp.Add(*terms)


def _mode(law: Mixture, k: int, reading: Reading) -> sp.Expr:
    cov = reading.kept * _matrix(law.covs[k]) + reading.noise * sp.eye(law.dimension)
    offset = sp.Matrix(law.x) - reading.scale * _matrix([law.means[k]]).T
    square = (offset.T * cov.adjugate() * offset)[0] / cov.det()
    weight = _rational(law.weights[k]) if reading.weighted else sp.S.One
    root = sp.sqrt(cov.det()) if reading.normalised else sp.S.One
    return weight * sp.exp(-square / 2) / root


def log_density(law: Mixture) -> sp.Expr:
    """The log of the density of x_t, in nats."""
    return sp.log(density(law)) - sp.Rational(law.dimension, 2) * sp.log(2 * sp.pi)


@cache
def score(law: Mixture, reading: Reading = RIGHT) -> tuple[sp.Expr, ...]:
    """The gradient of the log-density in x_t."""
    p = density(law, reading)
    return tuple(reading.factor * p.diff(symbol) / p for symbol in law.x)


@cache
def eps(law: Mixture, reading: Reading = RIGHT) -> tuple[sp.Expr, ...]:
    """The perfect noise prediction, the score times -sqrt(1 - abar)."""
    return tuple(-sp.sqrt(1 - ABAR) * entry for entry in score(law, reading))


def _rational(number: Fraction) -> sp.Rational:
    return sp.Rational(number.numerator, number.denominator)


def _matrix(rows: Any) -> sp.Matrix:
    return sp.Matrix([[_rational(entry) for entry in row] for row in rows])


def _row(*entries: str) -> Row:
    return tuple(Fraction(entry) for entry in entries)


LINE = Mixture(
    "line",
    _row("1/4", "3/4"),
    (_row("-3/2"), _row("1/2")),
    ((_row("1/16"),), (_row("1/4"),)),
)
PLANE = Mixture(
    "plane",
    _row("1/2", "1/4", "1/4"),
    (_row("1", "-1/2"), _row("-3/2", "1/4"), _row("1/4", "3/2")),
    (
        (_row("1/4", "1/8"), _row("1/8", "1/2")),
        (_row("1/16", "0"), _row("0", "1/8")),
        (_row("1/2", "-1/4"), _row("-1/4", "3/8")),
    ),
)
GAUSSIAN = Mixture(
    "gaussian",
    _row("1"),
    (_row("3/4", "-1/2"),),
    ((_row("9/16", "-1/4"), _row("-1/4", "5/8")),),
)
LAWS = (LINE, PLANE, GAUSSIAN)
