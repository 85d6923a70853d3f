"""All Coq certificates, as ``refdiff certify`` compiles them (one coqc for each core).

python benchmarks/certificates.py
"""

from __future__ import annotations

from timing import ratio_line, seconds

import derivations
from refdiff import cli_proofs, cli_show


def main() -> None:
    formulas = list(derivations.registry().values())
    found: list[cli_proofs.Row] = []
    took = seconds(lambda: found.append(cli_proofs.certified(formulas, None, lambda: None)))
    print(ratio_line("all Coq certificates", took / 60, 6, "min"))
    print(cli_show.certificates(found[0]))


if __name__ == "__main__":
    main()
