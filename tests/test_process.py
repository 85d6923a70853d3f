"""Continuous processes: drift and diffusion belong to scale and deviation; a law at a level is exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from refdiff import data, process
from refdiff.process import EDM, VE, VP, Process, SubVP

PROCESSES = [VP(), VP(0.3, 7.0), SubVP(), VE(), VE(0.02, 30.0, from_clean=True), EDM(20.0)]
ULP = torch.finfo(torch.float64).eps


def mismatch(of: Process, drift: Tensor, diffusion_squared: Tensor, t: Tensor) -> Tensor:
    """In units of rounding: f against d log scale / dt, and g² against d var / dt - 2 f var."""
    t = t.clone().requires_grad_()
    (log_scale,) = torch.autograd.grad(of.log_scale(t).sum() + 0 * t.sum(), t)
    (growth,) = torch.autograd.grad(of.variance(t).sum(), t)
    variance = of.variance(t).detach()
    size = growth.abs() + 2 * (drift * variance).abs()
    left = (growth - 2 * drift * variance - diffusion_squared).abs() / (16 * ULP * size)
    return torch.cat([(log_scale - drift).abs() / (16 * ULP * (drift.abs() + 1)), left]).max()


@pytest.mark.parametrize("of", PROCESSES, ids=repr)
def test_drift_and_diffusion_are_those_of_the_marginals(of: Process) -> None:
    t = torch.linspace(0.01, 0.99, 23, dtype=torch.float64) * of.end
    f, g_squared = of.drift(t), of.diffusion_squared(t)
    assert mismatch(of, f, g_squared, t) <= 1
    assert mismatch(of, f, g_squared / 2, t) > 1


@pytest.mark.parametrize("of", PROCESSES, ids=repr)
def test_a_time_outside_is_refused(of: Process) -> None:
    with pytest.raises(ValueError, match=r"t must lie in 0\.\."):
        of.scale(-0.1)
    with pytest.raises(ValueError, match=r"t must lie in 0\.\."):
        of.std(torch.tensor([0.5 * of.end, 1.5 * of.end], dtype=torch.float64))
    with pytest.raises(ValueError, match="float64"):
        of.std(torch.tensor([0.5]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VP(0.0, 1.0), "beta_min must be above 0, got 0.0"),
        (lambda: VE(2.0, 1.0), "sigma_max must be above sigma_min = 2.0, got 1.0"),
        (lambda: EDM(float("nan")), "end must be finite, got nan"),
    ],
)
def test_bad_processes(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_a_law_at_a_level_is_that_of_a_schedule() -> None:
    from refdiff.schedule import linear

    law = data.MixtureLaw(
        torch.tensor([0.25, 0.75], dtype=torch.float64),
        torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64),
        torch.tensor([[[2.0, 0.5], [0.5, 1.0]], [[0.3, 0.1], [0.1, 0.2]]], dtype=torch.float64),
    )
    schedule, t = linear(1000), torch.tensor([1, 37, 999])
    x = torch.linspace(-3, 3, 6, dtype=torch.float64).reshape(3, 2)
    at = law.at(schedule.sqrt_alpha_bar[t], schedule.sqrt_one_minus_alpha_bar[t])
    pairs = [
        (at.log_prob(x), law.log_prob(schedule, x, t)),
        (at.score(x), law.score(schedule, x, t)),
        (at.eps(x), law.eps(schedule, x, t)),
        (at.x_0(x), law.posterior_mean(schedule, x, t)),
    ]
    for left, right in pairs:
        torch.testing.assert_close(left, right, rtol=1e3 * ULP, atol=0)
    assert not torch.allclose(law.at(at.scale**2, at.std).score(x), at.score(x))


def test_a_law_without_noise_returns_the_data() -> None:
    law = data.PointMass(torch.tensor([1.0, 2.0], dtype=torch.float64))
    x = torch.tensor([[2.0, 4.0]], dtype=torch.float64)
    assert torch.equal(law.at(2.0, 0.0).x_0(x), x / 2)
    assert torch.equal(law.at(2.0, 0.0).eps(x), torch.zeros_like(x))
    with pytest.raises(ValueError, match="std must be above 0 where the law has no density"):
        law.at(2.0, 0.0).score(x)
    with pytest.raises(ValueError, match=r"scale must be finite and above 0, got 0\.0"):
        law.at(0.0, 1.0)
    with pytest.raises(ValueError, match="std must be finite and at least 0"):
        law.at(1.0, -1.0)


def test_processes_on_meta() -> None:
    t = torch.empty(3, dtype=torch.float64, device="meta")
    for of in PROCESSES:
        assert of.log_snr(t).device.type == "meta" and of.diffusion(t).shape == (3,)
    assert process.VP().rate(0.5).shape == ()
