"""Energies: their gradient against the score of the same target, and the contrastive loss between two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refdiff.oracle.calls import TargetError, numbers
from refdiff.oracle.checks.questions import Guess, Question, flat, generic, question
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.checks.scores import batch_means
from refdiff.oracle.expected import ROUNDINGS, ROUNDOFF, UNIT
from refdiff.oracle.report import Diagnosis, agreement
from refdiff.oracle.session import Session

Array = NDArray[Any]
# an energy of the target's own has a number of dimensions of its own
LAYOUTS: tuple[tuple[int, ...], ...] = ((2,), (3,), (1,), (2, 3, 5))
ROWS = 5
PICKS = (np.array([3, 1]), np.array([2]))
# central differences of the eighth and of the sixth order
STEP = 2.0**-6
EIGHTH = (4 / 5, -1 / 5, 4 / 105, -1 / 280)
SIXTH = (3 / 4, -3 / 20, 1 / 60, 0.0)


@dataclass
class Asked:
    """What a port answers for some points."""

    x: Tensor
    got: Array
    dtype: str
    mutated: tuple[str, ...]


def asked(session: Session, port: str) -> Asked:
    """The answer for a few points, in the first number of dimensions that the target takes."""
    return session.once(("energy", port), lambda: _asked(session, port))  # type: ignore[no-any-return]


def _asked(session: Session, port: str) -> Asked:
    failure: TargetError | None = None
    for layout in LAYOUTS:
        try:
            return _call(session, port, generic(session, 51, layout, np.arange(ROWS)))
        except TargetError as error:
            failure = failure or error
            if error.kind == "timeout":
                break
    assert failure is not None
    raise failure


def _call(session: Session, port: str, x: Tensor) -> Asked:
    call = session.caller(port, {"x": x})
    found = numbers(call.value)
    if call.tape.shapes:
        raise TargetError("type", f"{port} draws noise", "state-broadcast")
    return Asked(x, found.values.numpy(), found.dtype, call.mutated)


def _shape(found: Asked, want: tuple[int, ...]) -> Finding:
    if found.got.shape == want:
        return Finding(True)
    fields: dict[str, Any] = {"got": list(found.got.shape), "wanted": list(want)}
    if found.got.shape in ((), (1,)):
        return fail("state-broadcast", "one number for the whole batch, wanted one a sample", **fields)
    if found.got.shape == (*want, 1):
        words = "(B, 1) numbers: they would be broadcast against (B,)"
        return fail("state-broadcast", words, **fields)
    return fail("state-broadcast", f"shape {found.got.shape}, wanted {want}", **fields)


@check("energy.shape")
def energy_shape(session: Session) -> Finding:
    """One number a sample."""
    return _shape(asked(session, "energy"), (ROWS,))


@check("energy_score.shape")
def score_shape(session: Session) -> Finding:
    """The shape of the points."""
    found = asked(session, "energy_score")
    return _shape(found, tuple(found.x.shape))


def _independent(session: Session, port: str) -> Finding:
    found = asked(session, port)
    if found.got.shape[:1] != (ROWS,):
        raise NotApplicable(f"see {port}.shape")
    unit = _unit(session, found)
    for pick in PICKS:
        part = _call(session, port, found.x[torch.as_tensor(pick)]).got
        want = found.got[pick]
        if part.shape != want.shape:
            return fail("state-broadcast", f"a batch of {len(pick)} gives shape {part.shape}")
        slack = 16 * ROUNDINGS * unit * (np.abs(want) + np.abs(found.got).max())
        if not bool((np.abs(part - want) <= slack).all()):
            words = "a row's answer depends on the rows beside it: a mean or a sum over the batch"
            return fail("state-broadcast", words, worst={"rows": len(pick)})
    return Finding(True)


def _unit(session: Session, *found: Asked) -> float:
    single = session.dialect.dtype == "float32" or any(one.dtype == "float32" for one in found)
    return UNIT["float32" if single else "float64"]


@check("energy.batch_independence")
def energy_independent(session: Session) -> Finding:
    """The energy of a row is its own."""
    return _independent(session, "energy")


@check("energy_score.batch_independence")
def score_independent(session: Session) -> Finding:
    """The score of a row is its own."""
    return _independent(session, "energy_score")


@check("energy.inputs_unchanged")
def energy_inputs(session: Session) -> Finding:
    """A call does not change its argument."""
    return _unchanged(session, "energy")


@check("energy_score.inputs_unchanged")
def score_inputs(session: Session) -> Finding:
    """A call does not change its argument."""
    return _unchanged(session, "energy_score")


def _unchanged(session: Session, port: str) -> Finding:
    if asked(session, port).mutated:
        return fail("state-broadcast", "changes its argument x in place")
    return Finding(True)


def gradient(session: Session, x: Tensor) -> tuple[Array, Array, str]:
    """The gradient of the target's energy, what rounding explains of it, and how it was found."""
    energies = asked(session, "energy")
    exact = _by_autograd(session, x)
    if exact is not None:
        scale = np.abs(exact).max() + np.abs(energies.got).max()
        unit = _unit(session, energies)
        return exact, np.full(exact.shape, ROUNDINGS * unit * scale), "autograd"
    return (*_by_differences(session, x), "central differences")


def _by_autograd(session: Session, x: Tensor) -> Array | None:
    if session.dialect.backend != "torch":
        return None
    leaf = x.clone().requires_grad_()
    try:
        energy = session.caller("energy", {"x": leaf}).value
    except TargetError:
        return None
    if not isinstance(energy, Tensor) or not energy.requires_grad:
        return None
    (found,) = torch.autograd.grad(energy.double().sum(), leaf, allow_unused=True)
    return None if found is None else found.numpy()


def _by_differences(session: Session, x: Tensor) -> tuple[Array, Array]:
    D = x[0].numel()
    points = x.reshape(ROWS, 1, 1, 1, D)
    units = torch.eye(D, dtype=torch.float64).reshape(1, D, 1, 1, D)
    shifts = STEP * torch.arange(1, 5, dtype=torch.float64).reshape(1, 1, 4, 1, 1)
    sides = torch.tensor([1.0, -1.0], dtype=torch.float64).reshape(1, 1, 1, 2, 1)
    there = (points + units * shifts * sides).reshape(-1, *x.shape[1:])
    found = _call(session, "energy", there)
    values = found.got.reshape(ROWS, D, 4, 2)
    apart = values[..., 0] - values[..., 1]
    fine, coarse = (np.einsum("rdk,k->rd", apart, np.array(c)) / STEP for c in (EIGHTH, SIXTH))
    unit = UNIT["float32"] if _unit(session, found) == UNIT["float32"] else ROUNDOFF
    error = np.abs(fine - coarse) + 8 * unit * np.abs(values).max() / STEP
    return fine.reshape(x.shape), ROUNDINGS * error.reshape(x.shape)


@check("energy_score.gradient", "energy", "energy_score")
def score_is_gradient(session: Session) -> Finding:
    """The score is minus the gradient of the energy (or the gradient of the log-density)."""
    found, energies = asked(session, "energy_score"), asked(session, "energy")
    if energies.got.shape != (ROWS,) or found.got.shape != tuple(found.x.shape):
        raise NotApplicable("see energy.shape and energy_score.shape")
    if energies.x.shape != found.x.shape:
        raise NotApplicable("the energy and the score take different numbers of dimensions")
    grad, slack, how = gradient(session, found.x)
    sign = 1.0 if session.dialect.energy_sign == "log_density" else -1.0
    want = sign * grad
    if _unit(session, found) == UNIT["float32"]:
        slack = np.maximum(
            slack, ROUNDINGS * UNIT["float32"] * (np.abs(want).max() + np.abs(energies.got).max())
        )
    error = np.abs(found.got - want)
    error = np.where(np.isnan(error), np.inf, error)
    worst = np.unravel_index(int(np.argmax(error / slack)), error.shape)
    got, wanted = float(found.got[worst]), float(want[worst])
    digits, ulps = agreement(got, wanted, ROUNDOFF)
    fields: dict[str, Any] = {
        "error": float(error[worst]),
        "tolerance": float(slack[worst]),
        "worst": {"row": int(worst[0])},
        "got": got,
        "wanted": wanted,
        "digits": digits,
        "ulps": ulps,
        "asked": f"energy_score, against {how}",
    }
    if (error <= slack).all():
        return Finding(True, f"against {how}", **fields)
    return Finding(False, "", _not_gradient(session, found.got, want, energies.got), **fields)


def _not_gradient(session: Session, got: Array, want: Array, energy: Array) -> Diagnosis:
    rows = (-1, *[1] * (want.ndim - 1))
    sign = 1.0 if session.dialect.energy_sign == "log_density" else -1.0
    size = np.sqrt((want**2).reshape(len(want), -1).sum(1)).reshape(rows)
    density = np.exp(sign * energy - (sign * energy).max()).reshape(rows)
    other = "log_density" if session.dialect.energy_sign == "energy" else "energy"
    flipped = session.dialect.but(energy_sign=other)
    with np.errstate(all="ignore"):
        guesses = (
            (Diagnosis("sign", "the score has the wrong sign: it climbs the energy", dialect=flipped), -want),
            (
                Diagnosis("state-broadcast", "the gradient of the batch's mean: divided by the rows"),
                want / ROWS,
            ),
            (Diagnosis("parameterization", "the score is normalised to length one"), want / size),
            (Diagnosis("parameterization", "the signs of the score alone"), np.sign(want)),
            (
                Diagnosis("parameterization", "the score is multiplied by the energy"),
                want * energy.reshape(rows),
            ),
        )
        for diagnosis, guess in guesses:
            if _near(got, guess):
                return diagnosis
        ratio = got / want
        if np.isfinite(ratio).all() and np.ptp(ratio) <= 1e-6 * np.abs(ratio).max():
            words = (
                f"the right score times {ratio.flat[0]:.9g}: a temperature of {1 / ratio.flat[0]:.6g} in it"
            )
            return Diagnosis("parameterization", words)
        weight = ratio / density
        if np.isfinite(weight).all() and np.ptp(weight) <= 1e-6 * np.abs(weight).max():
            words = "the gradient of the density, not of its logarithm"
            return Diagnosis("parameterization", words, also=("likelihood",))
        if np.ptp(got - want) <= 1e-6 * np.abs(got - want).max():
            words = f"the right score and {(got - want).flat[0]:.6g} more"
            return Diagnosis("parameterization", words)
    return Diagnosis(
        "parameterization", "the score is not the gradient of this energy: no known mistake fits"
    )


def _near(got: Array, guess: Array) -> bool:
    with np.errstate(all="ignore"):
        return bool((np.abs(got - guess) <= 1e-6 * (np.abs(guess) + np.abs(guess).max())).all())


class Quadratic:
    """An energy with a minimum away from zero, in any array library."""

    def __init__(self, session: Session, D: int, layout: tuple[int, ...]) -> None:
        self.session, self.layout = session, layout
        self.stiff = 0.5 + np.arange(D) / 4
        self.seen = 0

    def value(self, x: Array) -> Array:
        """(B, D) -> (B,)."""
        return np.asarray((self.stiff * (x - 0.25) ** 2).sum(1) / 2)

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        self.seen += 1
        stiff = self.session.caller.outgoing(torch.as_tensor(self.stiff))
        if isinstance(x, Tensor):
            stiff = stiff.to(x.dtype)
        rows = x.reshape(*x.shape[: x.ndim - len(self.layout)], -1)
        return (stiff * (rows - 0.25) ** 2).sum(-1) / 2


@question("contrastive_loss")
def contrastive(session: Session, layout: tuple[int, ...], pick: Array) -> Question:
    """E(data) - E(negatives), a pair: descending it lowers the energy of data."""
    x_pos, x_neg = generic(session, 52, layout, pick), generic(session, 53, layout, pick)
    energy = Quadratic(session, int(np.prod(layout)), layout)
    pos, neg = energy.value(flat(x_pos)), energy.value(flat(x_neg))
    sign = 1.0 if session.dialect.energy_sign == "energy" else -1.0
    want = sign * (pos - neg)

    def guesses() -> Iterator[Guess]:
        with np.errstate(all="ignore"):
            found = (
                ("sign", "E(negatives) - E(data): minimising it raises the energy of data", -want),
                ("sign", "the energies are added", pos + neg),
                ("loss-weight", "the energy of data alone: nothing raises the energy elsewhere", sign * pos),
                ("loss-weight", "minus the energy of the negatives alone", -sign * neg),
                ("loss-weight", "squared", want**2),
                ("loss-weight", "the absolute difference", np.abs(want)),
                ("loss-weight", "half of it", want / 2),
                ("loss-weight", "softplus of it", np.log1p(np.exp(want))),
                ("loss-weight", "a hinge of it", np.maximum(want, 0)),
                ("loss-weight", "a hinge of it with margin 1", np.maximum(1 + want, 0)),
                ("loss-weight", "the energies are squared", sign * (pos**2 - neg**2)),
                ("likelihood", "the difference of exp(-E), not of E", np.exp(-pos) - np.exp(-neg)),
                (
                    "likelihood",
                    "a softmax of the pair: two classes, not two phases",
                    np.log(np.exp(-pos) + np.exp(-neg)) + pos,
                ),
            )
            other = "log_density" if session.dialect.energy_sign == "energy" else "energy"
            flipped = session.dialect.but(energy_sign=other)
            for family, words, form in found:
                dialect = flipped if form is found[0][2] else None
                yield Diagnosis(family, words, dialect=dialect, also=("sign",)), np.asarray(form)
        for weight in (1.0, 0.1, 0.01, 0.001, 0.0001):
            words = f"a regulariser of the energies is added: {weight:g} (E(data)² + E(negatives)²)"
            yield Diagnosis("loss-weight", words), want + weight * (pos**2 + neg**2)
        yield from batch_means(want)
        yield (
            Diagnosis("state-broadcast", "each sample of data against the mean of the negatives"),
            sign * (pos - neg.mean()),
        )

    given = {"energy": energy, "x_pos": x_pos, "x_neg": x_neg}
    return Question(given, want, pos + neg, "loss-weight", guesses)
