"""``refdiff check`` on diffusers' schedulers, imports included, in a fresh process each.

python benchmarks/check.py
"""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial

from timing import interleaved, ratio_line

NAMES = ("DDPMScheduler", "DDIMScheduler", "DDIMInverseScheduler")


def run(name: str) -> None:
    command = [sys.executable, "-m", "refdiff", "check", f"diffusers:{name}"]
    subprocess.run(command, check=True, capture_output=True)


def main() -> None:
    functions = {name: partial(run, name) for name in NAMES}
    median = interleaved(functions, repeats=3, clock=time.perf_counter)
    for name in NAMES:
        print(ratio_line(f"refdiff check diffusers:{name}", median[name], 15, "s"))


if __name__ == "__main__":
    main()
