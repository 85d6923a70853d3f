r"""Networks conditioned by a noise level σ: a score, and an energy whose gradient is a score.

Both wrap a ``UNet`` or an ``MLP``, which is asked at the level t = 250·ln σ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from refdiff import _check, energy
from refdiff.nets.embedding import real_levels
from refdiff.nets.mlp import MLP
from refdiff.nets.unet import UNet

BODIES: dict[str, type[UNet] | type[MLP]] = {"unet": UNet, "mlp": MLP}


class Wrapper(nn.Module):
    """A body by name and settings, which predicts a tensor like x.

    Args:
        body: "unet" or "mlp".
        settings: of the body, JSON-able.

    Raises:
        ValueError: an unknown body, one whose output is not shaped like its input, or what the body raises.
    """

    def __init__(self, *, body: str, settings: Mapping[str, Any]) -> None:
        super().__init__()
        if body not in BODIES:
            raise ValueError(f"body must be one of {', '.join(BODIES)}, got {body!r}")
        self.name = body
        self.body = BODIES[body](**settings)
        used = self.body.settings
        size, out = ("dim", "out_dim") if body == "mlp" else ("in_channels", "out_channels")
        if used[out] != used[size]:
            raise ValueError(f"{out} must be {size} = {used[size]}, got {used[out]}")
        if used["learned_variance"]:
            raise ValueError("learned_variance must be False for a score or an energy, got True")

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments that make a network of this shape again."""
        return {"body": self.name, "settings": self.body.settings}

    def predict(self, x: Tensor, sigma: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        """The body's output at t = 250·ln σ, and σ shaped to divide x."""
        real_levels("sigma", sigma)
        _check.floating("x", x)
        _check.batch("sigma", sigma, x)
        if _check.readable(sigma) and not bool((sigma > 0).all()):
            raise ValueError(f"sigma must be positive, got {sigma.min().item()}")
        output: Tensor = self.body(x, 250 * sigma.double().log(), label)
        return output, sigma.to(x.dtype).reshape(-1, *(1,) * (x.dim() - 1))


class ScoreNet(Wrapper):
    r"""A score conditioned by σ.

    .. math:: s(x,\sigma)=\frac{\text{body}(x,\,250\ln\sigma)}{\sigma}

    The body predicts minus the noise: a score of noised data has a size of about 1/σ.

    Args:
        body: "unet" or "mlp".
        settings: of the body, JSON-able.

    Raises:
        ValueError: an unknown body, one whose output is not shaped like its input, or what the body raises.

    Reference: Song and Ermon 2020, technique 3.
    """

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor | None = None) -> Tensor:
        """The score.

        Args:
            x: noised data, shape (B, *), as the body takes it.
            sigma: deviations of the noise, positive, shape (B,).
            label: as the body takes it.

        Returns:
            Shaped like x.

        Raises:
            ValueError: sigma not positive or of another shape, or what the body raises.
        """
        output, sigma = self.predict(x, sigma, label)
        return output / sigma


class EnergyNet(Wrapper):
    r"""An energy conditioned by σ: how far x is from what the body takes it for.

    .. math:: E(x,\sigma)=\frac{\Vert x-\text{body}(x,\,250\ln\sigma)\Vert^2}{2\sigma^2}

    Args:
        body: "unet" or "mlp".
        settings: of the body, JSON-able.

    Raises:
        ValueError: an unknown body, one whose output is not shaped like its input, or what the body raises.

    Reference: Salimans and Ho 2021, eq. 8.
    """

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor | None = None) -> Tensor:
        """The energy of each sample.

        Args:
            x: noised data, shape (B, *), as the body takes it.
            sigma: deviations of the noise, positive, shape (B,).
            label: as the body takes it.

        Returns:
            Shape (B,).

        Raises:
            ValueError: sigma not positive or of another shape, or what the body raises.
        """
        # of torch's attentions only this one can be differentiated twice, as training the score asks for
        with sdpa_kernel(SDPBackend.MATH):
            output, sigma = self.predict(x, sigma, label)
        return ((x - output) / sigma).square().flatten(1).sum(1) / 2

    def score(
        self, x: Tensor, sigma: Tensor, label: Tensor | None = None, create_graph: bool = False
    ) -> Tensor:
        r"""The score of the energy.

        .. math:: -\nabla_xE(x,\sigma)

        Args:
            x: noised data, shape (B, *), as the body takes it.
            sigma: deviations of the noise, positive, shape (B,).
            label: as the body takes it.
            create_graph: whether the score itself can be differentiated, as a loss of it needs.

        Returns:
            Shaped like x.

        Raises:
            ValueError: sigma not positive or of another shape, or what the body raises.
        """
        with torch.set_grad_enabled(create_graph and torch.is_grad_enabled()):
            return energy.score(lambda y: self(y, sigma, label), x)
