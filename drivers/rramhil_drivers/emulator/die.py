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
    Clock,
    Device,
    Floats,
    Ints,
    Kind,
    MvmLimits,
    Pulse,
    PulseLimits,
    ReadLimits,
    Refused,
    Spec,
)
from rramhil_drivers.emulator.cells import CellArray
from rramhil_drivers.emulator.chipfile import ChipFile
from rramhil_drivers.emulator.converter import convert_product
from rramhil_drivers.emulator.noise import Noise
from rramhil_drivers.emulator.pulsed import PulsedCells
from rramhil_drivers.emulator.statistical import StatisticalCells

STATE_VERSION = 3  # also when the same die number comes to mean other cells


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
    """A call that comes in parts: what is left of it, and whether its first part has come."""

    def __init__(self) -> None:
        self.left = 0
        self.begun = False

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
        self.spec = make_spec(chip, serial or f"{chip.name}-{die}", count, home, newborn)
        self.clock: VirtualClock = VirtualClock()
        self._cells = _make_cells(chip, die, count, formed)
        self._noise = Noise.seeded(seed, die)
        self._call = _Call()
        self._settings = chip.settings()
        self._seen: NDArray[np.float32] = np.empty(0, np.float32)
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
            limits = self.spec.reading
            size = self._call.size_of_part(flat.size)
            self.clock.sleep(limits.seconds * -(-size // limits.cells_at_once))
            now = self.clock.now()
            seen = self._cells.look(flat, now, self._noise)
            self._cells.disturb(flat, limits.volts, np.array([[limits.seconds]]), now, self._noise)
            return quantise(seen, limits)

    def apply(self, pulse: Pulse) -> None:
        self.spec.check_pulse(pulse)
        with self._lock:
            self._check_open()
            if not pulse.cells.size:
                return
            self._cells.wake(pulse.cells)
            settings = self._settings[pulse.kind]
            groups = -(-self._call.size_of_part(pulse.cells.size) // settings.cells_at_once)
            self.clock.sleep(groups * (pulse.seconds + settings.overhead_seconds))
            self._cells.count(pulse)
            self._cells.pulse(pulse, self.clock.now(), self._noise)

    def mvm(self, tile: int, inputs: ArrayLike) -> Ints:
        codes = self.spec.check_inputs(tile, inputs)
        converter = self.chip.converter
        with self._lock:
            self._check_open()
            cells = self.spec.cells(tile, *np.indices((self.spec.rows, self.spec.cols)))
            self._cells.wake(cells)
            groups = -(-self.spec.rows // converter.rows_at_once)
            begun = self._call.begun
            shots = self._call.size_of_part(len(codes)) * converter.input_bits * groups
            self.clock.sleep(shots * converter.seconds)
            if not begun:
                self._seen = self._cells.look(cells, self.clock.now(), self._noise)
            g = self._seen
            ones = np.bitwise_count(codes.astype(np.uint64)) * converter.seconds
            volts, now = self.spec.reading.volts, self.clock.now()
            self._cells.disturb(cells, volts, ones, now, self._noise)
        return convert_product(converter, codes, g.reshape(self.spec.rows, self.spec.cols))

    def close(self) -> None:
        self._closed = True

    # --------------------------------------------------------------- beyond the contract

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

    def freeze(self) -> bytes:
        """All that changes in the die's life: cells, clock, generator. A zip of .npy arrays."""
        with self._lock:
            self._check_open()
            head = {
                "version": STATE_VERSION,
                "serial": self.spec.serial,
                "identity": self._identity,
                "clock": self.clock.now(),
                "generators": self._noise.saved(),
            }
            text = json.dumps(head, default=_plain).encode()
            arrays = {"head": np.frombuffer(text, dtype=np.uint8), **self._cells.saved()}
        blob = io.BytesIO()
        with zipfile.ZipFile(blob, "w") as archive:
            for name, values in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, values, allow_pickle=False)
        return blob.getvalue()

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
            self.clock.set(float(head["clock"]))
            self._noise.restore(head["generators"])

    def _check_open(self) -> None:
        if self._closed:
            raise Refused(f"{self.spec.serial} is closed; open it again with its address")


def make_spec(chip: ChipFile, serial: str, tiles: int, home: str, newborn: bool) -> Spec:
    """The `Spec` that a chip file describes."""
    reading, converter = chip.reading, chip.converter
    return Spec(
        model=f"emulated {chip.name}",
        serial=serial,
        tiles=tiles,
        rows=chip.geometry.rows,
        cols=chip.geometry.cols,
        reading=ReadLimits(
            lowest=reading.lowest,
            highest=reading.highest,
            lsb=reading.lsb,
            volts=reading.volts,
            seconds=reading.seconds,
            gate_volts=reading.gate_volts,
            cells_at_once=reading.cells_at_once,
        ),
        pulses={
            kind: PulseLimits(
                volts=s.volts.as_range(),
                seconds=s.seconds.as_range(),
                gate_volts=s.gate_volts.as_range(),
                cells_at_once=s.cells_at_once,
            )
            for kind, s in chip.settings().items()
        },
        mvm=MvmLimits(
            input_bits=converter.input_bits,
            rows_at_once=converter.rows_at_once,
            converter_bits=converter.bits,
            amps_per_code=converter.siemens_per_code * reading.volts,
            seconds=converter.seconds,
        ),
        volatile=True,
        newborn=newborn,
        home=home,
    )


def quantise(siemens: NDArray[np.float32], limits: ReadLimits) -> Floats:
    """Readings as float32 multiples of the lsb; 0 below the range, inf above it."""
    codes = np.rint(siemens * np.float32(1 / limits.lsb))
    values = (codes.astype(np.float64) * limits.lsb).astype(np.float32)
    values[codes < round(limits.lowest / limits.lsb)] = 0.0
    values[codes > round(limits.highest / limits.lsb)] = np.inf
    return np.asarray(values, dtype=np.float32)


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
