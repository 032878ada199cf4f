"""Pictures of the co-design benches for docs/results.md (see scripts/make_results.py)."""

from __future__ import annotations

import re
from typing import Any

from matplotlib.figure import Figure

from rramhil.report.style import REPAIRS

Rows = dict[str, dict[str, Any]]
LAWS = {
    "linear0.25": "0.25 S",
    "linear0.4": "0.4 S",
    "sqrt0.25": "0.25 sqrt(S)",
    "constant0.25": "0.25",
}


def rename(figure: Figure, rows: Rows) -> None:
    """Accuracy that is lost against the rows that are left."""
    found = [
        (int(match[1]), row["value"], row["spread"] or 0.0)
        for name, row in rows.items()
        if (match := re.fullmatch(r"rename(\d+)_loss", name))
    ]
    left, loss, spread = zip(*sorted(found), strict=True)
    figure.set_size_inches(5.0, 3.2)
    axes = figure.subplots()
    style = {"markersize": 4, "capsize": 2}
    axes.errorbar(
        left, loss, spread, fmt="o-", color=REPAIRS[0], label="merged afterwards", **style
    )
    own = rows["rename46_trained_loss"]
    axes.errorbar(
        [46],
        [own["value"]],
        [own["spread"]],
        fmt="s",
        color=REPAIRS[1],
        label="in training",
        **style,
    )
    axes.set(xlabel="physical rows of 84", ylabel="loss, points", title="Row rename")
    axes.legend(fontsize=7)


def reorder(figure: Figure, rows: Rows) -> None:
    """Losses that the converter's noise causes, by its law, with rows in three orders."""
    laws = [m[1] for name in rows if (m := re.fullmatch(r"reorder_(.+)_natural_loss", name))]
    figure.set_size_inches(6.0, 3.2)
    axes = figure.subplots()
    for number, what in enumerate(("natural", "random", "reordered")):
        own = [rows[f"reorder_{law}_{what}_loss"] for law in laws]
        places = [place + 0.27 * (number - 1) for place in range(len(laws))]
        heights, spreads = [r["value"] for r in own], [r["spread"] or 0.0 for r in own]
        axes.bar(places, heights, 0.25, yerr=spreads, color=REPAIRS[number], label=what)
    axes.set_xticks(range(len(laws)), [LAWS.get(law, law) for law in laws])
    axes.set(ylabel="loss for the noise, points", title="Row reorder", yscale="log")
    axes.legend(fontsize=7)


def placement(figure: Figure, rows: Rows) -> None:
    """Losses of the natural and of the chosen places, for each sort of fault that was measured."""
    ways = {"naive": "natural places", "naive_partners": "natural, partners moved",
            "placed": "placed", "placed_partners": "placed, partners moved"}  # fmt: skip
    sorts = {"rows": "18 of 256 word lines", "cells": "as many single cells"}
    there = [sort for sort in sorts if f"{sort}_placed_loss" in rows]
    figure.set_size_inches(6.4, 3.0)
    axes = figure.subplots()
    for number, (way, label) in enumerate(ways.items()):
        found = [rows[f"{sort}_{way}_loss"] for sort in there]
        at = [place + 0.2 * (number - 1.5) for place in range(len(there))]
        axes.bar(
            at, [row["value"] for row in found], 0.18, color=REPAIRS[number],
            yerr=[row["spread"] or 0.0 for row in found], capsize=2, label=label,
        )  # fmt: skip
    axes.set_xticks(range(len(there)), [sorts[sort] for sort in there])
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set(ylabel="loss, points", ylim=(-0.1, 120))
    axes.legend(fontsize=7)
