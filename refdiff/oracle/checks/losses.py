"""Losses: what the model is asked, the value for each sample, independence of the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refdiff.oracle import points as where
from refdiff.oracle.calls import TargetError, numbers
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.compare import rough_rows
from refdiff.oracle.expected import ROUNDINGS, UNIT
from refdiff.oracle.points import Points
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session

Array = NDArray[Any]
LAYOUTS: tuple[tuple[int, ...], ...] = ((3,), (2, 3, 5))
CONSTANT = 1e-6


@dataclass
class Asked:
    """One call of a loss: what went in, what the model was asked and answered, what came out, (B,) each."""

    t: Array
    x0: Array
    noise: Array
    output: Array
    seen_x: Array | None
    seen_t: Array | None
    calls: int
    value: Array
    shape: tuple[int, ...]
    dtype: str
    mutated: tuple[str, ...]
    alone: bool = False


class FixedModel:
    """Answers with given numbers and notes what it is asked."""

    def __init__(self, output: Tensor, session: Session) -> None:
        self.output, self.session = output, session
        self.x: Array | None = None
        self.t: Array | None = None
        self.calls = 0

    def __call__(self, x: Any, t: Any, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        state = x.detach().double().numpy() if isinstance(x, Tensor) else np.asarray(x, dtype=float)
        label = t.detach().double().numpy() if isinstance(t, Tensor) else np.asarray(t, dtype=float)
        self.x = state.reshape(len(state), -1)
        self.t = np.broadcast_to(label.reshape(-1), (len(state),)) + 1 - self.session.dialect.index_origin
        if isinstance(x, Tensor):
            return self.output.to(x.dtype)
        return self.session.caller.outgoing(self.output)


def asked(session: Session, port: str) -> Asked:
    """One call of a loss with every level in the batch; a level at a time where that is not taken."""
    return session.once(("asked", port), lambda: _asked(session, port))  # type: ignore[no-any-return]


def _asked(session: Session, port: str) -> Asked:
    if not session.dialect.batched_t:
        raise NotApplicable("losses are asked with a batch of levels")
    failure: TargetError | None = None
    for layout in LAYOUTS if session.dialect.batched_t else ():
        try:
            return _call(session, port, layout, np.array(where.levels(session.T)))
        except TargetError as error:
            failure = failure or error
    for layout in LAYOUTS:
        try:
            return _one_by_one(session, port, layout)
        except TargetError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _one_by_one(session: Session, port: str, layout: tuple[int, ...]) -> Asked:
    """Each level alone, as an int."""
    calls = [_call(session, port, layout, np.array([t]), alone=True) for t in where.levels(session.T)]
    if any(call.shape not in ((1,), ()) for call in calls):
        raise TargetError("shape", f"shape {calls[0].shape} for one sample", "loss-weight")

    def joined(name: str) -> Any:
        parts = [getattr(call, name) for call in calls]
        return (
            None
            if any(part is None for part in parts)
            else np.concatenate([np.atleast_1d(part) for part in parts])
        )

    first = calls[0]
    arrays = {name: joined(name) for name in ("t", "x0", "noise", "output", "seen_x", "seen_t", "value")}
    return Asked(
        **arrays, calls=first.calls, shape=(len(calls),), dtype=first.dtype, mutated=first.mutated, alone=True
    )


def _call(session: Session, port: str, layout: tuple[int, ...], t: Array, alone: bool = False) -> Asked:
    rng = np.random.Generator(np.random.PCG64(11 + int(t[0])))
    x0, noise, output = (torch.as_tensor(rng.standard_normal((len(t), *layout))) for _ in range(3))
    if session.dialect.dtype == "float32":
        x0, noise, output = (value.float().double() for value in (x0, noise, output))
    model = FixedModel(output, session)
    levels: Any = torch.as_tensor(t + session.dialect.index_origin - 1)
    if alone:
        levels = int(levels[0])
    given = {"model": model, "x0": x0, "t": levels, "noise": noise}
    drawn = torch.as_tensor(rng.standard_normal(tuple(noise.shape)))
    call = session.caller(
        port, given, lambda number, shape: drawn if shape == tuple(drawn.shape) else torch.zeros(shape)
    )
    found = numbers(call.value)
    if call.tape.shapes and model.x is not None:
        noise = _used(session, model.x, t, x0, noise, drawn)
    a, b, c = (value.reshape(len(t), -1).numpy() for value in (x0, noise, output))
    shape = tuple(found.values.shape)
    return Asked(
        t, a, b, c, model.x, model.t, model.calls, found.values.numpy(), shape, found.dtype, call.mutated
    )


def _used(session: Session, seen: Array, t: Array, x0: Tensor, given: Tensor, drawn: Tensor) -> Tensor:
    """The noise that is in the state that the model sees: the argument, or a draw of the target's own."""
    at = symbols(session, t)
    root, rest = np.sqrt(at["abar_t"])[:, None], np.sqrt(1 - at["abar_t"])[:, None]
    scale = 1 / root if session.dialect.space == "ve" else np.ones_like(root)
    gaps = []
    for noise in (given, drawn):
        state = root * x0.reshape(len(t), -1).numpy() + rest * noise.reshape(len(t), -1).numpy()
        gaps.append(min(_gap(seen, state), _gap(seen, state * scale)) if seen.shape == state.shape else 0.0)
    return drawn if gaps[1] < gaps[0] else given


def symbols(session: Session, t: Array) -> dict[str, Array]:
    """The scalars of the levels."""
    points = Points(t, t - 1, {})
    made = where.scalars(session.declared, points) | where.extras(session.declared, points)
    return {name: value.astype(float) for name, value in made.items()}


def precision(session: Session, found: Asked, got: Array, want: Array, size: Array) -> str | None:
    """The class of precision that explains a difference, (B, ...); None where none that is accepted does.

    Args:
        size: by how many units a right value may be off, when inputs and tables are off by one.
    """
    with np.errstate(all="ignore"):
        units = (got - want) / (ROUNDINGS * size)
    if not np.isfinite(units).all():
        return None
    if np.abs(units).max() <= UNIT["float64"]:
        return "float64"
    if np.abs(units).max() > UNIT["float32"]:
        return None
    if "float32" in (session.dialect.dtype, found.dtype):
        return "float32"
    declared = session.dialect.tables == "float64"
    jumps = rough_rows(units.reshape(len(units), -1).T * ROUNDINGS / UNIT["float32"])
    return "float32 tables" if jumps and not declared else None


def blur(at: dict[str, Array], t: Array) -> Array:
    """By how many units 1 - alpha_bar_t is off, relatively, when each of its t factors is off by one."""
    grown: Array = 1 + at["abar_t"] / (1 - at["abar_t"]) * (1 + 2 * t / ROUNDINGS)
    return grown


def shape(session: Session, port: str) -> Finding:
    """One number a sample."""
    found = asked(session, port)
    if found.shape == (len(found.t),):
        return Finding(True)
    fields = {"got": list(found.shape), "wanted": [len(found.t)], "also": ("state-broadcast",)}
    if found.shape in ((), (1,)):
        return fail("loss-weight", "one number for the whole batch, wanted one a sample", **fields)
    if found.shape == (len(found.t), len(found.t)):
        return fail(
            "loss-weight", "(B, B) numbers: (B, 1) weights were broadcast against (B,) errors", **fields
        )
    return fail("loss-weight", f"shape {found.shape}, wanted one number a sample", **fields)


def asks(session: Session, port: str, family: str) -> Finding:
    """The model is asked about x_t of the given noise, at t."""
    found = asked(session, port)
    if found.seen_x is None or found.seen_t is None:
        return fail(family, "the model is never asked")
    if not np.array_equal(found.seen_t, found.t):
        return _other_level(session, port, found, family)
    at = symbols(session, found.t)
    root, rest = np.sqrt(at["abar_t"])[:, None], np.sqrt(1 - at["abar_t"])[:, None]
    want = root * found.x0 + rest * found.noise
    if found.seen_x.shape != want.shape:
        return fail("state-broadcast", f"the model is given shape {found.seen_x.shape}")
    kept, gap = _state_precision(session, found), _gap(found.seen_x, want)
    if kept is not None:
        return Finding(True, precision=kept, error=gap)
    # a wrong state is named where it fits as float32 would
    tolerance = ROUNDINGS * UNIT["float32"] * blur(at, found.t)[:, None]
    wrong = {
        "x_0 itself": (found.x0, "data-scaling"),
        "the noise": (found.noise, "data-scaling"),
        "sqrt(abar) x_0 + (1 - abar) noise": (root * found.x0 + rest**2 * found.noise, "sqrt"),
        "abar x_0 + (1 - abar) noise": (root**2 * found.x0 + rest**2 * found.noise, "sqrt"),
        "abar x_0 + sqrt(1 - abar) noise": (root**2 * found.x0 + rest * found.noise, "sqrt"),
        "x_0 + sigma noise": (found.x0 + rest / root * found.noise, "parameterization"),
        "x_0 and noise exchanged": (root * found.noise + rest * found.x0, "parameterization"),
        "sqrt(abar) x_0 - sqrt(1 - abar) noise": (root * found.x0 - rest * found.noise, "sign"),
    }
    for half in ("bfloat16", "float16"):
        rounded = torch.as_tensor(found.x0).to(getattr(torch, half)).double().numpy()
        wrong[f"x_t of an x_0 rounded to {half}"] = root * rounded + rest * found.noise, "precision"
    for words, (state, kind) in wrong.items():
        if (np.abs(found.seen_x - state) <= tolerance * (1 + np.abs(state))).all():
            return fail(kind, f"the model is given {words}, not x_t", error=gap)
    for low_kind in (torch.bfloat16, torch.float16):
        low = torch.as_tensor(found.seen_x.copy()).to(low_kind).double().numpy()
        if np.array_equal(found.seen_x, low):
            return fail(
                "precision", f"the model is given x_t in {str(low_kind).removeprefix('torch.')}", error=gap
            )
    for shift in (-1, 1):
        near = symbols(session, np.clip(found.t + shift, 1, session.T))
        state = (
            np.sqrt(near["abar_t"])[:, None] * found.x0 + np.sqrt(1 - near["abar_t"])[:, None] * found.noise
        )
        if (np.abs(found.seen_x - state) <= tolerance * (1 + np.abs(state)))[1:-1].all():
            return fail(
                "index",
                f"the model is given x of level t {'+' if shift > 0 else '-'} 1 at label t",
                error=gap,
            )
    return fail("schedule", "the model is not given x_t: no known mistake fits", error=gap)


def _state_precision(session: Session, found: Asked) -> str | None:
    """In which precision the model is given x_t, of the declared tables or of the target's own."""
    assert found.seen_x is not None
    for table in session.candidates.values():
        log_abar = table.log_abar[np.clip(found.t, 0, table.T)]
        abar, rest = (np.asarray(part, float)[:, None] for part in (np.exp(log_abar), -np.expm1(log_abar)))
        signal, noise = np.sqrt(abar) * found.x0, np.sqrt(rest) * found.noise
        grown = (1 + 2 * found.t / ROUNDINGS)[:, None]
        size = np.abs(signal) * grown + np.abs(noise) * (1 + abar / rest * grown)
        for scale in (np.ones_like(abar), 1 / np.sqrt(abar))[: 2 if session.dialect.space == "ve" else 1]:
            want = scale * (signal + noise)
            kept = precision(session, found, found.seen_x, want, scale * size)
            if kept is not None:
                return kept
    return None


def _other_level(session: Session, port: str, found: Asked, family: str) -> Finding:
    seen = np.asarray(found.seen_t)
    shift = np.unique(seen - found.t)
    worst = {"t": int(found.t[0])}
    if len(np.unique(seen)) == 1:
        message = f"the model is asked at level {seen[0]:g} whatever t is: the same term every time"
        return fail(family, message, also=("index",), worst=worst)
    if len(shift) == 1:
        origin = session.dialect.index_origin - int(shift[0])
        dialect = session.dialect.but(index_origin=origin) if origin in (0, 1) else None
        return fail("index", f"the model is asked at t {shift[0]:+g}", dialect=dialect, worst=worst)
    scale = seen / found.t
    if np.ptp(scale) < 1e-9:
        return fail("index", f"the model is asked at {scale[0]:.6g} t", also=("time-embedding",), worst=worst)
    return fail("index", f"the model is asked at {seen[:4]}, wanted {found.t[:4]}", worst=worst)


def _gap(got: Array, want: Array) -> float:
    gap = float(np.max(np.abs(got - want) / (1 + np.abs(want))))
    return gap if np.isfinite(gap) else float("inf")


def target_of(session: Session, found: Asked) -> dict[str, Array]:
    """What models of each parameterization are to answer."""
    at = symbols(session, found.t)
    root, rest = np.sqrt(at["abar_t"])[:, None], np.sqrt(1 - at["abar_t"])[:, None]
    return {
        "eps": found.noise,
        "x_0": found.x0,
        "v": root * found.noise - rest * found.x0,
        "score": -found.noise / rest,
    }


REDUCTIONS: dict[str, Callable[[Array], Array]] = {
    "mean": lambda e: (e**2).mean(1),
    "sum": lambda e: (e**2).sum(1),
    "half_mean": lambda e: (e**2).mean(1) / 2,
    "half_sum": lambda e: (e**2).sum(1) / 2,
}


def value(session: Session) -> Finding:
    """The loss of each sample is the declared reduction of the squared error, over all axes of a sample."""
    found = asked(session, "loss")
    if found.shape != (len(found.t),):
        raise NotApplicable("see loss.reduction")
    first = _judged(session, found)
    wide = _wide(session, found) if first.ok else None
    if wide is None:
        return first
    second = _judged(session, wide)
    return first if second.ok else replace(second, message=f"data with {len(LAYOUTS[-1])} axes a sample")


def _wide(session: Session, found: Asked) -> Asked | None:
    """A call with samples of several axes; None where the target does not take them."""
    if found.x0.shape[1] == int(np.prod(LAYOUTS[-1])):
        return None
    try:
        wide = (
            _one_by_one(session, "loss", LAYOUTS[-1])
            if found.alone
            else _call(session, "loss", LAYOUTS[-1], found.t)
        )
    except TargetError:
        return None
    return wide if wide.shape == (len(wide.t),) else None


def _judged(session: Session, found: Asked) -> Finding:
    kind, reduction = session.dialect.parameterization, session.dialect.loss_reduction
    error = found.output - target_of(session, found)[kind]
    want = REDUCTIONS[reduction](error)
    size = _size(session, found, kind, reduction)
    kept, gap = precision(session, found, found.value, want, size), _gap(found.value, want)
    # a wrong loss is named where it fits as float32 would
    scale = ROUNDINGS * UNIT["float32"] * size
    worst = int(np.argmax(np.abs(found.value - want) / (1 + np.abs(want))))
    fields: dict[str, Any] = {
        "error": gap, "tolerance": float(scale[worst]), "worst": {"t": int(found.t[worst])},
        "got": float(found.value[worst]), "wanted": float(want[worst]), "asked": "loss of one sample",
    }  # fmt: skip
    if kept is not None:
        return Finding(True, reduction, precision=kept, **fields)
    if kind == "score":
        weight = 1 - symbols(session, found.t)["abar_t"]
        kept = precision(session, found, found.value, weight * want, weight * size)
        if kept is not None:
            return Finding(True, f"{reduction}, weighted by the variance", precision=kept, **fields)
    for diagnosis, guess in _losses(session, found):
        if (np.abs(found.value - guess) <= scale).all():
            return Finding(False, "", diagnosis, **fields)
    return Finding(False, "", _weight(session, found, want), **fields)


def _size(session: Session, found: Asked, kind: str, reduction: str) -> Array:
    """By how many units a loss may be off: its terms, their number, and what the tables do to the target."""
    at = symbols(session, found.t)
    root, rest = np.sqrt(at["abar_t"])[:, None], np.sqrt(1 - at["abar_t"])[:, None]
    grown = blur(at, found.t)[:, None]
    target = {
        "eps": np.abs(found.noise),
        "x_0": np.abs(found.x0),
        "v": root * grown * np.abs(found.noise) + rest * grown * np.abs(found.x0),
        "score": np.abs(found.noise) / rest * grown,
    }[kind]
    terms = found.output.shape[1]
    size: Array = (3 + terms / ROUNDINGS) * REDUCTIONS[reduction](np.abs(found.output) + target)
    return size


def _losses(session: Session, found: Asked) -> Iterator[tuple[Diagnosis, Array]]:
    kind = session.dialect.parameterization
    declared = session.dialect.loss_reduction
    targets = target_of(session, found)
    error = found.output - targets[kind]
    for name, reduce in REDUCTIONS.items():
        yield (
            Diagnosis(
                "convention",
                f"the reduction is {name}",
                dialect=session.dialect.but(loss_reduction=name),
                also=("loss-weight",),
            ),
            reduce(error),
        )
    yield (
        Diagnosis("sign", "the error is output + target"),
        REDUCTIONS[declared](found.output + targets[kind]),
    )
    for other, target in targets.items():
        if other != kind:
            words = f"the target is {other}, not {kind}"
            dialect = session.dialect.but(parameterization=other)
            for reduce in REDUCTIONS.values():
                yield (
                    Diagnosis("parameterization", words, dialect=dialect, also=("convention", "loss-weight")),
                    reduce(found.output - target),
                )
    mean = (error**2).mean(1)
    yield Diagnosis("loss-weight", "the root of the mean squared error", also=("sqrt",)), np.sqrt(mean)
    yield (
        Diagnosis("loss-weight", "the root of the summed squared error", also=("sqrt",)),
        np.sqrt((error**2).sum(1)),
    )
    yield Diagnosis("loss-weight", "the mean absolute error, not its square"), np.abs(error).mean(1)
    yield Diagnosis("loss-weight", "the summed absolute error, not its square"), np.abs(error).sum(1)
    yield (
        Diagnosis("loss-weight", "the square of the mean error, not the mean of squares"),
        error.mean(1) ** 2,
    )
    yield (
        Diagnosis("loss-weight", "the mean over the batch for every sample", also=("state-broadcast",)),
        np.full(len(mean), mean.mean()),
    )
    yield from _by_axes(error)
    huber = np.where(np.abs(error) < 1, 0.5 * error**2, np.abs(error) - 0.5)
    yield Diagnosis("loss-weight", "the Huber loss, not the squared error"), huber.mean(1)
    for name, weight in weights(session, found.t).items():
        for reduction, reduce in REDUCTIONS.items():
            yield (
                Diagnosis(
                    "loss-weight",
                    f"{reduction} of squared errors weighted by {name}, where no weight is declared",
                ),
                weight * reduce(error),
            )
            yield (
                Diagnosis(
                    "loss-weight",
                    f"{reduction} of squared errors, each weighted by the batch's mean of {name}: broadcast",
                    also=("state-broadcast",),
                ),
                weight.mean() * reduce(error),
            )


def _by_axes(error: Array) -> Iterator[tuple[Diagnosis, Array]]:
    """One axis of a sample averaged and the others summed, and the reverse, where there are several."""
    if error.shape[1] != int(np.prod(LAYOUTS[-1])):
        return
    square = error.reshape(-1, *LAYOUTS[-1]) ** 2
    for axis, which in ((3, "last"), (1, "first")):
        others = tuple(other for other in (1, 2, 3) if other != axis)
        for words, form in (
            (f"a mean over the {which} axis, a sum over the others", square.sum(others).mean(1)),
            (f"a sum over the {which} axis, a mean over the others", square.mean(others).sum(1)),
        ):
            yield Diagnosis("loss-weight", words, also=("state-broadcast",)), form


def weights(session: Session, t: Array) -> dict[str, Array]:
    """Weights that losses are given."""
    at = symbols(session, t)
    abar, beta, alpha, tilde = at["abar_t"], at["beta_t"], at["alpha_t"], at["beta_tilde"]
    with np.errstate(all="ignore"):
        snr = abar / (1 - abar)
        capped = np.minimum(snr, 5.0)
        found = {
            "SNR": snr, "1/SNR": 1 / snr, "min(SNR, 5)": capped, "min(SNR, 5)/SNR": capped / snr,
            "min(SNR, 5)/(SNR + 1)": capped / (snr + 1), "1 - ᾱ_t": 1 - abar, "1/(1 - ᾱ_t)": 1 / (1 - abar),
            "√(1 - ᾱ_t)": np.sqrt(1 - abar), "1/√(1 - ᾱ_t)": 1 / np.sqrt(1 - abar),
            "ᾱ_t": abar, "1/ᾱ_t": 1 / abar,
            "β_t": beta, "1/β_t": 1 / beta, "SNR + 1": snr + 1, "√SNR": np.sqrt(snr), "t/T": t / session.T,
            "β_t²/(2β̃_t α_t (1 - ᾱ_t))": beta**2 / (2 * tilde * alpha * (1 - abar)),
            "β_t²/(2β_t α_t (1 - ᾱ_t))": beta**2 / (2 * beta * alpha * (1 - abar)),
            "√ᾱ_t/(2(1 - ᾱ_t))": np.sqrt(abar) / (2 * (1 - abar)),
        }  # fmt: skip
    return {name: value for name, value in found.items() if np.isfinite(value).all()}


def _weight(session: Session, found: Asked, want: Array) -> Diagnosis:
    with np.errstate(all="ignore"):
        ratio = found.value / want
    if not np.isfinite(ratio).all():
        return Diagnosis("loss-weight", "the loss is not finite at every level")
    if np.ptp(ratio) <= CONSTANT * np.abs(ratio).max():
        return Diagnosis("loss-weight", f"the right loss times {ratio[0]:.9g}")
    mean = found.value.mean() / want.mean()
    message = (
        f"the ratio to the right loss runs from {ratio.min():.4g} to {ratio.max():.4g} (of sums: {mean:.4g})"
    )
    return Diagnosis("loss-weight", f"no known weight fits: {message}")


def independent(session: Session, port: str, family: str) -> Finding:
    """The loss of a sample does not depend on the samples beside it."""
    found = asked(session, port)
    if found.shape != (len(found.t),):
        raise NotApplicable("one number a sample is wanted")
    if found.alone:
        return Finding(True, "asked one sample at a time")
    keep = slice(1, 4) if len(found.t) >= 4 else slice(0, len(found.t))
    rows = [
        torch.as_tensor(value[keep].reshape(-1, 3 if value.shape[1] == 3 else value.shape[1]))
        for value in (found.x0, found.noise, found.output)
    ]
    layout = LAYOUTS[0] if found.x0.shape[1] == 3 else LAYOUTS[1]
    x0, noise, output = (value.reshape(-1, *layout) for value in rows)
    levels = torch.as_tensor(found.t[keep] + session.dialect.index_origin - 1)
    model = FixedModel(output, session)
    call = session.caller(
        port,
        {"model": model, "x0": x0, "t": levels, "noise": noise},
        lambda number, shape: noise if shape == tuple(noise.shape) else torch.zeros(shape),
    )
    got = numbers(call.value).values.numpy()
    if got.shape != (len(x0),):
        return fail("state-broadcast", f"a batch of {len(x0)} gives shape {got.shape}")
    both = np.isnan(got) & np.isnan(found.value[keep])
    gap = np.max(np.where(both, 0, np.abs(got - found.value[keep]) / (1e-300 + np.abs(found.value[keep]))))
    if not gap <= ROUNDINGS * UNIT["float32"]:
        return fail(
            family,
            "a sample's value depends on the samples beside it: broadcast or averaged over the batch",
            also=("state-broadcast",),
        )
    return Finding(True)


@check("loss.reduction")
def loss_reduction(session: Session) -> Finding:
    """One number a sample."""
    return shape(session, "loss")


@check("loss.input")
def loss_input(session: Session) -> Finding:
    """The model is asked about x_t at t."""
    return asks(session, "loss", "loss-weight")


@check("loss.value")
def loss_value(session: Session) -> Finding:
    """The declared reduction of the squared error."""
    return value(session)


@check("loss.batch_independence")
def loss_batch_independence(session: Session) -> Finding:
    """A sample's loss is its own."""
    return independent(session, "loss", "loss-weight")


@check("vlb_term.reduction")
def vlb_reduction(session: Session) -> Finding:
    """One number a sample."""
    return shape(session, "vlb_term")


@check("vlb_term.input")
def vlb_input(session: Session) -> Finding:
    """The model is asked about x_t at t."""
    return asks(session, "vlb_term", "likelihood")


@check("vlb_term.batch_independence")
def vlb_batch_independence(session: Session) -> Finding:
    """A sample's term is its own."""
    return independent(session, "vlb_term", "loss-weight")


@check("vlb_term.value")
def vlb_value(session: Session) -> Finding:
    """KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) in nats, summed over dimensions, for t above 1."""
    found = asked(session, "vlb_term")
    if found.shape != (len(found.t),):
        raise NotApplicable("see vlb_term.reduction")
    if session.dialect.variance.startswith("learned"):
        raise NotApplicable("the variance is learned")
    above = found.t > 1
    error = _eps_error(session, found)
    at = symbols(session, found.t)
    want = _kl(error, at, at["beta_tilde"] if session.dialect.variance == "beta_tilde" else at["beta_t"])
    with np.errstate(all="ignore"):
        size = _kl_size(found, error, at, want)
        scale = ROUNDINGS * UNIT["float32"] * size
        ratio = np.abs(found.value - want)[above] / scale[above]
    kept = precision(session, found, found.value[above], want[above], size[above])
    worst = int(np.flatnonzero(above)[np.argmax(ratio)])
    fields: dict[str, Any] = {
        "error": abs(float(found.value[worst] - want[worst])), "tolerance": float(scale[worst]),
        "worst": {"t": int(found.t[worst])},
        "got": float(found.value[worst]), "wanted": float(want[worst]), "asked": "vlb_term of one sample",
    }  # fmt: skip
    if kept is not None:
        return Finding(True, precision=kept, **fields)
    for diagnosis, guess in _terms(session, found, error, at, want):
        with np.errstate(all="ignore"):
            ratio = (np.abs(found.value - guess) / (scale * (1 + np.abs(guess / want))))[above]
        if np.isfinite(ratio).all() and ratio.max() <= 1:
            return Finding(False, "", diagnosis, **fields)
    with np.errstate(all="ignore"):
        ratio = (found.value / want)[above]
    if np.isfinite(ratio).all() and np.ptp(ratio) <= CONSTANT * np.abs(ratio).max():
        return fail("likelihood", f"the right term times {ratio[0]:.9g}", also=("loss-weight",), **fields)
    message = f"the ratio to the right term runs from {ratio.min():.4g} to {ratio.max():.4g}"
    return fail("likelihood", f"no known mistake fits: {message}", also=("loss-weight",), **fields)


def _eps_error(session: Session, found: Asked) -> Array:
    """The error of the model's eps."""
    at = symbols(session, found.t)
    root, rest = np.sqrt(at["abar_t"])[:, None], np.sqrt(1 - at["abar_t"])[:, None]
    gap = found.output - target_of(session, found)[session.dialect.parameterization]
    factor = {"eps": 1.0, "x_0": root / rest, "v": root, "score": rest}[session.dialect.parameterization]
    return np.asarray(gap * factor)


def _kl_size(found: Asked, error: Array, at: dict[str, Array], want: Array) -> Array:
    """By how many units a term may be off: its parts, and what tables leave of beta and 1 - alpha_bar."""
    tables = 1 / at["beta_t"] + 1 / (1 - at["abar_s"]) + blur(at, found.t)
    logs = np.abs(np.log(at["beta_tilde"])) + np.abs(np.log(at["beta_t"])) + 1
    # the means differ by c times the error of eps, and each is as large as x_t
    c = at["beta_t"] / np.sqrt(at["alpha_t"] * (1 - at["abar_t"]))
    parts = np.abs(found.output) + np.abs(found.noise) + np.abs(found.x0)
    spread = np.where(error.any(1), (np.abs(error) * parts).sum(1) / (c * (error**2).sum(1)), 0.0)
    terms = error.shape[1]
    return np.asarray(np.abs(want) * (tables + 2 * spread + terms / ROUNDINGS) + terms * logs)


def _kl(error: Array, at: dict[str, Array], variance: Array) -> Array:
    with np.errstate(all="ignore"):
        c2 = at["beta_t"] ** 2 / (at["alpha_t"] * (1 - at["abar_t"]))
        ratio = at["beta_tilde"] / variance
        apart = error.shape[1] * (ratio - 1 - np.log(ratio)) / 2
        return np.asarray(c2 * (error**2).sum(1) / (2 * variance) + np.where(ratio == 1, 0.0, apart))


def _terms(
    session: Session, found: Asked, error: Array, at: dict[str, Array], want: Array
) -> Iterator[tuple[Diagnosis, Array]]:
    D, beta, tilde = error.shape[1], at["beta_t"], at["beta_tilde"]
    plain = (error**2).sum(1)
    with np.errstate(all="ignore"):
        weight = want / plain
        c2 = beta**2 / (at["alpha_t"] * (1 - at["abar_t"]))
        above = np.isfinite(weight)
        average = weight[above].mean()
        yield Diagnosis("likelihood", "the mean over dimensions; a log-likelihood is their sum"), want / D
        yield Diagnosis("likelihood", "bits, not nats"), want / np.log(2)
        yield Diagnosis("likelihood", "bits for each dimension, not nats"), want / np.log(2) / D
        yield (
            Diagnosis("likelihood", "the sign is flipped: log-likelihood, not its negative", also=("sign",)),
            -want,
        )
        yield Diagnosis("likelihood", "the factor 1/2 is missing", also=("loss-weight",)), 2 * want
        yield Diagnosis("likelihood", "half of the term", also=("loss-weight",)), want / 2
        yield (
            Diagnosis(
                "loss-weight",
                "weights of the batch are averaged: (B, 1) against (B,)",
                also=("state-broadcast",),
            ),
            average * plain,
        )
        yield Diagnosis("loss-weight", "the unweighted error", also=("likelihood",)), plain
        yield Diagnosis("loss-weight", "the unweighted mean error", also=("likelihood",)), plain / D
        declared = beta if session.dialect.variance == "beta" else tilde
        if session.dialect.variance != "beta_tilde":
            words = "the KL leaves out the logarithm and the ratio of the variances"
            yield Diagnosis("likelihood", words), c2 * plain / (2 * declared)
            yield (
                Diagnosis("likelihood", "the KL leaves out the logarithm of the variances"),
                want + D * np.log(tilde / declared) / 2,
            )
            yield (
                Diagnosis("likelihood", "the KL leaves out the ratio of the variances"),
                want - D * tilde / declared / 2,
            )
            yield Diagnosis("likelihood", "the KL leaves out its -1"), want + D / 2
        for name, variance in (
            ("β_t", beta),
            ("β̃_t", tilde),
            ("1 - ᾱ_t", 1 - at["abar_t"]),
            ("√β̃_t", np.sqrt(tilde)),
            ("√β_t", np.sqrt(beta)),
            ("β̃_t²", tilde**2),
        ):
            family = "sqrt" if "√" in name or "²" in name else "variance"
            also = ("likelihood", "loss-weight")
            for words, form in (
                ("", c2 * plain / (2 * variance)),
                (" and the factor 1/2 is missing", c2 * plain / variance),
            ):
                yield (
                    Diagnosis(
                        family, f"the squared difference of means is divided by {name}{words}", also=also
                    ),
                    form,
                )
                yield (
                    Diagnosis(
                        family,
                        f"the squared difference of means is divided by {name}{words}; mean over dimensions",
                        also=also,
                    ),
                    form / D,
                )
            yield (
                Diagnosis("variance", f"the KL to a step of variance {name}", also=also),
                _kl(error, at, variance),
            )
        yield (
            Diagnosis("likelihood", "the arguments of the KL are swapped", also=("sign",)),
            _swapped_kl(error, at, beta),
        )
        for name, other in weights(session, found.t).items():
            yield Diagnosis("loss-weight", f"weighted by {name}", also=("likelihood",)), other * plain
            yield (
                Diagnosis("loss-weight", f"weighted by {name}, mean over dimensions", also=("likelihood",)),
                other * plain / D,
            )


def _swapped_kl(error: Array, at: dict[str, Array], variance: Array) -> Array:
    c2 = at["beta_t"] ** 2 / (at["alpha_t"] * (1 - at["abar_t"]))
    ratio = variance / at["beta_tilde"]
    return np.asarray(
        c2 * (error**2).sum(1) / (2 * at["beta_tilde"]) + error.shape[1] * (ratio - 1 - np.log(ratio)) / 2
    )
