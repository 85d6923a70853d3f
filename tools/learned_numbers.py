"""Write docs/learned.md and its figures: trained networks against exact ones, or say what is stale.

    python -m tools.learned_numbers                  write the page and the figure from docs/learned.json
    python -m tools.learned_numbers --check          exit status 1 when one is stale
    python -m tools.learned_numbers --measure FILE   measure anew, with the checkpoint of a noised classifier
    python -m tools.learned_numbers --ship FILE NAME keep a checkpoint's average as refdiff/checkpoints/NAME

Measuring takes some minutes, and its last digits depend on the machine; the page follows from what was kept.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from refdiff import checkpoint, datasets, evaluate, pictures, shipped
from refdiff.checkpoint import Checkpoint
from refdiff.evaluate import Estimate
from refdiff.generate import Ask, Options, generate
from refdiff.objective import OnSchedule, make
from tools.ode_numbers import HEIGHT, HIGH, LEFT, TOP, WIDE, WIDTH, _axes, _legend, _line, _scale, table

DOCS = Path(__file__).resolve().parents[1] / "docs"
NUMBERS, PAGE = DOCS / "learned.json", DOCS / "learned.md"
FIGURE, PICTURE = DOCS / "learned_exact.svg", DOCS / "learned_digits.png"
SAMPLERS = {
    "ddpm": Options(steps=50),
    "ddim": Options(steps=50),
    "dpmpp_2m": Options(steps=20, spacing="karras"),
    "heun": Options(steps=20, spacing="karras"),
}
PARTS: tuple[datasets.Part, ...] = ("train", "test")
SCALES = (0.0, 0.5, 1.0, 2.0, 4.0)
TRIPS = (10, 20, 50, 100, 200)
BANDWIDTHS = (0.25, 0.5, 1.0)
ALPHA, COUNT = 0.05, 2000
Numbers = dict[str, Any]


def kept(estimate: Estimate) -> list[float]:
    """An estimate to few digits."""
    return [float(f"{estimate.value:.5g}"), float(f"{estimate.error:.2g}")]


def by_level(saved: Checkpoint, data: datasets.Dataset, count: int, levels: int) -> list[Numbers]:
    """Loss, least loss and excess of a network without labels, over σ in equal ratios."""
    goal, law = objective(saved), evaluate.law_of(data)
    model, generator = Ask(saved.net(), goal, saved.header.classes), torch.Generator().manual_seed(0)
    chosen = [(1.0, float(std)) for std in goal.levels(levels, "geometric").std[:-1]]
    rows = evaluate.excess_by_level(model, law, chosen, count, generator, shape=saved.header.shape)
    found = []
    for row in rows:
        least = evaluate.least(law, 1.0, row.std, count, generator)
        numbers = {"loss": kept(row.loss), "least": kept(least), "excess": kept(row.excess)}
        found.append({"sigma": float(f"{row.std:.4g}"), **numbers})
    return found


def by_sampler(saved: Checkpoint, data: datasets.Dataset) -> list[Numbers]:
    """Samples of the learned network, and of the perfect one a second time, against those of the perfect."""
    goal, law, rows = objective(saved), evaluate.law_of(data), []
    for name, options in SAMPLERS.items():
        shape = saved.header.shape
        exact, again = (
            evaluate.perfect_samples(goal, law, name, options, shape, COUNT, seed) for seed in (1, 2)
        )
        learned = generate(saved, name, options, count=COUNT, seed=3).x
        row: Numbers = {"sampler": name, "steps": options.steps, "spacing": options.spacing}
        for kind, x in (("learned", learned), ("perfect", again)):
            generator = torch.Generator().manual_seed(0)
            test = evaluate.permutation_test(x, exact, BANDWIDTHS, generator, ALPHA, 499)
            row[kind] = kept(evaluate.mmd_squared(x, exact, BANDWIDTHS))
            row[f"{kind}_p"] = test.p_value
        rows.append(row)
    return rows


def guided(saved: Checkpoint, classifier: Checkpoint, judge: evaluate.Judge, each: int) -> list[Numbers]:
    """The share of samples that the judge finds to be what was asked for, by the scale of guidance."""
    label, rows = [k for k in range(10) for _ in range(each)], []
    for scale in SCALES:
        given: Numbers = {"count": len(label), "label": label, "scale": scale, "seed": 0}
        row: Numbers = {"scale": scale}
        for kind, by in (("classifier", classifier), ("classifier_free", None)):
            x = generate(saved, "ddim", Options(steps=25), classifier=by, **given).x
            row[kind] = kept(judge.agreement(x, torch.tensor(label)))
        rows.append(row)
    return rows


def objective(saved: Checkpoint) -> OnSchedule:
    goal = make(saved.header.objective, saved.header.objective_settings)
    assert isinstance(goal, OnSchedule)
    return goal


def measured(classifier: Checkpoint) -> Numbers:
    """All that the page says, from the shipped checkpoints; the picture of digits is written too."""
    mixture, digits = (checkpoint.load(shipped.find(name)) for name in ("mixture", "digits"))
    points = datasets.load("mixture")
    train, test = (datasets.load("digits", part=part) for part in PARTS)
    goal, judge = objective(digits), evaluate.Judge(train)
    model = Ask(digits.net(), goal, digits.header.classes).of_chain(goal.table)
    assert test.labels is not None and test.bins is not None
    numbers: Numbers = {
        "mixture": {"levels": by_level(mixture, points, 4000, 14), "samplers": by_sampler(mixture, points)},
        "judge": kept(judge.agreement(test.x, test.labels)),
    }
    say("mixture")
    numbers["digits"] = {"levels": by_level(digits, train, 200, 10)}
    say("digits by level")
    numbers["digits"]["guided"] = guided(digits, classifier, judge, 10)
    say("guided")
    trips = [evaluate.round_trip(model, goal.table, test.x[:16], goal.chain(n)[1]) for n in TRIPS]
    numbers["digits"]["trips"] = [kept(evaluate.mean_of(error)) for error in trips]
    say("round trips")
    x_0, generator = test.x[:32], torch.Generator().manual_seed(0)
    bound, terms = evaluate.bound_in_bits(model, goal.table, x_0, generator, test.bins)
    parts = (terms.prior, terms.steps.sum(1), terms.decoder)
    bits = [kept(evaluate.mean_of(part / (64 * math.log(2)))) for part in parts]
    numbers["digits"]["bits"] = {"held_out": len(x_0), "bound": kept(bound), "parts": bits}
    label = [k % 10 for k in range(60)]
    x = generate(digits, "ddim", Options(steps=50), count=60, label=label, scale=1.5, seed=0).x
    pictures.grid(x, PICTURE, columns=10)
    numbers["points"] = clouds(mixture, points)
    return numbers


def clouds(saved: Checkpoint, data: datasets.Dataset) -> Numbers:
    """Samples of the learned network, by a solver, and of the exact law."""
    learned = generate(saved, "dpmpp_2m", SAMPLERS["dpmpp_2m"], count=400, seed=3).x
    exact = evaluate.draw(evaluate.law_of(data), 400, torch.Generator().manual_seed(1))
    found = {"learned": learned, "exact": exact}
    return {kind: [[round(float(v), 2) for v in row] for row in x] for kind, x in found.items()}


def say(what: str) -> None:
    print(f"measured: {what}", file=sys.stderr, flush=True)


def number(pair: Sequence[float]) -> str:
    if 0 < abs(pair[0]) < 1e-12:
        return "< 1e-12"
    return f"{pair[0]:.3g} ± {pair[1]:.1g}" if pair[1] > 1e-6 * abs(pair[0]) else f"{pair[0]:.3g}"


def level_table(rows: Iterable[Numbers]) -> str:
    cells = [[f"{r['sigma']:.3g}", *(number(r[name]) for name in ("loss", "least", "excess"))] for r in rows]
    return table(("σ", "loss", "least loss", "excess"), cells)


def sampler_table(rows: Iterable[Numbers]) -> str:
    def cells(row: Numbers, kind: str) -> list[str]:
        return [f"{row[kind][0]:.2g}", f"{row[f'{kind}_p']:.3g}"]

    named = ("sampler", "steps", "spacing")
    body = [[*(str(r[k]) for k in named), *cells(r, "learned"), *cells(r, "perfect")] for r in rows]
    return table((*named, "MMD² of the learned", "p", "MMD² of the perfect again", "p"), body)


def verdict(rows: Iterable[Numbers]) -> str:
    """What the family of tests says."""
    for kind in ("learned", "perfect"):
        p_values = {row["sampler"]: row[f"{kind}_p"] for row in rows}
        found = [name for name, rejected in evaluate.holm(p_values, ALPHA).items() if rejected]
        if kind == "learned":
            learned = f"tells the learned network from the perfect one for {', '.join(found) or 'no sampler'}"
    return f"{learned}, and the perfect one from itself for {', '.join(found) or 'no sampler'}"


def page(numbers: Numbers) -> str:
    """The text of docs/learned.md."""
    mixture, digits = numbers["mixture"], numbers["digits"]
    bits, parts = digits["bits"], [number(part) for part in digits["bits"]["parts"]]
    kinds = ("classifier", "classifier_free")
    guide = [[f"{r['scale']:g}", *(number(r[kind]) for kind in kinds)] for r in digits["guided"]]
    errors = [pair[0] for pair in digits["trips"]]
    orders = ["", *(f"{order:.2f}" for order in evaluate.observed_order(TRIPS, errors))]
    trips = [[str(n), number(pair), k] for n, pair, k in zip(TRIPS, digits["trips"], orders, strict=True)]
    return f"""# Learned against exact

Written by `python -m tools.learned_numbers` from `docs/learned.json`; the checkpoints are
`refdiff/checkpoints/mixture.safetensors` and `refdiff/checkpoints/digits.safetensors`, which
`refdiff evaluate --checkpoint mixture` and `--checkpoint digits` find by name.

The loss of a network is the least loss, which no network can learn, plus the excess, its mean squared
distance from the perfect prediction (formula `flow.loss_split`; for Gaussian data
`ddpm.loss_simple_minimum`). Both are means over the dimensions, for the noise, at x = x_0 + σ·ε.

```sh
{COMMANDS["mixture"]}
{COMMANDS["digits"]}
{COMMANDS["classifier"]}
{COMMANDS["ship"]}
python -m tools.learned_numbers --measure runs/classifier/model.safetensors
```

## A mixture in the plane

![Loss and samples of the learned network against the exact ones](learned_exact.svg)

The least loss is a quadrature, the rest 4000 samples a level:

{level_table(mixture["levels"])}

Samples of the learned network against samples that the same sampler makes with the perfect one,
{COUNT} of each, by the unbiased squared MMD (Gaussian kernels of widths ¼, ½ and 1) and 499 permutations.
With Holm's bound for a rate of false alarms of {ALPHA:.0%} in the family, the test
{verdict(mixture["samplers"])}:

{sampler_table(mixture["samplers"])}

What such a test can see is stated with it: `evaluate.sample_size` gives the number of samples that a given
mistake needs, and `tests/test_evaluate.py` holds it to three mistakes of samplers.

## Digits

![Digits that the shipped network made, asked for by column](learned_digits.png)

60 samples of DDIM in 50 steps, asked for by column, with guidance 1.5 between the network's two predictions.

The excess of the network without labels over the law of its 1438 training images. That law is no goal: the
network that had no excess would give the training images back.

{level_table(digits["levels"])}

**Asked and given.** The share of 100 samples (DDIM, 25 steps) that a support vector classifier of clean
images finds to be of the class that was asked for; it agrees with {number(numbers["judge"])} of the labels of
held-out images. The scale 0 is the control, without guidance; 1 is Bayes' rule.

{table(("scale", "by a classifier of noised images", "classifier-free"), guide)}

**Bound.** {number(bits["bound"])} bits/dim on {bits["held_out"]} held-out images, whose pixels take 17 values
(log₂ 17 = {math.log2(17):.3g}): prior {parts[0]}, steps {parts[1]}, decoder {parts[2]}.

**Round trips.** DDIM inversion and DDIM back, root mean square error in the unit of the data, 16 held-out
images, and the order that neighbours show:

{table(("steps", "error", "order"), trips)}
{training(numbers)}"""


def training(numbers: Numbers) -> str:
    """What training took, where that was measured."""
    if "training" not in numbers:
        return ""
    rows = [[str(r["step"]), f"{r['seconds']:.0f}", number(r["excess"])] for r in numbers["training"]]
    return f"""
**Training.** The excess of the moving average, a mean over levels equally far apart in t, by step; seconds of
one core (`benchmarks/learned.py` measures its beginning):

{table(("step", "seconds", "excess"), rows)}
"""


COMMANDS = {
    "mixture": "refdiff train --data mixture --steps 3000 --batch 128 --rate 3e-3 --decay cosine \\\n"
    "    --ema 0.99 --net width=64 --net depth=2 --net embedding_dim=32 --out runs/mixture",
    "digits": "refdiff train --data digits --part train --conditional --option label_drop=0.2 \\\n"
    "    --steps 3000 --batch 128 --rate 2e-3 --decay cosine --ema 0.999 \\\n"
    "    --net base=16 --net injection=scale_shift --out runs/digits",
    "classifier": "refdiff train --model classifier --data digits --part train --steps 1000 --batch 64 \\\n"
    "    --rate 2e-3 --decay cosine --ema 0.99 --net base=16 --out runs/classifier",
    "ship": "python -m tools.learned_numbers --ship runs/mixture/model.safetensors mixture\n"
    "python -m tools.learned_numbers --ship runs/digits/model.safetensors digits",
}


def figure(numbers: Numbers) -> str:
    """The SVG: loss, least loss and excess of the mixture by level, and samples of both."""
    style = (
        "<style>text{font:12px sans-serif;fill:#222}.t{font-size:13px;font-weight:bold}"
        "polyline{fill:none;stroke-width:2}.axis{stroke:#222;stroke-width:1}.grid{stroke:#ddd;stroke-width:1}"
        ".learned{fill:#d62728;fill-opacity:.6}.exact{fill:#1f77b4;fill-opacity:.6}</style>"
    )
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    back = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    body = "\n".join([style, back, *_level_panel(numbers), *_sample_panel(numbers, LEFT + WIDE + 110)])
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{body}\n</svg>\n'


def _level_panel(numbers: Numbers) -> list[str]:
    rows = numbers["mixture"]["levels"]
    place = _scale((1e-2, 1e2), (1e-5, 1e1), LEFT)
    ticks_x = [(10.0**k, f"1e{k}") for k in range(-2, 3)]
    ticks_y = [(10.0**k, f"1e{k}") for k in range(-5, 2)]
    lines = _axes(place, ticks_x, ticks_y, "squared error of the noise by level", "σ", LEFT)
    inside = [row for row in rows if 1e-2 <= row["sigma"] <= 1e2]
    colours = {"loss": ("#d62728", "6 4"), "least": ("#1f77b4", "none"), "excess": ("#2ca02c", "none")}
    for name, (colour, dash) in colours.items():
        lines.append(_line([place(row["sigma"], row[name][0]) for row in inside], colour, dash))
    names = {"loss": "loss of the learned", "least": "least loss (exact)", "excess": "excess"}
    entries = tuple((names[name], colour) for name, (colour, _) in colours.items())
    return lines + _legend(entries, LEFT + WIDE - 160)


def _sample_panel(numbers: Numbers, left: int) -> list[str]:
    title = "400 samples of each: learned (red), exact law (blue)"
    lines = [f'<text class="t" x="{left}" y="{TOP - 14}">{title}</text>']
    for kind in ("exact", "learned"):
        for x, y in numbers["points"][kind]:
            place = left + WIDE * (x + 2.6) / 5.2, TOP + HIGH * (1 - (y + 1.75) / 3.975)
            lines.append(f'<circle class="{kind}" cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="2"/>')
    return lines


def ship(path: Path, name: str) -> None:
    """Keep the moving average of a checkpoint alone, as its weights."""
    saved = checkpoint.load(path)
    weights = {**saved.weights, **saved.average}
    shipped.FOLDER.mkdir(exist_ok=True)
    alone = Checkpoint(replace(saved.header), weights)
    checkpoint.save(shipped.FOLDER / f"{name}.safetensors", alone)


def main() -> int:
    arguments = sys.argv[1:]
    if arguments[:1] == ["--ship"]:
        ship(Path(arguments[1]), arguments[2])
        return 0
    if arguments[:1] == ["--measure"]:
        torch.set_num_threads(1)
        known = json.loads(NUMBERS.read_text(encoding="utf-8")) if NUMBERS.exists() else {}
        found = measured(checkpoint.load(arguments[1]))
        found |= {name: known[name] for name in ("training",) if name in known}
        NUMBERS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    numbers = json.loads(NUMBERS.read_text(encoding="utf-8"))
    made = ((PAGE, page(numbers)), (FIGURE, figure(numbers)))
    if "--check" in arguments:
        stale = [p.name for p, text in made if not p.exists() or p.read_text(encoding="utf-8") != text]
        print("\n".join(f"stale: {name}" for name in stale) or "current")
        return int(bool(stale))
    for path, text in made:
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
