"""``refdiff train`` and ``refdiff sample``, and training on several processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from refdiff import checkpoint, generate
from refdiff.checkpoint import Checkpoint
from refdiff.cli import app
from refdiff.datasets import DATASETS
from refdiff.objective import OBJECTIVES
from refdiff.train import Run, Settings, read_curve
from refdiff.train import train as by_hand

TINY = ["--net", "width=8", "--net", "depth=1", "--net", "embedding_dim=4"]
SHORT = ["--data", "mixture", "--steps", "3", "--batch", "8", "--option", "count=50", *TINY]


def run(*arguments: str | Path) -> Result:
    words = [str(word) for word in arguments]
    return CliRunner().invoke(app, words, env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


def complaint(*arguments: str | Path) -> str:
    """The one line on stderr with which a bad question is answered."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == "" and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of a network with labels and of a classifier."""
    folder = tmp_path_factory.mktemp("runs")
    for name, more in (("told", ["--conditional"]), ("judge", ["--model", "classifier"])):
        result = run("train", "--out", folder / name, *SHORT, *more)
        assert result.exit_code == 0, result.output
    return folder


def test_train_writes_the_folder_of_the_settings_it_was_given(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    result = run("train", "--model", "flow", "--out", out, *SHORT, "--set", "path=transport", "--seed", "4")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{out / 'model.safetensors'}: 3 steps, ")
    names = ["losses.jsonl", "losses.png", "model.safetensors", "settings.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    settings = Settings.from_dict(json.loads((out / "settings.json").read_text())["settings"])
    expected = Settings(
        model="flow", objective={"path": "transport"}, data="mixture", count=50, steps=3, batch=8, seed=4,
        net_settings={"width": 8, "depth": 1, "embedding_dim": 4},
    )  # fmt: skip
    assert settings == expected
    again = by_hand(expected)
    found = checkpoint.load(out / "model.safetensors").weights
    assert all(torch.equal(value, found[name]) for name, value in again.net.state_dict().items())


def test_train_goes_on_where_it_stopped_and_overwrites_nothing(tmp_path: Path) -> None:
    command = ["train", "--out", tmp_path, *SHORT]
    assert run(*command).exit_code == 0
    assert "out must have no model.safetensors unless it is resumed" in complaint(*command)
    result = run(*command, "--resume", "--steps", "5", "--json", "-")
    assert result.exit_code == 0 and json.loads(result.stdout)["steps"] == 5
    assert [row.step for row in read_curve(tmp_path / "losses.jsonl")] == [1, 2, 3, 4, 5]


def test_sample_writes_its_pictures_and_its_tensor(tmp_path: Path, trained: Path) -> None:
    found = trained / "told" / "model.safetensors"
    files = [tmp_path / name for name in ("grid.png", "way.png", "x.safetensors")]
    arguments = ["--out", files[0], "--trajectory", files[1], "--tensor", files[2], "--count", "5"]
    result = run("sample", "--checkpoint", found, "--steps", "4", "--label", "1", *arguments, "--json", "-")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told == {"files": [str(file) for file in files], "samples": 5, "evaluations": 4}
    safetensors: Any = pytest.importorskip("safetensors.torch")
    tensors = safetensors.load_file(files[2])
    expected = generate.generate(checkpoint.load(found), options=generate.Options(steps=4), count=5, label=1)
    assert torch.equal(tensors["x"], expected.x) and tensors["label"].tolist() == [1] * 5
    assert all(file.stat().st_size > 0 for file in files)


def test_sample_takes_every_option_to_the_sampler(tmp_path: Path, trained: Path) -> None:
    found = trained / "told" / "model.safetensors"

    def tensor(*arguments: str | Path) -> bytes:
        path = tmp_path / "x.safetensors"
        base = ["sample", "--checkpoint", found, "--steps", "4", "--count", "3", "--tensor", path]
        result = run(*base, *arguments)
        assert result.exit_code == 0, result.output
        return path.read_bytes()

    plain = tensor()
    assert plain == tensor("--sampler", "ddim") == tensor("--seed", "0")
    guided = ["--label", "1", "--scale", "2"]
    changes: list[list[str | Path]] = [
        ["--eta", "0.5"],
        ["--sampler", "ddpm"],
        ["--sampler", "ddpm", "--option", "variance=beta"],
        ["--sampler", "dpmpp_2m"],
        ["--sampler", "annealed_langevin", "--option", "inner=2"],
        ["--spacing", "karras"],
        ["--seed", "1"],
        ["--weights", "last"],
        ["--label", "1"],
        ["--label", "0", "--label", "1", "--label", "2"],
        [*guided],
        [*guided, "--classifier", trained / "judge" / "model.safetensors"],
    ]
    files = [plain, *(tensor(*change) for change in changes)]
    assert len(set(files)) == len(files)


def test_the_help_and_the_page_name_every_model_and_every_set() -> None:
    page = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
    shown = run("train", "--help").stdout
    for name in (*OBJECTIVES, *DATASETS):
        assert f"`{name}`" in page and name in shown
    part = page.split("every sampler serves every model")[1].split("--spacing")[0]
    named = re.findall(r"`([a-z0-9_]+)`", part)
    assert set(named) <= set(generate.SAMPLERS) and len(named) > 15


def test_sample_lists_the_samplers() -> None:
    result = run("sample", "--sampler", "list")
    assert result.exit_code == 0 and result.stdout.split() == list(generate.SAMPLERS)


def test_a_bad_question_is_answered_with_one_line(tmp_path: Path, trained: Path) -> None:
    found, picture = trained / "told" / "model.safetensors", ["--out", tmp_path / "x.png"]
    train, sample = ["train", "--out", tmp_path / "run"], ["sample", "--checkpoint", found, *picture]
    assert "model must be one of ddpm" in complaint(*train, "--model", "gan")
    assert "data must be one of digits" in complaint(*train, "--data", "mnist")
    assert "settings of ddpm must be among" in complaint(*train, "--set", "colour=red")
    assert "'T' is not of the form NAME=VALUE" in complaint(*train, "--set", "T")
    assert "settings must be among" in complaint(*train, "--option", "colour=red")
    assert "settings must be arguments of mlp" in complaint(*train, "--data", "moons", "--net", "x=1")
    assert "device must be one of this machine, got 'toaster'" in complaint(*train, "--device", "toaster")
    assert not (tmp_path / "run").exists()
    assert "sampler must be one of" in complaint(*sample, "--sampler", "magic")
    assert "option must be among" in complaint(*sample, "--option", "colour=red")
    assert "option eta must be a number, got 'much'" in complaint(*sample, "--option", "eta=much")
    assert "label must lie in 0..2, got 7" in complaint(*sample, "--label", "7")
    assert "weights must be average or last" in complaint(*sample, "--weights", "first")
    assert "out must be given" in complaint("sample", "--checkpoint", found)
    assert "checkpoint must be given, got none" in complaint("sample", *picture)
    assert "No such file" in complaint("sample", "--checkpoint", tmp_path / "none", *picture)
    (tmp_path / "text").write_text("not a checkpoint at all")
    assert "is not a checkpoint" in complaint("sample", "--checkpoint", tmp_path / "text", *picture)


def torchrun(*arguments: str) -> str:
    """What two processes with one thread each print on stdout."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    command = [*launcher, *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def worst(first: Checkpoint, second: Checkpoint) -> float:
    """The largest difference of the gradients of a first step, in units of the largest entry.

    After one step the optimiser's first moment is a tenth of the gradient.
    """
    names = [name for name in first.optimiser if name.startswith("exp_avg.")]
    size = max(float(first.optimiser[name].abs().max()) for name in names)
    return max(float((first.optimiser[n] - second.optimiser[n]).abs().max()) for n in names) / size


def same_gradient(two: Checkpoint, one: Checkpoint, half: Checkpoint) -> None:
    """Two processes have the gradient of the whole batch, and not that of half of it."""
    # a sum of 16 terms in another order, each of a net of a few layers and, for some, of its derivative
    assert worst(one, two) < 1e-12
    assert worst(one, half) > 1e-3
    # levels and noises are drawn for the whole batch, so the generators end at the same place
    assert all(torch.equal(state, two.generators[name]) for name, state in one.generators.items())


def test_torchrun_trains_on_the_whole_batch_and_one_process_writes(tmp_path: Path) -> None:
    arguments = ["--data", "mixture", "--batch", "16", "--steps", "1", "--dtype", "float64"]
    arguments += [*TINY, "--option", "count=100", "--option", "clip=0", "--conditional"]
    printed = torchrun("-m", "refdiff.train", "--out", str(tmp_path / "two"), "--accumulate", "2", *arguments)
    assert printed.count("1 steps") == 1
    assert run("train", "--out", tmp_path / "one", *arguments).exit_code == 0
    assert run("train", "--out", tmp_path / "half", *arguments, "--batch", "8").exit_code == 0
    names = ("two", "one", "half")
    same_gradient(*(checkpoint.load(tmp_path / name / "model.safetensors") for name in names))
    rows = [read_curve(tmp_path / name / "losses.jsonl") for name in names]
    assert len(rows[0]) == 1 and rows[0][0].loss == pytest.approx(rows[1][0].loss, rel=1e-12)
    assert rows[0][0].loss != pytest.approx(rows[2][0].loss, rel=1e-3)


SCRIPT = """
import json, pathlib, sys
from refdiff.checkpoint import save
from refdiff.train import Run, Settings, launched

folder = pathlib.Path(sys.argv[1])
with launched("cpu") as world:
    for name, given in json.loads((folder / "settings.json").read_text()).items():
        run = Run(Settings.from_dict(given), world)
        run.advance()
        if world.rank == 0:
            save(folder / name, run.checkpoint())
"""


def test_two_processes_have_the_gradient_of_the_whole_batch_whatever_is_trained(tmp_path: Path) -> None:
    common = Settings(data="mixture", count=100, batch=16, steps=1, dtype="float64", clip=0)
    common = replace(common, net_settings={"width": 8, "depth": 1, "embedding_dim": 4})
    own: dict[str, dict[str, Any]] = {"energy": {"L": 5}, "consistency": {"s_0": 2, "s_1": 2}}
    own |= {"contrastive": {"L": 5, "steps": 3}, "sliced": {"L": 5}}
    names = [name for name in OBJECTIVES if name != "ddpm"]
    settings = {name: replace(common, model=name, objective=own.get(name, {})) for name in names}
    (tmp_path / "settings.json").write_text(json.dumps({k: asdict(v) for k, v in settings.items()}))
    (tmp_path / "script.py").write_text(SCRIPT)
    torchrun(str(tmp_path / "script.py"), str(tmp_path))
    for name, of in settings.items():
        one, half = Run(of), Run(replace(of, batch=8))
        one.advance()
        half.advance()
        same_gradient(checkpoint.load(tmp_path / name), one.checkpoint(), half.checkpoint())
