"""Results as people read them. Nothing is computed here: `rramhil.report.summary_table` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rramhil.cli.terminal import facts, table, unbroken

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from rramhil.cost import Cost
    from rramhil.job.result import RunResult

NOTHING = "–"
STYLES = {"finished": "green", "stopped": "yellow", "running": "cyan", "failed": "red"}


def summary(result: RunResult) -> Table:
    """Teacher, ideal mapping, open loop, each repair: accuracy, loss and price."""
    from rramhil.report import HEADINGS, summary_table

    grid = table(*HEADINGS, numbers=len(HEADINGS) - 1)
    for row in summary_table(result):
        grid.add_row(*(unbroken(text) for text in row.texts()))
    return grid


def _cost_cells(cost: Cost) -> list[str]:
    from rramhil.units import show

    times = (show(cost.device_seconds, "s"), show(cost.host_seconds, "s"))
    return [*map(unbroken, times), f"{cost.pulses:,}", f"{cost.reads:,}"]


def steps(result: RunResult) -> Table:
    """One line for each step of the job: what it found and what it cost."""
    grid = table(
        "step", "outcome", "rows", "device time", "host time", "pulses", "reads", numbers=4
    )
    for step in result.steps:
        style = STYLES[step.outcome]
        grid.add_row(
            step.name,
            f"[{style}]{step.outcome}[/]",
            f"{step.first_row} to {step.last_row}",
            *_cost_cells(step.cost),
        )
    return grid


def runs(results: Sequence[RunResult]) -> Table:
    """One line for each run, oldest first."""
    grid = table("run", "outcome", "die", "ideal mapping", "open loop", "best repair", numbers=3)
    for result in results:
        repairs = [v for v in (result.accuracy.model_extra or {}).values() if v is not None]
        grid.add_row(
            result.run,
            f"[{STYLES[result.outcome]}]{result.outcome}[/]",
            result.device.serial if result.device else NOTHING,
            _percent(result.accuracy.ideal_mapping),
            _percent(result.accuracy.open_loop),
            _percent(max(repairs, default=None)),
        )
    return grid


def whereabouts(result: RunResult) -> RenderableType:
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
    else:
        pairs["resume"] = f"rramhil resume {result.run}"
    return facts(pairs)


def comparison(recorded: RunResult, replayed: RunResult) -> Table:
    """Accuracies of a run and of its replay, side by side."""
    grid = table("", "recorded", "replayed", "", numbers=2)
    first, second = recorded.accuracy.model_dump(), replayed.accuracy.model_dump()
    for name in dict.fromkeys([*first, *second]):
        one, two = first.get(name), second.get(name)
        same = "[green]same[/]" if one == two else "[red]differs[/]"
        grid.add_row(name, _exact(one), _exact(two), same)
    return grid


def _percent(fraction: float | None) -> str:
    return NOTHING if fraction is None else f"{100 * fraction:.1f} %"


def _exact(fraction: float | None) -> str:
    return NOTHING if fraction is None else f"{fraction:.6f}"
