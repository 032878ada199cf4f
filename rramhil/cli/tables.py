"""Results as people read them. Nothing is computed here: `rramhil.report.summary_table` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rramhil.cli.terminal import table, unbroken

if TYPE_CHECKING:
    from rich.table import Table

    from rramhil.cost import Cost
    from rramhil.job.result import Outcome, RunResult

NOTHING = "–"
STYLES: dict[Outcome, str] = {
    "waiting": "dim",
    "running": "cyan",
    "stopped": "yellow",
    "finished": "green",
    "failed": "red",
}


def summary(result: RunResult) -> Table:
    """Teacher, ideal mapping, open loop, each repair: accuracy, loss and price."""
    from rramhil.report import HEADINGS, summary_table

    rows = []
    for row in summary_table(result):
        title, *numbers = row.texts()
        rows.append([title, *map(unbroken, numbers)])
    return table(HEADINGS, rows, numbers=len(HEADINGS) - 1, foldable=True)


def steps(result: RunResult) -> Table:
    """One line for each step of the job: its ledger rows and what it cost."""
    rows = [
        [
            step.name,
            _outcome(step.outcome),
            f"{step.first_row} to {step.last_row}" if step.last_row else NOTHING,
            *_cost_cells(step.cost),
        ]
        for step in result.steps
    ]
    costs = ("device time", "host time", "pulses", "reads")
    return table(("step", "outcome", "rows", *costs), rows, numbers=len(costs))


def runs(results: Sequence[RunResult]) -> Table:
    """One line for each run, oldest first."""
    rows = [
        [
            result.run,
            _outcome(result.outcome),
            result.device.serial if result.device else NOTHING,
            _percent(result.accuracy.ideal_mapping),
            _percent(result.accuracy.open_loop),
            _percent(max(_repairs(result), default=None)),
        ]
        for result in results
    ]
    columns = ("run", "outcome", "die", "ideal", "open loop", "repaired")
    return table(columns, rows, numbers=3)


def _repairs(result: RunResult) -> list[float]:
    return [v for v in (result.accuracy.model_extra or {}).values() if v is not None]


def _outcome(outcome: Outcome) -> str:
    return f"[{STYLES[outcome]}]{outcome}[/]"


def _cost_cells(cost: Cost) -> list[str]:
    from rramhil.report.summary import count
    from rramhil.units import show

    times = (show(cost.device_seconds, "s"), show(cost.host_seconds, "s"))
    return [*map(unbroken, times), count(cost.pulses), count(cost.reads)]


def whereabouts(result: RunResult) -> dict[str, str]:
    """Where everything lies, and the commands that go on from here."""
    pairs = {
        "run": result.run,
        "device": result.address,
        "folder": result.folder,
    }
    if result.device:
        pairs["die"] = f"{result.device.serial} ({result.device.model})"
    if result.report:
        pairs["report"] = result.report
    if result.ledger:
        pairs["ledger"] = result.ledger
        pairs["head"] = result.ledger_head
        pairs["verify"] = f"rramhil ledger verify {result.run} --head {result.ledger_head}"
    if result.outcome == "finished":
        pairs["replay"] = f"rramhil replay {result.run}"
    elif not result.failed_before_a_step:
        pairs["resume"] = f"rramhil resume {result.run}"
    return pairs


def comparison(recorded: RunResult, replayed: RunResult) -> Table:
    """Accuracies of a run and of its replay, side by side."""
    from rramhil.report import title_of

    first, second = recorded.accuracy.model_dump(), replayed.accuracy.model_dump()
    rows = []
    for name in dict.fromkeys([*first, *second]):
        one, two = first.get(name), second.get(name)
        same = "[green]same[/]" if one == two else "[red]differs[/]"
        rows.append([title_of(name), same, _exact(one), _exact(two)])
    return table(("", "", "recorded", "replayed"), rows, numbers=2)


def _percent(fraction: float | None) -> str:
    return NOTHING if fraction is None else f"{100 * fraction:.1f} %"


def _exact(fraction: float | None) -> str:
    return NOTHING if fraction is None else f"{fraction:.6f}"
