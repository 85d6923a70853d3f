"""What the reference answers to the golden values of guidance."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from refdiff import ddim, guidance, guided_gaussian
from refdiff.data import GaussianLaw


def number(q: Any, name: str) -> float:
    return float(Fraction(q.case.input[name]))


def alpha_bar(q: Any) -> float:
    return float(q.schedule.alpha_bar[q.t])


def held(value: Tensor) -> Callable[[Tensor, Any], Tensor]:
    """A network, or the gradient of a classifier, that gives the same everywhere."""
    return lambda x, t: value


def ddim_step(q: Any) -> Tensor:
    guided = guidance.guided_model(held(q.eps), held(q.label_score), q.schedule, number(q, "guide_scale"))
    return ddim.step(q.schedule, q.x_t, q.t, q.s, guided(q.x_t, q.t), q.eta, q.z)


def ddpm_step(q: Any) -> Tensor:
    gradient, scale = held(q.label_score), number(q, "guide_scale")
    return guidance.ddpm_step(q.schedule, q.x_t, q.t, q.eps, gradient, q.z, None, scale, q.kind)


def line(q: Any) -> Callable[[Tensor, Any], Tensor]:
    """A network with the given value and slope at x_t, which is 0."""
    at_zero = q.eps if "eps" in q.case.input else q.like
    return lambda x, t: at_zero + q.eps_slope * x


def x_0_slope(q: Any) -> Tensor:
    return guidance.loss_gradient(line(q), lambda x_0: -x_0.sum(1), q.schedule, q.like, q.t)[1]


def loss_guided_eps(q: Any) -> Tensor:
    slope: Tensor = q.loss_slope

    def loss(x_0: Tensor) -> Tensor:
        return (slope * x_0).sum(1)

    return guidance.loss_guided_eps(line(q), loss, q.schedule, q.like, q.t, number(q, "guide_scale"))


def scalar(q: Any, name: str) -> Tensor:
    return torch.tensor(number(q, name) if name in q.case.input else 0.0, dtype=torch.float64)


def law(q: Any) -> GaussianLaw:
    return GaussianLaw(scalar(q, "data_mean").reshape(1), scalar(q, "data_variance").reshape(1, 1))


def observed(q: Any) -> guided_gaussian.LinearObservation:
    slope, variance = (scalar(q, name).reshape(1, 1) for name in ("slope", "obs_variance"))
    return guided_gaussian.LinearObservation(law(q), slope, variance, scalar(q, "y").reshape(1))


def classified(q: Any) -> guided_gaussian.LogLinearClassifier:
    return guided_gaussian.LogLinearClassifier(law(q), scalar(q, "tilt").reshape(1))


def below_line(q: Any) -> guided_gaussian.ProbitClassifier:
    return guided_gaussian.ProbitClassifier(law(q), scalar(q, "tilt").reshape(1), number(q, "label_offset"))


def probit_label(q: Any) -> Tensor:
    return below_line(q).log_probability(q.schedule, q.x_t.double(), q.t).exp().to(q.dtype)


def observed_eps(q: Any) -> Tensor:
    """In float64, since the noise and its shift may cancel."""
    x = q.x_t.double()
    eps, gradient = law(q).eps(q.schedule, x, q.t), observed(q).gradient(q.schedule, x, q.t)
    return guidance.guided_eps(eps, gradient, alpha_bar(q)).to(q.dtype)


GUIDANCE: dict[str, Callable[[Any], Tensor]] = {
    "guided_score": lambda q: guidance.guided_score(q.score, q.label_score, number(q, "guide_scale")),
    "guided_eps": lambda q: guidance.guided_eps(q.eps, q.label_score, alpha_bar(q), number(q, "guide_scale")),
    "ddim_step": ddim_step,
    "ddpm_step": ddpm_step,
    "classifier_free": lambda q: guidance.classifier_free(q.eps, q.eps_cond, number(q, "guide_scale")),
    "classifier_free_ho": lambda q: guidance.classifier_free(q.eps, q.eps_cond, number(q, "ho_scale"), "ho"),
    "implied_gradient": lambda q: guidance.implied_gradient(q.eps, q.eps_cond, alpha_bar(q)),
    "x_0_slope": x_0_slope,
    "loss_guided_eps": loss_guided_eps,
    "observation_likelihood": lambda q: observed(q).log_likelihood(q.schedule, q.x_t, q.t),
    "observation_gradient": lambda q: observed(q).gradient(q.schedule, q.x_t, q.t),
    "observed_mean": lambda q: observed(q).law().mean.to(q.dtype),
    "observed_variance": lambda q: observed(q).law().cov.to(q.dtype),
    "observed_eps": observed_eps,
    "log_linear_gradient": lambda q: classified(q).gradient(q.schedule, q.x_t, q.t),
    "log_linear_target": lambda q: classified(q).law(number(q, "guide_scale")).mean.to(q.dtype),
    "probit_label": probit_label,
    "probit_gradient": lambda q: below_line(q).gradient(q.schedule, q.x_t, q.t),
    "probit_mean": lambda q: below_line(q).mean().to(q.dtype),
    "gaussian_reverse_mean": lambda q: guided_gaussian.gaussian_reverse(law(q), q.schedule, q.x_t, q.t, q.s)[
        0
    ],
    "gaussian_reverse_variance": lambda q: guided_gaussian.gaussian_reverse(
        law(q), q.schedule, q.like, q.t, q.s
    )[1],
    "observed_kernel_mean": lambda q: observed(q).kernel(q.schedule, q.x_t, q.t, q.s)[0],
    "observed_kernel_variance": lambda q: observed(q).kernel(q.schedule, q.like, q.t, q.s)[1],
}
