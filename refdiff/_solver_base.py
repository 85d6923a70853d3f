r"""What all solvers share: the levels that are visited, the model, the noises and the loop.

A level is a pair of a factor of the data and a deviation of the noise, :math:`x=\mathrm{scale}\cdot x_0
+\mathrm{std}\cdot\varepsilon`. Half of its log signal-to-noise ratio, :math:`\lambda=\log(\mathrm{scale}
/\mathrm{std})`, is the time of the solvers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from refdiff import _check
from refdiff.process import Process, Time

Model: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""eps predicted from x, shape (B, *), and the scale and std of its level, 0-dim float64."""
Space = Literal["vp", "ve", "flow"]
Past: TypeAlias = Sequence[tuple["NoiseLevel", Tensor]]
"""Levels noisier than the first and the states there, the noisiest first."""


@dataclass(frozen=True, eq=False)
class NoiseLevel:
    """One level: a factor of the data above 0 and a deviation of the noise, at least 0, 0-dim float64."""

    scale: Tensor
    std: Tensor

    @property
    def log_snr(self) -> Tensor:
        r""":math:`\lambda=\log(\mathrm{scale}/\mathrm{std})`, which is ∞ without noise."""
        return self.scale.log() - self.std.log()

    @property
    def sigma(self) -> Tensor:
        r""":math:`\sigma=\mathrm{std}/\mathrm{scale}=e^{-\lambda}`."""
        return self.std / self.scale

    @property
    def clean(self) -> bool:
        """Whether there is no noise at all."""
        return not self.std.is_meta and bool(self.std == 0)


@dataclass(frozen=True, eq=False)
class Levels:
    r"""The levels that a solver visits, the noisiest first.

    A level between two of them is made from its log-SNR alone: ``space`` says which scale goes with it,
    :math:`(1+\sigma^2)^{-1/2}` (``"vp"``), 1 (``"ve"``) or :math:`(1+\sigma)^{-1}` (``"flow"``). Solvers give
    the same sample in each, up to the scale, so the levels of the list may lie in any space.

    Args:
        scale: factor of the data, float64, shape (N+1,), above 0.
        std: deviation of the noise, float64, shape (N+1,), above 0 but for the last, which may be 0.
        space: where levels between two of the list lie.

    Raises:
        ValueError: another shape, dtype or space, a number out of bounds, or std/scale not falling.
    """

    scale: Tensor
    std: Tensor
    space: Space = "vp"

    def __post_init__(self) -> None:
        if self.space not in get_args(Space):
            raise ValueError(f"space must be one of {', '.join(get_args(Space))}, got {self.space!r}")
        for name, value in (("scale", self.scale), ("std", self.std)):
            if value.dtype != torch.float64 or value.dim() != 1 or value.numel() < 2:
                shape = tuple(value.shape)
                raise ValueError(f"{name} must be float64 of shape (N+1,), N > 0, got {value.dtype}, {shape}")
        _check.same(scale=self.scale, std=self.std)
        if _check.readable(self.scale, self.std):
            self._require_values()

    def _require_values(self) -> None:
        _require_all("scale", self.scale, (self.scale > 0) & self.scale.isfinite(), "finite and above 0")
        _require_all("std", self.std, (self.std >= 0) & self.std.isfinite(), "finite and at least 0")
        inner = self.std[:-1]
        _require_all("std", inner, inner > 0, "above 0 before the last level")
        falls = self.sigma.diff()
        _require_all("std/scale", self.sigma[1:], falls < 0, "below the one before it")

    @classmethod
    def from_process(cls, process: Process, times: Time, space: Space | None = None) -> Levels:
        """The levels of a process at times that fall.

        Args:
            process: a continuous process.
            times: float64, shape (N+1,), falling.
            space: where levels between two of them lie; by default "ve" where the scale is 1 everywhere, else
                "vp".

        Raises:
            ValueError: times outside the process, or what ``Levels`` raises.
        """
        scale, std = process.scale(times), process.std(times)
        flat = _check.readable(scale) and bool((scale == 1).all())
        return cls(scale, std, space or ("ve" if flat else "vp"))

    @property
    def steps(self) -> int:
        """The number N of steps."""
        return self.scale.numel() - 1

    @property
    def log_snr(self) -> Tensor:
        r""":math:`\lambda=\log(\mathrm{scale}/\mathrm{std})`, shape (N+1,), rising."""
        return self.scale.log() - self.std.log()

    @property
    def sigma(self) -> Tensor:
        r""":math:`\sigma=\mathrm{std}/\mathrm{scale}`, shape (N+1,), falling."""
        return self.std / self.scale

    def __getitem__(self, index: int) -> NoiseLevel:
        return NoiseLevel(self.scale[index], self.std[index])

    def __len__(self) -> int:
        return self.scale.numel()

    def pairs(self) -> Iterator[tuple[NoiseLevel, NoiseLevel]]:
        """The steps: each level with the one after it."""
        return pairwise(self[index] for index in range(len(self)))

    def at(self, log_snr: Tensor) -> NoiseLevel:
        """The level of the space with this log-SNR, 0-dim float64."""
        return level(log_snr, self.space)

    def between(self, t: NoiseLevel, s: NoiseLevel, fraction: float | Tensor) -> NoiseLevel:
        r"""The level at :math:`\lambda_t+r\,(\lambda_s-\lambda_t)`, with noise at both ends."""
        return self.at(t.log_snr + fraction * (s.log_snr - t.log_snr))


def level(log_snr: Tensor, space: Space) -> NoiseLevel:
    r"""The level of a space with the log-SNR λ: sigma is exp(-λ), and the space says which scale."""
    if space == "vp":
        return NoiseLevel(torch.sigmoid(2 * log_snr).sqrt(), torch.sigmoid(-2 * log_snr).sqrt())
    if space == "flow":
        return NoiseLevel(torch.sigmoid(log_snr), torch.sigmoid(-log_snr))
    return NoiseLevel(torch.ones_like(log_snr), torch.exp(-log_snr))


class Solver(ABC):
    """A method that takes x from the first to the last of some levels.

    Attributes:
        name: the key in the registry.
        order: p, where the error of a sample is of order h^p in the largest step of λ; for a stochastic
            solver, the order of its law.
        strong_order: of a stochastic solver, the order of the root mean square error at the same Brownian
            motion.
        stochastic: whether noises are taken.
        evaluations: how often the model is asked in a step that is neither the first nor the last.
        history: how many states before the first level the first step uses where they are given; without
            them the first steps are of lower order, as they are in practice.
        cold_order: the order without them.
    """

    name: str
    order: int
    strong_order: float | None = None
    stochastic: bool = False
    evaluations: int = 1
    history: int = 0

    @property
    def cold_order(self) -> int:
        return self.order

    @abstractmethod
    def states(
        self, model: Model, x: Tensor, levels: Levels, draws: Iterator[Tensor], past: Past
    ) -> Iterator[Tensor]:
        """The state after each step, N of them; noises come from ``take(draws, x)``."""

    def sample(
        self,
        model: Model,
        x: Tensor,
        levels: Levels,
        noises: Iterable[Tensor] | None = None,
        past: Past = (),
    ) -> Tensor:
        """The state at the last level.

        Args:
            model: eps predicted from x and the scale and std of its level.
            x: the state at the first level, shape (B, *).
            levels: the levels to visit, the noisiest first.
            noises: standard normal, shaped like x, in the order in which they are used; a deterministic
                solver takes none, and only churn takes one for the step to std = 0.
            past: levels before the first and the states there, for solvers with a history.

        Returns:
            Shaped like x, in its dtype and on its device.

        Raises:
            ValueError: x not floating-point or without a batch, too few noises, a noise or a past state of
                another shape, or past levels that do not fall to the first.
        """
        *_, last = self.trajectory(model, x, levels, noises, past)
        return last

    def trajectory(
        self,
        model: Model,
        x: Tensor,
        levels: Levels,
        noises: Iterable[Tensor] | None = None,
        past: Past = (),
    ) -> Iterator[Tensor]:
        """The states at all levels, N+1 of them, from x itself; arguments as in ``sample``."""
        _check.floating("x", x)
        if x.dim() == 0:
            raise ValueError("x must have shape (B, *), got ()")
        _require_past(x, levels[0], past)
        yield x
        yield from self.states(model, x, levels, iter(noises if noises is not None else ()), past)


def take(draws: Iterator[Tensor], x: Tensor) -> Tensor:
    """The next noise, shaped like x."""
    noise = next(draws, None)
    if noise is None:
        raise ValueError("noises must hold one tensor for each draw of a stochastic solver, got too few")
    _check.same(x=x, noise=noise)
    return noise


def cast(value: Tensor, x: Tensor) -> Tensor:
    """A float64 number in the dtype and on the device of the tensor that it multiplies."""
    return value.to(dtype=x.dtype, device=x.device)


def combine(terms: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The sum of coefficients times tensors; the coefficients are float64 and cast once."""
    (coefficient, first), *rest = terms
    total = cast(coefficient, first) * first
    for coefficient, tensor in rest:
        total = torch.addcmul(total, cast(coefficient, tensor), tensor)
    return total


def predict_x_0(x: Tensor, eps: Tensor, at: NoiseLevel) -> Tensor:
    r"""The data of x and a predicted noise, :math:`(x-\mathrm{std}\,\hat\epsilon)/\mathrm{scale}`."""
    return combine([(1 / at.scale, x), (-at.sigma, eps)])


def _require_past(x: Tensor, first: NoiseLevel, past: Past) -> None:
    for _, state in past:
        _check.same(x=x, past=state)
    sigmas = [at.sigma for at, _ in past] + [first.sigma]
    if _check.readable(*sigmas) and any(not bool(s < t) for t, s in pairwise(sigmas)):
        raise ValueError(f"past must have levels that fall to {first.sigma.item()}, got {sigmas}")


def _require_all(name: str, value: Tensor, right: Tensor, bound: str) -> None:
    if not bool(right.all()):
        raise ValueError(f"{name} must be {bound}, got {value[~right][0].item()}")
