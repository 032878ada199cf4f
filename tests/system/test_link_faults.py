"""A bad line between host and board: what never happens, whatever happens to the bytes.

`scripts/bench wires` does the same for a million frames. The second half breaks host, board
or protocol on purpose: each of the run's findings is shown to be found.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from boards import host
from cobs import cobs
from faulty_line import (
    DOUBLED,
    FALSE_ACCEPTS,
    FAULTS,
    LOST,
    NO_FAULTS,
    RESYNC,
    BoardEnd,
    FullDie,
    Line,
    Tally,
    exercise,
    firmware_end,
    python_end,
)
from faulty_line.exercise import _in_order
from silence import of_the_firmware, of_the_python_board

from rramhil.device import NO_CELLS, Cells, Floats, LinkLost, Pulse, Refused
from rramhil_drivers import frames, wire
from rramhil_drivers.serial_device import SerialDevice
from rramhil_drivers.session import Session
from rramhil_drivers.wire import Frame, Type

Call = Callable[..., Any]

FRAMES = 20_000
FEW_FRAMES = 1500
MUCH_WORSE = {name: 8 * rate for name, rate in FAULTS.items() if name != "split"}


def show(tally: Tally) -> None:
    print(f"{tally.frames} frames, {sum(tally.faults.values())} faults {dict(tally.faults)},")
    print(f"opened again {tally.reopened} times, {tally.doubts} cells in doubt")


def test_a_good_line_has_no_doubt() -> None:
    die = FullDie()
    with python_end(die) as end:
        tally = exercise(Line(end, NO_FAULTS, seed=1), 1000, seed=1, options="timeout=10")
    assert tally.violations() == {}
    assert tally.broken == {}
    assert tally.reopened == 1 + tally.calls["abort"]  # for the audit
    assert sum(int(counted.sum()) for counted in die.counted.values()) > 1000


@pytest.mark.system
@pytest.mark.timeout(300)
@pytest.mark.parametrize("board", ["python", "firmware"])
def test_nothing_that_must_not_happen_happens(board: str, tmp_path: Path) -> None:
    made = python_end(FullDie(seed=7)) if board == "python" else firmware_end(tmp_path, noise=3)
    with made as end:
        tally = exercise(Line(end, FAULTS, seed=7), FRAMES, seed=7)
    show(tally)
    assert tally.violations() == {}
    assert tally.frames >= FRAMES
    assert tally.doubts > 100
    assert set(tally.faults) == set(FAULTS)


@pytest.mark.system
def test_a_silent_host_leaves_no_outputs_on(tmp_path: Path) -> None:
    measured = of_the_python_board("emulator:40nm?tiles=1", 6)
    print(f"python board: off after {max(measured):.1f} ms of silence, at the latest")
    assert min(measured) > 100
    assert max(measured) <= 250
    measured = of_the_firmware(tmp_path, 6)
    print(f"firmware: off after {max(measured):.1f} ms of silence, at the latest")
    assert min(measured) > 100
    assert max(measured) <= 250


# --------------------------------------------------------------------------- what it finds


class OtherEnd(BoardEnd):
    """A board that sends what `change` makes of each piece of what it sends."""

    def __init__(self, end: BoardEnd, change: Callable[[bytes], bytes]) -> None:
        super().__init__(end.fd, end.executed)
        self.change = change

    def get(self) -> bytes:
        return self.change(super().get())


def broken(change: Callable[[bytes], bytes] = bytes) -> Tally:
    """What a run on a much worse line finds, after something was broken."""
    with python_end(FullDie(seed=3)) as end:
        return exercise(Line(OtherEnd(end, change), MUCH_WORSE, 3), FEW_FRAMES, seed=3)


@pytest.mark.timeout(120)
def test_nothing_is_found_on_a_line_that_is_much_worse() -> None:
    assert broken().violations() == {}


def test_a_board_that_does_a_doubled_request_twice_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Session, "result", lambda self, frame: None)
    tally = broken()
    assert tally.wrong["executed twice"] > 0
    assert tally.wrong["pulsed more than asked"] > 0
    assert tally.count(DOUBLED) > 0


def test_a_checksum_that_nobody_looks_at_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def any_frame(encoded: bytes) -> Frame:
        try:
            body = cobs.decode(encoded)
        except cobs.DecodeError as error:
            raise wire.Garbled(str(error)) from None
        if not 8 <= len(body) <= wire.MAX_FRAME:
            raise wire.Garbled("of no length of a frame")
        return Frame(body[1], int.from_bytes(body[2:4], "little"), body[4:-4], body[0])

    monkeypatch.setattr(frames, "decode", any_frame)
    assert broken().count(FALSE_ACCEPTS) > 0


def test_a_board_that_passes_over_a_frame_is_found() -> None:
    count = itertools.count(1)
    tally = broken(change=lambda data: b"" if next(count) % 50 == 0 else data)
    assert tally.wrong["arrived but unanswered"] > 0


def test_answers_without_a_zero_in_front_are_found() -> None:
    tally = broken(change=lambda data: data.replace(b"\0\0", b"\0").lstrip(b"\0"))
    assert tally.wrong["undamaged but lost"] > 0


def spoil(monkeypatch: pytest.MonkeyPatch, name: str, call: Callable[..., Any]) -> None:
    """Put `call(device, plain method, argument)` in place of a method of the driver."""
    plain = getattr(SerialDevice, name)
    monkeypatch.setattr(SerialDevice, name, lambda self, asked: call(self, plain, asked))


def test_a_host_that_forgets_its_doubt_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(device: SerialDevice, apply: Call, pulse: Pulse) -> None:
        try:
            apply(device, pulse)
        except LinkLost as error:
            raise LinkLost(str(error), NO_CELLS) from None

    spoil(monkeypatch, "apply", forgetful)
    assert broken().wrong["pulsed and not in the books"] > 0


def test_a_host_that_repeats_a_pulse_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def stubborn(device: SerialDevice, apply: Call, pulse: Pulse) -> None:
        try:
            apply(device, pulse)
        except LinkLost as error:
            with suppress(Refused), host(device.url, 0.02) as again:
                apply(again, pulse)
                return
            raise error from None

    spoil(monkeypatch, "apply", stubborn)
    assert broken().wrong["pulsed more than asked"] > 0


def test_a_driver_that_repeats_pulses_itself_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = SerialDevice._exchange

    def eager(self: SerialDevice, questions: Any, attempts: int, alive_every: float = 0.0) -> Any:
        return plain(self, questions, 5, alive_every)

    monkeypatch.setattr(SerialDevice, "_exchange", eager)
    tally = broken()
    assert tally.wrong["a pulse was sent again"] > 0
    assert tally.wrong["asked too often"] > 0


def test_a_host_that_takes_silence_for_consent_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def hopeful(device: SerialDevice, apply: Call, pulse: Pulse) -> None:
        with suppress(LinkLost):
            apply(device, pulse)

    spoil(monkeypatch, "apply", hopeful)
    tally = broken()
    assert tally.count(LOST) > 0
    assert tally.wrong["claimed but never pulsed"] > 0


def test_a_host_that_makes_up_a_reading_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def inventive(device: SerialDevice, read: Call, cells: Cells) -> Floats:
        siemens = np.asarray(read(device, cells))
        return siemens[::-1] if siemens.size == 33 else siemens

    spoil(monkeypatch, "read", inventive)
    assert broken().wrong["believed but never answered"] > 0


def test_an_answer_that_comes_as_the_host_gives_up_is_not_held_against_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A slow board, and a witness that dawdles between what was heard and what is unread."""
    rng, unread = Random(5), Line.unread

    class SlowDie(FullDie):
        def apply(self, pulse: Pulse) -> None:
            if rng.random() < 0.1:
                time.sleep(rng.uniform(0.02, 0.05))
            super().apply(pulse)

    def later(line: Line) -> int | None:
        time.sleep(0.03)
        return unread(line)

    monkeypatch.setattr(Line, "unread", later)
    with python_end(SlowDie(1)) as end:
        tally = exercise(Line(end, NO_FAULTS, seed=1), 1500, seed=1)
    assert tally.broken["LinkLost"] > 5
    assert tally.violations() == {}


def test_a_copy_after_the_answer_to_a_later_number_comes_too_late() -> None:
    def reply(seq: int, kind: Type = Type.APPLY) -> Frame:
        return Frame(kind | wire.REPLY, seq)

    def taken(*heard: Frame) -> list[int]:
        return [seq for seq, _ in _in_order(list(heard))]

    assert taken(reply(16), reply(17), reply(18)) == [16, 17, 18]
    assert taken(reply(16), reply(18), reply(17)) == [16, 18]  # 17 was given up at 18
    assert taken(reply(17), reply(17)) == [17, 17]
    assert taken(reply(17), reply(1, Type.STATUS), reply(18)) == [17, 1, 18]


def test_a_host_that_does_not_understand_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def dull(device: SerialDevice, read: Call, cells: Cells) -> Floats:
        siemens = read(device, cells)
        if siemens.sum() % 4e-6 < 1e-6:
            raise LinkLost("it does not answer")
        return np.asarray(siemens)

    spoil(monkeypatch, "read", dull)
    assert broken().count(RESYNC) > 0
