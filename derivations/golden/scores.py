"""Where the formulas of score matching and of annealed Langevin sampling are evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from derivations.golden.formulas import Point
from derivations.golden.matrices import PLANE as GAUSSIANS
from derivations.golden.matrices import Arrays, Rows
from derivations.kit.ball import Value

SCALARS = (
    *("score_hat", "u_1", "u_2", "v_1", "v_2", "H_11", "H_12", "H_21", "H_22"),
    *("weight", "density_0", "density_1", "component_score_0", "component_score_1"),
    *("sigma", "sigma_1", "sigma_L", "i", "rungs", "visited", "base_step", "step_size", "steps"),
    *("start_mean", "start_variance", "x_ve", "score_ve"),
)
VALUES: Mapping[str, str] = {
    "u_1": "-5/8", "u_2": "7/4", "v_1": "-9/8", "v_2": "3/8", "H_11": "3/2", "H_12": "1/4", "H_21": "-5/8",
    "H_22": "7/8", "weight": "3/16", "other_weight": "5/8", "density_0": "3/8", "density_1": "5/32",
    "component_score_0": "-5/4", "component_score_1": "13/8", "sigma": "3/4", "sigma_1": "5/2",
    "sigma_L": "1/4", "base_step": "3/64", "step_size": "5/16", "data_mean": "3/4", "data_variance": "9/16",
    "start_mean": "-11/8", "start_variance": "7/4", "x_ve": "-5/4", "score_ve": "5/8", "score_hat": "-7/8",
    "z": "9/8", "eps": "7/16", "eps_hat": "-5/16", "abar_t": "3/8",
}  # fmt: skip
"""Float32 holds each; they differ in size and sign, and none is 0 or 1."""
COUNTS: Mapping[str, int] = {"i": 3, "rungs": 7, "visited": 7, "steps": 3}


def point(id: str, *flags: str, counts: Mapping[str, int] | None = None, **changed: str) -> Point:
    """The common values with some changed; counts are whole numbers, which no rounding touches."""
    known: dict[str, Value] = {name: Fraction(value) for name, value in {**VALUES, **changed}.items()}
    return Point(id, flags, {**known, **COUNTS, **(counts or {})})


ENERGIES = (
    point("skewed", "several-dimensions"),
    point("steep", "several-dimensions", H_11="37/2", H_22="29/4", H_12="-9/4", u_1="3/16", u_2="-5/32"),
    point("saddle", "several-dimensions", H_11="-9/8", H_22="11/16", H_21="5/16", u_1="11/8"),
)
MIXTURES = (
    point("overlap", "several-modes"),
    point("little-overlap", "several-modes", "little-overlap", density_1="1/4096"),
    point("other-side", "several-modes", "little-overlap", density_0="3/2048", weight="13/16"),
)
RUNGS = (
    point("first", "ladder-end", counts={"i": 1}),
    point("second", "several-levels", counts={"i": 2}),
    point("middle", "several-levels", counts={"i": 5}),
    point("last", "ladder-end", counts={"i": 7}),
    point("ten-of-232", "several-levels", counts={"i": 10, "rungs": 232}, sigma_1="50", sigma_L="1/128"),
)
STEPS = (
    point("middle", "interior"),
    point("largest", "ladder-end", "coarse-step", sigma="5/2"),
    point("fine", "interior", base_step="1/65536", sigma="1/2"),
)
LEVELS = (
    point("middle", "nonzero-mean"),
    point("coarse", "nonzero-mean", "coarse-step", step_size="29/8"),
    point("thin", "nonzero-mean", "small-variance", data_variance="1/512", sigma="1/8", step_size="1/128"),
    point("many", "nonzero-mean", "many-steps", counts={"steps": 60}, step_size="1/256", start_mean="-7/2"),
)
CHAINS = (
    point("two", "several-levels", "nonzero-mean", counts={"rungs": 2, "visited": 2}),
    point("three", "several-levels", "nonzero-mean", counts={"rungs": 3, "visited": 3, "steps": 5}),
    point(
        "four-coarse", "several-levels", "coarse-step", counts={"rungs": 4, "visited": 4, "steps": 2},
        base_step="5/32", start_mean="-27/8",
    ),
)  # fmt: skip


def _rows(text: str) -> Rows:
    return tuple(tuple(Fraction(entry) for entry in row.split()) for row in text.split(","))


PLANE: Arrays = replace(
    GAUSSIANS,
    matrices={
        **GAUSSIANS.matrices,
        "H": _rows("3/2 1/4, -5/8 7/4"),
        "N": _rows("9/16 0, 0 9/16"),
    },
    symmetric=(*GAUSSIANS.symmetric, "N"),
)
NARROW: Arrays = replace(
    PLANE,
    id="narrow",
    flags=(*PLANE.flags, "small-variance"),
    matrices={
        **PLANE.matrices,
        "S_0": _rows("1/8 1/16, 1/16 3/32"),
        "H": _rows("11/2 -3/4, 5/4 13/2"),
        "N": _rows("1/64 0, 0 1/64"),
    },
)
GAUSSIAN_IDS = tuple(
    f"score_matching.{name}_nd"
    for name in ("fisher_divergence", "explicit_gaussian", "denoising_gaussian", "denoising_constant")
)
OF_A_STEP = (
    *("step_size", "step", "step_practice", "loss", "loss_minimum", "denoise", "contraction"),
    "denoised_variance",
)
