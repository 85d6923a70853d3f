"""Contrastive divergence and sliced score matching have the exact gradients of Gaussian data."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from refdiff import langevin, nets, score_matching
from refdiff.datasets import load, mixture_law
from refdiff.objective import Contrastive, Draws, Network, Sliced, make
from refdiff.train import Settings, averaged, train

CORNERS = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=2)), dtype=torch.float64)
"""Points with mean 0 and second moments I; all combinations of them are independent draws."""
SPREAD, MEAN = 0.7, torch.tensor([0.4, -1.1], dtype=torch.float64)
LADDER: dict[str, Any] = {"sigma_1": 2.0, "sigma_L": 0.5, "L": 3}
ROUNDING: dict[str, Any] = {"rtol": 1e-11, "atol": 1e-12}


def design(*names: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Data of deviation SPREAD around MEAN, and noises, whose moments to the second are exact."""
    parts = torch.tensor(list(itertools.product(range(4), repeat=len(names) + 1)))
    x_0, *noises = (CORNERS[part] for part in parts.unbind(1))
    return MEAN + SPREAD * x_0, dict(zip(names, noises, strict=True))


def at(goal: Any, place: int, x_0: Tensor, noises: dict[str, Tensor]) -> tuple[float, Draws]:
    return float(goal.ladder[place]), {**noises, "index": torch.full((len(x_0),), place)}


@dataclass(frozen=True)
class Swapped(Contrastive):
    """The negatives' energy is pushed down, the data's up."""

    def loss(self, net: Network, x_0: Tensor, label: Tensor | None, draws: Draws) -> Tensor:
        return -super().loss(net, x_0, label, draws)


@dataclass(frozen=True)
class Halted(Contrastive):
    """A chain that takes one step less."""

    def loss(self, net: Network, x_0: Tensor, label: Tensor | None, draws: Draws) -> Tensor:
        return super().loss(net, x_0, label, {**draws, "chain": draws["chain"][:, 1:]})


@dataclass(frozen=True)
class Squareless(Sliced):
    """The curvature alone."""

    def loss(self, net: Network, x_0: Tensor, label: Tensor | None, draws: Draws) -> Tensor:
        level = self.ladder[draws["index"]]
        s = net(x_0 + level[:, None] * draws["noise"], level, label)
        square = s if self.form == "reduced" else (s * draws["probe"]).sum(1, keepdim=True)
        return super().loss(net, x_0, label, draws) - (level[:, None] * square).square().sum(1) / 2


def contrastive_gradients(
    goal: Contrastive, place: int, mean: Tensor, variance: Tensor
) -> tuple[Tensor, ...]:
    """The expected gradients for mean and variance of a Gaussian energy on the Gaussian data."""
    x_0, noises = design("noise", *(f"chain_{k}" for k in range(goal.steps)))
    chain = torch.stack([noises.pop(f"chain_{k}") for k in range(goal.steps)], 1)
    _, draws = at(goal, place, x_0, {**noises, "chain": chain})
    net = lambda x, sigma, label: ((x - mean) ** 2).sum(1) / (2 * variance)  # noqa: E731
    return torch.autograd.grad(goal.loss(net, x_0, None, draws).mean(), (mean, variance))


@pytest.mark.parametrize("place", range(3))
def test_the_contrastive_gradient_is_that_of_gaussian_data(place: int) -> None:
    for kind in (Contrastive, Swapped, Halted):
        goal = kind(**LADDER, steps=2, ratio=0.3)
        step = 0.3 * float(goal.ladder[place]) ** 2
        mean, variance = torch.zeros(2, dtype=torch.float64), torch.tensor(1.9, dtype=torch.float64)
        found = contrastive_gradients(goal, place, mean.requires_grad_(), variance.requires_grad_())[0]
        expected = -langevin.contrastive_gradient_gaussian(
            MEAN, torch.zeros_like(MEAN), torch.full_like(MEAN, 1.9), step, 2
        )
        assert torch.allclose(found, expected, **ROUNDING) == (kind is Contrastive)


def test_the_contrastive_gradient_vanishes_at_the_variance_that_chains_learn() -> None:
    goal = Contrastive(**LADDER, steps=2, ratio=0.1)
    sigma = float(goal.ladder[1])
    of_data = torch.tensor(SPREAD**2 + sigma**2, dtype=torch.float64)
    learned = langevin.learned_variance(of_data, 0.1 * sigma**2)
    assert learned < of_data
    for variance in (learned, of_data):
        found = contrastive_gradients(goal, 1, MEAN.clone().requires_grad_(), variance.requires_grad_())
        assert float(found[0].abs().max()) < 1e-12
        assert (float(found[1].abs()) < 1e-12) == (variance is learned)


def test_the_chain_is_a_constant() -> None:
    goal = Contrastive(**LADDER, steps=3)
    x_0 = load("mixture", count=8, dtype=torch.float64).x
    draws = goal.draw(x_0, torch.Generator().manual_seed(0))
    width = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    net = lambda x, sigma, label: (x**2).sum(1) / (2 * width)  # noqa: E731
    sigma = goal.ladder[draws["index"]]
    x_pos = x_0 + sigma[:, None] * draws["noise"]
    x_neg = goal.negatives(net, x_pos, sigma, None, draws)
    assert not x_neg.requires_grad
    (found,) = torch.autograd.grad(goal.loss(net, x_0, None, draws).sum(), width)
    expected = ((x_neg**2).sum() - (x_pos**2).sum()) / (2 * width**2)
    torch.testing.assert_close(found, expected.detach(), **ROUNDING)


def test_a_chain_from_noise_forgets_the_data() -> None:
    goal = Contrastive(**LADDER, steps=3, start="noise", spread=1.5)
    x_0 = load("mixture", count=8, dtype=torch.float64).x
    draws = goal.draw(x_0, torch.Generator().manual_seed(0))
    net = lambda x, sigma, label: torch.zeros_like(x[:, 0]) * (x**2).sum(1)  # noqa: E731
    sigma = goal.ladder[draws["index"]]
    found = [goal.negatives(net, x, sigma, None, draws) for x in (x_0, x_0 + 3)]
    assert torch.equal(*found)
    # without a force the chain is a sum of its noises
    deviation = (1.5**2 + sigma**2).sqrt()[:, None]
    walk = (0.2 * sigma**2).sqrt()[:, None] * draws["chain"].sum(1)
    torch.testing.assert_close(found[0], deviation * draws["first"] + walk, **ROUNDING)


def test_the_penalty_is_the_squares_of_both_energies() -> None:
    x_0 = load("mixture", count=8, dtype=torch.float64).x
    plain, held = Contrastive(**LADDER), Contrastive(**LADDER, penalty=0.25)
    draws = plain.draw(x_0, torch.Generator().manual_seed(0))
    net = lambda x, sigma, label: (x**2).sum(1)  # noqa: E731
    sigma = plain.ladder[draws["index"]]
    x_pos = x_0 + sigma[:, None] * draws["noise"]
    both = [net(x, sigma, None) for x in (x_pos, plain.negatives(net, x_pos, sigma, None, draws))]
    found = held.loss(net, x_0, None, draws) - plain.loss(net, x_0, None, draws)
    torch.testing.assert_close(found, 0.25 * (both[0] ** 2 + both[1] ** 2), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", ["plain", "reduced"])
@pytest.mark.parametrize("place", range(3))
def test_the_sliced_loss_is_least_at_the_score_of_gaussian_data(form: Any, place: int) -> None:
    x_0, noises = design("noise", "probe")
    eye = torch.eye(2, dtype=torch.float64)
    for kind in (Sliced, Squareless):
        goal = kind(**LADDER, form=form)
        sigma, draws = at(goal, place, x_0, noises)
        variance = SPREAD**2 + sigma**2
        mean = MEAN.clone().requires_grad_()
        matrix = (eye / variance).requires_grad_()
        net = lambda x, sigma, label: -(x - mean) @ matrix.T  # noqa: B023, E731
        loss = goal.loss(net, x_0, None, draws).mean()
        slopes = torch.autograd.grad(loss, (mean, matrix))
        # the loss there is minus half the trace of the precision, times the weight σ²
        least = torch.tensor(-(sigma**2) / variance, dtype=torch.float64)
        right = torch.allclose(loss, least, **ROUNDING)
        still = all(bool(slope.abs().max() < 1e-12) for slope in slopes)
        assert (right, still) == ((True, True) if kind is Sliced else (False, False))


def test_the_sliced_loss_away_from_its_minimum_is_the_divergence_more() -> None:
    x_0, noises = design("noise", "probe")
    goal, hessian = Sliced(**LADDER), torch.tensor([[0.9, 0.2], [0.2, 0.4]], dtype=torch.float64)
    sigma, draws = at(goal, 1, x_0, noises)
    cov = (SPREAD**2 + sigma**2) * torch.eye(2, dtype=torch.float64)
    centre = MEAN + 0.3
    loss = goal.loss(lambda x, s, label: -(x - centre) @ hessian.T, x_0, None, draws).mean()
    least = -cov.inverse().trace() / 2
    further = score_matching.gaussian_fisher_divergence(MEAN, cov, centre, hessian)
    torch.testing.assert_close(loss, sigma**2 * (least + further), **ROUNDING)


def test_probes_are_signs_or_normal() -> None:
    x_0 = torch.zeros(4000, 2, dtype=torch.float64)
    for directions, fourth in (("signs", 1.0), ("normal", 3.0)):
        goal: Any = make("sliced", {"directions": directions})
        probe = goal.draw(x_0, torch.Generator().manual_seed(0))["probe"]
        assert bool((probe.abs() == 1).all()) == (directions == "signs")
        # five standard errors of 8000 numbers, whose fourth powers vary by 96 at most
        slack = 5 * (96 / 8000) ** 0.5
        assert abs(float(probe.mean())) < slack and abs(float((probe**4).mean()) - fourth) < slack


def test_the_attention_of_images_is_differentiated_twice() -> None:
    body = {"in_channels": 1, "base": 8, "groups": 4, "multipliers": [1], "blocks": 1, "attention": [0]}
    net: Any = nets.build("score", {"body": "unet", "settings": body}, 0).double()
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in net.parameters():
            value.add_(0.1 * torch.randn(value.shape, generator=source))
    goal, x_0 = Sliced(**LADDER), torch.randn(3, 1, 4, 4, dtype=torch.float64, generator=source)
    draws = goal.draw(x_0, source)
    goal.loss(net, x_0, None, draws).sum().backward()
    weight = net.body.middle.attention.qkv.weight
    found, step = weight.grad, 1e-6
    assert found is not None
    with torch.no_grad():
        ends = []
        for sign in (1, -1):
            weight.add_(sign * step * found)
            ends.append(float(goal.loss(net, x_0, None, draws).sum()))
            weight.sub_(sign * step * found)
    slope = (ends[0] - ends[1]) / (2 * step)
    # central differences: the step squared, and rounding of the loss over the step
    assert slope == pytest.approx(float((found**2).sum()), rel=1e-5)


def score_error(net: Any, score: Callable[..., Tensor]) -> float:
    """σ times the error of the score, its root mean square at three levels."""
    law, x_0 = mixture_law(), load("mixture", count=300, dtype=torch.float64).x
    noise = torch.randn(x_0.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    total = 0.0
    for sigma in (0.4, 1.0, 2.5):
        x, level = x_0 + sigma * noise, torch.full((300,), sigma).double()
        wrong = score(net, x, level, None) - law.at(torch.ones_like(level), level).score(x)
        total += float((sigma * wrong.detach()).square().sum(1).mean()) / 3
    return float(total**0.5)


@pytest.mark.parametrize("model", ["contrastive", "sliced"])
def test_training_learns_the_score_of_the_mixture(model: str) -> None:
    ladder = {"sigma_1": 4.0, "sigma_L": 0.3, "L": 8}
    own = {"steps": 4, "ratio": 0.2} if model == "contrastive" else {}
    of = Settings(model=model, data="mixture", count=2000, steps=250, batch=128, rate=3e-3, dtype="float64")
    of = replace(of, ema=0.9, objective={**ladder, **own}, net_settings={"width": 32, "depth": 2})
    goal: Any = make(model, {**ladder, **own})
    run = train(of)
    fresh = train(of, until=0)
    before, after = (score_error(averaged(made), goal.score) for made in (fresh, run))
    assert after < before / 2
