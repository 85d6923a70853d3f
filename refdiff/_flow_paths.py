r"""Paths from data to noise, with their slopes. Public names are those of ``refdiff.flow``.

.. math:: x_t=a(t)\,x_0+b(t)\,\varepsilon,\qquad W=a\,b'-a'\,b

W is the determinant of the map from data and noise to place and velocity; where it is not 0, either pair
determines the other. Times and results are float64, shape () or (B,). Time 0 is data, unless ``Reversed``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from refdiff import _check
from refdiff.process import EDM, VE, VP, Process, SubVP, Time

_UNIT = Process()


class Path:
    """What every path has. Times run from 0 to ``end``."""

    end: float = 1.0
    data_at: float = 0.0

    def time(self, t: Time) -> Tensor:
        """A time as a float64 tensor, shape () or (B,); a ValueError where it is no time of the path."""
        return _UNIT.time(t)

    def scale(self, t: Time) -> Tensor:
        """The factor a of the data."""
        raise NotImplementedError

    def std(self, t: Time) -> Tensor:
        """The factor b of the noise."""
        raise NotImplementedError

    def scale_slope(self, t: Time) -> Tensor:
        """The derivative a' of the scale."""
        raise NotImplementedError

    def std_slope(self, t: Time) -> Tensor:
        """The derivative b' of the deviation."""
        raise NotImplementedError

    def determinant(self, t: Time) -> Tensor:
        """The determinant W = a b' - a' b, without cancellation; minus a b times the slope of log(a/b)."""
        raise NotImplementedError

    def half_diffusion(self, t: Time) -> Tensor:
        """W b / a, which is half of the squared diffusion of the process with these marginals."""
        return self.determinant(t) * self.std(t) / self.scale(t)

    def log_snr(self, t: Time) -> Tensor:
        """Half of the log signal-to-noise ratio, log(a/b); infinite at an end without noise or data."""
        return self.scale(t).log() - self.std(t).log()


@dataclass(frozen=True)
class Rectified(Path):
    r"""The straight path between data and noise: :math:`a=1-t,\ b=t`.

    Reference: Liu et al. 2022 (formula ``flow.rectified_velocity``).
    """

    def scale(self, t: Time) -> Tensor:
        return 1 - self.time(t)

    def std(self, t: Time) -> Tensor:
        # a copy: a time that the caller writes to must not be a level
        return self.time(t).clone()

    def scale_slope(self, t: Time) -> Tensor:
        return torch.full_like(self.time(t), -1)

    def std_slope(self, t: Time) -> Tensor:
        return torch.ones_like(self.time(t))

    def determinant(self, t: Time) -> Tensor:
        return torch.ones_like(self.time(t))


@dataclass(frozen=True)
class Transport(Path):
    r"""Lipman et al.'s path of conditional optimal transport: :math:`a=1-t,\
    b=\sigma_{\min}+(1-\sigma_{\min})t`.

    Args:
        sigma_min: noise that is left on the data, above 0 and below 1; without it the path is ``Rectified``.

    Reference: Lipman et al. 2023, eq. 20, with their time reversed (formula ``flow.transport_velocity``).
    """

    sigma_min: float = 1e-4

    def __post_init__(self) -> None:
        _check.between("sigma_min", self.sigma_min, 0.0, 1.0)

    def scale(self, t: Time) -> Tensor:
        return 1 - self.time(t)

    def std(self, t: Time) -> Tensor:
        at = self.time(t)
        return self.sigma_min * (1 - at) + at

    def scale_slope(self, t: Time) -> Tensor:
        return torch.full_like(self.time(t), -1)

    def std_slope(self, t: Time) -> Tensor:
        return torch.full_like(self.time(t), 1 - self.sigma_min)

    def determinant(self, t: Time) -> Tensor:
        return torch.ones_like(self.time(t))


@dataclass(frozen=True)
class Trigonometric(Path):
    r"""The path on the circle: :math:`a=\cos(\pi t/2),\ b=\sin(\pi t/2)`.

    Reference: Albergo and Vanden-Eijnden 2023 (formula ``flow.trigonometric_velocity``).
    """

    def scale(self, t: Time) -> Tensor:
        # the sine of the other angle, which is 0 at 1
        return (math.pi / 2 * (1 - self.time(t))).sin()

    def std(self, t: Time) -> Tensor:
        return (math.pi / 2 * self.time(t)).sin()

    def scale_slope(self, t: Time) -> Tensor:
        return -math.pi / 2 * self.std(t)

    def std_slope(self, t: Time) -> Tensor:
        return math.pi / 2 * self.scale(t)

    def determinant(self, t: Time) -> Tensor:
        return torch.full_like(self.time(t), math.pi / 2)


@dataclass(frozen=True)
class Diffusion(Path):
    r"""The path of a diffusion process with drift f x and diffusion g.

    .. math:: a'=f\,a,\qquad b'=\frac{g^2/2+f\,b^2}{b},\qquad W=\frac{a\,g^2}{2b}

    Args:
        process: a process with marginals scale and std.

    Reference: Lipman et al. 2023, eq. 16-19 (formula ``flow.vp_velocity``, ``flow.ve_velocity``).
    """

    process: Process

    @property
    def end(self) -> float:  # type: ignore[override]  # the end of the process
        return self.process.end

    def time(self, t: Time) -> Tensor:
        return self.process.time(t)

    def scale(self, t: Time) -> Tensor:
        return self.process.scale(t)

    def std(self, t: Time) -> Tensor:
        return self.process.std(t)

    def scale_slope(self, t: Time) -> Tensor:
        return self.process.drift(t) * self.process.scale(t)

    def std_slope(self, t: Time) -> Tensor:
        # the difference in the general form vanishes where hardly any data are left; these do not subtract
        if isinstance(self.process, SubVP):
            return self.process.rate(t) * self.scale(t) ** 2
        if isinstance(self.process, VP):
            return 0.5 * self.process.rate(t) * self.scale(t) ** 2 / self.std(t)
        if isinstance(self.process, EDM):
            return torch.ones_like(self.time(t))
        growth = 0.5 * self.process.diffusion_squared(t) + self.process.drift(t) * self.process.variance(t)
        return growth / self.std(t)

    def determinant(self, t: Time) -> Tensor:
        if isinstance(self.process, EDM):
            return torch.ones_like(self.time(t))
        return 0.5 * self.scale(t) * self.process.diffusion_squared(t) / self.std(t)

    def half_diffusion(self, t: Time) -> Tensor:
        return 0.5 * self.process.diffusion_squared(t)

    def log_snr(self, t: Time) -> Tensor:
        return self.process.log_snr(t)


@dataclass(frozen=True)
class Reversed(Path):
    """A path in the other direction of time: data at the end, noise at 0. The velocity changes its sign.

    Args:
        path: a path with data at time 0.

    Reference: formula ``flow.reversed_velocity``.
    """

    path: Path

    @property
    def end(self) -> float:  # type: ignore[override]  # the end of the path
        return self.path.end

    @property
    def data_at(self) -> float:  # type: ignore[override]  # the other end
        return self.path.end - self.path.data_at

    def time(self, t: Time) -> Tensor:
        return self.path.time(t)

    def _back(self, t: Time) -> Tensor:
        return self.end - self.time(t)

    def scale(self, t: Time) -> Tensor:
        return self.path.scale(self._back(t))

    def std(self, t: Time) -> Tensor:
        return self.path.std(self._back(t))

    def scale_slope(self, t: Time) -> Tensor:
        return -self.path.scale_slope(self._back(t))

    def std_slope(self, t: Time) -> Tensor:
        return -self.path.std_slope(self._back(t))

    def determinant(self, t: Time) -> Tensor:
        return -self.path.determinant(self._back(t))

    def half_diffusion(self, t: Time) -> Tensor:
        return -self.path.half_diffusion(self._back(t))

    def log_snr(self, t: Time) -> Tensor:
        return self.path.log_snr(self._back(t))


PATHS: Mapping[str, Callable[..., Path]] = MappingProxyType(
    {
        "rectified": Rectified,
        "transport": Transport,
        "trigonometric": Trigonometric,
        "vp": lambda **rates: Diffusion(VP(**rates)),
        "subvp": lambda **rates: Diffusion(SubVP(**rates)),
        "ve": lambda **levels: Diffusion(VE(**levels)),
        "edm": lambda **levels: Diffusion(EDM(**levels)),
    }
)
"""The paths by name; what a path takes is what its class, or its process, takes."""


def path(name: str, data_at: int = 0, **parameters: float) -> Path:
    """A path by name.

    Args:
        name: one of ``PATHS``.
        data_at: 0 for data at time 0 and noise at the end, 1 for the other direction.
        parameters: those of the path: ``sigma_min`` of "transport", those of the process of "vp" and so on.

    Returns:
        Path.

    Raises:
        ValueError: no such name, or data_at neither 0 nor 1.
    """
    if name not in PATHS:
        raise ValueError(f"name must be one of {', '.join(PATHS)}, got {name!r}")
    if data_at not in (0, 1):
        raise ValueError(f"data_at must be 0 or 1, got {data_at}")
    forward = PATHS[name](**parameters)
    return Reversed(forward) if data_at == 1 else forward
