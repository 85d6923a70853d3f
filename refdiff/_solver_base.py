r"""What all solvers share: the levels that are visited, the model, the noises and the loop.

A level is a pair of a factor of the data and a deviation of the noise, :math:`x=\mathrm{scale}\cdot x_0
+\mathrm{std}\cdot\varepsilon`. Half of its log signal-to-noise ratio, :math:`\lambda=\log(\mathrm{scale}
/\mathrm{std})`, is the time of the solvers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor
from torch.autograd import forward_ad

from refdiff import _check
from refdiff.kernel import Number, exp, sqrt
from refdiff.process import Process, Time

Model: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""eps predicted from x, shape (B, *), and the scale and std of its level, 0-dim float64."""
Space = Literal["vp", "ve", "flow"]
Past: TypeAlias = Sequence[tuple["NoiseLevel", Tensor]]
"""Levels noisier than the first and the states there, the noisiest first."""


class Numbers(NamedTuple):
    """A level to reckon with: floats where they are known, else 0-dim float64, whose gradient is kept.

    An operation on a tensor of one element takes about as long as on a small image.
    """

    scale: Number
    std: Number

    @property
    def log_snr(self) -> Number:
        r""":math:`\lambda=\log(\mathrm{scale}/\mathrm{std})`, which is ∞ without noise."""
        return log(self.scale) - log(self.std)

    @property
    def sigma(self) -> Number:
        r""":math:`\sigma=\mathrm{std}/\mathrm{scale}=e^{-\lambda}`."""
        return self.std / self.scale


@dataclass(frozen=True, eq=False)
class NoiseLevel:
    """One level: a factor of the data above 0 and a deviation of the noise, at least 0, 0-dim float64.

    Those of a list bring what is known of it: ``floats``, the same as Python numbers, or where there are none
    ``end``, whether there is no noise at all.
    """

    scale: Tensor
    std: Tensor
    floats: Numbers | None = field(default=None, repr=False)
    end: bool | None = field(default=None, repr=False)

    @property
    def log_snr(self) -> Tensor:
        r""":math:`\lambda=\log(\mathrm{scale}/\mathrm{std})`, which is ∞ without noise."""
        return self.scale.log() - self.std.log()

    @property
    def sigma(self) -> Tensor:
        r""":math:`\sigma=\mathrm{std}/\mathrm{scale}=e^{-\lambda}`."""
        return self.std / self.scale

    @property
    def numbers(self) -> Numbers:
        """The level to reckon with."""
        return Numbers(self.scale, self.std) if self.floats is None else self.floats

    def read(self) -> NoiseLevel:
        """The same level with its floats, where these can be had."""
        if self.floats is None and constant(self.scale, self.std):
            return NoiseLevel(self.scale, self.std, Numbers(self.scale.item(), self.std.item()))
        return self

    @property
    def clean(self) -> bool:
        """Whether there is no noise at all; on the meta device, where nothing tells, it is assumed that there
        is some.

        Raises:
            ValueError: in a traced graph, at a level that was made there.
        """
        if self.floats is not None:
            return bool(self.floats.std == 0)
        if _check.readable(self.std):
            return bool(self.std == 0)
        if self.end is None and not self.std.is_meta:
            raise ValueError(
                "std must be known before the graph, to tell a level without noise: make Levels there"
            )
        return bool(self.end)


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
    to_data: bool | None = field(init=False, default=None, repr=False)
    """Whether the last level has no noise; None where it could not be read."""

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
            object.__setattr__(self, "to_data", bool(self.std[-1] == 0))

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
        end = self.to_data if index in (-1, self.steps) else False
        return NoiseLevel(self.scale[index], self.std[index], None, end)

    def __len__(self) -> int:
        return self.scale.numel()

    def pairs(self) -> Iterator[tuple[NoiseLevel, NoiseLevel]]:
        """The steps: each level with the one after it."""
        return pairwise(self._visited())

    def _visited(self) -> list[NoiseLevel]:
        # copies, which a model that writes to what it is told does not reach
        told = list(zip(self.scale.clone().unbind(), self.std.clone().unbind(), strict=True))
        if constant(self.scale, self.std):
            known = map(Numbers, self.scale.tolist(), self.std.tolist())
            return [NoiseLevel(*pair, floats) for pair, floats in zip(told, known, strict=True)]
        ends = [False] * self.steps + [self.to_data]
        return [NoiseLevel(*pair, None, end) for pair, end in zip(told, ends, strict=True)]

    def at(self, log_snr: Number) -> NoiseLevel:
        """The level of the space with this log-SNR, a float or 0-dim float64."""
        return level(log_snr, self.space, self.scale.device)

    def between(self, t: NoiseLevel, s: NoiseLevel, fraction: Number) -> NoiseLevel:
        r"""The level at :math:`\lambda_t+r\,(\lambda_s-\lambda_t)`, with noise at both ends."""
        first, last = t.numbers.log_snr, s.numbers.log_snr
        return self.at(first + fraction * (last - first))


def level(log_snr: Number, space: Space, device: torch.device | str = "cpu") -> NoiseLevel:
    r"""The level of a space with the log-SNR λ: sigma is exp(-λ), and the space says which scale."""
    found = _numbers(log_snr, space)
    if isinstance(found.scale, Tensor) and isinstance(found.std, Tensor):
        return NoiseLevel(found.scale, found.std, end=False)
    scale, std = torch.tensor(found, dtype=torch.float64, device=device).unbind()
    return NoiseLevel(scale, std, found)


def _numbers(log_snr: Number, space: Space) -> Numbers:
    if space == "vp":
        return Numbers(sqrt(_sigmoid(2 * log_snr)), sqrt(_sigmoid(-2 * log_snr)))
    if space == "flow":
        return Numbers(_sigmoid(log_snr), _sigmoid(-log_snr))
    return Numbers(0 * log_snr + 1, exp(-log_snr))


def _sigmoid(x: Number) -> Number:
    if isinstance(x, Tensor):
        return torch.sigmoid(x)
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def log(x: Number) -> Number:
    """The logarithm of a float, −∞ at 0, or of a tensor."""
    if isinstance(x, Tensor):
        return x.log()
    return math.log(x) if x > 0 else -math.inf


def constant(*values: Tensor) -> bool:
    """Whether tensors may be replaced by their values: these can be read, and nothing is derived by them."""
    return _check.readable(*values) and not any(
        value.requires_grad or forward_ad.unpack_dual(value).tangent is not None  # type: ignore[no-untyped-call]
        for value in values
    )


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
        # not a list of all states, whose memory would not be used again
        for state in self.trajectory(model, x, levels, noises, past):
            x = state
        return x

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
        known = [(at.read(), state) for at, state in past]
        yield from self.states(model, x, levels, iter(noises if noises is not None else ()), known)


def take(draws: Iterator[Tensor], x: Tensor) -> Tensor:
    """The next noise, shaped like x."""
    noise = next(draws, None)
    if noise is None:
        raise ValueError("noises must hold one tensor for each draw of a stochastic solver, got too few")
    _check.same(x=x, noise=noise)
    return noise


def combine(terms: Sequence[tuple[Number, Tensor]]) -> Tensor:
    """The sum of coefficients times tensors; the coefficients are float64 and cast once."""
    (coefficient, first), *rest = terms
    # a factor of 1, as that of the state in "ve" space, takes no pass over it
    scaled = not rest or isinstance(coefficient, Tensor) or coefficient != 1
    total = _times(coefficient, first) if scaled else first
    for coefficient, tensor in rest:
        if isinstance(coefficient, Tensor):
            total = torch.addcmul(total, _cast(coefficient, tensor), tensor)
        else:
            total = torch.add(total, tensor, alpha=coefficient)
    return total


def _times(value: Number, x: Tensor) -> Tensor:
    return (_cast(value, x) if isinstance(value, Tensor) else value) * x


def _cast(value: Tensor, x: Tensor) -> Tensor:
    return value.to(dtype=x.dtype, device=x.device)


def predict_x_0(x: Tensor, eps: Tensor, at: Numbers) -> Tensor:
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
