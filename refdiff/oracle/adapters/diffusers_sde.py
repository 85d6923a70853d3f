"""The schedulers of score-based equations of the ``diffusers`` package: predictor, corrector and levels.

Both have tables: a step goes from a level to its neighbour, whatever times the caller has. Levels of the
process that explodes are at i / (N - 1); of the one that preserves variance steps have the length 1 / N.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from refdiff import process as processes
from refdiff import schedule as schedules
from refdiff.oracle.adapters.common import chosen, known_options
from refdiff.oracle.target import Dialect, Target

NAMES = ("ScoreSdeVeScheduler", "ScoreSdeVpScheduler")


class ScoreTarget(Target):
    """What both have: the class and its options."""

    def __init__(self, cls: Any, options: Mapping[str, Any]) -> None:
        import diffusers

        self.cls, self.options = cls, dict(options)
        self.config = cls(**self.options).config
        self.N = int(self.config.num_train_timesteps)
        self.name = f"diffusers {diffusers.__version__} {cls.__name__}"


class ExplodingTarget(ScoreTarget):
    """``ScoreSdeVeScheduler``: geometric levels, a reverse-diffusion step and a Langevin corrector."""

    def __init__(self, cls: Any, options: Mapping[str, Any]) -> None:
        super().__init__(cls, options)
        process = processes.VE(float(self.config.sigma_min), float(self.config.sigma_max))
        levels = torch.arange(self.N, dtype=torch.float64) / (self.N - 1)
        signal = torch.cat([torch.zeros(1, dtype=torch.float64), -torch.log1p(process.variance(levels))])
        self.dialect = Dialect(
            schedule=schedules.from_log_alpha_bar(signal, "diffusers ve"),
            dtype="float32", space="ve", index_origin=0, process=process, time_steps=self.N - 1, grid="N-1",
            predictor="reverse_diffusion", corrector="before", corrector_norm="batch",
        )  # fmt: skip
        self.notes = [
            "the network is asked with the timestep here, the package's pipeline asks with its sigma"
        ]

    def scheduler(self, n: int, **changes: Any) -> Any:
        """The scheduler as its pipeline sets it to n steps."""
        made = self.cls(**{**self.options, **changes})
        made.set_timesteps(n)
        made.set_sigmas(n)
        return made

    def own(self, scheduler: Any, t: Tensor) -> Tensor:
        """The scheduler's own timesteps, where times are those of levels."""
        levels = (t * (self.N - 1)).round().long()
        times: Tensor = scheduler.timesteps[self.N - 1 - levels]
        return times

    def sigmas(self) -> Any:
        """``discrete_sigmas``."""
        return self.scheduler(self.N).discrete_sigmas

    def discretize(self, n: int) -> Any:
        """``discrete_sigmas`` of n steps."""
        return self.scheduler(n).discrete_sigmas

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor) -> Any:
        """``add_noise``, which takes images."""
        if x0.dim() != 4:
            return NotImplemented
        return self.scheduler(self.N).add_noise(x0, noise, t)

    def sde_step(self, x: Tensor, t: Tensor, s: Tensor, score: Tensor, noise: Tensor) -> Any:
        """``step_pred`` from a level to the one below; it draws the noise."""
        scheduler = self.scheduler(self.N)
        return scheduler.step_pred(score, self.own(scheduler, t), x).prev_sample

    def corrector_step(self, x: Tensor, score: Tensor, noise: Tensor, snr: float) -> Any:
        """``step_correct``; it draws the noise."""
        return self.scheduler(self.N, snr=snr).step_correct(score, x).prev_sample

    def predictor_corrector(
        self, score_fn: Any, x: Tensor, times: Tensor, snr: float, noises: Tensor, corrector_noises: Tensor
    ) -> Any:
        """The loop of the package's pipeline, between two levels; it draws the noises."""
        scheduler = self.scheduler(self.N, snr=snr)
        for t in times[:-1]:
            every = t.expand(len(x))
            for _ in range(int(self.config.correct_steps)):
                x = scheduler.step_correct(score_fn(x, every), x).prev_sample
            x = scheduler.step_pred(score_fn(x, every), self.own(scheduler, every), x).prev_sample
        return x


class PreservingTarget(ScoreTarget):
    """``ScoreSdeVpScheduler``: Euler-Maruyama steps; its network answers eps."""

    def __init__(self, cls: Any, options: Mapping[str, Any]) -> None:
        super().__init__(cls, options)
        self.dialect = Dialect(
            process=processes.VP(float(self.config.beta_min), float(self.config.beta_max)),
            time_steps=self.N,
            prediction="eps",
        )
        self.notes = [
            "steps are between neighbours of i / N: they have the length 1 / N, while the package's own "
            "timesteps are (1 - sampling_eps) / (N - 1) apart"
        ]

    def scheduler(self) -> Any:
        """The scheduler, set to N steps."""
        made = self.cls(**self.options)
        made.set_timesteps(self.N)
        return made

    def sde_step(self, x: Tensor, t: Tensor, s: Tensor, score: Tensor, noise: Tensor) -> Any:
        """``step_pred``; it draws the noise."""
        return self.scheduler().step_pred(score, x, t)[0]

    def sde_sample(self, score_fn: Any, x: Tensor, times: Tensor, noises: Tensor) -> Any:
        """``step_pred`` at every time but the last."""
        scheduler = self.scheduler()
        for t in times[:-1]:
            every = t.expand(len(x))
            x = scheduler.step_pred(score_fn(x, every), x, every)[0]
        return x


def load(name: str, options: Mapping[str, Any]) -> Target:
    """The target for one of the two schedulers.

    Raises:
        ValueError: the package is missing, or a class or option is unknown.
    """
    try:
        schedulers = import_module("diffusers.schedulers")
        # the package's own list needs transformers for it
        deprecated = import_module("diffusers.schedulers.deprecated.scheduling_sde_vp")
    except ImportError as missing:
        raise ValueError("diffusers is not installed; pip install diffusers") from missing
    where = {NAMES[0]: (schedulers, ExplodingTarget), NAMES[1]: (deprecated, PreservingTarget)}
    module, kind = chosen("diffusers class", name, where)
    cls = getattr(module, name)
    known_options(name, options, [key for key in inspect.signature(cls).parameters if key != "self"])
    target: ScoreTarget = kind(cls, options)
    return target
