"""A small grammar of mistakes: the ways in which people really write a formula wrong.

Each rule rewrites one place of a SymPy expression. The result is a decoy: the proof must refute it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import sympy as sp
from sympy.core.function import AppliedUndef

from derivations import symbols as names

Rule = Callable[[sp.Expr], Iterator[tuple[str, str, str, sp.Expr]]]
_SWAPS = (
    ("index", "level-early", "the level t-1 where t belongs", {names.abar_t: names.abar_prev}),
    ("index", "level-late", "the level t where t-1 belongs", {names.abar_prev: names.abar_t}),
    ("index", "level-s-for-t", "the level s where t belongs", {names.abar_t: names.abar_s}),
    ("index", "level-t-for-s", "the level t where s belongs", {names.abar_s: names.abar_t}),
    ("index", "bar-missing", "α_t where ᾱ_t belongs: a bar is missing", {names.abar_t: names.alpha_t}),
    ("index", "bar-added", "ᾱ_t where α_t belongs: a bar too many", {names.alpha_t: names.abar_t}),
    ("variance", "beta-for-alpha", "β_t where α_t belongs", {names.alpha_t: names.beta_t}),
    ("variance", "alpha-for-beta", "α_t where β_t belongs", {names.beta_t: names.alpha_t}),
    ("variance", "sigma-squared", "σ² where σ belongs", {names.sigma_t: names.sigma_t**2}),
    ("sqrt", "eta-squared", "η² where η belongs", {names.eta: names.eta**2}),
    ("parameterization", "x_0-for-eps", "x_0 where ε belongs", {names.eps: names.x_0}),
    ("parameterization", "eps-for-x_0", "ε where x_0 belongs", {names.x_0: names.eps}),
)


def mutations(expr: sp.Expr) -> Iterator[tuple[str, str, str, sp.Expr]]:
    """(family, id, what is wrong, mutated expression); equal expressions are not filtered here."""
    seen = {expr}
    for rule in (_swaps, _roots, _signs, _factors):
        for family, name, note, mutant in rule(expr):
            if mutant not in seen:
                seen.add(mutant)
                yield family, name, note, mutant


def _swaps(expr: sp.Expr) -> Iterator[tuple[str, str, str, sp.Expr]]:
    for family, name, note, table in _SWAPS:
        if set(table) & expr.free_symbols:
            yield family, name, note, expr.xreplace(table)


def _roots(expr: sp.Expr) -> Iterator[tuple[str, str, str, sp.Expr]]:
    """Drop a root, and put one where there is none."""
    for k, power in enumerate(_sorted(p for p in expr.atoms(sp.Pow) if abs(p.exp) == sp.Rational(1, 2))):
        yield (
            "sqrt",
            f"root-missing-{k}",
            f"the root of {power.base} is missing",
            expr.xreplace({power: power**2}),
        )
    # the argument of an undefined function is a label, such as a level, and no number to take roots of
    functions = {part: sp.Dummy() for part in expr.atoms(AppliedUndef)}
    back = {dummy: function for function, dummy in functions.items()}
    sums = {part.xreplace(back) for part in expr.xreplace(functions).atoms(sp.Add)}
    sums |= expr.free_symbols & set(names.WHERE)
    candidates = _sorted(part for part in sums if part.is_positive is not False)
    for k, base in enumerate(c for c in candidates if not c.free_symbols & _REALS and c != expr):
        if not any(p.base == base and not p.exp.is_Integer for p in expr.atoms(sp.Pow)):
            yield (
                "sqrt",
                f"root-added-{k}",
                f"a root of {base} where there is none",
                expr.xreplace({base: sp.sqrt(base)}),
            )


def _signs(expr: sp.Expr) -> Iterator[tuple[str, str, str, sp.Expr]]:
    if expr.is_Add:
        for k, term in enumerate(_sorted(expr.args)):
            yield "sign", f"sign-{k}", f"the sign of {term} is flipped", expr - 2 * term
    else:
        yield "sign", "sign", "the sign is flipped", -expr


def _factors(expr: sp.Expr) -> Iterator[tuple[str, str, str, sp.Expr]]:
    """A term dropped, a factor inverted, one half."""
    if expr.is_Add and len(expr.args) > 1:
        for k, term in enumerate(_sorted(expr.args)):
            yield "sign", f"term-missing-{k}", f"the term {term} is missing", expr - term
    if expr.is_Mul:
        for k, factor in enumerate(_sorted(a for a in expr.args if not a.is_Number)):
            yield (
                "sqrt",
                f"inverted-{k}",
                f"the factor {factor} stands on the wrong side of the fraction",
                expr / factor**2,
            )
    yield "variance", "half", "half of it", expr / 2


_REALS = {
    names.x_0,
    names.x_t,
    names.x_s,
    names.x_prev,
    names.eps,
    names.z,
    names.v,
    names.score,
    names.mu,
    names.x,
}


def _sorted(exprs: object) -> list[sp.Expr]:
    return sorted(exprs, key=sp.default_sort_key)  # type: ignore[call-overload, no-any-return]
