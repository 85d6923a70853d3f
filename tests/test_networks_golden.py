"""The torch networks meet the golden values of the networks by definition, and broken ones do not.

The tolerance of a case is 8 times a first-order bound of the rounding errors of its computation
(``derivations.networks.scalars.Trace``): networks of torch sum in another order, which the bound allows, and
may write a layer in another form, which the factor is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from math import isqrt, prod
from typing import Any

import numpy as np
import pytest
import torch
from flint import arb, ctx
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from derivations.golden.network_decoys import DECOYS
from derivations.golden.networks import CONTENTS, Run
from derivations.networks import NETWORKS, Dual, Layers, array, ball, ball_direction, shapes, weight_values
from derivations.networks.models import completed as with_defaults
from derivations.networks.models import decoder
from refdiff import golden
from refdiff.golden import Case
from refdiff.nets import NETS, build
from refdiff.nets.score import EnergyNet

torch.set_num_threads(1)
CASES = [case for name, _, _ in CONTENTS for case in golden.load("networks", name)]
RUNS = {f"{run.formula}/{run.id}": run for _, _, runs in CONTENTS for run in runs}
IDS = [case.id for case in CASES]
DTYPES = {"float64": torch.float64, "float32": torch.float32}


def numbers(rows: Sequence[Any], dtype: torch.dtype) -> Tensor:
    return torch.tensor(np.vectorize(lambda text: float(Fraction(text)))(np.array(rows)), dtype=dtype)


def weights(net: nn.Module, seed: int) -> dict[str, Tensor]:
    """The rule of the weights, read off its description: names in order, then entries in order."""
    state, found = seed, {}
    for name, tensor in sorted(net.state_dict().items()):
        fan_in = prod(tensor.shape[1:]) if tensor.dim() > 1 else 0
        reach = max(1, isqrt(3 * 64**2 // fan_in)) if fan_in else 24
        entries = []
        for _ in range(tensor.numel()):
            state = (1103515245 * state + 12345) % 2**31
            entries.append((state // 2**16) % (2 * reach + 1) - reach)
        offset = 1.0 if tensor.dim() == 1 and name.endswith("weight") else 0.0
        found[name] = torch.tensor(entries, dtype=torch.float64).reshape(tensor.shape) / 64 + offset
    return found


def made(case: Case, dtype: torch.dtype = torch.float64, **changed: Any) -> nn.Module:
    """The network of a case."""
    given = case.input
    net = build(given["network"], {**given["settings"], **changed})
    net.load_state_dict(weights(net, given["weights_seed"]))
    return net.to(dtype).eval()


def asked(case: Case, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor | None]:
    """Batch, levels and labels of a case."""
    given = case.input
    x = numbers(given["batch"], dtype).reshape(-1, *given["sample_shape"])
    t = numbers(given.get("times") or given["noise_levels"], dtype)
    return x, t, torch.tensor(given["labels"]) if "labels" in given else None


def called(net: nn.Module, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
    found: Tensor = net(x, t) if labels is None else net(x, t, labels)
    return found


def answers(case: Case, net: nn.Module, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """The outputs, and the gradient of their sum times the cotangents."""
    x, t, labels = asked(case, dtype)
    x.requires_grad_()
    out = called(net, x, t, labels)
    weighed = out * numbers(case.input["cotangents"], dtype).reshape(out.shape)
    return out.detach(), torch.autograd.grad(weighed.sum(), x)[0]


def errors(case: Case, net: nn.Module, dtype: torch.dtype = torch.float64) -> list[float]:
    pairs = zip(case.outputs, answers(case, net, dtype), strict=True)
    return [wanted.error(got.double().flatten().tolist()) for wanted, got in pairs]


def meets(case: Case, net: nn.Module) -> bool:
    pairs = zip(case.outputs, errors(case, net), strict=True)
    return all(error <= wanted.tolerance() for wanted, error in pairs)


@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_network_meets_its_golden_values(case: Case, dtype: str) -> None:
    net = made(case, DTYPES[dtype])
    for wanted, got in zip(case.outputs, answers(case, net, DTYPES[dtype]), strict=True):
        assert tuple(got.shape) == wanted.shape
        assert got.dtype == DTYPES[dtype]
        if dtype in wanted.tolerances:
            assert wanted.error(got.double().flatten().tolist()) <= wanted.tolerance(dtype), wanted.name


ENERGIES = [case for case in CASES if case.input["network"] == "energy"]


@pytest.mark.parametrize("case", ENERGIES, ids=lambda case: case.id)
def test_the_score_of_an_energy_is_minus_its_gradient(case: Case) -> None:
    net, (x, sigma, _) = made(case), asked(case)
    assert isinstance(net, EnergyNet)
    weights = numbers(case.input["cotangents"], torch.float64).reshape(-1, *[1] * (x.dim() - 1))
    wanted = case.output("gradient")
    got = -net.score(x, sigma) * weights
    assert wanted.error(got.detach().flatten().tolist()) <= wanted.tolerance()
    assert wanted.error((-got).detach().flatten().tolist()) > wanted.tolerance()


# broken networks

def breaks(name: str) -> Callable[[Any], Any]:
    def add(function: Any) -> Any:
        BREAKS[name] = function
        return function

    return add


def inside(case: Case) -> Mapping[str, Any]:
    """The settings of the network, or of the one inside a score or an energy."""
    found: Mapping[str, Any] = case.input["settings"].get("settings", case.input["settings"])
    return found


def is_image(case: Case) -> bool:
    return len(case.input["sample_shape"]) == 3


def changed(net: nn.Module, change: Callable[[str, Tensor], Tensor | None]) -> nn.Module | None:
    """The network with some of its weights changed; None where none was."""
    state = net.state_dict()
    new = {name: found for name, value in state.items() if (found := change(name, value)) is not None}
    net.load_state_dict({**state, **new})
    return net if new else None


def swapped(value: Tensor, parts: int, order: Sequence[int]) -> Tensor:
    """Equal parts of the first axis in another order."""
    pieces = value.chunk(parts)
    return torch.cat([pieces[k] for k in order])


class Replaced(TorchFunctionMode):
    """A function of torch by its name replaced by another one."""

    def __init__(self, name: str, other: Callable[..., Tensor]) -> None:
        super().__init__()
        self.name, self.other, self.used = name, other, False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == self.name:
            self.used = True
            return self.other(func, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


Break = Callable[[Case, nn.Module], nn.Module | Replaced | None]
BREAKS: dict[str, Break] = {}


@breaks("group norm with eps 1e-6")
def _eps(case: Case, net: nn.Module) -> nn.Module | None:
    norms = [module for module in net.modules() if isinstance(module, nn.GroupNorm)]
    assert bool(norms) == is_image(case)
    for norm in norms:
        norm.eps = 1e-6
    return net if norms else None


@breaks("keys where queries belong")
def _qkv(case: Case, net: nn.Module) -> nn.Module | None:
    return changed(net, lambda name, w: swapped(w, 3, (1, 0, 2)) if ".qkv." in name else None)


@breaks("values where queries belong")
def _vkq(case: Case, net: nn.Module) -> nn.Module | None:
    return changed(net, lambda name, w: swapped(w, 3, (2, 1, 0)) if ".qkv." in name else None)


@breaks("heads interleaved")
def _heads(case: Case, net: nn.Module) -> nn.Module | None:
    heads = inside(case).get("heads", 1)

    def change(name: str, w: Tensor) -> Tensor | None:
        if heads == 1 or ".qkv." not in name or len(w) // 3 == heads:
            return None
        parts = (part.reshape(-1, heads, *part.shape[1:]) for part in w.chunk(3))
        return torch.cat([part.transpose(0, 1).flatten(0, 1) for part in parts])

    return changed(net, change)


@breaks("attention without its scale")
def _scale(case: Case, net: nn.Module) -> Replaced:
    return Replaced("scaled_dot_product_attention", lambda f, *args, **kw: f(*args, **{**kw, "scale": 1.0}))


@breaks("shift where the scale belongs")
def _injection(case: Case, net: nn.Module) -> nn.Module | None:
    def change(name: str, w: Tensor) -> Tensor | None:
        own = name.removeprefix("body.")
        found = ".time." in own and inside(case).get("injection") == "scale_shift"
        return swapped(w, 2, (1, 0)) if found else None

    return changed(net, change)


@breaks("the skip before h")
def _skips(case: Case, net: nn.Module) -> nn.Module | None:
    if case.input["network"] == "classifier" or not is_image(case):
        return None
    own = with_defaults("unet", inside(case))
    if own["skips"] == "add":
        return None
    taken = {place.name: channels for level in decoder(own) for place, channels, _ in level}

    def change(name: str, w: Tensor) -> Tensor | None:
        own = name.removeprefix("body.")
        block = next((block for block in taken if own.startswith(f"{block}.")), "")
        part = own.rpartition(".")[0].removeprefix(f"{block}.")
        if part == "norm1":
            return w.roll(-taken[block], 0)
        takes_channels = part in ("conv1", "skip") and own.endswith(".weight")
        return w.roll(-taken[block], 1) if takes_channels else None

    return changed(net, change)


@breaks("no SiLU")
def _silu(case: Case, net: nn.Module) -> Replaced:
    return Replaced("silu", lambda f, x, *args, **kw: x)


@breaks("SiLU's approximation")
def _gelu(case: Case, net: nn.Module) -> Replaced:
    return Replaced("silu", lambda f, x, *args, **kw: x * torch.sigmoid(1.702 * x))


@breaks("cosines before sines")
def _order(case: Case, net: nn.Module) -> nn.Module | None:
    def change(name: str, w: Tensor) -> Tensor | None:
        return w.roll(w.shape[1] // 2, 1) if name.endswith("time.0.weight") else None

    return changed(net, change)


@breaks("sines and cosines interleaved")
def _interleaved(case: Case, net: nn.Module) -> nn.Module | None:
    def change(name: str, w: Tensor) -> Tensor | None:
        return w.reshape(len(w), -1, 2).mT.reshape(w.shape) if name.endswith("time.0.weight") else None

    return changed(net, change)


@breaks("the other spacing of frequencies")
def _spacing(case: Case, net: nn.Module) -> nn.Module | None:
    if case.input["network"] == "classifier":
        return None
    other = "half_minus_one" if inside(case).get("spacing") == "half" else "half"
    if "body" in case.input["settings"]:
        return made(case, settings={**inside(case), "spacing": other})
    return made(case, spacing=other)


@breaks("circular padding")
def _padding(case: Case, net: nn.Module) -> nn.Module | None:
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    for module in convolutions:
        module.padding_mode = "circular"
    return net if convolutions else None


@breaks("bilinear upsampling")
def _bilinear(case: Case, net: nn.Module) -> Replaced:
    def other(f: Any, x: Tensor, *args: Any, **kw: Any) -> Tensor:
        return f(x, scale_factor=2, mode="bilinear", align_corners=False)  # type: ignore[no-any-return]

    return Replaced("interpolate", other)


@breaks("the label's neighbour")
def _labels(case: Case, net: nn.Module) -> nn.Module | None:
    return changed(net, lambda name, w: w.roll(1, 0) if name == "label.weight" else None)


@breaks("variance before the mean")
def _variance(case: Case, net: nn.Module) -> nn.Module | None:
    last = ("conv_out.weight", "conv_out.bias", "out.weight", "out.bias")
    learned = inside(case).get("learned_variance")
    return changed(net, lambda name, w: swapped(w, 2, (1, 0)) if learned and name in last else None)


def applies(case: Case, name: str) -> bool:
    """Whether a break changes the network of a case: breaks of torch's functions say where they are used."""
    broken = BREAKS[name](case, made(case))
    if not isinstance(broken, Replaced):
        return broken is not None
    with broken, torch.no_grad():
        called(made(case), *asked(case))
    return broken.used


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_network_is_rejected_wherever_it_differs(name: str) -> None:
    tried = [case for case in CASES if applies(case, name)]
    assert tried, "no case has what is broken here"
    for case in tried:
        net = made(case)
        broken = BREAKS[name](case, net)
        assert broken is not None
        if isinstance(broken, Replaced):
            with broken:
                passed = meets(case, net)
        else:
            passed = meets(case, broken)
        assert not passed, case.id


# the networks by definition


def test_every_wrong_network_is_tried_somewhere() -> None:
    for wrong in DECOYS:
        assert any(wrong.applies(run.network, run.settings) for run in RUNS.values()), wrong.id
    assert len({wrong.id for wrong in DECOYS}) == len(DECOYS)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_names_and_shapes_of_weights_are_those_of_the_definition(case: Case) -> None:
    name, given = case.input["network"], case.input["settings"]
    net = build(name, given)
    assert {key: tuple(value.shape) for key, value in net.state_dict().items()} == shapes(name, given)
    rule = {key: values for key, _, values in weight_values(name, given, case.input["weights_seed"])}
    read = weights(net, case.input["weights_seed"])
    assert {key: value.flatten().tolist() for key, value in read.items()} == {
        key: [float(value) for value in values] for key, values in rule.items()
    }


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_definition_in_floats_stays_within_the_bound_of_its_roundings(case: Case) -> None:
    """The condition alone, without the factor that the tolerance has."""
    run, found = RUNS[case.id], []
    weights = {key: value.astype(float) for key, value in run.weights(float).items()}
    for index in range(len(run.times)):
        x = [float(value) for value in run.sample(index)]
        found.append(run.evaluate(Layers(float), weights, x, index))
    wanted, got = case.outputs[0], np.concatenate([one.ravel() for one in found])
    assert wanted.error(got.tolist()) <= wanted.condition * 2.0**-53


SMALL = [case for case in CASES if len(case.output("gradient").value) <= 24]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.id)
def test_forward_differentiation_gives_the_golden_gradient(case: Case) -> None:
    run, size = RUNS[case.id], prod(case.input["sample_shape"])
    with ctx.workprec(400):
        for index in range(len(run.times)):
            x = [Dual(ball(value), ball_direction(k, size)) for k, value in enumerate(run.sample(index))]
            out = run.evaluate(Layers(ball), run.weights(ball), x, index).ravel()
            terms = [one.slope * ball(c) for one, c in zip(out, run.cotangent(index, out.size), strict=True)]
            slope = sum(terms[1:], start=terms[0])
            wanted = case.output("gradient").value[index * size : (index + 1) * size]
            for k, text in enumerate(wanted):
                assert abs(slope[k, 0] - arb(text)) < abs(arb(text)) * arb("1e-39")


@st.composite
def unets(draw: st.DrawFn) -> dict[str, Any]:
    multipliers = draw(st.lists(st.sampled_from([1, 2]), min_size=1, max_size=3))
    return {
        "in_channels": draw(st.integers(1, 3)),
        "out_channels": draw(st.integers(1, 2)),
        "base": 4,
        "multipliers": multipliers,
        "blocks": draw(st.integers(1, 2)),
        "attention": sorted(draw(st.sets(st.integers(0, len(multipliers) - 1)))),
        "heads": draw(st.sampled_from([1, 2])),
        "groups": draw(st.sampled_from([1, 2, 4])),
        "width": draw(st.sampled_from([3, 8])),
        "embedding_dim": draw(st.sampled_from([4, 6])),
        "spacing": draw(st.sampled_from(["half", "half_minus_one"])),
        "injection": draw(st.sampled_from(["shift", "scale_shift"])),
        "skips": draw(st.sampled_from(["concatenate", "add"])),
        "classes": draw(st.sampled_from([0, 2])),
        "learned_variance": draw(st.booleans()),
    }


@settings(max_examples=25, deadline=None, derandomize=True)
@given(own=unets(), t=st.fractions(-5, 1000, max_denominator=8))
def test_any_unet_is_the_one_of_the_definition(own: dict[str, Any], t: Fraction) -> None:
    """In floats on both sides; in the golden cases the error is far below 1e-8 of the largest output."""
    size = (own["in_channels"], 4, 8)
    run = Run("any", (), "unet", own, 3, size, (str(t),), (2,) if own["classes"] else ())
    weights = {key: value.astype(float) for key, value in run.weights(float).items()}
    wanted = run.evaluate(Layers(float), weights, [float(value) for value in run.sample(0)], 0)
    net = build("unet", own).double()
    net.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    x = torch.tensor([float(value) for value in run.sample(0)], dtype=torch.float64).reshape(1, *size)
    labels = torch.tensor([2]) if own["classes"] else None
    got = called(net.eval(), x, torch.tensor([float(t)], dtype=torch.float64), labels)[0]
    assert got.shape == wanted.shape
    assert np.abs(got.detach().numpy() - wanted).max() <= 1e-8 * np.abs(wanted).max()


def test_one_text_serves_every_kind_of_number() -> None:
    """Floats and balls give the same network, to the precision of floats."""
    run = RUNS["networks.mlp/plane"]
    assert set(NETWORKS) == set(NETS)
    weights = {key: value.astype(float) for key, value in run.weights(float).items()}
    floats = run.evaluate(Layers(float), weights, [0.5, -1.0], 0)
    balls = run.evaluate(Layers(ball), run.weights(ball), [ball(Fraction(1, 2)), ball(Fraction(-1))], 0)
    assert array(list(balls), (2,)).shape == floats.shape
    assert all(abs(float(a.mid()) - b) <= 1e-12 * abs(b) for a, b in zip(balls, floats, strict=True))
