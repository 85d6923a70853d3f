"""What ``derive`` prints is right: emitted code is run against ball arithmetic, the rest is parsed."""

from __future__ import annotations

import ast
import ctypes
import functools
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
from derivations.kit.formula import Registry, formula
from derivations.kit.zero import points

NODES = list(derivations.registry().values())
CODED = [node for node in NODES if has_code(node)]
POINTS = 3

Point = dict[sp.Symbol, Fraction]
Function = Callable[..., object]


@functools.cache
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
    """The running error: each operation rounds once and passes on the errors of its parts."""
    return 2**-52 * _running_error(node.closed, point)[1]


def _running_error(expr: sp.Expr, point: Point) -> tuple[float, float]:
    """(value, error in units of the rounding) to first order."""
    if expr.is_Symbol:
        return float(point[expr]), 0.0
    if expr.is_number:
        value = float(expr)
        return value, 0.0 if expr.is_Integer else abs(value)
    value = float(enclosure(expr, point).mid())
    if expr.is_integer:  # a multiple of a count
        return value, 0.0
    parts = [_running_error(arg, point) for arg in expr.args if isinstance(arg, sp.Expr)]
    if not all(isinstance(arg, sp.Expr) for arg in expr.args) or isinstance(expr, sp.Min | sp.Max):
        return value, abs(value) + sum(error for _, error in parts)
    if isinstance(expr, sp.floor | sp.ceiling | sp.sign):
        return value, 0.0
    if isinstance(expr, sp.Add):
        return value, sum(abs(part) + error for part, error in parts)
    if isinstance(expr, sp.Mul):
        return value, len(parts) * abs(value) + sum(
            abs(value / part) * error for part, error in parts if part
        )
    holes, slopes = _slopes(expr.func, len(parts))
    inputs = {hole: Fraction(part) for hole, (part, _) in zip(holes, parts, strict=True)}
    total = 2 * abs(value)
    for slope, (_, error) in zip(slopes, parts, strict=True):
        total += error and error * abs(float(enclosure(slope, inputs).mid()))
    return value, total


@functools.cache
def _slopes(function: Callable[..., sp.Expr], count: int) -> tuple[list[sp.Dummy], list[sp.Expr]]:
    """The arguments of a function, and its derivatives by each."""
    holes = [sp.Dummy(real=True) for _ in range(count)]
    return holes, [sp.diff(function(*holes), hole) for hole in holes]


def _agrees(function: Function, wrap: Callable[[float], object], node: Formula) -> list[str]:
    """The cases in which the emitted function is off by more than its rounding."""
    wrong = []
    for point, value, bound in _cases(node):
        arguments = [wrap(float(point[symbol])) for symbol in node.arguments]
        got = float(function(*arguments))  # type: ignore[arg-type]
        if not abs(got - value) <= bound + math.ulp(value):
            wrong.append(
                f"{node.id}{tuple(map(float, point.values()))}: {got!r} is not {value!r} within {bound:.1e}"
            )
    return wrong


def _python(node: Formula, format: str) -> Function:
    namespace: dict[str, Function] = {}
    exec(compile(emit(node, format), node.id, "exec"), namespace)
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
    command = [
        "cc",
        "-std=c99",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-shared",
        "-fPIC",
        "-o",
        "formulas.so",
        "formulas.c",
        "-lm",
    ]
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
        exec(emit(node, "sympy"), namespace)
        assert _same(namespace["rhs"], node)


def _same(rebuilt: sp.Expr, node: Formula) -> bool:
    """Equal as trees, or (where SymPy distributes a constant on reading) at exact points."""
    if rebuilt == node.rhs:
        return True
    drawn = list(points(node.rhs.free_symbols, node.assumptions, POINTS))
    assert rebuilt.free_symbols == node.rhs.free_symbols and drawn
    return all(enclosure(rebuilt, point).overlaps(enclosure(node.rhs, point)) for point in drawn)


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


def test_the_error_function_has_the_name_that_each_library_gives_it() -> None:
    registry = Registry()
    x = sp.Symbol("x", real=True)
    declare = formula("test.tail", lhs=sp.Symbol("y"), rhs=sp.erfc(x) / 2, registry=registry)
    node = declare(lambda claim: iter(()))
    assert "scipy.special.erfc(x)" in emit(node, "numpy") and "import scipy.special" in emit(node, "numpy")
    assert "jax.scipy.special.erfc(x)" in emit(node, "jax") and "libm::erfc(x)" in emit(node, "rust")
    assert "using SpecialFunctions" in emit(node, "julia")
    for format, wrap in (("python", float), ("numpy", np.float64), ("torch", torch.tensor)):
        assert abs(float(_python(node, format)(wrap(0.7))) - math.erfc(0.7) / 2) < 1e-7  # type: ignore[arg-type]
