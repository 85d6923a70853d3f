"""Likelihood by the probability flow: for Gaussian data the flow is affine and its density is exact."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refdiff.oracle.calls import numbers
from refdiff.oracle.checks.likelihood import unit
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.continuum import incoming, process_of
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session
from refdiff.oracle.tape import aside
from refdiff.oracle.target import Dialect
from refdiff.process import Process

Array = NDArray[Any]
MEAN = np.array([0.4, -0.3, 0.2])
# along the axes, so that a probe of signs has no error
VARIANCE = np.array([0.7, 0.3, 0.9])
X = np.array([[0.9, 0.1, -0.5], [-0.2, -1.1, 0.8]])
D = len(MEAN)
# part of the distance to a wrong value within which it is recognised
FAR = 0.02


@dataclass
class Smooth:
    """The prediction for Gaussian data, of which automatic differentiation has the divergence."""

    session: Session
    times: list[float] = field(default_factory=list)

    def __call__(self, x: Any, t: Any, *args: Any, **kwargs: Any) -> Any:
        with aside():
            given = isinstance(x, Tensor)
            state = x if given else torch.as_tensor(np.array(x, dtype=float))
            # as numbers, one by one: a tensor inside a transformation has no array
            label = t.reshape(-1).tolist() if isinstance(t, Tensor) else np.asarray(t, dtype=float)
            dialect = self.session.dialect
            process = process_of(dialect)
            time = float(np.mean(incoming(dialect, process, np.asarray(label, dtype=float))))
            self.times.append(time)
            value = self.answer(dialect, process, state, min(max(time, 0.0), process.end))
            return value if given else self.session.caller.outgoing(value.detach())

    def answer(self, dialect: Dialect, process: Process, x: Tensor, t: float) -> Tensor:
        """The declared prediction."""
        flat = x.reshape(len(x), -1)
        scale, var = float(process.scale(t)), float(process.variance(t))
        mean, spread = (torch.as_tensor(one).to(x.dtype) for one in (MEAN, VARIANCE))
        score = -(flat - scale * mean) / (scale**2 * spread + var)
        out = {
            "score": score, "eps": -(var**0.5) * score, "x_0": (flat + var * score) / scale,
        }[dialect.prediction]  # fmt: skip
        found: Tensor = out.reshape(x.shape)
        return found


@dataclass(frozen=True)
class Parts:
    """What the likelihood of the flow is made of, (B,) in nats."""

    prior: Array
    trace: Array


def parts(process: Process, first: float, kind: str = "flow", prior: float | None = None) -> Parts:
    """Density of the last state under the prior, and the integral of the divergence.

    Args:
        process: whose flow.
        first: the time at which it starts.
        kind: "flow", "reverse" (the drift of the reverse equation, g² for g²/2) or "drift" (without score).
        prior: its deviation; None: that of the process at its end.
    """
    ends = [
        (float(process.log_scale(t)), float(process.scale(t)), float(process.variance(t)))
        for t in (first, process.end)
    ]
    (log_low, low, var_low), (log_high, high, var_high) = ends
    growth = np.log((high**2 * VARIANCE + var_high) / (low**2 * VARIANCE + var_low))
    faded = log_high - log_low
    log_factor = {"flow": growth / 2, "reverse": growth - faded, "drift": np.full(D, faded)}[kind]
    last = high * MEAN + np.exp(log_factor) * (X - low * MEAN)
    if kind == "drift":
        last = np.exp(faded) * X
    std = prior or var_high**0.5
    logs = -0.5 * (last**2).sum(1) / std**2 - D * (math.log(std) + 0.5 * math.log(2 * math.pi))
    return Parts(logs, np.full(len(X), log_factor.sum()))


@check("ode_log_likelihood.value")
def likelihood(session: Session) -> Finding:
    """The density of the flow's end under its prior, and the integral of the divergence: exact."""
    dialect, process = session.dialect, process_of(session.dialect)
    got = _asked(session)
    if got.shape != (len(X),):
        raise NotApplicable("see ode_log_likelihood.shape")
    right = parts(process, dialect.first_time)
    want = (right.prior + right.trace) / unit(dialect, D)
    limit = D * dialect.ode_tolerance / unit(dialect, D) * (1 + np.abs(want))
    error = np.nan_to_num(np.abs(got - want), nan=np.inf)
    row = int(np.argmax(error / limit))
    fields: dict[str, Any] = {
        "error": float(error[row]), "tolerance": float(limit[row]), "worst": {"row": row},
        "got": float(got[row]), "wanted": float(want[row]), "asked": "ode_log_likelihood of Gaussian data",
    }  # fmt: skip
    if (error <= limit).all():
        return Finding(True, **fields)
    for diagnosis, other in _guesses(dialect, process, right):
        # a wrong flow may be stiff: its integral has fewer digits
        if (np.abs(got - other) <= 2 * limit + FAR * np.abs(other - want)).all():
            return Finding(False, "", diagnosis, **fields)
    return fail("likelihood", "no known mistake fits", **fields)


def _at_data(process: Process) -> Array:
    std = float(process.std(process.end))
    return np.asarray(-0.5 * (X**2).sum(1) / std**2 - D * (math.log(std) + 0.5 * math.log(2 * math.pi)))


def _guesses(dialect: Dialect, process: Process, right: Parts) -> Iterator[tuple[Diagnosis, Array]]:
    n, whole = unit(dialect, D), right.prior + right.trace
    for name in ("nats", "bits", "nats_per_dim", "bits_per_dim"):
        if name != dialect.likelihood:
            other = dialect.but(likelihood=name)
            found = Diagnosis("convention", f"is in {name}", dialect=other, also=("likelihood",))
            yield found, whole / unit(dialect, D, name)
    root = 0.5 * D * math.log(2 * math.pi)
    first = dialect.first_time
    reverse, drift, unit_prior = (
        parts(process, first, "reverse"), parts(process, first, "drift"), parts(process, first, prior=1.0),
    )  # fmt: skip
    for family, words, form in (
        ("likelihood", "the divergence has the wrong sign: time is turned", right.prior - right.trace),
        ("likelihood", "the prior's density is missing", right.trace),
        ("likelihood", "the integral of the divergence is missing", right.prior),
        ("likelihood", "the integral of the divergence is halved", right.prior + right.trace / 2),
        ("likelihood", "the integral of the divergence is doubled", right.prior + 2 * right.trace),
        ("likelihood", "the divergence is a mean over the dimensions", right.prior + right.trace / D),
        ("likelihood", "the divergence is divided by D twice", right.prior + right.trace / D**2),
        ("likelihood", "the divergence is multiplied by D", right.prior + right.trace * D),
        ("likelihood", "log 2 pi of the prior is missing", whole + root),
        ("likelihood", "log 2 pi of the prior counts twice", whole - root),
        ("likelihood", "log 2 pi of the prior counts for one dimension", whole + root * (D - 1) / D),
        ("variance", "the drift is that of the reverse equation: g² for g²/2", reverse.prior + reverse.trace),
        ("variance", "the state follows the reverse equation: g² for g²/2", reverse.prior + right.trace),
        ("variance", "the divergence has g² for g²/2", right.prior + reverse.trace),
        ("parameterization", "the score is left out of the flow", drift.prior + drift.trace),
        ("parameterization", "the score is left out of the divergence", right.prior + drift.trace),
        ("likelihood", "the prior is a standard normal, but not the end", unit_prior.prior + right.trace),
        ("likelihood", "the prior's density is that of the data", _at_data(process) + right.trace),
        ("sign", "minus the logarithm", -whole),
    ):  # fmt: skip
        yield Diagnosis(family, words, also=("likelihood",)), form / n


def _asked(session: Session) -> Array:
    """The answers, averaged over probes that are unit vectors times the root of D: the trace, exactly."""
    return session.once("ode likelihood", lambda: _call(session))  # type: ignore[no-any-return]


def _call(session: Session) -> Array:
    if session.dialect.backend == "jax":
        raise NotApplicable("the score is a function of torch or NumPy")
    x = torch.as_tensor(np.repeat(X, D, axis=0))
    probes = torch.eye(D, dtype=torch.float64).repeat(len(X), 1) * D**0.5

    def draw(number: int, shape: tuple[int, ...]) -> Tensor:
        if len(shape) >= 2 and int(np.prod(shape[-2:])) == probes.numel():
            given: Tensor = probes.expand(shape).clone()
            return given
        return torch.zeros(shape, dtype=torch.float64)

    call = session.caller("ode_log_likelihood", {"score_fn": Smooth(session), "x": x}, draw)
    found = numbers(call.value).values.numpy()
    if found.shape != (len(x),):
        return np.asarray(found)
    return np.asarray(found.reshape(len(X), D).mean(1))


@check("ode_log_likelihood.shape")
def likelihood_shape(session: Session) -> Finding:
    """One number a sample."""
    got = _asked(session)
    if got.shape == (len(X),):
        return Finding(True)
    wanted = len(X) * D
    words = "one number for the whole batch, wanted one a sample"
    if got.size != 1:
        words = f"shape {got.shape}, wanted ({wanted},)"
    return fail("state-broadcast", words, also=("likelihood",), got=list(got.shape), wanted=[wanted])
