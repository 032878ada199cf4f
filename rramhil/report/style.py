"""How every picture looks: colours, type, sizes, and how a figure becomes an SVG.

Colours of the ways are those of Okabe and Ito (jfly.uni-koeln.de/color, 2008), which people
with any of the common colour deficiencies tell apart; conductance is drawn in viridis, signed
errors in a blue-to-red scale whose middle is white. Pictures are drawn for a light page; a
style sheet inside each SVG replaces the few colours of ink and paper on a dark one, so that a
program that ignores it still shows the light version.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, NullFormatter, PercentFormatter

INK, MUTED, GRID, PAPER = "#1f2328", "#5c6570", "#dde1e6", "#ffffff"
OPEN_LOOP = "#d55e00"
REPAIRS = ("#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
WINDOW = "#56b4e9"
FAULTS = {
    "stuck_lrs": ("#d55e00", "s"),
    "stuck_hrs": ("#0072b2", "o"),
    "unreadable": ("#1f2328", "x"),
    "noisy": ("#cc79a7", "^"),
}
_DARK = {INK: "#e8eaed", MUTED: "#a9b1bb", GRID: "#3a404a", PAPER: "#181b20",
         "#0072b2": "#4aa3e0", "#009e73": "#2cc295"}  # fmt: skip
_FONTS = "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
_SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "svg.hashsalt": "rramhil",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in the style of the report; the settings of the caller come back afterwards."""
    with mpl.rc_context(_SETTINGS):
        yield


def conductance_colours() -> Colormap:
    """Viridis in 64 steps (small files), transparent where there is no cell."""
    return _stepped("viridis", 64)


def error_colours() -> Colormap:
    """Blue below the target, red above it, in 33 steps (the middle one is none of both)."""
    return _stepped("RdBu_r", 33)


def _stepped(name: str, steps: int) -> Colormap:
    colours = ListedColormap(mpl.colormaps[name](np.linspace(0, 1, steps)))
    return colours.with_extremes(bad=(0, 0, 0, 0))


def one_panel(width: float = 4.8, height: float = 3.5) -> tuple[Figure, Axes]:
    """A figure with one pair of axes, inches."""
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()


def panels(
    rows: int,
    columns: int,
    width: float,
    height: float,
    layout: Literal["constrained", "compressed"] = "constrained",
) -> tuple[Figure, list[Axes]]:
    """A figure of `rows` x `columns` axes in reading order, which share both scales; inches.

    `layout` "compressed" keeps axes of a fixed aspect ratio close together.
    """
    figure = Figure(figsize=(width, height), layout=layout)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    return figure, list(axes.flat)


def way_colours(names: Sequence[str]) -> dict[str, str]:
    """One colour a way, the same in every picture: open loop, then the repairs in order."""
    repairs = [name for name in names if name != "open_loop"]
    colours = {name: REPAIRS[i % len(REPAIRS)] for i, name in enumerate(repairs)}
    return {"open_loop": OPEN_LOOP, **colours}


def si(unit: str) -> EngFormatter:
    """Ticks with SI prefixes: 40 µS, 100 ms."""
    return EngFormatter(unit=unit, sep="\N{NO-BREAK SPACE}", places=None)


def grouped_thousands() -> FuncFormatter:
    """Ticks such as 1, 10, 10 000; for logarithmic axes of counts."""
    return FuncFormatter(lambda value, _: f"{value:,.0f}".replace(",", "\N{THIN SPACE}"))


def percent_ticks() -> PercentFormatter:
    """Ticks such as 96 %, of values that are percent already."""
    return PercentFormatter(decimals=0, symbol="\N{NO-BREAK SPACE}%")


def plain_log(axes: Axes, which: str) -> None:
    """Label the decades of a logarithmic axis only."""
    (axes.xaxis if which == "x" else axes.yaxis).set_minor_formatter(NullFormatter())


def to_svg(figure: Figure) -> str:
    """The figure as a stand-alone SVG that follows the reader's light or dark setting."""
    out = io.BytesIO()
    FigureCanvasSVG(figure)
    with house_style():
        figure.savefig(out, format="svg", dpi=200, metadata={"Date": None, "Creator": None})
    text = out.getvalue().decode("utf-8")
    text = text[text.index("<svg") :].replace("'DejaVu Sans'", _FONTS)
    head = text.index(">") + 1
    return text[:head] + _dark_sheet() + text[head:]


def _dark_sheet() -> str:
    rules = "".join(
        f'[style*="{part}: {light}"]{{{part}:{dark} !important}}'
        for light, dark in _DARK.items()
        for part in ("fill", "stroke")
    )
    return f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>"
