"""Finite diffusion chains with labels: random rational kernels, and every probability an exact fraction.

A chain has a law of x_0, a label drawn from x_0 alone, and forward kernels that do not see the label. All
else is a sum over paths, so nothing that is to be proved goes into the numbers that it is compared with.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import prod

import sympy as sp

Row = tuple[Fraction, ...]
Case = tuple[str, sp.Rational, sp.Expr]
Event = Mapping[int, int]
LABEL = -1
"""The key of the label in an event; the other keys are times."""


@dataclass(frozen=True)
class Point:
    """Two levels s < t of a chain, a state at each, and a label."""

    s: int
    t: int
    x_s: int
    x_t: int
    y: int

    @property
    def below(self) -> Event:
        return {self.s: self.x_s}

    @property
    def above(self) -> Event:
        return {self.t: self.x_t}

    @property
    def label(self) -> Event:
        return {LABEL: self.y}


@dataclass(frozen=True)
class LabelledChain:
    """q(x_0), q(y | x_0) row by row, and for each step the rows q(x_t | x_{t-1})."""

    start: Row
    labels: tuple[Row, ...]
    kernels: tuple[tuple[Row, ...], ...]

    @cached_property
    def joint(self) -> dict[tuple[int, ...], Fraction]:
        """The probability of each (x_0, …, x_T, y)."""
        return {(*path, y): self._probability(path, y) for path in self._paths() for y in self._labels()}

    def _paths(self) -> Iterator[tuple[int, ...]]:
        return itertools.product(range(len(self.start)), repeat=len(self.kernels) + 1)

    def _labels(self) -> range:
        return range(len(self.labels[0]))

    def _probability(self, path: tuple[int, ...], y: int) -> Fraction:
        moves = zip(self.kernels, itertools.pairwise(path), strict=True)
        return self.start[path[0]] * self.labels[path[0]][y] * prod(k[a][b] for k, (a, b) in moves)

    def mass(self, *events: Event) -> Fraction:
        """The probability that all events happen: a sum over paths."""
        wanted = [item for event in events for item in event.items()]
        paths = (p for path, p in self.joint.items() if all(path[k] == v for k, v in wanted))
        return sum(paths, Fraction(0))

    def given(self, event: Event, *known: Event) -> sp.Rational:
        """The conditional probability of an event."""
        return rational(self.mass(event, *known) / self.mass(*known))

    def powered(self, y: int, power: int) -> LabelledChain:
        """The chain whose data have the law q(x_0) q(y | x_0)^power, normalised."""
        weights = [p * row[y] ** power for p, row in zip(self.start, self.labels, strict=True)]
        return replace(self, start=tuple(weight / sum(weights) for weight in weights))

    def mean_power(self, y: int, power: int, known: Event) -> sp.Rational:
        """The mean of q(y | x_0)^power given a state."""
        terms = (self.given({0: k}, known) * rational(row[y]) ** power for k, row in enumerate(self.labels))
        return sp.Add(*terms)

    def points(self) -> Iterator[Point]:
        """Every pair of levels, of states, and label."""
        states = range(len(self.start))
        for s, t in itertools.combinations(range(len(self.kernels) + 1), 2):
            yield from (Point(s, t, *rest) for rest in itertools.product(states, states, self._labels()))


def rational(value: Fraction) -> sp.Rational:
    """The fraction as a number of SymPy."""
    return sp.Rational(value.numerator, value.denominator)


def chain(states: int, steps: int, labels: int, seed: int) -> LabelledChain:
    """A chain with random kernels, the same in every run."""
    generator = random.Random(seed)

    def row(size: int) -> Row:
        weights = [generator.randint(1, 9) for _ in range(size)]
        return tuple(Fraction(weight, sum(weights)) for weight in weights)

    kernels = tuple(tuple(row(states) for _ in range(states)) for _ in range(steps))
    return LabelledChain(row(states), tuple(row(labels) for _ in range(states)), kernels)


CHAINS = {"2 states, 3 steps, 2 labels": chain(2, 3, 2, 7), "3 states, 2 steps, 3 labels": chain(3, 2, 3, 11)}

Values = Callable[[LabelledChain, Point], Mapping[sp.Basic, sp.Expr]]
Truth = Callable[[LabelledChain, Point], sp.Rational]


def everywhere(claim: sp.Expr, values: Values, truth: Truth) -> Callable[[], Iterator[Case]]:
    """The cases in which a claim, at the values that its symbols have on a chain, must be the truth there."""

    def cases() -> Iterator[Case]:
        for name, where in CHAINS.items():
            for point in where.points():
                label = f"{name}, x_{point.s} = {point.x_s}, x_{point.t} = {point.x_t}, y = {point.y}"
                yield label, truth(where, point), claim.xreplace(dict(values(where, point)))

    return cases
