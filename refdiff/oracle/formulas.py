"""The formulas of each port as small programs, from which measured coefficients are explained.

A program is a few assignments in which the states are linear and the rest are scalars of the levels. It is
written
in more than one way where people write it in more than one way: a mistake has a place in one of them. The
values that
decide a check come from the reference; a test holds the two together.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdiff.oracle.target import Dialect

Array = NDArray[Any]


@dataclass(frozen=True)
class Port:
    """A port whose answer is affine in some of its arguments.

    Args:
        name: of the method.
        arguments: its arguments in order.
        states: argument -> (name in programs, level at which it lives, or None where space does not matter).
        out: level of the answer, or None.
        scalars: arguments that are Python numbers.
        noise: the argument that is noise, if any.
        programs: ways of writing it; the first is the plainest.
    """

    name: str
    arguments: tuple[str, ...]
    states: Mapping[str, tuple[str, str | None]]
    out: str | None
    programs: tuple[str, ...]
    scalars: tuple[str, ...] = ()
    noise: str | None = None

    @property
    def two_levels(self) -> bool:
        """Whether it takes t and s."""
        return "s" in self.arguments


VARIANCE = {
    "beta_tilde": "variance = beta_t*(1 - abar_s)/(1 - abar_t)",
    "beta": "variance = beta_t",
    "beta_first_tilde": "variance = beta_t",
    "learned_range": "variance = exp(f*log(beta_t) + (1 - f)*log(beta_low))",
    "learned": "variance = exp(f)",
}
_X0 = "x0 = (x - sqrt(1 - abar_t)*e)/sqrt(abar_t)"
_POSTERIOR = "mean = sqrt(abar_s)*beta_t/(1 - abar_t)*x0 + sqrt(alpha_t)*(1 - abar_s)/(1 - abar_t)*x"
_EPS_MEAN = "mean = (x - beta_t/sqrt(1 - abar_t)*e)/sqrt(alpha_t)"
_SIGMA = "sigma = eta*sqrt((1 - abar_s)/(1 - abar_t)*(1 - abar_t/abar_s))"
_DIRECTION = "out = sqrt(abar_s)*x0 + sqrt(1 - abar_s - sigma**2)*e + sigma*z"
_LANGEVIN = "out = x + drift*score + sqrt(variance)*z"
LANGEVIN = {
    "eta": "drift = step_size\nvariance = 2*step_size",
    "half": "drift = step_size/2\nvariance = step_size",
    "half_square": "drift = step_size**2/2\nvariance = step_size**2",
}
GUIDED = {
    "imagen": ("e = u + scale*(c - u)", "e = scale*c + (1 - scale)*u"),
    "ho": ("e = c + scale*(c - u)", "e = (1 + scale)*c - scale*u"),
}
RENOISE = {"guided": "n = e", "unconditional": "n = u"}

PORTS: dict[str, Port] = {
    port.name: port
    for port in (
        Port(
            "q_sample",
            ("x0", "t", "noise"),
            {"x0": ("x0", None), "noise": ("z", None)},
            "t",
            ("out = sqrt(abar_t)*x0 + sqrt(1 - abar_t)*z",),
            noise="noise",
        ),
        Port(
            "predict_x0",
            ("x_t", "t", "eps"),
            {"x_t": ("x", "t"), "eps": ("e", None)},
            None,
            ("out = (x - sqrt(1 - abar_t)*e)/sqrt(abar_t)", "out = sqrt(1/abar_t)*x - sqrt(1/abar_t - 1)*e"),
        ),
        Port(
            "predict_eps",
            ("x_t", "t", "x0"),
            {"x_t": ("x", "t"), "x0": ("x0", None)},
            None,
            (
                "out = (x - sqrt(abar_t)*x0)/sqrt(1 - abar_t)",
                "out = (sqrt(1/abar_t)*x - x0)/sqrt(1/abar_t - 1)",
            ),
        ),
        Port(
            "velocity",
            ("x0", "eps", "t"),
            {"x0": ("x0", None), "eps": ("e", None)},
            None,
            ("out = sqrt(abar_t)*e - sqrt(1 - abar_t)*x0",),
        ),
        Port(
            "score",
            ("x_t", "t", "eps"),
            {"x_t": ("x", "t"), "eps": ("e", None)},
            "score",
            ("out = -e/sqrt(1 - abar_t)", f"{_X0}\nout = (sqrt(abar_t)*x0 - x)/(1 - abar_t)"),
        ),
        Port(
            "q_posterior",
            ("x0", "x_t", "t"),
            {"x0": ("x0", None), "x_t": ("x", "t")},
            "s",
            (f"{_POSTERIOR}\nout = mean",),
        ),
        Port(
            "ddpm_step",
            ("x_t", "t", "eps", "noise"),
            {"x_t": ("x", "t"), "eps": ("e", None), "noise": ("z", None)},
            "s",
            (
                f"{_EPS_MEAN}\nVARIANCE\nout = mean + last*sqrt(variance)*z",
                f"{_X0}\n{_POSTERIOR}\nVARIANCE\nout = mean + last*sqrt(variance)*z",
            ),
            noise="noise",
        ),
        Port(
            "ddim_step",
            ("x_t", "t", "s", "eps", "eta", "noise"),
            {"x_t": ("x", "t"), "eps": ("e", None), "noise": ("z", None)},
            "s",
            (
                f"{_X0}\n{_SIGMA}\n{_DIRECTION}",
                f"{_X0}\n{_SIGMA}\ne = (x - sqrt(abar_t)*x0)/sqrt(1 - abar_t)\n{_DIRECTION}",
                f"{_X0}\nvariance = (1 - abar_s)/(1 - abar_t)*(1 - abar_t/abar_s)\n"
                f"sigma = eta*sqrt(variance)\n{_DIRECTION}",
            ),
            scalars=("eta",),
            noise="noise",
        ),
        Port(
            "ddim_invert",
            ("x_s", "s", "t", "eps"),
            {"x_s": ("x", "s"), "eps": ("e", None)},
            "t",
            (
                "x0 = (x - sqrt(1 - abar_s)*e)/sqrt(abar_s)\nout = sqrt(abar_t)*x0 + sqrt(1 - abar_t)*e",
                "out = sqrt(abar_t/abar_s)*x + sqrt(abar_t)*(sqrt(1/abar_t - 1) - sqrt(1/abar_s - 1))*e",
            ),
        ),
        Port(
            "guided_mean",
            ("x_t", "t", "eps", "grad", "scale"),
            {"x_t": ("x", "t"), "eps": ("e", None), "grad": ("g", "s")},
            "s",
            (
                f"{_EPS_MEAN}\nVARIANCE\nout = mean + scale*variance*g",
                f"{_X0}\n{_POSTERIOR}\nVARIANCE\nout = mean + scale*variance*g",
            ),
            scalars=("scale",),
        ),
        Port(
            "guided_eps",
            ("eps", "t", "grad", "scale"),
            {"eps": ("e", None), "grad": ("g", "t")},
            None,
            ("out = e - scale*sqrt(1 - abar_t)*g",),
            scalars=("scale",),
        ),
        Port(
            "cfg",
            ("uncond", "cond", "scale"),
            {"uncond": ("u", None), "cond": ("c", None)},
            None,
            ("GUIDED_0\nout = e", "GUIDED_1\nout = e"),
            scalars=("scale",),
        ),
        Port(
            "cfg_step",
            ("x_t", "t", "s", "uncond", "cond", "scale"),
            {"x_t": ("x", "t"), "uncond": ("u", None), "cond": ("c", None)},
            "s",
            (
                f"GUIDED_0\n{_X0}\nRENOISE\nout = sqrt(abar_s)*x0 + sqrt(1 - abar_s)*n",
                f"GUIDED_1\n{_X0}\nRENOISE\nout = sqrt(abar_s)*x0 + sqrt(1 - abar_s)*n",
            ),
            scalars=("scale",),
        ),
        Port(
            "observation_gradient",
            ("x0", "y", "sigma"),
            {"x0": ("x0", None), "y": ("y", None)},
            None,
            ("out = (y - x0)/sigma**2",),
            scalars=("sigma",),
        ),
        Port(
            "langevin_step",
            ("x", "score", "step_size", "noise"),
            {"x": ("x", None), "score": ("score", None), "noise": ("z", None)},
            None,
            (f"LANGEVIN\n{_LANGEVIN}",),
            scalars=("step_size",),
            noise="noise",
        ),
        Port(
            "annealed_langevin_step",
            ("x", "score", "sigma", "sigma_last", "epsilon", "noise"),
            {"x": ("x", None), "score": ("score", None), "noise": ("z", None)},
            None,
            (f"step_size = epsilon*sigma**2/sigma_last**2\nLANGEVIN\n{_LANGEVIN}",),
            scalars=("sigma", "sigma_last", "epsilon"),
            noise="noise",
        ),
    )
}
TIMELESS = tuple(name for name, port in PORTS.items() if "t" not in port.arguments)

# an ancestral step between any two levels, as ``sample`` makes it
_STRIDED_X0_MEAN = (
    "mean = sqrt(abar_s)*beta_step/(1 - abar_t)*x0 + sqrt(alpha_step)*(1 - abar_s)/(1 - abar_t)*x"
)
_STRIDED_EPS_MEAN = "mean = (x - beta_step/sqrt(1 - abar_t)*e)/sqrt(alpha_step)"
_STRIDED_VARIANCE = {
    "beta_tilde": "variance = beta_step*(1 - abar_s)/(1 - abar_t)",
    "beta": "variance = beta_step",
    "beta_first_tilde": "variance = beta_step",
    "learned_range": "variance = exp(f*log(beta_step) + (1 - f)*log(beta_low))",
    "learned": "variance = exp(f)",
}
SAMPLERS = {
    "ddim": PORTS["ddim_step"],
    "ddpm": Port(
        "ddpm",
        ("x_t", "t", "s", "eps", "noise"),
        {"x_t": ("x", "t"), "eps": ("e", None), "noise": ("z", None)},
        "s",
        (
            f"{_STRIDED_EPS_MEAN}\nVARIANCE\nout = mean + last*sqrt(variance)*z",
            f"{_X0}\n{_STRIDED_X0_MEAN}\nVARIANCE\nout = mean + last*sqrt(variance)*z",
        ),
        noise="noise",
    ),
}
PORTS_AND_SAMPLERS = PORTS | {"ddpm": SAMPLERS["ddpm"]}

_LANGEVIN_MISTAKES = (
    ("sign", "the score is subtracted: the chain climbs the energy",
     "LANGEVIN\nout = x - drift*score + sqrt(variance)*z"),
    ("sqrt", "the noise is scaled by its variance, not by the root of it",
     "LANGEVIN\nout = x + drift*score + variance*z"),
    ("sqrt", "the noise is scaled by the step, not by a root of it",
     "LANGEVIN\nout = x + drift*score + drift*z"),
    ("sqrt", "the noise is scaled by the step, not by a root of it",
     "LANGEVIN\nout = x + drift*score + 2*drift*z"),
    ("sqrt", "the step multiplies noise that was scaled already",
     "LANGEVIN\nout = x + drift*(score + sqrt(variance)*z)"),
    ("sqrt", "noise for an optimiser that multiplies by the step is 2 step sqrt(T), not sqrt(2 T / step)",
     "LANGEVIN\nout = x + drift*score + sqrt(variance*2*drift)*drift*z"),
    ("variance", "the factor 2 of the noise is missing: sqrt(step) beside step",
     "LANGEVIN\nout = x + drift*score + sqrt(variance/2)*z"),
    ("variance", "the noise has twice its variance: sqrt(2 step) beside step / 2, or a 2 outside of its root",
     "LANGEVIN\nout = x + drift*score + sqrt(2*variance)*z"),
    ("parameterization", "the score's factor 1/2 is missing",
     "LANGEVIN\nout = x + 2*drift*score + sqrt(variance)*z"),
    ("parameterization", "the score is halved", "LANGEVIN\nout = x + drift/2*score + sqrt(variance)*z"),
    ("parameterization", "the score is ignored", "LANGEVIN\nout = x + sqrt(variance)*z"),
)  # fmt: skip

CONFUSED: dict[str, tuple[tuple[str, str, str], ...]] = {
    "guided_mean": (
        ("guidance", "the gradient is ignored", f"{_EPS_MEAN}\nout = mean"),
        (
            "guidance",
            "the scale multiplies x_0, not the gradient",
            f"{_X0}\nx0 = scale*x0\n{_POSTERIOR}\nVARIANCE\nout = mean + variance*g",
        ),
        (
            "guidance",
            "the scale multiplies the mean, not the gradient",
            f"{_EPS_MEAN}\nVARIANCE\nout = scale*mean + variance*g",
        ),
        (
            "guidance",
            "the scale multiplies eps, not the gradient",
            f"e = scale*e\n{_EPS_MEAN}\nVARIANCE\nout = mean + variance*g",
        ),
        (
            "guidance",
            "the gradient goes into eps, as for DDIM: eps - sqrt(1 - abar_t) scale grad",
            f"e = e - sqrt(1 - abar_t)*scale*g\n{_EPS_MEAN}\nout = mean",
        ),
        (
            "guidance",
            "the gradient goes into eps without its factor",
            f"e = e - scale*g\n{_EPS_MEAN}\nout = mean",
        ),
        (
            "guidance",
            "the gradient goes into x_t before the step",
            f"VARIANCE\nx = x + scale*variance*g\n{_EPS_MEAN}\nout = mean",
        ),
        (
            "guidance",
            "the gradient is scaled by the root of beta_t",
            f"{_EPS_MEAN}\nout = mean + scale*sqrt(beta_t)*g",
        ),
        ("guidance", "the gradient is scaled by beta_t", f"{_EPS_MEAN}\nout = mean + scale*beta_t*g"),
        (
            "guidance",
            "the gradient is scaled by 1 - abar_t",
            f"{_EPS_MEAN}\nout = mean + scale*(1 - abar_t)*g",
        ),
        (
            "guidance",
            "the gradient is scaled by sqrt(1 - abar_t)",
            f"{_EPS_MEAN}\nout = mean + scale*sqrt(1 - abar_t)*g",
        ),
        ("sign", "the gradient has the wrong sign", f"{_EPS_MEAN}\nVARIANCE\nout = mean - scale*variance*g"),
        (
            "variance",
            "the gradient is scaled by exp of half the standard deviation: a std taken for a log-variance",
            f"{_EPS_MEAN}\nVARIANCE\nout = mean + scale*exp(0.5*sqrt(variance))*g",
        ),
        (
            "variance",
            "the gradient is scaled by exp of half the variance",
            f"{_EPS_MEAN}\nVARIANCE\nout = mean + scale*exp(0.5*variance)*g",
        ),
    ),
    "guided_eps": (
        ("guidance", "the gradient is ignored", "out = e"),
        ("guidance", "the gradient has no factor", "out = e - scale*g"),
        ("sign", "the gradient has the wrong sign", "out = e + scale*sqrt(1 - abar_t)*g"),
        ("sqrt", "the gradient's factor is 1 - abar_t, not its root", "out = e - scale*(1 - abar_t)*g"),
        ("guidance", "the gradient's factor is sqrt(abar_t)", "out = e - scale*sqrt(abar_t)*g"),
        ("guidance", "the gradient is divided by its factor", "out = e - scale*g/sqrt(1 - abar_t)"),
        ("guidance", "the scale multiplies eps", "out = scale*e - sqrt(1 - abar_t)*g"),
        ("guidance", "the gradient's factor is the posterior variance, as for the mean",
         "VARIANCE\nout = e - scale*variance*g"),
    ),
    "cfg": (
        ("guidance", "the unconditional output is ignored", "out = c"),
        ("guidance", "the conditional output is ignored", "out = u"),
        ("sign", "the outputs are added: s c + (s - 1) u", "out = scale*c + (scale - 1)*u"),
        ("sign", "the outputs are added: (1 + w) c + w u", "out = (1 + scale)*c + scale*u"),
        ("guidance", "condition and no condition are exchanged", "out = c + scale*(u - c)"),
        ("guidance", "condition and no condition are exchanged", "out = u + scale*(u - c)"),
        ("guidance", "the scale multiplies the sum", "out = scale*c + scale*u"),
        ("guidance", "the base is missing: s (c - u)", "out = scale*(c - u)"),
        ("guidance", "the mean of the two outputs", "out = (c + u)/2"),
    ),
    "cfg_step": (
        ("guidance", "x_0 is made from the unconditional eps, and the guided one is added again",
         "GUIDED_0\nx0 = (x - sqrt(1 - abar_t)*u)/sqrt(abar_t)\n"
         "out = sqrt(abar_s)*x0 + sqrt(1 - abar_s)*e"),
        ("guidance", "the conditional eps is added again",
         f"GUIDED_0\n{_X0}\nout = sqrt(abar_s)*x0 + sqrt(1 - abar_s)*c"),
        ("guidance", "the unconditional output is ignored",
         f"e = c\n{_X0}\nout = sqrt(abar_s)*x0 + sqrt(1 - abar_s)*e"),
        ("guidance", "the conditional output is ignored",
         f"e = u\n{_X0}\nout = sqrt(abar_s)*x0 + sqrt(1 - abar_s)*e"),
    ),
    "observation_gradient": (
        ("guidance", "the noise of the observation is half as large as declared: it was given for data in "
         "[0, 1] and used in [-1, 1]", "out = (y - x0)/(sigma/2)**2"),
        ("guidance", "the noise of the observation is twice as large as declared",
         "out = (y - x0)/(2*sigma)**2"),
        ("sqrt", "divided by the standard deviation, not by the variance", "out = (y - x0)/sigma"),
        ("sign", "the sign is flipped", "out = (x0 - y)/sigma**2"),
        ("guidance", "not divided by the variance", "out = y - x0"),
        ("guidance", "the square instead of half of it is differentiated", "out = 2*(y - x0)/sigma**2"),
    ),
    "langevin_step": _LANGEVIN_MISTAKES,
    "annealed_langevin_step": (
        *((family, words, f"step_size = epsilon*sigma**2/sigma_last**2\n{program}")
          for family, words, program in _LANGEVIN_MISTAKES),
        ("sqrt", "the step follows sigma, not its square",
         f"step_size = epsilon*sigma/sigma_last\nLANGEVIN\n{_LANGEVIN}"),
        ("variance", "the step is not divided by sigma_L²",
         f"step_size = epsilon*sigma**2\nLANGEVIN\n{_LANGEVIN}"),
        ("variance", "the step does not depend on the level", f"step_size = epsilon\nLANGEVIN\n{_LANGEVIN}"),
        ("variance", "the step's ratio is upside down: sigma_L² / sigma_i²",
         f"step_size = epsilon*sigma_last**2/sigma**2\nLANGEVIN\n{_LANGEVIN}"),
        ("parameterization", "the score is multiplied by sigma, as if it were one of unit noise",
         f"step_size = epsilon*sigma**2/sigma_last**2\nLANGEVIN\nscore = sigma*score\n{_LANGEVIN}"),
        ("parameterization", "the score is divided by sigma: eps is taken for the score",
         f"step_size = epsilon*sigma**2/sigma_last**2\nLANGEVIN\nscore = score/sigma\n{_LANGEVIN}"),
    ),
    "ddim_step": (
        (
            "variance",
            "the direction's coefficient is sigma, as the noise's",
            f"{_X0}\n{_SIGMA}\nout = sqrt(abar_s)*x0 + sigma*e + sigma*z",
        ),
        (
            "variance",
            "the direction's coefficient leaves sigma out",
            f"{_X0}\n{_SIGMA}\nout = sqrt(abar_s)*x0 + sqrt(1 - abar_s)*e + sigma*z",
        ),
        (
            "parameterization",
            "x_0 stands for eps in the direction",
            f"{_X0}\n{_SIGMA}\nout = sqrt(abar_s)*x0 + sqrt(1 - abar_s - sigma**2)*x0 + sigma*z",
        ),
        ("parameterization", "x_0 is x_t", f"{_SIGMA}\nx0 = x\n{_DIRECTION}"),
    ),
}

# the model output m of each parameterization, at the level where x lives
_FROM_MODEL = {
    "x_0": "e = (x - sqrt(abar_T)*e)/sqrt(1 - abar_T)",
    "v": "e = sqrt(1 - abar_T)*x + sqrt(abar_T)*e",
    "score": "e = -sqrt(1 - abar_T)*e",
}
_TAKES_MODEL_OUTPUT = ("ddpm", "ddpm_step", "ddim_step", "ddim_invert", "guided_mean")


def programs(port: Port, dialect: Dialect) -> tuple[str, ...]:
    """A port's programs in a dialect: its space, its parameterization, its variance."""
    return tuple(adapted(program, port, dialect) for program in port.programs)


def adapted(program: str, port: Port, dialect: Dialect) -> str:
    """A program in a dialect."""
    learned = dialect.variance.startswith("learned") and port.name == "guided_mean"
    variances = _STRIDED_VARIANCE if port.name == "ddpm" else VARIANCE
    program = program.replace("VARIANCE", variances["beta_tilde" if learned else dialect.variance])
    program = _spoken(program, port, dialect)
    lines = []
    levels = {name: level for name, level in port.states.values() if level is not None}
    if dialect.space == "ve":
        for name, level in levels.items():
            # a gradient grows where the space shrinks
            lines.append(
                f"{name} = {name}/sqrt(abar_{level})"
                if name == "g"
                else f"{name} = {name}*sqrt(abar_{level})"
            )
    if port.name in _TAKES_MODEL_OUTPUT and dialect.parameterization != "eps":
        lines.append(_FROM_MODEL[dialect.parameterization].replace("abar_T", f"abar_{levels['x']}"))
    if dialect.eta == "eta_squared" and "eta" in port.scalars:
        lines.append("eta = sqrt(eta)")
    if dialect.space == "ve" and port.out is not None:
        factor = "*sqrt(abar_t)" if port.out == "score" else f"/sqrt(abar_{port.out})"
        head, _, last = program.rpartition("out = ")
        program = f"{head}out = ({last}){factor}"
    return "\n".join([*lines, program])


def _spoken(program: str, port: Port, dialect: Dialect) -> str:
    """A program with its guidance scale, its renoising and its Langevin step in a dialect's words."""
    rule = dialect.langevin
    if port.name == "annealed_langevin_step" and rule == "half_square":
        # the root of epsilon is the step's size, so that its square is epsilon
        rule = "half"
    langevin = LANGEVIN[rule]
    if dialect.temperature != 1:
        langevin = langevin.replace("variance = ", f"variance = {dialect.temperature!r}*")
    for index, form in enumerate(GUIDED[dialect.cfg]):
        program = program.replace(f"GUIDED_{index}", form)
    return program.replace("LANGEVIN", langevin).replace("RENOISE", RENOISE[dialect.renoise])


def variance_programs(dialect: Dialect) -> tuple[str, ...]:
    """The variance of ``q_posterior``, which is one whatever the steps add."""
    divided = "/abar_s" if dialect.space == "ve" else ""
    return (
        f"variance = beta_t*(1 - abar_s)/(1 - abar_t)\nout = variance{divided}*one",
        f"variance = (1 - abar_s)/(1 - abar_t)*(1 - abar_t/abar_s)\nout = variance{divided}*one",
    )


FUNCTIONS = {"sqrt": np.sqrt, "exp": np.exp, "log": np.log, "maximum": np.maximum, "minimum": np.minimum}


@lru_cache(maxsize=4096)
def compiled(program: str) -> CodeType:
    """A program as code."""
    return compile(program, "<formula>", "exec")


def run(code: CodeType, scalars: Mapping[str, Any], states: tuple[str, ...]) -> Array:
    """The coefficients of every state, shape (states, points): states are basis vectors."""
    scope: dict[str, Any] = {"__builtins__": {}, **FUNCTIONS, **scalars}
    for index, name in enumerate(states):
        unit = np.zeros((len(states), 1))
        unit[index] = 1
        scope[name] = unit
    with np.errstate(all="ignore"):
        exec(code, scope)
        points = len(next(iter(scalars.values())))
        return np.broadcast_to(scope["out"], (len(states), points))


def is_state(node: ast.AST, states: frozenset[str]) -> bool:
    """Whether an expression contains a state."""
    return any(isinstance(child, ast.Name) and child.id in states for child in ast.walk(node))
