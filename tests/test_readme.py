"""README.md is generated where it says something that can change, and CI runs the commands it prints."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tools import readme

TEXT = readme.README.read_text(encoding="utf-8")
REGIONS = {match.group("name"): match.group("text") for match in readme.REGION.finditer(TEXT)}


@pytest.mark.parametrize("name", REGIONS)
def test_a_region_is_what_is_generated_now(name: str) -> None:
    assert readme.generate(name, readme.numbers()) == REGIONS[name], "run: python -m tools.readme"


def test_a_changed_number_is_stale() -> None:
    text = "<!--[answer]-->41<!--[/]--> and <!--[other]-->7<!--[/]-->"
    generators = {"answer": lambda: "42", "other": lambda: "7"}
    assert readme.stale(text, generators) == ["answer"]
    assert readme.stale(readme.fill(text, generators), generators) == []


def test_an_unknown_region_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing generates"):
        readme.fill("<!--[no such]-->1<!--[/]-->", {})


def prose(text: str) -> str:
    """What a person typed: no generated region, no code, no link."""
    for pattern in (readme.REGION, re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)):
        text = pattern.sub("", text)
    return re.sub(r"`[^`]*`|\]\([^)]*\)|<[^>]*>", "", text)


def test_every_number_of_the_prose_is_generated() -> None:
    assert re.findall(r"[^\W\d_]*\d[\w.]*", prose(TEXT)) == []


def test_a_number_typed_by_hand_is_seen() -> None:
    assert re.findall(r"\d+", prose("about <!--[n]-->12<!--[/]--> of `x_0` and 13")) == ["13"]


def test_there_are_exactly_two_commands() -> None:
    install, tests = readme.commands(TEXT)
    assert "pip install -c constraints.txt" in install
    assert "refdiff verify" in install and "refdiff check diffusers:" in install
    assert tests.endswith("pytest -n auto")


def test_ci_runs_the_commands_of_the_readme() -> None:
    script = (readme.ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "readme_command 1" in script and "readme_command 2" in script
    for number, command in enumerate(readme.commands(TEXT), 1):
        printed = [sys.executable, "tools/readme.py", "--command", str(number)]
        shown = subprocess.run(printed, cwd=readme.ROOT, capture_output=True, text=True, check=True)
        assert shown.stdout.strip() == command


def test_every_console_block_is_generated() -> None:
    typed = readme.REGION.sub("", TEXT)
    assert "```console" not in typed
