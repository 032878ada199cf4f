"""Draw the pictures of README and docs from a finished run: make_pictures.py RUN.

rramhil run && python scripts/make_pictures.py last
"""

from __future__ import annotations

import sys
from pathlib import Path

from rramhil.job.folder import RunFolder
from rramhil.report.cells import layout_of, states_of
from rramhil.report.contents import read_contents
from rramhil.report.figures_levels import level_histograms
from rramhil.report.figures_maps import conductance_maps
from rramhil.report.style import house_style

IMAGES = Path(__file__).parent.parent / "docs" / "images"


def main(run: str) -> None:
    """Write docs/images/cells.png and levels.png from the arrays of `run`."""
    contents = read_contents(RunFolder.find(run).path)
    layout = layout_of(contents)
    if layout is None:
        sys.exit(f"error: the run {run} has no mapped cells; run the quickstart first")
    states = states_of(contents, layout)
    IMAGES.mkdir(exist_ok=True)
    with house_style():
        pictures = {
            "cells": conductance_maps(int(layout.tile[0]), layout, states),
            "levels": level_histograms(layout, states),
        }
        for name, figure in pictures.items():
            figure.savefig(IMAGES / f"{name}.png", dpi=110, bbox_inches="tight", facecolor="white")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "last")
