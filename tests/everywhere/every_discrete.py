"""One call for every function of the discrete chains: schedules, DDPM, DDIM, bounds, score matching."""

from __future__ import annotations

from typing import Any

import torch
from every_arguments import LINEAR, SHORT, TWO, Call, answer
from torch import Tensor

from refdiff import (
    ddim,
    ddpm,
    elbo,
    energy,
    gaussian,
    guidance,
    kernel,
    langevin,
    parameterization,
    schedule,
    score_matching,
    smld,
    vae,
    vlb,
)


def net(x: Tensor, *at: Any) -> Tensor:
    """A model that is not affine."""
    return answer(torch.tanh(x) - 0.3 * x)


def two_heads(x: Tensor, *at: Any) -> tuple[Tensor, Tensor]:
    """A model with a learned variance."""
    return net(x), answer(torch.sigmoid(x))


def bowl(x: Tensor, *at: Any) -> Tensor:
    """An energy, one value a sample."""
    return answer((x**4 + x**2).flatten(1).sum(1))


def well(x: Tensor, *at: Any) -> Tensor:
    """A log-probability, one value a sample."""
    return answer(-(x**2).flatten(1).sum(1))


def weighted_energy(weight: Tensor) -> Call:
    """An energy with a parameter."""
    return lambda x: (weight * x**2).sum(1)


def trained(x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """A model of one weight after one step of training."""
    weight = torch.nn.Parameter(torch.full_like(x[0], 0.5))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    loss = ddpm.training_step(lambda x, t: weight * x, optimizer, LINEAR, x, t, noise)
    return torch.cat([weight.detach(), loss.reshape(1)])


BUILDERS = (
    "constant", "cosine", "jsd", "linear", "linear_rescaled", "quadratic", "scaled_linear",
    "sigmoid_alpha_bar", "sigmoid_beta", "square_root", "square_root_alpha_bar",
)  # fmt: skip
FORMS = ("eps", "mu", "score", "v", "x_0")

SCHEDULE: dict[str, Call] = {  # type: ignore[assignment]
    "schedule.Schedule.at": lambda t, x: LINEAR.at("sqrt_alpha_bar", t, x),
    "schedule.Schedule.table": lambda: LINEAR.table("snr"),
    "schedule.Schedule.to": lambda x: SHORT.to(x.device).beta,
    "schedule.beta_between": lambda t, s: schedule.beta_between(LINEAR, t, s),
    "schedule.cast": lambda gamma, x: schedule.cast(gamma, x),
    "schedule.from_alpha_bar": lambda alpha_bars: schedule.from_alpha_bar(alpha_bars),
    "schedule.from_beta": lambda betas: schedule.from_beta(betas),
    "schedule.from_log_alpha_bar": lambda log_alpha_bars: schedule.from_log_alpha_bar(log_alpha_bars),
    "schedule.log_ratio": lambda t, s: schedule.log_ratio(LINEAR, t, s),
    "schedule.respace": lambda: schedule.respace(SHORT, (20, 11, 2, 0)),
    "schedule.sigma_difference": lambda t, s: schedule.sigma_difference(LINEAR, t, s),
    "schedule.take": lambda t: schedule.take(LINEAR.beta, t),
    "schedule.zero_terminal_snr": lambda: schedule.zero_terminal_snr(SHORT),
} | {f"schedule.{name}": lambda name=name: getattr(schedule, name)(40) for name in BUILDERS}

GAUSSIAN: dict[str, Call] = {
    "gaussian.Gaussian.entropy": lambda gaussian: gaussian.entropy(),
    "gaussian.Gaussian.kl": lambda gaussian, other_gaussian: gaussian.kl(other_gaussian),
    "gaussian.Gaussian.log_prob": lambda gaussian, z: gaussian.log_prob(z),
    "gaussian.Gaussian.sample": lambda gaussian, noise: gaussian.sample(noise),
    "gaussian.Gaussian.std": lambda gaussian: gaussian.std,
    "gaussian.affine_push_forward": lambda mean, cov, A, b, other_cov: gaussian.affine_push_forward(
        mean, cov, A, b, other_cov
    ),
    "gaussian.condition": lambda mean, cov, A, b, other_cov, other_mean: gaussian.condition(
        mean, cov, A, b, other_cov, other_mean
    ),
    "gaussian.entropy": lambda cov: gaussian.entropy(cov),
    "gaussian.joint": lambda mean, cov, A, b, other_cov: gaussian.joint(mean, cov, A, b, other_cov),
    "gaussian.kl": lambda mean, cov, other_mean, other_cov: gaussian.kl(mean, cov, other_mean, other_cov),
    "gaussian.log_density": lambda x, mean, cov: gaussian.log_density(x, mean, cov),
    "gaussian.marginal": lambda mean, cov, A, b, other_cov: gaussian.marginal(mean, cov, A, b, other_cov),
    "gaussian.product": lambda mean, cov, other_mean, other_cov: gaussian.product(
        mean, cov, other_mean, other_cov
    ),
    "gaussian.ratio_minus_1_minus_log": lambda positive, other_positive: gaussian.ratio_minus_1_minus_log(
        positive, other_positive
    ),
    "gaussian.wasserstein_2_squared": lambda mean, cov, other_mean, other_cov: (
        gaussian.wasserstein_2_squared(mean, cov, other_mean, other_cov)
    ),
}


def at_level(level: Any) -> tuple[Any, ...]:
    """All factors of a prediction at a level."""
    at = parameterization.At(LINEAR, level)
    return at.a, at.b, at.sigma, at.beta, at.r, at.g, at.w


NOTATIONS: dict[str, Call] = {
    f"parameterization.{name}.from_schedule": lambda name=name: getattr(parameterization, name).from_schedule(
        SHORT
    )
    for name in ("DDIMPaper", "EDM", "ScoreSDE", "Su", "VDM")
} | {
    f"parameterization.{name}.to_schedule": lambda name=name: (
        getattr(parameterization, name).from_schedule(SHORT).to_schedule()
    )
    for name in ("DDIMPaper", "EDM", "ScoreSDE", "Su", "VDM")
}
PARAMETERIZATION: dict[str, Call] = (
    {
        f"parameterization.{target}_from_{source}": lambda x, t, y, name=f"{target}_from_{source}": getattr(
            parameterization, name
        )(LINEAR, x, t, y)
        for target in FORMS
        for source in FORMS
        if target != source
    }
    | {
        f"parameterization.At.{name}": lambda t, name=name: getattr(parameterization.At(LINEAR, t), name)
        for name in ("a", "b", "sigma", "beta", "r", "g", "w")
    }
    | NOTATIONS
    | {
        "parameterization.bounds": lambda: parameterization.bounds(LINEAR, "eps", "mu"),
        "parameterization.coefficients": lambda t: parameterization.coefficients(LINEAR, t, "v", "score"),
        "parameterization.convert": lambda x, t, y: parameterization.convert(
            LINEAR, x, t, y, "mu", "v"
        ),
        "parameterization.from_sigma_space": lambda x, t: parameterization.from_sigma_space(LINEAR, x, t),
        "parameterization.to_sigma_space": lambda x, t: parameterization.to_sigma_space(LINEAR, x, t),
    }
)  # fmt: skip

KERNEL: dict[str, Call] = {
    "kernel.Coefficients.apply": lambda x, y, z, log_snr: kernel.Coefficients(
        *(schedule.cast(c, x) for c in (log_snr, log_snr + 1, log_snr + 2))
    ).apply(x, y, z),
    "kernel.Pair.beta_tilde": lambda t, s: kernel.pair(LINEAR, t, s).beta_tilde,
    "kernel.any_true": lambda x: kernel.any_true(x > 0),
    "kernel.cast": lambda gamma, x: kernel.cast(gamma, x),
    "kernel.exp": lambda x: kernel.exp(x),
    "kernel.expm1": lambda x: kernel.expm1(x),
    "kernel.expm1_minus": lambda positive: kernel.expm1_minus(-positive),
    "kernel.log1p": lambda positive: kernel.log1p(positive),
    "kernel.on_x_0": lambda t, s: kernel.on_x_0(kernel.pair(LINEAR, t, s)),
    "kernel.pair": lambda t, s, x: kernel.pair(LINEAR, t, s, x),
    "kernel.quotient": lambda x, y: kernel.quotient(x, y),
    "kernel.reduced": lambda x: kernel.reduced(x, "mean"),
    "kernel.require_signal": lambda t, s: kernel.require_signal(kernel.pair(LINEAR, t, s)),
    "kernel.sqrt": lambda positive: kernel.sqrt(positive),
    "kernel.take_noise": lambda x: kernel.take_noise(iter([x]), 3),
}

DDPM: dict[str, Call] = {
    "ddpm.four_variable_loss": lambda x, t, noise, fresh: ddpm.four_variable_loss(
        net, LINEAR, x, t, noise, fresh
    ),
    "ddpm.four_variable_minimiser": lambda x, t: ddpm.four_variable_minimiser(LINEAR, t, x),
    "ddpm.four_variable_variance": lambda x, t, noise: ddpm.four_variable_variance(net, LINEAR, x, t, noise),
    "ddpm.kl_term": lambda x, t, noise: ddpm.kl_term(two_heads, LINEAR, x, t, noise, "learned"),
    "ddpm.loss_simple": lambda x, t, noise: ddpm.loss_simple(net, LINEAR, x, t, noise),
    "ddpm.loss_weight": lambda t: ddpm.loss_weight(LINEAR, t),
    "ddpm.mean_from_eps": lambda x, t, y, s: ddpm.mean_from_eps(LINEAR, x, t, y, s),
    "ddpm.mean_from_score": lambda x, t, y, s: ddpm.mean_from_score(LINEAR, x, t, y, s),
    "ddpm.mean_from_x_0": lambda x, t, y, s: ddpm.mean_from_x_0(LINEAR, x, t, y, s),
    "ddpm.merge_noises": lambda t, noise, fresh: ddpm.merge_noises(LINEAR, t, noise, fresh),
    "ddpm.merged_loss": lambda x, t, noise: ddpm.merged_loss(net, LINEAR, x, t, noise),
    "ddpm.optimal_variance": lambda t, positive, s: ddpm.optimal_variance(LINEAR, t, positive, s),
    "ddpm.posterior": lambda x, y, t: ddpm.posterior(LINEAR, x, y, t),
    "ddpm.q_marginal": lambda x, t: ddpm.q_marginal(LINEAR, x, t),
    "ddpm.q_sample": lambda x, t, noise: ddpm.q_sample(LINEAR, x, t, noise),
    "ddpm.q_step": lambda x, t: ddpm.q_step(LINEAR, x, t),
    "ddpm.sample": lambda x, noise, fresh: [
        x for _, x in ddpm.sample(net, LINEAR, x, [noise, fresh], (900, 500, 20, 0))
    ],
    "ddpm.skip_posterior": lambda x, y, t, s: ddpm.skip_posterior(LINEAR, x, y, t, s),
    "ddpm.step": lambda x, t, y, noise, s: ddpm.step(LINEAR, x, t, y, noise, s),
    "ddpm.step_coefficients": lambda t, s, x: ddpm.step_coefficients(LINEAR, t, s, like=x),
    "ddpm.training_step": lambda x, t, noise: trained(x, t, noise),
    "ddpm.transition": lambda x, t, s: ddpm.transition(LINEAR, x, t, s),
    "ddpm.tweedie": lambda x, t, y: ddpm.tweedie(LINEAR, x, t, y),
    "ddpm.variance": lambda t, s: ddpm.variance(LINEAR, t, s),
}

DDIM: dict[str, Call] = {
    "ddim.encode": lambda x: [x for _, x in ddim.encode(net, LINEAR, x, (900, 500, 20, 0))],
    "ddim.euler_step": lambda x, t, s, y: ddim.euler_step(LINEAR, x, t, s, y),
    "ddim.forward_kernel": lambda x, y, t, s: ddim.forward_kernel(LINEAR, x, y, t, s, 0.5),
    "ddim.inversion_error": lambda t, s, x, y: ddim.inversion_error(LINEAR, t, s, x, y),
    "ddim.invert": lambda x, s, t, y: ddim.invert(LINEAR, x, s, t, y),
    "ddim.invert_coefficients": lambda s, t, x: ddim.invert_coefficients(LINEAR, s, t, x),
    "ddim.posterior": lambda x, y, t, s: ddim.posterior(LINEAR, x, y, t, s, 0.5),
    "ddim.sample": lambda x, noise, fresh: [
        x for _, x in ddim.sample(net, LINEAR, x, (900, 500, 20, 0), 0.5, [noise, fresh])
    ],
    "ddim.sigma": lambda t, s: ddim.sigma(LINEAR, t, s),
    "ddim.step": lambda x, t, s, y, noise: ddim.step(LINEAR, x, t, s, y, 0.5, noise),
    "ddim.step_coefficients": lambda t, s, x: ddim.step_coefficients(LINEAR, t, s, 0.5, x),
    "ddim.step_coefficients_with_sigma": lambda t, s, x: ddim.step_coefficients_with_sigma(
        LINEAR, t, s, 0.001, x
    ),
    "ddim.step_with_sigma": lambda x, t, s, y, noise: ddim.step_with_sigma(LINEAR, x, t, s, y, 0.001, noise),
}

LAW_METHODS = ("log_prob", "score", "eps", "posterior_mean", "posterior_covariance")
DATA_LAWS: dict[str, Call] = (
    {
        f"data.Law.{name}": lambda mixture, x, t, name=name: getattr(mixture, name)(LINEAR, x, t)
        for name in LAW_METHODS
    }
    | {
        f"data.NoisedLaw.{name}": lambda noised_law, x, name=name: getattr(noised_law, name)(x)
        for name in ("log_prob", "score", "eps", "x_0")
    }
    | {
        "data.Law.at": lambda mixture, x: mixture.at(0.8, 0.6).score(x),
        "data.Components.covariance": lambda components, of_components: components.covariance(of_components),
        "data.Components.rotate": lambda components, of_components: components.rotate(of_components),
        "data.Components.rotate_back": lambda components, of_components: components.rotate_back(
            of_components
        ),
        "data.Empirical.sample": lambda empirical, uniform: empirical.sample(uniform),
        "data.GaussianLaw.sample": lambda normal_law, noise: normal_law.sample(noise),
        "data.MixtureLaw.sample": lambda mixture, noise, uniform: mixture.sample(noise, uniform),
        "data.Noised.responsibility": lambda noised: noised.responsibility,
        "data.PointMass.sample": lambda point: point.sample(3),
    }
)  # fmt: skip

ENERGY: dict[str, Call] = {
    "energy.contrastive_loss": lambda x, y: energy.contrastive_loss(bowl, x, y),
    "energy.cross_entropy": lambda x, y: energy.cross_entropy(x.double().softmax(-1).to(x.dtype), y),
    "energy.energy_and_score": lambda x: energy.energy_and_score(bowl, x, 0.7),
    "energy.log_density": lambda x: energy.log_density(bowl, x, 0.3, 0.7),
    "energy.log_likelihood_gradient": lambda mean, x, y: energy.log_likelihood_gradient(
        weighted_energy(weight := mean.clone().requires_grad_()), [weight], x, y
    ),
    "energy.log_partition": lambda x: energy.log_partition(x, 0.7),
    "energy.nce_loss": lambda x, doubled: energy.nce_loss(well, lambda u: 0.5 * well(u), x, doubled, 2),
    "energy.nce_posterior": lambda x, y: energy.nce_posterior(well(x), 0.5 * well(y), 3),
    "energy.score": lambda x: energy.score(bowl, x, 0.7),
    "energy.values": lambda x: energy.values(bowl, x),
}

LANGEVIN: dict[str, Call] = {
    "langevin.chain": lambda x, noise, fresh: list(langevin.chain(net, x, 0.1, [noise, fresh])),
    "langevin.contrastive_gradient_gaussian": lambda mean, other_mean, variances: (
        langevin.contrastive_gradient_gaussian(mean, other_mean, variances, 0.3, 4)
    ),
    "langevin.gaussian_mean": lambda mean, other_mean, variances: langevin.gaussian_mean(
        mean, other_mean, variances, 0.3, 4
    ),
    "langevin.gaussian_variance": lambda other_variances, variances: langevin.gaussian_variance(
        other_variances, variances, 0.3, 4
    ),
    "langevin.learned_variance": lambda variances: langevin.learned_variance(variances, 0.3),
    "langevin.mala_log_acceptance": lambda x, y: langevin.mala_log_acceptance(bowl, x, y, 0.1, 0.7),
    "langevin.mala_log_ratio": lambda x, y: langevin.mala_log_ratio(
        x, y, bowl(x), bowl(y), net(x), net(y), 0.1
    ),
    "langevin.mala_step": lambda x, noise, uniform: langevin.mala_step(bowl, x, 0.001, noise, uniform),
    "langevin.stationary_covariance": lambda cov: langevin.stationary_covariance(cov, 0.3),
    "langevin.stationary_variance": lambda variances: langevin.stationary_variance(variances, 0.3),
    "langevin.step": lambda x, y, noise: langevin.step(x, y, 0.3, noise, 1.7),
    "langevin.step_half": lambda x, y, noise: langevin.step_half(x, y, 0.3, noise),
}

SCORE_MATCHING: dict[str, Call] = {
    "score_matching.denoising_constant": lambda cov: score_matching.denoising_constant(cov, 0.5),
    "score_matching.denoising_loss": lambda x, positive_row, noise: score_matching.denoising_loss(
        net, x, positive_row, noise
    ),
    "score_matching.eps_loss": lambda x, t, noise: score_matching.eps_loss(net, LINEAR, x, t, noise),
    "score_matching.explicit_loss": lambda x: score_matching.explicit_loss(net, x),
    "score_matching.fisher_divergence": lambda x: score_matching.fisher_divergence(net, torch.sin, x),
    "score_matching.gaussian_fisher_divergence": lambda mean, cov, other_mean, other_cov: (
        score_matching.gaussian_fisher_divergence(mean, cov, other_mean, other_cov)
    ),
    "score_matching.marginal_score": lambda many, scores: score_matching.marginal_score(many, scores),
    "score_matching.noise_level": lambda positive_row, x: score_matching.noise_level(
        "sigma", positive_row, x
    ),
    "score_matching.sliced_loss": lambda x, y: score_matching.sliced_loss(net, x, y),
    "score_matching.weight_sensitivity": lambda row, x, y: score_matching.weight_sensitivity(row, x, y, 0.25),
}

SMLD: dict[str, Call] = {
    "smld.annealed_langevin": lambda sigmas, x, noise: smld.annealed_langevin(
        net, sigmas, x, 1e-2, 2, [noise] * 8, True
    ),
    "smld.chain_moments": lambda sigmas, wide_mean, wide_cov, other_wide_mean, other_wide_cov: (
        smld.chain_moments(sigmas, wide_mean, wide_cov, 1e-2, 2, other_wide_mean, other_wide_cov, True)
    ),
    "smld.denoise": lambda x, y: smld.denoise(x, 0.5, y),
    "smld.geometric_sigmas": lambda: smld.geometric_sigmas(9.0, 0.05, 12),
    "smld.loss": lambda sigmas, x, index, noise: smld.loss(net, sigmas, x, index, noise),
    "smld.step": lambda x, y, noise: smld.step(x, y, 0.1, noise),
    "smld.step_sizes": lambda sigmas: smld.step_sizes(sigmas, 1e-2),
}

ELBO: dict[str, Call] = (
    {
        f"elbo.{name}": lambda chain, finite_model, name=name: getattr(elbo, name)(chain, finite_model)
        for name in ("evidence", "gap", "log_weights", "path_divergence", "terms", "vanilla_terms")
    }
    | {
        f"elbo.FiniteChain.{name}": lambda chain, name=name: getattr(chain, name)(2)
        for name in ("given_data", "marginal", "posterior", "reversed_kernel")
    }
    | {
        f"elbo.GaussianChain.{name}": lambda line, name=name: getattr(line, name)()
        for name in ("marginal", "noise", "scale")
    }
    | {
        "elbo.FiniteModel.marginal": lambda finite_model: finite_model.marginal(0),
        "elbo.Terms.total": lambda chain, finite_model: elbo.terms(chain, finite_model).total,
        "elbo.VanillaTerms.total": lambda chain, finite_model: elbo.vanilla_terms(chain, finite_model).total,
        "elbo.binomial_chain": lambda: elbo.binomial_chain(SHORT, 0.25),
        "elbo.binomial_kernel": lambda chance, short_t: elbo.binomial_kernel(SHORT, chance, short_t),
        "elbo.binomial_kl": lambda chance, other_chance: elbo.binomial_kl(chance, other_chance),
        "elbo.binomial_marginal": lambda chance, short_t: elbo.binomial_marginal(SHORT, chance, short_t),
        "elbo.binomial_posterior": lambda chance, bits, short_t: elbo.binomial_posterior(
            SHORT, chance, bits, short_t
        ),
        "elbo.binomial_prior_term": lambda chance: elbo.binomial_prior_term(SHORT, chance),
        "elbo.conditional_information": lambda chain: elbo.conditional_information(chain),
        "elbo.divergence": lambda positive, other_positive: elbo.divergence(positive, other_positive),
        "elbo.forward_paths": lambda chain: elbo.forward_paths(chain),
        "elbo.gaussian_chain": lambda: elbo.gaussian_chain(SHORT, 0.5, 2.0),
        "elbo.gaussian_error_drop": lambda t, s: elbo.gaussian_error_drop(LINEAR, t, s, 0.5),
        "elbo.gaussian_information": lambda t: elbo.gaussian_information(LINEAR, t, 0.5),
        "elbo.gaussian_reversal": lambda line: elbo.gaussian_reversal(line),
        "elbo.gaussian_terms": lambda line, line_model: elbo.gaussian_terms(line, line_model),
        "elbo.merge": lambda chain, finite_model: elbo.merge(chain, finite_model, 1),
        "elbo.refinement_gain": lambda positive_row, row: elbo.refinement_gain(
            LINEAR, 500, 300, 100, positive_row + row.abs(), row.abs()
        ),
        "elbo.reverse_paths": lambda finite_model: elbo.reverse_paths(finite_model),
    }
)

VAE: dict[str, Call] = {
    "vae.LinearGaussian.decode": lambda autoencoder, z: autoencoder.decode(z),
    "vae.LinearGaussian.elbo": lambda autoencoder, x, y, cov: autoencoder.elbo(x, y, cov),
    "vae.LinearGaussian.evidence": lambda autoencoder, x: autoencoder.evidence(x),
    "vae.LinearGaussian.gap": lambda autoencoder, x, y, cov: autoencoder.gap(x, y, cov),
    "vae.LinearGaussian.posterior": lambda autoencoder, x: autoencoder.posterior(x),
    "vae.bound": lambda data_law, kernel, other_kernel: vae.bound(data_law, kernel, other_kernel),
    "vae.elbo": lambda autoencoder, x, y, positive, noise: vae.elbo(
        autoencoder.decode, x, y, positive, noise
    ),
    "vae.evidence": lambda data_law, kernel: vae.evidence(data_law, kernel),
    "vae.gap": lambda data_law, kernel, other_kernel: vae.gap(data_law, kernel, other_kernel),
    "vae.hierarchical_elbo": lambda autoencoder, x, other_gaussian, noise, fresh: vae.hierarchical_elbo(
        x, [autoencoder.decode] * 2, [autoencoder.decode] * 2, other_gaussian, [noise, fresh]
    ),
    "vae.kl_to_prior": lambda x, positive: vae.kl_to_prior(x, positive),
    "vae.reparameterise": lambda x, positive, noise: vae.reparameterise(x, positive, noise),
}


def bound(pixels: Tensor, noise: Tensor) -> vlb.Bound:
    """The bound of a short chain, with a grid of three values."""
    return vlb.bound_terms(two_heads, TWO, pixels, [noise] * 2, "learned_first_tilde", bins=3)


VLB: dict[str, Call] = {
    "vlb.Bound.total": lambda row, x: vlb.Bound(row, x, row).total,
    "vlb.bits_per_dim": lambda x: vlb.bits_per_dim(x),
    "vlb.bound_terms": lambda pixels, noise: bound(pixels, noise),
    "vlb.ddim_direct_term": lambda noise, x, short_t: vlb.ddim_direct_term(SHORT, noise, x, short_t, 0.3),
    "vlb.ddim_sigma": lambda short_t: vlb.ddim_sigma(SHORT, short_t, 2.0),
    "vlb.ddim_weight": lambda short_t: vlb.ddim_weight(SHORT, short_t, 0.3),
    "vlb.decoder_term": lambda pixels, noise, x: vlb.decoder_term(SHORT, pixels, noise, x, bins=3),
    "vlb.density_bits_per_dim": lambda x: vlb.density_bits_per_dim(x, 0.1),
    "vlb.density_log_likelihood": lambda pixels, x, y: vlb.density_log_likelihood(pixels, x, y, 3),
    "vlb.discretized_gaussian_log_likelihood": lambda pixels, x, y: vlb.discretized_gaussian_log_likelihood(
        pixels, x, y, 3
    ),
    "vlb.gaussian_terms": lambda x, mean, variances: vlb.gaussian_terms(
        TWO, x, mean.expand_as(x), variances.expand_as(x)
    ),
    "vlb.hybrid_loss": lambda pixels, short_t, noise: vlb.hybrid_loss(
        two_heads, SHORT, pixels, short_t, noise, bins=3
    ),
    "vlb.prior_term": lambda x: vlb.prior_term(SHORT, x),
    "vlb.step_term": lambda x, y, short_t: vlb.step_term(SHORT, x, y, short_t),
}

GUIDANCE: dict[str, Call] = {
    "guidance.classifier_free": lambda x, y: guidance.classifier_free(x, y, 1.5, "ho"),
    "guidance.classifier_gradient": lambda x, t: guidance.classifier_gradient(well, x, t),
    "guidance.classifier_guided_mean": lambda x, positive, y: guidance.classifier_guided_mean(
        x, positive, y, 2.5
    ),
    "guidance.ddpm_sample": lambda x, noise, fresh: [
        x for _, x in guidance.ddpm_sample(net, net, LINEAR, x, [noise, fresh], (900, 500, 20, 0), 2.5)
    ],
    "guidance.ddpm_step": lambda x, t, y, noise, s: guidance.ddpm_step(LINEAR, x, t, y, net, noise, s, 2.5),
    "guidance.guided_eps": lambda x, y: guidance.guided_eps(x, y, 0.25, 2.5),
    "guidance.guided_model": lambda x, t: guidance.guided_model(net, net, LINEAR, 2.5)(x, t),
    "guidance.guided_score": lambda x, y: guidance.guided_score(x, y, 2.5),
    "guidance.implied_gradient": lambda x, y: guidance.implied_gradient(x, y, 0.25),
    "guidance.loss_gradient": lambda x, s: guidance.loss_gradient(net, well, LINEAR, x, s),
    "guidance.loss_guided_eps": lambda x, s: guidance.loss_guided_eps(net, well, LINEAR, x, s),
}

DISCRETE: dict[str, Call] = {
    **SCHEDULE, **GAUSSIAN, **PARAMETERIZATION, **KERNEL, **DDPM, **DDIM, **DATA_LAWS, **ENERGY, **LANGEVIN,
    **SCORE_MATCHING, **SMLD, **ELBO, **VAE, **VLB, **GUIDANCE,
}  # fmt: skip
