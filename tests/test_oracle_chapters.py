"""The oracle on energies, scores, likelihoods and guidance: what is right passes in every convention."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest
import torch

from refdiff import schedule
from refdiff.oracle import Dialect, check
from refdiff.oracle.checks import decoder, weights
from refdiff.oracle.target import CHOICES, PORTS, Target
from tests.zoo import chapters
from tests.zoo.base import dialect
from tests.zoo.chapters_conventions import CHAPTER_CONVENTIONS, short
from tests.zoo.chapters_hostile import CHAPTER_HOSTILE
from tests.zoo.chapters_reference import REFERENCE

TOPICS: dict[type[Any], dict[str, Any]] = {
    chapters.Energies: {},
    chapters.Chains: {},
    chapters.Losses: {},
    chapters.Likelihoods: {},
    chapters.Transitions: {},
    chapters.Weights: {"weighting": "min_snr"},
    chapters.Ranges: {"denoiser_range": "[0, 1]"},
    chapters.Guides: {},
}


OF_TABLES = (chapters.Likelihoods, chapters.Transitions, chapters.Weights, chapters.Guides)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.__name__)
def test_what_the_mutants_are_made_from_passes(topic: type[Any], dtype: str):
    target = chapters.alone(topic)()
    target.dialect = dialect(dtype=dtype, **TOPICS[topic])
    report = check(target)
    assert report.ok, str(report)
    assert report.summary["pass"] > 0


@pytest.mark.parametrize("id", CHAPTER_CONVENTIONS)
def test_a_convention_is_never_a_failure(id: str):
    report = check(CHAPTER_CONVENTIONS[id])
    assert report.ok, str(report)
    assert report.summary["pass"] > 0


@pytest.mark.parametrize("target", REFERENCE, ids=lambda target: target.name)
def test_the_reference_passes(target: type[Target]):
    report = check(target)
    assert report.ok, str(report)
    assert report.summary["pass"] > 0


# what the default dialect agrees with, or what says nothing about the numbers
SAME = ("energy-without-graph", "slices-of-its-own", "guidance-written-around-the-condition")
ACCEPTED = ("classifier-at-the-mean-at-t", "classifier-at-the-mean", "snr-plus-one", "weight-one")
DECLARED = [id for id in CHAPTER_CONVENTIONS if id not in (*SAME, *ACCEPTED)]
# a number that is fitted to nothing: the finding says what it is times, or what it runs from and to
UNNAMED = ("latents", "min-snr-x0", "min-snr-without-signal")


@pytest.mark.parametrize("id", [id for id in DECLARED if not id.startswith("energy-")])
def test_an_undeclared_convention_is_a_finding_that_names_the_dialect(id: str):
    target = CHAPTER_CONVENTIONS[id]()
    declared = target.dialect
    target.dialect = short(backend=declared.backend, index_origin=declared.index_origin)
    report = check(target)
    assert not report.ok
    named = [result.diagnosis for result in report.failures if result.diagnosis is not None]
    assert id in UNNAMED or any(diagnosis.dialect is not None for diagnosis in named), str(report)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch):
    """Shorter limits, so that targets which never answer do not hold up the tests."""
    monkeypatch.setattr("refdiff.oracle.calls.LIMIT", 0.5)


@pytest.mark.parametrize("id", CHAPTER_HOSTILE)
def test_a_hostile_target_yields_lines_and_the_rest_of_the_report(id: str, hasty: None):
    cls, port, bystander = CHAPTER_HOSTILE[id]
    report = check(cls())
    assert port in {result.id.split(".")[0] for result in report.failures}, str(report)
    passed = {result.id.split(".")[0] for result in report.results if result.status == "pass"}
    assert not bystander or bystander in passed
    assert report.to_json()["ok"] is False


@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("topic", OF_TABLES, ids=lambda topic: topic.__name__)
def test_float32_tables_pass(topic: type[Any], name: str):
    made = schedule.SCHEDULES[name](1000)

    class Single(chapters.alone(topic)):
        T = 1000
        dialect = Dialect(schedule=made, index_origin=0, **TOPICS[topic])

        def make_tables(self) -> None:
            one = np.float32(1)
            self.beta = made.beta[1:].numpy().astype(np.float32)
            self.alpha = one - self.beta
            self.abar = np.cumprod(self.alpha, dtype=np.float32)
            self.abar_prev = np.append(one, self.abar[:-1])
            self.var = self.beta * (one - self.abar_prev) / (one - self.abar)
            self.coef_x0 = self.beta * np.sqrt(self.abar_prev) / (one - self.abar)

    assert Single().var.dtype == Single().coef_x0.dtype == np.float32
    report = check(Single())
    assert report.ok, str(report)


def test_a_convention_that_one_step_alone_follows_is_a_mistake():
    class HalfInOneStep(chapters.alone(chapters.Chains)):
        def langevin_sample(self, score_fn: Any, x: Any, step_size: float, steps: int) -> Any:
            for _ in range(steps):
                x = x + step_size / 2 * score_fn(x) + step_size**0.5 * torch.randn_like(x)
            return x

    found = check(HalfInOneStep())["langevin_sample.coefficients"].diagnosis
    assert found.family == "variance" and found.dialect is None
    assert "langevin_step" in found.message


def test_the_law_of_a_chain_is_exact():
    report = check(chapters.alone(chapters.Chains), only=["langevin_sample", "annealed_langevin"])
    for port in ("langevin_sample", "annealed_langevin"):
        assert report[f"{port}.exact_law"].error < 1e-13

    class Louder(chapters.alone(chapters.Chains)):
        def langevin_step(self, x: Any, score: Any, step_size: float, noise: Any) -> Any:
            return x + step_size * score + (2 * step_size) ** 0.5 * noise * (1 + 1e-9)

    assert not check(Louder(), only="langevin_sample.exact_law").ok


def test_the_masses_of_all_bins_are_known_in_both_tails():
    """Against the distribution function in extended precision."""
    x = torch.tensor([-1.0, 1.0, 0.0, 1 / 255, -127 / 255]).double()
    mean = torch.tensor([0.3, -0.9, 0.7, -0.2, -0.5]).double()
    scale = torch.tensor([0.05, 0.08, 0.02, 0.01, 0.3]).double()
    got = decoder.log_bin(x, mean, scale, Dialect())
    with mpmath.workdps(200):
        for i in range(len(x)):
            low, high = (
                mpmath.ncdf(
                    (mpmath.mpf(float(x[i])) - float(mean[i]) + side * mpmath.mpf(1) / 255) / float(scale[i])
                )
                for side in (-1, 1)
            )
            low = mpmath.mpf(0) if x[i] == -1 else low
            high = mpmath.mpf(1) if x[i] == 1 else high
            # the far tail is a difference of numbers near one only here, where there are digits enough
            assert abs(float(mpmath.log(high - low)) - float(got[i])) <= 1e-11 * abs(float(got[i]))


def test_the_weight_of_a_loss_does_not_depend_on_what_the_model_predicts():
    """w · |error of the output|² is one number, whichever output the error belongs to."""
    abar = np.array([0.9, 0.5, 0.01])
    at = {
        "abar_t": abar, "abar_s": np.sqrt(abar), "beta_t": np.array([0.1, 0.2, 0.3]),
        "beta_tilde": np.array([0.05, 0.1, 0.2]), "alpha_t": 1 - np.array([0.1, 0.2, 0.3]),
    }  # fmt: skip
    eps_error = 1.0
    errors = {
        "eps": eps_error, "x_0": eps_error * np.sqrt((1 - abar) / abar), "v": eps_error / np.sqrt(abar),
        "score": eps_error / np.sqrt(1 - abar),
    }  # fmt: skip
    for name in weights.OF_X0:
        values = [weights.weight(Dialect(), at, name, kind) * errors[kind] ** 2 for kind in errors]
        for value in values[1:]:
            assert np.abs(value / values[0] - 1).max() < 1e-12


def test_the_precision_of_data_is_the_one_of_the_joint_law():
    """Gaussian data: the inverse of the Schur complement, the Hessian being minus the precision of x_t."""
    cov = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.5, -0.1], [0.1, -0.1, 0.9]]).double()
    target = chapters.alone(chapters.Guides)()
    for k in (3, 40, 98):
        abar = float(target.abar[k])
        marginal = abar * cov + (1 - abar) * torch.eye(3).double()
        cross = abar**0.5 * cov
        given = cov - cross @ torch.linalg.inv(marginal) @ cross.T
        got = target.posterior_precision(-torch.linalg.inv(marginal)[None], torch.tensor([k]))[0]
        # here the difference keeps |given| of |cov|; there 1 + (1 - abar) H keeps abar of 1
        size = torch.linalg.norm(torch.linalg.inv(given))
        lost = size * torch.linalg.norm(cov) * torch.linalg.cond(marginal) + 1 / abar
        tolerance = 16 * 2.0**-53 * size * lost
        assert (got - torch.linalg.inv(given)).abs().max() <= tolerance


def test_every_convention_of_the_dialect_is_validated_and_documented():
    for name, choices in CHOICES.items():
        assert f"{name}" in str(Dialect.__doc__), name
        for choice in choices:
            assert getattr(Dialect(**{name: choice}), name) == choice
        with pytest.raises(ValueError, match=f"Dialect's {name} must be"):
            Dialect(**{name: "no such choice"})
    for name in ("temperature", "weight_bound", "sigma_data", "latent_scale", "probability_floor"):
        assert name in str(Dialect.__doc__)
        for bad in (0.0, -1.0, math.inf, math.nan):
            with pytest.raises(ValueError, match=f"Dialect's {name} must be positive"):
                Dialect(**{name: bad})


def test_every_port_is_documented():
    for port in PORTS:
        assert f"``{port}(" in str(Target.__doc__).replace("\n", " "), port


def test_a_check_gives_the_same_report_twice():
    def lines(topic: type[Any]) -> list[dict[str, Any]]:
        target = chapters.alone(topic)()
        target.dialect = dialect(**TOPICS[topic])
        found = [result.to_json() for result in check(target).results]
        return [{name: value for name, value in line.items() if name != "seconds"} for line in found]

    for topic in TOPICS:
        assert lines(topic) == lines(topic)
