"""Cases of formulas in vectors and matrices: each entry of the inputs and of the result is certified."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import reduce
from operator import add, mul
from typing import Any

import sympy as sp
from flint import arb, ctx

from derivations.golden.case import DIGITS, FAR, Coverage, GoldenError, Margin, case, output
from derivations.golden.formulas import BITS, ONCE, condition, distance, values_of
from derivations.golden.nodes import node
from derivations.kit.ball import BallError, Value, certify, evaluate

Rows = tuple[tuple[Fraction, ...], ...]


@dataclass(frozen=True)
class Arrays:
    """Exact matrices by name (a vector has one column), and how the names are given in JSON."""

    id: str
    flags: tuple[str, ...]
    matrices: Mapping[str, Rows]
    symmetric: tuple[str, ...] = ()
    derived: Mapping[str, Any] = field(default_factory=dict)

    def symbols(self, name: str) -> sp.Matrix:
        """The matrix with a symbol for each entry; a symmetric one has one for each pair."""
        rows = self.matrices[name]
        return sp.ImmutableMatrix(len(rows), len(rows[0]), lambda i, j: self._symbol(name, int(i), int(j)))

    def _symbol(self, name: str, i: int, j: int) -> sp.Symbol:
        if name in self.symmetric and i > j:
            i, j = j, i
        return sp.Symbol(f"{name}_{i}_{j}", real=True)

    @property
    def known(self) -> dict[str, Value]:
        """The value of each entry's symbol."""
        return {
            self._symbol(name, i, j).name: entry
            for name, rows in self.matrices.items()
            for i, row in enumerate(rows)
            for j, entry in enumerate(row)
        }

    def given(self, names: Sequence[str]) -> dict[str, Any]:
        """The JSON: vectors as lists, matrices as lists of rows."""
        return {name: _json(self.matrices[name]) for name in names if name in self.matrices}


def _json(rows: Rows) -> Any:
    if all(len(row) == 1 for row in rows):
        return [str(row[0]) for row in rows]
    return [[str(entry) for entry in row] for row in rows]


def entries(expr: sp.Basic, arrays: Arrays) -> list[sp.Expr]:
    """The entries of a matrix expression, row by row, written in the symbols of the inputs' entries."""
    result = _explicit(sp.sympify(expr), arrays)
    return list(result) if isinstance(result, sp.MatrixBase) else [result]


def _explicit(expr: sp.Basic, arrays: Arrays) -> Any:
    """The expression in explicit matrices, inverted through the adjugate and not simplified."""
    if isinstance(expr, sp.MatrixSymbol):
        derived = arrays.derived.get(expr.name)
        return derived(arrays) if derived else arrays.symbols(expr.name)
    if isinstance(expr, sp.Symbol) and expr.name == "dim":
        return sp.Integer(len(arrays.matrices["mu_0"]))
    if not expr.args or not expr.has(sp.MatrixSymbol, sp.Symbol):
        return expr
    if isinstance(expr, sp.MatPow):
        return _inverse(_explicit(expr.base, arrays), expr.exp)
    parts = [_explicit(argument, arrays) for argument in expr.args]
    if type(expr) in OPERATIONS:
        return OPERATIONS[type(expr)](parts)
    if any(isinstance(part, sp.MatrixBase) for part in parts):
        raise GoldenError(f"{type(expr).__name__} is not known for matrices")
    return expr.func(*parts)


def _inverse(matrix: sp.Matrix, exponent: sp.Expr = sp.S.NegativeOne) -> sp.Matrix:
    if exponent != -1:
        raise GoldenError(f"the matrix power {exponent} is not known")
    return matrix.adjugate() / matrix.det(method="berkowitz")


OPERATIONS: Mapping[type, Callable[[list[Any]], Any]] = {
    sp.MatAdd: lambda parts: reduce(add, parts),
    sp.MatMul: lambda parts: reduce(mul, parts),
    sp.Inverse: lambda parts: _inverse(parts[0]),
    sp.Transpose: lambda parts: parts[0].T,
    sp.Trace: lambda parts: parts[0].trace(),
    sp.Determinant: lambda parts: parts[0].det(method="berkowitz"),
}


def matrix_case(id: str, arrays: Arrays, coverage: Coverage) -> dict[str, Any]:
    """The case of a formula in matrices."""
    right = entries(node(id).closed, arrays)
    decoys = {decoy.id: entries(decoy.closed, arrays) for decoy in node(id).decoys}
    names = sorted(symbol.name for symbol in node(id).closed.atoms(sp.MatrixSymbol))
    result = array_output(f"{id}/{arrays.id}", right, decoys, arrays.known, _shape(node(id).closed, right))
    coverage.add(id, [result[1]])
    return case(f"{id}/{arrays.id}", id, arrays.flags, arrays.given(names), [result[0]])


def array_output(
    name: str,
    right: Sequence[sp.Expr],
    decoys: Mapping[str, Sequence[sp.Expr]],
    known: Mapping[str, Value],
    shape: Sequence[int],
    weights: Mapping[str, Fraction] = ONCE,
) -> tuple[dict[str, Any], Margin]:
    """The output "value" of several entries under one tolerance."""
    try:
        limit = _margin(right, decoys, known, weights)
        values = [certify(expr, values_of(expr, known), DIGITS) for expr in right]
        return output("value", values, limit, shape), limit
    except (BallError, GoldenError) as error:
        raise GoldenError(f"case {name}: {error}") from None


def _shape(expr: sp.Basic, right: Sequence[sp.Expr]) -> tuple[int, ...]:
    if not getattr(expr, "is_Matrix", False):
        return ()
    rows = len(right) if expr.shape[1] == 1 else math.isqrt(len(right))
    return (rows,) if rows == len(right) else (rows, rows)


def _margin(
    right: Sequence[sp.Expr],
    decoys: Mapping[str, Sequence[sp.Expr]],
    known: Mapping[str, Value],
    weights: Mapping[str, Fraction],
) -> Margin:
    with ctx.workprec(BITS):
        balls = [evaluate(expr, values_of(expr, known)) for expr in right]
        bounds = [_bound(ball, expr, known, weights) for ball, expr in zip(balls, right, strict=True)]
        far = {name: _farthest(balls, wrong, known) for name, wrong in decoys.items()}
    roundings = max(int(sp.count_ops(expr, visual=False)) for expr in right)
    return Margin(max(bounds), roundings, far)


def _bound(ball: arb, expr: sp.Expr, known: Mapping[str, Value], weights: Mapping[str, Fraction]) -> Fraction:
    return Fraction(1) if ball.is_zero() else condition(expr, known, weights)


def _farthest(right: Sequence[arb], wrong: Sequence[sp.Expr], known: Mapping[str, Value]) -> Fraction | None:
    """The largest relative distance over the entries: one entry that is off rejects the decoy."""
    if len(wrong) != len(right):
        return FAR
    found = [distance(expr, ball, known) for expr, ball in zip(wrong, right, strict=True)]
    apart = [far for far in found if far is not None]
    return max(apart) if apart else None


def root(matrix: sp.Matrix) -> sp.Matrix:
    """The positive root of a positive 2x2 matrix, by Cayley and Hamilton."""
    size = sp.sqrt(matrix.det())
    return (matrix + size * sp.eye(2)) / sp.sqrt(matrix.trace() + 2 * size)


def cross(arrays: Arrays) -> sp.Matrix:
    """A matrix with the trace of the root of R S_1 R (similar to S_0 S_1): only its trace counts."""
    product = arrays.symbols("S_0") * arrays.symbols("S_1")
    return sp.diag(sp.sqrt(product.trace() + 2 * sp.sqrt(product.det())), 0)


def first_root(arrays: Arrays) -> sp.Matrix:
    """The root of S_0."""
    return root(arrays.symbols("S_0"))


def _rows(text: str) -> Rows:
    return tuple(tuple(Fraction(entry) for entry in row.split()) for row in text.split(","))


PLANE = Arrays(
    "plane",
    ("several-dimensions", "nonzero-mean"),
    {
        "mu_0": _rows("3/4, -5/8"),
        "mu_1": _rows("-1/2, 9/8"),
        "S_0": _rows("1/4 1/8, 1/8 1/2"),
        "S_1": _rows("1/2 -1/4, -1/4 3/8"),
        "x": _rows("5/4, 1/8"),
        "A": _rows("1/2 -3/4, 1/4 1, -5/8 3/8"),
        "b": _rows("1/4, -3/8, 7/8"),
        "y": _rows("3/8, 11/8, -1/4"),
        "Q": _rows("1/4 1/16 0, 1/16 3/8 -1/8, 0 -1/8 1/2"),
        "Lambda": _rows("4 -1, -1 2"),
        "L": _rows("2 1/2 0, 1/2 3 -1, 0 -1 4"),
    },
    ("S_0", "S_1", "Q", "Lambda", "L"),
    {"C": cross, "R": first_root},
)
THIN = Arrays(
    "thin",
    ("several-dimensions", "nonzero-mean", "small-variance"),
    {
        **PLANE.matrices,
        "S_0": _rows("1/64 1/128, 1/128 5/256"),
        "S_1": _rows("3 -1/2, -1/2 1/8"),
        "Q": _rows("1/64 1/256 0, 1/256 3/128 -1/256, 0 -1/256 1/32"),
    },
    PLANE.symmetric,
    PLANE.derived,
)


def matrix_cases(ids: Sequence[str], grid: Sequence[Arrays], coverage: Coverage) -> Iterator[dict[str, Any]]:
    """The cases of several formulas in matrices."""
    for id in ids:
        for arrays in grid:
            yield matrix_case(id, arrays, coverage)
