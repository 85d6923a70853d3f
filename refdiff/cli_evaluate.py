"""The command that holds a trained network against what is exact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from refdiff.checkpoint import Checkpoint
    from refdiff.datasets import Dataset
    from refdiff.ddpm import Variance
    from refdiff.evaluate import Estimate
    from refdiff.objective import Objective

JsonFile = Annotated[
    str, typer.Option("--json", metavar="FILE", help="Also write the result as JSON ('-': stdout).")
]
BANDWIDTHS = (0.25, 0.5, 1.0)


def evaluate(
    checkpoint: Annotated[Path, typer.Option(help="Of 'refdiff train', or shipped: digits or mixture.")],
    levels: Annotated[int, typer.Option(help="Levels of noise, in equal ratios.")] = 8,
    count: Annotated[int, typer.Option(help="Samples of a level.")] = 1000,
    samples: Annotated[int, typer.Option(help="Samples compared with the perfect network's; 0: none.")] = 0,
    sampler: Annotated[str, typer.Option(help="That makes them; 'refdiff sample --sampler list'.")] = "ddim",
    steps: Annotated[int, typer.Option(help="Of the sampler, and of a round trip.")] = 50,
    alpha: Annotated[float, typer.Option(help="Rate at which equal laws are called different.")] = 0.01,
    bits: Annotated[int, typer.Option(help="Held-out samples for the bound in bits/dim; 0: none.")] = 0,
    trips: Annotated[int, typer.Option(help="Samples for a DDIM round trip; 0: none.")] = 0,
    seed: Annotated[int, typer.Option(help="Of data and noises.")] = 0,
    json_file: JsonFile = "",
) -> None:
    """Say how far a network is from the perfect one: by its loss, level by level, and by its samples."""
    from refdiff.checkpoint import load
    from refdiff.cli import finish
    from refdiff.objective import make
    from refdiff.shipped import find
    from refdiff.train import Settings

    saved = load(find(checkpoint))
    settings = Settings.from_dict(saved.header.settings)
    goal, data = make(saved.header.objective, saved.header.objective_settings), settings.load_data()
    result: dict[str, Any] = {"law": "exact" if data.law else f"empirical, {len(data)} points"}
    result["levels"] = by_level(saved, goal, data, levels, count, seed)
    if samples:
        result["samples"] = compared(saved, goal, data, (sampler, steps, samples, alpha, seed))
    if bits or trips:
        from refdiff.datasets import load as load_data

        held_out = load_data(settings.data, seed=settings.data_seed + 1, part="test")
        result |= held(saved, goal, held_out, bits, trips, steps, seed)
    finish(shown(result), result, json_file)


def by_level(
    saved: Checkpoint, goal: Objective, data: Dataset, levels: int, count: int, seed: int
) -> list[dict[str, Any]]:
    """Loss, least loss and excess, each a mean over the dimensions, with their errors."""
    import torch

    from refdiff import evaluate as topic
    from refdiff.generate import Ask

    generator, law = torch.Generator().manual_seed(seed), topic.law_of(data)
    visited = goal.levels(levels, "geometric")
    chosen = [(1.0, std) for std in visited.std[:-1].tolist()]
    model = Ask(saved.net(), goal, saved.header.classes)
    rows = []
    for row in topic.excess_by_level(model, law, chosen, count, generator, shape=saved.header.shape):
        least = topic.least(law, row.scale, row.std, count, generator)
        rows.append({"sigma": row.std, **pair(loss=row.loss, least=least, excess=row.excess)})
    return rows


def compared(
    saved: Checkpoint, goal: Objective, data: Dataset, asked: tuple[str, int, int, float, int]
) -> dict[str, Any]:
    """The samples of the network against those of the perfect one, by the same sampler."""
    import torch

    from refdiff import evaluate as topic
    from refdiff.generate import Options, generate

    sampler, steps, count, alpha, seed = asked
    options, law = Options(steps=steps), topic.law_of(data)
    learned = generate(saved, sampler, options, count=count, seed=2 * seed).x
    exact = topic.perfect_samples(goal, law, sampler, options, saved.header.shape, count, 2 * seed + 1)
    wide = (data.x[0].numel() / 2) ** 0.5  # so that a distance is seen alike in every dimension
    bandwidths = [wide * h for h in BANDWIDTHS]
    generator = torch.Generator().manual_seed(seed)
    found = topic.permutation_test(learned, exact, bandwidths, generator, alpha)
    mmd = topic.mmd_squared(learned, exact, bandwidths)
    return {
        "sampler": sampler,
        "steps": steps,
        "count": count,
        "bandwidths": bandwidths,
        **pair(mmd_squared=mmd),
        "p_value": found.p_value,
        "alpha": alpha,
        "different": found.rejected,
    }


def held(
    saved: Checkpoint, goal: Objective, data: Dataset, bits: int, trips: int, steps: int, seed: int
) -> dict[str, Any]:
    """The bound and the round trip of samples that were not trained on."""
    import torch

    from refdiff import evaluate as topic
    from refdiff.generate import Ask
    from refdiff.objective import OnSchedule

    if not isinstance(goal, OnSchedule):
        raise ValueError(f"checkpoint must be of a network on a schedule, got {saved.header.objective}")
    result: dict[str, Any] = {}
    ask = Ask(saved.net(), goal, saved.header.classes)
    model, dtype = ask.of_chain(goal.table), next(iter(saved.weights.values())).dtype
    if bits:
        if data.bins is None:
            raise ValueError(f"data must take finitely many values for bits, got {data.name}")
        x_0, generator = data.x[:bits].to(dtype), torch.Generator().manual_seed(seed)
        learned = goal.learned_variance
        both = ask.with_variance(goal.table) if learned else model
        variance: Variance = "learned_first_tilde" if learned else "beta"
        bound, _ = topic.bound_in_bits(both, goal.table, x_0, generator, data.bins, variance)
        result |= {"held_out": len(x_0), **pair(bits_per_dim=bound)}
    if trips:
        _, visited = goal.chain(steps)
        error = topic.round_trip(model, goal.table, data.x[:trips].to(dtype), visited)
        result |= {"trips": len(error), "trip_steps": steps, **pair(trip_error=topic.mean_of(error))}
    return result


def pair(**found: Estimate) -> dict[str, float]:
    """Estimates as numbers of JSON."""
    named = ((name, estimate) for name, estimate in found.items())
    return {key: value for name, e in named for key, value in ((name, e.value), (f"{name}_error", e.error))}


def shown(result: dict[str, Any]) -> str:
    """The result as a table."""

    def number(row: dict[str, Any], name: str) -> str:
        return f"{row[name]:.4g} ± {row[name + '_error']:.1g}"

    lines = [f"law: {result['law']}", "", f"{'σ':>9}  {'loss':>18}  {'least loss':>18}  {'excess':>18}"]
    for row in result["levels"]:
        cells = "  ".join(f"{number(row, name):>18}" for name in ("loss", "least", "excess"))
        lines.append(f"{row['sigma']:>9.4g}  {cells}")
    if found := result.get("samples"):
        verdict = "different" if found["different"] else "no difference seen"
        head = f"{found['count']} samples of {found['sampler']} in {found['steps']} steps against the perfect"
        mmd = f"MMD² {number(found, 'mmd_squared')}, p = {found['p_value']:.3g}, α = {found['alpha']:g}"
        lines += ["", f"{head} network's: {mmd}: {verdict}"]
    if "bits_per_dim" in result:
        bound = f"bound: {number(result, 'bits_per_dim')} bits/dim"
        lines += ["", f"{bound} on {result['held_out']} held-out samples"]
    if "trip_error" in result:
        steps = f"{result['trip_steps']} steps up and down"
        lines += ["", f"DDIM round trip, {steps}: {number(result, 'trip_error')} (root mean square)"]
    return "\n".join(lines)
