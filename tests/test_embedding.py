"""Laws of time embeddings, of which each rejects what people write instead."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from derivations.networks import Layers
from refdiff import golden
from refdiff.golden import Case
from refdiff.nets.embedding import frequencies, sinusoidal

TABLE = list(golden.load("embedding", "table"))
DTYPES = {"float64": torch.float64, "float32": torch.float32}
LEVELS = torch.tensor([0.0, 1.0, 2.0, 5.5, 123.25, 999.0], dtype=torch.float64)
Embed = Callable[[Tensor, int], Tensor]


def right(t: Tensor, dim: int, **how: Any) -> Tensor:
    return sinusoidal(t, dim, dtype=torch.float64, **how)


# what people write instead, as functions of (t, dim)


def angles(t: Tensor, dim: int, omega: Tensor | None = None) -> Tensor:
    return t[:, None] * (frequencies(dim) if omega is None else omega)


def paired(one: Tensor, other: Tensor) -> Tensor:
    return torch.cat([one.sin(), other.cos()], 1)


def along_batch(t: Tensor, dim: int) -> Tensor:
    """TEM-01: sine and cosine alternate over the samples."""
    table = torch.cat([angles(t, dim)] * 2, 1)
    even = (torch.arange(len(t)) % 2 == 0)[:, None]
    return torch.where(even, table.sin(), table.cos())


def mismatched(t: Tensor, dim: int) -> Tensor:
    """TEM-07: exponents 2 k / dim for sines and (2 k + 1) / dim for cosines."""
    k = torch.arange(dim // 2, dtype=torch.float64)
    return paired(angles(t, dim, 10000 ** (-2 * k / dim)), angles(t, dim, 10000 ** (-(2 * k + 1) / dim)))


def even_spacing(t: Tensor, dim: int) -> Tensor:
    omega = torch.linspace(1, 1e-4, dim // 2, dtype=torch.float64)
    return paired(angles(t, dim, omega), angles(t, dim, omega))


def wavelengths(t: Tensor, dim: int) -> Tensor:
    omega = 1 / frequencies(dim)
    return paired(angles(t, dim, omega), angles(t, dim, omega))


def turns(t: Tensor, dim: int) -> Tensor:
    return right(2 * math.pi * t, dim)


def thousandth(t: Tensor, dim: int) -> Tensor:
    """TEM-03: levels from 0 to 1 at frequencies for 0 to 1000."""
    return right(t / 1000, dim)


def sines(t: Tensor, dim: int) -> Tensor:
    return torch.cat([angles(t, dim).sin()] * 2, 1)


# 10000 spaced by half of 8 is 1000 spaced by half - 1: the first four frequencies of both are powers of ten
WRONG: dict[str, Embed] = {
    "along the batch": along_batch, "mismatched": mismatched, "evenly spaced": even_spacing,
    "wavelengths": wavelengths, "whole turns": turns, "a thousandth": thousandth, "sines alone": sines,
    "cosines first": lambda t, dim: right(t, dim, order="cos_sin"),
    "interleaved": lambda t, dim: right(t, dim, layout="interleaved"),
    "another period": lambda t, dim: right(t, dim, period=5000),
}  # fmt: skip


def asked(case: Case) -> tuple[Tensor, int, dict[str, Any]]:
    given = case.input
    t = torch.tensor([float(Fraction(level)) for level in given["times"]], dtype=torch.float64)
    how = {"period": float(Fraction(given["longest"])), "spacing": given["spacing"]}
    return t, given["embedding_dim"], how


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.id)
@pytest.mark.parametrize("dtype", DTYPES)
def test_embeddings_meet_their_golden_table(case: Case, dtype: str) -> None:
    t, dim, how = asked(case)
    wanted, got = case.output("embedding"), sinusoidal(t, dim, dtype=DTYPES[dtype], **how)
    assert got.dtype == DTYPES[dtype] and tuple(got.shape) == wanted.shape
    assert wanted.error(got.double().flatten().tolist()) <= wanted.tolerance(dtype)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_embedding_misses_the_golden_table(name: str) -> None:
    for case in TABLE:
        t, dim, how = asked(case)
        # of two frequencies the first and the last are all, evenly spaced or not
        if how["period"] == 10000 and dim > 4:
            wanted, got = case.output("embedding"), WRONG[name](t, dim)
            assert wanted.error(got.flatten().tolist()) > wanted.tolerance("float32"), case.id


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.id)
def test_the_other_spacing_misses_the_golden_table(case: Case) -> None:
    t, dim, how = asked(case)
    how["spacing"] = "half" if how["spacing"] == "half_minus_one" else "half_minus_one"
    wanted = case.output("embedding")
    assert wanted.error(right(t, dim, **how).flatten().tolist()) > wanted.tolerance("float32")


@pytest.mark.parametrize("spacing", ["half", "half_minus_one"])
@pytest.mark.parametrize("dim", [4, 6, 32, 128])
def test_frequencies_fall_from_one_by_one_ratio(dim: int, spacing: Any) -> None:
    omega = frequencies(dim, spacing=spacing)
    assert omega[0] == 1
    ratios = omega[1:] / omega[:-1]
    # three roundings in each exponent, of size ln 10000, and those of the powers and of the quotient
    assert (ratios / ratios[0] - 1).abs().max() <= 64 * 2.0**-53
    last = 1e-4 if spacing == "half_minus_one" else 10000 ** (2 / dim - 1)
    assert abs(omega[-1] / last - 1) <= 32 * 2.0**-53


def norms(embed: Embed) -> bool:
    """Half the dimension at every level: the sum of dim squares errs by as many roundings."""
    gaps = {dim: (embed(LEVELS, dim) ** 2).sum(1) - dim / 2 for dim in (6, 32)}
    return all(bool(gap.abs().max() <= dim**2 * 2.0**-53) for dim, gap in gaps.items())


def toeplitz(embed: Embed) -> bool:
    """The products of evenly spaced levels depend on their distance: angles up to 40 err by 40 roundings."""
    e = embed(torch.arange(12, dtype=torch.float64) * 3.25 + 1.5, 8)
    gram = e @ e.T
    return bool((gram[1:, 1:] - gram[:-1, :-1]).abs().max() <= 8 * 200 * 2.0**-53)


def turned(embed: Embed) -> bool:
    """The embedding of t + s is a linear map of that of t, the same one for every t."""
    t = torch.arange(40, dtype=torch.float64) * 0.7
    now, later = embed(t, 6), embed(t + 2.5, 6)
    fitted = torch.linalg.lstsq(now[:20], later[:20]).solution
    # fitted to half of the levels: their embeddings have a condition below 1e8
    return bool((now[20:] @ fitted - later[20:]).abs().max() <= 40 * 1e8 * 2.0**-53)


def by_sample(embed: Embed) -> bool:
    """The embedding of a level does not depend on the others."""
    together = embed(LEVELS, 8)
    return all(torch.equal(together[k : k + 1], embed(LEVELS[k : k + 1], 8)) for k in range(len(LEVELS)))


def spread(embed: Embed) -> bool:
    """Levels of a chain of 1000 are told apart: the products of eight of them have full rank."""
    e = embed(torch.linspace(1, 1000, 8, dtype=torch.float64), 32)
    return bool(torch.linalg.cond(e @ e.T) < 1e4)


LAWS: dict[str, tuple[Callable[[Embed], bool], tuple[str, ...]]] = {
    "the norm is half the dimension": (norms, ("along the batch", "mismatched", "sines alone")),
    "products depend on the distance": (toeplitz, ("along the batch", "mismatched", "sines alone")),
    "a later level is a rotation": (turned, ("along the batch", "mismatched", "sines alone")),
    "samples are independent": (by_sample, ("along the batch",)),
    "levels are told apart": (spread, ("a thousandth",)),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("spacing", ["half", "half_minus_one"])
@pytest.mark.parametrize("order", ["sin_cos", "cos_sin"])
@pytest.mark.parametrize("layout", ["concatenated", "interleaved"])
def test_a_law_holds_in_every_convention(law: str, spacing: str, order: str, layout: str) -> None:
    assert LAWS[law][0](lambda t, dim: right(t, dim, spacing=spacing, order=order, layout=layout))


@pytest.mark.parametrize(("law", "name"), [(law, name) for law, (_, names) in LAWS.items() for name in names])
def test_a_law_rejects_what_breaks_it(law: str, name: str) -> None:
    assert not LAWS[law][0](WRONG[name])


@pytest.mark.parametrize("spacing", ["half", "half_minus_one"])
def test_orders_and_layouts_hold_the_same_numbers(spacing: Any) -> None:
    plain = right(LEVELS, 8, spacing=spacing)
    sines, cosines = plain.chunk(2, 1)
    assert torch.equal(right(LEVELS, 8, spacing=spacing, order="cos_sin"), torch.cat([cosines, sines], 1))
    mixed = right(LEVELS, 8, spacing=spacing, layout="interleaved")
    assert torch.equal(mixed[:, ::2], sines) and torch.equal(mixed[:, 1::2], cosines)
    other = right(LEVELS, 8, spacing=spacing, layout="interleaved", order="cos_sin")
    assert torch.equal(other[:, ::2], cosines) and torch.equal(other[:, 1::2], sines)


@pytest.mark.parametrize("spacing", ["half", "half_minus_one"])
def test_the_definition_in_numpy_agrees(spacing: Any) -> None:
    """Angles up to 999 hold about 2 ln(10000) + 3 roundings each."""
    for dim in (4, 10):
        rows = np.stack([Layers(float).embedding(float(t), dim, spacing) for t in LEVELS])
        gap = np.abs(rows - right(LEVELS, dim, spacing=spacing).numpy())
        assert gap.max() <= 999 * 64 * 2.0**-53


@pytest.mark.parametrize(("how", "words"), [
    ({"dim": 5}, "dim"), ({"dim": 2}, "dim"), ({"spacing": "third"}, "spacing"), ({"order": "tan"}, "order"),
    ({"layout": "woven"}, "layout"), ({"period": 0}, "period"),
])  # fmt: skip
def test_bad_arguments_are_named(how: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sinusoidal(LEVELS, **{"dim": 8, **how})
