"""What the checks of one target share: its calls, its tables, and measurements made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdiff.oracle import formulas
from refdiff.oracle import points as where
from refdiff.oracle.calls import SAMPLE_LIMIT, Caller, Numbers, TargetError, numbers
from refdiff.oracle.points import Points, Tables
from refdiff.oracle.probe import Probe, probe
from refdiff.oracle.target import Dialect, offered
from refdiff.schedule import Schedule

Array = NDArray[Any]
# beta / (1 - beta) of a beta that is clipped to 0.999
CLIPPED = 999.0


@dataclass
class Session:
    """One target under test."""

    target: Any
    dialect: Dialect
    notes: list[str] = field(default_factory=list)
    cache: dict[Any, Any] = field(default_factory=dict)

    @cached_property
    def caller(self) -> Caller:
        """Calls of the target."""
        return Caller(self.target, self.dialect, {"sample": SAMPLE_LIMIT, "ode_log_likelihood": SAMPLE_LIMIT})

    @cached_property
    def offered(self) -> tuple[str, ...]:
        """The ports that the target offers."""
        return offered(self.target)

    @cached_property
    def schedule(self) -> Schedule:
        """The declared schedule."""
        return self.dialect.reference()

    @cached_property
    def declared(self) -> Tables:
        """The tables of the declared schedule."""
        return where.tables(self.schedule)

    @property
    def T(self) -> int:
        """The number of steps of the declared schedule."""
        return self.schedule.T

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """A value that is made once, or the error that making it raised."""
        if key not in self.cache:
            try:
                self.cache[key] = make()
            except TargetError as error:
                self.cache[key] = error
        found = self.cache[key]
        if isinstance(found, TargetError):
            raise found
        return found

    def table(self, port: str) -> Numbers:
        """A table that the target answers."""
        return self.once(("table", port), lambda: numbers(self.caller(port, {}).value))  # type: ignore[no-any-return]

    def probe(self, name: str, points: Points | None = None, key: str = "main", **how: Any) -> Probe:
        """The coefficients of a port."""
        port, given = formulas.PORTS[name], ("probe", name, key, tuple(how.items()))
        made: Probe = self.once(given, lambda: probe(self.caller, port, points or self.points(name), **how))
        return made

    def points(self, name: str) -> Points:
        """Where a port is probed."""
        port = formulas.PORTS[name]
        if name in formulas.TIMELESS:
            return self.with_scalars(name, where.timeless())
        found = where.pairs(self.T) if port.two_levels else where.neighbours(self.T)
        if not np.isfinite(self.declared.log_abar[-1]):
            # without signal at T, noise says nothing about data there
            found = found.pick(found.t < self.T)
        return self.with_scalars(name, found)

    def scan(self, name: str) -> Points:
        """Consecutive levels; where there are none, scalars close to each other."""
        if name in formulas.TIMELESS:
            return where.stretched(formulas.PORTS[name].scalars)
        return self.with_scalars(name, where.consecutive(self.T), few=True)

    def with_scalars(self, name: str, found: Points, few: bool = False) -> Points:
        """Points crossed with the scalars of a port."""
        port = formulas.PORTS[name]
        for scalar in port.scalars:
            grid = where.GRIDS[scalar]
            found = where.crossed(found, scalar, grid[-1:] if few else grid)
        if name == "ddpm_step" and self.dialect.variance.startswith("learned"):
            values = where.FRACTIONS if self.dialect.variance == "learned_range" else (-6.0, -3.0, 0.5)
            found = where.crossed(found, "f", values[1:2] if few else values)
        return found

    @cached_property
    def candidates(self) -> dict[str, Tables]:
        """The tables that the target may be using: the declared ones, and its own where they differ."""
        found = {"declared": self.declared}
        own = {port: self._own(port) for port in ("alphas_cumprod", "betas")}
        for port, table in own.items():
            if table is not None and not self.close(table, self.declared):
                found[port] = table
        abar, beta = own["alphas_cumprod"], own["betas"]
        if abar is not None and beta is not None and abar.T == beta.T and not self.close(abar, beta):
            found["alphas_cumprod and betas"] = abar.mixed(beta.beta)
        return found

    def _own(self, port: str) -> Tables | None:
        if port not in self.offered:
            return None
        try:
            values = self.table(port).values.numpy().astype(np.longdouble)
        except TargetError:
            return None
        return own_tables(port, values, self.dialect)

    def close(self, a: Tables, b: Tables) -> bool:
        """Whether two schedules agree as well as float32 allows."""
        if a.log_abar.shape != b.log_abar.shape:
            return False
        with np.errstate(all="ignore"):
            gap = a.log_abar - b.log_abar
            # a beta near one, rounded, moves its 1 - beta and every product from there on
            grown = np.minimum(b.beta / (1 - b.beta), CLIPPED)
            size = np.abs(gap) / (2.0**-24 * (2 * np.arange(len(gap)) + 16 + np.cumsum(grown)))
            step = np.abs(np.diff(gap)) / (2.0**-24 * 16 * (1 + b.beta[1:] / (1 - b.beta[1:])))
            near = np.nanmax(size) <= 1 and np.nanmax(step) <= 1
        return bool(near) and bool(np.isfinite(a.log_abar[1:]).any())


def own_tables(port: str, values: Array, dialect: Dialect) -> Tables | None:
    """A target's own table as the tables of a schedule; None where it is not one."""
    if values.ndim != 1 or len(values) < 1 or not np.isfinite(values).all():
        return None
    if port == "betas":
        beta = values**2 if dialect.notation == "su" else values
        if not ((beta > 0) & (beta < 1)).all():
            return None
        return Tables(np.append(0.0, np.cumsum(np.log1p(-beta))), np.append(0.0, beta))
    abar = values**2 if dialect.notation == "su" else values
    if not ((abar > 0) & (abar <= 1)).all():
        return None
    log_abar = np.append(np.longdouble(0.0), np.log(abar))
    return Tables(log_abar, np.append(0.0, -np.expm1(np.diff(log_abar))))
