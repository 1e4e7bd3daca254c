"""Draw the ratios of results.json: python plot.py results.json results.png. Runs in the servers' environment."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
from report import OURS, Results

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

MARKS = {"uvicorn": "o", "granian": "s", "hypercorn": "^", "gunicorn": "D", "daphne": "v"}
TICKS = (0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50)


def main(source: Path, target: Path) -> None:
    """Draw one point for each scenario and peer: how many times better serverd is, on a logarithmic scale."""
    results = Results.load(source)
    scenarios = results.scenarios()[::-1]
    figure, axes = plt.subplots(figsize=(9, 0.3 * len(scenarios) + 1.4))
    axes.axvline(1, color="black", linewidth=0.8)
    for name, mark in MARKS.items():
        points = []
        for height, scenario in enumerate(scenarios):
            # Of several WebSocket implementations of one peer, the fastest counts.
            variants = [of for of in results.servers() if of.split()[0] == name and of != OURS]
            ratios = [ratio for of in variants if (ratio := results.ratio(scenario, of, "value")) is not None]
            if ratios:
                points.append((min(ratios), height))
        if points:
            axes.scatter(*zip(*points, strict=True), marker=mark, s=28, label=name, alpha=0.85)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_yticks(range(len(scenarios)), [scenario.name for scenario in scenarios], fontsize=8)
    axes.grid(alpha=0.3)
    axes.set_xlabel("how many times better serverd is (right of 1: ahead)")
    axes.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(target, dpi=100)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
