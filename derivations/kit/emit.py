"""A formula as text for somebody else: LaTeX, Markdown, or code in nine languages.

Code is one function a formula. Its arguments are the independent symbols of the right side; dependent ones
(α_t, β_t) become local variables, so that the last line reads like the formula.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Sequence
from textwrap import fill, indent

import sympy as sp
from sympy.printing.c import C99CodePrinter
from sympy.printing.julia import JuliaCodePrinter
from sympy.printing.numpy import JaxPrinter, NumPyPrinter
from sympy.printing.precedence import PRECEDENCE, precedence
from sympy.printing.pycode import PythonCodePrinter

from derivations.kit.formula import Formula
from derivations.kit.latex import in_text, tex
from derivations.kit.steps import Step
from derivations.symbols import MEANINGS, WHERE

Printer = Callable[[sp.Expr], str]


class EmitError(ValueError):
    """The formula cannot be written in the format asked for."""


class _NumPyPrinter(NumPyPrinter):  # type: ignore[misc]
    """NumPy, and SciPy for the error function."""

    def _print_erf(self, expr: sp.Expr) -> str:
        return f"scipy.special.{type(expr).__name__}({self._print(expr.args[0])})"

    _print_erfc = _print_erf


class _JaxPrinter(JaxPrinter):  # type: ignore[misc]
    """JAX, whose error function has a module of its own."""

    def _print_erf(self, expr: sp.Expr) -> str:
        return f"jax.scipy.special.{type(expr).__name__}({self._print(expr.args[0])})"

    _print_erfc = _print_erf


class _TorchPrinter(NumPyPrinter):  # type: ignore[misc]
    """NumPy's names are torch's; only a two-sided minimum and a case distinction differ."""

    _module = "torch"

    def _print_Function(self, expr: sp.Expr) -> str:
        return f"torch.{type(expr).__name__}({', '.join(self._print(arg) for arg in expr.args)})"

    def _print_log(self, expr: sp.Expr) -> str:
        module = "torch" if expr.free_symbols else "math"  # torch has no logarithm of a number
        return f"{module}.log({self._print(expr.args[0])})"

    _print_exp = _print_cos = _print_sin = _print_tanh = _print_erf = _print_atan = _print_floor = (
        _print_Function
    )
    _print_sign = _print_erfc = _print_Function

    def _print_ceiling(self, expr: sp.Expr) -> str:
        return f"torch.ceil({self._print(expr.args[0])})"

    def _print_Abs(self, expr: sp.Expr) -> str:
        return f"torch.abs({self._print(expr.args[0])})"

    def _print_Pow(self, expr: sp.Expr, rational: bool = False) -> str:
        base, exponent = expr.args
        if not base.free_symbols:
            return str(PythonCodePrinter({"fully_qualified_modules": True})._print_Pow(expr))
        if abs(exponent) == sp.Rational(1, 2):
            root = f"torch.sqrt({self._print(base)})"
            return root if exponent > 0 else f"1/{root}"
        return f"{self.parenthesize(base, PRECEDENCE['Pow'])}**({self._print(exponent)})"

    def _print_Min(self, expr: sp.Expr) -> str:
        return self._fold("minimum", expr)

    def _print_Max(self, expr: sp.Expr) -> str:
        return self._fold("maximum", expr)

    def _fold(self, name: str, expr: sp.Expr) -> str:
        args = sorted(expr.args, key=lambda arg: not arg.free_symbols)
        if len(args) == 2 and not args[1].free_symbols:
            return f"torch.clamp({self._print(args[0])}, {name[:3]}={self._print(args[1])})".replace(
                "min=" if name == "minimum" else "max=", "max=" if name == "minimum" else "min="
            )
        text: str = self._print(args[0])
        for arg in args[1:]:
            text = f"torch.{name}({text}, {self._print(arg)})"
        return text

    def _print_Piecewise(self, expr: sp.Expr) -> str:
        text: str = self._print(expr.args[-1].expr)
        for branch in reversed(expr.args[:-1]):
            text = f"torch.where({self._print(branch.cond)}, {self._print(branch.expr)}, {text})"
        return text

    def _print_Exp1(self, expr: sp.Expr) -> str:
        return "math.e"

    def _print_Pi(self, expr: sp.Expr) -> str:
        return "math.pi"


class _CPrinter(C99CodePrinter):  # type: ignore[misc]
    """C99 without the constants that only POSIX defines."""

    def __init__(self) -> None:
        super().__init__({"contract": False, "math_macros": {}})

    def _print_Pi(self, expr: sp.Expr) -> str:
        return "3.14159265358979323846"

    def _print_Exp1(self, expr: sp.Expr) -> str:
        return "2.71828182845904523536"


class _RustPrinter(_CPrinter):
    """C's arithmetic with f64 literals and the functions of f64."""

    def _print_Integer(self, expr: sp.Integer) -> str:
        return f"{int(expr)}.0_f64" if expr >= 0 else f"(-{-int(expr)}.0_f64)"

    def _print_Rational(self, expr: sp.Rational) -> str:
        return f"({int(expr.p)}.0_f64/{int(expr.q)}.0_f64)"

    def _print_Pow(self, expr: sp.Expr) -> str:
        base, exponent = expr.args
        if exponent == -1:
            return f"1.0_f64/{self.parenthesize(base, precedence(expr))}"
        if abs(exponent) == sp.Rational(1, 2):
            root = f"f64::sqrt({self._print(base)})"
            return root if exponent > 0 else f"1.0_f64/{root}"
        if exponent.is_Integer:
            return f"f64::powi({self._print(base)}, {int(exponent)})"
        return f"f64::powf({self._print(base)}, {self._print(exponent)})"

    def _print_Function(self, expr: sp.Expr) -> str:
        names = {"log": "ln", "Abs": "abs", "Min": "min", "Max": "max"}
        name = names.get(type(expr).__name__, type(expr).__name__)
        text: str = self._print(expr.args[0])
        for arg in expr.args[1:]:
            text = f"{text}, {self._print(arg)}"
        return f"f64::{name}({text})"

    _print_exp = _print_log = _print_cos = _print_tanh = _print_Abs = _print_Function

    def _print_erf(self, expr: sp.Expr) -> str:
        return f"libm::{type(expr).__name__}({self._print(expr.args[0])})"  # f64 has no error function

    _print_erfc = _print_erf

    def _print_Min(self, expr: sp.Expr) -> str:
        return self._pairwise("min", expr)

    def _print_Max(self, expr: sp.Expr) -> str:
        return self._pairwise("max", expr)

    def _pairwise(self, name: str, expr: sp.Expr) -> str:
        text: str = self._print(expr.args[0])
        for arg in expr.args[1:]:
            text = f"f64::{name}({text}, {self._print(arg)})"
        return text

    def _print_Piecewise(self, expr: sp.Expr) -> str:
        text = f"{{ {self._print(expr.args[-1].expr)} }}"
        for branch in reversed(expr.args[:-1]):
            text = f"if {self._print(branch.cond)} {{ {self._print(branch.expr)} }} else {text}"
        return f"({text})" if text.startswith("if") else text

    def _print_Pi(self, expr: sp.Expr) -> str:
        return "std::f64::consts::PI"

    def _print_Exp1(self, expr: sp.Expr) -> str:
        return "std::f64::consts::E"


def _documented(node: Formula) -> list[str]:
    lines = [f"{node.title}.", "", f"Formula {node.id}: {_plain(node.lhs)} = {node.rhs}"]
    return [*lines, *(f"Printed in {', '.join(node.citations)}." for _ in node.citations[:1])]


def _plain(expr: sp.Basic) -> str:
    return str(expr).replace("\n", " ")


def _locals(node: Formula) -> list[sp.Symbol]:
    """Dependent symbols in the order in which they can be assigned."""
    return [symbol for symbol in WHERE if symbol in node.rhs.free_symbols]


def _name(symbol: sp.Symbol) -> str:
    return symbol.name + "_" if keyword.iskeyword(symbol.name) else re.sub(r"\W", "_", symbol.name)


def _python(node: Formula, header: str, kind: str, printer: Printer) -> str:
    """A Python function; the header is what must be imported."""
    arguments = ", ".join(f"{_name(symbol)}: {kind}" for symbol in node.arguments)
    body = ['"""' + _documented(node)[0], *_documented(node)[1:], '"""']
    body += [f"{_name(symbol)} = {printer(WHERE[symbol])}" for symbol in _locals(node)]
    body.append(f"return {printer(node.rhs)}")
    if "scipy.special." in body[-1]:
        header = header.replace("import numpy\n", "import numpy\nimport scipy.special\n")
        header = header.replace("import jax", "import jax\nimport jax.scipy.special")
    if "functools." in body[-1]:
        header = "import functools\n\n" + header
    signature = f"def {node.id.replace('.', '_')}({arguments}) -> {kind}:"
    return f"{header}\n\n\n{signature}\n{indent(chr(10).join(body), '    ')}\n"


def _emit_python(node: Formula) -> str:
    return _python(node, "import math", "float", PythonCodePrinter().doprint)


def _emit_numpy(node: Formula) -> str:
    return _python(node, "import numpy\nfrom numpy.typing import NDArray", "NDArray", _NumPyPrinter().doprint)


def _emit_torch(node: Formula) -> str:
    return _python(node, "import math\n\nimport torch", "torch.Tensor", _TorchPrinter().doprint)


def _emit_jax(node: Formula) -> str:
    return _python(node, "import jax", "jax.Array", _JaxPrinter().doprint)


def _emit_c(node: Formula) -> str:
    printer = _CPrinter().doprint
    arguments = ", ".join(f"double {_name(symbol)}" for symbol in node.arguments) or "void"
    body = [f"const double {_name(symbol)} = {printer(WHERE[symbol])};" for symbol in _locals(node)]
    body.append(f"return {printer(node.rhs)};")
    comment = _comment(node, " * ")
    return (
        f"#include <math.h>\n\n/*\n{comment}\n */\n"
        f"double {node.id.replace('.', '_')}({arguments})\n{{\n{indent(chr(10).join(body), '    ')}\n}}\n"
    )


def _emit_julia(node: Formula) -> str:
    printer = JuliaCodePrinter({"contract": False}).doprint
    body = [f"{_name(symbol)} = {printer(WHERE[symbol])}" for symbol in _locals(node)] + [printer(node.rhs)]
    arguments = ", ".join(map(_name, node.arguments))
    lines = indent("\n".join(body), "    ")
    using = "using SpecialFunctions\n\n" if node.closed.has(sp.erf, sp.erfc) else ""
    return f"{using}{_comment(node, '# ')}\nfunction {node.id.replace('.', '_')}({arguments})\n{lines}\nend\n"


def _emit_rust(node: Formula) -> str:
    printer = _RustPrinter().doprint
    body = [f"let {_name(symbol).lower()} = {printer(WHERE[symbol])};" for symbol in _locals(node)]
    arguments = ", ".join(f"{_name(symbol)}: f64" for symbol in node.arguments)
    lines = indent("\n".join([*body, printer(node.rhs)]), "    ")
    function = f"pub fn {node.id.replace('.', '_').lower()}({arguments}) -> f64 {{\n{lines}\n}}\n"
    return f"{_comment(node, '/// ')}\n#[allow(non_snake_case)]\n{function}"


def _comment(node: Formula, prefix: str) -> str:
    return "\n".join((prefix + line).rstrip() for line in _documented(node))


def _emit_sympy(node: Formula) -> str:
    """Code that rebuilds both sides as SymPy expressions."""
    symbols = (
        node.lhs.free_symbols
        | node.rhs.free_symbols
        | {s for w in _locals(node) for s in WHERE[w].free_symbols}
    )
    lines = ["from sympy import *", ""]
    matrices = sorted({s for s in symbols if isinstance(s, sp.MatrixSymbol)}, key=lambda s: s.name)
    sizes = {size for matrix in matrices for side in matrix.shape for size in side.free_symbols}
    for symbol in sorted((symbols | sizes) - set(matrices), key=lambda s: s.name):
        options = "".join(f", {k}={v}" for k, v in symbol._assumptions_orig.items())
        lines.append(f'{_name(symbol)} = Symbol("{symbol.name}"{options})')
    lines += [f'{_name(m)} = MatrixSymbol("{m.name}", {m.rows}, {m.cols})' for m in matrices]
    functions = {f.func for side in (node.lhs, node.rhs) for f in side.atoms(sp.core.function.AppliedUndef)}
    lines += [f'{f.__name__} = Function("{f.__name__}")' for f in sorted(functions, key=lambda f: f.__name__)]
    lines += ["", f"# {node.title}", f"lhs = {_rebuild(node.lhs)}", f"rhs = {_rebuild(node.rhs)}"]
    lines += [f"where_{_name(symbol)} = {_rebuild(WHERE[symbol])}" for symbol in _locals(node)]
    return "\n".join(lines) + "\n"


def _rebuild(expr: sp.Basic) -> str:
    return re.sub(r"(?<![\w.*])(\d+)/(\d+)", r"Rational(\1, \2)", sp.sstr(expr, full_prec=False))


def _equation(node: Formula) -> str:
    return f"{tex(node.lhs)} = {tex(node.rhs)}"


def _emit_latex(node: Formula, steps: bool) -> str:
    """A numbered equation with its assumptions; with ``steps`` the derivation as a proof."""
    where = [f"{tex(symbol)} = {tex(WHERE[symbol])}" for symbol in _locals(node)]
    lines = [f"% {node.id}: {node.title}", r"\begin{equation}", f"  {_equation(node)}", r"\end{equation}"]
    if where:
        lines.append("where $" + "$, $".join(where) + "$.")
    return "\n".join([*lines, *(_latex_proof(node) if steps else [])]) + "\n"


def _latex_proof(node: Formula) -> list[str]:
    lines = [r"\begin{proof}", fill(in_text(node.prose), 100)]
    for step in node.steps():
        body = step.latex()
        lines.append(rf"\par {in_text(step.title)}" + (":" if body else "."))
        lines += [r"\begin{equation*}", f"  {body}", r"\end{equation*}"] if body else []
    return [*lines, r"\end{proof}"]


def _prose(node: Formula) -> str:
    return " ".join(node.prose.split())


def _emit_markdown(node: Formula, steps: bool) -> str:
    """A section: formula, symbols, assumptions, sources, the ways it is got wrong, and the derivation."""
    blocks = [f"### {node.title} (`{node.id}`)", f"$$\n{_equation(node)}\n$$"]
    blocks.append("\n".join(_symbol_lines(node)))
    if node.assumptions:
        blocks.append("Assumes " + ", ".join(f"${tex(relation)}$" for relation in node.assumptions) + ".")
    if node.citations:
        blocks.append("Printed in " + ", ".join(node.citations) + ".")
    if node.known_decoys:
        decoys = "\n".join(f"- ${tex(decoy.rhs)}$: {decoy.note}" for decoy in node.known_decoys)
        blocks.append("Known wrong forms, each refuted:\n\n" + decoys)
    if steps:
        blocks += ["**Derivation.** " + _prose(node), "\n".join(_markdown_steps(node.steps()))]
    return "\n\n".join(blocks) + "\n"


def _symbol_lines(node: Formula) -> list[str]:
    rows = ["| symbol | meaning | domain | unit |", "|---|---|---|---|"]
    for symbol in sorted(node.rhs.free_symbols, key=lambda s: s.name):
        known = MEANINGS.get(symbol)
        cells = (known.meaning, known.domain, known.unit) if known else ("", "", "")
        rows.append(f"| ${tex(symbol)}$ | {' | '.join(cells)} |")
    return rows


def _markdown_steps(steps: Sequence[Step]) -> list[str]:
    lines = []
    for k, step in enumerate(steps, 1):
        body = step.latex()
        lines.append(
            f"{k}. {step.title} ({step.kind})" + (f":\n\n   $$\n   {body}\n   $$\n" if body else ".")
        )
    return lines


def _emit_coq(node: Formula) -> str:
    from derivations.kit.coq import source, theorems

    found, left = theorems(node)
    notes = "\n".join(f"(* not stated: {reason} *)" for reason in left)
    return source(found) + (notes + "\n" if notes else "")


_CODE: dict[str, Callable[[Formula], str]] = {
    "python": _emit_python,
    "numpy": _emit_numpy,
    "torch": _emit_torch,
    "jax": _emit_jax,
    "c": _emit_c,
    "julia": _emit_julia,
    "rust": _emit_rust,
}
FORMATS = ("latex", "markdown", "sympy", *_CODE, "coq")


def has_code(node: Formula) -> bool:
    """Whether the right side is an expression that a numeric language can compute."""
    opaque = (sp.Derivative, sp.Integral, sp.Sum, sp.Product, sp.Indexed, sp.core.function.AppliedUndef)
    return not node.closed.atoms(*opaque) and all(
        symbol.is_commutative for symbol in node.closed.free_symbols
    )


def emit(node: Formula, format: str, steps: bool = False) -> str:
    """The formula in a format of ``FORMATS``; ``steps`` adds the derivation to LaTeX and Markdown.

    Raises:
        EmitError: the format is unknown, or the formula is not something that code can compute.
    """
    if format == "latex":
        return _emit_latex(node, steps)
    if format == "markdown":
        return _emit_markdown(node, steps)
    if format == "sympy":
        return _emit_sympy(node)
    if format == "coq":
        return _emit_coq(node)
    if format not in _CODE:
        raise EmitError(f"format {format!r} is not one of {', '.join(FORMATS)}")
    if not has_code(node):
        raise EmitError(
            f"{node.id} has no numeric form (it holds for abstract functions or matrices): use latex or sympy"
        )
    return _CODE[format](node)
