"""Prose that goes into LaTeX can be set: mathematical signs stand between dollars, and braces match."""

from __future__ import annotations

import re

import pytest

import derivations
from derivations.kit import Formula
from derivations.kit.latex import in_text

NODES = list(derivations.registry().values())


def complaints(text: str) -> list[str]:
    """What LaTeX would not set, in prose with formulas between dollars."""
    words, formulas = text.split("$")[0::2], text.split("$")[1::2]
    # letters with accents, as in a name, are set as they are
    found = [word for word in words if re.search(r"(?<!\\)[_^&%#]|[^\x00-\x7f\u00c0-\u017f]", word)]
    found += [part for part in formulas if not part.isascii() or part.count("{") != part.count("}")]
    return found + ["odd number of dollars"] * (text.count("$") % 2)


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.id)
def test_the_prose_of_a_proof_can_be_set(node: Formula) -> None:
    for prose in (node.prose, *(step.title for step in node.steps())):
        assert complaints(in_text(prose)) == []


def test_prose_as_it_is_written_cannot() -> None:
    assert complaints("Bayes: q(x_{t-1} | x_t, x_0)")
    assert complaints("the mean √ᾱ_t·x_0")
    assert complaints("50% of it")


@pytest.mark.parametrize(
    ("prose", "latex"),
    [
        ("β̃_t of ᾱ_{t−1};", r"$\tilde{\beta }_t$ of $\bar{\alpha }_{t-1}$;"),
        ("√(1−ᾱ_t)·ε", r"$\sqrt{1-\bar{\alpha }_t}\cdot \epsilon $"),
        ("(1−β)^(t−1)", r"$(1-\beta )^{t-1}$"),
        ("half – 50%", r"half -- 50\%"),
    ],
)
def test_signs_become_commands(prose: str, latex: str) -> None:
    assert in_text(prose) == latex
