r"""Exponential integrators of the probability-flow ODE, and of the reverse SDE, in the log-SNR λ.

With :math:`h=\lambda_s-\lambda_t` the solution is exact up to the model along the path, in both predictions:

.. math::
    x_s&=\frac{\mathrm{scale}_s}{\mathrm{scale}_t}x_t-\mathrm{std}_s\int_0^he^{h-\tau}\hat\epsilon\,
        \mathrm d\tau\\
    x_s&=\frac{\mathrm{std}_s}{\mathrm{std}_t}x_t+\mathrm{scale}_s\int_0^he^{\tau-h}\hat x_0\,\mathrm d\tau

A method replaces the integral by a sum over values of the model at some nodes. Its weights solve the order
conditions: they integrate polynomials up to some degree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args, overload

import torch
from torch import Tensor

from refdiff import _check
from refdiff._solver_base import (
    Levels,
    Model,
    NoiseLevel,
    Past,
    Solver,
    combine,
    predict_x_0,
    take,
)
from refdiff.kernel import Number, exp, expm1, sqrt

Prediction = Literal["eps", "x_0"]
Moments = Literal["exact", "bh1", "bh2", "halved"]
_TERMS = 20


@overload
def phi(k: int, z: Tensor) -> Tensor: ...
@overload
def phi(k: int, z: Number) -> Number: ...
def phi(k: int, z: Number) -> Number:
    r"""The functions of exponential integrators, without cancellation.

    .. math:: \varphi_k(z)=\int_0^1e^{(1-\theta)z}\frac{\theta^{k-1}}{(k-1)!}\,\mathrm d\theta
        =\sum_{n\ge0}\frac{z^n}{(n+k)!}

    Args:
        k: index, at least 1.
        z: a float or float64, any shape.

    Returns:
        Shaped like z.

    Reference: Hochbruck & Ostermann 2010 (formulas ``solver.phi_1`` to ``solver.phi_3``).
    """
    _check.count("k", k)
    if not isinstance(z, Tensor):
        return _series(k, z) if abs(z) < 1 else _recurrence(k, z)
    small = z.abs() < 1
    return torch.where(small, _series(k, z), _recurrence(k, torch.where(small, torch.ones_like(z), z)))


def _series(k: int, z: Number) -> Number:
    total = 0 * z
    for n in range(_TERMS, -1, -1):
        total = total * z + 1 / math.factorial(n + k)
    return total


def _recurrence(k: int, z: Number) -> Number:
    """It divides what is left of a difference by z: from |z| = 1 on it loses a few bits at most."""
    value = expm1(z) / z
    for j in range(1, k):
        value = (value - 1 / math.factorial(j)) / z
    return value


def moments(kind: Moments, count: int, z: Tensor) -> Tensor:
    r"""What the weights must give on 1, c, c², …, the nodes being c_j h.

    .. math:: \sum_jw_jc_j^n=n!\,\varphi_{n+1}(z)

    ``"exact"`` takes these. With two nodes a condition need only hold for small steps: ``"bh1"`` takes 1/2
    and ``"bh2"``, the midpoint type of DPM-Solver, takes φ₁/2 in place of φ₂. ``"halved"`` leaves out the
    factorial, as the third-order multistep step of several code bases does; its order is 2.

    Args:
        kind: "exact", "bh1", "bh2" or "halved".
        count: number of nodes.
        z: h or −h, by the prediction, 0-dim float64.

    Returns:
        float64, shape (count,).

    Reference: Zhao et al. 2023 (UniPC), theorem 3.1 (formulas ``solver.phi_1``, ``solver.unip_2``,
        ``solver.halved_3m_error``).
    """
    return torch.stack([torch.as_tensor(m, dtype=z.dtype, device=z.device) for m in _moments(kind, count, z)])


def _moments(kind: Moments, count: int, z: Number) -> list[Number]:
    first = phi(1, z)
    if kind in ("bh1", "bh2") and count == 2:
        return [first, 0.5 if kind == "bh1" else first / 2]
    factor = (lambda n: 1) if kind == "halved" else math.factorial
    return [first, *(factor(n) * phi(n + 1, z) for n in range(1, count))]


def weights(nodes: Sequence[Tensor], wanted: Tensor) -> Tensor:
    r"""The weights of the nodes that give the moments.

    .. math:: \sum_jw_jc_j^n=m_n,\qquad n=0,1,\dots

    Args:
        nodes: places c_j of the values of the model in units of the step, distinct, 0-dim float64.
        wanted: the moments m_n, float64, one for each node.

    Returns:
        float64, shaped like ``wanted``.

    Reference: formulas ``solver.weights_two`` and ``solver.weights_three``.
    """
    return torch.stack(_weights(nodes, list(wanted.unbind())))  # type: ignore[arg-type]


def _weights(nodes: Sequence[Number], wanted: Sequence[Number]) -> list[Number]:
    """The same by the elimination of Björck and Pereyra (1970), which knows that the rows are powers."""
    found, last = list(wanted), len(nodes) - 1
    for k in range(last):
        for i in range(last, k, -1):
            found[i] = found[i] - nodes[k] * found[i - 1]
    for k in range(last - 1, -1, -1):
        for i in range(k + 1, last + 1):
            found[i] = found[i] / (nodes[i] - nodes[i - k - 1])
        for i in range(k, last):
            found[i] = found[i] - found[i + 1]
    return found


@dataclass(frozen=True, eq=False)
class Frame:
    r"""The exact part of a step between two levels.

    .. math:: x_s=\mathrm{keep}\,x_t+\mathrm{gain}\,h\sum_jw_jm_j+\mathrm{noise}\,z

    The weights w_j of the values m_j of the model have the moments of ``argument``. All are floats between
    levels that bring floats, and else 0-dim float64.
    """

    keep: Number
    gain: Number
    noise: Number
    h: Number
    argument: Number


def frame(prediction: Prediction, t: NoiseLevel, s: NoiseLevel, eta: float = 0.0) -> Frame:
    r"""The frame of a step.

    With :math:`h=\lambda_s-\lambda_t`, the factors of x_t and of the integral, its exponent and the noise are

    .. math::
        \hat\epsilon:&\quad\mathrm{scale}_s/\mathrm{scale}_t,\ -(1+\eta)\,\mathrm{std}_s,\ h,\
            \mathrm{std}_s\sqrt{\eta\,(e^{2h}-1)}\\
        \hat x_0:&\quad e^{-\eta h}\,\mathrm{std}_s/\mathrm{std}_t,\ (1+\eta)\,\mathrm{scale}_s,\
            -(1+\eta)h,\ \mathrm{std}_s\sqrt{1-e^{-2\eta h}}

    Args:
        prediction: what the method interpolates, "eps" or "x_0".
        t, s: levels, s with less noise than t, and with some.
        eta: share of the reverse SDE's noise power; 0 is the ODE and 1 the reverse SDE.

    Returns:
        Frame.

    Reference: Lu et al. 2022 (DPM-Solver++), eq. 8 and section 5 (formulas ``solver.solution_eps``,
        ``solver.solution_x_0``, ``solver.sde_mean_x_0``, ``solver.sde_variance_eps``,
        ``solver.sde_variance_x_0``).
    """
    high, low = t.numbers, s.numbers
    h = low.log_snr - high.log_snr
    if prediction == "eps":
        noise = low.std * sqrt(eta * expm1(2 * h))
        return Frame(low.scale / high.scale, -(1 + eta) * low.std, noise, h, h)
    keep = low.std / high.std * exp(-eta * h)
    noise = low.std * sqrt(-expm1(-2 * eta * h))
    return Frame(keep, (1 + eta) * low.scale, noise, h, -(1 + eta) * h)


def ddim_coefficients(t: NoiseLevel, s: NoiseLevel) -> tuple[Tensor, Tensor]:
    r"""What DPM-Solver-1, which is deterministic DDIM, takes of x and of eps; s may be without noise.

    .. math:: x_s=\frac{\mathrm{scale}_s}{\mathrm{scale}_t}x_t-\mathrm{std}_s(e^h-1)\,\hat\epsilon

    Args:
        t, s: levels, s with less noise than t.

    Returns:
        The coefficients, 0-dim float64.

    Reference: Lu et al. 2022 (DPM-Solver), eq. 3.7 (formula ``solver.dpm_1``).
    """
    ratio = s.scale / t.scale
    on_eps = -s.std * torch.expm1(s.log_snr - t.log_snr)
    return ratio, torch.where(s.std == 0, -ratio * t.std, on_eps)


def advance(
    at: Frame, x: Tensor, outputs: Sequence[Tensor], nodes: Sequence[Number], kind: Moments
) -> Tensor:
    r"""The step without its noise, from values of the model at nodes c_j h.

    .. math:: \mathrm{keep}\,x_t+\mathrm{gain}\,h\sum_jw_jm_j

    Args:
        at: the frame of the step.
        x: the state where it begins, shape (B, *).
        outputs: values m_j of the model, each shaped like x.
        nodes: their places c_j, floats or 0-dim float64, the first of them 0.
        kind: the moments of the weights.

    Returns:
        Shaped like x.

    Reference: formulas ``solver.weights_two``, ``solver.weights_three``.
    """
    length = at.gain * at.h
    share = [length * w for w in _weights(nodes, _moments(kind, len(nodes), at.argument))]
    return combine([(at.keep, x), *zip(share, outputs, strict=True)])


@dataclass(frozen=True)
class Exponential(Solver):
    """What exponential integrators share.

    A step to a level without noise, where λ has no value, is of order 1 in each of them: it returns the
    predicted data. No other step changes its order by itself.

    Args:
        name: the key in the registry.
        order: the order of the sample.
        prediction: what is interpolated, "eps" or "x_0".
        kind: the moments of the weights.
        eta: share of the reverse SDE's noise power; 0 is the ODE.
        strong_order: for η > 0, the order at the same Brownian motion.
    """

    name: str
    order: int
    prediction: Prediction = "x_0"
    kind: Moments = "exact"
    eta: float = 0.0
    strong_order: float | None = None

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("prediction", self.prediction, get_args(Prediction)),
            ("kind", self.kind, get_args(Moments)),
        ):
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
        if not (math.isfinite(self.eta) and self.eta >= 0):
            raise ValueError(f"eta must be at least 0 and finite, got {self.eta}")

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        """Whether noises are taken."""
        return self.eta > 0

    def ask(self, model: Model, x: Tensor, at: NoiseLevel) -> Tensor:
        """The prediction that the method interpolates."""
        eps = model(x, at.scale, at.std)
        _check.same(x=x, eps=eps)
        return eps if self.prediction == "eps" else predict_x_0(x, eps, at.numbers)

    def onto_data(self, x: Tensor, output: Tensor, t: NoiseLevel, s: NoiseLevel) -> Tensor:
        """The step to a level without noise, of order 1 in every method: the predicted data, scaled."""
        high, low = t.numbers, s.numbers
        if self.prediction == "x_0":
            return combine([(low.scale, output)])
        return combine([(low.scale / high.scale, x), (-low.scale * high.sigma, output)])

    def frame(self, t: NoiseLevel, s: NoiseLevel) -> Frame:
        """The frame of a step of this method."""
        return frame(self.prediction, t, s, self.eta)


@dataclass(frozen=True)
class Multistep(Exponential):
    """Values of the model at the levels visited before: DPM-Solver, DPM-Solver++ and their SDE variants.

    Args:
        nodes: number of values of the model, 1 to 3, that a step uses when so many are there.
        lower_order_final: the last steps use one value less each, so that the last one uses one.

    Reference: Lu et al. 2022 (DPM-Solver++), algorithm 2 and section 5 (formulas ``solver.dpmpp_2m``,
        ``solver.dpmpp_2m_heun``, ``solver.dpmpp_3m``, ``solver.dpm_2m``, ``solver.sde_dpmpp_2m``).
    """

    nodes: int = 1
    lower_order_final: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.count("nodes", self.nodes)

    @property
    def history(self) -> int:  # type: ignore[override]
        """States before the first level that its step can use."""
        return self.nodes - 1

    @property
    def cold_order(self) -> int:
        """The first step, of order 1, has an error of h²."""
        return min(self.order, 2)

    def states(
        self, model: Model, x: Tensor, levels: Levels, draws: Iterator[Tensor], past: Past
    ) -> Iterator[Tensor]:
        known = remember(self, model, past, self.history)
        for index, (t, s) in enumerate(levels.pairs()):
            known = [(t.numbers.log_snr, self.ask(model, x, t)), *known][: self.nodes]
            left = levels.steps - index if self.lower_order_final else self.nodes
            x = self.step(x, t, s, known[:left], draws)
            yield x

    def step(
        self,
        x: Tensor,
        t: NoiseLevel,
        s: NoiseLevel,
        known: Sequence[tuple[Number, Tensor]],
        draws: Iterator[Tensor],
    ) -> Tensor:
        """One step from values of the model, (λ, value), the latest first."""
        if s.clean:
            return self.onto_data(x, known[0][1], t, s)
        at, start = self.frame(t, s), t.numbers.log_snr
        places = [(place - start) / at.h for place, _ in known]
        x = advance(at, x, [value for _, value in known], places, self.kind)
        return combine([(1.0, x), (at.noise, take(draws, x))]) if self.eta else x


def remember(solver: Exponential, model: Model, past: Past, history: int) -> list[tuple[Number, Tensor]]:
    """The values of the model at past states, (λ, value), the latest first."""
    latest = list(past)[::-1][:history]
    return [(at.numbers.log_snr, solver.ask(model, x, at)) for at, x in latest]


@dataclass(frozen=True)
class Singlestep(Exponential):
    r"""Values of the model at levels inside the step: DPM-Solver-2 and 3 and DPM-Solver++(2S) and (3S).

    Args:
        inner: one or two places of inner levels in the step, as shares of its length in λ, rising. Order 3
            needs the second at 2/3.
        every: the last stage uses all values (the Taylor type); otherwise the first and the last.

    Reference: Lu et al. 2022 (DPM-Solver), algorithms 4 and 5 (formulas ``solver.dpm_2``, ``solver.dpm_3``,
        ``solver.dpm_3_inner``, ``solver.dpmpp_2s``, ``solver.dpmpp_3s``).
    """

    inner: tuple[float, ...] = (0.5,)
    every: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.inner) not in (1, 2):
            raise ValueError(f"inner must hold 1 or 2 places, got {self.inner}")
        if any(not low < high for low, high in pairwise((0.0, *self.inner))) or self.inner[-1] > 1:
            raise ValueError(f"inner must rise within 0..1, without 0, got {self.inner}")
        if self.eta:
            raise ValueError(f"eta must be 0 for a singlestep method, got {self.eta}")
        if self.order > 2 and (len(self.inner) < 2 or self.inner[-1] != 2 / 3):
            raise ValueError(f"inner must have its second place at 2/3 for order 3, got {self.inner}")

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        """One at the beginning of the step and one at each inner level."""
        return 1 + len(self.inner)

    def states(
        self, model: Model, x: Tensor, levels: Levels, draws: Iterator[Tensor], past: Past
    ) -> Iterator[Tensor]:
        for t, s in levels.pairs():
            x = self.step(model, x, t, s, levels)
            yield x

    def step(self, model: Model, x: Tensor, t: NoiseLevel, s: NoiseLevel, levels: Levels) -> Tensor:
        """One step; each stage is a step of its own to an inner level, exact for what is known so far."""
        outputs, places = [self.ask(model, x, t)], [0.0]
        if s.clean:
            return self.onto_data(x, outputs[0], t, s)
        for share in self.inner:
            at_inner = levels.between(t, s, share)
            nodes = [place / share for place in places]
            stage = advance(self.frame(t, at_inner), x, outputs, nodes, "exact")
            outputs.append(self.ask(model, stage, at_inner))
            places.append(share)
        used = slice(None) if self.every else slice(None, None, len(self.inner))
        return advance(self.frame(t, s), x, outputs[used], places[used], self.kind)
