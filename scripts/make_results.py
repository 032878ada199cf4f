"""Fill the tables and draw the pictures of docs/results.md from rows that benchmarks printed.

    scripts/bench recovery --json > docs/results/recovery.jsonl
    python scripts/make_results.py

A table stands between `<!-- table NAME -->` and `<!-- end -->`, NAME being that of the file of
rows; the table of a file that is not there is left as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import results_differential
from matplotlib.figure import Figure
from results_codesign import draw_rename, draw_reorder

from rramhil.report.style import REPAIRS, house_style

DOCS = Path(__file__).parent.parent / "docs"
REQUIRED = {
    "mult0.5_128": ("multiplicative 0.5", 0.6),
    "mult0.5_1000": ("multiplicative 0.5", 0.3),
    "saf_hrs_128": ("multiplicative 0.3, stuck 1.75 % LRS, 9.04 % HRS", 0.3),
    "saf_lrs_5000": ("multiplicative 0.3, stuck 9.04 % LRS, 1.75 % HRS", 0.6),
    "range0.3_5000": ("0.3 of the range", 0.9),
}
Rows = dict[str, dict[str, Any]]
DRAWN = {"rename": draw_rename, "reorder": draw_reorder}


def main() -> None:
    """Rewrite docs/results.md and docs/images/recovery-*.png."""
    page = DOCS / "results.md"
    text = page.read_text("utf-8")
    for path in sorted((DOCS / "results").glob("*.jsonl")):
        rows = {row["row"]: row for row in map(json.loads, path.read_text("utf-8").splitlines())}
        table = "\n".join(TABLES.get(path.stem, plain)(rows))
        pattern = rf"(<!-- table {path.stem} -->\n).*?(<!-- end -->)"
        text, found = re.subn(pattern, rf"\g<1>{table}\n\g<2>", text, flags=re.DOTALL)
        if not found:
            raise SystemExit(f"error: docs/results.md has no table {path.stem!r}; add its markers")
        if path.stem == "recovery_curves":
            draw_curves(rows)
        if path.stem == "placement":
            draw_placement(rows)
        if path.stem in DRAWN:
            DRAWN[path.stem](rows, DOCS / "images")
        if path.stem == "differential":
            results_differential.draw(rows, DOCS / "images")
    page.write_text(text, "utf-8")


def required(rows: Rows) -> Iterable[str]:
    """What is asked of the closed form, and what it gives."""
    yield "| error of the cells | images | sparse, % | before, % | loss | worst die | asked |"
    yield "|---|---|---|---|---|---|---|"
    for name, (error, most) in REQUIRED.items():
        case, images = name.rsplit("_", 1)
        loss = rows[f"{name}_loss"]
        yield (
            f"| {error} | {images} | {rows[f'{name}_sparse']['value']:.1f} | "
            f"{rows[f'{case}_before']['value']:.1f} | {_value(loss)} | "
            f"{rows[f'{name}_loss_worst_die']['value']:.2f} | <= {most:g} |"
        )
    cpu = _value(rows["cpu_seconds_per_die"])
    yield f"\nA repair with 128 images, evaluation included: {cpu} CPU seconds a die."


def in_situ(rows: Rows) -> Iterable[str]:
    """Losses of each way of repair on the array, a column for each noise of the converter."""
    pattern = re.compile(r"(\S+ \S+) noise x(\d) (.*)_loss")
    found = [m.groups() for name in rows if (m := pattern.fullmatch(name))]
    noises = list(dict.fromkeys(noise for _, noise, _ in found))
    yield f"| points under the ideal mapping | {' | '.join(f'noise x{n}' for n in noises)} | dies |"
    yield "|---" * (len(noises) + 2) + "|"
    for subject, way in dict.fromkeys((subject, way) for subject, _, way in found):
        own = [rows.get(f"{subject} noise x{noise} {way}_loss") for noise in noises]
        cells = ["" if row is None else _value(row) for row in own]
        dies = next(row["n"] for row in own if row is not None)
        yield f"| {subject}: {way} | {' | '.join(cells)} | {dies} |"


def plain(rows: Rows) -> Iterable[str]:
    """Every row as it was printed."""
    yield "| row | value | unit | n |"
    yield "|---|---|---|---|"
    for name, row in rows.items():
        yield f"| `{name}` | {_value(row)} | {row['unit']} | {row['n']} |"


TABLES = {"recovery": required, "in_situ": in_situ}


def _value(row: dict[str, Any]) -> str:
    digits = 2 if abs(row["value"]) < 1000 else 0
    value = f"{row['value']:.{digits}f}" if abs(row["value"]) >= 0.1 else f"{row['value']:.3g}"
    return value if row["spread"] is None else f"{value} ± {row['spread']:.2g}"


def draw_curves(rows: Rows) -> None:
    """Loss against sparse numbers, against images, and of random sparse adaptation."""
    (DOCS / "images").mkdir(exist_ok=True)
    with house_style():
        figure = Figure(figsize=(9.5, 3.2), layout="constrained")
        sparse, images, literal = figure.subplots(1, 3)
        _curve(sparse, rows, r"mult0\.5_sparse_([\d.]+)_loss", "closed form, 128 images", 0)
        sparse.set(xlabel="sparse numbers, % of weights", ylabel="loss, points", yscale="log")
        _curve(images, rows, r"mult0\.5_images_(\d+)_loss", "closed form, 5 %", 0)
        images.set(xlabel="unlabelled images", xscale="log", yscale="log")
        for index, sigma in enumerate(("0.1", "0.3", "0.5")):
            for loss, style in (("labels", "--"), ("distillation", "-")):
                pattern = rf"mult{re.escape(sigma)}_rsa_([\d.]+)_{loss}_loss"
                _curve(literal, rows, pattern, f"{sigma}, {loss}", index, style)
        literal.set(xlabel="random numbers, % of weights", yscale="log")
        for axes, title in zip(
            (sparse, images, literal),
            ("sigma 0.5: digital memory", "sigma 0.5: images", "RSA to the letter, 1,000 images"),
            strict=True,
        ):
            axes.set_title(title)
            axes.legend(fontsize=7)
        path = DOCS / "images" / "recovery-curves.png"
        figure.savefig(path, dpi=110, facecolor="white")


def draw_placement(rows: Rows) -> None:
    """Losses of the natural and of the chosen places, for each sort of fault that was measured."""
    ways = {"naive": "natural places", "naive_partners": "natural, partners moved",
            "placed": "placed", "placed_partners": "placed, partners moved"}  # fmt: skip
    sorts = {"rows": "18 of 256 word lines", "cells": "as many single cells"}
    there = [sort for sort in sorts if f"{sort}_placed_loss" in rows]
    with house_style():
        figure = Figure(figsize=(6.4, 3.0), layout="constrained")
        axes = figure.subplots()
        for number, (way, label) in enumerate(ways.items()):
            found = [rows[f"{sort}_{way}_loss"] for sort in there]
            at = [place + 0.2 * (number - 1.5) for place in range(len(there))]
            axes.bar(
                at, [max(row["value"], 0.0) for row in found], 0.18, color=REPAIRS[number],
                yerr=[row["spread"] or 0.0 for row in found], capsize=2, label=label,
            )  # fmt: skip
        axes.set_xticks(range(len(there)), [sorts[sort] for sort in there])
        axes.set_yscale("symlog", linthresh=0.1)
        axes.set_ylabel("loss, points")
        axes.legend(fontsize=7)
        path = DOCS / "images" / "placement.png"
        figure.savefig(path, dpi=110, facecolor="white")


def _curve(axes: Any, rows: Rows, pattern: str, label: str, colour: int, style: str = "-") -> None:
    points = [
        (float(found[1]), row["value"], row["spread"] or 0.0)
        for name, row in rows.items()
        if (found := re.fullmatch(pattern, name))
    ]
    x, y, spread = zip(*sorted(points), strict=True)
    axes.errorbar(
        x, [max(v, 0.01) for v in y], spread, fmt=f"o{style}", color=REPAIRS[colour],
        markersize=3, capsize=2, label=label,
    )  # fmt: skip


TABLES = {"recovery": required, "differential": results_differential.table}
"""How a file of rows is told, where not as it was printed."""

if __name__ == "__main__":
    main()
