"""Flows: paths, velocities, the shift of time, samplers that follow a velocity, and couplings."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refdiff.oracle.calls import TargetError, numbers, shaped
from refdiff.oracle.checks.forms import alternatives, form, told
from refdiff.oracle.checks.questions import Answer, Guess, Question, decide, generic
from refdiff.oracle.checks.registry import Finding, check, fail
from refdiff.oracle.continuum import TIMES, At, incoming, outgoing, process_of, rate
from refdiff.oracle.expected import ROUNDINGS, UNIT
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session
from refdiff.oracle.tape import aside
from refdiff.oracle.target import Dialect

Array = NDArray[Any]
CLOCK = ("time_direction", "time_scale", "process")
Forms = Iterator[tuple[str, str, tuple[Any, ...]]]


def _other_paths(here: At, dialect: Dialect) -> Forms:
    yield "parameterization", "data and noise are in each other's place", (here.std, here.scale)
    yield "schedule", "the weights of data and noise do not belong together: t and t", (here.t, here.t)
    yield "sign", "the noise is subtracted", (here.scale, -here.std)


@form(
    "flow_path", "x0 noise t", "x0 noise", "schedule variance", *CLOCK,
    process="straight", others=_other_paths,
)  # fmt: skip
def flow_path(here: At, dialect: Dialect) -> tuple[Any, ...]:
    """The state at t."""
    return here.scale, here.std


def _other_velocities(here: At, dialect: Dialect) -> Forms:
    a, b = flow_velocity(here, dialect)
    yield "sign", "the velocity has the wrong sign", (-a, -b)
    yield "schedule", "the derivative by the process's time, not by the target's", (here.dscale, here.dstd)
    yield "loss-weight", "the velocity of the straight path", (-1.0, 1.0)
    yield "loss-weight", "the velocity of the straight path, against time", (1.0, -1.0)
    yield "sign", "data and noise are added", (np.abs(a), np.abs(b))
    yield "parameterization", "the state, not its derivative", (here.scale, here.std)
    yield "parameterization", "v of diffusion: scale eps - std x_0", (-here.std, here.scale)


@form(
    "flow_velocity", "x0 noise t", "x0 noise", "schedule schedule", *CLOCK,
    process="straight", others=_other_velocities,
)  # fmt: skip
def flow_velocity(here: At, dialect: Dialect) -> tuple[Any, ...]:
    """The derivative of the path by the target's time."""
    return here.dscale * rate(dialect), here.dstd * rate(dialect)


def _other_flow_steps(here: At, dialect: Dialect) -> Forms:
    one, h = flow_step(here, dialect)
    yield "sign", "the step goes against its direction", (one, -h)
    yield "discretization", "the length of the step is missing", (one, np.sign(h))
    yield (
        "schedule",
        "the step has the length t, not the difference of the times",
        (one, -here.t / rate(dialect)),
    )
    yield (
        "schedule",
        "the step has the length s, not the difference of the times",
        (one, -here.s / rate(dialect)),
    )


@form(
    "flow_step", "x t s velocity", "x velocity", "schedule schedule",
    process="straight", others=_other_flow_steps,
)  # fmt: skip
def flow_step(here: At, dialect: Dialect) -> tuple[Any, ...]:
    """A step along the velocity from t to s."""
    return 1.0, -here.h / rate(dialect)


def _other_sdes(here: At, dialect: Dialect) -> Forms:
    one, b = flow_sde_drift(here, dialect)
    yield "sign", "the score's part has the wrong sign: it is the drift of the other direction", (one, -b)
    yield "sign", "the velocity has the wrong sign", (-1.0, b)
    yield "sign", "both parts have the wrong sign", (-1.0, -b)
    yield "variance", "w for w / 2", (one, 2 * b)
    yield "sqrt", "the root of w", (one, np.sign(b) * np.sqrt(np.abs(b) / 2))


@form(
    "flow_sde_drift", "velocity score t", "velocity score", "sign variance",
    "flow_noise", "prediction", "reverse_time", "time_direction", "time_scale", process="straight",
    others=_other_sdes,
)  # fmt: skip
def flow_sde_drift(here: At, dialect: Dialect) -> tuple[Any, ...]:
    """v - w/2 score, by the target's time: the drift of the reverse equation that has the flow's law."""
    w = {"std": here.std, "twice_std": 2 * here.std, "g_squared": here.g2}[dialect.flow_noise]
    turn = 1.0 if dialect.reverse_time == "t" else -1.0
    score = -w / 2 * rate(dialect) * turn
    return turn, (-score / here.std if dialect.prediction == "eps" else score)


# the shift of time

SHIFTS = (3.0, 0.5)


def shifted(t: Array, shift: float) -> Array:
    """Noise at time t of a schedule that is moved to the noise by a factor."""
    return np.asarray(shift * t / (1 + (shift - 1) * t))


@check("time_shift.values")
def time_shift(session: Session) -> Finding:
    """shift t / (1 + (shift - 1) t) for two shifts."""
    dialect, process = session.dialect, process_of(session.dialect, "straight")
    t = TIMES * process.end
    got, found = [], None
    for shift in SHIFTS:
        given = shift if dialect.shift == "factor" else float(np.log(shift))
        times = torch.as_tensor(outgoing(dialect, process, t).copy())
        call = session.caller("time_shift", {"t": times, "shift": given})
        found = shaped(call.value, t.shape)
        got.append(found.values.numpy())
    assert found is not None

    def every(spoken: Dialect, change: Any = lambda t, k: shifted(t, k)) -> Array:
        inner = incoming(spoken, process, outgoing(dialect, process, t))
        factors = [k if dialect.shift == "factor" else np.log(k) for k in SHIFTS]
        factors = [k if spoken.shift == "factor" else np.exp(k) for k in factors]
        with np.errstate(all="ignore"):
            return np.stack([outgoing(spoken, process, change(inner, k)) for k in factors])

    def guesses() -> Iterator[Guess]:
        for name in ("shift", "time_direction", "time_scale"):
            for other in alternatives(dialect, name):
                yield told(dialect, other, name), every(other)
        for words, change in (
            ("the shift is undone, not done: its inverse", lambda t, k: shifted(t, 1 / k)),
            ("the shift is not done", lambda t, k: t),
            ("the root of the shift", lambda t, k: shifted(t, k**0.5)),
            ("the square of the shift", lambda t, k: shifted(t, k**2)),
            ("the denominator has shift for shift - 1", lambda t, k: k * t / (1 + k * t)),
            ("the denominator is missing", lambda t, k: k * t),
            ("t to the power of the shift", lambda t, k: t**k),
            ("the shift is done twice", lambda t, k: shifted(shifted(t, k), k)),
        ):
            yield Diagnosis("schedule", words), every(dialect, change)

    want = every(dialect)
    end = dialect.time_scale * process.end
    asked = Question({}, want, 4 * (np.abs(want) + end), "schedule", guesses)
    return decide(session, "time_shift", Answer(asked, np.stack(got), found.dtype, (), ()))


@check("flow_levels.values")
def flow_levels(session: Session) -> Finding:
    """Times that are equally spaced before they are shifted, from noise to data."""
    dialect, process = session.dialect, process_of(session.dialect, "straight")
    n, shift = 6, SHIFTS[0]
    levels, _ = _levels(session, n, shift)
    noise = levels if dialect.time_direction == "noise" else process.end - levels
    want = shifted(1 - np.arange(n + 1) / n, shift)
    limit = ROUNDINGS * UNIT["float32"]
    fields: dict[str, Any] = {"got": noise.tolist(), "wanted": want.tolist(), "tolerance": limit}
    if np.abs(noise - want).max() <= limit:
        return Finding(True, **fields)
    if np.abs(noise[::-1] - want).max() <= limit:
        return fail("sign", "the times run from data to noise", also=("schedule",), **fields)
    for words, other in (
        ("the times are not shifted", 1 - np.arange(n + 1) / n),
        ("the shift is undone, not done: its inverse", shifted(1 - np.arange(n + 1) / n, 1 / shift)),
        ("the times are shifted twice", shifted(want, shift)),
    ):
        if np.abs(noise - other).max() <= limit:
            return fail("schedule", words, **fields)
    before = shifted(noise[:-1], 1 / shift)
    steps = np.diff(before)
    if noise[-1] == 0 and (steps < 0).all() and np.ptp(steps) <= limit:
        grid = dialect.but(grid="N-1")
        if dialect.grid == "N-1":
            return Finding(True, f"from {before[0]:g} to {before[-1]:g}, and 0", **fields)
        words = f"equally spaced from {before[0]:g} to {before[-1]:g}, and 0"
        return fail("convention", words, dialect=grid, also=("index", "schedule"), **fields)
    return fail("schedule", "the times are not equally spaced before they are shifted", **fields)


@check("flow_levels.labels")
def flow_labels(session: Session) -> Finding:
    """The model is given the times at which steps begin, in the target's own time."""
    dialect, process = session.dialect, process_of(session.dialect, "straight")
    levels, labels = _levels(session, 6, SHIFTS[0])
    noise = levels if dialect.time_direction == "noise" else process.end - levels
    want = outgoing(dialect, process, noise[:-1])
    limit = ROUNDINGS * UNIT["float32"] * max(1.0, dialect.time_scale)
    fields: dict[str, Any] = {"got": labels.tolist(), "wanted": want.tolist(), "tolerance": limit}
    if np.abs(labels - want).max() <= limit:
        return Finding(True, **fields)
    for scale in (999.0, 1000.0, 0.001):
        other = dialect.but(time_scale=dialect.time_scale * scale)
        if np.abs(labels - outgoing(other, process, noise[:-1])).max() <= limit * max(1, scale):
            words = f"the labels are {scale:g} t"
            return fail("convention", words, dialect=other, also=("time-embedding", "schedule"), **fields)
    if np.abs(labels - outgoing(dialect, process, shifted(noise[:-1], 1 / SHIFTS[0]))).max() <= limit:
        return fail("schedule", "the labels are not shifted while the times are", **fields)
    if np.abs(labels - outgoing(dialect, process, noise[1:])).max() <= limit:
        return fail("index", "the labels are the times at which steps end", **fields)
    return fail("schedule", "the model is given other times than the states have", **fields)


def _levels(session: Session, n: int, shift: float) -> tuple[Array, Array]:
    given = shift if session.dialect.shift == "factor" else float(np.log(shift))
    value = session.once(
        ("flow_levels", n), lambda: session.caller("flow_levels", {"n": n, "shift": given}).value
    )
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TargetError("type", f"answered with {type(value).__name__}, wanted (times, labels)")
    return shaped(value[0], (n + 1,), "times").values.numpy(), shaped(value[1], (n,), "labels").values.numpy()


# samplers

STEPS = 5


@dataclass
class Constant:
    """A velocity that is the same everywhere; it notes when it is asked."""

    value: Tensor
    session: Session
    times: list[float] = field(default_factory=list)

    def __call__(self, x: Any, t: Any, *args: Any, **kwargs: Any) -> Any:
        with aside():
            label = t.detach().double().numpy() if isinstance(t, Tensor) else np.asarray(t, dtype=float)
            self.times.append(float(np.asarray(label, dtype=float).reshape(-1)[0]))
            return (
                self.value.to(x.dtype) if isinstance(x, Tensor) else self.session.caller.outgoing(self.value)
            )


def _followed(session: Session) -> tuple[Array, Array, Constant]:
    def ask() -> tuple[Array, Array, Constant]:
        dialect = session.dialect
        x, velocity = (generic(session, seed, (3,), np.arange(5)) for seed in (91, 92))
        field = Constant(velocity * rate(dialect), session)
        call = session.caller("flow_sample", {"velocity_fn": field, "x": x, "steps": STEPS})
        got = shaped(call.value, tuple(x.shape)).values.numpy()
        return got - x.numpy(), velocity.numpy(), field

    return session.once("flow_sample", ask)  # type: ignore[no-any-return]


@check("flow_sample.straight")
def straight(session: Session) -> Finding:
    """A constant velocity carries noise to data exactly, by any solver."""
    moved, velocity, field = _followed(session)
    end = process_of(session.dialect, "straight").end
    got = moved / velocity
    limit = 64 * ROUNDINGS * UNIT[session.dialect.dtype]
    fields: dict[str, Any] = {
        "got": float(np.median(got)), "wanted": -end, "tolerance": limit,
        "asked": "flow_sample: how far it goes along a constant velocity",
    }  # fmt: skip
    if not field.times:
        return fail("state-broadcast", "the velocity is never asked", **fields)
    if (np.abs(got + end) <= limit * (1 + np.abs(1 / velocity))).all():
        return Finding(True, **fields)
    part = float(np.median(got)) / -end
    if np.ptp(got) > 1e-4:
        return fail("state-broadcast", "it does not go along the velocity", also=("sign",), **fields)
    if abs(part + 1) <= 1e-4 or part < 0:
        words = "it goes against its velocity: the time runs the wrong way"
        return fail("sign", words if abs(part + 1) <= 1e-4 else f"{words}, {part:.5g} of the way", **fields)
    return fail("discretization", f"it goes {part:.6g} of the way", also=("index",), **fields)


@check("flow_sample.times")
def flow_times(session: Session) -> Finding:
    """The velocity is asked at times from noise to data."""
    _, _, field = _followed(session)
    dialect, process = session.dialect, process_of(session.dialect, "straight")
    times = incoming(dialect, process, np.array(field.times))
    fields: dict[str, Any] = {"got": field.times, "asked": "times at which the velocity is asked"}
    if not len(times):
        return fail("state-broadcast", "the velocity is never asked", **fields)
    slack = 1e-6 * process.end
    turned = process.end - times
    if times[0] < times[-1] - slack and abs(turned[0] - process.end) <= slack:
        other = dialect.but(time_direction="data" if dialect.time_direction == "noise" else "noise")
        words = "the velocity is asked at times from data to noise"
        return fail("convention", words, dialect=other, also=("sign",), **fields)
    if abs(times[0] - process.end) > slack:
        if times.max() > 2 * process.end:
            words = "the velocity is asked beyond the end: in another unit of time"
            return fail("schedule", words, also=("time-embedding",), **fields)
        return fail(
            "schedule", f"the first time is {times[0]:.6g}, not the noise's", also=("index",), **fields
        )
    if (np.diff(times) > slack).any() or times.min() < -slack:
        return fail("schedule", "the times do not fall to the data", **fields)
    if np.ptp(times) == 0:
        return fail("time-embedding", "the velocity is asked at one time only", **fields)
    return Finding(True)


# couplings


@check("flow_coupling.optimal")
def coupling(session: Session) -> Finding:
    """Noise and data are paired so that the squared distances are least; each is used once."""
    x0, noise = (generic(session, seed, (3,), np.arange(5)) for seed in (95, 96))
    value = session.caller("flow_coupling", {"x0": x0, "noise": noise}).value
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        return fail("state-broadcast", "wanted two tensors: data and noise")
    got = [numbers(one).values.numpy() for one in value]
    given = [one.numpy() for one in (x0, noise)]
    for mine, theirs, what in zip(given, got, ("data", "noise"), strict=True):
        if theirs.shape != mine.shape or not _same_rows(mine, theirs):
            return fail("state-broadcast", f"the {what} is not the one that was given, in another order")
    best = min(
        float(((given[0] - given[1][list(order)]) ** 2).sum()) for order in itertools.permutations(range(5))
    )
    cost = float(((got[0] - got[1]) ** 2).sum())
    fields: dict[str, Any] = {"got": cost, "wanted": best, "asked": "flow_coupling: sum of squared distances"}
    if cost <= best * (1 + 64 * UNIT[session.dialect.dtype]):
        return Finding(True, **fields)
    words = f"the pairs cost {cost:.6g}, the best ones {best:.6g}"
    inverse = _inverse_cost(*given)
    if abs(cost - inverse) <= 1e-6 * cost:
        words += ": the best permutation is applied to the other side, which is its inverse"
    return fail("state-broadcast", words, **fields)


def _inverse_cost(x0: Array, noise: Array) -> float:
    orders = list(itertools.permutations(range(len(x0))))
    costs = [float(((x0 - noise[list(order)]) ** 2).sum()) for order in orders]
    best = list(orders[int(np.argmin(costs))])
    return float(((x0[best] - noise) ** 2).sum())


def _same_rows(a: Array, b: Array) -> bool:
    return bool(np.abs(a[np.lexsort(a.T)] - b[np.lexsort(b.T)]).max() <= 1e-6)
