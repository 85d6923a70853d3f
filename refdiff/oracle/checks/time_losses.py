"""Losses of continuous time: what the model is asked, and the value for each sample."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refdiff.oracle.calls import TargetError, numbers
from refdiff.oracle.checks.forms import alternatives, told
from refdiff.oracle.checks.likelihood import unit
from refdiff.oracle.checks.losses import REDUCTIONS
from refdiff.oracle.checks.questions import LAYOUTS, Answer, Guess, Question, decide, generic
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.continuum import TIMES, At, at, incoming, outgoing, process_of, rate
from refdiff.oracle.continuum import asked as times_of
from refdiff.oracle.expected import ROUNDINGS, UNIT
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session
from refdiff.oracle.tape import aside
from refdiff.oracle.target import Dialect
from refdiff.process import Process

Array = NDArray[Any]


@dataclass(frozen=True)
class Setup:
    """What a loss is made of, each (B, D) or (B,).

    Args:
        x0, noise, output: data, noise, and what the model answers.
        here: the symbols at the times.
    """

    x0: Array
    noise: Array
    output: Array
    here: At


@dataclass(frozen=True)
class Loss:
    """A loss: which noising it has, what its model predicts, and its weight.

    Args:
        process: the process where none is declared.
        aims: what the model is to answer.
        reduce: from errors (B, D) and the setup to the loss.
        others: wrong losses with their diagnoses.
    """

    port: str
    process: Callable[[Dialect], Process]
    aims: Callable[[Setup, Dialect], Array]
    reduce: Callable[[Array, Setup, Dialect], Array]
    others: Callable[[Setup, Dialect], Iterator[Guess]]
    conventions: tuple[str, ...] = ()


class Vdm(Process):
    """The process of variational diffusion: minus the logarithm of its SNR is linear in time."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def gamma(self, t: Any) -> Tensor:
        """Minus the logarithm of the SNR."""
        return self.low + (self.high - self.low) * self.time(t)

    def log_scale(self, t: Any) -> Tensor:
        return 0.5 * torch.nn.functional.logsigmoid(-self.gamma(t))

    def variance(self, t: Any) -> Tensor:
        return torch.sigmoid(self.gamma(t))

    def drift(self, t: Any) -> Tensor:
        return -0.5 * (self.high - self.low) * torch.sigmoid(self.gamma(t))

    def diffusion_squared(self, t: Any) -> Tensor:
        return (self.high - self.low) * torch.sigmoid(self.gamma(t))


class Fixed:
    """Answers with given numbers and notes what it is asked."""

    def __init__(self, output: Tensor, session: Session) -> None:
        self.output, self.session = output, session
        self.x: Array | None = None
        self.t: Array | None = None

    def __call__(self, x: Any, t: Any, *args: Any, **kwargs: Any) -> Any:
        with aside():
            state = x.detach().double().numpy() if isinstance(x, Tensor) else np.asarray(x, dtype=float)
            label = t.detach().double().numpy() if isinstance(t, Tensor) else np.asarray(t, dtype=float)
            self.x = state.reshape(len(state), -1)
            self.t = np.broadcast_to(label.reshape(-1), (len(state),)).copy()
            return (
                self.output.to(x.dtype)
                if isinstance(x, Tensor)
                else self.session.caller.outgoing(self.output)
            )


LOSSES: dict[str, Loss] = {}


@dataclass
class Told:
    """A call of a loss."""

    setup: Setup
    model: Fixed
    got: Array
    shape: tuple[int, ...]
    dtype: str
    mutated: tuple[str, ...]
    layout: tuple[int, ...]


def asked(session: Session, loss: Loss) -> Told:
    """One call with a batch of times, in the first layout that the target takes."""
    return session.once(("time loss", loss.port), lambda: _asked(session, loss))  # type: ignore[no-any-return]


def _asked(session: Session, loss: Loss) -> Told:
    if not session.dialect.batched_t:
        raise NotApplicable("losses are asked with a batch of times")
    failure: TargetError | None = None
    for layout in LAYOUTS:
        try:
            return _call(session, loss, layout)
        except TargetError as error:
            failure = failure or error
            if error.kind == "timeout":
                break
    assert failure is not None
    raise failure


def _call(session: Session, loss: Loss, layout: tuple[int, ...], rows: slice = slice(None)) -> Told:
    dialect = session.dialect
    process = loss.process(dialect)
    every = np.arange(len(TIMES))[rows]
    x0, noise, output = (generic(session, seed, layout, every) for seed in (81, 82, 83))
    t = times_of(dialect, process)[0][rows]
    model = Fixed(output, session)
    given = {
        "model": model, "x0": x0, "t": torch.as_tensor(outgoing(dialect, process, t).copy()), "noise": noise,
    }  # fmt: skip
    call = session.caller(
        loss.port, given, lambda number, shape: noise if shape == noise.shape else torch.zeros(shape).double()
    )
    found = numbers(call.value)
    a, b, c = (one.reshape(len(t), -1).numpy() for one in (x0, noise, output))
    setup = Setup(a, b, c, at(process, t, t - process.end / 64))
    shape = tuple(found.values.shape)
    return Told(setup, model, found.values.numpy(), shape, found.dtype, call.mutated, layout)


def value(session: Session, loss: Loss) -> Finding:
    """The weighted error of each sample."""
    found, dialect = asked(session, loss), session.dialect
    if found.shape != (len(found.setup.x0),):
        raise NotApplicable(f"see {loss.port}.shape")
    setup = found.setup
    error = setup.output - loss.aims(setup, dialect)
    want = loss.reduce(error, setup, dialect)
    # the aim is a quotient by std, which may have been made from the scale
    here = setup.here
    lost = 1 + here.scale**2 / here.var + 1 / here.scale
    size = loss.reduce(np.abs(setup.output) + np.abs(loss.aims(setup, dialect)), setup, dialect) * 4 * lost
    question = Question({}, want, size, "loss-weight", partial(_guesses, session, loss, setup))
    return decide(session, loss.port, Answer(question, found.got, found.dtype, found.mutated, ()))


def _guesses(session: Session, loss: Loss, setup: Setup) -> Iterator[Guess]:
    dialect = session.dialect
    error = setup.output - loss.aims(setup, dialect)
    for name in loss.conventions:
        for other in alternatives(dialect, name):
            wrong = setup.output - loss.aims(setup, other)
            yield told(dialect, other, name), loss.reduce(wrong, setup, other)
    yield from loss.others(setup, dialect)
    want = loss.reduce(error, setup, dialect)
    flipped = loss.reduce(setup.output + loss.aims(setup, dialect), setup, dialect)
    yield Diagnosis("sign", "the aim of the model has the wrong sign"), flipped
    for first, second in itertools.combinations(loss.conventions, 2):
        for one in alternatives(dialect, first):
            for two in alternatives(one, second):
                wrong = setup.output - loss.aims(setup, two)
                yield told(dialect, two, first), loss.reduce(wrong, setup, two)
    other = dialect.but(score_weight="one")
    for words, aim in (("data", setup.x0), ("noise", setup.noise), ("noise - data", setup.noise - setup.x0)):
        yield (
            Diagnosis("parameterization", f"the model is to answer the {words}"),
            loss.reduce(setup.output - aim, setup, dialect),
        )
        yield (
            Diagnosis("parameterization", f"the model is to answer the {words}, without a weight"),
            loss.reduce(setup.output - aim, setup, other),
        )
    for words, factor in (
        ("it is doubled", 2.0), ("it is halved", 0.5), ("it is times std", setup.here.std),
        ("it is times std²", setup.here.var), ("it is over std", 1 / setup.here.std),
        ("it is over std²", 1 / setup.here.var), ("it is times the scale", setup.here.scale),
        ("it is times the square of the scale", setup.here.scale**2), ("it is times g²", setup.here.g2),
        ("it is over g²", 1 / setup.here.g2), ("it is over the time", 1 / setup.here.t),
        ("it is times the time", setup.here.t),
        ("it is the mean over the batch for every sample", want.mean() / want),
        ("it is a sum of errors that are not squared", np.abs(error).sum(1) / (error**2).sum(1)),
    ):  # fmt: skip
        yield Diagnosis("loss-weight", words), want * factor


def shape(session: Session, loss: Loss) -> Finding:
    """One number a sample."""
    found = asked(session, loss)
    want = (len(found.setup.x0),)
    if found.shape == want:
        return Finding(True)
    fields: dict[str, Any] = {"got": list(found.shape), "wanted": list(want)}
    if found.shape in ((), (1,)):
        return fail("loss-weight", "one number for the whole batch, wanted one a sample", **fields)
    return fail("state-broadcast", f"shape {found.shape}, wanted one number a sample", **fields)


def asks(session: Session, loss: Loss) -> Finding:
    """The model is asked about x_t, at t."""
    found, dialect = asked(session, loss), session.dialect
    process, here, model = loss.process(dialect), found.setup.here, found.model
    if model.x is None or model.t is None:
        return fail("loss-weight", "the model is never asked")
    labels = outgoing(dialect, process, here.t)
    if np.abs(model.t - labels).max() > 1e-6 * np.abs(labels).max():
        return _label(session, model.t, labels, process)
    x0, noise = found.setup.x0, found.setup.noise
    want = here.scale[:, None] * x0 + here.std[:, None] * noise
    if model.x.shape != want.shape:
        return fail("state-broadcast", f"the model is given shape {model.x.shape}")
    slack = ROUNDINGS * UNIT[dialect.dtype] * (1 + 1 / here.var[:, None]) * (1 + np.abs(x0) + np.abs(noise))
    fields: dict[str, Any] = {"error": float(np.abs(model.x - want).max()), "tolerance": float(slack.min())}
    if (np.abs(model.x - want) <= slack).all():
        return Finding(True, **fields)
    for family, words, (a, b) in _states(here, process):
        state = a[:, None] * x0 + b[:, None] * noise
        if (np.abs(model.x - state) <= 1e-5 * (1 + np.abs(state))).all():
            return fail(family, f"the model is given {words}, not x_t", **fields)
    return fail("schedule", "the model is not given x_t: no known mistake fits", **fields)


def _label(session: Session, seen: Array, labels: Array, process: Process) -> Finding:
    fields: dict[str, Any] = {"got": seen.tolist(), "wanted": labels.tolist(), "asked": "times of the model"}
    if (seen == np.floor(labels)).all():
        return fail("precision", "the model is asked at times that are cut to whole numbers", **fields)
    for scale in (999.0, 1000.0, 0.001):
        if np.abs(seen / scale - labels).max() <= 1e-6 * labels.max():
            dialect = session.dialect.but(time_scale=session.dialect.time_scale * scale)
            words = f"the model is asked with {scale:g} t"
            return fail("convention", words, dialect=dialect, also=("time-embedding",), **fields)
    turned = outgoing(session.dialect, process, process.end - process_time(session, labels, process))
    if np.abs(seen - turned).max() <= 1e-6 * np.abs(labels).max():
        return fail(
            "schedule", "the model is asked at a time that runs the other way", also=("sign",), **fields
        )
    if np.ptp(seen) == 0:
        return fail("time-embedding", f"the model is asked at {seen[0]:g} whatever t is", **fields)
    return fail("schedule", "the model is asked at other times", **fields)


def process_time(session: Session, labels: Array, process: Process) -> Array:
    """The process's times of labels."""
    return incoming(session.dialect, process, labels)


def _states(here: At, process: Process) -> Iterator[tuple[str, str, tuple[Array, Array]]]:
    one, none = np.ones_like(here.t), np.zeros_like(here.t)
    yield "data-scaling", "x_0 itself", (one, none)
    yield "sqrt", "scale x_0 + variance noise", (here.scale, here.var)
    yield "sqrt", "scale² x_0 + std noise", (here.scale**2, here.std)
    yield "sqrt", "scale² x_0 + variance noise", (here.scale**2, here.var)
    yield "sign", "x_t of the opposite noise", (here.scale, -here.std)
    yield "parameterization", "data and noise in each other's place", (here.std, here.scale)
    yield "data-scaling", "x_0 + std noise", (one, here.std)
    other = at(process, process.end - here.t)
    yield "schedule", "x at the time that runs the other way", (other.scale, other.std)
    yield "schedule", "a straight line between data and noise", (1 - here.t, here.t)


def batch_independence(session: Session, loss: Loss) -> Finding:
    """The loss of a sample does not depend on the samples beside it."""
    found = asked(session, loss)
    if found.shape != (len(found.setup.x0),):
        raise NotApplicable(f"see {loss.port}.shape")
    part = _call(session, loss, found.layout, slice(1, 3))
    slack = 64 * UNIT[session.dialect.dtype] * np.abs(found.got[1:3])
    if part.got.shape == (2,) and bool((np.abs(part.got - found.got[1:3]) <= slack).all()):
        return Finding(True)
    return fail("state-broadcast", "the loss of a sample depends on those beside it", also=("loss-weight",))


def loss_port(made: Loss) -> None:
    """Register a loss and its checks."""
    LOSSES[made.port] = made
    for law in (value, shape, asks, batch_independence):
        check(f"{made.port}.{law.__name__}", made.port)(partial(law, loss=made))


# denoising score matching

ERROR = {
    "score": lambda h: np.ones_like(h.t),
    "eps": lambda h: 1 / h.var,
    "x_0": lambda h: (h.scale / h.var) ** 2,
}


def _score_aims(setup: Setup, dialect: Dialect) -> Array:
    aims = {"score": -setup.noise / setup.here.std[:, None], "eps": setup.noise, "x_0": setup.x0}
    return np.asarray(aims[dialect.prediction])


def _score_reduce(error: Array, setup: Setup, dialect: Dialect) -> Array:
    here = setup.here
    weights = {"variance": here.var, "one": np.ones_like(here.t), "likelihood": here.g2 * abs(rate(dialect))}
    weight = weights[dialect.score_weight] * ERROR[dialect.prediction](here)
    return np.asarray(weight * REDUCTIONS[dialect.loss_reduction](error))


def _score_others(setup: Setup, dialect: Dialect) -> Iterator[Guess]:
    here, noise = setup.here, setup.noise
    n = noise.shape[1]
    logs = -0.5 * (noise**2).sum(1) - n * np.log(here.std) - n / 2 * np.log(2 * np.pi)
    x_t = here.scale[:, None] * setup.x0 + here.std[:, None] * noise
    log = np.broadcast_to(logs[:, None], noise.shape)
    for family, words, aim in (
        ("loss-weight", "the logarithm of the density is the aim, not its gradient", log),
        ("sqrt", "the aim is -eps / std²", -noise / here.var[:, None]),
        ("parameterization", "the aim is -eps", -noise),
        ("data-scaling", "the aim is the score of x_t about 0: -x_t / std²", -x_t / here.var[:, None]),
    ):
        yield Diagnosis(family, words), _score_reduce(setup.output - aim, setup, dialect)


SCORE_LOSS = Loss(
    "score_loss", process_of, _score_aims, _score_reduce, _score_others,
    ("score_weight", "loss_reduction", "prediction"),
)  # fmt: skip
loss_port(SCORE_LOSS)

# flow matching


def _flow_aims(setup: Setup, dialect: Dialect) -> Array:
    here = setup.here
    return np.asarray(rate(dialect) * (here.dscale[:, None] * setup.x0 + here.dstd[:, None] * setup.noise))


def _flow_reduce(error: Array, setup: Setup, dialect: Dialect) -> Array:
    return REDUCTIONS[dialect.loss_reduction](error)


def _flow_others(setup: Setup, dialect: Dialect) -> Iterator[Guess]:
    straight = setup.noise - setup.x0
    for sign, words in ((1, "noise - data"), (-1, "data - noise")):
        yield (
            Diagnosis("loss-weight", f"the aim is {words}: the velocity of another path"),
            _flow_reduce(setup.output - sign * straight, setup, dialect),
        )


FLOW_LOSS = Loss(
    "flow_loss", partial(process_of, otherwise="straight"), _flow_aims, _flow_reduce, _flow_others,
    ("loss_reduction", "time_direction", "time_scale"),
)  # fmt: skip
loss_port(FLOW_LOSS)

# variational diffusion


def vdm_process(dialect: Dialect) -> Process:
    """The process whose log SNR is linear between the declared ends."""
    return Vdm(*dialect.gamma_ends)


def _vdm_aims(setup: Setup, dialect: Dialect) -> Array:
    return setup.noise


def vdm_weight(setup: Setup, dialect: Dialect, steps: int | None) -> Array:
    """The weight of the squared error of eps."""
    low, high = dialect.gamma_ends
    growth = (high - low) / steps if steps else high - low
    return np.full(len(setup.x0), steps / 2 * np.expm1(growth) if steps else growth / 2)


def _vdm_reduce(error: Array, setup: Setup, dialect: Dialect) -> Array:
    total = vdm_weight(setup, dialect, dialect.vdm_steps) * (error**2).sum(1)
    return np.asarray(total / unit(dialect, error.shape[1]))


def _vdm_others(setup: Setup, dialect: Dialect) -> Iterator[Guess]:
    error = setup.output - setup.noise
    total = (error**2).sum(1) / unit(dialect, error.shape[1])
    low, high = dialect.gamma_ends
    for steps in (None, 10, 100, 1000):
        if steps != dialect.vdm_steps:
            other = dialect.but(vdm_steps=steps)
            words = f"vdm_steps is {steps}, not {dialect.vdm_steps}"
            yield (
                Diagnosis("convention", words, dialect=other, also=("loss-weight", "discretization")),
                _vdm_reduce(error, setup, other),
            )
    span = (high - low) / (dialect.vdm_steps or 1)
    steps, falling = dialect.vdm_steps or 1, np.exp(-low - (high - low) * setup.here.t)
    for words, weight in (
        ("the derivative of gamma is missing: half the squared error", 0.5),
        ("the weight is one", 1.0),
        ("the derivative of the SNR stands for that of gamma", 0.5 * (high - low) * falling),
        ("the factor T is missing", 0.5 * np.expm1(span)),
        ("gamma(t) - gamma(s) stands for its exponential minus one", 0.5 * steps * span),
        ("the exponential of the other difference", -0.5 * steps * np.expm1(-span)),
    ):
        yield Diagnosis("loss-weight", words), weight * total
    yield Diagnosis("sign", "the derivative of gamma has the wrong sign"), -_vdm_reduce(error, setup, dialect)


VDM_LOSS = Loss("vdm_loss", vdm_process, _vdm_aims, _vdm_reduce, _vdm_others, ("likelihood",))
loss_port(VDM_LOSS)
