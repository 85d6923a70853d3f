"""The formulas by id."""

from __future__ import annotations

from functools import cache

from derivations import registry
from derivations.kit.formula import Formula


@cache
def node(id: str) -> Formula:
    """The formula of this id.

    Raises:
        ValueError: no such formula.
    """
    formulas = registry()
    if id not in formulas:
        raise ValueError(f"formula {id!r} does not exist")
    return formulas[id]
