r"""Exponential integrators of the probability-flow ODE in λ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from refdiff._solver_base import Levels, Model, NoiseLevel, Past, Solver, combine


def ddim_coefficients(t: NoiseLevel, s: NoiseLevel) -> tuple[Tensor, Tensor]:
    r"""What DPM-Solver-1, which is deterministic DDIM, takes of x and of eps.

    .. math:: x_s=\frac{\mathrm{scale}_s}{\mathrm{scale}_t}x_t+\left(\mathrm{std}_s
        -\frac{\mathrm{scale}_s}{\mathrm{scale}_t}\mathrm{std}_t\right)\hat\epsilon
    """
    ratio = s.scale / t.scale
    return ratio, s.std * -torch.expm1(s.log_snr - t.log_snr) if not s.clean else -ratio * t.std


@dataclass(frozen=True)
class DDIM(Solver):
    """DPM-Solver-1: eps is taken as constant over the step."""

    name: str = "ddim"
    order: int = 1

    def states(
        self, model: Model, x: Tensor, levels: Levels, draws: Iterator[Tensor], past: Past
    ) -> Iterator[Tensor]:
        for t, s in levels.pairs():
            on_x, on_eps = ddim_coefficients(t, s)
            x = combine([(on_x, x), (on_eps, model(x, t.scale, t.std))])
            yield x
