"""Whole samplers of SDEs, and their exact law on Gaussian data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from refdiff import _check, gaussian
from refdiff._sde_steps import (
    PREDICTORS,
    ScoreFn,
    corrector_step,
    corrector_step_size,
    heun_step,
    positive,
)
from refdiff.process import Process

Order = Literal["predictor", "corrector"]


def predictor_corrector(
    process: Process,
    score_fn: ScoreFn,
    x: Tensor,
    times: Tensor,
    noises: Iterable[Tensor] = (),
    corrector_noises: Iterable[Tensor] = (),
    *,
    snr: float | None = None,
    steps: Tensor | None = None,
    predictor: str = "reverse_diffusion",
    corrector_steps: int = 0,
    first: Order = "predictor",
    last_noise: bool = True,
    norm: Literal["sample", "batch"] = "batch",
) -> Tensor:
    r"""Predictor–corrector sampling: at each time a step of the reverse SDE and M Langevin steps.

    .. math:: x\leftarrow a\,x+b\,s(x,t_k)+c\,z,\qquad
        x\leftarrow x+\varepsilon\,s(x,t_{k+1})+\sqrt{2\varepsilon}\,z\quad(M\text{ times})

    With M = 0 it is the predictor alone, and with ``predictor="none"`` annealed Langevin sampling. A
    corrector step asks for the score at its own state and time.

    Args:
        process: the forward process.
        score_fn: score of x of shape (B, *) and a float64 time of shape ().
        x: state at the first time, shape (B, *).
        times: descending, float64, shape (N + 1,).
        noises: standard normal, shaped like x, one for each predictor step that draws.
        corrector_noises: one for each corrector step, N·M of them.
        snr: r of the corrector's step rule, with α the squared factor of the step that begins at its time (1
            for VE, 1 − β_i for VP; 1 at the last time).
        steps: in place of ``snr`` the step sizes themselves, one for each time, float64, shape (N + 1,).
        predictor: a name of ``PREDICTORS``, or "heun".
        corrector_steps: M, at least 0.
        first: "predictor", as in algorithms 2 and 3, where the corrector works at the lower time of a step;
            or "corrector", as in their code, where it works at the upper time before the predictor.
        last_noise: whether the last predictor step adds its noise; the code of the source does not.
        norm: as in ``corrector_step_size``.

    Returns:
        The state at the last time, shaped like x.

    Raises:
        ValueError: times that do not descend, an unknown name, a corrector without a step rule or with two,
            or too few noises.

    Reference: Song et al. 2021 (score SDE), algorithms 1 to 5 (formulas ``sde.corrector``,
        ``sde.corrector_step_size``).
    """
    _require_descending(times)
    _require_sampler(predictor, first, corrector_steps, snr, steps, len(times))
    draws, more = iter(noises), iter(corrector_noises)
    alphas = [process.transition(t, s).factor ** 2 for t, s in pairwise(times)]

    def correct(x: Tensor, k: int) -> Tensor:
        for _ in range(corrector_steps):
            noise, score = _take(more, "corrector_noises"), score_fn(x, times[k])
            alpha = alphas[k] if k < len(alphas) else torch.ones_like(alphas[0])
            size = steps[k] if snr is None else corrector_step_size(score, noise, snr, alpha, norm)  # type: ignore[index]
            x = corrector_step(x, score, noise, size)
        return x

    for k in range(len(times) - 1):
        x = correct(x, k) if first == "corrector" else x
        noiseless = predictor == "none" or (k == len(times) - 2 and not last_noise)
        noise = None if noiseless else _take(draws, "noises")
        x = _predict(process, score_fn, x, times[k], times[k + 1], noise, predictor)
        x = correct(x, k + 1) if first == "predictor" else x
    return x


def _predict(
    process: Process, score_fn: ScoreFn, x: Tensor, t: Tensor, s: Tensor, noise: Tensor | None, predictor: str
) -> Tensor:
    if predictor == "none":
        return x
    if predictor == "heun":
        return heun_step(process, score_fn, x, t, s, noise)
    return PREDICTORS[predictor](process, t, s).apply(x, score_fn(x, t), noise)


def gaussian_law(
    process: Process,
    mean: Tensor,
    cov: Tensor,
    times: Tensor,
    start_mean: Tensor,
    start_cov: Tensor,
    *,
    steps: Tensor | None = None,
    predictor: str = "reverse_diffusion",
    corrector_steps: int = 0,
    first: Order = "predictor",
    last_noise: bool = True,
) -> tuple[Tensor, Tensor]:
    r"""Mean and covariance of ``predictor_corrector`` with the exact score of Gaussian data.

    Along an axis of the covariance, with variance c, the score at a time is −(x − scale·m)/V with
    V = scale²c + std², so each step is affine, x ← A x + B + C z, and takes a mean μ to Aμ + B and a
    variance v to A²v + C². The M corrector steps do it with A = 1 − ε/V and C² = 2ε.

    Args:
        process: the forward process.
        mean, cov: of the data, float64, shapes (D,) and (D, D).
        times: descending, float64, shape (N + 1,).
        start_mean, start_cov: of the first state, shapes (D,) and (D, D).
        steps: step sizes of the corrector, one for each time, float64, shape (N + 1,).
        predictor, corrector_steps, first, last_noise: as in ``predictor_corrector``.

    Returns:
        Mean (D,) and covariance (D, D).

    Raises:
        ValueError: as in ``predictor_corrector``, or moments whose shapes or dtypes do not fit.

    Reference: formulas ``sde.affine_mean``, ``sde.affine_variance``, ``sde.corrected_mean``,
        ``sde.corrected_variance``.
    """
    _require_descending(times)
    _require_sampler(predictor, first, corrector_steps, None, steps, len(times))
    gaussian._check_law("mean", mean, "cov", cov)
    gaussian._check_law("start_mean", start_mean, "start_cov", start_cov)
    _check.same(mean=mean, start_mean=start_mean)
    spread, axes = torch.linalg.eigh(cov)
    law = _Axes(process, axes.mT @ mean, spread)
    at, left = axes.mT @ start_mean, axes.mT @ start_cov @ axes
    for k, (t, s) in enumerate(pairwise(times)):
        maps = [law.predictor(predictor, t, s, last_noise or k < len(times) - 2)]
        if corrector_steps:
            assert steps is not None
            place = k + 1 if first == "predictor" else k
            corrections = [law.corrector(times[place], steps[place])] * corrector_steps
            maps = [*maps, *corrections] if first == "predictor" else [*corrections, *maps]
        for slope, offset, noise in maps:
            at, left = slope * at + offset, slope[:, None] * left * slope + torch.diag(noise**2)
    return axes @ at, axes @ left @ axes.mT


Map = tuple[Tensor, Tensor, Tensor]


class _Axes:
    """Steps on Gaussian data as affine maps along its axes: slope, offset and deviation of the noise."""

    def __init__(self, process: Process, mean: Tensor, spread: Tensor) -> None:
        self.process, self.mean, self.spread = process, mean, spread

    def precision(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """1/V and the mean at a time: the score is −(x − mean)/V."""
        scale = self.process.scale(t)
        return 1 / (scale**2 * self.spread + self.process.variance(t)), scale * self.mean

    def corrector(self, t: Tensor, step: Tensor) -> Map:
        sharp, centre = self.precision(t)
        kept = 1 - step * sharp
        return kept, step * sharp * centre, (2 * step).sqrt().expand_as(kept)

    def predictor(self, name: str, t: Tensor, s: Tensor, noisy: bool) -> Map:
        sharp, centre = self.precision(t)
        if name == "heun":
            return self.heun(t, s, noisy)
        step = PREDICTORS[name](self.process, t, s)
        slope = step.x - step.score * sharp
        return slope, step.score * sharp * centre, (step.noise * noisy).expand_as(slope)

    def heun(self, t: Tensor, s: Tensor, noisy: bool) -> Map:
        h = t - s
        slopes, offsets, kicks = zip(*(self.drift(u) for u in (t, s)), strict=True)
        kick = h.sqrt() * kicks[0] * noisy
        on_x = 1 - h / 2 * (slopes[0] + slopes[1] * (1 - h * slopes[0]))
        on_mean = -h / 2 * (offsets[0] + offsets[1] - h * slopes[1] * offsets[0])
        on_noise = (kick + h.sqrt() * kicks[1] * noisy) / 2 - h / 2 * slopes[1] * kick
        return on_x, on_mean, on_noise

    def drift(self, t: Tensor) -> Map:
        """Slope and offset of the reverse drift, and the diffusion."""
        sharp, centre = self.precision(t)
        pull = self.process.diffusion_squared(t) * sharp
        return self.process.drift(t) + pull, -pull * centre, self.process.diffusion(t)


def _require_descending(times: Tensor) -> None:
    if times.dtype != torch.float64 or times.dim() != 1 or len(times) < 2:
        shape = tuple(times.shape)
        raise ValueError(f"times must be float64 of shape (N + 1,), N > 0, got {times.dtype}, {shape}")
    if _check.readable(times) and bool((times[1:] >= times[:-1]).any()):
        raise ValueError(f"times must descend strictly, got {times.tolist()}")


def _require_sampler(
    predictor: str, first: str, corrector_steps: int, snr: float | None, steps: Tensor | None, levels: int
) -> None:
    names = (*PREDICTORS, "heun")
    if predictor not in names:
        raise ValueError(f"predictor must be one of {', '.join(names)}, got {predictor!r}")
    if first not in get_args(Order):
        raise ValueError(f"first must be one of {', '.join(get_args(Order))}, got {first!r}")
    _check.count("corrector_steps", corrector_steps, minimum=0)
    if corrector_steps and (snr is None) == (steps is None):
        raise ValueError("one of snr and steps must be given to a corrector, got both or neither")
    if steps is not None:
        if tuple(steps.shape) != (levels,):
            raise ValueError(f"steps must have shape ({levels},), got {tuple(steps.shape)}")
        positive(steps, "steps")


def _take(draws: Iterator[Tensor], name: str) -> Tensor:
    noise = next(draws, None)
    if noise is None:
        raise ValueError(f"{name} must hold one tensor for each step that draws, got fewer")
    return noise
