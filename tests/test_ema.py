"""The moving average of parameters is its recursion, and the sum that the recursion unrolls to."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from refdiff.ema import EMA, WarmUp, rate

WARM_UPS: tuple[WarmUp, ...] = ("none", "count", "power")


def named(values: list[float], dtype: torch.dtype = torch.float64) -> list[tuple[str, Tensor]]:
    return [("a.weight", torch.tensor(values, dtype=dtype))]


def walk(seed: int, steps: int, size: int = 4) -> list[list[float]]:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(steps + 1, size, dtype=torch.float64, generator=generator)
    return [[float(value) for value in row] for row in values]


def averaged(path: list[list[float]], decay: float, warm_up: WarmUp) -> Tensor:
    ema = EMA(named(path[0]), decay, warm_up)
    for row in path[1:]:
        ema.update(named(row))
    return ema.average["a.weight"]


@pytest.mark.parametrize("warm_up", WARM_UPS)
def test_the_average_is_the_recursion_in_exact_arithmetic(warm_up: WarmUp) -> None:
    path, decay = walk(0, 50), 0.96875
    exact = [Fraction(value) for value in path[0]]
    for k, row in enumerate(path[1:], 1):
        d = Fraction(rate(k, decay, warm_up))
        # 1 − d is taken in floats too, where it is rounded unless d is at least one half
        rest = Fraction(1 - rate(k, decay, warm_up))
        exact = [d * m + rest * Fraction(p) for m, p in zip(exact, row, strict=True)]
    found = averaged(path, decay, warm_up).tolist()
    # three roundings a step of numbers up to the largest, and no growth, since the factors add up to one
    slack = 50 * 3 * torch.finfo(torch.float64).eps * max(abs(value) for row in path for value in row)
    assert all(abs(Fraction(m) - e) < slack for m, e in zip(found, exact, strict=True))


def test_a_constant_rate_unrolls_to_a_geometric_sum() -> None:
    path, d, n = walk(1, 30), 0.875, 30
    rows = torch.tensor(path, dtype=torch.float64)
    weights = torch.tensor([(1 - d) * d ** (n - k) for k in range(n + 1)], dtype=torch.float64)
    weights[0] = d**n
    assert weights.sum().item() == pytest.approx(1, abs=1e-15)
    torch.testing.assert_close(averaged(path, d, "none"), weights @ rows, rtol=0, atol=1e-14)
    # with the factors exchanged it is another average
    assert (averaged(path, 1 - d, "none") - weights @ rows).abs().max() > 0.1


def test_the_rates_of_warm_up_rise_to_the_decay() -> None:
    for warm_up in WARM_UPS:
        rates = [rate(k, 0.999, warm_up) for k in range(1, 40000)]
        assert all(a <= b for a, b in pairwise(rates)) and rates[-1] == 0.999
    assert rate(1, 0.999, "count") == 0.1 and rate(1, 0.999, "power") == 0
    assert rate(8, 0.999, "power") == pytest.approx(0.75, rel=1e-15)


def test_the_first_update_of_power_forgets_the_first_weights() -> None:
    assert torch.equal(averaged([[5.0], [1.0]], 0.999, "power"), torch.tensor([1.0]).double())


def test_a_constant_stays_what_it_is() -> None:
    # to rounding: 0.999·p + 0.001·p
    found = averaged([[3.0, -2.0]] * 100, 0.999, "none")
    torch.testing.assert_close(found, torch.tensor([3.0, -2.0]).double(), rtol=1e-13, atol=0)


def test_the_average_shares_no_memory_and_no_graph_with_the_parameters() -> None:
    net = nn.Linear(2, 2)
    ema = EMA(net.named_parameters(), 0.5)
    with torch.no_grad():
        net.weight.fill_(7.0)
    assert not bool((ema.average["weight"] == 7).any())
    ema.update(net.named_parameters())
    assert not any(value.requires_grad for value in ema.average.values())


def test_a_saved_average_goes_on_as_if_it_had_not_stopped() -> None:
    path = walk(2, 20)
    straight = averaged(path, 0.99, "count")
    first = EMA(named(path[0]), 0.99, "count")
    for row in path[1:11]:
        first.update(named(row))
    second = EMA(named(path[0]), 0.99, "count")
    second.load(first.average, first.updates)
    for row in path[11:]:
        second.update(named(row))
    assert torch.equal(second.average["a.weight"], straight)
    # a count of updates that is forgotten is another rate
    third = EMA(named(path[0]), 0.99, "count")
    third.load(first.average, 0)
    third.update(named(path[11]))
    first.update(named(path[11]))
    assert not torch.equal(third.average["a.weight"], first.average["a.weight"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: EMA(named([1.0]), 1.0), "decay must be at least 0 and below 1, got 1.0"),
        (lambda: EMA(named([1.0]), -0.5), "decay must be at least 0"),
        (lambda: EMA(named([1.0]), 0.5, "slow"), "warm_up must be one of none, count, power, got 'slow'"),  # type: ignore[arg-type]
        (lambda: EMA(named([1.0], torch.bfloat16), 0.5), "must be float32 or float64, got torch.bfloat16"),
        (lambda: EMA(named([1.0]), 0.5).update([]), "names that the average began with"),
        (lambda: EMA(named([1.0]), 0.5).update(named([1.0, 2.0])), "a_weight must have the shape"),
        (lambda: EMA(named([1.0]), 0.5).load(dict(named([1.0, 2.0])), 3), "a.weight must be torch.float64"),
        (lambda: rate(0, 0.5), "k must be at least 1, got 0"),
    ],
    ids=["one", "negative", "rule", "dtype", "names", "shape", "load", "first"],
)
def test_a_wrong_argument_is_named(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()
