"""Other libraries as they are installed: what agrees, and what docs/peers.md states of them."""

import inspect
import itertools
import re
import sys
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from refdiff import schedule, score_matching
from refdiff.oracle import Dialect, Report, Target, adapters, check
from refdiff.oracle.adapters.common import Rows, drawing

DOCS = (Path(__file__).parent.parent / "docs" / "peers.md").read_text()
BLOCKS = re.findall(r"^### (.+?)$|^```python\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)
CITED = [
    cited
    for cited in re.findall(r"`(\w+)/([\w/.]+):(\d+)`: `([^`]+)`", DOCS)
    if cited[0] != "flow_matching" or find_spec("flow_matching")
]
# short chains, where nothing else is said
T = 20


def reported(name: str, **options) -> Report:
    return check(adapters.load(name, options))


def named_blocks() -> list[tuple[str, str]]:
    title, found = "", []
    for heading, code in BLOCKS:
        title = heading or title
        # its licence is for non-commercial use only, so the README's commands do not install it
        if code and ("flow_matching" not in code or find_spec("flow_matching")):
            found.append((title, code))
    return found


@pytest.mark.parametrize(("title", "code"), named_blocks(), ids=lambda value: value[:40])
def test_a_finding_is_reproduced_by_hand(title: str, code: str):
    exec(compile(code, title, "exec"), {"__name__": "finding"})


@pytest.mark.parametrize(("package", "path", "line", "words"), CITED, ids=str)
def test_a_cited_line_is_the_installed_one(package: str, path: str, line: str, words: str):
    source = Path(distribution(package).locate_file(f"{package}/{path}")).read_text().splitlines()
    assert words in source[int(line) - 1]


def test_the_versions_are_the_ones_that_are_named():
    for package in ("torchebm", "azula", "score_models"):
        assert f"`{package}` {distribution(package).version}" in DOCS


@pytest.mark.parametrize(
    "name",
    [
        "ScoreMatching",
        "DenoisingScoreMatching",
        "ContrastiveDivergence",
        "LangevinDynamics",
        "DoubleWellModel",
        "GaussianModel",
        "HarmonicModel",
        "RosenbrockModel",
        "AckleyModel",
        "RastriginModel",
        "HimmelblauModel",
        "BoothModel",
        "StyblinskiTangModel",
    ],
)
def test_torchebm_agrees(name: str):
    report = reported(f"torchebm:{name}")
    assert report.ok, str(report)
    assert "dtype=float64 was set here" in str(report)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("LangevinDynamics", {"noise_scale": 0.5}),
        ("LangevinDynamics", {"dtype": "float32"}),
        ("ScoreMatching", {"dtype": "float32"}),
        ("ScoreMatching", {"use_autograd": False}),
        ("DenoisingScoreMatching", {"axes": 3}),
        ("ContrastiveDivergence", {"axes": 3}),
    ],
    ids=str,
)
def test_torchebm_agrees_with_other_settings(name: str, options: dict):
    report = reported(f"torchebm:{name}", **options)
    assert report.ok, str(report)


@pytest.mark.parametrize(
    ("name", "options", "failing", "words"),
    [
        (
            "ScoreMatching",
            {"hessian_method": "approx"},
            "ssm_loss.value",
            "the derivative along v is a mean over the dimensions, the square a sum",
        ),
        ("SlicedScoreMatching", {}, "ssm_loss.value", "the last axis alone is summed"),
        ("SlicedScoreMatching", {"axes": 3}, "ssm_loss.value", "the last axis alone is summed"),
        ("ScoreMatching", {"axes": 3}, "esm_loss.value", "is asked with shape (1, 30)"),
        ("ContrastiveDivergence", {"energy_reg_weight": 0.001}, "contrastive_loss.value", "a regulariser"),
        ("LangevinDynamics", {"clamp": [-1, 1]}, "langevin_sample.affine", "no combination"),
    ],
    ids=str,
)
def test_the_oracle_fails_what_torchebm_has_wrong(name: str, options: dict, failing: str, words: str):
    report = reported(f"torchebm:{name}", **options)
    assert report[failing].status in ("fail", "error"), str(report)
    assert words in str(report[failing]), str(report)


@pytest.mark.parametrize("options", [{}, {"use_autograd": False}, {"n_projections": 3}], ids=str)
def test_torchebms_sliced_loss_is_right_for_data_with_one_axis(options: dict):
    x, v = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def score(x: torch.Tensor) -> torch.Tensor:
        return torch.sin(x) - x.flip(-1)

    target = adapters.load("torchebm:SlicedScoreMatching", options)
    assert torch.allclose(target.ssm_loss(score, x, v), score_matching.sliced_loss(score, x, v))
    wide = [value.reshape(4, 3, 1) for value in (x, v)]
    assert not torch.allclose(target.ssm_loss(torch.sin, *wide), score_matching.sliced_loss(torch.sin, *wide))


SCHEDULES = ("vp", "cosine", "rectified", "decay", "ve")


@pytest.mark.parametrize("curve", SCHEDULES)
@pytest.mark.parametrize("name", ["DDPMSampler", "DDIMSampler"])
def test_azulas_samplers_agree_on_every_schedule(name: str, curve: str):
    report = reported(f"azula:{name}", schedule=curve, T=T)
    assert report.ok, str(report)


@pytest.mark.parametrize("curve", SCHEDULES)
def test_azulas_steps_agree_where_time_0_keeps_noise(curve: str):
    report = reported("azula:DDPMSampler", schedule=curve, sigma_min=0.001, T=T)
    assert report.ok, str(report)
    assert report["ddpm_step.coefficients"].status == "pass"
    assert report["sample.coefficients"].status == "skip" and "time 0 keeps noise" in str(report)


@pytest.mark.parametrize(
    "name",
    [
        "EulerSampler",
        "zABSampler",
        "vABSampler",
        "zEABSampler",
        "xEABSampler",
        "KarrasDenoiser",
        "SimpleDenoiser",
        "CFGDenoiser",
        "VPSchedule",
        "CosineSchedule",
        "RectifiedSchedule",
        "DecaySchedule",
        "VESchedule",
    ],
)
def test_azula_agrees(name: str):
    report = reported(f"azula:{name}", T=T)
    assert report.ok, str(report)


@pytest.mark.parametrize(
    "options",
    [{"eta": 0.5}, {"eta": 1.0}, {"dtype": "float32"}, {"denoiser": "karras", "eta": 0.3}],
    ids=str,
)
def test_azulas_eta_is_a_square_in_any_dtype(options: dict):
    report = reported("azula:DDIMSampler", T=T, **options)
    assert report.ok, str(report)
    target = adapters.load("azula:DDIMSampler", options)
    target.dialect = target.dialect.but(eta="eta")
    assert not check(target, only="ddim_step.variance").ok


BROKEN = [
    # (what, where the adapter finds it, its replacement, the check that fails)
    ("sqrt", "DDPMSampler", "sigma_s * torch.sqrt(tau) *", "sigma_s * tau *", "ddpm_step.coefficients"),
    ("level", "DDIMSampler", "alpha_s * q_t.mean", "alpha_t * q_t.mean", "ddim_step.coefficients"),
    ("sign", "CFGDenoiser", "(q_pos.mean - q_neg.mean)", "(q_neg.mean - q_pos.mean)", "cfg.coefficients"),
    ("weight", "KarrasDenoiser", "** 2 + 1\n", "** 2\n", "loss.value"),
]


@pytest.mark.parametrize(("what", "name", "line", "wrong", "failing"), BROKEN, ids=lambda v: str(v)[:12])
def test_a_broken_azula_fails(what: str, name: str, line: str, wrong: str, failing: str):
    target = adapters.load(f"azula:{name}", {"T": T})
    source = inspect.getsource(target.cls)
    assert line in source
    scope = dict(vars(sys.modules[target.cls.__module__]))
    exec(source.replace(line, wrong), scope)
    # a denoiser is made by name, a sampler and a guide from the class
    held = "denoiser_class" if target.denoiser_class is target.cls else "cls"
    setattr(target, held, scope[name])
    report = check(target, only=failing)
    assert report[failing].status == "fail", (what, str(report))


@pytest.mark.parametrize("name", ["ScoreModel", "sliced_score_matching_loss", "VPSDE"])
def test_score_models_agrees(name: str):
    report = reported(f"score_models:{name}")
    assert report.ok, str(report)


def test_the_oracle_fails_what_score_models_has_wrong():
    report = reported("score_models:EnergyModel")
    assert report["energy_score.gradient"].status == "pass", str(report)
    assert report["dsm_loss.value"].status == "fail"
    assert "the score is never asked" in str(report["dsm_loss.input"])
    assert "the exponent is i / L, not i / (L - 1)" in str(reported("score_models:geometric_series"))


class Tables(Target):
    """Tables as denoising-diffusion-pytorch keeps them: made in float64, rounded, the last beta clipped."""

    dialect = Dialect(schedule=schedule.sigmoid_alpha_bar(100))

    def betas(self) -> torch.Tensor:
        return schedule.sigmoid_alpha_bar(100).beta[1:].float()

    def alphas_cumprod(self) -> torch.Tensor:
        return (1 - schedule.sigmoid_alpha_bar(100).beta[1:]).cumprod(0).float()


class TanhDecoder(Target):
    """The discretised decoder of denoising-diffusion-pytorch, whose probabilities end at 1e-15."""

    dialect = Dialect(normal_cdf="tanh", probability_floor=1e-15)

    def decoder_log_likelihood(self, x: torch.Tensor, mean: torch.Tensor, log_scale: torch.Tensor):
        def cdf(x: torch.Tensor) -> torch.Tensor:
            return 0.5 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))

        above, below = (cdf((x - mean + half) * torch.exp(-log_scale)) for half in (1 / 255, -1 / 255))
        mass = torch.where(x < -0.999, above, torch.where(x > 0.999, 1 - below, above - below))
        return mass.clamp(min=self.floor).log()

    floor = 1e-15


def test_rounded_tables_of_a_clipped_beta_and_a_tanh_decoder_with_a_low_floor_pass():
    assert check(Tables()).ok, str(check(Tables()))
    assert check(TanhDecoder()).ok, str(check(TanhDecoder()))

    class Shifted(Tables):
        def alphas_cumprod(self) -> torch.Tensor:
            return super().alphas_cumprod() * (1 + 2e-5)

    class Raised(TanhDecoder):
        floor = 1e-12

    assert check(Shifted(), only="alphas_cumprod.product").failures
    assert check(Raised(), only="decoder_log_likelihood.tails").failures


class OneAxis(Target):
    """A loss that is right for vectors: the mean over the last axis, summed over the others."""

    dialect = Dialect(schedule=schedule.linear(100))

    def loss(self, model, x0: torch.Tensor, t: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        alpha_bar = self.dialect.schedule.alpha_bar[t].reshape(-1, *[1] * (x0.dim() - 1))
        x_t = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise
        return self.reduced((model(x_t, t) - noise).square())

    def reduced(self, square: torch.Tensor) -> torch.Tensor:
        return square.mean(-1).reshape(len(square), -1).sum(1)


def test_a_loss_is_judged_on_data_with_several_axes():
    class AllAxes(OneAxis):
        def reduced(self, square: torch.Tensor) -> torch.Tensor:
            return square.flatten(1).mean(1)

    assert check(AllAxes(), only="loss").ok
    found = check(OneAxis(), only="loss")["loss.value"]
    assert found.status == "fail"
    assert "data with 3 axes" in str(found)
    assert "a mean over the last axis, a sum over the others" in str(found)


class Conjugate:
    """x ~ N(m, S), y = A x + N(0, v): E[x | x_t] and E[x | x_t, y] in closed form."""

    def __init__(self, numbers: int):
        from azula.noise import VPSchedule

        draw = torch.Generator().manual_seed(numbers)
        root, self.m, self.x = (
            torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in ((3, 3), (3,), (4, 3))
        )
        self.A = torch.randn(numbers, 3, generator=draw, dtype=torch.float64)
        self.y = torch.randn(4, numbers, generator=draw, dtype=torch.float64)
        self.S, self.v = root @ root.T + torch.eye(3, dtype=torch.float64), 0.3
        self.schedule, self.t = VPSchedule(), torch.tensor(0.4, dtype=torch.float64)

    def mean(self, x: torch.Tensor, observed: bool) -> torch.Tensor:
        alpha, sigma = self.schedule(self.t)
        precision = torch.linalg.inv(self.S) + (alpha / sigma) ** 2 * torch.eye(3, dtype=torch.float64)
        right = torch.linalg.solve(self.S, self.m) + alpha / sigma**2 * x
        if observed:
            precision = precision + self.A.T @ self.A / self.v
            right = right + self.y @ self.A / self.v
        return torch.linalg.solve(precision, right.T).T

    def denoiser(self):
        from azula.denoise import Denoiser, DiracPosterior

        outer = self

        class Exact(Denoiser):
            schedule = outer.schedule

            def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> DiracPosterior:
                return DiracPosterior(outer.mean(x_t, False))

        return Exact()

    def error(self, denoiser) -> float:
        return float((denoiser(self.x, self.t).mean - self.mean(self.x, True)).abs().max())


def test_azulas_gaussian_denoiser_is_the_posterior_mean():
    from azula.denoise import GaussianDenoiser
    from azula.linalg.covariance import FullCovariance

    at = Conjugate(2)
    values, axes = torch.linalg.eigh(at.S)
    denoiser = GaussianDenoiser(at.m, FullCovariance(axes, values), at.schedule)
    assert (denoiser(at.x, at.t).mean - at.mean(at.x, False)).abs().max() < 1e-12


def test_azulas_moment_matching_is_exact_after_as_many_iterations_as_numbers_are_observed():
    from azula.guidance.jfps import JFPSDenoiser
    from azula.guidance.mmps import MMPSDenoiser
    from azula.linalg.covariance import FullCovariance, IsotropicCovariance

    at = Conjugate(2)
    values, axes = torch.linalg.eigh(at.S)
    noise = IsotropicCovariance(torch.tensor(at.v, dtype=torch.float64))

    def forward(x: torch.Tensor) -> torch.Tensor:
        return x @ at.A.T

    for iterations in (1, 2):
        moments = MMPSDenoiser(at.denoiser(), at.y, forward, noise, iterations=iterations)
        free = JFPSDenoiser(
            at.denoiser(), at.y, forward, noise, FullCovariance(axes, values), iterations=iterations
        )
        for denoiser in (moments, free):
            assert at.error(denoiser) > 0.01 if iterations == 1 else at.error(denoiser) < 1e-12


def test_azulas_projected_moments_are_exact_for_one_number():
    from azula.guidance.tmpd import TMPDenoiser

    for numbers, exact in ((1, True), (2, False)):
        at = Conjugate(numbers)
        error = at.error(TMPDenoiser(at.denoiser(), at.y, lambda x, A=at.A: x @ A.T, at.v))
        assert error < 1e-12 if exact else error > 0.01


def test_azulas_solvers_have_their_order():
    from azula import sample

    scope: dict = {"__name__": "finding"}
    exec(next(code for title, code in named_blocks() if "Rosenbrock" in title), scope)
    for cls in (sample.zABSampler, sample.vABSampler, sample.zEABSampler, sample.xEABSampler):
        for asked in (1, 2, 3):
            assert abs(scope["order"](cls, 64, asked) - asked) < 0.25, (cls, asked)


def test_torchebms_signs_give_the_exact_loss_in_the_mean():
    from torchebm.core import StyblinskiTangModel
    from torchebm.losses import ScoreMatching, SlicedScoreMatching

    x = torch.tensor([[0.3, -1.1, 0.7]], dtype=torch.float64)
    model = StyblinskiTangModel(dtype=x.dtype)
    loss = SlicedScoreMatching(model, n_projections=1, dtype=x.dtype)
    values = []
    for signs in itertools.product((-1.0, 1.0), repeat=3):
        with drawing(torch.tensor(signs)):
            values.append(loss(x))
    want = ScoreMatching(model, dtype=x.dtype)(x)
    assert abs(torch.stack(values).mean() - want) < 1e-12
    assert abs(values[0] - want) > 0.1


def test_rows_are_asked_one_at_a_time_and_the_last_question_is_the_whole_batch():
    asked = []

    def function(x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        asked.append((x.clone(), label.clone()))
        return 2 * x

    x = torch.arange(6.0).reshape(3, 2)
    rows = Rows(function, torch.zeros_like(x))
    for i in range(3):
        assert torch.equal(rows.row(i)(x[i : i + 1], torch.tensor([i + 5.0])), 2 * x[i : i + 1])
    assert torch.equal(asked[-1][0], x) and asked[-1][1].tolist() == [5.0, 6.0, 7.0]


@pytest.mark.parametrize("library", ["torchebm", "azula", "score_models"])
def test_a_library_that_is_not_installed_is_named(library: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"refdiff.oracle.adapters.{library}", raising=False)
    with pytest.raises(ValueError, match=f"{library} is not installed; pip install"):
        adapters.load(f"{library}:Anything", {})


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("torchebm:NoSuchLoss", {}, "torchebm class must be one of ScoreMatching"),
        ("torchebm:ScoreMatching", {"hesian_method": "exact"}, "did you mean hessian_method"),
        ("torchebm:SlicedScoreMatching", {"projection_type": "sphere"}, "projection_type must be gaussian"),
        ("torchebm:LangevinDynamics", {"dtype": "float16"}, "dtype must be one of float32, float64"),
        ("azula:NoSuchSampler", {}, "azula class must be one of DDPMSampler"),
        ("azula:DDIMSampler", {"schedule": "linear"}, "schedule must be one of vp"),
        ("azula:DDIMSampler", {"etta": 1}, "did you mean eta"),
        ("score_models:VESDE", {}, "score_models name must be one of ScoreModel"),
        ("score_models:VPSDE", {"beta_mim": 0.1}, "did you mean beta_min"),
    ],
)
def test_what_is_not_known_is_named(name: str, options: dict, words: str):
    with pytest.raises(ValueError, match=words):
        adapters.load(name, options)
