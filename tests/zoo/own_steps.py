"""Mutants of single steps with a history: wrong weights, histories, noises, levels and shapes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from refdiff.oracle import Target
from tests.zoo.chapters_own import MORE_CHAPTERS
from tests.zoo.steps import Drawing, EqualSteps, InSigma, Noisy, OfData, OfNoise, OnePoint, Rounded


def wrong(
    id: str, family: str, original: type[Target], *also: str, undeclared: bool = False, **methods: Any
) -> None:
    """A mutant of a step, which declares its solver or leaves it to be found."""
    if undeclared:
        methods["dialect"] = original.dialect.but(solver=None)
    name = f"own-hst-{id}"
    MORE_CHAPTERS(name, family, *also)(type(name.title().replace("-", ""), (original,), methods))


# the weights of the history

for undeclared in (False, True):
    end = "-undeclared" if undeclared else ""
    wrong(f"2m-ratio-upside-down{end}", "discretization", OfData, undeclared=undeclared,
          between=lambda self, p, r: p[-1] + (p[-1] - p[-2]) * r / 2)  # fmt: skip
    wrong(f"2m-ratio-missing{end}", "discretization", OfData, undeclared=undeclared,
          between=lambda self, p, r: p[-1] + (p[-1] - p[-2]) / 2)  # fmt: skip
    wrong(f"2m-half-missing{end}", "discretization", OfData, undeclared=undeclared,
          between=lambda self, p, r: p[-1] + (p[-1] - p[-2]) / r)  # fmt: skip
    wrong(f"2m-against{end}", "sign", OfData, undeclared=undeclared,
          between=lambda self, p, r: p[-1] - (p[-1] - p[-2]) / (2 * r))  # fmt: skip
    wrong(f"2m-history-ignored{end}", "discretization", OfData, undeclared=undeclared,
          between=lambda self, p, r: p[-1])  # fmt: skip
    wrong(f"ab2-equal-steps-assumed{end}", "discretization", InSigma, undeclared=undeclared,
          ratio=lambda self, h, before: 1.0)  # fmt: skip
wrong("2m-from-the-other-end", "index", OfData,
      between=lambda self, p, r: OfData.between(self, p.flip(0), r))  # fmt: skip
wrong("ab4-one-sign", "discretization", EqualSteps, weights=(9.0, 37.0, -59.0, 55.0))
wrong("ab4-from-the-other-end", "index", EqualSteps, weights=(55.0, -59.0, 37.0, -9.0))
wrong("2m-gain-against", "sign", OfData, gain=lambda self, h: math.expm1(-h))
wrong("answers-read-as-data", "parameterization", OnePoint, data=lambda self, x, a, s, p: p)
wrong("x-of-the-sde", "discretization", OfData, kept=lambda self, h: math.exp(-h))

# noise

for undeclared in (False, True):
    end = "-undeclared" if undeclared else ""
    wrong(f"fresh-squared{end}", "sqrt", Noisy, undeclared=undeclared,
          fresh=lambda self, s, h: Noisy.fresh(self, s, h) ** 2)  # fmt: skip
    wrong(f"fresh-of-the-ode{end}", "variance", Noisy, undeclared=undeclared,
          fresh=lambda self, s, h: s * math.sqrt(-math.expm1(-h)))  # fmt: skip
    wrong(f"fresh-of-eps{end}", "variance", Noisy, undeclared=undeclared,
          fresh=lambda self, s, h: s * math.sqrt(math.expm1(2 * h)))  # fmt: skip
    wrong(f"up-of-the-old-level{end}", "variance", OfNoise, undeclared=undeclared,
          up=lambda self, high, low: high * math.sqrt(1 - (low / high) ** 2))  # fmt: skip
wrong("noise-forgotten", "variance", Noisy, "noise-at-t0", z=lambda self, x, noise: 0 * x)
wrong("noise-not-declared", "noise-at-t0", OfData, fresh=lambda self, s, h: 0.01)
wrong("noise-of-one-row", "state-broadcast", Drawing, z=lambda self, x, noise: torch.randn_like(x[:1]))
wrong("uniform-noise", "state-broadcast", Drawing, z=lambda self, x, noise: torch.rand_like(x))
wrong("both-noises", "state-broadcast", Drawing,
      z=lambda self, x, noise: (noise + torch.randn_like(x)) / math.sqrt(2))  # fmt: skip
wrong("noise-on-data", "noise-at-t0", Noisy, clean=lambda self, a, p, noise: a * p[-1] + 0.01 * noise)

# states and ends


def in_half(self: Any, outputs: Tensor, r: float) -> Tensor:
    return OfData.between(self, outputs, r).half().to(outputs.dtype)


wrong("extrapolates-to-data", "noise-at-t0", OfData, clean=lambda self, a, p, noise: 2 * p[-1] - 0.9 * p[-2])
wrong("clips-data", "data-scaling", OfData, "state-broadcast",
      between=lambda self, p, r: OfData.between(self, p, r).clamp(-1, 1))  # fmt: skip
wrong("mean-of-the-batch", "state-broadcast", OfData, "data-scaling",
      between=lambda self, p, r: OfData.between(self, p, r) + 0.01 * p[-1].mean(0))  # fmt: skip
wrong("mean-of-the-coordinates", "state-broadcast", OfData,
      between=lambda self, p, r: OfData.between(self, p, r).mean(-1, keepdim=True))  # fmt: skip
wrong("changes-its-history", "state-broadcast", OfData,
      between=lambda self, p, r: p[-1].add_((p[-1] - p[-2]) / (2 * r)))  # fmt: skip
wrong("answers-in-half", "precision", OfData, between=in_half)
wrong("levels-in-single", "precision", Rounded, dialect=Rounded.dialect.but(tables="float64"))
