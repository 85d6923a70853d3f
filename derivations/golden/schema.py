"""The JSON schema of every golden file: nothing that it does not name may appear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from derivations.golden.case import FLAGS
from derivations.golden.schedules import PARAMETERS
from derivations.networks import NETWORKS

EXACT = r"^-?(0|[1-9][0-9]*)(/[1-9][0-9]*)?$"
DECIMAL = r"^(0|-?[1-9]\.[0-9]{39,}e-?[0-9]+)$"
SMALL = r"^(0|[1-9]\.[0-9]e-?[0-9]+)$"
HEX = r"^-?0x[01]\.[0-9a-f]+p[+-][0-9]+$"


def _object(properties: Mapping[str, Any], optional: Sequence[str] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        "properties": dict(properties),
        "required": required,
        "additionalProperties": False,
    }


def _text(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern}


def _list(items: Mapping[str, Any], least: int = 1) -> dict[str, Any]:
    return {"type": "array", "items": dict(items), "minItems": least}


def _settings(inside: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The settings of a network, or of one with another inside."""
    names = ("base", "width", "depth", "blocks", "heads", "groups", "in_channels", "out_channels", "dim")
    found: dict[str, Any] = {name: {"type": "integer", "minimum": 1} for name in (*names, "out_dim")}
    found |= {
        "embedding_dim": {"type": "integer", "minimum": 4},
        "classes": {"type": "integer", "minimum": 0},
        "multipliers": _list({"type": "integer", "minimum": 1}),
        "attention": _list({"type": "integer", "minimum": 0}, 0),
        "spacing": {"enum": ["half", "half_minus_one"]},
        "injection": {"enum": ["scale_shift", "shift"]},
        "skips": {"enum": ["add", "concatenate"]},
        "learned_variance": {"type": "boolean"},
    }
    if inside is not None:
        found |= {"body": {"enum": sorted(NETWORKS)}, "settings": dict(inside)}
    return _object(found, list(found))


def schema(scalars: Sequence[str], arrays: Sequence[str]) -> dict[str, Any]:
    """The schema; inputs may have these exact scalars, and these exact vectors and matrices."""
    exact, decimal, small = _text(EXACT), _text(DECIMAL), _text(SMALL)
    either = {"anyOf": [exact, decimal]}
    parameters = sorted({name for table in PARAMETERS.values() for name in table})
    schedule = _object(
        {
            "name": {"enum": sorted(PARAMETERS)},
            "T": {"type": "integer", "minimum": 1},
            "zero_terminal_snr": {"type": "boolean"},
            "parameters": _object(dict.fromkeys(parameters, exact), parameters),
        }
    )
    law = _object({"weights": _list(exact), "means": _list(_list(exact)), "covs": _list(_list(_list(exact)))})
    rows = _list(_list(_list(exact)))
    chain = _object({"data": _list(exact), "kernels": rows, "prior": _list(exact), "reverse": rows})
    level, count = {"type": "integer", "minimum": 0}, {"type": "integer", "minimum": 1}
    given: dict[str, Any] = dict.fromkeys(scalars, either)
    given |= {name: {"anyOf": [exact, _list(exact), _list(_list(exact))]} for name in arrays}
    given |= {
        "schedule": schedule,
        "t": level,
        "s": level,
        "levels": _list(level, 2),
        "law": law,
        "chain": chain,
        "x_T": _list(exact),
        "x_vector": _list(exact),
        "noises": _list(_list(exact)),
        "variance_kind": {"enum": ["beta", "beta_tilde"]},
        "network": {"enum": sorted(NETWORKS)},
        "settings": _settings(_settings()),
        "weights_seed": count,
        "sample_shape": _list(count),
        "embedding_dim": {"type": "integer", "minimum": 4},
        "spacing": {"enum": ["half", "half_minus_one"]},
        "batch": _list(_list(exact)),
        "times": _list(exact),
        "noise_levels": _list(exact),
        "labels": _list(level),
        "cotangents": _list(_list(exact)),
    }
    result = _object(
        {
            "name": _text("^[a-z][A-Za-z0-9_]*$"),
            "shape": _list({"type": "integer", "minimum": 1}, 0),
            "value": _list(decimal),
            "relative_radius": _text("^(0|5e-[0-9]+)$"),
            "float64": _list(_text(HEX)),
            "condition": small,
            "roundings": {"type": "integer", "minimum": 4},
            "tolerance": _object({"float64": small, "float32": small}, ("float32",)),
            "decoy": {"anyOf": [{"type": "null"}, _object({"id": {"type": "string"}, "distance": small})]},
        }
    )
    case = _object(
        {
            "id": _text("^[A-Za-z0-9_./-]+$"),
            "formula": _text("^[a-z_]+[.][A-Za-z0-9_]+$"),
            "flags": {**_list({"enum": sorted(FLAGS)}), "uniqueItems": True},
            "input": _object(given, list(given)),
            "output": _list(result),
        }
    )
    file = _object(
        {
            "topic": _text("^[a-z_]+$"),
            "name": _text("^[a-z_0-9]+$"),
            "title": {"type": "string"},
            "digits": {"type": "integer", "minimum": 40},
            "cases": _list(case),
        }
    )
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "refdiff golden file", **file}
