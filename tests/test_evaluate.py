"""The least loss is exact, the excess is what is above it, and the test of two samples keeps its rates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import pytest
import sympy
import torch
from torch import Tensor

import derivations
from refdiff import datasets, ddim, ddpm, evaluate, parameterization, schedule
from refdiff.data import Empirical, GaussianLaw, MixtureLaw, PointMass
from refdiff.evaluate import Estimate

REGISTRY = derivations.registry()
LINEAR = schedule.linear()
MIXTURE = datasets.mixture_law()
LEVELS = (1, 10, 50, 200, 500, 1000)
BANDWIDTHS = (0.25, 0.5, 1.0)
FAR = 4.5
"""Standard errors: a right estimate is beyond with probability 7e-6."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def value(identifier: str, decoy: str | None = None, **values: float) -> float:
    """A formula of the registry, or one of its decoys, as a number."""
    node = REGISTRY[identifier]
    expression = node.rhs if decoy is None else next(d.rhs for d in node.decoys if d.id == decoy)
    names = {symbol: values[symbol.name] for symbol in expression.free_symbols}
    return float(sympy.sympify(expression).evalf(30, subs=names))


def near(estimate: Estimate, exact: float) -> bool:
    return abs(estimate.value - exact) <= FAR * estimate.error


def level(t: int) -> tuple[float, float]:
    return evaluate.levels_of(LINEAR, [t])[0]


def numbers(t: int, variance: float) -> dict[str, float]:
    return {
        "abar_t": float(LINEAR.alpha_bar[t]),
        "abar_prev": float(LINEAR.alpha_bar[t - 1]),
        "abar_s": float(LINEAR.alpha_bar[t // 2]),
        "alpha_t": 1 - float(LINEAR.beta[t]),
        "data_variance": variance,
    }


COVARIANCE = torch.tensor([[1.25, 0.75], [0.75, 1.25]], dtype=torch.float64)
"""Of variances 2 and ½ along the diagonals."""
PLANE = GaussianLaw(torch.tensor([3.0, -1.0], dtype=torch.float64), COVARIANCE)


@pytest.mark.parametrize("t", LEVELS)
def test_the_least_loss_of_a_gaussian_is_the_proved_formula(t: int) -> None:
    exact = [value("ddpm.loss_simple_minimum", **numbers(t, variance)) for variance in (0.5, 2.0)]
    found = evaluate.least_loss(PLANE, *level(t), reduction="sum")
    assert found.error == 0
    assert found.value == pytest.approx(sum(exact), rel=1e-12)
    assert evaluate.least_loss(PLANE, *level(t)).value == pytest.approx(sum(exact) / 2, rel=1e-12)
    for decoy in REGISTRY["ddpm.loss_simple_minimum"].decoys:
        if not (t == 1 and decoy.id == "bar-missing"):  # at the first step α is ᾱ
            wrong = [value("ddpm.loss_simple_minimum", decoy.id, **numbers(t, v)) for v in (0.5, 2.0)]
            assert found.value != pytest.approx(sum(wrong), rel=1e-6)


@pytest.mark.parametrize("t", LEVELS)
@pytest.mark.parametrize("prediction", ["x_0", "v"])
def test_the_losses_of_other_predictions_follow_from_the_proved_converters(prediction: str, t: int) -> None:
    name: evaluate.Prediction = "x_0" if prediction == "x_0" else "v"
    # the prediction is affine in the noise at a fixed x_t: the square of the slope is the factor
    _, slope = parameterization.coefficients(LINEAR, t, "eps", name)
    eps, other = (evaluate.least_loss(PLANE, *level(t), prediction=of) for of in ("eps", name))  # type: ignore[arg-type]
    assert other.value == pytest.approx(float(slope) ** 2 * eps.value, rel=1e-12)
    assert other.value != pytest.approx(abs(float(slope)) * eps.value, rel=1e-5)


@pytest.mark.parametrize("t", LEVELS)
@pytest.mark.parametrize("prediction", ["eps", "x_0", "v"])
def test_the_least_loss_of_a_mixture_is_what_the_perfect_network_leaves(prediction: str, t: int) -> None:
    name: evaluate.Prediction = prediction  # type: ignore[assignment]
    exact = evaluate.least_loss(MIXTURE, *level(t), prediction=name)
    sampled = evaluate.sampled_least_loss(MIXTURE, *level(t), 20000, seeded(t), prediction=name)
    assert exact.error <= 1e-6 * exact.value
    assert near(sampled, exact.value)
    # the Gaussian of the same covariance leaves more at every level, as the best affine prediction does
    weight, means = MIXTURE.weights, MIXTURE.means - MIXTURE.weights @ MIXTURE.means
    spread = torch.einsum("k,kij->ij", weight, MIXTURE.covs + means[:, :, None] * means[:, None])
    affine = evaluate.least_loss(GaussianLaw(means[0], (spread + spread.T) / 2), *level(t), prediction=name)
    assert affine.value > exact.value
    if t == 200:  # where modes overlap, so that wrong forms are far apart
        assert not near(sampled, affine.value)
        parts = [GaussianLaw(m, c) for m, c in zip(MIXTURE.means, MIXTURE.covs, strict=True)]
        within = [evaluate.least_loss(part, *level(t), prediction=name).value for part in parts]
        assert not near(sampled, float(weight @ torch.tensor(within, dtype=torch.float64)))


def test_the_least_loss_on_a_line_is_an_integral_over_the_line() -> None:
    law = MixtureLaw(
        weights=torch.tensor([0.25, 0.75], dtype=torch.float64),
        means=torch.tensor([[-1.0], [1.0]], dtype=torch.float64),
        covs=torch.tensor([[[0.04]], [[0.25]]], dtype=torch.float64),
    )
    scale, std = 0.8, 0.6
    x = torch.linspace(-9, 9, 200001, dtype=torch.float64)[:, None]
    at = law.at(scale, std)
    mass = at.log_prob(x).exp() * (x[1] - x[0])
    # E‖ε‖² − E‖ε*‖², which is the least loss by the variance of a projection
    exact = 1 - float(mass @ at.eps(x).square().squeeze(1))
    assert evaluate.least_loss(law, scale, std, tolerance=1e-9).value == pytest.approx(exact, rel=1e-8)


def test_two_atoms_leave_what_a_sample_of_them_says() -> None:
    law = Empirical(torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
    exact = evaluate.least_loss(law, 0.6, 0.8, "x_0")
    assert near(evaluate.sampled_least_loss(law, 0.6, 0.8, 20000, seeded(), "x_0"), exact.value)
    assert evaluate.least_loss(PointMass(torch.ones(5, dtype=torch.float64)), 0.6, 0.8).value == 0


def test_what_has_no_quadrature_is_refused_and_can_be_sampled() -> None:
    points = torch.randn(7, 3, generator=seeded(), dtype=torch.float64)
    with pytest.raises(ValueError, match="law must have one component or at most 2 dimensions"):
        evaluate.least_loss(Empirical(points), 0.8, 0.6)
    found = evaluate.sampled_least_loss(Empirical(points), 0.8, 0.6, 1000, seeded())
    assert 0 < found.value < 1 and 0 < found.error < 0.1
    for count, most in ((3, 512), (400, 20)):
        atoms = Empirical(torch.randn(count, 2, generator=seeded(), dtype=torch.float64))
        with pytest.raises(ValueError, match=f"tolerance must be reached with {most} nodes"):
            evaluate.least_loss(atoms, 1.0, 0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 0.0}, "scale must lie"),
        ({"std": 0.0}, "std must lie"),
        ({"std": math.nan}, "std must lie"),
        ({"prediction": "score"}, "prediction must be one of"),
        ({"reduction": "max"}, "reduction must be one of"),
        ({"tolerance": 0.0}, "tolerance must lie"),
    ],
    ids=lambda found: "-".join(found) if isinstance(found, dict) else "",
)
def test_bad_arguments_of_the_least_loss_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate.least_loss(**{"law": MIXTURE, "scale": 0.8, "std": 0.6} | arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("t", LEVELS)
def test_the_excess_of_an_affine_prediction_is_the_proved_loss_without_its_minimum(t: int) -> None:
    law = GaussianLaw(torch.tensor([0.5], dtype=torch.float64), torch.tensor([[2.0]], dtype=torch.float64))
    gain, intercept = 0.625, -0.25
    given = numbers(t, 2.0) | {"data_mean": 0.5, "gain": gain, "intercept": intercept}
    loss, least = value("ddpm.loss_simple", **given), value("ddpm.loss_simple_minimum", **given)

    def model(x: Tensor, scale: Tensor, std: Tensor) -> Tensor:
        return gain * x + intercept

    (row,) = evaluate.excess_by_level(model, law, [level(t)], 20000, seeded(t), dtype=torch.float64)
    assert near(row.loss, loss)
    assert near(row.excess, loss - least)
    if t < 1000:  # where next to nothing is left to the perfect network
        assert not near(row.excess, loss)


def test_the_loss_above_the_least_loss_is_the_excess() -> None:
    def model(x: Tensor, scale: Tensor, std: Tensor) -> Tensor:
        """No perfect network: it takes another level for the one that it is told."""
        return MIXTURE.at(scale, 1.25 * std + 0.125).eps(x)

    levels = evaluate.levels_of(LINEAR, [20, 100, 300, 600])
    rows = evaluate.excess_by_level(model, MIXTURE, levels, 40000, seeded(), dtype=torch.float64)
    for row in rows:
        above = row.loss.value - evaluate.least_loss(MIXTURE, row.scale, row.std).value
        # the difference of two means over the same samples is no further off than both together
        assert abs(above - row.excess.value) <= FAR * (row.loss.error + row.excess.error)
        assert row.excess.value > 10 * row.excess.error
        assert abs(row.loss.value - row.excess.value) > FAR * (row.loss.error + row.excess.error)


def test_at_one_point_the_loss_splits_as_the_formula_says() -> None:
    low, high, scale, std, x = -1.0, 2.0, 0.75, 0.5, 0.4375
    law = Empirical(torch.tensor([[low], [high]], dtype=torch.float64))
    at, point = law.at(scale, std), torch.tensor([[x]], dtype=torch.float64)
    noises = [(x - scale * place) / std for place in (low, high)]
    masses = [math.exp(-noise * noise / 2) for noise in noises]
    first = masses[0] / sum(masses)
    for guess in (0.3, float(at.eps(point))):
        loss = first * (noises[0] - guess) ** 2 + (1 - first) * (noises[1] - guess) ** 2
        given = {"component_velocity_0": noises[0], "component_velocity_1": noises[1], "velocity_hat": guess}
        assert loss == pytest.approx(value("flow.loss_split", weight=first, **given), rel=1e-12)
        left = value("flow.loss_split", weight=first, **(given | {"velocity_hat": float(at.eps(point))}))
        assert loss - left == pytest.approx((guess - float(at.eps(point))) ** 2, rel=1e-9, abs=1e-12)


def test_the_perfect_network_has_no_excess_and_is_asked_in_its_own_shape_and_dtype() -> None:
    law = Empirical(torch.randn(20, 4, generator=seeded(), dtype=torch.float64))
    seen = []

    def perfect(x: Tensor, scale: Tensor, std: Tensor) -> Tensor:
        seen.append((tuple(x.shape[1:]), x.dtype))
        return law.at(scale, std).eps(x)

    rows = evaluate.excess_by_level(perfect, law, [(0.8, 0.6)], 100, seeded(), shape=(1, 2, 2))
    assert set(seen) == {((1, 2, 2), torch.float32)}
    # two roundings of numbers up to a few units
    assert rows[0].excess.value <= (8 * torch.finfo(torch.float32).eps) ** 2
    with pytest.raises(ValueError, match="eps must have the shape of x"):
        evaluate.excess_by_level(lambda x, a, b: x[:, :1], law, [(0.8, 0.6)], 100, seeded())
    with pytest.raises(ValueError, match="count must be at least 2"):
        evaluate.excess_by_level(perfect, law, [(0.8, 0.6)], 1, seeded())


def test_every_law_can_be_drawn() -> None:
    point = PointMass(torch.tensor([1.0, 2.0], dtype=torch.float64))
    for law in (MIXTURE, PLANE, Empirical(torch.ones(3, 2, dtype=torch.float64)), point):
        assert evaluate.draw(law, 5, seeded()).shape == (5, 2)
        assert evaluate.draw(law, 5, seeded()).equal(evaluate.draw(law, 5, seeded()))


def pairs(mean: float, std: float, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Standard normal samples in the plane and those of another normal law."""
    noise = torch.randn(2, n, 2, generator=seeded(seed), dtype=torch.float64)
    return noise[0], mean + std * noise[1]


def mmd_of_normals(mean: float, std: float) -> float:
    """The squared MMD of the laws of ``pairs``: the kernel's mean is a Gaussian integral."""
    total = 0.0
    for h in BANDWIDTHS:
        for spread, offset, sign in ((2.0, 0.0, 1), (2 * std * std, 0.0, 1), (1 + std * std, mean, -2)):
            wide = h * h + spread
            total += sign * h * h / wide * math.exp(-2 * offset * offset / (2 * wide)) / len(BANDWIDTHS)
    return total


def plain_mmd(x: Tensor, y: Tensor, biased: bool = False) -> float:
    def k(a: Tensor, b: Tensor) -> float:
        distance = float((a - b).square().sum())
        return sum(math.exp(-distance / (2 * h * h)) for h in BANDWIDTHS) / len(BANDWIDTHS)

    def within(z: Tensor) -> float:
        chosen = [k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if biased or i != j]
        return sum(chosen) / len(chosen)

    across = [k(a, b) for a in x for b in y]
    return within(x) + within(y) - 2 * sum(across) / len(across)


def test_the_statistic_is_its_definition() -> None:
    x, y = pairs(0.5, 1.5, 9, 0)
    x = x[:6]
    found = evaluate.mmd_squared(x, y, BANDWIDTHS).value
    assert found == pytest.approx(plain_mmd(x, y), rel=1e-12)
    assert found != pytest.approx(plain_mmd(x, y, biased=True), rel=1e-3)
    assert evaluate.permutation_test(x, y, BANDWIDTHS, seeded(), 0.1, 9).mmd_squared == pytest.approx(found)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.5, 1.0), (0.0, 1.5)])
def test_the_statistic_is_unbiased_and_knows_its_error(mean: float, std: float) -> None:
    values = [evaluate.mmd_squared(*pairs(mean, std, 60, seed), BANDWIDTHS) for seed in range(300)]
    found = torch.tensor([[estimate.value, estimate.error] for estimate in values], dtype=torch.float64)
    spread = float(found[:, 0].std())
    exact = mmd_of_normals(mean, std)
    assert abs(float(found[:, 0].mean()) - exact) <= FAR * spread / math.sqrt(300)
    if mean or std != 1:
        # the deviation of 300 values is known to 1/√600, and terms of relative order 1/n ζ_2/ζ_1 are left out
        assert float(found[:, 1].mean()) == pytest.approx(spread, rel=0.25)
    biased = torch.tensor([plain_mmd(*pairs(mean, std, 12, seed), biased=True) for seed in range(20)])
    assert float(biased.mean()) - exact > FAR * float(biased.std()) / math.sqrt(20)


def test_the_level_of_the_test_is_exact() -> None:
    alpha, permutations, runs = 0.05, 20, 1500
    exact = math.floor(alpha * (1 + permutations)) / (1 + permutations)
    # so many rejections are not exceeded with probability 1 − 7e-6, nor is it missed below
    reach = FAR * math.sqrt(runs * exact * (1 - exact))

    def p_value(seed: int) -> float:
        x, y = pairs(0, 1, 8, seed)
        return evaluate.permutation_test(x, y[:5], (1.0,), seeded(seed), alpha, permutations).p_value

    found = [p_value(seed) for seed in range(runs)]
    assert abs(sum(p <= alpha for p in found) - runs * exact) <= reach
    # without itself among the permutations the test would reject too often
    without = [(p * (1 + permutations) - 1) / permutations for p in found]
    assert sum(p <= alpha for p in without) > runs * alpha + FAR * math.sqrt(runs * alpha * (1 - alpha))


def test_ties_count_against_rejection() -> None:
    same = torch.zeros(6, 2, dtype=torch.float64)
    assert evaluate.permutation_test(same, same, BANDWIDTHS, seeded(), 0.05, 19).p_value == 1


def test_holm_keeps_the_rate_of_the_family() -> None:
    found = evaluate.holm({"a": 0.02, "b": 0.001, "c": 0.012, "d": 0.5}, 0.04)
    assert found == {"a": True, "b": True, "c": True, "d": False}
    # after the first that is kept none is rejected, however small its own bound would let it be
    assert evaluate.holm({"a": 0.021, "b": 0.022}, 0.04) == {"a": False, "b": False}
    uniform = torch.rand(4000, 5, generator=seeded(), dtype=torch.float64)
    family = sum(any(evaluate.holm(dict(enumerate(row)), 0.05).values()) for row in uniform.tolist())
    apart = int((uniform <= 0.05).any(1).sum())
    # independent tests: 1 − (1 − α/5)⁵ = 4.9 %
    assert abs(family - 4000 * (1 - 0.99**5)) <= FAR * math.sqrt(4000 * 0.049 * 0.951)
    assert apart > 4000 * 0.05 + FAR * math.sqrt(4000 * 0.05 * 0.95)
    with pytest.raises(ValueError, match="p_values must lie"):
        evaluate.holm({"a": 1.5}, 0.05)


STEPS = schedule.subsequence(1000, 10, "trailing")


def run(count: int, seed: int, mutant: str = "") -> Tensor:
    """DDIM with η = 1 and the perfect network, or DDPM with σ² = β, or either with a mistake."""
    generator = seeded(seed)

    def normal() -> Tensor:
        return torch.randn(count, 2, generator=generator, dtype=torch.float64)

    x, levels = normal(), list(STEPS)
    for t, s in itertools.pairwise(levels):
        eps = MIXTURE.eps(LINEAR, x, s if mutant == "level-early" and s > 0 else t)
        if mutant in ("ddpm", "noise-left-on"):
            step = ddpm.step_coefficients(LINEAR, t, s, "beta")
        else:
            step = ddim.step_coefficients(LINEAR, t, s, 1.0)
        std = step.noise**2 if mutant == "variance-squared" else step.noise
        if s == 0 and mutant != "noise-left-on":
            std = 0 * std
        x = step.x_t * x + step.eps * eps + std * normal()
    return x


MUTANTS = {"variance-squared": "", "noise-left-on": "ddpm", "level-early": ""}
"""Each mistake and the right run."""
ALPHA, PERMUTATIONS = 0.03, 199
"""Of the family: 1 % for the smallest p-value of three."""


@pytest.fixture(scope="module")
def enough() -> int:
    """The sample size that sees the weakest of the mutants, from pilots of 800."""
    sizes = {}
    for mutant, right in MUTANTS.items():
        pilot = run(800, 1, mutant), run(800, 2, right)
        given = {"alpha": ALPHA / len(MUTANTS), "power": 0.999, "permutations": PERMUTATIONS}
        sizes[mutant] = evaluate.sample_size(*pilot, BANDWIDTHS, seeded(), **given)  # type: ignore[arg-type]
    return max(sizes.values())


def p_value(count: int, seed: int, mutant: str, right: str) -> float:
    samples = run(count, 100 + seed, mutant), run(count, 200 + seed, right)
    return evaluate.permutation_test(*samples, BANDWIDTHS, seeded(seed), ALPHA, PERMUTATIONS).p_value


def test_the_sample_size_sees_every_mutant_and_equal_laws_pass(enough: int) -> None:
    found = {mutant: p_value(enough, 0, mutant, right) for mutant, right in MUTANTS.items()}
    assert evaluate.holm(found, ALPHA) == dict.fromkeys(MUTANTS, True)
    equal = {right or "ddim": p_value(enough, 50, right, right) for right in ("", "ddpm")}
    assert evaluate.holm(equal, ALPHA) == dict.fromkeys(equal, False)


def test_the_sample_size_is_no_larger_than_it_must_be(enough: int) -> None:
    bound = ALPHA / len(MUTANTS)
    small = [p_value(enough // 8, seed, "variance-squared", "") > bound for seed in range(12)]
    assert any(small)


def test_a_pilot_that_shows_nothing_gives_no_sample_size() -> None:
    with pytest.raises(ValueError, match="x must differ from y by more than 3 standard errors"):
        evaluate.sample_size(run(200, 1), run(200, 2), BANDWIDTHS, seeded())
    with pytest.raises(ValueError, match="y must have as many samples as x"):
        evaluate.sample_size(run(20, 1), run(30, 2), BANDWIDTHS, seeded())
    with pytest.raises(ValueError, match="power must be"):
        evaluate.sample_size(run(20, 1), run(20, 2), BANDWIDTHS, seeded(), power=0.2)


@pytest.mark.parametrize(
    ("x", "y", "bandwidths", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(3, 3), (1.0,), "samples of one shape"),
        (torch.zeros(1, 2), torch.zeros(3, 2), (1.0,), "samples of x must be at least 2"),
        (torch.zeros(3, 2), torch.full((3, 2), math.nan), (1.0,), "y must be finite"),
        (torch.zeros(3, 2), torch.zeros(3, 2), (), "bandwidths must be"),
        (torch.zeros(3, 2), torch.zeros(3, 2), (0.0,), "bandwidths must be"),
        (torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3, 2), (1.0,), "x must be a floating"),
    ],
    ids=["shape", "few", "nan", "none", "zero", "whole"],
)
def test_bad_samples_are_named(x: Tensor, y: Tensor, bandwidths: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate.permutation_test(x, y, bandwidths, seeded())


def test_too_few_permutations_are_refused() -> None:
    x, y = pairs(0, 1, 5, 0)
    with pytest.raises(ValueError, match="alpha must be at least 1/20"):
        evaluate.permutation_test(x, y, BANDWIDTHS, seeded(), 0.01, 19)
