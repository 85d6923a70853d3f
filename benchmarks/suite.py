"""The whole test suite with ``-n auto``.

python benchmarks/suite.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from timing import ratio_line, seconds

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    command = [sys.executable, "-m", "pytest", "-n", "auto", "-q"]
    run: list[subprocess.CompletedProcess[str]] = []
    took = seconds(
        lambda: run.append(subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True))
    )
    print(run[0].stdout.strip().splitlines()[-1])
    print(ratio_line("whole test suite, -n auto", took / 60, 12, "min"))


if __name__ == "__main__":
    main()
