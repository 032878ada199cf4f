"""The reference firmware on bad days: silence, ABORT, a full window, death, and garbage.

Times are the board's own: its silicon notes when a byte came and when the outputs went off.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from firmware_board import FirmwareBoard, built, firmware_board
from raw_host import SESSION, RawHost, apply, arm, hello, raw_host, read, state, why

from rramhil_drivers import requests, wire
from rramhil_drivers.wire import Frame, Off, Outputs, Type, Why

pytestmark = pytest.mark.system

ALL = np.arange(4096)
OFF_SECONDS = 0.25
"""Within which the outputs are off after the last byte of a silent host, or after an ABORT."""


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    """Compiled before the time limit of a test begins to run."""
    built()


@pytest.fixture
def board(tmp_path: Path) -> Iterator[FirmwareBoard]:
    with firmware_board(tmp_path) as made:
        yield made


def until(board: FirmwareBoard, pulses: int) -> None:
    """Wait until so many pulses were begun."""
    deadline = time.monotonic() + 10
    while board.silicon().pulses < pulses:
        assert time.monotonic() < deadline
        time.sleep(0.002)


# --------------------------------------------------------------------------- the lease


def test_a_silent_host_has_its_outputs_put_off(board: FirmwareBoard) -> None:
    with raw_host(board.url) as raw:
        raw.greet()
        assert board.silicon().outputs != 0
        assert raw.quiet(0.4)
        seen = board.silicon()
        assert seen.outputs == 0
        print(f"safe_after_silence_ms {1e3 * (seen.off_at - seen.heard_at):.1f}")
        assert 0.19 < seen.off_at - seen.heard_at <= OFF_SECONDS
        after = raw.status()
        assert (after.outputs, after.why, after.expired) == (Outputs.OFF, Off.LEASE, 1)
        assert why(raw.ask(apply(2))) is Why.UNARMED
        assert raw.ask(arm(3)).type == Type.ARM | wire.REPLY
        assert raw.ask(apply(4)).payload == bytes((1, 0))


def test_every_right_frame_renews_the_lease_and_garbage_does_not(board: FirmwareBoard) -> None:
    with raw_host(board.url) as raw:
        raw.greet()
        for seq in range(2, 10):
            time.sleep(0.1)
            raw.ask(read(seq) if seq % 2 else Frame(99, seq))
        assert raw.status().outputs == Outputs.ARMED
        broken = bytearray(wire.encode(read(20)))
        broken[5] ^= 1
        for _ in range(8):
            time.sleep(0.05)
            raw.write(bytes(broken))
        assert raw.status().why == Off.LEASE


def test_a_pulse_under_way_ends_with_the_lease(tmp_path: Path) -> None:
    with firmware_board(tmp_path, pulse_ms=80) as board, raw_host(board.url) as raw:
        raw.greet()
        answer = raw.ask(apply(2, ALL[:8]))
        reply = wire.ApplyReply.unpack(answer.payload)
        seen = board.silicon()
        assert seen.outputs == 0
        assert seen.off_at - seen.heard_at <= OFF_SECONDS
        assert reply.message.endswith("the lease ran out")
        done, now = reply.statuses.count(0), reply.statuses.count(2)
        assert reply.statuses == (0,) * done + (2,) * now + (1,) * (8 - done - now)
        assert 0 < done < 8
        assert now == 1
        assert seen.pulses == done + 1
        assert why(raw.ask(apply(3))) is Why.HALTED
        assert raw.counts(0, ALL[:8], 4).tolist() == [1] * done + [0] * (8 - done)


def test_a_host_that_asks_while_it_waits_keeps_the_lease(tmp_path: Path) -> None:
    with firmware_board(tmp_path, pulse_ms=80) as board, raw_host(board.url) as raw:
        raw.greet()
        raw.send(apply(2, ALL[:8]))
        seen = []
        while (answer := raw.ask(Frame(Type.STATUS, 7))).type == Type.STATUS | wire.REPLY:
            seen.append(state(answer))
            time.sleep(0.05)
        assert answer.payload == bytes((8, 0))
        assert raw.receive().type == Type.STATUS | wire.REPLY
        assert {s.outputs for s in seen} <= {Outputs.ARMED, Outputs.DRIVEN}
        assert {(s.type, s.seq) for s in seen[1:]} == {(Type.APPLY, 2)}
        assert sorted(s.cells for s in seen) == [s.cells for s in seen]
        assert seen[-1].cells > 0
        assert board.silicon().pulses == 8


def test_another_host_waits_until_the_lease_is_over(board: FirmwareBoard) -> None:
    with raw_host(board.url) as raw:
        raw.greet()
        assert why(raw.ask(hello(SESSION + 1))) is Why.BUSY
        assert raw.status().session == SESSION
        asked = 1
        while why(answer := raw.ask(hello(SESSION + 1))) is Why.BUSY:
            asked += 1
            time.sleep(0.05)
            assert asked < 100, "a host that knocks keeps the lease of the other alive"
        assert answer.type == Type.HELLO | wire.REPLY
        assert asked > 2
        assert why(raw.ask(apply(2))) is Why.SESSION
        assert board.silicon().pulses == 0


# --------------------------------------------------------------------------- abort


def aborted(raw: RawHost, version: int = wire.VERSION) -> tuple[requests.State, float]:
    """The first answer after an ABORT, which must be its own, and how long it took."""
    begun = time.monotonic()
    answer = raw.ask(Frame(Type.ABORT, 9, version=version))
    assert (answer.type, answer.seq) == (Type.ABORT | wire.REPLY, 9)
    return state(answer), time.monotonic() - begun


@pytest.mark.parametrize("version", [wire.VERSION, 1])
def test_abort_stops_the_pulse_under_way_and_what_waits(tmp_path: Path, version: int) -> None:
    with firmware_board(tmp_path, pulse_ms=60) as board, raw_host(board.url) as raw:
        raw.greet()
        raw.send(apply(2, ALL[:64]), apply(3, ALL[64:128]), read(4), hello(SESSION + 1, 5))
        until(board, 2)
        at, seconds = aborted(raw, version)
        print(f"abort_ms {1e3 * seconds:.1f}")
        assert seconds <= OFF_SECONDS
        assert (at.outputs, at.why, at.lease_ms) == (Outputs.OFF, Off.ABORT, 0)
        assert (at.type, at.seq) == (Type.APPLY, 2)
        reply = wire.ApplyReply.unpack(raw.receive().payload)
        assert reply.statuses.count(0) == at.cells
        assert reply.statuses[at.cells] in (1, 2)
        assert reply.statuses[at.cells + 1 :] == (1,) * (63 - at.cells)
        assert reply.message.endswith("the host sent ABORT")
        rest = [raw.receive() for _ in range(3)]
        assert [frame.seq for frame in rest] == [3, 4, 5]
        assert [why(frame) for frame in rest] == [Why.HALTED] * 3
        assert board.silicon().outputs == 0
        assert why(raw.ask(apply(6))) is Why.HALTED
        assert raw.ask(read(7)).type == Type.READ | wire.REPLY
        raw.greet(session=SESSION + 1)
        assert raw.ask(apply(2, session=SESSION + 1)).payload == bytes((1, 0))


@pytest.mark.parametrize("what", ["read", "product", "program"])
def test_abort_stops_whatever_is_under_way(tmp_path: Path, what: str) -> None:
    with (
        firmware_board(tmp_path, read_ms=20, product_ms=20, pulse_ms=20) as board,
        raw_host(board.url) as raw,
    ):
        raw.greet()
        cells = ALL[:32]
        frame = {
            "read": read(2, cells),
            "product": Frame(
                Type.PRODUCT, 2, requests.Product(0, np.ones((9, 32), np.int64)).pack(4)
            ),
            "program": Frame(
                Type.PROGRAM, 2, requests.Program(SESSION, cells, 0 * cells, 0 * cells + 60).pack()
            ),
        }[what]
        raw.send(frame)
        time.sleep(0.05)
        at, seconds = aborted(raw)
        assert seconds <= OFF_SECONDS
        assert (at.outputs, at.type, at.seq) == (Outputs.OFF, frame.type, 2)
        answer = raw.receive()
        if what != "program":
            assert why(answer) is Why.HALTED
            return
        done = requests.ProgramReply.unpack(answer.payload)
        assert done.failed
        assert done.message.endswith("the host sent ABORT")
        assert (done.verdicts[at.cells + 1 :] == wire.Verdict.UNTOUCHED).all()
        assert (done.sets + done.resets)[at.cells + 1 :].sum() == 0
        assert raw.counts(1, cells, 3).sum() == done.resets.sum()
        assert board.silicon().pulses - done.resets.sum() - done.sets.sum() in (0, 1)


@pytest.mark.parametrize("end", ["abort", "lease"])
def test_no_pulse_begins_after_an_abort_or_the_end_of_the_lease(tmp_path: Path, end: str) -> None:
    """Both come while the board reads the cell that it is going to pulse."""
    with firmware_board(tmp_path, read_ms=500) as board, raw_host(board.url) as raw:
        raw.greet()
        one = np.array([3])
        asked = requests.Program(SESSION, one, 0 * one + 1400, 0 * one + 1500)
        raw.send(Frame(Type.PROGRAM, 2, asked.pack()))
        if end == "abort":
            assert raw.quiet(0.15)
            at, _ = aborted(raw)
            assert at.outputs == Outputs.OFF
        done = requests.ProgramReply.unpack(raw.receive().payload)
        assert done.failed
        assert done.verdicts.tolist() == [wire.Verdict.UNTOUCHED]
        assert done.reads.tolist() == [1]
        assert done.message.endswith({"abort": "sent ABORT", "lease": "lease ran out"}[end])
        assert board.silicon().pulses == 0
        assert board.silicon().outputs == 0


def test_abort_needs_no_session_and_may_come_twice(board: FirmwareBoard) -> None:
    with raw_host(board.url) as raw:
        for _ in range(2):
            at, _ = aborted(raw)
            assert (at.outputs, at.why, at.session, at.type) == (Outputs.OFF, Off.ABORT, 0, 0)
        raw.greet()
        assert raw.ask(apply(2)).payload == bytes((1, 0))


# --------------------------------------------------------------------------- the window


def test_requests_in_flight_are_answered_in_order(board: FirmwareBoard) -> None:
    with raw_host(board.url) as raw:
        raw.greet()
        for first in range(2, 402, 8):
            frames = [apply(first + i, ALL[64 * i : 64 * i + 64]) for i in range(4)]
            frames += [read(first + 4 + i, ALL[64 * i : 64 * i + 64]) for i in range(4)]
            raw.send(*frames)
            assert [raw.receive().seq for _ in range(8)] == [frame.seq for frame in frames]
        assert raw.counts(0, ALL[:320], 500).tolist() == [50] * 256 + [0] * 64


def test_more_than_the_window_is_lost_and_nothing_else(tmp_path: Path) -> None:
    with firmware_board(tmp_path, read_ms=30) as board, raw_host(board.url) as raw:
        raw.greet(lease_ms=0)
        raw.send(*(read(2 + i, [i]) for i in range(30)), Frame(Type.STATUS, 1))
        assert raw.receive().type == Type.STATUS | wire.REPLY
        answers = [raw.receive() for _ in range(8)]
        assert [a.seq for a in answers] == list(range(2, 10))
        others = []
        while not raw.quiet(0.5):
            others.append(raw.receive().seq)
        assert len(others) < 22
        assert raw.ask(read(99)).seq == 99


# --------------------------------------------------------------------------- ends of the board


def test_a_board_that_dies_in_a_pulse_keeps_its_silicon(tmp_path: Path) -> None:
    with firmware_board(tmp_path, die_at_pulse=5) as board, raw_host(board.url) as raw:
        raw.greet()
        raw.send(apply(2, ALL[:64]))
        assert board.process.wait(10) == 3
        assert board.silicon().pulses == 5
    with firmware_board(tmp_path) as board, raw_host(board.url) as raw:
        assert board.silicon().outputs == 0
        assert raw.status().session == 0
        assert why(raw.ask(apply(3))) is Why.SESSION
        raw.greet()
        assert raw.counts(0, ALL[:64], 2).tolist() == [1] * 4 + [0] * 60


def test_a_board_that_is_told_to_end_puts_its_outputs_off(tmp_path: Path) -> None:
    with firmware_board(tmp_path, pulse_ms=30) as board, raw_host(board.url) as raw:
        raw.greet()
        raw.send(apply(2, ALL[:2]))
        until(board, 1)
        board.process.send_signal(signal.SIGTERM)
        assert board.process.wait(10) == 0
        assert board.silicon().outputs == 0


# --------------------------------------------------------------------------- garbage


def wrong_payload(rng: np.random.Generator, kind: int) -> bytes:
    """Something like a payload: of the right session at times, of any length and contents."""
    size = int(rng.choice([0, 1, 4, 5, 6, 10, 11, 15, 21, 64, 300, 1016]))
    payload = bytearray(rng.integers(0, 256, size, np.uint8).tobytes())
    if rng.random() < 0.8:
        payload[:4] = SESSION.to_bytes(4, "little")[: len(payload)]
    if kind == Type.APPLY and rng.random() < 0.8:
        count = int(rng.integers(0, 70))
        head = bytes((int(rng.integers(4)), int(rng.integers(4)))) + b"\xe8\x03\0\0"
        body = rng.integers(0, 256, 10 * count, np.uint8).tobytes()
        payload = bytearray(SESSION.to_bytes(4, "little") + head + bytes((count,)) + body)
    return bytes(payload[:1016])


def test_garbage_is_never_pulsed_and_never_crashes(board: FirmwareBoard) -> None:
    rng = np.random.default_rng(5)
    with raw_host(board.url) as raw:
        raw.greet(lease_ms=0)
        began, frames = time.monotonic(), 0
        while time.monotonic() - began < 4.0:
            raw.write(rng.integers(0, 256, int(rng.integers(1, 3000)), np.uint8).tobytes())
            good = bytearray(wire.encode(apply(int(rng.integers(2**16)))))
            good[int(rng.integers(len(good) - 1))] ^= 1 << int(rng.integers(8))
            raw.write(b"\0" + bytes(good) + b"\0" + bytes(good[: int(rng.integers(len(good)))]))
            frames += 2
            while not raw.quiet(0):
                raw.receive()
        print(f"{frames} damaged frames among random bytes")
        raw.write(b"\0")
        raw.greet(seq=9, session=4)
        assert board.silicon().pulses == 0


def test_right_frames_with_wrong_contents_never_crash_and_never_pulse(
    board: FirmwareBoard,
) -> None:
    rng = np.random.default_rng(6)
    with raw_host(board.url) as raw:
        raw.greet()
        began, seq, reasons = time.monotonic(), 2, set()
        while time.monotonic() - began < 4.0:
            kind = int(rng.choice([2, 3, 3, 3, 4, 5, 6, 6, 7, 11, 12, 200]))
            seq = (seq + 1) % 2**16
            answer = raw.ask(Frame(kind, seq, wrong_payload(rng, kind)))
            assert answer.seq == seq
            reasons.add(why(answer))
        print(f"{seq} frames, answered {sorted(map(str, reasons))}")
        assert {Why.TYPE, Why.LAYOUT, Why.REFUSED, Why.SESSION} <= reasons
        assert Why.UNARMED not in reasons
        assert board.silicon().pulses == 0
        assert raw.ask(apply((seq + 1) % 2**16)).payload == bytes((1, 0))
