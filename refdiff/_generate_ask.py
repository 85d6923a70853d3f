"""What samplers ask of a trained network: the noise at any level, for a label, guided or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from refdiff import guidance
from refdiff.objective import Classification, Consistency, Flow, Hybrid, Network, Objective
from refdiff.schedule import Schedule

State = tuple[float, float, Tensor]


@dataclass(eq=False)
class Ask:
    r"""A network as a predictor of the noise at any level, a ``solver.Model``.

    Without a classifier :math:`\epsilon+\kappa\,(\epsilon_y-\epsilon)`, where ε is predicted without a label;
    with one :math:`\epsilon-\kappa\,\mathrm{std}\,\nabla_x\log p(y\mid x)`.

    Args:
        net, goal: the network and its objective.
        classes: of the network, 0 for one without labels.
        label: wanted of each sample, int64, shape (B,), or None.
        scale: κ; 1 is the conditional law.
        classifier: network and objective of a classifier of noised data, or None.
        states: where (scale, std, state) is kept whenever the noise has fallen; None to keep nothing.
        evaluations: how often the network was asked.
    """

    net: Network
    goal: Objective
    classes: int = 0
    label: Tensor | None = None
    scale: float = 1.0
    classifier: tuple[Network, Classification] | None = None
    states: list[State] | None = None
    evaluations: int = field(init=False, default=0)

    def __call__(self, x: Tensor, scale: Tensor, std: Tensor) -> Tensor:
        """The noise at a level, shaped like x."""
        return self._guided(x, scale, std, lambda label: self.goal.eps(self._asked, x, scale, std, label))

    def of_chain(self, schedule: Schedule) -> Callable[[Tensor, int], Tensor]:
        """The noise at the levels of a schedule."""

        def model(x: Tensor, t: int) -> Tensor:
            level = schedule.sqrt_alpha_bar[t], schedule.sqrt_one_minus_alpha_bar[t]
            ask = lambda label: self.goal.eps_of_chain(self._asked, schedule, x, t, label)  # noqa: E731
            return self._guided(x, *level, ask)

        return model

    def with_variance(self, schedule: Schedule) -> Callable[[Tensor, int], tuple[Tensor, Tensor]]:
        """The noise, and the exponent of the variance as it was learned for the label."""
        goal, model = self.goal, self.of_chain(schedule)
        assert isinstance(goal, Hybrid)

        def both(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
            told = self._no_label(x) if self.label is None or not self.classes else self.label
            eps, share = goal.with_variance(self._asked, x, t, told)
            if self.classifier is not None or (told is self.label is not None and self.scale != 1):
                return model(x, t), share
            self._keep(x, schedule.sqrt_alpha_bar[t], schedule.sqrt_one_minus_alpha_bar[t])
            return eps, share

        return both

    def score(self, x: Tensor, scale: Tensor, std: Tensor) -> Tensor:
        """The score at a level, shaped like x."""
        return -self(x, scale, std) / std.to(x)

    def data(self, x: Tensor, scale: Tensor, std: Tensor) -> Tensor:
        r"""The data predicted at a level, :math:`(x-\mathrm{std}\,\hat\epsilon)/\mathrm{scale}`."""
        return (x - std.to(x) * self(x, scale, std)) / scale.to(x)

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """The velocity of a network that predicts it, at a time of its own path."""
        goal = self.goal
        assert isinstance(goal, Flow) and self.classifier is None
        level = goal.curve.scale(t), goal.curve.std(t)
        return self._guided(x, *level, lambda label: goal.velocity(self._asked, x, t, label))

    def function(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The consistency function of a network that is one, at σ."""
        goal = self.goal
        assert isinstance(goal, Consistency) and self.classifier is None
        ask = lambda label: goal.function(self._asked, x, sigma, label)  # noqa: E731
        return self._guided(x, torch.ones_like(sigma), sigma, ask)

    def _guided(
        self, x: Tensor, scale: Tensor, std: Tensor, ask: Callable[[Tensor | None], Tensor]
    ) -> Tensor:
        self._keep(x, scale, std)
        if self.classifier is not None:
            return ask(self._no_label(x)) - std.to(x) * self.scale * self._pull(x, scale, std)
        if not self.classes or self.label is None:
            return ask(self._no_label(x))
        if self.scale == 1:
            return ask(self.label)
        return guidance.classifier_free(ask(self._no_label(x)), ask(self.label), self.scale)

    def _asked(self, *arguments: Any) -> Tensor:
        self.evaluations += 1
        return self.net(*arguments)

    def _no_label(self, x: Tensor) -> Tensor | None:
        return torch.full(x.shape[:1], self.classes, device=x.device) if self.classes else None

    def _pull(self, x: Tensor, scale: Tensor, std: Tensor) -> Tensor:
        """The gradient of the classifier."""
        assert self.classifier is not None and self.label is not None
        (net, goal), label = self.classifier, self.label
        of = lambda y, t: goal.log_probability(net, y, scale, std, label)  # noqa: E731
        return guidance.classifier_gradient(of, x, 0)

    def _keep(self, x: Tensor, scale: Tensor, std: Tensor) -> None:
        if self.states is None:
            return
        a, b = float(scale), float(std)
        if not self.states or b * self.states[-1][0] < a * self.states[-1][1]:
            self.states.append((a, b, x.detach().cpu()))
