"""Where the formulas of variational diffusion are evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from derivations.golden.formulas import Point

SCALARS = (
    *("gamma", "gamma_t", "gamma_s", "gamma_m", "gamma_0", "gamma_1", "gamma_slope", "raw_t", "raw_0"),
    *("raw_1", "gain_1", "gain_2", "gain_3", "unit_offset", "tau"),
)
VALUES: Mapping[str, str] = {
    "gamma": "-5/4", "gamma_t": "3/8", "gamma_m": "-1/4", "gamma_s": "-7/8", "gamma_0": "-13/2",
    "gamma_1": "19/4", "gamma_slope": "73/4", "x_0": "3/8", "x_0_hat": "11/16", "x_t": "-5/4",
    "eps": "7/16", "eps_hat": "-5/16", "z": "9/8", "data_variance": "9/16", "point_1": "-3/8",
    "point_2": "-11/32", "raw_t": "7/4", "raw_0": "-5/8", "raw_1": "37/8", "gain_1": "5/4", "gain_2": "7/2",
    "gain_3": "9/4", "unit_offset": "-13/8", "tau": "3/8",
}  # fmt: skip
"""Float32 holds each; they differ in size and sign, and none is 0 or 1."""


def point(id: str, *flags: str, **changed: str) -> Point:
    """The common values with some changed."""
    return Point(id, flags, {name: Fraction(value) for name, value in {**VALUES, **changed}.items()})


LEVELS = (
    point("middle", "interior"),
    point("near-data", "first-step", gamma="-13/2", data_variance="5/2"),
    point("near-noise", "last-step", gamma="19/4"),
    point("thin", "small-variance", gamma="-3/8", data_variance="1/512"),
)
STEPS: Sequence[Point] = (
    point("middle", "interior"),
    point("near-data", "first-step", gamma_t="-21/4", gamma_m="-23/4", gamma_s="-13/2"),
    point("near-noise", "last-step", gamma_t="19/4", gamma_m="35/8", gamma_s="4"),
    point("wide", "strided", "coarse-step", gamma_t="9/4", gamma_m="-5/8", gamma_s="-15/4"),
    point("thin", "small-variance", data_variance="1/128"),
)
APART: Sequence[Point] = tuple(place for place in STEPS if place.id != "thin")
HALVED: Sequence[Point] = tuple(place for place in STEPS if place.id != "near-noise")
"""Where the gain is not all but lost beside the terms it is a difference of."""
ENDS: Sequence[Point] = (
    point("middle", "interior"),
    point("less-noise", "last-step", gamma_1="13/8", tau="5/8"),
    point("wide", "small-variance", data_variance="1/64", gamma_0="-15/2"),
    point("late", "interior", tau="13/16", data_variance="3"),
)
DECODED: Sequence[Point] = (
    point("narrow", "interior", gamma_0="-27/4"),
    point("hidden", "tail", gamma_0="-11/4", point_2="13/8"),
    point("close", "cancellation", gamma_0="-3/8", point_2="-1/4"),
)
LEARNED: Sequence[Point] = (
    point("middle", "interior"),
    point("near-start", "first-step", raw_t="-19/32", tau="1/64"),
    point("near-end", "last-step", raw_t="147/32", tau="63/64"),
)
OF_A_LEVEL = ("marginal", "gaussian_error", "rate")
OF_A_STEP = ("transition_variance", "step", "term", "term_x_0")
CONTENTS: Sequence[tuple[str, str, Sequence[tuple[Sequence[str], Sequence[Point]]]]] = (
    (
        "steps",
        "levels, steps and terms of the diffusion loss in gamma",
        ((OF_A_LEVEL, LEVELS), (OF_A_STEP, APART), (("prior_term",), ENDS), (("reconstruction",), DECODED)),
    ),
    (
        "gaussian",
        "the terms of the bound on Gaussian data, and what a step more gains",
        (
            (("gaussian_term",), STEPS),
            (("refinement",), HALVED),
            (("gaussian_loss", "gaussian_reconstruction"), ENDS),
        ),
    ),
    (
        "schedules",
        "the best schedule of Gaussian data, and a learned one",
        ((("optimal_gamma",), ENDS), (("learned_gamma", "learned_slope"), LEARNED)),
    ),
)
