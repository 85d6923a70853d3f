r"""What a network may predict, and the conversions between them, every pair both ways.

Given :math:`x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\varepsilon`, each of these says the same:

- ``eps``, the noise;
- ``x_0``, the data;
- ``v``, :math:`v=\sqrt{\bar\alpha_t}\,\varepsilon-\sqrt{1-\bar\alpha_t}\,x_0`;
- ``score``, :math:`-\varepsilon/\sqrt{1-\bar\alpha_t}`;
- ``mu``, the mean of :math:`q(x_{t-1}\mid x_t,x_0)`.

So each is :math:`p\,x_t+q\,\cdot` any other, and the table ``COEFFICIENTS`` holds the twenty pairs (p, q).
A pair is converted where it is defined: what divides by the noise level, and all of ``mu``, needs t >= 1;
to leave ``eps`` or ``score`` for something else needs signal, :math:`\bar\alpha_t>0`.

Every function takes the schedule, x_t of shape (B, *), the level t, an int or shape (B,), and the value, of
the shape of x_t; it returns a tensor of that shape, dtype and device. It raises ValueError for a level out of
the bounds of the pair, and for a value of another shape, dtype or device than x_t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from refdiff import _check
from refdiff.schedule import Level, Schedule, cast, from_alpha_bar, from_beta, from_log_alpha_bar, take

Name = Literal["eps", "x_0", "v", "score", "mu"]

NAMES: tuple[Name, ...] = ("eps", "x_0", "v", "score", "mu")


class At:
    """The symbols of one level in float64, shape () or (B,), each looked up when it is used."""

    def __init__(self, schedule: Schedule, t: Level) -> None:
        self.schedule, self.t = schedule, t

    @property
    def a(self) -> Tensor:
        """sqrt(alpha_bar_t)"""
        return take(self.schedule.sqrt_alpha_bar, self.t)

    @property
    def b(self) -> Tensor:
        """sqrt(1 - alpha_bar_t)"""
        return take(self.schedule.sqrt_one_minus_alpha_bar, self.t)

    @property
    def sigma(self) -> Tensor:
        """b / a"""
        return take(self.schedule.sigma, self.t)

    @property
    def beta(self) -> Tensor:
        """beta_t"""
        return take(self.schedule.beta, self.t)

    @property
    def r(self) -> Tensor:
        """sqrt(alpha_t)"""
        return take(self.schedule.alpha, self.t).sqrt()

    @property
    def g(self) -> Tensor:
        """sqrt(alpha_bar_{t-1})"""
        return take(self.schedule.sqrt_alpha_bar, self.t - 1)

    @property
    def w(self) -> Tensor:
        """1 - alpha_bar_{t-1}"""
        return take(self.schedule.one_minus_alpha_bar, self.t - 1)


# (source, target): target = p x_t + q source
COEFFICIENTS: dict[tuple[Name, Name], Callable[[At], tuple[Tensor | float, Tensor | float]]] = {
    ("eps", "x_0"): lambda n: (1 / n.a, -n.sigma),
    ("eps", "v"): lambda n: (-n.sigma, 1 / n.a),
    ("eps", "score"): lambda n: (0.0, -1 / n.b),
    ("eps", "mu"): lambda n: (1 / n.r, -n.beta / (n.b * n.r)),
    ("x_0", "eps"): lambda n: (1 / n.b, -n.a / n.b),
    ("x_0", "v"): lambda n: (n.a / n.b, -1 / n.b),
    ("x_0", "score"): lambda n: (-1 / n.b**2, n.a / n.b**2),
    ("x_0", "mu"): lambda n: (n.r * n.w / n.b**2, n.g * n.beta / n.b**2),
    ("v", "eps"): lambda n: (n.b, n.a),
    ("v", "x_0"): lambda n: (n.a, -n.b),
    ("v", "score"): lambda n: (-1.0, -n.a / n.b),
    ("v", "mu"): lambda n: (n.r, -n.g * n.beta / n.b),
    ("score", "eps"): lambda n: (0.0, -n.b),
    ("score", "x_0"): lambda n: (1 / n.a, n.b * n.sigma),
    ("score", "v"): lambda n: (-n.sigma, -n.sigma),
    ("score", "mu"): lambda n: (1 / n.r, n.beta / n.r),
    ("mu", "eps"): lambda n: (n.b / n.beta, -n.r * n.b / n.beta),
    ("mu", "x_0"): lambda n: (-n.r * n.w / (n.g * n.beta), n.b**2 / (n.g * n.beta)),
    ("mu", "v"): lambda n: (n.r * n.b / (n.g * n.beta), -n.b / (n.g * n.beta)),
    ("mu", "score"): lambda n: (-1 / n.beta, n.r / n.beta),
}

_DIVIDES_BY_NOISE = {("eps", "score"), ("v", "score"), ("x_0", "eps"), ("x_0", "v"), ("x_0", "score")}


def bounds(schedule: Schedule, source: Name, target: Name) -> tuple[int, int]:
    """The lowest and the highest level at which a conversion is defined."""
    for role, name in (("source", source), ("target", target)):
        if name not in NAMES:
            raise ValueError(f"{role} must be one of {', '.join(NAMES)}, got {name!r}")
    lowest = int("mu" in (source, target) or (source, target) in _DIVIDES_BY_NOISE)
    noise = ("eps", "score")
    highest = schedule.last_signal if source in noise and target not in noise else schedule.T
    return (0, schedule.T) if source == target else (lowest, highest)


def coefficients(schedule: Schedule, t: Level, source: Name, target: Name) -> tuple[Tensor, Tensor]:
    r"""The factors of x_t and of the source in a conversion, in float64.

    .. math:: \text{target}=p\,x_t+q\,\text{source}

    Args:
        schedule: noise schedule with T steps.
        t: level, an int or shape (B,).
        source, target: two of ``NAMES``.

    Returns:
        p and q, each of shape () or (B,).

    Raises:
        ValueError: an unknown name, or a level outside ``bounds(schedule, source, target)``.
    """
    lowest, highest = bounds(schedule, source, target)
    _check.level("t", t, highest, lowest)
    p, q = (0.0, 1.0) if source == target else COEFFICIENTS[source, target](At(schedule, t))
    like = take(schedule.beta, t)
    if isinstance(p, float):
        p = torch.full_like(like, p)
    return p, torch.full_like(like, q) if isinstance(q, float) else q


def convert(schedule: Schedule, x_t: Tensor, t: Level, value: Tensor, source: Name, target: Name) -> Tensor:
    r"""One parameterization from another.

    .. math:: \text{target}=p\,x_t+q\,\text{source}

    Args:
        schedule: noise schedule with T steps.
        x_t: noised data, shape (B, *).
        t: level, an int or shape (B,).
        value: the source, shape (B, *).
        source, target: two of ``NAMES``.

    Returns:
        The target, shape (B, *), a new tensor.

    Raises:
        ValueError: an unknown name, a level outside ``bounds(schedule, source, target)``, or a value of
            another shape, dtype or device than x_t.

    Reference: formula ``parameterization.<target>_from_<source>``.
    """
    _check.same(x_t=x_t, value=value)
    _check.batch("t", t, x_t)
    lowest, highest = bounds(schedule, source, target)
    _check.level("t", t, highest, lowest)
    if source == target:
        return value.clone()
    p, q = COEFFICIENTS[source, target](At(schedule, t))
    scaled = _times(q, value)
    return scaled if isinstance(p, float) and p == 0 else _times(p, x_t) + scaled


def _times(factor: Tensor | float, x: Tensor) -> Tensor:
    return cast(factor, x) * x if isinstance(factor, Tensor) else factor * x


def x_0_from_eps(schedule: Schedule, x_t: Tensor, t: Level, eps: Tensor) -> Tensor:
    r"""The data from the noise.

    .. math:: x_0=\frac{x_t-\sqrt{1-\bar\alpha_t}\,\varepsilon}{\sqrt{\bar\alpha_t}}

    Reference: formula ``parameterization.x_0_from_eps``.
    """
    return convert(schedule, x_t, t, eps, "eps", "x_0")


def v_from_eps(schedule: Schedule, x_t: Tensor, t: Level, eps: Tensor) -> Tensor:
    r"""The velocity from the noise.

    .. math:: v=\frac{\varepsilon-\sqrt{1-\bar\alpha_t}\,x_t}{\sqrt{\bar\alpha_t}}

    Reference: formula ``parameterization.v_from_eps``.
    """
    return convert(schedule, x_t, t, eps, "eps", "v")


def score_from_eps(schedule: Schedule, x_t: Tensor, t: Level, eps: Tensor) -> Tensor:
    r"""The score from the noise.

    .. math:: s=-\frac{\varepsilon}{\sqrt{1-\bar\alpha_t}}

    Reference: formula ``parameterization.score_from_eps``.
    """
    return convert(schedule, x_t, t, eps, "eps", "score")


def mu_from_eps(schedule: Schedule, x_t: Tensor, t: Level, eps: Tensor) -> Tensor:
    r"""The posterior mean from the noise.

    .. math:: \mu=\frac{1}{\sqrt{\alpha_t}}\left(x_t-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\,\varepsilon\right)

    Reference: formula ``parameterization.mu_from_eps``.
    """
    return convert(schedule, x_t, t, eps, "eps", "mu")


def eps_from_x_0(schedule: Schedule, x_t: Tensor, t: Level, x_0: Tensor) -> Tensor:
    r"""The noise from the data.

    .. math:: \varepsilon=\frac{x_t-\sqrt{\bar\alpha_t}\,x_0}{\sqrt{1-\bar\alpha_t}}

    Reference: formula ``parameterization.eps_from_x_0``.
    """
    return convert(schedule, x_t, t, x_0, "x_0", "eps")


def v_from_x_0(schedule: Schedule, x_t: Tensor, t: Level, x_0: Tensor) -> Tensor:
    r"""The velocity from the data.

    .. math:: v=\frac{\sqrt{\bar\alpha_t}\,x_t-x_0}{\sqrt{1-\bar\alpha_t}}

    Reference: formula ``parameterization.v_from_x_0``.
    """
    return convert(schedule, x_t, t, x_0, "x_0", "v")


def score_from_x_0(schedule: Schedule, x_t: Tensor, t: Level, x_0: Tensor) -> Tensor:
    r"""The score from the data.

    .. math:: s=\frac{\sqrt{\bar\alpha_t}\,x_0-x_t}{1-\bar\alpha_t}

    Reference: formula ``parameterization.score_from_x_0``.
    """
    return convert(schedule, x_t, t, x_0, "x_0", "score")


def mu_from_x_0(schedule: Schedule, x_t: Tensor, t: Level, x_0: Tensor) -> Tensor:
    r"""The posterior mean from the data.

    .. math:: \mu=\frac{\sqrt{\alpha_t}(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}x_t+
        \frac{\sqrt{\bar\alpha_{t-1}}\beta_t}{1-\bar\alpha_t}x_0

    Reference: formula ``parameterization.mu_from_x_0``.
    """
    return convert(schedule, x_t, t, x_0, "x_0", "mu")


def eps_from_v(schedule: Schedule, x_t: Tensor, t: Level, v: Tensor) -> Tensor:
    r"""The noise from the velocity.

    .. math:: \varepsilon=\sqrt{1-\bar\alpha_t}\,x_t+\sqrt{\bar\alpha_t}\,v

    Reference: formula ``parameterization.eps_from_v``.
    """
    return convert(schedule, x_t, t, v, "v", "eps")


def x_0_from_v(schedule: Schedule, x_t: Tensor, t: Level, v: Tensor) -> Tensor:
    r"""The data from the velocity.

    .. math:: x_0=\sqrt{\bar\alpha_t}\,x_t-\sqrt{1-\bar\alpha_t}\,v

    Reference: formula ``parameterization.x_0_from_v``.
    """
    return convert(schedule, x_t, t, v, "v", "x_0")


def score_from_v(schedule: Schedule, x_t: Tensor, t: Level, v: Tensor) -> Tensor:
    r"""The score from the velocity.

    .. math:: s=-x_t-\frac{\sqrt{\bar\alpha_t}}{\sqrt{1-\bar\alpha_t}}\,v

    Reference: formula ``parameterization.score_from_v``.
    """
    return convert(schedule, x_t, t, v, "v", "score")


def mu_from_v(schedule: Schedule, x_t: Tensor, t: Level, v: Tensor) -> Tensor:
    r"""The posterior mean from the velocity.

    .. math:: \mu=\sqrt{\alpha_t}\,x_t-\frac{\sqrt{\bar\alpha_{t-1}}\beta_t}{\sqrt{1-\bar\alpha_t}}\,v

    Reference: formula ``parameterization.mu_from_v``.
    """
    return convert(schedule, x_t, t, v, "v", "mu")


def eps_from_score(schedule: Schedule, x_t: Tensor, t: Level, score: Tensor) -> Tensor:
    r"""The noise from the score.

    .. math:: \varepsilon=-\sqrt{1-\bar\alpha_t}\,s

    Reference: formula ``parameterization.eps_from_score``.
    """
    return convert(schedule, x_t, t, score, "score", "eps")


def x_0_from_score(schedule: Schedule, x_t: Tensor, t: Level, score: Tensor) -> Tensor:
    r"""The data from the score.

    .. math:: x_0=\frac{x_t+(1-\bar\alpha_t)s}{\sqrt{\bar\alpha_t}}

    Reference: formula ``parameterization.x_0_from_score``.
    """
    return convert(schedule, x_t, t, score, "score", "x_0")


def v_from_score(schedule: Schedule, x_t: Tensor, t: Level, score: Tensor) -> Tensor:
    r"""The velocity from the score.

    .. math:: v=-\frac{\sqrt{1-\bar\alpha_t}}{\sqrt{\bar\alpha_t}}(x_t+s)

    Reference: formula ``parameterization.v_from_score``.
    """
    return convert(schedule, x_t, t, score, "score", "v")


def mu_from_score(schedule: Schedule, x_t: Tensor, t: Level, score: Tensor) -> Tensor:
    r"""The posterior mean from the score.

    .. math:: \mu=\frac{x_t+\beta_t s}{\sqrt{\alpha_t}}

    Reference: formula ``parameterization.mu_from_score``.
    """
    return convert(schedule, x_t, t, score, "score", "mu")


def eps_from_mu(schedule: Schedule, x_t: Tensor, t: Level, mu: Tensor) -> Tensor:
    r"""The noise from the posterior mean.

    .. math:: \varepsilon=\frac{\sqrt{1-\bar\alpha_t}}{\beta_t}(x_t-\sqrt{\alpha_t}\,\mu)

    Reference: formula ``parameterization.eps_from_mu``.
    """
    return convert(schedule, x_t, t, mu, "mu", "eps")


def x_0_from_mu(schedule: Schedule, x_t: Tensor, t: Level, mu: Tensor) -> Tensor:
    r"""The data from the posterior mean.

    .. math:: x_0=
        \frac{(1-\bar\alpha_t)\mu-\sqrt{\alpha_t}(1-\bar\alpha_{t-1})x_t}{\sqrt{\bar\alpha_{t-1}}\beta_t}

    Reference: formula ``parameterization.x_0_from_mu``.
    """
    return convert(schedule, x_t, t, mu, "mu", "x_0")


def v_from_mu(schedule: Schedule, x_t: Tensor, t: Level, mu: Tensor) -> Tensor:
    r"""The velocity from the posterior mean.

    .. math:: v=\frac{\sqrt{1-\bar\alpha_t}}{\sqrt{\bar\alpha_{t-1}}\beta_t}(\sqrt{\alpha_t}\,x_t-\mu)

    Reference: formula ``parameterization.v_from_mu``.
    """
    return convert(schedule, x_t, t, mu, "mu", "v")


def score_from_mu(schedule: Schedule, x_t: Tensor, t: Level, mu: Tensor) -> Tensor:
    r"""The score from the posterior mean.

    .. math:: s=\frac{\sqrt{\alpha_t}\,\mu-x_t}{\beta_t}

    Reference: formula ``parameterization.score_from_mu``.
    """
    return convert(schedule, x_t, t, mu, "mu", "score")


@dataclass(frozen=True, eq=False)
class DDIMPaper:
    r"""The notation of the DDIM paper, whose alpha is the cumulative product.

    .. math:: \alpha^{\text{DDIM}}_t=\bar\alpha_t

    Args:
        alpha: shape (T + 1,), 1 at data.

    Reference: Song et al. 2021 (DDIM), section 2.
    """

    alpha: Tensor

    @classmethod
    def from_schedule(cls, schedule: Schedule) -> DDIMPaper:
        """A schedule in this notation."""
        return cls(schedule.alpha_bar)

    def to_schedule(self) -> Schedule:
        """The schedule; 1 - alpha keeps what alpha holds of it."""
        return from_alpha_bar(self.alpha, "ddim_paper")


@dataclass(frozen=True, eq=False)
class Su:
    r"""The notation of Su Jianlin, whose symbols are the roots.

    .. math:: \alpha_t^2+\beta_t^2=1,\quad\bar\alpha_t=\prod\alpha_i,\quad\bar\alpha_t^2+\bar\beta_t^2=1

    Args:
        alpha, beta: roots of 1 - beta_t and beta_t, shape (T + 1,), 1 and 0 at data.
        alpha_bar, beta_bar: roots of alpha_bar_t and 1 - alpha_bar_t, shape (T + 1,), 1 and 0 at data.
    """

    alpha: Tensor
    beta: Tensor
    alpha_bar: Tensor
    beta_bar: Tensor

    @classmethod
    def from_schedule(cls, schedule: Schedule) -> Su:
        """A schedule in this notation."""
        root, root_bar = schedule.sqrt_alpha_bar, schedule.sqrt_one_minus_alpha_bar
        return cls(schedule.alpha.sqrt(), schedule.beta.sqrt(), root, root_bar)

    def to_schedule(self) -> Schedule:
        """The schedule, from beta."""
        return from_beta(self.beta[1:].double() ** 2, "su")


@dataclass(frozen=True, eq=False)
class ScoreSDE:
    r"""The variance-preserving notation of the score SDE at the times t / T.

    .. math:: x(t)=\mathrm{scale}(t)\,x(0)+\mathrm{std}(t)\,\varepsilon,\quad\beta_{t}=\beta(t/T)/T

    Args:
        time: t / T, shape (T + 1,).
        scale, std: factors of data and noise, shape (T + 1,).
        beta: the continuous beta, T times that of the step, shape (T + 1,), 0 at data.

    Reference: Song et al. 2021 (score SDE), appendix B.
    """

    time: Tensor
    scale: Tensor
    std: Tensor
    beta: Tensor

    @classmethod
    def from_schedule(cls, schedule: Schedule) -> ScoreSDE:
        """A schedule in this notation."""
        level = torch.arange(schedule.T + 1, dtype=torch.float64, device=schedule.beta.device)
        std = schedule.sqrt_one_minus_alpha_bar
        return cls(level / schedule.T, schedule.sqrt_alpha_bar, std, schedule.beta * schedule.T)

    def to_schedule(self) -> Schedule:
        """The schedule, from scale and std, each on the side where it is the smaller of the two."""
        scale, std = self.scale.double(), self.std.double()
        log_alpha_bar = torch.where(std < scale, torch.log1p(-(std**2)), 2 * scale.log())
        return from_log_alpha_bar(log_alpha_bar, "score_sde")


@dataclass(frozen=True, eq=False)
class EDM:
    r"""The notation of EDM: the noise level of the scaled sample.

    .. math:: x_t/s_t=x_0+\sigma_t\varepsilon,\quad s_t=\sqrt{\bar\alpha_t},
        \quad\sigma_t^2=(1-\bar\alpha_t)/\bar\alpha_t

    Args:
        sigma: shape (T + 1,), 0 at data, ascending.
        scale: s, shape (T + 1,).

    Reference: Karras et al. 2022, table 1 (formula ``schedule.sigma``).
    """

    sigma: Tensor
    scale: Tensor

    @classmethod
    def from_schedule(cls, schedule: Schedule) -> EDM:
        """A schedule in this notation."""
        return cls(schedule.sigma, schedule.sqrt_alpha_bar)

    def to_schedule(self) -> Schedule:
        """The schedule, from sigma."""
        log_variance = 2 * self.sigma.double().log()
        return from_log_alpha_bar(-torch.logaddexp(log_variance, torch.zeros_like(log_variance)), "edm")


@dataclass(frozen=True, eq=False)
class VDM:
    r"""The notation of VDM: the negative log signal-to-noise ratio.

    .. math:: \gamma_t=-\log\mathrm{SNR}_t,\quad\alpha_t^2=\mathrm{sigmoid}(-\gamma_t),
        \quad\sigma_t^2=\mathrm{sigmoid}(\gamma_t)

    Args:
        gamma: shape (T + 1,), -inf at data, ascending.

    Reference: Kingma et al. 2021, section 3.1 (formula ``schedule.log_snr``).
    """

    gamma: Tensor

    @classmethod
    def from_schedule(cls, schedule: Schedule) -> VDM:
        """A schedule in this notation."""
        return cls(-schedule.log_snr)

    def to_schedule(self) -> Schedule:
        """The schedule: log alpha_bar is the log-sigmoid of -gamma."""
        gamma = self.gamma.double()
        return from_log_alpha_bar(-torch.logaddexp(gamma, torch.zeros_like(gamma)), "vdm")


NOTATIONS: dict[str, type[DDIMPaper] | type[Su] | type[ScoreSDE] | type[EDM] | type[VDM]] = {
    "ddim_paper": DDIMPaper,
    "su": Su,
    "score_sde": ScoreSDE,
    "edm": EDM,
    "vdm": VDM,
}


def to_sigma_space(schedule: Schedule, x_t: Tensor, t: Level) -> Tensor:
    r"""The sample of a sigma-space sampler (EDM, VE), in which data is not scaled.

    .. math:: x_t/\sqrt{\bar\alpha_t}=x_0+\sigma_t\varepsilon

    Args:
        schedule: noise schedule with T steps.
        x_t: noised data, shape (B, *).
        t: level with alpha_bar_t > 0, an int or shape (B,).

    Returns:
        Shape (B, *).

    Raises:
        ValueError: a level outside 0..T or without signal.

    Reference: formula ``schedule.sigma``.
    """
    _check.level("t", t, schedule.last_signal)
    _check.batch("t", t, x_t)
    return cast(1 / take(schedule.sqrt_alpha_bar, t), x_t) * x_t


def from_sigma_space(schedule: Schedule, x: Tensor, t: Level) -> Tensor:
    r"""The noised data of a sample in sigma space.

    .. math:: x_t=\sqrt{\bar\alpha_t}\,(x_0+\sigma_t\varepsilon)

    Args:
        schedule: noise schedule with T steps.
        x: sample in sigma space, shape (B, *).
        t: level with alpha_bar_t > 0, an int or shape (B,).

    Returns:
        Shape (B, *).

    Raises:
        ValueError: a level outside 0..T or without signal.

    Reference: formula ``schedule.sigma``.
    """
    _check.level("t", t, schedule.last_signal)
    _check.batch("t", t, x)
    return cast(take(schedule.sqrt_alpha_bar, t), x) * x
