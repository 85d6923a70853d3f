"""Objectives on the levels of a noise schedule: DDPM's three predictions, the hybrid, a classifier."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from refdiff import _check, ddpm, parameterization, vlb
from refdiff._objective_base import (
    Draws,
    Kind,
    Network,
    Objective,
    Spacing,
    batch_of,
    normal,
    times_level,
)
from refdiff.kernel import reduced
from refdiff.nets import halves
from refdiff.process import Process, from_schedule
from refdiff.schedule import SCHEDULES, Schedule, subsequence, take
from refdiff.solver import Levels

Weight = Literal["simple", "bound", "min_snr"]
Prediction = Literal["eps", "x_0", "v"]


@dataclass(frozen=True)
class OnSchedule(Objective):
    """What the objectives of a schedule share.

    Args:
        schedule: name of the schedule, one of ``schedule.SCHEDULES``.
        T: number of its steps.
        schedule_settings: its other arguments.
    """

    schedule: str = "linear"
    T: int = 1000
    schedule_settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {self.schedule!r}")
        _check.count("T", self.T, minimum=2)

    @cached_property
    def table(self) -> Schedule:
        """The schedule."""
        try:
            return SCHEDULES[self.schedule](T=self.T, **self.schedule_settings)
        except TypeError as error:
            raise ValueError(f"schedule_settings must be arguments of {self.schedule}: {error}") from None

    def draw(self, x_0: Tensor, generator: torch.Generator, step: int = 0, steps: int = 1) -> Draws:
        """t, uniform in 1..T, and the noise."""
        t = torch.randint(1, self.T + 1, (x_0.shape[0],), generator=generator)
        return {"t": t, "noise": normal(x_0, generator)}

    def time(self, scale: Tensor, std: Tensor) -> Tensor:
        r"""The level t, not a whole number in general, of a log signal-to-noise ratio: linear in λ between
        neighbours of the schedule.

        Raises:
            ValueError: a level outside 1..T.
        """
        last = self.table.last_signal
        rising = self.table.log_snr[1 : last + 1].flip(0).to(std.device) / 2
        value = (scale.log() - std.log()).double()
        # a level of the schedule itself may come back off by a few roundings of scale, std and logarithms;
        # what is beyond an end by so little is taken for it below
        slack = 64 * torch.finfo(torch.float64).eps * (1 + float(value.abs()))
        if not float(rising[0]) - slack <= float(value) <= float(rising[-1]) + slack:
            bounds = f"{float(rising[0]):.6g}..{float(rising[-1]):.6g}"
            message = f"log(scale / std) must lie in {bounds}, the levels 1..{last}"
            raise ValueError(f"{message}, got {float(value)}")
        i = torch.searchsorted(rising, value).clamp(1, last - 1)
        low, high = rising[i - 1], rising[i]
        share = ((value - low) / (high - low)).clamp(0, 1)
        return last - (i - 1 + share)

    def process(self) -> Process:
        """The process of a rate that is constant between neighbours of the schedule."""
        return from_schedule(self.table)

    @property
    def span(self) -> tuple[float, float]:
        """The times of levels 1 and T."""
        return 1 / self.T, self.table.last_signal / self.T

    def _own_levels(self, n: int) -> Levels:
        schedule, visited = self.chain(n)
        at = torch.tensor(visited)
        return Levels(schedule.sqrt_alpha_bar[at], schedule.sqrt_one_minus_alpha_bar[at], "vp")

    def chain(self, n: int, spacing: Spacing = "own") -> tuple[Schedule, list[int]]:
        """The schedule itself and n of its levels ("trailing"), or a schedule through other levels."""
        if spacing != "own":
            return super().chain(n, spacing)
        return self.table, list(subsequence(self.table.last_signal, n, "trailing"))


@dataclass(frozen=True)
class Predicting(OnSchedule):
    """What the objectives share whose network predicts noise, data or velocity at a level t."""

    prediction: ClassVar[Prediction] = "eps"

    def eps(self, net: Network, x: Tensor, scale: Tensor, std: Tensor, label: Tensor | None = None) -> Tensor:
        size = torch.hypot(scale, std)
        x_t, a, b = times_level(1 / size, x), scale / size, std / size
        output = self._mean_part(net(x_t, batch_of(self.time(scale, std), x), label))
        if self.prediction == "eps":
            return output
        if self.prediction == "x_0":
            return times_level(1 / b, x_t) - times_level(a / b, output)
        return times_level(b, x_t) + times_level(a, output)

    def eps_of_chain(
        self, net: Network, schedule: Schedule, x_t: Tensor, t: int, label: Tensor | None = None
    ) -> Tensor:
        """At the levels of the schedule itself no time is looked up."""
        if schedule is not self.table:
            return super().eps_of_chain(net, schedule, x_t, t, label)
        output = self._mean_part(net(x_t, batch_of(torch.tensor(t), x_t), label))
        return parameterization.convert(schedule, x_t, t, output, self.prediction, "eps")

    def _mean_part(self, output: Tensor) -> Tensor:
        return halves(output)[0] if self.learned_variance else output


@dataclass(frozen=True)
class DDPM(Predicting):
    r"""The squared error of what is predicted at a level t, uniform in 1..T, and a noise.

    .. math:: w_t\,\tfrac1D\|y-y_\theta(x_t,t)\|^2,\qquad x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}
        \,\epsilon

    where y is the noise ("ddpm"), the data ("ddpm_x0") or the velocity ("ddpm_v").

    Args:
        schedule, T, schedule_settings: the schedule.
        weight: "simple" is 1; "bound" that of the term L_{t-1} of the variational bound with σ_t² = β_t, or
            of L_0 with a Gaussian decoder; "min_snr" min(SNR, γ) for the error of the data, whatever is
            predicted.
        gamma: γ of "min_snr".

    Reference: Ho et al. 2020, eq. 12 and 14; Salimans and Ho 2022; Hang et al. 2023, section 3.4.
    """

    weight: Weight = "simple"
    gamma: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight not in get_args(Weight):
            raise ValueError(f"weight must be one of {', '.join(get_args(Weight))}, got {self.weight!r}")
        _check.between("gamma", self.gamma, 0, float("inf"))

    @cached_property
    def weights(self) -> Tensor:
        r"""w_t of the squared error of what is predicted, float64, shape (T + 1,); entry 0 is not used.

        .. math:: w_{x_0}=\frac{w_\epsilon}{\text{SNR}^{-1}}=\frac{w_v}{1-\bar\alpha_t},\qquad
            w_{x_0}^{\text{bound}}=\frac{\bar\alpha_{t-1}\beta_t}{2(1-\bar\alpha_t)^2}
        """
        s = self.table
        if self.weight == "simple":
            return torch.ones_like(s.beta)
        noise = s.one_minus_alpha_bar[1:]
        before = s.alpha_bar[:-1] * s.beta[1:] / (2 * noise**2)
        of_x_0 = before if self.weight == "bound" else s.snr[1:].clamp(max=self.gamma)
        factor = {"x_0": torch.ones_like(noise), "v": noise, "eps": 1 / s.snr[1:]}[self.prediction]
        return torch.cat([s.beta[:1], of_x_0 * factor])

    def loss(self, net: Network, x_0: Tensor, label: Tensor | None, draws: Draws) -> Tensor:
        """The weighted squared error, a mean over the dimensions."""
        t, noise = draws["t"], draws["noise"]
        output = net(ddpm.q_sample(self.table, x_0, t, noise), t.double(), label)
        target = self._target(x_0, t, noise)
        _check.same(target=target, output=output)
        weight = take(self.weights, t).to(x_0.dtype)
        return weight * reduced((target - output) ** 2, "mean")

    def _target(self, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        if self.prediction == "eps":
            return noise
        if self.prediction == "x_0":
            return x_0
        # v from data and noise, of which a small level loses nothing, unlike v from x_t and data
        a, b = (self.table.at(f"sqrt_{of}", t, x_0) for of in ("alpha_bar", "one_minus_alpha_bar"))
        return a * noise - b * x_0


class DDPMData(DDPM):
    __doc__ = DDPM.__doc__
    prediction: ClassVar[Prediction] = "x_0"


class DDPMVelocity(DDPM):
    __doc__ = DDPM.__doc__
    prediction: ClassVar[Prediction] = "v"


@dataclass(frozen=True)
class Hybrid(Predicting):
    r"""The simple loss for the mean and the bound for the variance, see ``vlb.hybrid_loss``.

    Args:
        schedule, T, schedule_settings: the schedule.
        weight: λ of the bound.
        decoder: "density", or "discretized" for data of finitely many values in [−1, 1].
        bins: their number.

    Reference: Nichol and Dhariwal 2021, eq. 16.
    """

    weight: float = 0.001
    decoder: vlb.Decoder = "density"
    bins: int = 256
    learned_variance: ClassVar[bool] = True

    def loss(self, net: Network, x_0: Tensor, label: Tensor | None, draws: Draws) -> Tensor:
        """The hybrid loss, a mean over the dimensions."""

        def model(x_t: Tensor, t: _check.Level) -> tuple[Tensor, Tensor]:
            return halves(net(x_t, draws["t"].double(), label))

        given: dict[str, Any] = {"weight": self.weight, "decoder": self.decoder, "bins": self.bins}
        return vlb.hybrid_loss(model, self.table, x_0, draws["t"], draws["noise"], **given)

    def with_variance(
        self, net: Network, x_t: Tensor, t: int, label: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The predicted noise and the exponent f of the variance at a level of the schedule."""
        return halves(net(x_t, batch_of(torch.tensor(t), x_t), label))


@dataclass(frozen=True)
class Classification(OnSchedule):
    r"""The cross-entropy of a classifier of noised data, for guidance; t is uniform in 0..T.

    .. math:: -\log p_\theta(y\mid x_t,t)

    Reference: Dhariwal and Nichol 2021, section 4.
    """

    kind: ClassVar[Kind] = "classifier"

    def draw(self, x_0: Tensor, generator: torch.Generator, step: int = 0, steps: int = 1) -> Draws:
        """t, uniform in 0..T, and the noise."""
        t = torch.randint(self.T + 1, (x_0.shape[0],), generator=generator)
        return {"t": t, "noise": normal(x_0, generator)}

    def loss(self, net: Network, x_0: Tensor, label: Tensor | None, draws: Draws) -> Tensor:
        """The cross-entropy, nats."""
        if label is None:
            raise ValueError("label must be given to train a classifier, got None: the data have no classes")
        x_t = ddpm.q_sample(self.table, x_0, draws["t"], draws["noise"])
        return cross_entropy(net(x_t, draws["t"].double()), label, reduction="none")

    def log_probability(self, net: Network, x: Tensor, scale: Tensor, std: Tensor, label: Tensor) -> Tensor:
        r"""log p(y | x) of x = scale·x_0 + std·ε, shape (B,)."""
        x_t = times_level(1 / torch.hypot(scale, std), x)
        logits = net(x_t, batch_of(self.time(scale, std), x))
        return log_softmax(logits, 1).gather(1, label[:, None]).squeeze(1)
