"""A row of the ledger: one statement of a source document, what it says, and the check that judges it.

The verdict of a row is never written down. It is what its check finds when it is run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from derivations.ledger.checks import Check, Outcome

Kind = Literal["equation", "algorithm", "figure", "formula", "claim"]
Severity = Literal["breaks", "number", "wording"]
"""What an erratum does: breaks an implementation, changes a number, or misleads in words."""
Origin = Literal["author", "paper", "scanner"]
"""Whose slip it is, as far as can be told: the author's, one inherited from a paper, or the scanner's."""

_ID = re.compile(r"S00[0-4]:(\d+(\.\d+)?|alg\d+(\.\d+)?|fig\d+(\.\d+)?|tab\d+(\.\d+)?|§[\d.]+/\d+|/\d+)")


@dataclass(frozen=True, eq=False)
class Row:
    r"""One statement.

    Args:
        id: permanent, ``S004:4.5``, ``S004:alg7.1``, ``S004:§5.4/2``, ``S000:7`` or ``S001:/3``.
        kind: what it is in the document.
        statement: what is said, in our own words; of an erratum, what is true.
        check: what judges it.
        latex: the true statement in our notation.
        printed: the form that is printed, in LaTeX, where it differs.
        severity, origin: of an erratum.
        effect: what the printed form does to a sampler or a loss, in one or two sentences.
        conditions: under which the statement holds, where the document does not say them.
        notation: letters of the document that mean something else here.
    """

    id: str
    kind: Kind
    statement: str
    check: Check
    latex: str = ""
    printed: str = ""
    severity: Severity | None = None
    origin: Origin | None = None
    effect: str = ""
    conditions: str = ""
    notation: str = ""
    _outcome: dict[str, Outcome] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            form = "S004:4.5, S004:alg7.1, S004:§5.4/2 or S001:/3"
            raise ValueError(f"id must be of the form {form}, got {self.id!r}")
        if not self.statement.strip():
            raise ValueError(f"statement of {self.id} must say something, got {self.statement!r}")
        told = (self.severity, self.origin, self.printed or None, self.effect or None)
        if self.check.finds_errata != all(told) or (not self.check.finds_errata and any(told[:2])):
            raise ValueError(
                f"{self.id}: printed, severity, origin and effect make an erratum, and an erratum has all"
            )

    @property
    def source(self) -> str:
        """The document, S000 to S004."""
        return self.id.partition(":")[0]

    @property
    def formulas(self) -> tuple[str, ...]:
        """The formulas of the registry that the check rests on."""
        return self.check.formulas

    @cached_property
    def outcome(self) -> Outcome:
        """What the check finds; it is run once."""
        return self.check.run()
