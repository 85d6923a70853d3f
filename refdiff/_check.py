"""Checks of arguments: a ValueError names the argument, the bound and the value.

A check that reads the values of a tensor is left out where they cannot be read: on the ``meta`` device and
while torch traces a graph. Shapes, dtypes, devices and Python numbers are checked there too.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from torch import Tensor

Level: TypeAlias = int | Tensor


def readable(*values: object) -> bool:
    """Whether the values of all tensors among the arguments can be read now."""
    if torch.compiler.is_compiling():
        return False
    return not any(isinstance(value, Tensor) and value.is_meta for value in values)


def count(name: str, value: int, minimum: int = 1) -> None:
    """A whole number with a lower bound."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be an int, got {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")


def between(name: str, value: float, low: float, high: float) -> None:
    """A Python number strictly between two bounds."""
    if not low < value < high:
        raise ValueError(f"{name} must lie strictly between {low} and {high}, got {value}")


def finite(name: str, value: float) -> None:
    """A finite Python number."""
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")


def level(name: str, t: Level, T: int, minimum: int = 0) -> None:
    """A level: an int, or an integer tensor of shape () or (B,), from ``minimum`` to T."""
    if isinstance(t, int) and not isinstance(t, bool):
        if not minimum <= t <= T:
            raise ValueError(f"{name} must lie in {minimum}..{T}, got {t}")
        return
    if not isinstance(t, Tensor):
        raise ValueError(f"{name} must be an int or an integer tensor, got {t!r}")
    if t.is_floating_point() or t.is_complex() or t.dtype in (torch.bool, torch.uint8):
        raise ValueError(f"{name} must have a signed integer dtype, got {t.dtype}")
    if t.dim() > 1:
        raise ValueError(f"{name} must have shape () or (B,), got {tuple(t.shape)}")
    if readable(t) and t.numel() > 0:
        low, high = (int(end) for end in torch.aminmax(t))
        if low < minimum or high > T:
            raise ValueError(f"{name} must lie in {minimum}..{T}, got {low if low < minimum else high}")


def below(name: str, s: Level, bound: str, t: Level) -> None:
    """Levels with s < t, elementwise."""
    if isinstance(s, Tensor) and isinstance(t, Tensor) and s.dim() == t.dim() == 1 and s.shape != t.shape:
        raise ValueError(f"{name} must have the shape of {bound}, {tuple(t.shape)}, got {tuple(s.shape)}")
    if isinstance(s, int) and isinstance(t, int):
        if s >= t:
            raise ValueError(f"{name} must be below {bound} = {t}, got {s}")
    elif readable(s, t) and bool((torch.as_tensor(t) <= torch.as_tensor(s)).any()):
        raise ValueError(f"{name} must be below {bound} = {t}, got {s}")


def floating(name: str, x: Tensor) -> None:
    """A tensor of a real floating-point dtype."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise ValueError(f"{name} must be a floating-point tensor, got {getattr(x, 'dtype', type(x))}")


def batch(name: str, t: Level, like: Tensor) -> None:
    """A level of shape (B,) belongs to a tensor of shape (B, *)."""
    if isinstance(t, Tensor) and t.dim() == 1 and (like.dim() == 0 or t.shape[0] != like.shape[0]):
        shape = f"(B,) with B of {tuple(like.shape)}"
        raise ValueError(f"{name} must be an int or have shape {shape}, got {tuple(t.shape)}")


def same(**tensors: Tensor) -> None:
    """Floating-point tensors of one shape, dtype and device, so that nothing is broadcast or promoted."""
    items = iter(tensors.items())
    first, x = next(items)
    floating(first, x)
    for name, y in items:
        floating(name, y)
        if y.shape != x.shape:
            raise ValueError(f"{name} must have the shape of {first}, {tuple(x.shape)}, got {tuple(y.shape)}")
        if y.dtype != x.dtype:
            raise ValueError(f"{name} must have the dtype of {first}, {x.dtype}, got {y.dtype}")
        if y.device != x.device:
            raise ValueError(f"{name} must be on the device of {first}, {x.device}, got {y.device}")


def broadcastable(name: str, small: Tensor, bound: str, x: Tensor) -> None:
    """A tensor that broadcasts to another without enlarging it."""
    missing = x.dim() - small.dim()
    fits = missing >= 0 and all(
        n in (1, m) for n, m in zip(small.shape, x.shape[max(missing, 0) :], strict=missing >= 0)
    )
    if not fits:
        raise ValueError(f"{name} must broadcast to {bound}, {tuple(x.shape)}, got {tuple(small.shape)}")
