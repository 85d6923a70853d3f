"""The oracle: for every check a correct target that it passes and a mutant that it fails; and the report."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import refdiff
from refdiff import ddim, ddpm
from refdiff.oracle import Dialect, Target, check, formulas, law, parametrize_with_checks, points
from refdiff.oracle.checks import CHECKS
from refdiff.oracle.expected import expected
from refdiff.oracle.target import offered
from refdiff.schedule import cosine, linear
from tests.zoo.base import Ancestral, Textbook, dialect, rows
from tests.zoo.chapters import Chains, Energies, Guides, Likelihoods, Losses, Ranges, Transitions, Weights

T = 60
BETAS = linear(T, 1e-3, 0.1).beta[1:]


class Right(Energies, Chains, Losses, Likelihoods, Transitions, Weights, Ranges, Guides, Textbook):
    """The zoo's textbook on a short chain, with the further chapters beside it."""

    T = T
    dialect = dialect(schedule=BETAS, weighting="min_snr", denoiser_range="[0, 1]")

    def make_betas(self) -> np.ndarray:
        return BETAS.numpy()

    def sigmas(self) -> np.ndarray:
        return np.sqrt((1 - self.abar) / self.abar)


class ZeroSNR(Right):
    """No signal is left at T."""

    dialect = dialect(schedule=torch.cat([BETAS[:-1], torch.ones(1).double()]))

    def make_betas(self) -> np.ndarray:
        return np.append(BETAS[:-1], 1.0)


def mutant(base: type[Target] = Right, **methods: Any) -> type[Target]:
    return type("Mutant", (base,), methods)


def changed(port: str, change: Callable[[Any], Any]) -> type[Target]:
    """The right target, the answer of one port changed."""
    right = getattr(Right, port)
    return mutant(**{port: lambda self, *args: change(right(self, *args))})


def first_of_pair(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda pair: (change(pair[0]), pair[1])


AFFINE = tuple(formulas.PORTS)
PAIR = ("q_posterior",)


def on_tensor(port: str, change: Callable[[Any], Any]) -> type[Target]:
    return changed(port, first_of_pair(change) if port in PAIR else change)


def changes_its_input(port: str) -> type[Target]:
    right = getattr(Right, port)

    def method(self: Any, *args: Any) -> Any:
        answer = right(self, *args)
        next(a for a in args if isinstance(a, torch.Tensor) and a.is_floating_point()).detach().add_(1)
        return answer

    return mutant(**{port: method})


def draws(port: str) -> type[Target]:
    return on_tensor(port, lambda x: x + 0 * torch.randn_like(x) + 0 * torch.randn_like(x))


def worse_in_float32(port: str) -> type[Target]:
    def change(x: torch.Tensor) -> torch.Tensor:
        return x.half().float() if x.dtype == torch.float32 else x

    right = getattr(Right, port)

    def method(self: Any, *args: Any) -> Any:
        answer = right(self, *args)
        single = any(isinstance(a, torch.Tensor) and a.dtype == torch.float32 for a in args)
        value = answer[0] if port in PAIR else answer
        value = value.half().to(value.dtype) if single else value
        return (value, answer[1]) if port in PAIR else value

    return mutant(**{port: method})


# checks of further ports have their mutants beside the targets that offer them
OWN = {id for id, one in CHECKS.items() if set(one.needs) <= set(offered(Right))}
VALUES = tuple(id.partition(".")[0] for id in CHECKS if id.endswith(".batch_independence") and id in OWN)
VALUES = tuple(port for port in VALUES if {f"{port}.value", f"{port}.shape"} <= OWN)
ENERGIES = ("energy", "energy_score")
# a table of the schedule enters, which may be in float32
OF_TABLES = (
    "prior_kl", "loss_weight", "classifier_guided_mean", "step_log_likelihood", "posterior_precision",
)  # fmt: skip
CHAINS = ("langevin_sample", "annealed_langevin")


def of_chains(name: str, change: Callable[[Any], Callable[..., Any]]) -> dict[str, type[Target]]:
    """For both chains: the right one, made by ``change`` into another function of (score, arguments)."""
    return {f"{port}.{name}": mutant(**{port: change(getattr(Right, port))}) for port in CHAINS}


def decoder(change: Callable[[Any, Any, Any], Any]) -> type[Target]:
    """The right target, its decoder another function of (x, mean, scale)."""
    return mutant(decoder_log_likelihood=lambda self, x, mean, log_scale: change(x, mean, log_scale.exp()))


def closed(x: Any, mean: Any, scale: Any) -> Any:
    normal = torch.distributions.Normal(mean, scale)
    return (normal.cdf(x + 1 / 255) - normal.cdf(x - 1 / 255)).clamp(min=1e-300).log()


def gaussian(x: Any, mean: Any, sigma: Any) -> Any:
    return (-0.5 * ((x - mean) / sigma) ** 2 - sigma.log() - 0.5 * np.log(2 * np.pi)).flatten(1).sum(1)


def with_louder_score(right: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, s, *rest: right(self, lambda *args: 1.01 * s(*args), *rest)


MUTANTS: dict[str, type[Target]] = {
    **{f"{port}.value": changed(port, lambda x: x * (1 + 1e-9)) for port in VALUES},
    **{f"{port}.shape": changed(port, lambda x: x.sum()) for port in VALUES},
    **{f"{port}.batch_independence": changed(port, lambda x: x + 1e-3 * len(x)) for port in VALUES},
    **{f"{port}.inputs_unchanged": changes_its_input(port) for port in VALUES},
    "dsm_loss.input": mutant(dsm_loss=lambda self, s, x, *rest: Right.dsm_loss(self, s, 2 * x, *rest)),
    "smld_loss.input": mutant(
        smld_loss=lambda self, s, sigmas, x, index, z: Right.smld_loss(
            self, lambda x, i: s(x, i + 1), sigmas, x, index, z
        )
    ),
    **{f"{port}.value": changed(port, lambda x: x * (1 + 1e-3)) for port in OF_TABLES},
    **{f"{port}.inputs_unchanged": changes_its_input(port) for port in (*ENERGIES, *CHAINS)},
    **{f"{port}.shape": changed(port, lambda x: x.mean(0)) for port in ENERGIES},
    **{f"{port}.batch_independence": changed(port, lambda x: x / len(x)) for port in ENERGIES},
    "energy_score.gradient": changed("energy_score", lambda x: -x),
    "loss_weight.inputs_unchanged": mutant(
        loss_weight=lambda self, t: Right.loss_weight(self, t.clone()) + 0 * t.sub_(1)
    ),
    "score_from_denoiser.input": mutant(
        score_from_denoiser=lambda self, D, *rest: Right.score_from_denoiser(
            self, lambda x, s: D(x, 2 * s), *rest
        )
    ),
    "classifier_guided_mean.point": mutant(
        classifier_guided_mean=lambda self, x, t, eps, g, scale: Right.classifier_guided_mean(
            self, x, t, eps, lambda x, t: g(2 * x, t), scale
        )
    ),
    "step_log_likelihood.deterministic": mutant(
        step_log_likelihood=lambda self, x, *args: gaussian(x, *self.step_moments(*args))
    ),
    "noise_scales.count": changed("noise_scales", lambda x: x[1:]),
    "noise_scales.values": changed("noise_scales", lambda x: x**2),
    "langevin_sample.step_count": mutant(
        langevin_sample=lambda self, s, x, h, n: Right.langevin_sample(self, s, x, h, n - 1)
    ),
    "annealed_langevin.levels": mutant(
        annealed_langevin=lambda self, s, *rest: Right.annealed_langevin(
            self, lambda x, i: s(x, i + 1), *rest
        )
    ),
    **of_chains("coefficients", with_louder_score),
    **of_chains("exact_law", with_louder_score),
    **of_chains("affine", lambda right: lambda self, *args: right(self, *args) + 1),
    **of_chains("noise_count", lambda right: lambda self, *args: right(self, *args) + torch.randn(1, 2)),
    "langevin_sample.start": mutant(
        langevin_sample=lambda self, s, x, *rest: Right.langevin_sample(self, s, torch.randn_like(x), *rest)
    ),
    "annealed_langevin.start": mutant(
        annealed_langevin=lambda self, s, sigmas, x, *rest: Right.annealed_langevin(
            self, s, sigmas, sigmas[0] * x, *rest
        )
    ),
    "decoder_log_likelihood.sums_to_one": decoder(closed),
    "decoder_log_likelihood.tails": changed("decoder_log_likelihood", lambda x: x.clamp(min=np.log(1e-12))),
    "vlb.value": changed("vlb", lambda x: x / 3),
    "vlb.shape": changed("vlb", lambda x: x.mean()),
    "vlb.levels": mutant(
        vlb=lambda self, model, x0, z: Right.vlb(self, lambda x, t: model(x, t.clamp(min=1)), x0, z)
    ),
    "vlb.inputs_unchanged": changes_its_input("vlb"),
    **{f"{port}.coefficients": on_tensor(port, lambda x: x * (1 + 1e-9)) for port in AFFINE},
    **{f"{port}.noise_count": draws(port) for port in AFFINE},
    **{f"{port}.linearity": on_tensor(port, lambda x: x.clamp(-1, 1)) for port in AFFINE},
    **{
        f"{port}.batch_independence": on_tensor(port, lambda x: x * (1 + 1e-3 * (len(x) % 7)))
        for port in AFFINE
    },
    **{f"{port}.inputs_unchanged": changes_its_input(port) for port in AFFINE},
    **{f"{port}.dtype": on_tensor(port, lambda x: x.half()) for port in AFFINE},
    **{f"{port}.dtype_ladder": worse_in_float32(port) for port in AFFINE},
    "betas.count": changed("betas", lambda x: x[:-1]),
    "betas.range": changed("betas", lambda x: np.append(x[:-1], 1.5)),
    "betas.values": changed("betas", lambda x: x * (1 + 1e-9)),
    "alphas_cumprod.count": changed("alphas_cumprod", lambda x: np.append(1.0, x)),
    "alphas_cumprod.range": changed("alphas_cumprod", lambda x: x[::-1].copy()),
    "alphas_cumprod.values": changed("alphas_cumprod", np.sqrt),
    "alphas_cumprod.product": changed("alphas_cumprod", lambda x: np.append(1.0, x[:-1])),
    "sigmas.values": changed("sigmas", np.square),
    "sigmas.monotone": changed("sigmas", lambda x: np.append(x[0], x)),
    "timesteps.count": changed("timesteps", lambda x: x[1:]),
    "timesteps.monotone": changed("timesteps", lambda x: x[::-1]),
    "timesteps.range": changed("timesteps", lambda x: [k + T for k in x[:-1]] + [-1]),
    "timesteps.last": changed("timesteps", lambda x: [*x[:-1], 0]),
    "timesteps.first": mutant(dialect=dialect(schedule=BETAS, spacing="trailing")),
    "timesteps.spacing": changed("timesteps", lambda x: [k // 4 for k in x[:-1]] + [-1]),
    "q_posterior.variance": changed("q_posterior", lambda pair: (pair[0], pair[1].sqrt())),
    "ddpm_step.last_step_noise": mutant(
        mask=lambda self, x, t: 1.0, step_std=lambda self, x, t: self.at(self.beta, t, x) ** 0.5
    ),
    "ddpm_step.variance": mutant(step_std=lambda self, x, t: self.at(self.var, t, x)),
    "ddim_step.variance": mutant(ddim_sigma=lambda self, a, b, eta: eta * (1 - b) / (1 - a) * (1 - a / b)),
    "ddim_step.last_step_noise": mutant(
        level=lambda self, k, x: self.at(np.append(self.abar[0], self.abar), torch.as_tensor(k) + 1, x)
    ),
    "ddim_step.to_data": mutant(
        level=lambda self, k, x: self.at(np.append(self.abar[0], self.abar), torch.as_tensor(k) + 1, x)
    ),
    **{f"{port}.zero_snr": ZeroSNR for port in ("predict_x0", "ddpm_step", "ddim_step")},
    "guided_mean.guidance": mutant(
        guided_mean=lambda self, x, t, eps, grad, scale: self.step_mean(x, t, eps)
    ),
    "loss.reduction": changed("loss", lambda x: x.mean()),
    "loss.value": changed("loss", torch.sqrt),
    "loss.input": mutant(
        loss=lambda self, model, x0, t, noise: ((model(x0, t) - noise) ** 2).flatten(1).mean(1)
    ),
    "loss.batch_independence": changed("loss", lambda x: x.mean().expand(len(x))),
    "vlb_term.reduction": changed("vlb_term", lambda x: x.sum()),
    "vlb_term.value": changed("vlb_term", lambda x: x / np.log(2)),
    "vlb_term.input": mutant(
        vlb_term=lambda self, model, x0, t, noise: Right.vlb_term(
            self, model, x0, torch.full_like(t, 5), noise
        )
    ),
    "vlb_term.batch_independence": changed("vlb_term", lambda x: x.nan_to_num().mean().expand(len(x))),
    "sample.step_count": mutant(
        sample=lambda self, model, x, n: Right.sample(self, model, x, n + 1 if n < T else n)
    ),
    "sample.levels": mutant(
        sample=lambda self, model, x, n: Right.sample(
            self, lambda x, t: model(x, torch.zeros_like(t) + 3), x, n
        )
    ),
    "sample.start": mutant(sample=lambda self, model, x, n: Right.sample(self, model, 2 * x, n)),
    "sample.noise_count": mutant(
        sample=lambda self, model, x, n: Right.sample(self, model, x, n) + torch.randn(1, x.shape[1])
    ),
    "sample.inputs_unchanged": mutant(
        sample=lambda self, model, x, n: Right.sample(self, model, x.clone(), n) + 0 * x.mul_(2)
    ),
    "sample.affine": mutant(
        sample=lambda self, model, x, n: Right.sample(self, model, x, n).clamp(-0.1, 0.1)
    ),
    "sample.coefficients": mutant(
        sample=lambda self, model, x, n: Right.sample(self, lambda x, t: 1.01 * model(x, t), x, n)
    ),
    "sample.level_continuity": mutant(
        ddim_step=lambda self, x, t, s, *rest: Right.ddim_step(self, x, t, (s - 1).clamp(min=-1), *rest)
    ),
    "sample.last_step_noise": mutant(
        sample=lambda self, model, x, n: Right.sample(self, model, x, n) + 0.1 * torch.randn_like(x)
    ),
    "sample.exact_law": mutant(
        sample=lambda self, model, x, n: Right.sample(self, lambda x, t: 1.01 * model(x, t), x, n)
    ),
    "cross.eta_one_is_ddpm": changed("ddpm_step", lambda x: 1.001 * x),
    "cross.round_trip": changed("predict_eps", lambda x: -x),
    "cross.q_sample_predict_x0": changed("q_sample", lambda x: 1.001 * x),
    "cross.inversion": changed("ddim_invert", lambda x: 1.001 * x),
    "cross.posterior_is_ddpm_mean": changed("ddpm_step", lambda x: 1.001 * x),
}


@pytest.fixture(scope="module")
def right() -> Any:
    return check(Right())


def test_every_check_has_a_mutant():
    assert set(MUTANTS) == OWN


@pytest.mark.parametrize("id", sorted(OWN))
def test_a_check_passes_the_right_target_and_fails_a_mutant(id: str, right: Any):
    assert right[id].status in ("pass", "skip"), str(right[id])
    if right[id].status == "skip":
        assert right[id].message
    result = check(MUTANTS[id](), only=id).results[0]
    assert result.status in ("fail", "error"), str(result)
    assert result.diagnosis is not None


@pytest.mark.parametrize("schedule", [linear(40, 1e-3, 0.1), cosine(1000)], ids=["linear", "cosine"])
def test_expected_coefficients_are_those_of_the_reference(schedule: refdiff.schedule.Schedule):
    table = points.tables(schedule)
    pairs = points.crossed(points.pairs(schedule.T), "eta", (0.0, 0.5, 1.0))
    t, s = torch.as_tensor(pairs.t), torch.as_tensor(pairs.s)
    want = expected(formulas.PORTS["ddim_step"], Dialect(), table, pairs)
    for index, eta in enumerate(pairs.scalars["eta"]):
        got = ddim.step_coefficients(schedule, int(t[index]), int(s[index]), float(eta))
        for row, value in enumerate((got.x_t, got.eps, got.noise)):
            slack = 1e-12 * float(want.local[row, index])
            assert abs(float(value) - float(want.values[row, index])) <= slack
    near = points.neighbours(schedule.T)
    for kind in ("beta_tilde", "beta"):
        want = expected(formulas.PORTS["ddpm_step"], Dialect(variance=kind), table, near)
        for index in range(len(near)):
            if near.t[index] == 1:
                continue
            one = ddpm.step_coefficients(schedule, int(near.t[index]), variance=kind)
            for row, value in enumerate((one.x_t, one.eps, one.noise)):
                slack = 1e-12 * float(want.local[row, index])
                assert abs(float(value) - float(want.values[row, index])) <= slack


@pytest.mark.parametrize("name", AFFINE)
def test_all_ways_of_writing_a_formula_are_one(name: str):
    port = formulas.PORTS[name]
    near = points.pairs(T) if port.two_levels else points.neighbours(T)
    for scalar in port.scalars:
        near = points.crossed(near, scalar, (0.3,))
    table = points.tables(Right.dialect.reference())
    for spoken in (
        Dialect(),
        Dialect(space="ve"),
        Dialect(parameterization="v"),
        Dialect(parameterization="score"),
    ):
        programs = formulas.programs(port, spoken)
        states = tuple(port.states[a][0] for a in port.arguments if a in port.states)
        values = [formulas.run(formulas.compiled(p), points.scalars(table, near), states) for p in programs]
        for value in values[1:]:
            assert np.abs(value - values[0]).max() <= 1e-9 * np.abs(values[0]).max()


def test_a_systematic_error_of_1e_9_is_no_rounding():
    report = check(on_tensor("q_sample", lambda x: x * (1 + 1e-9))(), only="q_sample.coefficients")
    assert report.results[0].diagnosis.family == "precision"
    assert "systematic" in report.results[0].diagnosis.message


def test_float32_tables_pass_and_are_named():
    class Single(Right):
        def make_abar(self) -> np.ndarray:
            return np.cumprod((1 - self.beta).astype(np.float32)).astype(np.float64)

    report = check(Single(), only=["q_sample", "ddim_step", "alphas_cumprod"])
    assert report.ok, str(report)
    assert report["alphas_cumprod.values"].precision == "float32 tables"
    assert report["q_sample.coefficients"].precision == "float32 tables"
    declared = check(
        mutant(Single, dialect=dialect(schedule=BETAS, tables="float64"))(), only="alphas_cumprod.values"
    )
    assert declared.results[0].diagnosis.family == "precision"


def test_the_wrong_form_is_named_in_words():
    class Bare(Right):
        def ddpm_step(self, x_t: Any, t: Any, eps: Any, noise: Any) -> Any:
            return self.step_mean(x_t, t, eps) + self.mask(x_t, t) * self.at(self.var, t, x_t) * noise

    found = check(Bare(), only="ddpm_step.coefficients").results[0].diagnosis
    assert found.family == "sqrt" and "root is missing" in found.message
    assert found.digits > 9


def test_an_undeclared_convention_names_a_dialect_that_makes_it_pass():
    class Large(Right):
        def step_std(self, x_t: Any, t: Any) -> Any:
            return self.at(self.beta, t, x_t).sqrt()

        guided_mean = None
        vlb_term = None
        vlb = None
        classifier_guided_mean = None

    report = check(Large())
    found = report["ddpm_step.coefficients"].diagnosis
    assert found.family == "convention"
    Large.dialect = found.dialect
    assert check(Large()).ok


def test_a_convention_that_one_port_alone_follows_is_a_mistake():
    wide = changed("q_sample", lambda x: x)

    def q_sample(self: Any, x0: Any, t: Any, noise: Any) -> Any:
        abar = self.at(self.abar, t, x0)
        return x0 + ((1 - abar) / abar).sqrt() * noise

    wide.q_sample = q_sample
    report = check(wide())
    assert report["q_sample.coefficients"].diagnosis.family == "parameterization"


def test_one_wrong_table_is_one_finding():
    class OtherSchedule(Right):
        def make_betas(self) -> np.ndarray:
            return cosine(T).beta[1:].numpy()

    report = check(OtherSchedule(), only=["betas.values", "ddim_step.coefficients", "q_sample.coefficients"])
    assert [result.id for result in report.failures] == ["betas.values"]
    assert "cosine" in report.failures[0].diagnosis.message
    assert "own" in report["ddim_step.coefficients"].message


def test_a_stochastic_sampler_is_known_exactly_from_its_own_draws():
    class Chain(Ancestral):
        T = T
        dialect = dialect(schedule=BETAS, sampler="ddpm")
        make_betas = Right.make_betas

    report = check(Chain(), only="sample")
    assert report.ok, str(report)
    line = report["sample.exact_law"]
    assert line.error < 1e-11 and "ancestral" in line.message

    class Louder(Chain):
        def strided_std(self, abar_t: Any, abar_s: Any) -> Any:
            return super().strided_std(abar_t, abar_s) * (1 + 1e-6)

    assert not check(Louder(), only="sample.exact_law").ok


def test_a_target_that_draws_its_own_noise_is_measured_like_one_that_takes_it():
    class Draws(Right):
        def q_sample(self, x0: Any, t: Any, noise: Any) -> Any:
            return super().q_sample(x0, t, torch.randn_like(x0))

    report = check(Draws(), only="q_sample")
    assert report.ok, str(report)
    assert "draw of its own" in report["q_sample.noise_count"].message


def test_numpy_targets_draw_from_the_tape():
    class InNumPy(Target):
        dialect = Dialect(schedule=BETAS, backend="numpy")

        def __init__(self) -> None:
            self.rng = np.random.default_rng()
            self.abar = np.cumprod(1 - BETAS.numpy())

        def q_sample(self, x0: Any, t: Any, noise: Any) -> Any:
            abar = self.abar[t - 1].reshape(-1, *[1] * (x0.ndim - 1))
            return np.sqrt(abar) * x0 + np.sqrt(1 - abar) * self.rng.standard_normal(x0.shape)

    report = check(InNumPy())
    assert report.ok, str(report)


def test_only_picks_and_xfails_are_counted():
    wrong = changed("q_sample", lambda x: -x)
    report = check(
        wrong(), only=["q_sample.*"], xfails={"q_sample.coefficients": "known", "q_sample.dtype": "never"}
    )
    assert report.ok
    assert report["q_sample.coefficients"].status == "xfail"
    assert report["q_sample.dtype"].status == "xpass"
    with pytest.raises(ValueError, match="no_such_check"):
        check(wrong(), only="no_such_check")


def test_a_report_is_json_with_a_summary_of_counts(right: Any):
    data = json.loads(json.dumps(right.to_json()))
    assert data["summary"]["pass"] == right.summary["pass"] > 50
    assert (
        sum(data["summary"][status] for status in right.summary)
        == len(data["results"])
        == data["summary"]["checks"]
    )
    wrong = check(changed("betas", lambda x: x**2)(), only="betas")
    text = str(wrong)
    assert "FAIL" in text and "betas.values" in text and "[" in text and "wanted" in text
    assert not wrong.ok and wrong.families


def test_a_dialect_says_what_is_not_known():
    with pytest.raises(ValueError, match="backend"):
        Dialect(backend="abacus")
    with pytest.raises(ValueError, match="schedule"):
        Dialect(schedule="no such schedule").reference()
    assert repr(Dialect(index_origin=0, eta="eta_squared")) == "Dialect(index_origin=0, eta='eta_squared')"


def test_offering_nothing_is_a_report_of_skips():
    report = check(Target())
    assert not report.ok
    assert str(report).endswith("NOT ok: nothing was checked")
    assert {result.status for result in report.results} == {"skip"}


class AddsNoise(Target):
    """One port, right."""

    dialect = Dialect(schedule=BETAS)

    def q_sample(self, x0: Any, t: Any, noise: Any) -> Any:
        abar = rows(Right().abar[t - 1], x0)
        return abar.sqrt() * x0 + (1 - abar).sqrt() * noise


@parametrize_with_checks([AddsNoise])
def test_lines_of_a_report_are_pytest_cases(line: Any):
    assert line().status == "pass"


def test_a_line_that_fails_raises_and_an_expected_failure_is_strict():
    wrong = mutant(AddsNoise, q_sample=lambda self, x0, t, noise: x0 + noise)
    marked = parametrize_with_checks([wrong], {"*.coefficients": "known"})
    found = {case.values[0].id: case for case in marked.args[1]}
    with pytest.raises(AssertionError, match=r"q_sample\.coefficients"):
        found["q_sample.coefficients"].values[0]()
    (mark,) = found["q_sample.coefficients"].marks
    assert mark.name == "xfail" and mark.kwargs == {"reason": "known", "strict": True}
    assert not found["q_sample.dtype"].marks


def test_the_numbers_that_are_fed_to_a_sampler_are_all_different():
    fed = [
        law.generic(1, law.ROWS),
        *(f(n) for f in (law.generic_noise, law.generic_push) for n in range(200)),
    ]
    matrix = torch.stack([value.reshape(-1) for value in fed])
    matrix = matrix / matrix.norm(dim=1, keepdim=True)
    alike = (matrix @ matrix.mT).fill_diagonal_(0).abs().max()
    assert alike < 0.99


def test_the_dialect_that_most_failures_name_is_said_once_at_the_end():
    class Undeclared(Textbook):
        dialect = Textbook.dialect.but(index_origin=1)

    report = check(Undeclared(), only=["q_sample", "predict_x0.coefficients", "velocity.coefficients"])
    assert report.suggested is not None
    dialect, count = report.suggested
    assert "index_origin=0" in dialect and count >= 3
    assert str(report).splitlines()[-2] == (
        f"try first: {dialect}, which {count} of {len(report.failures)} failures name"
    )
    assert report.to_json()["suggested"] == dialect
    assert check(Textbook(), only="q_sample").suggested is None
