"""Data by name: their shapes, ranges, statistics and labels, and the laws that they are drawn from."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from refdiff import datasets
from refdiff.datasets import DATASETS, Dataset, load

SHAPES = {
    "digits": (1797, (1, 8, 8), 10),
    "iris": (150, (4,), 3),
    "wine": (178, (13,), 3),
    "breast_cancer": (569, (30,), 2),
    "diabetes": (442, (10,), 0),
    "mixture": (1000, (2,), 3),
    "moons": (1000, (2,), 2),
    "swiss_roll": (1000, (2,), 0),
    "checkerboard": (1000, (2,), 0),
}


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_a_set_has_its_shape_its_classes_and_its_range(name: str) -> None:
    count, shape, classes = SHAPES[name]
    found = load(name, count=1000)
    assert (len(found), found.shape, found.classes) == (count, shape, classes)
    assert found.x.dtype == torch.float32 and bool(found.x.isfinite().all())
    if classes:
        assert found.labels is not None
        assert found.labels.dtype == torch.int64 and set(found.labels.tolist()) == set(range(classes))
    else:
        assert found.labels is None
    if found.low is not None and found.high is not None:
        assert found.low <= found.x.min() and found.x.max() <= found.high


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes", "moons", "swiss_roll"])
def test_a_standardised_set_has_mean_zero_and_variance_one(name: str) -> None:
    x = load(name, count=1000, dtype=torch.float64).x
    # a mean of N rounded numbers of size up to m is off by no more than m·N·eps
    slack = len(x) * x.abs().max().item() ** 2 * torch.finfo(torch.float64).eps
    assert float(x.mean(0).abs().max()) < slack
    assert float((x.var(0, correction=0) - 1).abs().max()) < slack


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_the_statistics_lead_back_to_what_was_measured(name: str) -> None:
    found = load(name, count=1000, dtype=torch.float64)
    again = (found.raw(found.x) - found.centre) / found.spread
    torch.testing.assert_close(again, found.x, rtol=0, atol=1e-13)


def test_digits_are_sixteenths_of_the_range_and_its_raw_values_whole_numbers() -> None:
    found = load("digits", dtype=torch.float64)
    grid = torch.arange(17, dtype=torch.float64) / 8 - 1
    assert found.bins == 17 and bool(torch.isin(found.x, grid).all())
    raw = found.raw(found.x)
    assert raw.min() == 0 and raw.max() == 16 and torch.equal(raw, raw.round())


def test_digits_are_those_of_scikit_learn() -> None:
    bundled = pytest.importorskip("sklearn.datasets").load_digits()
    found = load("digits", dtype=torch.float64)
    assert torch.equal(found.raw(found.x).squeeze(1), torch.tensor(bundled.images))
    assert found.labels is not None and found.labels.tolist() == bundled.target.tolist()


@pytest.mark.parametrize("name", ["mixture", "moons", "swiss_roll", "checkerboard"])
def test_a_seed_says_which_samples_and_the_global_generator_stays(name: str) -> None:
    before = torch.get_rng_state()
    first, again, other = (load(name, count=50, seed=seed).x for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["digits", "mixture"])
def test_train_and_test_are_apart_and_together_everything(name: str) -> None:
    whole, train, test = (load(name, count=100, part=part) for part in ("all", "train", "test"))
    assert len(train) + len(test) == len(whole) and torch.equal(test.x, whole.x[4::5])
    assert test.labels is not None and whole.labels is not None
    assert torch.equal(test.labels, whole.labels[4::5])


def test_the_mixture_has_its_weights_means_and_covariances() -> None:
    found = load("mixture", count=40000, dtype=torch.float64)
    law, labels = datasets.mixture_law(), found.labels
    assert found.law is not None and labels is not None
    for k in range(3):
        part = found.x[labels == k]
        weight, n = law.weights[k].item(), len(part)
        # five standard errors of a share, a mean and a covariance of normal samples
        assert abs(n / len(found) - weight) < 5 * math.sqrt(weight * (1 - weight) / len(found))
        spread = law.covs[k].diagonal()
        assert bool(((part.mean(0) - law.means[k]).abs() < 5 * (spread / n).sqrt()).all())
        error = 5 * torch.sqrt((spread[:, None] * spread + law.covs[k] ** 2) / n)
        assert bool(((part.T.cov() - law.covs[k]).abs() < error).all())


def on_board(x: Tensor) -> Tensor:
    return (x + 2).floor().sum(1) % 2 == 0


def test_the_checkerboard_fills_eight_cells_evenly() -> None:
    x = load("checkerboard", count=16000, dtype=torch.float64).x
    assert bool(on_board(x).all())
    counts = Counter(tuple(cell) for cell in (x + 2).floor().tolist())
    # five standard deviations of a binomial with n = 16000 and p = 1/8
    assert len(counts) == 8
    assert all(abs(count - 2000) < 5 * math.sqrt(16000 / 8 * 7 / 8) for count in counts.values())
    assert not bool(on_board(x + torch.tensor([1.0, 0.0])).any())


def test_moons_lie_on_their_half_circles() -> None:
    found = load("moons", count=5000, dtype=torch.float64)
    raw, labels = found.raw(found.x), found.labels
    assert labels is not None
    centre = torch.where((labels == 0)[:, None], torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.5])).double()
    away = (raw - centre).norm(dim=1)
    # the distance from the circle is that of noise of 0.1, six deviations at most
    assert float((away - 1).abs().max()) < 0.6
    swapped = (raw - centre.flip(0)).norm(dim=1)
    assert float((swapped - 1).abs().max()) > 0.6


def test_the_swiss_roll_lies_on_its_spiral() -> None:
    found = load("swiss_roll", count=5000, dtype=torch.float64)
    radius = found.raw(found.x).norm(dim=1)
    # θ from 3π/2 to 9π/2, and six deviations of noise of 0.5
    assert 1.5 * math.pi - 3 < radius.min() and radius.max() < 4.5 * math.pi + 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "mnist"}, "name must be one of digits, "),
        ({"name": "moons", "part": "half"}, "part must be one of all, train, test, got 'half'"),
        ({"name": "moons", "count": 0}, "count must be at least 1, got 0"),
        ({"name": "moons", "dtype": torch.int64}, "dtype must be a floating-point tensor"),
    ],
    ids=["name", "part", "count", "dtype"],
)
def test_a_wrong_argument_is_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(**arguments)  # type: ignore[arg-type]


def test_a_set_is_not_compared_by_value() -> None:
    found = load("moons", count=5)
    assert isinstance(found, Dataset) and found == found and found != load("moons", count=5)
