"""`rramhil show`, `report` and `export`: look back at runs. None of them needs torch."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rramhil.cli import complete
from rramhil.cli.errors import UsageError
from rramhil.cli.options import Json, RunId
from rramhil.cli.terminal import Terminal, print_facts

if TYPE_CHECKING:
    from rich.console import Console

    from rramhil.job.result import RunResult


class Format(StrEnum):
    """Formats of an export."""

    parquet = "parquet"
    csv = "csv"


def show(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="A run's id, its unique beginning, or 'last'. None: list all runs.",
            autocompletion=complete.run_ids,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List all runs, or show one: accuracies, costs, where its report and its ledger are."""
    terminal = Terminal(json=json)
    if run is None:
        _show_all(terminal)
        return
    from rramhil.job.folder import RunFolder

    result = RunFolder.find(run).load_result()

    def tell(out: Console) -> None:
        from rramhil.cli.tables import STYLES, steps, summary, whereabouts

        out.print(f"{result.name}: [{STYLES[result.outcome]}]{result.outcome}[/]")
        if result.error:
            out.print(result.error, style="red", markup=False)
        out.print(summary(result))
        out.print(steps(result))
        for warning in result.warnings:
            out.print(f"warning: {warning}", style="yellow", markup=False)
        print_facts(out, whereabouts(result))

    terminal.answer(result, tell)


def _show_all(terminal: Terminal) -> None:
    from rramhil.job.folder import RunFolder, run_ids, runs_folder
    from rramhil.schema import FileError

    results: list[RunResult] = []
    for name in run_ids():
        try:
            results.append(RunFolder(runs_folder() / name).load_result())
        except FileError as error:
            terminal.say(f"left out: {error}")

    def tell(out: Console) -> None:
        from rramhil.cli.tables import runs

        if results:
            out.print(runs(results))
        else:
            out.print(f"no runs in {runs_folder()} yet; start one with: rramhil run")

    terminal.answer({"runs": results}, tell)


def report(
    run: RunId,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    json: Json = False,
) -> None:
    """Build a run's report again from its folder and print where it is."""
    from rramhil.job.folder import RunFolder
    from rramhil.report import build

    folder = RunFolder.find(run)
    path = build(folder.path)
    result = folder.load_result()
    folder.save_result(result.model_copy(update={"report": str(path)}))
    Terminal(json=json).answer(
        {"run": result.run, "report": path}, lambda out: out.print(str(path), soft_wrap=True)
    )
    if open_it:
        typer.launch(path.resolve().as_uri())


def export(
    run: RunId,
    to: Annotated[Format, typer.Option("--to", help="Parquet, or CSV for a spreadsheet.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where to. Default: RUN.parquet or RUN.csv."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    json: Json = False,
) -> None:
    """Write what a run did as a table: one line for each cell of each read and pulse."""
    from rramhil.job.folder import RunFolder
    from rramhil.ledger import LedgerReader
    from rramhil.ledger import export as write_table

    result = RunFolder.find(run).load_result()
    if not result.ledger:
        raise UsageError(f"run {result.run} never reached a device, so it has no ledger to export")
    target = out or Path(f"{result.run}.{to.value}")
    _refuse_other_ending(target, to)
    if target.exists() and not force:
        raise UsageError(f"{target} exists; name another file with --out, or give --force")
    with LedgerReader(result.ledger) as ledger:
        rows = write_table(ledger, target, to.value, run=result.run)
    Terminal(json=json).answer(
        {"run": result.run, "file": target, "cell_transactions": rows},
        lambda console: console.print(f"{rows:,} cell-transactions in {target}", soft_wrap=True),
    )


def _refuse_other_ending(target: Path, to: Format) -> None:
    """Raise `UsageError` for a file whose name promises the other format."""
    ending = target.suffix.lower().removeprefix(".")
    if ending in set(Format) - {to}:
        raise UsageError(
            f"{target} would hold {to.value} under the name of a {ending} file; give "
            f"--to {ending}, or a name that ends in .{to.value}"
        )
