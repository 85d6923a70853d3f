"""Each command does what it says, exits 0 only when all holds, and answers bad input with one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sympy as sp
from typer.testing import CliRunner, Result

import derivations
from derivations import golden as generator
from derivations.kit import Identity, Registry, coq, emit, formula
from derivations.symbols import abar_prev, abar_t
from refdiff import cli_proofs, golden
from refdiff.cli import app

COMMANDS = ("verify", "certify", "check", "derive", "explain", "list", "golden")
GOOD_TARGET = """
import refdiff
from refdiff import schedule

class Linear(refdiff.Target):
    name = "linear tables"
    def __init__(self, T=1000):
        self.T = T
    def betas(self):
        return schedule.linear(self.T).beta[1:]

class Shifted(Linear):
    def betas(self):
        return super().betas().roll(1)

instance = Linear()
nothing = refdiff.Target()
number = 3

def broken():
    raise RuntimeError("no weights")
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def complaint(result: Result) -> str:
    """The one line on stderr with which a bad question is answered."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def targets(tmp_path: Path) -> Path:
    file = tmp_path / "my_targets.py"
    file.write_text(GOOD_TARGET)
    return file


@pytest.fixture
def false_formula(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry with one claim that does not hold."""
    registry = Registry()

    @formula("ddpm.wrong", lhs=sp.Symbol("w"), rhs=abar_t / abar_prev, registry=registry)
    def _(claim: sp.Expr) -> Any:
        """The ratio of two levels is not their product."""
        yield Identity("ratio", abar_t * abar_prev, claim)

    monkeypatch.setattr("derivations.registry", lambda: registry)
    monkeypatch.setattr("derivations.node", registry.__getitem__)
    return registry


def test_help_names_every_command() -> None:
    shown = run("--help").stdout
    assert all(command in shown for command in COMMANDS)


def test_the_module_is_the_command() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "refdiff", "--help"], capture_output=True, text=True, check=True
    )
    assert "Usage: refdiff" in shown.stdout


def test_verify_counts_proofs_and_decoys(tmp_path: Path) -> None:
    result = run("verify", "ddpm.posterior_variance", "--json", str(tmp_path / "v.json"))
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("every formula is proved\n")
    written = read(tmp_path / "v.json")
    summary = written["summary"]
    assert summary["ok"] and summary["formulas"] == summary["proved"] == 1
    assert summary["decoys"] == summary["decoys_refuted"] == len(written["results"][0]["decoys"]) > 5
    assert summary["provers"]["flint"] == summary["provers"]["balls"] == 1


def test_verify_fails_on_a_false_formula(false_formula: Registry, tmp_path: Path) -> None:
    result = run("verify", "--json", str(tmp_path / "v.json"))
    assert result.exit_code == 1
    assert "ddpm.wrong: refuted" in result.stdout and "NOT proved: 1 of 1" in result.stdout
    assert read(tmp_path / "v.json")["summary"]["refuted"] == 1


def test_verify_says_which_prover_did_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coq, "available", lambda: None)
    assert "Coq: not installed, this prover did not run" in run("verify", "ddpm.one_step").stdout


def test_certify_without_coq_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coq, "available", lambda: None)
    assert "coqc is not installed" in complaint(run("certify", "ddpm.one_step"))


def test_certify_counts_what_coq_accepts_and_refuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The kernel's answers are put in; tests/test_coq.py asks the kernel itself."""
    answer = coq.Certificate(
        "ddpm.one_step", ["ddpm_one_step_0_0", "ddpm_one_step_decoy_half"], {}, ["step: integral"]
    )
    monkeypatch.setattr(coq, "certify", lambda nodes, folder, progress: [answer])
    accepted = run("certify", "ddpm.one_step", "--json", str(tmp_path / "c.json"))
    assert accepted.exit_code == 0
    summary = read(tmp_path / "c.json")["summary"]
    assert summary == {
        "ok": True,
        "formulas": 1,
        "covered": 1,
        "theorems": 1,
        "decoys": 1,
        "refused": 0,
        "not_covered": 1,
    }
    answer.refused["ddpm_one_step_0_1"] = "field failed"
    refused = run("certify", "ddpm.one_step")
    assert refused.exit_code == 1 and "ddpm_one_step_0_1: REFUSED, field failed" in refused.stdout


@pytest.mark.parametrize("attribute", ["Linear", "instance"])
def test_check_passes_a_right_target(targets: Path, attribute: str, tmp_path: Path) -> None:
    result = run("check", f"{targets}:{attribute}", "--json", str(tmp_path / "c.json"))
    assert result.exit_code == 0, result.output
    summary = read(tmp_path / "c.json")["summary"]
    assert summary["pass"] >= 2 and summary["fail"] == summary["error"] == 0


def test_check_fails_a_wrong_target_and_names_it(targets: Path) -> None:
    result = run("check", f"{targets}:Shifted", "--only", "betas.values")
    assert result.exit_code == 1
    assert "FAIL" in result.stdout and "betas.values" in result.stdout


def test_check_accepts_an_expected_failure_once_it_is_declared(targets: Path) -> None:
    arguments = ("check", f"{targets}:Shifted", "--only", "betas.values")
    assert run(*arguments).exit_code == 1
    assert run(*arguments, "--xfail", "betas.values=known, issue twelve").exit_code == 0


def test_check_of_nothing_is_not_ok(targets: Path) -> None:
    result = run("check", f"{targets}:nothing")
    assert result.exit_code == 1
    assert result.stdout.endswith("nothing was checked\n")


def test_check_builds_a_scheduler_with_its_options(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    arguments = ("--set", "num_train_timesteps=100", "--only", "betas", "--json", str(file))
    result = run("check", "diffusers:DDIMScheduler", *arguments)
    assert result.exit_code == 0, result.output
    assert "100 entries" in result.stdout
    assert read(file)["summary"]["pass"] >= 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nonsense",), "is not of the form"),
        (("no_such_module_here:attr",), "No module named"),
        (("{file}:Linea",), "did you mean Linear"),
        (("{file}x.py:Linear",), "does not exist"),
        (("{file}:number",), "is a int, not a refdiff.Target"),
        (("{file}:broken",), "RuntimeError: no weights"),
        (("{file}:instance", "--set", "T=3"), "takes no --set T"),
        (("{file}:Linear", "--set", "T"), "not of the form NAME=VALUE"),
        (("{file}:Linear", "--only", "no.such"), "no.such"),
        (("diffusers:NoSuchScheduler",), "NoSuchScheduler"),
        (("diffusers:DDIMScheduler", "--set", "no_such_option=1"), "no_such_option"),
    ],
)
def test_check_answers_a_bad_target_with_one_line(
    targets: Path, arguments: tuple[str, ...], words: str
) -> None:
    filled = [argument.replace("{file}", str(targets)) for argument in arguments]
    assert words in complaint(run("check", *filled))


def test_check_imports_from_the_working_directory(targets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(targets.parent)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert run("check", "my_targets:Linear", "--set", "T=1000", "--only", "betas").exit_code == 0


@pytest.mark.parametrize("format", emit.FORMATS)
def test_derive_prints_what_the_emitter_writes(format: str, tmp_path: Path) -> None:
    from refdiff.cli_proofs import find

    result = run("derive", "ddpm.posterior_variance", "--format", format, "--json", str(tmp_path / "d.json"))
    assert result.exit_code == 0
    text = emit.emit(find("ddpm.posterior_variance"), format)
    assert result.stdout == text.rstrip("\n") + "\n"
    assert read(tmp_path / "d.json") == {
        "id": "ddpm.posterior_variance", "format": format, "steps": False, "text": text
    }  # fmt: skip


def test_derive_with_steps_is_longer_than_without() -> None:
    arguments = ("derive", "ddpm.posterior_variance", "--format", "latex")
    plain, derived = run(*arguments).stdout, run(*arguments, "--steps").stdout
    assert "begin{proof}" in derived and "begin{proof}" not in plain


def test_an_unknown_format_is_answered_with_the_known_ones() -> None:
    line = complaint(run("derive", "ddpm.posterior_variance", "--format", "fortran"))
    assert all(format in line for format in emit.FORMATS)


@pytest.mark.parametrize("command", ["verify", "certify", "derive", "explain", "list"])
def test_an_unknown_id_is_answered_with_the_nearest(command: str) -> None:
    assert "did you mean ddpm.posterior_variance" in complaint(run(command, "ddpm.posterior_varance"))


def test_explain_says_what_where_and_how_wrong(tmp_path: Path) -> None:
    result = run("explain", "ddpm.posterior_variance", "--json", str(tmp_path / "e.json"))
    assert result.exit_code == 0
    written = read(tmp_path / "e.json")
    assert {"statement", "symbols", "proof", "uses", "decoys", "citations", "reference"} <= written.keys()
    assert "β̃ₜ" in result.stdout
    assert written["ledger"] and f"In the ledger: {', '.join(written['ledger'])}" in result.stdout
    assert all(decoy["note"] in result.stdout for decoy in written["decoys"])
    assert all(row["meaning"] in result.stdout for row in written["symbols"])


def test_every_statement_can_be_drawn() -> None:
    assert all(cli_proofs.pretty(formula).strip() for formula in derivations.registry().values())


def test_list_has_a_line_for_every_formula(tmp_path: Path) -> None:
    result = run("list", "--json", str(tmp_path / "l.json"))
    rows = read(tmp_path / "l.json")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1 + len(rows) > 50
    assert {row["id"] for row in read_list("ddim", tmp_path)} == {
        r["id"] for r in rows if r["id"].startswith("ddim.")
    }


def read_list(topic: str, folder: Path) -> Any:
    run("list", topic, "--json", str(folder / "topic.json"))
    return read(folder / "topic.json")


def test_json_on_stdout_is_only_json() -> None:
    assert json.loads(run("list", "ddim", "--json", "-").stdout)


def test_golden_list_counts_cases(tmp_path: Path) -> None:
    result = run("golden", "list", "--json", str(tmp_path / "g.json"))
    assert result.exit_code == 0
    rows = read(tmp_path / "g.json")
    assert rows == golden.list_files()
    assert str(sum(row["cases"] for row in rows)) in result.stdout.splitlines()[-1]


@pytest.mark.parametrize("format", ["json", "csv"])
def test_golden_export_writes_one_file(format: str, tmp_path: Path) -> None:
    file = tmp_path / "export"
    result = run("golden", "export", "--topic", "ddim", "--format", format, "-o", str(file))
    assert (result.exit_code, result.stdout) == (0, "")
    assert file.read_text(encoding="utf-8") == golden.export("ddim", format)
    assert run("golden", "export", "--topic", "ddim", "-f", format).stdout == golden.export("ddim", format)


def test_golden_export_of_an_unknown_topic_names_the_known_ones() -> None:
    line = complaint(run("golden", "export", "--topic", "dim"))
    assert "ddim" in line


def test_golden_check_compares_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one small file, generated here; the whole set is checked by tests/test_golden.py and in CI."""
    small = tuple(file for file in generator.FILES if file.path == "schedule/constant.json")
    monkeypatch.setattr(generator, "FILES", small)
    generator.add(tmp_path)
    monkeypatch.setattr(golden, "root", lambda: tmp_path)
    assert run("golden", "check").exit_code == 0
    stored = tmp_path / "schedule" / "constant.json"
    stored.write_text(stored.read_text().replace("1", "2", 1))
    broken = run("golden", "check", "--json", str(tmp_path.parent / "g.json"))
    assert broken.exit_code == 1
    assert "schedule/constant.json: " in broken.stdout
    assert read(tmp_path.parent / "g.json")["summary"]["failed"] >= 1


def test_a_traceback_can_be_asked_for() -> None:
    result = CliRunner().invoke(app, ["explain", "no.such"], env={"REFDIFF_TRACEBACK": "1"})
    assert isinstance(result.exception, ValueError)


def test_two_processes_find_what_one_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = cli_proofs.choose(["parameterization.eps_from_x_0", "parameterization.x_0_from_eps"])
    alone = cli_proofs.verified(chosen, jobs=1)
    monkeypatch.setattr(cli_proofs, "FEW", 1)
    assert cli_proofs.verified(chosen, jobs=2) == alone
    assert [row["status"] for row in alone] == ["proved", "proved"]
