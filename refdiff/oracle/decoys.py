"""The wrong forms that the derivations refute, as explanations of what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from refdiff.oracle import hypotheses
from refdiff.oracle.expected import UNIT
from refdiff.oracle.hypotheses import Case

if TYPE_CHECKING:
    import sympy as sp

    from derivations.kit.formula import Decoy

Array = NDArray[Any]
# names of free symbols, and a function of their values
Slope: TypeAlias = tuple[tuple[str, ...], Callable[..., Any]]
_MODEL = {"x": "x_t", "e": "eps"}
# the proved formula of each port, and the symbols of its states
STATEMENTS: dict[str, tuple[str, Mapping[str, str]]] = {
    "q_sample": ("ddpm.marginal", {"x0": "x_0", "z": "eps"}),
    "predict_x0": ("parameterization.x_0_from_eps", _MODEL),
    "predict_eps": ("parameterization.eps_from_x_0", {"x": "x_t", "x0": "x_0"}),
    "score": ("parameterization.score_from_eps", _MODEL),
    "q_posterior": ("ddpm.posterior_mean", {"x": "x_t", "x0": "x_0"}),
    "ddpm_step": ("ddpm.step", _MODEL | {"z": "z"}),
    "ddim_step": ("ddim.step", _MODEL | {"z": "z"}),
    "ddim_invert": ("ddim.inversion", {"x": "x_s", "e": "eps"}),
}


@dataclass(frozen=True)
class Match:
    """A decoy that fits every measured coefficient."""

    formula: str
    decoy: Decoy

    @property
    def id(self) -> str:
        """The formula's id and the decoy's."""
        return f"{self.formula}/{self.decoy.id}"


def matching(case: Case) -> Match | None:
    """The first decoy of the port's formula that fits all points; None where none does, or where the dialect
    says the formula in other words."""
    if case.port not in STATEMENTS or not _plain(case):
        return None
    formula, names = STATEMENTS[case.port]
    env = _symbols(case)
    for decoy, rows in _slopes(formula, tuple(names[state] for state in case.want.states)):
        values = np.array([_value(row, env) for row in rows])
        if case.port == "ddpm_step":
            # the step that ends at data adds no noise, whatever the formula of the others is
            values[case.want.states.index("z")] *= env["last"]
        if float(case.ratios(values, UNIT["float32"]).max()) <= 1:
            return Match(formula, decoy)
    return None


def _plain(case: Case) -> bool:
    dialect = case.dialect
    learned = case.port == "ddpm_step" and dialect.variance.startswith("learned")
    ours = ("vp", "eps", "one", "eta")
    return ours == (dialect.space, dialect.parameterization, dialect.alpha_bar_0, dialect.eta) and not learned


def _symbols(case: Case) -> dict[str, Array]:
    env = hypotheses.environment(case)
    variance = env["beta_t"] if case.dialect.variance.startswith("beta") else env["one"]
    if case.dialect.variance == "beta_tilde":
        variance = env["beta_t"] * (1 - env["abar_s"]) / (1 - env["abar_t"])
    with np.errstate(all="ignore"):
        return env | {"sigma_t": np.sqrt(variance)}


@cache
def _slopes(formula: str, names: tuple[str, ...]) -> tuple[tuple[Decoy, tuple[Slope, ...]], ...]:
    """The derivatives of each decoy by the states."""
    import derivations

    decoys = derivations.node(formula).decoys
    return tuple((decoy, tuple(_slope(decoy.closed, name) for name in names)) for decoy in decoys)


def _slope(expr: sp.Expr, name: str) -> Slope:
    import sympy as sp

    symbols = {symbol.name: symbol for symbol in expr.free_symbols}
    slope = sp.diff(expr, symbols[name]) if name in symbols else sp.Integer(0)
    free = tuple(sorted(symbol.name for symbol in slope.free_symbols))
    return free, sp.lambdify([symbols[symbol] for symbol in free], slope, "numpy")


def _value(slope: Slope, env: Mapping[str, Array]) -> Array:
    """A derivative at the points; NaN where it is not defined, or depends on what the points do not have."""
    free, function = slope
    count = len(env["one"])
    if any(name not in env for name in free):
        return np.full(count, np.nan)
    with np.errstate(all="ignore"):
        return np.broadcast_to(np.asarray(function(*(env[name] for name in free)), float), (count,)).copy()
