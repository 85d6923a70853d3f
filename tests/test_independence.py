"""The mathematics and the reference never see each other, and the contract that says so can fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

CLEAN = {
    "refdiff/__init__.py": "",
    "refdiff/__main__.py": "import refdiff.cli\n",
    "refdiff/ddpm.py": "import math\n",
    "refdiff/cli.py": "import derivations\nimport refdiff.oracle\nimport refdiff.golden\n",
    "refdiff/cli_ledger.py": "import derivations\n",
    "refdiff/cli_proofs.py": "import derivations\n",
    "refdiff/cli_target.py": "import refdiff.oracle\n",
    "refdiff/cli_evaluate.py": "import refdiff.cli\n",
    "refdiff/cli_train.py": "import refdiff.cli\n",
    "refdiff/train.py": "import refdiff.cli_train\n",
    "refdiff/golden.py": "import derivations.golden\n",
    "refdiff/oracle/__init__.py": "import derivations\nimport refdiff.ddpm\n",
    "derivations/__init__.py": "",
    "derivations/ddpm.py": "import derivations\n",
    "derivations/golden.py": "import derivations.ddpm\n",
}

BROKEN = [
    ("refdiff/ddpm.py", "import derivations.ddpm\n", "reference"),
    ("refdiff/ddpm.py", "def f():\n    from derivations import ddpm\n", "reference"),
    ("refdiff/ddpm.py", "from refdiff.oracle import check\n", "oracle"),
    ("refdiff/ddpm.py", "import refdiff.golden\n", "oracle"),
    ("refdiff/ddpm.py", "import sympy\n", "symbols"),
    ("derivations/ddpm.py", "import refdiff.ddpm\n", "derivations"),
    ("derivations/ddpm.py", "import torch\n", "derivations"),
]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the packages of a folder, with that folder's own configuration."""
    program = (
        "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    )
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", program, "--no-cache"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two packages of the same names under this project's configuration."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, text in CLEAN.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_two_halves_are_independent() -> None:
    run = lint(ROOT)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_permitted_imports_pass(small: Path) -> None:
    run = lint(small)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(("module", "line", "contract"), BROKEN)
def test_a_forbidden_import_breaks_its_contract(small: Path, module: str, line: str, contract: str) -> None:
    (small / module).write_text(line)
    run = lint(small)
    assert run.returncode == 1
    assert names()[contract] + " BROKEN" in " ".join(run.stdout.split())


def names() -> dict[str, str]:
    """Contract names by id, from the configuration itself."""
    import tomllib

    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {
        contract["id"]: contract["name"] for contract in configuration["tool"]["importlinter"]["contracts"]
    }
