"""A correct target passes in every convention that can be declared; undeclared, the convention is named."""

import pytest

from refdiff.oracle import Dialect, check
from tests.zoo.conventions import CONVENTIONS, Convention


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda convention: convention.id)
def test_a_convention_is_never_a_failure(convention: Convention):
    report = check(convention.make())
    assert report.ok, str(report)
    assert report.summary["pass"] > 0


UNDECLARED = (
    "eta-squared",
    "su-notation",
    "sigma-space",
    "predicts-v",
    "predicts-x0",
    "plain-beta-variance",
    "latent-diffusion",
    "loss-summed",
    "ho-cosine-of-steps",
    "openai-fixed-small",
)


@pytest.mark.parametrize("id", UNDECLARED)
def test_an_undeclared_convention_is_a_finding_that_names_the_dialect(id: str):
    target = next(convention.make() for convention in CONVENTIONS if convention.id == id)
    declared = target.dialect
    target.dialect = Dialect(schedule="linear_rescaled", T=declared.T, backend=declared.backend)
    report = check(target)
    assert not report.ok
    named = [result.diagnosis for result in report.failures if result.diagnosis is not None]
    assert any(diagnosis.dialect is not None for diagnosis in named), str(report)
