"""Continuous time and flows of other libraries as they are installed: what docs/peers.md states of them."""

import math
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from refdiff import flow
from refdiff.oracle import Report, adapters, check
from refdiff.oracle.adapters.common import drawing

DOCS = (Path(__file__).parent.parent / "docs" / "peers.md").read_text()
VE, VP = "diffusers:ScoreSdeVeScheduler", "diffusers:ScoreSdeVpScheduler"
EULER = "diffusers:FlowMatchEulerDiscreteScheduler"
OPTIMAL = "torchcfm:ExactOptimalTransportConditionalFlowMatcher"
ITO, PC = "azula:ItoSampler", "azula:PCSampler"
SHORT = {"num_train_timesteps": 50}
# its licence is for non-commercial use only, so the README's commands leave it to whoever may install it
FLOW_MATCHING = find_spec("flow_matching") is not None
LEVELS = ("time_shift", "flow_levels", "flow_path", "flow_step")


def installed(rows: list) -> list:
    return [row for row in rows if FLOW_MATCHING or not row[0].startswith("flow_matching:")]


def reported(name: str, options: dict) -> Report:
    # as a solver the scheduler of flows is asked elsewhere
    return check(adapters.load(name, options), only=LEVELS if name == EULER else None)


AGREES = [
    (VE, SHORT, 17),
    (VE, SHORT | {"sigma_min": 0.02, "sigma_max": 50.0}, 17),
    (VP, SHORT, 8),
    (VP, SHORT | {"beta_max": 10.0}, 8),
    (EULER, {}, 11),
    (EULER, {"num_train_timesteps": 500}, 11),
    (EULER, {"use_dynamic_shifting": True}, 11),
    (EULER, {"use_dynamic_shifting": True, "time_shift_type": "linear"}, 11),
    (EULER, {"shift": 2.0}, 3),
    (EULER, {"use_dynamic_shifting": True, "shift_terminal": 0.1}, 1),
    ("torchcfm:ConditionalFlowMatcher", {}, 8),
    ("torchcfm:TargetConditionalFlowMatcher", {}, 8),
    ("torchcfm:TargetConditionalFlowMatcher", {"sigma": 0.1}, 8),
    ("torchcfm:VariancePreservingConditionalFlowMatcher", {}, 8),
    (OPTIMAL, {}, 9),
    ("flow_matching:CondOTScheduler", {}, 12),
    ("flow_matching:PolynomialConvexScheduler", {"n": 3.0}, 12),
    ("flow_matching:PolynomialConvexScheduler", {}, 12),
    ("flow_matching:VPScheduler", {"beta_max": 10.0}, 12),
    ("flow_matching:LinearVPScheduler", {}, 12),
    ("flow_matching:CosineScheduler", {}, 12),
    ("flow_matching:ODESolver", {"method": "midpoint"}, 4),
    (ITO, {}, 6),
    (ITO, {"eta": 0.5}, 6),
    (PC, {}, 9),
]


@pytest.mark.parametrize(("name", "options", "checks"), installed(AGREES), ids=str)
def test_a_process_agrees(name: str, options: dict, checks: int):
    report = reported(name, options)
    assert report.ok, str(report)
    assert sum(result.status == "pass" for result in report.results) == checks, str(report)


def test_the_ito_sampler_is_a_known_solver():
    assert "the steps are those of sde_dpm_1" in str(check(adapters.load(ITO, {}), only="solve.coefficients"))
    assert "DDIM" in str(check(adapters.load(ITO, {"eta": 0.0}), only="solve.coefficients"))


WRONG = [
    (EULER, {"invert_sigmas": True}, "flow_path.coefficients", "time_direction is 'noise', not 'data'"),
    (OPTIMAL, {"replace": True}, "flow_coupling.optimal", "is not the one that was given"),
    (PC, {"delta": 0.5}, "solve.gaussian", "order -0.1"),
]


@pytest.mark.parametrize(("name", "options", "failing", "words"), WRONG, ids=str)
def test_the_oracle_fails_what_does_not_agree(name: str, options: dict, failing: str, words: str):
    report = check(adapters.load(name, options), only=failing)
    assert report[failing].status == "fail", str(report)
    assert words in str(report), str(report)


# a package that has one mistake is failed through the same adapter
BROKEN = [
    (VE, "sde_step", lambda made: lambda x, t, s, score, noise: made(x, t, s, -score, noise)),
    (VP, "sde_step", lambda made: lambda x, t, s, score, noise: made(x, s, s, score, noise)),
    (EULER, "time_shift", lambda made: lambda t, shift: made(t, 1 / shift)),
    (OPTIMAL, "flow_coupling", lambda made: lambda x0, noise: (x0, noise)),
    ("flow_matching:VPScheduler", "flow_velocity", lambda made: lambda x0, e, t: -made(x0, e, t)),
]


@pytest.mark.parametrize(
    ("name", "port", "wrong"), installed(BROKEN), ids=lambda value: getattr(value, "__name__", value)
)
def test_a_broken_one_is_failed(name: str, port: str, wrong):
    target = adapters.load(name, SHORT if name in (VE, VP) else {})
    setattr(target, port, wrong(getattr(target, port)))
    assert check(target, only=port).failures


def test_the_smallest_shifted_level_is_named():
    report = check(adapters.load(EULER, {}), only="flow_levels.values")
    assert "equally spaced from 1 to 0.00299401" in DOCS.replace("\n", " ")
    assert "from 1 to 0.00299401, and 0" in str(report)


def test_a_stretched_list_ends_at_its_level_and_is_affine_in_the_list_before():
    from diffusers import FlowMatchEulerDiscreteScheduler

    lists = []
    for options in ({}, {"shift_terminal": 0.1}):
        scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, **options)
        scheduler.set_timesteps(8, mu=1.0)
        lists.append(scheduler.sigmas[:-1].double())
    before, after = lists
    assert abs(after[-1] - 0.1) < 1e-6
    assert torch.allclose((1 - after) / 0.9, (1 - before) / (1 - before[-1]), atol=1e-6)


def test_a_list_that_has_no_formula_is_not_offered():
    for option in ("use_karras_sigmas", "use_exponential_sigmas", "shift_terminal"):
        target = adapters.load(EULER, {option: 0.1 if option == "shift_terminal" else True})
        assert not hasattr(target, "flow_levels") and not hasattr(target, "time_shift")
        assert any("no formula" in note for note in target.notes)


def test_the_exploding_scheduler_visits_each_level_once_where_its_first_time_is_small():
    from diffusers import ScoreSdeVeScheduler

    for first, count, last in ((1e-5, 2000, 0), (1e-2, 1981, 19)):
        scheduler = ScoreSdeVeScheduler(sampling_eps=first)
        levels = (scheduler.timesteps * torch.ones(1) * 1999).long().tolist()
        assert len(set(levels)) == count and levels[-1] == last


def test_the_preserving_scheduler_walks_one_over_n_whatever_its_list():
    scheduler = adapters.load(VP, {"num_train_timesteps": 10}).scheduler()
    times = scheduler.timesteps
    assert torch.allclose(times[:-1] - times[1:], torch.tensor(0.999 / 9))
    one = torch.ones(1, 1)
    mean = scheduler.step_pred(0 * one, one, times[:1])[1]
    assert torch.allclose(mean, 1 + 20 * one / 10 / 2)


def test_pairs_with_replacement_are_those_of_the_best_assignment():
    target = adapters.load(OPTIMAL, {"replace": True})
    draw = torch.Generator().manual_seed(4)
    x0, noise = torch.randn(2, 6, 2, generator=draw, dtype=torch.float64)
    data, paired = target.flow_coupling(x0, noise)
    best = adapters.load(OPTIMAL, {}).flow_coupling(x0, noise)
    wanted = {tuple(row.tolist()) for row in torch.cat(best, 1)}
    assert {tuple(row.tolist()) for row in torch.cat([data, paired], 1)} <= wanted


def test_torchcfms_bridge_is_the_brownian_one():
    from refdiff.oracle.adapters.torchcfm import package

    bridge = package().SchrodingerBridgeConditionalFlowMatcher(0.7)
    draw = torch.Generator().manual_seed(5)
    x0, x1, eps = torch.randn(3, 4, 2, generator=draw, dtype=torch.float64)
    t = torch.tensor([0.1, 0.3, 0.5, 0.9], dtype=torch.float64)
    x = bridge.sample_xt(x0, x1, t, eps)
    assert torch.allclose(x, flow.bridge(x0, x1, t, eps, 0.7), atol=1e-14)
    velocity = bridge.compute_conditional_flow(x0, x1, t, x)
    assert torch.allclose(velocity, flow.bridge_velocity(x0, x1, t, x), atol=1e-6)
    # the path's own derivative at a fixed noise, by a difference
    ahead, behind = (bridge.sample_xt(x0, x1, t + h, eps) for h in (1e-6, -1e-6))
    assert torch.allclose(velocity, (ahead - behind) / 2e-6, atol=1e-6)
    weight = 2 * bridge.compute_sigma_t(t) / 0.7**2
    assert torch.allclose(bridge.compute_lambda(t), weight, rtol=1e-7)


if FLOW_MATCHING:

    @pytest.mark.parametrize("name", ["CondOT", "VP", "LinearVP", "Cosine"])
    def test_the_conversions_of_flow_matching_agree(name: str):
        from flow_matching.path import AffineProbPath, scheduler

        path = AffineProbPath(getattr(scheduler, f"{name}Scheduler")())
        draw = torch.Generator().manual_seed(6)
        data, noise = torch.randn(2, 4, 1, generator=draw, dtype=torch.float64)
        t = torch.tensor([[0.1], [0.3], [0.6], [0.9]], dtype=torch.float64)
        sample = path.sample(noise, data, t[:, 0])
        x, v = sample.x_t, sample.dx_t
        for got, want in (
            (path.target_to_velocity(data, x, t), v),
            (path.epsilon_to_velocity(noise, x, t), v),
            (path.velocity_to_target(v, x, t), data),
            (path.velocity_to_epsilon(v, x, t), noise),
            (path.epsilon_to_target(noise, x, t), data),
            (path.target_to_epsilon(data, x, t), noise),
        ):
            assert torch.allclose(got, want, rtol=1e-9, atol=1e-9)
        ahead, behind = (path.sample(noise, data, t[:, 0] + h).x_t for h in (1e-6, -1e-6))
        assert torch.allclose(v, (ahead - behind) / 2e-6, atol=1e-6)

    def test_the_conversions_spread_times_along_the_last_axis():
        from flow_matching.path import CondOTProbPath

        path, t = CondOTProbPath(), torch.tensor([0.25, 0.75])
        sample = path.sample(torch.ones(2, 2), torch.zeros(2, 2), t)
        wanted = path.velocity_to_target(sample.dx_t, sample.x_t, t[:, None])
        assert torch.allclose(wanted, torch.zeros(2, 2))
        assert path.velocity_to_target(sample.dx_t, sample.x_t, t).abs().max() > 0.4

    def test_a_transformed_model_is_exact_between_the_ends():
        from flow_matching.path import scheduler

        def velocity(of):
            def at(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
                one = of(t)
                slope = 4 * one.alpha_t * one.d_alpha_t + one.sigma_t * one.d_sigma_t
                return slope / (4 * one.alpha_t**2 + one.sigma_t**2) * x

            return at

        kinds = [getattr(scheduler, f"{name}Scheduler")() for name in ("CondOT", "VP", "LinearVP", "Cosine")]
        x, r = torch.ones(1, 1, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
        for old in kinds:
            for new in kinds:
                moved = scheduler.ScheduleTransformedModel(velocity(old), old, new)
                assert torch.allclose(moved(x, r), velocity(new)(x, r), rtol=1e-9)


def normal(variance: float):
    from azula import denoise, noise

    class Normal(denoise.Denoiser):
        schedule = noise.VPSchedule()

        def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> denoise.DiracPosterior:
            alpha, sigma = self.schedule(t)
            return denoise.DiracPosterior(variance * alpha * x_t / (variance * alpha**2 + sigma**2))

    return Normal()


def test_the_last_step_of_the_ito_sampler_adds_noise():
    from azula import sample

    for cls, least, most in ((sample.ItoSampler, 0.10, 0.13), (sample.DDPMSampler, 0.0005, 0.0015)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            sampler = cls(normal(0.0), silent=True)
            assert least < float(sampler(sampler.init((2000,))).std()) < most
    assert "deviation of 0.11" in DOCS


def test_azulas_corrector_does_not_keep_the_law():
    from azula import sample

    denoiser, t = normal(9.0), torch.tensor(0.3, dtype=torch.float64)
    alpha, sigma = denoiser.schedule(t)
    w = float(sigma**2 / (9 * alpha**2 + sigma**2))
    for delta in (0.01, 0.5):
        step = sample.PCSampler(denoiser, delta=delta, silent=True)
        one, none = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
        with drawing(none[0]):
            kept = float(step.step(one, t, t))
        with drawing(one[0]):
            added = float(step.step(none, t, t))
        stationary = added**2 / (1 - kept**2) * w / float(sigma**2)
        c = 1 - math.sqrt(1 - delta)
        assert abs(stationary - delta / (delta + c**2 * (1 - w))) < 1e-9
        assert abs(stationary - (1 - delta * (1 - w) / 4)) < delta**2 / 4
        assert stationary < 1 - 0.2 * delta * (1 - w)


def test_the_versions_are_the_ones_that_are_named():
    for package in ("torchcfm", *["flow_matching"] * FLOW_MATCHING):
        assert f"`{package}` {version(package)}" in DOCS


@pytest.mark.parametrize(
    ("name", "options", "words"),
    installed([
        (VE, {"sigma_mim": 0.1}, "did you mean sigma_min"),
        (VP, {"beta_mim": 0.1}, "did you mean beta_min"),
        (EULER, {"shft": 2.0}, "did you mean shift"),
        (ITO, {"etta": 2.0}, "did you mean eta"),
        ("torchcfm:NoSuchMatcher", {}, "torchcfm class must be one of ConditionalFlowMatcher"),
        ("torchcfm:ConditionalFlowMatcher", {"sigma": 0.1}, "sigma must be 0"),
        ("torchcfm:ConditionalFlowMatcher", {"sgma": 0.1}, "did you mean sigma"),
        ("flow_matching:NoSuchScheduler", {}, "flow_matching class must be one of CondOTScheduler"),
        ("flow_matching:VPScheduler", {"beta_mim": 0.1}, "did you mean beta_min"),
        ("flow_matching:ODESolver", {"method": "dopri5"}, "method must be one of euler"),
    ]),
)  # fmt: skip
def test_what_is_not_known_is_named(name: str, options: dict, words: str):
    with pytest.raises(ValueError, match=words):
        adapters.load(name, options)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "flow_matching.path", None)
    monkeypatch.delitem(sys.modules, "refdiff.oracle.adapters.flow_matching", raising=False)
    with pytest.raises(ValueError, match="flow_matching is not installed; pip install"):
        adapters.load("flow_matching:Anything", {})
    from refdiff.oracle.adapters import torchcfm

    monkeypatch.setattr(torchcfm, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="torchcfm is not installed; pip install"):
        torchcfm.package.__wrapped__()
