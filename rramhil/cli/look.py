"""`rramhil show`, `report` and `export`: look back at runs. None of them needs torch."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rramhil.cli import complete
from rramhil.cli.errors import UsageError
from rramhil.cli.options import Json, Quiet, RunId
from rramhil.cli.progress import LineBar
from rramhil.cli.terminal import Terminal, print_facts

if TYPE_CHECKING:
    from rich.console import Console

    from rramhil.job.result import RunResult


LARGE_MEGABYTES = 50
FEW_LINES = 10_000


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
    which: Annotated[
        str,
        typer.Argument(
            metavar="RUN|SERIAL|PATH",
            help="A run; or a die's serial, a ledger file or its folder: all runs on the die.",
            autocompletion=complete.run_ids,
        ),
    ],
    to: Annotated[Format, typer.Option("--to", help="Parquet, or CSV for a spreadsheet.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Where to. Default: the run or the serial, .parquet/.csv."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write what a run, or all on a die, did: one line for each cell of each read and pulse."""
    from rramhil.cli.ledger import find_record
    from rramhil.ledger import LedgerReader, lines_of
    from rramhil.ledger import export as write_table
    from rramhil.station import file_name

    terminal = Terminal(json=json, quiet=quiet)
    path, run = find_record(which)
    with LedgerReader(path) as ledger:
        name = run or file_name(ledger.serial) or path.stem
        target = out or Path(f"{name}.{to.value}")
        _refuse_other_ending(target, to)
        if target.exists() and not force:
            raise UsageError(f"{target} exists; name another file with --out, or give --force")
        expected = lines_of(ledger, run)
        if expected > FEW_LINES:
            terminal.say(_expectation(expected, to))
        with LineBar(terminal, expected) as bar:
            rows = write_table(ledger, target, to.value, run=run, progress=bar.report)
    terminal.answer(
        {"run": run, "ledger": path, "file": target, "cell_transactions": rows},
        lambda console: console.print(f"{rows:,} cell-transactions in {target}", soft_wrap=True),
    )


def _expectation(lines: int, to: Format) -> str:
    """How much is about to be written; for a large CSV also what would be smaller."""
    from rramhil.ledger import BYTES_PER_LINE

    megabytes = {each: lines * BYTES_PER_LINE[each.value] / 1e6 for each in Format}
    text = f"{lines:,} cell-transactions, about {megabytes[to]:,.0f} MB of {to.value}"
    if to is Format.csv and megabytes[to] > LARGE_MEGABYTES:
        text += f"; --to parquet makes about {megabytes[Format.parquet]:,.0f} MB"
    return text


def _refuse_other_ending(target: Path, to: Format) -> None:
    """Raise `UsageError` for a file whose name promises the other format."""
    ending = target.suffix.lower().removeprefix(".")
    if ending in set(Format) - {to}:
        raise UsageError(
            f"{target} would hold {to.value} under the name of a {ending} file; give "
            f"--to {ending}, or a name that ends in .{to.value}"
        )
