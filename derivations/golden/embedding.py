"""Where the formulas of time embeddings are evaluated, and whole embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy as sp
from flint import arb

from derivations.golden.case import FAR, TABLE_DIGITS, Coverage, Margin, case, output, relative_distance
from derivations.golden.formulas import BITS, Point, condition
from derivations.golden.nodes import node, symbols_of
from derivations.kit.ball import Certified, Value, certify, enclosure

SCALARS = ("clock", "lag", "longest", "pair", "gaps", "pairs", "pace", "pace_ratio")
OWN: Mapping[str, Value] = {
    "clock": Fraction(37, 4), "lag": Fraction(-11, 8), "longest": Fraction(10000), "pair": Fraction(5),
    "gaps": 7, "pairs": 8, "pace": Fraction(13, 16), "pace_ratio": Fraction(5, 16),
}  # fmt: skip


WEIGHTS = {"longest": Fraction(10)}
"""A power of P is the exponential of a multiple of its logarithm: the roundings of that product are ln P of
them, below 10 for a P of 10000."""
ROUNDINGS = 4


def point(id: str, flag: str, **changed: Value) -> Point:
    """The common values with some changed."""
    return Point(id, (flag,), {**OWN, **changed}, weights=lambda: WEIGHTS)


ENTRIES: Sequence[Point] = (
    point("middle", "interior"),
    point("late", "last-step", clock=Fraction(999), pair=Fraction(3), gaps=31),
    point("negative", "interior", clock=Fraction(-83, 2), pair=Fraction(2), gaps=3, longest=Fraction(4)),
    point("short-period", "interior", longest=Fraction(1000), pair=Fraction(6), clock=Fraction(640)),
)
PLACES: Sequence[Point] = (
    point("middle", "interior"),
    point("few", "few-steps", pairs=2, pair=Fraction(1), gaps=1, longest=Fraction(16)),
    point("many", "many-steps", pairs=64, pair=Fraction(40), gaps=63, pace_ratio=Fraction(7, 8)),
)
PAIRS: Sequence[Point] = (
    point("middle", "interior"),
    point("near", "cancellation", lag=Fraction(1, 64), clock=Fraction(5, 4)),
    point("slow", "interior", pace=Fraction(3, 512), clock=Fraction(321), lag=Fraction(77)),
)
CONTENTS: Sequence[tuple[str, str, Sequence[tuple[Sequence[str], Sequence[Point]]]]] = (
    (
        "frequencies",
        "frequencies of embeddings, the last of them, and how fast an embedding moves",
        ((("frequency", "last_frequency", "last_frequency_half", "octave", "norm", "speed"), PLACES),),
    ),
    (
        "entries",
        "entries of embeddings, and products of pairs at two levels",
        (
            (("sine", "cosine"), ENTRIES),
            (("rotated_sine", "rotated_cosine", "pair_product", "pair_distance"), PAIRS),
        ),
    ),
)


@dataclass(frozen=True)
class Table:
    """Embeddings of some levels: sines of all frequencies, then cosines."""

    dim: int
    spacing: str
    levels: tuple[str, ...]
    period: Fraction = Fraction(10000)

    @property
    def id(self) -> str:
        return f"table-{self.dim}-{self.spacing}-{self.period}"

    @property
    def half(self) -> int:
        return self.dim // 2

    @property
    def steps(self) -> int:
        return self.half if self.spacing == "half" else self.half - 1

    def known(self, level: str, k: int) -> dict[str, Value]:
        return {
            "longest": self.period, "gaps": self.steps, "pair": Fraction(k), "clock": Fraction(level),
        }  # fmt: skip

    def given(self) -> dict[str, Any]:
        return {
            "embedding_dim": self.dim, "spacing": self.spacing, "longest": str(self.period),
            "times": list(self.levels),
        }  # fmt: skip


Entry = Callable[[Table, str, int], tuple[sp.Expr, dict[str, Value]]]


def right(table: Table, level: str, column: int) -> tuple[sp.Expr, dict[str, Value]]:
    """The formula of a column, and what it is evaluated at."""
    which, k = divmod(column, table.half)
    return node(("embedding.sine", "embedding.cosine")[which]).closed, table.known(level, k)


def cosines_first(table: Table, level: str, column: int) -> tuple[sp.Expr, dict[str, Value]]:
    return right(table, level, (column + table.half) % table.dim)


def interleaved(table: Table, level: str, column: int) -> tuple[sp.Expr, dict[str, Value]]:
    return right(table, level, (column % 2) * table.half + column // 2)


def other_spacing(table: Table, level: str, column: int) -> tuple[sp.Expr, dict[str, Value]]:
    expr, known = right(table, level, column)
    return expr, {**known, "gaps": table.half - 1 if table.spacing == "half" else table.half}


def thousandth(table: Table, level: str, column: int) -> tuple[sp.Expr, dict[str, Value]]:
    return right(table, str(Fraction(level) / 1000), column)


def mismatched(table: Table, level: str, column: int) -> tuple[sp.Expr, dict[str, Value]]:
    """The cosines one frequency further than their sines."""
    expr, known = right(table, level, column)
    return expr, {**known, "pair": Fraction(column % table.half + column // table.half)}


def reversed_frequencies(table: Table, level: str, column: int) -> tuple[sp.Expr, dict[str, Value]]:
    which, k = divmod(column, table.half)
    return right(table, level, which * table.half + table.half - 1 - k)


WRONG: Mapping[str, Entry] = {
    "cosines-first": cosines_first, "interleaved": interleaved, "other-spacing": other_spacing,
    "thousandth": thousandth, "mismatched": mismatched, "reversed": reversed_frequencies,
}  # fmt: skip


def _bound(expr: sp.Expr, known: Mapping[str, Value]) -> dict[sp.Basic, Value]:
    return {symbol: known[symbol.name] for symbol in symbols_of(expr)}


def table_case(table: Table) -> dict[str, Any]:
    """The embeddings of all levels, with what limits the tolerance of each entry."""
    values: list[Certified] = []
    worst, far = Fraction(1), {name: Fraction(0) for name in WRONG}
    for level in table.levels:
        for column in range(table.dim):
            expr, known = right(table, level, column)
            values.append(certify(expr, _bound(expr, known), TABLE_DIGITS))
            worst = max(worst, condition(expr, known, WEIGHTS))
            value = enclosure(expr, _bound(expr, known), BITS)
            for name, wrong in WRONG.items():
                far[name] = max(far[name], _distance(value, *wrong(table, level, column)))
    limit = Margin(worst, ROUNDINGS, dict(far))
    shape = (len(table.levels), table.dim)
    outputs = [output("embedding", values, limit, shape)]
    return case(f"embedding.sine/{table.id}", "embedding.sine", ("table",), table.given(), outputs)


def _distance(value: arb, expr: sp.Expr, known: Mapping[str, Value]) -> Fraction:
    found = relative_distance(value, enclosure(expr, _bound(expr, known), BITS))
    return Fraction(0) if found is None else min(found, FAR)


TABLES = (
    Table(4, "half", ("1", "27/2", "-3", "999")),
    Table(4, "half_minus_one", ("1", "27/2", "-3", "999")),
    Table(8, "half_minus_one", ("1/16", "5", "250", "1000")),
    Table(8, "half", ("1/16", "5", "250", "1000")),
    Table(6, "half_minus_one", ("2", "300"), Fraction(256)),
    Table(32, "half", ("7", "811/2")),
    Table(32, "half_minus_one", ("7", "811/2")),
)


def tables(coverage: Coverage) -> Iterator[dict[str, Any]]:
    """The cases of whole embeddings."""
    for table in TABLES:
        yield table_case(table)
