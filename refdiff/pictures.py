"""Pictures of loss curves, of samples and of how samples come about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from refdiff import _check

if TYPE_CHECKING:
    from refdiff.train import Row


def loss_curve(rows: Sequence[Row], path: Path) -> None:
    """The loss of each step and its mean over a hundredth of them, as a picture.

    Args:
        rows: of the curve.
        path: of the picture; its suffix says which format.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure = _figure(6, 3.5)
    axes = figure.add_subplot()
    steps, losses = [row.step for row in rows], torch.tensor([row.loss for row in rows]).double()
    axes.plot(steps, losses, color="0.8", linewidth=0.6)
    width = max(1, len(rows) // 100)
    if len(rows) >= 2 * width:
        mean = losses[: len(rows) // width * width].reshape(-1, width).mean(1)
        axes.plot(steps[width - 1 :: width][: len(mean)], mean, color="C0")
    if len(rows) and bool((losses > 0).all()):
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    figure.savefig(path, dpi=120, bbox_inches="tight", metadata=_metadata(path))


def grid(x: Tensor, path: Path, *, columns: int | None = None, low: float = -1.0, high: float = 1.0) -> None:
    """Samples as a picture: images side by side, points in the plane as a scatter, other vectors as lines.

    Args:
        x: samples, shape (B, C, H, W) with one or three channels, or (B, D).
        path: of the picture.
        columns: images in a row; the root of their number if not given.
        low, high: values of black and white; what lies beyond is shown as black or white.

    Raises:
        ValueError: samples of another shape.
        ImportError: matplotlib is not installed.
    """
    if x.dim() == 4:
        _images([x], path, columns or max(1, round(x.shape[0] ** 0.5)), low, high)
    elif x.dim() == 2:
        _points([x], path, ["samples"])
    else:
        raise ValueError(f"x must have shape (B, C, H, W) or (B, D), got {tuple(x.shape)}")


def trajectory(
    states: Sequence[Tensor], names: Sequence[str], path: Path, *, low: float = -1.0, high: float = 1.0
) -> None:
    """How samples come about: a row of images for each sample, or a panel of points for each state.

    Args:
        states: one for each level, shape (B, C, H, W) or (B, D), the noisiest first.
        names: of the levels.
        path: of the picture.
        low, high: values of black and white.

    Raises:
        ValueError: no states, or not a name for each.
        ImportError: matplotlib is not installed.
    """
    if not states or len(names) != len(states):
        raise ValueError(f"names must be one for each of at least one state, got {len(names)}, {len(states)}")
    if states[0].dim() == 4:
        together = torch.stack(list(states), 1).flatten(0, 1)
        _images([together], path, len(states), low, high)
    else:
        _points(states, path, names)


def _images(parts: Sequence[Tensor], path: Path, columns: int, low: float, high: float) -> None:
    x = torch.cat(list(parts)).detach().cpu().double()
    _check.count("columns", columns)
    if x.shape[1] not in (1, 3):
        raise ValueError(f"x must have 1 or 3 channels to be shown, got {x.shape[1]}")
    rows, gap = -(-x.shape[0] // columns), 1
    blank = x.new_ones(rows * columns - x.shape[0], *x.shape[1:])
    shown = torch.cat([((x - low) / (high - low)).clamp(0, 1), blank])
    padded = torch.nn.functional.pad(shown, (0, gap, 0, gap), value=1.0)
    size = padded.shape[2:]
    sheet = padded.reshape(rows, columns, -1, *size).permute(2, 0, 3, 1, 4)
    sheet = sheet.reshape(-1, rows * size[0], columns * size[1])[:, :-gap, :-gap]
    # a pixel of a small image is a square of several
    zoom = max(1, 24 // x.shape[-1] * 2)
    pixels = sheet.repeat_interleave(zoom, 1).repeat_interleave(zoom, 2).permute(1, 2, 0)
    image: Any = _matplotlib("image")
    colours = pixels.expand(-1, -1, 3) if pixels.shape[2] == 1 else pixels
    image.imsave(path, colours.numpy(), metadata=_metadata(path))


def _points(states: Sequence[Tensor], path: Path, names: Sequence[str]) -> None:
    figure = _figure(3 * len(states), 3)
    for k, (state, name) in enumerate(zip(states, names, strict=True)):
        axes, values = figure.add_subplot(1, len(states), k + 1), state.detach().cpu().double()
        if values.shape[1] == 2:
            axes.scatter(values[:, 0], values[:, 1], s=2, linewidths=0)
            axes.set_aspect("equal", adjustable="datalim")
        else:
            axes.plot(values.T, color="C0", alpha=0.2, linewidth=0.6)
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=6)
    figure.savefig(path, dpi=120, bbox_inches="tight", metadata=_metadata(path))


def _figure(width: float, height: float) -> Any:
    # no pyplot, whose state is global
    figure: Any = _matplotlib("figure").Figure((width, height))
    return figure


def _metadata(path: Path) -> dict[str, Any] | None:
    """The picture of the same numbers is the same file: no date, no version."""
    return {"Software": None} if Path(path).suffix == ".png" else None


def _matplotlib(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"matplotlib.{module}")
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install refdiff[train]") from error
