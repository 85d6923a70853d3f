"""Results as text for a terminal; every number comes from the row that ``--json`` writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns padded to their widest cell; a column of numbers is aligned to the right."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(head))]
    right = [all(isinstance(row[k], int) for row in rows) for k in range(len(head))]
    return "\n".join("  ".join(map(_pad, row, widths, right)).rstrip() for row in cells)


def _pad(cell: str, width: int, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)


def verification(result: Row) -> str:
    """Counts by topic, then what does not hold, then how far each prover reaches."""
    rows, total = result["results"], result["summary"]
    topics = list(dict.fromkeys(row["id"].partition(".")[0] for row in rows))
    counts = [
        (topic, *_counts([row for row in rows if row["id"].startswith(topic + ".")])) for topic in topics
    ]
    lines = [
        table(("topic", "formulas", "proved", "decoys", "refuted"), [*counts, ("all", *_counts(rows))]),
        "",
    ]
    lines += [line for row in rows if row["status"] != "proved" for line in _open(row)]
    lines += [f"{NAMES[prover]}: {said} of {len(rows)} formulas" for prover, said in total["provers"].items()]
    lines += [f"{NAMES[prover]}: not installed, this prover did not run" for prover in total["missing"]]
    lines += ["Coq: run `refdiff certify`"] if "coq" not in total["missing"] else []
    lines.append(
        "every formula is proved"
        if total["ok"]
        else f"NOT proved: {len(rows) - total['proved']} of {len(rows)}"
    )
    return "\n".join(lines)


NAMES = {"balls": "50-digit balls at random points", "flint": "FLINT polynomials", "z3": "z3", "coq": "Coq"}


def _counts(rows: Sequence[Row]) -> tuple[int, int, int, int]:
    decoys = [decoy["status"] for row in rows for decoy in row["decoys"]]
    proved = sum(row["status"] == "proved" for row in rows)
    return len(rows), proved, len(decoys), decoys.count("refuted")


def _open(row: Row) -> list[str]:
    """Why a formula is not proved."""
    steps = [
        f"  step {step['title']!r}: {step['status']}, {step['detail']}"
        for step in row["steps"]
        if step["status"] != "proved"
    ]
    return [f"{row['id']}: {row['status']}", *steps, *(f"  {complaint}" for complaint in row["complaints"])]


def explanation(row: Row) -> str:
    """A formula on one page."""
    blocks = [f"{row['id']}: {row['title']}", row["pretty"]]
    blocks.append("Symbols\n" + table(("  name", "domain", "meaning", "unit"), _symbols(row)))
    if row["assumptions"]:
        blocks.append("Assumes " + ", ".join(row["assumptions"]))
    if row["prose"]:
        blocks.append(row["prose"])
    blocks.append(
        "Proof\n"
        + "\n".join(f"  {k}. {step['title']} ({step['kind']})" for k, step in enumerate(row["proof"], 1))
    )
    blocks.append(
        "Got wrong as\n" + "\n".join(f"  {decoy['id']}: {decoy['note']}" for decoy in row["decoys"])
    )
    return "\n\n".join([*blocks, "\n".join(_where(row))])


def _symbols(row: Row) -> list[tuple[str, str, str, str]]:
    return [
        ("  " + entry["name"], entry["domain"], entry["meaning"], entry["unit"]) for entry in row["symbols"]
    ]


def _where(row: Row) -> list[str]:
    """Where it is printed, implemented and used."""
    fields = {
        "Printed in": row["citations"],
        "In the ledger": row["ledger"],
        "Reference": [row["reference"]] if row["reference"] else [],
        "Uses": row["uses"],
        "Used by": row["used_by"],
    }
    return [f"{name}: {', '.join(values)}" for name, values in fields.items() if values]


def listing(rows: Sequence[Row]) -> str:
    """One formula a line."""
    return table(
        ("id", "title", "printed in"),
        [(row["id"], row["title"], ", ".join(row["citations"])) for row in rows],
    )


def certificates(result: Row) -> str:
    """What the kernel accepted, what it refused, and what is not written for it."""
    total = result["summary"]
    refused = [
        f"{name}: REFUSED, {message}" for row in result["results"] for name, message in row["refused"].items()
    ]
    reasons = Counter(_reason(text) for row in result["results"] for text in row["not_covered"])
    lines = [
        f"Coq accepts {total['theorems']} theorems about {total['covered']} of {total['formulas']} formulas",
        f"Coq proves {total['decoys']} decoys false",
    ]
    lines += [f"not covered, {count} times: {reason}" for reason, count in reasons.most_common()]
    return "\n".join(
        [*refused, *lines, "every certificate compiles" if total["ok"] else f"{total['refused']} are REFUSED"]
    )


def _reason(text: str) -> str:
    """The reason without the step it belongs to."""
    return text.partition(": ")[2] or text


def golden_files(rows: Sequence[Row]) -> str:
    """One file a line, and the sums."""
    lines = [(row["topic"], row["name"], row["cases"], row["values"], row["bytes"]) for row in rows]
    total = ("all", "", *(sum(row[name] for row in rows) for name in ("cases", "values", "bytes")))
    return table(("topic", "file", "cases", "values", "bytes"), [*lines, total])


def golden_checked(result: Row) -> str:
    """What differs from the values generated anew."""
    total = result["summary"]
    wrong = [f"{row['path']}: {row['detail']}" for row in result["results"] if row["status"] != "pass"]
    counts = f"{total['files']} files, {total['cases']} cases, {total['values']} values"
    differ = f"{total['failed']} of {total['files']} files DIFFER"
    return "\n".join([*wrong, f"{counts}: generated anew, the same bytes" if total["ok"] else differ])
