"""Where the formulas of exponential integrators are evaluated: steps between levels, weights, functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import sympy as sp

from derivations.golden.formulas import Point, Variant
from derivations.symbols import scale_s, scale_t, std_s, std_t

VALUES: Mapping[str, str] = {
    "x_t": "-5/4", "x_0": "3/8", "eps": "7/16", "z": "9/8", "scale_t": "5/8", "scale_s": "7/8",
    "std_t": "3/4", "std_s": "3/8", "value_t": "11/16", "value_1": "-5/8", "value_2": "13/16",
    "value_s": "-9/16", "past_1": "5/4", "past_2": "7/8", "inner_1": "3/8", "inner_2": "2/3",
    "sde_share": "5/8", "exponent": "-11/8", "place_1": "-5/4", "place_2": "7/16", "moment_0": "9/8",
    "moment_1": "-3/8", "moment_2": "5/16",
}  # fmt: skip
"""They differ in size and sign, and none is 0 or 1."""
SCALARS = tuple(name for name in VALUES if name not in ("x_t", "x_0", "eps", "z"))
LENGTH = sp.log(scale_s * std_t / (scale_t * std_s))
"""The growth of the log-SNR between the levels of a point."""


def point(id: str, *flags: str, **changed: str) -> Point:
    """The common values with some changed."""
    return Point(id, flags, {name: Fraction(value) for name, value in {**VALUES, **changed}.items()})


def step(id: str) -> Variant:
    """A step between two levels, its length put in."""
    return Variant(f"solver.{id}", (("lambda_step", LENGTH),))


STEPS = (
    point("middle", "interior", "uneven-steps"),
    point("near", "cancellation", "uneven-steps", scale_t="3/4", std_t="21/32", scale_s="49/64",
          std_s="41/64", past_1="3/4", past_2="3/2"),
    point("far", "coarse-step", "uneven-steps", scale_t="1/32", std_t="31/32", scale_s="15/16",
          std_s="5/16", past_1="3/8", past_2="1/4", sde_share="3/2"),
    point("exploding", "data-range", "uneven-steps", scale_t="3/2", std_t="25/2", scale_s="7/4",
          std_s="9/4", inner_1="5/8"),
)  # fmt: skip
ARGUMENTS = (
    point("negative", "interior"),
    point("positive", "interior", exponent="7/4"),
    point("small", "cancellation", exponent="-3/64"),
    point("large", "coarse-step", exponent="-19/2"),
)
RULES = (
    point("around", "uneven-steps"),
    point("behind", "uneven-steps", place_1="-3/8", place_2="-7/4"),
    point("inside", "interior", place_1="5/16", place_2="11/16"),
)
SINGLE = (
    *("dpm_1", "dpmpp_1", "dpm_2", "dpmpp_2s"),
    *("dpm_3", "dpm_3_stage", "dpmpp_3s", "dpmpp_3s_stage"),
)
MULTI = ("dpm_2m", "dpmpp_2m", "dpmpp_2m_heun", "dpmpp_3m")
UNIPC = ("unip_2", "unip_2_is_dpmpp_2m", "unip_3_is_dpmpp_3m", "unic_1", "unic_2")
SDE = ("sde_dpm_1", "sde_dpm_2m", "sde_dpmpp_1", "sde_dpmpp_2m", "sde_dpmpp_2m_heun", "sde_dpmpp_3m")
FUNCTIONS = tuple(f"phi_{k}" for k in (1, 2, 3, 4))
CONTENTS: Sequence[tuple[str, str, Sequence[str]]] = (
    ("dpm_solver", "steps of DPM-Solver and DPM-Solver++, between levels of any process", (*SINGLE, *MULTI)),
    ("unipc", "steps of UniPC's predictors and correctors", UNIPC),
    ("sde_dpm_solver", "steps of the SDE variants, with a share of the noise", SDE),
)
