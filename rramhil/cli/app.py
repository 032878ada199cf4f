"""The command `rramhil`: its group, how it fails, and the commands that drivers bring."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from rramhil.cli.errors import STOPPED, UsageError, debugging, explain
from rramhil.cli.terminal import Terminal, print_json
from rramhil.words import nearest

GROUP = "rramhil.commands"


class Commands(TyperGroup):
    """A group that knows the commands of drivers, suggests the nearest, and fails in a sentence."""

    def list_commands(self, ctx: Any) -> list[str]:
        own = super().list_commands(ctx)
        return own + sorted(set(_plugins()) - set(own)) if ctx.parent is None else own

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        own = super().get_command(ctx, cmd_name)
        if own is not None or ctx.parent is not None:
            return own
        entry = _plugins().get(cmd_name)
        return None if entry is None else PluginCommand(entry)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            known = self.list_commands(ctx)
            raise UsageError(f"{ctx.command_path} has no command {name!r}{nearest(name, known)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            Terminal().say("stopped")
            raise typer.Exit(STOPPED) from None

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        name = prog_name or "rramhil"
        try:
            refuse_empty(words)
            code = super().main(words, name, complete_var, False, windows_expand_args, **extra)
        except Exception as error:
            if debugging():
                raise
            code = complain(error, as_json="--json" in words)
        sys.exit(code if isinstance(code, int) else 0)


class PluginCommand(TyperCommand):
    """A command that a driver brings: its name is known, its module is loaded when it is called."""

    def __init__(self, entry: EntryPoint) -> None:
        brought = entry.dist.name if entry.dist else entry.value
        super().__init__(entry.name, help=f"Comes with {brought}.")
        self.rich_help_panel = "Of drivers"
        self.entry = entry

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        app = self.entry.load()
        if not isinstance(app, typer.Typer):
            raise UsageError(
                f"{self.entry.value} is no typer.Typer; update or remove the package that "
                f"brings the command {self.entry.name!r}"
            )
        return typer.main.get_command(app).make_context(info_name, args, parent, **extra)


def _plugins() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def refuse_empty(words: Sequence[str]) -> None:
    """Raise `UsageError` for an empty word, as an unset variable in a script leaves one behind.

    Commands of drivers may mean something by it.
    """
    for index, word in enumerate(words):
        option, equals, value = word.partition("=")
        is_option = option.startswith("--")
        if (word and not (is_option and equals and not value)) or words[0] in _plugins():
            continue
        before = words[index - 1] if index else ""
        named = option if is_option else before if before.startswith("--") else "an argument"
        raise UsageError(f"{named} is empty; give it a value or leave it out")


def complain(error: Exception, *, as_json: bool) -> int:
    """Say in one sentence what went wrong; return the exit code."""
    failure = explain(error)
    Terminal().err.print(f"error: {failure.message}", markup=False, soft_wrap=True)
    if failure.remedy:
        Terminal().say(f"go on with: {failure.remedy}")
    if as_json:
        _print_if_possible({"error": failure})
    return failure.exit_code


def _print_if_possible(document: object) -> None:
    """Print JSON where stdout can still be written; it may be what the error is about."""
    try:
        print_json(document)
    except OSError:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"rramhil {version('rramhil')}")
        raise typer.Exit


app = typer.Typer(
    name="rramhil",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="RRAMHIL_HOME: runs, ledgers, leases. RRAMHIL_DATA: data sets. RRAMHIL_DEBUG=1: "
    "tracebacks.",
)


@app.callback()
def _rramhil(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Calibrate a resistive memory array until the network that lives in it works."""
