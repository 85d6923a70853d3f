"""The noise tape: every Gaussian draw inside a call is answered with prescribed numbers, and counted."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _pop_mode_temporarily

Answer = Callable[[int, tuple[int, ...]], Tensor]

_GENERATORS = (np.random.Generator, np.random.RandomState)
_GAUSSIAN = {"aten::randn", "aten::randn_like", "aten::normal_", "aten::normal", "aten::log_normal_"}
_OTHER = {
    "aten::rand",
    "aten::rand_like",
    "aten::uniform_",
    "aten::randint",
    "aten::randint_like",
    "aten::randperm",
    "aten::bernoulli",
    "aten::bernoulli_",
    "aten::multinomial",
    "aten::exponential_",
    "aten::cauchy_",
    "aten::native_dropout",
}


class NoiseTape:
    """Answers the draws of standard normals, in order, and records their shapes.

    Args:
        answer: (number of the draw, shape) -> float64 tensor of that shape; None answers zeros.
    """

    def __init__(self, answer: Answer | None = None) -> None:
        self.answer = answer
        self.shapes: list[tuple[int, ...]] = []
        self.others: list[str] = []

    def draw(self, shape: tuple[int, ...]) -> Tensor:
        """The next standard normal draw."""
        index = len(self.shapes)
        self.shapes.append(shape)
        if self.answer is None:
            return torch.zeros(shape, dtype=torch.float64)
        value = self.answer(index, shape)
        return value if tuple(value.shape) == shape else torch.zeros(shape, dtype=torch.float64)

    def note(self, name: str) -> None:
        """A draw that is not Gaussian: it is left to a generator with a fixed seed."""
        self.others.append(name)

    @contextmanager
    def playing(self, owner: Any = None) -> Iterator[NoiseTape]:
        """Answer the draws of torch, NumPy, jax and Python; ``owner`` may hold NumPy generators."""
        with ExitStack() as stack:
            stack.enter_context(_as_before())
            torch.default_generator.manual_seed(0)
            stack.enter_context(_TorchMode(self))
            for patch in (*_numpy_patches(self), *_jax_patches(self), *_owner_patches(self, owner)):
                stack.enter_context(patch)
            for name in ("gauss", "normalvariate"):
                scalar = lambda mu=0.0, sigma=1.0: mu + sigma * float(self.draw(()))  # noqa: E731
                stack.enter_context(mock.patch.object(random, name, scalar))
            yield self


@contextmanager
def _as_before() -> Iterator[None]:
    """Global state that a call may change: the generators and torch's default dtype."""
    numpys, pythons, dtype = np.random.get_state(), random.getstate(), torch.get_default_dtype()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        np.random.set_state(numpys)
        random.setstate(pythons)
        torch.set_default_dtype(dtype)


@contextmanager
def aside() -> Iterator[None]:
    """The oracle's own arithmetic inside a target's call: the tape does not look at it."""
    if torch._C._len_torch_dispatch_stack() == 0:
        yield
        return
    with _pop_mode_temporarily():
        yield


class _TorchMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Answers aten's Gaussian draws from a tape."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # torch would wrap the mode by its compiler, whose import takes seconds
        return False

    def __init__(self, tape: NoiseTape) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tape = tape

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if name in _GAUSSIAN:
            return _answer(self.tape, func, args, kwargs or {})
        if name in _OTHER:
            self.tape.note(name)
        return func(*args, **(kwargs or {}))


def _answer(tape: NoiseTape, func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
    name = func._schema.name
    if name == "aten::randn":
        z = tape.draw(tuple(args[0]))
        return z.to(kwargs.get("dtype") or torch.get_default_dtype()).to(kwargs.get("device") or "cpu")
    if name == "aten::randn_like":
        z = tape.draw(tuple(args[0].shape))
        return z.to(kwargs.get("dtype") or args[0].dtype).to(kwargs.get("device") or args[0].device)
    given = dict(zip([argument.name for argument in func._schema.arguments], args, strict=False)) | kwargs
    mean, std = given.get("mean", 0.0), given.get("std", 1.0)
    if name in ("aten::normal_", "aten::log_normal_"):
        like = args[0]
        value = mean + std * tape.draw(tuple(like.shape))
        like.copy_(value.exp() if name == "aten::log_normal_" else value)
        return like  # type: ignore[no-any-return]
    tensors = [value for value in (mean, std) if isinstance(value, Tensor)]
    shape = np.broadcast_shapes(*(tuple(v.shape) for v in tensors)) if tensors else tuple(given["size"])
    dtype = tensors[0].dtype if tensors else given.get("dtype") or torch.get_default_dtype()
    drawn: Tensor = mean + std * tape.draw(shape)
    return drawn.to(dtype)


def _shape(size: Any) -> tuple[int, ...]:
    if size is None:
        return ()
    return (int(size),) if np.ndim(size) == 0 else tuple(int(n) for n in size)


class RecordingGenerator:
    """A NumPy generator (old or new) whose Gaussian draws come from a tape."""

    def __init__(self, tape: NoiseTape, inner: Any) -> None:
        self._tape, self._inner = tape, inner

    def standard_normal(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        """Draws of N(0, 1)."""
        value = self._tape.draw(_shape(size)).numpy().astype(dtype)
        return value if size is not None else value[()]

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        """Draws of N(loc, scale²)."""
        shape = _shape(size) if size is not None else np.broadcast_shapes(np.shape(loc), np.shape(scale))
        return loc + scale * self._tape.draw(shape).numpy()[()]

    def randn(self, *shape: int) -> Any:
        """Draws of N(0, 1), the old way."""
        return self._tape.draw(tuple(shape)).numpy()[()]

    def __getattr__(self, name: str) -> Any:
        if name in ("random", "uniform", "rand", "integers", "randint", "choice", "permutation", "shuffle"):
            self._tape.note(f"numpy.{name}")
        return getattr(self._inner, name)


def _numpy_patches(tape: NoiseTape) -> Iterator[Any]:
    make = np.random.default_rng
    recorder = RecordingGenerator(tape, make(0))
    for name in ("standard_normal", "normal", "randn"):
        yield mock.patch.object(np.random, name, getattr(recorder, name))
    yield mock.patch.object(
        np.random, "default_rng", lambda *args, **kwargs: RecordingGenerator(tape, make(0))
    )
    yield mock.patch.object(np.random, "RandomState", _recorded(tape, np.random.RandomState))


def _recorded(tape: NoiseTape, state: type) -> type:
    """A class in the place of the old generator's, which libraries also write in annotations."""

    def new(cls: type, *args: Any, **kwargs: Any) -> RecordingGenerator:
        return RecordingGenerator(tape, state(0))

    return type("RandomState", (state,), {"__new__": new})


def _owner_patches(tape: NoiseTape, owner: Any) -> Iterator[Any]:
    """NumPy generators among the attributes of the target."""
    for name, value in list(getattr(owner, "__dict__", {}).items()):
        if isinstance(value, _GENERATORS):
            yield mock.patch.object(owner, name, RecordingGenerator(tape, value))


def _jax_patches(tape: NoiseTape) -> Iterator[Any]:
    if "jax" not in sys.modules:
        return
    import jax

    def normal(key: Any, shape: Any = (), dtype: Any = float) -> Any:
        return jax.numpy.asarray(tape.draw(tuple(shape)).numpy(), dtype=dtype)

    yield mock.patch.object(jax.random, "normal", normal)
