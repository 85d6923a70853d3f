r"""The variational bound of a chain with any Markov kernel.

Axioms: the forward chain starts from the data and is Markov, with kernel q(x_t|x_{t-1}); the model starts
from p(x_T) and runs backwards with kernels p(x_{t-1}|x_t); Bayes' rule. Nothing else is known of the
kernels, so each value of a probability is a free positive number, and a statement is one about every path,
for all T by induction. Its mean over q(x_{0:T}) is the statement about divergences: a mean is linear, and the
mean of what depends on a few states needs the law of these alone. Every statement is also enumerated on
finite chains, exactly, where each probability is a sum over paths. The reversed chain and the bound without
x_0 are in ``elbo_vanilla``, what more or smaller steps do is in ``elbo_refinement``, Gaussian and binomial
kernels are in ``elbo_kernels``; this module imports all three.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import log

from derivations.chains import (
    DATA,
    END,
    bayes,
    evidence_cases,
    forward,
    noised,
    over_steps,
    p,
    path_cases,
    posterior,
    q,
    reversal,
    reverse,
    total_cases,
    x,
)
from derivations.kit import Decoy, Enumeration, Identity, Induction, Inequality, Step, formula
from derivations.symbols import T, evidence, i, importance, t

KEPT = sp.Symbol("kept", real=True)
ONE = {T: sp.Integer(1)}
NEXT = {T: T + 1}

WEIGHT = log(p(END)) + over_steps(log(reverse(i) / forward(i)))
"""log of p(x_{0:T})/q(x_{1:T}|x_0): its mean is the bound K."""


def weight_steps(claim: sp.Expr, kernel: sp.Expr, last: sp.Expr) -> Iterator[Step]:
    """The claim is the log weight for every T: a step more brings p(x_T|x_{T+1})/q(x_{T+1}|x_T).

    ``kernel`` and ``last`` are q(x_{T+1}|x_T) and q(x_1|x_0) as Bayes' rule writes them.
    """
    base = log(p(x(1))) + log(reverse(sp.Integer(1)) / last)
    more = KEPT + log(reverse(T + 1) / kernel)
    begun = (claim.subs(ONE), base)
    yield Induction(
        "for every T", begun, (claim.subs(NEXT) - log(p(x(T + 1))), more), {KEPT: claim - log(p(END))}
    )


@formula(
    "elbo.forward_chain",
    title="log-probability of a noised path given the data, any kernel",
    lhs=log(q(x(1, T), DATA)),
    rhs=over_steps(log(forward(i))),
    citations=("S004:3.2", "S004:3.3", "Sohl-Dickstein2015:2", "Ho2020:2"),
    reference="refdiff.elbo:forward_paths",
    decoys=(
        Decoy("first-missing", over_steps(log(forward(i)), 2), "index", "the product starts at t = 2"),
        Decoy("last-missing", over_steps(log(forward(i)), 1, T - 1), "index", "the product stops at T−1"),
        Decoy(
            "star", over_steps(log(noised(i))), "index",
            "every state straight from the data: the marginals are right, the chain is gone",
        ),
        Decoy("turned", over_steps(log(reversal(i))), "likelihood", "the kernel read backwards"),
    ),
)  # fmt: skip
def _forward_chain(claim: sp.Expr) -> Iterator[Step]:
    """The product rule; by the Markov property q(x_{T+1}|x_{0:T}) is q(x_{T+1}|x_T)."""
    base = (claim.subs(ONE), log(q(x(1), DATA)))
    yield Induction("product rule", base, (claim.subs(NEXT), KEPT + log(forward(T + 1))), {KEPT: claim})
    yield Enumeration("on every path", lambda: path_cases(claim, log(q(x(1, T), DATA))))


@formula(
    "elbo.reverse_chain",
    title="log-probability of a path under the model, any kernel",
    lhs=log(p(x(0, T))),
    rhs=log(p(END)) + over_steps(log(reverse(i))),
    citations=("S004:3.4", "Ho2020:1"),
    reference="refdiff.elbo:reverse_paths",
    decoys=(
        Decoy("prior-missing", over_steps(log(reverse(i))), "likelihood", "the law of x_T is left out"),
        Decoy(
            "data-for-prior", log(p(DATA)) + over_steps(log(reverse(i))), "index",
            "the law of x_0 where that of x_T belongs",
        ),
        Decoy("first-missing", log(p(END)) + over_steps(log(reverse(i)), 2), "index", "x_0 is never drawn"),
    ),
)  # fmt: skip
def _reverse_chain(claim: sp.Expr) -> Iterator[Step]:
    """p(x_{0:T−1}|x_T) by the product rule, the chain being Markov downwards; then times p(x_T)."""
    given_end = claim - log(p(END))
    base = (given_end.subs(ONE), log(p(DATA, x(1))))
    more = (given_end.subs(NEXT), KEPT + log(reverse(T + 1)))
    yield Induction("product rule, downwards", base, more, {KEPT: given_end})
    yield Enumeration("on every path", lambda: path_cases(claim, log(p(x(0, T)))))


@formula(
    "elbo.weight",
    title="the weight of a path: the likelihood is its mean, the bound the mean of its log",
    lhs=log(p(x(0, T)) / q(x(1, T), DATA)),
    rhs=WEIGHT,
    citations=("S000:11", "S004:3.6", "S004:3.7", "S004:3.8", "Ho2020:3"),
    reference="refdiff.elbo:log_weights",
    uses=("elbo.forward_chain", "elbo.reverse_chain"),
    decoys=(
        Decoy(
            "prior-missing", over_steps(log(reverse(i) / forward(i))), "likelihood", "p(x_T) is left out"
        ),
        Decoy(
            "upside-down", log(p(END)) - over_steps(log(reverse(i) / forward(i))), "sign",
            "forward over reverse",
        ),
        Decoy(
            "first-missing", log(p(END)) + over_steps(log(reverse(i) / forward(i)), 2), "index",
            "the step from the data is left out",
        ),
        Decoy(
            "reversal", log(p(END)) + over_steps(log(reverse(i) / reversal(i))), "likelihood",
            "q(x_{t−1}|x_t) where q(x_t|x_{t−1}) belongs, without what Bayes' rule adds",
        ),
    ),
)  # fmt: skip
def _weight(claim: sp.Expr) -> Iterator[Step]:
    """Both chains step by step. The mean of the weight over q(x_{1:T}|x_0) is p(x_0): importance
    sampling, with the noised path as the proposal."""
    yield from weight_steps(claim, forward(T + 1), forward(sp.Integer(1)))
    yield Enumeration("on every path", lambda: path_cases(claim, log(p(x(0, T)) / q(x(1, T), DATA))))
    yield Enumeration("its mean is the likelihood", lambda: evidence_cases(claim))


ABOVE = sp.Symbol("u", positive=True)
JENSEN = importance / evidence - 1 - log(importance / evidence)


@formula(
    "elbo.jensen",
    title="what Jensen's inequality loses: the mean of a function that is never negative",
    lhs=sp.Symbol("lost", nonnegative=True),
    rhs=JENSEN,
    citations=("S004:3.8", "S004:3.16"),
    reference="refdiff.elbo:gap",
    decoys=(
        Decoy("other-way", JENSEN.subs(importance, evidence**2 / importance), "sign", "the ratio inverted"),
        Decoy("concave", 1 - importance / evidence + log(importance / evidence), "sign", "an upper bound"),
    ),
)
def _jensen(claim: sp.Expr) -> Iterator[Step]:
    """For a positive w with mean m the function is log m − log w plus w/m − 1, which has mean 0: the
    distance of the log from its tangent at m. It falls below w = m, rises above it and vanishes there, so
    its mean is positive unless w is constant. With w = p/q, of mean 1 under q, it says that no divergence
    is negative."""
    slope = sp.diff(claim, importance)
    yield Identity(
        "the tangent", claim - (importance / evidence - 1), log(evidence) - log(importance)
    )
    yield Identity("nothing at the mean", claim.subs(importance, evidence), sp.Integer(0))
    above, below = (slope.subs(importance, w) for w in (evidence * (1 + ABOVE), evidence / (1 + ABOVE)))
    yield Inequality("rising above the mean", above, ">", sp.Integer(0))
    yield Inequality("falling below it", sp.Integer(0), ">", below)
    paths = {importance: p(x(0, T)) / q(x(1, T), DATA), evidence: p(DATA)}
    weighed = q(DATA) * q(x(1, T), DATA) * claim.subs(paths)
    exact = log(p(DATA)) - log(paths[importance])
    yield Enumeration("the mean loss on chains", lambda: total_cases(weighed, exact))


@formula(
    "elbo.evidence_gap",
    title="log-likelihood: the bound, plus the divergence of the noised path from the model's posterior",
    lhs=log(p(DATA)),
    rhs=log(p(x(0, T)) / q(x(1, T), DATA)) + log(q(x(1, T), DATA) / p(x(1, T), DATA)),
    citations=("S000:13", "S000:14", "S004:3.8"),
    reference="refdiff.elbo:evidence",
    uses=("elbo.weight", "elbo.jensen"),
    decoys=(
        Decoy(
            "gap-missing", log(p(x(0, T)) / q(x(1, T), DATA)), "likelihood",
            "the bound taken for the likelihood",
        ),
        Decoy(
            "gap-to-joint", log(p(x(0, T)) / q(x(1, T), DATA)) + log(q(x(1, T), DATA) / p(x(1, T))),
            "likelihood", "the divergence from p(x_{1:T}), not given the data",
        ),
        Decoy(
            "gap-turned", log(p(x(0, T)) / q(x(1, T), DATA)) - log(q(x(1, T), DATA) / p(x(1, T), DATA)),
            "sign", "the divergence subtracted: an upper bound",
        ),
    ),
)  # fmt: skip
def _evidence_gap(claim: sp.Expr) -> Iterator[Step]:
    """The product rule p(x_{0:T}) = p(x_0) p(x_{1:T}|x_0) on every path; the mean over q(x_{1:T}|x_0)
    of the second term is a divergence, so the first is a lower bound."""
    rule = {p(x(1, T), DATA): p(x(0, T)) / p(DATA)}
    yield Identity("product rule", claim.xreplace(rule), log(p(DATA)))
    yield Enumeration("on every path", lambda: path_cases(claim, log(p(DATA))))


@formula(
    "elbo.bayes_step",
    title="the forward kernel through the posterior given the data",
    lhs=forward(t),
    rhs=bayes(t),
    citations=("S000:6", "S004:3.9", "S004:4.3", "S003:/4", "Sohl-Dickstein2015:app.B"),
    reference="refdiff.elbo:FiniteChain",
    uses=("elbo.forward_chain",),
    decoys=(
        Decoy(
            "ratio-inverted", posterior(t) * noised(t - 1) / noised(t), "index",
            "the two marginals exchanged",
        ),
        Decoy(
            "data-in-the-marginals-only", reversal(t) * noised(t) / noised(t - 1), "likelihood",
            "the posterior is not given the data, its marginals are",
        ),
        Decoy(
            "data-in-the-posterior-only", posterior(t) * q(x(t)) / q(x(t - 1)), "likelihood",
            "the posterior is given the data, its marginals are not",
        ),
    ),
)  # fmt: skip
def _bayes_step(claim: sp.Expr) -> Iterator[Step]:
    """By the Markov property q(x_t|x_{t−1}) is q(x_t|x_{t−1}, x_0); the product rule writes
    q(x_{t−1}, x_t | x_0) in two ways. Without x_0 everywhere the rule holds too; it may not be mixed."""
    product_rule = forward(t) * noised(t - 1) / noised(t)
    yield Identity("product rule, twice", claim.xreplace({posterior(t): product_rule}), forward(t))
    yield Enumeration("on every path", lambda: path_cases(claim, forward(t), 2))


PRIOR_TERM = log(p(END) / noised(T))
RECONSTRUCTION = log(reverse(sp.Integer(1)))
THREE_TERMS = PRIOR_TERM + over_steps(log(reverse(i) / posterior(i)), 2) + RECONSTRUCTION


@formula(
    "elbo.three_terms",
    title="the bound in three terms, for every T: −L_T − ΣL_{t−1} − L_0 on every path",
    lhs=log(p(x(0, T)) / q(x(1, T), DATA)),
    rhs=THREE_TERMS,
    citations=("S000:15", "S004:3.9", "S004:3.13", "S004:3.14", "Ho2020:5", "Sohl-Dickstein2015:14"),
    reference="refdiff.elbo:terms",
    uses=("elbo.weight", "elbo.bayes_step"),
    decoys=(
        Decoy("prior-missing", THREE_TERMS - PRIOR_TERM, "likelihood", "L_T is left out", "S004:5.7"),
        Decoy("reconstruction-missing", THREE_TERMS - RECONSTRUCTION, "likelihood", "L_0 is left out"),
        Decoy(
            "not-given-data", PRIOR_TERM + over_steps(log(reverse(i) / reversal(i)), 2) + RECONSTRUCTION,
            "likelihood", "the posterior is not given the data, the marginal of x_T is",
        ),
        Decoy(
            "forward-kernel", PRIOR_TERM + over_steps(log(reverse(i) / forward(i)), 2) + RECONSTRUCTION,
            "likelihood", "the forward kernel where its posterior belongs", "S004:3.12",
        ),
        Decoy(
            "prior-not-given-data", log(p(END) / q(END)) + THREE_TERMS - PRIOR_TERM, "likelihood",
            "q(x_T) where q(x_T|x_0) belongs",
        ),
        Decoy(
            "first-step-twice", PRIOR_TERM + over_steps(log(reverse(i) / posterior(i))) + RECONSTRUCTION,
            "index", "the sum starts at t = 1, where q(x_0|x_1, x_0) is 1",
        ),
        Decoy(
            "divergences-turned",
            PRIOR_TERM - over_steps(log(reverse(i) / posterior(i)), 2) + RECONSTRUCTION, "sign",
            "the divergences enter with the wrong sign",
        ),
    ),
)  # fmt: skip
def _three_terms(claim: sp.Expr) -> Iterator[Step]:
    """Bayes' rule in every step but the first; the marginals q(x_t|x_0) telescope and leave that of
    x_T. Induction on T, the density of x_T set apart."""
    yield from weight_steps(claim, bayes(T + 1), forward(sp.Integer(1)))
    yield Enumeration("on every path", lambda: path_cases(claim, log(p(x(0, T)) / q(x(1, T), DATA))))


PRIOR_WEIGHT = q(DATA) * noised(T)


@formula(
    "elbo.prior_term",
    title="L_T: what is summed over x_0 and x_T",
    lhs=sp.Function("L_T")(DATA, END),
    rhs=PRIOR_WEIGHT * log(noised(T) / p(END)),
    citations=("S004:3.10", "Ho2020:5"),
    reference="refdiff.elbo:terms",
    uses=("elbo.three_terms", "elbo.jensen"),
    decoys=(
        Decoy("turned", q(DATA) * p(END) * log(p(END) / noised(T)), "likelihood", "the divergence turned"),
        Decoy(
            "not-given-data", q(END) * log(q(END) / p(END)), "likelihood",
            "the divergence of q(x_T): smaller by the information that x_T has on x_0",
        ),
        Decoy("product", q(DATA) * q(END) * log(noised(T) / p(END)), "likelihood", "x_0 and x_T apart"),
    ),
)  # fmt: skip
def _prior_term(claim: sp.Expr) -> Iterator[Step]:
    """The mean of log q(x_T|x_0)/p(x_T); all states between are summed out."""
    yield Identity("the law of x_0 and x_T", claim / PRIOR_WEIGHT, -PRIOR_TERM)
    yield Enumeration("the mean over paths", lambda: total_cases(claim, -PRIOR_TERM))


DENOISING_WEIGHT = q(DATA) * noised(t) * posterior(t)
DENOISING = log(posterior(t) / reverse(t))


@formula(
    "elbo.denoising_term",
    title="L_{t−1}: what is summed over x_0, x_{t−1} and x_t, 1 < t ≤ T",
    lhs=sp.Function("L")(DATA, x(t - 1), x(t)),
    rhs=DENOISING_WEIGHT * DENOISING,
    citations=("S004:3.12", "Ho2020:5"),
    reference="refdiff.elbo:terms",
    uses=("elbo.three_terms", "elbo.bayes_step", "elbo.jensen"),
    decoys=(
        Decoy(
            "forward-kernel", -DENOISING_WEIGHT * log(reverse(t) / forward(t)), "likelihood",
            "the forward kernel in the place of its posterior, as the first line is printed", "S004:3.12",
        ),
        Decoy(
            "turned", -q(DATA) * noised(t) * reverse(t) * DENOISING, "likelihood", "the divergence turned"
        ),
        Decoy(
            "not-given-data", DENOISING_WEIGHT * log(reversal(t) / reverse(t)), "likelihood",
            "the reversed kernel where the posterior belongs",
        ),
    ),
)  # fmt: skip
def _denoising_term(claim: sp.Expr) -> Iterator[Step]:
    """The mean of log q(x_{t−1}|x_t, x_0)/p(x_{t−1}|x_t); the law of the three states is that of the
    forward chain."""
    chain = q(DATA) * noised(t - 1) * forward(t)
    rule = {posterior(t): forward(t) * noised(t - 1) / noised(t)}
    exact = chain * log(forward(t) * noised(t - 1) / noised(t) / reverse(t))
    yield Identity("the law of the three states", claim.xreplace(rule), exact)
    yield Identity("the ratio", claim / DENOISING_WEIGHT, DENOISING)
    yield Enumeration("the mean over paths", lambda: total_cases(claim, DENOISING, 2))


@formula(
    "elbo.reconstruction_term",
    title="L_0: what is summed over x_0 and x_1",
    lhs=sp.Function("L_0")(DATA, x(1)),
    rhs=-q(DATA) * noised(sp.Integer(1)) * RECONSTRUCTION,
    citations=("S004:3.11", "S004:3.13", "Ho2020:5"),
    reference="refdiff.elbo:terms",
    uses=("elbo.three_terms",),
    decoys=(
        Decoy(
            "x_1-left-free", -q(DATA) * RECONSTRUCTION, "likelihood",
            "the mean over x_0 alone, as printed: x_1 is left, and it is drawn given x_0",
            "S004:3.11, S004:3.13",
        ),
        Decoy(
            "marginals", -q(DATA) * q(x(1)) * RECONSTRUCTION, "likelihood", "x_0 and x_1 as if independent"
        ),
        Decoy(
            "encoder", -q(DATA) * noised(sp.Integer(1)) * log(noised(sp.Integer(1))), "likelihood",
            "the forward kernel where the decoder belongs",
        ),
    ),
)  # fmt: skip
def _reconstruction_term(claim: sp.Expr) -> Iterator[Step]:
    """The mean of −log p(x_0|x_1) over x_0 and x_1."""
    weight = q(DATA) * noised(sp.Integer(1))
    yield Identity("the law of x_0 and x_1", claim / weight, -RECONSTRUCTION)
    yield Enumeration("the mean over paths", lambda: total_cases(claim, -RECONSTRUCTION))


@formula(
    "elbo.path_divergence",
    title="−K − H(q_0) is the divergence of the forward path from the model's",
    lhs=log(q(x(0, T)) / p(x(0, T))),
    rhs=log(q(DATA)) - WEIGHT,
    citations=("S004:3.8", "S000:14", "Ho2020:22"),
    reference="refdiff.elbo:path_divergence",
    uses=("elbo.weight", "elbo.jensen"),
    decoys=(
        Decoy("entropy-missing", -WEIGHT, "likelihood", "the entropy of the data is forgotten"),
        Decoy("entropy-sign", -log(q(DATA)) - WEIGHT, "sign", "the entropy of the data is added", "S004:6.1"),
        Decoy("turned", WEIGHT - log(q(DATA)), "likelihood", "the divergence turned"),
    ),
)
def _path_divergence(claim: sp.Expr) -> Iterator[Step]:
    """log q(x_{0:T}) = log q(x_0) + log q(x_{1:T}|x_0): the mean over q(x_{0:T}) is −H(q_0) − K. So the
    bound is best when the two laws of the path are one, and −K is at least the entropy of the data."""
    yield from weight_steps(log(q(DATA)) - claim, forward(T + 1), forward(sp.Integer(1)))
    yield Enumeration("on every path", lambda: path_cases(claim, log(q(x(0, T)) / p(x(0, T)))))


from derivations import elbo_kernels, elbo_refinement, elbo_vanilla  # noqa: E402  (the rest of the topic)

__all__ = ["elbo_kernels", "elbo_refinement", "elbo_vanilla"]
