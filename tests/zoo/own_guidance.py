"""Mutants of weights, ranges of data and guidance."""

import torch

from tests.zoo.chapters import Guides, Ranges, Weights
from tests.zoo.chapters_own import own

# weights


def weights(id, family, *also, weighting="min_snr", form, **spoken):
    def loss_weight(self, t):
        abar = torch.as_tensor(self.abar)[t]
        return form(abar / (1 - abar), abar, torch.as_tensor(self.beta)[t])

    own(
        f"lwt-{id}",
        family,
        Weights,
        *also,
        spoken={"weighting": weighting, **spoken},
        loss_weight=loss_weight,
    )


weights("max-for-min", "loss-weight", form=lambda snr, a, b: snr.clamp(min=5.0) / snr)
weights("of-x0-for-eps", "loss-weight", "parameterization", form=lambda snr, a, b: snr.clamp(max=5.0))
weights(
    "of-v-for-eps", "loss-weight", "parameterization", form=lambda snr, a, b: snr.clamp(max=5.0) / (snr + 1)
)
weights(
    "of-eps-for-v",
    "loss-weight",
    "parameterization",
    form=lambda snr, a, b: snr.clamp(max=5.0) / snr,
    parameterization="v",
)
weights("another-bound", "loss-weight", form=lambda snr, a, b: snr.clamp(max=1.0) / snr)
weights("root-of-snr", "loss-weight", form=lambda snr, a, b: snr.sqrt().clamp(max=5.0) / snr)
weights("option-without-effect", "loss-weight", form=lambda snr, a, b: torch.ones_like(snr))
weights(
    "normalised-over-the-batch",
    "loss-weight",
    "state-broadcast",
    form=lambda snr, a, b: snr.clamp(max=5.0) / snr / (snr.clamp(max=5.0) / snr).mean(),
)
weights(
    "of-the-batch", "state-broadcast", "loss-weight", form=lambda snr, a, b: (snr.clamp(max=5.0) / snr).mean()
)
weights("bound-unweighted", "loss-weight", weighting="vlb", form=lambda snr, a, b: torch.ones_like(snr))
weights(
    "bound-without-half",
    "loss-weight",
    weighting="vlb",
    variance="beta",
    form=lambda snr, a, b: b / ((1 - b) * (1 - a)),
)
weights("bound-with-beta", "loss-weight", weighting="vlb", form=lambda snr, a, b: b / (2 * (1 - b) * (1 - a)))
weights(
    "edm-without-square",
    "loss-weight",
    weighting="edm",
    form=lambda snr, a, b: (1 / snr + 0.25) / (1 / snr * 0.25).sqrt(),
)
weights(
    "truncated-by-min",
    "loss-weight",
    weighting="truncated_snr",
    parameterization="x_0",
    form=lambda snr, a, b: snr.clamp(max=1.0),
)
weights(
    "snr-inverted", "loss-weight", weighting="snr", parameterization="x_0", form=lambda snr, a, b: 1 / snr
)
own(
    "lwt-one-level-early",
    "index",
    Weights,
    "loss-weight",
    spoken={"weighting": "min_snr"},
    loss_weight=lambda self, t: Weights.loss_weight(self, (t - 1).clamp(min=0)),
)

# ranges of data


def ranges(id, *also, family="data-scaling", spoken=None, **methods):
    own(f"scl-{id}", family, Ranges, *also, spoken={"denoiser_range": "[0, 1]", **(spoken or {})}, **methods)


ranges("without-minus-one", normalize_data=lambda self, x: 2 * x)
ranges("centred-only", normalize_data=lambda self, x: x - 0.5)
ranges("bytes", normalize_data=lambda self, x: x / 127.5 - 1)
ranges("inverted", normalize_data=lambda self, x: 1 - 2 * x)
ranges("standardised", normalize_data=lambda self, x: (x - x.mean()) / x.std(correction=0))
ranges("back-unshifted", unnormalize_data=lambda self, x: x / 2)
ranges("back-not-at-all", unnormalize_data=lambda self, x: x)
ranges("back-the-wrong-way", unnormalize_data=lambda self, x: 2 * x - 1)
ranges(
    "latent-divided",
    spoken={"data_range": "latent", "latent_scale": 0.18215},
    normalize_data=lambda self, x: x / 0.18215,
    unnormalize_data=lambda self, x: x / 0.18215,
    score_from_denoiser=None,
)
ranges(
    "latent-shift-after-scale",
    spoken={"data_range": "latent", "latent_scale": 0.36, "latent_shift": 0.12},
    normalize_data=lambda self, x: 0.36 * x - 0.12,
    unnormalize_data=lambda self, x: x / 0.36 + 0.12,
    score_from_denoiser=None,
)
ranges(
    "denoiser-sigma-not-scaled",
    score_from_denoiser=lambda self, D, x, a: (2 * D((x + 1) / 2, a) - 1 - x) / a**2,
)
ranges(
    "denoiser-answer-not-scaled", score_from_denoiser=lambda self, D, x, a: (D((x + 1) / 2, a / 2) - x) / a**2
)
ranges(
    "denoiser-divided-by-its-sigma",
    score_from_denoiser=lambda self, D, x, a: (2 * D((x + 1) / 2, a / 2) - 1 - x) / (a / 2) ** 2,
)
ranges(
    "denoiser-sign",
    "sign",
    family="sign",
    score_from_denoiser=lambda self, D, x, a: (x - 2 * D((x + 1) / 2, a / 2) + 1) / a**2,
)
ranges(
    "denoiser-divided-once",
    "sqrt",
    family="sqrt",
    score_from_denoiser=lambda self, D, x, a: (2 * D((x + 1) / 2, a / 2) - 1 - x) / a,
)

# guidance


def guide(id, family, *also, spoken=None, **methods):
    own(f"gde-{id}", family, Guides, *also, spoken=spoken, **methods)


def shifted(form):
    def guided_eps(self, eps, t, grad, scale):
        return form(eps, grad, scale, self.at(self.abar, t, eps), self.at(self.var, t, eps))

    return guided_eps


guide("eps-sign", "sign", "guidance", guided_eps=shifted(lambda e, g, s, a, v: e + s * (1 - a).sqrt() * g))
guide("eps-without-root", "sqrt", "guidance", guided_eps=shifted(lambda e, g, s, a, v: e - s * (1 - a) * g))
guide("eps-without-factor", "guidance", guided_eps=shifted(lambda e, g, s, a, v: e - s * g))
guide("eps-signal-for-noise", "guidance", guided_eps=shifted(lambda e, g, s, a, v: e - s * a.sqrt() * g))
guide("eps-divided", "guidance", guided_eps=shifted(lambda e, g, s, a, v: e - s * g / (1 - a).sqrt()))
guide("eps-gradient-ignored", "guidance", guided_eps=shifted(lambda e, g, s, a, v: e))
guide("eps-scale-ignored", "guidance", guided_eps=shifted(lambda e, g, s, a, v: e - (1 - a).sqrt() * g))
guide("eps-variance-of-the-mean", "guidance", guided_eps=shifted(lambda e, g, s, a, v: e - s * v * g))
guide(
    "eps-one-level-late",
    "index",
    "guidance",
    guided_eps=lambda self, e, t, g, s: Guides.guided_eps(self, e, (t + 1).clamp(max=self.T - 1), g, s),
)
guide("cfg-swapped", "guidance", cfg=lambda self, u, c, s: c + s * (u - c))
guide("cfg-conditional-only", "guidance", cfg=lambda self, u, c, s: c)
guide("cfg-base-missing", "guidance", cfg=lambda self, u, c, s: s * (c - u))
guide("cfg-ho-undeclared", "guidance", "convention", cfg=lambda self, u, c, s: (1 + s) * c - s * u)
guide("cfg-imagen-undeclared", "guidance", "convention", spoken={"cfg": "ho"})
guide("cfg-added", "sign", "guidance", cfg=lambda self, u, c, s: u + s * (c + u))
guide("cfg-scale-squared", "guidance", "sqrt", cfg=lambda self, u, c, s: u + s**2 * (c - u))
guide(
    "cfg-rescaled",
    "guidance",
    "data-scaling",
    "state-broadcast",
    cfg=lambda self, u, c, s: (u + s * (c - u)) * c.std() / (u + s * (c - u)).std().clamp(min=1e-30),
)
guide(
    "cfg-step-renoised-unconditionally",
    "guidance",
    "convention",
    cfg_step=lambda self, x, t, s, u, c, w: renoised(self, x, t, s, self.cfg(u, c, w), u),
)
guide(
    "cfg-step-renoised-conditionally",
    "guidance",
    cfg_step=lambda self, x, t, s, u, c, w: renoised(self, x, t, s, self.cfg(u, c, w), c),
)
guide("cfg-step-unguided", "guidance", cfg_step=lambda self, x, t, s, u, c, w: renoised(self, x, t, s, c, c))
guide("observation-sign", "sign", "guidance", observation_gradient=lambda self, x, y, a: (x - y) / a**2)
guide("observation-std", "sqrt", "guidance", observation_gradient=lambda self, x, y, a: (y - x) / a)
guide("observation-unweighted", "guidance", observation_gradient=lambda self, x, y, a: y - x)
guide("observation-twice", "guidance", observation_gradient=lambda self, x, y, a: 2 * (y - x) / a**2)


def renoised(self, x, t, s, eps, again):
    abar_t, abar_s = self.level(t, x), self.level(s, x)
    return abar_s.sqrt() * (x - (1 - abar_t).sqrt() * eps) / abar_t.sqrt() + (1 - abar_s).sqrt() * again


def classified(form):
    """A guided mean from (mean, variance, gradient, scale, x_t, t, eps, gradient_fn)."""

    def classifier_guided_mean(self, x_t, t, eps, gradient_fn, scale):
        return form(self, self.mean_of(x_t, t, eps), self.at(self.var, t, x_t), gradient_fn, scale, x_t, t)

    return classifier_guided_mean


guide(
    "mean-std-for-variance",
    "sqrt",
    "guidance",
    "variance",
    classifier_guided_mean=classified(lambda self, m, v, g, s, x, t: m + s * v.sqrt() * g(x, t)),
)
guide(
    "mean-without-variance",
    "guidance",
    "variance",
    classifier_guided_mean=classified(lambda self, m, v, g, s, x, t: m + s * g(x, t)),
)
guide(
    "mean-sign",
    "sign",
    "guidance",
    classifier_guided_mean=classified(lambda self, m, v, g, s, x, t: m - s * v * g(x, t)),
)
guide(
    "mean-scale-ignored",
    "guidance",
    classifier_guided_mean=classified(lambda self, m, v, g, s, x, t: m + v * g(x, t)),
)
guide(
    "mean-gradient-ignored", "guidance", classifier_guided_mean=classified(lambda self, m, v, g, s, x, t: m)
)
guide(
    "mean-level-early",
    "index",
    "guidance",
    classifier_guided_mean=classified(lambda self, m, v, g, s, x, t: m + s * v * g(x, t - 1)),
)
guide(
    "mean-at-predicted-x0",
    "guidance",
    classifier_guided_mean=classified(lambda self, m, v, g, s, x, t: m + s * v * g(2 * x - m, t)),
)
guide(
    "mean-where-x-is-declared",
    "guidance",
    spoken={"guidance_point": "x_t"},
    classifier_guided_mean=classified(lambda self, m, v, g, s, x, t: m + s * v * g(m, t)),
)
guide(
    "mean-one-gradient-for-all",
    "state-broadcast",
    "guidance",
    classifier_guided_mean=classified(
        lambda self, m, v, g, s, x, t: m + s * v * g(x, t).mean(0, keepdim=True)
    ),
)


def precision(id, *also, form):
    """A posterior's precision from (unit, hessian, abar)."""

    def posterior_precision(self, hessian, t):
        unit = torch.eye(hessian.shape[-1], dtype=hessian.dtype)
        return form(unit, hessian, self.at(self.abar, t, hessian))

    guide(f"precision-{id}", "likelihood", "guidance", *also, posterior_precision=posterior_precision)


precision("is-the-covariance", form=lambda unit, H, a: (1 - a) / a * (unit + (1 - a) * H))
precision("hessian-sign", form=lambda unit, H, a: a / (1 - a) * torch.linalg.inv(unit - (1 - a) * H))
precision("hessian-ignored", form=lambda unit, H, a: a / (1 - a) * unit + 0 * H)
precision("signal-ignored", form=lambda unit, H, a: torch.linalg.inv(unit + (1 - a) * H) / (1 - a))
precision("diagonal", form=lambda unit, H, a: a / (1 - a) * torch.linalg.inv(unit + (1 - a) * H) * unit)
