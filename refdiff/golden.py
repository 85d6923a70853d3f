"""Golden values: certified numbers to compare an implementation with, in any language.

Each case names the formula that it evaluates, its exact inputs, what it hunts (flags), and outputs that are
correctly rounded decimals with the nearest float64. The tolerance of an output is relative to its value, and
stays under half the distance to the nearest wrong formula. Nothing here computes a value: ``check`` lets
``derivations`` do that.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

MANIFEST, SCHEMA = "MANIFEST.json", "schema.json"
FORMAT = "refdiff-golden-1"
COLUMNS = (
    *("file", "id", "formula", "flags", "output", "index", "value", "relative_radius", "float64"),
    *("tolerance_float64", "tolerance_float32", "decoy", "inputs"),
)

Progress: TypeAlias = Callable[[Iterable[Any], str], Iterable[Any]]


@dataclass(frozen=True)
class Output:
    """Certified values of one quantity.

    Args:
        name: what it is, such as "value", or the symbol whose coefficient it is.
        shape: () for a number; the values are in row-major order.
        value: correctly rounded decimals.
        relative_radius: bound of the rounding, relative to each value.
        float64: the nearest doubles.
        condition, roundings: what the tolerance is derived from.
        tolerances: relative tolerance by dtype; float32 is absent where it could not tell the decoy apart.
        decoy: the nearest wrong formula and its relative distance, if there is one.
    """

    name: str
    shape: tuple[int, ...]
    value: tuple[str, ...]
    relative_radius: str
    float64: tuple[float, ...]
    condition: float
    roundings: int
    tolerances: Mapping[str, float]
    decoy: tuple[str, float] | None

    def tolerance(self, dtype: str = "float64") -> float:
        """The relative tolerance for a working precision.

        Raises:
            ValueError: this output has none for the dtype.
        """
        if dtype not in self.tolerances:
            known = ", ".join(self.tolerances)
            raise ValueError(f"dtype must be one of {known} for output {self.name!r}, got {dtype!r}")
        return self.tolerances[dtype]

    def error(self, got: Sequence[float]) -> float:
        """The largest relative error of numbers, in exact arithmetic; inf where a certified 0 is not met.

        Raises:
            ValueError: another number of numbers.
        """
        if len(got) != len(self.value):
            raise ValueError(f"got must have {len(self.value)} numbers, got {len(got)}")
        return max(_relative_error(number, text) for number, text in zip(got, self.value, strict=True))


@dataclass(frozen=True)
class Case:
    """One evaluation of a formula: permanent id, flags, exact inputs, outputs."""

    id: str
    formula: str
    flags: tuple[str, ...]
    input: Mapping[str, Any]
    outputs: tuple[Output, ...]

    def output(self, name: str) -> Output:
        """The output of this name."""
        found = [output for output in self.outputs if output.name == name]
        if not found:
            names = ", ".join(output.name for output in self.outputs)
            raise ValueError(f"name must be one of {names} in case {self.id!r}, got {name!r}")
        return found[0]


@dataclass(frozen=True)
class GoldenFile:
    """The cases of one file, in order."""

    topic: str
    name: str
    title: str
    digits: int
    cases: tuple[Case, ...]

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def __len__(self) -> int:
        return len(self.cases)


def root() -> Path:
    """The directory of the files: the installed package's, or a checkout's.

    Raises:
        FileNotFoundError: neither is there.
    """
    here = Path(__file__).resolve().parent
    places = (here / "_golden", here.parent / "golden")
    for place in places:
        if (place / MANIFEST).is_file():
            return place
    raise FileNotFoundError(f"no golden values: neither {places[0]} nor {places[1]} has {MANIFEST}")


def load(topic: str, name: str, where: Path | None = None) -> GoldenFile:
    """The cases of one file, after its sha256 was compared with the manifest.

    Args:
        topic, name: ``golden/<topic>/<name>.json``.
        where: directory of the files; ``root()`` if not given.

    Raises:
        ValueError: no such file, or a file that is not the one in the manifest.
    """
    return _file(_read(f"{topic}/{name}.json", where or root()))


def files(topic: str | None = None, where: Path | None = None) -> Iterator[GoldenFile]:
    """Every file, or those of one topic."""
    for row in list_files(where):
        if topic in (None, row["topic"]):
            yield load(row["topic"], row["name"], where)


def list_files(where: Path | None = None) -> list[dict[str, Any]]:
    """Topic, name, number of cases and values, size and sha256 of each file."""
    entries = _manifest(where or root())["files"]
    paths = sorted(path for path in entries if "/" in path)
    return [{"topic": path.split("/")[0], "name": Path(path).stem, **entries[path]} for path in paths]


def tolerance(output: Output, dtype: str = "float64") -> float:
    """The relative tolerance of an output for a working precision."""
    return output.tolerance(dtype)


def export(topic: str, format: str = "json", where: Path | None = None) -> str:
    """One self-contained file with every case of a topic.

    Args:
        topic: such as "ddim".
        format: "json", or "csv" with one line for each value.
        where: directory of the files; ``root()`` if not given.

    Raises:
        ValueError: an unknown topic or format.
    """
    place = where or root()
    paths = [f"{row['topic']}/{row['name']}.json" for row in list_files(place) if row["topic"] == topic]
    if not paths:
        topics = ", ".join(sorted({row["topic"] for row in list_files(place)}))
        raise ValueError(f"topic must be one of {topics}, got {topic!r}")
    if format not in ("json", "csv"):
        raise ValueError(f"format must be json or csv, got {format!r}")
    contents = {path: _read(path, place) for path in paths}
    return _as_json(topic, contents, place) if format == "json" else _as_csv(contents)


def check(progress: Progress | None = None, where: Path | None = None, jobs: int = 0) -> dict[str, Any]:
    """Generate every file from ``derivations`` and compare with what is stored, byte for byte.

    Args:
        progress: called with the work and a label, gives the work back.
        where: directory of the files; ``root()`` if not given.
        jobs: processes that compute them; 0 is one for each core.

    Returns:
        ``results``: path, status ("pass" or "fail") and detail of each file; ``summary``: ok and counts.
    """
    from derivations.golden import generate

    start = time.perf_counter()
    fresh = generate(progress, jobs or os.cpu_count() or 1)
    place = where or root()
    results = [_compare(path, fresh.get(path), place) for path in sorted({*fresh, *_stored(place)})]
    files = json.loads(fresh[MANIFEST])["files"].values()
    summary = {
        "ok": all(result["status"] == "pass" for result in results),
        "files": len(results),
        "failed": sum(result["status"] == "fail" for result in results),
        "cases": sum(entry.get("cases", 0) for entry in files),
        "values": sum(entry.get("values", 0) for entry in files),
        "bytes": sum(entry["bytes"] for entry in files),
        "seconds": round(time.perf_counter() - start, 1),
    }
    return {"summary": summary, "results": results}


def _compare(path: str, fresh: str | None, place: Path) -> dict[str, Any]:
    detail = _difference(path, fresh, place)
    return {"path": path, "status": "fail" if detail else "pass", "detail": detail}


def _difference(path: str, fresh: str | None, place: Path) -> str:
    if fresh is None:
        return "no such file is generated: remove it"
    if not (place / path).is_file():
        return "the file is missing"
    raw = (place / path).read_bytes()
    if raw != fresh.encode("utf-8"):
        return _first_difference(raw, fresh)
    return "" if path == MANIFEST else _hash_complaint(path, raw, place)


def _first_difference(raw: bytes, fresh: str) -> str:
    try:
        stored = _parse(raw)
    except ValueError as error:
        return f"not readable as JSON: {error}"
    same = "the same content in other bytes: not in canonical form"
    return next(_differences(stored, json.loads(fresh), ""), same)


def _differences(stored: Any, fresh: Any, path: str) -> Iterator[str]:
    """Where two JSON values differ, as sentences that name the place."""
    if isinstance(stored, dict) and isinstance(fresh, dict):
        for key in stored.keys() - fresh.keys():
            yield f"{path or 'file'}: unexpected property {key!r}"
        for key in sorted(fresh):
            if key not in stored:
                yield f"{path or 'file'}: property {key!r} is missing"
            else:
                yield from _differences(stored[key], fresh[key], f"{path}.{key}".lstrip("."))
    elif isinstance(stored, list) and isinstance(fresh, list):
        for k, (a, b) in enumerate(zip(stored, fresh, strict=False)):
            yield from _differences(a, b, f"{path}[{_label(b, k)}]")
        if len(stored) != len(fresh):
            yield f"{path}: {len(stored)} entries stored, {len(fresh)} generated"
    elif stored != fresh or type(stored) is not type(fresh):
        yield f"{path}: stored {stored!r}, generated {fresh!r}"


def _label(entry: Any, index: int) -> str:
    if isinstance(entry, dict):
        return str(entry.get("id", entry.get("name", index)))
    return str(index)


def _stored(place: Path) -> set[str]:
    return {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}


def _manifest(place: Path) -> dict[str, Any]:
    return _object(_parse((place / MANIFEST).read_bytes()), MANIFEST)


def _read(path: str, place: Path) -> dict[str, Any]:
    known = _manifest(place)["files"]
    if path not in known:
        raise ValueError(f"file must be one of {', '.join(sorted(known))}, got {path!r}")
    raw = (place / path).read_bytes()
    if complaint := _hash_complaint(path, raw, place):
        raise ValueError(f"{path}: {complaint}")
    return _object(_parse(raw), path)


def _hash_complaint(path: str, raw: bytes, place: Path) -> str:
    try:
        wanted = _manifest(place)["files"][path]["sha256"]
    except (ValueError, KeyError, TypeError, FileNotFoundError):
        return f"{MANIFEST} has no sha256 for it"
    found = hashlib.sha256(raw).hexdigest()
    if found == wanted:
        return ""
    return f"its sha256 is {found}, {MANIFEST} says {wanted}: one of them was edited"


def _parse(raw: bytes) -> Any:
    """JSON without NaN, without Infinity and without a key twice."""
    return json.loads(raw.decode("utf-8"), parse_constant=_refuse, object_pairs_hook=_unique)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError(f"a key twice among {[key for key, _ in pairs]}")
    return table


def _object(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold an object, got {type(value).__name__}")
    return value


def _file(content: Mapping[str, Any]) -> GoldenFile:
    cases = tuple(_case(case) for case in content["cases"])
    return GoldenFile(content["topic"], content["name"], content["title"], content["digits"], cases)


def _case(case: Mapping[str, Any]) -> Case:
    outputs = tuple(_output(output) for output in case["output"])
    return Case(case["id"], case["formula"], tuple(case["flags"]), case["input"], outputs)


def _output(output: Mapping[str, Any]) -> Output:
    decoy = output["decoy"]
    return Output(
        name=output["name"],
        shape=tuple(output["shape"]),
        value=tuple(output["value"]),
        relative_radius=output["relative_radius"],
        float64=tuple(float.fromhex(number) for number in output["float64"]),
        condition=float(output["condition"]),
        roundings=output["roundings"],
        tolerances={dtype: float(number) for dtype, number in output["tolerance"].items()},
        decoy=None if decoy is None else (decoy["id"], float(decoy["distance"])),
    )


def _relative_error(got: float, value: str) -> float:
    if got != got or got in (float("inf"), float("-inf")):
        return float("inf")
    wanted = Fraction(value)
    if wanted == 0:
        return 0.0 if got == 0 else float("inf")
    return float(abs(Fraction(got) - wanted) / abs(wanted))


def _as_json(topic: str, contents: Mapping[str, Any], place: Path) -> str:
    manifest = _manifest(place)
    whole = {
        "format": FORMAT,
        "topic": topic,
        "generator": manifest["generator"],
        "digits": manifest["digits"],
        "sha256": {path: manifest["files"][path]["sha256"] for path in contents},
        "files": list(contents.values()),
    }
    return json.dumps(whole, separators=(",", ":")) + "\n"


def _as_csv(contents: Mapping[str, Any]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for path, content in contents.items():
        for case in content["cases"]:
            for output in case["output"]:
                writer.writerows(_rows(path, case, output))
    return text.getvalue()


def _rows(path: str, case: Mapping[str, Any], output: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    inputs = ";".join(_flat("", case["input"]))
    decoy = output["decoy"]["id"] if output["decoy"] else ""
    limits = (output["tolerance"]["float64"], output["tolerance"].get("float32", ""), decoy)
    for index, (value, nearest) in enumerate(zip(output["value"], output["float64"], strict=True)):
        head = (path, case["id"], case["formula"], " ".join(case["flags"]), output["name"], index)
        yield (*head, value, output["relative_radius"], nearest, *limits, inputs)


def _flat(name: str, value: Any) -> Iterator[str]:
    """name=value for every leaf; names are joined by dots, entries of lists are separated by spaces."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _flat(f"{name}.{key}".lstrip("."), entry)
    elif isinstance(value, list) and any(isinstance(entry, list) for entry in value):
        for index, entry in enumerate(value):
            yield from _flat(f"{name}.{index}", entry)
    else:
        yield f"{name}={' '.join(map(str, value)) if isinstance(value, list) else value}"
