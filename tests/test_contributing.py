"""The worked examples of CONTRIBUTING.md run as printed."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import derivations
import refdiff
from derivations import kit
from derivations.golden.case import Coverage
from derivations.golden.contents import at, over
from refdiff.cli_target import load

ROOT = Path(__file__).resolve().parents[1]
SECTION = re.compile(r"^## (.+?)$(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def example(title: str, *change: str) -> str:
    """The Python block of a section, perhaps with one piece of it changed."""
    sections = dict(SECTION.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    (block,) = PYTHON.findall(sections[title])
    assert not change or change[0] in block
    return str(block.replace(*change)) if change else str(block)


def names(block: str) -> dict[str, Any]:
    """What a block defines."""
    space: dict[str, Any] = {}
    exec(compile(block, "CONTRIBUTING.md", "exec"), space)
    return space


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> kit.Registry:
    """A registry of its own for the formula of the guide."""
    registry = kit.Registry()
    monkeypatch.setattr(kit, "formula", partial(kit.formula, registry=registry))
    return registry


def test_the_formula_of_the_guide_is_proved(registry: kit.Registry) -> None:
    node = names(example("Add a formula"))["noise_share"]
    assert registry["ddpm.noise_share"] is node
    assert node.verify().proved, node.verify()
    assert node.verify().decoys["bar-missing"].status == "refuted"


def test_a_wrong_formula_in_its_place_is_refuted(registry: kit.Registry) -> None:
    names(example("Add a formula", "rhs=beta_t / (1 - abar_t)", "rhs=beta_t / (1 - abar_prev)"))
    assert registry["ddpm.noise_share"].verify().own == "refuted"


def test_the_decoy_of_the_guide_is_refuted() -> None:
    decoy = names(example("Add a decoy"))["decoy"]
    assert derivations.registry()["ddpm.posterior_variance"].refute(decoy.rhs).status == "refuted"


def test_the_golden_case_of_the_guide_can_be_generated() -> None:
    pairs = names(example("Add a golden case"))["pairs"]
    build = over(at("parameterization.v_from_eps", pairs))
    assert len(list(build(Coverage()))) == len(pairs)


@pytest.mark.parametrize(("change", "right"), [((), True), (("beta.sqrt() * noise", "beta * noise"), False)])
def test_the_target_of_the_guide_passes_and_without_its_root_fails(
    change: tuple[str, ...], right: bool, tmp_path: Path
) -> None:
    file = tmp_path / "my_step.py"
    file.write_text(example("Add a target", *change), encoding="utf-8")
    report = refdiff.check(load(f"{file}:MyStep", {}))
    assert report.ok is right, str(report)
    assert (report["ddpm_step.coefficients"].status == "pass") is right
