"""The host side: a board behind a socket and behind a serial line, good days and bad ones."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from boards import Altered, host, serving
from fakes import FakeDie

from rramhil.address import open_device
from rramhil.conformance import Outcome, check
from rramhil.device import Device, DeviceError, DeviceFault, Ints, Kind, LinkLost, Pulse, Refused
from rramhil_drivers import wire
from rramhil_drivers.board import Watch
from rramhil_drivers.serial_device import SerialDevice
from rramhil_drivers.virtual_board import Board
from rramhil_drivers.wire import Frame, Type

ALL = np.arange(512)


def a_set(cells: object, volts: float = 1.0) -> Pulse:
    return Pulse(Kind.SET, np.asarray(cells), volts, 1.5, seconds=1e-6)


def fake_board(**options: object) -> tuple[FakeDie, Board]:
    die = FakeDie(noise=0.0, **options)  # type: ignore[arg-type]
    return die, Board(die, follow_wall_clock=False)


@dataclass
class Meddler(Watch):
    """Swallows the frames of `kind` whose number (from 1) is in `lost`."""

    kind: Type
    lost: frozenset[int]
    seen: int = 0

    def received(self, frame: Frame) -> bool:
        self.seen += frame.type == self.kind
        return not (frame.type == self.kind and self.seen in self.lost)


class Counting(SerialDevice):
    def pulses_counted(self, kind: Kind) -> Ints:
        return self.counts(kind, ALL)


def test_a_board_keeps_every_promise_of_a_device() -> None:
    with serving(Board(FakeDie())) as url:
        findings = list(check(Counting(url, 115200, 2.0), scratch=np.arange(0, 512, 16)))
    assert [str(f) for f in findings if f.outcome is Outcome.FAILED] == []
    assert sum(f.outcome is Outcome.PASSED for f in findings) > 10


def test_what_comes_over_the_link_is_what_the_die_reads_and_does() -> None:
    die, board = fake_board()
    twin = FakeDie(noise=0.0)
    die.siemens[:3] = twin.siemens[:3] = (0.1e-6, 300e-6, 7e-6)
    rng = np.random.default_rng(3)
    with serving(board) as url, host(url) as device:
        assert device.spec == board.spec
        for size in (1, 64, 65, 200):
            cells = rng.choice(512, size, replace=False)
            pulse = a_set(cells, 0.01 * rng.integers(0, 300))
            device.apply(pulse)
            twin.apply(pulse)
            assert device.read(cells).tolist() == twin.read(cells).tolist()
        assert device.read(ALL).tolist() == twin.read(ALL).tolist()
        assert device.counts(Kind.SET, ALL).tolist() == twin.pulses_counted(Kind.SET).tolist()
        assert device.read([]).shape == (0,)
        device.apply(a_set([]))


def test_a_board_on_its_own_clock_is_the_emulator_itself_in_frames_of_64_cells() -> None:
    def job(device: Device) -> list[list[float]]:
        seen = []
        for cells in ALL.reshape(4, 2, 64).repeat(2, axis=0).reshape(-1, 64):
            device.apply(Pulse(Kind.SET, cells, 2.0, 1.6, seconds=2e-7))
            device.apply(Pulse(Kind.RESET, cells[::2], 2.3, 4.0, seconds=2e-7))
            seen.append(device.read(cells).tolist())
        return seen

    address = "emulator:40nm?tiles=1&die=3&seed=5"
    board = Board(open_device(address), follow_wall_clock=False)
    with serving(board) as url, host(url) as far, open_device(address) as near:
        assert job(far) == job(near)


def test_a_board_that_takes_fewer_cells_a_frame_gets_fewer() -> None:
    class Small(Altered):
        def change(self, frame: Frame, answer: Frame) -> Frame:
            if frame.type != Type.HELLO:
                return answer
            reply = wire.HelloReply.unpack(answer.payload)
            return replace(answer, payload=replace(reply, cells=16).pack())

    die = FakeDie(noise=0.0)
    watch = Meddler(Type.APPLY, frozenset())
    with serving(Small(die), watch) as url, host(url) as device:
        device.apply(a_set(ALL[:100]))
        assert device.read(ALL[:100]).tolist() == die.read(ALL[:100]).tolist()
    assert watch.seen == 7
    assert die.pulses_counted(Kind.SET)[:100].tolist() == [1] * 100


def test_nothing_is_sent_that_the_spec_forbids() -> None:
    _, board = fake_board()
    watch = Meddler(Type.APPLY, frozenset())
    with serving(board, watch) as url, host(url) as device:
        for wrong in (a_set([3], 3.5), a_set([3], 1.005), a_set([600]), a_set([3, 3])):
            with pytest.raises(Refused):
                device.apply(wrong)
        device.apply(a_set([3]))
    assert watch.seen == 1


def test_over_a_serial_line() -> None:
    die, board = fake_board()
    master, slave = pty.openpty()
    receiver = wire.Receiver()

    def firmware() -> None:
        while True:
            try:
                data = os.read(master, 1024)
            except OSError:
                return
            for frame in receiver.feed(data):
                os.write(master, wire.encode(board.answer(frame)))

    thread = threading.Thread(target=firmware, daemon=True)
    thread.start()
    with open_device(f"serial:{os.ttyname(slave)}?baud=3000000") as device:
        device.apply(a_set(np.arange(100)))
        assert device.read(ALL).tolist() == die.read(ALL).tolist()
        with pytest.raises(Refused, match="cannot open"):
            open_device(f"serial:{os.ttyname(slave)}")
    os.close(slave)
    thread.join(5)
    os.close(master)
    assert die.pulses_counted(Kind.SET).sum() == 100


# --------------------------------------------------------------------------- bad days


def test_a_reading_whose_frame_got_lost_is_asked_again() -> None:
    die, board = fake_board()
    watch = Meddler(Type.READ, frozenset({1, 2}))
    with serving(board, watch) as url, host(url, 0.4) as device:
        assert device.read(ALL[:64]).tolist() == die.read(ALL[:64]).tolist()
        assert watch.seen == 3


def test_a_read_without_an_answer_ends_the_link() -> None:
    _, board = fake_board()
    watch = Meddler(Type.READ, frozenset({1, 2, 3}))
    with serving(board, watch) as url, host(url, 0.4) as device:
        with pytest.raises(LinkLost, match="does not answer") as lost:
            device.read([1])
        assert lost.value.maybe.size == 0
        with pytest.raises(Refused, match="open the device again"):
            device.read([1])
        assert watch.seen == 3


def test_a_late_answer_is_not_taken_for_that_of_another_request() -> None:
    class Slow(Watch):
        slept = False

        def received(self, frame: Frame) -> bool:
            if frame.type == Type.READ and not self.slept:
                self.slept = True
                time.sleep(0.6)
            return True

        def replied(self, frame: Frame) -> None:
            time.sleep(0.05)  # so that two late answers do not come in one piece

    die, board = fake_board()
    with serving(board, Slow()) as url, host(url, 0.4) as device:
        for cell in range(5):
            assert device.read([cell]).tolist() == die.read([cell]).tolist()


def test_a_pulse_without_an_answer_is_never_repeated_and_its_cells_are_in_doubt() -> None:
    die, board = fake_board()
    watch = Meddler(Type.APPLY, frozenset({2}))
    with serving(board, watch) as url:
        with host(url, 0.4) as device:
            with pytest.raises(LinkLost, match="does not answer") as lost:
                device.apply(a_set(np.arange(200)))
            assert lost.value.maybe.tolist() == list(range(200))
            landed = device.landed
            assert landed is not None
            assert landed.doubtful.tolist() == list(range(64, 128))
            assert landed.done.tolist() == [*range(64), *range(128, 200)]
            assert "136 cells had been pulsed before, 64 are in doubt, 0 were" in str(lost.value)
            for call in (lambda: device.apply(a_set([1])), lambda: device.read([1])):
                with pytest.raises(Refused, match="open the device again"):
                    call()
        assert die.pulses_counted(Kind.SET).sum() == 136
        with host(url) as device:
            device.apply(a_set(np.arange(64, 128)))
    assert die.pulses_counted(Kind.SET)[:200].tolist() == [1] * 200


def test_a_pulse_whose_answer_got_lost_was_sent_once() -> None:
    class Unplugged(Watch):
        def answered(self, frame: Frame, answer: Frame) -> None:
            if frame.type == Type.APPLY:
                raise OSError("the cable is out")

    die, board = fake_board()
    with serving(board, Unplugged()) as url, host(url) as device:
        with pytest.raises(LinkLost, match="other side closed it") as lost:
            device.apply(a_set([5, 6]))
        assert lost.value.maybe.tolist() == [5, 6]
    assert die.pulses_counted(Kind.SET)[[5, 6]].tolist() == [1, 1]


def always(error: DeviceError) -> Callable[[Pulse], None]:
    def landing(pulse: Pulse) -> None:
        raise error

    return landing


def nth(number: int, error: DeviceError) -> Callable[[Pulse], None]:
    """Raise `error` at the pulse of that number."""
    pulses = iter(range(1, 1000))

    def landing(pulse: Pulse) -> None:
        if next(pulses) == number:
            raise error

    return landing


def test_a_fault_of_the_board_leaves_the_cells_before_it_in_doubt_too() -> None:
    _, board = fake_board(landing=nth(2, DeviceFault("the supply tripped", [70, 71])))
    with serving(board) as url, host(url) as device:
        with pytest.raises(DeviceFault, match="during a SET: the supply tripped") as fault:
            device.apply(a_set(np.arange(200)))
        assert fault.value.maybe.tolist() == [*range(64), 70, 71]
        with pytest.raises(Refused, match="supply tripped"):
            device.read([0])


def test_a_refusal_by_the_board_is_refused_only_when_nothing_was_pulsed() -> None:
    landing = nth(2, Refused("the interlock is open"))
    die, board = fake_board(landing=landing)
    with serving(board) as url, host(url) as device:
        with pytest.raises(DeviceFault, match="64 cells had been pulsed before") as fault:
            device.apply(a_set(np.arange(100)))
        assert fault.value.maybe.tolist() == list(range(64))
        die.landing = always(Refused("the interlock is open"))
        with pytest.raises(Refused, match="refused: the interlock is open"):
            device.apply(a_set(np.arange(100)))
        die.landing = None
        device.apply(a_set([7]))


def test_a_board_that_restarted_is_told_apart() -> None:
    _, board = fake_board()
    with serving(board) as url, host(url) as device:
        board._session = None
        with pytest.raises(Refused, match="no session since this board started"):
            device.apply(a_set([7]))
        with pytest.raises(Refused, match="open the device again"):
            device.read([7])


def test_close_from_another_thread_ends_a_pending_call() -> None:
    _, board = fake_board()
    silent = Meddler(Type.READ, frozenset(range(1, 99)))
    with serving(board, silent) as url:
        device = host(url, timeout=60.0)
        ended: list[Exception] = []

        def read() -> None:
            try:
                device.read([1])
            except DeviceError as error:
                ended.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        while not silent.seen:
            time.sleep(0.01)
        device.close()
        thread.join(20)
        assert isinstance(ended[0], LinkLost)
        device.close()


def test_a_second_host_is_turned_away_and_the_next_is_welcome() -> None:
    _, board = fake_board()
    with serving(board) as url:
        with host(url) as first:
            with pytest.raises(Refused, match=r"another host uses the board at .* end it first"):
                host(url, 0.3)
            first.read([1])
        host(url).close()


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda f: Frame(f.type | wire.REPLY, f.seq, b"nonsense"), "answers HELLO with nonsense"),
        (
            lambda f: Frame(f.type | wire.REPLY, f.seq, wire.HelloReply(0, 0, 1, 64, ()).pack()),
            "answers another HELLO",
        ),
        (
            lambda f: Frame(Type.NAK, f.seq, wire.Nak(1, "I speak 2").pack(), 2),
            r"refuses to talk \(I speak 2\); update",
        ),
        (lambda f: Frame(f.type | wire.REPLY, f.seq, b"whatever", 3), "speaks protocol version 3"),
    ],
)
def test_a_board_that_is_none_is_refused(answer: Callable[[Frame], Frame], sentence: str) -> None:
    class Other(Altered):
        def change(self, frame: Frame, _: Frame) -> Frame:
            return answer(frame)

    with serving(Other(FakeDie())) as url, pytest.raises(Refused, match=sentence):
        host(url)


@pytest.mark.parametrize("payload", [b"", b"\x01\x02\x03", b"\x05\x00"])
def test_an_answer_that_makes_no_sense_is_a_fault(payload: bytes) -> None:
    class Odd(Altered):
        def change(self, frame: Frame, answer: Frame) -> Frame:
            if frame.type not in (Type.READ, Type.APPLY):
                return answer
            return Frame(frame.type | wire.REPLY, frame.seq, payload)

    with serving(Odd(FakeDie())) as url:
        with host(url) as device:
            with pytest.raises(DeviceFault, match="nonsense"):
                device.read([1, 2])
            with pytest.raises(Refused):
                device.read([1, 2])
        with host(url) as device, pytest.raises(DeviceFault, match="nonsense") as fault:
            device.apply(a_set([1, 2]))
        assert fault.value.maybe.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("serial:", "names no port"),
        ("serial:/dev/there-is-none", "cannot open /dev/there-is-none"),
        ("serial:/dev/null", "cannot open /dev/null"),
        ("serial:socket://127.0.0.1:1", "cannot open socket"),
        ("serial:loop://", "cannot be waited for"),
        ("serial:carrier-pigeon://x", "cannot open carrier-pigeon"),
        ("serial:/dev/null?baud=fast", "baud=fast"),
        ("serial:/dev/null?baud=9600.5", "whole number"),
        ("serial:/dev/null?timeout=0", "timeout=0"),
        ("serial:/dev/null?bd=1", "no option 'bd'.*did you mean 'baud'"),
    ],
)
def test_a_wrong_address_is_one_sentence(address: str, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence) as refused:
        open_device(address)
    assert "\n" not in str(refused.value)


def test_the_drivers_record_is_light() -> None:
    code = "import sys, rramhil_drivers.serial as s; s.driver; assert 'serial' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# --------------------------------------------------------------------------- the process


def board_process(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rramhil_drivers.board", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_board_process_keeps_its_die_between_runs(tmp_path: Path) -> None:
    state = tmp_path / "die.npz"
    seen = []
    for _ in range(2):
        with board_process(
            "emulator:statistical?tiles=1", "--until-eof", "--max-seconds", "60",
            "--state", str(state), "--clock", "own",
        ) as process:  # fmt: skip
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            with open_device(address) as device:
                assert isinstance(device, SerialDevice)
                seen.append((device.spec.newborn, int(device.counts(Kind.SET, ALL).sum())))
                limits = device.spec.pulses[Kind.SET]
                assert limits.gate_volts is not None
                volts = limits.volts.snap(limits.volts.high / 2)
                gate = limits.gate_volts.snap(limits.gate_volts.high / 2)
                device.apply(Pulse(Kind.SET, ALL, volts, gate, seconds=1e-6))
            process.communicate(timeout=20)
            assert process.returncode == 0
    assert seen == [(True, 0), (False, 512)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["emulator:40nm", "--listen", "0.0.0.0:0"], "0.0.0.0 is no loopback address"),
        (["emulator:40nm", "--listen", "7"], "not host:port"),
        (["emulator:40nm", "--state", __file__], "not the state of a board"),
        (["emulator:40nm?state=/tmp"], "give the board --state FILE"),
        (["emulator:41nm"], "41nm"),
    ],
)
def test_a_board_process_refuses_in_one_sentence(arguments: list[str], sentence: str) -> None:
    with board_process(*arguments, "--max-seconds", "5") as process:
        out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert sentence in err
    assert err.count("\n") == 1
    assert out == ""
