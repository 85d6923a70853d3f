"""The kernel accepts what is proved and refuses what is false."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import sympy as sp

import derivations
from derivations.kit import Decoy, Formula, Identity, Inequality, Registry, Step, formula
from derivations.kit.coq import Theorem, available, certify, source, theorems
from derivations.symbols import abar_prev, abar_t, beta_t, beta_tilde_t


def _node(rhs: sp.Expr) -> Formula:
    registry = Registry()

    @formula("test.variance", lhs=beta_tilde_t, rhs=rhs, registry=registry, mutate=False)
    def node(claim: sp.Expr) -> Iterator[Step]:
        """One over the sum of the two precisions."""
        precision = (1 - beta_t) / beta_t + 1 / (1 - abar_prev)
        yield Identity("precisions add", 1 / claim, precision)
        yield Inequality("it is a variance", claim, ">", sp.Integer(0))

    return node


RIGHT = beta_t * (1 - abar_prev) / (1 - abar_t)
WRONG = beta_t * (1 - abar_t) / (1 - abar_prev)


def test_every_identity_and_sign_becomes_a_theorem() -> None:
    found, left = theorems(_node(RIGHT))
    assert [theorem.kind for theorem in found] == ["identity", "inequality"]
    assert left == []
    assert "field" in found[0].text


def test_a_decoy_becomes_the_theorem_that_it_is_false() -> None:
    node = derivations.registry()["ddpm.posterior_variance"]
    decoys = [theorem for theorem in theorems(node)[0] if theorem.kind == "decoy"]
    assert len(decoys) >= len(node.known_decoys)
    assert all("exists" in theorem.text and "<>" in theorem.text for theorem in decoys)


def test_the_kernel_accepts_the_right_formula_and_refuses_the_wrong_one() -> None:
    """Where Coq is not installed, the refusal to pretend is what is checked."""
    if available() is None:
        with pytest.raises(FileNotFoundError, match="coqc"):
            certify([_node(RIGHT)])
        return
    (right,), (wrong,) = certify([_node(RIGHT)]), certify([_node(WRONG)])
    assert len(right.certified) == 2
    assert right.refused == {}
    assert len(wrong.refused) + len(wrong.not_covered) >= 1
    assert len(wrong.certified) < 2


def test_without_coqc_certify_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="coqc is not installed"):
        certify([_node(RIGHT)])


def test_theorem_names_are_unique_and_the_source_is_complete() -> None:
    nodes = list(derivations.registry().values())[:10]
    found: list[Theorem] = [theorem for node in nodes for theorem in theorems(node)[0]]
    assert len({theorem.name for theorem in found}) == len(found)
    assert source(found).count("Qed.") == len(found)
    assert Decoy("x", sp.Integer(1), "index", "a note").family == "index"
