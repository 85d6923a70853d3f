"""Classifiers of noised inputs, for guidance: half a UNet for images, a perceptron for vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import silu

from refdiff import _check
from refdiff.nets.blocks import Injection, group_norm
from refdiff.nets.embedding import Spacing
from refdiff.nets.mlp import MLP
from refdiff.nets.unet import Encoder, Plan


class Classifier(Encoder):
    r"""The encoder of a UNet with a linear head on the mean over positions.

    .. math:: \log p(y\mid x_t)=\log\operatorname{softmax}(\text{logits})_y,\qquad
        \text{logits}=\text{head}\left(\operatorname{mean}_{H,W}\operatorname{silu}(\text{norm}(h))\right)

    Args:
        in_channels: of x_t.
        classes: number of classes, at least 2.
        base, multipliers, blocks, attention, groups, width, embedding_dim, injection: as for ``UNet``.

    Raises:
        ValueError: a count out of range, channels that the groups do not divide, or an unknown word.

    Reference: Dhariwal and Nichol 2021, section 4.3.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        classes: int,
        base: int = 32,
        multipliers: Sequence[int] = (1, 2, 2),
        blocks: int = 2,
        attention: Sequence[int] = (),
        groups: int = 8,
        width: int | None = None,
        embedding_dim: int | None = None,
        injection: Injection = "shift",
    ) -> None:
        width = 4 * base if width is None else width
        embedding_dim = base if embedding_dim is None else embedding_dim
        settings = {
            "in_channels": in_channels, "classes": classes, "base": base, "multipliers": list(multipliers),
            "blocks": blocks, "attention": list(attention), "groups": groups, "width": width,
            "embedding_dim": embedding_dim, "injection": injection,
        }  # fmt: skip
        plan = Plan(base, multipliers, blocks, attention, 1, groups, width, injection, 0.0)
        super().__init__(plan, in_channels, settings, embedding_dim)
        _check.count("classes", classes, 2)
        self.norm_out = group_norm(groups, plan.channels[-1])
        self.head = nn.Linear(plan.channels[-1], classes)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The logits.

        Args:
            x: noised images, shape (B, in_channels, H, W), H and W divisible by 2^(levels − 1).
            t: levels, any real numbers, shape (B,).

        Returns:
            Shape (B, classes).

        Raises:
            ValueError: arguments of another shape or dtype.
        """
        self.check_images(x)
        h, _ = self.encode(x, self.condition(x, t, None))
        logits: Tensor = self.head(silu(self.norm_out(h)).mean((2, 3)))
        return logits


class VectorClassifier(MLP):
    """A perceptron whose outputs are logits; a fresh one takes all classes for equally likely.

    Args:
        dim: elements of a sample.
        classes: number of classes, at least 2.
        width, depth, embedding_dim, spacing: as for ``MLP``.

    Raises:
        ValueError: a count out of range, or an unknown spacing.
    """

    def __init__(
        self,
        *,
        dim: int,
        classes: int,
        width: int = 128,
        depth: int = 3,
        embedding_dim: int = 64,
        spacing: Spacing = "half_minus_one",
    ) -> None:
        _check.count("classes", classes, 2)
        super().__init__(
            dim=dim, out_dim=classes, width=width, depth=depth, embedding_dim=embedding_dim, spacing=spacing
        )
        shared: dict[str, Any] = {"width": width, "depth": depth, "embedding_dim": embedding_dim}
        self._settings = {"dim": dim, "classes": classes, **shared, "spacing": spacing}
