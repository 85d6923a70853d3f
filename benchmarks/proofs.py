"""All proofs on one core, and how many formulas each prover covers.

python benchmarks/proofs.py
"""

from __future__ import annotations

import time
from collections import Counter

from timing import ratio_line

import derivations
from refdiff import cli_proofs


def main() -> None:
    start = time.process_time()
    slowest: Counter[str] = Counter()
    rows = []
    for formula in derivations.registry().values():
        before = time.process_time()
        rows.append(cli_proofs.verified(formula))
        slowest[formula.id] = round(1000 * (time.process_time() - before))
    print(ratio_line("all proofs, decoys and second provers, one core", time.process_time() - start, 60, "s"))
    total = cli_proofs.summary(rows)
    print(f"formulas {total['formulas']}, proved {total['proved']}")
    print(f"decoys {total['decoys']}, refuted {total['decoys_refuted']}")
    print("covered by " + ", ".join(f"{prover} {count}" for prover, count in total["provers"].items()))
    print("slowest: " + ", ".join(f"{name} {ms / 1000:.1f} s" for name, ms in slowest.most_common(5)))


if __name__ == "__main__":
    main()
