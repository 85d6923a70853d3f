"""Correct solvers over given levels, in several conventions, from which a mutant differs in one place."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from refdiff.oracle import Dialect, Target


def data_of(kind: str, x: Tensor, scale: float, std: float, output: Tensor) -> Tensor:
    """x_0 from what a network predicts."""
    if kind == "x_0":
        return output
    if kind == "v":
        return (scale * x - std * output) / (scale**2 + std**2)
    eps = -std * output if kind == "score" else output
    return (x - std * eps) / scale


class Textbook(Target):
    """States divided by the scale, y = x / scale, so that dy / dsigma is the noise: a step is Euler's."""

    dialect = Dialect(order=1, solver_noise=False, solver="ddim")

    def solve(self, model: Any, x: Tensor, scales: Tensor, stds: Tensor, noises: Tensor) -> Tensor:
        self.levels = scales.double().tolist(), stds.double().tolist()
        self.sigmas, self.noises = [b / a for a, b in zip(*self.levels, strict=True)], iter(noises)
        self.model, self.history, self.count = model, [], len(scales) - 1
        y = self.start(x)
        for i in self.steps():
            y = self.step(y, i)
        return y * self.levels[0][-1]

    def start(self, x: Tensor) -> Tensor:
        return x / self.levels[0][0]

    def steps(self) -> range:
        return range(self.count)

    def ask(self, y: Tensor, i: int) -> Tensor:
        """x_0 at level i."""
        return self.ask_at(y, self.levels[0][i], self.levels[1][i])

    def ask_at(self, y: Tensor, scale: float, std: float) -> Tensor:
        x = y * scale
        return data_of(self.dialect.parameterization, x, scale, std, self.model(x, scale, std))

    def level_of(self, sigma: float) -> tuple[float, float]:
        """Scale and std of a level between the given ones."""
        space = self.dialect.solver_space
        if space == "ve":
            return 1.0, sigma
        scale = (1 + sigma**2) ** -0.5 if space == "vp" else 1 / (1 + sigma)
        return scale, scale * sigma

    def slope(self, y: Tensor, i: int) -> Tensor:
        """The noise at level i."""
        return (y - self.ask(y, i)) / self.sigmas[i]

    def step(self, y: Tensor, i: int) -> Tensor:
        return y + (self.sigmas[i + 1] - self.sigmas[i]) * self.slope(y, i)

    def z(self, y: Tensor) -> Tensor:
        return next(self.noises)


class Heun(Textbook):
    """Heun's steps in sigma, of Euler's kind where the last level has no noise."""

    dialect = Dialect(order=2, start_order=2)
    weights = (0.5, 0.5)

    def step(self, y: Tensor, i: int) -> Tensor:
        h, first = self.sigmas[i + 1] - self.sigmas[i], self.slope(y, i)
        if self.sigmas[i + 1] == 0:
            return y + h * first
        second = self.second(y + h * first, y, i)
        return y + h * (self.weights[0] * first + self.weights[1] * second)

    def second(self, predicted: Tensor, y: Tensor, i: int) -> Tensor:
        return self.slope(predicted, i + 1)


class Churned(Heun):
    """The stochastic sampler of Karras et al.: more noise before a step of Heun's."""

    dialect = Dialect(order=2, solver_noise=True)
    gamma, s_noise = 0.2, 1.0

    def step(self, y: Tensor, i: int) -> Tensor:
        low = self.sigmas[i]
        self.hat = low * (1 + self.gamma / self.count * 12)
        y = y + self.added(low, self.hat) * self.z(y)
        h, first = self.sigmas[i + 1] - self.hat, (y - self.ask_hat(y, i)) / self.hat
        if self.sigmas[i + 1] == 0:
            return y + h * first
        return y + h * (first + self.slope(y + h * first, i + 1)) / 2

    def added(self, low: float, hat: float) -> float:
        return math.sqrt(hat**2 - low**2) * self.s_noise

    def ask_hat(self, y: Tensor, i: int) -> Tensor:
        return self.ask_at(y, *self.level_of(self.hat))


class Middle(Textbook):
    """The second question in the middle of λ (DPM-Solver-2)."""

    dialect = Dialect(order=2, start_order=2, solver="dpm_2")

    def step(self, y: Tensor, i: int) -> Tensor:
        low, high = self.sigmas[i + 1], self.sigmas[i]
        first = self.slope(y, i)
        if self.guarded(low):
            return y + (low - high) * first
        middle = self.middle(high, low)
        y_m = y + (middle - high) * first
        asked = self.asked_middle(high, low)
        second = (y_m - self.ask_at(y_m, *self.level_of(asked))) / asked
        return y + (low - high) * self.combined(first, second)

    def guarded(self, low: float) -> bool:
        return low == 0

    def middle(self, high: float, low: float) -> float:
        return math.sqrt(high * low)

    def asked_middle(self, high: float, low: float) -> float:
        return self.middle(high, low)

    def combined(self, first: Tensor, second: Tensor) -> Tensor:
        return second


class TwoPoints(Textbook):
    """DPM-Solver++(2M): data extrapolated in λ to the middle of the step."""

    dialect = Dialect(order=2, start_order=1, solver="dpmpp_2m")

    def step(self, y: Tensor, i: int) -> Tensor:
        x_0, h = self.ask(y, i), self.h(i)
        self.history.append((x_0, h))
        if self.sigmas[i + 1] == 0:
            return self.clean(x_0, i)
        x_0 = self.extrapolated(i)
        return y * math.exp(-h) - math.expm1(-h) * x_0

    def clean(self, x_0: Tensor, i: int) -> Tensor:
        return x_0

    def h(self, i: int) -> float:
        low = self.sigmas[i + 1]
        return math.log(self.sigmas[i] / low) if low else math.inf

    def extrapolated(self, i: int) -> Tensor:
        if i == 0:
            return self.history[0][0]
        (before, h_before), (x_0, h) = self.history[-2:]
        return self.between(x_0, before, h_before / h)

    def between(self, x_0: Tensor, before: Tensor, r: float) -> Tensor:
        return x_0 + (x_0 - before) / (2 * r)


class ThreePoints(TwoPoints):
    """Data through three points in λ, integrated."""

    dialect = Dialect(order=3, start_order=1, solver="dpmpp_3m")
    curvature = 2.0

    def step(self, y: Tensor, i: int) -> Tensor:
        x_0, h = self.ask(y, i), self.h(i)
        self.history.append((x_0, h))
        if self.sigmas[i + 1] == 0:
            return self.clean(x_0, i)
        phi_1 = -math.expm1(-h)
        y = y * math.exp(-h) + phi_1 * x_0
        phi_2 = 1 - phi_1 / h
        if i == 0:
            return y
        (x_1, h_1) = self.history[-2]
        d_0, r_0 = (x_0 - x_1) * h / h_1, h_1 / h
        if i == 1:
            return y + phi_2 * d_0
        x_2, h_2 = self.history[-3]
        d_1, r_1 = (x_1 - x_2) * h / h_2, h_2 / h
        second = (d_0 - d_1) / (r_0 + r_1)
        phi_3 = 0.5 - phi_2 / h
        return y + phi_2 * (d_0 + r_0 * second) + self.curvature * phi_3 * second


class Multistep(Textbook):
    """Adams and Bashforth's two points in sigma, with the steps that there are."""

    dialect = Dialect(order=2, start_order=1)

    def step(self, y: Tensor, i: int) -> Tensor:
        self.history.append(self.slope(y, i))
        h = self.sigmas[i + 1] - self.sigmas[i]
        if i == 0:
            return y + h * self.history[0]
        ratio = self.ratio(i, h)
        return y + h * (self.history[-1] + ratio / 2 * (self.history[-1] - self.history[-2]))

    def ratio(self, i: int, h: float) -> float:
        return h / (self.sigmas[i] - self.sigmas[i - 1])


class EqualSteps(Textbook):
    """Adams and Bashforth's four points for levels even in sigma, after three steps of Runge and Kutta."""

    dialect = Dialect(order=4, solver_grid="sigma")
    weights = (55.0, -59.0, 37.0, -9.0)

    def step(self, y: Tensor, i: int) -> Tensor:
        h, first = self.sigmas[i + 1] - self.sigmas[i], self.slope(y, i)
        self.history.insert(0, first)
        if self.sigmas[i + 1] == 0:
            return y + h * first
        if i < 3:
            return y + h * self.classical(y, i, h, first)
        return y + h / 24 * sum(w * value for w, value in zip(self.weights, self.history, strict=False))

    def classical(self, y: Tensor, i: int, h: float, first: Tensor) -> Tensor:
        sigma = self.sigmas[i] + h / 2

        def at(y: Tensor) -> Tensor:
            return (y - self.ask_at(y, *self.level_of(sigma))) / sigma

        second = at(y + h / 2 * first)
        third = at(y + h / 2 * second)
        return (first + 2 * second + 2 * third + self.slope(y + h * third, i + 1)) / 6


class RungeKutta(EqualSteps):
    """Four questions a step in sigma."""

    dialect = Dialect(order=4, start_order=4)

    def step(self, y: Tensor, i: int) -> Tensor:
        h, first = self.sigmas[i + 1] - self.sigmas[i], self.slope(y, i)
        return y + h * (first if self.sigmas[i + 1] == 0 else self.classical(y, i, h, first))


class Corrected(TwoPoints):
    """UniPC with two points: the next step's question corrects the state that it is asked at."""

    dialect = Dialect(order=3, start_order=1, solver="unipc_2")

    def base(self, h: float) -> float:
        """B(h)."""
        return math.expm1(-h)

    def step(self, y: Tensor, i: int) -> Tensor:
        x_0 = self.ask(y, i)
        if i:
            y = self.corrected(i, x_0)
        self.history.append((x_0, self.h(i)))
        self.state = y
        if self.sigmas[i + 1] == 0:
            return x_0
        h = self.h(i)
        y_s = y * math.exp(-h) - math.expm1(-h) * x_0
        if i:
            before, h_before = self.history[-2]
            y_s = y_s - self.base(h) / 2 * (before - x_0) / (-h_before / h)
        return y_s

    def corrected(self, i: int, x_new: Tensor) -> Tensor:
        (x_0, h), y = self.history[-1], self.state
        plain = y * math.exp(-h) - math.expm1(-h) * x_0
        phi_1 = math.expm1(-h) / -h - 1
        b_1, b_2 = phi_1 / self.base_c(h), 2 * (phi_1 / -h - 0.5) / self.base_c(h)
        if i == 1:
            return plain - self.base(h) * 0.5 * (x_new - x_0)
        before, h_before = self.history[-2]
        r = -h_before / h
        rho_1 = (b_1 - b_2) / (1 - r)
        rho_2 = b_1 - rho_1
        return plain - self.base(h) * (rho_1 / r * (before - x_0) + rho_2 * (x_new - x_0))

    def base_c(self, h: float) -> float:
        return self.base(h)


class Ancestral(Textbook):
    """Euler's step to a lower level, and noise up to the next one."""

    dialect = Dialect(order=1, solver_noise=True)

    def step(self, y: Tensor, i: int) -> Tensor:
        high, low = self.sigmas[i], self.sigmas[i + 1]
        down = low**2 / high
        y = y + (down - high) * self.slope(y, i)
        return y if low == 0 else y + self.up(high, low) * self.z(y)

    def up(self, high: float, low: float) -> float:
        return low * math.sqrt(1 - (low / high) ** 2)


class Stochastic(TwoPoints):
    """SDE-DPM-Solver++(2M)."""

    dialect = Dialect(order=2, start_order=1, solver_noise=True, solver="sde_dpmpp_2m")

    def step(self, y: Tensor, i: int) -> Tensor:
        x_0, h = self.ask(y, i), self.h(i)
        self.history.append((x_0, h))
        if self.sigmas[i + 1] == 0:
            return self.clean(x_0, i)
        y = y * self.kept(h) - math.expm1(-2 * h) * self.extrapolated(i)
        return y + self.sigmas[i + 1] * self.fresh(h) * self.z(y)

    def kept(self, h: float) -> float:
        return math.exp(-2 * h)

    def fresh(self, h: float) -> float:
        return math.sqrt(-math.expm1(-2 * h))


class Drawing(Ancestral):
    """The same, with draws of its own."""

    def z(self, y: Tensor) -> Tensor:
        return torch.randn_like(y)


class Straight(Target):
    """Euler's steps of a flow: levels (1 - t, t), the velocity of the straight path."""

    dialect = Dialect(order=1, start_order=1, solver_space="flow", parameterization="x_0", solver="ddim")

    def solve(self, model: Any, x: Tensor, scales: Tensor, stds: Tensor, noises: Tensor) -> Tensor:
        for i in range(len(stds) - 1):
            velocity = (x - model(x, *self.label(scales, stds, i))) / stds[i]
            x = x + self.dt(stds, i) * velocity
        return x

    def label(self, scales: Tensor, stds: Tensor, i: int) -> tuple[Tensor, Tensor]:
        return scales[i], stds[i]

    def dt(self, stds: Tensor, i: int) -> Tensor:
        return stds[i + 1] - stds[i]


def spoken(cls: type[Target], **changes: Any) -> Callable[[], Target]:
    """The same solver in another convention."""

    def make() -> Target:
        target = cls()
        target.dialect = cls.dialect.but(**changes)
        target.name = f"{cls.__name__}({', '.join(f'{k}={v}' for k, v in changes.items())})"
        return target

    return make


ORIGINALS: list[Callable[[], Target]] = [
    Textbook, Heun, spoken(Churned, strong_order=1.0), Middle, TwoPoints, ThreePoints, Multistep, EqualSteps,
    RungeKutta, Corrected, Ancestral, Stochastic, spoken(Drawing, strong_order=1.0), Straight,
]  # fmt: skip
CONVENTIONS: list[Callable[[], Target]] = [
    spoken(Textbook, solver_space="ve", parameterization="x_0"),
    spoken(Heun, solver_space="ve"),
    spoken(Heun, parameterization="v"),
    spoken(Middle, solver_space="flow", parameterization="x_0"),
    spoken(TwoPoints, parameterization="score"),
    spoken(TwoPoints, solver_space="ve", parameterization="v"),
    spoken(TwoPoints, dtype="float32"),
    spoken(Stochastic, solver_space="ve", solver=None, strong_order=1.0),
    spoken(Ancestral, dtype="float32", order=None, solver_noise=None, strong_order=1.0),
    spoken(Heun, order=None, start_order=None),
]
