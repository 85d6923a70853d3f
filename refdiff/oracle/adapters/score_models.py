"""The losses, energies, schedules and ladders of the ``score_models`` package as targets.

Its networks answer sigma times the score at a time, and its losses draw times and noise and answer the mean
over a batch: each sample is asked alone, at time 0 of a variance-exploding process whose smallest sigma is
the one that is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from refdiff import schedule as schedules
from refdiff.oracle.adapters.common import Rows, chosen, climbing, known_options, one_by_one
from refdiff.oracle.target import Dialect, Target

try:
    import score_models
    from score_models import definitions, sliced_score_matching
except ImportError as missing:
    raise ValueError(
        "score_models is not installed; pip install --no-deps score_models torch_ema"
    ) from missing

Function = Callable[[Tensor], Tensor]
VERSION = version("score_models")
T = 100


class Network(nn.Module):
    """A network of the package: (t, x) to what a function of x answers.

    Args:
        function: (B, *) to the network's output.
    """

    hyperparameters: Mapping[str, Any] = {"nn_is_energy": True}

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """The output, whatever the time."""
        return self.function(x)


@contextmanager
def at_time_zero() -> Iterator[None]:
    """Answers ``torch.rand`` with zeros."""
    with mock.patch.object(torch, "rand", lambda *size, **options: torch.zeros(size, dtype=torch.float64)):
        yield


class ScoreModelsTarget(Target):
    """What all targets share: the object of the package.

    Args:
        found: a class or function of the package.
        options: its options.
    """

    known: tuple[str, ...] = ()

    def __init__(self, found: Any, options: Mapping[str, Any]) -> None:
        known_options(found.__name__, options, self.known)
        self.found, self.options = found, dict(options)
        self.name = f"score_models {VERSION} {found.__name__}"
        self.dialect = self.spoken()

    def spoken(self) -> Dialect:
        """The conventions of the object."""
        return Dialect()


class Denoising(ScoreModelsTarget):
    """``loss_fn`` of a model: the sum of the squares of sigma s + z."""

    def spoken(self) -> Dialect:
        """Weight sigma², and no half."""
        return Dialect(score_reduction="sum", dsm_weight="sigma_squared")

    def model(self, score: Function, sigma: float) -> Any:
        """The package's model of a score at sigma."""
        network = Network(lambda x: sigma * score(x))
        return self.found(network, sde="ve", sigma_min=sigma, sigma_max=100 * sigma, device="cpu")

    def dsm_loss(self, score_fn: Function, x: Tensor, sigma: float, noise: Tensor) -> Any:
        """sigma² |s(x + sigma z) + z / sigma|²."""
        rows = Rows(score_fn, x)

        def alone(i: int, row: Tensor) -> Tensor:
            value: Tensor = self.model(rows.row(i), float(sigma)).loss_fn(row)
            return value

        with at_time_zero():
            return one_by_one(x, alone, noise)


class Energy(Denoising):
    """``EnergyModel`` of a network that is the energy times sigma: energy, score and loss."""

    SIGMA = 0.5

    def model(self, score: Function, sigma: float) -> Any:
        """The package's model of the energy whose gradient is minus a score."""
        return self.of(climbing(score), sigma)

    def of(self, energy: Any, sigma: float) -> Any:
        """The package's model of an energy at sigma."""
        network = Network(lambda x: sigma * energy(x)[:, None])
        return self.found(network, sde="ve", sigma_min=sigma, sigma_max=100 * sigma, device="cpu")

    def energy(self, x: Tensor) -> Any:
        """The package's energy of a double well."""
        return self.of(well, self.SIGMA).energy(torch.zeros(len(x), dtype=x.dtype), x)

    def energy_score(self, x: Tensor) -> Any:
        """The package's score of it."""
        return self.of(well, self.SIGMA).score(torch.zeros(len(x), dtype=x.dtype), x)


def well(x: Tensor) -> Tensor:
    """(|x|² - 1)² / 4 + x_1 of every row."""
    rows = x.flatten(1)
    return (rows.square().sum(1) - 1).square() / 4 + rows[:, 0]


class Sliced(ScoreModelsTarget):
    """``sliced_score_matching_loss`` with the given v for every projection."""

    known = ("n_cotangent_vectors",)

    def spoken(self) -> Dialect:
        """|s|² in place of (v·s)²."""
        return Dialect(sliced="reduced")

    def ssm_loss(self, score_fn: Function, x: Tensor, v: Tensor) -> Any:
        """|s|²/2 + v·grad s·v."""

        def alone(i: int, row: Tensor) -> Tensor:
            value: Tensor = self.found(score_fn, row, noise_type="gaussian", **self.options)
            return value

        return one_by_one(x, alone, v)


class Ladder(ScoreModelsTarget):
    """``geometric_series``: levels of noise."""

    def noise_scales(self, first: float, last: float, count: int) -> Any:
        """From the first to the last."""
        return self.found(first, last, count)


class VariancePreserving(ScoreModelsTarget):
    """``VPSDE`` at T levels, the times 1/T, ..., 1."""

    known = ("beta_min", "beta_max")

    def __init__(self, found: Any, options: Mapping[str, Any]) -> None:
        self.sde = found(**options)
        super().__init__(found, options)
        self.notes = (f"level i is time i/{T}",)

    def spoken(self) -> Dialect:
        """The integral of a linear beta(t)."""
        u = torch.arange(T + 1, dtype=torch.float64) / T
        low, high = self.sde.beta_min, self.sde.beta_max
        schedule = schedules.from_log_alpha_bar(-(low * u + (high - low) * u**2 / 2), "score_models vp")
        return Dialect(schedule=schedule)

    def alphas_cumprod(self) -> Any:
        """The square of the mean's scale at the levels."""
        times = torch.arange(1, T + 1, dtype=torch.float64) / T
        return self.sde.marginal_prob_scalars(times)[0] ** 2

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor) -> Any:
        """``sample_marginal``, which draws the noise."""
        return self.sde.sample_marginal(t.double() / T, x0)


KINDS: dict[str, tuple[Any, type[ScoreModelsTarget]]] = {
    "ScoreModel": (score_models, Denoising),
    "EnergyModel": (score_models, Energy),
    "sliced_score_matching_loss": (sliced_score_matching, Sliced),
    "geometric_series": (definitions, Ladder),
    "VPSDE": (score_models, VariancePreserving),
}


def load(name: str, options: Mapping[str, Any]) -> ScoreModelsTarget:
    """The target for a class or function of score_models.

    Raises:
        ValueError: an unknown name or option.
    """
    module, kind = chosen("score_models name", name, KINDS)
    found = getattr(module, name)
    target: ScoreModelsTarget = kind(found, options)
    return target
