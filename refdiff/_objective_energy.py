"""Objectives without a target to copy, on the noise ladder: contrastive divergence, sliced score matching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from refdiff import _check, energy, langevin, score_matching
from refdiff._objective_base import Draws, Network, normal
from refdiff._objective_score import SMLD, Energy
from refdiff.schedule import take

Start = Literal["data", "noise"]
Form = Literal["plain", "reduced"]
Directions = Literal["normal", "signs"]


@dataclass(frozen=True)
class Contrastive(Energy):
    r"""Contrastive divergence of an energy at each level: data with noise against the end of a chain.

    .. math:: E_\theta(x^+,\sigma)-E_\theta(x^-_k,\sigma)+\alpha\left(E_\theta(x^+,\sigma)^2
        +E_\theta(x^-_k,\sigma)^2\right),\qquad x^+=x_0+\sigma z,\\
        x^-_{j+1}=x^-_j-\eta\nabla E_\theta(x^-_j,\sigma)+\sqrt{2\eta}\,z_j,\qquad\eta=r\sigma^2

    The chain is a constant: no gradient passes through it. Its law is wider than that of the energy, so that
    the energy learns to be narrower than the data, the less the smaller r, see
    ``langevin.learned_variance``.

    Args:
        steps: k, steps of the chain.
        ratio: r, between 0 and 2; at 2 a chain in the narrowest law, of deviation σ, does not settle.
        start: of the chain: "data" (x⁺, CD-k), or "noise" of deviation √(spread² + σ²), which a chain
            leaves within a law of deviation σ after some ln(spread/σ)/r steps.
        spread: deviation that the data are taken to have where a chain starts from noise.
        penalty: α of the squares of the energies, which holds their size; at 0 there is none. A fresh
            ``nets.EnergyNet`` has energies of ‖x‖²/(2σ²), large at small levels. Where it is used, each
            energy is asked for twice.

    Reference: Hinton 2002, section 3 (contrastive divergence); Du and Mordatch 2019, algorithm 1 (chains
        from noise, penalty).
    """

    steps: int = 10
    ratio: float = 0.1
    start: Start = "data"
    spread: float = 1.0
    penalty: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.count("steps", self.steps)
        _check.between("ratio", self.ratio, 0, 2)
        _one_of("start", self.start, Start)
        score_matching.require_positive("spread", self.spread)
        if not 0 <= self.penalty < float("inf"):
            raise ValueError(f"penalty must be at least 0 and finite, got {self.penalty}")

    def draw(self, x_0: Tensor, generator: torch.Generator, step: int = 0, steps: int = 1) -> Draws:
        """The index of a level, the noises of the data, of the chain, shape (B, k, *), and of its start."""
        draws = super().draw(x_0, generator, step, steps)
        draws["chain"] = torch.stack([normal(x_0, generator) for _ in range(self.steps)], dim=1)
        if self.start == "noise":
            draws["first"] = normal(x_0, generator)
        return draws

    def loss(self, net: Network, x_0: Tensor, label: Tensor | None, draws: Draws) -> Tensor:
        """The difference of the energies, which is no likelihood and may fall below 0."""
        x_pos, sigma = _noised(self.ladder, x_0, draws)
        of = lambda x: net(x, sigma, label)  # noqa: E731
        x_neg = self.negatives(net, x_pos, sigma, label, draws)
        loss = energy.contrastive_loss(of, x_pos, x_neg)
        if self.penalty:
            loss = loss + self.penalty * sum(energy.values(of, x) ** 2 for x in (x_pos, x_neg))
        return loss

    def negatives(
        self, net: Network, x_pos: Tensor, sigma: Tensor, label: Tensor | None, draws: Draws
    ) -> Tensor:
        """The end of the chain of each sample, a constant, shaped like x_pos."""
        x = x_pos
        if self.start == "noise":
            deviation = (self.spread**2 + sigma**2).sqrt()
            x = score_matching.noise_level("deviation", deviation, x_pos) * draws["first"]
        score = lambda y: self.score(net, y, sigma, label)  # noqa: E731
        with torch.no_grad():
            for state in langevin.chain(score, x, self.ratio * sigma**2, draws["chain"].unbind(1)):
                x = state
        return x


@dataclass(frozen=True)
class Sliced(SMLD):
    r"""Sliced score matching at each level, weighted as ``SMLD``; see ``score_matching.sliced_loss``.

    .. math:: \sigma_i^2\left(\tfrac12\|s\|^2+v^\top\nabla_xs\,v\right)\text{ ("reduced")},\qquad
        \sigma_i^2\left(\tfrac12(v^\top s)^2+v^\top\nabla_xs\,v\right)\text{ ("plain")},\qquad
        s=s_\theta(x_0+\sigma_iz,\sigma_i)

    The noise is added, and not told: only derivatives of the score are asked for.

    Args:
        form: "plain" or "reduced", which varies less.
        directions: of the probe v: "normal" or random "signs".

    Reference: Song et al. 2019 (sliced score matching), eq. 7 and 8; the ladder: Song and Ermon 2019,
        section 4.2.
    """

    form: Form = "reduced"
    directions: Directions = "signs"
    differentiated: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of("form", self.form, Form)
        _one_of("directions", self.directions, Directions)

    def draw(self, x_0: Tensor, generator: torch.Generator, step: int = 0, steps: int = 1) -> Draws:
        """The index of a level, the noise, and the probe."""
        draws = super().draw(x_0, generator, step, steps)
        if self.directions == "signs":
            bits = torch.randint(2, x_0.shape, generator=generator)
            return {**draws, "probe": (2 * bits - 1).to(x_0.dtype)}
        return {**draws, "probe": normal(x_0, generator)}

    def loss(self, net: Network, x_0: Tensor, label: Tensor | None, draws: Draws) -> Tensor:
        """The weighted loss, a sum over the dimensions, which may fall below 0."""
        x, sigma = _noised(self.ladder, x_0, draws)
        # of torch's attentions only this one can be differentiated twice
        with sdpa_kernel(SDPBackend.MATH):
            losses = score_matching.sliced_loss(
                lambda y: net(y, sigma, label), x, draws["probe"], self.form == "reduced"
            )
        return sigma.to(x) ** 2 * losses


def _noised(ladder: Tensor, x_0: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """x_0 + σz at the levels that were drawn, and σ, float64, shape (B,)."""
    sigma = take(ladder, draws["index"])
    return x_0 + score_matching.noise_level("sigma", sigma, x_0) * draws["noise"], sigma


def _one_of(name: str, value: str, names: Any) -> None:
    if value not in get_args(names):
        raise ValueError(f"{name} must be one of {', '.join(get_args(names))}, got {value!r}")
