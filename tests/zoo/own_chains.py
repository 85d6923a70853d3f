"""Mutants of Langevin steps, chains and ladders."""

import torch

from tests.zoo.chapters import Chains, Walk
from tests.zoo.chapters_own import own

# Langevin steps: (x, score, step size, noise)


def walk(id, family, *also, step, **spoken):
    def langevin_step(self, x, score, step_size, noise):
        return step(x, score, step_size, noise)

    own(f"lgv-{id}", family, Walk, *also, spoken=spoken or None, langevin_step=langevin_step)


walk("climbs", "sign", step=lambda x, s, h, z: x - h * s + (2 * h) ** 0.5 * z)
walk("noise-without-two", "variance", step=lambda x, s, h, z: x + h * s + h**0.5 * z)
walk("noise-is-the-step", "sqrt", step=lambda x, s, h, z: x + h * s + h * z)
walk("noise-without-root", "sqrt", step=lambda x, s, h, z: x + h * s + 2 * h * z)
walk("two-outside-the-root", "variance", step=lambda x, s, h, z: x + h * s + 2 * h**0.5 * z)
walk("no-noise", "noise-at-t0", "variance", step=lambda x, s, h, z: x + h * s)
walk("no-score", "parameterization", step=lambda x, s, h, z: x + (2 * h) ** 0.5 * z)
walk(
    "score-halved", "parameterization", "variance", step=lambda x, s, h, z: x + h / 2 * s + (2 * h) ** 0.5 * z
)
walk("other-convention-in-one-step", "variance", "sqrt", step=lambda x, s, h, z: x + h / 2 * s + h**0.5 * z)
walk(
    "temperature-ignored",
    "variance",
    temperature=0.25,
    step=lambda x, s, h, z: x + h * s + (2 * h) ** 0.5 * z,
)
walk(
    "temperature-outside-the-root",
    "variance",
    "sqrt",
    temperature=0.25,
    step=lambda x, s, h, z: x + h * s + 0.25 * (2 * h) ** 0.5 * z,
)
walk(
    "temperature-on-the-score",
    "parameterization",
    "variance",
    temperature=0.25,
    step=lambda x, s, h, z: x + h * s * 0.25 + (0.5 * h) ** 0.5 * z,
)
walk("noise-of-the-first-row", "state-broadcast", step=lambda x, s, h, z: x + h * s + (2 * h) ** 0.5 * z[:1])
walk(
    "one-noise-for-all",
    "state-broadcast",
    step=lambda x, s, h, z: x + h * s + (2 * h) ** 0.5 * torch.randn_like(x[:1]),
)
walk(
    "two-noises",
    "variance",
    "state-broadcast",
    step=lambda x, s, h, z: x + h * s + h**0.5 * (z + torch.randn_like(x)),
)
walk("clipped", "data-scaling", step=lambda x, s, h, z: (x + h * s + (2 * h) ** 0.5 * z).clamp(-1, 1))
walk("score-clipped", "data-scaling", step=lambda x, s, h, z: x + h * s.clamp(-1, 1) + (2 * h) ** 0.5 * z)
walk(
    "in-float32", "precision", "convention", step=lambda x, s, h, z: (x + h * s + (2 * h) ** 0.5 * z).float()
)
walk("decays", "parameterization", step=lambda x, s, h, z: (1 - h) * x + h * s + (2 * h) ** 0.5 * z)


def annealed(id, family, *also, alpha, **spoken):
    def annealed_langevin_step(self, x, score, sigma, sigma_last, epsilon, noise):
        return self.langevin_step(x, score, alpha(epsilon, sigma, sigma_last), noise)

    own(
        f"ald-{id}", family, Walk, *also, spoken=spoken or None, annealed_langevin_step=annealed_langevin_step
    )


annealed("sigma-not-squared", "sqrt", alpha=lambda e, s, r: e * s / r)
annealed("not-divided", "variance", "parameterization", alpha=lambda e, s, r: e * s**2)
annealed("upside-down", "variance", "parameterization", alpha=lambda e, s, r: e * r**2 / s**2)
annealed("same-step-everywhere", "variance", "parameterization", alpha=lambda e, s, r: e + 0 * s)
annealed("last-not-squared", "sqrt", "variance", alpha=lambda e, s, r: e * s**2 / r)
own(
    "ald-eps-for-score",
    "parameterization",
    Walk,
    annealed_langevin_step=lambda self, x, s, a, r, e, z: Walk.annealed_langevin_step(
        self, x, s / a, a, r, e, z
    ),
)
own(
    "ald-score-times-sigma",
    "parameterization",
    Walk,
    annealed_langevin_step=lambda self, x, s, a, r, e, z: Walk.annealed_langevin_step(
        self, x, s * a, a, r, e, z
    ),
)

# chains


def chain(id, family, *also, spoken=None, **methods):
    own(f"chn-{id}", family, Chains, *also, spoken=spoken, **methods)


def plain(change):
    """A Langevin chain whose step is another function of (x, score_fn, h, k)."""

    def langevin_sample(self, score_fn, x, step_size, steps):
        for k in range(steps):
            x = change(x, score_fn, step_size, k)
        return x

    return langevin_sample


def noisy(x, h):
    return (2 * h) ** 0.5 * torch.randn_like(x)


chain(
    "one-step-short",
    "index",
    langevin_sample=lambda self, s, x, h, n: Chains.langevin_sample(self, s, x, h, n - 1),
)
chain(
    "one-step-more",
    "index",
    langevin_sample=lambda self, s, x, h, n: Chains.langevin_sample(self, s, x, h, n + 1),
)
chain("climbs", "sign", langevin_sample=plain(lambda x, s, h, k: x - h * s(x) + noisy(x, h)))
chain(
    "half-convention",
    "variance",
    "sqrt",
    "convention",
    langevin_sample=plain(lambda x, s, h, k: x + h / 2 * s(x) + h**0.5 * torch.randn_like(x)),
)
chain(
    "noise-without-root",
    "sqrt",
    langevin_sample=plain(lambda x, s, h, k: x + h * s(x) + 2 * h * torch.randn_like(x)),
)
chain(
    "noise-once",
    "state-broadcast",
    "variance",
    "noise-at-t0",
    langevin_sample=lambda self, s, x, h, n: same_noise(s, x, h, n),
)
chain(
    "last-step-without-noise", "noise-at-t0", langevin_sample=lambda self, s, x, h, n: quiet_end(s, x, h, n)
)
chain(
    "noise-shared-by-rows",
    "state-broadcast",
    langevin_sample=plain(lambda x, s, h, k: x + h * s(x) + (2 * h) ** 0.5 * torch.randn_like(x[:1])),
)
chain(
    "starts-from-noise",
    "state-broadcast",
    "data-scaling",
    langevin_sample=lambda self, s, x, h, n: Chains.langevin_sample(self, s, torch.randn_like(x), h, n),
)
chain(
    "step-decays",
    "variance",
    "parameterization",
    langevin_sample=plain(lambda x, s, h, k: x + h / (k + 1) * s(x) + noisy(x, h / (k + 1))),
)
chain(
    "clipped",
    "data-scaling",
    langevin_sample=plain(lambda x, s, h, k: (x + h * s(x) + noisy(x, h)).clamp(-1, 1)),
)
chain(
    "score-of-the-first-state",
    "index",
    "parameterization",
    "state-broadcast",
    langevin_sample=lambda self, s, x, h, n: frozen(s, x, h, n),
)
chain(
    "changes-x",
    "state-broadcast",
    langevin_sample=lambda self, s, x, h, n: Chains.langevin_sample(self, s, x.mul_(1), h, n) + 0 * x.add_(1),
)


def same_noise(score_fn, x, h, n):
    z = torch.randn_like(x)
    for _ in range(n):
        x = x + h * score_fn(x) + (2 * h) ** 0.5 * z
    return x


def quiet_end(score_fn, x, h, n):
    for k in range(n):
        x = x + h * score_fn(x) + (noisy(x, h) if k < n - 1 else 0)
    return x


def frozen(score_fn, x, h, n):
    score = score_fn(x)
    for _ in range(n):
        x = x + h * score + noisy(x, h)
    return x


def sweep(alpha=lambda e, s, r: e * s**2 / r**2, label=lambda i, L: i, order=lambda L: range(L), end=None):
    """An annealed chain from its parts."""

    def annealed_langevin(self, score_fn, sigmas, x, epsilon, steps):
        last, L = float(sigmas[-1]), len(sigmas)
        for i in order(L):
            for _ in range(steps):
                h = alpha(epsilon, float(sigmas[i]), last)
                x = x + h * score_fn(x, torch.full((len(x),), label(i, L))) + noisy(x, h)
        return x if end is None else end(x, score_fn, torch.full((len(x),), L - 1), last)

    return annealed_langevin


def ladder(id, family, *also, spoken=None, **parts):
    chain(f"ald-{id}", family, *also, spoken=spoken, annealed_langevin=sweep(**parts))


ladder("from-small-to-large", "index", order=lambda L: reversed(range(L)))
ladder("labels-from-one", "index", label=lambda i, L: i + 1)
ladder("labels-reversed", "index", label=lambda i, L: L - 1 - i)
ladder("last-level-skipped", "index", order=lambda L: range(L - 1))
ladder("first-level-skipped", "index", order=lambda L: range(1, L))
ladder("sigma-not-squared", "sqrt", alpha=lambda e, s, r: e * s / r)
ladder("not-divided", "variance", "parameterization", alpha=lambda e, s, r: e * s**2)
ladder("same-step-everywhere", "variance", "parameterization", alpha=lambda e, s, r: e)
ladder(
    "denoising-with-sigma",
    "sqrt",
    "noise-at-t0",
    spoken={"denoise": True},
    end=lambda x, s, i, r: x + r * s(x, i),
)
ladder("denoising-against", "sign", spoken={"denoise": True}, end=lambda x, s, i, r: x - r**2 * s(x, i))
ladder("denoising-forgotten", "noise-at-t0", "convention", spoken={"denoise": True})
chain(
    "ald-steps-of-the-next-level",
    "index",
    annealed_langevin=lambda self, s, sigmas, x, e, n: late(s, sigmas, x, e, n),
)
chain(
    "ald-start-scaled-twice",
    "data-scaling",
    annealed_langevin=lambda self, s, sigmas, x, e, n: Chains.annealed_langevin(
        self, s, sigmas, sigmas[0] * x, e, n
    ),
)
chain("lad-linear", "schedule", noise_scales=lambda self, a, b, n: torch.linspace(a, b, n).double())
chain(
    "lad-last-missing",
    "schedule",
    noise_scales=lambda self, a, b, n: a * (b / a) ** (torch.arange(n).double() / n),
)
chain(
    "lad-one-too-few",
    "schedule",
    "index",
    noise_scales=lambda self, a, b, n: Chains.noise_scales(self, a, b, n)[:-1],
)
chain(
    "lad-variances",
    "sqrt",
    "schedule",
    noise_scales=lambda self, a, b, n: Chains.noise_scales(self, a, b, n) ** 2,
)
chain(
    "lad-logarithms", "schedule", noise_scales=lambda self, a, b, n: Chains.noise_scales(self, a, b, n).log()
)
chain(
    "lad-karras",
    "schedule",
    noise_scales=lambda self, a, b, n: (torch.linspace(a ** (1 / 7), b ** (1 / 7), n).double()) ** 7,
)


def late(score_fn, sigmas, x, epsilon, steps):
    last = float(sigmas[-1])
    for i in range(len(sigmas)):
        sigma = float(sigmas[min(i + 1, len(sigmas) - 1)])
        for _ in range(steps):
            h = epsilon * sigma**2 / last**2
            x = x + h * score_fn(x, torch.full((len(x),), i)) + noisy(x, h)
    return x
