"""Objectives of continuous time: flow matching, variational diffusion, consistency without a teacher."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from refdiff import _check, consistency, flow, vdm
from refdiff._objective_base import Draws, Network, Objective, batch_of, normal, times_level, uniform
from refdiff.process import EDM, FromMarginals, Process
from refdiff.solver import Levels, karras_levels

TimeLaw = Literal["uniform", "logit_normal"]
Coupling = Literal["independent", "optimal"]


@dataclass(frozen=True)
class Flow(Objective):
    r"""Conditional flow matching, see ``flow.loss``; the network predicts the velocity and is asked at 1000t.

    .. math:: \tfrac1D\|u_\theta(x_t,t)-a'x_0-b'\epsilon\|^2

    Args:
        path: one of ``flow.PATHS``, data at time 0.
        path_settings: arguments of the path.
        time: the law of t: "uniform" from ``first`` on, or "logit_normal".
        coupling: "independent", or "optimal": noises are handed out to a batch so that the squared distances
            are least.
        first: the first time of training, and the last noisy one of samplers that end without noise.
        last: the first time of samplers that need a signal. Both are shares of the path's end.

    Reference: Lipman et al. 2023, eq. 9; Esser et al. 2024, section 3.1; Tong et al. 2024, section 3.3.
    """

    path: str = "rectified"
    path_settings: dict[str, Any] = field(default_factory=dict)
    time: TimeLaw = "uniform"
    coupling: Coupling = "independent"
    first: float = 1e-3
    last: float = 0.999

    def __post_init__(self) -> None:
        if self.path not in flow.PATHS:
            raise ValueError(f"path must be one of {', '.join(flow.PATHS)}, got {self.path!r}")
        for name, value, known in (("time", self.time, TimeLaw), ("coupling", self.coupling, Coupling)):
            if value not in get_args(known):
                raise ValueError(f"{name} must be one of {', '.join(get_args(known))}, got {value!r}")
        _check.between("first", self.first, 0, self.last)
        _check.between("last", self.last, self.first, 1)

    @cached_property
    def curve(self) -> flow.Path:
        """The path."""
        try:
            return flow.path(self.path, **self.path_settings)
        except TypeError as error:
            raise ValueError(f"path_settings must be arguments of {self.path}: {error}") from None

    def process(self) -> Process:
        """The process with the marginals of the path, until the signal is all but gone."""
        curve = self.curve
        return FromMarginals(lambda t: curve.scale(t).log(), lambda t: curve.std(t) ** 2, self.span[1])

    @property
    def span(self) -> tuple[float, float]:
        return self.first * self.curve.end, self.last * self.curve.end

    def draw(self, x_0: Tensor, generator: torch.Generator, step: int = 0, steps: int = 1) -> Draws:
        """Times, uniform or logit-normal, and the noise, coupled with the data."""
        count = x_0.shape[0]
        if self.time == "uniform":
            share = self.first + (1 - self.first) * uniform(count, generator)
        else:
            places = torch.randn(count, dtype=torch.float64, generator=generator)
            share = flow.logit_normal_time(places)
        t = self.curve.end * share
        noise = normal(x_0, generator)
        if self.coupling == "optimal":
            noise = noise[flow.assignment(x_0, noise)]
        return {"t": t, "noise": noise}

    def loss(self, net: Network, x_0: Tensor, label: Tensor | None, draws: Draws) -> Tensor:
        """The squared error of the velocity, a mean over the dimensions."""
        model = lambda x, t: self.velocity(net, x, t, label)  # noqa: E731
        return flow.loss(self.curve, model, x_0, draws["t"], draws["noise"], reduction="mean")

    def velocity(self, net: Network, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """The predicted velocity at a time of the path, float64 of shape () or (B,)."""
        return net(x, 1000 / self.curve.end * batch_of(t, x), label)

    def eps(self, net: Network, x: Tensor, scale: Tensor, std: Tensor, label: Tensor | None = None) -> Tensor:
        t = self.time_of(scale, std)
        at = times_level(self.curve.scale(t) / scale, x)
        return flow.eps_from_velocity(self.curve, at, t, self.velocity(net, at, t, label))

    def time_of(self, scale: Tensor, std: Tensor) -> Tensor:
        """The time of the path at a signal-to-noise ratio; of a curved one, by bisection to rounding."""
        if isinstance(self.curve, flow.Rectified):
            return std / (scale + std)
        wanted = float(scale.log() - std.log())
        low, high = 0.0, self.curve.end
        while True:
            middle = (low + high) / 2
            if middle in (low, high):
                return torch.tensor(middle, dtype=torch.float64, device=scale.device)
            low, high = (middle, high) if float(self.curve.log_snr(middle)) > wanted else (low, middle)


@dataclass(frozen=True)
class VDM(Objective):
    r"""The diffusion loss of a variational diffusion model, γ being linear; see ``vdm.loss_continuous``.

    .. math:: \tfrac12\gamma'(t)\|\epsilon-\epsilon_\theta(z_t,\gamma(t))\|^2

    Times of a batch are spread evenly from one uniform number. The network is asked at
    1000 (γ − γ_0)/(γ_1 − γ_0).

    Args:
        gamma_0, gamma_1: γ at times 0 and 1.
        T: number of steps of the bound; 0 for continuous time.

    Reference: Kingma et al. 2021, eq. 14 and 17, appendix I.1.
    """

    gamma_0: float = -13.3
    gamma_1: float = 5.0
    T: int = 0

    def __post_init__(self) -> None:
        _check.count("T", self.T, minimum=0)
        vdm.LinearGamma(self.gamma_0, self.gamma_1)

    @cached_property
    def gamma(self) -> vdm.LinearGamma:
        """γ(t)."""
        return vdm.LinearGamma(self.gamma_0, self.gamma_1)

    def process(self) -> Process:
        gamma = self.gamma
        log_scale = lambda t: torch.nn.functional.logsigmoid(-gamma(t)) / 2  # noqa: E731
        return FromMarginals(log_scale, lambda t: torch.sigmoid(gamma(t)))

    @property
    def span(self) -> tuple[float, float]:
        return 0.0, 1.0

    def draw(self, x_0: Tensor, generator: torch.Generator, step: int = 0, steps: int = 1) -> Draws:
        """Times, or indices 1..T of the steps, spread evenly over the batch, and the noise."""
        t = vdm.stratified_times(uniform(1, generator)[0], x_0.shape[0])
        level = {"index": (t * self.T).long() + 1} if self.T else {"t": t}
        return {**level, "noise": normal(x_0, generator)}

    def loss(self, net: Network, x_0: Tensor, label: Tensor | None, draws: Draws) -> Tensor:
        """The loss in nats, a sum over the dimensions."""
        model = lambda z, gamma: self._asked(net, z, gamma, label)  # noqa: E731
        if self.T:
            return vdm.loss_discrete(model, self.gamma, x_0, draws["index"], self.T, draws["noise"])
        return vdm.loss_continuous(model, self.gamma, x_0, draws["t"], draws["noise"])

    def _asked(self, net: Network, z: Tensor, gamma: Tensor, label: Tensor | None) -> Tensor:
        share = (gamma - self.gamma_0) / (self.gamma_1 - self.gamma_0)
        return net(z, batch_of(1000 * share, z), label)

    def eps(self, net: Network, x: Tensor, scale: Tensor, std: Tensor, label: Tensor | None = None) -> Tensor:
        gamma = -2 * (scale.log() - std.log())
        return self._asked(net, times_level(1 / torch.hypot(scale, std), x), gamma, label)


@dataclass(frozen=True)
class Consistency(Objective):
    r"""Improved consistency training: neighbouring levels must agree, the lower one being held fixed.

    .. math:: \frac{1}{\sigma_{i+1}-\sigma_i}\,d\!\left(f_\theta(x_0+\sigma_{i+1}z,\sigma_{i+1}),
        \operatorname{sg}f_\theta(x_0+\sigma_iz,\sigma_i)\right)

    d is the pseudo-Huber distance; the levels double in number as training goes on, and σ is log-normal. The
    network is asked at 250·ln σ, of an input of variance one.

    Args:
        sigma_min, sigma_max: the levels' ends; the function is the identity at the first.
        sigma_data: deviation of the data.
        s_0, s_1: number of intervals at the start, and its bound.

    Reference: Song and Dhariwal 2024, section 3 (``consistency.training_loss``).
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    sigma_data: float = 0.5
    s_0: int = 10
    s_1: int = 1280

    def __post_init__(self) -> None:
        consistency.levels(self.sigma_min, self.sigma_max, 2)
        _check.between("sigma_data", self.sigma_data, 0, float("inf"))
        _check.count("s_0", self.s_0, minimum=2)
        _check.count("s_1", self.s_1, minimum=self.s_0)

    def draw(self, x_0: Tensor, generator: torch.Generator, step: int = 0, steps: int = 1) -> Draws:
        """Neighbouring levels, the weight of their distance, and the noise."""
        N = consistency.improved_steps(step, steps, self.s_0, self.s_1)
        sigmas = consistency.levels(self.sigma_min, self.sigma_max, N)
        shares = consistency.level_probabilities(sigmas)
        i = torch.multinomial(shares, x_0.shape[0], replacement=True, generator=generator)
        weight = consistency.level_weights(sigmas)[i].to(x_0.dtype)
        level = {"sigma": sigmas[i + 1], "lower": sigmas[i], "weight": weight}
        return {**level, "noise": normal(x_0, generator)}

    def loss(self, net: Network, x_0: Tensor, label: Tensor | None, draws: Draws) -> Tensor:
        """The weighted distance."""
        function = lambda x, sigma: self.function(net, x, sigma, label)  # noqa: E731
        pair = draws["sigma"], draws["lower"]
        distance = consistency.training_loss(
            function, function, x_0, *pair, draws["noise"], consistency.pseudo_huber
        )
        return draws["weight"] * distance

    def function(self, net: Network, x: Tensor, sigma: Tensor, label: Tensor | None = None) -> Tensor:
        """The consistency function at σ, float64 of shape () or (B,), shaped like x."""

        def network(y: Tensor, at: Tensor) -> Tensor:
            return net(y, 250 * batch_of(at, y).log(), label)

        return consistency.function(network, x, sigma.to(x.device), self.sigma_data, self.sigma_min)

    def process(self) -> Process:
        return EDM(self.sigma_max)

    @property
    def span(self) -> tuple[float, float]:
        return self.sigma_min, self.sigma_max

    def _own_levels(self, n: int) -> Levels:
        """Those of Karras et al., above σ_min."""
        found = karras_levels(self.sigma_min, self.sigma_max, n + 1)
        keep = torch.tensor([*range(n), n + 1])
        return Levels(found.scale[keep], found.std[keep], "ve")
