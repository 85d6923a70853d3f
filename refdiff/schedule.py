r"""Noise schedules: tables over the levels 0..T, sub-sequences of them, respacing.

Level 0 is data: :math:`\beta_0 = 0` and :math:`\bar\alpha_0 = 1`. A table has T + 1 entries of float64 and is
computed without cancellation: :math:`\log\bar\alpha_t = \sum_{i\le t}\log(1-\beta_i)`, and
:math:`1-\bar\alpha_t = -\mathrm{expm1}(\log\bar\alpha_t)`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from refdiff import _check
from refdiff._check import Level as Level

Spacing = Literal["leading", "linspace", "trailing", "quadratic"]

TABLES = (
    "beta",
    "alpha",
    "alpha_bar",
    "log_alpha_bar",
    "sqrt_alpha_bar",
    "one_minus_alpha_bar",
    "sqrt_one_minus_alpha_bar",
    "sigma",
    "snr",
    "log_snr",
)


@dataclass(frozen=True, eq=False)
class Schedule:
    r"""The tables of one noise schedule, float64, shape (T + 1,), index 0 is data.

    .. math:: q(x_t\mid x_0)=\mathcal N(x_t;\sqrt{\bar\alpha_t}\,x_0,(1-\bar\alpha_t)I)

    Args:
        name: name of the schedule.
        beta: variance of each step, beta_0 = 0, then inside (0, 1] after rounding; 1 is zero terminal SNR.
        log_alpha_bar: log of alpha_bar, 0 at data, strictly decreasing; -inf at T is zero terminal SNR.
        low: what float64 rounded off log_alpha_bar, zeros if not given; kept as ``log_alpha_bar_low``, it
            makes differences of near levels exact.

    ``last_signal`` is the last level whose sqrt_alpha_bar is above 0 in float64: T, or T - 1 where level T
    has zero SNR, or earlier where it underflows.

    Raises:
        ValueError: a table of another shape or dtype, with NaN, or outside its bounds.

    Reference: Ho et al. 2020, section 2 (formula ``schedule.alpha_bar_product``, ``schedule.sigma``,
    ``schedule.snr``, ``schedule.log_snr``).
    """

    name: str
    beta: Tensor = field(repr=False)
    log_alpha_bar: Tensor = field(repr=False)
    low: InitVar[Tensor | None] = None
    log_alpha_bar_low: Tensor = field(init=False, repr=False)
    T: int = field(init=False)
    last_signal: int = field(init=False)
    alpha: Tensor = field(init=False, repr=False)
    alpha_bar: Tensor = field(init=False, repr=False)
    sqrt_alpha_bar: Tensor = field(init=False, repr=False)
    one_minus_alpha_bar: Tensor = field(init=False, repr=False)
    sqrt_one_minus_alpha_bar: Tensor = field(init=False, repr=False)
    sigma: Tensor = field(init=False, repr=False)
    snr: Tensor = field(init=False, repr=False)
    log_snr: Tensor = field(init=False, repr=False)

    def __post_init__(self, low: Tensor | None) -> None:
        _check_tables(self.beta, self.log_alpha_bar)
        log_alpha_bar = self.log_alpha_bar
        low = torch.zeros_like(log_alpha_bar) if low is None else low
        # abs in place of a minus, which would make the zero of data -0 and its SNR -inf
        one_minus_alpha_bar = torch.expm1(log_alpha_bar).abs()
        sqrt_one_minus_alpha_bar = one_minus_alpha_bar.sqrt()
        sqrt_alpha_bar = (log_alpha_bar / 2).exp()
        tables = {
            "T": self.beta.shape[0] - 1,
            "last_signal": int((sqrt_alpha_bar > 0).sum()) - 1,
            "log_alpha_bar_low": low,
            "alpha": torch.cat([log_alpha_bar[:1], log_alpha_bar.diff() + low.diff()]).exp(),
            "alpha_bar": log_alpha_bar.exp(),
            "sqrt_alpha_bar": sqrt_alpha_bar,
            "one_minus_alpha_bar": one_minus_alpha_bar,
            "sqrt_one_minus_alpha_bar": sqrt_one_minus_alpha_bar,
            "sigma": (-log_alpha_bar / 2).exp() * sqrt_one_minus_alpha_bar,
            "snr": 1 / torch.expm1(-log_alpha_bar).abs(),
            "log_snr": log_alpha_bar - one_minus_alpha_bar.log(),
        }
        for name, table in tables.items():
            object.__setattr__(self, name, table)

    def to(self, device: torch.device | str) -> Schedule:
        """The same tables on another device (moved, not computed again)."""
        moved = copy.copy(self)
        for name, table in vars(self).items():
            if isinstance(table, Tensor):
                object.__setattr__(moved, name, table.to(device))
        return moved

    def at(self, table: str | Tensor, t: Level, like: Tensor) -> Tensor:
        """A table's entries at level t, in the dtype and on the device of a tensor they multiply.

        Args:
            table: name of a table (one of ``TABLES``), or any tensor of shape (T + 1,).
            t: level, 0 <= t <= T, an int or shape (B,).
            like: tensor of shape (B, *).

        Returns:
            A new tensor of shape () for one level, (B, 1, ..., 1) for a batch of levels.

        Raises:
            ValueError: t outside 0..T or not of the batch of ``like``; an unknown table.
        """
        values = self.table(table) if isinstance(table, str) else table
        if values.dim() != 1 or values.shape[0] != self.T + 1:
            raise ValueError(f"table must have shape ({self.T + 1},), got {tuple(values.shape)}")
        _check.level("t", t, self.T)
        _check.batch("t", t, like)
        return cast(take(values, t), like, copy=True)

    def table(self, name: str) -> Tensor:
        """The table of a name of ``TABLES``, float64, shape (T + 1,)."""
        if name not in TABLES:
            raise ValueError(f"table must be one of {', '.join(TABLES)}, got {name!r}")
        values: Tensor = getattr(self, name)
        return values


def take(table: Tensor, t: Level) -> Tensor:
    """The entries of a table at level t, on the device of t, unchecked: shape () or (B,)."""
    if isinstance(t, Tensor):
        return table.to(t.device)[t]
    return table[t]


def cast(value: Tensor, like: Tensor, copy: bool = False) -> Tensor:
    """A float64 coefficient, () or (B,), in the dtype and on the device of a tensor of shape (B, *)."""
    _check.floating("like", like)
    if value.dim() == 1:
        value = value.reshape(-1, *(1,) * (like.dim() - 1))
    return value.to(like.device, like.dtype, copy=copy)


def log_ratio(schedule: Schedule, t: Level, s: Level) -> Tensor:
    r"""The log of the signal power that is left between two levels, in float64.

    .. math:: \log\bar\alpha_t-\log\bar\alpha_s

    Args:
        schedule: noise schedule with T steps.
        t, s: levels in 0..T, an int or shape (B,); unchecked, in either order.

    Returns:
        Shape () or (B,), exact to rounding even for neighbours; -inf where alpha_bar_t = 0.

    Reference: formula ``ddpm.transition``.
    """
    high = take(schedule.log_alpha_bar, t) - take(schedule.log_alpha_bar, s)
    low = schedule.log_alpha_bar_low
    return high + (take(low, t) - take(low, s))


def beta_between(schedule: Schedule, t: Level, s: Level) -> Tensor:
    r"""The variance that is added between levels s < t, in float64.

    .. math:: \beta_{t\mid s}=1-\bar\alpha_t/\bar\alpha_s

    Args:
        schedule: noise schedule with T steps.
        t, s: levels in 0..T with s < t, an int or shape (B,); unchecked.

    Returns:
        Shape () or (B,).

    Reference: formula ``schedule.respaced_beta``.
    """
    return -torch.expm1(log_ratio(schedule, t, s))


def sigma_difference(schedule: Schedule, t: Level, s: Level) -> Tensor:
    r"""The difference of two levels in the space of x / sqrt(alpha_bar), in float64, without cancellation.

    .. math:: \sigma_t-\sigma_s=\frac{(1-\bar\alpha_t/\bar\alpha_s)/\bar\alpha_t}{\sigma_t+\sigma_s},
        \quad\sigma=\sqrt{(1-\bar\alpha)/\bar\alpha}

    Args:
        schedule: noise schedule with T steps.
        t, s: levels in 0..T with s < t, an int or shape (B,); unchecked.

    Returns:
        Shape () or (B,); inf where alpha_bar_t = 0.

    Reference: formula ``schedule.sigma``, ``ddim.euler_in_sigma``.
    """
    # divided by sigma_t first, so that nothing overflows before sigma_t does
    sigma_t, sigma_s = take(schedule.sigma, t), take(schedule.sigma, s)
    share = beta_between(schedule, t, s) / take(schedule.one_minus_alpha_bar, t)
    return share * sigma_t / (1 + sigma_s / sigma_t)


def from_beta(beta: Tensor | Sequence[float], name: str = "custom") -> Schedule:
    r"""A schedule from the variances of its steps.

    .. math:: \bar\alpha_t=\prod_{i=1}^{t}(1-\beta_i)

    Args:
        beta: beta_1..beta_T, shape (T,), inside (0, 1); beta_T may be 1 (zero terminal SNR). Constants:
            no gradient flows into a table.
        name: name of the schedule.

    Returns:
        Schedule on the CPU.

    Raises:
        ValueError: beta empty, not of shape (T,), NaN, or outside its bounds.

    Reference: formula ``schedule.alpha_bar_product``.
    """
    values = _vector("beta", beta)
    _check_beta(values)
    return _build(name, values, torch.log1p(-values))


def from_alpha_bar(alpha_bar: Tensor | Sequence[float], name: str = "custom") -> Schedule:
    r"""A schedule from its cumulative products.

    .. math:: \beta_t=(\bar\alpha_{t-1}-\bar\alpha_t)/\bar\alpha_{t-1}

    Args:
        alpha_bar: alpha_bar_1..alpha_bar_T, shape (T,), or with alpha_bar_0 = 1 in front, shape (T + 1,);
            strictly decreasing inside (0, 1); alpha_bar_T may be 0 (zero terminal SNR). Constants.
        name: name of the schedule.

    Returns:
        Schedule on the CPU.

    Raises:
        ValueError: alpha_bar empty, not of one dimension, NaN, not decreasing, or outside its bounds.

    Reference: formula ``schedule.alpha_bar_product``, ``schedule.alpha_bar_decreasing``.
    """
    values = _vector("alpha_bar", alpha_bar)
    if values[0] != 1:
        values = torch.cat([torch.ones(1, dtype=torch.float64, device="cpu"), values])
    previous, current = values[:-1], values[1:]
    wrong = ~((current >= 0) & (current < previous))
    if len(current) == 0 or bool(wrong.any()):
        worst = values.tolist() if len(current) == 0 else current[wrong][0].item()
        raise ValueError(f"alpha_bar must decrease strictly from 1 and stay in [0, 1), got {worst}")
    beta = (previous - current) / previous
    # log1p near 1, log of the ratio elsewhere: each is exact to rounding on its side
    ratio = current / previous
    return _build(name, beta, torch.where(beta < 0.5, torch.log1p(-beta), ratio.log()))


def from_log_alpha_bar(log_alpha_bar: Tensor | Sequence[float], name: str = "custom") -> Schedule:
    r"""A schedule from the logs of its cumulative products.

    .. math:: \beta_t=-\mathrm{expm1}(\log\bar\alpha_t-\log\bar\alpha_{t-1})

    Args:
        log_alpha_bar: log_alpha_bar_0..log_alpha_bar_T, shape (T + 1,), from 0 strictly decreasing; the last
            may be -inf (zero terminal SNR). Constants.
        name: name of the schedule.

    Returns:
        Schedule on the CPU.

    Raises:
        ValueError: log_alpha_bar not of shape (T + 1,), NaN, not from 0, or not decreasing.

    Reference: formula ``schedule.alpha_bar_product``, ``schedule.alpha_bar_decreasing``.
    """
    values = _vector("log_alpha_bar", log_alpha_bar)
    beta = -torch.expm1(values.diff())
    return Schedule(name, torch.cat([torch.zeros_like(values[:1]), beta]), values)


def linear(T: int = 1000, beta_1: float = 1e-4, beta_T: float = 0.02) -> Schedule:
    r"""Equally spaced beta; for T = 1 only beta_1.

    .. math:: \beta_t=\beta_1+\tfrac{t-1}{T-1}(\beta_T-\beta_1)

    Args:
        T: number of steps.
        beta_1, beta_T: first and last variance, inside (0, 1).

    Reference: Ho et al. 2020, section 4 (formula ``schedule.linear``).
    """
    return from_beta(_linspace(T, beta_1, beta_T), "linear")


def linear_rescaled(T: int = 1000, beta_1: float = 1e-4, beta_T: float = 0.02) -> Schedule:
    r"""The linear schedule whose end points, stated for 1000 steps, are scaled with 1000 / T.

    .. math:: \beta_t=\tfrac{1000}{T}\left(\beta_1+\tfrac{t-1}{T-1}(\beta_T-\beta_1)\right)

    Args:
        T: number of steps.
        beta_1, beta_T: first and last variance for 1000 steps.

    Raises:
        ValueError: a scaled end point outside (0, 1), as with few steps.

    Reference: Dhariwal and Nichol 2021, code (formula ``schedule.linear_rescaled``).
    """
    _check.count("T", T)
    _check.between("beta_1 * 1000 / T", beta_1 * 1000 / T, 0, 1)
    _check.between("beta_T * 1000 / T", beta_T * 1000 / T, 0, 1)
    return from_beta(_linspace(T, beta_1 * 1000 / T, beta_T * 1000 / T), "linear_rescaled")


def scaled_linear(T: int = 1000, beta_1: float = 0.00085, beta_T: float = 0.012) -> Schedule:
    r"""Equally spaced square roots of beta.

    .. math:: \beta_t=\left(\sqrt{\beta_1}+\tfrac{t-1}{T-1}(\sqrt{\beta_T}-\sqrt{\beta_1})\right)^2

    Args:
        T: number of steps.
        beta_1, beta_T: first and last variance, inside (0, 1).

    Reference: Rombach et al. 2022, code (formula ``schedule.scaled_linear``).
    """
    return from_beta(_squared_roots(T, beta_1, beta_T), "scaled_linear")


def quadratic(T: int = 1000, beta_1: float = 1e-4, beta_T: float = 0.02) -> Schedule:
    r"""The scaled linear schedule under its older name, with the end points of Ho et al.

    .. math:: \beta_t=\left(\sqrt{\beta_1}+\tfrac{t-1}{T-1}(\sqrt{\beta_T}-\sqrt{\beta_1})\right)^2

    Args:
        T: number of steps.
        beta_1, beta_T: first and last variance, inside (0, 1).

    Reference: Ho et al. 2020, code (formula ``schedule.quadratic``).
    """
    return from_beta(_squared_roots(T, beta_1, beta_T), "quadratic")


def square_root(T: int = 1000, beta_1: float = 1e-4, beta_T: float = 0.02) -> Schedule:
    r"""Equally spaced squares of beta, with the end points stated for the squares.

    .. math:: \beta_t=\sqrt{\beta_1+\tfrac{t-1}{T-1}(\beta_T-\beta_1)}

    Args:
        T: number of steps.
        beta_1, beta_T: squares of the first and last variance, inside (0, 1).

    Reference: Rombach et al. 2022, code, "sqrt" (formula ``schedule.square_root``).
    """
    return from_beta(_linspace(T, beta_1, beta_T).sqrt(), "square_root")


def constant(T: int = 1000, beta: float = 0.02) -> Schedule:
    r"""The same variance in each step.

    .. math:: \beta_t=\beta,\quad\bar\alpha_t=(1-\beta)^t

    Args:
        T: number of steps.
        beta: variance, inside (0, 1).

    Reference: Ho et al. 2020, code (formula ``schedule.constant``).
    """
    return from_beta(_linspace(T, beta, beta), "constant")


def jsd(T: int = 1000) -> Schedule:
    r"""The signal power falls equally in each step; the last step destroys it (zero terminal SNR).

    .. math:: \beta_t=\frac1{T-t+1},\quad\bar\alpha_t=1-\tfrac tT

    Args:
        T: number of steps.

    Reference: Sohl-Dickstein et al. 2015, section 2.4.1 (formula ``schedule.jsd``).
    """
    return from_beta(1 / (T + 1 - _steps(T)), "jsd")


def sigmoid_beta(T: int = 1000, beta_1: float = 1e-4, beta_T: float = 0.02, span: float = 6.0) -> Schedule:
    r"""A logistic rise of beta; its end points are approached, not reached.

    .. math:: \beta_t=\beta_1+(\beta_T-\beta_1)\,\mathrm{sigmoid}(u_t),\quad u_t=-h+\tfrac{t-1}{T-1}2h

    Args:
        T: number of steps.
        beta_1, beta_T: asymptotes of the variance, inside (0, 1).
        span: h, half the range of the argument.

    Reference: Xu et al. 2022 (GeoDiff), code (formula ``schedule.sigmoid_beta``).
    """
    _check.count("T", T)
    _check.between("beta_1", beta_1, 0, 1)
    _check.between("beta_T", beta_T, 0, 1)
    _check.finite("span", span)
    u = torch.linspace(-span, span, T, dtype=torch.float64, device="cpu")
    return from_beta(u.sigmoid() * (beta_T - beta_1) + beta_1, "sigmoid_beta")


def cosine(T: int = 1000, s: float = 0.008, beta_max: float = 0.999) -> Schedule:
    r"""A squared cosine for alpha_bar, with beta clipped from above as its definition says.

    .. math:: \beta_t=\min\left(1-\frac{f(t)}{f(t-1)},\beta_{\max}\right),\quad
        f(t)=\cos^2\left(\frac{t/T+s}{1+s}\frac\pi2\right)

    Args:
        T: number of steps.
        s: offset, at least 0.
        beta_max: bound of beta, inside (0, 1).

    Reference: Nichol and Dhariwal 2021, eq. 17 (formula ``schedule.cosine``).
    """
    t = _steps(T)
    if not 0 <= s < float("inf"):
        raise ValueError(f"s must be at least 0 and finite, got {s}")
    # 1 - cos^2 b / cos^2 a = sin(b-a) sin(b+a) / cos^2 a; angles past the middle are taken from the other end
    unit = torch.pi / (2 * (1 + s) * T)
    cos_a = torch.sin(unit * (T - t + 1))
    sum_from_0, sum_from_pi = unit * (2 * t - 1 + 2 * s * T), unit * (2 * T - 2 * t + 1)
    sin_sum = torch.sin(torch.minimum(sum_from_0, sum_from_pi))
    sin_step = torch.sin(torch.tensor(unit, dtype=torch.float64, device="cpu"))
    return _clipped(sin_step * sin_sum / cos_a**2, beta_max, "cosine")


def sigmoid_alpha_bar(
    T: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0, beta_max: float = 0.999
) -> Schedule:
    r"""A logistic fall of alpha_bar, with beta clipped from above as its definition says.

    .. math:: \beta_t=\min\left(1-\frac{f(t)}{f(t-1)},\beta_{\max}\right),\quad
        f(t)=\mathrm{sigmoid}(e/\tau)-\mathrm{sigmoid}\left(\tfrac{b+(e-b)t/T}{\tau}\right)

    Args:
        T: number of steps.
        start, end: b < e, range of the argument.
        tau: temperature, positive.
        beta_max: bound of beta, inside (0, 1).

    Reference: Jabri et al. 2022, appendix (formula ``schedule.sigmoid_alpha_bar``).
    """
    t = _steps(T)
    for name, value in (("start", start), ("end", end)):
        _check.finite(name, value)
    _check.between("end - start", end - start, 0, float("inf"))
    _check.between("tau", tau, 0, float("inf"))
    # sigmoid(a) - sigmoid(b) = sinh((a-b)/2) / (2 cosh(a/2) cosh(b/2)) has no cancellation
    half_step = (end - start) / (2 * tau * T)
    half_u = start / (2 * tau) + half_step * t
    half_end = torch.tensor(end / (2 * tau), dtype=torch.float64, device="cpu")
    ratio = _sinh_ratio(half_step, half_step * (T - t + 1))
    return _clipped(ratio * _cosh_ratio(half_end, half_u), beta_max, "sigmoid_alpha_bar")


def square_root_alpha_bar(T: int = 1000, s: float = 1e-4, beta_max: float = 0.999) -> Schedule:
    r"""A square root for alpha_bar, with beta clipped from above as its definition says.

    .. math:: \beta_t=\min\left(1-\frac{f(t)}{f(t-1)},\beta_{\max}\right),\quad f(t)=1-\sqrt{t/T+s}

    Args:
        T: number of steps.
        s: offset, at least 0 and below 1 / T (beyond, f changes its sign before the last step).
        beta_max: bound of beta, inside (0, 1).

    Reference: Li et al. 2022 (Diffusion-LM), section 4 (formula ``schedule.square_root_alpha_bar``).
    """
    t = _steps(T)
    if not 0 <= s < 1 / T:
        raise ValueError(f"s must be at least 0 and below 1 / T = {1 / T}, got {s}")
    # f(a) - f(b) = (b-a) / (sqrt(b+s) + sqrt(a+s)) and f(a) = (1-a-s) / (1 + sqrt(a+s))
    root_a, root_b = ((t - 1) / T + s).sqrt(), (t / T + s).sqrt()
    f_a = ((T - t + 1) / T - s) / (1 + root_a)
    return _clipped(1 / T / (root_a + root_b) / f_a, beta_max, "square_root_alpha_bar")


def zero_terminal_snr(schedule: Schedule) -> Schedule:
    r"""The schedule with its signal shifted and scaled so that level T has none and level 1 keeps its own.

    .. math:: \sqrt{\bar\alpha_t'}=\left(\sqrt{\bar\alpha_t}-\sqrt{\bar\alpha_T}\right)
        \frac{\sqrt{\bar\alpha_1}}{\sqrt{\bar\alpha_1}-\sqrt{\bar\alpha_T}},\quad t\ge1

    Args:
        schedule: noise schedule with at least two steps.

    Returns:
        Schedule with beta_T = 1 and log_alpha_bar_T = -inf.

    Raises:
        ValueError: a schedule of one step, whose first level is its last.

    Reference: Lin et al. 2024, algorithm 1 (formula ``schedule.zero_terminal_snr``).
    """
    _check.count("schedule.T", schedule.T, minimum=2)
    cpu = schedule.to("cpu")
    t = torch.arange(1, cpu.T + 1, device="cpu")
    # q = 1 - sqrt(abar'_t / abar'_{t-1}) = (root_{t-1} - root_t) / (root_{t-1} - root_T)
    q = torch.expm1(log_ratio(cpu, t, t - 1) / 2) / torch.expm1(log_ratio(cpu, cpu.T, t - 1) / 2)
    beta, log_alpha = q * (2 - q), 2 * torch.log1p(-q)
    beta[0], log_alpha[0] = cpu.beta[1], cpu.log_alpha_bar[1]
    return _build(f"zero_terminal_snr({schedule.name})", beta, log_alpha)


def subsequence(T: int, n: int, spacing: Spacing, offset: int = 0) -> tuple[int, ...]:
    r"""The levels that a sampler of n steps visits, from the noisiest to data.

    .. math:: t_i=k_i+1,\quad k_i\in\{0,\dots,T-1\},\quad i=0,\dots,n-1

    with k = i⌊T/n⌋ (leading), k = round(i(T-1)/(n-1)) (linspace), k = round(T-iT/n)-1 (trailing), and
    k = ⌊0.8 T (i/(n-1))²⌋ (quadratic); halves are rounded to even, and the arithmetic is exact
    (a grid of floats may round a half to the other side, as trailing does for T = 1000, n = 176).

    Args:
        T: number of steps of the schedule.
        n: number of steps of the sampler, at most T.
        spacing: the rule.
        offset: added to each k.

    Returns:
        n + 1 levels of 0..T, descending, the last is 0. Only quadratic can repeat a level (a step that
        does nothing).

    Raises:
        ValueError: n outside 1..T, an unknown spacing, an offset that leaves 1..T.

    Reference: Lin et al. 2024, table 2; Song et al. 2021 (DDIM), appendix D.
    """
    _check.count("T", T)
    _check.count("n", n)
    if n > T:
        raise ValueError(f"n must be at most T = {T}, got {n}")
    if spacing not in _SPACINGS:
        raise ValueError(f"spacing must be one of {', '.join(_SPACINGS)}, got {spacing!r}")
    levels = sorted((_SPACINGS[spacing](T, n, i) + 1 + offset for i in range(n)), reverse=True)
    if levels[0] > T or levels[-1] < 1:
        raise ValueError(f"offset must keep the levels in 1..{T}, got {offset}: {levels[-1]}..{levels[0]}")
    return (*levels, 0)


def respace(schedule: Schedule, levels: Sequence[int]) -> Schedule:
    r"""The schedule of a sub-sequence: its level i is the i-th lowest of the levels.

    .. math:: \beta'_i=1-\bar\alpha_{t_i}/\bar\alpha_{t_{i-1}}

    Args:
        schedule: noise schedule with T steps.
        levels: levels of 0..T, strictly descending, the last is 0, at least two.

    Returns:
        Schedule with ``len(levels) - 1`` steps, whose alpha_bar are those of the levels.

    Raises:
        ValueError: levels outside 0..T, not strictly descending, or not ending at 0.

    Reference: Nichol and Dhariwal 2021, section 4 (formula ``schedule.respaced_beta``).
    """
    _check.count("len(levels)", len(levels), minimum=2)
    for name, level in zip(("levels[0]", "levels[-1]"), (levels[0], levels[-1]), strict=True):
        _check.level(name, level, schedule.T if name == "levels[0]" else 0)
    for t, s in pairwise(levels):
        _check.below("levels", s, "the level before it", t)
    kept = torch.tensor(levels[::-1], device=schedule.beta.device)
    beta = torch.cat([schedule.beta[:1], beta_between(schedule, kept[1:], kept[:-1])])
    name = f"respace({schedule.name}, {len(levels) - 1})"
    return Schedule(name, beta, schedule.log_alpha_bar[kept], schedule.log_alpha_bar_low[kept])


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "linear": linear,
    "linear_rescaled": linear_rescaled,
    "scaled_linear": scaled_linear,
    "quadratic": quadratic,
    "square_root": square_root,
    "constant": constant,
    "jsd": jsd,
    "sigmoid_beta": sigmoid_beta,
    "cosine": cosine,
    "sigmoid_alpha_bar": sigmoid_alpha_bar,
    "square_root_alpha_bar": square_root_alpha_bar,
}

_SPACINGS: dict[str, Callable[[int, int, int], int]] = {
    "leading": lambda T, n, i: i * (T // n),
    "linspace": lambda T, n, i: round(Fraction(i * (T - 1), max(n - 1, 1))),
    "trailing": lambda T, n, i: round(T - Fraction(i * T, n)) - 1,
    "quadratic": lambda T, n, i: (4 * T * i * i) // (5 * max(n - 1, 1) ** 2),
}


def _steps(T: int) -> Tensor:
    _check.count("T", T)
    return torch.arange(1, T + 1, dtype=torch.float64, device="cpu")


def _linspace(T: int, beta_1: float, beta_T: float) -> Tensor:
    _check.count("T", T)
    _check.between("beta_1", beta_1, 0, 1)
    _check.between("beta_T", beta_T, 0, 1)
    return torch.linspace(beta_1, beta_T, T, dtype=torch.float64, device="cpu")


def _squared_roots(T: int, beta_1: float, beta_T: float) -> Tensor:
    _linspace(T, beta_1, beta_T)
    return torch.linspace(beta_1**0.5, beta_T**0.5, T, dtype=torch.float64, device="cpu") ** 2


def _sinh_ratio(a: float, b: Tensor) -> Tensor:
    """sinh(a) / sinh(b) for 0 < a <= b, without overflow."""
    exponent = torch.tensor(a, dtype=torch.float64, device="cpu")
    return torch.exp(exponent - b) * torch.expm1(-2 * exponent) / torch.expm1(-2 * b)


def _cosh_ratio(a: Tensor, b: Tensor) -> Tensor:
    """cosh(a) / cosh(b), without overflow of either."""
    return torch.exp(a.abs() - b.abs()) * (1 + torch.exp(-2 * a.abs())) / (1 + torch.exp(-2 * b.abs()))


def _clipped(beta: Tensor, beta_max: float, name: str) -> Schedule:
    _check.between("beta_max", beta_max, 0, 1)
    return from_beta(beta.clamp(max=beta_max), name)


def _vector(name: str, values: Tensor | Sequence[float]) -> Tensor:
    if isinstance(values, Tensor) and values.is_meta:
        raise ValueError(f"{name} must have values, got a tensor on the meta device")
    vector = torch.as_tensor(values, dtype=torch.float64, device="cpu").detach()
    if vector.dim() != 1 or vector.shape[0] == 0:
        raise ValueError(f"{name} must have shape (T,) with T at least 1, got {tuple(vector.shape)}")
    if bool(vector.isnan().any()):
        raise ValueError(f"{name} must have no NaN, got NaN at index {int(vector.isnan().nonzero()[0])}")
    return vector


def _check_beta(beta: Tensor) -> None:
    wrong = ~((beta > 0) & (beta < 1))
    wrong[-1] = not 0 < beta[-1] <= 1
    if bool(wrong.any()):
        t = int(wrong.nonzero()[0]) + 1
        bound = "inside (0, 1)" if t < len(beta) else "in (0, 1]"
        raise ValueError(f"beta must lie {bound}, got {beta[t - 1].item()} at t = {t}")


def _check_tables(beta: Tensor, log_alpha_bar: Tensor) -> None:
    for name, table in (("beta", beta), ("log_alpha_bar", log_alpha_bar)):
        if table.dim() != 1 or table.shape[0] < 2 or table.dtype != torch.float64:
            shape = tuple(table.shape)
            raise ValueError(f"{name} must be float64 of shape (T + 1,), got {table.dtype}, {shape}")
        if not bool(table[0] == 0):
            raise ValueError(f"{name} must be 0 at data, got {table[0].item()}")
    if beta.shape != log_alpha_bar.shape:
        raise ValueError(f"log_alpha_bar must have {len(beta)} entries, got {len(log_alpha_bar)}")
    if not bool((log_alpha_bar[1:] < log_alpha_bar[:-1]).all()):
        raise ValueError("log_alpha_bar must decrease strictly, got a level that does not or NaN")
    if not bool(((beta[1:] > 0) & (beta[1:] <= 1)).all()):
        raise ValueError(f"beta must lie in (0, 1], got {beta[1:].min().item()}..{beta[1:].max().item()}")


def _build(name: str, beta: Tensor, log_alpha: Tensor) -> Schedule:
    high, low = _running_sum(log_alpha.tolist())
    zero = torch.zeros(1, dtype=torch.float64, device="cpu")
    return Schedule(
        name,
        torch.cat([zero, beta]),
        torch.tensor([0.0, *high], dtype=torch.float64, device="cpu"),
        torch.tensor([0.0, *low], dtype=torch.float64, device="cpu"),
    )


def _running_sum(terms: list[float]) -> tuple[list[float], list[float]]:
    """The running sum as pairs high + low, so that its error does not grow with the number of terms."""
    high, low = 0.0, 0.0
    highs, lows = [], []
    for term in terms:
        if term == float("-inf"):
            high, low = term, 0.0
        else:
            # two-sum: the rounding error of the addition is a float and is kept
            total = high + term
            rest = total - high
            low += (high - (total - rest)) + (term - rest)
            high = total + low
            low -= high - total
        highs.append(high)
        lows.append(low)
    return highs, lows
