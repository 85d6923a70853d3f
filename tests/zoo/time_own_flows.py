"""Mutants of likelihoods by the flow, of flows, of consistency models and of variational diffusion."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch

from tests.zoo.continuous import Consistency, Flow, Kernel, Likelihood, Variational, best_order, rows
from tests.zoo.time_own import wrong

# the likelihood: (x, score_fn) -> the last state, its prior and the integral of the divergence


def likelihood(id: str, family: str, *also: str, value: Any, field: Any = None, **spoken: Any) -> None:
    def ode_log_likelihood(self, score_fn, x):
        last, total = self.flow(score_fn, x)
        return value(Likelihood.prior(self, last), total, x, last)

    methods = {} if field is None else {"field": field}
    cls = type("Wrong", (Likelihood,), methods)
    wrong(f"lik-{id}", family, cls, *also, spoken=spoken or None, ode_log_likelihood=ode_log_likelihood)


def slope(g_factor, f_factor=1.0):
    def field(self, score_fn, x, t):
        times = torch.full((len(x),), t, dtype=x.dtype)
        drift = f_factor * Kernel.drift(self, x, times)
        return drift - g_factor * rows(Kernel.diffusion(self, times), x) ** 2 * score_fn(x, times)

    return field


likelihood("trace-subtracted", "likelihood", value=lambda prior, trace, x, last: prior - trace)
likelihood("without-trace", "likelihood", value=lambda prior, trace, x, last: prior + 0 * trace)
likelihood("without-prior", "likelihood", value=lambda prior, trace, x, last: trace)
likelihood("trace-averaged", "likelihood", value=lambda prior, trace, x, last: prior + trace / x.shape[1])
likelihood("negative", "sign", "likelihood", value=lambda prior, trace, x, last: -prior - trace)
likelihood(
    "in-bits", "likelihood", "convention", value=lambda prior, trace, x, last: (prior + trace) / math.log(2)
)
likelihood(
    "of-a-dimension",
    "likelihood",
    "convention",
    value=lambda prior, trace, x, last: (prior + trace) / x.shape[1],
)
likelihood(
    "without-two-pi",
    "likelihood",
    value=lambda prior, trace, x, last: prior + trace + 1.5 * math.log(2 * math.pi),
)
likelihood("full-g", "variance", field=slope(1.0), value=lambda prior, trace, x, last: prior + trace)
likelihood(
    "without-score", "parameterization", field=slope(0.0), value=lambda prior, trace, x, last: prior + trace
)
likelihood(
    "prior-of-data", "likelihood", value=lambda prior, trace, x, last: Likelihood.prior(None, x) + trace
)
likelihood(
    "one-for-all", "state-broadcast", "likelihood", value=lambda prior, trace, x, last: (prior + trace).mean()
)

# flows


def angle(t, x):
    return math.pi / 2 * rows(t, x)


def flow(id: str, family: str, *also: str, spoken: dict[str, Any] | None = None, **methods: Any) -> None:
    wrong(f"flw-{id}", family, Flow, *also, spoken=spoken, **methods)


flow(
    "path-swapped",
    "parameterization",
    "convention",
    flow_path=lambda self, x0, z, t: rows(t, x0) * x0 + (1 - rows(t, x0)) * z,
)
flow("path-not-fading", "schedule", flow_path=lambda self, x0, z, t: x0 + rows(t, x0) * z)
flow("path-subtracts", "sign", flow_path=lambda self, x0, z, t: (1 - rows(t, x0)) * x0 - rows(t, x0) * z)
flow(
    "path-root",
    "sqrt",
    "variance",
    flow_path=lambda self, x0, z, t: (1 - rows(t, x0)) * x0 + rows(t, x0).sqrt() * z,
)
flow("velocity-backwards", "sign", "convention", flow_velocity=lambda self, x0, z, t: x0 - z)
flow("velocity-adds", "sign", flow_velocity=lambda self, x0, z, t: x0 + z)
flow("velocity-of-v", "parameterization", spoken={"process": "cosine"},
     flow_velocity=lambda self, x0, z, t: angle(t, x0).cos() * z - angle(t, x0).sin() * x0)  # fmt: skip
flow("velocity-of-straight-path", "loss-weight", "schedule", spoken={"process": "cosine"},
     flow_velocity=lambda self, x0, z, t: z - x0)  # fmt: skip
flow(
    "velocity-without-rate",
    "sign",
    "schedule",
    "convention",
    spoken={"time_scale": 1000.0},
    flow_velocity=lambda self, x0, z, t: z - x0,
)
flow("step-backwards", "sign", flow_step=lambda self, x, t, s, v: x - rows(s - t, x) * v)
flow("step-without-length", "discretization", flow_step=lambda self, x, t, s, v: x - v)
flow("step-of-the-time", "schedule", flow_step=lambda self, x, t, s, v: x - rows(t, x) * v)
flow("sde-score-added", "sign", flow_sde_drift=lambda self, v, s, t: v + rows(t, s) / 2 * s)
flow("sde-velocity-flipped", "sign", flow_sde_drift=lambda self, v, s, t: -v - rows(t, s) / 2 * s)
flow("sde-w-for-half", "variance", "convention", flow_sde_drift=lambda self, v, s, t: v - rows(t, s) * s)
flow("sde-root-of-w", "sqrt", flow_sde_drift=lambda self, v, s, t: v - rows(t, s).sqrt() / 2 * s)
flow(
    "sde-w-of-process",
    "convention",
    "variance",
    "discretization",
    flow_sde_drift=lambda self, v, s, t: v - rows(t / (1 - t), s) * s,
)


def loss(
    id: str, family: str, *also: str, aim: Any, state: Any = None, label: Any = lambda t: t, **spoken: Any
) -> None:
    def flow_loss(self, model, x0, t, z):
        path = state or Flow.flow_path
        return (model(path(self, x0, z, t), label(t)) - aim(x0, z, rows(t, x0))).square().flatten(1).mean(1)

    flow(f"loss-{id}", family, *also, spoken=spoken or None, flow_loss=flow_loss)


loss("aims-backwards", "sign", "loss-weight", aim=lambda x0, z, t: x0 - z)
loss("aims-at-noise", "parameterization", aim=lambda x0, z, t: z)
loss("aims-at-data", "parameterization", aim=lambda x0, z, t: x0)
loss("label-of-steps", "convention", "time-embedding", aim=lambda x0, z, t: z - x0, label=lambda t: 1000 * t)
loss("label-turned", "schedule", "sign", aim=lambda x0, z, t: z - x0, label=lambda t: 1 - t)
loss("label-cut", "precision", aim=lambda x0, z, t: z - x0, label=lambda t: t.long())
loss("state-swapped", "parameterization", "schedule", aim=lambda x0, z, t: z - x0,
     state=lambda self, x0, z, t: Flow.flow_path(self, z, x0, t))  # fmt: skip
flow("loss-summed", "loss-weight", "convention",
     flow_loss=lambda self, *given: Flow.flow_loss(self, *given) * given[1][0].numel())  # fmt: skip
flow("loss-of-the-batch", "loss-weight", flow_loss=lambda self, *given: Flow.flow_loss(self, *given).mean())
flow("shift-inverse", "schedule", time_shift=lambda self, t, k: t / (k - (k - 1) * t))
flow("shift-forgotten", "schedule", time_shift=lambda self, t, k: t)
flow("shift-not-minus-one", "schedule", time_shift=lambda self, t, k: k * t / (1 + k * t))
flow("shift-power", "schedule", time_shift=lambda self, t, k: t**k)
flow(
    "shift-of-data",
    "schedule",
    "convention",
    time_shift=lambda self, t, k: 1 - Flow.time_shift(self, 1 - t, k),
)
flow(
    "shift-log", "schedule", "convention", time_shift=lambda self, t, k: Flow.time_shift(self, t, math.exp(k))
)
flow("levels-not-shifted", "schedule", flow_levels=lambda self, n, k: Flow.flow_levels(self, n, 1.0))
flow(
    "levels-to-noise",
    "sign",
    flow_levels=lambda self, n, k: tuple(one.flip(0) for one in Flow.flow_levels(self, n, k)),
)
flow(
    "labels-not-shifted",
    "schedule",
    flow_levels=lambda self, n, k: (Flow.flow_levels(self, n, k)[0], Flow.flow_levels(self, n, 1.0)[1]),
)
flow(
    "labels-of-ends",
    "index",
    flow_levels=lambda self, n, k: (Flow.flow_levels(self, n, k)[0], Flow.flow_levels(self, n, k)[0][1:]),
)
flow("shifted-twice", "schedule", flow_levels=lambda self, n, k: Flow.flow_levels(self, n, k * k))
flow(
    "levels-spaced-otherwise",
    "schedule",
    flow_levels=lambda self, n, k: tuple(one**2 for one in Flow.flow_levels(self, n, k)),
)


def sampler(id: str, family: str, *also: str, times: Any, sign: float = 1.0) -> None:
    def flow_sample(self, velocity_fn, x, steps):
        for t, s in itertools.pairwise(times(steps)):
            x = x + sign * (s - t) * velocity_fn(x, t.expand(len(x)))
        return x

    flow(f"smp-{id}", family, *also, flow_sample=flow_sample)


def ends(a, b, n):
    return torch.linspace(a, b, n, dtype=torch.float64)


sampler("from-data", "sign", times=lambda n: ends(0, 1, n + 1))
sampler("against-velocity", "sign", sign=-1.0, times=lambda n: ends(1, 0, n + 1))
sampler("stops-early", "discretization", times=lambda n: ends(1, 0, n + 1)[:-1])
sampler("in-steps-of-another-grid", "discretization", sign=5 / 4, times=lambda n: ends(1, 0, n + 1))
sampler("starts-late", "schedule", "discretization", times=lambda n: ends(0.9, 0, n + 1))
flow("smp-one-label", "time-embedding", flow_sample=lambda self, v, x, n: sum(
    (-v(x, torch.ones(len(x)).double()) / n for _ in range(n)), x))  # fmt: skip
flow("smp-never-asks", "state-broadcast", flow_sample=lambda self, v, x, n: x)
flow("coupling-sorted", "state-broadcast", flow_coupling=lambda self, x0, z: (x0, z))
flow("coupling-reused", "state-broadcast", flow_coupling=lambda self, x0, z: (
    x0, z[torch.cdist(x0, z).argmin(1)]))  # fmt: skip
flow("coupling-worst", "state-broadcast", flow_coupling=lambda self, x0, z: (x0, z[list(best_order(-x0, z))]))

# consistency models


def model(id: str, family: str, *also: str, skip: Any = None, out: Any = None, **spoken: Any) -> None:
    """skip and out of sigma, by default the right ones"""

    def consistency_function(self, x, sigma, output):
        a = (skip or (lambda s, d, e: d**2 / ((s - e) ** 2 + d**2)))(sigma, 0.5, 0.002)
        b = (out or (lambda s, d, e: d * (s - e) / (s**2 + d**2).sqrt()))(sigma, 0.5, 0.002)
        return rows(a, x) * x + rows(b, x) * output

    wrong(
        f"cst-{id}",
        family,
        Consistency,
        *also,
        spoken=spoken or None,
        consistency_function=consistency_function,
    )


model("swapped", "parameterization", skip=lambda s, d, e: d * (s - e) / (s**2 + d**2).sqrt(),
      out=lambda s, d, e: d**2 / ((s - e) ** 2 + d**2))  # fmt: skip
model("out-without-data", "parameterization", out=lambda s, d, e: (s - e) / (s**2 + d**2).sqrt())
model("out-without-root", "sqrt", out=lambda s, d, e: d * (s - e) / (s**2 + d**2))
model("skip-with-root", "sqrt", skip=lambda s, d, e: d / ((s - e) ** 2 + d**2).sqrt())
model("skip-data-not-squared", "sqrt", skip=lambda s, d, e: d / ((s - e) ** 2 + d))
model("out-not-shifted", "schedule", "noise-at-t0", out=lambda s, d, e: d * s / (s**2 + d**2).sqrt())
model("skip-not-shifted", "schedule", skip=lambda s, d, e: d**2 / (s**2 + d**2))
model("nothing-shifted", "convention", "noise-at-t0", skip=lambda s, d, e: d**2 / (s**2 + d**2),
      out=lambda s, d, e: d * s / (s**2 + d**2).sqrt())  # fmt: skip
model("boundary-broken", "noise-at-t0", out=lambda s, d, e: d * s / (s**2 + d**2).sqrt())
model("out-negative", "sign", out=lambda s, d, e: -d * (s - e) / (s**2 + d**2).sqrt())
model(
    "data-of-one",
    "data-scaling",
    skip=lambda s, d, e: 1 / ((s - e) ** 2 + 1),
    out=lambda s, d, e: (s - e) / (s**2 + 1).sqrt(),
)


def above(s, e):
    return (s**2 - e**2).sqrt()


def steps(
    id: str, family: str, level: Any = above, after: bool = False, base: Any = None, noise: Any = None
) -> None:
    def consistency_sample(self, function, x, sigmas):
        x0 = function(x, sigmas[0].expand(len(x)))
        kept = None
        for sigma in sigmas[1:]:
            z = torch.randn_like(x) if kept is None or noise is None else kept
            kept = z
            x = (x0 if base is None else base(x, x0)) + level(sigma, 0.002) * z
            x0 = function(x, sigma.expand(len(x)))
        return x0 + level(sigmas[-1], 0.002) * torch.randn_like(x) if after else x0

    wrong(f"cst-{id}", family, Consistency, consistency_sample=consistency_sample)


steps("sampler-whole-level", "variance", level=lambda s, e: s)
steps("sampler-difference", "sqrt", level=lambda s, e: s - e)
steps("sampler-variance", "sqrt", level=lambda s, e: s**2 - e**2)
steps("sampler-sum", "sign", level=lambda s, e: (s**2 + e**2).sqrt())
steps("sampler-ends-noisy", "noise-at-t0", after=True)
steps("sampler-without-noise", "noise-at-t0", level=lambda s, e: 0.0)
steps("sampler-adds-to-state", "parameterization", base=lambda x, x0: x)
steps("sampler-one-noise", "state-broadcast", noise="kept")

# variational diffusion


def gamma(id: str, family: str, *also: str, value: Any, **spoken: Any) -> None:
    wrong(
        f"vdm-{id}",
        family,
        Variational,
        *also,
        spoken=spoken or None,
        vdm_gamma=lambda self, t: value(t, -13.3, 5.0),
    )


gamma("gamma-of-log-snr", "sign", "convention", value=lambda t, a, b: -a - (b - a) * t)
gamma("ends-swapped", "schedule", "convention", value=lambda t, a, b: b + (a - b) * t)
gamma("gamma-halved", "sqrt", value=lambda t, a, b: (a + (b - a) * t) / 2)
gamma("slope-is-the-end", "schedule", value=lambda t, a, b: a + b * t)
gamma("learned-ends-lost", "schedule", gamma="learned", value=lambda t, a, b: a + (b - a) * 1.05 * t**2)
gamma(
    "learned-falls",
    "schedule",
    gamma="learned",
    value=lambda t, a, b: a + (b - a) * (t + torch.sin(2 * math.pi * t)),
)
gamma("rounded", "precision", value=lambda t, a, b: (a + (b - a) * t).half().double())


def vdm(id: str, family: str, *also: str, weight: Any, **spoken: Any) -> None:
    def vdm_loss(self, model, x0, t, noise):
        g = rows(Variational.vdm_gamma(self, t), x0)
        z = torch.sigmoid(-g).sqrt() * x0 + torch.sigmoid(g).sqrt() * noise
        return weight(Variational.vdm_gamma(self, t)) * (model(z, t) - noise).square().flatten(1).sum(1)

    wrong(f"vdm-{id}", family, Variational, *also, spoken=spoken or None, vdm_loss=vdm_loss)


vdm("without-slope", "loss-weight", weight=lambda g: 0.5)
vdm("without-half", "loss-weight", weight=lambda g: 18.3)
vdm("slope-of-snr", "loss-weight", weight=lambda g: 9.15 * torch.exp(-g))
vdm("slope-negative", "sign", weight=lambda g: -9.15)
vdm("of-many-steps", "loss-weight", "convention", vdm_steps=100, weight=lambda g: 9.15)
vdm("without-T", "loss-weight", vdm_steps=100, weight=lambda g: 0.5 * math.expm1(0.183))
vdm("without-exponential", "loss-weight", "convention", vdm_steps=10, weight=lambda g: 5 * 1.83)
vdm("other-difference", "loss-weight", vdm_steps=100, weight=lambda g: -50 * math.expm1(-0.183))
