"""Maps of tiles: conductance wanted and read, its error, and the cells that cannot be written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from rramhil.job.result import DeviceInfo
from rramhil.report import style
from rramhil.report.cells import Floats, Layout, State, places
from rramhil.report.contents import Arrays
from rramhil.report.summary import count

TILES_SHOWN = 4
_CELLS_SHOWN = 150_000  # keeps the page near three megabytes
FAULT_NAMES = tuple(style.FAULTS)


@dataclass(frozen=True, slots=True)
class _Box:
    """The rows and columns of a tile that hold mapped cells."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.bottom - self.top + 1, self.right - self.left + 1

    @property
    def extent(self) -> tuple[float, float, float, float]:
        return self.left - 0.5, self.right + 0.5, self.bottom + 0.5, self.top - 0.5


def busiest_tiles(tiles: NDArray[np.int64]) -> list[int]:
    """The tiles that are drawn, in order: those with the most cells, as the page has room."""
    names, counts = np.unique(tiles, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:TILES_SHOWN]
    room = np.cumsum(counts[order]) <= _CELLS_SHOWN
    room[:1] = True
    return sorted(int(tile) for tile in names[order[room]])


def conductance_maps(tile: int, layout: Layout, states: list[State]) -> Figure:
    """Target, then each state, on one colour scale; cells without an answer stay blank."""
    top = float(layout.high.max())
    pictures = [("Target", layout.target), *((s.title, s.siemens) for s in states)]
    clipped = [(title, np.clip(values, 0, top)) for title, values in pictures]
    figure = _maps(
        tile, layout, clipped, style.conductance_colours(), (0, top), "conductance", "max"
    )
    figure.suptitle(f"Conductance, tile {tile}", x=0.01, ha="left", weight="bold", size=11)
    return figure


def error_maps(tile: int, layout: Layout, states: list[State]) -> Figure:
    """Measured minus target of each state, on one signed colour scale."""
    errors = [(s.title, s.siemens - layout.target) for s in states]
    first = errors[0][1]
    finite = np.abs(first[np.isfinite(first)])
    span = float(np.percentile(finite, 98)) if finite.size and finite.any() else 1e-6
    clipped = [(title, np.clip(values, -span, span)) for title, values in errors]
    label = "measured − target"
    figure = _maps(tile, layout, clipped, style.error_colours(), (-span, span), label, "both")
    figure.suptitle(f"Error, tile {tile}", x=0.01, ha="left", weight="bold", size=11)
    return figure


def _maps(
    tile: int,
    layout: Layout,
    pictures: list[tuple[str, Floats]],
    colours: Colormap,
    limits: tuple[float, float],
    label: str,
    extend: Literal["max", "both"],
) -> Figure:
    box = _box(layout, tile)
    wide = box.shape[1] > 1.6 * box.shape[0]
    figure, all_axes = _grid(len(pictures), box, wide)
    for axes, (title, values) in zip(all_axes, pictures, strict=True):
        image = axes.imshow(
            _raster(layout, tile, box, values), cmap=colours, vmin=limits[0], vmax=limits[1],
            extent=box.extent, interpolation="none", aspect="equal",
        )  # fmt: skip
        axes.set_facecolor(style.GRID)
        axes.set_title(title, weight="normal", size=10, pad=5)
        for spine in axes.spines.values():
            spine.set_visible(True)
    for axes in all_axes[-1:] if wide else all_axes:
        axes.set_xlabel("column (BL)")
    for axes in all_axes if wide else all_axes[:1]:
        axes.set_ylabel("row (WL)")
    bar = figure.colorbar(
        image, ax=all_axes, label=label, fraction=0.05, pad=0.015, aspect=24, extend=extend
    )
    bar.ax.yaxis.set_major_formatter(style.si("S"))
    bar.outline.set_visible(False)
    return figure


def _grid(count: int, box: _Box, wide: bool) -> tuple[Figure, list[Axes]]:
    """Panels side by side, or one above the other where the box is much wider than high."""
    rows, columns = box.shape
    if wide:
        height = min(max(5.6 * rows / columns, 0.7), 3.2) + 0.75
        return style.panels(count, 1, 7.4, count * height + 0.5, "compressed")
    width = min(max(3.0 * columns / rows, 1.0), 3.0)
    height = width * rows / columns + 1.25
    return style.panels(1, count, count * (width + 0.35) + 1.5, height, "compressed")


def _box(layout: Layout, tile: int) -> _Box:
    here = layout.tile == tile
    row, col = layout.row[here], layout.col[here]
    return _Box(int(row.min()), int(row.max()), int(col.min()), int(col.max()))


def _raster(layout: Layout, tile: int, box: _Box, values: Floats) -> Floats:
    here = layout.tile == tile
    raster = np.full(box.shape, np.nan)
    raster[layout.row[here] - box.top, layout.col[here] - box.left] = values[here]
    return raster


# --------------------------------------------------------------------------- faults


def fault_masks(arrays: Arrays) -> dict[str, NDArray[np.bool_]]:
    """The classes of a census that a run holds: name to one bool for each scanned cell."""
    count = arrays["cells"].shape if "cells" in arrays else None
    return {
        name: arrays[name].astype(bool)
        for name in FAULT_NAMES
        if name in arrays and arrays[name].shape == count
    }


def bad_rows(arrays: Arrays) -> list[tuple[int, int]]:
    """(tile, row) of the rows that the census calls bad."""
    rows = arrays.get("bad_rows", np.zeros((0, 2), np.int64))
    return [(int(tile), int(row)) for tile, row in rows.reshape(-1, 2)]


def fault_map(arrays: Arrays, device: DeviceInfo, layout: Layout | None) -> Figure | None:
    """Stuck, unreadable and noisy cells by place; bad rows marked; the mapped area shaded."""
    masks = fault_masks(arrays)
    if not masks:
        return None
    tile, row, col = places(arrays["cells"], device)
    shown = sorted(int(number) for number in np.unique(tile)[:TILES_SHOWN])
    columns = min(len(shown), 2)
    lines = -(-len(shown) // columns)
    figure, all_axes = style.panels(
        lines, columns, 3.7 * columns + 0.6, 3.6 * lines + 1.0, "compressed"
    )
    for axes, number in zip(all_axes, shown, strict=False):
        _shade_mapped(axes, layout, number, device)
        for name, mask in reversed(masks.items()):
            if not mask.any():
                continue
            here = mask & (tile == number)
            colour, marker = style.FAULTS[name]
            edges = {"linewidths": 0.8} if marker == "x" else {"linewidths": 0}
            label = f"{name} ({count(int(mask.sum()))})" if number == shown[0] else None
            axes.scatter(
                col[here], row[here], s=9, c=colour, marker=marker, label=label, rasterized=
                int(here.sum()) > 400, **edges,
            )  # fmt: skip
        _finish_fault_axes(axes, number, device)
    for axes in all_axes[len(shown) :]:
        axes.set_visible(False)
    _mark_bad_rows(all_axes, shown, bad_rows(arrays), device)
    legend = figure.legend(loc="outside lower center", ncols=3, markerscale=1.6)
    legend.set_in_layout(True)
    figure.suptitle("Census of the cells", x=0.01, ha="left", weight="bold", size=11)
    return figure


def _shade_mapped(axes: Axes, layout: Layout | None, tile: int, device: DeviceInfo) -> None:
    """The mapped cells one by one: word lines that were spared stay white between them."""
    if layout is None or not (here := layout.tile == tile).any():
        return
    mask = np.full((device.rows, device.cols), np.nan)
    mask[layout.row[here], layout.col[here]] = 0.0
    axes.imshow(mask, cmap=ListedColormap([style.GRID]), interpolation="none", zorder=0)
    if tile == layout.tile.min():
        patch = Rectangle((0, 0), 0, 0, fc=style.GRID, ec=style.MUTED, lw=0.6)
        patch.set_label("mapped cells")
        axes.add_patch(patch)


def _finish_fault_axes(axes: Axes, tile: int, device: DeviceInfo) -> None:
    axes.set_aspect("equal")
    axes.set_xlim(-0.04 * device.cols, device.cols)
    axes.set_ylim(device.rows, -0.5)
    for spine in axes.spines.values():
        spine.set_visible(True)
    axes.set_title(f"tile {tile}", weight="normal", size=10, pad=5)
    axes.set_xlabel("column (BL)")
    axes.set_ylabel("row (WL)")
    axes.label_outer()


def _mark_bad_rows(
    all_axes: list[Axes], shown: list[int], rows: list[tuple[int, int]], device: DeviceInfo
) -> None:
    label: str | None = f"bad row ({len(rows)})"
    for axes, tile in zip(all_axes, shown, strict=False):
        mine = [row for t, row in rows if t == tile]
        if mine:
            left = np.full(len(mine), -0.025 * device.cols)
            axes.scatter(left, mine, s=16, c=style.INK, marker=">", lw=0, label=label)
            label = None
