"""Product, write-verify, knobs and the die's own clock over the link; the link changes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from boards import host, serving
from fakes import FakeDie, fake_spec
from numpy.typing import ArrayLike

from rramhil.address import open_device
from rramhil.conformance import Outcome, check
from rramhil.device import (
    Device,
    DeviceFault,
    Floats,
    Ints,
    Kind,
    KnobLimits,
    MvmLimits,
    ProgramLimits,
    Programmed,
    Pulse,
    Range,
    Refused,
)
from rramhil.verify import ISPP, Target, program
from rramhil_drivers import scales
from rramhil_drivers.serving import Watch
from rramhil_drivers.virtual_board import Board
from rramhil_drivers.wire import Frame, Off, Type

KNOBS = {
    "read_volts": KnobLimits(Range(0.05, 0.5, 0.01), 1, "bias of a reading"),
    "references": KnobLimits(Range(-5.0, 5.0, 0.5), 16, "of each column"),
}


class AbleDie(FakeDie):
    """A die that computes products, writes and verifies by itself, and has knobs."""

    def __init__(self) -> None:
        super().__init__(
            fake_spec(
                mvm=MvmLimits(4, 4, 5, 2e-6, "next_nonzero", 1e-6),
                program=ProgramLimits(levels=4, attempts=30, cells_at_once=8),
                knobs=KNOBS,
            ),
            noise=0.0,
        )
        self.adjusted: dict[str, Floats] = {}

    def mvm(self, tile: int, inputs: ArrayLike) -> Ints:
        self.check_open()
        codes = self.spec.check_inputs(tile, inputs)
        tiles = self.siemens.reshape(2, 16, 16)
        return np.minimum(codes @ tiles[tile] / 20e-6, 1860).astype(np.int64)

    def program(self, cells: ArrayLike, low: ArrayLike, high: ArrayLike) -> Programmed:
        flat = self.spec.check_cells(cells)
        lows, highs = (np.broadcast_to(np.asarray(v, float), flat.shape) for v in (low, high))
        sets, resets = np.zeros((2, flat.size), np.int64)
        reads = np.ones(flat.size, np.int64)
        for i, cell in enumerate(flat):
            while sets[i] + resets[i] < 30 and not lows[i] <= self.read([cell])[0] <= highs[i]:
                kind = Kind.SET if self.read([cell])[0] < lows[i] else Kind.RESET
                self.apply(Pulse(kind, [cell], 0.5, 1.5, seconds=1e-6))
                (sets if kind is Kind.SET else resets)[i] += 1
                reads[i] += 1
        siemens = self.read(flat)
        return Programmed(siemens, (siemens >= lows) & (siemens <= highs), sets, resets, reads)

    def adjust(self, knob: str, values: ArrayLike) -> None:
        self.adjusted[knob] = np.atleast_1d(np.asarray(values, float))


def test_a_board_that_can_everything_keeps_every_promise() -> None:
    with serving(Board(AbleDie())) as url:
        device = host(url, 2.0)
        findings = list(check(device, scratch=np.arange(0, 512, 16)))
    assert [str(f) for f in findings if f.outcome is Outcome.FAILED] == []
    done = {f.promise for f in findings if f.outcome is Outcome.PASSED}
    for word in ("mvm() gives", "mvm() refuses", "program()", "adjust()", "exactly once"):
        assert any(word in promise for promise in done), word


def test_products_arrive_as_the_die_computes_them() -> None:
    die = AbleDie()
    inputs = np.random.default_rng(2).integers(0, 16, (200, 16))
    with serving(Board(die, follow_wall_clock=False)) as url, host(url) as device:
        for tile in (0, 1):
            assert device.mvm(tile, inputs).tolist() == die.mvm(tile, inputs).tolist()
        assert device.mvm(0, inputs[:0]).shape == (0, 16)
        with pytest.raises(Refused, match="takes 0 to 15"):
            device.mvm(0, inputs + 15)


def test_a_write_verify_arrives_with_the_account_of_each_cell() -> None:
    die, twin = AbleDie(), AbleDie()
    cells = np.random.default_rng(2).choice(512, 150, replace=False)
    low = np.where(cells % 2, 20.04e-6, 59.96e-6)
    board = Board(die, follow_wall_clock=False)
    with serving(board) as url, host(url) as device:
        got = device.program(cells, low, low + 8.03e-6)
        expected = twin.program(cells, low, low + 8.03e-6)
        for name in ("siemens", "ok", "sets", "resets", "reads"):
            assert getattr(got, name).tolist() == getattr(expected, name).tolist(), name
        assert 0 < got.ok.mean() <= 1
        for kind in (Kind.SET, Kind.RESET):
            counted = device.pulses_counted(kind)
            assert counted.tolist() == die.pulses_counted(kind).tolist()
        assert device.program([], 0.0, 1e-6).ok.shape == (0,)
        with pytest.raises(Refused, match="no reading of fake-16 lies in"):
            device.program([1], 20.04e-6, 20.06e-6)
        with pytest.raises(Refused, match="5 distinct windows in one call"):
            device.program(np.arange(5), np.arange(5) * 1e-6, 50e-6)


def test_a_window_in_codes_holds_the_readings_of_the_window_in_siemens() -> None:
    spec = AbleDie().spec
    rng = np.random.default_rng(4)
    readings = np.arange(2001) * spec.reading.lsb
    for low, high in np.sort(rng.uniform(0, 210e-6, (200, 2)), axis=1):
        try:
            first, last = spec.check_windows(np.array([1]), low, high)
        except Refused:
            assert not ((readings >= low) & (readings <= high)).any()
            continue
        inside = np.flatnonzero((readings >= low) & (readings <= high))
        assert (first[0], last[0]) == (inside[0], inside[-1])


def test_windows_on_the_grid_are_the_same_behind_a_board_as_without() -> None:
    """The ends are readings themselves: a cell that reads one is inside, on either way."""
    address = "emulator:40nm?tiles=1&die=4&seed=5"
    die, twin = open_device(address), open_device(address)
    assert die.spec.program is not None
    cells, lsb = np.arange(0, 1024, 4), die.spec.reading.lsb
    levels = np.arange(cells.size) % die.spec.program.levels
    low, high = (40 + 100 * levels) * lsb, (120 + 100 * levels) * lsb
    with serving(Board(twin, follow_wall_clock=False)) as url, host(url) as device:
        got, direct = device.program(cells, low, high), die.program(cells, low, high)
        for name in ("siemens", "ok", "sets", "resets", "reads"):
            assert getattr(got, name).tolist() == getattr(direct, name).tolist(), name
        few = np.flatnonzero(got.ok)[: die.spec.program.levels]
        each_at = got.siemens[few]
        again = [each.program(cells[few], each_at, each_at) for each in (device, die)]
        for bad in ((np.nan, 1e-6), (2e-6, 1e-6), (20.04e-6, 20.06e-6), (1.0, 2.0)):
            said = []
            for each in (device, die):
                with pytest.raises(Refused) as refused:
                    each.program(cells, *bad)
                said.append(str(refused.value).replace(each.spec.model, "it"))
            assert said[0] == said[1]
    assert again[0].reads.tolist() == again[1].reads.tolist()
    assert got.ok.mean() > 0.5


def test_a_window_of_one_reading_holds_it() -> None:
    spec = AbleDie().spec
    readings = (np.arange(2001) * spec.reading.lsb).astype(np.float32)
    for reading in readings[::7]:
        first, last = spec.check_windows(np.array([1]), reading, reading)
        assert first == last == round(float(reading) / spec.reading.lsb)


def test_a_write_verify_that_fails_half_way_says_so_cell_by_cell() -> None:
    class Failing(AbleDie):
        def program(self, cells: ArrayLike, low: ArrayLike, high: ArrayLike) -> Programmed:
            flat = self.spec.check_cells(cells)
            if 70 in flat:
                raise DeviceFault("the supply tripped", [70])
            return super().program(cells, low, high)

    with serving(Board(Failing())) as url, host(url) as device:
        with pytest.raises(DeviceFault, match="during a write-verify: the supply tripped") as broke:
            device.program(np.arange(100), 20e-6, 60e-6)
        assert broke.value.maybe.tolist()[:64] == list(range(64))
        assert 70 in broke.value.maybe
        assert device.landed is not None
        assert device.landed.doubtful.tolist() == [70]


def test_knobs_are_set_over_the_link() -> None:
    die = AbleDie()
    values = np.arange(16) * 0.5 - 4
    with serving(Board(die)) as url, host(url) as device:
        assert dict(device.spec.knobs) == KNOBS
        device.adjust("read_volts", 0.31)
        device.adjust("references", values)
        with pytest.raises(Refused, match=r"read_volts 0\.6 is not within"):
            device.adjust("read_volts", 0.6)
        with pytest.raises(ValueError, match="takes 16 values"):
            device.adjust("references", 0.5)
    assert die.adjusted["read_volts"].tolist() == [0.31]
    assert die.adjusted["references"].tolist() == values.tolist()


def test_a_product_that_fits_no_frame_is_not_offered() -> None:
    wide = fake_spec(rows=2100, mvm=MvmLimits(4, 4, 5, 2e-6))
    assert scales.announced(wide).mvm is None
    fits = scales.announced(replace(wide, rows=2000))
    assert fits.mvm is not None


# --------------------------------------------------------------------------- no difference


@pytest.mark.parametrize("address", ["emulator:40nm?tiles=1&die=3&seed=5", "emulator:statistical"])
def test_a_job_through_the_link_is_the_job_without_it_bit_for_bit(address: str) -> None:
    def job(device: Device) -> list[object]:
        spec = device.spec
        cells = np.sort(np.random.default_rng(1).choice(spec.size, 700, replace=False))
        seen: list[object] = [device.read(cells).tolist()]
        if spec.pulses[Kind.SET].gate_volts and "40nm" in spec.model:
            target = Target(np.full(700, 60e-6), np.full(700, 80e-6), np.full(700, 1.8))
            recipe = ISPP(gate_start_volts=1.5, max_pulses=8)
            seen += [turn.inside.tolist() for turn in program(device, cells, target, recipe)]
        else:
            gate = spec.pulses[Kind.SET].gate_volts
            assert gate is not None
            volts = spec.pulses[Kind.SET].volts
            pulse = Pulse(Kind.SET, cells, volts.high, gate.snap(gate.high / 2), seconds=1e-6)
            device.apply(pulse)
        device.clock.sleep(1.0)
        seen.append(device.read(cells[::-1]).tolist())
        inputs = np.random.default_rng(2).integers(0, 256, (5, spec.rows))
        seen += [device.mvm(0, inputs).tolist(), device.mvm(0, inputs[:1]).tolist()]
        seen.append(device.read(np.arange(5000)).tolist())
        seen.append(round(device.clock.now(), 9))
        return seen

    board = Board(open_device(address), follow_wall_clock=False)
    with serving(board) as url, host(url) as far, open_device(address) as near:
        got, expected = job(far), job(near)
    assert len(got) == len(expected)
    for mine, theirs in zip(got, expected, strict=True):
        assert mine == theirs


def test_the_parts_of_a_call_do_what_the_call_does() -> None:
    whole, parts = (open_device("emulator:40nm?tiles=1&die=4&seed=2") for _ in range(2))
    cells = np.random.default_rng(3).permutation(60000)[:5000]
    pulse = Pulse(Kind.SET, cells, 2.0, 1.6, seconds=2e-7)
    cuts = np.array_split(np.arange(5000), 37)
    expect = getattr(parts, "expect")  # noqa: B009  beyond the contract, as a board finds it
    whole.apply(pulse)
    expect(5000)
    for cut in cuts:
        parts.apply(pulse.take(cut))
    assert parts.clock.now() == whole.clock.now()
    expect(5000)
    got = np.concatenate([parts.read(cells[cut]) for cut in cuts])
    assert got.tolist() == whole.read(cells).tolist()
    assert parts.read(cells).tolist() == whole.read(cells).tolist()


def test_the_clock_of_a_simulated_die_is_asked_and_stands_still_when_the_link_has_gone() -> None:
    die = FakeDie()
    with serving(Board(die, follow_wall_clock=False)) as url:
        device = host(url)
        assert device.clock.now() == die.clock.now() == 0.0
        device.clock.sleep(2.5)
        device.read(np.arange(64))
        assert device.clock.now() == pytest.approx(die.clock.now(), abs=1e-9)
        assert die.clock.now() > 2.5
        with pytest.raises(ValueError, match="only moves forward"):
            device.clock.sleep(-1)
        last = device.clock.now()
        device.close()
        assert device.clock.now() == last
        with pytest.raises(Refused):
            device.clock.sleep(1.0)


def test_a_call_that_has_to_arm_again_in_the_middle_takes_no_more_of_the_dies_time() -> None:
    address = "emulator:40nm?tiles=1&die=3"
    pulse = Pulse(Kind.SET, np.arange(1000), 2.0, 1.6, seconds=2e-7)

    class Lapses(Watch):
        seen = 0

        def answered(self, frame: Frame, answer: Frame) -> None:
            self.seen += frame.type == Type.APPLY
            if self.seen == 5 and frame.type == Type.APPLY:
                board.supplies.off(Off.LEASE)

    board, near = Board(open_device(address), follow_wall_clock=False), open_device(address)
    near.apply(pulse)
    watch = Lapses()
    with serving(board, watch) as url, host(url) as far:
        far.apply(pulse)
        assert watch.seen > 16
        assert far.clock.now() == pytest.approx(near.clock.now(), abs=1e-9)
        assert far.read(np.arange(1000)).tolist() == near.read(np.arange(1000)).tolist()
