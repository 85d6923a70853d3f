"""Where the formulas of the probability-flow ODE are evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from derivations.golden.formulas import Point
from derivations.golden.grid import ONE_STEP, without
from derivations.kit.ball import Value

SCALARS = (
    *("tau", "beta_min", "rate_gap", "sigma_1", "sigma_L", "sig_t", "sig_s", "score_ve", "x_ve"),
    *("path_scale", "path_std", "path_scale_slope", "path_std_slope", "path_scale_s", "path_std_s"),
    *("flow_11", "flow_12", "flow_21", "flow_22", "log_likelihood", "dim", "bins", "data_span"),
    "prior_variance",
)
VALUES: Mapping[str, str] = {
    "x_0": "3/8", "x_t": "-5/4", "score": "5/8", "eps": "7/16", "x_ve": "-5/4", "score_ve": "5/8",
    "beta_min": "3/16", "rate_gap": "29/4", "sigma_1": "13/2", "sigma_L": "3/16", "tau": "5/8",
    "data_mean": "3/4", "data_variance": "9/16", "path_scale": "7/8", "path_std": "3/8",
    "path_scale_slope": "-5/8", "path_std_slope": "11/8", "path_scale_s": "1/4", "path_std_s": "15/16",
    "flow_11": "3/2", "flow_12": "1/4", "flow_21": "-5/8", "flow_22": "7/8", "log_likelihood": "-2875/2",
    "data_span": "2", "prior_variance": "13/16", "sig_t": "9/4", "sig_s": "7/8",
}  # fmt: skip
"""Float32 holds each; they differ in size and sign, and none is 0 or 1."""


def point(id: str, *flags: str, counts: Mapping[str, int] | None = None, **changed: str) -> Point:
    """The common values with some changed; counts are whole numbers, which no rounding touches."""
    known: dict[str, Value] = {name: Fraction(value) for name, value in {**VALUES, **changed}.items()}
    return Point(id, flags, {**known, **(counts or {})})


TIMES = (
    point("early", "interior", tau="1/64"),
    point("middle", "interior"),
    point("late", "last-step", tau="31/32"),
    point("slow", "cancellation", tau="1/1024", beta_min="1/16"),
)
PATHS = (
    point("middle", "nonzero-mean"),
    point("down", "nonzero-mean", path_scale="1/4", path_std="15/16", path_scale_s="7/8", path_std_s="3/8"),
    point("noisy", "nonzero-mean", path_scale="3/4", path_std="21/8", path_scale_s="5/8", path_std_s="1/16"),
    point("thin", "nonzero-mean", "small-variance", data_variance="1/512", path_std="1/32"),
)  # fmt: skip
DESCENTS = (
    point("middle", "interior"),
    point("large", "last-step", sig_t="161/2", sig_s="37"),
    point("near", "cancellation", sig_t="9/4", sig_s="2303/1024"),
    point("small", "first-step", sig_t="1/32", sig_s="1/512"),
)
JACOBIANS = (
    point("skewed", "several-dimensions"),
    point("saddle", "several-dimensions", flow_11="-9/8", flow_22="11/16", flow_21="5/16"),
)
UNITS = (
    point("symmetric", "data-range", counts={"dim": 192, "bins": 256}),
    point("unit", "data-range", counts={"dim": 192, "bins": 256}, data_span="9/8"),
    point("few-bins", "data-range", counts={"dim": 12, "bins": 8}, log_likelihood="45/4", data_span="5/2"),
)
ALPHA_BEFORE = Fraction(15, 16)
"""The signal power of the step before, which only decoys ask for."""
LEVELS = without(ONE_STEP, "upper", "near-levels", "linear-T1000-t500-s499", "cosine-T100-t37-s36", "sigmoid")
COMPARED = tuple(
    f"ode.{name}"
    for name in (
        *("ddim_coefficient", "ddim_coefficient_ratio", "ddim_coefficient_gap", "ddim_state_gap"),
        "ddim_step_gap",
    )
)
GAUSSIAN = ("ode.gaussian_flow", "ode.gaussian_log_det", "ode.gaussian_likelihood", "ode.prior_gap")
