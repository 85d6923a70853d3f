"""Where the formulas of the solvers in σ are evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from derivations.golden.formulas import Point
from derivations.kit.ball import Value

VALUES: Mapping[str, str] = {
    "x_ve": "-5/4", "x_0_hat": "5/8", "x_0_hat_s": "9/16", "x_0": "3/8", "eps": "7/16", "z": "9/8",
    "net": "-7/8", "sigma": "3/4", "sigma_data": "5/8", "sig_t": "9/4", "sig_s": "7/8", "eta": "5/8",
    "sigma_1": "13/2", "sigma_L": "3/16", "rho": "7", "churn": "5/32", "s_churn": "9/4", "s_noise": "33/32",
    "node_2": "5/8", "slope_1": "-7/8", "slope_2": "3/16", "gap": "5/16", "gap_1": "7/16", "gap_2": "3/8",
    "gap_3": "9/16", "eps_1": "-5/8", "eps_2": "9/16", "eps_3": "-11/8",
}  # fmt: skip
"""Float32 holds each; they differ in size and sign, and none is 0 or 1."""
COUNTS: Mapping[str, int] = {"i": 4, "rungs": 18}
SCALARS = (*VALUES, *COUNTS)


def point(id: str, *flags: str, counts: Mapping[str, int] | None = None, **changed: str) -> Point:
    """The common values with some changed; counts are whole numbers, which no rounding touches."""
    known: dict[str, Value] = {name: Fraction(value) for name, value in {**VALUES, **changed}.items()}
    return Point(id, flags, {**known, **COUNTS, **(counts or {})})


STEPS: Sequence[Point] = (
    point("middle", "interior"),
    point("large", "last-step", sig_t="161/2", sig_s="37", x_ve="-175/2"),
    point("small", "first-step", sig_t="1/32", sig_s="1/512", eta="3/8"),
)
NETWORK: Sequence[Point] = (
    point("middle", "interior"),
    point("noisy", "last-step", sigma="161/2", x_ve="-175/2"),
    point("clear", "first-step", sigma="1/256", sigma_data="9/8"),
)
LADDER: Sequence[Point] = (
    point("fourth", "several-levels"),
    point("last-but-one", "several-levels", counts={"i": 17}),
    point("steep", "several-levels", counts={"i": 2, "rungs": 5}, rho="5/2", sigma_1="50"),
)
CHURNS: Sequence[Point] = (
    point("middle", "interior"),
    point("little", "cancellation", churn="1/512", sigma="161/2"),
    point("much", "coarse-step", churn="13/32", s_noise="15/16", sigma="1/16"),
)
SHARES: Sequence[Point] = (
    point("shared", "many-steps"),
    point("bounded", "few-steps", counts={"rungs": 3}),
)
HISTORIES: Sequence[Point] = (
    point("uneven", "interior"),
    point("shrinking", "several-levels", gap="1/64", gap_1="1/16", gap_2="1/4", gap_3="7/8"),
    point("to-little-noise", "last-step", gap="35/16", gap_1="3/2", gap_2="11/8", gap_3="9/8"),
)
STAGES: Sequence[Point] = (
    point("middle", "interior"),
    point("early", "interior", node_2="3/16"),
    point("beyond", "coarse-step", node_2="9/8", gap="3/2"),
)

CONTENTS: Sequence[tuple[str, str, Sequence[tuple[Sequence[str], Sequence[Point]]]]] = (
    (
        "sigma",
        "steps in sigma: Euler, Heun, ancestral, and two stages of order 2",
        (
            (("euler_sigma", "edm_heun", "ancestral_up", "ancestral_down", "ancestral_step"), STEPS),
            (("rk2",), STAGES),
        ),
    ),
    (
        "edm",
        "EDM: the network around the denoiser, the levels of Karras et al., and churn",
        (
            (("pf_ode_sigma", "edm_c_in", "edm_c_skip", "edm_c_out", "edm_c_noise"), NETWORK),
            (("edm_loss_weight", "edm_target", "edm_denoiser"), NETWORK),
            (("karras_levels",), LADDER),
            (("churn_step", "churn_excess"), CHURNS),
            (("churn_factor",), SHARES),
        ),
    ),
    ("multistep", "Adams-Bashforth on any levels, and PLMS", ((("ab2", "ab3", "ab4", "plms"), HISTORIES),)),
)
"""The golden files: name, title, and formulas with their points."""
