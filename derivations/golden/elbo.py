"""Where the bound is evaluated: bits and Gaussian data at pairs of levels, autoencoders, and whole chains."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, TypeAlias

import sympy as sp

from derivations.chains import (
    END,
    Probability,
    State,
    forward,
    noised,
    p,
    posterior,
    q,
    reversal,
    reverse,
    x,
)
from derivations.golden.case import Coverage, case
from derivations.golden.formulas import Point, Variant
from derivations.golden.grid import INNER, ONE_STEP, SKIPS, VALUES, points, without
from derivations.golden.inputs import Levels
from derivations.golden.matrices import array_output
from derivations.golden.nodes import node
from derivations.kit.ball import Value
from derivations.symbols import T, t

Grid: TypeAlias = tuple[Callable[[], Variant], Callable[[], Sequence[Point]]]
SCALARS = (
    *("chance_0", "chance_1", "chance_prev", "sign_t", "error_t", "error_prev"),
    *("code_mean", "code_variance"),
)
EXACT = tuple(pair for pair in ONE_STEP if pair.schedule is None)
BETWEEN = tuple(pair for pair in SKIPS if "strided" in pair.flags)
"""Pairs with a level between."""
MODEL: Mapping[str, Value] = {"slope": Fraction(5, 8), "shift": Fraction(-3, 16), "sigma_t": Fraction(3, 8)}


def numbers(**text: str) -> dict[str, Value]:
    """Exact values by name."""
    return {name: Fraction(value) for name, value in text.items()}


def kernel(id: str, pairs: Sequence[Levels] = ONE_STEP, suffix: str = "", **extra: str) -> Grid:
    """A formula of a kernel at pairs of levels."""
    return partial(Variant, f"elbo.{id}"), partial(points, pairs, numbers(**extra), suffix)


BITS = (
    Point("near", ("interior",), numbers(chance_0="5/16", chance_1="3/8")),
    Point("rare", ("interior",), numbers(chance_0="1/64", chance_1="7/8")),
    Point("sure", ("interior",), numbers(chance_0="127/128", chance_1="3/16")),
)
KERNELS: tuple[Grid, ...] = (
    kernel("binomial_kernel", chance_prev="5/16"),
    kernel("binomial_marginal", chance_0="5/16"),
    kernel("binomial_posterior", ONE_STEP, "-one", chance_0="5/16", sign_t="1"),
    kernel("binomial_posterior", EXACT, "-zero", chance_0="13/16", sign_t="-1"),
    (partial(Variant, "elbo.binomial_divergence"), lambda: BITS),
    kernel("binomial_prior_term", EXACT, chance_0="13/16"),
)
GAUSSIANS: tuple[Grid, ...] = (
    kernel("gaussian_information", INNER),
    (partial(Variant, "elbo.gaussian_denoising_term"), partial(points, without(INNER, "near-levels"), MODEL)),
    kernel("refinement", BETWEEN, error_t="9/16", error_prev="5/32"),
    kernel("refinement_gaussian"),
)
AUTOENCODERS = (
    Point(
        "wide", ("nonzero-mean",),
        {**VALUES} | numbers(
            slope="-3/2", shift="7/8", variance_1="5/32", y="-1/4", code_mean="3/8", code_variance="9/16",
            eps="-11/8",
        ),
    ),
    Point(
        "noisy", ("nonzero-mean",),
        {**VALUES} | numbers(
            slope="5/8", shift="-9/8", variance_1="7/4", y="13/8", code_mean="-5/4", code_variance="3/32",
            eps="7/16",
        ),
    ),
    Point(
        "thin", ("nonzero-mean", "small-variance"),
        {**VALUES} | numbers(
            slope="11/8", shift="3/16", variance_1="1/1024", y="9/4", code_mean="7/4", code_variance="1/512",
            eps="3/8",
        ),
    ),
)  # fmt: skip
LINEAR_GAUSSIAN: tuple[Grid, ...] = tuple(
    (partial(Variant, f"vae.{name}"), lambda: AUTOENCODERS)
    for name in (
        "gaussian_evidence", "optimal_encoder_mean", "optimal_encoder_variance", "gaussian_divergence",
        "gaussian_elbo", "gaussian_gap", "reparameterised", "sampled_elbo",
    )
)  # fmt: skip

Rows = tuple[tuple[Fraction, ...], ...]


@dataclass(frozen=True)
class Tables:
    """A forward chain and a model as exact tables, their rows laws."""

    id: str
    data: tuple[Fraction, ...]
    kernels: tuple[Rows, ...]
    prior: tuple[Fraction, ...]
    reverse: tuple[Rows, ...]

    def given(self) -> dict[str, Any]:
        """The JSON of the tables."""
        return {
            "data": [str(entry) for entry in self.data],
            "kernels": [[[str(entry) for entry in row] for row in table] for table in self.kernels],
            "prior": [str(entry) for entry in self.prior],
            "reverse": [[[str(entry) for entry in row] for row in table] for table in self.reverse],
        }


def _law(text: str) -> tuple[Fraction, ...]:
    """A law in 32nds."""
    return tuple(Fraction(int(entry), 32) for entry in text.split())


def _table(*rows: str) -> Rows:
    return tuple(_law(row) for row in rows)


SHORT = Tables(
    "short",
    _law("5 9 18"),
    (_table("28 4", "11 21", "3 29"), _table("25 7", "9 23")),
    _law("13 19"),
    (_table("6 7 19", "9 17 6"), _table("21 11", "14 18")),
)
LONG = Tables(
    "long",
    _law("9 23"),
    (_table("27 5", "3 29"), _table("22 10", "6 26"), _table("23 9", "5 27")),
    _law("15 17"),
    (_table("22 10", "7 25"), _table("26 6", "8 24"), _table("20 12", "9 23")),
)


class Chains:
    """The two laws of the tables, in the symbols of their entries."""

    def __init__(self, tables: Tables) -> None:
        self.known: dict[str, Value] = {}
        self.T = len(tables.kernels)
        self.sizes = [len(tables.data), *(len(kernel[0]) for kernel in tables.kernels)]
        self.start = {"q": self._named("d", tables.data), "p": self._named("e", tables.prior)}
        self.tables = {"q": self._named("k", tables.kernels), "p": self._named("r", tables.reverse)}

    def _named(self, name: str, rows: Any) -> Any:
        """The nested entries as symbols; their values are ``known``."""
        if isinstance(rows, tuple):
            return tuple(self._named(f"{name}_{k}", row) for k, row in enumerate(rows))
        self.known[name] = rows
        return sp.Symbol(name, positive=True)

    def mean(self, claim: sp.Expr, time: int | None = None) -> sp.Expr:
        """The mean over q(x_{0:T}) of a claim about probabilities, at a step t where it speaks of one."""
        claim = claim.subs({T: self.T, **({} if time is None else {t: time})}).doit()
        return sp.Add(*(self._mean_of_term(term) for term in sp.Add.make_args(claim)))

    def _mean_of_term(self, term: sp.Expr) -> sp.Expr:
        levels = sorted({int(level) for state in term.atoms(State) for level in state.args})
        total = sp.S.Zero
        for states in itertools.product(*(range(self.sizes[level]) for level in levels)):
            at = dict(zip(levels, states, strict=True))
            parts = {part: self._probability(part, at) for part in term.atoms(Probability)}
            total += self._joint("q", at) * term.xreplace(parts)
        return total

    def _probability(self, part: sp.Expr, at: Mapping[int, int]) -> sp.Expr:
        event, *known = ([int(level) for level in state.args] for state in part.args)
        given = set(itertools.chain(*known))
        every = {level: at[level] for level in {*event, *given}}
        law = part.func.__name__
        return self._joint(law, every) / self._joint(law, {level: at[level] for level in given})

    def _joint(self, law: str, at: Mapping[int, int]) -> sp.Expr:
        """The probability of states at some levels: step by step, in the direction of the law."""
        order = sorted(at, reverse=law == "p")
        first = self.T if law == "p" else 0
        product, ends = sp.S.One, [(first, None), *((level, at[level]) for level in order)]
        for (level, state), (other, reached) in itertools.pairwise(ends):
            product *= self._passage(law, level, state, other, reached)
        return product

    def _passage(self, law: str, level: int, state: int | None, other: int, reached: int | None) -> sp.Expr:
        """From a state, or from the law of the first level, to a state: summed over what is between."""
        count = self.sizes[level]
        row = list(self.start[law]) if state is None else [sp.Integer(k == state) for k in range(count)]
        times = range(level, other) if law == "q" else range(level - 1, other - 1, -1)
        for time in times:
            table = self.tables[law][time]
            row = [
                sp.Add(*(a * step[k] for a, step in zip(row, table, strict=True)))
                for k in range(len(table[0]))
            ]
        return row[reached]  # type: ignore[index]


def steps(chains: Chains, claim: sp.Expr) -> list[sp.Expr]:
    """The mean of a claim about step t, for t = 2, ..., T."""
    return [chains.mean(claim, time) for time in range(2, chains.T + 1)]


ONE = sp.Integer(1)
PRIOR = sp.log(noised(T) / p(END))
STEP = sp.log(posterior(t) / reverse(t))
FIRST = -sp.log(reverse(ONE))
KNOWN = sp.log(noised(t - 1) / q(x(t - 1))) - sp.log(noised(t) / q(x(t)))
MISREAD: Mapping[str, tuple[sp.Expr, Mapping[str, sp.Expr]]] = {
    "reconstruction": (FIRST, {"encoder": -sp.log(forward(ONE)), "posterior": -sp.log(reversal(ONE))}),
    "prior": (PRIOR, {"not-given-data": sp.log(q(END) / p(END)), "entropy-missing": -sp.log(p(END))}),
    "denoising": (
        STEP,
        {
            "not-given-data": sp.log(reversal(t) / reverse(t)),
            "forward-kernel": sp.log(forward(t) / reverse(t)),
            "entropy-missing": -sp.log(reverse(t)),
        },
    ),
    "information": (
        KNOWN,
        {
            "of-x_{t-1}": sp.log(noised(t - 1) / q(x(t - 1))),
            "of-x_t": sp.log(noised(t) / q(x(t))),
            "term": STEP,
        },
    ),
}
"""What each term is the mean of, and what it is taken for."""
WHOLE = {"bound": "elbo.three_terms", "path_divergence": "elbo.path_divergence"}


Asked: TypeAlias = tuple[str, list[sp.Expr], dict[str, list[sp.Expr]]]


def asked(chains: Chains) -> Iterator[Asked]:
    """Name, entries and misreadings of each output."""
    for name, (claim, wrong) in MISREAD.items():
        of = steps if claim.has(t) else (lambda chains, claim: [chains.mean(claim)])
        yield name, of(chains, claim), {id: of(chains, other) for id, other in wrong.items()}
    for name, id in WHOLE.items():
        formula, sign = node(id), -1 if name == "bound" else 1
        decoys = {decoy.id: [sign * chains.mean(decoy.rhs)] for decoy in formula.known_decoys}
        yield name, [sign * chains.mean(formula.rhs)], decoys


def chain_cases(coverage: Coverage) -> Iterator[dict[str, Any]]:
    """The terms of the bound of whole chains, from the tables; the misreadings of each are its decoys."""
    for tables in (SHORT, LONG):
        chains = Chains(tables)
        name = f"elbo.three_terms/{tables.id}"
        outputs = []
        for output, right, decoys in asked(chains):
            shape = (len(right),) if output in ("denoising", "information") else ()
            found, _ = array_output(name, right, decoys, chains.known, shape)
            outputs.append({**found, "name": output})
        yield case(name, "elbo.three_terms", ("several-levels",), {"chain": tables.given()}, outputs)
