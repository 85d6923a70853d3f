"""The ledger as data and as text: what the rows say, what their checks found, and a letter to an author."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import derivations
from derivations import ledger
from derivations.ledger.row import Row
from refdiff import cli_words, golden
from refdiff.cli_show import table

VERDICTS = (
    *("proved", "numeric", "approximation", "definition", "convention", "erratum", "not-checkable"),
    "failed",
)
SEVERITIES = {
    "breaks": "breaks an implementation",
    "number": "changes a number",
    "wording": "is a matter of words",
}
OF_MANY = {
    "breaks": "break an implementation",
    "number": "change a number",
    "wording": "are a matter of words",
}
"""The same of several."""
ORIGINS = {
    "author": "the author's",
    "paper": "inherited from a paper",
    "scanner": "probably the scanner's",
}
FEW = 40

Entry = dict[str, Any]


def choose(ids: Sequence[str]) -> list[Row]:
    """The rows of ids or of documents; all when nothing is named.

    Raises:
        ValueError: neither an id of a row nor a document.
    """
    known = ledger.rows()
    for name in ids:
        if name not in known and name not in ledger.DOCUMENTS:
            hint = cli_words.nearest(name, [*known, *ledger.DOCUMENTS])
            raise ValueError(f"no row and no document {name!r} in the ledger{hint}")
    return [row for row in known.values() if not ids or row.id in ids or row.source in ids]


def judged(
    rows: Sequence[Row], jobs: int = 0, advance: Callable[[], None] = lambda: None
) -> list[Entry]:
    """Every row with the verdict that its check computes now.

    Args:
        rows: which.
        jobs: processes; 0 is one for each core.
        advance: called once for each row.
    """
    found = []
    for entry in _entries([row.id for row in rows], jobs):
        advance()
        found.append(entry)
    return found


def _entries(ids: Sequence[str], jobs: int) -> Iterator[Entry]:
    workers = min(jobs or os.cpu_count() or 1, len(ids) // FEW)
    if workers < 2:
        yield from map(judge, ids)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        # neighbours rest on the same formulas
        yield from pool.map(judge, ids, chunksize=-(-len(ids) // (4 * workers)))


def judge(id: str) -> Entry:
    """One row, its check run."""
    row = ledger.rows()[id]
    start = time.process_time()
    outcome = row.outcome
    return {
        "id": row.id,
        "source": row.source,
        "kind": row.kind,
        "statement": row.statement,
        "statement_latex": row.latex,
        "printed_latex": row.printed,
        "verdict": outcome.verdict,
        "detail": outcome.detail,
        "severity": row.severity,
        "origin": row.origin,
        "witness": dict(outcome.witness),
        "corrected_latex": row.latex if row.check.finds_errata else "",
        "effect": row.effect,
        "conditions": row.conditions,
        "notation": row.notation,
        "formula_ids": list(row.formulas),
        "check": row.check.describe(),
        "seconds": round(time.process_time() - start, 3),
    }


def summary(entries: Sequence[Entry]) -> Entry:
    """Counts by document and verdict, and of errata by severity."""
    errata = [entry for entry in entries if entry["verdict"] == "erratum"]
    return {
        "ok": bool(entries) and all(entry["verdict"] != "failed" for entry in entries),
        "rows": len(entries),
        "verdicts": {name: sum(entry["verdict"] == name for entry in entries) for name in VERDICTS},
        "documents": {
            document: dict(Counter(e["verdict"] for e in entries if e["source"] == document))
            for document in ledger.DOCUMENTS
        },
        "severities": {name: sum(e["severity"] == name for e in errata) for name in SEVERITIES},
        "seconds": round(sum(entry["seconds"] for entry in entries), 1),
    }


def shown(entries: Sequence[Entry]) -> str:
    """The table: a line a row, the counts, and what failed in full."""
    lines = [(e["id"], e["kind"], e["verdict"], _short(e["statement"])) for e in entries]
    total = summary(entries)
    counts = [
        (document, *(found.get(name, 0) for name in VERDICTS), sum(found.values()))
        for document, found in total["documents"].items()
    ]
    counts.append(("all", *total["verdicts"].values(), total["rows"]))
    failed = [f"{e['id']} FAILED: {e['detail']}" for e in entries if e["verdict"] == "failed"]
    severities = ", ".join(f"{total['severities'][name]} {words}" for name, words in OF_MANY.items())
    return "\n".join(
        [
            table(("id", "kind", "verdict", "statement"), lines),
            "",
            table(("document", *VERDICTS, "rows"), counts),
            f"errata: {severities}",
            *failed,
            "every check ran and found what its row says" if total["ok"] else "NOT every check holds",
        ]
    )


def one(entry: Entry) -> str:
    """A row in full."""
    named = [
        ("kind", entry["kind"]),
        ("says", entry["statement"]),
        ("true", entry["statement_latex"]),
        ("printed", entry["printed_latex"]),
        ("verdict", f"{entry['verdict']}: {entry['detail']}"),
        ("severity", SEVERITIES.get(entry["severity"] or "", "")),
        ("slip", ORIGINS.get(entry["origin"] or "", "")),
        ("effect", entry["effect"]),
        ("conditions", entry["conditions"]),
        ("notation", entry["notation"]),
        ("check", entry["check"]),
        ("witness", ", ".join(f"{name}: {value}" for name, value in entry["witness"].items())),
    ]
    lines = [entry["id"], *(f"  {name:<10} {text}" for name, text in named if text)]
    return "\n".join([*lines, *_behind(entry["formula_ids"])])


def _behind(ids: Sequence[str]) -> Iterator[str]:
    """The formulas, their reference functions and their certified cases."""
    registry = derivations.registry()
    for id in ids:
        node = registry[id]
        yield f"  formula    {id}: {node.title}"
        if node.reference:
            yield f"             reference {node.reference}"
        cases = _cases().get(id, 0)
        if cases:
            yield f"             {cases} certified cases: refdiff golden export --topic {node.topic}"
        yield f"             derivation: refdiff derive {id} --format latex --steps"


def _cases() -> Mapping[str, int]:
    return Counter(case.formula for file in golden.files() for case in file.cases)


def letter(entries: Sequence[Entry]) -> str:
    """The errata as a document in Markdown that an author could be sent."""
    errata = [entry for entry in entries if entry["verdict"] == "erratum"]
    severities = Counter(entry["severity"] for entry in errata)
    counts = ", ".join(f"{severities[name]} {words}" for name, words in OF_MANY.items())
    parts = [
        "# Errata",
        "",
        f"Statements that are false as printed: {len(errata)}. Of these {counts}.",
        "Each was refuted by machine and its right form proved; `refdiff ledger ID` runs its check again.",
    ]
    for document, title in ledger.DOCUMENTS.items():
        own = [entry for entry in errata if entry["source"] == document]
        if own:
            parts += ["", f"## {document}: {title}", *(text for entry in own for text in _erratum(entry))]
    return "\n".join(parts)


def _erratum(entry: Entry) -> Iterator[str]:
    yield f"\n### {entry['id']} ({SEVERITIES[entry['severity']]}; {ORIGINS[entry['origin']]})"
    yield f"\nPrinted:\n\n$${entry['printed_latex']}$$"
    yield f"\nTrue: {entry['statement']}"
    if entry["corrected_latex"]:
        yield f"\n$${entry['corrected_latex']}$$"
    yield f"\nWhy: {entry['detail']}."
    if entry["witness"]:
        yield "\n" + "\n".join(f"- {name}: {value}" for name, value in entry["witness"].items())
    yield f"\nEffect: {entry['effect']}"
    proofs = ", ".join(f"`refdiff derive {id} --steps`" for id in entry["formula_ids"])
    yield f"\nProof: {proofs or entry['check']}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 90 else line[:89] + "…"
