"""Solvers of other libraries as they are installed: which have their order, and which do not."""

import logging
from importlib.metadata import version
from pathlib import Path

import pytest

from refdiff.oracle import Report, adapters, check

DOCS = (Path(__file__).parent.parent / "docs" / "peers.md").read_text()
SCHEDULER = "diffusers:{}Scheduler"
MULTI, SINGLE = SCHEDULER.format("DPMSolverMultistep"), SCHEDULER.format("DPMSolverSinglestep")
UNIPC, FLOW = SCHEDULER.format("UniPCMultistep"), SCHEDULER.format("FlowMatchEulerDiscrete")


@pytest.fixture(autouse=True)
def quiet():
    # schedulers say at length which options go together
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


# with these and the formula of its steps a solver's order is known; it is measured where there is none
QUICK = ("solve.levels", "solve.point", "solve.noise", "solve.data", "solve.coefficients")


def reported(name: str, only: str | tuple[str, ...] = "solve", **options) -> Report:
    return check(adapters.load(name, options), only=only)


AGREES = [
    (SCHEDULER.format("EulerDiscrete"), {}, "DDIM"),
    (SCHEDULER.format("EulerDiscrete"), {"prediction_type": "v_prediction"}, "DDIM"),
    (SCHEDULER.format("EulerAncestralDiscrete"), {}, "SDE-DPM-Solver++ 1"),
    (SCHEDULER.format("HeunDiscrete"), {"prediction_type": "v_prediction"}, "heun"),
    (SCHEDULER.format("KDPM2Discrete"), {}, "dpm_2"),
    (SCHEDULER.format("LMSDiscrete"), {"order": 2}, "Adams-Bashforth 2 in sigma"),
    (SCHEDULER.format("DPMSolverSDE"), {}, "order 2"),
    (MULTI, {"prediction_type": "sample"}, "order 2.0"),
    (SCHEDULER.format("DEISMultistep"), {}, "DPM-Solver with 2 points"),
    (SCHEDULER.format("EDMEuler"), {}, "DDIM"),
    (SCHEDULER.format("EDMDPMSolverMultistep"), {}, "DPM-Solver++ with two points"),
    (FLOW, {}, "DDIM"),
    (SCHEDULER.format("FlowMatchHeunDiscrete"), {}, "order 2.0"),
    (MULTI, {}, "DPM-Solver++ with two points, slope at the middle"),
    (MULTI, {"solver_type": "heun"}, "DPM-Solver++ with two points, slope integrated"),
    (MULTI, {"algorithm_type": "sde-dpmsolver++"}, "SDE-DPM-Solver++ with two points"),
    (MULTI, {"algorithm_type": "sde-dpmsolver"}, "sde_dpm_2m"),
    (SINGLE, {}, "order 2.0"),
    (UNIPC, {}, "unipc_2, but for the last steps"),
    ("k_diffusion:sample_euler", {}, "DDIM"),
    ("k_diffusion:sample_euler_ancestral", {}, "SDE-DPM-Solver++ 1"),
    ("k_diffusion:sample_heun", {}, "heun"),
    ("k_diffusion:sample_heun", {"s_churn": 2.0}, "order 1.99"),
    ("k_diffusion:sample_dpm_2", {}, "dpm_2"),
    ("k_diffusion:sample_dpm_2_ancestral", {}, "order 2.00"),
    ("k_diffusion:sample_lms", {"order": 2}, "Adams-Bashforth 2 in sigma"),
    ("k_diffusion:sample_dpmpp_2s_ancestral", {"eta": 0.0}, "dpmpp_2s"),
    ("k_diffusion:sample_dpmpp_2s_ancestral", {}, "order 2.01"),
    ("k_diffusion:sample_dpmpp_sde", {}, "order 2.13"),
    ("k_diffusion:sample_dpmpp_2m", {}, "dpmpp_2m"),
    ("k_diffusion:sample_dpmpp_2m_sde", {}, "sde_dpmpp_2m"),
    ("azula:HeunSampler", {}, "heun"),
    ("azula:zABSampler", {"order": 2}, "Adams-Bashforth 2 in sigma"),
    ("azula:vABSampler", {"order": 2}, "order 2.01"),
    ("azula:zEABSampler", {"order": 2}, "DPM-Solver with 2 points"),
    ("azula:xEABSampler", {"order": 2}, "DPM-Solver++ with two points, slope integrated"),
]


@pytest.mark.parametrize(("name", "options", "words"), AGREES, ids=str)
def test_a_solver_has_its_order_and_its_formula_is_named(name: str, options: dict, words: str):
    report = reported(name, "solve" if "order" in words else QUICK, **options)
    assert report.ok, str(report)
    assert words in str(report), str(report)


WRONG = [
    (MULTI, {"solver_order": 3}, "coefficients", "the second difference of data at three points is halved"),
    (
        MULTI,
        {"solver_order": 3, "algorithm_type": "dpmsolver"},
        "coefficients",
        "the second difference of noise at three points is halved",
    ),
    (
        MULTI,
        {"solver_order": 3, "algorithm_type": "sde-dpmsolver++"},
        "gaussian",
        "has -1/2 in its weight, where +1/2 belongs",
    ),
    (MULTI, {"solver_order": 3, "algorithm_type": "sde-dpmsolver"}, "evaluations", "UnboundLocalError"),
    (SINGLE, {"algorithm_type": "sde-dpmsolver++"}, "noise", "each stage has its own noise"),
    (SINGLE, {"algorithm_type": "sde-dpmsolver++"}, "gaussian", "order 0.98"),
    (UNIPC, {"solver_type": "bh1"}, "data", "the last state is not finite"),
    (
        SCHEDULER.format("EDMDPMSolverMultistep"),
        {"solver_order": 3},
        "coefficients",
        "the second difference of data at three points is halved",
    ),
    (
        "k_diffusion:sample_dpmpp_3m_sde",
        {},
        "coefficients",
        "the second difference of data at three points is halved",
    ),
    ("azula:REABSampler", {}, "gaussian", "order 1.0"),
    (FLOW, {"stochastic_sampling": True}, "noise", "keeps nothing of its state: of consistency models"),
]


@pytest.mark.parametrize(("name", "options", "failing", "words"), WRONG, ids=str)
def test_the_oracle_fails_a_solver_that_has_not_its_order(name: str, options: dict, failing: str, words: str):
    report = reported(name, f"solve.{failing}", **options)
    assert report[f"solve.{failing}"].status in ("fail", "error"), str(report)
    assert words in str(report), str(report)


def test_a_third_order_that_needs_even_levels_is_declared_so():
    target = adapters.load(SINGLE, {"solver_order": 3})
    assert target.dialect.solver_grid == "log_snr"
    assert check(target, only="solve.gaussian")["solve.gaussian"].got > 2.9


def test_the_version_is_the_one_that_is_named():
    assert f"`k_diffusion` {version('k_diffusion')}" in DOCS


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("k_diffusion:sample_nothing", {}, "k_diffusion function must be one of sample_euler"),
        ("k_diffusion:sample_heun", {"churn": 1}, "did you mean s_churn"),
        ("azula:HeunSampler", {"ordr": 2}, "did you mean order"),
        (MULTI, {"solver_ordr": 3}, "did you mean solver_order"),
    ],
)
def test_what_is_not_known_is_named(name: str, options: dict, words: str):
    with pytest.raises(ValueError, match=words):
        adapters.load(name, options)
