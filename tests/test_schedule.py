"""Schedules against their definitions at 50 digits, and the laws of their tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mpf

from refdiff import schedule as sch
from refdiff.schedule import SCHEDULES, Schedule

ULP = 2.0**-52
SIZES = (1, 2, 10, 1000)
mpmath.mp.dps = 50


def clip(ratio: mpf) -> mpf:
    return min(1 - ratio, mpf(0.999))


def cosine_f(x: mpf) -> mpf:
    s = mpf(0.008)
    return mpmath.cos((x + s) / (1 + s) * mpmath.pi / 2) ** 2


def logistic(x: mpf) -> mpf:
    return 1 / (1 + mpmath.exp(-x))


def sigmoid_f(x: mpf) -> mpf:
    return logistic(mpf(3)) - logistic(6 * x - 3)


def square_root_f(x: mpf) -> mpf:
    return 1 - mpmath.sqrt(x + mpf(1e-4))


def line(t: int, T: int, first: mpf, last: mpf) -> mpf:
    return first if T == 1 else first + (last - first) * (t - 1) / (T - 1)


def roots(t: int, T: int, first: float, last: float) -> mpf:
    return line(t, T, mpmath.sqrt(first), mpmath.sqrt(last)) ** 2


# beta_t of each schedule as its paper or code states it, in the defaults of the reference
DEFINITIONS: dict[str, Callable[[int, int], mpf]] = {
    "linear": lambda t, T: line(t, T, mpf(1e-4), mpf(0.02)),
    "linear_rescaled": lambda t, T: line(t, T, mpf(1e-4), mpf(0.02)) * 1000 / T,
    "scaled_linear": lambda t, T: roots(t, T, 0.00085, 0.012),
    "quadratic": lambda t, T: roots(t, T, 1e-4, 0.02),
    "square_root": lambda t, T: mpmath.sqrt(line(t, T, mpf(1e-4), mpf(0.02))),
    "constant": lambda t, T: mpf(0.02),
    "jsd": lambda t, T: mpf(1) / (T - t + 1),
    "sigmoid_beta": lambda t, T: mpf(1e-4) + (mpf(0.02) - mpf(1e-4)) * logistic(line(t, T, mpf(-6), mpf(6))),
    "cosine": lambda t, T: clip(cosine_f(mpf(t) / T) / cosine_f(mpf(t - 1) / T)),
    "sigmoid_alpha_bar": lambda t, T: clip(sigmoid_f(mpf(t) / T) / sigmoid_f(mpf(t - 1) / T)),
    "square_root_alpha_bar": lambda t, T: clip(square_root_f(mpf(t) / T) / square_root_f(mpf(t - 1) / T)),
}

# mistakes seen in ports; each must be told from the definition
BROKEN: dict[str, Callable[[int, int], mpf]] = {
    "linear": lambda t, T: line(t + 1, T + 1, mpf(1e-4), mpf(0.02)),
    "linear_rescaled": DEFINITIONS["linear"],
    "scaled_linear": lambda t, T: line(t, T, mpf(0.00085), mpf(0.012)),
    "quadratic": lambda t, T: line(t, T, mpf(1e-4) ** 2, mpf(0.02) ** 2),
    "square_root": lambda t, T: line(t, T, mpmath.sqrt(1e-4), mpmath.sqrt(0.02)),
    "constant": lambda t, T: mpf(0.02) / T,
    "jsd": lambda t, T: mpf(1) / (T - t + 2),
    "sigmoid_beta": lambda t, T: mpf(0.02) * logistic(line(t, T, mpf(-6), mpf(6))),
    "cosine": lambda t, T: clip(mpmath.sqrt(cosine_f(mpf(t) / T) / cosine_f(mpf(t - 1) / T))),
    "sigmoid_alpha_bar": lambda t, T: clip(logistic(3 - mpf(6 * t) / T) / logistic(3 - mpf(6 * t - 6) / T)),
    "square_root_alpha_bar": lambda t, T: (
        clip(square_root_f(mpf(t) / T) / square_root_f(mpf(t) / T - mpf(1) / T)) / 2
    ),
}


def relative_error(got: float, want: mpf) -> float:
    return 0.0 if want == got else float(abs(mpf(got) - want) / abs(want))


def worst_error(schedule: Schedule, definition: Callable[[int, int], mpf]) -> float:
    T, beta = schedule.T, schedule.beta.tolist()
    some = {*range(1, T + 1, 1 + T // 100), T - 1, T} - {0}
    return max(relative_error(beta[t], definition(t, T)) for t in some)


def allowed(name: str, T: int) -> bool:
    return name != "linear_rescaled" or T > 20


def make(name: str, T: int) -> Schedule:
    return SCHEDULES[name](T, s=0.1 / T) if name == "square_root_alpha_bar" else SCHEDULES[name](T)


CASES = [(name, T) for name in SCHEDULES for T in SIZES if allowed(name, T)]


@pytest.mark.parametrize(("name", "T"), CASES)
def test_beta_is_its_definition(name: str, T: int) -> None:
    # no cancellation, so each of at most a dozen roundings costs an ulp times a condition of at most 1.2
    assert worst_error(SCHEDULES[name](T), DEFINITIONS[name]) <= 16 * ULP


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_broken_definition_is_told_from_beta(name: str) -> None:
    assert worst_error(SCHEDULES[name](100), BROKEN[name]) > 1e-6


def test_the_plain_cosine_ratio_is_told_from_beta_by_its_cancellation() -> None:
    T = 100_000
    t = torch.arange(T + 1, dtype=torch.float64)
    f = torch.cos((t / T + 0.008) / 1.008 * torch.pi / 2) ** 2
    plain, beta = 1 - f[1:] / f[:-1], sch.cosine(T).beta[1:]
    some = [1, 2, 10, 1000, T // 2, T - 1]
    want = [DEFINITIONS["cosine"](t, T) for t in some]
    assert max(relative_error(beta[t - 1].item(), w) for t, w in zip(some, want, strict=True)) <= 16 * ULP
    assert max(relative_error(plain[t - 1].item(), w) for t, w in zip(some, want, strict=True)) > 1e4 * ULP


@pytest.mark.parametrize(("name", "T"), CASES)
def test_alpha_bar_is_the_product(name: str, T: int) -> None:
    schedule = SCHEDULES[name](T)
    product, beta = mpf(1), schedule.beta.tolist()
    for t in range(1, T + 1):
        product *= 1 - mpf(beta[t])
        if product == 0:
            assert t == T and schedule.log_alpha_bar[t] == -math.inf and schedule.alpha_bar[t] == 0
        else:
            # an ulp for the terms, half of one for their sum
            assert relative_error(schedule.log_alpha_bar[t].item(), mpmath.log(product)) <= 3 * ULP
            # exp turns a relative error of log into an absolute one
            error = relative_error(schedule.alpha_bar[t].item(), product)
            assert error <= (2 + 3 * abs(math.log(product))) * ULP


def prefix_error(log_alpha_bar: torch.Tensor, schedule: Schedule) -> float:
    terms = [math.log1p(-b) for b in schedule.beta[1:].tolist()]
    ends = [*range(1, schedule.T, schedule.T // 20), schedule.T]
    return max(abs(log_alpha_bar[t].item() / math.fsum(terms[:t]) - 1) for t in ends)


@pytest.mark.parametrize("name", ["linear", "quadratic", "sigmoid_beta", "constant", "cosine"])
def test_the_running_sum_does_not_lose_digits_over_100_000_steps(name: str) -> None:
    schedule = SCHEDULES[name](100_000)
    # an ulp for each term and its opponent's, half of one for each sum
    assert prefix_error(schedule.log_alpha_bar, schedule) <= 3 * ULP


def test_a_plain_running_sum_or_product_loses_digits() -> None:
    schedule = sch.linear(100_000)
    beta = schedule.beta
    one_by_one = torch.zeros_like(beta)
    total = 0.0
    for t, term in enumerate(torch.log1p(-beta).tolist()):
        total += term
        one_by_one[t] = total
    assert prefix_error(one_by_one, schedule) > 3 * ULP
    assert prefix_error((1 - beta).cumprod(0).log(), schedule) > 3 * ULP


TABLE_OF_LOG = {
    "alpha_bar": mpmath.exp,
    "sqrt_alpha_bar": lambda log: mpmath.exp(log / 2),
    "one_minus_alpha_bar": lambda log: -mpmath.expm1(log),
    "sqrt_one_minus_alpha_bar": lambda log: mpmath.sqrt(-mpmath.expm1(log)),
    "sigma": lambda log: mpmath.sqrt(mpmath.expm1(-log)),
    "snr": lambda log: 1 / mpmath.expm1(-log),
}
NAIVE = {
    "one_minus_alpha_bar": lambda s: 1 - s.alpha_bar,
    "sqrt_one_minus_alpha_bar": lambda s: (1 - s.alpha_bar).sqrt(),
    "sigma": lambda s: ((1 - s.alpha_bar) / s.alpha_bar).sqrt(),
    "snr": lambda s: s.alpha_bar / (1 - s.alpha_bar),
}


def table_error(table: torch.Tensor, schedule: Schedule, exact: Callable[[mpf], mpf]) -> float:
    some = sorted({1, 2, 3, schedule.T // 2, schedule.T - 1, schedule.last_signal} - {0})
    return max(relative_error(table[t].item(), exact(mpf(schedule.log_alpha_bar[t].item()))) for t in some)


@pytest.mark.parametrize("name", TABLE_OF_LOG)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_tables_are_functions_of_log_alpha_bar_without_cancellation(name: str, schedule: str) -> None:
    made = SCHEDULES[schedule](1000)
    # at most four roundings; exp of log/2 has half of the condition of exp
    assert table_error(made.table(name), made, TABLE_OF_LOG[name]) <= 6 * ULP
    if name in NAIVE and made.beta[1] < 1e-3:
        assert table_error(NAIVE[name](made), made, TABLE_OF_LOG[name]) > 6 * ULP


@pytest.mark.parametrize("name", SCHEDULES)
def test_log_snr_is_the_log_of_the_odds(name: str) -> None:
    schedule = SCHEDULES[name](1000)
    for t in (1, 2, 500, 998, 999, 1000):
        log = mpf(schedule.log_alpha_bar[t].item())
        if mpmath.isinf(log):
            assert schedule.log_snr[t] == -math.inf
            continue
        other = mpmath.log(-mpmath.expm1(log))
        # near zero the two logs cancel, which is the condition of the law and not of the code
        assert abs(mpf(schedule.log_snr[t].item()) - (log - other)) <= 4 * ULP * (abs(log) + abs(other))
    assert schedule.log_snr[0] == math.inf and schedule.snr[0] == math.inf and schedule.sigma[0] == 0


@pytest.mark.parametrize("T", [1, 2, 1000, 100_000])
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_has_its_tables_at_every_size(name: str, T: int) -> None:
    if not allowed(name, T):
        with pytest.raises(ValueError, match="beta_T"):
            SCHEDULES[name](T)
        return
    schedule = make(name, T)
    assert schedule.T == T
    for table in sch.TABLES:
        assert schedule.table(table).shape == (T + 1,) and schedule.table(table).dtype == torch.float64
        assert not schedule.table(table).isnan().any()
    assert schedule.beta[0] == 0 and schedule.alpha_bar[0] == 1
    assert (schedule.log_alpha_bar.diff() < 0).all()


betas = st.lists(st.floats(1e-12, 0.9999), min_size=1, max_size=30)


@st.composite
def schedules(draw: st.DrawFn, minimum: int = 1) -> Schedule:
    """A named schedule of any size, or one of any beta."""
    if draw(st.booleans()):
        return sch.from_beta(draw(betas.filter(lambda b: len(b) >= minimum)))
    T = draw(st.integers(max(minimum, 21), 200))
    return make(draw(st.sampled_from(sorted(SCHEDULES))), T)


@st.composite
def descents(draw: st.DrawFn) -> tuple[Schedule, tuple[int, ...]]:
    """A schedule and levels of it that descend to 0."""
    schedule = draw(schedules())
    kept = draw(st.sets(st.integers(1, schedule.T), min_size=1))
    return schedule, (*sorted(kept, reverse=True), 0)


@given(schedules())
def test_signal_falls_and_noise_rises(schedule: Schedule) -> None:
    assert (schedule.log_alpha_bar.diff() < 0).all()
    assert (schedule.log_snr.diff() < 0).all()
    # rounding may make neighbours equal where a table saturates, never reverse them by more than an ulp
    for name, sign in (("alpha_bar", -1), ("snr", -1), ("one_minus_alpha_bar", 1), ("sigma", 1)):
        table = schedule.table(name)[1:]
        assert (sign * table[1:] >= sign * table[:-1] - 4 * ULP * table[:-1].abs()).all()


@given(schedules())
def test_from_beta_and_from_alpha_bar_are_inverse(schedule: Schedule) -> None:
    again = sch.from_beta(schedule.beta[1:])
    # 1 - beta of a rounded beta has the condition beta / (1 - beta)
    alpha, log = schedule.alpha[1:], schedule.log_alpha_bar[1:]
    condition = 1 + schedule.beta[1:] / alpha / alpha.log().abs()
    error = (again.log_alpha_bar[1:] - log).abs() / log.abs()
    assert (error <= 4 * ULP * condition.cummax(0).values)[log.isfinite()].all()
    end = schedule.last_signal + 1
    if schedule.alpha_bar[end - 1] > 1e-300 and end > 1 and (schedule.alpha_bar[:end].diff() < 0).all():
        back = sch.from_alpha_bar(schedule.alpha_bar[:end])
        # a float near 1 holds 1 - alpha_bar to an ulp of 1; exp has the condition |log|
        slack = (4 + 4 * schedule.log_alpha_bar[:end].abs()) * ULP
        assert ((back.beta - schedule.beta[:end]).abs() <= 2 * slack).all()
        assert ((back.alpha_bar - schedule.alpha_bar[:end]).abs() <= slack * schedule.alpha_bar[:end]).all()


def test_alpha_bar_may_be_given_with_or_without_data() -> None:
    values = [0.9, 0.5, 0.0]
    with_data, without = (
        sch.from_alpha_bar([1.0, *values]),
        sch.from_alpha_bar(torch.tensor(values, dtype=torch.float64)),
    )
    assert torch.equal(with_data.beta, without.beta) and with_data.T == 3
    assert without.beta[1].item() == pytest.approx(0.1, rel=2 * ULP / 0.1)
    assert without.beta[3] == 1 and without.log_alpha_bar[3] == -math.inf and without.last_signal == 2


def test_a_step_that_beta_cannot_hold_keeps_its_signal() -> None:
    """1 - beta rounds to 0 here; the logs do not."""
    schedule = sch.from_alpha_bar([0.5, 1e-30, 1e-60])
    assert schedule.beta[2] == 1
    assert schedule.alpha[2].item() == pytest.approx(2e-30, rel=200 * ULP)
    assert schedule.alpha_bar[3].item() == pytest.approx(1e-60, rel=300 * ULP)


@given(descents())
def test_respaced_beta_is_the_variance_of_the_segment(case: tuple[Schedule, tuple[int, ...]]) -> None:
    schedule, levels = case
    respaced = sch.respace(schedule, levels)
    ascending = levels[::-1]
    assert torch.equal(respaced.log_alpha_bar, schedule.log_alpha_bar[list(ascending)])
    for i, (s, t) in enumerate(pairwise(ascending), start=1):
        kept = mpmath.fprod(1 - mpf(b) for b in schedule.beta[s + 1 : t + 1].tolist())
        # 3 ulp for a sum of logs of one sign; expm1 has a condition of at most 1 below 0
        assert relative_error(respaced.beta[i].item(), 1 - kept) <= 5 * ULP


def test_respacing_by_the_table_of_alpha_bar_loses_digits() -> None:
    schedule = sch.constant(100_000, beta=1e-7)
    levels = (*range(100_000, 0, -2), 0)
    exact = 1 - (1 - mpf(1e-7)) ** 2
    respaced = sch.respace(schedule, levels)
    assert all(relative_error(b, exact) <= 6 * ULP for b in respaced.beta[1::5000].tolist())
    kept = list(levels[::-1])
    alpha_bar, log = schedule.alpha_bar[kept], schedule.log_alpha_bar[kept]
    for broken in (1 - alpha_bar[1:] / alpha_bar[:-1], -torch.expm1(log.diff())):
        assert max(relative_error(b, exact) for b in broken[::5000].tolist()) > 1000 * ULP


@given(descents(), st.data())
def test_respacing_twice_is_respacing_once(
    case: tuple[Schedule, tuple[int, ...]], data: st.DataObject
) -> None:
    schedule, levels = case
    n = len(levels) - 1
    inner = (*sorted(data.draw(st.sets(st.integers(1, n), min_size=1)), reverse=True), 0)
    twice = sch.respace(sch.respace(schedule, levels), inner)
    once = sch.respace(schedule, [levels[::-1][i] for i in inner])
    assert torch.equal(twice.beta, once.beta) and torch.equal(twice.log_alpha_bar, once.log_alpha_bar)


@given(schedules())
def test_respacing_by_all_levels_is_the_schedule(schedule: Schedule) -> None:
    same = sch.respace(schedule, tuple(range(schedule.T, -1, -1)))
    assert torch.equal(same.log_alpha_bar, schedule.log_alpha_bar)
    # expm1 of log1p: beta is recovered to its condition, which grows with the log
    assert ((same.beta - schedule.beta).abs() <= 4 * ULP * schedule.beta.clamp(min=ULP)).all()


@given(schedules(), st.data())
def test_log_ratio_is_additive_and_antisymmetric(schedule: Schedule, data: st.DataObject) -> None:
    r, s, t = sorted(data.draw(st.lists(st.integers(0, schedule.last_signal), min_size=3, max_size=3)))
    left = sch.log_ratio(schedule, t, s) + sch.log_ratio(schedule, s, r)
    whole = sch.log_ratio(schedule, t, r)
    assert abs(left - whole) <= 3 * ULP * abs(whole)
    assert sch.log_ratio(schedule, s, t) == -sch.log_ratio(schedule, t, s)


def test_log_ratio_of_neighbours_is_exact_where_the_difference_of_logs_is_not() -> None:
    schedule = sch.linear(100_000)
    t = torch.arange(1, schedule.T + 1)
    exact = torch.log1p(-schedule.beta[1:])
    assert ((sch.log_ratio(schedule, t, t - 1) - exact).abs() <= 2 * ULP * exact.abs()).all()
    assert not ((schedule.log_alpha_bar.diff() - exact).abs() <= 2 * ULP * exact.abs()).all()


@given(schedules(), st.data())
def test_sigma_difference_is_the_difference(schedule: Schedule, data: st.DataObject) -> None:
    t = data.draw(st.integers(1, schedule.T).filter(lambda t: t <= schedule.last_signal))
    s = data.draw(st.integers(0, t - 1))
    log_s = mpf(schedule.log_alpha_bar[s].item()) + mpf(schedule.log_alpha_bar_low[s].item())
    log_t = mpf(schedule.log_alpha_bar[t].item()) + mpf(schedule.log_alpha_bar_low[t].item())
    exact = mpmath.sqrt(mpmath.expm1(-log_t)) - mpmath.sqrt(mpmath.expm1(-log_s))
    # a dozen roundings, and exp(-log/2) has the condition |log| / 2
    bound = (12 + 2 * abs(float(log_t))) * ULP
    assert relative_error(sch.sigma_difference(schedule, t, s).item(), exact) <= bound


def test_the_plain_difference_of_sigma_loses_digits() -> None:
    schedule = sch.constant(10_000, beta=1e-8)
    exact = mpmath.sqrt((1 - mpf(1e-8)) ** -9999 - 1) - mpmath.sqrt((1 - mpf(1e-8)) ** -9998 - 1)
    assert relative_error(sch.sigma_difference(schedule, 9999, 9998).item(), exact) <= 16 * ULP
    assert relative_error((schedule.sigma[9999] - schedule.sigma[9998]).item(), exact) > 1000 * ULP


def lin_et_al(schedule: Schedule) -> list[mpf]:
    root = [
        mpmath.exp((mpf(h) + mpf(low)) / 2)
        for h, low in zip(schedule.log_alpha_bar.tolist(), schedule.log_alpha_bar_low.tolist(), strict=True)
    ]
    return [(r - root[-1]) * root[1] / (root[1] - root[-1]) for r in root[1:]]


@pytest.mark.parametrize(
    ("name", "T"), [("linear", 2), ("linear", 1000), ("scaled_linear", 1000), ("cosine", 100)]
)
def test_zero_terminal_snr_shifts_and_scales_the_signal(name: str, T: int) -> None:
    schedule = SCHEDULES[name](T)
    rescaled = sch.zero_terminal_snr(schedule)
    assert rescaled.log_alpha_bar[T] == -math.inf and rescaled.snr[T] == 0 and rescaled.beta[T] == 1
    assert rescaled.last_signal == T - 1 and rescaled.alpha_bar[T] == 0
    assert torch.equal(rescaled.log_alpha_bar[:2], schedule.log_alpha_bar[:2])
    for t, root in list(enumerate(lin_et_al(schedule), start=1))[:-1]:
        log = 2 * mpmath.log(root)
        # log1p(-q) has the condition 1 / (1 - q) at most, with 1 - q the ratio of two neighbours' roots
        assert relative_error(rescaled.log_alpha_bar[t].item(), log) <= 16 * ULP


def test_the_shift_without_the_scale_is_told_from_zero_terminal_snr() -> None:
    schedule = sch.linear(100)
    root = schedule.sqrt_alpha_bar
    shifted = (root - root[-1])[1:] ** 2
    assert abs(shifted[0] - sch.zero_terminal_snr(schedule).alpha_bar[1]) > 0.1


@given(schedules(minimum=2))
def test_zero_terminal_snr_is_idempotent(schedule: Schedule) -> None:
    once = sch.zero_terminal_snr(schedule)
    twice = sch.zero_terminal_snr(once)
    # q -> (1 - sqrt(alpha)) / 1 is recovered to the condition of 1 - q
    assert ((twice.beta - once.beta).abs() <= 8 * ULP * once.beta).all()


def numpy_grid(T: int, n: int, spacing: str) -> list[float]:
    """The timesteps of deployed schedulers before they are rounded, ascending, in floats."""
    if spacing == "leading":
        return list(np.arange(0, n) * (T // n) + 0.0)
    if spacing == "linspace":
        return list(np.linspace(0, T - 1, n))
    if spacing == "trailing":
        return list(np.arange(T, 0, -T / n)[:n][::-1] - 1)
    # truncated there; some ulps more keep exact squares from falling below themselves
    return list(np.floor(np.linspace(0, math.sqrt(0.8 * T), n) ** 2 * (1 + 8 * ULP)))


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing", "quadratic"])
@pytest.mark.parametrize("T", [1, 2, 10, 100, 1000])
def test_subsequences_are_those_of_deployed_schedulers(T: int, spacing: sch.Spacing) -> None:
    for n in range(1, T + 1, 13 if T > 100 else 1):
        levels = sch.subsequence(T, n, spacing)
        assert len(levels) == n + 1 and levels[-1] == 0 and levels[0] <= T and levels[-2] >= 1
        for level, k in zip(levels[-2::-1], numpy_grid(T, n, spacing), strict=True):
            # a float grid of n steps is off by n ulp of T at most, which matters where it stands at a half
            assert abs(level - 1 - k) <= 0.5 + n * T * ULP
        if spacing != "quadratic":
            assert all(t > s for t, s in pairwise(levels))


def test_a_grid_of_the_wrong_stride_is_told_apart() -> None:
    levels, stride = sch.subsequence(1000, 10, "linspace"), 1000 // 10
    assert any(t - stride != s for t, s in pairwise(levels[:-1]))
    with pytest.raises(AssertionError):
        leading = numpy_grid(1000, 10, "leading")
        assert all(abs(t - 1 - k) <= 0.5 for t, k in zip(levels[-2::-1], leading, strict=True))


def test_subsequences_of_1000_by_10() -> None:
    assert sch.subsequence(1000, 10, "leading", offset=1) == (
        902,
        802,
        702,
        602,
        502,
        402,
        302,
        202,
        102,
        2,
        0,
    )
    assert sch.subsequence(1000, 10, "linspace") == (1000, 889, 778, 667, 556, 445, 334, 223, 112, 1, 0)
    assert sch.subsequence(1000, 10, "trailing") == (1000, 900, 800, 700, 600, 500, 400, 300, 200, 100, 0)
    assert sch.subsequence(1000, 10, "quadratic") == (801, 633, 484, 356, 247, 159, 89, 40, 10, 1, 0)


@given(st.integers(1, 60), st.data())
def test_leading_and_trailing_are_told_apart_unless_every_level_is_visited(
    T: int, data: st.DataObject
) -> None:
    n = data.draw(st.integers(1, T))
    same = sch.subsequence(T, n, "leading") == sch.subsequence(T, n, "trailing")
    assert same == (n == T)


@given(schedules(), st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]), st.data())
def test_a_lookup_is_the_table_cast_once(schedule: Schedule, dtype: torch.dtype, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sch.TABLES))
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    like = torch.zeros(shape, dtype=dtype)
    t = data.draw(st.lists(st.integers(0, schedule.T), min_size=shape[0], max_size=shape[0]))
    got = schedule.at(name, torch.tensor(t), like)
    assert got.shape == (shape[0], *(1,) * (len(shape) - 1)) and got.dtype == dtype
    table = schedule.table(name)
    for i, level in enumerate(t):
        assert torch.equal(schedule.at(name, level, like), table[level].to(dtype))
        assert torch.equal(got[i].flatten(), table[level : level + 1].to(dtype))


def test_a_lookup_is_a_copy() -> None:
    schedule = sch.linear(10)
    like = torch.zeros(2, 3, dtype=torch.float64)
    for t in (3, torch.tensor([3, 4]), torch.tensor(3)):
        schedule.at("beta", t, like).zero_()
    assert (schedule.beta[1:] > 0).all()


def test_a_lookup_runs_on_the_device(device: torch.device) -> None:
    schedule, like = sch.cosine(20), torch.zeros(4, 2, device=device)
    t = torch.tensor([1, 5, 20, 0], device=device)
    for where in (schedule, schedule.to(device)):
        got = where.at("sigma", t, like)
        assert got.device == like.device
        assert torch.equal(got.cpu()[:, 0], schedule.sigma[t.cpu()].float())
        assert where.at("sigma", 7, like).device == like.device


def test_a_lookup_runs_on_meta_where_values_cannot_be_read() -> None:
    like, t = torch.zeros(4, 3, 2, device="meta"), torch.zeros(4, dtype=torch.int64, device="meta")
    for schedule in (sch.linear(10), sch.linear(10).to("meta")):
        assert schedule.at("beta", t, like).is_meta and schedule.at("beta", t, like).shape == (4, 1, 1)
        assert schedule.at("beta", 3, like).is_meta
        assert sch.log_ratio(schedule, t, t).shape == (4,)
    with pytest.raises(ValueError, match=r"t must lie in 0\.\.10, got 11"):
        sch.linear(10).at("beta", 11, like)


def test_constructors_ignore_the_default_device() -> None:
    with torch.device("meta"):
        made = [make(name, 30) for name in SCHEDULES]
        made += [sch.zero_terminal_snr(made[0]), sch.respace(made[0], (30, 7, 0))]
    assert all(not table.is_meta for schedule in made for table in (schedule.beta, schedule.snr))


def test_a_lookup_compiles_to_one_graph() -> None:
    schedule = sch.linear(10)

    def noised(x: torch.Tensor, t: int | torch.Tensor) -> torch.Tensor:
        spread = sch.cast(sch.beta_between(schedule, t, 0), x)
        return schedule.at("sqrt_alpha_bar", t, x) * x + spread

    compiled = torch.compile(noised, fullgraph=True, backend="eager")
    x, t = torch.ones(3, 2), torch.tensor([1, 5, 10])
    assert torch.equal(compiled(x, t), noised(x, t))
    for level in (1, 5, 10):
        assert torch.equal(compiled(x, level), noised(x, level))


X = torch.zeros(2, 3)
LINEAR = sch.linear(10)
REFUSED: list[tuple[str, Callable[[], object]]] = [
    (r"t must lie in 0\.\.10, got -1", lambda: LINEAR.at("beta", -1, X)),
    (r"t must lie in 0\.\.10, got 12", lambda: LINEAR.at("beta", torch.tensor([3, 12]), X)),
    (r"t must be an int or have shape", lambda: LINEAR.at("beta", torch.tensor([3]), X)),
    (
        r"t must have shape \(\) or \(B,\), got \(2, 1\)",
        lambda: LINEAR.at("beta", torch.tensor([[3], [3]]), X),
    ),
    (r"t must have a signed integer dtype, got torch.float32", lambda: LINEAR.at("beta", torch.ones(2), X)),
    (r"t must be an int or an integer tensor, got 1.0", lambda: LINEAR.at("beta", 1.0, X)),  # type: ignore[arg-type]
    (r"t must be an int or an integer tensor, got True", lambda: LINEAR.at("beta", True, X)),
    (r"table must be one of .*, got 'betas'", lambda: LINEAR.at("betas", 1, X)),
    (r"table must have shape \(11,\), got \(10,\)", lambda: LINEAR.at(LINEAR.beta[1:], 1, X)),
    (r"like must be a floating-point tensor, got torch.int64", lambda: LINEAR.at("beta", 1, X.long())),
    (r"T must be at least 1, got 0", lambda: sch.linear(0)),
    (r"T must be an int, got 10.0", lambda: sch.cosine(10.0)),  # type: ignore[arg-type]
    (r"beta_1 must lie strictly between 0 and 1, got 0", lambda: sch.linear(10, beta_1=0)),
    (r"beta_T must lie strictly between 0 and 1, got nan", lambda: sch.scaled_linear(10, beta_T=math.nan)),
    (r"beta_T \* 1000 / T must lie strictly between 0 and 1, got 1.0", lambda: sch.linear_rescaled(20)),
    (r"beta_max must lie strictly between 0 and 1, got 1", lambda: sch.cosine(10, beta_max=1)),
    (r"s must be at least 0 and finite, got -1", lambda: sch.cosine(10, s=-1)),
    (r"s must be at least 0 and below 1 / T = 0.1, got 0.1", lambda: sch.square_root_alpha_bar(10, s=0.1)),
    (r"end - start must lie strictly between 0 and inf, got -1", lambda: sch.sigmoid_alpha_bar(10, 3, 2)),
    (r"tau must lie strictly between 0 and inf, got 0", lambda: sch.sigmoid_alpha_bar(10, tau=0)),
    (r"span must be finite, got inf", lambda: sch.sigmoid_beta(10, span=math.inf)),
    (r"beta must lie inside \(0, 1\), got 1.0 at t = 1", lambda: sch.from_beta([1.0, 0.5])),
    (r"beta must lie inside \(0, 1\), got 0.0 at t = 2", lambda: sch.from_beta([0.5, 0.0, 0.5])),
    (r"beta must lie in \(0, 1\], got 1.5 at t = 2", lambda: sch.from_beta([0.5, 1.5])),
    (r"beta must have no NaN, got NaN at index 1", lambda: sch.from_beta([0.5, math.nan])),
    (r"beta must have shape \(T,\) with T at least 1, got \(0,\)", lambda: sch.from_beta([])),
    (r"beta must have shape \(T,\) with T at least 1, got \(2, 3\)", lambda: sch.from_beta(X)),
    (r"beta must have values, got a tensor on the meta device", lambda: sch.from_beta(X[0].to("meta"))),
    (r"alpha_bar must decrease strictly .*, got 0.6", lambda: sch.from_alpha_bar([0.5, 0.6])),
    (r"alpha_bar must decrease strictly .*, got -0.1", lambda: sch.from_alpha_bar([0.5, -0.1])),
    (r"alpha_bar must decrease strictly .*, got 0.0", lambda: sch.from_alpha_bar([0.5, 0.0, 0.0])),
    (r"alpha_bar must decrease strictly .*, got \[1.0\]", lambda: sch.from_alpha_bar([1.0])),
    (r"log_alpha_bar must be 0 at data, got -1.0", lambda: sch.from_log_alpha_bar([-1.0, -2.0])),
    (r"log_alpha_bar must decrease strictly", lambda: sch.from_log_alpha_bar([0.0, -2.0, -1.0])),
    (r"beta must be float64 of shape", lambda: Schedule("x", LINEAR.beta.float(), LINEAR.log_alpha_bar)),
    (r"schedule.T must be at least 2, got 1", lambda: sch.zero_terminal_snr(sch.linear(1))),
    (r"n must be at most T = 10, got 11", lambda: sch.subsequence(10, 11, "leading")),
    (r"n must be at least 1, got 0", lambda: sch.subsequence(10, 0, "leading")),
    (r"spacing must be one of", lambda: sch.subsequence(10, 2, "log")),  # type: ignore[arg-type]
    (
        r"offset must keep the levels in 1\.\.10, got 1: 2\.\.11",
        lambda: sch.subsequence(10, 10, "leading", 1),
    ),
    (r"levels must be below the level before it = 3, got 3", lambda: sch.respace(LINEAR, (3, 3, 0))),
    (r"levels\[0\] must lie in 0\.\.10, got 11", lambda: sch.respace(LINEAR, (11, 3, 0))),
    (r"levels\[-1\] must lie in 0\.\.0, got 1", lambda: sch.respace(LINEAR, (5, 1))),
    (r"len\(levels\) must be at least 2, got 1", lambda: sch.respace(LINEAR, (0,))),
]


@pytest.mark.parametrize(("message", "call"), REFUSED, ids=[message for message, _ in REFUSED])
def test_bad_input_is_refused_by_name_bound_and_value(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_underflow_keeps_the_logs_and_says_where_signal_ends() -> None:
    schedule = sch.constant(1000, beta=0.9)
    assert (
        schedule.alpha_bar[-1] == 0
        and schedule.log_alpha_bar[-1].isfinite()
        and schedule.log_snr[-1].isfinite()
    )
    assert schedule.sqrt_alpha_bar[schedule.last_signal] > 0
    assert schedule.sqrt_alpha_bar[schedule.last_signal + 1] == 0
