"""How the reference answers the golden cases of time embeddings."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from refdiff.nets.embedding import frequencies, sinusoidal

Ask = Callable[[Any], Tensor]
SPARE = {"clock": "5/4", "pairs": "8"}


def number(q: Any, name: str) -> float:
    """A number of the case; any other will do where the value does not depend on it."""
    return float(Fraction(q.case.input.get(name) or SPARE[name]))


def steps(q: Any, **how: Any) -> Tensor:
    """The frequencies of as many pairs as a case has."""
    dim = 2 * int(number(q, "pairs"))
    return frequencies(dim, period=number(q, "longest"), **how).to(q.dtype)


def entry(q: Any, half: int) -> Tensor:
    """The entry of a frequency, in the first or the second half, with n steps between h = n + 1 of them."""
    gaps, k = int(q.case.input["gaps"]), int(q.case.input["pair"])
    t = torch.tensor([number(q, "clock")], dtype=torch.float64)
    return sinusoidal(t, 2 * (gaps + 1), period=number(q, "longest"), dtype=q.dtype)[0, half * (gaps + 1) + k]


def turned(q: Any, *levels: float) -> Tensor:
    """The pairs (sine, cosine) of the case's frequency at some levels, which is the second of two."""
    t = torch.tensor(levels, dtype=torch.float64)
    return sinusoidal(t, 4, period=1 / number(q, "pace"), dtype=q.dtype)[:, 1::2]


def both(q: Any) -> Tensor:
    return turned(q, number(q, "clock"), number(q, "clock") + number(q, "lag"))


def speed(q: Any) -> Tensor:
    pairs, ratio = int(number(q, "pairs")), number(q, "pace_ratio")
    found = frequencies(2 * pairs, period=ratio**-pairs, spacing="half").to(q.dtype)
    return (found**2).sum()


def norm(q: Any) -> Tensor:
    t = torch.tensor([37.25], dtype=torch.float64)
    return (sinusoidal(t, 2 * int(number(q, "pairs")), dtype=q.dtype) ** 2).sum()


EMBEDDING: dict[str, Ask] = {
    "frequency": lambda q: frequencies(
        2 * int(q.case.input["gaps"]) + 2, period=number(q, "longest")
    ).to(q.dtype)[int(q.case.input["pair"])],
    "last_frequency": lambda q: steps(q)[-1],
    "last_frequency_half": lambda q: steps(q, spacing="half")[-1],
    "sine": lambda q: entry(q, 0),
    "cosine": lambda q: entry(q, 1),
    "rotated_sine": lambda q: both(q)[1, 0],
    "rotated_cosine": lambda q: both(q)[1, 1],
    "pair_product": lambda q: both(q).prod(0).sum(),
    "pair_distance": lambda q: 4 * turned(q, number(q, "lag") / 2)[0, 0] ** 2,
    "norm": norm,
    "speed": speed,
}  # fmt: skip
