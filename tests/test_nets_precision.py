"""float32, bfloat16 autocast and float64: the error is what rounding each layer once predicts."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from nets_cases import CASES, arguments, fresh, made
from torch import Tensor, nn

from refdiff.nets import embedding

ALL = pytest.mark.parametrize("case", CASES)

# A prediction of the error: a float64 network whose layers take and give values rounded to the dtype, with
# rounded weights. What it leaves out goes both ways: a layer adds up to 300 products with roundings of its
# own, and activations between are rounded too; in turn roundings may cancel. Eight times is room for that:
# the random errors of 300 sums in blocks of eight or more, √(300/8) ≈ 6, and a rounding of an activation.
ROOM = 8.0
LAYERS = {
    torch.float32: (nn.Conv2d, nn.Linear, nn.GroupNorm),
    # autocast leaves normalisation and what else is no matrix product as it is
    torch.bfloat16: (nn.Conv2d, nn.Linear),
}


def rounded(net: nn.Module, dtype: torch.dtype) -> Any:
    """The float64 network with each layer's arguments and result rounded once."""
    net = copy.deepcopy(net)

    def nearest(value: Tensor) -> Tensor:
        return value.to(dtype).double()

    for part in net.modules():
        if isinstance(part, LAYERS[dtype]):
            for parameter in part.parameters():
                parameter.data = nearest(parameter.data)
            part.register_forward_pre_hook(lambda _, inputs: tuple(nearest(value) for value in inputs))
            part.register_forward_hook(lambda _, __, output: nearest(output))
    return net


def error(got: Tensor, want: Tensor) -> float:
    """Root mean square, relative to the values'."""
    return float(((got.double() - want).norm() / want.norm()).detach())


@ALL
def test_float32_is_as_near_as_its_roundings_say(case: str) -> None:
    want = made(case)(*arguments(case))
    predicted = error(rounded(made(case), torch.float32)(*arguments(case)), want)
    got = made(case, torch.float32)(*arguments(case, dtype=torch.float32))
    assert got.dtype == torch.float32
    assert predicted / ROOM < error(got, want) < ROOM * predicted
    assert ROOM * predicted < 2e-6


@ALL
def test_bfloat16_autocast_is_as_near_as_its_roundings_say(case: str) -> None:
    want = made(case)(*arguments(case))
    predicted = error(rounded(made(case), torch.bfloat16)(*arguments(case)), want)
    net, args = made(case, torch.float32), arguments(case, dtype=torch.float32)
    with torch.autocast(want.device.type, torch.bfloat16):
        got = net(*args)
        loss = got.square().mean()
    loss.backward()
    assert predicted / ROOM < error(got, want) < ROOM * predicted
    assert ROOM * predicted < 0.15
    # float32 is another precision
    assert error(net(*args), want) < predicted / ROOM
    assert all(value.grad is None or value.grad.dtype == torch.float32 for value in net.parameters())


@pytest.mark.parametrize("case", ["unet", "mlp"])
def test_features_of_half_precision_are_caught(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, t = arguments(case)
    want = made(case)(x, 900 + t)
    predicted = error(rounded(made(case), torch.float32)(x, 900 + t), want)
    net = made(case, torch.float32)
    assert error(net(x.float(), 900 + t), want) < ROOM * predicted
    assert error(net(x.float(), (900 + t).bfloat16()), want) > ROOM * predicted
    exact = embedding.sinusoidal

    def half(*args: Any, dtype: torch.dtype, **kwargs: Any) -> Tensor:
        return exact(*args, dtype=torch.float16, **kwargs).to(dtype)

    monkeypatch.setattr(embedding, "sinusoidal", half)
    assert error(net(x.float(), 900 + t), want) > ROOM * predicted


@ALL
def test_double_keeps_its_digits(case: str) -> None:
    """A float64 network is not somewhere float32: its output moves with the last digits of its input."""
    net, (x, *rest) = made(case), arguments(case)
    moved = error(net(x * (1 + 1e-12), *rest), net(x, *rest))
    assert 1e-15 < moved < 1e-10
    single = fresh(case, torch.float32)
    single.load_state_dict({name: value.float() for name, value in net.state_dict().items()})
    assert error(single((x * (1 + 1e-12)).float(), *rest), single(x.float(), *rest).double()) == 0
