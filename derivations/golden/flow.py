"""Where the formulas of flow matching are evaluated: paths by their numbers at a time, times, couplings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from derivations.golden.formulas import Point
from derivations.kit.ball import Value

SCALARS = (
    *("flow_t", "flow_s", "path_scale", "path_std", "path_scale_slope", "path_std_slope", "path_scale_s"),
    *("path_std_s", "residual_std", "velocity", "velocity_hat", "velocity_hat_slope", "noise_rate"),
    *(
        "component_velocity_0",
        "component_velocity_1",
        "time_shift",
        "other_shift",
        "log_shift",
        "shift_power",
    ),
    *("intervals", "visited_time", "logit_mean", "logit_std", "time_density", "pixels", "base_pixels"),
    *("data_gap", "noise_gap", "end_0", "end_1", "beta_min", "rate_gap", "sigma_1", "sigma_L", "sigma"),
)
VALUES: Mapping[str, str] = {
    "x_0": "3/8", "x_t": "-5/4", "eps": "7/16", "score": "5/8", "velocity": "-9/8", "velocity_hat": "11/16",
    "velocity_hat_slope": "-3/2", "component_velocity_0": "-5/8", "component_velocity_1": "7/4",
    "weight": "3/16", "data_mean": "3/4", "data_variance": "9/16", "noise_rate": "5/4", "flow_t": "3/8",
    "flow_s": "5/32", "residual_std": "1/64", "beta_min": "1/8", "rate_gap": "159/8", "sigma_1": "25",
    "sigma_L": "1/64", "time_shift": "3", "other_shift": "5/8", "log_shift": "9/8", "shift_power": "3/2",
    "logit_mean": "-3/8", "logit_std": "5/4", "time_density": "11/8", "pixels": "1048576",
    "base_pixels": "262145", "data_gap": "-7/8", "noise_gap": "5/16", "end_0": "-3/4", "end_1": "13/8",
    "sigma": "3/4",
}  # fmt: skip
"""Float32 holds each; they differ in size and sign, and none is 0 or 1."""
COUNTS: Mapping[str, int] = {"intervals": 7, "visited_time": 3}


def point(id: str, *flags: str, counts: Mapping[str, int] | None = None, **changed: str) -> Point:
    """The common values with some changed; counts are whole numbers, which no rounding touches."""
    known: dict[str, Value] = {name: Fraction(value) for name, value in {**VALUES, **changed}.items()}
    return Point(id, flags, {**known, **COUNTS, **(counts or {})})


def on_path(id: str, now: str, then: str, *flags: str, **changed: str) -> Point:
    """A point of a path by its numbers: a, b and their slopes at one time, a and b at another."""
    names = ("path_scale", "path_std", "path_scale_slope", "path_std_slope")
    levels = dict(zip(names, now.split(), strict=True))
    other = dict(zip(("path_scale_s", "path_std_s"), then.split(), strict=True))
    return point(id, *flags, counts={}, **levels, **other, **changed)


PATHS: Sequence[Point] = (
    on_path("straight", "5/8 3/8 -1 1", "13/16 3/16", "interior", "nonzero-mean"),
    on_path("residual", "5/8 25/64 -1 63/64", "3/4 17/64", "interior", "nonzero-mean"),
    on_path("curved", "7/8 5/16 -3/4 9/8", "15/16 7/32", "interior", "nonzero-mean"),
    on_path("near-data", "8191/8192 1/4096 -1/2 5/4", "8189/8192 5/4096", "first-step", "cancellation"),
    on_path("near-noise", "1/256 31/32 -3/64 1/128", "1/16 7/8", "last-step", data_mean="-9/8"),
    on_path("exploding", "9/8 25/2 1/16 75/2", "5/4 7/2", "interior", "small-variance", data_variance="1/64"),
)
"""The numbers of paths at two times; any four numbers are those of some path."""
TIMES: Sequence[Point] = (
    point("middle", "interior", "nonzero-mean"),
    point("near-data", "first-step", "nonzero-mean", flow_t="1/256", flow_s="1/1024"),
    point("near-noise", "last-step", flow_t="255/256", flow_s="31/32", data_mean="-9/8"),
    point("narrow", "interior", "small-variance", flow_t="11/16", flow_s="1/8", data_variance="1/512"),
    point("coarse", "coarse-step", flow_t="29/32", flow_s="3/32", residual_std="3/16"),
)
SHIFTS: Sequence[Point] = (
    point("up", "interior"),
    point("down", "interior", time_shift="5/16", log_shift="-7/8", flow_t="5/8", logit_mean="5/8"),
    point("near-data", "first-step", flow_t="1/512", shift_power="2"),
    point("near-noise", "last-step", flow_t="511/512", other_shift="7/2", shift_power="5/8"),
)
GRIDS: Sequence[Point] = (
    point("middle", "interior"),
    point("second", "last-step", "many-steps", counts={"visited_time": 1, "intervals": 50}),
    point("before-data", "first-step", "many-steps", counts={"visited_time": 27, "intervals": 28}),
    point("down", "interior", time_shift="3/8", counts={"visited_time": 2, "intervals": 5}),
)
COUPLINGS: Sequence[Point] = (
    point("against", "interior"),
    point("along", "interior", data_gap="3/4", noise_gap="9/8", flow_t="5/8"),
    point("near-start", "first-step", flow_t="1/128", sigma="1/8", noise_rate="1/16"),
    point("near-end", "last-step", flow_t="127/128", sigma="5/2", noise_rate="29/8"),
)
OF_A_PATH = (
    *("conditional_velocity", "reversed_velocity", "loss", "loss_constant", "velocity_from_eps"),
    *("velocity_from_x_0", "velocity_from_score", "x_0_from_velocity", "eps_from_velocity"),
    *("score_from_velocity", "gaussian_velocity", "loss_weight_eps", "loss_weight_x_0", "loss_weight_v"),
    *("loss_weight_score", "log_snr_weight"),
)
OF_TWO_TIMES = ("ddim_step", "ddim_in_sigma", "ddim_in_snr", "gaussian_flow_map")
OF_A_NAMED_PATH = (
    *("rectified_x_0", "rectified_eps", "rectified_score", "transport_velocity"),
    *("transport_velocity_from_x_0", "transport_x_0", "trigonometric_velocity", "vp_velocity"),
    *("vp_velocity_from_score", "subvp_velocity", "ve_velocity", "ve_velocity_from_score", "euler_step"),
    *("first_step", "reflow_velocity"),
)
OF_DATA = ("rectified_velocity", "straightness", "loss_split", "loss_gradient")
OF_A_SHIFT = (
    *("shift", "shift_log_snr", "shift_inverse", "shift_composition", "shift_slope", "shift_exponential"),
    *("resolution_shift", "logit_normal", "rectified_log_snr_weight"),
)
OF_A_COUPLING = (
    *("coupling_swap", "coupling_distance", "bridge_velocity", "bridge_score", "bridge_score_weight"),
    *("sde_drift", "sde_drift_backward"),
)

CONTENTS: Sequence[tuple[str, str, Sequence[tuple[Sequence[str], Sequence[Point]]]]] = (
    ("paths", "velocity, score, data and noise on a path, by its numbers", ((OF_A_PATH, PATHS),)),
    ("steps", "steps of DDIM and the flow of Gaussian data between two times", ((OF_TWO_TIMES, PATHS),)),
    (
        "named",
        "the rectified, transport, trigonometric, VP, sub-VP and VE paths, and Gaussian data",
        ((OF_A_NAMED_PATH, TIMES), (OF_DATA, (TIMES[0], TIMES[3]))),
    ),
    (
        "times",
        "shifts of time, grids, logit-normal times",
        ((OF_A_SHIFT, SHIFTS), (("shifted_grid",), GRIDS)),
    ),
    ("couplings", "couplings, bridges and flows with noise", ((OF_A_COUPLING, COUPLINGS),)),
)
"""The golden files: name, title, and formulas with their points; undefined functions have no values."""
