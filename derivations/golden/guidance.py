"""Where the formulas of guidance are evaluated: no scale is 1, no observation the expected one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import TypeAlias

from derivations.golden.formulas import Point, Variant, chosen
from derivations.golden.grid import ETAS, ONE_STEP, STRIDED, points, without
from derivations.golden.grid import VALUES as COMMON
from derivations.golden.inputs import Levels
from derivations.kit.ball import Value

Grid: TypeAlias = tuple[Callable[[], Variant], Callable[[], Sequence[Point]]]

VALUES: Mapping[str, Value] = {
    "guide_scale": Fraction(5, 2),
    "ho_scale": Fraction(7, 4),
    "label_score": Fraction(-11, 16),
    "eps_cond": Fraction(-13, 32),
    "eps_slope": Fraction(3, 8),
    "loss_slope": Fraction(-5, 4),
    "slope": Fraction(-3, 2),
    "obs_variance": Fraction(5, 32),
    "y": Fraction(7, 8),
    "tilt": Fraction(-5, 4),
    "label_offset": Fraction(3, 8),
}
"""Float32 holds each; they differ in size and sign, and no scale is 1."""
LESS: Mapping[str, Value] = {
    "guide_scale": Fraction(3, 8),
    "ho_scale": Fraction(-5, 8),
    "y": Fraction(-19, 8),
}
SCALARS = tuple(name for name in VALUES if name not in ("slope", "y"))
KINDS = ("beta_tilde", "beta")
APART = without(ONE_STEP, "near-levels")


def guided(id: str, pairs: Sequence[Levels] = ONE_STEP) -> Grid:
    """A formula of guidance at pairs of levels."""
    return partial(Variant, f"guidance.{id}"), partial(points, pairs, VALUES)


def alone(id: str) -> Grid:
    """A formula without levels, where the scale strengthens the condition and where it weakens it."""
    return partial(Variant, f"guidance.{id}"), (lambda: (STRONGER, WEAKER))


STRONGER = Point("stronger", ("guided", "nonzero-mean"), {**COMMON, **VALUES})
WEAKER = Point("weaker", ("guided", "nonzero-mean"), {**COMMON, **VALUES, **LESS})


def guided_step(kind: str) -> Grid:
    """The guided ancestral step with one choice of its variance."""
    given = {"variance_kind": kind}
    return (
        partial(chosen, "guidance.ddpm_step", kind),
        partial(points, APART, VALUES, f"-{kind}", ("guided",), given),
    )


def guided_etas() -> Sequence[Point]:
    """The pairs of levels at each eta."""
    return tuple(
        point
        for eta, flag in ETAS.items()
        for point in points(
            STRIDED, {**VALUES, "eta": Fraction(eta)}, f"-eta{eta.replace('/', '_')}", (flag, "guided")
        )
    )


STEPS: tuple[Grid, ...] = (
    alone("guided_score"),
    guided("guided_eps"),
    (partial(Variant, "guidance.ddim_step"), guided_etas),
    *(guided_step(kind) for kind in KINDS),
)
WITHOUT_CLASSIFIER: tuple[Grid, ...] = (
    alone("classifier_free"),
    alone("classifier_free_ho"),
    guided("implied_gradient"),
)
LOSSES: tuple[Grid, ...] = (guided("x_0_slope"), guided("loss_guided_eps"))
OBSERVATIONS: tuple[Grid, ...] = (
    guided("observation_likelihood"),
    guided("observation_gradient"),
    alone("observed_mean"),
    alone("observed_variance"),
    guided("observed_eps"),
    guided("log_linear_gradient"),
    alone("log_linear_target"),
    guided("probit_label"),
    guided("probit_gradient"),
    alone("probit_mean"),
)
KERNELS: tuple[Grid, ...] = (
    guided("gaussian_reverse_mean", STRIDED),
    guided("gaussian_reverse_variance", STRIDED),
    guided("observed_kernel_mean", STRIDED),
    guided("observed_kernel_variance", without(STRIDED, "linear-T1000-t1000-s999")),
)
