"""A comparison as a page: tables in Markdown, and a picture for each figure of its curves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..emulator.chipfile import ChipFile
from .causes import NOTES, causes, shipped
from .commands import HEADINGS, texts
from .rows import Compared, Curve

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5c6570", "#000000")
"""Those of Okabe and Ito, which people with common colour deficiencies tell apart."""

POINTS = 120
HELD_OUT = "on addresses that were not fitted (the last column says which)"
KEY = "dots: measured, lines: predicted"


def write_page(
    path: Path,
    chip: ChipFile,
    found: Mapping[str, Sequence[Compared]],
    curves: Sequence[Curve],
    command: str,
) -> None:
    """Write `path` (Markdown) and its pictures, in the folder images/NAME beside it."""
    folder = path.parent / "images" / path.stem
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [(name, _draw(name, lines, folder)) for name, lines in _by_figure(curves)]
    known = shipped(chip.cells)
    parts = [
        f"# Fidelity of {chip.name}\n",
        f"{chip.about}\n",
        f"Made by `{command} --page {path.name}`. A distance is predicted against measured, "
        f"{HELD_OUT}; its interval is 95 %, by bootstrap over addresses. "
        "✓: within what is allowed; ✗: not.\n",
        *_verdicts(found),
        *(p for name, rows in found.items() for p in _section(name, rows, known=known)),
        "## Pictures\n",
        *(f"![{name}](images/{path.stem}/{file})\n" for name, file in pictures),
    ]
    path.write_text("\n".join(parts), encoding="utf-8")


def _verdicts(found: Mapping[str, Sequence[Compared]]) -> Iterator[str]:
    yield "| topic | required | hold |\n|---|---|---|"
    for name, rows in found.items():
        required = [one for one in rows if one.holds is not None]
        yield f"| {name} | {len(required)} | {sum(bool(one.holds) for one in required)} |"
    yield ""


def _section(name: str, rows: Sequence[Compared], *, known: bool) -> Iterator[str]:
    yield f"## {name.replace('_', ' ')}\n"
    if known and name in NOTES:
        yield f"{NOTES[name]}\n"
    head = [*HEADINGS, "data"]
    yield "| " + " | ".join(head) + " |\n|" + "---|" * len(head)
    for one in rows:
        yield "| " + " | ".join([*texts(one), one.data]) + " |"
    yield ""
    if reasons := list(causes(name, rows, known=known)):
        yield "Why rows miss:\n"
        yield from (f"- {reason}" for reason in reasons)
        yield ""


def _by_figure(curves: Sequence[Curve]) -> list[tuple[str, list[Curve]]]:
    names = list(dict.fromkeys(curve.figure for curve in curves))
    return [(name, [c for c in curves if c.figure == name]) for name in names]


def _thinned(curve: Curve) -> tuple[NDArray[Any], NDArray[Any]]:
    """At most `POINTS` points of a curve, evenly by their order; a file is to stay small."""
    count = len(curve.x)
    kept = np.unique(np.linspace(0, count - 1, min(count, POINTS)).astype(int))
    return np.asarray(curve.x)[kept], np.asarray(curve.y)[kept]


def _draw(name: str, curves: Sequence[Curve], folder: Path) -> str:
    """Draw one figure: measured as dots, predicted as lines, one colour a label."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(curve.label for curve in curves))
    with mpl.rc_context({"svg.hashsalt": "rramhil", "font.size": 9}):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.add_subplot()
        for curve in curves:
            colour = COLOURS[labels.index(curve.label) % len(COLOURS)]
            style: dict[str, Any] = (
                {"marker": "o", "linestyle": "none", "markersize": 4, "label": curve.label}
                if curve.measured
                else {"linestyle": "-", "linewidth": 1.6}
            )
            x, y = _thinned(curve)
            axes.plot(x, y, color=colour, **style)
        first = curves[0]
        axes.set_xlabel(first.x_label)
        axes.set_ylabel(first.y_label)
        axes.set_xscale("log" if "x" in first.logarithmic else "linear")
        axes.set_yscale("log" if "y" in first.logarithmic else "linear")
        axes.set_title(name, loc="left", fontsize=9.5)
        axes.legend(frameon=False, fontsize=8, ncols=1 + len(labels) // 8, title=KEY)
        file = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + ".svg"
        figure.savefig(folder / file, metadata={"Date": None})
    return file
