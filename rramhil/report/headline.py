"""What happened, in sentences and with the numbers of the run. Pure."""

from __future__ import annotations

from rramhil.report.contents import Contents
from rramhil.report.summary import SummaryRow, count, percent, summary_table
from rramhil.units import show

_BASELINES = ("teacher", "ideal_mapping", "open_loop")
_OUTCOMES = {
    "running": "The run is still going on, or was killed: what follows is what it has so far.",
    "stopped": "The run was stopped at a safe point and can be resumed: what follows is partial.",
    "failed": "The run failed: what follows is what it had until then.",
}


def title(contents: Contents) -> str:
    """The heading: network and data on a die."""
    network = contents.job_table("network").get("name")
    data = contents.job_table("data").get("name")
    what = f"Network {network}" if network else contents.result.name
    if data and data != network:
        what += f" on {data}"
    device = contents.result.device
    return what if device is None else f"{what}, die {device.serial}"


def headline(contents: Contents) -> str:
    """Two sentences: what was programmed and what it gave; what each repair made of it."""
    rows = {row.name: row for row in summary_table(contents.result)}
    sentences = [_programmed(contents, rows), _repaired(rows)]
    return " ".join(sentence for sentence in sentences if sentence)


def _programmed(contents: Contents, rows: dict[str, SummaryRow]) -> str:
    chip = _chip(contents)
    open_loop, ideal, teacher = (
        rows[n].accuracy for n in ("open_loop", "ideal_mapping", "teacher")
    )
    against = [
        f"{percent(value)} {words}"
        for value, words in ((ideal, "for an ideal mapping"), (teacher, "in floating point"))
        if value is not None
    ]
    if open_loop is None and _judged(rows):
        return f"On {chip} the network could reach {' and '.join(against)}."
    if open_loop is None:
        tail = f" (the network reaches {' and '.join(against)})" if against else ""
        return f"No accuracy was measured on {chip}{tail}."
    tail = f", against {' and '.join(against)}" if against else ""
    return f"As first programmed, {chip} classifies {percent(open_loop)} of the test images{tail}."


def _chip(contents: Contents) -> str:
    device = contents.result.device
    if device is None:
        return contents.result.address
    tiles = f"{device.tiles} {'tile' if device.tiles == 1 else 'tiles'}"
    return f"{device.serial} ({device.model}, {tiles} of {device.rows} × {device.cols} cells)"


def _judged(rows: dict[str, SummaryRow]) -> list[SummaryRow]:
    """Steps of the job that an accuracy was measured after."""
    named = [row for name, row in rows.items() if name not in _BASELINES]
    return [row for row in named if row.accuracy is not None]


def _repaired(rows: dict[str, SummaryRow]) -> str:
    done = _judged(rows)
    if not done:
        return "No repair has been evaluated."
    verb = "gives" if rows["open_loop"].accuracy is None else "brings it to"
    parts = [f"{row.title} {verb} {percent(row.accuracy)}{_price(row)}" for row in done]
    return f"{'; '.join(parts)}."


def _price(row: SummaryRow) -> str:
    cost = row.cost
    if cost is None:
        return ""
    pulses = f"{count(cost.pulses)} pulses" if cost.pulses else "no further pulse"
    digital = (
        f", {count(cost.digital_parameters)} digital parameters" if cost.digital_parameters else ""
    )
    return f" ({pulses}{digital}, {show(cost.device_seconds, 's')} of device time)"


def outcome(contents: Contents) -> str | None:
    """A sentence when the run is not finished, with the step and the reason where known."""
    result = contents.result
    said = _OUTCOMES.get(result.outcome)
    if said is None:
        return None
    unfinished = [step for step in result.steps if step.outcome != "finished"]
    where = (
        f" Step {unfinished[0].index + 1} ({unfinished[0].name}) did not finish."
        if unfinished
        else ""
    )
    why = f" {result.error}" if result.error else ""
    return said + where + why
