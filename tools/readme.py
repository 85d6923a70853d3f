"""Fill the marked regions of README.md with the real output of real commands, or say which are stale.

A region is ``<!--[name]-->text<!--[/]-->``. Times never go in: they would differ on every machine.

    python -m tools.readme             rewrite the regions
    python -m tools.readme --check     exit status 1 when a region is stale
    python tools/readme.py --command N print the N-th command of "Two commands" (needs only Python)
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
REGION = re.compile(r"<!--\[(?P<name>(?!/\])[^\]]+)\]-->(?P<text>.*?)<!--\[/\]-->", re.DOTALL)
COMMANDS = re.compile(r"^## Two commands$(.*?)^## ", re.DOTALL | re.MULTILINE)
FENCE = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[str]:
    """The fenced shell commands of the section "Two commands", in order."""
    section = COMMANDS.search(text)
    if section is None:
        raise ValueError("README.md has no section '## Two commands' followed by another section")
    return [block.strip() for block in FENCE.findall(section.group(1))]


def fill(text: str, generators: dict[str, Callable[[], str]]) -> str:
    """The text with every region generated anew; an unknown region is an error."""

    def region(match: re.Match[str]) -> str:
        name = match.group("name")
        return f"<!--[{name}]-->{generate(name, generators)}<!--[/]-->"

    return REGION.sub(region, text)


def generate(name: str, generators: dict[str, Callable[[], str]]) -> str:
    """A region's text: ``$ command`` and its output, ``file path`` and its content, or a name's value."""
    if name.startswith("$ "):
        return console(name.removeprefix("$ "))
    if name.startswith("file "):
        path = name.removeprefix("file ")
        return f"\n```python\n{(ROOT / path).read_text(encoding='utf-8')}```\n"
    if name not in generators:
        raise ValueError(
            f"README.md has a region {name!r} that nothing generates; known: {sorted(generators)}"
        )
    return generators[name]()


def console(command: str) -> str:
    """A fenced block with a command and what it prints."""
    return f"\n```console\n$ {command}\n{output(command)}```\n"


def output(command: str) -> str:
    """What ``refdiff ...`` prints at the root, run in this process as on a machine with Coq."""
    import shlex
    from unittest.mock import patch

    from typer.testing import CliRunner

    from refdiff.cli import app

    program, *arguments = shlex.split(command)
    if program != "refdiff":
        raise ValueError(f"the README can only run refdiff, not {program!r}")
    with contextlib.chdir(ROOT), patch("derivations.kit.coq.available", lambda: "coqc"):
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"})
    return "".join(line.rstrip() + "\n" for line in result.stdout.splitlines())


def numbers() -> dict[str, Callable[[], str]]:
    """The figures of the prose, each counted where it lives."""
    return {
        "python": python_version,
        "topics": topics,
        "formulas": formulas,
        "decoys": decoys,
        "golden_cases": lambda: golden("cases"),
        "golden_values": lambda: golden("values"),
        "ledger_rows": ledger_rows,
        "ledger_errata": ledger_errata,
        "dialect": dialect,
    }


def python_version() -> str:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["requires-python"]).removeprefix(">=")


def formulas() -> str:
    import derivations

    return str(len(derivations.registry()))


def decoys() -> str:
    import derivations

    return str(sum(len(formula.decoys) for formula in derivations.registry().values()))


def ledger_rows() -> str:
    from derivations import ledger

    return str(len(ledger.rows()))


def ledger_errata() -> str:
    from derivations import ledger

    return str(sum(row.check.finds_errata for row in ledger.rows().values()))


def topics() -> str:
    import derivations

    return str(len({formula.topic for formula in derivations.registry().values()}))


def golden(count: str) -> str:
    from refdiff import golden

    return str(sum(entry[count] for entry in golden.list_files()))


def dialect() -> str:
    """A table of the conventions, from the class and its docstring."""
    from dataclasses import fields

    from refdiff.oracle.target import Dialect

    arguments = re.split(r"\n {8}(?=\w)", (Dialect.__doc__ or "").partition("Args:")[2])
    said = {
        names: " ".join(text.split()).replace("``", "`").replace("|", r"\|")
        for names, _, text in (part.partition(":") for part in arguments)
    }
    default = {field.name: repr(field.default) for field in fields(Dialect)}
    rows = [
        (names, ", ".join(f"`{default[n]}`" for n in names.split(", ")), text)
        for names, text in said.items()
        if names.strip()
    ]
    lines = [f"| `{names}` | {value} | {text} |" for names, value, text in rows]
    return "\n\n| convention | default | meaning |\n|---|---|---|\n" + "\n".join(lines) + "\n\n"


def stale(text: str, generators: dict[str, Callable[[], str]]) -> list[str]:
    """Names of the regions whose text is not what is generated now."""
    now = REGION.finditer(fill(text, generators))
    return [
        old.group("name")
        for old, new in zip(REGION.finditer(text), now, strict=True)
        if old.group() != new.group()
    ]


def main(arguments: list[str]) -> int:
    text = README.read_text(encoding="utf-8")
    if arguments[:1] == ["--command"]:
        print(commands(text)[int(arguments[1]) - 1])
        return 0
    if arguments == ["--check"]:
        names = stale(text, numbers())
        print("\n".join(f"stale: {name}" for name in names) or "README.md is up to date")
        return 1 if names else 0
    README.write_text(fill(text, numbers()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
