"""Objectives of networks that are asked at a deviation σ: scores and energies by denoising."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from refdiff import _check, energy, sde, smld
from refdiff._objective_base import Draws, Kind, Network, Objective, batch_of, normal, times_level, uniform
from refdiff._sde_steps import on as shaped
from refdiff.process import EDM, VE, VP, Process, SubVP, Time
from refdiff.sde import Weighting

PROCESSES: dict[str, type[VP] | type[VE] | type[EDM]] = {"ve": VE, "vp": VP, "subvp": SubVP, "edm": EDM}


@dataclass(frozen=True)
class DSM(Objective):
    r"""Denoising score matching in continuous time, see ``sde.dsm_loss``; t is uniform.

    .. math:: \lambda(t)\left\|s(x_t,t)+\frac z{\mathrm{std}}\right\|^2,\qquad
        s(x_t,t)=\frac{s_\theta(x_t/\mathrm{scale},\sigma)}{\mathrm{scale}},\quad
        \sigma=\frac{\mathrm{std}}{\mathrm{scale}}

    One network of σ serves every process, since data are brought to the scale 1.

    Args:
        process_name: "ve", "vp", "subvp" or "edm".
        process_settings: arguments of the process.
        weighting: λ: "variance" (std²), "likelihood" (g²) or "one".
        first: the first time, above 0 where the process begins with clean data.

    Reference: Song et al. 2021 (score SDE), eq. 7.
    """

    process_name: Literal["ve", "vp", "subvp", "edm"] = "ve"
    process_settings: dict[str, Any] = field(default_factory=dict)
    weighting: Weighting = "variance"
    first: float = 1e-3
    kind: ClassVar[Kind] = "score"

    def __post_init__(self) -> None:
        if self.process_name not in PROCESSES:
            names = ", ".join(PROCESSES)
            raise ValueError(f"process_name must be one of {names}, got {self.process_name!r}")
        _check.between("first", self.first, 0, self.process().end)

    def process(self) -> Process:
        try:
            return PROCESSES[self.process_name](**self.process_settings)
        except TypeError as error:
            raise ValueError(f"process_settings must be arguments of {self.process_name}: {error}") from None

    @property
    def span(self) -> tuple[float, float]:
        return self.first, self.process().end

    def draw(self, x_0: Tensor, generator: torch.Generator, step: int = 0, steps: int = 1) -> Draws:
        """t, uniform between the ends of ``span``, and the noise."""
        first, last = self.span
        t = first + (last - first) * uniform(x_0.shape[0], generator)
        return {"t": t, "noise": normal(x_0, generator)}

    def loss(self, net: Network, x_0: Tensor, label: Tensor | None, draws: Draws) -> Tensor:
        """The weighted loss, a sum over the dimensions."""
        process = self.process()

        def score(x: Tensor, t: Time) -> Tensor:
            scale, std = process.scale(t), process.std(t)
            return net(x / shaped(scale, x), std / scale, label) / shaped(scale, x)

        return sde.dsm_loss(process, score, x_0, draws["t"], draws["noise"], self.weighting)

    def eps(self, net: Network, x: Tensor, scale: Tensor, std: Tensor, label: Tensor | None = None) -> Tensor:
        sigma = std / scale
        return times_level(-sigma, net(times_level(1 / scale, x), batch_of(sigma, x), label))


@dataclass(frozen=True)
class SMLD(Objective):
    r"""Denoising score matching on a geometric ladder of levels, see ``smld.loss``.

    .. math:: \tfrac12\|\sigma_i\,s_\theta(x+\sigma_iz,\sigma_i)+z\|^2

    Args:
        sigma_1, sigma_L: the largest and the smallest level.
        L: number of levels.

    Reference: Song and Ermon 2019, eq. 5 and 6.
    """

    sigma_1: float = 10.0
    sigma_L: float = 0.01
    L: int = 50
    kind: ClassVar[Kind] = "score"

    def __post_init__(self) -> None:
        _check.count("L", self.L, minimum=2)
        smld.geometric_sigmas(self.sigma_1, self.sigma_L, 2)

    @cached_property
    def ladder(self) -> Tensor:
        """The levels, descending, float64, shape (L,)."""
        return smld.geometric_sigmas(self.sigma_1, self.sigma_L, self.L)

    def process(self) -> Process:
        return VE(self.sigma_L, self.sigma_1)

    @property
    def span(self) -> tuple[float, float]:
        return 0.0, 1.0

    def draw(self, x_0: Tensor, generator: torch.Generator, step: int = 0, steps: int = 1) -> Draws:
        """The index of a level, uniform in 0..L − 1, and the noise."""
        index = torch.randint(self.L, (x_0.shape[0],), generator=generator)
        return {"index": index, "noise": normal(x_0, generator)}

    def loss(self, net: Network, x_0: Tensor, label: Tensor | None, draws: Draws) -> Tensor:
        """The loss, a sum over the dimensions."""
        score = lambda x, sigma: self.score(net, x, sigma, label)  # noqa: E731
        return smld.loss(score, self.ladder, x_0, draws["index"], draws["noise"])

    def score(self, net: Network, x: Tensor, sigma: Tensor, label: Tensor | None) -> Tensor:
        """The score of data with noise of deviations σ, shape (B,)."""
        return net(x, sigma, label)

    def eps(self, net: Network, x: Tensor, scale: Tensor, std: Tensor, label: Tensor | None = None) -> Tensor:
        sigma = std / scale
        return times_level(-sigma, self.score(net, times_level(1 / scale, x), batch_of(sigma, x), label))


@dataclass(frozen=True)
class Energy(SMLD):
    r"""The same loss for the score of an energy, minus its gradient, through which the loss passes.

    .. math:: s_\theta(x,\sigma)=-\nabla_xE_\theta(x,\sigma)

    Reference: Salimans and Ho 2021, section 2.
    """

    kind: ClassVar[Kind] = "energy"
    differentiated: ClassVar[bool] = True

    def score(self, net: Network, x: Tensor, sigma: Tensor, label: Tensor | None) -> Tensor:
        return energy.score(lambda y: net(y, sigma, label), x)
