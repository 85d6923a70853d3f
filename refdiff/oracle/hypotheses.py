"""Everything that measured coefficients are compared with when they are wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import CodeType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from refdiff import schedule as schedules
from refdiff.oracle import formulas
from refdiff.oracle import points as where
from refdiff.oracle.expected import Expected
from refdiff.oracle.mutate import Mutant, mutants, pretty
from refdiff.oracle.points import Points, Tables
from refdiff.oracle.target import Dialect

Array = NDArray[Any]
# half a dozen roundings more than a right formula may need: a wrong one may be conditioned worse
SLACK = 32.0
UNDEFINED = 0.3


@dataclass(frozen=True)
class Case:
    """What was measured of one port, and where.

    Args:
        port, dialect, table: what was asked.
        points: where.
        got: coefficients (states, P).
        want: what they should be.
        usable: points with an answer.
        programs: ways of writing the right formula.
        steps: number of steps of the sampler that the points are from, if any.
    """

    port: str
    dialect: Dialect
    table: Tables
    points: Points
    got: Array
    want: Expected
    usable: Array
    programs: tuple[str, ...]
    steps: int = 0

    @cached_property
    def scale(self) -> Array:
        """Units in which a right formula may be off, (states, P)."""
        return (self.want.local + self.want.grown).astype(float)

    def ratios(self, values: Array, unit: float) -> Array:
        """Error of a hypothesis in units of what rounding explains, (states, P); inf where only one is
        finite."""
        with np.errstate(all="ignore"):
            ratio = np.abs(self.got - values) / (16 * unit * (self.scale + np.abs(values) + 1e-300))
        both = ~np.isfinite(self.got) & ~np.isfinite(values)
        undefined = np.isnan(values) & (np.isnan(values).any(0).mean() <= UNDEFINED)
        ratio = np.where(both | undefined, 0.0, ratio)
        ratio = np.where(np.isfinite(ratio), ratio, np.inf)
        return np.where(self.usable, ratio, 0.0)


@dataclass(frozen=True)
class Hypothesis:
    """One form that the measured coefficients may have: in words, or as a mutant of the formula."""

    family: str
    source: str | Mutant
    values: Array
    rank: int
    program: str | None = None
    dialect: Dialect | None = None
    also: tuple[str, ...] = ()
    first: Mutant | None = None

    @property
    def message(self) -> str:
        """The mistake in words; both, where the mutant is one of a mutant."""
        words = self.source if isinstance(self.source, str) else self.source.words
        return words if self.first is None else f"{self.first.words}; and {words}"

    @property
    def formula(self) -> str | None:
        """The formula that fits."""
        program = self.program if isinstance(self.source, str) else self.source.program
        return None if program is None else pretty(program.replace("\n", "; "))


def evaluate(code: CodeType, env: Mapping[str, Any], states: tuple[str, ...]) -> Array:
    """The coefficients of a program, float64."""
    try:
        return formulas.run(code, env, states).astype(float)
    except (NameError, TypeError, ValueError):
        count = len(next(iter(env.values())))
        return np.full((len(states), count), np.nan)


def environment(
    case: Case, table: Tables | None = None, points: Points | None = None, first: bool | None = None
) -> dict[str, Array]:
    """The symbols at the points, those of mistakes included, float64."""
    table, points = table or case.table, points or case.points
    first = case.dialect.alpha_bar_0 == "first" if first is None else first
    symbols = where.scalars(table, points, first=first) | where.extras(table, points)
    symbols["alpha_next"] = 1 - symbols["beta_next"]
    return {name: np.asarray(value, dtype=float) for name, value in symbols.items()}


def simple(case: Case) -> Iterator[Hypothesis]:
    """Conventions, levels, tables: what is cheap and goes for a whole formula."""
    yield from dialects(case)
    yield from _tempered(case)
    yield from shifted(case)
    yield from other_tables(case)


def dialects(case: Case) -> Iterator[Hypothesis]:
    """The right formula under each convention that was not declared."""
    port = formulas.PORTS_AND_SAMPLERS.get(case.port)
    if port is None:
        return
    for changes, words in _CONVENTIONS:
        name, value = next(iter(changes.items()))
        if getattr(case.dialect, name) == value or not _concerns(name, case.port):
            continue
        dialect = case.dialect.but(**changes)
        env = environment(case, first=dialect.alpha_bar_0 == "first")
        code = formulas.compiled(formulas.programs(port, dialect)[0])
        also = _ALSO.get(name, ())
        yield Hypothesis("convention", words, evaluate(code, env, case.want.states), 0, None, dialect, also)


def _tempered(case: Case) -> Iterator[Hypothesis]:
    """Another temperature: the noise has a constant factor, all else being right."""
    if case.port not in _OF_ONE_TOPIC["temperature"]:
        return
    row = case.want.states.index("z")
    with np.errstate(all="ignore"):
        ratio = float(np.median(np.abs(case.got[row] / case.want.values[row].astype(float))))
    if np.isfinite(ratio) and ratio > 0:
        values = case.want.values.astype(float).copy()
        values[row] *= ratio
        dialect = case.dialect.but(temperature=float(f"{case.dialect.temperature * ratio**2:.9g}"))
        words = f"the temperature is {dialect.temperature:.6g}"
        yield Hypothesis("convention", words, values, 3, None, dialect, _ALSO["temperature"])


_ALSO = {
    "alpha_bar_0": ("noise-at-t0", "index"),
    "variance": ("variance",),
    "parameterization": ("parameterization",),
    "space": ("parameterization", "data-scaling"),
    "eta": ("variance", "sqrt"),
    "langevin": ("variance", "sqrt"),
    "temperature": ("variance",),
    "cfg": ("guidance",),
    "renoise": ("guidance",),
}
_CONVENTIONS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"variance": "beta"}, "the step's variance is beta_t"),
    ({"variance": "beta_tilde"}, "the step's variance is beta_tilde_t"),
    ({"eta": "eta_squared"}, "the argument eta is eta²"),
    ({"eta": "eta"}, "the argument eta is eta, not its square"),
    (
        {"alpha_bar_0": "first"},
        "alpha_bar_1 stands for alpha_bar_0 where a step ends at data, so that its noise stays",
    ),
    ({"alpha_bar_0": "one"}, "alpha_bar_0 = 1"),
    ({"parameterization": "x_0"}, "the model output is read as x_0"),
    ({"parameterization": "v"}, "the model output is read as v"),
    ({"parameterization": "score"}, "the model output is read as the score"),
    ({"parameterization": "eps"}, "the model output is read as eps"),
    ({"space": "ve"}, "states are x / sqrt(alpha_bar), with noise of standard deviation sigma"),
    ({"space": "vp"}, "states are x, not x / sqrt(alpha_bar)"),
    ({"langevin": "eta"}, "the step is x + h score + sqrt(2 h) noise"),
    ({"langevin": "half"}, "the step is x + h/2 score + sqrt(h) noise"),
    ({"langevin": "half_square"}, "the step is x + h²/2 score + h noise"),
    ({"temperature": 1.0}, "the temperature is 1"),
    ({"cfg": "imagen"}, "the scale is the one of u + s (c - u), where s = 1 is no guidance"),
    ({"cfg": "ho"}, "the scale is the one of c + w (c - u), where w = 0 is no guidance"),
    ({"renoise": "guided"}, "the guided eps is added again"),
    ({"renoise": "unconditional"}, "the unconditional eps is added again"),
)
_OF_ONE_TOPIC = {
    "langevin": ("langevin_step", "annealed_langevin_step"),
    "temperature": ("langevin_step", "annealed_langevin_step"),
    "cfg": ("cfg", "cfg_step"),
    "renoise": ("cfg_step",),
}


def _concerns(name: str, port: str) -> bool:
    if name in _OF_ONE_TOPIC:
        return port in _OF_ONE_TOPIC[name]
    if name == "variance":
        return port in ("ddpm", "ddpm_step", "guided_mean")
    if name == "eta":
        return port == "ddim_step"
    if name == "parameterization":
        return port in ("ddpm", "ddpm_step", "ddim_step", "ddim_invert", "guided_mean")
    return True


def shifted(case: Case) -> Iterator[Hypothesis]:
    """The right formula at other levels than those asked for."""
    t, s, T = case.points.t, case.points.s, case.table.T
    moves: list[tuple[str, str, Array, Array]] = []
    for dt, ds in ((1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1), (1, -1), (-1, 1)):
        words = f"matches level {_plus('t', dt)} for t and {_plus('s', ds)} for s"
        moves.append(("index", words, t + dt, s + ds))
    two = (
        formulas.PORTS_AND_SAMPLERS[case.port].two_levels
        if case.port in formulas.PORTS_AND_SAMPLERS
        else False
    )
    if two:
        stride = np.maximum(t - s, 1)
        moves += [
            ("index", "matches level t - 1 instead of s", t, t - 1),
            ("index", "matches a start from s and an end one stride below", s, np.maximum(s - stride, 0)),
            ("index", "matches a start from t and an end one stride above", t, np.minimum(t + stride, T)),
            ("index", "matches the levels one stride higher", np.minimum(t + stride, T), t),
            ("index", "matches t and s swapped", s, t),
            ("index", "matches level t for s", t, t),
            ("index", "matches level s for t", s, s),
        ]
    if case.steps:
        by_stride = np.maximum(t - T // case.steps, 0)
        moves += [
            ("index", "the previous level is taken by stride, t - T // n, not from the list", t, by_stride),
            (
                "index",
                "the previous level is taken by stride, and is not data where it is below 1",
                t,
                np.maximum(by_stride, 1),
            ),
        ]
    for kind in (torch.bfloat16, torch.float16):
        rounded = torch.as_tensor(t).to(kind).long().numpy()
        below = torch.as_tensor(s).to(kind).long().numpy()
        zero = torch.as_tensor(t - 1).to(kind).long().numpy() + 1
        zero_s = np.where(s > 0, torch.as_tensor(s - 1).to(kind).long().numpy() + 1, 0)
        name = str(kind).removeprefix("torch.")
        moves.append(
            ("precision", f"levels are rounded to {name}", np.minimum(rounded, T), np.minimum(below, T))
        )
        moves.append(
            ("precision", f"0-based levels are rounded to {name}", np.minimum(zero, T), np.minimum(zero_s, T))
        )
        if not two:
            moves.append(
                (
                    "precision",
                    f"0-based levels are rounded to {name}",
                    np.minimum(zero, T),
                    np.minimum(zero, T) - 1,
                )
            )
    moves += [
        ("index", "matches the reversed level T + 1 - t: a table in descending order", T + 1 - t, T + 1 - s),
        ("index", "matches the reversed level T - t: a table in descending order", T - t, T - s),
        ("index", "matches level t of the neighbouring pair for every s", t, t - 1),
        ("index", "matches level t = 1 for every t", np.ones_like(t), np.zeros_like(s)),
        ("index", "matches level t = T for every t", np.full_like(t, T), np.full_like(s, T - 1)),
    ]
    for family, words, new_t, new_s in moves:
        if np.array_equal(new_t, t) and np.array_equal(new_s, s):
            continue
        rank = 1 if np.array_equal(new_t - t, new_s - s) else 2
        env = environment(case, points=Points(new_t, new_s, case.points.scalars))
        env["last"] = np.where(s > 0, 1.0, 0.0)
        clipped = Points(np.clip(new_t, 0, T), np.clip(new_s, 0, T), case.points.scalars)
        at_edges = environment(case, points=clipped) | {"last": env["last"]}
        for program in case.programs[:2]:
            code = formulas.compiled(program)
            formula = program
            yield Hypothesis(family, words, evaluate(code, env, case.want.states), rank, formula)
            yield Hypothesis(
                family,
                f"{words} (clamped to the table)",
                evaluate(code, at_edges, case.want.states),
                rank,
                formula,
            )
        if np.array_equal(new_t - t, new_s - s):
            # both off alike: then the mask of the last step is off too
            moved = env | {"last": np.where(new_s > 0, 1.0, 0.0)}
            values = evaluate(formulas.compiled(case.programs[0]), moved, case.want.states)
            yield Hypothesis(family, words, values, rank, case.programs[0])
        kept = Points(
            np.where(t == 0, 0, np.clip(new_t, 0, T)),
            np.where(s == 0, 0, np.clip(new_s, 0, T)),
            case.points.scalars,
        )
        at_data = environment(case, points=kept) | {"last": env["last"]}
        values = evaluate(formulas.compiled(case.programs[0]), at_data, case.want.states)
        yield Hypothesis(family, f"{words} (except at data)", values, rank, case.programs[0])
    yield from _wrapped(case)
    yield from _one_table_shifted(case)
    yield from named(case)


def _one_table_shifted(case: Case) -> Iterator[Hypothesis]:
    """One table read at a neighbouring level, the others at the right one."""
    plain = environment(case)
    t, s, T = case.points.t, case.points.s, case.table.T
    for shift in (-1, 1):
        for low in (0, 1):
            near = Points(np.clip(t + shift, low, T), np.clip(s + shift, low, T), case.points.scalars)
            other = environment(case, points=near)
            for words, names in (
                ("beta_t and alpha_t", ("beta_t", "alpha_t")),
                ("alpha_bar_t", ("abar_t",)),
                ("alpha_bar_s", ("abar_s",)),
            ):
                env = plain | {name: other[name] for name in names}
                verb, side = "is" if len(names) == 1 else "are", "late" if shift > 0 else "early"
                text = f"{words} {verb} read one level {side}"
                for program in case.programs:
                    values = evaluate(formulas.compiled(program), env, case.want.states)
                    yield Hypothesis("index", text, values, 1, program, also=("variance",))


def named(case: Case) -> Iterator[Hypothesis]:
    """Forms that people use or mistake for the right one, whole."""
    env = environment(case)
    port = formulas.PORTS_AND_SAMPLERS.get(case.port)
    for family, words, program in formulas.CONFUSED.get(case.port, ()):
        adapted = program if port is None else formulas.adapted(program, port, case.dialect)
        yield Hypothesis(
            family, words, evaluate(formulas.compiled(adapted), env, case.want.states), 1, adapted
        )


def _plus(name: str, change: int) -> str:
    return name if change == 0 else f"{name} {'+' if change > 0 else '-'} {abs(change)}"


def _wrapped(case: Case) -> Iterator[Hypothesis]:
    """What stands for alpha_bar_0: the last entry (an index of -1), the first, or nothing."""
    at_data = case.points.s == 0
    plain = environment(case)
    last = float(np.exp(case.table.log_abar[-1]))
    choices = (
        (
            "index",
            "a step to data reads alpha_bar[-1] = alpha_bar_T: a negative index wraps around",
            last,
            ("noise-at-t0",),
        ),
        (
            "index",
            "a step to data reads alpha_bar_1: its level is not data",
            float(np.exp(case.table.log_abar[1])),
            ("noise-at-t0",),
        ),
        ("index", "a step to data reads alpha_bar = 0", 0.0, ("noise-at-t0",)),
    )
    for family, words, value, also in choices:
        env = plain | {"abar_s": np.where(at_data, value, plain["abar_s"])}
        for program in case.programs:
            yield Hypothesis(
                family,
                words,
                evaluate(formulas.compiled(program), env, case.want.states),
                1,
                program,
                also=also,
            )


def other_tables(case: Case) -> Iterator[Hypothesis]:
    """The right formula with another schedule, or with tables of low precision."""
    code = formulas.compiled(case.programs[0])
    for family, words, table, also in tables_by_mistake(case):
        env = environment(case, table)
        yield Hypothesis(family, words, evaluate(code, env, case.want.states), 2, case.programs[0], also=also)


def _tables_of_steps(case: Case) -> Iterator[tuple[str, str, Tables, tuple[str, ...]]]:
    """A schedule made with as many steps as the sampler takes, read at the number of the step."""
    for name, make in _made_of_steps(case):
        try:
            short = where.tables(make(case.steps))
        except ValueError:
            continue
        log_abar = np.full(case.table.T + 1, np.nan, dtype=np.longdouble)
        visited = np.unique(np.append(case.points.t, case.points.s))
        if len(visited) == case.steps + 1:
            log_abar[visited] = short.log_abar
            yield (
                "schedule",
                f"the {name} schedule is made with T = {case.steps}, the number of sampling steps",
                Tables(log_abar, case.table.beta),
                ("index",),
            )


def _made_of_steps(case: Case) -> Iterator[tuple[str, Callable[[int], schedules.Schedule]]]:
    first, last = float(case.table.beta[1]), float(case.table.beta[-1])
    yield from schedules.SCHEDULES.items()
    for b1, bT in ((first, last), (1e-4, 0.02)):
        yield "linear", lambda n, b1=b1, bT=bT: schedules.linear(n, b1, bT)  # type: ignore[misc]
        yield "scaled_linear", lambda n, b1=b1, bT=bT: schedules.scaled_linear(n, b1, bT)  # type: ignore[misc]


def tables_by_mistake(case: Case) -> Iterator[tuple[str, str, Tables, tuple[str, ...]]]:
    """Other tables: rounded ones, wrongly made ones, other schedules of the same length."""
    table = case.table
    beta, abar = table.beta[1:].astype(float), np.exp(table.log_abar[1:]).astype(float)
    for kind in (torch.float16, torch.bfloat16):
        name = str(kind).removeprefix("torch.")
        for words, low in (
            (f"alpha_bar is rounded to {name}", torch.as_tensor(abar).to(kind).double().numpy()),
            (f"beta is rounded to {name}", np.cumprod(1 - torch.as_tensor(beta).to(kind).double().numpy())),
            (
                f"alpha_bar is a product in {name}",
                torch.cumprod(1 - torch.as_tensor(beta).to(kind), 0).double().numpy(),
            ),
        ):
            yield "precision", words, _from_abar(low), ()
    yield (
        "schedule",
        "alpha_bar = exp(-sum of beta), the continuous limit of the product",
        _from_abar(np.exp(-np.cumsum(beta))),
        (),
    )
    yield "schedule", "alpha_bar = 1 - sum of beta", _from_abar(1 - np.cumsum(beta)), ()
    yield "sqrt", "the root of alpha_bar stands for alpha_bar", _from_abar(np.sqrt(abar)), ("schedule",)
    yield "sqrt", "the square of alpha_bar stands for alpha_bar", _from_abar(abar**2), ("schedule",)
    yield "index", "alpha_t = 1 - beta_t stands for alpha_bar_t", _from_abar(1 - beta), ("schedule",)
    yield "schedule", "the schedule is reversed", _from_abar(np.cumprod(1 - beta[::-1])), ("index",)
    if case.steps:
        yield from _tables_of_steps(case)
    for name, make in schedules.SCHEDULES.items():
        try:
            yield (
                "schedule",
                f"the schedule {name} instead of the declared one",
                where.tables(make(table.T)),
                (),
            )
        except ValueError:
            continue


def _from_abar(abar: Array) -> Tables:
    with np.errstate(all="ignore"):
        log_abar = np.append(np.longdouble(0), np.log(abar.astype(np.longdouble)))
        return Tables(log_abar, np.append(0.0, -np.expm1(np.diff(log_abar))))


def mutated(case: Case) -> Iterator[Hypothesis]:
    """One mistake somewhere in one way of writing the formula."""
    env = environment(case)
    for program in case.programs:
        yield from _mutated(case, program, env, 2)


def _mutated(case: Case, program: str, env: dict[str, Array], rank: int) -> Iterator[Hypothesis]:
    floor: dict[str, Any] = env | {"sqrt": _root_of_nonnegative}
    for mutant in mutants(program):
        values = evaluate(mutant.code, env, case.want.states)
        yield Hypothesis(mutant.family, mutant, values, rank + mutant.rank, also=mutant.also)
        if np.isnan(values).any():
            values = evaluate(mutant.code, floor, case.want.states)
            yield Hypothesis(mutant.family, mutant, values, rank + mutant.rank + 1, also=mutant.also)


def doubly(case: Case, singles: list[Hypothesis]) -> Iterator[Hypothesis]:
    """A second mistake on top of each of the given ones."""
    env = environment(case)
    for single in singles:
        if isinstance(single.source, str):
            continue
        for second in _mutated(case, single.source.program, env, 6):
            also = (*single.also, second.family, *second.also)
            yield replace(second, family=single.family, also=also, first=single.source)


def _root_of_nonnegative(x: Any) -> Any:
    return np.sqrt(np.maximum(x, 0))
