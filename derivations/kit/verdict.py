"""The three answers a check can give. Undecided is not a pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import sympy as sp

Status = Literal["proved", "refuted", "undecided"]
Witness = Mapping[sp.Basic, sp.Expr]


@dataclass(frozen=True)
class Verdict:
    """A status, the reason in words, and for a refutation the point where the claim fails."""

    status: Status
    detail: str = ""
    witness: Witness = field(default_factory=dict)

    @property
    def proved(self) -> bool:
        return self.status == "proved"


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of a conjunction: refuted beats undecided beats proved."""
    rank = {"proved": 0, "undecided": 1, "refuted": 2}
    return max(
        verdicts,
        key=lambda verdict: rank[verdict.status],
        default=Verdict("undecided", "nothing was checked"),
    )
