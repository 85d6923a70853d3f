"""Embeddings of time: right ones in conventions of the field, known and further mistakes, hostile ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refdiff.oracle import Dialect, Target
from tests.zoo.base import Registry
from tests.zoo.known import KNOWN

EMBEDDING_CONVENTIONS: dict[str, type[Target]] = {}
MORE_EMBEDDINGS = Registry()


class Ho(Target):
    """``get_timestep_embedding`` of Ho et al."""

    name = "ho-embedding"
    dialect = Dialect()

    def frequencies(self, half: int) -> Tensor:
        return torch.exp(torch.arange(half, dtype=torch.float64) * -(math.log(10000) / (half - 1)))

    def time_embedding(self, t: Tensor, dim: int) -> Tensor:
        angles = t[:, None] * self.frequencies(dim // 2)[None, :]
        return torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)


def convention(id: str, **spoken: Any) -> Callable[[type[Target]], type[Target]]:
    def add(cls: type[Target]) -> type[Target]:
        cls.name, cls.dialect = id, Dialect(**spoken)
        EMBEDDING_CONVENTIONS[id] = cls
        return cls

    return add


@convention("guided-diffusion-embedding", embedding_spacing="half", embedding_order="cos_sin")
class Guided(Target):
    """Cosines first, and angles in float32 whatever t is."""

    def time_embedding(self, t, dim):
        half = dim // 2
        freqs = torch.exp(-math.log(10000) * torch.arange(0, half, dtype=torch.float32) / half)
        args = t[:, None].float() * freqs[None]
        return torch.cat([torch.cos(args), torch.sin(args)], dim=-1)


@convention("transformer-embedding", embedding_spacing="half", embedding_layout="interleaved")
class Transformer(Target):
    """The positional encoding of Vaswani et al., of any positions."""

    def time_embedding(self, t, dim):
        table = torch.zeros(len(t), dim, dtype=torch.float64)
        divide = torch.exp(torch.arange(0, dim, 2).double() * (-math.log(10000.0) / dim))
        table[:, 0::2] = torch.sin(t[:, None] * divide)
        table[:, 1::2] = torch.cos(t[:, None] * divide)
        return table


@convention("tensor2tensor-embedding")
class Timing(Target):
    """Timescales that are multiplied up, and levels divided by them."""

    def time_embedding(self, t, dim):
        timescales = [10000.0 ** (k / (dim // 2 - 1)) for k in range(dim // 2)]
        scaled = t.unsqueeze(1) / torch.tensor(timescales, dtype=torch.float64)
        return torch.stack([scaled.sin(), scaled.cos()], 1).flatten(1)


@convention("flow-embedding", embedding_spacing="half", embedding_order="cos_sin", embedding_scale=1000.0)
class TimesOfOne(Target):
    """Times from 0 to 1, multiplied by 1000 inside."""

    def time_embedding(self, t, dim):
        return Guided.time_embedding(self, (1000 * t).double(), dim)


@convention("short-period-embedding", embedding_period=100.0, embedding_layout="interleaved", backend="numpy",
            embedding_order="cos_sin")  # fmt: skip
class ShortPeriod(Target):
    def time_embedding(self, t, dim):
        omega = np.geomspace(1, 0.01, dim // 2)
        return np.exp(1j * np.outer(t, omega)).view(float).reshape(len(t), dim)


@convention("octave-embedding", embedding_spacing="octaves", embedding_scale=2 * math.pi)
class Octaves(Target):
    """Fourier features of coordinates: sines and cosines of 2 pi 2^k t."""

    def time_embedding(self, t, dim):
        angles = 2 * math.pi * t[:, None] * 2 ** torch.arange(dim // 2)
        return torch.cat([angles.sin(), angles.cos()], -1)


# mistakes of the list


@KNOWN("TEM-01", "time-embedding")
class AlongTheBatch(Target):
    dialect = Dialect(embedding_spacing="half", embedding_layout="interleaved")

    def time_embedding(self, t, dim):
        omega = 10000 ** -(2 * (torch.arange(dim, dtype=torch.float64) // 2) / dim)
        table = t[:, None] * omega
        table[0::2] = table[0::2].sin()
        table[1::2] = table[1::2].cos()
        return table


@KNOWN("TEM-05", "time-embedding")
class NumbersBetweenOctaves(Target):
    dialect = Octaves.dialect

    def time_embedding(self, t, dim):
        count = dim // 2
        angles = 2 * math.pi * t[:, None] * 2 ** torch.linspace(0, count, count, dtype=torch.float64)
        return torch.cat([angles.sin(), angles.cos()], -1)


@KNOWN("TEM-07", "time-embedding")
class PairsWithoutAFrequency(Target):
    """Every column has its own frequency, of which sines take the even and cosines the odd ones."""

    dialect = Dialect(embedding_spacing="half", embedding_layout="interleaved")

    def time_embedding(self, t, dim):
        omega = torch.tensor([1 / 10_000 ** (2 * j / dim) for j in range(dim)], dtype=torch.float64)
        table = torch.zeros(len(t), dim, dtype=torch.float64)
        table[:, ::2] = torch.sin(t[:, None] * omega[::2])
        table[:, 1::2] = torch.cos(t[:, None] * omega[1::2])
        return table


# mistakes on no list


def wrong(id: str, family: str, *also: str, spoken: dict[str, Any] | None = None, **methods: Any) -> None:
    changes = {"dialect": Dialect(**spoken)} if spoken else {}
    cls = type(id.title().replace("-", ""), (Ho,), methods | changes)
    MORE_EMBEDDINGS(f"own-emb-{id}", family, *also)(cls)


def spaced(exponent: Callable[[Tensor, int], Tensor]) -> Callable[[Any, int], Tensor]:
    """Frequencies 10000^(-exponent), of the indices and their number."""
    return lambda self, half: 10000 ** -exponent(torch.arange(half, dtype=torch.float64), half)


def of(change: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Any, Tensor, int], Tensor]:
    """What is made of levels and frequencies."""
    return lambda self, t, dim: change(t, self.frequencies(dim // 2))


def cat(*parts: Tensor) -> Tensor:
    return torch.cat(parts, 1)


BOTH = ("time-embedding", "convention")
wrong("spacing-undeclared", *BOTH, frequencies=spaced(lambda k, h: k / h))
wrong("exponents-doubled", "time-embedding", frequencies=spaced(lambda k, h: 2 * k / (h - 1)))
wrong("exponents-halved", "time-embedding", frequencies=spaced(lambda k, h: k / (2 * h - 2)))
wrong("from-one", "time-embedding", frequencies=spaced(lambda k, h: (k + 1) / (h - 1)))
wrong("wavelengths", "time-embedding", frequencies=spaced(lambda k, h: -k / (h - 1)))
wrong("rising", "time-embedding", frequencies=spaced(lambda k, h: 1 - k / (h - 1)))
wrong("natural-period", *BOTH, frequencies=lambda self, h: torch.exp(-torch.arange(h).double() / (h - 1)))
wrong("log-missing", "time-embedding", frequencies=lambda self, h: torch.as_tensor(np.linspace(1, 1e-4, h)))
wrong("thousand", *BOTH, time_embedding=lambda self, t, dim: Ho.time_embedding(self, 1000 * t, dim))
wrong("thousandth", *BOTH, time_embedding=lambda self, t, dim: Ho.time_embedding(self, t / 1000, dim))
wrong("turns", *BOTH, time_embedding=lambda self, t, dim: Ho.time_embedding(self, 2 * math.pi * t, dim))
wrong("sines-twice", "time-embedding", time_embedding=of(lambda t, w: cat(*[(t[:, None] * w).sin()] * 2)))
wrong("negative-angles", "sign",
      time_embedding=of(lambda t, w: cat((-t[:, None] * w).sin(), (t[:, None] * w).cos())))  # fmt: skip


def half_batches(t: Tensor, omega: Tensor) -> Tensor:
    """Sines of the first half of the batch and cosines of the second."""
    first, second = (t[:, None] * omega.repeat(2)).tensor_split(2)
    return torch.cat([first.sin(), second.cos()])


wrong("half-batches", "time-embedding", "state-broadcast", time_embedding=of(half_batches))
wrong("first-level", "state-broadcast",
      time_embedding=lambda self, t, dim: Ho.time_embedding(self, t[:1].expand(len(t)), dim))  # fmt: skip
wrong("no-angles", "time-embedding", time_embedding=of(lambda t, w: cat(*[t[:, None] * w] * 2)))
wrong("unit-norm", "time-embedding",
      time_embedding=lambda self, t, dim: Ho.time_embedding(self, t, dim) / (dim / 2) ** 0.5)  # fmt: skip
wrong("levels-in-bfloat16", "precision",
      time_embedding=lambda self, t, dim: Ho.time_embedding(self, t.bfloat16().double(), dim))  # fmt: skip
wrong("angles-in-float16", "precision", frequencies=lambda self, h: Ho.frequencies(self, h).half(),
      time_embedding=lambda self, t, dim: Ho.time_embedding(self, t.half(), dim).double())  # fmt: skip
wrong("whole-levels", "time-embedding", spoken={"embedding_scale": 1000.0},
      time_embedding=lambda self, t, dim: Ho.time_embedding(self, 1000.0 * t.long(), dim))  # fmt: skip
wrong("frequencies-in-columns", "state-broadcast", "time-embedding",
      time_embedding=lambda self, t, dim: Ho.time_embedding(self, t, dim).T)  # fmt: skip


def in_place(self: Any, t: Tensor, dim: int) -> Tensor:
    found = RIGHT.time_embedding(t, dim)
    t *= 2
    return found


RIGHT = Ho()
HOSTILE: dict[str, tuple[Callable[..., Any], str]] = {
    "embedding-of-nan": (lambda self, t, dim: RIGHT.time_embedding(t, dim) * math.nan, "not finite"),
    "embedding-half-as-wide": (lambda self, t, dim: RIGHT.time_embedding(t, dim)[:, ::2], "shape"),
    "embedding-is-none": (lambda self, t, dim: None, "NoneType"),
    "embedding-raises": (lambda self, t, dim: 1 / 0, "ZeroDivisionError"),
    "embedding-in-place": (in_place, "in place"),
}
