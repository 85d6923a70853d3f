"""Identities between matrices of any dimension, decided by reduced words.

A matrix expression is a polynomial over ℚ in words; a letter is a symbol, its inverse, or a transpose of one.
A letter next to its inverse cancels, a symmetric letter is its own transpose, and the inverse N of a sum
l + r is a letter with N·l = 1 − N·r and its mirror image. Traces are linear on cyclic words, and a word and
its transpose have one trace. The determinant is multiplicative. Zero in normal form is proved; what is not is
refuted by rational matrices that do not commute, or undecided. An identity that is proved is also evaluated,
without words, on exact matrices of dimension 1, 2 and 3.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import sympy as sp
from flint import fmpq, fmpq_mat
from sympy.matrices.expressions.determinant import Determinant
from sympy.matrices.expressions.trace import Trace

from derivations.kit.ball import enclosure
from derivations.kit.generators import NotRepresentableError
from derivations.kit.latex import tex
from derivations.kit.steps import Assumptions, NotCovered, Obligation, Step
from derivations.kit.verdict import Verdict
from derivations.kit.zero import decide_zero
from derivations.symbols import MEANINGS, dim, dim_y

Letter = tuple[str, bool, bool]
Word = tuple[Letter, ...]
Poly = dict[Word, sp.Expr]
Moments = Mapping[sp.MatrixSymbol, tuple[sp.MatrixExpr, sp.MatrixSymbol | sp.Identity]]
SIZES = ((2, 3), (3, 2), (2, 2), (1, 1), (3, 3))
MAX_STEPS = 2000


@dataclass(frozen=True)
class Given:
    """What is known of the symbols: which are symmetric and positive, and which are defined by others."""

    symmetric: frozenset[sp.MatrixSymbol] = frozenset()
    where: Mapping[sp.MatrixSymbol, sp.MatrixExpr] = field(default_factory=dict)


class Words:
    """Normal forms under what is given."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.symmetric = {symbol.name for symbol in given.symmetric}
        self.rows: dict[str, sp.Expr] = {}
        self.sums: dict[frozenset[tuple[Word, sp.Expr]], str] = {}
        self.rules: list[tuple[Word, Poly]] = []

    def of(self, expr: sp.MatrixExpr) -> Poly:
        """The reduced polynomial of a matrix expression."""
        if isinstance(expr, sp.MatrixSymbol):
            if expr in self.given.where:
                return self.of(self.given.where[expr])
            self.rows[expr.name] = expr.rows
            return {((expr.name, False, False),): sp.Integer(1)}
        if isinstance(expr, sp.Identity):
            return {(): sp.Integer(1)}
        if isinstance(expr, sp.ZeroMatrix):
            return {}
        if isinstance(expr, sp.MatAdd):
            return added(*(self.of(part) for part in expr.args))
        if isinstance(expr, sp.MatMul):
            total: Poly = {(): sp.Integer(1)}
            for part in expr.args:
                total = self.times(total, self.of(part) if isinstance(part, sp.MatrixExpr) else {(): part})
            return total
        if isinstance(expr, sp.Transpose):
            return self.transposed(self.of(expr.arg))
        if isinstance(expr, sp.Inverse):
            return self.inverse(self.of(expr.arg))
        if isinstance(expr, sp.MatPow):
            return self.of(_repeated(expr))
        raise NotRepresentableError(f"{type(expr).__name__} is not a word: {expr}")

    def times(self, left: Poly, right: Poly) -> Poly:
        return self.reduced(added(*({a + b: x * y} for a, x in left.items() for b, y in right.items())))

    def transposed(self, poly: Poly) -> Poly:
        return self.reduced({tuple(self.turned(x) for x in reversed(w)): c for w, c in poly.items()})

    def turned(self, letter: Letter) -> Letter:
        name, inverse, transposed = letter
        return (name, inverse, not transposed and name not in self.symmetric)

    def inverse(self, poly: Poly) -> Poly:
        """Word by word for one word; a letter of its own for a sum."""
        if len(poly) == 1:
            ((word, coefficient),) = poly.items()
            return self.reduced({tuple((n, not i, t) for n, i, t in reversed(word)): 1 / coefficient})
        key = frozenset(poly.items())
        if key not in self.sums:
            self.sums[key] = f"inverse_{len(self.sums)}"
            self._declare(self.sums[key], poly)
        return {((self.sums[key], False, False),): sp.Integer(1)}

    def _declare(self, name: str, poly: Poly) -> None:
        """The equations of the inverse N of c·l + r, solved for N·l, l·N, N·r·l⁻¹ and l⁻¹·r·N."""
        if self.transposed(poly) == poly:
            self.symmetric.add(name)
        leading = min((word for word in poly if len(word) == 1), default=None)
        if leading is None:
            raise NotRepresentableError("the inverse of a sum without a term of one letter")
        ((base, inverted, turned),) = leading
        self.rows[name] = self.rows[base]
        whole, back = ((name, False, False),), ((base, not inverted, turned),)
        c, rest = poly[leading], {word: x for word, x in poly.items() if word != leading}
        one: Poly = {(): 1 / c}
        self.rules.append((((name, True, False),), poly))
        self.rules.append((whole + leading, added(one, {whole + w: -x / c for w, x in rest.items()})))
        self.rules.append((leading + whole, added(one, {w + whole: -x / c for w, x in rest.items()})))
        if len(rest) == 1:
            ((word, x),) = rest.items()
            self.rules.append((whole + word + back, {back: 1 / x, whole: -c / x}))
            self.rules.append((back + word + whole, {back: 1 / x, whole: -c / x}))

    def reduced(self, poly: Poly) -> Poly:
        """Cancel neighbours and apply the equations until nothing changes."""
        pending, done = dict(poly), Poly()
        for _ in range(MAX_STEPS):
            if not pending:
                return {word: c for word, c in done.items() if c != 0}
            word, coefficient = pending.popitem()
            smaller = self._smaller(word)
            if smaller is None:
                done[word] = sp.expand(done.get(word, 0) + coefficient)
            else:
                pending = added(pending, scaled(smaller, coefficient))
        raise NotRepresentableError("the equations between words do not come to an end")

    def _smaller(self, word: Word) -> Poly | None:
        for k, (left, right) in enumerate(pairwise(word)):
            if left[0] == right[0] and left[1] != right[1] and left[2] == right[2]:
                return {word[:k] + word[k + 2 :]: sp.Integer(1)}
        for pattern, value in self.rules:
            for k in range(len(word) - len(pattern) + 1):
                if word[k : k + len(pattern)] == pattern:
                    return {word[:k] + middle + word[k + len(pattern) :]: c for middle, c in value.items()}
        return None

    def trace(self, expr: sp.MatrixExpr) -> sp.Expr:
        """The trace as a linear form in one symbol per cyclic word."""
        return self.trace_of(self.of(expr), expr.rows)

    def trace_of(self, poly: Poly, rows: sp.Expr) -> sp.Expr:
        return sp.Add(*(c * self._cyclic(word, rows) for word, c in poly.items()))

    def _cyclic(self, word: Word, rows: sp.Expr) -> sp.Expr:
        if not word:
            return rows
        turns = [word[k:] + word[:k] for k in range(len(word))]
        for turn in turns:
            if (smaller := self._smaller(turn)) is not None:
                return self.trace_of(self.reduced(smaller), self._size(turn[0]))
        mirrored = [tuple(self.turned(x) for x in reversed(turn)) for turn in turns]
        return sp.Symbol(f"tr{min(turns + mirrored)}", real=True)

    def _size(self, letter: Letter) -> sp.Expr:
        return sp.Integer(1) if letter[2] and letter[0] not in self.symmetric else self.rows[letter[0]]

    def scalar(self, expr: sp.Expr) -> sp.Expr:
        """A scalar with traces and logs of determinants replaced by symbols of their normal forms."""
        expr = expr.replace(Trace, self.trace)
        return expr.replace(lambda part: isinstance(part, sp.log) and part.has(Determinant), self._log_det)

    def _log_det(self, logarithm: sp.Expr) -> sp.Expr:
        (determinant,) = logarithm.args
        poly, sign = self.of(determinant.arg), 1
        if len(poly) > 1:
            poly, sign = self.inverse(poly), -1
        ((word, coefficient),) = poly.items()
        if coefficient != 1:
            raise NotRepresentableError(f"the determinant of a multiple: {determinant}")
        parts = ((-1 if i else 1) * sp.Symbol(f"logdet[{name}]", real=True) for name, i, _ in word)
        return sign * sp.Add(*parts)

    def mean(self, poly: Poly, moments: Moments) -> Poly:
        """E of each word: no deviation keeps it, one makes it 0, two side by side are a covariance."""
        for variable, (_, covariance) in moments.items():
            name, value = _deviation(variable).name, self.of(covariance)
            poly = self.reduced(added(*(scaled(_paired(word, name, value), c) for word, c in poly.items())))
        return poly

    def mean_trace(self, expr: sp.MatrixExpr, moments: Moments) -> sp.Expr:
        """E of a trace; each word is turned so that its two deviations meet."""
        pieces = [(self.of(expr), expr.rows)]
        for variable, (_, covariance) in moments.items():
            name, value = _deviation(variable).name, self.of(covariance)
            words = [(self._meeting(w, name), c, rows) for poly, rows in pieces for w, c in poly.items()]
            pieces = [
                (self.reduced(scaled(_paired(word, name, value), c)), self._size(word[0]) if word else rows)
                for word, c, rows in words
            ]
        return sp.Add(*(self.trace_of(poly, rows) for poly, rows in pieces))

    def _meeting(self, word: Word, name: str) -> Word:
        turns = [word[k:] + word[:k] for k in range(len(word))]
        pair = ((name, False, False), (name, False, True))
        return next((turn for turn in turns if turn[:2] == pair), word)


def _paired(word: Word, name: str, covariance: Poly) -> Poly:
    """A word with its two deviations replaced by their covariance."""
    number = sum(letter[0] == name for letter in word)
    if number < 2:
        return {word: sp.Integer(1)} if number == 0 else {}
    for k, pair in enumerate(pairwise(word)):
        if number == 2 and pair == ((name, False, False), (name, False, True)):
            return {word[:k] + middle + word[k + 2 :]: c for middle, c in covariance.items()}
    raise NotRepresentableError(f"deviations that are more than two or do not meet: {word}")


def added(*polys: Poly) -> Poly:
    total: Poly = {}
    for poly in polys:
        for word, c in poly.items():
            total[word] = total.get(word, sp.Integer(0)) + c
    return {word: c for word, c in total.items() if c != 0}


def scaled(poly: Poly, factor: sp.Expr) -> Poly:
    return {word: c * factor for word, c in poly.items()}


def _repeated(power: sp.MatPow) -> sp.MatrixExpr:
    """A whole power as a product."""
    base, exponent = power.args
    if not (exponent.is_Integer and abs(exponent) > 1):
        raise NotRepresentableError(f"not a whole power: {power}")
    return sp.MatMul(*[base if exponent > 0 else sp.Inverse(base)] * abs(int(exponent)), evaluate=False)


def _deviation(variable: sp.MatrixSymbol) -> sp.MatrixSymbol:
    return sp.MatrixSymbol(f"δ{variable.name}", *variable.shape)


class Matrices:
    """Exact rational values of expressions, with no use of words."""

    def __init__(self, given: Given, sizes: tuple[int, int], seed: int) -> None:
        self.given = given
        self.sizes = {dim: sizes[0], dim_y: sizes[1]}
        self.random = random.Random(seed)
        self.values: dict[sp.MatrixSymbol, Any] = {}
        self.factors: dict[sp.MatrixSymbol, Any] = {}

    def size(self, expr: sp.Expr) -> int:
        return int(expr.subs(self.sizes))

    def symbol(self, symbol: sp.MatrixSymbol) -> Any:
        """Random entries; a symmetric positive matrix is a factor times its transpose."""
        if symbol in self.given.where:
            return self.value(self.given.where[symbol])
        if symbol not in self.values:
            rows, columns = self.size(symbol.rows), self.size(symbol.cols)
            entries = [fmpq(self.random.randint(-5, 5), 3) for _ in range(rows * columns)]
            matrix = fmpq_mat(rows, columns, entries)
            if rows == columns:
                matrix += _diagonal(rows, rows, 7)
            self.factors[symbol] = matrix
            self.values[symbol] = matrix * matrix.transpose() if symbol in self.given.symmetric else matrix
        return self.values[symbol]

    def value(self, expr: sp.MatrixExpr) -> Any:
        if isinstance(expr, sp.MatrixSymbol):
            return self.symbol(expr)
        rows, columns = self.size(expr.rows), self.size(expr.cols)
        if isinstance(expr, sp.Identity | sp.ZeroMatrix):
            return _diagonal(rows, columns, int(isinstance(expr, sp.Identity)))
        if isinstance(expr, sp.Transpose):
            return self.value(expr.arg).transpose()
        if isinstance(expr, sp.Inverse):
            return self.value(expr.arg).inv()
        if isinstance(expr, sp.MatPow):
            return self.value(_repeated(expr))
        parts = [self.value(p) if isinstance(p, sp.MatrixExpr) else self.number(p) for p in expr.args]
        total = parts[0]
        for part in parts[1:]:
            total = total + part if isinstance(expr, sp.MatAdd) else _product(total, part)
        return total

    def number(self, expr: sp.Expr) -> fmpq:
        value = expr.subs(self.sizes)
        return fmpq(int(value.p), int(value.q))

    def scalar(self, expr: sp.Expr) -> sp.Expr:
        """A scalar with exact traces and determinants."""
        expr = expr.replace(Trace, self.trace).replace(Determinant, lambda m: _sympy(self.value(m).det()))
        return sp.sympify(expr).subs(self.sizes)

    def trace(self, expr: sp.MatrixExpr) -> sp.Expr:
        matrix = self.value(expr)
        return _sympy(sum((matrix[k, k] for k in range(matrix.nrows())), start=fmpq(0)))

    def mean(self, expr: sp.Expr, moments: Moments) -> Any:
        """E of an f of degree 2: f(μ) + ½Σ(f(μ+l) + f(μ−l) − 2f(μ)) over the columns l of a root."""
        if not moments:
            return self.value(expr) if isinstance(expr, sp.MatrixExpr) else self.scalar(expr)
        (variable, (centre, covariance)), *others = moments.items()
        middle, rest = self.value(centre), dict(others)
        factor = self.value(covariance)
        factor = self.factors.get(covariance, factor)
        total = centre_value = self._at(variable, middle, expr, rest)
        for k in range(factor.ncols()):
            column = fmpq_mat(factor.nrows(), 1, [factor[i, k] for i in range(factor.nrows())])
            ends = [self._at(variable, point, expr, rest) for point in (middle + column, middle - column)]
            bend = ends[0] + ends[1] - centre_value - centre_value
            total += bend * fmpq(1, 2) if isinstance(bend, fmpq_mat) else bend / 2
        return total

    def _at(self, variable: sp.MatrixSymbol, point: Any, expr: sp.Expr, moments: Moments) -> Any:
        self.values[variable] = point
        return self.mean(expr, moments)


def _product(left: Any, right: Any) -> Any:
    return left * right if isinstance(left, fmpq_mat) or not isinstance(right, fmpq_mat) else right * left


def _diagonal(rows: int, columns: int, number: int) -> Any:
    return fmpq_mat(rows, columns, [fmpq(number * (i == j)) for i in range(rows) for j in range(columns)])


def _sympy(number: fmpq) -> sp.Rational:
    return sp.Rational(int(number.p), int(number.q))


def _zero(difference: Any) -> bool:
    """Exactly zero, or zero to 50 digits where logs of determinants stand."""
    if isinstance(difference, fmpq_mat):
        return all(entry == 0 for entry in difference.entries())
    ball = enclosure(difference)
    return bool(ball.contains(0) and ball.abs_upper() < sp.Rational(1, 10**40))


@dataclass(frozen=True)
class MatrixIdentity(Step):
    """Two matrix expressions, or scalars made of traces and determinants, are equal in every dimension."""

    lhs: sp.Expr
    rhs: sp.Expr
    given: Given = Given()
    moments: Moments = field(default_factory=dict)
    kind: ClassVar[str] = "matrix identity"

    def obligations(self) -> tuple[Obligation, ...]:
        return (NotCovered("words in a free algebra, repeated on exact matrices of dimension 1, 2 and 3"),)

    def latex(self) -> str:
        left = rf"\mathrm E\left[{tex(self.lhs)}\right]" if self.moments else tex(self.lhs)
        return f"{left} = {tex(self.rhs)}"

    def check(self, assumptions: Assumptions = ()) -> Verdict:
        witness = self._witness()
        if witness is not None:
            return witness
        try:
            proved = self.vanishes(assumptions)
        except NotRepresentableError as error:
            return Verdict("undecided", str(error))
        if proved:
            return Verdict("proved", f"zero in reduced words; exact for {len(SIZES)} pairs of dimensions")
        return Verdict("undecided", "neither zero in reduced words nor refuted by matrices")

    def vanishes(self, assumptions: Assumptions = ()) -> bool:
        """Whether the difference is zero in reduced words; no matrix is looked at."""
        words = Words(self.given)
        shifted = self.lhs.subs({v: mean + _deviation(v) for v, (mean, _) in self.moments.items()})
        if isinstance(self.lhs, sp.MatrixExpr):
            left = words.mean(words.of(shifted.doit()), self.moments)
            return not words.reduced(added(left, scaled(words.of(self.rhs), sp.Integer(-1))))
        mean = shifted.replace(Trace, lambda matrix: words.mean_trace(matrix.doit(), self.moments))
        return decide_zero(words.scalar(mean) - words.scalar(self.rhs), assumptions).proved

    def _witness(self) -> Verdict | None:
        for seed, sizes in enumerate(SIZES):
            matrices = Matrices(self.given, sizes, seed)
            left = matrices.mean(self.lhs, self.moments)
            right = matrices.mean(self.rhs, {})
            if not _zero(left - right):
                shown = {symbol: _shown(value) for symbol, value in matrices.values.items()}
                return Verdict("refuted", f"differs for matrices of dimension {sizes[0]}", shown)
        return None


def _shown(matrix: Any) -> sp.Expr:
    return sp.ImmutableMatrix(matrix.nrows(), matrix.ncols(), [_sympy(entry) for entry in matrix.entries()])


def one_dimensional(expr: sp.Expr, names: Mapping[sp.MatrixSymbol, sp.Expr]) -> sp.Expr:
    """The case d = 1: matrices become numbers, traces and determinants their arguments."""
    if isinstance(expr, sp.MatrixSymbol):
        return names[expr]
    if isinstance(expr, sp.Identity):
        return sp.Integer(1)
    if isinstance(expr, sp.Transpose | Trace | Determinant):
        return one_dimensional(expr.args[0], names)
    if isinstance(expr, sp.Inverse):
        return 1 / one_dimensional(expr.arg, names)
    if not expr.args:
        return expr.subs({dim: 1, dim_y: 1})
    parts = [one_dimensional(part, names) for part in expr.args]
    kinds = {sp.MatAdd: sp.Add, sp.MatMul: sp.Mul}
    return kinds.get(type(expr), expr.func)(*parts)


def mutants(expr: sp.MatrixExpr) -> Iterator[tuple[str, sp.MatrixExpr]]:
    """An inverse or a transpose dropped where the shapes allow it, a sign, one half."""
    for k, part in enumerate(sorted(expr.atoms(sp.Inverse, sp.Transpose), key=str)):
        if part.arg.is_square:
            yield f"{type(part).__name__.lower()}-missing-{k}", expr.xreplace({part: part.arg}).doit()
    yield "sign", (-1 * expr).doit()
    yield "half", (sp.Rational(1, 2) * expr).doit()


def matrix(name: str, rows: sp.Expr, columns: sp.Expr, meaning: str, latex: str = "") -> sp.MatrixSymbol:
    """A matrix symbol with its meaning."""
    from derivations.symbols import Meaning

    symbol = sp.MatrixSymbol(name, rows, columns)
    MEANINGS[symbol] = Meaning("real", meaning, "", latex or name)
    return symbol


