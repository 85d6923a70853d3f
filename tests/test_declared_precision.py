"""A precision that is declared is demanded: float32 tables pass where nothing is declared, and only there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import refdiff
from refdiff import ddpm, schedule

LINEAR = schedule.linear(1000)
SHORT = schedule.linear_rescaled(100)


class Step(refdiff.Target):
    """DDPM's step, with tables of a dtype and a relative error of one coefficient at one level."""

    def __init__(
        self, tables: str | None, dtype: torch.dtype = torch.float64, error: float = 0.0, level: int = 500
    ) -> None:
        own = LINEAR if level == 500 else SHORT
        self.dialect = refdiff.Dialect(schedule=own, tables=tables, batched_t=False)
        self.alpha_bar = own.alpha_bar.to(dtype).double()
        self.error, self.level = error, level

    def ddpm_step(self, x_t: Tensor, t: int, eps: Tensor, noise: Tensor) -> Tensor:
        own = schedule.from_alpha_bar(self.alpha_bar[1:])
        k = ddpm.step_coefficients(own, t, like=x_t)
        return k.x_t * x_t + k.eps * eps * (1 + self.error * (t == self.level)) + k.noise * noise


def report(target: Step) -> refdiff.Report:
    return refdiff.check(target, only="ddpm_step.coefficients")


def test_float32_tables_pass_and_are_named_where_nothing_is_declared() -> None:
    found = report(Step(None, torch.float32))
    assert found.ok, str(found)
    assert found["ddpm_step.coefficients"].precision == "float32 tables"


def test_float32_tables_fail_where_float64_is_declared() -> None:
    found = report(Step("float64", torch.float32))
    assert not found.ok
    assert found.families == ("precision",)


@pytest.mark.parametrize("error", [1e-3, 1e-6, 1e-9])
def test_one_small_error_fails_where_float64_is_declared(error: float) -> None:
    assert report(Step("float64")).ok
    assert not report(Step("float64", error=error)).ok


@pytest.mark.parametrize("level", [33, 500])
def test_one_small_error_is_no_rounding_of_tables(level: int) -> None:
    assert not report(Step(None, error=1e-7, level=level)).ok
