"""A hostile target spoils the checks of the port it is hostile in, and nothing else."""

import numpy as np
import pytest
import torch

from refdiff.oracle import check
from tests.zoo.hostile import HOSTILE, POLITE

BYSTANDERS = {"q_sample": "velocity", "velocity": "q_sample"}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch):
    """Shorter limits, so that targets which never answer do not hold up the tests."""
    monkeypatch.setattr("refdiff.oracle.calls.LIMIT", 1.0)
    monkeypatch.setattr("refdiff.oracle.session.SAMPLE_LIMIT", 3.0)


@pytest.mark.parametrize("id", HOSTILE)
def test_a_hostile_target_yields_lines_and_the_rest_of_the_report(id: str, hasty):
    cls, port = HOSTILE[id]
    target = cls()
    if port not in ("sample", "timesteps"):
        target.sample = None
    report = check(target)
    blamed = {result.id.split(".")[0] for result in report.failures}
    assert port in blamed, str(report)
    bystander = BYSTANDERS.get(port, "q_sample")
    assert any(result.id.startswith(bystander) and result.status == "pass" for result in report.results)
    assert report.to_json()["ok"] is False


@pytest.mark.parametrize("id", POLITE)
def test_an_odd_but_right_target_passes_and_leaves_no_trace(id: str, capsys):
    torch.manual_seed(7)
    np.random.seed(7)
    state, numpy_state, dtype = (
        torch.get_rng_state(),
        np.random.get_state()[1].copy(),
        torch.get_default_dtype(),
    )
    report = check(POLITE[id]())
    assert report.ok, str(report)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    assert torch.get_default_dtype() == dtype
