"""Samplers of SDEs: their steps, their exact law on Gaussian data, and what correctors do to it."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference_laws import misfit, tensors
from sde_laws import (
    COV,
    LAW,
    MEAN,
    PREDICTORS,
    PROCESSES,
    START,
    START_COV,
    down,
    law_of,
    marginal,
    missed,
    probed,
    score_of,
)
from torch import Tensor

from refdiff import ddpm, schedule, sde, smld
from refdiff.data import PointMass
from refdiff.process import VE, VP, Process, Transition, from_ladder, from_schedule

CHAIN = schedule.linear(50, 1e-3, 0.3)
ULP = torch.finfo(torch.float64).eps
NAMES = st.sampled_from(sorted(PROCESSES))


# Steps.


@given(st.integers(1, 50), st.integers(1, 20), st.sampled_from(["posterior", "forward"]))
def test_ancestral_sampling_for_vp_is_ddpm(t: int, back: int, kind: sde.Noise) -> None:
    s = max(t - back, 0)
    x, eps, noise = tensors(3)
    of = from_schedule(CHAIN)
    score = -eps / CHAIN.sqrt_one_minus_alpha_bar[t]
    got = sde.ancestral_step(of, x, t / 50, s / 50, score, noise, kind)
    step = ddpm.step_coefficients(CHAIN, t, s, "beta_tilde" if kind == "posterior" else "beta")
    want = step.apply(x, eps, noise)
    size = (x.abs() + eps.abs()) / (CHAIN.alpha_bar[t] / CHAIN.alpha_bar[s]).sqrt() + noise.abs()
    assert misfit(got, want, size, 400) <= 1
    other = sde.reverse_diffusion_step(of, x, t / 50, s / 50, score, noise)
    assert misfit(other, want, size, 400) > 1


def test_reverse_diffusion_of_a_chain_is_the_printed_step() -> None:
    x, score, noise = tensors(3)
    beta = float(CHAIN.beta[17])
    vp = sde.reverse_diffusion_step(from_schedule(CHAIN), x, 17 / 50, 16 / 50, score, noise)
    want = (2 - math.sqrt(1 - beta)) * x + beta * score + math.sqrt(beta) * noise
    size = x.abs() + score.abs() + noise.abs()
    assert misfit(vp, want, size, 200) <= 1
    first_order = (1 + beta / 2) * x + beta * score + math.sqrt(beta) * noise
    assert misfit(vp, first_order, size, 200) > 1
    sigmas = smld.geometric_sigmas(9.0, 0.1, 8)
    high, low = float(sigmas[3]), float(sigmas[4])
    ve = sde.reverse_diffusion_step(from_ladder(sigmas), x, 5 / 8, 4 / 8, score, noise)
    gap = high**2 - low**2
    assert misfit(ve, x + gap * score + math.sqrt(gap) * noise, size * (1 + gap), 64) <= 1
    assert misfit(ve, x + high**2 * score + math.sqrt(gap) * noise, size * (1 + gap), 64) > 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_steps_are_affine_with_their_coefficients(name: str, dtype: torch.dtype) -> None:
    of, (x, score, noise) = PROCESSES[name], tensors(3, dtype=dtype)
    t, s = 0.7 * of.end, torch.tensor([0.6, 0.5, 0.3], dtype=torch.float64) * of.end
    for predictor in sde.PREDICTORS.values():
        step = predictor(of, t, s)
        got = step.apply(x, score, noise)
        assert got.dtype == dtype
        parts = [
            (c[:, None].double(), v.double())
            for c, v in zip((step.x, step.score, step.noise), (x, score, noise), strict=True)
        ]
        size = sum((c * v).abs() for c, v in parts)
        assert misfit(got, sum(c * v for c, v in parts), size, 4) <= 1  # type: ignore[arg-type]
        assert torch.equal(step.apply(x, score), step.apply(x, score, torch.zeros_like(x)))


def coefficients(of: Process, h: float) -> dict[str, Tensor]:
    """Differences of the steps over a time h down from the middle, over h²."""
    t = torch.tensor(0.5 * of.end, dtype=torch.float64)
    s = t - h
    em, rd, an = (
        sde.PREDICTORS[name](of, t, s) for name in ("euler_maruyama", "reverse_diffusion", "ancestral")
    )
    f, g = of.drift(t), of.diffusion_squared(t)
    slopes = [torch.autograd.functional.jacobian(curve, t) for curve in (of.drift, of.diffusion_squared)]
    slope, growth = slopes if slopes[0].shape == () else (torch.zeros(()), slopes[1])
    return {
        "state": (rd.x - em.x) / h**2 - (slope - f**2) / 2,
        "score": (rd.score - em.score) / h**2 - (f * g - growth / 2),
        "ancestral state": (an.x - rd.x) / h**2 - f**2,
        "ancestral score": (an.score - rd.score) / h**2 + f * g,
        "ancestral noise": (an.noise**2 - rd.noise**2) / h**2 + 2 * f * g + g**2 / of.variance(t),
    }


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_samplers_differ_by_the_proved_terms(name: str) -> None:
    of = PROCESSES[name]
    coarse, fine = (coefficients(of, 2.0**-k * of.end) for k in (8, 9))
    for part, error in fine.items():
        # what is left of the leading term is halved with the step
        assert abs(float(error)) <= 0.6 * abs(float(coarse[part])) + 1e-6, part
    if name == "vp":
        assert max(abs(float(error)) for error in fine.values()) < 0.2


# The exact law.


@given(NAMES, st.sampled_from(PREDICTORS), st.integers(0, 2), st.booleans(), st.booleans())
def test_the_law_of_a_sampler_is_exact(
    name: str, predictor: str, M: int, corrects_first: bool, last_noise: bool
) -> None:
    of, N = PROCESSES[name], 5
    times = down(of, N)
    how: dict[str, Any] = {
        "predictor": predictor,
        "corrector_steps": M,
        "steps": 0.1 * of.variance(times) if M else None,
        "first": "corrector" if corrects_first else "predictor",
        "last_noise": last_noise,
    }

    def run(x: Tensor, noises: list[Tensor]) -> Tensor:
        return sde.predictor_corrector(of, score_of(of), x, times, noises[:N], noises[N:], **how)

    mean, cov = probed(run, N + N * M)
    got = sde.gaussian_law(of, MEAN, COV, times, START, START_COV, **how)
    # some thirty affine maps, whose entries reach about ten
    assert misfit(got[0], mean, 10.0, 200) <= 1
    assert misfit(got[1], cov, 100.0, 200) <= 1
    if predictor != "none":
        shifted = sde.gaussian_law(of, MEAN + 0.1, COV, times, START, START_COV, **how)
        assert misfit(shifted[0], mean, 10.0, 200) > 1


ORDERS = {"euler_maruyama": 1, "reverse_diffusion": 1, "ancestral": 1, "heun": 2}


@pytest.mark.parametrize("name", sorted(PROCESSES))
@pytest.mark.parametrize("predictor", ORDERS)
def test_samplers_have_their_weak_order(name: str, predictor: str) -> None:
    of = PROCESSES[name]
    errors = [missed(of, down(of, N, 0.6, 0.3), predictor=predictor) for N in (50, 100)]
    order = math.log2(errors[0] / errors[1])
    assert abs(order - ORDERS[predictor]) < 0.1
    assert abs(order - 3 + ORDERS[predictor]) > 0.5


# Two noises: Runge–Kutta, and strong orders.


def halves(z: Tensor, omega: Tensor) -> tuple[Tensor, Tensor]:
    """The noises of a step from those of its two halves."""
    first, second, w, v = z[0], z[1], omega[0], omega[1]
    whole = (first + second) / math.sqrt(2)
    # ΔZ adds up, and the second half begins where the first has ended: in units of h√h of the whole step
    integral = sum((a + b / math.sqrt(3)) / 2 for a, b in ((first, w), (second, v))) / 2**1.5 + first / 2**1.5
    return whole, math.sqrt(3) * (2 * integral - whole)


def one_step(kind: str, of: Process, x: Tensor, t: Tensor, s: Tensor, z: Tensor, omega: Tensor) -> Tensor:
    if kind == "runge_kutta":
        return sde.runge_kutta_step(of, score_of(of), x, t, s, z, omega)
    if kind == "heun":
        return sde.heun_step(of, score_of(of), x, t, s, z)
    return sde.PREDICTORS[kind](of, t, s).apply(x, score_of(of)(x, t), z)


def path_gap(kind: str, of: Process, N: int) -> float:
    """Root mean square distance of the ends of N and 2N steps along one Brownian path, without sampling."""
    fine = down(of, 2 * N, 0.6, 0.3)
    count = 8 * N + 1
    basis = torch.zeros(count, count - 1, dtype=torch.float64)
    basis[1:] = torch.eye(count - 1, dtype=torch.float64)
    z, omega = basis.reshape(count, 2, 2 * N, 2).permute(1, 2, 0, 3)
    coarse_x = fine_x = torch.zeros(count, 2, dtype=torch.float64)
    for k in range(0, 2 * N, 2):
        joint = halves(z[k : k + 2], omega[k : k + 2])
        coarse_x = one_step(kind, of, coarse_x, fine[k], fine[k + 2], *joint)
        for j in (k, k + 1):
            fine_x = one_step(kind, of, fine_x, fine[j], fine[j + 1], z[j], omega[j])
    gap = coarse_x - fine_x
    return float(((gap[1:] - gap[0]) ** 2).sum().sqrt())


# an affine drift has no curvature, which is what keeps Runge–Kutta at 1.5 for other ones
STRONG = {"euler_maruyama": 1.0, "reverse_diffusion": 1.0, "heun": 1.0, "runge_kutta": 2.0}


@pytest.mark.parametrize("kind", STRONG)
def test_samplers_have_their_strong_order(kind: str) -> None:
    of = PROCESSES["vp"]
    order = math.log2(path_gap(kind, of, 16) / path_gap(kind, of, 32))
    assert abs(order - STRONG[kind]) < 0.1, order


def test_noises_of_halves_are_those_of_the_whole() -> None:
    """In law: two standard normal, independent noises; and the increment is the sum of the increments."""
    unit = torch.eye(4, dtype=torch.float64).reshape(2, 2, 4)
    whole = torch.stack(halves(*unit))
    assert misfit(whole @ whole.mT, torch.eye(2, dtype=torch.float64), 1.0, 8) <= 1
    late = torch.stack(halves(unit[0].flip(0), unit[1]))
    assert misfit(late @ whole.mT, torch.eye(2, dtype=torch.float64), 1.0, 8) > 1


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_runge_kutta_has_weak_order_two(name: str) -> None:
    of = PROCESSES[name]

    def error(N: int) -> float:
        times = down(of, N, 0.6, 0.3)
        start = marginal(of, times[0])

        def run(x: Tensor, noises: list[Tensor]) -> Tensor:
            for k, (t, s) in enumerate(pairwise(times)):
                x = sde.runge_kutta_step(of, score_of(of), x, t, s, noises[2 * k], noises[2 * k + 1])
            return x

        got = probed(run, 2 * N, start)
        return max(float((a - b).abs().max()) for a, b in zip(got, marginal(of, times[-1]), strict=True))

    order = math.log2(error(24) / error(48))
    assert abs(order - 2) < 0.1, order


def local(of: Process, predictor: str, h: float) -> Tensor:
    """The error of the variance along both axes in one step from the exact law, over h²."""
    t = torch.tensor(0.5 * of.end, dtype=torch.float64)
    times = torch.stack([t, t - h])
    got, want = law_of(of, times, predictor=predictor)[1], marginal(of, times[1])[1]
    axes = torch.linalg.eigh(COV)[1]
    return torch.diagonal(axes.mT @ (got - want) @ axes) / h**2


def proved(of: Process, predictor: str) -> Tensor:
    """The leading coefficients, with the slopes by central differences."""
    t, small = 0.5 * of.end, 1e-4
    f, g = of.drift(t), of.diffusion_squared(t)
    slope, growth = ((c(t + small) - c(t - small)) / (2 * small) for c in (of.drift, of.diffusion_squared))
    V = of.scale(t) ** 2 * torch.linalg.eigvalsh(COV) + of.variance(t)
    if predictor == "euler_maruyama":
        return g**2 / V + f * g - f**2 * V - slope * V - growth / 2
    return g**2 / V - (2 * f**2 * V if predictor == "reverse_diffusion" else g**2 / of.variance(t))


@pytest.mark.parametrize("name", sorted(PROCESSES))
@pytest.mark.parametrize("predictor", ["euler_maruyama", "reverse_diffusion", "ancestral"])
def test_local_errors_have_the_proved_coefficients(name: str, predictor: str) -> None:
    of, want = PROCESSES[name], proved(PROCESSES[name], predictor)
    first, second = (local(of, predictor, 2.0**-k * of.end) for k in (9, 10))
    extrapolated = 2 * second - first
    size = want.abs().max()
    assert float((extrapolated - want).abs().max() / size) < 2e-3
    other = proved(of, "ancestral" if predictor != "ancestral" else "reverse_diffusion")
    assert float((extrapolated - other).abs().max() / size) > 0.05


def test_ancestral_sampling_is_exact_for_a_point_mass() -> None:
    nothing = torch.zeros(2, 2, dtype=torch.float64)
    for name, of in PROCESSES.items():
        times = down(of, 4)
        start = of.scale(times[0]) * MEAN, of.variance(times[0]) * torch.eye(2, dtype=torch.float64)
        ends = {
            p: sde.gaussian_law(of, MEAN, nothing, times, *start, predictor=p)
            for p in ("ancestral", "reverse_diffusion")
        }
        want = of.variance(times[-1]) * torch.eye(2, dtype=torch.float64)
        assert misfit(ends["ancestral"][1], want, of.variance(times[0]), 400) <= 1, name
        assert float((ends["reverse_diffusion"][1] - want).abs().max()) > 1e-3, name


def test_reverse_diffusion_ends_with_the_noise_of_the_smallest_level() -> None:
    """The last step of the source, from the level σ_1 to clean data, adds σ_1 again."""
    of, point = from_ladder(smld.geometric_sigmas(9.0, 0.25, 6)), PointMass(MEAN)
    score = lambda x, t: point.at(of.scale(t), of.std(t)).score(x)  # noqa: E731
    times = torch.tensor([1 / 6, 0.0], dtype=torch.float64)
    x, noise = tensors(2)
    got = sde.predictor_corrector(of, score, x, times, [noise])
    assert misfit(got, MEAN + 0.25 * noise, x.abs() + 1, 40) <= 1
    mean = sde.predictor_corrector(of, score, x, times, last_noise=False)
    assert misfit(mean, MEAN.expand(3, 2), x.abs() + 1, 40) <= 1


# Correctors.


@given(st.floats(1e-3, 0.9), st.integers(1, 60), NAMES)
def test_a_corrector_keeps_its_law_up_to_its_bound(share: float, M: int, name: str) -> None:
    of = PROCESSES[name]
    times = down(of, 1, 0.6, 0.5)
    V = torch.linalg.eigvalsh(marginal(of, times[1])[1])
    size = share * V.min()
    steps = size.expand(2)
    start = of.scale(times[1]) * MEAN, marginal(of, times[1])[1]
    how: dict[str, Any] = {"predictor": "none", "corrector_steps": M, "steps": steps}
    mean, cov = sde.gaussian_law(of, MEAN, COV, times, *start, **how)
    excess = torch.linalg.eigvalsh(cov) - V
    bound = V * size / (2 * V - size)
    rounding = 8 * M * ULP * V
    assert bool((excess >= -rounding).all()) and bool((excess <= bound + rounding).all())
    assert misfit(mean, start[0], 1.0, 8 * M) <= 1
    exact = bound * -torch.expm1(2 * M * torch.log1p(-size / V))
    assert misfit(excess, exact, V, 64 * M) <= 1
    assert misfit(excess, bound, V, 64 * M) > 1 or float((1 - size / V).max()) ** (2 * M) < 1e-10


def test_the_number_of_corrector_steps_does_not_matter_in_the_limit() -> None:
    """Small steps: the law is that of the process for every M, to first order in the step and in 1/N."""
    of = PROCESSES["vp"]

    def worst(N: int, share: float, *numbers: int) -> float:
        times = down(of, N)
        steps = share * of.variance(times)
        return max(missed(of, times, corrector_steps=M, steps=steps) for M in numbers)

    shrinking = [worst(N, 1 / N, 1, 3, 10) for N in (20, 40, 80)]
    assert all(later < 0.6 * earlier for earlier, later in pairwise(shrinking))
    assert worst(80, 1.0, 10) > 0.9 * worst(40, 1.0, 10)  # the bias of a step that does not shrink stays


def test_with_many_corrector_steps_the_predictor_does_not_matter() -> None:
    of = PROCESSES["ve"]
    times = down(of, 3)
    variances = torch.linalg.eigvalsh(marginal(of, times[-1])[1])
    steps = 0.5 * of.variance(times)
    steps[-1] = 0.5 * variances.min()

    def apart(M: int) -> float:
        laws = [
            law_of(of, times, predictor=p, corrector_steps=M, steps=steps if M else None)[1]
            for p in ("euler_maruyama", "ancestral", "none")
        ]
        return max(float((law - laws[0]).abs().max()) for law in laws)

    left = float(1 - steps[-1] / variances.max()) ** 2
    assert apart(0) > 0.1
    # what the corrector of the last level leaves of errors up to ten
    for M in (10, 40):
        assert apart(M) <= 10 * left**M + 1e-13
    assert apart(10) > 1e-6


def frozen(x: Tensor, noises: list[Tensor], of: Process, times: Tensor, M: int, size: float) -> Tensor:
    """Algorithms 8.1 and 8.2 as printed: every corrector step asks for the score before the predictor."""
    score, draws = score_of(of), iter(noises)
    for t, s in pairwise(times):
        drift = score(x, t)
        x = sde.reverse_diffusion_step(of, x, t, s, drift, next(draws))
        for _ in range(M):
            x = sde.corrector_step(x, drift, next(draws), size)
    return x


def test_a_corrector_with_the_score_of_another_state_is_no_corrector() -> None:
    of, N, size = PROCESSES["ve"], 3, 0.01
    times = down(of, N)

    def printed(M: int) -> Tensor:
        return probed(lambda x, noises: frozen(x, noises, of, times, M, size), N * (M + 1))[1]

    def right(M: int) -> Tensor:
        steps = torch.full((N + 1,), size, dtype=torch.float64)
        law = (MEAN, COV, times, START, START_COV)
        return sde.gaussian_law(of, *law, corrector_steps=M, steps=steps if M else None)[1]

    assert misfit(printed(0), right(0), 1.0, 100) <= 1
    limit = marginal(of, times[-1])[1].trace()
    assert float((right(400).trace() - limit).abs()) < 0.05
    growth = [float(printed(M).trace()) for M in (100, 200, 400)]
    assert growth[0] > 2 * limit and growth[1] > 2 * growth[0] and growth[2] > 2.5 * growth[1]


def test_without_predictor_it_is_annealed_langevin_sampling() -> None:
    sigmas = smld.geometric_sigmas(5.0, 0.2, 6)
    of, x, M = from_ladder(sigmas), tensors(1), 4
    noises = list(tensors(6 * M, seed=3))
    want = smld.annealed_langevin(
        lambda x, sigma: LAW.at(torch.ones_like(sigma), sigma).score(x),
        sigmas,
        x,
        0.02,
        M,
        noises,
        rule="eta",
    )
    times = torch.arange(6, -1, -1, dtype=torch.float64) / 6
    steps = torch.cat([smld.step_sizes(sigmas, 0.02), torch.ones(1, dtype=torch.float64)])
    how: dict[str, Any] = {"predictor": "none", "corrector_steps": M, "first": "corrector"}
    got = sde.predictor_corrector(of, score_of(of), x, times, (), noises, steps=steps, **how)
    assert misfit(got, want, 20.0, 100) <= 1
    halved = sde.predictor_corrector(of, score_of(of), x, times, (), noises, steps=steps / 2, **how)
    assert misfit(halved, want, 20.0, 100) > 1


def test_the_step_rule_gives_its_signal_to_noise_ratio() -> None:
    score, noise = tensors(2, (5, 3, 2))
    norms = [part.flatten(1).norm(dim=1) for part in (score, noise)]
    alpha = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5], dtype=torch.float64)
    step = sde.corrector_step_size(score, noise, 0.16, alpha, "sample")
    ratio = step * norms[0] / ((2 * step).sqrt() * norms[1])
    assert misfit(ratio, 0.16 * alpha.sqrt(), ratio, 16) <= 1
    shared = sde.corrector_step_size(score, noise, 0.16)
    want = 2 * (0.16 * norms[1].mean() / norms[0].mean()) ** 2
    assert shared.shape == () and misfit(shared, want, want, 16) <= 1
    assert misfit(shared, 2 * 0.16 * norms[1].mean() / norms[0].mean(), want, 16) > 1


def test_the_step_rule_in_a_sampler_knows_the_process() -> None:
    """α is 1 for VE and 1 − β for VP; the first corrector step shows it."""
    x, z = tensors(2)
    times = torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)
    for of, alpha in ((VE(0.1, 4.0), 1.0), (VP(0.2, 6.0), None)):
        score = score_of(of)(x, times[0])
        damping = of.transition(times[0], times[1]).factor ** 2 if alpha is None else alpha
        size = sde.corrector_step_size(score, z, 0.2, damping)
        want = sde.corrector_step(x, score, z, size)
        how: dict[str, Any] = {"predictor": "none", "corrector_steps": 1, "first": "corrector"}
        got = sde.predictor_corrector(of, score_of(of), x, times[:2], (), [z], snr=0.2, **how)
        assert torch.equal(got, want)
        undamped = sde.corrector_step(x, score, z, sde.corrector_step_size(score, z, 0.2))
        assert torch.equal(got, undamped) == (alpha == 1.0)


# Arguments.


X, Z = tensors(2)
TIMES = torch.tensor([1.0, 0.5], dtype=torch.float64)
VP_6 = VP(0.2, 6.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sde.euler_maruyama_step(VP_6, X, 0.2, 0.5, X, Z), r"s must be below t = 0\.2, got 0\.5"),
        (lambda: sde.ancestral(VP_6, 0.5, 0.2, "tilde"), "kind must be one of posterior, forward"),  # type: ignore[arg-type]
        (lambda: sde.reverse_diffusion_step(VP_6, X, 0.5, 0.2, X.float()), "score must have the dtype of x"),
        (lambda: sde.heun_step(VP_6, lambda x, t: x, X, 0.5, 0.2, Z[:1]), "noise must have the shape of x"),
        (lambda: sde.runge_kutta_step(VP_6, score_of(VP_6), X, 0.5, 0.2, Z, Z[:1]), "second_noise must have"),
        (lambda: sde.corrector_step(X, X, Z, 0.0), r"step must be above 0 and finite, got 0\.0"),
        (lambda: sde.corrector_step(X, X, Z, torch.ones(2, dtype=torch.float64)), "step must be an int or"),
        (lambda: sde.corrector_step(X, X, Z, torch.ones(3)), "step must be a float or float64"),
        (lambda: sde.corrector_step_size(0 * X, Z, 0.1), "score must have a norm above 0"),
        (lambda: sde.corrector_step_size(X, Z, -0.1), r"snr must be above 0 and finite, got -0\.1"),
        (lambda: sde.corrector_step_size(X, Z, 0.1, norm="both"), "norm must be sample or batch"),  # type: ignore[arg-type]
        (lambda: run(times=TIMES.flip(0)), "times must descend strictly"),
        (lambda: run(times=TIMES.float()), "times must be float64 of shape"),
        (lambda: run(predictor="euler"), "predictor must be one of euler_maruyama, reverse_diffusion"),
        (lambda: run(first="both"), "first must be one of predictor, corrector"),
        (lambda: run(corrector_steps=-1), "corrector_steps must be at least 0"),
        (lambda: run(corrector_steps=1), "one of snr and steps must be given"),
        (lambda: run(corrector_steps=1, snr=0.1, steps=TIMES), "one of snr and steps must be given"),
        (lambda: run(corrector_steps=1, steps=TIMES[:1]), r"steps must have shape \(2,\)"),
        (lambda: run(noises=[]), "noises must hold one tensor"),
        (lambda: run(corrector_steps=1, snr=0.1), "corrector_noises must hold one tensor"),
        (lambda: sde.gaussian_law(VP_6, MEAN, COV[:1], TIMES, MEAN, COV), "cov"),
    ],
)  # fmt: skip
def test_bad_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def run(times: Tensor = TIMES, noises: Any = (Z,), **how: Any) -> Tensor:
    return sde.predictor_corrector(VP_6, score_of(VP_6), X, times, noises, **how)


def test_no_noise_is_asked_that_is_not_used() -> None:
    plain = run(noises=(), last_noise=False)
    assert torch.equal(plain, sde.reverse_diffusion_step(VP_6, X, 1.0, 0.5, score_of(VP_6)(X, TIMES[0])))
    assert torch.equal(run(noises=(), predictor="none"), X)
    assert torch.equal(run(), run(corrector_steps=0, snr=0.1))


def test_steps_on_meta() -> None:
    x = torch.empty(3, 2, device="meta", dtype=torch.float32)
    t, s = (torch.empty(3, device="meta", dtype=torch.float64) for _ in range(2))
    for of in PROCESSES.values():
        for predictor in sde.PREDICTORS.values():
            assert predictor(of, t, s).apply(x, x, x).device.type == "meta"
        assert sde.heun_step(of, lambda x, t: x, x, t, s, x).dtype == torch.float32
        assert sde.runge_kutta_step(of, lambda x, t: x, x, t, s, x, x).dtype == torch.float32
    step = sde.corrector_step_size(x, x, 0.1, norm="sample")
    assert sde.corrector_step(x, x, x, step).device.type == "meta"


def test_a_transition_of_a_chain_is_enough() -> None:
    step = sde.reverse_diffusion_of(Transition(*torch.tensor([0.9, 0.19], dtype=torch.float64)))
    assert [float(c) for c in (step.x, step.score)] == pytest.approx([1.1, 0.19], rel=4 * ULP)
    assert float(step.noise) == pytest.approx(math.sqrt(0.19), rel=4 * ULP)
