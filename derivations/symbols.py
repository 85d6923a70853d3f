"""The symbols of every formula: name, domain, meaning, unit of time and LaTeX, decided once.

Levels are independent: ``abar_t`` and its predecessor ``abar_prev`` (or an earlier ``abar_s``) are free,
while α_t = ᾱ_t/ᾱ_{t−1} and β_t = 1 − α_t follow from them (``WHERE``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import sympy as sp

Domain = Literal["unit", "positive", "nonnegative", "real", "nonzero", "natural", "closed_unit"]


@dataclass(frozen=True)
class Meaning:
    """What a symbol stands for, and where it may lie."""

    domain: Domain
    meaning: str
    unit: str = ""
    latex: str = ""


MEANINGS: dict[sp.Symbol, Meaning] = {}

_ASSUMPTIONS: dict[Domain, dict[str, bool]] = {
    "unit": {"positive": True},
    "closed_unit": {"nonnegative": True},
    "positive": {"positive": True},
    "nonnegative": {"nonnegative": True},
    "real": {"real": True},
    "nonzero": {"real": True, "nonzero": True},
    "natural": {"integer": True, "positive": True},
}


def _symbol(name: str, domain: Domain, meaning: str, latex: str = "", unit: str = "") -> sp.Symbol:
    symbol = sp.Symbol(name, **_ASSUMPTIONS[domain])
    if symbol in MEANINGS:
        raise ValueError(f"symbol {name!r} is declared twice")
    MEANINGS[symbol] = Meaning(domain, meaning, unit, latex or name)
    return symbol


abar_t = _symbol("abar_t", "unit", "signal power kept at level t", r"\bar\alpha_t", "step t, 1..T")
abar_prev = _symbol(
    "abar_prev", "unit", "signal power kept at level t-1", r"\bar\alpha_{t-1}", "step t-1, 0..T-1"
)
abar_s = _symbol(
    "abar_s", "unit", "signal power kept at an earlier level s < t", r"\bar\alpha_s", "step s, 0..t-1"
)
alpha_t = _symbol("alpha_t", "unit", "signal power kept by step t", r"\alpha_t", "step t, 1..T")
beta_t = _symbol("beta_t", "unit", "noise power added by step t", r"\beta_t", "step t, 1..T")
beta_tilde_t = _symbol(
    "beta_tilde_t", "positive", "variance of the forward posterior", r"\tilde\beta_t", "step t, 1..T"
)
sigma_t = _symbol("sigma_t", "positive", "standard deviation of a reverse step", r"\sigma_t", "step t, 1..T")
eta = _symbol("eta", "closed_unit", "share of the DDPM standard deviation, 0 is deterministic", r"\eta")
x_0 = _symbol("x_0", "real", "data", "x_0")
x_t = _symbol("x_t", "real", "noised data at level t", "x_t")
x_s = _symbol("x_s", "real", "noised data at level s", "x_s")
x_prev = _symbol("x_prev", "real", "noised data at level t-1", "x_{t-1}")
eps = _symbol("eps", "real", "noise in x_t (or its prediction)", r"\epsilon")
z = _symbol("z", "real", "fresh standard normal noise", "z")
v = _symbol("v", "real", "velocity of the angular parameterization", "v")
score = _symbol("score", "real", "gradient of log density at x_t", r"\nabla_{x_t}\log q(x_t)")
mu = _symbol("mu", "real", "posterior mean", r"\mu")
t = _symbol("t", "natural", "step", "t", "1..T")
T = _symbol("T", "natural", "number of steps", "T")
s = _symbol("s", "natural", "earlier step", "s", "1..t")
i = _symbol("i", "natural", "index of a product or sum", "i")
n = _symbol("n", "natural", "number of steps skipped, or a dimension", "n")
x = _symbol("x", "real", "a real number", "x")
beta_1 = _symbol("beta_1", "unit", "first step variance", r"\beta_1")
beta_T = _symbol("beta_T", "unit", "last step variance", r"\beta_T")
alpha_ddim_t = _symbol(
    "alpha_ddim_t", "unit", "the DDIM paper's α_t", r"\alpha^{\mathrm{DDIM}}_t", "step t, 1..T"
)
alpha_ddim_prev = _symbol(
    "alpha_ddim_prev", "unit", "its predecessor", r"\alpha^{\mathrm{DDIM}}_{t-1}", "step t-1, 0..T-1"
)
abar_su_t = _symbol(
    "abar_su_t", "unit", "Su's ᾱ_t: amplitude kept at level t", r"\bar\alpha^{\mathrm{Su}}_t", "step t, 1..T"
)
abar_su_prev = _symbol(
    "abar_su_prev", "unit", "its predecessor", r"\bar\alpha^{\mathrm{Su}}_{t-1}", "step t-1, 0..T-1"
)
sigma = _symbol("sigma", "positive", "noise level in units of the data, EDM's σ", r"\sigma")
x_ve = _symbol("x_ve", "real", "data plus noise, not scaled: x_t/√ᾱ_t", r"x^{\mathrm{VE}}")
score_ve = _symbol("score_ve", "real", "gradient of log density in that space", r"s^{\mathrm{VE}}")
gamma = _symbol("gamma", "real", "VDM's γ: minus the log of the signal-to-noise ratio", r"\gamma")
lambda_t = _symbol("lambda_t", "real", "half of the log of the signal-to-noise ratio", r"\lambda_t")
tau = _symbol("tau", "positive", "continuous time", r"\tau", "0..1")
beta_min = _symbol("beta_min", "positive", "first rate of a continuous process", r"\beta_{\min}", "1/time")
beta_max = _symbol("beta_max", "unit", "largest step variance allowed", r"\beta_{\max}")
rate_gap = _symbol(
    "rate_gap", "positive", "last rate of a continuous process minus the first", r"\Delta\beta", "1/time"
)

x_0_hat = _symbol("x_0_hat", "real", "prediction of the data", r"\hat x_0")
eps_hat = _symbol("eps_hat", "real", "prediction of the noise", r"\hat\epsilon")
mu_hat = _symbol("mu_hat", "real", "mean of the learned reverse step", r"\mu_\theta")
fraction = _symbol("fraction", "closed_unit", "place of a learned variance between its two limits", "f")
x_0_variance = _symbol(
    "x_0_variance", "nonnegative", "variance of the data given x_t", r"\operatorname{Var}[x_0\mid x_t]"
)
data_mean = _symbol("data_mean", "real", "mean of Gaussian data", "m")
data_variance = _symbol("data_variance", "positive", "variance of Gaussian data", "c")
omega = _symbol("omega", "real", "noise independent of the merged noise", r"\omega")
step_noise_hat = _symbol(
    "step_noise_hat", "real", "prediction of the noise of step t alone", r"\hat\epsilon_{t\mid t-1}"
)
beta = _symbol("beta", "unit", "variance of every step", r"\beta")
offset = _symbol("offset", "nonnegative", "small shift that keeps the first steps from vanishing", "s")
span = _symbol("span", "positive", "half the range of the argument of a logistic function", "h")
start = _symbol("start", "real", "first argument of a logistic function", "b")
width = _symbol("width", "positive", "range of the argument of a logistic function", "w")
temperature = _symbol("temperature", "positive", "divides the argument of a logistic function", r"\vartheta")
abar_1 = _symbol("abar_1", "unit", "signal power kept at level 1", r"\bar\alpha_1", "step 1")
abar_T = _symbol("abar_T", "unit", "signal power kept at the last level", r"\bar\alpha_T", "step T")
before = _symbol("before", "nonnegative", "steps since the first: t-1", "k")
after = _symbol("after", "positive", "steps until the last: T-t", "m")
gain = _symbol("gain", "real", "slope of an affine prediction of the noise", "g")
intercept = _symbol("intercept", "real", "value of an affine prediction of the noise at 0", "h")
eps_s = _symbol("eps_s", "real", "noise predicted at level s", r"\epsilon_s")
h = _symbol("h", "positive", "step in a noise level", "h")
dim = _symbol("dim", "natural", "dimension of the variable", "d")
dim_y = _symbol("dim_y", "natural", "dimension of the observation", "e")
mean_0 = _symbol("mean_0", "real", "mean of the first law, or of the prior", r"\mu_0")
mean_1 = _symbol("mean_1", "real", "mean of the second law", r"\mu_1")
variance_0 = _symbol("variance_0", "positive", "variance of the first law, or of the prior", "v_0")
variance_1 = _symbol("variance_1", "positive", "variance of the second law, or of added noise", "v_1")
slope = _symbol("slope", "nonzero", "factor of an affine map", "a")
shift = _symbol("shift", "real", "shift of an affine map", "b")
y = _symbol("y", "real", "an observation, or the image of a map", "y")
weight_1 = _symbol("weight_1", "positive", "weight of the first component", "w_1")
weight_2 = _symbol("weight_2", "positive", "weight of the second component", "w_2")
mode_1 = _symbol("mode_1", "real", "mean of the first component or coordinate of data", "m_1")
mode_2 = _symbol("mode_2", "real", "mean of the second component or coordinate of data", "m_2")
mode_variance_1 = _symbol("mode_variance_1", "positive", "variance of the first component of data", "c_1")
mode_variance_2 = _symbol("mode_variance_2", "positive", "variance of the second component of data", "c_2")
point_1 = _symbol("point_1", "real", "first point of an empirical measure", "a_1")
point_2 = _symbol("point_2", "real", "second point of an empirical measure", "a_2")
score_slope = _symbol("score_slope", "real", "derivative of the score at x_t", r"\nabla_{x_t}^2\log q(x_t)")
cov_11 = _symbol("cov_11", "positive", "variance of the first coordinate of data", "C_{11}")
cov_12 = _symbol("cov_12", "real", "covariance of the two coordinates of data", "C_{12}")
cov_22 = _symbol("cov_22", "positive", "variance of the second coordinate of data", "C_{22}")
x_t_1 = _symbol("x_t_1", "real", "first coordinate of x_t", "x_{t,1}")
x_t_2 = _symbol("x_t_2", "real", "second coordinate of x_t", "x_{t,2}")

# score matching
score_hat = _symbol("score_hat", "real", "prediction of the score", r"s_\theta")
score_hat_slope = _symbol("score_hat_slope", "real", "derivative of the predicted score", r"s_\theta'")
score_hat_1 = _symbol("score_hat_1", "real", "first coordinate of the predicted score", r"s_{\theta,1}")
score_hat_2 = _symbol("score_hat_2", "real", "second coordinate of the predicted score", r"s_{\theta,2}")
u_1 = _symbol("u_1", "real", "first coordinate of a point minus the centre of an energy", "u_1")
u_2 = _symbol("u_2", "real", "second coordinate of a point minus the centre of an energy", "u_2")
v_1 = _symbol("v_1", "real", "first coordinate of a direction", "v_1")
v_2 = _symbol("v_2", "real", "second coordinate of a direction", "v_2")
H_11 = _symbol("H_11", "real", "minus the slope of the first coordinate along the first", "H_{11}")
H_12 = _symbol("H_12", "real", "minus the slope of the first coordinate along the second", "H_{12}")
H_21 = _symbol("H_21", "real", "minus the slope of the second coordinate along the first", "H_{21}")
H_22 = _symbol("H_22", "real", "minus the slope of the second coordinate along the second", "H_{22}")
components = _symbol("components", "natural", "number of components of a mixture", "n")
weight = _symbol("weight", "unit", "weight of the first of two laws", r"\pi")
other_weight = _symbol("other_weight", "unit", "another weight of the first of two laws", r"\pi'")
density_0 = _symbol("density_0", "positive", "density of the first law at a point", "p_0")
density_1 = _symbol("density_1", "positive", "density of the second law at a point", "p_1")
component_score_0 = _symbol("component_score_0", "real", "score of the first law", "s_0")
component_score_1 = _symbol("component_score_1", "real", "score of the second law", "s_1")

# annealed Langevin sampling
sigma_1 = _symbol("sigma_1", "positive", "largest noise level of a ladder", r"\sigma_1")
sigma_L = _symbol("sigma_L", "positive", "smallest noise level of a ladder", r"\sigma_L")
rungs = _symbol("rungs", "natural", "number of noise levels of a ladder", "L")
base_step = _symbol("base_step", "positive", "step size at the smallest noise level", r"\varepsilon")
step_size = _symbol("step_size", "positive", "step size at a noise level", r"\alpha")
visited = _symbol("visited", "natural", "noise levels visited so far", "n")
steps = _symbol("steps", "natural", "Langevin steps at each noise level", "T")
start_mean = _symbol("start_mean", "real", "mean of the state before the first step", r"\mu_0")
start_variance = _symbol("start_variance", "nonnegative", "variance before the first step", "v_0")

# energy models and Langevin chains
eta_step = _symbol("eta_step", "positive", "step of a Langevin chain, in time of its diffusion", r"\eta")
epsilon = _symbol(
    "epsilon", "positive", "step of a Langevin chain, as the deviation of its noise", r"\varepsilon"
)
temp = _symbol("temp", "positive", "temperature: the law is exp(-E/temp), normalised", r"\tau")
energy_x = _symbol("energy_x", "real", "energy at x", "E(x)")
energy_y = _symbol("energy_y", "real", "energy at y", "E(y)")
energy_slope = _symbol("energy_slope", "real", "gradient of the energy at x", r"\nabla E(x)")
score_x = _symbol("score_x", "real", "minus the gradient of the energy at x", "s(x)")
score_y = _symbol("score_y", "real", "minus the gradient of the energy at y", "s(y)")
log_z = _symbol("log_z", "real", "log of the normaliser", r"\log Z")
_DATA, _MODEL, _CHAIN = (
    rf"\mathbb E_{{{law}}}[\partial_\theta E]" for law in (r"\mathrm{data}", r"p_\theta", "k")
)
phase_data = _symbol("phase_data", "real", "mean of the energy's parameter derivative over data", _DATA)
phase_model = _symbol("phase_model", "real", "mean of it over the model", _MODEL)
phase_chain = _symbol("phase_chain", "real", "mean of it over the end of a chain", _CHAIN)
chain_drift = _symbol(
    "chain_drift", "real", "change of the divergence that the parameter causes through the chain", r"\Delta_k"
)
kl_data = _symbol("kl_data", "nonnegative", "divergence of the model from the data", r"\mathrm{KL}")
entropy_data = _symbol("entropy_data", "real", "entropy of the data", r"\mathrm H")
count = _symbol("count", "natural", "number of steps of a chain", "n")
hastings = _symbol("hastings", "positive", "flow of the reverse move over that of the move", "R")
noise_ratio = _symbol("noise_ratio", "natural", "samples of noise for one of data", r"\nu")
log_model_x = _symbol("log_model_x", "real", "log of the model at data", r"\log p_\theta(x)")
log_noise_x = _symbol("log_noise_x", "real", "log-density of the noise at data", r"\log q(x)")
log_model_y = _symbol("log_model_y", "real", "log of the model at noise", r"\log p_\theta(y)")
log_noise_y = _symbol("log_noise_y", "real", "log-density of the noise at noise", r"\log q(y)")
density_data = _symbol("density_data", "positive", "density of the data", "p")
density_model = _symbol("density_model", "positive", "density of the model", r"p_\theta")
density_noise = _symbol("density_noise", "positive", "density of the noise", "q")
log_model_slope = _symbol(
    "log_model_slope", "real", "parameter derivative of the log-density", r"\partial_\theta\log p_\theta"
)
bin_width = _symbol("bin_width", "positive", "width of a bin of the data, in the unit of x", r"\Delta")
nats = _symbol("nats", "real", "minus the log of a density, of one dimension", r"\ell")
loss_weight = _symbol("loss_weight", "positive", "weight of a squared error of the noise", "w")
theta = _symbol("theta", "real", "a parameter of the network", r"\theta")
bound_weight = _symbol("bound_weight", "positive", "weight of the bound in the hybrid loss", r"\lambda")

# bounds of the likelihood
importance = _symbol("importance", "positive", "weight of a path, p(x_{0:T}) / q(x_{1:T} | x_0)", "w")
evidence = _symbol("evidence", "positive", "mean weight of the paths, p(x_0)", "p(x_0)")
score_curvature = _symbol(
    "score_curvature", "real", "second derivative of the score", r"\nabla^3\log q"
)
scaled = _symbol("scaled", "real", "x_{t-1} - x_t in units of the step's deviation", "u")
error_t = _symbol("error_t", "nonnegative", "mean squared error of the data predicted at level t", "e_t")
error_prev = _symbol("error_prev", "nonnegative", "the same at the level between", "e_{t-1}")
guess_t = _symbol("guess_t", "real", "mean of the data given x_t", r"\mathrm E[x_0\mid x_t]")
guess_prev = _symbol(
    "guess_prev", "real", "mean of the data given a state between", r"\mathrm E[x_0\mid x_{t-1}]"
)
chance_0 = _symbol("chance_0", "closed_unit", "probability that a bit of the data is 1", r"\pi_0")
chance_1 = _symbol("chance_1", "closed_unit", "the model's probability that a bit is 1", r"\pi_1")
chance_prev = _symbol("chance_prev", "closed_unit", "probability that a bit is 1 before a step", r"\pi_{t-1}")
sign_t = _symbol("sign_t", "nonzero", "a bit of x_t as a sign: 1 for one, -1 for zero", r"\varsigma_t")
latent = _symbol("latent", "real", "code of an observation", "z")
code_mean = _symbol("code_mean", "real", "mean of the encoder", "m")
code_variance = _symbol("code_variance", "positive", "variance of the encoder", "s")

# guidance
guide_scale = _symbol("guide_scale", "positive", "scale of the guidance, 1 is Bayes' rule", r"\kappa")
ho_scale = _symbol("ho_scale", "real", "guidance weight of Ho and Salimans, 0 is the conditional model", "w")
label_score = _symbol("label_score", "real", "gradient of the log-probability of the label", "g")
label_score_mean = _symbol(
    "label_score_mean", "real", "its mean under the conditional reverse kernel", r"\bar g"
)
label_slope = _symbol("label_slope", "real", "second derivative of the label's log-probability", "g'")
label_bend = _symbol("label_bend", "real", "third derivative of the label's log-probability", "g''")
label_prev = _symbol("label_prev", "positive", "probability of the label given x_{t-1}", r"q(y\mid x_{t-1})")
label_t = _symbol("label_t", "positive", "probability of the label given x_t", r"q(y\mid x_t)")
twist_prev = _symbol("twist_prev", "positive", "mean of q(y | x_0)^κ given x_{t-1}", "h_{t-1}")
twist_t = _symbol("twist_t", "positive", "mean of q(y | x_0)^κ given x_t", "h_t")
step_density = _symbol("step_density", "positive", "forward kernel of one step", r"q(x_t\mid x_{t-1})")
reverse_density = _symbol(
    "reverse_density", "positive", "reverse kernel of one step", r"q(x_{t-1}\mid x_t)"
)
label_share = _symbol("label_share", "unit", "probability of the first of two labels given x_t", r"\pi_t")
log_odds = _symbol("log_odds", "real", "log of the odds of two labels given x_t", r"\ell")
eps_cond = _symbol("eps_cond", "real", "noise predicted with the condition", r"\epsilon_y")
eps_other = _symbol("eps_other", "real", "noise predicted with the other condition", r"\epsilon_{y'}")
eps_slope = _symbol("eps_slope", "real", "derivative of the predicted noise at x_t", r"\epsilon'")
loss_slope = _symbol("loss_slope", "real", "derivative of the loss at the predicted data", "L'")
loss_slope_1 = _symbol("loss_slope_1", "real", "its derivative along the first coordinate", "L_1")
loss_slope_2 = _symbol("loss_slope_2", "real", "its derivative along the second coordinate", "L_2")
jacobian_11 = _symbol("jacobian_11", "real", "slope of the first coordinate of the data along x_1", "J_{11}")
jacobian_12 = _symbol("jacobian_12", "real", "slope of the first coordinate of the data along x_2", "J_{12}")
jacobian_21 = _symbol("jacobian_21", "real", "slope of the second coordinate of the data along x_1", "J_{21}")
obs_variance = _symbol("obs_variance", "positive", "variance of an observation given the data", "r")
tilt = _symbol("tilt", "real", "slope of a linear classifier of data", "b")
label_offset = _symbol("label_offset", "real", "value of a linear classifier at 0", "b_0")

# solvers in sigma
sig_t = _symbol("sig_t", "positive", "noise over signal, std/scale, where a step begins", r"\sigma(t)")
sig_s = _symbol("sig_s", "positive", "noise over signal, std/scale, where a step ends", r"\sigma(s)")
sigma_data = _symbol("sigma_data", "positive", "standard deviation of the data", r"\sigma_{\mathrm{data}}")
net = _symbol("net", "real", "output of a preconditioned network", "F")
x_0_hat_s = _symbol("x_0_hat_s", "real", "data predicted where a step ends", r"\hat x_0(s)")
rho = _symbol("rho", "positive", "exponent of the levels of Karras et al.", r"\rho")
churn = _symbol("churn", "nonnegative", "share by which a level is raised before a step", r"\gamma")
s_churn = _symbol("s_churn", "nonnegative", "churn of all steps together", r"S_{\mathrm{churn}}")
s_noise = _symbol("s_noise", "positive", "factor of the noise that raises a level", r"S_{\mathrm{noise}}")
node_2 = _symbol("node_2", "positive", "place of the second stage in a step", "c_2")
node_3 = _symbol("node_3", "positive", "place of the third stage in a step", "c_3")
weight_3 = _symbol("weight_3", "positive", "weight of the third stage", "b_3")
slope_1 = _symbol("slope_1", "real", "slope at the first stage of a step", "k_1")
slope_2 = _symbol("slope_2", "real", "slope at the second stage of a step", "k_2")
slope_3 = _symbol("slope_3", "real", "slope at the third stage of a step", "k_3")
slope_4 = _symbol("slope_4", "real", "slope at the fourth stage of a step", "k_4")
gap = _symbol("gap", "positive", "fall of the noise level in a step", r"\Delta_0")
gap_1 = _symbol("gap_1", "positive", "fall of the noise level in the step before", r"\Delta_1")
gap_2 = _symbol("gap_2", "positive", "fall of the noise level two steps before", r"\Delta_2")
gap_3 = _symbol("gap_3", "positive", "fall of the noise level three steps before", r"\Delta_3")
eps_1 = _symbol("eps_1", "real", "noise predicted one level before", r"\epsilon_1")
eps_2 = _symbol("eps_2", "real", "noise predicted two levels before", r"\epsilon_2")
eps_3 = _symbol("eps_3", "real", "noise predicted three levels before", r"\epsilon_3")
bend = _symbol("bend", "real", "derivative of the next order of the exact solution", "B")

# flows
flow_t = _symbol("flow_t", "unit", "time of a flow: 0 at the data, 1 at the noise", "t", "0..1")
flow_s = _symbol("flow_s", "unit", "another time of a flow", "s", "0..1")
path_scale = _symbol("path_scale", "positive", "factor of the data at time t", "a")
path_std = _symbol("path_std", "positive", "factor of the noise at time t", "b")
path_scale_slope = _symbol("path_scale_slope", "real", "derivative of the factor of the data", "a'", "1/time")
path_std_slope = _symbol("path_std_slope", "real", "derivative of the factor of the noise", "b'", "1/time")
path_scale_s = _symbol("path_scale_s", "positive", "factor of the data at time s", "a_s")
path_std_s = _symbol("path_std_s", "positive", "factor of the noise at time s", "b_s")
residual_std = _symbol("residual_std", "unit", "noise that a path leaves on the data", r"\sigma_{\min}")
velocity = _symbol("velocity", "real", "velocity of a flow at x_t", "u", "1/time")
velocity_hat = _symbol("velocity_hat", "real", "prediction of the velocity", r"\hat u", "1/time")
velocity_hat_slope = _symbol(
    "velocity_hat_slope", "real", "derivative of the prediction by a parameter", r"\partial_\theta\hat u"
)
target_velocity = _symbol("target_velocity", "real", "velocity of one pair of data and noise", r"u_{x_0}")
component_velocity_0 = _symbol("component_velocity_0", "real", "velocity of the first law", "u_0")
component_velocity_1 = _symbol("component_velocity_1", "real", "velocity of the second law", "u_1")
noise_rate = _symbol("noise_rate", "nonnegative", "diffusion of a process with a flow's marginals", "g")
time_shift = _symbol("time_shift", "positive", "shift of the times of a flow", r"\varsigma")
other_shift = _symbol("other_shift", "positive", "another shift of the times of a flow", r"\varsigma'")
log_shift = _symbol("log_shift", "real", "log of the shift of the times of a flow", r"\mu")
shift_power = _symbol("shift_power", "positive", "factor of the log-odds of time", "p")
intervals = _symbol("intervals", "natural", "steps from noise to data", "N")
visited_time = _symbol("visited_time", "natural", "index of a time on the way from noise to data", "i")
logit_mean = _symbol("logit_mean", "real", "mean of the log-odds of time", "m")
logit_std = _symbol("logit_std", "positive", "deviation of the log-odds of time", "s")
time_density = _symbol("time_density", "positive", "density of the times of training", r"\pi(t)")
pixels = _symbol("pixels", "positive", "pixels of an image", "n")
base_pixels = _symbol("base_pixels", "positive", "pixels of an image whose times are not shifted", "n_0")
data_gap = _symbol("data_gap", "real", "difference of two data", r"\Delta x_0")
noise_gap = _symbol("noise_gap", "real", "difference of the noises that they are coupled with", r"\Delta x_1")
end_0 = _symbol("end_0", "real", "start of a bridge", "x_0")
end_1 = _symbol("end_1", "real", "end of a bridge", "x_1")

# probability-flow ODE
flow_11 = _symbol("flow_11", "real", "slope of a velocity's first coordinate along the first", "J_{11}")
flow_12 = _symbol("flow_12", "real", "slope of a velocity's first coordinate along the second", "J_{12}")
flow_21 = _symbol("flow_21", "real", "slope of a velocity's second coordinate along the first", "J_{21}")
flow_22 = _symbol("flow_22", "real", "slope of a velocity's second part along the second", "J_{22}")
probes = _symbol("probes", "natural", "random directions over which a trace estimate is averaged", "n")
log_likelihood = _symbol("log_likelihood", "real", "log of the density of a sample, in nats", r"\log p")
bins = _symbol("bins", "natural", "bins that tile the range of the data", "n")
data_span = _symbol("data_span", "positive", "length of the range that the bins tile", "r")
prior_variance = _symbol("prior_variance", "positive", "variance of the law that sampling starts from", "v")
alpha_before = _symbol(
    "alpha_before", "unit", "signal power kept by the step before", r"\alpha_{t-1}", "step t-1, 1..T-1"
)

# consistency models
sigma_min = _symbol("sigma_min", "positive", "smallest noise level", r"\sigma_{\min}")
f_slope_theta = _symbol(
    "f_slope_theta", "real", "derivative of a consistency function by a parameter", r"\partial_\theta f"
)
student_slope = _symbol("student_slope", "real", "slope of a consistency function at a level", "b")
teacher_slope = _symbol("teacher_slope", "real", "its slope at the level below", "a")
iteration = _symbol("iteration", "natural", "iteration of the training", "k")
iterations = _symbol("iterations", "natural", "number of iterations", "K")
count_first = _symbol("count_first", "natural", "number of levels where training starts", "s_0")
count_last = _symbol("count_last", "natural", "number of steps between levels where it ends", "s_1")
doublings = _symbol("doublings", "natural", "how often the number of levels doubles", "m")
average_rate = _symbol("average_rate", "unit", "rate of a moving average", r"\mu")
average_rate_first = _symbol("average_rate_first", "unit", "that rate where training starts", r"\mu_0")
theta_average = _symbol("theta_average", "real", "moving average of a parameter", r"\theta^-")
distance_squared = _symbol("distance_squared", "nonnegative", "squared distance of two outputs", r"\|u\|^2")
log_sigma_mean = _symbol("log_sigma_mean", "real", "mean of the log of the noise level", "P")
log_sigma_std = _symbol("log_sigma_std", "positive", "deviation of the log of the noise level", "S")

# variational diffusion models
gamma_t = _symbol("gamma_t", "real", "minus the log signal-to-noise ratio at time t", r"\gamma_t")
gamma_s = _symbol("gamma_s", "real", "the same at an earlier time s", r"\gamma_s")
gamma_m = _symbol("gamma_m", "real", "the same between s and t", r"\gamma_m")
gamma_0 = _symbol("gamma_0", "real", "the same at time 0", r"\gamma_0")
gamma_1 = _symbol("gamma_1", "real", "the same at time 1", r"\gamma_1")
gamma_slope = _symbol("gamma_slope", "positive", "derivative of γ by time", r"\gamma'", "1/time")
raw_t = _symbol("raw_t", "real", "output of a rising network at time t", r"\tilde\gamma_t")
raw_0 = _symbol("raw_0", "real", "its output at time 0", r"\tilde\gamma_0")
raw_1 = _symbol("raw_1", "real", "its output at time 1", r"\tilde\gamma_1")
gain_1 = _symbol("gain_1", "positive", "weight of time in a rising network", "w_1")
gain_2 = _symbol("gain_2", "positive", "weight into a unit", "w_2")
gain_3 = _symbol("gain_3", "positive", "weight out of a unit", "w_3")
unit_offset = _symbol("unit_offset", "real", "offset of a unit", "b_2")

# embeddings of time
clock = _symbol("clock", "real", "a level that a network is told", "t")
lag = _symbol("lag", "real", "difference of two levels", "s")
longest = _symbol("longest", "positive", "2π times it is the longest period of an embedding", "P")
pair = _symbol("pair", "nonnegative", "index of a frequency, from 0", "k")
gaps = _symbol("gaps", "natural", "steps from the first frequency to 1/P", "n")
pairs = _symbol("pairs", "natural", "number of frequencies: half the dimension", "h")
pace = _symbol("pace", "positive", "a frequency of an embedding", r"\omega")
pace_ratio = _symbol("pace_ratio", "unit", "each frequency over the one before", "q")

# exponential integrators
scale_t = _symbol("scale_t", "positive", "factor of the data where a step begins", "a_t")
scale_s = _symbol("scale_s", "positive", "factor of the data where a step ends", "a_s")
std_t = _symbol("std_t", "positive", "deviation of the noise where a step begins", "b_t")
std_s = _symbol("std_s", "positive", "deviation of the noise where a step ends", "b_s")
log_snr = _symbol("log_snr", "real", "half the log signal-to-noise ratio, the time of a solver", r"\lambda")
lambda_step = _symbol("lambda_step", "positive", "growth of the log-SNR in a step", "h")
exponent = _symbol("exponent", "nonzero", "h or -h, by what the model predicts", "z")
inner_1 = _symbol("inner_1", "positive", "place of the first inner level, as a share of the step", "r_1")
inner_2 = _symbol("inner_2", "positive", "place of the second inner level, as a share of the step", "r_2")
past_1 = _symbol("past_1", "positive", "length of the step before, in units of the step", "r_0")
past_2 = _symbol("past_2", "positive", "length of the step before that, in units of the step", "r_{-1}")
place_1 = _symbol("place_1", "nonzero", "place of a value of the model, in units of the step", "c_1")
place_2 = _symbol("place_2", "nonzero", "place of another value of the model", "c_2")
moment_0 = _symbol("moment_0", "real", "what the weights give on 1", r"\mu_0")
moment_1 = _symbol("moment_1", "real", "what the weights give on the place", r"\mu_1")
moment_2 = _symbol("moment_2", "real", "what the weights give on its square", r"\mu_2")
value_t = _symbol("value_t", "real", "value of the model where a step begins", "m_t")
value_1 = _symbol("value_1", "real", "value of the model at the first other place", "m_1")
value_2 = _symbol("value_2", "real", "value of the model at the second other place", "m_2")
value_s = _symbol("value_s", "real", "value of the model at the predicted state", "m_s")
path_1 = _symbol("path_1", "real", "derivative of the model along the solution", "m'")
path_2 = _symbol("path_2", "real", "second derivative of the model along the solution", "m''")
path_3 = _symbol("path_3", "real", "third derivative of the model along the solution", "m^{(3)}")
state_slope = _symbol("state_slope", "real", "derivative of the model by the state, times the gain", "J")
state_slope_1 = _symbol("state_slope_1", "real", "its derivative along the solution", "J'")
path_4 = _symbol("path_4", "real", "fourth derivative of the model along the solution", "m^{(4)}")
bh_slope = _symbol("bh_slope", "real", "slope of B(z)/z at 0, B being the scaling of UniPC", r"\beta")
sde_share = _symbol("sde_share", "nonnegative", "share of the reverse SDE's noise power", r"\eta")

# stochastic differential equations
tau_s = _symbol("tau_s", "positive", "an earlier continuous time", r"\tau_s", "0..1")
time_step = _symbol("time_step", "positive", "length of a step in continuous time", r"\Delta t")
drift_x = _symbol("drift_x", "real", "drift of the forward SDE at x", "f(x)", "1/time")
drift_slope = _symbol("drift_slope", "real", "divergence of the drift at x", r"\nabla\cdot f", "1/time")
drift_factor = _symbol("drift_factor", "real", "factor of x in an affine drift", "f", "1/time")
drift_factor_slope = _symbol("drift_factor_slope", "real", "its derivative in time", "f'")
drift_offset = _symbol("drift_offset", "real", "drift at 0 of an affine drift", "c", "1/time")
diffusion = _symbol("diffusion", "positive", "factor of the Brownian motion", "g")
diffusion_slope = _symbol("diffusion_slope", "real", "derivative along x of the diffusion", r"\partial_xg")
diffusion_s = _symbol("diffusion_s", "positive", "factor of the Brownian motion at the end of a step", "g_s")
variance_rate_slope = _symbol("variance_rate_slope", "real", "derivative in time of g^2", "(g^2)'")
noise_share = _symbol("noise_share", "nonnegative", "share of the noise kept by a reverse process", r"\eta")
mean_t = _symbol("mean_t", "real", "mean at time t", "m")
variance_t = _symbol("variance_t", "positive", "variance at time t", "v")
scale_slope = _symbol("scale_slope", "real", "derivative in time of the factor of the data", "a_t'")
std_slope = _symbol("std_slope", "real", "derivative in time of the deviation of the noise", "b_t'")
ratio_slope = _symbol("ratio_slope", "real", "derivative in time of the noise level b/a", r"\sigma'")
kernel_factor = _symbol("kernel_factor", "positive", "factor of x_s in x_t", "r")
kernel_variance = _symbol("kernel_variance", "positive", "variance of x_t given x_s", "v")
rate = _symbol("rate", "positive", "rate of noising of a variance-preserving process", r"\beta(t)", "1/time")
rate_slope = _symbol("rate_slope", "real", "derivative in time of the rate", r"\beta'(t)")
rate_integral = _symbol("rate_integral", "positive", "integral of the rate from 0 to t", "B_t")
rate_integral_s = _symbol("rate_integral_s", "positive", "integral of the rate from 0 to s < t", "B_s")
level_t = _symbol("level_t", "positive", "noise level of a variance-exploding process at t", r"\sigma(t)")
level_s = _symbol("level_s", "positive", "its noise level at an earlier time s", r"\sigma(s)")
sigma_max = _symbol("sigma_max", "positive", "largest geometric noise level", r"\sigma_{\max}")
chain_length = _symbol("chain_length", "natural", "levels of the chain of a process", "N")
marginal_t = _symbol("marginal_t", "positive", "variance of noised Gaussian data at time t", "V_t")
marginal_s = _symbol("marginal_s", "positive", "variance of noised Gaussian data at time s", "V_s")
snr_ratio = _symbol("snr_ratio", "positive", "signal-to-noise ratio of a corrector step", "r")
step_damping = _symbol("step_damping", "positive", "factor of the step rule of a corrector", r"\alpha")
noise_norm = _symbol("noise_norm", "positive", "norm of the noise of a corrector step", r"\|z\|")
score_norm = _symbol("score_norm", "positive", "norm of the score at a corrector step", r"\|s\|")
drift_stage = _symbol("drift_stage", "real", "drift at the inner stage of a step", r"f(H)", "1/time")
on_state = _symbol("on_state", "real", "factor of the state in an affine step", "A")
on_score = _symbol("on_score", "real", "factor of the score in an affine step", "b")
on_noise = _symbol("on_noise", "positive", "factor of the noise in an affine step", "C")

WHERE: Mapping[sp.Symbol, sp.Expr] = MappingProxyType(
    {alpha_t: abar_t / abar_prev, beta_t: 1 - abar_t / abar_prev}
)
"""Dependent symbols in terms of the independent levels; every proof runs after this substitution."""

ORDER: tuple[tuple[sp.Symbol, sp.Symbol], ...] = ((abar_t, abar_prev), (abar_t, abar_s))
"""Pairs (smaller, larger) that hold whenever both symbols occur: noise only grows with time."""
