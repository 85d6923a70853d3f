"""The arguments of the calls of every function, by name, on any device and in any dtype.

A call names what it takes: ``lambda x, t, noise: ...`` is given ``x``, ``t`` and ``noise`` of these lists.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from reference_laws import named  # type: ignore[import-not-found]
from torch import Tensor

from refdiff import elbo, guided_gaussian, solver, vae, vdm
from refdiff.data import Components, Empirical, GaussianLaw, MixtureLaw, Noised, PointMass
from refdiff.gaussian import Gaussian

Call = Callable[..., Any]
LINEAR = named("linear-1000")
SHORT = named("constant-20")
TWO = named("linear-2")
F64 = torch.float64


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def _uniform(*shape: int, seed: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def _wide(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


DATA: dict[str, Tensor] = {
    "x": _normal(3, 2, seed=1),
    "y": _normal(3, 2, seed=2),
    "z": _normal(3, 2, seed=3),
    "noise": _normal(3, 2, seed=4),
    "fresh": _normal(3, 2, seed=5),
    "doubled": _normal(6, 2, seed=6),
    "positive": (_normal(3, 2, seed=7) / 2).exp(),
    "other_positive": (_normal(3, 2, seed=8) / 2).exp(),
    "chance": 0.1 + 0.8 * _uniform(3, 2, seed=9),
    "other_chance": 0.1 + 0.8 * _uniform(3, 2, seed=10),
    "row": _normal(3, seed=11),
    "positive_row": (_normal(3, seed=12) / 2).exp(),
    "mean": _normal(2, seed=13),
    "other_mean": _normal(2, seed=14),
    "variances": 1 + _uniform(2, seed=15),
    "other_variances": 1 + _uniform(2, seed=16),
    "root": _normal(2, 2, seed=17),
    "other_root": _normal(2, 2, seed=18),
    "A": _normal(2, 2, seed=19),
    "b": _normal(2, seed=20),
    "many": _normal(5, 3, seed=21),
    "scores": _normal(5, 3, 2, seed=22),
    "logits": _normal(3, seed=23),
    "table": _normal(3, 4, seed=24),
    "other_table": _normal(4, 3, seed=25),
}
"""Numbers that a user has in any dtype: they are rounded to the one that is asked for."""

EXACT: dict[str, Tensor] = {
    "bits": torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]], dtype=F64),
    "pixels": torch.tensor([[-1.0, 0.0], [1.0, 1.0], [0.0, -1.0]], dtype=F64),
    "values": torch.tensor([-1.0, 0.0, 1.0], dtype=F64),
    "uniform": torch.tensor([0.125, 0.5, 0.875], dtype=F64),
}
"""The same where only some numbers are allowed: these have no rounding in any dtype."""

WIDE: dict[str, Tensor] = {
    "time": _wide(0.3, 0.6, 0.95),
    "earlier": _wide(0.1, 0.25, 0.8),
    "times": _wide(0.9, 0.5, 0.2),
    "rising_times": _wide(0.0, 0.2, 0.5, 1.0),
    "sigma": _wide(0.7, 2.0, 5.0),
    "lower": _wide(0.3, 1.5, 4.0),
    "sigmas": _wide(5.0, 2.0, 1.0, 0.5),
    "rising_sigmas": _wide(0.5, 1.0, 2.0, 5.0),
    "gamma": _wide(-2.0, 0.5, 3.0),
    "lower_gamma": _wide(-4.0, 0.0, 1.0),
    "gammas": _wide(-6.0, -2.0, 1.0, 3.0),
    "gamma_0": torch.tensor(-6.0, dtype=F64),
    "gamma_1": torch.tensor(3.0, dtype=F64),
    "log_snr": torch.tensor(-0.4, dtype=F64),
    "wide_mean": _wide(0.5, -1.0),
    "wide_cov": torch.tensor([[0.6, 0.2], [0.2, 0.3]], dtype=F64),
    "other_wide_mean": _wide(1.0, 0.25),
    "other_wide_cov": torch.tensor([[1.0, -0.5], [-0.5, 2.0]], dtype=F64),
    "wide_variances": _wide(0.4, 1.7),
    "weights": _wide(0.25, 0.75),
    "betas": _wide(0.1, 0.2, 0.3, 0.4),
    "alpha_bars": _wide(0.9, 0.6, 0.3, 0.1),
    "log_alpha_bars": _wide(0.0, -0.1, -0.5, -1.2),
    "slopes": _wide(0.9, 0.8, 0.7),
    "nodes": _wide(0.0, -0.5, 0.75),
    "wide_uniform": torch.tensor(0.375, dtype=F64),
    "matrix": torch.tensor([[1.0, 0.5]], dtype=F64),
    "one_cov": torch.tensor([[0.25]], dtype=F64),
    "wide_noise": _normal(3, seed=30),
    "points": _normal(3, 2, seed=34),
    "wide_table": _normal(3, 4, seed=31),
    "per_component": 1 + _uniform(3, 2, 2, seed=32),
    "of_components": _normal(3, 2, 2, seed=33),
}
"""Times, levels and parameters of laws, which the library takes in float64 whatever the data are."""

FREE = (
    "time", "earlier", "times", "sigma", "lower", "sigmas", "gamma", "lower_gamma", "gammas", "gamma_0",
    "gamma_1", "log_snr", "wide_mean", "other_wide_mean", "wide_variances", "slopes", "wide_noise", "points",
    "wide_table", "per_component", "of_components",
)  # fmt: skip
"""Those of them that may be any number near: no matrices, and none with a sum or an end of its own."""

WHOLE: dict[str, Tensor] = {
    "t": torch.tensor([2, 500, 1000]),
    "s": torch.tensor([1, 250, 999]),
    "below": torch.tensor([0, 100, 998]),
    "short_t": torch.tensor([2, 11, 20]),
    "index": torch.tensor([3, 0, 2]),
}


def _covariance(root: Tensor) -> Tensor:
    product = root.double() @ root.double().T + torch.eye(2, dtype=F64, device=root.device)
    return ((product + product.T) / 2).to(root.dtype)


def _law(values: Tensor) -> Tensor:
    return values.double().softmax(-1).to(values.dtype)


def _components(log_weight: Tensor, axes: Tensor) -> Components:
    mean = torch.zeros(2, 2, dtype=F64, device=axes.device)
    return Components(log_weight, mean, mean + 1, torch.linalg.eigh(torch.stack([axes, axes])).eigenvectors)


MADE: dict[str, Call] = {
    "cov": lambda root: _covariance(root),
    "other_cov": lambda other_root: _covariance(other_root),
    "gaussian": lambda x, positive: Gaussian(x, positive),
    "other_gaussian": lambda y, other_positive: Gaussian(y, other_positive),
    "normal_law": lambda wide_mean, wide_cov: GaussianLaw(wide_mean, wide_cov),
    "mixture": lambda weights, wide_mean, wide_cov, other_wide_mean, other_wide_cov: MixtureLaw(
        weights, torch.stack([wide_mean, other_wide_mean]), torch.stack([wide_cov, other_wide_cov])
    ),
    "empirical": lambda wide_cov: Empirical(wide_cov),
    "point": lambda wide_mean: PointMass(wide_mean),
    "noised_law": lambda mixture: mixture.at(0.8, 0.6),
    "components": lambda weights, wide_cov: _components(weights.log(), wide_cov),
    "noised": lambda gamma, per_component, of_components: Noised(
        gamma, gamma, per_component, of_components, of_components[..., 0]
    ),
    "data_law": lambda logits: _law(logits),
    "kernel": lambda table: _law(table),
    "other_kernel": lambda other_table: _law(other_table),
    "prior_law": lambda many: _law(many[0]),
    "chain": lambda data_law, kernel, other_kernel: elbo.FiniteChain(data_law, (kernel, other_kernel)),
    "finite_model": lambda prior_law, kernel, other_kernel: elbo.FiniteModel(
        prior_law, (other_kernel, kernel)
    ),
    "line": lambda gamma_0, gamma_1, slopes: elbo.GaussianChain(
        gamma_0, -gamma_0, slopes, 1 - slopes * slopes
    ),
    "line_model": lambda gamma_1, slopes: elbo.GaussianModel(gamma_1, gamma_1, slopes, 1 - slopes, slopes),
    "autoencoder": lambda A, b, variances: vae.LinearGaussian(A, b, variances),
    "observation": lambda normal_law, matrix, one_cov, gamma_1: guided_gaussian.LinearObservation(
        normal_law, matrix, one_cov, gamma_1.reshape(1)
    ),
    "log_linear": lambda normal_law, wide_mean: guided_gaussian.LogLinearClassifier(normal_law, wide_mean),
    "probit": lambda normal_law, wide_mean: guided_gaussian.ProbitClassifier(normal_law, wide_mean, 0.3),
    "levels": lambda sigmas: solver.Levels(torch.ones_like(sigmas), sigmas, "ve"),
    "high": lambda log_snr: solver.NoiseLevel((-log_snr).sigmoid(), log_snr.sigmoid() + 1, end=False),
    "low": lambda log_snr: solver.NoiseLevel((-log_snr).sigmoid() + 0.25, log_snr.sigmoid(), end=False),
    "at": lambda high, low: solver.frame("eps", high, low),
    "monotone": lambda wide_table: vdm.MonotoneGamma(wide_table),
}
"""What is made of them before the call."""


class Answers:
    """How the answers of a model are rounded: as they come, or in a test of conditions off by ``off``."""

    off: Callable[[Tensor], Tensor] | None = None


def answer(value: Tensor) -> Tensor:
    """What a model answers."""
    return value if Answers.off is None else value * (1 + Answers.off(value))


class Arguments:
    """The arguments in a dtype and on a device.

    ``wide`` turns data of that dtype into float64; ``off`` multiplies them by 1 + off(data), and with
    ``also_wide`` times and levels too.
    """

    def __init__(
        self,
        dtype: torch.dtype = F64,
        device: torch.device | str = "cpu",
        wide: bool = False,
        off: Callable[[Tensor], Tensor] | None = None,
        also_wide: bool = False,
    ) -> None:
        self.found: dict[str, Any] = {}
        self.dtype, self.device, self.wide, self.off, self.also_wide = dtype, device, wide, off, also_wide

    def of(self, call: Call) -> dict[str, Any]:
        """The arguments that a call names."""
        wanted = inspect.signature(call).parameters.values()
        return {each.name: self.get(each.name) for each in wanted if each.default is each.empty}

    def get(self, name: str) -> Any:
        """One argument, made once."""
        if name not in self.found:
            self.found[name] = self._make(name)
        return self.found[name]

    def _make(self, name: str) -> Any:
        if name in MADE:
            return MADE[name](**self.of(MADE[name]))
        if name in DATA or name in EXACT:
            value = (DATA[name] if name in DATA else EXACT[name]).to(self.dtype)
            value = value.double() if self.wide else value
            if name in DATA and self.off is not None:
                value = value * (1 + self.off(value))
        else:
            # a copy, so that what one call writes is not seen by the next
            value = (WIDE[name] if name in WIDE else WHOLE[name]).clone()
            if self.also_wide and self.off is not None and name in FREE:
                value = value * (1 + self.off(value))
        return value.to(self.device)


def tensors_in(value: Any) -> Iterator[Any]:
    """The tensors and numbers in a result, in order."""
    if isinstance(value, Tensor | bool | int | float | str | None):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, tuple | list | Iterator):
        for item in value:
            yield from tensors_in(item)
    elif not callable(value):
        yield from tensors_in(vars(value))
