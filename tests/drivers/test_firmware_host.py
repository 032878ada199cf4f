"""The reference firmware with the driver in front of it, and beside the virtual board."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from boards import host
from fakes import FakeDie
from firmware_board import FirmwareBoard, built, firmware_board
from raw_host import apply, hello, raw_host, read, state, why

from rramhil.conformance import Outcome, check
from rramhil.device import Device, DeviceFault, Kind, LinkLost, Pulse, Refused
from rramhil_drivers import requests, scales, wire
from rramhil_drivers.virtual_board import Board
from rramhil_drivers.wire import Frame, Type, Why

ALL = np.arange(4096)
LONG_LEASE_MS = 60_000


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    """Compiled before the time limit of a test begins to run."""
    built()
    built(lease_ms=LONG_LEASE_MS)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[FirmwareBoard]:
    with firmware_board(tmp_path) as made:
        yield made


def a_set(cells: object, volts: float = 2.0) -> Pulse:
    return Pulse(Kind.SET, np.asarray(cells), volts, 2.5, seconds=1e-6)


def test_it_keeps_every_promise_of_a_device(tmp_path: Path) -> None:
    with firmware_board(tmp_path, noise=2) as board:
        findings = list(check(host(board.url), scratch=ALL[::40]))
    assert [str(f) for f in findings if f.outcome is Outcome.FAILED] == []
    assert sum(f.outcome is Outcome.PASSED for f in findings) > 20


def test_what_the_driver_did_is_what_the_silicon_counted(board: FirmwareBoard) -> None:
    rng = np.random.default_rng(2)
    wanted = np.zeros((3, ALL.size), np.int64)
    with host(board.url) as device:
        for size in (1, 64, 65, 700):
            cells = rng.choice(ALL.size, size, replace=False)
            device.apply(a_set(cells))
            wanted[0, cells] += 1
            device.apply(Pulse(Kind.FORM, cells, 3.0, 2.0, seconds=1e-5, limit_amps=1e-4))
            wanted[2, cells] += 1
        done = device.program(ALL[:200], 15e-6, 25e-6)
        wanted[0, :200] += done.sets
        wanted[1, :200] += done.resets
        assert done.ok.mean() > 0.9
        assert device.read(ALL[:200])[done.ok].max() <= 25e-6
    assert board.counts().tolist() == wanted.tolist()
    assert board.silicon().outputs == 0


def test_a_refusal_by_the_firmware_alone_reaches_no_cell(board: FirmwareBoard) -> None:
    """The driver's own check is taken away: the limits of the firmware remain."""
    with host(board.url) as device:
        limits = device.spec.pulses[Kind.SET]
        wide = replace(limits, volts=replace(limits.volts, high=9.0))
        device.spec = replace(device.spec, pulses={**device.spec.pulses, Kind.SET: wide})
        volts = np.where(np.arange(64) == 40, 3.01, 1.0)
        with pytest.raises(Refused, match=r"SET of cell 40: voltage of 301 steps .* 0 to 300"):
            device.apply(a_set(ALL[:64], volts))  # type: ignore[arg-type]
    assert board.silicon().pulses == 0


def doubt(device: Device, error: type[Exception]) -> set[int]:
    """Cells in doubt after a SET of the first 200 that fails."""
    with pytest.raises(error) as raised:
        device.apply(a_set(ALL[:200]))
    return set(raised.value.maybe.tolist())  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fault", "error"), [("fail_at_pulse", DeviceFault), ("die_at_pulse", LinkLost)]
)
def test_cells_pulsed_before_a_failure_are_in_doubt(
    tmp_path: Path, fault: str, error: type[Exception]
) -> None:
    chosen: dict[str, Any] = {fault: 100}
    with firmware_board(tmp_path, **chosen) as board:
        maybe = doubt(host(board.url, 0.5), error)
    with firmware_board(tmp_path) as board:
        pulsed = set(np.flatnonzero(board.counts()[0]).tolist())
        assert len(pulsed) == 99
        assert pulsed <= maybe
        assert maybe <= set(range(200))
        assert 99 in maybe


@pytest.mark.parametrize("option", ["drop_in", "drop_out"])
def test_lost_bytes_lose_no_pulse_from_the_books(tmp_path: Path, option: str) -> None:
    """Each call either counts, or leaves its cells in doubt; reads get through."""
    done, doubtful = np.zeros(ALL.size, np.int64), np.zeros(ALL.size, np.int64)
    lost = 0
    chosen: dict[str, Any] = {option: 2500}
    with firmware_board(tmp_path, **chosen) as board:
        for _ in range(25):
            try:
                with host(board.url, 0.3) as device:
                    for first in range(0, 512, 128):
                        cells = ALL[first : first + 128]
                        device.apply(a_set(cells))
                        done[cells] += 1
                        device.read(cells)
            except LinkLost as error:
                lost += 1
                doubtful[error.maybe] += 1
    with firmware_board(tmp_path) as board:
        counted = board.counts()[0]
    assert lost > 0
    assert done.sum() > 0
    assert (done <= counted).all()
    assert (counted <= done + doubtful).all()


# --------------------------------------------------------------------------- beside the other


def some_frame(rng: np.random.Generator, seq: int, session: int) -> Frame:
    """A request, sensible or not, that depends on nothing but the session and its number."""
    what = rng.choice(["hello", "arm", "read", "count", "apply", "wrong", "abort", "unknown"],
                      p=[0.02, 0.08, 0.15, 0.15, 0.45, 0.1, 0.02, 0.03])  # fmt: skip
    cells = rng.choice(40, int(rng.integers(1, 5)), replace=bool(rng.random() < 0.1))
    if what == "hello":
        return hello(session, seq)
    if what == "arm":
        return Frame(Type.ARM, seq, requests.Arm(session, int(rng.choice([0, 60_000]))).pack())
    if what == "read":
        return read(seq, cells)
    if what == "count":
        return Frame(Type.COUNT, seq, wire.pack_count(int(rng.integers(4)), cells))
    if what == "apply":
        other = session + int(rng.random() < 0.05)
        volts = int(rng.choice([100, 100, 100, 301]))
        return apply(seq, cells, session=other, volts=volts)
    if what == "abort":
        return Frame(Type.ABORT, seq)
    kind = int(rng.choice([1, 2, 3, 4, 8])) if what == "wrong" else int(rng.integers(20, 120))
    return Frame(kind, seq, rng.integers(0, 256, int(rng.integers(0, 30)), np.uint8).tobytes())


def comparable(answer: Frame) -> object:
    """An answer without what the two boards may say in their own way."""
    if answer.type == Type.NAK:
        return answer.seq, why(answer)
    if answer.type in (Type.ARM | wire.REPLY, Type.ABORT | wire.REPLY, Type.STATUS | wire.REPLY):
        return answer.type, answer.seq, replace(state(answer), since_ms=0, lease_ms=0)
    if answer.type == Type.HELLO | wire.REPLY:
        said = wire.HelloReply.unpack(answer.payload)
        return answer.seq, said.session, said.schema, said.window, said.cells, said.lease_ms
    if answer.type == Type.READ | wire.REPLY:
        return answer.type, answer.seq, len(answer.payload)
    return answer


def traffic(rng: np.random.Generator, count: int) -> Iterator[Frame]:
    """Requests of a host that jumps in its numbers, changes its session, and repeats itself."""
    sent: list[Frame] = []
    session, seq = 1, 0
    for _ in range(count):
        seq += int(rng.choice([1, 2, 70, 3000], p=[0.9, 0.08, 0.01, 0.01]))
        session += int(rng.random() < 0.01)
        if sent and rng.random() < 0.3:
            frame = sent[-int(rng.integers(1, 1 + min(len(sent), 90)))]
        else:
            frame = some_frame(rng, seq % 2**16, session)
        sent.append(frame)
        yield frame


def test_it_answers_what_the_virtual_board_answers(tmp_path: Path) -> None:
    """The same 4000 requests, many of them twice, late, or wrong, to both."""
    reasons = set()
    with firmware_board(tmp_path, lease_ms=LONG_LEASE_MS) as made, raw_host(made.url) as raw:
        reply = wire.HelloReply.unpack(raw.ask(hello(1)).payload)
        spec = scales.unpack_spec(reply)[0]
        plain = replace(spec, mvm=None, program=None, knobs={}, volatile=True)
        virtual = Board(FakeDie(plain), follow_wall_clock=False, lease_ms=LONG_LEASE_MS)
        virtual.answer(hello(1))
        for frame in traffic(np.random.default_rng(8), 4000):
            answer = raw.ask(frame)
            assert comparable(answer) == comparable(virtual.answer(frame)), frame
            reasons.add(why(answer))
    executed = made.silicon().pulses
    assert executed == virtual.counts.sum()
    assert executed > 300
    assert {Why.STALE, Why.SESSION, Why.HALTED, Why.UNARMED, Why.BUSY} <= reasons
    assert {Why.REFUSED, Why.LAYOUT, Why.TYPE} <= reasons
