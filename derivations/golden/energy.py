"""Where the formulas of energy models and Langevin chains are evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from derivations.golden.formulas import Point
from derivations.kit.ball import Value

SCALARS = (
    *("eta_step", "epsilon", "temp", "energy_x", "energy_y", "energy_slope", "score_x", "score_y", "log_z"),
    *("phase_data", "phase_model", "count", "noise_ratio"),
    *("log_model_x", "log_model_y", "log_noise_x", "log_noise_y"),
)
VALUES: Mapping[str, str] = {
    "x": "-9/8", "y": "1/4", "z": "9/8", "score_x": "11/16", "score_y": "-7/16", "energy_x": "13/8",
    "energy_y": "3/8", "energy_slope": "-11/16", "log_z": "-3/8", "phase_data": "5/8", "phase_model": "-7/32",
    "mean_0": "3/4", "mean_1": "-5/8", "variance_0": "9/16", "variance_1": "5/8",
}  # fmt: skip
"""Float32 holds each; they differ in size and sign, and none is 0 or 1."""


def point(id: str, *flags: str, counts: Mapping[str, int] | None = None, **changed: str) -> Point:
    """The common values with some changed; counts are whole numbers, which no rounding touches."""
    known: dict[str, Value] = {name: Fraction(value) for name, value in {**VALUES, **changed}.items()}
    return Point(id, flags, {**known, **(counts or {})})


STEPS = (
    point("small", "tempered", eta_step="1/1024", epsilon="1/32", temp="5/8"),
    point("middle", "tempered", eta_step="3/32", epsilon="7/16", temp="13/8"),
    point("coarse", "coarse-step", "tempered", eta_step="11/8", epsilon="13/8", temp="1/4"),
    point(
        "steep", "tempered", eta_step="1/64", epsilon="3/16", temp="3/8", score_x="-75/2", energy_slope="75/2"
    ),
    point("cold", "tempered", eta_step="5/64", epsilon="3/8", temp="1/256"),
)  # fmt: skip
NOT_SMALL = tuple(at for at in STEPS if at.id not in ("small", "steep"))
"""Where the energies of a Gaussian leave most of their digits to the ratio of flows."""
PHASES = (point("phases", "exchanged-samples"),)
CHAINS = (
    point("one-step", "nonzero-mean", "tempered", counts={"count": 1}, eta_step="3/16", temp="13/8"),
    point("few", "nonzero-mean", "tempered", counts={"count": 3}, eta_step="3/16", temp="5/8"),
    point("overshooting", "nonzero-mean", "coarse-step", counts={"count": 3}, eta_step="15/16", temp="13/8"),
    point(
        "many", "nonzero-mean", "many-steps", counts={"count": 150}, eta_step="1/256", temp="5/8",
        mean_0="-7/2",
    ),
    point(
        "thin", "nonzero-mean", "small-variance", counts={"count": 5}, eta_step="3/4096", temp="3/8",
        variance_1="1/512",
    ),
)  # fmt: skip
LEARNED = (
    point("fine", "cancellation", eta_step="1/64"),
    point("middle", "coarse-step", eta_step="3/32"),
    point("nearly-too-coarse", "coarse-step", eta_step="35/128"),
)
CONTRASTS = (
    point(
        "one", "noise-samples", counts={"noise_ratio": 2}, log_model_x="-5/4", log_noise_x="-17/8",
        log_model_y="-25/8", log_noise_y="-3/2",
    ),
    point(
        "many", "noise-samples", counts={"noise_ratio": 10}, log_model_x="-19/8", log_noise_x="-7/4",
        log_model_y="1/2", log_noise_y="-9/4",
    ),
    point(
        "apart", "noise-samples", "cancellation", counts={"noise_ratio": 3}, log_model_x="-3/4",
        log_noise_x="-79/4", log_model_y="-83/4", log_noise_y="-5/4",
    ),
)  # fmt: skip
