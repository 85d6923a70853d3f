"""Consistency models and variational diffusion: boundary, scalings, the multistep sampler, gamma."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refdiff.oracle.calls import shaped
from refdiff.oracle.checks.forms import ALSO, alternatives, form, told
from refdiff.oracle.checks.questions import Answer, Guess, Question, decide, generic
from refdiff.oracle.checks.registry import Finding, NotApplicable, check, fail
from refdiff.oracle.continuum import TIMES, At, incoming, outgoing
from refdiff.oracle.expected import ROUNDINGS, UNIT
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session
from refdiff.oracle.tape import aside
from refdiff.oracle.target import Dialect
from refdiff.process import Process

Array = NDArray[Any]
LEVELS = np.array([0.0078125, 0.125, 0.75, 4.0, 64.0])


def _levels(process: Process, dialect: Dialect) -> tuple[Array, Array]:
    return LEVELS, LEVELS


def scalings(sigma: Array, data: float, low: float) -> tuple[Array, Array]:
    """c_skip and c_out of levels that start at ``low``."""
    above = sigma - low
    return data**2 / (above**2 + data**2), data * above / np.sqrt(sigma**2 + data**2)


def _others(here: At, dialect: Dialect) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    sigma, data = here.std, dialect.sigma_data
    low = dialect.sigma_min if dialect.consistency == "shifted" else 0.0
    skip, out = scalings(sigma, data, low)
    above = sigma - low
    yield "parameterization", "c_skip and c_out are in each other's place", (out, skip)
    yield "parameterization", "c_out without sigma_data", (skip, above / np.sqrt(sigma**2 + data**2))
    yield "sqrt", "c_out without the root", (skip, data * above / (sigma**2 + data**2))
    yield "sqrt", "c_skip with the root", (np.sqrt(skip), out)
    yield "sqrt", "sigma_data is not squared in c_skip", (data / (above**2 + data), out)
    yield "schedule", "c_skip shifted by sigma_min and c_out not", (skip, scalings(sigma, data, 0.0)[1])
    yield "schedule", "c_out shifted by sigma_min and c_skip not", (scalings(sigma, data, 0.0)[0], out)
    yield (
        "schedule",
        "c_out shifted by sigma_min below too",
        (skip, data * above / np.sqrt(above**2 + data**2)),
    )
    for other in (1.0, 0.5):
        yield "data-scaling", f"sigma_data is {other:g}", scalings(sigma, other, low)
    yield "parameterization", "c_skip is 1 - c_out", (1 - out, out)
    yield "parameterization", "the output alone", (0.0, 1.0)
    yield "sign", "c_out has the wrong sign", (skip, -out)


@form(
    "consistency_function", "x sigma output", "x output", "parameterization parameterization", "consistency",
    process="edm", others=_others, times=_levels, given=lambda here, dialect: here.std, clocked=False,
)  # fmt: skip
def consistency_function(here: At, dialect: Dialect) -> tuple[Any, ...]:
    """c_skip x + c_out F."""
    low = dialect.sigma_min if dialect.consistency == "shifted" else 0.0
    return scalings(here.std, dialect.sigma_data, low)


@check("consistency_function.boundary")
def boundary(session: Session) -> Finding:
    """At the smallest level the function is the identity, whatever the network answers."""
    dialect = session.dialect
    if dialect.consistency == "edm":
        raise NotApplicable("the boundary is at 0, which is no level")
    x, output = (generic(session, seed, (3,), np.arange(5)) for seed in (51, 52))
    sigma = torch.full((5,), dialect.sigma_min, dtype=torch.float64)
    given = {"x": x, "sigma": sigma if dialect.batched_t else dialect.sigma_min, "output": output}
    got = shaped(session.caller("consistency_function", given).value, tuple(x.shape)).values.numpy()
    # sigma_min, rounded, moves c_out by that much, and c_skip by its square
    limit = ROUNDINGS * UNIT[dialect.dtype] * (np.abs(x.numpy()) + dialect.sigma_min * np.abs(output.numpy()))
    gap = np.abs(got - x.numpy())
    fields: dict[str, Any] = {"error": float(gap.max()), "tolerance": float(limit.min())}
    if (gap <= limit).all():
        return Finding(True, **fields)
    words = "at sigma_min the function is not the identity: the boundary condition does not hold"
    return fail("noise-at-t0", words, also=("schedule", "parameterization"), **fields)


# the multistep sampler

RUN = np.array([8.0, 2.5, 0.5])


@dataclass
class Shrinks:
    """A consistency function of every level: linear, and no two levels alike."""

    session: Session
    levels: list[float] = field(default_factory=list)

    def __call__(self, x: Any, sigma: Any, *args: Any, **kwargs: Any) -> Any:
        with aside():
            label = sigma.detach().double().numpy() if isinstance(sigma, Tensor) else sigma
            self.levels.append(float(np.asarray(label, dtype=float).reshape(-1)[0]))
            return shrunk(self.levels[-1]) * x


def shrunk(sigma: float) -> float:
    """The factor of a level."""
    return 0.8 / (1 + 0.3 * sigma)


def multistep(x: Array, noises: Array, sigmas: Array, low: float, kind: str = "right") -> Array:
    """Denoise, add noise of each further level but for ``low``, denoise again."""
    x0 = x * shrunk(sigmas[0]) if kind != "late" else x
    for i, sigma in enumerate(sigmas[1:]):
        above = {
            "right": np.sqrt(sigma**2 - low**2), "late": np.sqrt(sigma**2 - low**2), "whole": sigma,
            "straight": sigma - low, "square": sigma**2 - low**2, "none": 0.0,
            "more": np.sqrt(sigma**2 + low**2),
            "first": np.sqrt(sigmas[0] ** 2 - low**2), "last level": np.sqrt(sigmas[i] ** 2 - low**2),
            "step": np.sqrt(sigmas[i] ** 2 - sigma**2), "reused": np.sqrt(sigma**2 - low**2),
            "asked at the level before": np.sqrt(sigma**2 - low**2), "same state": np.sqrt(sigma**2 - low**2),
        }[kind]  # fmt: skip
        base = x if kind == "same state" else x0
        x = base + above * noises[0 if kind == "reused" else i]
        x0 = x * shrunk(sigmas[i] if kind == "asked at the level before" else sigma)
    return np.asarray(x0)


MULTISTEP = (
    ("variance", "the noise has the level's deviation: sigma_min is not taken out", "whole"),
    ("sqrt", "the noise has the difference of the deviations", "straight"),
    ("sqrt", "the noise has the difference of the variances", "square"),
    ("sign", "the variances are added", "more"),
    ("noise-at-t0", "no noise is added", "none"),
    ("index", "the noise is that of the first level", "first"),
    ("index", "the noise is that of the level before", "last level"),
    ("variance", "the noise is that of a step between the two levels", "step"),
    ("state-broadcast", "every step takes the same noise", "reused"),
    ("index", "the function is asked at the level before", "asked at the level before"),
    ("parameterization", "noise is added to the state, not to the denoised data", "same state"),
)


@check("consistency_sample.value")
def consistency_sample(session: Session) -> Finding:
    """Each further level adds noise of sqrt(sigma² - sigma_min²) to denoised data, which it ends with."""
    dialect, low = session.dialect, session.dialect.sigma_min
    x = generic(session, 53, (3,), np.arange(5)) * RUN[0]
    x = x.float().double() if dialect.dtype == "float32" else x
    noises = torch.stack([generic(session, 54 + i, (3,), np.arange(5)) for i in range(len(RUN))])
    function = Shrinks(session)

    def draw(number: int, shape: tuple[int, ...]) -> Tensor:
        fits = shape == tuple(x.shape) and number < len(noises)
        return noises[number] if fits else torch.zeros(shape, dtype=torch.float64)

    given = {"function": function, "x": x, "sigmas": torch.as_tensor(RUN)}
    call = session.caller("consistency_sample", given, draw)
    found = shaped(call.value, tuple(x.shape))
    z, start = noises.numpy(), x.numpy()
    want = multistep(start, z, RUN, low)

    def guesses() -> Iterator[Guess]:
        last = float(np.sqrt(RUN[-1] ** 2 - low**2))
        for i, level in ((-1, last), (-1, float(RUN[-1]))):
            words = f"it ends with noise of level {RUN[i]:g}, not with denoised data"
            noisy = multistep(start, z, RUN[:-1], low) + level * z[len(RUN) - 2]
            yield Diagnosis("noise-at-t0", words), noisy
            noisy = multistep(start, z, RUN, low) + level * z[len(RUN) - 1]
            yield Diagnosis("noise-at-t0", words), noisy
        noisy = multistep(start, z, RUN, low) + low * z[len(RUN) - 1]
        yield Diagnosis("noise-at-t0", "it ends with noise of sigma_min"), noisy
        for family, words, kind in MULTISTEP:
            yield Diagnosis(family, words), multistep(start, z, RUN, low, kind)
        yield Diagnosis("index", "the first level is left out"), multistep(start, z, RUN[1:], low)
        yield Diagnosis("index", "the last level is left out"), multistep(start, z, RUN[:-1], low)

    size = 8 * (np.abs(want) + np.abs(start) * shrunk(RUN[0]) + np.abs(z).max(0) * RUN.max())
    asked = Question({}, want, size, "variance", guesses)
    return decide(
        session, "consistency_sample", Answer(asked, found.values.numpy(), found.dtype, call.mutated, ())
    )


# variational diffusion


def _ends(dialect: Dialect) -> tuple[float, float]:
    return dialect.gamma_ends


@check("vdm_gamma.values")
def vdm_gamma(session: Session) -> Finding:
    """Linear between the declared ends; where it is learned, monotone between them."""
    dialect = session.dialect
    low, high = _ends(dialect)
    t = np.concatenate([[0.0], TIMES, [1.0]])
    turn = 1.0 if dialect.gamma_sign == "minus_log_snr" else -1.0
    unit = _Unit()
    times = torch.as_tensor(outgoing(dialect, unit, t).copy())
    found = shaped(session.caller("vdm_gamma", {"t": times}).value, t.shape)
    got = found.values.numpy()
    want = turn * (low + (high - low) * t)
    if dialect.gamma == "learned":
        return _learned(session, turn * got, low, high)

    def guesses() -> Iterator[Guess]:
        for name in ("gamma_sign", "time_direction", "time_scale"):
            for spoken in alternatives(dialect, name):
                sign = 1.0 if spoken.gamma_sign == "minus_log_snr" else -1.0
                inner = incoming(spoken, unit, outgoing(dialect, unit, t))
                yield told(dialect, spoken, name), sign * (low + (high - low) * inner)
        for family, words, wrong in (
            ("schedule", "the ends are exchanged", high + (low - high) * t),
            ("sqrt", "half of it: the logarithm of a ratio, not of its square", (low + (high - low) * t) / 2),
            ("sqrt", "doubled", 2 * (low + (high - low) * t)),
            ("schedule", "the slope is the last value, not the difference", low + high * t),
            ("schedule", "the first value is missing", (high - low) * t),
            ("schedule", "the logarithm to the base ten", (low + (high - low) * t) / np.log(10)),
            ("schedule", "the exponential of it", np.exp(low + (high - low) * t)),
            ("schedule", "without the ends: t itself", t),
        ):  # fmt: skip
            yield Diagnosis(family, words), turn * np.asarray(wrong)

        for kind in (np.float16, np.float32):
            if kind is np.float16 or dialect.dtype == "float64":
                yield (
                    Diagnosis("precision", f"it is rounded to {kind.__name__}"),
                    want.astype(kind).astype(float),
                )

    asked = Question({}, want, 4 * (abs(low) + abs(high) + np.abs(want)), "schedule", guesses)
    finding = decide(session, "vdm_gamma", Answer(asked, got, found.dtype, (), ()))
    if not finding.ok and finding.diagnosis is not None and "no known" in finding.diagnosis.message:
        learned = _learned(session, turn * got, low, high)
        if learned.ok:
            other = dialect.but(gamma="learned")
            words = "gamma is monotone between its ends, but not linear"
            return fail("convention", words, dialect=other, also=ALSO.get("gamma", ("schedule",)))
    return finding


class _Unit(Process):
    """Times from 0 to 1."""


def _learned(session: Session, got: Array, low: float, high: float) -> Finding:
    limit = ROUNDINGS * UNIT[session.dialect.dtype] * (abs(low) + abs(high))
    fields: dict[str, Any] = {
        "got": [float(got[0]), float(got[-1])], "wanted": [low, high], "tolerance": limit,
        "asked": "gamma at times 0 and 1",
    }  # fmt: skip
    if max(abs(got[0] - low), abs(got[-1] - high)) > limit:
        return fail("schedule", "the learned gamma does not keep its ends", **fields)
    if (np.diff(got) <= 0).any():
        return fail("schedule", "the learned gamma is not monotone", also=("sign",), **fields)
    return Finding(True, **fields)
