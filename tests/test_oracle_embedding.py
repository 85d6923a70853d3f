"""The port of time embeddings: conventions pass and are named, mistakes are failed, diffusers agrees."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from refdiff.nets import embedding
from refdiff.oracle import Dialect, Report, Target, adapters, check
from tests.zoo.embeddings import EMBEDDING_CONVENTIONS, HOSTILE, RIGHT, Ho

DOCS = (Path(__file__).parent.parent / "docs" / "peers.md").read_text()
CHECKS = 5
TARGETS: dict[str, type[Target]] = {"ho": Ho, **EMBEDDING_CONVENTIONS}


def reported(target: Target) -> Report:
    return check(target, only="time_embedding")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("id", TARGETS)
def test_a_convention_is_never_a_failure(id: str, dtype: str) -> None:
    target = TARGETS[id]()
    target.dialect = target.dialect.but(dtype=dtype)
    report = check(target)
    assert report.ok, str(report)
    assert report.summary["pass"] == CHECKS


def declared(dialect: Dialect) -> dict[str, Any]:
    names = [one.name for one in fields(Dialect) if one.name.startswith("embedding_")]
    found = {name: getattr(dialect, name) for name in names}
    return {name: value for name, value in found.items() if value != getattr(Dialect(), name)}


@pytest.mark.parametrize("id", EMBEDDING_CONVENTIONS)
def test_an_undeclared_convention_is_a_finding_that_names_the_dialect(id: str) -> None:
    target = TARGETS[id]()
    whole = target.dialect
    for name in declared(whole):
        target.dialect = whole.but(**{name: getattr(Dialect(), name)})
        report = reported(target)
        named = [result.diagnosis.dialect for result in report.failures if result.diagnosis is not None]
        assert any(declared(one) == declared(whole) for one in named if one is not None), f"{name}: {report}"


def test_all_conventions_at_once_are_named() -> None:
    target = TARGETS["transformer-embedding"]()
    target.dialect = Dialect(embedding_order="cos_sin")
    found = reported(target)["time_embedding.value"].diagnosis
    assert found is not None and found.family == "convention" and found.dialect is not None
    assert declared(found.dialect) == {"embedding_spacing": "half", "embedding_layout": "interleaved"}


@pytest.mark.parametrize("spacing", ["half_minus_one", "half"])
@pytest.mark.parametrize("order", ["sin_cos", "cos_sin"])
@pytest.mark.parametrize("layout", ["concatenated", "interleaved"])
@pytest.mark.parametrize("period", [10000.0, 256.0])
def test_the_reference_passes(spacing: Any, order: Any, layout: Any, period: float) -> None:
    class Reference(Target):
        dialect = Dialect(
            embedding_spacing=spacing, embedding_order=order, embedding_layout=layout,
            embedding_period=period, tables="float64",
        )  # fmt: skip

        def time_embedding(self, t: Tensor, dim: int) -> Tensor:
            how = {"spacing": spacing, "order": order, "layout": layout, "period": period}
            return embedding.sinusoidal(t, dim, dtype=torch.float64, **how)

    report = reported(Reference())
    assert report.ok, str(report)


def test_float32_angles_are_named_where_float64_is_declared() -> None:
    target = TARGETS["guided-diffusion-embedding"]()
    assert reported(target)["time_embedding.value"].precision == "float32 tables"
    target.dialect = target.dialect.but(tables="float64")
    found = reported(target)["time_embedding.value"].diagnosis
    assert found is not None and "precision" in (found.family, *found.also)


@pytest.mark.parametrize("id", HOSTILE)
def test_a_hostile_target_yields_lines_that_say_what_is_wrong(id: str) -> None:
    method, says = HOSTILE[id]
    report = check(type(id, (Target,), {"time_embedding": method})())
    assert not report.ok
    assert says in str(report)


def test_a_known_mistake_names_where_it_was_seen() -> None:
    class Sines(Ho):
        def time_embedding(self, t: Tensor, dim: int) -> Tensor:
            low = self.frequencies(dim // 2) * 10000 ** (-1 / (dim // 2 - 1))
            return torch.cat([(t[:, None] * self.frequencies(dim // 2)).sin(), (t[:, None] * low).cos()], 1)

    report = reported(Sines())
    assert {result.id for result in report.failures} == {"time_embedding.value", "time_embedding.relative"}
    assert "decoy embedding.cosine/other-frequency" in str(report)
    assert "PapersReimplementations #9" in str(report)


def test_targets_with_one_level_at_a_time_are_not_asked() -> None:
    target = Ho()
    target.dialect = Dialect(batched_t=False)
    assert all(result.status == "skip" for result in reported(target).results)


TIMESTEPS, FUNCTION = "diffusers:Timesteps", "diffusers:get_timestep_embedding"
AGREES: list[tuple[str, dict[str, Any]]] = [
    (TIMESTEPS, {}),
    (TIMESTEPS, {"flip_sin_to_cos": False, "downscale_freq_shift": 1}),
    (TIMESTEPS, {"scale": 1000}),
    (FUNCTION, {}),
    (FUNCTION, {"flip_sin_to_cos": True, "downscale_freq_shift": 0}),
    (FUNCTION, {"max_period": 5000, "scale": 4.0}),
]


@pytest.mark.parametrize(("name", "options"), AGREES, ids=str)
def test_embeddings_of_diffusers_agree(name: str, options: dict[str, Any]) -> None:
    report = check(adapters.load(name, options))
    assert report.ok, str(report)
    assert report.summary["pass"] == CHECKS
    assert f"`{name}`" in DOCS


@pytest.mark.parametrize("name", [TIMESTEPS, FUNCTION])
def test_embeddings_of_diffusers_fail_under_another_dialect(name: str) -> None:
    target = adapters.load(name, {})
    whole = target.dialect
    for other in ({"embedding_order": "sin_cos" if whole.embedding_order == "cos_sin" else "cos_sin"},
                  {"embedding_spacing": "half_minus_one" if whole.embedding_spacing == "half" else "half"},
                  {"embedding_scale": 1000.0}, {"embedding_layout": "interleaved"}):  # fmt: skip
        target.dialect = whole.but(**other)
        found = reported(target)["time_embedding.value"]
        assert found.status == "fail" and found.diagnosis is not None and found.diagnosis.dialect is not None
        assert declared(found.diagnosis.dialect) == declared(whole)


def test_what_the_adapters_refuse() -> None:
    with pytest.raises(ValueError, match="downscale_freq_shift must be 0 or 1"):
        adapters.load(FUNCTION, {"downscale_freq_shift": 0.5})
    with pytest.raises(ValueError, match="num_channels"):
        adapters.load(TIMESTEPS, {"num_channels": 8})
    assert RIGHT.name == "ho-embedding"
