r"""The bound on Gaussian data, term by term and exactly: part of ``vdm``.

Along an axis with variance c the best prediction leaves the noise a mean squared error of c/(c + e^γ).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from refdiff import _check
from refdiff._vdm_gamma import softplus


def gaussian_rate(variance: Tensor, gamma: Tensor) -> Tensor:
    r"""The mean squared error of the noise that the best prediction leaves, for each axis of the data.

    .. math:: \mathbb E(\varepsilon-\varepsilon^*)^2=\frac c{c+e^\gamma}

    Args:
        variance: c of each axis, above 0, float64, shape (D,).
        gamma: levels, float64, shape (L,).

    Returns:
        float64, shape (L, D).

    Raises:
        ValueError: tensors that are not float64 of one axis, or a variance that is not positive.

    Reference: formula ``vdm.gaussian_error``.
    """
    _require_row("gamma", gamma)
    return torch.sigmoid(_log(variance) - gamma[:, None])


def gaussian_loss_discrete(variance: Tensor, gammas: Tensor) -> Tensor:
    r"""The diffusion loss of the best prediction over given levels, on average over Gaussian data.

    .. math:: L_T=\frac12\sum_{i=1}^T\operatorname{expm1}(\gamma_i-\gamma_{i-1})\sum_c\frac c{c+e^{\gamma_i}}

    Args:
        variance: c of each axis, above 0, float64, shape (D,).
        gammas: levels from the least noised, rising, float64, shape (T + 1,).

    Returns:
        Nats, float64, shape ().

    Raises:
        ValueError: tensors that are not float64 of one axis, levels that fall, or a variance that is not
            positive.

    Reference: Kingma et al. 2021, eq. 14 (formula ``vdm.gaussian_term``).
    """
    _require_row("gammas", gammas)
    if _check.readable(gammas) and bool((gammas.diff() < 0).any()):
        raise ValueError(f"gammas must rise, got {gammas.tolist()}")
    return (torch.expm1(gammas.diff())[:, None] * gaussian_rate(variance, gammas[1:])).sum() / 2


def gaussian_loss_continuous(variance: Tensor, gamma_0: Tensor, gamma_1: Tensor) -> Tensor:
    r"""The diffusion loss of continuous time and of the best prediction, on average over Gaussian data.

    .. math:: L_\infty=\frac12\sum_c\log\frac{1+c\,e^{-\gamma_0}}{1+c\,e^{-\gamma_1}}

    Args:
        variance: c of each axis, above 0, float64, shape (D,).
        gamma_0, gamma_1: the ends of the schedule, float64, shape ().

    Returns:
        Nats, float64, shape ().

    Raises:
        ValueError: tensors that are not float64 of one axis, or a variance that is not positive.

    Reference: Kingma et al. 2021, eq. 18 (formula ``vdm.gaussian_loss``).
    """
    first, last = (softplus(_log(variance) - end) for end in (gamma_0, gamma_1))
    return (first - last).sum() / 2


def gaussian_prior_term(mean: Tensor, variance: Tensor, gamma_1: Tensor) -> Tensor:
    r"""The prior term, on average over Gaussian data.

    .. math:: \frac12\sum\left(\mathrm{sigmoid}(-\gamma_1)(c+m^2-1)+\operatorname{softplus}(-\gamma_1)\right)

    Args:
        mean, variance: m and c of each axis, c above 0, float64, shape (D,).
        gamma_1: the noisiest level, float64, shape ().

    Returns:
        Nats, float64, shape ().

    Raises:
        ValueError: tensors that are not float64 of one axis, or a variance that is not positive.

    Reference: Kingma et al. 2021, eq. 11 (formula ``vdm.prior_term``).
    """
    _log(variance)
    _require_row("mean", mean)
    square = variance + mean**2 - 1
    return (torch.sigmoid(-gamma_1) * square + softplus(-gamma_1)).sum() / 2


def gaussian_reconstruction_term(variance: Tensor, gamma_0: Tensor) -> Tensor:
    r"""The reconstruction term of the exact decoder, on average over Gaussian data.

    .. math:: \frac12\sum\log\frac{2\pi e\,c}{1+c\,e^{-\gamma_0}}

    Args:
        variance: c of each axis, above 0, float64, shape (D,).
        gamma_0: the least noised level, float64, shape ().

    Returns:
        Nats, float64, shape ().

    Raises:
        ValueError: a variance that is not float64 of one axis or not positive.

    Reference: formula ``vdm.gaussian_reconstruction``.
    """
    spread = _log(variance) - softplus(_log(variance) - gamma_0)
    return (spread + math.log(2 * math.pi) + 1).sum() / 2


def gaussian_bound(mean: Tensor, variance: Tensor, gammas: Tensor) -> Tensor:
    r"""The whole bound of the best prediction over given levels, on average over Gaussian data.

    .. math:: L=L_{\text{prior}}+L_T+L_{\text{reconstruction}}\ge\frac12\sum\log(2\pi e\,c)

    Args:
        mean, variance: m and c of each axis, c above 0, float64, shape (D,).
        gammas: levels from the least noised, rising, float64, shape (T + 1,).

    Returns:
        Nats, float64, shape ().

    Raises:
        ValueError: tensors that are not float64 of one axis, levels that fall, or a variance that is not
            positive.

    Reference: Kingma et al. 2021, eq. 9 (formula ``vdm.gaussian_bound``).
    """
    prior = gaussian_prior_term(mean, variance, gammas[-1])
    decoder = gaussian_reconstruction_term(variance, gammas[0])
    return prior + gaussian_loss_discrete(variance, gammas) + decoder


def _log(variance: Tensor) -> Tensor:
    _require_row("variance", variance)
    if _check.readable(variance) and not bool((variance > 0).all()):
        raise ValueError(f"variance must be above 0, got {variance.min().item()}")
    return variance.log()


def _require_row(name: str, value: Tensor) -> None:
    if value.dtype != torch.float64 or value.dim() != 1 or value.numel() == 0:
        raise ValueError(f"{name} must be float64 of one axis, got {value.dtype}, {tuple(value.shape)}")
