"""Where the decoder, the units and the terms of the bound are evaluated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import sympy as sp

from derivations.golden.case import Coverage, case, output
from derivations.golden.formulas import Part, Point, Put, Variant, chosen, margin, values_of
from derivations.golden.grid import INNER, ONE_STEP, SKIPS, VALUES, points, without
from derivations.golden.inputs import Levels, exact
from derivations.golden.nodes import node
from derivations.kit.ball import Value, certify

SCALARS = ("bin_width", "mu_hat", "nats", "loss_weight", "x_0_hat")
PREDICTED: Mapping[str, Value] = {"mu_hat": Fraction(-27, 32), "x_0_hat": Fraction(11, 16)}
"""Predictions that are near what they predict and not equal to it."""

EXACT = tuple(pair for pair in ONE_STEP if pair.schedule is None)
LAST = (*EXACT, *(pair for pair in ONE_STEP if pair.id == "linear-T1000-t1000-s999"))
FIRST = (*EXACT, *(pair for pair in ONE_STEP if pair.id == "linear-T1000-t1-s0"))
STEADY = without(INNER, "near-levels", "linear-T1000-t1000-s999")
LIGHT = (
    exact("middle", "3/8", "1/2", "interior"),
    exact("upper", "5/8", "3/4", "interior"),
    exact("wide", "3/8", "5/8", "interior"),
    exact("near-levels", "524287/1048576", "1/2", "cancellation"),
)
"""Levels at which the simple loss is heavier than the least weight of DDIM."""


def point(id: str, *flags: str, **text: str) -> Point:
    """A point without levels."""
    return Point(id, flags, {name: Fraction(value) for name, value in text.items()})


BYTES, DYADIC = {"bin_width": "2/255"}, {"bin_width": "1/128"}
INNER_BINS = (
    point("near", "interior", **DYADIC, x_0="3/8", mu_hat="1/4", sigma_t="1/8"),
    point("byte", "interior", **BYTES, x_0="1/5", mu_hat="1/8", sigma_t="1/64"),
    point("flat", "cancellation", **BYTES, x_0="-1/3", mu_hat="3/4", sigma_t="2"),
    point("narrow", "wide-bin", **DYADIC, x_0="1/8", mu_hat="257/2048", sigma_t="1/1024"),
    point("sharp", "wide-bin", **DYADIC, x_0="-7/8", mu_hat="-113/128", sigma_t="1/4096"),
    point("left-20", "tail", **DYADIC, x_0="-5/8", mu_hat="5/8", sigma_t="1/16"),
    point("right-40", "tail", **DYADIC, x_0="3/4", mu_hat="-1/2", sigma_t="1/32"),
    point("right-100", "tail", **BYTES, x_0="3/5", mu_hat="-91/16", sigma_t="1/16"),
)
FIRST_BINS = (
    point("near", "open-edge", **BYTES, x_0="-1", mu_hat="-3/4", sigma_t="1/8"),
    point("inside", "open-edge", **DYADIC, x_0="-1", mu_hat="-5/4", sigma_t="3/16"),
    point("tail-20", "open-edge", "tail", **DYADIC, x_0="-1", mu_hat="1/4", sigma_t="1/16"),
    point("flat", "open-edge", **BYTES, x_0="-1", mu_hat="3/8", sigma_t="3/2"),
)
LAST_BINS = (
    point("near", "open-edge", **BYTES, x_0="1", mu_hat="7/8", sigma_t="3/32"),
    point("inside", "open-edge", **DYADIC, x_0="1", mu_hat="9/8", sigma_t="1/4"),
    point("tail-40", "open-edge", "tail", **DYADIC, x_0="1", mu_hat="-1/4", sigma_t="1/32"),
    point("tail-100", "open-edge", "tail", **BYTES, x_0="1", mu_hat="-21/4", sigma_t="1/16"),
)
SMOOTH = tuple(place for place in INNER_BINS if "wide-bin" not in place.flags)
UNITS = (
    point("dequantised", "data-range", bin_width="1/128", nats="-11/4"),
    point("unit-interval", "data-range", bin_width="1/256", nats="-19/8"),
    point("bytes", "data-range", bin_width="2/255", nats="-3/16"),
    point("coarse", "data-range", bin_width="2/7", nats="7/8"),
)
DDIM_WEIGHTS = ("vlb.ddim_weight_x_0", "vlb.ddim_weight_eps")
DECODER = (
    ("vlb.decoder_interior", INNER_BINS),
    ("vlb.decoder_first", FIRST_BINS),
    ("vlb.decoder_last", LAST_BINS),
)


def bins(coverage: Coverage) -> Iterator[dict[str, Any]]:
    """The logarithm of the probability of each bin: the probability itself underflows in the tails."""
    for id, places in DECODER:
        part = _logarithm(id)
        for place in places:
            known: dict[str, Value] = {"eps": VALUES["eps"], **place.known}  # eps is a decoy's
            limit = margin(part, known)
            coverage.add(id, [limit])
            value = certify(part.expr, values_of(part.expr, known))
            given = {name: str(number) for name, number in place.known.items()}
            yield case(f"{id}/{place.id}", id, place.flags, given, [output("log", [value], limit)])


@cache
def _logarithm(id: str) -> Part:
    formula = node(id)
    return Part("log", sp.log(formula.closed), {d.id: sp.log(d.closed) for d in formula.decoys}, {})


Grid = tuple[Callable[[], Variant], Callable[[], Sequence[Point]]]


def with_variance(id: str, pairs: Sequence[Levels], kind: str) -> Grid:
    """A term at pairs of levels with the variance of the model chosen, and predictions."""
    given = {"variance_kind": kind}
    return (lambda: chosen(id, kind)), (lambda: points(pairs, PREDICTED, f"-{kind}", (), given))


def by_eta(id: str, eta: str) -> Grid:
    """A weight of DDIM's objective, with σ given by η."""

    def variant() -> Variant:
        put: Put = (("sigma_t", node("ddim.sigma").closed),)
        return Variant(id, put)

    suffix = f"-eta{eta.replace('/', '_')}"
    return variant, (lambda: points(SKIPS, {"eta": Fraction(eta)}, suffix, ("eta-between",)))
