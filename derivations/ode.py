"""The probability-flow ODE: velocities that carry the densities of a diffusion.

Axioms: the Fokker–Planck equation of dx = f dt + g dw, and the continuity equation, which is the same without
noise. The density p, the drift f and the diffusion g are undefined functions: every statement holds for all
of them that can be differentiated. Likelihoods are in ``derivations.ode_likelihood``, steps and DDIM in
``derivations.ode_steps`` and ``derivations.ode_ddim``.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from derivations.kit import Decoy, Identity, Step, formula
from derivations.symbols import (
    beta_min,
    eps,
    eta,
    path_scale,
    path_scale_slope,
    path_std,
    path_std_slope,
    rate_gap,
    score,
    sigma_1,
    sigma_L,
    tau,
    v_1,
    v_2,
    x,
    x_0,
    x_t,
    x_t_1,
    x_t_2,
)

HALF = sp.Rational(1, 2)
VELOCITY = sp.Symbol("v", real=True)
p = sp.Function("p", positive=True)(x, tau)
f = sp.Function("f", real=True)(x, tau)
g = sp.Function("g", real=True)(tau)
SCORE = sp.diff(sp.log(p), x)
FOKKER_PLANCK = -sp.diff(f * p, x) + g**2 / 2 * sp.diff(p, x, 2)
"""∂p/∂t of the diffusion."""
FLUX = f * p - g**2 / 2 * sp.diff(p, x)
DRIFT = f - g**2 / 2 * SCORE


def carried(velocity: sp.Expr, noise: sp.Expr = sp.S.Zero) -> Iterator[Step]:
    """The process dx = velocity dt + noise dw moves the density as the diffusion does, flux and all."""
    yield Identity("the same flux", velocity * p - noise**2 / 2 * sp.diff(p, x), FLUX)
    change = -sp.diff(velocity * p, x) + noise**2 / 2 * sp.diff(p, x, 2)
    yield Identity("the same change of the density", change, FOKKER_PLANCK)


@formula(
    "ode.drift",
    title="the velocity of the probability-flow ODE",
    lhs=VELOCITY,
    rhs=DRIFT,
    citations=("Song2021sde:13", "S004:8.17", "S004:8.18", "S004:8.19"),
    reference="refdiff.ode:drift",
    decoys=(
        Decoy("reverse-drift", f - g**2 * SCORE, "discretization",
              "the drift of the reverse SDE, whose noise makes up for the other half", "S004:8.2"),
        Decoy("plus", f + g**2 / 2 * SCORE, "sign", "the score with the wrong sign"),
        Decoy("diffusion-not-squared", f - g / 2 * SCORE, "sqrt", "g where g² belongs"),
        Decoy("density-for-log", f - g**2 / 2 * sp.diff(p, x), "parameterization",
              "the gradient of the density, not of its logarithm"),
        Decoy("forward-drift", f, "discretization", "the drift of the SDE without its noise"),
    ),
)  # fmt: skip
def _drift(claim: sp.Expr) -> Iterator[Step]:
    """Noise of strength g moves probability as the velocity −½g²·∂log p does: the flux of the
    Fokker–Planck equation, f·p − ½g²·∂p, is the claim times p. In one dimension a flux that vanishes far away
    is fixed by its divergence, so no other velocity will do. Both processes solve one equation; started from
    one density they have the same density at every time, and the score is that of both."""
    yield from carried(claim)


@formula(
    "ode.family",
    title="the share η of the noise: a family of processes with the same marginals",
    lhs=VELOCITY,
    rhs=f - (1 - eta**2) / 2 * g**2 * SCORE,
    citations=("Song2021sde:app.D.1", "Karras2022:6", "conventions:deepinv"),
    reference="refdiff.ode:drift",
    uses=("ode.drift",),
    decoys=(
        Decoy("eta-not-squared", f - (1 - eta) / 2 * g**2 * SCORE, "sqrt", "η where η² belongs"),
        Decoy("reverse", f - (1 + eta**2) / 2 * g**2 * SCORE, "sign",
              "the member of the family that runs backwards in time"),
    ),
)  # fmt: skip
def _family(claim: sp.Expr) -> Iterator[Step]:
    """With diffusion ηg in place of g the velocity makes up for the noise that is left out. η = 1 is the
    diffusion itself, η = 0 the ODE. In reversed time the same holds with the velocity of the ODE reversed, so
    the reverse process with the share η has the drift f − ½(1 + η²)g²·∂log p when written in forward time."""
    yield from carried(claim, eta * g)
    yield Identity("all of the noise", claim.subs(eta, 1), f)
    yield Identity("none of it", claim.subs(eta, 0), DRIFT)
    backwards = f - (1 + eta**2) / 2 * g**2 * SCORE
    flux = -backwards * p - eta**2 * g**2 / 2 * sp.diff(p, x)
    yield Identity("backwards", flux, -FLUX)


@formula(
    "ode.of_reverse_sde",
    title="the reverse SDE has the same probability-flow ODE",
    lhs=VELOCITY,
    rhs=DRIFT,
    citations=("S004:8.2", "S004:8.19", "Song2021sde:app.D.1"),
    reference="refdiff.ode:drift",
    uses=("ode.drift",),
    decoys=(
        Decoy("once-more", f - 3 * g**2 / 2 * SCORE, "sign",
              "half of the squared diffusion taken off the drift of the reverse SDE, in forward time"),
        Decoy("reverse-drift", f - g**2 * SCORE, "discretization", "the drift of the reverse SDE",
              "S004:8.2"),
    ),
)  # fmt: skip
def _of_reverse_sde(claim: sp.Expr) -> Iterator[Step]:
    """In the time r = −t the reverse SDE is a diffusion with drift g²·∂log p − f. It moves the density as
    the forward diffusion read backwards; its own probability-flow velocity is that drift minus ½g²·∂log p,
    which is minus the claim. So one ODE serves both directions: reversing the time of the ODE changes the
    sign of its velocity and nothing else."""
    drift = g**2 * SCORE - f
    change = -sp.diff(drift * p, x) + g**2 / 2 * sp.diff(p, x, 2)
    yield Identity("the reverse SDE undoes the diffusion", change, -FOKKER_PLANCK)
    yield Identity("its velocity, in reversed time", drift - g**2 / 2 * SCORE, -claim)


G = sp.Function("G", real=True)(x, tau)


@formula(
    "ode.drift_state_dependent",
    title="the velocity where the diffusion depends on the state",
    lhs=VELOCITY,
    rhs=f - sp.diff(G**2, x) / 2 - G**2 / 2 * SCORE,
    citations=("Song2021sde:app.D.1",),
    uses=("ode.drift",),
    decoys=(
        Decoy("gradient-missing", f - G**2 / 2 * SCORE, "discretization",
              "the velocity for a diffusion that is the same everywhere"),
        Decoy("gradient-once", f - sp.diff(G**2, x) - G**2 / 2 * SCORE, "discretization",
              "the gradient of G² not halved"),
        Decoy("stratonovich", f - sp.diff(G**2, x) / 4 - G**2 / 2 * SCORE, "discretization",
              "the correction between Itô and Stratonovich, which is a quarter of the gradient of G²"),
    ),
)  # fmt: skip
def _drift_state_dependent(claim: sp.Expr) -> Iterator[Step]:
    """Now the Fokker–Planck equation has ½∂²(G²p): the gradient of G² moves probability too. The source
    takes the diffusion for a number, and there the term is gone."""
    flux = f * p - sp.diff(G**2 * p, x) / 2
    yield Identity("the same flux", claim * p, flux)
    change = -sp.diff(f * p, x) + sp.diff(G**2 * p, x, 2) / 2
    yield Identity("the same change of the density", -sp.diff(claim * p, x), change)


q = sp.Function("p", positive=True)(x_t_1, x_t_2, tau)
f_1, f_2 = (sp.Function(name, real=True)(x_t_1, x_t_2, tau) for name in ("f_1", "f_2"))
D_1, D_2 = (drift - g**2 / 2 * sp.diff(sp.log(q), u) for drift, u in ((f_1, x_t_1), (f_2, x_t_2)))
PLANE_CHANGE = (
    -sp.diff(f_1 * q, x_t_1)
    - sp.diff(f_2 * q, x_t_2)
    + g**2 / 2 * (sp.diff(q, x_t_1, 2) + sp.diff(q, x_t_2, 2))
)


def _divergence(first: sp.Expr, second: sp.Expr) -> sp.Expr:
    return sp.diff(first, x_t_1) + sp.diff(second, x_t_2)


@formula(
    "ode.drift_plane",
    title="the velocity of the probability-flow ODE in the plane, along a direction",
    lhs=VELOCITY,
    rhs=v_1 * D_1 + v_2 * D_2,
    citations=("Song2021sde:13", "S004:8.19"),
    reference="refdiff.ode:drift",
    uses=("ode.drift",),
    decoys=(
        Decoy("score-summed", (v_1 + v_2) * (D_1 + D_2 - f_1 - f_2) + v_1 * f_1 + v_2 * f_2,
              "state-broadcast", "the sum of the score's coordinates in each coordinate"),
        Decoy("coordinates-exchanged", v_2 * D_1 + v_1 * D_2, "state-broadcast", "the coordinates exchanged"),
        Decoy("reverse-drift", v_1 * (2 * D_1 - f_1) + v_2 * (2 * D_2 - f_2), "discretization",
              "the drift of the reverse SDE", "S004:8.2"),
    ),
)  # fmt: skip
def _drift_plane(claim: sp.Expr) -> Iterator[Step]:
    """Coordinate by coordinate the flux is that of the diffusion, whatever couples them in p and f; the
    change of the density is minus the divergence of the flux. More dimensions add more such terms."""
    first, second = sp.diff(claim, v_1), sp.diff(claim, v_2)
    yield Identity("linear in the direction", claim, v_1 * first + v_2 * second)
    yield Identity("flux along the first", first * q, f_1 * q - g**2 / 2 * sp.diff(q, x_t_1))
    yield Identity("flux along the second", second * q, f_2 * q - g**2 / 2 * sp.diff(q, x_t_2))
    yield Identity("the same change of the density", -_divergence(first * q, second * q), PLANE_CHANGE)


psi = sp.Function("psi", real=True)(x_t_1, x_t_2, tau)


@formula(
    "ode.not_unique_plane",
    title="in the plane other velocities have the same marginals: the flux may turn",
    lhs=VELOCITY,
    rhs=v_1 * (D_1 + sp.diff(psi, x_t_2) / q) + v_2 * (D_2 - sp.diff(psi, x_t_1) / q),
    citations=("S004:8.18",),
    uses=("ode.drift_plane",),
    decoys=(
        Decoy("gradient", v_1 * (D_1 + sp.diff(psi, x_t_1) / q) + v_2 * (D_2 + sp.diff(psi, x_t_2) / q),
              "sign", "a flux that spreads, not one that turns"),
        Decoy("not-divided", v_1 * (D_1 + sp.diff(psi, x_t_2)) + v_2 * (D_2 - sp.diff(psi, x_t_1)),
              "parameterization", "a velocity without divergence, where it is the flux that must have none"),
    ),
)  # fmt: skip
def _not_unique_plane(claim: sp.Expr) -> Iterator[Step]:
    """Any flux without divergence can be added: equal marginals do not determine the velocity, and the
    source's argument shows only that the ODE is one of those that have them. In the velocity of the ODE
    nothing turns that does not turn in f."""
    first, second = sp.diff(claim, v_1), sp.diff(claim, v_2)
    yield Identity("linear in the direction", claim, v_1 * first + v_2 * second)
    yield Identity("the same change of the density", -_divergence(first * q, second * q), PLANE_CHANGE)
    turning = (first - D_1) * q, (second - D_2) * q
    yield Identity("what is added turns", turning[0], sp.diff(psi, x_t_2))
    yield Identity("and has no divergence", _divergence(*turning), sp.Integer(0))
    curl = sp.diff(D_2 - f_2, x_t_1) - sp.diff(D_1 - f_1, x_t_2)
    yield Identity("the score itself does not turn", curl, sp.Integer(0))


FROM_EPS = (
    path_scale_slope / path_scale * x_t + (path_std_slope - path_std * path_scale_slope / path_scale) * eps
)


@formula(
    "ode.from_eps",
    title="the velocity through scale, deviation and the predicted noise",
    lhs=VELOCITY,
    rhs=FROM_EPS,
    citations=("Karras2022:4", "Lu2022:2.7"),
    reference="refdiff.ode:drift",
    uses=("ode.drift",),
    decoys=(
        Decoy("scale-of-the-noise", FROM_EPS + path_std * path_scale_slope / path_scale * eps,
              "parameterization", "the noise that falls with the data is forgotten"),
        Decoy("twice", path_scale_slope / path_scale * x_t
              + 2 * (path_std_slope - path_std * path_scale_slope / path_scale) * eps, "discretization",
              "the drift of the reverse SDE", "S004:8.2"),
    ),
)  # fmt: skip
def _from_eps(claim: sp.Expr) -> Iterator[Step]:
    """With x_t = a·x_0 + b·ε the drift is (a'/a)·x, the squared diffusion (b²)' − 2(a'/a)b² and the score
    −ε/b. With x_t = a·x_0 + b·ε put in, the velocity is a'·x_0 + b'·ε: that of the noising itself, at the
    predicted data and noise."""
    a, b = (sp.Function(name, positive=True)(tau) for name in ("a", "b"))
    table = {path_scale: a, path_std: b, path_scale_slope: sp.diff(a, tau), path_std_slope: sp.diff(b, tau)}
    rate = sp.diff(sp.log(a), tau)
    squared = sp.diff(b**2, tau) - 2 * rate * b**2
    yield Identity("any scale and deviation", claim.subs(table), rate * x_t + squared / 2 * eps / b)
    mixed = claim.subs(x_t, path_scale * x_0 + path_std * eps)
    yield Identity("through data and noise", mixed, path_scale_slope * x_0 + path_std_slope * eps)


B = sp.Function("B", positive=True)(tau)
RATE = beta_min + tau * rate_gap
INTEGRAL = tau * beta_min + tau**2 * rate_gap / 2


def _with_score(log_scale: sp.Expr, variance: sp.Expr) -> sp.Expr:
    """f x − ½g²·score of the process with this scale and variance."""
    rate = sp.diff(log_scale, tau)
    return rate * x_t - (sp.diff(variance, tau) / 2 - rate * variance) * score


@formula(
    "ode.vp_drift",
    title="the velocity of the variance-preserving process with an affine rate",
    lhs=VELOCITY,
    rhs=-RATE / 2 * (x_t + score),
    citations=("Song2021sde:13", "Song2021sde:app.B", "S004:8.7", "S004:8.11", "S004:8.19"),
    reference="refdiff.ode:drift",
    uses=("ode.drift", "ode.from_eps"),
    decoys=(
        Decoy("reverse-drift", -RATE / 2 * x_t - RATE * score, "discretization",
              "the drift of the reverse SDE", "S004:8.2"),
        Decoy("rate-twice", -RATE * (x_t + score), "discretization", "β where ½β belongs", "deepinv PR#1343"),
        Decoy("last-rate", -(beta_min + tau * (beta_min + rate_gap)) / 2 * (x_t + score), "schedule",
              "the last rate taken for the rise of the rate"),
    ),
)  # fmt: skip
def _vp_drift(claim: sp.Expr) -> Iterator[Step]:
    """For any rate with integral B: the scale is exp(−B/2), the variance 1 − exp(−B), and the velocity
    −½B'·(x + score). It vanishes where the law is the standard normal one, whose score is −x."""
    general = -sp.diff(B, tau) / 2 * (x_t + score)
    yield Identity("any rate", _with_score(-B / 2, 1 - sp.exp(-B)), general)
    yield Identity("the affine rate", claim, general.subs(B, INTEGRAL).doit())
    yield Identity("at rest on the prior", claim.subs(score, -x_t), sp.Integer(0))


SIGMA_OF_TIME = sigma_L * (sigma_1 / sigma_L) ** tau


@formula(
    "ode.ve_drift",
    title="the velocity of the variance-exploding process with geometric levels",
    lhs=VELOCITY,
    rhs=-(SIGMA_OF_TIME**2) * sp.log(sigma_1 / sigma_L) * score,
    citations=("Song2021sde:app.B", "S004:8.5", "S004:8.9", "S004:8.25"),
    reference="refdiff.ode:drift",
    uses=("ode.drift", "ode.from_eps"),
    assumptions=(sp.Lt(sigma_L, sigma_1),),
    decoys=(
        Decoy("diffusion-twice", -2 * SIGMA_OF_TIME**2 * sp.log(sigma_1 / sigma_L) * score, "discretization",
              "the drift of the reverse SDE", "S004:8.2"),
        Decoy("level", -SIGMA_OF_TIME * sp.log(sigma_1 / sigma_L) * score, "sqrt",
              "the derivative of σ, which belongs to the noise and not to the score"),
    ),
)  # fmt: skip
def _ve_drift(claim: sp.Expr) -> Iterator[Step]:
    """For any levels σ(t) the velocity is −σσ'·score. Levels that start at σ_min for clean data have the
    variance σ² − σ_min², whose derivative is the same."""
    sigma = sp.Function("sigma", positive=True)(tau)
    general = -sigma * sp.diff(sigma, tau) * score
    yield Identity("any levels", _with_score(sp.Integer(0), sigma**2), general)
    yield Identity("from clean data", _with_score(sp.Integer(0), sigma**2 - sigma_L**2), general)
    slope = sigma_L * (sigma_1 / sigma_L) ** tau * sp.log(sigma_1 / sigma_L)
    yield Identity("its derivative", sp.diff(SIGMA_OF_TIME, tau), slope)
    yield Identity("geometric levels", claim, -SIGMA_OF_TIME * slope * score)


@formula(
    "ode.sub_vp_drift",
    title="the velocity of the sub-variance-preserving process with an affine rate",
    lhs=VELOCITY,
    rhs=-RATE / 2 * (x_t + (1 - sp.exp(-2 * INTEGRAL)) * score),
    citations=("Song2021sde:app.B",),
    reference="refdiff.ode:drift",
    uses=("ode.drift", "ode.from_eps"),
    decoys=(
        Decoy("vp", -RATE / 2 * (x_t + score), "discretization", "the diffusion of the VP process"),
        Decoy("integral-once", -RATE / 2 * (x_t + (1 - sp.exp(-INTEGRAL)) * score), "discretization",
              "exp(−B) where exp(−2B) belongs"),
        Decoy("root-of-the-level", -RATE / 2 * (x_t + (1 - sp.exp(-INTEGRAL)) ** 2 * score), "sqrt",
              "the variance (1 − exp(−B))² in place of 1 − exp(−2B)"),
    ),
)  # fmt: skip
def _sub_vp_drift(claim: sp.Expr) -> Iterator[Step]:
    """The scale of VP and the variance (1 − exp(−B))², for any rate; less noise than VP at every time, and
    the same limit."""
    general = -sp.diff(B, tau) / 2 * (x_t + (1 - sp.exp(-2 * B)) * score)
    yield Identity("any rate", _with_score(-B / 2, (1 - sp.exp(-B)) ** 2), general)
    yield Identity("the affine rate", claim, general.subs(B, INTEGRAL).doit())


from derivations import (  # noqa: E402  (the rest of the topic)
    ode_ddim,
    ode_gaussian,
    ode_likelihood,
    ode_steps,
)

__all__ = ["ode_ddim", "ode_gaussian", "ode_likelihood", "ode_steps"]
