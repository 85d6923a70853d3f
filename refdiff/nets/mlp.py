"""A residual perceptron for vectors."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import silu

from refdiff import _check
from refdiff.nets.blocks import zeroed
from refdiff.nets.embedding import Net, Spacing, flag


class ResidualLinear(nn.Module):
    r"""Two linear maps with the condition between them, and a way around.

    .. math:: y=h+W_2\operatorname{silu}(W_1h+b_1+W_t\operatorname{silu}(e)+b_t)+b_2

    W₂ and b₂ start at 0, so the block starts as the identity.

    Args:
        width: of h and of e.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lin1, self.time = nn.Linear(width, width), nn.Linear(width, width)
        self.lin2 = zeroed(nn.Linear(width, width))

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        y: Tensor = h + self.lin2(silu(self.lin1(h) + self.time(silu(e))))
        return y


class MLP(Net):
    r"""A perceptron that predicts a vector from x, the level t and a label.

    .. math:: y=\text{out}\left(\operatorname{silu}\left(\text{block}_{\text{depth}}(\cdots
        \text{block}_1(\text{inp}(x),e)\cdots,e)\right)\right)

    out and the ends of the blocks start at 0, so a fresh network returns 0.

    Args:
        dim: elements of a sample.
        out_dim: elements of the prediction; dim if None.
        width: of the hidden layers and of the vector e.
        depth: number of residual blocks.
        embedding_dim, spacing: features of t.
        classes: number of classes, 0 for a network without labels.
        learned_variance: twice the elements at the end, the mean part first; see ``refdiff.nets.halves``.

    Raises:
        ValueError: a count out of range, or an unknown spacing.
    """

    def __init__(
        self,
        *,
        dim: int,
        out_dim: int | None = None,
        width: int = 128,
        depth: int = 3,
        embedding_dim: int = 64,
        classes: int = 0,
        learned_variance: bool = False,
        spacing: Spacing = "half_minus_one",
    ) -> None:
        flag("learned_variance", learned_variance)
        out_dim = dim if out_dim is None else out_dim
        settings: dict[str, Any] = {
            "dim": dim, "out_dim": out_dim, "width": width, "depth": depth, "embedding_dim": embedding_dim,
            "classes": classes, "learned_variance": learned_variance, "spacing": spacing,
        }  # fmt: skip
        super().__init__(settings, width, embedding_dim, spacing, classes)
        for name, value in (("dim", dim), ("out_dim", out_dim), ("depth", depth)):
            _check.count(name, value)
        self.dim = dim
        self.inp = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(ResidualLinear(width) for _ in range(depth))
        self.out = zeroed(nn.Linear(width, (1 + learned_variance) * out_dim))

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """The prediction.

        Args:
            x: vectors, shape (B, dim).
            t: levels, any real numbers, shape (B,).
            label: int64 in 0..classes, shape (B,), where ``classes`` is "no label"; for classes > 0 only.

        Returns:
            Shape (B, out_dim), or twice the elements with a learned variance.

        Raises:
            ValueError: arguments of another shape, dtype or range, or a label missing or superfluous.
        """
        _check.floating("x", x)
        if x.dim() != 2 or x.shape[1] != self.dim:
            raise ValueError(f"x must have shape (B, {self.dim}), got {tuple(x.shape)}")
        e = self.condition(x, t, label)
        h = self.inp(x)
        for block in self.blocks:
            h = block(h, e)
        y: Tensor = self.out(silu(h))
        return y
