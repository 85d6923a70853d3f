"""The exact law of a 1000-step stochastic sampler against one plain run of it; the smallest error caught.

    python benchmarks/exact_law.py

The check and the plain run take the same sampler, the same model and the same batch: one row for each
coordinate of x_T and of every noise, and a few more. It reads the mean and covariance of the output,
and the coefficients of all 1000 steps, from that one run.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from timing import interleaved, ratio_line
from torch import Tensor

import refdiff
from refdiff import ddpm, schedule
from refdiff.oracle import law
from refdiff.oracle.checks import samplers
from refdiff.oracle.session import Session

T = 1000
LINEAR = schedule.linear(T)


class Ancestral(refdiff.Target):
    """DDPM's sampler with its own noise; ``error`` is a relative error of one coefficient of one step.

    Args:
        error: relative error.
        at: the level whose step has it.
        which: 0 the coefficient of x_t, 1 of eps, 2 of the noise.
    """

    name = "ancestral sampler"
    dialect = refdiff.Dialect(sampler="ddpm", tables="float64")

    def __init__(self, error: float = 0.0, at: int = 500, which: int = 1) -> None:
        self.error, self.at, self.which = error, at, which

    def sample(self, model: object, x_T: Tensor, steps: int) -> Tensor:
        x = x_T
        levels = schedule.subsequence(T, steps, "trailing")
        for t, s in pairwise(levels):
            eps = model(x, torch.full((len(x),), t))  # type: ignore[operator]
            noise = torch.randn_like(x) if s > 0 else None
            x = self.step(x, t, s, eps, noise)
        return x

    def step(self, x: Tensor, t: int, s: int, eps: Tensor, noise: Tensor | None) -> Tensor:
        if t != self.at or not self.error:
            return ddpm.step(LINEAR, x, t, eps, noise, s)
        k = ddpm.step_coefficients(LINEAR, t, s, like=x)
        a, b, c = (v * (1 + self.error * (i == self.which)) for i, v in enumerate((k.x_t, k.eps, k.noise)))
        return a * x + b * eps + (0.0 if noise is None else c * noise)


def time_ratio() -> None:
    """The check against a plain run of the same sampler on the same batch."""
    session = Session(Ancestral(), Ancestral.dialect)
    perfect, draws = samplers.perfect(session), T - 1
    rows = len(law._basis(draws)) + law.ROWS
    generator = torch.Generator().manual_seed(1)
    x_T = torch.randn(rows, law.D, dtype=torch.float64, generator=generator)

    def model(x: Tensor, t: Tensor) -> Tensor:
        return torch.addmm(perfect.offsets[int(t[0])], x, perfect.matrices[int(t[0])])

    def exact() -> object:
        run, moments, bent = law.sampled_and_exact(session.caller, perfect, T, draws)
        return moments, bent, law.steps(run)

    median = interleaved({"plain": lambda: Ancestral().sample(model, x_T, T), "exact": exact}, repeats=5)
    print(
        f"batch of {rows} rows, {T} steps; plain run {median['plain']:.2f} s, check {median['exact']:.2f} s"
    )
    print(
        ratio_line(
            "exact check of 1000 stochastic steps / one plain run", median["exact"] / median["plain"], 3
        )
    )


def caught(error: float, which: int) -> bool:
    """Whether the checks of a sampler find a relative error in one coefficient of the step at level 500."""
    target = Ancestral(error, which=which)
    return not refdiff.check(target, only=("sample.coefficients", "sample.exact_law")).ok


def smallest_error() -> None:
    """The smallest power of ten that is caught in each coefficient."""
    assert not caught(0.0, 0), "the right sampler must pass"
    for which, name in enumerate(("x_t", "eps", "noise")):
        digits = next(k for k in range(1, 17) if not caught(10.0**-k, which)) - 1
        print(ratio_line(f"smallest relative error caught, coefficient of {name}", 10.0**-digits, 1e-9, ""))


def main() -> None:
    torch.set_num_threads(1)
    time_ratio()
    smallest_error()


if __name__ == "__main__":
    main()
