"""Predictions for a mixture in several dimensions, from the derivative of its density."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import sympy as sp

from derivations.golden.case import Coverage, case
from derivations.golden.inputs import Levels
from derivations.golden.laws import EPS_DECOYS, SCORE_DECOYS, Mixture, Reading, eps, score
from derivations.golden.matrices import array_output
from derivations.kit.ball import Value

PREDICTED: Mapping[str, tuple[Callable[..., tuple[sp.Expr, ...]], Mapping[str, Reading]]] = {
    "eps": (eps, EPS_DECOYS),
    "score": (score, SCORE_DECOYS),
}
STATE = (Fraction(-3, 4), Fraction(5, 8))


def law_cases(
    what: str, law: Mixture, pairs: Sequence[Levels], coverage: Coverage
) -> Iterator[dict[str, Any]]:
    """The prediction at each level (the first of a pair), with the misreadings of the density as decoys."""
    predict, readings = PREDICTED[what]
    decoys = {name: list(predict(law, reading)) for name, reading in readings.items()}
    formula = f"data.mixture_{what}"
    for pair in pairs:
        name = f"{formula}/{law.id}-{pair.id}"
        known: dict[str, Value] = {"abar_t": pair.value("t")}
        known |= {symbol.name: entry for symbol, entry in zip(law.x, STATE, strict=True)}
        result, limit = array_output(
            name, list(predict(law)), decoys, known, (law.dimension,), {"abar_t": pair.weight("t")}
        )
        coverage.add(formula, [limit])
        given = {**pair.given(), "law": law.given(), "x_vector": [str(entry) for entry in STATE]}
        yield case(name, formula, (*pair.flags, "several-dimensions", "several-modes"), given, [result])
