r"""Markov chains: the notation of their laws, and finite chains on which every claim is checked exactly.

A probability is written as it is printed: ``q(x(t), x(t - 1))`` is q(x_t | x_{t-1}), the first argument
given the others, and ``x(1, T)`` is x_{1:T}. In a proof each such value is a free positive number. On a
finite chain it is a rational, found by summing over paths and nothing else. Logs of rationals are compared
exactly too: they are written in the logs of the primes, which are independent over the rationals.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, lru_cache

import sympy as sp
from sympy.core.function import AppliedUndef, UndefinedFunction

from derivations.symbols import T, i, t

Path = tuple[int, ...]
Row = tuple[Fraction, ...]
Case = tuple[str, Fraction, Fraction]
Instance = tuple[str, "Pair", sp.Expr, sp.Expr]


class State(AppliedUndef):  # type: ignore[misc]
    """x(t), the state at time t, or x(s, t), all states from s to t."""

    def _latex(self, printer: sp.printing.latex.LatexPrinter) -> str:
        times = ":".join(str(printer._print(time)) for time in self.args)
        return f"{self.func.__name__}_{{{times}}}"


class Probability(AppliedUndef):  # type: ignore[misc]
    """The probability of the first argument given the others."""

    def _latex(self, printer: sp.printing.latex.LatexPrinter, exp: str | None = None) -> str:
        event, *given = (_listed(part, printer) for part in self.args)
        text = f"{self.func.__name__}({event}{chr(92) + 'mid ' if given else ''}{','.join(given)})"
        return text if exp is None else f"{text}^{{{exp}}}"


def _listed(part: sp.Basic, printer: sp.printing.latex.LatexPrinter) -> str:
    members = part.args if isinstance(part, sp.Tuple) else (part,)
    return ",".join(str(printer._print(member)) for member in members)


x = UndefinedFunction("x", bases=(State,), real=True)
q = UndefinedFunction("q", bases=(Probability,), positive=True)
p = UndefinedFunction("p", bases=(Probability,), positive=True)
DATA, END = x(0), x(T)


def forward(time: sp.Expr) -> sp.Expr:
    """q(x_t | x_{t-1})."""
    return q(x(time), x(time - 1))


def reverse(time: sp.Expr) -> sp.Expr:
    """p(x_{t-1} | x_t)."""
    return p(x(time - 1), x(time))


def posterior(time: sp.Expr) -> sp.Expr:
    """q(x_{t-1} | x_t, x_0)."""
    return q(x(time - 1), x(time), DATA)


def reversal(time: sp.Expr) -> sp.Expr:
    """q(x_{t-1} | x_t)."""
    return q(x(time - 1), x(time))


def noised(time: sp.Expr) -> sp.Expr:
    """q(x_t | x_0)."""
    return q(x(time), DATA)


def bayes(time: sp.Expr) -> sp.Expr:
    """q(x_t | x_{t-1}) through the posterior given the data."""
    return posterior(time) * noised(time) / noised(time - 1)


def bayes_without_data(time: sp.Expr) -> sp.Expr:
    """q(x_t | x_{t-1}) through the reversed kernel."""
    return reversal(time) * q(x(time)) / q(x(time - 1))


def over_steps(term: sp.Expr, first: int = 1, last: sp.Expr = T) -> sp.Expr:
    """The sum of a term in i over the steps."""
    return sp.Sum(term, (i, first, last))


@dataclass(frozen=True)
class Logs:
    """An exact number: a rational, plus rational multiples of the logs of primes."""

    number: Fraction = Fraction(0)
    primes: Mapping[int, Fraction] = field(default_factory=dict)

    def __add__(self, other: Logs) -> Logs:
        names = self.primes.keys() | other.primes.keys()
        total = {n: self.primes.get(n, Fraction(0)) + other.primes.get(n, Fraction(0)) for n in names}
        return Logs(self.number + other.number, {n: c for n, c in total.items() if c})

    def __mul__(self, other: Logs) -> Logs:
        if other.primes:
            self, other = other, self
        if other.primes:
            raise ValueError("a product of two logs is outside what is compared exactly")
        return Logs(self.number * other.number, {n: c * other.number for n, c in self.primes.items()})

    def expr(self) -> sp.Expr:
        """The number as an expression."""
        logs = [sp.Rational(str(c)) * sp.log(n) for n, c in sorted(self.primes.items())]
        return sp.Add(sp.Rational(str(self.number)), *logs)


@lru_cache(maxsize=65536)
def log(number: Fraction) -> Logs:
    """The log of a positive rational."""
    above, below = (sp.factorint(part) for part in (number.numerator, number.denominator))
    powers = [*above.items(), *((prime, -power) for prime, power in below.items())]
    return Logs(primes={int(prime): Fraction(power) for prime, power in powers if prime != 1})


def exponential(number: Logs) -> Fraction:
    """The exponential of an integer combination of logs.

    Raises:
        ValueError: the exponential is not rational.
    """
    if number.number or any(power.denominator != 1 for power in number.primes.values()):
        raise ValueError(f"the exponential of {number.expr()} is not rational")
    return math.prod((Fraction(n) ** int(k) for n, k in number.primes.items()), start=Fraction(1))


@dataclass(frozen=True)
class Law:
    """A law of whole paths."""

    weights: Mapping[Path, Fraction]

    @property
    def T(self) -> int:
        return len(next(iter(self.weights))) - 1

    @cached_property
    def _sums(self) -> dict[tuple[int, ...], dict[Path, Fraction]]:
        return {}

    def of(self, path: Path, levels: tuple[int, ...]) -> Fraction:
        """The probability of the states that the path has at these levels: a sum over all paths."""
        if levels not in self._sums:
            sums = self._sums.setdefault(levels, {})
            for other, weight in self.weights.items():
                key = tuple(other[level] for level in levels)
                sums[key] = sums.get(key, Fraction(0)) + weight
        return self._sums[levels][tuple(path[level] for level in levels)]

    def given(self, path: Path, event: tuple[int, ...], known: tuple[int, ...]) -> Fraction:
        """The probability of the states at some levels given those at others."""
        every = tuple(sorted({*event, *known}))
        return self.of(path, every) / (self.of(path, tuple(sorted(known))) if known else 1)

    def paths(self, levels: tuple[int, ...] | None = None) -> Iterator[Path]:
        """All paths, or one for each combination of states at these levels."""
        seen = set()
        for path in self.weights:
            key = path if levels is None else tuple(path[level] for level in levels)
            if key not in seen:
                seen.add(key)
                yield path


def forward_law(data: Row, kernels: Sequence[Sequence[Row]]) -> Law:
    """The law of the paths of a chain: kernels[t-1][i][j] is the probability of j at t after i at t-1."""
    weights: dict[Path, Fraction] = {(state,): weight for state, weight in enumerate(data)}
    for kernel in kernels:
        weights = {
            (*path, state): weight * kernel[path[-1]][state]
            for path, weight in weights.items()
            for state in range(len(kernel[path[-1]]))
        }
    return Law(weights)


def reverse_law(prior: Row, kernels: Sequence[Sequence[Row]]) -> Law:
    """The law of a reverse chain's paths: kernels[t-1][j][i] is the probability of i at t-1 after j at t."""
    backwards = forward_law(prior, tuple(reversed(kernels)))
    return Law({tuple(reversed(path)): weight for path, weight in backwards.weights.items()})


@dataclass(frozen=True)
class Pair:
    """A forward chain and a model that runs backwards, on the same finite states."""

    name: str
    q: Law
    p: Law

    @property
    def T(self) -> int:
        return self.q.T


def _row(generator: random.Random, states: int) -> Row:
    numbers = [generator.randint(1, 7) for _ in range(states)]
    return tuple(Fraction(number, sum(numbers)) for number in numbers)


def _kernel(generator: random.Random, before: int, after: int) -> tuple[Row, ...]:
    return tuple(_row(generator, after) for _ in range(before))


SIZES = ((2, 2), (3, 2), (2, 3, 2), (3, 2, 2), (2, 2, 2, 3), (2, 2, 2, 2, 2))


@lru_cache(maxsize=1)
def pairs() -> tuple[Pair, ...]:
    """Chains with one to four steps and two or three states a level, the same ones in every run."""
    generator = random.Random(20200619)
    return tuple(_pair(generator, sizes) for sizes in SIZES)


def _pair(generator: random.Random, sizes: Sequence[int]) -> Pair:
    forward = [_kernel(generator, a, b) for a, b in itertools.pairwise(sizes)]
    backward = [_kernel(generator, b, a) for a, b in itertools.pairwise(sizes)]
    q_law = forward_law(_row(generator, sizes[0]), forward)
    return Pair("x".join(map(str, sizes)), q_law, reverse_law(_row(generator, sizes[-1]), backward))


def _levels(part: sp.Basic) -> tuple[int, ...]:
    if isinstance(part, sp.Tuple):
        return tuple(level for member in part.args for level in _levels(member))
    if not isinstance(part, State) or not all(time.is_Integer for time in part.args):
        raise ValueError(f"{part} is no state at a given time")
    return tuple(range(int(part.args[0]), int(part.args[-1]) + 1))


def mentioned(expr: sp.Expr) -> tuple[int, ...]:
    """The levels whose states an expression mentions."""
    return tuple(sorted({level for state in expr.atoms(State) for level in _levels(state)}))


def value(expr: sp.Expr, pair: Pair, path: Path) -> Logs:
    """A claim about probabilities on one path of a finite chain, exactly."""
    if isinstance(expr, Probability):
        law = pair.q if expr.func == q else pair.p
        event, *known = (_levels(part) for part in expr.args)
        return Logs(law.given(path, event, tuple(itertools.chain(*known))))
    if isinstance(expr, sp.Add | sp.Mul):
        parts = [value(part, pair, path) for part in expr.args]
        total = parts[0]
        for part in parts[1:]:
            total = total + part if isinstance(expr, sp.Add) else total * part
        return total
    if isinstance(expr, sp.log):
        return log(_rational(expr.args[0], pair, path))
    if isinstance(expr, sp.Pow) and expr.exp.is_Integer:
        return Logs(_rational(expr.base, pair, path) ** int(expr.exp))
    if expr.is_Rational:
        return Logs(Fraction(int(expr.p), int(expr.q)))
    raise ValueError(f"{expr} has no exact value on a chain")


def _rational(expr: sp.Expr, pair: Pair, path: Path) -> Fraction:
    exact = value(expr, pair, path)
    if exact.primes:
        raise ValueError(f"{expr} is not rational")
    return exact.number


def compared(label: str, lhs: Logs, rhs: Logs) -> Iterator[Case]:
    """Two exact numbers, part by part."""
    yield f"{label}, rational part", lhs.number, rhs.number
    for prime in sorted(lhs.primes.keys() | rhs.primes.keys()):
        left, right = (side.primes.get(prime, Fraction(0)) for side in (lhs, rhs))
        yield f"{label}, log {prime}", left, right


def instances(claim: sp.Expr, exact: sp.Expr, first: int = 1) -> Iterator[Instance]:
    """A claim and what it should be for every chain and, where they speak of t, every t from ``first``."""
    for pair in pairs():
        times = range(first, pair.T + 1) if claim.has(t) or exact.has(t) else range(1)
        for time in times:
            sides = (side.subs({T: pair.T, t: time}).doit() for side in (claim, exact))
            yield (f"{pair.name} t={time}", pair, *sides)


def path_cases(claim: sp.Expr, exact: sp.Expr, first: int = 1) -> Iterator[Case]:
    """A claim and what it should be, on every path of every chain."""
    for label, pair, left, right in instances(claim, exact, first):
        for path in pair.q.paths():
            yield from compared(f"{label} {path}", value(left, pair, path), value(right, pair, path))


def total_cases(summand: sp.Expr, exact: sp.Expr, first: int = 1) -> Iterator[Case]:
    """The sum of a summand over the states that it mentions, and the mean over q(x_{0:T}) of ``exact``."""
    for label, pair, left, right in instances(summand, exact, first):
        total, mean = Logs(), Logs()
        for path in pair.q.paths(mentioned(left)):
            total += value(left, pair, path)
        for path, weight in pair.q.weights.items():
            mean += Logs(weight) * value(right, pair, path)
        yield from compared(label, total, mean)


def evidence_cases(claim: sp.Expr) -> Iterator[Case]:
    """The mean over q(x_{1:T} | x_0) of the exponential of a claim, and p(x_0), for every x_0."""
    for label, pair, left, right in instances(claim, p(x(0))):
        for start in pair.q.paths((0,)):
            paths = [path for path in pair.q.paths() if path[0] == start[0]]
            weights = (pair.q.given(path, tuple(range(1, pair.T + 1)), (0,)) for path in paths)
            values = (exponential(value(left, pair, path)) for path in paths)
            total = sum((w * v for w, v in zip(weights, values, strict=True)), Fraction(0))
            yield f"{label} x_0={start[0]}", total, value(right, pair, start).number
