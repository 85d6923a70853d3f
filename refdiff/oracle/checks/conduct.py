"""How the affine ports behave: noise, affinity, independence of the batch, inputs, dtype."""

from __future__ import annotations

from functools import partial

import numpy as np

from refdiff.oracle import clipping, formulas
from refdiff.oracle.calls import TargetError
from refdiff.oracle.checks.affine import measured, outcome
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.expected import UNIT
from refdiff.oracle.probe import MODES, Probe, probe
from refdiff.oracle.session import Session

FLOATS = ("float64", "float32", "float16", "bfloat16")


def answered(session: Session, name: str) -> Probe:
    """A port's coefficients, or the error that it answered every point with."""
    found = measured(session, name)
    if len(found.errors) == len(found.points):
        raise next(iter(found.errors.values()))
    return found


def noise_count(session: Session, name: str) -> Finding:
    """A step uses one noise: the argument, or one Gaussian draw; other ports draw none."""
    found = answered(session, name)
    port = formulas.PORTS[name]
    ok = found.answered
    if found.others:
        return fail("state-broadcast", f"draws that are not Gaussian noise: {', '.join(found.others)}")
    if found.odd_draws:
        shape = found.odd_draws[0]
        return fail("state-broadcast", f"a noise of shape {shape} is shared by rows that must be independent")
    if port.noise is None:
        if found.draws:
            return fail("noise-at-t0", f"draws {found.draws} noise(s), wanted none")
        return Finding(True, "draws nothing")
    used = [bool(np.any(np.nan_to_num(row[ok]) != 0)) for row in found.drawn]
    argued = bool(np.any(np.nan_to_num(found.argued[ok]) != 0))
    if found.draws > 1 or sum(used) + argued > 1:
        what = f"{found.draws} Gaussian draw(s)" + (" and the noise argument" if argued else "")
        return fail("variance", f"uses {what}: independent noises add up, one is wanted")
    if found.draws and argued:
        return fail("state-broadcast", "uses the noise argument and still draws from the random state")
    return Finding(True, "one draw of its own" if found.draws else "the noise argument, no draw")


def linearity(session: Session, name: str) -> Finding:
    """Affine: zeros give zero, and generic large values give what the coefficients say."""
    from refdiff.oracle import diagnose

    found = answered(session, name)
    if session.dialect.clip is not None:
        return _clipped_as_declared(session, name, found)
    ok = found.answered & np.isfinite(found.values).all(0)
    if not ok.any():
        raise NotApplicable("no point has finite coefficients")
    unit = UNIT["float32"] if "float64" not in (found.dtype, session.dialect.dtype) else UNIT["float64"]
    if session.dialect.dtype == "float32" or found.dtype == "float32":
        unit = UNIT["float32"]
    tolerance = 1e4 * unit
    offset = float(np.max(found.offset[ok]))
    index = int(np.argmax(np.where(ok, found.curvature, -1.0)))
    error = float(found.curvature[index])
    if offset > 0:
        point = found.points.describe(int(np.argmax(np.where(ok, found.offset, -1.0))))
        return fail(
            "sign", f"zeros give {offset:.3g} instead of 0: something is added", worst=point, error=offset
        )
    if not error <= tolerance:
        return diagnose.not_affine(session, name, found, index, tolerance)
    return Finding(True, error=error, tolerance=tolerance)


def _clipped_as_declared(session: Session, name: str, found: Probe) -> Finding:
    bound = session.dialect.clip
    testable = bound is not None and name in clipping.CLIPPED and session.dialect.space == "vp"
    if bound is not None and testable and not clipping.fits(session, name, found, bound):
        message = f"x_0 is not clipped to [-{bound:g}, {bound:g}], as is declared"
        return fail("data-scaling", message, also=("convention",))
    return Finding(
        True, f"x_0 is clipped to [-{bound}, {bound}] as declared; coefficients are those of small states"
    )


def batch_independence(session: Session, name: str) -> Finding:
    """The answer for a row does not depend on the rows beside it."""
    found = answered(session, name)
    _, _, want, _ = outcome(session, name)
    spread = np.where(found.answered & np.isfinite(want.values), found.spread, 0.0)
    unit = UNIT["float32"] if "float32" in (found.dtype, session.dialect.dtype) else UNIT["float64"]
    limit = np.maximum(64 * unit * (want.local.astype(float) + np.abs(found.values)), np.finfo(float).tiny)
    if bool((np.nan_to_num(spread) > limit).any()):
        return fail(
            "state-broadcast",
            "a coefficient differs between the dimensions of one sample: broadcast along the wrong axis",
        )
    port = formulas.PORTS[name]
    index = np.flatnonzero(found.answered)
    few = found.points.pick(index[:: max(1, len(index) // 6)])
    if found.mode == MODES[0]:
        alone = probe(session.caller, port, few, batched=False, **_part(name))
        difference = _difference(found.values[:, index[:: max(1, len(index) // 6)]], alone)
        scale = limit[:, index[:: max(1, len(index) // 6)]]
        if alone.errors and len(alone.errors) < len(few):
            raise next(iter(alone.errors.values()))
        if bool((difference > scale).any()):
            return _dependent(session, name, alone)
    square = _square(session, name)
    if square is not None:
        return square
    return Finding(True)


def _part(name: str) -> dict[str, int]:
    return {"part": 0} if name == "q_posterior" else {}


def _difference(together: np.ndarray, alone: Probe) -> np.ndarray:
    gap = np.abs(together - alone.values)
    both = np.isnan(together) & np.isnan(alone.values)
    unanswered = ~alone.answered[None, :]
    return np.where(both | unanswered, 0.0, np.where(np.isnan(gap), np.inf, gap))


def _dependent(session: Session, name: str, alone: Probe) -> Finding:
    return fail(
        "state-broadcast",
        "rows of a batch with different levels do not get what they get alone: another row's level is used",
        dialect=session.dialect.but(batched_t=False),
        also=("convention",),
    )


def _square(session: Session, name: str) -> Finding | None:
    """As many rows as dimensions, the case in which a (B,) coefficient broadcasts in silence."""
    import torch

    found = answered(session, name)
    if found.mode != MODES[0] or not session.dialect.batched_t:
        return None
    port = formulas.PORTS[name]
    index = np.flatnonzero(found.answered & np.isfinite(found.values).all(0))[-6:]
    if len(index) < 2:
        return None
    return None if torch is None else _square_case(session, name, port, found, index)


def _square_case(
    session: Session, name: str, port: formulas.Port, found: Probe, index: np.ndarray
) -> Finding | None:
    import torch

    from refdiff.oracle.calls import numbers
    from refdiff.oracle.probe import level, widened

    scalars = {key: value[index] for key, value in found.points.scalars.items()}
    keep = np.array([all(value[i] == value[-1] for value in scalars.values()) for i in range(len(index))])
    index = index[keep]
    points = found.points.pick(index)
    size = len(index)
    given: dict[str, object] = {}
    total = np.zeros((size, size))
    row = 0
    for arg in port.arguments:
        if arg in ("t", "s"):
            given[arg] = level(session.dialect.index_origin, points.t if arg == "t" else points.s, MODES[0])
        elif arg in port.states:
            block = torch.tensor(
                [[2.0 ** ((i + 2 * j + row) % 3 - 14) for j in range(size)] for i in range(size)]
            )
            given[arg] = block.double()
            if arg != port.noise or np.any(np.nan_to_num(found.argued) != 0):
                total += found.values[row, index][:, None] * block.double().numpy()
            row += 1
        else:
            given[arg] = float(points.scalars[arg][0])
    call = session.caller(name, widened(given, port, points, np.arange(size), session.caller))
    value = call.value[0] if name == "q_posterior" else call.value
    try:
        got = numbers(value).values.numpy()
    except TargetError:
        return None
    if got.shape != total.shape:
        return fail("state-broadcast", f"answer to ({size}, {size}) has shape {got.shape}")
    unit = UNIT["float32"] if "float32" in (found.dtype, session.dialect.dtype) else UNIT["float64"]
    scale = 1e4 * unit * (np.abs(total) + np.abs(found.values[:, index]).sum(0)[:, None])
    if bool((np.abs(got - total) > scale).any()) and session.dialect.clip is None:
        return fail(
            "state-broadcast", "with as many rows as dimensions a row's coefficient lands on a column"
        )
    return None


def inputs_unchanged(session: Session, name: str) -> Finding:
    """A call does not change its arguments."""
    found = answered(session, name)
    if found.mutated:
        return fail("state-broadcast", f"changes its argument {', '.join(found.mutated)} in place")
    return Finding(True)


def dtype(session: Session, name: str) -> Finding:
    """The answer has the dtype of the states."""
    found = answered(session, name)
    declared = session.dialect.dtype
    if found.dtype == declared:
        return Finding(True, found.dtype)
    if found.dtype == "float64":
        return Finding(True, f"{declared} in, float64 out", precision="float64")
    if found.dtype == "float32":
        return fail(
            "convention",
            "float64 in, float32 out: works in single precision",
            dialect=session.dialect.but(dtype="float32"),
            also=("precision",),
            got=found.dtype,
            wanted=declared,
        )
    family = "precision" if found.dtype in FLOATS else "state-broadcast"
    return fail(family, f"{declared} in, {found.dtype} out", got=found.dtype, wanted=declared)


_PROPERTIES = (noise_count, linearity, batch_independence, inputs_unchanged, dtype)
for _name in formulas.PORTS:
    for _property in _PROPERTIES:
        check(f"{_name}.{_property.__name__}", _name)(partial(_property, name=_name))
