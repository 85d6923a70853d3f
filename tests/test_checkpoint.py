"""A checkpoint comes back as it was, and a file that is none, or a hostile one, is a ValueError."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from refdiff import nets
from refdiff.checkpoint import Checkpoint, Header, load, save

SETTINGS = {"dim": 2, "width": 8, "depth": 2, "embedding_dim": 4}
HEADER = Header("mlp", SETTINGS, "ddpm", {"T": 10}, (2,), 0, 7, 7, {"steps": 20})


def example(dtype: torch.dtype = torch.float32) -> Checkpoint:
    net = filled(nets.build("mlp", SETTINGS)).to(dtype)
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    average = {name: value / 2 for name, value in weights.items()}
    moments = {f"exp_avg.{name}": value**2 for name, value in weights.items()}
    state = torch.Generator().manual_seed(5).get_state()
    return Checkpoint(HEADER, weights, average, moments, {"noise": state})


def filled(net: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in net.parameters():
            value.copy_(torch.randn(value.shape, generator=generator))
    return net


def packed(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def with_metadata(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """The file with other metadata, its tensors as they are."""
    data = file.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    inner = json.loads(header["__metadata__"]["refdiff"])
    header["__metadata__"]["refdiff"] = json.dumps(change(inner) or inner)
    file.write_bytes(packed(header, data[end:]))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save(path, example())
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_a_checkpoint_comes_back_to_the_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    path, saved = tmp_path / "model.safetensors", example(dtype)
    save(path, saved)
    found = load(path)
    assert found.header == saved.header
    for part in ("weights", "average", "optimiser", "generators"):
        before, after = getattr(saved, part), getattr(found, part)
        assert before.keys() == after.keys()
        assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_same_checkpoint_is_the_same_file_and_leaves_no_other(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / name, example())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_failed_save_keeps_the_file_of_before(file: Path) -> None:
    before = file.read_bytes()
    broken = replace(example(), header=replace(HEADER, settings={"rate": float("nan")}))
    with pytest.raises(ValueError, match="JSON"):
        save(file, broken)
    assert file.read_bytes() == before and len(list(file.parent.iterdir())) == 1


def test_the_network_has_the_average_or_the_weights(file: Path) -> None:
    x, t = torch.ones(3, 2), torch.ones(3)
    straight = filled(nets.build("mlp", SETTINGS))
    with torch.no_grad():
        expected = straight(x, t)
        assert torch.equal(load(file).net(average=False)(x, t), expected)
        averaged = load(file).net()
        assert not torch.equal(averaged(x, t), expected)
        halved = nets.build("mlp", SETTINGS)
        halved.load_state_dict({name: value / 2 for name, value in straight.state_dict().items()})
        assert torch.equal(averaged(x, t), halved(x, t))
    assert not averaged.training and not any(value.requires_grad for value in averaged.parameters())


def test_making_the_network_moves_no_global_generator(file: Path) -> None:
    before = torch.get_rng_state()
    load(file).net()
    assert torch.equal(before, torch.get_rng_state())


def test_weights_of_float64_make_a_network_of_float64(tmp_path: Path) -> None:
    save(tmp_path / "m", example(torch.float64))
    assert next(load(tmp_path / "m").net().parameters()).dtype == torch.float64


class Bomb:
    """What a hostile pickle does when it is opened."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('a pickle was opened')",))


def torch_pickle(path: Path) -> None:
    torch.save({"weights": Bomb()}, path)


def plain_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb()))


def huge_tensor(path: Path) -> None:
    entry = {"dtype": "F32", "shape": [10**15], "data_offsets": [0, 4 * 10**15]}
    path.write_bytes(packed({"weights.a": entry, "__metadata__": {"refdiff": HEADER.to_json()}}))


def overlapping(path: Path) -> None:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    other = {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}
    tensors = {"weights.a": entry, "weights.b": other}
    path.write_bytes(packed({**tensors, "__metadata__": {"refdiff": HEADER.to_json()}}, b"\0" * 12))


def short_tensor(path: Path) -> None:
    entry = {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}
    path.write_bytes(packed({"weights.a": entry, "__metadata__": {"refdiff": HEADER.to_json()}}, b"\0" * 8))


def text_of(text: str) -> Callable[[Path], None]:
    return bytes_of(packed({"__metadata__": {"refdiff": text}}))


def bytes_of(data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (bytes_of(b""), "header must end within 0 bytes"),
    "few-bytes": (bytes_of(b"\x01\0\0"), "header must end within 3 bytes"),
    "torch-pickle": (torch_pickle, "it is a pickle"),
    "pickle": (plain_pickle, "it is a pickle"),
    "endless-header": (bytes_of(b"\xff" * 64), "header must end within 64 bytes"),
    "no-json": (bytes_of(packed(b"{'a': 1}")), "its header is no JSON"),
    "no-text": (bytes_of(packed(b"\xff\xfe\x00")), "its header is no JSON"),
    "nested": (bytes_of(packed(b"[" * 100000)), "its header is no JSON"),
    "twice": (bytes_of(packed(b'{"a": 1, "a": 2}')), "a name is there twice"),
    "a-list": (bytes_of(packed([1, 2])), "must be an object, got list"),
    "no-metadata": (bytes_of(packed({})), "file of another program"),
    "metadata-list": (bytes_of(packed({"__metadata__": [1]})), "must be an object, got list"),
    "inner-no-json": (text_of("{"), "its header is no JSON"),
    "inner-nan": (text_of('{"format": NaN}'), "NaN is no number of JSON"),
    "inner-list": (text_of("[]"), "must be an object, got list"),
    "another-format": (text_of('{"format": "x", "version": 1}'), "format must be 'refdiff checkpoint'"),
    "another-version": (
        text_of(HEADER.to_json().replace('"version": 1', '"version": 2')),
        r"version 1, got \('refdiff checkpoint', 2\)",
    ),
    "huge-tensor": (huge_tensor, "its tensors cannot be read"),
    "overlapping": (overlapping, "its tensors cannot be read"),
    "short-tensor": (short_tensor, "its tensors cannot be read"),
}


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_that_is_none_is_refused_with_its_fault(tmp_path: Path, name: str) -> None:
    make, message = FILES[name]
    path = tmp_path / "model.safetensors"
    make(path)
    with pytest.raises(ValueError, match=f"model.safetensors is not a checkpoint: .*{message}"):
        load(path)


def test_a_file_cut_off_anywhere_is_refused(file: Path) -> None:
    data = file.read_bytes()
    for length in (*range(0, len(data), 97), len(data) - 1):
        file.write_bytes(data[:length])
        with pytest.raises(ValueError, match="is not a checkpoint"):
            load(file)
    # and with bytes at its end that belong to nothing
    file.write_bytes(data + b"\0")
    with pytest.raises(ValueError, match="its tensors cannot be read"):
        load(file)


HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown-net": ({"net": "os.system"}, "net must be one of unet, mlp"),
    "net-list": ({"net": ["unet"]}, "net must be a name"),
    "settings-list": ({"net_settings": [1]}, "net_settings must be an object"),
    "negative-step": ({"step": -1}, "step must be at least 0, got -1"),
    "float-step": ({"step": 1.5}, "step must be an int, got 1.5"),
    "boolean-updates": ({"updates": True}, "updates must be an int, got True"),
    "shape-of-two": ({"shape": [2, 3]}, r"shape must be \(D,\) or \(C, H, W\)"),
    "shape-zero": ({"shape": [0]}, "shape must be at least 1, got 0"),
    "huge-shape": ({"shape": [10**6, 10**6, 10**6]}, "shape must have at most 67108864 elements"),
    "text-shape": ({"shape": ["2"]}, "shape must be an int, got '2'"),
    "huge-objective": ({"objective_settings": {"T": 10**15}}, "numbers up to 67108864, got 1000000000000000"),
    "huge-float": ({"objective_settings": {"sigma_data": 1e308}}, r"numbers up to 67108864, got 1e\+308"),
    "superfluous": ({"run": "rm"}, "its header must have"),
}


@pytest.mark.parametrize("name", sorted(HEADERS))
def test_a_header_out_of_bounds_is_refused(file: Path, name: str) -> None:
    change, message = HEADERS[name]
    with_metadata(file, lambda inner: inner.update(change))
    with pytest.raises(ValueError, match=message):
        load(file)


def test_a_header_without_one_of_its_names_is_refused(file: Path) -> None:
    with_metadata(file, lambda inner: {k: v for k, v in inner.items() if k != "step"})
    with pytest.raises(ValueError, match="its header must have"):
        load(file)


NETS: dict[str, tuple[dict[str, Any], str]] = {
    "huge-width": ({"width": 10**12}, "width at most"),
    "huge-depth": ({"depth": 10**12}, "depth at most"),
    "many-blocks": ({"depth": 30}, "at most 20 blocks|at most"),
    "float-width": ({"width": 1e9}, "do not make a mlp"),
    "another-width": ({"width": 4}, r"the weights 'time.0.weight' must have shape \(4, 4\), got \(8, 4\)"),
    "another-depth": ({"depth": 1}, "the weights have too many: 'blocks.1.lin1.bias'"),
    "unknown-setting": ({"code": "import os"}, "do not make a mlp"),
    "text": ({"width": "8"}, "do not make a mlp"),
    "list": ({"width": [8]}, "do not make a mlp"),
}


@pytest.mark.parametrize("name", sorted(NETS))
def test_settings_that_are_not_those_of_the_weights_are_refused(file: Path, name: str) -> None:
    change, message = NETS[name]
    with_metadata(file, lambda inner: inner["net_settings"].update(change))
    with pytest.raises(ValueError, match=message):
        load(file).net()


def test_a_net_with_blocks_without_end_is_refused_at_once(file: Path) -> None:
    many = {"in_channels": 1, "base": 8, "multipliers": [1] * 20, "blocks": 20}
    with_metadata(file, lambda inner: inner.update(net="unet", net_settings=many))
    with pytest.raises(ValueError, match="at most 20 blocks"):
        load(file).net()


def dtyped(weights: torch.dtype, average: torch.dtype = torch.float32) -> Checkpoint:
    found = example()
    one = {name: value.to(weights) for name, value in found.weights.items()}
    return replace(found, weights=one, average={k: v.to(average) for k, v in found.average.items()})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dtyped(torch.int64), "weights must be float32 or float64, got torch.int64"),
        (lambda: dtyped(torch.float16), "weights must be float32 or float64, got torch.float16"),
        (lambda: dtyped(torch.float32, torch.float64), "weights must have one dtype, torch.float32"),
        (lambda: replace(example(), weights={}), "weights must be float32 or float64, got None"),
        (lambda: replace(example(), average={"x": torch.ones(1)}), "average of 'x' must have shape None"),
        (lambda: replace(example(), generators={"x": torch.ones(1)}), "generator 'x' must be bytes"),
    ],
    ids=["integer", "half", "mixed", "none", "average", "generator"],
)
def test_tensors_of_another_kind_are_refused(make: Callable[[], Checkpoint], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_dtype_that_was_changed_in_the_file_is_refused(file: Path) -> None:
    data = file.read_bytes()
    assert b'"dtype":"F32"' in data
    file.write_bytes(data.replace(b'"dtype":"F32"', b'"dtype":"I32"'))
    with pytest.raises(ValueError, match=r"weights must be float32 or float64, got torch\.int32"):
        load(file)


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing.safetensors")
