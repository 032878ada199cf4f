"""Distributions of the mapped cells: measured against target, and level by level."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from rramhil.report import style
from rramhil.report.cells import Floats, Layout, State, top_of_scale

_BINS = 90


def target_against_measured(layout: Layout, states: list[State]) -> Figure:
    """A two-dimensional histogram a state: target across, measured upwards, cells as colour."""
    top = top_of_scale(layout, states)
    across = _target_bins(layout)
    upwards = np.linspace(0, top, 81)
    figure, all_axes = style.panels(1, len(states), 3.5 * len(states) + 1.3, 3.7)
    counts = [_counts(layout, state, across, upwards) for state in states]
    most = max(float(c.max()) for c in counts)
    norm = LogNorm(1, max(most, 2))
    for axes, state, cells in zip(all_axes, states, counts, strict=True):
        shown = np.ma.masked_equal(cells.T, 0)
        image = axes.pcolormesh(
            across, upwards, shown, cmap=style.conductance_colours(), norm=norm, rasterized=True
        )
        ends = (across[0], across[-1])
        axes.plot(ends, ends, color=style.OPEN_LOOP, lw=1.2, label="measured = target")
        axes.set_title(state.title, weight="normal", size=10, pad=5)
        axes.xaxis.set_major_formatter(style.si("S"))
        axes.yaxis.set_major_formatter(style.si("S"))
        axes.set_xlim(across[0], across[-1])
        axes.set_ylim(0, top)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("target conductance")
        axes.grid()
    all_axes[0].set_ylabel("measured conductance")
    figure.legend(*all_axes[0].get_legend_handles_labels(), loc="outside lower center")
    bar = figure.colorbar(image, ax=all_axes, label="cells", fraction=0.05, pad=0.015, aspect=24)
    bar.ax.yaxis.set_major_formatter(style.grouped_thousands())
    bar.outline.set_visible(False)
    figure.suptitle("Target against measured", x=0.01, ha="left", weight="bold", size=11)
    return figure


def _target_bins(layout: Layout) -> Floats:
    """Edges half-way between the levels, or 64 even ones where there are many levels."""
    levels = np.sort(layout.levels)
    if levels.size < 2 or levels.size > 64:
        return np.linspace(0, 1.05 * float(levels.max()), 65)
    middle = (levels[1:] + levels[:-1]) / 2
    first, last = 2 * levels[0] - middle[0], 2 * levels[-1] - middle[-1]
    return np.concatenate([[first], middle, [last]])


def _counts(layout: Layout, state: State, across: Floats, upwards: Floats) -> Floats:
    good = np.isfinite(state.siemens)
    measured = np.clip(state.siemens[good], 0, upwards[-1])
    counts, _, _ = np.histogram2d(layout.target[good], measured, bins=(across, upwards))
    return np.asarray(counts, dtype=np.float64)


def level_histograms(layout: Layout, states: list[State]) -> Figure:
    """One histogram a level, as a share of the level's cells; windows shaded; a panel a state."""
    top = top_of_scale(layout, states)
    edges = np.linspace(0, top, _BINS + 1)
    figure, all_axes = style.panels(len(states), 1, 7.4, 1.9 * len(states) + 1.1)
    present = np.unique(layout.level)
    shades = mpl.colormaps["viridis"](np.linspace(0.15, 0.88, present.size))
    for axes, state in zip(all_axes, states, strict=True):
        for level, shade in zip(present, shades, strict=True):
            _one_level(axes, layout, state, int(level), shade, edges)
        axes.set_title(state.title, weight="normal", size=10, pad=5)
        axes.set_ylabel("cells of the level")
        axes.yaxis.set_major_formatter(style.percent_ticks())
        axes.set_xlim(0, top)
    all_axes[0].set_ylim(bottom=0)
    all_axes[-1].set_xlabel("conductance (shaded: the windows)")
    all_axes[-1].xaxis.set_major_formatter(style.si("S"))
    figure.suptitle("Levels and their windows", x=0.01, ha="left", weight="bold", size=11)
    return figure


def _one_level(
    axes: Axes, layout: Layout, state: State, level: int, shade: Floats, edges: Floats
) -> None:
    here = layout.level == level
    low, high = float(np.median(layout.low[here])), float(np.median(layout.high[here]))
    axes.axvspan(low, high, color=style.WINDOW, alpha=0.22, lw=0)
    values = state.siemens[here]
    values = np.clip(values[np.isfinite(values)], 0, edges[-1])
    counts, _ = np.histogram(values, bins=edges)
    share = 100 * counts / max(int(here.sum()), 1)
    axes.stairs(share, edges, color=shade, fill=True, alpha=0.55, lw=0)
    axes.stairs(share, edges, color=shade, lw=0.9)
