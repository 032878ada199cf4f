"""An emulated die as a `Device`: cells behind limits, a converter and a virtual clock."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rramhil.device import (
    Cells,
    Clock,
    Device,
    Floats,
    Ints,
    Kind,
    KnobLimits,
    LinkLost,
    Programmed,
    Pulse,
    Range,
    Refused,
)
from rramhil_drivers.emulator.cells import CellArray
from rramhil_drivers.emulator.chipfile import ChipFile
from rramhil_drivers.emulator.columns import ColumnTrim
from rramhil_drivers.emulator.fluctuation import hash_key
from rramhil_drivers.emulator.limits import make_spec, quantise
from rramhil_drivers.emulator.noise import Noise
from rramhil_drivers.emulator.on_chip import Windows, write_verify
from rramhil_drivers.emulator.product import Products
from rramhil_drivers.emulator.pulsed import PulsedCells
from rramhil_drivers.emulator.statistical import StatisticalCells
from rramhil_drivers.emulator.thermal import TEMPERATURE, Thermal
from rramhil_drivers.emulator.wires import TileWires

READINGS = "readings"
STATE_VERSION = 7  # also when the same die number comes to mean other cells


class VirtualClock(Clock):
    """Device time that passes only when the device works or is asked to sleep."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass. Raises ValueError for a negative or endless time."""
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"cannot sleep {seconds} s; device time only moves forward")
        self._now += float(seconds)

    def set(self, seconds: float) -> None:
        """Take on the time of a saved state."""
        self._now = seconds


class _Call:
    """A call that comes in parts: what is left of it, and whether its first part has come.

    `conversions`: those of a product so far; `start`, `until`: the device times they take.
    """

    def __init__(self) -> None:
        self.left = 0
        self.begun = False
        self.conversions = 0
        self.start = self.until = 0.0

    def size_of_part(self, size: int) -> int:
        """What `size` counts for: the first part counts for the whole call, others for 0."""
        if not self.left:
            return size
        counted = 0 if self.begun else self.left
        self.left = max(self.left - size, 0)
        self.begun = self.left > 0
        return counted


class EmulatedDie(Device):
    """A die of emulated cells. Same chip, die, seed and calls: the same answers, bit for bit.

    `die` fixes the cells and their faults, `seed` the noise. Each call advances the clock by
    its documented time. `close` may come from any thread; every later call is `Refused`.
    """

    def __init__(
        self,
        chip: ChipFile,
        *,
        die: int = 0,
        seed: int = 0,
        tiles: int | None = None,
        formed: bool = True,
        home: str = "",
        newborn: bool = True,
        serial: str = "",
    ) -> None:
        self.chip = chip
        count = chip.geometry.tiles if tiles is None else tiles
        self.clock: VirtualClock = VirtualClock()
        self._thermal = Thermal(chip.temperature)
        self._trim = ColumnTrim(chip, die, count)
        knobs = {**self._trim.knobs(), **self._thermal.knobs(), **_many_readings(chip)}
        self.spec = make_spec(chip, serial or f"{chip.name}-{die}", count, home, newborn, knobs)
        self._cells = _make_cells(chip, die, count, formed)
        shape = chip.geometry.rows, chip.geometry.cols
        self._wires = TileWires(chip.wires, *shape) if chip.wires else None
        self._products = Products(chip, self._cells, self._trim, self._thermal)
        self._noise = Noise.seeded(seed, die)
        self._cells.trap_key = hash_key(self._noise.telegraph)
        self._call = _Call()
        self._settings = chip.settings()
        self._lock = threading.RLock()
        self._closed = False
        # Faults and laws decide what a saved state means; noise seeds do not.
        text = f"{chip.model_dump_json()} die {die} tiles {count} formed {formed}"
        self._identity = blake2b(text.encode(), digest_size=16).hexdigest()

    # ------------------------------------------------------------------------ contract

    def read(self, cells: ArrayLike) -> Floats:
        flat = self.spec.check_cells(cells)
        with self._lock:
            self._check_open()
            if not flat.size:
                return np.empty(0, dtype=np.float32)
            self._cells.wake(flat)
            size = self._call.size_of_part(flat.size)
            self.clock.sleep(
                self.spec.reading.seconds * -(-size // self.spec.reading.cells_at_once)
            )
            return self._look(flat)

    def _look(self, cells: Cells) -> Floats:
        reading = self.spec.reading
        siemens = self._thermal.siemens(self._cells.look(cells, self.clock.now(), self._noise))
        self._disturb(cells, np.array([[reading.seconds]]))
        if self._wires is not None:
            siemens = self._wires.read(cells, siemens)
        return quantise(siemens, reading)

    def _disturb(self, cells: Cells, seconds: NDArray[np.float64]) -> None:
        """What reading voltage on `cells` does to them (see `CellArray.disturb`)."""
        volts, now = self.spec.reading.volts, self.clock.now()
        hopped = self._cells.disturb(cells, volts, seconds, now, self._noise)
        if hopped.size:
            self._products.forget(hopped)

    def apply(self, pulse: Pulse) -> None:
        self.spec.check_pulse(pulse)
        with self._lock:
            self._check_open()
            if not pulse.cells.size:
                return
            self._cells.wake(pulse.cells)
            self._pulse(pulse, self._call.size_of_part(pulse.cells.size))

    def _pulse(self, pulse: Pulse, size: int) -> None:
        """A checked pulse that takes the time of `size` cells."""
        settings = self._settings[pulse.kind]
        groups = -(-size // settings.cells_at_once)
        self.clock.sleep(groups * (pulse.seconds + settings.overhead_seconds))
        self._products.forget(pulse.cells)
        self._cells.count(pulse)
        self._cells.pulse(pulse, self.clock.now(), self._noise)

    def mvm(self, tile: int, inputs: ArrayLike) -> Ints:
        codes = self.spec.check_inputs(tile, inputs)
        return self._multiply(tile, codes, None, None)

    def program(self, cells: ArrayLike, low: ArrayLike, high: ArrayLike) -> Programmed:
        own = self.chip.program
        if own is None:
            return super().program(cells, low, high)
        flat = self.spec.check_cells(cells)
        windows = Windows.checked(flat, low, high, self.spec)
        gate = self.spec.pulses[Kind.SET].gate_volts
        assert gate is not None  # a chip file gives one
        grids = (gate, self.spec.pulses[Kind.RESET].volts)
        with self._lock:
            self._check_open()
            if flat.size:
                self._cells.wake(flat)
            self.expect(0)  # a write-verify takes its own time, whatever was announced
            try:
                return write_verify(own, flat, windows, grids, self._verify, self._correct)
            except Refused as closed:  # from another thread, in the middle of it
                raise LinkLost(str(closed), flat) from None

    def _verify(self, cells: Cells) -> Floats:
        self._check_open()
        groups = -(-cells.size // self.spec.reading.cells_at_once)
        self.clock.sleep(self.spec.reading.seconds * groups)
        return self._look(cells)

    def _correct(self, pulse: Pulse) -> None:
        self._pulse(pulse, pulse.cells.size)

    def adjust(self, knob: str, values: ArrayLike) -> None:
        floats = self.spec.check_knob(knob, values)
        snapped = self.spec.knobs[knob].range.snap(floats)
        with self._lock:
            self._check_open()
            if knob == READINGS:
                self._read_often(int(snapped[0]))
            elif knob == TEMPERATURE:
                self._thermal.kelvin = float(snapped[0])
                self._cells.heat(self._thermal.kelvin, self.clock.now())
                self._products.forget()
            else:
                self._trim.set(knob, snapped)

    def _read_often(self, readings: int) -> None:
        """So many readings of all cells in use: their stress and their time, and no answers."""
        size = self.spec.rows * self.spec.cols
        cells = np.flatnonzero(np.repeat(self._cells.awake, size)).astype(np.int64)
        seconds = readings * self.spec.reading.seconds
        self.clock.sleep(seconds * -(-cells.size // self.spec.reading.cells_at_once))
        volts, now = self.spec.reading.volts, self.clock.now()
        self._cells.disturb_long(cells, volts, seconds, now, self._noise)
        self._products.forget()

    def close(self) -> None:
        self._closed = True

    # --------------------------------------------------------------- beyond the contract

    def mvm_block(self, tile: int, inputs: ArrayLike, rows: ArrayLike, columns: ArrayLike) -> Ints:
        """`mvm` of some word lines and columns of a tile: what a layer in a corner of it needs.

        `inputs`: codes (batch, rows) of the word lines `rows` (ascending), the others get 0; gives
        the sums (batch, columns) of `columns` alone, for their share of the work. The die's time
        is that of the whole product. Raises as `mvm` does.
        """
        if self.spec.mvm is None:
            raise Refused(f"{self.spec.model} computes no product; use conductances from read()")
        lines, picked = self._places("row", rows), self._places("column", columns)
        codes = np.asarray(inputs)
        if codes.ndim != 2 or codes.shape[1] != lines.size or codes.dtype.kind not in "iu":
            raise ValueError(f"inputs must be integers (batch, {lines.size}), not {codes.shape}")
        highest = 2**self.spec.mvm.input_bits - 1
        inside = not codes.size or (codes.dtype.kind == "u" or codes.min() >= 0)
        if inside and codes.size and np.iinfo(codes.dtype).max > highest:
            inside = bool(codes.max() <= highest)
        if not (inside and 0 <= tile < self.spec.tiles):
            raise Refused(
                f"tile {tile} or an input code is out of range: {self.spec.serial} has "
                f"{self.spec.tiles} tiles and takes codes of {self.spec.mvm.input_bits} bits"
            )
        return self._multiply(tile, codes, lines, picked)

    def _places(self, name: str, places: ArrayLike) -> Ints:
        flat = np.asarray(places, dtype=np.int64)
        end = self.spec.rows if name == "row" else self.spec.cols
        if flat.ndim != 1 or flat.size == 0 or not bool(np.all(flat[1:] > flat[:-1])):
            raise ValueError(f"name each {name} once, in rising order")
        if flat[0] < 0 or flat[-1] >= end:
            raise Refused(f"{name} {flat[-1]} does not exist: {self.spec.serial} has {end} of them")
        return flat

    def _multiply(self, tile: int, codes: Ints, rows: Ints | None, columns: Ints | None) -> Ints:
        with self._lock:
            self._check_open()
            size = self.spec.rows * self.spec.cols
            self._cells.wake(np.array([tile * size]))
            if not self._call.begun:
                self._products.look(tile, self.clock.now())
                self._call.conversions = 0
                self._call.start = self._call.until = self.clock.now()
            self._call.size_of_part(len(codes))
            product = self._products.product(rows, columns)
            sums, conversions = product.convert(codes, self._noise.product)
            self._convert_for(conversions)
            self._disturb_rows(tile, codes, rows)
        return sums

    def _disturb_rows(self, tile: int, codes: Ints, rows: Ints | None) -> None:
        """Each bit of an input that is 1 puts the reading voltage on its word line."""
        if self._cells.hop_law is None:
            return
        assert self.chip.converter is not None
        lines = np.arange(self.spec.rows) if rows is None else rows
        first = (tile * self.spec.rows + lines) * self.spec.cols
        volts, seconds = self.spec.reading.volts, self.chip.converter.seconds
        now = self._call.start  # when the call saw the cells
        hopped = self._cells.disturb_lines(first, codes, volts, seconds, now, self._noise)
        if hopped.size:
            self._products.shift(tile, hopped)

    def _convert_for(self, conversions: int) -> None:
        """The time of more conversions of a call: in parts it ends when the whole would."""
        call, assumed = self._call, self._products.converter
        assert assumed is not None  # or the product had been refused
        call.start += self.clock.now() - call.until  # what passed between two parts, mostly 0
        call.conversions += conversions
        call.until = call.start + call.conversions * assumed.seconds
        self.clock.set(call.until)

    def expect(self, size: int) -> None:
        """The calls that follow are parts of one call of `size` cells (or input vectors).

        They do together what the one would do, bit for bit: its device time passes at the
        first, and a product sees the cells once. A call of another kind in between is the
        caller's error; 0 ends it.
        """
        with self._lock:
            self._call.left, self._call.begun = size, False

    def pulses_counted(self, kind: Kind) -> Ints:
        """Pulses of `kind` that each cell of the die has seen: the silicon's own count."""
        with self._lock:
            return self._cells.counted(kind)

    def use(self, kind: Kind, pulses: int) -> None:
        """The whole die has seen so many more pulses of `kind` than were sent: a used die.

        Only the counts change, and what wear makes of them. Raises ValueError below 0, and for
        more than a counter holds.
        """
        with self._lock:
            self._cells.use(kind, pulses)

    def freeze(self) -> bytes:
        """All that changes in the die's life: cells, clock, generator. A zip of .npy arrays."""
        with self._lock:
            self._check_open()
            head = {
                "version": STATE_VERSION,
                "serial": self.spec.serial,
                "identity": self._identity,
                "clock": self.clock.now(),
                "kelvin": self._thermal.kelvin,
                "generators": self._noise.saved(),
            }
            text = json.dumps(head, default=_plain).encode()
            arrays = {"head": np.frombuffer(text, dtype=np.uint8), **self._saved()}
            self._products.settle()
        blob = io.BytesIO()
        with zipfile.ZipFile(blob, "w") as archive:
            for name, values in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, values, allow_pickle=False)
        return blob.getvalue()

    def _saved(self) -> dict[str, NDArray[Any]]:
        return {**self._cells.saved(), **self._trim.saved()}

    def thaw(self, state: bytes) -> None:
        """Take on what `freeze` gave. Raises `Refused` for a state of another die or version."""
        head, arrays = _unpack(state, self.spec.serial)
        if head.get("version") != STATE_VERSION:
            raise Refused(
                f"the saved state has version {head.get('version')}, this emulator writes "
                f"{STATE_VERSION}; open it with the rramhil version that saved it"
            )
        if head["serial"] != self.spec.serial or head["identity"] != self._identity:
            raise Refused(
                f"the saved state is of {head['serial']} under another chip file or fault "
                f"setting, not of this {self.spec.serial}; use the address that it was made with"
            )
        with self._lock:
            self._check_open()
            self._cells.restore(arrays)
            self._trim.restore(arrays)
            self._products.forget()
            self._thermal.kelvin = float(head["kelvin"])
            self.clock.set(float(head["clock"]))
            self._noise.restore(head["generators"])
            self._cells.trap_key = hash_key(self._noise.telegraph)

    def _check_open(self) -> None:
        if self._closed:
            raise Refused(f"{self.spec.serial} is closed; open it again with its address")


def _many_readings(chip: ChipFile) -> dict[str, KnobLimits]:
    """The knob of a statistical chip that readings disturb; no real device has it."""
    if chip.statistical is None or chip.statistical.hops is None:
        return {}
    meaning = "readings of every cell in use, made at once (emulated chips only)"
    return {READINGS: KnobLimits(Range(1, 1e8, 1), 1, meaning)}


def _make_cells(chip: ChipFile, die: int, tiles: int, formed: bool) -> CellArray:
    if chip.cells is not None:
        return PulsedCells(chip, chip.cells, die, tiles, formed)
    assert chip.statistical is not None  # a chip file has one of the two
    return StatisticalCells(chip, chip.statistical, die, tiles)


def _unpack(state: bytes, serial: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    try:
        with np.load(io.BytesIO(state), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return json.loads(arrays.pop("head").tobytes()), arrays
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise Refused(
            f"this is no saved state of an emulated die ({error}); {serial} was left as it is"
        ) from None


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)
