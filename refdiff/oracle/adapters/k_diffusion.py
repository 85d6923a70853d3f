"""The sampling functions of the ``k_diffusion`` package as solvers over given levels.

States have scale 1 there, and a model predicts data from a state and its sigma. The sampling functions are
one module; the rest of the package, which is for training, is not imported, nor what it would need.
Noise is asked for through the package's own argument, as increments of one Brownian motion in sigma.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from torch import Tensor

from refdiff.oracle.adapters.common import Increments, chosen, known_options
from refdiff.oracle.target import Dialect, Target

# what the functions declare in their names and documentation: order, first step, noise, name here
FUNCTIONS: dict[str, tuple[int, int | None, bool, str | None]] = {
    "sample_euler": (1, None, False, "ddim"),
    "sample_euler_ancestral": (1, None, True, None),
    "sample_heun": (2, 2, False, None),
    "sample_dpm_2": (2, 2, False, "dpm_2"),
    "sample_dpm_2_ancestral": (2, 2, True, None),
    "sample_lms": (4, 1, False, None),
    "sample_dpmpp_2s_ancestral": (2, 2, True, None),
    "sample_dpmpp_sde": (2, 2, True, None),
    "sample_dpmpp_2m": (2, 1, False, "dpmpp_2m"),
    "sample_dpmpp_2m_sde": (2, 1, True, "sde_dpmpp_2m"),
    "sample_dpmpp_3m_sde": (3, 1, True, None),
}
OPTIONS = ("s_churn", "s_noise", "eta", "order", "solver_type", "r")
UNUSED = ("PIL", "PIL.Image", "safetensors", "torchvision", "torchvision.transforms", "tqdm", "tqdm.auto")


def load(name: str, options: Mapping[str, Any]) -> Target:
    """The target for a sampling function, with its own arguments."""
    chosen("k_diffusion function", name, FUNCTIONS)
    known_options(name, options, OPTIONS)
    return SamplingTarget(name, options)


class _Empty(ModuleType):
    """A module that has every name, and nothing behind it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Empty(name)


@contextmanager
def _alone() -> Iterator[None]:
    """The package without its own initialisation, and without what is not installed."""
    spec = find_spec("k_diffusion")
    if spec is None or spec.submodule_search_locations is None:
        raise ValueError(
            "k_diffusion is not installed; pip install --no-deps k_diffusion torchsde trampoline"
        )
    package = ModuleType("k_diffusion")
    package.__path__ = list(spec.submodule_search_locations)
    absent = {name: _Empty(name) for name in UNUSED if find_spec(name.partition(".")[0]) is None}
    if "tqdm.auto" in absent:
        absent["tqdm.auto"].trange = lambda count, **given: range(count)  # type: ignore[attr-defined]
    before = {name: module for name, module in sys.modules.items() if name.startswith("k_diffusion")}
    sys.modules.update({**absent, "k_diffusion": package})
    try:
        yield
    finally:
        for name in [*absent, *(name for name in sys.modules if name.startswith("k_diffusion"))]:
            del sys.modules[name]
        sys.modules.update(before)


@cache
def functions() -> Any:
    """The module of the sampling functions."""
    with _alone():
        return import_module("k_diffusion.sampling")


class SamplingTarget(Target):
    """A sampling function."""

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self.module, self.options = functions(), dict(options)
        self.function: Callable[..., Tensor] = getattr(self.module, name)
        self.name = f"k_diffusion {metadata.version('k_diffusion')} {name}"
        order, start, noisy, known = FUNCTIONS[name]
        order = int(self.options.get("order", order)) if name == "sample_lms" else order
        ode = noisy and self.options.get("eta", 1.0) == 0
        churned = self.options.get("s_churn", 0) > 0
        self.noisy = "noise_sampler" in inspect.signature(self.function).parameters
        self.dialect = Dialect(
            parameterization="x_0",
            order=order,
            start_order=start if order > 1 else None,
            solver=known if not self.options else None,
            solver_space="ve",
            solver_noise=(noisy and not ode) or churned,
        )

    def solve(self, model: Any, x: Tensor, scales: Tensor, stds: Tensor, noises: Tensor) -> Tensor:
        """The function on the sigmas."""
        given = {"noise_sampler": Increments(noises)} if self.noisy else {}

        def denoised(x: Tensor, sigma: Tensor) -> Tensor:
            answer: Tensor = model(x, 1.0, sigma)
            return answer

        found: Tensor = self.function(denoised, x, stds, disable=True, **given, **self.options)
        return found
