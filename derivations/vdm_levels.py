"""The powers of a level γ, and every pair of levels through two positive numbers: part of ``vdm``."""

from __future__ import annotations

import sympy as sp
from sympy import exp, log

from derivations.symbols import gamma, gamma_0, gamma_1, gamma_m, gamma_s, gamma_t

SIGNAL, NOISE = 1 / (1 + exp(gamma)), 1 / (1 + exp(-gamma))
"""Powers of signal and noise at γ: sigmoid(−γ) and sigmoid(γ)."""
W, RISE, MORE = (sp.Symbol(name, positive=True) for name in ("w", "u", "v"))


def rising(expr: sp.Expr) -> sp.Expr:
    """With e^γ_s = w < e^γ_m = w(1+u) < e^γ_t = w(1+u)(1+v); u alone where nothing lies between."""
    between = expr.has(gamma_m)
    table = {
        gamma_0: log(W),
        gamma_s: log(W),
        gamma_m: log(W * (1 + RISE)),
        gamma_t: log(W * (1 + RISE) * (1 + MORE)) if between else log(W * (1 + RISE)),
        gamma_1: log(W * (1 + RISE)) if expr.has(gamma_0) else log(W),
    }
    return expr.subs(table, simultaneous=True)


def rising_from(expr: sp.Expr, level: sp.Symbol) -> sp.Expr:
    """With e^γ = w at one level."""
    return expr.subs(level, log(W))
