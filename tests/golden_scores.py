"""How the reference answers the golden cases of score matching and annealed Langevin sampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from refdiff import score_matching, smld

Ask = Callable[[Any], Tensor]


def number(q: Any, name: str) -> float:
    return float(Fraction(q.case.input[name]))


def count(q: Any, name: str) -> int:
    return int(q.case.input[name])


def row(q: Any, *names: str) -> Tensor:
    """Some inputs as one sample."""
    return torch.cat([getattr(q, name) for name in names], 1)


def vector(q: Any, *names: str) -> Tensor:
    return row(q, *names)[0]


def affine(slope: Tensor, centre: Tensor | float = 0.0) -> score_matching.Score:
    return lambda x: -((x - centre) @ slope.mT)


def plane(q: Any) -> score_matching.Score:
    return affine(vector(q, "H_11", "H_12", "H_21", "H_22").reshape(2, 2))


def points(mean: Tensor, cov: Tensor) -> Tensor:
    """Points of equal weight with this mean and covariance: means of squares over them are exact."""
    axes = math.sqrt(len(mean)) * torch.linalg.cholesky(cov).mT
    return torch.cat([mean + axes, mean - axes])


def matrix(q: Any, name: str) -> Tensor:
    return q.exact(name).to(q.dtype)  # type: ignore[no-any-return]


def fisher(q: Any) -> Tensor:
    hessian = (1 / q.variance_1).reshape(1, 1)
    law = (q.mean_0[0], q.variance_0.reshape(1, 1))
    return score_matching.gaussian_fisher_divergence(*law, q.mean_1[0], hessian)


def fisher_nd(q: Any) -> Tensor:
    law = (matrix(q, name) for name in ("mu_0", "S_0", "mu_1", "H"))
    return score_matching.gaussian_fisher_divergence(*law)


def energy(q: Any) -> score_matching.Score:
    return affine(matrix(q, "H"), matrix(q, "mu_1"))


def explicit_nd(q: Any) -> Tensor:
    x = points(matrix(q, "mu_0"), matrix(q, "S_0"))
    return score_matching.explicit_loss(energy(q), x).mean()


def noise_level(q: Any) -> float:
    return math.sqrt(float(q.exact("N")[0, 0]))


def denoising_nd(q: Any) -> Tensor:
    mean, cov = matrix(q, "mu_0"), matrix(q, "S_0")
    zero, one = torch.zeros_like(mean), torch.eye(2, dtype=q.dtype)
    x, z = points(torch.cat([mean, zero]), torch.block_diag(cov, one)).chunk(2, dim=1)
    return score_matching.denoising_loss(energy(q), x.contiguous(), noise_level(q), z.contiguous()).mean()


def sliced(reduced: bool) -> Ask:
    return lambda q: score_matching.sliced_loss(plane(q), row(q, "u_1", "u_2"), row(q, "v_1", "v_2"), reduced)


def mixture_score(q: Any) -> Tensor:
    weight = vector(q, "weight")
    joint = torch.stack([weight * vector(q, "density_0"), (1 - weight) * vector(q, "density_1")], 1)
    scores = row(q, "component_score_0", "component_score_1")[:, :, None]
    return score_matching.marginal_score(joint.log(), scores)


def weight_sensitivity(q: Any) -> Tensor:
    ratio = (vector(q, "density_0") / vector(q, "density_1")).log()
    scores = (q.component_score_0, q.component_score_1)
    return score_matching.weight_sensitivity(ratio, *scores, number(q, "weight"))


def eps_loss(q: Any) -> Tensor:
    return score_matching.eps_loss(lambda x, t: q.score_hat, q.schedule, q.like, q.t, q.eps)


def level(q: Any) -> Tensor:
    """The level of the case above the last one."""
    return torch.tensor([number(q, "sigma"), number(q, "sigma_L")], dtype=torch.float64)


def step_size(q: Any) -> Tensor:
    return smld.step_sizes(level(q), number(q, "base_step"))[0]


def step(rule: smld.Rule) -> Ask:
    return lambda q: smld.step(q.x_ve, q.score_ve, step_size(q), q.z, rule)


def loss(q: Any) -> Tensor:
    sigmas = torch.tensor([number(q, "sigma")], dtype=torch.float64)
    return smld.loss(lambda x, sigma: q.score_hat, sigmas, q.like, 0, q.z)


def ddpm_loss(q: Any) -> Tensor:
    sigma = q.schedule.sigma[q.t]
    return smld.loss(lambda x, level: -q.eps_hat / level[:, None], sigma.reshape(1), q.like, 0, q.eps)


def loss_minimum(q: Any) -> Tensor:
    spread, sigmas = vector(q, "data_variance"), vector(q, "sigma")
    x, z = points(torch.zeros(2, dtype=q.dtype), torch.diag(torch.cat([spread, torch.ones_like(spread)]))).T
    score = lambda x, sigma: -x / (spread + sigma[:, None] ** 2)  # noqa: E731
    return smld.loss(score, sigmas, x[:, None], 0, z[:, None]).mean()


def contraction(q: Any) -> Tensor:
    zero, one = torch.zeros_like(q.data_variance), torch.ones_like(q.data_variance[0])
    law = (zero[0], q.data_variance, float(step_size(q)), 1, one, zero)
    return smld.chain_moments(level(q)[:1], *law)[0]


def denoised_variance(q: Any) -> Tensor:
    one, sigma = torch.ones_like(q.data_variance), number(q, "sigma")
    slope = smld.denoise(one, sigma, -one / (q.data_variance + sigma**2))
    return slope**2 * q.start_variance


def moments(q: Any, sigmas: Tensor, epsilon: str) -> tuple[Tensor, Tensor]:
    """Mean and variance after the steps; what does not count in one of them is not given."""
    zero = q.like

    def given(name: str) -> Tensor:
        return getattr(q, name) if name in q.case.input else zero  # type: ignore[no-any-return]

    law = (given("data_mean")[0], q.data_variance, number(q, epsilon), count(q, "steps"))
    return smld.chain_moments(sigmas, *law, given("start_mean")[0], given("start_variance"))


def of_level(which: int) -> Ask:
    return lambda q: moments(q, torch.tensor([number(q, "sigma")], dtype=torch.float64), "step_size")[which]


def ladder(q: Any) -> Tensor:
    return smld.geometric_sigmas(number(q, "sigma_1"), number(q, "sigma_L"), count(q, "rungs"))


def of_chain(which: int) -> Ask:
    return lambda q: moments(q, ladder(q), "base_step")[which]


SCORES: dict[str, Ask] = {
    "score_matching.fisher_divergence": fisher,
    "score_matching.fisher_divergence_nd": fisher_nd,
    "score_matching.explicit_plane": lambda q: score_matching.explicit_loss(plane(q), row(q, "u_1", "u_2")),
    "score_matching.explicit_gaussian_nd": explicit_nd,
    "score_matching.sliced_plane": sliced(False),
    "score_matching.sliced_reduced_plane": sliced(True),
    "score_matching.denoising_gaussian_nd": denoising_nd,
    "score_matching.denoising_constant_nd": lambda q: score_matching.denoising_constant(
        matrix(q, "S_0"), noise_level(q)
    ),
    "score_matching.eps_loss": eps_loss,
    "score_matching.mixture_score": mixture_score,
    "score_matching.weight_sensitivity": weight_sensitivity,
    "smld.ladder": lambda q: ladder(q)[count(q, "i") - 1],
    "smld.step_size": step_size,
    "smld.step": step("half"),
    "smld.step_practice": step("eta"),
    "smld.loss": loss,
    "smld.loss_minimum": loss_minimum,
    "smld.ddpm_loss": ddpm_loss,
    "smld.denoise": lambda q: smld.denoise(q.x_ve, number(q, "sigma"), q.score_ve),
    "smld.contraction": contraction,
    "smld.level_mean": of_level(0),
    "smld.level_variance": of_level(1),
    "smld.chain_mean": of_chain(0),
    "smld.chain_variance": of_chain(1),
    "smld.denoised_variance": denoised_variance,
}
