"""Processor time to a stated excess loss, on the mixture and on digits; one thread.

The networks and settings are those of the shipped checkpoints (docs/learned.md), stopped as soon as the
moving average has the stated excess above the least loss, a mean over levels equally far apart in t.
Measuring the excess is not counted.

python benchmarks/learned.py            both
python benchmarks/learned.py mixture    one of them
"""

from __future__ import annotations

import sys
import time

import torch
from timing import ratio_line

from refdiff import checkpoint, evaluate, shipped
from refdiff.checkpoint import Checkpoint
from refdiff.generate import Ask
from refdiff.train import Run, Settings

LEVELS = range(50, 1000, 100)
EVERY = 100
GOALS = {"mixture": (0.01, 4000, 60.0), "digits": (0.06, 100, 300.0)}
"""The excess to reach, the samples of a level that measure it, and the bound in seconds of one core."""


def excess(saved: Checkpoint, run: Run, count: int) -> float:
    """Of the moving average of a run."""
    levels = evaluate.levels_of(run.goal.table, LEVELS)  # type: ignore[attr-defined]
    model = Ask(saved.net(), run.goal, saved.header.classes)
    law, generator = evaluate.law_of(run.data), torch.Generator().manual_seed(0)
    rows = evaluate.excess_by_level(model, law, levels, count, generator, shape=saved.header.shape)
    return sum(row.excess.value for row in rows) / len(rows)


def until(name: str) -> tuple[int, float, float]:
    """Steps, seconds and excess of a training that stops at its goal."""
    goal, count, _ = GOALS[name]
    settings = Settings.from_dict(checkpoint.load(shipped.find(name)).header.settings)
    run, seconds, found = Run(settings), 0.0, float("inf")
    while found > goal and run.step < settings.steps:
        start = time.process_time()
        for _ in range(EVERY):
            run.advance()
        seconds += time.process_time() - start
        found = excess(run.checkpoint(), run, count)
    return run.step, seconds, found


def main() -> None:
    torch.set_num_threads(1)
    for name in sys.argv[1:] or GOALS:
        step, seconds, found = until(name)
        goal, _, bound = GOALS[name]
        print(f"{name}: excess {found:.3g} (goal {goal:g}) after {step} steps")
        print(ratio_line(f"{name}: time to the goal", seconds if found <= goal else float("inf"), bound, "s"))


if __name__ == "__main__":
    main()
