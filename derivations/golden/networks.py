"""Whole networks on small inputs: outputs and gradients in balls, with bounds of the rounding errors.

A case gives settings, the seed of the weights (``derivations.networks.weight_values`` says how they follow),
a batch and what it is conditioned on. The outputs are the network's and the gradient, by the batch, of the
sum of its outputs times the cotangents. The condition is the largest first-order bound of an element's error,
in roundings, when network and gradient are computed as they are defined, with sums in any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb, ctx

from derivations.golden.case import (
    LEAST_ROUNDINGS,
    TABLE_DIGITS,
    Coverage,
    GoldenError,
    Margin,
    case,
    output,
    relative_distance,
    upper,
)
from derivations.golden.network_decoys import DECOYS, Wrong
from derivations.kit.ball import UndecidedError, certified
from derivations.networks import NETWORKS, Layers, Tape, Trace, array, ball, weight_values
from derivations.networks.scalars import Array, Number

BITS = (320, 640, 1280)
NO_GRADIENT = {"no-gradient": Fraction(1)}
MILLION = 10**6
LEAST_DISTANCE = Fraction(1, 10**6)
"""Below it a wrong network is taken for the right one, rounded."""
OUTPUTS = {"score": "score", "energy": "energy", "classifier": "logits", "vector_classifier": "logits"}


@dataclass(frozen=True)
class Run:
    """A network with a batch.

    Args:
        id: of the case.
        flags: what it hunts.
        network: its name.
        settings: its settings.
        seed: of its weights.
        shape: of one sample.
        times: level of each sample, or its noise level where ``by_sigma``.
        labels: of each sample, if the network takes any.
    """

    id: str
    flags: tuple[str, ...]
    network: str
    settings: Mapping[str, Any]
    seed: int
    shape: tuple[int, ...]
    times: tuple[str, ...]
    labels: tuple[int, ...] = ()
    cotangents: list[Fraction] = field(default_factory=list)

    @property
    def by_sigma(self) -> bool:
        return self.network in ("score", "energy")

    @property
    def formula(self) -> str:
        return f"networks.{self.network}"

    def sample(self, index: int) -> list[Fraction]:
        """The numbers of a sample: eighths between -2 and 2, which no symmetry relates."""
        size = int(np.prod(self.shape))
        return [Fraction((37 * (k + index * size) + 11 * self.seed) % 31 - 15, 8) for k in range(size)]

    def cotangent(self, index: int, size: int) -> list[Fraction]:
        """What the outputs of a sample are weighed with where the gradient is taken."""
        return [Fraction((29 * (k + index * size) + 5 * self.seed) % 13 - 6, 4) for k in range(size)]

    def weights(self, number: Number) -> dict[str, Array]:
        rule = weight_values(self.network, self.settings, self.seed)
        return {name: array([number(value) for value in values], shape) for name, shape, values in rule}

    def evaluate(
        self,
        layers: Layers,
        weights: Mapping[str, Array],
        x: Sequence[Any],
        index: int,
        wrong: Wrong | None = None,
    ) -> Array:
        """The network's answer for one sample, whose numbers are given."""
        time = layers.number(Fraction(self.times[index]))
        label = self.labels[index] if self.labels else None
        network = NETWORKS[self.network] if wrong is None or wrong.network is None else wrong.network
        data = np.array(x).reshape(self.shape) if layers.number is float else array(x, self.shape)
        return network(layers, self.settings, weights, data, time, label)

    def given(self, size: int) -> dict[str, Any]:
        """The JSON of the inputs."""
        batch = range(len(self.times))
        found: dict[str, Any] = {
            "network": self.network,
            "settings": self.settings,
            "weights_seed": self.seed,
            "sample_shape": list(self.shape),
            "batch": [[str(value) for value in self.sample(index)] for index in batch],
            "noise_levels" if self.by_sigma else "times": list(self.times),
            "cotangents": [[str(value) for value in self.cotangent(index, size)] for index in batch],
        }
        return found | ({"labels": list(self.labels)} if self.labels else {})


@dataclass
class Answers:
    """Outputs and gradient of a whole batch, flat."""

    output: list[Any] = field(default_factory=list)
    gradient: list[Any] = field(default_factory=list)
    shape: tuple[int, ...] = ()


def differentiated(run: Run, number: Number, index: int) -> Answers:
    """The outputs and the gradient of a sample in some kind of numbers, differentiated backwards."""
    tape = Tape()
    inputs = [tape.input(number(value)) for value in run.sample(index)]
    answer = run.evaluate(Layers(number), run.weights(number), inputs, index)
    weighed = answer.ravel() * array([number(c) for c in run.cotangent(index, answer.size)], (answer.size,))
    shape = () if run.network == "energy" else answer.shape
    return Answers([one.value for one in answer.ravel()], tape.gradient(weighed.sum(), inputs), shape)


def certain(run: Run, index: int) -> tuple[Answers, Answers]:
    """The values of a sample at a precision that decides every digit: printed, and as balls."""
    for bits in BITS:
        with ctx.workprec(bits):
            found = differentiated(run, ball, index)
            try:
                output, gradient = (
                    [certified(b, TABLE_DIGITS) for b in column] for column in (found.output, found.gradient)
                )
                return Answers(output, gradient, found.shape), found
            except UndecidedError:
                continue
    raise GoldenError(f"network {run.id}: {BITS[-1]} bits do not decide {TABLE_DIGITS} digits")


def conditions(run: Run, values: Answers, index: int) -> tuple[Fraction, Fraction]:
    """The largest number of relative roundings in an output of a sample, and in its gradient."""
    trace = Trace()
    found = differentiated(run, trace.number, index)
    errors = trace.errors([*found.output, *found.gradient])
    balls = [*values.output, *values.gradient]
    counts = [Fraction(error) / upper(b) for error, b in zip(errors, balls, strict=True)]
    return max(counts[: len(found.output)]), max(counts[len(found.output) :])


def distances(run: Run, values: Sequence[arb]) -> dict[str, Fraction | None]:
    """How far each wrong network's outputs are from the right ones: the element that shows it best.

    The wrong networks are evaluated in float64, and a millionth is taken off for their own roundings; two
    digits are stored, which the last bits of a machine's functions do not reach.
    """
    size = len(values) // len(run.times)
    weights = {name: value.astype(float) for name, value in run.weights(float).items()}
    batch = [[float(value) for value in run.sample(index)] for index in range(len(run.times))]
    found = {}
    for wrong in DECOYS:
        if not wrong.applies(run.network, run.settings):
            continue
        layers = wrong.layers(float)
        apart: list[Fraction] = []
        for index, x in enumerate(batch):
            answer = run.evaluate(layers, weights, x, index, wrong).ravel()
            pairs = zip(values[index * size :], answer, strict=False)
            apart += [far for a, b in pairs if (far := relative_distance(arb(a), arb(float(b)))) is not None]
        farthest = max(apart, default=Fraction(0)) * MILLION / (MILLION + 1)
        found[wrong.id] = farthest if farthest > LEAST_DISTANCE else None
    return found


def network_case(run: Run) -> dict[str, Any]:
    """The case of a network; each wrong network that could differ there must differ."""
    batch = range(len(run.times))
    printed, values = zip(*(certain(run, index) for index in batch), strict=True)
    limits = [conditions(run, values[index], index) for index in batch]
    far = distances(run, [ball for answers in values for ball in answers.output])
    same = [name for name, distance in far.items() if distance is None]
    if same:
        raise GoldenError(f"network {run.id}: the wrong networks {', '.join(same)} agree with the right one")
    condition, steepness = (max(column) for column in zip(*limits, strict=True))
    outputs = [
        output(
            OUTPUTS.get(run.network, "prediction"), [one for answers in printed for one in answers.output],
            Margin(condition, LEAST_ROUNDINGS, far), (len(batch), *values[0].shape),
        ),
        output(
            "gradient", [one for answers in printed for one in answers.gradient],
            Margin(steepness, LEAST_ROUNDINGS, NO_GRADIENT), (len(batch), *run.shape),
        ),
    ]  # fmt: skip
    given = run.given(len(values[0].output))
    return case(f"{run.formula}/{run.id}", run.formula, run.flags, given, outputs)


def network_cases(runs: Sequence[Run], coverage: Coverage) -> Iterator[dict[str, Any]]:
    """The cases of some networks."""
    for run in runs:
        yield network_case(run)


def unet(id: str, seed: int, shape: Sequence[int], times: str, **more: Any) -> Run:
    """A UNet with two channels at the finest level."""
    labels, flags = more.pop("labels", ()), more.pop("flags", ())
    common = {"in_channels": shape[0], "base": 2, "multipliers": [1, 2], "blocks": 1, "width": 6}
    settings = {**common, "embedding_dim": 4, "groups": 1, **more}
    flags = ("whole-network", *flags)
    return Run(id, flags, "unet", settings, seed, tuple(shape), tuple(times.split()), labels)


def mlp(id: str, seed: int, dim: int, times: str, **more: Any) -> Run:
    """An MLP of a few units."""
    labels, flags = more.pop("labels", ()), more.pop("flags", ())
    settings = {"dim": dim, "width": 6, "depth": 2, "embedding_dim": 4, **more}
    flags = ("whole-network", *flags)
    return Run(id, flags, "mlp", settings, seed, (dim,), tuple(times.split()), labels)


def around(name: str, run: Run) -> Run:
    """A score or an energy with the network of a run inside."""
    return replace(run, network=name, settings={"body": run.network, "settings": run.settings})


def classifier(id: str, seed: int, shape: Sequence[int], times: str, **more: Any) -> Run:
    """A classifier of three classes."""
    found = unet(id, seed, shape, times, **{"classes": 3, **more})
    return replace(found, network="classifier")


HEADS: Mapping[str, Any] = {"attention": [1], "heads": 2, "flags": ("attention-heads",)}
LABELS: Mapping[str, Any] = {"classes": 2, "labels": (0, 2, 1), "flags": ("labelled",)}
SCALED: Mapping[str, Any] = {"injection": "scale_shift"}
UNETS = (
    unet("shift-concatenate", 1, (1, 4, 6), "37/2 600"),
    unet("shift-add", 2, (1, 2, 4), "3 250", skips="add", spacing="half", **HEADS),
    unet("scale-shift-concatenate", 3, (1, 4, 6), "1/2 71", groups=2, **SCALED, **HEADS),
    unet("scale-shift-add", 4, (2, 2, 4), "12 999", skips="add", out_channels=1, **SCALED),
    unet("labelled", 5, (1, 2, 4), "20 20 5", learned_variance=True, **SCALED, **LABELS),
    unet("three-levels", 6, (1, 4, 8), "33 410", multipliers=[1, 2, 2], attention=[1, 2], spacing="half"),
    unet("three-levels-add", 7, (1, 8, 4), "-3/4 7", multipliers=[2, 1, 2], skips="add"),
    unet("two-blocks", 8, (1, 2, 4), "9 90", blocks=2, groups=2, **{**HEADS, "attention": [0, 1]}),
)
CLASSIFIERS = (
    classifier("shift", 11, (1, 4, 6), "5 300", attention=[1]),
    classifier("scale-shift", 12, (2, 4, 8), "1/4 44", multipliers=[1, 1, 2], classes=2, **SCALED),
    replace(mlp("plane", 13, 2, "7 140 900", classes=3, depth=1), network="vector_classifier"),
)
MLPS = (
    mlp("plane", 21, 2, "4 250 997"),
    mlp("labelled", 22, 3, "15 15 2", learned_variance=True, spacing="half", **LABELS),
    mlp("other-out", 23, 4, "1/8 -6", out_dim=2, depth=3, embedding_dim=6),
)
SCORES = (
    around("score", unet("image", 31, (1, 2, 4), "1/32 5", injection="scale_shift")),
    around("score", mlp("plane", 32, 2, "1/100 3/4 20")),
)
ENERGIES = (
    around("energy", unet("image", 41, (1, 2, 4), "3/8 10", skips="add", spacing="half")),
    around("energy", mlp("plane", 42, 2, "1/16 1 7")),
)
CONTENTS: Sequence[tuple[str, str, Sequence[Run]]] = (
    ("unet", "UNets on small images: predictions and gradients", UNETS),
    ("classifier", "classifiers of noised images: logits and gradients", CLASSIFIERS),
    ("mlp", "networks on vectors: predictions and gradients", MLPS),
    ("score", "scores by noise level: values and gradients", SCORES),
    ("energy", "energies by noise level: values and gradients, minus the scores", ENERGIES),
)
