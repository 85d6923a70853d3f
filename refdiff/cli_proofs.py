"""Formulas as rows of plain data: what ``verify``, ``certify``, ``explain`` and ``list`` print or write."""

from __future__ import annotations

import inspect
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import sympy as sp

import derivations
from derivations import ledger
from derivations.kit import coq
from derivations.kit.coq import Certificate
from derivations.kit.formula import Formula, Report
from derivations.kit.latex import tex
from derivations.kit.second import has_z3
from derivations.symbols import MEANINGS
from refdiff.cli_words import nearest, unicode_of

Row = dict[str, Any]
# fewer formulas than this are proved sooner than another process starts
FEW = 12


def find(id: str) -> Formula:
    """The formula with this id."""
    known = _of_topics([id])
    if id not in known:
        raise ValueError(f"no formula has the id {id!r}{nearest(id, list(derivations.registry()))}")
    return known[id]


def choose(names: Sequence[str]) -> list[Formula]:
    """The formulas with these ids or of these topics, in the order of the registry; all for no names."""
    known = _of_topics(names)
    for name in names:
        if name not in derivations.TOPICS:
            find(name)
    return [formula for id, formula in known.items() if not names or id in names or formula.topic in names]


def _of_topics(names: Sequence[str]) -> Mapping[str, Formula]:
    """What the names can mean: formulas of their topics, or all where a name has no known topic."""
    topics = {name.partition(".")[0] for name in names}
    if not topics or not topics <= set(derivations.TOPICS):
        return derivations.registry()
    chosen = [derivations.topic(name) for name in derivations.TOPICS if name in topics]
    return {id: formula for found in chosen for id, formula in found.items()}


def entry(formula: Formula) -> Row:
    """One line of the list."""
    return {
        "id": formula.id,
        "title": formula.title,
        "citations": list(formula.citations),
        "reference": formula.reference,
    }


def verified(
    formulas: Sequence[Formula], jobs: int = 0, advance: Callable[[], None] = lambda: None
) -> list[Row]:
    """The computed status of each formula, its steps and its decoys.

    Args:
        formulas: which.
        jobs: processes that prove; 0 is one for each core.
        advance: called once for each formula.
    """
    rows: dict[str, Row] = {}
    for row in _proved(_with_ancestors(formulas), jobs):
        rows[row["id"]] = row
        if any(row["id"] == formula.id for formula in formulas):
            advance()
    return [rows[formula.id] | {"status": _status(formula.id, rows)} for formula in formulas]


def _with_ancestors(formulas: Sequence[Formula]) -> list[str]:
    """The ids of the formulas and of everything that their proofs rely on."""
    found = dict[str, None]()
    waiting = [formula.id for formula in reversed(formulas)]
    while waiting:
        id = waiting.pop()
        if id not in found:
            found[id] = None
            waiting += derivations.node(id).uses
    return list(found)


def _proved(ids: Sequence[str], jobs: int) -> Iterator[Row]:
    workers = min(jobs or os.cpu_count() or 1, len(ids) // FEW)
    if workers < 2:
        yield from map(prove, ids)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(prove, ids)


def prove(id: str) -> Row:
    """What verifying one formula found; its status is its own, without that of what it uses."""
    report = derivations.node(id).verify()
    own = "undecided" if report.own == "proved" and not report.proved else report.own
    return {
        "id": id,
        "status": own,
        "complaints": list(report.complaints),
        "steps": [
            {
                "title": found.step.title,
                "kind": found.step.kind,
                "status": found.verdict.status,
                "detail": found.verdict.detail,
            }
            for found in report.steps
        ],
        "provers": provers(report),
        "decoys": [{"id": id, "status": verdict.status} for id, verdict in report.decoys.items()],
    }


def _status(id: str, rows: Mapping[str, Row]) -> str:
    """Proved when its own proof holds and everything it uses is proved."""
    own = str(rows[id]["status"])
    uses = derivations.node(id).uses
    return own if own != "proved" or all(_status(used, rows) == "proved" for used in uses) else "depends"


def provers(report: Report) -> dict[str, str]:
    """What each other prover says of a formula: proved when it proves every obligation it looked at."""
    said: dict[str, list[str]] = {}
    for found in report.steps:
        for opinion in found.second:
            said.setdefault(opinion.prover, []).append(opinion.verdict.status)
    return {
        prover: max(statuses, key=["proved", "undecided", "refuted"].index)
        for prover, statuses in said.items()
    }


def summary(rows: Sequence[Row]) -> Row:
    """The counts over all rows."""
    status = Counter(row["status"] for row in rows)
    decoys = Counter(decoy["status"] for row in rows for decoy in row["decoys"])
    covered = Counter(prover for row in rows for prover, said in row["provers"].items() if said == "proved")
    return {
        "ok": status["proved"] == len(rows),
        "formulas": len(rows),
        **{name: status[name] for name in ("proved", "refuted", "undecided", "depends")},
        "steps": sum(len(row["steps"]) for row in rows),
        "decoys": decoys.total(),
        "decoys_refuted": decoys["refuted"],
        "provers": dict(sorted(covered.items())),
        "missing": [name for name, present in (("z3", has_z3()), ("coq", coq.available())) if not present],
    }


def certified(formulas: Sequence[Formula], folder: Path | None, advance: Callable[[], None]) -> Row:
    """What Coq's kernel says of the formulas and their decoys."""
    rows = [certificate_row(found) for found in coq.certify(formulas, folder, lambda id: advance())]
    total = {
        name: sum(len(row[name]) for row in rows) for name in ("theorems", "decoys", "refused", "not_covered")
    }
    covered = sum(bool(row["theorems"]) and not row["refused"] for row in rows)
    return {
        "summary": {"ok": not total["refused"], "formulas": len(rows), "covered": covered, **total},
        "results": rows,
    }


def certificate_row(found: Certificate) -> Row:
    """The theorems of one formula; those about a decoy say that it is false."""
    decoys = [name for name in found.certified if "_decoy_" in name]
    return {
        "id": found.id,
        "theorems": [name for name in found.certified if name not in decoys],
        "decoys": decoys,
        "refused": found.refused,
        "not_covered": found.not_covered,
    }


def explanation(formula: Formula) -> Row:
    """Everything a reader asks of one formula."""
    registry = derivations.registry()
    return {
        **entry(formula),
        "statement": f"{tex(formula.lhs)} = {tex(formula.rhs)}",
        "pretty": pretty(formula),
        "symbols": [symbol_row(symbol) for symbol in sorted(formula.rhs.free_symbols, key=str)],
        "assumptions": [tex(relation) for relation in formula.assumptions],
        "prose": inspect.cleandoc(formula.prose),
        "proof": [{"kind": step.kind, "title": step.title} for step in formula.steps()],
        "uses": list(formula.uses),
        "used_by": [id for id, other in registry.items() if formula.id in other.uses],
        "ledger": ledger.by_formula(formula.id, ledger.rows().values()),
        "decoys": [
            {
                "id": decoy.id,
                "family": decoy.family,
                "note": decoy.note,
                "citation": decoy.citation,
                "rhs": tex(decoy.rhs),
            }
            for decoy in formula.decoys
        ],
    }


def symbol_row(symbol: Any) -> Row:
    known = MEANINGS.get(symbol)
    return {
        "name": symbol.name,
        "domain": known.domain if known else "",
        "meaning": known.meaning if known else "",
        "unit": known.unit if known else "",
    }


def pretty(formula: Formula) -> str:
    """The statement drawn with fraction bars and the letters of the papers."""
    statement = sp.Eq(formula.lhs, formula.rhs, evaluate=False)
    letters = {
        symbol: unicode_of(MEANINGS[symbol].latex) for symbol in statement.free_symbols if symbol in MEANINGS
    }
    drawn = statement.xreplace({symbol: _renamed(symbol, name) for symbol, name in letters.items() if name})
    return str(sp.pretty(drawn, use_unicode=True, wrap_line=False))


def _renamed(symbol: Any, name: str) -> Any:
    if isinstance(symbol, sp.MatrixSymbol):
        return sp.MatrixSymbol(name, *symbol.shape)
    return sp.Symbol(name, **symbol.assumptions0)
