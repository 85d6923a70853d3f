"""Which schedule, or which mistake, a table is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from refdiff import schedule as schedules
from refdiff.oracle.points import Tables
from refdiff.oracle.report import Diagnosis
from refdiff.oracle.session import Session

Array = NDArray[Any]
# agreement that names a schedule: the digits that float32 leaves to a table
CLOSE = 2e-6
EXACT = 1e-9


def distance(got: Array, want: Array) -> float:
    """The largest relative difference of two tables, relative to the largest of neighbours; inf if lengths
    differ."""
    if got.shape != want.shape:
        return float("inf")
    with np.errstate(all="ignore"):
        gap = np.abs(got - want) / np.maximum(np.abs(want), 1e-3 * np.max(np.abs(want)))
    return float(np.max(np.where(np.isfinite(gap), gap, np.inf)))


def diagnosis(session: Session, port: str) -> Diagnosis:
    """What a table that is not the declared one is."""
    values = session.table(port).values.numpy().astype(np.float64)
    ranked = sorted(
        (
            (distance(values, table), rank, found)
            for rank, (found, table) in enumerate(_guesses(session, port, values))
        ),
        key=lambda item: (item[0] > EXACT, item[0] > CLOSE, item[1]),
    )
    if ranked and ranked[0][0] <= CLOSE * (1 + len(values) / 200):
        gap, _, found = ranked[0]
        digits = 15.0 if gap == 0 else -float(np.log10(gap))
        return Diagnosis(found.family, found.message, found.formula, found.dialect, digits, found.also)
    return _plain(session, port, values)


def _guesses(session: Session, port: str, values: Array) -> Iterator[tuple[Diagnosis, Array]]:
    beta = session.declared.beta[1:].astype(np.float64)
    abar = np.exp(session.declared.log_abar[1:]).astype(np.float64)
    mistakes = _beta_mistakes(session, beta, abar) if port == "betas" else _abar_mistakes(beta, abar)
    if _rooted(session, beta, abar):
        yield from _notations(session, port, beta, abar)
    yield from _roundings(port, beta, abar)
    yield from mistakes
    yield from _known(session, port, len(values))
    yield from _notations(session, port, beta, abar)
    yield from _fitted(session, port, values)


def _rooted(session: Session, beta: Array, abar: Array) -> bool:
    """Whether both tables are roots: then it is a notation; one alone is a mistake."""
    if not {"betas", "alphas_cumprod"} <= set(session.offered):
        return False
    pairs = (("betas", beta), ("alphas_cumprod", abar))
    return all(
        distance(session.table(port).values.numpy().astype(float), np.sqrt(want)) < 1e-4
        for port, want in pairs
    )


def _roundings(port: str, beta: Array, abar: Array) -> Iterator[tuple[Diagnosis, Array]]:
    for name in ("float16", "bfloat16"):
        kind = getattr(torch, name)

        def low(x: Array, kind: torch.dtype = kind) -> Array:
            return torch.as_tensor(x).to(kind).double().numpy()

        own = beta if port == "betas" else abar
        yield Diagnosis("precision", f"the table is rounded to {name}"), low(own)
        yield (
            Diagnosis("precision", f"the table is rounded to {name} from float32"),
            low(low(own, torch.float32)),
        )
        if port == "alphas_cumprod":
            yield Diagnosis("precision", f"made from betas in {name}"), np.cumprod(1 - low(beta))
            running = torch.cumprod(1 - torch.as_tensor(beta).to(kind), 0).double().numpy()
            yield Diagnosis("precision", f"the running product is taken in {name}"), running


def _beta_mistakes(session: Session, beta: Array, abar: Array) -> Iterator[tuple[Diagnosis, Array]]:
    T, b1, bT = len(beta), beta[0], beta[-1]
    index = np.arange(T) / max(T - 1, 1)

    def wrong(family: str, message: str, *also: str) -> Diagnosis:
        return Diagnosis(family, message, also=also)

    yield wrong("sqrt", "the squares of the declared variances"), beta**2
    yield wrong("sqrt", "the square roots of the declared variances (standard deviations)"), np.sqrt(beta)
    yield wrong("schedule", "the declared variances in reverse order", "index"), beta[::-1]
    yield wrong("schedule", "alpha_t = 1 - beta_t where beta_t is asked"), 1 - beta
    yield wrong("schedule", "alpha_bar_t where beta_t is asked"), abar
    yield wrong("schedule", "1 - alpha_bar_t where beta_t is asked"), 1 - abar
    yield (
        wrong("index", "the declared variances one step early, with 0 for data", "schedule"),
        np.append(0.0, beta[:-1]),
    )
    yield wrong("index", "the declared variances one step late", "schedule"), np.append(beta[1:], beta[-1])
    yield (
        wrong("schedule", "a grid that leaves out its last point: T intervals where T - 1 are wanted"),
        b1 + (bT - b1) * np.arange(T) / T,
    )
    yield (
        wrong("schedule", "a grid that leaves out its first point: T intervals where T - 1 are wanted"),
        b1 + (bT - b1) * np.arange(1, T + 1) / T,
    )
    yield (
        wrong("schedule", "a grid of T + 2 points without its ends"),
        b1 + (bT - b1) * np.arange(1, T + 1) / (T + 1),
    )
    for c, words in (
        (2.0, "twice"),
        (0.5, "half"),
        (10.0, "10 times"),
        (0.1, "a tenth of"),
        (1000 / T, "1000 / T times"),
        (T / 1000, "T / 1000 times"),
    ):
        if c != 1:
            yield wrong("schedule", f"{words} the declared variances"), c * beta
    roots = np.sqrt(b1) + (np.sqrt(bT) - np.sqrt(b1)) * index
    squares = b1**2 + (bT**2 - b1**2) * index
    yield wrong("schedule", "a line between square roots that is not squared", "sqrt"), roots
    yield (
        wrong(
            "schedule",
            "a line between squares where a line between square roots is meant, then squared",
            "sqrt",
        ),
        squares**2,
    )
    yield (
        wrong("schedule", "a line between squares, not the squares of a line between roots", "sqrt"),
        squares,
    )
    yield wrong("schedule", "square roots of a line between squares", "sqrt"), np.sqrt(squares)
    yield (
        wrong("schedule", "squares of a line between the end points, not between their roots", "sqrt"),
        (b1 + (bT - b1) * index) ** 2,
    )
    yield (
        wrong("schedule", "square roots of a line between the end points", "sqrt"),
        np.sqrt(b1 + (bT - b1) * index),
    )
    yield wrong("schedule", "a geometric progression between the end points"), b1 * (bT / b1) ** index
    yield from _curves(T, "betas")


def _curves(T: int, port: str) -> Iterator[tuple[Diagnosis, Array]]:
    """Mistakes in a curve of alpha_bar."""
    u = np.linspace(0, 1, T + 1)
    half_pi = np.pi / 2
    curves: dict[str, tuple[str, Callable[[float], Array]]] = {
        "a cosine that is not squared": ("schedule", lambda s: np.cos((u + s) / (1 + s) * half_pi)),
        "a cosine to the fourth power": ("schedule", lambda s: np.cos((u + s) / (1 + s) * half_pi) ** 4),
        "a squared cosine without its offset s": ("schedule", lambda s: np.cos(u * half_pi) ** 2),
        "a squared cosine whose offset is not divided by 1 + s": (
            "schedule",
            lambda s: np.cos((u + s) * half_pi) ** 2,
        ),
        "a squared cosine of u + s / (1 + s): a bracket is missing": (
            "schedule",
            lambda s: np.cos((u + s / (1 + s)) * half_pi) ** 2,
        ),
        "a squared cosine without pi / 2": ("schedule", lambda s: np.cos((u + s) / (1 + s)) ** 2),
        "a squared cosine with pi for pi / 2": ("schedule", lambda s: np.cos((u + s) / (1 + s) * np.pi) ** 2),
        "a squared cosine with offset 0.08 for 0.008": (
            "schedule",
            lambda s: np.cos((u + 0.08) / 1.08 * half_pi) ** 2,
        ),
        "a squared sine": ("schedule", lambda s: np.sin((u + s) / (1 + s) * half_pi) ** 2),
        "the squared cosine": ("schedule", lambda s: np.cos((u + s) / (1 + s) * half_pi) ** 2),
    }
    for words, (family, curve) in curves.items():
        with np.errstate(all="ignore"):
            raw = curve(0.008)
            abar = raw / raw[0]
            beta = 1 - abar[1:] / abar[:-1]
        for cap in (0.999, None, 0.99, 0.9999, 0.02, 0.5):
            if words == "the squared cosine" and cap == 0.999 and port == "betas":
                continue
            capped = beta if cap is None else np.minimum(beta, cap)
            note = ", beta not capped" if cap is None else f", beta capped at {cap}"
            if port == "betas":
                yield Diagnosis(family, f"made from {words}{note}", also=("sqrt",)), capped
                yield (
                    Diagnosis(
                        family, f"made from {words}{note}, clipped from below at 0.0001", also=("sqrt",)
                    ),
                    np.maximum(capped, 1e-4),
                )
            else:
                yield Diagnosis(family, f"made from {words}{note}", also=("sqrt",)), np.cumprod(1 - capped)
        if port == "alphas_cumprod":
            yield (
                Diagnosis(
                    "schedule", f"{words} itself, not the product of 1 - capped beta", also=("precision",)
                ),
                abar[1:],
            )
            yield (
                Diagnosis(
                    "schedule", f"{words} itself without its last level: shifted by one", also=("index",)
                ),
                abar[:-1],
            )
            yield Diagnosis("schedule", f"{words}, not divided by its value at 0"), raw[1:]


def _abar_mistakes(beta: Array, abar: Array) -> Iterator[tuple[Diagnosis, Array]]:
    def wrong(family: str, message: str, *also: str) -> Diagnosis:
        return Diagnosis(family, message, also=also)

    yield wrong("sqrt", "the square root of alpha_bar"), np.sqrt(abar)
    yield wrong("sqrt", "the square of alpha_bar"), abar**2
    yield wrong("schedule", "1 - alpha_bar"), 1 - abar
    yield wrong("sqrt", "the square root of 1 - alpha_bar"), np.sqrt(1 - abar)
    yield wrong("schedule", "alpha_t = 1 - beta_t: the product is missing", "index"), 1 - beta
    yield wrong("schedule", "the product of beta_t instead of 1 - beta_t"), np.cumprod(beta)
    yield wrong("schedule", "1 minus the sum of beta: not a product"), 1 - np.cumsum(beta)
    yield (
        wrong("schedule", "exp of minus the sum of beta: the continuous limit of the product"),
        np.exp(-np.cumsum(beta)),
    )
    yield wrong("sqrt", "exp of minus half the sum of beta"), np.exp(-np.cumsum(beta) / 2)
    yield (
        wrong("index", "shifted by one: the first entry is the one of data", "schedule"),
        np.append(1.0, abar[:-1]),
    )
    yield (
        wrong("index", "shifted by one: the first level is missing", "schedule"),
        np.append(abar[1:], abar[-1]),
    )
    yield wrong("index", "in reverse order", "schedule"), abar[::-1]
    yield wrong("schedule", "the product taken from the far end"), np.cumprod((1 - beta)[::-1])
    yield wrong("schedule", "alpha_bar normalised to its first entry"), abar / abar[0]
    yield wrong("schedule", "sigma² = (1 - alpha_bar) / alpha_bar"), (1 - abar) / abar
    yield wrong("schedule", "the signal-to-noise ratio"), abar / (1 - abar)
    yield wrong("schedule", "log of alpha_bar"), np.log(abar)
    yield wrong("schedule", "the product of 1 - beta²"), np.cumprod(1 - beta**2)
    yield wrong("sqrt", "the product of 1 - √beta"), np.cumprod(1 - np.sqrt(beta))
    for index, table in _beta_grids(beta):
        yield Diagnosis("schedule", f"made from betas that are {index}"), np.cumprod(1 - table)
    yield from _curves(len(beta), "alphas_cumprod")


def _beta_grids(beta: Array) -> Iterator[tuple[str, Array]]:
    T, b1, bT = len(beta), beta[0], beta[-1]
    yield "a line that leaves out its last point", b1 + (bT - b1) * np.arange(T) / T
    yield "in reverse order", beta[::-1]
    yield "squares of the declared ones", beta**2


def _known(session: Session, port: str, T: int) -> Iterator[tuple[Diagnosis, Array]]:
    """Schedules by name, with the parameters people use; rescaled to zero terminal SNR or not."""
    for name, make in schedules.SCHEDULES.items():
        for params in _PARAMETERS.get(name, ((),)):
            try:
                found = make(T, *params)
            except ValueError:
                continue
            shown = f"{name}{params or ''}"
            yield _as_declared(session, found, shown if params else name), _table(found, port)
            if bool(torch.isfinite(found.log_alpha_bar).all()) and T > 1:
                zero = schedules.zero_terminal_snr(found)
                yield (
                    _as_declared(session, zero, f"{shown} rescaled to zero terminal SNR"),
                    _table(zero, port),
                )


_PARAMETERS: dict[str, tuple[tuple[Any, ...], ...]] = {
    "linear": (
        (),
        (0.00085, 0.012),
        (0.0015, 0.0195),
        (1e-4, 0.01),
        (1e-4, 0.2),
        (1e-4, 0.05),
        (1e-3, 0.02),
        (1e-5, 0.02),
    ),
    "scaled_linear": ((), (1e-4, 0.02), (0.0015, 0.0195)),
    "sigmoid_beta": ((), (0.00085, 0.012)),
    "sigmoid_alpha_bar": ((), (0.0, 3.0), (-3.0, 3.0, 0.9), (-3.0, 3.0, 1.1)),
    "square_root": ((), (0.00085, 0.012)),
}


def _as_declared(session: Session, found: schedules.Schedule, name: str) -> Diagnosis:
    plain = name in schedules.SCHEDULES and found.T == 1000
    declared = session.dialect.but(schedule=name if plain else found)
    return Diagnosis(
        "schedule",
        f"this is the schedule {name} with T = {found.T}, not the declared {session.schedule.name}",
        dialect=declared,
        also=("convention",),
    )


def _table(schedule: schedules.Schedule, port: str) -> Array:
    return (schedule.beta if port == "betas" else schedule.alpha_bar)[1:].numpy()


def _notations(session: Session, port: str, beta: Array, abar: Array) -> Iterator[tuple[Diagnosis, Array]]:
    su = np.sqrt(beta) if port == "betas" else np.sqrt(abar)
    yield (
        Diagnosis("convention", "Su's notation", dialect=session.dialect.but(notation="su"), also=("sqrt",)),
        su,
    )


def _fitted(session: Session, port: str, values: Array) -> Iterator[tuple[Diagnosis, Array]]:
    """Families of schedules with free end points."""
    beta = values
    if port == "alphas_cumprod":
        with np.errstate(all="ignore"):
            beta = 1 - values / np.append(1.0, values[:-1])
    if len(beta) < 4 or not ((beta > 0) & (beta < 1)).all():
        return
    lines: tuple[tuple[str, Callable[[Any], Any]], ...] = (
        ("linear", np.positive),
        ("scaled_linear", np.sqrt),
        ("square_root", np.square),
    )
    for name, forth in lines:
        line: Array = forth(beta)
        ends = float(line[0]), float(line[-1])
        if np.max(np.abs(line - np.linspace(*ends, len(line)))) > CLOSE * max(map(abs, ends)):
            continue
        b1, bT = (float(beta[0]), float(beta[-1])) if name != "square_root" else ends
        if b1 == bT:
            found = schedules.constant(len(beta), b1)
            shown = f"constant with beta = {b1:.6g}"
        else:
            found = schedules.SCHEDULES[name](len(beta), b1, bT)
            shown = f"{name} from {b1:.6g} to {bT:.6g}"
        yield _as_declared(session, found, shown), _table(found, port)


def rounding(session: Session, port: str) -> str | None:
    """The low precision that a table was rounded to, if any."""
    values = session.table(port).values
    for name in ("bfloat16", "float16"):
        if bool((values.to(getattr(torch, name)).double() == values).all()):
            return name
    return None


def product(session: Session, own: Tables, given: Tables) -> Diagnosis:
    """What alpha_bar is, where it is not the product of the target's own 1 - beta."""
    beta, abar = own.beta[1:].astype(float), np.exp(own.log_abar[1:]).astype(float)
    got = session.table("alphas_cumprod").values.numpy()
    got = got**2 if session.dialect.notation == "su" else got
    guesses = [*_roundings("alphas_cumprod", beta, abar), *_abar_mistakes(beta, abar)]
    best = min(guesses, key=lambda item: distance(got, item[1]))
    if distance(got, best[1]) <= CLOSE * (1 + len(got) / 200):
        return best[0]
    kind = rounding(session, "alphas_cumprod")
    if kind:
        return Diagnosis("precision", f"alpha_bar is rounded to {kind}")
    return Diagnosis("schedule", "alpha_bar is not the product of 1 - beta; no known mistake fits")


def _plain(session: Session, port: str, values: Array) -> Diagnosis:
    kind = rounding(session, port)
    want = (session.declared.beta[1:] if port == "betas" else np.exp(session.declared.log_abar[1:])).astype(
        float
    )
    if kind:
        return Diagnosis("precision", f"every entry is a {kind} number")
    if values.shape != want.shape:
        return Diagnosis(
            "schedule",
            f"{len(values)} entries where the declared schedule has {len(want)}; no known schedule fits",
        )
    with np.errstate(all="ignore"):
        ratio = values / want
    worst = float(np.nanmax(np.abs(ratio - 1)))
    if np.nanmax(ratio) - np.nanmin(ratio) < 1e-3 * worst:
        words = f"the declared table times {np.nanmean(ratio):.12g}"
    else:
        first = int(np.argmax(np.abs(ratio - 1) > 1e-12)) + 1
        words = f"off by up to {worst:.3g} (relative), first at t = {first}"
    family = "precision" if worst < 1e-3 else "schedule"
    return Diagnosis(family, f"no known schedule or mistake fits: {words}")
