"""Every sampler serves every objective: with perfect networks all of them end at the law of the data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from one_device import OneDevice
from torch import Tensor

from refdiff import pictures
from refdiff._generate_samplers import Noises
from refdiff.checkpoint import Checkpoint
from refdiff.datasets import mixture_law
from refdiff.generate import SAMPLERS, Ask, Options, default_sampler, generate, picture
from refdiff.objective import OBJECTIVES, Classification, make
from refdiff.solver import SOLVERS
from refdiff.train import Run, Settings

LAW = mixture_law()
MEAN = (LAW.weights[:, None] * LAW.means).sum(0)
COV = (
    torch.einsum("k,kij->ij", LAW.weights, LAW.covs + LAW.means[:, :, None] * LAW.means[:, None])
    - MEAN[:, None] * MEAN
)
TINY: dict[str, Any] = {"width": 8, "depth": 1, "embedding_dim": 4}
COUNT = 200
UNCONDITIONAL = sorted(set(SAMPLERS) - {"consistency"})


def perfect_score(x: Tensor, sigma: Tensor, label: Tensor | None = None) -> Tensor:
    return LAW.at(torch.ones_like(sigma), sigma).score(x)


def perfect_eps(goal: Any) -> Callable[..., Tensor]:
    return lambda x, t, label=None: LAW.eps(goal.table, x, t.round().long())


def sampled(ask: Ask, name: str, options: Options, seed: int = 0) -> Tensor:
    like = torch.empty(COUNT, 2, dtype=torch.float64)
    with torch.no_grad():
        return SAMPLERS[name](ask, Noises(like, torch.Generator().manual_seed(seed)), options)


def misses(x: Tensor) -> tuple[float, float]:
    """By how much mean and covariance of samples miss those of the law."""
    return float((x.mean(0) - MEAN).abs().max()), float((x.T.cov() - COV).abs().max())


OPTIONS = Options(steps=30, spacing="geometric", tolerance=1e-2)
# four standard errors of a mean and of a covariance of about one, and as much again for thirty steps
SLACK = 8 / math.sqrt(COUNT)


@pytest.mark.parametrize("name", UNCONDITIONAL)
def test_a_sampler_with_the_perfect_network_ends_near_the_law(name: str) -> None:
    ask = Ask(perfect_score, make("smld"))
    x = sampled(ask, name, OPTIONS)
    assert x.shape == (COUNT, 2) and max(misses(x)) < SLACK
    assert ask.evaluations >= 12


@pytest.mark.parametrize("name", UNCONDITIONAL)
def test_a_sampler_with_a_wrong_network_does_not(name: str) -> None:
    narrow = lambda x, sigma, label=None: perfect_score(x - 2.0, sigma)  # noqa: E731
    assert max(misses(sampled(Ask(narrow, make("smld")), name, OPTIONS))) > SLACK


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpmpp_2m", "edm_churn", "sde_ancestral", "flow", "vdm"])
@pytest.mark.parametrize("spacing", ["own", "karras"])
def test_a_network_of_a_schedule_serves_samplers_of_other_levels(name: str, spacing: Any) -> None:
    goal = make("ddpm", {"T": 400, "schedule": "cosine"})
    x = sampled(Ask(perfect_eps(goal), goal), name, replace(OPTIONS, spacing=spacing))
    assert max(misses(x)) < SLACK


def test_solvers_have_their_names_and_ddim_is_the_one_with_eta() -> None:
    assert set(SOLVERS) < set(SAMPLERS)
    goal = make("ddpm", {"T": 100})
    first, second = Ask(perfect_eps(goal), goal), Ask(perfect_eps(goal), goal)
    x = sampled(first, "ddim", Options(steps=10))
    # DDIM and the solver of order one in λ are one method; only the last level's factor is divided otherwise
    torch.testing.assert_close(x, sampled(second, "dpmpp_1", Options(steps=10)), rtol=0, atol=1e-9)
    noisy = sampled(Ask(perfect_eps(goal), goal), "ddim", Options(steps=10, eta=1.0))
    torch.testing.assert_close(
        noisy, sampled(Ask(perfect_eps(goal), goal), "ddpm", Options(steps=10)), rtol=0, atol=1e-9
    )
    assert float((noisy - x).abs().max()) > 0.1


def test_a_learned_variance_is_used_by_ddpm_and_asked_for_once_a_step() -> None:
    goal = make("hybrid", {"T": 60, "schedule": "cosine"})
    eps = perfect_eps(goal)

    def net(share: float) -> Callable[..., Tensor]:
        return lambda x, t, label=None: torch.cat([eps(x, t), torch.full_like(x, share)], 1)

    least, most = (Ask(net(share), goal) for share in (-40.0, 40.0))
    x = [sampled(ask, "ddpm", Options(steps=60)) for ask in (least, most)]
    plain = make("ddpm", {"T": 60, "schedule": "cosine"})
    kinds = ("beta_tilde", "beta")
    for found, kind in zip(x, kinds, strict=True):
        expected = sampled(Ask(perfect_eps(plain), plain), "ddpm", Options(steps=60, variance=kind))  # type: ignore[arg-type]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    assert least.evaluations == 60 and float((x[0] - x[1]).abs().max()) > 0.01


def test_a_consistency_function_is_sampled_in_many_steps() -> None:
    goal = make("consistency")
    ask = Ask(lambda x, t, label=None: torch.zeros_like(x), goal)
    x = sampled(ask, "consistency", Options(steps=4))
    assert ask.evaluations == 4 and x.shape == (COUNT, 2) and default_sampler(goal) == "consistency"
    for name in ("ddim", "rk4", "flow"):
        with pytest.raises(ValueError, match="Consistency trains no prediction of the noise"):
            sampled(Ask(ask.net, goal), name, Options(steps=4))
    with pytest.raises(ValueError, match="sampler 'consistency' needs a consistency model, got SMLD"):
        sampled(Ask(perfect_score, make("smld")), "consistency", Options(steps=4))


def of_component(x: Tensor, scale: Tensor, std: Tensor, k: int) -> Tensor:
    """The noise that is perfect for one component of the mixture."""
    spread = scale**2 * LAW.covs[k] + std**2 * torch.eye(2, dtype=torch.float64)
    return torch.linalg.solve(spread, (x - scale * LAW.means[k]).T).T * std


def judge(goal: Classification) -> Callable[..., Tensor]:
    """The perfect classifier: the log-probabilities of the components of the noised mixture."""

    def logits(x: Tensor, t: Tensor) -> Tensor:
        scale, noise = goal.table.sqrt_alpha_bar[t.long()], goal.table.one_minus_alpha_bar[t.long()]
        return LAW._view(x.unsqueeze(1), scale.reshape(-1, 1, 1), noise.reshape(-1, 1, 1)).log_joint

    return logits


def test_the_perfect_classifier_guides_to_the_law_of_its_class() -> None:
    goal, judged = make("ddpm", {"T": 50}), make("classifier", {"T": 50})
    assert isinstance(judged, Classification)
    table: Any = goal.table  # type: ignore[attr-defined]
    x = torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([0, 1, 2] * 3)
    scale, std = table.sqrt_alpha_bar[30], table.sqrt_one_minus_alpha_bar[30]
    for factor in (1.0, 2.5):
        here = factor * scale, factor * std
        ask = Ask(perfect_eps(goal), goal, 0, label, 1.0, (judge(judged), judged))
        found = ask(factor * x, *here)
        for k in range(3):
            expected = of_component(factor * x[k::3], *here, k)
            torch.testing.assert_close(found[k::3], expected, rtol=1e-7, atol=1e-7)
        none = Ask(perfect_eps(goal), goal)(factor * x, *here)
        twice = Ask(perfect_eps(goal), goal, 0, label, 2.0, (judge(judged), judged))(factor * x, *here)
        torch.testing.assert_close(twice - none, 2 * (found - none), rtol=1e-7, atol=1e-7)
        assert float((found - none).abs().max()) > 0.1


def test_guidance_without_a_classifier_goes_from_no_label_through_the_label() -> None:
    goal = make("smld")
    asked: list[int] = []

    def net(x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        asked.append(int(label[0]))
        return -(1.0 + label.double()[:, None]) * x / sigma[:, None]

    x, one = torch.ones(2, 2).double(), torch.ones(()).double()
    label = torch.tensor([1, 1])
    for scale, expected, told in ((1.0, 2.0, [1]), (3.0, 4 + 3 * (2 - 4.0), [3, 1]), (0.0, 4.0, [3, 1])):
        asked.clear()
        torch.testing.assert_close(Ask(net, goal, 3, label, scale)(x, one, one), expected * x)
        assert asked == told
    asked.clear()
    torch.testing.assert_close(Ask(net, goal, 3)(x, one, one), 4.0 * x)
    assert asked == [3]


def trained(model: str = "ddpm", **changes: Any) -> Checkpoint:
    """A network whose weights are not 0; nothing was learned."""
    settings = Settings(model=model, data="mixture", count=50, batch=4, net_settings=TINY, **changes)
    run = Run(settings)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in run.net.parameters():
            value.add_(0.2 * torch.randn(value.shape, generator=generator))
    run.ema.load({name: value.detach() for name, value in run.net.named_parameters()}, 1)
    return run.checkpoint()


@pytest.mark.parametrize("model", sorted(set(OBJECTIVES) - {"classifier"}))
def test_samples_of_a_checkpoint_come_from_their_seed(model: str) -> None:
    saved, options = trained(model), Options(steps=4)
    before = torch.get_rng_state()
    first, again, other = (generate(saved, None, options, count=3, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert first.x.shape == (3, 2) and first.x.dtype == torch.float32 and first.label is None
    assert torch.equal(first.x, again.x) and not torch.equal(first.x, other.x)
    assert first.states == () and first.evaluations == 4 and bool(first.x.isfinite().all())


def test_the_average_is_sampled_unless_the_weights_are_asked_for() -> None:
    saved = trained()
    saved = replace(saved, average={name: value / 2 for name, value in saved.average.items()})
    first, second = (generate(saved, count=3, average=average).x for average in (True, False))
    assert not torch.equal(first, second)


def test_labels_reach_the_network_and_the_classifier() -> None:
    told, untold, classifier = trained(conditional=True), trained(), trained("classifier")
    options = Options(steps=4)
    plain = generate(told, options=options, count=3)
    one, each = (generate(told, options=options, count=3, label=label) for label in (1, [1, 1, 1]))
    assert torch.equal(one.x, each.x) and not torch.equal(one.x, plain.x)
    assert one.label is not None and one.label.tolist() == [1, 1, 1] and one.evaluations == 4
    assert generate(told, options=options, count=3, label=1, scale=3.0).evaluations == 8
    judged = [generate(untold, options=options, count=3, label=k, classifier=classifier).x for k in (0, 1)]
    assert not torch.equal(judged[0], judged[1])
    both = generate(told, options=options, count=3, label=1, scale=2.0, classifier=classifier)
    assert both.evaluations == 4 and not torch.equal(both.x, one.x)


def test_states_fall_from_noise_to_the_samples() -> None:
    for sampler in ("ddim", "heun", "euler_maruyama", "annealed_langevin", "flow", "predictor_corrector"):
        found = generate(trained("flow"), sampler, Options(steps=6, inner=2), count=3, trajectory=True)
        sigmas = [b / a if a else math.inf for a, b, _ in found.states]
        assert all(s < t for t, s in pairwise(sigmas)) and len(sigmas) >= 6
        assert torch.equal(found.states[-1][2], found.x) and sigmas[-1] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampler": "magic"}, "sampler must be one of ddpm, ddim, "),
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"scale": float("nan")}, "scale must be finite, got nan"),
        ({"scale": 2.0}, "label must be given for guidance, got None"),
        ({"label": 3}, r"label must lie in 0..2, got 3"),
        ({"label": [0, 1]}, "label must be one class or one for each of 4 samples, got 2"),
        ({"options": Options(steps=5000)}, "n must be at most T = 1000, got 5000"),
    ],
    ids=["sampler", "count", "seed", "nan", "unlabelled", "label", "labels", "steps"],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(trained(conditional=True), **{"count": 4, **arguments})


def test_checkpoints_that_do_not_fit_are_refused() -> None:
    plain, classifier = trained(), trained("classifier")
    with pytest.raises(ValueError, match="label must be None for a network without labels, got 1"):
        generate(plain, label=1)
    with pytest.raises(ValueError, match="checkpoint must be of a network that is sampled, got a classifier"):
        generate(classifier)
    with pytest.raises(ValueError, match="classifier must be a checkpoint of a classifier, got 'ddpm'"):
        generate(plain, label=1, classifier=plain)
    with pytest.raises(ValueError, match="label must be given for guidance"):
        generate(plain, classifier=classifier)
    wide = replace(classifier, header=replace(classifier.header, shape=(3,)))
    with pytest.raises(ValueError, match=r"classifier must take samples of shape \(2,\), got \(3,\)"):
        generate(plain, label=1, classifier=wide)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"inner": 0}, "inner must be at least 1, got 0"),
        ({"epsilon": 0.0}, "epsilon must lie strictly between 0 and inf, got 0.0"),
        ({"spacing": "log"}, "spacing must be one of own, karras, geometric, got 'log'"),
        ({"variance": "learned"}, "variance must be one of beta_tilde, beta, got 'learned'"),
    ],
    ids=["steps", "inner", "epsilon", "spacing", "variance"],
)
def test_a_wrong_option_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Options(**changes)


def test_samples_and_trajectories_are_pictures_and_the_same_ones_the_same_files(tmp_path: Path) -> None:
    found = generate(trained(), options=Options(steps=5), count=7, trajectory=True)
    for name in ("a", "b"):
        picture(found, tmp_path / f"{name}.png")
        picture(found, tmp_path / f"{name}t.png", trajectory=True, columns=3)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "at.png").read_bytes() == (tmp_path / "bt.png").read_bytes()
    with pytest.raises(ValueError, match="samples must have kept their states"):
        picture(generate(trained(), count=2, options=Options(steps=2)), tmp_path / "c.png", trajectory=True)


def pixels(path: Path) -> Tensor:
    image = pytest.importorskip("matplotlib.image").imread(path)
    return torch.tensor(image)[..., :3]


def test_a_grid_has_its_images_in_rows_at_their_brightness(tmp_path: Path) -> None:
    values = torch.tensor([-1.0, 0.0, 1.0, 5.0, -5.0])
    x = values.reshape(5, 1, 1, 1).expand(5, 1, 8, 8)
    pictures.grid(x, tmp_path / "grid.png", columns=3)
    found = pixels(tmp_path / "grid.png")
    size = found.shape[1] // 26 * 9
    assert found.shape[1] == 26 * (size // 9) and found.shape[0] == 17 * (size // 9)
    zoom = size // 9
    places = [(4 * zoom + row * size, 4 * zoom + column * size) for row in (0, 1) for column in range(3)]
    centres = [found[row, column, 0] for row, column in places]
    # an eighth bit of rounding
    expected = [0.0, 0.5, 1.0, 1.0, 0.0, 1.0]
    assert all(abs(float(a) - b) < 1 / 255 for a, b in zip(centres, expected, strict=True))


def test_what_cannot_be_shown_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    with pytest.raises(ValueError, match=r"x must have shape \(B, C, H, W\) or \(B, D\), got \(2, 3, 4\)"):
        pictures.grid(torch.zeros(2, 3, 4), path)
    with pytest.raises(ValueError, match="x must have 1 or 3 channels to be shown, got 2"):
        pictures.grid(torch.zeros(2, 2, 8, 8), path)
    with pytest.raises(ValueError, match="names must be one for each of at least one state, got 0, 0"):
        pictures.trajectory([], [], path)
    pictures.grid(torch.zeros(3, 5), path)
    pictures.grid(torch.zeros(3, 3, 8, 8), path)
    assert path.exists()


@pytest.mark.parametrize("name", [name for name in UNCONDITIONAL if name not in ("ode_rk45", "ode_dop853")])
@pytest.mark.parametrize("model", ["ddpm", "smld", "flow"])
def test_samples_are_computed_where_the_network_is(name: str, model: str) -> None:
    # levels are numbers, wherever they are
    goal = make(model)
    ask = Ask(lambda x, level, label=None: x * level.to(x)[:, None], goal)
    noises = Noises(torch.empty(3, 2, device="meta"), torch.Generator().manual_seed(0))
    with torch.no_grad(), OneDevice():
        x = SAMPLERS[name](ask, noises, Options(steps=4))
    assert x.device.type == "meta" and x.shape == (3, 2) and x.dtype == torch.float32
