r"""The parts of the convolutional networks: residual block, self-attention, change of size.

Shapes are (B, C, H, W); e is the conditioning vector (B, width) of ``refdiff.nets.embedding``.
"""

from __future__ import annotations

import math
from typing import Literal, TypeVar

from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention, silu

from refdiff import _check
from refdiff.nets.embedding import one_of

Injection = Literal["shift", "scale_shift"]
Module = TypeVar("Module", bound=nn.Module)


class ResidualBlock(nn.Module):
    r"""Two convolutions with the condition between them, and a way around.

    .. math:: u&=W\operatorname{silu}(e)+b,\qquad h=\text{conv}_1(\operatorname{silu}(\text{norm}_1(x)))\\
        h&\leftarrow\text{norm}_2(h+u)\quad\text{("shift")}\qquad
        h\leftarrow\text{norm}_2(h)\,(1+u_1)+u_2\quad\text{("scale\_shift", }u=(u_1,u_2))\\
        y&=\text{skip}(x)+\text{conv}_2(\text{dropout}(\operatorname{silu}(h)))

    conv_2 starts at 0, so the block starts as its skip: the identity, or a 1×1 convolution where the
    number of channels changes.

    Args:
        channels, out: channels of x and of y, multiples of ``groups``.
        width: of e.
        groups: of the group normalisation.
        injection: how u enters.
        dropout: probability, used in training mode only; it draws from torch's global generator.

    Raises:
        ValueError: channels that the groups do not divide, or an unknown injection.

    Reference: Ho et al. 2020, appendix B (shift); Dhariwal and Nichol 2021, section 3.1 (scale and shift).
    """

    def __init__(
        self, channels: int, out: int, width: int, groups: int, injection: Injection, dropout: float
    ) -> None:
        super().__init__()
        one_of("injection", injection, Injection)
        self.injection = injection
        self.norm1 = group_norm(groups, channels)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.time = nn.Linear(width, out if injection == "shift" else 2 * out)
        self.norm2 = group_norm(groups, out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zeroed(nn.Conv2d(out, out, 3, padding=1))
        self.skip = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.conv1(silu(self.norm1(x)))
        u = self.time(silu(e))[:, :, None, None]
        if self.injection == "shift":
            h = self.norm2(h + u)
        else:
            scale, shift = u.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        h = self.conv2(self.dropout(silu(h)))
        y: Tensor = self.skip(x) + h
        return y


class Attention(nn.Module):
    r"""Self-attention over positions, and a way around.

    .. math:: y=x+\text{out}\left(\operatorname{softmax}\left(\frac{qk^\top}{\sqrt d}\right)v\right),
        \qquad(q,k,v)=\text{qkv}(\text{norm}(x))

    qkv and out are 1×1 convolutions. The 3·channels of qkv are q, then k, then v; each is split into heads
    of d = channels/heads consecutive channels. out starts at 0, so the block starts as the identity.

    Args:
        channels: a multiple of ``heads`` and of ``groups``.
        heads: number of heads.
        groups: of the group normalisation.

    Raises:
        ValueError: channels that the heads or the groups do not divide.

    Reference: Vaswani et al. 2017, eq. 1; Ho et al. 2020, appendix B.
    """

    def __init__(self, channels: int, heads: int, groups: int) -> None:
        super().__init__()
        divides("heads", heads, channels)
        self.heads = heads
        self.norm = group_norm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, height * width)
        # each (B, heads, H·W, d), with d contiguous: torch has no fast kernel for anything else
        q, k, v = qkv.mT.contiguous().unbind(1)
        h = scaled_dot_product_attention(q, k, v).mT.reshape(x.shape)
        y: Tensor = x + self.out(h)
        return y


class Downsample(nn.Conv2d):
    """Halves height and width, both even: a 3×3 convolution of stride 2, padding 1."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=1)


class Upsample(nn.Conv2d):
    """Doubles height and width: each pixel four times, then a 3×3 convolution of padding 1."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(interpolate(x, scale_factor=2.0, mode="nearest"))


def group_norm(groups: int, channels: int) -> nn.GroupNorm:
    """Group normalisation with ε = 1e-5, a scale and a shift; the groups must divide the channels."""
    divides("groups", groups, channels)
    return nn.GroupNorm(groups, channels, eps=1e-5)


def divides(name: str, value: int, channels: int) -> None:
    """A count that divides the channels."""
    _check.count(name, value)
    if channels % value:
        raise ValueError(f"{name} must divide {channels} channels, got {value}")


def probability(name: str, value: float) -> None:
    """A probability below 1."""
    if not (math.isfinite(value) and 0 <= value < 1):
        raise ValueError(f"{name} must lie in [0, 1), got {value}")


def zeroed(module: Module) -> Module:
    """The module with all its parameters set to 0."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def halves(output: Tensor) -> tuple[Tensor, Tensor]:
    r"""The two parts of the output of a network with ``learned_variance``.

    .. math:: \text{output}=(m,v)\text{ along axis 1},\qquad f=\operatorname{sigmoid}(v)

    f is the exponent of the learned variance :math:`\beta^f\tilde\beta^{1-f}`, as ``refdiff.ddpm`` and
    ``refdiff.vlb`` take it: in [0, 1], and ½ for a fresh network. (Nichol and Dhariwal's own code has
    (v + 1)/2, which is not bounded.)

    Args:
        output: shape (B, 2C, *).

    Returns:
        m and f, each of shape (B, C, *).

    Raises:
        ValueError: an odd number of channels.

    Reference: Nichol and Dhariwal 2021, eq. 15 (formula ``ddpm.learned_variance``).
    """
    if output.dim() < 2 or output.shape[1] % 2:
        raise ValueError(f"output must have shape (B, 2C, *), got {tuple(output.shape)}")
    m, v = output.chunk(2, dim=1)
    return m, v.sigmoid()
