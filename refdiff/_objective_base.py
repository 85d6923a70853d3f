"""What every objective has: its network, its draws, its loss, and the noise that its network predicts."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from refdiff import _check
from refdiff.process import Process
from refdiff.schedule import Schedule, from_log_alpha_bar
from refdiff.solver import Levels, karras_levels

Network: TypeAlias = Callable[..., Tensor]
"""net(x, level, label) of x (B, *), levels in float64 (B,), and labels, int64 (B,), or None."""
Draws: TypeAlias = dict[str, Tensor]
"""What a batch is noised with; row b of every tensor belongs to sample b."""
Kind = Literal["body", "score", "energy", "classifier"]
Spacing = Literal["own", "karras", "geometric"]


class Objective(ABC):
    """A loss with its levels and noises; its fields are its settings, values of JSON.

    Attributes:
        kind: the network it trains: a body, which is asked at a level, a body in ``nets.ScoreNet`` or
            ``nets.EnergyNet``, which is asked at a deviation σ, or a classifier.
        learned_variance: whether the network has a second half, see ``nets.halves``.
        differentiated: whether the loss holds derivatives of the network by its input.
    """

    kind: ClassVar[Kind] = "body"
    learned_variance: ClassVar[bool] = False
    differentiated: ClassVar[bool] = False

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that make this objective again."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]  # the subclasses are dataclasses

    @abstractmethod
    def draw(self, x_0: Tensor, generator: torch.Generator, step: int = 0, steps: int = 1) -> Draws:
        """Levels and noises for a batch.

        Args:
            x_0: data, shape (B, *), on the CPU.
            generator: makes them, in a fixed order.
            step, steps: the step of training, from 0, and the number of steps; what is drawn may depend on
                it.

        Returns:
            Tensors with B rows.
        """

    @abstractmethod
    def loss(self, net: Network, x_0: Tensor, label: Tensor | None, draws: Draws) -> Tensor:
        """The loss of each sample.

        Args:
            net: the network.
            x_0: data, shape (B, *).
            label: for the network, int64, shape (B,), or None; for a classifier the classes.
            draws: those of ``draw``, or rows of them.

        Returns:
            Shape (B,).
        """

    def eps(self, net: Network, x: Tensor, scale: Tensor, std: Tensor, label: Tensor | None = None) -> Tensor:
        r"""The noise that the network predicts at any level, as ``solver.Model`` has it.

        .. math:: \hat\epsilon\approx\mathbb E[\epsilon\mid x],\qquad x=\mathrm{scale}\cdot x_0
            +\mathrm{std}\cdot\epsilon

        Args:
            net: the network.
            x: noised data, shape (B, *).
            scale, std: the level, above 0, float64, shape ().
            label: for the network, int64, shape (B,), or None.

        Returns:
            Shaped like x.

        Raises:
            ValueError: the objective predicts no noise, or the level lies outside those that were trained.
        """
        raise ValueError(f"{type(self).__name__} trains no prediction of the noise, which samplers ask for")

    def process(self) -> Process:
        """The continuous process whose marginals the network knows."""
        raise ValueError(f"{type(self).__name__} has no process")

    @property
    def span(self) -> tuple[float, float]:
        """The first and the last time of the process at which the network is asked."""
        raise ValueError(f"{type(self).__name__} has no process")

    def levels(self, n: int, spacing: Spacing = "own") -> Levels:
        """The levels of a sampler of n steps, from the noisiest that was trained to data.

        Args:
            n: number of steps, at least 1; at least 2 for the other spacings than "own".
            spacing: "own" is equal in the objective's own time; "karras" as in ``solver.karras_levels``, and
                "geometric" equal ratios, both between the ends of "own".

        Returns:
            Levels, n + 1 of them, of which the last has no noise.

        Raises:
            ValueError: a number of steps that is too small, or an unknown spacing.
        """
        _check.count("n", n, minimum=1 if spacing == "own" else 2)
        if spacing == "own":
            return self._own_levels(n)
        smallest, largest = (math.exp(-float(self.process().log_snr(time))) for time in self.span)
        if spacing == "karras":
            return karras_levels(smallest, largest, n)
        if spacing == "geometric":
            share = torch.arange(n, dtype=torch.float64) / (n - 1)
            sigma = largest * (smallest / largest) ** share
            return Levels(torch.ones(n + 1, dtype=torch.float64), _with_end(sigma, 0.0), "ve")
        raise ValueError(f"spacing must be one of own, karras, geometric, got {spacing!r}")

    def _own_levels(self, n: int) -> Levels:
        process, times = self.process(), self.times(n)
        scale, std = process.scale(times), process.std(times)
        flat = bool((scale == 1).all())
        return Levels(_with_end(scale, 1.0), _with_end(std, 0.0), "ve" if flat else "vp")

    def times(self, n: int) -> Tensor:
        """n times of the process, equally far apart, from the last to the first: float64, shape (n,)."""
        first, last = self.span
        shares = torch.arange(n, dtype=torch.float64) / max(n - 1, 1)
        # the ends are given exactly
        inner = last + (first - last) * shares[:-1]
        return _with_end(inner, first if n > 1 else last)

    def chain(self, n: int, spacing: Spacing = "own") -> tuple[Schedule, list[int]]:
        """The schedule and the levels, descending to 0, of a discrete sampler of n steps."""
        sigma = self.levels(n, spacing).sigma.flip(0)
        return from_log_alpha_bar(-torch.log1p(sigma**2), type(self).__name__), list(range(n, -1, -1))

    def eps_of_chain(
        self, net: Network, schedule: Schedule, x_t: Tensor, t: int, label: Tensor | None = None
    ) -> Tensor:
        """The predicted noise at a level of the schedule of ``chain``, shaped like x_t."""
        level = schedule.sqrt_alpha_bar[t], schedule.sqrt_one_minus_alpha_bar[t]
        return self.eps(net, x_t, *level, label)


def normal(x_0: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise, shaped like x_0."""
    return torch.randn(x_0.shape, dtype=x_0.dtype, generator=generator)


def uniform(count: int, generator: torch.Generator) -> Tensor:
    """Uniform numbers in [0, 1), float64, shape (count,)."""
    return torch.rand(count, dtype=torch.float64, generator=generator)


def batch_of(level: Tensor, x: Tensor) -> Tensor:
    """One level for each sample, on the device of x: float64, shape (B,)."""
    return level.to(device=x.device, dtype=torch.float64).expand(x.shape[0])


def times_level(factor: Tensor, x: Tensor) -> Tensor:
    """A factor of shape () in the dtype and on the device of what it multiplies, times it."""
    return factor.to(x) * x


def _with_end(values: Tensor, end: float) -> Tensor:
    return torch.cat([values, values.new_tensor([end])])
