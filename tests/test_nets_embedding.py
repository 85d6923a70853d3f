"""The features of a level: closed forms, laws, and the conventions of other code; broken versions fail."""

from __future__ import annotations

import math
from itertools import product

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from refdiff.nets import frequencies, sinusoidal

SPACINGS, ORDERS = ("half_minus_one", "half"), ("sin_cos", "cos_sin")
LAYOUTS = ("concatenated", "interleaved")
LEVELS = torch.tensor([0.0, 1.0, 0.37, 999.0, 1000.0, -41.5, 2.0**17], dtype=torch.float64)


def exact(t: float, k: int, n: int, period: float, of: str) -> float:
    """sin or cos of t·period^(−k/n) in 60 digits."""
    with mpmath.workdps(60):
        angle = mpmath.mpf(t) * mpmath.mpf(period) ** (-mpmath.mpf(k) / n)
        return float(mpmath.sin(angle) if of == "sin" else mpmath.cos(angle))


def by_hand(t: Tensor, dim: int, spacing: str, order: str, layout: str, period: float) -> Tensor:
    half = dim // 2
    n = half - 1 if spacing == "half_minus_one" else half
    first, second = order.split("_")
    places = [(first, k) for k in range(half)] + [(second, k) for k in range(half)]
    if layout == "interleaved":
        places = [(of, k) for k in range(half) for of in (first, second)]
    return torch.tensor(
        [[exact(v, k, n, period, of) for of, k in places] for v in t.tolist()], dtype=torch.float64
    )


def excess(got: Tensor, want: Tensor, t: Tensor) -> float:
    """Error in units of its bound: the angle is a product of two rounded numbers, so it is off by three ulp
    (the power may be off by two), and sine and cosine pass that on and round once."""
    eps = torch.finfo(torch.float64).eps
    return float(((got - want).abs() / (eps * (3 * t.abs() + 1))[:, None]).max())


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("dim", "period"), [(4, 10000.0), (10, 10000.0), (8, 100.0)])
def test_features_are_sines_and_cosines(
    dim: int, period: float, layout: str, order: str, spacing: str
) -> None:
    kwargs = {"spacing": spacing, "order": order, "layout": layout, "period": period}
    got = sinusoidal(LEVELS, dim, dtype=torch.float64, **kwargs)
    assert excess(got, by_hand(LEVELS, dim, **kwargs), LEVELS) <= 1
    # every other convention is another function
    for other in product(SPACINGS, ORDERS, LAYOUTS):
        if other != (spacing, order, layout):
            assert excess(got, by_hand(LEVELS, dim, *other, period), LEVELS) > 1e6
    assert excess(got, by_hand(LEVELS, dim, spacing, order, layout, period + 1), LEVELS) > 1e6


def test_angles_are_double_whatever_the_dtype() -> None:
    """float32 features of level 999 are right to the last place; float32 angles would lose three digits."""
    t = torch.tensor([999.0])
    want = by_hand(t.double(), 64, "half_minus_one", "sin_cos", "concatenated", 10000.0)
    got = sinusoidal(t, 64)
    assert got.dtype == torch.float32
    single = t[:, None] * frequencies(64).float()
    broken = torch.cat([single.sin(), single.cos()], 1)
    ulp = torch.finfo(torch.float32).eps
    assert float((got - want).abs().max()) <= ulp / 2 < 8 * ulp < float((broken - want).abs().max())


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float32, torch.float64], ids=str)
def test_whole_levels_may_have_any_dtype(dtype: torch.dtype) -> None:
    t = torch.arange(5)
    assert torch.equal(sinusoidal(t.to(dtype), 8), sinusoidal(t.double(), 8))


@pytest.mark.parametrize("spacing", SPACINGS)
def test_frequencies_descend_from_one_in_a_constant_ratio(spacing: str) -> None:
    omega = frequencies(12, spacing=spacing)
    n = 5 if spacing == "half_minus_one" else 6
    assert omega[0] == 1 and omega.dtype == torch.float64 and omega.shape == (6,)
    ratios = omega[1:] / omega[:-1]
    assert float((ratios - 10000 ** (-1 / n)).abs().max()) < 1e-15
    # "half" never reaches 1/period
    assert (abs(float(omega[-1]) * 10000 - 1) < 1e-15 * 16) == (spacing == "half_minus_one")


@given(st.floats(-2000, 2000), st.floats(-2000, 2000))
def test_a_shift_of_the_level_rotates_each_pair(t: float, s: float) -> None:
    def pairs(level: float) -> Tensor:
        return sinusoidal(torch.tensor([level], dtype=torch.float64), 8, dtype=torch.float64).reshape(2, 4)

    sin, cos = pairs(t)
    turn_sin, turn_cos = pairs(s)
    rotated = torch.stack([sin * turn_cos + cos * turn_sin, cos * turn_cos - sin * turn_sin])
    # the angles of t, s and t + s are each off by three ulp
    tolerance = 2.0**-52 * (3 * (abs(t) + abs(s) + abs(t + s)) + 8)
    assert float((pairs(t + s) - rotated).abs().max()) <= tolerance
    assert float((pairs(t).square().sum(0) - 1).abs().max()) <= 2.0**-50


def test_levels_of_a_chain_have_different_features() -> None:
    """Level 1 to 1000 are apart by more than the last places of float32, also where they are closest."""
    features = sinusoidal(torch.arange(1, 1001), 32)
    assert float(torch.pdist(features).min()) > 0.1
    # without the two fastest waves neighbours are not
    slow = features.reshape(-1, 2, 16)[:, :, 8:].flatten(1)
    assert float(torch.pdist(slow).min()) < 0.1


def test_interleaved_is_a_permutation_of_concatenated() -> None:
    t = LEVELS[:3]
    blocks, pairs = (sinusoidal(t, 8, layout=layout) for layout in ("concatenated", "interleaved"))
    assert torch.equal(blocks.reshape(3, 2, 4).mT.flatten(1), pairs)
    assert torch.equal(sinusoidal(t, 8, order="cos_sin"), blocks.roll(4, 1))


BAD = {
    "dim-odd": (lambda: sinusoidal(LEVELS, 5), r"dim must be even, got 5"),
    "dim-small": (lambda: sinusoidal(LEVELS, 2), r"dim must be at least 4, got 2"),
    "dim-float": (lambda: frequencies(8.0), r"dim must be an int, got 8\.0"),
    "period": (lambda: frequencies(8, period=1.0), r"period must be above 1 and finite, got 1\.0"),
    "period-nan": (lambda: frequencies(8, period=math.nan), r"period must be above 1 and finite, got nan"),
    "spacing": (lambda: frequencies(8, spacing="log"), "spacing must be one of half_minus_one, half, got"),
    "order": (lambda: sinusoidal(LEVELS, 8, order="cos"), "order must be one of sin_cos, cos_sin, got"),
    "layout": (lambda: sinusoidal(LEVELS, 8, layout="x"), "layout must be one of concatenated, inter"),
    "t-shape": (lambda: sinusoidal(LEVELS[:, None], 8), r"t must have shape \(B,\), got \(7, 1\)"),
    "t-scalar": (lambda: sinusoidal(LEVELS[0], 8), r"t must have shape \(B,\), got \(\)"),
    "t-bool": (lambda: sinusoidal(LEVELS > 0, 8), r"t must be a tensor of real numbers, got torch\.bool"),
    "t-number": (lambda: sinusoidal(3.0, 8), r"t must be a tensor of real numbers, got <class 'float'>"),
    "dtype": (lambda: sinusoidal(LEVELS, 8, dtype=torch.int64), r"dtype must be floating, got torch\.int64"),
}


@pytest.mark.parametrize("id", BAD)
def test_a_bad_argument_is_named(id: str) -> None:
    call, message = BAD[id]
    with pytest.raises(ValueError, match=message):
        call()
