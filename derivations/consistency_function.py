"""The consistency function: the ODE, its end point, the boundary condition, and Gaussian data.

Part of the topic ``consistency``, whose axioms are stated there.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import sqrt

from derivations.gaussian import X
from derivations.hyvarinen import UNIT
from derivations.kit import (
    Decoy,
    Expectation,
    Identity,
    Step,
    Substitution,
    formula,
)
from derivations.kit.matrices import MatrixIdentity, matrix
from derivations.symbols import (
    data_mean,
    data_variance,
    dim,
    eps,
    h,
    mode_1,
    mode_2,
    mode_variance_1,
    mode_variance_2,
    net,
    score_ve,
    sigma,
    sigma_data,
    sigma_min,
    u_1,
    u_2,
    velocity,
    x_0,
    x_0_hat,
    x_t_1,
    x_t_2,
    x_ve,
)

ABOVE = sp.Lt(sigma_min, sigma)
p = sp.Function("p", positive=True)(x_ve, sigma)
f = sp.Function("f", real=True)


@formula(
    "consistency.velocity",
    title="the probability-flow ODE of data plus noise, with the noise level as time",
    lhs=sp.Derivative(x_ve, sigma),
    rhs=-sigma * score_ve,
    citations=("Song2023:2", "Karras2022:1", "S004:8.19", "S004:8.25"),
    reference="refdiff.consistency:velocity",
    decoys=(
        Decoy("reverse-sde", -2 * sigma * score_ve, "discretization",
              "the drift of the reverse SDE: the half of the ODE is missing", "S004:8.17"),
        Decoy("in-variance", -score_ve / 2, "discretization", "the slope in σ² where that in σ belongs"),
        Decoy("variance", -(sigma**2) * score_ve, "variance", "σ² for σ: the step to the mean of the data"),
        Decoy("uphill", sigma * score_ve, "sign", "noise is not added but taken away as σ grows"),
    ),
)  # fmt: skip
def _velocity(claim: sp.Expr) -> Iterator[Step]:
    """The kernel solves the heat equation in σ, and so does every mean of kernels, whatever the data. A
    velocity keeps these densities when ∂p/∂σ is minus the derivative of p·v."""
    kernel = sp.exp(-((x_ve - x_0) ** 2) / (2 * sigma**2)) / sigma
    yield Identity("heat equation", sp.diff(kernel, sigma), sigma * sp.diff(kernel, x_ve, 2))
    flow = claim.subs(score_ve, sp.diff(p, x_ve) / p)
    yield Substitution("the same densities", sigma * sp.diff(p, x_ve, 2) + sp.diff(flow * p, x_ve), {})


@formula(
    "consistency.velocity_from_data",
    title="the same velocity from the mean of the data",
    lhs=sp.Derivative(x_ve, sigma),
    rhs=(x_ve - x_0_hat) / sigma,
    citations=("Karras2022:3", "Song2023:6"),
    reference="refdiff.consistency:velocity",
    uses=("consistency.velocity", "smld.denoise"),
    decoys=(
        Decoy("score", (x_0_hat - x_ve) / sigma**2, "parameterization", "the score for the velocity"),
        Decoy("not-divided", x_ve - x_0_hat, "parameterization", "the whole noise, not its unit"),
    ),
)
def _velocity_from_data(claim: sp.Expr) -> Iterator[Step]:
    """Tweedie's mean is x + σ²·score."""
    tweedie = x_ve + sigma**2 * score_ve
    yield Identity("Tweedie put in", claim.subs(x_0_hat, tweedie), -sigma * score_ve)
    yield Identity("linear in the mean of the data", sp.diff(claim, x_0_hat, 2), sp.Integer(0))


f_at = f(x_ve, sigma)
RATE = sp.diff(f_at, sigma) + velocity * sp.diff(f_at, x_ve)


@formula(
    "consistency.constancy",
    title="how a function changes along the ODE: a consistency function is one for which this vanishes",
    lhs=sp.Symbol("df_dsigma", real=True),
    rhs=RATE,
    citations=("Song2023:definition1", "Song2023:§3"),
    uses=("consistency.velocity",),
    decoys=(
        Decoy("slope-only", velocity * sp.diff(f_at, x_ve), "likelihood", "the level is not an argument"),
        Decoy("level-only", sp.diff(f_at, sigma), "likelihood", "the state stands still"),
        Decoy("against", sp.diff(f_at, sigma) - velocity * sp.diff(f_at, x_ve), "sign",
              "against the velocity"),
    ),
)  # fmt: skip
def _constancy(claim: sp.Expr) -> Iterator[Step]:
    """For any smooth f and any velocity. Where it vanishes, f has one value along a solution; if f is also
    the identity at σ_min, that value is the state of the solution there: its end point."""
    along = f(x_ve + h * velocity, sigma + h)
    yield Identity("no step, no change", along.subs(h, 0), f_at)
    yield Identity("chain rule", sp.diff(along, h).subs(h, 0).doit(), claim)


LIFT = sigma - sigma_min
C_SKIP = sigma_data**2 / (LIFT**2 + sigma_data**2)


@formula(
    "consistency.c_skip",
    title="weight of the skip connection: 1 at the smallest level",
    lhs=sp.Symbol("c_skip"),
    rhs=C_SKIP,
    citations=("Song2023:appC",),
    reference="refdiff.consistency:boundary",
    assumptions=(ABOVE,),
    decoys=(
        Decoy("edm", sigma_data**2 / (sigma**2 + sigma_data**2), "parameterization",
              "EDM's: it is not 1 at the smallest level, so the boundary condition fails"),
        Decoy("variances-apart", sigma_data**2 / (sigma**2 - sigma_min**2 + sigma_data**2), "variance",
              "difference of the squares, not square of the difference"),
        Decoy("unit-data", 1 / (LIFT**2 + 1), "data-scaling", "data of variance 1"),
        Decoy("root", sigma_data / sqrt(LIFT**2 + sigma_data**2), "sqrt", "the root of the share"),
    ),
)  # fmt: skip
def _c_skip(claim: sp.Expr) -> Iterator[Step]:
    """EDM's weight with the level counted from σ_min: for data y with noise of σ − σ_min it leaves the
    smallest mean square of y − c·x, by a square less than any other weight c. At σ_min it is 1."""
    c = sp.Symbol("c", real=True)
    law = {x_0: (sp.Integer(0), sigma_data**2), eps: UNIT}
    left = (1 - c) ** 2 * sigma_data**2 + c**2 * LIFT**2
    gain = (LIFT**2 + sigma_data**2) * (c - claim) ** 2
    yield Identity("any other weight leaves more", left - left.subs(c, claim), gain)
    yield Identity("the identity at σ_min", claim.subs(sigma, sigma_min), sp.Integer(1))
    yield Expectation("mean square", (x_0 - c * (x_0 + LIFT * eps)) ** 2, law, left)


C_OUT = sigma_data * LIFT / sqrt(sigma**2 + sigma_data**2)
EDM_SKIP = sigma_data**2 / (sigma**2 + sigma_data**2)
EDM_OUT = sigma * sigma_data / sqrt(sigma**2 + sigma_data**2)


@formula(
    "consistency.c_out",
    title="scale of the network: 0 at the smallest level, so that any network meets the boundary condition",
    lhs=sp.Symbol("c_out"),
    rhs=C_OUT,
    citations=("Song2023:appC",),
    reference="refdiff.consistency:boundary",
    uses=("consistency.c_skip", "consistency.velocity_from_data"),
    assumptions=(ABOVE,),
    decoys=(
        Decoy("edm", EDM_OUT, "parameterization",
              "EDM's: the network still speaks at the smallest level, so the boundary condition fails"),
        Decoy("without-data", LIFT / sqrt(sigma**2 + sigma_data**2), "data-scaling",
              "σ_data missing above: what latent consistency models do, another convention",
              "conventions:Consistency / LCM"),
        Decoy("lifted-below", sigma_data * LIFT / sqrt(LIFT**2 + sigma_data**2), "variance",
              "the level counted from σ_min under the root too"),
        Decoy("variances-apart", sigma_data * sqrt((sigma**2 - sigma_min**2) / (sigma**2 + sigma_data**2)),
              "variance", "root of the difference of squares: it grows without bound in slope at σ_min"),
    ),
)  # fmt: skip
def _c_out(claim: sp.Expr) -> Iterator[Step]:
    """Take EDM's denoiser, c_skip·x + c_out·F, and make one Euler step of the ODE with it, from σ to σ_min:
    this is the factor that F gets. It vanishes at σ_min, and there the function is the identity whatever the
    network says."""
    denoiser = EDM_SKIP * x_ve + EDM_OUT * net
    euler = x_ve + (sigma_min - sigma) * (x_ve - denoiser) / sigma
    yield Identity("the network's share of one Euler step", claim, sp.diff(euler, net))
    yield Identity("nothing at σ_min", claim.subs(sigma, sigma_min), sp.Integer(0))
    whole = (C_SKIP * x_ve + claim * net).subs(sigma, sigma_min)
    yield Identity("the boundary condition", whole, x_ve)


END, TOTAL = data_variance + sigma_min**2, data_variance + sigma**2
SLOPE = sqrt(END / TOTAL)
AWAY = x_ve - data_mean
GAUSSIAN = data_mean + SLOPE * AWAY


@formula(
    "consistency.gaussian_function",
    title="the consistency function of Gaussian data",
    lhs=sp.Function("f")(x_ve, sigma),
    rhs=GAUSSIAN,
    citations=("Song2023:definition1",),
    reference="refdiff.consistency:gaussian_function",
    uses=("consistency.velocity", "consistency.constancy"),
    decoys=(
        Decoy("denoiser", data_mean + data_variance / TOTAL * AWAY, "parameterization",
              "the mean of the data given x: one step of DDIM to clean data, not the end of the ODE"),
        Decoy("one-euler-step", data_mean + (1 - (sigma - sigma_min) * sigma / TOTAL) * AWAY,
              "discretization", "one Euler step to σ_min"),
        Decoy("to-clean-data", data_mean + sqrt(data_variance / TOTAL) * AWAY, "noise-at-t0",
              "the end point at noise 0: the boundary condition fails"),
        Decoy("variance-ratio", data_mean + END / TOTAL * AWAY, "sqrt", "the root is missing"),
        Decoy("not-centred", SLOPE * x_ve, "likelihood", "the mean of the data is 0"),
    ),
)  # fmt: skip
def _gaussian_function(claim: sp.Expr) -> Iterator[Step]:
    """The score of N(m, c + σ²) is linear, so the ODE is, for any c. The claim does not change along it and
    is the identity at σ_min; only one function does both. It takes the law at σ to the law at σ_min."""
    flow = -sigma * (-(x_ve - data_mean) / TOTAL)
    yield Substitution(
        "constant along the ODE", sp.diff(claim, sigma) + flow * sp.diff(claim, x_ve), {}
    )
    yield Identity("the identity at σ_min", claim.subs(sigma, sigma_min), x_ve)
    law = {x_ve: (data_mean, TOTAL)}
    yield Expectation("the law at σ_min", (claim - data_mean) ** 2, law, END)


Q = matrix("Q_axes", dim, dim, "eigenvectors of the covariance of the data, as columns", "Q")
DATA_AXES = matrix("Lambda_axes", dim, dim, "covariance of the data along its axes", r"\Lambda")
NOISE_AXES = matrix("N_axes", dim, dim, "covariance of the noise along them, σ² times one", "N")
AWAY_ND = X - matrix("m_data", dim, 1, "mean of the data", "m")


@formula(
    "consistency.gaussian_axes_nd",
    title="minus the score of noised Gaussian data acts on each axis of the data by itself, any dimension",
    lhs=sp.Symbol("minus_score"),
    rhs=Q * (DATA_AXES + NOISE_AXES).I * Q.I * AWAY_ND,
    citations=("Song2023:2",),
    reference="refdiff.consistency:gaussian_function",
    uses=("consistency.gaussian_function",),
    decoys=(
        Decoy("axes-transposed", Q.I * (DATA_AXES + NOISE_AXES).I * Q * AWAY_ND, "state-broadcast",
              "into the axes where out of them belongs"),
        Decoy("no-noise", Q * DATA_AXES.I * Q.I * AWAY_ND, "variance", "the covariance of the data"),
        Decoy("coordinates", (DATA_AXES + NOISE_AXES).I * AWAY_ND, "state-broadcast",
              "the axes taken for the coordinates"),
    ),
    mutate=False,  # matrices: the decoys are made by hand
)  # fmt: skip
def _gaussian_axes_nd(claim: sp.Expr) -> Iterator[Step]:
    """The covariance of the data is QΛQ⁻¹, that of the noise QNQ⁻¹ with N = σ²I, of any dimension. Their sum
    times the claim is x − m, so the claim is (C + σ²I)⁻¹(x − m). In the coordinates Q⁻¹(x − m) the ODE is one
    equation for each axis, and the consistency function is that of numbers along each."""
    total = Q * DATA_AXES * Q.I + Q * NOISE_AXES * Q.I
    yield MatrixIdentity("times the covariance of the level", total * claim, AWAY_ND)


LENGTH = u_1**2 + u_2**2


def spectral(along: sp.Expr, across: sp.Expr) -> sp.Matrix:
    """The symmetric matrix with these eigenvalues along the direction u and across it."""
    u, v = sp.Matrix([u_1, u_2]), sp.Matrix([-u_2, u_1])
    return (along * u * u.T + across * v * v.T) / LENGTH


def slope_along(variance: sp.Expr) -> sp.Expr:
    """The slope along an axis with this variance."""
    return SLOPE.subs(data_variance, variance)


SLOPES = spectral(slope_along(mode_variance_1), slope_along(mode_variance_2))
PLANE_AWAY = sp.Matrix([x_t_1 - mode_1, x_t_2 - mode_2])
PLANE = mode_1 + (SLOPES * PLANE_AWAY)[0]
_VARIANCE_1 = spectral(mode_variance_1, mode_variance_2)[0, 0]


@formula(
    "consistency.gaussian_function_plane",
    title="the consistency function of Gaussian data in the plane, first coordinate",
    lhs=sp.Symbol("f_1", real=True),
    rhs=PLANE,
    citations=("Song2023:definition1",),
    reference="refdiff.consistency:gaussian_function",
    uses=("consistency.gaussian_function",),
    assumptions=(sp.Gt(LENGTH, 0),),
    decoys=(
        Decoy("by-coordinate", mode_1 + slope_along(_VARIANCE_1) * (x_t_1 - mode_1), "state-broadcast",
              "each coordinate by its own variance: the correlation is forgotten"),
        Decoy("axes-exchanged", mode_1 + (spectral(slope_along(mode_variance_2),
              slope_along(mode_variance_1)) * PLANE_AWAY)[0], "state-broadcast",
              "the eigenvalues on each other's axes"),
        Decoy("mean-forgotten", (SLOPES * sp.Matrix([x_t_1, x_t_2]))[0], "likelihood", "data of mean 0"),
    ),
    mutate=False,  # cost: the mutations of each slope are refuted under consistency.gaussian_function
)  # fmt: skip
def _gaussian_function_plane(claim: sp.Expr) -> Iterator[Step]:
    """The covariance has its eigenvectors along a direction u and across it; they are those of C + σ²I at
    every level. With the velocity σ(C + σ²I)⁻¹(x − m), the claim does not change along the ODE and is the
    first coordinate itself at σ_min: a slope for each eigenvector, and not for each coordinate."""
    total = spectral(mode_variance_1, mode_variance_2) + sigma**2 * sp.eye(2)
    inverse = spectral(1 / (mode_variance_1 + sigma**2), 1 / (mode_variance_2 + sigma**2))
    for row, column in ((0, 0), (0, 1), (1, 1)):
        unit = sp.Integer(row == column)
        yield Identity(f"inverse, entry {row + 1}{column + 1}", (total * inverse)[row, column], unit)
    flow = sigma * inverse * PLANE_AWAY
    change = sum(v * sp.diff(claim, x) for v, x in zip(flow, (x_t_1, x_t_2), strict=True))
    yield Substitution("constant along the ODE", sp.diff(claim, sigma) + change, {})
    yield Identity("the identity at σ_min", claim.subs(sigma, sigma_min), x_t_1)
