"""diffusers' embeddings of timesteps: the function ``get_timestep_embedding`` and the layer ``Timesteps``.

Both compute angles in float32, whatever they are given. ``downscale_freq_shift`` is what is taken from the
number of frequencies: 1, as in Ho et al., or 0. The function's default is 1, that of UNets is 0 with cosines
first.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from refdiff.oracle.adapters.common import known_options
from refdiff.oracle.target import Dialect, Target

SPACINGS = {0: "half", 1: "half_minus_one"}
# what the layer must be given; as in UNets there
LAYER = {"flip_sin_to_cos": True, "downscale_freq_shift": 0}


class EmbeddingTarget(Target):
    """The function, or the layer built for each dimension."""

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        import diffusers
        from diffusers.models import embeddings

        made = getattr(embeddings, name)
        parameters = inspect.signature(made).parameters
        skipped = ("timesteps", "embedding_dim", "num_channels")
        known_options(name, options, [key for key in parameters if key not in skipped])
        self.layer = name == "Timesteps"
        self.made, self.options = made, {**(LAYER if self.layer else {}), **options}
        defaults = {key: one.default for key, one in parameters.items()}
        chosen = {**defaults, **self.options}
        if chosen["downscale_freq_shift"] not in SPACINGS:
            shift = chosen["downscale_freq_shift"]
            raise ValueError(f"downscale_freq_shift must be 0 or 1 to have a name here, got {shift!r}")
        self.name = f"diffusers {diffusers.__version__} {name}"
        self.dialect = Dialect(
            dtype="float32",
            embedding_spacing=SPACINGS[chosen["downscale_freq_shift"]],
            embedding_order="cos_sin" if chosen["flip_sin_to_cos"] else "sin_cos",
            embedding_scale=float(chosen["scale"]),
            embedding_period=float(chosen.get("max_period", 10000)),
        )
        self.notes = ["angles are computed in float32"]

    def time_embedding(self, t: Tensor, dim: int) -> Any:
        """The function's answer, or the layer's."""
        return self.made(dim, **self.options)(t) if self.layer else self.made(t, dim, **self.options)


def load(name: str, options: Mapping[str, Any]) -> Target:
    """The target for the function or the layer.

    Raises:
        ValueError: the package is missing, or an option is unknown or has no name in a dialect.
    """
    try:
        import diffusers  # noqa: F401
    except ImportError as missing:
        raise ValueError("diffusers is not installed; pip install diffusers") from missing
    return EmbeddingTarget(name, options)
