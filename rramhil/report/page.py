"""The page: which pictures and tables a run has, in what order, in one file."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from rramhil.report import figures_levels, figures_maps, figures_ways, ladder, tables
from rramhil.report.cells import Layout, State, layout_of, states_of
from rramhil.report.contents import Arrays, Contents, read_contents
from rramhil.report.estimates import HEAD, estimate_lines
from rramhil.report.headline import headline, outcome, title
from rramhil.report.markup import Child, Element, element, folded, picture, table, to_html
from rramhil.report.sheet import SHEET
from rramhil.report.style import house_style, to_svg
from rramhil.report.summary import count, percent, points, summary_table

NAME = "report.html"
_MOST_STATES = 3


def write_page(folder: Path) -> Path:
    """Write the report of the run in `folder`, whole or not at all; return its path."""
    page = to_html(_document(read_contents(folder)))
    path = folder / NAME
    draft = folder / f".{NAME}.{os.getpid()}"
    draft.write_bytes(page.encode("utf-8", errors="xmlcharrefreplace"))
    draft.replace(path)
    return path


def _document(contents: Contents) -> Element:
    heading = title(contents)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content="rramhil"),
        element("title", f"{heading} – rramhil"),
        element("style", SHEET),
    )
    with house_style():
        sections = list(_sections(contents))
    top = element(
        "header",
        element("p", f"rramhil run {contents.result.run}", class_="run"),
        element("h1", heading),
        element("p", headline(contents), class_="lead"),
        _tiles(contents),
        _notices(contents),
    )
    return element("html", head, element("body", element("main", top, *sections)), lang="en")


def _tiles(contents: Contents) -> Element:
    rows = [row for row in summary_table(contents.result) if row.accuracy is not None]
    return element(
        "dl", *(_tile(row.title, percent(row.accuracy), row.loss) for row in rows), class_="tiles"
    )


def _tile(name: str, shown: str, loss: float | None) -> Element:
    under = None if loss is None else element("dd", f"{points(loss)} points lost", class_="loss")
    return element("div", element("dt", name), element("dd", shown), under)


def _notices(contents: Contents) -> Element | None:
    said = [outcome(contents), *contents.result.warnings, *contents.missing]
    lines = [element("li", sentence) for sentence in said if sentence]
    return element("ul", *lines, class_="notices") if lines else None


def _sections(contents: Contents) -> Iterator[Element]:
    layout = layout_of(contents)
    states = states_of(contents, layout) if layout is not None else []
    shown = states if len(states) <= _MOST_STATES else [states[0], *states[1 - _MOST_STATES :]]
    yield _accuracy(contents)
    yield from _section("rows", "Rows", tables.rows_part(contents.result))
    if layout is not None:
        yield _cells(layout, shown)
    yield from _section("estimates", "Estimates", _estimates(contents))
    yield from _section("repair", "Repair", _repair(contents))
    yield from _section("chip", "The chip", _chip(contents, layout))
    yield _record(contents)


def _section(name: str, words: str, children: list[Child]) -> Iterator[Element]:
    if children:
        yield element("section", element("h2", words), *children, id=name)


def _accuracy(contents: Contents) -> Element:
    result = contents.result
    figures = _pair(
        _drawn(partial(figures_ways.accuracy_bars, result), "Accuracy of each way as bars"),
        _drawn(partial(figures_ways.accuracy_against_cost, result), "Accuracy against device time"),
    )
    note = element(
        "p",
        "Accuracy is of the test images, computed from conductances that were read back; the "
        "ideal mapping has the same levels, scale and clipping and no variation, noise, fault "
        "or drift. Open loop carries the common scan and programming; a repair's price is its "
        "own. Energy is an estimate from voltage, width and the last reading.",
        class_="note",
    )
    timing = result.timing
    compared: list[Child] = []
    if timing is not None:
        words = element("p", tables.timing_words(timing), class_="note")
        compared = [element("h3", "Device time of the repairs"), tables.timing_table(timing), words]
    return element(
        "section",
        element("h2", "Accuracy and price"),
        figures,
        tables.cost_table(result),
        note,
        *compared,
        id="accuracy",
    )


def _cells(layout: Layout, states: list[State]) -> Element:
    drawn = figures_maps.busiest_tiles(layout.tile)
    hidden = np.unique(layout.tile).size - len(drawn)
    children: list[Child] = [_maps(tile, layout, states) for tile in drawn]
    if hidden:
        children.append(element("p", f"{hidden} more tiles hold mapped cells.", class_="note"))
    if states:
        children += [
            _drawn(
                partial(figures_levels.target_against_measured, layout, states),
                "Target conductance against measured conductance",
            ),
            _drawn(
                partial(figures_levels.level_histograms, layout, states),
                "Histogram of each level with its window",
            ),
            element("h3", "Yield of each level"),
            tables.yield_table(layout, states),
        ]
    else:
        children.append(element("p", "No reading of the programmed cells is there yet."))
    words = f"{count(layout.count)} cells, {layout.levels.size} levels"
    layers = f": {', '.join(layout.layer_names)}" if layout.layer_names else ""
    lead = element("p", words + layers, class_="note")
    return element("section", element("h2", "Cells"), lead, *children, id="cells")


def _maps(tile: int, layout: Layout, states: list[State]) -> Element:
    maps = _drawn(
        partial(figures_maps.conductance_maps, tile, layout, states),
        f"Map of conductance of tile {tile}: target, then as read",
    )
    if not states:
        return element("div", maps)
    errors = _drawn(
        partial(figures_maps.error_maps, tile, layout, states), f"Map of the error of tile {tile}"
    )
    return element("div", maps, errors)


def _estimates(contents: Contents) -> list[Child]:
    found = contents.result.estimates
    if not found:
        return []
    lines: list[list[Child]] = [list(line) for line in estimate_lines(found)]
    note = "Of the network on the array, from the targets and the activity of calibration images."
    return [table(list(HEAD), lines), element("p", note, class_="note")]


def _repair(contents: Contents) -> list[Child]:
    figures = [
        _drawn(partial(figures_ways.convergence, contents), "Cells left in each round"),
        *(
            _drawn(partial(figures_ways.learning_curve, step, arrays), "Learning curve")
            for step, arrays in contents.steps_doing("recover")
        ),
    ]
    tried: list[Child] = []
    for _, arrays in contents.steps_doing("recover"):
        figures.append(_drawn(partial(ladder.accuracy_against_price, arrays), "The ladder"))
        tried.append(ladder.ladder_table(arrays))
    for _, arrays in contents.steps_doing("care"):
        figures.append(_drawn(partial(ladder.accuracy_over_time, arrays), "Accuracy over time"))
    found = [figure for figure in figures if figure is not None]
    return [_pair(*found), *tried] if found else []


def _chip(contents: Contents, layout: Layout | None) -> list[Child]:
    device = contents.result.device
    levels = None if layout is None else layout.levels
    children: list[Child] = []
    for _, arrays in contents.steps_doing("scan"):
        if device is not None:
            figure = partial(figures_maps.fault_map, arrays, device, layout)
            drawn = _drawn(figure, "Map of stuck, unreadable and noisy cells")
            counts = None if drawn is None else _fault_counts(arrays)
            children += [] if drawn is None else [element("div", drawn, counts)]
    for _, arrays in contents.steps_doing("tune"):
        curve = _drawn(partial(figures_ways.gate_curve, arrays, levels), "Gate curve")
        children += [] if curve is None else [curve]
    one_tile = device is not None and layout is not None and np.unique(layout.tile).size == 1
    return [_pair(*children)] if one_tile and children else children


def _fault_counts(arrays: Arrays) -> Element:
    masks = figures_maps.fault_masks(arrays)
    counts = [
        f"{count(int(mask.sum()))} {name} ({percent(float(mask.mean()), 2)})"
        for name, mask in masks.items()
    ]
    rows = figures_maps.bad_rows(arrays)
    named = ", ".join(f"tile {tile} row {row}" for tile, row in rows[:12])
    more = f" and {len(rows) - 12} more" if len(rows) > 12 else ""
    bad = f"bad rows: {named}{more}" if rows else "no bad row"
    scanned = f"Of {count(int(arrays['cells'].size))} scanned cells: "
    return element("p", scanned + "; ".join([*counts, bad]) + ".", class_="note")


def _record(contents: Contents) -> Element:
    events = tables.events_table(contents)
    job = element("pre", contents.job_text or "The job file is not in the run's folder.")
    return element(
        "section",
        element("h2", "Record"),
        tables.record_table(contents),
        element("h3", "Steps"),
        tables.steps_table(contents.result),
        folded("Warnings and errors in the event log", events) if events is not None else None,
        folded("Job file", job),
        id="record",
    )


def _pair(*figures: Child) -> Element:
    return element("div", *figures, class_="pair")


def _drawn(draw: Callable[[], Figure | None], alt: str) -> Element | None:
    """The picture, nothing where there is nothing to draw, or a sentence where it cannot be."""
    try:
        figure = draw()
        return None if figure is None else picture(to_svg(figure), alt)
    except (ValueError, TypeError, KeyError, IndexError, FloatingPointError) as error:
        logging.getLogger(__name__).warning("%s cannot be drawn", alt, exc_info=error)
        return element("p", f"{alt}: cannot be drawn from the arrays of this run.", class_="note")
