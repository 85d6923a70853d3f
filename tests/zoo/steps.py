"""Correct single steps of solvers with a history, in several conventions, from which mutants differ."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from refdiff.oracle import Dialect, Target
from tests.zoo.solvers import data_of, spoken


class OnePoint(Target):
    """DDIM by the last answer alone."""

    dialect = Dialect(order=1, solver="ddim", solver_noise=False)

    def solver_step(self, x: Tensor, scales: Tensor, stds: Tensor, outputs: Tensor, noise: Tensor) -> Tensor:
        (a, b), (s, r) = scales.double().tolist()[-2:], stds.double().tolist()[-2:]
        x_0 = self.data(x, a, s, outputs[-1])
        return b * x_0 + r * (x - a * x_0) / s

    def data(self, x: Tensor, scale: float, std: float, output: Tensor) -> Tensor:
        return data_of(self.dialect.parameterization, x, scale, std, output)


class OfData(Target):
    """DPM-Solver++(2M): answers that are data, extrapolated to the middle of the step."""

    dialect = Dialect(order=2, parameterization="x_0", solver="dpmpp_2m", solver_noise=False)

    def solver_step(self, x: Tensor, scales: Tensor, stds: Tensor, outputs: Tensor, noise: Tensor) -> Tensor:
        a, s = scales.double().tolist(), stds.double().tolist()
        if s[-1] == 0:
            return self.clean(a[-1], outputs, noise)
        at = [math.log(u / v) for u, v in zip(a, s, strict=True)]
        h = at[-1] - at[-2]
        x_0 = outputs[-1] if len(outputs) == 1 else self.between(outputs, (at[-2] - at[-3]) / h)
        moved = self.kept(h) * s[-1] / s[-2] * x + self.gain(h) * a[-1] * x_0
        return moved + self.fresh(s[-1], h) * self.z(x, noise)

    def clean(self, scale: float, outputs: Tensor, noise: Tensor) -> Tensor:
        return scale * outputs[-1]

    def between(self, outputs: Tensor, r: float) -> Tensor:
        return outputs[-1] + (outputs[-1] - outputs[-2]) / (2 * r)

    def kept(self, h: float) -> float:
        return 1.0

    def gain(self, h: float) -> float:
        return -math.expm1(-h)

    def fresh(self, std: float, h: float) -> float:
        return 0.0

    def z(self, x: Tensor, noise: Tensor) -> Tensor:
        return noise


class Rounded(OfData):
    """The same, which knows its levels in single precision."""

    def solver_step(self, x: Tensor, scales: Tensor, stds: Tensor, outputs: Tensor, noise: Tensor) -> Tensor:
        return super().solver_step(x, scales.float(), stds.float(), outputs, noise)


class Noisy(OfData):
    """SDE-DPM-Solver++(2M)."""

    dialect = Dialect(order=2, parameterization="x_0", solver="sde_dpmpp_2m", solver_noise=True)

    def kept(self, h: float) -> float:
        return math.exp(-h)

    def gain(self, h: float) -> float:
        return -math.expm1(-2 * h)

    def fresh(self, std: float, h: float) -> float:
        return std * math.sqrt(-math.expm1(-2 * h))


class Drawing(Noisy):
    """The same, with a draw of its own."""

    def z(self, x: Tensor, noise: Tensor) -> Tensor:
        return torch.randn_like(x)


class InSigma(Target):
    """Adams and Bashforth's steps in sigma by two answers that are noise."""

    dialect = Dialect(order=2, solver="lms_2", solver_noise=False)

    def solver_step(self, x: Tensor, scales: Tensor, stds: Tensor, outputs: Tensor, noise: Tensor) -> Tensor:
        sigma = (stds.double() / scales.double()).tolist()
        h = sigma[-1] - sigma[-2]
        slope = outputs[-1]
        if len(outputs) > 1:
            slope = slope + self.ratio(h, sigma[-2] - sigma[-3]) / 2 * (slope - outputs[-2])
        a, b = scales[-2:]
        return b / a * x + b * h * slope

    def ratio(self, h: float, before: float) -> float:
        return h / before


class EqualSteps(Target):
    """Adams and Bashforth's four points for levels even in sigma."""

    dialect = Dialect(order=4, solver_grid="sigma", solver="plms", solver_noise=False, solver_end="level")
    weights = (-9.0, 37.0, -59.0, 55.0)

    def solver_step(self, x: Tensor, scales: Tensor, stds: Tensor, outputs: Tensor, noise: Tensor) -> Tensor:
        if len(outputs) < 4:
            raise ValueError("needs four answers")
        sigma = stds / scales
        slope = sum(w * value for w, value in zip(self.weights, outputs, strict=True)) / 24
        return scales[-1] * (x / scales[-2] + (sigma[-1] - sigma[-2]) * slope)


class OfNoise(Target):
    """Euler's step to a lower level, and noise up to the next one."""

    dialect = Dialect(order=1, solver="euler_ancestral", solver_noise=True)

    def solver_step(self, x: Tensor, scales: Tensor, stds: Tensor, outputs: Tensor, noise: Tensor) -> Tensor:
        (a, b), (s, r) = scales.double().tolist()[-2:], stds.double().tolist()[-2:]
        high, low = s / a, r / b
        x_0 = data_of(self.dialect.parameterization, x, a, s, outputs[-1])
        down, up = low**2 / high, self.up(high, low)
        return b * (x_0 + down / high * (x / a - x_0) + up * noise)

    def up(self, high: float, low: float) -> float:
        return low * math.sqrt(1 - (low / high) ** 2)


ORIGINALS: list[type[Target]] = [OnePoint, OfData, Rounded, Noisy, Drawing, InSigma, EqualSteps, OfNoise]
CONVENTIONS: list[Callable[[], Any]] = [
    spoken(OnePoint, solver_space="flow", parameterization="v"),
    spoken(OnePoint, parameterization="score", dtype="float32"),
    spoken(OfData, solver_space="ve"),
    spoken(OfData, dtype="float32"),
    spoken(OfData, solver=None, order=None, solver_noise=None),
    spoken(Noisy, solver=None, solver_space="flow", dtype="float32"),
    spoken(InSigma, solver=None, solver_grid="sigma"),
    spoken(OfNoise, parameterization="x_0", solver=None, dtype="float32"),
]
