"""What the tests of the networks share: small networks with all weights at work, and arguments."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from refdiff import nets

UNET = {"in_channels": 2, "base": 8, "multipliers": [1, 2], "blocks": 1, "groups": 4, "attention": [1]}
VECTORS = {"dim": 3, "width": 16}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "unet": ("unet", UNET),
    "unet-scale-shift": ("unet", UNET | {"injection": "scale_shift", "heads": 2, "classes": 3}),
    "unet-add": ("unet", UNET | {"skips": "add", "learned_variance": True, "blocks": 2}),
    "unet-one-level": ("unet", UNET | {"multipliers": [1], "attention": [], "out_channels": 3}),
    "mlp": ("mlp", VECTORS | {"embedding_dim": 8}),
    "mlp-classes": ("mlp", VECTORS | {"classes": 3, "learned_variance": True, "spacing": "half"}),
    "score": ("score", {"body": "unet", "settings": UNET}),
    "score-classes": ("score", {"body": "mlp", "settings": VECTORS | {"classes": 3}}),
    "energy": ("energy", {"body": "mlp", "settings": VECTORS}),
    "energy-unet": ("energy", {"body": "unet", "settings": UNET | {"classes": 3}}),
    "classifier": ("classifier", UNET | {"classes": 3}),
    "vector-classifier": ("vector_classifier", VECTORS | {"classes": 4}),
}
SIGMA = ("score", "energy")


def fresh(case: str, dtype: torch.dtype = torch.float64) -> Any:
    """The network as its constructor leaves it."""
    name, settings = CASES[case]
    return nets.build(name, settings, seed=0).to(dtype)


def randomised(net: nn.Module, seed: int = 0) -> Any:
    """The network with random weights everywhere, so that nothing is hidden behind a zero.

    Matrices map variance one to variance one, scales are about 1 and shifts about 0.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        for name, parameter in module.named_parameters(recurse=False):
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.dim() > 1:
                value = noise / parameter[0].numel() ** 0.5
            else:
                value = 0.2 * noise + (isinstance(module, nn.GroupNorm) and name == "weight")
            parameter.data.copy_(value)
    return net


def made(case: str, dtype: torch.dtype = torch.float64) -> Any:
    return randomised(fresh(case, dtype))


def classes(case: str) -> int:
    """Classes that the network is conditioned by."""
    name, settings = CASES[case]
    settings = settings.get("settings", settings)
    return 0 if "classifier" in name else int(settings.get("classes", 0))


def arguments(
    case: str, batch: int = 4, dtype: torch.dtype = torch.float64, seed: int = 1
) -> tuple[Tensor, ...]:
    """x, t (or sigma) and, where there are classes, the label; no two samples have the same."""
    generator = torch.Generator().manual_seed(seed)
    name, settings = CASES[case]
    settings = settings.get("settings", settings)
    shape = (settings["dim"],) if "dim" in settings else (settings["in_channels"], 4, 6)
    x = torch.randn(batch, *shape, generator=generator, dtype=torch.float64).to(dtype)
    t = torch.logspace(0, 1.5, batch) / 7 if name in SIGMA else 1 + 37.0 * torch.arange(batch)
    return (x, t, torch.arange(batch) % (classes(case) + 1)) if classes(case) else (x, t)


def apart(actual: Tensor, expected: Tensor) -> float:
    """The largest difference relative to the largest value."""
    assert actual.shape == expected.shape and not bool(actual.isnan().any())
    size = max(float(actual.detach().abs().max()), float(expected.detach().abs().max()))
    return float((actual - expected).detach().abs().max()) / size if size else 0.0


# A value of these networks goes through at most 40 layers, each adding up at most 300 products; float64 loses
# 40·300·2^-53 ≈ 1e-12 of the largest if all roundings conspire, times what the layers amplify (they keep the
# variance: less than ten). What the broken versions change is seen in the first three digits.
ROUNDING, BROKEN = 1e-11, 1e-3
