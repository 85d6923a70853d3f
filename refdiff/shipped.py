"""Small trained checkpoints that come with the package, by name."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).with_name("checkpoints")
NAMES = ("digits", "mixture")
"""A conditional UNet of the digits and a perceptron of the mixture; docs/learned.md has their commands."""


def find(checkpoint: str | Path) -> Path:
    """The file of a checkpoint, which is a path or one of ``NAMES``; a file of that name comes first."""
    path = Path(checkpoint)
    return FOLDER / f"{path}.safetensors" if str(path) in NAMES and not path.is_file() else path
