"""The ladder and after-care in the report: what was tried, predicted, reached and paid; and time.

Each function takes a step's arrays and returns an element or a figure, or None when the step
has nothing of the kind.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from rramhil.report import style
from rramhil.report.contents import Arrays
from rramhil.report.markup import Child, Element, element, number, table
from rramhil.report.summary import NOTHING, count, percent
from rramhil.units import show

_HEAD = (
    "Rung", "Memory (bits)", "Images", "Pulses", "Device time", "Predicted", "… lower end",
    "Reached", "… lower end", "Pulses paid", "Device time paid",
)  # fmt: skip


def ladder_table(arrays: Arrays) -> Element | None:
    """The rungs from cheap to expensive: price, prediction, what came of it, what was paid."""
    ladder = _ladder(arrays)
    if ladder is None:
        return None
    note = (
        f"The lower end of the confidence interval had to reach {percent(ladder['wanted'], 2)} on "
        "the validation images. Prices are what a rung should cost; a rung without a prediction "
        "was not asked, because a cheaper one did. Reached is from a fresh reading."
    )
    rows = [_line(row) for row in ladder["rungs"]]
    return element("div", table(_HEAD, rows), element("p", note, class_="note"))


def _line(row: dict[str, Any]) -> list[Child]:
    price, paid = row["price"], row["paid"]
    name = element("strong", f"{row['name']} (kept)") if row["kept"] else row["name"]
    return [
        name,
        number(price["memory_bits"], count(price["memory_bits"])),
        number(price["images"], count(price["images"])),
        number(price["pulses"], count(price["pulses"])),
        number(price["device_seconds"], show(price["device_seconds"], "s")),
        *_ends(row["predicted"]),
        *_ends(row["reached"]),
        NOTHING if paid is None else number(paid["pulses"], count(paid["pulses"])),
        NOTHING
        if paid is None
        else number(paid["device_seconds"], show(paid["device_seconds"], "s")),
    ]


def _ends(seen: list[float] | None) -> list[Child]:
    if seen is None:
        return [NOTHING, NOTHING]
    return [number(value, percent(value, 2)) for value in seen]


def accuracy_against_price(arrays: Arrays) -> Figure | None:
    """Predicted and reached validation accuracy of each rung, rungs from cheap to expensive."""
    ladder = _ladder(arrays)
    rungs = [] if ladder is None else [r for r in ladder["rungs"] if r["predicted"] or r["reached"]]
    if ladder is None or not rungs:
        return None
    figure, axes = style.one_panel(6.4, 1.4 + 0.42 * len(rungs))
    _points(axes, rungs, "predicted", 0.12, style.REPAIRS[0])
    _points(axes, rungs, "reached", -0.12, style.REPAIRS[1])
    wanted = 100 * ladder["wanted"]
    axes.axvline(wanted, color=style.INK, ls=":", lw=1.3, label="target")
    axes.set_yticks(range(len(rungs)), [_label(row) for row in rungs])
    axes.set_ylim(len(rungs) - 0.5, -0.5)
    lows = [
        end for row in rungs for seen in (row["predicted"], row["reached"]) for end in seen or ()
    ]
    axes.set_xlim(left=max(min(100 * min(lows), wanted) - 2, 0), right=101)
    axes.xaxis.set_major_formatter(style.percent_ticks())
    axes.set_xlabel("validation accuracy")
    axes.grid(axis="x")
    figure.legend(loc="outside lower center", ncols=3)
    axes.set_title("The ladder, from cheap to expensive")
    return figure


def _points(axes: Axes, rungs: list[dict[str, Any]], what: str, shift: float, colour: str) -> None:
    """A point for each accuracy with a line to its lower end; hollow where it is a prediction."""
    seen = [(place + shift, row[what]) for place, row in enumerate(rungs) if row[what]]
    if not seen:
        return
    places = [place for place, _ in seen]
    accuracy, low = 100 * np.array([ends for _, ends in seen]).T
    axes.hlines(places, low, accuracy, color=colour, lw=1.2)
    face = "none" if what == "predicted" else colour
    label = f"{what}, and its lower end"
    axes.plot(accuracy, places, "o", ms=6, color=colour, mfc=face, label=label)


def _label(row: dict[str, Any]) -> str:
    price = row["paid"] or row["price"]
    pulses = f", {count(price['pulses'])} pulses" if price["pulses"] else ""
    return f"{row['name']}\n{count(price['memory_bits'])} bits{pulses}"


def accuracy_over_time(arrays: Arrays) -> Figure | None:
    """Test accuracy at the times of after-care, with and without recalibration (logarithmic)."""
    lines = {
        "accuracy_with": ("with recalibration", style.REPAIRS[1], "-"),
        "accuracy_without": ("without", style.OPEN_LOOP, "--"),
    }
    if not {"seconds", "recalibrated", *lines} <= set(arrays) or not arrays["seconds"].size:
        return None
    seconds, done = arrays["seconds"], arrays["recalibrated"].astype(bool)
    figure, axes = style.one_panel()
    for key, (label, colour, dashes) in lines.items():
        axes.plot(seconds, 100 * arrays[key], dashes, color=colour, marker="o", ms=4, label=label)
    at = 100 * arrays["accuracy_with"][done]
    axes.plot(
        seconds[done], at, "^", ms=9, color=style.REPAIRS[1], mfc="none", label="recalibrated"
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(style.si("s"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share / 100)))
    axes.margins(y=0.2)
    axes.set_xlabel("time since the step began")
    axes.set_ylabel("test accuracy")
    axes.grid()
    axes.legend()
    axes.set_title("Accuracy over time")
    return figure


def _ladder(arrays: Arrays) -> dict[str, Any] | None:
    if "ladder" not in arrays:
        return None
    stored: dict[str, Any] = json.loads(str(np.asarray(arrays["ladder"])))
    return stored
