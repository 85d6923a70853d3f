"""The levels of diffusers' ``FlowMatchEulerDiscreteScheduler``: shift, lists, noising and step.

Levels run from noise, 1, to data, 0, and timesteps are 1000 times them. ``shift`` moves them by a factor;
with ``use_dynamic_shifting`` a list is moved by ``mu``, which is the logarithm of the factor, or the factor
itself where ``time_shift_type`` is linear.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from refdiff.oracle.adapters import diffusers_solvers
from refdiff.oracle.adapters.common import known_options
from refdiff.oracle.target import Target

# lists that are not evenly spaced before the shift
OTHER_LISTS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "shift_terminal")


class LevelsTarget(diffusers_solvers.FlowTarget):
    """The scheduler as a solver, and its levels."""

    def __init__(self, cls: Any, options: Mapping[str, Any]) -> None:
        super().__init__(cls, options)
        self.config = cls(**self.options).config
        self.dynamic = bool(self.config.use_dynamic_shifting)
        inverted, T = bool(self.config.invert_sigmas), int(self.config.num_train_timesteps)
        self.dialect = self.dialect.but(
            time_scale=float(T),
            time_steps=T,
            time_direction="data" if inverted else "noise",
            shift="log" if self.dynamic and self.config.time_shift_type == "exponential" else "factor",
            grid="N-1",
            batched_t=False,
        )
        self.notes = ["levels are evenly spaced from the noisiest to the least of training, and 0 follows"]
        other = any(self.config[name] for name in OTHER_LISTS)
        if other:
            self.notes.append("a list that is stretched or of another spacing has no formula here")
        if self.dynamic or not other:
            self.time_shift = self._time_shift
        if not other:
            self.flow_levels = self._flow_levels
        if not other and self.config.shift == 1.0:
            self.flow_path, self.flow_step = self._flow_path, self._flow_step

    def made(self, shift: float | None = None) -> Any:
        """A scheduler, with a shift."""
        return self.cls(**{**self.options, **({} if shift is None or self.dynamic else {"shift": shift})})

    def _noise(self, t: Any) -> Any:
        """From a timestep to the noise at it, and back."""
        level = t / self.dialect.time_scale
        return 1 - level if self.config.invert_sigmas else level

    def _time_shift(self, t: Tensor, shift: float) -> Any:
        """``time_shift``; a shift that is not dynamic moves the levels that are given."""
        scale = self.dialect.time_scale
        if self.dynamic:
            return self._noise(self.made().time_shift(shift, 1.0, self._noise(t)) * scale) * scale
        scheduler = self.made(shift)
        scheduler.set_timesteps(sigmas=self._noise(t).tolist())
        return scheduler.timesteps

    def _flow_levels(self, n: int, shift: float) -> Any:
        """``set_timesteps``: sigmas and timesteps."""
        scheduler = self.made(shift)
        scheduler.set_timesteps(n, **({"mu": shift} if self.dynamic else {}))
        return scheduler.sigmas, scheduler.timesteps

    def _unmoved(self) -> dict[str, float]:
        """The ``mu`` that leaves a list as it is, where one is wanted."""
        return {"mu": 0.0 if self.dialect.shift == "log" else 1.0} if self.dynamic else {}

    def _flow_path(self, x0: Tensor, noise: Tensor, t: float) -> Any:
        """``scale_noise`` at the scheduler's nearest timestep of training."""
        scheduler = self.made()
        if self.config.invert_sigmas:
            scheduler.set_timesteps(int(self.config.num_train_timesteps), **self._unmoved())
        at = (scheduler.timesteps - t).abs().argmin()
        return scheduler.scale_noise(x0, scheduler.timesteps[at : at + 1], noise)

    def _flow_step(self, x: Tensor, t: float, s: float, velocity: Tensor) -> Any:
        """``step`` between two levels."""
        scheduler = self.made()
        scheduler.set_timesteps(sigmas=[self._noise(one) for one in (t, s)], **self._unmoved())
        # the step is per unit of the level, the target's time has a thousand of them
        velocity = velocity * self.dialect.time_scale
        return scheduler.step(velocity, scheduler.timesteps[0], x).prev_sample


def load(name: str, options: Mapping[str, Any]) -> Target:
    """The target for the scheduler.

    Raises:
        ValueError: the package is missing, or an option is unknown.
    """
    try:
        import diffusers
    except ImportError as missing:
        raise ValueError("diffusers is not installed; pip install diffusers") from missing
    cls = getattr(diffusers, name)
    known_options(name, options, [key for key in inspect.signature(cls).parameters if key != "self"])
    return LevelsTarget(cls, options)
