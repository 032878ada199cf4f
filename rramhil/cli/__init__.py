"""The command line. Importing it imports no command's work: that happens when one is called."""

from __future__ import annotations

import os
import signal
import sys

from rramhil.cli import abort, bench, data, estimate, init, ledger, look, prune, recover, run, train
from rramhil.cli.app import app
from rramhil.cli.errors import STOPPED

CALIBRATE, LOOK, BENCH, FILES = "Calibrate", "Look back", "At the bench", "Files and data"

app.command("run", rich_help_panel=CALIBRATE)(run.run)
app.command("recover", rich_help_panel=CALIBRATE)(recover.recover)
app.command("resume", rich_help_panel=CALIBRATE)(run.resume)
app.command("replay", rich_help_panel=CALIBRATE)(run.replay)
app.command("show", rich_help_panel=LOOK)(look.show)
app.command("report", rich_help_panel=LOOK)(look.report)
app.command("export", rich_help_panel=LOOK)(look.export)
app.add_typer(ledger.app, name="ledger", rich_help_panel=LOOK)
app.command("devices", rich_help_panel=BENCH)(bench.devices)
app.command("doctor", rich_help_panel=BENCH)(bench.doctor)
app.command("abort", rich_help_panel=BENCH)(abort.abort)
app.command("prune", rich_help_panel=FILES)(prune.prune)
app.command("init", rich_help_panel=FILES)(init.init)
app.command("estimate", rich_help_panel=FILES)(estimate.estimate)
app.command("train", rich_help_panel=FILES)(train.train)
app.add_typer(data.app, name="data", rich_help_panel=FILES)


def main() -> None:
    """The entry point of the command `rramhil`."""
    code: str | int | None = STOPPED
    try:
        app()
    except KeyboardInterrupt:  # one more Ctrl-C, after the work was wound down
        pass
    except SystemExit as end:
        code = end.code
    # What Python still does before it ends takes a while, and changes nothing about the code.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        sys.stdout.flush()
    except OSError:  # said before; Python would try again at the end, and end with 120
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
