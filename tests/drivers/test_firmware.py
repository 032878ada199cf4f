"""The reference firmware, compiled with sanitizers, on a pseudo-terminal: what each request
does, how often, and what is answered."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from firmware_board import FirmwareBoard, built, firmware_board
from raw_host import SESSION, RawHost, apply, arm, hello, raw_host, read, state, why

from rramhil.device import Kind
from rramhil_drivers import requests, scales, wire
from rramhil_drivers.wire import Frame, Nak, Off, Outputs, Type, Why

PAGE = Path(__file__).parent.parent.parent / "docs" / "board-protocol.md"
ALL = np.arange(4096)


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    """Compiled before the time limit of a test begins to run."""
    built()


@pytest.fixture
def board(tmp_path: Path) -> Iterator[FirmwareBoard]:
    with firmware_board(tmp_path) as made:
        yield made


@pytest.fixture
def raw(board: FirmwareBoard) -> Iterator[RawHost]:
    with raw_host(board.url) as made:
        yield made


# --------------------------------------------------------------------------- the core alone


def test_checksum_cobs_receiver_and_memory() -> None:
    done = subprocess.run(
        [built() / "test_core"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "core: all is well\n"), done.stderr


def through_the_core(stream: bytes) -> tuple[list[tuple[str, str]], int]:
    """(frame, what the core sends for it) in hexadecimal, and how many pieces were dropped."""
    done = subprocess.run(
        [built() / "test_core", "frames"], input=stream, capture_output=True, timeout=60, check=True
    )
    *lines, dropped = done.stdout.decode().splitlines()
    pairs = [(a, b) for a, b in (line.split() for line in lines)]
    return pairs, int(dropped.split()[1])


def expected(frames: list[Frame]) -> list[tuple[str, str]]:
    """Each frame without its checksum, and as a board sends it: behind a zero byte."""
    own = [Frame(frame.type, frame.seq, frame.payload) for frame in frames]
    heads = [bytes((f.version, f.type)) + f.seq.to_bytes(2, "little") + f.payload for f in frames]
    return [
        (head.hex(), (b"\0" + wire.encode(f)).hex()) for head, f in zip(heads, own, strict=True)
    ]


def without_checksum(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(frame[:-8], sent) for frame, sent in pairs]


def test_frames_are_those_of_wire_whatever_the_line_does_to_them() -> None:
    rng = np.random.default_rng(11)
    stream = bytearray()
    for _ in range(1500):
        size = int(rng.choice([0, 1, 8, 100, 249, 250, 253, 254, 255, 600, 1015, 1016]))
        values = rng.integers(0, 256 if rng.random() < 0.5 else 2, size, np.uint8)
        frame = Frame(int(rng.integers(256)), int(rng.integers(2**16)), values.tobytes())
        piece = bytearray(wire.encode(frame))
        hurt = rng.random()
        if hurt < 0.2:
            piece[rng.integers(len(piece))] ^= 1 << int(rng.integers(8))
        elif hurt < 0.3:
            del piece[rng.integers(len(piece)) :]
        elif hurt < 0.4:
            piece += rng.integers(0, 256, int(rng.integers(1, 1500)), np.uint8).tobytes()
        stream += piece
    receiver = wire.Receiver()
    frames = receiver.feed(bytes(stream))
    pairs, dropped = through_the_core(bytes(stream))
    assert 500 < len(frames) < 1500
    assert without_checksum(pairs) == expected(frames)
    assert dropped == receiver.dropped


def test_the_examples_of_the_page_are_frames_here_too() -> None:
    text = PAGE.read_text("utf-8").split("## Examples")[1]
    examples = [bytes.fromhex(found) for found in re.findall(r"((?:[0-9a-f]{2} )+00)\n", text)]
    assert len(examples) >= 8
    pairs, dropped = through_the_core(b"".join(examples))
    assert [bytes.fromhex(sent) for _, sent in pairs] == [b"\0" + shown for shown in examples]
    assert dropped == 0


def test_the_core_asks_for_the_hardware_layer_and_no_heap_or_files() -> None:
    objects = sorted((built(sanitized=False) / "core").glob("*.o"))
    assert len(objects) >= 12
    listed = subprocess.run(
        ["nm", *objects], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    needed = set(re.findall(r"^ +U (\w+)$", listed, re.M))
    given = set(re.findall(r"^[0-9a-f]+ [TRDBV] (\w+)$", listed, re.M))
    library = {name for name in needed - given if not name.startswith("hal_")}
    assert library <= {"memcpy", "memset", "strlen", "__stack_chk_fail", "_GLOBAL_OFFSET_TABLE_"}
    assert {"hal_pulse_start", "hal_outputs_off", "hal_milliseconds"} <= needed


# --------------------------------------------------------------------------- what it is


def test_hello_says_what_the_board_is(raw: RawHost) -> None:
    reply = wire.HelloReply.unpack(raw.ask(hello()).payload)
    assert (reply.session, reply.window, reply.cells, reply.lease_ms) == (SESSION, 8, 64, 200)
    assert reply.schema == wire.SCHEMA
    spec, firmware = scales.unpack_spec(reply)
    assert (spec.model, spec.serial) == ("reference-1t1r", "firmware-0")
    assert firmware == "rramhil reference firmware"
    assert (spec.tiles, spec.rows, spec.cols) == (2, 32, 64)
    assert set(spec.pulses) == set(Kind)
    assert spec.pulses[Kind.FORM].limit_amps is not None
    assert spec.newborn
    assert raw.ask(apply(1)).type == Type.NAK
    raw.greet(seq=2, session=5)
    raw.ask(apply(4, session=5))
    assert not wire.HelloReply.unpack(raw.ask(hello(5, 5)).payload).flags


def test_what_it_does_not_know_it_says_and_does_not_do(board: FirmwareBoard, raw: RawHost) -> None:
    assert why(raw.ask(read(1))) is Why.SESSION
    assert why(raw.ask(apply(1))) is Why.SESSION
    raw.greet(seq=0)
    for number, wrong in enumerate(
        [
            (Frame(99, 0), Why.TYPE),
            (Frame(11, 0, b"\x02\0\0\0\0"), Why.TYPE),
            (Frame(Type.READ, 0, b"\x03"), Why.LAYOUT),
            (Frame(Type.APPLY, 0, b"abc"), Why.LAYOUT),
            (Frame(Type.HELLO, 0, b"abc"), Why.LAYOUT),
            (Frame(Type.ARM, 0, b"abc"), Why.LAYOUT),
            (Frame(Type.STATUS, 0, b"abc"), Why.LAYOUT),
            (Frame(Type.KNOB, 0, b"abcde"), Why.LAYOUT),
            (Frame(Type.PROGRAM, 0, b"abcd\x01"), Why.LAYOUT),
            (Frame(Type.PRODUCT, 0, b"abcd\x01"), Why.LAYOUT),
            (read(0, [9999]), Why.REFUSED),
            (read(0, [5, 5]), Why.REFUSED),
            (Frame(Type.READ, 0, b"\x03\x01\xff\xff\xff\xff\xff\xff\xff\xff"), Why.REFUSED),
            (Frame(Type.COUNT, 0, b"\x03" + wire.pack_cells(np.array([1]))), Why.REFUSED),
            (arm(0, lease_ms=201), Why.REFUSED),
            (apply(0, [4096]), Why.REFUSED),
            (apply(0, [3, 3]), Why.REFUSED),
            (apply(0, volts=301), Why.REFUSED),
            (apply(0, volts=-1), Why.REFUSED),
            (apply(0, gate=401), Why.REFUSED),
            (apply(0, session=SESSION + 1), Why.SESSION),
            (arm(0, session=SESSION + 1), Why.SESSION),
            (Frame(Type.READ, 0, read(0).payload, version=1), Why.VERSION),
        ],
        start=2,
    ):
        frame, reason = wrong
        answer = raw.ask(Frame(frame.type, number, frame.payload, frame.version))
        assert why(answer) is reason, (number, Nak.unpack(answer.payload))
        assert Nak.unpack(answer.payload).message.isprintable()
    assert board.silicon().pulses == 0


def test_a_refusal_names_cell_value_and_limit(raw: RawHost) -> None:
    raw.greet()
    said = Nak.unpack(raw.ask(apply(2, volts=301)).payload).message
    assert said == "SET of cell 3: voltage of 301 steps (allowed: 0 to 300)"
    said = Nak.unpack(raw.ask(read(3, [4096])).payload).message
    assert said == "cell 4096 does not exist: firmware-0 has cells 0 to 4095"


@pytest.mark.parametrize(("flags", "kind"), [(0, 0), (2, 0), (3, 1), (4, 0), (2, 2)])
def test_terminals_that_the_kind_lacks_or_needs(raw: RawHost, flags: int, kind: int) -> None:
    raw.greet()
    none, some = None, np.array([100])
    gate, limit = (some if flags & 1 else none), (some if flags & 2 else none)
    pulse = wire.Apply(SESSION, kind, 1000, np.array([3]), some, gate, limit).pack()
    if flags == 4:
        pulse = pulse[:5] + b"\x04" + pulse[6:]
    answer = raw.ask(Frame(Type.APPLY, 2, pulse))
    assert why(answer) is (Why.LAYOUT if flags == 4 else Why.REFUSED)


@pytest.mark.parametrize("width", [99, 101, 10_001, 2**32 - 1, 0])
def test_widths_off_the_grid_or_out_of_range(raw: RawHost, width: int) -> None:
    raw.greet()
    pulse = wire.Apply(SESSION, 0, width, np.array([3]), np.array([1]), np.array([1]))
    assert why(raw.ask(Frame(Type.APPLY, 2, pulse.pack()))) is Why.REFUSED


# --------------------------------------------------------------------------- once


def test_a_repeated_pulse_gets_the_first_answer_and_is_sent_once(
    board: FirmwareBoard, raw: RawHost
) -> None:
    raw.greet()
    first = raw.ask(apply(2, ALL[:64]))
    assert first.payload == bytes((64, 0))
    assert raw.ask(apply(2, ALL[:64])) == first
    assert raw.ask(hello()).type == Type.HELLO | wire.REPLY
    assert raw.ask(apply(2, ALL[:64])) == first
    assert board.silicon().pulses == 64
    assert raw.counts(0, ALL, 10).tolist() == [1] * 64 + [0] * 4032


def test_what_was_refused_is_refused_again_also_when_it_would_be_allowed_now(
    board: FirmwareBoard, raw: RawHost
) -> None:
    raw.greet(lease_ms=0)
    unarmed = raw.ask(apply(1))
    assert why(unarmed) is Why.UNARMED
    assert raw.ask(arm(2)).type == Type.ARM | wire.REPLY
    assert raw.ask(apply(1)) == unarmed
    refused = raw.ask(apply(3, volts=900))
    assert why(refused) is Why.REFUSED
    assert raw.ask(apply(3, volts=900)) == refused
    assert board.silicon().pulses == 0
    assert raw.ask(apply(4)).type == Type.APPLY | wire.REPLY
    assert board.silicon().pulses == 1


def test_numbers_that_are_used_too_old_or_come_round(board: FirmwareBoard, raw: RawHost) -> None:
    raw.greet()
    raw.ask(apply(2))
    assert why(raw.ask(apply(2, [4]))) is Why.STALE
    raw.ask(read(65))
    assert raw.ask(apply(2)).type == Type.APPLY | wire.REPLY
    raw.ask(read(66))
    assert why(raw.ask(apply(2))) is Why.STALE
    assert board.silicon().pulses == 1
    for seq in range(1000, 2**16, 1000):
        raw.ask(read(seq))
    raw.ask(read(0))
    assert raw.ask(apply(2)).type == Type.APPLY | wire.REPLY
    assert board.silicon().pulses == 2


def test_a_fault_is_told_cell_by_cell_and_halts_the_session(tmp_path: Path) -> None:
    with firmware_board(tmp_path, fail_at_pulse=3) as board, raw_host(board.url) as raw:
        raw.greet()
        answer = raw.ask(apply(2, [10, 11, 12, 13]))
        reply = wire.ApplyReply.unpack(answer.payload)
        assert reply.statuses == (0, 0, 2, 1)
        assert reply.message == "cell 12: the supply tripped"
        assert board.silicon().outputs == 0
        assert raw.status().why == Off.FAULT
        assert raw.ask(apply(2, [10, 11, 12, 13])) == answer
        assert why(raw.ask(apply(3))) is Why.HALTED
        assert why(raw.ask(arm(4))) is Why.HALTED
        assert raw.ask(read(5)).type == Type.READ | wire.REPLY
        raw.greet(session=SESSION + 1)
        assert raw.ask(apply(2, session=SESSION + 1)).payload == bytes((1, 0))
        assert board.silicon().pulses == 4


# --------------------------------------------------------------------------- beyond pulses


def levels(board: FirmwareBoard) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Conductance of each cell, in 1/256 lsb, out of the silicon's file."""
    raw = np.frombuffer(board.state.read_bytes()[48:], np.uint32)
    return raw[:4096].astype(np.int64)


def test_readings_are_those_of_the_silicon(board: FirmwareBoard, raw: RawHost) -> None:
    raw.greet()
    cells = ALL[5:4096:64]
    codes = wire.unpack_read_reply(raw.ask(read(2, cells)).payload, 64)
    assert codes.tolist() == ((levels(board)[cells] + 128) // 256).tolist()
    raw.ask(apply(3, cells, volts=300, gate=400))
    raw.ask(apply(4, cells, volts=300, gate=400))
    after = wire.unpack_read_reply(raw.ask(read(5, cells)).payload, 64)
    assert (after > codes).all()


def test_a_product_is_the_sum_over_the_silicon(board: FirmwareBoard, raw: RawHost) -> None:
    raw.greet(lease_ms=0)
    rng = np.random.default_rng(3)
    inputs = rng.integers(0, 16, (5, 32))
    answer = raw.ask(Frame(Type.PRODUCT, 1, requests.Product(1, inputs).pack(4)))
    sums = requests.unpack_product_reply(answer.payload, 5, 64, 11)
    groups = levels(board).reshape(2, 2, 16, 64)[1]
    bits = (inputs.reshape(5, 2, 16)[..., None] >> np.arange(4)) & 1
    codes = np.minimum(np.einsum("vgrb,grc->vgbc", bits, groups) // 256 // 256, 63)
    wanted = (codes << np.arange(4)[:, None]).sum(axis=(1, 2))
    assert sums.tolist() == wanted.tolist()
    assert np.unique(sums).size > 10
    assert why(raw.ask(Frame(Type.PRODUCT, 2, requests.Product(2, inputs).pack(4)))) is Why.REFUSED


def program(seq: int, cells: object, low: object, high: object) -> Frame:
    made = requests.Program(SESSION, np.asarray(cells), np.asarray(low), np.asarray(high))
    return Frame(Type.PROGRAM, seq, made.pack())


def test_write_verify_brings_cells_into_their_windows(board: FirmwareBoard, raw: RawHost) -> None:
    raw.greet()
    cells = ALL[:32]
    low = np.where(cells % 2, 150, 400)
    frame = program(2, cells, low, low + 60)
    answer = raw.ask(frame)
    done = requests.ProgramReply.unpack(answer.payload)
    assert done.verdicts.tolist() == [wire.Verdict.ARRIVED] * 32
    codes = wire.unpack_read_reply(raw.ask(read(3, cells)).payload, 32)
    assert codes.tolist() == done.codes.tolist()
    assert ((codes >= low) & (codes <= low + 60)).all()
    assert raw.counts(0, cells, 10).tolist() == done.sets.tolist()
    assert raw.counts(1, cells, 11).tolist() == done.resets.tolist()
    assert (done.reads == done.sets + done.resets + 1).all()
    assert done.sets.sum() > 0
    assert done.resets.sum() > 0
    pulses = board.silicon().pulses
    assert raw.ask(frame) == answer
    assert raw.ask(program(12, [1], [0], [0xFFFD])).type == Type.PROGRAM | wire.REPLY
    assert why(raw.ask(frame)) is Why.STALE
    assert board.silicon().pulses == pulses


def test_write_verify_gives_up_and_refuses(board: FirmwareBoard, raw: RawHost) -> None:
    raw.greet()
    assert why(raw.ask(program(2, [1], [9], [8]))) is Why.REFUSED
    assert why(raw.ask(program(3, [1, 1], [1, 1], [9, 9]))) is Why.REFUSED
    assert why(raw.ask(program(4, ALL[:17], ALL[:17], ALL[:17]))) is Why.REFUSED
    assert board.silicon().pulses == 0
    done = requests.ProgramReply.unpack(raw.ask(program(5, [7], [1400], [1400])).payload)
    assert done.verdicts.tolist() == [wire.Verdict.GAVE_UP]
    assert (done.sets + done.resets).tolist() == [40]
    assert board.silicon().pulses == 40


def test_a_knob_is_turned_once_within_its_range(raw: RawHost) -> None:
    def knob(seq: int, number: int, *values: int) -> Frame:
        return Frame(Type.KNOB, seq, requests.Knob(SESSION, number, np.array(values)).pack())

    raw.greet(lease_ms=0)
    before = wire.unpack_read_reply(raw.ask(read(1)).payload, 2)
    answer = raw.ask(knob(2, 0, -20))
    assert (answer.type, answer.payload) == (Type.KNOB | wire.REPLY, b"")
    after = wire.unpack_read_reply(raw.ask(read(3)).payload, 2)
    assert (before - after).tolist() == [20, 20]
    for seq, wrong in enumerate((knob(0, 0, 21), knob(0, 1, 0), knob(0, 0, 1, 1)), start=4):
        assert why(raw.ask(Frame(wrong.type, seq, wrong.payload))) is Why.REFUSED
    assert raw.ask(knob(2, 0, -20)) == answer
    assert wire.unpack_read_reply(raw.ask(read(9)).payload, 2).tolist() == after.tolist()


def test_the_state_says_what_the_board_is_at(raw: RawHost) -> None:
    fresh = raw.status()
    assert (fresh.outputs, fresh.why, fresh.session, fresh.newest) == (0, Off.START, 0, 0)
    raw.greet(seq=40)
    armed = raw.status()
    assert (armed.outputs, armed.session, armed.newest) == (Outputs.ARMED, SESSION, 41)
    assert 0 < armed.lease_ms <= 200
    off = state(raw.ask(arm(42, lease_ms=0)))
    assert (off.outputs, off.why, off.lease_ms) == (Outputs.OFF, Off.HOST, 0)
    assert why(raw.ask(apply(43))) is Why.UNARMED
