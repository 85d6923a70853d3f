"""Which mistake measured coefficients are: the simplest hypothesis that fits every point, or what can be
said without."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from refdiff.oracle import clipping, decoys, formulas, hypotheses
from refdiff.oracle.calls import TargetError
from refdiff.oracle.checks.registry import Finding, fail
from refdiff.oracle.compare import Comparison
from refdiff.oracle.expected import UNIT, Expected
from refdiff.oracle.hypotheses import SLACK, Case, Hypothesis
from refdiff.oracle.probe import Probe
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session
from refdiff.oracle.undefined import undefined

Array = NDArray[Any]
# pairs of mistakes that are tried in one report, and at most half of them for one port
BUDGET = 4000
BEAM = 8
NOTHING_FITS = "no known mistake fits"


def coefficients(session: Session, name: str, found: Probe, want: Expected, decided: Comparison) -> Diagnosis:
    """The diagnosis of coefficients that are wrong."""
    case = case_of(session, name, found, want)
    if decided.systematic:
        return tiny(case)
    return known(case, budgeted(session, case))


def known(case: Case, found: Diagnosis) -> Diagnosis:
    """A diagnosis with the decoy of the derivations that it is, where it is one."""
    match = None if found.family == "convention" else decoys.matching(case)
    if match is None:
        return found
    if found.digits is None and found.message.startswith(NOTHING_FITS):
        found = Diagnosis(match.decoy.family, match.decoy.note)
    return replace(found, decoy=match.id, citation=match.decoy.citation)


def budgeted(session: Session, case: Case) -> Diagnosis:
    """An explanation within what is left of the session's number of pairs of mistakes."""
    left = session.cache.setdefault("budget", BUDGET)
    # where the tables are wrong already, one more mistake is looked for, not two
    tried = Tried(0 if len(session.candidates) > 1 else min(left, BUDGET // 2))
    found = explain(case, tried)
    session.cache["budget"] = left - tried.count
    return found


@dataclass
class Tried:
    """How many pairs of mistakes may be tried and how many were: counted, since clocks differ."""

    limit: int
    count: int = 0

    def of(self, candidates: Iterable[Hypothesis]) -> Iterator[Hypothesis]:
        """Candidates up to the limit."""
        for candidate in islice(candidates, self.limit):
            self.count += 1
            yield candidate


def case_of(session: Session, name: str, found: Probe, want: Expected) -> Case:
    """What was measured, as a case."""
    programs = formulas.programs(formulas.PORTS[name], session.dialect)
    return Case(
        name, session.dialect, session.declared, found.points, found.values, want, found.answered, programs
    )


def explain(case: Case, tried: Tried) -> Diagnosis:
    """The simplest hypothesis that fits all points, else one for each coefficient, else the shape of the
    ratio."""
    first = undefined(case) or only_noise_at_data(case) or noise_missing(case) or in_half(case)
    if first is not None:
        return first
    singles = list(chain(hypotheses.simple(case), hypotheses.mutated(case)))
    best = fitting(case, singles)
    if best is not None:
        return said(case, best)
    apart = row_by_row(case, singles)
    if apart is not None:
        return apart
    best = fitting(case, tried.of(hypotheses.doubly(case, promising(case, singles))))
    if best is not None:
        return said(case, best)
    return without(case)


def fitting(case: Case, candidates: Iterable[Hypothesis], rows: Array | None = None) -> Hypothesis | None:
    """The simplest candidate that fits to the precision of the measurements; double precision goes first."""
    best: tuple[tuple[int, int, float], Hypothesis] | None = None
    for candidate in candidates:
        ratio = case.ratios(candidate.values, UNIT["float32"])
        worst = float(ratio.max() if rows is None else ratio[rows].max())
        if worst > 1:
            continue
        fine = worst * UNIT["float32"] / UNIT["float64"] <= SLACK
        key = (0 if fine else 1, candidate.rank, worst)
        if best is None or key < best[0]:
            best = key, candidate
    return None if best is None else best[1]


def said(case: Case, best: Hypothesis) -> Diagnosis:
    """A hypothesis that fits, as a diagnosis."""
    return Diagnosis(
        best.family, best.message, best.formula, best.dialect, digits(case, best.values), best.also
    )


def digits(case: Case, values: Array) -> float:
    """How many digits of the measurements a hypothesis explains."""
    with np.errstate(all="ignore"):
        gap = np.abs(case.got - values) / np.maximum(np.abs(values), case.scale)
    gap = gap[:, case.usable]
    worst = float(np.max(np.where(np.isfinite(gap), gap, 0.0), initial=0.0))
    return min(16.0, -float(np.log10(max(worst, 1e-16))))


def wrong_rows(case: Case) -> Array:
    """Which coefficients are wrong somewhere."""
    return np.asarray(case.ratios(case.want.values.astype(float), UNIT["float32"]).max(1) > 1)


def row_by_row(case: Case, singles: list[Hypothesis]) -> Diagnosis | None:
    """A hypothesis for each wrong coefficient apart."""
    found = []
    for row in np.flatnonzero(wrong_rows(case)):
        best = fitting(case, singles, np.array([row]))
        if best is None:
            return None
        found.append((case.want.states[row], best))
    if not found:
        return None
    words = "; ".join(f"coefficient of {symbol(state)}: {best.message}" for state, best in found)
    first = found[0][1]
    also = tuple(dict.fromkeys(family for _, best in found for family in (best.family, *best.also)))
    return Diagnosis(first.family, words, first.formula, None, None, also)


def symbol(state: str) -> str:
    """A state's name in the paper."""
    return {
        "x": "x_t",
        "x0": "x_0",
        "e": "the model output",
        "z": "the noise",
        "g": "the gradient",
        "one": "1",
        "u": "the unconditional output",
        "c": "the conditional output",
    }.get(state, f"the {state}" if len(state) > 1 else state)


def promising(case: Case, singles: list[Hypothesis]) -> list[Hypothesis]:
    """The mutants that explain most."""
    scored: list[tuple[int, int, int, Hypothesis]] = []
    seen: set[bytes] = set()
    for single in singles:
        if isinstance(single.source, str):
            continue
        right = case.ratios(single.values, UNIT["float64"]) <= SLACK
        key = np.nan_to_num(single.values).tobytes()
        if key not in seen:
            seen.add(key)
            scored.append((-int(right.sum()), single.rank, len(scored), single))
    return [item[-1] for item in sorted(scored)[:BEAM]]


def only_noise_at_data(case: Case) -> Diagnosis | None:
    """Noise that stays in a step that ends at data, all else being right."""
    if "z" not in case.want.states or case.dialect.alpha_bar_0 == "first":
        return None
    row = case.want.states.index("z")
    ratio = case.ratios(case.want.values.astype(float), UNIT["float32"])
    wrong = ratio > 1
    at_data = case.points.s == 0
    if not wrong[row][at_data].any() or wrong[:, ~at_data].any() or np.delete(wrong, row, 0).any():
        return None
    size = float(np.nanmax(np.abs(case.got[row][at_data])))
    return Diagnosis(
        "noise-at-t0", f"noise is added in the step that ends at data (coefficient {size:.3g}, wanted 0)"
    )


def noise_missing(case: Case) -> Diagnosis | None:
    """No noise where there must be some, all else being right."""
    if "z" not in case.want.states:
        return None
    row = case.want.states.index("z")
    wrong = case.ratios(case.want.values.astype(float), UNIT["float32"]) > 1
    if not wrong[row].any() or np.delete(wrong, row, 0).any() or (case.got[row][wrong[row]] != 0).any():
        return None
    noisy = case.usable & (case.want.values[row] != 0)
    if wrong[row][noisy].all():
        return Diagnosis("noise-at-t0", "no noise is added at any step", also=("variance",))
    levels = ", ".join(str(t) for t in sorted({int(t) for t in case.points.t[wrong[row]]}))
    return Diagnosis(
        "noise-at-t0", f"no noise is added at t = {levels}: it is masked too early", also=("index",)
    )


def in_half(case: Case) -> Diagnosis | None:
    """Every coefficient is a number of low precision."""
    values = torch.as_tensor(case.got[:, case.usable])
    values = values[torch.isfinite(values) & (values != 0) & (values.abs() != 1)]
    for name in ("bfloat16", "float16"):
        kind = getattr(torch, name)
        if len(values) >= 8 and float((values.to(kind).double() == values).double().mean()) > 0.9:
            return Diagnosis(
                "precision", f"every coefficient is a {name} number: the step is computed in {name}"
            )
    return None


def tiny(case: Case) -> Diagnosis:
    """An error below float32 that is no rounding."""
    words = "; ".join(ratio_words(case, row) for row in _off(case, UNIT["float64"]))
    if case.dialect.tables == "float64":
        return Diagnosis("precision", f"float64 tables are declared, and this is not their rounding: {words}")
    return Diagnosis("precision", f"a systematic error, not the rounding of float32 tables: {words}")


def _off(case: Case, unit: float) -> list[int]:
    ratio = case.ratios(case.want.values.astype(float), unit).max(1)
    return [int(row) for row in np.flatnonzero(ratio > 1)]


def without(case: Case) -> Diagnosis:
    """No known mistake fits: which coefficients are off, where, and by which ratio."""
    rows = _off(case, UNIT["float32"]) or list(range(len(case.want.states)))
    words = "; ".join(ratio_words(case, row) for row in rows)
    shapes = [ratio_shape(case, row) for row in rows]
    family = next((shape[0] for shape in shapes if shape is not None), guessed(case, rows))
    where = located(case)
    return Diagnosis(family, f"{NOTHING_FITS}{where}: {words}")


def located(case: Case) -> str:
    """Where it is wrong, if that is special."""
    wrong = (case.ratios(case.want.values.astype(float), UNIT["float32"]) > 1).any(0)
    t, s = case.points.t, case.points.s
    ok = case.usable
    for words, mask in (
        ("only where s = 0", s == 0),
        ("only at t = T", t == case.table.T),
        ("only where t - s > 1", t - s > 1),
    ):
        if wrong.any() and not (wrong & ~mask & ok).any() and (~mask & ok).any():
            return f" ({words})"
    return ""


def guessed(case: Case, rows: list[int]) -> str:
    """A family by what is off, where no formula fits."""
    where = located(case)
    if "s = 0" in where:
        return "noise-at-t0"
    if where:
        return "index"
    with np.errstate(all="ignore"):
        gap = np.abs(case.got / case.want.values.astype(float) - 1)
    if float(np.nanmax(np.where(np.isfinite(gap), gap, 0.0)[rows])) < 1e-3:
        return "precision"
    states = {case.want.states[row] for row in rows}
    if states <= {"z", "one"}:
        return "variance"
    return "guidance" if states == {"g"} else "parameterization"


def ratio_shape(case: Case, row: int) -> tuple[str, str] | None:
    """What got / wanted is as a function of the level: a constant, or a power of a level's scalar."""
    with np.errstate(all="ignore"):
        ratio = case.got[row] / case.want.values[row].astype(float)
    ok = case.usable & np.isfinite(ratio) & (ratio != 0)
    if ok.sum() < 3:
        return None
    ratio = ratio[ok]
    if np.ptp(ratio) <= 1e-6 * np.abs(ratio).max() + 1e-15:
        value = float(np.median(ratio))
        words = f"times 1 {value - 1:+.3g}" if abs(value - 1) < 1e-6 else f"times {value:.12g}"
        return ("sign" if value == -1 else "parameterization"), words
    env = hypotheses.environment(case)
    for name, values in _FEATURES(env).items():
        with np.errstate(all="ignore"):
            feature = np.log(values[ok])
            level = np.log(np.abs(ratio))
        if not np.isfinite(feature).all() or np.ptp(feature) == 0:
            continue
        for power in (0.5, -0.5, 1.0, -1.0, 2.0, -2.0):
            rest = level - power * feature
            if np.ptp(rest) <= 1e-6:
                factor = float(np.exp(np.median(rest)) * np.sign(np.median(ratio)))
                times = "" if abs(factor - 1) < 1e-9 else f"{factor:.6g} * "
                return ("sqrt" if abs(power) == 0.5 else "variance"), f"times {times}({name})^{power:g}"
    return None


def _FEATURES(env: dict[str, Array]) -> dict[str, Array]:
    with np.errstate(all="ignore"):
        return {
            "ᾱ_t": env["abar_t"],
            "1 - ᾱ_t": 1 - env["abar_t"],
            "ᾱ_s": env["abar_s"],
            "1 - ᾱ_s": 1 - env["abar_s"],
            "α_t": env["alpha_t"],
            "β_t": env["beta_t"],
            "ᾱ_t / ᾱ_s": env["abar_t"] / env["abar_s"],
            "1 - ᾱ_t / ᾱ_s": 1 - env["abar_t"] / env["abar_s"],
            "(1 - ᾱ_s) / (1 - ᾱ_t)": (1 - env["abar_s"]) / (1 - env["abar_t"]),
            "σ_t": np.sqrt(1 / env["abar_t"] - 1),
        }


def ratio_words(case: Case, row: int) -> str:
    """How a coefficient is off."""
    shape = ratio_shape(case, row)
    name = symbol(case.want.states[row])
    if shape is not None:
        return f"the coefficient of {name} is the right one {shape[1]}"
    ratio = case.ratios(case.want.values.astype(float), UNIT["float64"])[row]
    index = int(np.argmax(ratio))
    got, want = float(case.got[row, index]), float(case.want.values[row, index])
    where = ", ".join(f"{key}={value:g}" for key, value in case.points.describe(index).items())
    return f"the coefficient of {name} is {got:.9g}, not {want:.9g}, at {where}"


def raised(session: Session, name: str, found: Probe, want: Expected, error: TargetError) -> Diagnosis:
    """Some points have no answer: what the others say, and where it raises."""
    missing = [found.points.describe(index) for index in found.errors]
    where = "; ".join(", ".join(f"{k}={v:g}" for k, v in point.items()) for point in missing[:4])
    case = case_of(session, name, found, want)
    family = error.family if error.family != "unknown" else "index"
    if (case.ratios(want.values.astype(float), UNIT["float32"]) <= 1).all():
        return Diagnosis(family, f"right elsewhere, but no answer at {where}: {error}")
    best = budgeted(session, case)
    return replace(best, message=f"{best.message}; no answer at {where}: {error}", also=(family, *best.also))


def not_affine(session: Session, name: str, found: Probe, index: int, tolerance: float) -> Finding:
    """An answer that is not affine in its arguments: clipped, or rounded, or something else."""
    fields = {
        "worst": found.points.describe(index),
        "error": float(found.curvature[index]),
        "tolerance": tolerance,
    }
    message = "large states do not get what small ones get: not affine"
    for bound in clipping.BOUNDS:
        if clipping.fits(session, name, found, bound):
            dialect = session.dialect.but(clip=bound)
            words = f"x_0 is clipped to [-{bound:g}, {bound:g}]"
            return fail("convention", words, dialect=dialect, also=("data-scaling",), **fields)
    _, _, want, decided = session.cache.get(("outcome", name), (None, None, None, None))
    if want is not None and decided is not None and not decided.ok:
        half = in_half(case_of(session, name, found, want))
        if half is not None:
            return fail(half.family, half.message, **fields)
    if found.curvature[index] < 2.0**-6:
        return fail("precision", f"{message}: the answer is rounded to few digits", **fields)
    return fail("data-scaling", f"{message}: thresholded or normalised by the data", **fields)
