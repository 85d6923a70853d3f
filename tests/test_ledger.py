"""Every statement of the source documents has a row, every row a check, and the check finds what it says."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from typer.testing import CliRunner

import derivations
from derivations import ledger
from derivations.kit import Identity
from derivations.ledger.checks import (
    Approximation,
    Check,
    Convention,
    Counterexample,
    Definition,
    Erratum,
    NotCheckable,
    Numeric,
    Proved,
    Steps,
)
from derivations.ledger.row import Row
from derivations.symbols import abar_prev, abar_t, alpha_t
from refdiff import cli_ledger
from refdiff.cli import app

ROWS = ledger.rows()
STARTED = [name for name in ledger.DOCUMENTS if any(row.source == name for row in ROWS.values())]


def chapter(number: str) -> str:
    """S004 is judged chapter by chapter; the others as a whole."""
    return number.partition(".")[0] if "." in number else ""


def begun(document: str, number: str) -> bool:
    """Whether the document, or its chapter, has rows with a number."""
    whole = f"{document}:{chapter(number)}."
    return any(id.startswith(whole) if chapter(number) else id.startswith(document) for id in ROWS)


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: row.id)
def test_the_check_finds_what_the_row_says(row: Row) -> None:
    outcome = row.outcome
    assert outcome.verdict != "failed", f"{row.id}: {outcome.detail}"
    assert (outcome.verdict == "erratum") == row.check.finds_errata
    assert outcome.detail
    if row.check.finds_errata:
        assert outcome.witness


@pytest.mark.parametrize("document", STARTED)
def test_every_number_of_a_document_has_a_row(document: str) -> None:
    numbered = [("", ledger.EQUATIONS), ("alg", ledger.ALGORITHMS), ("fig", ledger.FIGURES)]
    needed = [
        f"{document}:{kind}{number}"
        for kind, table in numbered
        for number in table.get(document, ())
        if begun(document, number)
    ]
    assert [id for id in needed if id not in ROWS] == []


@pytest.mark.parametrize("document", STARTED)
def test_rows_without_a_number_are_counted_through(document: str) -> None:
    sections: dict[str, list[int]] = {}
    for id in ROWS:
        if id.startswith(document) and "/" in id:
            section, _, place = id.rpartition("/")
            sections.setdefault(section, []).append(int(place))
    for section, places in sections.items():
        assert places == list(range(1, len(places) + 1)), f"{section}: {places}"


def test_every_erratum_that_is_a_formula_is_cited_by_its_decoy() -> None:
    """So the oracle names the printed form when it meets it in code."""
    missing = []
    for row in ROWS.values():
        if isinstance(row.check, Erratum):
            node = derivations.node(row.check.id)
            citation = next((d.citation for d in node.decoys if d.id == row.check.decoy), None)
            if not citation or row.id not in citation:
                missing.append((row.id, row.check.id, row.check.decoy, citation))
    assert missing == []


GOOD = Identity("α is the ratio of two levels", alpha_t, abar_t / abar_prev)
BAD = Identity("α is not the product of two levels", alpha_t, abar_t * abar_prev)
THIRD, HALF = Fraction(1, 3), Fraction(1, 2)
CHECKS: list[tuple[Check, Check, str]] = [
    (Proved("ddpm.one_step"), Proved("ddpm.no_such_formula"), "proved"),
    (Steps(lambda: [GOOD], lambda: [BAD]), Steps(lambda: [BAD], lambda: [BAD]), "proved"),
    (Steps(lambda: [GOOD], lambda: [BAD]), Steps(lambda: [GOOD], lambda: [GOOD]), "proved"),
    (
        Numeric(lambda: {"a": (THIRD, THIRD)}, lambda: {"a": (THIRD, HALF)}, 10, "by hand"),
        Numeric(lambda: {"a": (THIRD, HALF)}, lambda: {"a": (THIRD, HALF)}, 10, "by hand"),
        "numeric",
    ),
    (
        Numeric(lambda: {"a": (THIRD, THIRD)}, lambda: {"a": (THIRD, HALF)}, 10, "by hand"),
        Numeric(lambda: {"a": (THIRD, THIRD)}, lambda: {"a": (THIRD, THIRD)}, 10, "by hand"),
        "numeric",
    ),
    (
        Approximation("O(h)", lambda: "1/3 at h = 1", lambda: [GOOD], lambda: [BAD]),
        Approximation("O(h)", lambda: "1/3 at h = 1"),
        "approximation",
    ),
    (Erratum("ddpm.marginal", "bars-missing"), Proved("no.formula"), "erratum"),
    (
        Counterexample(lambda: {"a": (THIRD, HALF)}, "by hand", true=lambda: [GOOD]),
        Counterexample(lambda: {"a": (HALF, HALF)}, "by hand", true=lambda: [GOOD]),
        "erratum",
    ),
    (
        Counterexample(lambda: {"a": (THIRD, HALF)}, "by hand", true=lambda: [GOOD]),
        Counterexample(lambda: {"a": (THIRD, HALF)}, "by hand"),
        "erratum",
    ),
    (Convention("of notation", ("ddpm.one_step",)), Convention("of notation", ("no.formula",)), "convention"),
]


@pytest.mark.parametrize(("right", "wrong", "verdict"), CHECKS)
def test_every_kind_of_check_can_fail(right: Check, wrong: Check, verdict: str) -> None:
    assert right.run().verdict == verdict
    assert wrong.run().verdict == "failed"
    assert right.describe()


def test_definitions_and_what_cannot_be_checked_say_why() -> None:
    assert Definition("β").run().verdict == "definition"
    assert NotCheckable("an opinion").run().detail == "an opinion"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "S005:1"}, "id must be of the form"),
        ({"statement": " "}, "must say something"),
        ({"severity": "number"}, "make an erratum"),
        ({"check": Erratum("ddpm.marginal", "bars-missing")}, "make an erratum"),
    ],
)
def test_a_row_that_is_not_one_is_refused(change: dict[str, object], message: str) -> None:
    whole = {"id": "S000:1", "kind": "equation", "statement": "it", "check": Definition("β")}
    with pytest.raises(ValueError, match=message):
        Row(**whole | change)  # type: ignore[arg-type]


def test_a_decoy_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match=r"decoy must be one of ddpm\.marginal's"):
        Erratum("ddpm.marginal", "no-such").run()


def test_the_command_shows_rows_and_writes_them(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["ledger", "S001:/1", "--json", str(tmp_path / "l.json")])
    assert shown.exit_code == 0, shown.output
    assert "S001:/1" in shown.stdout and "refdiff derive ddpm.marginal" in shown.stdout
    (row,) = json.loads((tmp_path / "l.json").read_text())
    fields = "id source kind statement_latex printed_latex verdict severity witness corrected_latex"
    assert {*fields.split(), "formula_ids", "check"} <= set(row)
    assert row["verdict"] == "erratum" and row["witness"]["printed"] != row["witness"]["true"]


def test_the_letter_says_what_is_printed_and_what_is_true() -> None:
    shown = CliRunner().invoke(app, ["errata", "S001:/1"])
    assert shown.exit_code == 0, shown.output
    for part in ("### S001:/1", "Printed:", "True:", "Effect:", "Proof:"):
        assert part in shown.stdout


def test_the_page_names_every_verdict_and_field() -> None:
    page = (Path(__file__).parents[1] / "docs" / "ledger.md").read_text(encoding="utf-8")
    fields = cli_ledger.judge("S000:1").keys()
    assert [name for name in (*cli_ledger.VERDICTS, *fields) if f"`{name}`" not in page] == []


def test_explain_names_the_rows_that_rest_on_a_formula() -> None:
    rests = ledger.by_formula("ddpm.posterior_mean", ROWS.values())
    assert rests and all("ddpm.posterior_mean" in ROWS[id].formulas for id in rests)
    assert ledger.by_formula("no.formula", ROWS.values()) == []


def test_an_unknown_row_is_refused() -> None:
    shown = CliRunner().invoke(app, ["ledger", "S001:/999"])
    assert shown.exit_code == 2 and "no row and no document" in shown.stderr


def test_counts_are_those_of_the_entries() -> None:
    entries = cli_ledger.judged(cli_ledger.choose(["S001:/1"]))
    total = cli_ledger.summary(entries)
    assert total["ok"] and total["rows"] == 1 and total["verdicts"]["erratum"] == 1
    assert not cli_ledger.summary([entries[0] | {"verdict": "failed"}])["ok"]
    assert "FAILED" in cli_ledger.shown([entries[0] | {"verdict": "failed"}])
