"""Pictures of the ways to a working network: accuracy, price, convergence, learning, gate curve.

Each function takes what it draws and returns a figure, or None when there is nothing to draw.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rramhil.job.result import Interval, RunResult, StepResult
from rramhil.report import style
from rramhil.report.contents import Arrays, Contents
from rramhil.report.summary import SummaryRow, count, percent, summary_table, title_of

_REFERENCES = (("teacher", "-."), ("ideal_mapping", ":"))


def _ways(result: RunResult) -> list[SummaryRow]:
    rows = summary_table(result)
    return [row for row in rows if row.cost is not None or row.name not in dict(_REFERENCES)]


def colours_of(result: RunResult) -> dict[str, str]:
    """The colour of each way of a run."""
    return style.way_colours([row.name for row in _ways(result)])


def accuracy_bars(result: RunResult) -> Figure | None:
    """A bar a way with its 95 % Wilson interval; teacher and ideal mapping as lines."""
    rows = [row for row in _ways(result) if row.accuracy is not None]
    references = [r for r in summary_table(result) if r.name in dict(_REFERENCES) and r.accuracy]
    if not rows and not references:
        return None
    colours = colours_of(result)
    figure, axes = style.one_panel()
    for place, row in enumerate(rows):
        _bar(axes, place, row, colours[row.name])
    for row in references:
        label = f"{title_of(row.name)} {percent(row.accuracy)}"
        dashes = dict(_REFERENCES)[row.name]
        axes.axhline(100 * (row.accuracy or 0), color=style.INK, ls=dashes, lw=1.3, label=label)
    axes.set_xticks(range(len(rows)), [row.title for row in rows])
    axes.set_xlim(-0.6, max(len(rows), 1) - 0.4)
    axes.set_ylim(0, 112)
    axes.set_yticks(range(0, 101, 20))
    axes.yaxis.set_major_formatter(style.percent_ticks())
    axes.set_ylabel("test accuracy")
    axes.grid(axis="y")
    axes.tick_params(axis="x", length=0)
    if references:
        figure.legend(loc="outside lower center", ncols=2)
    axes.set_title("Accuracy from readback")
    return figure


def _bar(axes: Axes, place: int, row: SummaryRow, colour: str) -> None:
    height = 100 * (row.accuracy or 0)
    axes.bar(place, height, width=0.56, color=colour)
    if row.interval is not None:
        _interval(axes, (place, height), row.interval, style.INK)
    axes.annotate(
        percent(row.accuracy), (place, 102.5), ha="center", va="bottom", weight="bold", size=10
    )


def _interval(axes: Axes, place: tuple[float, float], interval: Interval, colour: str) -> None:
    ends = (place[1] - 100 * interval.low, 100 * interval.high - place[1])
    whiskers = np.maximum(np.array(ends), 0).reshape(2, 1)
    axes.errorbar(*place, yerr=whiskers, color=colour, capsize=4, lw=1.2)


def accuracy_against_cost(result: RunResult) -> Figure | None:
    """Test accuracy against the device time of each way (logarithmic)."""
    places = {
        row.name: (row.cost.device_seconds, 100 * row.accuracy)
        for row in _ways(result)
        if row.accuracy is not None and row.cost is not None and row.cost.device_seconds > 0
    }
    if len(places) < 2:
        return None
    colours = colours_of(result)
    figure, axes = style.one_panel()
    for row in _ways(result):
        if row.name not in places:
            continue
        place = places[row.name]
        if row.interval is not None:
            _interval(axes, place, row.interval, colours[row.name])
        axes.plot(*place, "o", ms=9, color=colours[row.name])
        axes.annotate(
            row.title,
            place,
            xytext=(10, 0),
            textcoords="offset points",
            weight="bold",
            va="center",
            bbox={"fc": style.PAPER, "ec": "none", "pad": 1.2},
        )
    ideal = result.accuracy.ideal_mapping
    if ideal is not None:
        label = f"{title_of('ideal_mapping')} {percent(ideal)}"
        axes.axhline(100 * ideal, color=style.INK, ls=":", lw=1.3, label=label)
        figure.legend(loc="outside lower center")
    times = [seconds for seconds, _ in places.values()]
    axes.set_xscale("log")
    axes.set_xlim(10 ** np.floor(np.log10(min(times) / 2)), 10 ** np.ceil(np.log10(max(times) * 3)))
    axes.xaxis.set_major_formatter(style.si("s"))
    style.plain_log(axes, "x")
    axes.yaxis.set_major_formatter(style.percent_ticks())
    axes.margins(y=0.15)
    axes.set_xlabel("device time of this way alone")
    axes.set_ylabel("test accuracy")
    axes.grid()
    axes.set_title("Accuracy against device time")
    return figure


def convergence(contents: Contents) -> Figure | None:
    """Cells that the next round will pulse, round by round (logarithmic).

    A line that starts again is a further pass over the cells that have left their window.
    """
    curves = {
        step.name: arrays
        for step in contents.result.steps
        if step.do in ("program", "recover")
        and (arrays := contents.arrays.get(step.index, {}))
        and _has_rounds(arrays)
    }
    if not curves:
        return None
    colours = colours_of(contents.result)
    figure, axes = style.one_panel()
    for name, arrays in curves.items():
        left = arrays["open_cells"].astype(np.float64)
        drawn = np.where(left > 0, left, np.nan)
        colour = colours.get(name, style.OPEN_LOOP)
        axes.plot(np.arange(left.size), drawn, color=colour, label=title_of(name))
        _mark_end(axes, left, arrays.get("given_up"), colour)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(style.grouped_thousands())
    style.plain_log(axes, "y")
    axes.set_ylim(bottom=0.8)
    axes.set_xlim(left=0)
    axes.set_xlabel("round of read-verify-write")
    axes.set_ylabel("cells still to be written")
    axes.grid()
    if len(curves) > 1:
        axes.legend()
    axes.set_title("Cells left per round")
    return figure


def _has_rounds(arrays: Arrays) -> bool:
    return "open_cells" in arrays and arrays["open_cells"].size > 1


def _mark_end(
    axes: Axes, left: NDArray[np.float64], given_up: NDArray[np.generic] | None, colour: str
) -> None:
    """What the end means: a cell that used up its pulses is not written any more."""
    last = int(np.flatnonzero(left > 0)[-1]) if (left > 0).any() else 0
    parts = [f"{count(int(left[-1]))} left"] if left[-1] > 0 else []
    if given_up is not None:
        parts.append(f"{count(int(np.count_nonzero(given_up)))} given up")
    note = ", ".join(parts) or "none left"
    place = (last, max(left[last], 1))
    axes.plot(*place, "o", ms=5, color=colour)
    axes.annotate(
        f"{note} after {left.size - 1} rounds", place, xytext=(0, -11), ha="right", va="top",
        textcoords="offset points", size=9,
    )  # fmt: skip


def learning_curve(step: StepResult, arrays: Arrays) -> Figure | None:
    """Loss, and accuracy on the validation (and training) images, epoch by epoch.

    The step's finding `best_epoch` is the epoch whose parameters were kept.
    """
    if not {"epoch", "loss"} <= set(arrays) or arrays["epoch"].size == 0:
        return None
    epoch = arrays["epoch"]
    figure, axes = style.one_panel()
    axes.plot(epoch, arrays["loss"], color=style.MUTED, ls="--", label="training loss")
    axes.set_ylabel("training loss")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epoch")
    _accuracies(axes, epoch, arrays)
    axes.grid(axis="x")
    kept = step.findings.get("best_epoch")
    if isinstance(kept, int):
        axes.axvline(kept, color=style.INK, lw=1, ls=":", label=f"kept: epoch {kept}")
    figure.legend(loc="outside lower center", ncols=2)
    axes.set_title(f"{title_of(step.name)}: learning curve")
    return figure


def _accuracies(
    axes: Axes, epoch: NDArray[np.generic], arrays: Mapping[str, NDArray[np.generic]]
) -> None:
    lines = {
        "validation_accuracy": ("validation accuracy", style.REPAIRS[0]),
        "train_accuracy": ("training accuracy", style.REPAIRS[3]),
    }
    present = {key: value for key, value in lines.items() if key in arrays}
    if not present:
        return
    right = axes.twinx()
    right.spines["right"].set_visible(True)
    for key, (label, colour) in present.items():
        right.plot(epoch, 100 * arrays[key].astype(np.float64), color=colour, label=label)
    right.yaxis.set_major_formatter(style.percent_ticks())
    right.set_ylabel("accuracy")


def gate_curve(arrays: Arrays, levels: NDArray[np.float64] | None) -> Figure | None:
    """Median conductance against the gate voltage of the SET, and each level's gate voltage."""
    if not {"gate_volts", "siemens"} <= set(arrays) or arrays["gate_volts"].size == 0:
        return None
    gates, siemens = arrays["gate_volts"], arrays["siemens"].astype(np.float64)
    spread = arrays.get("spread_siemens", np.zeros_like(siemens))
    figure, axes = style.one_panel()
    axes.fill_between(
        gates, np.maximum(siemens - spread, 0), siemens + spread, color=style.REPAIRS[0],
        alpha=0.22, lw=0, label="± 1 robust standard deviation",
    )  # fmt: skip
    axes.plot(gates, siemens, color=style.REPAIRS[0], label="median of the sample")
    if levels is not None and levels.size:
        nominal = np.interp(levels, siemens, gates, left=np.nan, right=np.nan)
        axes.plot(nominal, levels, "o", ms=5, color=style.OPEN_LOOP, label="levels")
    axes.xaxis.set_major_formatter(style.si("V"))
    axes.yaxis.set_major_formatter(style.si("S"))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("gate voltage of the SET pulse")
    axes.set_ylabel("conductance")
    axes.grid()
    axes.legend(loc="upper left")
    axes.set_title("Gate curve of this die")
    return figure
