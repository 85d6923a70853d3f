"""All networks: shapes, settings, initial values, dtypes, devices, graphs, and every bad argument by name."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nets_cases import CASES, UNET, VECTORS, apart, arguments, fresh, made, randomised
from torch import Tensor, nn

from refdiff import nets, schedule, vlb
from refdiff.nets.blocks import Attention, ResidualBlock

ALL = pytest.mark.parametrize("case", CASES)


def expected_shape(case: str, x: Tensor) -> tuple[int, ...]:
    name, settings = CASES[case]
    if "classifier" in name:
        return (len(x), settings["classes"])
    if name == "energy":
        return (len(x),)
    channels = settings.get("out_channels", x.shape[1]) * (2 if settings.get("learned_variance") else 1)
    return (len(x), channels, *x.shape[2:])


# Shapes and settings.


@ALL
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_the_output_has_its_shape(case: str, batch: int) -> None:
    args = arguments(case, batch)
    assert tuple(made(case)(*args).shape) == expected_shape(case, args[0])


@ALL
def test_settings_make_the_same_network_again(case: str) -> None:
    name, settings = CASES[case]
    net = made(case)
    again = nets.build(name, json.loads(json.dumps(net.settings))).double()
    assert type(again) is type(net) and again.settings == net.settings
    again.load_state_dict(net.state_dict())
    args = arguments(case)
    assert torch.equal(again(*args), net(*args))
    # what was asked for is in them, and nothing is left to a default
    assert settings.items() <= net.settings.items() or "settings" in settings
    assert None not in net.settings.values()
    net.settings.clear()
    assert net.settings == again.settings


def test_a_seed_makes_the_weights_and_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    first, second, other = (nets.build("mlp", VECTORS, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.inp.weight, second.inp.weight)  # type: ignore[union-attr, arg-type]
    assert not torch.equal(first.inp.weight, other.inp.weight)  # type: ignore[union-attr, arg-type]
    nets.build("mlp", VECTORS)
    assert not torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("size", [(4, 4), (4, 12), (20, 8)], ids=str)
def test_any_size_that_the_strides_divide(size: tuple[int, int]) -> None:
    net = randomised(nets.UNet(**UNET | {"multipliers": (1, 2, 2)}))
    assert net(torch.zeros(2, 2, *size), torch.ones(2)).shape == (2, 2, *size)


def recorded(net: nn.Module, *args: Tensor) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Shapes (C, H, W) into and out of each named part."""
    shapes = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
            if isinstance(output, Tensor):
                shapes[name] = (tuple(inputs[0].shape[1:]), tuple(output.shape[1:]))

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in net.named_modules() if name]
    net(*args)
    for handle in handles:
        handle.remove()
    return shapes


@pytest.mark.parametrize("skips", ["concatenate", "add"])
def test_each_level_has_its_channels_and_its_size(skips: str) -> None:
    net = nets.UNet(**UNET | {"multipliers": (1, 2, 3), "blocks": 2, "skips": skips})
    seen = recorded(net, torch.zeros(1, 2, 16, 8), torch.ones(1))
    level = [(8, 16, 8), (16, 8, 4), (24, 4, 2)]
    for i in range(3):
        for j in range(2):
            assert seen[f"down.{i}.blocks.{j}"][1] == level[i]
        for j in range(3):
            assert seen[f"up.{i}.blocks.{j}"][1] == level[2 - i]
    assert seen["down.0.resample"] == ((8, 16, 8), (8, 8, 4))
    assert seen["up.0.resample"] == ((24, 4, 2), (24, 8, 4))
    assert seen["middle.attention"] == (level[2], level[2])
    assert {name for name in seen if name.endswith("attentions.0.qkv")} == {
        "down.1.attentions.0.qkv",
        "up.1.attentions.0.qkv",
    }
    # the deepest first: skips of 24 and 24 channels and that of 16 which was halved, …, at last conv_in's
    into = [seen[f"up.{k}.blocks.{j}"][0][0] for k in range(3) for j in range(3)]
    carried, skip = [24, 24, 24, 24, 16, 16, 16, 8, 8], [24, 24, 16, 16, 16, 8, 8, 8, 8]
    if skips == "concatenate":
        assert into == [h + s for h, s in zip(carried, skip, strict=True)]
    else:
        assert into == carried
        convolved = {name.removesuffix(".weight") for name in net.state_dict() if ".skips." in name}
        unlike = {f"up.{n // 3}.skips.{n % 3}" for n in range(9) if carried[n] != skip[n]}
        assert {name for name in convolved if not name.endswith("bias")} == unlike


# The number of parameters, counted from the definition.


def counted(settings: dict[str, Any]) -> int:
    """Weights and biases of a UNet, part by part."""
    s = nets.UNet(**settings).settings
    c = [s["base"] * m for m in s["multipliers"]]
    w, concatenate = s["width"], s["skips"] == "concatenate"

    def conv(a: int, b: int, k: int) -> int:
        return a * b * k * k + b

    def block(a: int, b: int) -> int:
        inject = b if s["injection"] == "shift" else 2 * b
        return 2 * a + conv(a, b, 3) + conv(w, inject, 1) + 2 * b + conv(b, b, 3) + (a != b) * conv(a, b, 1)

    def attention(i: int) -> int:
        return (i in s["attention"]) * full(c[i])

    def full(n: int) -> int:
        return 2 * n + conv(n, 3 * n, 1) + conv(n, n, 1)

    total = conv(s["embedding_dim"], w, 1) + conv(w, w, 1) + (s["classes"] > 0) * (s["classes"] + 1) * w
    total += conv(s["in_channels"], c[0], 3)
    skips, h = [c[0]], c[0]
    for i, n in enumerate(c):
        for _ in range(s["blocks"]):
            total, h = total + block(h, n) + attention(i), n
            skips.append(h)
        if n is not c[-1] or i < len(c) - 1:
            total += conv(h, h, 3)
            skips.append(h)
    total += 2 * block(h, h) + full(h)
    for i, n in reversed(list(enumerate(c))):
        for _ in range(s["blocks"] + 1):
            a = skips.pop()
            total += block(h + a, n) if concatenate else block(h, n) + (a != h) * conv(a, h, 1)
            total, h = total + attention(i), n
        total += (i > 0) * conv(h, h, 3)
    assert not skips
    return total + 2 * h + conv(h, s["out_channels"] * (1 + s["learned_variance"]), 3)


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("unet")])
@pytest.mark.parametrize("multipliers", [(1,), (1, 1), (1, 2, 2), (3, 1, 2)], ids=str)
def test_the_number_of_parameters(case: str, multipliers: tuple[int, ...]) -> None:
    settings = CASES[case][1] | {"multipliers": multipliers, "attention": range(len(multipliers))[1:2]}
    size = sum(parameter.numel() for parameter in nets.UNet(**settings).parameters())
    assert size == counted(settings)
    for other in ({"blocks": 3}, {"width": 17}, {"base": 12}, {"classes": 5}, {"out_channels": 4}):
        assert size != counted(settings | other)


def test_the_published_network_has_its_published_size() -> None:
    """Ho et al. give 35.7 million parameters for CIFAR-10, of which this is the network without dropout."""
    with torch.device("meta"):
        net = nets.UNet(in_channels=3, base=128, multipliers=(1, 2, 2, 2), attention=(1,), groups=32)
    assert round(sum(parameter.numel() for parameter in net.parameters()) / 1e6, 1) == 35.7


# Initial values.


@ALL
def test_a_fresh_network_starts_at_zero(case: str) -> None:
    name = CASES[case][0]
    net, args = fresh(case), arguments(case)
    y = net(*args)
    if name == "energy":
        want = (args[0].flatten(1).square().sum(1) / (2 * args[1].double() ** 2)).expand_as(y)
        assert apart(y, want) < 1e-14
    elif name != "classifier":
        assert not bool(y.any())
    # with all weights at work it does not
    assert float(randomised(net)(*args).detach().std()) > 0.01


@pytest.mark.parametrize("kind", ["block", "attention"])
def test_a_fresh_block_is_the_identity(kind: str) -> None:
    part = ResidualBlock(8, 8, 4, 2, "shift", 0.0) if kind == "block" else Attention(8, 2, 2)
    x = torch.randn(2, 8, 3, 5, generator=torch.Generator().manual_seed(0))
    e = (torch.ones(2, 4),) if isinstance(part, ResidualBlock) else ()
    assert torch.equal(part(x, *e), x)
    assert not torch.equal(randomised(part)(x, *e), x)


def test_only_the_ends_of_blocks_start_at_zero() -> None:
    net = nets.UNet(**UNET)
    weights = {name: value for name, value in net.named_parameters() if "norm" not in name}
    zero = {name for name, value in weights.items() if not bool(value.any())}
    ends = [name for name, _ in net.named_modules() if name.split(".")[-1] in ("conv2", "out", "conv_out")]
    assert zero == {f"{name}.{kind}" for name in ends for kind in ("weight", "bias")}


# Learned variance: the mean first, then what lies between the two variances.


@pytest.mark.parametrize("case", ["unet-add", "mlp-classes"])
def test_halves_are_the_mean_and_the_exponent(case: str) -> None:
    net, args = made(case), arguments(case)
    mean, share = nets.halves(net(*args))
    assert mean.shape == share.shape == args[0].shape
    assert bool(((share > 0) & (share < 1)).all())
    last = net.conv_out if "unet" in case else net.out
    half = last.bias.shape[0] // 2
    with torch.no_grad():
        last.bias[:half] += 1
    moved, same = nets.halves(net(*args))
    assert apart(moved, mean + 1) < 1e-12 and torch.equal(same, share)
    # halves the wrong way round would move the exponent and leave the mean
    assert not torch.equal(moved, mean)
    assert bool((nets.halves(fresh(case)(*args))[1] == 0.5).all())


def test_the_hybrid_loss_takes_the_halves() -> None:
    chain, net = schedule.linear(10, 0.01, 0.3), made("unet-add")
    x_0 = torch.linspace(-1, 1, 256, dtype=torch.float64)[torch.arange(96).reshape(2, 2, 4, 6) * 2]
    noise, t = arguments("unet-add", batch=2, seed=5)[0], torch.tensor([1, 7])
    loss = vlb.hybrid_loss(lambda x, t: nets.halves(net(x, t)), chain, x_0, t, noise, weight=1.0)
    loss.sum().backward()
    assert loss.shape == (2,) and bool(loss.isfinite().all())
    grad = net.conv_out.weight.grad
    assert bool(grad[:2].any()) and bool(grad[2:].any())
    # the simple part teaches the mean only
    net.zero_grad()
    vlb.hybrid_loss(lambda x, t: nets.halves(net(x, t)), chain, x_0, t, noise, weight=0.0).sum().backward()
    assert bool(net.conv_out.weight.grad[:2].any()) and not bool(net.conv_out.weight.grad[2:].any())
    # the raw second half is no exponent: it leaves [0, 1]
    with pytest.raises(ValueError, match="learned must lie in"):
        vlb.hybrid_loss(lambda x, t: net(x, t).chunk(2, 1), chain, x_0, t, noise)


# Devices, graphs, modes.


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_shape_and_dtype_survive_on_meta(case: str, dtype: torch.dtype) -> None:
    name, settings = CASES[case]
    with torch.device("meta"):
        net: Any = nets.build(name, settings).to(dtype)
    args = arguments(case, dtype=dtype)
    y = net(*(value.to("meta") for value in args))
    assert y.is_meta and y.dtype == dtype and tuple(y.shape) == expected_shape(case, args[0])
    if name == "energy":
        score = net.score(*(value.to("meta") for value in args))
        assert score.is_meta and score.dtype == dtype and score.shape == args[0].shape


@pytest.mark.parametrize("case", ["unet-scale-shift", "mlp-classes", "score-classes", "energy", "classifier"])
def test_one_graph_without_a_break(case: str) -> None:
    net, args = made(case), arguments(case)
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    assert apart(compiled(*args), net(*args)) < 1e-14
    if case == "energy":
        score = torch.compile(net.score, fullgraph=True, backend="eager")
        assert apart(score(*args), net.score(*args)) < 1e-14


def test_one_graph_with_its_gradient() -> None:
    net: Any = nets.UNet(**UNET | {"skips": "add", "multipliers": [1], "attention": [0]})
    net, args = randomised(net.double()), arguments("unet")
    compiled = torch.compile(copy.deepcopy(net), fullgraph=True, backend="aot_eager")
    for each in (net, compiled):
        each(*args).square().mean().backward()
    for one, other in zip(net.parameters(), compiled.parameters(), strict=True):
        assert apart(one.grad, other.grad) < 1e-10


def test_a_graph_break_would_be_seen() -> None:
    def broken(x: Tensor) -> Tensor:
        return x * float(x.sum().item()) if bool(x.sum() > 0) else x

    with pytest.raises(Exception, match=r"(?i)data-dependent|Unsupported|item"):
        torch.compile(broken, fullgraph=True, backend="eager")(torch.ones(3))


def test_dropout_draws_in_training_mode_only() -> None:
    net = randomised(nets.UNet(**UNET | {"dropout": 0.3}))
    x, t = arguments("unet", dtype=torch.float32)
    assert not torch.equal(net(x, t), net(x, t))
    net.eval()
    assert torch.equal(net(x, t), net(x, t))
    plain = nets.UNet(**UNET)
    plain.load_state_dict(net.state_dict())
    assert torch.equal(plain(x, t), net(x, t)) and torch.equal(plain.train()(x, t), net(x, t))


def test_channels_last_is_the_same_network() -> None:
    net, (x, t) = made("unet"), arguments("unet")
    last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    assert apart(last(x.contiguous(memory_format=torch.channels_last), t), net(x, t)) < 1e-12


# Bad arguments.

X, T = torch.zeros(2, 2, 4, 4), torch.ones(2)


def unet(**changes: Any) -> Any:
    return nets.UNet(**UNET | changes)


def mlp(**changes: Any) -> Any:
    return nets.MLP(**VECTORS | changes)


def score(**changes: Any) -> Any:
    return nets.ScoreNet(body="mlp", settings=VECTORS | changes)


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "build-name": (lambda: nets.build("vit", {}), "name must be one of unet, mlp, .*'vit'"),
    "build-unknown": (lambda: nets.build("mlp", {"dim": 3, "size": 2}), "settings must be arg.* mlp.*size"),
    "build-missing": (lambda: nets.build("mlp", {}), "settings must be arguments of mlp.*dim"),
    "in_channels": (lambda: unet(in_channels=0), "in_channels must be at least 1, got 0"),
    "out_channels": (lambda: unet(out_channels=0), "out_channels must be at least 1, got 0"),
    "base": (lambda: unet(base=0, embedding_dim=8), "base must be at least 1, got 0"),
    "multipliers": (lambda: unet(multipliers=[]), "multipliers must have at least one entry, got none"),
    "multipliers-entry": (lambda: unet(multipliers=[1, 1.5]), r"multipliers must be an int, got 1\.5"),
    "blocks": (lambda: unet(blocks=0), "blocks must be at least 1, got 0"),
    "attention": (lambda: unet(attention=[2]), r"attention must hold levels in 0\.\.1, got 2"),
    "attention-negative": (lambda: unet(attention=[-1]), "attention must be at least 0, got -1"),
    "heads": (lambda: unet(heads=3), "heads must divide 16 channels, got 3"),
    "heads-zero": (lambda: unet(heads=0), "heads must be at least 1, got 0"),
    "groups": (lambda: unet(groups=3), "groups must divide 8 channels, got 3"),
    "width": (lambda: unet(width=0), "width must be at least 1, got 0"),
    "embedding_dim": (lambda: unet(embedding_dim=7), "embedding_dim must be even, got 7"),
    "embedding_dim-small": (lambda: unet(embedding_dim=2), "embedding_dim must be at least 4, got 2"),
    "spacing": (lambda: unet(spacing="log"), "spacing must be one of half_minus_one, half, got 'log'"),
    "injection": (lambda: unet(injection="add"), "injection must be one of shift, scale_shift, got 'add'"),
    "skips": (lambda: unet(skips="cat"), "skips must be one of concatenate, add, got 'cat'"),
    "classes": (lambda: unet(classes=-1), "classes must be at least 0, got -1"),
    "learned_variance": (lambda: unet(learned_variance=2), "learned_variance must be True or False, got 2"),
    "dropout": (lambda: unet(dropout=1.0), r"dropout must lie in \[0, 1\), got 1\.0"),
    "dim": (lambda: mlp(dim=0), "dim must be at least 1, got 0"),
    "out_dim": (lambda: mlp(out_dim=0), "out_dim must be at least 1, got 0"),
    "depth": (lambda: mlp(depth=0), "depth must be at least 1, got 0"),
    "mlp-learned": (lambda: mlp(learned_variance="yes"), "learned_variance must be True or False, got 'yes'"),
    "image-classes": (lambda: nets.Classifier(in_channels=2, classes=1), "classes must be at least 2, got 1"),
    "vector-classes": (lambda: nets.VectorClassifier(dim=3, classes=1), "classes must be at least 2, got 1"),
    "body": (lambda: nets.ScoreNet(body="score", settings={}), "body must be one of unet, mlp, got 'score'"),
    "body-out": (lambda: score(out_dim=2), "out_dim must be dim = 3, got 2"),
    "body-learned": (lambda: score(learned_variance=True), "learned_variance must be False .*, got True"),
    "x-rank": (lambda: unet()(X[0], T), r"x must have shape \(B, 2, H, W\), got \(2, 4, 4\)"),
    "x-channels": (lambda: unet()(X[:, :1], T), r"x must have shape \(B, 2, H, W\), got \(2, 1, 4, 4\)"),
    "x-size": (lambda: unet()(X[:, :, :3], T), r"x must have H and W divisible by 2, got \(2, 2, 3, 4\)"),
    "x-size-small": (lambda: unet(multipliers=[1] * 4)(X, T), "x must have H and W divisible by 8"),
    "x-empty": (lambda: unet()(X[..., :0], T), r"x must have H and W divisible by 2, got \(2, 2, 4, 0\)"),
    "x-dtype": (lambda: unet()(X.long(), T), r"x must be a floating-point tensor, got torch\.int64"),
    "x-vector": (lambda: mlp()(X[:, 0, 0], T), r"x must have shape \(B, 3\), got \(2, 4\)"),
    "t-shape": (lambda: unet()(X, T[:1]), r"t must .*\(B,\) with B of \(2, 2, 4, 4\), got \(1,\)"),
    "t-column": (lambda: unet()(X, T[:, None]), r"t must have shape \(B,\), got \(2, 1\)"),
    "t-number": (lambda: unet()(X, 3), "t must be a tensor of real numbers, got <class 'int'>"),
    "label-missing": (lambda: unet(classes=3)(X, T), r"label must be given, in 0\.\.3 where 3 is no label"),
    "label-superfluous": (lambda: unet()(X, T, T.long()), "label must be None for .* classes = 0"),
    "label-high": (lambda: unet(classes=3)(X, T, 4 * T.long()), r"label must lie in 0\.\.3, got 4"),
    "label-low": (lambda: unet(classes=3)(X, T, -T.long()), r"label must lie in 0\.\.3, got -1"),
    "label-dtype": (lambda: unet(classes=3)(X, T, T), r"label must be an int64 tensor, got torch\.float32"),
    "label-shape": (lambda: unet(classes=3)(X, T, T[:1].long()), r"label must have shape \(2,\), got \(1,\)"),
    "sigma": (lambda: score()(X[:, 0, 0, :3], 0 * T), r"sigma must be positive, got 0\.0"),
    "sigma-nan": (lambda: score()(X[:, 0, 0, :3], 0 * T / 0), "sigma must be positive, got nan"),
    "sigma-shape": (lambda: score()(X[:, 0, 0, :3], T[:1]), r"sigma must .*B of \(2, 3\), got \(1,\)"),
    "halves": (lambda: nets.halves(X[:, :1]), r"output must have shape \(B, 2C, \*\), got \(2, 1, 4, 4\)"),
}


@pytest.mark.parametrize("id", BAD)
def test_a_bad_argument_is_named(id: str) -> None:
    call, message = BAD[id]
    with pytest.raises(ValueError, match=message):
        call()
