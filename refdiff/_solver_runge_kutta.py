r"""Explicit Runge–Kutta solvers of the probability-flow ODE in σ = std/scale, Euler's and Heun's among them.

.. math:: \frac{\mathrm{d}y}{\mathrm{d}\sigma}=\hat\epsilon,\qquad y=x/\mathrm{scale}

A stage lies at a level with its own σ; which scale goes with it, ``Levels.space`` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from torch import Tensor

from refdiff import _check
from refdiff._solver_base import Levels, Model, NoiseLevel, Past, Solver, combine, log


@dataclass(frozen=True)
class Tableau:
    r"""The coefficients of an explicit Runge–Kutta step.

    .. math:: k_i=f\Bigl(\sigma+c_ih,\,y+h\sum_{j<i}a_{ij}k_j\Bigr),\qquad y'=y+h\sum_ib_ik_i

    Args:
        matrix: a, one row a stage with an entry for each stage before it: the first row is empty.
        weights: b, one for each stage; they add up to 1.

    Attributes:
        nodes: c, the places of the stages in the step: the sums of the rows.
        stages: the rows and nodes of the stages after the first, as floats.
        shares: the weights as floats.
        asks_at_end: whether a stage lies where the step ends.

    Raises:
        ValueError: rows or weights of another number, or weights that do not add up to 1.

    Reference: formulas ``solver.rk2``, ``solver.rk3_stage``, ``solver.rk3_weights``, ``solver.rk4_weights``.
    """

    matrix: tuple[tuple[Fraction, ...], ...]
    weights: tuple[Fraction, ...]
    nodes: tuple[Fraction, ...] = field(init=False, repr=False, compare=False)
    stages: list[tuple[list[float], float]] = field(init=False, repr=False, compare=False)
    shares: list[float] = field(init=False, repr=False, compare=False)
    asks_at_end: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if [len(row) for row in self.matrix] != list(range(len(self.weights))):
            raise ValueError(f"matrix must have rows of 0, 1, … entries, one a weight, got {self.matrix}")
        if sum(self.weights) != 1:
            raise ValueError(f"weights must add up to 1, got {sum(self.weights)}")
        nodes = tuple(sum(row, Fraction(0)) for row in self.matrix)
        rows = zip(self.matrix[1:], nodes[1:], strict=True)
        stages = [([float(share) for share in row], float(node)) for row, node in rows]
        # made here and not when they are asked for, so that the first step may be in a traced graph
        object.__setattr__(self, "nodes", nodes)
        object.__setattr__(self, "stages", stages)
        object.__setattr__(self, "shares", [float(weight) for weight in self.weights])
        object.__setattr__(self, "asks_at_end", 1 in nodes)


def _tableau(*rows: str) -> Tableau:
    """A tableau as in a textbook: a row of numbers for each stage after the first, then the weights."""
    *stages, weights = (tuple(Fraction(entry) for entry in row.split()) for row in rows)
    return Tableau(((), *stages), weights)


EULER = _tableau("1")
MIDPOINT = _tableau("1/2", "0 1")
HEUN = _tableau("1", "1/2 1/2")
RALSTON = _tableau("2/3", "1/4 3/4")
KUTTA_3 = _tableau("1/2", "-1 2", "1/6 2/3 1/6")
HEUN_3 = _tableau("1/3", "0 2/3", "1/4 0 3/4")
RK4 = _tableau("1/2", "0 1/2", "0 0 1", "1/6 1/3 1/3 1/6")
RK_38 = _tableau("1/3", "-1/3 1", "1 -1 1", "1/8 3/8 3/8 1/8")


def second_order(node: Fraction) -> Tableau:
    r"""The step of two stages and order 2 with its second stage at a node c.

    .. math:: b=\left(1-\tfrac1{2c},\ \tfrac1{2c}\right)

    Args:
        node: c, above 0: 1/2 is the midpoint step, 2/3 Ralston's, 1 Heun's.

    Raises:
        ValueError: a node not above 0.

    Reference: Karras et al. 2022, algorithm 3 (formula ``solver.rk2``).
    """
    if not node > 0:
        raise ValueError(f"node must be above 0, got {node}")
    return Tableau(((), (node,)), (1 - 1 / (2 * node), 1 / (2 * node)))


@dataclass(frozen=True)
class RungeKutta(Solver):
    r"""An explicit Runge–Kutta step in σ between neighbours of the list.

    A step to std = 0 is Euler's where the method has a stage there, as no noise can be predicted without any.

    Args:
        name: the key in the registry.
        order: the order of the sample.
        tableau: the coefficients.

    Reference: Karras et al. 2022, algorithms 1 and 3 (formulas ``solver.euler_sigma``, ``solver.edm_heun``).
    """

    name: str
    order: int
    tableau: Tableau

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        """One a stage."""
        return len(self.tableau.weights)

    def states(
        self, model: Model, x: Tensor, levels: Levels, draws: Iterator[Tensor], past: Past
    ) -> Iterator[Tensor]:
        for t, s in levels.pairs():
            x = self.step(model, x, t, s, levels)
            yield x

    def step(self, model: Model, x: Tensor, t: NoiseLevel, s: NoiseLevel, levels: Levels) -> Tensor:
        """One step from level t to level s."""
        return runge_kutta_step(self.tableau, model, x, t, s, levels)


def runge_kutta_step(
    tableau: Tableau,
    model: Model,
    x: Tensor,
    t: NoiseLevel,
    s: NoiseLevel,
    levels: Levels,
    first: Tensor | None = None,
) -> Tensor:
    r"""One step in σ from level t to level s.

    .. math:: y_s=y_t+(\sigma_s-\sigma_t)\sum_ib_i\hat\epsilon_i

    Args:
        tableau: the coefficients.
        model: eps predicted from x and the scale and std of its level.
        x: the state at level t, shape (B, *).
        t, s: levels, s with less noise than t.
        levels: says where levels between the two lie.
        first: the prediction at x where it is known already.

    Returns:
        The state at level s, shaped like x.
    """
    if tableau.asks_at_end and s.clean:
        tableau = EULER
    slopes = [slope(model, x, t) if first is None else first]
    places = {node: _stage(t, s, node, levels) for node in {node for _, node in tableau.stages}}
    for row, node in tableau.stages:
        at = places[node]
        slopes.append(slope(model, move(x, slopes, row, t, s, at), at))
    return move(x, slopes, tableau.shares, t, s, s)


def move(
    x: Tensor,
    slopes: Sequence[Tensor],
    shares: Sequence[float],
    t: NoiseLevel,
    s: NoiseLevel,
    at: NoiseLevel,
) -> Tensor:
    """x at level t moved along slopes by shares of the fall of σ from t to s, in the scale of ``at``."""
    scale, start = at.numbers.scale, t.numbers
    fall = scale * (s.numbers.sigma - start.sigma)
    terms = [(fall * share, k) for share, k in zip(shares, slopes, strict=True) if share != 0]
    return combine([(scale / start.scale, x), *terms])


def slope(model: Model, x: Tensor, at: NoiseLevel) -> Tensor:
    """The predicted noise, which is the slope of x/scale in σ."""
    eps = model(x, at.scale, at.std)
    _check.same(x=x, eps=eps)
    return eps


def _stage(t: NoiseLevel, s: NoiseLevel, node: float, levels: Levels) -> NoiseLevel:
    """The level at a node of the step; its end is the level of the list itself."""
    if node == 1:
        return s
    high, low = t.numbers.sigma, s.numbers.sigma
    return levels.at(-log(high + node * (low - high)))
