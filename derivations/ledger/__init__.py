"""The ledger: every statement of the five source documents, judged by a check that is run."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from derivations.ledger.row import Row

DOCUMENTS = {
    "S000": "notes on DDPM, equations (1) to (17)",
    "S001": "handwritten notes on DDPM and DDIM",
    "S002": "an introduction to diffusion models through Bayes' rule",
    "S003": "notes after a series of essays, with a proposal for skipping steps",
    "S004": "a text on energies, scores, diffusion, guidance and SDEs, equations (1.1) to (8.26)",
}
EQUATIONS: dict[str, tuple[str, ...]] = {
    "S000": tuple(str(number) for number in range(1, 18)),
    "S004": tuple(
        f"{chapter}.{number}"
        for chapter, last in enumerate((13, 2, 18, 11, 15, 1, 13, 26), start=1)
        for number in range(1, last + 1)
    ),
}
"""The numbers that equations have in the documents; each has a row."""
ALGORITHMS: dict[str, tuple[str, ...]] = {
    "S002": ("1", "2"),
    "S004": ("2.1", "4.1", "4.2", "5.1", "7.1", "7.2", "8.1", "8.2"),
}

FIGURES: dict[str, tuple[str, ...]] = {"S004": ("4.1", "4.2", "4.3", "5.1", "5.2", "8.1")}


def rows() -> dict[str, Row]:
    """All rows by id, in the order of the documents.

    Raises:
        ValueError: two rows have one id.
    """
    found: dict[str, Row] = {}
    for document in DOCUMENTS:
        for row in importlib.import_module(f"derivations.ledger.{document.lower()}").ROWS:
            if row.id in found:
                raise ValueError(f"id {row.id} has two rows")
            found[row.id] = row
    return found


def by_formula(formula: str, among: Iterable[Row]) -> list[str]:
    """The ids of the rows that rest on a formula."""
    return [row.id for row in among if formula in row.formulas]
