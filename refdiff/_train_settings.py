"""The settings of a training, and what follows from them: objective, network, rate of a step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

import torch

from refdiff import _check
from refdiff.datasets import DATASETS, Dataset, Part, load
from refdiff.ema import WarmUp, rate
from refdiff.objective import OBJECTIVES, Objective, make

Decay = Literal["constant", "cosine"]
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Settings:
    """What a training is, in values of JSON; two trainings of the same settings are the same to the bit.

    Args:
        model: one of ``objective.OBJECTIVES``.
        objective: its settings.
        data: one of ``datasets.DATASETS``.
        count, data_seed, part: of the data, see ``datasets.load``.
        net_settings: of the network (of its body, for a score or an energy) in place of the defaults of
            ``network_of``.
        conditional: whether the network is told the labels.
        label_drop: share of the labels that are replaced by "no label", for guidance without a classifier.
        steps: number of optimiser steps.
        batch: samples of a step, on all processes together.
        accumulate: parts in which a process computes its share of a batch, one after the other.
        rate: of AdamW.
        warm_up: steps in which the rate rises to its value; 0 for none.
        decay: "constant", or "cosine" down to 0 at the last step.
        beta_1, beta_2, weight_decay: of AdamW.
        clip: largest norm of a gradient, which is scaled down to it; 0 for none.
        ema, ema_warm_up: decay of the moving average and the rule of its first rates, see ``ema.rate``.
        seed: of the weights, the batches, the levels and the noises.
        dtype: "float32" or "float64".
        autocast: whether the network is computed in bfloat16 where torch's autocast says so.
        save_every: steps between checkpoints; 0 for one at the end.

    Raises:
        ValueError: a value out of bounds.
    """

    model: str = "ddpm"
    objective: dict[str, Any] = field(default_factory=dict)
    data: str = "digits"
    count: int = 65536
    data_seed: int = 0
    part: Part = "all"
    net_settings: dict[str, Any] = field(default_factory=dict)
    conditional: bool = False
    label_drop: float = 0.1
    steps: int = 5000
    batch: int = 64
    accumulate: int = 1
    rate: float = 1e-3
    warm_up: int = 0
    decay: Decay = "constant"
    beta_1: float = 0.9
    beta_2: float = 0.999
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.999
    ema_warm_up: WarmUp = "count"
    seed: int = 0
    dtype: str = "float32"
    autocast: bool = False
    save_every: int = 0

    def __post_init__(self) -> None:
        known: dict[str, Any] = {"model": OBJECTIVES, "data": DATASETS, "dtype": DTYPES}
        known |= {"part": get_args(Part), "decay": get_args(Decay)}
        for name, names in known.items():
            if getattr(self, name) not in names:
                raise ValueError(f"{name} must be one of {', '.join(names)}, got {getattr(self, name)!r}")
        for name in ("count", "steps", "batch", "accumulate"):
            _check.count(name, getattr(self, name))
        for name in ("warm_up", "save_every", "seed", "data_seed"):
            _check.count(name, getattr(self, name), minimum=0)
        _check.between("rate", self.rate, 0, math.inf)
        rate(1, self.ema, self.ema_warm_up)
        for name in ("beta_1", "beta_2", "label_drop"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        for name in ("clip", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, got {getattr(self, name)}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        """Settings from a dictionary, as a checkpoint or a JSON file has them."""
        known = {entry.name for entry in fields(cls)}
        for name in values:
            if name not in known:
                raise ValueError(f"settings must be among {', '.join(sorted(known))}, got {name!r}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"settings must be values of their types: {error}") from None

    def rate_at(self, step: int) -> float:
        r"""The rate of a step, counted from 0.

        .. math:: \text{rate}\cdot\min\left(1,\tfrac{k+1}{\text{warm\_up}}\right)\cdot
            \tfrac12\left(1+\cos\tfrac{\pi k}{\text{steps}}\right)

        where the last factor is 1 for a constant rate.
        """
        rising = min(1.0, (step + 1) / self.warm_up) if self.warm_up else 1.0
        falling = (1 + math.cos(math.pi * step / self.steps)) / 2 if self.decay == "cosine" else 1.0
        return self.rate * rising * falling

    def load_data(self) -> Dataset:
        """The data."""
        named = {"count": self.count, "seed": self.data_seed, "part": self.part}
        return load(self.data, **named, dtype=DTYPES[self.dtype])  # type: ignore[arg-type]

    def goal(self, data: Dataset) -> Objective:
        """The objective; the hybrid one knows the values that pixels take."""
        known = {"decoder": "discretized", "bins": data.bins}
        fits = self.model == "hybrid" and data.bins is not None
        return make(self.model, {**(known if fits else {}), **self.objective})

    def labelled(self, goal: Objective, data: Dataset) -> bool:
        """Whether labels are used."""
        used = self.conditional or goal.kind == "classifier"
        if used and not data.classes:
            raise ValueError(f"data must have classes for labels, got {data.name}")
        return used


def network_of(data: Dataset, goal: Objective, settings: Settings) -> tuple[str, dict[str, Any]]:
    """Name and settings of the network that fits data and objective: UNet for images, MLP for vectors."""
    image = len(data.shape) == 3
    body: dict[str, Any] = {"in_channels": data.shape[0]} if image else {"dim": data.shape[0]}
    if image:
        multipliers = [1, 2] if min(data.shape[1:]) < 16 else [1, 2, 2]
        while any(size % 2 ** (len(multipliers) - 1) for size in data.shape[1:]):
            multipliers.pop()
        body |= {"base": 32, "multipliers": multipliers, "blocks": 1, "attention": [len(multipliers) - 1]}
    if settings.labelled(goal, data):
        body["classes"] = data.classes
    if goal.kind == "classifier":
        return "classifier" if image else "vector_classifier", {**body, **settings.net_settings}
    if goal.learned_variance:
        body["learned_variance"] = True
    body |= settings.net_settings
    name = "unet" if image else "mlp"
    return (name, body) if goal.kind == "body" else (goal.kind, {"body": name, "settings": body})
