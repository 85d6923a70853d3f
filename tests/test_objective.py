"""Each objective is the library's loss with its own levels and noises, and its network tells the noise."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from one_device import OneDevice
from torch import Tensor

from refdiff import (
    consistency,
    ddpm,
    energy,
    flow,
    langevin,
    nets,
    objective,
    parameterization,
    score_matching,
    sde,
    smld,
    vdm,
    vlb,
)
from refdiff.datasets import load, mixture_law
from refdiff.objective import OBJECTIVES, Objective, make
from refdiff.solver import SOLVERS

LAW = mixture_law()
SETTINGS: dict[str, dict[str, Any]] = {
    "ddpm": {"T": 50, "schedule": "cosine"},
    "ddpm_x0": {"T": 50, "schedule": "cosine"},
    "ddpm_v": {"T": 50, "schedule": "cosine", "weight": "min_snr"},
    "hybrid": {"T": 50, "schedule": "cosine"},
    "dsm": {"process_name": "vp"},
    "smld": {"L": 8},
    "sliced": {"L": 8, "form": "plain"},
    "energy": {"L": 8},
    "contrastive": {"L": 8, "steps": 2},
    "flow": {"path": "trigonometric"},
    "consistency": {"s_1": 40},
    "vdm": {"gamma_0": -8.0},
    "classifier": {"T": 50},
}
NOISE = [name for name in OBJECTIVES if name not in ("consistency", "classifier")]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(name: str, goal: Objective) -> torch.nn.Module:
    """A small network of the objective's kind, float64, whose output is not 0."""
    body: dict[str, Any] = {"dim": 2, "width": 8, "depth": 1, "embedding_dim": 4}
    if goal.kind == "classifier":
        net = nets.build("vector_classifier", {**body, "classes": 3}, 0)
    elif goal.kind == "body":
        net = nets.build("mlp", {**body, "learned_variance": goal.learned_variance}, 0)
    else:
        net = nets.build(goal.kind, {"body": "mlp", "settings": body}, 0)
    source = generator(1)
    with torch.no_grad():
        for value in net.parameters():
            value.add_(0.3 * torch.randn(value.shape, generator=source))
    return net.double()


def batch(count: int = 16) -> tuple[Tensor, Tensor]:
    data = load("mixture", count=count, dtype=torch.float64)
    assert data.labels is not None
    return data.x, data.labels


def label_for(goal: Objective, labels: Tensor) -> Tensor | None:
    return labels if goal.kind == "classifier" else None


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_settings_are_json_and_make_the_objective_again(name: str) -> None:
    goal = make(name, SETTINGS[name])
    again = make(name, json.loads(json.dumps(goal.settings)))
    assert again == goal and again != make(name) and type(again) is OBJECTIVES[name]


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_draws_belong_to_rows_come_from_their_seed_and_from_nothing_else(name: str) -> None:
    goal, (x_0, _) = make(name, SETTINGS[name]), batch()
    before = torch.get_rng_state()
    first, again, other = (goal.draw(x_0, generator(seed), 3, 1000) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert all(len(value) == len(x_0) for value in first.values())
    assert first.keys() == again.keys() and all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["noise"], other["noise"])


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_a_loss_of_rows_is_the_rows_of_the_loss(name: str) -> None:
    goal, (x_0, labels) = make(name, SETTINGS[name]), batch()
    net, draws = network(name, goal), goal.draw(x_0, generator(), 3, 1000)
    whole = goal.loss(net, x_0, label_for(goal, labels), draws)
    part = {key: value[5:9] for key, value in draws.items()}
    rows = goal.loss(net, x_0[5:9], label_for(goal, labels[5:9]), part)
    assert whole.shape == (len(x_0),) and bool((whole.isfinite()).all())
    torch.testing.assert_close(rows, whole[5:9], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_parameter_gets_a_gradient(name: str) -> None:
    goal, (x_0, labels) = make(name, SETTINGS[name]), batch()
    net = network(name, goal)
    draws = goal.draw(x_0, generator(), 3, 1000)
    goal.loss(net, x_0, label_for(goal, labels), draws).mean().backward()
    missing = [key for key, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    assert missing == []


def as_library(name: str, goal: Any, net: Any, x_0: Tensor, labels: Tensor, d: dict[str, Tensor]) -> Tensor:
    """The same loss, from the functions of the topics alone."""
    noise = d["noise"]
    if name == "ddpm":
        return ddpm.loss_simple(lambda x, t: net(x, t.double()), goal.table, x_0, d["t"], noise)
    if name in ("ddpm_x0", "ddpm_v"):
        kind = goal.prediction
        x_t = ddpm.q_sample(goal.table, x_0, d["t"], noise)
        target = parameterization.convert(goal.table, x_t, d["t"], noise, "eps", kind)
        error = ((net(x_t, d["t"].double()) - target) ** 2).mean(1)
        snr = goal.table.snr[d["t"]]
        return error * (1 if kind == "x_0" else snr.clamp(max=5) / (snr + 1))
    if name == "hybrid":
        model = lambda x, t: nets.halves(net(x, t.double()))  # noqa: E731
        return vlb.hybrid_loss(model, goal.table, x_0, d["t"], noise, decoder="density")
    if name == "dsm":
        vp = goal.process()
        std, scale = (lambda t: vp.std(t)[:, None]), (lambda t: vp.scale(t)[:, None])
        score = lambda x, t: net(x / scale(t), vp.std(t) / vp.scale(t)) / scale(t)  # noqa: E731
        inner = (std(d["t"]) * score(scale(d["t"]) * x_0 + std(d["t"]) * noise, d["t"]) + noise) ** 2
        assert torch.allclose(inner.sum(1), sde.dsm_loss(vp, score, x_0, d["t"], noise))
        return inner.sum(1)
    if name in ("smld", "energy"):
        score = net if name == "smld" else (lambda x, s: net.score(x, s, create_graph=True))
        return smld.loss(score, smld.geometric_sigmas(10.0, 0.01, 8), x_0, d["index"], noise)
    if name in ("sliced", "contrastive"):
        sigma = smld.geometric_sigmas(10.0, 0.01, 8)[d["index"]]
        x, of = x_0 + sigma[:, None] * noise, lambda x: net(x, sigma)
        if name == "sliced":
            return sigma**2 * score_matching.sliced_loss(of, x, d["probe"])
        x_neg = x
        for z in d["chain"].unbind(1):
            x_neg = langevin.step(x_neg, energy.score(of, x_neg), 0.1 * sigma**2, z)
        return energy.contrastive_loss(of, x, x_neg)
    if name == "flow":
        model = lambda x, t: net(x, 1000 * t)  # noqa: E731
        return flow.loss(flow.path("trigonometric"), model, x_0, d["t"], noise, reduction="mean")
    if name == "vdm":
        model = lambda z, g: net(z, 1000 * (g + 8) / 13)  # noqa: E731
        return vdm.loss_continuous(model, vdm.LinearGamma(-8.0, 5.0), x_0, d["t"], noise)
    if name == "consistency":
        inner = lambda y, s: net(y, 250 * s.log())  # noqa: E731
        f = lambda x, s: consistency.function(inner, x, s)  # noqa: E731
        distance = (f(x_0 + d["sigma"][:, None] * noise, d["sigma"])) - (
            f(x_0 + d["lower"][:, None] * noise, d["lower"])
        )
        return consistency.pseudo_huber(distance) / (d["sigma"] - d["lower"])
    logits = net(ddpm.q_sample(goal.table, x_0, d["t"], noise), d["t"].double())
    return logits.logsumexp(1) - logits[torch.arange(len(labels)), labels]


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_the_loss_is_that_of_the_library(name: str) -> None:
    goal, (x_0, labels) = make(name, SETTINGS[name]), batch()
    net, draws = network(name, goal), goal.draw(x_0, generator(), 3, 1000)
    found = goal.loss(net, x_0, label_for(goal, labels), draws)
    expected = as_library(name, goal, net, x_0, labels, draws)
    # both are float64; levels near data divide by small numbers, of which the smallest here is 0.01
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    # a noise of other rows is another loss
    turned = {**draws, "noise": draws["noise"].roll(1, 0)}
    assert not torch.allclose(goal.loss(net, x_0, label_for(goal, labels), turned), expected, rtol=1e-3)


def exact(name: str, goal: Any, shift: float = 1.0) -> Callable[..., Tensor]:
    """The perfect network of the mixture in the convention of an objective; ``shift`` multiplies its σ."""
    if goal.kind == "score":
        return lambda x, sigma, label=None: LAW.at(torch.ones_like(sigma), shift * sigma).score(x)
    if goal.kind == "energy":
        return lambda x, sigma, label=None: -LAW.at(torch.ones_like(sigma), shift * sigma).log_prob(x)
    if name == "flow":
        return lambda x, t, label=None: flow.marginal_velocity(goal.curve, LAW, x, shift * t / 1000)
    if name == "vdm":

        def noise(z: Tensor, place: Tensor, label: Tensor | None = None) -> Tensor:
            gamma = goal.gamma_0 + place / 1000 * (goal.gamma_1 - goal.gamma_0)
            level = vdm.level(gamma + 2 * math.log(shift))
            return LAW.at(level.alpha, level.sigma).eps(z)

        return noise

    def prediction(x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        level = (t.round() * shift).long()
        made = parameterization.convert(
            goal.table, x, level, LAW.eps(goal.table, x, level), "eps", goal.prediction
        )
        return torch.cat([made, made], 1) if goal.learned_variance else made

    return prediction


@pytest.mark.parametrize("name", NOISE)
def test_the_perfect_network_of_every_objective_tells_the_same_noise(name: str) -> None:
    goal, x = make(name, {**SETTINGS[name], **({"T": 50} if "T" in SETTINGS[name] else {})}), batch()[0]
    # levels that every one of them knows: those of the schedules at whole numbers
    at = [5, 20, 40]
    schedule = getattr(goal, "table", make("ddpm", {"T": 50}).table)  # type: ignore[attr-defined]
    for t in at:
        scale, std = schedule.sqrt_alpha_bar[t], schedule.sqrt_one_minus_alpha_bar[t]
        for factor in (1.0, 1 / scale, 1 / (scale + std)):
            here = factor * scale, factor * std
            expected = LAW.at(*here).eps(x)
            found = goal.eps(exact(name, goal), x, *here)
            torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
            wrong = goal.eps(exact(name, goal, 0.6), x, *here)
            assert float((wrong - expected).abs().max()) > 1e-3


@pytest.mark.parametrize("name", NOISE)
def test_levels_descend_to_data_and_begin_where_noise_is_all(name: str) -> None:
    goal = make(name, SETTINGS[name])
    for spacing in ("own", "karras", "geometric"):
        levels = goal.levels(6, spacing)
        assert levels.steps == 6 and levels.std[-1] == 0 and levels.sigma[0] > 3
    assert goal.levels(1).steps == 1
    with pytest.raises(ValueError, match="spacing must be one of own, karras, geometric, got 'linear'"):
        goal.levels(6, "linear")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n must be at least 2, got 1"):
        goal.levels(1, "karras")


@pytest.mark.parametrize("name", NOISE)
def test_the_chain_of_an_objective_has_its_levels(name: str) -> None:
    goal = make(name, SETTINGS[name])
    for spacing in ("own", "karras"):
        schedule, visited = goal.chain(6, spacing)
        levels = goal.levels(6, spacing)
        torch.testing.assert_close(schedule.sigma[visited], levels.sigma, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", NOISE)
def test_a_solver_with_the_perfect_network_ends_near_the_law(name: str) -> None:
    goal = make(name, {**SETTINGS[name], **({"T": 200} if "T" in SETTINGS[name] else {})})
    model = lambda x, scale, std: goal.eps(exact(name, goal), x, scale, std)  # noqa: E731
    start = torch.randn(400, 2, dtype=torch.float64, generator=generator())
    levels = goal.levels(20, "karras")
    first = torch.hypot(levels.scale[0], levels.std[0])
    x = SOLVERS["dpmpp_2m"].sample(model, first * start, levels)
    mean = (LAW.weights[:, None] * LAW.means).sum(0)
    cov = torch.einsum("k,kij->ij", LAW.weights, LAW.covs + LAW.means[:, :, None] * LAW.means[:, None])
    cov = cov - mean[:, None] * mean
    # four standard errors of 400 samples, and a tenth for the error of twenty steps
    assert float((x.mean(0) - mean).abs().max()) < 4 / math.sqrt(400) + 0.1
    assert float((x.T.cov() - cov).abs().max()) < 0.3


def test_weights_of_the_bound_are_those_of_its_terms() -> None:
    for name, form in (("ddpm", "eps"), ("ddpm_x0", "x_0")):
        goal: Any = make(name, {"T": 30, "weight": "bound"})
        t = torch.arange(2, 31)
        expected = ddpm.loss_weight(goal.table, t, form, "beta")
        torch.testing.assert_close(goal.weights[2:], expected, rtol=1e-13, atol=0)


def test_the_first_weight_of_the_bound_is_that_of_a_gaussian_decoder() -> None:
    goal: Any = make("ddpm", {"T": 30, "weight": "bound"})
    x_0, noise, eps = (torch.randn(4, 2, dtype=torch.float64, generator=generator(k)) for k in range(3))
    term = [vlb.decoder_term(goal.table, x_0, noise, e, "beta", decoder="density") for e in (eps, noise)]
    torch.testing.assert_close(term[0] - term[1], goal.weights[1] * (noise - eps) ** 2, rtol=1e-9, atol=1e-12)


def test_weights_mean_the_same_whatever_is_predicted() -> None:
    for weight in ("bound", "min_snr"):
        tables = [make(name, {"T": 30, "weight": weight}) for name in ("ddpm", "ddpm_x0", "ddpm_v")]
        of_eps, of_x_0, of_v = (goal.weights[1:] for goal in tables)  # type: ignore[attr-defined]
        snr, noise = (getattr(tables[0].table, key)[1:] for key in ("snr", "one_minus_alpha_bar"))  # type: ignore[attr-defined]
        torch.testing.assert_close(of_eps * snr, of_x_0, rtol=1e-12, atol=0)
        torch.testing.assert_close(of_x_0 * noise, of_v, rtol=1e-12, atol=0)


def test_times_between_levels_are_between_them() -> None:
    goal: Any = make("ddpm", {"T": 40})
    s = goal.table
    for t in (1, 17, 40):
        found = goal.time(s.sqrt_alpha_bar[t], s.sqrt_one_minus_alpha_bar[t])
        assert float(found) == pytest.approx(t, abs=1e-9)
    half = torch.sigmoid(-(s.log_snr[17] + s.log_snr[18]) / 2)
    assert float(goal.time((1 - half).sqrt(), half.sqrt())) == pytest.approx(17.5, abs=1e-9)
    for sigma in (1e-4, 1e4):
        at = torch.tensor([1.0, sigma]).double()
        with pytest.raises(ValueError, match=r"log\(scale / std\) must lie in .* the levels 1\.\.40, got"):
            goal.time(*at)


def test_a_schedule_without_signal_at_its_end_is_sampled_from_the_level_before() -> None:
    goal: Any = make("ddpm_v", {"T": 20, "schedule": "jsd"})
    schedule, visited = goal.chain(5)
    assert schedule.alpha_bar[20] == 0 and visited[0] == 19 and bool((goal.levels(5).scale > 0).all())


def test_consistency_levels_are_neighbours_of_their_number() -> None:
    goal, x_0 = make("consistency", {"s_1": 40}), batch()[0]
    for step, count in ((0, 11), (999, 41)):
        draws, sigmas = goal.draw(x_0, generator(), step, 1000), consistency.levels(0.002, 80.0, count)
        place = torch.searchsorted(sigmas, draws["lower"])
        assert torch.equal(sigmas[place], draws["lower"]) and torch.equal(sigmas[place + 1], draws["sigma"])


def test_times_of_vdm_are_spread_evenly_and_indices_with_them() -> None:
    x_0 = batch()[0]
    t = make("vdm").draw(x_0, generator())["t"].sort().values
    torch.testing.assert_close(t.diff(), torch.full((15,), 1 / 16).double(), rtol=0, atol=1e-12)
    index = make("vdm", {"T": 16}).draw(x_0, generator())["index"]
    assert sorted(index.tolist()) == list(range(1, 17))


def test_the_optimal_coupling_shortens_the_ways_and_keeps_the_noises() -> None:
    x_0 = batch()[0]
    goals = [make("flow", {"coupling": kind}) for kind in ("independent", "optimal")]
    plain, coupled = (goal.draw(x_0, generator()) for goal in goals)
    assert torch.equal(plain["noise"].sort(0).values, coupled["noise"].sort(0).values)
    costs = [flow.coupling_cost(x_0, draws["noise"]) for draws in (plain, coupled)]
    assert costs[1] < costs[0]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("gan", {}, "model must be one of ddpm, ddpm_x0"),
        ("ddpm", {"steps": 3}, "settings of ddpm must be among schedule, T, .* got 'steps'"),
        ("ddpm", {"prediction": "v"}, "settings of ddpm must be among"),
        ("ddpm", {"T": "50"}, "T must be int, got '50'"),
        ("ddpm", {"T": 1}, "T must be at least 2, got 1"),
        ("ddpm", {"T": True}, "T must be int, got True"),
        ("ddpm", {"schedule": "straight"}, "schedule must be one of linear"),
        ("ddpm", {"weight": "p2"}, "weight must be one of simple, bound, min_snr, got 'p2'"),
        ("ddpm", {"gamma": -1}, "gamma must lie strictly between 0 and inf, got -1.0"),
        ("dsm", {"process_name": "x"}, "process_name must be one of ve, vp, subvp, edm, got 'x'"),
        ("dsm", {"process_settings": {"beta": 1}}, "process_settings must be arguments of ve"),
        ("dsm", {"first": 2.0}, "first must lie strictly between 0"),
        ("smld", {"sigma_L": 20.0}, "sigma_L must be below sigma_1"),
        ("sliced", {"form": "x"}, "form must be one of plain, reduced, got 'x'"),
        ("sliced", {"directions": "x"}, "directions must be one of normal, signs, got 'x'"),
        ("contrastive", {"start": "x"}, "start must be one of data, noise, got 'x'"),
        ("contrastive", {"steps": 0}, "steps must be at least 1, got 0"),
        ("contrastive", {"ratio": 2.0}, "ratio must lie strictly between 0 and 2, got 2.0"),
        ("contrastive", {"spread": 0.0}, "spread must be above 0 and finite, got 0.0"),
        ("contrastive", {"penalty": -1.0}, "penalty must be at least 0 and finite, got -1.0"),
        ("flow", {"path": "x"}, "path must be one of rectified"),
        ("flow", {"time": "x"}, "time must be one of uniform, logit_normal, got 'x'"),
        ("flow", {"coupling": "x"}, "coupling must be one of independent, optimal, got 'x'"),
        ("vdm", {"gamma_1": -20.0}, "gamma_1 must be above gamma_0"),
        ("consistency", {"sigma_data": 0}, "sigma_data must lie strictly between 0"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_wrong_setting_is_named(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, settings)


def test_what_an_objective_does_not_predict_is_not_asked() -> None:
    x, one = torch.zeros(2, 2).double(), torch.ones(()).double()
    for name in ("consistency", "classifier"):
        with pytest.raises(ValueError, match="trains no prediction of the noise"):
            make(name).eps(network(name, make(name)), x, one, one)
    with pytest.raises(ValueError, match="label must be given to train a classifier"):
        goal = make("classifier")
        goal.loss(network("classifier", goal), x, None, goal.draw(x, generator()))


def test_the_probability_of_a_class_is_that_of_the_noised_point() -> None:
    goal: Any = make("classifier", {"T": 50})
    net, (x, labels) = network("classifier", goal), batch()
    level = goal.table.sqrt_alpha_bar[7], goal.table.sqrt_one_minus_alpha_bar[7]
    expected = torch.log_softmax(net(x, torch.full((16,), 7.0)), 1)[torch.arange(16), labels]
    found = goal.log_probability(net, 3 * x, 3 * level[0], 3 * level[1], labels)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


def test_every_name_of_the_module_is_there() -> None:
    assert all(hasattr(objective, name) for name in objective.__all__)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_a_loss_is_computed_where_its_batch_is(name: str) -> None:
    goal, (x_0, labels) = make(name, SETTINGS[name]), batch()
    draws = {key: value.to("meta") for key, value in goal.draw(x_0, generator(), 3, 1000).items()}
    label = label_for(goal, labels)
    net = network(name, goal).to("meta")
    with OneDevice():
        losses = goal.loss(net, x_0.to("meta"), None if label is None else label.to("meta"), draws)
        assert losses.device.type == "meta" and losses.shape == (len(x_0),)
        losses.mean().backward()
