r"""Linear multistep solvers in σ = std/scale: Adams–Bashforth on any levels, and the PLMS of PNDM.

.. math:: y_s=y_t+(\sigma_s-\sigma_t)\sum_jw_j\hat\epsilon_j,\qquad y=x/\mathrm{scale}

The predictions :math:`\hat\epsilon_j` were made at the levels visited before, the latest first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from refdiff import _check
from refdiff._solver_base import Levels, Model, NoiseLevel, Past, Solver, combine, constant
from refdiff._solver_runge_kutta import HEUN, RK4, runge_kutta_step, slope
from refdiff.kernel import Number

WarmUp = Literal["rk4", "heun"]
Known = Sequence[tuple[Number, Tensor]]
"""Predictions made so far, (sigma, eps), the latest first."""
PLMS_WEIGHTS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
"""Adams–Bashforth weights for equal steps of sigma, by the number of predictions."""


def adams_bashforth_weights(sigma: Tensor, fall_to: Tensor) -> Tensor:
    r"""The weights of predictions in a step, for any levels.

    .. math:: w_j=\frac1{\sigma_s-\sigma_0}\int_{\sigma_0}^{\sigma_s}
        \prod_{m\ne j}\frac{\sigma-\sigma_m}{\sigma_j-\sigma_m}\,\mathrm d\sigma

    Args:
        sigma: the levels of the predictions, the latest first, float64, shape (k,), rising.
        fall_to: the level where the step ends, 0-dim float64, below all of them.

    Returns:
        float64, shape (k,); they add up to 1.

    Raises:
        ValueError: another shape or dtype, levels that do not rise, or a step that does not fall.

    Reference: Liu et al. 2022 (PNDM), eq. 9 (formulas ``solver.ab2``, ``solver.ab3``, ``solver.ab4``).
    """
    _require_levels(sigma, fall_to)
    floats = constant(sigma, fall_to)
    places: list[Number] = sigma.tolist() if floats else list(sigma.unbind())
    end: Number = fall_to.item() if floats else fall_to
    if _check.readable(sigma, fall_to):
        _require_falling(places, end)
    # how far above the first level each lies, in units of the step: nothing below cancels
    first = places[0]
    means = _lagrange_means([(place - first) / (first - end) for place in places])
    return sigma.new_tensor(means) if floats else torch.stack(means)  # type: ignore[arg-type]


def _lagrange_means(places: Sequence[Number]) -> list[Number]:
    """The means over the step of the Lagrange polynomials Π(u + d_m)/(d_m − d_j), u from 0 to 1, j by j."""
    return [_lagrange_mean(own, [*places[:j], *places[j + 1 :]]) for j, own in enumerate(places)]


def _lagrange_mean(own: Number, others: Sequence[Number]) -> Number:
    polynomial: list[Number] = [0 * own + 1]
    for place in others:
        lifted, raised = [*polynomial, 0.0], [0.0, *polynomial]
        polynomial = [place * low + high for low, high in zip(lifted, raised, strict=True)]
    mean: Number = sum(c / (n + 1) for n, c in enumerate(polynomial))
    for place in others:
        mean = mean / (place - own)
    return mean


def plms_combination(predictions: Sequence[Tensor]) -> Tensor:
    r"""The noise that a PLMS step takes, by the last one to four predictions.

    .. math:: \hat\epsilon=\tfrac1{24}(55\,\hat\epsilon_0-59\,\hat\epsilon_1+37\,\hat\epsilon_2
        -9\,\hat\epsilon_3)

    With fewer predictions, (23, −16, 5)/12, (3, −1)/2, and the prediction itself.

    Args:
        predictions: 1 to 4 tensors of one shape, the latest first.

    Returns:
        Shaped like each of them.

    Raises:
        ValueError: another number of predictions, or tensors of different shape, dtype or device.

    Reference: Liu et al. 2022 (PNDM), eq. 9 (formula ``solver.plms``).
    """
    if not 1 <= len(predictions) <= 4:
        raise ValueError(f"predictions must hold 1 to 4 tensors, got {len(predictions)}")
    _check.same(**{f"predictions_{index}": value for index, value in enumerate(predictions)})
    return combine(list(zip(PLMS_WEIGHTS[len(predictions) - 1], predictions, strict=True)))


@dataclass(frozen=True)
class AdamsBashforth(Solver):
    """The linear multistep method in σ, with weights for the levels as they are (LMS of k-diffusion).

    Without past states the first steps use as many predictions as there are: their error is h², so that the
    sample is of order 2 at most.

    Args:
        name: the key in the registry.
        order: the number of predictions that a step uses, at least 1.

    Reference: formulas ``solver.ab2``, ``solver.ab3``, ``solver.ab4``.
    """

    name: str
    order: int

    def __post_init__(self) -> None:
        _check.count("order", self.order)

    @property
    def history(self) -> int:  # type: ignore[override]
        """States before the first level that its step can use."""
        return self.order - 1

    @property
    def cold_order(self) -> int:
        """The first step is Euler's, with an error of h²."""
        return min(self.order, 2)

    def states(
        self, model: Model, x: Tensor, levels: Levels, draws: Iterator[Tensor], past: Past
    ) -> Iterator[Tensor]:
        known = _remember(model, past, self.history)
        for t, s in levels.pairs():
            known = [(t.numbers.sigma, slope(model, x, t)), *known][: self.order]
            fall_to = torch.as_tensor(s.numbers.sigma, dtype=torch.float64)
            weights = self.weights(_tensor([sigma for sigma, _ in known]), fall_to)
            x = _along(x, weights.tolist() if constant(weights) else weights, known, t, s)
            yield x

    def weights(self, sigma: Tensor, fall_to: Tensor) -> Tensor:
        """The weights of the predictions made at these levels, the latest first."""
        return adams_bashforth_weights(sigma, fall_to)


@dataclass(frozen=True)
class PLMS(Solver):
    """The pseudo linear multistep method of PNDM: fixed weights, and the step of DDIM.

    Its order is 4 where the levels are equally far apart in σ, and 2 on others that follow a smooth rule;
    where the steps change abruptly it is 1. The first steps are those of ``warm_up``: "rk4" (PNDM's pseudo
    Runge–Kutta, three steps of four evaluations, its middle that of σ) or "heun" (one step of two
    evaluations, then as many predictions as there are).

    Args:
        name: the key in the registry.
        order: the order of the sample on smooth levels.
        warm_up: how the first steps are made.

    Reference: Liu et al. 2022 (PNDM), algorithm 2 (formulas ``solver.plms``, ``solver.plms_defect``).
    """

    name: str = "plms"
    order: int = 2
    warm_up: WarmUp = "rk4"

    def __post_init__(self) -> None:
        if self.warm_up not in get_args(WarmUp):
            raise ValueError(f"warm_up must be one of {', '.join(get_args(WarmUp))}, got {self.warm_up!r}")

    @property
    def history(self) -> int:  # type: ignore[override]
        """States before the first level that its step can use."""
        return 3

    def states(
        self, model: Model, x: Tensor, levels: Levels, draws: Iterator[Tensor], past: Past
    ) -> Iterator[Tensor]:
        known = _remember(model, past, self.history)
        warm, tableau = (3, RK4) if self.warm_up == "rk4" else (1, HEUN)
        for t, s in levels.pairs():
            first = slope(model, x, t)
            known = [(t.numbers.sigma, first), *known][:4]
            if len(known) <= warm:
                x = runge_kutta_step(tableau, model, x, t, s, levels, first)
            else:
                x = _along(x, PLMS_WEIGHTS[len(known) - 1], known, t, s)
            yield x


def _remember(model: Model, past: Past, history: int) -> list[tuple[Number, Tensor]]:
    latest = list(past)[::-1][:history]
    return [(at.numbers.sigma, slope(model, x, at)) for at, x in latest]


def _along(x: Tensor, weights: Iterable[Number], known: Known, t: NoiseLevel, s: NoiseLevel) -> Tensor:
    """Euler's step in σ along the weighted predictions."""
    high, low = t.numbers, s.numbers
    fall = low.scale * (low.sigma - high.sigma)
    terms = [(fall * weight, eps) for weight, (_, eps) in zip(weights, known, strict=True)]
    return combine([(low.scale / high.scale, x), *terms])


def _tensor(numbers: Sequence[Number]) -> Tensor:
    """Numbers as one tensor, float64, on the device of those that are tensors."""
    device = next((number.device for number in numbers if isinstance(number, Tensor)), None)
    if device is None:
        return torch.tensor(numbers, dtype=torch.float64)
    return torch.stack([torch.as_tensor(number, dtype=torch.float64, device=device) for number in numbers])


def _require_levels(sigma: Tensor, fall_to: Tensor) -> None:
    for name, value, axes in (("sigma", sigma, 1), ("fall_to", fall_to, 0)):
        if value.dtype != torch.float64 or value.dim() != axes or value.numel() == 0:
            raise ValueError(f"{name} must be float64 with {axes} axes, got {value.dtype}, {value.shape}")


def _require_falling(sigma: Sequence[Number], fall_to: Number) -> None:
    if not all(near < far for near, far in pairwise(sigma)):
        raise ValueError(f"sigma must rise, the latest level first, got {[float(value) for value in sigma]}")
    if not fall_to < sigma[0]:
        raise ValueError(f"fall_to must be below sigma[0] = {float(sigma[0])}, got {float(fall_to)}")
