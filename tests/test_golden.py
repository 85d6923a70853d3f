"""Golden files keep their promises, and every way of breaking one is noticed."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from derivations import golden as generator
from derivations.golden.case import FLAGS, Coverage, Margin, output, round_up, scientific
from derivations.golden.contents import FILES
from derivations.golden.inputs import exact, fits_float32
from derivations.golden.laws import ABAR, LINE, eps
from derivations.golden.nodes import node
from derivations.golden.schedules import Named, product_at, table
from derivations.kit.ball import certify, enclosure
from refdiff import golden

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
ROWS = golden.list_files()
NAMES = [(row["topic"], row["name"]) for row in ROWS]
ULP = {"float64": Fraction(1, 2**52), "float32": Fraction(1, 2**23)}


@pytest.fixture
def stored() -> dict[str, str]:
    """The text of every file, which `test_check_regenerates_every_byte` shows to be what is generated."""
    paths = [path for path in golden.root().rglob("*") if path.is_file()]
    return {path.relative_to(golden.root()).as_posix(): path.read_text() for path in paths}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(golden.root(), tmp_path / "golden"))


@pytest.fixture
def quick(stored: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the computation where the question is what happens to a file."""
    monkeypatch.setattr(generator, "generate", lambda progress=None, jobs=1: stored)


def content(topic: str, name: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((golden.root() / topic / f"{name}.json").read_text())
    return parsed


def outputs() -> list[tuple[str, golden.Output]]:
    return [
        (case.id, found)
        for topic, name in NAMES
        for case in golden.load(topic, name)
        for found in case.outputs
    ]


def validator() -> jsonschema_rs.Draft202012Validator:
    schema = json.loads((golden.root() / golden.SCHEMA).read_text())
    jsonschema_rs.meta.validate(schema)
    return jsonschema_rs.Draft202012Validator(schema)


def objects(schema: Any) -> list[dict[str, Any]]:
    """Every schema of an object inside a schema."""
    if isinstance(schema, list):
        return [found for entry in schema for found in objects(entry)]
    if not isinstance(schema, dict):
        return []
    here = [schema] if schema.get("type") == "object" else []
    return here + [found for entry in schema.values() for found in objects(entry)]


@pytest.mark.parametrize(("topic", "name"), NAMES)
def test_every_file_meets_the_schema(topic: str, name: str) -> None:
    validator().validate(content(topic, name))


def test_no_object_of_the_schema_admits_what_it_does_not_name() -> None:
    schema = json.loads((golden.root() / golden.SCHEMA).read_text())
    assert len(objects(schema)) >= 8
    assert all(entry["additionalProperties"] is False for entry in objects(schema))


@pytest.mark.parametrize(
    "place",
    [
        (),
        ("cases", 0),
        ("cases", 0, "input"),
        ("cases", 0, "output", 0),
        ("cases", 0, "output", 0, "tolerance"),
    ],
)
def test_the_schema_refuses_an_extra_property(place: tuple[str | int, ...]) -> None:
    whole = content("ddim", "coefficients")
    inner: Any = whole
    for step in place:
        inner = inner[step]
    inner["remark"] = "by hand"
    with pytest.raises(jsonschema_rs.ValidationError, match="remark"):
        validator().validate(whole)


@pytest.mark.parametrize(
    ("key", "value"), [("value", ["0.5"]), ("float64", ["nan"]), ("tolerance", {"float64": "1e-3"})]
)
def test_the_schema_refuses_values_of_another_form(key: str, value: Any) -> None:
    whole = content("ddim", "coefficients")
    whole["cases"][0]["output"][0][key] = value
    with pytest.raises(jsonschema_rs.ValidationError):
        validator().validate(whole)


def test_ids_are_unique_and_made_of_what_they_name() -> None:
    ids = [case.id for topic, name in NAMES for case in golden.load(topic, name)]
    assert len(set(ids)) == len(ids)
    for topic, name in NAMES:
        for case in golden.load(topic, name):
            assert case.id.startswith(f"{case.formula}/") and not case.id.rpartition("/")[2].isdigit()


def test_every_case_says_what_it_hunts_and_every_flag_hunts_somewhere() -> None:
    used = {flag for topic, name in NAMES for case in golden.load(topic, name) for flag in case.flags}
    assert all(case.flags for topic, name in NAMES for case in golden.load(topic, name))
    assert used == set(FLAGS)


def raw_outputs() -> list[tuple[str, dict[str, Any]]]:
    """Every output as it is stored, so that no bound is rounded in reading."""
    cases = [case for topic, name in NAMES for case in content(topic, name)["cases"]]
    return [(f"{case['id']} {found['name']}", found) for case in cases for found in case["output"]]


def test_every_tolerance_lies_between_four_ulp_and_half_the_nearest_decoy() -> None:
    for id, found in raw_outputs():
        for dtype, text in found["tolerance"].items():
            if all(value == "0" for value in found["value"]):
                assert text == "0", id
                continue
            assert Fraction(text) >= 4 * ULP[dtype], (id, dtype)
            if found["decoy"]:
                assert Fraction(text) < Fraction(found["decoy"]["distance"]) / 2, (id, dtype)


def test_every_tolerance_is_roundings_times_ulp_times_condition() -> None:
    for id, found in raw_outputs():
        for dtype, text in found["tolerance"].items():
            if text != "0":
                assert text == scientific(found["roundings"] * ULP[dtype] * Fraction(found["condition"])), id


def test_float32_is_left_out_only_where_it_cannot_hold() -> None:
    for id, found in raw_outputs():
        if "float32" not in found["tolerance"]:
            would = Fraction(scientific(found["roundings"] * ULP["float32"] * Fraction(found["condition"])))
            near = found["decoy"] and would >= Fraction(found["decoy"]["distance"]) / 2
            sizes = [abs(Fraction(value)) for value in found["value"] if value != "0"]
            assert near or min(sizes) < Fraction(1, 2**126), id


def test_every_file_has_float32_tolerances() -> None:
    for topic, name in NAMES:
        assert any(
            "float32" in found.tolerances for case in golden.load(topic, name) for found in case.outputs
        )


def test_a_tolerance_that_reaches_a_decoy_is_no_case() -> None:
    value = [certify(1)]
    near = Margin(Fraction(1000), 4, {"near": Fraction(1, 10**13)})
    with pytest.raises(generator.GoldenError, match="decoy 'near': move the case"):
        output("value", value, near)
    assert output("value", value, Margin(Fraction(1), 1, {"near": Fraction(1, 10**13)}))["roundings"] == 4


def test_values_have_forty_digits_and_the_nearest_double() -> None:
    for id, found in outputs():
        for value, nearest in zip(found.value, found.float64, strict=True):
            assert value == "0" or len(value.partition("e")[0].strip("-").replace(".", "")) >= 40, id
            assert float(Fraction(value)) == nearest, id
        assert Fraction(found.relative_radius) <= Fraction(5, 10**40), id


def test_a_decoy_that_no_case_separates_stops_the_generator() -> None:
    coverage = Coverage()
    coverage.add("ddim.step", [Margin(Fraction(1), 4, {"level-noise": None, "x_0-as-eps": Fraction(1)})])
    assert "level-noise" in coverage.missing("ddim.step")
    assert "x_0-as-eps" not in coverage.missing("ddim.step")
    with pytest.raises(generator.GoldenError, match="no case separates"):
        generator._check_coverage(coverage)


def test_named_inputs_are_exact_in_float32_where_they_are_given_as_numbers() -> None:
    assert fits_float32(Fraction(8191, 8192)) and not fits_float32(Fraction(1, 5))
    with pytest.raises(ValueError, match="1/5 is not a float32"):
        exact("bad", "1/5", "1", "interior")
    for topic, name in NAMES:
        for case in golden.load(topic, name):
            if "schedule" not in case.input and "abar_t" in case.input:
                assert fits_float32(Fraction(case.input["abar_t"])), case.id


def test_running_product_is_the_proved_product() -> None:
    right = table(Named("cosine", 10), 256)
    closed = node("schedule.alpha_bar_product").closed
    assert all(right.alpha_bar[t - 1].overlaps(product_at(right, closed, t)) for t in range(1, 11))


def test_the_prediction_from_the_density_is_the_proved_one() -> None:
    """The mixture that trajectories run on is differentiated from its density; on a line it has a node."""
    proved = node("data.mixture_eps").closed
    known = {
        **{f"weight_{k + 1}": weight for k, weight in enumerate(LINE.weights)},
        **{f"mode_{k + 1}": mean[0] for k, mean in enumerate(LINE.means)},
        **{f"mode_variance_{k + 1}": cov[0][0] for k, cov in enumerate(LINE.covs)},
        "abar_t": Fraction(3, 8),
        "x_t": Fraction(-5, 4),
    }
    values = {symbol: known[symbol.name] for symbol in proved.free_symbols}
    other = enclosure(eps(LINE)[0], {ABAR: Fraction(3, 8), LINE.x[0]: Fraction(-5, 4)})
    assert enclosure(proved, values).overlaps(other)


@given(number=st.fractions(min_value=Fraction(1, 10**30), max_value=10**30))
def test_bounds_are_rounded_outwards_to_two_digits(number: Fraction) -> None:
    low, high = Fraction(scientific(number, up=False)), Fraction(scientific(number))
    assert low <= number <= high
    assert high - low <= low / 10
    assert round_up(number) == high


def test_manifest_names_every_file_and_nothing_else() -> None:
    manifest = json.loads((golden.root() / golden.MANIFEST).read_text())
    stored = {
        path.relative_to(golden.root()).as_posix() for path in golden.root().rglob("*") if path.is_file()
    }
    assert set(manifest["files"]) == stored - {golden.MANIFEST}
    assert manifest["digits"] == 50 and manifest["generator"] == generator.VERSION
    assert {file.path for file in FILES} == set(manifest["files"]) - {golden.SCHEMA}


def test_the_whole_tree_stays_small() -> None:
    assert sum(row["bytes"] for row in ROWS) < 8_000_000


def test_check_regenerates_every_byte() -> None:
    """Every value, tolerance and separation of a decoy is computed anew from the proved formulas."""
    seen: list[str] = []

    def progress(work: Iterable[Any], label: str) -> Iterator[Any]:
        for file in work:
            seen.append(file.path)
            yield file

    result = golden.check(progress)
    assert result["summary"]["ok"], [entry for entry in result["results"] if entry["status"] == "fail"]
    assert seen == [file.path for file in FILES]
    assert result["summary"]["files"] == len(FILES) + 2
    assert result["summary"]["cases"] == sum(row["cases"] for row in ROWS)


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


def failures(where: Path) -> dict[str, str]:
    result = golden.check(where=where)
    assert not result["summary"]["ok"]
    return {entry["path"]: entry["detail"] for entry in result["results"] if entry["status"] == "fail"}


def with_hash(where: Path, path: str) -> None:
    """Someone who edits a file and mends the manifest too."""
    manifest = json.loads((where / golden.MANIFEST).read_text())
    raw = (where / path).read_bytes()
    manifest["files"][path]["sha256"] = generator.hashlib.sha256(raw).hexdigest()
    (where / golden.MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


FILE = "ddim/coefficients.json"


def test_check_notices_a_value_edited_by_hand(copy: Path, quick: None) -> None:
    whole = json.loads((copy / FILE).read_text())
    value = whole["cases"][3]["output"][0]["value"][0]
    changed = value.replace(value[5], "7" if value[5] != "7" else "8", 1)
    edit(copy / FILE, lambda text: text.replace(value, changed))
    with_hash(copy, FILE)
    found = failures(copy)
    assert "stored" in found[FILE] and "generated" in found[FILE] and "output[" in found[FILE]
    assert golden.MANIFEST in found


def test_check_notices_an_extra_property(copy: Path, quick: None) -> None:
    edit(copy / FILE, lambda text: text.replace('{"flags":', '{"comment":"trust me","flags":', 1))
    assert "unexpected property 'comment'" in failures(copy)[FILE]


def test_check_notices_a_wrong_hash(copy: Path, quick: None) -> None:
    sha = json.loads((copy / golden.MANIFEST).read_text())["files"][FILE]["sha256"]
    edit(copy / golden.MANIFEST, lambda text: text.replace(sha, "0" * 64))
    found = failures(copy)
    assert "sha256" in found[FILE] and "sha256" in found[golden.MANIFEST]
    with pytest.raises(ValueError, match="one of them was edited"):
        golden.load("ddim", "coefficients", copy)


def test_check_notices_a_corrupted_file(copy: Path, quick: None) -> None:
    edit(copy / FILE, lambda text: text[: len(text) // 2])
    assert "not readable as JSON" in failures(copy)[FILE]
    with pytest.raises(ValueError, match="sha256"):
        golden.load("ddim", "coefficients", copy)


def test_check_notices_white_space(copy: Path, quick: None) -> None:
    edit(copy / FILE, lambda text: text + "\n")
    assert "canonical" in failures(copy)[FILE]


def test_check_notices_missing_and_foreign_files(copy: Path, quick: None) -> None:
    (copy / FILE).unlink()
    (copy / "ddim" / "mine.json").write_text("{}")
    found = failures(copy)
    assert "missing" in found[FILE] and "remove it" in found["ddim/mine.json"]


@pytest.mark.parametrize("text", ['{"a":1,"a":2}', '{"a":NaN}', '{"a":Infinity}', "[1"])
def test_loose_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        golden._parse(text.encode())


def test_a_stored_case_cannot_be_accepted_anew(copy: Path, stored: dict[str, str], quick: None) -> None:
    """There is no switch: the generator adds cases and refuses to touch a stored one."""
    edit(copy / FILE, lambda text: text.replace('"roundings":', '"roundings":1', 1))
    with pytest.raises(generator.GoldenError, match="would change; a stored case is permanent"):
        generator.add(copy)
    whole = json.loads(stored[FILE])
    whole["cases"].append({**whole["cases"][0], "id": "ddim.step/gone"})
    (copy / FILE).write_text(json.dumps(whole))
    with pytest.raises(generator.GoldenError, match="would vanish"):
        generator.add(copy)


def test_the_reader_answers_for_one_output() -> None:
    case = next(iter(golden.load("ddim", "coefficients")))
    found = case.output("eps")
    assert found.error(found.float64) < 2**-53
    assert found.error([found.float64[0] * (1 + 1e-6)]) > found.tolerance("float64")
    assert found.error([float("nan")]) == float("inf")
    with pytest.raises(ValueError, match="dtype must be one of"):
        found.tolerance("float16")
    with pytest.raises(ValueError, match="got must have 1 numbers, got 2"):
        found.error([1.0, 2.0])
    with pytest.raises(ValueError, match="name must be one of"):
        case.output("epsilon")
    with pytest.raises(ValueError, match="file must be one of"):
        golden.load("ddim", "nothing")


def test_list_counts_what_is_stored() -> None:
    assert sum(row["cases"] for row in ROWS) == sum(len(file) for file in golden.files())
    assert {row["topic"] for row in ROWS} == {
        "schedule",
        "parameterization",
        "ddpm",
        "ddim",
        "gaussian",
        "data",
        "energy",
        "score_matching",
        "smld",
        "elbo",
        "vae",
        "vlb",
        "guidance",
        "sde",
        "ode",
        "flow",
        "consistency",
        "vdm",
        "solver",
        "embedding",
        "networks",
    }


def test_export_is_self_contained() -> None:
    whole = json.loads(golden.export("ddim", "json"))
    rows = list(csv.DictReader(io.StringIO(golden.export("ddim", "csv"))))
    values = [
        v for file in whole["files"] for case in file["cases"] for out in case["output"] for v in out["value"]
    ]
    assert [row["value"] for row in rows] == values
    assert set(whole["sha256"]) == {f"ddim/{file['name']}.json" for file in whole["files"]}
    with pytest.raises(ValueError, match="topic must be one of consistency, data, ddim"):
        golden.export("gan")
    with pytest.raises(ValueError, match="format must be json or csv"):
        golden.export("ddim", "pickle")


def tool(name: str) -> str:
    found = shutil.which(name)
    assert found, f"the consumers of the golden values are checked with {name}, which is not installed"
    return found


def spoiled(text: str) -> str:
    """The same export with the exponent of one value of DDIM's noise coefficient raised."""
    at = text.index("eta1_2")
    place = text.index("p-", at)
    return text[:place] + "p+" + text[place + 2 :]


def consume(command: list[str], path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("topic", ["ddim", "ddpm"])
def test_consumer_in_javascript(topic: str, tmp_path: Path) -> None:
    command = [tool("node"), str(EXAMPLES / "consume_golden.mjs")]
    path = tmp_path / "export.json"
    path.write_text(golden.export(topic, "json"))
    run = consume(command, path)
    assert run.returncode == 0 and " 0 wrong" in run.stdout, run.stdout + run.stderr
    if topic == "ddim":
        path.write_text(spoiled(golden.export(topic, "json")))
        assert consume(command, path).returncode == 1


@pytest.mark.parametrize("topic", ["ddim", "ddpm"])
def test_consumer_in_c(topic: str, tmp_path: Path) -> None:
    program = tmp_path / "consume"
    source = EXAMPLES / "consume_golden.c"
    flags = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off"]
    subprocess.run([tool("gcc"), *flags, str(source), "-o", str(program), "-lm"], check=True)
    path = tmp_path / "export.csv"
    path.write_text(golden.export(topic, "csv"))
    run = consume([str(program)], path)
    assert run.returncode == 0 and " 0 wrong" in run.stdout, run.stdout + run.stderr
    if topic == "ddim":
        path.write_text(spoiled(golden.export(topic, "csv")))
        assert consume([str(program)], path).returncode == 1


def test_consumers_refuse_a_file_without_cases(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_text(golden.export("gaussian", "json"))
    assert consume([tool("node"), str(EXAMPLES / "consume_golden.mjs")], path).returncode == 2
