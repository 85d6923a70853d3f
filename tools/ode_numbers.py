"""Write docs/ode.md and its figure: DDIM and the probability-flow ODE in numbers, or say what is stale.

    python -m tools.ode_numbers           write both
    python -m tools.ode_numbers --check   exit status 1 when one is stale

Numbers are printed to few digits, so that they are the same on every machine; times never go in.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from refdiff import ddim, ode, parameterization, schedule
from refdiff.schedule import Schedule

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, FIGURE = DOCS / "ode.md", DOCS / "ode_ddim_coefficients.svg"
SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "linear": schedule.linear,
    "scaled_linear": schedule.scaled_linear,
    "cosine": schedule.cosine,
}
LEVELS = (1, 2, 3, 10, 100, 500, 999, 1000)
COUNTS = (10, 20, 50, 100, 250, 1000)
SPREADS = (0.0625, 0.25, 4.0)


def coefficients(of: Schedule) -> str:
    """The two coefficients of the score, their ratio and the leading term of their difference, by level."""
    gap = ode.ddim_coefficient_gap(of)
    lost, beta = of.one_minus_alpha_bar[1:], of.beta[1:]
    leading = beta**2 * (0.25 + 1 / (8 * lost))
    rows = []
    for t in LEVELS:
        numbers = (gap.half_beta, gap.ddim, gap.ratio, gap.gap / leading, gap.state_gap)
        rows.append([str(t), *(f"{float(column[t - 1]):.4g}" for column in numbers)])
    head = ("t", "½β_t", "c_t of DDIM", "c_t / ½β_t", "gap / leading term", "1/√α_t − (2 − √α_t)")
    return table(head, rows)


def summary() -> str:
    """How far the two are from equal, over all levels of a schedule."""
    rows = []
    for name, build in SCHEDULES.items():
        above = ode.ddim_coefficient_gap(build()).ratio - 1
        counts = (str(int((above > share).sum())) for share in (0.1, 0.01))
        least = int(above.argmin())
        rows.append(
            [name, f"{float(above[0]):.4g}", *counts, f"{float(above[least]):.2g} at t = {least + 1}"]
        )
    return table(
        ("T = 1000", "excess at t = 1", "levels above 10 %", "levels above 1 %", "least excess"), rows
    )


Step = Callable[[Schedule, Tensor, int, int, Tensor], Tensor]


def by_ddim(of: Schedule, x: Tensor, t: int, s: int, score: Tensor) -> Tensor:
    return ddim.step(of, x, t, s, parameterization.eps_from_score(of, x, t, score))


def end_errors(step: Step, spread: float) -> list[str]:
    """Relative error of the deviation that a chain of N steps leaves, against the exact flow."""
    of = schedule.linear()
    found = []
    for count in COUNTS:
        levels = [round(1000 * k / count) for k in range(count, -1, -1)]
        x = torch.ones(1, 1, dtype=torch.float64)
        variance = of.alpha_bar * spread + of.one_minus_alpha_bar
        for t, s in pairwise(levels):
            x = step(of, x, t, s, -x / variance[t])
        exact = math.sqrt(spread / float(variance[1000]))
        found.append(f"{float(x) / exact - 1:+.2e}")
    return found


def ends() -> str:
    rows = []
    for spread in SPREADS:
        for name, step in (("DDIM", by_ddim), ("discretised flow", ode.vp_step)):
            rows.append([f"{spread:g}", name, *end_errors(step, spread)])
    return table(("variance of the data", "step", *(f"N = {count}" for count in COUNTS)), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def page() -> str:
    """The text of docs/ode.md."""
    return f"""# DDIM and the probability-flow ODE in numbers

Written by `python -m tools.ode_numbers`. The formulas are `refdiff explain ode.ddim_coefficient` and those
that it names.

The three equations are one. In y = x/√ᾱ and σ = √((1−ᾱ)/ᾱ) the probability-flow ODE of the
variance-preserving process, that of the variance-exploding process with these σ, and the ODE that DDIM
discretises all read dy = ε·dσ (`ode.one_ode`, `ode.vp_is_ddim_ode`, `ode.ve_is_ddim_ode`). Nothing there is
approximate. Two steps for it are

- DDIM: x_(t−1) = x_t/√α_t + c_t·score, with c_t = β_t / (√α_t + α_t·√((1−ᾱ_(t−1))/(1−ᾱ_t)));
- the discretised flow: x_(t−1) = (2 − √(1−β_t))·x_t + ½β_t·score.

## The coefficient of the score

c_t is above ½β_t at every level of every schedule. With the level held,
c_t = ½β + (¼ + 1/(8(1−ᾱ_t)))β² + O(β³). At the first step, where all of the noise is that of the step,
c_1 = β_1/√α_1: twice ½β_1 and a little more, however small β_1.

![The coefficients of the score in DDIM and in the discretised flow](ode_ddim_coefficients.svg)

The linear schedule, T = 1000:

{coefficients(schedule.linear())}

The cosine schedule, T = 1000, whose last β is bounded by 0.999:

{coefficients(schedule.cosine())}

How far the ratio exceeds 1:

{summary()}

## Where the chains end

Centred Gaussian data, of which the flow is known (`ode.gaussian_flow`): the relative error of the deviation
that N equal strides of the linear schedule leave, with the perfect score. Both have order one; over one step
the errors are `ode.ddim_step_error` and `ode.vp_step_error` times β².

{ends()}

In a variance-exploding chain the steps differ by ½(σ_t − σ_s)²·score exactly (`ode.ve_ddim_gap`): on the last
step, to σ = 0, by as much as the shorter of the two moves.
"""


WIDTH, HEIGHT, LEFT, TOP, WIDE, HIGH = 880, 360, 60, 40, 340, 260


def figure() -> str:
    """The SVG: both coefficients of the linear schedule, and how far their ratio exceeds 1 for three."""
    first = _coefficient_panel()
    second = _excess_panel(LEFT + WIDE + 110)
    style = (
        "<style>text{font:12px sans-serif;fill:#222}.t{font-size:13px;font-weight:bold}"
        "polyline{fill:none;stroke-width:2}.axis{stroke:#222;stroke-width:1}.grid{stroke:#ddd;stroke-width:1}</style>"
    )
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    back = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    body = "\n".join([style, back, *first, *second])
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{body}\n</svg>\n'


def _coefficient_panel() -> list[str]:
    gap = ode.ddim_coefficient_gap(schedule.linear())
    place = _scale((1, 1000), (1e-5, 1e-1), LEFT)
    steps = _log_steps(1000)
    ticks_x = [(t, str(t)) for t in (1, 10, 100, 1000)]
    ticks_y = [(10.0**k, f"1e{k}") for k in range(-5, 0)]
    lines = _axes(place, ticks_x, ticks_y, "coefficient of the score, linear schedule", "t", LEFT)
    lines += [_line([place(t, float(gap.half_beta[t - 1])) for t in steps], "#1f77b4")]
    lines += [_line([place(t, float(gap.ddim[t - 1])) for t in steps], "#d62728", "6 4")]
    return lines + _legend((("½β_t", "#1f77b4"), ("c_t of DDIM", "#d62728")), LEFT + 14)


def _excess_panel(left: int) -> list[str]:
    place = _scale((1, 1000), (1e-3, 1e2), left)
    ticks_x = [(t, str(t)) for t in (1, 10, 100, 1000)]
    ticks_y = [(10.0**k, f"1e{k}") for k in range(-3, 3)]
    lines = _axes(place, ticks_x, ticks_y, "c_t / ½β_t − 1", "t", left)
    colours = ("#1f77b4", "#2ca02c", "#ff7f0e")
    for (_, build), colour in zip(SCHEDULES.items(), colours, strict=True):
        ratio = ode.ddim_coefficient_gap(build()).ratio
        lines.append(_line([place(t, float(ratio[t - 1]) - 1) for t in _log_steps(1000)], colour))
    return lines + _legend(tuple(zip(SCHEDULES, colours, strict=True)), left + 120)


def _log_steps(last: int) -> list[int]:
    """Some hundred levels, every one of the first and of the last, and few of the rest."""
    spread = {round(last ** (k / 120)) for k in range(121)}
    return sorted(spread | set(range(last - 12, last + 1)))


Place = Callable[[float, float], tuple[float, float]]


def _scale(x: tuple[float, float], y: tuple[float, float], left: int) -> Place:
    """From two numbers to the place in a panel, both on a logarithmic axis."""

    def share(value: float, ends: tuple[float, float]) -> float:
        return math.log(value / ends[0]) / math.log(ends[1] / ends[0])

    return lambda a, b: (left + WIDE * share(a, x), TOP + HIGH * (1 - share(b, y)))


def _axes(
    place: Place,
    ticks_x: Sequence[tuple[float, str]],
    ticks_y: Sequence[tuple[float, str]],
    title: str,
    label: str,
    left: int,
) -> list[str]:
    bottom = TOP + HIGH
    lines = [f'<text class="t" x="{left}" y="{TOP - 14}">{title}</text>']
    for value, text in ticks_x:
        x, _ = place(value, ticks_y[0][0])
        lines.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}"/>')
        lines.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{text}</text>')
    for value, text in ticks_y:
        _, y = place(ticks_x[0][0], value)
        lines.append(f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{left + WIDE}" y2="{y:.1f}"/>')
        lines.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    lines.append(f'<line class="axis" x1="{left}" y1="{bottom}" x2="{left + WIDE}" y2="{bottom}"/>')
    lines.append(f'<line class="axis" x1="{left}" y1="{TOP}" x2="{left}" y2="{bottom}"/>')
    return [*lines, f'<text x="{left + WIDE / 2:.0f}" y="{bottom + 38}" text-anchor="middle">{label}</text>']


def _line(points: Sequence[tuple[float, float]], colour: str, dash: str = "none") -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" stroke="{colour}" stroke-dasharray="{dash}"/>'


def _legend(entries: Sequence[tuple[str, str]], left: int) -> list[str]:
    lines = []
    for k, (name, colour) in enumerate(entries):
        y = TOP + 18 + 18 * k
        ends = f'x1="{left}" y1="{y - 4}" x2="{left + 24}" y2="{y - 4}"'
        lines.append(f'<line {ends} stroke="{colour}" stroke-width="2"/>')
        lines.append(f'<text x="{left + 30}" y="{y}">{name}</text>')
    return lines


def stale() -> list[Path]:
    """The files that are not what would be written."""
    made = ((PAGE, page()), (FIGURE, figure()))
    return [path for path, text in made if not path.exists() or path.read_text(encoding="utf-8") != text]


def main() -> int:
    if "--check" in sys.argv[1:]:
        found = stale()
        print("\n".join(f"stale: {path.name}" for path in found) or "current")
        return int(bool(found))
    for path, text in ((PAGE, page()), (FIGURE, figure())):
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
