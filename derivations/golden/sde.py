"""Where the formulas of stochastic differential equations are evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from derivations.golden.formulas import Point
from derivations.kit.ball import Value

SCALARS = (
    *("drift_x", "drift_factor", "diffusion", "time_step", "kernel_factor", "kernel_variance"),
    *("scale_t", "scale_s", "scale_slope", "std_t", "std_s", "std_slope", "ratio_slope"),
    *("rate", "rate_integral", "rate_integral_s", "level_t", "level_s", "sigma_min", "sigma_max"),
    *("beta_min", "rate_gap", "tau", "chain_length", "i", "count", "eta_step", "marginal_s", "mean_t"),
    *("snr_ratio", "step_damping", "noise_norm", "score_norm", "loss_weight", "score_hat", "score_x"),
)
VALUES: Mapping[str, str] = {
    "x": "-9/8", "x_t": "-5/4", "z": "9/8", "score": "5/8", "score_hat": "-7/8", "score_x": "11/16",
    "eps": "7/16", "drift_x": "-13/16", "drift_factor": "-11/8", "diffusion": "7/4", "time_step": "3/16",
    "kernel_factor": "7/8", "kernel_variance": "5/16", "scale_t": "5/8", "scale_s": "7/8",
    "scale_slope": "-11/8", "std_t": "3/4", "std_s": "3/8", "std_slope": "9/8", "rate": "29/8",
    "rate_integral": "9/4", "rate_integral_s": "9/16", "level_t": "9/4", "level_s": "7/8",
    "sigma_min": "3/64", "sigma_max": "25/2", "beta_min": "3/16", "rate_gap": "29/4", "tau": "5/8",
    "beta": "5/32", "eta_step": "3/16", "marginal_s": "7/8", "mean_t": "-11/8", "data_mean": "3/4",
    "data_variance": "9/16", "snr_ratio": "3/16", "step_damping": "7/8", "noise_norm": "13/4",
    "score_norm": "19/8", "loss_weight": "5/16", "ratio_slope": "17/8", "x_0": "3/8",
}  # fmt: skip
"""Float32 holds each; they differ in size and sign, and none is 0 or 1."""
COUNTS: Mapping[str, int] = {"i": 3, "chain_length": 16, "count": 3}


def point(id: str, *flags: str, counts: Mapping[str, int] | None = None, **changed: str) -> Point:
    """The common values with some changed; counts are whole numbers, which no rounding touches."""
    known: dict[str, Value] = {name: Fraction(value) for name, value in {**VALUES, **changed}.items()}
    return Point(id, flags, {**known, **COUNTS, **(counts or {})})


TIMES = (
    point("early", "interior", tau="1/64"),
    point("middle", "interior"),
    point("late", "last-step", tau="31/32"),
)
RATES = (
    point("middle", "interior"),
    point("late", "last-step", rate="25/2", rate_integral="8", rate_integral_s="1/4"),
    point("near", "cancellation", rate="7/64", rate_integral="1/16", rate_integral_s="3/64"),
)
PATHS = (
    point("middle", "interior"),
    point("falling", "interior", scale_t="3/16", scale_s="1/4", std_t="15/16", std_s="13/16"),
    point("growing", "data-range", scale_t="3/2", scale_s="5/4", scale_slope="7/16", std_t="9/2"),
)
LEVELS = (
    point("middle", "interior"),
    point("near", "cancellation", level_t="9/8", level_s="17/16"),
    point("far", "data-range", level_t="47/2", level_s="3/32"),
)
STEPS = (
    point("middle", "interior"),
    point("fine", "interior", time_step="3/512", kernel_factor="127/128", kernel_variance="5/256",
          beta="3/256"),
    point("coarse", "coarse-step", time_step="9/16", kernel_factor="1/4", kernel_variance="13/16",
          beta="27/32", std_s="1/16"),
)  # fmt: skip
CHAINS = (
    point("first", "first-step", counts={"i": 1}),
    point("middle", "interior", counts={"i": 5}),
    point("last", "last-step", counts={"i": 16}),
    point("thousand", "interior", counts={"i": 333, "chain_length": 1000}, beta_min="1/8", rate_gap="159/8"),
)
DDPM = (point("second", "interior", counts={"i": 2}), point("middle", "interior", counts={"i": 500}))
CORRECTIONS = (
    point("few", "nonzero-mean"),
    point("many", "many-steps", "nonzero-mean", counts={"count": 40}, eta_step="3/256"),
    point("overshooting", "coarse-step", "nonzero-mean", eta_step="5/4"),
)
OF_A_RATE = (
    *("vp_kernel_factor", "vp_kernel_variance", "sub_vp_diffusion", "sub_vp_std", "sub_vp_transition"),
    "beta_from_integral",
)
OF_A_PATH = (
    *("drift_from_scale", "diffusion_from_std", "diffusion_from_sigma"),
    *("transition_factor", "transition_variance"),
)
OF_A_STEP = ("reverse_drift", "euler_maruyama", "reverse_diffusion", "reverse_diffusion_vp", "ancestral")
