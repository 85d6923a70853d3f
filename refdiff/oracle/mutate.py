"""A grammar of mistakes over the programs of ``formulas``: each rule rewrites one place, as people do by
mistake."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import CodeType

# what a scalar is confused with, with the family of that mistake; the rest of the name says the level
_LEVELS = ("abar_t", "abar_s", "abar_prev", "abar_next", "abar_s_prev", "abar_s_next")
_BETAS = ("beta_t", "beta_s", "beta_next", "beta_prev")
_CONFUSED: dict[str, tuple[tuple[str, str], ...]] = {
    "abar_t": (
        *((name, "index") for name in _LEVELS if name != "abar_t"),
        ("alpha_t", "index"),
        ("beta_t", "variance"),
        ("abar_T", "index"),
    ),
    "abar_s": (
        *((name, "index") for name in _LEVELS if name != "abar_s"),
        ("alpha_s", "index"),
        ("alpha_t", "index"),
        ("abar_T", "index"),
    ),
    "alpha_t": (
        ("abar_t", "index"),
        ("abar_s", "index"),
        ("alpha_s", "index"),
        ("beta_t", "variance"),
        ("alpha_next", "index"),
    ),
    "beta_t": (
        *((name, "index") for name in _BETAS if name != "beta_t"),
        ("alpha_t", "variance"),
        ("beta_tilde", "variance"),
    ),
    "alpha_step": (("alpha_t", "index"), ("abar_t", "index"), ("beta_step", "variance")),
    "beta_step": (("beta_t", "index"), ("alpha_step", "variance"), ("beta_s", "index")),
    "variance": (
        ("beta_t", "variance"),
        ("beta_tilde", "variance"),
        ("beta_s", "variance"),
        ("beta_next", "variance"),
    ),
}
_STATES = ("x", "x0", "e", "z", "g", "score", "u", "c", "y", "n")


@dataclass(eq=False)
class Mutant:
    """A program with one mistake."""

    family: str
    rule: str
    tree: ast.Module
    rank: int
    old: ast.expr | None = None
    new: ast.expr | None = None
    also: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The mistake in words."""
        if self.old is None or self.new is None:
            return self.rule
        return f"{self.rule}: {pretty(ast.unparse(self.new))} where {pretty(ast.unparse(self.old))} belongs"

    @property
    def program(self) -> str:
        """The program as text."""
        return ast.unparse(self.tree)

    @cached_property
    def code(self) -> CodeType:
        """The program, ready to run."""
        return compile(self.tree, "<mutant>", "exec")


def pretty(code: str) -> str:
    """A program's expression in the paper's signs."""
    for plain, sign in _SIGNS:
        code = code.replace(plain, sign)
    return code


_SIGNS = (
    ("abar_s_prev", "ᾱ_{s-1}"),
    ("abar_s_next", "ᾱ_{s+1}"),
    ("abar_prev", "ᾱ_{t-1}"),
    ("abar_next", "ᾱ_{t+1}"),
    ("abar_", "ᾱ_"),
    ("alpha_next", "α_{t+1}"),
    ("alpha_", "α_"),
    ("beta_tilde", "β̃_t"),
    ("beta_next", "β_{t+1}"),
    ("beta_prev", "β_{t-1}"),
    ("beta_low", "β̃"),
    ("beta_", "β_"),
    ("variance", "σ²"),
    ("sigma", "σ"),
    ("sqrt", "√"),
    ("eta", "η"),
    ("**2", "²"),
    (" * ", "·"),
    (" / ", "/"),
    ("last", "[s>0]"),
)


@lru_cache(maxsize=64)
def mutants(program: str) -> tuple[Mutant, ...]:
    """Every program that differs from the given one by one mistake; some are equal to it or to each other."""
    return tuple(_mutants(program))


def _mutants(program: str) -> Iterator[Mutant]:
    tree = ast.parse(program)
    yield from _renamed(tree)
    for index, statement in enumerate(tree.body):
        assert isinstance(statement, ast.Assign)
        target = statement.targets[0]
        assert isinstance(target, ast.Name)
        changed = (*_variants(statement.value, target.id), *_replaced(target.id, statement.value))
        for family, rule, value, rank, old, new in changed:
            family, also = _family(family, target.id, _names(old), _names(new))
            assign = ast.copy_location(ast.Assign(statement.targets, value), statement)
            body = [*tree.body[:index], assign, *tree.body[index + 1 :]]
            yield Mutant(family, rule, ast.Module(body, []), rank, old, new, also)


_VARIANCES = (
    "1 - abar_t", "1 - abar_s", "beta_t", "beta_s", "beta_tilde", "1 - abar_t/abar_s", "one", "alpha_t",
    "abar_t", "(1 - abar_s)/(1 - abar_t)", "(1 - abar_t)/(1 - abar_s)*beta_t", "1 - alpha_t",
    "beta_t*(1 - abar_s)", "beta_low", "(1 - abar_s)/(1 - abar_t)*beta_t", "1/abar_t - 1", "1/abar_s - 1",
)  # fmt: skip


def _replaced(target: str, value: ast.expr) -> Iterator[Variant]:
    """Another quantity altogether in place of a variance."""
    right = ast.unparse(value)
    of_itself = tuple(
        form.format(right)
        for form in ("exp({})", "exp(0.5*({}))", "exp(0.5*sqrt({}))", "log({})", "sqrt({})")
    )
    raw = (
        "f*beta_t + (1 - f)*beta_low",
        "exp(f*log(beta_step) + (1 - f)*log(beta_low))",
        "beta_t**f*beta_low**(1 - f)",
        "f",
    )
    others = (*_VARIANCES, *of_itself, *(raw if "f" in _names(value) else ()))
    for text in others if target in ("variance", "sigma") else ():
        forms = (
            (text,) if target == "variance" else (f"eta*sqrt({text})", f"eta*({text})", f"sqrt(eta*({text}))")
        )
        for form in forms:
            new = ast.parse(form, mode="eval").body
            yield "variance", "another variance" if target == "variance" else "another σ", new, 1, value, new


def _family(family: str, target: str, old: set[str], new: set[str]) -> tuple[str, tuple[str, ...]]:
    """What a mistake touches may name its family better than what it is."""
    touched = old | new
    if touched & {"g", "scale"} and (target == "out" or old ^ new & {"g", "scale"}):
        return "guidance", (family,)
    about_variance = target in ("variance", "sigma") or bool(touched & {"variance", "sigma"})
    if family == "parameterization" and about_variance:
        return "variance", (family,)
    return family, ("variance",) if about_variance and family != "variance" else ()


def _names(node: ast.expr) -> set[str]:
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}


def _renamed(tree: ast.Module) -> Iterator[Mutant]:
    """One symbol taken for another wherever it stands."""
    used = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    for old, choices in _CONFUSED.items():
        if old not in used or old == "variance":
            continue
        for new, family in choices:
            renamed = _Rename(old, new).visit(ast.parse(ast.unparse(tree)))
            also = ("schedule", "variance") if family == "index" else ("index",)
            yield Mutant(
                family, f"{pretty(new)} where {pretty(old)} belongs", renamed, 1, also=also
            )


class _Rename(ast.NodeTransformer):
    def __init__(self, old: str, new: str) -> None:
        self.old, self.new = old, new

    def visit_Name(self, node: ast.Name) -> ast.Name:
        if node.id == self.old and isinstance(node.ctx, ast.Load):
            return ast.copy_location(ast.Name(self.new, node.ctx), node)
        return node


Local = tuple[str, str, ast.expr, int]
Variant = tuple[str, str, ast.expr, int, ast.expr, ast.expr]


def _variants(node: ast.expr, target: str) -> Iterator[Variant]:
    """Every rewriting of one place inside an expression."""
    for family, rule, new, rank in _local(node, target):
        yield family, rule, _located(new, node), rank, node, new
    for field in ("left", "right", "operand", "args"):
        child = getattr(node, field, None)
        if isinstance(child, list):
            for index, item in enumerate(child):
                for family, rule, part, rank, old, new in _variants(item, target):
                    whole = _with(node, field, [*child[:index], part, *child[index + 1 :]])
                    yield family, rule, whole, rank, old, new
        elif isinstance(child, ast.expr):
            for family, rule, part, rank, old, new in _variants(child, target):
                yield family, rule, _with(node, field, part), rank, old, new


def _with(node: ast.expr, field: str, value: object) -> ast.expr:
    fields = {name: getattr(node, name) for name in node._fields}
    return ast.copy_location(type(node)(**(fields | {field: value})), node)


def _located(new: ast.expr, old: ast.expr) -> ast.expr:
    """What compiling asks of a node: a place in the text, for those that have none that of ``old``."""
    return ast.fix_missing_locations(ast.copy_location(new, old))


def _is_linear(node: ast.expr) -> bool:
    return any(
        isinstance(child, ast.Name) and child.id in (*_STATES, "mean", "out") for child in ast.walk(node)
    )


def _call(name: str, node: ast.expr) -> ast.expr:
    return ast.Call(ast.Name(name, ast.Load()), [node], [])


def _sqrt(node: ast.expr) -> ast.expr:
    return _call("sqrt", node)


def _op(left: ast.expr, op: ast.operator, right: ast.expr) -> ast.expr:
    return ast.BinOp(left, op, right)


def _number(value: float) -> ast.expr:
    return ast.Constant(value)


def _local(node: ast.expr, target: str) -> Iterator[Local]:
    """Rewritings of a node itself: (family, rule, new node, rank)."""
    scalar = not _is_linear(node)
    inside = "variance" if target in ("variance", "sigma") else "parameterization"
    if isinstance(node, ast.Call):
        yield from _of_call(node, inside)
    elif isinstance(node, ast.BinOp):
        yield from _of_operation(node, scalar, inside)
    elif isinstance(node, ast.UnaryOp):
        yield "sign", "a sign is flipped", node.operand, 1
    elif isinstance(node, ast.Name):
        yield from _of_name(node)
    if scalar and not isinstance(node, ast.Constant):
        yield "sqrt", "a square root too many", _sqrt(node), 2
        yield "sqrt", "a square too many", _op(node, ast.Pow(), _number(2)), 3
    if not isinstance(node, (ast.Constant, ast.Name)) or not scalar or inside == "variance":
        yield inside, "twice", _op(_number(2.0), ast.Mult(), node), 3
        yield inside, "half", _op(_number(0.5), ast.Mult(), node), 3
        yield "sign", "a sign is flipped", ast.UnaryOp(ast.USub(), node), 2
    if not scalar and target == "out":
        yield "sign", "a sign is flipped", ast.UnaryOp(ast.USub(), node), 1


def _of_call(node: ast.Call, inside: str) -> Iterator[Local]:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    inner = node.args[0]
    if name == "sqrt":
        yield "sqrt", "a square root is missing", inner, 1
        if isinstance(inner, ast.BinOp) and isinstance(inner.op, (ast.Sub, ast.Add)):
            yield (
                "sqrt",
                "the root is taken of the terms",
                _op(_sqrt(inner.left), inner.op, _sqrt(inner.right)),
                2,
            )
            half = _op(_number(0.5), ast.Mult(), inner)
            yield "sqrt", "half instead of a square root", half, 3
        yield inside, "one half stands under the root", _sqrt(_op(_number(0.5), ast.Mult(), inner)), 3
    if name == "exp":
        yield "variance", "a logarithm is read as the quantity itself", inner, 1
        yield "variance", "one half in the exponent", _call("exp", _op(_number(0.5), ast.Mult(), inner)), 1
        yield "variance", "twice the exponent", _call("exp", _op(_number(2.0), ast.Mult(), inner)), 1
    if name == "log":
        yield "variance", "interpolated without a logarithm", inner, 2


def _of_operation(node: ast.BinOp, scalar: bool, inside: str) -> Iterator[Local]:
    left, right = node.left, node.right
    if isinstance(node.op, ast.Pow):
        yield "sqrt", "a square is missing", left, 1
        return
    if isinstance(node.op, (ast.Add, ast.Sub)):
        yield from _of_sum(node, scalar, inside)
    if isinstance(node.op, ast.Mult):
        yield from _of_product(left, right, scalar, inside)
    if isinstance(node.op, ast.Div):
        yield inside, "a factor on the wrong side of the fraction", _op(left, ast.Mult(), right), 1
        yield inside, "a divisor is missing", left, 1
        if scalar:
            yield inside, "a fraction upside down", _op(right, ast.Div(), left), 1
            if not (isinstance(left, ast.Constant)):
                yield inside, "a numerator is missing", _op(_number(1), ast.Div(), right), 2
        if isinstance(left, ast.BinOp) and isinstance(left.op, (ast.Add, ast.Sub)):
            second = _op(left.left, left.op, _op(left.right, ast.Div(), right))
            yield inside, "the divisor divides the second term only: brackets are missing", second, 1
            first = _op(_op(left.left, ast.Div(), right), left.op, left.right)
            yield inside, "the divisor divides the first term only", first, 1


def _of_sum(node: ast.BinOp, scalar: bool, inside: str) -> Iterator[Local]:
    left, right = node.left, node.right
    other: ast.operator = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
    yield "sign", "a sign is flipped", _op(left, other, right), 1
    if isinstance(node.op, ast.Sub):
        yield "sign", "the terms of a difference are swapped", _op(right, ast.Sub(), left), 1
    yield inside if scalar else "parameterization", "a term is missing", left, 1
    if not isinstance(left, ast.Constant) or not scalar:
        yield inside, "a term is missing", right, 1
    elif isinstance(right, ast.Name):
        # 1 - abar: its complement
        yield inside, "the complement is missing", right, 1
    if _is_linear(left) and _is_linear(right):
        yield from _swapped(node)


def _swapped(node: ast.BinOp) -> Iterator[Local]:
    """The coefficients of two states exchanged."""
    left, right = node.left, node.right
    if not (isinstance(left, ast.BinOp) and isinstance(right, ast.BinOp)):
        return
    if isinstance(left.op, ast.Mult) and isinstance(right.op, ast.Mult):
        first, second = _op(right.left, ast.Mult(), left.right), _op(left.left, ast.Mult(), right.right)
        yield "parameterization", "the two coefficients are swapped", _op(first, node.op, second), 1
        yield "parameterization", "the two states are swapped", _op(second, node.op, first), 1


def _of_product(left: ast.expr, right: ast.expr, scalar: bool, inside: str) -> Iterator[Local]:
    if scalar or not _is_linear(left):
        family = "noise-at-t0" if isinstance(left, ast.Name) and left.id == "last" else inside
        yield family, "a factor is missing", right, 1
        yield inside, "a factor on the wrong side of the fraction", _op(right, ast.Div(), left), 1
    if scalar:
        yield inside, "a factor is missing", left, 1
        yield inside, "a factor on the wrong side of the fraction", _op(left, ast.Div(), right), 1


def _of_name(node: ast.Name) -> Iterator[Local]:
    for new, family in _CONFUSED.get(node.id, ()):
        yield (
            family,
            "another level" if family == "index" else "another quantity",
            ast.Name(new, ast.Load()),
            2,
        )
    if node.id in ("x", "x0", "e"):
        for new in ("x", "x0", "e"):
            if new != node.id:
                yield "parameterization", "another state", ast.Name(new, ast.Load()), 2
    if node.id in ("eta", "sigma", "variance", "scale"):
        yield "sqrt", "a square too many", _op(node, ast.Pow(), _number(2)), 1
        yield "sqrt", "a square root too many", _sqrt(node), 1
    if node.id == "scale":
        plus = _op(_number(1), ast.Add(), node)
        yield "guidance", "one too many", plus, 2
        yield "guidance", "one too few", _op(node, ast.Sub(), _number(1)), 2
