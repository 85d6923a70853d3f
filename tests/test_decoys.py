"""Every wrong form that the derivations refute is a target here: the oracle fails it and says which it is."""

from __future__ import annotations

from typing import Any

import pytest
import sympy as sp
import torch
from torch import Tensor

import derivations
import refdiff
from derivations.kit import Decoy
from refdiff import schedule
from refdiff.oracle.decoys import STATEMENTS
from refdiff.oracle.formulas import PORTS

# short, with room between all the levels
CHAIN = schedule.linear_rescaled(100)


def levels(t: Tensor, s: Tensor) -> dict[str, Tensor]:
    """The symbols of the formulas, shape (B, 1)."""
    abar_t, abar_s = CHAIN.alpha_bar[t], CHAIN.alpha_bar[s]
    known = {"abar_t": abar_t, "abar_s": abar_s, "abar_prev": CHAIN.alpha_bar[t - 1]}
    known["sigma_t"] = ((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)).sqrt()
    return {name: value[:, None] for name, value in known.items()}


def target(port: str, decoy: Decoy | derivations.kit.Formula) -> refdiff.Target:
    """The right side of a formula or of one of its decoys, as somebody's code."""
    names = STATEMENTS[port][1]
    free = sorted(decoy.closed.free_symbols, key=str)
    function = sp.lambdify(free, decoy.closed, [{"sqrt": torch.sqrt, "exp": torch.exp, "log": torch.log}])

    def method(self: Any, *given: Any) -> Any:
        arguments = dict(zip(PORTS[port].arguments, given, strict=True))
        t = arguments["t"]
        known = levels(t, arguments.get("s", t - 1))
        known["eta"] = torch.tensor(arguments.get("eta", 0.0), dtype=torch.float64)
        for argument, (state, _) in PORTS[port].states.items():
            known[names[state]] = arguments[argument]
        x = next(known[name] for name in names.values())
        out = torch.as_tensor(function(*(known[symbol.name] for symbol in free))).expand_as(x).clone()
        return (out, known["sigma_t"] ** 2) if port == "q_posterior" else out

    made = type("Decoyed", (refdiff.Target,), {port: method})()
    made.dialect = refdiff.Dialect(schedule=CHAIN)
    return made  # type: ignore[no-any-return]


def report(port: str, form: Any) -> refdiff.Report:
    return refdiff.check(target(port, form), only=f"{port}.coefficients")


def symbols(form: Any) -> set[str]:
    """What a form is written in: its states, and any level."""
    return {symbol.name for symbol in form.closed.free_symbols if not symbol.name.startswith("abar")}


@pytest.mark.parametrize("port", STATEMENTS)
def test_the_formula_passes_and_each_of_its_decoys_fails(port: str) -> None:
    formula = derivations.registry()[STATEMENTS[port][0]]
    assert report(port, formula).ok, str(report(port, formula))
    named = 0
    expressible = [decoy for decoy in formula.decoys if symbols(decoy) <= symbols(formula)]
    for decoy in expressible:
        found = report(port, decoy)
        assert not found.ok, f"{decoy.id} passes"
        diagnosis = found.failures[0].diagnosis
        named += diagnosis is not None and (diagnosis.decoy or "").startswith(formula.id)
    # the others answer NaN somewhere, or another mistake is the same at these levels
    assert 3 * named >= 2 * len(expressible)


def test_a_diagnosis_carries_the_citation_of_its_decoy() -> None:
    formula = derivations.registry()["parameterization.eps_from_x_0"]
    cited = next(decoy for decoy in formula.decoys if decoy.citation)
    diagnosis = report("predict_eps", cited).failures[0].diagnosis
    assert diagnosis is not None and diagnosis.citation == cited.citation
    assert diagnosis.to_json()["citation"] == cited.citation
