"""What several adapters need: options by name, and losses that answer one number for a whole batch."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def known_options(name: str, options: Mapping[str, Any], known: Collection[str]) -> None:
    """Raises ValueError for an option that a class does not have, with the nearest name that it has."""
    for key in options:
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            meant = f"; did you mean {close[0]}?" if close else f"; known: {', '.join(known)}"
            raise ValueError(f"{name} has no option {key!r}{meant}")


def chosen(name: str, value: Any, known: Mapping[str, Any]) -> Any:
    """The entry that an option names; ValueError where there is none."""
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    return known[value]


class Uphill(torch.autograd.Function):
    """An energy of 0 for every row, with minus a given score for its gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, score: Callable[[Tensor], Tensor]) -> Tensor:
        """(B, *) -> (B,)."""
        return x.new_zeros(len(x))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keeps the state and the score."""
        ctx.save_for_backward(inputs[0])
        ctx.score = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Minus the score, itself differentiable."""
        (x,) = ctx.saved_tensors
        return -grad.reshape(-1, *[1] * (x.dim() - 1)) * ctx.score(x), None


def climbing(score: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """An energy, (B, *) -> (B,), whose gradient is minus a score."""
    uphill: Any = Uphill
    return lambda x: uphill.apply(x, score)


class Increments:
    """Increments of one Brownian motion in sigma, of unit variance, from given noises.

    Args:
        noises: taken in order; a second question from the same sigma extends the first one's increment.
    """

    def __init__(self, noises: Tensor) -> None:
        self.noises = iter(noises)
        self.start, self.end, self.moved = -1.0, -1.0, torch.zeros(())

    def __call__(self, sigma: Any, sigma_next: Any) -> Tensor:
        """W(sigma_next) - W(sigma), divided by its deviation."""
        start, end = float(sigma), float(sigma_next)
        if abs(start - self.start) > 1e-9 * start:
            self.start, self.end, self.moved = start, start, torch.zeros(())
        self.moved = self.moved + abs(end - self.end) ** 0.5 * next(self.noises)
        self.end = end
        moved: Tensor = self.moved / abs(end - start) ** 0.5
        return moved


class Rows:
    """A function of a batch that is asked about one row at a time.

    The other rows of each question are those that were asked before, so the last question is the whole batch.

    Args:
        function: of (B, *), and of the labels of the rows where there are any.
        x: (B, *), the rows until they are asked.
    """

    def __init__(self, function: Callable[..., Tensor], x: Tensor) -> None:
        self.function, self.x = function, x.clone()
        self.labels: Tensor | None = None

    def row(self, i: int) -> Callable[..., Tensor]:
        """The function for row i: (1, *) and its label to (1, *)."""

        def ask(x: Tensor, label: Tensor | None = None) -> Tensor:
            state = torch.cat([self.x[:i], x.to(self.x.dtype), self.x[i + 1 :]])
            self.x = state.detach()
            if label is None:
                return self.function(state)[i : i + 1]
            if self.labels is None:
                self.labels = label.detach().reshape(-1).repeat(len(self.x))
            self.labels[i] = label.detach().reshape(())
            return self.function(state, self.labels.clone())[i : i + 1]

        return ask


def one_by_one(x: Tensor, loss: Callable[[int, Tensor], Tensor], noise: Tensor | None = None) -> Tensor:
    """A loss that is a mean over its batch, for each sample alone, (B,); row i draws row i of the noise."""
    values = []
    for i in range(len(x)):
        with drawing(None if noise is None else noise[i]):
            values.append(loss(i, x[i : i + 1].clone()).detach().reshape(()))
    return torch.stack(values)


@contextmanager
def drawing(row: Tensor | None) -> Iterator[None]:
    """Answers ``torch.randn_like`` with copies of one row; leaves it alone where there is none."""
    if row is None:
        yield
        return

    def given(like: Tensor, **options: Any) -> Tensor:
        return row.to(like.dtype).expand_as(like).clone()

    with mock.patch.object(torch, "randn_like", given):
        yield
