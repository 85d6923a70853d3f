"""How the reference answers the golden cases of exponential integrators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from refdiff import solver
from refdiff.solver import Moments, NoiseLevel, Prediction

Ask = Callable[[Any], Tensor]


def wide(q: Any, name: str) -> Tensor:
    return torch.tensor(float(Fraction(q.case.input[name])), dtype=torch.float64)


def levels(q: Any) -> tuple[NoiseLevel, NoiseLevel]:
    """The two levels of a step; a number that the case does not need is any that fits."""
    given = {"scale_t": 0.5, "scale_s": 0.75, "std_t": 0.75, "std_s": 0.25}
    known = {name: torch.tensor(value, dtype=torch.float64) for name, value in given.items()}
    known |= {name: wide(q, name) for name in given if name in q.case.input}
    return NoiseLevel(known["scale_t"], known["std_t"]), NoiseLevel(known["scale_s"], known["std_s"])


def state(q: Any) -> Tensor:
    return q.x_t  # type: ignore[no-any-return]


def places(q: Any, *names: str) -> list[Tensor]:
    """Places of values of the model: 0, then inner levels, past ones, or the end of the step."""
    zero = torch.zeros((), dtype=torch.float64)
    table: dict[str, Callable[[], Tensor]] = {
        "inner_1": lambda: wide(q, "inner_1"),
        "inner_2": lambda: wide(q, "inner_2"),
        "share": lambda: wide(q, "inner_1") / wide(q, "inner_2"),
        "past_1": lambda: -wide(q, "past_1"),
        "past_2": lambda: -wide(q, "past_1") - wide(q, "past_2"),
        "end": lambda: zero + 1,
    }
    return [zero, *(table[name]() for name in names)]


def step(
    prediction: Prediction, kind: Moments, names: Sequence[str], values: Sequence[str], noisy: bool = False
) -> Ask:
    def ask(q: Any) -> Tensor:
        eta = float(wide(q, "sde_share")) if noisy else 0.0
        at = solver.frame(prediction, *levels(q), eta)
        x = solver.advance(at, state(q), [getattr(q, name) for name in values], places(q, *names), kind)
        return x + at.noise.to(x.dtype) * q.z if noisy else x

    return ask


def ddim(q: Any) -> Tensor:
    on_x, on_eps = solver.ddim_coefficients(*levels(q))
    return on_x.to(q.dtype) * q.x_t + on_eps.to(q.dtype) * q.eps  # type: ignore[no-any-return]


def stage(prediction: Prediction) -> Ask:
    """The second stage is a step of its own; its length is a share of the length of the whole step."""

    def ask(q: Any) -> Tensor:
        whole, share = solver.frame(prediction, *levels(q)), wide(q, "inner_2")
        at = solver.Frame(whole.keep, whole.gain, whole.noise, whole.h * share, whole.argument * share)
        return solver.advance(at, state(q), [q.value_t, q.value_1], places(q, "share"), "exact")

    return ask


def rule(q: Any) -> Tensor:
    nodes = [torch.zeros((), dtype=torch.float64), wide(q, "place_1")]
    names = ["value_t", "value_1"]
    if "place_2" in q.case.input:
        nodes, names = [*nodes, wide(q, "place_2")], [*names, "value_2"]
    wanted = torch.stack([wide(q, f"moment_{n}") for n in range(len(nodes))])
    values = torch.stack([wide(q, name) for name in names])
    return (solver.weights(nodes, wanted) @ values).to(q.dtype)


def function(k: int) -> Ask:
    return lambda q: solver.phi(k, wide(q, "exponent")).to(q.dtype)


ONE, TWO, THREE = ["value_t"], ["value_t", "value_1"], ["value_t", "value_1", "value_2"]
BEFORE, LONG_BEFORE = ["past_1"], ["past_1", "past_2"]
EXPONENTIAL: dict[str, Ask] = {
    "dpm_1": ddim,
    "dpmpp_1": step("x_0", "exact", [], ["x_0"]),
    "dpm_2": step("eps", "bh2", ["inner_1"], TWO),
    "dpmpp_2s": step("x_0", "bh2", ["inner_1"], TWO),
    "dpm_3": step("eps", "exact", ["inner_2"], ["value_t", "value_2"]),
    "dpm_3_stage": stage("eps"),
    "dpmpp_3s": step("x_0", "exact", ["inner_2"], ["value_t", "value_2"]),
    "dpmpp_3s_stage": stage("x_0"),
    "dpm_2m": step("eps", "bh2", BEFORE, TWO),
    "dpmpp_2m": step("x_0", "bh2", BEFORE, TWO),
    "dpmpp_2m_heun": step("x_0", "exact", BEFORE, TWO),
    "dpmpp_3m": step("x_0", "exact", LONG_BEFORE, THREE),
    "unip_2": step("x_0", "bh1", BEFORE, TWO),
    "unip_2_is_dpmpp_2m": step("x_0", "bh2", BEFORE, TWO),
    "unip_3_is_dpmpp_3m": step("x_0", "bh1", LONG_BEFORE, THREE),
    "unic_1": step("x_0", "bh2", ["end"], ["value_t", "value_s"]),
    "unic_2": step("x_0", "exact", ["past_1", "end"], ["value_t", "value_1", "value_s"]),
    "sde_dpm_1": step("eps", "exact", [], ["eps"], noisy=True),
    "sde_dpm_2m": step("eps", "bh2", BEFORE, TWO, noisy=True),
    "sde_dpmpp_1": step("x_0", "exact", [], ["x_0"], noisy=True),
    "sde_dpmpp_2m": step("x_0", "bh2", BEFORE, TWO, noisy=True),
    "sde_dpmpp_2m_heun": step("x_0", "exact", BEFORE, TWO, noisy=True),
    "sde_dpmpp_3m": step("x_0", "exact", LONG_BEFORE, THREE, noisy=True),
    "weights_two": rule,
    "weights_three": rule,
    **{f"phi_{k}": function(k) for k in (1, 2, 3, 4)},
}
"""By the name of the formula in the topic ``solver``."""
