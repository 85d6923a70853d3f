"""Wrong networks: what people write where the definition has something else, one change each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from derivations.networks import Layers
from derivations.networks.layers import Weights
from derivations.networks.models import Network, Settings, body, energy
from derivations.networks.scalars import Array, Number, Scalar

Applies = Callable[[str, Settings], bool]


class SmallerEps(Layers):
    """ε = 1e-6, as where a library's default is another one."""

    eps = Fraction(1, 1_000_000)


class UnbiasedVariance(Layers):
    """The sum of squares divided by one less than their number."""

    def group_norm(self, x: Array, weights: Weights, name: str, groups: int) -> Array:
        count = int(x.size) // groups
        grouped = x.reshape(groups, -1)
        centred = grouped - (grouped.sum(1) / count)[:, None]
        variance = (centred * centred).sum(1) / (count - 1)
        normed = (centred / np.sqrt(variance + self.number(self.eps))[:, None]).reshape(x.shape)
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return np.asarray(normed * weight[:, None, None] + bias[:, None, None])


class ChannelsDealt(Layers):
    """Groups of every n-th channel, not of consecutive ones."""

    def group_norm(self, x: Array, weights: Weights, name: str, groups: int) -> Array:
        order = np.arange(x.shape[0]).reshape(-1, groups).T.ravel()
        dealt = {f"{name}.{key}": weights[f"{name}.{key}"][order] for key in ("weight", "bias")}
        normed = super().group_norm(x[order], dealt, name, groups)
        return np.asarray(normed[np.argsort(order)])


class KeysFirst(Layers):
    """The channels taken in the order k, q, v."""

    def split(self, qkv: Array, heads: int) -> tuple[Array, Array, Array]:
        k, q, v = super().split(qkv, heads)
        return q, k, v


class ValuesFirst(Layers):
    """The channels taken in the order v, k, q."""

    def split(self, qkv: Array, heads: int) -> tuple[Array, Array, Array]:
        v, k, q = super().split(qkv, heads)
        return q, k, v


class HeadsInterleaved(Layers):
    """Channel c belongs to head c mod heads."""

    def split(self, qkv: Array, heads: int) -> tuple[Array, Array, Array]:
        q, k, v = qkv.reshape(3, -1, heads, qkv.shape[1]).swapaxes(1, 2)
        return q, k, v


class HeadsFirst(Layers):
    """For each head its queries, keys and values."""

    def split(self, qkv: Array, heads: int) -> tuple[Array, Array, Array]:
        q, k, v = qkv.reshape(heads, 3, -1, qkv.shape[1]).swapaxes(0, 1)
        return q, k, v


class NotScaled(Layers):
    """The products of queries and keys are not divided by √d."""

    def attended(self, q: Array, k: Array, v: Array) -> Array:
        return super().attended(q * np.sqrt(self.number(Fraction(q.shape[0]))), k, v)


class OverQueries(Layers):
    """The softmax over the queries, not over the keys."""

    def attended(self, q: Array, k: Array, v: Array) -> Array:
        weights = np.exp(q.T @ k / np.sqrt(self.number(Fraction(q.shape[0]))))
        return np.asarray(v @ (weights / weights.sum(0)[None, :]).T)


class ShiftFirst(Layers):
    """Shift and scale in each other's place."""

    def inject(self, h: Array, u: Array, weights: Weights, name: str, injection: str, groups: int) -> Array:
        return super().inject(h, np.concatenate(np.split(u, 2)[::-1]), weights, name, injection, groups)


class ScaleAlone(Layers):
    """Multiplied by the scale, not by 1 + scale."""

    def inject(self, h: Array, u: Array, weights: Weights, name: str, injection: str, groups: int) -> Array:
        scale, shift = u.reshape(2, -1, 1, 1)
        return np.asarray(self.group_norm(h, weights, name, groups) * scale + shift)


class AfterNorm(Layers):
    """The condition added after the second norm, not before it."""

    def inject(self, h: Array, u: Array, weights: Weights, name: str, injection: str, groups: int) -> Array:
        return np.asarray(self.group_norm(h, weights, name, groups) + u[:, None, None])


class NoSiluBeforeCondition(Layers):
    """The embedding enters a block's linear layer as it is."""

    def condition(self, e: Array, weights: Weights, name: str) -> Array:
        return self.linear(e, weights, name)


class Approximated(Layers):
    """x·sigmoid(1.702 x): the approximation of another activation."""

    def silu(self, x: Array) -> Array:
        return np.asarray(x / (1 + np.exp(-x * self.number(Fraction(851, 500)))))


class NoLabel(Layers):
    """The label is ignored."""

    def emb(self, t: Scalar, label: int | None, weights: Weights, dim: int, spacing: str) -> Array:
        return super().emb(t, None, weights, dim, spacing)


class LabelInside(Layers):
    """The label's vector added before the last layer of the time's network."""

    def emb(self, t: Scalar, label: int | None, weights: Weights, dim: int, spacing: str) -> Array:
        h = self.linear(self.embedding(t, dim, spacing), weights, "time.0")
        return self.linear(self.silu(h + weights["label.weight"][label]), weights, "time.2")


class CosFirst(Layers):
    """Cosines, then sines."""

    def embedding(self, t: Scalar, dim: int, spacing: str = "half_minus_one", period: int = 10_000) -> Array:
        sines, cosines = np.split(super().embedding(t, dim, spacing, period), 2)
        return np.concatenate([cosines, sines])


class Interleaved(Layers):
    """A sine, its cosine, the next sine, and so on."""

    def embedding(self, t: Scalar, dim: int, spacing: str = "half_minus_one", period: int = 10_000) -> Array:
        return super().embedding(t, dim, spacing, period).reshape(2, -1).T.ravel()


class OtherSpacing(Layers):
    """The other number of steps between the frequencies."""

    def embedding(self, t: Scalar, dim: int, spacing: str = "half_minus_one", period: int = 10_000) -> Array:
        other = {"half": "half_minus_one", "half_minus_one": "half"}[spacing]
        return super().embedding(t, dim, other, period)


class SkipFirst(Layers):
    """The channels of the skip, then those of h."""

    def joined(self, h: Array, s: Array) -> Array:
        return np.concatenate([s, h])


class Padded(Layers):
    """The image repeated around its border, not zeros."""

    def padded(self, x: Array, before: int, after: int) -> Array:
        return np.pad(x, ((0, 0), (before, after), (before, after)), mode="wrap")


class EdgePadded(Layers):
    """The values of the border repeated outside, not zeros."""

    def padded(self, x: Array, before: int, after: int) -> Array:
        return np.pad(x, ((0, 0), (before, after), (before, after)), mode="edge")


class PaddedBehind(Layers):
    """The downsampling's zeros on the right and below only."""

    def downsample(self, x: Array, weights: Weights, name: str) -> Array:
        return self._conv(np.pad(x, ((0, 0), (0, 1), (0, 1))), weights, name, 2, before=0)[
            :, : x.shape[1] // 2, : x.shape[2] // 2
        ]


class Bilinear(Layers):
    """Linear interpolation between the centres of the positions."""

    def doubled(self, x: Array) -> Array:
        return self._along(self._along(x).swapaxes(1, 2)).swapaxes(1, 2)

    def _along(self, x: Array) -> Array:
        before, after = np.concatenate([x[:, :1], x[:, :-1]], 1), np.concatenate([x[:, 1:], x[:, -1:]], 1)
        pair = np.stack([before / 4 + x * 3 / 4, x * 3 / 4 + after / 4], 2)
        return np.asarray(pair.reshape(x.shape[0], -1, x.shape[2]))


@dataclass(frozen=True)
class Wrong:
    """A wrong network: its layers, or what stands for a network of one name, and where it differs."""

    id: str
    layers: Callable[[Number], Layers]
    applies: Applies
    network: Network | None = None


def not_divided(
    layers: Layers, settings: Settings, weights: Weights, x: Array, sigma: Scalar, label: int | None
) -> Array:
    """The body's answer as the score: not divided by σ."""
    return body(layers, settings, weights, x, sigma)


def divided_twice(
    layers: Layers, settings: Settings, weights: Weights, x: Array, sigma: Scalar, label: int | None
) -> Array:
    """Divided by σ²."""
    return np.asarray(body(layers, settings, weights, x, sigma) / (sigma * sigma))


def level_itself(
    layers: Layers, settings: Settings, weights: Weights, x: Array, sigma: Scalar, label: int | None
) -> Array:
    """Conditioned by σ, not by 250 ln σ."""
    return np.asarray(body(layers, settings, weights, x, sigma, layers.number(Fraction(1)) * sigma) / sigma)


def not_halved(
    layers: Layers, settings: Settings, weights: Weights, x: Array, sigma: Scalar, label: int | None
) -> Array:
    """The energy without its 2 below the line."""
    return np.asarray(energy(layers, settings, weights, x, sigma, label) * 2)


def residual_added(
    layers: Layers, settings: Settings, weights: Weights, x: Array, sigma: Scalar, label: int | None
) -> Array:
    """x + body, as if the body answered the noise with its sign changed."""
    gap = x + body(layers, settings, weights, x, sigma)
    return np.asarray([(gap * gap).sum() / (sigma * sigma * 2)], dtype=gap.dtype)


def only(name: str) -> Applies:
    """Networks of one name, whatever is inside."""
    return lambda network, settings: network == name


def inner(network: str, settings: Settings) -> tuple[str, Settings]:
    """The network inside a score or an energy, with its settings."""
    return (settings["body"], settings["settings"]) if "body" in settings else (network, settings)


def _when(*names: str, **wanted: Sequence[Any]) -> Applies:
    """Networks of some names whose settings have certain values."""
    defaults = {"heads": 1, "injection": "shift", "skips": "concatenate", "classes": 0, "groups": 1}

    def applies(network: str, settings: Settings) -> bool:
        name, own = inner(network, settings)
        held = {key: own.get(key, defaults.get(key)) for key in wanted}
        return name in names and all(held[key] in values for key, values in wanted.items())

    return applies


IMAGES = ("unet", "classifier")
ALL = (*IMAGES, "mlp", "vector_classifier")
DECOYS: tuple[Wrong, ...] = (
    Wrong("eps-smaller", SmallerEps, _when(*IMAGES)),
    Wrong("variance-unbiased", UnbiasedVariance, _when(*IMAGES)),
    Wrong("groups-dealt", ChannelsDealt, _when(*IMAGES, groups=(2,))),
    Wrong("keys-first", KeysFirst, _when(*IMAGES)),
    Wrong("values-first", ValuesFirst, _when(*IMAGES)),
    Wrong("heads-interleaved", HeadsInterleaved, _when("unet", heads=(2,))),
    Wrong("heads-first", HeadsFirst, _when("unet", heads=(2,))),
    Wrong("attention-not-scaled", NotScaled, _when(*IMAGES)),
    Wrong("softmax-over-queries", OverQueries, _when(*IMAGES)),
    Wrong("shift-before-scale", ShiftFirst, _when(*IMAGES, injection=("scale_shift",))),
    Wrong("scale-alone", ScaleAlone, _when(*IMAGES, injection=("scale_shift",))),
    Wrong("shift-after-norm", AfterNorm, _when(*IMAGES, injection=("shift",))),
    Wrong("condition-without-silu", NoSiluBeforeCondition, _when(*ALL)),
    Wrong("silu-approximated", Approximated, _when(*ALL)),
    Wrong("label-ignored", NoLabel, _when("unet", "mlp", classes=(2, 3))),
    Wrong("label-inside", LabelInside, _when("unet", "mlp", classes=(2, 3))),
    Wrong("cosines-first", CosFirst, _when(*ALL)),
    Wrong("interleaved", Interleaved, _when(*ALL)),
    Wrong("other-spacing", OtherSpacing, _when(*ALL)),
    Wrong("skip-first", SkipFirst, _when("unet", skips=("concatenate",))),
    Wrong("padding-circular", Padded, _when(*IMAGES)),
    Wrong("padding-repeated", EdgePadded, _when(*IMAGES)),
    Wrong("downsample-behind", PaddedBehind, _when(*IMAGES)),
    Wrong("upsample-bilinear", Bilinear, _when("unet")),
    Wrong("score-not-divided", Layers, only("score"), not_divided),
    Wrong("score-divided-twice", Layers, only("score"), divided_twice),
    Wrong("level-itself", Layers, only("score"), level_itself),
    Wrong("energy-not-halved", Layers, only("energy"), not_halved),
    Wrong("residual-added", Layers, only("energy"), residual_added),
)
