"""Mutants of solvers over given levels: wrong ratios, points, stages, levels, ends and noises."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from refdiff.oracle import Target
from tests.zoo.chapters_own import MORE_CHAPTERS
from tests.zoo.known import KNOWN
from tests.zoo.solvers import (
    Ancestral,
    Churned,
    Corrected,
    Drawing,
    EqualSteps,
    Heun,
    Middle,
    Multistep,
    RungeKutta,
    Stochastic,
    Straight,
    Textbook,
    ThreePoints,
    TwoPoints,
    data_of,
)


def wrong(
    id: str, family: str, original: type[Target], *also: str, spoken: Any = None, **methods: Any
) -> None:
    """A mutant of a solver."""
    changes: dict[str, Any] = {"dialect": original.dialect.but(**spoken)} if spoken else {}
    if "solver" not in (spoken or {}):
        # what is judged is the order, not the name
        changes["dialect"] = changes.get("dialect", original.dialect).but(solver=None)
    registry = MORE_CHAPTERS if id.startswith("own-") else KNOWN
    registry(id, family, *also)(type(id.title().replace("-", ""), (original,), methods | changes))


# entries of the list of known mistakes

wrong("IDX-21", "index", Heun, steps=lambda self: range(1, self.count))
wrong(
    "PAR-03",
    "parameterization",
    Heun,
    spoken={"parameterization": "v"},
    second=lambda self, predicted, y, i: stale_level(self, predicted, i),
)
wrong("T0-09", "noise-at-t0", TwoPoints, clean=lambda self, x_0, i: no_end(self, i))
wrong("DSC-03", "discretization", ThreePoints, curvature=0.0)
wrong("DSC-05", "discretization", Middle, guarded=lambda self, low: False)
wrong("DSC-07", "discretization", Churned, s_noise=Churned.gamma)
wrong("DSC-09", "discretization", Churned, ask_hat=lambda self, y, i: self.ask(y, i))
wrong("DSC-14", "discretization", Stochastic, ask=lambda self, y, i: two_noises(self, y, i))
wrong("STA-09", "state-broadcast", TwoPoints, extrapolated=lambda self, i: unset(self, i))
wrong("own-slv-flow-shift-of-the-label", "schedule", Straight, label=lambda self, a, s, i: shifted(s, i))


def stale_level(self: Any, predicted: Tensor, i: int) -> Tensor:
    """The network is asked at the next level, its answer is read with the first one's."""
    x = predicted * self.levels[0][i + 1]
    output = self.model(x, self.levels[0][i + 1], self.levels[1][i + 1])
    x_0 = data_of("v", predicted * self.levels[0][i], self.levels[0][i], self.levels[1][i], output)
    return (predicted - x_0) / self.sigmas[i + 1]


def no_end(self: Any, i: int) -> Tensor:
    """The step of second order where the last level has no noise: its λ is infinite."""
    (before, h_before), (x_0, h) = self.history[-2:]
    return x_0 + (x_0 - before) * h / (2 * h_before)


def two_noises(self: Any, y: Tensor, i: int) -> Tensor:
    """The question is asked at a state that has noise of its own."""
    if i == 0 or self.sigmas[i + 1] == 0:
        return TwoPoints.ask(self, y, i)
    more = 0.1 * self.sigmas[i]
    return self.ask_at(y + more * self.z(y), *self.level_of(math.hypot(self.sigmas[i], more)))


def unset(self: Any, i: int) -> Tensor:
    if self.dialect.solver_noise:
        h_last = self.h(i - 1)
    x_0, before = self.history[-1][0], self.history[max(i - 1, 0)][0]
    return x_0 + (x_0 - before) * self.h(i) / (2 * h_last)


def shifted(stds: Tensor, i: int) -> tuple[Tensor, Tensor]:
    t = stds[i] / (stds[i] + 3 * (1 - stds[i]))
    return 1 - t, t


def mutant(id: str, family: str, original: type[Target], *also: str, **given: Any) -> None:
    """A mistake that is on no list."""
    wrong(f"own-slv-{id}", family, original, *also, **given)


# the ratio of the steps, the difference, the points

mutant("2m-ratio-upside-down", "discretization", TwoPoints, between=lambda self, a, b, r: a + (a - b) * r / 2)
mutant("2m-ratio-missing", "discretization", TwoPoints, between=lambda self, a, b, r: a + (a - b) / 2)
mutant("2m-half-missing", "discretization", TwoPoints, between=lambda self, a, b, r: a + (a - b) / r)
mutant("2m-quarter", "discretization", TwoPoints, between=lambda self, a, b, r: a + (a - b) / (4 * r))
mutant("2m-against", "sign", TwoPoints, between=lambda self, a, b, r: a - (a - b) / (2 * r))
mutant("2m-history-ignored", "discretization", TwoPoints, between=lambda self, a, b, r: a)
mutant(
    "2m-last-one-again",
    "discretization",
    TwoPoints,
    "index",
    between=lambda self, a, b, r: b + (a - b) / (2 * r),
)
mutant(
    "2m-first-one-kept", "discretization", TwoPoints, "index",
    extrapolated=lambda self, i: kept_first(self, i),
)  # fmt: skip
mutant(
    "2m-noise-for-data",
    "parameterization",
    TwoPoints,
    "discretization",
    "index",
    ask=lambda self, y, i: (y - TwoPoints.ask(self, y, i)) / self.sigmas[i],
)
mutant(
    "2m-h-of-variances",
    "discretization",
    TwoPoints,
    "sqrt",
    "parameterization",
    h=lambda self, i: 2 * TwoPoints.h(self, i),
)
mutant(
    "2m-h-against",
    "sign",
    TwoPoints,
    "parameterization",
    "discretization",
    h=lambda self, i: -TwoPoints.h(self, i),
)
mutant("3m-curvature-halved", "discretization", ThreePoints, curvature=1.0)
mutant("3m-curvature-doubled", "discretization", ThreePoints, curvature=4.0)
mutant("3m-curvature-against", "discretization", ThreePoints, "sign", curvature=-2.0)
mutant("ab2-equal-steps-assumed", "discretization", Multistep, ratio=lambda self, i, h: 1.0)
mutant(
    "ab2-ratio-upside-down",
    "discretization",
    Multistep,
    ratio=lambda self, i, h: 1 / Multistep.ratio(self, i, h),
)
mutant("ab2-twice", "discretization", Multistep, ratio=lambda self, i, h: 2 * Multistep.ratio(self, i, h))
mutant("ab4-one-sign", "discretization", EqualSteps, "sign", weights=(55.0, -59.0, 37.0, 9.0))
mutant("ab4-one-digit", "discretization", EqualSteps, weights=(55.0, -58.0, 37.0, -10.0))
mutant("ab4-three-points", "discretization", EqualSteps, weights=(46.0, -32.0, 10.0, 0.0))

# stages

mutant("heun-thirds", "discretization", Heun, weights=(2 / 3, 1 / 3))
mutant("heun-sum", "discretization", Heun, "variance", "parameterization", weights=(1.0, 1.0))
mutant("heun-first-twice", "discretization", Heun, second=lambda self, p, y, i: self.slope(y, i))
mutant("heun-asks-the-old-state", "index", Heun, second=lambda self, p, y, i: self.slope(y, i + 1))
mutant(
    "heun-asks-the-old-level", "index", Heun, "schedule",
    second=lambda self, p, y, i: (p - self.ask(p, i)) / self.sigmas[i + 1],
)  # fmt: skip
mutant("heun-against", "sign", Heun, "discretization", weights=(1.5, -0.5))
mutant("middle-of-sigma-asked", "schedule", Middle, asked_middle=lambda self, a, b: (a + b) / 2)
mutant("middle-averaged", "discretization", Middle, combined=lambda self, a, b: (a + b) / 2)
mutant("middle-at-a-third", "discretization", Middle, middle=lambda self, a, b: a ** (2 / 3) * b ** (1 / 3))
mutant(
    "rk4-without-twos",
    "discretization",
    RungeKutta,
    classical=lambda self, y, i, h, f: one_each(self, y, i, h, f),
)
mutant(
    "unipc-corrector-half",
    "discretization",
    Corrected,
    "parameterization",
    corrected=lambda self, i, n: trapezoid(self, i, n),
)
mutant("unipc-two-bases", "discretization", Corrected, base_c=lambda self, h: -h)
mutant(
    "unipc-correction-forgotten",
    "discretization",
    Corrected,
    corrected=lambda self, i, n: forgotten(self, i, n),
)

# levels, states and ends

mutant(
    "asks-the-next-level",
    "index",
    Textbook,
    ask=lambda self, y, i: Textbook.ask(self, y, min(i + 1, self.count - 1)),
)
mutant("one-step-short", "index", Textbook, steps=lambda self: range(self.count - 1))
mutant(
    "starts-scaled",
    "data-scaling",
    Textbook,
    "parameterization",
    start=lambda self, x: x / self.levels[0][0] * self.sigmas[0],
)
mutant(
    "uphill",
    "sign",
    Textbook,
    step=lambda self, y, i: y - (self.sigmas[i + 1] - self.sigmas[i]) * self.slope(y, i),
)
mutant(
    "euler-in-log-sigma", "parameterization", Textbook, "discretization", "index", "schedule",
    step=lambda self, y, i: y - math.log(self.sigmas[i] / self.sigmas[i + 1]) * (y - self.ask(y, i)),
)  # fmt: skip
mutant("divides-by-the-last-level", "noise-at-t0", Textbook, step=lambda self, y, i: divided(self, y, i))
mutant(
    "answers-in-half",
    "precision",
    Textbook,
    ask=lambda self, y, i: Textbook.ask(self, y.half().to(y.dtype), i).half().to(y.dtype),
    step=lambda self, y, i: Textbook.step(self, y, i).half().to(y.dtype),
)
mutant(
    "clips-data",
    "data-scaling",
    Textbook,
    "convention",
    ask=lambda self, y, i: Textbook.ask(self, y, i).clamp(-1, 1),
)
mutant(
    "changes-its-state", "state-broadcast", Textbook, start=lambda self, x: x.div_(self.levels[0][0]).clone()
)
mutant(
    "mean-of-the-batch",
    "state-broadcast",
    Textbook,
    "data-scaling",
    ask=lambda self, y, i: Textbook.ask(self, y, i) + 0.01 * y.mean(0),
)
mutant(
    "flow-doubled",
    "discretization",
    Straight,
    "index",
    "schedule",
    "parameterization",
    dt=lambda self, s, i: 2 * (s[i + 1] - s[i]),
)
mutant("flow-backwards", "sign", Straight, "index", "schedule", dt=lambda self, s, i: s[i] - s[i + 1])

# noises

mutant("noise-not-declared", "noise-at-t0", Ancestral, spoken={"solver_noise": False})
mutant(
    "noise-forgotten", "noise-at-t0", Ancestral, "variance", "schedule", z=lambda self, y: torch.zeros_like(y)
)
mutant(
    "noise-of-changing-signs", "sign", Ancestral,
    spoken={"strong_order": 1.0}, z=lambda self, y: changing(self),
)  # fmt: skip
mutant("up-squared", "variance", Ancestral, "sqrt", up=lambda self, a, b: b * (1 - (b / a) ** 2))
mutant("up-of-the-old-level", "variance", Ancestral, up=lambda self, a, b: a * math.sqrt(1 - (b / a) ** 2))
mutant("noise-of-one-row", "state-broadcast", Drawing, z=lambda self, y: torch.randn_like(y[:1]))
mutant("uniform-noise", "state-broadcast", Drawing, "noise-at-t0", z=lambda self, y: torch.rand_like(y) - 0.5)
mutant(
    "both-noises",
    "state-broadcast",
    Drawing,
    "variance",
    z=lambda self, y: (next(self.noises) + torch.randn_like(y)) / math.sqrt(2),
)
mutant(
    "sde-kept-of-the-ode",
    "variance",
    Stochastic,
    "discretization",
    "parameterization",
    "index",
    "schedule",
    kept=lambda self, h: math.exp(-h),
)
mutant("sde-fresh-of-the-ode", "variance", Stochastic, fresh=lambda self, h: math.sqrt(-math.expm1(-h)))
mutant("sde-noise-at-the-end", "noise-at-t0", Stochastic, clean=lambda self, x_0, i: x_0 + 0.01 * self.z(x_0))
mutant(
    "sde-ratio-upside-down", "discretization", Stochastic, between=lambda self, a, b, r: a + (a - b) * r / 2
)
mutant("sde-history-ignored", "discretization", Stochastic, between=lambda self, a, b, r: a)


def changing(self: Any) -> Tensor:
    """The law is right, but the noises of neighbouring steps do not add up to that of a longer one."""
    self.signed = -getattr(self, "signed", -1)
    return self.signed * next(self.noises)


def kept_first(self: Any, i: int) -> Tensor:
    (before, h_before), (x_0, h) = self.history[0], self.history[-1]
    return x_0 if i == 0 else x_0 + (x_0 - before) * h / (2 * h_before)


def one_each(self: Any, y: Tensor, i: int, h: float, first: Tensor) -> Tensor:
    exact = EqualSteps.classical(self, y, i, h, first)
    return (6 * exact - first - self.slope(y + h * first, i + 1)) / 4


def trapezoid(self: Any, i: int, x_new: Tensor) -> Tensor:
    (x_0, h), y = self.history[-1], self.state
    return y * math.exp(-h) - math.expm1(-h) * (x_0 + (x_new - x_0) / 2)


def forgotten(self: Any, i: int, x_new: Tensor) -> Tensor:
    (x_0, h), y = self.history[-1], self.state
    return y * math.exp(-h) - math.expm1(-h) * x_0


def divided(self: Any, y: Tensor, i: int) -> Tensor:
    low, high = self.sigmas[i + 1], self.sigmas[i]
    return low * (y / high) + (1 / low - 1 / high) * low * self.ask(y, i)
