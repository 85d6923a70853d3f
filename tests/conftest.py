"""One thread, reproducible hypothesis, and the device on which the tests of the reference run."""

from __future__ import annotations

import hypothesis
import pytest
import torch

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
