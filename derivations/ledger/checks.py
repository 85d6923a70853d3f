"""What can judge a statement: proofs of the registry, proofs of its own, exact counterexamples, experiments.

A check computes its verdict. ``failed`` means that the statement is not what the row says it is, and fails
the build.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeAlias

import sympy as sp

import derivations
from derivations.kit.ball import BallError, enclosure
from derivations.kit.formula import Decoy, Formula
from derivations.kit.steps import Step
from derivations.kit.verdict import Verdict, worst
from derivations.kit.zero import points, without_functions

Found = Literal[
    "proved", "numeric", "approximation", "definition", "convention", "erratum", "not-checkable", "failed"
]
Exact: TypeAlias = Any
"""A whole number, a Fraction or a SymPy rational."""
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Outcome:
    """A verdict, how it was reached, and for an erratum the numbers where printed and true differ."""

    verdict: Found
    detail: str
    witness: Mapping[str, str] = field(default_factory=dict)


class Check:
    """Judges one statement."""

    formulas: tuple[str, ...] = ()
    finds_errata: ClassVar[bool] = False

    def run(self) -> Outcome:
        """Compute the verdict."""
        raise NotImplementedError

    def describe(self) -> str:
        """What is done, in a few words."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Proved(Check):
    """Formulas of the registry, and all that they use, are proved, and their decoys are refuted."""

    ids: tuple[str, ...]

    def __init__(self, *ids: str) -> None:
        object.__setattr__(self, "ids", ids)

    @property
    def formulas(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.ids

    def run(self) -> Outcome:
        return _outcome("proved", _proved(self.ids), f"proved as {', '.join(self.ids)}")

    def describe(self) -> str:
        return f"proof of {', '.join(self.ids)}"


@dataclass(frozen=True, eq=False)
class Steps(Check):
    """A proof of its own; ``wrong`` is the same proof of something false and must be refuted."""

    steps: Callable[[], Sequence[Step]]
    wrong: Callable[[], Sequence[Step]]
    assumptions: tuple[sp.Basic, ...] = ()
    formulas: tuple[str, ...] = ()

    def run(self) -> Outcome:
        refuted = _refuted(self.wrong(), self.assumptions)
        if refuted is None:
            return Outcome("failed", "the false statement is not refuted, so the proof says nothing")
        steps = self.steps()
        verdict = worst([_proved(self.formulas), *(step.check(self.assumptions) for step in steps)])
        return _outcome("proved", verdict, "proved: " + "; ".join(step.title for step in steps))

    def describe(self) -> str:
        return "proof: " + "; ".join(step.title for step in self.steps())


@dataclass(frozen=True, eq=False)
class Approximation(Check):
    """An approximation whose order is proved and whose size at stated numbers is computed.

    Args:
        steps: the proof of the leading term of the error.
        wrong: the same proof with another term, which must be refuted.
        order: of the error, in the words of the statement.
        size: the error at stated numbers, exactly or as a ball's midpoint, in words.
        formulas: formulas of the registry that it rests on, or that are the whole proof.
    """

    order: str
    size: Callable[[], str]
    steps: Callable[[], Sequence[Step]] = tuple
    wrong: Callable[[], Sequence[Step]] = tuple
    formulas: tuple[str, ...] = ()
    assumptions: tuple[sp.Basic, ...] = ()

    def run(self) -> Outcome:
        steps = self.steps()
        if steps and _refuted(self.wrong(), self.assumptions) is None:
            return Outcome("failed", "another order is not refuted, so the proof says nothing")
        verdict = worst([_proved(self.formulas), *(step.check(self.assumptions) for step in steps)])
        if not steps and not self.formulas:
            verdict = Verdict("undecided", "no proof of the order")
        return _outcome("approximation", verdict, f"error {self.order}; {self.size()}", {"size": self.size()})

    def describe(self) -> str:
        return f"proof that the error is {self.order}, and its size"


@dataclass(frozen=True, eq=False)
class Numeric(Check):
    """Numbers that agree to a stated number of digits, and others that do not.

    Args:
        pairs: names of quantities, what the statement says, and what an independent computation gives.
        digits: to which each pair agrees, relatively.
        broken: the same for a statement that is false; none of its pairs may agree to as many digits.
    """

    pairs: Callable[[], Mapping[str, tuple[Exact, Exact]]]
    broken: Callable[[], Mapping[str, tuple[Exact, Exact]]]
    digits: int
    how: str
    formulas: tuple[str, ...] = ()

    def run(self) -> Outcome:
        if any(_agree(left, right, self.digits) for left, right in self.broken().values()):
            return Outcome("failed", "a false statement agrees to as many digits")
        pairs = self.pairs()
        bad = [name for name, (left, right) in pairs.items() if not _agree(left, right, self.digits)]
        if bad or not pairs:
            return Outcome("failed", f"not to {self.digits} digits: {', '.join(bad) or 'nothing compared'}")
        verdict = _proved(self.formulas)
        return _outcome("numeric", verdict, f"{len(pairs)} values to {self.digits} digits: {self.how}")

    def describe(self) -> str:
        return f"{self.how}, to {self.digits} digits"


@dataclass(frozen=True, eq=False)
class Definition(Check):
    """It fixes what a name means, and there is nothing to prove."""

    of: str

    def run(self) -> Outcome:
        return Outcome("definition", f"defines {self.of}")

    def describe(self) -> str:
        return f"definition of {self.of}"


@dataclass(frozen=True, eq=False)
class Convention(Check):
    """One of several right ways; converters between them are proved where they are named."""

    what: str
    formulas: tuple[str, ...] = ()

    def run(self) -> Outcome:
        return _outcome("convention", _proved(self.formulas), self.what)

    def describe(self) -> str:
        return f"convention: {self.what}"


@dataclass(frozen=True, eq=False)
class NotCheckable(Check):
    """A statement that no computation can judge, and why."""

    reason: str

    def run(self) -> Outcome:
        return Outcome("not-checkable", self.reason)

    def describe(self) -> str:
        return f"not checkable: {self.reason}"


@dataclass(frozen=True, eq=False)
class Erratum(Check):
    """The printed form is a decoy of a formula: the decoy is refuted, the formula is proved."""

    id: str
    decoy: str
    also: tuple[str, ...] = ()
    finds_errata: ClassVar[bool] = True

    @property
    def formulas(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.id, *self.also)

    def run(self) -> Outcome:
        node = derivations.registry()[self.id]
        wrong = decoy(node, self.decoy)
        verdict = node.refute(wrong.rhs)
        if verdict.status != "refuted":
            return Outcome("failed", f"the printed form is {verdict.status}: {verdict.detail}")
        detail = f"the printed form, decoy {self.decoy} of {self.id}, is refuted: {verdict.detail}"
        return _outcome("erratum", _proved(self.formulas), detail, _numbers(node, wrong, verdict))

    def describe(self) -> str:
        return f"decoy {self.decoy} of {self.id} refuted, {', '.join(self.formulas)} proved"


@dataclass(frozen=True, eq=False)
class Counterexample(Check):
    """A false claim, or a false form that no formula has: exact numbers where it fails, and what is true.

    Args:
        differs: names of quantities with the printed value and the true one; at least one pair differs.
        formulas: what is true, from the registry.
        true: steps that prove the corrected form, where the registry does not hold it.
    """

    differs: Callable[[], Mapping[str, tuple[Exact, Exact]]]
    how: str
    formulas: tuple[str, ...] = ()
    true: Callable[[], Sequence[Step]] = tuple
    finds_errata: ClassVar[bool] = True

    def run(self) -> Outcome:
        pairs = self.differs()
        apart = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
        if not apart:
            return Outcome("failed", "the printed form agrees with the true one in every case")
        steps = self.true()
        if not steps and not self.formulas:
            return Outcome("failed", "what is true instead is not proved")
        verdict = worst([_proved(self.formulas), *(step.check() for step in steps)])
        witness = {
            name: f"printed {_shown(printed)}, true {_shown(true)}" for name, (printed, true) in apart.items()
        }
        return _outcome("erratum", verdict, self.how, witness)

    def describe(self) -> str:
        return f"counterexample: {self.how}"


def decoy(node: Formula, name: str) -> Decoy:
    """A decoy of a formula by its id.

    Raises:
        ValueError: the formula has no such decoy.
    """
    for found in node.known_decoys or node.decoys:
        if found.id == name:
            return found
    for found in node.decoys:
        if found.id == name:
            return found
    raise ValueError(f"decoy must be one of {node.id}'s, {[d.id for d in node.decoys]}, got {name!r}")


def _proved(ids: Sequence[str]) -> Verdict:
    """The worst status among formulas; none at all is no objection."""
    registry = derivations.registry()
    missing = [name for name in ids if name not in registry]
    if missing:
        return Verdict("undecided", f"no formula {', '.join(missing)}")
    bad = [name for name in ids if registry.status(name) != "proved"]
    return Verdict("undecided", f"not proved: {', '.join(bad)}") if bad else Verdict("proved")


def _outcome(found: Found, verdict: Verdict, detail: str, witness: Mapping[str, str] = NOTHING) -> Outcome:
    if not verdict.proved:
        return Outcome("failed", f"{verdict.status}: {verdict.detail}")
    return Outcome(found, detail, witness)


def _refuted(steps: Sequence[Step], assumptions: Sequence[sp.Basic]) -> Verdict | None:
    for step in steps:
        verdict = step.check(assumptions)
        if verdict.status == "refuted":
            return verdict
    return None


def _agree(left: Exact, right: Exact, digits: int) -> bool:
    one, other = Fraction(str(left)), Fraction(str(right))
    return bool(abs(one - other) * 10**digits <= max(abs(one), abs(other)))


def _numbers(node: Formula, wrong: Decoy, verdict: Verdict) -> dict[str, str]:
    """Both sides at a point where they differ; without functions of a value, the point of the refutation."""
    sides = [without_functions(side) for side in (wrong.closed, node.closed)]
    for point in points(set().union(*(side.free_symbols for side in sides)), node.assumptions):
        try:
            printed, true = (enclosure(side, point) for side in sides)
        except BallError:
            continue
        if not printed.overlaps(true):
            shown = {str(symbol): str(value) for symbol, value in point.items()}
            return {
                "at": ", ".join(f"{name} = {value}" for name, value in shown.items()),
                "printed": printed.str(12, radius=False),
                "true": true.str(12, radius=False),
            }
    return {str(symbol): str(value) for symbol, value in verdict.witness.items()}


def _shown(value: Exact) -> str:
    number = sp.Rational(str(value))
    return str(number) if len(str(number)) < 24 else str(sp.N(number, 12))
