"""Pictures of the co-design benches for docs/results.md (see scripts/make_results.py)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from rramhil.report.style import REPAIRS, house_style

Rows = dict[str, dict[str, Any]]


def draw_rename(rows: Rows, images: Path) -> None:
    """Accuracy that is lost against the rows that are left."""
    found = [
        (int(match[1]), row["value"], row["spread"] or 0.0)
        for name, row in rows.items()
        if (match := re.fullmatch(r"rename(\d+)_loss", name))
    ]
    left, loss, spread = zip(*sorted(found), strict=True)
    with house_style():
        figure = Figure(figsize=(5.0, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.errorbar(left, loss, spread, fmt="o-", color=REPAIRS[0], markersize=4, capsize=2)
        axes.axvline(46, color="0.6", linewidth=0.8)
        axes.set(xlabel="physical rows of 84", ylabel="loss, points", title="Row rename")
        figure.savefig(images / "codesign-rename.png", dpi=110, facecolor="white")


def draw_reorder(rows: Rows, images: Path) -> None:
    """Losses that the converter's noise causes, by its law, with rows in three orders."""
    laws = [m[1] for name in rows if (m := re.fullmatch(r"reorder_(.+)_natural_loss", name))]
    with house_style():
        figure = Figure(figsize=(6.0, 3.2), layout="constrained")
        axes = figure.subplots()
        for number, what in enumerate(("natural", "random", "reordered")):
            own = [rows[f"reorder_{law}_{what}_loss"] for law in laws]
            places = [place + 0.27 * (number - 1) for place in range(len(laws))]
            heights, spreads = [r["value"] for r in own], [r["spread"] or 0.0 for r in own]
            axes.bar(places, heights, 0.25, yerr=spreads, color=REPAIRS[number], label=what)
        axes.set_xticks(range(len(laws)), laws)
        axes.set(ylabel="loss for the noise, points", title="Row reorder", yscale="log")
        axes.legend(fontsize=7)
        figure.savefig(images / "codesign-reorder.png", dpi=110, facecolor="white")
