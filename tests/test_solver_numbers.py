"""Solvers reckon with floats where levels are constants, and with tensors where a graph or a gradient needs
them."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from refdiff.process import VP
from refdiff.solver import SOLVERS, Levels, NoiseLevel, ddim_coefficients, karras_levels

ULP = torch.finfo(torch.float64).eps
TIMES = torch.tensor([0.9, 0.6, 0.35, 0.2, 0.1], dtype=torch.float64)
X = torch.tensor([[0.7, -1.2], [0.3, 2.1]], dtype=torch.float64)
NOISES = [torch.sin(torch.arange(4.0, dtype=torch.float64) * k).reshape(2, 2) for k in range(1, 6)]


def model(x: Tensor, scale: Tensor, std: Tensor) -> Tensor:
    """The perfect one for normal data of variance 2."""
    return std / (2 * scale**2 + std**2) * x


def sampled(name: str, levels: Levels) -> Tensor:
    return SOLVERS[name].sample(model, X, levels, itertools.cycle(NOISES))


def from_rates(rate: Tensor) -> Levels:
    """Levels that depend on a rate."""
    log_scale = -0.5 * rate * TIMES
    return Levels(log_scale.exp(), (-torch.expm1(2 * log_scale)).sqrt())


def near(got: Tensor, wanted: Tensor) -> bool:
    # four steps of some dozens of roundings, in differences no smaller than a tenth of their parts
    return bool((got - wanted).abs().max() <= 4 * 64 * 10 * ULP * wanted.abs().max())


@pytest.mark.parametrize("name", SOLVERS)
def test_floats_and_tensors_make_the_same_sample(name: str) -> None:
    rate = torch.tensor(3.0, dtype=torch.float64)
    plain, derived = from_rates(rate), from_rates(rate.requires_grad_())
    assert all(t.floats is not None for t, _ in plain.pairs())
    assert all(t.floats is None for t, _ in derived.pairs())
    assert near(sampled(name, plain), sampled(name, derived).detach())


@pytest.mark.parametrize("name", ["dpmpp_2m", "unipc_2", "lms_3", "heun", "dpm_3", "euler_ancestral"])
def test_a_sample_can_be_derived_by_its_levels(name: str) -> None:
    def of_rate(rate: Tensor) -> Tensor:
        return sampled(name, from_rates(rate)).sum()

    rate, step = torch.tensor(3.0, dtype=torch.float64), 1e-5
    slope = float(of_rate(rate + step) - of_rate(rate - step)) / (2 * step)
    backward = torch.func.grad(of_rate)(rate)
    _, forward = torch.func.jvp(of_rate, (rate,), (torch.ones_like(rate),))
    # central differences lose h² and ulp/h
    assert abs(float(backward) - slope) < 1e-8 and abs(float(forward) - slope) < 1e-8
    assert abs(slope) > 1e-3


@pytest.mark.parametrize("name", ["dpmpp_2m", "unipc_2", "lms_3", "heun", "plms", "euler_ancestral"])
def test_a_compiled_sample_ends_at_data_as_any_other(name: str) -> None:
    levels = karras_levels(0.1, 5, 4)
    call: Callable[[Tensor], Tensor] = lambda x: SOLVERS[name].sample(model, x, levels, NOISES)  # noqa: E731
    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, backend="eager")
    assert bool(call(X).isfinite().all()) and near(compiled(X), call(X))


def test_levels_that_are_made_in_a_graph_must_not_ask_for_their_end() -> None:
    def call(x: Tensor, std: Tensor) -> Tensor:
        return SOLVERS["dpmpp_2m"].sample(model, x, Levels(torch.ones_like(std), std, "ve"))

    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, backend="eager")
    with pytest.raises(Exception, match="std must be known before the graph"):
        compiled(X, torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64))


def test_coefficients_of_ddim_know_a_clean_level_in_a_graph() -> None:
    def call(std: Tensor) -> tuple[Tensor, Tensor]:
        high, low = NoiseLevel(0.5 * std[0], std[0]), NoiseLevel(torch.ones_like(std[1]), std[1])
        return ddim_coefficients(high, low)

    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, backend="eager")
    std = torch.tensor([0.8, 0.0], dtype=torch.float64)
    assert torch.equal(torch.stack(compiled(std)), torch.tensor([2.5, -2.0], dtype=torch.float64))
    assert torch.equal(torch.stack(call(std)), torch.stack(compiled(std)))


def test_levels_on_meta_have_a_sample_there() -> None:
    std = torch.empty(5, dtype=torch.float64, device="meta")
    x = torch.empty(2, 2, device="meta")
    for name in ("dpmpp_2m", "unipc_2", "lms_3", "heun", "dpm_3", "plms", "euler_ancestral"):
        got = SOLVERS[name].sample(lambda x, scale, std: 0.5 * x, x, Levels(std, std), [x] * 5)
        assert (got.shape, got.dtype, got.device) == (x.shape, x.dtype, x.device)


def test_levels_between_lie_on_the_device_of_the_list() -> None:
    levels = Levels.from_process(VP(), TIMES)
    (t, s), *_ = levels.pairs()
    inner = levels.between(t, s, 0.5)
    assert inner.scale.device == levels.scale.device and inner.scale.dtype == torch.float64
    assert near(inner.log_snr, (t.log_snr + s.log_snr) / 2)


def test_a_model_that_writes_to_what_it_is_told_leaves_the_levels() -> None:
    levels = Levels.from_process(VP(), TIMES)
    before = levels.std.clone()

    def writing(x: Tensor, scale: Tensor, std: Tensor) -> Tensor:
        eps = model(x, scale, std)
        std.zero_()
        return eps

    for name in ("dpmpp_2m", "lms_3"):
        assert torch.equal(SOLVERS[name].sample(writing, X, levels), sampled(name, levels))
    assert torch.equal(levels.std, before)
