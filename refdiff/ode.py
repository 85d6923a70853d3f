r"""The probability-flow ODE: the deterministic process that has the marginals of a diffusion.

.. math:: \frac{\mathrm dx}{\mathrm dt}=f(t)\,x-\tfrac12g(t)^2\,\nabla_x\log p_t(x)

Followed upwards it encodes data, downwards it samples, and along it the log-density changes by minus the
divergence of the velocity. A score is a function of a state (B, *) and a float64 time. Fixed steps run in the
time of the process; adaptive ones are those of scipy and of torchdiffeq.
"""

from __future__ import annotations

from refdiff._ode_ddim import CoefficientGap, ddim_coefficient_gap, ddim_step_gap
from refdiff._ode_gaussian import gaussian_flow_map, gaussian_log_likelihood
from refdiff._ode_likelihood import Divergence, bits_per_dim, divergence, log_likelihood
from refdiff._ode_solve import METHODS, decode, encode, integrate
from refdiff._ode_steps import (
    Rule,
    ScoreFn,
    drift,
    euler_step,
    heun_step,
    rk4_step,
    trajectory,
    ve_step,
    vp_step,
)

__all__ = [
    "METHODS",
    "CoefficientGap",
    "Divergence",
    "Rule",
    "ScoreFn",
    "bits_per_dim",
    "ddim_coefficient_gap",
    "ddim_step_gap",
    "decode",
    "divergence",
    "drift",
    "encode",
    "euler_step",
    "gaussian_flow_map",
    "gaussian_log_likelihood",
    "heun_step",
    "integrate",
    "log_likelihood",
    "rk4_step",
    "trajectory",
    "ve_step",
    "vp_step",
]
