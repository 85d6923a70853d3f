"""The schedulers of the ``diffusers`` package as targets.

Each target calls the scheduler's own ``set_timesteps``, ``add_noise``, ``get_velocity`` and ``step``; the
dialect is read from the scheduler's configuration. Clipping of x_0 is on by default there; the targets switch
it off unless it is asked for, and say so in their notes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from refdiff import schedule as schedules
from refdiff.oracle.adapters import diffusers_solvers
from refdiff.oracle.adapters.common import known_options
from refdiff.oracle.target import Dialect, Target

VARIANCES = {
    "fixed_small": "beta_tilde",
    "fixed_small_log": "beta_tilde",
    "fixed_large": "beta",
    "fixed_large_log": "beta",
    "learned": "learned",
    "learned_range": "learned_range",
}
PARAMETERIZATIONS = {"epsilon": "eps", "sample": "x_0", "v_prediction": "v"}


class SchedulerTarget(Target):
    """What all schedulers of diffusers offer: tables, and one t for a whole batch.

    Args:
        make: builds a fresh scheduler.
        clipping_was_set: whether the caller chose ``clip_sample``.
    """

    def __init__(self, make: Any, clipping_was_set: bool) -> None:
        import diffusers

        self.make = make
        self.scheduler = make()
        self.config = self.scheduler.config
        self.T = int(self.config.num_train_timesteps)
        self.name = f"diffusers {diffusers.__version__} {type(self.scheduler).__name__}"
        self.dialect = dialect_of(self.config)
        self.notes = notes_of(self.config, clipping_was_set)

    def betas(self) -> Tensor:
        """The scheduler's betas."""
        return torch.as_tensor(self.scheduler.betas)

    def alphas_cumprod(self) -> Tensor:
        """The scheduler's alphas_cumprod."""
        return torch.as_tensor(self.scheduler.alphas_cumprod)


class ForwardTarget(SchedulerTarget):
    """A scheduler that also noises data and gives the list of its levels."""

    def __init__(self, make: Any, clipping_was_set: bool) -> None:
        super().__init__(make, clipping_was_set)
        self.lists: dict[int, Any] = {}

    def thinned(self, n: int) -> Any:
        """A scheduler set to n steps."""
        if n not in self.lists:
            scheduler = self.make()
            scheduler.set_timesteps(n)
            self.lists[n] = scheduler
        return self.lists[n]

    def timesteps(self, n: int) -> list[int]:
        """The timesteps that n steps visit, and data."""
        return [*map(int, self.thinned(n).timesteps), -1]

    def q_sample(self, x0: Tensor, t: int, noise: Tensor) -> Tensor:
        """x_t by ``add_noise``."""
        return self.tensor(self.scheduler.add_noise(x0, noise, torch.full((len(x0),), t)))

    def velocity(self, x0: Tensor, eps: Tensor, t: int) -> Tensor:
        """v by ``get_velocity``."""
        return self.tensor(self.scheduler.get_velocity(x0, eps, torch.full((len(x0),), t)))

    def sample(self, model: Any, x_T: Tensor, steps: int) -> Tensor:
        """The loop that every pipeline of the package runs."""
        scheduler, x = self.thinned(steps), x_T * self.scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            output = model(scheduler.scale_model_input(x, t), int(t))
            x = scheduler.step(output, t, x).prev_sample
        return self.tensor(x)

    @staticmethod
    def tensor(value: Any) -> Tensor:
        """A value that a scheduler returned."""
        assert isinstance(value, Tensor)
        return value


class DDPMTarget(ForwardTarget):
    """``DDPMScheduler``: ancestral steps; the scheduler draws the noise."""

    def ddpm_step(self, x_t: Tensor, t: int, eps: Tensor, noise: Tensor) -> Tensor:
        """x_{t-1} of the whole chain."""
        return self.tensor(self.scheduler.step(eps, t, x_t).prev_sample)


class Strided:
    """Which number of steps makes a scheduler go between two timesteps.

    The step of these schedulers takes the neighbour at distance T // n, whatever their list says. So a pair
    of neighbours of a list that was asked for is stepped with that list's n, any other pair with the n of its
    distance.
    """

    def __init__(self, T: int) -> None:
        self.T = T
        self.of_pair: dict[tuple[int, int], int] = {}

    def remember(self, levels: Sequence[int], n: int) -> None:
        """The pairs of neighbours of a list."""
        for pair in itertools.pairwise(levels):
            self.of_pair.setdefault(pair, n)

    def steps(self, t: int, s: int) -> int | None:
        """The number of steps, or None where no number leads from t to s."""
        if (t, s) in self.of_pair:
            return self.of_pair[t, s]
        if s < 0:
            return 1
        n = self.T // (t - s)
        return n if self.T // n == t - s else None


class DDIMTarget(ForwardTarget):
    """``DDIMScheduler``: steps between neighbours of a list, the noise given."""

    def __init__(self, make: Any, clipping_was_set: bool) -> None:
        super().__init__(make, clipping_was_set)
        self.strided = Strided(self.T)
        if self.dialect.parameterization == "eps":
            self.predict_x0 = self._predict_x0

    def _predict_x0(self, x_t: Tensor, t: int, eps: Tensor) -> Tensor:
        return self.tensor(self.thinned(self.T).step(eps, t, x_t).pred_original_sample)

    def timesteps(self, n: int) -> list[int]:
        """The timesteps that n steps visit, and data."""
        levels = super().timesteps(n)
        self.strided.remember(levels, n)
        return levels

    def ddim_step(self, x_t: Tensor, t: int, s: int, eps: Tensor, eta: float, noise: Tensor) -> Any:
        """x_s; NotImplemented for a pair that no number of steps reaches."""
        n = self.strided.steps(t, s)
        if n is None:
            return NotImplemented
        given = noise if eta > 0 else None
        return self.tensor(self.thinned(n).step(eps, t, x_t, eta=eta, variance_noise=given).prev_sample)


class DDIMInverseTarget(SchedulerTarget):
    """``DDIMInverseScheduler``: from the cleaner to the noisier of two neighbours."""

    def __init__(self, make: Any, clipping_was_set: bool) -> None:
        super().__init__(make, clipping_was_set)
        self.strided = Strided(self.T)
        for n in (10, 50):
            ascending = self.thinned(n).timesteps
            self.strided.remember([*(int(t) for t in reversed(ascending)), -1], n)

    def thinned(self, n: int) -> Any:
        """A scheduler set to n steps."""
        scheduler = self.make()
        scheduler.set_timesteps(n)
        return scheduler

    def ddim_invert(self, x_s: Tensor, s: int, t: int, eps: Tensor) -> Any:
        """x_t; NotImplemented for a pair that no number of steps reaches."""
        n = self.strided.steps(t, s)
        if n is None:
            return NotImplemented
        return ForwardTarget.tensor(self.thinned(n).step(eps, t, x_s).prev_sample)


TARGETS: dict[str, type[SchedulerTarget]] = {
    "DDPMScheduler": DDPMTarget,
    "DDIMScheduler": DDIMTarget,
    "DDIMInverseScheduler": DDIMInverseTarget,
}


def load(name: str, options: Mapping[str, Any]) -> Target:
    """The target for a scheduler class, built with constructor options.

    Raises:
        ValueError: the package is missing, or a class or option is unknown.
    """
    try:
        import diffusers
    except ImportError as missing:
        raise ValueError("diffusers is not installed; pip install diffusers") from missing
    if name not in TARGETS and name not in diffusers_solvers.NAMES:
        known = ", ".join([*TARGETS, *diffusers_solvers.NAMES])
        raise ValueError(f"diffusers class must be one of {known}, got {name!r}")
    cls = getattr(diffusers, name)
    if name in diffusers_solvers.NAMES:
        return diffusers_solvers.load(cls, options)
    known_options(name, options, [key for key in signature(cls).parameters if key not in ("self", "kwargs")])
    settings = {"clip_sample": False, **options}
    return TARGETS[name](lambda: cls(**settings), "clip_sample" in options)


def dialect_of(config: Any) -> Dialect:
    """The conventions that a scheduler's configuration declares."""
    prediction, variance = config.prediction_type, config.get("variance_type", "fixed_small")
    for name, value, known in (
        ("prediction_type", prediction, PARAMETERIZATIONS),
        ("variance_type", variance, VARIANCES),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    return Dialect(
        schedule=schedule_of(config),
        index_origin=0,
        batched_t=False,
        alpha_bar_0="one" if config.get("set_alpha_to_one", True) else "first",
        variance=VARIANCES[variance],
        parameterization=PARAMETERIZATIONS[prediction],
        spacing=config.timestep_spacing,
        offset=config.steps_offset if config.timestep_spacing == "leading" else 0,
        clip=config.clip_sample_range if config.clip_sample else None,
    )


def schedule_of(config: Any) -> schedules.Schedule:
    """The schedule that a configuration names, in exact form."""
    T, low, high = config.num_train_timesteps, config.beta_start, config.beta_end
    if config.trained_betas is not None:
        betas = torch.as_tensor(config.trained_betas, dtype=torch.float64)
        schedule = schedules.from_beta(betas, "trained_betas")
    elif config.beta_schedule == "linear":
        schedule = schedules.linear(T, low, high)
    elif config.beta_schedule == "scaled_linear":
        schedule = schedules.scaled_linear(T, low, high)
    elif config.beta_schedule == "squaredcos_cap_v2":
        schedule = schedules.cosine(T)
    elif config.beta_schedule == "sigmoid":
        schedule = schedules.sigmoid_beta(T, low, high)
    elif config.beta_schedule == "laplace":
        schedule = laplace(T)
    else:
        raise ValueError(f"beta_schedule has no reference here, got {config.beta_schedule!r}")
    return schedules.zero_terminal_snr(schedule) if config.rescale_betas_zero_snr else schedule


def laplace(T: int, b: float = 0.5, beta_max: float = 0.999) -> schedules.Schedule:
    r"""The schedule whose log-SNR at time u is a quantile of Laplace(0, b), regularised by 1e-6 at the ends.

    .. math:: \bar\alpha(u)=\sigma\big(-b\,\operatorname{sgn}(1/2-u)\ln(1-2|1/2-u|+10^{-6})\big)

    Reference: Hang et al. 2024, Improved Noise Schedule for Diffusion Training.
    """

    def alpha_bar(u: float) -> float:
        log_snr = -b * math.copysign(1.0, 0.5 - u) * math.log(1 - 2 * abs(0.5 - u) + 1e-6)
        return 1 / (1 + math.exp(-log_snr))

    betas = [min(1 - alpha_bar((i + 1) / T) / alpha_bar(i / T), beta_max) for i in range(T)]
    return schedules.from_beta(torch.tensor(betas, dtype=torch.float64), "laplace")


def notes_of(config: Any, clipping_was_set: bool) -> tuple[str, ...]:
    """What a reader of the report must know about how the target was set up."""
    notes = []
    if not clipping_was_set:
        notes.append("clip_sample=False was set here, the package's default is True (--set clip_sample=true)")
    if config.get("thresholding", False):
        notes.append("thresholding=True makes the step nonlinear; no formula is declared for it")
    if config.get("variance_type", "").startswith("learned"):
        notes.append("the model output has twice the channels; the second half is the variance channel")
    return tuple(notes)
