"""The probability-flow ODE in the hands of adaptive solvers that other libraries made."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from refdiff import _check
from refdiff._ode_steps import ScoreFn, drift
from refdiff.process import Process, Time

METHODS = {
    "scipy": ("RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA"),
    "torchdiffeq": ("dopri8", "dopri5", "bosh3", "fehlberg2", "adaptive_heun"),
}
"""The adaptive methods of scipy.integrate.solve_ivp and of torchdiffeq.odeint."""
Field = Callable[[Tensor, Tensor], Tensor]


def integrate(
    process: Process,
    score_fn: ScoreFn,
    x: Tensor,
    t: Time,
    s: Time,
    method: str = "scipy:RK45",
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Tensor:
    r"""The probability-flow ODE from time t to time s, by an adaptive solver.

    .. math:: x_s=x_t+\int_t^sv(x_u,u)\,\mathrm du

    The state is kept in float64, whatever the dtype of x, in which the score is asked. All samples share
    their steps, so within the tolerance a sample depends on its batch. Gradients pass through torchdiffeq and
    not through scipy.

    Args:
        process: the continuous process.
        score_fn: score of x and the time, a float64 tensor of shape ().
        x: state at time t, shape (B, *).
        t, s: times, floats or float64 of shape (); s below t samples, s above t encodes.
        method: "scipy:NAME" or "torchdiffeq:NAME", a name of ``METHODS``.
        rtol, atol: tolerances of a step, relative and absolute, above 0.

    Returns:
        The state at time s, shaped like x.

    Raises:
        ValueError: an unknown method, a tolerance not above 0, a time outside the process, or a score that
            differs from x in shape, dtype or device.
        ImportError: torchdiffeq is asked for and not installed.
        RuntimeError: the solver gave up.

    Reference: Song et al. 2021 (score SDE), section 4.3 (formula ``ode.drift``).
    """
    _check.floating("x", x)

    def field(state: Tensor, at: Tensor) -> Tensor:
        here = state.to(x.dtype).reshape(x.shape)
        return drift(process, here, at, score_fn(here, at)).double().flatten()

    state = solve(process, field, x.double().flatten(), t, s, method, rtol, atol)
    return state.to(x.dtype).reshape(x.shape)


def encode(
    process: Process,
    score_fn: ScoreFn,
    x_0: Tensor,
    start: float = 0.0,
    end: float | None = None,
    method: str = "scipy:RK45",
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Tensor:
    r"""The code of data: the state at the end of the process from which ``decode`` makes the data again.

    .. math:: x_T=x_0+\int_0^Tv(x_u,u)\,\mathrm du

    Args:
        process: the continuous process.
        score_fn: score of x and the time; it is asked at ``start``.
        x_0: data, shape (B, *).
        start, end: the times between which the ODE is solved; the end of the process if not given.
        method, rtol, atol: as in ``integrate``.

    Returns:
        x_T, shaped like x_0.

    Raises:
        ValueError, ImportError, RuntimeError: as in ``integrate``.

    Reference: Song et al. 2021 (score SDE), section 4.3 (formula ``ode.jacobian``).
    """
    end = process.end if end is None else end
    return integrate(process, score_fn, x_0, start, end, method, rtol, atol)


def decode(
    process: Process,
    score_fn: ScoreFn,
    x_T: Tensor,
    start: float = 0.0,
    end: float | None = None,
    method: str = "scipy:RK45",
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Tensor:
    r"""Data from a code: the ODE backwards in time.

    .. math:: x_0=x_T-\int_0^Tv(x_u,u)\,\mathrm du

    Args:
        process: the continuous process.
        score_fn: score of x and the time; it is asked at ``start``.
        x_T: the code, shape (B, *).
        start, end: the times between which the ODE is solved; the end of the process if not given.
        method, rtol, atol: as in ``integrate``.

    Returns:
        x_0, shaped like x_T.

    Raises:
        ValueError, ImportError, RuntimeError: as in ``integrate``.

    Reference: Song et al. 2021 (score SDE), section 4.3 (formula ``ode.jacobian``).
    """
    end = process.end if end is None else end
    return integrate(process, score_fn, x_T, end, start, method, rtol, atol)


def solve(
    process: Process, field: Field, state: Tensor, t: Time, s: Time, method: str, rtol: float, atol: float
) -> Tensor:
    """A float64 vector along a field, from time t to time s."""
    package, _, name = method.partition(":")
    if name not in METHODS.get(package, ()):
        known = ", ".join(f"{package}:{name}" for package, names in METHODS.items() for name in names)
        raise ValueError(f"method must be one of {known}, got {method!r}")
    for which, value in (("rtol", rtol), ("atol", atol)):
        _check.finite(which, value)
        if not value > 0:
            raise ValueError(f"{which} must be above 0, got {value}")
    first, last = (process.time(end).to(state.device) for end in (t, s))
    if first.dim() or last.dim():
        raise ValueError("t and s must have shape (): all samples share the steps of a solver")
    if bool(first == last):
        return state
    low, high = torch.minimum(first, last), torch.maximum(first, last)
    # a solver's t + h can leave the interval by a rounding, where the process has no values
    inside = lambda state, at: field(state, at.clamp(low, high))  # noqa: E731
    run = _scipy if package == "scipy" else _torchdiffeq
    return run(inside, state, first, last, name, rtol, atol)


def _scipy(field: Field, state: Tensor, t: Tensor, s: Tensor, name: str, rtol: float, atol: float) -> Tensor:
    solve_ivp = importlib.import_module("scipy.integrate").solve_ivp

    def velocity(at: float, z: Any) -> Any:
        here = torch.tensor(at, dtype=torch.float64, device=state.device)
        return field(torch.as_tensor(z, dtype=torch.float64, device=state.device), here).cpu().numpy()

    ends = (float(t), float(s))
    with torch.no_grad():
        found = solve_ivp(velocity, ends, state.detach().cpu().numpy(), name, rtol=rtol, atol=atol)
    if not found.success:
        raise RuntimeError(f"scipy:{name} gave up: {found.message}")
    return torch.as_tensor(found.y[:, -1].copy(), dtype=torch.float64, device=state.device)


def _torchdiffeq(
    field: Field, state: Tensor, t: Tensor, s: Tensor, name: str, rtol: float, atol: float
) -> Tensor:
    try:
        odeint = importlib.import_module("torchdiffeq").odeint
    except ImportError as error:
        message = f"method 'torchdiffeq:{name}' needs a package: pip install torchdiffeq"
        raise ImportError(message) from error
    velocity = lambda at, z: field(z, at)  # noqa: E731
    # it would step over the end and interpolate back, so the end is made one of its steps
    stop = {"step_t": s.reshape(1)}
    path = odeint(velocity, state, torch.stack([t, s]), rtol=rtol, atol=atol, method=name, options=stop)
    return path[-1]  # type: ignore[no-any-return]
