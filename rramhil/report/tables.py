"""The tables of the report, as HTML elements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from rramhil.cost import Cost
from rramhil.job.result import RunResult, Timings
from rramhil.report.cells import Layout, LevelYield, State, level_yields
from rramhil.report.contents import Contents
from rramhil.report.markup import Child, Element, element, number, table
from rramhil.report.summary import (
    NOTHING,
    SummaryRow,
    count,
    percent,
    points,
    summary_table,
    title_of,
)
from rramhil.units import show

_EVENTS_SHOWN = 50


def _seconds(value: float) -> str:
    return show(value, "s")


def _energy(value: float) -> str:
    return f"about {show(value, 'J', 2)}" if value else show(value, "J")


def _wear(value: float) -> str:
    return show(value, "V·s")


_COST_LINES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("Device time", "device_seconds", _seconds),
    ("Waiting for cells to settle", "waiting_seconds", _seconds),
    ("Host time", "host_seconds", _seconds),
    ("Pulses (cells × pulses)", "pulses", lambda n: count(int(n))),
    ("… SET", "sets", lambda n: count(int(n))),
    ("… RESET", "resets", lambda n: count(int(n))),
    ("… FORM", "forms", lambda n: count(int(n))),
    ("Reads (cells × reads)", "reads", lambda n: count(int(n))),
    ("Products (vectors × tiles)", "products", lambda n: count(int(n))),
    ("Digital parameters", "digital_parameters", lambda n: count(int(n))),
    ("… sparse entries", "sparse_parameters", lambda n: count(int(n))),
    ("… share of the weights", "sparse_share", lambda share: percent(share, 2)),
    ("… retrained biases", "retrained_biases", lambda n: count(int(n))),
    ("… column gains", "column_gains", lambda n: count(int(n))),
    ("Index memory (bits)", "index_bits", lambda n: count(int(n))),
    ("Digital memory (bits)", "memory_bits", lambda n: count(int(n))),
    ("… numbers written", "memory_writes", lambda n: count(int(n))),
    ("Images learned from", "images", lambda n: count(int(n))),
    ("Labels used", "labels", lambda n: count(int(n))),
    ("Validation images", "validation_images", lambda n: count(int(n))),
    ("Energy of the pulses, estimate", "joules_estimate", _energy),
    ("Energy of the readings, estimate", "read_joules_estimate", _energy),
    ("Energy of the products, estimate", "product_joules_estimate", _energy),
    ("Wear (high voltage × time)", "high_voltage_volt_seconds", _wear),
)


def cost_table(result: RunResult) -> Element:
    """Accuracy and price, a column a way; exact numbers are in each cell's data value."""
    rows = [row for row in summary_table(result) if row.name not in ("teacher", "ideal_mapping")]
    lines: list[list[Child]] = [
        ["Test accuracy", *(number(row.accuracy, percent(row.accuracy, 2)) for row in rows)],
        [f"95 % interval (Wilson{_images(rows)})", *(_interval(row) for row in rows)],
        ["Points below the ideal mapping", *(number(r.loss, points(r.loss)) for r in rows)],
    ]
    for words, field, shown in _COST_LINES:
        values = [None if row.cost is None else getattr(row.cost, field) for row in rows]
        unknown = [field in _PRICES and _unpriced(row.cost) for row in rows]
        if field in _ALWAYS or any(values) or any(unknown):
            told = [
                _at_least(v, shown) if u else _told(v, shown)
                for v, u in zip(values, unknown, strict=True)
            ]
            lines.append([words, *told])
    return table(["", *(row.title for row in rows)], lines, class_="numbers")


def rows_part(result: RunResult) -> list[Child]:
    """Layers whose rows share physical ones or were reordered; nothing where there are none."""
    if not result.rows:
        return []
    layers = list(result.rows.values())
    bits = ["" if one.input_bits is None else str(one.input_bits) for one in layers]
    lines: list[list[Child]] = [
        ["Rows of the matrix", *(number(one.rows, count(one.rows)) for one in layers)],
        ["Rows of the array", *(number(r.physical_rows, count(r.physical_rows)) for r in layers)],
        ["Area saved", *(number(r.saved_share, percent(r.saved_share, 2)) for r in layers)],
        ["Bits of the row table", *(number(r.index_bits, count(r.index_bits)) for r in layers)],
        ["Rows that share one, at most", *(str(one.most_shared) for one in layers)],
        ["Bits of added inputs", *bits],
    ]
    parts: list[Child] = [table(["", *result.rows], lines, class_="numbers")]
    errors = [
        [name, f"{e.noise} {e.strength:g}", f"{e.before:.4g}", f"{e.after:.4g}"]
        for name, one in result.rows.items()
        for e in one.converter_error
    ]
    if errors:
        head = ["Layer", "Noise of a conversion", "Squared error as they came", "… reordered"]
        parts.append(table(head, [list[Child](line) for line in errors], class_="numbers"))
    return parts


def timing_table(timing: Timings) -> Element:
    """Device time of each repair without and with the first programming, and the ratios."""
    against = title_of(timing.compared_with) if timing.compared_with else None
    ways = list(timing.ways.values())
    lines: list[list[Child]] = [
        ["Alone", *(_time(w.device_seconds) for w in ways)],
        ["With the first programming", *(_time(w.with_programming_seconds) for w in ways)],
    ]
    if against is not None:
        lines += [
            [f"Times faster than {against}, alone", *(_ratio(w.speed_up) for w in ways)],
            ["… with the first programming", *(_ratio(w.speed_up_with_programming) for w in ways)],
        ]
    return table(["", *(title_of(name) for name in timing.ways)], lines, class_="numbers")


def timing_words(timing: Timings) -> str:
    """What the times were reckoned with, in a sentence."""
    whose = "the device's clock" if timing.source == "ledger" else "the job's table [timing]"
    return (
        f"Device time by {whose}: a write takes {_seconds(timing.write_seconds)} for "
        f"{timing.writes_at_once} cells at once, a reading {_seconds(timing.read_seconds)} for "
        f"{timing.reads_at_once}, a number in digital memory "
        f"{_seconds(timing.sram_write_seconds)}; the first programming takes "
        f"{_seconds(timing.programming_seconds)}. Training itself is host time."
    )


def _time(seconds: float) -> Element:
    return number(seconds, _seconds(seconds))


def _ratio(value: float | None) -> Element:
    return number(value, NOTHING if value is None else f"{value:.3g}")


_ALWAYS = frozenset(Cost.model_fields) & {
    "device_seconds", "host_seconds", "pulses", "reads", "digital_parameters", "index_bits",
    "images", "labels", "joules_estimate",
}  # fmt: skip


_PRICES = ("joules_estimate", "high_voltage_volt_seconds")


def _unpriced(cost: Cost | None) -> bool:
    """Whether the chip chose pulses by itself, whose voltages the host does not know."""
    return cost is not None and cost.unpriced_pulses > 0


def _told(value: float | None, shown: Callable[[float], str]) -> Element:
    return number(value, "" if value is None else shown(value))


def _at_least(value: float | None, shown: Callable[[float], str]) -> Element:
    """A price of which a part is not known."""
    return element("span", f"more than {shown(value)}" if value else "not known")


def _interval(row: SummaryRow) -> Element:
    if row.interval is None:
        return element("span", NOTHING)
    low = percent(row.interval.low).removesuffix("\N{NO-BREAK SPACE}%")
    return element("span", f"{low} to {percent(row.interval.high)}")


def _images(rows: list[SummaryRow]) -> str:
    numbers = {row.interval.images for row in rows if row.interval is not None}
    return f", {' or '.join(count(n) for n in sorted(numbers))} images" if numbers else ""


def yield_table(layout: Layout, states: list[State]) -> Element:
    """Cells in their window, level by level, for each state; then all levels together."""
    yields = [level_yields(layout, state.siemens) for state in states]
    head = ["Level", "Target", "Cells"]
    groups = [("", len(head)), *((state.title, 3) for state in states)]
    head += ["In window", "Median", "R.m.s. error"] * len(states)
    lines: list[list[Child]] = []
    for of_level in zip(*yields, strict=True):
        first = of_level[0]
        cells = [cell for one in of_level for cell in _yield_cells(one)]
        target = number(first.target, show(first.target, "S"))
        lines.append([str(first.level), target, number(first.cells, count(first.cells)), *cells])
    totals = [cell for each in yields for cell in _total_cells(each)]
    lines.append(["all", "", number(layout.count, count(layout.count)), *totals])
    return table(head, lines, class_="numbers", groups=groups)


def _yield_cells(one: LevelYield) -> Iterator[Child]:
    share = one.inside / one.cells
    yield number(share, percent(share))
    yield number(one.median, show(one.median, "S"))
    yield number(one.rms_error, show(one.rms_error, "S"))


def _total_cells(each: list[LevelYield]) -> Iterator[Child]:
    share = sum(one.inside for one in each) / sum(one.cells for one in each)
    yield number(share, percent(share))
    yield ""
    yield ""


def steps_table(result: RunResult) -> Element:
    """Each step: outcome, ledger rows, price, findings."""
    lines: list[list[Child]] = [
        [
            f"{step.index + 1} {step.name}",
            step.do,
            step.outcome,
            f"{count(step.first_row)} to {count(step.last_row)}",
            number(step.cost.device_seconds, _seconds(step.cost.device_seconds)),
            number(step.cost.pulses, count(step.cost.pulses)),
            number(step.cost.reads, count(step.cost.reads)),
            ", ".join(_finding(name, value) for name, value in step.findings.items()),
        ]
        for step in result.steps
    ]
    head = ["Step", "Does", "Outcome", "Ledger rows", "Device time", "Pulses", "Reads", "Findings"]
    return table(head, lines)


_UNITS = {"siemens": "S", "volts": "V", "seconds": "s"}


def _finding(name: str, value: float | int | str | bool | None) -> str:
    words, _, last = name.rpartition("_")
    if isinstance(value, bool) or value is None:
        shown = {True: "yes", False: "no", None: NOTHING}[value]
    elif isinstance(value, str):
        shown = value
    elif last in _UNITS and words:
        return f"{words.replace('_', ' ')} {show(value, _UNITS[last])}"
    elif isinstance(value, int):
        shown = count(value)
    elif last in ("share", "yield", "accuracy"):
        shown = percent(value, 2)
    else:
        shown = f"{value:.4g}"
    return f"{name.replace('_', ' ')} {shown}"


def record_table(contents: Contents) -> Element:
    """Where every transaction is written down, and with what the run can be repeated."""
    result = contents.result
    device = result.device
    lines: list[list[Child]] = [
        ["Run", element("code", result.run)],
        ["Outcome", result.outcome],
        ["Device", element("code", result.address)],
        ["Station file", element("code", result.station) if result.station else "none"],
        ["Die", f"{device.serial} ({device.model})" if device is not None else "never connected"],
        ["Ledger", element("code", result.ledger)],
        ["Ledger head", element("code", result.ledger_head)],
        ["Seed", str(result.seed)],
        *(_named("Version of", result.versions, code=False)),
        *(_named("Indices (sha256) of", result.splits, code=True)),
    ]
    return table(["", ""], lines, class_="record")


def _named(words: str, values: Mapping[str, str], *, code: bool) -> Iterator[list[Child]]:
    for name, value in values.items():
        yield [f"{words} {name}", element("code", value) if code else value]


def events_table(contents: Contents) -> Element | None:
    """The last warnings and errors of the event log, or None when there were none."""
    severe = [e for e in contents.events if e.get("level") in ("warning", "error", "critical")]
    if not severe:
        return None
    known = ("event", "level", "timestamp", "run")
    lines: list[list[Child]] = [
        [
            str(event.get("level", "")),
            str(event.get("event", "")),
            ", ".join(f"{k} {v}" for k, v in event.items() if k not in known),
        ]
        for event in severe[-_EVENTS_SHOWN:]
    ]
    return table(["Level", "Event", "Details"], lines)
