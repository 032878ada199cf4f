"""The mapped cells of a run: where they lie, what they were meant to be, what was read. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rramhil.job.result import DeviceInfo
from rramhil.report.contents import Arrays, Contents

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """One entry for each mapped cell: place, target and window in siemens, level, layer."""

    tile: Ints
    row: Ints
    col: Ints
    target: Floats
    low: Floats
    high: Floats
    level: Ints
    levels: Floats
    layer: Ints
    layer_names: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of mapped cells."""
        return int(self.target.size)


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Conductances of the mapped cells at one moment; `way` colours it."""

    title: str
    way: str
    siemens: Floats


@dataclass(frozen=True, slots=True, eq=False)
class LevelYield:
    """How the cells of one level sit in their windows, by one independent reading."""

    level: int
    target: float
    cells: int
    inside: int
    median: float
    rms_error: float


def layout_of(contents: Contents) -> Layout | None:
    """The mapping of a run, or None when it was not written (or lacks an array)."""
    stored = contents.layout
    wanted = ("cells", "target", "low", "high", "level", "levels")
    device = contents.result.device
    if device is None or any(n not in stored for n in wanted) or stored["cells"].size == 0:
        return None
    tile, row, col = places(stored["cells"], device)
    count = stored["cells"].size
    names = stored.get("layer_names", np.empty(0, dtype=str))
    return Layout(
        tile=tile,
        row=row,
        col=col,
        target=stored["target"].astype(np.float64),
        low=stored["low"].astype(np.float64),
        high=stored["high"].astype(np.float64),
        level=stored["level"].astype(np.int64),
        levels=stored["levels"].astype(np.float64),
        layer=stored.get("layer", np.zeros(count)).astype(np.int64),
        layer_names=tuple(str(name) for name in names),
    )


def places(cells: NDArray[np.generic], device: DeviceInfo) -> tuple[Ints, Ints, Ints]:
    """(tile, row, column) of flat, row-major cell indices."""
    flat = cells.astype(np.int64)
    per_tile = device.rows * device.cols
    return flat // per_tile, flat % per_tile // device.cols, flat % device.cols


def states_of(contents: Contents, layout: Layout) -> list[State]:
    """The array as first programmed, then after each repair that rewrote cells."""
    found = list(_programmed(contents, layout))[:1] or list(_read_before(contents, layout))[:1]
    for step, arrays in contents.steps_doing("recover"):
        if "open_cells" in arrays and _fits(arrays, "siemens", layout):
            values = arrays["siemens"].astype(np.float64)
            found.append(State(f"After {step.name.replace('rvw', 'R-V-W')}", step.name, values))
    return found


def _programmed(contents: Contents, layout: Layout) -> Iterator[State]:
    for _, arrays in contents.steps_doing("program"):
        if _fits(arrays, "siemens", layout):
            yield State("As programmed", "open_loop", arrays["siemens"].astype(np.float64))


def _read_before(contents: Contents, layout: Layout) -> Iterator[State]:
    for what, key in (("evaluate", "siemens"), ("recover", "siemens_before")):
        for _, arrays in contents.steps_doing(what):
            if _fits(arrays, key, layout):
                yield State("As programmed", "open_loop", arrays[key].astype(np.float64))


def _fits(arrays: Arrays, key: str, layout: Layout) -> bool:
    return key in arrays and arrays[key].shape == (layout.count,)


def level_yields(layout: Layout, siemens: Floats) -> list[LevelYield]:
    """Yield, median and error of each level that has cells; unreadable cells are outside."""
    good = np.isfinite(siemens)
    inside = good & (siemens >= layout.low) & (siemens <= layout.high)
    found = []
    for level in np.unique(layout.level):
        here = layout.level == level
        values = siemens[here & good]
        error = values - layout.target[here & good]
        found.append(
            LevelYield(
                level=int(level),
                target=float(np.median(layout.target[here])),
                cells=int(here.sum()),
                inside=int((inside & here).sum()),
                median=float(np.median(values)) if values.size else float("nan"),
                rms_error=float(np.sqrt(np.mean(error**2))) if values.size else float("nan"),
            )
        )
    return found


def top_of_scale(layout: Layout, states: list[State]) -> float:
    """Siemens where axes of conductance end: the highest reading, within reason."""
    read = [float(s.siemens[np.isfinite(s.siemens)].max(initial=0)) for s in states]
    highest = float(layout.high.max())
    return min(max([1.05 * highest, *read]), 1.4 * highest)
