"""Calls of a target's methods: a time limit, the target's own arrays, and what the call did besides
answering."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refdiff.oracle.tape import Answer, NoiseTape
from refdiff.oracle.target import Dialect

LIMIT = 10.0
SAMPLE_LIMIT = 60.0


class TargetError(Exception):
    """A target did not answer, or answered with something that is not an answer.

    Args:
        kind: raised, timeout, type, shape, dtype.
        message: what happened.
        family: the family of mistakes it hints at.
    """

    def __init__(self, kind: str, message: str, family: str = "unknown") -> None:
        super().__init__(message)
        self.kind, self.family = kind, family


class Declined(TargetError):  # noqa: N818  (it is no error)
    """A target answered NotImplemented: it does not offer this call, which is no mistake."""


class _OutOfTime(BaseException):
    """Not an Exception, so that a target's own handlers do not catch it."""


def within(seconds: float, function: Callable[[], Any]) -> Any:
    """The function's value, or TargetError after so many seconds; by alarm in the main thread, else by a
    thread."""
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):
        return _with_alarm(seconds, function)
    return _in_thread(seconds, function)


def _with_alarm(seconds: float, function: Callable[[], Any]) -> Any:
    waiting = True

    def ring(signum: int, frame: Any) -> None:
        # a ring that comes while the alarm is being put away is not a timeout of anything
        if waiting:
            raise _OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    # rings again every second, in case that something swallows the first one
    remaining = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)[0]
    try:
        return function()
    except _OutOfTime:
        raise TargetError("timeout", f"no answer within {seconds:g} s") from None
    finally:
        waiting = False
        signal.setitimer(signal.ITIMER_REAL, remaining)
        signal.signal(signal.SIGALRM, before)


def _in_thread(seconds: float, function: Callable[[], Any]) -> Any:
    box: dict[str, Any] = {}

    def work() -> None:
        try:
            box["value"] = function()
        except BaseException as error:
            box["error"] = error

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(seconds)
    if worker.is_alive():
        raise TargetError("timeout", f"no answer within {seconds:g} s")
    if "error" in box:
        raise box["error"]
    return box["value"]


@dataclass
class Call:
    """One call that was answered: the raw answer, the tape, and which inputs it changed."""

    value: Any
    tape: NoiseTape
    mutated: tuple[str, ...] = ()


@dataclass
class Caller:
    """Calls the methods of one target in its own dialect."""

    target: Any
    dialect: Dialect
    limits: dict[str, float] = field(default_factory=dict)
    dead: dict[str, TargetError] = field(default_factory=dict)

    def __call__(self, port: str, arguments: dict[str, Any], answer: Answer | None = None) -> Call:
        """Call a port with tensors (converted), levels (translated) and other objects (as they are)."""
        if port in self.dead:
            raise self.dead[port]
        tape = NoiseTape(answer)
        given = {name: self.outgoing(value) for name, value in arguments.items()}
        kept = {name: _copy(value) for name, value in given.items()}
        method = getattr(self.target, port)

        def run() -> Any:
            with tape.playing(self.target), warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                return method(*given.values())

        try:
            value = within(self.limits.get(port, LIMIT), run)
        except TargetError as error:
            self.dead[port] = error
            raise
        except (Exception, SystemExit) as error:
            raise TargetError("raised", f"{type(error).__name__}: {_brief(error)}", _family(error)) from error
        if value is NotImplemented:
            raise Declined("declined", f"{port} answers NotImplemented there")
        mutated = tuple(name for name in given if not _equal(given[name], kept[name]))
        return Call(value, tape, mutated)

    def outgoing(self, value: Any) -> Any:
        """One of our values as the target takes it: its own fresh copy."""
        if not isinstance(value, Tensor):
            return value
        if value.is_floating_point():
            value = value.to(getattr(torch, self.dialect.dtype))
        if self.dialect.backend == "torch":
            return value.clone()
        array = value.numpy().copy()
        if self.dialect.backend == "numpy":
            return array
        import jax

        jax.config.update("jax_enable_x64", True)
        return jax.numpy.asarray(array)


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    return value.copy() if isinstance(value, np.ndarray) else value


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return a.shape == b.shape and torch.equal(a.detach(), b.detach())
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) else True


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 160 else text[:157] + "..."


def _family(error: BaseException) -> str:
    text = str(error).lower()
    if isinstance(error, (IndexError, KeyError)) or "out of range" in text or "out of bounds" in text:
        return "index"
    if "size of tensor" in text or "broadcast" in text or "shape" in text:
        return "state-broadcast"
    if "domain" in text or isinstance(error, ZeroDivisionError):
        return "noise-at-t0"
    return "unknown"


@dataclass(frozen=True)
class Numbers:
    """An answer as float64, with the dtype it came in."""

    values: Tensor
    dtype: str


def numbers(value: Any) -> Numbers:
    """An answer of any array library as float64; TargetError where it is not an array of real numbers."""
    if isinstance(value, Tensor):
        dtype, tensor = str(value.dtype).removeprefix("torch."), value.detach().cpu()
    else:
        try:
            array = np.asarray(value)
        except Exception as error:
            raise TargetError("type", f"answered with {type(value).__name__}, not with an array") from error
        if array.dtype.kind not in "fiu":
            raise TargetError(
                "type", f"answered with {type(value).__name__} of {array.dtype}, not with numbers"
            )
        dtype, tensor = str(array.dtype), torch.as_tensor(array.astype(np.float64))
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise TargetError("type", f"answered with {dtype}, not with real numbers")
    return Numbers(tensor.double(), dtype)


def shaped(value: Any, shape: Sequence[int], what: str = "answer") -> Numbers:
    """An answer that must have exactly one shape."""
    found = numbers(value)
    if tuple(found.values.shape) != tuple(shape):
        raise TargetError(
            "shape", f"{what} has shape {tuple(found.values.shape)}, wanted {tuple(shape)}", "state-broadcast"
        )
    return found
