"""The tables of the named schedules, from the nodes of ``derivations.schedule``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache, partial
from typing import Any

import sympy as sp
from flint import arb, ctx
from sympy.core.function import AppliedUndef

from derivations.golden.case import (
    FAR,
    TABLE_DIGITS,
    Coverage,
    GoldenError,
    Margin,
    case,
    lower,
    output,
    relative_distance,
    round_up,
    upper,
)
from derivations.golden.nodes import node, slope, symbols_of
from derivations.kit.ball import (
    FIRST_BITS,
    LAST_BITS,
    BallError,
    Certified,
    UndecidedError,
    Value,
    certified,
    enclosure,
)

MARGIN_BITS = 256
PRODUCT = "schedule.alpha_bar_product"
ONCE: Mapping[str, Fraction] = {}
HO = {"beta_1": Fraction(1, 10000), "beta_T": Fraction(1, 50)}
PARAMETERS: dict[str, dict[str, Fraction]] = {
    "linear": HO,
    "linear_rescaled": HO,
    "scaled_linear": {"beta_1": Fraction(85, 100000), "beta_T": Fraction(12, 1000)},
    "quadratic": HO,
    "square_root": HO,
    "constant": {"beta": Fraction(1, 50)},
    "jsd": {},
    "sigmoid_beta": {**HO, "span": Fraction(6)},
    "cosine": {"s": Fraction(8, 1000), "beta_max": Fraction(999, 1000)},
    "sigmoid_alpha_bar": {
        "start": Fraction(-3),
        "end": Fraction(3),
        "tau": Fraction(1),
        "beta_max": Fraction(999, 1000),
    },
    "square_root_alpha_bar": {"s": Fraction(1, 10000), "beta_max": Fraction(999, 1000)},
}
CHANGED = {
    "sigmoid_alpha_bar": (("tau", Fraction(1, 2)), ("start", Fraction(-2))),
    "cosine": (("s", Fraction(1, 32)), ("beta_max", Fraction(1, 2))),
    "linear": (("beta_1", Fraction(1, 64)), ("beta_T", Fraction(1, 8))),
}
"""Parameters other than the defaults, where a default of 1 or a bound that is hardly met hides a mistake."""
SYMBOLS = {"s": "offset", "tau": "temperature"}
LENGTHS = (1, 2, 10, 100, 1000)
UNDEFINED = {("linear_rescaled", T) for T in (1, 2, 10)}
FROM_LEVELS = ("cosine", "sigmoid_alpha_bar", "square_root_alpha_bar")
RESCALED = ("linear", "scaled_linear")


@dataclass(frozen=True)
class Named:
    """A schedule by name and number of steps, with its default parameters; perhaps with zero terminal SNR."""

    name: str
    T: int
    zero_snr: bool = False
    changed: tuple[tuple[str, Fraction], ...] = ()

    @property
    def id(self) -> str:
        changed = "".join(f"-{name}{str(value).replace('/', '_')}" for name, value in self.changed)
        return f"{self.name}{'-zero_snr' if self.zero_snr else ''}{changed}-T{self.T}"

    @property
    def parameters(self) -> dict[str, Fraction]:
        """The default parameters, and those that are changed."""
        return {**PARAMETERS[self.name], **dict(self.changed)}

    @property
    def formula(self) -> str:
        return "schedule.zero_terminal_snr" if self.zero_snr else f"schedule.{self.name}"

    @property
    def base(self) -> Named:
        """The schedule before its terminal SNR is set to zero."""
        return Named(self.name, self.T, False, self.changed)

    def given(self) -> dict[str, Any]:
        parameters = {name: str(value) for name, value in self.parameters.items()}
        return {"name": self.name, "T": self.T, "zero_terminal_snr": self.zero_snr, "parameters": parameters}


@dataclass(frozen=True)
class Table:
    """Balls of beta_1..beta_T and alpha_bar_1..alpha_bar_T."""

    beta: list[arb]
    alpha_bar: list[arb]

    @property
    def one_minus_alpha_bar(self) -> list[arb]:
        return [1 - abar for abar in self.alpha_bar]

    @property
    def columns(self) -> dict[str, list[arb]]:
        """The three columns by name."""
        names = ("beta", "alpha_bar", "one_minus_alpha_bar")
        return {name: getattr(self, name) for name in names}


@lru_cache(maxsize=256)
def table(schedule: Named, bits: int) -> Table:
    """The schedule in balls of `bits` of working precision."""
    closed, steps = node(schedule.formula).closed, range(1, schedule.T + 1)
    with ctx.workprec(bits):
        if schedule.zero_snr:
            return _between_levels([rescaled(schedule, closed, t, bits) for t in steps])
        return cumulate([beta(schedule, closed, t, bits) for t in steps])


def level(schedule: Named, t: int, bits: int) -> arb:
    """The signal power of level t >= 1."""
    room = 2 * FIRST_BITS
    while room < bits + 64:
        room *= 2
    return table(schedule, room).alpha_bar[t - 1]


def beta(schedule: Named, closed: sp.Expr, t: int, bits: int) -> arb:
    """beta_t; the first of an equally spaced table does not depend on T, so that T = 1 is no 0/0."""
    return enclosure(*at_step(schedule, closed, t), bits)


def at_step(schedule: Named, closed: sp.Expr, t: int) -> tuple[sp.Expr, dict[sp.Basic, Value]]:
    """The expression at step t and the values of its symbols."""
    if t == 1:
        closed = _first(closed)
    given = schedule.parameters
    known: dict[str, Value] = {SYMBOLS.get(name, name): value for name, value in given.items()}
    if "end" in given:
        known["width"] = given["end"] - given["start"]
    known |= {"T": schedule.T, "t": t}
    return closed, {symbol: known[symbol.name] for symbol in symbols_of(closed)}


@cache
def _first(closed: sp.Expr) -> sp.Expr:
    return closed.xreplace({symbol: sp.S.One for symbol in symbols_of(closed) if symbol.name == "t"})


def cumulate(beta: Sequence[arb]) -> Table:
    """The running product of 1 - beta."""
    alpha_bar, product = [], arb(1)
    for value in beta:
        product = product * (1 - value)
        alpha_bar.append(product)
    return Table(list(beta), alpha_bar)


def rescaled(schedule: Named, closed: sp.Expr, t: int, bits: int) -> arb:
    """Level t with zero terminal SNR, from a closed form in levels t, 1 and T of the schedule before."""
    levels = table(schedule.base, 2 * bits).alpha_bar
    names = {symbol.name: symbol for symbol in closed.free_symbols}
    # the same letter at both ends, so that the first is kept and the last is 0 exactly
    end = {1: "abar_1", schedule.T: "abar_T"}.get(t, "abar_t")
    if {"abar_t", end} <= names.keys():
        closed = closed.xreplace({names["abar_t"]: names[end]})
    before = levels[t - 2] if t > 1 else arb(1)
    balls = {
        "abar_1": levels[0],
        "abar_T": levels[-1],
        "abar_t": levels[t - 1],
        "abar_prev": before,
        "abar_s": before,
    }
    return enclosure(closed, {symbol: _constant(balls[symbol.name]) for symbol in closed.free_symbols}, bits)


def _constant(ball: arb) -> Value:
    return lambda bits: ball


def _between_levels(alpha_bar: Sequence[arb]) -> Table:
    before = [arb(1), *alpha_bar[:-1]]
    return Table([1 - abar / prev for abar, prev in zip(alpha_bar, before, strict=True)], list(alpha_bar))


def schedule_case(schedule: Named, coverage: Coverage) -> dict[str, Any]:
    """A whole schedule: beta, alpha_bar and 1 - alpha_bar of every level."""
    margins = _margins(schedule)
    flags = ["table"] + ["few-steps"] * (schedule.T <= 2) + ["zero-snr"] * _ends_in_noise(schedule)
    flags += ["clipped"] * ("beta_max" in PARAMETERS[schedule.name])
    columns = _decided(schedule)
    shape = (schedule.T,)
    try:
        outputs = [output(name, columns[name], margin, shape) for name, margin in margins.items()]
    except GoldenError as error:
        raise GoldenError(f"case {schedule.formula}/{schedule.id}: {error}") from None
    coverage.add(schedule.formula, [margins["alpha_bar" if schedule.zero_snr else "beta"]])
    if not schedule.zero_snr:
        coverage.add(PRODUCT, [margins["alpha_bar"]])
    given = {"schedule": schedule.given()}
    return case(f"{schedule.formula}/{schedule.id}", schedule.formula, flags, given, outputs)


def _ends_in_noise(schedule: Named) -> bool:
    return schedule.zero_snr or schedule.name == "jsd"


def _decided(schedule: Named) -> dict[str, list[Certified]]:
    """The columns at a precision that decides every digit."""
    bits = 2 * FIRST_BITS
    while True:
        try:
            with ctx.workprec(bits):
                return {
                    name: [certified(ball, TABLE_DIGITS) for ball in column]
                    for name, column in table(schedule, bits).columns.items()
                }
        except UndecidedError:
            bits *= 2
            if bits > LAST_BITS:
                raise


def _margins(schedule: Named) -> dict[str, Margin]:
    right = table(schedule, MARGIN_BITS)
    with ctx.workprec(MARGIN_BITS):
        roundings = int(sp.count_ops(node(schedule.formula).closed, visual=False))
        if schedule.zero_snr:
            bounds, decoys = _rescaled_conditions(schedule), _level_distances(schedule, right)
            return {name: Margin(bound, roundings, decoys) for name, bound in bounds.items()}
        own = _step_conditions(schedule, right)
        errors = _level_errors(right, own)
        columns = {"beta": own, "alpha_bar": errors, "one_minus_alpha_bar": _rest_errors(right, errors)}
        decoys_of = {
            "beta": _beta_distances(schedule, right),
            "alpha_bar": _product_distances(right, False),
            "one_minus_alpha_bar": _product_distances(right, True),
        }
        return {name: Margin(max(columns[name]), roundings, decoys_of[name]) for name in columns}


def _step_conditions(schedule: Named, right: Table) -> list[Fraction]:
    """Condition number of each beta: in the parameters, or in the two levels whose ratio defines it."""
    if schedule.name in FROM_LEVELS:
        return [max(upper(2 * (1 - value) / value), Fraction(1)) for value in right.beta]
    closed = node(schedule.formula).closed
    bounds = [_condition(*at_step(schedule, closed, t)) for t in range(1, schedule.T + 1)]
    return [max(bound, Fraction(1)) for bound in bounds]


def _condition(
    expr: sp.Expr, values: Mapping[sp.Basic, Value], weight: Mapping[str, Fraction] = ONCE
) -> Fraction:
    """Sum of |d log f / d log v| over the inputs but t and T, each times the error that it may have."""
    total = Fraction(0)
    for symbol in _inputs(expr):
        weighed = enclosure(symbol * slope(expr, symbol), values, MARGIN_BITS)
        total += upper(weighed) * weight.get(symbol.name, Fraction(1))
    return round_up(total / lower(enclosure(expr, values, MARGIN_BITS)), 6)


@cache
def _inputs(expr: sp.Expr) -> tuple[sp.Symbol, ...]:
    return tuple(symbol for symbol in symbols_of(expr) if symbol.name not in ("t", "T"))


def _level_errors(right: Table, own: Sequence[Fraction]) -> list[Fraction]:
    """How many roundings each alpha_bar may hold.

    Every factor 1 - beta_i brings its own, and those of beta_i times beta_i / (1 - beta_i).
    """
    found, total = [], Fraction(0)
    for t, (value, bound) in enumerate(zip(right.beta, own, strict=True), 1):
        if not (1 - value).is_zero():
            total += upper(value / (1 - value)) * bound
        found.append(round_up(t + total, 6))
    return found


def _rest_errors(right: Table, errors: Sequence[Fraction]) -> list[Fraction]:
    """The same for 1 - alpha_bar, in the logarithm: times alpha_bar / (1 - alpha_bar), but t roundings."""
    pairs = enumerate(zip(right.alpha_bar, errors, strict=True), 1)
    return [t + (error - t) * upper(abar / (1 - abar)) for t, (abar, error) in pairs]


def _rescaled_conditions(schedule: Named) -> dict[str, Fraction]:
    """Largest condition numbers after the shift of amplitudes, in the levels before it and their errors."""
    base = table(schedule.base, MARGIN_BITS)
    errors = _level_errors(base, _step_conditions(schedule.base, base))
    kept = node(schedule.formula).closed
    names = {symbol.name: symbol for symbol in kept.free_symbols}
    previous = sp.Symbol("abar_prev", positive=True)
    written = {
        "beta": 1 - kept / kept.xreplace({names["abar_t"]: previous}),
        "alpha_bar": kept,
        "one_minus_alpha_bar": 1 - kept,
    }
    worst = dict.fromkeys(written, Fraction(1))
    for t in range(2, schedule.T):
        balls = {"abar_1": 1, "abar_T": schedule.T, "abar_t": t, "abar_prev": t - 1}
        weight = {name: errors[k - 1] for name, k in balls.items()}
        for name, expr in written.items():
            values = {symbol: _constant(base.alpha_bar[balls[symbol.name] - 1]) for symbol in _inputs(expr)}
            worst[name] = max(worst[name], _condition(expr, values, weight))
    return worst


def _sample(T: int) -> list[int]:
    """Levels at which a decoy is compared: a lower bound of its distance over the whole column."""
    return sorted({t for t in (1, 2, 3, T // 4, T // 2, 3 * T // 4, T - 1, T) if 1 <= t <= T})


def _farthest(right: Sequence[arb], wrong: Callable[[int], arb], T: int) -> Fraction | None:
    found: list[Fraction] = []
    for t in _sample(T):
        try:
            far = relative_distance(right[t - 1], wrong(t))
        except BallError:
            far = FAR
        if far is not None:
            found.append(far)
    return max(found) if found else None


def _beta_distances(schedule: Named, right: Table) -> dict[str, Fraction | None]:
    decoys = {decoy.id: decoy.closed for decoy in node(schedule.formula).decoys}
    return {
        name: _farthest(right.beta, partial(_beta_at, schedule, closed), schedule.T)
        for name, closed in decoys.items()
    }


def _beta_at(schedule: Named, closed: sp.Expr, t: int) -> arb:
    return beta(schedule, closed, t, MARGIN_BITS)


def _product_distances(right: Table, rest: bool) -> dict[str, Fraction | None]:
    """Distances of the decoys of the running product, for alpha_bar or for what it leaves of 1."""
    column = right.one_minus_alpha_bar if rest else right.alpha_bar
    decoys = {decoy.id: 1 - decoy.closed if rest else decoy.closed for decoy in node(PRODUCT).decoys}
    T = min(len(column), 64)  # each entry of a decoy is a product over all levels before it
    return {name: _farthest(column, partial(product_at, right, closed), T) for name, closed in decoys.items()}


def product_at(right: Table, closed: sp.Expr, t: int) -> arb:
    """A formula for the running product, at level t of a table."""
    functions = {entry.func for entry in closed.atoms(AppliedUndef)}
    values: dict[Any, Any] = {function: lambda k: _constant(right.beta[k - 1]) for function in functions}
    values |= {symbol: t for symbol in closed.free_symbols if symbol.name == "t"}
    return enclosure(closed, values, MARGIN_BITS)


def _level_distances(schedule: Named, right: Table) -> dict[str, Fraction | None]:
    decoys = {decoy.id: decoy.closed for decoy in node(schedule.formula).decoys}
    return {name: _column_distance(schedule, right, closed) for name, closed in decoys.items()}


def _column_distance(schedule: Named, right: Table, closed: sp.Expr) -> Fraction | None:
    return _farthest(right.alpha_bar, lambda t: rescaled(schedule, closed, t, MARGIN_BITS), schedule.T)


def schedules(name: str, zero_snr: bool = False) -> Callable[[Coverage], Iterator[dict[str, Any]]]:
    """The cases of one schedule at each number of steps for which it is defined."""

    def build(coverage: Coverage) -> Iterator[dict[str, Any]]:
        for T in LENGTHS:
            if (name, T) not in UNDEFINED and not (zero_snr and T == 1):
                yield schedule_case(Named(name, T, zero_snr), coverage)
        if name in CHANGED and not zero_snr:
            yield schedule_case(Named(name, 100, False, CHANGED[name]), coverage)

    return build
