r"""Stochastic differential equations: drifts, the reverse SDE, its discretisations, and the losses.

The forward process is :math:`\mathrm dx=f(t)\,x\,\mathrm dt+g(t)\,\mathrm dw`, and its reverse, in which time
runs from the end to 0,

.. math:: \mathrm dx=\left(f(t)\,x-g(t)^2\,\nabla\log p_t(x)\right)\mathrm dt+g(t)\,\mathrm d\bar w

A step from t down to s < t is affine in the state, its score and its noise,
:math:`x_s=a\,x_t+b\,s(x_t)+c\,z`, with coefficients in float64 that are cast once (``PREDICTORS``). A whole
sampler is ``predictor_corrector``, and ``gaussian_law`` is its exact law on Gaussian data. Noise is an
argument everywhere.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from refdiff import _check
from refdiff._sde_chains import Grid as Grid
from refdiff._sde_chains import ve_sigmas as ve_sigmas
from refdiff._sde_chains import vp_betas as vp_betas
from refdiff._sde_samplers import gaussian_law as gaussian_law
from refdiff._sde_samplers import predictor_corrector as predictor_corrector
from refdiff._sde_steps import PREDICTORS as PREDICTORS
from refdiff._sde_steps import Affine as Affine
from refdiff._sde_steps import Noise as Noise
from refdiff._sde_steps import ScoreFn as ScoreFn
from refdiff._sde_steps import ancestral as ancestral
from refdiff._sde_steps import corrector_step as corrector_step
from refdiff._sde_steps import corrector_step_size as corrector_step_size
from refdiff._sde_steps import euler_maruyama as euler_maruyama
from refdiff._sde_steps import forward_drift as forward_drift
from refdiff._sde_steps import heun_step as heun_step
from refdiff._sde_steps import identity as identity
from refdiff._sde_steps import on
from refdiff._sde_steps import reverse_diffusion as reverse_diffusion
from refdiff._sde_steps import reverse_diffusion_of as reverse_diffusion_of
from refdiff._sde_steps import reverse_drift as reverse_drift
from refdiff._sde_steps import runge_kutta_step as runge_kutta_step
from refdiff.process import Process, Time

Weighting = Literal["one", "variance", "likelihood"]


def euler_maruyama_step(
    process: Process, x: Tensor, t: Time, s: Time, score: Tensor, noise: Tensor | None = None
) -> Tensor:
    """A step of Euler and Maruyama from t down to s; without noise, its mean. See ``euler_maruyama``.

    Args:
        process: the forward process.
        x: state at time t, shape (B, *).
        t, s: times with s < t.
        score: score at x and t, shaped like x.
        noise: standard normal, shaped like x, or None for the mean.

    Returns:
        The state at time s, shaped like x.

    Raises:
        ValueError: a time outside, s not below t, or tensors of different shape, dtype or device.

    Reference: formula ``sde.euler_maruyama``.
    """
    return euler_maruyama(process, t, s).apply(x, score, noise)


def reverse_diffusion_step(
    process: Process, x: Tensor, t: Time, s: Time, score: Tensor, noise: Tensor | None = None
) -> Tensor:
    """A step of reverse diffusion sampling, with arguments as in ``euler_maruyama_step``.

    Reference: formula ``sde.reverse_diffusion``.
    """
    return reverse_diffusion(process, t, s).apply(x, score, noise)


def ancestral_step(
    process: Process,
    x: Tensor,
    t: Time,
    s: Time,
    score: Tensor,
    noise: Tensor | None = None,
    kind: Noise = "posterior",
) -> Tensor:
    """A step of ancestral sampling, with arguments as in ``euler_maruyama_step`` and ``ancestral``.

    Reference: formula ``sde.ancestral``.
    """
    return ancestral(process, t, s, kind).apply(x, score, noise)


def dsm_loss(
    process: Process,
    score_fn: ScoreFn,
    x_0: Tensor,
    t: Time,
    noise: Tensor,
    weighting: Weighting | Tensor = "variance",
) -> Tensor:
    r"""The loss of denoising score matching in continuous time.

    .. math:: \lambda(t)\left\|s(x_t,t)+\frac{z}{\mathrm{std}(t)}\right\|^2,\qquad
        x_t=\mathrm{scale}(t)\,x_0+\mathrm{std}(t)\,z

    Args:
        process: the forward process.
        score_fn: score of x of shape (B, *) and t of shape () or (B,).
        x_0: data, shape (B, *).
        t: time above 0, a float or float64 of shape () or (B,).
        noise: z, standard normal, shaped like x_0.
        weighting: λ: "variance" is std², "likelihood" is g², "one" is 1; or float64 of shape () or (B,).

    Returns:
        The loss of each sample, shape (B,), summed over dimensions.

    Raises:
        ValueError: a time without noise, an unknown weighting, or tensors of different shape, dtype or
            device.

    Reference: Song et al. 2021 (score SDE), eq. 7 (formulas ``sde.dsm_loss``, ``sde.kl_rate``).
    """
    _check.same(x_0=x_0, noise=noise)
    at = process.time(t)
    std = process.std(at)
    if _check.readable(std) and bool((std == 0).any()):
        raise ValueError("t must leave some noise, got a time with std = 0")
    root = _weight(process, at, weighting).sqrt()
    score = score_fn(on(process.scale(at), x_0) * x_0 + on(std, x_0) * noise, at)
    _check.same(x_0=x_0, score=score)
    # root / std is 1 for the weight std², whatever rounding
    return ((on(root, x_0) * score + on(root / std, x_0) * noise) ** 2).flatten(1).sum(1)


def _weight(process: Process, t: Tensor, weighting: Weighting | Tensor) -> Tensor:
    if isinstance(weighting, Tensor):
        if weighting.dtype != torch.float64 or weighting.dim() > 1:
            raise ValueError(f"weighting must be float64 of shape () or (B,), got {weighting.dtype}")
        if _check.readable(weighting) and not bool((weighting >= 0).all()):
            raise ValueError(f"weighting must be at least 0, got {weighting.min().item()}")
        return weighting
    if weighting == "variance":
        return process.variance(t)
    if weighting == "likelihood":
        return process.diffusion_squared(t)
    if weighting == "one":
        return torch.ones_like(t)
    raise ValueError(f"weighting must be one of {', '.join(get_args(Weighting))}, got {weighting!r}")
