"""Every formula of the registry is proved, its decoys are refuted, and the other provers agree."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

import pytest
import sympy as sp

import derivations
from derivations.kit import Formula, Report, Zero
from derivations.kit.formula import FAMILIES
from derivations.kit.generators import reject_floats
from derivations.symbols import MEANINGS

REGISTRY = derivations.registry()
PREDICTIONS = ("eps", "x_0", "v", "score", "mu")
PROMISED = {
    "gaussian": """
        push_forward_mean push_forward_variance product_mean product_variance condition_mean
        condition_variance kl entropy log_density w2""",
    "schedule": """
        linear linear_rescaled scaled_linear quadratic cosine sigmoid_beta sigmoid_alpha_bar constant jsd
        square_root square_root_alpha_bar alpha_bar_product alpha_bar_decreasing respaced_beta snr log_snr
        sigma zero_terminal_snr""",
    "parameterization": " ".join(f"{a}_from_{b}" for a in PREDICTIONS for b in PREDICTIONS if a != b),
    "ddpm": """
        one_step marginal transition posterior_mean posterior_variance posterior_variance_bounds
        mean_from_x_0 mean_from_eps mean_from_score tweedie learned_variance optimal_variance
        loss_weight_mu loss_weight_x_0 loss_weight_eps kl_term loss_simple four_variable_loss
        skip_posterior_mean skip_posterior_variance step""",
    "ddim": """
        sigma step marginals eta_one_is_ddpm markov_iff root_sign sigma_bound inversion euler_in_sigma
        point_mass_exact""",
}
SEED, PAPER = r"S00[0-4]:(alg|fig|tab)?[\d.§/]+", r"[A-Z][A-Za-z-]+\d{4}[a-z]*(:.+)?"
THREAD = r"[\w./-]+ (PR)?#\d+"
SOURCE = re.compile(f"{SEED}|{PAPER}|{THREAD}|conventions:.+")


@pytest.fixture(params=sorted(REGISTRY))
def formula(request: pytest.FixtureRequest) -> Formula:
    return REGISTRY[request.param]


def test_every_formula_is_proved(formula: Formula) -> None:
    report = formula.verify()
    assert report.steps, f"{formula.id}: the proof has no step"
    for step in report.steps:
        assert step.verdict.proved, f"{formula.id}, {step.step.title}: {step.verdict}"
    assert report.complaints == ()
    assert report.proved
    _decoys_are_refuted(formula, report)
    _second_provers_agree(report)


def _decoys_are_refuted(formula: Formula, report: Report) -> None:
    assert set(report.decoys) == {decoy.id for decoy in formula.decoys}
    assert report.decoys, f"{formula.id} has no decoy"
    for name, verdict in report.decoys.items():
        assert verdict.status == "refuted", f"{formula.id}, decoy {name}: {verdict}"
        assert verdict.witness or verdict.detail


def _second_provers_agree(report: Report) -> None:
    for step in report.steps:
        covered = any(isinstance(obligation, Zero) for obligation in step.step.obligations())
        opinions = [opinion.verdict.status for opinion in step.second]
        assert "refuted" not in opinions
        if covered:
            assert "proved" in opinions, f"{report.id}, {step.step.title}: {step.second}"


def test_a_formula_counts_as_proved_only_with_all_that_it_uses(formula: Formula) -> None:
    needed = [formula.id]
    for name in needed:
        needed += [used for used in REGISTRY[name].uses if used not in needed]
    assert all(REGISTRY[name].topic in derivations.TOPICS for name in needed)
    assert REGISTRY.status(formula.id) == "proved"


def test_every_promised_formula_exists() -> None:
    for topic, names in PROMISED.items():
        assert [name for name in names.split() if f"{topic}.{name}" not in REGISTRY] == []


def test_every_formula_says_what_it_is(formula: Formula) -> None:
    assert formula.title != formula.id
    assert formula.prose
    assert formula.citations or formula.reference or formula.uses
    undeclared = [symbol for symbol in formula.arguments if symbol not in MEANINGS]
    assert undeclared == []
    for citation in formula.citations:
        assert SOURCE.fullmatch(citation), f"{formula.id}: {citation!r} is no citation"


def test_every_decoy_says_what_is_wrong(formula: Formula) -> None:
    for decoy in formula.decoys:
        assert decoy.family in FAMILIES
        assert decoy.note


def test_every_reference_exists(formula: Formula) -> None:
    if formula.reference:
        module, _, name = formula.reference.partition(":")
        assert callable(getattr(importlib.import_module(module), name, None)), formula.reference


def test_no_formula_holds_a_float(formula: Formula) -> None:
    for expr in (formula.lhs, formula.rhs, *(decoy.rhs for decoy in formula.decoys)):
        reject_floats(sp.sympify(expr))


def test_proofs_know_nothing_of_golden_values_nor_of_the_reference() -> None:
    program = (
        "import sys, derivations; derivations.registry();"
        "bad = [m for m in sys.modules if m.split('.')[0] in ('refdiff', 'torch') or 'golden' in m];"
        "sys.exit(repr(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
