"""The samplers, denoisers, schedules and the classifier-free guidance of the ``azula`` package as targets.

Time is continuous there, with signal alpha and noise sigma of any scale. A target has T levels at the times
1/T, ..., 1, and its states are divided by the root of alpha² + sigma², which makes every schedule variance
preserving; the steps of the package are the same in both spaces. A network predicts through the package's
own denoiser: x_0 through ``SimpleDenoiser``, or v through ``KarrasDenoiser``, whose network answers -v.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from refdiff import schedule as schedules
from refdiff.oracle.adapters import azula_solvers
from refdiff.oracle.adapters.common import DTYPES, Rows, chosen, drawing, known_options, one_by_one
from refdiff.oracle.target import Dialect, Target

try:
    # the packages of the pretrained models are not needed
    import azula
    from azula import denoise, noise, sample
    from azula.guidance import cfg as guidance
except ImportError as missing:
    raise ValueError("azula is not installed; pip install --no-deps azula einops") from missing

SCHEDULES = {
    "vp": noise.VPSchedule,
    "cosine": noise.CosineSchedule,
    "rectified": noise.RectifiedSchedule,
    "decay": noise.DecaySchedule,
    "ve": noise.VESchedule,
}
DENOISERS = {"simple": (denoise.SimpleDenoiser, "x_0", 1.0), "karras": (denoise.KarrasDenoiser, "v", -1.0)}
T = 100


class Levels:
    """The package's schedule on a grid, and the exact schedule of the same definition.

    Args:
        name: vp, cosine, rectified, decay or ve.
        options: of the schedule, and T.

    With noise left at time 0 (``sigma_min`` > 0), time 0 is the first level, and there is none of data.
    """

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self.package = chosen("schedule", name, SCHEDULES)(**options)
        self.name, self.options = name, options

    def grid(self, steps: int) -> schedules.Schedule:
        """The exact schedule, on the times that its levels have."""
        self.steps, self.first = steps, 0 if self.sigma_min > 0 else 1
        times = torch.arange(self.first, steps + 1, dtype=torch.float64) / steps
        log_alpha_bar = torch.cat([torch.zeros(1, dtype=torch.float64), self.log_alpha_bar(times)])
        return schedules.from_log_alpha_bar(log_alpha_bar, f"azula {self.name}")

    @property
    def sigma_min(self) -> float:
        """The noise at time 0."""
        return float(self.package.sigma_min)

    def log_alpha_bar(self, u: Tensor) -> Tensor:
        """The log of alpha² / (alpha² + sigma²), by the definitions that the package documents."""
        low, least = self.sigma_min, getattr(self.package, "alpha_min", 1.0)
        if self.name == "vp":
            return 2 * u**2 * math.log(least) - math.log1p(low**2)
        if self.name == "cosine":
            return -torch.log1p(torch.tan(u * math.acos(least)) ** 2) - math.log1p(low**2)
        if self.name == "ve":
            return -torch.log1p((low ** (1 - u) * self.package.sigma_max**u) ** 2)
        if self.name == "decay":
            gamma = self.package.gamma
            u = torch.expm1(u * math.log(gamma)) / (gamma - 1)
        return -torch.log1p(((u + (1 - u) * low) / (u * least + 1 - u)) ** 2)


class Backbone(nn.Module):
    """A network of the package: (state of unit scale, log(sigma / alpha)) to an output of the target's model.

    Args:
        model: (state, label) -> output, in the target's own words.
        sign: of the package's output.
        label: log(sigma / alpha) to the label of a level.
        dtype: of the network.
    """

    def __init__(
        self, model: Callable[..., Tensor], sign: float, label: Callable[[Tensor], Tensor], dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.model, self.sign, self.label = model, sign, label
        self.register_buffer("like", torch.zeros((), dtype=dtype))

    def forward(self, x: Tensor, c_time: Tensor, **given: Any) -> Tensor:
        """The model's output, as the package takes it."""
        return self.sign * self.model(x, self.label(c_time), **given)


class AzulaTarget(Target):
    """What all targets share: schedule, denoiser, levels and scales.

    Args:
        cls: a class of the package.
        options: of the class and of its schedule; ``schedule``, ``denoiser``, ``T`` and ``dtype``.
    """

    batched = False
    own: tuple[str, ...] = ()
    set_here: Mapping[str, Any] = {}

    def __init__(self, cls: Any, options: Mapping[str, Any]) -> None:
        settings = {"schedule": "vp", "denoiser": "simple", "T": T, "dtype": "float64", **options}
        name = settings["schedule"]
        about = self._schedule_options(cls, name, settings)
        self.cls, self.name = cls, f"azula {azula.__version__} {cls.__name__}"
        self.levels, self.dtype = Levels(name, about), chosen("dtype", settings["dtype"], DTYPES)
        self.denoiser_class, kind, self.sign = chosen("denoiser", settings["denoiser"], DENOISERS)
        self.settings = {**self.set_here, **{key: settings[key] for key in self.own if key in settings}}
        self.T, schedule = int(settings["T"]), self.levels.grid(int(settings["T"]))
        odds = -schedule.log_alpha_bar[1:] + torch.log(-torch.expm1(schedule.log_alpha_bar[1:]))
        self.times = odds / 2
        self.dialect = self.spoken(
            Dialect(
                schedule=schedule, index_origin=self.levels.first, batched_t=self.batched,
                parameterization=kind, dtype=settings["dtype"], eta="eta_squared", spacing="trailing",
                cfg="ho",
            )
        )  # fmt: skip
        self.notes = tuple(self.noted(options))

    def _schedule_options(self, cls: Any, name: str, settings: dict[str, Any]) -> dict[str, Any]:
        of_schedule = list(inspect.signature(chosen("schedule", name, SCHEDULES)).parameters)
        known = ["schedule", "denoiser", "T", "dtype", *of_schedule, *self.own]
        known_options(cls.__name__, settings, known)
        # data themselves at time 0, where neither the schedule nor the solver takes a logarithm of it
        clean = {} if name == "ve" or cls.__name__ == "xEABSampler" else {"sigma_min": 0.0}
        return clean | {key: float(settings[key]) for key in of_schedule if key in settings}

    def spoken(self, dialect: Dialect) -> Dialect:
        """The conventions of the class."""
        return dialect

    def noted(self, options: Mapping[str, Any]) -> list[str]:
        """What a reader of the report must know."""
        notes = [f"level i is time i/{self.T}; states are divided by sqrt(alpha² + sigma²)"]
        if "sigma_min" not in options and self.levels.sigma_min == 0:
            notes.append("sigma_min=0 was set here, the package's default is 0.001 (--set sigma_min=0.001)")
        if self.levels.sigma_min > 0:
            notes.append(
                f"time 0 keeps noise of standard deviation {self.levels.sigma_min:g}, and steps end there: "
                "no level is data, so whole samplers are not asked"
            )
        if self.dialect.parameterization == "v":
            notes.append("the network of KarrasDenoiser answers -v; its sign is turned here")
        parameters = inspect.signature(self.cls).parameters
        notes += [
            f"{key}={value} was set here, the package's default is {parameters[key].default}"
            for key, value in self.set_here.items()
            if key not in options
        ]
        return notes

    def time(self, level: int | Tensor) -> Tensor:
        """The time of a level."""
        return torch.as_tensor(level, dtype=torch.float64).to(self.dtype) / self.T

    def scale(self, level: int | Tensor) -> Tensor:
        """sqrt(alpha² + sigma²), by the package's own schedule."""
        alpha, sigma = self.levels.package(self.time(level))
        scale: Tensor = (alpha**2 + sigma**2).sqrt()
        return scale

    def label(self, c_time: Tensor) -> Tensor:
        """The label whose level has this log(sigma / alpha); a number between where there is none."""
        found = torch.searchsorted(self.times, c_time.double().contiguous()).clamp(1, len(self.times) - 1)
        low, high = self.times[found - 1], self.times[found]
        value = self.levels.first + found - 1 + (c_time - low) / (high - low)
        near = value.round()
        return torch.where((value - near).abs() < 1e-3, near, value)

    def denoiser(self, model: Callable[..., Tensor]) -> Any:
        """The package's denoiser around a model."""
        backbone = Backbone(model, self.sign, self.label, self.dtype)
        return self.denoiser_class(backbone, self.levels.package)

    def alphas_cumprod(self) -> Any:
        """alpha² / (alpha² + sigma²) at the levels."""
        alpha, sigma = self.levels.package(self.time(torch.arange(self.levels.first, self.T + 1)))
        return alpha**2 / (alpha**2 + sigma**2)

    def sigmas(self) -> Any:
        """sigma / alpha at the levels."""
        alpha, sigma = self.levels.package(self.time(torch.arange(self.levels.first, self.T + 1)))
        return sigma / alpha


class SamplerTarget(AzulaTarget):
    """A sampler: its ``step`` between any two times, and its loop."""

    def __init__(self, cls: Any, options: Mapping[str, Any]) -> None:
        super().__init__(cls, options)
        if self.levels.sigma_min == 0:
            self.timesteps, self.sample = self._timesteps, self._sample

    def step(self, x_t: Tensor, t: int, s: int, output: Tensor, **settings: Any) -> Any:
        """x_s; NotImplemented for a level before time 0."""
        if s < 0:
            return NotImplemented
        sampler = self.cls(self.denoiser(lambda x, label: output), **{**self.settings, **settings})
        x_s = sampler.step(x_t * self.scale(t), self.time(t), self.time(s))
        return x_s / self.scale(s)

    def _sampler(self, model: Any, n: int) -> Any:
        return self.cls(self.denoiser(model), steps=n, silent=True, dtype=self.dtype, **self.settings)

    def _timesteps(self, n: int) -> Any:
        """The levels of n steps; ValueError where a time is no level."""
        if self.T % n:
            raise ValueError(f"n must divide T = {self.T}, got {n}")
        return (self._sampler(None, n).timesteps * self.T).round()

    def _sample(self, model: Any, x_T: Tensor, steps: int) -> Any:
        """``__call__`` from time 1 to 0."""
        if self.T % steps:
            raise ValueError(f"steps must divide T = {self.T}, got {steps}")
        return self._sampler(model, steps)(x_T * self.scale(self.T)) / self.scale(0)


class DDPM(SamplerTarget):
    """``DDPMSampler``: ancestral steps; the sampler draws the noise."""

    def spoken(self, dialect: Dialect) -> Dialect:
        """Its loop is ancestral sampling."""
        return dialect.but(sampler="ddpm")

    def ddpm_step(self, x_t: Tensor, t: int, eps: Tensor, noise: Tensor) -> Any:
        """x_{t-1}."""
        return self.step(x_t, t, t - 1, eps)


class DDIM(SamplerTarget):
    """``DDIMSampler``: its eta is the square of the paper's."""

    own = ("eta",)

    def spoken(self, dialect: Dialect) -> Dialect:
        """Its loop is DDIM."""
        return dialect.but(sampler="ddim")

    def ddim_step(self, x_t: Tensor, t: int, s: int, eps: Tensor, eta: float, noise: Tensor) -> Any:
        """x_s; the sampler draws the noise."""
        return self.step(x_t, t, s, eps, eta=eta)


class Deterministic(SamplerTarget):
    """``EulerSampler``: DDIM without noise."""

    def spoken(self, dialect: Dialect) -> Dialect:
        """Its loop is DDIM."""
        return dialect.but(sampler="ddim")

    def ddim_step(self, x_t: Tensor, t: int, s: int, eps: Tensor, eta: float, noise: Tensor) -> Any:
        """x_s; NotImplemented with noise."""
        return NotImplemented if eta > 0 else self.step(x_t, t, s, eps)


class MultiStep(SamplerTarget):
    """A multi-step solver: its first step, of order 1, is DDIM without noise, whatever it integrates."""

    own: tuple[str, ...] = ("order",)
    set_here: Mapping[str, Any] = {"order": 1}

    def __init__(self, cls: Any, options: Mapping[str, Any]) -> None:
        super().__init__(cls, options)
        if self.settings["order"] != 1:
            raise ValueError(f"order must be 1: no other has a formula here, got {self.settings['order']}")

    def spoken(self, dialect: Dialect) -> Dialect:
        """Its loop is DDIM."""
        return dialect.but(sampler="ddim")

    def ddim_step(self, x_t: Tensor, t: int, s: int, eps: Tensor, eta: float, noise: Tensor) -> Any:
        """x_s by a loop of one step; NotImplemented with noise."""
        if eta > 0 or s < 0:
            return NotImplemented
        ends = {"start": t / self.T, "stop": s / self.T, "steps": 1, "silent": True, "dtype": self.dtype}
        sampler = self.cls(self.denoiser(lambda x, label: eps), **self.settings, **ends)
        return sampler(x_t * self.scale(t)) / self.scale(s)


class DenoiserTarget(AzulaTarget):
    """A denoiser: x_0 from the network's output, its loss or the loss's weight."""

    batched = True

    def __init__(self, cls: Any, options: Mapping[str, Any]) -> None:
        name = {"SimpleDenoiser": "simple", "KarrasDenoiser": "karras"}[cls.__name__]
        super().__init__(cls, {**options, "denoiser": name})
        if name == "karras":
            self.loss, self.predict_x0 = self._loss, self._predict_x0
        else:
            self.loss_weight = self._loss_weight

    def spoken(self, dialect: Dialect) -> Dialect:
        """The loss is a mean; its weight makes it one of v."""
        return dialect.but(weighting="snr_plus_one")

    def _predict_x0(self, x_t: Tensor, t: Tensor, eps: Tensor) -> Any:
        """The mean that the denoiser answers for a network whose v belongs to eps."""
        axes = [1] * (x_t.dim() - 1)
        alpha, sigma = (part.reshape(-1, *axes) for part in self.levels.package(self.time(t)))
        scale = (alpha**2 + sigma**2).sqrt()
        v = (scale * eps - sigma * x_t) / alpha
        return self.denoiser(lambda x, label: v)(x_t * scale, self.time(t)).mean

    def _loss(self, model: Any, x0: Tensor, t: Tensor, noise: Tensor) -> Any:
        """The loss of each sample."""
        rows = Rows(model, x0)

        def alone(i: int, row: Tensor) -> Tensor:
            value: Tensor = self.denoiser(rows.row(i)).loss(row, self.time(t[i : i + 1]))
            return value

        return one_by_one(x0, alone, noise)

    def _loss_weight(self, t: Tensor) -> Any:
        """The loss of an output that is off by one, where data are 0."""
        zeros, ones = torch.zeros(1, 1, dtype=self.dtype), torch.ones(1, 1, dtype=self.dtype)
        denoiser = self.denoiser(lambda x, label: ones)
        with drawing(zeros[0]):
            return torch.stack([denoiser.loss(zeros, self.time(one).reshape(1)) for one in t])


class Guided(AzulaTarget):
    """``CFGDenoiser``: its guidance is w of (1 + w) c - w u; asked at the middle level."""

    def cfg(self, uncond: Tensor, cond: Tensor, scale: float) -> Any:
        """The guided mean of two means."""
        outputs = {"positive": cond, "negative": uncond}
        denoiser = self.cls(self.denoiser(lambda x, label, name: outputs[name]))
        labels = {name: {"name": name} for name in outputs}
        t = self.time(self.T // 2)
        return denoiser(torch.zeros_like(cond), t, **labels, guidance=scale).mean


class ScheduleTarget(AzulaTarget):
    """A schedule by itself: its levels."""

    def __init__(self, cls: Any, options: Mapping[str, Any]) -> None:
        name = next(key for key, value in SCHEDULES.items() if value is cls)
        super().__init__(cls, {**options, "schedule": name})


KINDS: dict[str, tuple[Any, type[AzulaTarget]]] = {
    "DDPMSampler": (sample, DDPM),
    "DDIMSampler": (sample, DDIM),
    "EulerSampler": (sample, Deterministic),
    "zABSampler": (sample, MultiStep),
    "vABSampler": (sample, MultiStep),
    "zEABSampler": (sample, MultiStep),
    "xEABSampler": (sample, MultiStep),
    "SimpleDenoiser": (denoise, DenoiserTarget),
    "KarrasDenoiser": (denoise, DenoiserTarget),
    "CFGDenoiser": (guidance, Guided),
    **{cls.__name__: (noise, ScheduleTarget) for cls in SCHEDULES.values()},
}


def load(name: str, options: Mapping[str, Any]) -> Target:
    """The target for a class of azula.

    Raises:
        ValueError: an unknown class or option.
    """
    if azula_solvers.solves(name, options):
        return azula_solvers.SolverTarget(getattr(sample, name), options)
    module, kind = chosen("azula class", name, KINDS)
    target: AzulaTarget = kind(getattr(module, name), options)
    return target
