"""Ports of continuous time that break the rules of good behaviour in one port."""

from __future__ import annotations

import time
from typing import Any

import torch

from tests.zoo.continuous import Chain, Consistency, Flow, Kernel, Likelihood, Matching, Steps, Variational

# id -> (target, the port in which it is hostile, a port beside it that is right, what the report says of it)
TIME_HOSTILE: dict[str, tuple[type, str, str, str]] = {}


def hostile(id: str, topic: type, port: str, bystander: str, says: str, method: Any) -> None:
    cls = type(id.title().replace("-", ""), (topic,), {port: method, "name": id})
    TIME_HOSTILE[id] = cls, port, bystander, says


def raises(self, *args):
    raise RuntimeError("no such thing")


def forever(self, *args):
    while True:
        time.sleep(0.01)


def at_many_times(self, score_fn, x, times, noises):
    return x + score_fn(x, times[0] - torch.arange(len(x)) / 100)


def changing(self, score_fn, x, times, noises):
    x.mul_(2)
    return Steps.sde_sample(self, score_fn, x / 2, times, noises)


hostile("marginal-raises", Kernel, "marginal", "drift", "no such thing", raises)
hostile("marginal-alone", Kernel, "marginal", "drift", "1 parts", lambda self, t: Kernel.diffusion(self, t))
hostile("marginal-of-strings", Kernel, "marginal", "drift", "not with numbers", lambda self, t: ("a", "b"))
hostile(
    "marginal-is-one-number",
    Kernel,
    "marginal",
    "drift",
    "shape ()",
    lambda self, t: (torch.tensor(1.0), torch.tensor(1.0)),
)
hostile("marginal-is-nan", Kernel, "marginal", "drift", "not finite", lambda self, t: (t * torch.nan, t))
hostile("drift-transposed", Kernel, "drift", "marginal", "shape", lambda self, x, t: x.flip(0)[:3])
hostile("drift-is-none", Kernel, "drift", "marginal", "NoneType", lambda self, x, t: None)
hostile("drift-is-complex", Kernel, "drift", "marginal", "complex", lambda self, x, t: x * 1j)
hostile(
    "drift-of-the-batch",
    Kernel,
    "drift",
    "marginal",
    "beside it",
    lambda self, x, t: Kernel.drift(self, x, t) * len(x),
)
hostile("drift-wrong-signature", Kernel, "drift", "marginal", "TypeError", lambda self, x: x)
hostile(
    "diffusion-of-nothing",
    Kernel,
    "diffusion",
    "marginal",
    "not finite",
    lambda self, t: torch.full_like(t, torch.nan),
)
hostile("ode-is-a-tanh", Kernel, "pf_ode_drift", "drift", "",
        lambda self, x, t, s: torch.tanh(Kernel.pf_ode_drift(self, x, t, s)))  # fmt: skip
hostile("ode-exits", Kernel, "pf_ode_drift", "drift", "SystemExit", lambda self, *args: exit(3))
hostile("step-never-ends", Steps, "sde_step", "marginal", "no answer", forever)
hostile(
    "step-in-half", Steps, "sde_step", "marginal", "", lambda self, *args: Steps.sde_step(self, *args).half()
)
hostile(
    "step-changes-x",
    Steps,
    "sde_step",
    "marginal",
    "in place",
    lambda self, x, t, s, e, z: Steps.sde_step(self, x.mul_(2) / 2, t, s, e, z),
)
hostile("sampler-changes-x", Steps, "sde_sample", "sde_step", "in place", changing)
hostile(
    "sampler-never-asks",
    Steps,
    "sde_sample",
    "sde_step",
    "never asked",
    lambda self, score_fn, x, times, noises: x,
)
hostile("sampler-asks-one-row", Steps, "sde_sample", "sde_step", "wanted",
        lambda self, score_fn, x, times, noises: score_fn(x[:1], times[0]))  # fmt: skip
hostile("sampler-asks-two-columns", Steps, "sde_sample", "sde_step", "",
        lambda self, score_fn, x, times, noises: score_fn(x[:, :2], times[0]))  # fmt: skip
hostile("sampler-clips", Steps, "sde_sample", "sde_step", "",
        lambda self, *args: Steps.sde_sample(self, *args).clamp(-0.1, 0.1))  # fmt: skip
hostile("sampler-at-many-times", Steps, "sde_sample", "sde_step", "different times", at_many_times)
hostile(
    "corrector-never-asks",
    Steps,
    "predictor_corrector",
    "sde_step",
    "never asked",
    lambda self, score_fn, x, *rest: x,
)
hostile("corrector-size-is-a-matrix", Steps, "corrector_step_size", "sde_step", "(B, B)",
        lambda self, s, z, r: torch.ones(len(s), len(s)).double())  # fmt: skip
hostile("chain-is-empty", Chain, "discretize", "marginal", "shape (0,)", lambda self, n: torch.zeros(0))
hostile(
    "chain-of-nan", Chain, "discretize", "marginal", "not finite", lambda self, n: torch.full((n,), torch.nan)
)
hostile(
    "loss-never-asks",
    Matching,
    "score_loss",
    "marginal",
    "never asked",
    lambda self, s, x0, t, z: (z**2).sum(1),
)
hostile("loss-is-a-float", Matching, "score_loss", "marginal", "whole batch", lambda self, *args: 0.5)
hostile(
    "likelihood-is-none",
    Likelihood,
    "ode_log_likelihood",
    "marginal",
    "NoneType",
    lambda self, score_fn, x: None,
)
hostile(
    "likelihood-is-nan",
    Likelihood,
    "ode_log_likelihood",
    "marginal",
    "",
    lambda self, score_fn, x: x[:, 0] * torch.nan,
)
hostile("flow-of-the-first-time", Flow, "flow_path", "flow_velocity", "beside it",
        lambda self, x0, z, t: Flow.flow_path(self, x0, z, t[:1].expand(len(t))))  # fmt: skip
hostile(
    "levels-without-labels",
    Flow,
    "flow_levels",
    "flow_path",
    "wanted (times, labels)",
    lambda self, n, k: torch.ones(n + 1),
)
hostile(
    "levels-too-few",
    Flow,
    "flow_levels",
    "flow_path",
    "times has shape",
    lambda self, n, k: (torch.ones(n), torch.ones(n)),
)
hostile("sampler-of-flow-wrong-shape", Flow, "flow_sample", "flow_path", "shape", lambda self, v, x, n: x[:2])
hostile("coupling-alone", Flow, "flow_coupling", "flow_path", "two tensors", lambda self, x0, z: x0)
hostile(
    "consistency-is-none",
    Consistency,
    "consistency_function",
    "consistency_sample",
    "NoneType",
    lambda self, *args: None,
)
hostile(
    "consistency-sampler-raises",
    Consistency,
    "consistency_sample",
    "consistency_function",
    "no such thing",
    raises,
)
hostile("gamma-is-one-number", Variational, "vdm_gamma", "vdm_loss", "shape", lambda self, t: 1.0)
hostile("gamma-of-nan", Variational, "vdm_gamma", "vdm_loss", "", lambda self, t: t * torch.nan)
hostile("vdm-loss-of-pairs", Variational, "vdm_loss", "vdm_gamma", "one number a sample",
        lambda self, model, x0, t, z: Variational.vdm_loss(self, model, x0, t, z)[:, None])  # fmt: skip
