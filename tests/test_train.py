"""Training is its loop: a batch in parts is the batch, a run that goes on is the run that did not stop."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from refdiff import checkpoint, pictures
from refdiff.objective import OBJECTIVES
from refdiff.train import (
    CURVE,
    FILE,
    PICTURE,
    SETTINGS,
    Row,
    Run,
    Settings,
    World,
    network_of,
    read_curve,
    train,
)

TINY: dict[str, Any] = {"width": 8, "depth": 1, "embedding_dim": 4}
QUICK = Settings(data="mixture", count=500, steps=12, batch=16, net_settings=TINY, rate=3e-3, dtype="float64")
OBJECTIVE: dict[str, dict[str, Any]] = {
    "energy": {"L": 5},
    "contrastive": {"L": 5, "steps": 2},
    "sliced": {"L": 5},
    "consistency": {"s_1": 20},
}


def settings(model: str, **changes: Any) -> Settings:
    return replace(QUICK, model=model, objective=OBJECTIVE.get(model, {}), **changes)


def gradients(run: Run) -> dict[str, Tensor]:
    return {name: value.grad.clone() for name, value in run.net.named_parameters()}


def far(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """The largest difference, in units of the largest gradient."""
    size = max(float(value.abs().max()) for value in first.values())
    return max(float((value - second[name]).abs().max()) for name, value in first.items()) / size


@pytest.mark.parametrize("model", sorted(OBJECTIVES))
def test_accumulated_gradients_are_those_of_the_whole_batch(model: str) -> None:
    found = []
    for parts in (1, 4):
        run = Run(settings(model, accumulate=parts))
        for _ in range(3):
            run.advance()
        loss = run.backward(run.draw())
        found.append((loss, gradients(run)))
    (loss, whole), (other, accumulated) = found
    # sums of 16 samples in another order, through a net that three steps of Adam moved by 1e-3
    assert other == pytest.approx(loss, rel=1e-9) and far(whole, accumulated) < 1e-8
    halves = Run(settings(model, accumulate=1))
    x_0, label, draws = halves.draw()
    rows = {name: value[:8] for name, value in draws.items()}
    halves.backward((x_0[:8], None if label is None else label[:8], rows))
    assert far(whole, gradients(halves)) > 1e-3


@pytest.mark.parametrize("model", sorted(OBJECTIVES))
def test_a_run_that_goes_on_is_the_run_that_did_not_stop(tmp_path: Path, model: str) -> None:
    of = settings(model, dtype="float32", decay="cosine", warm_up=3)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    straight = train(of, whole)
    train(of, stopped, until=5)
    again = train(of, stopped, resume=True)
    for name in (FILE, CURVE, SETTINGS, PICTURE):
        assert (whole / name).read_bytes() == (stopped / name).read_bytes(), name
    pairs = zip(straight.net.state_dict().values(), again.net.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert all(torch.equal(value, again.ema.average[name]) for name, value in straight.ema.average.items())


@pytest.mark.parametrize(
    "lost", ["optimiser", "generators", "average", "weights", "updates", "step"], ids=lambda lost: str(lost)
)
def test_a_run_that_forgets_a_part_of_its_state_is_another_one(lost: str) -> None:
    of = settings("ddpm", ema_warm_up="count")
    straight, first, second = Run(of), Run(of), Run(of)
    for run in (straight, first):
        for _ in range(5):
            run.advance()
    saved, fresh = first.checkpoint(), second.checkpoint()
    saved = replace(saved, weights={k: v.clone() for k, v in saved.weights.items()})
    if lost == "optimiser":
        saved = replace(saved, optimiser={name: 0 * value for name, value in saved.optimiser.items()})
    elif lost in ("updates", "step"):
        saved = replace(saved, header=replace(saved.header, **{lost: 1}))
    else:
        saved = replace(saved, **{lost: getattr(fresh, lost)})
    second.restore(saved)
    for run in (straight, second):
        for _ in range(3):
            run.advance()
    before, after = straight.checkpoint(), second.checkpoint()
    same = [
        before.header == after.header,
        *(torch.equal(value, after.weights[name]) for name, value in before.weights.items()),
        *(torch.equal(value, after.average[name]) for name, value in before.average.items()),
    ]
    assert not all(same)


def test_a_run_that_broke_off_after_its_checkpoint_writes_its_later_rows_once(tmp_path: Path) -> None:
    of = settings("ddpm", save_every=4)
    train(of, tmp_path / "whole")

    def stop(row: Row) -> None:
        if row.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(of, tmp_path / "broken", progress=stop)
    assert len(read_curve(tmp_path / "broken" / CURVE)) == 7
    train(of, tmp_path / "broken", resume=True)
    for name in (FILE, CURVE):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes()


def test_the_folder_has_the_checkpoint_the_curve_and_the_settings(tmp_path: Path) -> None:
    run = train(settings("ddpm"), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([FILE, CURVE, PICTURE, SETTINGS])
    rows = read_curve(tmp_path / CURVE)
    assert [row.step for row in rows] == list(range(1, 13)) and all(row.rate == 3e-3 for row in rows)
    about = json.loads((tmp_path / SETTINGS).read_text())
    assert Settings.from_dict(about["settings"]) == run.settings
    assert about["parameters"] == sum(value.numel() for value in run.net.parameters())
    found = checkpoint.load(tmp_path / FILE)
    assert found.header.step == 12 and found.header.shape == (2,) and found.header.objective == "ddpm"
    averages = dict(found.net().named_parameters())
    assert all(torch.equal(value, averages[name]) for name, value in run.ema.average.items())


def test_training_moves_no_global_generator_and_needs_none(tmp_path: Path) -> None:
    dropping = {"in_channels": 1, "base": 8, "groups": 4, "multipliers": [1], "attention": [], "dropout": 0.5}
    of = Settings(steps=2, batch=4, net_settings=dropping)
    before = torch.get_rng_state()
    first = train(of)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(7)
    second, other = train(of), train(replace(of, seed=1))
    values = [list(run.net.parameters()) for run in (first, second, other)]
    assert all(torch.equal(a, b) for a, b in zip(values[0], values[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(values[0], values[2], strict=True))


def test_masks_of_dropout_change_with_the_step_and_with_the_part() -> None:
    dropping = {"base": 8, "groups": 4, "multipliers": [1], "attention": [], "dropout": 0.5}
    run = Run(Settings(steps=2, batch=4, accumulate=2, net_settings=dropping))

    def mask(step: int, part: int) -> Tensor:
        run.step = step
        with run._masks(part):
            return torch.rand(4)

    assert torch.equal(mask(0, 0), mask(0, 0))
    places = [mask(step, part) for step in (0, 1) for part in (0, 1)]
    assert all(not torch.equal(a, b) for i, a in enumerate(places) for b in places[:i])


def test_training_learns() -> None:
    losses: list[float] = []
    of = replace(QUICK, steps=300, batch=128, objective={"T": 100, "schedule": "cosine"}, dtype="float32")
    train(replace(of, net_settings={"width": 32, "depth": 2}), progress=lambda row: losses.append(row.loss))
    # a fresh network returns 0, whose loss is that of the noise itself, 1
    assert losses[0] == pytest.approx(1, abs=5 * math.sqrt(2 / 256))
    assert sum(losses[-100:]) / 100 < 0.8


def test_the_average_follows_its_recursion_through_training() -> None:
    run = Run(replace(QUICK, ema=0.75, ema_warm_up="none"))
    expected = {name: value.detach().clone() for name, value in run.net.named_parameters()}
    for _ in range(5):
        run.advance()
        for name, value in run.net.named_parameters():
            expected[name] = 0.75 * expected[name] + 0.25 * value.detach()
    for name, value in expected.items():
        torch.testing.assert_close(run.ema.average[name], value, rtol=1e-14, atol=1e-15)


def test_the_gradient_is_clipped_to_its_bound_and_the_curve_has_its_norm() -> None:
    run, free = Run(replace(QUICK, clip=0.01)), Run(replace(QUICK, clip=0.0))
    rows = [run.advance(), free.advance()]
    norms = [math.sqrt(sum(float((value**2).sum()) for value in gradients(r).values())) for r in (run, free)]
    # the scaling divides by the norm plus 1e-6
    assert norms[0] == pytest.approx(0.01, rel=1e-3) and norms[1] > 0.02
    assert rows[0] == rows[1] and rows[1].gradient == pytest.approx(norms[1], rel=1e-12)


def test_rates_rise_and_fall_as_they_are_set() -> None:
    of = replace(QUICK, steps=100, warm_up=4, decay="cosine", rate=1.0)
    expected = [min(1, (k + 1) / 4) * (1 + math.cos(math.pi * k / 100)) / 2 for k in range(100)]
    assert [of.rate_at(k) for k in range(100)] == pytest.approx(expected, rel=1e-14)
    assert replace(of, warm_up=0, decay="constant").rate_at(99) == 1.0


def test_autocast_computes_the_network_alone_in_bfloat16() -> None:
    of = replace(QUICK, dtype="float32", net_settings={"width": 32, "depth": 2})
    plain, short = Run(of), Run(replace(of, autocast=True))
    for run in (plain, short):
        for _ in range(3):
            run.advance()
    batch = plain.draw()
    first = (plain.backward(batch), gradients(plain))
    short.net.load_state_dict(plain.net.state_dict())
    second = (short.backward(batch), gradients(short))
    assert all(value.dtype == torch.float32 for value in second[1].values())
    # bfloat16 has eight bits, a relative rounding of 2^-8; a few of them add up through four layers
    assert second[0] == pytest.approx(first[0], rel=0.02) and 0 < far(first[1], second[1]) < 0.1


DIFFERENTIATED = {"energy", "contrastive", "sliced"}


@pytest.mark.parametrize("model", sorted(set(OBJECTIVES) - DIFFERENTIATED))
def test_every_objective_that_differentiates_no_network_trains_images_under_autocast(model: str) -> None:
    run = Run(Settings(model=model, batch=2, steps=100, net_settings={"base": 8, "groups": 4}, autocast=True))
    assert math.isfinite(run.advance().loss)


@pytest.mark.parametrize("model", sorted(DIFFERENTIATED))
def test_a_network_that_is_differentiated_is_not_trained_under_autocast(model: str) -> None:
    with pytest.raises(ValueError, match=f"autocast must be off for {model}, whose network is"):
        Run(settings(model, autocast=True))


def test_labels_are_dropped_as_often_as_asked_and_told_only_where_asked() -> None:
    of = replace(QUICK, conditional=True, batch=4000, label_drop=0.25)
    label = Run(of).draw()[1]
    assert label is not None
    # five standard deviations of a binomial
    assert abs(float((label == 3).double().mean()) - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 4000)
    assert Run(replace(of, conditional=False)).draw()[1] is None
    told = Run(replace(of, model="classifier")).draw()[1]
    assert told is not None and int(told.max()) == 2
    assert Run(of).net.settings["classes"] == 3


@pytest.mark.parametrize("model", sorted(OBJECTIVES))
@pytest.mark.parametrize("data", ["digits", "wine"])
def test_every_objective_has_a_network_for_images_and_for_vectors(model: str, data: str) -> None:
    small = {"base": 8, "groups": 4} if data == "digits" else TINY
    run = Run(Settings(model=model, data=data, batch=2, steps=100, net_settings=small))
    assert math.isfinite(run.advance().loss)


def test_images_of_any_size_get_a_network_that_can_halve_them() -> None:
    of, data = Settings(), Run(Settings(batch=1, net_settings={"base": 8})).data
    for size, levels in ((8, 2), (16, 3), (28, 3), (30, 2), (9, 1)):
        found = replace(data, x=torch.zeros(1, 1, size, size))
        name, arguments = network_of(found, of.goal(found), of)
        assert name == "unet" and len(arguments["multipliers"]) == levels


def test_the_hybrid_objective_knows_the_values_of_pixels() -> None:
    data = Run(Settings(batch=1, net_settings={"base": 8})).data
    found = Settings(model="hybrid").goal(data).settings
    assert (found["decoder"], found["bins"]) == ("discretized", 17)
    asked = Settings(model="hybrid", objective={"decoder": "density"}).goal(data).settings
    assert asked["decoder"] == "density"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "gan"}, "model must be one of ddpm"),
        ({"data": "mnist"}, "data must be one of digits"),
        ({"dtype": "float16"}, "dtype must be one of float32, float64, got 'float16'"),
        ({"decay": "linear"}, "decay must be one of constant, cosine"),
        ({"part": "half"}, "part must be one of all"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch": 2.5}, "batch must be an int, got 2.5"),
        ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
        ({"rate": -1.0}, "rate must lie strictly between 0 and inf, got -1.0"),
        ({"ema": 1.0}, "decay must be at least 0 and below 1, got 1.0"),
        ({"ema_warm_up": "x"}, "warm_up must be one of"),
        ({"label_drop": 1.5}, "label_drop must be at least 0 and below 1, got 1.5"),
        ({"clip": -1.0}, "clip must be at least 0 and finite, got -1.0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_setting_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(QUICK, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "swiss_roll", "conditional": True}, "data must have classes for labels, got swiss_roll"),
        ({"data": "swiss_roll", "model": "classifier"}, "data must have classes for labels, got swiss_roll"),
        ({"net_settings": {"colour": 1}}, "settings must be arguments of mlp"),
        ({"objective": {"colour": 1}}, "settings of ddpm must be among"),
    ],
    ids=["conditional", "classifier", "net", "objective"],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Run(replace(QUICK, **changes))


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"settings must be among .* got 'learning_rate'"):
        Settings.from_dict({"learning_rate": 1.0})


def test_a_folder_is_not_overwritten_and_not_resumed_with_other_settings(tmp_path: Path) -> None:
    train(settings("ddpm", steps=2), tmp_path)
    with pytest.raises(ValueError, match=f"out must have no {FILE} unless it is resumed"):
        train(settings("ddpm", steps=2), tmp_path)
    with pytest.raises(ValueError, match=r"settings must have seed = 0 to go on, got 1"):
        train(settings("ddpm", steps=4, seed=1), tmp_path, resume=True)
    with pytest.raises(ValueError, match="out must be given to resume"):
        train(settings("ddpm"), resume=True)
    assert train(settings("ddpm", steps=4), tmp_path, resume=True).step == 4


@pytest.mark.parametrize("lost", ["generators", "optimiser"])
def test_a_checkpoint_without_the_state_of_a_training_does_not_go_on(lost: str) -> None:
    run = Run(settings("ddpm"))
    run.advance()
    with pytest.raises(ValueError, match="checkpoint must have the"):
        Run(settings("ddpm")).restore(replace(run.checkpoint(), **{lost: {}}))
    broken = {"batches": torch.zeros(3, dtype=torch.uint8), "noises": torch.zeros(3, dtype=torch.uint8)}
    with pytest.raises(ValueError, match="checkpoint must have a state of the generator"):
        Run(settings("ddpm")).restore(replace(run.checkpoint(), generators=broken))


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    run = Run(QUICK)
    with torch.no_grad():
        run.net.out.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="gradient must be finite, got norm nan at step 1, loss nan"):
        run.advance()


def test_rows_of_a_batch_belong_to_one_process_each() -> None:
    worlds = [World(rank=rank, size=4) for rank in range(4)]
    assert [row for world in worlds for row in world.rows(12)] == list(range(12))
    with pytest.raises(ValueError, match="batch must be a multiple of 4 processes, got 10"):
        worlds[0].rows(10)


@contextmanager
def cut(path: Path, text: str) -> Iterator[Path]:
    path.write_text(text)
    yield path


def test_a_curve_is_read_to_its_last_whole_line(tmp_path: Path) -> None:
    row = json.dumps(asdict(Row(1, 0.5, 1.0, 1e-3)))
    with cut(tmp_path / "a", f"{row}\n{row[:9]}") as path:
        assert read_curve(path) == [Row(1, 0.5, 1.0, 1e-3)]
    with cut(tmp_path / "b", f"{row[:9]}\n{row}\n") as path, pytest.raises(ValueError, match="hold a row"):
        read_curve(path)


def test_a_picture_of_the_same_curve_is_the_same_file(tmp_path: Path) -> None:
    rows = [Row(k, 1 / k, 1.0, 1e-3) for k in range(1, 200)]
    for name in ("a.png", "b.png"):
        pictures.loss_curve(rows, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    pictures.loss_curve([], tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 0
