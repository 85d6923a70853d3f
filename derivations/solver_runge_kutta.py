r"""Explicit Runge–Kutta steps in σ: the order conditions, one for each rooted tree, and what solves them.

A step goes from σ to σ − Δ_0 along dx/dσ = f(σ, x), with stages k_i = f(σ − c_i·Δ_0, x − Δ_0·Σ a_ij·k_j). The
conditions are proved twice: tree by tree, which serves systems of any dimension (Butcher), and as the Taylor
series of the step against that of the solution for an arbitrary f in one dimension, whose derivatives are
free. Up to order 4 both say the same. These formulas belong to the topic ``solver``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement
from typing import TypeAlias

import sympy as sp

from derivations.kit import Decoy, Identity, Series, Step, Substitution, formula
from derivations.symbols import (
    data_variance,
    gap,
    node_2,
    node_3,
    sig_t,
    slope_1,
    slope_2,
    slope_3,
    slope_4,
    weight_3,
    x_s,
    x_ve,
)

Tree: TypeAlias = tuple["Tree", ...]
"""A rooted tree: the branches at its root, in a fixed order."""
Matrix: TypeAlias = Sequence[Sequence[sp.Expr]]
Jet: TypeAlias = list[sp.Expr]
"""Coefficients of the powers of the step, from 0 up to the highest that is looked at."""

SLOPES = (slope_1, slope_2, slope_3, slope_4)
HALF, THIRD, SIXTH = (sp.Rational(1, n) for n in (2, 3, 6))


def trees(order: int) -> list[Tree]:
    """All rooted trees with so many vertices."""
    if order == 1:
        return [()]
    found: set[Tree] = set()
    smaller = [tree for size in range(1, order) for tree in trees(size)]
    for branches in range(1, order):
        for chosen in combinations_with_replacement(sorted(smaller, key=repr), branches):
            if 1 + sum(map(size, chosen)) == order:
                found.add(tuple(sorted(chosen, key=repr)))
    return sorted(found, key=repr)


def size(tree: Tree) -> int:
    """The number of vertices."""
    return 1 + sum(map(size, tree))


def density(tree: Tree) -> int:
    """γ(t): the number of vertices times the densities of the branches."""
    product = size(tree)
    for branch in tree:
        product *= density(branch)
    return product


def elementary_weight(tree: Tree, matrix: Matrix, weights: Sequence[sp.Expr]) -> sp.Expr:
    """Φ(t) = Σ b_i Π over the branches of what they give at stage i."""
    return sp.Add(*(b * _at_stage(tree, matrix, i) for i, b in enumerate(weights)))


def _at_stage(tree: Tree, matrix: Matrix, i: int) -> sp.Expr:
    """The product over the branches of Σ_j a_ij times the branch at stage j."""
    branches = (
        sp.Add(*(a * _at_stage(branch, matrix, j) for j, a in enumerate(matrix[i]))) for branch in tree
    )
    return sp.Mul(*branches)


def order_conditions(order: int, matrix: Matrix, weights: Sequence[sp.Expr]) -> Iterator[Step]:
    """One identity for each rooted tree of at most so many vertices: Φ(t) = 1/γ(t)."""
    for vertices in range(1, order + 1):
        for number, tree in enumerate(trees(vertices), 1):
            weight = elementary_weight(tree, matrix, weights)
            yield Identity(f"tree {number} of order {vertices}", weight, sp.Rational(1, density(tree)))


def _times(one: Jet, other: Jet) -> Jet:
    return [sp.Add(*(one[k] * other[n - k] for k in range(n + 1))) for n in range(len(one))]


def _slope_jet(node: sp.Expr, moved: Jet) -> Jet:
    """f(σ + c·h, x + moved) by its derivatives f_ij, i times in σ and j times in x."""
    length = len(moved)
    total = [sp.Integer(0)] * length
    power: Jet = [sp.Integer(1)] + [sp.Integer(0)] * (length - 1)
    for j in range(length):
        for i in range(length - j):
            share = node**i / (sp.factorial(i) * sp.factorial(j)) * sp.Symbol(f"f_{i}{j}", real=True)
            for n in range(i, length):
                total[n] += share * power[n - i]
        power = _times(power, moved)
    return [sp.expand(term) for term in total]


def step_jet(order: int, matrix: Matrix, weights: Sequence[sp.Expr]) -> Jet:
    """The Taylor coefficients of the step for an arbitrary f, up to the order."""
    stages: list[Jet] = []
    for row in matrix:
        jets = list(zip(row, stages, strict=False))
        moved = [sp.Integer(0), *(sp.Add(*(a * jet[n] for a, jet in jets)) for n in range(order))]
        stages.append(_slope_jet(sp.Add(*row), moved))
    jets = list(zip(weights, stages, strict=True))
    return [sp.Integer(0), *(sp.Add(*(b * jet[n] for b, jet in jets)) for n in range(order))]


def flow_jet(order: int) -> Jet:
    """The Taylor coefficients of the solution for an arbitrary f, one more with each round."""
    solution = [sp.Integer(0)] * (order + 1)
    for _ in range(order):
        slope = _slope_jet(sp.Integer(1), solution)
        solution = [sp.Integer(0), *(slope[n] / (n + 1) for n in range(order))]
    return solution


def taylor_steps(order: int, matrix: Matrix, weights: Sequence[sp.Expr]) -> Iterator[Step]:
    """The step agrees with the solution in each power of its length up to the order."""
    pairs = zip(step_jet(order, matrix, weights), flow_jet(order), strict=True)
    for power, (step, flow) in enumerate(pairs):
        if power > 0:
            yield Identity(f"Taylor coefficient {power}, for any f", step, flow)


def _weights(claim: sp.Expr, stages: int) -> list[sp.Expr]:
    return [-sp.diff(claim, slope) / gap for slope in SLOPES[:stages]]


def update(weights: Sequence[sp.Expr]) -> sp.Expr:
    """The state minus Δ_0 times the weighted slopes."""
    pairs = zip(weights, SLOPES, strict=False)
    return x_ve - gap * sp.Add(*(weight * slope for weight, slope in pairs))


def _affine(claim: sp.Expr, stages: int) -> Step:
    return Identity("affine in the slopes", claim, update(_weights(claim, stages)))


def _solved(equations: Sequence[sp.Expr], unknowns: Sequence[sp.Symbol]) -> dict[sp.Symbol, sp.Expr]:
    """The only solution."""
    (solution,) = sp.solve(equations, unknowns, dict=True)
    return {unknown: sp.factor(solution[unknown]) for unknown in unknowns}


def _conditions(order: int, matrix: Matrix, weights: Sequence[sp.Expr]) -> list[sp.Expr]:
    found = order_conditions(order, matrix, weights)
    return [step.lhs - step.rhs for step in found if isinstance(step, Identity)]


def _two_stages() -> tuple[list[list[sp.Expr]], list[sp.Expr]]:
    b = sp.symbols("b_1 b_2")
    matrix = [[sp.Integer(0)] * 2, [node_2, sp.Integer(0)]]
    solution = _solved(_conditions(2, matrix, b), b)
    return matrix, [solution[weight] for weight in b]


MATRIX_2, WEIGHTS_2 = _two_stages()


@formula(
    "solver.rk2",
    title="the Runge–Kutta steps of two stages and order 2",
    lhs=x_s,
    rhs=update(WEIGHTS_2),
    citations=("Karras2022:alg3", "Butcher2016:§235"),
    reference="refdiff.solver:RungeKutta",
    decoys=(
        Decoy("weights-exchanged", update(WEIGHTS_2[::-1]), "index", "the weights of the slopes exchanged"),
        Decoy("always-mean", update([HALF, HALF]), "discretization",
              "the mean of both slopes, which belongs to the node 1, with any node"),
        Decoy("last-slope", update([sp.Integer(0), sp.Integer(1)]), "discretization",
              "the second slope alone, which belongs to the node ½, with any node"),
        Decoy("node-not-halved", update([1 - 1 / node_2, 1 / node_2]), "discretization", "1/c for 1/(2c)"),
    ),
)  # fmt: skip
def _rk2(claim: sp.Expr) -> Iterator[Step]:
    """Two conditions for two weights: b_1 + b_2 = 1 and b_2·c = ½. The node 1 gives Heun's step, ½ the
    midpoint step, 2/3 Ralston's. No weights give order 3: the tree that is a path of three vertices needs
    three stages. What is missed at order 3 has two parts, and the node 2/3 takes one of them away."""
    weights = _weights(claim, 2)
    yield _affine(claim, 2)
    yield from order_conditions(2, MATRIX_2, weights)
    yield from taylor_steps(2, MATRIX_2, weights)
    f, f_s, f_x, f_ss, f_sx, f_xx = sp.symbols("f_00 f_10 f_01 f_20 f_11 f_02", real=True)
    bushy, tall = f_ss + 2 * f * f_sx + f**2 * f_xx, f_x * (f_s + f * f_x)
    missed = flow_jet(3)[3] - step_jet(3, MATRIX_2, weights)[3]
    yield Identity("what is missed at order 3", missed, (SIXTH - node_2 / 4) * bushy + tall / 6)
    heun = claim.subs(node_2, 1)
    yield Identity("Heun's step", heun, x_ve - gap * (slope_1 + slope_2) / 2)


@formula(
    "solver.rk2_gaussian",
    title="what a step of two stages and order 2 misses on Gaussian data",
    lhs=sp.Symbol("e"),
    rhs=(1 - 2 * node_2) * data_variance * sig_t * gap**3 * x_ve / (2 * (data_variance + sig_t**2) ** 3),
    citations=("Butcher2016:§235",),
    reference="refdiff.solver:RungeKutta",
    uses=("solver.rk2", "solver.pf_ode_sigma"),
    decoys=(
        Decoy("not-halved", (1 - 2 * node_2) * data_variance * sig_t * gap**3 * x_ve
              / (data_variance + sig_t**2) ** 3, "variance", "twice as much"),
        Decoy("ralston", (2 - 3 * node_2) * data_variance * sig_t * gap**3 * x_ve
              / (6 * (data_variance + sig_t**2) ** 3), "discretization",
              "nothing for Ralston's node, as for equations without a slope in x"),
        Decoy("none", sp.Integer(0), "discretization", "order 3 with any node"),
    ),
)  # fmt: skip
def _rk2_gaussian(claim: sp.Expr) -> Iterator[Step]:
    """The perfect prediction for data of mean 0 and variance c is ε = σx/(c + σ²), so that x grows as
    √(c + σ²). The midpoint step alone misses nothing at order 3, whatever c: an order that is measured on
    Gaussian data is one too high for it."""
    path, k = sp.Function("x", real=True)(sig_t), sp.Symbol("K", real=True)
    total = data_variance + sig_t**2
    equation = sp.diff(path, sig_t) - sig_t * path / total
    yield Substitution("the exact solution", equation, {path: k * sp.sqrt(total)})
    first = sig_t * x_ve / total
    place = sig_t - node_2 * gap
    second = place * (x_ve - node_2 * gap * first) / (data_variance + place**2)
    step = update(WEIGHTS_2).subs({slope_1: first, slope_2: second})
    exact = x_ve * sp.sqrt((data_variance + (sig_t - gap) ** 2) / total)
    yield Series("nothing below order 3", exact - step, gap, 3, sp.Integer(0))
    third = sp.diff(exact - step, gap, 3).subs(gap, 0) / 6
    yield Identity("against the exact solution", third * gap**3, claim)
    yield Identity("the midpoint step", claim.subs(node_2, HALF), sp.Integer(0))


def _three_stages() -> tuple[list[list[sp.Expr]], list[sp.Expr]]:
    b, a = sp.symbols("b_1 b_2 b_3"), sp.Symbol("a")
    zero = sp.Integer(0)
    matrix = [[zero] * 3, [node_2, zero, zero], [node_3 - a, a, zero]]
    solution = _solved(_conditions(3, matrix, b), [*b, a])
    put = {a: solution[a]}
    return [[sp.sympify(entry).subs(put) for entry in row] for row in matrix], [solution[w] for w in b]


MATRIX_3, WEIGHTS_3 = _three_stages()
NODES_DIFFER = sp.Lt(node_2, node_3)


@formula(
    "solver.rk3_weights",
    title="the Runge–Kutta steps of three stages and order 3: the weights",
    lhs=x_s,
    rhs=update(WEIGHTS_3),
    citations=("Butcher2016:§236",),
    reference="refdiff.solver:RungeKutta",
    uses=("solver.rk3_stage",),
    assumptions=(NODES_DIFFER,),
    decoys=(
        Decoy("simpson", update([SIXTH, 2 * THIRD, SIXTH]), "discretization",
              "Simpson's weights, which belong to the nodes ½ and 1, with any nodes"),
        Decoy("weights-exchanged", update([WEIGHTS_3[0], WEIGHTS_3[2], WEIGHTS_3[1]]), "index",
              "the last two weights exchanged"),
        Decoy("equal", update([THIRD] * 3), "discretization", "equal weights"),
    ),
)  # fmt: skip
def _rk3_weights(claim: sp.Expr) -> Iterator[Step]:
    """Integration of 1, σ and σ² fixes the three weights for any two nodes."""
    weights = _weights(claim, 3)
    yield _affine(claim, 3)
    yield from order_conditions(3, MATRIX_3, weights)
    yield from taylor_steps(3, MATRIX_3, weights)


@formula(
    "solver.rk3_stage",
    title="the Runge–Kutta steps of three stages and order 3: the state at the third stage",
    lhs=x_s,
    rhs=x_ve - gap * (MATRIX_3[2][0] * slope_1 + MATRIX_3[2][1] * slope_2),
    citations=("Butcher2016:§236",),
    reference="refdiff.solver:RungeKutta",
    assumptions=(NODES_DIFFER,),
    decoys=(
        Decoy("second-slope-alone", x_ve - gap * node_3 * slope_2, "discretization",
              "from the second slope alone, as with two stages"),
        Decoy("first-slope-alone", x_ve - gap * node_3 * slope_1, "index", "Euler's step to the node"),
        Decoy("slopes-exchanged", x_ve - gap * (MATRIX_3[2][0] * slope_2 + MATRIX_3[2][1] * slope_1), "index",
              "the two slopes exchanged"),
    ),
)  # fmt: skip
def _rk3_stage(claim: sp.Expr) -> Iterator[Step]:
    """The stage lies at its node, and the tree that is a path of three vertices fixes the rest."""
    row = [*_weights(claim, 2), sp.Integer(0)]
    yield _affine(claim, 2)
    matrix = [*MATRIX_3[:2], row]
    yield Identity("the place of the stage", sp.Add(*row), node_3)
    yield from order_conditions(3, matrix, WEIGHTS_3)


def _four_stages() -> tuple[list[list[sp.Expr]], list[sp.Expr]]:
    b, a = sp.symbols("b_1 b_2 b_4"), sp.symbols("a_32 a_42 a_43")
    zero, one = sp.Integer(0), sp.Integer(1)
    weights = [b[0], b[1], weight_3, b[2]]
    matrix = [
        [zero] * 4,
        [HALF, zero, zero, zero],
        [HALF - a[0], a[0], zero, zero],
        [one - a[1] - a[2], a[1], a[2], zero],
    ]
    solution = _solved(_conditions(4, matrix, weights), [*b, *a])
    table = [[sp.factor(sp.sympify(entry).subs(solution)) for entry in row] for row in matrix]
    return table, [sp.sympify(weight).subs(solution) for weight in weights]


MATRIX_4, WEIGHTS_4 = _four_stages()


@formula(
    "solver.rk4_weights",
    title="the Runge–Kutta steps of order 4 with nodes 0, ½, ½, 1: the weights",
    lhs=x_s,
    rhs=update(WEIGHTS_4),
    citations=("Kutta1901", "Butcher2016:§237"),
    reference="refdiff.solver:RungeKutta",
    uses=("solver.rk4_stage_3", "solver.rk4_stage_4"),
    decoys=(
        Decoy("equal", update([sp.Rational(1, 4)] * 4), "discretization", "the mean of the four slopes"),
        Decoy("three-eighths", update([sp.Rational(n, 8) for n in (1, 3, 3, 1)]), "discretization",
              "the weights of the nodes 0, 1/3, 2/3, 1"),
        Decoy("not-halved-middle", update([SIXTH, 2 * THIRD, weight_3, SIXTH]), "discretization",
              "the third slope on top of Simpson's weights"),
    ),
)  # fmt: skip
def _rk4_weights(claim: sp.Expr) -> Iterator[Step]:
    """Eight conditions, one for each tree of at most four vertices. Simpson's rule, whose middle weight the
    second and third slopes share; b_3 = 1/3 is the classical step."""
    weights = _weights(claim, 4)
    yield _affine(claim, 4)
    yield from order_conditions(4, MATRIX_4, weights)
    yield from taylor_steps(4, MATRIX_4, weights)
    classical = x_ve - gap * (slope_1 + 2 * slope_2 + 2 * slope_3 + slope_4) / 6
    yield Identity("the classical step", claim.subs(weight_3, THIRD), classical)


@formula(
    "solver.rk4_stage_3",
    title="the Runge–Kutta steps of order 4 with nodes 0, ½, ½, 1: the state at the third stage",
    lhs=x_s,
    rhs=x_ve - gap * (MATRIX_4[2][0] * slope_1 + MATRIX_4[2][1] * slope_2),
    citations=("Kutta1901", "Butcher2016:§237"),
    reference="refdiff.solver:RungeKutta",
    decoys=(
        Decoy("second-slope-alone", x_ve - gap * slope_2 / 2, "discretization",
              "the stage of the classical step for any b_3"),
        Decoy("euler", x_ve - gap * slope_1 / 2, "index", "the second stage once more"),
    ),
)  # fmt: skip
def _rk4_stage_3(claim: sp.Expr) -> Iterator[Step]:
    """The second slope enters with 1/(6·b_3), and with ½ in the classical step, without the first."""
    row = [*_weights(claim, 2), sp.Integer(0), sp.Integer(0)]
    yield _affine(claim, 2)
    yield from order_conditions(4, [*MATRIX_4[:2], row, MATRIX_4[3]], WEIGHTS_4)
    yield Identity("the classical step", claim.subs(weight_3, THIRD), x_ve - gap * slope_2 / 2)


@formula(
    "solver.rk4_stage_4",
    title="the Runge–Kutta steps of order 4 with nodes 0, ½, ½, 1: the state at the fourth stage",
    lhs=x_s,
    rhs=x_ve - gap * (MATRIX_4[3][0] * slope_1 + MATRIX_4[3][1] * slope_2 + MATRIX_4[3][2] * slope_3),
    citations=("Kutta1901", "Butcher2016:§237"),
    reference="refdiff.solver:RungeKutta",
    decoys=(
        Decoy("third-slope-alone", x_ve - gap * slope_3, "discretization",
              "the stage of the classical step for any b_3"),
        Decoy("half-step", x_ve - gap * slope_3 / 2, "index", "the fourth stage in the middle of the step"),
    ),
)  # fmt: skip
def _rk4_stage_4(claim: sp.Expr) -> Iterator[Step]:
    """The third slope enters with 3·b_3, so that the classical step takes it alone."""
    row = [*_weights(claim, 3), sp.Integer(0)]
    yield _affine(claim, 3)
    yield from order_conditions(4, [*MATRIX_4[:3], row], WEIGHTS_4)
    yield Identity("the classical step", claim.subs(weight_3, THIRD), x_ve - gap * slope_3)
