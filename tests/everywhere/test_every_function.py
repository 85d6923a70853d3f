"""Every public function of the reference on every device, in one graph, and in every dtype.

``DISCRETE`` and ``CONTINUOUS`` hold one call for each function and method that has to do with tensors; one
that has none fails here. The calls are then run on ``meta`` (and on the device of ``--device``), in graphs of
``torch.compile`` without a break, and in float32, bfloat16 and under autocast against float64.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import pytest
import torch
from every_arguments import LINEAR, Answers, Arguments, Call, tensors_in
from every_continuous import COARSE, CONTINUOUS
from every_discrete import BUILDERS, DISCRETE
from one_device import OneDevice
from torch import Tensor

CALLS: dict[str, Call] = {**DISCRETE, **CONTINUOUS}
TOPICS = (
    "schedule", "gaussian", "parameterization", "kernel", "ddpm", "ddim", "data", "energy", "langevin",
    "score_matching", "smld", "elbo", "vae", "vlb", "guidance", "guided_gaussian", "process", "sde", "ode",
    "flow", "consistency", "vdm", "solver",
)  # fmt: skip

BUILT = "a schedule is constants on the CPU, made once, and its values are checked"
ADAPTIVE = "the steps depend on the values"
FLOATS = "the times are told as floats"
NO_META: dict[str, str] = {
    "schedule.from_alpha_bar": BUILT,
    "schedule.from_beta": BUILT,
    "schedule.from_log_alpha_bar": BUILT,
    "process.to_schedule": BUILT,
    "ode.decode": ADAPTIVE,
    "ode.encode": ADAPTIVE,
    "ode.integrate": ADAPTIVE,
    "ode.log_likelihood": ADAPTIVE,
    "ode.trajectory": FLOATS,
    "flow.sample": FLOATS,
    "flow.assignment": "the best assignment is a matter of values",
}
"""What does not run without values, and why."""

NO_GRAPH: dict[str, str] = (
    dict.fromkeys((name for name in NO_META if name != "flow.sample"), "as on meta")
    | {f"schedule.{name}": BUILT for name in BUILDERS}
    | {name: BUILT for name in DISCRETE if name.endswith(".to_schedule")}
    | {
        "schedule.respace": BUILT,
        "schedule.zero_terminal_snr": BUILT,
        "elbo.binomial_chain": BUILT,
        "kernel.any_true": "what a traced graph cannot read is taken as false",
        "ddpm.training_step": "a step of an optimizer calls backward",
        "energy.log_likelihood_gradient": "the parameters are leaves outside the graph",
    }
)
"""What is not one graph, and why."""

NO_BFLOAT16 = dict.fromkeys(
    (
        "vlb.bound_terms", "vlb.decoder_term", "vlb.discretized_gaussian_log_likelihood", "vlb.hybrid_loss",
    ),
    "256 values do not fit into 8 bits",
)  # fmt: skip
"""What refuses bfloat16, and why."""


# Every function has a call.


def plain(hint: Any) -> bool:
    """Whether a type is made of Python numbers and names alone."""
    if dataclasses.is_dataclass(hint):
        return all(plain(of) for of in typing.get_type_hints(hint).values())
    if typing.get_origin(hint) is typing.Literal or hint in (None, type(None), Ellipsis, Any):
        return hint is not Any
    parts = typing.get_args(hint)
    if parts:
        return all(plain(part) for part in parts)
    return hint in (int, float, bool, str, Fraction, tuple, types.UnionType)


def has_tensors(function: Callable[..., Any]) -> bool:
    """Whether a function takes or returns something else than numbers and names."""
    try:
        return not all(plain(hint) for hint in typing.get_type_hints(function).values())
    except NameError:  # a class of this library that the module of an alias does not know
        return True


def public(topic: str) -> dict[str, Any]:
    """The functions and classes of this library that a topic shows."""
    module = importlib.import_module(f"refdiff.{topic}")
    names = getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])
    found = {name: getattr(module, name) for name in names}
    return {
        name: value
        for name, value in found.items()
        if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__.startswith("refdiff.")
    }


def methods(kind: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public methods and properties that a class defines itself; ``abstract`` ones have no body."""
    for name, value in vars(kind).items():
        if name.startswith("_") and name != "__call__":
            continue
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if inspect.isfunction(function) and not getattr(function, "__isabstractmethod__", False):
            yield name, function


def functions() -> set[str]:
    """All names that must have a call; what several topics show counts for the first."""
    seen: set[int] = set()
    found = set()
    for topic in TOPICS:
        for name, value in public(topic).items():
            if id(value) in seen:
                continue
            seen.add(id(value))
            if inspect.isfunction(value):
                found |= {f"{topic}.{name}"} if has_tensors(value) else set()
            else:
                found |= {f"{topic}.{name}.{m}" for m, function in methods(value) if has_tensors(function)}
    return found


def test_every_function_has_a_call() -> None:
    assert functions() - set(CALLS) == set(), "no call"
    assert set(CALLS) - functions() == set(), "no such function"
    assert set(NO_META) | set(NO_GRAPH) | set(NO_BFLOAT16) <= set(CALLS)


def test_a_function_without_a_call_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from refdiff import ddpm

    def forgotten(x: Tensor) -> Tensor:
        return x

    forgotten.__module__ = "refdiff.ddpm"
    monkeypatch.setattr(ddpm, "forgotten", forgotten, raising=False)
    assert functions() - set(CALLS) == {"ddpm.forgotten"}


# Where there are no values.


def seen(value: Any) -> Any:
    """What a result is, but for its values."""
    return (value.shape, value.dtype) if isinstance(value, Tensor) else type(value)


@functools.cache
def arguments(dtype: torch.dtype, device: str) -> Arguments:
    """The arguments of all calls, made once."""
    return Arguments(dtype, device)


def on_meta(call: Call) -> str | None:
    """What is wrong with a call on ``meta``, if anything."""
    here = list(tensors_in(call(**arguments(torch.float32, "cpu").of(call))))
    given = arguments(torch.float32, "meta").of(call)
    with OneDevice():  # type: ignore[no-untyped-call]
        there = list(tensors_in(call(**given)))
    if [seen(value) for value in here] != [seen(value) for value in there]:
        return f"{[seen(value) for value in there]} is not {[seen(value) for value in here]}"
    if given and any(isinstance(value, Tensor) and not value.is_meta for value in there):
        return "a result is on the CPU"
    return None


def of_topic(topic: str, *without: dict[str, str]) -> list[str]:
    """The names of the calls of a topic, but for those."""
    return [
        name for name in CALLS if name.split(".")[0] == topic and not any(name in left for left in without)
    ]


@pytest.mark.parametrize("topic", TOPICS)
def test_shapes_and_dtypes_on_meta_are_those_on_the_cpu(topic: str) -> None:
    wrong = {name: on_meta(CALLS[name]) for name in of_topic(topic, NO_META)}
    assert not any(wrong.values()), {name: what for name, what in wrong.items() if what}


@pytest.mark.parametrize("name", NO_META)
def test_what_is_said_to_need_values_needs_them(name: str) -> None:
    with pytest.raises((RuntimeError, NotImplementedError, ValueError), match=r"meta|values"):
        on_meta(CALLS[name])


BROKEN_ON_META: dict[str, Call] = {
    "a table of the CPU": lambda t: LINEAR.beta[t],
    "a tensor of the CPU": lambda x: torch.ones(3, 2),
    "another dtype": lambda x: x.double() if x.is_meta else x,
    "another shape": lambda x: x[:1] if x.is_meta else x,
}


@pytest.mark.parametrize("call", BROKEN_ON_META.values(), ids=BROKEN_ON_META)
def test_a_stranger_among_meta_tensors_is_seen(call: Call) -> None:
    try:
        wrong = on_meta(call)
    except RuntimeError as error:
        wrong = str(error)
    assert wrong


# One graph.

BREAKS = (torch._dynamo.exc.Unsupported, torch._dynamo.exc.UserError)


def in_one_graph(calls: Sequence[Call], device: str) -> list[list[Any]]:
    """The results of calls that are traced together, which is cheaper than one by one."""
    given = [arguments(torch.float32, device).of(call) for call in calls]
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda given: [call(**each) for call, each in zip(calls, given, strict=True)],
        fullgraph=True,
        backend="eager",
    )
    return [list(tensors_in(result)) for result in compiled(given)]


def same(first: Any, second: Any) -> bool:
    """Whether two results are equal; both may be infinite."""
    if isinstance(first, Tensor):
        return first.dtype == second.dtype and torch.equal(first.nan_to_num(), second.nan_to_num())
    return bool(first == second)


def differ(calls: dict[str, Call], device: str) -> list[str]:
    """The calls whose results in a graph are others than without."""
    results = in_one_graph(list(calls.values()), device)
    return [
        name
        for (name, call), found in zip(calls.items(), results, strict=True)
        if not all(
            same(a, b)
            for a, b in zip(
                tensors_in(call(**arguments(torch.float32, device).of(call))), found, strict=True
            )
        )
    ]


@pytest.mark.parametrize("topic", TOPICS)
def test_every_function_is_one_graph_with_the_same_result(topic: str, device: torch.device) -> None:
    assert differ({name: CALLS[name] for name in of_topic(topic, NO_GRAPH)}, str(device)) == []


@pytest.mark.parametrize("name", NO_GRAPH)
def test_what_is_said_to_break_a_graph_breaks_it(name: str) -> None:
    try:
        found = differ({name: CALLS[name]}, "cpu")
    except BREAKS:
        found = [name]
    assert found == [name]


def test_a_break_or_another_result_is_seen() -> None:
    with pytest.raises(BREAKS):
        in_one_graph([lambda x: x if bool(x.sum() > 0) else -x], "cpu")
    assert differ({"traced": lambda x: x if torch.compiler.is_compiling() else 2 * x}, "cpu") == ["traced"]


# Dtypes. The unit roundoff is u. To first order a computation is off by the roundings of what it is given, of
# what a model answers, of its steps and of its result. The first two are measured: the same in float64 with
# everything off by random relative errors of standard deviation u. A step of a stable computation adds no
# more than they do, so an element may be off by so many times their standard deviation and the rounding of
# the result: as many as there are steps one after the other.
STEPS = 16
PROBES = 4
UNIFORM = torch.rand(1 << 13, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
RANDOM = math.sqrt(3) * (2 * UNIFORM - 1)


class Off:
    """Relative errors of standard deviation u; taken from a table, since a traced function draws nothing."""

    def __init__(self, u: float, seed: int) -> None:
        self.u, self.at = u, 1009 * seed

    def __call__(self, value: Tensor) -> Tensor:
        self.at = (self.at + value.numel()) % (len(RANDOM) // 2)
        return self.u * RANDOM[self.at : self.at + value.numel()].reshape(value.shape)


def roundoff(dtype: torch.dtype) -> float:
    """Half the distance from 1 to the next number."""
    return torch.finfo(dtype).eps / 2


@functools.cache
def disturbed(dtype: torch.dtype, data: torch.dtype) -> list[Arguments]:
    """Data of a dtype in float64, off by the roundings of another one."""
    return [Arguments(data, wide=True, off=Off(roundoff(dtype), seed)) for seed in range(PROBES)]


@functools.cache
def exact(dtype: torch.dtype) -> Arguments:
    """Data of a dtype in float64."""
    return Arguments(dtype, wide=True)


def flat(call: Call, given: Arguments) -> list[Tensor]:
    """All floating-point results of a call, in order, as float64 on the CPU."""
    values = tensors_in(call(**given.of(call)))
    return [value.detach() for value in values if isinstance(value, Tensor) and value.is_floating_point()]


@functools.cache
def expected(call: Call, dtype: torch.dtype, data: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """The results in float64, and their standard deviation where everything is rounded."""
    right, spread = flat(call, exact(data)), []
    for given in disturbed(dtype, data):
        Answers.off = given.off
        try:
            spread.append(flat(call, given))
        finally:
            Answers.off = None
    return [
        (value, torch.stack([(one[k] - value) ** 2 for one in spread]).mean(0).sqrt())
        for k, value in enumerate(right)
    ]


def misfit(
    call: Call, dtype: torch.dtype, device: str, data: torch.dtype | None = None, extra: float = 0.0
) -> float:
    """The largest error in units of what ``STEPS`` roundings make, and of a relative error beside them."""
    data = data or dtype
    with torch.autocast(torch.device(device).type, dtype, enabled=data != dtype):
        found = flat(call, arguments(data, device))
    worst = 0.0
    for got, (right, spread) in zip(found, expected(call, dtype, data), strict=True):
        u = roundoff(dtype if got.dtype != torch.float64 else torch.float64)
        error = (got.cpu().double() - right).abs()
        allowed = STEPS * (spread + u * right.abs()) + extra * right.abs()
        ratio = torch.where((error == 0) | (got.cpu().double() == right), 0.0, error / allowed)
        assert not bool(ratio.isnan().any())
        worst = max(worst, float(ratio.max())) if ratio.numel() else worst
    return worst


def tolerance(name: str) -> float:
    """What an adaptive solver may be off beside its roundings: as much as it is asked for."""
    return COARSE if NO_META.get(name) == ADAPTIVE else 0.0


LADDER = {
    "float32": (torch.float32, torch.float32),
    "bfloat16": (torch.bfloat16, torch.bfloat16),
    "autocast": (torch.bfloat16, torch.float32),
}


@pytest.mark.parametrize("rung", LADDER)
@pytest.mark.parametrize("topic", TOPICS)
def test_errors_are_those_of_the_roundings(topic: str, rung: str, device: torch.device) -> None:
    dtype, data = LADDER[rung]
    left = NO_BFLOAT16 if rung == "bfloat16" else {}
    errors = {
        name: misfit(CALLS[name], dtype, str(device), data, tolerance(name)) for name in of_topic(topic, left)
    }
    assert max(errors.values()) <= 1, {name: error for name, error in errors.items() if error > 1}


@pytest.mark.parametrize("name", NO_BFLOAT16)
def test_what_is_said_to_refuse_bfloat16_refuses_it(name: str) -> None:
    with pytest.raises(ValueError, match=r"must have dtype float32 or float64, got torch\.bfloat16"):
        misfit(CALLS[name], torch.bfloat16, "cpu")


# What is lost in every dtype alike is no error against itself in float64. But there a small change of what is
# given makes a change in proportion, up to roundings, a hundred of 2^-53 in one of 2^-40, and a curvature of
# 2^-20. Where a change of 2^-6 has an effect, theirs is not nothing.
SMALL, LARGE, HUGE = 2.0**-40, 2.0**-20, 2.0**-6


def unevenness(call: Call) -> float:
    """How far small and large changes are from proportion, in units of a 64th of value and slope."""
    base, small, large, huge = (
        flat(call, Arguments(off=Off(h, 3) if h else None, also_wide=True)) for h in (0.0, SMALL, LARGE, HUGE)
    )
    worst = 0.0
    for value, near, far, further in zip(base, small, large, huge, strict=True):
        if value.numel() == 0 or torch.equal(value, further):
            continue
        slope, wide_slope = (near - value) / SMALL, (far - value) / LARGE
        kept = value.isfinite()
        if not bool(slope[kept].any()):
            return math.inf
        size = (value.abs() + wide_slope.abs())[kept].max()
        worst = max(worst, float(64 * (slope - wide_slope)[kept].abs().max() / size))
    return worst


@pytest.mark.parametrize("topic", TOPICS)
def test_float64_is_float64_inside(topic: str) -> None:
    uneven = {name: unevenness(CALLS[name]) for name in of_topic(topic) if not tolerance(name)}
    assert max(uneven.values()) <= 1, {name: value for name, value in uneven.items() if not value <= 1}


IMPRECISE: dict[str, Call] = {
    "half precision inside": lambda x, y: (x.half() * y.half()).to(x.dtype),
    "float32 inside": lambda x, y: (x.float() * y.float()).to(x.dtype),
    "times in float32": lambda x, time: time.float()[:, None] * x.double(),
}


@pytest.mark.parametrize("call", IMPRECISE.values(), ids=IMPRECISE)
def test_less_than_float64_inside_is_seen(call: Call) -> None:
    assert unevenness(call) > 1


CANCELLED: dict[str, tuple[torch.dtype, Call]] = {
    "a difference of near numbers": (torch.float32, lambda positive: (1 + 1e-4 * positive) - 1),
    "an exponential less 1": (torch.bfloat16, lambda positive: (positive / 64).exp() - 1),
    "half precision for float32": (
        torch.float32,
        lambda x: x if x.dtype == torch.float64 else x.half().to(x.dtype),
    ),
}


@pytest.mark.parametrize(("dtype", "call"), CANCELLED.values(), ids=CANCELLED)
def test_a_loss_of_digits_is_seen(dtype: torch.dtype, call: Call) -> None:
    assert misfit(call, dtype, "cpu") > 1
