"""The steps of samplers of SDEs, by their coefficients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from refdiff import _check
from refdiff._process_base import require_earlier
from refdiff.process import Process, Time, Transition
from refdiff.schedule import cast

ScoreFn: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""s(x, t) for x of shape (B, *) and a float64 time of shape () or (B,), shaped like x."""
Noise = Literal["posterior", "forward"]


@dataclass(frozen=True, eq=False)
class Affine:
    r"""A step that is affine in the state, its score and its noise.

    .. math:: x_s=a\,x_t+b\,s(x_t)+c\,z

    Args:
        x, score, noise: a, b and c, float64, shape () or (B,).
    """

    x: Tensor
    score: Tensor
    noise: Tensor

    def apply(self, x: Tensor, score: Tensor, noise: Tensor | None = None) -> Tensor:
        """The step itself; without noise, its mean."""
        _check.same(x=x, score=score, **({} if noise is None else {"noise": noise}))
        for name, value in (("x", self.x), ("score", self.score), ("noise", self.noise)):
            _check.batch(f"the time of the coefficient of {name}", value, x)
        mean = torch.addcmul(cast(self.x, x) * x, cast(self.score, x), score)
        return mean if noise is None else torch.addcmul(mean, cast(self.noise, x), noise)


def forward_drift(process: Process, x: Tensor, t: Time) -> Tensor:
    """The drift f(t) x of the forward process, shaped like x."""
    return on(process.drift(t), x) * x


def reverse_drift(process: Process, x: Tensor, t: Time, score: Tensor) -> Tensor:
    r"""The drift of the reverse SDE, in which time runs down.

    .. math:: f(t)\,x-g(t)^2\,\nabla\log p_t(x)

    Args:
        process: the forward process.
        x: state at time t, shape (B, *).
        t: time, a float or float64 of shape () or (B,).
        score: gradient of the log-density at x, shaped like x.

    Returns:
        Shaped like x; it multiplies dt, which is negative.

    Raises:
        ValueError: a time outside, or tensors of different shape, dtype or device.

    Reference: Anderson 1982; Song et al. 2021 (score SDE), eq. 6 (formula ``sde.reverse_drift``).
    """
    _check.same(x=x, score=score)
    return torch.addcmul(forward_drift(process, x, t), on(-process.diffusion_squared(t), x), score)


def euler_maruyama(process: Process, t: Time, s: Time) -> Affine:
    r"""The step of Euler and Maruyama: coefficients of time t, held until s.

    .. math:: x_s=(1-hf)\,x_t+hg^2\,s(x_t)+\sqrt h\,g\,z,\qquad h=t-s

    Args:
        process: the forward process.
        t, s: times with s < t.

    Returns:
        The coefficients.

    Raises:
        ValueError: a time outside, or s not below t.

    Reference: Song et al. 2021 (score SDE), section 4.1 (formula ``sde.euler_maruyama``).
    """
    later, earlier = _falling(process, t, s)
    h = later - earlier
    added = h * process.diffusion_squared(later)
    return Affine(1 - h * process.drift(later), added, added.sqrt())


def reverse_diffusion(process: Process, t: Time, s: Time) -> Affine:
    r"""Reverse diffusion sampling: the reverse SDE with the discretisation of the forward chain.

    .. math:: x_s=(2-a)\,x_t+v\,s(x_t)+\sqrt v\,z,\qquad x_t\mid x_s\sim\mathcal N(a\,x_s,v)

    Args:
        process: the forward process.
        t, s: times with s < t.

    Returns:
        The coefficients; for neighbours of a chain those of the chain's β or σ.

    Raises:
        ValueError: a time outside, or s not below t.

    Reference: Song et al. 2021 (score SDE), eq. 46 (formulas ``sde.reverse_diffusion``,
        ``sde.reverse_diffusion_vp``, ``sde.reverse_diffusion_ve``).
    """
    return reverse_diffusion_of(process.transition(t, s))


def reverse_diffusion_of(step: Transition) -> Affine:
    r"""Reverse diffusion over one step of a chain, such as (√(1−β), β) or (1, σ_t² − σ_s²).

    .. math:: x_s=(2-a)\,x_t+v\,s(x_t)+\sqrt v\,z

    Args:
        step: factor a and variance v of x_t given x_s, float64.

    Reference: formula ``sde.reverse_diffusion``.
    """
    return Affine(2 - step.factor, step.variance, step.variance.sqrt())


def ancestral(process: Process, t: Time, s: Time, kind: Noise = "posterior") -> Affine:
    r"""Ancestral sampling: the posterior of x_s given x_t and the mean of the data given x_t.

    .. math:: x_s=\frac{x_t+v\,s(x_t)}a+c\,z,\qquad c^2=v\,\frac{\mathrm{std}_s^2}{\mathrm{std}_t^2}
        \quad\text{or}\quad v

    Args:
        process: the forward process.
        t, s: times with s < t.
        kind: the noise c: "posterior", that of the posterior given the data, or "forward", that of the
            forward step, which Song et al. use for VP.

    Returns:
        The coefficients.

    Raises:
        ValueError: a time outside, s not below t, or an unknown kind.

    Reference: Song et al. 2021 (score SDE), eq. 4 and 47 (formula ``sde.ancestral``).
    """
    if kind not in get_args(Noise):
        raise ValueError(f"kind must be one of {', '.join(get_args(Noise))}, got {kind!r}")
    later, earlier = process.time(t), process.time(s)
    a, v = process.transition(later, earlier)
    power = v if kind == "forward" else v * (process.variance(earlier) / process.variance(later))
    return Affine(1 / a, v / a, power.sqrt())


def identity(process: Process, t: Time, s: Time) -> Affine:
    """No predictor: the state is passed on to the next level as it is."""
    one = torch.ones_like(process.transition(t, s).factor)
    return Affine(one, torch.zeros_like(one), torch.zeros_like(one))


PREDICTORS = MappingProxyType(
    {
        "euler_maruyama": euler_maruyama,
        "reverse_diffusion": reverse_diffusion,
        "ancestral": ancestral,
        "none": identity,
    }
)
"""The coefficients of a step from t down to s, by name."""


def heun_step(
    process: Process, score_fn: ScoreFn, x: Tensor, t: Time, s: Time, noise: Tensor | None = None
) -> Tensor:
    r"""A step of stochastic Heun: the mean of the drifts at both ends, and one noise for both of them.

    .. math:: x_s=x_t-\tfrac h2\left(d_t(x_t)+d_s(\tilde x)\right)+\sqrt h\,\tfrac{g_t+g_s}2\,z,\qquad
        \tilde x=x_t-h\,d_t(x_t)+\sqrt h\,g_t\,z

    Args:
        process: the forward process; d is the drift of its reverse.
        score_fn: score of x of shape (B, *) and a float64 time of shape () or (B,); asked twice.
        x: state at time t, shape (B, *).
        t, s: times with s < t; the score must exist at s.
        noise: standard normal, shaped like x; None is the step of an ODE with the same drift.

    Returns:
        The state at time s, shaped like x.

    Raises:
        ValueError: a time outside, s not below t, or tensors of different shape, dtype or device.

    Reference: Kloeden and Platen 1992, section 15.1 (formulas ``sde.heun_mean``,
        ``sde.heun_variance``).
    """
    later, earlier = _falling(process, t, s)
    if noise is not None:
        _check.same(x=x, noise=noise)
    h, root = later - earlier, (later - earlier).sqrt()
    start, end = root * process.diffusion(later), root * process.diffusion(earlier)
    first = reverse_drift(process, x, later, score_fn(x, later))
    guess = _moved(x, (-h, first), (start, noise))
    second = reverse_drift(process, guess, earlier, score_fn(guess, earlier))
    return _moved(x, (-h / 2, first), (-h / 2, second), ((start + end) / 2, noise))


def runge_kutta_step(
    process: Process,
    score_fn: ScoreFn,
    x: Tensor,
    t: Time,
    s: Time,
    noise: Tensor,
    second_noise: Tensor,
) -> Tensor:
    r"""A step of stochastic Runge–Kutta of strong order 1.5, with two noises and two scores.

    .. math:: x_s=x_t-h\left(\tfrac13d_t(x_t)+\tfrac23d_r(H)\right)
        +\sqrt h\left(\tfrac{g_t+g_s}2z+\tfrac{g_t-g_s}{2\sqrt3}\omega\right),\qquad r=t-\tfrac34h

    .. math:: H=x_t-\tfrac34h\,d_t(x_t)+\tfrac34\sqrt h\,g_t\left(z+\tfrac\omega{\sqrt3}\right)

    Args:
        process: the forward process; d is the drift of its reverse.
        score_fn: score of x of shape (B, *) and a float64 time of shape () or (B,); never asked at s.
        x: state at time t, shape (B, *).
        t, s: times with s < t.
        noise, second_noise: z and ω, standard normal, shaped like x: √h·z is the increment of the Brownian
            motion, and with ω its integral over the step.

    Returns:
        The state at time s, shaped like x.

    Raises:
        ValueError: a time outside, s not below t, or tensors of different shape, dtype or device.

    Reference: Rößler 2010, SRA1 (formulas ``sde.runge_kutta_stage``, ``sde.runge_kutta_drift``,
        ``sde.runge_kutta_noise``, ``sde.brownian_integral``).
    """
    _check.same(x=x, noise=noise, second_noise=second_noise)
    later, earlier = _falling(process, t, s)
    h, root, inner = later - earlier, (later - earlier).sqrt(), later - 0.75 * (later - earlier)
    start, end = root * process.diffusion(later), root * process.diffusion(earlier)
    first = reverse_drift(process, x, later, score_fn(x, later))
    kick = (0.75 * start, noise), (0.75 * start / math.sqrt(3), second_noise)
    stage = _moved(x, (-0.75 * h, first), *kick)
    second = reverse_drift(process, stage, inner, score_fn(stage, inner))
    spread = ((start + end) / 2, noise), ((start - end) / math.sqrt(12), second_noise)
    return _moved(x, (-h / 3, first), (-2 * h / 3, second), *spread)


def _falling(process: Process, t: Time, s: Time) -> tuple[Tensor, Tensor]:
    """Times of the process with s < t."""
    later, earlier = process.time(t), process.time(s)
    require_earlier(later, earlier)
    return later, earlier


def _moved(x: Tensor, *terms: tuple[Tensor, Tensor | None]) -> Tensor:
    """A state and multiples of others, of which one that is None is left out."""
    for coefficient, other in terms:
        if other is not None:
            x = torch.addcmul(x, on(coefficient, x), other)
    return x


def corrector_step(x: Tensor, score: Tensor, noise: Tensor, step: float | Tensor) -> Tensor:
    r"""A Langevin step at one level.

    .. math:: x+\varepsilon\,s(x)+\sqrt{2\varepsilon}\,z

    Args:
        x: state, shape (B, *).
        score: score at x and its level, shaped like x.
        noise: standard normal, shaped like x.
        step: ε, above 0, a float or float64 of shape () or (B,).

    Returns:
        The next state, shaped like x.

    Raises:
        ValueError: ε not above 0 and finite, or tensors of different shape, dtype or device.

    Reference: Song et al. 2021 (score SDE), algorithms 4 and 5 (formula ``sde.corrector``).
    """
    _check.same(x=x, score=score, noise=noise)
    size = positive(step)
    _check.batch("step", size, x)
    return _moved(x, (size, score), ((2 * size).sqrt(), noise))


def corrector_step_size(
    score: Tensor, noise: Tensor, snr: float, alpha: Time = 1.0, norm: Literal["sample", "batch"] = "batch"
) -> Tensor:
    r"""The step size that gives a corrector step its signal-to-noise ratio.

    .. math:: \varepsilon=2\alpha\left(r\,\frac{\|z\|}{\|s\|}\right)^2

    Args:
        score, noise: shape (B, *).
        snr: r, above 0.
        alpha: 1 for VE; 1 − β_i for VP in the source; a float or float64 of shape () or (B,).
        norm: "batch" divides the means of the norms over the batch, as the source does, so that all samples
            share one step; "sample" gives each its own.

    Returns:
        float64, shape () for one step or (B,).

    Raises:
        ValueError: an r or α not above 0, a score of norm 0, an unknown norm, or tensors of different shape.

    Reference: Song et al. 2021 (score SDE), algorithms 4 and 5 (formula ``sde.corrector_step_size``).
    """
    _check.same(score=score, noise=noise)
    if norm not in ("sample", "batch"):
        raise ValueError(f"norm must be sample or batch, got {norm!r}")
    scale = positive(alpha, "alpha")
    _check.batch("alpha", scale, score)
    sizes = [torch.linalg.vector_norm(part.double().flatten(1), dim=1) for part in (noise, score)]
    if norm == "batch":
        sizes = [size.mean() for size in sizes]
    if _check.readable(score) and bool((sizes[1] == 0).any()):
        raise ValueError("score must have a norm above 0, got 0")
    size: Tensor = positive(snr, "snr").to(score.device) * sizes[0] / sizes[1]
    return 2 * scale.to(score.device) * size**2


def on(value: Tensor, x: Tensor) -> Tensor:
    """A float64 number at each time, in the dtype and on the device of x."""
    _check.batch("t", value, x)
    return cast(value, x)


def positive(step: float | Tensor, name: str = "step") -> Tensor:
    """A number above 0 as float64, of shape () or (B,)."""
    size = step if isinstance(step, Tensor) else torch.tensor(float(step), dtype=torch.float64)
    if size.dtype != torch.float64 or size.dim() > 1:
        shape = tuple(size.shape)
        raise ValueError(f"{name} must be a float or float64 of shape () or (B,), got {size.dtype}, {shape}")
    right = (size > 0) & size.isfinite()
    if _check.readable(size) and not bool(right.all()):
        raise ValueError(f"{name} must be above 0 and finite, got {size[~right].flatten()[0].item()}")
    return size
