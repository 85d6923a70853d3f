r"""The moving average of parameters, and what it is made of.

.. math:: m_k=d_k\,m_{k-1}+(1-d_k)\,p_k,\qquad m_0=p_0

With a constant rate, :math:`m_n=d^n p_0+(1-d)\sum_{k=1}^n d^{n-k}p_k`: an average over about 1/(1 − d)
updates.
Averages keep the dtype of the parameters, which must be float32 or float64: in a shorter one an update of
(1 − d)·p would be rounded away.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from refdiff import _check

WarmUp = Literal["none", "count", "power"]


def rate(k: int, decay: float, warm_up: WarmUp = "none") -> float:
    r"""The rate of the k-th update.

    .. math:: d_k=d,\qquad d_k=\min\left(d,\tfrac{k}{k+9}\right),\qquad
        d_k=\min\left(d,1-k^{-2/3}\right)

    in the order "none", "count" and "power": a young average must not keep the first weights for long.

    Args:
        k: number of the update, at least 1.
        decay: d, in [0, 1).
        warm_up: the rule.

    Returns:
        d_k.

    Raises:
        ValueError: a number out of bounds, or an unknown rule.

    Reference: "count" is that of TensorFlow (ExponentialMovingAverage), counted from 1; "power" that of
    EMA Warmup by Crowson (inverse gamma 1, power 2/3).
    """
    _check.count("k", k)
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be at least 0 and below 1, got {decay}")
    if warm_up == "none":
        return decay
    if warm_up == "count":
        return min(decay, k / (k + 9))
    if warm_up == "power":
        return min(decay, 1 - math.pow(k, -2 / 3))
    raise ValueError(f"warm_up must be one of {', '.join(get_args(WarmUp))}, got {warm_up!r}")


class EMA:
    """The moving average of named parameters.

    Args:
        parameters: the first parameters, which the average starts from.
        decay: d, in [0, 1).
        warm_up: rule of the first rates, as in ``rate``.

    Raises:
        ValueError: a decay out of bounds, an unknown rule, or a parameter that is not float32 or float64.
    """

    def __init__(
        self, parameters: Iterable[tuple[str, Tensor]], decay: float, warm_up: WarmUp = "none"
    ) -> None:
        rate(1, decay, warm_up)
        self.decay, self.warm_up, self.updates = decay, warm_up, 0
        self.average = {name: value.detach().clone() for name, value in parameters}
        for name, value in self.average.items():
            if value.dtype not in (torch.float32, torch.float64):
                raise ValueError(f"{name} must be float32 or float64, got {value.dtype}")

    def update(self, parameters: Iterable[tuple[str, Tensor]]) -> None:
        r"""One step of the recursion.

        .. math:: m\leftarrow d_k\,m+(1-d_k)\,p

        Args:
            parameters: p, by the names of the first ones.

        Raises:
            ValueError: other names than the first ones, or tensors of another shape, dtype or device.
        """
        new = {name: value.detach() for name, value in parameters}
        _require_names(self.average, new)
        for name, value in new.items():
            _check.same(average=self.average[name], **{name.replace(".", "_"): value})
        d = rate(self.updates + 1, self.decay, self.warm_up)
        averages, values = list(self.average.values()), [new[name] for name in self.average]
        torch._foreach_mul_(averages, d)
        torch._foreach_add_(averages, values, alpha=1 - d)
        self.updates += 1

    def load(self, average: Mapping[str, Tensor], updates: int) -> None:
        """The averages and their number of updates as they were saved.

        Raises:
            ValueError: other names, or tensors of another shape or dtype.
        """
        _check.count("updates", updates, minimum=0)
        _require_names(self.average, average)
        for name, value in average.items():
            own = self.average[name]
            if value.shape != own.shape or value.dtype != own.dtype:
                expected = f"{own.dtype} of shape {tuple(own.shape)}"
                raise ValueError(f"{name} must be {expected}, got {value.dtype}, {tuple(value.shape)}")
            own.copy_(value)
        self.updates = updates


def _require_names(own: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> None:
    if own.keys() != new.keys():
        apart = sorted(own.keys() ^ new.keys())
        raise ValueError(f"parameters must have the names that the average began with, got apart: {apart}")
