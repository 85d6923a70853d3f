"""The networks, by their definitions: one sample, a level, perhaps a label, and weights by name.

A network is a function of the layers, its settings, the weights and a sample. Its weights have the names and
shapes that ``shapes`` lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import Any

import numpy as np

from derivations.networks.layers import Layers, Weights
from derivations.networks.scalars import Array, Scalar

Settings = Mapping[str, Any]
Shape = tuple[int, ...]
Shapes = dict[str, Shape]

UNET: Settings = {
    "base": 32, "multipliers": (1, 2, 2), "blocks": 2, "attention": (), "heads": 1, "groups": 8,
    "spacing": "half_minus_one", "injection": "shift", "skips": "concatenate", "classes": 0,
    "learned_variance": False,
}  # fmt: skip
MLP: Settings = {
    "width": 128, "depth": 3, "embedding_dim": 64, "classes": 0, "learned_variance": False,
    "spacing": "half_minus_one",
}  # fmt: skip
SIGMA_SCALE = 250
"""What the logarithm of a noise level is multiplied by before it is embedded like a step."""


def completed(name: str, settings: Settings) -> dict[str, Any]:
    """Settings with the defaults of what is not given."""
    if name == "mlp":
        return {"out_dim": settings["dim"], **MLP, **settings}
    found = {**UNET, **settings}
    defaults = {"width": 4 * found["base"], "embedding_dim": found["base"]}
    if name == "unet":
        defaults["out_channels"] = found["in_channels"]
    return {**defaults, **found}


@dataclass(frozen=True)
class Place:
    """Where a residual block stands: its name, channels in and out, and the attention after it."""

    name: str
    before: int
    after: int
    attention: str | None = None


def encoder(s: Settings) -> tuple[list[list[Place]], list[int]]:
    """The blocks of each level on the way down, and the channels of every skip, the first made first."""
    channels = s["base"] * s["multipliers"][0]
    levels, skips = [], [channels]
    for i, multiplier in enumerate(s["multipliers"]):
        places = []
        for j in range(s["blocks"]):
            attention = f"down.{i}.attentions.{j}" if i in s["attention"] else None
            places.append(Place(f"down.{i}.blocks.{j}", channels, s["base"] * multiplier, attention))
            channels = s["base"] * multiplier
            skips.append(channels)
        if i < len(s["multipliers"]) - 1:
            skips.append(channels)
        levels.append(places)
    return levels, skips


def decoder(s: Settings) -> list[list[tuple[Place, int, int]]]:
    """The blocks of each level on the way up, the deepest first, with the channels of h and of the skip."""
    _, skips = encoder(s)
    levels, channels = [], s["base"] * s["multipliers"][-1]
    for k, i in enumerate(reversed(range(len(s["multipliers"])))):
        places = []
        for j in range(s["blocks"] + 1):
            attention = f"up.{k}.attentions.{j}" if i in s["attention"] else None
            skip = skips.pop()
            taken = channels + skip if s["skips"] == "concatenate" else channels
            after = s["base"] * s["multipliers"][i]
            places.append((Place(f"up.{k}.blocks.{j}", taken, after, attention), channels, skip))
            channels = after
        levels.append(places)
    return levels


def _conv(name: str, before: int, after: int, size: int = 3) -> Shapes:
    return {f"{name}.weight": (after, before, size, size), f"{name}.bias": (after,)}


def _linear(name: str, before: int, after: int) -> Shapes:
    return {f"{name}.weight": (after, before), f"{name}.bias": (after,)}


def _norm(name: str, channels: int) -> Shapes:
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


def _block(place: Place, s: Settings) -> Shapes:
    name, before, after = place.name, place.before, place.after
    found = _norm(f"{name}.norm1", before) | _conv(f"{name}.conv1", before, after)
    found |= _linear(f"{name}.time", s["width"], after * (2 if s["injection"] == "scale_shift" else 1))
    found |= _norm(f"{name}.norm2", after) | _conv(f"{name}.conv2", after, after)
    if before != after:
        found |= _conv(f"{name}.skip", before, after, 1)
    return found | (_attention(place.attention, after) if place.attention else {})


def _attention(name: str, channels: int) -> Shapes:
    qkv, out = _conv(f"{name}.qkv", channels, 3 * channels, 1), _conv(f"{name}.out", channels, channels, 1)
    return _norm(f"{name}.norm", channels) | qkv | out


def _emb(s: Settings, classes: int) -> Shapes:
    found = _linear("time.0", s["embedding_dim"], s["width"]) | _linear("time.2", s["width"], s["width"])
    return found | ({"label.weight": (classes + 1, s["width"])} if classes else {})


def _encoder_shapes(s: Settings) -> Shapes:
    levels, _ = encoder(s)
    found = _conv("conv_in", s["in_channels"], s["base"] * s["multipliers"][0])
    for i, places in enumerate(levels):
        for place in places:
            found |= _block(place, s)
        if i < len(levels) - 1:
            found |= _conv(f"down.{i}.resample", places[-1].after, places[-1].after)
    last = levels[-1][-1].after
    found |= _block(Place("middle.block1", last, last, "middle.attention"), s)
    return found | _block(Place("middle.block2", last, last), s)


def _unet_shapes(s: Settings) -> Shapes:
    found = _emb(s, s["classes"]) | _encoder_shapes(s)
    for k, places in enumerate(decoder(s)):
        for j, (place, channels, skip) in enumerate(places):
            found |= _block(place, s)
            if s["skips"] == "add" and channels != skip:
                found |= _conv(f"up.{k}.skips.{j}", skip, channels, 1)
        if k < len(s["multipliers"]) - 1:
            found |= _conv(f"up.{k}.resample", places[-1][0].after, places[-1][0].after)
    first = s["base"] * s["multipliers"][0]
    out = s["out_channels"] * (2 if s["learned_variance"] else 1)
    return found | _norm("norm_out", first) | _conv("conv_out", first, out)


def _classifier_shapes(s: Settings) -> Shapes:
    last = s["base"] * s["multipliers"][-1]
    head = _linear("head", last, s["classes"])
    return _emb(s, 0) | _encoder_shapes(s) | _norm("norm_out", last) | head


def _mlp_shapes(s: Settings) -> Shapes:
    width, out = s["width"], s["out_dim"] * (2 if s["learned_variance"] else 1)
    found = _emb(s, s["classes"]) | _linear("inp", s["dim"], width) | _linear("out", width, out)
    for j in range(s["depth"]):
        for name in ("lin1", "time", "lin2"):
            found |= _linear(f"blocks.{j}.{name}", width, width)
    return found


def shapes(name: str, settings: Settings) -> Shapes:
    """The weights of a network: name and shape."""
    if name in ("score", "energy"):
        inner = shapes(settings["body"], settings["settings"])
        return {f"body.{key}": shape for key, shape in inner.items()}
    if name == "vector_classifier":
        return shapes("mlp", vector_settings(settings))
    s = completed(name, settings)
    return {"unet": _unet_shapes, "classifier": _classifier_shapes, "mlp": _mlp_shapes}[name](s)


def _after(place: Place, h: Array, e: Array, layers: Layers, s: Settings, weights: Weights) -> Array:
    h = layers.block(h, e, weights, place.name, s["injection"], s["groups"])
    return layers.attention(h, weights, place.attention, s["heads"], s["groups"]) if place.attention else h


def _encoded(
    layers: Layers, s: Settings, weights: Weights, x: Array, e: Array
) -> tuple[Array, list[Array]]:
    """Down and through the middle: the last h, and the skips in the order of their making."""
    levels, _ = encoder(s)
    h = layers.conv(x, weights, "conv_in")
    skips = [h]
    for i, places in enumerate(levels):
        for place in places:
            h = _after(place, h, e, layers, s, weights)
            skips.append(h)
        if i < len(levels) - 1:
            h = layers.downsample(h, weights, f"down.{i}.resample")
            skips.append(h)
    last = levels[-1][-1].after
    h = _after(Place("middle.block1", last, last, "middle.attention"), h, e, layers, s, weights)
    return _after(Place("middle.block2", last, last), h, e, layers, s, weights), skips


def unet(
    layers: Layers, settings: Settings, weights: Weights, x: Array, t: Scalar, label: int | None
) -> Array:
    """Down, through the middle, and up with a skip into every block; (C, H, W) -> (C_out, H, W)."""
    s = completed("unet", settings)
    e = layers.emb(t, label, weights, s["embedding_dim"], s["spacing"])
    h, skips = _encoded(layers, s, weights, x, e)
    for k, places in enumerate(decoder(s)):
        for j, (place, channels, skip_channels) in enumerate(places):
            skip = skips.pop()
            if s["skips"] == "concatenate":
                h = layers.joined(h, skip)
            else:
                changed = channels != skip_channels
                h = h + (layers.conv(skip, weights, f"up.{k}.skips.{j}") if changed else skip)
            h = _after(place, h, e, layers, s, weights)
        if k < len(s["multipliers"]) - 1:
            h = layers.upsample(h, weights, f"up.{k}.resample")
    h = layers.silu(layers.group_norm(h, weights, "norm_out", s["groups"]))
    return layers.conv(h, weights, "conv_out")


def classifier(
    layers: Layers, settings: Settings, weights: Weights, x: Array, t: Scalar, label: int | None
) -> Array:
    """Down and through the middle, then the mean over positions and a linear layer; logits (classes,)."""
    s = completed("classifier", settings)
    e = layers.emb(t, None, weights, s["embedding_dim"], s["spacing"])
    h, _ = _encoded(layers, s, weights, x, e)
    h = layers.silu(layers.group_norm(h, weights, "norm_out", s["groups"]))
    flat = h.reshape(h.shape[0], -1)
    return layers.linear(flat.sum(1) / int(flat.shape[1]), weights, "head")


def mlp(
    layers: Layers, settings: Settings, weights: Weights, x: Array, t: Scalar, label: int | None
) -> Array:
    """Residual layers on a vector, each with the condition added inside; (D,) -> (D_out,)."""
    s = completed("mlp", settings)
    e = layers.emb(t, label, weights, s["embedding_dim"], s["spacing"])
    h = layers.linear(x, weights, "inp")
    for j in range(s["depth"]):
        name = f"blocks.{j}"
        u = layers.condition(e, weights, f"{name}.time")
        inner = layers.silu(layers.linear(h, weights, f"{name}.lin1") + u)
        h = h + layers.linear(inner, weights, f"{name}.lin2")
    return layers.linear(layers.silu(h), weights, "out")


def vector_settings(settings: Settings) -> Settings:
    """The MLP that a classifier of vectors is: its outputs are the logits, and it is given no label."""
    return {**settings, "out_dim": settings["classes"], "classes": 0}


def vector_classifier(
    layers: Layers, settings: Settings, weights: Weights, x: Array, t: Scalar, label: int | None
) -> Array:
    """An MLP with one output for each class; logits (classes,)."""
    return mlp(layers, vector_settings(settings), weights, x, t, None)


def body(
    layers: Layers, settings: Settings, weights: Weights, x: Array, sigma: Scalar, t: Scalar | None = None
) -> Array:
    """The network inside, asked with t = 250 ln σ, or with a t that is given."""
    inner = {key.removeprefix("body."): value for key, value in weights.items()}
    if t is None:
        t = np.log(sigma) * layers.number(Fraction(SIGMA_SCALE))
    return NETWORKS[settings["body"]](layers, settings["settings"], inner, x, t, None)


def score(
    layers: Layers, settings: Settings, weights: Weights, x: Array, sigma: Scalar, label: int | None
) -> Array:
    """body(x, 250 ln σ)/σ."""
    return np.asarray(body(layers, settings, weights, x, sigma) / sigma)


def energy(
    layers: Layers, settings: Settings, weights: Weights, x: Array, sigma: Scalar, label: int | None
) -> Array:
    """‖x − body(x, 250 ln σ)‖²/(2 σ²), one number."""
    gap = x - body(layers, settings, weights, x, sigma)
    return np.asarray([(gap * gap).sum() / (sigma * sigma * 2)], dtype=gap.dtype)


Network = Callable[[Layers, Settings, Weights, Array, Scalar, "int | None"], Array]
NETWORKS: Mapping[str, Network] = {
    "unet": unet, "mlp": mlp, "score": score, "energy": energy, "classifier": classifier,
    "vector_classifier": vector_classifier,
}  # fmt: skip


def weight_values(name: str, settings: Settings, seed: int) -> Iterator[tuple[str, Shape, list[Fraction]]]:
    """Weights that every float holds exactly: k/64, from an integer recurrence.

    The names in ascending order; each tensor in row-major order; for each entry the state moves on, from the
    seed, state ← (1103515245·state + 12345) mod 2³¹, and with d = ⌊state/2¹⁶⌋ mod (2 r + 1) − r the entry is
    d/64. r is ⌊√(3·64²/fan_in)⌋, at least 1, for a tensor of two or more axes, fan_in being the product of
    all but the first; r is 24 for a vector, and 1 is added where its name ends in "weight".
    """
    state = seed
    for key, shape in sorted(shapes(name, settings).items()):
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 0
        reach = max(1, isqrt(3 * 64**2 // fan_in)) if fan_in else 24
        offset = 64 if len(shape) == 1 and key.endswith("weight") else 0
        found = []
        for _ in range(int(np.prod(shape))):
            state = (1103515245 * state + 12345) % 2**31
            found.append(Fraction((state >> 16) % (2 * reach + 1) - reach + offset, 64))
        yield key, shape, found
