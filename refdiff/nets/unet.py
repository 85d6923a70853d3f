r"""The UNet of diffusion models: an encoder, a middle and a decoder, joined by skips at every size.

.. code-block:: text

    x ─ conv_in ─ down.0 ─ … ─ down.L ─ middle ─ up.0 ─ … ─ up.L ─ norm_out ─ silu ─ conv_out ─ y
                    └─────────┴─────── skips ──────┴─────────┘

Level i = 0..L has c_i = base·multipliers[i] channels and 1/2^i of the height and width; up.k works at level
L − k. The level t and the label enter every residual block through the vector e.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from refdiff import _check
from refdiff.nets.blocks import (
    Attention,
    Downsample,
    Injection,
    ResidualBlock,
    Upsample,
    group_norm,
    probability,
    zeroed,
)
from refdiff.nets.embedding import Net, Spacing, flag, one_of

Skips = Literal["concatenate", "add"]


@dataclass(frozen=True)
class Plan:
    """The numbers that encoder and decoder share; the names are those of ``UNet``."""

    base: int
    multipliers: Sequence[int]
    blocks: int
    attention: Sequence[int]
    heads: int
    groups: int
    width: int
    injection: Injection
    dropout: float

    def __post_init__(self) -> None:
        _check.count("base", self.base)
        _check.count("blocks", self.blocks)
        probability("dropout", self.dropout)
        if not self.multipliers:
            raise ValueError("multipliers must have at least one entry, got none")
        for multiplier in self.multipliers:
            _check.count("multipliers", multiplier)
        for i in self.attention:
            _check.count("attention", i, 0)
            if i >= len(self.multipliers):
                raise ValueError(f"attention must hold levels in 0..{len(self.multipliers) - 1}, got {i!r}")

    @property
    def channels(self) -> list[int]:
        """c_i of each level."""
        return [self.base * multiplier for multiplier in self.multipliers]

    @property
    def skip_channels(self) -> list[int]:
        """Channels of the skips, from conv_in on: a level gives one a block, and one that is halved."""
        c = self.channels
        inner = [n for n in c[:-1] for _ in range(self.blocks + 1)]
        return [c[0], *inner, *[c[-1]] * self.blocks]

    def block(self, channels: int, out: int) -> ResidualBlock:
        return ResidualBlock(channels, out, self.width, self.groups, self.injection, self.dropout)

    def attend(self, i: int) -> nn.Module:
        """The attention behind a block of level i, or nothing."""
        if i in self.attention:
            return Attention(self.channels[i], self.heads, self.groups)
        return nn.Identity()


class Down(nn.Module):
    """Level i of the encoder; it returns what it hands to the decoder, of which the last goes on."""

    def __init__(self, plan: Plan, i: int, channels: int) -> None:
        super().__init__()
        c, js = plan.channels[i], range(plan.blocks)
        self.blocks = nn.ModuleList(plan.block(c if j else channels, c) for j in js)
        self.attentions = nn.ModuleList(plan.attend(i) for _ in js)
        self.resample = Downsample(c) if i < len(plan.channels) - 1 else None

    def forward(self, h: Tensor, e: Tensor) -> list[Tensor]:
        skips = []
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            h = attention(block(h, e))
            skips.append(h)
        if self.resample is not None:
            skips.append(self.resample(h))
        return skips


class Up(nn.Module):
    """Level i of the decoder; it takes a skip off the list for each of its blocks."""

    def __init__(self, plan: Plan, i: int, channels: int, skips: list[int], concatenate: bool) -> None:
        super().__init__()
        self.concatenate = concatenate
        self.blocks, self.attentions, self.skips = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for _ in range(plan.blocks + 1):
            h, s = channels, skips.pop()
            self.blocks.append(plan.block(h + s if concatenate else h, plan.channels[i]))
            self.attentions.append(plan.attend(i))
            if not concatenate:
                self.skips.append(nn.Identity() if s == h else nn.Conv2d(s, h, 1))
            channels = plan.channels[i]
        self.resample = Upsample(channels) if i > 0 else None

    def forward(self, h: Tensor, e: Tensor, skips: list[Tensor]) -> Tensor:
        for j, (block, attention) in enumerate(zip(self.blocks, self.attentions, strict=True)):
            s = skips.pop()
            h = torch.cat([h, s], 1) if self.concatenate else h + self.skips[j](s)
            h = attention(block(h, e))
        return h if self.resample is None else self.resample(h)


class Middle(nn.Module):
    """Residual block, attention, residual block."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        c = plan.channels[-1]
        self.block1 = plan.block(c, c)
        self.attention = Attention(c, plan.heads, plan.groups)
        self.block2 = plan.block(c, c)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        y: Tensor = self.block2(self.attention(self.block1(h, e)), e)
        return y


class Encoder(Net):
    """The half that UNet and classifier share: ``conv_in``, ``down`` and ``middle``."""

    def __init__(
        self,
        plan: Plan,
        in_channels: int,
        settings: Mapping[str, Any],
        embedding_dim: int,
        spacing: Spacing = "half_minus_one",
        classes: int = 0,
    ) -> None:
        super().__init__(settings, plan.width, embedding_dim, spacing, classes)
        _check.count("in_channels", in_channels)
        self.in_channels, self.stride = in_channels, 2 ** (len(plan.channels) - 1)
        first, inputs = plan.channels[0], [plan.channels[0], *plan.channels[:-1]]
        self.conv_in = nn.Conv2d(in_channels, first, 3, padding=1)
        self.down = nn.ModuleList(Down(plan, i, h) for i, h in enumerate(inputs))
        self.middle = Middle(plan)

    def encode(self, x: Tensor, e: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The output of the middle, (B, c_L, H/2^L, W/2^L), and the skips from the finest on."""
        skips = [self.conv_in(x)]
        for level in self.down:
            skips += level(skips[-1], e)
        return self.middle(skips[-1], e), skips

    def check_images(self, x: Tensor) -> None:
        """Images of this network's channels, whose sizes can be halved at every level."""
        _check.floating("x", x)
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"x must have shape (B, {self.in_channels}, H, W), got {tuple(x.shape)}")
        if x.shape[2] % self.stride or x.shape[3] % self.stride or 0 in x.shape[2:]:
            raise ValueError(f"x must have H and W divisible by {self.stride}, got {tuple(x.shape)}")


class UNet(Encoder):
    r"""A UNet that predicts a tensor like x from x, the level t and a label.

    Level i of the encoder has ``blocks`` residual blocks, level i of the decoder ``blocks`` + 1, each of
    which takes one skip: as more channels ("concatenate"), or as a summand ("add", through a 1×1 convolution
    where channels differ). conv_out and the ends of all blocks start at 0, so a fresh network returns 0.

    Args:
        in_channels: of x.
        out_channels: of the prediction; in_channels if None.
        base: channels of level 0 for a multiplier of 1.
        multipliers: c_i = base·multipliers[i]; their number is the number of levels.
        blocks: residual blocks of a level.
        attention: levels whose blocks are followed by self-attention; the middle always has one.
        heads, groups: of the attentions and of the group normalisations; they divide the channels.
        width: of the vector e; 4·base if None.
        embedding_dim, spacing: features of t; base if None.
        injection: how e enters a block.
        skips: how the decoder takes skips.
        classes: number of classes, 0 for a network without labels.
        learned_variance: twice the channels at the end, the mean part first; see ``refdiff.nets.halves``.
        dropout: probability in each residual block, in training mode only.

    Raises:
        ValueError: a count out of range, channels that groups or heads do not divide, or an unknown word.

    Reference: Ho et al. 2020, appendix B; Ronneberger et al. 2015; Dhariwal and Nichol 2021, section 3.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int | None = None,
        base: int = 32,
        multipliers: Sequence[int] = (1, 2, 2),
        blocks: int = 2,
        attention: Sequence[int] = (),
        heads: int = 1,
        groups: int = 8,
        width: int | None = None,
        embedding_dim: int | None = None,
        spacing: Spacing = "half_minus_one",
        injection: Injection = "shift",
        skips: Skips = "concatenate",
        classes: int = 0,
        learned_variance: bool = False,
        dropout: float = 0.0,
    ) -> None:
        one_of("skips", skips, Skips)
        flag("learned_variance", learned_variance)
        out_channels = in_channels if out_channels is None else out_channels
        width = 4 * base if width is None else width
        embedding_dim = base if embedding_dim is None else embedding_dim
        settings = {
            "in_channels": in_channels, "out_channels": out_channels, "base": base,
            "multipliers": list(multipliers), "blocks": blocks, "attention": list(attention), "heads": heads,
            "groups": groups, "width": width, "embedding_dim": embedding_dim, "spacing": spacing,
            "injection": injection, "skips": skips, "classes": classes, "learned_variance": learned_variance,
            "dropout": dropout,
        }  # fmt: skip
        plan = Plan(base, multipliers, blocks, attention, heads, groups, width, injection, dropout)
        super().__init__(plan, in_channels, settings, embedding_dim, spacing, classes)
        _check.count("out_channels", out_channels)
        left = plan.skip_channels
        inputs = [*plan.channels[1:], plan.channels[-1]]
        self.up = nn.ModuleList(
            Up(plan, i, h, left, skips == "concatenate") for i, h in reversed(list(enumerate(inputs)))
        )
        h, y = plan.channels[0], (1 + learned_variance) * out_channels
        self.norm_out = group_norm(groups, h)
        self.conv_out = zeroed(nn.Conv2d(h, y, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """The prediction.

        Args:
            x: images, shape (B, in_channels, H, W), H and W divisible by 2^(levels − 1).
            t: levels, any real numbers, shape (B,).
            label: int64 in 0..classes, shape (B,), where ``classes`` is "no label"; for classes > 0 only.

        Returns:
            Shape (B, out_channels, H, W), or twice the channels with a learned variance.

        Raises:
            ValueError: arguments of another shape, dtype or range, or a label missing or superfluous.
        """
        self.check_images(x)
        e = self.condition(x, t, label)
        h, skips = self.encode(x, e)
        for level in self.up:
            h = level(h, e, skips)
        y: Tensor = self.conv_out(silu(self.norm_out(h)))
        return y
