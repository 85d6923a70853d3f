"""Checkpoints: one safetensors file with a JSON header, which holds all that training needs to go on.

The file has tensors ``weights.NAME``, ``average.NAME`` (the moving average), ``optimiser.SLOT.NAME`` and
``generator.NAME`` (states of the random generators, bytes); the string ``refdiff`` in its metadata is the
JSON text of ``Header``. Nothing in a file is executed: it is JSON and numbers, and each is checked before a
network is made. A file that is no such checkpoint raises a ValueError that says what is wrong with it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from refdiff import _check, nets

FORMAT, VERSION = "refdiff checkpoint", 1
MOST_HEADER = 16 * 2**20
MOST_ELEMENTS = 2**26
"""Of one sample, and the bound of every number among the settings of an objective."""
GROUPS = ("weights", "average", "optimiser", "generator")
WEIGHTS = (torch.float32, torch.float64)

Named = dict[str, Tensor]


@dataclass(frozen=True)
class Header:
    """What a checkpoint says of itself; every value is JSON.

    Args:
        net: name of the network, a key of ``refdiff.nets.NETS``.
        net_settings: its arguments.
        objective: name of the objective, a key of ``refdiff.objective.OBJECTIVES``.
        objective_settings: its arguments.
        shape: of a sample, (D,) or (C, H, W).
        classes: number of classes of the data that the network knows, 0 for none.
        step: optimiser steps taken.
        updates: updates of the moving average.
        settings: the settings of training, see ``refdiff.train.Settings``.

    Raises:
        ValueError: a value of another type, or out of bounds.
    """

    net: str
    net_settings: dict[str, Any]
    objective: str
    objective_settings: dict[str, Any]
    shape: tuple[int, ...]
    classes: int = 0
    step: int = 0
    updates: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("net", "objective"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be a name, got {getattr(self, name)!r:.80}")
            if not isinstance(getattr(self, f"{name}_settings"), dict):
                raise ValueError(f"{name}_settings must be an object, got {self.settings!r:.80}")
        if not isinstance(self.settings, dict):
            raise ValueError(f"settings must be an object, got {self.settings!r:.80}")
        for name in ("classes", "step", "updates"):
            _check.count(name, getattr(self, name), minimum=0)
        object.__setattr__(self, "shape", _shape(self.shape))
        if self.net not in nets.NETS:
            raise ValueError(f"net must be one of {', '.join(nets.NETS)}, got {self.net!r:.80}")
        for number in _numbers(self.objective_settings):
            if not abs(number) <= MOST_ELEMENTS:
                raise ValueError(f"objective_settings must have numbers up to {MOST_ELEMENTS}, got {number}")

    def to_json(self) -> str:
        """The JSON text of the metadata."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        return json.dumps(content, sort_keys=True, allow_nan=False)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint in memory.

    Args:
        header: what it says of itself.
        weights: parameters and buffers of the network, by name, all of one dtype, float32 or float64.
        average: moving average of the parameters; empty without one.
        optimiser: "SLOT.NAME" to the state of the optimiser.
        generators: states of the random generators, uint8.

    Raises:
        ValueError: tensors of another dtype, or an average of other names or shapes than the weights.
    """

    header: Header
    weights: Named
    average: Named = field(default_factory=dict)
    optimiser: Named = field(default_factory=dict)
    generators: Named = field(default_factory=dict)

    def __post_init__(self) -> None:
        dtype = next((value.dtype for value in self.weights.values()), None)
        if dtype not in WEIGHTS:
            raise ValueError(f"weights must be float32 or float64, got {dtype}")
        for name, value in {**self.weights, **self.average}.items():
            if value.dtype != dtype:
                raise ValueError(f"weights must have one dtype, {dtype}, got {value.dtype} for {name!r}")
        for name, value in self.average.items():
            own = self.weights.get(name)
            if own is None or own.shape != value.shape:
                shape = None if own is None else tuple(own.shape)
                raise ValueError(f"average of {name!r} must have shape {shape}, got {tuple(value.shape)}")
        for name, value in self.generators.items():
            if value.dtype != torch.uint8 or value.dim() != 1:
                raise ValueError(f"generator {name!r} must be bytes, got {value.dtype} {tuple(value.shape)}")

    def net(self, *, average: bool = True) -> nn.Module:
        """The network with its weights, or with their average where there is one, on the CPU, to be asked.

        Raises:
            ValueError: settings that do not make a network, or not one of these weights.
        """
        _require_plausible(self.header, self.weights)
        with torch.device("meta"):
            planned = _made(self.header)
        _require_same(planned.state_dict(), self.weights)
        made = _made(self.header).to(next(iter(self.weights.values())).dtype)
        made.load_state_dict({**self.weights, **self.average} if average else self.weights)
        return made.eval().requires_grad_(False)


def save(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint; a file of that name is replaced at once when the new one is complete.

    Args:
        path: of the file; its folder exists.
        checkpoint: what is written.

    Raises:
        ValueError: a setting that JSON cannot hold.
        ImportError: safetensors is not installed.
    """
    parts = (checkpoint.weights, checkpoint.average, checkpoint.optimiser, checkpoint.generators)
    tensors = {
        f"{group}.{name}": value.detach().cpu().contiguous()
        for group, part in zip(GROUPS, parts, strict=True)
        for name, value in part.items()
    }
    data = _safetensors().save(tensors, metadata={"refdiff": checkpoint.header.to_json()})
    target = Path(path)
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(data)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: of the file.

    Returns:
        Checkpoint, on the CPU.

    Raises:
        ValueError: the file is no safetensors file, no checkpoint of this version, cut off, or holds
            something that a checkpoint does not.
        OSError: the file cannot be read.
        ImportError: safetensors is not installed.
    """
    data = Path(path).read_bytes()
    try:
        header = _header(data)
        return _checkpoint(header, _tensors(data))
    except ValueError as error:
        raise ValueError(f"{path} is not a checkpoint: {error}") from error


def _header(data: bytes) -> Header:
    if data[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise ValueError("it is a pickle, which is not read because it could run any code")
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise ValueError(f"its header must end within {len(data)} bytes, got {length} bytes from 8 on")
    if length > MOST_HEADER:
        raise ValueError(f"its header must have at most {MOST_HEADER} bytes, got {length}")
    metadata = _object(_json(data[8 : 8 + length])).get("__metadata__", {})
    text = _object(metadata).get("refdiff")
    if not isinstance(text, str):
        raise ValueError("its metadata must have the text 'refdiff', got a file of another program")
    content = _object(_json(text.encode()))
    found = content.pop("format", None), content.pop("version", None)
    if found != (FORMAT, VERSION):
        raise ValueError(f"its format must be {FORMAT!r}, version {VERSION}, got {found!r:.80}")
    expected = set(Header.__dataclass_fields__)
    if content.keys() != expected:
        raise ValueError(f"its header must have {sorted(expected)}, got {sorted(content)!r:.400}")
    return Header(**content)


def _tensors(data: bytes) -> Named:
    module = _safetensors()
    try:
        tensors: Named = module.load(data)
    except Exception as error:  # what the library raises for a broken file is no ValueError
        raise ValueError(f"its tensors cannot be read: {error}") from error
    return tensors


def _checkpoint(header: Header, tensors: Named) -> Checkpoint:
    parts: dict[str, Named] = {group: {} for group in GROUPS}
    for name, value in tensors.items():
        group, dot, rest = name.partition(".")
        if group not in parts or not dot:
            raise ValueError(f"its tensors must begin with one of {', '.join(GROUPS)}, got {name!r:.80}")
        parts[group][rest] = value
    return Checkpoint(header, *(parts[group] for group in GROUPS))


def _made(header: Header) -> nn.Module:
    """A network of the header, whatever its constructor raises being the fault of the settings."""
    with torch.random.fork_rng(devices=[]):
        try:
            return nets.build(header.net, header.net_settings)
        except (ValueError, TypeError, RuntimeError, OverflowError, MemoryError, AttributeError) as error:
            raise ValueError(f"net_settings do not make a {header.net}: {error}") from error


def _require_plausible(header: Header, weights: Named) -> None:
    """Numbers that belong to weights of this size, so that no giant is made to be compared with them.

    Each whole number among the settings of a network is a size of one of its tensors, or a count of blocks,
    of which each has tensors; the number of blocks is at most the product of what counts them.
    """
    most = max([len(weights), *(max(value.shape, default=1) for value in weights.values())])
    blocks, lists = 1, [0]
    for name, value in _items(header.net_settings):
        lists.append(len(value) if isinstance(value, list) else 0)
        for number in (number for number in _numbers(value) if isinstance(number, int)):
            if abs(number) > most:
                raise ValueError(f"net_settings must have {name} at most {most} by its weights, got {number}")
            blocks *= max(number, 1) if name in ("blocks", "depth") else 1
    if blocks * max(1, *lists) > len(weights):
        raise ValueError(f"net_settings must ask for at most {len(weights)} blocks for these weights")


def _require_same(planned: Mapping[str, Tensor], weights: Named) -> None:
    for name in sorted(planned.keys() ^ weights.keys()):
        which = "lack" if name in planned else "have too many:"
        raise ValueError(f"the weights {which} {name!r:.80}")
    for name, value in planned.items():
        if value.shape != weights[name].shape:
            shapes = f"{tuple(value.shape)}, got {tuple(weights[name].shape)}"
            raise ValueError(f"the weights {name!r} must have shape {shapes}")


def _shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, list | tuple) or len(shape) not in (1, 3):
        raise ValueError(f"shape must be (D,) or (C, H, W), got {shape!r:.80}")
    for size in shape:
        _check.count("shape", size)
    if math.prod(shape) > MOST_ELEMENTS:
        raise ValueError(f"shape must have at most {MOST_ELEMENTS} elements, got {tuple(shape)!r:.80}")
    return tuple(shape)


def _json(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header is no JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"its header must be an object, got {type(value).__name__}")
    return value


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """The named values of settings, those of inner settings too."""
    for name, inner in value.items():
        yield from _items(inner) if isinstance(inner, dict) else [(name, inner)]


def _numbers(value: Any) -> Iterator[int | float]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _numbers(inner)


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError("checkpoints need safetensors: pip install refdiff[train]") from error
    return safetensors.torch
