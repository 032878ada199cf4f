"""What is shown while a run goes on: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import io
import signal
import sys

import pytest
from rich.console import Console

from rramhil.cli.progress import LINE_EVERY_SECONDS, Bars, Lines, line_of_event, steps_done, told
from rramhil.cli.stop import NOW, SOON, WAIT, Stop
from rramhil.session import Progress

EVENT = {"time": "2026-01-01T12:03:11Z", "level": "info", "event": "ended", "run": "r", "row": 7}


def test_lines_tell_each_step_once_and_then_now_and_then() -> None:
    said: list[str] = []
    now = [0.0]
    lines = Lines(said.append, lambda: now[0])
    for done in range(3):
        lines.watch(Progress(0, 2, "prepare", done, 3, "loading"))
    lines.watch(Progress(0, 2, "scan", 1, 1200, "tile 0"))
    now[0] = LINE_EVERY_SECONDS
    lines.watch(Progress(0, 2, "scan", 1100, 1200, ""))
    lines.hear(EVENT)
    assert said == [
        "[1/2] prepare: 0 of 3 (loading)",
        "[1/2] scan: 1 of 1,200 (tile 0)",
        "[1/2] scan: 1,100 of 1,200",
        "12:03:11  ended  (row 7)",
    ]


def test_bars_show_the_step_the_job_the_events_and_the_remark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stdout", screen)
    console = Console(file=screen, force_terminal=True, width=120, color_system=None)
    with Bars(console) as bars:
        bars.watch(Progress(1, 4, "rsa", 3, 12, "validation [95 %]"))
        bars.hear(EVENT)
        bars.tell("stopping soon")
    shown = screen.getvalue()
    assert "step 2 of 4" in shown
    assert "3 of 12" in shown
    assert "validation [95 %]" in shown
    assert "12:03:11  ended  (row 7)" in shown
    assert "stopping soon" in shown


def test_steps_done_never_runs_ahead_of_the_step() -> None:
    given = [(0, 0, 0), (0, 1, 4), (2, 9, 4), (3, 4, 4)]
    done = [steps_done(Progress(step, 4, "x", did, total, "")) for step, did, total in given]
    assert done == [0.0, 0.25, 3.0, 4.0]


def test_an_event_reads_like_a_sentence() -> None:
    event = {**EVENT, "level": "warning", "event": "stopped", "step": "rsa", "accuracy": 0.9667}
    assert line_of_event(event) == "12:03:11  warning: rsa: stopped  accuracy 96.7 %  (row 7)"


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("stuck_lrs_share", 0.0044, "stuck lrs 0.44 %"),
        ("yield", 0.5, "yield 50 %"),
        ("rms_error_siemens", 26.3e-6, "rms error 26.3 µS"),
        ("lowest_level_gate_volts", 2.24, "lowest level gate 2.24 V"),
        ("pulses_per_cell", 12.3456, "pulses per cell 12.35"),
        ("rounds", 80, "rounds 80"),
        ("serial", "40nm-0", "serial 40nm-0"),
    ],
)
def test_told(key: str, value: object, text: str) -> None:
    assert told(key, value) == text


def test_stop_counts_and_leaves_the_cleaning_up_alone() -> None:
    said: list[str] = []
    with Stop(said.append) as stop:
        assert not stop.asked()
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked()
        signal.raise_signal(signal.SIGTERM)  # a second SIGTERM asks for nothing new
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert said == [SOON, NOW, WAIT]
