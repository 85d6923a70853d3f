"""Mutants of kernels, equations, steps and samplers of continuous time: realistic mistakes on no list."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch

from refdiff.oracle.target import PORTS
from tests.zoo.base import Registry
from tests.zoo.continuous import BETA_MAX, BETA_MIN, Chain, Kernel, Matching, Steps, rows

MORE_TIME = Registry()
# Euler and Maruyama's step is made of these
SLOPE = BETA_MAX - BETA_MIN


def wrong(
    id: str, family: str, topic: type, *also: str, beside: tuple[str, ...] = (),
    spoken: dict[str, Any] | None = None, **methods: Any,
) -> None:  # fmt: skip
    """A mutant of a topic; of its ports only the wrong ones and what they are judged beside are offered."""
    changes = {"dialect": topic.dialect.but(**spoken)} if spoken else {}
    kept = {*methods, *beside}
    hidden = {port: None for port in PORTS if port in dir(topic) and port not in kept}
    cls = type(id.title().replace("-", ""), (topic,), hidden | methods | changes)
    MORE_TIME(f"own-{id}", family, *also)(cls)


# kernels


def kernel(id: str, family: str, *also: str, **methods: Any) -> None:
    wrong(f"ker-{id}", family, Kernel, *also, **methods)


def vp(integral=None, scale=lambda b: torch.exp(-b / 2), std=lambda b: torch.sqrt(-torch.expm1(-b))):
    def marginal(self, t):
        total = (integral or (lambda t: BETA_MIN * t + SLOPE * t**2 / 2))(t)
        return scale(total), std(total)

    return marginal


kernel("variance-for-std", "sqrt", "convention", marginal=vp(std=lambda b: -torch.expm1(-b)))
kernel("scale-not-halved", "sqrt", "schedule", marginal=vp(scale=lambda b: torch.exp(-b)))
kernel("integral-without-half", "schedule", marginal=vp(lambda t: t * (BETA_MIN + SLOPE * t)))
kernel("integral-is-the-rate", "schedule", marginal=vp(lambda t: BETA_MIN + SLOPE * t))
kernel("integral-halved", "schedule", marginal=vp(lambda t: (BETA_MIN * t + SLOPE * t**2 / 2) / 2))
kernel("min-and-max-swapped", "schedule", marginal=vp(lambda t: BETA_MAX * t - SLOPE * t**2 / 2))
kernel("time-runs-back", "schedule", "sign", "convention", marginal=lambda self, t: vp()(self, 1 - t))
kernel(
    "std-and-scale-swapped",
    "schedule",
    "variance",
    "parameterization",
    marginal=lambda self, t: vp()(self, t)[::-1],
)
kernel("std-from-scale", "sqrt", marginal=lambda self, t: (vp()(self, t)[0], (1 - vp()(self, t)[0]).sqrt()))
kernel("on-a-grid", "index", marginal=lambda self, t: vp()(self, (t * 999).round() / 999))
kernel("index-floored", "index", marginal=lambda self, t: vp()(self, (t * 1000).long() / 1000))
kernel("atan", "schedule", spoken={"process": "cosine"}, model_time=lambda self, sigma: torch.atan(sigma))
kernel("model-time-of-inverse", "schedule", spoken={"process": "cosine"},
       model_time=lambda self, sigma: 2 / math.pi * torch.atan(1 / sigma))  # fmt: skip
kernel(
    "first-time-for-all",
    "state-broadcast",
    "schedule",
    marginal=lambda self, t: vp()(self, t[:1].expand(len(t))),
)


def exploding(std):
    def marginal(self, t):
        return torch.ones_like(t), std(t, 0.01, 50.0)

    return marginal


VE = {"process": "ve"}
kernel("ve-linear", "schedule", spoken=VE, marginal=exploding(lambda t, a, b: a + (b - a) * t))
kernel("ve-swapped", "schedule", spoken=VE, marginal=exploding(lambda t, a, b: b * (a / b) ** t))
kernel(
    "ve-variance",
    "sqrt",
    "convention",
    spoken=VE,
    marginal=exploding(lambda t, a, b: (a * (b / a) ** t) ** 2),
)
kernel("ve-without-log-ratio", "schedule", spoken=VE, diffusion=lambda self, t: 0.01 * 5000**t)
kernel("ve-log-without-two", "variance", "schedule", spoken=VE,
       diffusion=lambda self, t: 0.01 * 5000**t * math.log(5000) ** 0.5)  # fmt: skip
kernel("ve-log-base-ten", "schedule", spoken=VE,
       diffusion=lambda self, t: 0.01 * 5000**t * (2 * math.log10(5000)) ** 0.5)  # fmt: skip

# equations


def equation(id: str, family: str, *also: str, **methods: Any) -> None:
    wrong(f"sde-{id}", family, Kernel, *also, **methods)


def pull(x, t):
    return -rows(BETA_MIN + SLOPE * t, x) / 2 * x


def g2(x, t):
    return rows(BETA_MIN + SLOPE * t, x)


equation("drift-without-rate", "schedule", drift=lambda self, x, t: -x / 2)
equation("drift-without-half", "schedule", drift=lambda self, x, t: 2 * pull(x, t))
equation("drift-pushes", "sign", drift=lambda self, x, t: -pull(x, t))
equation("drift-of-root", "schedule", drift=lambda self, x, t: -rows(BETA_MIN + SLOPE * t, x).sqrt() / 2 * x)
equation("drift-on-a-grid", "index", drift=lambda self, x, t: pull(x, (t * 1000).floor() / 1000))
equation("g-squared", "sqrt", "convention", diffusion=lambda self, t: BETA_MIN + SLOPE * t)
equation("g-doubled", "variance", diffusion=lambda self, t: 2 * (BETA_MIN + SLOPE * t).sqrt())
equation("g-of-half-beta", "variance", diffusion=lambda self, t: ((BETA_MIN + SLOPE * t) / 2).sqrt())
equation("g-does-not-fit", "discretization", beside=("marginal", "drift"),
         diffusion=lambda self, t: (2 * (BETA_MIN + SLOPE * t)).sqrt())  # fmt: skip
equation(
    "drift-does-not-fit",
    "discretization",
    beside=("marginal", "diffusion"),
    drift=lambda self, x, t: 2 * pull(x, t),
)
equation("rates-per-step", "discretization", "schedule", "convention", beside=("marginal",),
         drift=lambda self, x, t: pull(x, t) / 1000,
         diffusion=lambda self, t: ((BETA_MIN + SLOPE * t) / 1000).sqrt())  # fmt: skip


def reverse(id: str, family: str, *also: str, drift: Any, port: str = "reverse_drift") -> None:
    equation(id, family, *also, **{port: lambda self, x, t, s: drift(pull(x, t), g2(x, t), s, x, t)})


reverse("reverse-score-added", "sign", drift=lambda f, g, s, x, t: f + g * s)
reverse("reverse-f-flipped", "sign", drift=lambda f, g, s, x, t: -f - g * s)
reverse("reverse-all-flipped", "sign", drift=lambda f, g, s, x, t: -f + g * s)
reverse("reverse-g-for-g2", "sqrt", drift=lambda f, g, s, x, t: f - g.sqrt() * s)
reverse("reverse-halved", "variance", drift=lambda f, g, s, x, t: f - g / 2 * s)
reverse("reverse-without-drift", "schedule", drift=lambda f, g, s, x, t: -g * s)
reverse(
    "reverse-takes-eps", "parameterization", drift=lambda f, g, s, x, t: f + g * s / rows(vp()(None, t)[1], x)
)
reverse(
    "reverse-divided-by-variance",
    "variance",
    drift=lambda f, g, s, x, t: f - g * s / rows(vp()(None, t)[1], x) ** 2,
)
reverse("ode-without-half", "variance", port="pf_ode_drift", drift=lambda f, g, s, x, t: f - g * s)
reverse("ode-all-halved", "schedule", port="pf_ode_drift", drift=lambda f, g, s, x, t: (f - g * s) / 2)
reverse("ode-score-added", "sign", port="pf_ode_drift", drift=lambda f, g, s, x, t: f + g / 2 * s)
reverse("ode-g-for-g2", "sqrt", port="pf_ode_drift", drift=lambda f, g, s, x, t: f - g.sqrt() / 2 * s)
reverse("ode-flows-back", "sign", port="pf_ode_drift", drift=lambda f, g, s, x, t: -f + g / 2 * s)
reverse("ode-without-score", "variance", port="pf_ode_drift", drift=lambda f, g, s, x, t: f + 0 * s)
reverse(
    "ode-clipped", "data-scaling", port="pf_ode_drift", drift=lambda f, g, s, x, t: f - g / 2 * s.clamp(-9, 9)
)
reverse(
    "ode-mixed-rows",
    "state-broadcast",
    port="pf_ode_drift",
    drift=lambda f, g, s, x, t: f - g / 2 * s.flip(-1),
)
equation("halfway-broken", "discretization", beside=("drift", "reverse_drift"),
         pf_ode_drift=lambda self, x, t, s: pull(x, t) - g2(x, t) * s)  # fmt: skip

# steps


def step(id: str, family: str, *also: str, move: Any, **spoken: Any) -> None:
    """move(x, f, g², h, score, noise, t, s)"""

    def sde_step(self, x, t, s, score, noise):
        return move(x, pull(x, t), g2(x, t), rows(t - s, x), score, noise, t, s)

    wrong(f"stp-{id}", family, Steps, *also, spoken=spoken or None, sde_step=sde_step)


def euler(x, f, g, h, s, z, factor=1.0):
    return x - (f - g * s) * h + factor * (g * h).sqrt() * z


step("forward", "sign", move=lambda x, f, g, h, s, z, *at: x + (f - g * s) * h + (g * h).sqrt() * z)
step("dt-for-its-root", "sqrt", move=lambda x, f, g, h, s, z, *at: x - (f - g * s) * h + g.sqrt() * h * z)
step("noise-without-dt", "sqrt", move=lambda x, f, g, h, s, z, *at: x - (f - g * s) * h + g.sqrt() * z)
step("g2-for-g", "sqrt", move=lambda x, f, g, h, s, z, *at: x - (f - g * s) * h + g * h.sqrt() * z)
step("no-noise", "noise-at-t0", "variance", move=lambda x, f, g, h, s, z, *at: x - (f - g * s) * h)
step(
    "ode-with-noise",
    "variance",
    move=lambda x, f, g, h, s, z, *at: x - (f - g / 2 * s) * h + (g * h).sqrt() * z,
)
step(
    "without-dt",
    "discretization",
    "schedule",
    move=lambda x, f, g, h, s, z, *at: x - (f - g * s) + g.sqrt() * z,
)
step("f-flipped", "sign", move=lambda x, f, g, h, s, z, *at: x - (-f - g * s) * h + (g * h).sqrt() * z)
step("noise-doubled", "variance", move=lambda x, f, g, h, s, z, *at: euler(x, f, g, h, s, z, 2.0))
step("noise-of-next-level", "index", "variance",
     move=lambda x, f, g, h, s, z, t, u: x - (f - g * s) * h + (g2(x, u) * h).sqrt() * z)  # fmt: skip
step(
    "rates-of-next-level",
    "index",
    move=lambda x, f, g, h, s, z, t, u: euler(x, pull(x, u), g2(x, u), h, s, z),
)
step("one-noise-for-all", "state-broadcast",
     move=lambda x, f, g, h, s, z, *at: euler(x, f, g, h, s, torch.randn_like(x[:1])))  # fmt: skip
step("argument-and-own-noise", "variance", "state-broadcast",
     move=lambda x, f, g, h, s, z, *at: euler(x, f, g, h, s, z + torch.randn_like(x)))  # fmt: skip
step("bfloat16-times", "precision", move=lambda x, f, g, h, s, z, t, u: euler(
    x, pull(x, t.bfloat16().double()), g2(x, t.bfloat16().double()),
    rows(t.bfloat16().double() - u.bfloat16().double(), x), s, z))  # fmt: skip
step("clipped", "data-scaling", move=lambda x, f, g, h, s, z, *at: euler(x, f, g, h, s, z).clamp(-10, 10))
step("other-predictor", "discretization", "convention", "variance", predictor="ancestral",
     move=lambda x, f, g, h, s, z, *at: euler(x, f, g, h, s, z))  # fmt: skip


def exact(t, s):
    """a and v of the transition."""
    total = BETA_MIN * (t - s) + SLOPE * (t**2 - s**2) / 2
    return torch.exp(-total / 2), -torch.expm1(-total)


def ancestral(id: str, family: str, *also: str, move: Any, **spoken: Any) -> None:
    """move(x, a, v, var_s / var_t, score, noise)"""

    def shift(x, f, g, h, score, noise, t, s):
        a, v = (rows(one, x) for one in exact(t, s))
        kept = rows(vp()(None, s)[1] ** 2 / vp()(None, t)[1] ** 2, x)
        return move(x, a, v, kept, score, noise)

    step(id, family, *also, move=shift, **{"predictor": "ancestral", **spoken})


ancestral(
    "anc-variance-of-step",
    "variance",
    "convention",
    move=lambda x, a, v, k, s, z: (x + v * s) / a + v.sqrt() * z,
)
ancestral("anc-not-divided", "schedule", "sqrt", move=lambda x, a, v, k, s, z: x + v * s + (v * k).sqrt() * z)
ancestral(
    "anc-times-a", "schedule", "sqrt", move=lambda x, a, v, k, s, z: a * (x + v * s) + (v * k).sqrt() * z
)
ancestral("anc-divided-twice", "sqrt", move=lambda x, a, v, k, s, z: (x + v * s) / a**2 + (v * k).sqrt() * z)
ancestral("anc-variance-for-std", "sqrt", move=lambda x, a, v, k, s, z: (x + v * s) / a + v * k * z)
ancestral("anc-score-subtracted", "sign", move=lambda x, a, v, k, s, z: (x - v * s) / a + (v * k).sqrt() * z)
ancestral("rd-one-over-a", "discretization", "convention", "variance", predictor="reverse_diffusion",
          move=lambda x, a, v, k, s, z: x / a + v * s + v.sqrt() * z)  # fmt: skip
ancestral("rd-keeps-x", "schedule", "discretization", predictor="reverse_diffusion",
          move=lambda x, a, v, k, s, z: x + v * s + v.sqrt() * z)  # fmt: skip
ancestral("rd-variance-for-std", "sqrt", predictor="reverse_diffusion",
          move=lambda x, a, v, k, s, z: (2 - a) * x + v * s + v * z)  # fmt: skip
wrong("stp-inverted-root", "precision", Steps,
      sde_invert=lambda self, x, s, t, score, z: x + (2 * rows(s - t, x)).expm1().sqrt() * z)  # fmt: skip

# the corrector


def corrector(id: str, family: str, *also: str, size: Any = None, move: Any = None, **spoken: Any) -> None:
    methods: dict[str, Any] = {}
    if size is not None:
        methods["corrector_step_size"] = lambda self, s, z, r: size(
            s.flatten(1).norm(dim=1), z.flatten(1).norm(dim=1), r
        )
    if move is not None:
        methods["corrector_step"] = lambda self, x, s, z, r: move(
            x, rows(2 * (r * z.flatten(1).norm(dim=1) / s.flatten(1).norm(dim=1)) ** 2, x), s, z
        )
    wrong(f"cor-{id}", family, Steps, *also, spoken=spoken or None, **methods)


corrector("without-two", "variance", size=lambda s, z, r: (r * z / s) ** 2)
corrector("not-squared", "sqrt", size=lambda s, z, r: 2 * r * z / s)
corrector("snr-outside", "sqrt", size=lambda s, z, r: 2 * r * (z / s) ** 2)
corrector("upside-down", "variance", size=lambda s, z, r: 2 * (r * s / z) ** 2)
corrector(
    "over-the-batch",
    "convention",
    "state-broadcast",
    size=lambda s, z, r: 2 * (r * z.mean() / s.mean()).expand(len(s)) ** 2,
)
corrector("noise-without-two", "variance", move=lambda x, e, s, z: x + e * s + e.sqrt() * z)
corrector("noise-not-rooted", "sqrt", move=lambda x, e, s, z: x + e * s + 2 * e * z)
corrector("descends", "sign", move=lambda x, e, s, z: x - e * s + (2 * e).sqrt() * z)
corrector("half-the-score", "variance", move=lambda x, e, s, z: x + e / 2 * s + (2 * e).sqrt() * z)

# chains


def chain(id: str, family: str, *also: str, betas: Any, **spoken: Any) -> None:
    wrong(f"chn-{id}", family, Chain, *also, spoken=spoken or None, discretize=lambda self, n: betas(self, n))


GRID = {"step_beta": "rate"}
chain("one-too-many", "index", betas=lambda self, n: Chain.discretize(self, n + 1))
chain(
    "rates-undivided",
    "discretization",
    **GRID,
    betas=lambda self, n: self.rate(torch.arange(1, n + 1).double() / n),
)
chain(
    "grid-from-zero",
    "index",
    "convention",
    **GRID,
    betas=lambda self, n: self.rate(torch.arange(n).double() / (n - 1)) / n,
)
chain(
    "over-n-minus-one",
    "schedule",
    "discretization",
    **GRID,
    betas=lambda self, n: self.rate(torch.arange(1, n + 1).double() / n) / (n - 1),
)
chain("alphas", "schedule", betas=lambda self, n: 1 - Chain.discretize(self, n))
chain("roots", "sqrt", betas=lambda self, n: Chain.discretize(self, n).sqrt())

# the loss


def matching(
    id: str,
    family: str,
    *also: str,
    loss: Any = None,
    label: Any = lambda t: t,
    state: Any = None,
    **spoken: Any,
) -> None:
    """loss(score, noise, std, g²) and what the model is asked."""

    def score_loss(self, score_fn, x0, t, noise):
        scale, std = (rows(part, x0) for part in vp()(None, t))
        x_t = (state or (lambda x0, a, s, z: a * x0 + s * z))(x0, scale, std, noise)
        value = (loss or (lambda s, z, std, g: std * s + z))(score_fn(x_t, label(t)), noise, std, g2(x0, t))
        return value.square().flatten(1).mean(1)

    wrong(f"dsm-{id}", family, Matching, *also, spoken=spoken or None, score_loss=score_loss)


matching("adds-nothing", "sign", loss=lambda s, z, std, g: std * s - z)
matching("without-weight", "loss-weight", "convention", loss=lambda s, z, std, g: s + z / std)
matching("over-variance", "sqrt", "loss-weight", loss=lambda s, z, std, g: std * (s + z / std**2))
matching("weight-std", "loss-weight", loss=lambda s, z, std, g: (std * s + z) / std.sqrt())
matching("weight-g", "loss-weight", score_weight="likelihood", loss=lambda s, z, std, g: g * (s + z / std))
matching(
    "weight-of-likelihood-missing",
    "loss-weight",
    "convention",
    score_weight="likelihood",
    loss=lambda s, z, std, g: s + z / std,
)
matching("aims-at-noise", "parameterization", loss=lambda s, z, std, g: s - z)
matching("state-of-variance", "sqrt", state=lambda x0, a, s, z: a * x0 + s**2 * z)
matching("state-not-scaled", "data-scaling", state=lambda x0, a, s, z: x0 + s * z)
matching("label-cut", "precision", label=lambda t: t.long())
matching("label-of-steps", "convention", "time-embedding", label=lambda t: 999 * t)
matching("label-turned", "schedule", label=lambda t: 1 - t)
matching("label-constant", "time-embedding", label=lambda t: 0 * t + 0.5)
wrong("dsm-mean-of-batch", "loss-weight", Matching, "state-broadcast",
      score_loss=lambda self, *given: Matching.score_loss(self, *given).mean())  # fmt: skip
wrong("dsm-mean-of-batch-for-each", "loss-weight", Matching, "state-broadcast",
      score_loss=lambda self, *given: Matching.score_loss(self, *given).mean().expand(5))  # fmt: skip

# samplers


def sampler(id: str, family: str, *also: str, port: str = "sde_sample", run: Any, **spoken: Any) -> None:
    wrong(f"smp-{id}", family, Steps, *also, spoken=spoken or None, **{port: run})


def em(score_fn, x, t, s, noise, ask=None, h=None):
    h = (t - s) if h is None else h
    ask = t if ask is None else ask
    at = torch.full((len(x),), float(t), dtype=x.dtype)
    score = score_fn(x, torch.full((len(x),), float(ask), dtype=x.dtype))
    return euler(x, pull(x, at), g2(x, at), torch.as_tensor(h), score, noise)


def plain(
    pick=lambda z, i: z[i],
    ask=lambda times, i: times[i],
    h=lambda times, i: times[i] - times[i + 1],
    steps=None,
):
    def run(self, score_fn, x, times, noises):
        for i in (steps or range)(len(times) - 1):
            x = em(score_fn, x, times[i], times[i + 1], pick(noises, i), ask(times, i), h(times, i))
        return x

    return run


sampler("noise-drawn-once", "state-broadcast", run=plain(pick=lambda z, i: z[0]))
sampler("noise-of-next-interval", "state-broadcast", run=plain(pick=lambda z, i: z[min(i + 1, len(z) - 1)]))
sampler("noises-from-the-end", "state-broadcast", run=plain(pick=lambda z, i: z[-1 - i]))
sampler("noise-forgotten", "noise-at-t0", run=plain(pick=lambda z, i: 0 * z[i]))
sampler("score-of-next-time", "index", run=plain(ask=lambda t, i: t[i + 1]))
sampler("score-of-first-time", "index", run=plain(ask=lambda t, i: t[0]))
sampler("labels-of-steps", "convention", "time-embedding", "index", run=plain(ask=lambda t, i: 999 * t[i]))
sampler("labels-cut", "precision", run=plain(ask=lambda t, i: t[i].long()))
sampler("dt-is-one-over-n", "discretization", run=plain(h=lambda t, i: 1 / (len(t) - 1)))
sampler("dt-is-the-mean", "discretization", run=plain(h=lambda t, i: (t[0] - t[-1]) / (len(t) - 1)))
sampler("last-step-missing", "noise-at-t0", "discretization", run=plain(steps=lambda n: range(n - 1)))
sampler("first-step-missing", "index", "discretization", run=plain(steps=lambda n: range(1, n)))
sampler(
    "last-step-mean",
    "noise-at-t0",
    "convention",
    run=plain(pick=lambda z, i: z[i] if i + 1 < len(z) else 0 * z[i]),
)
sampler("noise-shared-by-rows", "state-broadcast", run=plain(pick=lambda z, i: torch.randn_like(z[i][:1])))
sampler("uniform-noise", "state-broadcast", run=plain(pick=lambda z, i: torch.rand_like(z[i])))
sampler("goes-forward", "sign", "discretization", run=lambda self, score_fn, x, times, noises: plain(
    h=lambda t, i: t[i] - t[i + 1])(self, lambda x, t: -score_fn(x, t), x, times, noises))  # fmt: skip
sampler("law-of-half-the-noise", "variance", "discretization", run=plain(pick=lambda z, i: 0.7 * z[i]))


def right(x, e, s, z):
    return x + e * s + (2 * e).sqrt() * z


def pc(correct=right, own=lambda a, b, i: (a[i], b[i]), at=lambda t, i: t[i], order="before"):
    def run(self, score_fn, x, times, snr, noises, corrector_noises):
        for i, (t, s) in enumerate(itertools.pairwise(times)):
            mine, theirs = own(noises, corrector_noises, i)
            for part in ("correct", "predict") if order == "before" else ("predict", "correct"):
                if part == "predict":
                    x = em(score_fn, x, t, s, mine)
                elif correct is not None:
                    score = score_fn(x, at(times, i).expand(len(x)))
                    lengths = [one.flatten(1).norm(dim=1) for one in (theirs, score)]
                    x = correct(x, rows(2 * (snr * lengths[0] / lengths[1]) ** 2, x), score, theirs)
        return x

    return run


def corrected(id: str, family: str, *also: str, **how: Any) -> None:
    sampler(f"pc-{id}", family, *also, port="predictor_corrector", run=pc(**how))


corrected("noise-without-two", "variance", correct=lambda x, e, s, z: x + e * s + e.sqrt() * z)
corrected("noise-shared", "state-broadcast", own=lambda a, b, i: (a[i], a[i]))
corrected("noises-swapped", "state-broadcast", own=lambda a, b, i: (b[i], a[i]))
corrected("at-next-time", "index", at=lambda t, i: t[i + 1])
corrected("after", "convention", "discretization", order="after", at=lambda t, i: t[i + 1])
corrected("no-corrector", "discretization", "index", correct=None)
corrected("descends", "sign", correct=lambda x, e, s, z: x - e * s + (2 * e).sqrt() * z)
corrected("without-noise", "noise-at-t0", correct=lambda x, e, s, z: x + e * s)
