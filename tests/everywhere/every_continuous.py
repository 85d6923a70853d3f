"""One call for every function of continuous time: processes, SDE, ODE, flows, consistency, VDM, solvers."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import torch
from every_arguments import LINEAR, SHORT, Call, answer
from every_discrete import net
from torch import Tensor

from refdiff import (
    consistency,
    flow,
    guided_gaussian,
    ode,
    process,
    sde,
    smld,
    solver,
    vdm,
)

VP = process.VP()
LADDER = smld.geometric_sigmas(9.0, 0.05, 12)
PROCESSES: dict[str, process.Process] = {
    "EDM": process.EDM(4.0),
    "FromCoefficients": process.FromCoefficients(lambda t: -1 - t.cos(), lambda t: 2 + t.sin()),
    "FromMarginals": process.FromMarginals(lambda t: -t.sin(), lambda t: t.expm1()),
    "SteppedVE": process.from_ladder(LADDER),
    "SteppedVP": process.from_schedule(SHORT),
    "SubVP": process.SubVP(),
    "VE": process.VE(),
    "VP": VP,
}
PATHS: dict[str, flow.Path] = {
    "Diffusion": flow.Diffusion(VP),
    "Path": flow.Rectified(),
    "Rectified": flow.Rectified(),
    "Reversed": flow.Reversed(flow.Diffusion(VP)),
    "Transport": flow.Transport(),
    "Trigonometric": flow.Trigonometric(),
}
STRAIGHT = PATHS["Rectified"]


def half(x: Tensor, *at: Any) -> Tensor:
    """Another model than the one that is trained."""
    return answer(x.sin() / 2)


def defined(kinds: dict[str, Any], name: str, module: str) -> list[str]:
    """The names of the public methods that a class defines itself, and that take a time."""
    return [
        method
        for method, value in vars(getattr(__import__(f"refdiff.{module}", fromlist=[name]), name)).items()
        if not method.startswith("_") and callable(value)
    ]


METHODS: dict[str, Call] = {
    f"{module}.{name}.{method}": lambda time, of=of, method=method: getattr(of, method)(time)
    for module, kinds in (("process", PROCESSES), ("flow", PATHS))
    for name, of in kinds.items()
    for method in defined(kinds, name, module)
    if method != "between"
}

PROCESS: dict[str, Call] = METHODS | {
    "process.Process.diffusion": lambda time: VP.diffusion(time),
    "process.Process.drift": lambda time: VP.drift(time),
    "process.Process.diffusion_squared": lambda time: VP.diffusion_squared(time),
    "process.Process.log_scale": lambda time: VP.log_scale(time),
    "process.Process.log_snr": lambda time: VP.log_snr(time),
    "process.Process.scale": lambda time: VP.scale(time),
    "process.Process.std": lambda time: VP.std(time),
    "process.Process.time": lambda time: VP.time(time),
    "process.Process.transition": lambda time, earlier: [
        of.transition(time, earlier) for of in PROCESSES.values()
    ],
    "process.Process.variance": lambda time: VP.variance(time),
    "process.VP.between": lambda time, earlier: VP.between(time, earlier),
    "process.from_ladder": lambda sigmas, time: process.from_ladder(sigmas).variance(time),
    "process.from_schedule": lambda time: process.from_schedule(SHORT).variance(time),
    "process.to_ladder": lambda rising_times: process.to_ladder(PROCESSES["VE"], rising_times[1:]),
    "process.to_schedule": lambda rising_times: process.to_schedule(VP, rising_times).beta,
}


def score(x: Tensor, t: Any = None) -> Tensor:
    """A score that is not affine."""
    return answer(torch.tanh(x) - x)


SDE: dict[str, Call] = {
    "sde.Affine.apply": lambda time, earlier, x, y, noise: sde.identity(VP, time, earlier).apply(x, y, noise),
    "sde.ancestral": lambda time, earlier: sde.ancestral(VP, time, earlier),
    "sde.ancestral_step": lambda x, time, earlier, y, noise: sde.ancestral_step(
        VP, x, time, earlier, y, noise
    ),
    "sde.corrector_step": lambda x, y, noise: sde.corrector_step(x, y, noise, 0.1),
    "sde.corrector_step_size": lambda y, noise: sde.corrector_step_size(y, noise, 0.16),
    "sde.dsm_loss": lambda x, time, noise: sde.dsm_loss(VP, score, x, time, noise),
    "sde.euler_maruyama": lambda time, earlier: sde.euler_maruyama(VP, time, earlier),
    "sde.euler_maruyama_step": lambda x, time, earlier, y, noise: sde.euler_maruyama_step(
        VP, x, time, earlier, y, noise
    ),
    "sde.forward_drift": lambda x, time: sde.forward_drift(VP, x, time),
    "sde.gaussian_law": lambda wide_mean, wide_cov, times, other_wide_mean, other_wide_cov: sde.gaussian_law(
        VP, wide_mean, wide_cov, times, other_wide_mean, other_wide_cov
    ),
    "sde.heun_step": lambda x, time, earlier, noise: sde.heun_step(VP, score, x, time, earlier, noise),
    "sde.identity": lambda time, earlier: sde.identity(VP, time, earlier),
    "sde.on": lambda gamma, x: sde.on(gamma, x),  # type: ignore[attr-defined]
    "sde.predictor_corrector": lambda x, times, noise, fresh: sde.predictor_corrector(
        VP, score, x, times, [noise, fresh], [noise, fresh, noise], snr=0.16, corrector_steps=1
    ),
    "sde.reverse_diffusion": lambda time, earlier: sde.reverse_diffusion(VP, time, earlier),
    "sde.reverse_diffusion_of": lambda time, earlier: sde.reverse_diffusion_of(VP.transition(time, earlier)),
    "sde.reverse_diffusion_step": lambda x, time, earlier, y, noise: sde.reverse_diffusion_step(
        VP, x, time, earlier, y, noise
    ),
    "sde.reverse_drift": lambda x, time, y: sde.reverse_drift(VP, x, time, y),
    "sde.runge_kutta_step": lambda x, time, earlier, noise, fresh: sde.runge_kutta_step(
        VP, score, x, time, earlier, noise, fresh
    ),
    "sde.ve_sigmas": lambda: sde.ve_sigmas(process.VE(), 8),
    "sde.vp_betas": lambda: sde.vp_betas(VP, 40),
}

COARSE = 1e-3
"""What an adaptive solver is asked for."""

ODE: dict[str, Call] = {
    "ode.bits_per_dim": lambda row: ode.bits_per_dim(row, 2),
    "ode.ddim_coefficient_gap": lambda: ode.ddim_coefficient_gap(SHORT),
    "ode.ddim_step_gap": lambda x, t, s, y: ode.ddim_step_gap(LINEAR, x, t, s, y),
    "ode.decode": lambda x: ode.decode(VP, score, x, 0.5, rtol=COARSE),
    "ode.divergence": lambda x, time: ode.divergence(VP, score, x, time),
    "ode.drift": lambda x, time, y: ode.drift(VP, x, time, y),
    "ode.encode": lambda x: ode.encode(VP, score, x, 0.5, rtol=COARSE),
    "ode.euler_step": lambda x, time, earlier: ode.euler_step(VP, score, x, time, earlier),
    "ode.gaussian_flow_map": lambda wide_mean, wide_cov: ode.gaussian_flow_map(
        VP, wide_mean, wide_cov, 0.9, 0.2
    ),
    "ode.gaussian_log_likelihood": lambda wide_mean, wide_cov, points: ode.gaussian_log_likelihood(
        VP, wide_mean, wide_cov, points
    ),
    "ode.heun_step": lambda x, time, earlier: ode.heun_step(VP, score, x, time, earlier),
    "ode.integrate": lambda x: ode.integrate(VP, score, x, 0.9, 0.6, rtol=COARSE),
    "ode.log_likelihood": lambda x: ode.log_likelihood(VP, score, x, start=0.5, rtol=COARSE),
    "ode.rk4_step": lambda x, time, earlier: ode.rk4_step(VP, score, x, time, earlier),
    "ode.trajectory": lambda x, times: [x for _, x in ode.trajectory(VP, score, x, times)],
    "ode.ve_step": lambda x, sigma, lower, y: ode.ve_step(x, sigma, lower, y),
    "ode.vp_step": lambda x, t, s, y: ode.vp_step(LINEAR, x, t, s, y),
}

FLOW: dict[str, Call] = {
    "flow.assignment": lambda x, y: flow.assignment(x, y),
    "flow.bridge": lambda x, y, time, noise: flow.bridge(x, y, time, noise, 0.3),
    "flow.bridge_score_weight": lambda time: flow.bridge_score_weight(time, 0.3),
    "flow.bridge_velocity": lambda x, y, time, z: flow.bridge_velocity(x, y, time, z),
    "flow.conditional_velocity": lambda x, time, noise: flow.conditional_velocity(STRAIGHT, x, time, noise),
    "flow.coupling_cost": lambda x, y: flow.coupling_cost(x, y),
    "flow.ddim_step": lambda x, time, earlier, y: flow.ddim_step(STRAIGHT, x, time, earlier, y),
    "flow.eps_from_velocity": lambda x, time, y: flow.eps_from_velocity(STRAIGHT, x, time, y),
    "flow.eps_loss_weight": lambda time: flow.eps_loss_weight(time),
    "flow.euler_step": lambda x, time, earlier, y: flow.euler_step(x, time, earlier, y),
    "flow.gaussian_flow_map": lambda wide_mean, wide_cov, x, time, earlier: flow.gaussian_flow_map(
        STRAIGHT, wide_mean, wide_cov, x, time, earlier
    ),
    "flow.interpolate": lambda x, time, noise: flow.interpolate(STRAIGHT, x, time, noise),
    "flow.logit_normal_density": lambda time: flow.logit_normal_density(time),
    "flow.logit_normal_time": lambda wide_noise: flow.logit_normal_time(wide_noise),
    "flow.loss": lambda x, time, noise: flow.loss(STRAIGHT, net, x, time, noise),
    "flow.loss_constant": lambda wide_cov, time: flow.loss_constant(STRAIGHT, wide_cov, time),
    "flow.loss_weight": lambda time: flow.loss_weight(STRAIGHT, time),
    "flow.marginal_velocity": lambda mixture, x, time: flow.marginal_velocity(STRAIGHT, mixture, x, time),
    "flow.path": lambda time: flow.path("trigonometric").scale(time),
    "flow.rectified_straightness": lambda wide_cov: flow.rectified_straightness(wide_cov),
    "flow.reflow_velocity": lambda wide_mean, wide_cov, x, time: flow.reflow_velocity(
        wide_mean, wide_cov, x, time
    ),
    "flow.sample": lambda x, times: [x for _, x in flow.sample(net, x, times)],
    "flow.score_from_velocity": lambda x, time, y: flow.score_from_velocity(STRAIGHT, x, time, y),
    "flow.sde_drift": lambda x, y, time: flow.sde_drift(x, y, time),
    "flow.shift_slope": lambda time: flow.shift_slope(time, 3.0),
    "flow.shift_time": lambda time: flow.shift_time(time, 3.0),
    "flow.shift_time_exponential": lambda time: flow.shift_time_exponential(time, 0.8),
    "flow.times": lambda: flow.times(8, 3.0),
    "flow.unshift_time": lambda time: flow.unshift_time(time, 3.0),
    "flow.velocity": lambda x, time, y: flow.velocity(STRAIGHT, x, time, x_0=y),
    "flow.x_0_from_velocity": lambda x, time, y: flow.x_0_from_velocity(STRAIGHT, x, time, y),
}

CONSISTENCY: dict[str, Call] = {
    "consistency.absolute": lambda x: consistency.absolute(x),
    "consistency.boundary": lambda sigma: consistency.boundary(sigma),
    "consistency.distillation_loss": lambda x, sigma, lower, noise: consistency.distillation_loss(
        net, half, net, x, sigma, lower, noise
    ),
    "consistency.ema": lambda x, y: consistency.ema([x], [y], 0.75),
    "consistency.function": lambda x, sigma: consistency.function(net, x, sigma),
    "consistency.gaussian_function": lambda normal_law, x, sigma: consistency.gaussian_function(
        normal_law, x, sigma
    ),
    "consistency.gaussian_slope": lambda wide_variances, gamma_1: consistency.gaussian_slope(
        wide_variances, gamma_1
    ),
    "consistency.input_scale": lambda sigma: consistency.input_scale(sigma),
    "consistency.level_probabilities": lambda rising_sigmas: consistency.level_probabilities(rising_sigmas),
    "consistency.level_weights": lambda rising_sigmas: consistency.level_weights(rising_sigmas),
    "consistency.levels": lambda: consistency.levels(0.002, 80.0, 8),
    "consistency.multistep": lambda x, sigmas, noise: consistency.multistep(net, x, sigmas, [noise] * 3),
    "consistency.multistep_moments": lambda normal_law, sigmas, wide_mean, wide_cov: (
        consistency.multistep_moments(normal_law, sigmas, wide_mean, wide_cov)
    ),
    "consistency.ode_step": lambda x, sigma, lower: consistency.ode_step(net, x, sigma, lower),
    "consistency.pseudo_huber": lambda x: consistency.pseudo_huber(x),
    "consistency.renoise": lambda x, sigma, noise: consistency.renoise(x, sigma, noise),
    "consistency.squared": lambda x: consistency.squared(x),
    "consistency.trained_slope": lambda wide_variances, rising_sigmas: consistency.trained_slope(
        wide_variances, rising_sigmas
    ),
    "consistency.training_loss": lambda x, sigma, lower, noise: consistency.training_loss(
        net, half, x, sigma, lower, noise
    ),
    "consistency.velocity": lambda x, sigma, y: consistency.velocity(x, sigma, y),
}

LINE = vdm.LinearGamma(-6.0, 3.0)
VDM: dict[str, Call] = {
    "vdm.LinearGamma.__call__": lambda time: LINE(time),
    "vdm.MonotoneGamma.forward": lambda monotone, time: monotone(time),
    "vdm.MonotoneGamma.free": lambda monotone, time: monotone.free(time),
    "vdm.OptimalGamma.__call__": lambda time: vdm.OptimalGamma(-6.0, 3.0, 0.5)(time),
    "vdm.gamma_of": lambda time: vdm.gamma_of(VP, time),
    "vdm.gaussian_bound": lambda wide_mean, wide_variances, gammas: vdm.gaussian_bound(
        wide_mean, wide_variances, gammas
    ),
    "vdm.gaussian_loss_continuous": lambda wide_variances, gamma_0, gamma_1: vdm.gaussian_loss_continuous(
        wide_variances, gamma_0, gamma_1
    ),
    "vdm.gaussian_loss_discrete": lambda wide_variances, gammas: vdm.gaussian_loss_discrete(
        wide_variances, gammas
    ),
    "vdm.gaussian_prior_term": lambda wide_mean, wide_variances, gamma_1: vdm.gaussian_prior_term(
        wide_mean, wide_variances, gamma_1
    ),
    "vdm.gaussian_rate": lambda wide_variances, gammas: vdm.gaussian_rate(wide_variances, gammas),
    "vdm.gaussian_reconstruction_term": lambda wide_variances, gamma_0: vdm.gaussian_reconstruction_term(
        wide_variances, gamma_0
    ),
    "vdm.level": lambda gamma: vdm.level(gamma),
    "vdm.loss_continuous": lambda x, time, noise: vdm.loss_continuous(net, LINE, x, time, noise),
    "vdm.loss_discrete": lambda x, index, noise: vdm.loss_discrete(net, LINE, x, index + 1, 5, noise),
    "vdm.prior_term": lambda x, gamma: vdm.prior_term(x, gamma),
    "vdm.q_sample": lambda x, gamma, noise: vdm.q_sample(x, gamma, noise),
    "vdm.rate": lambda x, y, gamma: vdm.rate(x, y, gamma),
    "vdm.reconstruction_term": lambda pixels, values, gamma, noise: vdm.reconstruction_term(
        pixels, values, gamma, noise
    ),
    "vdm.slope": lambda monotone, time: vdm.slope(monotone, time),
    "vdm.step": lambda x, gamma, lower_gamma, y, noise: vdm.step(x, gamma, lower_gamma, y, noise),
    "vdm.stratified_times": lambda wide_uniform: vdm.stratified_times(wide_uniform, 4),
    "vdm.term": lambda x, y, gamma, lower_gamma: vdm.term(x, y, gamma, lower_gamma),
    "vdm.transition_variance": lambda gamma, lower_gamma: vdm.transition_variance(gamma, lower_gamma),
}

GUIDED: dict[str, Call] = {
    "guided_gaussian.LinearObservation.gradient": lambda observation, x, t: observation.gradient(
        LINEAR, x, t
    ),
    "guided_gaussian.LinearObservation.kernel": lambda observation, x: observation.kernel(
        LINEAR, x, 500, 250
    ),
    "guided_gaussian.LinearObservation.law": lambda observation, x: observation.law().score(LINEAR, x, 500),
    "guided_gaussian.LinearObservation.log_likelihood": lambda observation, x, t: observation.log_likelihood(
        LINEAR, x, t
    ),
    "guided_gaussian.LogLinearClassifier.gradient": lambda log_linear, x, t: log_linear.gradient(
        LINEAR, x, t
    ),
    "guided_gaussian.LogLinearClassifier.law": lambda log_linear, x: log_linear.law(1.5).score(
        LINEAR, x, 500
    ),
    "guided_gaussian.ProbitClassifier.gradient": lambda probit, x, t: probit.gradient(LINEAR, x, t),
    "guided_gaussian.ProbitClassifier.log_probability": lambda probit, x, t: probit.log_probability(
        LINEAR, x, t
    ),
    "guided_gaussian.ProbitClassifier.mean": lambda probit: probit.mean(),
    "guided_gaussian.gaussian_reverse": lambda normal_law, x: guided_gaussian.gaussian_reverse(
        normal_law, LINEAR, x, 500, 250
    ),
}


def model(x: Tensor, scale: Tensor, std: Tensor) -> Tensor:
    """A noise prediction that is not affine."""
    return answer(torch.tanh(x) - 0.3 * x)


LEVELS = solver.karras_levels(0.5, 5.0, 3, to_data=False)
"""Levels as they are made in practice: on the CPU, wherever the state lies."""
NAMED = {
    "AdamsBashforth": "lms_2", "AncestralEuler": "euler_ancestral", "EDMHeun": "edm_churn",
    "Exponential": "ddim", "Multistep": "sde_dpmpp_2m", "PLMS": "plms_heun", "RungeKutta": "heun",
    "Singlestep": "dpm_2", "UniPC": "unipc_1",
}  # fmt: skip
PAIR = (Fraction(1, 3), Fraction(2, 3))


def states(name: str, x: Tensor, noise: Tensor) -> list[Tensor]:
    """All states of a sampler."""
    return list(solver.SOLVERS[NAMED[name]].states(model, x, LEVELS, itertools.repeat(noise), ()))


SOLVER: dict[str, Call] = {  # type: ignore[assignment]
    f"solver.{name}.states": lambda x, noise, name=name: states(name, x, noise)
    for name in NAMED
    if name != "Exponential"
} | {
    "solver.AdamsBashforth.weights": lambda rising_sigmas: solver.SOLVERS["lms_3"].weights(  # type: ignore[attr-defined]
        rising_sigmas[:3], rising_sigmas[0] / 2
    ),
    "solver.EDMHeun.raised": lambda x, high, wide_uniform, noise, levels: solver.SOLVERS["edm_churn"].raised(  # type: ignore[attr-defined]
        x, high, wide_uniform, noise, levels
    ),
    "solver.Exponential.ask": lambda x, high: solver.SOLVERS["dpmpp_2m"].ask(model, x, high),  # type: ignore[attr-defined]
    "solver.Exponential.frame": lambda high, low: solver.SOLVERS["dpmpp_2m"].frame(high, low),  # type: ignore[attr-defined]
    "solver.Exponential.onto_data": lambda x, y, high, low: solver.SOLVERS["ddim"].onto_data(  # type: ignore[attr-defined]
        x, y, high, low
    ),
    "solver.Levels.at": lambda levels, log_snr: levels.at(log_snr).std,
    "solver.Levels.between": lambda levels, high, low: levels.between(high, low, 0.25).std,
    "solver.Levels.from_process": lambda times: solver.Levels.from_process(VP, times, "vp").std,
    "solver.Levels.log_snr": lambda levels: levels.log_snr,
    "solver.Levels.pairs": lambda levels: [s.scale for _, s in levels.pairs()],
    "solver.Levels.sigma": lambda levels: levels.sigma,
    "solver.Multistep.step": lambda x, high, low, y, z: solver.SOLVERS["dpmpp_2m"].step(  # type: ignore[attr-defined]
        x, high, low, [(high.log_snr, y), (high.log_snr - 1, z)], iter(())
    ),
    "solver.NoiseLevel.log_snr": lambda high: high.log_snr,
    "solver.NoiseLevel.numbers": lambda high: high.numbers,
    "solver.NoiseLevel.read": lambda high: high.read().scale,
    "solver.NoiseLevel.sigma": lambda high: high.sigma,
    "solver.RungeKutta.step": lambda x, high, low, levels: solver.SOLVERS["rk4"].step(  # type: ignore[attr-defined]
        model, x, high, low, levels
    ),
    "solver.Singlestep.step": lambda x, high, low, levels: solver.SOLVERS["dpm_3"].step(  # type: ignore[attr-defined]
        model, x, high, low, levels
    ),
    "solver.Solver.sample": lambda x, noise: solver.SOLVERS["ddim"].sample(
        model, x, LEVELS, [noise] * 5
    ),
    "solver.Solver.trajectory": lambda x, noise: list(
        solver.SOLVERS["euler"].trajectory(model, x, LEVELS)
    ),
    "solver.adams_bashforth_weights": lambda rising_sigmas: solver.adams_bashforth_weights(
        rising_sigmas[:3], rising_sigmas[0] / 2
    ),
    "solver.advance": lambda at, x, y, z, nodes: solver.advance(at, x, [y, z], nodes[:2].unbind(), "bh2"),
    "solver.ancestral_coefficients": lambda high, low: solver.ancestral_coefficients(high, low),
    "solver.ancestral_deviations": lambda high, low: solver.ancestral_deviations(high, low),
    "solver.churn_factor": lambda sigmas: solver.churn_factor(sigmas, 3, 4.0),
    "solver.churned": lambda x, gamma_1, wide_uniform, noise: solver.churned(
        x, gamma_1, wide_uniform, noise
    ),
    "solver.churned_deviation": lambda sigma, time: solver.churned_deviation(sigma, time),
    "solver.ddim_coefficients": lambda high, low: solver.ddim_coefficients(high, low),
    "solver.edm_denoiser": lambda x, sigma: solver.edm_denoiser(net, x, sigma),
    "solver.edm_loss_weight": lambda sigma: solver.edm_loss_weight(sigma),
    "solver.edm_target": lambda x, noise, sigma: solver.edm_target(x, noise, sigma),
    "solver.eps_from_denoiser": lambda x, high: solver.eps_from_denoiser(net)(x, high.scale, high.std),
    "solver.frame": lambda high, low: solver.frame("x_0", high, low, 1.0),
    "solver.karras_levels": lambda: solver.karras_levels(0.1, 5.0, 5).std,
    "solver.level": lambda log_snr: solver.level(log_snr, "vp").std,
    "solver.moments": lambda log_snr: solver.moments("exact", 3, log_snr),
    "solver.phi": lambda log_snr: [solver.phi(k, log_snr) for k in range(1, 4)],
    "solver.plms_combination": lambda x, y, z: solver.plms_combination([x, y, z]),
    "solver.precondition": lambda sigma: solver.precondition(sigma),
    "solver.runge_kutta_step": lambda x, high, low, levels: solver.runge_kutta_step(
        solver.HEUN, model, x, high, low, levels
    ),
    "solver.weights": lambda nodes: solver.weights(nodes.unbind(), 1 + nodes),
}

CONTINUOUS: dict[str, Call] = {
    **PROCESS, **SDE, **ODE, **FLOW, **CONSISTENCY, **VDM, **GUIDED, **SOLVER,
}  # fmt: skip
