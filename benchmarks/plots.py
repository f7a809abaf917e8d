"""The two plots of the documentation. Their colours can be read on white and on black."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .cost import BATCHES, OURS, S3FF, THROUGH, Costs, shown

DOCS = Path(__file__).resolve().parent.parent / "docs"
GREY = "#808080"  # text, on either ground
COLOURS = {THROUGH: "#d1495b", S3FF: "#b8860b", OURS: "#2e86c1", BATCHES: "#239b56"}
STYLE: Any = {
    "backend": "svg",
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "bench",  # the same picture has the same bytes
    "font.family": "sans-serif",
    "text.color": GREY,
    "axes.labelcolor": GREY,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(costs: Costs, rates: dict[str, float]) -> None:
    with matplotlib.rc_context(STYLE):
        draw_costs(costs)
        draw_rates(rates)


def draw_costs(costs: Costs) -> None:
    figure, axes = _empty("CPU time of Django for one upload")
    for way, colour in COLOURS.items():
        sizes = [size for size in costs if costs[size].get(way)]
        times = [median(costs[size][way]) * 1000 for size in sizes]
        axes.loglog(sizes, times, marker="o", color=colour, label=way)
    axes.set_xticks(list(costs), [shown(size) for size in costs])
    axes.minorticks_off()
    axes.set_xlabel("size of the file")
    axes.set_ylabel("milliseconds")
    axes.grid(color=GREY, alpha=0.25)
    axes.legend(frameon=False, labelcolor=GREY)
    _save(figure, "cost.svg")


def draw_rates(rates: dict[str, float]) -> None:
    figure, axes = _empty("uploads of 1 MiB a second, for one core of Django")
    ways = list(reversed(rates))
    bars = axes.barh(ways, [rates[way] for way in ways], color=[COLOURS[way] for way in ways])
    axes.bar_label(bars, fmt=" %.0f", color=GREY)
    axes.set_xlabel("uploads a second")
    _save(figure, "rate.svg")


def _empty(title: str) -> tuple[Figure, Axes]:
    figure, axes = pyplot.subplots(figsize=(7.5, 4), layout="constrained")
    axes.set_title(title, color=GREY)
    return figure, axes


def _save(figure: Figure, name: str) -> None:
    figure.savefig(DOCS / name, transparent=True, metadata={"Date": None})
    pyplot.close(figure)
