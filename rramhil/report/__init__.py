"""The report of a run: pictures and tables, from the run's folder alone.

`summary_table` is cheap and imports no plotting; `build` imports matplotlib when it is called.
"""

from __future__ import annotations

from pathlib import Path

from rramhil.report.summary import HEADINGS, SummaryRow, summary_table, title_of

__all__ = ["HEADINGS", "SummaryRow", "build", "summary_table", "title_of"]


def build(folder: Path) -> Path:
    """Write `report.html` into a run's `folder` and return its path.

    Reads nothing outside `folder`. What the run does not have (no scan, no repair, stopped
    half-way, a damaged array file) is left out and said. Raises `FileError` when there is no
    readable `result.json`.
    """
    from rramhil.report.page import write_page

    return write_page(folder)
