"""Langevin dynamics: the diffusion, its two step conventions, the exact law of its chain, and its correction.

Axioms: the Fokker–Planck equation of a diffusion, and the Markov step of a chain. The law is exp(−E/τ)/Z; s
is minus the gradient of E, which is the score at temperature 1. A step of size η moves along η·s and adds
noise of variance 2ητ; with η = ε²/2 it adds noise of deviation ε. On a Gaussian the chain is affine, so its
law after any number of steps is known exactly; the ids are those of the topic ``energy``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import sympy as sp

from derivations.kit import (
    Decoy,
    DensityEqual,
    Enumeration,
    Expectation,
    Identity,
    Induction,
    Inequality,
    LogDensity,
    Series,
    Step,
    Substitution,
    formula,
    normal,
)
from derivations.kit.latex import tex
from derivations.kit.matrices import Given, MatrixIdentity, matrix
from derivations.symbols import (
    count,
    dim,
    energy_x,
    energy_y,
    epsilon,
    eta_step,
    hastings,
    mean_0,
    mean_1,
    score_x,
    score_y,
    temp,
    variance_0,
    variance_1,
    x,
    y,
    z,
)

HALF = sp.Rational(1, 2)
ZERO = sp.Integer(0)
UNIT = (ZERO, sp.Integer(1))
ENERGY = sp.Function("E", real=True)(x)
FORCE = -sp.diff(ENERGY, x)
OTHERS = sp.Symbol("w", real=True)


@formula(
    "energy.langevin_invariance",
    title="score of the law that dx = s dt + √(2τ) dW leaves as it is",
    lhs=sp.Symbol("score_invariant"),
    rhs=score_x / temp,
    citations=("S004:1.6", "Roberts1996:§1", "Welling2011"),
    reference="refdiff.energy:score",
    decoys=(
        Decoy("temperature-forgotten", score_x, "variance", "the law at temperature 1 whatever the noise"),
        Decoy("temperature-inverted", temp * score_x, "variance", "hotter where it is colder"),
        Decoy("noise-of-rate-one", 2 * score_x / temp, "sqrt", "the law under √τ dW: half the diffusion"),
        Decoy("root", score_x / sp.sqrt(temp), "sqrt", "√τ where τ belongs"),
    ),
)
def _langevin_invariance(claim: sp.Expr) -> Iterator[Step]:
    """The Fokker–Planck equation: a density p changes at the rate −(s·p)' + τ·p''. A density with the claimed
    score has p' = p·claim and p'' = p·(claim² + claim'), so what is left is an identity in s and its
    derivative, for any s. Where s is minus the gradient of E, the density exp(−E/τ) does it for any energy.
    In more dimensions each coordinate has its own flux, which vanishes while the other coordinates w stay:
    the divergence of nothing is nothing, and the diffusion is reversible."""
    field = sp.Function("s", real=True)(x)
    log_slope = claim.subs(score_x, field)
    second = log_slope**2 + sp.diff(log_slope, x)
    balance = -sp.diff(field, x) - field * log_slope + temp * second
    yield Identity("the law stands still, for any s", balance, ZERO)
    flux = field - temp * log_slope
    yield Identity("nothing flows: the diffusion is reversible", flux, ZERO)
    density = sp.Function("p", positive=True)(x)
    drifted = sp.diff(FORCE * density, x) - temp * sp.diff(density, x, 2)
    yield Substitution("the Boltzmann law, for any energy", drifted, {density: sp.exp(-ENERGY / temp)})
    yield Identity(
        "and it has the claimed score", claim.subs(score_x, FORCE), sp.diff(-ENERGY / temp, x)
    )
    wide = sp.Function("E", real=True)(x, OTHERS)
    boltzmann = sp.exp(-wide / temp)
    along = claim.subs(score_x, -sp.diff(wide, x)) * boltzmann
    yield Identity("any coordinate of many", sp.diff(boltzmann, x), along)


DRIFT = eta_step * score_x
STEP = x + DRIFT + sp.sqrt(2 * eta_step * temp) * z


@formula(
    "energy.langevin_step",
    title="a step of the unadjusted Langevin chain, η convention",
    lhs=sp.Symbol("x_next"),
    rhs=STEP,
    citations=("Roberts1996:§1.4", "S004:1.6", "conventions:NCSN", "conventions:EBM"),
    reference="refdiff.langevin:step",
    uses=("energy.langevin_invariance",),
    decoys=(
        Decoy("half-noise", x + DRIFT + sp.sqrt(eta_step * temp) * z, "sqrt", "√η: the 2 is missing"),
        Decoy(
            "temperature-forgotten", x + DRIFT + sp.sqrt(2 * eta_step) * z, "variance",
            "the noise of temperature 1",
        ),
        Decoy(
            "temperature-not-rooted", x + DRIFT + temp * sp.sqrt(2 * eta_step) * z, "sqrt",
            "τ where √τ belongs",
        ),
        Decoy(
            "uphill", x - DRIFT + sp.sqrt(2 * eta_step * temp) * z, "sign", "away from where the law is dense"
        ),
        Decoy(
            "half-drift", x + DRIFT / 2 + sp.sqrt(2 * eta_step * temp) * z, "sqrt",
            "the drift of one convention with the noise of the other",
        ),
        Decoy(
            "noise-variance", x + DRIFT + 2 * eta_step * temp * z, "sqrt", "the variance multiplies the noise"
        ),
        Decoy(
            "temperature-in-both", x + DRIFT / temp + sp.sqrt(2 * eta_step * temp) * z, "variance",
            "the temperature counted twice",
        ),
    ),
)  # fmt: skip
def _langevin_step(claim: sp.Expr) -> Iterator[Step]:
    """Euler and Maruyama: for a time η the drift is held and the noise adds up to variance 2ητ. For any
    function f, to first order in η, the mean of f(x_next) − f(x) is η times s·f' + τ·f'', the generator of
    the diffusion: the chain has its law in the limit of small steps, and not before."""
    move = claim - x
    yield Identity("the noise adds a normal variable", sp.diff(claim, z, 2), ZERO)
    yield Identity("its variance", sp.diff(claim, z) ** 2, 2 * eta_step * temp)
    yield Inequality("its sign is free and taken positive", sp.diff(claim, z), ">", ZERO)
    yield Expectation("drift", move, {z: UNIT}, DRIFT)
    yield Expectation("second moment", move**2, {z: UNIT}, 2 * eta_step * temp + DRIFT**2)
    slope, curvature = sp.symbols("f_1 f_2", real=True)
    change = slope * move.subs(z, 0) + curvature * (move.subs(z, 0) ** 2 + sp.diff(claim, z) ** 2) / 2
    generator = eta_step * (score_x * slope + temp * curvature)
    yield Series("the generator, to first order", sp.expand(change), eta_step, 2, generator)


@formula(
    "energy.langevin_step_half",
    title="a step of the unadjusted Langevin chain, ε²/2 convention",
    lhs=sp.Symbol("x_next"),
    rhs=x + epsilon**2 / 2 * score_x + epsilon * z,
    citations=("S004:1.6", "S004:alg2.1", "Welling2011:2", "Song2019:4", "conventions:NCSN"),
    reference="refdiff.langevin:step_half",
    uses=("energy.langevin_step",),
    decoys=(
        Decoy("no-half", x + epsilon**2 * score_x + epsilon * z, "sqrt", "½ is missing"),
        Decoy("not-squared", x + epsilon / 2 * score_x + epsilon * z, "sqrt", "ε where ε² belongs"),
        Decoy(
            "root", x + epsilon**2 / 2 * score_x + sp.sqrt(epsilon) * z, "sqrt", "√ε multiplies the noise"
        ),
        Decoy(
            "noise-of-the-other", x + epsilon**2 / 2 * score_x + sp.sqrt(2 * epsilon) * z, "sqrt",
            "the drift of one convention with the noise of the other",
        ),
        Decoy("uphill", x - epsilon**2 / 2 * score_x + epsilon * z, "sign", "towards high energy"),
    ),
)  # fmt: skip
def _langevin_step_half(claim: sp.Expr) -> Iterator[Step]:
    """The same step with η = ε²/2 at temperature 1; and any step of the other convention is one of these
    with ε = √(2η)."""
    yield Identity("η = ε²/2", claim, STEP.subs({eta_step: epsilon**2 / 2, temp: 1}))
    yield Identity("ε = √(2η)", claim.subs(epsilon, sp.sqrt(2 * eta_step)), STEP.subs(temp, 1))


KEPT = 1 - eta_step / variance_1
"""What a step keeps of the distance from the mean of a Gaussian target."""
ON_GAUSSIAN = STEP.subs(score_x, -(x - mean_1) / variance_1)
STATIONARY = 2 * temp * variance_1**2 / (2 * variance_1 - eta_step)
ULA_VARIANCE = STATIONARY + KEPT ** (2 * count) * (variance_0 - STATIONARY)
STABLE = sp.Lt(eta_step, 2 * variance_1)


@formula(
    "energy.ula_mean",
    title="mean of the Langevin chain on a Gaussian after n steps",
    lhs=sp.Symbol("mean_n"),
    rhs=mean_1 + KEPT**count * (mean_0 - mean_1),
    citations=("Wibisono2018:§3.2", "Dalalyan2017"),
    reference="refdiff.langevin:gaussian_mean",
    uses=("energy.langevin_step",),
    decoys=(
        Decoy("continuous", mean_1 + sp.exp(-count * eta_step / variance_1) * (mean_0 - mean_1),
              "discretization", "the law of the diffusion, not of its chain"),
        Decoy("deviation", mean_1 + (1 - eta_step / sp.sqrt(variance_1)) ** count * (mean_0 - mean_1),
              "sqrt", "the deviation of the target where its variance belongs"),
        Decoy("half-drift", mean_1 + (1 - eta_step / (2 * variance_1)) ** count * (mean_0 - mean_1),
              "sqrt", "the drift of the other convention"),
        Decoy("one-step-late", mean_1 + KEPT ** (count - 1) * (mean_0 - mean_1), "index", "a step missing"),
        Decoy("shrunk", KEPT**count * mean_0, "data-scaling", "towards 0, not towards the mean"),
    ),
)  # fmt: skip
def _ula_mean(claim: sp.Expr) -> Iterator[Step]:
    """Induction on the number of steps: the score of a Gaussian is affine, so the mean takes the same step
    as the state, without the noise. It holds for every step size; it converges for η < 2v."""
    m = sp.Function("m", real=True)(count)
    onward = ON_GAUSSIAN.subs({x: m, z: 0})
    yield Induction(
        "mean", (claim.subs(count, 0), mean_0), (claim.subs(count, count + 1), onward), {m: claim}
    )


@formula(
    "energy.ula_stationary_variance",
    title="variance that the Langevin chain keeps on a Gaussian",
    lhs=sp.Symbol("V_inf", positive=True),
    rhs=STATIONARY,
    citations=("Wibisono2018:§3.2", "Dalalyan2017"),
    reference="refdiff.langevin:stationary_variance",
    uses=("energy.langevin_step",),
    assumptions=(STABLE,),
    decoys=(
        Decoy("target", temp * variance_1, "discretization", "that of the target: the bias is denied"),
        Decoy("too-narrow", 2 * temp * variance_1**2 / (2 * variance_1 + eta_step), "sign", "bias downwards"),
        Decoy("whole-step", temp * variance_1**2 / (variance_1 - eta_step), "sqrt", "η where η/2 belongs"),
        Decoy("half-noise", STATIONARY / 2, "sqrt", "the noise √η"),
        Decoy("cold", STATIONARY / temp, "variance", "the temperature forgotten"),
        Decoy("hot", STATIONARY * temp, "sqrt", "τ where √τ belongs"),
        Decoy("deviation", 2 * temp * variance_1 / (2 * sp.sqrt(variance_1) - eta_step), "sqrt",
              "the deviation of the target where its variance belongs"),
    ),
)  # fmt: skip
def _ula_stationary_variance(claim: sp.Expr) -> Iterator[Step]:
    """The fixed point of V = (1 − η/v)²·V + 2ητ; the only one, because the chain forgets a share of V that
    is positive for η < 2v. The chain is too wide, by ητ/2 to first order."""
    m = sp.Symbol("m", real=True)
    moments = {x: (m, claim), z: UNIT}
    mean = ON_GAUSSIAN.subs({x: m, z: 0})
    yield Expectation("the variance stays", (ON_GAUSSIAN - mean) ** 2, moments, claim)
    yield Inequality("a share is forgotten", 1 - KEPT**2, ">", ZERO)
    yield Inequality("it is a variance", claim, ">", ZERO)


@formula(
    "energy.ula_variance",
    title="variance of the Langevin chain on a Gaussian after n steps",
    lhs=sp.Symbol("V_n", positive=True),
    rhs=ULA_VARIANCE,
    citations=("Wibisono2018:§3.2",),
    reference="refdiff.langevin:gaussian_variance",
    uses=("energy.langevin_step", "energy.ula_stationary_variance"),
    assumptions=(STABLE,),
    decoys=(
        Decoy("not-squared", STATIONARY + KEPT**count * (variance_0 - STATIONARY), "sqrt",
              "the variance decays like the mean"),
        Decoy("to-the-target", temp * variance_1 + KEPT ** (2 * count) * (variance_0 - temp * variance_1),
              "discretization", "to the variance of the target: the bias is denied"),
        Decoy("one-step-late", STATIONARY + KEPT ** (2 * count - 2) * (variance_0 - STATIONARY), "index",
              "a step missing"),
        Decoy("from-a-point", STATIONARY * (1 - KEPT ** (2 * count)), "variance",
              "the variance of the start forgotten"),
        Decoy("half-noise", KEPT ** (2 * count) * variance_0 + STATIONARY / 2 * (1 - KEPT ** (2 * count)),
              "sqrt", "the noise √η"),
        Decoy("continuous", temp * variance_1 + sp.exp(-2 * count * eta_step / variance_1)
              * (variance_0 - temp * variance_1), "discretization", "the diffusion for its chain"),
    ),
)  # fmt: skip
def _ula_variance(claim: sp.Expr) -> Iterator[Step]:
    """Induction on the number of steps: a step multiplies the variance by the square of what it keeps of a
    distance, and adds that of its noise. Normal it stays, being affine. The recursion holds for every step
    size but 2v, where nothing is forgotten; the start does not matter in the end for η < 2v."""
    V = sp.Function("V", positive=True)(count)
    m = sp.Symbol("m", real=True)
    mean = ON_GAUSSIAN.subs({x: m, z: 0})
    onward = Expectation("", (ON_GAUSSIAN - mean) ** 2, {x: (m, V), z: UNIT}, ZERO).value()
    later = claim.subs(count, count + 1)
    yield Induction("variance", (claim.subs(count, 0), variance_0), (later, sp.expand(onward)), {V: claim})


@formula(
    "energy.ula_bias",
    title="how much too wide the Langevin chain is on a Gaussian",
    lhs=sp.Symbol("bias", positive=True),
    rhs=eta_step / (2 * variance_1 - eta_step),
    citations=("Dalalyan2017", "S004:§1.2/1"),
    reference="refdiff.langevin:stationary_variance",
    uses=("energy.ula_stationary_variance",),
    assumptions=(STABLE,),
    decoys=(
        Decoy("second-order", eta_step**2 / (4 * variance_1**2 - eta_step**2), "discretization",
              "a bias of second order"),
        Decoy("whole-step", eta_step / (variance_1 - eta_step), "sqrt", "twice as much"),
        Decoy("none", ZERO, "discretization", "an exact sampler"),
    ),
)  # fmt: skip
def _ula_bias(claim: sp.Expr) -> Iterator[Step]:
    """The excess over the variance τ·v of the law, in units of it: positive and of first order in the step.
    Only the limit of small steps and many of them has the law, as the source says."""
    yield Identity("excess", STATIONARY / (temp * variance_1) - 1, claim)
    yield Inequality("too wide", claim, ">", ZERO)
    yield Series("first order", claim, eta_step, 2, eta_step / (2 * variance_1))


DEFICIT = matrix("K", dim, dim, "step size times the precision of the target")
LACK = sp.Identity(dim) - HALF * DEFICIT


@formula(
    "energy.ula_stationary_variance_nd",
    title="covariance that the Langevin chain keeps on a Gaussian, over ητ, any dimension",
    lhs=matrix("U", dim, dim, "covariance of the chain over ητ"),
    rhs=LACK.I * DEFICIT.I,
    citations=("Wibisono2018:§3.2",),
    reference="refdiff.langevin:stationary_covariance",
    uses=("energy.ula_stationary_variance",),
    decoys=(
        Decoy("target", DEFICIT.I, "discretization", "the covariance of the target"),
        Decoy("whole-step", (sp.Identity(dim) - DEFICIT).I * DEFICIT.I, "sqrt", "η where η/2 belongs"),
        Decoy("too-narrow", (sp.Identity(dim) + HALF * DEFICIT).I * DEFICIT.I, "sign", "bias downwards"),
        Decoy("half-noise", HALF * (LACK.I * DEFICIT.I), "sqrt", "the noise √η"),
    ),
    mutate=False,  # the grammar of mistakes is of numbers; these are matrices
)  # fmt: skip
def _ula_stationary_variance_nd(claim: sp.Expr) -> Iterator[Step]:
    """With K = ηP, P the precision of the target, a step keeps 1 − K of a deviation and adds 2ητ in every
    direction: the fixed point of U = (1 − K)·U·(1 − K) + 2. It commutes with K, so the bias has the axes of
    the target, and each axis its own."""
    kept = sp.Identity(dim) - DEFICIT
    onward = kept * claim * kept + 2 * sp.Identity(dim)
    given = Given(symmetric=frozenset({DEFICIT}))
    yield MatrixIdentity("the covariance stays", onward, claim, given)
    yield MatrixIdentity("it has the axes of the target", claim * DEFICIT, DEFICIT * claim, given)


@formula(
    "energy.metropolis_acceptance",
    title="probability of accepting a move: Metropolis and Hastings",
    lhs=sp.Symbol("a", positive=True),
    rhs=sp.Min(1, hastings),
    citations=("Hastings1970", "Roberts1996:§1.4"),
    reference="refdiff.langevin:mala_step",
    decoys=(
        Decoy("inverted", sp.Min(1, 1 / hastings), "sign", "the flow of the move over that of its reverse"),
        Decoy("larger", sp.Max(1, hastings), "sign", "the larger of the two: no probability"),
        Decoy("barker", hastings / (1 + hastings), "likelihood", "Barker's: balanced, but it rests more"),
        Decoy("root", sp.Min(1, sp.sqrt(hastings)), "sqrt", "the ratio of deviations"),
        Decoy("always", sp.Integer(1), "discretization", "the chain without correction"),
    ),
)  # fmt: skip
def _metropolis_acceptance(claim: sp.Expr) -> Iterator[Step]:
    """Accepted flow is the same in both directions, so the law stays. Many rules do that; of all of them this
    is the one under which a move or its reverse is certain, so the chain rests least. On finite chains with
    any proposals, exactly."""
    flow, excess = sp.Symbol("flow", positive=True), sp.Symbol("u", positive=True)
    reverse = claim.subs(hastings, 1 / hastings)
    yield Identity("detailed balance", flow * claim, flow * hastings * reverse)
    yield Identity("a move or its reverse is certain", (1 - claim) * (1 - reverse), ZERO)
    for name, ratio in (("more", 1 + excess), ("less", 1 / (1 + excess))):
        at = claim.subs(hastings, ratio)
        yield Inequality(f"a probability, where {name} flows back", sp.Integer(1), ">=", at)
    yield Enumeration("the law of a finite chain stays", lambda: _corrected_chains(claim))


def _corrected_chains(claim: sp.Expr) -> Iterator[tuple[str, sp.Rational, sp.Rational]]:
    """Mass of each state after a step that starts in the law, against its mass before."""
    generator = random.Random(19700101)
    for size in (2, 3, 5):
        law = _shares(generator, size)
        moves = [_shares(generator, size) for _ in range(size)]
        proposed = [[law[i] * moves[i][j] for j in range(size)] for i in range(size)]
        moved = [
            [proposed[i][j] * claim.subs(hastings, proposed[j][i] / proposed[i][j]) for j in range(size)]
            for i in range(size)
        ]
        for j in range(size):
            change = sum(moved[i][j] - moved[j][i] for i in range(size))
            yield f"{size} states, state {j}", law[j] + change, law[j]


def _shares(generator: random.Random, size: int) -> list[sp.Rational]:
    parts = [generator.randint(1, 20) for _ in range(size)]
    return [sp.Rational(part, sum(parts)) for part in parts]


FORTH = (y - x - eta_step * score_x) ** 2
BACK = (x - y - eta_step * score_y) ** 2
LOG_RATIO = (energy_x - energy_y) / temp + (FORTH - BACK) / (4 * eta_step * temp)


def ratio(log: sp.Expr) -> LogDensity:
    """A ratio of densities from its log."""
    return LogDensity(log, sp.Integer(1), rf"\exp\left({tex(log)}\right)")


EXCHANGE = {x: y, y: x, energy_x: energy_y, energy_y: energy_x, score_x: score_y, score_y: score_x}


@formula(
    "energy.mala_log_acceptance",
    title="log of the ratio of flows of a Langevin proposal",
    lhs=sp.log(hastings),
    rhs=LOG_RATIO,
    citations=("Roberts1996:§1.4", "Roberts1998"),
    reference="refdiff.langevin:mala_log_acceptance",
    uses=("energy.metropolis_acceptance", "energy.langevin_step"),
    decoys=(
        Decoy("symmetric", (energy_x - energy_y) / temp, "discretization",
              "as if the proposal were as likely as its reverse"),
        Decoy("energies-exchanged", LOG_RATIO + 2 * (energy_y - energy_x) / temp, "sign",
              "uphill is preferred"),
        Decoy("proposals-exchanged", (energy_x - energy_y) / temp - (FORTH - BACK) / (4 * eta_step * temp),
              "sign", "the proposal over its reverse"),
        Decoy("half-variance", (energy_x - energy_y) / temp + (FORTH - BACK) / (2 * eta_step * temp), "sqrt",
              "the 2 of the density or of the variance is missing"),
        Decoy("temperature-forgotten", energy_x - energy_y + (FORTH - BACK) / (4 * eta_step), "variance",
              "the ratio at temperature 1"),
        Decoy("temperature-of-energy-only", (energy_x - energy_y) / temp + (FORTH - BACK) / (4 * eta_step),
              "variance", "the proposal's noise at temperature 1"),
    ),
)  # fmt: skip
def _mala_log_acceptance(claim: sp.Expr) -> Iterator[Step]:
    """The density of y times that of coming back, over the same in the other direction; the normalisers of
    the law and of the proposal cancel. Exchanging x and y turns the sign: so Metropolis's rule accepts the
    same flow in both directions. Any energy, any field s; in more dimensions the squares are sums of
    squares."""
    spread = 2 * eta_step * temp
    forth = normal(y, x + DRIFT, spread)
    back = normal(x, y + DRIFT.subs(score_x, score_y), spread)
    yield DensityEqual("ratio of flows", ratio((energy_x - energy_y) / temp) * back / forth, ratio(claim))
    yield Identity("the reverse move", claim.xreplace(EXCHANGE), -claim)


INWARDS = (x - mean_1) ** 2 - (y - mean_1) ** 2
"""How much nearer to the mean the proposal is, in squares."""


@formula(
    "energy.mala_log_acceptance_gaussian",
    title="log of the ratio of flows of a Langevin proposal on a Gaussian",
    lhs=sp.log(hastings),
    rhs=eta_step * INWARDS / (4 * variance_1**2 * temp),
    citations=("Roberts1998",),
    reference="refdiff.langevin:mala_log_acceptance",
    uses=("energy.mala_log_acceptance",),
    decoys=(
        Decoy("symmetric", INWARDS / (2 * variance_1 * temp), "discretization", "the energies alone"),
        Decoy("exchanged", -eta_step * INWARDS / (4 * variance_1**2 * temp), "sign", "outwards is preferred"),
        Decoy("half-variance", eta_step * INWARDS / (2 * variance_1**2 * temp), "sqrt", "a factor of 2"),
        Decoy("not-squared", eta_step * INWARDS / (4 * variance_1 * temp), "sqrt",
              "the variance of the target not squared"),
        Decoy("centre", eta_step * (x**2 - y**2) / (4 * variance_1**2 * temp), "data-scaling",
              "distances from 0, not from the mean"),
    ),
)  # fmt: skip
def _mala_log_acceptance_gaussian(claim: sp.Expr) -> Iterator[Step]:
    """All that is left of the energies after the ratio of the proposals is of first order in the step: it is
    what narrows the chain to the width of the law."""
    energies = {e: (u - mean_1) ** 2 / (2 * variance_1) for e, u in ((energy_x, x), (energy_y, y))}
    scores = {s: -(u - mean_1) / variance_1 for s, u in ((score_x, x), (score_y, y))}
    yield Identity("on a Gaussian", claim, LOG_RATIO.subs(energies | scores))
