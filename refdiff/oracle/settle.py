"""After all checks: an undeclared convention is one that the whole target follows; in one port it is a
mistake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from refdiff.oracle.report import Diagnosis, Result
from refdiff.oracle.target import Dialect

_STEPS = ("ddpm_step", "ddim_step", "ddim_invert", "guided_mean")
# which ports show a convention
_SHOWN_BY = {
    "space": ("q_sample", "predict_x0", "predict_eps", "score", "q_posterior", *_STEPS),
    "parameterization": (*_STEPS, "loss", "sample"),
    "variance": ("ddpm_step", "guided_mean"),
    "alpha_bar_0": ("ddim_step", "ddim_invert"),
    "notation": ("betas", "alphas_cumprod"),
    "index_origin": ("q_sample", "predict_x0", "predict_eps", "velocity", "score", "q_posterior", *_STEPS),
    "langevin": ("langevin_step", "langevin_sample", "annealed_langevin_step", "annealed_langevin"),
    "temperature": ("langevin_step", "langevin_sample", "annealed_langevin_step", "annealed_langevin"),
    "cfg": ("cfg", "cfg_step"),
    "score_reduction": ("esm_loss", "ssm_loss", "dsm_loss", "smld_loss"),
    "likelihood": ("prior_kl", "vlb"),
}
# ports of continuous time that show which time is the target's, whatever the process is
_TIMED = (
    "marginal",
    "diffusion",
    "reverse_drift",
    "pf_ode_drift",
    "sde_step",
    "flow_path",
    "flow_velocity",
    "time_shift",
    "vdm_gamma",
    "model_time",
)
_SCORED = ("reverse_drift", "pf_ode_drift", "sde_step", "sde_sample", "flow_sde_drift", "score_loss")
_SHOWN_BY |= {
    "time_direction": _TIMED,
    "time_scale": _TIMED,
    "prediction": _SCORED,
    "predictor": ("sde_step", "sde_sample"),
    "last_step": ("sde_sample", "predictor_corrector"),
    "reverse_time": ("reverse_drift", "flow_sde_drift"),
}
_DECIDING = ("coefficients", "values", "value")


def settle(dialect: Dialect, results: Sequence[Result]) -> tuple[Result, ...]:
    """Results whose conventions are told from mistakes by what the other ports do."""
    settled = [_as_origin(dialect, result) for result in results]
    return tuple(_judged(dialect, result, settled) for result in settled)


def changed(dialect: Dialect, other: Dialect | None) -> tuple[str, ...]:
    """The conventions in which two dialects differ."""
    if other is None:
        return ()
    names = (field.name for field in fields(Dialect))
    return tuple(
        name for name in names if name != "schedule" and getattr(other, name) != getattr(dialect, name)
    )


def _as_origin(dialect: Dialect, result: Result) -> Result:
    """Levels off by one in both t and s may be another index origin."""
    found = result.diagnosis
    if found is None or found.family != "index" or found.dialect is not None:
        return result
    for shift, origin in (("+ 1", 0), ("- 1", 1)):
        if dialect.index_origin != origin and f"level t {shift} for t and s {shift} for s" in found.message:
            return replace(result, diagnosis=replace(found, dialect=dialect.but(index_origin=origin)))
    return result


def _judged(dialect: Dialect, result: Result, results: Sequence[Result]) -> Result:
    found = result.diagnosis
    names = changed(dialect, None if found is None else found.dialect)
    if found is None or len(names) != 1 or names[0] not in _SHOWN_BY:
        return result
    name = names[0]
    witnesses = [
        other
        for other in results
        if other.id.partition(".")[0] in _SHOWN_BY[name] and other.id.partition(".")[2] in _DECIDING
    ]
    witnesses = [other for other in witnesses if other.status in ("pass", "fail", "error")]
    against = [other for other in witnesses if other.status == "pass"]
    same = [other for other in witnesses if _says(other, dialect, name)]
    if against:
        return replace(result, diagnosis=_mistake(found, [other.id.partition(".")[0] for other in against]))
    if found.family == "index" and len(same) > 1:
        family = replace(found, family="convention", also=("index", *found.also))
        return replace(result, diagnosis=family)
    return result


def _says(result: Result, dialect: Dialect, name: str) -> bool:
    return result.diagnosis is not None and changed(dialect, result.diagnosis.dialect) == (name,)


def _mistake(found: Diagnosis, ports: list[str]) -> Diagnosis:
    if found.family != "convention":
        return replace(found, dialect=None)
    family = next((family for family in found.also if family != "convention"), "parameterization")
    message = f"{found.message}, while {', '.join(ports)} follow the declared convention"
    return replace(found, family=family, message=message, dialect=None, also=("convention", *found.also))
