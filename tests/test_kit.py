"""The machinery refutes what is false, proves what is true, and admits what it cannot decide."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction

import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from sympy import Abs, Max, Min, Product, Rational, Sum, cos, exp, log, pi, sin, sqrt, tan
from sympy.matrices.expressions.determinant import Determinant
from sympy.matrices.expressions.trace import Trace

from derivations.kit import (
    Decoy,
    DensityEqual,
    Enumeration,
    Expectation,
    Formula,
    Identity,
    Induction,
    Inequality,
    Integral,
    LogDensity,
    NotCovered,
    Positive,
    Registry,
    Series,
    Step,
    Substitution,
    Zero,
    formula,
    normal,
)
from derivations.kit.ball import enclosure
from derivations.kit.formula import FormulaError
from derivations.kit.generators import FloatInProofError
from derivations.kit.matrices import Given, MatrixIdentity, Words, one_dimensional
from derivations.kit.mutate import mutations
from derivations.kit.positive import prove_positive
from derivations.kit.second import cross_check, flint_zero, has_z3, second_opinions, z3_positive
from derivations.kit.steps import decide_positive
from derivations.kit.verdict import Verdict, worst
from derivations.kit.zero import decide_zero, points
from derivations.symbols import (
    abar_prev,
    abar_s,
    abar_t,
    alpha_t,
    beta,
    beta_t,
    dim,
    eps,
    eta,
    i,
    sigma,
    t,
    x,
    x_0,
    x_t,
    y,
    z,
)

F, H = sp.Function("f", real=True), sp.Function("h", real=True)
P, Q = sp.MatrixSymbol("P", dim, dim), sp.MatrixSymbol("Q", dim, dim)
X, M = sp.MatrixSymbol("x", dim, 1), sp.MatrixSymbol("m", dim, 1)
KNOWN = Given(symmetric=frozenset({P, Q}))
UNIT = LogDensity(sp.Integer(0), sp.Integer(1))


def _cases(wrong: int) -> Callable[[], Iterator[tuple[str, Fraction, Fraction]]]:
    return lambda: ((f"n={n}", Fraction(n, 2) + (n == wrong), Fraction(n, 2)) for n in range(5))


TRUE_AND_FALSE: tuple[tuple[Step, Step], ...] = (
    (
        Identity("a", sqrt(alpha_t) * sqrt(abar_prev), sqrt(abar_t)),
        Identity("a", sqrt(alpha_t) * sqrt(abar_prev), sqrt(abar_prev)),
    ),
    (
        DensityEqual("b", normal(x, x_0, abar_t), normal(x_0, x, abar_t)),
        DensityEqual("b", normal(x, x_0, abar_t), normal(x, x_0, sqrt(abar_t))),
    ),
    (
        Integral("c", normal(x, x_0, abar_t), x, UNIT),
        Integral("c", normal(x, x_0, abar_t), x, LogDensity(sp.Integer(0), sqrt(abar_t))),
    ),
    (
        Expectation("d", z**4, {z: (sp.Integer(0), sigma)}, 3 * sigma**2),
        Expectation("d", z**4, {z: (sp.Integer(0), sigma)}, sigma**2),
    ),
    (
        Induction(
            "e",
            ((1 - beta) ** 1, 1 - beta),
            ((1 - beta) ** (t + 1), F(t) * (1 - beta)),
            {F(t): (1 - beta) ** t},
        ),
        Induction("e", ((1 - beta) ** 1, 1 - beta), ((1 - beta) ** (t + 1), F(t)), {F(t): (1 - beta) ** t}),
    ),
    (
        Substitution("f", sp.diff(F(x), x) - 2 * F(x), {F(x): exp(2 * x)}),
        Substitution("f", sp.diff(F(x), x) - 2 * F(x), {F(x): exp(x)}),
    ),
    (
        Series("g", exp(sigma * x), x, 3, 1 + sigma * x + sigma**2 * x**2 / 2),
        Series("g", exp(sigma * x), x, 3, 1 + sigma * x + sigma**2 * x**2),
    ),
    (Inequality("h", 1 - abar_t, ">", sp.Integer(0)), Inequality("h", abar_t, ">", sp.Integer(1))),
    (Inequality("h", x**2, ">=", sp.Integer(0)), Inequality("h", x**2, ">=", x)),
    (Enumeration("i", _cases(-1)), Enumeration("i", _cases(3))),
    (
        MatrixIdentity("j", (P * Q).T, Q * P, KNOWN),
        MatrixIdentity("j", (P * Q).T, P * Q, KNOWN),
    ),
)


@pytest.mark.parametrize(("true", "false"), TRUE_AND_FALSE, ids=lambda step: step.kind)
def test_each_kind_proves_a_truth_and_refutes_a_falsehood_with_a_witness(true: Step, false: Step) -> None:
    assert true.check().proved, true.check()
    verdict = false.check()
    assert verdict.status == "refuted"
    assert verdict.witness


def test_every_kind_of_step_has_its_pair() -> None:
    kinds = {kind for kind in _subclasses(Step) if kind.__module__.startswith("derivations")}
    assert {type(true) for true, _ in TRUE_AND_FALSE} == kinds


def _subclasses(kind: type[Step]) -> Iterator[type[Step]]:
    for child in kind.__subclasses__():
        yield child
        yield from _subclasses(child)


MOTZKIN = x**4 * y**2 + x**2 * y**4 - 3 * x**2 * y**2 + 1
UNDECIDABLE: tuple[Step, ...] = (
    Identity("true, but Γ is opaque", sp.gamma(1 + sigma), sigma * sp.gamma(sigma)),
    Identity("true, but the root hides a square of a sine", sqrt(1 - cos(x) ** 2), Abs(sin(x))),
    Inequality("true, but no sum of squares", MOTZKIN, ">=", sp.Integer(0)),
    Enumeration("no case at all", lambda: iter(())),
    MatrixIdentity(
        "true, but Sylvester's law is no rule of words",
        log(Determinant(sp.Identity(dim) + P * Q)),
        log(Determinant(sp.Identity(dim) + Q * P)),
        KNOWN,
    ),
)


@pytest.mark.parametrize("step", UNDECIDABLE, ids=lambda step: step.title)
def test_what_cannot_be_decided_is_undecided(step: Step) -> None:
    assert step.check().status == "undecided"


def test_a_step_without_obligations_is_no_step() -> None:
    with pytest.raises(TypeError, match="states nothing to check"):
        Step("empty").check()


def test_the_verdict_of_several_is_the_worst() -> None:
    proved, undecided, refuted = Verdict("proved"), Verdict("undecided"), Verdict("refuted")
    assert worst([proved, undecided, refuted]) is refuted
    assert worst([undecided, proved]) is undecided
    assert worst([]).status == "undecided"


# formulas and their graph


def _declare(registry: Registry, id: str, rhs: sp.Expr = 1 - abar_t, **fields: object) -> Formula:
    @formula(id, lhs=sp.Symbol("left"), rhs=rhs, registry=registry, **fields)  # type: ignore[arg-type]
    def proof(claim: sp.Expr) -> Iterator[Step]:
        """The claim is what it is."""
        yield Identity("same", claim, 1 - abar_t)

    return proof


def test_a_formula_is_proved_and_a_false_one_is_refuted() -> None:
    registry = Registry()
    _declare(registry, "topic.right")
    _declare(registry, "topic.wrong", 1 - abar_prev)
    assert registry.status("topic.right") == "proved"
    assert registry.status("topic.wrong") == "refuted"


def test_a_formula_that_uses_an_unproved_one_is_not_proved() -> None:
    registry = Registry()
    _declare(registry, "topic.wrong", 1 - abar_prev)
    _declare(registry, "topic.next", uses=("topic.wrong",))
    _declare(registry, "topic.last", uses=("topic.next",))
    assert registry.status("topic.next") == "depends"
    assert registry.status("topic.last") == "depends"


def test_a_decoy_that_survives_is_a_complaint() -> None:
    registry = Registry()
    same = Decoy("same", sp.expand(1 - abar_t), "sign", "the formula itself")
    node = _declare(registry, "topic.loose", decoys=(same,))
    assert any("'same' survives" in complaint for complaint in node.verify().complaints)
    assert registry.status("topic.loose") == "undecided"


def test_a_proof_that_ignores_its_claim_lets_the_mutants_live() -> None:
    registry = Registry()

    @formula("topic.idle", lhs=sp.Symbol("left"), rhs=1 - abar_t, registry=registry)
    def idle(claim: sp.Expr) -> Iterator[Step]:
        """Proves something else."""
        yield Identity("beside the point", beta_t, 1 - alpha_t)

    assert registry.status("topic.idle") == "undecided"
    assert len(idle.verify().complaints) == len(idle.decoys) > 0


def test_a_proof_without_steps_proves_nothing() -> None:
    registry = Registry()

    @formula("topic.empty", lhs=sp.Symbol("left"), rhs=1 - abar_t, registry=registry, mutate=False)
    def empty(claim: sp.Expr) -> Iterator[Step]:
        """Says nothing."""
        yield from ()

    assert registry.status("topic.empty") == "undecided"


def test_a_cycle_is_named() -> None:
    registry = Registry()
    for name, used in (("a", "b"), ("b", "c"), ("c", "a")):
        _declare(registry, f"topic.{name}", uses=(f"topic.{used}",))
    with pytest.raises(FormulaError, match=r"cycle: topic\.a -> topic\.b -> topic\.c -> topic\.a"):
        registry.check_graph()


def test_a_dangling_name_is_named() -> None:
    registry = Registry()
    _declare(registry, "topic.a", uses=("topic.missing",))
    with pytest.raises(FormulaError, match=r"topic\.a uses 'topic\.missing', which does not exist"):
        registry.check_graph()


def test_an_id_is_declared_once_and_well_formed() -> None:
    registry = Registry()
    _declare(registry, "topic.a")
    with pytest.raises(FormulaError, match=r"'topic\.a' is declared twice"):
        _declare(registry, "topic.a")
    with pytest.raises(FormulaError, match=r"not of the form topic\.name"):
        _declare(registry, "nameless")


def test_a_float_is_refused_wherever_it_hides() -> None:
    registry = Registry()
    half = sp.Float(0.5)
    with pytest.raises(FormulaError, match="write it as a Rational"):
        _declare(registry, "topic.a", half * abar_t)
    with pytest.raises(FormulaError, match="write it as a Rational"):
        Decoy("a", half * abar_t, "sign", "a float")
    with pytest.raises(FloatInProofError, match="write it as a Rational"):
        Identity("float", half * abar_t, abar_t / 2).check()
    with pytest.raises(FloatInProofError, match="write it as a Rational"):
        Inequality("float", half + abar_t, ">", sp.Integer(0)).check()
    with pytest.raises(ValueError, match="compares floats"):
        Enumeration("float", lambda: iter([("a", 0.5, Fraction(1, 2))])).check()  # type: ignore[list-item]


def test_a_decoy_has_a_known_family_and_a_name_of_its_own() -> None:
    with pytest.raises(FormulaError, match="family 'bad' is not one of"):
        Decoy("a", abar_t, "bad", "")
    twice = (Decoy("a", abar_t, "sign", ""), Decoy("a", -abar_t, "sign", ""))
    with pytest.raises(FormulaError, match="decoy 'a' is declared twice"):
        _declare(Registry(), "topic.a", decoys=twice)
    grown = _declare(Registry(), "topic.a", decoys=(Decoy("half", abar_t / 3, "variance", "not the half"),))
    with pytest.raises(FormulaError, match="decoy 'half' is declared twice"):
        _ = grown.decoys


# the zero test

B = sp.Function("b", positive=True)
ZEROS: dict[str, sp.Expr] = {
    "nested roots": sqrt(3 + 2 * sqrt(2)) ** 2 - 3 - 2 * sqrt(2),
    "root of a product": sqrt(abar_t * abar_s) - sqrt(abar_t) * sqrt(abar_s),
    "root of a quotient": sqrt(1 - abar_t / abar_prev) * sqrt(abar_prev) - sqrt(abar_prev - abar_t),
    "root of a negative factor twice": sqrt((abar_t - 1) ** 2) - (1 - abar_t),
    "cube roots": (abar_t ** Rational(1, 3)) ** 3 - abar_t,
    "roots of different orders": abar_t ** Rational(1, 3) * sqrt(abar_t) - abar_t ** Rational(5, 6),
    "rationalised": 1 / (sqrt(abar_prev) - sqrt(abar_t))
    - (sqrt(abar_prev) + sqrt(abar_t)) / (abar_prev - abar_t),
    "where": beta_t - 1 + alpha_t,
    "exp": exp(x + y) - exp(x) * exp(y),
    "half exponents": exp(x / 2) ** 2 - exp(x),
    "exponents over a common denominator": exp(x / (1 + sigma)) * exp(x * sigma / (1 + sigma)) - exp(x),
    "exp of log": exp(2 * log(sigma) - log(abar_t)) - sigma**2 / abar_t,
    "log of a product": log(abar_t * (1 - abar_t)) - log(abar_t) - log(1 - abar_t),
    "log of a root with pi": log(sqrt(2 * pi * sigma)) - (log(2) + log(pi) + log(sigma)) / 2,
    "log of e": log(2 * sp.E * sigma) - 1 - log(2) - log(sigma),
    "addition theorem": cos(x + y) - cos(x) * cos(y) + sin(x) * sin(y),
    "triple angle": sin(3 * x) - 3 * sin(x) + 4 * sin(x) ** 3,
    "half angle": cos(x / 2) ** 2 - (1 + cos(x)) / 2,
    "tangent": tan(x) ** 2 + 1 - 1 / cos(x) ** 2,
    "minimum": Min(x, y) + Max(x, y) - x - y,
    "absolute value": Abs(x * y) - Abs(x) * Abs(y),
    "product rule": sp.diff(F(x) * H(x), x) - F(x) * sp.diff(H(x), x) - sp.diff(F(x), x) * H(x),
    "chain rule": sp.diff(exp(F(x)), x) - exp(F(x)) * sp.diff(F(x), x),
    "last factor of a product": Product(1 - B(i), (i, 1, t + 1))
    - Product(1 - B(i), (i, 1, t)) * (1 - B(t + 1)),
    "last term of a sum": Sum(B(i), (i, 1, t)) - Sum(B(i), (i, 1, t - 1)) - B(t),
}


@pytest.mark.parametrize("name", ZEROS)
def test_zeros_are_proved_by_both_algebras(name: str) -> None:
    assert decide_zero(ZEROS[name]).proved
    second = flint_zero(Zero(ZEROS[name], sp.Integer(0)))
    assert second is not None
    assert second.proved


@pytest.mark.parametrize("name", ZEROS)
def test_what_is_not_zero_is_refuted_at_a_point(name: str) -> None:
    off = ZEROS[name] + Rational(1, 10**9)
    verdict = decide_zero(off)
    assert verdict.status == "refuted"
    second = flint_zero(Zero(off, sp.Integer(0)))
    assert second is None or not second.proved


NOT_ZERO: dict[str, sp.Expr] = {
    "root of a square of unknown sign": sqrt(x**2) - x,
    "log of a square of unknown sign": log(x**2) - 2 * log(x),
    "root of a product of unknown signs": sqrt(x * y) - sqrt(x) * sqrt(y),
    "the other root": sqrt((1 - abar_t) ** 2) + 1 - abar_t,
    "one bar too many": sqrt(alpha_t) * abar_prev - sqrt(abar_t),
    "exponent of a sum": exp(x + y) - exp(x) - exp(y),
    "different functions": F(x) - H(x),
    "different points": F(x) - F(y),
    "undifferentiated": sp.diff(F(x), x) - F(x),
    "second index of a sum lost": Sum(B(i), (i, 1, t), (x, 1, t)) - Sum(B(i), (i, 1, t)),
    "product one short": Product(1 - B(i), (i, 1, t + 1)) - Product(1 - B(i), (i, 1, t)),
}


@pytest.mark.parametrize("name", NOT_ZERO)
def test_what_is_not_zero_is_never_proved(name: str) -> None:
    assert not decide_zero(NOT_ZERO[name]).proved
    second = flint_zero(Zero(NOT_ZERO[name], sp.Integer(0)))
    assert second is None or not second.proved


LEAVES = st.sampled_from([abar_t, abar_prev, 1 - abar_t, beta_t, sigma, x, sp.Integer(2), Rational(1, 3)])
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(sp.Add, inner, inner),
        st.builds(sp.Mul, inner, inner),
        st.builds(lambda e: e**2, inner),
        st.builds(lambda e: sqrt(1 + e**2), inner),
        st.builds(lambda e: 1 / (1 + e**2), inner),
    ),
    max_leaves=5,
)


@given(EXPRESSIONS, EXPRESSIONS)
def test_rewriting_is_never_refuted_and_adding_is_never_proved(a: sp.Expr, b: sp.Expr) -> None:
    assert decide_zero((a + b) ** 2 - sp.expand((a + b) ** 2)).proved
    assert decide_zero((a + b) * (a - b) - a**2 + b**2).proved
    assert not decide_zero((a + b) ** 2 - a**2 - b**2 - 2 * a * b + Rational(1, 10**6)).proved


def test_a_refutation_names_a_point_where_the_sides_differ() -> None:
    verdict = Identity("wrong", sqrt(1 - abar_t), 1 - abar_t).check()
    (witness,) = [verdict.witness[abar_t]]
    assert 0 < witness < 1
    assert sqrt(1 - witness) != 1 - witness


def test_points_lie_in_the_domain_and_obey_the_assumptions() -> None:
    found = list(points({abar_t, abar_prev, eta, sigma}, (sp.Lt(sigma, abar_t),), count=20))
    assert len(found) == 20
    for point in found:
        assert 0 < point[sigma] < point[abar_t] < point[abar_prev] < 1
        assert 0 <= point[eta] <= 1


# signs

POSITIVE: dict[str, sp.Expr] = {
    "unit": 1 - abar_t,
    "ordered levels": abar_prev - abar_t,
    "step variance": beta_t,
    "posterior variance below the step's": beta_t - beta_t * (1 - abar_prev) / (1 - abar_t),
    "real square": x**2 + sigma,
}


@pytest.mark.parametrize("name", POSITIVE)
def test_signs_are_proved_and_z3_agrees(name: str) -> None:
    expr = POSITIVE[name]
    assert decide_positive(expr).proved
    assert decide_positive(-expr).status == "refuted"
    if has_z3():
        assert z3_positive(Positive(expr, True)).proved
        assert z3_positive(Positive(-expr, True)).status == "refuted"


def test_an_assumption_may_be_written_either_way() -> None:
    for relation in (sp.Lt(sigma, abar_t), sp.Gt(abar_t, sigma)):
        assert Inequality("bound", abar_t, ">", sigma).check((relation,)).proved
        if has_z3():
            assert z3_positive(Positive(abar_t - sigma, True), (relation,)).proved


def test_zero_is_not_positive() -> None:
    assert not decide_positive(sp.Integer(0)).proved
    assert decide_positive(sp.Integer(0), strict=False).proved
    assert decide_positive((eta - Rational(1, 2)) ** 2).status != "proved"


COEFFICIENTS = st.lists(st.integers(-3, 3), min_size=6, max_size=6)


@given(COEFFICIENTS, st.sampled_from([(abar_t, abar_prev), (abar_t, x), (eta, sigma)]))
def test_no_false_sign_is_ever_proved(coefficients: list[int], names: tuple[sp.Symbol, sp.Symbol]) -> None:
    a, b = names
    monomials = (sp.Integer(1), a, b, a * b, a**2, b**2)
    expr = sp.Add(*(c * m for c, m in zip(coefficients, monomials, strict=True)))
    if prove_positive(expr, (), strict=True):
        for point in points(expr.free_symbols, count=25):
            assert enclosure(expr, point) > 0


# other provers


def test_the_numeric_prover_refutes_on_its_own() -> None:
    assert cross_check(Zero(sqrt(abar_t) ** 2, abar_t)).proved
    assert cross_check(Zero(sqrt(abar_t), abar_t)).status == "refuted"
    assert cross_check(Zero(abar_t, abar_t + Rational(1, 10**45))).status == "refuted"


def test_what_is_not_covered_has_no_second_opinion() -> None:
    assert second_opinions(NotCovered("not for them")) == []


def test_two_provers_look_at_each_identity() -> None:
    provers = {opinion.prover for opinion in second_opinions(Zero(beta_t, 1 - alpha_t))}
    assert {"flint", "balls"} <= provers


# decoys

AFFINE = (x_t - sqrt(1 - abar_t) * eps) / sqrt(alpha_t) + beta_t * x_0


def test_the_grammar_of_mistakes_makes_each_kind_of_mistake() -> None:
    grown = list(mutations(AFFINE))
    names = {re.sub(r"-\d+$", "", name) for _, name, _, _ in grown}
    wanted = {"level-early", "bar-missing", "bar-added", "alpha-for-beta", "x_0-for-eps", "eps-for-x_0"}
    assert wanted | {"root-missing", "sign", "term-missing", "half"} <= names
    assert {family for family, *_ in grown} >= {"index", "variance", "sqrt", "sign", "parameterization"}


def test_mutants_differ_from_the_formula_and_from_each_other() -> None:
    mutants = [mutant for *_, mutant in mutations(AFFINE)]
    assert AFFINE not in mutants
    assert len(set(mutants)) == len(mutants)


def test_a_mutation_that_changes_nothing_is_no_decoy() -> None:
    node = _declare(Registry(), "topic.same", sp.expand(1 - abar_t))
    assert all(not decide_zero(decoy.rhs - node.rhs).proved for decoy in node.decoys)


# matrices

INVERSE = sp.Inverse(P + Q)
MATRIX_TRUTHS: dict[str, MatrixIdentity] = {
    "inverse of a product": MatrixIdentity("", sp.Inverse(P * Q), sp.Inverse(Q) * sp.Inverse(P), KNOWN),
    "inverse of a sum": MatrixIdentity("", INVERSE * (P + Q), sp.Identity(dim), KNOWN),
    "parallel sum": MatrixIdentity("", P * INVERSE * Q, Q * INVERSE * P, KNOWN),
    "cyclic trace": MatrixIdentity("", Trace(P * Q * P), Trace(P * P * Q), KNOWN),
    "trace of the identity": MatrixIdentity("", Trace(P * P.I), dim, KNOWN),
    "log det": MatrixIdentity(
        "", log(Determinant(P * Q.I)), log(Determinant(P)) - log(Determinant(Q)), KNOWN
    ),
    "quadratic form": MatrixIdentity(
        "", Trace(X.T * Q * X), Trace(Q * P) + Trace(M.T * Q * M), KNOWN, {X: (M, P)}
    ),
    "outer product": MatrixIdentity("", X * X.T, P + M * M.T, KNOWN, {X: (M, P)}),
}
MATRIX_FALSEHOODS: dict[str, MatrixIdentity] = {
    "matrices that do not commute": MatrixIdentity("", P * Q, Q * P, KNOWN),
    "order of inverses": MatrixIdentity("", sp.Inverse(P * Q), sp.Inverse(P) * sp.Inverse(Q), KNOWN),
    "inverse of each": MatrixIdentity("", INVERSE, P.I + Q.I, KNOWN),
    "trace of a square": MatrixIdentity("", Trace(P * Q * P * Q), Trace(P * P * Q * Q), KNOWN),
    "log det of a sum": MatrixIdentity(
        "", log(Determinant(P + Q)), log(Determinant(P)) + log(Determinant(Q)), KNOWN
    ),
    "weight and covariance": MatrixIdentity("", X * X.T, P.I + M * M.T, KNOWN, {X: (M, P)}),
    "transpose": MatrixIdentity("", P * Q, (P * Q).T, Given(symmetric=frozenset({P}))),
}


@pytest.mark.parametrize("name", MATRIX_TRUTHS)
def test_words_prove_in_every_dimension(name: str) -> None:
    assert MATRIX_TRUTHS[name].check().proved, MATRIX_TRUTHS[name].check()


@pytest.mark.parametrize("name", MATRIX_FALSEHOODS)
def test_matrices_refute(name: str) -> None:
    verdict = MATRIX_FALSEHOODS[name].check()
    assert verdict.status == "refuted"
    assert {matrix.shape for matrix in verdict.witness.values()} <= {(2, 2), (2, 1)}


@pytest.mark.parametrize("name", MATRIX_FALSEHOODS)
def test_words_alone_do_not_prove_what_matrices_refute(name: str) -> None:
    step = MATRIX_FALSEHOODS[name]
    assert not step.vanishes()


LETTERS = st.lists(st.sampled_from([P, Q, P.I, Q.I]), min_size=1, max_size=5)


@given(LETTERS, LETTERS)
def test_the_normal_form_of_a_product_is_the_product_of_normal_forms(
    left: list[sp.MatrixExpr], right: list[sp.MatrixExpr]
) -> None:
    words = Words(KNOWN)
    whole = words.of(sp.MatMul(*left, *right, evaluate=False))
    apart = words.times(
        words.of(sp.MatMul(*left, evaluate=False)), words.of(sp.MatMul(*right, evaluate=False))
    )
    assert whole == apart


def test_the_case_of_one_dimension_is_numbers() -> None:
    general = Trace(P.I * Q) + log(Determinant(P)) - dim
    number = one_dimensional(general, {P: sigma, Q: abar_t})
    assert decide_zero(number - (abar_t / sigma + log(sigma) - 1)).proved
