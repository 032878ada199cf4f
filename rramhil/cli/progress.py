"""What is happening and what is left: bars on a terminal, plain lines everywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rramhil.cli.stop import write_stderr
from rramhil.cli.terminal import Terminal
from rramhil.units import show

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from rramhil.session import Progress

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
        self._bars.update(
            self._whole,
            completed=steps_done(progress),
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

        # The last line is the remark's even when it is empty: the terminal echoes ^C there.
        return Group(self._bars.get_renderable(), Text(self._remark, style="bold yellow"))


def steps_done(progress: Progress) -> float:
    """How many steps of the job are done, the present one in part; all steps count the same."""
    share = min(progress.done / progress.total, 1.0) if progress.total > 0 else 0.0
    return progress.step + share


def line_of(progress: Progress) -> str:
    """'[2/7] program: 512 of 4,096 (3 cells a second)'."""
    counted = f": {progress.done:,} of {progress.total:,}" if progress.total else ""
    text = f" ({progress.text})" if progress.text else ""
    return f"[{progress.step + 1}/{progress.steps}] {progress.name}{counted}{text}"


def line_of_event(event: Mapping[str, Any]) -> str:
    """'12:03:11  rsa: step finished  accuracy 96.7 %, best epoch 18  (row 313)'."""
    known = ("time", "level", "event", "run", "row", "step")
    level = "" if event["level"] == "info" else f"{event['level']}: "
    step = f"{event['step']}: " if "step" in event else ""
    data = ", ".join(
        told(key, value) for key, value in event.items() if key not in known and value is not None
    )
    parts = (str(event["time"])[11:19], f"{level}{step}{event['event']}", data)
    return "  ".join([*(part for part in parts if part), f"(row {event['row']})"])


_UNITS = {"siemens": "S", "volts": "V", "seconds": "s", "amps": "A"}


def told(key: str, value: Any) -> str:
    """A named value as people say it: 'stuck lrs 0.44 %', 'rms error 26.3 µS', 'rounds 80'."""
    name, _, last = key.rpartition("_")
    if isinstance(value, float) and (last in ("share", "accuracy", "yield") and value <= 1):
        return f"{name if last == 'share' else key} {100 * value:.3g} %".replace("_", " ")
    if isinstance(value, (int, float)) and last in _UNITS:
        return f"{name.replace('_', ' ')} {show(value, _UNITS[last])}"
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{key.replace('_', ' ')} {shown}"


class LineBar:
    """A bar of lines written, on a terminal; nothing elsewhere."""

    def __init__(self, terminal: Terminal, total: int) -> None:
        import rich.progress as rich

        self._bars = rich.Progress(
            rich.BarColumn(bar_width=28),
            rich.MofNCompleteColumn(),
            rich.TimeRemainingColumn(compact=True),
            console=terminal.err,
            disable=terminal.quiet or not terminal.err.is_terminal,
            transient=True,
        )
        self._task = self._bars.add_task("lines", total=total)

    def __enter__(self) -> LineBar:
        self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.stop()

    def report(self, written: int) -> None:
        """Called as lines are written."""
        self._bars.update(self._task, completed=written)
