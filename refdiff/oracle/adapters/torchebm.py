"""The losses, the Langevin sampler and the analytic energies of the ``torchebm`` package as targets.

Its losses take an energy; the energy here has minus the given score for its gradient. They answer the mean
over a batch, so each sample is asked alone, and the noise that they draw is the one that is given.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from refdiff.oracle.adapters.common import DTYPES, Rows, chosen, climbing, known_options, one_by_one
from refdiff.oracle.target import Dialect, Target

try:
    import torchebm
    from torchebm import core, losses, samplers
except ImportError as missing:
    raise ValueError("torchebm is not installed; pip install torchebm") from missing

Function = Callable[[Tensor], Tensor]
MODELS = (
    "DoubleWellModel", "GaussianModel", "HarmonicModel", "RosenbrockModel", "AckleyModel", "RastriginModel",
    "HimmelblauModel", "BoothModel", "StyblinskiTangModel",
)  # fmt: skip


class Energy(core.BaseModel):  # type: ignore[misc]
    """The energy model of a score, or of an energy itself.

    Args:
        energy: (B, *) -> (B,).
        layout: shape of a sample; a network for it takes no other.
        dtype: of the package's arithmetic.
    """

    def __init__(self, energy: Function, layout: tuple[int, ...], dtype: torch.dtype) -> None:
        super().__init__(dtype=dtype)
        self.energy, self.layout = energy, layout

    def forward(self, x: Tensor) -> Tensor:
        """One energy a row."""
        if tuple(x.shape[1:]) != self.layout:
            asked, data = tuple(x.shape), ("B", *self.layout)
            raise ValueError(f"the energy of data of shape {data} is asked with shape {asked}")
        return self.energy(x)


class TorchEBMTarget(Target):
    """What all targets share: the class, its settings, and the dtype.

    Args:
        cls: a class of the package.
        options: constructor options, and ``axes``: the fewest axes of a sample that are taken.
    """

    set_here: Mapping[str, Any] = {}
    not_options: tuple[str, ...] = ("self", "args", "kwargs", "model", "device")

    def __init__(self, cls: Any, options: Mapping[str, Any]) -> None:
        known = [*inspect.signature(cls.__init__).parameters, *self.inherited(), "axes"]
        known_options(cls.__name__, options, [key for key in known if key not in self.not_options])
        self.cls, self.name = cls, f"torchebm {torchebm.__version__} {cls.__name__}"
        self.options = {**self.set_here, **options}
        self.axes = self.options.pop("axes", 1)
        name = self.options.pop("dtype", "float64")
        self.dtype = chosen("dtype", name, DTYPES)
        self.dialect = self.spoken(name)
        self.notes = tuple(self.noted(options))

    def inherited(self) -> tuple[str, ...]:
        """Options that the class hands on to its base."""
        return ()

    def spoken(self, dtype: str) -> Dialect:
        """The conventions of the class."""
        return Dialect(dtype=dtype)

    def noted(self, options: Mapping[str, Any]) -> list[str]:
        """What was set here and not by the caller."""
        notes = [
            f"{key}={value} was set here, the package's default is {self.default(key)}"
            for key, value in self.set_here.items()
            if key not in options
        ]
        if "dtype" not in options:
            notes.append("dtype=float64 was set here, the package's default is float32 (--set dtype=float32)")
        return notes

    def default(self, key: str) -> Any:
        """The package's own setting."""
        return inspect.signature(self.cls.__init__).parameters[key].default

    def takes(self, x: Tensor) -> bool:
        """Whether samples have enough axes."""
        return bool(x.dim() - 1 >= self.axes)

    def energy_of(self, energy: Function, x: Tensor) -> Energy:
        """The package's model of an energy of data like x."""
        return Energy(energy, tuple(x.shape[1:]), self.dtype)

    def climbing(self, score: Function, x: Tensor) -> Energy:
        """The package's model whose gradient is minus a score."""
        return self.energy_of(climbing(score), x)


class ScoreLoss(TorchEBMTarget):
    """A score-matching loss; the mean over a batch is asked one sample at a time."""

    def inherited(self) -> tuple[str, ...]:
        """Options of every loss."""
        return ("hutchinson_samples", "cfg_dropout", "null_condition", "check_conditioning")

    def spoken(self, dtype: str) -> Dialect:
        """|s|²/2 and the trace, summed over the dimensions."""
        return Dialect(dtype=dtype, score_reduction="half_sum")

    def of(self, score: Function, x: Tensor, **more: Any) -> Tensor:
        """The package's loss of a batch."""
        model = self.climbing(score, x)
        value: Tensor = self.cls(model=model, dtype=self.dtype, **{**self.options, **more})(x)
        return value


class Explicit(ScoreLoss):
    """``ScoreMatching`` with the exact trace."""

    def esm_loss(self, score_fn: Function, x: Tensor) -> Any:
        """|s|²/2 + tr grad s."""
        if not self.takes(x):
            return NotImplemented
        return one_by_one(x, lambda i, row: self.of(score_fn, row))


class Probed(ScoreLoss):
    """``ScoreMatching`` with ``hessian_method="approx"``: the trace by one probe, the square in full."""

    def spoken(self, dtype: str) -> Dialect:
        """Sliced score matching with |s|² for (v·s)²."""
        return super().spoken(dtype).but(sliced="reduced")

    def ssm_loss(self, score_fn: Function, x: Tensor, v: Tensor) -> Any:
        """|s|²/2 + v·grad s·v."""
        if not self.takes(x):
            return NotImplemented
        return one_by_one(x, lambda i, row: self.of(score_fn, row), v)


class Sliced(ScoreLoss):
    """``SlicedScoreMatching``; every projection of a sample is the given v."""

    set_here: Mapping[str, Any] = {"projection_type": "gaussian"}

    def __init__(self, cls: Any, options: Mapping[str, Any]) -> None:
        super().__init__(cls, options)
        if self.options["projection_type"] != "gaussian":
            # the others are signs and points of a sphere, made of the draw that is given
            raise ValueError(
                f"projection_type must be gaussian here, where v is given, "
                f"got {self.options['projection_type']!r}"
            )

    def ssm_loss(self, score_fn: Function, x: Tensor, v: Tensor) -> Any:
        """(v·s)²/2 + v·grad s·v."""
        if not self.takes(x):
            return NotImplemented
        return one_by_one(x, lambda i, row: self.of(score_fn, row), v)


class Denoising(ScoreLoss):
    """``DenoisingScoreMatching``; its ``noise_scale`` is the sigma that is given."""

    not_options = (*TorchEBMTarget.not_options, "noise_scale")

    def dsm_loss(self, score_fn: Function, x: Tensor, sigma: float, noise: Tensor) -> Any:
        """|s(x + sigma z) + z / sigma|²/2."""
        if not self.takes(x):
            return NotImplemented
        rows = Rows(score_fn, x)
        return one_by_one(x, lambda i, row: self.of(rows.row(i), row, noise_scale=float(sigma)), noise)


class Contrastive(TorchEBMTarget):
    """``ContrastiveDivergence``: its ``compute_loss``, the negatives given."""

    set_here: Mapping[str, Any] = {"energy_reg_weight": 0.0}
    not_options = (*TorchEBMTarget.not_options, "sampler")

    def contrastive_loss(self, energy: Function, x_pos: Tensor, x_neg: Tensor) -> Any:
        """E(data) - E(negatives)."""
        if not self.takes(x_pos):
            return NotImplemented
        model = self.energy_of(energy, x_pos)
        sampler = samplers.LangevinDynamics(model, dtype=self.dtype)
        loss = self.cls(model=model, sampler=sampler, dtype=self.dtype, **self.options)
        return one_by_one(x_pos, lambda i, row: loss.compute_loss(row, x_neg[i : i + 1]))


class Langevin(TorchEBMTarget):
    """``LangevinDynamics``: steps of size h by h grad E and noise of standard deviation sqrt(2 h)."""

    # no other integrator is one score and one noise a step
    not_options = (*TorchEBMTarget.not_options, "step_size", "integrator")

    def spoken(self, dtype: str) -> Dialect:
        """``noise_scale`` is the root of the temperature."""
        scale = float(self.options.get("noise_scale", 1.0))
        return Dialect(dtype=dtype, langevin="eta", temperature=scale**2)

    def sampler(self, score: Function, x: Tensor, step_size: float) -> Any:
        """The package's sampler of a score."""
        model = self.climbing(score, x)
        return self.cls(model, step_size=float(step_size), dtype=self.dtype, **self.options)

    def langevin_step(self, x: Tensor, score: Tensor, step_size: float, noise: Tensor) -> Any:
        """One step of ``sample``; it draws the noise."""
        return self.sampler(lambda state: score, x, step_size).sample(x=x, n_steps=1)

    def langevin_sample(self, score_fn: Function, x: Tensor, step_size: float, steps: int) -> Any:
        """``sample`` from x."""
        return self.sampler(score_fn, x, step_size).sample(x=x, n_steps=steps)


class Analytic(TorchEBMTarget):
    """An energy of the package's own; its ``gradient`` is minus the score."""

    def __init__(self, cls: Any, options: Mapping[str, Any]) -> None:
        super().__init__(cls, options)
        if cls.__name__ == "GaussianModel":
            self.options.setdefault("mean", torch.tensor([0.5, -0.25], dtype=self.dtype))
            self.options.setdefault("cov", torch.tensor([[0.5, 0.25], [0.25, 1.0]], dtype=self.dtype))
        self.model = cls(dtype=self.dtype, **self.options)

    def energy(self, x: Tensor) -> Any:
        """(B,)."""
        return self.model(x)

    def energy_score(self, x: Tensor) -> Any:
        """Minus ``gradient``."""
        return -self.model.gradient(x)


def load(name: str, options: Mapping[str, Any]) -> TorchEBMTarget:
    """The target for a class of torchebm.

    Raises:
        ValueError: an unknown class or option.
    """
    kinds: dict[str, type[TorchEBMTarget]] = {
        "ScoreMatching": Probed if options.get("hessian_method") == "approx" else Explicit,
        "SlicedScoreMatching": Sliced,
        "DenoisingScoreMatching": Denoising,
        "ContrastiveDivergence": Contrastive,
        "LangevinDynamics": Langevin,
        **dict.fromkeys(MODELS, Analytic),
    }
    kind: type[TorchEBMTarget] = chosen("torchebm class", name, kinds)
    module = samplers if name == "LangevinDynamics" else core if name in MODELS else losses
    return kind(getattr(module, name), options)
