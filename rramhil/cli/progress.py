"""What is happening and what is left: bars on a terminal, plain lines everywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rramhil.cli.stop import write_stderr
from rramhil.cli.terminal import Terminal

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from rramhil.run import Progress

LINE_EVERY_SECONDS = 5.0


class View:
    """Shows a run while it is entered. This one, for `--quiet`, shows only a stop's remark."""

    def __enter__(self) -> View:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def watch(self, progress: Progress) -> None:
        """Called by the run as it goes on."""

    def hear(self, event: Mapping[str, Any]) -> None:
        """Called with each event of the run's log."""

    def tell(self, line: str) -> None:
        """Called inside a signal handler."""
        write_stderr(line)


def view_for(terminal: Terminal) -> View:
    """Bars, lines or nothing, as the terminal and the options ask."""
    if terminal.quiet:
        return View()
    return Bars(terminal.err) if terminal.err.is_terminal else Lines(terminal.say, time.monotonic)


class Lines(View):
    """One line when a step begins, then one every few seconds, and one for each event."""

    def __init__(self, say: Callable[[str], None], now: Callable[[], float]) -> None:
        self._say = say
        self._now = now
        self._at: tuple[int, str] | None = None
        self._spoke = 0.0

    def watch(self, progress: Progress) -> None:
        now = self._now()
        at = (progress.step, progress.name)
        if at == self._at and now - self._spoke < LINE_EVERY_SECONDS:
            return
        self._at, self._spoke = at, now
        self._say(line_of(progress))

    def hear(self, event: Mapping[str, Any]) -> None:
        self._say(line_of_event(event))


class Bars(View):
    """A bar for the step and one for the whole job, events above them, a remark below."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._console = console
        self._remark = ""
        self._at: tuple[int, str] | None = None
        self._bars = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[counted]}", justify="right"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            TextColumn("[dim]{task.fields[text]}"),
            console=console,
        )
        self._whole = self._bars.add_task("job", counted="", text="", total=None)
        self._part = self._bars.add_task("", counted="", text="", total=None, visible=False)
        self._live = Live(
            get_renderable=self._draw, console=console, refresh_per_second=8, transient=True
        )

    def __enter__(self) -> Bars:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def watch(self, progress: Progress) -> None:
        from rich.markup import escape

        if (progress.step, progress.name) != self._at:
            self._at = (progress.step, progress.name)
            self._bars.reset(self._part, visible=True, description=escape(progress.name))
        known = progress.total > 0
        self._bars.update(
            self._part,
            completed=progress.done,
            total=progress.total if known else None,
            counted=f"{progress.done:,} of {progress.total:,}" if known else "",
            text=escape(progress.text),
        )
        share = min(progress.done / progress.total, 1.0) if known else 0.0
        self._bars.update(
            self._whole,
            completed=progress.step + share,
            total=progress.steps,
            counted=f"step {progress.step + 1} of {progress.steps}",
        )

    def hear(self, event: Mapping[str, Any]) -> None:
        self._console.print(line_of_event(event), markup=False, highlight=False)

    def tell(self, line: str) -> None:
        self._remark = line

    def _draw(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        bars = self._bars.get_renderable()
        return Group(bars, Text(self._remark, style="bold yellow")) if self._remark else bars


def line_of(progress: Progress) -> str:
    """'[2/7] program: 512 of 4,096 (3 cells a second)'."""
    counted = f": {progress.done:,} of {progress.total:,}" if progress.total else ""
    text = f" ({progress.text})" if progress.text else ""
    return f"[{progress.step + 1}/{progress.steps}] {progress.name}{counted}{text}"


def line_of_event(event: Mapping[str, Any]) -> str:
    """'12:03:11  step finished  step=scan  row 1042', with the level where it is no info."""
    known = ("time", "level", "event", "run", "row")
    data = "  ".join(f"{key}={_short(value)}" for key, value in event.items() if key not in known)
    level = "" if event["level"] == "info" else f"{event['level']}: "
    parts = (str(event["time"])[11:19], f"{level}{event['event']}", data, f"row {event['row']}")
    return "  ".join(part for part in parts if part)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
