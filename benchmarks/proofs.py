"""All proofs on one core, and how many formulas each prover covers.

python benchmarks/proofs.py
"""

from __future__ import annotations

import time
from collections import Counter

from timing import ratio_line

import derivations
from refdiff import cli_proofs

CONTINUOUS = ("sde", "ode", "solver", "flow", "consistency", "vdm")
FOUNDATION = ("gaussian", "schedule", "parameterization", "ddpm", "ddim", "data")


def main() -> None:
    start = time.process_time()
    formulas = derivations.registry()
    imports = time.process_time() - start
    slowest: Counter[str] = Counter()
    topics: Counter[str] = Counter()
    rows = []
    for formula in formulas.values():
        before = time.process_time()
        rows.append(cli_proofs.prove(formula.id))
        slowest[formula.id] = round(1000 * (time.process_time() - before))
        topics[formula.topic] += slowest[formula.id]
    first = sum(topics[name] for name in FOUNDATION) / 1000
    print(ratio_line("proofs, decoys and second provers of the foundation", imports + first, 60, "s"))
    continuous = sum(topics[name] for name in CONTINUOUS) / 1000
    rest = sum(topics.values()) / 1000 - first - continuous
    print(ratio_line("those of the chapters from energies to guidance", rest, 90, "s"))
    print(ratio_line("those of continuous time", continuous, 120, "s"))
    total = cli_proofs.summary(rows)
    print(f"formulas {total['formulas']}, proved {total['proved']}")
    print(f"decoys {total['decoys']}, refuted {total['decoys_refuted']}")
    print("covered by " + ", ".join(f"{prover} {count}" for prover, count in total["provers"].items()))
    print("topics: " + ", ".join(f"{name} {ms / 1000:.1f} s" for name, ms in topics.most_common()))
    print("slowest: " + ", ".join(f"{name} {ms / 1000:.1f} s" for name, ms in slowest.most_common(5)))


if __name__ == "__main__":
    main()
