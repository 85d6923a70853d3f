"""Where the formulas of consistency models are evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from derivations.golden.formulas import Point
from derivations.kit.ball import Value

SCALARS = (
    *("sigma_min", "sigma_data", "student_slope", "teacher_slope", "iteration", "iterations", "count_first"),
    *("count_last", "doublings", "average_rate", "average_rate_first", "theta", "theta_average", "rho"),
    *("distance_squared", "dim", "log_sigma_mean", "log_sigma_std", "sig_t", "sig_s", "count", "x_0_hat"),
)
VALUES: Mapping[str, str] = {
    "sigma": "7/4", "sigma_min": "1/32", "sigma_data": "5/8", "x_ve": "-5/4", "score_ve": "5/8",
    "x_0": "3/8", "x_0_hat": "11/16", "z": "9/8", "z_2": "-7/16", "eps": "7/16", "data_mean": "3/4",
    "data_variance": "9/16", "start_mean": "-11/8", "start_variance": "7/2", "sig_t": "7/4", "sig_s": "5/4",
    "teacher_slope": "7/8", "student_slope": "5/8", "mode_1": "3/4", "mode_2": "-5/8",
    "mode_variance_1": "9/16", "mode_variance_2": "5/32", "u_1": "3/4", "u_2": "5/4", "x_t_1": "-3/4",
    "x_t_2": "13/8", "sigma_1": "80", "rho": "7", "theta": "-5/8", "theta_average": "7/4",
    "average_rate": "13/16", "average_rate_first": "29/32", "distance_squared": "9/64",
    "log_sigma_mean": "-9/8", "log_sigma_std": "7/4",
}  # fmt: skip
"""Float32 holds each; they differ in size and sign, and none is 0 or 1."""
COUNTS: Mapping[str, int] = {
    "i": 3, "rungs": 11, "iteration": 37, "iterations": 100, "count_first": 2, "count_last": 150,
    "doublings": 7, "count": 5, "dim": 12,
}  # fmt: skip


def point(id: str, *flags: str, counts: Mapping[str, int] | None = None, **changed: str) -> Point:
    """The common values with some changed; counts are whole numbers, which no rounding touches."""
    known: dict[str, Value] = {name: Fraction(value) for name, value in {**VALUES, **changed}.items()}
    return Point(id, flags, {**known, **COUNTS, **(counts or {})})


LEVELS = (
    point("middle", "interior", "nonzero-mean"),
    point("small", "cancellation", sigma="9/128", sigma_min="1/16", sigma_data="3/8"),
    point("smallest", "ladder-end", sigma="1/32"),
    point("noisiest", "last-step", "nonzero-mean", sigma="80", sigma_min="1/512"),
    point("thin", "small-variance", sigma="3/8", data_variance="1/512", sigma_data="1/32"),
)
ABOVE = tuple(place for place in LEVELS if place.id != "smallest")
"""Where a level is above the smallest."""
PLANES = (
    point("middle", "several-dimensions", "nonzero-mean"),
    point("noisy", "several-dimensions", "last-step", sigma="25/2"),
    point("other-turn", "several-dimensions", u_1="-5/4", u_2="3/8", mode_variance_2="2", sigma="3/4"),
)
PAIRS = (
    point("middle", "several-levels"),
    point("apart", "several-levels", "coarse-step", sig_t="9/2", sig_s="3/8"),
    point("low", "several-levels", sig_t="5/16", sig_s="3/16", teacher_slope="13/8"),
)
LADDERS = (
    point("inner", "several-levels"),
    point("first", "ladder-end", counts={"i": 1}),
    point("last", "ladder-end", counts={"i": 11}),
    point("two-of-nineteen", "several-levels", counts={"i": 2, "rungs": 19}, sigma_min="1/512", rho="5"),
)
COUNTED = (
    point("start", "first-step", counts={"iteration": 1}),
    point("inner", "interior"),
    point("end", "last-step", counts={"iteration": 100}),
    point("long", "many-steps", counts={"iteration": 123456, "iterations": 600000}),
    point("other-ends", "interior", counts={"count_first": 3, "count_last": 20, "iteration": 61}),
)
AVERAGES = (
    point("few", "several-levels"),
    point("many", "many-steps", counts={"rungs": 151, "count": 60}, average_rate="31/32"),
)
DISTANCES = (
    point("near", "cancellation", distance_squared="1/1048576"),
    point("far", "several-dimensions"),
    point("image", "several-dimensions", counts={"dim": 3072}, distance_squared="25/16384"),
    point("one", "interior", counts={"dim": 2}, distance_squared="1/4194304"),
)
SHARES = (
    point("middle", "several-levels", sig_t="3/4", sig_s="5/8"),
    point("low", "ladder-end", sig_t="3/64", sig_s="1/32"),
    point("tail", "several-levels", sig_t="75", sig_s="70", log_sigma_std="5/4"),
)
OF_A_LEVEL = (
    *("velocity", "velocity_from_data", "c_skip", "c_out", "gaussian_function", "unbiased_score"),
)
OF_A_STEP = ("renoise", "one_step_mean", "one_step_variance")
OF_A_PAIR = (
    *("training_pair", "two_step_variance", "loss_gap", "gaussian_gradient", "trained_step"),
    *("trained_deficit", "weight"),
)
CONTENTS: Sequence[tuple[str, str, Sequence[tuple[Sequence[str], Sequence[Point]]]]] = (
    (
        "function",
        "the velocity, the boundary condition, and the exact function of Gaussian data",
        ((OF_A_LEVEL, LEVELS), (OF_A_STEP, ABOVE), (("gaussian_function_plane",), PLANES)),
    ),
    ("training", "pairs of levels: sampling, losses and what they converge to", ((OF_A_PAIR, PAIRS),)),
    (
        "schedules",
        "levels, their number, how often each is taken, averages and distances",
        (
            (("level",), LADDERS),
            (("steps", "improved_steps"), COUNTED),
            (("ema_rate", "ema"), AVERAGES),
            (("pseudo_huber",), DISTANCES),
            (("level_probability",), SHARES),
        ),
    ),
)
