"""The installed schedulers of diffusers: what agrees, what is another convention, and what is wrong."""

import pytest
import torch

from refdiff.oracle import Report, adapters, check


def reported(name: str, **options) -> Report:
    return check(adapters.load(f"diffusers:{name}", options))


@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler", "DDIMInverseScheduler"])
def test_the_defaults_agree_in_a_named_dialect_with_float32_tables(name: str):
    report = reported(name)
    assert report.ok, str(report)
    text = str(report)
    assert "index_origin=0" in text and "spacing='leading'" in text
    assert "clip_sample=False was set" in text
    named = [result for result in report.results if result.precision == "float32 tables"]
    assert sum(result.error is not None for result in named) >= 2


AGREES = [
    ("DDPMScheduler", {"variance_type": "fixed_small_log"}),
    ("DDPMScheduler", {"variance_type": "fixed_large"}),
    ("DDPMScheduler", {"variance_type": "learned_range"}),
    ("DDPMScheduler", {"prediction_type": "sample"}),
    ("DDPMScheduler", {"prediction_type": "v_prediction"}),
    ("DDPMScheduler", {"timestep_spacing": "linspace"}),
    ("DDPMScheduler", {"beta_schedule": "scaled_linear"}),
    ("DDPMScheduler", {"beta_schedule": "squaredcos_cap_v2"}),
    ("DDPMScheduler", {"beta_schedule": "sigmoid"}),
    ("DDPMScheduler", {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}),
    ("DDIMScheduler", {"prediction_type": "sample"}),
    ("DDIMScheduler", {"prediction_type": "v_prediction"}),
    ("DDIMScheduler", {"set_alpha_to_one": False}),
    ("DDIMScheduler", {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}),
    ("DDIMInverseScheduler", {"prediction_type": "v_prediction"}),
]


# a short chain with the same noise at its end, where nothing else is said
SHORT = {"num_train_timesteps": 100, "beta_start": 0.001, "beta_end": 0.2}


@pytest.mark.parametrize(("name", "options"), AGREES, ids=str)
def test_other_settings_agree(name: str, options: dict):
    report = reported(name, **SHORT | options)
    assert report.ok, str(report)


WRONG = [
    # the step takes the neighbour at distance T // n, whatever the list says
    ("DDIMScheduler", {"timestep_spacing": "linspace"}, "index", "taken by stride"),
    ("DDIMScheduler", {"timestep_spacing": "trailing"}, "index", "taken by stride"),
    # a logarithm is handed to a square root
    ("DDPMScheduler", {"variance_type": "fixed_large_log"}, "variance", "square root of a log-variance"),
    ("DDPMScheduler", {"variance_type": "learned"}, "variance", "log-variance channel"),
    # the last step of a chain that does not end at the first level adds noise
    (
        "DDPMScheduler",
        {"timestep_spacing": "trailing", "variance_type": "fixed_large"},
        "noise-at-t0",
        "noise",
    ),
    # an offset moves the first of T levels out of the table
    ("DDIMScheduler", {"steps_offset": 1}, "index", "of a table that ends at T"),
    # without signal at T, eps says nothing about data
    ("DDPMScheduler", {"rescale_betas_zero_snr": True}, "parameterization", "alpha_bar_T"),
    # with eta = 1 nothing is left under the root of the direction, and its rounding may be negative
    (
        "DDIMScheduler",
        {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
        "precision",
        "a rounding below 0",
    ),
    # the curve returns the scale where its square is wanted
    ("DDPMScheduler", {"beta_schedule": "laplace"}, "sqrt", "square root of alpha_bar"),
]


@pytest.mark.parametrize(("name", "options", "family", "words"), WRONG, ids=str)
def test_a_wrong_setting_is_failed_and_diagnosed(name: str, options: dict, family: str, words: str):
    report = reported(name, **SHORT | options)
    assert not report.ok
    assert family in report.families, str(report)
    assert any(words in str(result.diagnosis) for result in report.failures), str(report)


def test_linspace_is_diagnosed_with_the_settings_of_the_command_line():
    report = check(adapters.load("diffusers:DDIMScheduler", {"timestep_spacing": "linspace"}))
    assert "the previous level is taken by stride, not from the list" in str(report)


def test_trailing_has_one_timestep_too_many_for_some_counts():
    target = adapters.load("diffusers:DDIMScheduler", {"timestep_spacing": "trailing"})
    report = check(target, only="timesteps")
    assert report["timesteps.count"].status == "fail"
    assert "timesteps(61)" in str(report["timesteps.count"])


def test_an_unknown_option_is_named():
    with pytest.raises(ValueError, match=r"timestep_spacin.*did you mean timestep_spacing"):
        adapters.load("diffusers:DDIMScheduler", {"timestep_spacin": "linspace"})


def test_an_unknown_scheduler_or_library_is_named():
    with pytest.raises(ValueError, match="NoSuchScheduler"):
        adapters.load("diffusers:NoSuchScheduler", {})
    with pytest.raises(ValueError, match="nolibrary"):
        adapters.load("nolibrary:DDIMScheduler", {})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("none", None),
        ("3", 3),
        ("1e-4", 1e-4),
        ("leading", "leading"),
        ("[0.1, 0.2]", [0.1, 0.2]),
        ("0.1,0.2", [0.1, 0.2]),
    ],
)
def test_an_option_is_read_as_what_it_spells(text: str, value: object):
    assert adapters.value_of(text) == value


def test_the_adapter_calls_the_scheduler_itself(monkeypatch: pytest.MonkeyPatch):
    target = adapters.load("diffusers:DDPMScheduler", {})
    asked = []
    step = target.scheduler.step
    monkeypatch.setattr(target.scheduler, "step", lambda *args: asked.append(args[1]) or step(*args))
    x = torch.zeros(1, 1, 2, 2)
    target.ddpm_step(x, 7, x, x)
    assert asked == [7]
