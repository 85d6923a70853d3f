r"""The level t and the class label as a vector: sinusoidal features, and the sum e that conditions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from refdiff import _check

Spacing = Literal["half_minus_one", "half"]
Order = Literal["sin_cos", "cos_sin"]
Layout = Literal["concatenated", "interleaved"]


def frequencies(
    dim: int,
    *,
    period: float = 10000.0,
    spacing: Spacing = "half_minus_one",
    device: torch.device | None = None,
) -> Tensor:
    r"""The angular frequencies of the features, descending from 1 radian a level.

    .. math:: \omega_k=\text{period}^{-k/n},\qquad k=0,\dots,\tfrac{\text{dim}}2-1

    n is dim/2 − 1 for "half_minus_one" (Ho et al.: the last is 1/period) and dim/2 for "half" (Vaswani et
    al., guided-diffusion: the last is above 1/period).

    Args:
        dim: number of features, even, at least 4.
        period: above 1.
        spacing: which n.
        device: of the result.

    Returns:
        Radians per unit of t, shape (dim/2,), float64.

    Raises:
        ValueError: dim that is odd or below 4, a period that is not above 1, or an unknown spacing.

    Reference: Ho et al. 2020, appendix B; Vaswani et al. 2017, section 3.5.
    """
    _check.count("dim", dim, 4)
    if dim % 2:
        raise ValueError(f"dim must be even, got {dim}")
    if not (math.isfinite(period) and period > 1):
        raise ValueError(f"period must be above 1 and finite, got {period}")
    one_of("spacing", spacing, Spacing)
    half = dim // 2
    n = half - 1 if spacing == "half_minus_one" else half
    return torch.pow(period, -torch.arange(half, dtype=torch.float64, device=device) / n)


def sinusoidal(
    t: Tensor,
    dim: int,
    *,
    period: float = 10000.0,
    spacing: Spacing = "half_minus_one",
    order: Order = "sin_cos",
    layout: Layout = "concatenated",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    r"""The features of a level.

    .. math:: \left(\sin\omega_0t,\dots,\sin\omega_{h-1}t,\;\cos\omega_0t,\dots,\cos\omega_{h-1}t\right),
        \qquad h=\tfrac{\text{dim}}2

    Angles are float64 whatever the dtype of t; the features are rounded once, to ``dtype``.

    Args:
        t: levels, any real numbers, shape (B,), floating or integer. A half-precision t has lost its digits
            before it comes here.
        dim: number of features, even, at least 4.
        period, spacing: of the ``frequencies``.
        order: whether sines or cosines come first.
        layout: all of one kind and then all of the other, or in pairs, a frequency each.
        dtype: of the result.

    Returns:
        Features, shape (B, dim).

    Raises:
        ValueError: t of another shape or kind, dtype not floating, an unknown word, or what ``frequencies``
            raises.

    Reference: Ho et al. 2020, appendix B; Vaswani et al. 2017, section 3.5.
    """
    real_levels("t", t)
    one_of("order", order, Order)
    one_of("layout", layout, Layout)
    if not dtype.is_floating_point:
        raise ValueError(f"dtype must be floating, got {dtype}")
    angle = t.double()[:, None] * frequencies(dim, period=period, spacing=spacing, device=t.device)
    waves = [angle.sin(), angle.cos()]
    if order == "cos_sin":
        waves.reverse()
    features = torch.cat(waves, 1) if layout == "concatenated" else torch.stack(waves, 2).flatten(1)
    return features.to(dtype)


class Net(nn.Module):
    r"""What the networks share: settings that rebuild them, and the conditioning vector e.

    .. math:: e=W_2\operatorname{silu}(W_0\,\text{sinusoidal}(t)+b_0)+b_2+\text{Embedding}(\text{label})

    Args:
        settings: arguments of the constructor, JSON-able.
        width: of e.
        embedding_dim: sinusoidal features, even, at least 4.
        spacing: of their frequencies.
        classes: number of classes, 0 for a network without labels; label ``classes`` is "no label".

    Raises:
        ValueError: counts out of range or an unknown spacing.
    """

    time: nn.Sequential
    label: nn.Embedding | None

    def __init__(
        self, settings: Mapping[str, Any], width: int, embedding_dim: int, spacing: Spacing, classes: int
    ) -> None:
        super().__init__()
        _check.count("width", width)
        _check.count("embedding_dim", embedding_dim, 4)
        if embedding_dim % 2:
            raise ValueError(f"embedding_dim must be even, got {embedding_dim}")
        one_of("spacing", spacing, Spacing)
        _check.count("classes", classes, 0)
        self._settings = dict(settings)
        self.embedding_dim, self.spacing, self.classes = embedding_dim, spacing, classes
        self.time = nn.Sequential(nn.Linear(embedding_dim, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(classes + 1, width) if classes else None

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments that make a network of this shape again; defaults that depend on others are resolved."""
        return dict(self._settings)

    def condition(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        """The vector e, shape (B, width), after the checks of the arguments of a call."""
        _check.floating("x", x)
        real_levels("t", t)
        _check.batch("t", t, x)
        dtype = next(self.time.parameters()).dtype
        e: Tensor = self.time(sinusoidal(t, self.embedding_dim, spacing=self.spacing, dtype=dtype))
        if self.label is None:
            if label is not None:
                raise ValueError("label must be None for a network with classes = 0")
            return e
        if label is None:
            raise ValueError(f"label must be given, in 0..{self.classes} where {self.classes} is no label")
        labels("label", label, self.classes, x.shape[0])
        of_label: Tensor = self.label(label)
        return e + of_label


def labels(name: str, label: Tensor, highest: int, batch: int) -> None:
    """Labels: int64 of shape (B,), from 0 to the highest."""
    if not isinstance(label, Tensor) or label.dtype != torch.int64:
        raise ValueError(f"{name} must be an int64 tensor, got {getattr(label, 'dtype', type(label))}")
    if tuple(label.shape) != (batch,):
        raise ValueError(f"{name} must have shape ({batch},), got {tuple(label.shape)}")
    if batch:
        _check.level(name, label, highest)


def flag(name: str, value: bool) -> None:
    """True or False, and no number in their place."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")


def real_levels(name: str, t: Tensor) -> None:
    """Levels: real numbers of shape (B,)."""
    if not isinstance(t, Tensor) or t.is_complex() or t.dtype == torch.bool:
        raise ValueError(f"{name} must be a tensor of real numbers, got {getattr(t, 'dtype', type(t))}")
    if t.dim() != 1:
        raise ValueError(f"{name} must have shape (B,), got {tuple(t.shape)}")


def one_of(name: str, value: str, words: Any) -> None:
    """A word of a Literal."""
    if value not in get_args(words):
        raise ValueError(f"{name} must be one of {', '.join(get_args(words))}, got {value!r}")
