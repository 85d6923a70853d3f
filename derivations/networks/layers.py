r"""The layers of the networks, by their definitions.

A sample has no batch axis here: x is (C, H, W) or (C,). All of it is plain NumPy, which runs on floats, and
on any numbers with +, −, ·, /, exp, log, sqrt, sin and cos (``scalars``).
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import product

import numpy as np

from derivations.networks.scalars import Array, Number, Scalar

Weights = Mapping[str, Array]


class Layers:
    """The layers over one kind of numbers; a wrong network is a subclass with one of them changed.

    Args:
        number: makes a number of this kind from an exact one.
    """

    eps = Fraction(1, 100_000)

    def __init__(self, number: Number) -> None:
        self.number = number

    def embedding(self, t: Scalar, dim: int, spacing: str = "half_minus_one", period: int = 10_000) -> Array:
        """sin(ω_k t), then cos(ω_k t), with ω_k = period^(−k/n), k = 0 … half − 1, half = dim/2.

        n is half − 1 for the spacing "half_minus_one", so that the last frequency is 1/period, and half for
        "half".
        """
        half = dim // 2
        n = {"half_minus_one": half - 1, "half": half}[spacing]
        exponents = np.array([self.number(Fraction(-k, n)) for k in range(half)])
        angles = np.exp(exponents * np.log(self.number(Fraction(period)))) * t
        return np.concatenate([np.sin(angles), np.cos(angles)])

    def silu(self, x: Array) -> Array:
        """x·sigmoid(x)."""
        return np.asarray(x / (1 + np.exp(-x)))

    def linear(self, x: Array, weights: Weights, name: str) -> Array:
        """W x + b."""
        return np.asarray(weights[f"{name}.weight"] @ x + weights[f"{name}.bias"])

    def padded(self, x: Array, before: int, after: int) -> Array:
        """Zeros around an image."""
        return np.pad(x, ((0, 0), (before, after), (before, after)))

    def conv(self, x: Array, weights: Weights, name: str, stride: int = 1) -> Array:
        """y[o, i, j] = b[o] + Σ_{c, u, v} w[o, c, u, v]·x[c, s·i + u − r, s·j + v − r], 0 outside the image.

        The kernel has 2 r + 1 rows and columns, s is the stride.
        """
        return self._conv(x, weights, name, stride, before=weights[f"{name}.weight"].shape[2] // 2)

    def _conv(self, x: Array, weights: Weights, name: str, stride: int, before: int) -> Array:
        kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        size = kernel.shape[2]
        wide = self.padded(x, before, size - 1 - before)
        rows, columns = ((length - 1) // stride + 1 for length in x.shape[1:])
        shifted = [
            wide[:, u : u + stride * (rows - 1) + 1 : stride, v : v + stride * (columns - 1) + 1 : stride]
            for u, v in product(range(size), repeat=2)
        ]
        flat = kernel.reshape(*kernel.shape[:2], size * size)
        return np.asarray(np.tensordot(flat, np.stack(shifted), axes=((1, 2), (1, 0))) + bias[:, None, None])

    def group_norm(self, x: Array, weights: Weights, name: str, groups: int) -> Array:
        """(x − mean)/√(variance + ε) over groups of consecutive channels and all positions, times w, plus b.

        The variance is the mean of the squares: it is divided by their number, not by one less.
        """
        grouped = x.reshape(groups, -1)
        count = int(grouped.shape[1])
        centred = grouped - (grouped.sum(1) / count)[:, None]
        variance = (centred * centred).sum(1) / count
        normed = (centred / np.sqrt(variance + self.number(self.eps))[:, None]).reshape(x.shape)
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return np.asarray(normed * weight[:, None, None] + bias[:, None, None])

    def split(self, qkv: Array, heads: int) -> tuple[Array, Array, Array]:
        """Queries, keys and values, (heads, d, positions) each, from channels in this order."""
        q, k, v = qkv.reshape(3, heads, -1, qkv.shape[1])
        return q, k, v

    def attended(self, q: Array, k: Array, v: Array) -> Array:
        """Σ_j softmax_j(q_i·k_j/√d) v_j of one head; arguments are (d, positions)."""
        scores = q.T @ k / np.sqrt(self.number(Fraction(q.shape[0])))
        weights = np.exp(scores)
        weights = weights / weights.sum(1)[:, None]
        return np.asarray(v @ weights.T)

    def attention(self, x: Array, weights: Weights, name: str, heads: int, groups: int) -> Array:
        """x + out(attention of the heads), over all positions of the normed x."""
        h = self.group_norm(x, weights, f"{name}.norm", groups)
        qkv = self.conv(h, weights, f"{name}.qkv").reshape(3 * x.shape[0], -1)
        mixed = [self.attended(*one) for one in zip(*self.split(qkv, heads), strict=True)]
        together = np.concatenate(mixed).reshape(x.shape)
        return np.asarray(x + self.conv(together, weights, f"{name}.out"))

    def inject(self, h: Array, u: Array, weights: Weights, name: str, injection: str, groups: int) -> Array:
        """The second norm of a block, with the condition u: "shift" adds it before, "scale_shift" after."""
        if injection == "shift":
            return self.group_norm(h + u[:, None, None], weights, name, groups)
        scale, shift = u.reshape(2, -1, 1, 1)
        return np.asarray(self.group_norm(h, weights, name, groups) * (1 + scale) + shift)

    def block(self, x: Array, e: Array, weights: Weights, name: str, injection: str, groups: int) -> Array:
        """A residual block: skip(x) + conv2(silu(norm2 with the condition of conv1(silu(norm1(x))))).

        The skip is the identity where it has no weights, else a 1×1 convolution.
        """
        normed = self.group_norm(x, weights, f"{name}.norm1", groups)
        h = self.conv(self.silu(normed), weights, f"{name}.conv1")
        u = self.condition(e, weights, f"{name}.time")
        h = self.inject(h, u, weights, f"{name}.norm2", injection, groups)
        h = self.conv(self.silu(h), weights, f"{name}.conv2")
        skip = self.conv(x, weights, f"{name}.skip") if f"{name}.skip.weight" in weights else x
        return np.asarray(skip + h)

    def condition(self, e: Array, weights: Weights, name: str) -> Array:
        """What a block makes of the embedding e: W silu(e) + b."""
        return self.linear(self.silu(e), weights, name)

    def downsample(self, x: Array, weights: Weights, name: str) -> Array:
        """A 3×3 convolution of stride 2."""
        return self.conv(x, weights, name, stride=2)

    def upsample(self, x: Array, weights: Weights, name: str) -> Array:
        """Every position becomes 2×2 of them; then a 3×3 convolution."""
        return self.conv(self.doubled(x), weights, name)

    def doubled(self, x: Array) -> Array:
        """The nearest position of the smaller image."""
        return np.asarray(x.repeat(2, 1).repeat(2, 2))

    def joined(self, h: Array, s: Array) -> Array:
        """The channels of h, then those of the skip."""
        return np.concatenate([h, s])

    def emb(self, t: Scalar, label: int | None, weights: Weights, dim: int, spacing: str) -> Array:
        """The embedding of t through two layers, plus the label's vector."""
        h = self.silu(self.linear(self.embedding(t, dim, spacing), weights, "time.0"))
        e = self.linear(h, weights, "time.2")
        return e if label is None else np.asarray(e + weights["label.weight"][label])

