"""Networks, plain and small: UNet, perceptron, score, energy, classifiers, and their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from refdiff.nets.blocks import halves
from refdiff.nets.classifier import Classifier, VectorClassifier
from refdiff.nets.embedding import frequencies, sinusoidal
from refdiff.nets.mlp import MLP
from refdiff.nets.score import EnergyNet, ScoreNet
from refdiff.nets.unet import UNet

__all__ = [
    "MLP",
    "NETS",
    "Classifier",
    "EnergyNet",
    "ScoreNet",
    "UNet",
    "VectorClassifier",
    "build",
    "frequencies",
    "halves",
    "sinusoidal",
]

NETS: dict[str, type[nn.Module]] = {
    "unet": UNet,
    "mlp": MLP,
    "score": ScoreNet,
    "energy": EnergyNet,
    "classifier": Classifier,
    "vector_classifier": VectorClassifier,
}


def build(name: str, settings: Mapping[str, Any], seed: int | None = None) -> nn.Module:
    """A network by its name and the arguments of its constructor.

    Args:
        name: a key of ``NETS``.
        settings: keyword arguments; ``net.settings`` of a network of the same name.
        seed: of the initial weights; if None, torch's global generator draws them and moves on.

    Returns:
        A fresh network on torch's default device, in training mode.

    Raises:
        ValueError: an unknown name, an argument that the network does not have or lacks, or what it raises.
    """
    if name not in NETS:
        raise ValueError(f"name must be one of {', '.join(NETS)}, got {name!r}")
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        try:
            return NETS[name](**settings)
        except TypeError as error:
            raise ValueError(f"settings must be arguments of {name}: {error}") from None
