"""The certified values of schedules with 100 000 steps: beta, alpha_bar and 1 - alpha_bar to 40 digits.

python benchmarks/golden.py
"""

from __future__ import annotations

import time
from functools import partial

from timing import ratio_line, seconds

from derivations.golden.schedules import Named, _decided

T = 100_000


def main() -> None:
    for name in ("linear_rescaled", "cosine"):
        took = seconds(partial(_decided, Named(name, T)), clock=time.process_time)
        print(ratio_line(f"certified table of {name}, T = {T}", took, 30, "s"))


if __name__ == "__main__":
    main()
