"""The laws of the discretised decoder and of bits per dimension, each with a broken form that it rejects."""

from __future__ import annotations

import math
from collections.abc import Callable

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference_laws import misfit
from scipy import special, stats
from torch import Tensor

from refdiff import vlb

likelihood = vlb.discretized_gaussian_log_likelihood
Decoder = Callable[[Tensor, Tensor, Tensor], Tensor]
GAPS = 255
EDGE = 1 / GAPS
CENTRES = (2 * torch.arange(GAPS + 1, dtype=torch.float64) - GAPS) / GAPS


def numbers(*values: float, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    return tuple(torch.tensor([value], dtype=torch.float64).to(dtype) for value in values)


# What a decoder is compared with: an integral of the density, not a difference of distribution functions.


def by_quadrature(k: int, mean: float, log_scale: float) -> mpmath.mpf:
    """The log of the integral of the density over bin k, in standard deviations, to 30 digits."""
    with mpmath.workdps(40):
        scale = mpmath.e ** mpmath.mpf(log_scale)
        ends = [(mpmath.mpf(2 * k - GAPS + side) / GAPS - mpmath.mpf(mean)) / scale for side in (-1, 1)]
        low, high = (-mpmath.inf if k == 0 else ends[0]), (mpmath.inf if k == GAPS else ends[1])
        # the largest value of the density is taken out, so that nothing underflows
        peak = min(max(low, mpmath.mpf(0)), high)
        shape = lambda u: mpmath.exp((peak - u) * (peak + u) / 2)  # noqa: E731
        widths = [count / (1 + abs(peak)) for count in (-8, -1, 1, 8)]
        nodes = sorted({low, high, peak, *(peak + w for w in widths if low < peak + w < high)})
        total = mpmath.quad(shape, nodes)
        return mpmath.log(total) - peak**2 / 2 - mpmath.log(2 * mpmath.pi) / 2


def condition(k: int, mean: float, log_scale: float, value: float) -> float:
    """What a rounding of the edges and of log σ does to the value: the slopes of log P, from above."""
    scale = math.exp(log_scale)
    far = (abs(2 * k - GAPS) / GAPS + EDGE + abs(mean)) / scale
    near = max(abs((2 * k - GAPS) / GAPS - mean) + EDGE, 0.0) / scale
    return 1 + abs(value) + (near + 1) * (far + near * abs(log_scale))


def error(decoder: Decoder, k: int, mean: float, log_scale: float, dtype: torch.dtype) -> float:
    """In units of sixteen roundings of the edges, of the scale and of the value."""
    x, m, s = numbers(float(CENTRES[k]), mean, log_scale, dtype=dtype)
    expected = float(by_quadrature(k, float(m), float(s)))
    return misfit(decoder(x, m, s), expected, condition(k, float(m), float(s), expected), 16)


BINS = st.one_of(st.integers(0, GAPS), st.sampled_from([0, 1, 127, 128, GAPS - 1, GAPS]))
PLACES = st.one_of(st.floats(-1.5, 1.5), st.floats(-40, 40))
DTYPES = st.sampled_from([torch.float64, torch.float32])


@given(BINS, PLACES, st.floats(-7, 2), DTYPES)
def test_the_likelihood_of_a_bin_is_the_integral_of_the_density(
    k: int, place: float, log_scale: float, dtype: torch.dtype
) -> None:
    mean = float(CENTRES[k]) - place * math.exp(log_scale)
    assert error(likelihood, k, mean, log_scale, dtype) <= 1


TAILS = [
    (k, side * away, log_scale)
    for k, side in ((3, 1), (200, -1), (0, 1), (GAPS, -1))
    for away, log_scale in ((40, -3.5), (40, -1.0), (300, -4.0), (2000, 0.0))
]


@pytest.mark.parametrize(("k", "away", "log_scale"), TAILS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_tails_keep_their_digits(k: int, away: int, log_scale: float, dtype: torch.dtype) -> None:
    mean = float(CENTRES[k]) + away * math.exp(log_scale)
    assert error(likelihood, k, mean, log_scale, dtype) <= 1


def edges(x: Tensor, mean: Tensor, log_scale: Tensor, half: float = EDGE) -> tuple[Tensor, Tensor]:
    return (x - half - mean) * torch.exp(-log_scale), (x + half - mean) * torch.exp(-log_scale)


def subtracted(x: Tensor, mean: Tensor, log_scale: Tensor, half: float = EDGE, floor: float = 0.0) -> Tensor:
    """As code bases have it: a difference of distribution functions, open edges by a threshold."""
    low, high = (torch.special.ndtr(end) for end in edges(x, mean, log_scale, half))
    inner = torch.where(x > 0.999, 1 - low, high - low)
    return torch.where(x < -0.999, high, inner).clamp(min=floor).log()


def tanh_cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def closed(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    low, high = edges(x, mean, log_scale)
    return (torch.special.ndtr(high) - torch.special.ndtr(low)).log()


BROKEN: dict[str, tuple[Decoder, tuple[int, float, float]]] = {
    "first bin closed": (closed, (0, -1.0, -3.0)),
    "last bin closed": (closed, (GAPS, 1.0, -3.0)),
    "half the width": (lambda x, m, s: subtracted(x, m, s, EDGE / 2), (100, -0.2, -2.0)),
    "twice the width": (lambda x, m, s: subtracted(x, m, s, 2 * EDGE), (100, -0.2, -2.0)),
    "clamped": (lambda x, m, s: subtracted(x, m, s, floor=1e-12), (100, 0.9, -3.0)),
    "cancelled": (subtracted, (100, 0.6, -2.0)),
    "tanh for the error function": (
        lambda x, m, s: (tanh_cdf(edges(x, m, s)[1]) - tanh_cdf(edges(x, m, s)[0])).log(), (100, 0.1, -1.0),
    ),
    "density": (lambda x, m, s: vlb.density_log_likelihood(x, m, s), (100, -0.2, -4.0)),
    "density without width": (
        lambda x, m, s: vlb.density_log_likelihood(x, m, s) - math.log(2 / GAPS), (100, -0.2, -2.0),
    ),
    "bits": (
        lambda x, m, s: vlb.bits_per_dim(likelihood(x, m, s)), (9, 0.0, 0.0),
    ),
    "variance for deviation": (
        lambda x, m, s: likelihood(x, m, 2 * s), (100, -0.2, -2.0),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("broken", "place"), BROKEN.values(), ids=BROKEN)
def test_a_broken_decoder_is_seen(broken: Decoder, place: tuple[int, float, float]) -> None:
    assert error(likelihood, *place, torch.float64) <= 1
    assert error(broken, *place, torch.float64) > 1


def total(decoder: Decoder, mean: float, log_scale: float, dtype: torch.dtype) -> float:
    """How far the sum of all bins is from one, in units of 16 roundings of its terms' conditions."""
    m, s = (torch.full_like(CENTRES, value).to(dtype) for value in (mean, log_scale))
    logs = decoder(CENTRES.to(dtype), m, s).double()
    worst = max(condition(k, mean, log_scale, 0) * math.exp(float(logs[k])) for k in range(GAPS + 1))
    return misfit(logs.exp().sum().to(dtype), 1.0, 1 + (GAPS + 1) * worst, 16)


@given(st.floats(-3, 3), st.floats(-7, 3), DTYPES)
def test_the_bins_sum_to_one(mean: float, log_scale: float, dtype: torch.dtype) -> None:
    assert total(likelihood, mean, log_scale, dtype) <= 1


@pytest.mark.parametrize(
    "name", ["first bin closed", "half the width", "twice the width", "density without width"]
)
def test_bins_that_do_not_cover_the_line_do_not_sum_to_one(name: str) -> None:
    assert total(BROKEN[name][0], -0.6, -1.0, torch.float64) > 1


@pytest.mark.parametrize("bins", [2, 3, 17, 257])
def test_any_number_of_bins_sums_to_one(bins: int) -> None:
    x = torch.linspace(-1, 1, bins, dtype=torch.float64)
    m, s = torch.full_like(x, 0.3), torch.full_like(x, -0.7)
    got = likelihood(x, m, s, bins).exp().sum()
    assert misfit(got, 1.0, bins, 16) <= 1
    if bins > 2:
        with pytest.raises(ValueError, match="x must lie on the 256 centres"):
            likelihood(x, m, s)


@given(BINS, PLACES, st.floats(-7, 2))
def test_a_reflection_changes_no_bit(k: int, place: float, log_scale: float) -> None:
    x, m, s = numbers(float(CENTRES[k]), float(CENTRES[k]) - place * math.exp(log_scale), log_scale)
    assert torch.equal(likelihood(x, m, s), likelihood(-x, -m, s))


@given(st.integers(0, GAPS), st.floats(-1.2, 1.2), st.floats(-2.5, 0.5))
def test_the_middle_agrees_with_scipy(k: int, mean: float, log_scale: float) -> None:
    x, m, s = numbers(float(CENTRES[k]), mean, log_scale)
    law = stats.norm(mean, math.exp(log_scale))
    low = -math.inf if k == 0 else float(CENTRES[k]) - EDGE
    high = math.inf if k == GAPS else float(CENTRES[k]) + EDGE
    ends = (law.logsf(low), law.logsf(high)) if low > mean else (law.logcdf(high), law.logcdf(low))
    expected = special.logsumexp(ends, b=[1, -1])
    got = float(likelihood(x, m, s))
    # scipy's difference cancels: as many digits are lost as the bin is small
    slack = 1e-14 * (1 + abs(ends[0])) * math.exp(max(ends) - expected)
    assert abs(got - expected) <= slack + 1e-13 * condition(k, mean, log_scale, expected)


# Slopes.


def slopes(decoder: Decoder, k: int, mean: float, log_scale: float) -> tuple[float, float]:
    x, m, s = numbers(float(CENTRES[k]), mean, log_scale)
    m, s = m.requires_grad_(), s.requires_grad_()
    decoder(x, m, s).sum().backward()  # type: ignore[no-untyped-call]
    assert m.grad is not None and s.grad is not None
    return float(m.grad), float(s.grad)


def exact_slopes(k: int, mean: float, log_scale: float) -> tuple[float, float]:
    """(φ(low) − φ(high))/(σP) and (low·φ(low) − high·φ(high))/P, with P of the quadrature."""
    with mpmath.workdps(40):
        scale = mpmath.e ** mpmath.mpf(log_scale)
        low, high = ((mpmath.mpf(2 * k - GAPS + d) / GAPS - mpmath.mpf(mean)) / scale for d in (-1, 1))
        log_p = by_quadrature(k, mean, log_scale)
        over = lambda u: mpmath.exp(-(u**2) / 2 - log_p) / mpmath.sqrt(2 * mpmath.pi)  # noqa: E731
        at_low = over(low) if k > 0 else mpmath.mpf(0)
        at_high = over(high) if k < GAPS else mpmath.mpf(0)
        return float((at_low - at_high) / scale), float(low * at_low - high * at_high)


SLOPES = [
    *((k, mean, -3.0) for k in (0, 77, GAPS) for mean in (-0.4, 0.1, 0.9)),
    *((100, -0.2 + away * math.exp(-2.0), -2.0) for away in (0.3, 5, 12, 45, 400)),
    (100, -0.2157, -7.0), (100, 0.5, 1.5), (0, 4.0, -2.0), (GAPS, -4.0, -2.0),
]  # fmt: skip


@pytest.mark.parametrize(("k", "mean", "log_scale"), SLOPES)
def test_slopes_are_exact_in_every_regime(k: int, mean: float, log_scale: float) -> None:
    got, expected = (
        slopes(likelihood, k, mean, log_scale), exact_slopes(k, mean, log_scale),
    )  # fmt: skip
    z = (abs(float(CENTRES[k]) - mean) + EDGE) / math.exp(log_scale)
    # the logs of two distribution functions are subtracted, each of the size of z²/2
    rounding = 16 * 2**-52 * (1 + z * z)
    assert abs(got[0] - expected[0]) <= rounding * (abs(expected[0]) + (1 + z) / math.exp(log_scale))
    assert abs(got[1] - expected[1]) <= rounding * (abs(expected[1]) + z * z + 1)


def test_a_clamped_likelihood_has_no_slope_in_the_tail() -> None:
    place = (100, 0.9, -3.0)
    clamped = slopes(BROKEN["clamped"][0], *place)
    assert clamped == (0, 0) and exact_slopes(*place)[0] < -100


def test_every_regime_passes_the_check_of_gradients() -> None:
    x = CENTRES[[0, 1, 60, 128, 250, GAPS]].repeat(4, 1)
    mean = (x + torch.tensor([0.02, -0.4, 1.5, 3.0]).double()[:, None]).requires_grad_()
    log_scale = torch.tensor([-6.0, -3.0, -1.0, 0.5]).double()[:, None].requires_grad_()
    ask = lambda m, s: likelihood(x, m, s)  # noqa: E731
    step = 1e-7
    # a difference quotient is off by the roundings of two values over the step, and by the step squared
    atol = 8 * 2.0**-53 * float(ask(mean, log_scale).abs().max()) / step
    assert torch.autograd.gradcheck(ask, (mean, log_scale), eps=step, atol=atol, rtol=step)
    clamped = lambda m, s: BROKEN["clamped"][0](x, m, s) + 0 * ask(m.detach(), s.detach())  # noqa: E731
    one = torch.autograd.grad(clamped(mean, log_scale).sum(), mean)[0]
    two = torch.autograd.grad(ask(mean, log_scale).sum(), mean)[0]
    assert bool(((one == 0) & (two != 0)).any())


# The density.


@pytest.mark.parametrize("order", [2, 4, 6])
@pytest.mark.parametrize("z", [0.0, 0.7, -2.0])
def test_the_density_approximation_has_its_order(order: int, z: float) -> None:
    def miss(gaps: int, given: int) -> float:
        x, m, s = numbers(0.0, -z * 0.1, math.log(0.1))
        exact = likelihood(x, m, s, gaps + 1)
        return float(vlb.density_log_likelihood(x, m, s, gaps + 1, given) - exact)  # type: ignore[arg-type]

    ratio = miss(60, order) / miss(120, order)
    # the next term is smaller by h², 1/36 here, times a polynomial in z
    assert abs(math.log2(ratio) - order) < 0.15
    other = 4 if order == 2 else 2
    assert abs(math.log2(miss(60, other) / miss(120, other)) - order) > 0.15


@given(st.integers(1, GAPS - 1), st.floats(-1.5, 1.5), st.floats(-4, 2))
def test_the_density_errs_by_no_more_than_its_bound(k: int, mean: float, log_scale: float) -> None:
    x, m, s = numbers(float(CENTRES[k]), mean, log_scale)
    gap = float(likelihood(x, m, s) - vlb.density_log_likelihood(x, m, s))
    z, h = (float(x) - mean) / math.exp(log_scale), EDGE / math.exp(log_scale)
    rounding = 1e-14 * condition(k, mean, log_scale, 0.5 * z * z)
    # the mean over the bin of exp(−zs − s²/2), |s| < h, lies between exp(−h²/6) and exp(z²h²/6)
    assert -h * h / 6 - rounding <= gap <= z * z * h * h / 6 + rounding
    wrong = gap + math.log(2)
    assert not -h * h / 6 <= wrong <= z * z * h * h / 6 or z * z * h * h > 1


# Bits.


def test_the_offsets_are_seven_and_eight_bits() -> None:
    assert vlb.density_bits_per_dim(0.0, 1 / 128) == 7 and vlb.density_bits_per_dim(0.0, 1 / 256) == 8
    assert abs(vlb.density_bits_per_dim(0.0, 2 / 255) - math.log2(127.5)) < 1e-15
    assert abs(vlb.bits_per_dim(math.log(2)) - 1) < 1e-15
    assert vlb.bits_per_dim(1.0) != 1.0


def bits_do_not_depend_on_the_unit(convert: Callable[[float, float], float]) -> float:
    """The same Gaussian in the units of [0, 1], [−1, 1] and bytes: the largest difference in bits."""
    nats = 1.3
    found = [convert(nats + math.log(scale), scale / 256) for scale in (1.0, 2.0, 256.0)]
    return max(found) - min(found)


def test_bits_do_not_depend_on_the_unit_of_the_data() -> None:
    assert bits_do_not_depend_on_the_unit(vlb.density_bits_per_dim) < 1e-14
    broken: list[Callable[[float, float], float]] = [
        lambda nats, width: vlb.bits_per_dim(nats),
        lambda nats, width: vlb.bits_per_dim(nats) + 8,
        lambda nats, width: (nats + math.log(width)) / math.log(2),
        lambda nats, width: nats - math.log2(width),
    ]
    assert all(bits_do_not_depend_on_the_unit(wrong) > 0.1 for wrong in broken)


@given(st.integers(1, GAPS - 1), st.floats(-1, 1), st.floats(-1, 1))
def test_bits_of_a_density_are_bits_of_its_bins(k: int, mean: float, log_scale: float) -> None:
    x, m, s = numbers(float(CENTRES[k]), mean, log_scale)
    in_bins = vlb.bits_per_dim(-likelihood(x, m, s))
    nats = -(vlb.density_log_likelihood(x, m, s) - math.log(2 / GAPS))
    z, h = (float(x) - mean) / math.exp(log_scale), EDGE / math.exp(log_scale)
    gap = float((vlb.density_bits_per_dim(nats, 2 / GAPS) - in_bins).abs())
    assert gap <= (1 + z * z) * h * h / 6 / math.log(2) + 1e-12
    assert abs(float(vlb.density_bits_per_dim(nats, 1 / GAPS) - in_bins)) > 0.5


# Devices, broadcasting, bad input.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_dtype_and_device_are_those_of_the_data(dtype: torch.dtype, device: torch.device) -> None:
    x = CENTRES[::5].reshape(4, 13).to(device, dtype)
    scale = torch.full((4, 1), -2.0).to(device, dtype)
    for ask in (likelihood, vlb.density_log_likelihood):
        got, shape = ask(x, 0.3 * x, scale), ask(*(v.to("meta") for v in (x, x, scale)))
        assert got.dtype == shape.dtype == dtype and got.shape == shape.shape == x.shape
        assert got.device == x.device and shape.is_meta
        assert bool((got < 0).all())
        assert torch.equal(got, ask(x, 0.3 * x, scale.expand_as(x)))
    assert vlb.bits_per_dim(got).dtype == vlb.density_bits_per_dim(got, 0.1).dtype == dtype


def test_data_of_a_loader_are_on_the_grid() -> None:
    byte = torch.arange(256)
    for x in (2 * (byte.float() / 255) - 1, byte.float() / 127.5 - 1, (byte / 255).sub(0.5).div(0.5)):
        exact = CENTRES.to(torch.float32)
        zero, scale = torch.zeros_like(x), torch.full_like(x, -3.0)
        assert torch.equal(likelihood(x, zero, scale), likelihood(exact, zero, scale))
    with pytest.raises(ValueError, match="x must lie on the 256 centres"):
        likelihood((byte.float() + 0.5) / 128 - 1, zero, scale)


LINE, FLAT = CENTRES[100:104], torch.full((4,), -2.0).double()
BAD: dict[str, tuple[Callable[[], object], str]] = {
    "above": (lambda: likelihood(LINE + 3, LINE, FLAT), r"x must lie in \[-1, 1\]"),
    "bytes": (lambda: likelihood(LINE * 255, LINE, FLAT), r"x must lie in \[-1, 1\]"),
    "nan": (lambda: likelihood(LINE / 0 * 0, LINE, FLAT), r"x must lie in .*nan"),
    "latent": (lambda: likelihood(LINE / 3, LINE, FLAT), "256 centres from -1 to 1"),
    "mean": (lambda: likelihood(LINE, LINE / 0, FLAT), "mean must be finite, got -inf"),
    "point mass": (
        lambda: likelihood(LINE, LINE, FLAT - math.inf),
        "log_scale must be finite, got -inf",
    ),
    "half": (
        lambda: likelihood(LINE.half(), LINE.half(), FLAT.half()),
        "float32 or float64, got torch.float16",
    ),
    "promotion": (
        lambda: likelihood(LINE, LINE, FLAT.float()),
        "log_scale must have the dtype of x",
    ),
    "enlarging": (
        lambda: likelihood(LINE, LINE, FLAT.repeat(2, 1)),
        "log_scale must broadcast to x",
    ),
    "shape": (lambda: likelihood(LINE, LINE[:1], FLAT), "mean must have the shape"),
    "bins": (lambda: likelihood(LINE, LINE, FLAT, 1), "bins must be at least 2"),
    "order": (lambda: vlb.density_log_likelihood(LINE, LINE, FLAT, order=3), "order must be 2, 4 or 6"),  # type: ignore[arg-type]
    "width": (lambda: vlb.density_bits_per_dim(1.0, 0.0), "bin_width must lie strictly between 0"),
}  # fmt: skip


@pytest.mark.parametrize(("ask", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_by_name_bound_and_value(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask()
