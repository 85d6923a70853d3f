"""Every sampler of the library for a trained network, each from its own levels and noises."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from refdiff import _check, consistency, ddim, ddpm, flow, ode, sde, smld, vdm
from refdiff._generate_ask import Ask
from refdiff.objective import Consistency, Flow, Spacing
from refdiff.process import Process
from refdiff.solver import SOLVERS, EDMHeun

Variance = Literal["beta_tilde", "beta"]


@dataclass(frozen=True)
class Options:
    """What samplers may be told; each takes what concerns it.

    Args:
        steps: number of steps, at least 1.
        spacing: of the levels, see ``objective.Objective.levels``.
        eta: η of "ddim".
        variance: of "ddpm", for a network that has learned none.
        inner: Langevin steps at each level; if None 5 of "annealed_langevin", 1 of "predictor_corrector".
        epsilon: of "annealed_langevin", the step size at the last level in units of its variance.
        snr: r of the corrector's step rule.
        churn: S_churn of "edm_churn".
        tolerance: of the adaptive solvers, relative and absolute.

    Raises:
        ValueError: a value out of bounds.
    """

    steps: int = 50
    spacing: Spacing = "own"
    eta: float = 0.0
    variance: Variance = "beta_tilde"
    inner: int | None = None
    epsilon: float = 0.2
    snr: float = 0.16
    churn: float = 4.0
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        _check.count("steps", self.steps)
        if self.inner is not None:
            _check.count("inner", self.inner)
        for name in ("epsilon", "snr", "churn", "tolerance"):
            _check.between(name, getattr(self, name), 0, float("inf"))
        for name, known in (("spacing", Spacing), ("variance", Variance)):
            if getattr(self, name) not in get_args(known):
                names = ", ".join(get_args(known))
                raise ValueError(f"{name} must be one of {names}, got {getattr(self, name)!r}")


@dataclass(frozen=True, eq=False)
class Noises:
    """Standard normal noises of one shape, from a generator of the CPU, so that every device has the same."""

    like: Tensor
    generator: torch.Generator

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            yield self.one()

    def one(self) -> Tensor:
        """The next one."""
        shape, dtype = self.like.shape, self.like.dtype
        return torch.randn(shape, dtype=dtype, generator=self.generator).to(self.like.device)


Sampler: TypeAlias = Callable[[Ask, Noises, Options], Tensor]
"""(ask, noises, options) to samples, shaped like the noises."""


def start(noises: Noises, scale: Tensor, std: Tensor) -> Tensor:
    r"""The first state, for data whose variance is about one.

    .. math:: x=\sqrt{\mathrm{scale}^2+\mathrm{std}^2}\,z
    """
    return torch.hypot(scale, std).to(noises.like) * noises.one()


def by_chain(ask: Ask, noises: Noises, options: Options, ancestral: bool) -> Tensor:
    """Ancestral sampling, or DDIM with η, on the levels of a schedule."""
    schedule, levels = ask.goal.chain(options.steps, options.spacing)
    x = noises.one()
    if not ancestral:
        return _last(ddim.sample(ask.of_chain(schedule), schedule, x, levels, options.eta, noises))
    if ask.goal.learned_variance and options.spacing == "own":
        return _last(ddpm.sample(ask.with_variance(schedule), schedule, x, noises, levels, "learned"))
    return _last(ddpm.sample(ask.of_chain(schedule), schedule, x, noises, levels, options.variance))


def by_solver(ask: Ask, noises: Noises, options: Options, name: str) -> Tensor:
    """A solver of the registry."""
    levels, solver = ask.goal.levels(options.steps, options.spacing), SOLVERS[name]
    if isinstance(solver, EDMHeun):
        # a level is raised by √2 at most, and stays among those that were trained
        solver = EDMHeun(name, options.churn, S_tmax=float(levels.sigma[0]) / math.sqrt(2))
    x = start(noises, levels.scale[0], levels.std[0])
    return solver.sample(ask, x, levels, noises if solver.stochastic else None)


def annealed_langevin(ask: Ask, noises: Noises, options: Options) -> Tensor:
    """Langevin steps at each level of a ladder, and a last denoising."""
    sigmas, inner = ask.goal.levels(options.steps, options.spacing).sigma[:-1], options.inner or 5
    one = torch.ones_like(sigmas[0])
    # the levels in the order in which they are asked for: σ itself comes rounded to the dtype of x
    asked = iter([*sigmas.repeat_interleave(inner), sigmas[-1]])
    score = lambda x, sigma: ask.score(x, one, next(asked))  # noqa: E731
    x = start(noises, one, sigmas[0])
    size = options.epsilon * float(sigmas[-1]) ** 2
    return smld.annealed_langevin(score, sigmas, x, size, inner, noises, denoise=True)


def by_sde(ask: Ask, noises: Noises, options: Options, predictor: str, correct: bool = False) -> Tensor:
    """The reverse SDE from the last time to the first that was trained, and a last denoising."""
    process, times = ask.goal.process(), ask.goal.times(options.steps + 1)
    x = start(noises, *_level(process, times[0]))
    more: dict[str, Any] = {"snr": options.snr, "corrector_steps": options.inner or 1}
    more = {"predictor": predictor, **(more if correct else {})}
    x = sde.predictor_corrector(process, _score(ask, process), x, times, noises, noises, **more)
    return ask.data(x, *_level(process, times[-1]))


def by_ode(ask: Ask, noises: Noises, options: Options, rule: str) -> Tensor:
    """The probability-flow ODE by fixed steps, or adaptive ones, and a last denoising."""
    process, times = ask.goal.process(), ask.goal.times(options.steps + 1)
    x, score = start(noises, *_level(process, times[0])), _score(ask, process)
    if ":" in rule:
        ends, tolerance = (times[0], times[-1]), options.tolerance
        x = ode.integrate(process, score, x, *ends, method=rule, rtol=tolerance, atol=tolerance)
    else:
        x = _last(ode.trajectory(process, score, x, times, rule))  # type: ignore[arg-type]
    return ask.data(x, *_level(process, times[-1]))


def by_flow(ask: Ask, noises: Noises, options: Options) -> Tensor:
    """Euler's method along the path of a flow network, from pure noise; for others the straight path."""
    if isinstance(ask.goal, Flow) and ask.classifier is None:
        path, last, model = ask.goal.curve, ask.goal.curve.end, ask.velocity
    else:
        path = flow.path("rectified")
        sigma = ask.goal.levels(options.steps, options.spacing).sigma[0]
        last = float(sigma / (1 + sigma))

        def model(x: Tensor, t: Tensor) -> Tensor:
            return flow.velocity(path, x, t, eps=ask(x, path.scale(t), path.std(t)))

    times = torch.linspace(last, 0, options.steps + 1, dtype=torch.float64)
    x = start(noises, path.scale(times[0]), path.std(times[0]))
    return _last(flow.sample(model, x, times))


def by_vdm(ask: Ask, noises: Noises, options: Options) -> Tensor:
    """Ancestral steps between values of γ, and a last denoising."""
    gammas = 2 * ask.goal.levels(options.steps, options.spacing).sigma[:-1].log()
    z = noises.one()
    for gamma_t, gamma_s in pairwise(gammas):
        z = vdm.step(z, gamma_t, gamma_s, ask(z, *vdm.level(gamma_t)), noises.one())
    return ask.data(z, *vdm.level(gammas[-1]))


def by_consistency(ask: Ask, noises: Noises, options: Options) -> Tensor:
    """Multistep sampling of a consistency function."""
    goal = ask.goal
    if not isinstance(goal, Consistency):
        raise ValueError(f"sampler 'consistency' needs a consistency model, got {type(goal).__name__}")
    if ask.classifier is not None or ask.scale != 1:
        raise ValueError("sampler 'consistency' takes no guidance, got a scale or a classifier")
    sigmas = goal.levels(options.steps).sigma[:-1]
    x = start(noises, torch.ones_like(sigmas[0]), sigmas[0])
    draws = [noises.one() for _ in sigmas[1:]]
    return consistency.multistep(ask.function, x, sigmas, draws, goal.sigma_min)


def _last(path: Iterable[tuple[Any, Tensor]]) -> Tensor:
    """The last state of a trajectory."""
    for _, state in path:
        x = state
    return x


def _level(process: Process, t: Tensor) -> tuple[Tensor, Tensor]:
    return process.scale(t), process.std(t)


def _score(ask: Ask, process: Process) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, t: ask.score(x, *_level(process, t))


SAMPLERS: dict[str, Sampler] = {
    "ddpm": partial(by_chain, ancestral=True),
    "ddim": partial(by_chain, ancestral=False),
    **{name: partial(by_solver, name=name) for name in SOLVERS if name != "ddim"},
    "annealed_langevin": annealed_langevin,
    "euler_maruyama": partial(by_sde, predictor="euler_maruyama"),
    "reverse_diffusion": partial(by_sde, predictor="reverse_diffusion"),
    "sde_ancestral": partial(by_sde, predictor="ancestral"),
    "sde_heun": partial(by_sde, predictor="heun"),
    "predictor_corrector": partial(by_sde, predictor="reverse_diffusion", correct=True),
    "ode_euler": partial(by_ode, rule="euler"),
    "ode_heun": partial(by_ode, rule="heun"),
    "ode_rk4": partial(by_ode, rule="rk4"),
    "ode_rk45": partial(by_ode, rule="scipy:RK45"),
    "ode_dop853": partial(by_ode, rule="scipy:DOP853"),
    "flow": by_flow,
    "vdm": by_vdm,
    "consistency": by_consistency,
}
"""The samplers by name; those of ``solver.SOLVERS`` have their own, but "ddim" is the one with η."""
