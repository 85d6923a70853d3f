"""Golden values: certified numbers of the proved formulas, never of the reference.

``generate`` computes every file; ``refdiff golden check`` compares the result with what is stored, bytewise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias

from derivations.golden.case import DIGITS, Coverage, GoldenError
from derivations.golden.contents import FILES, File, input_names
from derivations.golden.schema import schema

VERSION = "1"
MANIFEST, SCHEMA = "MANIFEST.json", "schema.json"
Progress: TypeAlias = Callable[[Iterable[File], str], Iterable[File]]

__all__ = ["DIGITS", "MANIFEST", "SCHEMA", "VERSION", "GoldenError", "add", "generate"]


def generate(progress: Progress | None = None, jobs: int = 1) -> dict[str, str]:
    """Every golden file, the schema and the manifest: path and text.

    Args:
        progress: called with the work and a label, gives the work back.
        jobs: processes that compute files.

    Raises:
        GoldenError: a case that cannot hold its promises, an id used twice, a decoy that no case separates.
    """
    coverage = Coverage()
    files = FILES if progress is None else progress(FILES, "computing golden values")
    built: dict[str, dict[str, Any]] = {}
    for file, (content, seen) in zip(files, _contents(jobs), strict=True):
        built[file.path] = content
        coverage.merge(seen)
    _check_ids(built)
    _check_coverage(coverage)
    texts = {path: _lines(content) for path, content in built.items()}
    texts[SCHEMA] = json.dumps(schema(*input_names()), indent=1, sort_keys=True) + "\n"
    texts[MANIFEST] = _manifest(texts, built)
    return texts


def add(root: Path) -> list[str]:
    """Write the files under `root`; a case that is stored already must come out the same.

    Returns:
        The paths that were written.

    Raises:
        GoldenError: a stored case would change or vanish.
    """
    texts = generate()
    for path, text in texts.items():
        if path not in (SCHEMA, MANIFEST) and (root / path).exists():
            _keep(path, json.loads((root / path).read_text("utf-8")), json.loads(text))
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, "utf-8")
    return sorted(texts)


def _keep(path: str, stored: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    fresh = {case["id"]: case for case in new["cases"]}
    for case in stored["cases"]:
        if fresh.get(case["id"]) != case:
            verb = "change" if case["id"] in fresh else "vanish"
            raise GoldenError(f"{path}: case {case['id']!r} would {verb}; a stored case is permanent")


def _contents(jobs: int) -> Iterator[tuple[dict[str, Any], Coverage]]:
    numbers = range(len(FILES))
    if min(jobs, len(numbers)) < 2:
        yield from map(_content, numbers)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_content, numbers)


def _content(number: int) -> tuple[dict[str, Any], Coverage]:
    """A file of the list, and which decoys its cases tell apart."""
    file, coverage = FILES[number], Coverage()
    content = {
        "topic": file.topic,
        "name": file.name,
        "title": file.title,
        "digits": file.digits,
        "cases": list(file.build(coverage)),
    }
    return content, coverage


def _check_ids(built: Mapping[str, Mapping[str, Any]]) -> None:
    seen: dict[str, str] = {}
    for path, content in built.items():
        for case in content["cases"]:
            if case["id"] in seen:
                raise GoldenError(f"id {case['id']!r} is in {seen[case['id']]} and in {path}")
            seen[case["id"]] = path


def _check_coverage(coverage: Coverage) -> None:
    for formula in sorted(coverage.separated):
        if missing := coverage.missing(formula):
            raise GoldenError(f"{formula}: no case separates the decoys {', '.join(missing)}")


def _lines(content: Mapping[str, Any]) -> str:
    """Canonical JSON, sorted and compact, one case a line."""
    cases = ",\n".join(_compact(case) for case in content["cases"])
    rest = _compact({key: value for key, value in content.items() if key != "cases"})
    return f'{{"cases":[\n{cases}\n],{rest[1:]}\n'


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _manifest(texts: Mapping[str, str], built: Mapping[str, Mapping[str, Any]]) -> str:
    files = {path: _entry(text, built.get(path)) for path, text in sorted(texts.items())}
    content = {"generator": VERSION, "digits": DIGITS, "files": files}
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def _entry(text: str, content: Mapping[str, Any] | None) -> dict[str, Any]:
    raw = text.encode("utf-8")
    entry: dict[str, Any] = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    if content is not None:
        outputs = [output for case in content["cases"] for output in case["output"]]
        entry |= {"cases": len(content["cases"]), "values": sum(len(output["value"]) for output in outputs)}
    return entry
