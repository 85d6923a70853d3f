"""Every formula of the registry is proved, its decoys are refuted, and the other provers agree."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

import pytest
import sympy as sp

import derivations
from derivations.kit import Formula, Report, Zero
from derivations.kit.formula import FAMILIES
from derivations.kit.generators import reject_floats
from derivations.symbols import MEANINGS

REGISTRY = derivations.registry()
PREDICTIONS = ("eps", "x_0", "v", "score", "mu")
PROMISED = {
    "gaussian": """
        push_forward_mean push_forward_variance product_mean product_variance condition_mean
        condition_variance kl entropy log_density w2""",
    "schedule": """
        linear linear_rescaled scaled_linear quadratic cosine sigmoid_beta sigmoid_alpha_bar constant jsd
        square_root square_root_alpha_bar alpha_bar_product alpha_bar_decreasing respaced_beta snr log_snr
        sigma zero_terminal_snr""",
    "parameterization": " ".join(f"{a}_from_{b}" for a in PREDICTIONS for b in PREDICTIONS if a != b),
    "ddpm": """
        one_step marginal transition posterior_mean posterior_variance posterior_variance_bounds
        mean_from_x_0 mean_from_eps mean_from_score tweedie learned_variance optimal_variance
        loss_weight_mu loss_weight_x_0 loss_weight_eps kl_term loss_simple four_variable_loss
        skip_posterior_mean skip_posterior_variance step""",
    "ddim": """
        sigma step marginals eta_one_is_ddpm markov_iff root_sign sigma_bound inversion euler_in_sigma
        point_mass_exact""",
    "energy": """
        nce_posterior nce_loss nce_optimum nce_gradient langevin_invariance langevin_step
        langevin_step_half ula_mean ula_stationary_variance ula_variance ula_bias
        ula_stationary_variance_nd metropolis_acceptance mala_log_acceptance
        mala_log_acceptance_gaussian log_density score cross_entropy grad_log_z
        log_likelihood_gradient contrastive_loss contrastive_divergence
        contrastive_gradient_gaussian persistent_variance""",
    "score_matching": """
        fisher_divergence fisher_divergence_nd explicit explicit_nd explicit_energy
        explicit_plane explicit_gaussian_nd sliced_plane sliced_reduced_plane sliced
        sliced_variance sliced_variance_gap denoising denoising_explicit denoising_constant_nd
        denoising_gaussian_nd eps_loss marginal_score mixture_score weight_sensitivity
        weight_bound weight_divergence noised_overlap""",
    "smld": """
        level_mean level_variance stationary_variance contraction chain_mean chain_variance
        denoised_variance ladder step_size step step_practice loss loss_minimum ddpm_loss
        denoise""",
    "elbo": """
        forward_chain reverse_chain weight jensen evidence_gap bayes_step three_terms prior_term
        denoising_term reconstruction_term path_divergence binomial_kernel binomial_marginal
        binomial_posterior binomial_divergence binomial_prior_term gaussian_information
        gaussian_denoising_term coarsening refinement refinement_optimal refinement_gaussian
        small_step small_step_divergence reversed_kernel reversed_chain vanilla
        conditional_information information_chain best_reverse""",
    "vae": """
        variational evidence jensen split hierarchical gaussian_evidence optimal_encoder_mean
        optimal_encoder_variance gaussian_divergence gaussian_elbo gaussian_gap reparameterised
        sampled_elbo gaussian_evidence_nd gaussian_elbo_nd gaussian_gap_nd""",
    "vlb": """
        ddim_weight_x_0 ddim_weight_eps ddim_direct_term ddim_least_weight ddim_fixed_large
        ddim_sigma_for_weight decoder_bins decoder_interior decoder_first decoder_last
        decoder_density decoder_density_lower decoder_density_upper bits_per_dim prior_term
        term_mu term_x_0 term_learned variance_gradient hybrid_gradient gaussian_prior_term
        gaussian_step_term gaussian_decoder_term gaussian_bound excess_step excess_decoder
        excess_prior""",
    "guidance": """
        observation_likelihood observation_gradient point_estimate observed_mean
        observed_variance observed_eps gaussian_reverse_mean gaussian_reverse_variance
        observed_kernel_variance observed_kernel_mean scale_excess log_linear_gradient
        log_linear_target forward_kernel forward_path label_given_two_levels conditional_reverse
        powered_reverse sharpened scaled_gradient mean_shift mean_shift_nd mean_shift_exact
        linearisation_error quadratic_shift quadratic_variance conditional_mean
        conditional_variance ddpm_step probit_label probit_gradient probit_mean guided_score
        conditional_eps null_label guided_eps ddim_step x_0_slope loss_guided_eps
        loss_gradient_plane implied_gradient classifier_free classifier_free_ho scale_from_ho""",
    "flow": """
        conditional_velocity marginal_velocity marginal_velocity_many loss loss_split
        loss_gradient loss_constant determinant velocity_from_eps velocity_from_x_0
        velocity_from_score x_0_from_velocity eps_from_velocity score_from_velocity
        rectified_x_0 rectified_eps rectified_score rectified_velocity transport_velocity
        transport_velocity_from_x_0 transport_x_0 trigonometric_velocity vp_velocity
        vp_velocity_from_score subvp_velocity ve_velocity ve_velocity_from_score
        gaussian_velocity gaussian_flow_map curvature straightness first_step loss_constant_nd
        reflow_velocity euler_step ddim_step ddim_in_sigma ddim_in_snr euler_gap
        reversed_velocity shift shift_log_snr shift_inverse shift_composition shift_slope
        shift_exponential resolution_shift shifted_grid logit_normal logit_normal_shift
        loss_weight_eps loss_weight_x_0 loss_weight_v loss_weight_score log_snr_weight
        rectified_log_snr_weight coupling_swap coupling_distance bridge_velocity
        bridge_score bridge_score_weight sde_drift sde_drift_backward""",
    "sde": """
        fokker_planck fokker_planck_plane reverse_drift reverse_drift_multiplicative
        reverse_family kl_rate entropy_rate path_divergence mean_rate variance_rate
        scale variance drift_from_scale diffusion_from_std diffusion_from_sigma
        transition_factor transition_variance vp_kernel_factor vp_kernel_variance
        ve_kernel_variance ve_diffusion ve_variance vp_integral vp_factor vp_variance
        sub_vp_diffusion sub_vp_std sub_vp_transition ve_level ve_chain_variance ve_gap
        vp_beta vp_beta_wide chain_ratio ddpm_chain sum_gap sum_gap_wide square_sum
        log_kept chain_gap_right chain_gap_left beta_from_integral rate_from_beta
        euler_maruyama reverse_diffusion reverse_diffusion_vp reverse_diffusion_ve
        ancestral ancestral_ve reverse_diffusion_gap ancestral_gap ancestral_noise_gap
        local_reverse_diffusion local_ancestral local_ancestral_noise affine_mean
        affine_variance reverse_diffusion_error ancestral_error ancestral_forward_error
        local_error_euler_maruyama local_error_reverse_diffusion local_error_ancestral
        heun_mean heun_variance brownian_integral runge_kutta_stage runge_kutta_drift
        runge_kutta_noise kernel_score dsm_loss dsm_minimum kl_rate_gaussian corrector
        corrector_step_size corrected_mean corrected_variance frozen_corrector
        corrector_excess corrector_forgets""",
    "ode": """
        drift family of_reverse_sde drift_state_dependent drift_plane not_unique_plane from_eps
        vp_drift ve_drift sub_vp_drift change_of_variables log_density_rate log_density_rate_nd
        jacobian hutchinson hutchinson_variance bits_per_dim gaussian_flow gaussian_flow_nd
        gaussian_log_det gaussian_likelihood prior_gap euler_error heun_error rk4_error ve_step
        ve_step_error vp_step vp_step_error one_ode vp_is_ddim_ode ve_is_ddim_ode
        ddim_coefficient ddim_coefficient_ratio ddim_coefficient_gap ddim_coefficient_series
        ddim_state_gap ddim_step_gap ddim_step_error ve_ddim_gap""",
    "solver": """
        diffusion_log_snr ode_eps ode_x_0 solution_eps solution_x_0 sde_variance_eps
        sde_variance_x_0 sde_mean_x_0 phi_1 phi_2 phi_3 phi_4 weights_two weights_three dpm_1
        dpm_1_is_ddim dpmpp_1 dpm_2 dpmpp_2s dpmpp_2m dpmpp_2m_heun dpm_3_stage dpm_3 dpm_3_inner
        dpmpp_3m dpm_1_error dpm_2_error dpmpp_2s_error dpmpp_2m_error dpmpp_2m_heun_error
        dpm_3_error dpmpp_3m_error halved_3m_error unip_2 unip_2_is_dpmpp_2m unip_3_is_dpmpp_3m
        unic_1 unic_2 unip_2_error unic_1_error unic_2_error unic_3_error sde_dpm_1 sde_dpmpp_1
        sde_dpmpp_1_is_ddim sde_ancestral sde_eta sde_dpmpp_2m sde_dpmpp_2m_heun sde_dpmpp_3m
        sde_dpmpp_2m_error sde_dpmpp_2m_heun_error sde_3m_sign_error sde_dpm_2m dpm_2m
        dpm_2m_error dpmpp_3s_stage dpmpp_3s dpmpp_3s_error
        edm_c_in edm_c_skip edm_c_out edm_c_noise edm_loss_weight edm_target edm_denoiser
        karras_levels churn_bound churn_factor churn_step churn_excess ab2 ab3 ab4 plms
        plms_defect prk_defect rk2 rk2_gaussian rk3_weights rk3_stage rk4_weights rk4_stage_3
        rk4_stage_4 pf_ode_sigma euler_sigma edm_heun ancestral_up ancestral_down ancestral_step
        ancestral_defect sde_memory""",
    "consistency": """
        level steps improved_steps ema_rate ema pseudo_huber level_probability unbiased_score
        training_pair distillation_gradient gradient_gap loss_gap bias_without_stop gaussian_gradient
        gaussian_gradient_order trained_step trained_deficit trained_slope weight velocity
        velocity_from_data constancy c_skip c_out gaussian_function gaussian_axes_nd
        gaussian_function_plane renoise one_step_mean one_step_variance two_step_variance multistep_mean
        multistep_variance""",
    "vdm": """
        limit rate invariance excess gaussian_error gaussian_term gaussian_loss refinement
        gaussian_order gaussian_reconstruction gaussian_bound optimal_gamma learned_gamma learned_slope
        marginal transition_variance step term term_x_0 prior_term reconstruction""",
    "embedding": """
        frequency last_frequency last_frequency_half octave sine cosine rotated_sine rotated_cosine
        pair_product inner_product norm pair_distance speed""",
}
SEED, PAPER = r"S00[0-4]:(alg|fig|tab)?[\d.§/]+", r"[A-Z][A-Za-z-]+\d{4}[a-z]*(:.+)?"
THREAD = r"[\w./-]+ (PR)?#\d+"
SOURCE = re.compile(f"{SEED}|{PAPER}|{THREAD}|conventions:.+")


@pytest.fixture(params=sorted(REGISTRY))
def formula(request: pytest.FixtureRequest) -> Formula:
    return REGISTRY[request.param]


def test_every_formula_is_proved(formula: Formula) -> None:
    report = formula.verify()
    assert report.steps, f"{formula.id}: the proof has no step"
    for step in report.steps:
        assert step.verdict.proved, f"{formula.id}, {step.step.title}: {step.verdict}"
    assert report.complaints == ()
    assert report.proved
    _decoys_are_refuted(formula, report)
    _second_provers_agree(report)


def _decoys_are_refuted(formula: Formula, report: Report) -> None:
    assert set(report.decoys) == {decoy.id for decoy in formula.decoys}
    assert report.decoys, f"{formula.id} has no decoy"
    for name, verdict in report.decoys.items():
        assert verdict.status == "refuted", f"{formula.id}, decoy {name}: {verdict}"
        assert verdict.witness or verdict.detail


def _second_provers_agree(report: Report) -> None:
    for step in report.steps:
        covered = any(isinstance(obligation, Zero) for obligation in step.step.stated)
        opinions = [opinion.verdict.status for opinion in step.second]
        assert "refuted" not in opinions
        if covered:
            assert "proved" in opinions, f"{report.id}, {step.step.title}: {step.second}"


def test_everything_that_a_formula_uses_is_proved_here_too(formula: Formula) -> None:
    needed = [formula.id]
    for name in needed:
        needed += [used for used in REGISTRY[name].uses if used not in needed]
    # each of them has its own run of the test above
    assert set(needed) <= set(REGISTRY)
    assert all(REGISTRY[name].topic in derivations.TOPICS for name in needed)


def test_every_promised_formula_exists() -> None:
    for topic, names in PROMISED.items():
        assert [name for name in names.split() if f"{topic}.{name}" not in REGISTRY] == []


def test_every_formula_says_what_it_is(formula: Formula) -> None:
    assert formula.title != formula.id
    assert formula.prose
    assert formula.citations or formula.reference or formula.uses
    undeclared = [symbol for symbol in formula.arguments if symbol not in MEANINGS]
    assert undeclared == []
    for citation in formula.citations:
        assert SOURCE.fullmatch(citation), f"{formula.id}: {citation!r} is no citation"


def test_every_decoy_says_what_is_wrong(formula: Formula) -> None:
    for decoy in formula.decoys:
        assert decoy.family in FAMILIES
        assert decoy.note


def test_every_reference_exists(formula: Formula) -> None:
    if formula.reference:
        module, _, name = formula.reference.partition(":")
        assert callable(getattr(importlib.import_module(module), name, None)), formula.reference


def test_no_formula_holds_a_float(formula: Formula) -> None:
    for expr in (formula.lhs, formula.rhs, *(decoy.rhs for decoy in formula.decoys)):
        reject_floats(sp.sympify(expr))


def test_proofs_know_nothing_of_golden_values_nor_of_the_reference() -> None:
    program = (
        "import sys, derivations; derivations.registry();"
        "bad = [m for m in sys.modules if m.split('.')[0] in ('refdiff', 'torch') or 'golden' in m];"
        "sys.exit(repr(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
