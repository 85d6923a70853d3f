"""``refdiff check`` on diffusers' schedulers, imports included, in a fresh process each.

python benchmarks/check.py
"""

from __future__ import annotations

import subprocess
import sys

from timing import interleaved, ratio_line

NAMES = ("DDPMScheduler", "DDIMScheduler", "DDIMInverseScheduler")


def run(name: str) -> None:
    command = [sys.executable, "-m", "refdiff", "check", f"diffusers:{name}"]
    subprocess.run(command, check=True, capture_output=True)


def main() -> None:
    median = interleaved({name: lambda name=name: run(name) for name in NAMES}, repeats=3)  # type: ignore[misc]
    for name in NAMES:
        print(ratio_line(f"refdiff check diffusers:{name}", median[name], 15, "s"))


if __name__ == "__main__":
    main()
