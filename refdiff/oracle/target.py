"""What a foreign implementation offers (Target) and the conventions it follows (Dialect)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refdiff.schedule import Schedule

CHOICES: dict[str, tuple[Any, ...]] = {
    "backend": ("torch", "numpy", "jax"),
    "dtype": ("float64", "float32"),
    "tables": (None, "float64", "float32"),
    "index_origin": (0, 1),
    "alpha_bar_0": ("one", "first"),
    "variance": ("beta_tilde", "beta", "beta_first_tilde", "learned_range", "learned"),
    "parameterization": ("eps", "x_0", "v", "score"),
    "eta": ("eta", "eta_squared"),
    "spacing": (None, "leading", "linspace", "trailing", "quadratic"),
    "space": ("vp", "ve"),
    "loss_reduction": ("mean", "sum", "half_mean", "half_sum"),
    "notation": ("ho", "ddim", "su"),
    "sampler": (None, "ddpm", "ddim"),
    "energy_sign": ("energy", "log_density"),
    "langevin": ("eta", "half", "half_square"),
    "noise_label": ("index", "sigma"),
    "denoise": (False, True),
    "score_reduction": ("half_sum", "sum", "half_mean", "mean"),
    "sliced": ("plain", "reduced"),
    "dsm_weight": ("one", "sigma_squared"),
    "likelihood": ("nats", "bits", "nats_per_dim", "bits_per_dim"),
    "decoder": ("discretized", "continuous"),
    "normal_cdf": ("exact", "tanh"),
    "data_range": ("[-1, 1]", "[0, 1]", "latent"),
    "denoiser_range": ("[-1, 1]", "[0, 1]"),
    "weighting": (
        "one", "snr", "snr_plus_one", "truncated_snr", "min_snr", "soft_min_snr", "edm", "vlb", "ldm",
    ),
    "cfg": ("imagen", "ho"),
    "renoise": ("guided", "unconditional"),
    "guidance_point": (None, "x_t", "mean"),
    # continuous time
    "time_direction": ("noise", "data"),
    "marginal": ("std", "variance"),
    "diffusion": ("g", "g_squared"),
    "prediction": ("score", "eps", "x_0"),
    "reverse_time": ("t", "tau"),
    "predictor": ("euler_maruyama", "reverse_diffusion", "ancestral", None),
    "step_beta": ("kernel", "rate"),
    "grid": ("N", "N-1", "wide"),
    "last_step": ("noise", "mean"),
    "corrector_norm": ("sample", "batch"),
    "corrector": ("before", "after"),
    "score_weight": ("variance", "one", "likelihood"),
    "flow_noise": ("std", "twice_std", "g_squared"),
    "shift": ("factor", "log"),
    "consistency": ("shifted", "edm"),
    "gamma": ("linear", "learned"),
    "gamma_sign": ("minus_log_snr", "log_snr"),
    "solver_space": ("vp", "ve", "flow"),
    "solver_grid": ("any", "log_snr", "sigma", "time"),
    "solver_end": ("data", "level"),
    "solver_noise": (None, False, True),
    "embedding_spacing": ("half_minus_one", "half", "octaves"),
    "embedding_order": ("sin_cos", "cos_sin"),
    "embedding_layout": ("concatenated", "interleaved"),
}  # fmt: skip
POSITIVE = (
    "clip", "temperature", "probability_floor", "weight_bound", "sigma_data", "latent_scale", "time_scale",
    "sigma_min", "ode_tolerance", "embedding_period", "embedding_scale",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Dialect:
    """The conventions of a target. A convention that is declared is never a failure.

    Args:
        schedule: the reference schedule: None (linear, beta from 1e-4 to 0.02), a name of
            ``refdiff.schedule.SCHEDULES``, a ``Schedule``, or the T numbers beta_1..beta_T.
        T: number of steps of a schedule given by name (or by None).
        backend: the arrays that methods take: torch, numpy or jax.
        dtype: dtype of those arrays: float64 or float32.
        tables: precision that the tables must have; None accepts float32 or better, and names it.
        batched_t: whether t may be an array (B,) with different levels; else an int.
        index_origin: the target's own name of the paper's level 1: 1, or 0 (then data is level -1).
        alpha_bar_0: alpha_bar of data in a step that ends at data: "one", or "first" (alpha_bar_1 stands in).
        variance: variance of ``ddpm_step`` and of an ancestral sampler: beta_tilde, beta (both without
            noise at
            t = 1), beta_first_tilde (its value at t = 1 is the one of t = 2, and no noise is added there),
            learned_range or learned (the model output has twice the channels; the second half v in [-1, 1]
            interpolates the log variance between beta_tilde and beta, or is the log variance).
        parameterization: what the argument ``eps`` of the steps is, and what models return.
        eta: meaning of the argument eta of ``ddim_step``: "eta" (sigma = eta * sigma_DDPM), or "eta_squared".
        spacing, offset: the levels that an n-step sampler visits (see ``refdiff.schedule.subsequence``);
            None accepts each of the known ones, and names it.
        space: "vp", or "ve": states are x / sqrt(alpha_bar). The model always sees the VP state.
        clip: the bound to which x_0 is clipped inside a step; None: not clipped.
        loss_reduction: over the dimensions of a sample: mean, sum, half_mean, half_sum.
        notation: "ho"; "ddim" (that paper's alpha is alpha_bar); "su" (alphas_cumprod is sqrt(alpha_bar),
            betas is
            sqrt(beta)).
        sampler: kind of ``sample``: "ddpm", "ddim", or None: any of them, and the kind is named.
        energy_sign: what ``energy`` answers: "energy" (p = exp(-E) / Z), or "log_density".
        temperature: factor of the variance of Langevin's noise.
        langevin: step of size h along the score s with noise z: "eta" (x + h s + sqrt(2 h) z), "half"
            (x + h/2 s + sqrt(h) z) or "half_square" (x + h²/2 s + h z). The annealed step takes
            epsilon sigma_i² / sigma_L² for h, and its root for "half_square".
        noise_label: what a score of several levels is asked with: "index" (0, 1, ...), or "sigma" itself.
        denoise: whether ``annealed_langevin`` ends with x + sigma_L² s.
        score_reduction: of the score-matching losses: half_sum (|s|²/2 + tr), sum (twice that), half_mean,
            mean (over the dimensions).
        sliced: the square in ``ssm_loss``: "plain" ((v·s)²/2), or "reduced" (|s|²/2).
        dsm_weight: of a denoising loss: "one", or "sigma_squared".
        likelihood: of ``prior_kl``, ``vlb`` and ``step_log_likelihood``: in nats or bits, of a sample or a
            dimension;
            ``decoder_log_likelihood`` is of an element in any case, in nats or bits.
        decoder: "discretized" (the mass of a bin of 256), or "continuous" (the density).
        normal_cdf: in the discretised decoder: "exact", or "tanh" (the approximation of many code bases).
        probability_floor: to which the decoder raises a smaller probability; None: not raised.
        data_range: what the model sees of pixels in [0, 1]: "[-1, 1]", "[0, 1]", or "latent":
            (x - latent_shift) latent_scale.
        denoiser_range: the range of the data that the denoiser of ``score_from_denoiser`` was trained on.
        weighting: of ``loss_weight``: "one"; "snr", "snr_plus_one", "truncated_snr" (max(SNR, 1)), "min_snr"
            (min(SNR, weight_bound)): weights of the error of x_0, converted to the declared
            parameterization; "vlb", the weight of the bound; "soft_min_snr", "edm" (of sigma and
            sigma_data); "ldm", the weight that latent diffusion gives to x_0.
        cfg: guidance scale: "imagen" (u + s (c - u)), or "ho" (c + w (c - u)).
        renoise: the eps that a guided step adds again: "guided", or "unconditional".
        guidance_point: where the classifier's gradient is taken: "x_t", "mean", or None: either, and it is
            named.
        process: of the ports of continuous time: "vp", "subvp", "ve", "edm", "straight" (of
            (1 - t) x_0 + t eps), "cosine" (cos and sin of pi t / 2), a ``refdiff.process.Process`` or a
            ``refdiff.flow.Path``; None: "straight" for the ports ``flow_*``, "vp" for the others.
        time_scale: how many units of the target's time one unit of the process's is; rates are per unit of
            the target's time.
        time_direction: where the target's time grows: to the "noise" (0 is data), or to the "data" (0 is the
            end of the process).
        marginal: what ``marginal`` answers beside the scale: "std", or "variance".
        diffusion: what ``diffusion`` answers: "g", or "g_squared".
        prediction: what the argument ``score`` of the ports of continuous time is, and what their
            ``score_fn`` answers: "score", "eps" (-std score) or "x_0".
        reverse_time: ``reverse_drift`` and ``flow_sde_drift`` are per unit of the target's time "t", or of
            "tau", which runs backwards.
        predictor: of ``sde_step`` and of the samplers; None: any, which is judged by its law alone.
        time_steps: the target has tables: it knows the multiples of end / time_steps, and steps between
            neighbours; None: it knows every time.
        step_beta: the beta of a step that is "reverse_diffusion" or "ancestral" in a process with drift: of
            the "kernel" between the two times, or the "rate" at t times t - s.
        grid: where a chain of N steps reads the process: at i / N for i in 1..N ("N"), or at i / (N - 1) for
            i in 0..N - 1 ("N-1"; with rates times 1 / (N - 1) for 1 / N: "wide").
        last_step: of ``sde_sample`` and ``predictor_corrector``: adds "noise", or is the "mean".
        corrector_norm: of the score and the noise in the corrector's step: of each "sample", or the mean over
            the "batch".
        corrector: ``predictor_corrector`` corrects "before" each step of the predictor, or "after" it.
        score_weight: of ``score_loss``: "variance" (std²), "one" or "likelihood" (g²).
        flow_noise: w(t) in ``flow_sde_drift``, v - w/2 s: "std", "twice_std", or "g_squared" of the process.
        shift: what ``time_shift`` is given: the "factor", or its "log".
        consistency: c_skip and c_out with sigma_min ("shifted": the boundary is at sigma_min), or without
            ("edm": it is at 0).
        sigma_min: the smallest noise level of a consistency model.
        gamma: ``vdm_gamma`` is "linear" between ``gamma_ends``, or "learned": monotone between them.
        gamma_sign: what gamma is: "minus_log_snr", or "log_snr", of the squares.
        gamma_ends: minus the logarithm of the SNR at times 0 and 1.
        vdm_steps: of ``vdm_loss``: T steps, or None: T to infinity.
        ode_tolerance: the error per dimension, in nats, that the target's integrator may make.
        first_time: the process time from which ``ode_log_likelihood`` integrates.
        order, start_order: of ``solve`` and ``solver_step``: the power of the step in the error, and the same
            of a first step, that has no history; None: any, and it is named.
        strong_order: of ``solve`` with one noise a step, the increments of one Brownian motion in order: the
            power of the step in the distance of its paths, at most 1; None: not asked.
        solver: the name in ``refdiff.solver.SOLVERS`` whose steps these are, with each length of the history
            that ``solver_step`` takes; None: any, and it is named.
        solver_space: of the levels that ``solve`` is given: "vp", "ve" or "flow" (scale + std = 1).
        solver_grid: the levels for which an order is declared: "any", or even in "log_snr", "sigma" or "time"
            (std of "flow").
        solver_end: whether ``solve`` may end at "data", or only at a "level" with noise.
        solver_noise: whether ``solve`` uses noises; None: either, and it is named.
        embedding_spacing: of the frequencies in ``time_embedding``, half the dimension many: period^(-k/n)
            with n one less ("half_minus_one") or as many as they are ("half"), or 2^k ("octaves"); k from 0.
        embedding_order: sines before cosines ("sin_cos"), or after them ("cos_sin").
        embedding_layout: all of one and then all of the other ("concatenated"), or each beside the one of its
            frequency ("interleaved").
        embedding_period: the power of the frequencies: 2 pi times it is their longest period, or its limit.
        embedding_scale: what the target multiplies a level by before it is embedded.
        straight: whether a solver is exact where data are one point, as all but plain discretisations of an
            SDE or of a drift are.
    """

    schedule: Schedule | str | Sequence[float] | Any | None = None
    T: int | None = None
    backend: str = "torch"
    dtype: str = "float64"
    tables: str | None = None
    batched_t: bool = True
    index_origin: int = 1
    alpha_bar_0: str = "one"
    variance: str = "beta_tilde"
    parameterization: str = "eps"
    eta: str = "eta"
    spacing: str | None = None
    offset: int = 0
    space: str = "vp"
    clip: float | None = None
    loss_reduction: str = "mean"
    notation: str = "ho"
    sampler: str | None = None
    energy_sign: str = "energy"
    temperature: float = 1.0
    langevin: str = "eta"
    noise_label: str = "index"
    denoise: bool = False
    score_reduction: str = "half_sum"
    sliced: str = "plain"
    dsm_weight: str = "one"
    likelihood: str = "nats"
    decoder: str = "discretized"
    normal_cdf: str = "exact"
    probability_floor: float | None = None
    data_range: str = "[-1, 1]"
    latent_scale: float = 1.0
    latent_shift: float = 0.0
    denoiser_range: str = "[-1, 1]"
    weighting: str = "one"
    weight_bound: float = 5.0
    sigma_data: float = 0.5
    cfg: str = "imagen"
    renoise: str = "guided"
    guidance_point: str | None = None
    process: Any = None
    time_scale: float = 1.0
    time_direction: str = "noise"
    marginal: str = "std"
    diffusion: str = "g"
    prediction: str = "score"
    reverse_time: str = "t"
    predictor: str | None = "euler_maruyama"
    time_steps: int | None = None
    step_beta: str = "kernel"
    grid: str = "N"
    last_step: str = "noise"
    corrector_norm: str = "sample"
    corrector: str = "before"
    score_weight: str = "variance"
    flow_noise: str = "std"
    shift: str = "factor"
    consistency: str = "shifted"
    sigma_min: float = 0.002
    gamma: str = "linear"
    gamma_sign: str = "minus_log_snr"
    gamma_ends: tuple[float, float] = (-13.3, 5.0)
    vdm_steps: int | None = None
    ode_tolerance: float = 1e-3
    first_time: float = 1e-5
    order: int | None = None
    start_order: int | None = None
    strong_order: float | None = None
    solver: str | None = None
    solver_space: str = "vp"
    solver_grid: str = "any"
    solver_end: str = "data"
    solver_noise: bool | None = None
    straight: bool = True
    embedding_spacing: str = "half_minus_one"
    embedding_order: str = "sin_cos"
    embedding_layout: str = "concatenated"
    embedding_period: float = 10000.0
    embedding_scale: float = 1.0

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                known = ", ".join(map(repr, choices))
                raise ValueError(f"Dialect's {name} must be one of {known}, got {value!r}")
        for name in POSITIVE:
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"Dialect's {name} must be positive, got {value}")
        low, high = self.gamma_ends
        if not float("-inf") < low < high < float("inf"):
            raise ValueError(f"Dialect's gamma_ends must be finite and rise, got {self.gamma_ends}")
        if not 0 <= self.first_time < float("inf"):
            raise ValueError(f"Dialect's first_time must be at least 0 and finite, got {self.first_time}")
        for name in ("vdm_steps", "time_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"Dialect's {name} must be at least 1, got {value}")

    def but(self, **changes: Any) -> Dialect:
        """The same dialect with some conventions changed."""
        return replace(self, **changes)

    def reference(self) -> Schedule:
        """The reference schedule that this dialect declares."""
        from refdiff import schedule as schedules

        declared = self.schedule
        if isinstance(declared, schedules.Schedule):
            return declared
        if declared is None or isinstance(declared, str):
            name = declared or "linear"
            if name not in schedules.SCHEDULES:
                known = ", ".join(schedules.SCHEDULES)
                raise ValueError(f"Dialect's schedule must be one of {known}, got {name!r}")
            make = schedules.SCHEDULES[name]
            return make() if self.T is None else make(self.T)
        return schedules.from_beta(_numbers(declared))

    def __repr__(self) -> str:
        changed = ((field.name, getattr(self, field.name)) for field in fields(self))
        defaults = {field.name: field.default for field in fields(self)}
        shown = ", ".join(
            f"{n}={_short(v)}" for n, v in changed if v is not defaults[n] and not _same(v, defaults[n])
        )
        return f"Dialect({shown})"


def _same(value: Any, default: Any) -> bool:
    return isinstance(value, (str, int, float, type(None))) and value == default


def _short(value: Any) -> str:
    from refdiff.flow import Path
    from refdiff.process import Process

    pair = isinstance(value, tuple) and len(value) == 2
    if pair or isinstance(value, (str, int, float, Process, Path)):
        return repr(value)
    name = getattr(value, "name", None)
    return f"<schedule {name}>" if name else f"<{len(value)} betas>"


def _numbers(values: Any) -> Any:
    """Numbers of any array library as a torch tensor of float64."""
    import numpy as np
    import torch

    if isinstance(values, torch.Tensor):
        return values.detach().cpu().double()
    return torch.as_tensor(np.asarray(values, dtype=np.float64))


class Target:
    """A foreign implementation: a subclass offers what it has, each method a few lines long.

    Tensors are (B, *); t and s are levels, shape (B,), named as the dialect says (default: the paper's
    1..T, 0 for
    data). ``noise`` may be ignored by a target that draws its own. The methods: ``betas()``,
    ``alphas_cumprod()``,
    ``sigmas()``, ``timesteps(n)``, ``q_sample(x0, t, noise)``, ``q_posterior(x0, x_t, t)``,
    ``predict_x0(x_t, t, eps)``, ``predict_eps(x_t, t, x0)``, ``velocity(x0, eps, t)``, ``score(x_t, t,
    eps)``,
    ``ddpm_step(x_t, t, eps, noise)``, ``ddim_step(x_t, t, s, eps, eta, noise)``, ``ddim_invert(x_s, s, t,
    eps)``,
    ``guided_mean(x_t, t, eps, grad, scale)``, ``loss(model, x0, t, noise)``, ``vlb_term(model, x0, t,
    noise)``,
    ``sample(model, x_T, steps)``.

    Energies and scores: ``energy(x)`` (B,), ``energy_score(x)``, ``contrastive_loss(energy, x_pos, x_neg)``
    (B,), ``langevin_step(x, score, step_size, noise)``, ``langevin_sample(score_fn, x, step_size, steps)``,
    ``noise_scales(first, last, count)``, ``annealed_langevin_step(x, score, sigma, sigma_last, epsilon,
    noise)``, ``annealed_langevin(score_fn, sigmas, x, epsilon, steps)`` with ``score_fn(x, label)``. Losses,
    (B,): ``esm_loss(score_fn, x)``, ``ssm_loss(score_fn, x, v)``, ``dsm_loss(score_fn, x, sigma, noise)``,
    ``smld_loss(score_fn, sigmas, x, index, noise)``.
    Likelihoods: ``prior_kl(x0)`` (B,), ``decoder_log_likelihood(x, mean, log_scale)`` an element,
    ``bits_per_dim(nats, dims)``, ``vlb(model, x0, noises)`` (B,) with noises (T, B, *) of levels 1..T,
    ``step_log_likelihood(x_s, x_t, t, s, eps, eta)`` (B,), of a DDIM step; ``loss_weight(t)`` (B,).
    Data: ``normalize_data(x)``, ``unnormalize_data(x)``, ``score_from_denoiser(denoiser, x, sigma)``.
    Guidance: ``guided_eps(eps, t, grad, scale)``, ``classifier_guided_mean(x_t, t, eps, gradient_fn,
    scale)`` with ``gradient_fn(x, t)``, ``cfg(uncond, cond, scale)``, ``cfg_step(x_t, t, s, uncond, cond,
    scale)`` on eps, ``observation_gradient(x0, y, sigma)``, ``posterior_precision(hessian, t)`` of data given
    x_t, (B, D, D), by the Hessian of log p(x_t).

    Continuous time; t and s are real times of the process, (B,) (default: 0 is data, 1 the end), and
    ``score_fn(x, t)`` is asked with them. Kernel and equations: ``marginal(t)`` -> (scale, std),
    ``model_time(sigma)`` where std / scale = sigma, ``drift(x, t)``, ``diffusion(t)``,
    ``reverse_drift(x, t, score)``, ``pf_ode_drift(x, t, score)``, ``discretize(n)``: the betas of a chain of
    n steps, the sigmas where the scale is 1. Samplers: ``sde_step(x, t, s, score, noise)``, s next to data,
    ``sde_invert(x, s, t, score, noise)``, which no sampler has: refused, or answered with numbers,
    ``corrector_step_size(score, noise, snr)``, ``corrector_step(x, score, noise, snr)``,
    ``sde_sample(score_fn, x, times, noises)`` with noises (N, B, *) of the steps between N + 1 times,
    ``predictor_corrector(score_fn, x, times, snr, noises, corrector_noises)``. Loss and likelihood, (B,):
    ``score_loss(score_fn, x0, t, noise)``, ``ode_log_likelihood(score_fn, x)``.
    Flows: ``flow_path(x0, noise, t)``, ``flow_velocity(x0, noise, t)``, ``flow_step(x, t, s, velocity)``,
    ``flow_sde_drift(velocity, score, t)`` of the reverse SDE, ``flow_loss(model, x0, t, noise)`` (B,),
    ``time_shift(t, shift)``, ``flow_levels(n, shift)`` -> (n + 1 times in the process's unit, noise first;
    the n labels that the model is given), ``flow_sample(velocity_fn, x, steps)``,
    ``flow_coupling(x0, noise)`` -> the two, paired.
    Consistency: ``consistency_function(x, sigma, output)``, ``consistency_sample(function, x, sigmas)`` with
    ``function(x, sigma)``. Variational diffusion: ``vdm_gamma(t)``, ``vdm_loss(model, x0, t, noise)`` (B,),
    with ``model(z, t)`` answering eps.
    Solvers: ``solve(model, x, scales, stds, noises)``: from the first to the last of levels x = scale x_0 +
    std eps, (N+1,), the noisiest first, with ``model(x, scale, std)`` and noises (M, B, *) of which any
    number may be used; ``solver_step(x, scales, stds, outputs, noise)``: one step to the last of K+1 levels,
    by K outputs (K, B, *) of the model at the levels before it, x being at the last but one and the noise
    standard normal, shaped like x.
    Networks: ``time_embedding(t, dim)`` -> (B, dim), of levels that are any real numbers.
    """

    name: str = ""
    dialect: Dialect = Dialect()


PORTS = (
    "betas",
    "alphas_cumprod",
    "sigmas",
    "timesteps",
    "q_sample",
    "q_posterior",
    "predict_x0",
    "predict_eps",
    "velocity",
    "score",
    "ddpm_step",
    "ddim_step",
    "ddim_invert",
    "guided_mean",
    "loss",
    "vlb_term",
    "sample",
    "energy",
    "energy_score",
    "contrastive_loss",
    "langevin_step",
    "langevin_sample",
    "noise_scales",
    "annealed_langevin_step",
    "annealed_langevin",
    "esm_loss",
    "ssm_loss",
    "dsm_loss",
    "smld_loss",
    "prior_kl",
    "decoder_log_likelihood",
    "bits_per_dim",
    "vlb",
    "step_log_likelihood",
    "loss_weight",
    "normalize_data",
    "unnormalize_data",
    "score_from_denoiser",
    "guided_eps",
    "classifier_guided_mean",
    "cfg",
    "cfg_step",
    "observation_gradient",
    "posterior_precision",
    # continuous time
    "marginal",
    "model_time",
    "drift",
    "diffusion",
    "reverse_drift",
    "pf_ode_drift",
    "discretize",
    "sde_step",
    "sde_invert",
    "corrector_step_size",
    "corrector_step",
    "sde_sample",
    "predictor_corrector",
    "score_loss",
    "ode_log_likelihood",
    "flow_path",
    "flow_velocity",
    "flow_step",
    "flow_sde_drift",
    "flow_loss",
    "time_shift",
    "flow_levels",
    "flow_sample",
    "flow_coupling",
    "consistency_function",
    "consistency_sample",
    "vdm_gamma",
    "vdm_loss",
    "solve",
    "solver_step",
    # networks
    "time_embedding",
)


def offered(target: Any) -> tuple[str, ...]:
    """The ports that a target offers, in the order of the list."""
    return tuple(name for name in PORTS if callable(getattr(target, name, None)))
