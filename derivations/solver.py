"""Solvers of the probability-flow ODE and of the reverse SDE: steps, and the order that each has.

The equations in the log-SNR and their solutions are in ``solver_log_snr``, the weights that solve the order
conditions in ``solver_weights``, DPM-Solver and DPM-Solver++ in ``solver_exponential`` with their local
errors in ``solver_errors``, UniPC in ``solver_unipc`` and SDE variants in ``solver_sde``. The other modules
have the solvers in σ and in other variables.
"""

from __future__ import annotations

from derivations import (
    solver_edm,
    solver_errors,
    solver_exponential,
    solver_log_snr,
    solver_mirrored,
    solver_multistep,
    solver_runge_kutta,
    solver_sde,
    solver_sigma,
    solver_unipc,
    solver_weights,
)

PARTS = (
    *(
        solver_log_snr,
        solver_weights,
        solver_exponential,
        solver_mirrored,
        solver_errors,
        solver_unipc,
        solver_sde,
    ),
    *(solver_sigma, solver_edm, solver_multistep, solver_runge_kutta),
)
"""The modules of this topic; importing them declares their formulas."""
