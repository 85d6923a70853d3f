r"""EDM: the network around the denoiser, the levels of Karras et al., and solvers that add noise on the way.

Noise levels are σ = std/scale; the state of the formulas is :math:`y=x/\mathrm{scale}=x_0+\sigma\varepsilon`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from refdiff import _check
from refdiff import schedule as _schedule
from refdiff._solver_base import Levels, Model, NoiseLevel, Past, Solver, combine, constant, take
from refdiff._solver_runge_kutta import EULER, HEUN, runge_kutta_step, slope
from refdiff.kernel import Number, log1p, sqrt

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""The data predicted from y, shape (B, *), and σ, 0-dim float64."""
Network = Callable[[Tensor, Tensor], Tensor]
"""A raw network of c_in·y, shape (B, *), and c_noise, float64 of shape () or (B,)."""
CHURN_BOUND = math.sqrt(2) - 1


@dataclass(frozen=True, eq=False)
class Preconditioning:
    """The four numbers around a network, float64, shape () or (B,)."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


def precondition(sigma: float | Tensor, sigma_data: float = 0.5) -> Preconditioning:
    r"""What makes inputs and targets of a network have variance 1, and its errors weigh the least.

    .. math:: c_{\mathrm{skip}}=\frac{\sigma_d^2}{\sigma^2+\sigma_d^2},\quad
        c_{\mathrm{out}}=\frac{\sigma\sigma_d}{\sqrt{\sigma^2+\sigma_d^2}},\quad
        c_{\mathrm{in}}=\frac1{\sqrt{\sigma^2+\sigma_d^2}},\quad c_{\mathrm{noise}}=\tfrac14\log\sigma

    Args:
        sigma: noise level above 0, a float or float64 of shape () or (B,).
        sigma_data: deviation of the data, above 0.

    Returns:
        Preconditioning of float64, shaped like sigma.

    Raises:
        ValueError: a level or a deviation not above 0 and finite, or of another dtype or shape.

    Reference: Karras et al. 2022 (EDM), table 1 (formulas ``solver.edm_c_skip``, ``solver.edm_c_out``,
        ``solver.edm_c_in``, ``solver.edm_c_noise``).
    """
    at, total = _total(sigma, sigma_data)
    root = total.sqrt()
    return Preconditioning(sigma_data**2 / total, at * sigma_data / root, 1 / root, at.log() / 4)


def edm_loss_weight(sigma: float | Tensor, sigma_data: float = 0.5) -> Tensor:
    r"""The weight of the squared error of the denoiser under which every level weighs the same at first.

    .. math:: \lambda=\frac{\sigma^2+\sigma_d^2}{(\sigma\sigma_d)^2}=\frac1{c_{\mathrm{out}}^2}

    Args:
        sigma: noise level above 0, a float or float64 of shape () or (B,).
        sigma_data: deviation of the data, above 0.

    Returns:
        float64, shaped like sigma.

    Raises:
        ValueError: a level or a deviation not above 0 and finite, or of another dtype or shape.

    Reference: Karras et al. 2022 (EDM), table 1 (formula ``solver.edm_loss_weight``).
    """
    at, total = _total(sigma, sigma_data)
    return total / (at * sigma_data) ** 2


def edm_target(x_0: Tensor, eps: Tensor, sigma: float | Tensor, sigma_data: float = 0.5) -> Tensor:
    r"""What the raw network has to say.

    .. math:: F=\frac{x_0-c_{\mathrm{skip}}(x_0+\sigma\varepsilon)}{c_{\mathrm{out}}}
        =\frac{\sigma x_0-\sigma_d^2\varepsilon}{\sigma_d\sqrt{\sigma^2+\sigma_d^2}}

    Args:
        x_0, eps: data and noise, shape (B, *).
        sigma: noise level above 0, a float or float64 of shape () or (B,).
        sigma_data: deviation of the data, above 0.

    Returns:
        Shaped like x_0.

    Raises:
        ValueError: a level or a deviation not above 0 and finite, or tensors of different shape or dtype.

    Reference: Karras et al. 2022 (EDM), eq. 8 (formula ``solver.edm_target``).
    """
    _check.same(x_0=x_0, eps=eps)
    at, total = _total(sigma, sigma_data)
    root = total.sqrt()
    return _for(x_0, at / (sigma_data * root)) * x_0 - _for(x_0, sigma_data / root) * eps


def edm_denoiser(network: Network, y: Tensor, sigma: float | Tensor, sigma_data: float = 0.5) -> Tensor:
    r"""The data predicted by a preconditioned network.

    .. math:: D(y,\sigma)=c_{\mathrm{skip}}\,y+c_{\mathrm{out}}\,F(c_{\mathrm{in}}\,y,\ c_{\mathrm{noise}})

    Args:
        network: F of the scaled state and the label of the level.
        y: data plus noise of deviation σ, shape (B, *).
        sigma: noise level above 0, a float or float64 of shape () or (B,).
        sigma_data: deviation of the data, above 0.

    Returns:
        Shaped like y.

    Raises:
        ValueError: a level or a deviation not above 0 and finite, or a network that changes shape or dtype.

    Reference: Karras et al. 2022 (EDM), eq. 7 (formula ``solver.edm_denoiser``).
    """
    c = precondition(sigma, sigma_data)
    output = network(_for(y, c.c_in) * y, c.c_noise)
    _check.same(y=y, network=output)
    return _for(y, c.c_skip) * y + _for(y, c.c_out) * output


def eps_from_denoiser(denoiser: Denoiser) -> Model:
    r"""The model of the solvers from a denoiser.

    .. math:: \hat\epsilon(x)=\frac{y-D(y,\sigma)}{\sigma},\qquad y=\frac x{\mathrm{scale}},\
        \sigma=\frac{\mathrm{std}}{\mathrm{scale}}

    Args:
        denoiser: the data predicted from y and σ.

    Returns:
        The noise predicted from x, scale and std.

    Reference: Karras et al. 2022 (EDM), eq. 3 (formula ``solver.pf_ode_sigma``).
    """

    def model(x: Tensor, scale: Tensor, std: Tensor) -> Tensor:
        sigma = std / scale
        y = _for(x, 1 / scale) * x
        return _for(x, 1 / sigma) * (y - denoiser(y, sigma))

    return model


def karras_levels(
    sigma_min: float, sigma_max: float, N: int, rho: float = 7.0, to_data: bool = True
) -> Levels:
    r"""The levels of Karras et al., whose ρ-th roots are equally far apart, in ``"ve"`` space.

    .. math:: \sigma_i=\Bigl(\sigma_{\max}^{1/\rho}+\tfrac{i-1}{N-1}
        \bigl(\sigma_{\min}^{1/\rho}-\sigma_{\max}^{1/\rho}\bigr)\Bigr)^\rho,\qquad i=1,\dots,N

    Args:
        sigma_min, sigma_max: the smallest and the largest level, 0 < sigma_min < sigma_max.
        N: number of levels with noise, at least 2.
        rho: exponent ρ above 0; 1 gives equal differences, large ones equal ratios.
        to_data: σ = 0 is appended.

    Returns:
        Levels, N + 1 of them, or N without the last.

    Raises:
        ValueError: a number outside these bounds.

    Reference: Karras et al. 2022 (EDM), eq. 5 (formula ``solver.karras_levels``).
    """
    _positive(sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    _check.count("N", N, minimum=2)
    if not sigma_min < sigma_max:
        raise ValueError(f"sigma_max must be above sigma_min = {sigma_min}, got {sigma_max}")
    ends = torch.tensor([sigma_max, sigma_min], dtype=torch.float64)
    # the ρ-th roots come close for large ρ: their difference is taken in the exponent
    share = torch.arange(N, dtype=torch.float64) / (N - 1)
    log_ratio = (ends[1].log() - ends[0].log()) / rho
    sigma = ends[0] * (rho * torch.log1p(share * torch.expm1(log_ratio))).exp()
    sigma[-1] = ends[1]
    sigma = torch.cat([sigma, sigma.new_zeros(1)]) if to_data else sigma
    return Levels(torch.ones_like(sigma), sigma, "ve")


def churn_factor(
    sigma: Tensor, N: int, S_churn: float, S_tmin: float = 0.0, S_tmax: float = math.inf
) -> Tensor:
    r"""The share γ by which a level is raised before a step.

    .. math:: \gamma=\min\left(\frac{S_{\mathrm{churn}}}N,\ \sqrt2-1\right)\quad\text{where }
        S_{\mathrm{tmin}}\le\sigma\le S_{\mathrm{tmax}},\text{ else }0

    Args:
        sigma: noise level, float64.
        N: number of steps of the sampler.
        S_churn: churn of all steps together, at least 0.
        S_tmin, S_tmax: the levels between which noise is added.

    Returns:
        float64, shaped like sigma.

    Raises:
        ValueError: S_churn negative, N below 1, or S_tmin above S_tmax.

    Reference: Karras et al. 2022 (EDM), algorithm 2 (formulas ``solver.churn_factor``,
        ``solver.churn_bound``).
    """
    _check.count("N", N)
    _require_churn(S_churn, S_tmin, S_tmax)
    inside = (sigma >= S_tmin) & (sigma <= S_tmax)
    # two Python numbers would be chosen from in float32
    return torch.where(inside, torch.full_like(sigma, min(S_churn / N, CHURN_BOUND)), 0.0)


def churned(y: Tensor, sigma: Tensor, gamma: Tensor, noise: Tensor, S_noise: float = 1.0) -> Tensor:
    r"""The state raised from level σ to level (1 + γ)σ.

    .. math:: \hat y=y+S_{\mathrm{noise}}\,\sigma\sqrt{\gamma(2+\gamma)}\,z

    Args:
        y: data plus noise of deviation σ, shape (B, *).
        sigma: noise level, 0-dim float64.
        gamma: share γ, at least 0, 0-dim float64.
        noise: standard normal, shaped like y.
        S_noise: factor of what is added, above 0.

    Returns:
        Shaped like y.

    Raises:
        ValueError: S_noise not above 0, or tensors of different shape, dtype or device.

    Reference: Karras et al. 2022 (EDM), algorithm 2 (formula ``solver.churn_step``).
    """
    _check.same(y=y, noise=noise)
    _positive(S_noise=S_noise)
    return combine([(1.0, y), (_added(sigma, gamma, S_noise), noise)])


def _added(sigma: Number, gamma: Number, S_noise: float) -> Number:
    return S_noise * sigma * sqrt(gamma * (2 + gamma))


def churned_deviation(sigma: Tensor, gamma: Tensor, S_noise: float = 1.0) -> Tensor:
    r"""The deviation of the noise in the state after a churn; the network is told (1 + γ)σ.

    .. math:: \sigma\sqrt{1+S_{\mathrm{noise}}^2\,\gamma(2+\gamma)}

    Args:
        sigma: noise level, float64.
        gamma: share γ, at least 0, float64.
        S_noise: factor of what is added, above 0.

    Returns:
        float64.

    Raises:
        ValueError: S_noise not above 0.

    Reference: Karras et al. 2022 (EDM), section 4 (formula ``solver.churn_excess``).
    """
    _positive(S_noise=S_noise)
    return sigma * (1 + S_noise**2 * gamma * (2 + gamma)).sqrt()


@dataclass(frozen=True)
class EDMHeun(Solver):
    r"""EDM's stochastic sampler: the level is raised by fresh noise, then Heun's step goes down.

    Churn leaves the law of a level as the forward process makes it, so the law of the sample has the order of
    Heun's step. One noise is taken for each step whose γ is above 0.

    Args:
        name: the key in the registry.
        S_churn: churn of all steps together, at least 0.
        S_tmin, S_tmax: the levels between which noise is added.
        S_noise: factor of the noise that is added, above 0; a perfect model wants 1.

    Reference: Karras et al. 2022 (EDM), algorithm 2 (formulas ``solver.churn_step``, ``solver.edm_heun``).
    """

    name: str = "edm_churn"
    S_churn: float = 4.0
    S_tmin: float = 0.0
    S_tmax: float = math.inf
    S_noise: float = 1.0
    order: int = 2
    strong_order: float | None = 1.0
    evaluations: int = 2

    def __post_init__(self) -> None:
        _require_churn(self.S_churn, self.S_tmin, self.S_tmax)
        _positive(S_noise=self.S_noise)

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        """Whether noises are taken."""
        return self.S_churn > 0

    def states(
        self, model: Model, x: Tensor, levels: Levels, draws: Iterator[Tensor], past: Past
    ) -> Iterator[Tensor]:
        gammas = churn_factor(levels.sigma, levels.steps, self.S_churn, self.S_tmin, self.S_tmax)
        everywhere = self.S_tmin <= 0 and self.S_tmax == math.inf
        raises = [self.stochastic] * levels.steps if everywhere else (gammas > 0).tolist()
        for (t, s), gamma, raised in zip(levels.pairs(), gammas, raises, strict=False):
            if raised:
                t, x = self.raised(x, t, gamma, take(draws, x), levels)
            x = runge_kutta_step(HEUN, model, x, t, s, levels)
            yield x

    def raised(
        self, x: Tensor, t: NoiseLevel, gamma: Tensor, noise: Tensor, levels: Levels
    ) -> tuple[NoiseLevel, Tensor]:
        """The level above and the state there."""
        at, share = t.numbers, gamma.item() if constant(gamma) else gamma
        above = levels.at(at.log_snr - log1p(share))
        scale = above.numbers.scale
        return above, combine([(scale / at.scale, x), (scale * _added(at.sigma, share, self.S_noise), noise)])


def ancestral_deviations(t: NoiseLevel, s: NoiseLevel, eta: float = 1.0) -> tuple[Number, Number]:
    r"""The level that the deterministic part goes down to, and the deviation of the fresh noise.

    .. math:: \sigma_{\mathrm{up}}=\eta\,\frac{\sigma_s}{\sigma_t}\sqrt{\sigma_t^2-\sigma_s^2},\qquad
        \sigma_{\mathrm{down}}=\sqrt{\sigma_s^2-\sigma_{\mathrm{up}}^2}

    Args:
        t, s: levels, s with less noise than t.
        eta: share of the noise, between 0 and 1.

    Returns:
        σ_down and σ_up, floats between levels that bring floats, and else 0-dim float64.

    Raises:
        ValueError: eta outside 0..1.

    Reference: Song et al. 2021 (DDIM), eq. 16 (formulas ``solver.ancestral_down``, ``solver.ancestral_up``).
    """
    _require_eta(eta)
    high, low = t.numbers.sigma, s.numbers.sigma
    ratio = low / high
    # 1 − η² + η²ratio² adds what σ_s² − σ_up² subtracts
    down = low * sqrt((1 - eta) * (1 + eta) + (eta * ratio) ** 2)
    return down, eta * ratio * sqrt((high - low) * (high + low))


def ancestral_coefficients(t: NoiseLevel, s: NoiseLevel, eta: float = 1.0) -> tuple[Number, Number, Number]:
    r"""What an ancestral Euler step takes of x, of the predicted noise and of the fresh noise.

    .. math:: y_s=y_t+(\sigma_{\mathrm{down}}-\sigma_t)\,\hat\epsilon+\sigma_{\mathrm{up}}\,z

    Args:
        t, s: levels, s with less noise than t.
        eta: share of the noise, between 0 and 1.

    Returns:
        The coefficients, numbers as in ``ancestral_deviations``.

    Raises:
        ValueError: eta outside 0..1.

    Reference: Song et al. 2021 (DDIM), eq. 12 (formula ``solver.ancestral_step``).
    """
    down, up = ancestral_deviations(t, s, eta)
    high, low = t.numbers, s.numbers
    return low.scale / high.scale, low.scale * (down - high.sigma), low.scale * up


@dataclass(frozen=True)
class AncestralEuler(Solver):
    """Euler's step in σ to a lower level and fresh noise back up: the DDIM family with η (k-diffusion).

    Args:
        name: the key in the registry.
        eta: share of the noise, between 0 (Euler) and 1 (DDPM).

    Reference: formulas ``solver.ancestral_step``, ``solver.ancestral_defect``.
    """

    name: str = "euler_ancestral"
    eta: float = 1.0
    order: int = 1
    strong_order: float | None = 1.0

    def __post_init__(self) -> None:
        _require_eta(self.eta)

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        """Whether noises are taken."""
        return self.eta > 0

    def states(
        self, model: Model, x: Tensor, levels: Levels, draws: Iterator[Tensor], past: Past
    ) -> Iterator[Tensor]:
        for t, s in levels.pairs():
            if s.clean or not self.stochastic:
                x = runge_kutta_step(EULER, model, x, t, s, levels)
            else:
                on_x, on_eps, on_noise = ancestral_coefficients(t, s, self.eta)
                eps = slope(model, x, t)
                x = combine([(on_x, x), (on_eps, eps), (on_noise, take(draws, x))])
            yield x


def _total(sigma: float | Tensor, sigma_data: float) -> tuple[Tensor, Tensor]:
    """The level as float64, and the variance of data and noise together."""
    _positive(sigma_data=sigma_data)
    at = sigma if isinstance(sigma, Tensor) else torch.tensor(float(sigma), dtype=torch.float64)
    if at.dtype != torch.float64 or at.dim() > 1:
        raise ValueError(f"sigma must be float64 of shape () or (B,), got {at.dtype}, {tuple(at.shape)}")
    right = (at > 0) & at.isfinite()
    if _check.readable(at) and not bool(right.all()):
        raise ValueError(f"sigma must be above 0 and finite, got {at[~right].flatten()[0].item()}")
    return at, at**2 + sigma_data**2


def _for(x: Tensor, value: Tensor) -> Tensor:
    """A number of shape () or (B,) for a tensor of shape (B, *)."""
    _check.batch("sigma", value, x)
    return _schedule.cast(value, x)


def _positive(**numbers: float) -> None:
    for name, value in numbers.items():
        _check.finite(name, value)
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")


def _require_eta(eta: float) -> None:
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in 0..1, got {eta}")


def _require_churn(S_churn: float, S_tmin: float, S_tmax: float) -> None:
    _check.finite("S_churn", S_churn)
    if S_churn < 0:
        raise ValueError(f"S_churn must be at least 0, got {S_churn}")
    if not S_tmin <= S_tmax:
        raise ValueError(f"S_tmax must be at least S_tmin = {S_tmin}, got {S_tmax}")
