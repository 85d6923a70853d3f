"""The forward chain read backwards, and the bound without x_0 in its posteriors: part of the topic ``elbo``.

Both bounds are one number. Their terms differ by what the states know of x_0, which no model can change: so
conditioning on x_0 makes the terms tractable and leaves what is learned as it was.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp
from sympy import log

from derivations.chains import (
    DATA,
    END,
    bayes_without_data,
    forward,
    noised,
    over_steps,
    p,
    path_cases,
    posterior,
    q,
    reversal,
    reverse,
    x,
)
from derivations.elbo import KEPT, NEXT, ONE, weight_steps
from derivations.kit import Decoy, Enumeration, Identity, Induction, Step, formula
from derivations.symbols import T, i, t


@formula(
    "elbo.reversed_kernel",
    title="the forward chain read backwards is Markov: its kernel, whatever happened later",
    lhs=q(x(t - 1), x(t, T)),
    rhs=forward(t) * q(x(t - 1)) / q(x(t)),
    citations=("S003:/3", "S004:§3.2/2", "S004:6.1"),
    reference="refdiff.elbo:FiniteChain",
    uses=("elbo.forward_chain",),
    decoys=(
        Decoy("same-kernel", forward(t), "likelihood", "the kernel of the forward chain"),
        Decoy("inverted", forward(t) * q(x(t)) / q(x(t - 1)), "index", "the two marginals exchanged"),
        Decoy("given-data", posterior(t), "likelihood", "the posterior given the data"),
        Decoy("not-normalised", forward(t) * q(x(t - 1)), "likelihood", "the joint law of the two states"),
    ),
)
def _reversed_kernel(claim: sp.Expr) -> Iterator[Step]:
    """q(x_{t−1:T}) = q(x_{t−1}) q(x_t|x_{t−1}) q(x_{t+1:T}|x_t), and the last factor, the law of all
    that comes later, is in q(x_{t:T}) too: it cancels."""
    later = sp.Product(forward(i), (i, t + 1, T))
    joint, known = q(x(t - 1)) * forward(t) * later, q(x(t)) * later
    yield Identity("what came later cancels", claim * known, joint)
    yield Enumeration("on every path", lambda: path_cases(claim, q(x(t - 1), x(t, T))))


REVERSED = log(q(END)) + over_steps(log(reversal(i)))


@formula(
    "elbo.reversed_chain",
    title="the forward chain, written from its end",
    lhs=log(q(x(0, T))),
    rhs=REVERSED,
    citations=("S004:§3.2/2", "S004:§3.4/2"),
    reference="refdiff.elbo:FiniteChain",
    uses=("elbo.reversed_kernel",),
    decoys=(
        Decoy("end-missing", REVERSED - log(q(END)), "likelihood", "the law of x_T is left out"),
        Decoy(
            "prior", log(p(END)) + over_steps(log(reversal(i))), "likelihood",
            "the model's law of x_T, which is not that of the chain",
        ),
        Decoy(
            "given-data", log(q(END)) + over_steps(log(posterior(i))), "likelihood",
            "posteriors given the data: the law of no path",
        ),
    ),
)  # fmt: skip
def _reversed_chain(claim: sp.Expr) -> Iterator[Step]:
    """Bayes' rule in every step; the marginals telescope. A model with these kernels and with p(x_T) =
    q(x_T) is the forward chain itself, and its bound is exact."""
    first = log(q(DATA)) + log(forward(sp.Integer(1)))
    kernel = {reversal(sp.Integer(1)): forward(sp.Integer(1)) * q(DATA) / q(x(1))}
    base = (claim.subs(ONE).doit().xreplace(kernel), first)
    more = (claim.subs(NEXT), KEPT + log(bayes_without_data(T + 1)))
    yield Induction("for every T", base, more, {KEPT: claim})
    yield Enumeration("on every path", lambda: path_cases(claim, log(q(x(0, T)))))


VANILLA = log(p(END) / q(END)) + over_steps(log(reverse(i) / reversal(i))) + log(q(DATA))


@formula(
    "elbo.vanilla",
    title="the same bound without x_0 in the posteriors",
    lhs=log(p(x(0, T)) / q(x(1, T), DATA)),
    rhs=VANILLA,
    citations=("S004:6.1",),
    reference="refdiff.elbo:vanilla_terms",
    uses=("elbo.weight", "elbo.reversed_kernel"),
    decoys=(
        Decoy(
            "entropy-sign", VANILLA - 2 * log(q(DATA)), "sign",
            "minus the log of the data's law, as printed", "S004:6.1",
        ),
        Decoy("entropy-missing", VANILLA - log(q(DATA)), "likelihood", "the entropy of the data forgotten"),
        Decoy(
            "given-data", log(p(END) / q(END)) + over_steps(log(reverse(i) / posterior(i))) + log(q(DATA)),
            "likelihood", "posteriors given the data beside a law of x_T that is not",
        ),
        Decoy(
            "first-missing", VANILLA - log(reverse(sp.Integer(1)) / reversal(sp.Integer(1))), "index",
            "the step to the data is left out",
        ),
    ),
)  # fmt: skip
def _vanilla(claim: sp.Expr) -> Iterator[Step]:
    """Bayes' rule without x_0 in every step, the first one too: what telescopes is q(x_t), and it leaves
    +log q(x_0) and −log q(x_T). The bound is the negative of three divergences' sum and of the entropy of
    the data."""
    yield from weight_steps(claim, bayes_without_data(T + 1), bayes_without_data(sp.Integer(1)))
    yield Enumeration("on every path", lambda: path_cases(claim, log(p(x(0, T)) / q(x(1, T), DATA))))


INFORMATION = log(noised(t - 1) / q(x(t - 1))) - log(noised(t) / q(x(t)))


@formula(
    "elbo.conditional_information",
    title="what conditioning on x_0 adds to a term: the information that x_{t−1} has on x_0 given x_t",
    lhs=log(posterior(t) / reversal(t)),
    rhs=INFORMATION,
    citations=("S004:6.1", "S004:§6/1"),
    reference="refdiff.elbo:conditional_information",
    uses=("elbo.bayes_step", "elbo.reversed_kernel"),
    decoys=(
        Decoy(
            "information-of-x_{t-1}", log(noised(t - 1) / q(x(t - 1))), "likelihood",
            "all that x_{t−1} has on x_0; what x_t has already is not taken off",
        ),
        Decoy("information-of-x_t", log(noised(t) / q(x(t))), "index", "what x_t has on x_0"),
        Decoy("levels-exchanged", -INFORMATION, "sign", "the later level minus the earlier"),
    ),
)  # fmt: skip
def _conditional_information(claim: sp.Expr) -> Iterator[Step]:
    """The two divergences differ by the mean of log q(x_{t−1}|x_t, x_0)/q(x_{t−1}|x_t), in which the
    model does not occur. It is the conditional mutual information of x_0 and x_{t−1} given x_t, and by
    Bayes' rule that of x_0 and x_{t−1} minus that of x_0 and x_t."""
    with_data = forward(t) * noised(t - 1) / noised(t)
    without = forward(t) * q(x(t - 1)) / q(x(t))
    yield Identity("Bayes' rule, twice", claim, log(with_data) - log(without))
    terms = log(posterior(t) / reverse(t)) - log(reversal(t) / reverse(t))
    rule = {posterior(t): with_data, reversal(t): without}
    yield Identity("the model cancels", terms.xreplace(rule), claim)
    yield Enumeration("on every path", lambda: path_cases(claim, log(posterior(t) / reversal(t)), 2))


SPLIT = (
    log(noised(T) / q(END))
    + over_steps(log(posterior(i) / reversal(i)), 2)
    - log(reversal(sp.Integer(1)))
)


@formula(
    "elbo.information_chain",
    title="where the entropy of the data goes: into x_T, into every step, and into x_0 given x_1",
    lhs=-log(q(DATA)),
    rhs=SPLIT,
    citations=("S004:6.1",),
    reference="refdiff.elbo:conditional_information",
    uses=("elbo.conditional_information", "elbo.vanilla", "elbo.three_terms"),
    decoys=(
        Decoy("end-missing", SPLIT - log(noised(T) / q(END)), "likelihood", "what x_T knows is left out"),
        Decoy(
            "start-missing", SPLIT + log(reversal(sp.Integer(1))), "likelihood",
            "what x_1 does not know is left out",
        ),
        Decoy(
            "first-step", SPLIT + log(reversal(sp.Integer(1))) - log(noised(sp.Integer(1))), "likelihood",
            "the entropy of the noise where that of x_0 given x_1 belongs",
        ),
    ),
)  # fmt: skip
def _information_chain(claim: sp.Expr) -> Iterator[Step]:
    """H(x_0) = I(x_0; x_T) + Σ I(x_0; x_{t−1}|x_t) + H(x_0|x_1): the steps telescope. So the bound
    given x_0 and the one without it are one number, and their terms differ by this split."""
    one = sp.Integer(1)
    first = {reversal(one): noised(one) * q(DATA) / q(x(1))}
    base = (claim.subs(ONE).doit().xreplace(first), -log(q(DATA)))
    step = log(posterior(T + 1) / reversal(T + 1))
    known = {log(noised(T + 1) / q(x(T + 1))): log(noised(T) / q(END)) - step}
    yield Induction("for every T", base, (claim.subs(NEXT).xreplace(known), KEPT), {KEPT: claim})
    yield Enumeration("on every path", lambda: path_cases(claim, -log(q(DATA))))


@formula(
    "elbo.best_reverse",
    title="the best model of a step is q(x_{t−1}|x_t), whether or not its term is given the data",
    lhs=log(posterior(t) / reverse(t)),
    rhs=log(posterior(t) / reversal(t)) + log(reversal(t) / reverse(t)),
    citations=("S004:§6/1", "S004:§6/2"),
    reference="refdiff.elbo:conditional_information",
    uses=("elbo.conditional_information", "elbo.jensen"),
    decoys=(
        Decoy(
            "posterior-is-reached", log(reversal(t) / reverse(t)), "likelihood",
            "the term given the data can be made 0, as if the model could follow q(x_{t−1}|x_t, x_0)",
            "S004:§6/2",
        ),
        Decoy(
            "information-subtracted", log(reversal(t) / reverse(t)) - log(posterior(t) / reversal(t)),
            "sign", "conditioning makes the term smaller",
        ),
    ),
)  # fmt: skip
def _best_reverse(claim: sp.Expr) -> Iterator[Step]:
    """Of the two means the first is free of the model, and the second is a divergence from q(x_{t−1}|
    x_t): zero there and positive elsewhere. So conditioning on x_0 makes the target tractable but does not
    change it. That q(x_{t−1}|x_t, x_0) is Gaussian for any step says nothing of q(x_{t−1}|x_t), which
    is what the model learns and which is Gaussian only for small steps."""
    yield Identity("the ratio split", claim, log(posterior(t) / reverse(t)))
    yield Enumeration("on every path", lambda: path_cases(claim, log(posterior(t) / reverse(t)), 2))
    best = claim.xreplace({reverse(t): reversal(t)})
    yield Enumeration("at the best model the information is left", lambda: path_cases(best, INFORMATION, 2))
