"""Laws of the networks, each with a broken network that it rejects."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nets_cases import BROKEN, CASES, ROUNDING, VECTORS, apart, arguments, classes, made, randomised
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from refdiff import nets
from refdiff.nets.blocks import Attention, Downsample, ResidualBlock, Upsample

ALL = pytest.mark.parametrize("case", CASES)
Law = Callable[[Any, tuple[Tensor, ...]], float]


def swapped(net: nn.Module, kind: type[nn.Module], new: Callable[[Any], nn.Module]) -> Any:
    """The network with each part of a kind replaced."""
    for module in list(net.modules()):
        for name, part in list(module.named_children()):
            if isinstance(part, kind):
                setattr(module, name, new(part))
    return net


# A sample is on its own.


def of_batch(net: Any, args: tuple[Tensor, ...]) -> float:
    """Samples in another order and samples one by one, against the batch."""
    whole, order = net(*args), torch.tensor([2, 0, 3, 1])
    alone = torch.cat([net(*(value[b : b + 1] for value in args)) for b in range(len(order))])
    return max(apart(net(*(value[order] for value in args)), whole[order]), apart(alone, whole))


class AcrossBatch(nn.Module):
    """Attention over the samples in place of the positions."""

    def __init__(self, part: Attention) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.part(x.permute(3, 1, 2, 0)).permute(3, 1, 2, 0)
        return y


class MixedNorm(nn.Module):
    """Statistics over the batch, as batch normalisation has them."""

    def __init__(self, part: nn.GroupNorm) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.part(x.transpose(0, 1).flatten(1, 2)[None]).reshape(x.transpose(0, 1).shape)
        return y.transpose(0, 1)


class FirstLevel(nn.Module):
    """Features of the first sample's level for all."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, embedded: Tensor) -> Tensor:
        y: Tensor = self.part(embedded[:1]).expand(len(embedded), -1)
        return y


@ALL
def test_a_sample_does_not_see_the_others(case: str) -> None:
    assert of_batch(made(case), arguments(case)) < ROUNDING


@pytest.mark.parametrize(
    ("case", "kind", "new"),
    [
        pytest.param("unet", Attention, AcrossBatch, id="attention-over-the-batch"),
        pytest.param("classifier", nn.GroupNorm, MixedNorm, id="norm-over-the-batch"),
        pytest.param("mlp", nn.Sequential, FirstLevel, id="level-of-the-first"),
    ],
)
def test_a_network_that_mixes_samples_is_caught(case: str, kind: Any, new: Any) -> None:
    assert of_batch(swapped(made(case), kind, new), arguments(case)) > BROKEN


# The level and the label reach the output.


def of_level(net: Any, args: tuple[Tensor, ...]) -> float:
    """The least change of a sample's output when its level changes."""
    x, t, *label = args
    before = net(x, t, *label).detach().reshape(len(x), -1)
    change = net(x, 1.7 * t, *label).detach().reshape(len(x), -1) - before
    return float((change.norm(dim=1) / before.norm(dim=1)).min())


def of_each_block(net: Any, args: tuple[Tensor, ...]) -> float:
    """The least gradient of a residual block's map of e, relative to the largest."""
    net.zero_grad()
    net(*args).square().sum().backward()
    slopes = [value.grad for name, value in net.named_parameters() if ".time.weight" in name]
    sizes = torch.stack([torch.zeros(()) if slope is None else slope.norm() for slope in slopes])
    return float(sizes.min() / sizes.max())


class Dropped(nn.Module):
    """A condition that is not passed on."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor, *e: Tensor) -> Tensor:
        y: Tensor = self.part(x, *(torch.zeros_like(value) for value in e)) if e else 0 * self.part(x)
        return y


@ALL
def test_the_level_reaches_the_output_through_every_block(case: str) -> None:
    net, args = made(case), arguments(case)
    assert of_level(net, args) > BROKEN
    if CASES[case][0] != "energy":
        assert of_each_block(net, args) > BROKEN


def test_a_network_without_its_level_is_caught() -> None:
    net = swapped(made("unet"), nn.Sequential, Dropped)
    assert of_level(net, arguments("unet")) == 0
    late = made("unet")
    late.up[1].blocks[1] = Dropped(late.up[1].blocks[1])
    assert of_level(late, arguments("unet")) > BROKEN
    assert of_each_block(late, arguments("unet")) < ROUNDING


LABELLED = [case for case in CASES if classes(case)]


def of_label(net: Any, case: str) -> float:
    """Renumbering the labels together with their rows against the network; "no label" stays the last row."""
    x, t, label = arguments(case)
    order = torch.tensor([1, 2, 0, 3])
    other = copy.deepcopy(net)
    table = next(part for part in other.modules() if isinstance(part, nn.Embedding))
    table.weight.data = table.weight.data[order.argsort()]
    return apart(other(x, t, order[label]), net(x, t, label))


@pytest.mark.parametrize("case", LABELLED)
def test_each_label_has_its_row_and_none_is_the_last(case: str) -> None:
    net, (x, t, label) = made(case), arguments(case)
    assert sorted(label.tolist()) == [0, 1, 2, 3]
    assert of_label(net, case) < ROUNDING
    table = next(part for part in net.modules() if isinstance(part, nn.Embedding))
    assert len(table.weight) == classes(case) + 1
    before = net(x, t, label).detach().reshape(4, -1)
    table.weight.data[3] += 1
    changed = ((net(x, t, label).detach().reshape(4, -1) - before).norm(dim=1)) / before.norm(dim=1)
    assert (changed > BROKEN).tolist() == (label == 3).tolist()
    assert float(changed[label != 3].max()) == 0
    # a label is not a number: no two give the same
    each = torch.stack([net(x, t, torch.full_like(label, k)) for k in range(4)]).detach().flatten(1)
    assert float(torch.pdist(each).min() / each.norm()) > BROKEN


class Wrapped(nn.Module):
    """ "No label" taken for the first class."""

    def __init__(self, part: nn.Embedding) -> None:
        super().__init__()
        self.part = part

    def forward(self, label: Tensor) -> Tensor:
        y: Tensor = self.part(label % (len(self.part.weight) - 1))  # type: ignore[arg-type]
        return y


def test_a_network_that_takes_no_label_for_a_class_is_caught() -> None:
    net = swapped(made("mlp-classes"), nn.Embedding, Wrapped)
    assert of_label(net, "mlp-classes") > BROKEN


# Positions.


def circular(net: nn.Module) -> Any:
    """The network on a torus: what a convolution misses at one edge it takes from the other."""
    for part in net.modules():
        if isinstance(part, nn.Conv2d):
            part.padding_mode = "circular"
    return net


def of_translation(net: Any, args: tuple[Tensor, ...], shift: tuple[int, int]) -> float:
    x, *rest = args
    return apart(net(x.roll(shift, (2, 3)), *rest), net(*args).roll(shift, (2, 3)))


@pytest.mark.parametrize("case", ["unet", "unet-scale-shift", "unet-add", "unet-one-level"])
def test_on_a_torus_a_shift_by_the_stride_shifts_the_output(case: str) -> None:
    """Exact on a torus for shifts by 2^(levels − 1) pixels, attention included; nowhere else."""
    net, args = circular(made(case)), arguments(case)
    stride = 2 ** (len(CASES[case][1]["multipliers"]) - 1)
    for shift in ((stride, 0), (0, -stride), (-stride, 2 * stride)):
        assert of_translation(net, args, shift) < ROUNDING
    if stride > 1:
        # half a stride is no symmetry of a network that halves the size
        assert of_translation(net, args, (1, 0)) > BROKEN
    # zeros at the edges tell a network where it is
    assert of_translation(made(case), args, (stride, 0)) > BROKEN


def test_a_network_that_knows_positions_is_caught() -> None:
    class Placed(Upsample):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x + torch.linspace(0, 1, x.shape[2], dtype=x.dtype)[:, None])

    net = made("unet")
    placed = Placed(16).double()
    placed.load_state_dict(net.up[0].resample.state_dict())
    net.up[0].resample = placed
    assert of_translation(circular(net), arguments("unet"), (2, 0)) > BROKEN


def test_a_classifier_on_a_torus_does_not_see_a_shift() -> None:
    net, (x, t) = circular(made("classifier")), arguments("classifier")
    assert apart(net(x.roll((2, -2), (2, 3)), t), net(x, t)) < ROUNDING
    assert apart(net(x.roll((1, 0), (2, 3)), t), net(x, t)) > BROKEN


def test_resampling_halves_and_doubles_where_it_stands() -> None:
    x = arguments("unet")[0]
    up, down = randomised(Upsample(2).double()), randomised(Downsample(2).double())
    stretched = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    weight, bias = up.weight.data, up.bias.data
    assert apart(up(x), torch.conv2d(stretched, weight, bias, padding=1)) < ROUNDING
    smooth = interpolate(x, scale_factor=2, mode="bilinear")
    assert apart(up(x), torch.conv2d(smooth, weight, bias, padding=1)) > BROKEN
    # the stride-two convolution is every second place of the plain one, from the first on
    plain = torch.conv2d(x, down.weight, down.bias, padding=1)
    assert apart(down(x), plain[:, :, ::2, ::2]) < ROUNDING
    assert apart(down(x), plain[:, :, 1::2, 1::2]) > BROKEN


# Attention.


def attention(heads: int) -> Attention:
    part: Attention = randomised(Attention(8, heads, 2).double())
    return part


def of_places(part: nn.Module, x: Tensor) -> float:
    order = torch.randperm(24, generator=torch.Generator().manual_seed(3))

    def moved(y: Tensor) -> Tensor:
        return y.flatten(2)[..., order].unflatten(2, (4, 6))

    return apart(part(moved(x)), moved(part(x)))


def by_hand(part: Attention, x: Tensor, order: str = "qkv", split: str = "blocks", size: str = "d") -> Tensor:
    """Attention head by head, from the softmax of scores."""
    b, c, height, width = x.shape
    d = c // part.heads
    parts = dict(zip(order, part.qkv(part.norm(x)).flatten(2).chunk(3, 1), strict=True))
    y = torch.zeros(b, c, height * width, dtype=x.dtype)
    for head in range(part.heads):
        own = slice(head * d, (head + 1) * d) if split == "blocks" else slice(head, None, part.heads)
        q, k, v = (parts[name][:, own] for name in "qkv")
        scores = torch.einsum("bci,bcj->bij", q, k) / (d if size == "d" else c) ** 0.5
        y[:, own] = torch.einsum("bij,bcj->bci", scores.exp() / scores.exp().sum(2, keepdim=True), v)
    out: Tensor = x + part.out(y.unflatten(2, (height, width)))
    return out


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_a_softmax_over_positions_in_each_head(heads: int) -> None:
    x, part = torch.cat([arguments("unet", seed=seed)[0] for seed in range(4)], 1), attention(heads)
    assert apart(part(x), by_hand(part, x)) < ROUNDING
    for broken in ({"order": "kqv"}, {"order": "qvk"}):
        assert apart(part(x), by_hand(part, x, **broken)) > BROKEN
    if heads > 1:
        assert apart(part(x), by_hand(part, x, split="strided")) > BROKEN
        assert apart(part(x), by_hand(part, x, size="c")) > BROKEN


def test_attention_does_not_know_positions() -> None:
    x, part = torch.cat([arguments("unet", seed=seed)[0] for seed in range(4)], 1), attention(2)
    assert of_places(part, x) < ROUNDING
    # a mask that hides what comes later does
    part.forward = lambda y: y + part.out(masked(part.qkv(part.norm(y))))  # type: ignore[method-assign, assignment]
    assert of_places(part, x) > BROKEN


def masked(qkv: Tensor) -> Tensor:
    q, k, v = qkv.flatten(2).mT.chunk(3, 2)
    return scaled_dot_product_attention(q, k, v, is_causal=True).mT.unflatten(2, (4, 6))


# Skips and injections.


@pytest.mark.parametrize("case", ["unet", "unet-add"])
def test_every_skip_reaches_the_output(case: str) -> None:
    net, args = made(case), arguments(case)
    taken: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        taken.extend(output if isinstance(output, list) else [output])

    for part in (net.conv_in, *net.down):
        part.register_forward_hook(keep)
    y = net(*args)
    # with the middle cut off, a skip is the only way from an encoder's output to the end
    whole = torch.autograd.grad(y.square().sum(), taken, retain_graph=True)
    assert len(taken) == 2 + len(net.down) * net.settings["blocks"] + len(net.down) - 2
    assert all(float(slope.norm()) > BROKEN * float(whole[0].norm()) for slope in whole)
    net.middle.forward = lambda h, e: h.detach()
    taken.clear()
    last = net(*args)
    slopes = torch.autograd.grad(last.square().sum(), taken[-1:])
    assert float(slopes[0].norm()) > 0


def test_an_added_skip_is_added() -> None:
    net, (x, t) = made("unet-add"), arguments("unet-add")
    before: dict[str, Tensor] = {}
    block, skip = net.up[1].blocks[0], net.up[1].skips[0]
    block.register_forward_hook(lambda _, inputs, __: before.update(block=inputs[0]))
    skip.register_forward_hook(lambda _, inputs, output: before.update(skip=output))
    net.up[0].register_forward_hook(lambda _, __, output: before.update(h=output))
    net(x, t)
    assert torch.equal(before["block"], before["h"] + before["skip"])
    assert not torch.equal(before["block"], before["h"])


@pytest.mark.parametrize("injection", ["shift", "scale_shift"])
def test_the_condition_enters_where_it_should(injection: Any) -> None:
    """Before the second normalisation a constant in each group is lost; behind it it is not."""
    block = randomised(ResidualBlock(4, 4, 3, 1, injection, 0.0).double())
    x, e = arguments("unet")[0].repeat(1, 2, 1, 1), torch.ones(4, 3, dtype=torch.float64)
    first = block(x, e)
    block.time.bias.data += 0.7
    moved = apart(block(x, e), first)
    assert moved < ROUNDING if injection == "shift" else moved > BROKEN


def test_scale_and_shift_come_in_this_order() -> None:
    block = randomised(ResidualBlock(4, 4, 3, 2, "scale_shift", 0.0).double())
    x, e = arguments("unet")[0].repeat(1, 2, 1, 1), torch.ones(4, 3, dtype=torch.float64)
    block.time.weight.data.zero_()
    block.time.bias.data = torch.tensor([-1.0] * 4 + [0.3] * 4, dtype=torch.float64)
    # a scale of −1 takes all of h away, so that only the shift is left
    inside = nn.functional.silu(torch.full_like(x, 0.3))
    assert apart(block(x, e), x + block.conv2(inside)) < ROUNDING
    block.time.bias.data = block.time.bias.data.roll(4)
    assert apart(block(x, e), x + block.conv2(inside)) > BROKEN


# Scores and energies.


def test_a_score_is_the_body_over_sigma() -> None:
    net, (x, sigma) = made("score"), arguments("score")
    column = sigma.double().reshape(-1, 1, 1, 1)
    got = net(x, sigma)
    assert apart(got, net.body(x, 250 * sigma.double().log()) / column) == 0
    for t in (250 * sigma.double().log10(), sigma.double().log(), sigma.double()):
        assert apart(got, net.body(x, t) / column) > BROKEN
    assert apart(got, net.body(x, 250 * sigma.double().log()) * column) > BROKEN


def differences(net: Any, x: Tensor, *rest: Tensor, h: float = 1e-3) -> Tensor:
    """Minus the gradient of the energy by central differences, extrapolated to an error of order h⁴."""
    steps = torch.eye(x[0].numel(), dtype=x.dtype).reshape(-1, 1, *x.shape[1:])
    count = len(steps)

    def slope(width: float) -> Tensor:
        near = torch.cat([x + width * steps, x - width * steps]).flatten(0, 1)
        energy = net(near, *(value.repeat(2 * count) for value in rest)).detach().reshape(2, count, -1)
        rise: Tensor = (energy[0] - energy[1]).mT / (2 * width)
        return rise

    return -((4 * slope(h) - slope(2 * h)) / 3).reshape(x.shape)


# h⁴ = 1e-12 times the fifth derivative, which two layers of SiLU keep below a thousand times the slope, and
# 1e-16/h = 1e-13 times the energy, of the order of the slope
DIFFERENCES = 1e-8


@pytest.mark.parametrize("case", ["energy", "energy-unet"])
def test_the_score_of_an_energy_is_minus_its_gradient(case: str) -> None:
    net, args = made(case), arguments(case, batch=2)
    args = (args[0], torch.tensor([0.6, 1.9]), *args[2:])
    want = differences(net, *args)
    assert apart(net.score(*args), want) < DIFFERENCES
    x, sigma, *label = args
    output, column = net.predict(x, sigma, *(label or [None]))
    without_jacobian = (output - x) / column**2
    for broken in (without_jacobian, -net.score(*args), net.score(x, 1.001 * sigma, *label)):
        assert apart(broken, want) > 1000 * DIFFERENCES


@pytest.mark.parametrize("case", ["energy", "energy-unet"])
def test_a_loss_of_the_score_has_a_gradient_when_asked_for(case: str) -> None:
    net, args = made(case), arguments(case, batch=2)
    with torch.enable_grad():
        plain = net.score(*args)
        loss = net.score(*args, create_graph=True).square().sum()
    assert not plain.requires_grad and loss.requires_grad
    weights = [value for value in net.parameters() if value.dim() > 1]
    slopes = torch.autograd.grad(loss, weights)
    direction = [torch.linspace(-1, 1, v.numel(), dtype=v.dtype).reshape(v.shape) for v in weights]
    h = 1e-5
    sides = []
    for sign in (1, -2, 1):
        for value, way in zip(weights, direction, strict=True):
            value.data += sign * h * way
        sides.append(float(net.score(*args).square().sum()))
    along = float(sum((slope * way).sum() for slope, way in zip(slopes, direction, strict=True)))
    # h² times the third derivative and 1e-16/h, both with room for three digits
    assert abs((sides[0] - sides[1]) / (2 * h) - along) < 1e-5 * (abs(along) + float(loss.detach()))
    # on a grid where x itself is a variable, the score passes a gradient to it as well
    x = args[0].clone().requires_grad_()
    assert bool(torch.autograd.grad(net.score(x, *args[1:], create_graph=True).sum(), x)[0].any())


def test_an_energy_is_not_negative_and_is_least_at_the_prediction() -> None:
    net, (x, sigma) = made("energy"), arguments("energy")
    assert bool((net(x, sigma) >= 0).all())
    body, sigma_column = net.predict(x, sigma, None)
    want = ((x - body) ** 2).sum(1) / (2 * sigma_column[:, 0] ** 2)
    assert apart(net(x, sigma), want) < 1e-14
    assert apart(net(x, sigma), 2 * want) > BROKEN


def test_a_vector_classifier_is_a_perceptron_with_as_many_outputs() -> None:
    net, (x, t) = made("vector-classifier"), arguments("vector-classifier")
    same = nets.MLP(**VECTORS, out_dim=4).double()
    same.load_state_dict(net.state_dict())
    assert torch.equal(net(x, t), same(x, t))


SHARED = ("time", "conv_in", "down", "middle")


def test_a_classifier_is_the_half_of_a_unet() -> None:
    net, (x, t) = made("classifier"), arguments("classifier")
    whole = made("unet")
    kept = {name: value for name, value in net.state_dict().items() if name.split(".")[0] in SHARED}
    whole.load_state_dict(whole.state_dict() | kept)
    inner: dict[str, Tensor] = {}
    whole.middle.register_forward_hook(lambda _, __, output: inner.update(h=output))
    whole(x, t)
    mean = nn.functional.silu(net.norm_out(inner["h"])).mean((2, 3))
    assert apart(net(x, t), net.head(mean)) < ROUNDING
    assert apart(net(x, t), net.head(nn.functional.silu(net.norm_out(inner["h"]).mean((2, 3))))) > BROKEN
