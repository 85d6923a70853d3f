"""The oracle in continuous time: what is right passes in every convention, and what is said is exact."""

from __future__ import annotations

import itertools
import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from refdiff import process
from refdiff.oracle import Dialect, Target, check
from refdiff.oracle.checks import CHECKS, forms, ode_likelihood, plans, sde_samplers
from refdiff.oracle.continuum import NAMES, at, process_of, sensitivity
from refdiff.oracle.session import Session
from refdiff.oracle.target import CHOICES, offered
from tests.zoo.continuous import (
    TOPICS,
    Chain,
    Consistency,
    Flow,
    Kernel,
    Likelihood,
    Matching,
    Steps,
    Variational,
    rows,
)
from tests.zoo.mutants import MUTANTS
from tests.zoo.time_conventions import TIME_CONVENTIONS
from tests.zoo.time_hostile import TIME_HOSTILE
from tests.zoo.time_known import KNOWN as ALL_KNOWN
from tests.zoo.time_own import MORE_TIME
from tests.zoo.time_reference import TIME_REFERENCE


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.__name__)
def test_what_the_mutants_are_made_from_passes(topic: type[Target], dtype: str):
    target = topic()
    target.dialect = target.dialect.but(dtype=dtype)
    report = check(target)
    assert report.ok, str(report)


@pytest.mark.parametrize("id", TIME_CONVENTIONS)
def test_a_convention_is_never_a_failure(id: str):
    target = TIME_CONVENTIONS[id]()
    for dtype in {"float32", target.dialect.dtype}:
        target.dialect = target.dialect.but(dtype=dtype)
        report = check(target)
        assert report.ok, str(report)


@pytest.mark.parametrize("target", TIME_REFERENCE, ids=lambda target: target.name)
def test_the_reference_passes(target: type[Target]):
    report = check(target)
    assert report.ok, str(report)


# what says which arrays there are, or a number that is fitted to nothing
UNNAMED = {"backend", "batched_t", "dtype", "process", "sigma_data", "sigma_min", "gamma_ends"}
UNNAMED |= {"first_time", "vdm_steps"}


def declared(dialect: Dialect) -> dict[str, Any]:
    """The conventions that a dialect declares and that can be told."""
    default = Dialect()
    names = [one.name for one in fields(Dialect) if one.name not in UNNAMED]
    spoken = {name: getattr(dialect, name) for name in names}
    return {name: value for name, value in spoken.items() if value != getattr(default, name)}


@pytest.mark.parametrize("id", [id for id in TIME_CONVENTIONS if declared(TIME_CONVENTIONS[id].dialect)])
def test_an_undeclared_convention_is_a_finding_that_names_the_dialect(id: str):
    target = TIME_CONVENTIONS[id]()
    told = 0
    whole = target.dialect
    for name, value in declared(whole).items():
        target.dialect = whole.but(**{name: getattr(Dialect(), name)})
        report = check(target)
        named = [result.diagnosis.dialect for result in report.failures if result.diagnosis is not None]
        right = [getattr(dialect, name) == value for dialect in named if dialect is not None]
        assert not report.failures or any(right), f"{name}: {report}"
        told += bool(report.failures)
    assert told, "none of the declared conventions is seen"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch):
    """A shorter limit, so that a target which never answers does not hold up the tests."""
    monkeypatch.setattr("refdiff.oracle.calls.LIMIT", 0.5)


@pytest.mark.parametrize("id", TIME_HOSTILE)
def test_a_hostile_target_yields_lines_that_say_what_is_wrong(id: str, hasty: None):
    cls, port, bystander, says = TIME_HOSTILE[id]
    report = check(cls())
    lines = [str(result) for result in report.failures if result.id.partition(".")[0] == port]
    assert lines and says in "\n".join(lines), str(report)
    assert bystander in {result.id.partition(".")[0] for result in report.results if result.status == "pass"}
    assert report.to_json()["ok"] is False


def test_mutants_of_continuous_time_are_among_all_mutants():
    everyone = {mutant.id for mutant in MUTANTS}
    assert {mutant.id for mutant in MORE_TIME} <= everyone
    assert {"SCH-11", "SGN-12", "PRC-11", "DSC-18", "LIK-03", "STA-03"} <= {one.id for one in ALL_KNOWN}


def test_a_report_is_the_same_twice():
    def lines() -> list[dict[str, Any]]:
        found = [result.to_json() for result in check(Steps()).results]
        return [{name: value for name, value in line.items() if name != "seconds"} for line in found]

    assert lines() == lines()


def test_the_kernel_is_judged_without_a_formula():
    """A process that no dialect names passes by quadrature; a millionth in one rate does not."""

    class Odd(Target):
        """log scale = -t - t³/5, std² = scale² (e^{3t} - 1)."""

        off = 0.0

        def scale(self, t):
            return (-t - t**3 / 5).exp()

        def marginal(self, t):
            return self.scale(t), self.scale(t) * torch.expm1(3 * t).sqrt()

        def drift(self, x, t):
            return -rows(1 + 3 * t**2 / 5, x) * x

        def diffusion(self, t):
            return self.scale(t) * (3 * (3 * t).exp()).sqrt() * (1 + self.off)

    class Off(Odd):
        off = 1e-6

    assert check(Odd(), only="diffusion.kernel").ok
    found = check(Off(), only="diffusion.kernel")
    assert not found.ok and found.families == ("discretization",)


def test_the_law_of_the_sampler_is_the_one_that_moments_follow():
    """The basis run against the recursion for mean and covariance, with the score of Gaussian data."""
    target = Steps()
    session = Session(target, target.dialect)
    count = 16
    (mean, cov), (true_mean, true_cov), bent = sde_samplers._moments(session, count)
    one = process.VP()
    times = np.linspace(0.75, 0.0625, count + 1)
    scale, var = float(one.scale(0.75)), float(one.variance(0.75))
    m, C = scale * plans.MEAN, scale**2 * plans.COV + var * np.eye(plans.D)
    for t, s in itertools.pairwise(times):
        a, v = float(one.scale(t)), float(one.variance(t))
        f, g2, h = float(one.drift(t)), float(one.diffusion_squared(t)), t - s
        precision = np.linalg.inv(a**2 * plans.COV + v * np.eye(plans.D))
        M = (1 - f * h) * np.eye(plans.D) - g2 * h * precision
        m, C = M @ m + g2 * h * precision @ (a * plans.MEAN), M @ C @ M.T + g2 * h * np.eye(plans.D)
    # a bound on the matrices' norms, a step's arithmetic and the number of steps
    tolerance = 64 * count * 2.0**-53 * np.abs(C).max() * plans.D
    assert np.abs(mean - m).max() <= tolerance and np.abs(cov - C).max() <= tolerance
    assert bent <= tolerance
    last = float(one.scale(0.0625)), float(one.variance(0.0625))
    assert np.allclose(true_cov, last[0] ** 2 * plans.COV + last[1] * np.eye(plans.D))
    assert np.allclose(true_mean, last[0] * plans.MEAN)


def test_probes_along_the_axes_have_the_trace_for_their_mean():
    matrix = torch.linspace(-1, 2, 9, dtype=torch.float64).reshape(3, 3)
    probes = 3**0.5 * torch.eye(3, dtype=torch.float64)
    estimates = torch.einsum("bi,ij,bj->b", probes, matrix, probes)
    assert abs(float(estimates.mean() - matrix.trace())) <= 16 * 2.0**-53 * float(matrix.abs().sum())


def test_the_likelihood_of_the_flow_is_that_of_its_last_state_pulled_back():
    """Against the density of the Gaussian that the flow carries the prior to."""
    one = process.VP()
    found = ode_likelihood.parts(one, 0.0)
    growth = 1 / (float(one.scale(1.0)) ** 2 * ode_likelihood.VARIANCE + float(one.variance(1.0)))
    # the prior has no mean and the variance of the noise: back at 0 it is a Gaussian of these moments
    variance = ode_likelihood.VARIANCE * growth * float(one.variance(1.0))
    mean = ode_likelihood.MEAN - float(one.scale(1.0)) * ode_likelihood.MEAN * np.sqrt(
        ode_likelihood.VARIANCE * growth
    )
    gap = ode_likelihood.X - mean
    want = -0.5 * (gap**2 / variance + np.log(2 * math.pi * variance)).sum(1)
    got = found.prior + found.trace
    assert np.abs(got - want).max() <= 64 * 2.0**-53 * (1 + np.abs(want).max())


def test_a_likelihood_off_by_more_than_its_integrator_may_be_is_a_finding():
    class Off(Likelihood):
        marginal = model_time = drift = diffusion = reverse_drift = pf_ode_drift = None
        more = 0.02

        def ode_log_likelihood(self, score_fn, x):
            return Likelihood.ode_log_likelihood(self, score_fn, x) + self.more

    class Near(Off):
        more = 0.002

    assert not check(Off(), only="ode_log_likelihood").ok
    assert check(Near(), only="ode_log_likelihood").ok


@pytest.mark.parametrize("name", NAMES)
def test_the_symbols_of_a_process_satisfy_its_equations(name: str):
    """f and g² by difference quotients of the kernel, of fourth order."""
    one = NAMES[name]
    t, h = np.linspace(0.1, 0.85, 9) * one.end, 1e-3 * one.end
    here = at(one, t)

    def slope(read: Any) -> Any:
        far, near = (read(at(one, t + k * h)) - read(at(one, t - k * h)) for k in (2, 1))
        return (8 * near - far) / (12 * h)

    close = {"rtol": 1e-7, "atol": 1e-7 / one.end}
    assert np.allclose(slope(lambda o: np.log(o.scale)), here.f, **close)
    assert np.allclose(slope(lambda o: o.var), here.g2 + 2 * here.f * here.var, **close)
    assert np.allclose(slope(lambda o: o.scale), here.dscale, **close)
    assert np.allclose(slope(lambda o: o.std), here.dstd, **close)


def test_the_tolerance_of_a_coefficient_holds_its_rounding():
    """1 - scale² in float64 at small times: what it loses is in the sensitivity, and not much more is."""
    one = process.VP()
    t = np.array([2.0**-12, 2.0**-6, 0.5])
    here = at(one, t)
    units = sensitivity(one, lambda o: o.std[None], here)[0]
    scale = np.exp(np.asarray(one.log_scale(torch.as_tensor(t))))
    plain = np.sqrt(1 - scale**2)
    assert (np.abs(plain - here.std) <= 16 * 2.0**-53 * units).all()
    assert units[-1] < 40 * here.std[-1]


def test_every_form_has_wrong_forms_that_it_tells_from_the_right_one():
    for port, form in forms.FORMS.items():
        session = Session(Kernel(), Dialect())
        here = forms.points(session, form)
        want = forms.coefficients(form, here, Dialect())
        assert np.isfinite(want).all(), port
        wrong = list(forms.finite(forms.guesses(session, form, here)))
        assert len(wrong) > 10, port
        assert sum(bool((np.abs(guess - want) > 1e-9 * np.abs(want)).any()) for _, guess in wrong) > 10, port


def test_a_process_is_a_name_a_process_or_a_path():
    assert process_of(Dialect(process=process.VE(0.1, 3.0))).sigma_max == 3.0
    assert process_of(Dialect(), "straight") is NAMES["straight"]
    report = check(type("Odd", (Kernel,), {"dialect": Dialect(process="odd")}), only="marginal")
    assert "Dialect's process must be a Process, a Path or one of vp" in str(report)
    for bad in ({"gamma_ends": (1.0, 0.0)}, {"first_time": -1.0}, {"vdm_steps": 0}, {"time_scale": 0.0}):
        (name,) = bad
        with pytest.raises(ValueError, match=f"Dialect's {name} must"):
            Dialect(**bad)
    assert repr(Dialect(process=process.EDM(), gamma_ends=(-1.0, 2.0))).count("EDM(end=80.0)") == 1


def test_conventions_of_time_are_among_the_choices():
    for name in ("time_direction", "prediction", "predictor", "grid", "shift", "gamma", "consistency"):
        assert name in CHOICES


class Everything(Steps, Chain, Matching, Likelihood, Flow, Consistency, Variational):
    """All right ports of continuous time: the straight path for flows, rates for the rest."""

    dialect = Dialect()

    def sde_invert(self, x, s, t, score, noise):
        raise ValueError("a reverse step has no inverse")


def changed(port: str, change: Any) -> type[Target]:
    """The right target, the answer of one port changed."""
    right = getattr(Everything, port)
    return broken(port, lambda self, *args: change(right(self, *args)))


def broken(port: str, method: Any) -> type[Target]:
    return type("Broken", (Everything,), {port: method})


def spoils(port: str) -> type[Target]:
    """The right answer, an argument changed."""
    right = getattr(Everything, port)

    def method(self: Any, *args: Any) -> Any:
        answer = right(self, *args)
        next(one for one in args if isinstance(one, torch.Tensor) and one.is_floating_point()).add_(1)
        return answer

    return broken(port, method)


def pairs(change: Any) -> Any:
    """The change of a tensor, or of the first one of two."""
    return lambda value: (change(value[0]), *value[1:]) if isinstance(value, tuple) else change(value)


OWN = [id for id, one in CHECKS.items() if set(one.needs) <= set(offered(Everything)) - {"loss"}]
GENERIC = {
    "coefficients": lambda x: x * (1 + 1e-9),
    "values": lambda x: x * (1 + 1e-4),
    "value": lambda x: x * (1 + 1e-2),
    "shape": lambda x: x.sum(),
    "affine": torch.tanh,
    "batch_independence": lambda x: x * (1 + 1e-2 * len(x)),
    "times": None, "asks": None, "inputs_unchanged": None,
}  # fmt: skip


def at_other_times(port: str) -> type[Target]:
    right = getattr(Everything, port)
    return broken(port, lambda self, fn, *args: right(self, lambda x, t: fn(x, 0.9 * t), *args))


SPECIAL: dict[str, type[Target]] = {
    "sde_invert.finite": broken("sde_invert", lambda self, x, *args: x * torch.nan),
    "diffusion.kernel": changed("diffusion", lambda g: 2 * g),
    "pf_ode_drift.halfway": changed("pf_ode_drift", lambda x: x / 2),
    "corrector_step_size.batch": type("Alone", (Everything,), {"dialect": Dialect(corrector_norm="batch")}),
    "sde_sample.noise_count": changed("sde_sample", lambda x: x + torch.randn(1, 3)),
    "predictor_corrector.noise_count": changed("predictor_corrector", lambda x: x + torch.randn(1, 3)),
    "sde_sample.law": changed("sde_sample", lambda x: 1.5 * x),
    "flow_levels.labels": changed("flow_levels", lambda pair: (pair[0], pair[0][1:])),
    "flow_sample.straight": changed("flow_sample", lambda x: 1.001 * x),
    "flow_coupling.optimal": changed("flow_coupling", lambda pair: (pair[0], pair[1].flip(0))),
    "consistency_function.boundary": changed("consistency_function", lambda x: 1.001 * x),
}


def mutant_of(id: str) -> type[Target]:
    port, _, law = id.partition(".")
    if id in SPECIAL:
        return SPECIAL[id]
    if law == "inputs_unchanged":
        return spoils(port)
    if law in ("times", "asks"):
        return at_other_times(port)
    return changed(port, pairs(GENERIC[law]))


@pytest.fixture(scope="module")
def right() -> Any:
    return check(Everything())


@pytest.mark.parametrize("id", OWN)
def test_a_check_passes_the_right_target_and_fails_a_mutant(id: str, right: Any):
    assert right[id].status in ("pass", "skip"), str(right[id])
    result = check(mutant_of(id)(), only=id).results[0]
    assert result.status in ("fail", "error"), str(result)
    assert result.diagnosis is not None
