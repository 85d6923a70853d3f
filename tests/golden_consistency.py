"""How the reference answers the golden cases of consistency models."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from refdiff import consistency
from refdiff.data import GaussianLaw

Ask = Callable[[Any], Tensor]


def number(q: Any, name: str) -> float:
    return float(Fraction(q.case.input[name])) if name in q.case.input else 0.0


def count(q: Any, name: str) -> int:
    return int(q.case.input[name])


def row(q: Any, *names: str) -> Tensor:
    """Numbers of the case in float64."""
    return torch.tensor([number(q, name) for name in names], dtype=torch.float64)


def law(q: Any) -> GaussianLaw:
    return GaussianLaw(row(q, "data_mean"), row(q, "data_variance").reshape(1, 1))


def plane(q: Any) -> Tensor:
    u = row(q, "u_1", "u_2")
    axes = torch.stack([u, torch.stack([-u[1], u[0]])], 1) / u.norm()
    cov = axes @ torch.diag(row(q, "mode_variance_1", "mode_variance_2")) @ axes.mT
    data = GaussianLaw(row(q, "mode_1", "mode_2"), (cov + cov.mT) / 2)
    x = row(q, "x_t_1", "x_t_2").to(q.dtype).reshape(1, 2)
    return consistency.gaussian_function(data, x, number(q, "sigma"), number(q, "sigma_min"))[0, 0]


def boundary(which: int) -> Ask:
    names = ("sigma", "sigma_data", "sigma_min")
    return lambda q: consistency.boundary(*(number(q, name) for name in names))[which]


def sampled(which: int, *levels: str) -> Ask:
    """Mean or variance after an evaluation at each of the levels."""

    def ask(q: Any) -> Tensor:
        start = row(q, "start_mean"), row(q, "start_variance").reshape(1, 1)
        return consistency.multistep_moments(law(q), row(q, *levels), *start, number(q, "sigma_min"))[which]

    return ask


def one_sample_score(q: Any) -> Tensor:
    return -consistency.velocity(q.x_ve, number(q, "sigma"), q.x_0) / number(q, "sigma")


def lower_point(q: Any) -> Tensor:
    """The point at which training asks the teacher."""
    seen = []

    def teacher(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append(x)
        return x

    low = number(q, "sig_s")
    consistency.training_loss(lambda x, s: x, teacher, q.x_0, 2 * low, low, q.z)
    return seen[0]


def points(c: float) -> tuple[Tensor, Tensor]:
    """Data of this variance and unit noise as equally weighted points; means of squares are exact."""
    axes = torch.diag(torch.tensor([math.sqrt(2 * c), math.sqrt(2.0)], dtype=torch.float64))
    x_0, z = torch.cat([axes, -axes]).split(1, 1)
    return x_0.contiguous(), z.contiguous()


def losses(q: Any, student: Tensor, target: float) -> tuple[Tensor, Tensor]:
    """The mean loss of training and of distillation by Euler steps, with these slopes."""
    c, levels = number(q, "data_variance"), (number(q, "sig_t"), number(q, "sig_s"))
    x_0, z = points(c)
    f, g = (lambda x, s: student * x), (lambda x, s: target * x)
    best = lambda x, s: c / (c + s**2) * x  # noqa: E731
    training = consistency.training_loss(f, g, x_0, *levels, z).mean()
    return training, consistency.distillation_loss(f, g, best, x_0, *levels, z, method="euler").mean()


def loss_gap(q: Any) -> Tensor:
    slope = number(q, "teacher_slope")
    training, distilled = losses(q, slope * trained(q), slope)
    return training - distilled


def trained(q: Any) -> Tensor:
    return consistency.trained_slope(row(q, "data_variance"), row(q, "sig_s", "sig_t"))[0]


def exact_slope(q: Any, level: str) -> Tensor:
    at = number(q, level), number(q, "sigma_min")
    return consistency.gaussian_slope(row(q, "data_variance"), *at)[0]


def gaussian_gradient(q: Any) -> Tensor:
    student = exact_slope(q, "sig_t").requires_grad_()
    training, _ = losses(q, student, float(exact_slope(q, "sig_s")))
    return torch.autograd.grad(training, student)[0]


def deficit(q: Any) -> Tensor:
    step = consistency.gaussian_slope(row(q, "data_variance"), number(q, "sig_t"), number(q, "sig_s"))[0]
    return (trained(q) / step) ** 2


def level(q: Any) -> Tensor:
    ends = number(q, "sigma_min"), number(q, "sigma_1")
    return consistency.levels(*ends, count(q, "rungs"), number(q, "rho"))[count(q, "i") - 1]


def improved_steps(q: Any) -> Tensor:
    first = count(q, "count_first")
    done = count(q, "iteration"), count(q, "iterations")
    return torch.tensor(float(consistency.improved_steps(*done, first, first * 2 ** count(q, "doublings"))))


def steps(q: Any) -> Tensor:
    names = ("iteration", "iterations", "count_first", "count_last")
    return torch.tensor(float(consistency.steps(*(count(q, name) for name in names))))


def ema(q: Any) -> Tensor:
    average = [row(q, "theta_average")]
    for _ in range(count(q, "count")):
        average = consistency.ema(average, [row(q, "theta")], number(q, "average_rate"))
    return average[0]


def ema_rate(q: Any) -> Tensor:
    given = count(q, "rungs"), count(q, "count_first"), number(q, "average_rate_first")
    return torch.tensor(consistency.ema_rate(*given), dtype=torch.float64)


def pseudo_huber(q: Any) -> Tensor:
    dim = count(q, "dim")
    size = math.sqrt(number(q, "distance_squared") / dim)
    return consistency.pseudo_huber(torch.full((1, dim), size, dtype=torch.float64))


def level_probability(q: Any) -> Tensor:
    ends = sorted({number(q, name) for name in ("sigma_min", "sig_s", "sig_t", "sigma_1")})
    law = number(q, "log_sigma_mean"), number(q, "log_sigma_std")
    shares = consistency.level_probabilities(torch.tensor(ends, dtype=torch.float64), *law)
    return shares[ends.index(number(q, "sig_s"))]


CONSISTENCY: dict[str, Ask] = {
    "velocity": lambda q: consistency.velocity(
        q.like, number(q, "sigma"), number(q, "sigma") ** 2 * q.score_ve
    ),
    "velocity_from_data": lambda q: consistency.velocity(q.x_ve, number(q, "sigma"), q.x_0_hat),
    "c_skip": boundary(0),
    "c_out": boundary(1),
    "gaussian_function": lambda q: consistency.gaussian_function(
        law(q), q.x_ve, number(q, "sigma"), number(q, "sigma_min")
    ),
    "gaussian_function_plane": plane,
    "renoise": lambda q: consistency.renoise(q.x_ve, number(q, "sigma"), q.z, number(q, "sigma_min")),
    "unbiased_score": one_sample_score,
    "one_step_mean": sampled(0, "sigma"),
    "one_step_variance": sampled(1, "sigma"),
    "two_step_variance": sampled(1, "sig_t", "sig_s"),
    "training_pair": lower_point,
    "loss_gap": loss_gap,
    "gaussian_gradient": gaussian_gradient,
    "trained_step": lambda q: number(q, "teacher_slope") * trained(q),
    "trained_deficit": deficit,
    "weight": lambda q: consistency.level_weights(row(q, "sig_s", "sig_t")),
    "level": level,
    "steps": steps,
    "improved_steps": improved_steps,
    "ema_rate": ema_rate,
    "ema": ema,
    "pseudo_huber": pseudo_huber,
    "level_probability": level_probability,
}
