"""Trained networks against exact ones: those that are shipped, and one that is trained here."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from refdiff import checkpoint, datasets, ddim, evaluate, schedule, shipped, vlb
from refdiff.checkpoint import Checkpoint
from refdiff.cli import app
from refdiff.data import Empirical
from refdiff.generate import Ask, Options, generate
from refdiff.objective import make
from refdiff.train import Run, Settings
from tools import learned_numbers

LINEAR = schedule.linear()
MIXTURE = datasets.mixture_law()
BANDWIDTHS = (0.25, 0.5, 1.0)
LEVELS = (5, 20, 50, 100, 200, 400, 800)
FACTOR = 3.0
"""Between the mean excesses of two trainings that differ in their seed: the logarithms of those of five seeds
had a deviation of 0.13, and e^(4.5·√2·0.13) is 2.3."""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shipped_one(name: str) -> Checkpoint:
    return checkpoint.load(shipped.find(name))


def mean_excess(saved: Checkpoint) -> float:
    goal = make(saved.header.objective, saved.header.objective_settings)
    levels = evaluate.levels_of(LINEAR, LEVELS)
    rows = evaluate.excess_by_level(Ask(saved.net(), goal), MIXTURE, levels, 2000, seeded())
    return sum(row.excess.value for row in rows) / len(rows)


def trained(settings: Settings, until: int) -> Checkpoint:
    run = Run(settings)
    while run.step < until:
        run.advance()
    return run.checkpoint()


@pytest.mark.parametrize("name", shipped.NAMES)
def test_shipped_checkpoints_are_small_and_hold_networks(name: str) -> None:
    files = [shipped.find(other) for other in shipped.NAMES]
    assert sum(path.stat().st_size for path in files) < 1e6
    saved = shipped_one(name)
    assert not saved.average and not saved.optimiser
    x = generate(saved, "ddim", Options(steps=2), count=2).x
    assert x.shape == (2, *saved.header.shape) and bool(x.isfinite().all())


def test_a_file_of_that_name_comes_before_a_shipped_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shipped.find("mixture").parent == shipped.FOLDER
    Path("mixture").write_bytes(b"")
    assert shipped.find("mixture") == Path("mixture")


def test_a_second_training_agrees_with_the_shipped_mixture_and_a_short_one_does_not() -> None:
    saved = shipped_one("mixture")
    settings = Settings.from_dict({**saved.header.settings, "seed": 1})
    known = mean_excess(saved)
    assert known < 0.01
    again = mean_excess(trained(settings, settings.steps))
    assert known / FACTOR < again < known * FACTOR
    assert mean_excess(trained(settings, 100)) > known * FACTOR


def test_samples_of_the_shipped_mixture_are_those_of_the_perfect_network_and_of_a_worse_one_are_not() -> None:
    saved, options = shipped_one("mixture"), Options(steps=20)
    goal = make(saved.header.objective, saved.header.objective_settings)
    exact = evaluate.perfect_samples(goal, MIXTURE, "ddim", options, (2,), 600, 1)
    wrong = {name: value * 0.8 if name.startswith("out.") else value for name, value in saved.weights.items()}
    worse = generate(Checkpoint(saved.header, wrong), "ddim", options, count=600, seed=2).x
    learned = generate(saved, "ddim", options, count=600, seed=2).x
    tests = {
        name: evaluate.permutation_test(x, exact, BANDWIDTHS, seeded(), 0.01, 199)
        for name, x in (("learned", learned), ("worse", worse))
    }
    assert not tests["learned"].rejected
    assert tests["worse"].rejected


def test_the_perfect_network_takes_the_place_of_a_learned_one_in_a_sampler() -> None:
    goal, noise = make("ddpm"), seeded(5)
    x = torch.randn(4, 2, generator=noise)
    levels = list(schedule.subsequence(1000, 10, "trailing"))
    for t, s in itertools.pairwise(levels):
        x = ddim.step(LINEAR, x, t, s, MIXTURE.eps(LINEAR, x, t))
    found = evaluate.perfect_samples(goal, MIXTURE, "ddim", Options(steps=10), (2,), 4, 5)
    # ten steps of few roundings each, of numbers up to a few units
    assert (found - x).abs().max() <= 10 * 64 * torch.finfo(torch.float32).eps
    with pytest.raises(ValueError, match="sampler must be one of"):
        evaluate.perfect_samples(goal, MIXTURE, "none", Options(), (2,), 4, 5)


@pytest.mark.parametrize("sampler", ["ddpm", "dpmpp_2m", "heun", "edm_churn", "ode_heun", "flow", "vdm"])
def test_samplers_with_the_perfect_network_sample_the_law(sampler: str) -> None:
    found = evaluate.perfect_samples(make("ddpm"), MIXTURE, sampler, Options(steps=60), (2,), 250, 3)
    exact = evaluate.draw(MIXTURE, 250, seeded(4))
    test = evaluate.permutation_test(found, exact, BANDWIDTHS, seeded(), 0.001, 999)
    assert not test.rejected
    moved = evaluate.permutation_test(found + 0.25, exact, BANDWIDTHS, seeded(), 0.001, 999)
    assert moved.rejected


def line(n: int) -> list[int]:
    return list(schedule.subsequence(1000, n, "trailing"))


def test_a_round_trip_has_order_one_and_another_network_on_the_way_back_has_none() -> None:
    x_0 = evaluate.draw(MIXTURE, 64, seeded())

    def perfect(x: Tensor, t: int) -> Tensor:
        return MIXTURE.eps(LINEAR, x, t)

    counts = (125, 250, 500)
    errors = [float(evaluate.round_trip(perfect, LINEAR, x_0, line(n)).mean()) for n in counts]
    assert all(0.8 < order < 1.2 for order in evaluate.observed_order(counts, errors))
    calls = itertools.count()

    def changing(x: Tensor, t: int) -> Tensor:
        return perfect(x, t) * (1.0 if next(calls) < 250 else 0.9)

    assert float(evaluate.round_trip(changing, LINEAR, x_0, line(250)).mean()) > 5 * errors[1]


def test_orders_are_those_of_powers() -> None:
    assert evaluate.observed_order([1, 2, 4], [8.0, 2.0, 0.5]) == pytest.approx([2.0, 2.0])
    with pytest.raises(ValueError, match="errors must be as many"):
        evaluate.observed_order([1, 2], [1.0])


def test_the_bound_in_bits_is_that_of_the_reference_and_lower_for_the_perfect_network() -> None:
    data, short = datasets.load("digits", dtype=torch.float64), schedule.cosine(T=20)
    law, x_0 = Empirical(data.x.flatten(1)), data.x[:8]
    assert data.bins is not None

    def perfect(x: Tensor, t: int) -> Tensor:
        return law.eps(short, x, t)

    found, terms = evaluate.bound_in_bits(perfect, short, x_0, seeded(), data.bins)
    noise = seeded()
    noises = [torch.randn(x_0.shape, generator=noise, dtype=torch.float64) for _ in range(20)]
    again = vlb.bound_terms(perfect, short, x_0, noises, "beta", "discretized", data.bins)  # type: ignore[arg-type]
    assert terms.total.equal(again.total)
    assert found.value == pytest.approx(float(vlb.bits_per_dim(again.total.mean() / 64)))
    none, _ = evaluate.bound_in_bits(lambda x, t: 0 * x, short, x_0, seeded(), data.bins)
    assert none.value - found.value > 10 * (none.error + found.error)
    # 1797 images that are known are told apart by log2 1797 / 64 = 0.169 bits a pixel
    assert found.value > 0.169
    with pytest.raises(ValueError, match="x_0 must lie on the grid of 17 values"):
        evaluate.bound_in_bits(perfect, short, x_0 + 0.03, seeded(), data.bins)


def test_the_judge_knows_digits_that_it_has_not_seen() -> None:
    train, test = (datasets.load("digits", part=part) for part in ("train", "test"))  # type: ignore[arg-type]
    judge = evaluate.Judge(train)
    assert test.labels is not None
    assert judge.agreement(test.x, test.labels).value > 0.95
    wrong = judge.agreement(test.x, (test.labels + 1) % 10)
    assert wrong.value < 0.05
    with pytest.raises(ValueError, match="data must have labels"):
        evaluate.Judge(replace(train, labels=None))


def test_shipped_digits_are_what_was_asked_for() -> None:
    label = [k for k in range(10) for _ in range(4)]
    judge = evaluate.Judge(datasets.load("digits", part="train"))
    given = {"count": 40, "label": label, "seed": 3}
    saved, options = shipped_one("digits"), Options(steps=15)
    found = generate(saved, "ddim", options, scale=2.0, **given).x  # type: ignore[arg-type]
    control = generate(saved, "ddim", options, scale=0.0, **given).x  # type: ignore[arg-type]
    asked = torch.tensor(label)
    # a share of 0.8 of 40 has the deviation 0.063; by chance alone it is 0.1 ± 0.05
    assert judge.agreement(found, asked).value > 0.8
    assert judge.agreement(control, asked).value < 0.1 + 4.5 * 0.05


def test_the_command_evaluates_a_shipped_checkpoint(tmp_path: Path) -> None:
    small = ["--levels", "3", "--count", "50", "--samples", "50", "--steps", "5"]
    found = CliRunner().invoke(app, ["evaluate", "--checkpoint", "mixture", *small, "--json", "-"])
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    assert result["law"] == "exact" and len(result["levels"]) == 3
    for row in result["levels"]:
        apart = row["loss"] - row["least"] - row["excess"]
        assert abs(apart) <= 5 * (row["loss_error"] + row["excess_error"])
    assert result["samples"]["count"] == 50
    shown = CliRunner().invoke(app, ["evaluate", "--checkpoint", "mixture", *small])
    assert "least loss" in shown.stdout and "MMD²" in shown.stdout


def test_the_command_evaluates_digits_by_their_points_bits_and_round_trips(tmp_path: Path) -> None:
    net = {"base": 8, "multipliers": [1], "attention": []}
    settings = Settings(objective={"T": 10}, net_settings=net, steps=1, batch=4, part="train")
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, trained(settings, 1))
    more = ["--levels", "2", "--count", "4", "--bits", "3", "--trips", "3", "--steps", "5"]
    found = CliRunner().invoke(app, ["evaluate", "--checkpoint", str(path), *more])
    assert found.exit_code == 0, found.output
    assert "empirical, 1438 points" in found.stdout
    assert "bits/dim on 3 held-out samples" in found.stdout and "round trip" in found.stdout
    flow = replace(settings, model="flow", objective={})
    checkpoint.save(path, trained(flow, 1))
    found = CliRunner().invoke(app, ["evaluate", "--checkpoint", str(path), *more])
    assert found.exit_code == 2 and "must be of a network on a schedule" in found.output


def test_the_page_is_current() -> None:
    numbers = json.loads(learned_numbers.NUMBERS.read_text(encoding="utf-8"))
    assert learned_numbers.PAGE.read_text(encoding="utf-8") == learned_numbers.page(numbers)
    assert learned_numbers.FIGURE.read_text(encoding="utf-8") == learned_numbers.figure(numbers)
    pictures = (learned_numbers.FIGURE, learned_numbers.PICTURE)
    assert sum(path.stat().st_size for path in pictures) < 150e3
