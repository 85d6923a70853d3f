"""The kinds of proof step. Each reduces to obligations: something is zero, or something is positive.

The kind decides how a step is checked; no step is checked by evaluating it and looking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import ClassVar, Literal

import sympy as sp

from derivations.kit.ball import BallError, enclosure
from derivations.kit.generators import reject_floats
from derivations.kit.latex import tex
from derivations.kit.positive import prove_positive
from derivations.kit.verdict import Verdict, worst
from derivations.kit.zero import close, decide_zero, exact, points


@dataclass(frozen=True)
class Zero:
    """``lhs - rhs`` vanishes on the whole domain."""

    lhs: sp.Expr
    rhs: sp.Expr


@dataclass(frozen=True)
class Positive:
    """``expr`` is positive (strict) or non-negative on the whole domain."""

    expr: sp.Expr
    strict: bool


@dataclass(frozen=True)
class NotCovered:
    """A step that the second provers and the kernel cannot state, and why."""

    reason: str


Obligation = Zero | Positive | NotCovered
Assumptions = Sequence[sp.Basic]
_HIGHEST_MOMENT = 6
# characters of LaTeX that a page holds
_LONGEST = 1500


@dataclass(frozen=True)
class Step:
    """One line of a derivation: a title in words and something to check."""

    title: str
    kind: ClassVar[str] = "step"

    def obligations(self) -> tuple[Obligation, ...]:
        raise TypeError(f"step {self.title!r} of kind {self.kind!r} states nothing to check")

    @cached_property
    def stated(self) -> tuple[Obligation, ...]:
        """The obligations, worked out once."""
        return self.obligations()

    def check(self, assumptions: Assumptions = ()) -> Verdict:
        """Decide every obligation; a step is proved when all are."""
        return worst(decide(obligation, assumptions) for obligation in self.stated)

    def latex(self) -> str:
        lines = (_obligation_latex(obligation) for obligation in self.stated)
        return r",\qquad ".join(line for line in lines if line)


def _obligation_latex(obligation: Obligation) -> str:
    if isinstance(obligation, Zero):
        # an identity that is literally one is shown once
        same = obligation.lhs == obligation.rhs
        line = tex(obligation.lhs) if same else f"{tex(obligation.lhs)} = {tex(obligation.rhs)}"
        return line if len(line) <= _LONGEST else r"\text{(checked, and too long to print)}"
    if isinstance(obligation, Positive):
        return f"{tex(obligation.expr)} {'>' if obligation.strict else chr(92) + 'ge'} 0"
    return ""


def decide(obligation: Obligation, assumptions: Assumptions = ()) -> Verdict:
    """First prover: normal form for zeros, coefficient test for signs, a witness for refutations."""
    if isinstance(obligation, Zero):
        # on each side: a float can cancel an exact number and leave no trace
        for side in (obligation.lhs, obligation.rhs):
            reject_floats(sp.sympify(side))
        return decide_zero(obligation.lhs - obligation.rhs, assumptions)
    if isinstance(obligation, Positive):
        return decide_positive(obligation.expr, assumptions, obligation.strict)
    return Verdict("proved", obligation.reason)


def decide_positive(expr: sp.Expr, assumptions: Assumptions = (), strict: bool = True) -> Verdict:
    """Proved by coefficients, refuted by an exact point of the domain with the wrong sign."""
    expr = close(expr)
    reject_floats(expr)
    if prove_positive(expr, tuple(close(assumption) for assumption in assumptions), strict):
        return Verdict("proved", "all coefficients are non-negative")
    for point in points(expr.free_symbols, assumptions, count=60):
        try:
            ball = enclosure(expr, point)
        except BallError:
            continue
        if ball < 0 or (strict and ball.is_zero()):
            return Verdict("refuted", f"is {ball.str(12, radius=False)}", exact(point))
    return Verdict("undecided", f"no certificate and no counterexample for the sign of {expr}")


@dataclass(frozen=True)
class Identity(Step):
    """Two expressions are equal on the whole domain."""

    lhs: sp.Expr
    rhs: sp.Expr
    kind: ClassVar[str] = "identity"

    def obligations(self) -> tuple[Obligation, ...]:
        return (Zero(sp.sympify(self.lhs), sp.sympify(self.rhs)),)


@dataclass(frozen=True)
class LogDensity:
    """A density written as ``factor * exp(exponent)``."""

    exponent: sp.Expr
    factor: sp.Expr
    shown: str = field(default="", compare=False)

    def __mul__(self, other: LogDensity) -> LogDensity:
        shown = rf"{self.latex()}\,{other.latex()}"
        return LogDensity(self.exponent + other.exponent, self.factor * other.factor, shown)

    def __truediv__(self, other: LogDensity) -> LogDensity:
        shown = rf"\frac{{{self.latex()}}}{{{other.latex()}}}"
        return LogDensity(self.exponent - other.exponent, self.factor / other.factor, shown)

    def latex(self) -> str:
        """As it was written; otherwise factor times exponential."""
        return self.shown or rf"{tex(self.factor)}\exp\left({tex(self.exponent)}\right)"


def normal(variable: sp.Expr, mean: sp.Expr, variance: sp.Expr) -> LogDensity:
    """The normal density of ``variable``."""
    shown = rf"\mathcal N\left({tex(variable)};\,{tex(sp.sympify(mean))},\,{tex(sp.sympify(variance))}\right)"
    return LogDensity(-((variable - mean) ** 2) / (2 * variance), 1 / sp.sqrt(2 * sp.pi * variance), shown)


@dataclass(frozen=True)
class DensityEqual(Step):
    """Two densities are equal: their exponents and their normalisers, apart."""

    lhs: LogDensity
    rhs: LogDensity
    kind: ClassVar[str] = "density"

    def obligations(self) -> tuple[Obligation, ...]:
        return (
            Zero(self.lhs.exponent, self.rhs.exponent),
            Zero(self.lhs.factor**2 / self.rhs.factor**2, sp.Integer(1)),
        )

    def latex(self) -> str:
        return f"{self.lhs.latex()} = {self.rhs.latex()}"


@dataclass(frozen=True)
class Integral(Step):
    """A Gaussian integral: ∫ f·exp(−A x² + B x + C) dx = f·√(π/A)·exp(C + B²/4A) over ℝ, with A > 0."""

    integrand: LogDensity
    variable: sp.Symbol
    claim: LogDensity
    kind: ClassVar[str] = "integral"

    def obligations(self) -> tuple[Obligation, ...]:
        poly = sp.Poly(sp.expand(close(self.integrand.exponent)), self.variable)
        if poly.degree() != 2 or close(self.integrand.factor).has(self.variable):
            raise ValueError(f"integrand is not Gaussian in {self.variable}: {self.integrand}")
        a, b, c = (
            -poly.coeff_monomial(self.variable**2),
            poly.coeff_monomial(self.variable),
            poly.coeff_monomial(1),
        )
        value = LogDensity(c + b**2 / (4 * a), self.integrand.factor * sp.sqrt(sp.pi / a))
        return (Positive(a, True), *DensityEqual(self.title, value, self.claim).obligations())

    def latex(self) -> str:
        return rf"\int {self.integrand.latex()}\,\mathrm d{tex(self.variable)} = {self.claim.latex()}"


@dataclass(frozen=True)
class Expectation(Step):
    """The expectation of a polynomial in independent normal variables, by their moments."""

    polynomial: sp.Expr
    moments: Mapping[sp.Symbol, tuple[sp.Expr, sp.Expr]]
    claim: sp.Expr
    kind: ClassVar[str] = "expectation"

    def value(self) -> sp.Expr:
        """E[f(x)] of a normal x is Σ f⁽²ᵏ⁾(mean)·varianceᵏ·(2k−1)!!/(2k)!, variable by variable."""
        value = sp.sympify(self.polynomial)
        for variable, (mean, variance) in self.moments.items():
            value = _normal_mean(value, variable, sp.sympify(mean), sp.sympify(variance))
        return value

    def obligations(self) -> tuple[Obligation, ...]:
        return (Zero(self.value(), sp.sympify(self.claim)),)

    def latex(self) -> str:
        return rf"\mathbb E\left[{tex(sp.sympify(self.polynomial))}\right] = {tex(sp.sympify(self.claim))}"


def _normal_mean(poly: sp.Expr, variable: sp.Symbol, mean: sp.Expr, variance: sp.Expr) -> sp.Expr:
    """Differentiating keeps the coefficients as they are written; a longer polynomial is expanded."""
    total, derivative = sp.Integer(0), poly
    for k in range(_HIGHEST_MOMENT):
        if derivative == 0:
            return total
        total += derivative.subs(variable, mean) * variance**k / (2**k * sp.factorial(k))
        derivative = sp.diff(derivative, variable, 2)
    terms = sp.Poly(sp.expand(poly.subs(variable, mean + variable)), variable).terms()
    return sp.Add(*(c * variance ** (k // 2) * sp.factorial2(k - 1) for (k,), c in terms if k % 2 == 0))


@dataclass(frozen=True)
class Induction(Step):
    """A statement for every index: the base, and the step after the hypothesis has been put in."""

    base: tuple[sp.Expr, sp.Expr]
    step: tuple[sp.Expr, sp.Expr]
    hypothesis: Mapping[sp.Basic, sp.Expr]
    kind: ClassVar[str] = "induction"

    def obligations(self) -> tuple[Obligation, ...]:
        lhs, rhs = (sp.sympify(side).xreplace(dict(self.hypothesis)) for side in self.step)
        return (Zero(*map(sp.sympify, self.base)), Zero(lhs, rhs))


@dataclass(frozen=True)
class Substitution(Step):
    """A function solves an equation: put it in, differentiate, and the residual vanishes."""

    equation: sp.Expr
    solution: Mapping[sp.Basic, sp.Expr]
    kind: ClassVar[str] = "substitution"

    def obligations(self) -> tuple[Obligation, ...]:
        residual = self.equation
        for function, value in self.solution.items():
            residual = residual.subs(function, value)
        return (Zero(residual.doit(), sp.Integer(0)),)


@dataclass(frozen=True)
class Series(Step):
    """The Taylor polynomial of degree < order around 0, coefficient by coefficient."""

    expr: sp.Expr
    variable: sp.Symbol
    order: int
    claim: sp.Expr
    kind: ClassVar[str] = "series"

    def obligations(self) -> tuple[Obligation, ...]:
        claimed = sp.Poly(sp.expand(self.claim), self.variable)
        derivatives = [
            sp.diff(close(self.expr), self.variable, k).subs(self.variable, 0) for k in range(self.order)
        ]
        if any(d.has(sp.nan, sp.zoo, sp.oo) for d in derivatives):
            raise ValueError(
                f"{self.expr} is not regular at {self.variable} = 0: remove the singularity by hand"
            )
        return tuple(
            Zero(derivative / sp.factorial(k), claimed.coeff_monomial(self.variable**k))
            for k, derivative in enumerate(derivatives)
        )

    def latex(self) -> str:
        rest = sp.Order(self.variable**self.order)
        return f"{tex(self.expr)} = {tex(sp.sympify(self.claim))} + {tex(rest)}"


@dataclass(frozen=True)
class Inequality(Step):
    """lhs > rhs or lhs ≥ rhs on the whole domain; ``because`` may give the difference in a form whose sign
    shows."""

    lhs: sp.Expr
    relation: Literal[">", ">="]
    rhs: sp.Expr
    because: sp.Expr | None = None
    kind: ClassVar[str] = "inequality"

    def obligations(self) -> tuple[Obligation, ...]:
        difference = sp.sympify(self.lhs) - sp.sympify(self.rhs)
        strict = self.relation == ">"
        if self.because is None:
            return (Positive(difference, strict),)
        return (Zero(difference, self.because), Positive(self.because, strict))

    def latex(self) -> str:
        sign = ">" if self.relation == ">" else r"\ge"
        return f"{tex(sp.sympify(self.lhs))} {sign} {tex(sp.sympify(self.rhs))}"


@dataclass(frozen=True)
class Enumeration(Step):
    """Exact rational equality in every case of a finite family."""

    cases: Callable[[], Iterable[tuple[str, Fraction | sp.Rational, Fraction | sp.Rational]]]
    kind: ClassVar[str] = "enumeration"

    def obligations(self) -> tuple[Obligation, ...]:
        return (NotCovered("exact enumeration on finite chains"),)

    def check(self, assumptions: Assumptions = ()) -> Verdict:
        count = 0
        for label, lhs, rhs in self.cases():
            if isinstance(lhs, float) or isinstance(rhs, float):
                raise ValueError(f"{self.title}: case {label} compares floats")
            count += 1
            if lhs != rhs:
                return Verdict(
                    "refuted", f"{label}: {lhs} is not {rhs}", {sp.Symbol(label): sp.Rational(str(lhs))}
                )
        return Verdict("proved", f"{count} cases") if count else Verdict("undecided", "no case was given")
