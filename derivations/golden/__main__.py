"""``python -m derivations.golden DIRECTORY``: write new cases; a stored case never changes."""

from __future__ import annotations

import sys
from pathlib import Path

from derivations.golden import GoldenError, add


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m derivations.golden DIRECTORY", file=sys.stderr)
        return 2
    try:
        written = add(Path(arguments[0]))
    except GoldenError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(written)} files under {arguments[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
