"""The reverse SDE, the densities it carries, the chains behind it, and the loss that trains its score."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference_laws import misfit, tensors
from scipy.integrate import quad
from sde_laws import COV, MEAN, PROCESSES, marginal, score_of
from torch import Tensor

from refdiff import gaussian, schedule, sde, smld
from refdiff.data import Law, MixtureLaw
from refdiff.process import VE, VP, Process, SubVP

LINE = MixtureLaw(
    torch.tensor([0.25, 0.75], dtype=torch.float64),
    torch.tensor([[1.0], [-0.5]], dtype=torch.float64),
    torch.tensor([[[0.25]], [[0.0625]]], dtype=torch.float64),
)
POINTS = torch.linspace(-1.5, 1.75, 14, dtype=torch.float64)[:, None]
NAMES = st.sampled_from(sorted(PROCESSES))


# Densities.


def log_density(of: Process, law: Law, x: Tensor, t: Tensor) -> Tensor:
    return law.at(of.scale(t), of.std(t)).log_prob(x)


def slope(curve: Any, x: Tensor, h: float = 1e-3) -> Tensor:
    """A central difference of fourth order; its error is far below a thousandth here."""
    near, far = curve(x + h) - curve(x - h), curve(x + 2 * h) - curve(x - 2 * h)
    return (8 * near - far) / (12 * h)  # type: ignore[no-any-return]


def rate_error(of: Process, drift: Any, noise: float) -> float:
    """How far the density of noised data is from the rate −∂(d·p)/p + ½n·∂²p/p of a drift and a noise."""
    t = torch.tensor(0.4 * of.end, dtype=torch.float64)
    rate = slope(lambda u: log_density(of, LINE, POINTS, u), t)
    score = lambda x: LINE.at(of.scale(t), of.std(t)).score(x)  # noqa: E731
    bend = slope(score, POINTS) + score(POINTS) ** 2
    move = lambda x: drift(of, x, t, score(x))  # noqa: E731
    expected = (
        -slope(move, POINTS) - move(POINTS) * score(POINTS) + noise * of.diffusion_squared(t) / 2 * bend
    )
    return float((rate - expected.flatten()).abs().max() / rate.abs().max())


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_the_reverse_sde_carries_the_density_back(name: str) -> None:
    """Forward in the drift f·x with noise g²; and with the reverse drift and the noise taken away: −g²."""
    of = PROCESSES[name]
    forward = lambda of, x, t, score: sde.forward_drift(of, x, t)  # noqa: E731
    assert rate_error(of, forward, 1.0) < 1e-6
    assert rate_error(of, sde.reverse_drift, -1.0) < 1e-6
    assert rate_error(of, sde.reverse_drift, 1.0) > 0.1
    halved = lambda of, x, t, score: sde.reverse_drift(of, x, t, score / 2)  # noqa: E731
    assert rate_error(of, halved, -1.0) > 0.1
    assert rate_error(of, halved, 0.0) < 1e-6  # the probability-flow ODE


@given(NAMES, st.sampled_from([torch.float32, torch.float64]))
def test_drifts_are_affine_in_their_numbers(name: str, dtype: torch.dtype) -> None:
    of, (x, score) = PROCESSES[name], tensors(2, dtype=dtype)
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64) * of.end
    got = sde.reverse_drift(of, x, t, score)
    f, g_squared = (value[:, None] for value in (of.drift(t), of.diffusion_squared(t)))
    want = f * x.double() - g_squared * score.double()
    assert got.dtype == dtype
    assert misfit(got, want, (f * x).abs() + (g_squared * score).abs(), 6) <= 1
    assert misfit(got, f * x.double() - g_squared.sqrt() * score.double(), want.abs() + 1, 6) > 1


# Divergences: why g² is the weight of the likelihood.


def fallen(of: Process, weight: Any) -> tuple[float, float]:
    """The divergence of two Gaussians lost between two times, and the weighted errors of the score."""
    other = torch.tensor([0.0, -0.5], dtype=torch.float64), torch.diag(torch.tensor([0.5, 1.5]).double())

    def laws(t: float) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        scale, identity = of.scale(t), torch.eye(2, dtype=torch.float64)
        noised = scale * other[0], scale**2 * other[1] + of.variance(t) * identity
        return marginal(of, t), noised

    def divergence(t: float) -> float:
        (m, C), (n, D) = laws(t)
        return float(gaussian.kl(m, C, n, D))

    def error(t: float) -> float:
        (m, C), (n, D) = laws(t)
        gap = torch.linalg.inv(D) - torch.linalg.inv(C)
        shift = torch.linalg.inv(D) @ (m - n)
        return float(weight(of, t) * ((gap @ C @ gap.mT).trace() + shift @ shift))

    low, high = 0.1 * of.end, 0.9 * of.end
    return divergence(low) - divergence(high), quad(error, low, high, epsrel=1e-9)[0]


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_half_g_squared_turns_score_errors_into_nats(name: str) -> None:
    of = PROCESSES[name]
    lost, summed = fallen(of, lambda of, t: of.diffusion_squared(t) / 2)
    assert lost == pytest.approx(summed, rel=1e-8)
    for wrong in (lambda of, t: of.diffusion_squared(t), lambda of, t: of.variance(t) / 2):
        assert fallen(of, wrong)[1] != pytest.approx(lost, rel=1e-3)


# The loss.


def exact_points(of: Process, t: float) -> tuple[Tensor, Tensor]:
    """Data and noise of equal weight with the moments of the law: means of squares over them are exact."""
    root = torch.linalg.cholesky(COV)
    basis = 2 * torch.eye(4, dtype=torch.float64)
    both = torch.cat([basis, -basis])
    return MEAN + both[:, :2] @ root.mT, both[:, 2:].contiguous()


@given(NAMES, st.floats(0.05, 1), st.sampled_from(["one", "variance", "likelihood"]))
def test_the_loss_is_least_at_the_score_by_its_excess(name: str, share: float, weighting: Any) -> None:
    of = PROCESSES[name]
    t = share * of.end
    x_0, noise = exact_points(of, t)
    weight = {"one": 1.0, "variance": of.variance(t), "likelihood": of.diffusion_squared(t)}[weighting]
    exact = score_of(of)
    least = sde.dsm_loss(of, exact, x_0, t, noise, weighting).mean()
    V = torch.linalg.eigvalsh(marginal(of, t)[1])
    want = weight * (1 / of.variance(t) - 1 / V).sum()
    # 1/b² − 1/V cancels where noise is nearly all there is
    size = weight * 2 / of.variance(t)
    assert misfit(least, want, size, 200) <= 1
    offset = torch.tensor([0.25, -0.5], dtype=torch.float64)
    moved = sde.dsm_loss(of, lambda x, t: exact(x, t) + offset, x_0, t, noise, weighting).mean()
    assert misfit(moved - least, weight * offset @ offset, size + weight, 400) <= 1
    minus = sde.dsm_loss(of, lambda x, t: -exact(x, t), x_0, t, noise, weighting).mean()
    assert misfit(minus, want, size, 200) > 1


def test_the_loss_of_a_batch_of_times_is_that_of_each() -> None:
    of, (x_0, noise) = PROCESSES["vp"], tensors(2)
    t = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
    weights = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
    for weighting in ("variance", weights):
        batch = sde.dsm_loss(of, score_of(of), x_0, t, noise, weighting)  # type: ignore[arg-type]
        for k in range(3):
            one = weights[k] if isinstance(weighting, Tensor) else "variance"
            alone = sde.dsm_loss(of, score_of(of), x_0[k : k + 1], float(t[k]), noise[k : k + 1], one)  # type: ignore[arg-type]
            assert misfit(batch[k : k + 1], alone, alone, 32) <= 1


def test_the_weight_of_the_variance_is_the_error_of_the_noise() -> None:
    of, (x_0, noise, eps) = SubVP(0.2, 6.0), tensors(3)
    t = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
    score = lambda x, t: -eps / of.std(t)[:, None]  # noqa: E731
    got = sde.dsm_loss(of, score, x_0, t, noise)
    want = ((noise - eps) ** 2).sum(1)
    assert misfit(got, want, (noise.abs() + eps.abs()).square().sum(1), 32) <= 1
    assert misfit(got, 2 * want, want, 32) > 1


# Chains.


def test_the_chain_of_ddpm_is_the_grid_with_the_rate_over_n() -> None:
    ho, of = schedule.linear(1000).beta[1:], VP(0.1, 20.0)
    narrow, wide = sde.vp_betas(of, 1000), sde.vp_betas(of, 1000, "N-1")
    assert misfit(narrow, ho, ho, 4) <= 1
    # the source's formula with its numbers: not equivalent, by the same factor at every step
    assert misfit(wide, ho, ho, 4) > 1
    assert misfit(wide / narrow, 1000 / 999, 1.0, 4) <= 1
    exact = [Fraction(1, 10) + Fraction(i, 999) * Fraction(199, 10) for i in range(1000)]
    assert (
        misfit(wide, torch.tensor([float(rate / 999) for rate in exact], dtype=torch.float64), wide, 4) <= 1
    )


def gap(N: int, grid: sde.Grid) -> float:
    """The log of the product of 1 − β plus the integral of the rate."""
    of = VP(0.1, 20.0)
    return float(torch.log1p(-sde.vp_betas(of, N, grid)).sum() + of.integral(1.0))


def test_product_and_exponential_differ_in_first_order_on_both_grids() -> None:
    squares = (0.1**2 + 0.1 * 20 + 20**2) / 3
    leading = {"N": -squares / 2, "N-1": -squares / 2 - 10.05}
    for grid, want in leading.items():
        coarse, fine = (N * gap(N, grid) for N in (4000, 8000))  # type: ignore[arg-type]
        assert 2 * fine - coarse == pytest.approx(want, rel=1e-4)
        assert abs(fine - want) > abs(want) * 1e-4
    # the thousand steps of DDPM keep 6.5 per cent less signal power than the process says
    assert math.exp(gap(1000, "N")) == pytest.approx(0.9345, abs=1e-4)
    assert math.exp(gap(1000, "N-1")) == pytest.approx(0.9250, abs=1e-4)


@given(st.integers(2, 400), st.floats(0.01, 1), st.floats(0.1, 20))
def test_the_sum_over_all_steps_is_the_integral_on_one_grid_only(N: int, low: float, high: float) -> None:
    of = VP(low, high)
    if max(low, high) >= N - 1:
        return
    total, whole = sde.vp_betas(of, N).sum(), of.integral(1.0)
    assert misfit(total, whole, whole, 8 + N) <= 1
    wide = sde.vp_betas(of, N, "N-1").sum()
    assert misfit(wide, whole * N / (N - 1), whole, 16 + 2 * N) <= 1
    assert misfit(wide, whole, whole, 8 + N) > 1
    squared = sde.vp_betas(of, N).square().sum()
    lost = -torch.log1p(-sde.vp_betas(of, N)).sum() - total
    assert squared / 2 < lost < squared / (2 * (1 - sde.vp_betas(of, N).max()))


@given(st.integers(2, 300))
def test_the_levels_of_the_chain_are_those_of_the_process(N: int) -> None:
    of = VE(0.02, 30.0)
    sigmas = sde.ve_sigmas(of, N)
    times = torch.arange(N, dtype=torch.float64) / (N - 1)
    assert misfit(sigmas, of.std(times), sigmas, 64) <= 1
    assert misfit(sigmas, smld.geometric_sigmas(30.0, 0.02, N).flip(0), sigmas, 64) <= 1
    assert (sigmas[0], sigmas[-1]) == (0.02, 30.0)
    clean = VE(0.02, 30.0, from_clean=True).variance(times)
    assert misfit(sigmas**2 - clean, 0.02**2, sigmas**2, 256) <= 1
    assert misfit(clean.sqrt()[:1], sigmas[:1], sigmas[:1], 64) > 1


# Arguments.


X = tensors(1)
VP_6 = VP(0.2, 6.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sde.reverse_drift(VP_6, X, 1.5, X), r"t must lie in 0\.\.1\.0, got 1\.5"),
        (lambda: sde.reverse_drift(VP_6, X, torch.zeros(2).double(), X), "t must be an int or have"),
        (lambda: sde.reverse_drift(VP_6, X, 0.5, X[:1]), "score must have the shape of x"),
        (lambda: sde.dsm_loss(VP_6, score_of(VP_6), X, 0.0, X), "t must leave some noise"),
        (lambda: sde.dsm_loss(VP_6, score_of(VP_6), X, 0.5, X.float()), "noise must have the dtype of x_0"),
        (lambda: sde.dsm_loss(VP_6, lambda x, t: x[:1], X, 0.5, X), "score must have the shape of x_0"),
        (lambda: sde.dsm_loss(VP_6, score_of(VP_6), X, 0.5, X, "g"), "weighting must be one of"),  # type: ignore[arg-type]
        (lambda: sde.dsm_loss(VP_6, score_of(VP_6), X, 0.5, X, -torch.ones(3, dtype=torch.float64)),
         r"weighting must be at least 0, got -1\.0"),
        (lambda: sde.dsm_loss(VP_6, score_of(VP_6), X, 0.5, X, torch.ones(3)), "weighting must be float64"),
        (lambda: sde.vp_betas(VP_6, 1), "N must be at least 2, got 1"),
        (lambda: sde.vp_betas(VP_6, 10, "N+1"), "grid must be one of N, N-1"),  # type: ignore[arg-type]
        (lambda: sde.vp_betas(VP_6, 6), r"N must keep every beta below 1, got beta = 1\.0 for N = 6"),
        (lambda: sde.ve_sigmas(VE(), 1), "N must be at least 2, got 1"),
    ],
)  # fmt: skip
def test_bad_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_drift_and_loss_on_meta() -> None:
    x = torch.empty(3, 2, device="meta", dtype=torch.float32)
    t = torch.empty(3, device="meta", dtype=torch.float64)
    for of in PROCESSES.values():
        assert sde.reverse_drift(of, x, t, x).dtype == torch.float32
        loss = sde.dsm_loss(of, lambda x, t: x, x, t, x, "likelihood")
        assert loss.shape == (3,) and loss.device.type == "meta"
