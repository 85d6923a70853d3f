"""One thread, reproducible hypothesis, and the device on which the tests of the reference run."""

from __future__ import annotations

import hypothesis
import pytest
import torch

from derivations import TOPICS

COMMON = hypothesis.settings(
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile("refdiff", COMMON, derandomize=True, max_examples=50)
# for a search by hand: pytest --hypothesis-profile=thorough
hypothesis.settings.register_profile("thorough", COMMON, derandomize=False, max_examples=1000)
hypothesis.settings.load_profile("refdiff")
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="torch device of the reference in the tests")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device named on the command line."""
    return torch.device(str(request.config.getoption("--device")))


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Several processes share the tests by groups, unless the command line says how."""
    if config.getoption("numprocesses", None) and config.getoption("dist") == "no":
        config.option.dist = "loadgroup"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests about the formulas of one topic are a group: one process proves them, once."""
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            topics = {_topic(value) for value in item.callspec.params.values()} - {""}
            if topics:
                item.add_marker(pytest.mark.xdist_group(min(topics)))


def _topic(value: object) -> str:
    """Of a formula, of a formula's id, or of the first formula that a row of the ledger rests on."""
    rests_on = getattr(value, "formulas", None) or getattr(value, "id", value)
    first = next(iter(rests_on), None) if isinstance(rests_on, tuple) else rests_on
    topic, dot, _ = first.partition(".") if isinstance(first, str) else ("", "", "")
    return topic if dot and topic in TOPICS else ""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The kill matrix: what became of each mutant of the zoo, and how many were killed and named."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    rows = [value for report in reports for key, value in report.user_properties if key == "kill"]
    if not rows:
        return
    terminalreporter.section("kill matrix")
    for id, family, survived, failing, families in sorted(rows):
        status = "SURVIVED" if survived else "killed"
        terminalreporter.line(f"{id:40} {family:16} {status:8} {', '.join(families):34} {', '.join(failing)}")
    killed, named = sum(not row[2] for row in rows), sum(row[1] in row[4] for row in rows)
    terminalreporter.line(f"{len(rows)} mutants: {killed} killed, {named} with their own family named")
