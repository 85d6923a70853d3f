"""One node per formula: statement, proof, decoys, citations, and a status that is computed from them.

A proof is a function of the claimed right side. Given the right side it must prove; given a decoy it must
refute.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import sympy as sp

from derivations.kit.generators import reject_floats
from derivations.kit.mutate import mutations
from derivations.kit.second import SecondOpinion, second_opinions
from derivations.kit.steps import Obligation, Step, Zero
from derivations.kit.verdict import Status, Verdict, worst
from derivations.kit.zero import close, refute

ProofOf = Callable[[sp.Expr], Iterator[Step]]
_ID = re.compile(r"[a-z_]+\.[a-zA-Z0-9_]+")
FAMILIES = (
    "schedule", "index", "variance", "sqrt", "sign", "parameterization", "noise-at-t0", "precision",
    "discretization", "loss-weight", "guidance", "likelihood", "time-embedding", "data-scaling",
    "state-broadcast",
)  # fmt: skip


class FormulaError(ValueError):
    """A formula, a proof or the graph of formulas is not well made."""


@dataclass(frozen=True)
class Decoy:
    """A plausible wrong right side."""

    id: str
    rhs: sp.Expr
    family: str
    note: str
    citation: str = ""

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise FormulaError(
                f"decoy {self.id!r}: family {self.family!r} is not one of {', '.join(FAMILIES)}"
            )
        _exact(self.rhs, f"decoy {self.id!r}")

    @property
    def closed(self) -> sp.Expr:
        return close(self.rhs)


def _exact(expr: sp.Basic, owner: str) -> None:
    try:
        reject_floats(sp.sympify(expr))
    except ValueError as error:
        raise FormulaError(f"{owner}: {error}") from None


@dataclass(frozen=True)
class StepReport:
    """One step, its verdict, and what the other provers say of it."""

    step: Step
    verdict: Verdict
    second: tuple[SecondOpinion, ...]


@dataclass(frozen=True)
class Report:
    """What verifying one formula found."""

    id: str
    own: Status
    steps: tuple[StepReport, ...]
    decoys: Mapping[str, Verdict]
    complaints: tuple[str, ...]

    @property
    def proved(self) -> bool:
        return self.own == "proved" and not self.complaints


@dataclass(frozen=True, eq=False)
class Formula:
    """A statement ``lhs = rhs`` with its proof; see the ``formula`` decorator for the fields."""

    id: str
    title: str
    lhs: sp.Basic
    rhs: sp.Expr
    proof: ProofOf
    prose: str
    citations: tuple[str, ...] = ()
    reference: str = ""
    uses: tuple[str, ...] = ()
    known_decoys: tuple[Decoy, ...] = ()
    assumptions: tuple[sp.Basic, ...] = ()
    mutate: bool = True
    _cache: dict[str, Report] = field(default_factory=dict, repr=False)

    @property
    def topic(self) -> str:
        return self.id.partition(".")[0]

    @cached_property
    def closed(self) -> sp.Expr:
        """The right side in independent level symbols."""
        return close(self.rhs)

    @property
    def arguments(self) -> tuple[sp.Symbol, ...]:
        """The free symbols of the closed right side, by name."""
        return tuple(sorted(self.closed.free_symbols, key=lambda symbol: symbol.name))

    @cached_property
    def decoys(self) -> tuple[Decoy, ...]:
        """The known decoys, then the mutations that really differ from the formula."""
        known = {decoy.closed for decoy in self.known_decoys} | {self.closed}
        grown = [
            Decoy(name, rhs, family, note)
            for family, name, note, rhs in self._mutations()
            if close(rhs) not in known
        ]
        found = self.known_decoys + tuple(
            decoy for decoy in grown if refute(decoy.rhs - self.rhs, self.assumptions)
        )
        _unique(self.id, found)
        return found

    def _mutations(self) -> Iterable[tuple[str, str, str, sp.Expr]]:
        return mutations(self.rhs) if self.mutate else ()

    def steps(self, claim: sp.Expr | None = None) -> tuple[Step, ...]:
        """The proof of the right side, or the same proof run on another claim."""
        return tuple(self.proof(self.rhs if claim is None else claim))

    @cached_property
    def own_steps(self) -> tuple[Step, ...]:
        """The proof of the right side, built once."""
        return self.steps()

    def obligations(self) -> tuple[Obligation, ...]:
        return tuple(obligation for step in self.own_steps for obligation in step.stated)

    def verify(self) -> Report:
        """Run the proof, every second prover, and the same proof on every decoy."""
        if "report" not in self._cache:
            self._cache["report"] = self._verify()
        return self._cache["report"]

    def _verify(self) -> Report:
        steps = tuple(self._check(step) for step in self.own_steps)
        own = worst(report.verdict for report in steps)
        decoys = {decoy.id: self.refute(decoy.rhs) for decoy in self.decoys}
        return Report(self.id, own.status, steps, decoys, tuple(_complaints(steps, decoys)))

    def _check(self, step: Step) -> StepReport:
        verdict = step.check(self.assumptions)
        opinions = tuple(o for ob in step.stated for o in second_opinions(ob, self.assumptions))
        return StepReport(step, verdict, opinions)

    def refute(self, claim: sp.Expr) -> Verdict:
        """The verdict of the proof on another right side; a decoy must come out refuted."""
        found = []
        for step in self.steps(claim):
            # a step that does not speak of the claim is the formula's own, and has its verdict there
            if step in self.own_steps:
                continue
            verdict = _quick_refutation(step, self.assumptions) or step.check(self.assumptions)
            if verdict.status == "refuted":
                return verdict
            found.append(verdict)
        return worst(found or (step.check(self.assumptions) for step in self.own_steps))


def _quick_refutation(step: Step, assumptions: Sequence[sp.Basic]) -> Verdict | None:
    """A counterexample is cheaper than a normal form; look for it first."""
    for obligation in step.stated:
        if isinstance(obligation, Zero) and (found := refute(obligation.lhs - obligation.rhs, assumptions)):
            return found
    return None


def _complaints(steps: Sequence[StepReport], decoys: Mapping[str, Verdict]) -> Iterator[str]:
    if not steps:
        yield "the proof has no step"
    for report in steps:
        for opinion in report.second:
            if opinion.verdict.status == "refuted":
                yield f"{opinion.prover} refutes step {report.step.title!r}: {opinion.verdict.detail}"
    for name, verdict in decoys.items():
        if verdict.status != "refuted":
            yield f"decoy {name!r} survives: {verdict.status}, {verdict.detail}"


class Registry(dict[str, Formula]):
    """All formulas by id; the graph is checked when it is complete."""

    def add(self, node: Formula) -> None:
        if not _ID.fullmatch(node.id):
            raise FormulaError(f"id {node.id!r} is not of the form topic.name")
        if node.id in self:
            raise FormulaError(f"id {node.id!r} is declared twice")
        self[node.id] = node

    def check_graph(self) -> None:
        """Every name used exists, and nothing is used in its own proof."""
        for node in self.values():
            for name in node.uses:
                if name not in self:
                    raise FormulaError(f"{node.id} uses {name!r}, which does not exist")
        state: dict[str, str] = {}
        for name in self:
            self._visit(name, state, ())

    def _visit(self, name: str, state: dict[str, str], path: tuple[str, ...]) -> None:
        if state.get(name) == "open":
            raise FormulaError("cycle: " + " -> ".join((*path[path.index(name) :], name)))
        if name not in state:
            state[name] = "open"
            for used in self[name].uses:
                self._visit(used, state, (*path, name))
            state[name] = "done"

    def status(self, name: str) -> Literal["proved", "refuted", "undecided", "depends"]:
        """Computed: proved when its own proof holds and everything it uses is proved."""
        report = self[name].verify()
        if not report.proved:
            return "undecided" if report.own == "proved" else report.own
        return "proved" if all(self.status(used) == "proved" for used in self[name].uses) else "depends"


REGISTRY = Registry()


def formula(
    id: str,
    *,
    lhs: sp.Basic,
    rhs: sp.Expr,
    title: str = "",
    citations: Sequence[str] = (),
    reference: str = "",
    uses: Sequence[str] = (),
    decoys: Sequence[Decoy] = (),
    assumptions: Sequence[sp.Basic] = (),
    mutate: bool = True,
    registry: Registry = REGISTRY,
) -> Callable[[ProofOf], Formula]:
    """Declare a formula; the decorated generator is its proof as a function of the claimed right side.

    Args:
        id: permanent id, ``topic.name``.
        lhs, rhs: the statement; a coefficient of an affine rhs is its derivative.
        title: one line in words.
        citations: where it is printed, ``S004:4.5`` or ``Ho2020:7``.
        reference: the function that implements it, ``refdiff.ddpm:posterior``.
        uses: ids that the proof relies on.
        decoys: known wrong forms; mutations of the right side are added unless ``mutate`` is false.
        assumptions: relations beyond the domains of the symbols.
    """

    def declare(proof: ProofOf) -> Formula:
        if not sp.sympify(rhs).free_symbols and not proof.__doc__:
            raise FormulaError(f"{id}: a proof says in its docstring what it does")
        _exact(sp.sympify(rhs), id)
        _unique(id, decoys)
        node = Formula(
            id, title or id, lhs, sp.sympify(rhs), proof, (proof.__doc__ or "").strip(), tuple(citations),
            reference, tuple(uses), tuple(decoys), tuple(assumptions), mutate,
        )  # fmt: skip
        registry.add(node)
        return node

    return declare


def _unique(id: str, decoys: Sequence[Decoy]) -> None:
    names = [decoy.id for decoy in decoys]
    for name in names:
        if names.count(name) > 1:
            raise FormulaError(f"{id}: decoy {name!r} is declared twice")
