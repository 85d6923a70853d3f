"""Certificates for the Coq kernel: every identity, sign and induction as a theorem over ℝ, every decoy as
its refutation.

A root is a positive real with its power given as a hypothesis; exponentials, logarithms, π and undefined
functions are arbitrary reals (so the theorem is stronger than the formula). ``field``, ``lra``, ``nra`` and
``induction`` do the rest; the quotients that the relations need are computed here and checked there.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

import sympy as sp

from derivations.kit.formula import Decoy, Formula
from derivations.kit.generators import Generators, NotRepresentableError, rational_image
from derivations.kit.positive import facts, known_sign, prove_positive
from derivations.kit.steps import Induction, NotCovered, Positive, Step, Zero
from derivations.kit.zero import close
from derivations.symbols import MEANINGS, abar_prev, abar_s, abar_t

SECONDS_PER_SENTENCE = 40
HEADER = """Require Import Reals Lra Psatz.
Open Scope R_scope.
Set Default Timeout """ + str(SECONDS_PER_SENTENCE) + """.
Ltac square := match goal with |- 0 < ?x ^ 2 =>
  replace (x ^ 2) with (Rsqr x) by (unfold Rsqr; ring); apply Rsqr_pos_lt; assumption end.
Ltac build := repeat first [ lra | square | apply Rplus_lt_0_compat | apply Rmult_lt_0_compat
  | apply Rinv_0_lt_compat | apply pow_lt | assumption ].
Ltac nonneg := repeat first [ lra | apply pow2_ge_0 | apply Rplus_le_le_0_compat | apply Rmult_le_pos
  | apply Rlt_le; solve [ build ] | assumption ].
Ltac sum := first [ apply Rplus_lt_le_0_compat; [ solve [ build ] | solve [ nonneg ] ]
  | apply Rplus_le_lt_0_compat; [ solve [ nonneg ] | solve [ build ] ] ].
Ltac positive := first [ lra | solve [ build ] | square | sum | nra | apply Rlt_le; nra ].
Ltac side := repeat split; try lra; try (let zero := fresh in intro zero; lra);
  try (apply Rgt_not_eq; first [ solve [ build ] | sum ]); try nra; try (apply Rgt_not_eq; nra).
"""
# loading Coq's library of the reals takes as long as many a proof
FORMULAS_PER_FILE = 24
MOST_OPERATIONS = 120
MOST_WITH_EXPONENTIALS = 30
LONGEST_THEOREM = 4000  # characters; `field` takes minutes on what is longer


_OUTSIDE = (sp.Min, sp.Max, sp.Abs, sp.floor, sp.ceiling, sp.cos, sp.sin, sp.tan, sp.atan)


@dataclass(frozen=True)
class Theorem:
    """One statement with its proof script."""

    name: str
    kind: Literal["identity", "inequality", "induction", "decoy"]
    text: str


@dataclass
class Certificate:
    """What Coq said of one formula."""

    id: str
    certified: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    not_covered: list[str] = field(default_factory=list)
    seconds: float = 0.0


def available() -> str | None:
    """The path of coqc, or None where Coq is not installed."""
    return shutil.which("coqc")


def theorems(node: Formula) -> tuple[list[Theorem], list[str]]:
    """The theorems of a formula and of its decoys, and the reasons for what is left out."""
    found: list[Theorem] = []
    left: list[str] = []
    for k, step in enumerate(node.steps()):
        for item in _of_step(step, node.assumptions, f"{_name(node.id)}_{k}"):
            if isinstance(item, Theorem) and len(item.text) > LONGEST_THEOREM:
                item = "too long for the kernel's field tactic"
            found.append(item) if isinstance(item, Theorem) else left.append(f"{step.title}: {item}")
    for decoy in _decoys(node):
        try:
            item = _refutation(node, decoy.closed, f"{_name(node.id)}_decoy_{_name(decoy.id)}")
        except NotRepresentableError as error:
            item = str(error)
        if isinstance(item, Theorem) and len(item.text) > LONGEST_THEOREM:
            item = "too long for the kernel's field tactic"
        found.append(item) if isinstance(item, Theorem) else left.append(f"decoy {decoy.id}: {item}")
    return found, left


def _decoys(node: Formula) -> list[Decoy]:
    """The known decoys, or the first mutation of each family where none is known: the kernel's time goes to
    mistakes that somebody made."""
    if node.known_decoys:
        return list(node.known_decoys)
    families: dict[str, Decoy] = {}
    for decoy in node.decoys:
        families.setdefault(decoy.family, decoy)
    return list(families.values())


def _of_step(step: Step, assumptions: Sequence[sp.Basic], name: str) -> Iterator[Theorem | str]:
    if isinstance(step, Induction) and (whole := _induction(step, name)):
        yield whole
    for k, obligation in enumerate(step.stated):
        try:
            if isinstance(obligation, NotCovered):
                yield obligation.reason
            elif isinstance(obligation, Zero):
                yield _identity(obligation, assumptions, f"{name}_{k}")
            else:
                yield _inequality(obligation, assumptions, f"{name}_{k}")
        except NotRepresentableError as error:
            yield str(error)


def _real(expr: sp.Expr, generators: Generators) -> sp.Expr:
    """The expression over generators, as far as it is stated to the kernel."""
    expr = close(expr)
    if expr.has(*_OUTSIDE):
        raise NotRepresentableError("trigonometry, minima and rounding are not stated to the kernel")
    if sp.count_ops(expr) > (MOST_WITH_EXPONENTIALS if expr.has(sp.exp) else MOST_OPERATIONS):
        raise NotRepresentableError("too large for the kernel's field tactic")
    return rational_image(expr, generators)


@dataclass
class _Statement:
    """Variables and hypotheses of a theorem."""

    variables: list[sp.Symbol]
    hypotheses: list[str]

    def text(self, name: str, claim: str) -> str:
        premises = "".join(f"  {hypothesis} ->\n" for hypothesis in self.hypotheses)
        names = " ".join(_variable(v) for v in self.variables)
        quantifier = f"forall {names} : R,\n" if names else ""
        return f"Theorem {name} : {quantifier}{premises}  {claim}."


def _statement(
    exprs: Iterable[sp.Expr], generators: Generators, assumptions: Sequence[sp.Basic]
) -> _Statement:
    symbols = set().union(*(expr.free_symbols for expr in exprs))
    symbols |= {s for root, _, radicand in generators.relations for s in {root, *radicand.free_symbols}}
    relations = [close(r) for r in facts(symbols, assumptions)]
    images = [(r, rational_image(r.lhs, generators), rational_image(r.rhs, generators)) for r in relations]
    symbols |= {s for _, lhs, rhs in images for s in lhs.free_symbols | rhs.free_symbols}
    symbols |= {s for root, _, radicand in generators.relations for s in {root, *radicand.free_symbols}}
    variables = sorted(symbols, key=lambda symbol: symbol.name)
    hypotheses = [h for symbol in variables for h in _domain(symbol)]
    hypotheses += [
        f"{_coq(lhs)} {'<' if isinstance(r, sp.Lt) else '<='} {_coq(rhs)}" for r, lhs, rhs in images
    ]
    hypotheses += [
        f"{_coq(root**order)} = {_coq(radicand)}" for root, order, radicand in generators.relations
    ]
    return _Statement(variables, hypotheses)


def _domain(symbol: sp.Symbol) -> list[str]:
    name = _variable(symbol)
    domain = MEANINGS[symbol].domain if symbol in MEANINGS else ("positive" if symbol.is_positive else "real")
    return {
        "unit": [f"0 < {name}", f"{name} < 1"],
        "closed_unit": [f"0 <= {name}", f"{name} <= 1"],
        "positive": [f"0 < {name}"],
        "nonnegative": [f"0 <= {name}"],
        "natural": [f"1 <= {name}"],
        "nonzero": [f"{name} <> 0"],
        "real": [],
    }[domain]


def _identity(obligation: Zero, assumptions: Sequence[sp.Basic], name: str) -> Theorem:
    """lhs = rhs by ``field``, after adding the multiples of the root relations that the normal form used."""
    generators = Generators()
    lhs, rhs = (_real(side, generators) for side in (obligation.lhs, obligation.rhs))
    statement = _statement((lhs, rhs), generators, assumptions)
    numerator, denominator = sp.fraction(sp.together(lhs - rhs))
    quotients = _quotients(numerator, generators)
    proof = ["intros.", *_denominator_facts((lhs, rhs), assumptions)]
    if not quotients:
        proof.append("field; side.")
    else:
        bracket = {
            root: f"({_coq(root**order)} - {_coq(radicand)})"
            for root, order, radicand in generators.relations
        }
        total = " + ".join(f"({_coq(quotient)}) * {bracket[root]}" for root, quotient in quotients)
        proof += [
            "apply Rminus_diag_uniq.",
            f"transitivity (({total}) / ({_coq(sp.factor(denominator))})).",
            "- field; side.",
        ]
        proof += [
            "- "
            + " ".join(f"replace {bracket[root]} with 0 by lra." for root, _ in quotients)
            + " unfold Rdiv; ring."
        ]
    text = statement.text(name, f"{_coq(lhs)} = {_coq(rhs)}") + "\nProof.\n" + "\n".join(proof) + "\nQed."
    return Theorem(name, "identity", text)


def _quotients(numerator: sp.Expr, generators: Generators) -> list[tuple[sp.Symbol, sp.Expr]]:
    """The numerator as Σ quotientᵢ·(rootᵢ^order − radicandᵢ); it must leave no remainder."""
    found = []
    rest = (
        sp.Poly(sp.expand(numerator), *numerator.free_symbols)
        if numerator.free_symbols
        else sp.expand(numerator)
    )
    remainder = rest.as_expr() if isinstance(rest, sp.Poly) else rest
    for root, order, radicand in reversed(generators.relations):
        quotient, rest = sp.Poly(remainder, root).div(sp.Poly(root**order - radicand, root))
        remainder = rest.as_expr()
        if not quotient.is_zero:
            found.append((root, quotient.as_expr()))
    if sp.expand(remainder) != 0:
        raise NotRepresentableError("the identity is not a consequence of its root relations")
    return found


def _denominator_facts(exprs: Iterable[sp.Expr], assumptions: Sequence[sp.Basic]) -> list[str]:
    """The factors of all denominators, and their products, are positive: said before ``field`` asks."""
    powers = {p for expr in exprs for form in (expr, sp.together(expr)) for p in form.atoms(sp.Pow)}
    bases = {power.base for power in powers if power.exp.is_negative}
    facts_of = [_signed(base, assumptions) for base in sorted(bases, key=sp.default_sort_key)]
    lines = [f"try assert (0 < {_coq(factor)}) by positive." for factors in facts_of for factor in factors]
    for factors in facts_of:
        if len(factors) > 1:
            lines.append(f"try assert (0 < {_coq(sp.Mul(*factors, evaluate=False))}) by (solve [build]).")
    return list(dict.fromkeys(lines))


def _signed(base: sp.Expr, assumptions: Sequence[sp.Basic]) -> list[sp.Expr]:
    """The factors of a denominator turned positive; nothing where one has no sign that can be shown."""
    found = []
    for factor, _ in sp.factor_list(sp.fraction(sp.together(base))[0])[1]:
        local = tuple(close(assumption) for assumption in assumptions)
        sign = known_sign(factor) or prove_positive(factor, local) - prove_positive(-factor, local)
        if not sign:
            return []
        found.append(sign * factor)
    return [factor for factor in found if len(found) > 1 or not factor.is_Symbol]


def _inequality(obligation: Positive, assumptions: Sequence[sp.Basic], name: str) -> Theorem:
    """The expression factored, each factor signed, and the product put together."""
    generators = Generators()
    expr = _real(obligation.expr, generators)
    statement = _statement((expr,), generators, assumptions)
    sign = "<" if obligation.strict else "<="
    numerator, denominator = (_signed_factors(part) for part in sp.fraction(sp.factor(sp.together(expr))))
    if numerator[0] * denominator[0] < 0:
        raise NotRepresentableError("the factors do not show the sign")
    top, below = numerator[1] or [sp.Integer(1)], denominator[1] or [sp.Integer(1)]
    product = " * ".join(f"({_coq(f)})" for f in top)
    whole = f"({product}) / ({' * '.join(f'({_coq(f)})' for f in below)})"
    lines = [
        "intros.",
        *_denominator_facts((expr,), assumptions),
        *(f"assert (0 < {_coq(f)}) by positive." for f in below),
    ]
    lines += [f"assert (0 {sign} {_coq(f)}) by (first [positive | apply pow2_ge_0 | nra])." for f in top]
    lines.append(f"replace ({_coq(expr)}) with ({whole}) by (field; side).")
    combine = "Rmult_lt_0_compat" if obligation.strict else "Rmult_le_pos"
    lines.append(f"unfold Rdiv. apply {combine}.")
    lines.append(f"- repeat first [assumption | apply {combine}]; positive.")
    inverse = "apply Rinv_0_lt_compat" if obligation.strict else "apply Rlt_le, Rinv_0_lt_compat"
    lines.append(f"- {inverse}. repeat first [assumption | apply Rmult_lt_0_compat]; positive.")
    text = statement.text(name, f"0 {sign} {_coq(expr)}") + "\nProof.\n" + "\n".join(lines) + "\nQed."
    return Theorem(name, "inequality", text)


def _signed_factors(poly: sp.Expr) -> tuple[int, list[sp.Expr]]:
    """Overall sign, and the factors turned positive where their sign is known."""
    constant, factors = sp.factor_list(poly)
    sign = 1 if constant > 0 else -1
    parts: list[sp.Expr] = [] if abs(constant) == 1 else [abs(constant)]
    for factor, power in factors:
        known = known_sign(factor)
        sign *= known**power if known else 1
        parts.append((known * factor if known else factor) ** power)
    if (
        sign < 0
        and (unknown := next((k for k, part in enumerate(parts) if not known_sign(part)), None)) is not None
    ):
        parts[unknown], sign = sp.expand(-parts[unknown]), 1
    return sign, parts


def _induction(step: Induction, name: str) -> Theorem | None:
    """A true induction over ℕ, where the step's two sides are one claim at n and at n+1."""
    if len(step.hypothesis) != 1:
        return None
    (unknown, claim_now), claim_next = next(iter(step.hypothesis.items())), sp.sympify(step.step[1])
    now_to_next = {s: s for s in sp.sympify(claim_now).free_symbols}
    pairs = {"abar_prev": "abar_t"}
    renamed = {s: sp.Symbol(pairs[s.name], positive=True) for s in now_to_next if s.name in pairs}
    if not renamed or sp.sympify(claim_now).subs(renamed) != claim_next:
        return None
    return None if not isinstance(unknown, sp.Symbol) else _induction_text(step, unknown, claim_now, name)


def _induction_text(step: Induction, unknown: sp.Symbol, claim: sp.Expr, name: str) -> Theorem | None:
    generators = Generators()
    try:
        value = rational_image(close(claim), generators)
        recurrence = rational_image(close(step.step[0]), generators)
    except NotRepresentableError:
        return None
    if generators.relations or generators.free:
        return None
    now, then = sp.Symbol("abar_prev", positive=True), sp.Symbol("abar_t", positive=True)
    level = {now: "(abar n)", then: "(abar (S n))", unknown: "(F n)"}
    others = sorted({s for s in (value.free_symbols | recurrence.free_symbols) if s not in level}, key=str)
    names = {**level, **{s: _variable(s) for s in others}}
    first = {**names, now: "(abar O)"}
    quantified = f" ({' '.join(_variable(s) for s in others)} : R)" if others else ""
    domains = "".join(f"  {hypothesis} ->\n" for symbol in others for hypothesis in _domain(symbol))
    text = (
        f"Theorem {name}_all : forall (abar F : nat -> R){quantified},\n"
        f"{domains}  (forall n, 0 < abar n) -> (forall n, abar (S n) < abar n) ->\n"
        "  (forall n, abar n <= 1) ->\n"
        f"  F O = {_coq(value, first)} ->\n  (forall n, F (S n) = {_coq(recurrence, names)}) ->\n"
        f"  forall n, F n = {_coq(value, names)}.\nProof.\n"
        "intros until n. induction n as [|n IH]; [assumption|].\n"
        "match goal with H : forall n, F (S n) = _ |- _ => rewrite H end. rewrite IH.\n"
        "assert (0 < abar n) by auto. assert (0 < abar (S n)) by auto. field; side.\nQed."
    )
    return Theorem(f"{name}_all", "induction", text)


def _refutation(node: Formula, wrong: sp.Expr, name: str) -> Theorem | str:
    """An exact point of the domain where the decoy and the formula differ."""
    generators = Generators()
    right, wrong = (_real(side, generators) for side in (node.closed, wrong))
    statement = _statement((right, wrong), generators, node.assumptions)
    point = _rational_point((right, wrong), statement.variables, generators, node.assumptions)
    if point is None:
        return "no rational witness with rational roots"
    values = {symbol: f"({value.numerator}/{value.denominator})" for symbol, value in point.items()}
    names = " ".join(_variable(v) for v in statement.variables)
    claim = " /\\ ".join([*statement.hypotheses, f"{_coq(right)} <> {_coq(wrong)}"])
    witnesses = ", ".join(values[v] for v in statement.variables)
    gap = _value(right, point) - _value(wrong, point)
    difference = f"{_coq(right, values)} - ({_coq(wrong, values)}) = {gap.numerator}/{gap.denominator}"
    there_is, witness = (f"exists {names} : R, ", f"exists {witnesses}.\n") if names else ("", "")
    text = (
        f"Theorem {name} : {there_is}{claim}.\nProof.\n{witness}"
        f"assert (E : {difference}) by first [lra | field; side].\n"
        "repeat (split; [first [lra | field; lra | nra]|]).\n"
        f"apply Rminus_not_eq. rewrite E. apply {'Rgt' if gap > 0 else 'Rlt'}_not_eq. lra.\nQed."
    )
    return Theorem(name, "decoy", text)


_SQUARES = [
    Fraction(a * a, c * c)
    for a, c in ((3, 5), (4, 5), (5, 13), (12, 13), (8, 17), (15, 17), (7, 25), (24, 25))
]
_PLAIN = [
    Fraction(1, 4),
    Fraction(1, 2),
    Fraction(9, 16),
    Fraction(3, 4),
    Fraction(1, 9),
    Fraction(4, 9),
    Fraction(8, 9),
]
_TRIES = 120
_DESIGNED = {
    "abar_t": Fraction(153, 697) ** 2, "abar_s": Fraction(185, 697) ** 2,
    "abar_prev": Fraction(185, 697) ** 2, "eta": Fraction(7400, 9061),
}  # fmt: skip
"""Levels whose powers, complements and differences are all squares, and an η for which the DDIM root is
rational too."""


def _rational_point(
    apart: tuple[sp.Expr, sp.Expr],
    variables: Sequence[sp.Symbol],
    generators: Generators,
    assumptions: Sequence[sp.Basic],
) -> dict[sp.Symbol, Fraction] | None:
    """Random simple points until every root is rational, and the two sides have values that differ."""
    draw = random.Random(1)
    roots = {root for root, _, _ in generators.relations}
    plain = [v for v in variables if v not in roots]
    relations = [close(r) for r in facts(plain, assumptions)]
    sides = [(r, rational_image(r.lhs, generators), rational_image(r.rhs, generators)) for r in relations]
    for attempt in range(_TRIES):
        point = {v: draw.choice(_candidates(v)) for v in plain}
        if attempt % 2 == 0:
            point |= {v: _DESIGNED[v.name] for v in plain if v.name in _DESIGNED}
        if {abar_t, abar_prev, abar_s} <= point.keys():
            point[abar_prev] = (point[abar_t] + point[abar_s]) / 2
        if not _with_roots(point, generators):
            continue
        try:
            ordered = all(_holds(r, _value(lhs, point), _value(rhs, point)) for r, lhs, rhs in sides)
            if ordered and _value(apart[0], point) != _value(apart[1], point):
                return point
        except ZeroDivisionError:
            continue
    return None


def _holds(relation: sp.Basic, lhs: Fraction, rhs: Fraction) -> bool:
    return lhs < rhs if isinstance(relation, sp.Lt) else lhs <= rhs


def _candidates(symbol: sp.Symbol) -> list[Fraction]:
    domain = MEANINGS[symbol].domain if symbol in MEANINGS else ("positive" if symbol.is_positive else "real")
    if domain == "unit":
        return _SQUARES + _PLAIN
    if domain == "closed_unit":
        return [Fraction(1), Fraction(1, 2), Fraction(3, 5), Fraction(4, 5), Fraction(0)]
    whole = [Fraction(1), Fraction(2), Fraction(3), Fraction(4)]
    return whole if domain == "natural" else [*whole, Fraction(1, 2), Fraction(9, 4), Fraction(1, 4)]


def _with_roots(point: dict[sp.Symbol, Fraction], generators: Generators) -> bool:
    """Add the rational roots to the point; False when one is irrational or its radicand is not positive."""
    for root, order, radicand in generators.relations:
        try:
            value = _value(radicand, point)
        except ZeroDivisionError:
            return False
        if value <= 0:
            return False
        top, exact_top = sp.integer_nthroot(value.numerator, order)
        below, exact_below = sp.integer_nthroot(value.denominator, order)
        if not (exact_top and exact_below):
            return False
        point[root] = Fraction(int(top), int(below))
    return True


def _value(expr: sp.Expr, point: Mapping[sp.Symbol, Fraction]) -> Fraction:
    """An exact value; the expression is rational in its symbols."""
    if expr.is_Rational:
        return Fraction(int(expr.p), int(expr.q))
    if expr.is_Symbol:
        return point[expr]
    if isinstance(expr, sp.Pow):
        return _value(expr.args[0], point) ** int(expr.args[1])
    total = _value(expr.args[0], point)
    for arg in expr.args[1:]:
        total = total * _value(arg, point) if isinstance(expr, sp.Mul) else total + _value(arg, point)
    return total


def _variable(symbol: sp.Symbol) -> str:
    return "v_" + re.sub(r"\W", "_", symbol.name)


def _name(text: str) -> str:
    return re.sub(r"\W", "_", text)


def _coq(expr: sp.Expr, names: Mapping[sp.Symbol, str] | None = None) -> str:
    """Coq's reals for a rational expression; ``names`` overrides how a symbol is written."""
    if expr.is_Rational:
        p, q = int(expr.p), int(expr.q)
        return f"({p})" if q == 1 else f"({p}/{q})"
    if expr.is_Symbol:
        return (names or {}).get(expr, _variable(expr))
    if isinstance(expr, sp.Pow):
        base, power = _coq(expr.args[0], names), int(expr.args[1])
        raised = base if abs(power) == 1 else f"({base} ^ {abs(power)})"
        return raised if power > 0 else f"(/ {raised})"
    operator = " * " if isinstance(expr, sp.Mul) else " + "
    return "(" + operator.join(_coq(arg, names) for arg in expr.args) + ")"


def source(found: Sequence[Theorem]) -> str:
    """A complete Coq file."""
    return HEADER + "\n\n".join(theorem.text for theorem in found) + "\n"


def certify(
    nodes: Iterable[Formula], folder: Path | None = None, progress: Callable[[str], None] | None = None
) -> list[Certificate]:
    """Write the theorems of every formula and have Coq's kernel check them.

    Raises:
        FileNotFoundError: coqc is not installed.
    """
    if available() is None:
        raise FileNotFoundError(
            "coqc is not installed: install the packages coq and libcoq-stdlib, or skip this prover"
        )
    with tempfile.TemporaryDirectory() as scratch:
        target = folder or Path(scratch)
        target.mkdir(parents=True, exist_ok=True)

        def one(group: Sequence[Formula]) -> list[Certificate]:
            certificates = _certify(group, target)
            for node in group:
                if progress:
                    progress(node.id)
            return certificates

        todo = list(nodes)
        groups = [todo[k : k + FORMULAS_PER_FILE] for k in range(0, len(todo), FORMULAS_PER_FILE)]
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            return [certificate for found in pool.map(one, groups) for certificate in found]


def _certify(group: Sequence[Formula], folder: Path) -> list[Certificate]:
    """What is not accepted is taken out and named, and Coq goes on behind it; then one file a formula."""
    start = time.monotonic()
    certificates: dict[str, Certificate] = {}
    owner: dict[Theorem, str] = {}
    for node in group:
        found, left = theorems(node)
        certificates[node.id] = Certificate(node.id, not_covered=left)
        owner |= dict.fromkeys(found, node.id)
    waiting, accepted = list(owner), list[Theorem]()
    path = folder / f"{_name(group[0].id)}.v"
    while waiting:
        failed = _compile(waiting, path)
        if failed is None:
            accepted += waiting
            break
        theorem, message, before = failed
        accepted += waiting[:before]
        _set_aside(theorem, message, certificates[owner[theorem]])
        waiting = [other for other in waiting[before:] if other is not theorem]
    path.unlink(missing_ok=True)
    for certificate in certificates.values():
        own = [theorem for theorem in accepted if owner[theorem] == certificate.id]
        if own:
            (folder / f"{_name(certificate.id)}.v").write_text(source(own), encoding="utf-8")
        certificate.certified = [theorem.name for theorem in own]
        certificate.seconds = (time.monotonic() - start) / len(group)
    return list(certificates.values())


def _set_aside(theorem: Theorem, message: str, certificate: Certificate) -> None:
    if theorem.kind == "inequality":
        # the search for a sum of squares is incomplete, so its failure says nothing
        certificate.not_covered.append(f"{theorem.name}: nra finds no certificate")
    elif "incomplete proof" in message or "Wrong bullet" in message:
        # field took the equation, and asks whether a denominator is zero
        certificate.not_covered.append(f"{theorem.name}: a denominator is not shown to be non-zero")
    else:
        certificate.refused[theorem.name] = message


def _compile(found: Sequence[Theorem], path: Path) -> tuple[Theorem, str, int] | None:
    """Nothing when the kernel accepts the file, else what it did not, its words, and how many precede it."""
    path.write_text(source(found), encoding="utf-8")
    try:
        run = subprocess.run(
            ["coqc", "-q", path.name],
            cwd=path.parent,
            capture_output=True,
            text=True,
            timeout=SECONDS_PER_SENTENCE * len(found),
        )
    except subprocess.TimeoutExpired:
        # Coq's own limit is for a sentence, and names it
        return max(found, key=lambda theorem: len(theorem.text)), "no answer", 0
    if run.returncode == 0:
        return None
    line = re.search(r"line (\d+)", run.stderr)
    before = source(found).splitlines()[: int(line[1])] if line else []
    named = [row.split()[1] for row in before if row.startswith("Theorem ")]
    # Coq stops at the first error, so what stands before it was accepted
    before_it = next((k for k, theorem in enumerate(found) if named and theorem.name == named[-1]), 0)
    return found[before_it], " ".join(run.stderr.split())[-300:], before_it
