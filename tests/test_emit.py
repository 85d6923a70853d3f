"""What ``derive`` prints is right: emitted code is run and compared with ball arithmetic, and the rest is parsed."""

from __future__ import annotations

import ast
import ctypes
import math
import re
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
import torch
import tree_sitter_julia
import tree_sitter_rust
from tree_sitter import Language, Parser

import derivations
from derivations.kit import Formula
from derivations.kit.ball import BallError, enclosure
from derivations.kit.emit import FORMATS, EmitError, emit, has_code
from derivations.kit.zero import points

NODES = list(derivations.registry().values())
CODED = [node for node in NODES if has_code(node)]
POINTS = 3

Point = dict[sp.Symbol, Fraction]
Function = Callable[..., object]


def _cases(node: Formula) -> list[tuple[Point, float, float]]:
    """Points, the certified values there, and how far a float64 evaluation of that formula may stray."""
    found = []
    for point in points(node.closed.free_symbols, node.assumptions, POINTS):
        exact = {symbol: Fraction(float(value)) for symbol, value in point.items()}
        try:
            value = enclosure(node.closed, exact)
        except BallError:
            continue
        if value.is_finite():
            found.append((exact, float(value.mid()), _bound(node, exact)))
    return found


def _bound(node: Formula, point: Point) -> float:
    """Every operation rounds once: the sum of the magnitudes of all intermediate results, times their count."""
    subexpressions = [e for e in sp.preorder_traversal(node.closed) if isinstance(e, sp.Expr) and not e.is_Integer]
    slopes = [_slope(node.closed, e, point) for e in subexpressions]
    return 2**-52 * sum(slopes)


def _slope(whole: sp.Expr, part: sp.Expr, point: Point) -> float:
    """|part · ∂whole/∂part|: what a relative error in one intermediate result does to the value."""
    hole = sp.Symbol("hole", real=True)
    if part == whole or part.is_Rational:
        return abs(float(enclosure(whole, point).mid())) if part == whole else 0.0
    slope = sp.diff(whole.xreplace({part: hole}), hole).xreplace({hole: part}) * part
    try:
        return abs(float(enclosure(slope, point).mid()))
    except BallError:
        return 0.0


def _agrees(function: Function, wrap: Callable[[float], object], node: Formula) -> list[str]:
    """The cases in which the emitted function is off by more than its rounding."""
    wrong = []
    for point, value, bound in _cases(node):
        arguments = [wrap(float(point[symbol])) for symbol in node.arguments]
        got = float(function(*arguments))  # type: ignore[arg-type]
        if not abs(got - value) <= bound + math.ulp(value):
            wrong.append(f"{node.id}{tuple(map(float, point.values()))}: {got!r} is not {value!r} within {bound:.1e}")
    return wrong


def _python(node: Formula, format: str) -> Function:
    namespace: dict[str, Function] = {}
    exec(compile(emit(node, format), node.id, "exec"), namespace)  # noqa: S102
    return namespace[node.id.replace(".", "_")]


@pytest.mark.parametrize("node", CODED, ids=lambda node: node.id)
def test_emitted_python_numpy_and_torch_compute_the_formula(node: Formula) -> None:
    assert _agrees(_python(node, "python"), float, node) == []
    assert _agrees(_python(node, "numpy"), np.float64, node) == []
    assert _agrees(_python(node, "torch"), lambda value: torch.tensor(value, dtype=torch.float64), node) == []


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """All emitted C in one shared library, built by the system compiler with every warning an error."""
    folder: Path = tmp_path_factory.mktemp("emitted")
    source = folder / "formulas.c"
    source.write_text("\n".join(emit(node, "c") for node in CODED), encoding="utf-8")
    command = ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", "formulas.so", "formulas.c", "-lm"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return ctypes.CDLL(str(folder / "formulas.so"))


def test_emitted_c_computes_the_formula(library: ctypes.CDLL) -> None:
    wrong = []
    for node in CODED:
        function = getattr(library, node.id.replace(".", "_"))
        function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double] * len(node.arguments)
        wrong += _agrees(function, float, node)
    assert wrong == []


def test_a_wrong_formula_is_seen() -> None:
    """The comparison rejects every decoy of the posterior variance."""
    node = derivations.registry()["ddpm.posterior_variance"]
    for decoy in node.decoys:
        function = sp.lambdify(node.arguments, decoy.closed, "math")
        try:
            assert _agrees(function, float, node) != [], decoy.id
        except (TypeError, ValueError, NameError):
            continue


@pytest.mark.parametrize("language", ["rust", "julia"])
def test_emitted_rust_and_julia_parse(language: str) -> None:
    grammar = {"rust": tree_sitter_rust, "julia": tree_sitter_julia}[language]
    parser = Parser(Language(grammar.language()))
    for node in CODED:
        text = emit(node, language)
        assert not parser.parse(text.encode()).root_node.has_error, text
    assert parser.parse(b"fn (((").root_node.has_error


def test_emitted_jax_parses() -> None:
    for node in CODED:
        ast.parse(emit(node, "jax"))


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.id)
def test_latex_is_balanced_and_sympy_rebuilds_the_formula(node: Formula) -> None:
    text = emit(node, "latex", steps=True)
    assert text.count("{") == text.count("}")
    assert text.count(r"\left") == text.count(r"\right")
    assert not re.search(r"_g\d|_r\d|Dummy", text)
    if has_code(node):
        namespace: dict[str, sp.Expr] = {}
        exec(emit(node, "sympy"), namespace)  # noqa: S102
        assert namespace["rhs"] == node.rhs


def test_markdown_names_the_formula_its_sources_and_its_steps() -> None:
    for node in NODES:
        text = emit(node, "markdown", steps=True)
        assert node.id in text
        assert all(step.title in text for step in node.steps())
        assert all(citation in text for citation in node.citations)


def test_an_unknown_format_and_a_formula_without_numbers_are_refused() -> None:
    node = CODED[0]
    with pytest.raises(EmitError, match="fortran"):
        emit(node, "fortran")
    for abstract in set(NODES) - set(CODED):
        with pytest.raises(EmitError, match=re.escape(abstract.id)):
            emit(abstract, "c")
    assert "coq" in FORMATS
