"""Parameterizations against their definitions at 50 digits, round trips, and the notations."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mpf
from torch import Tensor

from refdiff import parameterization as par
from refdiff import schedule as sch
from refdiff.parameterization import NAMES, Name
from refdiff.schedule import Schedule

ULP = 2.0**-52
mpmath.mp.dps = 50

PAIRS: list[tuple[Name, Name]] = [(a, b) for a, b in itertools.product(NAMES, NAMES) if a != b]
SCHEDULES = [
    sch.linear(1000),
    sch.cosine(50),
    sch.scaled_linear(100),
    sch.constant(20, beta=0.5),
    sch.jsd(10),
    sch.zero_terminal_snr(sch.linear(100)),
    sch.linear(1),
    sch.respace(sch.linear(1000), sch.subsequence(1000, 7, "linspace")),
]


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def logs(schedule: Schedule, t: int) -> tuple[mpf, mpf]:
    """log alpha_bar_t and log alpha_bar_{t-1} as the tables hold them."""
    high, low = schedule.log_alpha_bar, schedule.log_alpha_bar_low
    return mpf(high[t].item()) + mpf(low[t].item()), mpf(high[t - 1].item()) + mpf(low[t - 1].item())


def definitions(schedule: Schedule, t: int, x_0: mpf, eps: mpf) -> tuple[mpf, dict[str, mpf]]:
    """x_t and everything a network may predict, each by its definition from x_0 and eps."""
    log_t, log_s = logs(schedule, t)
    alpha_bar, previous = mpmath.exp(log_t), mpmath.exp(log_s)
    alpha = alpha_bar / previous
    a, b = mpmath.sqrt(alpha_bar), mpmath.sqrt(1 - alpha_bar)
    x_t = a * x_0 + b * eps
    mean = mpmath.sqrt(alpha) * (1 - previous) * x_t + mpmath.sqrt(previous) * (1 - alpha) * x_0
    return x_t, {
        "eps": eps,
        "x_0": x_0,
        "v": a * eps - b * x_0,
        "score": -(x_t - a * x_0) / b**2,
        "mu": mean / (1 - alpha_bar),
    }


def coefficients_at(schedule: Schedule, t: int, source: Name, target: Name) -> tuple[mpf, mpf]:
    """p and q of target = p x_t + q source, by solving with two points."""
    (x, one), (y, other) = (definitions(schedule, t, mpf(a), mpf(b)) for a, b in ((1, 0), (0, 1)))
    det = x * other[source] - y * one[source]
    p = (one[target] * other[source] - other[target] * one[source]) / det
    return p, (x * other[target] - y * one[target]) / det


def some_levels(schedule: Schedule, source: Name, target: Name) -> list[int]:
    low, high = par.bounds(schedule, source, target)
    if {source, target} == {"eps", "score"}:
        high = schedule.last_signal  # beyond, eps and score are x_t, and two points do not solve for p and q
    return sorted({max(low, 1), min(2, high), (low + high + 1) // 2, max(high - 1, 1), high})


def is_close(got: float, want: mpf, bound: float) -> bool:
    return bool(abs(mpf(got) - want) <= bound * abs(want))


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_coefficients_are_those_of_the_definitions(source: Name, target: Name) -> None:
    for schedule in SCHEDULES:
        for t in some_levels(schedule, source, target):
            got = [float(c) for c in par.coefficients(schedule, t, source, target)]
            want = coefficients_at(schedule, t, source, target)
            # a product of at most five tables of 6 ulp; 1 / sqrt(alpha_bar) has the condition |log| / 2
            slack = (32 + abs(float(logs(schedule, t)[0])) if schedule.alpha_bar[t] > 0 else 32) * ULP
            for one, other in zip(got, want, strict=True):
                # the two-point solution leaves a rounding at 50 digits where the coefficient is 0
                assert is_close(one, other, slack) or (abs(other) < 1e-40 and one == 0)


# what ports get wrong, as the same table of pairs
MUTANTS: dict[str, Callable[[Schedule, int, Name, Name], tuple[float, float]]] = {
    "level before": lambda s, t, a, b: floats(par.coefficients(s, t - 1, a, b)),
    "source negated": lambda s, t, a, b: (
        floats(par.coefficients(s, t, a, b))[0],
        -floats(par.coefficients(s, t, a, b))[1],
    ),
    "missing root": lambda s, t, a, b: (
        floats(par.coefficients(s, t, a, b))[0],
        floats(par.coefficients(s, t, a, b))[1] ** 2,
    ),
}


def floats(pair: tuple[Tensor, Tensor]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])


@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_broken_conversion_is_told_from_the_definition(mutant: str, source: Name, target: Name) -> None:
    schedule, t = sch.linear(100), 50
    p, q = MUTANTS[mutant](schedule, t, source, target)
    want = coefficients_at(schedule, t, source, target)
    assert not (is_close(p, want[0], 1e-6) or p == 0) or not is_close(q, want[1], 1e-6)


def rounding(schedule: Schedule, t: int, x: Tensor, value: Tensor, source: Name, target: Name) -> Tensor:
    """The error of one conversion: a few ulp for each product with a coefficient, and those of the table."""
    p, q = floats(par.coefficients(schedule, t, source, target))
    # 1 / sqrt(alpha_bar) has the condition |log alpha_bar| / 2, in float64
    log = abs(float(schedule.log_alpha_bar[min(t, schedule.last_signal)]))
    unit = 4 * torch.finfo(x.dtype).eps + log * ULP
    return unit * (abs(p) * x.double().abs() + abs(q) * value.double().abs())


DTYPES = [torch.float64, torch.float32, torch.bfloat16]


@given(
    st.sampled_from(SCHEDULES), st.sampled_from(PAIRS), st.sampled_from(DTYPES), st.integers(0, 99), st.data()
)
def test_every_pair_round_trips(
    schedule: Schedule, pair: tuple[Name, Name], dtype: torch.dtype, seed: int, data: st.DataObject
) -> None:
    source, target = pair
    low = max(par.bounds(schedule, *pair)[0], par.bounds(schedule, *pair[::-1])[0])
    high = min(par.bounds(schedule, *pair)[1], par.bounds(schedule, *pair[::-1])[1])
    if low > high:
        return
    t = data.draw(st.integers(low, high))
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    x_t, value = normal(seed, *shape).to(dtype), normal(seed + 100, *shape).to(dtype)
    there = par.convert(schedule, x_t, t, value, source, target)
    back = par.convert(schedule, x_t, t, there, target, source)
    assert there.dtype == back.dtype == dtype and back.shape == value.shape
    # the error of the first conversion is multiplied by the second, which adds its own
    q = abs(floats(par.coefficients(schedule, t, target, source))[1])
    bound = q * rounding(schedule, t, x_t, value, source, target)
    bound = bound + rounding(schedule, t, x_t, there, target, source)
    assert ((back - value).abs().double() <= 2 * bound).all()
    negated = par.convert(schedule, x_t, t, -there, target, source)
    assert (
        not ((negated - value).abs().double() <= 2 * bound).all()
        or float(there.abs().max()) * q < 4 * bound.max()
    )


@given(
    st.sampled_from(SCHEDULES), st.sampled_from(PAIRS), st.sampled_from(NAMES), st.integers(0, 99), st.data()
)
def test_going_through_a_third_parameterization_changes_nothing(
    schedule: Schedule, pair: tuple[Name, Name], middle: Name, seed: int, data: st.DataObject
) -> None:
    source, target = pair
    every = [par.bounds(schedule, *p) for p in (pair, (source, middle), (middle, target))]
    low, high = max(b[0] for b in every), min(b[1] for b in every)
    if low > high:
        return
    t = data.draw(st.integers(low, high))
    x_t, value = normal(seed, 2, 3), normal(seed + 100, 2, 3)
    at_middle = par.convert(schedule, x_t, t, value, source, middle)
    through = par.convert(schedule, x_t, t, at_middle, middle, target)
    direct = par.convert(schedule, x_t, t, value, source, target)
    q = abs(floats(par.coefficients(schedule, t, middle, target))[1])
    bound = q * rounding(schedule, t, x_t, value, source, middle)
    bound = bound + rounding(schedule, t, x_t, at_middle, middle, target)
    bound = bound + rounding(schedule, t, x_t, value, source, target)
    assert ((through - direct).abs() <= 4 * bound).all()


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_every_pair_has_its_function(source: Name, target: Name) -> None:
    function = getattr(par, f"{target}_from_{source}")
    assert list(inspect.signature(function).parameters) == ["schedule", "x_t", "t", source]
    schedule, x_t, value = sch.linear(20), normal(1, 2, 3), normal(2, 2, 3)
    assert torch.equal(
        function(schedule, x_t, 7, value), par.convert(schedule, x_t, 7, value, source, target)
    )
    assert f"parameterization.{target}_from_{source}" in inspect.getdoc(function)  # type: ignore[operator]


@pytest.mark.parametrize("name", NAMES)
def test_a_parameterization_is_itself(name: Name) -> None:
    value = normal(1, 2, 3)
    same = par.convert(sch.linear(10), normal(2, 2, 3), 3, value, name, name)
    assert torch.equal(same, value) and same is not value
    assert floats(par.coefficients(sch.linear(10), 3, name, name)) == (0.0, 1.0)


@given(st.sampled_from(PAIRS), st.lists(st.integers(1, 19), min_size=1, max_size=4), st.sampled_from(DTYPES))
def test_a_batch_of_levels_is_its_levels(pair: tuple[Name, Name], t: list[int], dtype: torch.dtype) -> None:
    schedule, B = sch.cosine(20), len(t)
    x_t, value = normal(1, B, 3, 2).to(dtype), normal(2, B, 3, 2).to(dtype)
    together = par.convert(schedule, x_t, torch.tensor(t), value, *pair)
    for i, level in enumerate(t):
        alone = par.convert(schedule, x_t[i : i + 1], level, value[i : i + 1], *pair)
        # a root in a vector may differ from that of a scalar by an ulp, and its cast by one of dtype
        bound = 2 * rounding(schedule, level, x_t[i], value[i], *pair)
        assert ((together[i] - alone[0]).abs().double() <= bound).all()
    assert par.coefficients(schedule, torch.tensor(t), *pair)[0].shape == (B,)


def test_the_score_is_the_gradient_of_the_log_density_of_the_kernel() -> None:
    schedule, t, x_0, eps = sch.linear(100), 60, normal(1, 4), normal(2, 4)
    scale, variance = schedule.sqrt_alpha_bar[t], schedule.one_minus_alpha_bar[t]
    x_t = (scale * x_0 + variance.sqrt() * eps).requires_grad_()
    (gradient,) = torch.autograd.grad((-((x_t - scale * x_0) ** 2) / (2 * variance)).sum(), x_t)
    got = par.score_from_eps(schedule, x_t.detach(), t, eps)
    # x_t - a x_0 is known to an ulp of x_t, and divided by the variance
    assert ((got - gradient).abs() <= 8 * ULP * (x_t.abs() + x_0.abs()) / variance).all()
    assert not torch.allclose(got, -eps / variance, rtol=1e-3)


def test_without_signal_noise_says_nothing_about_data_and_v_says_all() -> None:
    schedule = sch.jsd(10)
    x_t, value = normal(1, 2, 3), normal(2, 2, 3)
    for source, target in PAIRS:
        if source in ("eps", "score") and target not in ("eps", "score"):
            with pytest.raises(ValueError, match=r"t must lie in [01]\.\.9, got 10"):
                par.convert(schedule, x_t, 10, value, source, target)
            with pytest.raises(ValueError, match=r"t must lie in [01]\.\.9, got 10"):
                par.convert(schedule, x_t, torch.tensor([1, 10]), value, source, target)
        else:
            assert par.convert(schedule, x_t, 10, value, source, target).isfinite().all()
    assert torch.equal(par.x_0_from_v(schedule, x_t, 10, value), -value)
    assert torch.equal(par.eps_from_v(schedule, x_t, 10, value), x_t)


def test_at_data_noise_is_what_it_was_and_data_is_x_t() -> None:
    schedule, x_t, value = sch.linear(10), normal(1, 2, 3), normal(2, 2, 3)
    assert torch.equal(par.x_0_from_eps(schedule, x_t, 0, value), x_t)
    assert torch.equal(par.v_from_eps(schedule, x_t, 0, value), value)
    assert torch.equal(par.x_0_from_v(schedule, x_t, 0, value), x_t)
    for source, target in [("x_0", "eps"), ("eps", "score"), ("v", "score"), ("eps", "mu"), ("mu", "x_0")]:
        with pytest.raises(ValueError, match=r"t must lie in 1\.\.10, got 0"):
            par.convert(schedule, x_t, 0, value, source, target)  # type: ignore[arg-type]


def test_conversions_run_on_the_device_and_on_meta(device: torch.device) -> None:
    schedule = sch.linear(10)
    for where in (device, torch.device("meta")):
        x_t, value = torch.ones(3, 2, device=where), torch.ones(3, 2, device=where)
        t = torch.tensor([1, 5, 9]).to(where)
        for source, target in PAIRS:
            for level in (t, 5):
                got = par.convert(schedule, x_t, level, value, source, target)
                assert got.device.type == where.type and got.dtype == x_t.dtype and got.shape == x_t.shape
        assert (
            par.from_sigma_space(schedule, par.to_sigma_space(schedule, x_t, t), t).device.type == where.type
        )


@pytest.mark.parametrize("pair", [("eps", "x_0"), ("v", "score"), ("x_0", "mu")])
def test_conversions_compile_to_one_graph(pair: tuple[Name, Name]) -> None:
    schedule = sch.linear(10)

    def convert(x_t: Tensor, t: int | Tensor, value: Tensor) -> Tensor:
        return par.convert(schedule, x_t, t, value, *pair)

    compiled = torch.compile(convert, fullgraph=True, backend="eager")
    x_t, value, t = normal(1, 3, 2), normal(2, 3, 2), torch.tensor([1, 5, 9])
    assert torch.equal(compiled(x_t, t, value), convert(x_t, t, value))
    assert torch.equal(compiled(x_t, 4, value), convert(x_t, 4, value))


@given(st.sampled_from(SCHEDULES), st.sampled_from(sorted(par.NOTATIONS)))
def test_a_notation_comes_back_to_the_schedule(schedule: Schedule, name: str) -> None:
    back = par.NOTATIONS[name].from_schedule(schedule).to_schedule()
    assert back.T == schedule.T and back.last_signal == schedule.last_signal
    end = schedule.last_signal + 1
    log, again = schedule.log_alpha_bar[1:end], back.log_alpha_bar[1:end]
    # a few ulp of 1 + |log alpha_bar| are kept, and of beta / (1 - beta) where the steps are
    steep = (schedule.beta[1:end] / schedule.alpha[1:end]).cumsum(0)
    bound = 8 * ULP * (1 + log.abs() + (steep if name == "su" else 0))
    assert ((log - again).abs() <= bound).all()
    assert ((back.beta - schedule.beta)[1:end].abs() <= 2 * bound).all()


def test_notations_satisfy_their_own_equations() -> None:
    schedule = sch.linear(100)
    su, sde = par.Su.from_schedule(schedule), par.ScoreSDE.from_schedule(schedule)
    edm, vdm, ddim = (
        par.EDM.from_schedule(schedule),
        par.VDM.from_schedule(schedule),
        par.DDIMPaper.from_schedule(schedule),
    )
    one = torch.ones(101, dtype=torch.float64)
    # sums and products of at most a hundred rounded numbers up to 1
    for left, right in [
        (su.alpha**2 + su.beta**2, one),
        (su.alpha_bar**2 + su.beta_bar**2, one),
        (su.alpha.cumprod(0), su.alpha_bar),
        (sde.scale**2 + sde.std**2, one),
        (torch.sigmoid(-vdm.gamma), schedule.alpha_bar),
        (torch.sigmoid(vdm.gamma), schedule.one_minus_alpha_bar),
        (edm.scale**2 * (1 + edm.sigma**2), one),
        (ddim.alpha, (1 - schedule.beta).cumprod(0)),
        (sde.beta, schedule.beta * 100),
    ]:
        assert ((left - right).abs() <= 200 * ULP).all()
    assert not torch.allclose(su.alpha, schedule.alpha, rtol=1e-6)
    assert not torch.allclose(ddim.alpha, schedule.alpha, rtol=1e-6)
    assert (vdm.gamma.diff() > 0).all() and (edm.sigma.diff() > 0).all()
    assert sde.time[0] == 0 and sde.time[-1] == 1


def test_reading_one_notation_as_another_is_told_apart() -> None:
    schedule = sch.linear(100)
    su = par.Su.from_schedule(schedule)
    read_as_ddim = par.DDIMPaper(su.alpha_bar).to_schedule()
    assert ((read_as_ddim.log_alpha_bar - schedule.log_alpha_bar)[1:].abs() > 1e-6).all()
    negated = par.VDM(-par.VDM.from_schedule(schedule).gamma)
    with pytest.raises(ValueError, match="log_alpha_bar must"):
        negated.to_schedule()


@given(st.sampled_from(SCHEDULES), st.sampled_from(DTYPES), st.data())
def test_sigma_space_is_entered_and_left(schedule: Schedule, dtype: torch.dtype, data: st.DataObject) -> None:
    t = data.draw(st.integers(0, schedule.last_signal))
    x_0, eps = normal(1, 2, 3).to(dtype), normal(2, 2, 3).to(dtype)
    x_t = schedule.at("sqrt_alpha_bar", t, x_0) * x_0 + schedule.at("sqrt_one_minus_alpha_bar", t, x_0) * eps
    x = par.to_sigma_space(schedule, x_t, t)
    unit, sigma = torch.finfo(dtype).eps, schedule.at("sigma", t, x_0)
    # each product and cast costs an ulp of its term; exp(-log/2) has the condition |log| / 2, in float64
    log = abs(float(schedule.log_alpha_bar[t])) * ULP
    assert ((x - (x_0 + sigma * eps)).abs() <= (8 * unit + log) * (x_0.abs() + sigma * eps.abs())).all()
    assert ((par.from_sigma_space(schedule, x, t) - x_t).abs() <= (4 * unit + log) * x_t.abs()).all()
    if float(schedule.alpha_bar[t]) < 0.9:
        assert not torch.allclose(x_t, x_0 + sigma * eps, rtol=1e-2)


X = torch.zeros(2, 3)
LINEAR = sch.linear(10)
REFUSED: list[tuple[str, Callable[[], object]]] = [
    (
        r"value must have the shape of x_t, \(2, 3\), got \(1, 3\)",
        lambda: par.x_0_from_eps(LINEAR, X, 1, X[:1]),
    ),
    (r"value must have the dtype of x_t", lambda: par.x_0_from_eps(LINEAR, X, 1, X.double())),
    (r"value must be on the device of x_t", lambda: par.x_0_from_eps(LINEAR, X, 1, X.to("meta"))),
    (r"x_t must be a floating-point tensor", lambda: par.x_0_from_eps(LINEAR, X.long(), 1, X)),
    (r"source must be one of .*, got 'epsilon'", lambda: par.convert(LINEAR, X, 1, X, "epsilon", "v")),  # type: ignore[arg-type]
    (r"target must be one of .*, got 'x0'", lambda: par.convert(LINEAR, X, 1, X, "v", "x0")),  # type: ignore[arg-type]
    (r"t must lie in 0\.\.10, got 11", lambda: par.x_0_from_eps(LINEAR, X, 11, X)),
    (r"t must lie in 1\.\.10, got 0", lambda: par.eps_from_x_0(LINEAR, X, torch.tensor([0, 1]), X)),
    (r"t must be an int or have shape", lambda: par.eps_from_x_0(LINEAR, X, torch.tensor([1]), X)),
    (r"t must lie in 0\.\.9, got 10", lambda: par.to_sigma_space(sch.jsd(10), X, 10)),
    (r"like must be a floating-point tensor", lambda: par.from_sigma_space(LINEAR, X.long(), 1)),
    (r"alpha_bar must decrease strictly", lambda: par.DDIMPaper(LINEAR.alpha_bar.flip(0)).to_schedule()),
]


@pytest.mark.parametrize(("message", "call"), REFUSED, ids=[message for message, _ in REFUSED])
def test_bad_input_is_refused_by_name_bound_and_value(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=message):
        call()
